# SPDX-License-Identifier: MIT
"""SO_REUSEPORT: every listener of a group gets its share of callers."""

import re

from lib import PROGS, PYTHON, free_port, test


@test("four listeners on one port share the callers, and three when one has died", variants=("auto", "ring"))
def share(bench):
	said = bench.output([PYTHON, PROGS + "/reuseport.py", free_port()])
	for line, members in zip(said.splitlines(), ("ABCD", "ABC")):
		counts = {name: int(n) for name, n in re.findall(r"(\w):(\d+)", line)}
		bench.equal(sorted(counts), list(members), "who answered")
		bench.equal(sum(counts.values()), 200, "callers answered")
		bench.check(min(counts.values()) >= 200 / len(members) / 2, "one has too few: " + line)
	bench.expect_ring("python3", share=0.5)
