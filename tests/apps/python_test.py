# SPDX-License-Identifier: MIT
"""Python's servers and clients: http.server with curl, asyncio, socketserver, multiprocessing."""

import hashlib
import os
import signal

from lib import PROGS, PYTHON, VARIANTS, free_port, listening, test, udp_bound, unix_listening

ALL = tuple(v for v in VARIANTS if v != "kernel")


def program(name):
	return [PYTHON, os.path.join(PROGS, name)]


def place(bench, kind):
	"""An address for the server's command line, and the test whether it listens there."""
	if kind == "unix":
		path = bench.path("server.sock")
		return path, unix_listening(path)
	port = free_port()
	return str(port), listening(port)


def make_file(bench, name, size):
	content = os.urandom(size)
	with open(bench.path(name), "wb") as f:
		f.write(content)
	return hashlib.sha256(content).hexdigest()


@test("http.server gives files to curl", needs=(PYTHON, "curl"), variants=ALL)
def http_server(bench):
	port = free_port()
	os.mkdir(bench.path("www"))
	digests = {name: make_file(bench, "www/" + name, size) for name, size in (("small", 1024), ("big", 10 << 20))}
	proc = bench.serve([PYTHON, "-m", "http.server", "-b", "127.0.0.1", "-d", bench.path("www"), port], listening(port),
		stop_signal=signal.SIGINT)
	for name, digest in digests.items():
		for _ in range(3):
			got = bench.run(["curl", "-sSf", "http://127.0.0.1:%d/%s" % (port, name)]).out()
			bench.equal(hashlib.sha256(got).hexdigest(), digest, "checksum of " + name)
	proc.stop()
	if bench.client_lane == "ring": # by itself a new process looks for io_uring first: the 10 MB may be there before it is on the ring
		bench.expect_ring("curl", share=0, least=1 << 20)


@test("curl uploads and downloads on one connection, over IPv4 and IPv6", needs=(PYTHON, "curl"))
def upload(bench):
	os.mkdir(bench.path("www"))
	digest = make_file(bench, "www/file", 50000000)
	for host in ("127.0.0.1", "::1"):
		port = free_port()
		proc = bench.serve([*program("upload_server.py"), host, port, bench.path("www")], listening(port))
		url = "http://%s:%d/file" % ("[::1]" if ":" in host else host, port)
		said = bench.output(["curl", "-gsSf", "-T", bench.path("www/file"), url, "--next", "-gsSf", "-T", bench.path("www/file"), url])
		bench.equal(said, digest * 2, "checksums of two uploads")
		got = bench.run(["curl", "-gsSf", url, url]).out()
		bench.equal(hashlib.sha256(got[:50000000]).hexdigest(), digest, "checksum of the download")
		bench.equal(len(got), 100000000, "bytes of two downloads")
		bench.equal(proc.stop(), 0, "exit status of the server")
	bench.expect_ring("curl", share=0.5)


def echo(bench, server, client, kind):
	where, ready = place(bench, kind)
	proc = bench.serve([*program(server[0]), *server[1:], kind, where], ready)
	bench.equal(bench.output([*program(client[0]), *client[1:], kind, where]), "ok\n", "the clients' verdict")
	bench.equal(proc.stop(), 0, "exit status of the server")


for _kind in ("tcp", "unix"):
	@test("asyncio streams: 30 clients are echoed over " + _kind, needs=(PYTHON,))
	def asyncio_streams(bench, kind=_kind):
		echo(bench, ("asyncio_echo.py", "serve"), ("asyncio_echo.py", "talk"), kind)
		bench.expect_ring("python3", share=0.5)

	for _how in ("thread", "fork"):
		@test("socketserver with a %s per client answers ten clients over %s" % (_how, _kind), needs=(PYTHON,))
		def socketserver(bench, kind=_kind, how=_how):
			echo(bench, ("socketserver_upper.py", how), ("line_clients.py",), kind)
			bench.expect_ring("python3", share=0.5)


@test("asyncio datagrams are echoed", needs=(PYTHON,))
def asyncio_datagrams(bench):
	port = free_port()
	proc = bench.serve([*program("asyncio_datagrams.py"), "serve", port], udp_bound(port))
	bench.equal(bench.output([*program("asyncio_datagrams.py"), "talk", port]), "ok\n", "the client's verdict")
	bench.equal(proc.stop(), 0, "exit status of the server")
	bench.expect_ring("python3", share=0.2)


for _which, _what in (("connections", "connections over TCP and AF_UNIX carry objects between processes"),
		("duplex", "a duplex pipe works across fork"), ("manager", "a manager serves three processes"),
		("pool", "pools made by fork, spawn and forkserver answer"), ("passing", "a connection passed to another process works there")):
	@test("multiprocessing: " + _what, needs=(PYTHON,), variants=("auto", "ring", "lane-kernel"))
	def processes(bench, which=_which):
		bench.equal(bench.output([*program("processes.py"), which, bench.dir]), "ok\n", "verdict")


for _words, _what in ((("half_close.py", "tcp"), "clients that half-close early get the whole echo over TCP"),
		(("half_close.py", "unix"), "clients that half-close early get the whole echo over AF_UNIX"),
		(("edge_writer.py",), "an edge-triggered writer is told of room")):
	@test(_what, needs=(PYTHON,), variants=("auto", "ring", "lane-kernel"))
	def one_program(bench, words=_words):
		bench.equal(bench.output([*program(words[0]), *words[1:]]), "ok\n", "verdict")
