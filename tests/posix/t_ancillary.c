/* SPDX-License-Identifier: MIT */
/* ring: yes */
/* Control data in the local domain: descriptors and credentials, before, in the middle of and after ordinary traffic. */
#include "obs.h"

#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif
#ifndef SO_INQ
#define SO_INQ 84
#endif

static bool by_sendmmsg; /* as send_fds() does it */

static ssize_t send_fds(int fd, const char *text, const int *fds, int n)
{
	char control[CMSG_SPACE(sizeof(int) * 8)] = { 0 };
	struct iovec v = { (void *)(uintptr_t)text, strlen(text) };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control,
			    .msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)n) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)n);
	memcpy(CMSG_DATA(c), fds, sizeof(int) * (size_t)n);
	if (by_sendmmsg) {
		struct mmsghdr two[2] = { { .msg_hdr = { .msg_iov = &v, .msg_iovlen = 1 } }, { .msg_hdr = m } };

		return sendmmsg(fd, two, 2, MSG_NOSIGNAL) == 2 ? (ssize_t)(two[0].msg_len + two[1].msg_len) : -1;
	}
	return sendmsg(fd, &m, MSG_NOSIGNAL);
}

/* Returns the bytes; says how many descriptors came and leaves the first in *got. */
static ssize_t recv_fds(int fd, char *buf, size_t room, size_t control_room, int flags, int *got)
{
	char control[200];
	struct iovec v = { buf, room };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = control_room };
	ssize_t rc = recvmsg(fd, &m, flags);
	int count = 0, cloexec = 0, err = errno;

	*got = -1;
	if (rc < 0)
		return rc;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_type != SCM_RIGHTS) {
			note("control type %d", c->cmsg_type);
			continue;
		}
		for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
			int one;

			memcpy(&one, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			cloexec += fcntl(one, F_GETFD) == FD_CLOEXEC;
			if (count++ == 0)
				*got = one;
		}
	}
	note("%zd bytes \"%.*s\", %d descriptors, %d close-on-exec, flags %x", rc, (int)rc, buf, count, cloexec,
	     m.msg_flags & ~MSG_CMSG_CLOEXEC);
	errno = err;
	return rc;
}

static long op_send_pipe(struct obs *o, long n, long b)
{
	int fds[8];
	long rc;

	(void)b;
	for (int i = 0; i < n; i += 2)
		if (pipe(fds + i))
			return -1;
	if (n && write(fds[1], "from the pipe", 13) != 13)
		return -1;
	rc = send_fds(o->fd, "with", fds, (int)n);
	for (int i = 0; i < n; i++)
		close(fds[i]);
	return rc;
}

static void descriptors(struct obs *o)
{
	char buf[100];
	int got;

	obs("peer sends", peer(o, op_send_pipe, 2, 0));
	recv_fds(o->fd, buf, sizeof(buf), 200, 0, &got);
	obs_bytes("read", buf, read(got, buf, sizeof(buf)));
	close(got);
	obs("peer sends", peer(o, op_send_pipe, 4, 0));
	recv_fds(o->fd, buf, sizeof(buf), 200, MSG_CMSG_CLOEXEC, &got);
	obs("peer sends", peer(o, op_send_pipe, 2, 0));
	recv_fds(o->fd, buf, sizeof(buf), CMSG_SPACE(sizeof(int)), 0, &got);
	obs("peer sends", peer(o, op_send_pipe, 2, 0));
	obs_recv(o->fd, 100, 0);
	obs("peer sends", peer(o, op_send_pipe, 2, 0));
	recv_fds(o->fd, buf, sizeof(buf), 200, MSG_PEEK, &got);
	recv_fds(o->fd, buf, sizeof(buf), 200, 0, &got);
}

/* Text before and after: the descriptors come with their own bytes. */
static void among_text(struct obs *o)
{
	char buf[100];
	int got;

	peer_text(o, op_puts, 0, "before");
	peer(o, op_send_pipe, 2, 0);
	peer_text(o, op_puts, 0, "after");
	settle(o->fd);
	obs_recv(o->fd, 6, 0); /* whether a receive goes on from plain bytes to those with descriptors is not promised */
	for (int i = 0; i < 2; i++)
		recv_fds(o->fd, buf, sizeof(buf), 200, MSG_DONTWAIT, &got);
	warm(o);
	peer_text(o, op_puts, 0, "before");
	peer(o, op_send_pipe, 2, 0);
	settle(o->fd);
	obs_recv(o->fd, 6, 0);
	obs_recv(o->fd, 100, MSG_DONTWAIT);
	warm(o);
	obs_send(o->fd, "done", 0);
	obs("peer recv", peer(o, op_recv, 10, 0));
}

static long op_send_socket(struct obs *o, long kind, long b)
{
	struct obs_name at;
	int lfd, c, a;
	char buf[16];
	long rc;

	by_sendmmsg = b;
	lfd = listener((uint32_t)kind, 5, &at);
	c = sock_of((uint32_t)kind, 0);
	if (connect(c, (struct sockaddr *)&at.sa, at.len))
		return -1;
	a = accept(lfd, NULL, NULL);
	warm_pair(c, a);
	rc = send_fds(o->fd, "sock", &a, 1);
	close(a);
	close(lfd);
	/* talks to whoever has it now */
	if (rc == (b ? 8 : 4) && (send(c, "who are you", 11, 0) != 11 || recv(c, buf, sizeof(buf), 0) != 2))
		rc = -2;
	close(c);
	return rc;
}

/* A socket that was hot in another process works here. */
static void a_connected_socket(struct obs *o)
{
	static const uint32_t kinds[] = { TCP4, UNIXP };
	char buf[100];
	int got;

	for (int i = 0; i < 4; i++) {
		peer_start(o, op_send_socket, kinds[i % 2], i / 2);
		if (i / 2)
			obs_recv(o->fd, 4, MSG_WAITALL); /* the message before the one with the descriptor */
		recv_fds(o->fd, buf, sizeof(buf), 200, 0, &got);
		obs_recv(got, 100, 0);
		obs("answer", send(got, "me", 2, 0));
		obs("peer", peer_done(o));
		obs_recv(got, 100, 0);
		close(got);
	}
}

static long op_keep(struct obs *o, long a, long b)
{
	char buf[20];
	int got;
	struct iovec v = { buf, sizeof(buf) };
	char control[64];
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };

	(void)a;
	(void)b;
	if (recvmsg(o->fd, &m, 0) < 0 || !CMSG_FIRSTHDR(&m))
		return -1;
	memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(got));
	if (send(got, "through the other", 17, 0) != 17)
		return -2;
	return recv(got, buf, sizeof(buf), 0);
}

/* A listener travels; who receives it accepts. */
static void a_listener(struct obs *o)
{
	struct obs_name at;
	int lfd = listener(TCP4, 5, &at), got, c;
	char buf[10];

	obs("to oneself", send_fds(o->fd, "x", &lfd, 1));
	peer(o, op_recv, 10, 0);
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		die("socketpair");
	obs("send", send_fds(pair[0], "listener", &lfd, 1));
	close(lfd);
	recv_fds(pair[1], buf, sizeof(buf), 200, 0, &got);
	c = sock_of(TCP4, 0);
	obs("connect", connect(c, (struct sockaddr *)&at.sa, at.len));
	int a = accept(got, NULL, NULL);
	obs("send", send(c, "hi", 2, 0));
	obs_recv(a, 10, 0);
}

/* One's own end of the very connection is passed over another and used from both sides of the passing. */
static void itself_elsewhere(struct obs *o)
{
	struct obs_name at;
	int lfd = listener(TCP4, 5, &at), c = sock_of(TCP4, 0), a;

	if (connect(c, (struct sockaddr *)&at.sa, at.len))
		die("connect");
	a = accept(lfd, NULL, NULL);
	warm_pair(c, a);
	peer_start(o, op_keep, 0, 0);
	obs("send", send_fds(o->fd, "c", &c, 1));
	obs_recv(a, 100, 0);
	obs("send", send(a, "to whom?", 8, 0));
	obs("peer", peer_done(o));
	close(c);
	peer(o, op_close, 0, 0);
}

static void credentials(struct obs *o)
{
	char buf[20], control[CMSG_SPACE(sizeof(struct ucred))];
	struct iovec v = { buf, sizeof(buf) };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	struct ucred cred;
	int one = 1;

	obs("SO_PASSCRED", setsockopt(o->fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)));
	peer_text(o, op_puts, 0, "who");
	obs("recvmsg", recvmsg(o->fd, &m, 0));
	note("control: %d flags %x", CMSG_FIRSTHDR(&m) ? CMSG_FIRSTHDR(&m)->cmsg_type : 0, m.msg_flags);
	if (CMSG_FIRSTHDR(&m)) {
		memcpy(&cred, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(cred));
		note("the peer: %d uid %d gid %d", cred.pid == o->pid, (int)cred.uid, (int)cred.gid);
	}
	peer_text(o, op_puts, 0, "again");
	obs_recv(o->fd, 10, 0);
}

/* What comes with the next message: its kind, and what there is to say about it. */
static void obs_control(int fd, size_t control_room, int flags)
{
	char buf[20], control[200];
	struct iovec v = { buf, sizeof(buf) };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = control_room };

	obs_bytes("recvmsg", buf, recvmsg(fd, &m, flags));
	note("flags %x", m.msg_flags);
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		int value = -1;

		memcpy(&value, CMSG_DATA(c), sizeof(value));
		if (c->cmsg_type == SO_INQ)
			note("unread: %d", value);
		else
			note("control: %d", c->cmsg_type);
		if (c->cmsg_type == SCM_RIGHTS || c->cmsg_type == 4) /* SCM_PIDFD */
			note("a descriptor: %d", close(value) == 0);
	}
}

/* Set while messages wait, which have no such control data then; those after it have. */
static void asked_for(struct obs *o, int name)
{
	int one = 1;

	peer_text(o, op_puts, 0, "before");
	settle(o->fd);
	obs("set", setsockopt(o->fd, SOL_SOCKET, name, &one, sizeof(one)));
	obs_control(o->fd, 200, MSG_PEEK);
	if (o->type == SOCK_STREAM)
		obs_recv(o->fd, 2, 0);
	obs_control(o->fd, 200, 0);
	for (size_t room = 0; room <= CMSG_SPACE(sizeof(int)); room += CMSG_SPACE(sizeof(int)) / 2) {
		peer_text(o, op_puts, 0, "after");
		settle(o->fd);
		obs_control(o->fd, room, MSG_PEEK);
		obs_control(o->fd, room, 0);
	}
}

static long op_send_credentials(struct obs *o, long a, long b)
{
	struct ucred me = { getpid(), getuid(), getgid() };
	union {
		char bytes[CMSG_SPACE(sizeof(me))];
		struct cmsghdr align;
	} control = { { 0 } };
	struct iovec v = { (void *)"signed", 6 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };

	(void)a;
	(void)b;
	control.align = (struct cmsghdr){ CMSG_LEN(sizeof(me)), SOL_SOCKET, SCM_CREDENTIALS };
	memcpy(CMSG_DATA(&control.align), &me, sizeof(me));
	return sendmsg(o->fd, &m, MSG_NOSIGNAL);
}

/* Credentials that the sender states itself, to who did not ask for them, and who then does. */
static void signed_messages(struct obs *o)
{
	int one = 1;

	obs("peer sends", peer(o, op_send_credentials, 0, 0));
	obs_control(o->fd, 200, 0);
	peer_text(o, op_puts, 0, "plain");
	obs_control(o->fd, 200, 0);
	obs("set", setsockopt(o->fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)));
	obs("peer sends", peer(o, op_send_credentials, 0, 0));
	obs_control(o->fd, 200, MSG_PEEK);
	obs_control(o->fd, 200, 0);
	obs("peer sends", peer(o, op_send_credentials, 0, 0));
	obs_control(o->fd, CMSG_SPACE(sizeof(struct ucred)) - 8, 0);
}

static void pidfds(struct obs *o)
{
	asked_for(o, SO_PASSPIDFD);
}

static void unread_too(struct obs *o)
{
	asked_for(o, SO_INQ);
}

/* Who accepts from a listener with such an option has it too. */
static void options_of_a_listener(struct obs *o)
{
	static const uint32_t kinds[] = { UNIXP, SEQP };
	static const int names[] = { SO_PASSCRED, SO_PASSPIDFD };
	int one = 1;

	(void)o;
	for (int i = 0; i < 4; i++) {
		struct obs_name at;
		int lfd = listener(kinds[i / 2], 5, &at), c = sock_of(kinds[i / 2], 0), a;

		obs("set", setsockopt(lfd, SOL_SOCKET, names[i % 2], &one, sizeof(one)));
		if (connect(c, (struct sockaddr *)&at.sa, at.len))
			die("connect");
		a = accept(lfd, NULL, NULL);
		obs_getopt("inherited", a, SOL_SOCKET, names[i % 2]);
		warm_pair(c, a);
		obs_send(c, "who", 0);
		obs_control(a, 200, 0);
		close(a);
		close(c);
		close(lfd);
	}
}

static void control_nowhere(struct obs *o)
{
	volatile uintptr_t low = 16;
	struct iovec v = { (void *)"x", 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = (void *)low, .msg_controllen = 64 };
	struct mmsghdr one = { .msg_hdr = m };

	obs("sendmsg", sendmsg(o->fd, &m, 0));
	obs("sendmmsg", sendmmsg(o->fd, &one, 1, 0));
	obs("sendmmsg of nothing", sendmmsg(o->fd, (struct mmsghdr *)low, 1, 0));
	m.msg_controllen = (size_t)INT32_MAX + 1;
	obs("sendmsg of much", sendmsg(o->fd, &m, 0));
	obs_send(o->fd, "fine", 0);
	obs("peer recv", peer(o, op_recv, 10, 0));
}

static void bad_control_data(struct obs *o)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec v = { (void *)"x", 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	int bad = 9999;

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &bad, sizeof(bad));
	obs("closed descriptor", sendmsg(o->fd, &m, 0));
	c->cmsg_len = 3;
	obs("bad length", sendmsg(o->fd, &m, 0));
	c->cmsg_len = CMSG_LEN(sizeof(int));
	c->cmsg_type = 77;
	obs("unknown type", sendmsg(o->fd, &m, 0));
	obs("peer sees nothing", peer(o, op_recv, 10, MSG_DONTWAIT));
	obs_send(o->fd, "fine", 0);
	obs("peer recv", peer(o, op_recv, 10, 0));
}

static void timestamps(struct obs *o)
{
	char buf[20], control[100];
	struct iovec v = { buf, sizeof(buf) };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	int one = 1;

	obs("SO_TIMESTAMP", setsockopt(o->fd, SOL_SOCKET, SO_TIMESTAMP, &one, sizeof(one)));
	peer_text(o, op_puts, 0, "when");
	obs("recvmsg", recvmsg(o->fd, &m, 0));
	note("control: %d", CMSG_FIRSTHDR(&m) ? CMSG_FIRSTHDR(&m)->cmsg_type : 0);
}

static void packet_info(struct obs *o)
{
	char buf[20], control[100];
	struct iovec v = { buf, sizeof(buf) };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	int one = 1;

	obs("IP_PKTINFO", setsockopt(o->fd, IPPROTO_IP, IP_PKTINFO, &one, sizeof(one)));
	peer_text(o, op_puts, 0, "where");
	obs("recvmsg", recvmsg(o->fd, &m, 0));
	note("control: %d", CMSG_FIRSTHDR(&m) ? CMSG_FIRSTHDR(&m)->cmsg_type : 0);
	peer_text(o, op_puts, 0, "where");
	obs_recv(o->fd, 10, 0);
}

int main(int argc, char **argv)
{
	static const struct obs_case cases[] = {
		{ "descriptors", descriptors, LOCAL | SEQP | DGPAIR, 0 },
		{ "descriptors among text", among_text, LOCAL | SEQP | DGPAIR, 0 },
		{ "a connected socket", a_connected_socket, PAIR, 0 },
		{ "a listener", a_listener, PAIR, 0 },
		{ "a socket passed and used", itself_elsewhere, PAIR, 0 },
		{ "credentials", credentials, LOCAL | SEQP | DGPAIR, 0 },
		{ "SCM_CREDENTIALS", signed_messages, LOCAL | SEQP | DGPAIR, 0 },
		{ "SO_PASSPIDFD", pidfds, LOCAL | SEQP | DGPAIR, 0 },
		{ "SO_INQ", unread_too, LOCAL, 0 },
		{ "options of a listener", options_of_a_listener, SOLO, 0 },
		{ "control data that is nowhere", control_nowhere, STREAM | SEQP | DGPAIR | UDP4, 0 },
		{ "bad control data", bad_control_data, STREAM | DGPAIR, 0 },
		{ "timestamps", timestamps, DGRAM, 0 },
		{ "packet information", packet_info, UDP4, 0 },
		{ 0 },
	};

	return obs_main(argc, argv, cases);
}
