/* SPDX-License-Identifier: MIT */
/*
 * Random programs of socket calls: what a seed says is done, and what comes of it is printed. The same seed prints the same on the
 * plain kernel and in every lane; tests/random/run compares.
 *
 *     calls FIRST COUNT [CALLS]        seeds FIRST ... FIRST+COUNT-1, of each the first CALLS calls
 *
 * A seed chooses the kinds of its connections, whether they are hot before it begins, and whether both ends are in one process or
 * in two that take turns. Each call is computed from the seed and its number alone, so both processes know whose turn it is; what
 * depends on results is in shared memory. No call waits, and no more is under way than every buffer holds. Nothing that varies from
 * run to run is printed.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAIRS 3
#define ENDS (2 * PAIRS) /* end e talks to end e ^ 1 */
#define CALLS 80
#define WARM 60
#define BYTES_MAX 40000 /* under way in one direction, or in a vector */
#define MESSAGES_MAX 40
#define SEED_DEADLINE_S 10

enum kind { TCP4, TCP6, LOCAL_STREAM, LOCAL_NAMED, LOCAL_SEQPACKET, UDP4, LOCAL_DATAGRAM, KINDS };
static const char *const kind_names[KINDS] = {"tcp4", "tcp6", "pair", "unix", "seqpacket", "udp4", "dgrampair"};

struct end {
	int fd; /* the same number in both processes */
	enum kind kind;
	bool closed;
	bool ended; /* it has shut its writing half */
	long bytes, messages; /* sent by it and not read yet, as far as its peer told */
	uint64_t pos;         /* sent in all: chooses the bytes */
};

static struct shared {
	struct end end[ENDS];
	bool two; /* processes */
	bool hot;
	uint32_t calls;
} *all;

static int side = -1; /* of this process: its ends are those with (e & 1) == side; -1: all */
static int turn_in = -1, turn_out = -1;
static int epset = -1;
static volatile sig_atomic_t signals;
static unsigned char buffer[BYTES_MAX];

/* splitmix64 */
static uint64_t chance(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static uint32_t below(uint64_t *state, uint32_t limit)
{
	return (uint32_t)(chance(state) % limit);
}

static void must(bool holds, const char *what)
{
	if (holds)
		return;
	perror(what);
	exit(1);
}

/* ---- connections ---- */

static bool is_datagram(enum kind kind)
{
	return kind == UDP4 || kind == LOCAL_DATAGRAM;
}

static bool is_record(enum kind kind)
{
	return is_datagram(kind) || kind == LOCAL_SEQPACKET;
}

static bool is_tcp(enum kind kind)
{
	return kind == TCP4 || kind == TCP6;
}

static bool is_local(enum kind kind)
{
	return !is_tcp(kind) && kind != UDP4;
}

static socklen_t address(enum kind kind, struct sockaddr_storage *ss)
{
	memset(ss, 0, sizeof *ss);
	if (kind == TCP6) {
		struct sockaddr_in6 *a = (void *)ss;

		a->sin6_family = AF_INET6;
		a->sin6_addr = in6addr_loopback;
		return sizeof *a;
	}
	if (kind == LOCAL_NAMED) {
		ss->ss_family = AF_UNIX;
		return sizeof(sa_family_t); /* autobind */
	}
	((struct sockaddr_in *)ss)->sin_family = AF_INET;
	((struct sockaddr_in *)ss)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return sizeof(struct sockaddr_in);
}

static int bound(enum kind kind, int type, struct sockaddr_storage *ss, socklen_t *len)
{
	socklen_t given = address(kind, ss);
	int fd = socket(ss->ss_family, type, 0);

	must(fd >= 0 && bind(fd, (void *)ss, given) == 0, "bind");
	*len = sizeof *ss;
	must(getsockname(fd, (void *)ss, len) == 0, "getsockname");
	return fd;
}

static void open_stream(enum kind kind, int fd[2])
{
	struct sockaddr_storage ss;
	socklen_t len;
	int listener = bound(kind, SOCK_STREAM, &ss, &len);

	must(listen(listener, 4) == 0, "listen");
	fd[0] = socket(ss.ss_family, SOCK_STREAM, 0);
	must(connect(fd[0], (void *)&ss, len) == 0, "connect");
	fd[1] = accept(listener, NULL, NULL);
	must(fd[1] >= 0, "accept");
	close(listener);
}

static void open_udp(int fd[2])
{
	struct sockaddr_storage ss[2];
	socklen_t len[2];

	for (int i = 0; i < 2; i++)
		fd[i] = bound(UDP4, SOCK_DGRAM, &ss[i], &len[i]);
	for (int i = 0; i < 2; i++)
		must(connect(fd[i], (void *)&ss[!i], len[!i]) == 0, "connect");
}

static void open_pair(enum kind kind, int fd[2])
{
	int one = 1;

	if (kind == LOCAL_STREAM || kind == LOCAL_SEQPACKET || kind == LOCAL_DATAGRAM)
		must(socketpair(AF_UNIX, kind == LOCAL_STREAM ? SOCK_STREAM : kind == LOCAL_SEQPACKET ? SOCK_SEQPACKET : SOCK_DGRAM, 0, fd) == 0,
		     "socketpair");
	else if (kind == UDP4)
		open_udp(fd);
	else
		open_stream(kind, fd);
	for (int i = 0; i < 2 && is_tcp(kind); i++)
		setsockopt(fd[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

/* ---- what is printed ---- */

static const char *error_name(int error)
{
	const char *name = strerrorname_np(error);

	return name ? name : "?";
}

static void said(long rc)
{
	int error = errno;

	if (rc < 0)
		printf(" = -1 %s", error_name(error));
	else
		printf(" = %ld", rc);
	if (signals) {
		printf(" SIGPIPE %d", (int)signals);
		signals = 0;
	}
}

static void said_events(unsigned int events)
{
	static const struct {
		unsigned int bit;
		const char *name;
	} bits[] = {{POLLIN, "IN"}, {POLLPRI, "PRI"}, {POLLOUT, "OUT"}, {POLLERR, "ERR"}, {POLLHUP, "HUP"}, {POLLRDHUP, "RDHUP"}, {POLLNVAL, "NVAL"}};

	for (size_t i = 0; i < sizeof bits / sizeof *bits; i++)
		if (events & bits[i].bit)
			printf(" %s", bits[i].name);
}

static void said_bytes(const unsigned char *at, long len)
{
	uint32_t sum = 2166136261u;

	for (long i = 0; i < len; i++)
		sum = (sum ^ at[i]) * 16777619u;
	if (len > 0)
		printf(" [%08x]", sum);
}

/* ---- the calls: each prints its own name, what it was given and what came of it ---- */

static struct end *end_of(int e)
{
	return &all->end[e];
}

static void fill(struct end *e, size_t len)
{
	for (size_t i = 0; i < len; i++)
		buffer[i] = (unsigned char)((e->pos + i) * 131 + (e->pos + i) / 251 + (uint64_t)(e - all->end));
}

static void sent(struct end *e, long n)
{
	if (n < 0)
		return;
	e->pos += (uint64_t)n;
	e->bytes += n;
	e->messages++;
}

static void received(int e, long n)
{
	struct end *from = end_of(e ^ 1);

	if (n < 0)
		return;
	from->bytes -= n;
	from->messages--;
	if (from->bytes <= 0 && !is_record(from->kind))
		from->bytes = from->messages = 0;
}

static size_t length(uint64_t *r)
{
	static const uint32_t limits[] = {1, 3, 64, 200, 1500, 5000};

	return below(r, limits[below(r, sizeof limits / sizeof *limits)] + 1);
}

static bool is_full(const struct end *e, size_t len)
{
	return e->bytes + (long)len > BYTES_MAX || e->messages >= MESSAGES_MAX;
}

static void do_send(int e, uint64_t *r)
{
	struct end *end = end_of(e);
	size_t len = length(r);
	int flags = MSG_DONTWAIT | (below(r, 2) ? MSG_NOSIGNAL : 0);
	long n;

	printf("send %zu%s", len, flags & MSG_NOSIGNAL ? " NOSIGNAL" : "");
	if (is_full(end, len)) {
		printf(" (full)");
		return;
	}
	fill(end, len);
	n = below(r, 4) ? send(end->fd, buffer, len, flags) : sendto(end->fd, buffer, len, flags, NULL, 0);
	said(n);
	sent(end, n);
}

static void do_write(int e, uint64_t *r)
{
	struct end *end = end_of(e);
	size_t len = length(r), cut = len ? below(r, (uint32_t)len + 1) : 0;
	struct iovec iov[3] = {{buffer, cut}, {buffer + cut, 0}, {buffer + cut, len - cut}};
	bool vector = below(r, 2);
	long n;

	printf("%s %zu", vector ? "writev" : "write", len);
	if (is_full(end, len)) {
		printf(" (full)");
		return;
	}
	fill(end, len);
	n = vector ? writev(end->fd, iov, 3) : write(end->fd, buffer, len);
	said(n);
	sent(end, n);
}

static void do_recv(int e, uint64_t *r)
{
	static const struct {
		int flags;
		const char *name;
	} how[] = {{0, ""}, {0, ""}, {0, ""}, {MSG_PEEK, " PEEK"}, {MSG_TRUNC, " TRUNC"}, {MSG_PEEK | MSG_TRUNC, " PEEK TRUNC"}};
	uint32_t pick = below(r, sizeof how / sizeof *how);
	struct end *end = end_of(e);
	size_t len = length(r);
	bool discards;
	long n;

	if (!len && (how[pick].flags & MSG_PEEK) && is_local(end->kind))
		len = 1; /* in front of an urgent byte AF_UNIX says EAGAIN, data or not: docs/compat.md, known differences */
	printf("recv %zu%s", len, how[pick].name);
	n = recv(end->fd, buffer, len, how[pick].flags | MSG_DONTWAIT);
	said(n);
	discards = is_tcp(end->kind) && (how[pick].flags & MSG_TRUNC); /* the buffer stays as it was: tcp(7) */
	if (!discards && n > 0)
		said_bytes(buffer, n < (long)len ? n : (long)len);
	if (!(how[pick].flags & MSG_PEEK))
		received(e, n);
}

/* Everything, so that a program does not fill up: like a server that reads until EAGAIN. */
static void do_drain(int e, uint64_t *r)
{
	struct end *end = end_of(e);
	long n, total = 0, calls = 0;

	(void)r;
	printf("drain");
	while ((n = recv(end->fd, buffer, sizeof buffer, MSG_DONTWAIT)) > 0 && ++calls < 100) {
		total += n;
		if (is_record(end->kind))
			said_bytes(buffer, n);
		received(e, n);
	}
	printf(" %ld", total);
	said(n);
}

static void do_readv(int e, uint64_t *r)
{
	struct end *end = end_of(e);
	size_t len = length(r), cut = len ? below(r, (uint32_t)len + 1) : 0;
	struct iovec iov[2] = {{buffer, cut}, {buffer + cut, len - cut}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
	long n;

	printf("recvmsg %zu+%zu", cut, len - cut);
	n = recvmsg(end->fd, &msg, MSG_DONTWAIT);
	said(n);
	if (n >= 0)
		printf(" flags %x name %d", (unsigned int)msg.msg_flags & ~(unsigned int)MSG_CMSG_CLOEXEC, (int)(msg.msg_namelen > 0));
	if (n > 0)
		said_bytes(buffer, n);
	received(e, n);
}

static void do_poll(int e, uint64_t *r)
{
	struct pollfd p = {end_of(e)->fd, 0, 0};
	int n;

	p.events = (short)(below(r, 2) ? POLLIN | POLLPRI | POLLOUT | POLLRDHUP : POLLIN);
	n = poll(&p, 1, 0);
	printf("poll%s", p.events & POLLOUT ? "" : " IN");
	said(n);
	said_events((unsigned int)p.revents);
}

static void do_poll_all(int e, uint64_t *r)
{
	struct pollfd p[ENDS];

	(void)e;
	(void)r;
	printf("poll all");
	for (int i = 0; i < ENDS; i++)
		p[i] = (struct pollfd){end_of(i)->closed || (side >= 0 && (i & 1) != side) ? -1 : end_of(i)->fd,
				       POLLIN | POLLPRI | POLLOUT | POLLRDHUP, 0};
	said(poll(p, ENDS, 0));
	for (int i = 0; i < ENDS; i++)
		if (p[i].revents) {
			printf(" %d:", i);
			said_events((unsigned int)p[i].revents);
		}
}

static void do_unread(int e, uint64_t *r)
{
	int n = -1;

	(void)r;
	printf("FIONREAD");
	said(ioctl(end_of(e)->fd, FIONREAD, &n));
	printf(" %d", n);
}

static void do_error(int e, uint64_t *r)
{
	int n = -1;
	socklen_t len = sizeof n;

	(void)r;
	printf("SO_ERROR");
	said(getsockopt(end_of(e)->fd, SOL_SOCKET, SO_ERROR, &n, &len));
	printf(" %s", n > 0 ? error_name(n) : "0");
}

static void do_shutdown(int e, uint64_t *r)
{
	int how = (int)below(r, 3), rc;

	printf("shutdown %d", how);
	rc = shutdown(end_of(e)->fd, how);
	said(rc);
	end_of(e)->ended |= rc == 0 && how != SHUT_RD;
}

static void do_close(int e, uint64_t *r)
{
	struct linger now = {1, 0};

	printf("close");
	if (is_tcp(end_of(e)->kind) && end_of(e)->ended) {
		/* A reset behind its own end of stream is not seen by the peer: docs/compat.md, known differences. */
		while (recv(end_of(e)->fd, buffer, sizeof buffer, MSG_DONTWAIT) > 0)
			;
	} else if (below(r, 8) == 0) {
		printf(" with a reset");
		setsockopt(end_of(e)->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	}
	said(close(end_of(e)->fd));
	end_of(e)->closed = true;
}

static void do_dup(int e, uint64_t *r)
{
	struct end *end = end_of(e);
	int other = dup(end->fd);

	(void)r;
	printf("dup, close, dup2");
	must(other >= 0, "dup");
	said(close(end->fd));
	said(dup2(other, end->fd) == end->fd ? 0 : -1);
	close(other);
}

static void do_urgent_send(int e, uint64_t *r)
{
	struct end *end = end_of(e);
	size_t len = 1 + below(r, 3);
	long n;

	printf("send %zu OOB", len);
	if (is_full(end, len)) {
		printf(" (full)");
		return;
	}
	fill(end, len);
	n = send(end->fd, buffer, len, MSG_OOB | MSG_DONTWAIT | MSG_NOSIGNAL);
	said(n);
	sent(end, n);
}

static void do_urgent_recv(int e, uint64_t *r)
{
	unsigned char byte = 0;
	long n;

	printf("recv OOB%s", below(r, 2) ? "" : " PEEK");
	n = recv(end_of(e)->fd, &byte, 1, MSG_OOB | MSG_DONTWAIT | (below(r, 2) ? MSG_PEEK : 0));
	said(n);
	said_bytes(&byte, n);
}

static void do_mark(int e, uint64_t *r)
{
	int at = -1;

	(void)r;
	printf("SIOCATMARK");
	said(ioctl(end_of(e)->fd, SIOCATMARK, &at));
	printf(" %d", at);
}

static void do_names(int e, uint64_t *r)
{
	struct sockaddr_storage ss = {0};
	socklen_t len = sizeof ss;

	printf("getpeername");
	said(getpeername(end_of(e)->fd, (void *)&ss, &len));
	printf(" family %d", ss.ss_family);
	(void)r;
}

static void do_nonblock(int e, uint64_t *r)
{
	int fl = fcntl(end_of(e)->fd, F_GETFL);

	(void)r;
	printf("F_GETFL %x", (unsigned int)fl & (O_NONBLOCK | O_ACCMODE));
	said(fcntl(end_of(e)->fd, F_SETFL, fl ^ O_NONBLOCK));
	fcntl(end_of(e)->fd, F_SETFL, fl | O_NONBLOCK); /* no call waits */
}

static void do_pass(int e, uint64_t *r)
{
	struct end *end = end_of(e);
	size_t len = 1 + length(r);
	struct iovec iov = {buffer, len};
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {{0}};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	long n;

	printf("sendmsg %zu with a descriptor", len);
	must(zero >= 0, "/dev/zero");
	if (is_full(end, len) || !is_local(end->kind)) {
		printf(" (no)");
	} else {
		fill(end, len);
		*CMSG_FIRSTHDR(&msg) = (struct cmsghdr){CMSG_LEN(sizeof zero), SOL_SOCKET, SCM_RIGHTS};
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), &zero, sizeof zero);
		n = sendmsg(end->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
		said(n);
		sent(end, n);
	}
	close(zero);
}

static void do_take(int e, uint64_t *r)
{
	struct end *end = end_of(e);
	size_t len = length(r);
	struct iovec iov = {buffer, len};
	union {
		char bytes[256];
		struct cmsghdr align;
	} control;
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	bool peeks = below(r, 6) == 0;
	long n;

	printf("recvmsg %zu with control%s", len, peeks ? " PEEK" : "");
	n = recvmsg(end->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC | (peeks ? MSG_PEEK : 0));
	said(n);
	if (n < 0)
		return;
	said_bytes(buffer, n);
	printf(" flags %x", (unsigned int)msg.msg_flags & ~(unsigned int)MSG_CMSG_CLOEXEC);
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		int fd;

		printf(" cmsg %d/%d %zu", c->cmsg_level, c->cmsg_type, (size_t)c->cmsg_len);
		for (size_t i = 0; c->cmsg_type == SCM_RIGHTS && i < (c->cmsg_len - CMSG_LEN(0)) / sizeof fd; i++) {
			char byte = 1;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
			printf(" reads %d", (int)read(fd, &byte, 1) + byte);
			close(fd);
		}
	}
	if (!peeks)
		received(e, n);
}

static void do_sendfile(int e, uint64_t *r)
{
	struct end *end = end_of(e);
	size_t len = length(r);
	off_t from = 0;
	int file = memfd_create("calls", MFD_CLOEXEC);
	long n;

	printf("sendfile %zu", len);
	must(file >= 0, "memfd_create");
	if (is_full(end, len)) {
		printf(" (full)");
	} else {
		fill(end, len);
		must(write(file, buffer, len) == (ssize_t)len, "write");
		n = sendfile(end->fd, file, &from, len);
		said(n);
		sent(end, n);
	}
	close(file);
}

static void do_child(int e, uint64_t *r)
{
	struct end *end = end_of(e);
	size_t len = 1 + length(r);
	bool sends = below(r, 2);
	int status = 0;
	pid_t child;

	printf("child %s %zu", sends ? "sends" : "receives", len);
	if (sends && is_full(end, len)) {
		printf(" (full)");
		return;
	}
	fflush(stdout);
	child = fork();
	if (child == 0) {
		long n;

		if (sends)
			fill(end, len);
		n = sends ? send(end->fd, buffer, len, MSG_DONTWAIT | MSG_NOSIGNAL) : recv(end->fd, buffer, len, MSG_DONTWAIT);
		said(n);
		if (sends)
			sent(end, n);
		else
			received(e, n);
		if (!sends)
			said_bytes(buffer, n);
		fflush(stdout);
		_exit(7);
	}
	must(waitpid(child, &status, 0) == child, "waitpid");
	printf(" exit %d", WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
}

static void do_watch(int e, uint64_t *r)
{
	static const int ops[] = {EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL};
	static const char *const names[] = {"ADD", "MOD", "DEL"};
	uint32_t op = below(r, 3);
	struct epoll_event event = {.data.u64 = 0x8877665500000000u + (uint64_t)e};

	event.events = (below(r, 2) ? EPOLLIN | EPOLLRDHUP : EPOLLIN | EPOLLOUT | EPOLLPRI) | (below(r, 4) ? 0 : EPOLLONESHOT);
	printf("epoll_ctl %s %x", names[op], event.events);
	said(epoll_ctl(epset, ops[op], end_of(e)->fd, &event));
}

static int by_data(const void *a, const void *b)
{
	uint64_t x = ((const struct epoll_event *)a)->data.u64, y = ((const struct epoll_event *)b)->data.u64;

	return x < y ? -1 : x > y;
}

static void do_wait(int e, uint64_t *r)
{
	struct epoll_event events[2 * ENDS];
	int n = epoll_wait(epset, events, 2 * ENDS, 0);

	(void)e;
	(void)r;
	printf("epoll_wait");
	said(n);
	if (n > 0)
		qsort(events, (size_t)n, sizeof *events, by_data);
	for (int i = 0; i < n; i++) {
		printf(" %llx:", (unsigned long long)events[i].data.u64);
		said_events(events[i].events);
	}
}

static const struct call {
	void (*run)(int e, uint64_t *r);
	uint32_t weight;
} calls[] = {
	{do_send, 18},	     {do_write, 8},	 {do_recv, 18},	    {do_drain, 8},   {do_readv, 5}, {do_poll, 8},   {do_poll_all, 4}, {do_unread, 4},
	{do_error, 2},	     {do_shutdown, 2},	 {do_close, 2},	    {do_dup, 2},     {do_names, 2}, {do_nonblock, 2}, {do_pass, 2},   {do_take, 4},
	{do_urgent_send, 1}, {do_urgent_recv, 1}, {do_mark, 1},	    {do_sendfile, 2}, {do_child, 1}, {do_watch, 5},  {do_wait, 6},
};

/* ---- a seed ---- */

static void on_signal(int sig)
{
	(void)sig;
	signals++;
}

static const struct call *pick(uint64_t *r)
{
	uint32_t sum = 0, at;

	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
		sum += calls[i].weight;
	at = below(r, sum);
	for (size_t i = 0;; i++) {
		if (at < calls[i].weight)
			return &calls[i];
		at -= calls[i].weight;
	}
}

static void turn_wait(void)
{
	char byte;

	if (turn_in >= 0 && read(turn_in, &byte, 1) != 1)
		exit(1);
}

static void turn_pass(void)
{
	fflush(stdout);
	if (turn_out >= 0 && write(turn_out, "", 1) != 1)
		exit(1);
}

/* Both processes walk through the same calls; whose end it is acts, the other waits to hear that it was done. */
static void one_call(uint64_t seed, uint32_t number)
{
	uint64_t r = seed * 1000003 + number;
	int e = (int)below(&r, ENDS);
	const struct call *call = pick(&r);

	if (side >= 0 && (e & 1) != side) {
		turn_wait();
		return;
	}
	if (!end_of(e)->closed) {
		printf("%u %c%d ", number, 'A' + (e & 1), e / 2);
		call->run(e, &r);
		putchar('\n');
	}
	turn_pass();
}

static void warm_up(int e)
{
	int fd[2] = {end_of(e)->fd, end_of(e + 1)->fd};
	char byte;

	for (int i = 0; i < WARM; i++) {
		if (side != 1)
			must(send(fd[0], "", 1, 0) == 1, "warm send");
		if (side != 0)
			must(recv(fd[1], &byte, 1, 0) == 1 && send(fd[1], "", 1, 0) == 1, "warm answer");
		if (side != 1)
			must(recv(fd[0], &byte, 1, 0) == 1, "warm recv");
	}
}

/* This process takes the ends of one side, the new one those of the other. */
static pid_t split(void)
{
	int there[2], back[2];
	pid_t child;

	must(pipe(there) == 0 && pipe(back) == 0, "pipe");
	fflush(stdout);
	child = fork();
	must(child >= 0, "fork");
	side = child == 0;
	if (child == 0)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	turn_in = child == 0 ? there[0] : back[0];
	turn_out = child == 0 ? back[1] : there[1];
	close(child == 0 ? there[1] : there[0]);
	close(child == 0 ? back[0] : back[1]);
	for (int e = 0; e < ENDS; e++)
		if ((e & 1) != side)
			close(end_of(e)->fd);
	return child;
}

static void one_seed(uint64_t seed, uint32_t count)
{
	uint64_t r = seed * 7919 + 1;
	pid_t child = 0;
	int status = 0;

	all->two = below(&r, 2);
	all->hot = below(&r, 3) > 0;
	printf("== seed %llu: %s, %s", (unsigned long long)seed, all->two ? "two processes" : "one process", all->hot ? "hot" : "cold");
	for (int e = 0; e < ENDS; e += 2) {
		enum kind kind = (enum kind)below(&r, KINDS);
		int fd[2];

		printf(", %s", kind_names[kind]);
		open_pair(kind, fd);
		for (int i = 0; i < 2; i++)
			*end_of(e + i) = (struct end){.fd = fd[i], .kind = kind};
	}
	putchar('\n');
	if (all->two)
		child = split();
	epset = epoll_create1(EPOLL_CLOEXEC);
	alarm(SEED_DEADLINE_S);
	for (int e = 0; e < ENDS; e += 2) {
		if (all->hot)
			warm_up(e);
		for (int i = 0; i < 2; i++)
			if (side < 0 || i == side)
				fcntl(end_of(e + i)->fd, F_SETFL, O_RDWR | O_NONBLOCK);
	}
	if (all->two && side == 1)
		turn_pass(); /* all is set up here */
	else if (all->two)
		turn_wait();
	for (uint32_t i = 0; i < count; i++)
		one_call(seed, i);
	for (int e = 0; e < ENDS; e++)
		if (!end_of(e)->closed && (side < 0 || (e & 1) == side))
			close(end_of(e)->fd);
	close(epset);
	if (!all->two)
		return;
	if (child == 0)
		exit(0);
	must(waitpid(child, &status, 0) == child, "waitpid");
	if (status)
		printf("the other process ended with %x\n", (unsigned int)status);
	close(turn_in);
	close(turn_out);
	side = turn_in = turn_out = -1;
}

int main(int argc, char **argv)
{
	struct sigaction act = {.sa_handler = on_signal};
	uint64_t first;
	uint32_t count, limit;

	if (argc < 3) {
		fprintf(stderr, "usage: calls FIRST COUNT [CALLS]\n");
		return 2;
	}
	first = strtoull(argv[1], NULL, 10);
	count = (uint32_t)strtoul(argv[2], NULL, 10);
	limit = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : CALLS;
	all = mmap(NULL, sizeof *all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(all != MAP_FAILED, "mmap");
	sigaction(SIGPIPE, &act, NULL);
	for (uint32_t i = 0; i < count; i++) {
		one_seed(first + i, limit);
		fflush(stdout);
	}
	return 0;
}
