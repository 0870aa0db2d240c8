/* SPDX-License-Identifier: MIT */
/*
 * What the rings of a set have to report: looking at the hot watches, asking their peers for bells, hearing them. epoll.c calls it for a
 * wait, epoll_nested.c for who waits for the set itself.
 *
 * Invariants: a level is reported as long as it lasts, an edge once: what was told is noted (gn_watch.seen, told, full) from before the look
 * that tells it, so that what comes in between is news again. A watch is cold only if it was armed and had nothing after that.
 */
#include <string.h>

#include "sock/epset.h"

#define QUIET_SCANS 200       /* looks without news before a watch is armed and left to its bell */
#define PEER_ENDED (1u << 16) /* in gn_watch.told, beside epoll's own bits */
#define PEER_DEAF (1u << 17)
#define PEER_CLOSED (1u << 18)
#define PEER_STEPS (PEER_ENDED | PEER_DEAF | PEER_CLOSED)

/* How far the connection has ended: each step is news, for who waits for EPOLLIN alone too, and where the bits stay the same. */
static uint32_t end_bits(const struct gn_watch *w)
{
	const struct gn_sock *so = w->so;
	uint32_t bits = 0, deaf;

	if (so->dgram || !so->rx.dir)
		return 0;
	if (atomic_load(&so->rx.dir->fin))
		bits = EPOLLRDHUP | PEER_ENDED;
	else if (atomic_load(&so->peer_gone))
		bits = EPOLLRDHUP;
	deaf = gn_flag(so->ep, GN_EP_EMULATED) ? 0 : atomic_load(&so->tx.dir->deaf); /* TCP does not tell it */
	if (deaf)
		bits |= deaf >= GN_DEAF_CLOSED ? PEER_DEAF | PEER_CLOSED : PEER_DEAF;
	return bits;
}

/* Is there a state that the program was not told yet? */
static bool has_news(const struct gn_watch *w, uint32_t now, uint32_t head)
{
	return now && (w->fresh || ((now | end_bits(w)) & ~w->told & (EPOLLRDHUP | EPOLLHUP | EPOLLERR | PEER_STEPS)) ||
		       ((now & EPOLLIN) && head != w->seen) ||
		       ((now & EPOLLOUT) && atomic_load_explicit(&w->so->tx_full, memory_order_relaxed) != w->full));
}

static uint32_t ring_head(const struct gn_watch *w)
{
	if (unlikely(w->so->dgram))
		return gn_dgram_news(w->so);
	return w->so->rx.dir ? atomic_load_explicit(&w->so->rx.dir->head, memory_order_acquire) : 0;
}

uint32_t gn_watch_peek(struct gn_watch *w)
{
	uint32_t want = w->events & ~GN_EPOLL_FLAGS;
	bool whole = gn_all_in_ring(w->so) && (gn_tx_shared(w->so) || !(want & EPOLLOUT));
	uint32_t now;

	if (w->off)
		return 0;
	if (unlikely(!whole && !w->so->dgram && gn_has_moved(w->so))) {
		w->set->moved = true;
		return 0;
	}
	now = (uint16_t)gn_ready(w->so, w->fd, (short)want, w->hint && !whole);
	if (!now && !whole)
		w->hint = false;
	return !(w->events & EPOLLET) || has_news(w, now, ring_head(w)) ? now : 0;
}

static uint32_t watch_ready(struct gn_watch *w)
{
	/* These first: what comes after them is news again. */
	uint32_t head = ring_head(w), end = end_bits(w), full = atomic_load_explicit(&w->so->tx_full, memory_order_acquire);
	uint32_t now = gn_watch_peek(w);

	if (!now || !(w->events & EPOLLET))
		return now;
	if (now & EPOLLOUT)
		w->full = full;
	w->fresh = false;
	w->seen = head;
	w->told = now | end;
	return now;
}

/* A token would spare the bells of other rings for the sake of one that a relative may take out. */
bool gn_watch_arm(struct gn_watch *w, uint32_t token)
{
	bool relatives = atomic_load(&w->so->ep->holders) > 1;

	if (unlikely(relatives) && !gn_flag(w->so->ep, GN_EP_WATCHED))
		atomic_fetch_or(&w->so->ep->flags, GN_EP_WATCHED);
	return gn_arm(w->so, w->fd, (short)(w->events & ~GN_EPOLL_FLAGS), relatives ? GN_ARM_ALWAYS : token);
}

static void watch_cool(struct gn_epset *set, struct gn_watch *w)
{
	w->quiet = 0;
	if ((w->events & EPOLLOUT) && atomic_load(&w->so->ep->holders) > 1) /* a relative may take out the bell that tells of room */
		return;
	gn_watch_arm(w, GN_ARM_ALWAYS);
	if ((w->events & EPOLLOUT) && gn_room_is_silent(w->so) && !gn_ready(w->so, w->fd, POLLOUT, false))
		return;
	if (gn_watch_peek(w)) /* it came between the look and the flag: no bell tells of it */
		return;
	w->cold = true;
	gn_watch_move(w, &set->cold);
}

/* What the hot rings have. Reported watches go to the end, so that a small `max` serves all in turn. set->lock is held. */
static int scan(struct gn_epset *set, struct epoll_event *events, int max)
{
	struct gn_watch *w = set->hot.next, *last = set->hot.prev, *next;
	int n = 0;

	while (w != &set->hot && n < max) {
		uint32_t now = watch_ready(w);
		bool end = w == last;

		next = w->next;
		if (now) {
			events[n++] = (struct epoll_event){.events = now, .data = w->data};
			w->quiet = 0;
			w->off = w->events & EPOLLONESHOT;
			gn_watch_move(w, &set->hot);
		} else if (++w->quiet > QUIET_SCANS && set->rings > 4 && !w->so->eventless) {
			watch_cool(set, w);
		}
		if (end)
			break;
		w = next;
	}
	return n;
}

int gn_epset_scan(struct gn_epset *set, struct epoll_event *events, int max)
{
	int n;

	gn_lock(&set->lock);
	n = scan(set, events, max);
	gn_unlock(&set->lock);
	return n;
}

bool gn_epset_is_quiet(struct gn_epset *set)
{
	bool quiet = true;

	gn_lock(&set->lock);
	for (struct gn_watch *w = set->hot.next; w != &set->hot && quiet; w = w->next)
		quiet = !gn_watch_peek(w);
	gn_unlock(&set->lock);
	return quiet;
}

enum gn_spin_how gn_epset_spin_now(struct gn_epset *set)
{
	enum gn_spin_how how = GN_SPIN_NOT;
	struct gn_watch *w;
	int tries = 0;

	if (set->spin_skip) {
		set->spin_skip--;
		return GN_SPIN_NOT;
	}
	gn_lock(&set->lock);
	for (w = set->hot.next; w != &set->hot && tries++ < 8 && !how; w = w->next)
		if (w->so->dgram || gn_all_in_ring(w->so))
			how = gn_spin_now(w->so, w->so->rx.dir);
	gn_unlock(&set->lock);
	return how;
}

bool gn_epset_arm(struct gn_epset *set, uint32_t token, uint64_t *nap_ns)
{
	struct gn_watch *w;
	bool quiet = true, silent;

	gn_lock(&set->lock);
	for (w = set->hot.next; w != &set->hot; w = w->next) {
		gn_cpu_publish(w->so);
		silent = (w->events & EPOLLOUT) && unlikely(gn_room_is_silent(w->so));
		if (!w->off && !gn_watch_arm(w, token) && !(w->events & EPOLLET))
			quiet = false;
		if ((w->events & EPOLLOUT) && unlikely(!w->kernel_out && !gn_tx_shared(w->so))) /* a relative has led it back */
			gn_bells_ctl(w, EPOLL_CTL_MOD);
		if ((w->events & EPOLLOUT) && unlikely(!gn_ready(w->so, w->fd, POLLOUT, false)))
			*nap_ns = silent ? GN_EPOLL_NAP_NS : GN_MIN(*nap_ns, GN_ROOM_NS);
	}
	gn_unlock(&set->lock);
	return quiet;
}

void gn_epset_disarm(struct gn_epset *set, uint32_t token)
{
	struct gn_watch *w;

	if (token == GN_ARM_ALWAYS)
		return;
	gn_lock(&set->lock);
	for (w = set->hot.next; w != &set->hot; w = w->next)
		gn_disarm(w->so, token);
	gn_unlock(&set->lock);
}

void gn_epset_arm_others(struct gn_epset *set)
{
	bool news = false;

	gn_lock(&set->lock);
	for (struct gn_watch *w = set->hot.next; w != &set->hot; w = w->next)
		if (!w->off && !gn_watch_arm(w, GN_ARM_ALWAYS))
			news = news || gn_watch_peek(w);
	if (news)
		gn_epset_wake(set);
	gn_unlock(&set->lock);
}

/* A connection of TCP that is over, which was told: whatever the carrier still says of it, TCP is silent. */
static bool is_silent(const struct gn_watch *w)
{
	return gn_flag(w->so->ep, GN_EP_EMULATED) && gn_flag(w->so->ep, GN_EP_DEAD) && (w->told & EPOLLHUP);
}

/* What comes by the kernel is news, but for the first word that it is writable where that was known. */
static void harvest_one(struct gn_watch *w, uint32_t events)
{
	uint64_t echo = w->echo;
	bool known = w->out_known && atomic_load_explicit(&w->so->tx_full, memory_order_relaxed) == w->full;

	w->echo = 0;
	if (unlikely(echo) && echo == gn_watch_shows(w))
		return;
	if (w->so->dgram) /* bells come among datagrams; what is in rings counts as news by itself */
		w->fresh = w->fresh || (events & ~(uint32_t)(EPOLLIN | EPOLLRDNORM | EPOLLOUT | EPOLLWRNORM)) || gn_dgram_check(w->so, w->fd);
	else if (!gn_all_in_ring(w->so) && !is_silent(w) && (events & ~(uint32_t)EPOLLOUT)) /* the last bell of a peer that goes back is none */
		w->fresh = w->fresh || (events & ~(uint32_t)(EPOLLIN | EPOLLOUT)) || !gn_past_switch(w->so) || !gn_bells_alone(w->so, w->fd);
	if (!(events & EPOLLOUT))
		return;
	w->out_known = false;
	if (gn_tx_shared(w->so))
		gn_bells_ctl(w, EPOLL_CTL_MOD);
	else if (!known)
		w->fresh = true;
}

/* Is it there still? */
static bool is_alive(const struct gn_epset *set, const struct gn_watch *w)
{
	const struct gn_watch *heads[] = {&set->hot, &set->cold, &set->deleted, &set->kernel};

	for (size_t i = 0; i < ARRAY_SIZE(heads); i++)
		for (const struct gn_watch *at = heads[i]->next; at != heads[i]; at = at->next)
			if (at == w)
				return true;
	return false;
}

bool gn_bells_harvest(struct gn_epset *set)
{
	struct epoll_event ev[GN_HEARD];
	bool news = false;
	int n, most;

	do {
		most = GN_HEARD - set->heard_count;
		n = most ? gn_sys_epoll_pwait(set->bells, ev, most, 0, NULL) : 0;
		news |= n > 0;
		for (int i = 0; i < n; i++) {
			struct gn_watch *w = ev[i].data.ptr;

			if (!w) { /* set->ready */
				uint64_t count;

				if (!set->outer)
					gn_sys_read(set->ready, &count, sizeof count);
				continue;
			}
			if ((unlikely(set->haunted) && !is_alive(set, w)) || w->deleted)
				continue;
			w->hint = true;
			w->quiet = 0;
			harvest_one(w, ev[i].events);
			if ((gn_look_at_peer(w->so, w->fd, ev[i].events & ~(uint32_t)EPOLLIN) || w->moved) &&
			    unlikely(w->so->watches != w || w->of_sock))
				set->heard[set->heard_count++] = w->so;
			if (unlikely(!gn_tx_shared(w->so)) && !w->kernel_out && (w->events & EPOLLOUT)) /* gone back: room is the kernel's news now */
				gn_bells_ctl(w, EPOLL_CTL_MOD);
			gn_watch_warm(w);
		}
	} while (most && n == most);
	return news;
}

/* One watch of an endpoint whose bells are gone. Its set's lock is held. */
static void watch_told(struct gn_watch *w, const struct gn_epset *except)
{
	if (!w->ring || w->deleted)
		return;
	w->hint = true;
	w->quiet = 0;
	gn_watch_warm(w);
	if (w->set != except && (w->set->outer || atomic_load(&w->set->sleeping)))
		gn_epset_wake(w->set);
}

void gn_watches_told(struct gn_sock *so, const struct gn_epset *except)
{
	struct gn_watch *w;

	gn_lock(&gn_watch_lists);
	for (w = so->watches; w; w = w->of_sock) {
		gn_lock(&w->set->lock);
		watch_told(w, except);
		gn_unlock(&w->set->lock);
	}
	gn_unlock(&gn_watch_lists);
}

void gn_heard_tell(struct gn_epset *set)
{
	struct gn_sock *heard[GN_HEARD];
	int n;

	gn_lock(&set->lock);
	n = set->heard_count;
	memcpy(heard, set->heard, (size_t)n * sizeof *heard);
	set->heard_count = 0;
	gn_unlock(&set->lock);
	/* One that was closed meanwhile has no watches, or those of its successor: its memory stays (table.c). */
	for (int i = 0; i < n; i++)
		gn_watches_told(heard[i], set);
}
