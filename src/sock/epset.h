/* SPDX-License-Identifier: MIT */
/*
 * Sets of epoll and their watches, for the files that do epoll: epset.c, epoll*.c. Other modules see the functions in sock.h.
 *
 * Theory of operation. The program's set stays the kernel's own, with the program's own 64 bits, for every descriptor that is not on the
 * ring. When an endpoint is promoted its registration (watch) moves out of that set into a second, hidden one, the bells, which sits
 * in the first as one more descriptor under a value that the program does not use (the cookie). epoll_wait looks at the rings of the hot
 * watches in user space; watches that stay quiet are armed (their peer will ring a bell) and cost nothing until the bells say so.
 *
 * Shape. A set is what a gn_sock of GN_KIND_EPOLL holds; the dups of the program's set share it. A watch is one registration of a descriptor of
 * ours: in the list of its endpoint (gn_sock.watches, by of_sock) and in one of four of its set (by next, prev):
 *
 *     list      ring   deleted  cold
 *     kernel    no     no       no     the kernel reports it, by the program's set
 *     hot       yes    no       no     in the bells, and looked at by each scan
 *     cold      yes    no       yes    in the bells, armed, and left to them
 *     deleted   -      yes      no     by the program; ring: it is among the bells still, for programs that add it again soon
 *
 * Descriptors that are not ours have no watch: they are the kernel's alone.
 *
 * Ownership. Watches are the set's, and never outlive it nor their endpoint's last descriptor: they hold no reference to either. A thread in a
 * wait holds the set's gn_sock; who leaves all locks with an endpoint in hand counts on it first (epoll_watch.c: moved_one).
 *
 * Locks. gn_watch_lists guards the lists of endpoints, and gn_watch.so; gn_epset.lock, taken after it, the rest of a set and of its watches; it
 * is held for a scan. What a wait remembers to do better next time (looked_ns to `turn`) has no lock: a wrong value costs time alone.
 * Sets that processes share by fork: epoll_fork.c.
 */
#ifndef GN_SOCK_EPSET_H
#define GN_SOCK_EPSET_H

#include "sock/api.h"

#define GN_EPOLL_NAP_NS GN_NS_PER_MS /* between looks for what no bell will tell of */
#define GN_INNER 8
#define GN_NESTED 5 /* EP_MAX_NESTS + 1 of the kernel */
#define GN_HEARD 32
#define GN_EPOLL_FLAGS (EPOLLET | EPOLLONESHOT | EPOLLEXCLUSIVE | EPOLLWAKEUP)

struct gn_watch {
	struct gn_epset *set;
	struct gn_sock *so;
	struct gn_watch *of_sock;          /* next of the same endpoint */
	struct gn_watch *next, *prev;      /* in set->all's or set->hot's or set->cold's ring */
	int fd;
	int number;                        /* the program's, by which the kernel knows it; fd is another one when this was closed */
	uint32_t events;
	epoll_data_t data;
	bool ring;                         /* in the bells, not in the program's set */
	bool deleted;                      /* by the program; it stays among the bells, for programs that add again soon */
	bool moved;                        /* the program has closed the number it was added by, and another one of the file is open */
	bool cold;                         /* armed and left to its bell */
	bool off;                          /* one-shot, fired */
	bool kernel_out;                   /* the bells watch the kernel socket for room */
	bool fresh;                        /* edge-triggered: report the present state once */
	bool out_known;                    /* likewise: that it is writable was told before it came to the bells */
	bool hint;                         /* the kernel may know something: ask it */
	uint64_t echo;                     /* what the bells showed when it was put among them by another number: no news; 0: nothing */
	uint32_t quiet;
	uint32_t seen;                     /* head of the ring at the last report */
	uint32_t told;                     /* bits at the last report */
	uint32_t since;                    /* set->asked when it was added or modified */
	uint32_t full;                     /* so->tx_full at the last report of room */
};

struct gn_epset {
	_Atomic uint32_t lock;
	int fd;                /* the program's set */
	int bells;             /* hidden, of this process alone, -1 until the first promotion */
	uint64_t cookie;
	bool rung_inside;      /* the bells are in the program's set */
	bool shared;           /* by fork: other processes may wait in the program's set too (epoll_fork.c) */
	bool moved;            /* a scan found an endpoint that has: see move.c */
	bool strange;          /* the program's set shows bells, and not ours */
	bool haunted;          /* a watch was freed that may be in the bells still */
	_Atomic uint32_t apart; /* of the sleeping: those that are not in the program's set */
	uint32_t apart_turns;
	struct gn_watch kernel, hot, cold, deleted; /* list heads */
	_Atomic uint32_t rings;        /* watches in hot and cold */
	uint32_t oneshots;     /* one-shot watches: what fired must stay off after a promotion */
	uint32_t emulated;     /* watches that show what the kernel does not know: TCP's POLLHUP, a reset of the ring */
	uint64_t looked_ns;
	uint32_t spin_skip, spin_backoff;
	uint32_t streak;       /* calls in a row in which there was something */
	bool kernel_had;       /* something, when it was looked at last */
	bool was_full;         /* the last call had no room for more: others may have waited */
	bool turn;             /* who is first: the rings or the kernel */
	_Atomic uint32_t asked, swept; /* looks at the kernel's set, numbered; the last one that found all there was */
	_Atomic uint32_t sleeping; /* threads that wait in the kernel */
	bool outer;            /* somebody waits for the set itself: another set, poll, select */
	int ready;             /* hidden eventfd in the bells: readable while an outer set has something to report; -1 */
	int inner[GN_INNER];   /* sets in this one, by descriptor */
	int inner_count;
	struct gn_sock *heard[GN_HEARD]; /* endpoints that other watches see too, whose bells this set took out */
	int heard_count;
};

static inline void gn_watch_list_init(struct gn_watch *head)
{
	head->next = head->prev = head;
}

static inline void gn_watch_list_add(struct gn_watch *head, struct gn_watch *w)
{
	w->prev = head->prev;
	w->next = head;
	head->prev->next = w;
	head->prev = w;
}

static inline void gn_watch_list_del(struct gn_watch *w)
{
	w->prev->next = w->next;
	w->next->prev = w->prev;
}

/* To the end of another list of its set, or of the one that it is in. */
static inline void gn_watch_move(struct gn_watch *w, struct gn_watch *head)
{
	gn_watch_list_del(w);
	gn_watch_list_add(head, w);
}

/* In these set->lock is held, if nothing else is said. */

/* epset.c */
struct gn_sock *gn_epset_get(int fd);        /* without a lock: held; a set that came from elsewhere (exec, another process) is met so */
int gn_epset_ctl(const struct gn_epset *set, int op, int fd, uint32_t events, uint64_t data); /* in the program's set */
void gn_epset_warm(struct gn_epset *set);    /* its endpoints have got relatives: all that was armed before is armed anew, as theirs */
void gn_cookie_begin(struct gn_epset *set);
int gn_bells_open(struct gn_epset *set);
int gn_bells_place(struct gn_epset *set, bool opened); /* into the program's set or out of it, as is due; opened: just now */
void gn_cookie_avoid(struct gn_epset *set, uint64_t data); /* a value of the program's: if it equals the cookie, that moves */

/* epoll_watch.c */
uint32_t gn_kernel_events(const struct gn_sock *so, uint32_t events); /* what is asked in the program's set: see urgent_mend() */
int gn_bells_ctl(struct gn_watch *w, int op); /* in the bells */
uint64_t gn_watch_shows(const struct gn_watch *w); /* to the bells: changes with what is news to an edge; 0: that cannot be told */
void gn_watch_added(struct gn_watch *w);     /* to the kernel's list and set: it goes on to the ring, if it is due there */
struct gn_watch *gn_watch_new(void);         /* zeroed, or NULL */
void gn_watch_give(struct gn_watch *w);      /* in no list */
void gn_watch_remove(struct gn_watch *w);    /* gn_watch_lists is held too: out of both lists, and freed */
void gn_watch_to_ring(struct gn_watch *w);
void gn_watch_warm(struct gn_watch *w);      /* from among the cold ones back to those that are looked at */
void gn_watches_renumber(struct gn_sock *so, int from, int to); /* takes the locks: gn_epoll_renumber() */
void gn_watches_outer(struct gn_epset *set); /* the kernel is to show what TCP would: emulated connections are looked at by us */

/* epoll_rings.c */
uint32_t gn_watch_peek(struct gn_watch *w);  /* what a wait would report of it now */
bool gn_watch_arm(struct gn_watch *w, uint32_t token); /* gn_arm() of what it asks for */
bool gn_bells_harvest(struct gn_epset *set); /* the bells say which watches have news; true: some had; gn_heard_tell() follows */

/* epoll_rings.c; these take the lock */
void gn_heard_tell(struct gn_epset *set);    /* tells the other watches of what gn_bells_harvest() heard */
int gn_epset_scan(struct gn_epset *set, struct epoll_event *events, int max); /* what the rings have; events told */
bool gn_epset_is_quiet(struct gn_epset *set); /* no ring has anything to report */
enum gn_spin_how gn_epset_spin_now(struct gn_epset *set);
/* Asks every hot watch's peer for a bell. False: something is ready. *nap_ns: how long to sleep for the sake of those that may not ring. */
bool gn_epset_arm(struct gn_epset *set, uint32_t token, uint64_t *nap_ns);
void gn_epset_disarm(struct gn_epset *set, uint32_t token);
/* Who leaves a set in which others sleep may have heard what was to wake them: they are rung for as if they had gone to sleep just now. */
void gn_epset_arm_others(struct gn_epset *set);

/* epoll_kernel.c; takes the lock: mends what the kernel returned, and hears the bells if they are among it, which it then says */
bool gn_epset_filter(struct gn_epset *set, struct epoll_event *events, int *n);

/* epoll_fork.c; these take the lock */
void gn_epset_own_bells(struct gn_epset *set); /* after a fork, before the first wait */
int gn_epset_wait_apart(struct gn_sock *so, uint64_t deadline_ns, const sigset_t *mask); /* 1: ask the program's set; 0: look again; -errno */
void gn_epset_leave(struct gn_epset *set);   /* a thread has slept in the program's set, or is not going to */
bool gn_epset_listen(struct gn_epset *set);  /* the bells, where they are not in the program's set; true: there was news */

/* epoll_nested.c */
void gn_epset_wake(struct gn_epset *set);    /* a thread that sleeps on it */
int gn_ready_watch(struct gn_epset *set, int op); /* adds set->ready to the bells, or takes it out */

/* epoll_nested.c; these take the lock */
void gn_epset_poke(struct gn_epset *set);    /* gn_epset_wake(): a registration changed */
/* Makes what the kernel shows of an outer set true; for how long who sleeps may rely on it, or UINT64_MAX. */
uint64_t gn_epset_sync(struct gn_epset *set);
void gn_epset_inner(struct gn_epset *set, int fd, bool added); /* fd, if it is a set, was added to this one, or deleted */
uint64_t gn_inner_sync(struct gn_epset *set); /* of all sets in this one */

#endif
