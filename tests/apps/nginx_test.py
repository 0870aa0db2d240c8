# SPDX-License-Identifier: MIT
"""nginx: a master and several workers that share listeners over fork, epoll, sendfile, reload without a lost request."""

import hashlib
import os
import signal

from lib import test, until
from nginx_site import Nginx, workers_of


@test("files of 0, 1 KiB, 70 kB and 10 MB arrive whole over IPv4, IPv6 and a socket file", needs=("nginx", "curl"))
def files(bench):
	nginx = Nginx(bench)
	for name in nginx.files:
		nginx.fetch(name)
		nginx.fetch(name, url=nginx.url(name, "::1"))
		nginx.fetch(name, "--unix-socket", bench.path("front.sock"), url="http://localhost/" + name)
	nginx.stop(signal.SIGQUIT)


@test("one connection carries many requests", needs=("nginx", "curl"))
def keepalive(bench):
	nginx = Nginx(bench)
	config = "".join('url = "%s"\noutput = "%s"\n' % (nginx.url(("small", "odd")[i % 2]), bench.path("got%d" % i)) for i in range(120))
	with open(bench.path("curlrc"), "w") as f:
		f.write(config)
	said = bench.output(["curl", "-gsSf", "-K", bench.path("curlrc"), "-w", "%{http_code} %{num_connects}\n"]).split("\n")[:-1]
	bench.equal(said, ["200 1"] + ["200 0"] * 119, "status and new connections per request")
	for i in range(120):
		with open(bench.path("got%d" % i), "rb") as f:
			bench.equal(hashlib.sha256(f.read()).hexdigest(), nginx.files[("small", "odd")[i % 2]], "checksum of answer %d" % i)
	nginx.stop()
	bench.expect_ring("curl", share=0.3)


@test("parallel downloads of 10 MB arrive whole", needs=("nginx", "curl"))
def parallel(bench):
	nginx = Nginx(bench)
	words = []
	for i in range(8):
		words += ["-o", bench.path("got%d" % i), nginx.url("big")]
	bench.run(["curl", "-gsSf", "-Z", "--parallel-max", "4", *words])
	for i in range(8):
		with open(bench.path("got%d" % i), "rb") as f:
			bench.equal(hashlib.sha256(f.read()).hexdigest(), nginx.files["big"], "checksum of download %d" % i)
	nginx.stop()


@test("the status, an error page, a range and HEAD are as they should be", needs=("nginx", "curl"), variants=("auto", "ring"))
def answers(bench):
	nginx = Nginx(bench)
	code = ["curl", "-gsS", "-o", "/dev/null", "-w", "%{http_code} %{size_download}"]
	bench.equal(bench.output([*code, nginx.url("absent")]).split()[0], "404", "an absent file")
	bench.equal(bench.output([*code, "-r", "1000-1999", nginx.url("odd")]), "206 1000", "a range")
	bench.equal(bench.output([*code, "-I", nginx.url("big")]), "200 0", "HEAD")
	bench.equal(bench.output([*code, "-X", "DELETE", nginx.url("big")]).split()[0], "405", "a forbidden method")
	nginx.stop()


def wrk(bench, nginx, name, connections, seconds=1):
	said = bench.output(["wrk", "-t", "2", "-c", connections, "-d", "%ds" % seconds, nginx.url(name)])
	bench.check("Socket errors" not in said and "Non-2xx" not in said, said)
	bench.check("requests in" in said and " 0 requests in" not in said, said)


@test("wrk with 50 connections meets no error", needs=("nginx", "wrk"))
def many(bench):
	nginx = Nginx(bench)
	wrk(bench, nginx, "small", 50)
	nginx.stop(signal.SIGQUIT)
	for name in ("wrk", "nginx"):
		bench.expect_ring(name, share=0.3)  # a loaded machine gets no further in a second


@test("wrk on 10 MB files meets no error", needs=("nginx", "wrk"), variants=("auto", "ring"))
def many_big(bench):
	nginx = Nginx(bench)
	wrk(bench, nginx, "big", 4)
	nginx.stop(signal.SIGQUIT)


@test("a listener per worker (SO_REUSEPORT) serves", needs=("nginx", "wrk", "curl"))
def reuseport(bench):
	nginx = Nginx(bench, workers=3, listen=" reuseport")
	for name in nginx.files:
		nginx.fetch(name)
	wrk(bench, nginx, "small", 20)
	nginx.stop(signal.SIGQUIT)


@test("a proxy passes files on from its origin, over TCP and a socket file", needs=("nginx", "curl"))
def proxy(bench):
	nginx = Nginx(bench)
	for way in ("origin", "file"):
		for name in nginx.files:
			nginx.fetch(name, url=nginx.url("%s/%s" % (way, name)))
	nginx.stop(signal.SIGQUIT)


@test("a reload while files are on their way loses no request and changes the workers", needs=("nginx", "curl"))
def reload(bench):
	nginx = Nginx(bench)
	slow = bench.path("slow")
	download = bench.spawn(["curl", "-gsSf", "--limit-rate", "5M", "-o", slow, nginx.url("big")])
	until(lambda: os.path.exists(slow) and os.path.getsize(slow) > 100000, 10, "the slow download to be on its way")
	before = nginx.workers()
	bench.equal(len(before), 2, "workers before")
	for _ in range(2):
		nginx.proc.popen.send_signal(signal.SIGHUP)
		for name in ("small", "odd", "small", "big", "small"):
			nginx.fetch(name)
	until(lambda: len(nginx.workers()) == 2 and not nginx.workers() & before, 10, "new workers")
	for _ in range(5):
		nginx.fetch("small")
	bench.equal(download.wait(), 0, "exit status of the slow download")
	with open(slow, "rb") as f:
		bench.equal(hashlib.sha256(f.read()).hexdigest(), nginx.files["big"], "checksum of the slow download")
	nginx.stop(signal.SIGQUIT)


def upgrade(bench, env=()):
	"""Returns the workers of the new binary."""
	nginx = Nginx(bench, daemon=True, env=env)  # of a master whose parent lives nginx thinks that it has a newer one already
	slow, pidfile = bench.path("slow"), bench.path("nginx.pid")

	def pid_in(name):
		try:
			with open(name) as f:
				return int(f.read() or 0)
		except OSError:
			return 0
	download = bench.spawn(["curl", "-gsSf", "--limit-rate", "5M", "-o", slow, nginx.url("big")])
	until(lambda: os.path.exists(slow) and os.path.getsize(slow) > 100000, 10, "the slow download to be on its way")
	old = until(lambda: pid_in(pidfile), 10, "the master's pid")
	os.kill(old, signal.SIGUSR2)
	new = until(lambda: pid_in(pidfile + ".oldbin") == old and pid_in(pidfile) not in (0, old) and pid_in(pidfile), 10, "the new master")
	until(lambda: len(workers_of(new)) == 2, 10, "the workers of the new master")
	for name in ("small", "odd", "big", "small"):
		nginx.fetch(name)
	os.kill(old, signal.SIGWINCH)
	for name in ("small", "odd", "big", "small"):
		nginx.fetch(name)
	bench.equal(download.wait(), 0, "exit status of the slow download")
	with open(slow, "rb") as f:
		bench.equal(hashlib.sha256(f.read()).hexdigest(), nginx.files["big"], "checksum of the slow download")
	os.kill(old, signal.SIGQUIT)
	until(lambda: not os.path.exists(pidfile + ".oldbin"), 10, "the old master to go")
	for name in ("small", "odd", "big", "small"):
		nginx.fetch(name)
		nginx.fetch(name, url=nginx.url("file/" + name))
	nginx.fetch("big", "--unix-socket", bench.path("front.sock"), url="http://localhost/big")
	workers = workers_of(new)
	os.kill(new, signal.SIGQUIT)
	until(lambda: not os.path.exists(pidfile), 10, "the new master to go")
	return workers


@test("a new binary takes over the listeners while files are on their way (USR2, WINCH, QUIT)", needs=("nginx", "curl"))
def upgrade_plain(bench):
	upgrade(bench)


@test("a new binary that keeps the preload (env) has its connections of AF_UNIX on the ring", needs=("nginx", "curl"), variants=("auto", "ring"))
def upgrade_kept(bench):
	# A listener of TCP that came through exec has no private face: docs/roadmap.md.
	bench.expect_ring("nginx", share=0.2, pids=upgrade(bench, env=("LD_PRELOAD", "GNEZDO_LANE", "GNEZDO_STATS")))


@test("a worker killed with SIGKILL is replaced and nobody hangs", needs=("nginx", "curl"), variants=("auto", "ring"))
def killed_worker(bench):
	nginx = Nginx(bench, workers=1)
	slow = bench.path("slow")
	with open(bench.path("www/huge"), "wb") as f: # more than all buffers on the way can hold
		f.truncate(100 << 20)
	download = bench.spawn(["curl", "-gsS", "--limit-rate", "2M", "-o", slow, nginx.url("huge")])
	until(lambda: os.path.exists(slow) and os.path.getsize(slow) > 100000, 10, "the slow download to be on its way")
	before = nginx.workers()
	for pid in before:
		os.kill(pid, signal.SIGKILL)
	# curl: 18 is a transfer that ended early, 56 a reset. Anything else, 0 and a hang above all, is wrong.
	bench.check(download.wait() in (18, 56), "curl ended with %d" % download.popen.returncode)
	until(lambda: nginx.workers() and not nginx.workers() & before, 10, "a new worker")
	nginx.fetch("odd")
	nginx.stop(signal.SIGQUIT)


@test("gnezdo ss shows the connections of a server in their lanes", needs=("nginx", "curl"), variants=("ring",))
def shown(bench):
	nginx = Nginx(bench, workers=1)
	slow = bench.path("slow")
	download = bench.spawn(["curl", "-gsSf", "--limit-rate", "4M", "-o", slow, nginx.url("big")])
	until(lambda: os.path.exists(slow) and os.path.getsize(slow) > 1000000, 10, "the slow download to be on its way")
	if bench.server_lane:
		mine = [s for s in bench.ss() if s["state"] == "ESTAB" and s["local"].endswith(":%d" % nginx.port)]
		bench.equal(len(mine), 1, "connections of port %d in gnezdo ss" % nginx.port)
		bench.equal([s["tx"]["lane"] for s in mine], ["ring"], "the lane of nginx's writing")
	bench.equal(download.wait(), 0, "exit status of the download")
	nginx.stop(signal.SIGQUIT)
