# SPDX-License-Identifier: MIT
"""A WSGI application: /size/N gives N bytes of a pattern, POST gives the checksum of what it took, anything else is not found."""

import hashlib


def application(environ, start):
	path = environ.get("PATH_INFO", "")
	if environ["REQUEST_METHOD"] == "POST":
		digest = hashlib.sha256()
		left = int(environ.get("CONTENT_LENGTH") or 0)
		while left > 0:
			part = environ["wsgi.input"].read(min(left, 65536))
			if not part:
				break
			left -= len(part)
			digest.update(part)
		body = digest.hexdigest().encode()
	elif path.startswith("/size/"):
		body = (b"0123456789abcdef" * (int(path[6:]) // 16 + 1))[:int(path[6:])]
	else:
		start("404 Not Found", [("Content-Length", "0")])
		return [b""]
	start("200 OK", [("Content-Length", str(len(body)))])
	return [body]
