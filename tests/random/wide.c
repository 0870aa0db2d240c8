/* SPDX-License-Identifier: MIT */
/* The calls that only seeds above NARROW_LAST draw: options, messages by the dozen, other ways to ask for readiness, sockets in messages. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/wait.h>
#include <unistd.h>

#include "random.h"

#define VECTOR 3

static int set(int e, int level, int name, int value)
{
	return setsockopt(end_of(e)->fd, level, name, &value, sizeof value);
}

/* ---- options ---- */

static void do_low_water(int e, uint64_t *r)
{
	static const int values[] = {1, 1, 2, 100, 1000, 5000};
	int value = values[below(r, sizeof values / sizeof *values)];

	printf("SO_RCVLOWAT %d", value);
	said(set(e, SOL_SOCKET, SO_RCVLOWAT, value));
}

static void do_inline(int e, uint64_t *r)
{
	int on = (int)below(r, 2);

	printf("SO_OOBINLINE %d", on);
	said(set(e, SOL_SOCKET, SO_OOBINLINE, on));
}

static void do_peek_offset(int e, uint64_t *r)
{
	static const int values[] = {-1, 0, 0, 1, 10, 1000};
	int value = values[below(r, sizeof values / sizeof *values)];

	printf("SO_PEEK_OFF %d", value);
	if (is_record(end_of(e)->kind)) /* what waits in a ring is looked at without it: docs/compat.md */
		printf(" (no)");
	else
		said(set(e, SOL_SOCKET, SO_PEEK_OFF, value));
}

static void do_linger(int e, uint64_t *r)
{
	struct linger l = {(int)below(r, 2), (int)below(r, 2)};

	printf("SO_LINGER %d %d", l.l_onoff, l.l_linger);
	said(setsockopt(end_of(e)->fd, SOL_SOCKET, SO_LINGER, &l, sizeof l));
	end_of(e)->resets = l.l_onoff && !l.l_linger;
}

static void do_credentials(int e, uint64_t *r)
{
	int on = (int)below(r, 2);

	printf("SO_PASSCRED %d", on);
	if (!is_local(end_of(e)->kind))
		printf(" (no)");
	else
		said(set(e, SOL_SOCKET, SO_PASSCRED, on));
}

/* Of TCP it depends on when the kernel began to note the times. */
static void do_timestamp(int e, uint64_t *r)
{
	int on = (int)below(r, 2);

	printf("SO_TIMESTAMP %d", on);
	if (is_tcp(end_of(e)->kind))
		printf(" (no)");
	else
		said(set(e, SOL_SOCKET, SO_TIMESTAMP, on));
}

static void do_ask(int e, uint64_t *r)
{
	static const struct {
		int name;
		const char *text;
	} options[] = {{SO_TYPE, "SO_TYPE"},	     {SO_DOMAIN, "SO_DOMAIN"},	 {SO_ACCEPTCONN, "SO_ACCEPTCONN"}, {SO_RCVLOWAT, "SO_RCVLOWAT"},
		       {SO_PEEK_OFF, "SO_PEEK_OFF"}, {SO_LINGER, "SO_LINGER"},	 {SO_OOBINLINE, "SO_OOBINLINE"},   {SO_PROTOCOL, "SO_PROTOCOL"}};
	uint32_t pick = below(r, sizeof options / sizeof *options);
	struct linger value = {0};
	socklen_t len = sizeof value;

	printf("get %s", options[pick].text);
	said(getsockopt(end_of(e)->fd, SOL_SOCKET, options[pick].name, &value, &len));
	printf(" %d %d", value.l_onoff, value.l_linger);
}

/* ---- messages ---- */

static void sends(struct end *end, size_t len, int flags)
{
	long n;

	fill(end, len);
	n = put(end, buffer, len, flags | MSG_DONTWAIT | MSG_NOSIGNAL);
	said(n);
	sent(end, n);
}

/* What is held back goes before the call ends. */
static void do_more(int e, uint64_t *r)
{
	struct end *end = end_of(e);
	size_t len = length(r), more = 1 + length(r); /* of no bytes nothing is pushed */
	bool cork = is_tcp(end->kind) && below(r, 2);
	const struct end *peer = end_of(e ^ 1);

	printf("send %zu %s, %zu", len, cork ? "corked" : "MORE", more);
	/* Towards who does not read: when TCP learns of it depends on what is held back. */
	if (is_full(end, len + more) || (is_tcp(end->kind) && (peer->closed || peer->deaf))) {
		printf(" (no)");
		return;
	}
	if (cork)
		said(set(e, IPPROTO_TCP, TCP_CORK, 1));
	sends(end, len, cork ? 0 : MSG_MORE);
	sends(end, more, 0);
	if (cork)
		said(set(e, IPPROTO_TCP, TCP_CORK, 0));
}

static void do_sendmmsg(int e, uint64_t *r)
{
	struct end *end = end_of(e);
	struct mmsghdr msgs[VECTOR] = {0};
	struct iovec iov[VECTOR];
	size_t at = 0;
	int n;

	printf("sendmmsg");
	for (int i = 0; i < VECTOR; i++) {
		iov[i] = (struct iovec){buffer + at, length(r)};
		at += iov[i].iov_len;
		msgs[i].msg_hdr.msg_iov = &iov[i];
		msgs[i].msg_hdr.msg_iovlen = 1;
		msgs[i].msg_hdr.msg_name = end->free ? &end->peer : NULL;
		msgs[i].msg_hdr.msg_namelen = end->free ? end->peer_len : 0;
		printf(" %zu", iov[i].iov_len);
	}
	if (is_full(end, at) || end->messages + VECTOR > MESSAGES_MAX) {
		printf(" (full)");
		return;
	}
	fill(end, at);
	n = sendmmsg(end->fd, msgs, VECTOR, MSG_DONTWAIT | MSG_NOSIGNAL);
	said(n);
	for (int i = 0; i < n; i++) {
		printf(" %u", msgs[i].msg_len);
		sent(end, msgs[i].msg_len);
	}
}

static void do_recvmmsg(int e, uint64_t *r)
{
	struct end *end = end_of(e);
	struct mmsghdr msgs[VECTOR] = {0};
	struct iovec iov[VECTOR];
	size_t at = 0;
	int n;

	printf("recvmmsg");
	for (int i = 0; i < VECTOR; i++) {
		iov[i] = (struct iovec){buffer + at, length(r)};
		at += iov[i].iov_len;
		msgs[i].msg_hdr.msg_iov = &iov[i];
		msgs[i].msg_hdr.msg_iovlen = 1;
		printf(" %zu", iov[i].iov_len);
	}
	n = recvmmsg(end->fd, msgs, VECTOR, MSG_DONTWAIT, NULL);
	said(n);
	for (int i = 0; i < n; i++) {
		printf(" %u flags %x", msgs[i].msg_len, (unsigned int)msgs[i].msg_hdr.msg_flags);
		said_bytes(iov[i].iov_base, msgs[i].msg_len);
		received(e, msgs[i].msg_len);
	}
}

static void do_waitall(int e, uint64_t *r)
{
	struct end *end = end_of(e);
	size_t len = 1 + length(r);
	int peek = below(r, 3) ? 0 : MSG_PEEK;
	long n;

	printf("recv %zu WAITALL%s", len, peek ? " PEEK" : "");
	n = recv(end->fd, buffer, len, MSG_WAITALL | MSG_DONTWAIT | peek);
	said(n);
	said_bytes(buffer, n);
	if (!peek)
		received(e, n);
}

static void do_recvfrom(int e, uint64_t *r)
{
	struct end *end = end_of(e);
	struct sockaddr_storage from = {0};
	socklen_t len = sizeof from;
	size_t want = 1 + length(r);
	long n;

	printf("recvfrom %zu", want);
	n = recvfrom(end->fd, buffer, want, MSG_DONTWAIT, (void *)&from, &len);
	said(n);
	said_bytes(buffer, n);
	if (n >= 0)
		printf(" from %d %u%s", from.ss_family, len, end->peer_len && len == end->peer_len && memcmp(&from, &end->peer, len) == 0 ? " peer" : "");
	received(e, n);
}

static void do_errqueue(int e, uint64_t *r)
{
	struct end *end = end_of(e);
	long n;

	(void)r;
	printf("recv ERRQUEUE");
	n = recv(end->fd, buffer, 100, MSG_ERRQUEUE | MSG_DONTWAIT);
	said(n);
	said_bytes(buffer, n);
	if (is_local(end->kind)) /* which knows no such queue, and reads */
		received(e, n);
}

static void pass(int e, size_t len, int type, const void *data, size_t data_len)
{
	struct end *end = end_of(e);
	struct iovec iov = {buffer, len};
	union {
		char bytes[CMSG_SPACE(sizeof(struct ucred))];
		struct cmsghdr align;
	} control = {{0}};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_SPACE(data_len)};
	long n;

	if (is_full(end, len) || !is_local(end->kind)) {
		printf(" (no)");
		return;
	}
	if (end->free) {
		msg.msg_name = &end->peer;
		msg.msg_namelen = end->peer_len;
	}
	fill(end, len);
	*CMSG_FIRSTHDR(&msg) = (struct cmsghdr){CMSG_LEN(data_len), SOL_SOCKET, type};
	memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), data, data_len);
	n = sendmsg(end->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	said(n);
	sent(end, n);
}

/* Another end of this process's; one that was passed over itself would wait for the kernel's collector. */
static void do_pass_end(int e, uint64_t *r)
{
	size_t len = 1 + length(r);
	int other = (e + 1 + (int)below(r, ENDS - 1)) % ENDS;

	printf("sendmsg %zu with %c%d", len, 'A' + (other & 1), other / 2);
	/* A hot one goes on by a relay, which is another process: when a byte is there cannot be foreseen (docs/compat.md). */
	if (!is_mine(other) || other / 2 == e / 2 || all->hot || end_of(other)->used || end_of(other ^ 1)->used)
		printf(" (no)");
	else
		pass(e, len, SCM_RIGHTS, &end_of(other)->fd, sizeof(int));
}

static void do_introduce(int e, uint64_t *r)
{
	struct ucred cred = {getpid(), getuid(), getgid()};
	size_t len = 1 + length(r);

	printf("sendmsg %zu with credentials", len);
	pass(e, len, SCM_CREDENTIALS, &cred, sizeof cred);
}

/* ---- descriptors and names ---- */

/* Another end of this process's gives way; its peer is to see it close. */
static void do_dup_over(int e, uint64_t *r)
{
	int other = (e + 1 + (int)below(r, ENDS - 1)) % ENDS;
	struct end *end = end_of(e), *over = end_of(other);
	size_t len = length(r);

	printf("dup2 over %c%d", 'A' + (other & 1), other / 2);
	if (!is_mine(other) || reset_is_hidden(other) || is_full(end, len)) {
		printf(" (no)");
		return;
	}
	said(dup2(end->fd, over->fd) == over->fd ? 0 : -1);
	over->closed = true;
	printf(", send %zu", len);
	fill(end, len);
	{
		struct end there = *end;
		long n;

		there.fd = over->fd;
		n = put(&there, buffer, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		said(n);
		sent(end, n);
	}
	said(close(over->fd));
}

static void do_own_name(int e, uint64_t *r)
{
	struct sockaddr_storage ss = {0};
	socklen_t len = sizeof ss;

	(void)r;
	printf("getsockname");
	said(getsockname(end_of(e)->fd, (void *)&ss, &len));
	printf(" family %d %u", ss.ss_family, len);
}

/* Of named datagram sockets: to the peer, or to nobody. */
static void do_connect(int e, uint64_t *r)
{
	struct end *end = end_of(e);
	struct sockaddr_storage nobody = {.ss_family = AF_UNSPEC};
	bool parts = below(r, 2);

	printf("connect to %s", parts ? "nobody" : "the peer");
	if (!end->peer_len) {
		printf(" (no)");
		return;
	}
	if (parts)
		said(connect(end->fd, (void *)&nobody, sizeof(sa_family_t)));
	else
		said(connect(end->fd, (void *)&end->peer, end->peer_len));
	end->free = parts;
}

static void do_shutdown_both(int e, uint64_t *r)
{
	static const int ways[] = {SHUT_RD, SHUT_WR, SHUT_RDWR};
	int first = ways[below(r, 3)], then = ways[below(r, 3)];
	int rc;

	printf("shutdown %d", first);
	rc = shutdown(end_of(e)->fd, first);
	said(rc);
	was_shut(end_of(e), rc, first);
	printf(" shutdown %d", then);
	rc = shutdown(end_of(e)->fd, then);
	said(rc);
	was_shut(end_of(e), rc, then);
}

/* ---- readiness ---- */

static void do_select(int e, uint64_t *r)
{
	fd_set in, out, urgent;
	struct timespec now = {0};
	struct timeval also_now = {0};
	int top = 0;

	(void)e;
	FD_ZERO(&in);
	FD_ZERO(&out);
	FD_ZERO(&urgent);
	for (int i = 0; i < ENDS; i++) {
		if (!is_mine(i))
			continue;
		FD_SET(end_of(i)->fd, &in);
		FD_SET(end_of(i)->fd, &out);
		FD_SET(end_of(i)->fd, &urgent);
		top = end_of(i)->fd >= top ? end_of(i)->fd + 1 : top;
	}
	if (below(r, 2)) {
		printf("select");
		said(select(top, &in, &out, &urgent, &also_now));
	} else {
		printf("pselect");
		said(pselect(top, &in, &out, &urgent, &now, NULL));
	}
	for (int i = 0; i < ENDS; i++)
		if (is_mine(i))
			printf(" %d:%s%s%s", i, FD_ISSET(end_of(i)->fd, &in) ? "r" : "", FD_ISSET(end_of(i)->fd, &out) ? "w" : "",
			       FD_ISSET(end_of(i)->fd, &urgent) ? "x" : "");
}

static void do_ppoll(int e, uint64_t *r)
{
	static const short wishes[] = {POLLIN, POLLOUT, POLLRDHUP, POLLPRI, 0, POLLRDNORM | POLLWRNORM, POLLIN | POLLOUT};
	struct pollfd p[2] = {{end_of(e)->fd, wishes[below(r, sizeof wishes / sizeof *wishes)], 0}, {epset, POLLIN, 0}};
	struct timespec now = {0};

	printf("ppoll %x", (unsigned int)p[0].events);
	said(ppoll(p, 2, &now, NULL));
	said_events((unsigned int)p[0].revents);
	printf(" set");
	said_events((unsigned int)p[1].revents);
}

static void do_nest(int e, uint64_t *r)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = 1};
	int op = below(r, 3) ? EPOLL_CTL_ADD : EPOLL_CTL_DEL;

	(void)e;
	printf("outer set %s", op == EPOLL_CTL_ADD ? "ADD" : "DEL");
	said(epoll_ctl(outer, op, epset, &event));
}

static void do_nested_wait(int e, uint64_t *r)
{
	struct epoll_event event = {0};
	int n = epoll_wait(outer, &event, 1, 0);

	(void)e;
	(void)r;
	printf("epoll_wait outer");
	said(n);
	if (n > 0)
		said_events(event.events);
}

static void do_watch_edges(int e, uint64_t *r)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.u64 = 0x1122334400000000u + (uint64_t)e};
	int op = below(r, 2) ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;

	printf("epoll_ctl %s ET", op == EPOLL_CTL_ADD ? "ADD" : "MOD");
	said(epoll_ctl(epset, op, end_of(e)->fd, &event));
}

/* ---- fork ---- */

/* A child that makes some calls of its own, on any of this process's ends. */
static void do_children(int e, uint64_t *r)
{
	uint32_t count = 1 + below(r, 4);
	int status = 0;
	pid_t child;

	printf("child");
	fflush(stdout);
	child = fork();
	must(child >= 0, "fork");
	if (child == 0) {
		while (count--) {
			const struct call *call = pick(r, true);
			int which = below(r, 2) ? e : (int)below(r, ENDS);

			if (!call->child || !is_mine(which))
				continue;
			printf(" {%c%d ", 'A' + (which & 1), which / 2);
			call->run(which, r);
			printf("}");
		}
		fflush(stdout);
		_exit(7);
	}
	must(waitpid(child, &status, 0) == child, "waitpid");
	printf(" exit %d", WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
}

const struct call wide_calls[] = {
	{do_low_water, 2, true}, {do_inline, 1, true},   {do_peek_offset, 2, true}, {do_linger, 1, true},    {do_credentials, 2, true}, {do_timestamp, 1, true},
	{do_ask, 2, true},	   {do_more, 3, true},     {do_sendmmsg, 4, true},	  {do_recvmmsg, 4, true},  {do_waitall, 3, true},	  {do_recvfrom, 4, true},
	{do_errqueue, 1, true},  {do_pass_end, 2}, {do_introduce, 2, true},	  {do_dup_over, 1},  {do_own_name, 1, true},	  {do_connect, 3},
	{do_shutdown_both, 1, true}, {do_select, 4, true}, {do_ppoll, 4},	  {do_nest, 2},	     {do_nested_wait, 4}, {do_watch_edges, 2}, {do_children, 3},
	{0},
};
