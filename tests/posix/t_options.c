/* SPDX-License-Identifier: MIT */
/* ring: yes */
/* Options: their values before and after connect, what an accepted socket inherits, and what is refused. */
#include "obs.h"

struct option {
	const char *name;
	int level, opt;
	int value;
	bool comes_back; /* the very value can be read */
};

static const struct option plain[] = {
	{ "SO_REUSEADDR", SOL_SOCKET, SO_REUSEADDR, 1, true },
	{ "SO_REUSEPORT", SOL_SOCKET, SO_REUSEPORT, 1, true },
	{ "SO_KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE, 1, true },
	{ "SO_OOBINLINE", SOL_SOCKET, SO_OOBINLINE, 1, true },
	{ "SO_BROADCAST", SOL_SOCKET, SO_BROADCAST, 1, true },
	{ "SO_DONTROUTE", SOL_SOCKET, SO_DONTROUTE, 1, true },
	{ "SO_RCVLOWAT", SOL_SOCKET, SO_RCVLOWAT, 5, true },
	{ "SO_TIMESTAMP", SOL_SOCKET, SO_TIMESTAMP, 1, true },
	{ "SO_PASSCRED", SOL_SOCKET, SO_PASSCRED, 1, true },
	{ "TCP_NODELAY", IPPROTO_TCP, TCP_NODELAY, 1, true },
	{ "TCP_CORK", IPPROTO_TCP, TCP_CORK, 1, true },
	{ "TCP_KEEPIDLE", IPPROTO_TCP, TCP_KEEPIDLE, 77, true },
	{ "TCP_KEEPINTVL", IPPROTO_TCP, TCP_KEEPINTVL, 7, true },
	{ "TCP_KEEPCNT", IPPROTO_TCP, TCP_KEEPCNT, 3, true },
	{ "TCP_SYNCNT", IPPROTO_TCP, TCP_SYNCNT, 2, true },
	{ "TCP_DEFER_ACCEPT", IPPROTO_TCP, TCP_DEFER_ACCEPT, 0, true },
	{ "TCP_QUICKACK", IPPROTO_TCP, TCP_QUICKACK, 1, false },
	{ "TCP_USER_TIMEOUT", IPPROTO_TCP, TCP_USER_TIMEOUT, 5000, true },
	{ "TCP_MAXSEG", IPPROTO_TCP, TCP_MAXSEG, 1000, false },
	{ "IP_TOS", IPPROTO_IP, IP_TOS, 16, true },
	{ "IP_TTL", IPPROTO_IP, IP_TTL, 33, true },
	{ "IPV6_V6ONLY", IPPROTO_IPV6, IPV6_V6ONLY, 1, true },
	{ "IPV6_UNICAST_HOPS", IPPROTO_IPV6, IPV6_UNICAST_HOPS, 33, true },
	{ "SO_ACCEPTCONN", SOL_SOCKET, SO_ACCEPTCONN, 1, false },
	{ "SO_TYPE", SOL_SOCKET, SO_TYPE, 1, false },
	{ "SO_ERROR", SOL_SOCKET, SO_ERROR, 1, false },
	{ "unknown", SOL_SOCKET, 9999, 1, false },
	{ "unknown level", 9999, 1, 1, false },
};
#define PLAIN (sizeof(plain) / sizeof(plain[0]))

static void read_all(int fd)
{
	for (size_t i = 0; i < PLAIN; i++) {
		bool tcp = plain[i].level == IPPROTO_TCP, v6 = plain[i].level == IPPROTO_IPV6;

		if ((tcp && (plain[i].opt == TCP_MAXSEG || plain[i].opt == TCP_QUICKACK)) || (v6 && plain[i].opt == IPV6_V6ONLY))
			continue; /* what is read there follows from the device, the moment, the address */
		obs_getopt(plain[i].name, fd, plain[i].level, plain[i].opt);
	}
}

static void identity(int fd)
{
	obs_getopt("SO_TYPE", fd, SOL_SOCKET, SO_TYPE);
	obs_getopt("SO_DOMAIN", fd, SOL_SOCKET, SO_DOMAIN);
	obs_getopt("SO_PROTOCOL", fd, SOL_SOCKET, SO_PROTOCOL);
	obs_getopt("SO_ACCEPTCONN", fd, SOL_SOCKET, SO_ACCEPTCONN);
	obs_getopt("SO_ERROR", fd, SOL_SOCKET, SO_ERROR);
}

static void what_it_is(struct obs *o)
{
	identity(o->fd);
	peer_text(o, op_puts, 0, "x");
	obs_recv(o->fd, 1, 0);
	identity(o->fd);
	peer(o, op_close, 0, 0);
	settle(o->fd);
	identity(o->fd);
}

static void defaults(struct obs *o)
{
	read_all(o->fd);
}

static void set_when_connected(struct obs *o)
{
	for (size_t i = 0; i < PLAIN; i++) {
		char what[80];
		int rc = setsockopt(o->fd, plain[i].level, plain[i].opt, &plain[i].value, sizeof(int));

		snprintf(what, sizeof(what), "set %s", plain[i].name);
		obs(what, rc);
		if (!rc && plain[i].comes_back)
			obs_getopt(plain[i].name, o->fd, plain[i].level, plain[i].opt);
	}
	obs_send(o->fd, "hello", 0);
	setsockopt(o->fd, IPPROTO_TCP, TCP_CORK, &(int){ 0 }, sizeof(int));
	obs("peer recv", peer(o, op_recv, 100, 0));
}

static long op_own_socket(struct obs *o, long a, long b)
{
	(void)a;
	(void)b;
	if (o->fd >= 0)
		close(o->fd);
	o->fd = sock_of(o->kind, 0);
	return 0;
}

static long op_set(struct obs *o, long index, long b)
{
	(void)b;
	return setsockopt(o->fd, plain[index].level, plain[index].opt, &plain[index].value, sizeof(int));
}

static long op_get(struct obs *o, long index, long b)
{
	int value = -77;
	socklen_t len = sizeof(value);

	(void)b;
	return getsockopt(o->fd, plain[index].level, plain[index].opt, &value, &len) ? -1 : value;
}

/* Options set on the listener go to what it accepts; options set before connect hold after it. */
static void set_before(struct obs *o)
{
	struct obs_name at;
	char hex[300];
	int lfd, fd;

	close(o->fd);
	peer(o, op_own_socket, 0, 0);
	lfd = sock_of(o->kind, 0);
	for (size_t i = 0; i < PLAIN; i++) {
		if (plain[i].opt == TCP_CORK || plain[i].opt == TCP_SYNCNT)
			continue;
		setsockopt(lfd, plain[i].level, plain[i].opt, &plain[i].value, sizeof(int));
		peer(o, op_set, (long)i, 0);
	}
	name_any(&at, o->kind);
	obs("bind", bind(lfd, (struct sockaddr *)&at.sa, at.len));
	obs("listen", listen(lfd, 5));
	read_all(lfd);
	name_get(lfd, &at);
	name_hex(hex, &at);
	obs("peer connect", peer_text(o, op_connect_to, 0, hex));
	fd = accept(lfd, NULL, NULL);
	note("accepted");
	read_all(fd);
	note("connected");
	for (size_t i = 0; i < PLAIN; i++)
		if (plain[i].comes_back)
			obs(plain[i].name, peer(o, op_get, (long)i, 0));
	obs("send", send(fd, "hello", 5, 0));
	obs("peer recv", peer(o, op_recv, 100, 0));
	close(fd);
	close(lfd);
}

/* Of sizes only this is promised: they are doubled, never below a floor, and larger never reads smaller. */
static void buffer_sizes(struct obs *o)
{
	static const int which[] = { SO_SNDBUF, SO_RCVBUF };

	for (int i = 0; i < 2; i++) {
		int value = 32768, got = 0;
		socklen_t len = sizeof(got);

		obs("set", setsockopt(o->fd, SOL_SOCKET, which[i], &value, sizeof(value)));
		obs_getopt("twice", o->fd, SOL_SOCKET, which[i]);
		value = 1;
		obs("set 1", setsockopt(o->fd, SOL_SOCKET, which[i], &value, sizeof(value)));
		obs("get", getsockopt(o->fd, SOL_SOCKET, which[i], &got, &len));
		note("a floor: %d", got > 1);
		value = -1;
		obs("set -1", setsockopt(o->fd, SOL_SOCKET, which[i], &value, sizeof(value)));
		obs("short", setsockopt(o->fd, SOL_SOCKET, which[i], &value, 2));
	}
	peer_start(o, op_bulk_out, 300000, 3);
	obs("data still comes", bulk_in(o->fd, 300000, 3));
	peer_done(o);
	peer_start(o, op_bulk_in, 300000, 3);
	obs("data still goes", bulk_out(o->fd, 300000, 3));
	obs("peer", peer_done(o));
}

static long op_small_sndbuf(struct obs *o, long n, long b)
{
	int value = (int)n;

	(void)b;
	return setsockopt(o->fd, SOL_SOCKET, SO_SNDBUF, &value, sizeof(value)) ||
	       setsockopt(o->fd, SOL_SOCKET, SO_RCVBUF, &value, sizeof(value));
}

/* A bound on what is in flight is a bound: small buffers on both sides hold less than a megabyte. */
static void small_buffers_bound_what_is_in_flight(struct obs *o)
{
	static char buf[1000];
	long sent = 0;
	ssize_t rc;

	obs("peer set", peer(o, op_small_sndbuf, 4096, 0));
	obs("set", op_small_sndbuf(o, 4096, 0));
	while ((rc = send(o->fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0)
		sent += rc;
	obs("send", rc);
	note("bounded: %d", sent > 0 && sent < 4 << 20);
	shutdown(o->fd, SHUT_WR);
	note("all arrive: %d", peer(o, op_sink, 0, 0) == sent);
}

static void lengths(struct obs *o)
{
	char buf[16] = { 0 };
	socklen_t len;

	for (len = 0; len < 6; len++) {
		socklen_t l = len;
		int rc = getsockopt(o->fd, SOL_SOCKET, SO_TYPE, buf, &l);

		note("room %u: rc %d len %u", len, rc, l);
	}
	len = sizeof(buf);
	obs("room 16", getsockopt(o->fd, SOL_SOCKET, SO_TYPE, buf, &len));
	note("len %u", len);
	obs("set, 1 byte", setsockopt(o->fd, SOL_SOCKET, SO_KEEPALIVE, buf, 1));
	obs("set, 8 bytes", setsockopt(o->fd, SOL_SOCKET, SO_KEEPALIVE, buf, 8));
	len = (socklen_t)-1;
	obs("negative room", getsockopt(o->fd, SOL_SOCKET, SO_TYPE, buf, &len));
}

static void who_is_there(struct obs *o)
{
	struct ucred c = { 0 };
	socklen_t len = sizeof(c);
	pid_t want = o->pid;

	obs("SO_PEERCRED", getsockopt(o->fd, SOL_SOCKET, SO_PEERCRED, &c, &len));
	note("len %u uid %d gid %d", len, (int)c.uid, (int)c.gid);
	note("pid is %s", c.pid == want ? "the peer" : c.pid == getpid() ? "mine" : c.pid == 0 ? "0" : "another");
	len = 4;
	obs("short", getsockopt(o->fd, SOL_SOCKET, SO_PEERCRED, &c, &len));
	note("len %u", len);
}

static void v6only(struct obs *o)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
	socklen_t len = sizeof(in6);

	(void)o;
	for (int only = 0; only < 2; only++) {
		int fd = socket(AF_INET6, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0), twin = socket(AF_INET, SOCK_STREAM, 0);

		obs("set", setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only)));
		in6.sin6_port = 0;
		obs("bind", bind(fd, (struct sockaddr *)&in6, sizeof(in6)));
		obs("set after bind", setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only)));
		obs("listen", listen(fd, 3));
		getsockname(fd, (struct sockaddr *)&in6, &len);
		in.sin_port = in6.sin6_port;
		obs("IPv4 caller", connect(c, (struct sockaddr *)&in, sizeof(in)));
		obs("IPv4 bind to the same port", bind(twin, (struct sockaddr *)&in, sizeof(in)));
		close(fd);
		close(c);
		close(twin);
	}
}

static void nodelay_before_and_after(struct obs *o)
{
	int one = 1, lfd, c, a;
	struct obs_name at;

	(void)o;
	lfd = listener(TCP4, 5, &at);
	c = sock_of(TCP4, 0);
	obs_getopt("fresh", c, IPPROTO_TCP, TCP_NODELAY);
	obs("set before", setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)));
	obs("connect", connect(c, (struct sockaddr *)&at.sa, at.len));
	obs_getopt("after", c, IPPROTO_TCP, TCP_NODELAY);
	a = accept(lfd, NULL, NULL);
	obs_getopt("accepted", a, IPPROTO_TCP, TCP_NODELAY);
	obs("set on accepted", setsockopt(a, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)));
	obs_getopt("accepted", a, IPPROTO_TCP, TCP_NODELAY);
	one = 0;
	obs("clear", setsockopt(a, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)));
	obs_getopt("accepted", a, IPPROTO_TCP, TCP_NODELAY);
	close(a);
	close(c);
	close(lfd);
}

static void tcp_info(struct obs *o)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	memset(&info, 0, sizeof(info));
	obs("TCP_INFO", getsockopt(o->fd, IPPROTO_TCP, TCP_INFO, &info, &len));
	note("state %d", info.tcpi_state);
	len = 4;
	obs("TCP_CONGESTION", getsockopt(o->fd, IPPROTO_TCP, TCP_CONGESTION, &info, &len));
}

static void rcvlowat(struct obs *o)
{
	int five = 5;

	obs("set", setsockopt(o->fd, SOL_SOCKET, SO_RCVLOWAT, &five, sizeof(five)));
	peer_text(o, op_puts, 0, "abc");
	obs_recv(o->fd, 2, MSG_PEEK | MSG_DONTWAIT);
	peer_start(o, op_puts, 0, 0);
	peer_done(o);
	peer_text(o, op_puts, 0, "defg");
	obs_poll_until(o->fd, POLLIN);
	obs_recv(o->fd, 10, 0);
}

int main(int argc, char **argv)
{
	static const struct obs_case cases[] = {
		{ "type, domain, protocol", what_it_is, EVERY_STREAM | EVERY_DGRAM | EVERY_SEQ, 0 },
		{ "values of a connected socket", defaults, STREAM | MAPPED | DGRAM | SEQ, 0 },
		{ "set when connected", set_when_connected, STREAM | MAPPED | DGRAM | SEQ, NO_RING },
		{ "set before", set_before, TCP4 | TCP6 | MAPPED | UNIXP | UNIXA | SEQP, COLD_ONLY },
		{ "SO_SNDBUF and SO_RCVBUF", buffer_sizes, STREAM, 0 },
		{ "small buffers", small_buffers_bound_what_is_in_flight, STREAM, 0 },
		{ "lengths of option values", lengths, STREAM | UDP4, COLD_ONLY },
		{ "SO_PEERCRED", who_is_there, STREAM | SEQP | DGPAIR | UDP4, 0 },
		{ "SO_RCVLOWAT", rcvlowat, TCP4, NO_RING },
		{ "TCP_INFO", tcp_info, STREAM, COLD_ONLY },
		{ "IPV6_V6ONLY", v6only, SOLO, 0 },
		{ "TCP_NODELAY before and after", nodelay_before_and_after, SOLO, 0 },
		{ 0 },
	};

	return obs_main(argc, argv, cases);
}
