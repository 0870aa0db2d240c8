/* SPDX-License-Identifier: MIT */
/* The shim: signal handlers, jumps out of them, and cancellation. Theory in sock/sleep.h and sock/signals.c. */
#include <pthread.h>
#include <setjmp.h>

#include "shim/shim.h"
#include "sock/signals.h"
#include "sock/sleep.h"

INTERPOSE(int, sigaction, (int sig, const struct sigaction *act, struct sigaction *old))
{
	gn_enter();
	return (int)gn_ret(gn_sigaction(sig, act, old));
}
ALSO(__sigaction, sigaction);

static sighandler_t or_errno(sighandler_t before, int error)
{
	if (before == SIG_ERR)
		errno = error;
	return before;
}

INTERPOSE(sighandler_t, signal, (int sig, sighandler_t handler))
{
	int error;

	gn_enter();
	handler = gn_signal_bsd(sig, handler, &error);
	return or_errno(handler, error);
}

INTERPOSE(sighandler_t, bsd_signal, (int sig, sighandler_t handler))
{
	return signal(sig, handler);
}

INTERPOSE(sighandler_t, ssignal, (int sig, sighandler_t handler))
{
	return signal(sig, handler);
}

INTERPOSE(sighandler_t, sysv_signal, (int sig, sighandler_t handler))
{
	int error;

	gn_enter();
	handler = gn_signal_sysv(sig, handler, &error);
	return or_errno(handler, error);
}

/* What <signal.h> makes of signal() in strict modes. */
sighandler_t __sysv_signal(int sig, sighandler_t handler) __attribute__((visibility("default")));
sighandler_t __sysv_signal(int sig, sighandler_t handler)
{
	return sysv_signal(sig, handler);
}

INTERPOSE(sighandler_t, sigset, (int sig, sighandler_t handler))
{
	int error;

	gn_enter();
	handler = gn_sigset(sig, handler, &error);
	return or_errno(handler, error);
}

INTERPOSE(int, siginterrupt, (int sig, int on))
{
	gn_enter();
	return (int)gn_ret(gn_siginterrupt(sig, on));
}

/* The stack pointer that a jmp_buf leads to; libc keeps it mangled. */
#if defined(__x86_64__)
static const void *stack_of(const struct __jmp_buf_tag *env)
{
	uintptr_t sp = (uintptr_t)env->__jmpbuf[6], guard;

	__asm__("movq %%fs:0x30, %0" : "=r"(guard));
	return (const void *)((sp >> 17 | sp << 47) ^ guard);
}
#elif defined(__aarch64__)
#define JB_SP 13
static const void *stack_of(const struct __jmp_buf_tag *env)
{
	static _Atomic uintptr_t guard;
	struct __jmp_buf_tag own[1];
	uintptr_t sp;

	if (!atomic_load(&guard)) { /* one of ours, whose stack pointer is known */
		_setjmp(own);
		__asm__ volatile("mov %0, sp" : "=r"(sp));
		atomic_store(&guard, (uintptr_t)own->__jmpbuf[JB_SP] ^ sp);
	}
	return (const void *)((uintptr_t)env->__jmpbuf[JB_SP] ^ atomic_load(&guard));
}
#endif

static inline void before_jump(const struct __jmp_buf_tag *env)
{
	gn_enter();
	if (unlikely(gn_thread.held || atomic_load_explicit(&gn_thread.inside, memory_order_relaxed)))
		gn_frames_left(stack_of(env));
}

INTERPOSE(_Noreturn void, longjmp, (jmp_buf env, int value))
{
	before_jump(env);
	gn_real.longjmp(env, value);
	__builtin_unreachable();
}

INTERPOSE(_Noreturn void, _longjmp, (jmp_buf env, int value))
{
	before_jump(env);
	gn_real._longjmp(env, value);
	__builtin_unreachable();
}

INTERPOSE(_Noreturn void, siglongjmp, (jmp_buf env, int value))
{
	before_jump(env);
	gn_real.siglongjmp(env, value);
	__builtin_unreachable();
}

INTERPOSE(_Noreturn void, __longjmp_chk, (jmp_buf env, int value))
{
	before_jump(env);
	gn_real.__longjmp_chk(env, value);
	__builtin_unreachable();
}

/* From now on calls that are cancellation points look whether they are to be. */
INTERPOSE(int, pthread_cancel, (pthread_t thread))
{
	gn_enter();
	atomic_store(&gn_world.ready, GN_READY_CANCEL);
	return gn_real.pthread_cancel(thread);
}

INTERPOSE(int, pthread_setcanceltype, (int type, int *old))
{
	gn_enter();
	if (type == PTHREAD_CANCEL_ASYNCHRONOUS)
		gn_thread.wants_async = 1;
	else if (type == PTHREAD_CANCEL_DEFERRED)
		gn_thread.wants_async = 0;
	return gn_real.pthread_setcanceltype(type, old);
}
