# SPDX-License-Identifier: MIT
"""A group of listeners on one port (SO_REUSEPORT), each in a process of its own; then one leaves. Usage: reuseport.py PORT

Prints who answered how many callers, as "A:100 B:98 ...", first of four members, then of three.
"""

import collections
import os
import signal
import socket
import sys

MEMBERS, CALLERS, QUESTIONS = 4, 200, 60


def serve(listener, name):
	while True:
		caller, _ = listener.accept()
		while caller.recv(1):
			caller.send(name)
		caller.close()


def member(port, name):
	ready, tell = os.pipe()
	child = os.fork()
	if child == 0:
		listener = socket.socket()
		listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
		listener.bind(("127.0.0.1", port))
		listener.listen(64)
		os.write(tell, b".")
		serve(listener, name)
	os.read(ready, 1)
	os.close(ready)
	os.close(tell)
	return child


def ask(port):
	with socket.create_connection(("127.0.0.1", port), 10) as s:
		answers = set()
		for _ in range(QUESTIONS):
			s.send(b"?")
			answers.add(s.recv(1).decode())
		return answers.pop() if len(answers) == 1 else "?"


def main():
	port = int(sys.argv[1])
	names = [b"ABCD"[i:i + 1] for i in range(MEMBERS)]
	children = [member(port, name) for name in names]
	for left in (children, children[:-1]):
		for child in set(children) - set(left):
			os.kill(child, signal.SIGKILL)
			os.waitpid(child, 0)
		answers = collections.Counter(ask(port) for _ in range(CALLERS))
		print(" ".join("%s:%d" % pair for pair in sorted(answers.items())))
	for child in children[:-1]:
		os.kill(child, signal.SIGKILL)


main()
