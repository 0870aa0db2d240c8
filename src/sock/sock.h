/* SPDX-License-Identifier: MIT */
/*
 * Endpoints inside one process: what the modules' files share. The shim sees sock/api.h only.
 *
 * A descriptor leads through the table to a struct gn_sock (this process's handle of an open socket, shared by its dups), which leads to
 * the struct gn_ep in the pool (shared with forked relatives) and, once promoted, to the mapped segment (shared with the peer).
 *
 * Threads/owner: a gn_sock is held by gn_get() for the length of a call; the two halves of a gn_ep are guarded by their own locks, in the
 * order rx before tx; lists of watches by the lock of their set; everything about opening, forking and meeting by `gn_world.big`.
 */
#ifndef GN_SOCK_SOCK_H
#define GN_SOCK_SOCK_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/base.h"
#include "base/real.h"
#include "base/sys.h"
#include "base/time.h"
#include "lane/lock.h"
#include "lane/segment.h"
#include "sock/ep.h"

#define GN_SO_PASSPIDFD 76 /* SO_PASSPIDFD, SO_INQ: asm-generic/socket.h, Linux 6.5 and 6.17 */
#define GN_SO_INQ 84

struct gn_epset;
struct gn_watch;

/* Traffic by lane. */
struct gn_counts {
	uint64_t tx_ring_bytes, tx_ring_msgs, rx_ring_bytes, rx_ring_msgs;
	uint64_t tx_kernel_bytes, tx_kernel_msgs, rx_kernel_bytes, rx_kernel_msgs;
	uint64_t promotions, demotions, bells;
};

/* Whether to ask again and again for a while before sleeping: not for some time after it did not pay. */
struct gn_spin {
	_Atomic uint32_t skip;    /* waits to come that sleep at once */
	_Atomic uint32_t backoff; /* how many the next failure will skip */
};

enum gn_spin_how {
	GN_SPIN_NOT,
	GN_SPIN_APART,    /* the peer is on another processor, or not known */
	GN_SPIN_TOGETHER, /* it is on ours: who spins lets it run */
	GN_SPIN_ASKING    /* in the kernel lane: each look is a call, which is long enough */
};

/* A spin that goes on: spin.c. All zero: not begun. */
struct gn_spinning {
	enum gn_spin_how how;
	int looks;         /* to make before the next gn_spin_on() */
	bool over;
	uint64_t now_ns, end_ns, until_ns, yield_ns;
};

enum gn_kind {
	GN_KIND_SOCK,
	GN_KIND_EPOLL,
	GN_KIND_EARLY,  /* an internet socket that is not yet what it seems: early.c */
	GN_KIND_SANDBOX /* names and options only: sandbox.c */
};

/* An option that the program set and that the carrying socket does not know, or that a swap must repeat. */
struct gn_option {
	int level, name;
	socklen_t len;
	unsigned char value[16];
};

/* A listener's are shared with those it accepted until one of them sets another: under gn_world.big. */
struct gn_options {
	uint32_t owners;
	uint32_t count;
	struct gn_option option[];
};

#define GN_REFS_LIVE 0x80000000u

/* Ten thousand idle connections are twenty thousand of these: ordered by size, without holes. */
struct gn_sock {
	union {
		struct gn_ep *ep;
		struct gn_epset *set;
	};
	struct gn_segment segment;
	struct gn_ring_map tx, rx;       /* dir is NULL until the segment is mapped */
	uint64_t inode, peer_inode;      /* AF_UNIX: of the two kernel sockets, once asked */
	_Atomic uint64_t looked_ticks;   /* when the kernel was asked last whether the peer has ended, for a reader */
	_Atomic uint64_t heard_ticks;    /* when the reader was known to live, for a writer */
	struct gn_peer *peer;
	struct gn_queue *queue;          /* has met a full queue (queue.c) */
	struct gn_options *options;      /* NULL: none was set */
	struct gn_watch *watches;        /* registrations in epoll sets of this process */
	struct gn_counts *base;          /* traffic that was there before this process held the endpoint; NULL: none */
	struct gn_dgram *dgram;          /* datagram endpoints: promoted pairs */
	struct gn_sock *next_late;       /* in gn_world.late */
	struct gn_sock *next_free;
	uint8_t nonce[GN_NONCE_BYTES];   /* of the segment: our bells and the peer's */
	struct gn_meeting meeting;
	struct gn_expect expect;
	struct gn_spin spin;
	_Atomic enum gn_kind kind;
	_Atomic uint32_t refs;           /* calls in flight, plus one while any descriptor leads here; GN_REFS_LIVE until it is free */
	uint32_t fds;                    /* descriptors of this process, under gn_world.big */
	_Atomic uint32_t connecting;     /* lock: connecting.c */
	_Atomic uint32_t meets;          /* GN_SEG_* */
	uint32_t heat;                   /* operations in the kernel lane */
	uint32_t heat_next;              /* when to try the next step of promotion */
	int private_fd;                  /* listeners: the private face, or -1 */
	int hold_fd;                     /* connected by the private face after a bind: keeps the port, or -1 */
	int group_fd;                    /* listeners with SO_REUSEPORT: holds the name that says so, or -1 */
	int held_fd;                     /* bound and not listening: where a peer that we connect to calls (peer.c), or -1 */
	int moved_fd;                    /* what it was before it moved, while calls of other threads sleep on that (move.c), or -1 */
	int after;                       /* every descriptor is closed, calls go on: what they go on with, or -1 */
	uint32_t tail_before;            /* where the reader was at heard_ticks */
	_Atomic uint32_t tx_full;        /* counts writes that found no room: the next room is news for edge-triggered sets */
	_Atomic uint32_t peer_gone;      /* the kernel has shown end of file: drain the ring, then it counts */
	_Atomic uint32_t cpu;            /* published last */
	uint32_t turn;                   /* listeners: counts accepts */
	uint32_t pass;                   /* fork.c's walk */
	uint16_t meet_tries, big_misses; /* of promotion: promote.c */
	uint16_t edge_waits;             /* times that it was put off for the sake of edge-triggered watches */
	uint16_t not_last;               /* wake-ups that left others asleep; it may wrap */
	_Atomic uint16_t unnamed;        /* our sleepers, while seat is GN_HOLDERS: nobody else counts them */
	uint16_t empties;                /* datagrams: reads in a row that found nothing; it may wrap */
	uint8_t together;                /* waits in a row on the peer's processor; it may wrap */
	uint8_t seat;                    /* this process's place in ep->pid, or GN_HOLDERS */
	bool place_known;
	bool settled;                    /* both directions switched: nothing left to try */
	bool owes_bell;                  /* under the rx lock: the read gave a parked writer room */
	bool eventless;                  /* counted in gn_world.queued: no bell comes any more (shut.c) */
	bool eof;                        /* the kernel lane has shown end of file */
	bool roomy;                      /* the kernel socket's buffer was enlarged */
	bool held;                       /* while the process forks: its lock (fork.c) */
	bool last_private;               /* listeners: the face that the last caller used */
	bool followed;                   /* under move.c's lock: this process has done what GN_LANE_MOVED asks for */
};

enum { GN_SEG_NONE, GN_SEG_MAPPED, GN_SEG_GIVEN_UP };

enum gn_lane_policy { GN_LANES_AUTO, GN_LANES_KERNEL, GN_LANES_RING };

#define GN_TABLE_MAX (1u << 20) /* descriptors: NR_OPEN's default */
#define GN_HIDDEN ((struct gn_sock *)1) /* in the table: a descriptor of gnezdo's own, below GN_HIDDEN_FROM or far above */
#define GN_HIDDEN_FROM 960u /* as gn_fd_raise(): where they are, unless there is no room */

/* The process's state: the one global of this module. */
struct gn_world {
	_Atomic uint32_t ready;
	_Atomic uint32_t big; /* lock */
	pid_t pid;
	enum gn_lane_policy lanes;
	uint32_t spin_max_ns;
	uint32_t heat;        /* operations before promotion */
	uint32_t ring_size;
	bool in_family;       /* gn_family_join() was called */
	bool family_lost;     /* some of our relatives cannot be known */
	bool looked;          /* whether the program's text has an io_uring is known: gn_uring_found() */
	uint8_t why_kernel;   /* enum gn_reason: why lanes is GN_LANES_KERNEL */
	bool unseen;          /* it has an io_uring: no faces, no rings */
	bool stats_wanted, stats; /* asked for; not yet printed */
	bool one_cpu;
	bool net_moved;       /* it has entered another network namespace, or made one: netns.c */
	bool sandboxed;       /* under a seccomp filter of its own making: every call is libc's own */
	struct gn_spin recv_spin, accept_spin; /* in the kernel lane: short connections have no history of their own */
	_Atomic uint32_t tokens;   /* given out: gn_arm_token() */
	_Atomic uint64_t rung;     /* pid << 32 | token of the last bell: gn_bell_data() */
	_Atomic uint32_t queued;   /* sockets whose connect() waits for room: no sleep of this process may be long */
	struct gn_pool *pool;
	int pool_fd;
	_Atomic uint32_t early;    /* sockets of kind GN_KIND_EARLY */
	_Atomic uint64_t hidden; /* of the descriptors from GN_HIDDEN_FROM on, 64: those that are gnezdo's own */
	uint32_t table_size;  /* numbers that can be descriptors */
	uint32_t used_fds;    /* no descriptor of ours was ever as high as this */
	struct gn_sock *free_socks;
	struct gn_sock *late; /* closed, with calls that go on */
	struct gn_sock *_Atomic *far; /* from descriptors to endpoints: gn_slot() */
	/* A forked child and its parent write to what is above, to the first sockets and to the table's begin: each page is a fault. */
	struct gn_sock *_Atomic near[128];
	struct gn_sock first[6];
};
extern struct gn_world gn_world;

/* fd: below gn_world.table_size. */
static inline struct gn_sock *_Atomic *gn_slot(int fd)
{
	const uint32_t count = ARRAY_SIZE(gn_world.near), i = (uint32_t)fd;

	return i < count ? &gn_world.near[i] : &gn_world.far[i - count];
}

/* Not 0: threads have called vfork or clone, and whoever closes descriptors may be a child that borrows our memory. */
extern _Atomic uint32_t gn_world_lent;


/* world.c */
void gn_world_init(void);
bool gn_is_vfork_child_slow(void);
void gn_lend(bool for_ever); /* this thread is about to call vfork; or clone, without waiting for the child */
void gn_lent_forked(void);


/* A vfork child runs in its parent's memory: what it does to descriptors must not touch the parent's tables. */
static inline bool gn_is_vfork_child(void)
{
	return unlikely(atomic_load_explicit(&gn_world_lent, memory_order_relaxed)) && !gn_world.sandboxed && gn_is_vfork_child_slow();
}

/* netns.c */
bool gn_is_elsewhere_slow(int fd);

/* Does the socket belong to another network namespace than the one that this thread is in? */
static inline bool gn_is_elsewhere(int fd)
{
	return unlikely(gn_world.net_moved) && gn_is_elsewhere_slow(fd);
}

/* table.c */
struct gn_sock *gn_get_any(int fd); /* a socket or an epoll set, +1 reference, or NULL */
void gn_put_slow(struct gn_sock *so);
struct gn_sock *gn_sock_new(enum gn_kind kind);
void gn_socks_add(void *map, uint32_t count); /* zeroed memory for so many */
/* Takes the caller's reference; gn_world.big is held. *stale: what stood there, closed behind our back; drop it when big is free again. */
int gn_table_set(int fd, struct gn_sock *so, struct gn_sock **stale);
void gn_table_drop(struct gn_sock *stale);
void gn_table_late(bool counted); /* in a forked child, where calls of other threads do not go on: before and after its own were counted */
struct gn_sock *gn_late_get(uint32_t i); /* of those that are closed while calls go on, one by its place, +1 reference; NULL: no more */
bool gn_table_share(int fd, struct gn_sock *so);      /* one more descriptor of it; false: its last one has been closed meanwhile */
void gn_table_clear(int fd);                          /* before the kernel's close */
void gn_last_close(struct gn_sock *so, int fd);               /* open.c: no descriptor of this process leads to it any more */
void gn_hide(int fd);
void gn_unhide_close(int *fd);
bool gn_is_hidden(int fd);
void gn_unhide(int fd);
void gn_hide_instead(int before, int now); /* -1: none; `before` is closed unless it is the same */

static inline void gn_put(struct gn_sock *so)
{
	if (unlikely(atomic_fetch_sub_explicit(&so->refs, 1, memory_order_acq_rel) == GN_REFS_LIVE + 1))
		gn_put_slow(so);
}

static inline uint32_t gn_refs(const struct gn_sock *so)
{
	return atomic_load(&so->refs) & ~GN_REFS_LIVE;
}

struct gn_sock *gn_get_other(struct gn_sock *so, int fd, enum gn_kind kind); /* so: held, and not what was looked for */

static inline struct gn_sock *gn_get_kind(int fd, enum gn_kind kind)
{
	struct gn_sock *so;

	if ((uint32_t)fd >= gn_world.table_size)
		return NULL;
	so = atomic_load_explicit(gn_slot(fd), memory_order_acquire);
	if (likely((uintptr_t)so <= 1))
		return NULL;
	/* The memory of a gn_sock is never given back, so counting on a dead one is harmless; the second look tells. */
	atomic_fetch_add_explicit(&so->refs, 1, memory_order_acquire);
	if (unlikely(atomic_load_explicit(gn_slot(fd), memory_order_acquire) != so ||
		     atomic_load_explicit(&so->kind, memory_order_relaxed) != kind))
		return gn_get_other(so, fd, kind);
	return so;
}

static inline struct gn_sock *gn_get(int fd)
{
	return gn_get_kind(fd, GN_KIND_SOCK);
}

/* For those who know of early carriers (early.c). */
static inline struct gn_sock *gn_get_early(int fd)
{
	struct gn_sock *so = gn_is_vfork_child() ? NULL : gn_get_kind(fd, GN_KIND_EARLY);

	return so ? so : gn_get(fd);
}

/* open.c */
struct gn_sock *gn_accepted(int fd, const struct gn_ep *listener, int flags); /* in the table; borrowed; NULL: not taken over */

/* pool.c */
struct gn_ep *gn_ep_new(int domain, int type, int protocol);
bool gn_pool_has_room(void); /* for some connections more */
void gn_ep_leave(struct gn_ep *ep); /* this process holds it no longer */
uint8_t gn_ep_join(struct gn_ep *ep); /* in a forked child: the parent counted already; the child's seat */
void gn_ep_reap(struct gn_ep *ep);  /* forgets holders that have ended without a close */
bool gn_ep_is_alone(struct gn_ep *ep); /* no other process holds it */
/* Those that share epoll sets by fork. gn_world.big is held in the first. */
void gn_family_fork(void);          /* a child is about to be counted */
void gn_family_fork_failed(void);
void gn_family_forked(void);        /* in the child */
void gn_family_again(void);         /* a descriptor of the pool was closed; another is open */
bool gn_family_is_alone(void);      /* no other process of it lives, and runs the program that it was forked with */

/* uring.c */
void gn_uring_look(void);
bool gn_uring_looked_slow(void);
void gn_uring_forked(void);

/* The process moves bytes where nobody sees it, or may begin to at any time: the program has io_uring linked in. */
static inline bool gn_uring_found(void)
{
	if (unlikely(!gn_world.looked))
		gn_uring_look();
	return gn_world.unseen;
}

/* Is it known? Each time that it is not, some more is looked at, if time allows. */
static inline bool gn_uring_is_known(void)
{
	return likely(gn_world.looked) || gn_uring_looked_slow();
}

/* stats.c */
void gn_stats_count_conn(void);
void gn_stats_retire(const struct gn_sock *so);
void gn_stats_begin(struct gn_sock *so);
void gn_stats_reset(void);
void gn_stats_print(void);

/* promote.c */
void gn_promote_step(struct gn_sock *so, int fd);       /* one step towards a shared segment; never waits */
bool gn_switch_tx(struct gn_sock *so, int fd);          /* to the ring, if the peer consents: true when on it */
bool gn_consent_rx(struct gn_sock *so, int fd);         /* lets the peer switch: true when it may have */
bool gn_edges_wait(struct gn_sock *so, int fd);         /* edges are waited for, and it is not read empty: promote it a little later */
void gn_settle(struct gn_sock *so, int fd);             /* what can be switched is; costs nothing once done */
bool gn_may_begin(const struct gn_sock *so);            /* gn_watch_lists held: no relative has registrations of it that we cannot move */
bool gn_begins(struct gn_sock *so);                     /* the same without the lock: it seems so */
bool gn_lane_leave(struct gn_half *half);               /* its lock held: to the ring, unless a call is inside the kernel lane */
bool gn_lane_enter(struct gn_sock *so, struct gn_half *half, int fd); /* true: counted in half->in_kernel; false: it is on the ring */
void gn_pin(struct gn_sock *so, int fd, enum gn_reason why);
void gn_tx_back(struct gn_sock *so, int fd);            /* tx lock held: from the ring to the kernel lane */
void gn_rx_back(struct gn_sock *so, int fd);             /* rx lock held, ring drained: follow the peer to the kernel lane */
void gn_rx_back_with_bells(struct gn_sock *so, int fd);  /* the same; bells are left in the kernel's queue */
void gn_why(struct gn_ep *ep, enum gn_reason why);

/* move.c: endpoints that are another socket now. Calls that sleep look after they have asked for a bell, before they sleep. */
int gn_follow(struct gn_sock *so, int fd);              /* puts that socket under every descriptor of it; -errno: it could not be got */
void gn_move_to(struct gn_sock *so, int fd, int plain); /* likewise, with the socket at hand; closes `plain` */
struct gn_sock *gn_followed_slow(struct gn_sock *so, int fd);
void gn_move_poke(const struct gn_sock *so);            /* one relative less: the relay is to look */
ssize_t gn_fd_send(int over, const struct gn_name *to, void *data, size_t len, int fd); /* a datagram with a descriptor; to: NULL, to the peer */
ssize_t gn_fd_recv(int over, void *data, size_t len, int *fd);
#define GN_COPY_FD 100 /* of a relay: the socket that relatives are to have; old ep: fd is the relay's pid then, peek_at that socket's inode */
extern _Atomic uint32_t gn_following;                    /* lock, of this process */

/* Either half will do: a relay that was killed may have got no further. */
static inline bool gn_has_moved(const struct gn_sock *so)
{
	return atomic_load_explicit(&so->ep->tx.lane, memory_order_acquire) == GN_LANE_MOVED ||
	       atomic_load_explicit(&so->ep->rx.lane, memory_order_acquire) == GN_LANE_MOVED;
}

/* Of one just got: itself, or what is in its place now; NULL: the kernel's alone. */
static inline struct gn_sock *gn_followed(struct gn_sock *so, int fd)
{
	return unlikely(so && so->kind == GN_KIND_SOCK && gn_has_moved(so)) ? gn_followed_slow(so, fd) : so;
}

/* retreat.c */
bool gn_retreat(struct gn_sock *so, int fd, enum gn_reason why); /* false: data in the ring, or a busy peer, holds it there */
bool gn_retreat_wait(struct gn_sock *so, int fd, uint64_t until_ns);
/* `stays` is told when the time for all of them is up. */
int gn_retreat_all(bool (*leaves)(struct gn_sock *so, int fd), int (*stays)(struct gn_sock *so, int fd), enum gn_reason why);
void gn_heed(struct gn_sock *so, int fd);               /* tx lock not held: goes back if the peer asked for it */

/* promote.c, again */
void gn_tx_mend(struct gn_sock *so, int fd);            /* the lock was taken from the dead */
void gn_rx_mend(struct gn_sock *so, int fd);

/* The locks of the halves of a stream or seqpacket endpoint, rx before tx. */
static inline void gn_tx_lock(struct gn_sock *so, int fd)
{
	if (unlikely(gn_lock_inherits(&so->ep->tx.lock)))
		gn_tx_mend(so, fd);
}

static inline void gn_rx_lock(struct gn_sock *so, int fd)
{
	if (unlikely(gn_lock_inherits(&so->ep->rx.lock)))
		gn_rx_mend(so, fd);
}

/* io.c: where bytes go that nobody wants, of all threads, for nobody reads them. The program's stacks may be small. */
#define GN_WASTE_BYTES 65536
extern char gn_waste[GN_WASTE_BYTES];

/* gone.c */
bool gn_peer_closed(const struct gn_sock *so);
bool gn_reset_is_true(const struct gn_sock *so);         /* what the kernel says of a reset, or only a bell left unread */
void gn_reset_seen(struct gn_sock *so);                 /* the kernel, or the ring, said ECONNRESET: it waits to be reported */
void gn_judge(struct gn_sock *so, int fd);              /* if the peer has gone: was it a reset? */
bool gn_error_waits(int fd);                            /* a reset, in the kernel lane: asked for, it is told */
void gn_hung_up(struct gn_sock *so);                    /* the kernel socket did, and not by our own doing */
bool gn_kernel_gone(struct gn_sock *so, int fd);         /* false: only its reading half is shut */
void gn_send_cut_short(struct gn_sock *so, int fd);
void gn_leave_mark(struct gn_sock *so, int fd);         /* before a close that resets, in the kernel lane */
bool gn_mark_is_in(int fd, ssize_t rc, bool full_look); /* MSG_CTRUNC with rc bytes: a look that fills its buffer hears of the byte behind too */
bool gn_mark_is_there(const struct gn_sock *so, int fd); /* and does it end what is left to read? */

/* Values of gn_sock.peer_gone. */
#define GN_GONE_HALF 1u   /* end of file: at least its writing half */
#define GN_GONE_CLOSED 2u

/* wait.c */
void gn_peer_may_be_gone(struct gn_sock *so, int fd, ssize_t rc); /* rc: of a receive or send on the kernel socket */
bool gn_bell(struct gn_sock *so, int fd);               /* tx lock held; true: the peer's kernel socket has it */
void gn_bell_data(struct gn_sock *so, int fd, uint32_t parked); /* likewise, unless this sleeper was rung for already */
bool gn_somebody_sleeps(struct gn_sock *so);            /* a thread of any process that holds our end */
void gn_bell_space(struct gn_sock *so, int fd);         /* rx lock held, tx lock not */
ssize_t gn_drain_bells(struct gn_sock *so, int fd);     /* rx lock held; what the kernel said when there were no more */
bool gn_bells_alone(struct gn_sock *so, int fd);        /* nothing else is in the kernel's queue */
size_t gn_bells_ahead(const struct gn_sock *so, const char *bytes, ssize_t n); /* how many of `n` bytes at the head of the kernel's queue are bells */
size_t gn_bells_behind(struct gn_sock *so, int fd, uint64_t left); /* likewise: bytes of the bells behind `left` bytes of the kernel's queue */
size_t gn_packets_unread(struct gn_sock *so, int fd);   /* likewise: bytes of the packets in the kernel's queue, without bells */
void gn_kernel_peek_offset(int fd, int64_t offset);     /* SO_PEEK_OFF; -1: off */
bool gn_kernel_recount(struct gn_sock *so, int fd);     /* kernel.c; rx lock held: makes the count of what was read there sure; true: it was wrong */
uint64_t gn_bells_start(struct gn_sock *so, int fd, uint64_t most); /* rx lock held: bytes, or packets, in the kernel's queue before the first bell */
void gn_bell_rest(struct gn_sock *so, int fd);          /* rx lock held: of a bell that was cut in two the rest goes */
bool gn_bells_stay(const struct gn_sock *so); /* in the kernel's queue, for relatives: who sleeps there is to nap */
void gn_sleep_begin(struct gn_sock *so);
bool gn_sleep_end(struct gn_sock *so);                  /* true: nobody else sleeps on this endpoint */
bool gn_is_only_waiter(const struct gn_sock *so);      /* no thread but this one waits, or begins to wait, on our end just now */
bool gn_timeout_is_valid(const struct timespec *timeout);        /* NULL is */
uint64_t gn_deadline_of(const struct timespec *timeout); /* when a wait ends; 0: at once, UINT64_MAX: never */
/* Until more than the `have` bytes known are in the ring, or there is `room`. `part`: the call has moved bytes already, so that a signal ends
 * it. 0: look again; -EAGAIN: too late; -EINTR. */
int gn_wait_rx(struct gn_sock *so, int fd, uint64_t deadline_ns, uint32_t have, bool part);
int gn_wait_tx(struct gn_sock *so, int fd, uint64_t deadline_ns, uint32_t room, bool part);
#define GN_ROOM_NS (20 * GN_NS_PER_MS) /* how long who waits for room relies on a bell */
struct gn_held;
int gn_nap(struct gn_held *held, int fd, uint64_t deadline_ns, bool part); /* where no bell can come; -EPIPE: the peer has gone */
/* Not to_end: the end, of which the kernel would tell by itself, is not looked for behind the last bell. */
void gn_check_peer(struct gn_sock *so, int fd, bool to_end); /* looks for end of file in the kernel without waiting */
bool gn_peer_ended(struct gn_sock *so, int fd); /* gone.c: likewise; true: it has */
bool gn_look_at_peer(struct gn_sock *so, int fd, bool to_end); /* likewise; true: bells were taken out, and nobody was told */
bool gn_apart(struct gn_sock *so, uint32_t cpu);        /* apart.c: the peer is on this thread's processor; true: it is no longer */

/* spin.c */
enum gn_spin_how gn_spin_now(struct gn_sock *so, const struct gn_dir *dir); /* before a wait for what the other side of `dir` does */
enum gn_spin_how gn_ask_now(struct gn_spin *spin);      /* the same in the kernel lane, where each look is a call that does not wait */
bool gn_spin_begin(struct gn_spinning *s, enum gn_spin_how how, uint64_t until_ns); /* false: not to be */
bool gn_spin_on(struct gn_spinning *s);                 /* after some looks that found nothing; false: that was all */
bool gn_spin_is_due(struct gn_spin *spin);              /* not one of those that a failure skips */
void gn_spin_result(struct gn_spin *spin, bool paid);
/* Spins until `changed`, if that is worth it. */
#define GN_SPIN_UNTIL(so, dir, changed)                                             \
	__extension__({                                                          \
		struct gn_spinning spin_;                                        \
		bool spun_ = false;                                              \
		if (gn_spin_begin(&spin_, gn_spin_now(so, dir), UINT64_MAX)) {   \
			do {                                                     \
				for (int i_ = 0; i_ < spin_.looks && !spun_; i_++) { \
					spun_ = (changed);                       \
					if (!spun_)                              \
						gn_cpu_relax();                  \
				}                                                \
			} while (!spun_ && gn_spin_on(&spin_));                  \
			gn_spin_result(&(so)->spin, spun_);                      \
		}                                                                \
		spun_;                                                           \
	})
void gn_cpu_publish(struct gn_sock *so);

/* peek.c: SO_PEEK_OFF while the receiving half is on the ring, of an emulated connection always */
int gn_peek_offset(const struct gn_sock *so);           /* -1: off */
void gn_peek_offset_set(struct gn_sock *so, int fd, int offset);
void gn_peek_offset_back(struct gn_sock *so, int fd);   /* rx lock held: to the kernel socket again */
void gn_offset_lend(struct gn_sock *so, int fd);        /* rx lock held: around a read of packets in the kernel lane */
void gn_offset_take(struct gn_sock *so, int fd);
uint64_t gn_peek_begins(struct gn_sock *so, int fd);    /* a look at an emulated connection in the kernel lane: bytes that it passes over */
void gn_peek_ends(struct gn_sock *so, int fd, uint64_t skip, ssize_t seen);

/* ready.c: poll(2) bits of an endpoint on the ring */
short gn_ready(struct gn_sock *so, int fd, short want, bool ask_kernel); /* what is not on the ring costs a call, if allowed */
bool gn_past_switch(const struct gn_sock *so);                          /* the data of the kernel lane before the ring has been read */
bool gn_all_in_ring(const struct gn_sock *so);                          /* nothing but bells can be in the kernel socket */
bool gn_room_is_silent(const struct gn_sock *so);       /* no bell will tell a waiting writer of room */
#define GN_ARM_ALWAYS 1u                                                /* each ring is to ring for itself */
void gn_tokens_begin(void);                             /* a new process */
uint32_t gn_arm_token(void);                                            /* one bell is enough for all rings armed with it */
bool gn_arm(struct gn_sock *so, int fd, short events, uint32_t token);  /* asks for bells; false: ready already, look again */
void gn_disarm(struct gn_sock *so, uint32_t token);

static inline bool gn_rx_shared(const struct gn_sock *so)
{
	return atomic_load_explicit(&so->ep->rx.lane, memory_order_acquire) == GN_LANE_RING;
}

static inline bool gn_tx_shared(const struct gn_sock *so)
{
	return atomic_load_explicit(&so->ep->tx.lane, memory_order_acquire) == GN_LANE_RING;
}

/* Either direction is on the ring or may turn up there: waiting on it needs bells. */
static inline bool gn_on_ring(const struct gn_sock *so)
{
	return gn_rx_shared(so) || gn_tx_shared(so);
}

static inline bool gn_flag(const struct gn_ep *ep, uint32_t flag)
{
	return atomic_load_explicit(&ep->flags, memory_order_relaxed) & flag;
}

/* A POLLHUP of the carrying AF_UNIX socket that TCP would not show: the peer has closed and this side has not. */
static inline bool gn_hup_is_unix(const struct gn_sock *so)
{
	return gn_flag(so->ep, GN_EP_EMULATED) && !gn_flag(so->ep, GN_EP_DEAD) && !atomic_load(&so->ep->tx.shut);
}

static inline bool gn_is_inet(const struct gn_ep *ep)
{
	return ep->domain != AF_UNIX;
}

static inline bool gn_is_stream_like(const struct gn_ep *ep)
{
	return ep->type != SOCK_DGRAM;
}

/* -1 and errno -> -errno, for libc's functions. */
static inline ssize_t gn_neg(ssize_t rc)
{
	return rc < 0 ? -errno : rc;
}

/* SO_RCVLOWAT as readiness means it: TCP's does, that of AF_UNIX does not. */
static inline uint32_t gn_low_water(const struct gn_sock *so)
{
	return gn_flag(so->ep, GN_EP_EMULATED) ? atomic_load_explicit(&so->ep->rcvlowat, memory_order_relaxed) : 0;
}

short gn_low_ready(struct gn_sock *so, int fd);         /* ready.c: readable in the kernel lane, in that sense */

/* opts.c */
bool gn_option_on(int fd, int level, int name);         /* the kernel's own, of whatever is there */
bool gn_option_is_taken(const struct gn_ep *ep, int level, int name, uint32_t value); /* by a fresh socket of that kind, of this process */
void gn_senders_inherit(struct gn_sock *so, int fd); /* AF_UNIX, accepted: the options by which messages name who sent them */

/* opts_kept.c */
void gn_options_free(struct gn_sock *so);
void gn_options_set(const struct gn_sock *so, int u); /* all that the program has set, on another socket of that kind */
void gn_options_replay(struct gn_sock *so, int u);  /* on the AF_UNIX socket that takes the place of the internet one */
void gn_options_inherit(struct gn_sock *so, const struct gn_sock *listener, int fd);
bool gn_option_needs_kernel(const struct gn_sock *so); /* one was set that only the kernel's TCP does */

/* epset.c */
void gn_epoll_opened(int fd);
void gn_epset_free(struct gn_epset *set);
void gn_epset_fd_moved(struct gn_epset *set, int from, int to); /* a hidden descriptor of it, perhaps */
/* A set, or a socket that sets watch, goes on by the number `to`, which is open: `from` is about to be closed (-1: some number was). */
void gn_epoll_renumber(struct gn_sock *so, int from, int to);

/* epoll_watch.c: an endpoint's registrations in the sets of this process */
void gn_watches_to_ring(struct gn_sock *so);            /* promoted */
bool gn_watches_wait(struct gn_sock *so, int fd);       /* waited for by edges, and not read empty */
void gn_watches_to_kernel(struct gn_sock *so);          /* back in the kernel lane, or another file under the descriptor */
void gn_watches_leave(struct gn_sock *so);              /* before another file comes under the descriptor while this one lives on */
void gn_watches_pass(struct gn_sock *from, struct gn_sock *to); /* they are another endpoint's now, which has none */
int gn_watches_follow(struct gn_epset *set);            /* of all that a scan has found moved */
void gn_watches_poke(struct gn_sock *so);               /* we have shut our end: who sleeps in a set is to look */
void gn_watches_private(struct gn_sock *so, int fd);    /* a listener got its private face */
void gn_watches_private_gone(struct gn_sock *so);       /* before it is closed: relatives may keep it open */
void gn_watches_return(struct gn_sock *so, int fd);     /* after gn_epoll_renumber(): fd is a number of its file's now, perhaps again */
void gn_watches_drop(struct gn_sock *so);               /* its last descriptor is closed */

/* epoll_rings.c */
void gn_watches_told(struct gn_sock *so, const struct gn_epset *except); /* its bells were taken out: sets that rely on them look again */

/* epoll_nested.c */
uint64_t gn_set_sync(int fd);                           /* before the kernel is asked about a set: for how long the answer is sure, or UINT64_MAX */

/* epoll_fork.c */
extern _Atomic uint32_t gn_watch_lists;                  /* lock, taken before any set's: the lists that hang off endpoints */
void gn_epset_hold(struct gn_epset *set);               /* a fork begins: shared from now on, and still */
void gn_epset_release(struct gn_epset *set);            /* in the parent */
void gn_epset_forked(struct gn_epset *set);             /* in the child */

/* control.c: bytes to read now, in both lanes, without bells */
int gn_unread(struct gn_sock *so, int fd);     /* up to TCP's urgent mark */
int gn_unread_all(struct gn_sock *so, int fd); /* what lies behind an urgent byte too */

/* urgent.c: TCP's mark on an emulated connection, in the kernel lane */
short gn_urgent_mend(struct gn_sock *so, int fd, short bits); /* what poll() said there, POLLPRI asked too */
int gn_urgent_unread(struct gn_sock *so, int fd, int there);  /* FIONREAD, of an emulated one, where AF_UNIX says `there` */
bool gn_is_at_mark(int fd);
void gn_urgent_was_read(struct gn_sock *so);

/* shut.c: emulated connections are told apart from AF_UNIX ones here */
bool gn_tcp_is_over(struct gn_sock *so, int fd);        /* TCP's state CLOSE: both ways have ended, or a reset */
void gn_late_words(struct gn_sock *so, int fd, bool urgent); /* we have written to who has shut both ways, or is closed: leaves a note */
bool gn_late_words_came(const struct gn_sock *so, int fd); /* the peer has done that to us */

/* listen.c */
#define GN_GROUP_MAX 256u /* listeners on one address */
int gn_local_name(int fd, struct gn_addr *a);           /* the kernel's */
bool gn_private_wanted(const struct gn_sock *so, int fd); /* it may have a private face, or call one; else it is said why not */
void gn_private_close(struct gn_sock *so, int fd);
void gn_private_forget(struct gn_sock *so, int fd);     /* it was shut by a relative */
void gn_private_retire(struct gn_sock *so, int fd);     /* somebody will accept by the public face alone */

/* conn.c */
void gn_established(struct gn_sock *so, const struct gn_addr *from, const struct gn_addr *dest); /* by the private face */
void gn_name_out(const struct gn_sock *so, struct sockaddr *addr, socklen_t *len, bool peer); /* of an emulated connection */

/* spare.c: memory of things of one size. What the last close gives back is kept: it may come from a signal handler, where free() may not,
 * and a forked child need not touch malloc()'s pages to close. */
struct gn_spare {
	void *few[4];           /* not written to */
	struct gn_spared *more;
};
void *gn_spare_take(struct gn_spare *from, size_t size); /* zeroed, or NULL */
void gn_spare_give(struct gn_spare *to, void *thing);    /* NULL: nothing */
void gn_spare_forked(void);

/* connecting.c: between a connection that the peer knows of and the descriptors that lead to it */
void gn_connecting_begin(struct gn_sock *so);
void gn_connecting_end(struct gn_sock *so);
void gn_connecting_wait(struct gn_sock *so);
void gn_connecting_hold(void);                          /* for a fork: nobody is at it, and nobody begins */
void gn_connecting_release(void);
void gn_connecting_forked(void);

/* No other thread is in that moment, or it is over. */
static inline void gn_connecting_pass(struct gn_sock *so)
{
	if (unlikely(atomic_load_explicit(&so->connecting, memory_order_acquire)))
		gn_connecting_wait(so);
}

/* early.c: internet sockets that have been AF_UNIX sockets from the start. To be asked before the kernel: a new one, or -1 where it is to be the
 * kernel's. */
int gn_early_open(int domain, int type, int protocol);
void gn_early_end(struct gn_sock *so, int fd);          /* the kernel's own socket takes its place; gn_connecting_begin() has been said */
void gn_early_ended(struct gn_sock *so, int fd);        /* the same, of one just got */
void gn_early_end_all(void);
void gn_early_leave(void);                              /* and none are to be made */
void gn_early_forked(void);
void gn_early_connected(struct gn_sock *so);            /* by a private face, early or not */
void gn_early_over(struct gn_sock *so);                 /* closed, connected, or what it seems */
void gn_early_fd_moved(int from, int to);
bool gn_opened_early(int fd, int domain, int type, int protocol); /* open.c */

/* queue.c: callers of a private face whose queue is full */
bool gn_queue_waits(const struct gn_sock *so);          /* connect() was answered EINPROGRESS and there was no room since */
/* u: bound, and found the queue of `at` full. 1: it is connected now; 0: closed, take the public face; errors of connect(). */
int gn_queue_enter(struct gn_sock *so, int fd, int u, const struct gn_name *at, const struct gn_addr *from, const struct gn_addr *dest);
int gn_queue_settle(struct gn_sock *so, int fd);        /* tries again. 0: not or no longer waiting; -EINPROGRESS; the error, once */
int gn_queue_wait(struct gn_sock *so, int fd, bool nonblock); /* likewise, but waits; -EINTR */
int gn_queue_again(struct gn_sock *so, int fd);         /* connect() once more: 1: not for us, else the answer */
int gn_queue_cancel(struct gn_sock *so, int fd);
void gn_queue_look(void);                               /* before this process sleeps: all that wait try again */
uint64_t gn_queue_nap(uint64_t deadline_ns);            /* until when it may sleep */
void gn_queue_leave(struct gn_sock *so);
void gn_queue_free(struct gn_sock *so);
void gn_queue_forked(struct gn_sock *so);               /* in the child: what a thread of the parent slept with */
void gn_queue_fd_moved(struct gn_sock *so, int from, int to);

/* Another socket under all descriptors; what was bound is kept in hold_fd. gn_connecting_begin() has been said. */
int gn_swap_in(struct gn_sock *so, int fd, int u);
/* The same without keeping, and without that word; closes u. Of a process whose memory was borrowed (vfork) it is this descriptor alone. */
int gn_put_under(struct gn_sock *so, int fd, int u);
int gn_put_under_begun(struct gn_sock *so, int fd, int u); /* gn_connecting_begin() has been said */

/* peer.c: two bound sockets that connect to each other */
#define GN_PEER_AGAIN 2
void gn_peer_hold(struct gn_sock *so, int fd);          /* after bind() */
void gn_peer_drop(struct gn_sock *so);                  /* it listens, is connected or is closed: peers that wait for it are refused */
void gn_peer_free(struct gn_sock *so);
/* 1: connected; 0: nobody to meet there; -EINPROGRESS and other errors of connect(); GN_PEER_AGAIN: whom we waited for has gone or
 * listens now, so begin anew. */
int gn_peer_meet_inet(struct gn_sock *so, int fd, const struct gn_addr *dest);
int gn_peer_meet_unix(struct gn_sock *so, int fd, const struct sockaddr *addr, socklen_t len);
bool gn_peer_waits(const struct gn_sock *so);           /* connect() was answered EINPROGRESS by us and is not settled yet */
int gn_peer_settle(struct gn_sock *so, int fd);         /* 0: not or no longer waiting; -EINPROGRESS; -ECONNREFUSED, once */
int gn_peer_again(struct gn_sock *so, int fd);          /* connect() once more: 1: not for us, else the answer */
int gn_peer_getname(struct gn_sock *so, int fd, struct sockaddr *addr, socklen_t *len, bool peer); /* 1: ask elsewhere */
socklen_t gn_peer_source(const struct gn_sock *so, void *name, socklen_t room); /* what recvfrom() shows as source; 0: ask elsewhere */

/* dgram*.c */
void gn_dgram_free(struct gn_sock *so);
bool gn_dgram_connecting(struct gn_sock *so, int fd); /* before connect(); true: it will tell the peer that what it sent is lost, if so */
void gn_dgram_connected(struct gn_sock *so, int fd, int rc, bool told); /* after it */
int gn_dgram_shutdown(struct gn_sock *so, int fd, int how);
void gn_dgram_pin(struct gn_sock *so);               /* every pair back to the kernel lane */
void gn_dgram_leave(struct gn_sock *so, int fd);      /* dgram_leave.c: about to be read by somebody who knows no rings */
void gn_dgram_goodbye(struct gn_sock *so);           /* the last descriptor of this process is closed */
void gn_dgram_part(struct gn_sock *so);               /* has left: lifelines and offers are closed */
void gn_dgram_hold(struct gn_sock *so);               /* a fork begins: the table is still */
void gn_dgram_release(struct gn_sock *so);            /* in the parent */
void gn_dgram_forked(struct gn_sock *so);             /* in the child */
void gn_dgram_tx_mend(struct gn_sock *so, int fd);   /* gn_tx_mend(), gn_rx_mend() */
void gn_dgram_rx_mend(struct gn_sock *so, int fd);
void gn_dgram_fd_moved(struct gn_sock *so, int from, int to);
int gn_dgram_unread(struct gn_sock *so, int fd, int *bytes);
int gn_dgram_unsent(struct gn_sock *so, int fd, int *bytes);
void gn_dgram_option(struct gn_sock *so, int fd, int level, int name, const void *value, socklen_t len);
short gn_dgram_ready(struct gn_sock *so, int fd, short want, bool ask_kernel);
bool gn_dgram_arm(struct gn_sock *so, int fd, short events);
void gn_dgram_disarm(struct gn_sock *so);
void gn_dgram_parted(struct gn_sock *so);            /* has the peer left us, with data of ours unread? Then an error waits */
bool gn_dgram_check(struct gn_sock *so, int fd);         /* takes bells out; true: a datagram comes next by the kernel */
uint32_t gn_dgram_news(const struct gn_sock *so);
void gn_dgram_publish_cpu(struct gn_sock *so, uint32_t cpu);
bool gn_dgram_peer_cpu(const struct gn_sock *so, uint32_t *cpu);

#endif
