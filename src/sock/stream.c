/* SPDX-License-Identifier: MIT */
/*
 * Streams whose direction is on the ring, or may be switched to it at any byte.
 *
 * Invariants: [LANE-2]; a lock is held for one copy at most and never across a wait. Units: bytes.
 */
#include <sys/ioctl.h>

#include "sock/io.h"
#include "sock/sleep.h"

#define PIECE (32u << 10) /* published at once: the reader copies one piece out while the writer copies the next one in */

/* Room for at least one byte, and at most `want`; looks at the reader's index only when it must. */
static int64_t room_for(struct gn_sock *so, size_t want)
{
	struct gn_ring *r = &so->ep->tx.ring;
	uint32_t known = so->tx.size - (r->own - r->seen);

	return likely(known >= want) ? (int64_t)want : GN_MIN(gn_ring_space(r, &so->tx), (int64_t)want);
}

static bool is_deaf(const struct gn_sock *so)
{
	return atomic_load_explicit(&so->tx.dir->deaf, memory_order_relaxed) ||
	       atomic_load_explicit(&so->peer_gone, memory_order_relaxed) == GN_GONE_CLOSED;
}

/* One piece. 0: the ring is full. */
static ssize_t put_piece(struct gn_sock *so, int fd, struct gn_cursor *c, size_t left, uint64_t now)
{
	struct gn_half *half = &so->ep->tx;
	uint32_t parked;
	int64_t n;

	if (unlikely(atomic_load_explicit(&so->tx.dir->consent, memory_order_relaxed) == GN_CONSENT_REFUSED) && !atomic_load(&so->tx.dir->deaf))
		gn_tx_back(so, fd);
	if (atomic_load_explicit(&half->lane, memory_order_relaxed) != GN_LANE_RING)
		return GN_OTHER_LANE;
	if (atomic_load_explicit(&half->shut, memory_order_relaxed))
		return -EPIPE;
	if (is_deaf(so))
		return GN_END;
	n = room_for(so, GN_MIN(left, (size_t)PIECE));
	if (n < 0)
		return -ECONNRESET; /* the peer wrote nonsense: its stream ends here [RING-2] */
	if (n == 0)
		return 0;
	gn_cursor_copy(c, &half->ring, &so->tx, (uint32_t)n, true);
	atomic_store_explicit(&so->tx.dir->p_ticks, now, memory_order_relaxed);
	parked = gn_ring_publish(&half->ring, &so->tx, (uint32_t)n);
	if (parked)
		gn_bell_data(so, fd, parked);
	atomic_store_explicit(&half->ring_bytes, half->ring_bytes + (uint64_t)n, memory_order_relaxed);
	return (ssize_t)n;
}

static void count_msg(_Atomic uint64_t *msgs)
{
	atomic_store_explicit(msgs, atomic_load_explicit(msgs, memory_order_relaxed) + 1, memory_order_relaxed);
}

static ssize_t put_pieces(struct gn_sock *so, int fd, struct gn_cursor *c, size_t total, size_t *done, uint64_t now)
{
	ssize_t n;

	gn_tx_lock(so, fd);
	do {
		n = put_piece(so, fd, c, total - *done, now);
		if (n > 0)
			*done += (size_t)n;
	} while (n > 0 && *done < total);
	if (*done == total)
		count_msg(&so->ep->tx.ring_msgs);
	gn_unlock(&so->ep->tx.lock);
	return n;
}

/* No bytes, or a buffer that is nowhere: only what comes before any byte is sent. */
static ssize_t send_nothing(struct gn_sock *so, int fd, struct gn_io *io)
{
	bool emulated = gn_flag(so->ep, GN_EP_EMULATED);

	if (!emulated)
		gn_check_peer(so, fd, true);
	else
		gn_judge(so, fd);
	if (emulated && gn_flag(so->ep, GN_EP_DEAD))
		return gn_send_to_gone(so, fd, io, 0);
	if (atomic_load(&so->ep->tx.shut) || (emulated ? gn_flag(so->ep, GN_EP_DEAD) : is_deaf(so)))
		return gn_broken_pipe(so, io->flags);
	return io->total ? -EFAULT : 0;
}

/* The lane changed in the middle of a call that is to move all: the rest goes vector by vector, by whichever lane that is. What ends it is the
 * next call's to tell: this one has moved bytes. */
static ssize_t rest(struct gn_sock *so, int fd, const struct gn_io *io, struct gn_cursor *c, size_t done, bool sending)
{
	while (done < io->total) {
		char *at = (char *)c->iov->iov_base + c->skip;
		size_t len = c->iov->iov_len - c->skip;
		ssize_t n = sending ? gn_send_buf(so, fd, at, len, io->flags | MSG_NOSIGNAL) : gn_recv_buf(so, fd, at, len, io->flags);

		if (n > 0)
			done += (size_t)n;
		else if (n == -ECONNRESET && !sending && gn_flag(so->ep, GN_EP_EMULATED))
			atomic_store(&so->ep->so_error, ECONNRESET); /* for the next call to tell */
		if (n < (ssize_t)len)
			break;
		c->iov++;
		c->skip = 0;
	}
	return (ssize_t)done;
}

ssize_t gn_stream_send(struct gn_sock *so, int fd, struct gn_io *io)
{
	struct gn_cursor c = {io->iov, io->iovcnt, 0};
	size_t done = 0, before, told = SIZE_MAX;
	uint64_t deadline = 0, now;
	ssize_t n;

	if (unlikely(!io->total || io->bad))
		return send_nothing(so, fd, io);
	for (;;) {
		before = done;
		now = gn_ticks();
		if (unlikely(gn_doubts_reader(so, now)))
			gn_peer_ended(so, fd);
		n = put_pieces(so, fd, &c, io->total, &done, now);
		if (done != before && !gn_flag(so->ep, GN_EP_EMULATED))
			deadline = 0; /* AF_UNIX counts it from each piece: sock_alloc_send_pskb() */
		if (done == io->total)
			return (ssize_t)done;
		if (n == GN_END)
			return gn_send_to_gone(so, fd, io, done);
		if (n == GN_OTHER_LANE && done && !gn_io_nonblock(so, io->flags))
			return rest(so, fd, io, &c, done, true);
		if (n < 0 && done)
			return (ssize_t)done;
		if (n == -EPIPE)
			return gn_send_to_gone(so, fd, io, 0);
		if (n < 0)
			return n;
		if (gn_io_nonblock(so, io->flags)) {
			if (told == done)
				return done ? (ssize_t)done : -EAGAIN;
			told = done; /* first, then another look: room that comes after it is an edge */
			atomic_fetch_add(&so->tx_full, 1);
			continue;
		}
		if (!deadline)
			deadline = gn_deadline(atomic_load(&so->ep->sndtimeo_ns));
		n = gn_wait_tx(so, fd, deadline, gn_ring_room(&so->tx), done > 0);
		fd = gn_fd_still(so, fd);
		if (n < 0 && n != -EPIPE)
			return done ? (ssize_t)done : n;
	}
}

int64_t gn_stream_there(struct gn_sock *so, int fd, size_t want)
{
	struct gn_ring *r = &so->ep->rx.ring;
	uint32_t gone, fin, lane;
	int64_t n = (uint32_t)(r->seen - r->own);

	if (n && (size_t)n >= want)
		return n;
	/* These first: the writer's last index comes before them. */
	gone = atomic_load_explicit(&so->peer_gone, memory_order_acquire);
	fin = atomic_load_explicit(&so->rx.dir->fin, memory_order_acquire);
	lane = atomic_load_explicit(&so->rx.dir->lane, memory_order_acquire);
	n = gn_ring_readable(r, &so->rx);
	if (n)
		return n < 0 ? -ECONNRESET : n;
	if (lane == GN_LANE_BACK) {
		if (!gn_past_switch(so))
			return 0; /* a look ahead: bells stand behind what is unread in the kernel lane */
		gn_rx_back(so, fd);
		return GN_OTHER_LANE;
	}
	if (fin || gone)
		return GN_END;
	return likely(lane == GN_LANE_RING) ? 0 : -ECONNRESET; /* it only moves forward: [RING-2] */
}

static ssize_t take_ring(struct gn_sock *so, int fd, struct gn_io *io, struct gn_cursor *c, size_t done)
{
	struct gn_half *half = &so->ep->rx;
	size_t want = io->total - done;
	int64_t n = gn_stream_there(so, fd, want);

	if (n <= 0)
		return (ssize_t)n;
	n = GN_MIN(n, (int64_t)GN_MIN(want, (size_t)PIECE));
	if (!n)
		return GN_NONE_WANTED;
	if (unlikely(io->bad) && done + (size_t)n >= io->bad)
		return -EFAULT;
	gn_cursor_copy(c, &half->ring, &so->rx, (uint32_t)n, false);
	if (gn_ring_consume(&half->ring, &so->rx, (uint32_t)n))
		so->owes_bell = true;
	atomic_store_explicit(&half->ring_bytes, half->ring_bytes + (uint64_t)n, memory_order_relaxed);
	return (ssize_t)n;
}

/* AF_UNIX gives the control data of the next byte to who asks for none. */
static ssize_t take_control(struct gn_sock *so, int fd, struct gn_io *io)
{
	struct msghdr msg = {.msg_control = io->control, .msg_controllen = io->control_len};
	ssize_t rc;

	if (gn_flag(so->ep, GN_EP_EMULATED))
		return 0;
	rc = gn_sys_recvmsg(fd, &msg, MSG_DONTWAIT | (io->flags & (MSG_PEEK | MSG_CMSG_CLOEXEC)));
	if (rc < 0)
		return rc;
	gn_io_answer(io, &msg);
	io->from_kernel = true;
	return rc;
}

/* Asked for no bytes before the switch: as the kernel, this waits until there is one and takes nothing. */
static ssize_t take_nothing(struct gn_sock *so, int fd, struct gn_io *io)
{
	uint64_t pos = atomic_load_explicit(&so->ep->rx.kernel_bytes, memory_order_relaxed);
	char byte;
	ssize_t n = gn_sys_recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

	if (n == 0 || n == -ECONNRESET)
		gn_peer_may_be_gone(so, fd, n);
	if (n == -EAGAIN && gn_flag(so->ep, GN_EP_EMULATED) && gn_is_at_mark(fd))
		return GN_NONE_WANTED; /* the urgent byte is one too */
	if (n < 0 && n != -ECONNRESET)
		return n == -EAGAIN ? 0 : n;
	/* What was seen may be a bell, if the peer has switched meanwhile: then the ring is next. */
	if (n == 1 && atomic_load(&so->rx.dir->lane) != GN_LANE_KERNEL && pos >= atomic_load(&so->rx.dir->switch_pos))
		return 0;
	if (n == 1 && take_control(so, fd, io) == -EAGAIN)
		return 0; /* a look at no bytes, and an urgent one ahead */
	return n == 1 ? GN_NONE_WANTED : GN_END;
}

/* One piece of what is left in the kernel lane. Reading stops before an urgent byte, which only a peer that has not switched can send. */
static ssize_t take_kernel(struct gn_sock *so, int fd, struct gn_io *io, struct gn_cursor *c, size_t done, uint64_t left)
{
	bool open = left == UINT64_MAX;
	size_t limit = (size_t)GN_MIN(left, (uint64_t)PIECE);
	ssize_t n;

	if (unlikely(!io->total))
		return take_nothing(so, fd, io);
	limit = GN_MIN(limit, io->total - done);
	n = gn_kernel_take(so, fd, io, done, &limit, open);
	if (n > 0) {
		gn_cursor_copy(c, NULL, NULL, (uint32_t)n, false);
		io->stop = open && (((size_t)n < limit && done + (size_t)n >= gn_least(so, io)) || gn_is_at_mark(fd));
	}
	if (n == 0 || n == -ECONNRESET) {
		gn_peer_may_be_gone(so, fd, n);
		return GN_END;
	}
	if (n == -EAGAIN)
		return open ? 0 : -ECONNRESET; /* what was sent before the switch is there, or the peer lies: [RING-2] */
	return n;
}

/* One piece from whichever lane the next byte is in. The rx lock is held. 0: nothing now; GN_END: end of file. */
static ssize_t take_piece(struct gn_sock *so, int fd, struct gn_io *io, struct gn_cursor *c, size_t done)
{
	struct gn_half *half = &so->ep->rx;
	uint64_t pos = atomic_load_explicit(&half->kernel_bytes, memory_order_relaxed);
	uint64_t until;
	ssize_t n;

	if (atomic_load_explicit(&half->lane, memory_order_relaxed) != GN_LANE_RING)
		return GN_OTHER_LANE;
	for (;;) {
		until = gn_kernel_until(so);
		if (likely(pos >= until))
			return take_ring(so, fd, io, c, done);
		if (unlikely(gn_kernel_recount(so, fd))) {
			pos = atomic_load(&half->kernel_bytes);
			continue;
		}
		n = take_kernel(so, fd, io, c, done, until == UINT64_MAX ? until : until - pos);
		if (n || until != UINT64_MAX || gn_kernel_until(so) == UINT64_MAX)
			return n;
		/* The peer switched while we looked: its last bytes in the kernel lane may be there all the same. */
	}
}

static ssize_t take_pieces(struct gn_sock *so, int fd, struct gn_io *io, struct gn_cursor *c, size_t *done)
{
	ssize_t n;

	gn_rx_lock(so, fd);
	so->owes_bell = false;
	do {
		n = take_piece(so, fd, io, c, *done);
		if (n > 0)
			*done += (size_t)n;
	} while (n > 0 && *done < io->total && !io->from_kernel && !io->stop);
	if (*done)
		count_msg(&so->ep->rx.ring_msgs);
	if (so->owes_bell) /* before the lock is free: who takes it over from the dead knows that a bell may be due */
		gn_bell_space(so, fd);
	gn_unlock(&so->ep->rx.lock);
	return n;
}

/* The ring is read empty and its writer is in the kernel lane again: what is there belongs to the same call. */
static ssize_t rest_from_kernel(struct gn_sock *so, int fd, struct gn_io *io, struct gn_cursor *c, size_t done)
{
	struct iovec v[GN_BUFFERS];
	struct msghdr msg;
	struct gn_io rest;
	ssize_t n;

	do {
		if (gn_is_at_mark(fd))
			break;
		rest = *io;
		rest.total = gn_buffers_from(io, done, io->total - done, v, &msg);
		rest.iov = v;
		rest.iovcnt = msg.msg_iovlen;
		rest.flags |= MSG_DONTWAIT;
		n = gn_kernel_recv(so, fd, &rest);
		if (n == -ECONNRESET) /* for the next call to tell */
			atomic_store(&so->ep->so_error, ECONNRESET);
		if (n <= 0)
			break;
		done += (size_t)n;
		gn_cursor_copy(c, NULL, NULL, (uint32_t)n, false);
		io->from_kernel = true;
		io->out_flags = rest.out_flags;
		if (rest.control_len) {
			io->control_len = rest.control_len;
			return (ssize_t)done;
		}
		if (rest.out_flags > 0 && (rest.out_flags & MSG_CTRUNC))
			break; /* there was some, and no room for it */
	} while (n == (ssize_t)rest.total && done < io->total);
	if (io->from_kernel)
		io->control_len = 0;
	return (ssize_t)done;
}

/* What was sent before SO_PASSCRED was set comes with nobody's credentials, by either lane: one read takes it all. */
bool gn_nobody_follows(const struct gn_sock *so, int fd)
{
	char byte;
	struct iovec iov = {&byte, 1};
	union {
		char bytes[CMSG_SPACE(sizeof(struct ucred))];
		struct cmsghdr head;
	} control;
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	int offset = -1;
	socklen_t len = sizeof offset;
	ssize_t n;

	gn_sys_getsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &offset, &len);
	gn_kernel_peek_offset(fd, -1);
	n = gn_sys_recvmsg(fd, &msg, MSG_PEEK | MSG_DONTWAIT);
	gn_kernel_peek_offset(fd, offset);
	return n == 1 && gn_is_from_nobody(so, &msg);
}

/* No more comes. AF_UNIX that was to be content with no less takes a reset out beside the bytes (unix_stream_read_generic()). */
static ssize_t recv_ended(struct gn_sock *so, int fd, size_t done, size_t need)
{
	if (!done)
		return gn_recv_end(so, fd);
	if (unlikely(done < need) && !gn_flag(so->ep, GN_EP_EMULATED))
		gn_recv_end(so, fd);
	return (ssize_t)done;
}

ssize_t gn_stream_recv(struct gn_sock *so, int fd, struct gn_io *io)
{
	struct gn_cursor c = {io->iov, io->iovcnt, 0};
	size_t done = 0, need;
	uint64_t deadline = 0;
	ssize_t n;
	int left;

	if (unlikely(io->flags & MSG_PEEK) && io->total)
		return gn_stream_peek(so, fd, io);
	need = gn_least(so, io);
	for (;;) {
		n = take_pieces(so, fd, io, &c, &done);
		if (n == GN_OTHER_LANE && done && unlikely(gn_flag(so->ep, GN_EP_SENDERS)) && !gn_nobody_follows(so, fd))
			return (ssize_t)done; /* what follows has a sender's name */
		if (n == GN_OTHER_LANE && done && done < io->total) {
			done = (size_t)rest_from_kernel(so, fd, io, &c, done);
			if (done >= need || io->control_len)
				return (ssize_t)done;
			if (gn_io_nonblock(so, io->flags))
				return gn_sys_ioctl(fd, FIONREAD, &left) == 0 && left ? (ssize_t)done : recv_ended(so, fd, done, need);
			return rest(so, fd, io, &c, done, false);
		}
		if (done && (done >= need || io->from_kernel || io->stop))
			return (ssize_t)done;
		if (n == GN_END)
			return recv_ended(so, fd, done, need);
		if (n == GN_NONE_WANTED) {
			if (unlikely((io->flags & MSG_PEEK) && gn_flag(so->ep, GN_EP_EMULATED)) && gn_peek_offset(so) >= gn_unread(so, fd) &&
			    gn_io_nonblock(so, io->flags))
				return -EAGAIN;
			if (unlikely(io->control && (io->flags & MSG_PEEK)) && atomic_load(&so->rx.dir->lane) == GN_LANE_BACK)
				take_control(so, fd, io); /* AF_UNIX looks further and further for it */
			return 0;
		}
		if (n < 0)
			return done ? (ssize_t)done : n;
		if (atomic_load_explicit(&so->ep->rx.shut, memory_order_relaxed))
			return recv_ended(so, fd, done, need);
		if (gn_io_nonblock(so, io->flags)) {
			if (!done && gn_rx_shared(so) && gn_ended_unheard(so, fd))
				continue;
			return done ? (ssize_t)done : -EAGAIN;
		}
		if (!deadline)
			deadline = gn_deadline(atomic_load(&so->ep->rcvtimeo_ns));
		n = gn_wait_rx(so, fd, deadline, 0, done > 0);
		fd = gn_fd_still(so, fd);
		if (n < 0)
			return done ? (ssize_t)done : n;
	}
}
