/* SPDX-License-Identifier: MIT */
/* A robust lock for words in memory that processes share: see lock.h. Source: futex(2). */
#include "lane/lock.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sys.h"
#include "base/time.h"

__thread uint32_t gn_owner_known;
static bool births_noted;
static const _Atomic uint32_t *strangers; /* gn_lock_strangers() */
static uint64_t fork_begun; /* ticks; of the last fork that began here or in the parent whose copy this is */

#define SPINS 200
#define OWNER_CHECK_NS (5 * GN_NS_PER_MS)
#define TICK_NS (10 * GN_NS_PER_MS) /* proc(5) tells times in hundredths of a second since the machine was started */
#define BIRTHS 511u
#define FORK_TICKS 2 /* how much later than born a forked child may take itself for */

/* What follows "pid (comm) ", for comm may hold anything: the third field and on. NULL: not known. */
static const char *task_stat(uint32_t tid, char text[512])
{
	char path[32], *p;
	ssize_t n;

	if (!gn_sys_proc_is_ours())
		return NULL;
	snprintf(path, sizeof path, "/proc/%u/stat", tid);
	n = gn_sys_read_file(path, text, 512);
	p = n > 0 ? strrchr(text, ')') : NULL;
	return p && p[1] == ' ' ? p + 2 : NULL;
}

/* 1 to BIRTHS, so that births less than five seconds apart always differ. */
static uint32_t birth_of(uint64_t ticks)
{
	return 1 + (uint32_t)(ticks % BIRTHS);
}

/* Of a thread; 0: not known. The kernel tells it to a hundredth of a second, in which no id comes round again. */
static uint32_t birth(uint32_t tid)
{
	char text[512];
	const char *p = task_stat(tid, text);
	uint64_t ticks = 0;

	for (int field = 3; p && field < 22; field++) {
		p = strchr(p, ' ');
		p += p != NULL;
	}
	if (!p)
		return 0;
	for (; *p >= '0' && *p <= '9'; p++)
		ticks = ticks * 10 + (uint64_t)(*p - '0');
	return birth_of(ticks);
}

/* Is who was born at `now` by /proc the one who wrote `born`? It may have written up to FORK_TICKS more, never less. */
static bool is_birth(uint32_t born, uint32_t now)
{
	return (born + BIRTHS - now) % BIRTHS <= FORK_TICKS;
}

static uint64_t ticks_now(void)
{
	return gn_sys_now_ns(CLOCK_BOOTTIME) / TICK_NS;
}

uint32_t gn_owner_ask(void)
{
	uint32_t tid = (uint32_t)gn_sys_gettid();

	gn_owner_known = tid | (births_noted ? birth(tid) << GN_LOCK_BIRTH_SHIFT : 0);
	return gn_owner_known;
}

void gn_lock_forks(void)
{
	fork_begun = ticks_now();
}

/* Between the fork and now it was born: if that is soon enough, nobody need ask. */
void gn_lock_forked(void)
{
	uint64_t now = ticks_now();

	gn_owner_known = 0;
	if (births_noted && now - fork_begun <= FORK_TICKS)
		gn_owner_known = (uint32_t)gn_sys_gettid() | birth_of(now) << GN_LOCK_BIRTH_SHIFT;
}

void gn_births_note(bool on)
{
	if (on && !births_noted)
		gn_owner_known = 0; /* what is known stays known: a sandbox may forbid to ask */
	births_noted = on;
}

void gn_lock_strangers(const _Atomic uint32_t *flag)
{
	strangers = flag;
}

/* Who was killed is still there for kill(2) until its parent has waited for it, but runs no more. Not so a process whose first thread alone has
 * ended (pthread_exit(3)): it has others, which field 20 counts (proc(5)). */
static bool is_zombie(uint32_t tid)
{
	char text[512];
	const char *p = task_stat(tid, text);

	if (!p || (*p != 'Z' && *p != 'X'))
		return false;
	for (int field = 3; field < 20 && p; field++)
		p = strchr(p + 1, ' ');
	return !p || strtol(p, NULL, 10) <= 1;
}

bool gn_task_is_dead(uint32_t tid)
{
	return gn_sys_kill((pid_t)tid, 0) == -ESRCH || is_zombie(tid);
}

static bool owner_is_dead(uint32_t word)
{
	uint32_t tid = word & GN_LOCK_TID, born = (word & ~GN_LOCK_WAITERS) >> GN_LOCK_BIRTH_SHIFT, now;

	if (!tid || (strangers && atomic_load(strangers)))
		return false;
	if (gn_task_is_dead(tid))
		return true;
	now = born ? birth(tid) : 0;
	return now && !is_birth(born, now); /* the id is somebody else's now */
}

static bool lock_take(_Atomic uint32_t *lock, uint32_t seen, uint32_t flags)
{
	return atomic_compare_exchange_strong_explicit(lock, &seen, gn_owner() | flags, memory_order_acquire, memory_order_relaxed);
}

bool gn_lock_slow(_Atomic uint32_t *lock)
{
	struct timespec check = gn_timespec(OWNER_CHECK_NS);
	uint32_t word;

	/* A handler of a fault that happened while this thread held the lock: whatever it guards is consistent, as after a kill. */
	if ((atomic_load_explicit(lock, memory_order_relaxed) & ~GN_LOCK_WAITERS) == gn_owner())
		return true;
	for (int i = 0; i < SPINS; i++) {
		if (atomic_load_explicit(lock, memory_order_relaxed) == 0 && lock_take(lock, 0, 0))
			return false;
		gn_cpu_relax();
	}
	for (;;) {
		word = atomic_load_explicit(lock, memory_order_relaxed);
		/* Whoever slept takes the lock as contended: others may sleep still. */
		if (word == 0) {
			if (lock_take(lock, 0, GN_LOCK_WAITERS))
				return false;
			continue;
		}
		if (!(word & GN_LOCK_WAITERS)) {
			if (!atomic_compare_exchange_strong(lock, &word, word | GN_LOCK_WAITERS))
				continue;
			word |= GN_LOCK_WAITERS;
		}
		if (gn_sys_futex(lock, FUTEX_WAIT, word, &check, NULL, 0) == -ETIMEDOUT && owner_is_dead(word) &&
		    lock_take(lock, word, GN_LOCK_WAITERS))
			return true;
	}
}

void gn_unlock_slow(_Atomic uint32_t *lock)
{
	atomic_store_explicit(lock, 0, memory_order_release);
	gn_sys_futex(lock, FUTEX_WAKE, 1, NULL, NULL, 0);
}
