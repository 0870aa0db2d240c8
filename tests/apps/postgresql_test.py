# SPDX-License-Identifier: MIT
"""PostgreSQL: a process per client, forked from the one that listens; latches, SSL requests, cancel over a second connection."""

import atexit
import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile

from lib import COMMAND_DEADLINE, Skip, find_program, free_port, listening, test, unix_listening, until

BIN = (sorted(glob.glob("/usr/lib/postgresql/*/bin")) or ["/nonexistent"])[-1]
# The server refuses to run as root; its own user is made by the package.
USER = "postgres" if os.geteuid() == 0 else None
cluster = {}


def initdb():
	"""One empty cluster for all tests, made on first use by plain initdb; it goes away at exit."""
	if "data" in cluster:
		return cluster["data"]
	if not find_program(BIN + "/initdb"):
		raise Skip("not installed: postgresql")
	home = tempfile.mkdtemp(prefix="gnezdo-pg-")
	atexit.register(shutil.rmtree, home, True)
	prefix = []
	if USER:
		entry = pwd.getpwnam(USER)
		os.chown(home, entry.pw_uid, entry.pw_gid)
		prefix = ["setpriv", "--reuid", USER, "--regid", USER, "--init-groups", "--"]
	subprocess.run([*prefix, BIN + "/initdb", "-D", home + "/data", "-A", "trust", "-U", "tester", "--no-sync", "--locale=C", "-E", "UTF8"],
		check=True, timeout=COMMAND_DEADLINE * 3, stdout=subprocess.DEVNULL, cwd="/")
	cluster["data"] = home + "/data"
	return cluster["data"]


class Postgres:
	def __init__(self, bench, *extra):
		self.bench, self.port, data = bench, free_port(), initdb()
		os.chmod(bench.dir, 0o777)
		self.socket = bench.path(".s.PGSQL.%d" % self.port)
		self.proc = bench.serve([BIN + "/postgres", "-D", data, "-p", self.port, "-h", "127.0.0.1,::1", "-k", bench.dir, "-c", "fsync=off",
			"-c", "full_page_writes=off", "-c", "shared_buffers=32MB", "-c", "max_connections=40", *extra], self._ready,
			user=USER, stop_signal=signal.SIGINT, cwd="/")

	def _ready(self):
		return unix_listening(self.socket)() and listening(self.port)() and "ready to accept connections" in self.bench.procs[-1].err()

	def reach(self, way):
		return ["-h", self.bench.dir if way == "unix" else way, "-p", self.port, "-U", "tester"]

	def sql(self, way, text, **kw):
		return self.bench.output(["psql", *self.reach(way), "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", "postgres", "-c", text], **kw).strip()

	def stop(self):
		self.bench.equal(self.proc.stop(), 0, "exit status of postgres")


NEEDS = ("psql", "pgbench", "setpriv")
WAYS = ("127.0.0.1", "::1", "unix")


@test("queries are answered over IPv4, IPv6 and the socket file", needs=NEEDS)
def queries(bench):
	server = Postgres(bench)
	for way in WAYS:
		bench.equal(server.sql(way, "SELECT sum(i) FROM generate_series(1, 1000) i"), "500500", "a sum over " + way)
		bench.equal(len(server.sql(way, "SELECT repeat('x', 10000000)")), 10000000, "10 MB in one row over " + way)
		server.sql(way, "SELECT 1/0", status=1)
	bench.equal(server.sql("127.0.0.1", "SELECT host(inet_client_addr())"), "127.0.0.1", "the client's address as the server sees it")
	server.stop()


@test("pgbench fills and reads its tables over TCP and the socket file", needs=NEEDS)
def bench_select(bench):
	server = Postgres(bench)
	for way in ("127.0.0.1", "unix"):
		bench.run(["pgbench", *server.reach(way), "-i", "-q", "-s", "1", "postgres"])
		said = bench.output(["pgbench", *server.reach(way), "-n", "-S", "-c", "4", "-j", "2", "-t", "1000", "postgres"])
		bench.check("4000/4000" in said and "number of failed transactions: 0" in said, said)
	server.stop()
	bench.expect_ring("pgbench", share=0.5)
	bench.expect_ring("postgres", share=0.5)


@test("pgbench's transactions leave the books balanced", needs=NEEDS)
def bench_write(bench):
	server = Postgres(bench)
	bench.run(["pgbench", *server.reach("unix"), "-i", "-q", "-s", "1", "postgres"])
	for mode in ("simple", "prepared"):
		said = bench.output(["pgbench", *server.reach("127.0.0.1"), "-n", "-M", mode, "-c", "4", "-t", "100", "postgres"])
		bench.check("400/400" in said and "number of failed transactions: 0" in said, said)
	bench.equal(server.sql("unix", "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history)"), "t",
		"accounts against history")
	bench.equal(server.sql("unix", "SELECT count(*) FROM pgbench_history"), "800", "rows of history")
	server.stop()


@test("COPY carries 100,000 rows in and out", needs=NEEDS)
def copy(bench):
	server = Postgres(bench)
	rows = "".join("%d\trow number %d\n" % (i, i * 7) for i in range(100000)).encode()
	for way in ("127.0.0.1", "unix"):
		server.sql(way, "DROP TABLE IF EXISTS rows; CREATE TABLE rows (id int, text text)")
		server.sql(way, "COPY rows FROM STDIN", data=rows)
		bench.equal(server.sql(way, "SELECT count(*), sum(id) FROM rows"), "100000|4999950000", "rows over " + way)
		back = bench.run(["psql", *server.reach(way), "-XAtq", "-d", "postgres", "-c", "COPY (SELECT * FROM rows ORDER BY id) TO STDOUT"]).out()
		bench.check(back == rows, "COPY TO over %s gives other rows than COPY FROM took" % way)
	server.sql("unix", "DROP TABLE rows")
	server.stop()


@test("a running query is cancelled by SIGINT at psql", needs=NEEDS)
def cancel(bench):
	server = Postgres(bench)
	for way in ("127.0.0.1", "unix"):
		sleeper = bench.spawn(["psql", *server.reach(way), "-XAtq", "-d", "postgres", "-c", "SELECT pg_sleep(60)"], stop_signal=signal.SIGINT)
		until(lambda: server.sql(way, "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'") == "1",
			10, "the query to run")
		sleeper.popen.send_signal(signal.SIGINT)
		bench.equal(sleeper.wait(10), 1, "exit status of psql")
		bench.check("canceling statement due to user request" in sleeper.err(), "psql said: " + sleeper.err())
	server.stop()


@test("LISTEN hears NOTIFY from another session", needs=NEEDS)
def notify(bench):
	server = Postgres(bench)
	reader, writer = os.pipe()
	listener = bench.spawn(["psql", *server.reach("127.0.0.1"), "-XAtq", "-d", "postgres"], stdin=reader)
	os.close(reader)
	os.write(writer, b"LISTEN news; SELECT 'listening';\n")
	until(lambda: b"listening" in listener.out(), 10, "the listener")
	server.sql("unix", "NOTIFY news, 'egg'")
	os.write(writer, b"SELECT 'asked';\n")
	until(lambda: b"asked" in listener.out(), 10, "an answer to the listener")
	os.close(writer)
	bench.equal(listener.wait(10), 0, "exit status of the listener")
	bench.check(b'with payload "egg"' in listener.out(), "the listener printed %r" % listener.out())
	server.stop()


@test("a backend killed with SIGKILL resets its clients, and the server recovers", needs=NEEDS, variants=("auto", "ring"))
def killed(bench):
	server = Postgres(bench)
	sleeper = bench.spawn(["psql", *server.reach("127.0.0.1"), "-XAtq", "-d", "postgres", "-c", "SELECT pg_sleep(60)"])
	find = "SELECT pid FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'"
	pid = int(until(lambda: server.sql("unix", find), 10, "the query to run"))
	os.kill(pid, signal.SIGKILL)
	bench.equal(sleeper.wait(10), 2, "exit status of psql whose server is gone")
	until(lambda: server.proc.err().count("ready to accept connections") == 2, 20, "recovery")
	bench.equal(server.sql("127.0.0.1", "SELECT 1"), "1", "a query after recovery")
	server.stop()


@test("clients of another user than the server's are served", needs=NEEDS, variants=("auto", "ring", "server-only", "client-only"))
def other_user(bench):
	if not USER:
		raise Skip("needs root")
	server = Postgres(bench)
	for way in WAYS:
		for user in ("nobody", "postgres", None):
			command = ["psql", *server.reach(way), "-XAtq", "-d", "postgres", "-c", "SELECT count(*) FROM pg_class, generate_series(1, 3)"]
			done = bench.run(command, user=user, cwd="/")
			bench.check(int(done.out()) > 300, "an answer over %s as %s: %r" % (way, user, done.out()))
	server.stop()


@test("a standby made by pg_basebackup follows its primary", needs=NEEDS + ("pg_basebackup",))
def replication(bench):
	primary = Postgres(bench, "-c", "wal_level=replica", "-c", "max_wal_senders=4", "-c", "hot_standby=on", "-c", "wal_keep_size=64MB")
	primary.sql("unix", "DROP TABLE IF EXISTS nest; CREATE TABLE nest AS SELECT i, repeat('egg', 20) AS t FROM generate_series(1, 20000) i")
	home = bench.path("standby")
	bench.run([BIN + "/pg_basebackup", *primary.reach("127.0.0.1"), "-D", home, "-X", "stream", "-R", "--no-sync", "-c", "fast"], user=USER, cwd="/")
	second = free_port()
	path = bench.path(".s.PGSQL.%d" % second)
	standby = bench.serve([BIN + "/postgres", "-D", home, "-p", second, "-h", "127.0.0.1", "-k", bench.dir, "-c", "fsync=off", "-c", "shared_buffers=32MB"],
		lambda: unix_listening(path)() and "ready to accept read-only" in bench.procs[-1].err(), user=USER, stop_signal=signal.SIGINT, cwd="/")

	def count(port):
		return bench.output(["psql", "-h", bench.dir, "-p", port, "-U", "tester", "-XAtq", "-d", "postgres", "-c", "SELECT count(*), sum(i) FROM nest"])
	bench.equal(count(second), "20000|200010000\n", "rows at the standby")
	primary.sql("127.0.0.1", "INSERT INTO nest SELECT i, 'late' FROM generate_series(20001, 60000) i")
	until(lambda: count(second) == count(primary.port), 20, "later rows at the standby")
	bench.equal(primary.sql("unix", "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"), "1", "standbys that stream")
	many = "".join("INSERT INTO nest VALUES (%d, 'one by one');\n" % i for i in range(60001, 60301))
	bench.run(["psql", *primary.reach("127.0.0.1"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", "postgres"], data=many.encode())
	until(lambda: count(second) == count(primary.port), 20, "each of them at the standby")
	receiver = int(bench.output(["psql", "-h", bench.dir, "-p", second, "-U", "tester", "-XAtq", "-d", "postgres", "-c", "SELECT pid FROM pg_stat_wal_receiver"]))
	standby.stop()
	primary.sql("unix", "DROP TABLE nest")
	primary.stop()
	if bench.both:  # the link joins two servers, whatever the clients are
		bench.expect_ring("postgres", share=0, least=10000, pids={receiver})
