# SPDX-License-Identifier: MIT
"""node: libuv's loop; a server and its clients, worker threads, and a cluster, whose master passes accepted sockets to its workers."""

import os

from lib import PROGS, free_port, listening, test, unix_listening

NEEDS = ("node",)


def talk(bench, kind, where):
	bench.equal(bench.output(["node", os.path.join(PROGS, "node_client.js"), kind, where]), "ok\n", "the clients' verdict, " + kind)


for _how, _what in (("plain", "one process"), ("threads", "worker threads"), ("cluster", "a cluster of processes"),
		("handed", "a cluster whose master hands accepted sockets over")):
	@test("a server of %s answers 20 clients with 1 B to 1 MB each, over TCP" % _what, needs=NEEDS)
	def server(bench, how=_how):
		port = free_port()
		proc = bench.serve(["node", os.path.join(PROGS, "node_server.js"), how, port], listening(port))
		talk(bench, "tcp", port)
		proc.stop()
		if how in ("plain", "threads"):  # those of a cluster are passed on, and stay with the kernel
			bench.expect_ring("node", share=0, least=500)


@test("the same over a socket file", needs=NEEDS)
def unix(bench):
	path = bench.path("node.sock")
	proc = bench.serve(["node", os.path.join(PROGS, "node_server.js"), "plain", path], unix_listening(path))
	talk(bench, "unix", path)
	proc.stop()
	bench.expect_ring("node", share=0, least=500)
