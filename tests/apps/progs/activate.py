# SPDX-License-Identifier: MIT
"""Listens on a port and a path and becomes the program that serves them: LISTEN_FDS as sd_listen_fds(3). activate.py PORT PATH COMMAND..."""

import os
import socket
import sys

listeners = [socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=50), socket.socket(socket.AF_UNIX)]
listeners[1].bind(sys.argv[2])
listeners[1].listen(50)
for number, listener in enumerate(listeners):
	fd = listener.detach()
	os.dup2(fd, 20 + number)  # out of the way of 3 and 4 first
	os.close(fd)
for number in range(len(listeners)):
	os.dup2(20 + number, 3 + number)
	os.close(20 + number)
os.environ.update(LISTEN_FDS=str(len(listeners)), LISTEN_PID=str(os.getpid()))
os.execvp(sys.argv[3], sys.argv[3:])
