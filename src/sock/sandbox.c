/* SPDX-License-Identifier: MIT */
/*
 * A process that is about to put itself under a seccomp filter: from then on it makes no system call that it did not ask for. [LANE-4]
 *
 * Its endpoints in the kernel lane are pinned and forgotten, so that read() is read() again; one on the ring that is this process's alone
 * goes on behind a relay (relay.c), started while that is allowed. What stays known: listeners, whose callers may come by either face, and
 * rings that a relative holds too, which a relay would rob.
 */
#include "sock/api.h"

static void leave_to_kernel(struct gn_sock *so, int fd)
{
	if (so->kind == GN_KIND_EPOLL) {
		gn_table_clear(fd);
		return;
	}
	if (atomic_load(&so->ep->state) == GN_LISTEN || so->dgram)
		return;
	if (gn_rx_shared(so) || gn_tx_shared(so)) {
		if (atomic_load(&so->ep->state) == GN_ESTAB && atomic_load(&so->ep->holders) == 1)
			gn_relay(so, fd);
		return;
	}
	gn_pin(so, fd, GN_WHY_SANDBOX);
	gn_table_clear(fd);
}

void gn_sandbox(void)
{
	if (gn_world.sandboxed || gn_is_vfork_child())
		return;
	gn_world.sandboxed = true;
	for (uint32_t fd = 0; fd < gn_world.used_fds; fd++) {
		struct gn_sock *so = gn_get_any((int)fd);

		if (!so)
			continue;
		leave_to_kernel(so, (int)fd);
		gn_put(so);
	}
	gn_world.stats = false; /* the figures would be a write of ours, and a sandbox often comes with RLIMIT_FSIZE 0 */
}
