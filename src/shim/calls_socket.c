/* SPDX-License-Identifier: MIT */
/* The shim: calls that open, name, connect and close sockets. One thin function per libc symbol. */
#include <fcntl.h>
#include <unistd.h>

#include "shim/shim.h"

INTERPOSE(int, socket, (int domain, int type, int protocol))
{
	gn_enter();
	GN_INSIDE;
	return (int)gn_ret(gn_socket(domain, type, protocol));
}

INTERPOSE(int, socketpair, (int domain, int type, int protocol, int fd[2]))
{
	int rc;

	gn_enter();
	GN_INSIDE;
	rc = gn_real.socketpair(domain, type, protocol, fd);
	if (rc == 0)
		gn_opened_pair(fd, domain, type, protocol);
	return rc;
}

INTERPOSE(int, bind, (int fd, const struct sockaddr *addr, socklen_t len))
{
	struct gn_sock *so = gn_fd_get(fd);
	int rc;

	if (!so)
		return gn_real.bind(fd, addr, len);
	rc = gn_bind(so, fd, addr, len);
	gn_fd_put(so);
	return (int)gn_ret(rc);
}

INTERPOSE(int, bindresvport, (int fd, struct sockaddr_in *addr))
{
	struct gn_sock *so = gn_fd_get(fd);
	int rc;

	if (!so)
		return gn_real.bindresvport(fd, addr);
	rc = gn_bind_reserved(so, fd, addr);
	gn_fd_put(so);
	return (int)gn_ret(rc);
}

INTERPOSE(int, connect, (int fd, const struct sockaddr *addr, socklen_t len))
{
	struct gn_sock *so;
	int rc;

	gn_enter_point();
	so = gn_fd_find_early(fd);
	if (!so)
		return gn_real.connect(fd, addr, len);
	rc = gn_connect(so, fd, addr, len);
	gn_fd_put(so);
	return (int)gn_ret(rc);
}
ALSO(__connect, connect);

INTERPOSE(int, listen, (int fd, int backlog))
{
	struct gn_sock *so = gn_fd_get(fd);
	int rc;

	if (!so)
		return gn_real.listen(fd, backlog);
	rc = gn_listen(so, fd, backlog);
	gn_fd_put(so);
	return (int)gn_ret(rc);
}

INTERPOSE(int, accept4, (int fd, struct sockaddr *addr, socklen_t *len, int flags))
{
	struct gn_sock *so = gn_listener_get(fd);
	int rc;

	if (!so)
		return gn_real.accept4(fd, addr, len, flags);
	rc = gn_accept(so, fd, addr, len, flags);
	gn_fd_put(so);
	return (int)gn_ret(rc);
}

INTERPOSE(int, accept, (int fd, struct sockaddr *addr, socklen_t *len))
{
	gn_enter();
	return gn_world.sandboxed ? gn_real.accept(fd, addr, len) : accept4(fd, addr, len, 0);
}

INTERPOSE(int, shutdown, (int fd, int how))
{
	struct gn_sock *so = gn_fd_get(fd);
	int rc;

	if (!so)
		return gn_real.shutdown(fd, how);
	rc = gn_shutdown(so, fd, how);
	gn_fd_put(so);
	return (int)gn_ret(rc);
}

INTERPOSE(int, getsockname, (int fd, struct sockaddr *addr, socklen_t *len))
{
	struct gn_sock *so = gn_fd_known(fd);
	int rc;

	if (!so)
		return gn_real.getsockname(fd, addr, len);
	rc = gn_getname(so, fd, addr, len, false);
	gn_fd_put(so);
	return (int)gn_ret(rc);
}

INTERPOSE(int, getpeername, (int fd, struct sockaddr *addr, socklen_t *len))
{
	struct gn_sock *so = gn_fd_known(fd);
	int rc;

	if (!so)
		return gn_real.getpeername(fd, addr, len);
	rc = gn_getname(so, fd, addr, len, true);
	gn_fd_put(so);
	return (int)gn_ret(rc);
}

INTERPOSE(int, getsockopt, (int fd, int level, int name, void *value, socklen_t *len))
{
	struct gn_sock *so = gn_fd_known(fd);
	int rc;

	if (!so)
		return gn_real.getsockopt(fd, level, name, value, len);
	rc = gn_getsockopt(so, fd, level, name, value, len);
	gn_fd_put(so);
	return (int)gn_ret(rc);
}

static bool option_is_early(int fd, int level, int name, const void *value, socklen_t len)
{
	GN_INSIDE;
	return gn_setsockopt_early(fd, level, name, value, len);
}

INTERPOSE(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t len))
{
	struct gn_sock *so;
	int rc;

	gn_enter();
	if (unlikely(atomic_load_explicit(&gn_world.early, memory_order_relaxed)) && option_is_early(fd, level, name, value, len))
		return 0;
	so = gn_fd_known(fd);
	if (!so)
		return gn_real.setsockopt(fd, level, name, value, len);
	rc = gn_setsockopt(so, fd, level, name, value, len);
	gn_fd_put(so);
	return (int)gn_ret(rc);
}

INTERPOSE(int, close, (int fd))
{
	int rc;

	gn_enter_point();
	gn_begin();
	rc = gn_close(fd);
	gn_end();
	return (int)gn_ret(rc);
}
ALSO(__close, close);

INTERPOSE(int, close_range, (unsigned int first, unsigned int last, int flags))
{
	int rc;

	gn_enter();
	gn_begin();
	rc = gn_close_range(first, last, flags);
	gn_end();
	return (int)gn_ret(rc);
}

INTERPOSE(void, closefrom, (int first))
{
	gn_enter();
	GN_INSIDE;
	gn_close_range(first < 0 ? 0 : (unsigned int)first, ~0u, 0);
}

INTERPOSE(int, dup, (int fd))
{
	gn_enter();
	if (gn_is_hidden(fd))
		return (int)gn_ret(-EBADF);
	GN_INSIDE;
	return (int)gn_ret(gn_dup(fd, GN_DUP, 0));
}

INTERPOSE(int, dup2, (int from, int to))
{
	int rc;

	gn_enter();
	gn_begin();
	rc = gn_dup2(from, to, 0, false);
	gn_end();
	return (int)gn_ret(rc);
}
ALSO(__dup2, dup2);

INTERPOSE(int, dup3, (int from, int to, int flags))
{
	int rc;

	gn_enter();
	gn_begin();
	rc = gn_dup2(from, to, flags, true);
	gn_end();
	return (int)gn_ret(rc);
}

INTERPOSE(int, pidfd_getfd, (int process, int fd, unsigned int flags))
{
	gn_enter();
	GN_INSIDE;
	gn_early_end_all(); /* it may be one of ours */
	return gn_taken(fd, gn_real.pidfd_getfd(process, fd, flags));
}

static int dup_from(int fd, int cmd, long arg)
{
	GN_INSIDE;
	return gn_dup(fd, cmd, arg);
}

static int fcntl_any(int fd, int cmd, long arg)
{
	struct gn_sock *so = gn_fd_get(fd);
	int rc;

	if (unlikely(!so && gn_is_hidden(fd)))
		rc = -EBADF;
	else if (cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC)
		rc = dup_from(fd, cmd, arg);
	else
		rc = so ? gn_fcntl(so, fd, cmd, arg) : (int)gn_neg(gn_real.fcntl(fd, cmd, arg));
	if (so)
		gn_fd_put(so);
	return (int)gn_ret(rc);
}

/* The third argument is a number, a pointer, or absent: as a word of the machine it is passed on all the same. */
INTERPOSE(int, fcntl, (int fd, int cmd, ...))
{
	va_list args;
	long arg;

	va_start(args, cmd);
	arg = va_arg(args, long);
	va_end(args);
	return fcntl_any(fd, cmd, arg);
}
ALSO(__fcntl, fcntl);

INTERPOSE(int, fcntl64, (int fd, int cmd, ...))
{
	va_list args;
	long arg;

	va_start(args, cmd);
	arg = va_arg(args, long);
	va_end(args);
	return fcntl_any(fd, cmd, arg);
}

INTERPOSE(int, ioctl, (int fd, unsigned long request, ...))
{
	struct gn_sock *so = gn_fd_get(fd);
	va_list args;
	void *arg;
	int rc;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	if (!so)
		return gn_real.ioctl(fd, request, arg);
	rc = gn_ioctl(so, fd, request, arg);
	gn_fd_put(so);
	return (int)gn_ret(rc);
}

/* libc's own would ask the kernel by itself. */
INTERPOSE(int, sockatmark, (int fd))
{
	int at = 0;

	return ioctl(fd, SIOCATMARK, &at) < 0 ? -1 : at;
}
