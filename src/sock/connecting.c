/* SPDX-License-Identifier: MIT */
/*
 * The moment in which another socket comes under an endpoint's descriptors: a connect() by the private face above all.
 *
 * There the AF_UNIX socket is connected first and put under the descriptors then. In between whoever accepted may do what other threads here get
 * to know, and the kernel has no such moment: who is told that a connection was accepted can use it. So other threads that are about to
 * use, copy or close such a descriptor wait for it to be over, and so does fork.
 *
 * Invariant: between the two words the connecting thread does not sleep, and takes no word of fork's but the lock gn_world.big.
 */
#include "sock/sock.h"

static _Atomic uint32_t gate; /* lock: nobody begins while it is held */
static _Atomic uint32_t count;

/* A vfork child borrows this memory, and may end in the middle. */
void gn_connecting_begin(struct gn_sock *so)
{
	if (gn_is_vfork_child())
		return;
	gn_lock(&gate);
	atomic_fetch_add(&count, 1);
	gn_unlock(&gate);
	gn_lock(&so->connecting);
}

void gn_connecting_end(struct gn_sock *so)
{
	if (gn_is_vfork_child())
		return;
	gn_unlock(&so->connecting);
	atomic_fetch_sub(&count, 1);
}

/* Counted as one that is at it: no child is to find the lock taken. */
void gn_connecting_wait(struct gn_sock *so)
{
	gn_connecting_begin(so);
	gn_connecting_end(so);
}

void gn_connecting_hold(void)
{
	static const struct timespec nap = {0, 20 * GN_NS_PER_US};

	gn_lock(&gate);
	while (atomic_load(&count))
		gn_sys_nanosleep(&nap, NULL);
}

void gn_connecting_release(void)
{
	gn_unlock_mine(&gate);
}

void gn_connecting_forked(void)
{
	atomic_store(&gate, 0);
	atomic_store(&count, 0);
}
