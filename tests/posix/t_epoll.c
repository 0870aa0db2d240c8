/* SPDX-License-Identifier: MIT */
/* ring: yes */
/* epoll: level, edge, one-shot, exclusive; nested and mixed sets; the caller's 64 bits; removal. */
#include "obs.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

#define TOKEN 0x8badf00ddeadbeefull

static int ep_new(int fd, uint32_t events, uint64_t data)
{
	struct epoll_event ev = { .events = events, .data.u64 = data };
	int ep = epoll_create1(EPOLL_CLOEXEC);

	if (ep < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev))
		die("epoll");
	return ep;
}

static void show(const char *what, int ep, int timeout)
{
	struct epoll_event ev[4];
	int rc = epoll_wait(ep, ev, 4, timeout);
	char text[40];

	if (rc <= 0) {
		obs(what, rc);
		return;
	}
	/* The order among several is nobody's promise: the token's first. */
	for (int pass = 0; pass < 2; pass++)
		for (int i = 0; i < rc; i++) {
			if ((ev[i].data.u64 == TOKEN) == pass)
				continue;
			snprintf(text, sizeof(text), "%s %s", what, pass ? "other" : "token");
			obs_events(text, rc, ev[i].events);
		}
}

static int ctl(int ep, int op, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event ev = { .events = events, .data.u64 = data };

	return epoll_ctl(ep, op, fd, &ev);
}

static void level(struct obs *o)
{
	int ep = ep_new(o->fd, EPOLLIN | EPOLLRDHUP, TOKEN);

	show("quiet", ep, 0);
	peer_text(o, op_puts, 0, "data");
	show("data", ep, 3000);
	show("data still", ep, 0);
	obs_recv(o->fd, 2, 0);
	show("the rest", ep, 0);
	obs_recv(o->fd, 10, 0);
	show("quiet", ep, 0);
	obs("mod", ctl(ep, EPOLL_CTL_MOD, o->fd, EPOLLIN | EPOLLOUT, TOKEN));
	show("writable", ep, 0);
	show("writable still", ep, 0);
	obs("mod", ctl(ep, EPOLL_CTL_MOD, o->fd, EPOLLIN | EPOLLRDHUP, TOKEN));
	peer(o, op_shutdown, SHUT_WR, 0);
	show("half-closed", ep, 3000);
	obs_recv(o->fd, 10, 0);
	show("half-closed", ep, 0);
	shutdown(o->fd, SHUT_WR);
	show("both", ep, 0);
	obs("mod", ctl(ep, EPOLL_CTL_MOD, o->fd, 0, TOKEN));
	show("nothing asked", ep, 0);
}

static void closed_peer(struct obs *o)
{
	int ep = ep_new(o->fd, EPOLLIN, TOKEN);

	peer_text(o, op_puts, 0, "last");
	peer(o, op_close, 0, 0);
	show("closed", ep, 3000);
	obs_recv(o->fd, 10, 0);
	show("closed", ep, 3000);
	obs_recv(o->fd, 10, 0);
	show("closed", ep, 3000);
	obs("mod", ctl(ep, EPOLL_CTL_MOD, o->fd, EPOLLIN | EPOLLRDHUP | EPOLLOUT, TOKEN));
	show("closed", ep, 3000);
}

static void edge(struct obs *o)
{
	int ep = ep_new(o->fd, EPOLLIN | EPOLLET, TOKEN);

	show("quiet", ep, 0);
	peer_text(o, op_puts, 0, "one");
	show("first", ep, 3000);
	show("not again", ep, 0);
	obs_recv(o->fd, 1, 0);
	show("not for what is left", ep, 0);
	peer_text(o, op_puts, 0, "two");
	show("new data", ep, 3000);
	show("not again", ep, 0);
	obs_recv(o->fd, 100, 0);
	if (o->type != SOCK_STREAM)
		obs_recv(o->fd, 100, MSG_DONTWAIT);
	obs_recv(o->fd, 100, MSG_DONTWAIT);
	show("empty", ep, 0);
	peer_text(o, op_puts, 0, "three");
	show("after empty", ep, 3000);
	obs("mod arms", ctl(ep, EPOLL_CTL_MOD, o->fd, EPOLLIN | EPOLLET, TOKEN));
	show("again", ep, 3000);
	show("not again", ep, 0);
	obs("add of a ready one", close(ep) || (ep = ep_new(o->fd, EPOLLIN | EPOLLET, TOKEN)) < 0);
	show("at once", ep, 3000);
	show("not again", ep, 0);
}

static void edge_both(struct obs *o)
{
	int ep = ep_new(o->fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, TOKEN);

	show("writable", ep, 3000);
	show("not again", ep, 0);
	peer_text(o, op_puts, 0, "data");
	show("data", ep, 3000);
	show("not again", ep, 0);
	obs_recv(o->fd, 10, 0);
	show("empty", ep, 0);
	obs_send(o->fd, "out", 0);
	obs("peer recv", peer(o, op_recv, 10, 0));
}

static void edge_end(struct obs *o)
{
	int ep = ep_new(o->fd, EPOLLIN | EPOLLRDHUP | EPOLLET, TOKEN);

	peer_text(o, op_puts, 0, "data");
	show("data", ep, 3000);
	peer(o, op_shutdown, SHUT_WR, 0);
	show("half-close", ep, 3000);
	show("not again", ep, 0);
	obs_recv(o->fd, 10, 0);
	obs_recv(o->fd, 10, 0);
	peer(o, op_close, 0, 0);
	obs_send(o->fd, "x", MSG_NOSIGNAL);
}

/* Edge-triggered writing: EAGAIN, then one event when there is room. */
static void edge_writable(struct obs *o)
{
	static char buf[40000];
	int ep = ep_new(o->fd, EPOLLOUT | EPOLLET, TOKEN);
	long sent = 0;
	ssize_t rc;

	nonblock(o->fd, true);
	show("writable", ep, 3000);
	while ((rc = send(o->fd, buf, sizeof(buf), 0)) > 0)
		sent += rc;
	show("full", ep, 0);
	peer_start(o, op_sink, 0, 0);
	show("room", ep, 3000);
	shutdown(o->fd, SHUT_WR);
	note("all arrive: %d", peer_done(o) == sent);
}

/* The classical loop: edge, read until EAGAIN; nothing may be lost however the bytes come. */
static void edge_loop(struct obs *o)
{
	int ep = ep_new(o->fd, EPOLLIN | EPOLLET | EPOLLRDHUP, TOKEN);
	static unsigned char buf[5000], expect[5000];
	struct epoll_event ev;
	long got = 0, wrong = 0;
	ssize_t rc = 1;

	nonblock(o->fd, true);
	peer_start(o, op_bulk_out, 3000000, 6);
	while (got < 3000000 && epoll_wait(ep, &ev, 1, 3000) == 1) {
		while ((rc = recv(o->fd, buf, sizeof(buf), 0)) > 0) {
			pattern(expect, (size_t)rc, (uint64_t)got, 6);
			wrong += memcmp(buf, expect, (size_t)rc) != 0;
			got += rc;
		}
	}
	note("got %ld wrong %ld", got, wrong);
	peer_done(o);
}

static long op_trickle(struct obs *o, long n, long b)
{
	char c = 0;

	(void)b;
	for (long i = 0; i < n; i++)
		if (send(o->fd, &c, 1, 0) != 1 || recv(o->fd, &c, 1, 0) != 1)
			return i;
	return n;
}

/* One byte at a time, each awaited by an edge: a lost edge is a hang. */
static void edge_ping_pong(struct obs *o)
{
	int ep = ep_new(o->fd, EPOLLIN | EPOLLET, TOKEN);
	struct epoll_event ev;
	long got = 0;
	char c;

	nonblock(o->fd, true);
	peer_start(o, op_trickle, 3000, 0);
	while (got < 3000 && epoll_wait(ep, &ev, 1, 3000) == 1) {
		while (recv(o->fd, &c, 1, 0) == 1) {
			got++;
			if (send(o->fd, &c, 1, 0) != 1)
				obs("send", -1);
		}
	}
	note("got %ld", got);
	obs("peer", peer_done(o));
}

static void level_ping_pong(struct obs *o)
{
	int ep = ep_new(o->fd, EPOLLIN, TOKEN);
	struct epoll_event ev;
	long got = 0;
	char c;

	peer_start(o, op_trickle, 3000, 0);
	while (got < 3000 && epoll_wait(ep, &ev, 1, 3000) == 1 && recv(o->fd, &c, 1, 0) == 1 && send(o->fd, &c, 1, 0) == 1)
		got++;
	note("got %ld", got);
	obs("peer", peer_done(o));
}

static void one_shot(struct obs *o)
{
	int ep = ep_new(o->fd, EPOLLIN | EPOLLONESHOT, TOKEN);

	peer_text(o, op_puts, 0, "one");
	show("first", ep, 3000);
	show("disarmed", ep, 0);
	obs_recv(o->fd, 10, 0);
	peer_text(o, op_puts, 0, "two");
	settle(o->fd);
	show("disarmed", ep, 20);
	obs("mod", ctl(ep, EPOLL_CTL_MOD, o->fd, EPOLLIN | EPOLLONESHOT, TOKEN + 1));
	show("armed", ep, 3000);
	show("disarmed", ep, 0);
	obs("mod", ctl(ep, EPOLL_CTL_MOD, o->fd, EPOLLIN | EPOLLONESHOT | EPOLLET, TOKEN));
	show("armed, edge", ep, 3000);
	show("disarmed", ep, 0);
	obs_recv(o->fd, 10, 0);
	obs("mod", ctl(ep, EPOLL_CTL_MOD, o->fd, EPOLLIN | EPOLLONESHOT, TOKEN));
	show("quiet", ep, 0);
	peer(o, op_close, 0, 0);
	show("closed", ep, 3000);
	show("disarmed, even for HUP", ep, 0);
}

static void exclusive(struct obs *o)
{
	int a = ep_new(o->fd, EPOLLIN | EPOLLEXCLUSIVE, TOKEN), b = ep_new(o->fd, EPOLLIN | EPOLLEXCLUSIVE, TOKEN);

	show("quiet", a, 0);
	peer_text(o, op_puts, 0, "x");
	settle(o->fd);
	show("a", a, 3000);
	show("b", b, 3000);
	obs("mod is refused", ctl(a, EPOLL_CTL_MOD, o->fd, EPOLLIN, TOKEN));
	obs("exclusive with one-shot", ctl(epoll_create1(0), EPOLL_CTL_ADD, o->fd, EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT, TOKEN));
	obs("del", ctl(a, EPOLL_CTL_DEL, o->fd, 0, 0));
	obs_recv(o->fd, 10, 0);
	show("b", b, 0);
}

static void the_callers_bits(struct obs *o)
{
	static const uint64_t bits[] = { 0, 1, UINT64_MAX, 0x8000000000000000ull, TOKEN, 3 };
	struct epoll_event ev;
	int ep = ep_new(o->fd, EPOLLIN, 0);

	peer_text(o, op_puts, 0, "x");
	settle(o->fd);
	for (size_t i = 0; i < sizeof(bits) / sizeof(bits[0]); i++) {
		ctl(ep, EPOLL_CTL_MOD, o->fd, EPOLLIN, bits[i]);
		memset(&ev, 0x5a, sizeof(ev));
		obs("epoll_wait", epoll_wait(ep, &ev, 1, 3000));
		note("%llx", (unsigned long long)ev.data.u64);
	}
	ev.events = 0;
	obs("epoll_pwait", epoll_pwait(ep, &ev, 1, 0, NULL));
	obs("epoll_pwait2", epoll_pwait2(ep, &ev, 1, &(struct timespec){ 0 }, NULL));
}

static void misuse(struct obs *o)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int ep = ep_new(o->fd, EPOLLIN, TOKEN), file = open(obs_dir(), O_RDONLY);
	volatile int negative = -1; /* the compiler must not know */

	obs("add twice", ctl(ep, EPOLL_CTL_ADD, o->fd, EPOLLIN, 0));
	obs("add closed", ctl(ep, EPOLL_CTL_ADD, 9999, EPOLLIN, 0));
	obs("add itself", ctl(ep, EPOLL_CTL_ADD, ep, EPOLLIN, 0));
	obs("add a directory", ctl(ep, EPOLL_CTL_ADD, file, EPOLLIN, 0));
	obs("mod absent", ctl(ep, EPOLL_CTL_MOD, 0, EPOLLIN, 0));
	obs("to a socket", ctl(o->fd, EPOLL_CTL_ADD, 0, EPOLLIN, 0));
	obs("unknown op", ctl(ep, 99, o->fd, EPOLLIN, 0));
	obs("wait for 0", epoll_wait(ep, &ev, 0, 0));
	obs("wait for -1", epoll_wait(ep, &ev, negative, 0));
	obs("wait on a socket", epoll_wait(o->fd, &ev, 1, 0));
	obs("wait on nothing", epoll_wait(-1, &ev, 1, 0));
	obs("create 0", epoll_create(0));
	obs("create1 with unknown flags", epoll_create1(12345));
	obs("del", ctl(ep, EPOLL_CTL_DEL, o->fd, 0, 0));
	obs("del again", ctl(ep, EPOLL_CTL_DEL, o->fd, 0, 0));
	peer_text(o, op_puts, 0, "x");
	settle(o->fd);
	show("deleted", ep, 20);
	obs("add", ctl(ep, EPOLL_CTL_ADD, o->fd, EPOLLIN, TOKEN));
	show("added", ep, 3000);
	obs_poll(ep, POLLIN);
}

static void close_removes(struct obs *o)
{
	int copy = dup(o->fd), ep = ep_new(o->fd, EPOLLIN, TOKEN), fds[2];

	peer_text(o, op_puts, 0, "x");
	settle(o->fd);
	show("both open", ep, 3000);
	obs("close", close(o->fd));
	show("the copy keeps it", ep, 3000);
	obs("close the copy", close(copy));
	show("gone", ep, 0);
	if (pipe(fds))
		die("pipe");
	obs("same number, another file", ctl(ep, EPOLL_CTL_ADD, fds[0], EPOLLIN, TOKEN));
	show("quiet", ep, 0);
	obs("write", write(fds[1], "x", 1));
	show("the pipe", ep, 0);
}

static void copies_have_registrations(struct obs *o)
{
	int copy = dup(o->fd), ep = ep_new(o->fd, EPOLLIN, TOKEN);

	obs("add the copy", ctl(ep, EPOLL_CTL_ADD, copy, EPOLLOUT, 5));
	show("copy writable", ep, 3000);
	peer_text(o, op_puts, 0, "x");
	settle(o->fd);
	show("both", ep, 3000);
	obs("del the copy", ctl(ep, EPOLL_CTL_DEL, copy, 0, 0));
	show("one", ep, 3000);
}

static void nested(struct obs *o)
{
	int inner = ep_new(o->fd, EPOLLIN, TOKEN), outer = ep_new(inner, EPOLLIN, 77);
	struct pollfd p = { .fd = inner, .events = POLLIN };

	show("quiet", outer, 0);
	obs("poll quiet", poll(&p, 1, 0));
	peer_text(o, op_puts, 0, "x");
	settle(o->fd);
	show("outer", outer, 3000);
	int rc = poll(&p, 1, 3000);
	obs_events("poll", rc, (unsigned)p.revents);
	show("inner", inner, 3000);
	obs_recv(o->fd, 10, 0);
	show("outer quiet", outer, 0);
	show("inner quiet", inner, 0);
}

static void *late_send(void *arg)
{
	struct obs *o = arg;

	if (thread_asleep(getpid(), getpid(), -1))
		peer_text(o, op_puts, 0, "wake");
	return NULL;
}

static void nested_sleep(struct obs *o)
{
	int inner = ep_new(o->fd, EPOLLIN, TOKEN), outer = ep_new(inner, EPOLLIN, 77);
	pthread_t t;

	for (int i = 0; i < 3; i++) {
		pthread_create(&t, NULL, late_send, o);
		show("outer wakes", outer, 3000);
		pthread_join(t, NULL);
		obs_recv(o->fd, 10, 0);
	}
	for (int i = 0; i < 3; i++) {
		struct pollfd p = { .fd = inner, .events = POLLIN };
		int rc;

		pthread_create(&t, NULL, late_send, o);
		rc = poll(&p, 1, 3000);
		obs_events("poll of the set wakes", rc, (unsigned)p.revents);
		pthread_join(t, NULL);
		obs_recv(o->fd, 10, 0);
	}
}

static void sleeping_wait(struct obs *o)
{
	int ep = ep_new(o->fd, EPOLLIN, TOKEN);
	pthread_t t;

	for (int i = 0; i < 5; i++) {
		pthread_create(&t, NULL, late_send, o);
		show("wakes", ep, 3000);
		pthread_join(t, NULL);
		obs_recv(o->fd, 10, 0);
	}
	int64_t start = now_ms();
	show("timeout", ep, 60);
	note("waited: %d", now_ms() - start >= 55);
}

static void *late_stdio(void *arg)
{
	struct obs *o = arg;

	if (thread_asleep(getpid(), getpid(), -1))
		peer(o, op_by_stdio, 0, 0);
	return NULL;
}

static void woken_by_another_way(struct obs *o)
{
	uint32_t how = o->kind & (TCP4 | UNIXP) ? EPOLLIN : EPOLLIN | EPOLLET;
	int ep = ep_new(o->fd, how, TOKEN);
	pthread_t t;

	for (int i = 0; i < 2; i++) {
		pthread_create(&t, NULL, late_stdio, o);
		show("wakes", ep, 3000);
		pthread_join(t, NULL);
		obs_recv(o->fd, 100, MSG_DONTWAIT);
		warm(o);
		close(ep);
		ep = ep_new(o->fd, how, TOKEN);
	}
}

static long op_by_fork(struct obs *o, long a, long b)
{
	pid_t pid = obs_fork();

	(void)a;
	(void)b;
	if (pid == 0)
		_exit(send(o->fd, "by a child", 10, 0) != 10);
	return obs_wait(pid);
}

static void *late_fork(void *arg)
{
	struct obs *o = arg;

	if (thread_asleep(getpid(), getpid(), -1))
		peer(o, op_by_fork, 0, 0);
	return NULL;
}

static void woken_by_a_child_of_the_peer(struct obs *o)
{
	int ep = ep_new(o->fd, EPOLLIN, TOKEN);
	pthread_t t;

	for (int i = 0; i < 2; i++) {
		pthread_create(&t, NULL, late_fork, o);
		show("wakes", ep, 3000);
		pthread_join(t, NULL);
		obs_recv(o->fd, 100, MSG_DONTWAIT);
	}
}

/* A registration made while another thread sleeps in the same set counts. */
static void *late_add(void *arg)
{
	int *x = arg; /* ep, fd */

	if (thread_asleep(getpid(), getpid(), -1))
		ctl(x[0], EPOLL_CTL_ADD, x[1], EPOLLIN, TOKEN);
	return NULL;
}

static void add_while_another_sleeps(struct obs *o)
{
	int x[2] = { epoll_create1(0), o->fd };
	pthread_t t;

	peer_text(o, op_puts, 0, "x");
	settle(o->fd);
	pthread_create(&t, NULL, late_add, x);
	show("woken by the addition", x[0], 3000);
	pthread_join(t, NULL);
}

/* Two threads, each asleep in a set of its own over the same connection: what comes wakes both, whoever is quicker. */
struct watcher {
	int ep;
	int begin, done; /* eventfds */
};

static void *watch_rounds(void *arg)
{
	struct watcher *w = arg;
	struct epoll_event ev;
	uint64_t rc, go;

	while (read(w->begin, &go, sizeof(go)) == sizeof(go) && go == 1) {
		rc = epoll_wait(w->ep, &ev, 1, 3000) == 1 && (ev.events & EPOLLIN) ? 1 : 1000;
		if (write(w->done, &rc, sizeof(rc)) != sizeof(rc))
			break;
	}
	return NULL;
}

static void two_sets_two_threads_of(struct obs *o, uint32_t flags, const char *name)
{
	uint64_t go = 1, stop = 2, rc;
	struct watcher w[2];
	pthread_t t[2];
	int woken = 0;

	for (int i = 0; i < 2; i++) {
		w[i] = (struct watcher){ ep_new(o->fd, EPOLLIN | flags, TOKEN), eventfd(0, 0), eventfd(0, 0) };
		pthread_create(&t[i], NULL, watch_rounds, &w[i]);
	}
	for (int k = 0; k < 100; k++) {
		for (int i = 0; i < 2; i++)
			if (write(w[i].begin, &go, sizeof(go)) != sizeof(go))
				die("eventfd");
		usleep(k % 4 * 100); /* often both sleep, sometimes one is on its way */
		peer_text(o, op_puts, 0, "x");
		for (int i = 0; i < 2; i++)
			woken += read(w[i].done, &rc, sizeof(rc)) == sizeof(rc) && rc == 1;
		if (recv(o->fd, &rc, 1, 0) != 1)
			die("recv");
		if (woken != 2 * (k + 1))
			break;
	}
	note("%s, wake-ups: %d", name, woken);
	for (int i = 0; i < 2; i++) {
		if (write(w[i].begin, &stop, sizeof(stop)) != sizeof(stop))
			die("eventfd");
		pthread_join(t[i], NULL);
		close(w[i].ep);
		close(w[i].begin);
		close(w[i].done);
	}
}

static void two_sets_two_threads(struct obs *o)
{
	two_sets_two_threads_of(o, 0, "level");
	two_sets_two_threads_of(o, EPOLLET, "edge");
}

/* The room that comes after a full write is news for each edge-triggered set. */
static void room_is_news_for_both_sets(struct obs *o)
{
	int a = ep_new(o->fd, EPOLLOUT | EPOLLET, TOKEN), b = ep_new(o->fd, EPOLLOUT | EPOLLET, TOKEN);
	char some[4096] = { 0 };
	struct epoll_event ev;
	long all = 0, n;

	obs("at first", epoll_wait(a, &ev, 1, 0) + epoll_wait(b, &ev, 1, 0));
	while ((n = send(o->fd, some, sizeof(some), MSG_DONTWAIT)) > 0)
		all += n;
	obs("full", epoll_wait(a, &ev, 1, 0) + epoll_wait(b, &ev, 1, 0));
	peer_start(o, op_sink, 0, 0);
	obs("one", epoll_wait(a, &ev, 1, 3000));
	obs("the other", epoll_wait(b, &ev, 1, 3000));
	shutdown(o->fd, SHUT_WR);
	note("all read: %d", peer_done(o) == all);
}

/* One thread sleeps in a set while another one writes so much that the connection changes its lane; then the peer writes. */
static void *sleep_in_set(void *arg)
{
	struct watcher *w = arg;
	struct epoll_event ev;
	uint64_t rc;

	if (write(w->begin, &(uint64_t){ (uint64_t)gettid() }, 8) != 8)
		die("eventfd");
	rc = epoll_wait(w->ep, &ev, 1, 5000) == 1 ? 1 : 1000;
	if (write(w->done, &rc, sizeof(rc)) != sizeof(rc))
		die("eventfd");
	return NULL;
}

static void switched_by_another_thread(struct obs *o, bool level)
{
	struct watcher w = { ep_new(o->fd, EPOLLIN | (level ? 0 : EPOLLET), TOKEN), eventfd(0, 0), eventfd(0, 0) };
	uint64_t rc = 0, tid = 0;
	pthread_t t;

	pthread_create(&t, NULL, sleep_in_set, &w);
	if (read(w.begin, &tid, sizeof(tid)) != sizeof(tid) || !thread_asleep(getpid(), (pid_t)tid, w.done))
		die("the sleeper");
	for (int i = 0; i < 60; i++) {
		if (send(o->fd, "y", 1, 0) != 1)
			die("send");
		peer(o, op_recv, 1, 0);
	}
	peer_text(o, op_puts, 0, "x");
	rc = read(w.done, &rc, sizeof(rc)) == sizeof(rc) ? rc : 0;
	note("%s, woken: %d", level ? "level" : "edge", rc == 1);
	pthread_join(t, NULL);
	obs_recv(o->fd, 10, 0);
	close(w.ep);
	close(w.begin);
	close(w.done);
}

static void switched_while_asleep_level(struct obs *o)
{
	switched_by_another_thread(o, true);
}

static void switched_while_asleep_edge(struct obs *o)
{
	switched_by_another_thread(o, false);
}

/* The reader has ended its own direction before the lanes change, and can ring no bell: the writer hears of room all the same. */
static void room_from_a_silent_reader(struct obs *o, uint32_t flags)
{
	int ep = ep_new(o->fd, EPOLLOUT | flags, TOKEN);
	static char some[30000];
	long all = 8000000, done = 0;
	struct epoll_event ev;

	peer(o, op_shutdown, SHUT_WR, 0);
	peer_start(o, op_sink, 0, 0);
	while (done < all) {
		ssize_t n = send(o->fd, some, (size_t)(all - done < 30000 ? all - done : 30000), MSG_DONTWAIT);

		if (n > 0)
			done += n;
		else if (errno != EAGAIN || epoll_wait(ep, &ev, 1, 3000) != 1)
			break;
	}
	note("written: %ld", done);
	shutdown(o->fd, SHUT_WR);
	obs("peer read", peer_done(o));
}

static void room_level(struct obs *o)
{
	room_from_a_silent_reader(o, 0);
}

static void room_edge(struct obs *o)
{
	room_from_a_silent_reader(o, EPOLLIN | EPOLLRDHUP | EPOLLET);
}

static void mixed(struct obs *o)
{
	struct itimerspec soon = { .it_value = { .tv_nsec = 20000000 } };
	int ep = ep_new(o->fd, EPOLLIN, TOKEN), fds[2], event = eventfd(0, 0), timer = timerfd_create(CLOCK_MONOTONIC, 0), plain[2];
	uint64_t one = 1;
	char c;

	if (pipe(fds) || socketpair(AF_UNIX, SOCK_STREAM, 0, plain))
		die("pipe");
	obs("add pipe", ctl(ep, EPOLL_CTL_ADD, fds[0], EPOLLIN, 1));
	obs("add eventfd", ctl(ep, EPOLL_CTL_ADD, event, EPOLLIN, 2));
	obs("add timerfd", ctl(ep, EPOLL_CTL_ADD, timer, EPOLLIN, 3));
	obs("add socketpair", ctl(ep, EPOLL_CTL_ADD, plain[0], EPOLLIN | EPOLLET, 4));
	show("quiet", ep, 0);
	obs("write", write(fds[1], "x", 1));
	show("pipe", ep, 3000);
	peer_text(o, op_puts, 0, "x");
	settle(o->fd);
	struct epoll_event ev[8];
	obs("pipe and socket", epoll_wait(ep, ev, 8, 3000));
	obs("one at a time", epoll_wait(ep, ev, 1, 3000));
	obs("read", read(fds[0], &c, 1));
	show("socket", ep, 3000);
	obs_recv(o->fd, 10, 0);
	obs("write", write(event, &one, 8));
	show("eventfd", ep, 3000);
	obs("read", read(event, &one, 8));
	timerfd_settime(timer, 0, &soon, NULL);
	show("timerfd", ep, 3000);
	obs("read", read(timer, &one, 8));
	obs("send", send(plain[1], "x", 1, 0));
	show("socketpair", ep, 3000);
	show("edge", ep, 0);
}

/* Room for one event at a time, three descriptors always ready: each gets its turn. */
static void fairness(struct obs *o)
{
	int ep = ep_new(o->fd, EPOLLIN, 0), fds[2], event = eventfd(1, 0);
	long seen[3] = { 0 };
	struct epoll_event ev;

	if (pipe(fds) || write(fds[1], "x", 1) != 1)
		die("pipe");
	ctl(ep, EPOLL_CTL_ADD, fds[0], EPOLLIN, 1);
	ctl(ep, EPOLL_CTL_ADD, event, EPOLLIN, 2);
	peer_text(o, op_puts, 0, "x");
	settle(o->fd);
	for (int i = 0; i < 300; i++)
		if (epoll_wait(ep, &ev, 1, 3000) == 1 && ev.data.u64 < 3)
			seen[ev.data.u64]++;
	note("turns: %d %d %d", seen[0] >= 30, seen[1] >= 30, seen[2] >= 30);
}

/* A set made before fork is used by both. */
static void shared_by_fork(struct obs *o)
{
	int ep = ep_new(o->fd, EPOLLIN, TOKEN);
	pid_t pid;

	fflush(stdout);
	pid = obs_fork();
	if (pid == 0) {
		show("child", ep, 3000);
		obs_recv(o->fd, 1, 0);
		fflush(stdout);
		_exit(0);
	}
	peer_text(o, op_puts, 0, "ab");
	obs("child ends", obs_wait(pid));
	show("parent", ep, 3000);
	obs_recv(o->fd, 10, 0);
	show("parent", ep, 0);
}

/* The number of a set that has become a socket's. */
static void no_set(struct obs *o)
{
	struct epoll_event ev = { .events = EPOLLIN };

	obs("ADD", epoll_ctl(o->fd, EPOLL_CTL_ADD, o->fd, &ev));
	obs("DEL", epoll_ctl(o->fd, EPOLL_CTL_DEL, o->fd, &ev));
	obs("epoll_wait", epoll_wait(o->fd, &ev, 1, 0));
	peer_text(o, op_puts, 0, "it goes on");
	obs_recv(o->fd, 20, 0);
}

int main(int argc, char **argv)
{
	static const struct obs_case cases[] = {
		{ "no set", no_set, STREAM | SEQ | UDP, 0 },
		{ "level", level, EVERY_STREAM, THREADS },
		{ "a closed peer", closed_peer, STREAM | SEQP, 0 },
		{ "edge", edge, STREAM | DGRAM | SEQP, THREADS },
		{ "edge, in and out", edge_both, STREAM, 0 },
		{ "edge and the end", edge_end, STREAM, 0 },
		{ "edge when writable", edge_writable, STREAM, 0 },
		{ "edge, read until EAGAIN", edge_loop, STREAM, THREADS },
		{ "edge, there and back", edge_ping_pong, STREAM | DGRAM, THREADS },
		{ "level, there and back", level_ping_pong, STREAM | DGRAM, THREADS },
		{ "one-shot", one_shot, STREAM, 0 },
		{ "exclusive", exclusive, STREAM, 0 },
		{ "the caller's bits", the_callers_bits, STREAM | UDP4, 0 },
		{ "misuse", misuse, STREAM, 0 },
		{ "close removes", close_removes, STREAM | UDP4, 0 },
		{ "copies have registrations of their own", copies_have_registrations, STREAM, 0 },
		{ "nested sets", nested, STREAM | UDP4, 0 },
		{ "nested sets, asleep", nested_sleep, STREAM | UDP4, 0 },
		{ "asleep", sleeping_wait, STREAM | DGRAM | SEQP, THREADS },
		{ "woken by bytes of another way", woken_by_another_way, STREAM, 0 },
		{ "woken by a child of the peer", woken_by_a_child_of_the_peer, STREAM, 0 },
		{ "an addition while another thread sleeps", add_while_another_sleeps, STREAM, 0 },
		{ "two sets, two threads", two_sets_two_threads, STREAM, THREADS },
		{ "room is news for both sets", room_is_news_for_both_sets, STREAM, 0 },
		{ "the lane changes while another thread sleeps, level", switched_while_asleep_level, STREAM, COLD_ONLY },
		{ "the lane changes while another thread sleeps, edge", switched_while_asleep_edge, STREAM, COLD_ONLY },
		{ "room from a silent reader, level", room_level, STREAM, 0 },
		{ "room from a silent reader, edge", room_edge, STREAM, 0 },
		{ "a mixed set", mixed, STREAM | DGRAM, 0 },
		{ "everybody gets a turn", fairness, STREAM | UDP4, 0 },
		{ "a set shared by fork", shared_by_fork, STREAM, 0 },
		{ 0 },
	};

	return obs_main(argc, argv, cases);
}
