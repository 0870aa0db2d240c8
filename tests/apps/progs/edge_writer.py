# SPDX-License-Identifier: MIT
"""Writes 20 MB from an edge-triggered epoll loop to a child that reads non-blocking under poll. Prints ok."""

import os
import select
import socket

TOTAL, ROUNDS = 20_000_000, 3


def write(sock):
	sock.setblocking(False)
	left, block = TOTAL, b"x" * 65536
	with select.epoll() as epoll:
		epoll.register(sock, select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET)
		while left:
			try:
				left -= sock.send(block[:left])
			except BlockingIOError:
				if not epoll.poll(10):
					raise SystemExit("the writer waits for room for ever, %d bytes left" % left)


def read(address):
	with socket.create_connection(address) as sock:
		sock.send(b"go")
		sock.setblocking(False)
		poll, got = select.poll(), 0
		poll.register(sock, select.POLLIN)
		while True:
			try:
				data = sock.recv(16384)
			except BlockingIOError:
				if not poll.poll(15000):
					raise SystemExit("the reader waits for data for ever after %d" % got)
				continue
			if not data:
				break
			got += len(data)
	os._exit(got != TOTAL)


with socket.create_server(("127.0.0.1", 0)) as listener:
	for _ in range(ROUNDS):
		pid = os.fork()
		if pid == 0:
			read(listener.getsockname())
		server, _ = listener.accept()
		with server:
			server.recv(10)
			write(server)
		if os.waitpid(pid, 0)[1]:
			raise SystemExit("the reader failed")
print("ok")
