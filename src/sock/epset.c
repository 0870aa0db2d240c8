/* SPDX-License-Identifier: MIT */
/*
 * An epoll set by itself: how it comes and goes, its descriptors, and its bells. Theory, shape and locks: epset.h.
 *
 * Invariants: what is done to the program's set is done by set->fd, a number of it that is open; set->rung_inside says whether the bells are
 * in there, under set->cookie.
 */

#include "base/fd.h"
#include "sock/epset.h"

#define COOKIE 0x676e65a5d0000000ull

static struct gn_spare spare;

static struct gn_epset *set_new(int fd)
{
	struct gn_epset *set = gn_spare_take(&spare, sizeof *set);

	if (!set)
		return NULL;
	set->fd = fd;
	set->bells = set->ready = -1;
	gn_watch_list_init(&set->kernel);
	gn_watch_list_init(&set->hot);
	gn_watch_list_init(&set->cold);
	gn_watch_list_init(&set->deleted);
	return set;
}

/* The set behind a descriptor; held. */
static struct gn_sock *set_open(int fd)
{
	struct gn_sock *so, *stale = NULL;
	struct stat st;

	if (gn_is_vfork_child()) { /* the table is its parent's */
		gn_lent_change(fd);
		return NULL;
	}
	if (gn_sys_fstat(fd, &st) < 0 || S_ISSOCK(st.st_mode)) /* no set: what is known of the number stays */
		return NULL;
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

struct gn_sock *gn_epset_get(int fd)
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

int gn_epset_ctl(const struct gn_epset *set, int op, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event ev = {.events = events, .data.u64 = data};

	return gn_sys_epoll_ctl(set->fd, op, fd, &ev);
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
				gn_bells_ctl(w, EPOLL_CTL_ADD);
			gn_watch_warm(w);
		}
}

/* Relatives know the bells of one another by it: it is there before the first fork. */
void gn_cookie_begin(struct gn_epset *set)
{
	if (!set->cookie)
		set->cookie = COOKIE + ((uintptr_t)set >> 4);
}

int gn_bells_open(struct gn_epset *set)
{
	int fd, rc;

	if (set->bells >= 0)
		return 0;
	fd = gn_sys_epoll_create1(EPOLL_CLOEXEC);
	if (fd < 0)
		return fd;
	gn_cookie_begin(set);
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

/* Sleepers are counted before they look whether the set is shared or has bells; here they are counted after that is said
 * (each with a full barrier). A thread that sleeps in the program's set hears of bells only there. */
int gn_bells_place(struct gn_epset *set, bool opened)
{
	bool must = !set->shared || set->outer, may = must || atomic_fetch_add(&set->sleeping, 0) > atomic_load(&set->apart);
	bool inside = set->rung_inside ? may : must || (opened && may);
	int rc;

	if (set->bells < 0 || inside == set->rung_inside)
		return 0;
	rc = gn_epset_ctl(set, inside ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, set->bells, EPOLLIN, set->cookie);
	set->rung_inside = inside && rc == 0;
	return rc;
}

void gn_cookie_avoid(struct gn_epset *set, uint64_t data)
{
	while (set->cookie && data == set->cookie) {
		set->cookie += 0x1000000001ull;
		if (set->rung_inside)
			gn_epset_ctl(set, EPOLL_CTL_MOD, set->bells, EPOLLIN, set->cookie);
	}
}

void gn_epset_warm(struct gn_epset *set)
{
	while (set->cold.next != &set->cold)
		gn_watch_warm(set->cold.next);
	if (set->rings && (set->outer || atomic_load(&set->sleeping)))
		gn_epset_wake(set);
}

static void set_renumber(struct gn_epset *set, int from, int to)
{
	gn_lock(&set->lock);
	if (from < 0 || set->fd == from)
		set->fd = to;
	gn_unlock(&set->lock);
}

void gn_epoll_renumber(struct gn_sock *so, int from, int to)
{
	if (so->kind == GN_KIND_EPOLL)
		set_renumber(so->set, from, to);
	else if (so->watches)
		gn_watches_renumber(so, from, to);
}

/* The kernel knows registrations by the number too. */
void gn_epset_fd_moved(struct gn_epset *set, int from, int to)
{
	gn_lock(&set->lock);
	if (set->bells == from) {
		if (set->rung_inside)
			gn_epset_ctl(set, EPOLL_CTL_DEL, from, 0, 0);
		set->bells = to;
		set->rung_inside = set->rung_inside && gn_epset_ctl(set, EPOLL_CTL_ADD, to, EPOLLIN, set->cookie) == 0;
	}
	if (set->ready == from) {
		gn_ready_watch(set, EPOLL_CTL_DEL);
		set->ready = to;
		gn_ready_watch(set, EPOLL_CTL_ADD);
	}
	gn_unlock(&set->lock);
}

void gn_epset_free(struct gn_epset *set)
{
	struct gn_watch *heads[] = {&set->kernel, &set->hot, &set->cold, &set->deleted};

	gn_lock(&gn_watch_lists);
	for (size_t i = 0; i < ARRAY_SIZE(heads); i++)
		while (heads[i]->next != heads[i])
			gn_watch_remove(heads[i]->next); /* NOLINT(clang-analyzer-unix.Malloc): the last one has left the list */
	gn_unlock(&gn_watch_lists);
	gn_unhide_close(&set->bells);
	gn_unhide_close(&set->ready);
	gn_spare_give(&spare, set);
}
