/* SPDX-License-Identifier: MIT */
/*
 * Promotion and demotion: which lane each direction of a connection is in.
 *
 * Theory of operation. A connection starts in the kernel lane. When this side has done enough operations there (heat) and is the only
 * process that holds its end, it goes, a step per call, to the meeting (lane/segment.h), where both ends come to share a segment. Then
 * each direction switches on its own:
 *
 *   reader    consents, when none of its threads is inside the kernel lane (rx.in_kernel): from then on all its reads hold the rx lock;
 *   writer    seeing the consent, and none of its threads inside the kernel lane (tx.in_kernel), writes the stream position into
 *             switch_pos, then the lane word: every later byte goes to the ring;
 *   reader    takes exactly switch_pos bytes from the kernel lane, whatever follows there is bells, then reads the ring. [LANE-2]
 *
 * A thread counts itself into in_kernel before it looks at the lane, and whoever changes the lane looks at in_kernel after it did
 * (sequentially consistent both), so no call runs in the old lane unseen. What is tried is LEAVING, and RING only when it has succeeded: who
 * looks meanwhile waits for the outcome (gn_lane_enter), for an attempt that fails must not send anybody to the ring to wait there for a bell.
 * A process killed in between leaves in_kernel too high: the connection then stays in the kernel lane for ever, which is slow and right. [LANE-1]
 *
 * Back: the reader withdraws its consent (REFUSED) or the writer decides; the writer sets the lane word to BACK and writes to the kernel;
 * the reader drains the ring, takes out of the kernel lane the bells that head it, and reads on there. After BACK a direction carries no
 * more bells.
 *
 * Relatives share an endpoint, and one of them may be killed at any instruction. Whoever takes a lock over from the dead mends what that
 * one left half done (gn_tx_mend, gn_rx_mend) and rings: nobody knows whether the dead one had. A bell too many is only a look too many,
 * and is known by its content wherever it turns up, so nothing depends on how many there were.
 */
#include <string.h>

#include "base/fd.h"
#include "sock/sock.h"

#define TRIES_MAX 200
#define BIG_MISSES 8      /* times that gn_world.big may be somebody else's before it is waited for */
#define WAIT_HEAT 4       /* operations between two looks at an offer */
#define EDGE_WAITS 64     /* operations to wait for a connection to be read empty: gn_edges_wait() */
#define UNKNOWN_HEAT 4    /* operations between two pieces of uring.c's search */
#define SHARED_HEAT 32    /* operations between two looks whether relatives have let go */

void gn_why(struct gn_ep *ep, enum gn_reason why)
{
	atomic_store_explicit(&ep->reason, why, memory_order_relaxed);
}

static void give_up(struct gn_sock *so, enum gn_reason why)
{
	gn_why(so->ep, why);
	atomic_store(&so->meets, GN_SEG_GIVEN_UP);
	so->heat_next = UINT32_MAX;
}

/* Is the other end there still? Where the two meet by their addresses, those may be another connection's as soon as it is gone. */
static bool has_peer(int fd)
{
	struct pollfd p = {fd, 0, 0};

	return gn_sys_poll(&p, 1, 0) == 0;
}

/* Who is on the other end, and where the two meet. */
static int meeting_place(struct gn_sock *so, int fd, struct gn_name *at)
{
	struct ucred cred;
	socklen_t len = sizeof cred;
	int rc = 0;

	if (!so->place_known) {
		rc = gn_sys_getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len);
		if (rc < 0)
			return rc;
		so->expect = (struct gn_expect){cred.uid, cred.pid, -1};
		if (!gn_flag(so->ep, GN_EP_EMULATED))
			rc = gn_name_peer_inode(fd, &so->inode, &so->peer_inode);
		if (rc < 0)
			return rc;
		so->place_known = true;
	}
	so->expect.fd = fd;
	if (gn_flag(so->ep, GN_EP_EMULATED))
		gn_name_meeting_inet(at, 's', &so->ep->local, &so->ep->peer);
	else
		gn_name_meeting(at, so->inode, so->peer_inode);
	return 0;
}

static enum gn_reason reason_of(int rc)
{
	switch (rc) {
	case -EPERM:
		return GN_WHY_TRUST;
	case -EPROTO:
		return GN_WHY_PROTOCOL;
	case -EOPNOTSUPP:
	case -ENOENT:
		return GN_WHY_NO_DIAG;
	case -ENOTCONN:
		return GN_WHY_NO_PEER;
	default:
		return GN_WHY_NO_MEMORY;
	}
}

static void meeting_went(struct gn_sock *so, int rc)
{
	if (rc == 1) {
		gn_segment_views(&so->segment, &so->tx, &so->rx);
		memcpy(so->nonce, so->segment.map->nonce, sizeof so->nonce);
		atomic_store(&so->meets, GN_SEG_MAPPED);
		so->heat_next = UINT32_MAX;
		return;
	}
	if (rc < 0) {
		give_up(so, reason_of(rc));
		return;
	}
	so->heat_next = so->heat + (gn_world.lanes == GN_LANES_RING ? 0 : WAIT_HEAT);
	if (++so->meet_tries > TRIES_MAX) {
		gn_unhide_close(&so->meeting.fd);
		so->meeting.state = GN_MEET_NONE;
		give_up(so, GN_WHY_NO_PEER);
	}
}

void gn_tx_mend(struct gn_sock *so, int fd)
{
	struct gn_ep *ep = so->ep;
	struct gn_dir *d = so->tx.dir;

	if (so->dgram)
		gn_dgram_tx_mend(so, fd);
	if (!d || gn_has_moved(so))
		return;
	if (atomic_load(&d->lane) == GN_LANE_BACK) /* killed in gn_tx_back() */
		atomic_store(&ep->tx.lane, GN_LANE_BACK);
	else if (atomic_load(&d->lane) == GN_LANE_KERNEL && gn_tx_shared(so)) /* in gn_switch_tx() */
		atomic_store(&ep->tx.lane, GN_LANE_KERNEL);
	else
		atomic_store(&d->head, ep->tx.ring.own);
	if (gn_tx_shared(so) && atomic_load(&ep->tx.shut))
		atomic_store(&d->fin, 1);
	gn_bell(so, fd);
}

void gn_rx_mend(struct gn_sock *so, int fd)
{
	struct gn_ep *ep = so->ep;
	struct gn_dir *d = so->rx.dir;

	if (so->dgram)
		gn_dgram_rx_mend(so, fd);
	if (!d || gn_has_moved(so))
		return;
	if (gn_rx_shared(so) && atomic_load(&d->consent) == GN_CONSENT_NONE) /* killed in gn_consent_rx() */
		atomic_store(&ep->rx.lane, GN_LANE_KERNEL);
	atomic_store(&d->tail, ep->rx.ring.own);
	if (gn_rx_shared(so) && !gn_past_switch(so)) { /* killed in gn_kernel_take(), perhaps between the read and its count */
		atomic_fetch_or(&ep->flags, GN_EP_UNSURE);
		gn_kernel_recount(so, fd);
	}
	gn_bell_rest(so, fd);
	gn_bell_space(so, fd);
}

static bool may_promote(struct gn_sock *so, int fd)
{
	struct gn_ep *ep = so->ep;

	if (gn_world.lanes != GN_LANES_KERNEL && !gn_uring_is_known()) {
		so->heat_next = so->heat + UNKNOWN_HEAT;
		return false;
	}
	if (gn_world.lanes == GN_LANES_KERNEL) {
		give_up(so, gn_world.why_kernel);
		return false;
	}
	if (gn_flag(ep, GN_EP_PINNED)) {
		so->heat_next = UINT32_MAX;
		return false;
	}
	if (atomic_load(&ep->state) != GN_ESTAB)
		return false;
	if (!gn_ep_is_alone(ep)) {
		gn_why(ep, GN_WHY_SHARED);
		so->heat_next = so->heat + SHARED_HEAT;
		return false;
	}
	if (so->meeting.state == GN_MEET_NONE && gn_fd_is_scarce()) {
		give_up(so, GN_WHY_SCARCE);
		return false;
	}
	if (so->meeting.state == GN_MEET_NONE && gn_is_elsewhere(fd)) {
		give_up(so, GN_WHY_NETNS);
		return false;
	}
	return true;
}

/* Not at the first attempt; but the two ends of a connection in two threads of one process may well try in step, and one lose for ever. */
static bool big_take(struct gn_sock *so)
{
	if (!gn_lock_try(&gn_world.big)) {
		if (++so->big_misses < BIG_MISSES)
			return false;
		gn_lock(&gn_world.big);
	}
	so->big_misses = 0;
	return true;
}

void gn_promote_step(struct gn_sock *so, int fd)
{
	struct gn_name at;
	int before = so->meeting.fd;
	int rc;

	if (unlikely(gn_peer_waits(so)) && gn_peer_settle(so, fd) < 0)
		return;
	if (atomic_load(&so->meets) != GN_SEG_NONE || !big_take(so))
		return; /* another thread is at it, or the process forks: [LANE-3] */
	if (atomic_load(&so->meets) == GN_SEG_NONE && may_promote(so, fd)) {
		rc = meeting_place(so, fd, &at);
		if (rc == -EAGAIN)
			rc = 0; /* not accepted yet */
		else if (rc == 0)
			rc = gn_meeting_step(&so->meeting, &at, &so->expect, gn_world.ring_size, so->ep->type != SOCK_STREAM,
					     &so->segment);
		if (rc == 1 && gn_flag(so->ep, GN_EP_EMULATED) && !has_peer(fd)) { /* after it: whoever came to meet another one came later than the end */
			gn_segment_unmap(&so->segment);
			rc = -ENOTCONN;
		}
		gn_hide_instead(before, so->meeting.fd);
		meeting_went(so, rc);
	}
	gn_unlock(&gn_world.big);
}

static uint64_t kernel_position(const struct gn_ep *ep, const struct gn_half *half)
{
	return ep->type == SOCK_STREAM ? atomic_load(&half->kernel_bytes) : atomic_load(&half->kernel_msgs);
}

/* Of a connection whose first half is about to leave the kernel lane, relatives have registrations in epoll sets that nobody else can move. With
 * gn_watch_lists held a fork comes before this look, or after the half has left, and then the child moves its own (fork.c). */
bool gn_may_begin(const struct gn_sock *so)
{
	return gn_on_ring(so) || atomic_load(&so->ep->holders) == 1;
}

/* Without the lock: is it worth taking? The meeting is over, or another, so its count is free. */
bool gn_begins(struct gn_sock *so)
{
	return gn_may_begin(so) || (++so->meet_tries % SHARED_HEAT == 0 && gn_ep_is_alone(so->ep));
}

bool gn_lane_leave(struct gn_half *half)
{
	bool empty;

	atomic_store(&half->lane, GN_LANE_LEAVING);
	empty = atomic_load(&half->in_kernel) == 0;
	atomic_store(&half->lane, empty ? GN_LANE_RING : GN_LANE_KERNEL);
	return empty;
}

bool gn_lane_enter(struct gn_sock *so, struct gn_half *half, int fd)
{
	uint32_t lane;

	for (;;) {
		atomic_fetch_add(&half->in_kernel, 1);
		lane = atomic_load(&half->lane);
		if (likely(lane != GN_LANE_RING && lane != GN_LANE_LEAVING && lane != GN_LANE_MOVED))
			return true;
		atomic_fetch_sub(&half->in_kernel, 1);
		if (lane == GN_LANE_RING || lane == GN_LANE_MOVED)
			return false;
		if (half == &so->ep->rx) /* free again when it is known */
			gn_rx_lock(so, fd);
		else
			gn_tx_lock(so, fd);
		lane = GN_LANE_LEAVING; /* still: who tried is dead */
		atomic_compare_exchange_strong(&half->lane, &lane, GN_LANE_KERNEL);
		gn_unlock(&half->lock);
	}
}

/* gn_watch_lists and the rx lock are held. */
static bool consent(struct gn_sock *so)
{
	struct gn_ep *ep = so->ep;
	uint32_t none = GN_CONSENT_NONE;
	bool now;

	/* In order with so->meets: who pins has seen that there is no segment yet, or is seen here. */
	if ((atomic_load(&ep->flags) & GN_EP_PINNED) || atomic_load(&ep->rx.lane) != GN_LANE_KERNEL || !gn_lane_leave(&ep->rx))
		return false;
	now = atomic_compare_exchange_strong(&so->rx.dir->consent, &none, GN_CONSENT_GIVEN);
	if (!now)
		atomic_store(&ep->rx.lane, GN_LANE_KERNEL);
	return now;
}

bool gn_consent_rx(struct gn_sock *so, int fd)
{
	bool now;

	if (atomic_load(&so->meets) != GN_SEG_MAPPED || gn_flag(so->ep, GN_EP_PINNED | GN_EP_SHUT_CARRIER) || !gn_begins(so))
		return false;
	gn_lock(&gn_watch_lists);
	gn_rx_lock(so, fd);
	now = gn_may_begin(so) && consent(so);
	gn_unlock(&so->ep->rx.lock);
	gn_unlock(&gn_watch_lists);
	if (now)
		gn_watches_to_ring(so);
	return gn_rx_shared(so);
}

bool gn_switch_tx(struct gn_sock *so, int fd)
{
	struct gn_ep *ep = so->ep;
	bool now = false;

	if (atomic_load(&so->meets) != GN_SEG_MAPPED || atomic_load(&so->tx.dir->consent) != GN_CONSENT_GIVEN ||
	    gn_flag(ep, GN_EP_PINNED | GN_EP_SHUT_CARRIER) /* bells must be able to come */ || !gn_begins(so))
		return false;
	gn_lock(&gn_watch_lists);
	gn_tx_lock(so, fd);
	if (gn_may_begin(so) && atomic_load(&ep->tx.lane) == GN_LANE_KERNEL && !atomic_load(&ep->tx.shut) && !gn_flag(ep, GN_EP_PINNED) && gn_lane_leave(&ep->tx)) {
		atomic_store(&so->tx.dir->switch_pos, kernel_position(ep, &ep->tx));
		atomic_store(&so->tx.dir->lane, GN_LANE_RING);
		atomic_fetch_add(&ep->promotions, 1);
		gn_why(ep, GN_WHY_NONE);
		now = true;
		if (atomic_load(&so->tx.dir->consent) == GN_CONSENT_REFUSED) /* meanwhile: who refused counts on this look */
			gn_tx_back(so, fd);
	}
	gn_unlock(&ep->tx.lock);
	gn_unlock(&gn_watch_lists);
	if (now)
		gn_watches_to_ring(so);
	return gn_tx_shared(so);
}

bool gn_edges_wait(struct gn_sock *so, int fd)
{
	if (likely(!so->watches) || gn_on_ring(so) || so->edge_waits >= EDGE_WAITS || !gn_watches_wait(so, fd))
		return false;
	so->edge_waits++;
	return true;
}

/* Both directions, whichever the program uses: bells of one go by the kernel lane of the other, which must carry no data then. */
void gn_settle(struct gn_sock *so, int fd)
{
	if (atomic_load_explicit(&so->meets, memory_order_acquire) != GN_SEG_MAPPED)
		return;
	if (gn_edges_wait(so, fd))
		return;
	if (!gn_rx_shared(so))
		gn_consent_rx(so, fd);
	if (!gn_tx_shared(so))
		gn_switch_tx(so, fd);
	so->settled = gn_rx_shared(so) && gn_tx_shared(so);
}

/* Of a half that is over the kernel's was left open for bells (shutdown_ring()), unless one side has shut both: to shut it twice would be news twice. */
static bool is_left_open(const struct gn_sock *so)
{
	const struct gn_ep *ep = so->ep;
	bool mine = atomic_load(&ep->tx.shut), emulated = gn_flag(ep, GN_EP_EMULATED), deaf = atomic_load(&so->tx.dir->deaf) == GN_DEAF_SHUT;

	if ((mine && atomic_load(&ep->rx.shut) && gn_flag(ep, GN_EP_SHUT_CARRIER)) || (deaf && (emulated || atomic_load(&so->rx.dir->fin))))
		return false;
	return mine || deaf;
}

void gn_tx_back(struct gn_sock *so, int fd)
{
	if (!gn_tx_shared(so))
		return;
	/* A reader that sleeps has nothing to do before data comes, and that comes by the kernel; a writer would hear of room no more. */
	if (unlikely(atomic_load(&so->rx.dir->p_parked)))
		gn_bell(so, fd);
	atomic_store(&so->tx.dir->lane, GN_LANE_BACK);
	atomic_store(&so->ep->tx.lane, GN_LANE_BACK);
	if (is_left_open(so))
		gn_sys_shutdown(fd, SHUT_WR);
	atomic_fetch_add(&so->ep->demotions, 1);
	if (atomic_load(&so->ep->reason) == GN_WHY_NONE)
		gn_why(so->ep, GN_WHY_NO_PEER);
}

void gn_rx_back(struct gn_sock *so, int fd)
{
	gn_drain_bells(so, fd); /* all of them were sent before the lane word changed */
	gn_rx_back_with_bells(so, fd);
}

void gn_rx_back_with_bells(struct gn_sock *so, int fd)
{
	gn_peek_offset_back(so, fd);
	atomic_store(&so->ep->rx.lane, GN_LANE_BACK);
	atomic_fetch_add(&so->ep->demotions, 1);
	gn_heed(so, fd);
}

void gn_pin(struct gn_sock *so, int fd, enum gn_reason why)
{
	struct gn_ep *ep = so->ep;

	atomic_fetch_or(&ep->flags, GN_EP_PINNED);
	gn_why(ep, why);
	gn_dgram_pin(so);
	if (atomic_load(&so->meets) != GN_SEG_MAPPED)
		return;
	atomic_store(&so->rx.dir->consent, GN_CONSENT_REFUSED);
	gn_tx_lock(so, fd);
	gn_bell(so, fd); /* the last one: a peer that sleeps is to see it */
	gn_tx_back(so, fd);
	gn_unlock(&ep->tx.lock);
}
