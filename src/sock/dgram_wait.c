/* SPDX-License-Identifier: MIT */
/* Datagram pairs: spinning, parking and readiness, over several rings and the kernel's queue at once. Theory in wait.c. */
#include "sock/dgram.h"
#include "sock/inside.h"
#include "sock/sleep.h"

#define SLICE_NS (10 * GN_NS_PER_US) /* of a spin, between two looks at the kernel's queue */
#define NAP_NS GN_NS_PER_MS
#define LONG_NAP_NS (10 * GN_NS_PER_MS)
#define YIELDS 16 /* looks at a bell that is another's, before it is waited in the kernel that it goes */
#define PAUSE_NS (50 * GN_NS_PER_US)

/* Something to look at: records, or a switch that was not noticed yet. */
static bool rings_changed(const struct gn_dgram *d)
{
	const struct gn_pair *p;

	GN_FOR_PAIRS(d, p, gn_dgram_mask(d)) {
		uint32_t lane = gn_pair_rx_lane(p);

		if (lane != GN_LANE_KERNEL &&
		    (gn_pair_has(p) || lane == GN_LANE_BACK || !atomic_load_explicit(&p->sh->rx_open, memory_order_relaxed)))
			return true;
	}
	return false;
}

void gn_dgram_publish_cpu(struct gn_sock *so, uint32_t cpu)
{
	struct gn_pair *p;

	GN_FOR_PAIRS(so->dgram, p, gn_dgram_mask(so->dgram)) {
		if (atomic_load_explicit(&p->rx.dir->c_cpu, memory_order_relaxed) == cpu)
			continue;
		atomic_store_explicit(&p->rx.dir->c_cpu, cpu, memory_order_relaxed);
		atomic_store_explicit(&p->tx.dir->p_cpu, cpu, memory_order_relaxed);
	}
}

/* The processor of whom a spin would wait for: the peer that was heard last. False: of nobody. */
bool gn_dgram_peer_cpu(const struct gn_sock *so, uint32_t *cpu)
{
	const struct gn_dgram *d = so->dgram;
	uint32_t mask = gn_dgram_mask(d), last = atomic_load_explicit(&d->shared->last, memory_order_relaxed) % GN_PAIRS;

	if (!mask)
		return false;
	if (!(mask >> last & 1))
		last = (uint32_t)__builtin_ctz(mask);
	*cpu = atomic_load_explicit(&d->pair[last].rx.dir->p_cpu, memory_order_relaxed);
	return true;
}

void gn_dgram_park(struct gn_dgram *d)
{
	struct gn_pair *p;

	GN_FOR_PAIRS(d, p, gn_dgram_mask(d))
		atomic_store(&p->rx.dir->c_parked, 1);
}

/* Others that sleep, and epoll sets, want their bells still; so does one that went to sleep since we woke. A bell too many is only a look too many. */
static void disarm_rings(struct gn_sock *so, bool others)
{
	struct gn_pair *p;

	if (others || so->watches || !gn_is_only_waiter(so))
		return;
	GN_FOR_PAIRS(so->dgram, p, gn_dgram_mask(so->dgram))
		if (atomic_load_explicit(&p->rx.dir->c_parked, memory_order_relaxed))
			atomic_store_explicit(&p->rx.dir->c_parked, 0, memory_order_relaxed);
}

/* Before a sleep: whoever was written to and has not read may be dead, and then its answer is the kernel's. */
static void check_peers(struct gn_sock *so, int fd)
{
	struct gn_dgram *d = so->dgram;
	struct gn_pair *p;

	GN_FOR_PAIRS(d, p, gn_dgram_mask(d))
		if (atomic_load_explicit(&p->tx.dir->tail, memory_order_relaxed) != p->sh->tx.own)
			gn_pair_lives(so, fd, p);
	gn_dgram_heed(so, fd);
}

/* A slice of a spin, of which each wait has one. True: look (again), at the kernel's queue too. */
static bool spin_slice(struct gn_sock *so, struct gn_spinning *spin)
{
	uint64_t slice_ns;

	if (!gn_dgram_mask(so->dgram))
		return false;
	if (!spin->looks)
		gn_spin_begin(spin, gn_spin_now(so, NULL), UINT64_MAX);
	slice_ns = spin->now_ns + SLICE_NS;
	while (!spin->over) {
		for (int i = 0; i < spin->looks; i++) {
			if (rings_changed(so->dgram)) {
				gn_spin_result(&so->spin, true);
				return true;
			}
			gn_cpu_relax();
		}
		if (!gn_spin_on(spin))
			gn_spin_result(&so->spin, false);
		else if (spin->now_ns >= slice_ns)
			return true;
	}
	return false;
}

/* Several threads: the first sleeps until it rings, and is sure to hear the bell; the others look for themselves. */
static int nap_rx(struct gn_sock *so, int fd, enum gn_sleep_how how)
{
	struct gn_held held = {.so = so};
	struct pollfd p = {fd, POLLIN, 0};
	struct timespec ts = gn_timespec(NAP_NS), pause = gn_timespec(PAUSE_NS);
	int rc = (int)gn_slept(so, fd, gn_sleep_ppoll(how, &held, &p, 1, &ts, NULL));

	if (atomic_load_explicit(&so->dgram->shared->left_bells, memory_order_relaxed) < YIELDS)
		gn_sys_sched_yield(); /* it may be a bell that the first has to see */
	else
		gn_sys_nanosleep(&pause, NULL); /* and that one waits for the processor */
	return rc < 0 ? rc : 0;
}

/* Until something is in the kernel's queue. By recv(), unless others may look into it meanwhile: of UDP the kernel keeps what was looked at in
 * a second queue, and who is about to sleep in recv() asks about the first one only (__skb_recv_udp). poll() asks about both. */
static ssize_t sleep_in(struct gn_sock *so, int fd, uint64_t deadline_ns, enum gn_sleep_how how)
{
	struct gn_held held = {.so = so, .count = &so->ep->sleepers};
	struct pollfd p = {fd, POLLIN, 0};
	uint64_t now = deadline_ns ? gn_now_ns() : 0;
	struct timespec ts;
	char byte;
	int rc;

	if (gn_is_only_waiter(so))
		return gn_sleep(how, &held, SYS_recvfrom, fd, (long)&byte, 1, MSG_PEEK, 0, 0);
	if (deadline_ns && now >= deadline_ns)
		return -EAGAIN;
	ts = gn_timespec(deadline_ns - now);
	rc = (int)gn_slept(so, fd, gn_sleep_ppoll(how, &held, &p, 1, deadline_ns ? &ts : NULL, NULL));
	if (rc == 1 && (p.revents & POLLNVAL) && gn_fd_still(so, fd) < 0) /* else closed meanwhile, and the call goes on */
		return -EBADF;
	return rc ? rc : -EAGAIN;
}

static ssize_t sleep_rx(struct gn_sock *so, int fd, uint64_t deadline_ns)
{
	enum gn_sleep_how how = deadline_ns ? GN_SLEEP_EINTR : GN_SLEEP_RESTART;
	struct gn_dgram *d = so->dgram;
	uint32_t nobody = 0;
	ssize_t rc = 0;
	bool others;

	if (!atomic_compare_exchange_strong(&so->ep->sleepers, &nobody, 1))
		return nap_rx(so, fd, how);
	gn_dgram_park(d);
	if (!rings_changed(d)) {
		check_peers(so, fd);
		if (!atomic_load(&so->ep->so_error))
			rc = sleep_in(so, fd, deadline_ns, how);
	}
	fd = gn_fd_still(so, fd);
	others = atomic_fetch_sub(&so->ep->sleepers, 1) > 1;
	atomic_store_explicit(&d->shared->left_bells, 0, memory_order_relaxed); /* who sleeps comes for its bell */
	if (unlikely(atomic_load_explicit(&d->shared->distrust, memory_order_relaxed)))
		atomic_store(&d->shared->distrust, others);
	disarm_rings(so, others);
	if (rc > 0)
		gn_dgram_check(so, fd);
	return rc;
}

int gn_dgram_wait_rx(struct gn_sock *so, int fd, uint64_t deadline_ns, struct gn_spinning *spin)
{
	ssize_t rc;

	gn_cpu_publish(so);
	if (spin_slice(so, spin))
		return 0;
	rc = sleep_rx(so, fd, deadline_ns);
	if (rc == -EAGAIN || rc == 0 || rc == GN_SLEEP_AGAIN)
		return deadline_ns && gn_now_ns() >= deadline_ns ? -EAGAIN : 0;
	return rc < 0 ? (int)rc : 0;
}

/* Its reader is leaving or has left: room is the kernel's, and no bell tells of it. */
static bool is_ending(const struct gn_pair *p)
{
	return gn_pair_leaves(p) || atomic_load_explicit(&p->sh->returns, memory_order_relaxed);
}

static bool has_room(const struct gn_pair *p)
{
	uint32_t queued = p->sh->tx.own - atomic_load(&p->tx.dir->tail);

	return queued > p->tx.size || p->tx.size - queued >= gn_ring_room(&p->tx) || atomic_load(&p->tx.dir->deaf) ||
	       atomic_load(&p->tx.dir->consent) != GN_CONSENT_GIVEN;
}

/* Sleeps until the reader makes room, dies, or it is time to look again. Data that waits in the kernel's queue hides bells: then short
 * naps. */
static int sleep_room(struct gn_sock *so, const struct gn_pair *p, int fd, bool hidden, enum gn_sleep_how how)
{
	struct gn_held held = {.so = so, .count = &so->ep->sleepers};
	struct pollfd ask[2] = {{fd, hidden ? 0 : POLLIN, 0}, {p->meeting.fd, POLLIN, 0}};
	struct timespec ts = gn_timespec(hidden ? NAP_NS : LONG_NAP_NS);
	int rc = gn_sleep_ppoll(how, &held, ask, atomic_load(&p->sh->gone) ? 1 : 2, &ts, NULL);

	return rc < 0 && rc != GN_SLEEP_AGAIN ? rc : 0;
}

/* Room for the next record, in the ring of an AF_UNIX pair. */
int gn_dgram_wait_tx(struct gn_sock *so, int fd, struct gn_pair *p, uint64_t deadline_ns)
{
	bool ending = is_ending(p), deaf = atomic_load(&p->rx.dir->consent) == GN_CONSENT_NONE; /* then no bell is sent to us */
	int queue, rc = 0;

	gn_cpu_publish(so);
	if (!ending && GN_SPIN_UNTIL(so, NULL, has_room(p)))
		return 0;
	gn_rx_lock(so, fd);
	queue = gn_dgram_purge(so, fd);
	gn_error_keep(so, queue);
	gn_unlock(&so->ep->rx.lock);
	atomic_fetch_add(&so->ep->sleepers, 1);
	atomic_store(&p->tx.dir->p_parked, 1);
	if (ending || !has_room(p))
		rc = sleep_room(so, p, fd, ending || deaf || queue != -EAGAIN, deadline_ns ? GN_SLEEP_EINTR : GN_SLEEP_RESTART);
	atomic_store(&p->tx.dir->p_parked, 0);
	atomic_fetch_sub(&so->ep->sleepers, 1);
	if (rc < 0)
		return rc;
	return deadline_ns && gn_now_ns() >= deadline_ns ? -EAGAIN : 0;
}

static bool tx_on_ring(const struct gn_pair *p)
{
	return p && gn_pair_is_mapped(p) && atomic_load_explicit(&p->sh->tx_lane, memory_order_relaxed) == GN_LANE_RING && !is_ending(p);
}

/* What the kernel says of its queue when bells are out of it. */
static short kernel_bits(struct gn_sock *so, int fd, short want)
{
	struct pollfd p = {fd, want, 0};
	int rc;

	if (gn_sys_poll(&p, 1, 0) <= 0)
		return 0;
	if (!(p.revents & POLLIN) || (p.revents & POLLERR) || !gn_lock_try(&so->ep->rx.lock))
		return p.revents;
	rc = gn_dgram_purge(so, fd);
	gn_error_keep(so, rc);
	gn_unlock(&so->ep->rx.lock);
	if ((rc == -EAGAIN || rc == -EBUSY) && !(p.revents & (POLLRDHUP | POLLHUP)))
		p.revents &= (short)~GN_IN_BITS;
	return p.revents;
}

static bool is_shut(const struct gn_sock *so)
{
	return atomic_load_explicit(&so->ep->rx.shut, memory_order_relaxed) || atomic_load_explicit(&so->ep->tx.shut, memory_order_relaxed);
}

short gn_dgram_ready(struct gn_sock *so, int fd, short want, bool ask_kernel)
{
	struct gn_dgram *d = so->dgram;
	const struct gn_pair *p, *to = gn_pair_connected(d);
	short bits = 0, ask = want | POLLIN | POLLRDHUP;

	GN_FOR_PAIRS(d, p, gn_dgram_mask(d))
		if (gn_pair_rx_lane(p) != GN_LANE_KERNEL && gn_pair_has(p))
			bits = GN_IN_BITS;
	if (tx_on_ring(to)) {
		ask &= (short)~GN_OUT_BITS;
		if (to->peer.family || has_room(to))
			bits |= GN_OUT_BITS;
	}
	gn_dgram_parted(so);
	if (atomic_load_explicit(&so->ep->so_error, memory_order_relaxed))
		bits |= POLLERR;
	/* What is in a ring answers alone only where the kernel could add nothing. */
	if (ask_kernel && (!(bits & want & GN_IN_BITS) || (want & ~bits & GN_OUT_BITS) || is_shut(so) ||
			   atomic_load_explicit(&d->shared->error_may_wait, memory_order_relaxed)))
		bits |= kernel_bits(so, fd, ask);
	return bits & (want | POLLHUP | POLLERR);
}

/* Changes whenever a record came: news for edge-triggered sets. */
uint32_t gn_dgram_news(const struct gn_sock *so)
{
	const struct gn_pair *p;
	uint32_t sum = atomic_load_explicit(&so->dgram->shared->news_past, memory_order_relaxed);

	GN_FOR_PAIRS(so->dgram, p, gn_dgram_mask(so->dgram))
		sum += atomic_load_explicit(&p->rx.dir->head, memory_order_acquire);
	return sum;
}

bool gn_dgram_arm(struct gn_sock *so, int fd, short events)
{
	struct gn_pair *to = gn_pair_connected(so->dgram);

	gn_dgram_park(so->dgram);
	if ((events & GN_OUT_BITS) && tx_on_ring(to) && !to->peer.family)
		atomic_store(&to->tx.dir->p_parked, 1);
	check_peers(so, fd);
	return !gn_dgram_ready(so, fd, events, false);
}

void gn_dgram_disarm(struct gn_sock *so)
{
	struct gn_pair *to = gn_pair_connected(so->dgram);

	disarm_rings(so, atomic_load(&so->ep->sleepers) > 1);
	if (tx_on_ring(to) && atomic_load_explicit(&to->tx.dir->p_parked, memory_order_relaxed))
		atomic_store_explicit(&to->tx.dir->p_parked, 0, memory_order_relaxed);
}

/* After a wake-up: takes the bells out. */
bool gn_dgram_check(struct gn_sock *so, int fd)
{
	int rc;

	gn_rx_lock(so, fd);
	rc = gn_dgram_purge(so, fd);
	gn_unlock(&so->ep->rx.lock);
	gn_error_keep(so, rc);
	return rc == 1;
}
