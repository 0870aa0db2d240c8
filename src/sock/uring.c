/* SPDX-License-Identifier: MIT */
/*
 * io_uring: a process that sets one up moves bytes, accepts and connects where nobody sees it. [LANE-4]
 *
 * From then on the process is the kernel's alone: what is on the ring comes back (retreat.c), or is carried by a relay; nothing is promoted;
 * listeners have no private face any more, for a caller in its queue would never be accepted; callers of it take the public one.
 */
#include "sock/api.h"

static bool is_any(struct gn_sock *so, int fd)
{
	gn_private_retire(so, fd);
	gn_peer_drop(so);
	return true;
}

static void relayed(struct gn_sock *so, int fd)
{
	gn_relay(so, fd);
}

void gn_before_uring(void)
{
	if (gn_is_vfork_child() || gn_world.unseen)
		return;
	gn_world.unseen = true;
	gn_world.lanes = GN_LANES_KERNEL;
	gn_retreat_all(is_any, relayed, GN_WHY_CALL);
}
