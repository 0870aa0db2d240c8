/* SPDX-License-Identifier: MIT */
/* ring: yes */
/* SO_RCVTIMEO, SO_SNDTIMEO, and signals that interrupt: EINTR, SA_RESTART. */
#include "obs.h"

#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/time.h>

#define WAIT_MS 120

static void set_timeout(int fd, int which, int ms)
{
	struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

	obs("set", setsockopt(fd, SOL_SOCKET, which, &tv, sizeof(tv)));
}

static void show_timeout(int fd, int which)
{
	struct timeval tv = { 9, 9 };
	socklen_t len = sizeof(tv);

	obs("get", getsockopt(fd, SOL_SOCKET, which, &tv, &len));
	note("%ld s %ld us len %u", (long)tv.tv_sec, (long)tv.tv_usec, len);
}

/* Not earlier, and not absurdly later: the machine may be busy. */
static void show_wait(int64_t since)
{
	int64_t took = now_ms() - since;

	note("waited: %s", took < WAIT_MS - 20 ? "too short" : took > 3000 ? "too long" : "as told");
}

static void receive_timeout(struct obs *o)
{
	int64_t start;

	show_timeout(o->fd, SO_RCVTIMEO);
	set_timeout(o->fd, SO_RCVTIMEO, WAIT_MS);
	start = now_ms();
	obs_recv(o->fd, 10, 0);
	show_wait(start);
	start = now_ms();
	obs("read", read(o->fd, &start, 1));
	peer_text(o, op_puts, 0, "in time");
	obs_recv(o->fd, 100, 0);
	peer_text(o, op_puts, 0, "part");
	start = now_ms();
	obs_recv(o->fd, 100, MSG_WAITALL);
	if (o->type == SOCK_STREAM)
		show_wait(start);
	start = now_ms();
	obs_recv(o->fd, 100, MSG_DONTWAIT);
	note("at once: %d", now_ms() - start < WAIT_MS);
	set_timeout(o->fd, SO_RCVTIMEO, 0);
	show_timeout(o->fd, SO_RCVTIMEO);
}

static void receive_timeout_of_peer_then_none(struct obs *o)
{
	struct timeval tv = { 0 };

	set_timeout(o->fd, SO_RCVTIMEO, 30);
	obs_recv(o->fd, 10, 0);
	setsockopt(o->fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	peer_text(o, op_puts, 0, "later");
	obs_recv(o->fd, 10, 0);
}

static long op_timeout(struct obs *o, long which, long ms)
{
	struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

	return setsockopt(o->fd, SOL_SOCKET, (int)which, &tv, sizeof(tv));
}

static void receive_timeout_starts_anew(struct obs *o)
{
	peer(o, op_timeout, SO_RCVTIMEO, 3000);
	peer_start(o, op_recv, 10, 0);
	note("blocks: %d", peer_asleep(o));
	obs_send(o->fd, "hello", 0);
	obs("peer recv", peer_done(o));
}

static void send_timeout(struct obs *o)
{
	static char buf[60000];
	int64_t start = now_ms();
	long sent = 0;
	ssize_t rc;

	set_timeout(o->fd, SO_SNDTIMEO, WAIT_MS);
	show_timeout(o->fd, SO_SNDTIMEO);
	while ((rc = send(o->fd, buf, sizeof(buf), 0)) > 0) {
		sent += rc;
		if (rc == (ssize_t)sizeof(buf))
			start = now_ms();
	}
	obs("send", rc);
	show_wait(start);
	shutdown(o->fd, SHUT_WR);
	note("all arrive: %d", peer(o, op_sink, 0, 0) == sent);
}

static long op_slow_sink(struct obs *o, long n, long b)
{
	static char buf[40000];
	long sum = 0;
	ssize_t rc = 1;

	(void)b;
	for (; sum < n && rc > 0; sum += rc) {
		usleep(5000);
		rc = recv(o->fd, buf, sizeof(buf), 0);
	}
	return sum;
}

/* AF_UNIX: as long as it gets on, the call goes on; the time counts from each piece. */
static void send_timeout_anew(struct obs *o)
{
	static char buf[3000000];

	set_timeout(o->fd, SO_SNDTIMEO, WAIT_MS);
	peer_start(o, op_slow_sink, sizeof(buf), 0);
	obs("send", send(o->fd, buf, sizeof(buf), 0));
	obs("all arrive", peer_done(o));
}

static void timeouts_are_shared_by_copies(struct obs *o)
{
	int copy = dup(o->fd);

	set_timeout(o->fd, SO_RCVTIMEO, 20);
	show_timeout(copy, SO_RCVTIMEO);
	obs_recv(copy, 10, 0);
}

static void odd_timeouts(struct obs *o)
{
	struct timeval tv = { .tv_sec = 0, .tv_usec = 1000000 };

	obs("usec too large", setsockopt(o->fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	obs("short", setsockopt(o->fd, SOL_SOCKET, SO_RCVTIMEO, &tv, 4));
	tv = (struct timeval){ -1, 0 };
	obs("negative", setsockopt(o->fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)));
	show_timeout(o->fd, SO_SNDTIMEO);
}

/* More than can be counted is for ever. */
static void endless_timeouts(struct obs *o)
{
	static const time_t seconds[] = { INT64_MAX, INT64_MAX / 1000000, UINT64_MAX / 1000000000 + 1, UINT64_MAX / 1000000000 };
	const struct itimerval often = { { 0, 20000 }, { 0, 20000 } };
	char c;

	count_signal(SIGALRM, 0);
	setitimer(ITIMER_REAL, &often, NULL);
	for (size_t i = 0; i < sizeof(seconds) / sizeof(*seconds); i++) {
		struct timeval tv = { seconds[i], 0 };

		obs("SO_RCVTIMEO", setsockopt(o->fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
		obs("recv", recv(o->fd, &c, 1, 0));
	}
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
}

static void accept_timeout(struct obs *o)
{
	static const uint32_t kinds[] = { TCP4, TCP6, UNIXP, UNIXA };
	struct obs_name at;

	(void)o;
	for (size_t i = 0; i < 4; i++) {
		int fd = listener(kinds[i], 5, &at);
		int64_t start = now_ms();

		set_timeout(fd, SO_RCVTIMEO, WAIT_MS);
		obs("accept", accept(fd, NULL, NULL));
		show_wait(start);
		close(fd);
	}
}

/* --- signals --- */

struct poke {
	pid_t tid;
	struct obs *o;
	bool then_send;
};

/* Waits until the main thread sleeps, then signals it; afterwards may make the call succeed. */
static void *poke_thread(void *arg)
{
	struct poke *p = arg;

	if (!thread_asleep(getpid(), p->tid, -1))
		return NULL;
	tgkill(getpid(), p->tid, SIGUSR1);
	if (p->then_send && thread_asleep(getpid(), p->tid, -1))
		peer_text(p->o, op_puts, 0, "after the signal");
	return NULL;
}

static pthread_t poke_begin(struct poke *p, struct obs *o, int sa_flags, bool then_send)
{
	sigset_t set;
	pthread_t t;

	count_signal(SIGUSR1, sa_flags);
	*p = (struct poke){ .tid = gettid(), .o = o, .then_send = then_send };
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	pthread_create(&t, NULL, poke_thread, p);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	return t;
}

static void recv_eintr(struct obs *o)
{
	struct poke p;
	pthread_t t = poke_begin(&p, o, 0, false);

	obs_recv(o->fd, 10, 0);
	pthread_join(t, NULL);
	note("signals: %d", (int)obs_signals);
	peer_text(o, op_puts, 0, "still works");
	obs_recv(o->fd, 100, 0);
}

static void recv_restart(struct obs *o)
{
	struct poke p;
	pthread_t t = poke_begin(&p, o, SA_RESTART, true);

	obs_recv(o->fd, 100, 0);
	pthread_join(t, NULL);
	note("signals: %d", (int)obs_signals);
}

static void waitall_eintr(struct obs *o)
{
	struct poke p;
	pthread_t t;

	peer_text(o, op_puts, 0, "part");
	t = poke_begin(&p, o, 0, false);
	obs_recv(o->fd, 10, MSG_WAITALL);
	pthread_join(t, NULL);
	note("signals: %d", (int)obs_signals);
}

/* With a timeout set, SA_RESTART does not restart. */
static void recv_timeout_eintr(struct obs *o)
{
	struct poke p;
	pthread_t t;

	set_timeout(o->fd, SO_RCVTIMEO, 3000);
	t = poke_begin(&p, o, SA_RESTART, false);
	obs_recv(o->fd, 10, 0);
	pthread_join(t, NULL);
	note("signals: %d", (int)obs_signals);
}

static void send_eintr(struct obs *o)
{
	static char buf[300000];
	struct poke p;
	pthread_t t;
	ssize_t rc;
	long sent = 0;

	while ((rc = send(o->fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0)
		sent += rc;
	while ((rc = send(o->fd, buf, 1, MSG_DONTWAIT)) > 0)
		sent += rc;
	t = poke_begin(&p, o, 0, false);
	obs("send", send(o->fd, buf, 10, 0));
	pthread_join(t, NULL);
	note("signals: %d", (int)obs_signals);
	shutdown(o->fd, SHUT_WR);
	note("all arrive: %d", peer(o, op_sink, 0, 0) == sent);
}

static void send_partial_on_signal(struct obs *o)
{
	static char buf[16 << 20];
	struct poke p;
	pthread_t t = poke_begin(&p, o, 0, false);
	ssize_t rc = send(o->fd, buf, sizeof(buf), 0);

	note("a part went: %d", rc > 0 && rc < (ssize_t)sizeof(buf));
	pthread_join(t, NULL);
	shutdown(o->fd, SHUT_WR);
	note("all arrive: %d", peer(o, op_sink, 0, 0) == rc);
}

static void poll_eintr(struct obs *o)
{
	struct pollfd pf = { .fd = o->fd, .events = POLLIN };
	struct epoll_event ev = { .events = EPOLLIN };
	struct poke p;
	pthread_t t;
	fd_set set;
	int ep;

	t = poke_begin(&p, o, SA_RESTART, false);
	obs("poll", poll(&pf, 1, -1));
	pthread_join(t, NULL);
	note("signals: %d", (int)obs_signals);
	t = poke_begin(&p, o, SA_RESTART, false);
	FD_ZERO(&set);
	FD_SET(o->fd, &set);
	obs("select", select(o->fd + 1, &set, NULL, NULL, NULL));
	pthread_join(t, NULL);
	note("signals: %d", (int)obs_signals);
	ep = epoll_create1(0);
	epoll_ctl(ep, EPOLL_CTL_ADD, o->fd, &ev);
	t = poke_begin(&p, o, SA_RESTART, false);
	obs("epoll_wait", epoll_wait(ep, &ev, 1, -1));
	pthread_join(t, NULL);
	note("signals: %d", (int)obs_signals);
	peer_text(o, op_puts, 0, "x");
	obs("epoll_wait", epoll_wait(ep, &ev, 1, 3000));
}

static void accept_eintr(struct obs *o)
{
	static const uint32_t kinds[] = { TCP4, UNIXP };
	struct obs_name at;
	struct poke p;

	for (size_t i = 0; i < 2; i++) {
		int fd = listener(kinds[i], 5, &at);
		pthread_t t = poke_begin(&p, o, 0, false);

		obs("accept", accept(fd, NULL, NULL));
		pthread_join(t, NULL);
		note("signals: %d", (int)obs_signals);
		close(fd);
	}
}

/* ppoll and friends let a signal in only while they wait. */
static void masks(struct obs *o)
{
	struct pollfd pf = { .fd = o->fd, .events = POLLIN };
	struct epoll_event ev = { .events = EPOLLIN };
	struct timespec zero = { 0 };
	sigset_t block, none;
	fd_set set;
	int ep = epoll_create1(0);

	count_signal(SIGUSR1, 0);
	sigemptyset(&none);
	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	sigprocmask(SIG_BLOCK, &block, NULL);
	epoll_ctl(ep, EPOLL_CTL_ADD, o->fd, &ev);
	raise(SIGUSR1);
	obs("poll", poll(&pf, 1, 0));
	note("signals: %d", (int)obs_signals);
	obs("ppoll", ppoll(&pf, 1, NULL, &none));
	note("signals: %d", (int)obs_signals);
	raise(SIGUSR1);
	FD_ZERO(&set);
	FD_SET(o->fd, &set);
	obs("pselect", pselect(o->fd + 1, &set, NULL, NULL, NULL, &none));
	note("signals: %d", (int)obs_signals);
	raise(SIGUSR1);
	obs("epoll_pwait", epoll_pwait(ep, &ev, 1, -1, &none));
	note("signals: %d", (int)obs_signals);
	raise(SIGUSR1);
	obs("epoll_pwait2", epoll_pwait2(ep, &ev, 1, NULL, &none));
	note("signals: %d", (int)obs_signals);
	obs("ppoll, nothing pending", ppoll(&pf, 1, &zero, &none));
	peer_text(o, op_puts, 0, "x");
	settle(o->fd);
	raise(SIGUSR1);
	obs("epoll_pwait ready", epoll_pwait(ep, &ev, 1, -1, &block));
	note("signals: %d", (int)obs_signals);
}

static int handler_fd;

static void answer_in_handler(int sig)
{
	char buf[32];
	ssize_t n = recv(handler_fd, buf, sizeof(buf), MSG_DONTWAIT);

	(void)sig;
	if (n > 0)
		n = send(handler_fd, buf, (size_t)n, MSG_DONTWAIT);
	obs_signals += n > 0;
}

/* A handler that itself receives and sends on a socket. */
static void sockets_in_handlers(struct obs *o)
{
	struct sigaction sa = { .sa_handler = answer_in_handler };

	obs_signals = 0;
	handler_fd = o->fd;
	sigaction(SIGUSR1, &sa, NULL);
	for (int i = 0; i < 20; i++) {
		peer_text(o, op_puts, 0, "ping");
		settle(o->fd);
		raise(SIGUSR1);
		if (peer(o, op_recv, 100, 0) != 4)
			note("round %d fails", i);
	}
	note("answered: %d", (int)obs_signals);
}

int main(int argc, char **argv)
{
	static const struct obs_case cases[] = {
		{ "SO_RCVTIMEO", receive_timeout, STREAM | DGRAM | SEQP, 0 },
		{ "SO_RCVTIMEO taken away", receive_timeout_of_peer_then_none, STREAM, 0 },
		{ "SO_RCVTIMEO and a wake-up", receive_timeout_starts_anew, STREAM | DGRAM | SEQP, 0 },
		{ "SO_SNDTIMEO", send_timeout, STREAM, 0 },
		{ "SO_SNDTIMEO, and it gets on", send_timeout_anew, LOCAL, 0 },
		{ "timeouts belong to the socket", timeouts_are_shared_by_copies, STREAM | UDP4, 0 },
		{ "odd timeouts", odd_timeouts, STREAM, COLD_ONLY },
		{ "endless timeouts", endless_timeouts, STREAM | SEQ | DGRAM, 0 },
		{ "SO_RCVTIMEO of a listener", accept_timeout, SOLO, 0 },
		{ "a signal interrupts recv", recv_eintr, STREAM | DGRAM | SEQP, 0 },
		{ "SA_RESTART restarts recv", recv_restart, STREAM | DGRAM | SEQP, 0 },
		{ "a signal interrupts MSG_WAITALL", waitall_eintr, STREAM, 0 },
		{ "a timeout forbids the restart", recv_timeout_eintr, STREAM | UDP4, 0 },
		{ "a signal interrupts send", send_eintr, STREAM, 0 },
		{ "a signal cuts a large send short", send_partial_on_signal, STREAM, 0 },
		{ "a signal interrupts poll, select, epoll_wait", poll_eintr, STREAM | UDP4, 0 },
		{ "a signal interrupts accept", accept_eintr, SOLO, 0 },
		{ "signal masks of ppoll, pselect, epoll_pwait", masks, STREAM | UDP4, 0 },
		{ "sockets used in a signal handler", sockets_in_handlers, STREAM | DGRAM, 0 },
		{ 0 },
	};

	return obs_main(argc, argv, cases);
}
