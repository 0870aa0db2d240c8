/* SPDX-License-Identifier: MIT */
/* ring: yes */
/* epoll among several: sets, threads and processes that share a connection; registrations that come and go while somebody sleeps. */
#include "obs.h"

#include <sched.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

#define SLEEPERS 4

struct waiter {
	pthread_t thread;
	pid_t tid;
	int ep, rounds, n;
	uint32_t rearm; /* events to arm a one-shot registration with again; 0: do not */
	int fd;
	long got;
	struct epoll_event ev;
};

static int ep_add(int ep, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event ev = { .events = events, .data.u64 = data };

	return epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
}

static int ep_of(int fd, uint32_t events)
{
	int ep = epoll_create1(EPOLL_CLOEXEC);

	if (ep < 0 || ep_add(ep, fd, events, (uint64_t)fd))
		die("epoll");
	return ep;
}

static void show(const char *what, int ep, int timeout)
{
	struct epoll_event ev[8];
	int rc = epoll_wait(ep, ev, 8, timeout);
	unsigned all = 0;

	for (int i = 0; i < rc; i++)
		all |= ev[i].events;
	obs_events(what, rc, all);
}

/* One wait, and nothing is read. */
static void *wait_once(void *arg)
{
	struct waiter *w = arg;

	__atomic_store_n(&w->tid, (pid_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
	w->n = epoll_wait(w->ep, &w->ev, 1, 3000);
	return NULL;
}

static void asleep(struct waiter *w)
{
	pid_t tid;

	while (!(tid = __atomic_load_n(&w->tid, __ATOMIC_ACQUIRE)))
		usleep(100);
	if (!thread_asleep(getpid(), tid, -1))
		die("the waiter");
}

static void waiter_start(struct waiter *w, int ep, void *(*fn)(void *))
{
	*w = (struct waiter){ .ep = ep };
	if (pthread_create(&w->thread, NULL, fn, w))
		die("pthread_create");
	asleep(w);
}

/* Level-triggered sets of two threads: each is woken by the same byte. */
static void two_sets_asleep(struct obs *o)
{
	struct waiter w[2];

	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < 2; i++)
			waiter_start(&w[i], ep_of(o->fd, round % 2 ? EPOLLIN : EPOLLIN | EPOLLET), wait_once);
		peer_text(o, op_puts, 0, "x");
		for (int i = 0; i < 2; i++) {
			pthread_join(w[i].thread, NULL);
			if (w[i].n != 1 || w[i].ev.events != EPOLLIN)
				note("round %d waiter %d: %d %x", round, i, w[i].n, w[i].ev.events);
			close(w[i].ep);
		}
		obs_recv(o->fd, 10, MSG_DONTWAIT);
	}
}

/* In one set a thread sleeps, another blocks in recv: the byte is the reader's, or the waiter's too; nobody is forgotten. */
static void *read_once(void *arg)
{
	struct waiter *w = arg;
	char c;

	__atomic_store_n(&w->tid, (pid_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
	w->n = (int)recv(w->ep, &c, 1, 0);
	return NULL;
}

static void reader_and_waiter(struct obs *o)
{
	int ep = ep_of(o->fd, EPOLLIN);
	struct waiter w, r;

	for (int round = 0; round < 20; round++) {
		waiter_start(&w, ep, wait_once);
		waiter_start(&r, o->fd, read_once);
		peer_text(o, op_puts, 0, "xy");
		pthread_join(r.thread, NULL);
		pthread_join(w.thread, NULL);
		if (r.n != 1 || w.n != 1)
			note("round %d: reader %d waiter %d", round, r.n, w.n);
		obs_recv(o->fd, 10, MSG_DONTWAIT);
	}
}

static void reader_and_poller(struct obs *o)
{
	struct waiter r;
	struct pollfd p = { .fd = o->fd, .events = POLLIN };

	for (int round = 0; round < 20; round++) {
		waiter_start(&r, o->fd, read_once);
		peer_text(o, op_puts, 0, "xy");
		if (poll(&p, 1, 3000) != 1 || p.revents != POLLIN)
			note("round %d: %x", round, (unsigned)p.revents);
		pthread_join(r.thread, NULL);
		obs_recv(o->fd, 10, MSG_DONTWAIT);
	}
}

static void exclusive_asleep(struct obs *o)
{
	struct waiter w[2];
	int woken;

	for (int round = 0; round < 10; round++) {
		for (int i = 0; i < 2; i++)
			waiter_start(&w[i], ep_of(o->fd, EPOLLIN | EPOLLEXCLUSIVE), wait_once);
		peer_text(o, op_puts, 0, "x");
		settle(o->fd);
		/* One or both, says the manual: the last is let go by a second byte. */
		peer_text(o, op_puts, 0, "y");
		woken = 0;
		for (int i = 0; i < 2; i++) {
			pthread_join(w[i].thread, NULL);
			woken += w[i].n == 1;
			close(w[i].ep);
		}
		if (woken != 2)
			note("round %d: %d woken", round, woken);
		while (recv(o->fd, &(char){ 0 }, 1, MSG_DONTWAIT) == 1)
			;
	}
}

/* Several threads, one set, one-shot: whoever gets the event reads, and arms it again. */
static void *one_shot_worker(void *arg)
{
	struct waiter *w = arg;
	struct epoll_event ev;
	char buf[7];
	ssize_t rc;

	for (;;) {
		if (epoll_wait(w->ep, &ev, 1, 3000) != 1)
			return NULL;
		rc = recv(w->fd, buf, sizeof(buf), MSG_DONTWAIT);
		if (rc > 0)
			w->got += rc;
		ev = (struct epoll_event){ .events = w->rearm };
		if (epoll_ctl(w->ep, EPOLL_CTL_MOD, w->fd, &ev))
			return NULL;
		if (rc == 0)
			return NULL;
	}
}

static void one_shot_threads(struct obs *o)
{
	uint32_t how = EPOLLIN | EPOLLONESHOT | (o->kind & (TCP4 | UNIXP) ? EPOLLET : 0);
	int ep = ep_of(o->fd, how);
	struct waiter w[SLEEPERS];
	long sum = 0;

	for (int i = 0; i < SLEEPERS; i++) {
		w[i] = (struct waiter){ .ep = ep, .fd = o->fd, .rearm = how };
		pthread_create(&w[i].thread, NULL, one_shot_worker, &w[i]);
	}
	for (int i = 0; i < 200; i++)
		peer(o, op_send, 20, 0);
	peer(o, op_shutdown, SHUT_WR, 0);
	for (int i = 0; i < SLEEPERS; i++) {
		pthread_join(w[i].thread, NULL);
		sum += w[i].got;
	}
	obs("together they got", sum);
}

/* Two descriptors of one socket in one set: each has its event, its bits, its way to go. */
static void two_descriptors(struct obs *o)
{
	int copy = dup(o->fd), ep = ep_of(o->fd, EPOLLIN);
	struct epoll_event ev[4];
	uint64_t sum = 0;
	int rc;

	obs("add the copy", ep_add(ep, copy, EPOLLIN | EPOLLET, 1000));
	peer_text(o, op_puts, 0, "x");
	settle(o->fd);
	rc = epoll_wait(ep, ev, 4, 3000);
	for (int i = 0; i < rc; i++)
		sum += ev[i].data.u64 == 1000 ? 1000 : 1;
	obs("both", rc);
	note("one each: %d", sum == 1001);
	show("level only", ep, 0);
	obs("close the first", close(o->fd));
	show("its registration stays", ep, 0);
	obs_recv(copy, 10, 0);
	show("quiet", ep, 0);
	peer_text(o, op_puts, 0, "y");
	settle(copy);
	show("both again", ep, 3000);
	obs("del by the closed number", epoll_ctl(ep, EPOLL_CTL_DEL, o->fd, NULL));
	obs("del the copy", epoll_ctl(ep, EPOLL_CTL_DEL, copy, NULL));
	show("the first is there still", ep, 0);
	obs("close the copy", close(copy));
	show("gone", ep, 0);
	o->fd = -1;
}

/* The number that a registration was made by becomes another socket's, while a copy holds the first one open. */
static void number_reused(struct obs *o)
{
	int copy = dup(o->fd), ep = ep_of(o->fd, EPOLLIN | EPOLLET), other[2];
	struct waiter w;
	char text[32] = "";

	show("at first", ep, 0);
	obs("close", close(o->fd));
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, other))
		die("socketpair");
	note("the same number: %d", other[0] == o->fd);
	obs_send(other[1], "the other's", 0);
	waiter_start(&w, ep, wait_once);
	peer_text(o, op_puts, 0, "x");
	pthread_join(w.thread, NULL);
	obs_events("woken", w.n, w.ev.events);
	note("by the first one's data: %d", w.ev.data.u64 == (uint64_t)o->fd);
	obs_recv(copy, 10, 0);
	obs_recv(other[0], sizeof(text), 0);
	obs_poll(other[0], POLLIN | POLLOUT);
	obs_send(other[1], "more", MSG_NOSIGNAL);
	obs_recv(other[0], sizeof(text), MSG_DONTWAIT);
	obs("add the other", ep_add(ep, other[0], EPOLLIN, 7));
	obs("close the copy", close(copy));
	waiter_start(&w, ep, wait_once);
	obs_send(other[1], "again", MSG_NOSIGNAL);
	pthread_join(w.thread, NULL);
	obs_events("woken by the other", w.n, w.ev.events);
	o->fd = -1;
}

/* The set's own number is closed and becomes a socket's; a copy goes on. */
static void set_renumbered(struct obs *o)
{
	int first = ep_of(o->fd, EPOLLIN), ep = dup(first), other[2];
	struct waiter w;

	obs("close", close(first));
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, other))
		die("socketpair");
	note("the same number: %d", other[0] == first);
	show("quiet", ep, 0);
	waiter_start(&w, ep, wait_once);
	peer_text(o, op_puts, 0, "x");
	pthread_join(w.thread, NULL);
	obs_events("woken", w.n, w.ev.events);
	obs_recv(o->fd, 10, 0);
	obs("add", ep_add(ep, other[1], EPOLLIN, 7));
	obs_send(other[0], "y", 0);
	show("the new one", ep, 3000);
}

/* As warm_pair(), in this thread alone. */
static void warm_alone(const int fd[2])
{
	char c = 'w';

	for (int i = 0; i < 2 * OBS_WARM; i++)
		if (send(fd[i % 2], &c, 1, 0) != 1 || recv(fd[1 - i % 2], &c, 1, 0) != 1)
			die("warming up");
}

/* One of many that has been quiet for long, and was waited for by a call of its own in between, which ended without data. */
static void quiet_one(struct obs *o)
{
	enum { OTHERS = 6, LOOKS = 400 };
	struct timeval ms = { 0, 20000 };
	int pair[OTHERS][2], ep = ep_of(o->fd, EPOLLIN);

	for (int i = 0; i < OTHERS; i++) {
		if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair[i]))
			die("socketpair");
		warm_alone(pair[i]);
		ep_add(ep, pair[i][0], EPOLLIN, 1000);
	}
	for (int i = 0; i < LOOKS; i++) {
		struct epoll_event ev;
		char c;

		if (send(pair[0][1], "x", 1, 0) != 1 || epoll_wait(ep, &ev, 1, 3000) != 1 || recv(pair[0][0], &c, 1, 0) != 1)
			die("the busy one");
	}
	if (setsockopt(o->fd, SOL_SOCKET, SO_RCVTIMEO, &ms, sizeof(ms)))
		die("SO_RCVTIMEO");
	obs_recv(o->fd, 10, 0);
	peer_text(o, op_puts, 0, "y");
	show("woken", ep, 3000);
	obs_recv(o->fd, 10, 0);
}

/* One-shots with the same data: what one of them has fired is nothing to the other. */
static void alike(struct obs *o)
{
	int ep = epoll_create1(EPOLL_CLOEXEC), other[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, other))
		die("socketpair");
	obs("add one", ep_add(ep, o->fd, EPOLLIN | EPOLLONESHOT, 7));
	obs("add the other", ep_add(ep, other[0], EPOLLIN | EPOLLONESHOT, 7));
	obs_send(other[1], "x", 0);
	show("the other", ep, 3000);
	show("it is off", ep, 0);
	warm(o);
	peer_text(o, op_puts, 0, "y");
	show("the one", ep, 3000);
	show("both are off", ep, 0);
}

struct change {
	struct waiter *w;
	struct obs *o;
	int ep;
};

/* A registration that goes while somebody sleeps on it: what comes afterwards wakes nobody. */
static void removed_asleep(struct obs *o)
{
	int ep = ep_of(o->fd, EPOLLIN), fds[2];
	struct waiter w;

	if (pipe(fds))
		die("pipe");
	ep_add(ep, fds[0], EPOLLIN, 77);
	waiter_start(&w, ep, wait_once);
	obs("del", epoll_ctl(ep, EPOLL_CTL_DEL, o->fd, NULL));
	peer_text(o, op_puts, 0, "x");
	settle(o->fd);
	obs("write", write(fds[1], "x", 1));
	pthread_join(w.thread, NULL);
	obs("woken", w.n);
	note("by the pipe: %d", w.ev.data.u64 == 77);
	obs("add", ep_add(ep, o->fd, EPOLLIN | EPOLLET, 5));
	obs("read", read(fds[0], &(char){ 0 }, 1));
	show("added with data", ep, 3000);
	show("edge", ep, 0);
}

static void closed_asleep(struct obs *o)
{
	int ep = ep_of(o->fd, EPOLLIN | EPOLLRDHUP), fds[2];
	struct waiter w;

	if (pipe(fds))
		die("pipe");
	ep_add(ep, fds[0], EPOLLIN, 77);
	waiter_start(&w, ep, wait_once);
	obs("close", close(o->fd));
	o->fd = -1;
	obs("peer recv", peer(o, op_recv, 10, 0));
	obs("write", write(fds[1], "x", 1));
	pthread_join(w.thread, NULL);
	obs("woken", w.n);
	note("by the pipe: %d", w.ev.data.u64 == 77);
}

/* Interest that changes while somebody sleeps. */
static void modified_asleep(struct obs *o)
{
	int ep = ep_of(o->fd, EPOLLIN);
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT, .data.u64 = 9 };
	struct waiter w;

	waiter_start(&w, ep, wait_once);
	obs("mod", epoll_ctl(ep, EPOLL_CTL_MOD, o->fd, &ev));
	pthread_join(w.thread, NULL);
	obs_events("woken", w.n, w.ev.events);
	note("data %d", (int)w.ev.data.u64);
	ev.events = EPOLLIN;
	obs("mod", epoll_ctl(ep, EPOLL_CTL_MOD, o->fd, &ev));
	waiter_start(&w, ep, wait_once);
	ev.events = 0;
	obs("mod", epoll_ctl(ep, EPOLL_CTL_MOD, o->fd, &ev));
	peer_text(o, op_puts, 0, "x");
	settle(o->fd);
	ev.events = EPOLLIN | EPOLLET;
	obs("mod", epoll_ctl(ep, EPOLL_CTL_MOD, o->fd, &ev));
	pthread_join(w.thread, NULL);
	obs_events("woken", w.n, w.ev.events);
}

/* In the set before it is anything. */
static void added_before_connect(struct obs *o)
{
	struct obs_name at;
	uint32_t kind = o->kind & TCP6 ? TCP6 : o->kind & UNIXP ? UNIXP : TCP4;
	int l = listener(kind, 5, &at), c = sock_of(kind, SOCK_NONBLOCK), ep = ep_of(c, EPOLLIN | EPOLLRDHUP | EPOLLET), s;
	char b = 0;
	long in = 0;

	show("not connected", ep, 0);
	if (connect(c, (struct sockaddr *)&at.sa, at.len) && errno != EINPROGRESS)
		die("connect");
	s = accept(l, NULL, NULL);
	show("connected", ep, 3000);
	for (int i = 0; i < 200; i++) {
		if (send(s, &b, 1, 0) != 1)
			die("send");
		show(i ? "" : "first byte", ep, 3000);
		while (recv(c, &b, 1, 0) == 1)
			in++;
		if (send(c, &b, 1, 0) != 1 || recv(s, &b, 1, 0) != 1)
			die("back");
	}
	obs("bytes", in);
	show("quiet", ep, 0);
	close(s);
	show("closed", ep, 3000);
}

static void three_deep(struct obs *o)
{
	int a = ep_of(o->fd, EPOLLIN), b = ep_of(a, EPOLLIN), c = ep_of(b, EPOLLIN | (o->kind & UNIXP ? 0 : EPOLLET));
	struct waiter w;

	for (int i = 0; i < 5; i++) {
		waiter_start(&w, c, wait_once);
		peer_text(o, op_puts, 0, "x");
		pthread_join(w.thread, NULL);
		obs_events("outermost", w.n, w.ev.events);
		show("middle", b, 0);
		show("innermost", a, 0);
		obs_recv(o->fd, 10, 0);
		show("innermost quiet", a, 0);
		show("middle quiet", b, 0);
	}
	obs("close the middle", close(b));
	peer_text(o, op_puts, 0, "x");
	settle(o->fd);
	show("nothing comes through", c, 0);
	show("innermost", a, 0);
}

/* Partial reads with edges: what is left is no news, what comes is. */
static void edges_and_partial_reads(struct obs *o)
{
	int ep = ep_of(o->fd, EPOLLIN | EPOLLET);

	for (int i = 0; i < 5; i++) {
		peer_text(o, op_puts, 0, "0123456789");
		show("ten", ep, 3000);
		obs_recv(o->fd, 3, 0);
		show("seven left", ep, 0);
		obs_recv(o->fd, 3, MSG_PEEK);
		show("looked at", ep, 0);
		peer_text(o, op_puts, 0, "ab");
		settle(o->fd);
		show("two more", ep, 3000);
		obs_recv(o->fd, 100, 0);
		show("empty", ep, 0);
	}
}

static void wait_times(struct obs *o)
{
	int ep = ep_of(o->fd, EPOLLIN);
	struct epoll_event ev;
	int64_t start = now_ms();

	obs("50 ms", epoll_pwait2(ep, &ev, 1, &(struct timespec){ .tv_nsec = 50000000 }, NULL));
	note("waited: %d", now_ms() - start >= 48 && now_ms() - start < 2500);
	obs("0", epoll_pwait2(ep, &ev, 1, &(struct timespec){ 0 }, NULL));
	obs("a nanosecond", epoll_pwait2(ep, &ev, 1, &(struct timespec){ .tv_nsec = 1 }, NULL));
	obs("too many nanoseconds", epoll_pwait2(ep, &ev, 1, &(struct timespec){ .tv_nsec = 1000000000 }, NULL));
	obs("negative nanoseconds", epoll_pwait2(ep, &ev, 1, &(struct timespec){ .tv_nsec = -1 }, NULL));
	obs("negative seconds", epoll_pwait2(ep, &ev, 1, &(struct timespec){ .tv_sec = -1 }, NULL));
	peer_text(o, op_puts, 0, "x");
	obs("very long", epoll_pwait2(ep, &ev, 1, &(struct timespec){ .tv_sec = INT64_MAX / 2 }, NULL));
	obs("for ever", epoll_pwait2(ep, &ev, 1, NULL, NULL));
}

/* The set was made before the fork; parent and child sleep in it, in turns. */
static void shared_by_sleepers(struct obs *o)
{
	int ep = ep_of(o->fd, EPOLLIN);
	struct epoll_event ev;
	pid_t pid;

	fflush(stdout);
	pid = obs_fork();
	if (pid == 0) {
		char c;

		for (int i = 0; i < 10; i++)
			if (epoll_wait(ep, &ev, 1, 3000) != 1 || recv(o->fd, &c, 1, 0) != 1)
				_exit(1);
		_exit(0);
	}
	for (int i = 0; i < 10; i++) {
		if (!thread_asleep(pid, pid, -1))
			die("child");
		peer_text(o, op_puts, 0, "x");
	}
	obs("child", obs_wait(pid));
	peer_text(o, op_puts, 0, "y");
	show("parent", ep, 3000);
	obs_recv(o->fd, 10, 0);
	show("parent", ep, 0);
}

/* After the fork each adds connections of its own to the set that both have. */
static void additions_after_fork(struct obs *o)
{
	int ep = ep_of(o->fd, EPOLLIN), pair[2];
	struct epoll_event ev;
	char c = 0;
	pid_t pid;

	fflush(stdout);
	pid = obs_fork();
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		die("socketpair");
	warm_pair(pair[0], pair[1]);
	if (pid == 0) {
		if (ep_add(ep, pair[0], EPOLLIN, 4242))
			_exit(1);
		for (int i = 0; i < 50; i++) {
			if (send(pair[1], &c, 1, 0) != 1 || epoll_wait(ep, &ev, 1, 3000) != 1 || ev.data.u64 != 4242 || recv(pair[0], &c, 1, 0) != 1)
				_exit(2);
		}
		if (epoll_ctl(ep, EPOLL_CTL_DEL, pair[0], NULL))
			_exit(3);
		_exit(0);
	}
	obs("child", obs_wait(pid));
	obs("add", ep_add(ep, pair[0], EPOLLIN, 4343));
	for (int i = 0; i < 50; i++)
		if (send(pair[1], &c, 1, 0) != 1 || epoll_wait(ep, &ev, 1, 3000) != 1 || ev.data.u64 != 4343 || recv(pair[0], &c, 1, 0) != 1)
			note("turn %d", i);
	peer_text(o, op_puts, 0, "x");
	show("the first connection", ep, 3000);
}

/* Sends a byte into fd[1] a moment after each one that comes by the pipe. */
struct later {
	pthread_t thread;
	int fd, go[2];
};

static void *send_later(void *arg)
{
	struct later *l = arg;
	char c;

	while (read(l->go[0], &c, 1) == 1) {
		usleep(c == 's' ? 2000 : 100);
		if (send(l->fd, &c, 1, 0) != 1)
			break;
	}
	return NULL;
}

static void later_start(struct later *l, int fd)
{
	l->fd = fd;
	if (pipe(l->go) || pthread_create(&l->thread, NULL, send_later, l))
		die("a thread");
}

static void later_end(struct later *l)
{
	close(l->go[1]);
	pthread_join(l->thread, NULL);
	close(l->go[0]);
}

/* Rounds in which a byte came to fd[0] and the set said so; what it says of others, it says to everybody. By poll: the set is asked through that. */
static int own_rounds(int ep, int fd, struct later *l, uint64_t data, bool by_poll)
{
	struct pollfd p = { .fd = ep, .events = POLLIN };
	struct epoll_event ev;
	int64_t end;
	char c;

	for (int i = 0; i < 200; i++) {
		bool came = false;

		if (write(l->go[1], i % 20 == 19 ? "s" : "x", 1) != 1)
			return -1;
		end = now_ms() + 3000;
		while (!came && now_ms() < end) {
			if (by_poll && poll(&p, 1, 3000) != 1)
				return i;
			came = epoll_wait(ep, &ev, 1, by_poll ? 0 : 3000) == 1 && ev.data.u64 == data;
		}
		if (!came || recv(fd, &c, 1, 0) != 1)
			return i;
	}
	return 200;
}

static void both_sides(struct obs *o, bool by_poll)
{
	int ep = ep_of(o->fd, EPOLLIN), pair[2], rc;
	struct later l;
	pid_t pid;

	fflush(stdout);
	pid = obs_fork();
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		die("socketpair");
	warm_pair(pair[0], pair[1]);
	later_start(&l, pair[1]);
	rc = ep_add(ep, pair[0], EPOLLIN, pid ? 4343 : 4242);
	rc = rc ? rc : own_rounds(ep, pair[0], &l, pid ? 4343 : 4242, by_poll);
	later_end(&l);
	epoll_ctl(ep, EPOLL_CTL_DEL, pair[0], NULL);
	if (pid == 0)
		_exit(rc == 200 ? 0 : 1);
	obs("parent", rc);
	obs("child", obs_wait(pid));
	peer_text(o, op_puts, 0, "x");
	show("the first connection", ep, 3000);
}

/* Both add connections, and both sleep: neither takes what is the other's away. */
static void both_add_and_sleep(struct obs *o)
{
	both_sides(o, false);
}

static void both_add_and_poll(struct obs *o)
{
	both_sides(o, true);
}

static long op_when_asleep(struct obs *o, long pid, long b)
{
	(void)b;
	return thread_asleep((pid_t)pid, (pid_t)pid, -1) ? send(o->fd, "x", 1, 0) : -1;
}

/* A connection that was about to become hot at the fork: what the parent does with it later, the child's registration still tells. */
static void hot_after_a_fork(struct obs *o)
{
	int ep = ep_of(o->fd, EPOLLIN | EPOLLET), ready[2];
	struct epoll_event ev;
	long wrong = 0;
	pid_t pid;
	char c;

	if (pipe(ready))
		die("pipe");
	for (int i = 0; i < 20; i++) { /* never read empty */
		peer_text(o, op_puts, 0, "ab");
		wrong += recv(o->fd, &c, 1, 0) != 1 || send(o->fd, &c, 1, 0) != 1;
		peer(o, op_recv, 1, 0);
	}
	fflush(stdout);
	pid = obs_fork();
	if (pid == 0) {
		close(ready[1]);
		if (read(ready[0], &c, 1) != 0) /* until the parent has closed it */
			_exit(1);
		while (epoll_wait(ep, &ev, 1, 0) == 1)
			;
		peer_start(o, op_when_asleep, getpid(), 0);
		wrong = epoll_wait(ep, &ev, 1, 3000) != 1 || recv(o->fd, &c, 1, MSG_DONTWAIT) != 1;
		_exit(peer_done(o) != 1 || wrong ? 2 : 0);
	}
	for (int i = 0; i < 20; i++)
		wrong += recv(o->fd, &c, 1, 0) != 1;
	for (int i = 0; i < 100; i++) {
		peer_text(o, op_puts, 0, "x");
		wrong += recv(o->fd, &c, 1, 0) != 1 || send(o->fd, &c, 1, 0) != 1;
		peer(o, op_recv, 1, 0);
	}
	close(ready[0]);
	close(ready[1]);
	note("wrong: %ld", wrong);
	obs("child", obs_wait(pid));
}

/* What a child has long left alone in the set rings while only its parent looks there. */
static int quiet_child(int ep, const int ask[2], const int answer[2])
{
	struct epoll_event ev[8];
	int pairs[6][2], n;
	char c = 0;

	for (int i = 0; i < 6; i++) {
		if (socketpair(AF_UNIX, SOCK_STREAM, 0, pairs[i]))
			return 1;
		warm_pair(pairs[i][0], pairs[i][1]);
		if (ep_add(ep, pairs[i][0], EPOLLIN, 100 + (uint64_t)i))
			return 2;
	}
	for (int i = 0; i < 1000; i++)
		if (epoll_wait(ep, ev, 8, 0))
			return 3;
	for (int i = 0; i < 6; i++) {
		if (send(pairs[i][1], &c, 1, 0) != 1 || write(answer[1], &c, 1) != 1 || read(ask[0], &c, 1) != 1)
			return 4;
		n = epoll_wait(ep, ev, 8, 3000);
		if (n != 1 || ev[0].data.u64 != 100 + (uint64_t)i || recv(pairs[i][0], &c, 1, 0) != 1)
			return 10 + i;
	}
	return 0;
}

static void rung_for_the_other(struct obs *o)
{
	int ep = ep_of(o->fd, EPOLLIN), ask[2], answer[2];
	struct epoll_event ev[8];
	pid_t pid;
	char c;

	if (pipe(ask) || pipe(answer))
		die("pipe");
	fflush(stdout);
	pid = obs_fork();
	if (pid == 0)
		_exit(quiet_child(ep, ask, answer));
	for (int i = 0; i < 6 && read(answer[0], &c, 1) == 1; i++) {
		for (int k = 0; k < 5; k++)
			epoll_wait(ep, ev, 8, 2);
		if (write(ask[1], &c, 1) != 1)
			die("write");
	}
	obs("child", obs_wait(pid));
}

/* A thread sleeps in the set when another one forks, and again while the child lives, and when it has gone. */
static void asleep_at_a_fork(struct obs *o)
{
	int ep = ep_of(o->fd, EPOLLIN);
	struct waiter w;
	pid_t pid = 0;

	for (int i = 0; i < 150; i++) {
		waiter_start(&w, ep, wait_once);
		if (i % 30 == 0) {
			fflush(stdout);
			pid = obs_fork();
			if (pid == 0) {
				pause();
				_exit(0);
			}
		}
		peer_text(o, op_puts, 0, "x");
		pthread_join(w.thread, NULL);
		if (w.n != 1 || w.ev.events != EPOLLIN)
			note("round %d: %d %x", i, w.n, w.ev.events);
		obs_recv(o->fd, 10, 0);
		if (i % 30 == 15) {
			kill(pid, SIGKILL);
			obs_wait(pid);
		}
	}
	kill(pid, SIGKILL);
}

/* A child's copy of the lists is whole, whatever another thread was doing to them. */
struct changer {
	pthread_t thread;
	int ep, fd;
	bool stop;
};

static void *change(void *arg)
{
	struct changer *c = arg;
	struct epoll_event ev;
	int pair[2];

	for (int i = 0; !__atomic_load_n(&c->stop, __ATOMIC_ACQUIRE); i++) {
		for (int k = 0; k < 50; k++) {
			epoll_ctl(c->ep, EPOLL_CTL_DEL, c->fd, NULL);
			ep_add(c->ep, c->fd, EPOLLIN, 1);
			epoll_wait(c->ep, &ev, 1, 0);
		}
		if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
			break;
		ep_add(c->ep, pair[0], EPOLLIN, 2);
		ep_add(c->ep, pair[1], EPOLLIN | EPOLLET, 3);
		close(pair[0]);
		close(pair[1]);
	}
	return NULL;
}

static void fork_amid_changes(struct obs *o)
{
	struct changer c = { .ep = ep_of(o->fd, EPOLLIN), .fd = o->fd };
	struct epoll_event ev[4];
	long wrong = 0;

	fflush(stdout);
	if (pthread_create(&c.thread, NULL, change, &c))
		die("a thread");
	for (int i = 0; i < 150; i++) {
		pid_t pid = obs_fork();

		if (pid == 0) {
			alarm(5);
			epoll_wait(c.ep, ev, 4, 0);
			close(o->fd);
			epoll_wait(c.ep, ev, 4, 0);
			close(c.ep);
			_exit(0);
		}
		wrong += obs_wait(pid) != 0;
	}
	__atomic_store_n(&c.stop, true, __ATOMIC_RELEASE);
	pthread_join(c.thread, NULL);
	obs("children that failed", wrong);
	epoll_ctl(c.ep, EPOLL_CTL_DEL, o->fd, NULL);
	obs("add", ep_add(c.ep, o->fd, EPOLLIN, 1));
	peer_text(o, op_puts, 0, "x");
	show("parent", c.ep, 3000);
}

/* A set leaves another one and takes it in. */
static void the_other_way_round(struct obs *o)
{
	int a = ep_of(o->fd, EPOLLIN), c = epoll_create1(0);
	struct epoll_event ev;

	for (int i = 0; i < 20; i++) {
		obs("add", ep_add(a, c, EPOLLIN, 1));
		obs("delete", epoll_ctl(a, EPOLL_CTL_DEL, c, NULL));
	}
	obs("the other way", ep_add(c, a, EPOLLIN, 2));
	obs("wait", epoll_wait(c, &ev, 1, 0));
	peer_text(o, op_puts, 0, "x");
	obs("wait", epoll_wait(c, &ev, 1, (int)deadline_ms()));
	obs("in both", ep_add(a, c, EPOLLIN, 1));
	obs_recv(o->fd, 10, 0);
	obs("wait", epoll_wait(c, &ev, 1, 0));
	close(a);
	close(c);
}

/* A child that has never waited by the set asks poll() about it, or waits by one around it. */
static void child_asks(struct obs *o)
{
	for (int around = 0; around < 2; around++) {
		int ep = ep_of(o->fd, EPOLLIN), outer = epoll_create1(0), told[2];
		struct epoll_event ev;
		pid_t pid;
		char c = 0;

		for (int i = 0; i < 50; i++) {
			peer_text(o, op_puts, 0, "w");
			if (epoll_wait(ep, &ev, 1, (int)deadline_ms()) != 1 || recv(o->fd, &c, 1, 0) != 1)
				note("round %d", i);
		}
		if (around)
			ep_add(outer, ep, EPOLLIN, 1);
		if (pipe(told))
			die("pipe");
		fflush(stdout);
		pid = obs_fork();
		if (pid == 0) {
			struct pollfd p = { around ? outer : ep, POLLIN, 0 };

			if (write(told[1], &c, 1) != 1)
				_exit(9);
			_exit(poll(&p, 1, (int)deadline_ms()) != 1 || (around && epoll_wait(outer, &ev, 1, 0) != 1));
		}
		if (read(told[0], &c, 1) != 1)
			die("the child");
		usleep(50000);
		peer_text(o, op_puts, 0, "x");
		obs("child", obs_wait(pid));
		obs_recv(o->fd, 10, 0);
		close(told[0]);
		close(told[1]);
		close(ep);
		close(outer);
	}
}

/* Handlers of fork may wait for threads that are in a call. */
static struct {
	bool on, stop, stopped;
	int ep;
} quiesce;

static void before_fork(void)
{
	int64_t end = now_ms() + 3000;

	if (!quiesce.on)
		return;
	__atomic_store_n(&quiesce.stop, true, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&quiesce.stopped, __ATOMIC_ACQUIRE)) {
		if (now_ms() > end)
			die("a thread that does not come back from its call");
		sched_yield();
	}
}

static void after_fork(void)
{
	__atomic_store_n(&quiesce.stop, false, __ATOMIC_RELEASE);
}

static void *until_told(void *arg)
{
	struct epoll_event ev;
	int fd;

	(void)arg;
	while (__atomic_load_n(&quiesce.on, __ATOMIC_ACQUIRE)) {
		__atomic_store_n(&quiesce.stopped, false, __ATOMIC_RELEASE);
		fd = socket(AF_UNIX, SOCK_STREAM, 0);
		ep_add(quiesce.ep, fd, EPOLLIN, 7);
		epoll_wait(quiesce.ep, &ev, 1, 0);
		close(fd);
		while (__atomic_load_n(&quiesce.stop, __ATOMIC_ACQUIRE)) {
			__atomic_store_n(&quiesce.stopped, true, __ATOMIC_RELEASE);
			sched_yield();
		}
	}
	return NULL;
}

static void handlers_of_fork(struct obs *o)
{
	pthread_t thread;

	quiesce.ep = ep_of(o->fd, EPOLLIN);
	quiesce.on = true;
	fflush(stdout);
	if (pthread_atfork(before_fork, after_fork, after_fork) || pthread_create(&thread, NULL, until_told, NULL))
		die("a thread");
	for (int i = 0; i < 40; i++) {
		pid_t pid;

		pid = fork();
		if (pid == 0)
			_exit(close(quiesce.ep) || close(o->fd));
		if (obs_wait(pid))
			note("child %d", i);
	}
	__atomic_store_n(&quiesce.on, false, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	obs_recv(o->fd, 10, MSG_DONTWAIT);
}

/* A child closes its copies of the connection, of the set, or of both: the parent's registration stays. */
static void child_closes(struct obs *o)
{
	int ep = ep_of(o->fd, EPOLLIN);

	for (int what = 1; what <= 4; what++) {
		pid_t pid;

		fflush(stdout);
		pid = obs_fork();
		if (pid == 0) {
			if (what & 1)
				close(o->fd);
			if (what & 2)
				close(ep);
			if (what & 4)
				close_range(3, 900, 0);
			_exit(0);
		}
		obs("child", obs_wait(pid));
		peer_start(o, op_when_asleep, getpid(), 0);
		show("parent", ep, 2000);
		obs("peer", peer_done(o));
		obs_recv(o->fd, 10, 0);
	}
}

/* A thousand additions and removals, some with data waiting. */
static void in_and_out(struct obs *o)
{
	int ep = epoll_create1(0);
	struct epoll_event ev;
	long wrong = 0;

	for (int i = 0; i < 300; i++) {
		wrong += ep_add(ep, o->fd, i % 3 ? EPOLLIN : EPOLLIN | EPOLLET, (uint64_t)i) != 0;
		if (i % 5 == 0)
			peer_text(o, op_puts, 0, "x");
		wrong += epoll_wait(ep, &ev, 1, i % 5 ? 0 : 3000) != (i % 5 == 0);
		wrong += i % 5 == 0 && ev.data.u64 != (uint64_t)i;
		wrong += epoll_ctl(ep, EPOLL_CTL_DEL, o->fd, NULL) != 0;
		wrong += epoll_wait(ep, &ev, 1, 0) != 0;
		if (i % 5 == 0)
			wrong += recv(o->fd, &(char){ 0 }, 1, 0) != 1;
	}
	note("wrong: %ld", wrong);
}

static long op_drain(struct obs *o, long a, long b)
{
	static char buf[65536];
	long sum = 0;
	ssize_t rc;

	(void)a;
	(void)b;
	while ((rc = recv(o->fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0)
		sum += rc;
	return sum > 0;
}

/* One thread waits for room, another one's calls take the connection to the ring meanwhile. */
static void room_elsewhere(struct obs *o)
{
	static char full[65536];
	int ep = ep_of(o->fd, EPOLLOUT);
	struct waiter w;

	while (send(o->fd, full, sizeof(full), MSG_DONTWAIT | MSG_NOSIGNAL) > 0 || send(o->fd, full, 1, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
		;
	waiter_start(&w, ep, wait_once);
	for (int i = 0; i < 60; i++) {
		peer_text(o, op_puts, 0, "x");
		while (send(o->fd, full, sizeof(full), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
			;
		recv(o->fd, full, 1, MSG_DONTWAIT);
	}
	while (peer(o, op_drain, 0, 0))
		;
	pthread_join(w.thread, NULL);
	obs_events("woken", w.n, w.ev.events);
}

/* Threads that sleep in one set, each until it has one event. */
struct sleeper {
	pthread_t thread;
	int ep, begun[2], ended[2];
	pid_t tid;
	int n;
};

static void *sleep_once(void *arg)
{
	struct sleeper *s = arg;
	struct epoll_event ev;

	s->tid = gettid();
	if (write(s->begun[1], "", 1) == 1)
		s->n = epoll_wait(s->ep, &ev, 1, -1);
	close(s->ended[1]);
	return NULL;
}

static void sleeper_begin(struct sleeper *s, int ep)
{
	char byte;

	s->ep = ep;
	if (pipe(s->begun) || pipe(s->ended) || pthread_create(&s->thread, NULL, sleep_once, s))
		die("a thread");
	if (read(s->begun[0], &byte, 1) != 1 || !thread_asleep(getpid(), s->tid, s->ended[0]))
		die("it does not sleep");
	close(s->begun[0]);
	close(s->begun[1]);
}

static bool is_back(const struct sleeper *s, int ms)
{
	struct pollfd p = { s->ended[0], POLLIN, 0 };

	return poll(&p, 1, ms) == 1;
}

static void sleeper_end(struct sleeper *s)
{
	if (!is_back(s, 3000))
		pthread_cancel(s->thread);
	note("it has %d", is_back(s, 0) ? s->n : 0);
	pthread_join(s->thread, NULL);
	close(s->ended[0]);
}

/* The first one does not come back to the set, and the second one is there for what comes then. */
static void each_wakes_one(struct obs *o, uint32_t flags)
{
	int ep = ep_of(o->fd, EPOLLIN | flags);
	struct sleeper s[2];

	for (int round = 0; round < 5; round++) {
		for (int i = 0; i < 2; i++)
			sleeper_begin(&s[i], ep);
		peer_text(o, op_puts, 0, "x");
		for (int64_t end = now_ms() + 3000; now_ms() < end && !is_back(&s[0], 1) && !is_back(&s[1], 1);)
			;
		usleep(20000);
		note("back: %d", is_back(&s[0], 0) + is_back(&s[1], 0));
		peer_text(o, op_puts, 0, "y");
		for (int i = 0; i < 2; i++)
			sleeper_end(&s[i]);
		while (recv(o->fd, &(char){ 0 }, 1, MSG_DONTWAIT) == 1)
			;
	}
	close(ep);
}

static void levels_wake_all(struct obs *o)
{
	each_wakes_one(o, 0);
}

static void edges_wake_one(struct obs *o)
{
	each_wakes_one(o, EPOLLET);
}

/* Somebody sleeps in the set while another thread asks it for what is there now: with something, with nothing, when a one-shot was renewed. */
static void asked_beside_a_sleeper(struct obs *o)
{
	int ep = ep_of(o->fd, EPOLLIN | EPOLLONESHOT);
	struct epoll_event ev = { .events = EPOLLIN | EPOLLONESHOT };
	struct sleeper s;

	for (int round = 0; round < 5; round++) {
		peer_text(o, op_puts, 0, "x");
		obs("wait", epoll_wait(ep, &ev, 1, 3000));
		obs_recv(o->fd, 10, 0);
		sleeper_begin(&s, ep);
		ev = (struct epoll_event){ .events = EPOLLIN | EPOLLONESHOT };
		obs("renewed", epoll_ctl(ep, EPOLL_CTL_MOD, o->fd, &ev));
		obs("wait", epoll_wait(ep, &ev, 1, 0));
		peer_text(o, op_puts, 0, "y");
		sleeper_end(&s);
		obs_recv(o->fd, 10, 0);
		ev = (struct epoll_event){ .events = EPOLLIN | EPOLLONESHOT };
		epoll_ctl(ep, EPOLL_CTL_MOD, o->fd, &ev);
	}
	close(ep);
}

int main(int argc, char **argv)
{
	static const struct obs_case cases[] = {
		{ "two sets, two sleepers", two_sets_asleep, STREAM | SEQP | UDP4 | DGPAIR, 0 },
		{ "a reader and a waiter", reader_and_waiter, STREAM, 0 },
		{ "a reader and a poller", reader_and_poller, STREAM, 0 },
		{ "exclusive sleepers", exclusive_asleep, STREAM | UDP4, 0 },
		{ "levels wake all threads", levels_wake_all, STREAM | SEQP, THREADS },
		{ "an edge wakes one thread, the next one another", edges_wake_one, STREAM | SEQP, THREADS },
		{ "asked beside a sleeper", asked_beside_a_sleeper, STREAM | SEQP, 0 },
		{ "one-shot among threads", one_shot_threads, STREAM, THREADS },
		{ "two descriptors of one socket", two_descriptors, STREAM | UDP4, 0 },
		{ "a number that another socket gets", number_reused, STREAM | SEQP, 0 },
		{ "a set by another number", set_renumbered, STREAM, 0 },
		{ "one-shots that look alike", alike, STREAM | SEQP, 0 },
		{ "a quiet one of many", quiet_one, STREAM | SEQP, 0 },
		{ "removed while somebody sleeps", removed_asleep, STREAM | UDP4, 0 },
		{ "closed while somebody sleeps", closed_asleep, STREAM, 0 },
		{ "modified while somebody sleeps", modified_asleep, STREAM | UDP4 | SEQP, 0 },
		{ "added before it is connected", added_before_connect, TCP4 | TCP6 | UNIXP, NO_RING },
		{ "three sets, one in the other", three_deep, STREAM | UDP4, 0 },
		{ "edges and partial reads", edges_and_partial_reads, STREAM, THREADS },
		{ "the time of a wait", wait_times, STREAM | DGPAIR, 0 },
		{ "a shared set, asleep", shared_by_sleepers, STREAM, 0 },
		{ "a shared set, additions after the fork", additions_after_fork, STREAM, 0 },
		{ "a shared set, both add and sleep", both_add_and_sleep, TCP4 | PAIR, SLOW },
		{ "a shared set, both add and poll", both_add_and_poll, TCP4 | PAIR, SLOW },
		{ "a shared set, rung for the other", rung_for_the_other, TCP4 | PAIR, 0 },
		{ "a shared set, hot after the fork", hot_after_a_fork, STREAM, NO_RING },
		{ "a shared set, asleep at the fork", asleep_at_a_fork, TCP4 | PAIR, 0 },
		{ "fork amid changes", fork_amid_changes, TCP4 | PAIR, SLOW },
		{ "the other way round", the_other_way_round, STREAM | UDP4, 0 },
		{ "a child asks about a set", child_asks, STREAM, 0 },
		{ "fork with handlers that wait", handlers_of_fork, TCP4 | PAIR, SLOW },
		{ "a child closes its copies", child_closes, STREAM | SEQP, 0 },
		{ "room elsewhere", room_elsewhere, STREAM, COLD_ONLY },
		{ "in and out", in_and_out, STREAM | UDP4 | SEQP, 0 },
		{ 0 },
	};

	return obs_main(argc, argv, cases);
}
