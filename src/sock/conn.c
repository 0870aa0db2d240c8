/* SPDX-License-Identifier: MIT */
/*
 * Opening connections: the public face is the kernel's own, the private face is an abstract AF_UNIX name beside it.
 *
 * AF_UNIX sockets need no private face: the kernel connects them, and the two ends find each other by their inodes once they are hot.
 * Internet streams: listen() (listen.c) opens a second, hidden listener; connect() tries that one first and swaps the AF_UNIX connection under
 * the program's descriptor; accept() (accept.c) waits on both.
 */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "sock/api.h"
#include "sock/sleep.h"

#define GROUP_GUESS 4 /* members of a group, before any was called */
#define PORT_TRIES 32
#define OTHER_TRIES 24 /* of these */
#define MEANWHILE 3 /* beside 0, 1 and GN_PEER_AGAIN */

static uint32_t any_number(void)
{
	static __thread uint32_t seed __attribute__((tls_model("initial-exec")));

	if (!seed)
		gn_sys_getrandom(&seed, sizeof seed, 0);
	seed = seed * 1664525u + 1013904223u;
	return seed >> 8;
}

/* The kernel's connect() takes ports an even number above the lowest as long as it finds one (inet_hashtables.c): `other` ones are not likely to
 * be those of callers of the public face. */
static uint16_t port_pick(bool other)
{
	static _Atomic uint32_t range; /* low << 16 | high of net.ipv4.ip_local_port_range */
	uint32_t r = atomic_load(&range), above;

	if (!r) {
		char text[32] = "";
		unsigned int low = 32768, high = 60999;
		char *end;

		if (gn_sys_read_file("/proc/sys/net/ipv4/ip_local_port_range", text, sizeof text) > 0) {
			low = (unsigned int)strtoul(text, &end, 10);
			high = (unsigned int)strtoul(end, NULL, 10);
		}
		r = low << 16 | (high & 0xffff);
		atomic_store(&range, r);
	}
	above = any_number() % ((r & 0xffff) - (r >> 16) + 1);
	return (uint16_t)((r >> 16) + (other && (r >> 16) + (above | 1) <= (r & 0xffff) ? above | 1 : above));
}

/* Binds the caller's end to a name that spells both addresses. */
static int caller_bind(int u, struct gn_addr *from, const struct gn_addr *dest)
{
	bool fixed = from->port != 0;
	struct gn_name name;
	int rc = -EADDRINUSE;

	for (int i = 0; i < PORT_TRIES && rc == -EADDRINUSE; i++) {
		if (!fixed)
			from->port = port_pick(i < OTHER_TRIES);
		if (!fixed && from->port == dest->port)
			continue; /* the kernel would not choose it either: it is taken */
		gn_name_caller(&name, from, dest);
		rc = gn_sys_bind(u, &name.sun, name.len);
		if (fixed)
			break;
	}
	return rc;
}

/* Number 0 is nobody's: it has ended while one of those behind it holds the group's own name; or there is no group. */
static int group_rest(int u, const struct gn_name *place, struct gn_name *member)
{
	int rc = -ECONNREFUSED;

	for (uint32_t i = 1; i <= GROUP_GUESS * 2 && rc == -ECONNREFUSED; i++) {
		gn_name_member(member, place, i);
		rc = gn_sys_connect(u, &member->sun, member->len);
	}
	return rc;
}

/* Any member of a group, each as likely as the others. How many there are is learnt: one number more than the last count is in the draw. */
static int group_connect(int u, const struct gn_name *place, struct gn_name *member)
{
	static _Atomic uint32_t known = GROUP_GUESS; /* of the last group that was called */
	uint32_t count = atomic_load_explicit(&known, memory_order_relaxed), i = any_number() % (count + 1);
	int rc;

	for (;;) {
		gn_name_member(member, place, i);
		rc = gn_sys_connect(u, &member->sun, member->len);
		if (rc != -ECONNREFUSED)
			break;
		count = i;
		if (!count)
			return group_rest(u, place, member);
		i = any_number() % count;
	}
	atomic_store_explicit(&known, GN_MIN(GN_MAX(count, i + 1), GN_GROUP_MAX), memory_order_relaxed);
	return rc;
}

/* Who calls and hangs up again has been seen by the program that listens. Where many users look alike it is asked before whether whoever
 * owns the address is one that we would believe. */
static bool is_owned_by_a_stranger(const struct gn_addr *dest)
{
	uid_t owner;

	return !gn_name_knows_users() &&
	       (gn_name_owner_uid(dest, SOCK_STREAM, &owner) < 0 || !gn_name_may_answer(dest, SOCK_STREAM, owner));
}

/* Connects `u`, which is not connected, nor bound yet. If the queue there is full: -EAGAIN, and full->len is not 0. */
static int private_call(const struct gn_sock *so, int u, const struct gn_addr *dest, struct gn_addr *from, struct gn_name *full)
{
	struct gn_name names[3];
	struct ucred cred;
	socklen_t len = sizeof cred;
	int count = gn_name_candidates(names, dest);
	int rc = 0;

	full->len = 0;
	*from = so->ep->local;
	if (!from->family || gn_addr_is_wildcard(from))
		rc = gn_addr_source(from, dest);
	from->port = so->ep->local.port;
	if (rc == 0 && from->port && !gn_name_may_call(from, gn_sys_geteuid())) /* as whoever accepts would find */
		rc = -EPERM;
	if (rc == 0)
		rc = caller_bind(u, from, dest);
	if (rc < 0)
		return rc;
	rc = -ECONNREFUSED;
	for (int i = 0; i < count && rc == -ECONNREFUSED; i++) {
		rc = gn_sys_connect(u, &names[i].sun, names[i].len);
		if (rc != -EAGAIN)
			continue;
		*full = names[i];
		rc = group_connect(u, &names[i], full);
		if (rc == -ECONNREFUSED) { /* no group: full in earnest */
			*full = names[i];
			rc = -EAGAIN;
		}
		if (rc == 0)
			full->len = 0;
	}
	if (rc == 0)
		rc = gn_sys_getsockopt(u, SOL_SOCKET, SO_PEERCRED, &cred, &len);
	if (rc == 0 && !gn_name_may_answer(dest, SOCK_STREAM, cred.uid))
		rc = -EPERM;
	return rc;
}

/* A socket connected to the private face of `dest`, or -errno: ECONNREFUSED when it has none. If its queue is full, it is not connected yet,
 * and full->len is not 0. */
static int private_connect(struct gn_sock *so, int fd, const struct gn_addr *dest, struct gn_addr *from, struct gn_name *full)
{
	int u = unlikely(is_owned_by_a_stranger(dest)) ? -EPERM : gn_sys_socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int rc;

	full->len = 0;
	if (u < 0)
		return u;
	if (unlikely(u < fd) && !gn_fd_is_allowed(fd)) /* the limit has sunk: nothing can be put there */
		rc = -EMFILE;
	else
		rc = private_call(so, u, dest, from, full);
	if (rc == 0 || rc == -EAGAIN)
		return u;
	gn_sys_close(u);
	return rc;
}

static int put_one(int fd, int u)
{
	int flags = gn_sys_fcntl(fd, F_GETFD, 0);

	return gn_sys_dup3(u, fd, flags >= 0 && (flags & FD_CLOEXEC) ? O_CLOEXEC : 0);
}

/* A number that the table knows no longer was closed meanwhile, and may be another file's. What fails does not keep the others from following. */
int gn_put_under_begun(struct gn_sock *so, int fd, int u)
{
	bool lent = gn_is_vfork_child(), known = !lent && (uint32_t)fd < gn_world.table_size && atomic_load(gn_slot(fd)) == so;
	int rc = lent || known ? put_one(fd, u) : 0, other_rc;

	if (lent)
		gn_lent_change(fd);
	for (uint32_t other = 0; !lent && so->fds > known && other < gn_world.used_fds; other++) {
		if ((int)other == fd || atomic_load(gn_slot(other)) != so)
			continue;
		other_rc = put_one((int)other, u);
		rc = rc < 0 ? rc : other_rc;
	}
	if (!lent && so->after >= 0)
		put_one(so->after, u);
	gn_sys_close(u);
	return rc < 0 ? rc : 0;
}

int gn_put_under(struct gn_sock *so, int fd, int u)
{
	int rc;

	gn_connecting_begin(so);
	rc = gn_put_under_begun(so, fd, u);
	gn_connecting_end(so);
	return rc;
}

int gn_swap_in(struct gn_sock *so, int fd, int u)
{
	int rc;

	if (!gn_flag(so->ep, GN_EP_NONBLOCK))
		gn_sys_fcntl(u, F_SETFL, O_RDWR);
	gn_options_replay(so, u);
	if (so->ep->local.family || !gn_is_inet(so->ep)) { /* bound: the name stays taken */
		gn_watches_leave(so);
		so->hold_fd = gn_fd_copy(fd);
		if (so->hold_fd >= 0)
			gn_hide(so->hold_fd);
	}
	rc = gn_put_under_begun(so, fd, u);
	if (rc < 0) {
		gn_unhide_close(&so->hold_fd);
		gn_watches_to_kernel(so);
	}
	return rc;
}

void gn_established(struct gn_sock *so, const struct gn_addr *from, const struct gn_addr *dest)
{
	so->ep->local = *from;
	so->ep->peer = *dest;
	atomic_fetch_or(&so->ep->flags, GN_EP_EMULATED);
	gn_why(so->ep, GN_WHY_COLD);
	atomic_store(&so->ep->state, GN_ESTAB);
}

static int put_connected(struct gn_sock *so, int fd, int u, const struct gn_addr *from, const struct gn_addr *dest)
{
	int rc = gn_swap_in(so, fd, u);

	if (rc < 0)
		return rc;
	gn_established(so, from, dest);
	gn_early_connected(so);
	gn_watches_to_kernel(so);
	return 1;
}

/* The socket that the program has is the one that is to be connected. False: as if nothing had happened. */
static bool early_connect(struct gn_sock *so, int fd, const struct gn_addr *dest)
{
	struct gn_addr from;
	struct gn_name full;

	if (is_owned_by_a_stranger(dest) || private_call(so, fd, dest, &from, &full) < 0) {
		gn_early_end(so, fd);
		return false;
	}
	if (!gn_flag(so->ep, GN_EP_NONBLOCK))
		gn_sys_fcntl(fd, F_SETFL, O_RDWR);
	gn_established(so, &from, dest);
	gn_early_connected(so);
	return true;
}

/* To be asked when no fork and no other connect() of this socket goes on. 1: the private face may be used; 0: the public one; MEANWHILE: another
 * thread has connected it, or is about to. */
static int may_use(struct gn_sock *so)
{
	if (atomic_load(&so->ep->state) != GN_UNCONN || gn_flag(so->ep, GN_EP_EMULATED) || gn_queue_waits(so))
		return MEANWHILE;
	return !gn_flag(so->ep, GN_EP_PINNED); /* since it was asked first */
}

/* The same before the call; so->ep says why not. */
static int may_call(struct gn_sock *so)
{
	int rc = may_use(so);

	if (rc != 1 || gn_ep_is_alone(so->ep))
		return rc;
	gn_why(so->ep, GN_WHY_SHARED);
	return 0;
}

/* gn_connecting_begin() has been said. */
static int call_private(struct gn_sock *so, int fd, const struct gn_addr *dest)
{
	struct gn_addr from;
	struct gn_name full;
	int rc = may_call(so), u;

	if (rc != 1)
		return rc;
	if (so->kind == GN_KIND_EARLY && early_connect(so, fd, dest))
		return 1;
	u = private_connect(so, fd, dest, &from, &full);
	if (u < 0) {
		gn_why(so->ep, u == -EPERM ? GN_WHY_TRUST : u == -EMFILE ? GN_WHY_SCARCE : GN_WHY_NO_FACE);
		return 0;
	}
	if (unlikely(full.len)) {
		gn_connecting_end(so); /* it may sleep */
		rc = gn_queue_enter(so, fd, u, &full, &from, dest);
		gn_connecting_begin(so);
		if (rc != 1)
			return rc;
		rc = may_use(so); /* forked meanwhile or not: the acceptor knows of the connection */
		if (rc != 1) {
			gn_sys_close(u);
			return rc;
		}
	}
	return put_connected(so, fd, u, &from, dest);
}

/* 1: connected by the private face. 0: take the public one. MEANWHILE: as may_call(). */
static int try_private(struct gn_sock *so, int fd, const struct gn_addr *dest)
{
	int rc;

	if (!gn_addr_is_local(dest)) {
		gn_why(so->ep, GN_WHY_REMOTE);
		return 0;
	}
	gn_connecting_begin(so);
	rc = call_private(so, fd, dest);
	gn_connecting_end(so);
	return rc;
}

/* rc: of what was tried; 0: it will be the kernel's socket. */
static void early_give_up(struct gn_sock *so, int fd, int rc)
{
	if (rc == 0 && so->kind == GN_KIND_EARLY)
		gn_early_ended(so, fd);
}

static bool family_fits(struct gn_sock *so, int fd, const struct sockaddr *addr, const struct gn_addr *dest)
{
	if (so->ep->domain != addr->sa_family)
		return false;
	if (so->ep->domain == AF_INET6 && dest->family == AF_INET)
		early_give_up(so, fd, 0); /* its own option counts */
	return !(so->ep->domain == AF_INET6 && dest->family == AF_INET && gn_option_on(fd, IPPROTO_IPV6, IPV6_V6ONLY));
}

static int connect_inet(struct gn_sock *so, int fd, const struct sockaddr *addr, socklen_t len)
{
	struct gn_addr dest;
	int rc;

	if (!gn_private_wanted(so, fd) || gn_addr_from_sockaddr(&dest, addr, len) < 0 || !family_fits(so, fd, addr, &dest) || !dest.port)
		return 0;
	if (gn_addr_is_multicast(&dest)) {
		gn_why(so->ep, GN_WHY_ADDRESS);
		return 0;
	}
	gn_addr_destination(&dest);
	do {
		rc = try_private(so, fd, &dest);
		early_give_up(so, fd, rc);
		if (rc == 0)
			rc = gn_peer_meet_inet(so, fd, &dest);
	} while (rc == GN_PEER_AGAIN);
	return rc;
}

static int connect_kernel(struct gn_sock *so, int fd, const struct sockaddr *addr, socklen_t len)
{
	struct gn_held held = {.so = so};

	return (int)gn_sleep(GN_SLEEP_CALL, &held, SYS_connect, fd, (long)addr, (long)len, 0, 0, 0);
}

/* The kernel says at once whether anybody listens; a bound socket may meet another one. */
static int connect_unix(struct gn_sock *so, int fd, const struct sockaddr *addr, socklen_t len)
{
	int rc, met;

	do {
		rc = connect_kernel(so, fd, addr, len);
		met = rc == -ECONNREFUSED && gn_is_stream_like(so->ep) ? gn_peer_meet_unix(so, fd, addr, len) : 0;
	} while (met == GN_PEER_AGAIN);
	return met == 1 ? 0 : met < 0 ? met : rc;
}

/* A dissolved connection keeps its port and forgets its address; if another has the port meanwhile, so be it. */
static void keep_port(int fd, const struct gn_ep *ep)
{
	struct sockaddr_storage ss;
	socklen_t len = gn_addr_to_sockaddr(&ss, &ep->local, ep->domain);
	int on = 1, off = 0;

	if (ep->domain == AF_INET6)
		((struct sockaddr_in6 *)&ss)->sin6_addr = in6addr_any;
	else
		((struct sockaddr_in *)&ss)->sin_addr.s_addr = INADDR_ANY;
	gn_sys_setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on); /* the kernel's connections that end there do not matter */
	gn_sys_bind(fd, &ss, len);
	gn_sys_setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &off, sizeof off);
}

/* connect() to AF_UNSPEC resets a TCP connection and leaves an unconnected socket (connect(2)): a new one takes its place. */
static int disconnect(struct gn_sock *so, int fd)
{
	int type = so->ep->type | (gn_flag(so->ep, GN_EP_NONBLOCK) ? SOCK_NONBLOCK : 0);
	int domain = so->ep->domain, protocol = so->ep->protocol;
	int flags = gn_sys_fcntl(fd, F_GETFD, 0);
	int new, rc;

	if (so->hold_fd < 0 && gn_is_elsewhere(fd))
		return -ENOBUFS; /* no new one can be had where it belongs */
	new = so->hold_fd >= 0 ? gn_sys_dup(so->hold_fd) : gn_sys_socket(domain, type | SOCK_CLOEXEC, protocol);
	if (new < 0)
		return new;
	if (so->hold_fd < 0)
		keep_port(new, so->ep);
	atomic_fetch_or(&so->ep->flags, GN_EP_LINGER0);
	gn_table_clear(fd);
	rc = gn_sys_dup3(new, fd, (flags & FD_CLOEXEC) ? O_CLOEXEC : 0);
	gn_sys_close(new);
	if (rc >= 0)
		gn_opened(fd, domain, type, protocol);
	return rc < 0 ? rc : 0;
}

/* Calls connect() again on a socket that is connected already: once 0 after EINPROGRESS, then EISCONN. */
static int connect_again(struct gn_sock *so, int fd, const struct sockaddr *addr)
{
	if (addr->sa_family == AF_UNSPEC)
		return disconnect(so, fd);
	if (atomic_fetch_and(&so->ep->flags, ~GN_EP_CONNECTING) & GN_EP_CONNECTING)
		return 0;
	return -EISCONN;
}

static int connect_datagrams(struct gn_sock *so, int fd, const struct sockaddr *addr, socklen_t len)
{
	bool told = gn_dgram_connecting(so, fd);
	int rc = gn_is_inet(so->ep) ? connect_kernel(so, fd, addr, len) : connect_unix(so, fd, addr, len);

	gn_dgram_connected(so, fd, rc, told);
	return rc;
}

int gn_connect(struct gn_sock *so, int fd, const struct sockaddr *addr, socklen_t len)
{
	struct gn_ep *ep = so->ep;
	int rc = 0;

	if (unlikely(so->peer)) {
		rc = gn_peer_again(so, fd);
		if (rc != 1)
			return rc;
		rc = 0;
	}
	if (unlikely(so->queue)) {
		rc = gn_queue_again(so, fd);
		if (rc != 1)
			return rc;
		rc = 0;
	}
	if (gn_flag(ep, GN_EP_EMULATED) && addr && len >= sizeof(sa_family_t))
		return connect_again(so, fd, addr);
	if (gn_is_inet(ep) && ep->type == SOCK_STREAM && atomic_load(&ep->state) == GN_UNCONN && addr && len >= sizeof(sa_family_t))
		rc = connect_inet(so, fd, addr, len);
	early_give_up(so, fd, rc);
	if (rc == MEANWHILE)
		return gn_connect(so, fd, addr, len);
	if (rc < 0)
		return rc;
	if (rc == 1) {
		gn_peer_drop(so);
		if (!gn_flag(ep, GN_EP_NONBLOCK))
			return 0;
		atomic_fetch_or(&ep->flags, GN_EP_CONNECTING);
		return -EINPROGRESS;
	}
	if (ep->type == SOCK_DGRAM)
		return connect_datagrams(so, fd, addr, len);
	rc = gn_is_inet(ep) ? connect_kernel(so, fd, addr, len) : connect_unix(so, fd, addr, len);
	if (gn_peer_waits(so))
		return rc;
	if (rc == 0 && gn_is_inet(ep) && addr && addr->sa_family == AF_UNSPEC && atomic_load(&ep->state) == GN_LISTEN) {
		atomic_store(&ep->state, GN_UNCONN); /* it listens no more: tcp_disconnect() */
		gn_private_close(so, fd);
	}
	if ((rc == 0 || rc == -EINPROGRESS) && addr && addr->sa_family != AF_UNSPEC) {
		atomic_store(&ep->state, GN_ESTAB);
		gn_peer_drop(so);
		if (gn_is_inet(ep)) { /* the kernel's TCP: for gnezdo ss */
			gn_addr_from_sockaddr(&ep->peer, addr, len);
			gn_local_name(fd, &ep->local);
			atomic_fetch_or(&ep->flags, GN_EP_PINNED);
		}
	}
	return rc;
}

/* Of an emulated connection. */
void gn_name_out(const struct gn_sock *so, struct sockaddr *addr, socklen_t *len, bool peer)
{
	struct sockaddr_storage ss;
	socklen_t whole = gn_addr_to_sockaddr(&ss, peer ? &so->ep->peer : &so->ep->local, so->ep->domain);

	memcpy(addr, &ss, GN_MIN(*len, whole));
	*len = whole;
}

/* A connection that came through exec: the kernel's names of the AF_UNIX socket that carries it spell its internet addresses. */
static bool inherited_names(int fd, struct gn_addr *local, struct gn_addr *peer, bool *relayed)
{
	struct gn_name name = {.len = sizeof name.sun};

	if (gn_sys_getsockname(fd, &name.sun, &name.len) < 0 || name.sun.sun_family != AF_UNIX)
		return false;
	*relayed = gn_name_relay_parse(&name, local, peer) == 0;
	if (*relayed || gn_name_caller_parse(&name, local, peer) == 0)
		return true;
	name.len = sizeof name.sun;
	return gn_sys_getpeername(fd, &name.sun, &name.len) == 0 && gn_name_caller_parse(&name, peer, local) == 0;
}

struct gn_sock *gn_inherited(int fd)
{
	struct gn_addr local, peer;
	struct gn_ep like = {.type = SOCK_STREAM};
	struct gn_sock *so;
	bool relayed;
	int flags;

	if (fd < 0 || gn_is_vfork_child() || gn_is_hidden(fd) || !inherited_names(fd, &local, &peer, &relayed))
		return NULL;
	like.domain = (uint16_t)local.family;
	flags = gn_sys_fcntl(fd, F_GETFL, 0);
	so = gn_accepted(fd, &like, flags & O_NONBLOCK ? SOCK_NONBLOCK : 0);
	if (!so)
		return NULL;
	gn_established(so, &local, &peer);
	atomic_fetch_or(&so->ep->flags, GN_EP_PINNED | (relayed ? GN_EP_RELAYED : 0));
	gn_why(so->ep, GN_WHY_INHERITED);
	return gn_get(fd);
}

int gn_getname(struct gn_sock *so, int fd, struct sockaddr *addr, socklen_t *len, bool peer)
{
	int rc;

	gn_connecting_pass(so);
	if (unlikely(so->peer)) {
		rc = gn_peer_getname(so, fd, addr, len, peer);
		if (rc != 1)
			return rc;
	}
	if (unlikely(so->queue) && gn_queue_settle(so, fd) == -EINPROGRESS && peer)
		return -ENOTCONN;
	if (!gn_flag(so->ep, GN_EP_EMULATED))
		return (int)gn_neg(peer ? gn_real.getpeername(fd, addr, len) : gn_real.getsockname(fd, addr, len));
	if (unlikely(gn_world.sandboxed)) { /* the kernel's answer tells whether it is connected still */
		struct sockaddr_storage ss;
		socklen_t room = sizeof ss;

		rc = (int)gn_neg(peer ? gn_real.getpeername(fd, (struct sockaddr *)&ss, &room) : 0);
		if (rc < 0)
			return rc;
	} else if (peer && gn_tcp_is_over(so, fd))
		return -ENOTCONN;
	if (gn_is_nowhere(len, 1))
		return -EFAULT;
	if ((int)*len < 0)
		return -EINVAL;
	if (gn_is_nowhere(addr, *len))
		return -EFAULT;
	gn_name_out(so, addr, len, peer);
	return 0;
}
