# SPDX-License-Identifier: MIT
"""Perl, Ruby, the JVM and Go: an echoing server and a client in each, every one against every other, over TCP and AF_UNIX.

A client does all at once what its language has: conversations of 1 B to 1 MB that end with a half-close, turns of one line, time-outs,
a socket closed under a reader, many short calls. Go makes its system calls without libc, so it stays with the kernel, and its
peers under gnezdo have to; linked statically it does not even load the library, and `gnezdo run` says so.
"""

import hashlib
import os
import shutil
import tempfile

from lib import BUILD, PROGS, free_port, listening, missing, run_tool, test, unix_listening

COMPILED = os.path.join(BUILD, "apps-compiled")


def compiled(name, command, env=None):
	"""The directory with what `command` made of a source file; made once for each version of it and each way to make it."""
	with open(os.path.join(PROGS, name), "rb") as f:
		key = hashlib.sha256(f.read() + repr((command, env)).encode()).hexdigest()[:16]
	place = os.path.join(COMPILED, key)
	if not os.path.isdir(place):
		os.makedirs(COMPILED, exist_ok=True)
		new = tempfile.mkdtemp(dir=COMPILED)
		run_tool([*command, new + "/", os.path.join(PROGS, name)], env={"GOCACHE": os.path.join(COMPILED, "go"), **(env or {})})
		try:
			os.rename(new, place)
		except OSError:  # another worker was quicker
			shutil.rmtree(new)
	return place


def perl():
	return ["perl", os.path.join(PROGS, "echo.pl")]


def ruby():
	return ["ruby", os.path.join(PROGS, "echo.rb")]


def java():
	# Small and quick to start: the test is about sockets.
	return ["java", "-Xshare:auto", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", compiled("Echo.java", ["javac", "-d"]), "Echo"]


def go():
	return [os.path.join(compiled("echo.go", ["go", "build", "-o"], {"CGO_ENABLED": "1"}), "echo")]


def static_go():
	return [os.path.join(compiled("echo.go", ["go", "build", "-o"], {"CGO_ENABLED": "0"}), "echo")]


# What --stats calls them.
PROGRAM = {"Perl": "perl", "Ruby": "ruby", "the JVM": "java"}
# What a language needs, and its command.
LANGUAGES = {
	"Perl": (("perl",), perl),
	"Ruby": (("ruby",), ruby),
	"the JVM": (("java", "javac"), java),
	"Go": (("go", "gcc"), go),
	"static Go": (("go",), static_go),
}


def serve(bench, command, how, clients):
	for kind in ("tcp", "unix"):
		where = free_port() if kind == "tcp" else bench.path("echo.sock")
		server = bench.serve([*command, how, kind, where], listening(where) if kind == "tcp" else unix_listening(where))
		procs = {name: bench.spawn([*client, "talk", kind, where]) for name, client in clients.items()}
		for name, proc in procs.items():
			bench.check((proc.wait(60), proc.out()) == (0, b"ok\n"), "the client in %s over %s ended with %d and said %r" % (name, kind, proc.popen.returncode, proc.out()))
		server.stop()


def present():
	return {name: command() for name, (needs, command) in LANGUAGES.items() if not missing(needs) and name != "static Go"}


for _server, _how in (("Perl", "serve"), ("Ruby", "serve"), ("the JVM", "serve"), ("the JVM", "select"), ("Go", "serve")):
	@test("a server in %s answers clients in every language over TCP and AF_UNIX%s" % (_server, ", by a selector" if _how == "select" else ""),
		needs=LANGUAGES[_server][0], variants=("auto", "ring") if _server == "Go" or _how == "select" else ("auto", "ring", "server-only", "client-only"))
	def every(bench, server=_server, how=_how):
		clients = present()
		serve(bench, LANGUAGES[server][1](), how, clients)
		if server != "Go":  # the turns of one line are many; what is left goes in a few large pieces
			for name in {server, *clients} - {"Go"}:
				bench.expect_ring(PROGRAM[name], share=0, least=4000)


@test("a static program in Go serves and calls on the plain kernel, and gnezdo run says so", needs=LANGUAGES["static Go"][0], variants=("auto", "ring"))
def static(bench):
	clients = {name: client for name, client in present().items() if name in ("Perl", "Ruby")}
	serve(bench, static_go(), "serve", {"static Go": static_go(), **clients})
	for proc in bench.procs:
		told = "echo is statically linked: runs on the plain kernel" in proc.err()
		bench.equal(told, proc.lane is not None and proc.name == "echo", "%s: told that it is linked statically" % proc.name)
