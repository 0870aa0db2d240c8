# SPDX-License-Identifier: MIT
"""Real programs as tests: start them, wait until they are ready, watch what they do, stop them, read gnezdo's figures.

A test is a function of one argument, the Bench. It is run once on the plain kernel (which shows that the test itself is
right) and then once for every variant: which side runs under gnezdo, and in which lane. The function does not know which:
it starts servers with bench.serve() and clients with bench.run() or bench.spawn(), checks what they answer, and says with
bench.expect_ring() whose bytes the rings should have carried; the Bench works out whether that can be asked of the variant.

Rules: no fixed sleeps (until() polls a condition up to a deadline), every command has a time-out, everything that a test
starts is stopped by process id, every file lives in a private directory that goes away with the test.
"""

import ctypes
import json
import os
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ.get("BUILD") or os.path.join(ROOT, "build"))
GNEZDO = os.path.join(BUILD, "gnezdo")
PROGS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "progs")
PYTHON = "/usr/bin/python3"

# Seconds. Generous: a loaded machine is no failure, a hang is.
READY_DEADLINE = 20
COMMAND_DEADLINE = 25
STOP_DEADLINE = 10

MOST_LINES = 60  # of diagnosis per failed test

# Which lane the servers and the clients of a test use; None is the plain kernel.
VARIANTS = {
	"kernel": (None, None),
	"auto": ("auto", "auto"),
	"ring": ("ring", "ring"),
	"lane-kernel": ("kernel", "kernel"),
	"server-only": ("auto", None),
	"client-only": (None, "auto"),
}
DEFAULT_VARIANTS = ("auto", "ring", "server-only", "client-only")
TESTS = []


class Failure(Exception):
	"""The program under test did something else than it should."""


class Skip(Exception):
	"""The test cannot be made on this machine."""


def test(name, needs=(), variants=DEFAULT_VARIANTS, long=False):
	"""Registers a test. `name` is a sentence; `needs` lists the programs without which it is skipped; `long`: not in `make check`."""
	def register(function):
		TESTS.append({"name": name, "needs": needs, "variants": variants, "run": function, "long": long})
		return function
	return register


def missing(programs):
	return [p for p in programs if not find_program(p)]


def find_program(name):
	path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/local/sbin"
	return shutil.which(name, path=path)


def run_tool(argv, env=None, deadline=120):
	"""A compiler or the like, which belongs to no test and runs on the plain kernel."""
	done = subprocess.run([find_program(argv[0]) or argv[0], *argv[1:]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
		timeout=deadline, text=True, env={**os.environ, **(env or {})})
	if done.returncode:
		raise Failure("%s: exit status %d: %s" % (" ".join(argv)[:200], done.returncode, tail(done.stdout)))


def become_subreaper():
	"""Grandchildren whose parents die come to us, so that a test that leaves some behind is found out."""
	PR_SET_CHILD_SUBREAPER = 36
	ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def until(condition, deadline, what):
	"""Waits until condition() is true; fails after `deadline` seconds. Returns what the condition returned."""
	end = time.monotonic() + deadline
	pause = 0.002
	while True:
		value = condition()
		if value:
			return value
		if time.monotonic() > end:
			raise Failure("waited %g s in vain for %s" % (deadline, what))
		time.sleep(pause)
		pause = min(pause * 1.5, 0.05)


# --- what the kernel says about listeners: asking it costs the server no connection (iperf3 -1 and sockperf would mind)

def _inet_ports(table, state):
	ports = set()
	for suffix in ("", "6"):
		try:
			with open("/proc/net/%s%s" % (table, suffix)) as lines:
				next(lines)
				for line in lines:
					fields = line.split()
					if fields[3] == state:
						ports.add(int(fields[1].rsplit(":", 1)[1], 16))
		except OSError:
			pass
	return ports


def listening(port):
	return lambda: port in _inet_ports("tcp", "0A")


def udp_bound(port):
	return lambda: port in _inet_ports("udp", "07")


def unix_listening(path):
	def check():
		with open("/proc/net/unix") as lines:
			next(lines)
			for line in lines:
				fields = line.split()
				# Field 3: __SO_ACCEPTCON, the socket listens.
				if len(fields) > 7 and fields[7] == path and int(fields[3], 16) & 0x10000:
					return True
		return False
	return check


ports = range(20011, 31999)


def use_ports(number, of):
	"""This process is one of several that run tests: none may find a port free that another one is about to use."""
	global ports
	ports = range(20011 + number, 31999, of)
	random.seed()


def free_port():
	"""A port below the range from which the kernel picks, free in both families and both protocols at this moment."""
	for _ in range(200):
		port = random.choice(ports)
		try:
			for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
				for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
					with socket.socket(family, kind) as s:
						if family == socket.AF_INET6:
							s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
						s.bind((host, port))
			return port
		except OSError:
			continue
	raise Failure("no free port found")


# --- gnezdo's figures

def parse_stats(text):
	"""The lines that --stats writes at exit, one dict per process; fallbacks join the process that told them."""
	processes = {}
	for line in text.splitlines():
		found = re.search(r"gnezdo: pid=(\d+) (prog=|fallback )(.*)", line)
		if not found:
			continue
		entry = processes.setdefault(found.group(1), {"prog": "?", "fallbacks": [], "pid": int(found.group(1))})
		if found.group(2) == "fallback ":
			entry["fallbacks"].append(found.group(3))
			continue
		fields = dict(f.split("=", 1) for f in (found.group(2) + found.group(3)).split() if "=" in f)
		for key, value in fields.items():
			if value.isdigit():
				entry[key] = entry.get(key, 0) + int(value)
			else:
				entry[key] = value
	return list(processes.values())


def without_stats(text):
	return "".join(line for line in text.splitlines(True) if not line.startswith("gnezdo: pid="))


class Proc:
	"""One started program. Output goes to files, so that nothing ever blocks on us."""

	def __init__(self, bench, argv, lane, popen, out, err, stop_signal):
		self.bench, self.argv, self.lane, self.popen = bench, argv, lane, popen
		self.out_path, self.err_path, self.stop_signal = out, err, stop_signal
		self.pid = popen.pid
		self.killed = False

	@property
	def name(self):
		return os.path.basename(self.argv[0])

	def out(self):
		with open(self.out_path, "rb") as f:
			return f.read()

	def err(self):
		with open(self.err_path, errors="replace") as f:
			return f.read()

	def alive(self):
		return self.popen.poll() is None

	def wait(self, deadline=COMMAND_DEADLINE):
		try:
			return self.popen.wait(deadline)
		except subprocess.TimeoutExpired:
			raise Failure("%s still runs after %g s: %s" % (self.name, deadline, " ".join(self.argv)))

	def stop(self, sig=None, deadline=STOP_DEADLINE):
		"""SIGTERM (or the signal that the program wants), a deadline, SIGKILL. Having to kill it is a failure."""
		if not self.alive():
			return self.popen.returncode
		self.popen.send_signal(sig or self.stop_signal)
		try:
			return self.popen.wait(deadline)
		except subprocess.TimeoutExpired:
			self.killed = True
			self.bench.autopsy(self)
			self.popen.kill()
			self.popen.wait()
			raise Failure("%s did not stop within %g s of its signal" % (self.name, deadline))


class Bench:
	"""What one run of one test owns: a directory, ports, processes, expectations."""

	def __init__(self, variant):
		self.variant = variant
		self.server_lane, self.client_lane = VARIANTS[variant]
		self.dir = tempfile.mkdtemp(prefix="gnezdo-apps-")
		os.chmod(self.dir, 0o755)
		self.procs = []
		self.expected = []
		self.notes = []

	# -- starting

	def command(self, argv, lane):
		program = find_program(argv[0]) or argv[0]
		argv = [program] + [str(a) for a in argv[1:]]
		if lane is None:
			return argv
		return [GNEZDO, "run", "--stats", "--lane", lane, "--"] + argv

	def _start(self, argv, lane, stdin, user, env, stop_signal, cwd):
		full = self.command(argv, lane)
		if user:
			group = str(pwd.getpwnam(user).pw_gid)
			full = ["setpriv", "--reuid", user, "--regid", group, "--init-groups", "--"] + full
		stem = os.path.join(self.dir, "%02d-%s" % (len(self.procs), os.path.basename(argv[0])))
		out, err = stem + ".out", stem + ".err"
		with open(out, "wb") as o, open(err, "wb") as e:
			popen = subprocess.Popen(full, stdin=stdin, stdout=o, stderr=e, cwd=cwd or self.dir,
				env={**os.environ, **(env or {})}, start_new_session=True)
		proc = Proc(self, [str(a) for a in argv], lane, popen, out, err, stop_signal)
		self.procs.append(proc)
		return proc

	def serve(self, argv, ready, user=None, env=None, stop_signal=signal.SIGTERM, cwd=None, daemon=False):
		"""Starts a server and waits until ready() is true. A daemon leaves its command behind; the test has to end it."""
		proc = self._start(argv, self.server_lane, subprocess.DEVNULL, user, env, stop_signal, cwd)

		def ready_or_dead():
			if not proc.alive() and (proc.popen.returncode or not daemon):
				raise Failure("%s ended with %d at its start: %s" % (proc.name, proc.popen.returncode, tail(proc.err())))
			return ready()
		until(ready_or_dead, READY_DEADLINE, "%s to be ready" % proc.name)
		return proc

	def spawn(self, argv, stdin=subprocess.DEVNULL, user=None, env=None, stop_signal=signal.SIGTERM, cwd=None):
		"""Starts a client and returns at once."""
		return self._start(argv, self.client_lane, stdin, user, env, stop_signal, cwd)

	def run(self, argv, data=None, deadline=COMMAND_DEADLINE, status=0, user=None, env=None, cwd=None):
		"""Runs a client to its end and checks its exit status. `data`, bytes, is its standard input."""
		stdin = subprocess.DEVNULL
		if data is not None:
			stdin = tempfile.TemporaryFile(dir=self.dir)
			stdin.write(data)
			stdin.seek(0)
		proc = self.spawn(argv, stdin=stdin, user=user, env=env, cwd=cwd)
		if data is not None:
			stdin.close()
		try:
			rc = proc.wait(deadline)
		except Failure:
			self.autopsy(proc)
			raise
		if status is not None and rc != status:
			raise Failure("%s: exit status %d, not %d; stderr: %s; stdout: %s" % (" ".join(proc.argv)[:200], rc, status,
				tail(without_stats(proc.err())), tail(proc.out().decode(errors="replace"))))
		return proc

	def output(self, argv, **kw):
		"""The standard output of a client, as text."""
		return self.run(argv, **kw).out().decode(errors="replace")

	# -- asking

	def path(self, name):
		return os.path.join(self.dir, name)

	def check(self, true, what):
		if not true:
			raise Failure(what)

	def equal(self, got, wanted, what):
		if got != wanted:
			raise Failure("%s: got %s, wanted %s" % (what, short(got), short(wanted)))

	def note(self, text):
		self.notes.append(text)

	def autopsy(self, proc):
		"""Where a program that hangs is waiting: the first thing that one asks."""
		pids = []
		for other in self.procs:
			for pid in family(other.pid) if other.alive() else ():
				pids.append(pid)
				self.note("%s pid %d: %s" % (other.name, pid, where(pid)))
		if os.path.exists(GNEZDO):
			try:
				table = subprocess.run([GNEZDO, "ss"], capture_output=True, timeout=5, text=True).stdout
				ours = [line for line in table.splitlines() if any("pid=%d)" % pid in line for pid in pids)]
				self.notes.extend(re.sub(r"  +", "  ", line) for line in ours[:20])
			except (OSError, subprocess.TimeoutExpired):
				self.note("gnezdo ss does not answer")

	def ss(self):
		"""What `gnezdo ss --json` lists now."""
		done = subprocess.run([GNEZDO, "ss", "--json"], capture_output=True, timeout=10, text=True)
		self.equal(done.returncode, 0, "exit status of gnezdo ss")
		listed = json.loads(done.stdout or "[]")
		return listed if isinstance(listed, list) else listed.get("sockets", [])

	@property
	def both(self):
		"""Both sides run under gnezdo and may promote: only then can the rings be asked for."""
		return all(lane in ("auto", "ring") for lane in (self.server_lane, self.client_lane))

	def expect_ring(self, prog, share=0.5, least=1, pids=None):
		"""Once everything has stopped: `prog`, or these processes of it, moved at least this share of its bytes, and `least` bytes, through rings."""
		self.expected.append((prog, share, least, pids))

	# -- ending

	def finish(self, failed):
		"""Stops what still runs (servers started last, first), then looks at the figures."""
		problem = None
		for proc in reversed(self.procs):
			try:
				proc.stop()
			except Failure as failure:
				problem = problem or failure
		left = reap_orphans()
		if problem and not failed:
			raise problem
		if left and not failed:
			raise Failure("left running: %s" % ", ".join(left))
		if not failed:
			self._check_figures()

	def figures(self):
		stats = []
		for proc in self.procs:
			if proc.lane:
				stats += parse_stats(proc.err())
		return stats

	def _check_figures(self):
		stats = self.figures()
		for prog, share, least, pids in self.expected:
			mine = [s for s in stats if s["prog"].startswith(prog[:15]) and (pids is None or s["pid"] in pids)]
			if not self.both:
				ring = sum(amount(s, "ring") for s in mine)
				self.check(ring == 0, "%s: %d bytes by ring although the other side cannot or must not" % (prog, ring))
				continue
			self.check(mine, "%s printed no figures (--stats)" % prog)
			ring, kernel = sum(amount(s, "ring") for s in mine), sum(amount(s, "kernel") for s in mine)
			reasons = "; ".join(sorted({f for s in mine for f in s["fallbacks"]})) or "none given"
			self.check(ring >= least and ring >= share * (ring + kernel),
				"%s: %d bytes by ring, %d by kernel; wanted a share of %g; reasons: %s" % (prog, ring, kernel, share, reasons))

	def dump(self):
		"""Ends of the logs, for the diagnosis of a failure."""
		lines = list(self.notes)
		for proc in self.procs:
			text = tail(proc.err(), 12)
			if text:
				lines.append("--- stderr of %s (pid %d)" % (proc.name, proc.pid))
				lines += text.splitlines()
		return lines if len(lines) <= MOST_LINES else lines[:MOST_LINES] + ["... %d lines more" % (len(lines) - MOST_LINES)]

	def remove(self):
		shutil.rmtree(self.dir, ignore_errors=True)


def amount(stats, lane):
	return stats.get("tx_%s_bytes" % lane, 0) + stats.get("rx_%s_bytes" % lane, 0)


def tail(text, lines=6):
	return "\n".join(text.strip().splitlines()[-lines:])


def short(value, limit=300):
	text = repr(value)
	return text if len(text) <= limit else text[:limit] + "... (%d)" % len(text)


def children(pid):
	try:
		with open("/proc/%d/task/%d/children" % (pid, pid)) as f:
			return [int(p) for p in f.read().split()]
	except OSError:
		return []


def family(pid):
	found = [pid]
	for child in children(pid):
		found += family(child)
	return found


def where(pid):
	answer = []
	for name in ("wchan", "syscall"):
		try:
			with open("/proc/%d/%s" % (pid, name)) as f:
				answer.append(f.read().strip()[:80])
		except OSError:
			answer.append("?")
	return " ".join(answer)


def reap_orphans():
	"""Children that we did not start are left over by programs that we did: give them a moment, then end and name them."""
	def gone():
		while True:
			try:
				if os.waitpid(-1, os.WNOHANG)[0] == 0:
					break
			except ChildProcessError:
				break
		return not children(os.getpid())

	try:
		until(gone, STOP_DEADLINE, "leftovers")
		return []
	except Failure:
		left = []
		for pid in children(os.getpid()):
			left.append("%d (%s)" % (pid, " ".join(cmdline(pid))[:100]))
			os.kill(pid, signal.SIGKILL)
		until(gone, STOP_DEADLINE, "killed leftovers")
		return left


def cmdline(pid):
	try:
		with open("/proc/%d/cmdline" % pid) as f:
			return f.read().split("\0")
	except OSError:
		return ["?"]


def run_once(entry, variant):
	"""Runs one test in one variant. Returns None or (what went wrong, diagnosis lines)."""
	bench = Bench(variant)
	try:
		try:
			entry["run"](bench)
		except BaseException:
			bench.finish(failed=True)
			raise
		bench.finish(failed=False)
		return None
	except Skip:
		raise
	except Exception as problem:
		text = str(problem) if isinstance(problem, Failure) else "%s: %s" % (type(problem).__name__, problem)
		return text, bench.dump()
	finally:
		bench.remove()


def say(text):
	sys.stdout.write(text + "\n")
	sys.stdout.flush()
