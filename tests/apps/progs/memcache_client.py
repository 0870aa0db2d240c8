# SPDX-License-Identifier: MIT
"""Speaks memcached's text protocol by hand: memcache_client.py tcp PORT|unix PATH|udp PORT COUNT. Prints ok."""

import os
import socket
import struct
import sys


class Stream:
	def __init__(self, kind, where):
		if kind == "tcp":
			self.sock = socket.create_connection(("127.0.0.1", int(where)))
			self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
		else:
			self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
			self.sock.connect(where)
		self.sock.settimeout(20)
		self.file = self.sock.makefile("rb")

	def ask(self, request, wanted):
		self.sock.sendall(request)
		got = b"".join(self.file.readline() for _ in range(wanted.count(b"\r\n"))) if len(wanted) < 4096 else self.file.read(len(wanted))
		if got != wanted:
			raise SystemExit("asked %r: got %r, wanted %r" % (request[:60], got[:60], wanted[:60]))


class Datagram:
	"""One datagram per request: request id, sequence number, datagrams in all, nothing; then the text."""

	def __init__(self, where):
		self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
		self.sock.settimeout(20)
		self.sock.connect(("127.0.0.1", int(where)))
		self.number = 0

	def ask(self, request, wanted):
		self.number = (self.number + 1) & 0xffff
		self.sock.send(struct.pack("!HHHH", self.number, 0, 1, 0) + request)
		got = self.sock.recv(65536)
		if got != struct.pack("!HHHH", self.number, 0, 1, 0) + wanted:
			raise SystemExit("asked %r: got %r" % (request[:60], got[:60]))


def conversation(peer, count):
	for i in range(count):
		key, value = b"k%d" % (i % 100), b"v" * (i % 900)
		peer.ask(b"set %s 7 0 %d\r\n%s\r\n" % (key, len(value), value), b"STORED\r\n")
		peer.ask(b"get %s\r\n" % key, b"VALUE %s 7 %d\r\n%s\r\nEND\r\n" % (key, len(value), value))
	peer.ask(b"get absent\r\n", b"END\r\n")
	peer.ask(b"set n 0 0 2\r\n41\r\n", b"STORED\r\n")
	peer.ask(b"incr n 1\r\n", b"42\r\n")
	peer.ask(b"delete n\r\n", b"DELETED\r\n")
	peer.ask(b"delete n\r\n", b"NOT_FOUND\r\n")
	peer.ask(b"add k1 0 0 1\r\nx\r\n", b"NOT_STORED\r\n")


def large(peer):
	value = os.urandom(10 << 20)
	peer.ask(b"set big 0 0 %d\r\n%s\r\n" % (len(value), value), b"STORED\r\n")
	for _ in range(3):
		peer.ask(b"get big\r\n", b"VALUE big 0 %d\r\n%s\r\nEND\r\n" % (len(value), value))


def main(kind, where, count):
	peer = Datagram(where) if kind == "udp" else Stream(kind, where)
	conversation(peer, int(count))
	if kind != "udp":
		large(peer)
	print("ok")


main(*sys.argv[1:])
