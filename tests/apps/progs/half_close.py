# SPDX-License-Identifier: MIT
"""Fifty clients send, shut their side and read the echo; the server polls for both ways. half_close.py tcp|unix. Prints ok."""

import os
import select
import socket
import sys

KIND = sys.argv[1]
BLOCK, BLOCKS, CLIENTS = 8192, 6, 50


def listen():
	if KIND == "tcp":
		return socket.create_server(("127.0.0.1", 0))
	listener = socket.socket(socket.AF_UNIX)
	listener.bind("\0half-close-%d" % os.getpid())
	listener.listen()
	return listener


def wait(sock, events):
	poll = select.poll()
	poll.register(sock, events)
	if not poll.poll(10000):
		raise SystemExit("nothing for 10 s")


def client(address):
	sock = socket.socket(socket.AF_INET if KIND == "tcp" else socket.AF_UNIX)
	sock.connect(address)
	for _ in range(BLOCKS):
		sock.sendall(b"x" * BLOCK)
	sock.shutdown(socket.SHUT_WR)
	got = 0
	while True:
		wait(sock, select.POLLIN)
		data = sock.recv(BLOCK)
		if not data:
			break
		got += len(data)
	if got != BLOCK * BLOCKS:
		raise SystemExit("the echo ended after %d bytes" % got)


def main():
	listener = listen()
	for _ in range(CLIENTS):
		pid = os.fork()
		if pid == 0:
			client(listener.getsockname())
			os._exit(0)
		sock, _ = listener.accept()
		while True:
			wait(sock, select.POLLIN | select.POLLOUT)
			data = sock.recv(BLOCK)
			if not data:
				break
			sock.sendall(data)
		sock.close()
		if os.waitpid(pid, 0)[1]:
			raise SystemExit("a client failed")
	print("ok")


main()
