/* SPDX-License-Identifier: MIT */
/*
 * MSG_PEEK on streams whose receiving half is on the ring, and SO_PEEK_OFF (unix(7)).
 *
 * The offset is ours, as the stream position where the next look begins, and the kernel socket has none: parking and looking for bells peek
 * too. An AF_UNIX endpoint with SO_PEEK_OFF is pinned, and the offset handed over when the ring has been read empty; of an emulated connection
 * it is ours in both lanes. Of packets and datagrams it is the kernel's number, which is lent to its socket for each read there; what is in
 * a ring is looked at without it.
 * Units: bytes. Owner: the rx lock, but for gn_stream_peek().
 */
#include "sock/io.h"
#include "sock/sleep.h"

static uint64_t position(const struct gn_half *half)
{
	return atomic_load(&half->kernel_bytes) + atomic_load(&half->ring_bytes);
}

/* Bytes that the next look passes over. */
static uint64_t offset_now(const struct gn_sock *so)
{
	uint64_t at = atomic_load(&so->ep->peek_at), pos = position(&so->ep->rx);

	return gn_flag(so->ep, GN_EP_PEEK_OFF) && at > pos ? at - pos : 0;
}

int gn_peek_offset(const struct gn_sock *so)
{
	if (so->ep->type != SOCK_STREAM)
		return gn_flag(so->ep, GN_EP_PEEK_OFF) ? (int)atomic_load(&so->ep->peek_at) : -1;
	return gn_flag(so->ep, GN_EP_PEEK_OFF) ? (int)GN_MIN(offset_now(so), (uint64_t)INT32_MAX) : -1;
}

void gn_peek_offset_set(struct gn_sock *so, int fd, int offset)
{
	struct gn_ep *ep = so->ep;

	gn_rx_lock(so, fd);
	if (gn_rx_shared(so) || gn_flag(ep, GN_EP_EMULATED)) {
		gn_kernel_peek_offset(fd, -1);
		atomic_store(&ep->peek_at, (ep->type == SOCK_STREAM ? position(&ep->rx) : 0) + (uint64_t)GN_MAX(offset, 0));
		if (offset >= 0)
			atomic_fetch_or(&ep->flags, GN_EP_PEEK_OFF);
		else
			atomic_fetch_and(&ep->flags, ~GN_EP_PEEK_OFF);
	}
	gn_unlock(&ep->rx.lock);
}

void gn_offset_lend(struct gn_sock *so, int fd)
{
	if (unlikely(gn_flag(so->ep, GN_EP_PEEK_OFF)))
		gn_kernel_peek_offset(fd, (int64_t)atomic_load(&so->ep->peek_at));
}

void gn_offset_take(struct gn_sock *so, int fd)
{
	int now = -1;
	socklen_t len = sizeof now;

	if (likely(!gn_flag(so->ep, GN_EP_PEEK_OFF)))
		return;
	if (gn_sys_getsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &now, &len) == 0 && now >= 0)
		atomic_store(&so->ep->peek_at, (uint64_t)now);
	gn_kernel_peek_offset(fd, -1);
}

void gn_peek_offset_back(struct gn_sock *so, int fd)
{
	if (likely(!gn_flag(so->ep, GN_EP_PEEK_OFF)) || gn_flag(so->ep, GN_EP_EMULATED))
		return;
	gn_kernel_peek_offset(fd, gn_peek_offset(so));
	atomic_fetch_and(&so->ep->flags, ~GN_EP_PEEK_OFF);
}

/* TCP counts an urgent byte out of line among those that are passed over, but does not show it to a look that begins there. AF_UNIX does neither
 * at its mark, and both where the mark is further on. */
static void pass_over(const struct gn_sock *so, int fd, uint64_t skip)
{
	struct pollfd urgent = {fd, POLLPRI, 0};
	int64_t offset = (int64_t)skip;

	if (gn_flag(so->ep, GN_EP_EMULATED) && !gn_option_on(fd, SOL_SOCKET, SO_OOBINLINE)) {
		if (gn_is_at_mark(fd))
			offset--;
		else if (gn_sys_poll(&urgent, 1, 0) == 1 && (urgent.revents & POLLPRI) &&
			 gn_sys_recv(fd, gn_waste, sizeof gn_waste, MSG_PEEK | MSG_DONTWAIT) == offset)
			offset++;
	}
	gn_kernel_peek_offset(fd, offset);
}

uint64_t gn_peek_begins(struct gn_sock *so, int fd)
{
	uint64_t skip = offset_now(so);

	if (unlikely(skip))
		pass_over(so, fd, skip);
	return skip;
}

void gn_peek_ends(struct gn_sock *so, int fd, uint64_t skip, ssize_t seen)
{
	if (unlikely(skip))
		gn_kernel_peek_offset(fd, -1);
	if (seen > 0 && gn_flag(so->ep, GN_EP_PEEK_OFF))
		atomic_store(&so->ep->peek_at, position(&so->ep->rx) + skip + (uint64_t)seen);
}

/* In the kernel lane, `skip` bytes on. */
static ssize_t look_kernel(struct gn_sock *so, int fd, struct gn_io *io, size_t done, size_t limit, uint64_t skip)
{
	ssize_t n;

	if (skip)
		pass_over(so, fd, skip);
	n = gn_kernel_look(so, fd, io, done, limit);
	if (skip)
		gn_kernel_peek_offset(fd, -1);
	return n;
}

/* What is in the kernel lane still, `left` bytes of it or UINT64_MAX. */
static ssize_t look_before(struct gn_sock *so, int fd, struct gn_io *io, uint64_t left, uint64_t skip)
{
	size_t limit = (size_t)GN_MIN((uint64_t)io->total, left == UINT64_MAX ? left : left - skip);
	ssize_t n = look_kernel(so, fd, io, 0, limit, skip);

	if (n == 0 || n == -ECONNRESET) {
		gn_peer_may_be_gone(so, fd, n);
		return GN_END;
	}
	if (unlikely(io->out_flags > 0 && (io->out_flags & MSG_CTRUNC)) && (uint64_t)n == left - skip && atomic_load(&so->rx.dir->lane) == GN_LANE_RING)
		io->from_kernel = true; /* behind it are bells: what there was no room for came with these bytes */
	return n == -EAGAIN ? 0 : n;
}

/* The ring, from `skip` bytes on, behind what was `seen`. */
static ssize_t look_ring(struct gn_sock *so, int fd, const struct gn_io *io, size_t seen, uint64_t skip)
{
	struct gn_cursor c = {io->iov, io->iovcnt, 0};
	struct gn_ring ahead = so->ep->rx.ring;
	int64_t n = gn_stream_there(so, fd, SIZE_MAX);

	if (n <= 0)
		return (ssize_t)n;
	if ((uint64_t)n <= skip)
		return 0;
	n = GN_MIN(n - (int64_t)skip, (int64_t)(io->total - seen));
	if (unlikely(io->bad) && seen + (size_t)n >= io->bad)
		return -EFAULT;
	gn_cursor_copy(&c, NULL, NULL, (uint32_t)seen, false);
	ahead.own += (uint32_t)skip;
	gn_cursor_copy(&c, &ahead, &so->rx, (uint32_t)n, false);
	return (ssize_t)n;
}

/* What is in the kernel lane since the way back, `skip` bytes on, behind what was `seen`; `left` bytes from before the switch head its queue. */
static ssize_t look_behind(struct gn_sock *so, int fd, struct gn_io *io, ssize_t seen, uint64_t left, uint64_t skip)
{
	ssize_t n;

	if (!left)
		gn_drain_bells(so, fd);
	if (seen && gn_flag(so->ep, GN_EP_SENDERS) && (left || !gn_nobody_follows(so, fd)))
		return 0;
	if (seen && !left && gn_is_at_mark(fd))
		return 0;
	n = look_kernel(so, fd, io, (size_t)seen, io->total - (size_t)seen, skip + (left ? left + gn_bells_behind(so, fd, left) : 0));
	if (n == 0 && (size_t)seen < io->total)
		gn_peer_may_be_gone(so, fd, 0); /* the end of the stream */
	return GN_MAX(n, (ssize_t)0);
}

/* AF_UNIX looks for control data on behind what it gives. */
static bool wants_control(const struct gn_sock *so, const struct gn_io *io)
{
	return (io->control || io->out_flags == -1) && !gn_flag(so->ep, GN_EP_EMULATED);
}

/* All that can be seen: the rest of the kernel lane before the switch, the ring, and the kernel lane after a way back. The rx lock is held.
 * *in_ring: how far into the ring that reaches. */
static ssize_t look(struct gn_sock *so, int fd, struct gn_io *io, uint32_t *in_ring)
{
	uint64_t pos, until = gn_kernel_until(so), skip = offset_now(so), left, ring;
	size_t room = io->control_len;
	ssize_t n, seen = 0;

	*in_ring = 0;
	if (!gn_rx_shared(so))
		return GN_OTHER_LANE;
	gn_kernel_recount(so, fd);
	pos = atomic_load(&so->ep->rx.kernel_bytes);
	left = until == UINT64_MAX ? until : until > pos ? until - pos : 0;
	if (left > skip) {
		seen = look_before(so, fd, io, left, skip);
		if (until == UINT64_MAX && seen > 0 && gn_kernel_until(so) != until && !io->from_kernel) {
			io->control_len = room;
			return look(so, fd, io, in_ring); /* it switched meanwhile: some of this may be bells */
		}
		if (seen <= 0 || (uint64_t)seen < left - skip || io->from_kernel)
			return seen;
	}
	skip -= GN_MIN(skip, left);
	ring = (uint64_t)GN_MAX(gn_ring_readable(&so->ep->rx.ring, &so->rx), (int64_t)0);
	n = look_ring(so, fd, io, (size_t)seen, skip);
	if (n < 0 || (n == 0 && !left && ring <= skip && atomic_load(&so->rx.dir->lane) != GN_LANE_BACK))
		return seen ? seen : n;
	*in_ring = n ? (uint32_t)(n + (ssize_t)skip) : 0;
	skip -= GN_MIN(skip, ring);
	seen += n;
	if (((size_t)seen < io->total || wants_control(so, io)) && atomic_load(&so->rx.dir->lane) == GN_LANE_BACK)
		seen += look_behind(so, fd, io, seen, left, skip);
	return seen;
}

static bool has_ended(const struct gn_sock *so)
{
	return atomic_load(&so->peer_gone) || atomic_load(&so->rx.dir->fin) || atomic_load(&so->ep->rx.shut);
}

static ssize_t look_locked(struct gn_sock *so, int fd, struct gn_io *io, uint32_t *in_ring)
{
	uint64_t skip;
	ssize_t n;

	gn_rx_lock(so, fd);
	skip = offset_now(so);
	n = look(so, fd, io, in_ring);
	if (n > 0 && gn_flag(so->ep, GN_EP_PEEK_OFF))
		atomic_store(&so->ep->peek_at, position(&so->ep->rx) + skip + (uint64_t)n);
	gn_unlock(&so->ep->rx.lock);
	return n;
}

/* AF_UNIX shows what there is; TCP waits for more, as without MSG_PEEK. */
ssize_t gn_stream_peek(struct gn_sock *so, int fd, struct gn_io *io)
{
	size_t need = gn_flag(so->ep, GN_EP_EMULATED) ? gn_least(so, io) : 1;
	uint64_t deadline = gn_deadline(atomic_load(&so->ep->rcvtimeo_ns));
	struct pollfd end = {fd, POLLRDHUP, 0};
	struct gn_held held = {.so = so};
	bool ended = false; /* in the kernel socket, known before the look */
	uint32_t in_ring;
	ssize_t n;
	int rc;

	for (;;) {
		n = look_locked(so, fd, io, &in_ring);
		if (n == GN_END)
			return gn_recv_end(so, fd);
		if (n < 0 || (n > 0 && ((size_t)n >= need || ended || has_ended(so))))
			return n;
		if (n == 0 && (atomic_load(&so->ep->rx.shut) || (unlikely(gn_flag(so->ep, GN_EP_PEEK_OFF)) && has_ended(so))))
			return gn_recv_end(so, fd);
		if (gn_io_nonblock(so, io->flags)) {
			if (n == 0 && gn_rx_shared(so) && gn_ended_unheard(so, fd))
				continue;
			return n ? n : -EAGAIN;
		}
		if (in_ring < (size_t)n) { /* some of it is in the kernel socket: no sleep there would last */
			rc = gn_nap(&held, fd, deadline, n > 0);
			end.fd = gn_fd_still(so, fd);
			ended = gn_sys_poll(&end, 1, 0) > 0;
		} else {
			rc = gn_wait_rx(so, fd, deadline, in_ring, n > 0);
		}
		fd = gn_fd_still(so, fd);
		if (rc < 0 && rc != -EPIPE)
			return n ? n : rc;
	}
}
