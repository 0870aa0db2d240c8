/* SPDX-License-Identifier: MIT */
/*
 * Retreat: the way back to the kernel lane for good, before somebody uses the socket whom we do not see: a program without the shim, stdio,
 * a sandbox. [LANE-4]
 *
 * Theory of operation. Our own writing goes back at once. The peer's goes back when the peer looks: it finds its consent withdrawn in
 * each write and each wake-up (gn_heed), and is woken by a bell. So this side pins, rings, and waits for WAIT_NS at most until the peer has
 * said BACK and its ring is empty. That is all for most connections, and all processes that share the endpoint find it in the kernel
 * lane. Where the peer is busy elsewhere, or data lies unread in the ring, a relay carries the connection (relay.c).
 *
 * Units: nanoseconds. Threads/owner: any thread; takes the locks of both halves, one after the other.
 */
#include <stdlib.h>

#include "sock/api.h"

#define WAIT_NS (20 * GN_NS_PER_MS)
#define STEP_NS (100 * GN_NS_PER_US)

/* Has the peer's writing come back to the kernel lane, with nothing of the ring unread? Follows it. */
static bool rx_is_home(struct gn_sock *so, int fd)
{
	struct gn_ep *ep = so->ep;
	struct gn_dir *d = so->rx.dir;
	bool home;

	gn_rx_lock(so, fd);
	/* Refused before it was used: the peer looks again after it has switched. */
	home = !gn_rx_shared(so) || atomic_load(&d->lane) == GN_LANE_KERNEL;
	if (!home && atomic_load(&d->lane) == GN_LANE_BACK && gn_past_switch(so) && gn_ring_readable(&ep->rx.ring, &so->rx) == 0) {
		gn_rx_back(so, fd);
		home = true;
	}
	gn_unlock(&ep->rx.lock);
	return home;
}

/* Data that only a reader with the shim can take. */
static bool rx_is_stuck(struct gn_sock *so)
{
	return gn_rx_shared(so) && (!gn_past_switch(so) || gn_ring_readable(&so->ep->rx.ring, &so->rx) != 0 || gn_peer_closed(so));
}

static bool has_ring(const struct gn_sock *so)
{
	return gn_is_stream_like(so->ep) && gn_on_ring(so) && atomic_load(&so->ep->state) == GN_ESTAB;
}

bool gn_retreat_wait(struct gn_sock *so, int fd, uint64_t until_ns)
{
	struct timespec step = gn_timespec(STEP_NS);

	gn_connecting_pass(so); /* another thread: what it puts there is what is given away; pinned, no later one does */
	if (unlikely(gn_has_moved(so)))
		return false;
	if (!has_ring(so))
		return true;
	while (!rx_is_home(so, fd)) {
		if (rx_is_stuck(so) || gn_now_ns() >= until_ns)
			return false;
		gn_sys_nanosleep(&step, NULL);
	}
	return !gn_has_moved(so);
}

static void leave_begins(struct gn_sock *so, int fd, enum gn_reason why)
{
	if (so->dgram)
		gn_dgram_leave(so, fd);
	gn_pin(so, fd, why);
}

bool gn_retreat(struct gn_sock *so, int fd, enum gn_reason why)
{
	leave_begins(so, fd, why);
	return gn_retreat_wait(so, fd, gn_now_ns() + WAIT_NS);
}

/* The peer wants its bytes by the kernel: no more waiting for the next write. */
void gn_heed(struct gn_sock *so, int fd)
{
	if (!so->tx.dir || atomic_load_explicit(&so->tx.dir->consent, memory_order_relaxed) != GN_CONSENT_REFUSED || !gn_tx_shared(so))
		return;
	gn_tx_lock(so, fd);
	gn_tx_back(so, fd);
	gn_unlock(&so->ep->tx.lock);
}

/* Or has another thread closed it while we waited? */
static bool is_there(const struct gn_sock *so, int fd)
{
	return gn_is_vfork_child() || atomic_load(gn_slot(fd)) == so;
}

int gn_retreat_all(bool (*leaves)(struct gn_sock *so, int fd), int (*stays)(struct gn_sock *so, int fd), enum gn_reason why)
{
	uint64_t until;
	int rc = 0;

	if (gn_world.sandboxed)
		return 0;
	/* All peers are asked first, then waited for together. */
	for (int pass = 0; pass < 2; pass++) {
		until = gn_now_ns() + WAIT_NS;
		for (uint32_t fd = 0; fd < gn_world.used_fds && rc >= 0; fd++) {
			struct gn_sock *so = gn_get((int)fd);

			if (!so)
				continue;
			if (leaves(so, (int)fd)) {
				if (pass == 0) {
					gn_private_retire(so, (int)fd);
					leave_begins(so, (int)fd, why);
				} else if (!gn_retreat_wait(so, (int)fd, until) && is_there(so, (int)fd)) {
					rc = stays(so, (int)fd);
					if (rc < 0 && !is_there(so, (int)fd))
						rc = 0;
				}
			}
			gn_put(so);
		}
	}
	return rc;
}
