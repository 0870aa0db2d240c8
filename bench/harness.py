# SPDX-License-Identifier: MIT
"""What a real program needs to be measured: a directory, servers that are ready, clients with a deadline, figures at the end."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "apps"))

from lib import GNEZDO, Failure, Skip, find_program, parse_stats, tail, until, without_stats  # noqa: E402

SIDES = ("kernel", "gnezdo")
READY_DEADLINE = 30
PATIENCE = 30  # seconds that a client may take beyond its measuring time
STOP_DEADLINE = 10


class Arena:
	"""One side's processes and files."""

	def __init__(self, side):
		self.side = side
		self.dir = tempfile.mkdtemp(prefix="gnezdo-bench-")
		os.chmod(self.dir, 0o755)
		self.running = []  # (Popen, the signal that stops it)
		self.outputs = []  # files with the stderr of everything that ran

	def path(self, name):
		return os.path.join(self.dir, name)

	def _start(self, words, user, stdout, plain=False):
		program = find_program(words[0])
		if not program:
			raise Skip("not installed: " + words[0])
		words = [program] + [str(word) for word in words[1:]]
		if self.side == "gnezdo" and not plain:
			words = [GNEZDO, "run", "--stats", "--"] + words
		if user:
			words = ["setpriv", "--reuid", user, "--regid", str(pwd.getpwnam(user).pw_gid), "--init-groups", "--"] + words
		self.outputs.append(self.path("err%d" % len(self.outputs)))
		with open(self.outputs[-1], "wb") as err:
			return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=stdout, stderr=err, cwd=self.dir, start_new_session=True)

	def serve(self, words, ready, user=None, stop=signal.SIGTERM):
		"""Starts a server and waits until ready()."""
		with open(self.path("out%d" % len(self.outputs)), "wb") as out:
			process = self._start(words, user, out)
		self.running.append((process, stop))

		def ready_or_dead():
			if process.poll() is not None:
				raise Failure("%s ended with %d at its start: %s" % (words[0], process.returncode, self._last_words()))
			return ready()
		until(ready_or_dead, READY_DEADLINE, "%s to be ready" % words[0])

	def _last_words(self):
		with open(self.outputs[-1], errors="replace") as f:
			return tail(without_stats(f.read()))

	def client(self, words, seconds, user=None, plain=False):
		"""Runs a client to its end and returns what it printed. `plain`: never under gnezdo, whichever side this is."""
		process = self._start(words, user, subprocess.PIPE, plain)
		self.running.append((process, signal.SIGTERM))
		try:
			out, _ = process.communicate(timeout=seconds + PATIENCE)
		except subprocess.TimeoutExpired:
			raise Failure("%s did not end in %d s" % (words[0], seconds + PATIENCE))
		self.running.remove((process, signal.SIGTERM))
		if process.returncode:
			said = self._last_words() or out.decode(errors="replace")[-200:]
			raise Failure("%s ended with %d: %s" % (words[0], process.returncode, said))
		return out.decode(errors="replace")

	def stop(self):
		"""Ends what still runs, the youngest first; whatever has to be killed is a failure."""
		stubborn = None
		while self.running:
			process, stop = self.running.pop()
			process.send_signal(stop)
			try:
				process.wait(STOP_DEADLINE)
			except subprocess.TimeoutExpired:
				stubborn = process.args[-1]
			# A session of its own, so a server's children go with it.
			try:
				os.killpg(process.pid, signal.SIGKILL)
			except (ProcessLookupError, PermissionError):
				pass
			process.wait()
		if stubborn:
			raise Failure("%s did not stop when told to" % stubborn)

	def remove(self):
		try:
			self.stop()
		except Failure:
			pass
		shutil.rmtree(self.dir, ignore_errors=True)

	def ring_share(self):
		"""Part of the bytes sent by all processes of this side that went by the ring; None when nothing was told."""
		ring = kernel = 0
		for path in self.outputs:
			with open(path, errors="replace") as f:
				for process in parse_stats(f.read()):
					ring += process.get("tx_ring_bytes", 0)
					kernel += process.get("tx_kernel_bytes", 0)
		return ring / (ring + kernel) if ring + kernel else None
