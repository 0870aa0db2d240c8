/* SPDX-License-Identifier: MIT */
/* The pool of endpoints that a forked family shares: see ep.h. */
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "sock/sock.h"

static size_t pool_bytes(void)
{
	return sizeof(struct gn_pool) + (size_t)GN_POOL_SLOTS * sizeof(struct gn_ep);
}

/* gn_world.big is held. */
static struct gn_pool *pool_get(void)
{
	void *map;
	int fd;

	if (gn_world.pool)
		return gn_world.pool;
	fd = gn_sys_memfd_create(GN_POOL_NAME, MFD_CLOEXEC);
	if (fd < 0)
		return NULL;
	if (gn_sys_ftruncate(fd, (off_t)pool_bytes()) < 0 ||
	    gn_sys_mmap(&map, NULL, pool_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0) < 0) {
		gn_sys_close(fd);
		return NULL;
	}
	gn_world.pool = map;
	gn_world.pool->magic = GN_POOL_MAGIC;
	gn_world.pool->slots = GN_POOL_SLOTS;
	gn_world.pool->ep_size = sizeof(struct gn_ep);
	gn_lock_strangers(&gn_world.pool->strange);
	if (gn_fd_is_scarce()) { /* gnezdo ss does not find us then */
		gn_sys_close(fd);
		return gn_world.pool;
	}
	gn_world.pool_fd = gn_fd_raise(fd);
	gn_hide(gn_world.pool_fd);
	return gn_world.pool;
}

/* Slots of relatives that were killed: every holder is known by pid and none lives. */
static bool slot_is_orphan(struct gn_ep *ep)
{
	uint32_t known = 0;

	if (atomic_load(&gn_world.pool->strange))
		return false;
	for (int i = 0; i < GN_HOLDERS; i++) {
		pid_t pid = atomic_load(&ep->pid[i]);

		if (!pid)
			continue;
		if (!gn_task_is_dead((uint32_t)abs(pid)))
			return false;
		known++;
	}
	return known > 0 && known == atomic_load(&ep->holders);
}

/* Takes the seat of somebody dead, or of a reaper that died over it, for as long as it is cleared: nobody else sits down there, and no second
 * reaper clears what the next holder counts. */
static bool seat_seize(_Atomic int32_t *seat)
{
	int32_t pid = atomic_load(seat), mine = -gn_world.pid;

	if (!pid || !gn_task_is_dead((uint32_t)abs(pid)) || !atomic_compare_exchange_strong(seat, &pid, mine))
		return false;
	if (pid < 0 || gn_task_is_dead((uint32_t)pid)) /* looked at again: the id may be a new relative's, which has sat down meanwhile */
		return true;
	atomic_store(seat, pid);
	return false;
}

/* By one of its dead, whom nobody else can seize then: two processes may have found the same orphan. */
static bool orphan_seize(struct gn_ep *ep)
{
	for (int i = 0; i < GN_HOLDERS; i++)
		if (seat_seize(&ep->pid[i]))
			return true;
	return false;
}

static bool slot_take(struct gn_pool *pool, struct gn_ep *ep, bool orphans_too)
{
	uint32_t state = GN_FREE;

	if (atomic_load_explicit(&ep->state, memory_order_relaxed) == GN_FREE)
		return atomic_compare_exchange_strong(&ep->state, &state, GN_UNCONN);
	if (!orphans_too || !slot_is_orphan(ep) || !orphan_seize(ep))
		return false;
	atomic_store(&ep->state, GN_UNCONN);
	atomic_fetch_sub(&pool->used, 1); /* who dies before counts among the used for ever: see slot_find() */
	return true;
}

static struct gn_ep *slot_find(struct gn_pool *pool)
{
	for (int sweep = 0; sweep < 2; sweep++) {
		for (uint32_t i = 0; i < pool->slots; i++) {
			uint32_t at = atomic_fetch_add_explicit(&pool->hint, 1, memory_order_relaxed) % pool->slots;

			if (slot_take(pool, &pool->ep[at], sweep == 1))
				return &pool->ep[at];
			if (i == 64 && atomic_load(&pool->used) >= pool->slots - 64)
				break;
		}
	}
	return NULL;
}

/* Those of killed relatives count until they are found. */
static void orphans_free(struct gn_pool *pool)
{
	for (uint32_t i = 0; i < pool->slots; i++)
		if (atomic_load_explicit(&pool->ep[i].state, memory_order_relaxed) != GN_FREE && slot_take(pool, &pool->ep[i], true))
			atomic_store(&pool->ep[i].state, GN_FREE);
}

bool gn_pool_has_room(void)
{
	struct gn_pool *pool = gn_world.pool;

	if (likely(!pool || atomic_load_explicit(&pool->used, memory_order_relaxed) < pool->slots - GN_POOL_SPARE))
		return true;
	orphans_free(pool);
	return atomic_load(&pool->used) < pool->slots - GN_POOL_SPARE;
}

static void slot_clear(struct gn_ep *ep)
{
	uint32_t keep = GN_UNCONN;

	memset(ep, 0, offsetof(struct gn_ep, state));
	memset((char *)ep + offsetof(struct gn_ep, state) + sizeof keep, 0,
	       sizeof *ep - offsetof(struct gn_ep, state) - sizeof keep);
}

struct gn_ep *gn_ep_new(int domain, int type, int protocol)
{
	struct gn_pool *pool = pool_get();
	struct gn_ep *ep = pool ? slot_find(pool) : NULL;

	if (!ep)
		return NULL;
	atomic_fetch_add(&pool->used, 1);
	slot_clear(ep);
	ep->domain = (uint16_t)domain;
	ep->type = (uint16_t)type;
	ep->protocol = (uint16_t)protocol;
	atomic_store(&ep->holders, 1);
	atomic_store(&ep->pid[0], gn_world.pid);
	atomic_store(&ep->reason, GN_WHY_COLD);
	return ep;
}

/* Each process of a family holds a lock on the pool's file: fork gives none to the child, and the end of a process or of its program takes it
 * away, however that comes about. */
static bool family_lock(int cmd, struct flock *lock)
{
	*lock = (struct flock){.l_type = cmd == F_GETLK ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET, .l_len = 1};
	return gn_world.pool_fd >= 0 && gn_sys_fcntl(gn_world.pool_fd, cmd, (long)lock) == 0;
}

static void family_join(void)
{
	struct flock lock;

	gn_world.in_family = family_lock(F_SETLK, &lock);
	if (!gn_world.in_family)
		gn_world.family_lost = true;
}

void gn_family_fork(void)
{
	if (!pool_get()) {
		gn_world.family_lost = true; /* nor can the child know it */
		return;
	}
	if (!gn_world.in_family)
		family_join();
	atomic_fetch_add(&gn_world.pool->forking, 1);
}

void gn_family_fork_failed(void)
{
	if (gn_world.pool)
		atomic_fetch_sub(&gn_world.pool->forking, 1);
}

/* A child that cannot be counted stays among those that are being forked. */
void gn_family_forked(void)
{
	family_join();
	if (gn_world.in_family)
		atomic_fetch_sub(&gn_world.pool->forking, 1);
}

/* The end of any descriptor of the pool's gives the lock up. */
void gn_family_again(void)
{
	if (gn_world.in_family)
		family_join();
}

bool gn_family_is_alone(void)
{
	struct flock lock;

	return !gn_world.family_lost && atomic_load(&gn_world.pool->forking) == 0 && family_lock(F_GETLK, &lock) && lock.l_type == F_UNLCK;
}

static uint8_t seat_take(struct gn_ep *ep)
{
	uint8_t i;

	for (i = 0; i < GN_HOLDERS; i++) {
		int32_t none = 0;

		if (atomic_compare_exchange_strong(&ep->pid[i], &none, gn_world.pid))
			break;
	}
	return i;
}

uint8_t gn_ep_join(struct gn_ep *ep)
{
	uint8_t seat;

	(void)*(volatile const uint32_t *)&ep->holders; /* read first, the pages around come with it */
	seat = seat_take(ep);
	if (likely(seat < GN_HOLDERS))
		return seat;
	gn_ep_reap(ep); /* those whom nobody has named are counted for ever when they are killed */
	return seat_take(ep);
}

void gn_ep_reap(struct gn_ep *ep)
{
	if (atomic_load(&gn_world.pool->strange))
		return;
	for (int i = 0; i < GN_HOLDERS; i++) {
		if (!seat_seize(&ep->pid[i]))
			continue;
		atomic_store(&ep->asleep[i], 0);
		atomic_store(&ep->pid[i], 0);
		atomic_fetch_sub(&ep->holders, 1); /* last: one too many is slow and right */
	}
}

bool gn_ep_is_alone(struct gn_ep *ep)
{
	if (atomic_load(&ep->holders) > 1)
		gn_ep_reap(ep);
	return atomic_load(&ep->holders) == 1;
}

void gn_ep_leave(struct gn_ep *ep)
{
	for (int i = 0; i < GN_HOLDERS; i++) {
		int32_t mine = gn_world.pid;

		if (atomic_compare_exchange_strong(&ep->pid[i], &mine, 0))
			break;
	}
	if (atomic_fetch_sub(&ep->holders, 1) == 1) {
		atomic_store(&ep->state, GN_FREE);
		atomic_fetch_sub(&gn_world.pool->used, 1);
		/* The next to come takes it while it is in the caches, and the pool stays as small as it can. */
		atomic_store_explicit(&gn_world.pool->hint, (uint32_t)(ep - gn_world.pool->ep), memory_order_relaxed);
	}
}
