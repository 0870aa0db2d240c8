/* SPDX-License-Identifier: MIT */
/* What a thread is doing, as a signal handler of its own may ask: theory in sleep.h. */
#ifndef GN_SOCK_INSIDE_H
#define GN_SOCK_INSIDE_H

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/base.h"

struct gn_held;

#define GN_KEPT 4

/* One thread's. Handlers run between any two instructions, so each word is read and written whole; none is shared with other threads. */
struct gn_thread {
	_Atomic uint32_t inside;  /* depth of calls, 0: outside */
	_Atomic uint32_t due;     /* GN_DUE_*: to be done on leaving */
	_Atomic uint64_t mask;    /* what the thread's signal mask was before signals were put off */
	struct gn_held *held;     /* of calls that sleep, the innermost first */
	_Atomic uint32_t how;     /* enum gn_sleep_how of the call that is about to sleep */
	_Atomic uint32_t cut;     /* a handler without SA_RESTART has run */
	_Atomic uint32_t async;   /* asleep, to be cancelled at any instruction */
	_Atomic uint32_t forks;   /* counted up by each: a handler that forks leaves two in the call that it interrupted */
	uint32_t kept_count;      /* real-time signals that were put off */
	siginfo_t kept[GN_KEPT];
	uint32_t wants_async;     /* the program asked for PTHREAD_CANCEL_ASYNCHRONOUS */
};

#define GN_DUE_SIGNALS 1u
#define GN_DUE_ASYNC 2u /* the thread is asynchronously cancellable again */

extern __thread struct gn_thread gn_thread __attribute__((tls_model("initial-exec")));

void gn_leave_slow(void);
void gn_signals_run(void); /* those that were put off: their handlers run now */

static inline void gn_inside_begin(void)
{
	atomic_store_explicit(&gn_thread.inside, atomic_load_explicit(&gn_thread.inside, memory_order_relaxed) + 1, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst);
}

static inline void gn_inside_end(void)
{
	uint32_t depth = atomic_load_explicit(&gn_thread.inside, memory_order_relaxed) - 1;

	atomic_signal_fence(memory_order_seq_cst);
	atomic_store_explicit(&gn_thread.inside, depth, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst);
	if (unlikely(atomic_load_explicit(&gn_thread.due, memory_order_relaxed)) && depth == 0)
		gn_leave_slow();
}

/* In a spin: a signal waits for us, so it is time to stop. */
static inline bool gn_signal_waits(void)
{
	return unlikely(atomic_load_explicit(&gn_thread.due, memory_order_relaxed) & GN_DUE_SIGNALS);
}

#endif
