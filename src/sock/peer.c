/* SPDX-License-Identifier: MIT */
/*
 * Peers: two bound stream sockets, neither of which listens, connect to each other and meet, in either order.
 *
 * Theory of operation. bind() puts a hidden listener beside the socket (so->held_fd) under a name made from its address (h/): now the
 * address is *held*. The listener goes when the socket listens, is connected or is closed, and with its process; that ends the
 * wait of all in its queue, so a holder's end is an event and nothing is polled.
 *
 * connect() of a held socket to a held address binds a new AF_UNIX socket to the name that the pair has in common (p/). The
 * kernel gives a name to one socket only, so just one of the two, however close together they come, is the *first*: it calls the other's
 * hidden listener and waits in the queue. The *second* finds the name taken and takes the first's call out of its own queue. Then
 * both put that AF_UNIX connection under their descriptors, and it is a connection like any other.
 *
 * The first says in its greeting how it waits. WAITS: in a blocking recv() for the second's answer of one byte, so that signals and
 * timeouts act as in the kernel's connect(). LATER (non-blocking): its descriptor is that socket already, made unwritable by a greeting
 * longer than its send buffer; the second takes the greeting out, the descriptor turns writable, and poll, select and epoll see
 * that with no help of ours. Where the second never comes because the holder is gone, the socket of before is put back.
 *
 * Both check who the other is (SO_PEERCRED): it must be one that may answer for the address (name/name.h).
 *
 * Threads/owner: so->peer is made by bind() and lives as long as the gn_sock; whoever takes `waiting` from 1 to 0 settles the rest.
 */
#include <netinet/in.h>
#include <string.h>

#include "base/fd.h"
#include "sock/api.h"
#include "sock/sleep.h"

#define QUEUE 64
#define ASIDE 16            /* callers that wait for another address than the one we connect to */
#define NAPS 1000           /* of 1 ms, for a first that has the pair's name and is about to call */
#define ASK_NAPS 64         /* between two questions who it is */
#define GREETING_MS 1000
#define GREETING_BYTES 16384 /* more than the smallest send buffer, which the kernel sets at about 4.5 KiB */

enum { WAITS = 'w', LATER = 'l', ANSWER = 'a' };
enum { FIRST = 1, SECOND = 2 };

struct gn_peer {
	_Atomic uint32_t waiting;       /* connect() answered EINPROGRESS, and the other has not come yet */
	struct gn_key key;              /* AF_UNIX: what we are bound to */
	struct gn_addr bound;           /* internet: as bound, maybe a wildcard */
	struct gn_name local, remote;   /* AF_UNIX, connected: what the program sees; len 0: ask the kernel */
	int sndbuf;                     /* waiting: what to set again */
	bool roomy;
};

/* Who wants to meet whom. */
struct encounter {
	struct gn_name pair;
	struct gn_name held[3]; /* where the other may be, best first */
	int held_count;
	struct gn_addr from, dest; /* internet */
	struct gn_name remote;     /* AF_UNIX */
	uid_t owner;               /* AF_UNIX: of the other's file, or -1 */
};

static bool same_name(const struct gn_name *a, const struct gn_name *b)
{
	return a->len == b->len && memcmp(&a->sun, &b->sun, a->len) == 0;
}

/* -ENOENT and the like: no such file any more. */
static int key_of(struct gn_key *key, uid_t *owner, const struct gn_name *n)
{
	char path[sizeof n->sun.sun_path + 1] = "";
	struct stat st;
	int rc;

	*owner = (uid_t)-1;
	if (n->len <= offsetof(struct sockaddr_un, sun_path))
		return -ENOENT;
	if (!n->sun.sun_path[0]) {
		gn_key_abstract(key, &n->sun, n->len);
		return 0;
	}
	memcpy(path, n->sun.sun_path, n->len - offsetof(struct sockaddr_un, sun_path));
	rc = gn_sys_fstatat(AT_FDCWD, path, &st, 0);
	if (rc < 0)
		return rc;
	*key = (struct gn_key){'=', {st.st_dev, st.st_ino}};
	*owner = st.st_uid;
	return 0;
}

static int holder_name_inet(struct gn_sock *so, int fd, struct gn_name *name)
{
	const struct gn_addr *at = &so->ep->local;
	int only_v6 = 0;
	socklen_t len = sizeof only_v6;

	if (!at->port || gn_addr_is_multicast(at) || gn_option_needs_kernel(so))
		return -EADDRNOTAVAIL;
	if (at->family == AF_INET6 && gn_addr_is_wildcard(at))
		gn_sys_getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only_v6, &len);
	gn_name_holder(name, at, at->family == AF_INET6 && !only_v6);
	so->peer->bound = *at;
	return 0;
}

static int holder_name_unix(struct gn_sock *so, int fd, struct gn_name *name)
{
	struct gn_name own = {.len = sizeof own.sun};
	uid_t owner;
	int rc = gn_sys_getsockname(fd, &own.sun, &own.len);

	own.len = GN_MIN(own.len, (socklen_t)sizeof own.sun);
	if (rc == 0)
		rc = key_of(&so->peer->key, &owner, &own);
	if (rc == 0)
		gn_name_holder_unix(name, &so->peer->key);
	return rc;
}

/* A listener under that name, or -errno. */
static int holder_open(const struct gn_name *name, int type)
{
	int u = gn_sys_socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int rc;

	if (u < 0)
		return u;
	rc = gn_sys_bind(u, &name->sun, name->len);
	if (rc == 0)
		rc = gn_sys_listen(u, QUEUE);
	if (rc == 0)
		return gn_fd_raise(u);
	gn_sys_close(u);
	return rc;
}

static struct gn_spare spare;

void gn_peer_hold(struct gn_sock *so, int fd)
{
	struct gn_name name;
	int rc;

	if (gn_world.unseen || gn_fd_is_scarce())
		return;
	if (so->ep->type == SOCK_DGRAM || so->held_fd >= 0 || gn_flag(so->ep, GN_EP_PINNED) || gn_is_elsewhere(fd))
		return;
	if (!so->peer)
		so->peer = gn_spare_take(&spare, sizeof *so->peer);
	if (!so->peer)
		return;
	rc = gn_is_inet(so->ep) ? holder_name_inet(so, fd, &name) : holder_name_unix(so, fd, &name);
	if (rc == 0)
		rc = holder_open(&name, so->ep->type);
	if (rc < 0)
		return; /* then this socket meets nobody, as in the kernel */
	so->held_fd = rc;
	gn_hide(so->held_fd);
}

void gn_peer_drop(struct gn_sock *so)
{
	if (so->held_fd >= 0)
		gn_unhide_close(&so->held_fd);
}

void gn_peer_free(struct gn_sock *so)
{
	gn_spare_give(&spare, so->peer);
	so->peer = NULL;
}

static bool may_answer(const struct gn_sock *so, const struct encounter *e, int u)
{
	struct ucred cred;
	socklen_t len = sizeof cred;

	if (gn_sys_getsockopt(u, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return false;
	if (gn_is_inet(so->ep))
		return gn_name_may_answer(&e->dest, SOCK_STREAM, cred.uid);
	return gn_name_may_answer_unix(e->owner, cred.uid);
}

/* Through a wildcard a socket can hold the very address that it calls: it does not meet itself. */
static int call_others(const struct gn_sock *so, const struct encounter *e, int u)
{
	struct gn_name own = {.len = sizeof own.sun};
	int rc = gn_sys_getsockname(so->held_fd, &own.sun, &own.len);

	if (rc < 0)
		return rc;
	rc = -ECONNREFUSED;
	for (int i = 0; i < e->held_count && rc == -ECONNREFUSED; i++)
		if (!same_name(&own, &e->held[i]))
			rc = gn_sys_connect(u, &e->held[i].sun, e->held[i].len);
	return rc;
}

/* A port can be held by one socket and listened on by another (SO_REUSEADDR): that one is whom a packet would find. */
static bool somebody_listens(const struct gn_sock *so, const struct encounter *e)
{
	uid_t uid;

	return gn_is_inet(so->ep) && gn_name_owner_uid(&e->dest, SOCK_STREAM, &uid) == 0;
}

/* FIRST: *to waits in the other's queue. 0: the other is the first. -ECONNREFUSED: nobody holds the address. */
static int call(const struct gn_sock *so, const struct encounter *e, int *to)
{
	int u = gn_sys_socket(AF_UNIX, so->ep->type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int rc;

	if (u < 0)
		return u;
	rc = gn_sys_bind(u, &e->pair.sun, e->pair.len);
	if (rc == 0)
		rc = call_others(so, e, u);
	if (rc == 0 && (!may_answer(so, e, u) || somebody_listens(so, e)))
		rc = -ECONNREFUSED;
	if (rc < 0) {
		gn_sys_close(u);
		return rc == -EADDRINUSE ? 0 : rc;
	}
	*to = u;
	return FIRST;
}

static bool has_left(int c)
{
	struct pollfd p = {c, POLLRDHUP, 0};

	return gn_sys_poll(&p, 1, 0) != 0;
}

static bool take_greeting(int c, size_t len)
{
	ssize_t rc;

	for (; len; len -= (size_t)rc) {
		rc = gn_sys_recv(c, gn_waste, GN_MIN(len, sizeof gn_waste), MSG_DONTWAIT);
		if (rc <= 0)
			return false;
	}
	return true;
}

/* Reads the greeting and accepts: from here on the first counts itself connected. */
static bool greet(int c)
{
	struct pollfd p = {c, POLLIN, 0};
	char how = 0;
	const char answer = ANSWER;

	if (gn_sys_poll(&p, 1, GREETING_MS) <= 0 || gn_sys_recv(c, &how, 1, MSG_PEEK | MSG_DONTWAIT) != 1 || has_left(c))
		return false;
	if (how == LATER)
		return take_greeting(c, GREETING_BYTES);
	return how == WAITS && take_greeting(c, 1) && gn_sys_send(c, &answer, 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1;
}

struct aside {
	int fd[ASIDE];
	int count;
};

static void put_aside(struct aside *a, int c)
{
	if (a->count < ASIDE)
		a->fd[a->count++] = c;
	else
		gn_sys_close(c);
}

/* SECOND: *to is the first's call, out of our own queue. 0: it is not there yet. */
static int answer(const struct gn_sock *so, const struct encounter *e, int *to, struct aside *aside)
{
	struct gn_name name;
	int c;

	for (;;) {
		name.len = sizeof name.sun;
		c = gn_sys_accept4(so->held_fd, &name.sun, &name.len, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (c < 0)
			return 0;
		if (!same_name(&name, &e->pair)) {
			put_aside(aside, c);
		} else if (may_answer(so, e, c) && greet(c)) {
			*to = c;
			return SECOND;
		} else {
			gn_sys_close(c);
		}
	}
}

/* Somebody has the name that the pair has in common, and does not call us: is it somebody who might? */
static bool is_worth_waiting(const struct gn_sock *so, const struct encounter *e)
{
	uid_t uid;
	int rc = gn_name_bound_uid(&e->pair, false, &uid);

	if (rc < 0)
		return rc != -ENOTUNIQ; /* gone again, and it is our turn; or it cannot be told, and we wait a second at most */
	return gn_is_inet(so->ep) ? gn_name_may_answer(&e->dest, SOCK_STREAM, uid) : gn_name_may_answer_unix(e->owner, uid);
}

/* FIRST or SECOND and a hidden descriptor in *to; 0: there is nobody to meet. */
static int find(const struct gn_sock *so, const struct encounter *e, int *to)
{
	struct pollfd p = {so->held_fd, POLLIN, 0};
	struct aside aside = {.count = 0};
	int rc = 0;

	for (int nap = 0; nap < NAPS && rc == 0; nap++) {
		if (nap % ASK_NAPS == 1 && !is_worth_waiting(so, e))
			break;
		if (nap)
			gn_sys_poll(&p, 1, 1);
		rc = call(so, e, to);
		if (rc == 0)
			rc = answer(so, e, to, &aside);
	}
	if (rc > 0) {
		*to = gn_fd_raise(*to);
		gn_hide(*to);
	}
	while (aside.count) /* they find us again, if we are still to be met */
		gn_sys_close(aside.fd[--aside.count]);
	return GN_MAX(rc, 0);
}

static bool say(int u, char how, size_t len)
{
	static const char rest[GREETING_BYTES];
	struct iovec iov[2] = {{&how, 1}, {(void *)(uintptr_t)rest, len - 1}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};

	return gn_sys_sendmsg(u, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)len;
}

struct caller {
	int u;
	struct gn_held held;
};

/* Nobody waits in the other's queue any more. */
static void hang_up(struct gn_held *held)
{
	gn_unhide_close(&container_of(held, struct caller, held)->u);
}

/* 1: the second is there. -EINTR, -EAGAIN (SO_SNDTIMEO); GN_PEER_AGAIN: the holder has gone. */
static int wait_for_answer(struct gn_sock *so, int u)
{
	struct caller caller = {.u = u, .held = {.so = so, .undo = hang_up}};
	uint64_t ns = atomic_load(&so->ep->sndtimeo_ns);
	struct timeval limit = {(time_t)(ns / GN_NS_PER_S), (suseconds_t)(ns % GN_NS_PER_S / GN_NS_PER_US)};
	char byte;
	int rc;

	if (!say(u, WAITS, 1))
		return GN_PEER_AGAIN;
	gn_sys_fcntl(u, F_SETFL, O_RDWR);
	gn_sys_setsockopt(u, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	rc = (int)gn_sleep(GN_SLEEP_CALL, &caller.held, SYS_recvfrom, u, (long)&byte, 1, 0, 0, 0);
	if (rc == -EINTR || rc == -EAGAIN) /* at the last moment? */
		rc = gn_sys_recv(u, &byte, 1, MSG_DONTWAIT) == 1 ? 1 : rc;
	limit = (struct timeval){0, 0};
	gn_sys_setsockopt(u, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	return rc == 1 || rc == -EINTR || rc == -EAGAIN ? rc : GN_PEER_AGAIN;
}

/* Options of the AF_UNIX socket that goes, on the one that comes. Those of internet sockets are remembered (opts_kept.c). */
static void copy_options(int from, int to)
{
	static const int names[] = {SO_RCVTIMEO, SO_SNDTIMEO, SO_RCVLOWAT, SO_LINGER, SO_PASSCRED, SO_PASSSEC, GN_SO_PASSPIDFD, SO_PRIORITY};
	char value[16];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		socklen_t len = sizeof value;

		if (gn_sys_getsockopt(from, SOL_SOCKET, names[i], value, &len) == 0)
			gn_sys_setsockopt(to, SOL_SOCKET, names[i], value, len);
	}
	for (int name = SO_SNDBUF; name <= SO_RCVBUF; name++) {
		int size = 0;
		socklen_t len = sizeof size;

		if (gn_sys_getsockopt(from, SOL_SOCKET, name, &size, &len) == 0) {
			size /= 2; /* the kernel doubles what it is given (socket(7)) */
			gn_sys_setsockopt(to, SOL_SOCKET, name, &size, sizeof size);
		}
	}
}

/* Puts the connection under the program's descriptors. */
static int carry(struct gn_sock *so, int fd, int u, const struct encounter *e)
{
	struct gn_peer *p = so->peer;
	int rc;

	gn_unhide(u);
	if (gn_is_inet(so->ep)) {
		so->ep->local = e->from;
		so->ep->peer = e->dest;
	} else {
		p->remote = e->remote;
		p->local.len = sizeof p->local.sun;
		gn_sys_getsockname(fd, &p->local.sun, &p->local.len);
		copy_options(fd, u);
	}
	gn_connecting_begin(so);
	rc = gn_swap_in(so, fd, u);
	gn_connecting_end(so);
	if (rc < 0)
		return rc;
	if (gn_is_inet(so->ep))
		atomic_fetch_or(&so->ep->flags, GN_EP_EMULATED);
	gn_why(so->ep, GN_WHY_COLD);
	return 0;
}

static void complete(struct gn_sock *so)
{
	gn_peer_drop(so);
	atomic_store(&so->ep->state, GN_ESTAB);
}

static int carry_now(struct gn_sock *so, int fd, int u, const struct encounter *e)
{
	int rc = carry(so, fd, u, e);

	if (rc < 0)
		return rc;
	complete(so);
	gn_watches_to_kernel(so);
	return 1;
}

/* -EINPROGRESS: the descriptor turns writable when the second comes. */
static int carry_later(struct gn_sock *so, int fd, int u, const struct encounter *e)
{
	struct gn_peer *p = so->peer;
	socklen_t len = sizeof p->sndbuf;
	int least = 0, rc;

	if (!say(u, LATER, GREETING_BYTES)) {
		gn_unhide_close(&u);
		return GN_PEER_AGAIN;
	}
	rc = carry(so, fd, u, e);
	if (rc < 0)
		return rc;
	gn_sys_getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &p->sndbuf, &len);
	gn_sys_setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &least, sizeof least);
	p->roomy = so->roomy;
	so->roomy = true; /* nobody enlarges it meanwhile */
	atomic_fetch_or(&so->ep->flags, GN_EP_CONNECTING);
	atomic_store(&p->waiting, 1);
	gn_watches_to_kernel(so);
	return -EINPROGRESS;
}

/* As TCP does, a connect() that a signal or a timeout ended goes on by itself. */
static int go_on(struct gn_sock *so, int fd, const struct encounter *e, int told)
{
	int u, rc = find(so, e, &u);

	if (rc == SECOND)
		return carry_now(so, fd, u, e);
	if (rc == FIRST)
		rc = carry_later(so, fd, u, e);
	return rc == -EINPROGRESS && told == -EINTR ? told : rc;
}

static int meet(struct gn_sock *so, int fd, const struct encounter *e)
{
	int u, told, rc = find(so, e, &u);

	if (rc == FIRST && gn_flag(so->ep, GN_EP_NONBLOCK))
		return carry_later(so, fd, u, e);
	if (rc == FIRST) {
		told = wait_for_answer(so, u);
		if (told != 1) {
			gn_unhide_close(&u);
			return gn_is_inet(so->ep) && told < 0 ? go_on(so, fd, e, told) : told;
		}
	}
	return rc ? carry_now(so, fd, u, e) : 0;
}

int gn_peer_meet_inet(struct gn_sock *so, int fd, const struct gn_addr *dest)
{
	struct encounter e = {.dest = *dest};

	if (so->held_fd < 0 || atomic_load(&so->ep->holders) != 1 || !gn_addr_is_local(dest))
		return 0;
	e.from = so->peer->bound;
	if (gn_addr_is_wildcard(&e.from) && gn_addr_source(&e.from, dest) < 0)
		return 0;
	e.from.port = so->peer->bound.port;
	if (e.from.family != dest->family || gn_addr_equal(&e.from, dest))
		return 0; /* to itself: the kernel's TCP can do that */
	gn_name_meeting_inet(&e.pair, 'p', &e.from, dest);
	e.held_count = gn_name_holders(e.held, dest);
	return meet(so, fd, &e);
}

int gn_peer_meet_unix(struct gn_sock *so, int fd, const struct sockaddr *addr, socklen_t len)
{
	struct encounter e = {.held_count = 1};
	struct gn_key key;

	if (so->held_fd < 0 || atomic_load(&so->ep->holders) != 1 || len > sizeof e.remote.sun || gn_is_elsewhere(fd))
		return 0;
	memcpy(&e.remote.sun, addr, len);
	e.remote.len = len;
	if (key_of(&key, &e.owner, &e.remote) < 0 || gn_key_equal(&key, &so->peer->key))
		return 0;
	if (e.remote.sun.sun_path[0]) { /* as the kernel shows a path: with its NUL and nothing behind it */
		len = (socklen_t)strnlen(e.remote.sun.sun_path, sizeof e.remote.sun.sun_path - 1);
		e.remote.len = (socklen_t)offsetof(struct sockaddr_un, sun_path) + len + 1;
	}
	gn_name_peers_unix(&e.pair, &so->peer->key, &key);
	gn_name_holder_unix(&e.held[0], &key);
	return meet(so, fd, &e);
}

/* The holder went before it called: the socket of before is back. */
static void put_back(struct gn_sock *so, int fd)
{
	struct gn_peer *p = so->peer;
	int old = so->hold_fd;

	atomic_fetch_and(&so->ep->flags, ~(GN_EP_EMULATED | GN_EP_CONNECTING));
	p->local.len = p->remote.len = 0;
	if (gn_is_inet(so->ep)) {
		so->ep->local = p->bound;
		so->ep->peer = (struct gn_addr){0};
	}
	if (old < 0)
		return;
	so->hold_fd = -1;
	gn_unhide(old);
	gn_sys_fcntl(old, F_SETFL, O_RDWR | (gn_flag(so->ep, GN_EP_NONBLOCK) ? O_NONBLOCK : 0));
	gn_put_under(so, fd, old);
	gn_watches_to_kernel(so);
}

bool gn_peer_waits(const struct gn_sock *so)
{
	return so->peer && atomic_load_explicit(&so->peer->waiting, memory_order_acquire);
}

/* The kernel fails a call in the queue when its listener goes (ECONNRESET); one that was answered has had its greeting read. */
static bool was_refused(int fd, short events)
{
	int error = 0;
	socklen_t len = sizeof error;

	return (events & POLLERR) && gn_sys_getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error == ECONNRESET;
}

int gn_peer_settle(struct gn_sock *so, int fd)
{
	struct pollfd now = {fd, POLLOUT, 0};
	struct gn_peer *p = so->peer;
	int size;

	if (!gn_peer_waits(so))
		return 0;
	if (gn_sys_poll(&now, 1, 0) <= 0)
		return -EINPROGRESS;
	if (!atomic_exchange(&p->waiting, 0))
		return 0;
	so->roomy = p->roomy;
	if (was_refused(fd, now.revents)) {
		put_back(so, fd);
		return -ECONNREFUSED;
	}
	size = p->sndbuf / 2;
	gn_sys_setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	complete(so);
	return 0;
}

int gn_peer_again(struct gn_sock *so, int fd)
{
	struct gn_held held = {.so = so};
	struct pollfd p = {fd, POLLOUT, 0};
	int rc;

	if (gn_peer_waits(so) && !gn_flag(so->ep, GN_EP_NONBLOCK)) {
		do {
			rc = gn_sleep_ppoll(GN_SLEEP_RESTART, &held, &p, 1, NULL, NULL);
		} while (rc == GN_SLEEP_AGAIN);
		if (rc < 0)
			return rc;
	}
	rc = gn_peer_settle(so, fd);
	if (rc < 0)
		return rc == -EINPROGRESS ? -EALREADY : rc;
	/* The first connect() after one that was in progress says that it went well. */
	return gn_is_inet(so->ep) || !(atomic_fetch_and(&so->ep->flags, ~GN_EP_CONNECTING) & GN_EP_CONNECTING) ? 1 : 0;
}

int gn_peer_getname(struct gn_sock *so, int fd, struct sockaddr *addr, socklen_t *len, bool peer)
{
	const struct gn_name *n = peer ? &so->peer->remote : &so->peer->local;

	if (peer && gn_peer_settle(so, fd) == -EINPROGRESS)
		return -ENOTCONN;
	if (!n->len)
		return 1;
	if (!addr || !len)
		return -EFAULT;
	if ((int)*len < 0)
		return -EINVAL;
	memcpy(addr, &n->sun, GN_MIN(*len, n->len));
	*len = n->len;
	return 0;
}

socklen_t gn_peer_source(const struct gn_sock *so, void *name, socklen_t room)
{
	if (!so->peer || !so->peer->remote.len)
		return 0;
	memcpy(name, &so->peer->remote.sun, GN_MIN(room, so->peer->remote.len));
	return so->peer->remote.len;
}
