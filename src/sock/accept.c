/* SPDX-License-Identifier: MIT */
/*
 * accept() on a listener that may have two faces.
 *
 * The kernel's accept() holds the open file while it waits, so that a close() meanwhile, by another thread, does not end it: it takes the
 * next caller, and only then the listener goes. Here the wait is a poll() of both faces and the descriptor is looked up again after
 * it (gn_fd_still).
 */
#include <string.h>

#include "base/fd.h"
#include "sock/api.h"
#include "sock/inside.h"
#include "sock/sleep.h"

#define TURN 16
#define STRANGERS_MAX 64 /* who come by the private face and are no callers: so many in a row, then the public face has its turn */

/* Loopback and a port that anybody may have: no need to ask who it is. */
static bool anybody_may_call(const struct gn_addr *from)
{
	static _Atomic long first_free;
	long first = atomic_load(&first_free);

	if (!first) {
		if (gn_sys_read_number("/proc/sys/net/ipv4/ip_unprivileged_port_start", &first) < 0)
			first = 1024;
		first = GN_MAX(first, 1L);
		atomic_store(&first_free, first);
	}
	return gn_addr_is_loopback(from) && from->port >= first;
}

/* What came by the private face: who is it? -EACCES: a stranger, forget it. */
static int caller_check(struct gn_sock *so, int c, const struct gn_name *name, struct gn_addr *from, struct gn_addr *dest)
{
	struct ucred cred;
	socklen_t len = sizeof cred;

	if (gn_name_caller_parse(name, from, dest) < 0 || dest->port != so->ep->local.port)
		return -EACCES;
	if (anybody_may_call(from))
		return 0;
	if (gn_sys_getsockopt(c, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return -EACCES;
	if (gn_is_elsewhere(c)) /* whose addresses are not to be asked for here: one that could do as much by itself */
		return cred.uid == 0 || cred.uid == gn_sys_geteuid() ? 0 : -EACCES;
	return gn_name_may_call(from, cred.uid) ? 0 : -EACCES;
}

static int accept_private(struct gn_sock *so, int flags)
{
	struct gn_addr from, dest;
	struct gn_name name;
	struct gn_sock *new;
	int c, strangers = 0;

	for (;;) {
		if (strangers++ == STRANGERS_MAX)
			return -EAGAIN;
		name.len = sizeof name.sun;
		c = gn_sys_accept4(so->private_fd, &name.sun, &name.len, flags);
		if (c < 0)
			return c;
		if (caller_check(so, c, &name, &from, &dest) == 0)
			break;
		gn_sys_close(c);
	}
	new = gn_accepted(c, so->ep, flags);
	if (new) {
		gn_established(new, &dest, &from);
		gn_options_inherit(new, so, c);
	}
	return c;
}

static int accept_public(struct gn_sock *so, int fd, int flags)
{
	struct gn_held held = {.so = so};
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	struct gn_sock *new;
	int c = (int)gn_sleep(GN_SLEEP_CALL, &held, SYS_accept4, fd, (long)&ss, (long)&len, flags, 0, 0);

	if (c < 0)
		return c;
	new = gn_accepted(c, so->ep, flags);
	if (new && so->ep->domain == AF_UNIX && gn_flag(so->ep, GN_EP_PINNED))
		gn_senders_inherit(new, c);
	if (!new || so->ep->domain == AF_UNIX)
		return c;
	gn_addr_from_sockaddr(&new->ep->peer, (struct sockaddr *)&ss, len);
	new->ep->local = so->ep->local;
	atomic_fetch_or(&new->ep->flags, GN_EP_PINNED);
	gn_why(new->ep, gn_addr_is_local(&new->ep->peer) ? GN_WHY_NO_FACE : GN_WHY_REMOTE);
	return c;
}

/* The private face, or -EAGAIN where there is none any more: whom no slot is left for has no names but the kernel's, and goes to the public one. */
static int accept_hidden(struct gn_sock *so, int fd, int flags)
{
	int c;

	if (unlikely(!gn_pool_has_room())) {
		gn_private_retire(so, fd);
		return -EAGAIN;
	}
	c = accept_private(so, flags);
	if (c == -EINVAL) /* a relative has shut the listener */
		gn_private_forget(so, fd);
	return c == -EINVAL || c == -EBADF ? -EAGAIN : c;
}

static int accept_face(struct gn_sock *so, int fd, int flags, bool private)
{
	int c = private ? accept_hidden(so, fd, flags) : accept_public(so, fd, flags);

	if (c >= 0)
		so->last_private = private;
	return c;
}

/* Nobody is at the private face. An accept that does not wait is not told that a relative has shut it, and poll would say for ever that
 * somebody is there. */
static void look_at_face(struct gn_sock *so, int fd)
{
	struct pollfd p = {so->private_fd, POLLRDHUP, 0};

	if (likely(atomic_load(&so->ep->holders) == 1) || so->private_fd < 0)
		return;
	if (gn_sys_poll(&p, 1, 0) == 1 && (p.revents & (POLLRDHUP | POLLHUP)))
		gn_private_forget(so, fd);
}

/* Both faces: first the one that the last caller used; every TURN-th time the other one, so that neither starves. */
static int accept_either(struct gn_sock *so, int fd, int flags)
{
	bool private_first = so->last_private != (so->turn++ % TURN == 0);
	int c = accept_face(so, fd, flags, private_first);

	if (c == -EAGAIN)
		c = accept_face(so, fd, flags, !private_first);
	if (c == -EAGAIN)
		look_at_face(so, fd);
	return c;
}

/* Callers often come one after the other: see recv_asking(). */
static int accept_asking(struct gn_sock *so, int fd, int flags)
{
	struct gn_spinning spin;
	int c = accept_either(so, fd, flags);

	if (c != -EAGAIN || gn_flag(so->ep, GN_EP_NONBLOCK) || !gn_spin_begin(&spin, gn_ask_now(&gn_world.accept_spin), UINT64_MAX))
		return c;
	while (c == -EAGAIN && gn_spin_on(&spin))
		c = accept_face(so, fd, flags, so->last_private);
	gn_spin_result(&gn_world.accept_spin, c != -EAGAIN);
	return c;
}

/* The kernel's listener blocks in the program's stead: look whether somebody is there first. */
static int accept_alone(struct gn_sock *so, int fd, int flags)
{
	struct pollfd p = {fd, POLLIN, 0};
	struct gn_spinning spin;

	if (!gn_flag(so->ep, GN_EP_NONBLOCK) && so->ep->domain == AF_UNIX &&
	    gn_spin_begin(&spin, gn_ask_now(&gn_world.accept_spin), UINT64_MAX)) {
		while (gn_sys_poll(&p, 1, 0) == 0 && gn_spin_on(&spin))
			;
		gn_spin_result(&gn_world.accept_spin, p.revents);
	}
	return accept_public(so, fd, flags);
}

static int accept_wait(struct gn_sock *so, int fd, uint64_t deadline_ns)
{
	struct pollfd p[2] = {{fd, POLLIN, 0}, {so->private_fd, POLLIN, 0}};
	struct gn_held held = {.so = so};
	struct timespec ts, *left = NULL;
	uint64_t now;
	int rc;

	if (deadline_ns) {
		now = gn_now_ns();
		ts = gn_timespec(deadline_ns > now ? deadline_ns - now : 0);
		left = &ts;
	}
	rc = gn_sleep_ppoll(deadline_ns ? GN_SLEEP_EINTR : GN_SLEEP_RESTART, &held, p, 2, left, NULL);
	if (rc == GN_SLEEP_AGAIN)
		return 0;
	return rc == 0 ? -EAGAIN : rc < 0 ? rc : 0;
}

static int accept_blocking(struct gn_sock *so, int fd, int flags)
{
	uint64_t timeout = atomic_load(&so->ep->rcvtimeo_ns);
	uint64_t deadline = timeout ? gn_now_ns() + timeout : 0;
	int c = -EAGAIN, rc = 0;

	while (c == -EAGAIN && rc == 0) {
		rc = accept_wait(so, fd, deadline);
		fd = gn_fd_still(so, fd);
		if (rc == 0)
			c = so->private_fd < 0 ? accept_public(so, fd, flags) : accept_either(so, fd, flags);
	}
	return rc < 0 ? rc : c;
}

static int accept_any(struct gn_sock *so, int fd, int flags)
{
	int c;

	if (so->private_fd < 0)
		return accept_alone(so, fd, flags);
	c = accept_asking(so, fd, flags);
	return c != -EAGAIN || gn_flag(so->ep, GN_EP_NONBLOCK) ? c : accept_blocking(so, fd, flags);
}

/* It gets no private face: who else holds the listener is not known, and a caller of that face might wait for one who does not accept while
 * another does. */
struct gn_sock *gn_inherited_listener(int fd)
{
	enum { LISTENS, DOMAIN, TYPE, PROTOCOL, QUESTIONS };
	static const int names[QUESTIONS] = {SO_ACCEPTCONN, SO_DOMAIN, SO_TYPE, SO_PROTOCOL};
	int value[QUESTIONS] = {0};
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	struct gn_sock *so;

	if (fd < 0 || gn_is_vfork_child() || gn_is_hidden(fd))
		return NULL;
	for (int i = 0; i < QUESTIONS; i++) {
		socklen_t size = sizeof value[i];

		if (gn_sys_getsockopt(fd, SOL_SOCKET, names[i], &value[i], &size) < 0 || !value[LISTENS])
			return NULL;
	}
	value[TYPE] |= gn_sys_fcntl(fd, F_GETFL, 0) & O_NONBLOCK ? SOCK_NONBLOCK : 0;
	gn_opened(fd, value[DOMAIN], value[TYPE], value[PROTOCOL]);
	so = gn_get(fd);
	if (!so)
		return NULL;
	if (value[DOMAIN] != AF_UNIX && gn_sys_getsockname(fd, &ss, &len) == 0)
		gn_addr_from_sockaddr(&so->ep->local, (struct sockaddr *)&ss, len);
	atomic_store(&so->ep->state, GN_LISTEN);
	atomic_fetch_or(&so->ep->flags, GN_EP_PINNED);
	gn_why(so->ep, GN_WHY_INHERITED);
	return so;
}

int gn_accept(struct gn_sock *so, int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	struct gn_sock *new;
	int c;

	if (flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC))
		return -EINVAL;
	c = accept_any(so, fd, flags);
	if (c < 0 || !addr)
		return c;
	if (!len || (int)*len < 0) {
		gn_close(c);
		return len ? -EINVAL : -EFAULT;
	}
	new = gn_get(c);
	if (new && gn_flag(new->ep, GN_EP_EMULATED))
		gn_name_out(new, addr, len, true);
	else if (gn_sys_getpeername(c, addr, len) == -ENOTCONN && new && new->ep->domain != AF_UNIX) /* reset before it was accepted */
		gn_name_out(new, addr, len, true);
	if (new)
		gn_put(new);
	return c;
}
