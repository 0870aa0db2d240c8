# SPDX-License-Identifier: MIT
"""http.server that answers GET from a directory and PUT with the checksum of the body. upload_server.py ADDRESS PORT DIRECTORY"""

import functools
import hashlib
import http.server
import signal
import socket
import sys


class Handler(http.server.SimpleHTTPRequestHandler):
	protocol_version = "HTTP/1.1"

	def do_PUT(self):
		digest, left = hashlib.sha256(), int(self.headers["Content-Length"])
		while left:
			block = self.rfile.read(min(left, 65536))
			if not block:
				return
			digest.update(block)
			left -= len(block)
		answer = digest.hexdigest().encode()
		self.send_response(201)
		self.send_header("Content-Length", str(len(answer)))
		self.end_headers()
		self.wfile.write(answer)


class Server(http.server.ThreadingHTTPServer):
	address_family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET


def stop(*_):
	raise SystemExit(0)


with Server((sys.argv[1], int(sys.argv[2])), functools.partial(Handler, directory=sys.argv[3])) as server:
	signal.signal(signal.SIGTERM, stop)
	server.serve_forever(poll_interval=0.1)
