# SPDX-License-Identifier: MIT
"""victim.py KIND: echoes to all callers of 127.0.0.1. KIND: epoll, poll (one thread), threads (blocking calls), udp, udp-poll. Prints its port."""

import select
import selectors
import socket
import sys
import threading


def serve_blocking(connection):
	try:
		while True:
			data = connection.recv(65536)
			if not data:
				break
			connection.sendall(data)
	except OSError:
		pass
	connection.close()


def serve_threads(listener):
	while True:
		threading.Thread(target=serve_blocking, args=(listener.accept()[0],), daemon=True).start()


class Echo:
	"""One connection; what cannot be sent now waits."""

	def __init__(self, connection):
		connection.setblocking(False)
		self.connection, self.left = connection, b""

	def go_on(self):
		"""False: it is over."""
		try:
			if self.left:
				self.left = self.left[self.connection.send(self.left):]
			else:
				self.left = self.connection.recv(65536)
				if not self.left:
					return False
				self.left = self.left[self.connection.send(self.left):]
		except BlockingIOError:
			pass
		except OSError:
			return False
		return True


def serve_events(listener, selector):
	listener.setblocking(False)
	selector.register(listener, selectors.EVENT_READ)
	while True:
		for key, _ in selector.select():
			if key.fileobj is listener:
				try:
					echo = Echo(listener.accept()[0])
				except OSError:
					continue
				selector.register(echo.connection, selectors.EVENT_READ, echo)
			elif key.data.go_on():
				selector.modify(key.fileobj, selectors.EVENT_WRITE if key.data.left else selectors.EVENT_READ, key.data)
			else:
				selector.unregister(key.fileobj)
				key.fileobj.close()


if sys.argv[1].startswith("udp"):
	server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
	server.bind(("127.0.0.1", 0))
	print(server.getsockname()[1], flush=True)
	while True:
		if sys.argv[1] == "udp-poll":
			select.select([server], [], [])
		data, whence = server.recvfrom(65536)
		try:
			server.sendto(data, whence)
		except OSError:
			pass  # it has gone

listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", int(sys.argv[2]) if len(sys.argv) > 2 else 0))
listener.listen(64)
print(listener.getsockname()[1], flush=True)
if sys.argv[1] == "threads":
	serve_threads(listener)
else:
	serve_events(listener, selectors.EpollSelector() if sys.argv[1] == "epoll" else selectors.PollSelector())
