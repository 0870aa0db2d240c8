/* SPDX-License-Identifier: MIT */
/*
 * Inside and asleep: where a thread may be interrupted, and what it leaves behind if it never comes back.
 *
 * Theory of operation. A thread is *inside* from the moment a call has found an endpoint until it returns. What comes for it there waits:
 * the handler of a signal finds gn_thread.inside set, has the kernel keep the signal for a moment, and runs when the thread leaves
 * (signals.c). So a handler never meets a lock that its own thread holds, and never leaves one behind by siglongjmp().
 *
 * Whoever has to wait leaves by gn_sleep(), the one place where the library calls the kernel and may stay there: no lock is held, the
 * thread counts as outside, handlers run at once, the thread may be cancelled. What it has beside it is written down first
 * (struct gn_held, on its stack): a reference, a counter. Should the frames be left, by siglongjmp() out of a handler or by the end of the thread, that is
 * undone; and a child that forks inside a handler counts its own copy.
 *
 * Invariants:
 *   [SIG-1] no handler of the program runs while its thread is inside; nothing but the code between two words of gn_sleep() is outside.
 *   [SIG-2] a signal that came after the last look for data, and before the kernel has begun to wait, ends the wait as one that came
 *           during it: the handler moves the thread past the system call, unless that is to be restarted.
 */
#ifndef GN_SOCK_SLEEP_H
#define GN_SOCK_SLEEP_H

#include "sock/sock.h"

/* What relatives share is counted for the child before it is there: its parent may be gone from the call when it first runs. */
enum gn_fork_step { GN_FORK_BEFORE, GN_FORK_FAILED, GN_FORK_CHILD };

struct gn_held {
	struct gn_held *below;
	struct gn_sock *so;                  /* one reference to it; NULL: none */
	_Atomic uint32_t *count;             /* this counter is one too high without us; NULL: none */
	void (*undo)(struct gn_held *held);  /* beside these; NULL: nothing */
	void (*fork)(struct gn_held *held, enum gn_fork_step step); /* likewise, when a handler forks and both go on in this call */
	bool lost;                           /* the call was over when its frame was left: nobody knows what it did */
	bool own;                            /* the counter is this process's alone, and began anew in a forked child */
	_Atomic uint16_t *seat;              /* likewise this process's sleepers on so->ep; a forked child has another place; NULL: none */
};

/* How a call of the kernel's may be interrupted. */
enum gn_sleep_how {
	GN_SLEEP_CALL,    /* as libc's own: the kernel decides */
	GN_SLEEP_RESTART, /* the program waits: -EINTR, or GN_SLEEP_AGAIN when every handler that ran has SA_RESTART */
	GN_SLEEP_EINTR,   /* the program waits, and no handler lets it go on: poll, timeouts */
};

#define GN_SLEEP_AGAIN (-85) /* -ERESTART: look again, then sleep again */

/* Notes what the calling frame holds, until the matching pop. Innermost first: frames are left from within. */
void gn_held_push(struct gn_held *held);
void gn_held_pop(struct gn_held *held);

/* Where this process's sleepers on a stream are counted. */
static inline _Atomic uint16_t *gn_seat(struct gn_sock *so)
{
	return so->seat < GN_HOLDERS ? &so->ep->asleep[so->seat] : &so->unnamed;
}

/* Makes a system call that may wait, and is a cancellation point. `held`, filled but for `below`, or NULL, is pushed meanwhile. */
long gn_sleep(enum gn_sleep_how how, struct gn_held *held, long nr, long a, long b, long c, long d, long e, long f);

/* The usual ones. -errno. */
struct gn_held gn_held_asleep(struct gn_sock *so); /* between gn_sleep_begin() and gn_sleep_end() */
int gn_sleep_ppoll(enum gn_sleep_how how, struct gn_held *held, struct pollfd *fds, nfds_t count, const struct timespec *timeout,
		   const sigset_t *mask);

/* sleep.c, for the shim */
void gn_frames_left(const void *sp);  /* longjmp() to a frame whose stack pointer is `sp` is about to happen */
void gn_seat_fork(struct gn_sock *so, _Atomic uint16_t **seat, enum gn_fork_step step);
void gn_count_fork(_Atomic uint32_t *count, bool own, enum gn_fork_step step);
void gn_sleep_fork(enum gn_fork_step step); /* in the child, after every count of its own began anew */

/* The program's descriptor of `so` after a wait: it may have been closed or put to another use meanwhile. -1: none is left. */
int gn_fd_still(struct gn_sock *so, int fd);

/* What a sleep on `fd` ended with: where the kernel would begin its call anew, after a handler, it finds out that the descriptor is closed. */
static inline long gn_slept(struct gn_sock *so, int fd, long rc)
{
	return rc == GN_SLEEP_AGAIN && gn_fd_still(so, fd) != fd ? -EBADF : rc;
}

#endif
