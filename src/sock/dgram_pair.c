/* SPDX-License-Identifier: MIT */
/* Pairs of a datagram endpoint: how they warm up, meet, switch, and go back. See dgram.h. */
#include <netinet/in.h>
#include <string.h>

#include "base/fd.h"
#include "sock/dgram.h"

#define TRIES_MAX 100
#define WAIT_HEAT 4         /* datagrams between two looks at an offer, at first */
#define GIVEN_UP_HEAT 100000 /* datagrams until a peer that did not come is offered again */

/* gn_world.big is held. */
static struct gn_dgram *dgram_new(void)
{
	struct gn_dgram *d;
	void *own, *shared;

	if (gn_sys_mmap(&own, NULL, sizeof *d, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) < 0)
		return NULL;
	if (gn_sys_mmap(&shared, NULL, sizeof *d->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0) < 0) {
		gn_sys_munmap(own, sizeof *d);
		return NULL;
	}
	d = own;
	d->shared = shared;
	for (uint32_t i = 0; i < GN_PAIRS; i++) {
		d->pair[i].meeting.fd = -1;
		d->pair[i].meeting.stay = true;
		d->pair[i].sh = &d->shared->pair[i];
	}
	return d;
}

static struct gn_dgram *dgram_get(struct gn_sock *so)
{
	if (so->dgram || !gn_lock_try(&gn_world.big))
		return so->dgram;
	if (!so->dgram)
		__atomic_store_n(&so->dgram, dgram_new(), __ATOMIC_RELEASE);
	gn_unlock(&gn_world.big);
	return so->dgram;
}

void gn_dgram_free(struct gn_sock *so)
{
	struct gn_dgram *d = so->dgram;

	if (!d)
		return;
	for (uint32_t i = 0; i < GN_PAIRS; i++)
		gn_segment_unmap(&d->pair[i].segment);
	gn_sys_munmap(d->shared, sizeof *d->shared);
	gn_sys_munmap(d, sizeof *d);
	so->dgram = NULL;
}

struct gn_pair *gn_pair_connected(struct gn_dgram *d)
{
	uint32_t i = atomic_load_explicit(&d->shared->connected, memory_order_relaxed);

	return i ? &d->pair[i - 1] : NULL;
}

bool gn_pair_is_named(const struct gn_pair *p, const void *name, socklen_t len)
{
	if (p->to.ss_family == AF_INET) /* the rest is padding */
		return len >= sizeof(struct sockaddr_in) && memcmp(&p->to, name, offsetof(struct sockaddr_in, sin_zero)) == 0;
	return p->to.ss_family == AF_INET6 && len >= sizeof(struct sockaddr_in6) && memcmp(&p->to, name, sizeof(struct sockaddr_in6)) == 0;
}

struct gn_pair *gn_pair_named(struct gn_dgram *d, const struct gn_sock *so, const void *name, socklen_t len)
{
	uint32_t mask = gn_dgram_mask(d) | atomic_load_explicit(&d->shared->tx_mask, memory_order_relaxed);
	struct gn_pair *p = &d->pair[atomic_load_explicit(&d->shared->last, memory_order_relaxed) % GN_PAIRS];

	if (!gn_is_inet(so->ep) || !mask)
		return NULL;
	if (gn_pair_is_mapped(p) && gn_pair_is_named(p, name, len))
		return p;
	GN_FOR_PAIRS(d, p, mask)
		if (gn_pair_is_mapped(p) && gn_pair_is_named(p, name, len))
			return p;
	return NULL;
}

/* Nothing of ours waits there; of its own domain the peer tells when it parts from us with something unread (gn_dgram_parted). */
static bool is_all_read(const struct gn_pair *p)
{
	return p->peer.family || atomic_load(&p->tx.dir->tail) == p->sh->tx.own || atomic_load(&p->sh->gone);
}

static bool writes_no_more(const struct gn_pair *p)
{
	uint32_t lane = atomic_load(&p->sh->tx_lane);

	return (lane == GN_LANE_BACK && is_all_read(p)) || (lane == GN_LANE_KERNEL && atomic_load(&p->sh->gone)) || atomic_load(&p->tx.dir->deaf);
}

/* Both directions are over: the place may be taken by another pair. */
static bool pair_is_over(const struct gn_dgram *d, const struct gn_pair *p)
{
	return gn_pair_is_mapped(p) && writes_no_more(p) && !(gn_dgram_mask(d) & 1u << (p - d->pair));
}

/* The mapping stays for a while: who looks at it without a lock sees old words there, and the next segment is mapped
 * over it. */
void gn_pair_clear(struct gn_sock *so, struct gn_pair *p)
{
	struct gn_dgram *d = so->dgram;

	gn_lock(&so->ep->rx.lock);
	gn_lock(&so->ep->tx.lock);
	if (gn_pair_is_mapped(p)) {
		gn_pair_tx_back(so, p);
		memcpy(d->nonces[d->buried++ % GN_NONCES], p->nonce, sizeof p->nonce);
	}
	atomic_store(&p->state, GN_PAIR_FREE);
	gn_unhide_close(&p->meeting.fd);
	p->meeting.state = GN_MEET_NONE;
	p->heat = p->heat_next = p->tries = 0;
	p->placed = false;
	memset(&p->peer, 0, sizeof p->peer);
	gn_unlock(&so->ep->tx.lock);
	gn_unlock(&so->ep->rx.lock);
}

static struct gn_pair *pair_find(struct gn_dgram *d, const struct gn_addr *peer)
{
	for (uint32_t i = 0; i < GN_PAIRS; i++)
		if (atomic_load(&d->pair[i].state) != GN_PAIR_FREE && gn_addr_equal(&d->pair[i].peer, peer))
			return &d->pair[i];
	return NULL;
}

/* A place for a new peer: free, or the coldest one's. Others cool down meanwhile, so that one that was hot once does not stay for ever. */
static struct gn_pair *pair_place(struct gn_sock *so, int fd)
{
	struct gn_dgram *d = so->dgram;
	struct gn_pair *best = NULL;

	for (uint32_t i = 0; i < GN_PAIRS; i++) {
		struct gn_pair *p = &d->pair[i];

		if (atomic_load(&p->state) == GN_PAIR_FREE)
			return p;
		if (pair_is_over(d, p)) {
			gn_pair_clear(so, p);
			return p;
		}
		if (!gn_pair_is_mapped(p) && (!best || p->heat < best->heat))
			best = p;
	}
	if (!best) { /* all are on rings; the peers that were killed are found one by one */
		best = &d->pair[so->heat % GN_PAIRS];
		gn_pair_lives(so, fd, best);
		return NULL;
	}
	if (best->heat > 1) {
		best->heat--;
		return NULL;
	}
	gn_pair_clear(so, best);
	return best;
}

int gn_dgram_own(int fd, const struct gn_addr *peer, struct gn_addr *own)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	struct gn_addr source;
	int rc = gn_sys_getsockname(fd, &ss, &len);

	if (rc == 0)
		rc = gn_addr_from_sockaddr(own, (struct sockaddr *)&ss, len);
	if (rc < 0)
		return rc;
	if (!own->port)
		return -EAGAIN;
	if (!gn_addr_is_wildcard(own))
		return 0;
	rc = gn_addr_source(&source, peer);
	source.port = own->port;
	if (rc == 0)
		*own = source;
	return rc;
}

/* Where the two halves meet and whom to expect there. -EAGAIN: not yet; -EADDRNOTAVAIL: nowhere. */
static int place_inet(struct gn_sock *so, int fd, struct gn_pair *p)
{
	struct gn_addr own = {0};
	int rc = gn_dgram_own(fd, &p->peer, &own);

	if (rc < 0)
		return rc;
	if (gn_addr_is_multicast(&own) || own.family != p->peer.family)
		return -EADDRNOTAVAIL;
	gn_name_meeting_inet(&p->at, 'd', &own, &p->peer);
	if (gn_name_pair_uid(&own, &p->peer, &p->expect.uid) < 0 || !gn_name_may_answer(&p->peer, SOCK_DGRAM, p->expect.uid))
		p->expect.uid = gn_sys_geteuid(); /* it cannot be told: nobody but ourselves */
	p->to_len = gn_addr_to_sockaddr(&p->to, &p->peer, so->ep->domain);
	return 0;
}

static int place_unix(int fd, struct gn_pair *p)
{
	uint64_t own, peer;
	int rc = gn_name_peer_inode(fd, &own, &peer);

	if (rc < 0)
		return rc;
	gn_name_meeting(&p->at, own, peer);
	p->expect.uid = gn_sys_geteuid();
	p->to_len = sizeof p->to;
	if (gn_sys_getpeername(fd, &p->to, &p->to_len) < 0 || p->to_len <= sizeof(sa_family_t))
		p->to_len = 0;
	return 0;
}

static void give_up(struct gn_sock *so, struct gn_pair *p, enum gn_reason why)
{
	int before = p->meeting.fd;

	if (!gn_dgram_mask(so->dgram))
		gn_why(so->ep, why);
	gn_meeting_end(&p->meeting);
	gn_hide_instead(before, -1);
	p->tries = 0;
	p->placed = false;
	p->heat_next = p->heat + GIVEN_UP_HEAT;
	atomic_store(&p->state, GN_PAIR_GIVEN_UP);
}

/* May this endpoint have pairs on rings at all? */
static bool may_promote(struct gn_sock *so, int fd, struct gn_pair *p)
{
	struct gn_ep *ep = so->ep;

	if (!gn_ep_is_alone(ep)) {
		gn_why(ep, GN_WHY_SHARED);
		p->heat_next = p->heat + 8 * WAIT_HEAT;
		return false;
	}
	/* Of several sockets on one address the kernel chooses for each datagram; a pair could not. */
	if (gn_is_inet(ep) && atomic_load(&ep->state) != GN_ESTAB &&
	    (gn_option_on(fd, SOL_SOCKET, SO_REUSEADDR) || gn_option_on(fd, SOL_SOCKET, SO_REUSEPORT))) {
		give_up(so, p, GN_WHY_OPTION);
		return false;
	}
	if (gn_is_inet(so->ep) && (gn_addr_is_multicast(&p->peer) || !p->peer.port)) {
		give_up(so, p, GN_WHY_ADDRESS);
		return false;
	}
	if (p->meeting.state == GN_MEET_NONE && gn_fd_is_scarce()) {
		give_up(so, p, GN_WHY_SCARCE);
		return false;
	}
	if (p->meeting.state == GN_MEET_NONE && gn_is_elsewhere(fd)) {
		give_up(so, p, GN_WHY_NETNS);
		return false;
	}
	if (gn_is_inet(so->ep) && !gn_addr_is_local(&p->peer)) {
		give_up(so, p, GN_WHY_REMOTE);
		return false;
	}
	return true;
}

/* Maps the new segment where the place's last one was: see gn_pair_clear(). */
static bool segment_settle(struct gn_pair *p, struct gn_segment *got)
{
	if (p->segment.map && p->segment.bytes == got->bytes) {
		if (gn_raw6(SYS_mremap, (long)got->map, (long)got->bytes, (long)got->bytes, MREMAP_MAYMOVE | MREMAP_FIXED, (long)p->segment.map,
			    0) < 0)
			return false;
		got->map = p->segment.map;
	} else if (p->segment.map) {
		return false;
	}
	p->segment = *got;
	return true;
}

static void met(struct gn_sock *so, struct gn_pair *p, struct gn_segment *got)
{
	if (!segment_settle(p, got)) {
		gn_segment_unmap(got);
		give_up(so, p, GN_WHY_NO_MEMORY);
		return;
	}
	gn_segment_views(&p->segment, &p->tx, &p->rx);
	memcpy(p->nonce, p->segment.map->nonce, sizeof p->nonce);
	memset(p->sh, 0, sizeof *p->sh);
	atomic_store(&p->state, GN_PAIR_MAPPED);
}

/* One step towards a shared segment. The table lock is held. */
static void pair_step(struct gn_sock *so, int fd, struct gn_pair *p)
{
	struct gn_segment got = {0};
	int before = p->meeting.fd, rc = 0;

	if (!gn_lock_try(&gn_world.big))
		return;
	if (may_promote(so, fd, p)) {
		if (!p->placed)
			rc = gn_is_inet(so->ep) ? place_inet(so, fd, p) : place_unix(fd, p);
		p->placed = rc == 0;
		if (rc == 0)
			rc = gn_meeting_step(&p->meeting, &p->at, &p->expect, gn_world.ring_size, true, &got);
		gn_hide_instead(before, p->meeting.fd);
		p->heat_next = p->heat + (gn_world.lanes == GN_LANES_RING ? 0 : WAIT_HEAT << GN_MIN(p->tries / 16, 8u));
		if (rc == 1)
			met(so, p, &got);
		else if ((rc < 0 && rc != -EAGAIN) || ++p->tries > TRIES_MAX)
			give_up(so, p, rc == -EPERM ? GN_WHY_TRUST : GN_WHY_NO_PEER);
	}
	gn_unlock(&gn_world.big);
}

static void pair_consent(struct gn_sock *so, int fd, struct gn_pair *p)
{
	struct gn_dgram *d = so->dgram;
	uint32_t none = GN_CONSENT_NONE;
	bool now = false;

	if (atomic_load(&p->rx.dir->consent) != GN_CONSENT_NONE || gn_flag(so->ep, GN_EP_PINNED) || gn_edges_wait(so, fd) || !gn_begins(so))
		return;
	gn_lock(&gn_watch_lists);
	gn_rx_lock(so, fd);
	/* Closes the kernel lane to calls that do not know bells, unless one is inside it (theory in promote.c). */
	if (gn_may_begin(so) && (gn_rx_shared(so) || gn_lane_leave(&so->ep->rx))) {
		atomic_fetch_or(&d->shared->rx_mask, 1u << (p - d->pair));
		now = atomic_compare_exchange_strong(&p->rx.dir->consent, &none, GN_CONSENT_GIVEN);
	}
	gn_unlock(&so->ep->rx.lock);
	gn_unlock(&gn_watch_lists);
	if (now)
		gn_watches_to_ring(so);
}

static void pair_heat(struct gn_sock *so, int fd, const struct gn_addr *peer, bool connected)
{
	struct gn_dgram *d = so->dgram;
	struct gn_pair *p = pair_find(d, peer);

	if (p && pair_is_over(d, p)) {
		gn_pair_clear(so, p);
		p = NULL;
	}
	if (!p) {
		p = pair_place(so, fd);
		if (!p)
			return;
		p->peer = *peer;
		atomic_store(&p->state, GN_PAIR_WARM);
	}
	if (connected)
		atomic_store(&d->shared->connected, (uint32_t)(p - d->pair) + 1);
	p->heat++;
	if (!gn_pair_is_mapped(p) && p->heat >= gn_world.heat && p->heat >= p->heat_next)
		pair_step(so, fd, p);
	if (gn_pair_is_mapped(p))
		pair_consent(so, fd, p);
}

void gn_pair_warm(struct gn_sock *so, int fd, const void *name, socklen_t len)
{
	struct gn_addr peer = {0};
	bool connected = false;

	if (gn_world.lanes != GN_LANES_KERNEL && (++so->heat < gn_world.heat || gn_flag(so->ep, GN_EP_PINNED)))
		return;
	if (gn_world.lanes != GN_LANES_KERNEL && !gn_uring_is_known())
		return;
	if (gn_world.lanes == GN_LANES_KERNEL) {
		gn_why(so->ep, gn_world.why_kernel);
		return;
	}
	if (!gn_is_inet(so->ep)) {
		if (name || atomic_load(&so->ep->state) != GN_ESTAB)
			return;
	} else if (name && len) {
		if (gn_addr_from_sockaddr(&peer, name, len) < 0)
			return;
		gn_addr_destination(&peer);
	}
	if (atomic_load(&so->ep->state) == GN_ESTAB) {
		if (gn_is_inet(so->ep) && peer.family && !gn_addr_equal(&peer, &so->ep->peer))
			return; /* sendto elsewhere: seldom */
		peer = so->ep->peer;
		connected = true;
	} else if (!peer.family) {
		return;
	}
	if (!dgram_get(so) || !gn_lock_try(&so->dgram->lock))
		return;
	pair_heat(so, fd, &peer, connected);
	gn_unlock(&so->dgram->lock);
}

/* What ep->tx.lane says of a whole endpoint: whether its one peer is reached by the ring. */
void gn_pair_note_tx(struct gn_sock *so, struct gn_pair *p, uint32_t lane)
{
	if (gn_pair_connected(so->dgram) == p)
		atomic_store(&so->ep->tx.lane, lane);
}

/* As gn_lane_leave(), for what we write. The tx lock is held. */
static bool tx_leave_kernel(struct gn_ep *ep, struct gn_pair *p)
{
	atomic_store(&p->sh->tx_lane, GN_LANE_RING);
	if (atomic_load(&ep->tx.in_kernel) == 0)
		return true;
	atomic_store(&p->sh->tx_lane, GN_LANE_KERNEL);
	return false;
}

bool gn_pair_switch_tx(struct gn_sock *so, int fd, struct gn_pair *p)
{
	struct gn_ep *ep = so->ep;
	bool now = false;

	if (!gn_pair_is_mapped(p))
		return false;
	if (atomic_load_explicit(&p->sh->tx_lane, memory_order_relaxed) != GN_LANE_KERNEL)
		return atomic_load(&p->sh->tx_lane) == GN_LANE_RING;
	if (atomic_load(&p->tx.dir->consent) != GN_CONSENT_GIVEN || gn_flag(ep, GN_EP_PINNED) || atomic_load(&ep->tx.shut) ||
	    gn_edges_wait(so, fd) || !gn_begins(so))
		return false;
	gn_lock(&gn_watch_lists);
	gn_tx_lock(so, fd);
	if (gn_may_begin(so) && gn_pair_is_mapped(p) && atomic_load(&p->sh->tx_lane) == GN_LANE_KERNEL && tx_leave_kernel(ep, p)) {
		atomic_store(&p->tx.dir->lane, GN_LANE_RING);
		atomic_fetch_or(&so->dgram->shared->tx_mask, 1u << (p - so->dgram->pair));
		gn_pair_note_tx(so, p, GN_LANE_RING);
		atomic_fetch_add(&ep->promotions, 1);
		gn_why(ep, GN_WHY_NONE);
		gn_error_keep(so, gn_pair_bell(so, fd, p)); /* [DGRAM-1]: the mark */
		now = true;
	}
	gn_unlock(&ep->tx.lock);
	gn_unlock(&gn_watch_lists);
	if (now)
		gn_watches_to_ring(so);
	return atomic_load(&p->sh->tx_lane) == GN_LANE_RING;
}

void gn_pair_tx_back(struct gn_sock *so, struct gn_pair *p)
{
	uint32_t was = atomic_exchange(&p->sh->tx_lane, GN_LANE_BACK);

	atomic_store(&p->tx.dir->lane, GN_LANE_BACK);
	atomic_fetch_and(&so->dgram->shared->tx_mask, ~(1u << (p - so->dgram->pair)));
	gn_pair_note_tx(so, p, GN_LANE_BACK);
	if (was != GN_LANE_RING)
		return;
	atomic_fetch_add(&so->ep->demotions, 1);
	if (atomic_load(&so->ep->reason) == GN_WHY_NONE)
		gn_why(so->ep, GN_WHY_NO_PEER);
}

void gn_pair_rx_done(struct gn_sock *so, struct gn_pair *p)
{
	uint32_t bit = 1u << (p - so->dgram->pair);

	if (atomic_fetch_and(&so->dgram->shared->rx_mask, ~bit) & bit)
		atomic_fetch_add(&so->dgram->shared->news_past, atomic_load(&p->rx.dir->head));
}

/* Somebody can read what we write there, still. */
static bool lifeline_holds(const struct gn_pair *p)
{
	char byte;

	return gn_sys_recv(p->meeting.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == -EAGAIN;
}

bool gn_pair_lives(struct gn_sock *so, int fd, struct gn_pair *p)
{
	if (atomic_load(&p->sh->gone))
		return false;
	if (lifeline_holds(p))
		return true;
	gn_tx_lock(so, fd);
	if (!atomic_exchange(&p->sh->gone, 1) && atomic_load(&p->sh->tx_lane) == GN_LANE_RING)
		gn_pair_end(so, fd, p);
	gn_unlock(&so->ep->tx.lock);
	return false;
}

/* Nobody knows whether the dead one rang. From a dead peer a bell would part us. */
static void ring_again(struct gn_sock *so, int fd, struct gn_pair *p)
{
	if (!atomic_load(&p->sh->gone) && lifeline_holds(p))
		gn_error_keep(so, gn_pair_bell(so, fd, p));
}

void gn_dgram_tx_mend(struct gn_sock *so, int fd)
{
	struct gn_pair *p;

	GN_FOR_PAIRS(so->dgram, p, atomic_load(&so->dgram->shared->tx_mask)) {
		if (!gn_pair_is_mapped(p) || atomic_load(&p->sh->tx_lane) != GN_LANE_RING)
			continue;
		atomic_store(&p->tx.dir->head, p->sh->tx.own);
		ring_again(so, fd, p);
	}
}

void gn_dgram_rx_mend(struct gn_sock *so, int fd)
{
	struct gn_pair *p;

	GN_FOR_PAIRS(so->dgram, p, gn_dgram_mask(so->dgram)) {
		if (!gn_pair_is_mapped(p))
			continue;
		atomic_store(&p->rx.dir->tail, p->sh->rx.own);
		if (p->peer.family) /* UDP waits for no room */
			continue;
		gn_tx_lock(so, fd);
		ring_again(so, fd, p);
		gn_unlock(&so->ep->tx.lock);
	}
}
