# SPDX-License-Identifier: MIT
"""Returns each line of its standard input, by way of Python's buffers."""

import sys

for line in sys.stdin.buffer:
	sys.stdout.buffer.write(line)
	sys.stdout.buffer.flush()
