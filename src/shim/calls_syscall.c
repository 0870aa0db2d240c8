/* SPDX-License-Identifier: MIT */
/* The shim: syscall(2), the way around all the others. Numbers that the shim has a function for go to it; the rest to the kernel. */
#include <linux/sched.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/sendfile.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "shim/shim.h"
#include "sock/signals.h"

struct words {
	long a, b, c, d, e, f;
};

/* True: the call has a function of the shim's, and *rc is what that returned. */
static bool moves_bytes(long nr, const struct words *w, long *rc)
{
	switch (nr) {
	case SYS_read:
		*rc = read((int)w->a, (void *)w->b, (size_t)w->c);
		return true;
	case SYS_write:
		*rc = write((int)w->a, (const void *)w->b, (size_t)w->c);
		return true;
	case SYS_readv:
		*rc = readv((int)w->a, (const struct iovec *)w->b, (int)w->c);
		return true;
	case SYS_writev:
		*rc = writev((int)w->a, (const struct iovec *)w->b, (int)w->c);
		return true;
	case SYS_sendto:
		*rc = sendto((int)w->a, (const void *)w->b, (size_t)w->c, (int)w->d, (const struct sockaddr *)w->e, (socklen_t)w->f);
		return true;
	case SYS_recvfrom:
		*rc = recvfrom((int)w->a, (void *)w->b, (size_t)w->c, (int)w->d, (struct sockaddr *)w->e, (socklen_t *)w->f);
		return true;
	case SYS_sendmsg:
		*rc = sendmsg((int)w->a, (const struct msghdr *)w->b, (int)w->c);
		return true;
	case SYS_recvmsg:
		*rc = recvmsg((int)w->a, (struct msghdr *)w->b, (int)w->c);
		return true;
	case SYS_sendmmsg:
		*rc = sendmmsg((int)w->a, (struct mmsghdr *)w->b, (unsigned int)w->c, (int)w->d);
		return true;
	case SYS_recvmmsg:
		*rc = recvmmsg((int)w->a, (struct mmsghdr *)w->b, (unsigned int)w->c, (int)w->d, (struct timespec *)w->e);
		return true;
	case SYS_sendfile:
		*rc = sendfile((int)w->a, (int)w->b, (off_t *)w->c, (size_t)w->d);
		return true;
	case SYS_splice:
		*rc = splice((int)w->a, (loff_t *)w->b, (int)w->c, (loff_t *)w->d, (size_t)w->e, (unsigned int)w->f);
		return true;
	case SYS_preadv2: /* of 64 bits: the position is one word, the flags are the last */
		*rc = preadv2((int)w->a, (const struct iovec *)w->b, (int)w->c, (off_t)w->d, (int)w->f);
		return true;
	case SYS_pwritev2:
		*rc = pwritev2((int)w->a, (const struct iovec *)w->b, (int)w->c, (off_t)w->d, (int)w->f);
		return true;
	default:
		return false;
	}
}

static bool opens_or_closes(long nr, const struct words *w, long *rc)
{
	switch (nr) {
	case SYS_socket:
		*rc = socket((int)w->a, (int)w->b, (int)w->c);
		return true;
	case SYS_socketpair:
		*rc = socketpair((int)w->a, (int)w->b, (int)w->c, (int *)w->d);
		return true;
	case SYS_bind:
		*rc = bind((int)w->a, (const struct sockaddr *)w->b, (socklen_t)w->c);
		return true;
	case SYS_listen:
		*rc = listen((int)w->a, (int)w->b);
		return true;
	case SYS_accept:
		*rc = accept((int)w->a, (struct sockaddr *)w->b, (socklen_t *)w->c);
		return true;
	case SYS_connect:
		*rc = connect((int)w->a, (const struct sockaddr *)w->b, (socklen_t)w->c);
		return true;
	case SYS_accept4:
		*rc = accept4((int)w->a, (struct sockaddr *)w->b, (socklen_t *)w->c, (int)w->d);
		return true;
	case SYS_shutdown:
		*rc = shutdown((int)w->a, (int)w->b);
		return true;
	case SYS_close:
		*rc = close((int)w->a);
		return true;
	case SYS_close_range:
		*rc = close_range((unsigned int)w->a, (unsigned int)w->b, (int)w->c);
		return true;
	case SYS_pidfd_getfd:
		*rc = pidfd_getfd((int)w->a, (int)w->b, (unsigned int)w->c);
		return true;
	case SYS_dup:
		*rc = dup((int)w->a);
		return true;
	case SYS_dup3:
		*rc = dup3((int)w->a, (int)w->b, (int)w->c);
		return true;
#ifdef SYS_dup2
	case SYS_dup2:
		*rc = dup2((int)w->a, (int)w->b);
		return true;
#endif
	case SYS_fcntl:
		*rc = fcntl((int)w->a, (int)w->b, w->c);
		return true;
	case SYS_ioctl:
		*rc = ioctl((int)w->a, (unsigned long)w->b, (void *)w->c);
		return true;
	default:
		return false;
	}
}

static bool tells(long nr, const struct words *w, long *rc)
{
	switch (nr) {
	case SYS_getsockname:
		*rc = getsockname((int)w->a, (struct sockaddr *)w->b, (socklen_t *)w->c);
		return true;
	case SYS_getpeername:
		*rc = getpeername((int)w->a, (struct sockaddr *)w->b, (socklen_t *)w->c);
		return true;
	case SYS_getsockopt:
		*rc = getsockopt((int)w->a, (int)w->b, (int)w->c, (void *)w->d, (socklen_t *)w->e);
		return true;
	case SYS_setsockopt:
		*rc = setsockopt((int)w->a, (int)w->b, (int)w->c, (const void *)w->d, (socklen_t)w->e);
		return true;
	case SYS_fgetxattr:
		*rc = fgetxattr((int)w->a, (const char *)w->b, (void *)w->c, (size_t)w->d);
		return true;
	default:
		return false;
	}
}

static bool enters_namespaces(long nr, const struct words *w, long *rc)
{
	switch (nr) {
	case SYS_unshare:
		*rc = unshare((int)w->a);
		return true;
	case SYS_setns:
		*rc = setns((int)w->a, (int)w->b);
		return true;
	default:
		return false;
	}
}

static bool execs(long nr, const struct words *w, long *rc)
{
	switch (nr) {
	case SYS_execve:
		*rc = execve((const char *)w->a, (char *const *)w->b, (char *const *)w->c);
		return true;
	case SYS_execveat:
		*rc = execveat((int)w->a, (const char *)w->b, (char *const *)w->c, (char *const *)w->d, (int)w->e);
		return true;
	default:
		return false;
	}
}

/* vfork cannot be made through a function that returns. */
static bool forks(long nr, const struct words *w, long *rc)
{
	uint64_t flags;
	bool counted;

	switch (nr) {
#ifdef SYS_fork
	case SYS_fork:
		*rc = fork();
		return true;
#endif
	case SYS_clone:
	case SYS_clone3:
		if (nr == SYS_clone3 && gn_is_nowhere((const void *)w->a, 1))
			return false; /* who asks whether there is such a call */
		flags = nr == SYS_clone ? (uint64_t)w->a : ((const struct clone_args *)w->a)->flags;
		gn_shim_before_clone(flags);
		if (flags & CLONE_VM)
			return false;
		counted = gn_fork_begin();
		*rc = gn_raw6(nr, w->a, w->b, w->c, w->d, w->e, 0);
		if (counted && *rc == 0)
			gn_fork_child();
		else if (counted)
			gn_fork_parent(*rc < 0);
		*rc = gn_ret(*rc);
		return true;
	default:
		return false;
	}
}

/* By number, what is left of the time is written back: select(2). */
static long with_time_left(struct timespec *left, uint64_t begun_ns, struct timespec was, long rc)
{
	uint64_t past = gn_now_ns() - begun_ns, all = (uint64_t)was.tv_sec * GN_NS_PER_S + (uint64_t)was.tv_nsec;

	if (left && (rc >= 0 || errno == EINTR))
		*left = gn_timespec(all > past ? all - past : 0);
	return rc;
}

static long ppoll_number(const struct words *w)
{
	struct timespec *left = (struct timespec *)w->c, was = left ? *left : (struct timespec){0};
	uint64_t now = gn_now_ns();

	return with_time_left(left, now, was, ppoll((struct pollfd *)w->a, (nfds_t)w->b, left, (const sigset_t *)w->d));
}

static long pselect_number(const struct words *w)
{
	struct timespec *left = (struct timespec *)w->e, was = left ? *left : (struct timespec){0};
	const struct {
		const sigset_t *mask;
		size_t size;
	} *last = (const void *)w->f;
	uint64_t now = gn_now_ns();

	return with_time_left(left, now, was, pselect((int)w->a, (fd_set *)w->b, (fd_set *)w->c, (fd_set *)w->d, left, last ? last->mask : NULL));
}

static bool waits(long nr, const struct words *w, long *rc)
{
	switch (nr) {
#ifdef SYS_poll
	case SYS_poll:
		*rc = poll((struct pollfd *)w->a, (nfds_t)w->b, (int)w->c);
		return true;
#endif
	case SYS_ppoll:
		*rc = ppoll_number(w);
		return true;
#ifdef SYS_select
	case SYS_select:
		*rc = select((int)w->a, (fd_set *)w->b, (fd_set *)w->c, (fd_set *)w->d, (struct timeval *)w->e);
		return true;
#endif
	case SYS_pselect6:
		*rc = pselect_number(w);
		return true;
#ifdef SYS_epoll_create
	case SYS_epoll_create:
		*rc = epoll_create((int)w->a);
		return true;
#endif
	case SYS_epoll_create1:
		*rc = epoll_create1((int)w->a);
		return true;
	case SYS_epoll_ctl:
		*rc = epoll_ctl((int)w->a, (int)w->b, (int)w->c, (struct epoll_event *)w->d);
		return true;
#ifdef SYS_epoll_wait
	case SYS_epoll_wait:
		*rc = epoll_wait((int)w->a, (struct epoll_event *)w->b, (int)w->c, (int)w->d);
		return true;
#endif
	case SYS_epoll_pwait:
		*rc = epoll_pwait((int)w->a, (struct epoll_event *)w->b, (int)w->c, (int)w->d, (const sigset_t *)w->e);
		return true;
	case SYS_epoll_pwait2:
		*rc = epoll_pwait2((int)w->a, (struct epoll_event *)w->b, (int)w->c, (const struct timespec *)w->d, (const sigset_t *)w->e);
		return true;
	default:
		return false;
	}
}

static bool sets_handlers(long nr, const struct words *w, long *rc)
{
	if (nr != SYS_rt_sigaction)
		return false;
	*rc = gn_ret(gn_sigaction_raw((int)w->a, (const struct gn_kernel_action *)w->b, (struct gn_kernel_action *)w->c, (size_t)w->d));
	return true;
}

/* All six words are taken, as by libc's own: the last of fewer is whatever lies in the caller's frame. */
__attribute__((no_sanitize("address"))) INTERPOSE(long, syscall, (long nr, ...))
{
	struct words w;
	va_list args;
	long rc;

	va_start(args, nr);
	w.a = va_arg(args, long);
	w.b = va_arg(args, long);
	w.c = va_arg(args, long);
	w.d = va_arg(args, long);
	w.e = va_arg(args, long);
	w.f = va_arg(args, long);
	va_end(args);
	gn_enter();
	if (sets_handlers(nr, &w, &rc))
		return rc;
	if (unlikely(gn_world.sandboxed))
		return gn_ret(gn_raw6(nr, w.a, w.b, w.c, w.d, w.e, w.f));
	if (nr == SYS_io_uring_setup && gn_before_uring() < 0)
		return gn_ret(-ENOSYS);
	if (moves_bytes(nr, &w, &rc) || opens_or_closes(nr, &w, &rc) || tells(nr, &w, &rc) || waits(nr, &w, &rc) || forks(nr, &w, &rc) ||
	    execs(nr, &w, &rc) || enters_namespaces(nr, &w, &rc))
		return rc;
	gn_begin();
	if (nr == SYS_seccomp)
		gn_before_seccomp((unsigned long)w.a, (const void *)w.c);
	if (nr == SYS_prctl)
		gn_before_prctl(w.a, (unsigned long)w.b, (const void *)w.c);
	gn_end();
	return gn_ret(gn_raw6(nr, w.a, w.b, w.c, w.d, w.e, w.f));
}
