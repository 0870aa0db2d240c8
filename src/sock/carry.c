/* SPDX-License-Identifier: MIT */
/*
 * Carrying: a relay's work, between the connection (`ring`, with an endpoint or a plain socket) and the socket of a stranger (`plain`).
 *
 * While relatives may sleep on the connection's old socket, what wakes them must stay there to be seen, for the kernel looks when a sleeper
 * runs, not when it is woken: of bells and of packets one is left, of a stream's bytes in the kernel lane the last, which has been carried already. So that
 * socket is readable for ever, and its news are taken from an edge-triggered set. An edge is no more than a reason to look: it may tell of what
 * has been carried. (What was sent before the switch to the ring, and not read yet, is read as by everybody: it was there while the ring was left,
 * so nobody is asleep.)
 */
#include <sys/ioctl.h>

#include "sock/carry.h"

#define BELLS_KEPT 64 /* more of them are taken out, down to one */
#define STEP_MAX_NS (128 * GN_NS_PER_MS)
#define ROOM_MS 20
#define BLIND_MS 2 /* no bell can come */

#define ENDS (EPOLLRDHUP | EPOLLHUP | EPOLLERR)

static bool is_later(ssize_t rc)
{
	return rc == -EAGAIN || rc == -EINTR;
}

static bool is_stream(const struct gn_carrier *r)
{
	return !r->so || r->so->ep->type == SOCK_STREAM;
}

/* Nothing read: of packets that may be an empty one, also when the writer has gone and others are behind it. */
static bool is_end(const struct gn_carrier *r, int fd)
{
	struct pollfd p = {fd, POLLRDHUP, 0};
	int there = 0;

	return is_stream(r) || (gn_sys_poll(&p, 1, 0) == 1 && gn_sys_ioctl(fd, FIONREAD, &there) == 0 && !there);
}

/* Of packets a reset is told before what is left, and once. */
static ssize_t plain_recv(struct gn_carrier *r, struct msghdr *msg)
{
	ssize_t n = gn_sys_recvmsg(r->plain, msg, MSG_DONTWAIT);

	if (n != -ECONNRESET || is_stream(r))
		return n;
	r->reset = true;
	return gn_sys_recvmsg(r->plain, msg, MSG_DONTWAIT);
}

/* All of these: bytes, -ENODATA at the end. */
static ssize_t plain_read(struct gn_carrier *r, void *to, size_t len)
{
	struct iovec iov = {to, len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n = plain_recv(r, &msg);

	if (n > 0 && (msg.msg_flags & MSG_CTRUNC) && r->so && gn_flag(r->so->ep, GN_EP_EMULATED)) {
		r->reset = true; /* its last byte is the mark of gn_leave_mark() */
		n--;
		return n ? n : -ENODATA;
	}
	return n == 0 && is_end(r, r->plain) ? -ENODATA : n;
}

static ssize_t ring_recv(struct gn_carrier *r, void *to, size_t len, int flags)
{
	ssize_t n = gn_sys_recv(r->ring, to, len, flags | MSG_DONTWAIT);

	if (n != -ECONNRESET || is_stream(r))
		return n;
	gn_peer_may_be_gone(r->so, r->ring, n);
	return gn_sys_recv(r->ring, to, len, flags | MSG_DONTWAIT);
}

static ssize_t plain_write(struct gn_carrier *r, const void *from, size_t len)
{
	return gn_sys_send(r->plain, from, len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static ssize_t ring_write(struct gn_carrier *r, const void *from, size_t len)
{
	int flags = MSG_DONTWAIT | MSG_NOSIGNAL;

	return r->so ? gn_send_buf(r->so, r->ring, from, len, flags) : gn_sys_send(r->ring, from, len, flags);
}

static ssize_t read_once(struct gn_carrier *r, void *to, size_t len)
{
	struct iovec iov = {to, len};
	struct gn_io io = {.iov = &iov, .iovcnt = 1, .total = len, .flags = MSG_DONTWAIT};
	ssize_t n = gn_recv_io(r->so, r->ring, &io);

	if (n != 0 || io.packet)
		return n;
	if (!is_stream(r) && gn_rx_shared(r->so) && !io.from_kernel)
		return -ENODATA; /* that of the ring */
	return is_end(r, r->ring) ? -ENODATA : 0;
}

static ssize_t read_alone(struct gn_carrier *r, void *to, size_t len)
{
	ssize_t n = read_once(r, to, len);

	return n == -ECONNRESET && !is_stream(r) ? read_once(r, to, len) : n;
}

/* What has been carried, and was left for those that sleep, goes. */
static void drop_ahead(struct gn_carrier *r)
{
	if (r->ahead || r->is_ahead)
		ring_recv(r, gn_waste, is_stream(r) ? r->ahead : sizeof gn_waste, 0);
	r->ahead = 0;
	r->is_ahead = false;
}

/* It has ended, or that is what its family has asked for. */
static bool has_ended(const struct gn_carrier *r)
{
	return (r->seen & ENDS) || atomic_load(&r->so->ep->rx.shut);
}

/* Something stands behind what was left, and a look that begins with that does not get there: an urgent byte is in between, or a descriptor
 * came with it. */
static bool is_cut(const struct gn_carrier *r)
{
	int there = 0;

	return r->ahead && gn_sys_ioctl(r->ring, FIONREAD, &there) == 0 && (size_t)there > r->ahead;
}

/* In the kernel lane, a stream: all but the last byte is taken. */
static ssize_t stream_beside(struct gn_carrier *r, void *to, size_t len)
{
	struct iovec iov[2] = {{gn_waste, r->ahead}, {to, len}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
	bool marked;
	size_t ahead;
	ssize_t n;

	n = gn_sys_recvmsg(r->ring, &msg, MSG_PEEK | MSG_DONTWAIT);
	if (n == (ssize_t)r->ahead && is_cut(r)) {
		drop_ahead(r);
		iov[0].iov_len = 0;
		n = gn_sys_recvmsg(r->ring, &msg, MSG_PEEK | MSG_DONTWAIT);
	}
	if (n < 0)
		return n;
	ahead = r->ahead;
	marked = (msg.msg_flags & MSG_CTRUNC) && gn_flag(r->so->ep, GN_EP_EMULATED); /* a peer's last word: see gn_leave_mark() */
	if ((size_t)n <= ahead || marked) {
		if (!marked && !has_ended(r))
			return -EAGAIN;
		drop_ahead(r);
		return read_alone(r, to, len);
	}
	for (ssize_t left = n - 1; left > 0;) {
		ssize_t took = gn_sys_recv(r->ring, gn_waste, GN_MIN((size_t)left, sizeof gn_waste), MSG_DONTWAIT);

		if (took <= 0)
			return took < 0 ? took : -EPROTO;
		left -= took;
	}
	r->ahead = 1;
	return n - (ssize_t)ahead;
}

/* Is there another packet behind the one that was left, or the end? -EAGAIN: no. An empty one can be seen, and once: it is passed over then, as
 * the one that was left if it is empty (the kernel marks it). Nobody else looks at the old socket but from its head, and who sleeps there polls. */
static ssize_t look_behind(struct gn_carrier *r)
{
	ssize_t n;

	gn_kernel_peek_offset(r->ring, (int64_t)r->ahead);
	n = ring_recv(r, gn_waste, 1, MSG_PEEK);
	gn_kernel_peek_offset(r->ring, -1);
	return GN_MIN(n, 0);
}

/* Likewise packets: the last one stays. */
static ssize_t packets_beside(struct gn_carrier *r, void *to, size_t len)
{
	ssize_t n = r->is_ahead ? look_behind(r) : 0;

	if (n == 0) {
		drop_ahead(r);
		n = ring_recv(r, to, len, MSG_PEEK);
	}
	if (n < 0)
		return is_later(n) && has_ended(r) ? -ENODATA : n;
	if (n == 0 && is_end(r, r->ring))
		return -ENODATA;
	r->is_ahead = true;
	r->ahead = (size_t)n;
	return n;
}

/* The last bell stays too. rx lock held: all of them were sent before the lane word changed. */
static void back_beside(struct gn_carrier *r)
{
	size_t bells;
	ssize_t n;

	do {
		n = ring_recv(r, gn_waste, sizeof gn_waste, MSG_PEEK);
		bells = n > 0 ? gn_bells_ahead(r->so, gn_waste, n) : 0;
		r->ahead = GN_MIN(bells, (size_t)GN_NONCE_BYTES);
		r->is_ahead = bells && !is_stream(r);
		if (bells > r->ahead)
			gn_sys_recv(r->ring, gn_waste, bells - r->ahead, MSG_DONTWAIT);
		else if (r->is_ahead && look_behind(r) == 0)
			drop_ahead(r);
		else
			bells = 0;
	} while (bells);
	gn_rx_back_with_bells(r->so, r->ring);
}

/* As gn_recv_io() on the ring, which would go on in the kernel lane in the same call. */
static ssize_t read_beside(struct gn_carrier *r, void *to, size_t len)
{
	struct gn_sock *so = r->so;
	struct gn_half *rx = &so->ep->rx;
	uint32_t lane;
	int64_t n;

	if (gn_rx_shared(so) && !gn_past_switch(so))
		return read_alone(r, to, len);
	if (gn_rx_shared(so)) {
		lane = atomic_load(&so->rx.dir->lane);
		n = gn_ring_readable(&rx->ring, &so->rx);
		if (n < 0)
			return -ECONNRESET;
		if (n > 0)
			return read_alone(r, to, GN_MIN(len, is_stream(r) ? (size_t)n : len));
		if (lane != GN_LANE_BACK)
			return atomic_load(&so->peer_gone) || atomic_load(&so->rx.dir->fin) || atomic_load(&rx->shut) ? read_alone(r, to, len) : -EAGAIN;
		gn_rx_lock(so, r->ring);
		back_beside(r);
		gn_unlock(&rx->lock);
	}
	return is_stream(r) ? stream_beside(r, to, len) : packets_beside(r, to, len);
}

static ssize_t sock_read(struct gn_carrier *r, void *to, size_t len)
{
	return r->shared ? read_beside(r, to, len) : read_alone(r, to, len);
}

static ssize_t ring_read(struct gn_carrier *r, void *to, size_t len)
{
	ssize_t n;

	if (r->so) {
		n = sock_read(r, to, len);
		if (likely(n != -EAGAIN) || !(r->seen & ENDS) || atomic_load(&r->so->peer_gone) || !gn_all_in_ring(r->so))
			return n;
		gn_peer_may_be_gone(r->so, r->ring, 0); /* it went when there was something else to read */
		return sock_read(r, to, len);
	}
	n = gn_sys_recv(r->ring, to, len, MSG_DONTWAIT);
	return n == 0 ? -ENODATA : n;
}

/* Moves what can be moved one way. 1: something; 0: nothing now; -errno of the reading: the connection is over; -EPIPE: that of the writing. */
static ssize_t way_step(struct gn_carrier *r, struct gn_way *w, ssize_t (*get)(struct gn_carrier *, void *, size_t),
			ssize_t (*put)(struct gn_carrier *, const void *, size_t))
{
	ssize_t n;

	if (!w->full && !w->ended) {
		n = get(r, w->data, sizeof w->data);
		if (n == -ENODATA)
			w->ended = true;
		else if (n < 0)
			return is_later(n) ? 0 : n;
		w->full = n >= 0;
		w->from = 0;
		w->to = n > 0 ? (size_t)n : 0;
	}
	if (!w->full)
		return 0;
	do {
		n = put(r, w->data + w->from, w->to - w->from);
		if (n < 0)
			return is_later(n) ? 0 : -EPIPE;
		w->from += (size_t)n;
	} while (w->from < w->to);
	w->full = false;
	return 1;
}

static void shut(struct gn_carrier *r, bool ring, int how)
{
	if (ring && r->so)
		gn_shutdown(r->so, r->ring, how);
	else
		gn_sys_shutdown(ring ? r->ring : r->plain, how);
}

/* Nobody reads there: who writes is to hear of it. */
static void way_broken(struct gn_carrier *r, struct gn_way *w)
{
	w->full = false;
	w->ended = w->told = true;
	shut(r, w == &r->out, SHUT_RD);
}

static bool hung_up(const struct gn_carrier *r)
{
	struct pollfd p = {r->plain, 0, 0};

	return gn_sys_poll(&p, 1, 0) == 1;
}

static void tell_ends(struct gn_carrier *r)
{
	if (r->out.ended && !r->out.full && !r->out.told) {
		shut(r, false, SHUT_WR);
		r->out.told = true;
	}
	if (r->in.ended && !r->in.full && !r->in.told) {
		shut(r, true, SHUT_WR);
		r->in.told = true;
	}
	/* AF_UNIX tells at once that nobody reads any more, TCP when something was written. */
	if (r->out.told && !r->in.ended && r->so && !gn_flag(r->so->ep, GN_EP_EMULATED) && gn_peer_closed(r->so))
		way_broken(r, &r->in);
}

/* False: it is over. */
static bool step(struct gn_carrier *r)
{
	ssize_t out, in;

	do {
		out = way_step(r, &r->out, ring_read, plain_write);
		in = way_step(r, &r->in, plain_read, ring_write);
		r->reset |= in < 0 && in != -EPIPE; /* it has closed, and not read all */
		if ((out < 0 && out != -EPIPE) || (in < 0 && in != -EPIPE))
			return false;
		if (out == -EPIPE) {
			r->reset |= hung_up(r);
			way_broken(r, &r->out);
		}
		if (in == -EPIPE)
			way_broken(r, &r->in);
	} while (out > 0 || in > 0);
	if (r->reset && r->in.ended && !r->in.full)
		return false; /* no end of file before it */
	tell_ends(r);
	return !(r->out.told && r->in.told) && !(r->in.ended && !r->in.full && hung_up(r));
}

/* Bells that pile up: those counted were there while all was in the ring. */
static void trim(struct gn_carrier *r)
{
	int there = 0, bells;

	if (gn_sys_ioctl(r->ring, FIONREAD, &there) < 0 || !gn_all_in_ring(r->so))
		return;
	bells = there / GN_NONCE_BYTES;
	for (int i = 0; bells > BELLS_KEPT && i < bells - 1; i++)
		gn_sys_recv(r->ring, gn_waste, GN_NONCE_BYTES, MSG_DONTWAIT);
}

/* What the kernel tells of the connection. */
static void news(struct gn_carrier *r)
{
	struct epoll_event ev;

	if (gn_sys_epoll_pwait(r->edges, &ev, 1, 0, NULL) != 1)
		return;
	r->seen |= ev.events;
	if (!r->so)
		return;
	if (!r->shared)
		gn_check_peer(r->so, r->ring, true);
	else if ((ev.events & ENDS) && gn_all_in_ring(r->so))
		gn_peer_may_be_gone(r->so, r->ring, 0);
	else
		trim(r);
}

static int wait_ms(const struct gn_carrier *r, bool for_room)
{
	uint64_t now = gn_now_ns();
	int ms = -1;

	if (r->shared)
		ms = r->next_ns > now ? (int)((r->next_ns - now) / GN_NS_PER_MS) + 1 : 0;
	if (r->so && for_room && gn_tx_shared(r->so))
		ms = ms < 0 ? ROOM_MS : GN_MIN(ms, ROOM_MS);
	if (r->so && !r->over && (gn_flag(r->so->ep, GN_EP_SHUT_CARRIER) || (for_room && gn_room_is_silent(r->so))))
		ms = ms < 0 ? BLIND_MS : GN_MIN(ms, BLIND_MS);
	return ms;
}

static void wait_for_news(struct gn_carrier *r)
{
	bool reading = !r->over && !r->out.full && !r->out.ended, for_room = !r->over && r->in.full;
	short wish = (short)((!r->in.full && !r->in.ended ? POLLIN : 0) | (r->out.full ? POLLOUT : 0));
	bool kernel_room = for_room && !(r->so && gn_tx_shared(r->so));
	struct pollfd p[4] = {{r->over ? -1 : r->edges, POLLIN, 0}, {r->plain, wish, 0}, {r->asked, POLLIN, 0}, {kernel_room ? r->ring : -1, POLLOUT, 0}};
	int ms = wait_ms(r, for_room);

	if (!wish && !r->in.ended)
		p[1].fd = -1; /* its end is not of interest yet, and would wake us for ever */
	if (r->so && (reading || for_room) &&
	    !gn_arm(r->so, r->ring, (short)((reading ? POLLIN : 0) | (for_room ? POLLOUT : 0)), GN_ARM_ALWAYS))
		ms = 0;
	gn_sys_poll(p, ARRAY_SIZE(p), ms);
	if (p[0].revents)
		news(r);
	if (p[2].revents)
		gn_heirs_serve(r);
}

/* The last relative has followed, or is gone: the connection is ours alone. */
static void become_sole(struct gn_carrier *r)
{
	struct gn_ep *ep = r->so->ep;

	r->shared = false;
	atomic_store(&ep->asleep[GN_HOLDERS], 0);
	atomic_store(&ep->holders, 1);
	gn_ep_leave(r->old);
	gn_sys_close(r->copy);
	gn_sys_close(r->asked);
	r->copy = r->asked = -1;
	drop_ahead(r);
	gn_check_peer(r->so, r->ring, true);
}

static void look_for_heirs(struct gn_carrier *r)
{
	uint64_t now = gn_now_ns();

	if (now < r->next_ns)
		return;
	if (!gn_heirs_left(r)) {
		become_sole(r);
		return;
	}
	r->step_ns = GN_MIN(GN_MAX(2 * r->step_ns, GN_NS_PER_MS), STEP_MAX_NS);
	r->next_ns = now + r->step_ns;
}

static void end(struct gn_carrier *r)
{
	r->over = true;
	if (r->so && r->reset)
		atomic_fetch_or(&r->so->ep->flags, GN_EP_LINGER0);
	gn_sys_close(r->plain);
	r->plain = -1;
}

void gn_carry_first(struct gn_carrier *r)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET};

	r->edges = gn_sys_epoll_create1(EPOLL_CLOEXEC);
	gn_sys_epoll_ctl(r->edges, EPOLL_CTL_ADD, r->ring, &ev);
	if (!step(r))
		end(r);
}

void gn_carry(struct gn_carrier *r)
{
	for (;;) {
		if (!r->over && !step(r))
			end(r);
		if (r->shared)
			look_for_heirs(r);
		if (r->over && !r->shared)
			return;
		wait_for_news(r);
	}
}
