/* SPDX-License-Identifier: MIT */
/*
 * Sequenced packets (AF_UNIX SOCK_SEQPACKET) on the ring: whole or not at all, borders kept.
 *
 * The stream position of a switch counts packets here. A packet that the ring could never hold goes back to the kernel lane. Units: bytes
 * but for positions.
 */
#include "sock/io.h"
#include "sock/sleep.h"

/* The rx or tx lock is held in all of these. */

static ssize_t put_record(struct gn_sock *so, int fd, struct gn_io *io, uint64_t now)
{
	struct gn_half *half = &so->ep->tx;
	struct gn_cursor c = {io->iov, io->iovcnt, 0};
	uint64_t room = gn_record_room(io->total);
	uint32_t len = (uint32_t)io->total;
	struct gn_ring body = half->ring;
	int64_t space;

	if ((room > gn_ring_room(&so->tx) || atomic_load(&so->tx.dir->consent) == GN_CONSENT_REFUSED) && !atomic_load(&so->tx.dir->deaf))
		gn_tx_back(so, fd);
	if (atomic_load_explicit(&half->lane, memory_order_relaxed) != GN_LANE_RING)
		return GN_OTHER_LANE;
	if (atomic_load(&half->shut))
		return -EPIPE;
	if (atomic_load(&so->tx.dir->deaf) || atomic_load(&so->peer_gone) == GN_GONE_CLOSED)
		return GN_END;
	if (unlikely(io->bad))
		return -EFAULT;
	space = gn_ring_space(&half->ring, &so->tx);
	if (space < 0)
		return -ECONNRESET;
	if ((uint64_t)space < room)
		return -EAGAIN;
	gn_ring_put(&half->ring, &so->tx, 0, &len, sizeof len);
	body.own += sizeof len;
	gn_cursor_copy(&c, &body, &so->tx, len, true);
	atomic_store_explicit(&so->tx.dir->p_ticks, now, memory_order_relaxed);
	if (gn_ring_publish(&half->ring, &so->tx, (uint32_t)room))
		gn_bell(so, fd);
	atomic_fetch_add_explicit(&half->ring_bytes, len, memory_order_relaxed);
	atomic_fetch_add_explicit(&half->ring_msgs, 1, memory_order_relaxed);
	return (ssize_t)len;
}

ssize_t gn_record_send(struct gn_sock *so, int fd, struct gn_io *io)
{
	uint64_t deadline = 0, now;
	bool told = false;
	ssize_t n;

	for (;;) {
		now = gn_ticks();
		if (unlikely(gn_doubts_reader(so, now)))
			gn_peer_ended(so, fd);
		gn_tx_lock(so, fd);
		n = put_record(so, fd, io, now);
		gn_unlock(&so->ep->tx.lock);
		if (n == GN_END || n == -EPIPE) /* an error that waits goes first */
			return gn_send_to_gone(so, fd, io, 0);
		if (n != -EAGAIN)
			return n;
		if (gn_io_nonblock(so, io->flags)) {
			if (told)
				return -EAGAIN;
			told = true; /* first, then another look: room that comes after it is an edge */
			atomic_fetch_add(&so->tx_full, 1);
			continue;
		}
		if (!deadline)
			deadline = gn_deadline(atomic_load(&so->ep->sndtimeo_ns));
		n = gn_wait_tx(so, fd, deadline, gn_ring_room(&so->tx), false);
		fd = gn_fd_still(so, fd);
		if (n < 0 && n != -EPIPE)
			return n;
	}
}

static ssize_t take_ring(struct gn_sock *so, int fd, struct gn_io *io)
{
	struct gn_half *half = &so->ep->rx;
	struct gn_cursor c = {io->iov, io->iovcnt, 0};
	struct gn_ring body = half->ring;
	uint32_t gone = atomic_load(&so->peer_gone), fin = atomic_load(&so->rx.dir->fin), lane = atomic_load(&so->rx.dir->lane);
	int64_t there = gn_ring_readable(&half->ring, &so->rx);
	uint32_t len, copy;
	ssize_t rc;

	if (there == 0 && lane == GN_LANE_BACK) {
		gn_rx_back(so, fd);
		return GN_OTHER_LANE;
	}
	if (unlikely(fin || gone)) { /* a reset goes before data, for packets */
		gn_judge(so, fd);
		if (atomic_load(&so->ep->so_error) == ECONNRESET)
			return GN_END;
	}
	if (there == 0 && !fin && !gone)
		return likely(lane == GN_LANE_RING) ? -EAGAIN : -ECONNRESET; /* it only moves forward: [RING-2] */
	if (there == 0)
		return GN_END;
	if (there < (int64_t)sizeof len)
		return -ECONNRESET;
	gn_ring_get(&half->ring, &so->rx, 0, &len, sizeof len);
	if ((int64_t)gn_record_room(len) > there)
		return -ECONNRESET; /* a length that cannot be: [RING-2] */
	copy = (uint32_t)GN_MIN((size_t)len, io->total);
	body.own += sizeof len;
	rc = (io->flags & MSG_TRUNC) ? (ssize_t)len : (ssize_t)copy;
	if (unlikely(io->bad) && copy >= io->bad)
		rc = -EFAULT; /* and the packet is lost, as in the kernel */
	else
		gn_cursor_copy(&c, &body, &so->rx, copy, false);
	io->out_flags = copy < len ? MSG_TRUNC : 0;
	io->packet = true;
	if (io->flags & MSG_PEEK)
		return rc;
	if (gn_ring_consume(&half->ring, &so->rx, (uint32_t)gn_record_room(len)))
		so->owes_bell = true;
	atomic_fetch_add_explicit(&half->ring_bytes, len, memory_order_relaxed);
	atomic_fetch_add_explicit(&half->ring_msgs, 1, memory_order_relaxed);
	return rc;
}

/* A packet that is in the kernel lane still. Not yet switched, the peer may do so at any moment, and send bells, or packets whose turn is after
 * the ring's: what was there before the lane word was looked at is none of these. */
static ssize_t take_kernel(struct gn_sock *so, int fd, struct gn_io *io, bool open)
{
	struct msghdr msg = gn_io_msg(io);
	struct pollfd end = {fd, POLLRDHUP, 0};
	ssize_t rc;
	char byte;

	if (open) {
		rc = gn_sys_recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
		if (rc < 0)
			return rc;
		if (atomic_load(&so->rx.dir->lane) != GN_LANE_KERNEL)
			return GN_OTHER_LANE;
	}
	gn_offset_lend(so, fd);
	rc = gn_sys_recvmsg(fd, &msg, MSG_DONTWAIT | io->flags);
	gn_offset_take(so, fd);
	if (unlikely(rc == -EAGAIN) && !open)
		return -ECONNRESET; /* what was sent before the switch is there, or the peer lies: [RING-2] */
	if (unlikely(rc == -EFAULT) && !(io->flags & MSG_PEEK))
		atomic_fetch_add(&so->ep->rx.kernel_msgs, 1); /* the packet is lost, and its place counts */
	if (rc < 0)
		return rc;
	gn_io_answer(io, &msg);
	io->from_kernel = true;
	io->packet = io->name && msg.msg_namelen;
	if (rc == 0 && !(io->flags & MSG_PEEK) && gn_sys_poll(&end, 1, 0) == 1) /* not just an empty packet */
		gn_peer_may_be_gone(so, fd, 0);
	if (!(io->flags & MSG_PEEK)) {
		atomic_fetch_add(&so->ep->rx.kernel_bytes, (uint64_t)rc);
		atomic_fetch_add(&so->ep->rx.kernel_msgs, 1);
	}
	return rc;
}

static ssize_t take_record(struct gn_sock *so, int fd, struct gn_io *io)
{
	uint64_t pos = atomic_load(&so->ep->rx.kernel_msgs), until = gn_kernel_until(so);
	ssize_t n;

	if (atomic_load_explicit(&so->ep->rx.lane, memory_order_relaxed) != GN_LANE_RING)
		return GN_OTHER_LANE;
	if (likely(pos >= until) || unlikely(gn_kernel_recount(so, fd) && atomic_load(&so->ep->rx.kernel_msgs) >= until))
		return take_ring(so, fd, io);
	if (unlikely(atomic_load(&so->ep->so_error) == ECONNRESET))
		return GN_END; /* told before what is left */
	n = take_kernel(so, fd, io, until == UINT64_MAX);
	if (likely(n != -ECONNRESET))
		return n;
	gn_peer_may_be_gone(so, fd, n); /* told once, and before what is left */
	n = gn_recv_end(so, fd);
	return n ? n : take_kernel(so, fd, io, until == UINT64_MAX);
}

ssize_t gn_record_recv(struct gn_sock *so, int fd, struct gn_io *io)
{
	uint64_t deadline = 0;
	ssize_t n;

	/* Of packets, unlike of streams, the kernel tells a reset before what came before it. */
	if (unlikely(atomic_load_explicit(&so->tx.dir->deaf, memory_order_acquire) == GN_DEAF_RESET) && gn_recv_end(so, fd) == -ECONNRESET)
		return -ECONNRESET;
	for (;;) {
		gn_rx_lock(so, fd);
		so->owes_bell = false;
		n = take_record(so, fd, io);
		if (so->owes_bell)
			gn_bell_space(so, fd);
		gn_unlock(&so->ep->rx.lock);
		if (n == GN_END)
			return gn_recv_end(so, fd);
		if (n != -EAGAIN)
			return n;
		if (atomic_load(&so->ep->rx.shut))
			return 0;
		if (gn_io_nonblock(so, io->flags)) {
			if (gn_rx_shared(so) && gn_ended_unheard(so, fd))
				continue;
			return -EAGAIN;
		}
		if (!deadline)
			deadline = gn_deadline(atomic_load(&so->ep->rcvtimeo_ns));
		n = gn_wait_rx(so, fd, deadline, 0, false);
		fd = gn_fd_still(so, fd);
		if (n < 0)
			return n;
	}
}
