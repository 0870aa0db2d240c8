# SPDX-License-Identifier: MIT
"""git: a daemon that forks and execs per client, with the connection as descriptors 0 and 1 of the program that it runs."""

import os

from lib import free_port, listening, test


def commit(bench, place, name, size):
	with open(os.path.join(place, name), "wb") as f:
		f.write(os.urandom(size))
	identity = ["-c", "user.name=Tester", "-c", "user.email=tester@localhost", "-c", "commit.gpgsign=false"]
	bench.run(["git", "-C", place, "add", name])
	bench.run(["git", "-C", place, *identity, "commit", "-qm", name])


@test("clone, fetch and push through git daemon", needs=("git",))
def daemon(bench):
	port, origin, copy = free_port(), bench.path("srv/nest.git"), bench.path("copy")
	os.mkdir(bench.path("srv"))
	url = "git://127.0.0.1:%d/nest.git" % port
	bench.run(["git", "init", "-q", "--bare", "-b", "main", origin])
	bench.serve(["git", "daemon", "--export-all", "--enable=receive-pack", "--base-path=" + bench.path("srv"), "--listen=127.0.0.1",
		"--port=%d" % port, "--reuseaddr", bench.path("srv")], listening(port))
	bench.run(["git", "clone", "-q", url, copy])
	for name, size in (("small", 100), ("large", 5000000)):
		commit(bench, copy, name, size)
		bench.run(["git", "-C", copy, "push", "-q", "origin", "HEAD:main"])
	second = bench.path("second")
	bench.run(["git", "clone", "-q", "-b", "main", url, second])
	commit(bench, copy, "third", 3000)
	bench.run(["git", "-C", copy, "push", "-q", "origin", "HEAD:main"])
	bench.run(["git", "-C", second, "pull", "-q", "--ff-only", "origin", "main"])
	heads = {bench.output(["git", "-C", p, "rev-parse", "HEAD"]) for p in (copy, second)}
	bench.equal(len(heads), 1, "different heads")
	bench.run(["git", "-C", second, "fsck", "--full"])
