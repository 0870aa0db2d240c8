/* SPDX-License-Identifier: MIT */
/* The shim: processes, and libc's ways to a descriptor that do not pass through the shim's other calls. */
#include <dlfcn.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "shim/shim.h"

INTERPOSE(pid_t, fork, (void))
{
	gn_enter();
	return gn_fork(gn_real.fork);
}
ALSO(__fork, fork);

INTERPOSE(pid_t, _Fork, (void))
{
	gn_enter();
	return gn_fork(gn_real._Fork);
}

/* vfork returns twice on one stack, so nothing may stand between it and its caller: note that our memory is lent, and jump. Where to is looked for
 * at the first call, which may come from another library's constructor, before ours. */
extern void *gn_real_vfork;
__attribute__((visibility("hidden"))) void *gn_real_vfork;

void gn_vfork_begin(void);
__attribute__((visibility("hidden"))) void gn_vfork_begin(void)
{
	gn_enter();
	GN_INSIDE;
	if (!gn_real_vfork)
		gn_real_vfork = dlsym(RTLD_NEXT, "vfork");
	gn_lend(false);
}

__asm__(".text\n"
	".globl vfork, __vfork\n"
	".type vfork, @function\n"
	".type __vfork, @function\n"
	"__vfork:\n"
	"vfork:\n"
#if defined(__x86_64__)
	"	endbr64\n"
	"	subq $8, %rsp\n"
	"	call gn_vfork_begin\n"
	"	addq $8, %rsp\n"
	"	jmp *gn_real_vfork(%rip)\n"
#elif defined(__aarch64__)
	"	stp x29, x30, [sp, #-16]!\n"
	"	bl gn_vfork_begin\n"
	"	ldp x29, x30, [sp], #16\n"
	"	adrp x1, gn_real_vfork\n"
	"	ldr x1, [x1, #:lo12:gn_real_vfork]\n"
	"	br x1\n"
#endif
	".size vfork, . - vfork\n");

/* Before this thread enters namespaces. */
static void net_moves(int flags)
{
	GN_INSIDE;
	gn_net_moves(flags);
}

void gn_shim_before_clone(uint64_t flags)
{
	GN_INSIDE;
	gn_net_moves((int)flags);
	if ((flags & CLONE_VM) && !(flags & CLONE_THREAD))
		gn_lend(!(flags & CLONE_VFORK));
}

struct clone_child {
	int (*main)(void *);
	void *arg;
};

static int clone_main(void *arg)
{
	struct clone_child child = *(struct clone_child *)arg;

	gn_fork_child();
	return child.main(child.arg);
}

/* With memory of its own the child is as forked; with ours it is a thread, or as vforked. */
INTERPOSE(int, clone, (int (*main)(void *), void *stack, int flags, void *arg, ...))
{
	struct clone_child child = {main, arg};
	va_list args;
	pid_t *parent_tid, *child_tid;
	bool counted = false;
	void *tls;
	int rc;

	va_start(args, arg);
	parent_tid = va_arg(args, pid_t *);
	tls = va_arg(args, void *);
	child_tid = va_arg(args, pid_t *);
	va_end(args);
	gn_enter();
	gn_shim_before_clone((unsigned int)flags);
	if (!(flags & CLONE_VM))
		counted = gn_fork_begin();
	if (counted)
		rc = gn_real.clone(clone_main, stack, flags, &child, parent_tid, tls, child_tid);
	else
		rc = gn_real.clone(main, stack, flags, arg, parent_tid, tls, child_tid);
	if (counted)
		gn_fork_parent(rc < 0);
	return rc;
}
ALSO(__clone, clone);

INTERPOSE(int, unshare, (int flags))
{
	gn_enter();
	net_moves(flags);
	return gn_real.unshare(flags);
}

/* The type may be left out, and with a pidfd there are several. */
INTERPOSE(int, setns, (int fd, int type))
{
	gn_enter();
	net_moves(type ? type : CLONE_NEWNET);
	return gn_real.setns(fd, type);
}

/* stdio reads and writes below the shim: what it is opened on stays in the kernel lane. [LANE-4] */
INTERPOSE(FILE *, fdopen, (int fd, const char *mode))
{
	struct gn_sock *so = gn_fd_get(fd);
	int rc = 0;

	if (so) {
		rc = gn_leave_to_libc(so, fd, GN_WHY_STDIO);
		gn_fd_put(so);
	}
	return gn_ret(rc) < 0 ? NULL : gn_real.fdopen(fd, mode);
}
ALSO(_IO_fdopen, fdopen);

INTERPOSE(int, fclose, (FILE *file))
{
	gn_enter();
	if (file) {
		GN_INSIDE;
		gn_forget(fileno(file));
	}
	return gn_real.fclose(file);
}
ALSO(_IO_fclose, fclose);

INTERPOSE(int, vdprintf, (int fd, const char *format, va_list args))
{
	struct gn_sock *so = gn_fd_get(fd);

	if (so) {
		gn_pin(so, fd, GN_WHY_STDIO);
		gn_fd_put(so);
	}
	return gn_real.vdprintf(fd, format, args);
}

INTERPOSE(int, dprintf, (int fd, const char *format, ...))
{
	va_list args;
	int rc;

	va_start(args, format);
	rc = vdprintf(fd, format, args);
	va_end(args);
	return rc;
}

INTERPOSE(int, __vdprintf_chk, (int fd, int flag, const char *format, va_list args))
{
	struct gn_sock *so = gn_fd_get(fd);

	if (so) {
		gn_pin(so, fd, GN_WHY_STDIO);
		gn_fd_put(so);
	}
	return gn_real.__vdprintf_chk(fd, flag, format, args);
}

INTERPOSE(int, __dprintf_chk, (int fd, int flag, const char *format, ...))
{
	va_list args;
	int rc;

	va_start(args, format);
	rc = __vdprintf_chk(fd, flag, format, args);
	va_end(args);
	return rc;
}

INTERPOSE(_Noreturn void, _exit, (int status))
{
	gn_enter();
	gn_begin();
	gn_stats_print();
	gn_end();
	gn_real._exit(status);
	abort();
}

INTERPOSE(_Noreturn void, _Exit, (int status))
{
	_exit(status);
}

/* libc's own puts /dev/null on 0, 1 and 2 without calling our dup2. */
INTERPOSE(int, daemon, (int nochdir, int noclose))
{
	pid_t pid;

	gn_enter();
	pid = gn_fork(gn_real.fork);
	if (pid < 0)
		return -1;
	if (pid > 0)
		_exit(0);
	GN_INSIDE;
	return (int)gn_ret(gn_daemon(nochdir, noclose));
}
