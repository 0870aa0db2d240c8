/* SPDX-License-Identifier: MIT */
/*
 * Relays: how a connection on the ring is handed to somebody without the shim. [LANE-4]
 *
 * A program that execs, passes a descriptor on, or puts one under stdio goes on with a plain AF_UNIX socket; a process of our own, detached,
 * holds the endpoint and carries bytes between the two until both halves have ended. Slower, and right. [LANE-1]
 */
#include <stdlib.h>
#include <sys/wait.h>

#include "sock/api.h"

#define BUFFER 65536

struct way {
	size_t from, to; /* unsent bytes of data */
	bool ended;      /* no more to read */
	bool told;       /* and the other side knows */
	char data[BUFFER];
};

struct relay {
	struct gn_sock *so;
	int ring, plain;
	struct way out, in; /* out: from the ring to the stranger */
};

static ssize_t ring_read(struct relay *r, void *to, size_t len)
{
	return gn_recv_buf(r->so, r->ring, to, len, MSG_DONTWAIT);
}

static ssize_t plain_read(struct relay *r, void *to, size_t len)
{
	return gn_sys_recv(r->plain, to, len, MSG_DONTWAIT);
}

static ssize_t ring_write(struct relay *r, const void *from, size_t len)
{
	return gn_send_buf(r->so, r->ring, from, len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static ssize_t plain_write(struct relay *r, const void *from, size_t len)
{
	return gn_sys_send(r->plain, from, len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Moves what can be moved one way. False: the connection is over. */
static bool way_step(struct relay *r, struct way *w, ssize_t (*get)(struct relay *, void *, size_t),
		     ssize_t (*put)(struct relay *, const void *, size_t))
{
	ssize_t n;

	if (w->from == w->to && !w->ended) {
		n = get(r, w->data, sizeof w->data);
		if (n < 0 && n != -EAGAIN && n != -EINTR)
			return false;
		w->ended = n == 0;
		w->from = 0;
		w->to = n > 0 ? (size_t)n : 0;
	}
	while (w->from < w->to) {
		n = put(r, w->data + w->from, w->to - w->from);
		if (n == -EAGAIN || n == -EINTR)
			return true;
		if (n < 0)
			return false;
		w->from += (size_t)n;
	}
	return true;
}

static void tell_ends(struct relay *r)
{
	if (r->out.ended && r->out.from == r->out.to && !r->out.told) {
		gn_sys_shutdown(r->plain, SHUT_WR);
		r->out.told = true;
	}
	if (r->in.ended && r->in.from == r->in.to && !r->in.told) {
		gn_shutdown(r->so, r->ring, SHUT_WR);
		r->in.told = true;
	}
}

static short wish(const struct way *reading, const struct way *writing)
{
	bool full = reading->from < reading->to;

	return (short)((!full && !reading->ended ? POLLIN : 0) | (writing->from < writing->to ? POLLOUT : 0));
}

static void relay_run(struct relay *r)
{
	struct pollfd p[2];

	while (way_step(r, &r->out, ring_read, plain_write) && way_step(r, &r->in, plain_read, ring_write)) {
		tell_ends(r);
		if (r->out.told && r->in.told)
			return;
		p[0] = (struct pollfd){r->ring, wish(&r->out, &r->in), 0};
		p[1] = (struct pollfd){r->plain, wish(&r->in, &r->out), 0};
		if (!p[1].events && !p[0].events)
			return;
		if (!p[1].events)
			p[1].fd = -1;
		gn_ppoll(p, 2, NULL, NULL);
	}
}

/* The relay's own process: nothing but the two descriptors, deaf to the terminal. */
static _Noreturn void relay_main(struct gn_sock *so, int ring, int plain)
{
	static struct relay r;
	unsigned int low = (unsigned int)GN_MIN(ring, plain), high = (unsigned int)GN_MAX(ring, plain);
	sigset_t all;

	sigfillset(&all);
	gn_sys_sigprocmask(SIG_BLOCK, &all, NULL);
	gn_raw3(SYS_setsid, 0, 0, 0);
	if (low > 0)
		gn_sys_close_range(0, low - 1, 0);
	if (low + 1 < high)
		gn_sys_close_range(low + 1, high - 1, 0);
	gn_sys_close_range(high + 1, ~0u, 0);
	gn_world.stats = false;
	r.so = so;
	r.ring = ring;
	r.plain = plain;
	relay_run(&r);
	gn_last_close(so, ring);
	gn_sys_exit_group(0);
}

/* Two forks: the relay is nobody's child, so no program waits for a stranger. */
static int relay_start(struct gn_sock *so, int ring, int plain)
{
	pid_t pid = gn_fork(gn_real.fork);

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		pid = gn_fork(gn_real.fork);
		if (pid)
			gn_sys_exit_group(0);
		gn_adopt(so);
		relay_main(so, ring, plain);
	}
	gn_raw6(SYS_wait4, pid, 0, 0, 0, 0, 0);
	return 0;
}

int gn_relay(struct gn_sock *so, int fd)
{
	bool lent = gn_is_vfork_child();
	int pair[2], flags, ring, rc;

	rc = gn_sys_socketpair(AF_UNIX, so->ep->type | SOCK_CLOEXEC, 0, pair);
	if (rc < 0)
		return rc;
	flags = gn_sys_fcntl(fd, F_GETFD, 0);
	ring = gn_sys_fcntl(fd, F_DUPFD_CLOEXEC, 3);
	rc = ring < 0 ? ring : 0;
	if (rc == 0) {
		if (!lent)
			gn_table_share(ring, so);
		atomic_fetch_or(&so->ep->flags, GN_EP_RELAYED);
		rc = relay_start(so, ring, pair[0]);
		if (!lent)
			gn_table_clear(ring);
		gn_sys_close(ring);
	}
	for (uint32_t f = 0; rc == 0 && f < gn_world.used_fds; f++) {
		if ((int)f != fd && (lent || atomic_load(&gn_world.table[f]) != so))
			continue;
		flags = gn_sys_fcntl((int)f, F_GETFD, 0);
		if (!lent)
			gn_table_clear((int)f);
		gn_sys_dup3(pair[1], (int)f, (flags & FD_CLOEXEC) ? O_CLOEXEC : 0);
	}
	if (rc == 0 && gn_flag(so->ep, GN_EP_NONBLOCK))
		gn_sys_fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK);
	gn_sys_close(pair[0]);
	gn_sys_close(pair[1]);
	return rc;
}

/* Somebody without the shim is about to use this descriptor. */
void gn_give_away(struct gn_sock *so, int fd)
{
	if (so->ep->type == SOCK_DGRAM)
		return;
	if (gn_on_ring(so) && atomic_load(&so->ep->state) == GN_ESTAB)
		gn_relay(so, fd);
	else
		gn_pin(so, fd, GN_WHY_CALL);
}

/* Before exec: what the new program will find open, and is meant for it: on 0, 1, 2, or ours alone. */
void gn_before_exec(void)
{
	for (uint32_t fd = 0; fd < gn_world.used_fds; fd++) {
		struct gn_sock *so = gn_get((int)fd);

		if (!so)
			continue;
		if (!(gn_sys_fcntl((int)fd, F_GETFD, 0) & FD_CLOEXEC) && (fd <= 2 || atomic_load(&so->ep->holders) == 1))
			gn_give_away(so, (int)fd);
		gn_put(so);
	}
}

/* Before descriptors are sent to another process. */
void gn_before_passing(const struct msghdr *msg)
{
	struct cmsghdr *c;

	for (c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR((struct msghdr *)(uintptr_t)msg, c)) {
		size_t count = c->cmsg_len >= CMSG_LEN(0) ? (c->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;
		const int *fds = (const int *)(const void *)CMSG_DATA(c);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < count; i++) {
			struct gn_sock *so = gn_get(fds[i]);

			if (!so)
				continue;
			gn_give_away(so, fds[i]);
			gn_put(so);
		}
	}
}
