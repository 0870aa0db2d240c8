# SPDX-License-Identifier: MIT
"""The real programs of bench/run: how each server starts, and what each load generator measures."""

import csv
import glob
import io
import json
import os
import re
import resource
import signal
import time

from harness import GNEZDO, Failure, Skip, find_program
from lib import free_port, listening, unix_listening

ROOT = os.geteuid() == 0
FIGURE = r"([0-9]+(?:\.[0-9]+)?)"


class Metric:
	"""`measure(server, seconds)` gives one number; `server` is what the program's start() returned."""

	def __init__(self, name, unit, goal, measure, higher_is_better=True):
		self.name, self.unit, self.goal, self.measure, self.higher_is_better = name, unit, goal, measure, higher_is_better


class Program:
	def __init__(self, name, start, metrics):
		self.name, self.start, self.metrics = name, start, metrics


class Server:
	"""A started server: where it is, and what has been learnt about its speed."""

	def __init__(self, arena, port=None):
		self.arena, self.port = arena, port
		self.rate = {}


def find(pattern, text, what):
	found = re.search(pattern, text, re.M)
	if not found:
		raise Failure("no %s in: %s" % (what, text[-300:]))
	return float(found.group(1))


# --- redis

def redis_start(arena):
	s = Server(arena, free_port())
	arena.serve(["redis-server", "--port", s.port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", arena.dir],
		listening(s.port))
	redis_load(s, "set", 50, 1, 1000)
	return s


def redis_load(s, command, clients, pipeline, requests):
	out = s.arena.client(["redis-benchmark", "-h", "127.0.0.1", "-p", s.port, "-t", command, "-d", 64, "-c", clients, "-P", pipeline,
		"-n", requests, "--csv"], 60)
	for row in csv.reader(io.StringIO(out)):
		if row and row[0].lower() == command:
			return float(row[1])
	raise Failure("no rate in: " + out[-300:])


def redis_get(clients, pipeline):
	def measure(s, seconds):
		# The load generator counts requests, not time: a short run tells how many fill the time.
		key = (clients, pipeline)
		if key not in s.rate:
			s.rate[key] = redis_load(s, "get", clients, pipeline, 10000 * pipeline)
		s.rate[key] = redis_load(s, "get", clients, pipeline, int(s.rate[key] * seconds) // clients * clients + clients)
		return s.rate[key]
	return measure


# --- nginx

NGINX = """
daemon off;
pid %(dir)s/nginx.pid;
error_log stderr crit;
worker_processes 1;
%(user)s
events { worker_connections 512; }
http {
	access_log off;
	sendfile on;
	keepalive_requests 1000000000;
	%(temporary)s
	server { listen 127.0.0.1:%(port)d; root %(dir)s/www; }
}
"""


def nginx_start(arena):
	s = Server(arena, free_port())
	kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
	os.mkdir(arena.path("www"))
	with open(arena.path("www/1k"), "wb") as f:
		f.write(b"g" * 1024)
	with open(arena.path("nginx.conf"), "w") as f:
		f.write(NGINX % {"dir": arena.dir, "port": s.port, "user": "user nobody nogroup;" if ROOT else "",
			"temporary": " ".join("%s_temp_path %s/tmp_%s;" % (kind, arena.dir, kind) for kind in kinds)})
	arena.serve(["nginx", "-e", "stderr", "-p", arena.dir, "-c", arena.path("nginx.conf")], listening(s.port), stop=signal.SIGQUIT)
	return s


def wrk(s, seconds):
	out = s.arena.client(["wrk", "-t", 1, "-c", 50, "-d", "%ds" % max(1, round(seconds)), "http://127.0.0.1:%d/1k" % s.port], seconds)
	complaint = re.search(r"Non-2xx.*|Socket errors.*", out)
	if complaint:
		raise Failure("wrk: " + complaint.group(0))
	return find(r"Requests/sec:\s*" + FIGURE, out, "rate")


# --- memcached

def memcached_start(arena):
	s = Server(arena, free_port())
	user = ["-u", "root"] if ROOT else []
	arena.serve(["memcached", *user, "-l", "127.0.0.1", "-p", s.port, "-U", 0, "-m", 64, "-t", 1], listening(s.port))
	return s


def memaslap(s, seconds):
	"""9 gets to 1 set, values of 1 KiB, 32 connections."""
	tool = "memaslap" if find_program("memaslap") else "memcaslap"  # Debian's name
	out = s.arena.client([tool, "-s", "127.0.0.1:%d" % s.port, "-T", 1, "-c", 32, "-t", "%ds" % max(1, round(seconds))], seconds)
	return find(r"^Run time: .* TPS: " + FIGURE, out, "rate")


# --- postgres

POSTGRES = (sorted(glob.glob("/usr/lib/postgresql/*/bin")) or [""])[-1]


def postgres_start(arena):
	s = Server(arena, free_port())
	s.user = "postgres" if ROOT else None
	if not os.access(POSTGRES + "/postgres", os.X_OK):
		raise Skip("not installed: postgresql")
	os.chmod(arena.dir, 0o777)  # its own user's files go there
	arena.client([POSTGRES + "/initdb", "-D", arena.path("data"), "-A", "trust", "-U", "tester", "--no-sync", "--locale=C"], 60, s.user,
		plain=True)
	s.socket = arena.path(".s.PGSQL.%d" % s.port)
	arena.serve([POSTGRES + "/postgres", "-D", arena.path("data"), "-p", s.port, "-h", "127.0.0.1", "-k", arena.dir, "-c", "fsync=off"],
		lambda: listening(s.port)() and unix_listening(s.socket)(), s.user, signal.SIGINT)
	pgbench(s, "127.0.0.1", "-i", "-q", "-s", "1")
	return s


def pgbench(s, host, *words, seconds=30):
	return s.arena.client([find_program("pgbench") or POSTGRES + "/pgbench", "-h", host, "-p", s.port, "-U", "tester", *words, "postgres"],
		seconds, s.user)


def pgbench_select(unix):
	def measure(s, seconds):
		out = pgbench(s, s.arena.dir if unix else "127.0.0.1", "-S", "-n", "-c", "4", "-j", "1", "-T", max(1, round(seconds)),
			seconds=seconds)
		return find(r"^tps = " + FIGURE, out, "rate")
	return measure


# --- iperf3, sockperf, Python's http.server

def iperf_start(arena):
	s = Server(arena, free_port())
	arena.serve(["iperf3", "-s", "-p", s.port, "-B", "127.0.0.1"], listening(s.port))
	return s


def iperf(s, seconds):
	report = json.loads(s.arena.client(["iperf3", "-c", "127.0.0.1", "-p", s.port, "-t", max(1, round(seconds)), "-J"], seconds))
	if "error" in report:
		raise Failure("iperf3: " + report["error"])
	return report["end"]["sum_received"]["bits_per_second"] / 8


def sockperf_start(arena):
	s = Server(arena, free_port())
	arena.serve(["sockperf", "server", "--tcp", "-i", "127.0.0.1", "-p", s.port], listening(s.port), stop=signal.SIGINT)
	return s


def sockperf(s, seconds):
	"""Half a round trip, as sockperf has it, in microseconds: the median."""
	# At most a million a second: more than that, and it runs out of sequence numbers.
	out = s.arena.client(["sockperf", "ping-pong", "--tcp", "-i", "127.0.0.1", "-p", s.port, "-t", max(1, round(seconds)), "--mps=1000000"], seconds)
	return find(r"percentile 50\.000 =\s*" + FIGURE, out, "median")


def http_start(arena):
	s = Server(arena, free_port())
	os.mkdir(arena.path("www"))
	with open(arena.path("www/1k"), "wb") as f:
		f.write(b"g" * 1024)
	arena.serve(["/usr/bin/python3", "-m", "http.server", "--bind", "127.0.0.1", "--directory", arena.path("www"), s.port],
		listening(s.port), stop=signal.SIGINT)
	return s


def curl(s, seconds):
	"""One connection per request: the server speaks HTTP/1.0."""
	count = s.rate.get("requests", 200)
	before = time.monotonic()
	out = s.arena.client(["curl", "-sSf", "http://127.0.0.1:%d/1k?[1-%d]" % (s.port, count)], seconds)
	took = time.monotonic() - before
	if len(out) != 1024 * count:
		raise Failure("curl got %d bytes of %d" % (len(out), 1024 * count))
	s.rate["requests"] = max(50, int(count / took * seconds))
	return count / took


# --- memory

def idle_start(arena):
	return Server(arena)


def idle_memory(s, _):
	count = min(10000, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 200)
	return find(r"per_connection=" + FIGURE, s.arena.client([GNEZDO, "measure", "idle", count], 60), "memory")


ALL = [
	Program("redis", redis_start, [
		Metric("redis get -c 1", "req/s", 5, redis_get(1, 1)),
		Metric("redis get -c 50", "req/s", 3, redis_get(50, 1)),
		Metric("redis get -c 50 -P 16", "req/s", 1.3, redis_get(50, 16)),
	]),
	Program("nginx", nginx_start, [Metric("nginx 1 KiB, wrk -c 50", "req/s", 1.5, wrk)]),
	Program("memcached", memcached_start, [Metric("memcached, memaslap -c 32", "req/s", 1, memaslap)]),
	Program("postgresql", postgres_start, [
		Metric("pgbench -S -c 4, TCP", "tps", 1, pgbench_select(False)),
		Metric("pgbench -S -c 4, AF_UNIX", "tps", 1, pgbench_select(True)),
	]),
	Program("iperf3", iperf_start, [Metric("iperf3", "B/s", 1, iperf)]),
	Program("sockperf", sockperf_start, [Metric("sockperf ping-pong tcp", "us", 1, sockperf, higher_is_better=False)]),
	Program("http", http_start, [Metric("http.server, curl", "req/s", 1, curl)]),
	Program("idle", idle_start, [Metric("memory per idle connection", "B", 1, idle_memory, higher_is_better=False)]),
]
