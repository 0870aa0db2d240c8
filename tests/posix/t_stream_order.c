/* SPDX-License-Identifier: MIT */
/* ring: yes */
/* The stream: every byte once and in order, whatever the sizes, the calls and the direction. */
#include "obs.h"

static unsigned next(unsigned *seed)
{
	*seed = *seed * 1103515245u + 12345u;
	return *seed >> 8;
}

/* Writes n bytes of pattern `seed` in pieces of random size through calls chosen at random. */
static long op_scatter_out(struct obs *o, long n, long seed)
{
	static _Thread_local unsigned char buf[9000];
	unsigned rnd = (unsigned)seed;
	long done = 0;

	while (done < n) {
		size_t want = next(&rnd) % (next(&rnd) % 4 ? 100 : sizeof(buf)) + 1;
		struct iovec v[2] = { { buf, want / 3 }, { buf + want / 3, want - want / 3 } };
		struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };
		ssize_t rc = -1;

		if ((long)want > n - done)
			want = (size_t)(n - done), v[0].iov_len = 0, v[1] = (struct iovec){ buf, want };
		pattern(buf, want, (uint64_t)done, (unsigned)seed);
		switch (next(&rnd) % 5) {
		case 0: rc = send(o->fd, buf, want, 0); break;
		case 1: rc = write(o->fd, buf, want); break;
		case 2: rc = writev(o->fd, v, 2); break;
		case 3: rc = sendmsg(o->fd, &m, 0); break;
		case 4: rc = sendto(o->fd, buf, want, 0, NULL, 0); break;
		}
		if (rc < 0)
			return -1;
		done += rc;
	}
	return done;
}

static long op_scatter_in(struct obs *o, long n, long seed)
{
	static _Thread_local unsigned char buf[9000], expect[9000];
	unsigned rnd = (unsigned)seed + 99;
	long done = 0;

	while (done < n) {
		size_t want = next(&rnd) % (next(&rnd) % 4 ? 100 : sizeof(buf)) + 1;
		struct iovec v[2] = { { buf, want / 2 }, { buf + want / 2, want - want / 2 } };
		struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };
		ssize_t rc = -1;

		if ((long)want > n - done)
			want = (size_t)(n - done), v[0].iov_len = 0, v[1] = (struct iovec){ buf, want };
		switch (next(&rnd) % 6) {
		case 0: rc = recv(o->fd, buf, want, 0); break;
		case 1: rc = read(o->fd, buf, want); break;
		case 2: rc = readv(o->fd, v, 2); break;
		case 3: rc = recvmsg(o->fd, &m, 0); break;
		case 4: rc = recvfrom(o->fd, buf, want, 0, NULL, NULL); break;
		case 5:
			recv(o->fd, buf, want, MSG_PEEK);
			rc = recv(o->fd, buf, want, MSG_WAITALL);
			break;
		}
		if (rc <= 0)
			return rc ? -1 : done;
		pattern(expect, (size_t)rc, (uint64_t)done, (unsigned)seed);
		if (memcmp(buf, expect, (size_t)rc)) {
			errno = EBADMSG;
			return -1;
		}
		done += rc;
	}
	return done;
}

static void large_in(struct obs *o)
{
	peer_start(o, op_bulk_out, 20 << 20, 7);
	obs("in", bulk_in(o->fd, 20 << 20, 7));
	obs("peer", peer_done(o));
}

static void large_out(struct obs *o)
{
	peer_start(o, op_bulk_in, 20 << 20, 8);
	obs("out", bulk_out(o->fd, 20 << 20, 8));
	obs("peer", peer_done(o));
}

static void scattered(struct obs *o)
{
	peer_start(o, op_scatter_out, 700000, 4);
	obs("in", op_scatter_in(o, 700000, 4));
	obs("peer", peer_done(o));
	peer_start(o, op_scatter_in, 700000, 5);
	obs("out", op_scatter_out(o, 700000, 5));
	obs("peer", peer_done(o));
}

static void single_bytes(struct obs *o)
{
	unsigned char c;

	peer_start(o, op_bulk_in, 20000, 9);
	for (long i = 0; i < 20000; i++) {
		pattern(&c, 1, (uint64_t)i, 9);
		if (write(o->fd, &c, 1) != 1)
			obs("write", -1);
	}
	obs("peer", peer_done(o));
}

static void *out_thread(void *arg)
{
	return (void *)bulk_out(*(int *)arg, 6 << 20, 11);
}

static long op_both_ways(struct obs *o, long n, long b)
{
	pthread_t t;
	void *sent;
	long got;

	(void)b;
	pthread_create(&t, NULL, out_thread, &o->fd);
	got = bulk_in(o->fd, n, 11);
	pthread_join(t, &sent);
	return (long)sent == n ? got : -1;
}

static void both_ways_at_once(struct obs *o)
{
	peer_start(o, op_both_ways, 6 << 20, 0);
	obs("here", op_both_ways(o, 6 << 20, 0));
	obs("there", peer_done(o));
}

static long op_nonblock_both_ways(struct obs *o, long n, long seed)
{
	static _Thread_local unsigned char out[20000], in[20000], expect[20000];
	struct pollfd p = { .fd = o->fd };
	long sent = 0, got = 0;

	nonblock(o->fd, true);
	while (sent < n || got < n) {
		size_t want = n - sent < (long)sizeof(out) ? (size_t)(n - sent) : sizeof(out);
		ssize_t rc;

		p.events = (short)((sent < n ? POLLOUT : 0) | (got < n ? POLLIN : 0));
		if (poll(&p, 1, 3000) != 1)
			return -1;
		if (p.revents & POLLOUT && want) {
			pattern(out, want, (uint64_t)sent, (unsigned)seed);
			rc = send(o->fd, out, want, 0);
			sent += rc > 0 ? rc : 0;
		}
		if (p.revents & POLLIN) {
			rc = recv(o->fd, in, sizeof(in), 0);
			if (rc == 0 || (rc < 0 && errno != EAGAIN))
				return -1;
			pattern(expect, rc > 0 ? (size_t)rc : 0, (uint64_t)got, (unsigned)seed);
			if (rc > 0 && memcmp(in, expect, (size_t)rc)) {
				errno = EBADMSG;
				return -1;
			}
			got += rc > 0 ? rc : 0;
		}
	}
	return sent + got;
}

static void poll_loops_both_ways(struct obs *o)
{
	peer_start(o, op_nonblock_both_ways, 4 << 20, 6);
	obs("here", op_nonblock_both_ways(o, 4 << 20, 6));
	obs("there", peer_done(o));
}

static void requests_of_growing_size(struct obs *o)
{
	static char buf[200000], back[200000];

	for (long n = 1; n < 4096; n = n * 3 / 2 + 1) {
		peer_start(o, op_echo, 1, n);
		pattern(buf, (size_t)n, 0, (unsigned)n);
		if (send(o->fd, buf, (size_t)n, 0) != n || recv(o->fd, back, (size_t)n, MSG_WAITALL) != n || memcmp(buf, back, (size_t)n))
			note("%ld bytes do not come back", n);
		if (peer_done(o) != 1)
			note("the peer fails at %ld", n);
	}
	note("done");
}

/* A pipeline of small requests that the reader takes in large bites. */
static void bursts(struct obs *o)
{
	char c[8];

	for (int round = 0; round < 50; round++) {
		peer_start(o, op_bulk_in, 100 * 8, (unsigned)round);
		for (int i = 0; i < 100; i++) {
			pattern(c, 8, (uint64_t)i * 8, (unsigned)round);
			if (send(o->fd, c, 8, 0) != 8)
				obs("send", -1);
		}
		if (peer_done(o) != 800)
			note("round %d fails", round);
	}
	note("done");
}

static void one_large_write(struct obs *o)
{
	long n = 9 << 20;
	char *buf = malloc((size_t)n);

	pattern(buf, (size_t)n, 0, 3);
	peer_start(o, op_bulk_in, n, 3);
	obs("write", write(o->fd, buf, (size_t)n));
	obs("peer", peer_done(o));
	free(buf);
}

int main(int argc, char **argv)
{
	static const struct obs_case cases[] = {
		{ "20 MiB in", large_in, STREAM, THREADS },
		{ "20 MiB out", large_out, STREAM, 0 },
		{ "random sizes and calls", scattered, EVERY_STREAM, THREADS },
		{ "single bytes", single_bytes, STREAM, 0 },
		{ "both ways at once", both_ways_at_once, STREAM, THREADS },
		{ "both ways at once, poll and O_NONBLOCK", poll_loops_both_ways, STREAM, THREADS },
		{ "there and back, growing", requests_of_growing_size, STREAM, 0 },
		{ "bursts of small messages", bursts, STREAM, 0 },
		{ "one write larger than any buffer", one_large_write, STREAM, 0 },
		{ 0 },
	};

	return obs_main(argc, argv, cases);
}
