# SPDX-License-Identifier: MIT
"""mosquitto: a broker in one thread with poll or epoll, clients that wait for messages; TCP and a socket file."""

import os

from lib import free_port, listening, test, until

NEEDS = ("mosquitto", "mosquitto_pub", "mosquitto_sub")


class Broker:
	def __init__(self, bench):
		self.bench, self.port = bench, free_port()
		self.path = bench.path("mq.sock")
		with open(bench.path("mosquitto.conf"), "w") as f:
			f.write("log_dest stderr\nlog_type all\nlistener %d 127.0.0.1\nallow_anonymous true\nlistener 0 %s\nallow_anonymous true\npersistence false\nmax_queued_messages 0\n%s" % (
				self.port, self.path, "user root\n" if os.geteuid() == 0 else ""))
		self.proc = bench.serve(["mosquitto", "-c", bench.path("mosquitto.conf")], lambda: listening(self.port)() and os.path.exists(self.path))
		self.reach = {"tcp": ["-h", "127.0.0.1", "-p", str(self.port)], "unix": ["--unix", self.path]}

	def subscriber(self, way, topic, qos, *extra):
		before = self.subscriptions()
		proc = self.bench.spawn(["mosquitto_sub", *self.reach[way], "-t", topic, "-q", qos, "-W", "20", *extra])
		until(lambda: self.subscriptions() > before, 10, "the subscription")
		return proc

	def subscriptions(self):
		return self.proc.err().count("Sending SUBACK")

	def stop(self):
		self.bench.equal(self.proc.stop(), 0, "exit status of mosquitto")


def heard(proc, mark):
	return [w for w in proc.out().decode(errors="replace").splitlines() if w.startswith(mark)]


@test("three subscribers hear 500 messages in order, at each quality of service", needs=NEEDS)
def order(bench):
	broker = Broker(bench)
	for qos in ("0", "1", "2"):
		listeners = [broker.subscriber(way, "nest/" + qos, qos, "-C", "500") for way in ("tcp", "unix", "tcp")]
		lines = "".join("item-%d\n" % i for i in range(500))
		bench.run(["mosquitto_pub", *broker.reach["tcp"], "-t", "nest/" + qos, "-q", qos, "-l"], data=lines.encode())
		for proc in listeners:
			bench.equal(proc.wait(), 0, "exit status of a subscriber")
			bench.equal(heard(proc, "item-"), lines.split(), "messages heard")
	broker.stop()
	for name in ("mosquitto", "mosquitto_pub", "mosquitto_sub") if bench.both else ():  # a client wakes itself by a pair of sockets
		bench.expect_ring(name, share=0.5)


@test("a message of 3 MB arrives whole", needs=NEEDS)
def large(bench):
	broker = Broker(bench)
	for way, other in (("tcp", "unix"), ("unix", "tcp")):
		listener = broker.subscriber(way, "nest/large", "1", "-C", "1")
		text = ("item-" + "".join("%06x" % (i * 7919) for i in range(1 << 19))).encode()
		bench.run(["mosquitto_pub", *broker.reach[other], "-t", "nest/large", "-q", "1", "-s"], data=text)
		bench.equal(listener.wait(), 0, "exit status of the subscriber")
		bench.check(heard(listener, "item-") == [text.decode()], "the message is another one over " + way)
	broker.stop()


@test("a subscriber that is killed leaves its will", needs=NEEDS, variants=("auto", "ring"))
def will(bench):
	broker = Broker(bench)
	listener = broker.subscriber("tcp", "will", "1", "-C", "1")
	mortal = broker.subscriber("tcp", "nest", "0", "--will-topic", "will", "--will-payload", "item-egg")
	mortal.popen.kill()
	mortal.wait()
	bench.equal(listener.wait(), 0, "exit status of the heir")
	bench.equal(heard(listener, "item-"), ["item-egg"], "the will")
	broker.stop()
