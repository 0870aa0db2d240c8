# SPDX-License-Identifier: MIT
"""stress-ng's stressors of sockets and descriptors, each with its own verification. Both ends are one program, so it is the client's lane."""

from lib import test

SECONDS = 2
# A name, and options of its own.
STRESSORS = (("sock", ()), ("sock", ("--sock-domain", "ipv6")), ("sock", ("--sock-opts", "random")),
	("epoll", ()), ("epoll", ("--epoll-domain", "unix")), ("udp", ()),
	("udp", ("--udp-domain", "ipv6")), ("sockpair", ()), ("sockmany", ()), ("sockfd", ()), ("sockabuse", ()),
	("sockdiag", ()), ("splice", ()), ("sendfile", ()), ("poll", ()), ("dup", ()), ("fcntl", ()), ("udp-flood", ()))

for _name, _extra in STRESSORS:
	@test("stress-ng --%s %s verifies" % (_name, " ".join(_extra)), needs=("stress-ng",), variants=("auto", "ring"), long=True)
	def stressor(bench, name=_name, extra=_extra):
		said = bench.run(["stress-ng", "--" + name, "2", *extra, "--verify", "--timeout", "%ds" % SECONDS, "--temp-path", bench.dir, "--metrics-brief"],
			deadline=SECONDS + 30)
		text = said.out().decode(errors="replace") + said.err()
		bench.check("fail:" not in text and "unsuccessful" not in text, text[-600:])
		bench.check("successful run completed" in text or "skipped: 2" in text, text[-600:])
		if name == "sock":  # the others open anew for each few messages, set options that only the kernel knows, or pass descriptors
			bench.expect_ring("stress-ng-sock", share=0, least=1 << 20)
