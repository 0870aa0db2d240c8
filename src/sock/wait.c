/* SPDX-License-Identifier: MIT */
/*
 * Bells and parking.
 *
 * Who waits first spins for a bounded time (spin.c); then it parks: sets the flag of
 * what it waits for, looks once more, and sleeps in the kernel on the real descriptor, where a bell, end of file and signals reach it.
 * It sleeps by peeking with recv(): that restarts or fails with EINTR exactly as a kernel socket does, and takes nothing (sleep.h).
 *
 * Bells are taken out only when no other thread sleeps on the same descriptor (ep->asleep), so that one bell wakes all of them. First the bells
 * are looked at, then it is asked who sleeps, and no more are taken than were seen: who went to sleep since is rung for later. Sleepers in
 * epoll sets are not counted there: whoever takes bells out tells the sets that watch the endpoint (gn_watches_told), for a bell that is gone
 * when the kernel looks wakes nobody.
 *
 * Sets of forked relatives cannot be told; and a process for which the endpoint had no place left (gn_sock.seat) is not counted when it sleeps,
 * for nobody could tell that it was killed in its sleep. Of an endpoint that has any of these, a bell stays in the kernel's queue while there is
 * anything that it would tell, and whoever takes the last one asks for the next (taken_of): so the kernel socket is readable while the ring is.
 * Who would sleep all the same naps (gn_bells_stay).
 */
#include <string.h>
#include <sys/ioctl.h>
#include <sys/single_threaded.h>

#include "sock/inside.h"
#include "sock/sleep.h"

#define DEAF_NAP_NS (GN_NS_PER_MS)
#define BELLS_AT_ONCE 16
#define DRAIN_ROUNDS 256 /* a peer that rings without end is not listened to for ever: an honest one has no thousand bells under way */
#define PACKETS_MAX 4096 /* likewise, of packets looked through */
#define REAP_EVERY 16   /* wake-ups that left others asleep between two looks whether those live */

/* What a call on the kernel socket said about the peer. */
void gn_peer_may_be_gone(struct gn_sock *so, int fd, ssize_t rc)
{
	struct pollfd p = {fd, 0, 0};
	bool hup;

	if (rc == -ECONNRESET && gn_reset_is_true(so))
		gn_reset_seen(so);
	if (rc == -ECONNRESET)
		atomic_store(&so->peer_gone, GN_GONE_CLOSED);
	if ((rc != 0 && rc != -EPIPE) || gn_flag(so->ep, GN_EP_SHUT_CARRIER))
		return;
	hup = gn_sys_poll(&p, 1, 0) == 1 && (p.revents & POLLHUP); /* the end of a half, or of all? */
	if (hup)
		gn_hung_up(so);
	else if (rc == 0)
		atomic_store(&so->peer_gone, GN_GONE_HALF);
}

/* Lock of tx is held: bells and the lane agree. In the kernel lane data itself wakes the peer. */
bool gn_bell(struct gn_sock *so, int fd)
{
	ssize_t rc;

	if (!gn_tx_shared(so))
		return false;
	rc = gn_sys_send(fd, so->nonce, sizeof so->nonce, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (rc > 0)
		atomic_fetch_add_explicit(&so->ep->bells_sent, 1, memory_order_relaxed);
	else
		gn_peer_may_be_gone(so, fd, rc);
	return rc > 0;
}

/* Who sleeps on many rings arms them with one token, and looks at all of them when it wakes: the first bell is enough. Only of the process that
 * came to the meeting, whose id the kernel told: who lied about it could have the bells of others spared. */
void gn_bell_data(struct gn_sock *so, int fd, uint32_t parked)
{
	uint32_t pid = atomic_load_explicit(&so->tx.dir->c_pid, memory_order_relaxed);
	uint64_t whom = (uint64_t)pid << 32 | parked;
	bool known = parked != GN_ARM_ALWAYS && pid && pid == (uint32_t)so->meeting.pid;

	if (known && atomic_load(&gn_world.rung) == whom)
		return;
	if (gn_bell(so, fd) && known) /* one that was not heard wakes nobody */
		atomic_store(&gn_world.rung, whom);
}

void gn_bell_space(struct gn_sock *so, int fd)
{
	gn_tx_lock(so, fd);
	gn_bell(so, fd);
	gn_unlock(&so->ep->tx.lock);
}

static uint32_t asleep(const struct gn_sock *so)
{
	uint32_t sum = atomic_load(&so->unnamed);

	for (uint32_t i = 0; i <= GN_HOLDERS; i++)
		sum += atomic_load(&so->ep->asleep[i]);
	return sum;
}

/* Those that were killed in their sleep would be counted for ever: once in a while it is asked who lives. */
bool gn_somebody_sleeps(struct gn_sock *so)
{
	if (likely(!asleep(so)))
		return false;
	if (++so->not_last % REAP_EVERY == 0)
		gn_ep_reap(so->ep);
	return true;
}

/* The kernel sends one whole or not at all. A packet is one or is not. */
size_t gn_bells_ahead(const struct gn_sock *so, const char *bytes, ssize_t n)
{
	ssize_t at = 0;

	if (so->ep->type != SOCK_STREAM)
		return n == GN_NONCE_BYTES && memcmp(bytes, so->nonce, GN_NONCE_BYTES) == 0 ? GN_NONCE_BYTES : 0;
	while (n - at >= GN_NONCE_BYTES && memcmp(bytes + at, so->nonce, GN_NONCE_BYTES) == 0)
		at += GN_NONCE_BYTES;
	return (size_t)at;
}

/* Takes out bells that were seen to be there. The turn first: should this process be killed in between, a relative that saw the same
 * bells looks again. */
static void bells_take(struct gn_sock *so, int fd, size_t len)
{
	char bells[BELLS_AT_ONCE * GN_NONCE_BYTES];

	atomic_fetch_add(&so->ep->bells_turn, 1);
	gn_sys_recv(fd, bells, len, MSG_DONTWAIT);
}

/* A relative's epoll set, or one that sleeps and is not counted, may rely on the bells that we would take out. */
static bool is_watched_by_relatives(const struct gn_sock *so)
{
	return unlikely(gn_flag(so->ep, GN_EP_WATCHED | GN_EP_CROWDED)) && !so->dgram && so->tx.dir && atomic_load(&so->ep->holders) > 1;
}

/* Of what a bell from the peer tells. Room is not: for that everybody looks once in a while (GN_ROOM_NS). */
static bool has_to_tell(const struct gn_sock *so)
{
	const struct gn_dir *d = so->rx.dir;

	return atomic_load(&d->head) != so->ep->rx.ring.own || atomic_load(&d->fin) || atomic_load(&so->tx.dir->deaf);
}

bool gn_bells_stay(const struct gn_sock *so)
{
	return is_watched_by_relatives(so) && has_to_tell(so);
}

/* How much of the `bells` bytes of bells that were seen may go. Flag first, then the look, as in gn_arm(): what comes after the look rings.
 * The end of the kernel's stream is seen by all without a bell. rx lock held. */
static size_t taken_of(struct gn_sock *so, int fd, size_t bells)
{
	struct pollfd end = {fd, POLLRDHUP, 0};
	int queued = 0;

	if (likely(!is_watched_by_relatives(so)))
		return bells;
	atomic_store(&so->rx.dir->c_parked, 1);
	if (!has_to_tell(so) || gn_sys_poll(&end, 1, 0) == 1)
		return bells;
	gn_sys_ioctl(fd, FIONREAD, &queued);
	return (size_t)queued > bells ? bells : bells - GN_NONCE_BYTES;
}

/* `spare`: not if somebody sleeps. -EAGAIN then. Not `to_end`: the end of the stream, of which the kernel would tell by itself, is not looked
 * for behind the last bell. */
static ssize_t drain(struct gn_sock *so, int fd, bool spare, bool to_end)
{
	char bytes[BELLS_AT_ONCE * GN_NONCE_BYTES];
	size_t bells, taken;
	ssize_t n;

	for (int round = 0; round < DRAIN_ROUNDS; round++) {
		n = gn_sys_recv(fd, bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);
		if (unlikely(n == -ECONNRESET)) { /* packets: told once, before what is left */
			gn_peer_may_be_gone(so, fd, n);
			n = gn_sys_recv(fd, bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);
		}
		bells = n > 0 ? gn_bells_ahead(so, bytes, n) : 0;
		if (!bells)
			return n;
		if (spare && gn_somebody_sleeps(so))
			break;
		taken = spare ? taken_of(so, fd, bells) : bells;
		if (taken)
			bells_take(so, fd, taken);
		if (taken < bells)
			break;
		if (!to_end && so->ep->type == SOCK_STREAM && (size_t)n == bells && bells < sizeof bytes)
			break; /* there were no more */
	}
	return -EAGAIN;
}

ssize_t gn_drain_bells(struct gn_sock *so, int fd)
{
	return drain(so, fd, false, true);
}

void gn_kernel_peek_offset(int fd, int64_t offset)
{
	int at = (int)GN_MIN(offset, (int64_t)INT32_MAX);

	gn_sys_setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &at, sizeof at);
}

/* Packet by packet, each behind the last one. */
static bool packets_are_bells(struct gn_sock *so, int fd)
{
	char bytes[GN_NONCE_BYTES];
	size_t at = 0, bell = GN_NONCE_BYTES;
	ssize_t n = 0;

	gn_rx_lock(so, fd);
	for (; at < BELLS_AT_ONCE * sizeof bytes && bell; at += bell) {
		gn_kernel_peek_offset(fd, (int64_t)at);
		n = gn_sys_recv(fd, bytes, sizeof bytes, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT);
		bell = n > 0 ? gn_bells_ahead(so, bytes, n) : 0;
	}
	gn_kernel_peek_offset(fd, -1);
	gn_unlock(&so->ep->rx.lock);
	return at && n == -EAGAIN;
}

bool gn_bells_alone(struct gn_sock *so, int fd)
{
	char bytes[BELLS_AT_ONCE * GN_NONCE_BYTES];
	ssize_t n;

	if (so->ep->type != SOCK_STREAM)
		return packets_are_bells(so, fd);
	n = gn_sys_recv(fd, bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);
	return n > 0 && n < (ssize_t)sizeof bytes && gn_bells_ahead(so, bytes, n) == (size_t)n;
}

/* Each look moves the offset on (socket(7)). */
size_t gn_bells_behind(struct gn_sock *so, int fd, uint64_t left)
{
	char bytes[BELLS_AT_ONCE * GN_NONCE_BYTES];
	size_t bells, sum = 0;
	ssize_t n;

	gn_kernel_peek_offset(fd, (int64_t)left);
	do {
		n = gn_sys_recv(fd, bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);
		bells = n > 0 ? gn_bells_ahead(so, bytes, n) : 0;
		sum += bells;
	} while (bells == sizeof bytes);
	gn_kernel_peek_offset(fd, -1);
	return sum;
}

static uint64_t packets_before(struct gn_sock *so, int fd, uint64_t most)
{
	char bytes[GN_NONCE_BYTES];
	int64_t at = 0;
	uint64_t sum = 0;
	ssize_t n = 1;

	for (; sum < most && n > 0; at += n) {
		gn_kernel_peek_offset(fd, at);
		n = gn_sys_recv(fd, bytes, sizeof bytes, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT);
		if (n < 0 || gn_bells_ahead(so, bytes, n))
			return sum;
		sum++;
	}
	return most; /* behind an empty packet nothing can be seen */
}

/* A bell that two looks would cut in two is seen whole by the second. */
static uint64_t bytes_before(struct gn_sock *so, int fd, uint64_t most)
{
	char bytes[2048];
	uint64_t at = 0;
	const char *bell;
	ssize_t n;

	while (at < most) {
		gn_kernel_peek_offset(fd, (int64_t)at);
		n = gn_sys_recv(fd, bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);
		if (n <= 0)
			break;
		bell = memmem(bytes, (size_t)n, so->nonce, GN_NONCE_BYTES);
		if (bell)
			return at + (uint64_t)(bell - bytes);
		at += (uint64_t)(n < (ssize_t)sizeof bytes ? n : n - GN_NONCE_BYTES + 1);
	}
	return at;
}

uint64_t gn_bells_start(struct gn_sock *so, int fd, uint64_t most)
{
	uint64_t n = so->ep->type == SOCK_STREAM ? bytes_before(so, fd, most) : packets_before(so, fd, most);

	gn_kernel_peek_offset(fd, -1);
	return GN_MIN(n, most);
}

size_t gn_packets_unread(struct gn_sock *so, int fd)
{
	char bytes[GN_NONCE_BYTES];
	int64_t at = 0;
	size_t sum = 0;
	int queued = 0;
	ssize_t n;

	gn_sys_ioctl(fd, FIONREAD, &queued);
	for (int round = 0; at < queued && round < PACKETS_MAX; round++, at += n) { /* an empty packet is seen once */
		gn_kernel_peek_offset(fd, at);
		n = gn_sys_recv(fd, bytes, sizeof bytes, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT);
		if (n < 0)
			break;
		sum += gn_bells_ahead(so, bytes, n) ? 0 : (size_t)n;
	}
	gn_kernel_peek_offset(fd, -1);
	return sum;
}

/* Nothing but bells is left in the kernel lane towards us. rx lock held. */
static bool only_bells(struct gn_sock *so)
{
	uint64_t moved = so->ep->type == SOCK_STREAM ? atomic_load(&so->ep->rx.kernel_bytes) : atomic_load(&so->ep->rx.kernel_msgs);

	return gn_rx_shared(so) && atomic_load(&so->rx.dir->lane) == GN_LANE_RING && moved >= atomic_load(&so->rx.dir->switch_pos);
}

/* What heads the kernel's queue is no bell, where nothing else can be: the peer wrote nonsense, and its stream ends here as with an index that
 * cannot be. Left there it would wake every sleeper at once, for ever. rx lock held. [RING-2] */
static void end_nonsense(struct gn_sock *so, int fd)
{
	gn_reset_seen(so);
	atomic_store(&so->peer_gone, GN_GONE_CLOSED);
	gn_sys_shutdown(fd, SHUT_RDWR);
}

/* Takes out bells where nothing else may be, unless somebody sleeps. rx lock held. */
static ssize_t drain_only_bells(struct gn_sock *so, int fd, bool to_end)
{
	ssize_t n = drain(so, fd, true, to_end);

	if (unlikely(n > 0) && only_bells(so)) /* looked at again: what follows a way back is data */
		end_nonsense(so, fd);
	return n;
}

/* A bell of a stream may have been cut in two by the death of its reader. */
void gn_bell_rest(struct gn_sock *so, int fd)
{
	char bytes[BELLS_AT_ONCE * GN_NONCE_BYTES];
	ssize_t n;

	if (so->ep->type != SOCK_STREAM || !only_bells(so))
		return;
	atomic_fetch_add(&so->ep->bells_turn, 1);
	n = gn_sys_recv(fd, bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);
	if (n > 0 && n % GN_NONCE_BYTES)
		gn_sys_recv(fd, bytes, (size_t)n % GN_NONCE_BYTES, MSG_DONTWAIT);
}

bool gn_look_at_peer(struct gn_sock *so, int fd, bool to_end)
{
	uint64_t turn;

	if (so->dgram) {
		gn_dgram_check(so, fd);
		return true;
	}
	turn = atomic_load(&so->ep->bells_turn);
	gn_rx_lock(so, fd);
	/* Somebody sleeps on the descriptor itself: the bells are for that one too, and it takes them out. */
	if (only_bells(so) && !atomic_load(&so->peer_gone) && !gn_somebody_sleeps(so))
		gn_peer_may_be_gone(so, fd, drain_only_bells(so, fd, to_end));
	else if (gn_past_switch(so) && atomic_load(&so->rx.dir->lane) == GN_LANE_BACK && gn_ring_readable(&so->ep->rx.ring, &so->rx) == 0)
		gn_rx_back(so, fd); /* who sleeps on the descriptor is where it belongs */
	else if (unlikely(gn_rx_shared(so) && atomic_load(&so->rx.dir->lane) > GN_LANE_BACK))
		end_nonsense(so, fd);
	else if (gn_tx_shared(so))
		gn_peer_may_be_gone(so, fd, -EPIPE); /* what the kernel's queue holds tells nothing: it hangs up */
	gn_unlock(&so->ep->rx.lock);
	gn_heed(so, fd);
	return atomic_load(&so->ep->bells_turn) != turn;
}

void gn_check_peer(struct gn_sock *so, int fd, bool to_end)
{
	if (gn_look_at_peer(so, fd, to_end) && unlikely(so->watches != NULL))
		gn_watches_told(so, NULL);
}

static bool rx_changed(struct gn_sock *so, uint32_t own)
{
	const struct gn_dir *d = so->rx.dir;

	return atomic_load_explicit(&d->head, memory_order_acquire) != own || atomic_load_explicit(&d->fin, memory_order_acquire) ||
	       atomic_load_explicit(&d->lane, memory_order_acquire) != GN_LANE_RING;
}

static bool tx_changed(struct gn_sock *so, uint32_t room)
{
	const struct gn_dir *d = so->tx.dir;
	uint32_t queued = so->ep->tx.ring.own - atomic_load_explicit(&d->tail, memory_order_acquire);

	return so->tx.size - queued >= room || queued > so->tx.size || atomic_load_explicit(&d->deaf, memory_order_acquire);
}

void gn_sleep_begin(struct gn_sock *so)
{
	if (unlikely(so->dgram))
		atomic_fetch_add(&so->ep->sleepers, 1);
	else
		atomic_fetch_add(gn_seat(so), 1);
	if (unlikely(so->seat == GN_HOLDERS) && !gn_flag(so->ep, GN_EP_CROWDED))
		atomic_fetch_or(&so->ep->flags, GN_EP_CROWDED);
}

bool gn_sleep_end(struct gn_sock *so)
{
	if (unlikely(so->dgram))
		return atomic_fetch_sub(&so->ep->sleepers, 1) == 1;
	atomic_fetch_sub(gn_seat(so), 1);
	return !gn_somebody_sleeps(so);
}

/* What a sleeper found when it woke. */
struct sleep {
	uint64_t turn; /* ep->bells_turn before */
	ssize_t rc;
	char bytes[GN_NONCE_BYTES];
};

static void sleep_start(struct gn_sock *so, struct sleep *s, _Atomic uint32_t *parked)
{
	gn_sleep_begin(so);
	s->turn = atomic_load(&so->ep->bells_turn);
	s->rc = -EAGAIN;
	atomic_store(parked, 1);
}

/* rx lock held. The bell that was seen is the first in the queue still, unless somebody took bells out since. */
static void sleep_drain(struct gn_sock *so, int fd, const struct sleep *s)
{
	if (!only_bells(so))
		return;
	if (!is_watched_by_relatives(so) && atomic_load(&so->ep->bells_turn) == s->turn && gn_bells_ahead(so, s->bytes, s->rc) == GN_NONCE_BYTES)
		bells_take(so, fd, GN_NONCE_BYTES);
	else
		drain_only_bells(so, fd, true);
}

bool gn_is_only_waiter(const struct gn_sock *so)
{
	return __libc_single_threaded && atomic_load(&so->ep->holders) == 1;
}

/* The last sleeper to leave takes the bell out; one that leaves others asleep asks for the next bell on their behalf, for the kernel may
 * have woken only one. The flag is taken back only where it can be nobody else's: one that went to sleep since, or a set that has left this
 * ring to its bell, may rely on it, and a bell too many is only a look too many. */
static void wake_up(struct gn_sock *so, int fd, const struct sleep *s, _Atomic uint32_t *parked)
{
	bool last = gn_sleep_end(so);

	if (!last)
		atomic_store(parked, 1);
	else if (!so->watches && gn_is_only_waiter(so))
		atomic_store(parked, 0);
	if (last && s->rc > 0) {
		gn_rx_lock(so, fd);
		sleep_drain(so, fd, s);
		gn_unlock(&so->ep->rx.lock);
		if (unlikely(so->watches != NULL))
			gn_watches_told(so, NULL);
	}
	gn_peer_may_be_gone(so, fd, s->rc);
	gn_heed(so, fd);
}

/* With a timeout no handler lets a call go on (signal(7)), and one that has moved bytes ends with them. */
static enum gn_sleep_how how_of(uint64_t deadline_ns, bool part)
{
	return deadline_ns || part ? GN_SLEEP_EINTR : GN_SLEEP_RESTART;
}

/* Until a bell, data or the end of the stream is there to see. */
static ssize_t sleep_peeking(struct gn_sock *so, int fd, struct sleep *s)
{
	struct gn_held held = gn_held_asleep(so);

	return gn_slept(so, fd, gn_sleep(GN_SLEEP_RESTART, &held, SYS_recvfrom, fd, (long)s->bytes, sizeof s->bytes, MSG_PEEK, 0, 0));
}

/* The same, or until the deadline. Of those that sleep in recv() on one packet socket the kernel wakes one: it may take one packet of
 * several, or be killed just then; and it sleeps on if a relative's SO_PEEK_OFF makes it look behind what is there. poll() wakes all, but looks
 * at what has the number by then. */
static ssize_t sleep_in(struct gn_sock *so, int fd, uint64_t deadline_ns, enum gn_sleep_how how, struct sleep *s)
{
	struct gn_held held = gn_held_asleep(so);
	struct pollfd p = {fd, POLLIN, 0};
	struct timespec ts;
	uint64_t now;
	ssize_t rc;

	if (!deadline_ns && how == GN_SLEEP_RESTART && (so->ep->type == SOCK_STREAM || (asleep(so) <= 1 && atomic_load(&so->ep->holders) == 1)))
		return sleep_peeking(so, fd, s);
	now = deadline_ns ? gn_now_ns() : 0;
	if (deadline_ns && now >= deadline_ns)
		return -ETIMEDOUT;
	ts = gn_timespec(deadline_ns - now);
	rc = gn_slept(so, fd, gn_sleep_ppoll(how, &held, &p, 1, deadline_ns ? &ts : NULL, NULL));
	if (rc <= 0)
		return rc == 0 ? -ETIMEDOUT : rc;
	return gn_sys_recv(gn_fd_still(so, fd), s->bytes, sizeof s->bytes, MSG_PEEK | MSG_DONTWAIT);
}

/* Of a wait that a signal, or the loss of the descriptor, has ended. */
static int wait_result(const struct sleep *s)
{
	return s->rc == -EINTR || s->rc == -EBADF || s->rc == -ENOTSOCK ? (int)s->rc : 0;
}

/* The kernel's half is shut, or shows a bell all the time: what comes by shared memory alone is looked for. */
static int nap_shut(struct gn_sock *so, int fd, uint64_t deadline_ns, bool part)
{
	struct gn_held held = {.so = so};
	int rc = gn_nap(&held, fd, deadline_ns, part);

	if (rc == -EPIPE)
		gn_hung_up(so);
	return rc == -EPIPE ? 0 : rc;
}

int gn_wait_rx(struct gn_sock *so, int fd, uint64_t deadline_ns, uint32_t have, bool part)
{
	uint32_t own = so->ep->rx.ring.own + have;
	struct sleep s;

	gn_cpu_publish(so);
	if (unlikely(gn_flag(so->ep, GN_EP_SHUT_CARRIER)))
		return nap_shut(so, fd, deadline_ns, part);
	if (atomic_load(&so->rx.dir->lane) == GN_LANE_RING && GN_SPIN_UNTIL(so, so->rx.dir, rx_changed(so, own)))
		return 0;
	if (gn_bells_stay(so) && !rx_changed(so, own))
		return nap_shut(so, fd, deadline_ns, part);
	sleep_start(so, &s, &so->rx.dir->c_parked);
	if (atomic_load(&so->ep->rx.shut))
		deadline_ns = 0;
	else if ((atomic_load(&so->rx.dir->lane) == GN_LANE_KERNEL || !rx_changed(so, own)) && !gn_has_moved(so))
		s.rc = sleep_in(so, fd, deadline_ns, how_of(deadline_ns, part), &s);
	else
		deadline_ns = 0;
	wake_up(so, gn_fd_still(so, fd), &s, &so->rx.dir->c_parked);
	if (s.rc == -ETIMEDOUT)
		return -EAGAIN;
	if (s.rc == -EAGAIN)
		return deadline_ns && gn_now_ns() >= deadline_ns ? -EAGAIN : 0;
	return wait_result(&s);
}

/* Waiting for room where no bell can come: the peer's direction is back in the kernel lane, or unread data hides bells. */
int gn_nap(struct gn_held *held, int fd, uint64_t deadline_ns, bool part)
{
	struct pollfd p = {fd, 0, 0};
	struct timespec ts = gn_timespec(DEAF_NAP_NS);
	int rc = gn_sleep_ppoll(how_of(deadline_ns, part), held, &p, 1, &ts, NULL);

	if (rc == -EINTR)
		return rc;
	if (rc == 1 && (p.revents & POLLNVAL))
		return -EBADF;
	if (rc == 1 && (p.revents & (POLLHUP | POLLERR)))
		return -EPIPE;
	return deadline_ns && gn_now_ns() >= deadline_ns ? -EAGAIN : 0;
}

/* A writer looks for itself once in a while: should the peer's direction go back to the kernel lane just now, its last bell may have come before
 * we asked for one, or have been taken by who reads here, and no other follows. */
static uint64_t room_until(uint64_t deadline_ns)
{
	uint64_t until = gn_now_ns() + GN_ROOM_NS;

	return deadline_ns ? GN_MIN(deadline_ns, until) : until;
}

int gn_wait_tx(struct gn_sock *so, int fd, uint64_t deadline_ns, uint32_t room, bool part)
{
	struct gn_held held = {.so = so};
	struct sleep s;
	bool bells;
	int rc;

	gn_cpu_publish(so);
	if (GN_SPIN_UNTIL(so, so->tx.dir, tx_changed(so, room)))
		return 0;
	gn_rx_lock(so, fd);
	bells = only_bells(so) && !gn_bells_stay(so);
	gn_unlock(&so->ep->rx.lock);
	if (!bells || atomic_load(&so->peer_gone) == GN_GONE_HALF || gn_flag(so->ep, GN_EP_SHUT_CARRIER)) {
		rc = gn_nap(&held, fd, deadline_ns, part);
		if (rc == -EPIPE)
			atomic_store(&so->peer_gone, GN_GONE_CLOSED);
		return rc == -EPIPE ? -EPIPE : rc;
	}
	sleep_start(so, &s, &so->tx.dir->p_parked);
	if (!tx_changed(so, room) && !atomic_load(&so->ep->tx.shut) && !gn_has_moved(so))
		s.rc = sleep_in(so, fd, room_until(deadline_ns), how_of(deadline_ns, part), &s);
	wake_up(so, gn_fd_still(so, fd), &s, &so->tx.dir->p_parked);
	if (s.rc == -ETIMEDOUT)
		return deadline_ns && gn_now_ns() >= deadline_ns ? -EAGAIN : 0;
	return wait_result(&s);
}

bool gn_timeout_is_valid(const struct timespec *timeout)
{
	return !timeout || (timeout->tv_sec >= 0 && timeout->tv_nsec >= 0 && timeout->tv_nsec < (long)GN_NS_PER_S);
}

uint64_t gn_deadline_of(const struct timespec *timeout)
{
	uint64_t ns;

	if (!timeout)
		return UINT64_MAX;
	if (timeout->tv_sec == 0 && timeout->tv_nsec == 0)
		return 0;
	if (__builtin_mul_overflow((uint64_t)timeout->tv_sec, GN_NS_PER_S, &ns) || ns > UINT64_MAX / 2)
		return UINT64_MAX;
	return gn_now_ns() + ns + (uint64_t)timeout->tv_nsec;
}
