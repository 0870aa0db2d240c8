# SPDX-License-Identifier: MIT
"""Load generators that count for themselves: iperf3 and sockperf."""

import json
import re
import signal

from lib import free_port, listening, test, udp_bound


def iperf(bench, *how, least=0.0, host="127.0.0.1"):
	port = free_port()
	server = bench.serve(["iperf3", "-s", "-1", "-p", port, "-B", host], listening(port))
	report = json.loads(bench.output(["iperf3", "-c", host, "-p", port, "-t", "1", "-J", *how]))
	bench.check("error" not in report, "iperf3: %s" % report.get("error"))
	bench.equal(server.wait(10), 0, "exit status of the server")
	return report["end"]


def stream(bench, *how, **kw):
	end = iperf(bench, *how, **kw)
	sent, got = end["sum_sent"]["bytes"], end["sum_received"]["bytes"]
	bench.check(0 < got <= sent, "sent %d, received %d" % (sent, got))
	# The last second's end: what is still in buffers when the clock stops, no more than 64 MiB.
	bench.check(sent - got < 64 << 20, "sent %d, received only %d" % (sent, got))
	bench.expect_ring("iperf3", share=0.9)


@test("iperf3 sends for a second", needs=("iperf3",))
def forward(bench):
	stream(bench)


@test("iperf3 receives for a second", needs=("iperf3",))
def backward(bench):
	stream(bench, "-R")


@test("iperf3 in both directions at once, over IPv6", needs=("iperf3",))
def both_ways(bench):
	stream(bench, "--bidir", host="::1")


@test("iperf3 with four streams and with zero-copy sending", needs=("iperf3",), variants=("auto", "ring"))
def streams(bench):
	stream(bench, "-P", "4")
	end = iperf(bench, "-Z")
	bench.check(end["sum_received"]["bytes"] > 0, "nothing received with sendfile")


@test("iperf3 over UDP at a rate loses next to nothing", needs=("iperf3",))
def udp(bench):
	for how in ((), ("-R",)):
		for _ in range(8):  # a reader that does not get the processor for long loses some, on the kernel too
			end = iperf(bench, "-u", "-b", "100M", "-l", "1400", *how)["sum"]
			if end["packets"] > 5000 and end["lost_percent"] < 20:
				break
		bench.check(end["packets"] > 5000, "packets: %s" % end["packets"])
		bench.check(end["lost_percent"] < 20, "lost: %s %%" % end["lost_percent"])
	bench.expect_ring("iperf3", share=0.5)


def pingpong(bench, *how, tcp):
	port = free_port()
	kind = ["--tcp"] if tcp else []
	server = bench.serve(["sockperf", "server", "-i", "127.0.0.1", "-p", port, *kind], (listening if tcp else udp_bound)(port),
		stop_signal=signal.SIGINT)
	said = bench.output(["sockperf", "ping-pong", "-i", "127.0.0.1", "-p", port, "-t", "1", "--mps=100000", *kind, *how])
	found = re.search(r"\[Valid Duration\] .*SentMessages=(\d+); ReceivedMessages=(\d+)", said)
	bench.check(found and int(found.group(2)) > 500, said)
	bench.check(int(found.group(1)) - int(found.group(2)) <= 1, "answers are missing: " + found.group(0))
	lost = re.search(r"# dropped messages = (\d+); # duplicated messages = (\d+); # out-of-order messages = (\d+)", said)
	bench.check(lost and set(lost.groups()) == {"0"}, "lost, doubled or disordered: %s" % (lost and lost.group(0)))
	server.stop()
	bench.expect_ring("sockperf", share=0.8)


@test("sockperf ping-pong over TCP", needs=("sockperf",))
def sockperf_tcp(bench):
	pingpong(bench, tcp=True)


@test("sockperf ping-pong over TCP with messages of 20,000 bytes, checked", needs=("sockperf",), variants=("auto", "ring"))
def sockperf_tcp_large(bench):
	pingpong(bench, "-m", "20000", "--data-integrity", tcp=True)


@test("sockperf ping-pong over UDP", needs=("sockperf",))
def sockperf_udp(bench):
	pingpong(bench, "--data-integrity", tcp=False)
