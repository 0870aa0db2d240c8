/* SPDX-License-Identifier: MIT */
/* ring: yes */
/* The rest of a stream, on connections that are on the ring already: looking ahead, low water, signals for descriptors, options that only
 * show, the error queue, addresses that nobody may touch. */
#include "obs.h"

#include <linux/sockios.h>
#include <sys/epoll.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

static int set(int fd, int name, int value)
{
	return setsockopt(fd, SOL_SOCKET, name, &value, sizeof(value));
}

/* --- looking ahead --- */

static void look(struct obs *o)
{
	obs_recv(o->fd, 3, MSG_PEEK | MSG_DONTWAIT);
	obs_getopt("SO_PEEK_OFF", o->fd, SOL_SOCKET, SO_PEEK_OFF);
}

static void peek_offset(struct obs *o)
{
	obs_getopt("SO_PEEK_OFF", o->fd, SOL_SOCKET, SO_PEEK_OFF);
	peer_text(o, op_puts, 0, "0123456789");
	settle(o->fd);
	obs("set", set(o->fd, SO_PEEK_OFF, 2));
	look(o);
	look(o);
	obs_recv(o->fd, 4, 0);
	look(o);
	look(o);
	obs_recv(o->fd, 3, MSG_PEEK | MSG_DONTWAIT);
	peer_text(o, op_puts, 0, "abcdef");
	obs_recv(o->fd, 6, 0);
	settle(o->fd);
	look(o);
	look(o);
	obs("off", set(o->fd, SO_PEEK_OFF, -1));
	look(o);
	obs_recv(o->fd, 100, 0);
}

static void peek_offset_before_data(struct obs *o)
{
	obs("set", set(o->fd, SO_PEEK_OFF, 0));
	peer_text(o, op_puts, 0, "0123456789");
	settle(o->fd);
	look(o);
	look(o);
	obs_recv(o->fd, 5, 0);
	look(o);
	obs_recv(o->fd, 100, 0);
	warm(o);
	peer_text(o, op_puts, 0, "again");
	settle(o->fd);
	obs_recv(o->fd, 100, 0);
}

static void peek_at_much(struct obs *o)
{
	static char buf[150000], want[150000];

	peer(o, op_send, 100000, 0);
	pattern(want, sizeof(want), 0, 1);
	settle(o->fd);
	for (int i = 0; i < 2; i++) {
		long n = recv(o->fd, buf, 100000, MSG_PEEK | MSG_WAITALL);

		obs("peek", n);
		note("right: %d", n == 100000 && memcmp(buf, want, 100000) == 0);
	}
	obs("recv", recv(o->fd, buf, 100000, MSG_WAITALL));
	note("right: %d", memcmp(buf, want, 100000) == 0);
}

static long op_peek_vectors(struct obs *o, long a, long b)
{
	char x[4] = "", y[4] = "", z[8] = "";
	struct iovec v[3] = { { x, 3 }, { y, 3 }, { z, 4 } };
	struct msghdr m = { .msg_iov = v, .msg_iovlen = 3 };
	long rc = recvmsg(o->fd, &m, MSG_PEEK | MSG_WAITALL);

	(void)a;
	(void)b;
	obs_say(o, "%s %s %s", x, y, z);
	return rc;
}

/* TCP waits for all of it although it only looks. */
static void peek_waits_for_all(struct obs *o)
{
	peer_start(o, op_peek_vectors, 0, 0);
	obs_send(o->fd, "01234", 0);
	note("still blocks: %d", peer_asleep(o));
	obs_send(o->fd, "56789xyz", 0);
	obs("peer peek", peer_done(o));
	note("peer has %s", o->say);
	obs("peer recv", peer(o, op_recv, 100, 0));
	note("peer has %s", o->say);
}

static void peek_waits_to_the_end(struct obs *o)
{
	peer_start(o, op_peek_vectors, 0, 0);
	obs_send(o->fd, "01234", 0);
	note("still blocks: %d", peer_asleep(o));
	shutdown(o->fd, SHUT_WR);
	obs("peer peek", peer_done(o));
	note("peer has %s", o->say);
}

static void nothing_is_waited_for(struct obs *o)
{
	peer_start(o, op_recv, 0, 0);
	note("blocks: %d", peer_asleep(o));
	obs_send(o->fd, "x", 0);
	obs("peer recv 0", peer_done(o));
	obs("peer recv", peer(o, op_recv, 10, 0));
	note("peer has %s", o->say);
}

/* What waits is read as it was sent, whatever else lies in the kernel's queue. */
static void peek_offset_of_records(struct obs *o)
{
	peer_text(o, op_puts, 0, "first");
	peer_text(o, op_puts, 0, "second");
	settle(o->fd);
	obs("set", set(o->fd, SO_PEEK_OFF, 0));
	peer_text(o, op_puts, 0, "third");
	for (int i = 0; i < 3; i++)
		obs_recv(o->fd, 100, 0);
	obs_recv(o->fd, 100, MSG_DONTWAIT);
	peer_text(o, op_puts, 0, "fourth");
	settle(o->fd);
	look(o);
	look(o);
	obs_recv(o->fd, 100, MSG_DONTWAIT);
	obs("off", set(o->fd, SO_PEEK_OFF, -1));
	obs_getopt("SO_PEEK_OFF", o->fd, SOL_SOCKET, SO_PEEK_OFF);
}

/* --- low water --- */

static long op_lowat(struct obs *o, long n, long b)
{
	(void)b;
	return set(o->fd, SO_RCVLOWAT, (int)n);
}

/* Until so many bytes are there; readiness does not tell. */
static long op_await(struct obs *o, long bytes, long b)
{
	int64_t end = deadline_ms();
	int n = 0;

	(void)b;
	while (ioctl(o->fd, FIONREAD, &n) == 0 && n < bytes && now_ms() < end)
		usleep(200);
	return n;
}

static void low_water(struct obs *o)
{
	obs("peer set", peer(o, op_lowat, 5, 0));
	peer_start(o, op_recv, 10, 0);
	obs_send(o->fd, "ab", 0);
	note("still blocks: %d", peer_asleep(o));
	obs_send(o->fd, "cd", 0);
	note("still blocks: %d", peer_asleep(o));
	obs_send(o->fd, "efghi", 0); /* as many again: TCP counts what the reader has taken by then no more, and may leave it asleep */
	obs("peer recv", peer_done(o));
	note("peer has %s", o->say);
	obs_send(o->fd, "gh", 0);
	obs("less is asked for", peer(o, op_recv, 2, 0));
	obs_send(o->fd, "ij", 0);
	obs("there", peer(o, op_await, 2, 0));
	obs("DONTWAIT", peer(o, op_recv, 10, MSG_DONTWAIT));
	obs_send(o->fd, "kl", 0);
	shutdown(o->fd, SHUT_WR);
	obs("at the end", peer(o, op_recv, 10, 0));
	note("peer has %s", o->say);
}

static void low_water_and_poll(struct obs *o)
{
	obs("set", set(o->fd, SO_RCVLOWAT, 5));
	obs_getopt("SO_RCVLOWAT", o->fd, SOL_SOCKET, SO_RCVLOWAT);
	peer_text(o, op_puts, 0, "abc");
	obs("there", op_await(o, 3, 0));
	obs_poll(o->fd, POLLIN);
	peer_text(o, op_puts, 0, "de");
	obs_poll_until(o->fd, POLLIN);
	obs_recv(o->fd, 3, 0);
	obs_poll(o->fd, POLLIN);
	obs("set 1", set(o->fd, SO_RCVLOWAT, 1));
	obs_poll(o->fd, POLLIN);
	obs("set 5", set(o->fd, SO_RCVLOWAT, 5));
	peer(o, op_shutdown, SHUT_WR, 0);
	obs_poll_until(o->fd, POLLIN);
	obs_recv(o->fd, 10, 0);
}

static void show(const char *what, int ep, int timeout)
{
	struct epoll_event ev = { 0 };

	int n = epoll_wait(ep, &ev, 1, timeout);

	obs(what, n);
	note("%s: events %x", what, n == 1 ? ev.events : 0);
}

static void low_water_and_epoll(struct obs *o)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int ep = epoll_create1(EPOLL_CLOEXEC);

	obs("set", set(o->fd, SO_RCVLOWAT, 5));
	obs("add", epoll_ctl(ep, EPOLL_CTL_ADD, o->fd, &ev));
	peer_text(o, op_puts, 0, "abc");
	obs("there", op_await(o, 3, 0));
	show("too little", ep, 0);
	peer_text(o, op_puts, 0, "de");
	show("enough", ep, 3000);
	obs_recv(o->fd, 3, 0);
	show("too little again", ep, 0);
	obs("set 2", set(o->fd, SO_RCVLOWAT, 2));
	show("now enough", ep, 3000);
	obs("set 5", set(o->fd, SO_RCVLOWAT, 5));
	show("not any more", ep, 0);
	peer(o, op_shutdown, SHUT_WR, 0);
	show("the end", ep, 3000);
	close(ep);
}

/* --- signals --- */

static void await_signals(int n)
{
	int64_t end = deadline_ms();

	while (obs_signals < n && now_ms() < end)
		usleep(500);
	note("signals: %d", obs_signals >= n);
}

static int async(int fd, bool on)
{
	int fl = fcntl(fd, F_GETFL);

	return fcntl(fd, F_SETFL, on ? fl | O_ASYNC : fl & ~O_ASYNC);
}

static void sigio(struct obs *o)
{
	count_signal(SIGIO, SA_RESTART);
	obs("F_SETOWN", fcntl(o->fd, F_SETOWN, getpid()));
	obs("O_ASYNC", async(o->fd, true));
	peer_text(o, op_puts, 0, "first");
	await_signals(1);
	obs_recv(o->fd, 100, 0);
	count_signal(SIGUSR2, SA_RESTART);
	obs("F_SETSIG", fcntl(o->fd, F_SETSIG, SIGUSR2));
	peer_text(o, op_puts, 0, "second");
	await_signals(1);
	obs_recv(o->fd, 100, 0);
	obs("no O_ASYNC", async(o->fd, false));
	warm(o);
	count_signal(SIGUSR2, SA_RESTART);
	peer_text(o, op_puts, 0, "third");
	settle(o->fd);
	obs_recv(o->fd, 100, 0);
	note("signals: %d", (int)obs_signals);
}

static void sigio_by_ioctl(struct obs *o)
{
	int one = 1, own = getpid();

	count_signal(SIGIO, SA_RESTART);
	obs("FIOSETOWN", ioctl(o->fd, FIOSETOWN, &own));
	obs("FIOASYNC", ioctl(o->fd, FIOASYNC, &one));
	note("O_ASYNC: %d", !!(fcntl(o->fd, F_GETFL) & O_ASYNC));
	peer_text(o, op_puts, 0, "data");
	await_signals(1);
	obs_recv(o->fd, 100, 0);
	peer(o, op_close, 0, 0);
	await_signals(2);
}


/* Asked for before connect(), it holds after it. */
static void sigio_before_connect(struct obs *o)
{
	struct obs_name at;
	int lfd = listener(o->kind, 5, &at), fd = sock_of(o->kind, 0), a;

	count_signal(SIGIO, SA_RESTART);
	obs("F_SETOWN", fcntl(fd, F_SETOWN, getpid()));
	obs("O_ASYNC", async(fd, true));
	obs("connect", connect(fd, (struct sockaddr *)&at.sa, at.len));
	note("O_ASYNC: %d", !!(fcntl(fd, F_GETFL) & O_ASYNC));
	note("F_GETOWN is me: %d", fcntl(fd, F_GETOWN) == getpid());
	usleep(20000);
	count_signal(SIGIO, SA_RESTART);
	a = accept(lfd, NULL, NULL);
	obs("send", send(a, "hello", 5, 0));
	await_signals(1);
	obs_recv(fd, 10, 0);
	close(a);
	close(fd);
	close(lfd);
}

struct poke {
	pid_t tid;
};

static void *poke_thread(void *arg)
{
	struct poke *p = arg;

	if (thread_asleep(getpid(), p->tid, -1))
		tgkill(getpid(), p->tid, SIGUSR1);
	return NULL;
}

/* A call that has moved bytes ends with them, SA_RESTART or not. */
static void waitall_is_not_restarted(struct obs *o)
{
	struct poke p = { .tid = gettid() };
	pthread_t t;

	count_signal(SIGUSR1, SA_RESTART);
	peer_text(o, op_puts, 0, "part");
	settle(o->fd);
	pthread_create(&t, NULL, poke_thread, &p);
	obs_recv(o->fd, 10, MSG_WAITALL);
	pthread_join(t, NULL);
	note("signals: %d", (int)obs_signals);
	obs("set", set(o->fd, SO_RCVLOWAT, 8));
	peer_text(o, op_puts, 0, "more");
	settle(o->fd);
	pthread_create(&t, NULL, poke_thread, &p);
	obs_recv(o->fd, 10, 0);
	pthread_join(t, NULL);
	note("signals: %d", (int)obs_signals);
}

static void send_is_not_restarted(struct obs *o)
{
	static char buf[16 << 20];
	struct poke p = { .tid = gettid() };
	pthread_t t;
	ssize_t rc;

	count_signal(SIGUSR1, SA_RESTART);
	pthread_create(&t, NULL, poke_thread, &p);
	rc = send(o->fd, buf, sizeof(buf), 0);
	pthread_join(t, NULL);
	note("part of it: %d", rc > 0 && rc < (ssize_t)sizeof(buf));
	note("signals: %d", (int)obs_signals);
	shutdown(o->fd, SHUT_WR);
	note("all arrive: %d", peer(o, op_sink, 0, 0) == rc);
}

/* --- the error queue, bytes that are not copied --- */

static void error_queue(struct obs *o)
{
	peer_text(o, op_puts, 0, "data");
	settle(o->fd);
	obs_recv(o->fd, 10, MSG_ERRQUEUE | MSG_DONTWAIT);
	obs_recv(o->fd, 10, MSG_DONTWAIT);
}

static void zerocopy_not_asked_for(struct obs *o)
{
	obs_send(o->fd, "not copied", MSG_ZEROCOPY);
	obs("peer recv", peer(o, op_recv, 100, 0));
	note("peer has %s", o->say);
	obs_poll(o->fd, POLLIN);
	obs_recv(o->fd, 10, MSG_DONTWAIT);
}

/* --- options that only show --- */

static void tcp_state(int fd)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);

	obs("TCP_INFO", getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len));
	note("state %d", info.tcpi_state);
}

static void states(struct obs *o)
{
	tcp_state(o->fd);
	obs_send(o->fd, "x", 0);
	peer(o, op_recv, 10, 0);
	tcp_state(o->fd);
	peer(o, op_shutdown, SHUT_WR, 0);
	obs_poll_until(o->fd, POLLRDHUP);
	tcp_state(o->fd);
	obs_recv(o->fd, 10, 0);
	tcp_state(o->fd);
	shutdown(o->fd, SHUT_WR);
	peer(o, op_recv, 10, 0);
	tcp_state(o->fd);
}

static void half_closed_state(struct obs *o)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);

	shutdown(o->fd, SHUT_WR);
	peer(o, op_recv, 10, 0);
	obs("TCP_INFO", getsockopt(o->fd, IPPROTO_TCP, TCP_INFO, &info, &len));
	note("awaits an answer to its end, or the other's: %d", info.tcpi_state == TCP_FIN_WAIT1 || info.tcpi_state == TCP_FIN_WAIT2);
}

static void others(struct obs *o)
{
	unsigned long long cookie[2] = { 0 };
	char device[16] = "";
	socklen_t len = sizeof(int);
	int value = -7;

	obs("SO_INCOMING_CPU", getsockopt(o->fd, SOL_SOCKET, SO_INCOMING_CPU, &value, &len));
	note("a processor: %d", value >= 0);
	for (int i = 0; i < 2; i++) {
		len = sizeof(cookie[i]);
		obs("SO_COOKIE", getsockopt(o->fd, SOL_SOCKET, SO_COOKIE, &cookie[i], &len));
	}
	note("its own: %d", cookie[0] && cookie[0] == cookie[1]);
	len = sizeof(device);
	obs("SO_BINDTODEVICE", getsockopt(o->fd, SOL_SOCKET, SO_BINDTODEVICE, device, &len));
	note("device \"%s\" %u", device, len);
	value = 5000;
	obs("TCP_USER_TIMEOUT", setsockopt(o->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &value, sizeof(value)));
	obs_getopt("TCP_USER_TIMEOUT", o->fd, IPPROTO_TCP, TCP_USER_TIMEOUT);
	value = 1;
	obs("TCP_CORK", setsockopt(o->fd, IPPROTO_TCP, TCP_CORK, &value, sizeof(value)));
	obs_send(o->fd, "cork", 0);
	value = 0;
	obs("TCP_CORK", setsockopt(o->fd, IPPROTO_TCP, TCP_CORK, &value, sizeof(value)));
	obs("peer recv", peer(o, op_recv, 100, 0));
	note("peer has %s", o->say);
	if (o->domain == AF_INET)
		obs_getopt("IP_MTU", o->fd, IPPROTO_IP, IP_MTU);
	obs("SO_TIMESTAMP", set(o->fd, SO_TIMESTAMP, 1));
	peer_text(o, op_puts, 0, "when");
	obs_recv(o->fd, 10, 0);
}

/* Options of callers and listeners that concern the meeting; who asks for them still meets. */
static void before_meeting(struct obs *o)
{
	static const struct { const char *name; int level, opt, value; } asked[] = {
		{ "TCP_DEFER_ACCEPT", IPPROTO_TCP, TCP_DEFER_ACCEPT, 1 },
		{ "TCP_FASTOPEN", IPPROTO_TCP, TCP_FASTOPEN, 5 },
		{ "SO_TIMESTAMP", SOL_SOCKET, SO_TIMESTAMP, 1 },
		{ "SO_ZEROCOPY", SOL_SOCKET, SO_ZEROCOPY, 1 },
	};

	for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); i++) {
		struct obs_name at;
		int lfd = listener(o->kind, 5, &at), c = sock_of(o->kind, 0), a;
		char buf[10];

		obs(asked[i].name, setsockopt(lfd, asked[i].level, asked[i].opt, &asked[i].value, sizeof(int)));
		if (asked[i].level == SOL_SOCKET)
			obs(asked[i].name, setsockopt(c, asked[i].level, asked[i].opt, &asked[i].value, sizeof(int)));
		obs("connect", connect(c, (struct sockaddr *)&at.sa, at.len));
		obs("send", send(c, "hi", 2, 0));
		a = accept(lfd, NULL, NULL);
		obs("recv", recv(a, buf, sizeof(buf), 0));
		obs_getopt(asked[i].name, a, asked[i].level, asked[i].opt);
		warm_pair(c, a);
		close(lfd);
		close(a);
		close(c);
	}
}

static void to_a_device(struct obs *o)
{
	struct obs_name at;
	int lfd = listener(o->kind, 5, &at), c = sock_of(o->kind, 0), a;
	char buf[10];

	obs("SO_BINDTODEVICE", setsockopt(c, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3));
	obs("connect", connect(c, (struct sockaddr *)&at.sa, at.len));
	a = accept(lfd, NULL, NULL);
	obs("send", send(c, "hi", 2, 0));
	obs("recv", recv(a, buf, sizeof(buf), 0));
	warm_pair(c, a);
}

/* Bytes that are not copied, and the message that says when they may be changed. */
static void zerocopy(struct obs *o)
{
	struct obs_name at;
	int lfd = listener(o->kind, 5, &at), c = sock_of(o->kind, 0), a;
	char control[200], buf[10];
	struct iovec v = { buf, sizeof(buf) };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };

	obs("SO_ZEROCOPY", set(c, SO_ZEROCOPY, 1));
	obs("connect", connect(c, (struct sockaddr *)&at.sa, at.len));
	a = accept(lfd, NULL, NULL);
	obs("send", send(c, "hello", 5, MSG_ZEROCOPY));
	obs("recv", recv(a, buf, sizeof(buf), 0));
	obs_poll_until(c, POLLPRI);
	obs("recvmsg ERRQUEUE", recvmsg(c, &m, MSG_ERRQUEUE));
	note("control: %d", CMSG_FIRSTHDR(&m) ? CMSG_FIRSTHDR(&m)->cmsg_level : -1);
	close(a);
	close(c);
	close(lfd);
}

/* A connection is dissolved and another made; what was bound stays bound. */
static void dissolved(struct obs *o)
{
	struct sockaddr_storage nobody = { .ss_family = AF_UNSPEC };
	struct sockaddr_storage who;

	for (int bound = 0; bound < 2; bound++) {
		struct obs_name at, own;
		int lfd = listener(o->kind, 5, &at), c = sock_of(o->kind, 0), a;
		socklen_t len;

		name_any(&own, o->kind);
		if (bound && bind(c, (struct sockaddr *)&own.sa, own.len))
			die("bind");
		obs("connect", connect(c, (struct sockaddr *)&at.sa, at.len));
		a = accept(lfd, NULL, NULL);
		warm_pair(c, a);
		name_get(c, &own);
		obs("dissolve", connect(c, (struct sockaddr *)&nobody, sizeof(nobody)));
		len = sizeof(who);
		obs("getpeername", getpeername(c, (struct sockaddr *)&who, &len));
		len = sizeof(who);
		obs("getsockname", getsockname(c, (struct sockaddr *)&who, &len));
		note("the port it had: %d", ((struct sockaddr_in *)&who)->sin_port == ((struct sockaddr_in *)&own.sa)->sin_port);
		obs_recv(a, 10, 0);
		close(a);
		obs("connect", connect(c, (struct sockaddr *)&at.sa, at.len));
		len = sizeof(who);
		a = accept(lfd, (struct sockaddr *)&who, &len);
		if (bound)
			note("the port it had: %d", ((struct sockaddr_in *)&who)->sin_port == ((struct sockaddr_in *)&own.sa)->sin_port);
		warm_pair(c, a);
		close(a);
		close(c);
		close(lfd);
	}
}

static void pidfd(struct obs *o)
{
	int fd = -1;
	socklen_t len = sizeof(fd);
	int rc = getsockopt(o->fd, SOL_SOCKET, SO_PEERPIDFD, &fd, &len);

	obs("SO_PEERPIDFD", rc);
	note("a descriptor: %d", rc == 0 && fd >= 0);
}

/* --- credentials asked for while bytes wait --- */

static void credentials_late(struct obs *o)
{
	char buf[20], control[CMSG_SPACE(sizeof(struct ucred))];
	struct iovec v = { buf, sizeof(buf) };
	struct ucred cred = { 0 };

	peer_text(o, op_puts, 0, "before");
	settle(o->fd);
	obs("SO_PASSCRED", set(o->fd, SO_PASSCRED, 1));
	for (int i = 0; i < 2; i++) {
		struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };

		obs("recvmsg", recvmsg(o->fd, &m, 0));
		note("control: %d flags %x", CMSG_FIRSTHDR(&m) ? CMSG_FIRSTHDR(&m)->cmsg_type : 0, m.msg_flags);
		if (CMSG_FIRSTHDR(&m))
			memcpy(&cred, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(cred));
		if (CMSG_FIRSTHDR(&m) && i)
			note("the peer: %d uid %d gid %d", cred.pid == o->pid, (int)cred.uid, (int)cred.gid);
		else if (CMSG_FIRSTHDR(&m))
			note("pid %d uid %d gid %d", cred.pid == o->pid, (int)cred.uid, (int)cred.gid);
		if (!i)
			peer_text(o, op_puts, 0, "after");
	}
}

/* --- what is queued --- */

static void queued(struct obs *o)
{
	int n = -1;

	obs("SIOCOUTQ", ioctl(o->fd, SIOCOUTQ, &n));
	note("nothing: %d", n == 0);
	obs_send(o->fd, "0123456789", 0);
	obs("SIOCOUTQ", ioctl(o->fd, SIOCOUTQ, &n));
	if (o->domain == AF_UNIX)
		note("something: %d", n > 0);
	peer(o, op_recv, 10, 0);
	for (int64_t end = deadline_ms(); n && now_ms() < end; usleep(500))
		ioctl(o->fd, SIOCOUTQ, &n);
	note("nothing: %d", n == 0);
}

static void nothing_to_who_has_gone(struct obs *o)
{
	count_signal(SIGPIPE, 0);
	peer(o, op_close, 0, 0);
	obs_poll_until(o->fd, POLLIN);
	obs("send 0", send(o->fd, "", 0, 0));
	obs("write 0", write(o->fd, "", 0));
	note("signals: %d", (int)obs_signals);
	obs_recv(o->fd, 10, 0);
}

/* --- addresses that nobody may touch --- */

static void no_mans_land(struct obs *o)
{
	volatile uintptr_t low = 16, high = (uintptr_t)-4096; /* the compiler must not know */
	void *nowhere[2] = { (void *)low, (void *)high };
	char good[4] = "";

	for (int i = 0; i < 2; i++) {
		struct iovec out[2] = { { (void *)"good", 4 }, { nowhere[i], 4 } }, in[2] = { { good, 2 }, { nowhere[i], 4 } };
		struct msghdr m = { .msg_iov = nowhere[i], .msg_iovlen = 1 };

		obs("send", send(o->fd, nowhere[i], 4, MSG_NOSIGNAL));
		if (o->type != SOCK_STREAM)
			obs("writev", writev(o->fd, out, 2));
		obs("sendmsg of nothing", sendmsg(o->fd, nowhere[i], 0));
		obs("sendmsg with bad vectors", sendmsg(o->fd, &m, 0));
		obs("recvmsg into nothing", recvmsg(o->fd, nowhere[i], MSG_DONTWAIT));
		obs("recvmsg with bad vectors", recvmsg(o->fd, &m, MSG_DONTWAIT));
		obs("send 0", o->type == SOCK_STREAM ? send(o->fd, (void *)low, 0, 0) : 0);
		peer_text(o, op_puts, 0, "data");
		settle(o->fd);
		obs("recv PEEK", recv(o->fd, nowhere[i], 4, MSG_PEEK));
		obs("readv", readv(o->fd, in, 2));
		obs_recv(o->fd, 10, MSG_DONTWAIT);
		peer_text(o, op_puts, 0, "da");
		settle(o->fd);
		if (i == 0)
			obs("readv of what fits", readv(o->fd, in, 2));
	}
	if (o->type != SOCK_STREAM || obs_recv(o->fd, 10, MSG_DONTWAIT) >= 0)
		obs_send(o->fd, "alive", 0);
	obs("peer recv", peer(o, op_recv, 100, MSG_DONTWAIT));
}

int main(int argc, char **argv)
{
	static const struct obs_case cases[] = {
		{ "SO_PEEK_OFF with data waiting", peek_offset, STREAM, 0 },
		{ "SO_PEEK_OFF before data", peek_offset_before_data, STREAM, 0 },
		{ "SO_PEEK_OFF of records", peek_offset_of_records, SEQ | DGPAIR | UDP, 0 },
		{ "MSG_PEEK at much", peek_at_much, STREAM, 0 },
		{ "MSG_PEEK and MSG_WAITALL", peek_waits_for_all, TCP, 0 },
		{ "MSG_PEEK and MSG_WAITALL, to the end", peek_waits_to_the_end, TCP, 0 },
		{ "recv of no bytes", nothing_is_waited_for, STREAM, 0 },
		{ "SO_RCVLOWAT", low_water, STREAM, 0 },
		{ "SO_RCVLOWAT and poll", low_water_and_poll, STREAM, 0 },
		{ "SO_RCVLOWAT and epoll", low_water_and_epoll, STREAM, 0 },
		{ "SIGIO", sigio, STREAM | SEQP, 0 },
		{ "SIGIO by ioctl", sigio_by_ioctl, STREAM | SEQP, 0 },
		{ "SIGIO, asked for before connect", sigio_before_connect, TCP4 | TCP6 | UNIXP, COLD_ONLY },
		{ "MSG_WAITALL is not restarted", waitall_is_not_restarted, STREAM, 0 },
		{ "send is not restarted", send_is_not_restarted, STREAM, 0 },
		{ "the error queue", error_queue, STREAM | SEQP, 0 },
		{ "MSG_ZEROCOPY without SO_ZEROCOPY", zerocopy_not_asked_for, STREAM, 0 },
		{ "TCP_INFO's state", states, TCP, 0 },
		{ "TCP_INFO's state, half-closed", half_closed_state, TCP, 0 },
		{ "other options", others, STREAM, 0 },
		{ "options before meeting", before_meeting, TCP4 | TCP6, COLD_ONLY },
		{ "SO_BINDTODEVICE", to_a_device, TCP4, COLD_ONLY },
		{ "MSG_ZEROCOPY", zerocopy, TCP4 | TCP6, COLD_ONLY },
		{ "connect to AF_UNSPEC", dissolved, TCP4 | TCP6, COLD_ONLY },
		{ "SO_PEERPIDFD", pidfd, STREAM | SEQP, 0 },
		{ "SO_PASSCRED with data waiting", credentials_late, LOCAL | SEQP, 0 },
		{ "SIOCOUTQ", queued, STREAM | SEQP, 0 },
		{ "no bytes to who has gone", nothing_to_who_has_gone, STREAM, 0 },
		{ "addresses that nobody may touch", no_mans_land, STREAM | SEQP | UDP4 | DGPAIR, 0 },
		{ 0 },
	};

	return obs_main(argc, argv, cases);
}
