/* SPDX-License-Identifier: MIT */
/* The shim: calls that move bytes. One thin function per libc symbol. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "shim/shim.h"

INTERPOSE(ssize_t, send, (int fd, const void *buf, size_t len, int flags))
{
	struct gn_sock *so = gn_point_get(fd);
	ssize_t rc;

	if (!so)
		return gn_real.send(fd, buf, len, flags);
	rc = gn_send_buf(so, fd, buf, len, flags);
	gn_fd_put(so);
	return gn_ret(rc);
}
ALSO(__send, send);

INTERPOSE(ssize_t, recv, (int fd, void *buf, size_t len, int flags))
{
	struct gn_sock *so = gn_point_get(fd);
	ssize_t rc;

	if (!so)
		return gn_real.recv(fd, buf, len, flags);
	rc = gn_recv_buf(so, fd, buf, len, flags);
	gn_fd_put(so);
	return gn_ret(rc);
}
ALSO(__recv, recv);

INTERPOSE(ssize_t, write, (int fd, const void *buf, size_t len))
{
	struct gn_sock *so = gn_point_get(fd);
	ssize_t rc;

	if (!so)
		return gn_real.write(fd, buf, len);
	rc = gn_send_buf(so, fd, buf, len, 0);
	gn_fd_put(so);
	return gn_ret(rc);
}
ALSO(__write, write);

INTERPOSE(ssize_t, read, (int fd, void *buf, size_t len))
{
	struct gn_sock *so = gn_point_get(fd);
	ssize_t rc;

	if (!so)
		return gn_real.read(fd, buf, len);
	rc = len ? gn_recv_buf(so, fd, buf, len, 0) : gn_neg(gn_real.read(fd, buf, len));
	gn_fd_put(so);
	return gn_ret(rc);
}
ALSO(__read, read);

INTERPOSE(ssize_t, sendto, (int fd, const void *buf, size_t len, int flags, const struct sockaddr *addr, socklen_t addr_len))
{
	struct gn_sock *so = gn_point_get(fd);
	struct iovec iov = {(void *)(uintptr_t)buf, len};
	struct msghdr msg = {.msg_name = (void *)(uintptr_t)addr, .msg_namelen = addr_len, .msg_iov = &iov, .msg_iovlen = 1};
	ssize_t rc;

	if (!so)
		return gn_real.sendto(fd, buf, len, flags, addr, addr_len);
	if (unlikely(addr && !addr_len) && so->ep->type == SOCK_DGRAM && so->ep->domain != AF_UNIX)
		rc = gn_neg(gn_real.sendto(fd, buf, len, flags, addr, addr_len)); /* an error; of sendmsg(2) such a name is none */
	else
		rc = gn_sendmsg(so, fd, &msg, flags);
	gn_fd_put(so);
	return gn_ret(rc);
}

INTERPOSE(ssize_t, recvfrom, (int fd, void *buf, size_t len, int flags, struct sockaddr *addr, socklen_t *addr_len))
{
	struct gn_sock *so = gn_point_get(fd);
	struct iovec iov = {buf, len};
	struct gn_io io = {.iov = &iov, .iovcnt = 1, .total = len, .flags = flags, .bad = gn_is_nowhere(buf, len)};
	bool nowhere = gn_is_nowhere(addr_len, 1);
	ssize_t rc;

	if (!so)
		return gn_real.recvfrom(fd, buf, len, flags, addr, addr_len);
	if (io.bad && gn_is_beyond(buf)) {
		gn_fd_put(so);
		return gn_ret(-EFAULT);
	}
	if (addr && !nowhere) {
		io.name = addr;
		io.name_len = *addr_len;
	}
	rc = gn_recv_io(so, fd, &io);
	if (rc >= 0 && addr && !nowhere)
		*addr_len = io.name_len;
	else if (rc >= 0 && addr)
		rc = -EFAULT; /* the kernel finds out afterwards too */
	gn_fd_put(so);
	return gn_ret(rc);
}

/* Descriptors may travel by any socket, of ours or not. */
static int before_passing(const struct msghdr *msg)
{
	if (likely(!msg->msg_control || !msg->msg_controllen))
		return 0;
	GN_INSIDE;
	return gn_before_passing(msg);
}

INTERPOSE(ssize_t, sendmsg, (int fd, const struct msghdr *msg, int flags))
{
	bool nowhere = gn_is_nowhere(msg, 1);
	struct gn_sock *so = gn_point_get(fd);
	ssize_t rc = nowhere ? -EFAULT : before_passing(msg);

	if (!so)
		return nowhere || rc == 0 ? gn_real.sendmsg(fd, msg, flags) : gn_ret(rc);
	if (rc == 0)
		rc = gn_sendmsg(so, fd, msg, flags);
	gn_fd_put(so);
	return gn_ret(rc);
}

INTERPOSE(ssize_t, recvmsg, (int fd, struct msghdr *msg, int flags))
{
	struct gn_sock *so = gn_point_get(fd);
	ssize_t rc;

	if (!so)
		return gn_real.recvmsg(fd, msg, flags);
	rc = gn_is_nowhere(msg, 1) ? -EFAULT : gn_recvmsg(so, fd, msg, flags);
	gn_fd_put(so);
	return gn_ret(rc);
}

/* The kernel sends nothing behind a message of which a part is left. */
static bool is_whole(const struct msghdr *msg, ssize_t sent)
{
	size_t total = 0;

	for (size_t i = 0; i < msg->msg_iovlen; i++)
		total += msg->msg_iov[i].iov_len;
	return (size_t)sent >= total;
}

INTERPOSE(int, sendmmsg, (int fd, struct mmsghdr *msgs, unsigned int count, int flags))
{
	struct gn_sock *so = gn_point_get(fd);
	unsigned int done = 0;
	ssize_t rc = 0;

	count = GN_MIN(count, (unsigned int)IOV_MAX);
	for (unsigned int i = 0; i < count && rc == 0 && !gn_is_nowhere(msgs, 1); i++)
		rc = before_passing(&msgs[i].msg_hdr);
	if (!so)
		return rc == 0 ? gn_real.sendmmsg(fd, msgs, count, flags) : (int)gn_ret(rc);
	if (gn_is_nowhere(msgs, count))
		rc = -EFAULT;
	while (rc >= 0 && done < count) {
		rc = gn_sendmsg(so, fd, &msgs[done].msg_hdr, flags);
		if (rc < 0)
			break;
		msgs[done++].msg_len = (unsigned int)rc;
		if (!is_whole(&msgs[done - 1].msg_hdr, rc))
			break;
	}
	gn_fd_put(so);
	return done ? (int)done : (int)gn_ret(rc);
}
ALSO(__sendmmsg, sendmmsg);

INTERPOSE(int, recvmmsg, (int fd, struct mmsghdr *msgs, unsigned int count, int flags, struct timespec *timeout))
{
	struct gn_sock *so = gn_point_get(fd);
	int rc;

	if (!so)
		return gn_real.recvmmsg(fd, msgs, count, flags, timeout);
	rc = gn_recvmmsg(so, fd, msgs, count, flags, timeout);
	gn_fd_put(so);
	return (int)gn_ret(rc);
}

INTERPOSE(ssize_t, writev, (int fd, const struct iovec *iov, int count))
{
	struct gn_sock *so = gn_point_get(fd);
	struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = count > 0 ? (size_t)count : 0};
	ssize_t rc;

	if (!so)
		return gn_real.writev(fd, iov, count);
	rc = count < 0 || count > IOV_MAX ? -EINVAL : gn_writev(so, fd, &msg, 0);
	gn_fd_put(so);
	return gn_ret(rc);
}

INTERPOSE(ssize_t, readv, (int fd, const struct iovec *iov, int count))
{
	struct gn_sock *so = gn_point_get(fd);
	struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = count > 0 ? (size_t)count : 0};
	ssize_t rc;

	if (!so)
		return gn_real.readv(fd, iov, count);
	rc = count < 0 || count > IOV_MAX ? -EINVAL : gn_readv(so, fd, &msg, 0);
	gn_fd_put(so);
	return gn_ret(rc);
}

#define RWF_NOAPPEND_FLAG 0x20  /* RWF_NOAPPEND, RWF_NOSIGNAL: linux/fs.h, Linux 6.9 and 6.18 */
#define RWF_NOSIGNAL_FLAG 0x100

/* At -1, where a descriptor has no positions, these are readv and writev with flags; most mean nothing to a socket. False: one that the kernel
 * refuses for it. */
static bool vector_flags(int flags, int *ours)
{
	*ours = (flags & RWF_NOWAIT ? MSG_DONTWAIT : 0) | (flags & RWF_NOSIGNAL_FLAG ? MSG_NOSIGNAL : 0);
	return !(flags & ~(RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND | RWF_NOAPPEND_FLAG | RWF_NOSIGNAL_FLAG));
}

INTERPOSE(ssize_t, preadv2, (int fd, const struct iovec *iov, int count, off_t at, int flags))
{
	struct gn_sock *so = gn_point_get(fd);
	struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = count > 0 ? (size_t)count : 0};
	ssize_t rc;
	int ours;

	if (!so || at != -1 || count < 0 || count > IOV_MAX) {
		rc = gn_neg(gn_real.preadv2(fd, iov, count, at, flags));
		if (so)
			gn_fd_put(so);
		return gn_ret(rc);
	}
	rc = vector_flags(flags, &ours) ? gn_readv(so, fd, &msg, ours) : -EOPNOTSUPP;
	gn_fd_put(so);
	return gn_ret(rc);
}

INTERPOSE(ssize_t, pwritev2, (int fd, const struct iovec *iov, int count, off_t at, int flags))
{
	struct gn_sock *so = gn_point_get(fd);
	struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = count > 0 ? (size_t)count : 0};
	ssize_t rc;
	int ours;

	if (!so || at != -1 || count < 0 || count > IOV_MAX) {
		rc = gn_neg(gn_real.pwritev2(fd, iov, count, at, flags));
		if (so)
			gn_fd_put(so);
		return gn_ret(rc);
	}
	rc = vector_flags(flags, &ours) ? gn_writev(so, fd, &msg, ours) : -EOPNOTSUPP;
	gn_fd_put(so);
	return gn_ret(rc);
}

INTERPOSE(ssize_t, preadv64v2, (int fd, const struct iovec *iov, int count, off_t at, int flags))
{
	return preadv2(fd, iov, count, at, flags);
}

INTERPOSE(ssize_t, pwritev64v2, (int fd, const struct iovec *iov, int count, off_t at, int flags))
{
	return pwritev2(fd, iov, count, at, flags);
}

INTERPOSE(ssize_t, sendfile, (int to, int from, off_t *at, size_t len))
{
	struct gn_sock *so = gn_point_get(to);
	ssize_t rc;

	if (!so)
		return gn_real.sendfile(to, from, at, len);
	rc = gn_sendfile(so, to, from, at, len);
	gn_fd_put(so);
	return gn_ret(rc);
}

INTERPOSE(ssize_t, sendfile64, (int to, int from, off_t *at, size_t len))
{
	return sendfile(to, from, at, len);
}

INTERPOSE(ssize_t, splice, (int from, loff_t *from_at, int to, loff_t *to_at, size_t len, unsigned int flags))
{
	ssize_t rc;

	gn_enter_point();
	gn_begin();
	rc = gn_splice(from, from_at, to, to_at, len, flags);
	gn_end();
	return gn_ret(rc);
}

/* Buffers whose size the compiler knew: the check is libc's, the call is ours. */

_Noreturn void __chk_fail(void);

INTERPOSE(ssize_t, __read_chk, (int fd, void *buf, size_t len, size_t room))
{
	if (len > room)
		__chk_fail();
	return read(fd, buf, len);
}

INTERPOSE(ssize_t, __recv_chk, (int fd, void *buf, size_t len, size_t room, int flags))
{
	if (len > room)
		__chk_fail();
	return recv(fd, buf, len, flags);
}

INTERPOSE(ssize_t, __recvfrom_chk,
	  (int fd, void *buf, size_t len, size_t room, int flags, struct sockaddr *addr, socklen_t *addr_len))
{
	if (len > room)
		__chk_fail();
	return recvfrom(fd, buf, len, flags, addr, addr_len);
}
