# SPDX-License-Identifier: MIT
"""Ten threads, each with a connection of its own, send lines and expect them in capitals. line_clients.py tcp PORT|unix PATH"""

import socket
import sys
import threading

kind, where = sys.argv[1:]
failures = []


def client(number):
	try:
		if kind == "tcp":
			sock = socket.create_connection(("127.0.0.1", int(where)))
		else:
			sock = socket.socket(socket.AF_UNIX)
			sock.connect(where)
		sock.settimeout(20)
		with sock, sock.makefile("rb") as lines:
			for i in range(300):
				line = b"client %d, line %d %s\n" % (number, i, b"x" * (i % 50) * (i % 50))
				sock.sendall(line)
				got = lines.readline()
				if got != line.upper():
					raise ValueError("sent %r, got %r" % (line[:50], got[:50]))
			sock.shutdown(socket.SHUT_WR)
			if lines.read() != b"":
				raise ValueError("something after the end")
	except Exception as problem:
		failures.append("client %d: %r" % (number, problem))


threads = [threading.Thread(target=client, args=(i,)) for i in range(10)]
for thread in threads:
	thread.start()
for thread in threads:
	thread.join()
print("\n".join(failures) or "ok")
