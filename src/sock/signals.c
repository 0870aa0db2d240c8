/* SPDX-License-Identifier: MIT */
/*
 * The program's signal handlers, each behind trampoline(), which puts a signal off that comes while its thread is inside (sleep.h).
 *
 * Putting off: the signal is queued again for this very thread with all that came with it (rt_tgsigqueueinfo(2)), and every signal is
 * blocked in the mask that the thread has after the handler's return. On leaving, the mask of before comes back and the kernel
 * delivers, so that masks, stacks and arguments are its own. A real-time signal would come behind those of its number that are queued
 * already, so it is kept instead, and its handler called first. Faults are never put off: their handlers are not behind ours.
 *
 * What the program asks back is what it set: the kernel knows whether a handler is set, and the flags; the table knows which one.
 * SA_RESETHAND is done here, for the kernel would forget the handler of a signal that is only put off.
 *
 * Threads/owner: `setting` for writers of the table; handlers read it without.
 */
#include "sock/signals.h"

#include <string.h>
#include <ucontext.h>

#include "sock/inside.h"
#include "sock/sleep.h"

#define SIGNALS 65 /* the kernel's are 1 to 64 */
#define MINE (SA_SIGINFO | (unsigned int)SA_RESETHAND) /* flags that the kernel is not told as the program said them; in a sandbox it is */
#define INTERNAL 0x300000000ull /* the mask bits of 32 and 33: libc's own, which it does not block */

static GN_BULK struct {
	_Atomic uintptr_t handler;
	_Atomic uint32_t flags;
	_Atomic uint32_t shots; /* SA_RESETHAND: how often it may run still */
} actions[SIGNALS];

static _Atomic uint32_t setting;
static _Atomic uint64_t interrupts; /* siginterrupt(): signals whose handlers, set by signal(), do not restart calls */

static void trampoline(int sig, siginfo_t *info, void *context);

extern const char gn_outside_begin[], gn_outside_call[], gn_outside_end[], gn_outside_last[];

static uint64_t bit(int sig)
{
	return 1ull << (sig - 1);
}

static bool is_fault(int sig)
{
	return sig == SIGSEGV || sig == SIGBUS || sig == SIGFPE || sig == SIGILL || sig == SIGTRAP || sig == SIGSYS;
}

#define FAULTS (bit(SIGSEGV) | bit(SIGBUS) | bit(SIGFPE) | bit(SIGILL) | bit(SIGTRAP) | bit(SIGSYS))

/* The kernel's part of a mask; libc's type is longer. */
static uint64_t mask_of(const sigset_t *set)
{
	uint64_t mask;

	memcpy(&mask, set, sizeof mask);
	return mask;
}

static void put_off(int sig, siginfo_t *info, ucontext_t *context)
{
	struct gn_thread *t = &gn_thread;
	uint64_t before = mask_of(&context->uc_sigmask), all = ~(FAULTS | INTERNAL) | before;
	pid_t pid = gn_sys_getpid(), tid = (pid_t)gn_sys_gettid();

	/* One that interrupts another's putting off sees a larger mask: what both leave open counts. */
	atomic_store_explicit(&t->mask, atomic_load_explicit(&t->mask, memory_order_relaxed) & before, memory_order_relaxed);
	atomic_store_explicit(&t->due, atomic_load_explicit(&t->due, memory_order_relaxed) | GN_DUE_SIGNALS, memory_order_relaxed);
	memcpy(&context->uc_sigmask, &all, sizeof all);
	if (sig >= SIGRTMIN && t->kept_count < GN_KEPT) {
		t->kept[t->kept_count] = *info;
		t->kept_count++;
		return;
	}
	if (gn_raw6(SYS_rt_tgsigqueueinfo, pid, tid, sig, (long)info, 0, 0) < 0)
		gn_sys_tgkill(pid, tid, sig);
}

/* As the kernel would, but on this stack; the mask of before comes back when all are done. */
static void run_kept(struct gn_thread *t, uint64_t mask)
{
	siginfo_t info = t->kept[0];
	struct sigaction act;
	uint64_t now;
	ucontext_t context;

	t->kept_count--;
	memmove(&t->kept[0], &t->kept[1], t->kept_count * sizeof info);
	if (gn_real.sigaction(info.si_signo, NULL, &act) < 0 || act.sa_sigaction != trampoline)
		return; /* ignored by now */
	now = mask | mask_of(&act.sa_mask) | (act.sa_flags & SA_NODEFER ? 0 : bit(info.si_signo));
	getcontext(&context);
	memcpy(&context.uc_sigmask, &mask, sizeof mask);
	gn_sys_sigprocmask(SIG_SETMASK, (const sigset_t *)(const void *)&now, NULL);
	trampoline(info.si_signo, &info, &context);
}

void gn_signals_run(void)
{
	struct gn_thread *t = &gn_thread;
	uint64_t mask = atomic_exchange_explicit(&t->mask, UINT64_MAX, memory_order_relaxed);
	uint32_t depth = atomic_load_explicit(&t->inside, memory_order_relaxed);

	atomic_store_explicit(&t->due, atomic_load_explicit(&t->due, memory_order_relaxed) & ~GN_DUE_SIGNALS, memory_order_relaxed);
	atomic_store_explicit(&t->inside, 0, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst);
	while (t->kept_count)
		run_kept(t, mask);
	gn_sys_sigprocmask(SIG_SETMASK, (const sigset_t *)(const void *)&mask, NULL);
	atomic_signal_fence(memory_order_seq_cst);
	atomic_store_explicit(&t->inside, depth, memory_order_relaxed);
}

void gn_leave_slow(void)
{
	struct gn_thread *t = &gn_thread;
	uint32_t due = atomic_load_explicit(&t->due, memory_order_relaxed);

	if (due & GN_DUE_SIGNALS)
		gn_signals_run();
	if (due & GN_DUE_ASYNC) {
		atomic_store_explicit(&t->due, atomic_load_explicit(&t->due, memory_order_relaxed) & ~GN_DUE_ASYNC, memory_order_relaxed);
		gn_real.pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	}
}

static uintptr_t pc_of(const ucontext_t *context)
{
#if defined(__x86_64__)
	return (uintptr_t)context->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
	return context->uc_mcontext.pc;
#endif
}

/* Has the kernel done what it was called for, in part or whole, and the thread not yet taken the result? */
static bool result_waits(const ucontext_t *context)
{
#if defined(__x86_64__)
	long rc = (long)context->uc_mcontext.gregs[REG_RAX];
#elif defined(__aarch64__)
	long rc = (long)context->uc_mcontext.regs[0];
#endif
	uintptr_t pc = pc_of(context);

	return (pc == (uintptr_t)gn_outside_end || pc == (uintptr_t)gn_outside_last) && rc >= 0;
}

/* Between the last look for work and the system call that would wait for some? [SIG-2] Then the thread goes past that call. */
static void end_the_wait(ucontext_t *context, uint32_t how, bool restart)
{
	uintptr_t pc = pc_of(context);

	if (how == GN_SLEEP_CALL || (how == GN_SLEEP_RESTART && restart) || pc < (uintptr_t)gn_outside_begin || pc > (uintptr_t)gn_outside_call)
		return;
#if defined(__x86_64__)
	context->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)gn_outside_end;
	context->uc_mcontext.gregs[REG_RAX] = -EINTR;
#elif defined(__aarch64__)
	context->uc_mcontext.pc = (uintptr_t)gn_outside_end;
	context->uc_mcontext.regs[0] = (uint64_t)-EINTR;
#endif
}

/* No calls of ours any more: the kernel is told of the handlers that it is to take away itself. Nothing is put off from here on. */
void gn_signals_sandbox(void)
{
	struct sigaction act;

	gn_lock(&setting);
	for (int sig = 1; sig < SIGNALS; sig++) {
		if (!(atomic_load(&actions[sig].flags) & (uint32_t)SA_RESETHAND) || !atomic_load(&actions[sig].shots))
			continue;
		if (gn_real.sigaction(sig, NULL, &act) < 0 || act.sa_sigaction != trampoline)
			continue;
		act.sa_flags |= (int)SA_RESETHAND;
		gn_real.sigaction(sig, &act, NULL);
	}
	gn_unlock(&setting);
}

/* The kernel's order: first the default is back, then the handler runs. False: another thread had the one shot. */
static bool shot_taken(int sig)
{
	struct sigaction dfl = {.sa_handler = SIG_DFL, .sa_flags = (int)atomic_load(&actions[sig].flags)};
	uint32_t one = 1;

	if (!atomic_compare_exchange_strong(&actions[sig].shots, &one, 0))
		return false;
	gn_real.sigaction(sig, &dfl, NULL);
	return true;
}

/* While the program's handler runs, the thread is no longer one that may be cancelled at any instruction: the handler may call us. */
static void run(int sig, siginfo_t *info, void *context, uintptr_t handler)
{
	struct gn_thread *t = &gn_thread;
	uint32_t async = atomic_exchange_explicit(&t->async, 0, memory_order_relaxed);
	struct gn_held *held = result_waits(context) ? t->held : NULL;

	if (async)
		gn_real.pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, NULL);
	if (unlikely(held))
		held->lost = true; /* should the handler jump out */
	((void (*)(int, siginfo_t *, void *))handler)(sig, info, context);
	if (unlikely(held))
		held->lost = false;
	if (async) {
		atomic_store_explicit(&t->async, 1, memory_order_relaxed);
		gn_real.pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	}
}

static void trampoline(int sig, siginfo_t *info, void *context)
{
	struct gn_thread *t = &gn_thread;
	uintptr_t handler = atomic_load(&actions[sig].handler);
	uint32_t flags = atomic_load(&actions[sig].flags), how = atomic_load_explicit(&t->how, memory_order_relaxed);
	uint32_t forks = atomic_load_explicit(&t->forks, memory_order_relaxed);

	/* In a sandbox the calls for that may be forbidden; what is left to us there holds a lock seldom, and a thread's own lock is no
	 * obstacle to it (gn_lock_slow). */
	if (atomic_load_explicit(&t->inside, memory_order_relaxed) && !gn_world.sandboxed) {
		put_off(sig, info, context);
		return;
	}
	if ((flags & (uint32_t)SA_RESETHAND) && !gn_world.sandboxed && !shot_taken(sig)) {
		gn_sys_tgkill(gn_sys_getpid(), (pid_t)gn_sys_gettid(), sig); /* for what is set now */
		return;
	}
	run(sig, info, context, handler);
	if (!(flags & SA_RESTART))
		atomic_store_explicit(&t->cut, 1, memory_order_relaxed);
	/* Where two are in one sleep now, both begin it anew: it is another one beside others (sleep_in() in wait.c). */
	end_the_wait(context, how, (flags & SA_RESTART) && atomic_load_explicit(&t->forks, memory_order_relaxed) == forks);
}

static bool is_handler(uintptr_t h)
{
	return h != (uintptr_t)SIG_DFL && h != (uintptr_t)SIG_IGN;
}

/* A child of vfork has actions of its own in the kernel, and its parent's memory. */
static bool is_ours(int sig)
{
	return sig > 0 && sig < SIGNALS && !is_fault(sig) && sig != 32 && sig != 33 && sig != SIGKILL && sig != SIGSTOP && !gn_is_vfork_child();
}

struct setting {
	uintptr_t handler;
	uint32_t flags;
};

/* Into the table before the kernel knows: what comes meanwhile has a handler. */
static struct setting table_set(int sig, uintptr_t handler, uint32_t flags)
{
	struct setting before = {atomic_load(&actions[sig].handler), atomic_load(&actions[sig].flags)};

	if (!is_handler(handler))
		return before;
	atomic_store(&actions[sig].flags, flags);
	atomic_store(&actions[sig].shots, 1);
	atomic_store(&actions[sig].handler, handler);
	return before;
}

static uint32_t kernel_flags(uint32_t flags)
{
	return (gn_world.sandboxed ? flags : flags & ~MINE) | (uint32_t)SA_SIGINFO;
}

int gn_sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	struct sigaction now, was;
	struct setting before;
	int rc;

	if (!is_ours(sig)) {
		rc = (int)gn_neg(gn_real.sigaction(sig, act, old));
		if (rc == 0 && old && old->sa_sigaction == trampoline)
			old->sa_handler = (sighandler_t)atomic_load(&actions[sig].handler);
		return rc;
	}
	gn_inside_begin();
	gn_lock(&setting);
	if (act) {
		now = *act;
		if (is_handler((uintptr_t)now.sa_handler)) {
			now.sa_flags = (int)kernel_flags((uint32_t)now.sa_flags);
			now.sa_sigaction = trampoline;
		}
	}
	before = act ? table_set(sig, (uintptr_t)act->sa_handler, (uint32_t)act->sa_flags) : table_set(sig, 0, 0);
	rc = (int)gn_neg(gn_real.sigaction(sig, act ? &now : NULL, &was));
	if (rc == 0 && old) {
		*old = was;
		if (was.sa_sigaction == trampoline) {
			old->sa_handler = (sighandler_t)before.handler;
			old->sa_flags = (int)(((uint32_t)was.sa_flags & ~MINE) | (before.flags & MINE));
		}
	}
	gn_unlock(&setting);
	gn_inside_end();
	return rc;
}

/* For syscall(SYS_rt_sigaction): the program brings its own way back from handlers. */
int gn_sigaction_raw(int sig, const struct gn_kernel_action *act, struct gn_kernel_action *old, size_t size)
{
	struct gn_kernel_action now, was;
	struct setting before;
	int rc;

	if (!is_ours(sig) || size != (size_t)GN_SIGSET_BYTES)
		return (int)gn_raw6(SYS_rt_sigaction, sig, (long)act, (long)old, (long)size, 0, 0);
	gn_inside_begin();
	gn_lock(&setting);
	if (act) {
		now = *act;
		if (is_handler(now.handler)) {
			now.flags = kernel_flags((uint32_t)now.flags);
			now.handler = (uintptr_t)trampoline;
		}
	}
	before = act ? table_set(sig, act->handler, (uint32_t)act->flags) : table_set(sig, 0, 0);
	rc = (int)gn_raw6(SYS_rt_sigaction, sig, (long)(act ? &now : NULL), (long)&was, (long)size, 0, 0);
	if (rc == 0 && old) {
		*old = was;
		if (was.handler == (uintptr_t)trampoline) {
			old->handler = before.handler;
			old->flags = (was.flags & ~(unsigned long)MINE) | (before.flags & MINE);
		}
	}
	gn_unlock(&setting);
	gn_inside_end();
	return rc;
}

/* A child of fork: who held the lock in the parent is not here. */
void gn_signals_forked(void)
{
	atomic_store(&setting, 0);
	gn_thread.kept_count = 0; /* pending signals are not inherited: fork(2) */
}

static sighandler_t set_simply(int sig, sighandler_t handler, int flags, uint64_t mask, int *error)
{
	struct sigaction act = {.sa_flags = flags}, old = {0};
	int rc = -EINVAL;

	memcpy(&act.sa_mask, &mask, sizeof mask);
	act.sa_handler = handler;
	if (handler != SIG_ERR && sig > 0 && sig < SIGNALS)
		rc = gn_sigaction(sig, &act, &old);
	*error = -rc;
	return rc < 0 ? SIG_ERR : old.sa_handler;
}

sighandler_t gn_signal_bsd(int sig, sighandler_t handler, int *error)
{
	uint64_t self = sig > 0 && sig < SIGNALS ? bit(sig) : 0;

	return set_simply(sig, handler, atomic_load(&interrupts) & self ? 0 : SA_RESTART, self, error);
}

sighandler_t gn_signal_sysv(int sig, sighandler_t handler, int *error)
{
	return set_simply(sig, handler, (int)(SA_ONESHOT | SA_NOMASK | SA_INTERRUPT), 0, error);
}

int gn_siginterrupt(int sig, int on)
{
	struct sigaction act = {0};
	int rc = gn_sigaction(sig, NULL, &act);

	if (rc < 0)
		return rc;
	if (on) {
		atomic_fetch_or(&interrupts, bit(sig));
		act.sa_flags &= ~SA_RESTART;
	} else {
		atomic_fetch_and(&interrupts, ~bit(sig));
		act.sa_flags |= SA_RESTART;
	}
	return gn_sigaction(sig, &act, NULL);
}

/* sigset(3): SIG_HOLD blocks the signal, anything else unblocks it; what comes back tells whether it was blocked. */
sighandler_t gn_sigset(int sig, sighandler_t handler, int *error)
{
	uint64_t self = sig > 0 && sig < SIGNALS ? bit(sig) : 0, before = 0;
	struct sigaction act;
	sighandler_t was = SIG_ERR;

	*error = EINVAL;
	if (handler == SIG_ERR || !self)
		return SIG_ERR;
	if (handler == SIG_HOLD) {
		gn_sys_sigprocmask(SIG_BLOCK, (const sigset_t *)(const void *)&self, (sigset_t *)(void *)&before);
		if (!(before & self) && gn_sigaction(sig, NULL, &act) == 0)
			was = act.sa_handler;
		return before & self ? SIG_HOLD : was;
	}
	was = set_simply(sig, handler, 0, 0, error);
	if (was == SIG_ERR)
		return was;
	gn_sys_sigprocmask(SIG_UNBLOCK, (const sigset_t *)(const void *)&self, (sigset_t *)(void *)&before);
	return before & self ? SIG_HOLD : was;
}
