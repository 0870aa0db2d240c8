# SPDX-License-Identifier: MIT
"""memcached: libevent, several threads that hand sockets to each other; text, binary, UDP, a socket file."""

import hashlib
import os

from lib import PROGS, PYTHON, free_port, listening, test, udp_bound, unix_listening

USER = ("-u", "root") if os.geteuid() == 0 else ()


def start(bench, *extra, udp=False):
	port = free_port()
	ready = (lambda: listening(port)() and udp_bound(port)()) if udp else listening(port)
	proc = bench.serve(["memcached", *USER, "-l", "127.0.0.1", "-p", port, "-U", port if udp else 0, "-m", "64", "-I", "16m", *extra], ready)
	return proc, port


def stop(bench, proc):
	bench.equal(proc.stop(), 0, "exit status of memcached")


@test("what the text protocol stores comes back, also gets, cas, incr, delete and 10 MB", needs=("memcached",))
def text(bench):
	proc, port = start(bench)
	bench.equal(bench.output([PYTHON, PROGS + "/memcache_client.py", "tcp", port, "2000"]), "ok\n", "the client's verdict")
	stop(bench, proc)
	bench.expect_ring("python3", share=0.5)


@test("the same over a socket file", needs=("memcached",))
def text_unix(bench):
	path = bench.path("mc.sock")
	proc = bench.serve(["memcached", *USER, "-s", path, "-m", "64", "-I", "16m"], unix_listening(path))
	bench.equal(bench.output([PYTHON, PROGS + "/memcache_client.py", "unix", path, "2000"]), "ok\n", "the client's verdict")
	stop(bench, proc)
	bench.expect_ring("python3", share=0.5)


@test("requests over UDP are answered", needs=("memcached",))
def udp(bench):
	proc, port = start(bench, udp=True)
	bench.equal(bench.output([PYTHON, PROGS + "/memcache_client.py", "udp", port, "500"]), "ok\n", "the client's verdict")
	stop(bench, proc)  # it asks for the address that each request was sent to, which the kernel alone tells


@test("it passes memccapable, the conformance test of libmemcached", needs=("memcached", "memccapable"), variants=("auto", "ring"))
def capable(bench):
	proc, port = start(bench)
	# Text only: the binary half knows commands that this server no longer answers as it wishes, on the kernel too.
	said = bench.output(["memccapable", "-h", "127.0.0.1", "-p", port, "-a"], status=None)
	bench.check("All tests passed" in said, said[-600:])
	stop(bench, proc)


@test("files copied in with memccp come out with memccat", needs=("memcached", "memccp", "memccat"))
def copy(bench):
	proc, port = start(bench)
	where = "--servers=127.0.0.1:%d" % port
	for name, size in (("one", 1), ("page", 4096), ("most", 900000)):
		content = os.urandom(size)
		with open(bench.path(name), "wb") as f:
			f.write(content)
		bench.run(["memccp", where, bench.path(name)])
		target = bench.path(name + ".back")
		bench.run(["memccat", where, "--file=" + target, name])
		with open(target, "rb") as f:
			bench.equal(hashlib.sha256(f.read()).hexdigest(), hashlib.sha256(content).hexdigest(), "checksum of " + name)
	stop(bench, proc)


@test("memcslap's threads load and read it", needs=("memcached", "memcslap"))
def load(bench):
	proc, port = start(bench, "-t", "2")
	where = "--servers=127.0.0.1:%d" % port
	for kind in ("set", "get", "mget"):
		said = bench.output(["memcslap", where, "--concurrency=8", "--execute-number=500", "--initial-load=500", "--test=" + kind])
		bench.check("Took" in said or "Time" in said, said)
	stop(bench, proc)
	bench.expect_ring("memcached", share=0.5)


@test("the binary protocol stores, loads and counts", needs=("memcached", "memccp", "memccat", "memcslap", "memcstat"))
def binary(bench):
	proc, port = start(bench, "-B", "binary")
	where = ["--servers=127.0.0.1:%d" % port, "--binary"]
	content = os.urandom(900000)
	with open(bench.path("page"), "wb") as f:
		f.write(content)
	bench.run(["memccp", *where, bench.path("page")])
	bench.run(["memccat", *where, "--file=" + bench.path("back"), "page"])
	with open(bench.path("back"), "rb") as f:
		bench.equal(hashlib.sha256(f.read()).hexdigest(), hashlib.sha256(content).hexdigest(), "checksum of the page")
	for kind in ("set", "get"):
		bench.run(["memcslap", *where, "--concurrency=4", "--execute-number=500", "--initial-load=500", "--test=" + kind])
	stop(bench, proc)
	bench.expect_ring("memcached", share=0.5)
