/* SPDX-License-Identifier: MIT */
/*
 * Early carriers: internet sockets that are AF_UNIX sockets from the start.
 *
 * A client's short connections go one like the other: socket(), connect() to a private face, a few bytes, close(). The kernel's TCP socket of the
 * first step is thrown away in the second. Where connections went so before, the next socket() makes the AF_UNIX socket at once and no other. It
 * has kind GN_KIND_EARLY until it is connected, or until anything else is asked of it than connect(), close() and the commonest options: then the
 * kernel's own socket takes its place first, so that nobody sees that it was not there before. That costs what was to be saved, so
 * it is tried ever more rarely where it happens.
 *
 * Invariants: one descriptor of one process leads to an early carrier: dup, fork, exec, spawn and passing put the kernel's socket there first, and
 * no fork goes on while gn_world.early is not 0. The last descriptor that the program may have is no reason to fail: one is kept in reserve.
 * Owner: kind is changed under so->connecting, or by the last close.
 */
#include <netinet/in.h>

#include "base/fd.h"
#include "sock/api.h"
#include "sock/opts.h"

#define CONNECTIONS_FIRST 16 /* by private faces, before anything is done for the next */

struct habit { /* of sockets of one domain */
	_Atomic uint32_t connections; /* by private faces */
	struct gn_spin tries;
};

static struct habit habits[2]; /* IPv4, IPv6 */

static struct habit *habit_of(int domain)
{
	return domain == AF_INET ? &habits[0] : domain == AF_INET6 ? &habits[1] : NULL;
}

static bool is_worth_it(struct habit *habit)
{
	uint32_t skip = atomic_load_explicit(&habit->tries.skip, memory_order_relaxed);

	if (gn_world.lanes != GN_LANES_RING) { /* there, for tests: everywhere */
		if (atomic_load_explicit(&habit->connections, memory_order_relaxed) < CONNECTIONS_FIRST)
			return false;
		if (skip)
			atomic_store_explicit(&habit->tries.skip, skip - 1, memory_order_relaxed);
		if (skip)
			return false;
	}
	return gn_uring_is_known() && !gn_world.unseen;
}

/* Puts `fd` in reserve and returns what was there. */
static int reserve_swap(int fd)
{
	int was;

	gn_lock(&gn_world.big);
	was = gn_world.reserve_fd;
	gn_world.reserve_fd = fd;
	gn_unlock(&gn_world.big);
	return was;
}

static bool has_reserve(struct habit *habit)
{
	int fd;

	if (likely(gn_world.reserve_fd >= 0))
		return true;
	fd = gn_fd_is_scarce() ? -1 : gn_sys_socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		gn_spin_result(&habit->tries, false);
		return false;
	}
	fd = gn_fd_raise(fd);
	gn_hide(fd);
	fd = reserve_swap(fd);
	gn_unhide_close(&fd); /* another thread's */
	return true;
}

int gn_early_open(int domain, int type, int protocol)
{
	struct habit *habit = habit_of(domain);
	int kind = type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC), fd;

	if (!habit || kind != SOCK_STREAM || (protocol && protocol != IPPROTO_TCP) || gn_world.sandboxed || gn_world.net_moved || gn_world.unseen ||
	    !is_worth_it(habit) || gn_is_vfork_child() || !has_reserve(habit))
		return -1;
	fd = gn_sys_socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | (type & SOCK_CLOEXEC), 0);
	if (fd < 0 || gn_opened_early(fd, domain, type, protocol))
		return fd < 0 ? -1 : fd;
	gn_sys_close(fd);
	return -1;
}

/* The kernel's own socket. Where there is no number for it, the reserve's is; where the limit has sunk below that, its own. */
static int socket_now(const struct gn_ep *ep, int own)
{
	int type = ep->type | SOCK_CLOEXEC | (gn_flag(ep, GN_EP_NONBLOCK) ? SOCK_NONBLOCK : 0);
	int fd = gn_sys_socket(ep->domain, type, ep->protocol), reserve;

	if (likely(fd != -EMFILE && fd != -ENFILE))
		return fd;
	reserve = reserve_swap(-1);
	gn_unhide_close(&reserve);
	fd = gn_sys_socket(ep->domain, type, ep->protocol);
	if (fd != -EMFILE && fd != -ENFILE)
		return fd;
	gn_sys_close(own);
	return gn_sys_socket(ep->domain, type, ep->protocol);
}

/* Not closed behind our back, and another file since. */
static bool is_still_there(int fd)
{
	int domain = 0;
	socklen_t len = sizeof domain;

	return gn_sys_getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_UNIX;
}

/* The kernel's own socket under the number that the early carrier has. */
static void put_kernels(struct gn_sock *so, int fd)
{
	int flags = gn_sys_fcntl(fd, F_GETFD, 0), u;

	if (!is_still_there(fd))
		return;
	u = socket_now(so->ep, fd);
	if (u < 0)
		return;
	gn_options_set(so, u);
	if (u != fd)
		gn_put_under_begun(so, fd, u);
	else if (!(flags & FD_CLOEXEC))
		gn_sys_fcntl(fd, F_SETFD, 0);
}

static void is_early_no_more(struct gn_sock *so)
{
	enum gn_kind early = GN_KIND_EARLY;

	if (atomic_compare_exchange_strong(&so->kind, &early, GN_KIND_SOCK))
		atomic_fetch_sub(&gn_world.early, 1);
}

/* gn_connecting_begin() has been said. */
void gn_early_end(struct gn_sock *so, int fd)
{
	bool lent = gn_is_vfork_child(); /* its number is to lead elsewhere, and its parent's is not */

	if (so->kind != GN_KIND_EARLY || (lent && gn_lent_is_changed(fd)))
		return;
	put_kernels(so, fd);
	if (lent) {
		gn_lent_change(fd);
		return;
	}
	is_early_no_more(so);
	gn_spin_result(&habit_of(so->ep->domain)->tries, false);
}

struct gn_sock *gn_early_ended(struct gn_sock *so, int fd)
{
	if (gn_world.sandboxed) {
		gn_put(so);
		return NULL;
	}
	gn_connecting_begin(so);
	gn_early_end(so, fd);
	gn_connecting_end(so);
	if (!gn_is_vfork_child())
		return so;
	gn_put(so);
	return NULL; /* the kernel's alone, there */
}

void gn_early_end_all(void)
{
	struct gn_sock *so;

	if (likely(!atomic_load(&gn_world.early)))
		return;
	for (uint32_t fd = 0; fd < gn_world.used_fds; fd++) {
		so = gn_get((int)fd);
		if (so)
			gn_put(so);
	}
}

void gn_early_closed(struct gn_sock *so)
{
	is_early_no_more(so);
}

void gn_early_connected(struct gn_sock *so)
{
	struct habit *habit = habit_of(so->ep->domain);

	if (so->kind == GN_KIND_EARLY) {
		is_early_no_more(so);
		gn_spin_result(&habit->tries, true);
	} else if (habit) {
		atomic_fetch_add_explicit(&habit->connections, 1, memory_order_relaxed);
	}
}
