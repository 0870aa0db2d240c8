# SPDX-License-Identifier: MIT
"""OpenSSL's own server and client: TLS over whatever the sockets are."""

import hashlib
import os

from lib import Failure, free_port, listening, test, until

NEEDS = ("openssl",)


def certificate(bench):
	bench.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
		"/CN=localhost", "-keyout", bench.path("key.pem"), "-out", bench.path("cert.pem")])
	return ["-key", bench.path("key.pem"), "-cert", bench.path("cert.pem")]


@test("s_server gives files to curl and s_client", needs=NEEDS + ("curl",))
def web(bench):
	port, content = free_port(), os.urandom(3 << 20)
	keys = certificate(bench)
	os.mkdir(bench.path("www"))
	with open(bench.path("www/file"), "wb") as f:
		f.write(content)
	bench.serve(["openssl", "s_server", "-accept", "127.0.0.1:%d" % port, "-WWW", "-quiet", *keys], listening(port), cwd=bench.path("www"))
	for _ in range(3):
		got = bench.run(["curl", "-sSfk", "--http1.0", "https://127.0.0.1:%d/file" % port]).out()
		bench.equal(hashlib.sha256(got).hexdigest(), hashlib.sha256(content).hexdigest(), "checksum over TLS")
	said = bench.output(["openssl", "s_client", "-connect", "127.0.0.1:%d" % port, "-CAfile", bench.path("cert.pem"), "-quiet",
		"-verify_return_error"], data=b"GET /absent HTTP/1.0\r\n\r\n", status=None)
	bench.check("Error opening" in said, "s_client printed: " + said)
	if bench.client_lane == "ring":  # of so short a download in large pieces little is left when it is known to be busy
		bench.expect_ring("curl", share=0, least=1 << 20)


@test("s_client and s_server turn lines round, in TLS 1.2 and 1.3", needs=NEEDS)
def reverse(bench):
	keys = certificate(bench)
	for version in ("-tls1_2", "-tls1_3"):
		port = free_port()
		server = bench.serve(["openssl", "s_server", "-accept", "127.0.0.1:%d" % port, "-rev", "-quiet", *keys], listening(port))
		reader, writer = os.pipe()
		client = bench.spawn(["openssl", "s_client", "-connect", "127.0.0.1:%d" % port, "-quiet", "-no_ign_eof", version], stdin=reader)
		os.close(reader)
		for i in range(50):
			os.write(writer, b"line %d\n" % i)
			until(lambda: client.out().count(b"\n") == i + 1, 10, "line %d turned round" % i)
		os.close(writer)
		client.wait(10)
		wanted = b"".join(b"%s\n" % (b"line %d" % i)[::-1] for i in range(50))
		if client.out() != wanted:
			raise Failure("s_client printed %r" % client.out()[-200:])
		server.stop()
	bench.expect_ring("openssl", share=0.2)
