/* SPDX-License-Identifier: MIT */
/*
 * Datagram pairs: how the writer of a ring comes back to the kernel lane, and what becomes of records that were not read. [DGRAM-1]
 *
 * A reader that goes on reads its ring to the end; one that has left (dgram_leave.c), or died, never will: what lies behind its tail goes by
 * the kernel, before anything that is sent later. While it is leaving, nobody sends: it may be putting into the kernel's queue what is older.
 *
 * Threads/owner: the tx lock where it says so.
 */
#include <string.h>

#include "sock/dgram.h"

#define SETTLE_NS (100 * GN_NS_PER_MS)
#define STEP_NS (50 * GN_NS_PER_US)

/* The record at the ring's own index, of which `there` bytes are known to be written. False: a length that cannot be. [RING-2] */
bool gn_pair_record(const struct gn_ring *r, const struct gn_ring_map *m, uint32_t there, struct iovec iov[2], uint32_t *len)
{
	uint32_t at;

	if (there < sizeof *len)
		return false;
	gn_ring_get(r, m, 0, len, sizeof *len);
	if (gn_record_room(*len) > there)
		return false;
	at = (r->own + (uint32_t)sizeof *len) & (m->size - 1);
	iov[0] = (struct iovec){m->bytes + at, GN_MIN(*len, m->size - at)};
	iov[1] = (struct iovec){m->bytes, *len - iov[0].iov_len};
	return true;
}

/* To the dead of its own domain the kernel would part us from them, and throw away what they had sent. */
static bool nobody_reads(const struct gn_sock *so, int fd)
{
	uint64_t own, peer;

	return so->ep->domain == AF_UNIX && gn_name_peer_inode(fd, &own, &peer) < 0;
}

static void return_begin(struct gn_sock *so, int fd, struct gn_pair *p)
{
	struct gn_pair_shared *sh = p->sh;

	sh->again = atomic_load(&p->tx.dir->tail);
	if (sh->tx.own - sh->again > p->tx.size || nobody_reads(so, fd))
		sh->again = sh->tx.own; /* nonsense: [RING-2] */
	atomic_store(&sh->returns, 1);
}

/* What the reader did not read. -EAGAIN: the kernel's queue, of AF_UNIX, is full. */
static int return_step(struct gn_sock *so, int fd, struct gn_pair *p)
{
	struct gn_pair_shared *sh = p->sh;
	struct gn_ring left = {.own = sh->again};
	struct iovec iov[2];
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
	uint32_t len;
	ssize_t rc;

	if (p->peer.family) {
		msg.msg_name = &p->to;
		msg.msg_namelen = p->to_len;
	}
	while (sh->tx.own != left.own && gn_pair_record(&left, &p->tx, sh->tx.own - left.own, iov, &len)) {
		rc = gn_sys_sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (rc == -EAGAIN && !p->peer.family)
			return -EAGAIN;
		gn_error_keep(so, rc);
		if (rc < 0 && rc != -EAGAIN)
			break;
		left.own += (uint32_t)gn_record_room(len);
		sh->again = left.own;
	}
	sh->again = sh->tx.own;
	return 0;
}

int gn_pair_end(struct gn_sock *so, int fd, struct gn_pair *p)
{
	uint32_t consent = atomic_load(&p->tx.dir->consent);
	bool gone = atomic_load(&p->sh->gone);

	if (atomic_load(&p->sh->tx_lane) != GN_LANE_RING)
		return 0;
	if (consent == GN_CONSENT_LEAVING && !gone)
		return -EBUSY;
	/* Of the dead, what was sent to a socket that is not connected is lost, as in a queue of the kernel's. */
	if (!atomic_load(&p->sh->returns) && (consent >= GN_CONSENT_LEAVING ||
					      (gone && !atomic_load(&p->tx.dir->deaf) && atomic_load(&so->ep->state) == GN_ESTAB)))
		return_begin(so, fd, p);
	if (atomic_load(&p->sh->returns) && return_step(so, fd, p) < 0)
		return -EAGAIN;
	gn_pair_tx_back(so, p);
	return 0;
}

/* A record was written while the reader began to leave: it has been seen, or goes by the kernel now. */
void gn_pair_settle(struct gn_sock *so, int fd, struct gn_pair *p)
{
	struct timespec step = gn_timespec(STEP_NS);
	uint64_t until = gn_now_ns() + SETTLE_NS;

	while (atomic_load(&p->tx.dir->consent) == GN_CONSENT_LEAVING && atomic_load(&p->tx.dir->tail) != p->sh->tx.own &&
	       gn_now_ns() < until && gn_pair_lives(so, fd, p))
		gn_sys_nanosleep(&step, NULL);
	gn_tx_lock(so, fd);
	gn_pair_end(so, fd, p); /* what is left to do then is done at the next call */
	gn_unlock(&so->ep->tx.lock);
}

void gn_dgram_heed(struct gn_sock *so, int fd)
{
	struct gn_dgram *d = so->dgram;
	struct gn_pair *p;

	GN_FOR_PAIRS(d, p, atomic_load(&d->shared->tx_mask)) {
		if (!gn_pair_is_mapped(p) || (!gn_pair_leaves(p) && !atomic_load(&p->sh->returns)))
			continue;
		gn_tx_lock(so, fd);
		gn_pair_end(so, fd, p);
		gn_unlock(&so->ep->tx.lock);
	}
}
