/* SPDX-License-Identifier: MIT */
/* The workloads of `gnezdo bench`, in the order in which they are shown. */
#include "cli/measure.h"

#include <string.h>

#define RTT .server = rtt_server, .client = rtt_client, .message = 64, .connections = 1
#define EPOLL .server = epoll_server, .client = epoll_client, .message = 64
#define STREAM(bytes) .server = stream_sink, .client = stream_source, .message = (bytes), .connections = 1
#define CONNECT .server = connect_server, .client = connect_client, .message = 1, .connections = 1, .cold = true

const struct workload workloads[] = {
	{ "rtt-tcp", "64 B there and back, 127.0.0.1", VIA_TCP, UNIT_LATENCY, PIN_EACH, RTT, .pairs = 1 },
	{ "rtt-unix", "the same over AF_UNIX", VIA_UNIX, UNIT_LATENCY, PIN_EACH, RTT, .pairs = 1 },
	{ "rtt-tcp-epoll", "TCP, non-blocking, epoll on both sides", VIA_TCP, UNIT_LATENCY, PIN_EACH, EPOLL, .pairs = 1,
	  .connections = 1 },
	{ "rtt-tcp-1core", "TCP, both processes on one core", VIA_TCP, UNIT_LATENCY, PIN_TOGETHER, RTT, .pairs = 1 },
	{ "rtt-udp", "64 B datagrams, both sides connected", VIA_UDP, UNIT_LATENCY, PIN_EACH, RTT, .pairs = 1 },
	{ "rtt-unix-dgram", "the same over AF_UNIX", VIA_UNIX_DGRAM, UNIT_LATENCY, PIN_EACH, RTT, .pairs = 1 },
	{ "rtt-seqpacket", "AF_UNIX seqpacket", VIA_UNIX_SEQPACKET, UNIT_LATENCY, PIN_EACH, RTT, .pairs = 1 },
	{ "stream-64", "one way, writes of 64 B, TCP", VIA_TCP, UNIT_MESSAGES, PIN_EACH, STREAM(64), .pairs = 1 },
	{ "stream-64k", "one way, writes of 64 KiB, TCP", VIA_TCP, UNIT_BYTES, PIN_EACH, STREAM(65536), .pairs = 1 },
	{ "stream-64k-unix", "the same over AF_UNIX", VIA_UNIX, UNIT_BYTES, PIN_EACH, STREAM(65536), .pairs = 1 },
	{ "connect", "connect, 1 B there and back, close; TCP", VIA_TCP, UNIT_CONNECTIONS, PIN_EACH, CONNECT, .pairs = 1 },
	{ "connect-unix", "the same over AF_UNIX", VIA_UNIX, UNIT_CONNECTIONS, PIN_EACH, CONNECT, .pairs = 1 },
	{ "rtt-tcp-8", "4 pairs of processes, not pinned", VIA_TCP, UNIT_ROUND_TRIPS, PIN_NONE, RTT, .pairs = 4 },
	{ "stream-8", "4 pairs one way, writes of 4 KiB", VIA_TCP, UNIT_BYTES, PIN_NONE, STREAM(4096), .pairs = 4 },
	{ "epoll-server-50", "one server, 50 connections, epoll", VIA_TCP, UNIT_ROUND_TRIPS, PIN_NONE, EPOLL, .pairs = 1,
	  .connections = 50 },
	{ "fork-server", "a child per client, 10 round trips each", VIA_TCP, UNIT_CONNECTIONS, PIN_NONE, .server = fork_server,
	  .client = fork_client, .message = 64, .connections = 1, .pairs = 1, .cold = true, .mortal = true },
};

const unsigned int workload_count = sizeof(workloads) / sizeof(workloads[0]);

const struct workload *workload_find(const char *name)
{
	for (unsigned int i = 0; i < workload_count; i++)
		if (!strcmp(workloads[i].name, name))
			return &workloads[i];
	return NULL;
}
