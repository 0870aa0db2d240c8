/* SPDX-License-Identifier: MIT */
/*
 * What the kernel's set returned, put right before the program sees it: our own bells are taken out, and what AF_UNIX says of an emulated TCP
 * connection becomes what TCP says.
 *
 * Invariants: an event that is no watch's of ours passes as it is. Which watch an event is of is known by the program's 64 bits alone, and
 * exact only where they are unique.
 */
#include "sock/epset.h"

/* AF_UNIX hangs up when the peer closes, TCP only when both sides have shut down. */
static void hup_mend(struct gn_watch *w, struct epoll_event *ev)
{
	bool emulated = gn_flag(w->so->ep, GN_EP_EMULATED);

	if (!emulated && (ev->events & EPOLLERR))
		return;
	if (emulated && !gn_flag(w->so->ep, GN_EP_SHUT_CARRIER))
		gn_hung_up(w->so);
	gn_judge(w->so, w->fd);
	if (emulated && gn_flag(w->so->ep, GN_EP_DEAD))
		ev->events &= ~(uint32_t)EPOLLERR; /* a reset is told once */
	if (gn_flag(w->so->ep, GN_EP_LATE_URGENT))
		ev->events |= w->events & EPOLLPRI;
	if (atomic_load(&w->so->ep->so_error))
		ev->events |= EPOLLERR;
	else if (gn_hup_is_unix(w->so) && !(ev->events & EPOLLERR))
		ev->events &= ~(uint32_t)EPOLLHUP;
}

/* TCP that has told the end of a stream tells no edge when the peer closes, as AF_UNIX does: only a reset may follow. */
static bool end_is_old(struct gn_watch *w, uint32_t events)
{
	bool told = w->told & EPOLLRDHUP;

	if (!(w->events & EPOLLET) || !gn_flag(w->so->ep, GN_EP_EMULATED))
		return false;
	w->told |= events & EPOLLRDHUP;
	if (!told || (events & ~(uint32_t)(EPOLLIN | EPOLLRDHUP)))
		return false;
	for (const struct gn_watch *other = w->set->kernel.next; other != &w->set->kernel; other = other->next)
		if (other != w && other->data.u64 == w->data.u64)
			return false; /* it may be that one's */
	return true;
}

/* The end of a connection, whose watch is found by its data: rare enough. False: nothing is left to tell. */
static bool end_mend(struct gn_epset *set, struct epoll_event *ev)
{
	struct gn_watch *w;

	if (!(ev->events & ~(uint32_t)EPOLLHUP))
		return true;
	for (w = set->kernel.next; w != &set->kernel; w = w->next)
		if (w->data.u64 == ev->data.u64 && (gn_flag(w->so->ep, GN_EP_EMULATED) || w->so->queue || w->so->tx.dir))
			break;
	if (w == &set->kernel)
		return true;
	if (ev->events & EPOLLHUP)
		hup_mend(w, ev);
	return !end_is_old(w, ev->events);
}

/* TCP may have nothing to read at its urgent mark, where AF_UNIX has (urgent.c). False: nothing is left to tell; so that the kernel does not
 * go on telling it, the watch is looked at by us from then on. */
static bool urgent_mend(struct gn_epset *set, struct epoll_event *ev)
{
	struct gn_watch *w;

	for (w = set->kernel.next; w != &set->kernel; w = w->next)
		if (w->data.u64 == ev->data.u64 && gn_flag(w->so->ep, GN_EP_EMULATED))
			break;
	if (w == &set->kernel)
		return true;
	ev->events = (uint16_t)gn_urgent_mend(w->so, w->fd, (short)ev->events);
	if (!(w->events & EPOLLPRI))
		ev->events &= ~(uint32_t)EPOLLPRI;
	if (!ev->events)
		gn_watch_to_ring(w);
	return ev->events;
}

static bool is_ready_in_kernel(const struct gn_watch *w)
{
	struct pollfd p = {w->fd, (short)(w->events & ~GN_EPOLL_FLAGS), 0};

	return gn_sys_poll(&p, 1, 0) > 0;
}

/* A listener has a registration for each of its faces: both are off when one has fired. */
static void faces_off(struct gn_epset *set, const struct gn_watch *w)
{
	if (w->so->private_fd < 0)
		return;
	gn_epset_ctl(set, EPOLL_CTL_MOD, w->number, EPOLLONESHOT, w->data.u64);
	gn_epset_ctl(set, EPOLL_CTL_MOD, w->so->private_fd, EPOLLONESHOT, w->data.u64);
}

/* One has fired. Of several with the same data nobody can tell which: one that is ready. False: it was the other face of one that had. */
static bool oneshot_note(struct gn_epset *set, const struct epoll_event *ev)
{
	struct gn_watch *w, *fired = NULL;
	bool again = false;

	for (w = set->kernel.next; w != &set->kernel; w = w->next) {
		if (!(w->events & EPOLLONESHOT) || w->data.u64 != ev->data.u64)
			continue;
		again |= w->off && w->so->private_fd >= 0;
		if (w->off)
			continue;
		if (!fired || (!is_ready_in_kernel(fired) && is_ready_in_kernel(w)))
			fired = w;
	}
	if (!fired)
		return !again;
	fired->off = true;
	faces_off(set, fired);
	return true;
}

bool gn_epset_filter(struct gn_epset *set, struct epoll_event *events, int *n)
{
	bool rang = false;
	int kept = 0;

	gn_lock(&set->lock);
	for (int i = 0; i < *n; i++) {
		if (set->cookie && events[i].data.u64 == set->cookie) {
			gn_bells_open(set); /* a relative's, with whom this process has had none: waits that go apart from it need them */
			rang = true;
			continue;
		}
		if (unlikely(events[i].events & (EPOLLHUP | EPOLLRDHUP)) && set->emulated && !end_mend(set, &events[i]))
			continue;
		if (unlikely(events[i].events & EPOLLPRI) && set->emulated && !urgent_mend(set, &events[i])) {
			rang = true; /* look again */
			continue;
		}
		if (set->oneshots && !oneshot_note(set, &events[i]))
			continue;
		events[kept++] = events[i];
	}
	if (rang)
		set->strange = !gn_bells_harvest(set) && set->shared;
	gn_unlock(&set->lock);
	if (unlikely(rang && set->heard_count))
		gn_heard_tell(set);
	*n = kept;
	return rang;
}
