/* SPDX-License-Identifier: MIT */
/*
 * fcntl and ioctl: whether calls block, how much there is to read or has not left, TCP's urgent mark.
 *
 * Invariants: the bytes to read are those of both lanes, bells never among them. While a listener has a private face the kernel's one does not block
 * (listen.c), whatever the program says; GN_EP_NONBLOCK has what it said.
 */
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>

#include "sock/io.h"

static void nonblock_note(struct gn_sock *so, bool on)
{
	if (on)
		atomic_fetch_or(&so->ep->flags, GN_EP_NONBLOCK);
	else
		atomic_fetch_and(&so->ep->flags, ~GN_EP_NONBLOCK);
}

static int setfl(struct gn_sock *so, int fd, long arg)
{
	long kernels = so->private_fd >= 0 ? arg | O_NONBLOCK : arg; /* see private_face_open() */
	int rc = gn_sys_fcntl(fd, F_SETFL, kernels);

	if (rc < 0)
		return rc;
	nonblock_note(so, arg & O_NONBLOCK);
	if (arg & O_ASYNC)
		gn_pin(so, fd, GN_WHY_CALL);
	return rc;
}

int gn_fcntl(struct gn_sock *so, int fd, int cmd, long arg)
{
	int rc;

	gn_connecting_pass(so);
	switch (cmd) {
	case F_SETFL:
		return setfl(so, fd, arg);
	case F_GETFL:
		rc = gn_sys_fcntl(fd, cmd, arg);
		return rc < 0 || so->private_fd < 0 || gn_flag(so->ep, GN_EP_NONBLOCK) ? rc : rc & ~O_NONBLOCK;
	default:
		return (int)gn_neg(gn_real.fcntl(fd, cmd, arg));
	}
}

/* Bytes of all packets in the ring. The rx lock is held. */
static int64_t packet_bytes(struct gn_sock *so)
{
	struct gn_ring ahead = so->ep->rx.ring;
	int64_t left = gn_ring_readable(&ahead, &so->rx), sum = 0;
	uint32_t len, room;

	while (left >= (int64_t)sizeof len) {
		gn_ring_get(&ahead, &so->rx, 0, &len, sizeof len);
		if ((int64_t)gn_record_room(len) > left)
			break; /* a length that cannot be: [RING-2] */
		room = (uint32_t)gn_record_room(len);
		sum += len;
		left -= room;
		ahead.own += room;
	}
	return sum;
}

static int unread(struct gn_sock *so, int fd, bool to_mark)
{
	struct gn_ep *ep = so->ep;
	bool stream = ep->type == SOCK_STREAM, back;
	uint64_t pos, until;
	int64_t in_ring;
	int in_kernel = 0;

	gn_rx_lock(so, fd);
	gn_kernel_recount(so, fd);
	pos = atomic_load(stream ? &ep->rx.kernel_bytes : &ep->rx.kernel_msgs);
	until = gn_kernel_until(so);
	in_ring = stream ? gn_ring_readable(&ep->rx.ring, &so->rx) : packet_bytes(so);
	back = atomic_load(&so->rx.dir->lane) == GN_LANE_BACK;
	if (pos >= until && back && !gn_has_moved(so)) /* else they are a relay's by now */
		gn_drain_bells(so, fd);
	if (pos < until || back)
		gn_sys_ioctl(fd, FIONREAD, &in_kernel);
	if (stream && to_mark)
		in_kernel = gn_urgent_unread(so, fd, in_kernel);
	if (pos < until && until != UINT64_MAX && !stream)
		in_kernel = (int)gn_packets_unread(so, fd);
	else if (pos < until && back)
		in_kernel -= (int)gn_bells_behind(so, fd, until - pos);
	else if (pos < until)
		in_kernel = (int)GN_MIN((uint64_t)in_kernel, until - pos);
	gn_unlock(&ep->rx.lock);
	return in_kernel + (int)GN_MAX(in_ring, (int64_t)0);
}

int gn_unread(struct gn_sock *so, int fd)
{
	return unread(so, fd, true);
}

int gn_unread_all(struct gn_sock *so, int fd)
{
	return unread(so, fd, false);
}

/* SIOCATMARK: urgent bytes are in the kernel lane, behind what is left in the ring and the bells. */
static int at_mark(struct gn_sock *so, int fd, int *at)
{
	uint32_t lane;
	bool empty;

	*at = 0;
	gn_rx_lock(so, fd);
	lane = atomic_load(&so->rx.dir->lane);
	empty = gn_ring_readable(&so->ep->rx.ring, &so->rx) == 0;
	if (lane == GN_LANE_BACK && empty && !gn_has_moved(so))
		gn_drain_bells(so, fd);
	gn_unlock(&so->ep->rx.lock);
	return lane == GN_LANE_RING || !empty ? 0 : gn_sys_ioctl(fd, SIOCATMARK, at);
}

/* Questions about the network that any socket of the program's kind answers: netdevice(7); SIOCOUTQNSD, which AF_UNIX lacks, of a socket that has
 * sent all it had. */
static bool is_of_network(unsigned long request)
{
	return request >= SIOCADDRT && request < SIOCPROTOPRIVATE + 16;
}

static int ask_oracle(const struct gn_ep *ep, unsigned long request, void *arg)
{
	int fd = gn_oracle_open(ep), rc;

	if (fd < 0)
		return fd;
	rc = gn_sys_ioctl(fd, request, arg);
	gn_sys_close(fd);
	return rc;
}

int gn_ioctl(struct gn_sock *so, int fd, unsigned long request, void *arg)
{
	int on;

	gn_connecting_pass(so);
	if (gn_is_nowhere(arg, 1))
		return (int)gn_neg(gn_real.ioctl(fd, request, arg));
	if (request == FIONBIO) {
		memcpy(&on, arg, sizeof on);
		if (so->private_fd < 0) {
			int rc = (int)gn_neg(gn_real.ioctl(fd, request, arg));

			if (rc < 0)
				return rc;
		}
		nonblock_note(so, on);
		return 0;
	}
	if (request == SIOCATMARK && so->ep->type == SOCK_STREAM && gn_rx_shared(so))
		return at_mark(so, fd, arg);
	if (request == FIONREAD && gn_is_stream_like(so->ep) && gn_rx_shared(so)) {
		on = gn_unread(so, fd);
		memcpy(arg, &on, sizeof on);
		return 0;
	}
	if (request == FIONREAD && so->dgram && gn_rx_shared(so))
		return gn_dgram_unread(so, fd, arg);
	if (request == SIOCOUTQ && so->dgram)
		return gn_dgram_unsent(so, fd, arg);
	if (request == SIOCOUTQ && gn_tx_shared(so)) {
		gn_tx_lock(so, fd);
		on = (int)(so->tx.size - (uint32_t)GN_MAX(gn_ring_space(&so->ep->tx.ring, &so->tx), (int64_t)0));
		gn_unlock(&so->ep->tx.lock);
		memcpy(arg, &on, sizeof on);
		return 0;
	}
	if (request == FIONREAD && gn_flag(so->ep, GN_EP_EMULATED) && gn_sys_ioctl(fd, FIONREAD, &on) == 0) {
		on = gn_urgent_unread(so, fd, on);
		memcpy(arg, &on, sizeof on);
		return 0;
	}
	if (gn_flag(so->ep, GN_EP_EMULATED) && is_of_network(request))
		return ask_oracle(so->ep, request, arg);
	if (request == FIOASYNC)
		gn_pin(so, fd, GN_WHY_CALL);
	return (int)gn_neg(gn_real.ioctl(fd, request, arg));
}
