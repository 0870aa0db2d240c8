/* SPDX-License-Identifier: MIT */
/*
 * Two that talk, on two processors.
 *
 * The kernel wakes the reader of a socket on the processor of whoever rings, when nothing else runs there (a "sync" wake-up), and so two
 * that talk may stay together on one processor while another idles. There neither can spin, and each message costs a sleep. Who finds
 * itself there wait after wait moves to another processor that it may use, by leaving its own out of its affinity for a moment: sched(7),
 * sched_setaffinity(2). Where that does not last, because the others have work, it is tried less and less often.
 */
#include <string.h>

#include "sock/sock.h"

#define WAITS 64 /* together, in a row, before it is thought of */
#define FIRST_NS (20 * GN_NS_PER_MS) /* between two moves of this process */
#define MOST_NS (5 * GN_NS_PER_S)
#define CPUS 4096

struct mask {
	unsigned long word[CPUS / (8 * sizeof(unsigned long))];
};

/* Moves the calling thread off `cpu`. False: it has nowhere else to go. */
static bool move_off(uint32_t cpu)
{
	const size_t bits = 8 * sizeof(unsigned long);
	struct mask all, others;
	long bytes;
	bool any = false;

	memset(&all, 0, sizeof all);
	bytes = gn_raw3(SYS_sched_getaffinity, 0, sizeof all, (long)&all);
	if (bytes <= 0 || cpu >= CPUS)
		return false;
	others = all;
	others.word[cpu / bits] &= ~(1ul << cpu % bits);
	for (size_t i = 0; i < ARRAY_SIZE(others.word); i++)
		any = any || others.word[i];
	if (!any || gn_raw3(SYS_sched_setaffinity, 0, bytes, (long)&others) < 0)
		return false;
	gn_raw3(SYS_sched_setaffinity, 0, bytes, (long)&all);
	return true;
}

bool gn_apart(struct gn_sock *so, uint32_t cpu)
{
	static _Atomic uint64_t next_ns, pause_ns;
	uint64_t now, next, pause;

	if (++so->together < WAITS || gn_world.sandboxed)
		return false;
	so->together = 0;
	now = gn_now_ns();
	next = atomic_load_explicit(&next_ns, memory_order_relaxed);
	if (now < next)
		return false;
	pause = atomic_load_explicit(&pause_ns, memory_order_relaxed);
	pause = !pause || now > next + 8 * pause ? FIRST_NS : GN_MIN(2 * pause, (uint64_t)MOST_NS);
	if (!atomic_compare_exchange_strong(&next_ns, &next, now + pause)) /* another thread is at it */
		return false;
	atomic_store_explicit(&pause_ns, pause, memory_order_relaxed);
	return move_off(cpu);
}
