# SPDX-License-Identifier: MIT
"""asyncio: datagrams there and back over UDP. asyncio_datagrams.py serve|talk PORT"""

import asyncio
import signal
import sys


class Echo(asyncio.DatagramProtocol):
	def connection_made(self, transport):
		self.transport = transport

	def datagram_received(self, data, address):
		self.transport.sendto(data, address)


class Client(asyncio.DatagramProtocol):
	def __init__(self):
		self.queue = asyncio.Queue()

	def datagram_received(self, data, address):
		self.queue.put_nowait(data)


async def serve(port):
	stop = asyncio.Event()
	loop = asyncio.get_running_loop()
	loop.add_signal_handler(signal.SIGTERM, stop.set)
	transport, _ = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", int(port)))
	await stop.wait()
	transport.close()


async def talk(port):
	transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(Client, remote_addr=("127.0.0.1", int(port)))
	for i in range(1000):
		data = b"%d" % i * (1 + i % 300)
		transport.sendto(data)
		assert await asyncio.wait_for(protocol.queue.get(), 20) == data
	transport.close()
	print("ok")


asyncio.run({"serve": serve, "talk": talk}[sys.argv[1]](*sys.argv[2:]))
