/* SPDX-License-Identifier: MIT */
/* ring: yes */
/* connect: refused, in use, non-blocking, again, to itself; SO_REUSEADDR and SO_REUSEPORT. */
#include "obs.h"

#include <arpa/inet.h>

static const uint32_t stream_kinds[] = { TCP4, TCP6, MAPPED, UNIXP, UNIXA, SEQP };
#define KINDS (sizeof(stream_kinds) / sizeof(stream_kinds[0]))

/* A name that had a listener and has none any more. */
static void gone_name(uint32_t kind, struct obs_name *at)
{
	close(listener(kind, 5, at));
}

static void refused(struct obs *o)
{
	struct obs_name at;

	(void)o;
	for (size_t i = 0; i < KINDS; i++) {
		int fd = sock_of(stream_kinds[i], 0);

		obs_kind(stream_kinds[i]);
		gone_name(stream_kinds[i], &at);
		obs("connect", connect(fd, (struct sockaddr *)&at.sa, at.len));
		obs_getopt("SO_ERROR", fd, SOL_SOCKET, SO_ERROR);
		obs("connect again", connect(fd, (struct sockaddr *)&at.sa, at.len));
		obs_names("refused", fd);
		close(fd);
	}
}

static void second_try_works(struct obs *o)
{
	struct obs_name at;

	(void)o;
	for (size_t i = 0; i < KINDS; i++) {
		int fd = sock_of(stream_kinds[i], 0), lfd, a, one = 1;

		obs_kind(stream_kinds[i]);
		gone_name(stream_kinds[i], &at);
		obs("connect", connect(fd, (struct sockaddr *)&at.sa, at.len));
		unlink(((struct sockaddr_un *)&at.sa)->sun_path);
		lfd = sock_of(stream_kinds[i], 0);
		setsockopt(lfd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		obs("bind", bind(lfd, (struct sockaddr *)&at.sa, at.len));
		obs("listen", listen(lfd, 5));
		obs("connect", connect(fd, (struct sockaddr *)&at.sa, at.len));
		a = accept(lfd, NULL, NULL);
		obs_send(fd, "hello", 0);
		obs_recv(a, 10, 0);
		close(fd);
		close(a);
		close(lfd);
	}
}

static void bound_but_not_listening(struct obs *o)
{
	struct obs_name at;

	(void)o;
	for (size_t i = 0; i < KINDS; i++) {
		int held = sock_of(stream_kinds[i], 0), fd = sock_of(stream_kinds[i], 0);

		obs_kind(stream_kinds[i]);
		name_any(&at, stream_kinds[i]);
		bind(held, (struct sockaddr *)&at.sa, at.len);
		name_get(held, &at);
		obs("connect", connect(fd, (struct sockaddr *)&at.sa, at.len));
		close(held);
		close(fd);
	}
}

static void no_such_file(struct obs *o)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = sock_of(UNIXP, 0), file;

	(void)o;
	snprintf(un.sun_path, sizeof(un.sun_path), "%s/none", obs_dir());
	obs("no file", connect(fd, (struct sockaddr *)&un, sizeof(un)));
	file = open(un.sun_path, O_CREAT | O_WRONLY, 0600);
	close(file);
	obs("a plain file", connect(fd, (struct sockaddr *)&un, sizeof(un)));
	snprintf(un.sun_path, sizeof(un.sun_path), "%s/none/deeper", obs_dir());
	obs("below a file", connect(fd, (struct sockaddr *)&un, sizeof(un)));
	obs("bind below a file", bind(fd, (struct sockaddr *)&un, sizeof(un)));
	snprintf(un.sun_path, sizeof(un.sun_path), "%s/no/such", obs_dir());
	obs("no directory", connect(fd, (struct sockaddr *)&un, sizeof(un)));
	obs("bind in no directory", bind(fd, (struct sockaddr *)&un, sizeof(un)));
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", obs_dir());
	obs("a directory", connect(fd, (struct sockaddr *)&un, sizeof(un)));
	obs("bind to a directory", bind(fd, (struct sockaddr *)&un, sizeof(un)));
	un.sun_path[0] = 0;
	obs("an empty path", connect(fd, (struct sockaddr *)&un, 3));
	close(fd);
}

static void wrong_type(struct obs *o)
{
	struct obs_name at;
	int lfd = listener(UNIXP, 5, &at), seq = socket(AF_UNIX, SOCK_SEQPACKET, 0), dg = socket(AF_UNIX, SOCK_DGRAM, 0);

	(void)o;
	obs("seqpacket to a stream", connect(seq, (struct sockaddr *)&at.sa, at.len));
	obs("datagram to a stream", connect(dg, (struct sockaddr *)&at.sa, at.len));
	obs("sendto a stream", sendto(dg, "x", 1, 0, (struct sockaddr *)&at.sa, at.len));
	close(lfd);
	close(seq);
	close(dg);
}

static void nonblocking(struct obs *o)
{
	struct obs_name at;

	(void)o;
	for (size_t i = 0; i < KINDS; i++) {
		int lfd = listener(stream_kinds[i], 5, &at), fd = sock_of(stream_kinds[i], SOCK_NONBLOCK), a;

		obs_kind(stream_kinds[i]);
		obs("connect", connect(fd, (struct sockaddr *)&at.sa, at.len));
		obs_poll_until(fd, POLLOUT);
		obs_getopt("SO_ERROR", fd, SOL_SOCKET, SO_ERROR);
		obs("connect again", connect(fd, (struct sockaddr *)&at.sa, at.len));
		obs("and again", connect(fd, (struct sockaddr *)&at.sa, at.len));
		a = accept(lfd, NULL, NULL);
		obs_names("caller", fd);
		obs_send(fd, "hello", 0);
		obs_recv(a, 10, 0);
		obs_recv(fd, 10, 0);
		close(fd);
		close(a);
		close(lfd);
	}
}

static void nonblocking_send_before_asking(struct obs *o)
{
	struct obs_name at;

	(void)o;
	for (size_t i = 0; i < KINDS; i++) {
		int lfd = listener(stream_kinds[i], 5, &at), fd = sock_of(stream_kinds[i], SOCK_NONBLOCK), a;

		obs_kind(stream_kinds[i]);
		connect(fd, (struct sockaddr *)&at.sa, at.len);
		obs_poll(fd, POLLOUT | POLLIN);
		obs_send(fd, "early", 0);
		a = accept(lfd, NULL, NULL);
		obs_recv(a, 10, 0);
		close(fd);
		close(a);
		close(lfd);
	}
}

static void nonblocking_refused(struct obs *o)
{
	struct obs_name at;

	(void)o;
	for (size_t i = 0; i < KINDS; i++) {
		int fd = sock_of(stream_kinds[i], SOCK_NONBLOCK);

		obs_kind(stream_kinds[i]);
		gone_name(stream_kinds[i], &at);
		obs("connect", connect(fd, (struct sockaddr *)&at.sa, at.len));
		obs_poll_until(fd, POLLOUT | POLLIN | POLLRDHUP);
		obs_getopt("SO_ERROR", fd, SOL_SOCKET, SO_ERROR);
		obs_getopt("SO_ERROR", fd, SOL_SOCKET, SO_ERROR);
		close(fd);
	}
}

static void already_in_use(struct obs *o)
{
	struct obs_name at;

	(void)o;
	for (size_t i = 0; i < KINDS; i++) {
		int lfd = listener(stream_kinds[i], 5, &at), fd = sock_of(stream_kinds[i], 0);

		obs_kind(stream_kinds[i]);
		obs("bind", bind(fd, (struct sockaddr *)&at.sa, at.len));
		if (domain_of(stream_kinds[i]) != AF_UNIX)
			obs("listen", listen(fd, 5));
		close(lfd);
		close(fd);
		fd = sock_of(stream_kinds[i], 0);
		obs("bind after close", bind(fd, (struct sockaddr *)&at.sa, at.len));
		close(fd);
	}
}

static void reuse(struct obs *o)
{
	static const char *const names[] = { "neither", "SO_REUSEADDR", "SO_REUSEPORT" };
	static const int opts[] = { 0, SO_REUSEADDR, SO_REUSEPORT };
	static const uint32_t kinds[] = { TCP4, TCP6, UDP4 };
	struct obs_name at;
	int one = 1;

	(void)o;
	for (size_t k = 0; k < 3; k++) {
		for (int i = 0; i < 3; i++) {
			int a = sock_of(kinds[k], 0), b = sock_of(kinds[k], 0);

			obs_kind(kinds[k]);
			note("%s", names[i]);
			if (opts[i]) {
				setsockopt(a, SOL_SOCKET, opts[i], &one, sizeof(one));
				setsockopt(b, SOL_SOCKET, opts[i], &one, sizeof(one));
			}
			name_any(&at, kinds[k]);
			obs("bind", bind(a, (struct sockaddr *)&at.sa, at.len));
			name_get(a, &at);
			obs("second bind", bind(b, (struct sockaddr *)&at.sa, at.len));
			if (type_of(kinds[k]) == SOCK_STREAM) {
				obs("listen", listen(a, 5));
				obs("second listen", listen(b, 5));
			}
			close(a);
			close(b);
		}
	}
}

/* Several listeners on one port: each caller reaches one of them, and its data comes back from there. */
static void reuseport_spreads(struct obs *o)
{
	struct obs_name at;
	int l[3], one = 1, served = 0;

	(void)o;
	promise_ring();
	name_any(&at, TCP4);
	for (int i = 0; i < 3; i++) {
		l[i] = sock_of(TCP4, SOCK_NONBLOCK);
		setsockopt(l[i], SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
		obs("bind", bind(l[i], (struct sockaddr *)&at.sa, at.len));
		name_get(l[i], &at);
		obs("listen", listen(l[i], 20));
	}
	for (int n = 0; n < 24; n++) {
		int c = sock_of(TCP4, 0), a = -1;
		struct pollfd p[3] = { { l[0], POLLIN, 0 }, { l[1], POLLIN, 0 }, { l[2], POLLIN, 0 } };
		char buf[4];

		if (connect(c, (struct sockaddr *)&at.sa, at.len) || poll(p, 3, 3000) != 1)
			note("caller %d is lost", n);
		for (int i = 0; i < 3; i++)
			if (p[i].revents & POLLIN)
				a = accept(l[i], NULL, NULL);
		served += send(c, "ask", 3, 0) == 3 && recv(a, buf, 4, 0) == 3 && send(a, "ok", 2, 0) == 2 && recv(c, buf, 4, 0) == 2;
		if (n % 6 == 0)
			warm_pair(c, a);
		close(c);
		close(a);
	}
	note("served: %d", served);
	close(l[1]);
	for (int n = 0; n < 10; n++) {
		int c = sock_of(TCP4, 0);

		if (connect(c, (struct sockaddr *)&at.sa, at.len))
			obs("after one has closed", -1);
		close(c);
	}
}

static void to_itself(struct obs *o)
{
	struct obs_name at;
	int fd = sock_of(TCP4, 0);

	(void)o;
	name_any(&at, TCP4);
	obs("bind", bind(fd, (struct sockaddr *)&at.sa, at.len));
	name_get(fd, &at);
	obs("connect to itself", connect(fd, (struct sockaddr *)&at.sa, at.len));
	obs_names("self", fd);
	obs_send(fd, "echo", 0);
	obs_recv(fd, 10, 0);
	obs("shutdown", shutdown(fd, SHUT_WR));
	obs_recv(fd, 10, 0);
	close(fd);
	fd = sock_of(UDP4, 0);
	name_any(&at, UDP4);
	bind(fd, (struct sockaddr *)&at.sa, at.len);
	name_get(fd, &at);
	obs("datagram socket to itself", connect(fd, (struct sockaddr *)&at.sa, at.len));
	obs_send(fd, "echo", 0);
	obs_recv(fd, 10, 0);
	close(fd);
}

static void strange_addresses(struct obs *o)
{
	static const char *const to[] = { "255.255.255.255", "224.0.0.1", "0.0.0.0" };
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(1) };

	(void)o;
	for (size_t i = 0; i < 3; i++) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);

		inet_pton(AF_INET, to[i], &in.sin_addr);
		obs(to[i], connect(fd, (struct sockaddr *)&in, sizeof(in)));
		close(fd);
	}
	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	in.sin_port = 0;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	obs("port 0", connect(fd, (struct sockaddr *)&in, sizeof(in)));
	inet_pton(AF_INET, "192.0.2.77", &in.sin_addr);
	obs("bind to a foreign address", bind(fd, (struct sockaddr *)&in, sizeof(in)));
	close(fd);
}

/* connect with AF_UNSPEC takes a TCP socket apart; it can be used for another connection. */
static void dissolve(struct obs *o)
{
	struct sockaddr sa = { .sa_family = AF_UNSPEC };
	struct obs_name at;
	int lfd, a;
	char c;

	obs("connect AF_UNSPEC", connect(o->fd, &sa, sizeof(sa)));
	obs("getpeername", getpeername(o->fd, &sa, &(socklen_t){ sizeof(sa) }));
	obs("peer sees", peer(o, op_recv, 10, 0));
	lfd = listener(TCP4, 5, &at);
	obs("connect anew", connect(o->fd, (struct sockaddr *)&at.sa, at.len));
	a = accept(lfd, NULL, NULL);
	obs_send(o->fd, "anew", 0);
	obs("recv", a >= 0 ? recv(a, &c, 1, 0) : -1);
	close(a);
	close(lfd);
}

static void options_hold_after_connect(struct obs *o)
{
	struct obs_name at;

	(void)o;
	for (size_t i = 0; i < KINDS; i++) {
		int lfd = listener(stream_kinds[i], 5, &at), fd = sock_of(stream_kinds[i], SOCK_CLOEXEC), a, one = 1;
		struct timeval tv = { .tv_usec = 50000 };

		obs_kind(stream_kinds[i]);
		setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
		obs("O_NONBLOCK", fcntl(fd, F_SETFL, O_NONBLOCK | O_ASYNC));
		connect(fd, (struct sockaddr *)&at.sa, at.len);
		note("flags kept: %d", (fcntl(fd, F_GETFL) & (O_NONBLOCK | O_ACCMODE)) == (O_NONBLOCK | O_RDWR));
		obs("FD_CLOEXEC", fcntl(fd, F_GETFD));
		obs("clear", fcntl(fd, F_SETFL, 0));
		obs_poll_until(fd, POLLOUT);
		obs_getopt("SO_KEEPALIVE", fd, SOL_SOCKET, SO_KEEPALIVE);
		obs_recv(fd, 10, 0);
		a = accept(lfd, NULL, NULL);
		obs("FD_CLOEXEC of accepted", fcntl(a, F_GETFD));
		close(fd);
		close(a);
		close(lfd);
	}
}

static int caller_from(uint32_t kind, const struct obs_name *from, const struct obs_name *to)
{
	int fd = sock_of(kind, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	obs("bind", bind(fd, (struct sockaddr *)&from->sa, from->len));
	obs("connect", connect(fd, (struct sockaddr *)&to->sa, to->len));
	return fd;
}

/* An end that does not know yet that its peer has gone, and a new connection of the same two addresses. */
static void same_addresses_again(struct obs *o)
{
	static const uint32_t kinds[] = { TCP4, TCP6 };
	struct obs_name at, from;

	(void)o;
	for (size_t i = 0; i < 2; i++) {
		int lfd = listener(kinds[i], 5, &at), c, old, new;

		obs_kind(kinds[i]);
		name_any(&from, kinds[i]);
		c = caller_from(kinds[i], &from, &at);
		name_get(c, &from);
		old = accept(lfd, NULL, NULL);
		for (int n = 0; n < 3; n++)
			obs_send(old, "unread", 0);
		close(c); /* a reset */
		c = caller_from(kinds[i], &from, &at);
		new = accept(lfd, NULL, NULL);
		obs_send(c, "for the new one", 0);
		obs_recv(new, 20, 0);
		obs_send(old, "to nobody", MSG_NOSIGNAL);
		obs_send(old, "to nobody", MSG_NOSIGNAL);
		obs_recv(c, 20, MSG_DONTWAIT);
		obs_recv(old, 20, MSG_DONTWAIT);
		for (int n = 0; n < 3; n++) {
			obs_send(new, "from the new one", 0);
			obs_recv(c, 20, 0);
			obs_send(c, "for the new one", 0);
			obs_recv(new, 20, 0);
		}
		close(c);
		close(old);
		close(new);
		close(lfd);
	}
}

/* Data with the connection: whatever the network makes of it, the server reads it first. */
static void fast_open(struct obs *o)
{
	static const uint32_t inet[] = { TCP4, TCP6 };
	struct obs_name at, gone;
	int one = 1;

	(void)o;
	for (size_t k = 0; k < 4; k++) {
		uint32_t kind = inet[k & 1];
		int lfd = listener(kind, 5, &at), fd = sock_of(kind, k < 2 ? 0 : SOCK_NONBLOCK), a;
		const struct sockaddr *to = (const struct sockaddr *)&at.sa;

		obs_kind(kind);
		obs("MSG_FASTOPEN", sendto(fd, "fast", 4, MSG_FASTOPEN | MSG_NOSIGNAL, to, at.len));
		a = accept(lfd, NULL, NULL);
		obs_poll_until(fd, POLLOUT);
		nonblock(fd, false);
		obs_send(fd, "next", 0);
		obs_recv(a, k < 2 ? 4 : 10, MSG_WAITALL * (k < 2));
		obs("again", sendto(fd, "fast", 4, MSG_FASTOPEN | MSG_NOSIGNAL, to, at.len));
		if (k < 2) {
			obs_recv(a, 10, 0);
			warm_pair(a, fd);
		}
		close(fd);
		obs_recv(a, 10, 0);
		close(a);
		fd = sock_of(kind, 0);
		obs("TCP_FASTOPEN_CONNECT", setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &one, sizeof(one)));
		obs("connect", connect(fd, to, at.len));
		obs_send(fd, "late", 0);
		a = accept(lfd, NULL, NULL);
		obs_recv(a, 10, 0);
		close(a);
		close(fd);
		close(lfd);
		gone_name(kind, &gone);
		fd = sock_of(kind, 0);
		obs("nobody there", sendto(fd, "fast", 4, MSG_FASTOPEN | MSG_NOSIGNAL, (const struct sockaddr *)&gone.sa, gone.len));
		close(fd);
	}
}

int main(int argc, char **argv)
{
	static const struct obs_case cases[] = {
		{ "nobody listens", refused, SOLO, 0 },
		{ "a second try", second_try_works, SOLO, 0 },
		{ "bound, not listening", bound_but_not_listening, SOLO, 0 },
		{ "files that are not sockets", no_such_file, SOLO, 0 },
		{ "the wrong type", wrong_type, SOLO, 0 },
		{ "non-blocking", nonblocking, SOLO, 0 },
		{ "non-blocking, send at once", nonblocking_send_before_asking, SOLO, 0 },
		{ "non-blocking, refused", nonblocking_refused, SOLO, 0 },
		{ "addresses in use", already_in_use, SOLO, 0 },
		{ "SO_REUSEADDR and SO_REUSEPORT", reuse, SOLO, 0 },
		{ "SO_REUSEPORT spreads callers", reuseport_spreads, SOLO, 0 },
		{ "a socket connected to itself", to_itself, SOLO, 0 },
		{ "the same two addresses again", same_addresses_again, SOLO, 0 },
		{ "strange addresses", strange_addresses, SOLO, 0 },
		{ "connect with AF_UNSPEC", dissolve, TCP4, NO_RING },
		{ "fast open", fast_open, SOLO, 0 },
		{ "what was set before connect holds", options_hold_after_connect, SOLO, 0 },
		{ 0 },
	};

	return obs_main(argc, argv, cases);
}
