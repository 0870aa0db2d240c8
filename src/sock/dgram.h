/* SPDX-License-Identifier: MIT */
/*
 * Datagram endpoints: pairs of addresses that talk a lot, each with two rings of records.
 *
 * The kernel lane is the program's own socket and stays open to everybody. An endpoint keeps a small table of the peers it talks to; a
 * pair that is hot meets its other half (lane/segment.h) and from then on each direction may move to the ring.
 *
 * Invariants:
 *   [DGRAM-1] what one peer sent is read in the order it was sent, as far as the kernel's socket would keep it: who goes to the ring
 *             marks the place in the kernel's queue by a bell, who reads opens the ring at that mark or when the queue was empty after the
 *             switch; who goes back is read from the ring first. A reader that leaves puts its rings into that queue (dgram_leave.c).
 *   [DGRAM-2] a bell is a datagram that holds the segment's nonce and comes from the pair's peer. It never reaches the program.
 *   [DGRAM-3] the meeting's connection stays open for as long as the pair lives (lifeline): its end says that nobody can read the
 *             ring any more, and what was not read goes by the kernel then.
 *
 * Threads/owner: the endpoint's tx lock guards what is written, its rx lock what is read and the taking out of bells, the table lock
 * (private to the process) the table; order: table, gn_world.big or gn_watch_lists, rx, tx. What forked relatives share lies in struct gn_dgram_shared.
 */
#ifndef GN_SOCK_DGRAM_H
#define GN_SOCK_DGRAM_H

#include "sock/io.h"

#define GN_PAIRS 16u
#define GN_LOOKED_QUEUE (1 + GN_PAIRS) /* the kernel's */
#define GN_NONCES 32u /* of pairs that ended: their bells may be under way */

struct gn_pair_shared {
	alignas(GN_LINE) struct gn_ring tx;
	_Atomic uint32_t tx_lane; /* GN_LANE_* */
	uint32_t tail_before;     /* the reader's index at the last write */
	uint64_t wrote_ticks;     /* when that was */
	uint64_t alive_ticks;     /* when the reader was seen to move, or its lifeline to hold */
	_Atomic uint32_t returns; /* what the reader left unread goes by the kernel, */
	uint32_t again;           /* from here on */

	alignas(GN_LINE) struct gn_ring rx;
	_Atomic uint32_t rx_open; /* what came by the kernel before the ring has been read [DGRAM-1] */
	_Atomic uint32_t gone;    /* the lifeline has ended */
	_Atomic uint32_t parted;  /* the peer's GN_DEAF_RESET has been noticed */
};

struct gn_dgram_shared {
	_Atomic uint32_t rx_mask;   /* pairs whose ring may hold records or get some */
	_Atomic uint32_t tx_mask;   /* pairs that we write to by the ring */
	_Atomic uint32_t connected; /* 1 + index of the pair that the socket is connected to */
	_Atomic uint32_t news_past; /* of pairs that have left rx_mask: gn_dgram_news() */
	_Atomic uint32_t sndbuf;    /* SO_SNDBUF, 0: not asked yet */
	_Atomic uint32_t last;      /* the pair that was read last */
	_Atomic uint32_t looked;    /* what was looked at since is read next: 0, 1 + a pair, GN_LOOKED_QUEUE */
	_Atomic uint32_t left_bells; /* looks at one that was left for a sleeper */
	_Atomic uint32_t distrust;   /* a sleeper did not come for its bell: it is dead, most likely */
	_Atomic uint32_t error_may_wait; /* something went by the kernel since it was asked for errors */
	uint64_t left_since_ns;
	uint32_t records;           /* read since the kernel's queue was looked at */
	uint64_t looked_ticks;
	struct gn_pair_shared pair[GN_PAIRS];
};

enum gn_pair_state { GN_PAIR_FREE, GN_PAIR_WARM, GN_PAIR_MAPPED, GN_PAIR_GIVEN_UP };

struct gn_pair {
	struct gn_addr peer; /* AF_UNIX: family 0, whoever the socket is connected to */
	_Atomic uint32_t state;
	uint32_t heat, heat_next, tries;
	bool placed;         /* at, expect are known */
	struct gn_name at;
	struct gn_expect expect;
	struct gn_meeting meeting; /* once mapped, fd is the lifeline */
	struct gn_segment segment;
	struct gn_ring_map tx, rx;
	struct gn_pair_shared *sh;
	uint8_t nonce[GN_NONCE_BYTES];
	struct sockaddr_storage to; /* the peer as the program writes it */
	socklen_t to_len;
};

struct gn_dgram {
	struct gn_dgram_shared *shared;
	_Atomic uint32_t lock; /* of the table */
	uint32_t buried;
	uint8_t nonces[GN_NONCES][GN_NONCE_BYTES];
	struct gn_pair pair[GN_PAIRS];
};

/* What is left to do when a datagram has been taken and the lock is free again. */
struct gn_taken {
	struct gn_pair *room_for; /* its writer waits for the room that this gave */
	bool by_kernel;           /* from there: */
	struct sockaddr_storage from;
	socklen_t from_len;
};

static inline bool gn_pair_is_mapped(const struct gn_pair *p)
{
	return atomic_load_explicit(&p->state, memory_order_acquire) == GN_PAIR_MAPPED;
}

/* The peer's word on which lane it writes to. */
static inline uint32_t gn_pair_rx_lane(const struct gn_pair *p)
{
	return atomic_load_explicit(&p->rx.dir->lane, memory_order_acquire);
}

/* Records wait in the ring. A moment's picture, without the lock. */
static inline bool gn_pair_has(const struct gn_pair *p)
{
	return atomic_load_explicit(&p->rx.dir->head, memory_order_acquire) != p->sh->rx.own;
}

static inline uint32_t gn_dgram_mask(const struct gn_dgram *d)
{
	return atomic_load_explicit(&d->shared->rx_mask, memory_order_acquire);
}

#define GN_FOR_PAIRS(d, p, mask) \
	for (uint32_t left_ = (mask); left_ && ((p) = &(d)->pair[__builtin_ctz(left_)], true); left_ &= left_ - 1)

/* Likewise in turn: first the one that was looked at, else those behind the one that was read last. */
#define GN_FOR_PAIRS_IN_TURN(d, p, mask) \
	for (uint32_t first_ = gn_pair_first(d), left_ = gn_pairs_from(mask, first_); \
	     left_ && ((p) = &(d)->pair[(first_ + (uint32_t)__builtin_ctz(left_)) % GN_PAIRS], true); left_ &= left_ - 1)

static inline uint32_t gn_pair_first(const struct gn_dgram *d)
{
	uint32_t looked = atomic_load_explicit(&d->shared->looked, memory_order_relaxed);

	if (unlikely(looked) && looked <= GN_PAIRS)
		return looked - 1;
	return (atomic_load_explicit(&d->shared->last, memory_order_relaxed) + 1) % GN_PAIRS;
}

static inline uint32_t gn_pairs_from(uint32_t mask, uint32_t first)
{
	return (mask >> first | mask << (GN_PAIRS - first)) & ((1u << GN_PAIRS) - 1);
}

/* What was looked at, or 0: something was read. */
static inline void gn_dgram_looked(struct gn_dgram *d, uint32_t what)
{
	if (unlikely(atomic_load_explicit(&d->shared->looked, memory_order_relaxed) != what))
		atomic_store_explicit(&d->shared->looked, what, memory_order_relaxed);
}

/* The kernel tells an error once: one that came when nobody had asked waits for the next call. */
static inline void gn_error_keep(struct gn_sock *so, ssize_t rc)
{
	if (rc < 0 && rc != -EAGAIN && rc != -EBUSY)
		atomic_store(&so->ep->so_error, (uint32_t)-rc);
}

/* dgram_pair.c: the table, and which lane a pair is in */
void gn_pair_clear(struct gn_sock *so, struct gn_pair *p);          /* gn_dgram.lock held: its place is free */
void gn_pair_note_tx(struct gn_sock *so, struct gn_pair *p, uint32_t lane); /* for gnezdo ss, if it is the connected one */
struct gn_pair *gn_pair_connected(struct gn_dgram *d);
struct gn_pair *gn_pair_named(struct gn_dgram *d, const struct gn_sock *so, const void *name, socklen_t len);
bool gn_pair_is_named(const struct gn_pair *p, const void *name, socklen_t len);
void gn_pair_warm(struct gn_sock *so, int fd, const void *name, socklen_t len); /* a datagram went to, or came from, there */
bool gn_pair_switch_tx(struct gn_sock *so, int fd, struct gn_pair *p);
int gn_dgram_own(int fd, const struct gn_addr *peer, struct gn_addr *own); /* UDP: our address as that peer writes to it */
void gn_pair_tx_back(struct gn_sock *so, struct gn_pair *p);       /* tx lock held */
void gn_pair_rx_done(struct gn_sock *so, struct gn_pair *p);       /* rx lock held: nothing more comes by the ring */
bool gn_pair_lives(struct gn_sock *so, int fd, struct gn_pair *p); /* looks at the lifeline; no lock held */

/* dgram_ring.c: records and bells */
int gn_pair_bell(struct gn_sock *so, int fd, struct gn_pair *p);                      /* 0 or -errno of the kernel socket */
ssize_t gn_pair_put(struct gn_sock *so, int fd, struct gn_pair *p, struct gn_io *io, bool sure); /* tx lock held */
ssize_t gn_dgram_take(struct gn_sock *so, int fd, struct gn_io *io, bool ask_kernel, struct gn_taken *taken); /* rx lock held */
int gn_dgram_purge(struct gn_sock *so, int fd);                                       /* rx lock held; 1: a datagram is first; -EBUSY: a bell that a sleeper has to see */
int gn_dgram_purge_all(struct gn_sock *so, int fd);                                   /* likewise, whoever sleeps: no more bells come */
bool gn_dgram_is_bell(struct gn_sock *so, const uint8_t *bytes, const struct sockaddr_storage *from, socklen_t from_len); /* rx lock held */
bool gn_dgram_is_quiet(const struct gn_sock *so);                                     /* nothing but bells and errors come by the kernel */

/* dgram_return.c: the writer's part of a pair's end */
bool gn_pair_record(const struct gn_ring *r, const struct gn_ring_map *m, uint32_t there, struct iovec iov[2], uint32_t *len);
int gn_pair_end(struct gn_sock *so, int fd, struct gn_pair *p); /* tx lock held. 0: back in the kernel lane; -EBUSY, -EAGAIN: not yet */
void gn_pair_settle(struct gn_sock *so, int fd, struct gn_pair *p);
void gn_dgram_heed(struct gn_sock *so, int fd); /* no lock held: readers that have left get by the kernel what they left */

static inline bool gn_pair_leaves(const struct gn_pair *p)
{
	return unlikely(atomic_load(&p->tx.dir->consent) >= GN_CONSENT_LEAVING);
}

/* dgram_stand.c: who sends in the name of a pair's peer */
struct gn_stand {
	int fd;
	struct sockaddr_storage to; /* UDP: us, as that socket writes it */
	socklen_t to_len;
	struct gn_addr as;          /* it is not the peer's own socket, and says that it sends from here */
};
/* `pid`: who may hold the peer's socket, or 0. -EPERM: the kernel lets nobody; -EHOSTDOWN: an AF_UNIX peer is closed. */
int gn_stand_find(struct gn_sock *so, int fd, const struct gn_addr *peer, pid_t pid, struct gn_stand *s);
int gn_stand_own(int fd, const struct gn_addr *peer, struct gn_stand *s); /* UDP: not by the peer's own socket */
ssize_t gn_stand_send(const struct gn_stand *s, struct iovec *iov, size_t count);
void gn_stand_end(struct gn_stand *s);

/* dgram_backlog.c: the kernel's queue of a socket, taken out to be put in again without bells. The rx lock is held. */
struct gn_queued {
	struct gn_addr from; /* AF_UNIX: family 0 */
	uint32_t len;
	uint8_t bytes[];     /* the next one begins behind them, aligned as this one */
};
struct gn_backlog {
	uint8_t *room;
	size_t size, from, to; /* bytes; those not sent yet */
};
struct gn_backlog_look {
	size_t count, bytes;  /* of datagrams, without bells */
	bool bells;           /* behind the first of them */
	bool foreign;         /* something that we cannot put in again: control data, a family of addresses that we do not know */
};
/* Calls `seen` for each source, until it refuses: that is foreign. */
void gn_backlog_look(struct gn_sock *so, int fd, struct gn_backlog_look *look, bool (*seen)(void *ctx, const struct gn_addr *from), void *ctx);
int gn_backlog_take(struct gn_sock *so, int fd, const struct gn_backlog_look *look, struct gn_backlog *copy);
void gn_backlog_drop(struct gn_backlog *copy);

static inline struct gn_queued *gn_queued_at(const struct gn_backlog *copy, size_t at)
{
	return (struct gn_queued *)(void *)(copy->room + at);
}

static inline size_t gn_queued_room(size_t len)
{
	return (sizeof(struct gn_queued) + len + 7) & ~(size_t)7;
}

/* dgram_wait.c */
void gn_dgram_park(struct gn_dgram *d); /* asks all who write to us for a bell */
int gn_dgram_wait_rx(struct gn_sock *so, int fd, uint64_t deadline_ns, struct gn_spinning *spin);
int gn_dgram_wait_tx(struct gn_sock *so, int fd, struct gn_pair *p, uint64_t deadline_ns);

#endif
