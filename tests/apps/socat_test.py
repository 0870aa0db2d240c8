# SPDX-License-Identifier: MIT
"""socat: a process per client, select, half-close, programs behind sockets."""

import os

from lib import free_port, listening, test, udp_bound, unix_listening, until

NEEDS = ("socat",)


def echo(bench, server, client, ready, size=50000, clients=3):
	"""`client` talks to an echoing `server`: what it sent comes back, its half-close ends the conversation.

	Not more than fits a pipe: an echoing socat writes to and reads from the same one, and may block itself.
	"""
	proc = bench.serve(["socat", "-t", "20", *server], ready)
	for i in range(clients):
		sent = os.urandom(size)
		back = bench.run(["socat", "-t", "20", "-", *client], data=sent).out()
		bench.check(back == sent, "client %d sent %d bytes and got %d, equal or not" % (i, len(sent), len(back)))
	proc.stop()


@test("a child per TCP client echoes, half-close ends it", needs=NEEDS)
def tcp(bench):
	port = free_port()
	echo(bench, ["TCP4-LISTEN:%d,bind=127.0.0.1,reuseaddr,fork" % port, "PIPE"], ["TCP4:127.0.0.1:%d" % port], listening(port))


@test("the same over IPv6", needs=NEEDS)
def tcp6(bench):
	port = free_port()
	echo(bench, ["TCP6-LISTEN:%d,bind=[::1],reuseaddr,fork" % port, "PIPE"], ["TCP6:[::1]:%d" % port], listening(port))


@test("the same over an AF_UNIX path and an abstract name", needs=NEEDS)
def unix(bench):
	path = bench.path("echo.sock")
	echo(bench, ["UNIX-LISTEN:%s,fork" % path, "PIPE"], ["UNIX-CONNECT:" + path], unix_listening(path))
	name = "gnezdo-apps-%d" % os.getpid() + os.path.basename(bench.dir)
	echo(bench, ["ABSTRACT-LISTEN:%s,fork" % name, "PIPE"], ["ABSTRACT-CONNECT:" + name], unix_listening("@" + name))


@test("a program behind the socket has it as its standard input and output", needs=NEEDS + ("cat",))
def program(bench):
	port = free_port()
	# nofork: the program itself holds the socket as descriptors 0 and 1, socat is gone.
	proc = bench.serve(["socat", "TCP4-LISTEN:%d,bind=127.0.0.1" % port, "EXEC:cat,nofork"], listening(port))
	sent = os.urandom(1 << 20)
	bench.check(bench.run(["socat", "-t", "20", "-", "TCP4:127.0.0.1:%d" % port], data=sent).out() == sent, "echo by cat on the socket itself")
	bench.equal(proc.wait(10), 0, "exit status of cat")
	port = free_port()
	echo(bench, ["TCP4-LISTEN:%d,bind=127.0.0.1,reuseaddr,fork" % port, "EXEC:cat"], ["TCP4:127.0.0.1:%d" % port], listening(port), size=2 << 20)


@test("a file goes one way into the server and another comes out", needs=NEEDS)
def one_way(bench):
	path, target, sent = bench.path("one-way.sock"), bench.path("received"), os.urandom(9 << 20)
	for port in (free_port(), None):
		listen, connect = ("TCP4-LISTEN:%d,bind=127.0.0.1" % port, "TCP4:127.0.0.1:%d" % port) if port else ("UNIX-LISTEN:" + path, "UNIX:" + path)
		ready = listening(port) if port else unix_listening(path)
		proc = bench.serve(["socat", "-u", listen, "CREATE:" + target], ready)
		bench.run(["socat", "-u", "-", connect], data=sent)
		bench.equal(proc.wait(10), 0, "exit status of the receiving server")
		with open(target, "rb") as f:
			bench.check(f.read() == sent, "other bytes in the server's file than were sent to " + listen)
		if port:
			port = free_port()
			listen, connect = "TCP4-LISTEN:%d,bind=127.0.0.1" % port, "TCP4:127.0.0.1:%d" % port
			ready = listening(port)
		proc = bench.serve(["socat", "-u", "OPEN:" + target, listen], ready)
		bench.check(bench.run(["socat", "-u", connect, "-"]).out() == sent, "other bytes from the server's file over " + listen)
		bench.equal(proc.wait(10), 0, "exit status of the sending server")


@test("a relay from TCP to a socket file to TCP passes everything on", needs=NEEDS)
def relay(bench):
	port, middle = free_port(), free_port()
	path = bench.path("relay.sock")
	# The relays are clients, too, so each has the lane of the servers; a mixed variant has gnezdo in the middle only.
	bench.serve(["socat", "-t", "20", "UNIX-LISTEN:%s,fork" % path, "PIPE"], unix_listening(path))
	bench.serve(["socat", "-t", "20", "TCP4-LISTEN:%d,bind=127.0.0.1,reuseaddr,fork" % middle, "UNIX-CONNECT:" + path], listening(middle))
	echo(bench, ["TCP4-LISTEN:%d,bind=127.0.0.1,reuseaddr,fork" % port, "TCP4:127.0.0.1:%d" % middle], ["TCP4:127.0.0.1:%d" % port], listening(port))


@test("datagrams over UDP and AF_UNIX come back to their sender", needs=NEEDS)
def datagrams(bench):
	port = free_port()
	proc = bench.serve(["socat", "UDP4-RECVFROM:%d,bind=127.0.0.1,fork" % port, "PIPE"], udp_bound(port))
	for size in (1, 1400, 8000):
		sent = os.urandom(size)
		back = bench.run(["socat", "-b", "65536", "-T", "1", "-", "UDP4:127.0.0.1:%d,shut-none" % port], data=sent, status=None).out()
		bench.check(back == sent, "a datagram of %d bytes came back with %d" % (size, len(back)))
	proc.stop()


@test("a client whose server is killed gets what was sent before, and the end", needs=NEEDS)
def server_dies(bench):
	port = free_port()
	proc = bench.serve(["socat", "TCP4-LISTEN:%d,bind=127.0.0.1" % port, "PIPE"], listening(port))
	reader, writer = os.pipe()
	client = bench.spawn(["socat", "-t", "0.1", "-", "TCP4:127.0.0.1:%d" % port], stdin=reader)
	os.close(reader)
	os.write(writer, b"hello\n")
	until(lambda: client.out() == b"hello\n", 10, "the echo")
	proc.popen.kill()
	client.wait(10)
	os.close(writer)
	bench.equal(client.out(), b"hello\n", "what the client got")
