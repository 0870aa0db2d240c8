/* SPDX-License-Identifier: MIT */
/* splice(2) with an endpoint on the ring at one end: through a buffer, no byte taken that cannot be delivered. */
#include <limits.h>
#include <sys/ioctl.h>

#include "sock/api.h"
#include "sock/sleep.h"

#define PIECE 16384
#define NONBLOCK_FLAG 2u /* SPLICE_F_NONBLOCK, fcntl.h */

/* Up to how many bytes a write to this pipe takes without waiting; as splice(2), that waits for any room at all. -EAGAIN, -EINTR. */
static ssize_t room_in_pipe(struct gn_sock *so, int to, bool nonblock)
{
	struct gn_held held = {.so = so};
	struct pollfd p = {to, POLLOUT, 0};
	int queued = 0, size, rc;

	if (gn_sys_fcntl(to, F_GETFL, 0) & O_NONBLOCK)
		return PIECE; /* it says so itself */
	do {
		rc = nonblock ? gn_sys_poll(&p, 1, 0) : gn_sleep_ppoll(GN_SLEEP_RESTART, &held, &p, 1, NULL, NULL);
	} while (rc == GN_SLEEP_AGAIN);
	if (rc <= 0)
		return rc < 0 ? rc : -EAGAIN;
	size = gn_sys_fcntl(to, F_GETPIPE_SZ, 0);
	if (size < PIPE_BUF || gn_sys_ioctl(to, FIONREAD, &queued) < 0 || queued > 0)
		return PIPE_BUF; /* it is counted in pages: one is free */
	return GN_MIN(size, PIECE);
}

/* From the socket to a pipe: first peek, then write, then take what was written. */
static ssize_t from_ring(struct gn_sock *so, int fd, int to, size_t len, unsigned int flags)
{
	struct gn_held held = {.so = so};
	char data[PIECE];
	bool wait = !(flags & NONBLOCK_FLAG) || gn_flag(so->ep, GN_EP_EMULATED); /* TCP means the pipe alone */
	ssize_t n = room_in_pipe(so, to, flags & NONBLOCK_FLAG), put;

	if (n > 0)
		n = gn_recv_buf(so, fd, data, GN_MIN(len, (size_t)n), MSG_PEEK | (wait ? 0 : MSG_DONTWAIT));
	if (n <= 0)
		return n;
	put = gn_sleep(GN_SLEEP_CALL, &held, SYS_write, to, (long)data, n, 0, 0, 0);
	return put > 0 ? gn_recv_buf(so, fd, data, (size_t)put, MSG_DONTWAIT) : put;
}

/* From a pipe to the socket. What was taken from the pipe is sent whole: it cannot be put back. */
static ssize_t to_ring(struct gn_sock *so, int from, int fd, size_t len, unsigned int flags)
{
	struct gn_held held = {.so = so};
	char data[PIECE];
	struct pollfd p = {fd, POLLOUT, 0}, q = {from, POLLIN, 0};
	ssize_t n, put, done = 0;

	if ((flags & NONBLOCK_FLAG) && gn_sys_poll(&q, 1, 0) == 0)
		return -EAGAIN;
	if (gn_flag(so->ep, GN_EP_NONBLOCK) && gn_ppoll(&p, 1, &(struct timespec){0}, NULL) == 0)
		return -EAGAIN;
	n = gn_sleep(GN_SLEEP_CALL, &held, SYS_read, from, (long)data, (long)GN_MIN(len, sizeof data), 0, 0, 0);
	while (n > 0 && done < n) {
		put = gn_send_buf(so, fd, data + done, (size_t)(n - done), 0);
		if (put == -EAGAIN)
			gn_ppoll(&p, 1, NULL, NULL);
		else if (put < 0)
			return done ? done : put;
		else
			done += put;
	}
	return n <= 0 ? n : done;
}

static bool is_pipe(int fd)
{
	struct stat st;

	return gn_sys_fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode);
}

ssize_t gn_splice(int from, loff_t *from_at, int to, loff_t *to_at, size_t len, unsigned int flags)
{
	struct gn_sock *in = gn_followed(gn_get(from), from), *out = in ? NULL : gn_followed(gn_get(to), to);
	struct gn_sock *so = in ? in : out;
	struct gn_held held = {.so = so};
	ssize_t rc;

	if (so && !is_pipe(in ? to : from)) { /* an error, or nothing to us: no byte of the socket's moves */
		gn_put(so);
		return gn_sleep(GN_SLEEP_CALL, NULL, SYS_splice, from, (long)from_at, to, (long)to_at, (long)len, (long)flags);
	}
	if (so && so->ep->type == SOCK_STREAM && in && gn_rx_shared(in) && !from_at)
		rc = from_ring(in, from, to, len, flags);
	else if (so && so->ep->type == SOCK_STREAM && out && gn_tx_shared(out) && !to_at)
		rc = to_ring(out, from, to, len, flags);
	else {
		if (so)
			gn_pin(so, in ? from : to, GN_WHY_CALL); /* the kernel lane's bytes are not counted here */
		rc = gn_sleep(GN_SLEEP_CALL, &held, SYS_splice, from, (long)from_at, to, (long)to_at, (long)len, (long)flags);
	}
	if (so)
		gn_put(so);
	return rc;
}
