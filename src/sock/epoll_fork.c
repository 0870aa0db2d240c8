/* SPDX-License-Identifier: MIT */
/*
 * epoll sets and fork: processes that share a program's set.
 *
 * Theory of operation. The program's set is one open file for the whole family, and whoever waits there sees what any of them has put in.
 * Bells cannot be shared so: their events name watches in one process's memory, and one that a relative takes out is lost for the process
 * that it was meant for. So each process has bells of its own. While a set is shared they stay out of the program's set, where they
 * would wake everybody until their owner has come to take them out: who has bells then sleeps in poll() on both (gn_epset_wait_apart). When
 * the others have ended, or begun another program, the bells go back inside, and a sleep is one system call again.
 *
 * A thread that sleeps in the program's set at the moment of a fork hears its bells only there. They stay until it has left (gn_bells_place).
 * Somebody who waits for the set itself, by another set or by poll, needs them there for good: relatives that find bells which are not
 * theirs then nap.
 *
 * Threads/owner: set->lock. Across a fork the locks of all sets are held (fork.c).
 */
#include "sock/epset.h"
#include "sock/inside.h"
#include "sock/sleep.h"

#define ALONE_EVERY 64 /* looks and sleeps between two questions whether relatives have ended */

_Atomic uint32_t gn_watch_lists;

void gn_epset_hold(struct gn_epset *set)
{
	gn_lock(&set->lock);
	set->shared = true;
	gn_cookie_begin(set);
	gn_bells_place(set, false);
}

void gn_epset_release(struct gn_epset *set)
{
	gn_epset_warm(set);
	gn_unlock_mine(&set->lock);
}

/* The only thread of the child holds no lock, and the bells are the parent's. */
void gn_epset_forked(struct gn_epset *set)
{
	atomic_store(&set->lock, 0);
	atomic_store(&set->sleeping, 0);
	atomic_store(&set->apart, 0);
	gn_unhide_close(&set->bells);
	gn_unhide_close(&set->ready);
	set->rung_inside = set->haunted = false;
	set->heard_count = 0;
}

void gn_epset_own_bells(struct gn_epset *set)
{
	if (set->bells >= 0 || !set->rings)
		return;
	gn_lock(&set->lock);
	gn_bells_open(set);
	gn_unlock(&set->lock);
}

/* set->lock is held, so no fork of ours goes on. */
static void place(struct gn_epset *set)
{
	if (++set->apart_turns % ALONE_EVERY == 0 && gn_family_is_alone())
		set->shared = false;
	gn_bells_place(set, false);
}

void gn_epset_leave(struct gn_epset *set)
{
	gn_lock(&set->lock);
	place(set);
	gn_unlock(&set->lock);
}

bool gn_epset_listen(struct gn_epset *set)
{
	bool news;

	gn_lock(&set->lock);
	news = set->bells >= 0 && gn_bells_harvest(set);
	place(set);
	gn_unlock(&set->lock);
	gn_heard_tell(set);
	return news;
}

static int sleep_on_both(struct gn_sock *so, struct pollfd p[2], uint64_t deadline_ns, const sigset_t *mask)
{
	struct gn_epset *set = so->set;
	struct gn_held apart = {.count = &set->apart, .own = true}, held = {.so = so, .count = &set->sleeping, .own = true};
	bool strange = set->strange;
	struct timespec ts;
	uint64_t now = gn_now_ns();
	int rc;

	set->strange = false;
	if (strange)
		deadline_ns = GN_MIN(deadline_ns, now + GN_EPOLL_NAP_NS);
	ts = gn_timespec(deadline_ns > now ? deadline_ns - now : 0);
	gn_held_push(&apart);
	rc = gn_sleep_ppoll(GN_SLEEP_EINTR, &held, p, strange ? 1 : 2, deadline_ns == UINT64_MAX ? NULL : &ts, mask);
	gn_held_pop(&apart);
	return rc;
}

int gn_epset_wait_apart(struct gn_sock *so, uint64_t deadline_ns, const sigset_t *mask)
{
	struct gn_epset *set = so->set;
	struct pollfd p[2] = {{set->bells, POLLIN, 0}, {set->fd, POLLIN, 0}};
	int rc;

	atomic_fetch_add(&set->apart, 1);
	gn_epset_leave(set);
	rc = sleep_on_both(so, p, deadline_ns, mask);
	atomic_fetch_sub(&set->apart, 1);
	if (rc <= 0)
		return rc;
	if (p[0].revents)
		gn_epset_listen(set);
	if (p[1].revents & POLLNVAL)
		return -EBADF;
	return p[1].revents != 0;
}
