/* SPDX-License-Identifier: MIT */
/*
 * Spinning: who waits looks again and again for a bounded time before it sleeps, if that paid lately.
 *
 * A spin is to take nothing from others. Unless the answer is there within a microsecond, it lets whoever else waits for this processor run
 * (sched_yield(2)): where nobody does, that costs a fifth of a microsecond; where the peer does, or another of its peers, it comes to its
 * answer without a sleep, a bell and a wake-up. Time that others ran is not counted. Where they ran for long (a program that computes), yields
 * are left for a while, so that no more than a sixtieth of the time is lost to them.
 */
#include <sys/rseq.h>

#include "sock/inside.h"
#include "sock/sock.h"

#define LOOKS 16                              /* between two readings of the clock */
#define BACKOFF_MAX 64                        /* waits that go without a spin after spins that failed */
#define YIELD_FIRST_NS GN_NS_PER_US           /* of a spin, before the first yield */
#define YIELD_NS (2 * GN_NS_PER_US)           /* between two */
#define CALM 16                               /* spins in a row that did not come to a yield; then a longer one is a moment's delay, no sign of others */
#define ALONE_NS GN_NS_PER_US                 /* a yield that takes less found nobody who waits */
#define LONG_NS (100 * GN_NS_PER_US)          /* one that takes more lost us time */
#define ABSTAIN 64                            /* times what was lost: no yields for so long */

static _Atomic uint64_t abstain_ns; /* until then */
static __thread uint32_t calm;      /* spins of this thread since one that yielded, or failed */

/* This processor's number + 1, without a system call; 0: not known. */
static uint32_t cpu_now(void)
{
	const struct rseq *r = (const void *)((char *)__builtin_thread_pointer() + __rseq_offset);

	return __rseq_size ? *(const volatile uint32_t *)&r->cpu_id + 1 : 0;
}

void gn_cpu_publish(struct gn_sock *so)
{
	uint32_t cpu = cpu_now();

	if (unlikely(so->dgram)) {
		gn_dgram_publish_cpu(so, cpu);
		return;
	}
	if (likely(atomic_load_explicit(&so->cpu, memory_order_relaxed) == cpu) || !so->tx.dir)
		return;
	atomic_store_explicit(&so->cpu, cpu, memory_order_relaxed);
	atomic_store_explicit(&so->tx.dir->p_cpu, cpu, memory_order_relaxed);
	atomic_store_explicit(&so->rx.dir->c_cpu, cpu, memory_order_relaxed);
}

/* Threads that meet here may count one wait too many or too few: it is a guess anyway. */
bool gn_spin_is_due(struct gn_spin *spin)
{
	uint32_t skip = atomic_load_explicit(&spin->skip, memory_order_relaxed);

	if (skip)
		atomic_store_explicit(&spin->skip, skip - 1, memory_order_relaxed);
	return !skip;
}

enum gn_spin_how gn_spin_now(struct gn_sock *so, const struct gn_dir *dir)
{
	bool together;
	uint32_t peer;

	if (unlikely(so->dgram)) {
		if (!gn_dgram_peer_cpu(so, &peer))
			return GN_SPIN_NOT;
	} else {
		peer = dir == so->rx.dir ? atomic_load_explicit(&so->rx.dir->p_cpu, memory_order_relaxed)
					 : atomic_load_explicit(&so->tx.dir->c_cpu, memory_order_relaxed);
	}
	if (!gn_world.spin_max_ns)
		return GN_SPIN_NOT;
	together = peer && peer == cpu_now() && !gn_apart(so, peer - 1);
	if (!together)
		so->together = 0;
	if (!gn_spin_is_due(&so->spin))
		return GN_SPIN_NOT;
	return together || gn_world.one_cpu ? GN_SPIN_TOGETHER : GN_SPIN_APART;
}

enum gn_spin_how gn_ask_now(struct gn_spin *spin)
{
	if (gn_world.one_cpu || !gn_world.spin_max_ns || !gn_spin_is_due(spin))
		return GN_SPIN_NOT;
	return GN_SPIN_ASKING;
}

void gn_spin_result(struct gn_spin *spin, bool paid)
{
	uint32_t backoff = atomic_load_explicit(&spin->backoff, memory_order_relaxed);

	backoff = paid ? 0 : backoff ? GN_MIN(backoff * 2, (uint32_t)BACKOFF_MAX) : 1;
	atomic_store_explicit(&spin->backoff, backoff, memory_order_relaxed);
	if (!paid)
		atomic_store_explicit(&spin->skip, backoff - 1, memory_order_relaxed);
}

static bool may_yield(uint64_t now)
{
	return now >= atomic_load_explicit(&abstain_ns, memory_order_relaxed);
}

/* When to yield first. */
static uint64_t first_yield(enum gn_spin_how how, uint64_t now)
{
	if (!how || how == GN_SPIN_ASKING || gn_world.sandboxed || !may_yield(now))
		return UINT64_MAX;
	if (how == GN_SPIN_TOGETHER)
		return now;
	return calm++ < CALM ? now + YIELD_FIRST_NS : UINT64_MAX;
}

bool gn_spin_begin(struct gn_spinning *s, enum gn_spin_how how, uint64_t until_ns)
{
	uint64_t now = how && how != GN_SPIN_ASKING ? gn_now_ns() : 0, yield_ns = first_yield(how, now);

	*s = (struct gn_spinning){
		.how = how,
		.looks = how == GN_SPIN_TOGETHER ? 1 : LOOKS,
		.over = !how || (how == GN_SPIN_TOGETHER && yield_ns == UINT64_MAX),
		.now_ns = now,
		.end_ns = now ? now + gn_world.spin_max_ns : 0,
		.until_ns = until_ns,
		.yield_ns = yield_ns,
	};
	return !s->over;
}

/* Lets others run. False: to go on is worth nothing. */
static bool yield(struct gn_spinning *s)
{
	uint64_t before = s->now_ns, lost;

	calm = 0;
	gn_sys_sched_yield();
	s->now_ns = gn_now_ns();
	lost = s->now_ns - before;
	s->yield_ns = s->now_ns + (s->how == GN_SPIN_TOGETHER ? 0 : YIELD_NS);
	if (lost < ALONE_NS)
		return s->how != GN_SPIN_TOGETHER; /* the peer is not among those that can run */
	s->end_ns += lost;
	if (lost > LONG_NS) {
		atomic_store_explicit(&abstain_ns, s->now_ns + ABSTAIN * lost, memory_order_relaxed);
		s->yield_ns = UINT64_MAX;
	}
	return true;
}

/* Each look of one who asks is a system call, so some go by before the time is asked for, which is another one: a forked child need not touch
 * the vdso's clock for it. */
static bool ask_on(struct gn_spinning *s)
{
	if (s->looks-- > 0)
		return true;
	s->looks = LOOKS;
	s->now_ns = gn_sys_now_ns(CLOCK_MONOTONIC);
	if (!s->end_ns)
		s->end_ns = s->now_ns + gn_world.spin_max_ns;
	return s->now_ns < s->end_ns;
}

bool gn_spin_on(struct gn_spinning *s)
{
	if (s->how == GN_SPIN_ASKING)
		return ask_on(s) && !gn_signal_waits();
	s->now_ns = gn_now_ns();
	s->over = s->now_ns >= s->end_ns || s->now_ns >= s->until_ns || gn_signal_waits() || (s->now_ns >= s->yield_ns && !yield(s));
	if (s->over)
		calm = 0;
	return !s->over;
}
