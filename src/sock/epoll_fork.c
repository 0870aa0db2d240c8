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
 * Across a fork the locks of all sets are held, so that the child's copy of their lists is whole.
 *
 * Threads/owner: locks in the order gn_world.big, gn_watch_lists, each set's.
 */
#include "sock/epset.h"
#include "sock/inside.h"
#include "sock/sleep.h"

#define NAP_NS GN_NS_PER_MS
#define ALONE_EVERY 64 /* looks and sleeps between two questions whether relatives have ended */

_Atomic uint32_t gn_watch_lists;

/* Sets that are held still, by so->next_free, which is of use only in those that are free. */
static struct gn_sock *held_first;

/* gn_world.big is held: nothing that is dead comes to life. */
static void hold(struct gn_sock *so)
{
	if (!(atomic_fetch_add(&so->refs, 1) & GN_REFS_LIVE) || so->held) {
		atomic_fetch_sub(&so->refs, 1); /* never the last one: it is dead, or held already */
		return;
	}
	gn_lock(&so->set->lock);
	so->held = true;
	so->set->shared = true;
	gn_bells_place(so->set, false);
	so->next_free = held_first;
	held_first = so;
}

bool gn_epoll_fork(void)
{
	gn_lock(&gn_watch_lists);
	for (uint32_t fd = 0; fd < gn_world.used_fds && fd < gn_world.table_size; fd++) {
		struct gn_sock *so = atomic_load_explicit(&gn_world.table[fd], memory_order_acquire);

		if ((uintptr_t)so > 1 && so->kind == GN_KIND_EPOLL)
			hold(so);
	}
	for (struct gn_sock *so = gn_world.late; so; so = so->next_late)
		if (so->kind == GN_KIND_EPOLL)
			hold(so);
	return held_first != NULL;
}

struct gn_sock *gn_epoll_fork_over(void)
{
	struct gn_sock *first = held_first;

	for (struct gn_sock *so = first; so; so = so->next_free) {
		so->held = false;
		gn_unlock_mine(&so->set->lock);
	}
	held_first = NULL;
	gn_unlock_mine(&gn_watch_lists);
	return first;
}

void gn_epoll_fork_free(struct gn_sock *held)
{
	while (held) {
		struct gn_sock *so = held;

		held = so->next_free;
		gn_put(so);
	}
}

/* The only thread of the child holds no lock, and the bells are the parent's. */
static void set_forked(struct gn_epset *set)
{
	atomic_store(&set->lock, 0);
	atomic_store(&set->sleeping, 0);
	atomic_store(&set->apart, 0);
	gn_unhide_close(&set->bells);
	gn_unhide_close(&set->ready);
	set->rung_inside = set->haunted = false;
	set->heard_count = 0;
}

void gn_epoll_forked(void)
{
	atomic_store(&gn_watch_lists, 0);
	for (struct gn_sock *so = held_first; so; so = so->next_free) {
		so->held = false;
		set_forked(so->set);
	}
	held_first = NULL;
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
		deadline_ns = GN_MIN(deadline_ns, now + NAP_NS);
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
