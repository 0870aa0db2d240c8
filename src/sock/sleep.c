/* SPDX-License-Identifier: MIT */
/* Sleeping in the kernel, and what is undone when a sleeper never comes back: see sleep.h. Sources: signal(7), pthreads(7), rseq(2) for the idea. */
#include "sock/sleep.h"

#include <pthread.h>
#include <sys/single_threaded.h>

#include "sock/inside.h"
#include "sock/signals.h"

__thread struct gn_thread gn_thread = {.mask = UINT64_MAX};

#define SIGNALS_FIRST (-100001) /* a signal was put off meanwhile: nothing was called */

struct words {
	long nr, a, b, c, d, e, f;
};

/* Outside; a look for signals that were put off; the call; inside again. A handler that interrupts between gn_outside_begin and gn_outside_call finds
 * that the call was not made, and may move the thread to gn_outside_end (signals.c). The kernel puts a call that it restarts on
 * gn_outside_call again. At gn_outside_end, and at gn_outside_last, where it leads, the call is over and its result in the register. */
static GN_ONE_COPY long call_outside(struct gn_thread *t, const struct words *w)
{
	uint32_t depth = atomic_load_explicit(&t->inside, memory_order_relaxed);
#if defined(__x86_64__)
	register long r10 __asm__("r10") = w->d;
	register long r8 __asm__("r8") = w->e;
	register long r9 __asm__("r9") = w->f;
	long ret;

	__asm__ volatile(".globl gn_outside_begin, gn_outside_call, gn_outside_end, gn_outside_last\n"
			 ".hidden gn_outside_begin, gn_outside_call, gn_outside_end, gn_outside_last\n"
			 "gn_outside_begin:\n"
			 "	movl $0, %c[inside](%[t])\n"
			 "	testl %[signals], %c[due](%[t])\n"
			 "	jnz 1f\n"
			 "gn_outside_call:\n"
			 "	syscall\n"
			 "gn_outside_end:\n"
			 "	jmp 2f\n"
			 "1:	movq %[first], %%rax\n"
			 "gn_outside_last:\n"
			 "2:	movl %[depth], %c[inside](%[t])\n"
			 : "=a"(ret)
			 : "a"(w->nr), "D"(w->a), "S"(w->b), "d"(w->c), "r"(r10), "r"(r8), "r"(r9), [t] "r"(t), [depth] "r"(depth),
			   [inside] "i"(offsetof(struct gn_thread, inside)), [due] "i"(offsetof(struct gn_thread, due)),
			   [signals] "i"(GN_DUE_SIGNALS), [first] "i"(SIGNALS_FIRST)
			 : "rcx", "r11", "memory", "cc");
	return ret;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = w->nr;
	register long x0 __asm__("x0") = w->a;
	register long x1 __asm__("x1") = w->b;
	register long x2 __asm__("x2") = w->c;
	register long x3 __asm__("x3") = w->d;
	register long x4 __asm__("x4") = w->e;
	register long x5 __asm__("x5") = w->f;

	__asm__ volatile(".globl gn_outside_begin, gn_outside_call, gn_outside_end, gn_outside_last\n"
			 ".hidden gn_outside_begin, gn_outside_call, gn_outside_end, gn_outside_last\n"
			 "gn_outside_begin:\n"
			 "	str wzr, [%[t], %[inside]]\n"
			 "	ldr w9, [%[t], %[due]]\n"
			 "	tbnz w9, 0, 1f\n"
			 "gn_outside_call:\n"
			 "	svc #0\n"
			 "gn_outside_end:\n"
			 "	b 2f\n"
			 "1:	mov x0, %[first]\n"
			 "gn_outside_last:\n"
			 "2:	str %w[depth], [%[t], %[inside]]\n"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5), [t] "r"(t), [depth] "r"(depth),
			   [inside] "i"(offsetof(struct gn_thread, inside)), [due] "i"(offsetof(struct gn_thread, due)),
			   [first] "r"((long)SIGNALS_FIRST)
			 : "x9", "memory", "cc");
	return x0;
#endif
}

/* Handlers that were put off run; true: the call is over. */
static bool signals_first(struct gn_thread *t, enum gn_sleep_how how, long *rc)
{
	atomic_store_explicit(&t->cut, 0, memory_order_relaxed);
	gn_signals_run();
	if (how == GN_SLEEP_CALL)
		return false; /* as if they had come before the call */
	*rc = how == GN_SLEEP_EINTR || atomic_load_explicit(&t->cut, memory_order_relaxed) ? -EINTR : GN_SLEEP_AGAIN;
	return true;
}

static long call_at_last(struct gn_thread *t, enum gn_sleep_how how, const struct words *w)
{
	long rc;

	for (;;) {
		if ((atomic_load_explicit(&t->due, memory_order_relaxed) & GN_DUE_SIGNALS) && signals_first(t, how, &rc))
			return rc;
		atomic_store_explicit(&t->cut, 0, memory_order_relaxed);
		rc = call_outside(t, w);
		if (rc == -EINTR && how == GN_SLEEP_RESTART && !atomic_load_explicit(&t->cut, memory_order_relaxed))
			return GN_SLEEP_AGAIN; /* some calls never restart by themselves: ppoll */
		if (rc != SIGNALS_FIRST)
			return rc;
	}
}

static void undo(struct gn_held *held)
{
	if (held->undo)
		held->undo(held);
	if (held->count)
		atomic_fetch_sub(held->count, 1);
	if (held->seat)
		atomic_fetch_sub(held->seat, 1);
	if (held->so)
		gn_put(held->so);
}

/* The thread ends in its sleep. Frames above ours are whole still. */
static void cancelled(void *arg)
{
	struct gn_thread *t = &gn_thread;

	(void)arg;
	atomic_store_explicit(&t->async, 0, memory_order_relaxed);
	gn_inside_begin();
	while (t->held) {
		struct gn_held *held = t->held;

		t->held = held->below;
		held->lost = true; /* for all we know */
		undo(held);
	}
	atomic_store_explicit(&t->inside, 1, memory_order_relaxed);
	gn_inside_end();
}

/* As libc's own calls: while it waits in the kernel, and only there, a thread can be cancelled at any instruction. */
static long call_cancellable(struct gn_thread *t, enum gn_sleep_how how, const struct words *w)
{
	volatile long rc = 0;
	int type;

	pthread_cleanup_push(cancelled, NULL);
	atomic_store_explicit(&t->async, 1, memory_order_relaxed);
	gn_real.pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type);
	rc = call_at_last(t, how, w);
	gn_real.pthread_setcanceltype(type, NULL);
	atomic_store_explicit(&t->async, 0, memory_order_relaxed);
	pthread_cleanup_pop(0);
	return rc;
}

void gn_held_push(struct gn_held *held)
{
	held->below = gn_thread.held;
	gn_thread.held = held;
}

void gn_held_pop(struct gn_held *held)
{
	gn_thread.held = held->below;
}

long gn_sleep(enum gn_sleep_how how, struct gn_held *held, long nr, long a, long b, long c, long d, long e, long f)
{
	const struct words w = {nr, a, b, c, d, e, f};
	struct gn_thread *t = &gn_thread;
	uint32_t how_before = atomic_load_explicit(&t->how, memory_order_relaxed);
	long rc;

	if (held)
		gn_held_push(held);
	atomic_store_explicit(&t->how, how, memory_order_relaxed);
	rc = __libc_single_threaded ? call_at_last(t, how, &w) : call_cancellable(t, how, &w);
	atomic_store_explicit(&t->how, how_before, memory_order_relaxed);
	if (held)
		gn_held_pop(held);
	return rc;
}

struct gn_held gn_held_asleep(struct gn_sock *so)
{
	if (so->dgram)
		return (struct gn_held){.so = so, .count = &so->ep->sleepers};
	return (struct gn_held){.so = so, .seat = gn_seat(so)};
}

int gn_sleep_ppoll(enum gn_sleep_how how, struct gn_held *held, struct pollfd *fds, nfds_t count, const struct timespec *timeout,
		   const sigset_t *mask)
{
	struct timespec left; /* the kernel writes there */

	if (timeout)
		left = *timeout;
	return (int)gn_sleep(how, held, SYS_ppoll, (long)fds, (long)count, (long)(timeout ? &left : NULL), (long)mask, GN_SIGSET_BYTES, 0);
}

static bool within(const stack_t *s, const void *p)
{
	return (const char *)p >= (const char *)s->ss_sp && (const char *)p < (const char *)s->ss_sp + s->ss_size;
}

/* A record lies in the frame of the call that it belongs to. */
static bool is_left(const struct gn_held *held, const void *sp, const stack_t *other)
{
	if (within(other, sp) != within(other, held))
		return within(other, held); /* away from the handlers' stack; or about on it, while the other stands */
	return (const void *)held < sp;
}

void gn_frames_left(const void *sp)
{
	struct gn_thread *t = &gn_thread;
	stack_t other = {.ss_size = 0};

	/* Out of the handler of a fault in our midst. What else may be left behind is a lock: see gn_lock_slow(). */
	atomic_store_explicit(&t->inside, 1, memory_order_relaxed);
	if (!gn_world.sandboxed)
		gn_raw3(SYS_sigaltstack, 0, (long)&other, 0);
	while (t->held && is_left(t->held, sp, &other)) {
		struct gn_held *held = t->held;

		t->held = held->below;
		undo(held);
		if (atomic_exchange_explicit(&t->async, 0, memory_order_relaxed))
			gn_real.pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, NULL);
	}
	gn_inside_end();
}

void gn_seat_fork(struct gn_sock *so, _Atomic uint16_t **seat, enum gn_fork_step step)
{
	bool named = *seat != &so->unnamed; /* else nobody counts with us: the child begins anew */

	if (step == GN_FORK_BEFORE && named)
		atomic_fetch_add(*seat, 1);
	if (step == GN_FORK_CHILD)
		atomic_fetch_add(gn_seat(so), 1);
	if (step != GN_FORK_BEFORE && named)
		atomic_fetch_sub(*seat, 1);
	if (step == GN_FORK_CHILD)
		*seat = gn_seat(so);
}

void gn_count_fork(_Atomic uint32_t *count, bool own, enum gn_fork_step step)
{
	if (step == (own ? GN_FORK_CHILD : GN_FORK_BEFORE))
		atomic_fetch_add(count, 1);
	if (step == GN_FORK_FAILED && !own)
		atomic_fetch_sub(count, 1);
}

void gn_sleep_fork(enum gn_fork_step step)
{
	if (step == GN_FORK_BEFORE)
		atomic_store_explicit(&gn_thread.forks, gn_thread.forks + 1, memory_order_relaxed);
	for (struct gn_held *held = gn_thread.held; held; held = held->below) {
		if (held->so)
			gn_count_fork(&held->so->refs, true, step);
		if (held->count)
			gn_count_fork(held->count, held->own, step);
		if (held->so && held->seat)
			gn_seat_fork(held->so, &held->seat, step);
		if (held->fork)
			held->fork(held, step);
	}
}

int gn_fd_still(struct gn_sock *so, int fd)
{
	if (likely((uint32_t)fd < gn_world.table_size && atomic_load_explicit(gn_slot(fd), memory_order_acquire) == so))
		return fd;
	if (so->after >= 0)
		return so->after;
	for (uint32_t other = 0; other < gn_world.used_fds && other < gn_world.table_size; other++)
		if (atomic_load_explicit(gn_slot(other), memory_order_acquire) == so)
			return (int)other;
	return -1;
}
