/* SPDX-License-Identifier: MIT */
/* Readiness of endpoints on the ring, in poll(2)'s bits; and asking the peer for bells before a sleep. */
#include <sys/ioctl.h>

#include "sock/io.h"


static bool positioned_on_ring(const struct gn_sock *so)
{
	const struct gn_half *half = &so->ep->rx;
	uint64_t pos = so->ep->type == SOCK_STREAM ? atomic_load_explicit(&half->kernel_bytes, memory_order_relaxed)
						   : atomic_load_explicit(&half->kernel_msgs, memory_order_relaxed);

	return atomic_load_explicit(&so->rx.dir->lane, memory_order_acquire) != GN_LANE_KERNEL &&
	       pos >= atomic_load_explicit(&so->rx.dir->switch_pos, memory_order_relaxed);
}

static short kernel_bits(int fd, short ask)
{
	struct pollfd p = {fd, ask, 0};

	return gn_sys_poll(&p, 1, 0) > 0 ? p.revents : 0;
}

/* In the kernel lane: TCP waits for its low water, and has nothing at an urgent mark. */
static short kernel_in(struct gn_sock *so, int fd)
{
	short bits = gn_urgent_mend(so, fd, kernel_bits(fd, GN_IN_BITS | POLLRDHUP | POLLPRI));
	int there = 0;

	if (likely(gn_low_water(so) <= 1) || !(bits & GN_IN_BITS) || (bits & (POLLRDHUP | POLLHUP | POLLERR)))
		return bits;
	if (gn_rx_shared(so))
		there = gn_unread_all(so, fd); /* the ring's too */
	else
		gn_sys_ioctl(fd, FIONREAD, &there);
	return (uint32_t)there >= gn_low_water(so) ? bits : bits & (short)~GN_IN_BITS;
}

/* For sockets with a low water of more than a byte, and those at an urgent mark. */
short gn_low_ready(struct gn_sock *so, int fd)
{
	short bits = kernel_in(so, fd);

	return (bits & (POLLRDHUP | POLLHUP | POLLERR)) ? GN_IN_BITS : bits & (GN_IN_BITS | POLLPRI);
}

/* The peer has switched, and what it sent before seems not to be read yet: who should have counted may be dead. */
static bool caught_up(struct gn_sock *so, int fd)
{
	if (!gn_rx_shared(so) || atomic_load(&so->rx.dir->lane) == GN_LANE_KERNEL)
		return false;
	gn_rx_lock(so, fd);
	gn_kernel_recount(so, fd);
	gn_unlock(&so->ep->rx.lock);
	return positioned_on_ring(so);
}

/* With `queued` bytes in the ring. Of a peer that has gone back what it sent since counts too; an urgent byte and the end overtake it. */
static short ready_queued(struct gn_sock *so, int fd, uint32_t queued, bool ask_kernel)
{
	uint32_t low = GN_MIN(gn_low_water(so), gn_ring_room(&so->rx));
	short bits = queued >= low ? GN_IN_BITS : 0;

	if (!ask_kernel || likely(atomic_load_explicit(&so->rx.dir->lane, memory_order_acquire) != GN_LANE_BACK))
		return bits;
	bits |= kernel_bits(fd, POLLPRI | POLLRDHUP);
	if (unlikely(!(bits & GN_IN_BITS)) && ((bits & POLLRDHUP) || (uint32_t)gn_unread_all(so, fd) >= low))
		bits |= GN_IN_BITS;
	return bits;
}

/* POLLIN and what goes with it. The ring's words are read without the lock: a moment's picture, as poll gives anyway. */
static short ready_in(struct gn_sock *so, int fd, bool ask_kernel)
{
	const struct gn_dir *d = so->rx.dir;
	uint32_t gone, fin, head, queued;
	short shut;

	shut = atomic_load_explicit(&so->ep->rx.shut, memory_order_relaxed) ? GN_IN_BITS | POLLRDHUP : 0;
	if ((!gn_rx_shared(so) || !positioned_on_ring(so)) && !(ask_kernel && caught_up(so, fd))) {
		short end = gn_rx_shared(so) && atomic_load_explicit(&d->fin, memory_order_acquire) ? GN_IN_BITS | POLLRDHUP : 0;
		short bits = ask_kernel ? kernel_in(so, fd) : 0;

		/* Should the peer have switched meanwhile, what the kernel shows may be a bell. */
		if (!bits || !gn_rx_shared(so) || !positioned_on_ring(so))
			return bits | shut | end;
	}
	gone = atomic_load_explicit(&so->peer_gone, memory_order_acquire);
	fin = atomic_load_explicit(&d->fin, memory_order_acquire);
	head = atomic_load(&d->head);
	if (unlikely(gone || fin)) /* an urgent byte that was not passed yet stays to be seen */
		return GN_IN_BITS | POLLRDHUP | (ask_kernel && atomic_load(&d->lane) == GN_LANE_BACK ? kernel_bits(fd, POLLPRI) & POLLPRI : 0);
	queued = head - so->ep->rx.ring.own;
	if (queued)
		return ready_queued(so, fd, queued, ask_kernel) | shut;
	if (likely(atomic_load_explicit(&d->lane, memory_order_acquire) != GN_LANE_BACK) || !ask_kernel)
		return shut;
	gn_look_at_peer(so, fd, true); /* what heads the kernel's queue may be bells */
	return kernel_in(so, fd) | shut;
}

static short ready_out(struct gn_sock *so, int fd, bool ask_kernel)
{
	const struct gn_dir *d = so->tx.dir;
	uint32_t queued;

	if (!gn_tx_shared(so))
		return ask_kernel ? kernel_bits(fd, GN_OUT_BITS) & (GN_OUT_BITS | POLLERR) : 0;
	queued = so->ep->tx.ring.own - atomic_load(&d->tail);
	if (so->tx.size - queued >= gn_ring_room(&so->tx) || queued > so->tx.size ||
	    atomic_load_explicit(&d->deaf, memory_order_relaxed) ||
	    atomic_load_explicit(&so->peer_gone, memory_order_relaxed) == GN_GONE_CLOSED)
		return GN_OUT_BITS;
	return 0;
}

/* Both ways are over: TCP says POLLHUP when both sides shut down, AF_UNIX also when the peer closed or reads no more. */
static short hang_up(struct gn_sock *so, short in)
{
	bool mine = atomic_load_explicit(&so->ep->tx.shut, memory_order_relaxed);

	if (!(in & POLLRDHUP))
		return 0;
	if (gn_flag(so->ep, GN_EP_EMULATED)) /* a reset that the kernel lane has not told yet is one too */
		return mine || gn_flag(so->ep, GN_EP_DEAD) || (in & POLLERR) ? POLLHUP : 0;
	return mine || gn_peer_closed(so) || (so->tx.dir && atomic_load_explicit(&so->tx.dir->deaf, memory_order_relaxed)) ? POLLHUP : 0;
}

short gn_ready(struct gn_sock *so, int fd, short want, bool ask_kernel)
{
	short in, out, reset;

	if (unlikely(so->dgram))
		return gn_dgram_ready(so, fd, want, ask_kernel);
	in = ready_in(so, fd, ask_kernel);
	out = (want & GN_OUT_BITS) ? ready_out(so, fd, ask_kernel) : 0;

	if (unlikely(in & POLLHUP) && gn_flag(so->ep, GN_EP_EMULATED) && !gn_flag(so->ep, GN_EP_SHUT_CARRIER))
		gn_hung_up(so);
	if (unlikely(in & (POLLRDHUP | POLLHUP)))
		gn_judge(so, fd);
	reset = atomic_load_explicit(&so->ep->so_error, memory_order_relaxed) ? POLLERR : 0;

	if (gn_flag(so->ep, GN_EP_EMULATED)) {
		in &= (short)~POLLHUP;
		in |= gn_flag(so->ep, GN_EP_LATE_URGENT) ? POLLPRI : 0;
		out &= (short)~POLLWRBAND; /* AF_UNIX has it, TCP has not */
	}
	return (short)((in | out | hang_up(so, in) | reset) & (want | POLLHUP | POLLERR));
}

bool gn_past_switch(const struct gn_sock *so)
{
	return !so->dgram && gn_rx_shared(so) && positioned_on_ring(so);
}

bool gn_all_in_ring(const struct gn_sock *so)
{
	return gn_past_switch(so) && atomic_load_explicit(&so->rx.dir->lane, memory_order_acquire) == GN_LANE_RING;
}

/* A writer that waits for room hears no bell while the peer's own direction, in whose kernel lane bells travel, is not on the ring, or over:
 * it must look again by itself. Asked before gn_arm(): a peer that has switched by then rings for every flag that it finds. */
bool gn_room_is_silent(const struct gn_sock *so)
{
	return !so->dgram && gn_tx_shared(so) &&
	       (!gn_all_in_ring(so) || gn_flag(so->ep, GN_EP_SHUT_CARRIER) || atomic_load(&so->peer_gone) == GN_GONE_HALF ||
		atomic_load(&so->rx.dir->fin) || atomic_load(&so->rx.dir->lane) != GN_LANE_RING);
}

/* Anywhere: relatives that share a ring, and programs that follow one another under one pid, would else use the same tokens. */
void gn_tokens_begin(void)
{
	atomic_store(&gn_world.tokens, (uint32_t)(gn_sys_now_ns(CLOCK_MONOTONIC) * 0x9e3779b97f4a7c15ull >> 32) ^ (uint32_t)gn_world.pid << 16);
}

uint32_t gn_arm_token(void)
{
	uint32_t token = atomic_fetch_add_explicit(&gn_world.tokens, 1, memory_order_relaxed) + GN_ARM_ALWAYS + 1;

	return token > GN_ARM_ALWAYS ? token : GN_ARM_ALWAYS + 1;
}

/* Where another sleeper has armed already, each bell is to ring: it may not be our token that it waits for.
 * Never for a moment our token in place of its own: a bell that was rung for us already would be spared. */
static void park_consumer(struct gn_dir *d, uint32_t token)
{
	uint32_t old = atomic_load(&d->c_parked), want;

	if (token != GN_ARM_ALWAYS && atomic_load_explicit(&d->c_pid, memory_order_relaxed) != (uint32_t)gn_world.pid)
		atomic_store(&d->c_pid, (uint32_t)gn_world.pid);
	do {
		want = old && old != token ? GN_ARM_ALWAYS : token;
	} while (old != want && !atomic_compare_exchange_weak(&d->c_parked, &old, want));
}

/* Flag first, then the look; gn_ring_publish() has them the other way round. */
bool gn_arm(struct gn_sock *so, int fd, short events, uint32_t token)
{
	if (unlikely(so->dgram))
		return gn_dgram_arm(so, fd, events);
	if ((events & (GN_IN_BITS | POLLRDHUP)) && gn_rx_shared(so))
		park_consumer(so->rx.dir, token);
	if ((events & GN_OUT_BITS) && gn_tx_shared(so))
		atomic_store(&so->tx.dir->p_parked, 1);
	return !gn_ready(so, fd, events, false);
}

/* Takes back what nobody else relies on. */
void gn_disarm(struct gn_sock *so, uint32_t token)
{
	uint32_t mine = token;

	if (unlikely(so->dgram)) {
		gn_dgram_disarm(so);
		return;
	}
	if (so->rx.dir && token != GN_ARM_ALWAYS && atomic_load_explicit(&so->rx.dir->c_parked, memory_order_relaxed) == token)
		atomic_compare_exchange_strong(&so->rx.dir->c_parked, &mine, 0);
}
