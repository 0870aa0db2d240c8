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
 * Invariants: one descriptor of one process leads to an early carrier: dup, fork, vfork, exec, spawn and passing put the kernel's socket there first,
 * and no fork goes on while gn_world.early is not 0, none are made while memory is lent. The kernel's socket is made in advance and kept, so that to put
 * it there cannot fail; hence one early carrier of a domain at a time.
 * Owner: kind is changed under so->connecting, or by the last close; a habit's reserve belongs to whoever has taken `busy` from 0 to 1.
 */
#include <netinet/in.h>

#include "base/fd.h"
#include "sock/api.h"
#include "sock/opts.h"

#define CONNECTIONS_FIRST 16 /* by private faces, before anything is done for the next */

struct habit { /* of sockets of one domain */
	_Atomic uint32_t connections; /* by private faces */
	struct gn_spin tries;
	_Atomic uint32_t busy;        /* there is an early carrier */
	int reserve;                  /* hidden: the kernel's socket that takes its place, or -1 */
};

static struct habit habits[2] = {{.reserve = -1}, {.reserve = -1}}; /* IPv4, IPv6 */

static struct habit *habit_of(int domain)
{
	return domain == AF_INET ? &habits[0] : domain == AF_INET6 ? &habits[1] : NULL;
}

static bool is_worth_it(struct habit *habit)
{
	if (gn_world.lanes != GN_LANES_RING && /* there, for tests: everywhere */
	    (atomic_load_explicit(&habit->connections, memory_order_relaxed) < CONNECTIONS_FIRST || !gn_spin_is_due(&habit->tries)))
		return false;
	return gn_uring_is_known() && !gn_world.unseen;
}

/* `busy` is ours. */
static bool has_reserve(struct habit *habit, int domain)
{
	int fd, low;

	if (likely(habit->reserve >= 0))
		return true;
	low = gn_fd_is_scarce() ? -1 : gn_sys_socket(domain, SOCK_STREAM | SOCK_CLOEXEC, 0);
	fd = low < 0 ? low : gn_fd_raise(low);
	if (fd >= 0 && fd == low) /* one that the program would miss */
		gn_sys_close(fd);
	if (fd == low) {
		gn_spin_result(&habit->tries, false);
		return false;
	}
	gn_hide(fd);
	habit->reserve = fd;
	return true;
}

static int open_carrier(struct habit *habit, int domain, int type, int protocol)
{
	int fd = has_reserve(habit, domain) ? gn_sys_socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | (type & SOCK_CLOEXEC), 0) : -1;

	if (fd < 0 || gn_opened_early(fd, domain, type, protocol))
		return fd;
	gn_sys_close(fd);
	return -1;
}

int gn_early_open(int domain, int type, int protocol)
{
	struct habit *habit = habit_of(domain);
	int kind = type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC), fd;

	if (!habit || kind != SOCK_STREAM || (protocol && protocol != IPPROTO_TCP) || gn_world.sandboxed || gn_world.net_moved || gn_world.unseen ||
	    !is_worth_it(habit) || gn_is_vfork_child() || atomic_load(&gn_world_lent) || atomic_exchange(&habit->busy, 1))
		return -1;
	fd = open_carrier(habit, domain, type, protocol);
	if (fd >= 0)
		return fd;
	atomic_store(&habit->busy, 0);
	return -1;
}

/* Not closed behind our back, and another file since. */
static bool is_still_there(int fd)
{
	int domain = 0;
	socklen_t len = sizeof domain;

	return gn_sys_getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_UNIX;
}

/* The kernel's own socket under the number that the early carrier has. */
static void put_kernels(struct gn_sock *so, int fd, struct habit *habit)
{
	int u = habit->reserve;

	habit->reserve = -1;
	gn_unhide(u);
	gn_options_set(so, u);
	if (gn_flag(so->ep, GN_EP_NONBLOCK))
		gn_sys_fcntl(u, F_SETFL, O_RDWR | O_NONBLOCK);
	gn_put_under_begun(so, fd, u);
}

void gn_early_over(struct gn_sock *so)
{
	enum gn_kind early = GN_KIND_EARLY;

	if (!atomic_compare_exchange_strong(&so->kind, &early, GN_KIND_SOCK))
		return;
	atomic_fetch_sub(&gn_world.early, 1);
	atomic_store(&habit_of(so->ep->domain)->busy, 0);
}

/* gn_connecting_begin() has been said. */
void gn_early_end(struct gn_sock *so, int fd)
{
	struct habit *habit = habit_of(so->ep->domain);

	if (so->kind != GN_KIND_EARLY)
		return;
	if (is_still_there(fd))
		put_kernels(so, fd, habit);
	gn_spin_result(&habit->tries, false);
	gn_early_over(so);
}

void gn_early_ended(struct gn_sock *so, int fd)
{
	if (gn_world.sandboxed)
		return;
	gn_connecting_begin(so);
	gn_early_end(so, fd);
	gn_connecting_end(so);
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

void gn_early_leave(void)
{
	gn_early_end_all();
	for (size_t i = 0; i < ARRAY_SIZE(habits); i++)
		if (!atomic_exchange(&habits[i].busy, 1)) /* and stays so */
			gn_unhide_close(&habits[i].reserve);
}

/* A reserve would be one socket of two processes. */
void gn_early_forked(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(habits); i++) {
		gn_unhide_close(&habits[i].reserve);
		atomic_store(&habits[i].busy, 0);
	}
}

void gn_early_fd_moved(int from, int to)
{
	for (size_t i = 0; i < ARRAY_SIZE(habits); i++)
		if (habits[i].reserve == from)
			habits[i].reserve = to;
}

void gn_early_connected(struct gn_sock *so)
{
	struct habit *habit = habit_of(so->ep->domain);

	if (so->kind == GN_KIND_EARLY) {
		gn_early_over(so);
		gn_spin_result(&habit->tries, true);
	} else if (habit) {
		atomic_fetch_add_explicit(&habit->connections, 1, memory_order_relaxed);
	}
}
