/* SPDX-License-Identifier: MIT */
/* The calls that every seed may draw, and what is printed of them. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "random.h"

/* ---- what is printed ---- */

static const char *error_name(int error)
{
	const char *name = strerrorname_np(error);

	return name ? name : "?";
}

void said(long rc)
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

void said_events(unsigned int events)
{
	static const struct {
		unsigned int bit;
		const char *name;
	} bits[] = {{POLLIN, "IN"}, {POLLPRI, "PRI"}, {POLLOUT, "OUT"}, {POLLERR, "ERR"}, {POLLHUP, "HUP"}, {POLLRDHUP, "RDHUP"}, {POLLNVAL, "NVAL"}};

	for (size_t i = 0; i < sizeof bits / sizeof *bits; i++)
		if (events & bits[i].bit)
			printf(" %s", bits[i].name);
}

void said_bytes(const unsigned char *at, long len)
{
	uint32_t sum = 2166136261u;

	for (long i = 0; i < len; i++)
		sum = (sum ^ at[i]) * 16777619u;
	if (len > 0)
		printf(" [%08x]", sum);
}

/* ---- the calls: each prints its own name, what it was given and what came of it ---- */

struct end *end_of(int e)
{
	return &all->end[e];
}

bool is_mine(int e)
{
	return !end_of(e)->closed && (side < 0 || (e & 1) == side);
}

void fill(struct end *e, size_t len)
{
	for (size_t i = 0; i < len; i++)
		buffer[i] = (unsigned char)((e->pos + i) * 131 + (e->pos + i) / 251 + (uint64_t)(e - all->end));
}

void sent(struct end *e, long n)
{
	e->used = true;
	if (n < 0)
		return;
	e->late |= n > 0 && all->end[(e - all->end) ^ 1].ended && all->end[(e - all->end) ^ 1].deaf;
	e->pos += (uint64_t)n;
	e->bytes += n;
	e->messages++;
}

void received(int e, long n)
{
	struct end *from = end_of(e ^ 1);

	end_of(e)->used = true;
	if (n < 0)
		return;
	from->bytes -= n;
	from->messages--;
	if (from->bytes <= 0 && !is_record(from->kind))
		from->bytes = from->messages = 0;
}

size_t length(uint64_t *r)
{
	static const uint32_t limits[] = {1, 3, 64, 200, 1500, 5000};

	return below(r, limits[below(r, sizeof limits / sizeof *limits)] + 1);
}

bool is_full(const struct end *e, size_t len)
{
	return e->bytes + (long)len > BYTES_MAX || e->messages >= MESSAGES_MAX;
}

long put(const struct end *e, const void *bytes, size_t len, int flags)
{
	return e->free ? sendto(e->fd, bytes, len, flags, (const void *)&e->peer, e->peer_len) : send(e->fd, bytes, len, flags);
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
	n = below(r, 4) ? put(end, buffer, len, flags) : sendto(end->fd, buffer, len, flags, NULL, 0);
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
		p[i] = (struct pollfd){is_mine(i) ? end_of(i)->fd : -1, POLLIN | POLLPRI | POLLOUT | POLLRDHUP, 0};
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

void was_shut(struct end *e, int rc, int how)
{
	e->ended |= rc == 0 && how != SHUT_RD;
	e->deaf |= rc == 0 && how != SHUT_WR;
}

static void do_shutdown(int e, uint64_t *r)
{
	int how = (int)below(r, 3), rc;

	printf("shutdown %d", how);
	rc = shutdown(end_of(e)->fd, how);
	said(rc);
	was_shut(end_of(e), rc, how);
}

/* What docs/compat.md lists of resets that a TCP peer does not see in the kernel lane: one behind our own end of stream, one towards who has
 * shut both ways, and that late data was one already. */
bool reset_is_hidden(int e)
{
	const struct end *peer = end_of(e ^ 1);

	return is_tcp(end_of(e)->kind) && (end_of(e)->ended || (peer->ended && peer->deaf));
}

static void do_close(int e, uint64_t *r)
{
	struct linger now = {1, 0};
	struct end *end = end_of(e);
	bool hidden = reset_is_hidden(e);

	printf("close");
	if (hidden && end->late && !end_of(e ^ 1)->closed) {
		printf(" (no)");
		return;
	}
	if (hidden) {
		if (end->resets)
			setsockopt(end->fd, SOL_SOCKET, SO_LINGER, &(struct linger){0}, sizeof now);
		while (recv(end->fd, buffer, sizeof buffer, MSG_DONTWAIT) > 0)
			;
	} else if (below(r, 8) == 0) {
		printf(" with a reset");
		setsockopt(end->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	}
	said(close(end->fd));
	end->closed = true;
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
	/* An urgent byte that another one overtakes while it is next to be read: docs/compat.md. */
	if (is_full(end, len) || (is_tcp(end->kind) && end->urgent && end->bytes <= (long)(end->pos - end->urgent) + MESSAGES_MAX)) {
		printf(" (full)");
		return;
	}
	fill(end, len);
	n = send(end->fd, buffer, len, MSG_OOB | MSG_DONTWAIT | MSG_NOSIGNAL);
	said(n);
	sent(end, n);
	end->urgent = end->pos;
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

static bool is_socket(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
}

/* A socket that came with a message: one of the ends. What moves here is not counted there. */
static void use_passed(int fd)
{
	unsigned char bytes[50];
	long n = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);

	printf(" (recv");
	said(n);
	said_bytes(bytes, n);
	printf(" send");
	said(send(fd, "passed", 6, MSG_DONTWAIT | MSG_NOSIGNAL));
	printf(")");
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
			if (is_socket(fd))
				use_passed(fd);
			else
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
		n = sends ? put(end, buffer, len, MSG_DONTWAIT | MSG_NOSIGNAL) : recv(end->fd, buffer, len, MSG_DONTWAIT);
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

const struct call first_calls[] = {
	{do_send, 18, true},	     {do_write, 8, true},	 {do_recv, 18, true},	    {do_drain, 8, true},   {do_readv, 5, true}, {do_poll, 8, true},   {do_poll_all, 4, true}, {do_unread, 4, true},
	{do_error, 2, true},	     {do_shutdown, 2, true},	 {do_close, 2},	    {do_dup, 2},     {do_names, 2, true}, {do_nonblock, 2, true}, {do_pass, 2, true},   {do_take, 4, true},
	{do_urgent_send, 1, true}, {do_urgent_recv, 1, true}, {do_mark, 1, true},	    {do_sendfile, 2, true}, {do_child, 1}, {do_watch, 5},  {do_wait, 6},
	{0},
};
