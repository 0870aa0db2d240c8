/* SPDX-License-Identifier: MIT */
/* ring: yes */
/* readv, writev, sendmsg, recvmsg, sendmmsg, recvmmsg on streams; msg_flags, names and control data that come back. */
#include "obs.h"

static void vectors(struct obs *o)
{
	char a[3] = "", b[5] = "", c[20] = "";
	struct iovec out[4] = { { (void *)"one", 3 }, { NULL, 0 }, { (void *)"-two-", 5 }, { (void *)"three", 5 } },
		     in[3] = { { a, 2 }, { b, 4 }, { c, 19 } };

	obs("writev", writev(o->fd, out, 4));
	obs("peer recv", peer(o, op_recv, 100, 0));
	note("peer has %s", o->say);
	peer_text(o, op_puts, 0, "0123456789");
	settle(o->fd);
	obs("readv", readv(o->fd, in, 3));
	note("\"%s\" \"%s\" \"%s\"", a, b, c);
	peer_text(o, op_puts, 0, "abc");
	settle(o->fd);
	obs("readv short", readv(o->fd, in, 3));
	note("\"%s\" \"%.1s\"", a, b);
	nonblock(o->fd, true);
	obs("readv empty", readv(o->fd, in, 3));
	obs("readv 0", readv(o->fd, in, 0));
	in[0].iov_len = in[1].iov_len = in[2].iov_len = 0;
	obs("readv of nothing", readv(o->fd, in, 3));
}

static long op_readv_after_nothing(struct obs *o, long msg, long b)
{
	char buf[8] = "";
	struct iovec v[3] = { { buf, 0 }, { buf, 0 }, { buf, 7 } };
	struct msghdr m = { .msg_iov = v, .msg_iovlen = 3 };
	long rc = msg ? recvmsg(o->fd, &m, 0) : readv(o->fd, v, 3);

	(void)b;
	obs_say(o, "%s", buf);
	return rc;
}

/* A vector whose first parts are empty waits for the others. */
static void empty_parts(struct obs *o)
{
	for (long msg = 0; msg < 2; msg++) {
		for (int i = 0; i < 3; i++) {
			peer_start(o, op_readv_after_nothing, msg, 0);
			note("blocks: %d", peer_asleep(o));
			obs_send(o->fd, "some", 0);
			obs("peer readv", peer_done(o));
			note("peer has %s", o->say);
		}
		obs_send(o->fd, "more", 0);
		obs("peer readv", peer(o, op_readv_after_nothing, msg, 0));
	}
	if (o->type == SOCK_DGRAM)
		return;
	shutdown(o->fd, SHUT_WR);
	obs("peer readv at the end", peer(o, op_readv_after_nothing, 0, 0));
}

static long op_echo_by_vectors(struct obs *o, long rounds, long msg)
{
	char buf[8];
	struct iovec v[2] = { { buf, 0 }, { buf, 8 } };
	struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };

	for (long i = 0; i < rounds; i++)
		if ((msg ? recvmsg(o->fd, &m, 0) : readv(o->fd, v, 2)) != 8 || (msg ? sendmsg(o->fd, &m, 0) : writev(o->fd, v, 2)) != 8)
			return i;
	return rounds;
}

/* The same at speed: whether data is there, comes while one looks, or has to be slept for. */
static void empty_parts_at_speed(struct obs *o)
{
	char buf[8] = "eight b";

	for (long msg = 0; msg < 2; msg++) {
		int done = 0;

		peer_start(o, op_echo_by_vectors, 2000, msg);
		while (done < 2000 && send(o->fd, buf, 8, 0) == 8 && recv(o->fd, buf, 8, 0) == 8)
			done++;
		obs("here", done);
		obs("there", peer_done(o));
	}
}

static void messages(struct obs *o)
{
	char a[4] = "", b[8] = "", control[64];
	struct sockaddr_storage name;
	struct iovec out[2] = { { (void *)"sent ", 5 }, { (void *)"by msg", 6 } }, in[2] = { { a, 3 }, { b, 7 } };
	struct msghdr m = { .msg_iov = out, .msg_iovlen = 2 };

	obs("sendmsg", sendmsg(o->fd, &m, 0));
	obs("peer recv", peer(o, op_recv, 100, 0));
	note("peer has %s", o->say);
	peer_text(o, op_puts, 0, "0123456789ABC");
	settle(o->fd);
	memset(&name, 0xee, sizeof(name));
	m = (struct msghdr){ .msg_iov = in, .msg_iovlen = 2, .msg_name = &name, .msg_namelen = sizeof(name),
			     .msg_control = control, .msg_controllen = sizeof(control), .msg_flags = 0x7fff };
	obs("recvmsg", recvmsg(o->fd, &m, 0));
	note("\"%s\" \"%s\" namelen %u controllen %zu flags %x", a, b, m.msg_namelen, m.msg_controllen, m.msg_flags);
	m.msg_name = NULL;
	m.msg_namelen = 0;
	obs("recvmsg PEEK", recvmsg(o->fd, &m, MSG_PEEK));
	note("flags %x", m.msg_flags);
	obs("recvmsg", recvmsg(o->fd, &m, MSG_CMSG_CLOEXEC));
	note("\"%.3s\" flags %x", a, m.msg_flags);
	obs("recvmsg empty", recvmsg(o->fd, &m, MSG_DONTWAIT));
	peer(o, op_shutdown, SHUT_WR, 0);
	settle(o->fd);
	obs("recvmsg at the end", recvmsg(o->fd, &m, 0));
	note("flags %x namelen %u controllen %zu", m.msg_flags, m.msg_namelen, m.msg_controllen);
}

static void waitall_over_vectors(struct obs *o)
{
	char a[4] = "", b[8] = "";
	struct iovec in[2] = { { a, 3 }, { b, 7 } };
	struct msghdr m = { .msg_iov = in, .msg_iovlen = 2 };

	peer_text(o, op_puts, 0, "0123");
	peer_text(o, op_puts, 0, "456789");
	obs("recvmsg WAITALL", recvmsg(o->fd, &m, MSG_WAITALL));
	note("\"%s\" \"%s\"", a, b);
}

static void several(struct obs *o)
{
	char bufs[3][10];
	struct iovec v[3];
	struct mmsghdr m[3];

	memset(m, 0, sizeof(m));
	memset(bufs, 0, sizeof(bufs));
	for (int i = 0; i < 3; i++) {
		memset(bufs[i], 'a' + i, 9);
		v[i] = (struct iovec){ bufs[i], (size_t)i + 3 };
		m[i].msg_hdr.msg_iov = &v[i];
		m[i].msg_hdr.msg_iovlen = 1;
	}
	obs("sendmmsg", sendmmsg(o->fd, m, 3, 0));
	note("%u %u %u", m[0].msg_len, m[1].msg_len, m[2].msg_len);
	obs("peer recv", peer(o, op_recv, 12, MSG_WAITALL));
	note("peer has %s", o->say);
	peer_text(o, op_puts, 0, "0123456789");
	settle(o->fd);
	memset(bufs, 0, sizeof(bufs));
	obs("recvmmsg", recvmmsg(o->fd, m, 3, MSG_DONTWAIT, NULL));
	note("%u %u %u \"%s\" \"%s\" \"%s\"", m[0].msg_len, m[1].msg_len, m[2].msg_len, bufs[0], bufs[1], bufs[2]);
	obs("recvmmsg empty", recvmmsg(o->fd, m, 3, MSG_DONTWAIT, NULL));
}

static void recvfrom_on_a_stream(struct obs *o)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	char buf[10];

	memset(&sa, 0xee, sizeof(sa));
	peer_text(o, op_puts, 0, "hello");
	obs("recvfrom", recvfrom(o->fd, buf, sizeof(buf), 0, (struct sockaddr *)&sa, &len));
	if (o->domain == AF_UNIX)
		obs_addr("from", &sa, len);
	else
		note("len %u", len);
	obs("sendto with no address", sendto(o->fd, "x", 1, 0, NULL, 0));
	obs("peer recv", peer(o, op_recv, 10, 0));
}

static long op_writev_large(struct obs *o, long n, long seed)
{
	char *buf = malloc((size_t)n);
	struct iovec v[64];
	long rc;

	pattern(buf, (size_t)n, 0, (unsigned)seed);
	for (long i = 0; i < 64; i++)
		v[i] = (struct iovec){ buf + i * (n / 64), (size_t)(n / 64) };
	rc = writev(o->fd, v, 64);
	free(buf);
	return rc;
}

static void large_vectors(struct obs *o)
{
	peer_start(o, op_writev_large, 6400000, 5);
	obs("in", bulk_in(o->fd, 6400000, 5));
	obs("peer writev", peer_done(o));
}

int main(int argc, char **argv)
{
	static const struct obs_case cases[] = {
		{ "readv and writev", vectors, STREAM, THREADS },
		{ "vectors with empty parts", empty_parts, STREAM | UDP4 | SEQP, 0 },
		{ "vectors with empty parts, at speed", empty_parts_at_speed, STREAM | UDP4 | SEQP, 0 },
		{ "sendmsg and recvmsg", messages, STREAM, 0 },
		{ "MSG_WAITALL over vectors", waitall_over_vectors, STREAM, 0 },
		{ "sendmmsg and recvmmsg", several, STREAM, 0 },
		{ "recvfrom on a stream", recvfrom_on_a_stream, EVERY_STREAM, 0 },
		{ "large vectors", large_vectors, STREAM, 0 },
		{ 0 },
	};

	return obs_main(argc, argv, cases);
}
