/* SPDX-License-Identifier: MIT */
/* Datagram endpoints: sending and receiving. See dgram.h. */
#include <linux/sockios.h>
#include <sys/ioctl.h>

#include "sock/dgram.h"
#include "sock/sleep.h"

#define LEAVES_STEP_NS (50 * GN_NS_PER_US)
#define LEAVES_NS (5 * GN_NS_PER_MS)
#define LEAVES_UDP_NS (100 * GN_NS_PER_MS)
#define HARMLESS (MSG_DONTWAIT | MSG_NOSIGNAL | MSG_CONFIRM | MSG_DONTROUTE)

/* The pair that a datagram would go to, if it has one. */
static struct gn_pair *pair_of(struct gn_sock *so, const struct gn_io *io)
{
	struct gn_dgram *d = so->dgram;

	if (!d)
		return NULL;
	return io->name ? gn_pair_named(d, so, io->name, io->name_len) : gn_pair_connected(d);
}

static bool is_on_ring(const struct gn_pair *p)
{
	return p && gn_pair_is_mapped(p) && atomic_load(&p->sh->tx_lane) == GN_LANE_RING;
}

static ssize_t send_kernel(struct gn_sock *so, int fd, struct gn_io *io, bool by_force)
{
	struct msghdr msg = gn_io_msg(io);
	struct gn_held held = {.so = so, .count = &so->ep->tx.in_kernel};
	ssize_t rc;

	/* Closed to a switch while we are inside: else this datagram could come behind a later one of the same thread. */
	atomic_fetch_add(&so->ep->tx.in_kernel, 1);
	if (unlikely(so->dgram && !by_force && is_on_ring(pair_of(so, io)))) {
		atomic_fetch_sub(&so->ep->tx.in_kernel, 1);
		return GN_OTHER_LANE;
	}
	if (io->iovcnt == 1 && !io->control)
		rc = gn_sleep(GN_SLEEP_CALL, &held, SYS_sendto, fd, (long)io->iov->iov_base, (long)io->iov->iov_len, io->flags, (long)io->name,
			      (long)io->name_len);
	else
		rc = gn_sleep(GN_SLEEP_CALL, &held, SYS_sendmsg, fd, (long)&msg, io->flags, 0, 0, 0);
	atomic_fetch_sub(&so->ep->tx.in_kernel, 1);
	if (unlikely(rc == -ECONNREFUSED) && so->dgram && so->ep->domain == AF_UNIX && !io->name)
		gn_dgram_connected(so, fd, 0, true); /* the kernel has parted us from the dead, and thrown away what they had sent */
	if (rc < 0)
		return rc;
	if (unlikely(so->dgram))
		atomic_store_explicit(&so->dgram->shared->error_may_wait, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&so->ep->tx.kernel_bytes, (uint64_t)rc, memory_order_relaxed);
	atomic_fetch_add_explicit(&so->ep->tx.kernel_msgs, 1, memory_order_relaxed);
	return rc;
}

/* The reader is leaving, which is soon over. True: look again. */
static bool leaves_soon(const struct gn_pair *p, uint64_t *until_ns)
{
	struct timespec step = gn_timespec(LEAVES_STEP_NS);
	uint64_t now = gn_now_ns();

	if (!*until_ns)
		*until_ns = now + (p->peer.family ? LEAVES_UDP_NS : LEAVES_NS);
	if (now >= *until_ns)
		return false;
	gn_sys_nanosleep(&step, NULL);
	return true;
}

static ssize_t send_ring(struct gn_sock *so, int fd, struct gn_pair *p, struct gn_io *io)
{
	uint64_t deadline = 0, leaves_until = 0;
	bool sure = false, told = false;
	ssize_t n;

	for (;;) {
		gn_tx_lock(so, fd);
		n = gn_pair_put(so, fd, p, io, sure);
		gn_unlock(&so->ep->tx.lock);
		if (likely(n != -EAGAIN && n != -ESTALE && n != -EBUSY)) {
			if (unlikely(n >= 0 && gn_pair_leaves(p)))
				gn_pair_settle(so, fd, p);
			return n;
		}
		if (!gn_pair_lives(so, fd, p) && !atomic_load(&p->sh->returns))
			return GN_OTHER_LANE;
		sure = n == -ESTALE;
		if (sure || (n == -EBUSY && leaves_soon(p, &leaves_until)))
			continue;
		if (n == -EBUSY && p->peer.family)
			return (ssize_t)io->total; /* stopped in mid-leave: thrown away, as by a full queue */
		if (gn_io_nonblock(so, io->flags)) {
			if (told)
				return -EAGAIN;
			told = true; /* first, then another look: room that comes after it is an edge */
			atomic_fetch_add(&so->tx_full, 1);
			continue;
		}
		if (!deadline)
			deadline = gn_deadline(atomic_load(&so->ep->sndtimeo_ns));
		n = gn_dgram_wait_tx(so, fd, p, deadline);
		fd = gn_fd_still(so, fd);
		if (n < 0)
			return n;
	}
}

/* Control data and flags that only the kernel understands: it gets all that follows too, so that order is kept. */
static void go_back(struct gn_sock *so, const struct gn_io *io)
{
	gn_why(so->ep, io->control_len ? GN_WHY_ANCILLARY : GN_WHY_CALL);
	atomic_fetch_or(&so->ep->flags, GN_EP_PINNED);
	gn_dgram_pin(so);
}

/* A flag that this kind of socket answers with an error, or does not know: nothing to keep in order. */
static bool is_refused(const struct gn_sock *so, const struct gn_io *io)
{
	return (io->flags & MSG_OOB) && so->ep->domain != AF_INET6;
}

static ssize_t send_once(struct gn_sock *so, int fd, struct gn_io *io)
{
	struct gn_pair *p = pair_of(so, io);
	bool unusual = io->control_len || (io->flags & ~HARMLESS);
	ssize_t n;

	if (p && likely(!unusual) && gn_pair_switch_tx(so, fd, p)) {
		n = send_ring(so, fd, p, io);
		if (n != GN_OTHER_LANE)
			return n;
	}
	if (unlikely(unusual || (io->name && so->ep->domain == AF_UNIX)) && so->dgram && !is_refused(so, io))
		go_back(so, io);
	n = send_kernel(so, fd, io, unusual);
	if (n >= 0 && !unusual)
		gn_pair_warm(so, fd, io->name, io->name_len);
	return n;
}

/* The kernel tells that a datagram was refused before it gives another one. */
static void error_fetch(struct gn_sock *so, int fd)
{
	int error = 0;
	socklen_t len = sizeof error;

	atomic_store_explicit(&so->dgram->shared->error_may_wait, 0, memory_order_relaxed);
	if (gn_sys_getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error)
		atomic_store(&so->ep->so_error, (uint32_t)error);
}

static ssize_t error_take(struct gn_sock *so)
{
	if (likely(!atomic_load_explicit(&so->ep->so_error, memory_order_relaxed)))
		return 0;
	return -(ssize_t)atomic_exchange(&so->ep->so_error, 0);
}

/* An error that the kernel told when nobody had asked. */
static ssize_t error_due(struct gn_sock *so)
{
	gn_dgram_parted(so);
	return error_take(so);
}

/* The same, of the kernel too. */
static ssize_t error_asked(struct gn_sock *so, int fd)
{
	gn_dgram_parted(so);
	if (unlikely(atomic_load_explicit(&so->dgram->shared->error_may_wait, memory_order_relaxed)))
		error_fetch(so, fd);
	return error_take(so);
}

ssize_t gn_dgram_send(struct gn_sock *so, int fd, struct gn_io *io)
{
	/* UDP asks for a destination before it tells an error, and all of them say first that they know no urgent data. */
	bool aimless = is_refused(so, io) || (!io->name && so->ep->domain != AF_UNIX && atomic_load_explicit(&so->ep->state, memory_order_relaxed) != GN_ESTAB);
	ssize_t n = so->dgram && !aimless ? error_due(so) : 0;

	if (unlikely(n))
		return n;
	do {
		n = send_once(so, fd, io);
	} while (unlikely(n == GN_OTHER_LANE));
	return n;
}

/* By the kernel alone, while it knows nothing of bells. */
static ssize_t recv_cold(struct gn_sock *so, int fd, struct gn_io *io)
{
	struct sockaddr_storage from;
	struct gn_io own = *io;
	bool nameless = so->dgram && !io->name && so->ep->domain != AF_UNIX && atomic_load(&so->ep->state) != GN_ESTAB;
	ssize_t n = so->dgram ? error_due(so) : 0;

	if (unlikely(n))
		return n;
	if (!nameless) {
		n = gn_kernel_recv(so, fd, io);
		if (n >= 0 && !(io->flags & MSG_PEEK) && (io->name || atomic_load(&so->ep->state) == GN_ESTAB))
			gn_pair_warm(so, fd, so->ep->domain == AF_UNIX ? NULL : io->name, io->name_len);
		else if (n >= 0)
			gn_pair_warm(so, fd, NULL, 0);
		return n;
	}
	own.name = &from; /* the program does not ask who it was; we do */
	own.name_len = sizeof from;
	n = gn_kernel_recv(so, fd, &own);
	if (n >= 0 && !(io->flags & MSG_PEEK))
		gn_pair_warm(so, fd, &from, own.name_len);
	io->name_len = 0;
	io->control_len = own.control_len;
	io->out_flags = own.out_flags;
	return n;
}

static void taken_done(struct gn_sock *so, int fd, struct gn_taken *t)
{
	/* From the dead a bell of ours would part us, and what they had sent be thrown away. */
	if (unlikely(t->room_for) && gn_pair_lives(so, fd, t->room_for)) {
		gn_tx_lock(so, fd);
		gn_error_keep(so, gn_pair_bell(so, fd, t->room_for));
		gn_unlock(&so->ep->tx.lock);
	}
	if (unlikely(t->by_kernel))
		gn_pair_warm(so, fd, so->ep->domain == AF_UNIX ? NULL : &t->from, t->from_len);
}

/* With rings: never inside the kernel lane without knowing a bell from a datagram. */
static ssize_t recv_shared(struct gn_sock *so, int fd, struct gn_io *io)
{
	struct gn_spinning spin = {.looks = 0};
	struct gn_taken taken;
	uint64_t deadline = 0;
	bool nonblock = gn_io_nonblock(so, io->flags), ask;
	ssize_t n;

	n = error_asked(so, fd);
	if (unlikely(n))
		return n;
	for (bool again = false;; again = true) {
		ask = again || (nonblock && (!gn_dgram_is_quiet(so) || ++so->empties % 16 == 0));
		taken.room_for = NULL;
		taken.by_kernel = false;
		gn_rx_lock(so, fd);
		n = gn_dgram_take(so, fd, io, ask, &taken);
		gn_unlock(&so->ep->rx.lock);
		taken_done(so, fd, &taken);
		if (likely(n != -EAGAIN))
			return n;
		n = error_due(so);
		if (unlikely(n))
			return n;
		if (nonblock)
			return -EAGAIN;
		if (atomic_load(&so->ep->rx.shut))
			return 0;
		if (!deadline)
			deadline = gn_deadline(atomic_load(&so->ep->rcvtimeo_ns));
		n = gn_dgram_wait_rx(so, fd, deadline, &spin);
		fd = gn_fd_still(so, fd);
		if (n < 0)
			return n;
	}
}

/* Not from the queue of datagrams. */
static ssize_t recv_special(struct gn_sock *so, int fd, struct gn_io *io)
{
	struct gn_held held = {.so = so};
	struct msghdr msg = gn_io_msg(io);
	ssize_t rc = gn_sleep(GN_SLEEP_CALL, &held, SYS_recvmsg, fd, (long)&msg, io->flags, 0, 0, 0);

	if (rc >= 0) {
		io->name_len = msg.msg_namelen;
		gn_io_answer(io, &msg);
	}
	return rc;
}

ssize_t gn_dgram_recv(struct gn_sock *so, int fd, struct gn_io *io)
{
	ssize_t n = GN_OTHER_LANE;

	if (so->ep->domain == AF_UNIX)
		io->flags &= ~MSG_ERRQUEUE; /* it has no such queue, and reads what there is */
	if (unlikely((io->flags & MSG_ERRQUEUE) || ((io->flags & MSG_OOB) && so->ep->domain == AF_UNIX)))
		return recv_special(so, fd, io);
	while (n == GN_OTHER_LANE)
		n = gn_rx_shared(so) ? recv_shared(so, fd, io) : recv_cold(so, fd, io);
	return n;
}

/* FIONREAD: the length of the next datagram. */
int gn_dgram_unread(struct gn_sock *so, int fd, int *bytes)
{
	struct gn_dgram *d = so->dgram;
	struct gn_pair *p;
	uint32_t len;
	bool queued; /* in the kernel, before what is in rings that are not open yet */
	int rc = 1;

	gn_rx_lock(so, fd);
	for (int look = 0; look < 2; look++) { /* an error is told before what is queued */
		rc = gn_dgram_purge(so, fd);
		gn_error_keep(so, rc);
		if (rc == 1 || rc == -EAGAIN || rc == -EBUSY)
			break;
	}
	queued = rc == 1;
	rc = 1;
	GN_FOR_PAIRS_IN_TURN(d, p, atomic_load(&d->shared->looked) == GN_LOOKED_QUEUE && queued ? 0 : gn_dgram_mask(d)) {
		if ((queued && !atomic_load(&p->sh->rx_open)) || gn_pair_rx_lane(p) == GN_LANE_KERNEL ||
		    gn_ring_readable(&p->sh->rx, &p->rx) < (int64_t)sizeof len)
			continue;
		gn_ring_get(&p->sh->rx, &p->rx, 0, &len, sizeof len);
		*bytes = (int)len;
		gn_dgram_looked(d, 1 + (uint32_t)(p - d->pair));
		rc = 0;
		break;
	}
	if (rc == 1 && queued)
		gn_dgram_looked(d, GN_LOOKED_QUEUE);
	gn_unlock(&so->ep->rx.lock);
	return rc == 1 ? gn_sys_ioctl(fd, FIONREAD, bytes) : rc;
}

/* SIOCOUTQ of a local socket: what its peer has not read. The kernel's own answer counts differently, and knows nothing of the ring. */
int gn_dgram_unsent(struct gn_sock *so, int fd, int *bytes)
{
	const struct gn_pair *p = pair_of(so, &(struct gn_io){0});

	if (so->ep->domain != AF_UNIX || !is_on_ring(p))
		return gn_sys_ioctl(fd, SIOCOUTQ, bytes);
	*bytes = (int)GN_MIN(p->sh->tx.own - atomic_load(&p->tx.dir->tail), p->tx.size);
	return 0;
}
