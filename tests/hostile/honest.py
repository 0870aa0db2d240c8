# SPDX-License-Identifier: MIT
"""honest.py PORT [PAUSE [udp]]: has a connection. For each line "old" or "new" on stdin it echoes 200 messages of its own over that one, or a new one, and
prints how many milliseconds that took, or what was wrong."""

import os
import socket
import sys
import time


def caller():
	if "udp" in sys.argv:
		connection = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
		connection.connect(("127.0.0.1", int(sys.argv[1])))
	else:
		connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=10)
	connection.settimeout(10)
	return connection


def answer(connection, said):
	heard = b""
	connection.sendall(said)
	while len(heard) < len(said):
		part = connection.recv(len(said) - len(heard))
		if not part:
			raise OSError("the end")
		heard += part
	return heard


before = set()


def datagram_answer(connection, said):
	"""A queue that somebody else has filled loses datagrams: once more, which costs a good part of the time that is allowed."""
	connection.settimeout(1)
	before.add(said)
	for _ in range(10):
		try:
			heard = answer(connection, said)
			while heard != said and heard in before:  # one that was late, not lost
				heard = connection.recv(len(said))
			return heard
		except TimeoutError:
			pass
	raise OSError("no answer")


def chat(connection, rounds=200, pause=0):
	for _ in range(rounds):
		said = os.urandom(32)
		heard = (datagram_answer if "udp" in sys.argv else answer)(connection, said)
		if heard != said:
			raise OSError("somebody else's data")
		if pause:
			time.sleep(pause)  # between sleeps of ours there is time for whoever lies


slowly = float(sys.argv[2]) if len(sys.argv) > 2 else 0
old = caller()
chat(old)
print("ready", flush=True)
for line in sys.stdin:
	begin = time.monotonic()
	try:
		if line.strip() == "old":
			chat(old, pause=slowly)
		else:
			with caller() as new:
				chat(new, pause=slowly)
		print("%d" % ((time.monotonic() - begin) * 1000), flush=True)
	except OSError as why:
		print("%s: %r" % (line.strip(), why), flush=True)
