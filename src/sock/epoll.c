/* SPDX-License-Identifier: MIT */
/*
 * epoll over sets that mix endpoints on the ring, listeners with two faces, and everything else.
 *
 * Theory of operation. The program's set stays the kernel's own, with the program's own 64 bits, for every descriptor that is not on the
 * ring. When an endpoint is promoted its registration (watch) moves out of that set into a second, hidden one, the bells, which sits
 * in the first as one more descriptor under a value that the program does not use (the cookie). epoll_wait looks at the rings of the hot
 * watches in user space; watches that stay quiet are armed (their peer will ring a bell) and cost nothing until the bells say so. The
 * kernel's set is asked whenever the rings have nothing, and at least every LOOK_NS otherwise, so that no side starves the other.
 *
 * Threads/owner: gn_epset.lock guards a set's lists and is held for a scan; gn_watch_lists, taken first, guards the lists that hang off
 * endpoints. Sets that processes share by fork: epoll_fork.c.
 */
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "sock/epset.h"
#include "sock/inside.h"
#include "sock/sleep.h"

#define LOOK_NS (50 * GN_NS_PER_US)  /* how long rings alone may keep the kernel's descriptors waiting */
#define SPIN_LOOK_NS (10 * GN_NS_PER_US)
#define NAP_NS GN_NS_PER_MS          /* between looks for room that no bell will tell of */
#define STREAK 8                     /* calls in which the rings had something, before they may go first */
#define QUIET_SCANS 200              /* looks without news before a watch is armed and left to its bell */
#define COOKIE 0x676e65a5d0000000ull
#define PEER_ENDED (1u << 16) /* in gn_watch.told, beside epoll's own bits */
#define PEER_DEAF (1u << 17)
#define PEER_CLOSED (1u << 18)
#define PEER_STEPS (PEER_ENDED | PEER_DEAF | PEER_CLOSED)

static void list_init(struct gn_watch *head)
{
	head->next = head->prev = head;
}

static void list_add(struct gn_watch *head, struct gn_watch *w)
{
	w->prev = head->prev;
	w->next = head;
	head->prev->next = w;
	head->prev = w;
}

static void list_del(struct gn_watch *w)
{
	w->prev->next = w->next;
	w->next->prev = w->prev;
}

static struct gn_epset *set_new(int fd)
{
	struct gn_epset *set = calloc(1, sizeof *set);

	if (!set)
		return NULL;
	set->fd = fd;
	set->bells = set->ready = -1;
	list_init(&set->kernel);
	list_init(&set->hot);
	list_init(&set->cold);
	list_init(&set->deleted);
	return set;
}

/* The set behind a descriptor; held. */
static struct gn_sock *set_open(int fd)
{
	struct gn_sock *so, *stale = NULL;

	gn_table_clear(fd);
	gn_lock(&gn_world.big);
	so = gn_sock_new(GN_KIND_EPOLL);
	if (so) {
		so->set = set_new(fd);
		atomic_fetch_add(&so->refs, 1);
		if (!so->set || gn_table_set(fd, so, &stale) < 0) {
			atomic_fetch_sub(&so->refs, 2); /* leaks one record, when there is no memory */
			so = NULL;
		}
	}
	gn_unlock(&gn_world.big);
	gn_table_drop(stale);
	return so;
}

/* A set that came from elsewhere (exec, another process) is met at its first use. */
static struct gn_sock *set_get(int fd)
{
	struct gn_sock *so = gn_get_kind(fd, GN_KIND_EPOLL);

	return so ? so : set_open(fd);
}

void gn_epoll_opened(int fd)
{
	struct gn_sock *so = fd >= 0 && !gn_world.sandboxed ? set_open(fd) : NULL;

	if (so)
		gn_put(so);
}

static struct gn_watch *watch_find(const struct gn_sock *so, const struct gn_epset *set, int fd)
{
	struct gn_watch *w;

	for (w = so->watches; w; w = w->of_sock)
		if (w->set == set && w->fd == fd && !w->moved)
			return w;
	return NULL;
}

static int kernel_ctl(const struct gn_epset *set, int op, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event ev = {.events = events, .data.u64 = data};

	return gn_sys_epoll_ctl(set->fd, op, fd, &ev);
}

/* What is asked of an emulated connection in the kernel's set: see urgent_mend(). */
static uint32_t kernel_events(const struct gn_sock *so, uint32_t events)
{
	bool asks = gn_flag(so->ep, GN_EP_EMULATED) && (events & EPOLLIN) && !(events & EPOLLEXCLUSIVE);

	return asks ? events | EPOLLPRI : events;
}

static int bells_ctl(struct gn_watch *w, int op)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = (void *)(uintptr_t)w};

	if (unlikely(w->set->bells < 0)) /* a forked child's, which has none of its own yet */
		return 0;
	w->kernel_out = !gn_tx_shared(w->so);
	if (w->kernel_out)
		ev.events |= w->events & EPOLLOUT;
	return gn_sys_epoll_ctl(w->set->bells, op, w->fd, &ev);
}

/* From among the cold ones back to those that are looked at. set->lock is held. */
static void watch_warm(struct gn_watch *w)
{
	if (!w->cold)
		return;
	w->cold = false;
	list_del(w);
	list_add(&w->set->hot, w);
}

void gn_epset_warm(struct gn_epset *set)
{
	while (set->cold.next != &set->cold)
		watch_warm(set->cold.next);
	if (set->rings && (set->outer || atomic_load(&set->sleeping)))
		gn_epset_wake(set);
}

/* A forked child's first bells: its watches were in its parent's. */
static void ring_again(struct gn_epset *set)
{
	struct gn_watch *heads[] = {&set->deleted, &set->cold, &set->hot};

	for (size_t i = 0; i < ARRAY_SIZE(heads); i++)
		for (struct gn_watch *w = heads[i]->next, *next; w != heads[i]; w = next) {
			next = w->next;
			w->hint = true;
			if (w->ring)
				bells_ctl(w, EPOLL_CTL_ADD);
			watch_warm(w);
		}
}

/* set->lock is held. */
int gn_bells_open(struct gn_epset *set)
{
	int fd, rc;

	if (set->bells >= 0)
		return 0;
	fd = gn_sys_epoll_create1(EPOLL_CLOEXEC);
	if (fd < 0)
		return fd;
	if (!set->cookie) /* relatives know the bells of one another by it */
		set->cookie = COOKIE + ((uintptr_t)set >> 4);
	set->bells = gn_fd_raise(fd);
	rc = gn_bells_place(set, true);
	if (rc < 0) {
		gn_sys_close(set->bells);
		set->bells = -1;
		return rc;
	}
	gn_hide(set->bells);
	if (unlikely(set->shared))
		ring_again(set);
	return 0;
}

/* set->lock is held. Sleepers are counted before they look whether the set is shared or has bells; here they are counted after that is said
 * (each with a full barrier). A thread that sleeps in the program's set hears of bells only there. */
int gn_bells_place(struct gn_epset *set, bool opened)
{
	bool must = !set->shared || set->outer, may = must || atomic_fetch_add(&set->sleeping, 0) > atomic_load(&set->apart);
	bool inside = set->rung_inside ? may : must || (opened && may);
	int rc;

	if (set->bells < 0 || inside == set->rung_inside)
		return 0;
	rc = kernel_ctl(set, inside ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, set->bells, EPOLLIN, set->cookie);
	set->rung_inside = inside && rc == 0;
	return rc;
}

/* A value of the program's that equals the cookie: the cookie moves. */
static void cookie_avoid(struct gn_epset *set, uint64_t data)
{
	while (set->bells >= 0 && data == set->cookie) {
		set->cookie += 0x1000000001ull;
		if (set->rung_inside)
			kernel_ctl(set, EPOLL_CTL_MOD, set->bells, EPOLLIN, set->cookie);
	}
}

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

/* Edge-triggered, on its way out of the kernel's set: is there anything that the kernel had not told yet? What lies unread came since: a
 * connection that is waited for by edges is promoted when it has been read empty (gn_watches_wait). */
static bool has_untold(const struct gn_watch *w)
{
	struct pollfd p = {w->fd, POLLIN | POLLRDHUP, 0};

	return (int32_t)(atomic_load(&w->set->swept) - w->since) <= 0 || gn_sys_poll(&p, 1, 0) != 0;
}

/* A token would spare the bells of other rings for the sake of one that a relative may take out. */
bool gn_watch_arm(struct gn_watch *w, uint32_t token)
{
	bool relatives = atomic_load(&w->so->ep->holders) > 1;

	if (unlikely(relatives) && !gn_flag(w->so->ep, GN_EP_WATCHED))
		atomic_fetch_or(&w->so->ep->flags, GN_EP_WATCHED);
	return gn_arm(w->so, w->fd, (short)(w->events & ~GN_EPOLL_FLAGS), relatives ? GN_ARM_ALWAYS : token);
}

/* Another thread made the switch while somebody sleeps on the set: that one has not asked this ring for a bell. set->lock is held. */
static void arm_for_sleepers(struct gn_watch *w)
{
	struct gn_epset *set = w->set;

	if ((set->outer || atomic_load(&set->sleeping)) && !gn_watch_arm(w, GN_ARM_ALWAYS))
		gn_epset_wake(set);
}

/* set->lock is held. */
static void watch_to_ring(struct gn_watch *w)
{
	struct gn_epset *set = w->set;

	if (unlikely(w->moved) || gn_bells_open(set) < 0)
		return; /* readiness then comes from bells in the program's own set, late but right: [LANE-1] */
	kernel_ctl(set, EPOLL_CTL_DEL, w->fd, 0, 0);
	w->ring = true;
	w->cold = false;
	w->hint = true;
	w->fresh = !(w->events & EPOLLET) || has_untold(w);
	w->out_known = !w->fresh;
	w->quiet = 0;
	list_del(w);
	list_add(&set->hot, w);
	set->rings++;
	bells_ctl(w, EPOLL_CTL_ADD);
	arm_for_sleepers(w);
}

static void watch_to_kernel(struct gn_watch *w)
{
	struct gn_epset *set = w->set;

	if (w->ring) {
		bells_ctl(w, EPOLL_CTL_DEL);
		w->ring = false;
		if (w->deleted)
			return;
		list_del(w);
		list_add(&set->kernel, w);
		set->rings--;
	}
	if (w->deleted)
		return;
	set->emulated += gn_flag(w->so->ep, GN_EP_EMULATED) || w->so->tx.dir ? 1 : 0;
	kernel_ctl(set, EPOLL_CTL_ADD, w->fd, w->off ? 0 : kernel_events(w->so, w->events), w->data.u64);
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
		watch_to_ring(w);
	else if (w->ring && !(w->events & EPOLLET)) /* else that would be told anew what is there: see gn_bells_harvest() */
		bells_ctl(w, EPOLL_CTL_MOD);
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
		watch_to_ring(w);
	w->fresh = w->hint = true;
	if (atomic_load(&w->set->sleeping))
		gn_epset_wake(w->set);
}

void gn_watches_poke(struct gn_sock *so)
{
	for_each_watch(so, watch_poke);
}

static void watch_leave(struct gn_watch *w)
{
	if (!w->ring && !w->deleted && !w->moved)
		kernel_ctl(w->set, EPOLL_CTL_DEL, w->fd, 0, 0);
	if (!w->ring)
		return;
	bells_ctl(w, EPOLL_CTL_DEL);
	w->ring = false;
	if (w->deleted)
		return;
	list_del(w);
	list_add(&w->set->kernel, w);
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
		kernel_ctl(w->set, EPOLL_CTL_ADD, w->so->private_fd, w->events, w->data.u64);
}

void gn_watches_private(struct gn_sock *so, int fd)
{
	(void)fd;
	for_each_watch(so, private_add);
}

static void private_del(struct gn_watch *w)
{
	if (!w->deleted)
		kernel_ctl(w->set, EPOLL_CTL_DEL, w->so->private_fd, 0, 0);
}

void gn_watches_private_gone(struct gn_sock *so)
{
	for_each_watch(so, private_del);
}

/* What an outer set is shown of it is to be what TCP would show; an edge that was told stays told. */
static bool is_levelled(const struct gn_watch *w)
{
	return gn_flag(w->so->ep, GN_EP_EMULATED) && !(w->events & EPOLLET);
}

void gn_watches_outer(struct gn_epset *set)
{
	struct gn_watch *w, *next;

	for (w = set->kernel.next; w != &set->kernel; w = next) {
		next = w->next;
		if (is_levelled(w))
			watch_to_ring(w);
	}
}

/* `lists` and set->lock are held; the endpoint's list is the caller's to mend. */
static void watch_free(struct gn_watch *w)
{
	if (w->ring && !w->deleted)
		w->set->rings--;
	list_del(w);
	free(w);
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
		if (w->ring && bells_ctl(w, EPOLL_CTL_DEL) < 0 && set->shared)
			set->haunted = true; /* closed behind our back, and a relative holds it open */
		watch_free(w);
		gn_unlock(&set->lock);
	}
	so->watches = NULL;
	gn_unlock(&gn_watch_lists);
}

/* Its number is to be another one's. Among the bells, where a watch of that number may be already: then bells are told to both (watch_told). */
static void watch_renumber(struct gn_watch *w, int fd, bool open)
{
	if (w->ring && open)
		bells_ctl(w, EPOLL_CTL_DEL);
	else if (w->ring)
		w->set->haunted = true; /* nobody can take it out of the bells */
	w->fd = fd;
	w->moved = true;
	w->ring = w->ring && !w->deleted;
	if (w->ring)
		bells_ctl(w, EPOLL_CTL_ADD);
}

void gn_watches_renumber(struct gn_sock *so, int from, int to)
{
	bool in_kernel = false;

	gn_lock(&gn_watch_lists);
	for (struct gn_watch *w = so->watches; w; w = w->of_sock) {
		if (w->fd != from && (from >= 0 || atomic_load(&gn_world.table[w->fd]) == so))
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

/* The file is to be had by the number again by which it was added. */
static void watch_return(struct gn_watch *w)
{
	if (w->ring)
		bells_ctl(w, EPOLL_CTL_DEL);
	w->fd = w->number;
	w->moved = false;
	if (w->ring)
		bells_ctl(w, EPOLL_CTL_ADD);
}

void gn_watches_return(struct gn_sock *so, int fd)
{
	gn_lock(&gn_watch_lists);
	for (struct gn_watch *w = so->watches; w; w = w->of_sock) {
		if (!w->moved || w->number != fd)
			continue;
		gn_lock(&w->set->lock);
		watch_return(w);
		gn_unlock(&w->set->lock);
	}
	gn_unlock(&gn_watch_lists);
}

static void sock_unlink(struct gn_watch *w)
{
	struct gn_watch **at = &w->so->watches;

	while (*at != w)
		at = &(*at)->of_sock;
	*at = w->of_sock;
}

void gn_epset_free(struct gn_epset *set)
{
	struct gn_watch *heads[] = {&set->kernel, &set->hot, &set->cold, &set->deleted};

	gn_lock(&gn_watch_lists);
	for (size_t i = 0; i < ARRAY_SIZE(heads); i++)
		while (heads[i]->next != heads[i]) {
			struct gn_watch *w = heads[i]->next;

			sock_unlink(w); /* NOLINT(clang-analyzer-unix.Malloc): watch_free() took the last one out of the list */
			watch_free(w);
		}
	gn_unlock(&gn_watch_lists);
	gn_unhide_close(&set->bells);
	gn_unhide_close(&set->ready);
	free(set);
}

void gn_epset_renumber(struct gn_epset *set, int from, int to)
{
	gn_lock(&set->lock);
	if (from < 0 || set->fd == from)
		set->fd = to;
	gn_unlock(&set->lock);
}

/* The kernel knows registrations by the number too. */
void gn_epset_fd_moved(struct gn_epset *set, int from, int to)
{
	gn_lock(&set->lock);
	if (set->fd == from)
		set->fd = to;
	if (set->bells == from) {
		if (set->rung_inside)
			kernel_ctl(set, EPOLL_CTL_DEL, from, 0, 0);
		set->bells = to;
		set->rung_inside = set->rung_inside && kernel_ctl(set, EPOLL_CTL_ADD, to, EPOLLIN, set->cookie) == 0;
	}
	if (set->ready == from) {
		gn_ready_watch(set, EPOLL_CTL_DEL);
		set->ready = to;
		gn_ready_watch(set, EPOLL_CTL_ADD);
	}
	gn_unlock(&set->lock);
}

/* A watch that was deleted a moment ago: many programs add and delete interest in writing with each request. No system call. */
static int ctl_revive(struct gn_epset *set, struct gn_watch *w, const struct epoll_event *ev)
{
	w->deleted = false;
	w->events = ev->events;
	w->data = ev->data;
	w->off = w->cold = false;
	w->fresh = w->hint = true;
	w->quiet = 0;
	list_del(w);
	list_add(&set->hot, w);
	set->rings++;
	if (set->outer)
		gn_watch_arm(w, GN_ARM_ALWAYS);
	return 0;
}

static int ctl_add(struct gn_epset *set, struct gn_sock *so, int fd, const struct epoll_event *ev)
{
	struct gn_watch *w = calloc(1, sizeof *w);
	int rc;

	if (!w)
		return -ENOMEM;
	rc = kernel_ctl(set, EPOLL_CTL_ADD, fd, kernel_events(so, ev->events), ev->data.u64);
	if (rc < 0) {
		free(w);
		return rc;
	}
	*w = (struct gn_watch){.set = set, .so = so, .fd = fd, .number = fd, .events = ev->events, .data = ev->data, .of_sock = so->watches};
	w->since = atomic_load(&set->asked);
	so->watches = w;
	list_add(&set->kernel, w);
	if (gn_flag(so->ep, GN_EP_EMULATED) || so->tx.dir)
		set->emulated++;
	if (ev->events & EPOLLONESHOT)
		set->oneshots++;
	if (so->private_fd >= 0)
		private_add(w);
	if (gn_on_ring(so) || shows_other(so) || (set->outer && is_levelled(w)))
		watch_to_ring(w);
	return 0;
}

static int ctl_mod(struct gn_epset *set, struct gn_sock *so, struct gn_watch *w, const struct epoll_event *ev)
{
	int rc = 0;

	if ((ev->events & EPOLLEXCLUSIVE) || (w->events & EPOLLEXCLUSIVE))
		return -EINVAL;
	if (!w->ring) {
		rc = kernel_ctl(set, EPOLL_CTL_MOD, w->fd, kernel_events(so, ev->events), ev->data.u64);
		w->told = 0;
		if (rc == 0 && so->private_fd >= 0)
			kernel_ctl(set, EPOLL_CTL_MOD, so->private_fd, ev->events, ev->data.u64);
	}
	if (rc < 0)
		return rc;
	w->events = ev->events;
	w->data = ev->data;
	w->since = atomic_load(&set->asked);
	w->off = false;
	if (ev->events & EPOLLONESHOT)
		set->oneshots++;
	if (!w->ring)
		return 0;
	w->fresh = w->hint = true;
	w->quiet = 0;
	if (w->cold) {
		w->cold = false;
		list_del(w);
		list_add(&set->hot, w);
	}
	if (!gn_tx_shared(so))
		bells_ctl(w, EPOLL_CTL_MOD);
	return 0;
}

static int ctl_del(struct gn_epset *set, struct gn_sock *so, struct gn_watch *w)
{
	if (so->private_fd >= 0)
		kernel_ctl(set, EPOLL_CTL_DEL, so->private_fd, 0, 0);
	if (w->ring && gn_on_ring(so)) {
		w->deleted = true;
		w->cold = false;
		list_del(w);
		list_add(&set->deleted, w);
		set->rings--;
		return 0;
	}
	if (w->ring)
		bells_ctl(w, EPOLL_CTL_DEL);
	else
		kernel_ctl(set, EPOLL_CTL_DEL, w->fd, 0, 0);
	sock_unlink(w);
	watch_free(w);
	return 0;
}

static int ctl_ours(struct gn_epset *set, struct gn_sock *so, int op, int fd, struct epoll_event *ev)
{
	struct gn_watch *w = watch_find(so, set, fd);

	if (op != EPOLL_CTL_DEL && !ev)
		return -EFAULT;
	if (w && w->deleted) {
		if (op == EPOLL_CTL_ADD && w->ring && gn_on_ring(so) && !(ev->events & EPOLLEXCLUSIVE))
			return ctl_revive(set, w, ev);
		if (op != EPOLL_CTL_ADD)
			return -ENOENT;
		if (w->ring)
			bells_ctl(w, EPOLL_CTL_DEL);
		sock_unlink(w);
		watch_free(w);
		w = NULL;
	}
	if (w && op == EPOLL_CTL_ADD)
		return -EEXIST;
	if (!w && op != EPOLL_CTL_ADD)
		return kernel_ctl(set, op, fd, ev ? ev->events : 0, ev ? ev->data.u64 : 0);
	switch (op) {
	case EPOLL_CTL_ADD:
		return ctl_add(set, so, fd, ev);
	case EPOLL_CTL_MOD:
		return ctl_mod(set, so, w, ev);
	case EPOLL_CTL_DEL:
		return ctl_del(set, so, w);
	default:
		return -EINVAL;
	}
}

int gn_epoll_ctl(int setfd, int op, int fd, struct epoll_event *event)
{
	struct gn_sock *so = gn_followed(gn_get(fd), fd);
	struct gn_sock *set = so ? set_get(setfd) : gn_get_kind(setfd, GN_KIND_EPOLL);
	int rc;

	if (set && event) {
		gn_lock(&set->set->lock);
		cookie_avoid(set->set, event->data.u64);
		gn_unlock(&set->set->lock);
	}
	if (so && set) {
		gn_lock(&gn_watch_lists);
		gn_lock(&set->set->lock);
		rc = ctl_ours(set->set, so, op, fd, event);
		gn_unlock(&set->set->lock);
		gn_unlock(&gn_watch_lists);
		if (unlikely(set->set->outer))
			gn_epset_sync(set->set);
		else if (rc == 0 && op != EPOLL_CTL_DEL && (gn_on_ring(so) || gn_queue_waits(so)) && atomic_load(&set->set->sleeping))
			gn_epset_poke(set->set);
	} else {
		rc = gn_is_hidden(fd) ? -EBADF : gn_sys_epoll_ctl(setfd, op, fd, event);
		if (rc == 0 && op == EPOLL_CTL_ADD && set)
			gn_epset_inner(set->set, fd);
	}
	if (set)
		gn_put(set);
	if (so)
		gn_put(so);
	return rc;
}

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

static void watch_cool(struct gn_epset *set, struct gn_watch *w)
{
	bool relatives = atomic_load(&w->so->ep->holders) > 1; /* one may take out the bell that tells of room */
	bool silent = (w->events & EPOLLOUT) && (relatives || gn_room_is_silent(w->so));

	w->quiet = 0;
	gn_watch_arm(w, GN_ARM_ALWAYS);
	if (silent && !gn_ready(w->so, w->fd, POLLOUT, false))
		return;
	if (gn_watch_peek(w)) /* it came between the look and the flag: no bell tells of it */
		return;
	w->cold = true;
	list_del(w);
	list_add(&set->cold, w);
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
			list_del(w);
			list_add(&set->hot, w);
		} else if (++w->quiet > QUIET_SCANS && set->rings > 4 && !w->so->eventless) {
			watch_cool(set, w);
		}
		if (end)
			break;
		w = next;
	}
	return n;
}

/* What comes by the kernel is news, but for the first word that it is writable where that was known. */
static void harvest_one(struct gn_watch *w, uint32_t events)
{
	bool known = w->out_known && atomic_load_explicit(&w->so->tx_full, memory_order_relaxed) == w->full;

	if (w->so->dgram) /* bells come among datagrams; what is in rings counts as news by itself */
		w->fresh = w->fresh || (events & ~(uint32_t)(EPOLLIN | EPOLLRDNORM | EPOLLOUT | EPOLLWRNORM)) || gn_dgram_check(w->so, w->fd);
	else if (!gn_all_in_ring(w->so) && (events & ~(uint32_t)EPOLLOUT)) /* the last bell of a peer that goes back is none */
		w->fresh = w->fresh || (events & ~(uint32_t)(EPOLLIN | EPOLLOUT)) || !gn_past_switch(w->so) || !gn_bells_alone(w->so, w->fd);
	if (!(events & EPOLLOUT))
		return;
	w->out_known = false;
	if (gn_tx_shared(w->so))
		bells_ctl(w, EPOLL_CTL_MOD);
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

/* The bells say which watches have news. set->lock is held; gn_heard_tell() follows without it. */
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
				bells_ctl(w, EPOLL_CTL_MOD);
			watch_warm(w);
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
	watch_warm(w);
	if (w->set != except && atomic_load(&w->set->sleeping))
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
		watch_to_ring(w);
	return ev->events;
}

static bool is_ready_in_kernel(const struct gn_watch *w)
{
	struct pollfd p = {w->fd, (short)(w->events & ~GN_EPOLL_FLAGS), 0};

	return gn_sys_poll(&p, 1, 0) > 0;
}

/* One has fired. Of several with the same data nobody can tell which: one that is ready. */
static void oneshot_note(struct gn_epset *set, const struct epoll_event *ev)
{
	struct gn_watch *w, *fired = NULL;

	for (w = set->kernel.next; w != &set->kernel; w = w->next) {
		if (!(w->events & EPOLLONESHOT) || w->off || w->data.u64 != ev->data.u64)
			continue;
		if (!fired || (!is_ready_in_kernel(fired) && is_ready_in_kernel(w)))
			fired = w;
	}
	if (fired)
		fired->off = true;
}

/* Takes our own descriptor out of what the kernel returned. True: the bells rang. */
static bool filter(struct gn_epset *set, struct epoll_event *events, int *n)
{
	bool rang = false;
	int kept = 0;

	gn_lock(&set->lock);
	for (int i = 0; i < *n; i++) {
		if (set->bells >= 0 && events[i].data.u64 == set->cookie) {
			rang = true;
			continue;
		}
		if (unlikely(events[i].events & (EPOLLHUP | EPOLLRDHUP)) && set->emulated && !end_mend(set, &events[i]))
			continue;
		if (unlikely(events[i].events & EPOLLPRI) && set->emulated && !urgent_mend(set, &events[i])) {
			rang = true; /* look again */
			continue;
		}
		if (set->oneshots)
			oneshot_note(set, &events[i]);
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

static int scan_locked(struct gn_epset *set, struct epoll_event *events, int max)
{
	int n;

	gn_lock(&set->lock);
	n = scan(set, events, max);
	gn_unlock(&set->lock);
	return n;
}

static enum gn_spin_how set_spin_now(struct gn_epset *set)
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
		*rang = filter(set, events, &k);
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

	if (!gn_spin_begin(&spin, set_spin_now(set), until_ns))
		return 0;
	look = first_look(set, spin.now_ns);
	do {
		if (spin.now_ns >= look) {
			n = kernel_look(set, events, max, spin.now_ns, &rang);
			n = n < 0 ? 0 : n; /* the sleep will say it again */
			look = spin.now_ns + SPIN_LOOK_NS;
		}
		for (int i = 0; i < spin.looks && (n == 0 || i == 0); i++) {
			n += scan_locked(set, events + n, max - n);
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

/* Asks every hot watch's peer for a bell. False: something is ready. *nap_ns: how long to sleep for the sake of those that may not ring. */
static bool arm_hot(struct gn_epset *set, uint32_t token, uint64_t *nap_ns)
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
			bells_ctl(w, EPOLL_CTL_MOD);
		if ((w->events & EPOLLOUT) && unlikely(!gn_ready(w->so, w->fd, POLLOUT, false)))
			*nap_ns = silent ? NAP_NS : GN_MIN(*nap_ns, GN_ROOM_NS);
	}
	gn_unlock(&set->lock);
	return quiet;
}

static void disarm_hot(struct gn_epset *set, uint32_t token)
{
	struct gn_watch *w;

	if (token == GN_ARM_ALWAYS)
		return;
	gn_lock(&set->lock);
	for (w = set->hot.next; w != &set->hot; w = w->next)
		gn_disarm(w->so, token);
	gn_unlock(&set->lock);
}

/* Sleeps. What rang goes with what the kernel has: that was asked just now. */
static int sleep_once(struct gn_sock *so, struct epoll_event *events, int max, uint64_t deadline_ns, const sigset_t *mask)
{
	struct gn_epset *set = so->set;
	int n = kernel_wait(so, events, max, deadline_ns, mask);
	bool rang = n > 0 && filter(set, events, &n);

	set->looked_ns = gn_now_ns();
	set->kernel_had = n > 0;
	return rang ? n + scan_locked(set, events + n, max - n) : n;
}

/* Sleeps once, if nothing is there. Events, 0: look again (or time is up), -errno. */
static int park(struct gn_sock *so, struct epoll_event *events, int max, uint64_t deadline_ns, const sigset_t *mask)
{
	struct gn_epset *set = so->set;
	bool others = atomic_fetch_add(&set->sleeping, 1) > 0 || set->outer;
	uint32_t token = others ? GN_ARM_ALWAYS : gn_arm_token();
	uint64_t nap_ns = unlikely(set->bells < 0) ? NAP_NS : UINT64_MAX; /* a forked child's, that cannot have any */
	int n = 0;

	if (arm_hot(set, token, &nap_ns)) {
		if (unlikely(nap_ns != UINT64_MAX))
			deadline_ns = GN_MIN(deadline_ns, gn_now_ns() + nap_ns);
		/* Edge-triggered watches are not "ready" while their state is old news; a change since is caught by this look. */
		n = scan_locked(set, events, max);
		if (n == 0 && likely(!set->moved))
			n = sleep_once(so, events, max, deadline_ns, mask);
	}
	atomic_fetch_sub(&set->sleeping, 1);
	disarm_hot(set, token);
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
		n = scan_locked(set, events, max);
		if (n)
			return n;
	}
	set->turn = !set->turn;
	if (set->turn && max == 1) {
		n = scan_locked(set, events, max);
		if (n)
			return n;
	}
	k = kernel_look(set, events, set->turn && max > 1 ? max / 2 : max, now, &rang);
	if (k >= 0)
		n = scan_locked(set, events + k, max - k);
	return k < 0 ? k : n + k;
}

/* A connection of this process waits for room in a queue, of which no event tells: sleeps are to be short. */
static inline bool somebody_queues(void)
{
	return unlikely(atomic_load_explicit(&gn_world.queued, memory_order_relaxed));
}

/* No ring has anything to report. */
static bool is_quiet(struct gn_epset *set)
{
	bool quiet = true;

	gn_lock(&set->lock);
	for (struct gn_watch *w = set->hot.next; w != &set->hot && quiet; w = w->next)
		quiet = !gn_watch_peek(w);
	gn_unlock(&set->lock);
	return quiet;
}

static int wait_rings(struct gn_sock *so, struct epoll_event *events, int max, uint64_t deadline_ns, const sigset_t *mask)
{
	struct gn_epset *set = so->set;
	bool quiet = deadline_ns && is_quiet(set); /* then the kernel is asked by the sleep itself */
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
		filter(set, events, &n);
	} while (n == 0 && !set->rings && !somebody_queues());
	return n;
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

int gn_epoll_pwait(struct gn_sock *so, int fd, struct epoll_event *events, int max, const struct timespec *timeout,
		   const sigset_t *mask)
{
	struct gn_epset *set = so->set;
	uint64_t deadline = gn_deadline_of(timeout), until;
	bool moved;
	int n;

	(void)fd;
	if (max <= 0 || max > (int)(INT32_MAX / sizeof *events) || !gn_timeout_is_valid(timeout))
		return -EINVAL;
	if (unlikely(set->inner_count))
		gn_inner_sync(set);
	if (unlikely(set->shared))
		gn_epset_own_bells(set);
	do {
		if (somebody_queues())
			gn_queue_look();
		until = somebody_queues() ? gn_queue_nap(deadline) : deadline;
		n = set->rings ? wait_rings(so, events, max, until, mask) : wait_kernel(so, events, max, until, mask);
		moved = set->moved;
		if (unlikely(moved) && n == 0)
			n = gn_watches_follow(set);
	} while (n == 0 && (moved || (deadline && gn_now_ns() < deadline)));
	if (unlikely(set->outer))
		gn_epset_sync(set);
	return n;
}
