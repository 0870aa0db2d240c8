/* SPDX-License-Identifier: MIT */
/*
 * What a program is told when its peer has gone.
 *
 * The kernel shows end of file; whether that was a reset is found here, once (GN_EP_JUDGED): the peer left bytes of ours unread, or asked for
 * a reset (SO_LINGER 0). The error then waits in ep->so_error until a call reports it, as sk_err does: recv, send, SO_ERROR. TCP takes the
 * first write after the peer's close and learns from the answer (EPIPE from the next on); AF_UNIX knows at once.
 */
#include <string.h>
#include <sys/ioctl.h>

#include "sock/io.h"


static bool ring_was_reset(const struct gn_sock *so)
{
	const struct gn_dir *d = so->tx.dir;

	if (!d)
		return false;
	if (atomic_load(&d->deaf) == GN_DEAF_RESET)
		return true;
	if (so->ep->type == SOCK_SEQPACKET && atomic_load(&d->deaf) == GN_DEAF_CLOSED)
		return false; /* it has looked: what is left are empty packets */
	return gn_tx_shared(so) && atomic_load(&d->tail) != so->ep->tx.ring.own;
}

/* Does the mark end what is left to read? Behind more than this much data it is found when that is read. */
bool gn_mark_is_there(const struct gn_sock *so, int fd)
{
	struct iovec iov = {gn_waste, sizeof gn_waste};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	int there = 0;
	ssize_t n;

	if (!gn_flag(so->ep, GN_EP_EMULATED))
		return false;
	n = gn_sys_recvmsg(fd, &msg, MSG_PEEK | MSG_DONTWAIT);
	if (n == -ECONNRESET && gn_reset_is_true(so)) /* the kernel tells it once: to us, just now */
		return true;
	if (n > 0 && n < (ssize_t)sizeof gn_waste && !(msg.msg_flags & MSG_CTRUNC) && gn_sys_ioctl(fd, FIONREAD, &there) == 0 && there > n) {
		gn_kernel_peek_offset(fd, n); /* an urgent byte has stopped it */
		n = gn_sys_recvmsg(fd, &msg, MSG_PEEK | MSG_DONTWAIT);
		gn_kernel_peek_offset(fd, -1);
	}
	return n > 0 && (msg.msg_flags & MSG_CTRUNC);
}

bool gn_mark_is_in(int fd, ssize_t rc, bool full_look)
{
	int there = 0;

	return !full_look || gn_sys_ioctl(fd, FIONREAD, &there) < 0 || there <= rc;
}

/* TCP says EPIPE where the reset follows the peer's end of stream, and recv() goes on showing that end. */
static uint32_t reset_error(const struct gn_sock *so)
{
	bool ended = so->eof || (gn_rx_shared(so) && atomic_load(&so->rx.dir->fin) == GN_FIN_SHUT);

	return gn_flag(so->ep, GN_EP_EMULATED) && ended && !atomic_load(&so->ep->tx.shut) ? EPIPE : ECONNRESET;
}

void gn_reset_seen(struct gn_sock *so)
{
	uint32_t error = reset_error(so);

	if (!(atomic_fetch_or(&so->ep->flags, GN_EP_JUDGED | GN_EP_DEAD) & GN_EP_DEAD))
		atomic_store(&so->ep->so_error, error);
}

/* The kernel's ECONNRESET means that something was left unread. Bells too: then what counts is what the peer and its ring say. */
bool gn_reset_is_true(const struct gn_sock *so)
{
	return !so->tx.dir || !atomic_load(&so->ep->bells_sent);
}

bool gn_peer_closed(const struct gn_sock *so)
{
	return atomic_load_explicit(&so->peer_gone, memory_order_acquire) == GN_GONE_CLOSED ||
	       (so->tx.dir && atomic_load_explicit(&so->tx.dir->deaf, memory_order_acquire) >= GN_DEAF_CLOSED);
}

bool gn_error_waits(int fd)
{
	int error = 0;
	socklen_t len = sizeof error;

	return gn_sys_getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error == ECONNRESET;
}

bool gn_peer_ended(struct gn_sock *so, int fd)
{
	struct pollfd p = {fd, POLLRDHUP, 0};

	if (atomic_load(&so->peer_gone) == GN_GONE_CLOSED || gn_flag(so->ep, GN_EP_SHUT_CARRIER) || gn_sys_poll(&p, 1, 0) != 1)
		return false;
	gn_check_peer(so, fd, true);
	return atomic_load(&so->peer_gone);
}

void gn_judge(struct gn_sock *so, int fd)
{
	if (gn_flag(so->ep, GN_EP_DEAD))
		return;
	/* Who has shut both ways hears of a peer that closed with data unread by the kernel alone. */
	if (gn_late_words_came(so, fd) || (gn_flag(so->ep, GN_EP_SHUT_CARRIER) && gn_flag(so->ep, GN_EP_EMULATED) && atomic_load(&so->ep->tx.shut) &&
					   gn_reset_is_true(so) && gn_error_waits(fd))) {
		gn_reset_seen(so);
		return;
	}
	if (!gn_peer_closed(so) || (atomic_fetch_or(&so->ep->flags, GN_EP_JUDGED) & GN_EP_JUDGED))
		return;
	if (ring_was_reset(so) || gn_mark_is_there(so, fd) || (gn_on_ring(so) && gn_reset_is_true(so) && gn_error_waits(fd)))
		gn_reset_seen(so);
}

/* AF_UNIX hangs up when the peer has closed, and when both ways are shut, by whichever side: then it can read what it has still. */
void gn_hung_up(struct gn_sock *so)
{
	bool ended = atomic_load(&so->ep->tx.shut) && so->rx.dir && atomic_load(&so->rx.dir->fin);
	bool shut = so->tx.dir && (ended || atomic_load(&so->tx.dir->deaf) == GN_DEAF_SHUT);

	atomic_store(&so->peer_gone, shut ? GN_GONE_HALF : GN_GONE_CLOSED);
}

ssize_t gn_broken_pipe(const struct gn_sock *so, int flags)
{
	if (!(flags & MSG_NOSIGNAL) && so->ep->type == SOCK_STREAM)
		gn_sys_tgkill(gn_sys_getpid(), (pid_t)gn_tid(), SIGPIPE);
	return -EPIPE;
}

ssize_t gn_send_to_gone(struct gn_sock *so, int fd, struct gn_io *io, size_t done)
{
	struct gn_ep *ep = so->ep;
	int error;

	gn_judge(so, fd);
	if (done && gn_flag(ep, GN_EP_DEAD))
		return (ssize_t)done;
	if (!gn_flag(ep, GN_EP_EMULATED) && ep->type == SOCK_STREAM) /* AF_UNIX keeps the error for whoever reads */
		return done ? (ssize_t)done : gn_broken_pipe(so, io->flags);
	error = (int)atomic_exchange(&ep->so_error, 0);
	if (error == ECONNRESET) {
		gn_error_waits(fd);
		return -ECONNRESET;
	}
	if (gn_flag(ep, GN_EP_EMULATED) && !atomic_load(&ep->tx.shut) && !(atomic_fetch_or(&ep->flags, GN_EP_DEAD) & GN_EP_DEAD)) {
		atomic_store(&ep->so_error, EPIPE);
		so->eof = true; /* an end came before: else it would read */
		gn_late_words(so, fd, io->flags & MSG_OOB);
		gn_watches_poke(so); /* the answer is news, which the carrier has not */
		return (ssize_t)io->total;
	}
	return done ? (ssize_t)done : gn_broken_pipe(so, io->flags);
}

ssize_t gn_recv_end(struct gn_sock *so, int fd)
{
	uint32_t reset = ECONNRESET;

	gn_judge(so, fd);
	if (!atomic_compare_exchange_strong(&so->ep->so_error, &reset, 0))
		return 0;
	gn_error_waits(fd); /* told: the kernel is not to show it again */
	return -ECONNRESET;
}

/* The kernel lane has no reset. Its place takes a byte with a descriptor, which no emulated connection carries otherwise: whoever reads
 * it without room for descriptors is told MSG_CTRUNC (recvmsg(2)). */
void gn_leave_mark(struct gn_sock *so, int fd)
{
	struct iovec iov = {(void *)(uintptr_t)"", 1};
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {{0}};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	int any;

	if (!gn_flag(so->ep, GN_EP_EMULATED) || gn_tx_shared(so))
		return;
	any = gn_sys_eventfd(0, 0);
	if (any < 0)
		return;
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof any);
	memcpy(CMSG_DATA(c), &any, sizeof any);
	gn_sys_sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	gn_sys_close(any);
}

/* The kernel lane of an emulated connection said EPIPE, or hangs up: was a reset before it? */
bool gn_kernel_gone(struct gn_sock *so, int fd)
{
	struct pollfd p = {fd, 0, 0};

	if (gn_sys_poll(&p, 1, 0) == 0)
		return false;
	if (gn_error_waits(fd))
		gn_reset_seen(so);
	gn_hung_up(so);
	return true;
}

/* A blocking send came back with less than all, while the peer's buffer was full: a signal, or the peer has closed and left it unread. */
void gn_send_cut_short(struct gn_sock *so, int fd)
{
	struct pollfd p = {fd, 0, 0};

	if (atomic_load(&so->ep->tx.shut))
		return;
	if (gn_sys_poll(&p, 1, 0) == 1 && (p.revents & POLLHUP)) {
		atomic_store(&so->peer_gone, GN_GONE_CLOSED);
		gn_reset_seen(so);
	}
}
