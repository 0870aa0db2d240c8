/* SPDX-License-Identifier: MIT */
/*
 * Callers of a private face whose queue is full.
 *
 * TCP's caller of a full queue is not refused: its SYN is lost, it tries again, and gives up after about two minutes (ETIMEDOUT), or when its
 * options say so. Taking the public face instead would let twice as many wait as the program asked for. So: a blocking caller sleeps in the
 * kernel's own connect() of the AF_UNIX socket, which waits for room. One that does not block, or was interrupted, has a mute socket under its descriptor
 * (one end of a pair, unwritable) and tries again whenever the program asks about it or sleeps: poll, select and epoll sleep in short
 * pieces while gn_world.queued is not 0. When the private face is gone, the program's own TCP socket calls the public one, and what
 * happens then is the kernel's.
 *
 * Threads/owner: so->queue is made once and lives as long as the gn_sock; whoever takes `waiting` from 1 to 0 settles the rest.
 */
#include <netinet/tcp.h>
#include <string.h>

#include "base/fd.h"
#include "sock/api.h"
#include "sock/sleep.h"

#define RTO_NS GN_NS_PER_S           /* before the first retry of a SYN, twice as long before each that follows: RFC 6298, 2.1 and 5.5 */
#define RTO_MAX_NS (120 * GN_NS_PER_S) /* TCP_RTO_MAX */
#define NAP_NS (2 * GN_NS_PER_MS)
#define CHECK_NS GN_NS_PER_S /* the name may have come to somebody else: as long as one that squats on it can delay a caller */

struct gn_queue {
	_Atomic uint32_t waiting;
	struct gn_name at;
	struct gn_addr from, dest;
	struct gn_addr before; /* our address, as bound; no family: it was not */
	uint64_t deadline_ns, check_ns; /* the end of patience; when to ask again who it is that we wait for */
	int caller; /* hidden: bound, not connected yet; of one that sleeps: not hidden */
	int guard;  /* hidden: the other end of the mute socket */
	int tcp;    /* hidden: the program's own socket */
};

static struct gn_spare spare;

bool gn_queue_waits(const struct gn_sock *so)
{
	return so->queue && atomic_load_explicit(&so->queue->waiting, memory_order_acquire);
}

static bool may_answer(int u, const struct gn_addr *dest)
{
	struct ucred cred;
	socklen_t len = sizeof cred;

	return gn_sys_getsockopt(u, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 && gn_name_may_answer(dest, SOCK_STREAM, cred.uid);
}

/* Names belong to nobody: somebody who may not answer could have a listener there that takes no callers at all. Who it is cannot be asked of
 * a socket that is not connected, so the kernel's table says; when it does not, the public face it is. */
static bool may_keep_waiting(const struct gn_name *at, const struct gn_addr *dest)
{
	uid_t uid;

	return gn_name_bound_uid(at, true, &uid) == 0 && gn_name_may_answer(dest, SOCK_STREAM, uid);
}

static int hidden(int fd)
{
	fd = gn_fd_raise(fd);
	gn_hide(fd);
	return fd;
}

static int shown(int *fd)
{
	int was = *fd;

	gn_unhide(was);
	*fd = -1;
	return was;
}

/* Neither readable nor writable, and it does not hang up. */
static int mute_socket(int *guard)
{
	static const char nothing[16384];
	int pair[2], least = 0;
	int rc = gn_sys_socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair);

	if (rc < 0)
		return rc;
	gn_sys_setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &least, sizeof least);
	while (gn_sys_send(pair[0], nothing, sizeof nothing, MSG_DONTWAIT) > 0)
		;
	*guard = hidden(pair[1]);
	return pair[0];
}

/* Another socket under the descriptors; the one that goes may live on elsewhere, so its registrations leave first. */
static int change(struct gn_sock *so, int fd, int to)
{
	int rc;

	gn_watches_leave(so);
	if (!gn_flag(so->ep, GN_EP_NONBLOCK))
		gn_sys_fcntl(to, F_SETFL, O_RDWR);
	rc = gn_put_under(so, fd, to);
	gn_watches_to_kernel(so);
	return rc;
}

static void leave_queue(struct gn_sock *so)
{
	struct gn_queue *q = so->queue;

	gn_unhide_close(&q->caller);
	gn_unhide_close(&q->guard);
	gn_unhide_close(&q->tcp);
}

static bool take_waiting(struct gn_sock *so)
{
	if (!so->queue || !atomic_exchange(&so->queue->waiting, 0))
		return false;
	atomic_fetch_sub(&gn_world.queued, 1);
	return true;
}

void gn_queue_leave(struct gn_sock *so)
{
	if (take_waiting(so))
		leave_queue(so);
}

void gn_queue_free(struct gn_sock *so)
{
	gn_spare_give(&spare, so->queue);
	so->queue = NULL;
}

void gn_queue_fd_moved(struct gn_sock *so, int from, int to)
{
	struct gn_queue *q = so->queue;

	if (!q)
		return;
	q->caller = q->caller == from ? to : q->caller;
	q->guard = q->guard == from ? to : q->guard;
	q->tcp = q->tcp == from ? to : q->tcp;
}

static struct gn_queue *queue_of(struct gn_sock *so)
{
	if (so->queue)
		return so->queue;
	so->queue = gn_spare_take(&spare, sizeof *so->queue);
	if (so->queue)
		so->queue->caller = so->queue->guard = so->queue->tcp = -1;
	return so->queue;
}

void gn_queue_forked(struct gn_sock *so)
{
	struct gn_queue *q = so->queue;

	if (!q || gn_queue_waits(so) || q->caller < 0)
		return;
	gn_sys_close(q->caller);
	q->caller = -1;
}

/* From now on the connection goes on by itself. -EINPROGRESS; or 0: take the public face. */
static int go_on(struct gn_sock *so, int fd, int u, uint64_t deadline_ns, const struct gn_queue *of)
{
	struct gn_queue *q = queue_of(so);
	int mute, tcp = gn_fd_copy(fd);

	mute = q && tcp >= 0 ? mute_socket(&q->guard) : -1;
	if (mute < 0) {
		if (q)
			*q = (struct gn_queue){.caller = -1, .guard = -1, .tcp = -1};
		if (tcp >= 0)
			gn_sys_close(tcp);
		gn_sys_close(u);
		return 0;
	}
	gn_hide(tcp);
	gn_sys_fcntl(u, F_SETFL, O_RDWR | O_NONBLOCK);
	*q = (struct gn_queue){.at = of->at, .from = of->from, .dest = of->dest, .deadline_ns = deadline_ns,
			       .check_ns = gn_now_ns() + CHECK_NS, .caller = hidden(u),
			       .guard = q->guard, .tcp = tcp, .before = so->ep->local};
	so->ep->local = of->from;
	so->ep->peer = of->dest;
	atomic_fetch_or(&so->ep->flags, GN_EP_EMULATED | GN_EP_CONNECTING);
	gn_peer_drop(so);
	change(so, fd, mute);
	atomic_fetch_add(&gn_world.queued, 1);
	atomic_store(&q->waiting, 1); /* last: from here on any thread may find that it is connected, and put that in place */
	gn_watches_poke(so); /* who sleeps in a set with it is to look again, and soon */
	return -EINPROGRESS;
}

static int connected(struct gn_sock *so, int fd)
{
	struct gn_queue *q = so->queue;

	gn_options_replay(so, q->caller);
	gn_established(so, &q->from, &q->dest);
	if (q->before.family) { /* bound: the name stays taken */
		so->hold_fd = q->tcp;
		q->tcp = -1;
	}
	change(so, fd, shown(&q->caller));
	leave_queue(so);
	return 0;
}

/* The program's own socket is back; `error` 0: it calls the public face. */
static int give_up(struct gn_sock *so, int fd, int error)
{
	struct gn_queue *q = so->queue;
	struct sockaddr_storage ss;
	socklen_t len = gn_addr_to_sockaddr(&ss, &q->dest, so->ep->domain);
	int rc = 0;

	atomic_fetch_and(&so->ep->flags, ~(GN_EP_EMULATED | GN_EP_CONNECTING));
	so->ep->peer = (struct gn_addr){0};
	so->ep->local = q->before;
	gn_unhide_close(&q->caller);
	if (!error) {
		gn_sys_fcntl(q->tcp, F_SETFL, O_RDWR | O_NONBLOCK); /* no wait here, inside; change() takes it off again */
		rc = gn_sys_connect(q->tcp, &ss, len); /* bound or not, the caller's name is free again */
		error = rc < 0 && rc != -EINPROGRESS ? -rc : 0;
	}
	if (!error) {
		atomic_store(&so->ep->state, GN_ESTAB);
		atomic_fetch_or(&so->ep->flags, GN_EP_PINNED);
	}
	atomic_store(&so->ep->so_error, (uint32_t)error);
	change(so, fd, shown(&q->tcp));
	leave_queue(so);
	return -error;
}

static bool is_in_vain(struct gn_queue *q)
{
	uint64_t now = gn_now_ns();

	if (now < q->check_ns)
		return false;
	q->check_ns = now + CHECK_NS;
	return !may_keep_waiting(&q->at, &q->dest);
}

int gn_queue_settle(struct gn_sock *so, int fd)
{
	struct gn_queue *q = so->queue;
	bool late;
	int rc;

	if (!gn_queue_waits(so))
		return 0;
	rc = gn_sys_connect(q->caller, &q->at.sun, q->at.len);
	late = gn_now_ns() >= q->deadline_ns;
	if (rc == -EAGAIN && !late && !is_in_vain(q))
		return -EINPROGRESS;
	if (!take_waiting(so))
		return 0; /* another thread has */
	if ((rc == 0 || rc == -EISCONN) && may_answer(q->caller, &q->dest))
		return connected(so, fd);
	return give_up(so, fd, rc == -EAGAIN && late ? ETIMEDOUT : 0);
}

/* shutdown() in TCP's SYN_SENT: an unconnected socket again. */
int gn_queue_cancel(struct gn_sock *so, int fd)
{
	if (take_waiting(so))
		give_up(so, fd, ECONNRESET);
	return 0;
}

void gn_queue_look(void)
{
	for (uint32_t fd = 0; fd < gn_world.used_fds; fd++) {
		struct gn_sock *so = gn_get((int)fd);

		if (!so)
			continue;
		gn_queue_settle(so, (int)fd);
		gn_put(so);
	}
}

uint64_t gn_queue_nap(uint64_t deadline_ns)
{
	return GN_MIN(deadline_ns, gn_now_ns() + NAP_NS);
}

int gn_queue_wait(struct gn_sock *so, int fd, bool nonblock)
{
	static const struct timespec nap = {0, NAP_NS};
	struct gn_held held = {.so = so};
	int rc;

	while ((rc = gn_queue_settle(so, fd)) == -EINPROGRESS && !nonblock) {
		rc = gn_sleep_ppoll(GN_SLEEP_RESTART, &held, NULL, 0, &nap, NULL);
		if (rc < 0 && rc != GN_SLEEP_AGAIN)
			return rc;
	}
	return rc;
}

int gn_queue_again(struct gn_sock *so, int fd)
{
	int rc = gn_queue_wait(so, fd, gn_flag(so->ep, GN_EP_NONBLOCK)), error;

	if (rc == -EINPROGRESS)
		return -EALREADY;
	if (rc == -EINTR || gn_flag(so->ep, GN_EP_EMULATED))
		return rc == -EINTR ? rc : 1;
	error = (int)atomic_exchange(&so->ep->so_error, 0);
	return error ? -error : 1;
}

struct caller {
	int u;
	struct gn_held held;
};

static void hang_up(struct gn_held *held)
{
	const struct caller *c = container_of(held, struct caller, held);

	if (held->so->queue)
		held->so->queue->caller = -1;
	gn_sys_close(c->u);
}

/* Sleeps in the kernel until there is room. 0; -EAGAIN: time is up; -EINTR; others: the private face is gone. The kernel restarts a
 * connect() without a time limit of the program's if the handler was installed so (signal(7)). */
static int sleep_in_queue(struct gn_sock *so, int u, const struct gn_name *at, const struct gn_addr *dest, uint64_t until_ns)
{
	struct caller caller = {.u = u, .held = {.so = so, .undo = hang_up}};
	struct gn_queue *q = queue_of(so);
	enum gn_sleep_how how = atomic_load(&so->ep->sndtimeo_ns) ? GN_SLEEP_EINTR : GN_SLEEP_RESTART;
	struct timeval limit;
	uint64_t now, left;
	int rc;

	gn_sys_fcntl(u, F_SETFL, O_RDWR);
	if (q)
		q->caller = u; /* a forked child has it too, and nobody there to close it */
	do {
		now = gn_now_ns();
		left = until_ns > now ? GN_MIN(until_ns - now, (uint64_t)CHECK_NS) : 1;
		limit = (struct timeval){(time_t)(left / GN_NS_PER_S), (suseconds_t)(left % GN_NS_PER_S / GN_NS_PER_US) + 1};
		gn_sys_setsockopt(u, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
		rc = (int)gn_sleep(how, &caller.held, SYS_connect, u, (long)&at->sun, (long)at->len, 0, 0, 0);
		if (rc == -EAGAIN && gn_now_ns() < until_ns)
			rc = may_keep_waiting(at, dest) ? GN_SLEEP_AGAIN : -EPERM;
	} while (rc == GN_SLEEP_AGAIN);
	if (q)
		q->caller = -1;
	limit = (struct timeval){0, 0};
	gn_sys_setsockopt(u, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
	return rc;
}

/* How long the kernel would send SYNs for it: TCP_SYNCNT, net.ipv4.tcp_syn_retries, TCP_USER_TIMEOUT, tcp(7). */
static uint64_t patience_ns(int tcp)
{
	int retries = 0, limit_ms = 0;
	socklen_t len = sizeof retries;
	uint64_t rto = RTO_NS, all = rto;

	gn_sys_getsockopt(tcp, IPPROTO_TCP, TCP_SYNCNT, &retries, &len);
	gn_sys_getsockopt(tcp, IPPROTO_TCP, TCP_USER_TIMEOUT, &limit_ms, &len);
	for (int i = 0; i < retries; i++) {
		rto = GN_MIN(2 * rto, (uint64_t)RTO_MAX_NS);
		all += rto;
	}
	/* Looked at first when the first retry is due. */
	return limit_ms > 0 ? GN_MIN(all, GN_MAX((uint64_t)limit_ms * GN_NS_PER_MS, (uint64_t)RTO_NS)) : all;
}

int gn_queue_enter(struct gn_sock *so, int fd, int u, const struct gn_name *at, const struct gn_addr *from, const struct gn_addr *dest)
{
	const struct gn_queue of = {.at = *at, .from = *from, .dest = *dest};
	uint64_t own = atomic_load(&so->ep->sndtimeo_ns), now = gn_now_ns();
	uint64_t deadline = now + patience_ns(fd);
	int rc;

	if (!may_keep_waiting(at, dest)) {
		gn_sys_close(u);
		return 0;
	}
	if (gn_flag(so->ep, GN_EP_NONBLOCK))
		return go_on(so, fd, u, deadline, &of);
	rc = sleep_in_queue(so, u, at, dest, own ? GN_MIN(now + own, deadline) : deadline);
	if (rc == -EINTR || (rc == -EAGAIN && gn_now_ns() < deadline)) {
		int later = go_on(so, fd, u, deadline, &of);

		return later == -EINPROGRESS && rc == -EINTR ? rc : later;
	}
	if (rc == 0 && may_answer(u, dest))
		return 1;
	gn_sys_close(u);
	return rc == -EAGAIN ? -ETIMEDOUT : 0;
}
