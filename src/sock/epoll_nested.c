/* SPDX-License-Identifier: MIT */
/*
 * Sets that are waited for themselves: in another set, or by poll and select.
 *
 * The kernel shows such an outer set readable when its bells are. So all its watches stay armed, and an eventfd among the bells is readable
 * just while a watch has something that a wait would report. The program may read a socket without asking the set, so before the kernel
 * is asked about an outer set, gn_epset_sync() makes that true again.
 */
#include "base/fd.h"
#include "sock/epset.h"

int gn_ready_watch(struct gn_epset *set, int op)
{
	struct epoll_event ev = {.events = EPOLLIN};

	return gn_sys_epoll_ctl(set->bells, op, set->ready, &ev);
}

/* set->lock is held. */
static int ready_open(struct gn_epset *set)
{
	int fd;

	if (set->ready >= 0)
		return 0;
	if (gn_bells_open(set) < 0)
		return -ENOMEM;
	fd = gn_sys_eventfd(0, O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return fd;
	set->ready = gn_fd_raise(fd);
	gn_hide(set->ready);
	return gn_ready_watch(set, EPOLL_CTL_ADD);
}

/* How long who waits for room in a ring, by an outer set, may rely on a bell: a relative may take it, or none comes. */
static uint64_t room_nap(const struct gn_watch *w)
{
	if (!(w->events & EPOLLOUT) || w->off)
		return UINT64_MAX;
	if (unlikely(gn_room_is_silent(w->so)) && !gn_ready(w->so, w->fd, POLLOUT, false))
		return GN_EPOLL_NAP_NS;
	return atomic_load(&w->so->ep->holders) > 1 ? GN_ROOM_NS : UINT64_MAX;
}

uint64_t gn_epset_sync(struct gn_epset *set)
{
	struct gn_watch *heads[] = {&set->hot, &set->cold};
	uint64_t nap_ns = UINT64_MAX;
	bool any = false;
	uint64_t count = 1;

	gn_epset_own_bells(set);
	gn_lock(&set->lock);
	if (!set->outer && set->emulated)
		gn_watches_outer(set);
	set->outer = true;
	if (set->bells >= 0 && ready_open(set) == 0) { /* watches that were deleted ring too */
		gn_bells_place(set, false);
		if (gn_bells_harvest(set)) /* a bell that is asked for otherwise, as harvesting may do, rings at once if it can */
			gn_bells_harvest(set);
		for (size_t i = 0; i < ARRAY_SIZE(heads); i++)
			for (struct gn_watch *w = heads[i]->next; w != heads[i]; w = w->next) {
				gn_watch_arm(w, GN_ARM_ALWAYS);
				any |= gn_watch_peek(w) != 0;
				nap_ns = GN_MIN(nap_ns, room_nap(w));
			}
		if (any)
			gn_sys_write(set->ready, &count, sizeof count);
		else
			gn_sys_read(set->ready, &count, sizeof count);
	}
	gn_unlock(&set->lock);
	gn_heard_tell(set);
	return nap_ns;
}

void gn_epset_wake(struct gn_epset *set)
{
	uint64_t count = 1;

	if (ready_open(set) == 0)
		gn_sys_write(set->ready, &count, sizeof count);
}

void gn_epset_poke(struct gn_epset *set)
{
	gn_lock(&set->lock);
	gn_epset_wake(set);
	gn_unlock(&set->lock);
}

/* set->lock is held. */
static void inner_forget(struct gn_epset *set, int fd)
{
	for (int i = 0; i < set->inner_count; i++)
		if (set->inner[i] == fd) {
			set->inner[i] = set->inner[--set->inner_count];
			return;
		}
}

void gn_epset_inner(struct gn_epset *set, int fd, bool added)
{
	struct gn_sock *in = gn_get_kind(fd, GN_KIND_EPOLL);

	if (!in)
		return;
	if (added)
		gn_epset_sync(in->set);
	gn_lock(&set->lock);
	inner_forget(set, fd);
	if (added && set->inner_count < GN_INNER)
		set->inner[set->inner_count++] = fd;
	gn_unlock(&set->lock);
	gn_put(in);
}

/* No deeper than the kernel lets sets be nested: a number may have become another set's. */
static uint64_t inner_sync(struct gn_epset *set, int depth)
{
	uint64_t nap_ns = UINT64_MAX;

	for (int i = 0; i < set->inner_count; i++) {
		struct gn_sock *in = gn_get_kind(set->inner[i], GN_KIND_EPOLL);

		if (!in)
			continue;
		if (in->set->inner_count && depth < GN_NESTED)
			nap_ns = GN_MIN(nap_ns, inner_sync(in->set, depth + 1));
		nap_ns = GN_MIN(nap_ns, gn_epset_sync(in->set));
		gn_put(in);
	}
	return nap_ns;
}

uint64_t gn_inner_sync(struct gn_epset *set)
{
	return inner_sync(set, 1);
}

uint64_t gn_set_sync(int fd)
{
	struct gn_sock *so = gn_get_kind(fd, GN_KIND_EPOLL);
	uint64_t nap_ns = UINT64_MAX, own_ns;

	if (!so)
		return nap_ns;
	if (so->set->inner_count)
		nap_ns = gn_inner_sync(so->set);
	own_ns = gn_epset_sync(so->set);
	if (unlikely(so->set->moved)) {
		gn_watches_follow(so->set);
		own_ns = gn_epset_sync(so->set);
	}
	gn_put(so);
	return GN_MIN(nap_ns, own_ns);
}
