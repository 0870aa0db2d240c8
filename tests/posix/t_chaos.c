/* SPDX-License-Identifier: MIT */
/* ring: yes */
/* Random histories of one connection, from fixed seeds: calls of every form, copies, forks; the bytes must come as they went. */
#include "obs.h"

#include <sys/epoll.h>
#include <sys/syscall.h>

#define STEPS 120

struct history {
	unsigned rnd;
	uint64_t out, in; /* stream positions */
};

static unsigned next(struct history *h, unsigned below)
{
	h->rnd = h->rnd * 1103515245u + 12345u;
	return (h->rnd >> 8) % below;
}

static ssize_t write_somehow(struct history *h, int fd, const void *buf, size_t n)
{
	struct iovec v[2] = { { (void *)(uintptr_t)buf, n / 2 }, { (char *)(uintptr_t)buf + n / 2, n - n / 2 } };
	struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };
	FILE *f;

	switch (next(h, 8)) {
	case 0: return write(fd, buf, n);
	case 1: return writev(fd, v, 2);
	case 2: return sendmsg(fd, &m, 0);
	case 3: return syscall(SYS_write, fd, buf, n);
	case 4:
		if (next(h, 6))
			return send(fd, buf, n, MSG_NOSIGNAL);
		f = fdopen(dup(fd), "w");
		n = fwrite(buf, 1, n, f);
		return fclose(f) ? -1 : (ssize_t)n;
	default: return send(fd, buf, n, 0);
	}
}

static ssize_t read_somehow(struct history *h, int fd, void *buf, size_t n)
{
	struct iovec v[2] = { { buf, n / 2 }, { (char *)buf + n / 2, n - n / 2 } };
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct epoll_event ev = { .events = EPOLLIN };
	int ep;

	switch (next(h, 8)) {
	case 0: return read(fd, buf, n);
	case 1: return readv(fd, v, 2);
	case 2: return recv(fd, buf, n, MSG_WAITALL);
	case 3: return recv(fd, buf, n, MSG_PEEK) > 0 ? recv(fd, buf, n, 0) : -1;
	case 4: return poll(&p, 1, 3000) == 1 ? recv(fd, buf, n, MSG_DONTWAIT) : -1;
	case 5:
		ep = epoll_create1(0);
		epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
		n = epoll_wait(ep, &ev, 1, 3000) == 1 ? (size_t)recv(fd, buf, n, MSG_DONTWAIT) : (size_t)-1;
		close(ep);
		return (ssize_t)n;
	default: return recv(fd, buf, n, 0);
	}
}

static long put(struct history *h, int fd, size_t n, unsigned seed)
{
	static unsigned char buf[9000];
	size_t done = 0;

	pattern(buf, n, h->out, seed);
	while (done < n) {
		ssize_t rc = write_somehow(h, fd, buf + done, n - done);

		if (rc <= 0)
			return -1;
		done += (size_t)rc;
	}
	h->out += n;
	return 0;
}

static long take(struct history *h, int fd, size_t n, unsigned seed)
{
	static unsigned char buf[9000], expect[9000];
	size_t done = 0;

	while (done < n) {
		ssize_t rc = read_somehow(h, fd, buf, n - done);

		if (rc <= 0)
			return -1;
		pattern(expect, (size_t)rc, h->in, seed);
		if (memcmp(buf, expect, (size_t)rc))
			return -2;
		h->in += (size_t)rc;
		done += (size_t)rc;
	}
	return 0;
}

/* What both sides do at a step follows from the seed alone: direction and size. */
static long side(struct obs *o, long seed, long first)
{
	struct history plan = { .rnd = (unsigned)seed }, h = { .rnd = (unsigned)(seed * 7 + first) };
	int fd = o->fd;

	for (int step = 0; step < STEPS; step++) {
		size_t n = next(&plan, 10) ? next(&plan, 60) + 1 : next(&plan, 9000) + 1;
		bool mine = next(&plan, 2) == (unsigned)first;
		unsigned what = next(&h, 12);
		long rc = 0;

		if (what == 0) { /* go on by a copy */
			int copy = dup(fd);

			close(fd);
			fd = copy;
		} else if (what == 1) { /* a child that only holds it for a while */
			pid_t pid = obs_fork();

			if (pid == 0)
				_exit(0);
			if (next(&h, 2))
				obs_wait(pid);
		}
		if (mine && what == 2) { /* a child does this step */
			pid_t pid = obs_fork();

			if (pid == 0)
				_exit(put(&h, fd, n, (unsigned)seed) != 0);
			rc = obs_wait(pid);
			h.out += n;
		} else if (!mine && what == 3) {
			pid_t pid = obs_fork();

			if (pid == 0)
				_exit(take(&h, fd, n, (unsigned)seed) != 0);
			rc = obs_wait(pid);
			h.in += n;
		} else {
			rc = mine ? put(&h, fd, n, (unsigned)seed) : take(&h, fd, n, (unsigned)seed);
		}
		if (rc)
			return -step - 2;
	}
	o->fd = fd;
	return STEPS;
}

static void histories(struct obs *o, long from, long to)
{
	for (long seed = from; seed < to; seed++) {
		long here, there;

		peer_start(o, side, seed, 1);
		here = side(o, seed, 0);
		there = peer_done(o);
		if (here != STEPS || there != STEPS)
			note("seed %ld: here %ld there %ld", seed, here, there);
	}
	note("done");
}

static void short_histories(struct obs *o)
{
	histories(o, 1, 6);
}

static void more_histories(struct obs *o)
{
	const char *from = getenv("OBS_SEED"); /* to look for trouble by hand */
	long seed = from ? atol(from) : 100;

	histories(o, seed, seed + 10);
}

int main(int argc, char **argv)
{
	static const struct obs_case cases[] = {
		{ "random histories", short_histories, STREAM, 0 },
		{ "more random histories", more_histories, TCP4 | UNIXP | PAIR, HOT_ONLY | SLOW },
		{ 0 },
	};

	return obs_main(argc, argv, cases);
}
