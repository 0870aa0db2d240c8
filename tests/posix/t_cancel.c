/* SPDX-License-Identifier: MIT */
/* ring: yes */
/* Threads that are cancelled in, or before, calls on sockets; and calls whose descriptor another thread takes away. */
#include "obs.h"

#include <sys/epoll.h>
#include <sys/select.h>

enum { BY_RECV, BY_POLL, BY_SELECT, BY_EPOLL, BY_RECVMSG, BY_SEND, BY_ACCEPT, WAYS };
static const char *const ways[WAYS] = { "recv", "poll", "select", "epoll_wait", "recvmsg", "send", "accept" };

struct victim {
	pthread_t t;
	_Atomic pid_t tid;
	_Atomic long rounds;
	int fd, ep, way, err;
	long rc;
	bool cleaned;
	struct obs *o;
};

static long block_by(int way, int fd, int ep)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct epoll_event ev;
	struct iovec iov = { &(char){ 0 }, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	fd_set set;
	char buf[100] = "";

	FD_ZERO(&set);
	FD_SET(fd, &set);
	switch (way) {
	case BY_RECV:
		return recv(fd, buf, sizeof(buf), 0);
	case BY_SEND:
		return send(fd, buf, sizeof(buf), MSG_NOSIGNAL);
	case BY_POLL:
		return poll(&p, 1, -1);
	case BY_SELECT:
		return select(fd + 1, &set, NULL, NULL, NULL);
	case BY_EPOLL:
		return epoll_wait(ep, &ev, 1, -1);
	case BY_RECVMSG:
		return recvmsg(fd, &m, 0);
	default:
		return accept(fd, NULL, NULL);
	}
}

static void clean(void *arg)
{
	struct victim *v = arg;

	v->cleaned = true;
}

static void *blocked(void *arg)
{
	struct victim *v = arg;

	pthread_cleanup_push(clean, v);
	v->tid = gettid();
	v->rc = block_by(v->way, v->fd, v->ep);
	v->err = errno;
	pthread_cleanup_pop(0);
	return NULL;
}

static void begin(struct victim *v, void *(*fn)(void *))
{
	v->tid = 0;
	v->rc = -5;
	v->err = 0;
	v->cleaned = false;
	v->rounds = 0;
	pthread_create(&v->t, NULL, fn, v);
}

static bool asleep(struct victim *v)
{
	while (!v->tid)
		usleep(200);
	return thread_asleep(getpid(), v->tid, -1);
}

static bool ended_cancelled(struct victim *v)
{
	void *how;

	pthread_join(v->t, &how);
	return how == PTHREAD_CANCELED;
}

static void cancel_blocked(struct victim *v, int way, int times)
{
	int cancelled = 0, cleaned = 0, slept = 0;

	v->way = way;
	for (int i = 0; i < times; i++) {
		begin(v, blocked);
		slept += asleep(v);
		pthread_cancel(v->t);
		cancelled += ended_cancelled(v);
		cleaned += v->cleaned;
	}
	note("%s: slept %d, cancelled %d, cleaned up %d", ways[way], slept, cancelled, cleaned);
}

static void still_works(struct obs *o)
{
	peer_text(o, op_puts, 0, "still works");
	obs_recv(o->fd, 100, 0);
	obs_send(o->fd, "both ways", 0);
	obs("peer recv", peer(o, op_recv, 100, 0));
}

static void cancelled_in_each_call(struct obs *o)
{
	struct epoll_event ev = { .events = EPOLLIN };
	struct victim v = { .fd = o->fd, .ep = epoll_create1(0), .o = o };

	epoll_ctl(v.ep, EPOLL_CTL_ADD, o->fd, &ev);
	for (int way = BY_RECV; way <= BY_RECVMSG; way++)
		cancel_blocked(&v, way, 3);
	still_works(o);
	/* Whoever waits now really sleeps: nothing was left that keeps it awake. */
	v.way = BY_RECV;
	begin(&v, blocked);
	note("sleeps: %d", asleep(&v));
	peer_text(o, op_puts, 0, "wake up");
	pthread_join(v.t, NULL);
	obs("the next", v.rc);
	obs("close", close(o->fd));
	if (o->type != SOCK_DGRAM)
		obs("peer sees the end", peer(o, op_recv, 10, 0));
}

/* To the last byte; the kernel's TCP moves what is in it, and finds more room, for some time. */
static void fill(int fd)
{
	static char buf[4096];
	struct pollfd room = { .fd = fd, .events = 0 };
	bool more = true;

	while (more) {
		more = false;
		for (size_t n = sizeof(buf); n; n /= 4)
			while (send(fd, buf, n, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
				more = true;
		if (more)
			poll(&room, 1, 100);
	}
}

static void cancelled_in_send(struct obs *o)
{
	struct victim v = { .fd = o->fd, .o = o };

	fill(o->fd);
	cancel_blocked(&v, BY_SEND, 4);
	peer_start(o, op_sink, 0, 0);
	if (o->type == SOCK_STREAM)
		shutdown(o->fd, SHUT_WR);
	else
		close(o->fd);
	note("the peer reads to the end: %d", peer_done(o) > 0);
}

/* It had received some of what it waits for. */
static void *blocked_for_all(void *arg)
{
	struct victim *v = arg;
	char buf[100];

	v->tid = gettid();
	v->rc = recv(v->fd, buf, sizeof(buf), MSG_WAITALL);
	return NULL;
}

static void cancelled_with_bytes_moved(struct obs *o)
{
	struct victim v = { .fd = o->fd };

	peer_text(o, op_puts, 0, "0123456789");
	begin(&v, blocked_for_all);
	if (!asleep(&v))
		die("the reader");
	pthread_cancel(v.t);
	pthread_join(v.t, NULL);
	note("cancelled: %d", v.rc == -5);
	peer_start(o, op_echo, 300, 16);
	note("turns: %d", turns(o->fd, 300));
	obs("peer", peer_done(o));
}

static void cancelled_in_accept(struct obs *o)
{
	static const uint32_t kinds[] = { TCP4, TCP6, UNIXP };
	struct obs_name at;

	for (size_t i = 0; i < 3; i++) {
		struct victim v = { .fd = listener(kinds[i], 5, &at), .o = o };
		int c, a;

		cancel_blocked(&v, BY_ACCEPT, 3);
		c = sock_of(kinds[i], 0);
		obs("connect", connect(c, (struct sockaddr *)&at.sa, at.len));
		a = accept(v.fd, NULL, NULL);
		note("accepted: %d", a >= 0);
		obs_send(c, "hello", 0);
		obs_recv(a, 10, 0);
		close(v.fd);
		close(a);
		close(c);
	}
}

/* --- never asleep --- */

static void *answering(void *arg)
{
	struct victim *v = arg;
	char b[16] = "message";

	v->tid = gettid();
	for (;;) {
		if (send(v->fd, b, 16, MSG_NOSIGNAL) == 16 && recv(v->fd, b, 16, 0) > 0)
			v->rounds++;
	}
	return NULL;
}

static long op_echo_all(struct obs *o, long a, long b)
{
	char buf[4096];
	ssize_t rc;

	(void)a;
	(void)b;
	while ((rc = recv(o->fd, buf, sizeof(buf), 0)) > 0)
		if (send(o->fd, buf, (size_t)rc, MSG_NOSIGNAL) < 0)
			break;
	return 0;
}

/* At any moment of a busy exchange: no lock may stay behind, and no byte's place be unsure. */
static void cancelled_while_busy(struct obs *o)
{
	struct victim v = { .fd = o->fd, .o = o };
	struct pollfd p = { .fd = o->fd, .events = POLLOUT };
	int cancelled = 0, usable = 0;
	char c[64];

	peer_start(o, op_echo_all, 0, 0);
	for (int i = 0; i < 40; i++) {
		begin(&v, answering);
		while (v.rounds < 20)
			usleep(100);
		usleep((unsigned)(i * 37 % 900));
		pthread_cancel(v.t);
		cancelled += ended_cancelled(&v);
		usable += poll(&p, 1, 0) == 1;
		recv(o->fd, c, sizeof(c), MSG_DONTWAIT);
	}
	note("cancelled %d, usable %d", cancelled, usable);
	close(o->fd);
	obs("peer", peer_done(o));
}

static void *reading_much(void *arg)
{
	struct victim *v = arg;
	static char buf[4000];

	v->tid = gettid();
	for (;;)
		if (recv(v->fd, buf, 1, 0) > 0)
			v->rounds++;
	return NULL;
}

/* There is always something to read, so the thread never waits: cancelled all the same. */
static void cancelled_without_waiting(struct obs *o)
{
	struct victim v = { .fd = o->fd, .o = o };

	peer(o, op_send, 100000, 0);
	begin(&v, reading_much);
	while (v.rounds < 10)
		usleep(100);
	pthread_cancel(v.t);
	note("cancelled: %d", ended_cancelled(&v));
}

static void *cancels_itself(void *arg)
{
	struct victim *v = arg;
	char c;

	pthread_cancel(pthread_self());
	v->rounds = 1;
	v->rc = v->way == BY_RECV ? recv(v->fd, &c, 1, 0) : v->way == BY_SEND ? send(v->fd, "x", 1, 0) : block_by(v->way, v->fd, v->ep);
	return NULL;
}

static void pending_at_entry(struct obs *o)
{
	bool cancelled;
	struct epoll_event ev = { .events = EPOLLIN };
	struct victim v = { .fd = o->fd, .ep = epoll_create1(0), .o = o };

	epoll_ctl(v.ep, EPOLL_CTL_ADD, o->fd, &ev);
	peer_text(o, op_puts, 0, "there is something");
	settle(o->fd);
	for (int way = BY_RECV; way <= BY_SEND; way++) {
		v.way = way;
		begin(&v, cancels_itself);
		cancelled = ended_cancelled(&v);
		note("%s: cancelled %d, returned %d", ways[way], cancelled, v.rc != -5);
	}
	obs_recv(o->fd, 100, 0);
	obs_send(o->fd, "nothing was sent before", 0);
	obs("peer recv", peer(o, op_recv, 100, 0));
}

static void *disabled(void *arg)
{
	struct victim *v = arg;
	int old;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	v->tid = gettid();
	v->rc = block_by(v->way, v->fd, v->ep);
	v->err = errno;
	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &old);
	v->rounds = 1;
	pthread_testcancel();
	return NULL;
}

static void cancellation_disabled(struct obs *o)
{
	struct victim v = { .fd = o->fd, .way = BY_RECV, .o = o };
	bool cancelled;

	begin(&v, disabled);
	asleep(&v);
	pthread_cancel(v.t);
	note("sleeps on: %d", asleep(&v));
	peer_text(o, op_puts, 0, "at last");
	cancelled = ended_cancelled(&v);
	note("cancelled: %d, having received %ld", cancelled, v.rc);
}

static void *at_any_instruction(void *arg)
{
	int old;

	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
	return answering(arg);
}

static void cancelled_asynchronously(struct obs *o)
{
	struct victim v = { .fd = o->fd, .o = o };
	struct pollfd p = { .fd = o->fd, .events = POLLOUT };
	int cancelled = 0, usable = 0;

	peer_start(o, op_echo_all, 0, 0);
	for (int i = 0; i < 20; i++) {
		begin(&v, at_any_instruction);
		while (v.rounds < 5)
			usleep(100);
		usleep((unsigned)(i * 53 % 700));
		pthread_cancel(v.t);
		cancelled += ended_cancelled(&v);
		usable += poll(&p, 1, 0) == 1;
	}
	note("cancelled %d, usable %d", cancelled, usable);
	close(o->fd);
	obs("peer", peer_done(o));
}

static void say_goodbye(void *arg)
{
	struct victim *v = arg;

	v->cleaned = send(v->fd, "goodbye", 7, MSG_NOSIGNAL) == 7;
}

static void *polite(void *arg)
{
	struct victim *v = arg;

	pthread_cleanup_push(say_goodbye, v);
	v->tid = gettid();
	v->rc = block_by(v->way, v->fd, v->ep);
	pthread_cleanup_pop(0);
	return NULL;
}

static void cleanup_uses_the_socket(struct obs *o)
{
	struct victim v = { .fd = o->fd, .way = BY_RECV, .o = o };
	bool cancelled;

	for (int i = 0; i < 3; i++) {
		begin(&v, polite);
		asleep(&v);
		pthread_cancel(v.t);
		cancelled = ended_cancelled(&v);
		note("cancelled: %d, sent: %d", cancelled, v.cleaned);
		obs("peer recv", peer(o, op_recv, 100, 0));
	}
	still_works(o);
}

static void exiting_handler(int sig)
{
	(void)sig;
	pthread_exit((void *)7);
}

static void a_thread_ends_in_a_handler(struct obs *o)
{
	struct victim v = { .fd = o->fd, .o = o };
	struct sigaction sa = { .sa_handler = exiting_handler };
	void *how;

	sigaction(SIGUSR1, &sa, NULL);
	for (v.way = BY_RECV; v.way <= BY_SELECT; v.way++) {
		begin(&v, blocked);
		asleep(&v);
		pthread_kill(v.t, SIGUSR1);
		pthread_join(v.t, &how);
		note("ended: %ld, cleaned up: %d", (long)how, v.cleaned);
	}
	still_works(o);
	obs("close", close(o->fd));
	if (o->type != SOCK_DGRAM)
		obs("peer sees the end", peer(o, op_recv, 10, 0));
}

/* --- the descriptor is taken away --- */

static void last_close_under_a_reader(struct obs *o)
{
	struct victim v = { .fd = o->fd, .way = BY_RECV, .o = o };

	begin(&v, blocked);
	asleep(&v);
	obs("close", close(o->fd));
	note("sleeps on: %d", asleep(&v));
	obs("peer sends", peer_text(o, op_puts, MSG_NOSIGNAL, "for whom"));
	pthread_join(v.t, NULL);
	obs("the reader", v.rc);
	if (o->type != SOCK_DGRAM)
		obs("peer sees the end", peer(o, op_recv, 10, 0));
	obs("send", send(o->fd, "x", 1, MSG_NOSIGNAL));
}

/* Another connection comes under the number: the reader stays with the old one, and the new one's bytes are its own. */
static void dup2_under_a_reader(struct obs *o)
{
	struct victim v = { .fd = o->fd, .way = BY_RECV, .o = o };
	int sv[2];

	if (socketpair(AF_UNIX, o->type == SOCK_STREAM ? SOCK_STREAM : SOCK_DGRAM, 0, sv))
		die("socketpair");
	warm_pair(sv[0], sv[1]);
	begin(&v, blocked);
	asleep(&v);
	note("dup2: %d", dup2(sv[0], o->fd) == o->fd);
	close(sv[0]);
	obs_send(sv[1], "the new one's", 0);
	note("sleeps on: %d", asleep(&v));
	obs("peer sends", peer_text(o, op_puts, MSG_NOSIGNAL, "the old one's"));
	pthread_join(v.t, NULL);
	obs("the reader", v.rc);
	obs_recv(o->fd, 100, 0);
	obs_send(o->fd, "and back", 0);
	obs_recv(sv[1], 100, 0);
	if (o->type != SOCK_DGRAM)
		obs("peer sees the end", peer(o, op_recv, 10, 0));
}

static void close_under_poll(struct obs *o)
{
	struct victim v = { .fd = o->fd, .o = o };
	int copy;

	for (v.way = BY_POLL; v.way <= BY_SELECT; v.way++) {
		copy = dup(o->fd);
		v.fd = copy;
		begin(&v, blocked);
		asleep(&v);
		obs("close", close(copy));
		note("sleeps on: %d", asleep(&v));
		obs("peer sends", peer_text(o, op_puts, MSG_NOSIGNAL, "news"));
		pthread_join(v.t, NULL);
		note("%s:", ways[v.way]);
		obs("the waiter", v.rc);
		obs_recv(o->fd, 100, 0);
	}
}

static void close_under_a_writer(struct obs *o)
{
	static char buf[4096];
	struct victim v = { .fd = o->fd, .way = BY_SEND, .o = o };

	for (size_t n = sizeof(buf); n; n /= 4)
		while (send(o->fd, buf, n, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
			;
	begin(&v, blocked);
	asleep(&v);
	obs("close", close(o->fd));
	note("sleeps on: %d", asleep(&v));
	peer_start(o, op_sink, 0, 0);
	pthread_join(v.t, NULL);
	obs("the writer", v.rc);
	note("the peer reads to the end: %d", peer_done(o) > 0);
}

static void shutdown_under_a_call(struct obs *o, int how, int way)
{
	struct victim v = { .fd = o->fd, .way = way, .o = o };

	begin(&v, blocked);
	asleep(&v);
	obs("shutdown", shutdown(o->fd, how));
	for (int i = 0; i < 3000 && v.rc == -5; i++)
		usleep(1000);
	note("%s: woken %d", ways[way], v.rc != -5);
	if (v.rc == -5)
		peer_text(o, op_puts, MSG_NOSIGNAL, "wake up then");
	pthread_join(v.t, NULL);
	errno = v.err;
	obs("result", v.rc);
}

static void shutdown_of_reading(struct obs *o)
{
	shutdown_under_a_call(o, SHUT_RD, BY_RECV);
}

static void shutdown_of_reading_under_poll(struct obs *o)
{
	shutdown_under_a_call(o, SHUT_RD, BY_POLL);
}

static void shutdown_of_both(struct obs *o)
{
	shutdown_under_a_call(o, SHUT_RDWR, BY_RECV);
}

static void shutdown_of_both_under_poll(struct obs *o)
{
	shutdown_under_a_call(o, SHUT_RDWR, BY_POLL);
}

static void shutdown_of_a_listener(struct obs *o)
{
	static const uint32_t kinds[] = { TCP4, TCP6, UNIXP };
	struct obs_name at;

	for (size_t i = 0; i < 3; i++) {
		struct obs own = { .fd = listener(kinds[i], 5, &at) };

		(void)o;
		shutdown_under_a_call(&own, i == 1 ? SHUT_RD : SHUT_RDWR, BY_ACCEPT);
		close(own.fd);
	}
}

static void *closer(void *arg)
{
	struct victim *v = arg;

	while (!v->cleaned) {
		int sv[2];

		if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv))
			continue;
		v->rounds++;
		close(sv[0]);
		close(sv[1]);
	}
	return NULL;
}

static void *short_reader(void *arg)
{
	struct victim *v = arg;
	char c;

	v->tid = gettid();
	v->rc = recv(v->fd, &c, 1, 0);
	return NULL;
}

/* Numbers go round fast while readers wake from descriptors that were closed under them: nobody reads from a stranger. */
static void close_and_reuse(struct obs *o)
{
	struct victim churn = { .fd = -1 };
	int good = 0;

	(void)o;
	pthread_create(&churn.t, NULL, closer, &churn);
	for (int i = 0; i < 60; i++) {
		struct victim v = { 0 };
		int sv[2], copy;

		if (socketpair(AF_UNIX, i % 2 ? SOCK_STREAM : SOCK_SEQPACKET, 0, sv))
			die("socketpair");
		warm_pair(sv[0], sv[1]);
		copy = dup(sv[0]);
		v.fd = sv[0];
		begin(&v, short_reader);
		asleep(&v);
		close(sv[0]);
		send(sv[1], "x", 1, 0);
		pthread_join(v.t, NULL);
		good += v.rc == 1;
		close(copy);
		close(sv[1]);
	}
	churn.cleaned = true;
	pthread_join(churn.t, NULL);
	note("good: %d", good);
}

int main(int argc, char **argv)
{
	static const struct obs_case cases[] = {
		{ "cancelled in each call", cancelled_in_each_call, STREAM | SEQ | DGRAM, SLOW },
		{ "cancelled in send", cancelled_in_send, STREAM | SEQ, SLOW },
		{ "cancelled with bytes moved", cancelled_with_bytes_moved, STREAM, 0 },
		{ "cancelled in accept", cancelled_in_accept, SOLO, SLOW },
		{ "cancelled while busy", cancelled_while_busy, STREAM | SEQ, SLOW },
		{ "cancelled without waiting", cancelled_without_waiting, STREAM, 0 },
		{ "pending at entry", pending_at_entry, STREAM | SEQ | DGRAM, 0 },
		{ "cancellation disabled", cancellation_disabled, STREAM | SEQ | DGRAM, 0 },
		{ "cancelled asynchronously", cancelled_asynchronously, STREAM, HOT_ONLY | SLOW },
		{ "cleanup uses the socket", cleanup_uses_the_socket, STREAM | SEQ | DGRAM, 0 },
		{ "a thread ends in a handler", a_thread_ends_in_a_handler, STREAM | SEQ | DGRAM, 0 },
		{ "the last close under a reader", last_close_under_a_reader, STREAM | SEQ | DGPAIR, 0 },
		{ "dup2 under a reader", dup2_under_a_reader, STREAM | SEQ, 0 },
		{ "close under poll", close_under_poll, STREAM | SEQ, 0 },
		{ "close under a writer", close_under_a_writer, STREAM | SEQ, SLOW },
		{ "shutdown of reading", shutdown_of_reading, STREAM | SEQ, 0 },
		{ "shutdown of reading under poll", shutdown_of_reading_under_poll, STREAM | SEQ, 0 },
		{ "shutdown of both", shutdown_of_both, STREAM | SEQ, 0 },
		{ "shutdown of both under poll", shutdown_of_both_under_poll, STREAM | SEQ, 0 },
		{ "shutdown of a listener", shutdown_of_a_listener, SOLO, SLOW },
		{ "close and reuse", close_and_reuse, SOLO, SLOW },
		{ 0 },
	};

	return obs_main(argc, argv, cases);
}
