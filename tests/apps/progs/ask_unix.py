# SPDX-License-Identifier: MIT
"""ask_unix.py PATH LINE: sends one line to a socket file and prints all that comes back."""

import socket
import sys

with socket.socket(socket.AF_UNIX) as s:
	s.settimeout(10)
	s.connect(sys.argv[1])
	s.sendall(sys.argv[2].encode() + b"\n")
	while True:
		part = s.recv(65536)
		if not part:
			break
		sys.stdout.write(part.decode(errors="replace"))
