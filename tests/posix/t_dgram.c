/* SPDX-License-Identifier: MIT */
/* ring: yes */
/* Datagrams between two connected ends, and records of a seqpacket: borders, truncation, zero length, refusal, a full queue. */
#include "obs.h"

#define BOTH (DGRAM | SEQ)

static void borders(struct obs *o)
{
	peer_text(o, op_puts, 0, "one");
	peer_text(o, op_puts, 0, "two two");
	peer_text(o, op_puts, 0, "3");
	settle(o->fd);
	obs_recv(o->fd, 100, 0);
	obs_recv(o->fd, 100, 0);
	obs_recv(o->fd, 100, 0);
	obs_recv(o->fd, 100, MSG_DONTWAIT);
	obs("write", write(o->fd, "by write", 8));
	obs("peer recv", peer(o, op_recv, 100, 0));
	note("peer has %s", o->say);
}

static void truncation(struct obs *o)
{
	char buf[16] = { 0 };
	struct iovec v = { buf, 4 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };

	peer_text(o, op_puts, 0, "0123456789");
	peer_text(o, op_puts, 0, "next");
	settle(o->fd);
	obs_recv(o->fd, 4, 0);
	obs_recv(o->fd, 100, MSG_DONTWAIT);
	peer_text(o, op_puts, 0, "0123456789");
	settle(o->fd);
	obs_recv(o->fd, 4, MSG_TRUNC);
	obs_recv(o->fd, 100, MSG_DONTWAIT);
	peer_text(o, op_puts, 0, "0123456789");
	settle(o->fd);
	obs("recvmsg", recvmsg(o->fd, &m, 0));
	note("\"%.4s\" flags %x", buf, m.msg_flags);
	peer_text(o, op_puts, 0, "0123");
	settle(o->fd);
	obs("recvmsg exact", recvmsg(o->fd, &m, 0));
	note("flags %x", m.msg_flags);
	peer_text(o, op_puts, 0, "0123456789");
	settle(o->fd);
	obs("recvmsg TRUNC PEEK", recvmsg(o->fd, &m, MSG_TRUNC | MSG_PEEK));
	note("flags %x", m.msg_flags);
	obs("read 3", read(o->fd, buf, 3));
	obs("recv 0", recv(o->fd, buf, 0, MSG_DONTWAIT));
	peer_text(o, op_puts, 0, "thrown away whole");
	settle(o->fd);
	obs("recv 0", recv(o->fd, buf, 0, 0));
	obs_recv(o->fd, 100, MSG_DONTWAIT);
}

static void peek(struct obs *o)
{
	peer_text(o, op_puts, 0, "first");
	peer_text(o, op_puts, 0, "second");
	settle(o->fd);
	obs_recv(o->fd, 100, MSG_PEEK);
	obs_recv(o->fd, 2, MSG_PEEK);
	obs_recv(o->fd, 100, 0);
	obs_recv(o->fd, 100, MSG_PEEK);
	obs_recv(o->fd, 100, MSG_WAITALL);
	obs_recv(o->fd, 100, MSG_PEEK | MSG_DONTWAIT);
}

static void zero_length(struct obs *o)
{
	obs("send 0", send(o->fd, "", 0, 0));
	obs("send", send(o->fd, "x", 1, 0));
	obs("peer recv", peer(o, op_recv, 10, 0));
	obs("peer recv", peer(o, op_recv, 10, 0));
	obs("write 0", write(o->fd, "", 0));
	obs("peer recv", peer(o, op_recv, 10, MSG_DONTWAIT));
	peer_text(o, op_puts, 0, "");
	settle(o->fd);
	obs_poll(o->fd, POLLIN);
	obs_recv(o->fd, 10, MSG_PEEK);
	obs_recv(o->fd, 10, 0);
	obs_poll(o->fd, POLLIN);
	obs_recv(o->fd, 10, MSG_DONTWAIT);
}

static long op_recv_room(struct obs *o, long room, long b)
{
	char *buf = malloc((size_t)room);
	long rc = recv(o->fd, buf, (size_t)room, 0);

	(void)b;
	if (rc > 0)
		obs_say(o, "#%08x", checksum(buf, (size_t)rc));
	free(buf);
	return rc;
}

static void sizes(struct obs *o)
{
	static char buf[300000];
	static const long lens[] = { 1, 63, 64, 65, 1000, 1472, 1473, 4096, 9000, 16384, 40000, 65000, 65507, 65508, 65536, 100000 };
	char what[40];

	pattern(buf, sizeof(buf), 0, 9);
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		snprintf(what, sizeof(what), "send %ld", lens[i]);
		if (obs(what, send(o->fd, buf, (size_t)lens[i], 0)) < 0)
			continue;
		obs("peer recv", peer(o, op_recv_room, 300000, 0));
		note("as sent: %d", strtoul(o->say + 1, NULL, 16) == checksum(buf, (size_t)lens[i]));
	}
	/* a local message larger than the send buffer; the limit is the socket's own setting */
	setsockopt(o->fd, SOL_SOCKET, SO_SNDBUF, &(int){ 20000 }, sizeof(int));
	obs("send 200000", send(o->fd, buf, 200000, 0));
	obs_send(o->fd, "still fine", 0);
	obs("peer recv", peer(o, op_recv, 100, 0));
}

static void many_in_order(struct obs *o)
{
	char text[40];
	int wrong = 0;

	for (int round = 0; round < 100; round++) {
		for (int i = 0; i < 5; i++) {
			snprintf(text, sizeof(text), "message %d of round %d", i, round);
			if (send(o->fd, text, strlen(text), 0) < 0)
				obs("send", -1);
		}
		for (int i = 0; i < 5; i++) {
			char expect[44];

			snprintf(expect, sizeof(expect), "\"message %d of round %d\"", i, round);
			peer(o, op_recv, 100, 0);
			wrong += strcmp(expect, o->say) != 0;
		}
	}
	note("wrong: %d", wrong);
}

/* A blocked reader, then a burst. */
static void blocked_reader(struct obs *o)
{
	peer_start(o, op_recv, 100, 0);
	note("blocks: %d", peer_asleep(o));
	obs_send(o->fd, "wake", 0);
	obs_send(o->fd, "and another", 0);
	obs("peer recv", peer_done(o));
	note("peer has %s", o->say);
	obs("peer recv", peer(o, op_recv, 100, 0));
	note("peer has %s", o->say);
}

static void names_come_along(struct obs *o)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	struct obs_name peer_name = { .len = sizeof(peer_name.sa) };
	char buf[20];

	memset(&peer_name.sa, 0, sizeof(peer_name.sa));
	memset(&sa, 0xee, sizeof(sa));
	getpeername(o->fd, (struct sockaddr *)&peer_name.sa, &peer_name.len);
	peer_text(o, op_puts, 0, "hello");
	obs("recvfrom", recvfrom(o->fd, buf, sizeof(buf), 0, (struct sockaddr *)&sa, &len));
	obs_addr("from", &sa, len);
	if (o->kind != DGPAIR && !(o->kind & SEQ))
		note("the peer's: %d", len == peer_name.len && !memcmp(&sa, &peer_name.sa, len));
	peer_text(o, op_puts, 0, "hello");
	len = 3;
	memset(&sa, 0xee, sizeof(sa));
	obs("recvfrom with room 3", recvfrom(o->fd, buf, sizeof(buf), 0, (struct sockaddr *)&sa, &len));
	note("writes no more: %d", ((unsigned char *)&sa)[3] == 0xee);
}

static void peer_is_gone(struct obs *o)
{
	peer(o, op_close, 0, 0);
	obs_send(o->fd, "first", MSG_NOSIGNAL);
	obs_send(o->fd, "second", MSG_NOSIGNAL);
	obs_send(o->fd, "third", MSG_NOSIGNAL);
	obs_getopt("SO_ERROR", o->fd, SOL_SOCKET, SO_ERROR);
	obs_poll(o->fd, POLLIN | POLLOUT | POLLRDHUP);
	obs_recv(o->fd, 10, MSG_DONTWAIT);
	obs_recv(o->fd, 10, MSG_DONTWAIT);
}

static void peer_is_gone_reading(struct obs *o)
{
	peer_text(o, op_puts, 0, "legacy");
	peer(o, op_close, 0, 0);
	settle(o->fd);
	obs_poll(o->fd, POLLIN | POLLOUT | POLLRDHUP);
	obs_recv(o->fd, 100, MSG_DONTWAIT);
	obs_recv(o->fd, 100, MSG_DONTWAIT);
	obs_recv(o->fd, 100, MSG_DONTWAIT);
}

static void peer_left_unread(struct obs *o)
{
	obs_send(o->fd, "nobody reads", 0);
	peer(o, op_close, 0, 0);
	obs_poll(o->fd, POLLIN | POLLOUT | POLLRDHUP);
	obs_recv(o->fd, 100, MSG_DONTWAIT);
	obs_recv(o->fd, 100, MSG_DONTWAIT);
}

static void local_full_queue(struct obs *o)
{
	static char buf[1000];
	long sent = 0, got = 0;
	ssize_t rc;

	while ((rc = send(o->fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0)
		sent++;
	obs("send when full", rc);
	obs_poll(o->fd, POLLOUT);
	note("some went: %d", sent > 0);
	while (peer(o, op_recv, 2000, MSG_DONTWAIT) == 1000)
		got++;
	note("all came: %d", got == sent);
	obs_poll(o->fd, POLLOUT);
}

static long op_send_many(struct obs *o, long n, long size)
{
	static char buf[5000];
	long i;

	for (i = 0; i < n; i++) {
		pattern(buf, (size_t)size, (uint64_t)i, 3);
		if (send(o->fd, buf, (size_t)size, MSG_NOSIGNAL) != size)
			break;
	}
	return i;
}

static void local_full_queue_blocks(struct obs *o)
{
	static char buf[5000], expect[5000];
	int wrong = 0;

	peer_start(o, op_send_many, 3000, 1000);
	note("blocks: %d", peer_asleep(o));
	for (int i = 0; i < 3000; i++) {
		pattern(expect, 1000, (uint64_t)i, 3);
		wrong += recv(o->fd, buf, sizeof(buf), 0) != 1000 || memcmp(buf, expect, 1000);
	}
	obs("peer sent", peer_done(o));
	note("wrong: %d", wrong);
}

/* UDP throws away what does not fit; what comes is whole, in order, and not more than was sent. */
static void udp_drops(struct obs *o)
{
	static char buf[5000], expect[5000];
	long got = 0, at = 0, wrong = 0;
	ssize_t rc;

	obs("peer sends without blocking", peer(o, op_send_many, 5000, 1000));
	while ((rc = recv(o->fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0) {
		for (; at < 5000; at++) {
			pattern(expect, 1000, (uint64_t)at, 3);
			if (!memcmp(buf, expect, 1000))
				break;
		}
		wrong += rc != 1000 || at == 5000;
		at++;
		got++;
	}
	obs("then", rc);
	note("some came, some were dropped: %d, wrong: %ld", got > 10 && got < 5000, wrong);
	obs("afterwards", peer(o, op_send_many, 1, 1000));
	settle(o->fd);
	obs("recv", recv(o->fd, buf, sizeof(buf), 0));
}

static void shutdowns(struct obs *o)
{
	obs("shutdown 1", shutdown(o->fd, SHUT_WR));
	obs_send(o->fd, "x", MSG_NOSIGNAL);
	obs("peer recv", peer(o, op_recv, 10, MSG_DONTWAIT));
	obs("peer send", peer_text(o, op_puts, MSG_NOSIGNAL, "back"));
	settle(o->fd);
	obs_recv(o->fd, 10, MSG_DONTWAIT);
	obs("shutdown 0", shutdown(o->fd, SHUT_RD));
	obs_recv(o->fd, 10, MSG_DONTWAIT);
	obs("peer send", peer_text(o, op_puts, MSG_NOSIGNAL, "deaf"));
	obs_poll(o->fd, POLLIN | POLLOUT | POLLRDHUP);
}

static void several_at_once(struct obs *o)
{
	char bufs[4][8];
	struct iovec v[4];
	struct mmsghdr m[4];
	struct timespec zero = { 0 }, ages = { INT64_MAX, 0 };

	memset(m, 0, sizeof(m));
	for (int i = 0; i < 4; i++) {
		v[i] = (struct iovec){ bufs[i], (size_t)i + 2 };
		m[i].msg_hdr.msg_iov = &v[i];
		m[i].msg_hdr.msg_iovlen = 1;
		memset(bufs[i], 'a' + i, 8);
	}
	obs("sendmmsg", sendmmsg(o->fd, m, 4, 0));
	note("lengths %u %u %u %u", m[0].msg_len, m[1].msg_len, m[2].msg_len, m[3].msg_len);
	for (int i = 0; i < 4; i++)
		obs("peer recv", peer(o, op_recv, 10, 0)), note("peer has %s", o->say);
	peer_text(o, op_puts, 0, "first");
	peer_text(o, op_puts, 0, "second");
	settle(o->fd);
	for (int i = 0; i < 4; i++)
		v[i].iov_len = 8;
	obs("recvmmsg", recvmmsg(o->fd, m, 4, MSG_DONTWAIT, NULL));
	note("lengths %u %u \"%.5s\" \"%.6s\"", m[0].msg_len, m[1].msg_len, bufs[0], bufs[1]);
	obs("recvmmsg empty", recvmmsg(o->fd, m, 4, MSG_DONTWAIT, NULL));
	peer_text(o, op_puts, 0, "third");
	settle(o->fd);
	obs("recvmmsg WAITFORONE", recvmmsg(o->fd, m, 4, MSG_WAITFORONE, NULL));
	peer_text(o, op_puts, 0, "fourth");
	settle(o->fd);
	obs("recvmmsg with a timeout", recvmmsg(o->fd, m, 1, 0, &zero));
	obs("recvmmsg 0", recvmmsg(o->fd, m, 0, 0, NULL));
	peer(o, op_send, 8, 0);
	peer(o, op_send, 8, 0);
	obs("recvmmsg with all the time there is", recvmmsg(o->fd, m, 2, 0, &ages));
	obs("recvmmsg with no time", recvmmsg(o->fd, m, 2, 0, &(struct timespec){ 0, -1 }));
	obs("sendmmsg 0", sendmmsg(o->fd, m, 0, 0));
}

static void gather_and_scatter(struct obs *o)
{
	char a[3], b[20];
	struct iovec out[3] = { { (void *)"gather", 6 }, { NULL, 0 }, { (void *)"ed up", 5 } }, in[2] = { { a, 3 }, { b, 20 } };
	struct msghdr m = { .msg_iov = in, .msg_iovlen = 2 };

	obs("writev", writev(o->fd, out, 3));
	obs("peer recv", peer(o, op_recv, 100, 0));
	note("peer has %s", o->say);
	peer_text(o, op_puts, 0, "scattered");
	obs("readv", readv(o->fd, in, 2));
	note("\"%.3s\" \"%.6s\"", a, b);
	peer_text(o, op_puts, 0, "scattered");
	obs("recvmsg", recvmsg(o->fd, &m, 0));
	note("\"%.3s\" \"%.6s\" flags %x", a, b, m.msg_flags);
}

int main(int argc, char **argv)
{
	static const struct obs_case cases[] = {
		{ "borders stay", borders, EVERY_DGRAM | EVERY_SEQ, THREADS },
		{ "truncation", truncation, BOTH, 0 },
		{ "MSG_PEEK", peek, BOTH, 0 },
		{ "zero length", zero_length, BOTH, 0 },
		{ "sizes", sizes, BOTH, 0 },
		{ "many, in order", many_in_order, BOTH, 0 },
		{ "a blocked reader", blocked_reader, BOTH, THREADS },
		{ "the sender's name", names_come_along, EVERY_DGRAM | SEQ, 0 },
		{ "the peer is gone", peer_is_gone, BOTH, 0 },
		{ "the peer is gone, reading", peer_is_gone_reading, BOTH, 0 },
		{ "the peer left some unread", peer_left_unread, LOCALDG | SEQ, 0 },
		{ "a full local queue", local_full_queue, LOCALDG | SEQ, 0 },
		{ "a full local queue blocks", local_full_queue_blocks, LOCALDG | SEQ, 0 },
		{ "UDP drops what does not fit", udp_drops, UDP, 0 },
		{ "shutdown", shutdowns, BOTH, 0 },
		{ "sendmmsg and recvmmsg", several_at_once, BOTH, 0 },
		{ "writev, readv, recvmsg", gather_and_scatter, BOTH, 0 },
		{ 0 },
	};

	return obs_main(argc, argv, cases);
}
