/* SPDX-License-Identifier: MIT */
/*
 * The kernel lane: bytes in the kernel socket, counted so that a later switch knows its position.
 *
 * Invariant: a call in here is counted in half->in_kernel before it looks at the lane (theory in promote.c).
 */
#include <string.h>
#include <sys/ioctl.h>

#include "sock/inside.h"
#include "sock/io.h"
#include "sock/sleep.h"


static void leave(struct gn_half *half, ssize_t moved)
{
	if (moved >= 0) {
		atomic_fetch_add_explicit(&half->kernel_bytes, (uint64_t)moved, memory_order_relaxed);
		atomic_fetch_add_explicit(&half->kernel_msgs, 1, memory_order_relaxed);
	}
	atomic_fetch_sub(&half->in_kernel, 1);
}

/* Left by a jump or the end of the thread when the kernel had moved bytes already: the stream position is not known any more, and no switch may
 * be made by it. [LANE-2] Still counted as inside. */
static void position_lost(struct gn_held *held)
{
	if (held->lost)
		gn_pin(held->so, gn_fd_still(held->so, -1), GN_WHY_CALL);
}

/* A call of the kernel's on one half, which may wait there unless it is told not to. */
static long call(struct gn_sock *so, struct gn_half *half, bool waits, enum gn_sleep_how how, long nr, long a, long b, long c, long d,
		 long e, long f)
{
	struct gn_held held = {.so = so, .count = &half->in_kernel, .undo = position_lost};

	return waits ? gn_sleep(how, &held, nr, a, b, c, d, e, f) : gn_raw6(nr, a, b, c, d, e, f);
}

static ssize_t send_plain(struct gn_sock *so, int fd, struct gn_io *io, int flags, bool emulated)
{
	struct gn_half *half = &so->ep->tx;
	bool waits = !gn_io_nonblock(so, flags);
	struct msghdr msg = gn_io_msg(io);

	if (emulated) {
		msg.msg_name = NULL;
		msg.msg_namelen = 0;
		msg.msg_control = NULL;
		msg.msg_controllen = 0;
	}
	if (io->iovcnt == 1 && !msg.msg_control)
		return call(so, half, waits, GN_SLEEP_CALL, SYS_sendto, fd, (long)io->iov->iov_base, (long)io->iov->iov_len, flags,
			    (long)msg.msg_name, (long)msg.msg_namelen);
	return call(so, half, waits, GN_SLEEP_CALL, SYS_sendmsg, fd, (long)&msg, flags, 0, 0, 0);
}

/* TCP has no records and no descriptors to pass; what it says when the peer has gone differs from AF_UNIX. */
static ssize_t send_emulated(struct gn_sock *so, int fd, struct gn_io *io)
{
	ssize_t rc = send_plain(so, fd, io, (io->flags & ~(MSG_ZEROCOPY | MSG_FASTOPEN)) | MSG_NOSIGNAL, true);

	bool gone;

	if (unlikely(rc == -EPIPE && gn_flag(so->ep, GN_EP_RELAYED)))
		return gn_broken_pipe(so, io->flags);
	if (rc == -EPIPE && !io->total && !atomic_load(&so->ep->tx.shut)) {
		gn_kernel_gone(so, fd);
		gn_judge(so, fd);
		return gn_flag(so->ep, GN_EP_DEAD) ? gn_send_to_gone(so, fd, io, 0) : 0; /* of no bytes TCP learns nothing */
	}
	if (rc == -ECONNRESET) {
		gn_reset_seen(so);
		return gn_send_to_gone(so, fd, io, 0);
	}
	if (rc > 0 && (size_t)rc < io->total && !gn_io_nonblock(so, io->flags))
		gn_send_cut_short(so, fd);
	if (rc != -EPIPE)
		return rc;
	gone = !gn_flag(so->ep, GN_EP_SHUT_CARRIER) && gn_kernel_gone(so, fd);
	if (!atomic_load(&so->ep->tx.shut) && !gone)
		return (ssize_t)io->total; /* it has shut its reading half, and nobody will read */
	return gn_send_to_gone(so, fd, io, 0);
}

ssize_t gn_kernel_send(struct gn_sock *so, int fd, struct gn_io *io)
{
	struct gn_half *half = &so->ep->tx;
	ssize_t rc;

	if (!gn_lane_enter(so, half, fd))
		return GN_OTHER_LANE;
	rc = gn_flag(so->ep, GN_EP_EMULATED) ? send_emulated(so, fd, io) : send_plain(so, fd, io, io->flags, false);
	if (unlikely(rc == -EPIPE || rc == -ECONNRESET) && so->ep->type == SOCK_SEQPACKET && so->tx.dir) {
		gn_peer_may_be_gone(so, fd, rc);
		rc = gn_send_to_gone(so, fd, io, 0); /* a reset is told once, by whichever lane */
	} else if (unlikely(rc == -EOPNOTSUPP) && so->ep->type == SOCK_SEQPACKET && so->tx.dir && gn_recv_end(so, fd) == -ECONNRESET) {
		rc = -ECONNRESET; /* goes first */
	}
	leave(half, rc);
	return rc;
}

static ssize_t recv_plain(struct gn_sock *so, int fd, struct gn_io *io, int flags, enum gn_sleep_how how)
{
	struct gn_half *half = &so->ep->rx;
	bool waits = !gn_io_nonblock(so, flags);
	struct msghdr msg = gn_io_msg(io);
	ssize_t rc;

	if (io->iovcnt == 1 && !io->control && !io->name && !io->out_flags) {
		io->control_len = 0;
		return call(so, half, waits, how, SYS_recvfrom, fd, (long)io->iov->iov_base, (long)io->iov->iov_len, flags, 0, 0);
	}
	rc = call(so, half, waits, how, SYS_recvmsg, fd, (long)&msg, flags, 0, 0, 0);
	if (rc >= 0) {
		io->name_len = msg.msg_namelen;
		gn_io_answer(io, &msg);
	}
	return rc;
}

/* Only where to get nothing, or less, is no answer yet; and never on the kernel's TCP, whose peer may be far. */
static bool may_ask(const struct gn_sock *so, int flags)
{
	return !gn_io_nonblock(so, flags) && !(flags & (MSG_WAITALL | MSG_OOB | MSG_ERRQUEUE)) && gn_is_stream_like(so->ep) &&
	       (so->ep->domain == AF_UNIX || gn_flag(so->ep, GN_EP_EMULATED)) &&
	       atomic_load_explicit(&so->ep->rcvlowat, memory_order_relaxed) <= 1;
}

/* What a local peer answers comes within microseconds: to ask for it a few times costs less than to sleep and be woken. */
static ssize_t recv_asking(struct gn_sock *so, int fd, struct gn_io *io)
{
	struct gn_spinning spin;
	ssize_t rc;

	if (!may_ask(so, io->flags) || !gn_spin_begin(&spin, gn_ask_now(&gn_world.recv_spin), UINT64_MAX))
		return recv_plain(so, fd, io, io->flags, GN_SLEEP_CALL);
	do {
		rc = recv_plain(so, fd, io, io->flags | MSG_DONTWAIT, GN_SLEEP_CALL);
	} while (rc == -EAGAIN && gn_spin_on(&spin));
	gn_spin_result(&gn_world.recv_spin, rc != -EAGAIN);
	if (rc != -EAGAIN)
		return rc;
	do {
		rc = recv_plain(so, fd, io, io->flags, atomic_load(&so->ep->rcvtimeo_ns) ? GN_SLEEP_EINTR : GN_SLEEP_RESTART);
	} while (rc == GN_SLEEP_AGAIN);
	return rc;
}

/* End of file: the peer's, unless we have shut the carrying socket ourselves. */
static ssize_t recv_nothing(struct gn_sock *so, int fd)
{
	ssize_t rc;

	if (gn_flag(so->ep, GN_EP_SHUT_CARRIER))
		return gn_recv_end(so, fd);
	if (gn_sys_send(fd, "", 0, MSG_DONTWAIT | MSG_NOSIGNAL) == -EPIPE) /* not a mere half-close */
		atomic_store(&so->peer_gone, GN_GONE_CLOSED);
	rc = gn_recv_end(so, fd);
	so->eof = true;
	return rc;
}

/* TCP waits for all that is asked for when it peeks too; AF_UNIX does not, so it is looked at again and again. */
static ssize_t peek_all(struct gn_sock *so, int fd, struct gn_io *io, ssize_t seen, uint64_t skip)
{
	uint64_t deadline = gn_deadline(atomic_load(&so->ep->rcvtimeo_ns));
	struct gn_held held = {.so = so, .count = &so->ep->rx.in_kernel};
	struct pollfd p = {fd, POLLRDHUP, 0};

	while (seen > 0 && (size_t)seen < io->total && !gn_io_nonblock(so, io->flags) && gn_sys_poll(&p, 1, 0) == 0 &&
	       gn_nap(&held, fd, deadline, true) == 0) {
		if (skip)
			gn_peek_begins(so, fd); /* each look moves it on */
		seen = recv_plain(so, fd, io, io->flags, GN_SLEEP_CALL);
	}
	return seen;
}

static ssize_t recv_emulated(struct gn_sock *so, int fd, struct gn_io *io);

/* Asked for no bytes TCP waits for one, or tells how it ended, all the same. */
static ssize_t recv_none(struct gn_sock *so, int fd, struct gn_io *io)
{
	char byte;
	struct iovec iov = {&byte, 1};
	struct gn_io look = {.iov = &iov, .iovcnt = 1, .total = 1, .flags = io->flags | MSG_PEEK, .own_look = !(io->flags & MSG_PEEK)};
	uint64_t from = atomic_load(&so->ep->peek_at);
	ssize_t rc;

	io->name_len = 0;
	io->control_len = 0;
	if (gn_is_at_mark(fd) && (look.own_look || gn_peek_offset(so) <= 0))
		return 0; /* the urgent byte is one too */
	rc = recv_emulated(so, fd, &look);
	if (!look.own_look) /* which moves no offset on */
		atomic_store(&so->ep->peek_at, from);
	return rc > 0 ? 0 : rc;
}

/* A look, from SO_PEEK_OFF on. *skip: bytes that it passed over. */
static ssize_t look_emulated(struct gn_sock *so, int fd, struct gn_io *io, uint64_t *skip)
{
	bool offset = unlikely(gn_flag(so->ep, GN_EP_PEEK_OFF)) && !io->own_look && !(io->flags & MSG_OOB);
	ssize_t rc;

	*skip = offset ? gn_peek_begins(so, fd) : 0;
	rc = recv_asking(so, fd, io);
	if (unlikely(io->flags & MSG_WAITALL) && rc > 0 && (size_t)rc < io->total)
		rc = peek_all(so, fd, io, rc, *skip);
	if (offset)
		gn_peek_ends(so, fd, *skip, rc);
	return rc;
}

static ssize_t recv_emulated(struct gn_sock *so, int fd, struct gn_io *io)
{
	uint64_t skip = 0;
	ssize_t rc;

	if ((io->flags & MSG_TRUNC) && !(io->flags & MSG_OOB))
		return gn_recv_discard(so, fd, io, recv_emulated);
	if (unlikely(!io->total))
		return recv_none(so, fd, io);
	io->name = NULL;
	io->name_len = 0;
	io->control = NULL;
	io->control_len = 0;
	io->out_flags = -1; /* MSG_CTRUNC tells of a reset: see gn_leave_mark() */
	if (unlikely(atomic_load(&so->ep->rx.shut))) /* looked at again: shutdown() looks at in_kernel after it */
		io->flags |= MSG_DONTWAIT;
	/* AF_UNIX that looks for more than there is takes a reset out, and does not tell it beside data. */
	if (unlikely(gn_low_water(so) > 1 || ((io->flags & MSG_WAITALL) && gn_io_nonblock(so, io->flags))) && gn_error_waits(fd))
		gn_reset_seen(so);
	rc = unlikely(io->flags & MSG_PEEK) ? look_emulated(so, fd, io, &skip) : recv_asking(so, fd, io);
	if (unlikely(rc == -EAGAIN) && atomic_load(&so->ep->rx.shut))
		return gn_recv_end(so, fd);
	if (unlikely(rc > 0 && (io->out_flags & MSG_CTRUNC)) &&
	    gn_mark_is_in(fd, rc + (ssize_t)skip, (io->flags & MSG_PEEK) && (size_t)rc == io->total)) {
		io->out_flags = 0;
		gn_reset_seen(so);
		return rc > 1 ? rc - 1 : gn_recv_end(so, fd);
	}
	if (unlikely(rc > 0 && io->out_flags > 0))
		io->out_flags &= ~MSG_CTRUNC; /* of the mark further on */
	if (rc == -ECONNRESET) {
		gn_reset_seen(so);
		atomic_store(&so->peer_gone, GN_GONE_CLOSED); /* our writing may be on the ring */
		return gn_recv_end(so, fd);
	}
	return rc == 0 && io->total ? recv_nothing(so, fd) : rc;
}

/* Who was on the ring once: a reset is told once, by whichever lane; bells that were left unread are none, data in the ring is one. */
static ssize_t recv_after_ring(struct gn_sock *so, int fd, struct gn_io *io, ssize_t rc)
{
	ssize_t end;
	int there = 0;

	if (rc == 0 && !io->total && (gn_sys_ioctl(fd, FIONREAD, &there) < 0 || there))
		return 0;
	gn_peer_may_be_gone(so, fd, rc < 0 ? rc : -EPIPE); /* our writing may be on the ring */
	end = gn_recv_end(so, fd);
	return end == 0 && rc < 0 ? recv_plain(so, fd, io, io->flags, GN_SLEEP_CALL) : end;
}

/* The same, `rc` bytes having come: who was to be content with no less has taken the reset out beside them. */
static void forget_reset(struct gn_sock *so, int fd, const struct gn_io *io, ssize_t rc)
{
	int there = 0;

	if (so->ep->type != SOCK_STREAM || (io->flags & MSG_PEEK) || (size_t)rc >= gn_least(so, io))
		return;
	if (gn_sys_ioctl(fd, FIONREAD, &there) == 0 && !there) /* else what it stopped at was a descriptor */
		gn_recv_end(so, fd);
}

ssize_t gn_kernel_recv(struct gn_sock *so, int fd, struct gn_io *io)
{
	struct gn_half *half = &so->ep->rx;
	socklen_t room = io->name_len;
	ssize_t rc;

	if (unlikely(so->tx.dir != NULL) && so->ep->type == SOCK_SEQPACKET && !(io->flags & MSG_OOB)) {
		rc = gn_recv_end(so, fd); /* packets: told before what is left, by whichever lane */
		if (rc < 0)
			return rc;
	}
	if (!gn_lane_enter(so, half, fd))
		return GN_OTHER_LANE;
	rc = gn_flag(so->ep, GN_EP_EMULATED) ? recv_emulated(so, fd, io) : recv_asking(so, fd, io);
	if (unlikely(so->tx.dir != NULL) && !gn_flag(so->ep, GN_EP_EMULATED)) {
		if (rc == 0 || rc == -ECONNRESET)
			rc = recv_after_ring(so, fd, io, rc);
		else if (rc > 0)
			forget_reset(so, fd, io, rc);
	}
	if (unlikely(so->peer) && rc > 0 && io->name && io->name_len)
		io->name_len = GN_MAX(gn_peer_source(so, io->name, room), io->name_len);
	if (unlikely(rc == -EFAULT) && so->ep->type == SOCK_SEQPACKET && !(io->flags & MSG_PEEK))
		atomic_fetch_add(&half->kernel_msgs, 1); /* the packet is lost (unix_dgram_recvmsg) and its place counts */
	if (unlikely(io->flags & MSG_OOB) && rc > 0 && !(io->flags & MSG_PEEK))
		gn_urgent_was_read(so);
	leave(half, (io->flags & (MSG_PEEK | MSG_OOB)) ? -1 : rc);
	return rc;
}

ssize_t gn_kernel_sendfile(struct gn_sock *so, int fd, int from, off_t *at, size_t len)
{
	struct gn_half *half = &so->ep->tx;
	ssize_t rc;

	if (!gn_lane_enter(so, half, fd))
		return GN_OTHER_LANE;
	rc = call(so, half, true, GN_SLEEP_CALL, SYS_sendfile, fd, from, (long)at, (long)len, 0, 0);
	leave(half, rc);
	return rc;
}

/* While the peer may switch at any moment, what is in the kernel socket is data only if the lane word has not changed since it was seen there:
 * behind a switch come bells, and behind a way back data whose turn is after the ring's. Bytes that may be taken, 0: ended, -EAGAIN, -errno. */
static ssize_t data_for_sure(struct gn_sock *so, int fd, size_t limit)
{
	char byte;
	int there = 0;
	ssize_t rc = gn_sys_recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

	if ((rc == -EAGAIN || rc == 0 || rc == -ECONNRESET) && gn_is_at_mark(fd))
		gn_sys_recv(fd, &byte, 0, MSG_DONTWAIT); /* a look leaves the urgent byte where it is, a receive passes it */
	if (rc <= 0)
		return rc;
	if (gn_sys_ioctl(fd, FIONREAD, &there) < 0 || there <= 0)
		there = 1;
	if (atomic_load(&so->rx.dir->lane) != GN_LANE_KERNEL)
		return -EAGAIN;
	return (ssize_t)GN_MIN(limit, (size_t)there);
}

size_t gn_buffers_from(const struct gn_io *io, size_t done, size_t limit, struct iovec v[GN_BUFFERS], struct msghdr *msg)
{
	size_t room = 0, count = 0;

	for (size_t i = 0; i < io->iovcnt && count < GN_BUFFERS && room < limit; i++) {
		size_t len = io->iov[i].iov_len, run;

		if (done >= len) {
			done -= len;
			continue;
		}
		run = GN_MIN(len - done, limit - room);
		v[count++] = (struct iovec){(char *)io->iov[i].iov_base + done, run};
		room += run;
		done = 0;
	}
	*msg = (struct msghdr){.msg_iov = v, .msg_iovlen = count};
	return room;
}

/* With its control data, but for that which says that nobody sent it: so comes what is in the ring. */
static ssize_t take_message(struct gn_sock *so, int fd, const struct gn_io *io, struct msghdr *msg)
{
	bool ours = !io->control && gn_flag(so->ep, GN_EP_PASSCRED); /* the program has no room for it: we want to know */
	union {
		char bytes[CMSG_SPACE(sizeof(struct ucred))];
		struct cmsghdr head;
	} room;
	ssize_t rc;

	msg->msg_control = ours ? &room : io->control;
	msg->msg_controllen = ours ? sizeof room : io->control ? io->control_len : 0;
	rc = gn_sys_recvmsg(fd, msg, MSG_DONTWAIT | (io->flags & MSG_CMSG_CLOEXEC));
	if (rc <= 0 || !msg->msg_controllen)
		return rc;
	if (!(msg->msg_flags & MSG_CTRUNC) && gn_is_from_nobody(so, msg))
		msg->msg_controllen = 0;
	else if (ours)
		msg->msg_flags |= MSG_CTRUNC;
	if (ours)
		msg->msg_controllen = 0;
	return rc;
}

/* For a half that has consented: takes at most *limit bytes that are in the kernel lane before a switch, without waiting; *limit becomes how
 * many there was room for. The rx lock is held. `open`: the peer has not switched yet. */
ssize_t gn_kernel_take(struct gn_sock *so, int fd, struct gn_io *io, size_t done, size_t *limit, bool open)
{
	struct gn_half *half = &so->ep->rx;
	struct iovec v[GN_BUFFERS];
	struct msghdr msg;
	ssize_t rc = open ? data_for_sure(so, fd, *limit) : (ssize_t)*limit;

	*limit = gn_buffers_from(io, done, *limit, v, &msg);
	if (rc <= 0)
		return rc;
	if (open)
		gn_buffers_from(io, done, (size_t)rc, v, &msg);
	rc = take_message(so, fd, io, &msg);
	if (rc <= 0)
		return rc;
	if (unlikely((msg.msg_flags & MSG_CTRUNC) || msg.msg_controllen)) {
		if (gn_flag(so->ep, GN_EP_EMULATED)) { /* see gn_leave_mark() */
			gn_reset_seen(so);
			rc--;
		} else {
			gn_io_answer(io, &msg);
			io->from_kernel = true;
		}
	}
	atomic_fetch_add(&half->kernel_bytes, (uint64_t)rc);
	atomic_fetch_add(&half->kernel_msgs, 1);
	return rc; /* 0: nothing but the mark, which is the end */
}

/* A relative was killed between its read of the kernel lane and the count of it, or may have been. Once the peer has switched, what is left
 * tells: all that stands before the bells. */
bool gn_kernel_recount(struct gn_sock *so, int fd)
{
	struct gn_half *half = &so->ep->rx;
	_Atomic uint64_t *count = so->ep->type == SOCK_STREAM ? &half->kernel_bytes : &half->kernel_msgs;
	uint64_t pos = atomic_load(count), until, left;

	if (likely(!gn_flag(so->ep, GN_EP_UNSURE)) || gn_kernel_until(so) == UINT64_MAX)
		return false;
	until = gn_kernel_until(so);
	left = until > pos ? gn_bells_start(so, fd, until - pos) : 0;
	if (until > pos)
		atomic_store(count, until - left);
	atomic_fetch_and(&so->ep->flags, ~GN_EP_UNSURE);
	return until > pos && left != until - pos;
}

/* What the same would take, left where it is. */
ssize_t gn_kernel_look(struct gn_sock *so, int fd, struct gn_io *io, size_t done, size_t limit)
{
	struct iovec v[GN_BUFFERS];
	struct msghdr msg;
	size_t room = gn_buffers_from(io, done, limit, v, &msg);
	ssize_t rc;

	if (io->control && !gn_flag(so->ep, GN_EP_EMULATED)) {
		msg.msg_control = io->control;
		msg.msg_controllen = io->control_len;
	}
	rc = gn_sys_recvmsg(fd, &msg, MSG_PEEK | MSG_DONTWAIT | (io->flags & MSG_CMSG_CLOEXEC));
	if (unlikely(rc >= 0) && !gn_flag(so->ep, GN_EP_EMULATED) && ((msg.msg_control && msg.msg_controllen) || (msg.msg_flags & MSG_CTRUNC))) {
		gn_io_answer(io, &msg);
		/* AF_UNIX looks for control data on behind what it gives; what it gives it ends there only if that has been reached. */
		io->from_kernel = (msg.msg_control && msg.msg_controllen) || (size_t)rc < room;
	}
	if (likely(rc <= 0 || !(msg.msg_flags & MSG_CTRUNC) || !gn_flag(so->ep, GN_EP_EMULATED)) || !gn_mark_is_in(fd, rc, (size_t)rc == room))
		return rc;
	gn_reset_seen(so); /* see gn_leave_mark() */
	return rc - 1;
}
