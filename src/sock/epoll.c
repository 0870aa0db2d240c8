/* SPDX-License-Identifier: MIT */
/*
 * epoll_wait: looks at the rings (epoll_rings.c) and at the kernel's set (epoll_kernel.c), spins, sleeps.
 *
 * Invariants: neither side starves the other: the kernel is asked whenever the rings have nothing, and at least every LOOK_NS otherwise; with
 * little room for events they take turns. Whoever is about to sleep counts itself in set->sleeping before the last look, and whoever
 * brings news looks there after it. A set without rings costs what the kernel's does. Theory, shape and locks: epset.h.
 */
#include "sock/epset.h"
#include "sock/inside.h"
#include "sock/sleep.h"

#define LOOK_NS (50 * GN_NS_PER_US) /* how long rings alone may keep the kernel's descriptors waiting */
#define SPIN_LOOK_NS (10 * GN_NS_PER_US)
#define STREAK 8                    /* calls in which the rings had something, before they may go first */

/* A look at the kernel's set begins: its number. */
static uint32_t sweep_begin(struct gn_epset *set)
{
	return atomic_fetch_add(&set->asked, 1) + 1;
}

/* It found n of at most `max`: less, and all that was ready has been told. */
static void sweep_end(struct gn_epset *set, uint32_t number, int n, int max)
{
	if (n >= 0 && n < max)
		atomic_store(&set->swept, number);
}

/* Without waiting. */
static int kernel_poll(struct gn_epset *set, struct epoll_event *events, int max)
{
	uint32_t number = sweep_begin(set);
	int n = gn_sys_epoll_pwait(set->fd, events, max, 0, NULL);

	sweep_end(set, number, n, max);
	return n;
}

/* With the program's mask. Counted in set->sleeping. */
static int kernel_wait(struct gn_sock *so, struct epoll_event *events, int max, uint64_t deadline_ns, const sigset_t *mask)
{
	struct gn_epset *set = so->set;
	struct gn_held held = {.so = so, .count = &set->sleeping, .own = true};
	uint32_t number;
	uint64_t now;
	struct timespec ts;
	int n;

	if (unlikely(set->shared) && set->bells >= 0) {
		n = gn_epset_wait_apart(so, deadline_ns, mask);
		return n > 0 ? kernel_poll(set, events, max) : n;
	}
	number = sweep_begin(set);
	if (deadline_ns == UINT64_MAX) {
		n = (int)gn_sleep(GN_SLEEP_EINTR, &held, SYS_epoll_pwait, set->fd, (long)events, max, -1, (long)mask, GN_SIGSET_BYTES);
	} else {
		now = gn_now_ns();
		ts = gn_timespec(deadline_ns > now ? deadline_ns - now : 0);
		n = (int)gn_sleep(GN_SLEEP_EINTR, &held, SYS_epoll_pwait2, set->fd, (long)events, max, (long)&ts, (long)mask, GN_SIGSET_BYTES);
	}
	sweep_end(set, number, n, max);
	return n;
}

/* What the kernel has now. *rang: the bells were among it. */
static int kernel_look(struct gn_epset *set, struct epoll_event *events, int max, uint64_t now, bool *rang)
{
	int k = max ? kernel_poll(set, events, max) : 0;

	set->looked_ns = now;
	if (k > 0)
		*rang = gn_epset_filter(set, events, &k);
	set->kernel_had = k > 0;
	if (unlikely(set->shared))
		*rang |= gn_epset_listen(set);
	return k;
}

/* Rings that had something in each of the last calls may go before the kernel's set for LOOK_NS. */
static bool rings_lead(const struct gn_epset *set, uint64_t now)
{
	return set->streak >= STREAK && now - set->looked_ns < LOOK_NS;
}

/* When a spin looks at the kernel's set. */
static uint64_t first_look(const struct gn_epset *set, uint64_t now)
{
	return set->kernel_had || !rings_lead(set, now) ? now : GN_MIN(now + SPIN_LOOK_NS, set->looked_ns + LOOK_NS);
}

/* Events found while spinning, 0 when it did not pay. */
static int spin(struct gn_epset *set, struct epoll_event *events, int max, uint64_t until_ns)
{
	struct gn_spinning spin;
	bool rang = false;
	uint64_t look;
	int n = 0;

	if (!gn_spin_begin(&spin, gn_epset_spin_now(set), until_ns))
		return 0;
	look = first_look(set, spin.now_ns);
	do {
		if (spin.now_ns >= look) {
			n = kernel_look(set, events, max, spin.now_ns, &rang);
			n = n < 0 ? 0 : n; /* the sleep will say it again */
			look = spin.now_ns + SPIN_LOOK_NS;
		}
		for (int i = 0; i < spin.looks && (n == 0 || i == 0); i++) {
			n += gn_epset_scan(set, events + n, max - n);
			gn_cpu_relax();
		}
	} while (n == 0 && gn_spin_on(&spin));
	if (n) {
		set->spin_backoff = 0;
	} else {
		set->spin_backoff = set->spin_backoff ? GN_MIN(set->spin_backoff * 2, 8u) : 1;
		set->spin_skip = set->spin_backoff - 1;
	}
	return n;
}

/* Sleeps. What rang goes with what the kernel has: that was asked just now. */
static int sleep_once(struct gn_sock *so, struct epoll_event *events, int max, uint64_t deadline_ns, const sigset_t *mask)
{
	struct gn_epset *set = so->set;
	int n = kernel_wait(so, events, max, deadline_ns, mask);
	bool rang = n > 0 && gn_epset_filter(set, events, &n);

	set->looked_ns = gn_now_ns();
	set->kernel_had = n > 0;
	return rang ? n + gn_epset_scan(set, events + n, max - n) : n;
}

/* Sleeps once, if nothing is there. Events, 0: look again (or time is up), -errno. */
static int park(struct gn_sock *so, struct epoll_event *events, int max, uint64_t deadline_ns, const sigset_t *mask)
{
	struct gn_epset *set = so->set;
	bool others = atomic_fetch_add(&set->sleeping, 1) > 0 || set->outer;
	uint32_t token = others ? GN_ARM_ALWAYS : gn_arm_token();
	uint64_t nap_ns = unlikely(set->bells < 0) ? GN_EPOLL_NAP_NS : UINT64_MAX; /* a forked child's, that cannot have any */
	int n = 0;

	if (gn_epset_arm(set, token, &nap_ns)) {
		if (unlikely(nap_ns != UINT64_MAX))
			deadline_ns = GN_MIN(deadline_ns, gn_now_ns() + nap_ns);
		/* Edge-triggered watches are not "ready" while their state is old news; a change since is caught by this look. */
		n = gn_epset_scan(set, events, max);
		if (n == 0 && likely(!set->moved))
			n = sleep_once(so, events, max, deadline_ns, mask);
	}
	atomic_fetch_sub(&set->sleeping, 1);
	gn_epset_disarm(set, token);
	if (unlikely(set->shared))
		gn_epset_leave(set);
	return n;
}

/* Both sides once. The kernel's first, so that what rang is heard before the rings are looked at: an edge would else be told twice. They take
 * turns at having most of the room, so that neither starves the other when `max` is small. */
static int look(struct gn_epset *set, struct epoll_event *events, int max, uint64_t now)
{
	bool rang = false;
	int n = 0, k = 0;

	if (!set->was_full && rings_lead(set, now)) {
		n = gn_epset_scan(set, events, max);
		if (n)
			return n;
	}
	set->turn = !set->turn;
	if (set->turn && max == 1) {
		n = gn_epset_scan(set, events, max);
		if (n)
			return n;
	}
	k = kernel_look(set, events, set->turn && max > 1 ? max / 2 : max, now, &rang);
	if (k >= 0)
		n = gn_epset_scan(set, events + k, max - k);
	return k < 0 ? k : n + k;
}

/* A connection of this process waits for room in a queue, of which no event tells: sleeps are to be short. */
static inline bool somebody_queues(void)
{
	return unlikely(atomic_load_explicit(&gn_world.queued, memory_order_relaxed));
}

static int wait_rings(struct gn_sock *so, struct epoll_event *events, int max, uint64_t deadline_ns, const sigset_t *mask)
{
	struct gn_epset *set = so->set;
	bool quiet = deadline_ns && gn_epset_is_quiet(set); /* then the kernel is asked by the sleep itself */
	uint64_t now;
	int n;

	for (;; quiet = false) {
		if (unlikely(set->outer)) /* what was ready may have been read since: it would wake us for ever */
			gn_epset_sync(set);
		now = gn_now_ns();
		n = quiet && now < deadline_ns ? 0 : look(set, events, max, now);
		if (n == 0 && now < deadline_ns)
			n = spin(set, events, max, deadline_ns);
		if (n > 0)
			set->streak++;
		if (n == 0 && now < deadline_ns) {
			set->streak = 0;
			n = park(so, events, max, deadline_ns, mask);
		}
		set->was_full = n == max;
		if (n || now >= deadline_ns || somebody_queues() || unlikely(set->moved))
			return n;
	}
}

static int wait_kernel(struct gn_sock *so, struct epoll_event *events, int max, uint64_t deadline_ns, const sigset_t *mask)
{
	struct gn_epset *set = so->set;
	bool asleep;
	int n = 0;

	do {
		if (unlikely(set->outer))
			gn_epset_sync(set);
		atomic_fetch_add(&set->sleeping, 1);
		asleep = !set->rings; /* looked at again: whoever adds the first one looks at `sleeping` after it */
		if (likely(asleep))
			n = kernel_wait(so, events, max, deadline_ns, mask);
		atomic_fetch_sub(&set->sleeping, 1);
		if (unlikely(set->shared))
			gn_epset_leave(set);
		if (n <= 0)
			return n;
		gn_epset_filter(set, events, &n);
	} while (n == 0 && !set->rings && !somebody_queues());
	return n;
}

static uint64_t sooner(uint64_t deadline_ns, uint64_t nap_ns)
{
	return nap_ns == UINT64_MAX ? deadline_ns : GN_MIN(deadline_ns, gn_now_ns() + nap_ns);
}

int gn_epoll_pwait(struct gn_sock *so, int fd, struct epoll_event *events, int max, const struct timespec *timeout,
		   const sigset_t *mask)
{
	struct gn_epset *set = so->set;
	uint64_t deadline = gn_deadline_of(timeout), until;
	struct epoll_event one;
	bool moved;
	int n;

	if (max <= 0 || max > (int)(INT32_MAX / sizeof *events) || !gn_timeout_is_valid(timeout))
		return -EINVAL;
	if (gn_is_nowhere(events, 1) && !gn_is_beyond(events)) { /* the kernel finds out when there is something to tell */
		n = gn_epoll_pwait(so, fd, &one, 1, timeout, mask);
		return n > 0 ? -EFAULT : n;
	}
	if (gn_is_nowhere(events, 1))
		return -EFAULT;
	if (unlikely(set->shared))
		gn_epset_own_bells(set);
	do {
		if (somebody_queues())
			gn_queue_look();
		until = somebody_queues() ? gn_queue_nap(deadline) : deadline;
		if (unlikely(set->inner_count))
			until = sooner(until, gn_inner_sync(set));
		n = set->rings ? wait_rings(so, events, max, until, mask) : wait_kernel(so, events, max, until, mask);
		moved = set->moved;
		if (unlikely(moved) && n == 0)
			n = gn_watches_follow(set);
	} while (n == 0 && (moved || (deadline && gn_now_ns() < deadline)));
	if (unlikely(atomic_load(&set->sleeping)) && set->rings)
		gn_epset_arm_others(set);
	if (unlikely(set->outer))
		gn_epset_sync(set);
	return n;
}
