/* SPDX-License-Identifier: MIT */
/* Datagram pairs: records in and out of rings, and the kernel's queue beside them. See dgram.h. */
#include <string.h>
#include <sys/single_threaded.h>

#include "sock/dgram.h"

#define RECORDS_MAX 64         /* from rings between two looks at the kernel's queue */
#define LOOK_TICKS 100000      /* likewise in time: 50 us or less on processors of 2 GHz and more */
#define LEFT_MAX 1000          /* looks at a bell that is left for a sleeper, until the clock is asked, */
#define LEFT_NS GN_NS_PER_S    /* and time, until it is taken nevertheless */
#define PURGE_MAX 256          /* bells taken out at a time: a peer that rings without end is not listened to for ever */
#define UDP4_MAX 65507         /* 65535 less the headers of IPv4 and UDP */
#define UDP6_MAX 65527         /* IPv6's own header does not count */

int gn_pair_bell(struct gn_sock *so, int fd, struct gn_pair *p)
{
	bool named = p->peer.family && atomic_load(&so->ep->state) != GN_ESTAB;
	ssize_t rc = 0;

	/* Whoever reads the socket after the peer has left takes a bell for data: the peer waits for the end of this. */
	atomic_store(&p->tx.dir->p_rings, 1);
	if (atomic_load(&p->tx.dir->consent) != GN_CONSENT_NONE && !gn_pair_leaves(p)) /* else who reads there knows no bells yet */
		rc = gn_sys_sendto(fd, p->nonce, sizeof p->nonce, MSG_DONTWAIT | MSG_NOSIGNAL, named ? &p->to : NULL, named ? p->to_len : 0);
	atomic_store(&p->tx.dir->p_rings, 0);
	if (rc < 0)
		return (int)rc;
	atomic_fetch_add_explicit(&so->ep->bells_sent, 1, memory_order_relaxed);
	return 0;
}

static bool too_large(struct gn_sock *so, int fd, const struct gn_pair *p, size_t len)
{
	struct gn_dgram_shared *sh = so->dgram->shared;
	socklen_t int_len = sizeof(int);
	int sndbuf;

	if (p->peer.family)
		return len > (p->peer.family == AF_INET ? UDP4_MAX : UDP6_MAX);
	if (len <= 4000) /* the kernel's least SO_SNDBUF is 4608 */
		return false;
	if (!atomic_load(&sh->sndbuf) && gn_sys_getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &sndbuf, &int_len) == 0)
		atomic_store(&sh->sndbuf, (uint32_t)sndbuf);
	return len + 32 > atomic_load(&sh->sndbuf);
}

/* After a pause, or when the reader does not move, it is to be asked whether it lives, before a datagram is entrusted to it. */
static bool is_doubtful(struct gn_pair *p)
{
	struct gn_pair_shared *sh = p->sh;
	uint64_t now = gn_ticks(), before = sh->wrote_ticks;

	sh->wrote_ticks = now;
	if (sh->tx.seen != sh->tail_before) {
		sh->tail_before = sh->tx.seen;
		sh->alive_ticks = now;
	}
	if (now - before < GN_DOUBT_TICKS && now - sh->alive_ticks < GN_DOUBT_TICKS)
		return false;
	sh->alive_ticks = now;
	return true;
}

/* -EAGAIN: full; -EBUSY: the reader is leaving; -ESTALE: nothing was written, first ask whether the reader lives (gn_pair_lives). `sure`: that was asked for this datagram, and
 * not again, however long ago: a process that is traced or starved takes longer than any doubt. */
ssize_t gn_pair_put(struct gn_sock *so, int fd, struct gn_pair *p, struct gn_io *io, bool sure)
{
	struct gn_half *half = &so->ep->tx;
	struct gn_ring *ring = &p->sh->tx, body;
	struct gn_cursor c = {io->iov, io->iovcnt, 0};
	uint32_t len = (uint32_t)io->total;
	uint64_t room = gn_record_room(io->total);
	int64_t space;
	int rc = 0;

	if (unlikely(atomic_load_explicit(&p->sh->tx_lane, memory_order_relaxed) != GN_LANE_RING))
		return GN_OTHER_LANE;
	if (io->name && !gn_pair_is_named(p, io->name, io->name_len))
		return GN_OTHER_LANE; /* the place was given to another pair meanwhile */
	if (unlikely(io->bad))
		return -EFAULT;
	if (atomic_load_explicit(&p->tx.dir->consent, memory_order_relaxed) != GN_CONSENT_GIVEN ||
	    atomic_load_explicit(&p->tx.dir->deaf, memory_order_relaxed) || atomic_load_explicit(&p->sh->returns, memory_order_relaxed) ||
	    too_large(so, fd, p, io->total) || room > gn_ring_room(&p->tx)) {
		rc = gn_pair_end(so, fd, p);
		return rc ? rc : GN_OTHER_LANE;
	}
	space = gn_ring_space(ring, &p->tx);
	if (space < 0) {
		gn_pair_tx_back(so, p); /* nonsense: [RING-2] */
		return GN_OTHER_LANE;
	}
	if (unlikely(is_doubtful(p)) && !sure)
		return -ESTALE;
	if ((uint64_t)space >= room) {
		body = *ring;
		gn_ring_put(ring, &p->tx, 0, &len, sizeof len);
		body.own += (uint32_t)sizeof len;
		gn_cursor_copy(&c, &body, &p->tx, len, true);
		if (gn_ring_publish(ring, &p->tx, (uint32_t)room))
			rc = gn_pair_bell(so, fd, p);
	} else if (!p->peer.family) {
		return -EAGAIN;
	} /* else UDP throws it away without a word, as a full socket would */
	if (rc == -ECONNREFUSED) {
		gn_pair_tx_back(so, p);
		return rc;
	}
	atomic_store_explicit(&half->ring_bytes, half->ring_bytes + len, memory_order_relaxed);
	atomic_store_explicit(&half->ring_msgs, half->ring_msgs + 1, memory_order_relaxed);
	return (ssize_t)len;
}

/* The pair's name as recvfrom() gives it. */
static void name_out(struct gn_sock *so, int fd, const struct gn_pair *p, struct gn_io *io)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;

	if (!io->name)
		return;
	if (!p->peer.family && gn_sys_getpeername(fd, &ss, &len) == 0) { /* it may have been bound after we met */
		len = len > sizeof(sa_family_t) ? len : 0;
	} else {
		ss = p->to;
		len = p->to_len;
	}
	memcpy(io->name, &ss, GN_MIN(len, io->name_len));
	io->name_len = len;
	(void)so;
}

/* One record. -EAGAIN: none. */
static ssize_t pair_take(struct gn_sock *so, int fd, struct gn_pair *p, struct gn_io *io, struct gn_taken *taken)
{
	struct gn_half *half = &so->ep->rx;
	struct gn_ring *ring = &p->sh->rx, body;
	struct gn_cursor c = {io->iov, io->iovcnt, 0};
	uint32_t lane = gn_pair_rx_lane(p), gone = atomic_load(&p->sh->gone), len, copy;
	int64_t there;
	ssize_t rc;

	if (lane == GN_LANE_KERNEL || !atomic_load_explicit(&p->sh->rx_open, memory_order_relaxed)) {
		if (gone && lane == GN_LANE_KERNEL)
			gn_pair_rx_done(so, p);
		return -EAGAIN;
	}
	there = gn_ring_readable(ring, &p->rx);
	if (there == 0) {
		if (lane == GN_LANE_BACK || gone)
			gn_pair_rx_done(so, p);
		return -EAGAIN;
	}
	if (there >= (int64_t)sizeof len)
		gn_ring_get(ring, &p->rx, 0, &len, sizeof len);
	if (there < (int64_t)sizeof len || (int64_t)gn_record_room(len) > there) {
		gn_pair_rx_done(so, p); /* a length that cannot be: [RING-2] */
		atomic_store(&p->rx.dir->deaf, GN_DEAF_SHUT);
		return -EAGAIN;
	}
	copy = (uint32_t)GN_MIN((size_t)len, io->total);
	rc = (io->flags & MSG_TRUNC) ? (ssize_t)len : (ssize_t)copy;
	body = *ring;
	body.own += (uint32_t)sizeof len;
	if (unlikely(io->bad) && copy >= io->bad)
		rc = -EFAULT; /* and the datagram is lost, as in the kernel */
	else
		gn_cursor_copy(&c, &body, &p->rx, copy, false);
	name_out(so, fd, p, io);
	io->out_flags = copy < len ? MSG_TRUNC : 0;
	if (unlikely(gn_flag(so->ep, GN_EP_CONTROL)))
		gn_ring_control(so, io, io->control_len);
	else
		io->control_len = 0;
	if (!(io->flags & MSG_PEEK)) {
		if (gn_ring_consume(ring, &p->rx, (uint32_t)gn_record_room(len)) && !p->peer.family) /* UDP waits for none */
			taken->room_for = p;
		atomic_store_explicit(&half->ring_bytes, half->ring_bytes + len, memory_order_relaxed);
		atomic_store_explicit(&half->ring_msgs, half->ring_msgs + 1, memory_order_relaxed);
	}
	return rc;
}

/* Is this, from there, a bell of ours? Opens the ring that it marks. [DGRAM-2] */
bool gn_dgram_is_bell(struct gn_sock *so, const uint8_t *bytes, const struct sockaddr_storage *from, socklen_t from_len)
{
	struct gn_dgram *d = so->dgram;
	struct gn_addr source = {0};
	struct gn_pair *p;

	for (uint32_t i = 0; i < GN_PAIRS; i++) {
		p = &d->pair[i];
		if (!gn_pair_is_mapped(p) || memcmp(p->nonce, bytes, sizeof p->nonce) != 0)
			continue;
		if (p->peer.family && (gn_addr_from_sockaddr(&source, (const struct sockaddr *)from, from_len) < 0 ||
				       !gn_addr_equal(&source, &p->peer)))
			continue;
		if (gn_pair_rx_lane(p) != GN_LANE_KERNEL)
			atomic_store(&p->sh->rx_open, 1);
		return true;
	}
	for (uint32_t i = 0; i < GN_NONCES && i < d->buried; i++)
		if (memcmp(d->nonces[i], bytes, GN_NONCE_BYTES) == 0)
			return true;
	return false;
}

/* Nobody has come for it for so long that nobody will. On a busy machine who was woken may wait for the processor for many milliseconds. */
static bool bell_is_forgotten(struct gn_dgram_shared *sh)
{
	uint32_t looks = atomic_fetch_add_explicit(&sh->left_bells, 1, memory_order_relaxed) + 1;
	uint64_t now;

	if (looks < LEFT_MAX || atomic_load(&sh->distrust))
		return looks >= LEFT_MAX;
	now = gn_now_ns();
	if (looks == LEFT_MAX)
		sh->left_since_ns = now;
	if (now - sh->left_since_ns < LEFT_NS)
		return false;
	atomic_store(&sh->distrust, 1);
	return true;
}

/* A bell stays for who sleeps until it rings: taken out before the sleeper runs, it would be slept through. Should a sleeper have been
 * killed, nobody waits for it for ever. */
static bool bell_is_free(struct gn_sock *so)
{
	struct gn_dgram_shared *sh = so->dgram->shared;

	if (atomic_load(&so->ep->sleepers) != 0 && !bell_is_forgotten(sh))
		return false;
	atomic_store_explicit(&sh->left_bells, 0, memory_order_relaxed);
	return true;
}

/* Behind the bell that heads the kernel's queue. */
static bool is_something_behind(int fd)
{
	int offset = -1;
	socklen_t len = sizeof offset;
	ssize_t n;
	char byte;

	gn_sys_getsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &offset, &len);
	gn_kernel_peek_offset(fd, GN_NONCE_BYTES);
	n = gn_sys_recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	gn_kernel_peek_offset(fd, offset);
	return n >= 0;
}

/* The epoll set of a relative, or of another thread, may not have looked at a bell yet that woke it. So a last one stays while there are records,
 * and the next one is asked for when it goes. Flag first, then the look, as in gn_arm(). */
static bool bell_is_relied_on(struct gn_sock *so, int fd)
{
	struct gn_dgram *d = so->dgram;
	const struct gn_pair *p;
	bool records = false;

	if (likely((!so->watches || __libc_single_threaded) && (!gn_flag(so->ep, GN_EP_WATCHED) || atomic_load(&so->ep->holders) == 1)))
		return false;
	gn_dgram_park(d);
	GN_FOR_PAIRS(d, p, gn_dgram_mask(d))
		records |= atomic_load(&p->sh->rx_open) && gn_pair_has(p);
	return records && !is_something_behind(fd);
}

static int purge(struct gn_sock *so, int fd, bool all)
{
	uint8_t bytes[GN_NONCE_BYTES + 1];
	struct sockaddr_storage from;
	struct iovec iov = {bytes, sizeof bytes};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t rc;

	for (int round = 0; round < PURGE_MAX; round++) {
		msg.msg_name = &from;
		msg.msg_namelen = sizeof from;
		rc = gn_sys_recvmsg(fd, &msg, MSG_PEEK | MSG_DONTWAIT);
		if (rc < 0)
			return (int)rc;
		if (rc != GN_NONCE_BYTES || !gn_dgram_is_bell(so, bytes, &from, msg.msg_namelen))
			return 1;
		if (!all && (!bell_is_free(so) || bell_is_relied_on(so, fd)))
			return -EBUSY;
		gn_sys_recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
	}
	return -EBUSY; /* who rings without end is not listened to for ever */
}

int gn_dgram_purge(struct gn_sock *so, int fd)
{
	return purge(so, fd, false);
}

int gn_dgram_purge_all(struct gn_sock *so, int fd)
{
	return purge(so, fd, true);
}

static void first_bytes(const struct gn_io *io, uint8_t to[GN_NONCE_BYTES])
{
	size_t have = 0;

	for (size_t i = 0; i < io->iovcnt && have < GN_NONCE_BYTES; i++) {
		size_t run = GN_MIN(io->iov[i].iov_len, GN_NONCE_BYTES - have);

		memcpy(to + have, io->iov[i].iov_base, run);
		have += run;
	}
}

/* Does a ring come before what the kernel's queue holds? AF_UNIX keeps order, and who has gone back wrote the ring first. [DGRAM-1] */
static bool ring_is_first(const struct gn_sock *so)
{
	const struct gn_pair *p;

	GN_FOR_PAIRS(so->dgram, p, gn_dgram_mask(so->dgram)) {
		uint32_t lane = gn_pair_rx_lane(p);

		if ((lane == GN_LANE_BACK || (lane == GN_LANE_RING && so->ep->domain == AF_UNIX)) && atomic_load(&p->sh->rx_open) && gn_pair_has(p))
			return true;
	}
	return false;
}

/* A datagram by the kernel, without waiting. -ERESTART: a ring goes first. */
static ssize_t kernel_take(struct gn_sock *so, int fd, struct gn_io *io, struct gn_taken *taken)
{
	struct msghdr msg;
	uint8_t bytes[GN_NONCE_BYTES];
	int round = 0;
	ssize_t rc;

	do {
		if (round++ == PURGE_MAX)
			return -EBUSY;
		/* Where somebody may have gone to sleep, a bell is looked at before it is taken. */
		if ((io->flags & MSG_PEEK) || io->total < GN_NONCE_BYTES || so->ep->domain == AF_UNIX || atomic_load(&so->ep->sleepers) ||
		    !gn_is_only_waiter(so)) {
			rc = gn_dgram_purge(so, fd);
			if (rc < 0)
				return rc;
		}
		if (ring_is_first(so)) /* a bell may have opened it just now */
			return -ERESTART;
		msg = gn_io_msg(io);
		msg.msg_name = &taken->from;
		msg.msg_namelen = sizeof taken->from;
		gn_offset_lend(so, fd);
		rc = gn_sys_recvmsg(fd, &msg, (io->flags & ~MSG_WAITALL) | MSG_DONTWAIT);
		gn_offset_take(so, fd);
		if (rc < 0)
			return rc;
		if (rc == GN_NONCE_BYTES)
			first_bytes(io, bytes);
	} while (rc == GN_NONCE_BYTES && io->total >= GN_NONCE_BYTES && gn_dgram_is_bell(so, bytes, &taken->from, msg.msg_namelen));
	if (io->name)
		memcpy(io->name, &taken->from, GN_MIN(io->name_len, msg.msg_namelen));
	io->name_len = io->name ? msg.msg_namelen : 0;
	gn_io_answer(io, &msg);
	gn_dgram_looked(so->dgram, io->flags & MSG_PEEK ? GN_LOOKED_QUEUE : 0);
	if (!(io->flags & MSG_PEEK)) {
		atomic_fetch_add_explicit(&so->ep->rx.kernel_bytes, (uint64_t)rc, memory_order_relaxed);
		atomic_fetch_add_explicit(&so->ep->rx.kernel_msgs, 1, memory_order_relaxed);
		taken->by_kernel = true;
		taken->from_len = msg.msg_namelen;
	}
	return rc;
}

static ssize_t rings_take(struct gn_sock *so, int fd, struct gn_io *io, struct gn_taken *taken)
{
	struct gn_dgram *d = so->dgram;
	struct gn_pair *p;
	uint32_t at;
	ssize_t n;

	GN_FOR_PAIRS_IN_TURN(d, p, gn_dgram_mask(d)) {
		n = pair_take(so, fd, p, io, taken);
		if (n == -EAGAIN)
			continue;
		at = (uint32_t)(p - d->pair);
		if (!(io->flags & MSG_PEEK) && atomic_load_explicit(&d->shared->last, memory_order_relaxed) != at)
			atomic_store_explicit(&d->shared->last, at, memory_order_relaxed);
		gn_dgram_looked(d, io->flags & MSG_PEEK ? 1 + at : 0);
		d->shared->records++;
		return n;
	}
	return -EAGAIN;
}

/* Pairs whose peers have switched and whose rings are not open yet. */
static uint32_t closed_rings(const struct gn_dgram *d)
{
	const struct gn_pair *p;
	uint32_t closed = 0;

	GN_FOR_PAIRS(d, p, gn_dgram_mask(d))
		if (!atomic_load_explicit(&p->sh->rx_open, memory_order_relaxed) && gn_pair_rx_lane(p) != GN_LANE_KERNEL)
			closed |= 1u << (p - d->pair);
	return closed;
}

/* The kernel's queue; when it is empty, all that came before a switch has been read. */
static ssize_t queue_take(struct gn_sock *so, int fd, struct gn_io *io, struct gn_taken *taken)
{
	struct gn_dgram *d = so->dgram;
	uint32_t closed = closed_rings(d);
	struct gn_pair *p;
	ssize_t n = kernel_take(so, fd, io, taken);

	d->shared->records = 0;
	d->shared->looked_ticks = gn_ticks();
	if (n == -ERESTART || n == -EBUSY || (n == -EAGAIN && closed)) { /* a bell that stays where it is may have opened one too */
		GN_FOR_PAIRS(d, p, n == -EAGAIN ? closed : 0)
			atomic_store(&p->sh->rx_open, 1);
		n = rings_take(so, fd, io, taken);
	}
	return n;
}

/* A peer writes to the kernel again: the rings go first. */
static bool going_back(const struct gn_dgram *d)
{
	const struct gn_pair *p;

	GN_FOR_PAIRS(d, p, gn_dgram_mask(d))
		if (gn_pair_rx_lane(p) == GN_LANE_BACK)
			return true;
	return false;
}

/* What the kernel's queue holds has waited for long enough, or has been looked at. */
static bool queue_is_next(const struct gn_dgram_shared *sh)
{
	uint32_t looked = atomic_load_explicit(&sh->looked, memory_order_relaxed);

	if (unlikely(looked))
		return looked == GN_LOOKED_QUEUE;
	return sh->records >= RECORDS_MAX || gn_ticks() - sh->looked_ticks > LOOK_TICKS;
}

ssize_t gn_dgram_take(struct gn_sock *so, int fd, struct gn_io *io, bool ask_kernel, struct gn_taken *taken)
{
	ssize_t n;

	if (unlikely(!gn_dgram_is_quiet(so)) && queue_is_next(so->dgram->shared) && !going_back(so->dgram)) {
		n = queue_take(so, fd, io, taken);
		return n == -EAGAIN ? rings_take(so, fd, io, taken) : n;
	}
	n = rings_take(so, fd, io, taken);
	return n == -EAGAIN && ask_kernel ? queue_take(so, fd, io, taken) : n;
}

bool gn_dgram_is_quiet(const struct gn_sock *so)
{
	const struct gn_pair *p = gn_pair_connected(so->dgram);

	return p && gn_pair_is_mapped(p) && atomic_load_explicit(&p->sh->rx_open, memory_order_relaxed) &&
	       gn_pair_rx_lane(p) == GN_LANE_RING && atomic_load_explicit(&p->sh->tx_lane, memory_order_relaxed) == GN_LANE_RING &&
	       !atomic_load_explicit(&p->tx.dir->deaf, memory_order_relaxed);
}
