/* SPDX-License-Identifier: MIT */
/* From descriptors to endpoints: see sock.h. */
#include <string.h>

#include "base/fd.h"
#include "sock/sleep.h"

#define CHUNK 64

void gn_socks_add(void *map, uint32_t count)
{
	struct gn_sock *so = map;

	for (uint32_t i = 0; i < count; i++)
		so[i].next_free = i + 1 < count ? &so[i + 1] : gn_world.free_socks;
	gn_world.free_socks = so;
}

/* Memory of gn_socks is never given back, only reused: gn_get() relies on it. gn_world.big is held. */
static struct gn_sock *sock_alloc(void)
{
	struct gn_sock *so = gn_world.free_socks;
	void *map;

	if (!so) {
		if (gn_sys_mmap(&map, NULL, CHUNK * sizeof *so, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) < 0)
			return NULL;
		gn_socks_add(map, CHUNK);
		so = map;
	}
	gn_world.free_socks = so->next_free;
	return so;
}

struct gn_sock *gn_get_other(struct gn_sock *so, int fd, enum gn_kind kind)
{
	bool here = atomic_load(gn_slot(fd)) == so;

	if (here && kind == GN_KIND_SOCK && so->kind == GN_KIND_EARLY)
		gn_early_ended(so, fd);
	if (here && so->kind == kind) /* now, or since another thread has connected it */
		return so;
	gn_put(so);
	return NULL;
}

/* A new one with one reference, the table's. gn_world.big is held. */
struct gn_sock *gn_sock_new(enum gn_kind kind)
{
	const size_t behind = offsetof(struct gn_sock, refs) + sizeof(uint32_t);
	struct gn_sock *so = sock_alloc();

	if (!so)
		return NULL;
	/* refs stays as it is: somebody may be counting on the dead one just now. */
	memset(so, 0, offsetof(struct gn_sock, refs));
	memset((char *)so + behind, 0, sizeof *so - behind);
	so->kind = kind;
	so->meeting.fd = so->private_fd = so->hold_fd = so->group_fd = so->held_fd = so->moved_fd = so->after = -1;
	atomic_fetch_add(&so->refs, GN_REFS_LIVE + 1);
	return so;
}

void gn_table_late(bool counted)
{
	for (struct gn_sock **at = &gn_world.late; *at;) {
		struct gn_sock *so = *at;

		if (!counted)
			atomic_store(&so->refs, GN_REFS_LIVE);
		if (counted && gn_refs(so) == 0) {
			*at = so->next_late;
			gn_unhide_close(&so->after);
			gn_unhide_close(&so->moved_fd);
		} else {
			at = &so->next_late;
		}
	}
}

struct gn_sock *gn_late_get(uint32_t i)
{
	struct gn_sock *so;

	gn_lock(&gn_world.big);
	for (so = gn_world.late; so && i; i--)
		so = so->next_late;
	for (; so && !(atomic_fetch_add(&so->refs, 1) & GN_REFS_LIVE); so = so->next_late)
		atomic_fetch_sub(&so->refs, 1); /* about to be taken out, by whoever frees it */
	gn_unlock(&gn_world.big);
	return so;
}

/* As gn_close() would have. */
static void close_late(struct gn_sock *so)
{
	int face = so->kind == GN_KIND_SOCK ? so->private_fd : -1;

	gn_lock(&gn_world.big);
	for (struct gn_sock **at = &gn_world.late; *at; at = &(*at)->next_late)
		if (*at == so) {
			*at = so->next_late;
			break;
		}
	gn_unlock(&gn_world.big);
	so->private_fd = -1; /* after the public one: see open.c */
	gn_last_close(so, so->after);
	gn_unhide_close(&so->after);
	gn_unhide_close(&face);
}

/* The count and the mark are one word: of those that count on a stale pointer (gn_get) and let go again, at whatever moment, one frees it once,
 * and none its successor. */
void gn_put_slow(struct gn_sock *so)
{
	uint32_t unused = GN_REFS_LIVE;

	if (!atomic_compare_exchange_strong(&so->refs, &unused, 0))
		return; /* somebody counts on it just now, and will be the last */
	if (so->after >= 0)
		close_late(so);
	if (so->kind == GN_KIND_EPOLL) {
		gn_epset_free(so->set);
	} else {
		gn_dgram_free(so);
		gn_peer_free(so);
		gn_queue_free(so);
		gn_segment_unmap(&so->segment);
		gn_stats_retire(so);
		gn_ep_leave(so->ep);
		gn_options_free(so);
	}
	gn_lock(&gn_world.big);
	so->next_free = gn_world.free_socks;
	gn_world.free_socks = so;
	gn_unlock(&gn_world.big);
}

static void used(int fd)
{
	if ((uint32_t)fd >= gn_world.used_fds)
		gn_world.used_fds = (uint32_t)fd + 1;
}

/* `from` is about to be closed, or was, behind our back (-1), and the file stays open: nothing of ours may go on using that number, which will be
 * another file's. */
static void renumber(struct gn_sock *so, int from)
{
	int to = so->kind == GN_KIND_EPOLL || so->watches ? gn_fd_still(so, -1) : -1;

	if (to >= 0)
		gn_epoll_renumber(so, from, to);
}

/* Somebody is in a call on the endpoint still, asleep most likely: as in the kernel, it goes on with the file that was closed, and the peer
 * hears of the end when that call is over. False: nobody is, or no descriptor is left to keep the file by. */
static bool calls_go_on(struct gn_sock *so, int fd)
{
	int after;

	if (fd < 0 || gn_refs(so) == 1)
		return false;
	after = gn_fd_copy(fd);
	if (after < 0)
		return false;
	gn_hide(after);
	so->after = after;
	renumber(so, fd);
	gn_lock(&gn_world.big);
	so->next_late = gn_world.late;
	gn_world.late = so;
	gn_unlock(&gn_world.big);
	return true;
}

static void entry_drop(struct gn_sock *so, int fd)
{
	bool last;

	gn_lock(&gn_world.big);
	last = --so->fds == 0;
	gn_unlock(&gn_world.big);
	if (!last) {
		renumber(so, fd);
		return;
	}
	if (!calls_go_on(so, fd))
		gn_last_close(so, fd);
	gn_put(so);
}

int gn_table_set(int fd, struct gn_sock *so, struct gn_sock **stale)
{
	struct gn_sock *old;

	*stale = NULL;
	if ((uint32_t)fd >= gn_world.table_size)
		return -EMFILE;
	so->fds++;
	used(fd);
	gn_unhide(fd); /* closed behind our back */
	old = atomic_exchange(gn_slot(fd), so);
	if ((uintptr_t)old > 1)
		*stale = old;
	return 0;
}

void gn_table_drop(struct gn_sock *stale)
{
	if (stale)
		entry_drop(stale, -1);
}

bool gn_table_share(int fd, struct gn_sock *so)
{
	struct gn_sock *old;
	bool open;

	if ((uint32_t)fd >= gn_world.table_size)
		return true;
	gn_lock(&gn_world.big);
	open = so->fds > 0;
	so->fds += open;
	used(fd);
	gn_unhide(fd);
	gn_unlock(&gn_world.big);
	if (!open)
		return false;
	old = atomic_exchange(gn_slot(fd), so);
	if ((uintptr_t)old > 1)
		entry_drop(old, -1);
	if (so->kind == GN_KIND_SOCK && unlikely(so->watches))
		gn_watches_return(so, fd);
	return true;
}

void gn_table_clear(int fd)
{
	struct gn_sock *so;

	if ((uint32_t)fd >= gn_world.table_size ||
	    (uintptr_t)atomic_load_explicit(gn_slot(fd), memory_order_relaxed) <= 1)
		return;
	so = atomic_exchange(gn_slot(fd), NULL);
	if ((uintptr_t)so <= 1 || unlikely(gn_world.sandboxed))
		return;
	gn_connecting_pass(so); /* afterwards nobody puts anything under a number that has gone from the table */
	entry_drop(so, fd);
}

struct gn_sock *gn_get_any(int fd)
{
	struct gn_sock *so = gn_get_kind(fd, GN_KIND_SOCK);

	return so ? so : gn_get_kind(fd, GN_KIND_EPOLL);
}

/* Of the word that stands for those numbers where ours usually are; the table there is another page. */
static uint64_t hidden_bit(int fd)
{
	uint32_t i = (uint32_t)fd - GN_HIDDEN_FROM;

	return i < 64 ? UINT64_C(1) << i : 0;
}

void gn_hide(int fd)
{
	uint64_t bit = hidden_bit(fd);

	if (bit)
		atomic_fetch_or(&gn_world.hidden, bit);
	else if ((uint32_t)fd < gn_world.table_size)
		atomic_store(gn_slot(fd), GN_HIDDEN);
}

bool gn_is_hidden(int fd)
{
	uint64_t bit = hidden_bit(fd);

	if (bit)
		return atomic_load_explicit(&gn_world.hidden, memory_order_relaxed) & bit;
	return (uint32_t)fd < gn_world.table_size &&
	       atomic_load_explicit(gn_slot(fd), memory_order_relaxed) == GN_HIDDEN;
}

void gn_unhide(int fd)
{
	uint64_t bit = hidden_bit(fd);

	if (!gn_is_hidden(fd))
		return;
	if (bit)
		atomic_fetch_and(&gn_world.hidden, ~bit);
	else
		atomic_store(gn_slot(fd), NULL);
}

void gn_hide_instead(int before, int now)
{
	if (before >= 0 && before != now)
		gn_unhide(before);
	if (now >= 0)
		gn_hide(now);
}

void gn_unhide_close(int *fd)
{
	if (*fd < 0)
		return;
	gn_unhide(*fd);
	gn_sys_close(*fd);
	*fd = -1;
}
