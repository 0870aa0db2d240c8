/* SPDX-License-Identifier: MIT */
/* ring: yes */
/* poll, ppoll, select, pselect: readiness of every state, mixed with pipes, eventfds, timerfds and files. */
#include "obs.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/timerfd.h>

#define ALL (POLLIN | POLLPRI | POLLOUT | POLLRDNORM | POLLRDBAND | POLLWRNORM | POLLWRBAND | POLLRDHUP)

static void states(struct obs *o)
{
	obs_poll(o->fd, (short)ALL);
	peer_text(o, op_puts, 0, "x");
	settle(o->fd);
	obs_poll(o->fd, (short)ALL);
	obs_poll(o->fd, 0);
	obs_poll(o->fd, POLLOUT);
	obs_poll(o->fd, POLLPRI);
	obs_recv(o->fd, 10, 0);
	obs_poll(o->fd, POLLIN);
	peer(o, op_shutdown, SHUT_WR, 0);
	settle(o->fd);
	obs_poll(o->fd, (short)ALL);
	obs_poll(o->fd, 0);
	obs_recv(o->fd, 10, 0);
	obs_poll(o->fd, (short)ALL);
	shutdown(o->fd, SHUT_WR);
	obs_poll(o->fd, (short)ALL);
	obs_poll(o->fd, 0);
	peer(o, op_close, 0, 0);
	obs_poll(o->fd, (short)ALL);
}

static void datagram_states(struct obs *o)
{
	obs_poll(o->fd, (short)ALL);
	peer_text(o, op_puts, 0, "x");
	settle(o->fd);
	obs_poll(o->fd, (short)ALL);
	obs_poll(o->fd, 0);
	obs_poll(o->fd, POLLOUT);
	obs_recv(o->fd, 10, 0);
	obs_poll(o->fd, (short)ALL);
	peer(o, op_shutdown, SHUT_WR, 0);
	obs_poll(o->fd, (short)ALL);
	shutdown(o->fd, SHUT_RD);
	obs_poll(o->fd, (short)ALL);
	shutdown(o->fd, SHUT_WR);
	obs_poll(o->fd, (short)ALL);
	peer(o, op_close, 0, 0);
	obs_poll(o->fd, (short)ALL);
}

static void closed_peer(struct obs *o)
{
	peer(o, op_close, 0, 0);
	obs_poll_until(o->fd, POLLIN);
	obs_poll(o->fd, (short)ALL);
	obs_poll(o->fd, 0);
}

static void fds_show(const char *what, int rc, int fd, fd_set *r, fd_set *w, fd_set *e)
{
	note("%s = %d:%s%s%s", what, rc, FD_ISSET(fd, r) ? " r" : "", FD_ISSET(fd, w) ? " w" : "", FD_ISSET(fd, e) ? " e" : "");
}

static void select_one(int fd)
{
	struct timeval tv = { 0 };
	fd_set r, w, e;
	int rc;

	FD_ZERO(&r);
	FD_ZERO(&w);
	FD_ZERO(&e);
	FD_SET(fd, &r);
	FD_SET(fd, &w);
	FD_SET(fd, &e);
	rc = select(fd + 1, &r, &w, &e, &tv);
	fds_show("select", rc, fd, &r, &w, &e);
}

static void select_states(struct obs *o)
{
	select_one(o->fd);
	peer_text(o, op_puts, 0, "x");
	settle(o->fd);
	select_one(o->fd);
	obs_recv(o->fd, 10, 0);
	select_one(o->fd);
	peer(o, op_close, 0, 0);
	settle(o->fd);
	select_one(o->fd);
	obs_recv(o->fd, 10, 0);
	select_one(o->fd);
}

static void timeouts(struct obs *o)
{
	struct pollfd p = { .fd = o->fd, .events = POLLIN };
	struct timespec ts = { .tv_nsec = 60000000 };
	struct timeval tv = { .tv_usec = 60000 };
	int64_t start = now_ms();
	fd_set set;

	obs("poll 60", poll(&p, 1, 60));
	note("waited: %d", now_ms() - start >= 55);
	start = now_ms();
	obs("ppoll 60", ppoll(&p, 1, &ts, NULL));
	note("waited: %d", now_ms() - start >= 55);
	start = now_ms();
	FD_ZERO(&set);
	FD_SET(o->fd, &set);
	obs("select 60", select(o->fd + 1, &set, NULL, NULL, &tv));
	note("waited: %d, remaining is 0: %d, set is empty: %d", now_ms() - start >= 55, tv.tv_sec == 0 && tv.tv_usec == 0,
	     !FD_ISSET(o->fd, &set));
	start = now_ms();
	FD_SET(o->fd, &set);
	obs("pselect 60", pselect(o->fd + 1, &set, NULL, NULL, &ts, NULL));
	note("waited: %d, timeout untouched: %d", now_ms() - start >= 55, ts.tv_nsec == 60000000);
	ts.tv_nsec = -1;
	obs("ppoll, bad time", ppoll(&p, 1, &ts, NULL));
	tv.tv_usec = -1;
	obs("select, bad time", select(o->fd + 1, &set, NULL, NULL, &tv));
	obs("select, bad count", select(-1, &set, NULL, NULL, NULL));
}

static long op_poll_wait(struct obs *o, long events, long b)
{
	struct pollfd p = { .fd = o->fd, .events = (short)events };

	(void)b;
	return poll(&p, 1, -1) == 1 ? p.revents : -1;
}

static long op_select_wait(struct obs *o, long a, long b)
{
	fd_set set;

	(void)a;
	(void)b;
	FD_ZERO(&set);
	FD_SET(o->fd, &set);
	return select(o->fd + 1, &set, NULL, NULL, NULL) == 1 && FD_ISSET(o->fd, &set);
}

static void sleepers_wake(struct obs *o)
{
	for (int i = 0; i < 3; i++) {
		peer_start(o, op_poll_wait, POLLIN, 0);
		note("sleeps: %d", peer_asleep(o));
		obs_send(o->fd, "x", 0);
		obs_events("peer poll", 1, (unsigned)peer_done(o));
		peer(o, op_recv, 10, 0);
		peer_start(o, op_select_wait, 0, 0);
		note("sleeps: %d", peer_asleep(o));
		obs_send(o->fd, "x", 0);
		obs("peer select", peer_done(o));
		peer(o, op_recv, 10, 0);
	}
	peer_start(o, op_poll_wait, POLLIN | POLLRDHUP, 0);
	note("sleeps: %d", peer_asleep(o));
	close(o->fd);
	obs_events("peer poll", 1, (unsigned)peer_done(o));
}

static void writers_wake(struct obs *o)
{
	static char buf[50000];

	while (send(o->fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		;
	obs_poll(o->fd, POLLOUT);
	peer_start(o, op_sink, 0, 0);
	obs_poll_until(o->fd, POLLOUT);
	shutdown(o->fd, SHUT_WR);
	note("peer got some: %d", peer_done(o) > 0);
}

struct others {
	int pipe[2], event, timer, plain[2];
};

static void others_make(struct others *x)
{
	if (pipe(x->pipe) || socketpair(AF_UNIX, SOCK_STREAM, 0, x->plain))
		die("pipe");
	x->event = eventfd(0, EFD_NONBLOCK);
	x->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
}

/* The socket among other kinds of descriptors: each is seen when it is ready and only then. */
static void mixed_poll(struct obs *o)
{
	struct itimerspec soon = { .it_value = { .tv_nsec = 20000000 } };
	struct others x;
	uint64_t one = 1;
	char c;

	others_make(&x);
	struct pollfd p[] = { { x.pipe[0], POLLIN, 0 }, { o->fd, POLLIN, 0 }, { x.event, POLLIN, 0 }, { -1, POLLIN, 7 },
			      { x.timer, POLLIN, 0 }, { x.plain[0], POLLIN, 0 }, { 9999, POLLIN, 0 } };
	nfds_t n = sizeof(p) / sizeof(p[0]) - 1;

	obs("nothing", poll(p, n, 0));
	note("ignored: %d", p[3].revents == 0);
	obs("with a closed one", poll(p, n + 1, 0));
	obs_events("closed", 1, (unsigned)p[n].revents);
	if (write(x.pipe[1], "x", 1) != 1)
		die("write");
	obs("pipe", poll(p, n, -1));
	note("%x %x %x %x %x", p[0].revents, p[1].revents, p[2].revents, p[4].revents, p[5].revents);
	peer_text(o, op_puts, 0, "x");
	settle(o->fd);
	obs("pipe and socket", poll(p, n, -1));
	note("%x %x %x %x %x", p[0].revents, p[1].revents, p[2].revents, p[4].revents, p[5].revents);
	obs("read", read(x.pipe[0], &c, 1));
	if (write(x.event, &one, 8) != 8)
		die("write");
	obs("socket and eventfd", poll(p, n, -1));
	note("%x %x %x %x %x", p[0].revents, p[1].revents, p[2].revents, p[4].revents, p[5].revents);
	obs_recv(o->fd, 1, 0);
	obs("read", read(x.event, &one, 8));
	timerfd_settime(x.timer, 0, &soon, NULL);
	obs("timerfd", poll(p, n, -1));
	note("%x %x %x %x %x", p[0].revents, p[1].revents, p[2].revents, p[4].revents, p[5].revents);
	obs("read", read(x.timer, &one, 8));
	obs("plain", send(x.plain[1], "x", 1, 0));
	obs("socketpair", poll(p, n, -1));
	note("%x %x %x %x %x", p[0].revents, p[1].revents, p[2].revents, p[4].revents, p[5].revents);
	obs("twice the same", poll((struct pollfd[]){ { x.plain[0], POLLIN, 0 }, { x.plain[0], POLLOUT, 0 } }, 2, 0));
	obs("none", poll(NULL, 0, 1));
}

static void mixed_select(struct obs *o)
{
	struct timeval tv = { 0 };
	struct others x;
	fd_set r, w;
	int max = 64;
	char c;

	others_make(&x);
	for (int round = 0; round < 4; round++) {
		if (round == 1 && write(x.pipe[1], "x", 1) != 1)
			die("write");
		if (round == 2)
			peer_text(o, op_puts, 0, "x"), settle(o->fd);
		if (round == 3)
			obs("read", read(x.pipe[0], &c, 1));
		FD_ZERO(&r);
		FD_ZERO(&w);
		FD_SET(x.pipe[0], &r);
		FD_SET(o->fd, &r);
		FD_SET(x.event, &r);
		FD_SET(x.plain[0], &w);
		obs("select", select(max, &r, &w, NULL, &tv));
		note("pipe %d socket %d event %d plain %d", FD_ISSET(x.pipe[0], &r) != 0, FD_ISSET(o->fd, &r) != 0,
		     FD_ISSET(x.event, &r) != 0, FD_ISSET(x.plain[0], &w) != 0);
	}
	FD_ZERO(&r);
	FD_SET(60, &r); /* within the kernel's smallest table: beyond it select() looks at nothing */
	obs("closed one", select(61, &r, NULL, NULL, &tv));
}

/* A kernel descriptor that is always ready must not hide the socket, nor the socket a pipe. */
static void no_starvation(struct obs *o)
{
	struct others x;
	long seen_pipe = 0, seen_socket = 0;
	char c;

	others_make(&x);
	peer_start(o, op_bulk_out, 200000, 3);
	for (int i = 0; i < 20000 && (seen_pipe < 50 || seen_socket < 200000); i++) {
		struct pollfd p[2] = { { o->fd, POLLIN, 0 }, { x.pipe[0], POLLIN, 0 } };

		if (i % 3 == 0 && seen_pipe < 50 && write(x.pipe[1], "x", 1) != 1)
			die("write");
		if (poll(p, 2, 2000) < 1)
			break;
		if (p[1].revents)
			seen_pipe += read(x.pipe[0], &c, 1);
		if (p[0].revents) {
			char buf[100];
			ssize_t n = recv(o->fd, buf, sizeof(buf), 0);

			seen_socket += n > 0 ? n : 0;
		}
	}
	note("pipe %d socket %ld", seen_pipe >= 50, seen_socket);
	peer_done(o);
}

static void *late_writer(void *arg)
{
	int *fd = arg;

	if (thread_asleep(getpid(), getpid(), -1) && write(*fd, "x", 1) != 1)
		return NULL;
	return NULL;
}

/* Asleep on a hot socket and a pipe: the pipe wakes the sleeper, and the other way round. */
static void either_wakes(struct obs *o)
{
	struct others x;
	pthread_t t;
	char c;

	others_make(&x);
	for (int i = 0; i < 3; i++) {
		struct pollfd p[2] = { { o->fd, POLLIN, 0 }, { x.pipe[0], POLLIN, 0 } };

		pthread_create(&t, NULL, late_writer, &x.pipe[1]);
		obs("poll", poll(p, 2, 3000));
		note("%x %x", p[0].revents, p[1].revents);
		pthread_join(t, NULL);
		obs("read", read(x.pipe[0], &c, 1));
	}
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
	struct timeval tv = { .tv_sec = 3 };
	pthread_t t;
	fd_set set;

	pthread_create(&t, NULL, late_stdio, o);
	obs_poll_until(o->fd, POLLIN);
	pthread_join(t, NULL);
	obs_recv(o->fd, 100, MSG_DONTWAIT);
	warm(o);
	pthread_create(&t, NULL, late_stdio, o);
	FD_ZERO(&set);
	FD_SET(o->fd, &set);
	obs("select", select(o->fd + 1, &set, NULL, NULL, &tv));
	pthread_join(t, NULL);
	obs_recv(o->fd, 100, MSG_DONTWAIT);
	warm(o);
	pthread_create(&t, NULL, late_stdio, o);
	obs_recv(o->fd, 100, 0);
	pthread_join(t, NULL);
}

static void listeners(struct obs *o)
{
	static const uint32_t kinds[] = { TCP4, TCP6, UNIXP, UNIXA, SEQP };
	struct obs_name at;

	(void)o;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		int fd = listener(kinds[i], 5, &at), c = sock_of(kinds[i], 0), a;
		struct epoll_event ev = { .events = EPOLLIN, .data.u64 = 0xfeedfacecafebeefull };
		int ep = epoll_create1(0);

		obs_kind(kinds[i]);
		obs("epoll_ctl", epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
		obs_poll(fd, (short)ALL);
		obs("epoll_wait", epoll_wait(ep, &ev, 1, 0));
		obs("connect", connect(c, (struct sockaddr *)&at.sa, at.len));
		obs_poll_until(fd, POLLIN);
		obs_poll(fd, (short)ALL);
		select_one(fd);
		obs("epoll_wait", epoll_wait(ep, &ev, 1, 3000));
		note("%x %llx", ev.events, (unsigned long long)ev.data.u64);
		a = accept(fd, NULL, NULL);
		obs_poll(fd, (short)ALL);
		obs("epoll_wait", epoll_wait(ep, &ev, 1, 0));
		obs_poll(a, (short)ALL);
		obs_poll(c, (short)ALL);
		close(a);
		close(c);
		close(fd);
		close(ep);
	}
}

/* A number of descriptors that the program may have, not one that its sets have room for. */
static void select_beyond_the_sets(struct obs *o)
{
	struct {
		fd_set in;
		unsigned char behind[4096];
	} s;
	struct timeval tv = { 0, 0 };
	int touched = 0;

	memset(&s, 0xff, sizeof(s));
	FD_ZERO(&s.in);
	FD_SET(o->fd, &s.in);
	peer_text(o, op_puts, 0, "here");
	settle(o->fd);
	obs("select", select((int)(8 * sizeof(s)), &s.in, NULL, NULL, &tv));
	note("set: %d", FD_ISSET(o->fd, &s.in) != 0);
	for (size_t i = 0; i < sizeof(s.behind); i++)
		touched += s.behind[i] != 0xff;
	note("touched behind: %d", touched);
	obs_recv(o->fd, 10, 0);
}

/* What happens to who was asked for something else does not end the wait. */
static void select_of_others(struct obs *o)
{
	struct timeval tv = { 0, 200000 };
	fd_set in, out, odd;
	int p[2];

	if (pipe(p))
		die("pipe");
	close(p[1]);
	FD_ZERO(&in);
	FD_ZERO(&out);
	FD_ZERO(&odd);
	FD_SET(o->fd, &in);
	FD_SET(p[0], &odd);
	int64_t before = now_ms();
	obs("select", select((o->fd > p[0] ? o->fd : p[0]) + 1, &in, &out, &odd, &tv));
	note("waited: %d", now_ms() - before >= 150);
	close(p[0]);
}

#define HIGH 1500
#define HIGH_WORDS (2048 / (8 * sizeof(long)))

/* select() takes sets of any length; fd_set is but the shortest. */
static void select_above_1024(struct obs *o)
{
	const size_t word = HIGH / (8 * sizeof(long));
	const unsigned long bit = 1ul << HIGH % (8 * sizeof(long));
	unsigned long in[HIGH_WORDS] = { 0 }, out[HIGH_WORDS] = { 0 };
	struct timeval none = { 0, 0 }, some = { 3, 0 };
	struct timespec ts = { 3, 0 };
	int fd;

	many_descriptors();
	fd = fcntl(o->fd, F_DUPFD, HIGH);
	if (fd != HIGH)
		die("a high descriptor");
	in[word] = out[word] = bit;
	obs("select", select(HIGH + 1, (fd_set *)in, (fd_set *)out, NULL, &none));
	note("in %d out %d", !!(in[word] & bit), !!(out[word] & bit));
	peer_text(o, op_puts, 0, "high");
	in[word] = bit;
	obs("select", select(HIGH + 1, (fd_set *)in, NULL, NULL, &some));
	in[word] = bit;
	obs("pselect", pselect(HIGH + 1, (fd_set *)in, NULL, NULL, &ts, NULL));
	note("in %d", !!(in[word] & bit));
	obs_recv(fd, 10, 0);
	peer_start(o, op_send, 5, 0);
	in[word] = bit;
	obs("select", select(HIGH + 1, (fd_set *)in, NULL, NULL, NULL));
	peer_done(o);
	obs_recv(o->fd, 10, 0);
	close(fd);
	in[word] = bit;
	obs("select, closed", select(HIGH + 1, (fd_set *)in, NULL, NULL, &none));
}

static long op_shut_when_asleep(struct obs *o, long pid, long b)
{
	(void)b;
	if (!thread_asleep((pid_t)pid, (pid_t)pid, -1))
		return -2;
	return shutdown(o->fd, SHUT_WR);
}

/* Who has shut its half asks for nothing but the hang-up, which comes with the peer's end; data that comes first lets it sleep on. */
static void hang_up_alone(struct obs *o)
{
	struct epoll_event ev = { .events = 0 };
	int ep = epoll_create1(0);
	struct pollfd p = { o->fd, 0, 0 };
	int64_t rc;

	shutdown(o->fd, SHUT_WR);
	epoll_ctl(ep, EPOLL_CTL_ADD, o->fd, &ev);
	peer_text(o, op_puts, 0, "data");
	rc = poll(&p, 1, 50);
	obs_events("poll, data", (int)rc, (unsigned)p.revents);
	obs_epoll("epoll, data", ep, &ev, 50);
	peer_start(o, op_shut_when_asleep, getpid(), 0);
	rc = poll(&p, 1, -1);
	obs_events("poll", (int)rc, (unsigned)p.revents);
	obs("peer", peer_done(o));
	obs_epoll("epoll", ep, &ev, 0);
	obs_recv(o->fd, 10, 0);
	obs_recv(o->fd, 10, 0);
	close(ep);
}

static void hang_up_alone_in_a_set(struct obs *o)
{
	struct epoll_event ev = { .events = 0 };
	int ep = epoll_create1(0);

	shutdown(o->fd, SHUT_WR);
	epoll_ctl(ep, EPOLL_CTL_ADD, o->fd, &ev);
	peer_start(o, op_shut_when_asleep, getpid(), 0);
	obs_epoll("epoll", ep, &ev, -1);
	obs("peer", peer_done(o));
	obs_recv(o->fd, 10, 0);
	close(ep);
}

int main(int argc, char **argv)
{
	static const struct obs_case cases[] = {
		{ "select beyond the sets", select_beyond_the_sets, STREAM, 0 },
		{ "select of others", select_of_others, STREAM, 0 },
		{ "poll in every state", states, EVERY_STREAM | SEQP, THREADS },
		{ "poll of a datagram socket in every state", datagram_states, DGRAM, 0 },
		{ "poll when the peer has closed", closed_peer, STREAM | DGPAIR | SEQP, 0 },
		{ "select in every state", select_states, STREAM | SEQP, 0 },
		{ "timeouts", timeouts, STREAM | DGRAM, 0 },
		{ "sleepers wake", sleepers_wake, STREAM, THREADS },
		{ "writers wake", writers_wake, STREAM, 0 },
		{ "poll of a mixed set", mixed_poll, STREAM | DGRAM | SEQP, 0 },
		{ "select of a mixed set", mixed_select, STREAM | DGRAM, 0 },
		{ "nobody starves", no_starvation, STREAM, 0 },
		{ "a pipe wakes who also waits for a socket", either_wakes, STREAM | UDP4, 0 },
		{ "woken by bytes of another way", woken_by_another_way, STREAM, 0 },
		{ "listeners", listeners, SOLO, 0 },
		{ "select above 1024", select_above_1024, STREAM | DGRAM | SEQ, 0 },
		{ "a hang-up alone", hang_up_alone, STREAM | SEQ, THREADS },
		{ "a hang-up alone, in a set", hang_up_alone_in_a_set, STREAM | SEQ, THREADS },
		{ 0 },
	};

	return obs_main(argc, argv, cases);
}
