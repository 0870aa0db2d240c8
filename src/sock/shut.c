/* SPDX-License-Identifier: MIT */
/*
 * shutdown(), and when a connection is over.
 *
 * AF_UNIX and TCP differ: SHUT_RD of AF_UNIX breaks the peer's pipe, TCP's is this side's own business; a TCP connection whose both ways
 * have ended is closed, and says ENOTCONN; what comes after SHUT_RDWR resets it. An emulated connection in the kernel lane keeps SHUT_RD to
 * itself and shuts the carrying socket both ways for SHUT_RDWR, so that the peer's next write fails there as on a closed connection. That
 * peer, who knows that TCP would have answered with a reset, leaves a note for us: in its half on the ring (GN_FIN_LATE), in the kernel
 * lane as the size of its receive buffer, which AF_UNIX streams do not use and sock_diag(7) shows.
 */
#include "sock/io.h"

#define NOTE_FIN 3001  /* values of SO_RCVBUF: it has shut its writing half ... */
#define NOTE_LATE 3003 /* it has written ... */
#define NOTE_URGENT 3005 /* ... urgent data */

static void note_leave(int fd, int note)
{
	gn_sys_setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &note, sizeof note);
}

/* The note of the peer, its end (NOTE_FIN) if it is closed; 0: none. For who has shut the carrying socket both ways. */
static uint32_t note_read(int fd)
{
	uint32_t doubled = 0;
	int rc = gn_name_peer_rcvbuf(fd, &doubled);

	return rc == -EAGAIN ? NOTE_FIN : rc < 0 ? 0 : doubled / 2; /* the kernel doubles what it is given (socket(7)) */
}

void gn_late_words(struct gn_sock *so, int fd, bool urgent)
{
	uint32_t none = GN_FIN_NONE;

	if (gn_tx_shared(so)) {
		atomic_compare_exchange_strong(&so->tx.dir->fin, &none, GN_FIN_LATE);
		return;
	}
	note_leave(fd, urgent ? NOTE_URGENT : NOTE_LATE);
	gn_sys_shutdown(fd, SHUT_WR); /* it is already, from the other end: this wakes who waits there, and is an edge */
}

bool gn_late_words_came(const struct gn_sock *so, int fd)
{
	struct gn_ep *ep = so->ep;
	uint32_t note;

	if (!gn_flag(ep, GN_EP_EMULATED) || !atomic_load(&ep->rx.shut) || !atomic_load(&ep->tx.shut))
		return false;
	if (so->rx.dir && atomic_load(&so->rx.dir->fin) == GN_FIN_LATE) /* it may have gone back since */
		return true;
	if (gn_all_in_ring(so) || !gn_flag(ep, GN_EP_SHUT_CARRIER))
		return false;
	note = note_read(fd);
	if (note == NOTE_URGENT)
		atomic_fetch_or(&ep->flags, GN_EP_LATE_URGENT);
	return note == NOTE_LATE || note == NOTE_URGENT;
}

/* Has the peer's half ended? */
static bool fin_came(struct gn_sock *so, int fd)
{
	struct pollfd p = {fd, POLLRDHUP, 0};

	if (so->eof || gn_flag(so->ep, GN_EP_PEER_ENDED) || atomic_load(&so->peer_gone) ||
	    (so->rx.dir && atomic_load(&so->rx.dir->fin))) /* it may have gone back since */
		return true;
	if (gn_flag(so->ep, GN_EP_SHUT_CARRIER))
		return gn_peer_closed(so) || (!gn_all_in_ring(so) && note_read(fd) == NOTE_FIN);
	if (gn_all_in_ring(so))
		return gn_peer_ended(so, fd);
	if (gn_sys_poll(&p, 1, 0) != 1)
		return false;
	if (p.revents & (POLLHUP | POLLERR))
		gn_kernel_gone(so, fd);
	return p.revents & (POLLRDHUP | POLLHUP);
}

bool gn_tcp_is_over(struct gn_sock *so, int fd)
{
	bool fin = fin_came(so, fd);

	gn_judge(so, fd);
	/* A reset that stands behind unread data in the kernel lane is told later, but it is there. */
	if (!gn_flag(so->ep, GN_EP_DEAD) && gn_peer_closed(so) && gn_reset_is_true(so) && gn_error_waits(fd))
		gn_reset_seen(so);
	return gn_flag(so->ep, GN_EP_DEAD) || (fin && atomic_load(&so->ep->tx.shut));
}

static void note_halves(struct gn_ep *ep, int how)
{
	if (how != SHUT_WR)
		atomic_store(&ep->rx.shut, 1);
	if (how != SHUT_RD)
		atomic_store(&ep->tx.shut, 1);
}

static int shut_carrier(struct gn_sock *so, int fd, int how)
{
	atomic_fetch_or(&so->ep->flags, GN_EP_SHUT_CARRIER);
	return (int)gn_neg(gn_real.shutdown(fd, how));
}

/* The end of the peer's half cannot be seen any more when the carrier is shut: not by our relatives either. */
static void end_note(struct gn_sock *so, int fd)
{
	if (!fin_came(so, fd))
		return;
	so->eof = true;
	atomic_fetch_or(&so->ep->flags, GN_EP_PEER_ENDED);
}

/* Both ways are over for an emulated connection, or for one on the ring. */
static int shut_both(struct gn_sock *so, int fd)
{
	end_note(so, fd);
	if (so->rx.dir)
		atomic_store(&so->rx.dir->deaf, GN_DEAF_SHUT);
	return shut_carrier(so, fd, SHUT_RDWR);
}

/* The marks first: whom the kernel wakes looks at them. */
static int shutdown_emulated(struct gn_sock *so, int fd, int how)
{
	struct gn_ep *ep = so->ep;
	struct pollfd p = {fd, 0, 0};

	note_halves(ep, how);
	if (!atomic_load(&ep->tx.shut))
		return 0;
	if (atomic_load(&so->peer_gone) || gn_sys_poll(&p, 1, 0) == 1) /* or it has shut both ways: it wants to know */
		note_leave(fd, NOTE_FIN);
	if (!atomic_load(&ep->rx.shut))
		return (int)gn_neg(gn_real.shutdown(fd, SHUT_WR));
	return shut_both(so, fd);
}

/* On the ring the end of the stream is a mark behind its last byte; the kernel's half stays open for bells, until none are needed. */
static int shutdown_ring(struct gn_sock *so, int fd, int how)
{
	struct gn_ep *ep = so->ep;
	uint32_t none = GN_FIN_NONE;

	if (how != SHUT_RD) {
		gn_tx_lock(so, fd);
		atomic_store(&ep->tx.shut, 1);
		atomic_compare_exchange_strong(&so->tx.dir->fin, &none, GN_FIN_SHUT);
		atomic_store(&so->tx.dir->c_parked, 0);
		gn_bell(so, fd); /* asked for or not: who waits for POLLHUP alone asks for none */
		gn_unlock(&ep->tx.lock);
	}
	if (how != SHUT_WR) {
		atomic_store(&ep->rx.shut, 1);
		if (!gn_flag(ep, GN_EP_EMULATED))
			atomic_store(&so->rx.dir->deaf, GN_DEAF_SHUT);
	}
	if (atomic_load(&ep->tx.shut) && atomic_load(&ep->rx.shut))
		return shut_both(so, fd);
	if (how == SHUT_RD && !gn_flag(ep, GN_EP_EMULATED) && atomic_load(&so->rx.dir->lane) != GN_LANE_RING)
		return shut_carrier(so, fd, SHUT_RD); /* no bells come that it could stop */
	return 0;
}

/* The kernel has done it. What is on the ring already, or might get there, is to know. */
static void shut_in_kernel(struct gn_sock *so, int how)
{
	struct gn_ep *ep = so->ep;

	if (how != SHUT_RD)
		atomic_store(&ep->tx.shut, 1);
	if (how == SHUT_WR || ep->domain != AF_UNIX || atomic_load(&ep->state) != GN_ESTAB)
		return;
	atomic_store(&ep->rx.shut, 1);
	atomic_fetch_or(&ep->flags, GN_EP_SHUT_CARRIER);
	if (so->rx.dir)
		atomic_store(&so->rx.dir->deaf, GN_DEAF_SHUT);
}

/* We read on, and the kernel tells what is to be told: what the peer says comes by it; or what we wrote went by it, so that it has told our
 * end (and would, shut both ways, show the peer a connection that is over). Who waits to write was woken by the kernel, or looks by itself. */
static bool kernel_is_heard(const struct gn_sock *so)
{
	return !atomic_load(&so->ep->rx.shut) &&
	       (!so->rx.dir || atomic_load(&so->rx.dir->lane) != GN_LANE_RING || !gn_tx_shared(so));
}

/* Who sleeps on our own end. In the kernel only a shut reading half wakes them; then no bell comes any more, and sleeps are to be short. */
static void wake_own(struct gn_sock *so, int fd)
{
	gn_watches_poke(so);
	if (kernel_is_heard(so) || gn_flag(so->ep, GN_EP_SHUT_CARRIER))
		return;
	if (!gn_somebody_sleeps(so) && !gn_flag(so->ep, GN_EP_CROWDED) && !atomic_load(&so->ep->rx.in_kernel))
		return;
	end_note(so, fd);
	if (gn_on_ring(so) && !so->eventless) { /* first: who sees the carrier shut is to see that its sleep must be short */
		so->eventless = true;
		atomic_fetch_add(&gn_world.queued, 1);
	}
	shut_carrier(so, fd, SHUT_RD);
}

/* TCP's listener becomes an unconnected socket again (SHUT_RD, SHUT_RDWR); SHUT_WR does nothing to it. */
static void shutdown_listener(struct gn_sock *so, int fd, int how)
{
	if (how == SHUT_WR || so->ep->domain == AF_UNIX)
		return;
	atomic_store(&so->ep->state, GN_UNCONN);
	gn_private_close(so, fd);
}

static int shutdown_kernel(struct gn_sock *so, int fd, int how)
{
	int rc = (int)gn_neg(gn_real.shutdown(fd, how));

	if (rc == -ENOTCONN && gn_is_inet(so->ep) && atomic_load(&so->ep->state) == GN_UNCONN)
		gn_pin(so, fd, GN_WHY_CALL); /* what is said in vain holds for the connection to come: inet_shutdown() */
	if (rc == 0 && atomic_load(&so->ep->state) == GN_LISTEN)
		shutdown_listener(so, fd, how);
	else if (rc == 0)
		shut_in_kernel(so, how);
	if (rc == 0 && unlikely(so->tx.dir != NULL))
		gn_watches_poke(so);
	return rc;
}

int gn_shutdown(struct gn_sock *so, int fd, int how)
{
	int rc;

	if (how < SHUT_RD || how > SHUT_RDWR)
		return -EINVAL;
	if (so->ep->type == SOCK_DGRAM)
		return gn_dgram_shutdown(so, fd, how);
	gn_connecting_pass(so);
	if (unlikely(gn_queue_waits(so)))
		return gn_queue_cancel(so, fd);
	if (gn_flag(so->ep, GN_EP_EMULATED) && gn_tcp_is_over(so, fd)) {
		gn_watches_poke(so); /* said in vain it wakes all the same: inet_shutdown() */
		return -ENOTCONN;
	}
	gn_switch_tx(so, fd); /* if it can be: the kernel's half must stay open for the bells of a ring towards us */
	if (gn_tx_shared(so) && atomic_load(&so->ep->state) == GN_ESTAB)
		rc = shutdown_ring(so, fd, how);
	else if (gn_flag(so->ep, GN_EP_EMULATED))
		rc = shutdown_emulated(so, fd, how);
	else
		return shutdown_kernel(so, fd, how);
	wake_own(so, fd);
	return rc;
}
