/* SPDX-License-Identifier: MIT */
/*
 * A robust lock for words in memory that processes share: one word, no initialiser but zero.
 *
 * Held for the copy of some bytes and never across a wait. When its owner was killed, the next one takes it over and is told so: what it
 * guards is consistent at every instruction (the commit of a ring operation is one store), but the dead may have owed somebody a bell.
 */
#ifndef GN_LANE_LOCK_H
#define GN_LANE_LOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/base.h"

#define GN_LOCK_WAITERS 0x80000000u
#define GN_LOCK_TID 0x003fffffu /* the kernel's ids are below 2^22 */
#define GN_LOCK_BIRTH_SHIFT 22  /* between: when that thread was born, in 9 bits; 0: not noted */

/* What the calling thread writes into a lock that it holds: its id and birth, asked from the kernel once. An id may be given to somebody else as
 * soon as its owner is dead; the birth tells them apart. */
uint32_t gn_owner_ask(void);
extern __thread uint32_t gn_owner_known __attribute__((tls_model("initial-exec")));

static inline uint32_t gn_owner(void)
{
	return likely(gn_owner_known) ? gn_owner_known : gn_owner_ask();
}

static inline uint32_t gn_tid(void)
{
	return gn_owner() & GN_LOCK_TID;
}

/* Whether births are noted, which costs a look into /proc for each thread but a forked child's first: in processes that share locks. No lock
 * is held. */
void gn_births_note(bool on);

/* Where this word is not 0, ids are of several process namespaces and tell nothing: no owner passes for dead. */
void gn_lock_strangers(const _Atomic uint32_t *flag);

/* Gone, or a zombie. Unreadable /proc: who is a zombie passes for alive. */
bool gn_task_is_dead(uint32_t tid);

/* Around a fork: before it, in the parent; after it, in the child, whose only thread has a new id and birth. */
void gn_lock_forks(void);
void gn_lock_forked(void);

bool gn_lock_slow(_Atomic uint32_t *lock); /* true: taken from the dead */
void gn_unlock_slow(_Atomic uint32_t *lock);

static inline bool gn_lock_try(_Atomic uint32_t *lock)
{
	uint32_t free = 0;

	return atomic_compare_exchange_strong_explicit(lock, &free, gn_owner(), memory_order_acquire, memory_order_relaxed);
}

/* True: its last owner died holding it. */
static inline bool gn_lock_inherits(_Atomic uint32_t *lock)
{
	return unlikely(!gn_lock_try(lock)) && gn_lock_slow(lock);
}

static inline void gn_lock(_Atomic uint32_t *lock)
{
	gn_lock_inherits(lock);
}

static inline void gn_unlock(_Atomic uint32_t *lock)
{
	uint32_t mine = gn_owner();

	if (unlikely(!atomic_compare_exchange_strong_explicit(lock, &mine, 0, memory_order_release, memory_order_relaxed)))
		gn_unlock_slow(lock);
}

/* Held while code ran that may have taken it a second time, and so have given it back. */
static inline void gn_unlock_mine(_Atomic uint32_t *lock)
{
	if ((atomic_load_explicit(lock, memory_order_relaxed) & ~GN_LOCK_WAITERS) == gn_owner())
		gn_unlock(lock);
}

#endif
