/* SPDX-License-Identifier: MIT */
/* The shim: syscall(2), the way around all the others. Numbers that the shim has a function for go to it; the rest to the kernel. */
#include <sched.h>
#include <stdarg.h>
#include <sys/ioctl.h>
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

/* vfork cannot be made through a function that returns. */
static bool forks(long nr, const struct words *w, long *rc)
{
	bool counted;

	switch (nr) {
#ifdef SYS_fork
	case SYS_fork:
		*rc = fork();
		return true;
#endif
	case SYS_clone:
		if (w->a & CLONE_VM)
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

static bool waits(long nr, const struct words *w, long *rc)
{
	switch (nr) {
#ifdef SYS_poll
	case SYS_poll:
		*rc = poll((struct pollfd *)w->a, (nfds_t)w->b, (int)w->c);
		return true;
#endif
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

INTERPOSE(long, syscall, (long nr, ...))
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
	if (nr == SYS_io_uring_setup)
		gn_before_uring();
	if (moves_bytes(nr, &w, &rc) || opens_or_closes(nr, &w, &rc) || waits(nr, &w, &rc) || forks(nr, &w, &rc))
		return rc;
	gn_begin();
	if (nr == SYS_seccomp)
		gn_before_seccomp((unsigned long)w.a, (const void *)w.c);
	if (nr == SYS_prctl)
		gn_before_prctl(w.a, (unsigned long)w.b, (const void *)w.c);
	gn_end();
	return gn_ret(gn_raw6(nr, w.a, w.b, w.c, w.d, w.e, w.f));
}
