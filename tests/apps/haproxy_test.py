# SPDX-License-Identifier: MIT
"""haproxy: a proxy between two sides, in TCP and HTTP mode, and its reload, where the old process passes its listeners to the new one."""

import hashlib
import os
import signal

from lib import PYTHON, PROGS, free_port, listening, test, until
from nginx_site import Nginx

NEEDS = ("haproxy", "nginx", "curl")

CONFIG = """
global
	stats socket %(dir)s/haproxy.sock mode 600 level admin expose-fd listeners
	maxconn 256
	nbthread %(threads)d
	hard-stop-after 8s
defaults
	timeout connect 5s
	timeout client 20s
	timeout server 20s
	# Debian's 2.6.12 may crash at its end over connections to servers that idle then (haproxy's issue 2114).
	default-server pool-max-conn 0
frontend web
	mode http
	bind 127.0.0.1:%(http)d
	bind unix@%(dir)s/proxy.sock
	use_backend file if { path_beg /file/ }
	default_backend origin
backend origin
	mode http
	server one 127.0.0.1:%(port)d
backend file
	mode http
	http-request replace-path /file/(.*) /\\1
	server one unix@%(dir)s/front.sock
listen circuit
	mode tcp
	bind 127.0.0.1:%(tcp)d
	server one 127.0.0.1:%(port)d
"""


class Haproxy:
	def __init__(self, bench, nginx, threads=1):
		self.bench, self.nginx, self.http, self.tcp = bench, nginx, free_port(), free_port()
		with open(bench.path("haproxy.cfg"), "w") as f:
			f.write(CONFIG % {"dir": bench.dir, "http": self.http, "tcp": self.tcp, "port": nginx.port, "threads": threads})
		self.proc = self.start()

	def start(self, *extra):
		pidfile = self.bench.path("haproxy.pid")
		return self.bench.serve(["haproxy", "-db", "-f", self.bench.path("haproxy.cfg"), "-p", pidfile, *extra], self.ready)

	def ready(self):
		# Socket files are bound under a passing name and renamed: the kernel's list does not show the last one.
		return listening(self.http)() and listening(self.tcp)() and os.path.exists(self.bench.path("haproxy.sock"))

	def url(self, path, tcp=False):
		return "http://127.0.0.1:%d/%s" % (self.tcp if tcp else self.http, path)

	def ask(self, command):
		return self.bench.output([PYTHON, os.path.join(PROGS, "ask_unix.py"), self.bench.path("haproxy.sock"), command])

	def stop(self):
		self.bench.check(self.proc.stop(signal.SIGUSR1) in (0, 130, 143), "exit status of haproxy: %d" % self.proc.popen.returncode)


@test("files pass through it from nginx, over TCP and socket files, in both modes", needs=NEEDS)
def through(bench):
	nginx = Nginx(bench)
	proxy = Haproxy(bench, nginx)
	for name in nginx.files:
		nginx.fetch(name, url=proxy.url(name))
		nginx.fetch(name, url=proxy.url("file/" + name))
		nginx.fetch(name, url=proxy.url(name, tcp=True))
		nginx.fetch(name, "--unix-socket", bench.path("proxy.sock"), url="http://localhost/" + name)
	said = proxy.ask("show info")
	bench.check("Name: HAProxy" in said and "CumReq:" in said, "its socket answers: " + said[:200])
	proxy.stop()
	nginx.stop(signal.SIGQUIT)
	for name in ("curl", "haproxy", "nginx") if bench.both else ("curl",):  # the servers talk to each other, whatever the client is
		bench.expect_ring(name, share=0, least=1 << 20)


@test("wrk through it, with two threads, meets no error", needs=NEEDS + ("wrk",))
def load(bench):
	nginx = Nginx(bench)
	proxy = Haproxy(bench, nginx, threads=2)
	for tcp in (False, True):
		said = bench.output(["wrk", "-t", "2", "-c", "20", "-d", "1s", proxy.url("small", tcp)])
		bench.check("Socket errors" not in said and "Non-2xx" not in said and "requests in" in said, said)
	proxy.stop()
	nginx.stop(signal.SIGQUIT)
	for name in ("wrk", "haproxy") if bench.both else ("wrk",):
		bench.expect_ring(name, share=0.3)  # a loaded machine gets no further in a second


@test("a reload hands its listeners over and loses no request", needs=NEEDS)
def handover(bench):
	nginx = Nginx(bench)
	proxy = Haproxy(bench, nginx)
	slow = bench.path("slow")
	download = bench.spawn(["curl", "-gsSf", "--limit-rate", "5M", "-o", slow, proxy.url("big")])
	until(lambda: os.path.exists(slow) and os.path.getsize(slow) > 100000, 10, "the slow download to be on its way")
	for _ in range(2):
		old = proxy.proc
		proxy.proc = proxy.start("-x", bench.path("haproxy.sock"), "-sf", old.pid)
		for name in ("small", "odd", "small", "big", "small"):
			nginx.fetch(name, url=proxy.url(name))
		until(lambda: "Pid: %d\n" % proxy.proc.pid in proxy.ask("show info"), 10, "the new process at its socket")
	bench.equal(download.wait(), 0, "exit status of the slow download")
	with open(slow, "rb") as f:
		bench.equal(hashlib.sha256(f.read()).hexdigest(), nginx.files["big"], "checksum of the slow download")
	until(lambda: sum(p.alive() for p in bench.procs if p.name == "haproxy") == 1, 15, "the old processes to go")
	nginx.fetch("odd", url=proxy.url("odd"))
	proxy.stop()
	nginx.stop(signal.SIGQUIT)
