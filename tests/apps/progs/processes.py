# SPDX-License-Identifier: MIT
"""multiprocessing over sockets: connections, a manager, a pool, descriptors passed to another process. processes.py WHICH DIRECTORY"""

import multiprocessing as mp
import multiprocessing.connection as connection
import multiprocessing.managers as managers
import multiprocessing.reduction as reduction
import os
import socket
import sys


def bounce(address, family):
	with connection.Client(address, family=family, authkey=b"nest") as peer:
		while True:
			item = peer.recv()
			if item is None:
				return
			peer.send(item)


def connections(directory):
	for family, address in (("AF_INET", ("127.0.0.1", 0)), ("AF_UNIX", directory + "/connection.sock")):
		with connection.Listener(address, family=family, authkey=b"nest", backlog=5) as listener:
			child = mp.Process(target=bounce, args=(listener.address, family))
			child.start()
			with listener.accept() as peer:
				for item in [*range(500), b"x" * 3000000, {"a": [1, 2, 3]}]:
					peer.send(item)
					assert peer.poll(20) and peer.recv() == item
				peer.send(None)
			child.join(20)
			assert child.exitcode == 0, child.exitcode


def duplex(directory):
	"""Pipe(duplex) is a socketpair, here across fork."""
	ours, theirs = mp.Pipe()
	pid = os.fork()
	if pid == 0:
		ours.close()
		while (item := theirs.recv()) is not None:
			theirs.send(item * 2)
		os._exit(0)
	theirs.close()
	for i in range(2000):
		ours.send(i)
		assert ours.recv() == 2 * i
	ours.send(None)
	assert os.waitpid(pid, 0)[1] == 0
	try:
		ours.recv()
		raise SystemExit("no end of file")
	except EOFError:
		pass


class Counter:
	def __init__(self):
		self.value = 0

	def add(self, amount):
		self.value += amount
		return self.value


class CounterManager(managers.BaseManager):
	pass


CounterManager.register("Counter", Counter)


def count(counter, times):
	for _ in range(times):
		counter.add(1)


def manager(directory):
	for address in (("127.0.0.1", 0), None):
		with CounterManager(address, authkey=b"nest") as shared:
			counter = shared.Counter()
			children = [mp.Process(target=count, args=(counter, 100)) for _ in range(3)]
			for child in children:
				child.start()
			for child in children:
				child.join(20)
			assert counter.add(0) == 300


def square(x):
	return x * x


def pool(directory):
	for method in ("fork", "spawn", "forkserver"):
		with mp.get_context(method).Pool(2) as workers:
			assert workers.map(square, range(200)) == [x * x for x in range(200)]


def take(channel):
	sock = channel.recv()
	data = sock.recv(100)
	sock.sendall(b"taken " + data)
	sock.close()


def passing(directory):
	"""A connected socket travels to a child over SCM_RIGHTS and is used there."""
	ours, theirs = mp.Pipe()
	child = mp.Process(target=take, args=(theirs,))
	child.start()
	with socket.create_server(("127.0.0.1", 0)) as listener:
		client = socket.create_connection(listener.getsockname())
		server, _ = listener.accept()
	client.settimeout(20)
	for i in range(200):
		client.sendall(b"warm")
		assert server.recv(4) == b"warm"
	ours.send(server)
	client.sendall(b"egg")
	answer = client.recv(100)
	assert answer == b"taken egg", answer
	child.join(20)
	server.close()
	assert client.recv(1) == b""


if __name__ == "__main__":
	{"connections": connections, "duplex": duplex, "manager": manager, "pool": pool, "passing": passing}[sys.argv[1]](sys.argv[2])
	print("ok")
