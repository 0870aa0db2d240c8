# SPDX-License-Identifier: MIT
"""OpenSSH: a daemon that forks, execs, passes descriptors to a sandboxed child and drops privileges; rsync and git over it, and alone."""

import hashlib
import os
import pwd
import subprocess

from lib import COMMAND_DEADLINE, PROGS, PYTHON, Skip, find_program, free_port, listening, test, until

NEEDS = ("sshd", "ssh", "ssh-keygen")
CONFIG = """
Port %(port)d
ListenAddress 127.0.0.1
HostKey %(dir)s/host_key
PidFile %(dir)s/sshd.pid
AuthorizedKeysFile %(dir)s/authorized_keys
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PermitRootLogin yes
AllowTcpForwarding yes
Subsystem sftp internal-sftp
LogLevel ERROR
"""


class Sshd:
	def __init__(self, bench):
		if os.geteuid() != 0:
			raise Skip("needs root")
		self.bench, self.port = bench, free_port()
		os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # where its package wants its unprivileged child
		for name in ("host_key", "key"):
			subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", bench.path(name)], check=True, timeout=COMMAND_DEADLINE,
				stdin=subprocess.DEVNULL)
		os.rename(bench.path("key.pub"), bench.path("authorized_keys"))
		with open(bench.path("sshd_config"), "w") as f:
			f.write(CONFIG % {"port": self.port, "dir": bench.dir})
		# It execs itself for each connection and wants its full path for that.
		self.proc = bench.serve([find_program("sshd"), "-D", "-e", "-f", bench.path("sshd_config")], listening(self.port))
		self.options = ["-F", "/dev/null", "-i", bench.path("key"), "-p", str(self.port), "-o", "StrictHostKeyChecking=no", "-o", "IdentitiesOnly=yes",
			"-o", "UserKnownHostsFile=" + bench.path("known_hosts"), "-o", "LogLevel=ERROR", "-o", "BatchMode=yes"]
		self.user = pwd.getpwuid(os.geteuid()).pw_name
		self.where = self.user + "@127.0.0.1"

	def ssh(self, *words, **kw):
		return self.bench.run(["ssh", *self.options, self.where, *words], **kw)

	def stop(self):
		self.proc.stop()


def digest(data):
	return hashlib.sha256(data).hexdigest()


@test("commands run over ssh, with status, input and 8 MB each way", needs=NEEDS)
def commands(bench):
	sshd = Sshd(bench)
	bench.equal(sshd.ssh("echo", "egg").out(), b"egg\n", "echo")
	sshd.ssh("exit 7", status=7)
	data = os.urandom(8 << 20)
	bench.equal(digest(sshd.ssh("cat", data=data).out()), digest(data), "checksum of what cat returned")
	bench.equal(sshd.ssh("wc", "-c", data=data).out().split(), [b"%d" % len(data)], "bytes that arrived")
	sshd.stop()


@test("files go both ways with scp", needs=NEEDS + ("scp",))
def copy(bench):
	sshd = Sshd(bench)
	options = [o if o != "-p" else "-P" for o in sshd.options]
	data = os.urandom(5 << 20)
	with open(bench.path("file"), "wb") as f:
		f.write(data)
	bench.run(["scp", *options, "-q", bench.path("file"), "%s:%s" % (sshd.where, bench.path("there"))])
	bench.run(["scp", *options, "-q", "%s:%s" % (sshd.where, bench.path("there")), bench.path("back")])
	with open(bench.path("back"), "rb") as f:
		bench.equal(digest(f.read()), digest(data), "checksum of the file")
	sshd.stop()


@test("a forwarded port and a forwarded socket file carry an echo", needs=NEEDS)
def forward(bench):
	sshd = Sshd(bench)
	target, inet, path = free_port(), free_port(), bench.path("forward.sock")
	echo = bench.serve([PYTHON, os.path.join(PROGS, "asyncio_echo.py"), "serve", "tcp", target], listening(target))
	tunnel = bench.spawn(["ssh", *sshd.options, "-N", "-o", "ExitOnForwardFailure=yes", "-L", "127.0.0.1:%d:127.0.0.1:%d" % (inet, target),
		"-L", "%s:127.0.0.1:%d" % (path, target), sshd.where])
	until(lambda: listening(inet)() and os.path.exists(path), 20, "the tunnel")
	for kind, where in (("tcp", inet), ("unix", path)):
		bench.equal(bench.output([PYTHON, os.path.join(PROGS, "asyncio_echo.py"), "talk", kind, where]), "ok\n", "the clients' verdict, " + kind)
	tunnel.stop()
	echo.stop()
	sshd.stop()


def tree(bench, name):
	"""A directory of some files; their digests."""
	found = {}
	os.makedirs(bench.path(name + "/deep"))
	for i, size in enumerate((0, 1, 1000, 70001, 3 << 20, *[5000] * 40)):
		path = "deep/%d" % i if i % 3 else str(i)
		content = os.urandom(size)
		with open(bench.path(name + "/" + path), "wb") as f:
			f.write(content)
		found[path] = digest(content)
	return found


def same(bench, name, wanted):
	for path, value in wanted.items():
		with open(bench.path(name + "/" + path), "rb") as f:
			bench.equal(digest(f.read()), value, "checksum of " + path)


@test("rsync over ssh brings a tree there and back, and then nothing", needs=NEEDS + ("rsync",))
def rsync_ssh(bench):
	sshd = Sshd(bench)
	wanted = tree(bench, "one")
	shell = " ".join(["ssh", *sshd.options])
	bench.run(["rsync", "-a", "-e", shell, bench.path("one/"), "%s:%s" % (sshd.where, bench.path("two/"))])
	bench.run(["rsync", "-az", "-e", shell, "%s:%s" % (sshd.where, bench.path("two/")), bench.path("three/")])
	same(bench, "three", wanted)
	again = bench.output(["rsync", "-ai", "-e", shell, bench.path("one/"), "%s:%s" % (sshd.where, bench.path("two/"))])
	bench.equal(again, "", "what a second run changes")
	sshd.stop()


@test("a clone over ssh is whole", needs=NEEDS + ("git",))
def git_ssh(bench):
	sshd = Sshd(bench)
	place, identity = bench.path("origin"), ["-c", "user.name=Tester", "-c", "user.email=tester@localhost", "-c", "commit.gpgsign=false"]
	bench.run(["git", "init", "-q", "-b", "main", place])
	with open(place + "/large", "wb") as f:
		f.write(os.urandom(4 << 20))
	bench.run(["git", "-C", place, "add", "large"])
	bench.run(["git", "-C", place, *identity, "commit", "-qm", "large"])
	bench.run(["git", "clone", "-q", "ssh://%s:%d%s" % (sshd.where, sshd.port, place), bench.path("copy")],
		env={"GIT_SSH_COMMAND": " ".join(["ssh", *[o for o in sshd.options]])})
	bench.run(["git", "-C", bench.path("copy"), "fsck", "--full"])
	sshd.stop()


@test("rsync's own daemon gives and takes a tree", needs=("rsync",))
def rsync_daemon(bench):
	port = free_port()
	wanted = tree(bench, "one")
	os.mkdir(bench.path("nest"))
	with open(bench.path("rsyncd.conf"), "w") as f:
		f.write("use chroot = no\n[nest]\npath = %s\nread only = no\n%s" % (bench.path("nest"), "uid = root\ngid = root\n" if os.geteuid() == 0 else ""))
	proc = bench.serve(["rsync", "--daemon", "--no-detach", "--address=127.0.0.1", "--port=%d" % port, "--config=" + bench.path("rsyncd.conf")],
		listening(port))
	url = "rsync://127.0.0.1:%d/nest/" % port
	bench.run(["rsync", "-a", bench.path("one/"), url])
	bench.run(["rsync", "-a", url, bench.path("two/")])
	same(bench, "two", wanted)
	bench.equal(bench.output(["rsync", "-ai", bench.path("one/"), url]), "", "what a second run changes")
	proc.stop()
	bench.expect_ring("rsync", share=0, least=1 << 20)
