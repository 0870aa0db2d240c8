/* SPDX-License-Identifier: MIT */
/* ring: yes */
/* Misuse: wrong combinations, families, lengths, descriptors and states, each with the kernel's errno. */
#include "obs.h"

#include <arpa/inet.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/select.h>

#ifdef __SANITIZE_ADDRESS__
#define BAD_STRUCTURES 0u /* its own getsockname() looks at the length */
#else
#define BAD_STRUCTURES (STREAM | SEQ | DGRAM)
#endif

static void combinations(struct obs *o)
{
	static const int domains[] = { AF_UNIX, AF_INET, AF_INET6, AF_UNSPEC, 999, -1 };
	static const int types[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET, 0, 99, -1 };
	static const int protocols[] = { 0, IPPROTO_TCP, IPPROTO_UDP, PF_UNIX, 999, -1 };
	char what[60];

	(void)o;
	for (size_t d = 0; d < 6; d++) {
		for (size_t t = 0; t < 6; t++) {
			for (size_t p = 0; p < 6; p++) {
				int fd = socket(domains[d], types[t], protocols[p]);
				int err = errno;

				snprintf(what, sizeof(what), "socket %d %d %d", domains[d], types[t], protocols[p]);
				if (fd >= 0)
					note("%s: works", what);
				else
					errno = err, obs(what, fd);
				close(fd);
			}
		}
	}
	obs("unknown flags", socket(AF_INET, SOCK_STREAM | 0x100, 0));
}

static void pairs(struct obs *o)
{
	static const int domains[] = { AF_UNIX, AF_INET, AF_INET6, 999 };
	static const int types[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_RAW };
	int sv[2] = { -5, -5 };
	char what[60];

	(void)o;
	for (size_t d = 0; d < 4; d++) {
		for (size_t t = 0; t < 4; t++) {
			snprintf(what, sizeof(what), "socketpair %d %d", domains[d], types[t]);
			obs(what, socketpair(domains[d], types[t], 0, sv));
			if (sv[0] >= 0)
				close(sv[0]), close(sv[1]);
			sv[0] = sv[1] = -5;
		}
	}
	obs("with a protocol", socketpair(AF_UNIX, SOCK_STREAM, IPPROTO_TCP, sv));
	note("untouched: %d", sv[0] == -5);
}

/* bind and connect with every length of address that makes a difference. */
static void address_lengths(struct obs *o)
{
	static const uint32_t kinds[] = { TCP4, TCP6, UNIXP, UDP4, UDP6, DGP };
	static const socklen_t lens[] = { 0, 1, 2, 3, 8, 15, 16, 24, 28, 110, 111, 128, 129, 4096, (socklen_t)-1 };
	char what[60], big[5000];

	(void)o;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		for (size_t l = 0; l < sizeof(lens) / sizeof(lens[0]); l++) {
			struct obs_name at;
			int fd = sock_of(kinds[i], 0);

			if (kinds[i] & (UNIXP | DGP) && lens[l] <= 110 && lens[l] > 2) {
				close(fd);
				continue; /* a cut path makes a file elsewhere */
			}
			name_any(&at, kinds[i]);
			memset(big, 0, sizeof(big));
			memcpy(big, &at.sa, sizeof(at.sa));
			snprintf(what, sizeof(what), "kind %x bind with %d", kinds[i], (int)lens[l]);
			obs(what, bind(fd, (struct sockaddr *)big, lens[l]));
			close(fd);
			if (type_of(kinds[i]) == SOCK_DGRAM && lens[l] >= 16)
				continue;
			fd = sock_of(kinds[i], SOCK_NONBLOCK);
			((struct sockaddr_in *)big)->sin_port = domain_of(kinds[i]) == AF_UNIX ? ((struct sockaddr_in *)big)->sin_port : htons(1);
			snprintf(what, sizeof(what), "kind %x connect with %d", kinds[i], (int)lens[l]);
			if (domain_of(kinds[i]) == AF_UNIX || lens[l] < 16)
				obs(what, connect(fd, (struct sockaddr *)big, lens[l]));
			close(fd);
		}
	}
}

static void wrong_families(struct obs *o)
{
	static const uint32_t kinds[] = { TCP4, TCP6, UNIXP, UDP4, UDP6, DGP };
	static const int families[] = { AF_UNSPEC, AF_UNIX, AF_INET, AF_INET6, 999 };
	char what[60];

	(void)o;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		for (size_t f = 0; f < 5; f++) {
			struct obs_name at;
			int fd;

			name_any(&at, kinds[i]);
			if (families[f] == domain_of(kinds[i]))
				continue;
			if (families[f] == AF_INET && domain_of(kinds[i]) == AF_INET6)
				name_any(&at, TCP4);
			at.sa.ss_family = (sa_family_t)families[f];
			fd = sock_of(kinds[i], 0);
			snprintf(what, sizeof(what), "kind %x bind family %d", kinds[i], families[f]);
			obs(what, bind(fd, (struct sockaddr *)&at.sa, sizeof(struct sockaddr_in6)));
			close(fd);
			fd = sock_of(kinds[i], 0);
			if (families[f] == AF_INET)
				((struct sockaddr_in *)&at.sa)->sin_port = htons(1);
			snprintf(what, sizeof(what), "kind %x connect family %d", kinds[i], families[f]);
			obs(what, connect(fd, (struct sockaddr *)&at.sa, sizeof(struct sockaddr_in6)));
			close(fd);
		}
	}
}

static void not_a_socket(struct obs *o)
{
	int fds[2], which[] = { -1, 9999, 0 };
	char c[8] = "x";
	struct sockaddr_storage sa = { .ss_family = AF_INET };
	struct iovec v = { c, 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
	struct mmsghdr mm = { .msg_hdr = m };
	socklen_t len = sizeof(sa);

	(void)o;
	if (pipe(fds))
		die("pipe");
	which[2] = fds[0];
	for (int i = 0; i < 3; i++) {
		int fd = which[i];

		note("%s", i == 0 ? "-1" : i == 1 ? "closed" : "pipe");
		obs("bind", bind(fd, (struct sockaddr *)&sa, sizeof(struct sockaddr_in)));
		obs("connect", connect(fd, (struct sockaddr *)&sa, sizeof(struct sockaddr_in)));
		obs("listen", listen(fd, 5));
		obs("accept", accept(fd, NULL, NULL));
		obs("accept4", accept4(fd, NULL, NULL, SOCK_NONBLOCK));
		obs("send", send(fd, c, 1, 0));
		obs("recv", recv(fd, c, 1, 0));
		obs("sendto", sendto(fd, c, 1, 0, (struct sockaddr *)&sa, sizeof(struct sockaddr_in)));
		obs("recvfrom", recvfrom(fd, c, 1, 0, (struct sockaddr *)&sa, &len));
		obs("sendmsg", sendmsg(fd, &m, 0));
		obs("recvmsg", recvmsg(fd, &m, 0));
		obs("sendmmsg", sendmmsg(fd, &mm, 1, 0));
		obs("recvmmsg", recvmmsg(fd, &mm, 1, 0, NULL));
		obs("shutdown", shutdown(fd, SHUT_RDWR));
		obs("getsockname", getsockname(fd, (struct sockaddr *)&sa, &len));
		obs("getpeername", getpeername(fd, (struct sockaddr *)&sa, &len));
		len = sizeof(c);
		obs("getsockopt", getsockopt(fd, SOL_SOCKET, SO_TYPE, c, &len));
		obs("setsockopt", setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, c, 4));
		if (i < 2) {
			obs("read", read(fd, c, 1));
			obs("write", write(fd, c, 1));
			obs("readv", readv(fd, &v, 1));
			obs("writev", writev(fd, &v, 1));
			obs("close", close(fd));
			obs("dup", dup(fd));
			obs("dup2", dup2(fd, 50));
			obs("dup3", dup3(fd, 50, 0));
			obs("fcntl", fcntl(fd, F_GETFL));
			obs("ioctl", ioctl(fd, FIONREAD, c));
		}
	}
	obs("dup2 to -1", dup2(fds[0], -1));
	obs("dup3 on itself", dup3(fds[0], fds[0], 0));
	obs("dup3 with unknown flags", dup3(fds[0], 50, 1));
}

static void unconnected(struct obs *o)
{
	static const uint32_t kinds[] = { TCP4, TCP6, UNIXP, SEQP, UDP4, UDP6, DGP };
	char c = 'x';

	(void)o;
	signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		int fd = sock_of(kinds[i], SOCK_NONBLOCK);
		struct iovec v = { &c, 1 };

		obs_kind(kinds[i]);
		obs("send", send(fd, &c, 1, 0));
		obs("send 0", send(fd, &c, 0, 0));
		obs("recv", recv(fd, &c, 1, 0));
		obs("recv 0", recv(fd, &c, 0, 0));
		obs("write", write(fd, &c, 1));
		obs("read", read(fd, &c, 1));
		obs("writev", writev(fd, &v, 1));
		obs("readv", readv(fd, &v, 1));
		obs("accept", accept(fd, NULL, NULL));
		obs_poll(fd, POLLIN | POLLOUT | POLLRDHUP);
		obs_getopt("SO_ERROR", fd, SOL_SOCKET, SO_ERROR);
		obs("listen", listen(fd, 5));
		obs_poll(fd, POLLIN | POLLOUT | POLLRDHUP);
		obs("accept", accept(fd, NULL, NULL));
		obs("send", send(fd, &c, 1, 0));
		obs("recv", recv(fd, &c, 1, 0));
		close(fd);
	}
}

static void already_connected(struct obs *o)
{
	struct obs_name at;

	name_any(&at, o->kind);
	if (domain_of(o->kind) == AF_INET || domain_of(o->kind) == AF_INET6)
		((struct sockaddr_in *)&at.sa)->sin_port = htons(1);
	obs("connect again", connect(o->fd, (struct sockaddr *)&at.sa, at.len));
	if (o->domain != AF_UNIX)
		obs("bind", bind(o->fd, (struct sockaddr *)&at.sa, at.len));
	obs("listen", listen(o->fd, 5));
	obs("accept", accept(o->fd, NULL, NULL));
	obs("sendto elsewhere", sendto(o->fd, "y", 1, MSG_NOSIGNAL, (struct sockaddr *)&at.sa, at.len));
	obs_send(o->fd, "alive", 0);
	obs("peer recv", peer(o, op_recv, 100, 0));
	note("peer has %s", o->say);
}

static void bad_counts(struct obs *o)
{
	struct iovec v[2] = { { (void *)"ab", 2 }, { (void *)"cd", 2 } }, *many = calloc(1100, sizeof(*many));
	struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };
	volatile int negative = -1; /* the compiler must not know */
	char buf[1100];

	obs("writev 0", writev(o->fd, v, 0));
	obs("writev -1", writev(o->fd, v, negative));
	for (int i = 0; i < 1100; i++)
		many[i] = (struct iovec){ buf + i, 1 };
	memset(buf, 'm', sizeof(buf));
	obs("writev 1025", writev(o->fd, many, 1025));
	obs("writev 1024", writev(o->fd, many, 1024));
	obs("peer recv", peer(o, op_recv, 1024, MSG_WAITALL));
	note("peer has %s", o->say);
	v[0].iov_len = (size_t)-1;
	obs("writev of a negative length", writev(o->fd, v, 2));
	obs("readv of a negative length", readv(o->fd, v, 2));
	v[0].iov_len = 2;
	m.msg_iovlen = 1025;
	m.msg_iov = many;
	obs("sendmsg 1025", sendmsg(o->fd, &m, 0));
	m = (struct msghdr){ .msg_iov = v, .msg_iovlen = 0 };
	obs("sendmsg with no vector", sendmsg(o->fd, &m, 0));
	obs("peer sees nothing", peer(o, op_recv, 100, MSG_DONTWAIT));
	obs_send(o->fd, "alive", 0);
	obs("peer recv", peer(o, op_recv, 100, 0));
	free(many);
}

/* Addresses that nobody may read or write. */
static void bad_pointers(struct obs *o)
{
	volatile uintptr_t sixteen = 16; /* the compiler must not know */
	void *nowhere = (void *)sixteen;
	struct iovec v[2] = { { (void *)"good", 4 }, { nowhere, 4 } };
	struct msghdr m = { .msg_iov = v + 1, .msg_iovlen = 1 };
	long rc;

	obs("send", send(o->fd, nowhere, 4, 0));
	obs("write", write(o->fd, nowhere, 4));
	obs("sendmsg", sendmsg(o->fd, &m, 0));
	rc = writev(o->fd, v + 1, 1);
	obs("writev", rc);
	obs("peer sees nothing", peer(o, op_recv, 100, MSG_DONTWAIT));
	peer_text(o, op_puts, 0, "data");
	settle(o->fd);
	obs("recv", recv(o->fd, nowhere, 4, 0));
	obs_recv(o->fd, 4, MSG_DONTWAIT);
	obs_send(o->fd, "alive", 0);
	obs("peer recv", peer(o, op_recv, 100, 0));
}

static void listen_twice(struct obs *o)
{
	static const uint32_t kinds[] = { TCP4, TCP6, UNIXP, SEQP };
	struct obs_name at;

	(void)o;
	for (size_t i = 0; i < 4; i++) {
		int fd = listener(kinds[i], 1, &at), c = sock_of(kinds[i], 0), a;

		obs_kind(kinds[i]);
		obs("listen again", listen(fd, 10));
		obs("listen -1", listen(fd, -1));
		obs("listen 0", listen(fd, 0));
		obs("connect", connect(c, (struct sockaddr *)&at.sa, at.len));
		a = accept4(fd, NULL, NULL, 0x100000);
		obs("accept4 with unknown flags", a);
		a = accept(fd, NULL, NULL);
		note("accepted: %d", a >= 0);
		obs("connect of a listener", connect(fd, (struct sockaddr *)&at.sa, at.len));
		close(fd);
		close(a);
		close(c);
	}
}

static void unbound_listeners(struct obs *o)
{
	struct obs_name at = { .len = sizeof(at.sa) };
	int fd = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0);

	(void)o;
	obs("listen unbound", listen(fd, 5));
	obs_names("it got a name", fd);
	name_get(fd, &at);
	((struct sockaddr_in *)&at.sa)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	obs("connect", connect(c, (struct sockaddr *)&at.sa, at.len));
	close(fd);
	close(c);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	obs("listen unbound, local", listen(fd, 5));
	close(fd);
}

/* The same for what calls are told besides buffers. */
static void structures_in_the_first_page(struct obs *o)
{
	volatile uintptr_t sixteen = 16;
	void *nowhere = (void *)sixteen;
	struct epoll_event ev = { .events = EPOLLIN };
	char buf[16];
	struct iovec iov = { buf, 4 };
	struct msghdr named = { .msg_name = nowhere, .msg_namelen = 16, .msg_iov = &iov, .msg_iovlen = 1 };
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	int set = epoll_create1(0);

	obs("FIONREAD", ioctl(o->fd, FIONREAD, nowhere));
	obs("FIONBIO", ioctl(o->fd, FIONBIO, nowhere));
	obs("setsockopt", setsockopt(o->fd, SOL_SOCKET, SO_KEEPALIVE, nowhere, sizeof(int)));
	obs("getsockname", getsockname(o->fd, nowhere, &len));
	obs("its length", getsockname(o->fd, (struct sockaddr *)&sa, nowhere));
	obs("sendmsg's name", sendmsg(o->fd, &named, 0));
	obs("recvmmsg", recvmmsg(o->fd, nowhere, 1, MSG_DONTWAIT, NULL));
	obs("poll", poll(nowhere, 1, 0));
	obs("select", select(o->fd + 1, nowhere, NULL, NULL, &(struct timeval){ 0, 0 }));
	obs("epoll_ctl", epoll_ctl(set, EPOLL_CTL_ADD, o->fd, nowhere));
	epoll_ctl(set, EPOLL_CTL_ADD, o->fd, &ev);
	obs("epoll_wait, nothing", epoll_wait(set, nowhere, 1, 0));
	obs("epoll_wait, for too many", epoll_wait(set, nowhere, 0x7fffffff, -1));
	obs("setsockopt of a length below 0", setsockopt(o->fd, SOL_SOCKET, SO_KEEPALIVE, NULL, (socklen_t)-1));
	obs("setsockopt of one byte", setsockopt(o->fd, SOL_SOCKET, SO_KEEPALIVE, NULL, 1));
	peer_text(o, op_puts, 0, "news");
	settle(o->fd);
	obs("epoll_wait", epoll_wait(set, nowhere, 1, 0));
	obs("EPOLL_CTL_DEL", epoll_ctl(set, EPOLL_CTL_DEL, o->fd, nowhere));
	obs_recv(o->fd, 10, 0);
	close(set);
}

/* An address that is there and empty: for some calls none, for others a wrong one. */
static void names_of_no_length(struct obs *o)
{
	struct sockaddr_storage ss = { .ss_family = AF_UNIX };
	struct iovec iov = { (char *)"mess", 4 };
	struct mmsghdr mm = { .msg_hdr = { .msg_name = &ss, .msg_namelen = 0, .msg_iov = &iov, .msg_iovlen = 1 } };

	for (int i = 0; i < 3; i++) {
		obs("sendto", sendto(o->fd, "to", 2, MSG_NOSIGNAL, (struct sockaddr *)&ss, 0));
		obs("sendmsg", sendmsg(o->fd, &mm.msg_hdr, MSG_NOSIGNAL));
		obs("sendmmsg", sendmmsg(o->fd, &mm, 1, MSG_NOSIGNAL));
		obs_send(o->fd, "last", 0);
	}
	if (o->type == SOCK_STREAM)
		obs("peer reads", peer(o, op_recv, 100, 0));
	for (int i = 0; o->type != SOCK_STREAM && i < (o->kind & DGRAM && domain_of(o->kind) != AF_UNIX ? 9 : 12); i++)
		obs("peer reads", peer(o, op_recv, 10, 0));
}

int main(int argc, char **argv)
{
	static const struct obs_case cases[] = {
		{ "domains, types, protocols", combinations, SOLO, 0 },
		{ "socketpair", pairs, SOLO, 0 },
		{ "lengths of addresses", address_lengths, SOLO, 0 },
		{ "wrong families", wrong_families, SOLO, 0 },
		{ "not a socket", not_a_socket, SOLO, 0 },
		{ "not connected", unconnected, SOLO, 0 },
		{ "names of no length", names_of_no_length, STREAM | SEQ | DGRAM, 0 },
		{ "structures in the first page", structures_in_the_first_page, BAD_STRUCTURES, 0 },
		{ "already connected", already_connected, STREAM, 0 },
		{ "bad counts", bad_counts, STREAM, 0 },
		{ "bad pointers", bad_pointers, STREAM | DGRAM, 0 },
		{ "listen twice", listen_twice, SOLO, 0 },
		{ "listen unbound", unbound_listeners, SOLO, 0 },
		{ 0 },
	};

	return obs_main(argc, argv, cases);
}
