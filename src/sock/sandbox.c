/* SPDX-License-Identifier: MIT */
/*
 * Sandboxes: a process that is about to install a seccomp filter is never made to issue a system call that it did not ask for. [LANE-4]
 *
 * Before the filter goes in, everything comes off the rings and the private faces; from then on the table is empty and each call of the shim
 * is libc's call of the same name. What stays is in memory: the names and options of internet connections that an AF_UNIX socket carries.
 * Programs started from the sandbox find GNEZDO_SANDBOX in their environment and stay on the kernel altogether.
 *
 * Threads/owner: the thread that installs the filter; others may be inside calls, which end as they began.
 */
#include <stdlib.h>
#include <string.h>

#include "sock/epset.h"
#include "sock/api.h"
#include "sock/signals.h"

static bool may_be_on_ring(struct gn_sock *so, int fd)
{
	(void)fd;
	return atomic_load(&so->ep->state) == GN_ESTAB || so->ep->type == SOCK_DGRAM;
}

/* A sandbox is never refused on our account: where no relay can be had, the connection ends, for all to see. */
static int stays(struct gn_sock *so, int fd)
{
	if (so->ep->type != SOCK_DGRAM && gn_relay(so, fd) < 0)
		gn_sys_shutdown(fd, SHUT_RDWR);
	return 0;
}

static void sock_settle(struct gn_sock *so, int fd)
{
	gn_private_retire(so, fd);
	gn_peer_drop(so);
	gn_unhide_close(&so->meeting.fd);
	gn_dgram_part(so);
	gn_watches_to_kernel(so);
}

static void for_each_fd(enum gn_kind kind, void (*f)(struct gn_sock *so, int fd))
{
	for (uint32_t fd = 0; fd < gn_world.used_fds; fd++) {
		struct gn_sock *so = gn_get_kind((int)fd, kind);

		if (!so)
			continue;
		f(so, (int)fd);
		gn_put(so);
	}
}

static void set_plain(struct gn_sock *set, int fd)
{
	(void)fd;
	gn_unhide_close(&set->set->bells);
	gn_unhide_close(&set->set->ready);
}

static void set_forget(struct gn_sock *set, int fd)
{
	(void)set;
	atomic_store(gn_slot(fd), NULL);
}

/* Its memory stays, as that of every gn_sock. */
static void sock_forget(struct gn_sock *so, int fd)
{
	if (so->ep->type != SOCK_DGRAM && gn_flag(so->ep, GN_EP_EMULATED) && atomic_load(&so->ep->state) == GN_ESTAB)
		so->kind = GN_KIND_SANDBOX;
	else
		atomic_store(gn_slot(fd), NULL);
}

void gn_sandbox(void)
{
	if (gn_world.sandboxed || gn_is_vfork_child())
		return;
	gn_early_leave();
	gn_retreat_all(may_be_on_ring, stays, GN_WHY_SANDBOX);
	for_each_fd(GN_KIND_SOCK, sock_settle);
	for_each_fd(GN_KIND_EPOLL, set_plain);
	gn_births_note(false); /* a look into /proc */
	gn_world.stats = false; /* the figures would be a write of ours: a sandbox with RLIMIT_FSIZE 0 (sshd's) is killed for it */
	for_each_fd(GN_KIND_EPOLL, set_forget);
	for_each_fd(GN_KIND_SOCK, sock_forget);
	gn_world.sandboxed = true;
	gn_signals_sandbox();
	setenv("GNEZDO_SANDBOX", "1", 1);
}

struct gn_sock *gn_sandboxed(int fd)
{
	return gn_get_kind(fd, GN_KIND_SANDBOX);
}
