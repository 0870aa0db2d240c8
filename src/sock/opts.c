/* SPDX-License-Identifier: MIT */
/*
 * Options of endpoints: setsockopt, getsockopt.
 *
 * An internet stream that is carried by an AF_UNIX socket still has the options of its own kind. What the program sets is checked and
 * normalised by a fresh kernel socket of that kind (the oracle), remembered (opts_kept.c), and answered from memory; what it never set is
 * answered by the oracle's default. Options of SOL_SOCKET that an AF_UNIX socket has too are the carrying socket's own.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>

#include "sock/opts.h"

#define LOOPBACK_MTU 65535 /* ip(7), IP_MTU: of the path, no more than the header can say */

bool gn_option_on(int fd, int level, int name)
{
	int on = 0;
	socklen_t len = sizeof on;

	return gn_sys_getsockopt(fd, level, name, &on, &len) == 0 && on;
}

/* In a sandbox no socket can be asked: what is set is taken as it is, what was never set is 0. */
static int oracle_is_silent(const void *set, socklen_t set_len, void *get, socklen_t *get_len)
{
	if (!get || !get_len)
		return 0;
	memset(get, 0, *get_len);
	if (set)
		memcpy(get, set, GN_MIN(set_len, *get_len));
	*get_len = set ? GN_MIN(set_len, *get_len) : GN_MIN((socklen_t)sizeof(int), *get_len);
	return 0;
}

int gn_oracle_open(const struct gn_ep *ep)
{
	return gn_sys_socket(ep->domain, ep->type | SOCK_CLOEXEC, ep->protocol);
}

/* What the kernel's own socket of this kind says to an option: sets it there, if `set`, and reads it back. */
static int oracle(const struct gn_ep *ep, int level, int name, const void *set, socklen_t set_len, void *get, socklen_t *get_len)
{
	int fd, rc;

	if (unlikely(gn_world.sandboxed))
		return oracle_is_silent(set, set_len, get, get_len);
	fd = gn_oracle_open(ep);

	if (fd < 0)
		return fd;
	rc = set ? gn_sys_setsockopt(fd, level, name, set, set_len) : 0;
	if (rc == 0 && get)
		rc = gn_sys_getsockopt(fd, level, name, get, get_len);
	gn_sys_close(fd);
	return rc;
}

bool gn_option_is_taken(const struct gn_ep *ep, int level, int name, uint32_t value)
{
	return oracle(ep, level, name, &value, sizeof value, NULL, NULL) == 0;
}

/* Options that the AF_UNIX socket takes for itself; the others of SOL_SOCKET belong to the kind the program sees. */
static bool is_carriers_own(int level, int name)
{
	if (level != SOL_SOCKET)
		return false;
	switch (name) {
	case SO_RCVTIMEO:
	case SO_SNDTIMEO:
	case SO_LINGER:
	case SO_RCVLOWAT:
	case SO_OOBINLINE:
	case SO_COOKIE:
	case SO_ERROR:
	case SO_ACCEPTCONN:
		return true;
	default:
		return false;
	}
}

/* Options so common that they are not worth a socket of their own: a number in [low, high], or a truth value. tcp(7), socket(7). */
static const struct common_option {
	int level, name, low, high;
} common_options[] = {
	{IPPROTO_TCP, TCP_NODELAY, 0, 0},      {IPPROTO_TCP, TCP_CORK, 0, 0},          {SOL_SOCKET, SO_KEEPALIVE, 0, 0},
	{SOL_SOCKET, SO_REUSEADDR, 0, 0},      {IPPROTO_TCP, TCP_KEEPIDLE, 1, 32767},  {IPPROTO_TCP, TCP_KEEPINTVL, 1, 32767},
	{IPPROTO_TCP, TCP_KEEPCNT, 1, 127},
};

/* 1: done; 0: ask the oracle; -errno. */
static int set_common(struct gn_sock *so, int level, int name, const void *value, socklen_t len)
{
	int n;

	for (size_t i = 0; i < ARRAY_SIZE(common_options); i++) {
		const struct common_option *o = &common_options[i];

		if (o->level != level || o->name != name)
			continue;
		if (len < sizeof n || !value)
			return 0;
		memcpy(&n, value, sizeof n);
		if (o->high && (n < o->low || n > o->high))
			return -EINVAL;
		n = o->high ? n : !!n;
		gn_option_note(so, level, name, &n, sizeof n);
		return 1;
	}
	return 0;
}

/* They promise messages of the kernel's, which AF_UNIX has not: better said at once than waited for. Set before the connection is made, the
 * kernel's TCP carries it. */
static bool is_promise(int level, int name)
{
	return (level == SOL_SOCKET && name == SO_ZEROCOPY) || (level == IPPROTO_TCP && name == TCP_INQ);
}

/* Newer kernels have it for TCP; the carrier's is ours to use (peek.c). */
static int set_peek_offset(struct gn_sock *so, int fd, const void *value, socklen_t len)
{
	int offset, rc = oracle(so->ep, SOL_SOCKET, SO_PEEK_OFF, value, len, NULL, NULL);

	if (rc < 0)
		return rc;
	memcpy(&offset, value, sizeof offset);
	gn_peek_offset_set(so, fd, offset);
	return 0;
}

void gn_linger_note(struct gn_ep *ep, const void *value, socklen_t len)
{
	struct linger l;

	if (len < sizeof l)
		return;
	memcpy(&l, value, sizeof l);
	if (l.l_onoff && l.l_linger == 0)
		atomic_fetch_or(&ep->flags, GN_EP_LINGER0);
	else
		atomic_fetch_and(&ep->flags, ~GN_EP_LINGER0);
}

/* It is over, with nothing left: TCP tells nothing of it any more. */
static bool is_read_out(struct gn_sock *so, int fd)
{
	int there = 0;

	return gn_flag(so->ep, GN_EP_DEAD) && gn_ioctl(so, fd, FIONREAD, &there) == 0 && !there;
}

static int set_emulated(struct gn_sock *so, int fd, int level, int name, const void *value, socklen_t len)
{
	struct gn_option now = {.len = sizeof now.value};
	int rc;

	if (is_carriers_own(level, name)) {
		rc = (int)gn_neg(gn_real.setsockopt(fd, level, name, value, len));
		if (rc == 0)
			gn_option_done(so, level, name, value, len);
		if (rc == 0 && name == SO_LINGER)
			gn_linger_note(so->ep, value, len);
		if (rc == 0 && name == SO_RCVLOWAT && !is_read_out(so, fd))
			gn_watches_poke(so);
		return rc;
	}
	if (level == IPPROTO_IPV6 && name == IPV6_V6ONLY && so->ep->domain == AF_INET6)
		return -EINVAL; /* too late once bound */
	if (level == SOL_SOCKET && name == SO_PEEK_OFF)
		return set_peek_offset(so, fd, value, len);
	rc = set_common(so, level, name, value, len);
	if (rc)
		return rc < 0 ? rc : 0;
	rc = oracle(so->ep, level, name, value, len, now.value, &now.len);
	if (rc < 0)
		return rc;
	if (is_promise(level, name) && now.value[0])
		return -EOPNOTSUPP;
	gn_option_note(so, level, name, now.value, now.len);
	if (level == SOL_SOCKET && (name == SO_SNDBUF || name == SO_RCVBUF)) {
		gn_sys_setsockopt(fd, level, name, value, len);
		so->roomy = true; /* the program chose */
	}
	return 0;
}

/* Who or what a message came from comes with it, or how much is left behind it. */
static bool is_senders(int name)
{
	return name == SO_PASSCRED || name == SO_PASSSEC || name == GN_SO_PASSPIDFD || name == GN_SO_INQ;
}

static void pin_for_option(struct gn_sock *so, int fd, int level, int name, const void *value)
{
	int offset;

	if (level != SOL_SOCKET)
		return;
	if (so->ep->type != SOCK_STREAM && (name == SO_TIMESTAMP || name == SO_TIMESTAMPNS || name == SO_TIMESTAMPING))
		gn_pin(so, fd, GN_WHY_OPTION);
	if (name != SO_PEEK_OFF)
		return;
	gn_pin(so, fd, GN_WHY_OPTION);
	memcpy(&offset, value, sizeof offset);
	gn_peek_offset_set(so, fd, offset);
}

static uint32_t control_flag(int name)
{
	switch (name) {
	case SO_PASSCRED: return GN_EP_PASSCRED;
	case SO_PASSSEC: return GN_EP_PASSSEC;
	case GN_SO_PASSPIDFD: return GN_EP_PASSPIDFD;
	case GN_SO_INQ: return GN_EP_INQ;
	case SO_TIMESTAMP: return GN_EP_STAMP_US;
	case SO_TIMESTAMPNS: return GN_EP_STAMP_NS;
	default: return 0;
	}
}

/* Options that add control data to each message: what is in a ring already has none. */
static void control_note(struct gn_ep *ep, int level, int name, const void *value, socklen_t len)
{
	uint32_t flag = control_flag(name);
	bool stamp = flag & (GN_EP_STAMP_US | GN_EP_STAMP_NS);
	int on;

	if (level != SOL_SOCKET || !flag || len < sizeof on || (!stamp && ep->domain != AF_UNIX))
		return;
	memcpy(&on, value, sizeof on);
	if (stamp)
		atomic_fetch_and(&ep->flags, ~(GN_EP_STAMP_US | GN_EP_STAMP_NS)); /* one of them at a time */
	if (on)
		atomic_fetch_or(&ep->flags, flag);
	else
		atomic_fetch_and(&ep->flags, ~flag);
}

void gn_senders_inherit(struct gn_sock *so, int fd)
{
	static const int names[] = {SO_PASSCRED, SO_PASSSEC, GN_SO_PASSPIDFD};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		int on = 0;
		socklen_t len = sizeof on;

		if (gn_sys_getsockopt(fd, SOL_SOCKET, names[i], &on, &len) < 0 || !on)
			continue;
		atomic_fetch_or(&so->ep->flags, control_flag(names[i]));
		gn_pin(so, fd, GN_WHY_ANCILLARY);
	}
}

bool gn_setsockopt_early(int fd, int level, int name, const void *value, socklen_t len)
{
	struct gn_sock *so = gn_is_vfork_child() ? NULL : gn_get_kind(fd, GN_KIND_EARLY);
	bool done;

	if (!so)
		return false;
	gn_connecting_begin(so);
	/* The kernel looks at the pointer: to the carrier that option is nothing. */
	done = so->kind == GN_KIND_EARLY && gn_sys_setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, value, len) == 0 &&
	       set_common(so, level, name, value, len) == 1;
	gn_connecting_end(so);
	gn_put(so);
	return done;
}

int gn_setsockopt(struct gn_sock *so, int fd, int level, int name, const void *value, socklen_t len)
{
	unsigned char now[16];
	socklen_t now_len = sizeof now;
	int rc;

	gn_connecting_pass(so);
	if (gn_flag(so->ep, GN_EP_EMULATED) && gn_is_nowhere(value, 1))
		return (int)len < (int)sizeof(int) ? -EINVAL : -EFAULT; /* the length is looked at first */
	if (gn_flag(so->ep, GN_EP_EMULATED))
		return set_emulated(so, fd, level, name, value, len);
	/* First: who sends with SO_PASSCRED on is given a name (unix(7)), and the last bell is none of the program's messages. */
	if (level == SOL_SOCKET && is_senders(name) && so->ep->domain == AF_UNIX && so->ep->type != SOCK_DGRAM)
		gn_pin(so, fd, GN_WHY_ANCILLARY);
	rc = (int)gn_neg(gn_real.setsockopt(fd, level, name, value, len));
	if (rc < 0)
		return rc;
	gn_option_done(so, level, name, value, len);
	control_note(so->ep, level, name, value, len);
	if (so->ep->type == SOCK_DGRAM)
		gn_dgram_option(so, fd, level, name, value, len);
	else if (so->ep->domain == AF_UNIX)
		pin_for_option(so, fd, level, name, value);
	else if (so->ep->type == SOCK_STREAM && gn_sys_getsockopt(fd, level, name, now, &now_len) == 0)
		gn_option_note(so, level, name, now, now_len);
	return 0;
}

static int value_out(const void *from, socklen_t from_len, void *value, socklen_t *len)
{
	if ((int)*len < 0)
		return -EINVAL;
	*len = GN_MIN(*len, from_len);
	memcpy(value, from, *len);
	return 0;
}

static int number_out(int n, void *value, socklen_t *len)
{
	return value_out(&n, sizeof n, value, len);
}

/* As TCP would have it: which of the two halves are over. */
static uint8_t tcp_state(struct gn_sock *so, int fd)
{
	struct pollfd p = {fd, POLLRDHUP, 0};
	bool mine = atomic_load(&so->ep->tx.shut), ended = gn_on_ring(so) && gn_peer_ended(so, fd);
	short bits = ended ? POLLRDHUP : gn_on_ring(so) ? gn_ready(so, fd, POLLRDHUP, true) : gn_sys_poll(&p, 1, 0) > 0 ? p.revents : 0;

	if (gn_flag(so->ep, GN_EP_DEAD))
		return TCP_CLOSE;
	if (!(bits & POLLRDHUP))
		return mine ? TCP_FIN_WAIT2 : TCP_ESTABLISHED;
	return mine ? TCP_CLOSE : TCP_CLOSE_WAIT;
}

static int tcp_info_out(struct gn_sock *so, int fd, void *value, socklen_t *len)
{
	struct tcp_info info = {0};
	socklen_t info_len = sizeof info;
	int rc = oracle(so->ep, IPPROTO_TCP, TCP_INFO, NULL, 0, &info, &info_len);

	if (rc < 0)
		return rc;
	info.tcpi_state = tcp_state(so, fd);
	return value_out(&info, info_len, value, len);
}

static int get_emulated(struct gn_sock *so, int fd, int level, int name, void *value, socklen_t *len)
{
	static const struct ucred nobody = {0, (uid_t)-1, (gid_t)-1}; /* what TCP says of its peer */
	const struct gn_option *o;

	if (level == SOL_SOCKET && name == SO_DOMAIN)
		return number_out(so->ep->domain, value, len);
	if (level == SOL_SOCKET && name == SO_PROTOCOL)
		return number_out(IPPROTO_TCP, value, len);
	if (level == SOL_SOCKET && name == SO_PEERCRED)
		return value_out(&nobody, sizeof nobody, value, len);
	if (level == SOL_SOCKET && name == SO_INCOMING_CPU && !gn_option_find(so, level, name))
		return number_out(GN_MAX(sched_getcpu(), 0), value, len); /* where the peer's packets would be handled: here */
	if (level == IPPROTO_IP && name == IP_MTU && so->ep->domain == AF_INET)
		return number_out(LOOPBACK_MTU, value, len);
	if (is_carriers_own(level, name))
		return (int)gn_neg(gn_real.getsockopt(fd, level, name, value, len));
	if (level == IPPROTO_IPV6 && name == IPV6_V6ONLY && so->ep->peer.family == AF_INET6 && (int)*len >= 0)
		return number_out(1, value, len);
	if (level == IPPROTO_TCP && name == TCP_INFO)
		return tcp_info_out(so, fd, value, len);
	o = gn_option_find(so, level, name);
	if (o)
		return value_out(o->value, o->len, value, len);
	return oracle(so->ep, level, name, NULL, 0, value, len);
}

/* A reset that the kernel tells here is told once, and is remembered; one that only means a bell left unread is not told. */
static int connection_error(struct gn_sock *so, int fd, void *value, socklen_t *len)
{
	int error = 0;
	socklen_t error_len = sizeof error;
	int rc = gn_sys_getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_len);

	if (rc < 0)
		return rc;
	if (error == ECONNRESET) {
		if (gn_reset_is_true(so))
			gn_reset_seen(so);
		error = (int)atomic_exchange(&so->ep->so_error, 0);
	}
	return number_out(error, value, len);
}

int gn_getsockopt(struct gn_sock *so, int fd, int level, int name, void *value, socklen_t *len)
{
	gn_connecting_pass(so);
	if (level == SOL_SOCKET && name == SO_ERROR && value && len && (so->ep->type != SOCK_DGRAM || so->dgram)) {
		uint32_t error;

		if (unlikely(gn_peer_waits(so)) && gn_peer_settle(so, fd) == -ECONNREFUSED)
			return number_out(ECONNREFUSED, value, len);
		if (unlikely(so->queue))
			gn_queue_settle(so, fd);
		if (gn_flag(so->ep, GN_EP_EMULATED) && !gn_flag(so->ep, GN_EP_SHUT_CARRIER) && !gn_all_in_ring(so))
			gn_kernel_gone(so, fd);
		else if (!so->dgram && gn_on_ring(so))
			gn_peer_ended(so, fd);
		if (!so->dgram)
			gn_judge(so, fd);
		else
			gn_dgram_parted(so);
		error = atomic_exchange(&so->ep->so_error, 0);
		if (error) {
			if (!so->dgram)
				gn_error_waits(fd); /* told: the kernel is not to show it again */
			return number_out((int)error, value, len);
		}
		if (!so->dgram && (gn_flag(so->ep, GN_EP_EMULATED) || so->tx.dir))
			return connection_error(so, fd, value, len);
	}
	if (level == SOL_SOCKET && name == SO_PEEK_OFF && value && len && gn_flag(so->ep, GN_EP_PEEK_OFF) &&
	    (gn_flag(so->ep, GN_EP_EMULATED) || gn_rx_shared(so)))
		return number_out(gn_peek_offset(so), value, len);
	if (!gn_flag(so->ep, GN_EP_EMULATED))
		return (int)gn_neg(gn_real.getsockopt(fd, level, name, value, len));
	if (gn_is_nowhere(value, 1) || gn_is_nowhere(len, 1))
		return -EFAULT;
	return get_emulated(so, fd, level, name, value, len);
}
