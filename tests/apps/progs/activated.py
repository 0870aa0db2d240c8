# SPDX-License-Identifier: MIT
"""Serves the listeners that LISTEN_FDS counts, from descriptor 3 on, as sd_listen_fds(3) would. activated.py accept|epoll|children"""

import os
import select
import signal
import socket
import sys
import threading

if int(os.environ["LISTEN_PID"]) != os.getpid():
	sys.exit("these descriptors are for process " + os.environ["LISTEN_PID"])
listeners = [socket.socket(fileno=3 + i) for i in range(int(os.environ["LISTEN_FDS"]))]
for listener in listeners:
	if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
		sys.exit("not a listener: %r" % listener)


def echo(sock):
	with sock:
		while True:
			data = sock.recv(1 << 16)
			if not data:
				return
			sock.sendall(data)


def accept(listener):
	while True:
		threading.Thread(target=echo, args=(listener.accept()[0],), daemon=True).start()


def by_epoll():
	waiting = select.epoll()
	for listener in listeners:
		listener.setblocking(False)
		waiting.register(listener, select.EPOLLIN)
	known = {listener.fileno(): listener for listener in listeners}
	while True:
		for fd, _ in waiting.poll():
			try:
				sock = known[fd].accept()[0]
			except BlockingIOError:
				continue
			sock.setblocking(True)
			threading.Thread(target=echo, args=(sock,), daemon=True).start()


def by_threads():
	for listener in listeners:
		threading.Thread(target=accept, args=(listener,), daemon=True).start()
	signal.pause()


def stop(*_):
	sys.exit(0)


how = sys.argv[1]
if how == "children":
	for _ in range(2):
		if os.fork() == 0:
			signal.signal(signal.SIGTERM, stop)
			by_threads()
	def stop_all(*_):
		signal.signal(signal.SIGTERM, signal.SIG_IGN)
		os.killpg(0, signal.SIGTERM)
		for _ in range(2):
			os.wait()
		sys.exit(0)
	signal.signal(signal.SIGTERM, stop_all)
	signal.pause()
else:
	signal.signal(signal.SIGTERM, stop)
	by_epoll() if how == "epoll" else by_threads()
