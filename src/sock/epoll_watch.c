/* SPDX-License-Identifier: MIT */
/*
 * Watches, and what becomes of them when their endpoints change lanes, listen, shut down, move, are renumbered or close. Each goes from the
 * program's set to the bells and back here, in all sets of this process at once. Theory, shape and locks: epset.h.
 *
 * Invariants: as long as gn_watch.so has descriptors, its list so->watches has each watch of it just once, and these alone. The kernel has a
 * watch in at most one of the two sets, under gn_watch.number in the program's and gn_watch.fd in the bells.
 */
#include <sys/ioctl.h>

#include "sock/epset.h"

uint32_t gn_kernel_events(const struct gn_sock *so, uint32_t events)
{
	bool asks = gn_flag(so->ep, GN_EP_EMULATED) && (events & EPOLLIN) && !(events & EPOLLEXCLUSIVE);

	return asks ? events | EPOLLPRI : events;
}

int gn_bells_ctl(struct gn_watch *w, int op)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = (void *)(uintptr_t)w};

	if (unlikely(w->set->bells < 0)) /* a forked child's, which has none of its own yet */
		return 0;
	w->kernel_out = !gn_tx_shared(w->so);
	if (w->kernel_out)
		ev.events |= w->events & EPOLLOUT;
	return gn_sys_epoll_ctl(w->set->bells, op, w->fd, &ev);
}

void gn_watch_warm(struct gn_watch *w)
{
	if (!w->cold)
		return;
	w->cold = false;
	gn_watch_move(w, &w->set->hot);
}

/* Edge-triggered, on its way out of the kernel's set: is there anything that the kernel had not told yet? What lies unread came since: a
 * connection that is waited for by edges is promoted when it has been read empty (gn_watches_wait). */
static bool has_untold(const struct gn_watch *w)
{
	struct pollfd p = {w->fd, POLLIN | POLLRDHUP, 0};

	return (int32_t)(atomic_load(&w->set->swept) - w->since) <= 0 || gn_sys_poll(&p, 1, 0) != 0;
}

/* Another thread made the switch while somebody sleeps on the set: that one has not asked this ring for a bell. set->lock is held. */
static void arm_for_sleepers(struct gn_watch *w)
{
	struct gn_epset *set = w->set;

	if ((set->outer || atomic_load(&set->sleeping)) && !gn_watch_arm(w, GN_ARM_ALWAYS))
		gn_epset_wake(set);
}

void gn_watch_to_ring(struct gn_watch *w)
{
	struct gn_epset *set = w->set;

	if (unlikely(w->moved))
		return;
	gn_bells_open(set); /* without them waits are short (park) */
	gn_epset_ctl(set, EPOLL_CTL_DEL, w->fd, 0, 0);
	w->ring = true;
	w->cold = false;
	w->hint = true;
	w->fresh = !(w->events & EPOLLET) || has_untold(w);
	w->out_known = !w->fresh;
	w->quiet = 0;
	gn_watch_move(w, &set->hot);
	set->rings++;
	gn_bells_ctl(w, EPOLL_CTL_ADD);
	arm_for_sleepers(w);
}

/* The kernel shows of it what it should not, or the other way: epoll_kernel.c looks at its events. */
static bool is_mended(const struct gn_sock *so)
{
	return gn_flag(so->ep, GN_EP_EMULATED) || so->tx.dir;
}

static void watch_to_kernel(struct gn_watch *w)
{
	struct gn_epset *set = w->set;

	if (w->ring) {
		gn_bells_ctl(w, EPOLL_CTL_DEL);
		w->ring = false;
		if (w->deleted)
			return;
		gn_watch_move(w, &set->kernel);
		set->rings--;
	}
	if (w->deleted)
		return;
	set->emulated += is_mended(w->so);
	gn_epset_ctl(set, EPOLL_CTL_ADD, w->fd, w->off ? 0 : gn_kernel_events(w->so, w->events), w->data.u64);
}

static void for_each_watch(struct gn_sock *so, void (*f)(struct gn_watch *))
{
	struct gn_watch *w;

	if (!so->watches)
		return;
	gn_lock(&gn_watch_lists);
	for (w = so->watches; w; w = w->of_sock) {
		gn_lock(&w->set->lock);
		f(w);
		gn_unlock(&w->set->lock);
	}
	gn_unlock(&gn_watch_lists);
}

static void if_kernel_to_ring(struct gn_watch *w)
{
	if (!w->ring && !w->deleted)
		gn_watch_to_ring(w);
	else if (w->ring && !(w->events & EPOLLET)) /* else that would be told anew what is there: see gn_bells_harvest() */
		gn_bells_ctl(w, EPOLL_CTL_MOD);
	if (w->ring && !w->deleted) /* room is no longer the kernel's news */
		arm_for_sleepers(w);
}

bool gn_watches_wait(struct gn_sock *so, int fd)
{
	struct pollfd p = {fd, POLLIN, 0};
	struct gn_watch *w;
	bool edge = false;

	gn_lock(&gn_watch_lists);
	for (w = so->watches; w && !edge; w = w->of_sock)
		edge = (w->events & EPOLLET) && !w->ring && !w->deleted;
	gn_unlock(&gn_watch_lists);
	return edge && gn_sys_poll(&p, 1, 0) == 1;
}

void gn_watches_to_ring(struct gn_sock *so)
{
	for_each_watch(so, if_kernel_to_ring);
}

void gn_watches_to_kernel(struct gn_sock *so)
{
	for_each_watch(so, watch_to_kernel);
}

/* What TCP shows now, AF_UNIX does not, or does too early: we look. */
static bool shows_other(const struct gn_sock *so)
{
	const struct gn_ep *ep = so->ep;

	if (gn_low_water(so) > 1)
		return true;
	return gn_flag(ep, GN_EP_EMULATED) && atomic_load(&ep->rx.shut) && !gn_flag(ep, GN_EP_SHUT_CARRIER);
}

static void watch_poke(struct gn_watch *w)
{
	/* What relatives have in the same set nobody can move but they. */
	if (!w->ring && !w->deleted && (shows_other(w->so) || gn_flag(w->so->ep, GN_EP_DEAD)) && !(w->set->shared && !gn_ep_is_alone(w->so->ep)))
		gn_watch_to_ring(w);
	w->fresh = w->hint = true;
	if (w->set->outer || atomic_load(&w->set->sleeping))
		gn_epset_wake(w->set);
}

void gn_watches_poke(struct gn_sock *so)
{
	for_each_watch(so, watch_poke);
}

static void watch_leave(struct gn_watch *w)
{
	if (!w->ring && !w->deleted && !w->moved)
		gn_epset_ctl(w->set, EPOLL_CTL_DEL, w->fd, 0, 0);
	if (!w->ring)
		return;
	gn_bells_ctl(w, EPOLL_CTL_DEL);
	w->ring = false;
	if (w->deleted)
		return;
	gn_watch_move(w, &w->set->kernel);
	w->set->rings--;
}

void gn_watches_leave(struct gn_sock *so)
{
	for_each_watch(so, watch_leave);
}

void gn_watches_pass(struct gn_sock *from, struct gn_sock *to)
{
	struct gn_watch *w;

	gn_lock(&gn_watch_lists);
	for (w = from->watches; w; w = w->of_sock) {
		gn_lock(&w->set->lock);
		w->so = to;
		gn_unlock(&w->set->lock);
	}
	to->watches = from->watches;
	from->watches = NULL;
	gn_unlock(&gn_watch_lists);
}

static void private_add(struct gn_watch *w)
{
	if (!w->deleted)
		gn_epset_ctl(w->set, EPOLL_CTL_ADD, w->so->private_fd, w->events, w->data.u64);
}

void gn_watches_private(struct gn_sock *so, int fd)
{
	(void)fd;
	for_each_watch(so, private_add);
}

static void private_del(struct gn_watch *w)
{
	if (!w->deleted)
		gn_epset_ctl(w->set, EPOLL_CTL_DEL, w->so->private_fd, 0, 0);
}

void gn_watches_private_gone(struct gn_sock *so)
{
	for_each_watch(so, private_del);
}

/* What an outer set is shown of it is to be what TCP would show; an edge that was told stays told. One that was not is none at an urgent mark. */
static bool is_mended_outside(const struct gn_watch *w)
{
	bool told = (int32_t)(atomic_load(&w->set->swept) - w->since) > 0;

	return gn_flag(w->so->ep, GN_EP_EMULATED) && (!(w->events & EPOLLET) || (!told && gn_is_at_mark(w->fd)));
}

void gn_watch_added(struct gn_watch *w)
{
	struct gn_sock *so = w->so;

	w->set->emulated += is_mended(so);
	if (so->private_fd >= 0)
		private_add(w);
	if (gn_on_ring(so) || shows_other(so) || (w->set->outer && is_mended_outside(w)))
		gn_watch_to_ring(w);
}

void gn_watches_outer(struct gn_epset *set)
{
	struct gn_watch *w, *next;

	for (w = set->kernel.next; w != &set->kernel; w = next) {
		next = w->next;
		if (is_mended_outside(w))
			gn_watch_to_ring(w);
	}
}

static struct gn_spare spare;

struct gn_watch *gn_watch_new(void)
{
	return gn_spare_take(&spare, sizeof(struct gn_watch));
}

void gn_watch_give(struct gn_watch *w)
{
	gn_spare_give(&spare, w);
}

/* The list of its endpoint is the caller's to mend. */
static void watch_free(struct gn_watch *w)
{
	if (w->ring && !w->deleted)
		w->set->rings--;
	gn_watch_list_del(w);
	gn_watch_give(w);
}

void gn_watch_remove(struct gn_watch *w)
{
	struct gn_watch **at = &w->so->watches;

	while (*at != w)
		at = &(*at)->of_sock;
	*at = w->of_sock;
	watch_free(w);
}

void gn_watches_drop(struct gn_sock *so)
{
	struct gn_watch *w, *next;

	if (!so->watches)
		return;
	gn_lock(&gn_watch_lists);
	for (w = so->watches; w; w = next) {
		struct gn_epset *set = w->set;

		next = w->of_sock;
		gn_lock(&set->lock);
		if (w->ring && gn_bells_ctl(w, EPOLL_CTL_DEL) < 0 && set->shared)
			set->haunted = true; /* closed behind our back, and a relative holds it open */
		if (w->ring && atomic_load(&set->sleeping))
			gn_epset_wake(set); /* a bell that was meant for its other rings too may have gone with this one */
		watch_free(w);
		gn_unlock(&set->lock);
	}
	so->watches = NULL;
	gn_unlock(&gn_watch_lists);
}

/* Of a stream each byte that comes counts; of packets and datagrams nothing that comes can be told, but to who has shut AF_UNIX none do. */
uint64_t gn_watch_shows(const struct gn_watch *w)
{
	const struct gn_ep *ep = w->so->ep;
	struct pollfd p = {w->fd, POLLIN | POLLOUT | POLLRDHUP, 0};
	int there = 0;

	if (ep->type != SOCK_STREAM && (ep->domain != AF_UNIX || !atomic_load(&ep->rx.shut)))
		return 0;
	if (gn_sys_poll(&p, 1, 0) < 0 || (ep->type == SOCK_STREAM && gn_sys_ioctl(w->fd, FIONREAD, &there) < 0))
		return 0;
	return (uint64_t)(uint16_t)p.revents << 48 | 1ull << 47 | ((atomic_load(&ep->rx.kernel_bytes) + (uint64_t)there) & ((1ull << 47) - 1));
}

/* To put an edge-triggered watch among the bells once more would tell what is there as if it had come just now. Known before, unless the bells have
 * something to tell that nobody has heard. */
static uint64_t echo_of(const struct gn_watch *w)
{
	struct pollfd bells = {w->set->bells, POLLIN, 0};
	uint64_t now = w->events & EPOLLET ? gn_watch_shows(w) : 0;

	return now == w->echo || gn_sys_poll(&bells, 1, 0) == 0 ? now : 0;
}

/* Its number is to be another one's. Among the bells, where a watch of that number may be already: then bells are told to both (watch_told). */
static void watch_renumber(struct gn_watch *w, int fd, bool open)
{
	w->echo = w->ring && open ? echo_of(w) : 0;
	if (w->ring && open)
		gn_bells_ctl(w, EPOLL_CTL_DEL);
	else if (w->ring)
		w->set->haunted = true; /* nobody can take it out of the bells */
	w->fd = fd;
	w->moved = fd != w->number;
	w->ring = w->ring && !w->deleted;
	if (w->ring)
		gn_bells_ctl(w, EPOLL_CTL_ADD);
}

void gn_watches_renumber(struct gn_sock *so, int from, int to)
{
	bool in_kernel = false;

	gn_lock(&gn_watch_lists);
	for (struct gn_watch *w = so->watches; w; w = w->of_sock) {
		if (w->fd != from && (from >= 0 || atomic_load(gn_slot(w->fd)) == so))
			continue;
		gn_lock(&w->set->lock);
		watch_renumber(w, to, from >= 0);
		in_kernel |= !w->ring && !w->deleted;
		gn_unlock(&w->set->lock);
	}
	gn_unlock(&gn_watch_lists);
	if (in_kernel) /* whose set shows it by the old number, and cannot be told otherwise */
		gn_pin(so, to, GN_WHY_CALL);
}

void gn_watches_return(struct gn_sock *so, int fd)
{
	gn_lock(&gn_watch_lists);
	for (struct gn_watch *w = so->watches; w; w = w->of_sock) {
		if (!w->moved || w->number != fd)
			continue;
		gn_lock(&w->set->lock);
		watch_renumber(w, fd, true);
		gn_unlock(&w->set->lock);
	}
	gn_unlock(&gn_watch_lists);
}

/* A watched endpoint that has moved, held. */
static struct gn_sock *moved_one(struct gn_epset *set, int *fd)
{
	struct gn_watch *heads[] = {&set->hot, &set->cold};
	struct gn_sock *found = NULL;

	gn_lock(&gn_watch_lists); /* its watch goes before it does */
	gn_lock(&set->lock);
	set->moved = false;
	for (size_t i = 0; i < ARRAY_SIZE(heads); i++)
		for (struct gn_watch *w = heads[i]->next; w != heads[i] && !found; w = w->next)
			if (!w->so->dgram && gn_has_moved(w->so)) {
				found = w->so;
				atomic_fetch_add(&found->refs, 1);
				*fd = w->fd;
			}
	gn_unlock(&set->lock);
	gn_unlock(&gn_watch_lists);
	return found;
}

int gn_watches_follow(struct gn_epset *set)
{
	struct gn_sock *so;
	int fd = -1, rc = 0;

	while (rc == 0 && (so = moved_one(set, &fd))) {
		rc = gn_follow(so, fd);
		gn_put(so);
	}
	return rc;
}
