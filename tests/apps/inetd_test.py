# SPDX-License-Identifier: MIT
"""Programs that know nothing of sockets, behind one: inetd, tcpserver, socat and systemd start them with the connection as descriptors 0 and 1,
or as descriptor 3, or with the listener (LISTEN_FDS)."""

import os
import pwd

from lib import BUILD, PROGS, PYTHON, free_port, listening, test, unix_listening

# What stdio is made of, and the program that returns its lines.
PROGRAMS = {
	"cat": ("/bin/cat",),
	"a shell script": ("/bin/sh", PROGS + "/stdio.sh"),
	"Perl": ("/usr/bin/perl", PROGS + "/stdio.pl"),
	"Python": (PYTHON, PROGS + "/stdio.py"),
	"a static program": (os.path.join(BUILD, "tests/apps/progs/stdio_static"),),
}


def converse(bench, kind, where, what):
	bench.equal(bench.output([PYTHON, PROGS + "/stdio_client.py", kind, where]), "ok\n", "the client of " + what)


def each_program(bench, server):
	"""server(port, command): the argument vector of a server that starts `command` for each caller of `port`."""
	for name, command in PROGRAMS.items():
		port = free_port()
		proc = bench.serve(server(port, command), listening(port))
		converse(bench, "tcp", port, name)
		proc.stop()


@test("inetd's callers talk to cat, a shell, Perl, Python and a static program", needs=("inetd",))
def inetd(bench):
	ports = {name: free_port() for name in PROGRAMS}
	user = pwd.getpwuid(os.geteuid()).pw_name
	with open(bench.path("inetd.conf"), "w") as f:
		for name, command in PROGRAMS.items():
			f.write("127.0.0.1:%d stream tcp nowait %s %s %s\n" % (ports[name], user, command[0], " ".join((os.path.basename(command[0]), *command[1:]))))
	# -E: the programs keep the preload. Without it they have not even a PATH.
	for words in (["-E"], []):
		proc = bench.serve(["inetd", "-i", *words, bench.path("inetd.conf")], lambda: all(listening(port)() for port in ports.values()))
		for name, port in ports.items():
			converse(bench, "tcp", port, name)
		proc.stop()


@test("tcpserver's callers talk to cat, a shell, Perl, Python and a static program", needs=("tcpserver",))
def tcpserver(bench):
	each_program(bench, lambda port, command: ["tcpserver", "-H", "-R", "-l0", "127.0.0.1", port, *command])


@test("socat puts the socket itself under cat, a shell, Perl, Python and a static program", needs=("socat",))
def socat(bench):
	each_program(bench, lambda port, command: ["socat", "TCP4-LISTEN:%d,bind=127.0.0.1,reuseaddr,fork" % port, "EXEC:%s,nofork" % " ".join(command)])
	path = bench.path("echo.sock")
	proc = bench.serve(["socat", "UNIX-LISTEN:%s,fork" % path, "EXEC:cat,nofork"], unix_listening(path))
	converse(bench, "unix", path, "cat")
	proc.stop()


def kept(lane):
	"""systemd-socket-activate clears the environment but for what it is told to keep: the preload, in the second round."""
	return [word for name in ("LD_PRELOAD", "GNEZDO_LANE", "GNEZDO_STATS") for word in ("-E", name)] if lane else []


@test("systemd-socket-activate's callers talk to programs on descriptors 0 and 1", needs=("systemd-socket-activate",), variants=("auto", "ring"))
def systemd_accept(bench):
	for keep in ([], kept(bench.server_lane)):
		each_program(bench, lambda port, command: ["systemd-socket-activate", "-l", "127.0.0.1:%d" % port, "--accept", "--inetd", *keep, *command])


@test("systemd-socket-activate hands its listener to a server", needs=("systemd-socket-activate",))
def systemd_listener(bench):
	for keep in ([], kept(bench.server_lane)):
		for how in ("accept", "epoll", "children"):
			port = free_port()
			proc = bench.serve(["systemd-socket-activate", "-l", "127.0.0.1:%d" % port, *keep, PYTHON, PROGS + "/activated.py", how], listening(port))
			converse(bench, "tcp", port, "a server by " + how)
			proc.stop()


def launch(bench, kind):
	for how in ("accept", "epoll", "children"):
		port, path = free_port(), bench.path(how + ".sock")
		proc = bench.serve([PYTHON, PROGS + "/activate.py", port, path, PYTHON, PROGS + "/activated.py", how],
			lambda: listening(port)() and unix_listening(path)())
		converse(bench, kind, port if kind == "tcp" else path, "a server by " + how)
		proc.stop()


@test("a program becomes a server of the listeners that it made (LISTEN_FDS), called by TCP")
def launched(bench):
	launch(bench, "tcp")


@test("the same, called by AF_UNIX: its connections are on the ring")
def launched_unix(bench):
	launch(bench, "unix")
	bench.expect_ring("python3", share=0.3)  # of three conversations one is long
