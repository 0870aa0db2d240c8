# SPDX-License-Identifier: MIT
"""redis: one thread, one epoll set, many clients; TCP in both families and a socket file."""

import hashlib
import os

from lib import Failure, VARIANTS, free_port, listening, test, unix_listening, until

NEEDS = ("redis-server", "redis-cli")
TRANSPORTS = ("127.0.0.1", "::1", "unix")


class Redis:
	"""A server of its own, without persistence, and the words that make a client reach it."""

	def __init__(self, bench, transport, *extra):
		self.port, self.socket = free_port(), bench.path("redis.sock")
		where = ["--port", self.port, "--bind", "127.0.0.1", "::1"]
		ready = listening(self.port)
		self.reach = ["-h", transport, "-p", self.port]
		if transport == "unix":
			where = ["--port", "0", "--unixsocket", self.socket]
			ready = unix_listening(self.socket)
			self.reach = ["-s", self.socket]
		self.bench = bench
		self.proc = bench.serve(["redis-server", *where, "--save", "", "--appendonly", "no", "--dir", bench.dir, *extra], ready)

	def cli(self, *words, **kw):
		return self.bench.output(["redis-cli", *self.reach, *words], **kw)

	def stop(self):
		self.bench.equal(self.proc.stop(), 0, "exit status of redis-server")


def over(transports, name, **kw):
	"""One test per transport, told apart in the name."""
	def register(function):
		for transport in transports:
			test("%s, over %s" % (name, transport), needs=NEEDS, **kw)(lambda bench, way=transport: function(bench, way))
		return function
	return register


@over(TRANSPORTS, "commands are answered and errors told")
def commands(bench, transport):
	redis = Redis(bench, transport)
	bench.equal(redis.cli("PING"), "PONG\n", "PING")
	bench.equal(redis.cli("SET", "nest", "egg"), "OK\n", "SET")
	bench.equal(redis.cli("GET", "nest"), "egg\n", "GET")
	bench.equal(redis.cli("-r", "100", "INCR", "eggs").split()[-1], "100", "a hundred INCR on one connection")
	bench.check(redis.cli("-e", "INCR", "nest", status=1) == "", "an error makes redis-cli -e exit with 1 and print nothing")
	bench.equal(redis.cli("MULTI", data=b"MULTI\nSET a 1\nINCR a\nEXEC\n").split(), ["OK"], "MULTI alone")
	answers = redis.cli(data=b"MULTI\nSET a 1\nINCR a\nEXEC\nGET a\n").split()
	bench.equal(answers, ["OK", "QUEUED", "QUEUED", "OK", "2", "2"], "a transaction")
	redis.stop()


@over(TRANSPORTS, "a value of 10 MB comes back as it went")
def large_value(bench, transport):
	redis = Redis(bench, transport)
	value = os.urandom(10 << 20)
	bench.equal(redis.cli("-x", "SET", "big", data=value), "OK\n", "SET of 10 MB")
	bench.equal(redis.cli("STRLEN", "big"), "%d\n" % len(value), "STRLEN")
	for _ in range(2):
		back = bench.run(["redis-cli", *redis.reach, "GET", "big"]).out()
		bench.equal(hashlib.sha256(back[:-1]).hexdigest(), hashlib.sha256(value).hexdigest(), "checksum of GET")
	redis.stop()


@over(("127.0.0.1", "unix"), "twenty thousand pipelined commands are all answered")
def pipeline(bench, transport):
	redis = Redis(bench, transport)
	commands = b"".join(b"SET key:%d value-%d\r\n" % (i, i * i) for i in range(20000))
	answer = redis.cli("--pipe", data=commands)
	bench.check("errors: 0, replies: 20000" in answer, "redis-cli --pipe: %s" % answer)
	bench.equal(redis.cli("DBSIZE"), "20000\n", "DBSIZE")
	bench.equal(redis.cli("GET", "key:12345"), "value-%d\n" % 12345 ** 2, "a key of them")
	redis.stop()


@over(("127.0.0.1", "unix"), "a subscriber hears every message in order")
def subscriber(bench, transport):
	redis = Redis(bench, transport)
	listener = bench.spawn(["redis-cli", *redis.reach, "SUBSCRIBE", "news"])
	until(lambda: redis.cli("PUBSUB", "NUMSUB", "news").split() == ["news", "1"], 10, "the subscription")
	script = b"".join(b"PUBLISH news item-%d\n" % i for i in range(500))
	answers = redis.cli(data=script).split()
	bench.equal(answers, ["1"] * 500, "receivers per PUBLISH")
	until(lambda: listener.out().count(b"item-") == 500, 10, "500 messages at the subscriber")
	heard = [w for w in listener.out().decode().split() if w.startswith("item-")]
	bench.equal(heard, ["item-%d" % i for i in range(500)], "messages heard")
	redis.stop()
	listener.stop()


@over(("127.0.0.1",), "a blocked client is woken by another's push")
def blocked(bench, transport):
	redis = Redis(bench, transport)
	waiting = bench.spawn(["redis-cli", *redis.reach, "BLPOP", "queue", "30"])
	until(lambda: "blocked_clients:1" in redis.cli("INFO", "clients"), 10, "a blocked client")
	bench.equal(redis.cli("RPUSH", "queue", "work"), "1\n", "RPUSH")
	bench.equal(waiting.wait(), 0, "exit status of the woken client")
	bench.equal(waiting.out(), b"queue\nwork\n", "what the woken client got")
	redis.stop()


@over(("127.0.0.1",), "a client killed by the server and one killed by the system leave it serving")
def killed_clients(bench, transport):
	redis = Redis(bench, transport)
	first = bench.spawn(["redis-cli", *redis.reach, "BLPOP", "queue", "30"])
	until(lambda: "blocked_clients:1" in redis.cli("INFO", "clients"), 10, "a blocked client")
	bench.equal(redis.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"), "1\n", "CLIENT KILL")
	second = bench.spawn(["redis-cli", *redis.reach, "BLPOP", "other", "30"])
	until(lambda: "other" not in redis.cli("CLIENT", "LIST") and "cmd=blpop" in redis.cli("CLIENT", "LIST"), 10, "the second")
	second.popen.kill()
	second.wait()
	first.stop()
	until(lambda: redis.cli("CLIENT", "LIST").count("cmd=blpop") == 0, 10, "the server to notice that its clients are gone")
	bench.equal(redis.cli("PING"), "PONG\n", "PING afterwards")
	redis.stop()


def rates(text):
	"""name -> requests per second, from redis-benchmark --csv."""
	found = {}
	for line in text.splitlines()[1:]:
		fields = [f.strip('"') for f in line.split(",")]
		if len(fields) > 1:
			found[fields[0]] = float(fields[1])
	return found


def load(bench, transport, *how):
	redis = Redis(bench, transport)
	answer = bench.output(["redis-benchmark", *redis.reach, "--csv", "-t", "set,get,lrange_100", "-n", "10000", "-r", "1000", *how])
	bench.equal(sorted(r.split()[0] for r in rates(answer)), ["GET", "LPUSH", "LRANGE_100", "SET"], "tests run")
	bench.check(all(r > 0 for r in rates(answer).values()), "rates: %s" % answer)
	bench.check(int(redis.cli("DBSIZE")) > 900, "keys after the benchmark")
	redis.stop()
	bench.expect_ring("redis-server", share=0.8)
	bench.expect_ring("redis-benchmark", share=0.8)


LOADS = (("one client", ("-c", "1")), ("50 clients", ("-c", "50")), ("50 clients, 16 commands at a time", ("-c", "50", "-P", "16", "-n", "100000")),
	("50 clients in two threads", ("-c", "50", "--threads", "2")))

for _what, _how in LOADS:
	for _transport in ("127.0.0.1", "unix"):
		_all = tuple(v for v in VARIANTS if v != "kernel") if _what == "50 clients" else ("auto", "ring")
		test("redis-benchmark with %s over %s" % (_what, _transport), needs=NEEDS + ("redis-benchmark",),
			variants=_all)(lambda bench, t=_transport, h=_how: load(bench, t, *h))


@test("a server with I/O threads serves", needs=NEEDS + ("redis-benchmark",))
def io_threads(bench):
	redis = Redis(bench, "127.0.0.1", "--io-threads", "2", "--io-threads-do-reads", "yes")
	answer = bench.output(["redis-benchmark", *redis.reach, "--csv", "-t", "get,set", "-n", "20000", "-c", "50", "-d", "512"])
	bench.equal(sorted(rates(answer)), ["GET", "SET"], "tests run")
	redis.stop()
	bench.expect_ring("redis-server", share=0.8)


@test("a replica catches up and follows", needs=NEEDS)
def replica(bench):
	primary = Redis(bench, "127.0.0.1")
	primary.cli("--pipe", data=b"".join(b"SET key:%d %d\r\n" % (i, i) for i in range(5000)))
	second = Redis(bench, "127.0.0.1", "--replicaof", "127.0.0.1 %d" % primary.port, "--repl-diskless-sync-delay", "0")
	until(lambda: "master_link_status:up" in second.cli("INFO", "replication"), 20, "the replica to be in step")
	primary.cli("SET", "late", "comer")
	until(lambda: second.cli("GET", "late") == "comer\n", 10, "a later write at the replica")
	bench.equal(second.cli("DBSIZE"), "5001\n", "keys at the replica")
	bench.equal(primary.cli("-r", "1500", "INCR", "turns").split()[-1], "1500", "writes, one by one")
	until(lambda: second.cli("GET", "turns") == "1500\n", 10, "all of them at the replica")
	second.stop()
	primary.stop()
	if bench.both:  # the link joins two servers, whatever the clients are
		bench.expect_ring("redis-server", share=0, least=10000, pids={second.proc.pid})


@test("a refused connection is told as on the kernel", needs=NEEDS, variants=("auto", "ring"))
def refused(bench):
	said = bench.run(["redis-cli", "-h", "127.0.0.1", "-p", free_port(), "PING"], status=1)
	if "Connection refused" not in said.err() + said.out().decode():
		raise Failure("redis-cli said %r %r" % (said.out(), said.err()))
