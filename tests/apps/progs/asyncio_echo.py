# SPDX-License-Identifier: MIT
"""asyncio: an echo server of streams and 30 clients. asyncio_echo.py serve|talk tcp PORT|unix PATH"""

import asyncio
import hashlib
import signal
import sys


async def echo(reader, writer):
	while True:
		data = await reader.read(65536)
		if not data:
			break
		writer.write(data)
		await writer.drain()
	writer.write(b"bye")
	writer.close()


async def serve(kind, where):
	if kind == "tcp":
		server = await asyncio.start_server(echo, "127.0.0.1", int(where))
	else:
		server = await asyncio.start_unix_server(echo, where)
	stop = asyncio.Event()
	asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
	await stop.wait()
	server.close()
	await server.wait_closed()


async def client(kind, where, number):
	reader, writer = await (asyncio.open_connection("127.0.0.1", int(where)) if kind == "tcp" else asyncio.open_unix_connection(where))
	for i in range(200):
		line = b"%d:%d\n" % (number, i)
		writer.write(line)
		assert await asyncio.wait_for(reader.readexactly(len(line)), 20) == line
	block = hashlib.sha256(b"%d" % number).digest() * 8192
	writer.write(block)
	assert await asyncio.wait_for(reader.readexactly(len(block)), 20) == block
	writer.write_eof()
	assert await asyncio.wait_for(reader.read(), 20) == b"bye"
	writer.close()
	await writer.wait_closed()


async def talk(kind, where):
	await asyncio.gather(*(client(kind, where, i) for i in range(30)))
	print("ok")


asyncio.run({"serve": serve, "talk": talk}[sys.argv[1]](*sys.argv[2:]))
