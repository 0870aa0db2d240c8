/* SPDX-License-Identifier: MIT */
/*
 * TCP's urgent mark on an emulated connection, which AF_UNIX's out-of-band byte carries in the kernel lane.
 *
 * The two differ in what they count before the mark is passed: TCP is readable at its mark only when a byte is there behind the urgent one,
 * and FIONREAD ends at the mark; AF_UNIX counts all. Whether poll() is to ask for a mark is known from POLLPRI until the urgent byte was
 * read, from GN_EP_URGENT after that.
 */
#include <sys/ioctl.h>

#include "sock/io.h"


static bool is_ahead(const struct gn_sock *so, short bits)
{
	return ((bits & POLLPRI) || gn_flag(so->ep, GN_EP_URGENT)) && gn_flag(so->ep, GN_EP_EMULATED);
}

bool gn_is_at_mark(int fd)
{
	int at = 0;

	return gn_sys_ioctl(fd, SIOCATMARK, &at) == 0 && at;
}

/* The kernel tells a reset once: to a look of ours. */
static ssize_t look_noted(struct gn_sock *so, ssize_t rc)
{
	if (unlikely(rc == -ECONNRESET) && gn_reset_is_true(so))
		gn_reset_seen(so);
	return rc;
}

short gn_urgent_mend(struct gn_sock *so, int fd, short bits)
{
	struct pollfd end = {fd, POLLRDHUP, 0};
	char byte;

	if (likely(!(bits & GN_IN_BITS) || !is_ahead(so, bits)) || !gn_is_at_mark(fd) || gn_sys_poll(&end, 1, 0) != 0)
		return bits;
	return look_noted(so, gn_sys_recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT)) == 1 ? bits : bits & (short)~GN_IN_BITS; /* looks behind the mark */
}

/* With SO_OOBINLINE a look ends before an urgent byte, from which the next one goes on. */
static int seen_in_line(struct gn_sock *so, int fd, int there)
{
	struct iovec iov = {gn_waste, sizeof gn_waste};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n, sum = 0;

	do {
		gn_kernel_peek_offset(fd, sum);
		n = look_noted(so, gn_sys_recvmsg(fd, &msg, MSG_PEEK | MSG_DONTWAIT));
		sum += GN_MAX(n, (ssize_t)0) - ((msg.msg_flags & MSG_CTRUNC) ? 1 : 0);
	} while (n > 0 && sum < there && !(msg.msg_flags & MSG_CTRUNC));
	gn_kernel_peek_offset(fd, -1);
	return (int)sum;
}

/* The kernel's count goes on holding urgent bytes that were passed over, and the mark of a reset (gn_leave_mark); a look does not. */
int gn_urgent_unread(struct gn_sock *so, int fd, int there)
{
	struct iovec iov = {gn_waste, sizeof gn_waste};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	int in_line = 0;
	socklen_t len = sizeof in_line;
	ssize_t n;

	if (!gn_flag(so->ep, GN_EP_EMULATED) || there <= 0 || there > (int)sizeof gn_waste)
		return there;
	if (gn_sys_getsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &in_line, &len) == 0 && in_line)
		return seen_in_line(so, fd, there);
	if (gn_is_at_mark(fd))
		return 0;
	n = look_noted(so, gn_sys_recvmsg(fd, &msg, MSG_PEEK | MSG_DONTWAIT));
	return n <= 0 ? 0 : (int)n - ((msg.msg_flags & MSG_CTRUNC) ? 1 : 0);
}

void gn_urgent_was_read(struct gn_sock *so)
{
	if (gn_flag(so->ep, GN_EP_EMULATED))
		atomic_fetch_or(&so->ep->flags, GN_EP_URGENT);
}
