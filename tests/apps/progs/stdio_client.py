# SPDX-License-Identifier: MIT
"""Lines to a program that returns them: in turns, all at once, and a megabyte before anybody reads. stdio_client.py tcp PORT|unix PATH"""

import socket
import sys
import threading

kind, where = sys.argv[1:]
MEGABYTE = b"".join(b"line %d of a megabyte\n" % i for i in range(37000))


def dial():
	sock = socket.socket(socket.AF_INET if kind == "tcp" else socket.AF_UNIX)
	sock.settimeout(20)
	sock.connect(("127.0.0.1", int(where)) if kind == "tcp" else where)
	return sock


def read_all(sock):
	parts = []
	while True:
		part = sock.recv(1 << 16)
		if not part:
			return b"".join(parts)
		parts.append(part)


def rest(sock, data):
	"""Sends it and ends, while all that comes is read."""
	def send():
		sock.sendall(data)
		sock.shutdown(socket.SHUT_WR)
	sender = threading.Thread(target=send)
	sender.start()
	got = read_all(sock)
	sender.join()
	return got


def in_turns(sock):
	lines = sock.makefile("rb")
	for i in range(100):
		line = b"%d %s\n" % (i, b"x" * (i * 7))
		sock.sendall(line)
		got = lines.readline()
		if got != line:
			raise ValueError("sent %r, got %r" % (line[:50], got[:50]))
	got = rest(sock, MEGABYTE)
	if got != MEGABYTE:
		raise ValueError("after the turns %d bytes came back, equal or not" % len(got))


def early(sock):
	sent = 0
	sock.setblocking(False)
	try:
		while sent < len(MEGABYTE):
			sent += sock.send(MEGABYTE[sent:sent + 65536])
	except BlockingIOError:
		pass
	sock.settimeout(20)
	got = rest(sock, MEGABYTE[sent:])
	if got != MEGABYTE:
		raise ValueError("sent early: %d bytes came back, equal or not" % len(got))


for conversation in (early, in_turns, early):
	with dial() as sock:
		conversation(sock)
print("ok")
