/* SPDX-License-Identifier: MIT */
/* An epoll set and its registrations: what epoll.c and epoll_nested.c share. Theory and locks: epoll.c. */
#ifndef GN_SOCK_EPSET_H
#define GN_SOCK_EPSET_H

#include "sock/api.h"

#define GN_INNER 8
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

/* No lock is held: tells the other watches of what gn_bells_harvest() heard. */
void gn_heard_tell(struct gn_epset *set);

/* set->lock is held in these. */
bool gn_bells_harvest(struct gn_epset *set); /* true: there was news */
uint32_t gn_watch_peek(struct gn_watch *w); /* what a wait would report of it now */
bool gn_watch_arm(struct gn_watch *w, uint32_t token); /* gn_arm() of what it asks for */
void gn_epset_warm(struct gn_epset *set); /* its endpoints have got relatives: all that was armed before is armed anew, as theirs */
int gn_bells_open(struct gn_epset *set);
int gn_bells_place(struct gn_epset *set, bool opened); /* into the program's set or out of it, as is due; opened: just now */
void gn_watches_outer(struct gn_epset *set); /* the kernel is to show what TCP would: emulated connections are looked at by us */
void gn_epset_wake(struct gn_epset *set);   /* a thread that sleeps on it */

/* epoll_fork.c */
void gn_epset_own_bells(struct gn_epset *set); /* after a fork, before the first wait: no lock is held */
int gn_epset_wait_apart(struct gn_sock *so, uint64_t deadline_ns, const sigset_t *mask); /* 1: ask the program's set; 0: look again; -errno */
void gn_epset_leave(struct gn_epset *set);   /* a thread has slept in the program's set, or is not going to */
bool gn_epset_listen(struct gn_epset *set);  /* the bells, where they are not in the program's set; true: there was news */

/* epoll_nested.c */
void gn_epset_sync(struct gn_epset *set);   /* makes what the kernel shows of an outer set true */
void gn_epset_poke(struct gn_epset *set);   /* gn_epset_wake() with the lock taken: a registration changed */
void gn_epset_inner(struct gn_epset *set, int fd); /* fd is a set that was added to this one */
int gn_ready_watch(struct gn_epset *set, int op); /* adds set->ready to the bells, or takes it out */
void gn_inner_sync(struct gn_epset *set);   /* of all sets in this one */

#endif
