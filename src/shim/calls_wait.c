/* SPDX-License-Identifier: MIT */
/* The shim: calls that wait for readiness. One thin function per libc symbol. */
#include "shim/shim.h"

static struct timespec *of_ms(struct timespec *ts, int ms)
{
	if (ms < 0)
		return NULL;
	*ts = (struct timespec){ms / 1000, ms % 1000 * 1000000L};
	return ts;
}

static bool poll_concerns(const struct pollfd *fds, nfds_t count)
{
	GN_INSIDE;
	return gn_poll_concerns(fds, count);
}

static int ppoll_inside(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask)
{
	GN_INSIDE;
	return gn_ppoll(fds, count, timeout, mask);
}

static bool select_concerns(int count, const fd_set *r, const fd_set *w, const fd_set *x)
{
	GN_INSIDE;
	return gn_select_concerns(count, r, w, x);
}

static int pselect_inside(int count, fd_set *r, fd_set *w, fd_set *x, const struct timespec *timeout, const sigset_t *mask)
{
	GN_INSIDE;
	return gn_pselect(count, r, w, x, timeout, mask);
}

INTERPOSE(int, poll, (struct pollfd *fds, nfds_t count, int timeout_ms))
{
	struct timespec ts;

	gn_enter_point();
	if (!poll_concerns(fds, count))
		return gn_real.poll(fds, count, timeout_ms);
	return (int)gn_ret(ppoll_inside(fds, count, of_ms(&ts, timeout_ms), NULL));
}
ALSO(__poll, poll);

INTERPOSE(int, ppoll, (struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask))
{
	gn_enter_point();
	if (!poll_concerns(fds, count))
		return gn_real.ppoll(fds, count, timeout, mask);
	return (int)gn_ret(ppoll_inside(fds, count, timeout, mask));
}

INTERPOSE(int, pselect, (int count, fd_set *r, fd_set *w, fd_set *x, const struct timespec *timeout, const sigset_t *mask))
{
	gn_enter_point();
	if (count < 0 || !select_concerns(count, r, w, x))
		return gn_real.pselect(count, r, w, x, timeout, mask);
	return (int)gn_ret(pselect_inside(count, r, w, x, timeout, mask));
}

INTERPOSE(int, select, (int count, fd_set *r, fd_set *w, fd_set *x, struct timeval *timeout))
{
	struct timespec ts;
	uint64_t start, past, left;
	int rc;

	gn_enter_point();
	if (count < 0 || !select_concerns(count, r, w, x) || (timeout && (timeout->tv_sec < 0 || timeout->tv_usec < 0)))
		return gn_real.select(count, r, w, x, timeout);
	if (!timeout)
		return (int)gn_ret(pselect_inside(count, r, w, x, NULL, NULL));
	ts = (struct timespec){timeout->tv_sec + timeout->tv_usec / 1000000, timeout->tv_usec % 1000000 * 1000L};
	start = gn_now_ns();
	rc = pselect_inside(count, r, w, x, &ts, NULL);
	/* Linux writes what is left (select(2)). */
	past = gn_now_ns() - start;
	left = (uint64_t)ts.tv_sec * GN_NS_PER_S + (uint64_t)ts.tv_nsec;
	left = left > past ? left - past : 0;
	*timeout = (struct timeval){(time_t)(left / GN_NS_PER_S), (suseconds_t)(left % GN_NS_PER_S / 1000)};
	return (int)gn_ret(rc);
}
ALSO(__select, select);

INTERPOSE(int, epoll_create, (int size))
{
	int fd;

	gn_enter();
	GN_INSIDE;
	fd = gn_real.epoll_create(size);
	gn_epoll_opened(fd);
	return fd;
}

INTERPOSE(int, epoll_create1, (int flags))
{
	int fd;

	gn_enter();
	GN_INSIDE;
	fd = gn_real.epoll_create1(flags);
	gn_epoll_opened(fd);
	return fd;
}

INTERPOSE(int, epoll_ctl, (int set, int op, int fd, struct epoll_event *event))
{
	int rc;

	gn_enter();
	gn_begin();
	if (op == EPOLL_CTL_DEL)
		rc = gn_epoll_ctl(set, op, fd, NULL); /* the kernel does not look at it */
	else
		rc = gn_is_nowhere(event, 1) ? -EFAULT : gn_epoll_ctl(set, op, fd, event);
	gn_end();
	return (int)gn_ret(rc);
}

static struct gn_sock *set_find(int fd)
{
	struct gn_sock *so;

	gn_begin();
	so = gn_get_kind(fd, GN_KIND_EPOLL);
	if (!so)
		gn_end();
	return so;
}

INTERPOSE(int, epoll_pwait, (int set, struct epoll_event *events, int max, int timeout_ms, const sigset_t *mask))
{
	struct gn_sock *so;
	struct timespec ts;
	int rc;

	gn_enter_point();
	so = set_find(set);
	if (!so)
		return gn_real.epoll_pwait(set, events, max, timeout_ms, mask);
	rc = gn_epoll_pwait(so, set, events, max, of_ms(&ts, timeout_ms), mask);
	gn_fd_put(so);
	return (int)gn_ret(rc);
}

INTERPOSE(int, epoll_wait, (int set, struct epoll_event *events, int max, int timeout_ms))
{
	gn_enter();
	return gn_world.sandboxed ? gn_real.epoll_wait(set, events, max, timeout_ms) : epoll_pwait(set, events, max, timeout_ms, NULL);
}

INTERPOSE(int, epoll_pwait2,
	  (int set, struct epoll_event *events, int max, const struct timespec *timeout, const sigset_t *mask))
{
	struct gn_sock *so;
	int rc;

	gn_enter_point();
	so = timeout && gn_is_nowhere(timeout, 1) ? NULL : set_find(set); /* libc reads the others' */
	if (!so)
		return gn_real.epoll_pwait2(set, events, max, timeout, mask);
	rc = gn_epoll_pwait(so, set, events, max, timeout, mask);
	gn_fd_put(so);
	return (int)gn_ret(rc);
}

_Noreturn void __chk_fail(void);

INTERPOSE(int, __poll_chk, (struct pollfd *fds, nfds_t count, int timeout_ms, size_t room))
{
	if (count > room / sizeof *fds)
		__chk_fail();
	return poll(fds, count, timeout_ms);
}

INTERPOSE(int, __ppoll_chk,
	  (struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask, size_t room))
{
	if (count > room / sizeof *fds)
		__chk_fail();
	return ppoll(fds, count, timeout, mask);
}
