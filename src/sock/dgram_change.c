/* SPDX-License-Identifier: MIT */
/*
 * What becomes of the pairs of a datagram endpoint when the program connects, shuts, closes or forks. See dgram.h.
 *
 * Invariants: a pair that goes leads its writer back to the kernel lane, and tells the peer how it went (dir->deaf); what was said before is
 * not lost, unless the kernel's would be too.
 */
#include <netinet/in.h>
#include <string.h>

#include "base/fd.h"
#include "sock/dgram.h"

/* Lets go of a pair: we read what is there, the peer writes no more. The rx and tx locks are not held. */
static void pair_drop(struct gn_sock *so, struct gn_pair *p, uint32_t deaf)
{
	uint32_t consent = atomic_load(&p->rx.dir->consent);

	while (consent < GN_CONSENT_REFUSED && !atomic_compare_exchange_weak(&p->rx.dir->consent, &consent, GN_CONSENT_REFUSED))
		;
	if (deaf && atomic_load(&p->rx.dir->deaf) != GN_DEAF_RESET) /* which the peer has to be told */
		atomic_store(&p->rx.dir->deaf, deaf);
	gn_lock(&so->ep->tx.lock);
	gn_pair_tx_back(so, p);
	gn_unlock(&so->ep->tx.lock);
}

void gn_dgram_pin(struct gn_sock *so)
{
	struct gn_dgram *d = so->dgram;

	for (uint32_t i = 0; d && i < GN_PAIRS; i++)
		if (gn_pair_is_mapped(&d->pair[i]))
			pair_drop(so, &d->pair[i], 0);
}

void gn_dgram_goodbye(struct gn_sock *so)
{
	struct gn_dgram *d = so->dgram;

	for (uint32_t i = 0; d && i < GN_PAIRS; i++) {
		struct gn_pair *p = &d->pair[i];

		if (gn_pair_is_mapped(p) && gn_ep_is_alone(so->ep))
			pair_drop(so, p, GN_DEAF_CLOSED);
		gn_unhide_close(&p->meeting.fd);
	}
}

void gn_dgram_part(struct gn_sock *so)
{
	for (uint32_t i = 0; so->dgram && i < GN_PAIRS; i++)
		gn_unhide_close(&so->dgram->pair[i].meeting.fd);
}

void gn_dgram_hold(struct gn_sock *so)
{
	gn_lock(&so->dgram->lock);
}

void gn_dgram_release(struct gn_sock *so)
{
	gn_unlock_mine(&so->dgram->lock);
}

/* In the child: offers are the parent's business, lifelines are everybody's. */
void gn_dgram_forked(struct gn_sock *so)
{
	struct gn_dgram *d = so->dgram;

	if (!d)
		return;
	atomic_store(&d->lock, 0);
	for (uint32_t i = 0; i < GN_PAIRS; i++) {
		if (gn_pair_is_mapped(&d->pair[i]))
			continue;
		gn_unhide_close(&d->pair[i].meeting.fd);
		d->pair[i].meeting.state = GN_MEET_NONE;
	}
}

/* A hidden descriptor moves out of the program's way. */
void gn_dgram_fd_moved(struct gn_sock *so, int from, int to)
{
	for (uint32_t i = 0; so->dgram && i < GN_PAIRS; i++)
		if (so->dgram->pair[i].meeting.fd == from)
			so->dgram->pair[i].meeting.fd = to;
}

/* Whom the kernel's socket is connected to now. */
static bool peer_now(struct gn_sock *so, int fd, struct gn_addr *peer)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;

	memset(peer, 0, sizeof *peer);
	if (gn_sys_getpeername(fd, &ss, &len) < 0)
		return false;
	return !gn_is_inet(so->ep) || gn_addr_from_sockaddr(peer, (struct sockaddr *)&ss, len) == 0;
}

/* An AF_UNIX socket that finds another peer throws away what it has from the last one, and tells it if that was something: bells are
 * nothing. */
bool gn_dgram_connecting(struct gn_sock *so, int fd)
{
	int rc;

	if (!so->dgram || !gn_rx_shared(so))
		return false;
	gn_dgram_parted(so); /* else nobody would know of it afterwards */
	gn_rx_lock(so, fd);
	rc = gn_dgram_purge(so, fd);
	gn_unlock(&so->ep->rx.lock);
	gn_error_keep(so, rc);
	return rc == 1 || rc == -EBUSY; /* a bell that has to stay is something too */
}

static void pair_forget(struct gn_sock *so, struct gn_pair *p, bool told)
{
	if (!gn_is_inet(so->ep)) {
		gn_lock(&so->ep->rx.lock);
		pair_drop(so, p, gn_pair_has(p) && !told ? GN_DEAF_RESET : GN_DEAF_SHUT);
		gn_pair_rx_done(so, p);
		gn_unlock(&so->ep->rx.lock);
	} else {
		pair_drop(so, p, GN_DEAF_SHUT);
	}
}

/* Connected once more to whom it was. */
static bool is_same_peer(const struct gn_sock *so, int fd, const struct gn_pair *p, const struct gn_addr *peer)
{
	struct gn_name at;
	uint64_t own, other;

	if (gn_is_inet(so->ep))
		return gn_addr_equal(&p->peer, peer);
	if (gn_name_peer_inode(fd, &own, &other) < 0)
		return false;
	gn_name_meeting(&at, own, other);
	return at.len == p->at.len && memcmp(&at.sun, &p->at.sun, at.len) == 0;
}

/* connect() on datagrams changes whom we hear: pairs with others go back, and nothing that was said is lost. */
void gn_dgram_connected(struct gn_sock *so, int fd, int rc, bool told)
{
	struct gn_dgram *d = so->dgram;
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	struct gn_addr peer;
	bool now;

	if (rc < 0)
		return;
	now = peer_now(so, fd, &peer);
	atomic_store(&so->ep->state, now ? GN_ESTAB : GN_UNCONN);
	so->ep->peer = peer;
	if (gn_is_inet(so->ep) && gn_sys_getsockname(fd, &ss, &len) == 0)
		gn_addr_from_sockaddr(&so->ep->local, (struct sockaddr *)&ss, len);
	if (!d)
		return;
	gn_lock(&d->lock);
	atomic_store(&d->shared->connected, 0);
	atomic_store(&so->ep->tx.lane, GN_LANE_KERNEL);
	for (uint32_t i = 0; i < GN_PAIRS; i++) {
		struct gn_pair *p = &d->pair[i];

		if (gn_pair_is_mapped(p) && now && is_same_peer(so, fd, p, &peer)) {
			atomic_store(&d->shared->connected, i + 1);
			gn_pair_note_tx(so, p, atomic_load(&p->sh->tx_lane));
		} else if (gn_pair_is_mapped(p)) {
			pair_forget(so, p, told);
		} else if (atomic_load(&p->state) != GN_PAIR_FREE) {
			gn_pair_clear(so, p); /* its meeting place may be another now */
		}
	}
	gn_unlock(&d->lock);
}

int gn_dgram_shutdown(struct gn_sock *so, int fd, int how)
{
	int rc = (int)gn_neg(gn_real.shutdown(fd, how));

	if (rc < 0 && (rc != -ENOTCONN || !gn_is_inet(so->ep))) /* UDP says so, and is shut all the same (inet_shutdown()) */
		return rc;
	if (how != SHUT_RD)
		atomic_store(&so->ep->tx.shut, 1);
	if (how != SHUT_WR)
		atomic_store(&so->ep->rx.shut, 1);
	atomic_fetch_or(&so->ep->flags, GN_EP_PINNED); /* the kernel knows what each half-shut socket answers */
	gn_dgram_pin(so);
	gn_watches_poke(so); /* the kernel tells edges of it; what waits in a ring it does not know */
	return rc;
}

void gn_dgram_parted(struct gn_sock *so)
{
	struct gn_pair *p = gn_is_inet(so->ep) ? NULL : gn_pair_connected(so->dgram);
	uint32_t deaf;

	if (!p || !gn_pair_is_mapped(p))
		return;
	deaf = atomic_load_explicit(&p->tx.dir->deaf, memory_order_relaxed);
	if (likely(!deaf) || deaf == GN_DEAF_CLOSED || atomic_exchange(&p->sh->parted, 1))
		return;
	if (deaf == GN_DEAF_RESET)
		atomic_store(&so->ep->so_error, ECONNRESET);
	else /* the kernel tells it, if so */
		atomic_store(&so->dgram->shared->error_may_wait, 1);
}
