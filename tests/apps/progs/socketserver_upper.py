# SPDX-License-Identifier: MIT
"""socketserver: answers each line in capitals, a thread or a child per client. socketserver_upper.py thread|fork tcp PORT|unix PATH"""

import signal
import socketserver
import sys


class Upper(socketserver.StreamRequestHandler):
	def handle(self):
		for line in self.rfile:
			self.wfile.write(line.upper())


def main(how, kind, where):
	mixin = {"thread": socketserver.ThreadingMixIn, "fork": socketserver.ForkingMixIn}[how]
	base = {"tcp": socketserver.TCPServer, "unix": socketserver.UnixStreamServer}[kind]
	server_class = type("Server", (mixin, base), {"allow_reuse_address": True, "request_queue_size": 64})

	def stop(*_):
		raise SystemExit(0)
	with server_class(("127.0.0.1", int(where)) if kind == "tcp" else where, Upper) as server:
		signal.signal(signal.SIGTERM, stop)
		server.serve_forever(poll_interval=0.1)


main(*sys.argv[1:])
