/* SPDX-License-Identifier: MIT */
/* ring: yes */
/* Signal handlers that use sockets, that jump out of calls, that come in storms; what a program reads back of its handlers. */
#include "obs.h"

#pragma GCC diagnostic ignored "-Wdeprecated-declarations" /* sigset, siginterrupt: programs use them still */

#include <setjmp.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>

#define STORM_US 700
#define BULK 3000000

static int hfd;                        /* what handlers use */
static volatile sig_atomic_t handled, wrong;
static sigjmp_buf out;

static void handle(int sig, void (*fn)(int), int flags)
{
	struct sigaction sa = { .sa_handler = fn, .sa_flags = flags };

	handled = wrong = 0;
	sigaction(sig, &sa, NULL);
}

/* A thread that signals another as soon as that one sleeps, `times` times, then has the peer send. */
struct poke {
	pthread_t t;
	pid_t tid;
	int sig, times;
	struct obs *o;
	const char *then, *then_too;
};

static void *poke_thread(void *arg)
{
	struct poke *p = arg;

	for (int i = 0; i < p->times; i++) {
		if (!thread_asleep(getpid(), p->tid, -1))
			return NULL;
		tgkill(getpid(), p->tid, p->sig);
	}
	if (p->then && thread_asleep(getpid(), p->tid, -1))
		peer_text(p->o, op_puts, 0, p->then);
	if (p->then_too)
		peer_text(p->o, op_puts, 0, p->then_too);
	return NULL;
}

static void poke_begin(struct poke *p, struct obs *o, int sig, int times, const char *then)
{
	sigset_t all, before;

	*p = (struct poke){ .tid = gettid(), .sig = sig, .times = times, .o = o, .then = then, .then_too = p->then_too };
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	pthread_create(&p->t, NULL, poke_thread, p);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void poke_end(struct poke *p)
{
	pthread_join(p->t, NULL);
}

static void storm(int which, int us)
{
	struct itimerval it = { { 0, us }, { 0, us } };

	setitimer(which, &it, NULL);
}

/* --- handlers that use sockets --- */

static void sending_handler(int sig)
{
	int err = errno;

	(void)sig;
	handled++;
	wrong += send(hfd, "from the handler", 16, MSG_NOSIGNAL) != 16;
	errno = err;
}

static void handler_sends_on_the_socket_it_interrupts(struct obs *o)
{
	struct poke p = { 0 };

	hfd = o->fd;
	handle(SIGUSR1, sending_handler, SA_RESTART);
	poke_begin(&p, o, SIGUSR1, 3, "and then");
	obs_recv(o->fd, 100, 0);
	poke_end(&p);
	note("handlers: %d, wrong: %d", (int)handled, (int)wrong);
	for (int i = 0; i < (o->type == SOCK_STREAM ? 1 : 3); i++)
		obs("peer recv", peer(o, op_recv, o->type == SOCK_STREAM ? 48 : 100, o->type == SOCK_STREAM ? MSG_WAITALL : 0));
}

static void receiving_handler(int sig)
{
	char c[16];
	int err = errno;

	(void)sig;
	handled++;
	wrong += recv(hfd, c, sizeof(c), 0) != 4;
	errno = err;
}

/* The handler sleeps in recv() in its turn, takes what the call that it interrupted was waiting for, and that one goes on waiting. */
static void *feed_twice(void *arg)
{
	struct poke *p = arg;

	thread_asleep(getpid(), p->tid, -1);
	tgkill(getpid(), p->tid, SIGUSR1);
	while (!handled)
		usleep(500);
	thread_asleep(getpid(), p->tid, -1);
	peer_text(p->o, op_puts, 0, "1234");
	thread_asleep(getpid(), p->tid, -1);
	peer_text(p->o, op_puts, 0, "for the call");
	return NULL;
}

static void a_call_within_a_call(struct obs *o)
{
	struct poke p = { .tid = gettid(), .o = o };
	sigset_t all, before;

	hfd = o->fd;
	handle(SIGUSR1, receiving_handler, SA_RESTART);
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	pthread_create(&p.t, NULL, feed_twice, &p);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	obs_recv(o->fd, 100, 0);
	pthread_join(p.t, NULL);
	note("handlers: %d, wrong: %d", (int)handled, (int)wrong);
}

/* All that a handler may do with the very socket that is in use, without moving its bytes. */
static void busy_handler(int sig)
{
	struct pollfd p = { .fd = hfd, .events = POLLIN | POLLOUT };
	struct timeval zero = { 0 };
	int err = errno, type = 0;
	socklen_t len = sizeof(type);
	struct sockaddr_storage ss;
	fd_set set;
	char c;

	(void)sig;
	handled++;
	FD_ZERO(&set);
	FD_SET(hfd, &set);
	wrong += recv(hfd, &c, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno != EAGAIN;
	wrong += poll(&p, 1, 0) < 0 && errno != EINTR;
	wrong += select(hfd + 1, &set, NULL, NULL, &zero) < 0 && errno != EINTR;
	wrong += getsockopt(hfd, SOL_SOCKET, SO_TYPE, &type, &len) != 0;
	len = sizeof(ss);
	wrong += getsockname(hfd, (struct sockaddr *)&ss, &len) != 0;
	close(dup(hfd));
	errno = err;
}

static void storm_while_streaming(struct obs *o)
{
	hfd = o->fd;
	handle(SIGALRM, busy_handler, SA_RESTART);
	storm(ITIMER_REAL, STORM_US);
	peer_start(o, op_bulk_in, BULK, 3);
	obs("sent", bulk_out(o->fd, BULK, 3));
	obs("peer got", peer_done(o));
	peer_start(o, op_bulk_out, BULK, 4);
	obs("received", bulk_in(o->fd, BULK, 4));
	obs("peer sent", peer_done(o));
	storm(ITIMER_REAL, 0);
	note("handlers: %d, wrong: %d", handled > 0, (int)wrong);
}

static void storm_while_answering(struct obs *o)
{
	char c[32], back[32];
	long good = 0;

	hfd = o->fd;
	handle(SIGPROF, busy_handler, SA_RESTART);
	handle(SIGALRM, busy_handler, SA_RESTART);
	storm(ITIMER_PROF, STORM_US);
	storm(ITIMER_REAL, STORM_US);
	peer_start(o, op_echo, 4000, sizeof(c));
	for (int i = 0; i < 4000; i++) {
		memset(c, i, sizeof(c));
		good += send(o->fd, c, sizeof(c), 0) == sizeof(c) &&
			recv(o->fd, back, sizeof(back), o->type == SOCK_STREAM ? MSG_WAITALL : 0) == sizeof(back) && !memcmp(c, back, sizeof(c));
	}
	storm(ITIMER_REAL, 0);
	storm(ITIMER_PROF, 0);
	obs("answers", good);
	obs("peer", peer_done(o));
	note("wrong: %d", (int)wrong);
}

/* Interrupted sends and receives, as most programs write them. */
static long all_of(int fd, char *buf, long n, bool put)
{
	long done = 0;

	while (done < n) {
		ssize_t rc = put ? send(fd, buf + done, (size_t)(n - done), MSG_NOSIGNAL) : recv(fd, buf + done, (size_t)(n - done), MSG_WAITALL);

		if (rc < 0 && errno != EINTR)
			return -1;
		if (rc == 0)
			break;
		done += rc > 0 ? rc : 0;
	}
	return done;
}

static void storm_that_interrupts(struct obs *o)
{
	char *buf = malloc(BULK), *back = malloc(BULK);

	hfd = o->fd;
	pattern(buf, BULK, 0, 3);
	handle(SIGALRM, busy_handler, 0);
	storm(ITIMER_REAL, STORM_US);
	peer_start(o, op_bulk_in, BULK, 3);
	obs("sent", all_of(o->fd, buf, BULK, true));
	obs("peer got", peer_done(o));
	peer_start(o, op_bulk_out, BULK, 3);
	obs("received", all_of(o->fd, back, BULK, false));
	storm(ITIMER_REAL, 0);
	obs("peer sent", peer_done(o));
	note("as sent: %d, wrong: %d", !memcmp(buf, back, BULK), (int)wrong);
	free(buf);
	free(back);
}

/* --- jumps --- */

static void jumping_handler(int sig)
{
	(void)sig;
	handled++;
	siglongjmp(out, 1);
}

enum { BY_RECV, BY_SEND, BY_POLL, BY_SELECT, BY_EPOLL, BY_RECVMSG, BY_ACCEPT, WAYS };
static const char *const ways[WAYS] = { "recv", "send", "poll", "select", "epoll_wait", "recvmsg", "accept" };

static void fill_up(int fd)
{
	static char buf[4096];

	for (size_t n = sizeof(buf); n; n /= 4)
		while (send(fd, buf, n, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
			;
}

static void block_by(int way, int fd, int ep)
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
		recv(fd, buf, sizeof(buf), 0);
		break;
	case BY_SEND:
		send(fd, buf, sizeof(buf), MSG_NOSIGNAL);
		break;
	case BY_POLL:
		poll(&p, 1, -1);
		break;
	case BY_SELECT:
		select(fd + 1, &set, NULL, NULL, NULL);
		break;
	case BY_EPOLL:
		epoll_wait(ep, &ev, 1, -1);
		break;
	case BY_RECVMSG:
		recvmsg(fd, &m, 0);
		break;
	default:
		accept(fd, NULL, NULL);
		break;
	}
}

static void jump_out(struct obs *o, int way, int fd, int ep, int times)
{
	volatile int jumped = 0;
	struct poke p = { 0 };

	handle(SIGUSR1, jumping_handler, SA_RESTART);
	poke_begin(&p, o, SIGUSR1, times, NULL);
	while (jumped < times) {
		if (sigsetjmp(out, 1) == 0)
			block_by(way, fd, ep);
		else
			jumped++;
	}
	poke_end(&p);
	note("%s: jumped out %d times", ways[way], jumped);
}

/* Whether a thread of the peer's that waits really sleeps, and what is sent to it comes. */
static void still_works(struct obs *o)
{
	struct poke p = { 0 };

	poke_begin(&p, o, SIGUSR1, 0, "still works");
	obs_recv(o->fd, 100, 0);
	poke_end(&p);
	obs_send(o->fd, "both ways", 0);
	obs("peer recv", peer(o, op_recv, 100, 0));
}

static void jumps(struct obs *o)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int ep = epoll_create1(0);

	epoll_ctl(ep, EPOLL_CTL_ADD, o->fd, &ev);
	for (int way = BY_RECV; way <= BY_RECVMSG; way++)
		if (way != BY_SEND)
			jump_out(o, way, o->fd, ep, 3);
	still_works(o);
	peer_start(o, op_echo, 300, 16);
	for (int i = 0; i < 300; i++) {
		char b[16] = "message";

		if (send(o->fd, b, 16, 0) != 16 || recv(o->fd, b, 16, 0) <= 0)
			note("an answer is missing");
	}
	obs("peer", peer_done(o));
	obs("close", close(o->fd));
	if (o->type != SOCK_DGRAM)
		obs("peer sees the end", peer(o, op_recv, 10, 0));
}

static void jumps_out_of_send(struct obs *o)
{
	fill_up(o->fd);
	jump_out(o, BY_SEND, o->fd, -1, 5);
	peer_start(o, op_sink, 0, 0);
	if (o->type == SOCK_STREAM)
		shutdown(o->fd, SHUT_WR);
	else
		close(o->fd);
	note("the peer reads to the end: %d", peer_done(o) > 0);
}

static long op_drain(struct obs *o, long a, long b)
{
	static char buf[65536];
	ssize_t n, sum = 0;

	(void)a;
	(void)b;
	while ((n = recv(o->fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0)
		sum += n;
	return sum > 0;
}

/* The call has moved bytes when it is left: how many, nobody is told, and the next ones come behind them all the same. */
static void jump_out_of_much(struct obs *o, bool sending)
{
	static char big[16 << 20];
	struct poke p = { 0 };

	poke_begin(&p, o, SIGUSR1, 1, NULL);
	if (sigsetjmp(out, 1))
		note("jumped");
	else if (sending)
		obs("sent", send(o->fd, big, sizeof(big), 0));
	else
		obs("received", recv(o->fd, big, 100, MSG_WAITALL));
	poke_end(&p);
}

static void turns_with_peer(struct obs *o)
{
	peer_start(o, op_echo, 300, 16);
	note("turns: %d", turns(o->fd, 300));
	obs("peer", peer_done(o));
}

static void jumps_with_bytes_moved(struct obs *o)
{
	handle(SIGUSR1, jumping_handler, 0);
	peer_text(o, op_puts, 0, "0123456789");
	jump_out_of_much(o, false);
	turns_with_peer(o);
	jump_out_of_much(o, true);
	note("bytes came: %d", (int)peer(o, op_drain, 0, 0));
	turns_with_peer(o);
}

static void jumps_out_of_accept(struct obs *o)
{
	static const uint32_t kinds[] = { TCP4, TCP6, UNIXP };
	struct obs_name at;

	for (size_t i = 0; i < 3; i++) {
		int l = listener(kinds[i], 5, &at), c, a;

		jump_out(o, BY_ACCEPT, l, -1, 5);
		c = sock_of(kinds[i], 0);
		obs("connect", connect(c, (struct sockaddr *)&at.sa, at.len));
		a = accept(l, NULL, NULL);
		note("accepted: %d", a >= 0);
		obs_send(c, "hello", 0);
		obs_recv(a, 10, 0);
		obs("close", close(l));
		close(a);
		obs_recv(c, 10, 0);
		close(c);
	}
}

/* Out of calls that do not wait, at any instruction of theirs. */
static void jumps_at_any_time(struct obs *o)
{
	struct pollfd p = { .fd = o->fd, .events = POLLIN | POLLOUT };
	volatile long rounds = 0;
	volatile int jumped = 0;
	int64_t end = now_ms() + 1200;
	int type;
	socklen_t len = sizeof(type);
	char c;

	handle(SIGALRM, jumping_handler, 0);
	if (sigsetjmp(out, 1))
		jumped++;
	storm(ITIMER_REAL, STORM_US);
	while (now_ms() < end) {
		recv(o->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT);
		poll(&p, 1, 0);
		getsockopt(o->fd, SOL_SOCKET, SO_TYPE, &type, &len);
		rounds++;
	}
	storm(ITIMER_REAL, 0);
	signal(SIGALRM, SIG_IGN);
	note("jumped: %d", jumped > 0);
	still_works(o);
}

/* --- threads --- */

static pid_t handled_in;

static void where_handler(int sig)
{
	(void)sig;
	handled++;
	handled_in = gettid();
}

static void *break_pipe(void *arg)
{
	struct obs *o = arg;
	pid_t me = gettid();

	obs("send", send(o->fd, "x", 1, MSG_NOSIGNAL));
	obs("send", send(o->fd, "x", 1, MSG_NOSIGNAL));
	obs("send", send(o->fd, "x", 1, 0));
	note("SIGPIPE: %d times, in the thread that sent: %d", (int)handled, handled_in == me);
	obs("send", send(o->fd, "x", 1, 0));
	note("SIGPIPE: %d times", (int)handled);
	return NULL;
}

static void broken_pipe_in_a_thread(struct obs *o)
{
	pthread_t t;

	handle(SIGPIPE, where_handler, 0);
	peer(o, op_close, 0, 0);
	settle(o->fd);
	if (o->kind & TCP)
		usleep(20000); /* the kernel's answer to the first segment */
	pthread_create(&t, NULL, break_pipe, o);
	pthread_join(t, NULL);
}

static void broken_pipe_waits(struct obs *o)
{
	struct timespec zero = { 0 };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGPIPE);
	sigprocmask(SIG_BLOCK, &set, NULL);
	peer(o, op_close, 0, 0);
	settle(o->fd);
	send(o->fd, "x", 1, MSG_NOSIGNAL);
	usleep(20000);
	send(o->fd, "x", 1, MSG_NOSIGNAL);
	obs("none yet", sigtimedwait(&set, NULL, &zero));
	obs("send", send(o->fd, "x", 1, 0));
	note("waits: %d", sigtimedwait(&set, NULL, &zero) == SIGPIPE);
	obs("once", sigtimedwait(&set, NULL, &zero));
}

/* --- who does without handlers --- */

static void sigwait_and_signalfd(struct obs *o)
{
	struct signalfd_siginfo si[4];
	struct timespec soon = { 2, 0 };
	sigset_t set;
	int sfd, sig = 0;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGALRM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	hfd = o->fd;
	handle(SIGALRM, busy_handler, 0);
	sfd = signalfd(-1, &set, SFD_NONBLOCK);
	raise(SIGUSR2);
	peer_start(o, op_bulk_in, 500000, 3);
	obs("sent", bulk_out(o->fd, 500000, 3));
	obs("peer got", peer_done(o));
	note("signalfd: %d", read(sfd, si, sizeof(si)) == sizeof(si[0]) && si[0].ssi_signo == SIGUSR2);
	storm(ITIMER_REAL, STORM_US);
	peer_start(o, op_bulk_out, 500000, 3);
	obs("received", bulk_in(o->fd, 500000, 3));
	obs("peer sent", peer_done(o));
	obs("sigwait", sigwait(&set, &sig));
	note("SIGALRM: %d", sig == SIGALRM);
	note("timed: %d", sigtimedwait(&set, NULL, &soon) == SIGALRM);
	storm(ITIMER_REAL, 0);
	note("handlers: %d", (int)handled);
}

/* --- signals with contents --- */

#define QUEUED 300

static volatile sig_atomic_t next_value, out_of_order, wrong_code;

static void queued_handler(int sig, siginfo_t *si, void *context)
{
	(void)sig;
	(void)context;
	out_of_order += si->si_value.sival_int != next_value;
	next_value = si->si_value.sival_int + 1;
	wrong_code += si->si_code != SI_QUEUE || si->si_pid != getpid() || si->si_signo != SIGRTMIN + 3;
}

static void *queue_many(void *arg)
{
	pthread_t to = *(pthread_t *)arg;

	for (int i = 0; i < QUEUED; i++) {
		while (pthread_sigqueue(to, SIGRTMIN + 3, (union sigval){ .sival_int = i }) == EAGAIN)
			usleep(100);
		if (i % 7 == 0)
			usleep(300);
	}
	return NULL;
}

static void queued_signals(struct obs *o)
{
	struct sigaction sa = { .sa_sigaction = queued_handler, .sa_flags = SA_SIGINFO | SA_RESTART };
	pthread_t t, self = pthread_self();
	char b[16] = "message", back[16];
	long good = 0;

	sigaction(SIGRTMIN + 3, &sa, NULL);
	peer_start(o, op_echo, 3000, sizeof(b));
	pthread_create(&t, NULL, queue_many, &self);
	for (int i = 0; i < 3000; i++)
		good += send(o->fd, b, 16, 0) == 16 && recv(o->fd, back, 16, o->type == SOCK_STREAM ? MSG_WAITALL : 0) == 16;
	pthread_join(t, NULL);
	obs("answers", good);
	obs("peer", peer_done(o));
	note("signals: %d, out of order: %d, wrong contents: %d", (int)next_value, (int)out_of_order, (int)wrong_code);
}

/* --- what a program reads back --- */

static void show_action(const char *what, int sig)
{
	struct sigaction sa;

	memset(&sa, 0, sizeof(sa));
	if (sigaction(sig, NULL, &sa)) {
		obs(what, -1);
		return;
	}
	note("%s: %s%s%s%s%s%s%s%s%s mask%s%s", what,
	     sa.sa_handler == SIG_DFL ? "default" : sa.sa_handler == SIG_IGN ? "ignore" : sa.sa_handler == where_handler ? "where"
	     : sa.sa_handler == busy_handler ? "busy" : sa.sa_sigaction == queued_handler ? "queued" : "unknown",
	     sa.sa_flags & SA_RESTART ? " RESTART" : "", sa.sa_flags & SA_SIGINFO ? " SIGINFO" : "",
	     sa.sa_flags & (int)SA_RESETHAND ? " RESETHAND" : "", sa.sa_flags & SA_NODEFER ? " NODEFER" : "",
	     sa.sa_flags & SA_ONSTACK ? " ONSTACK" : "", sa.sa_flags & SA_NOCLDSTOP ? " NOCLDSTOP" : "",
	     sa.sa_flags & SA_NOCLDWAIT ? " NOCLDWAIT" : "", sa.sa_flags & SA_INTERRUPT ? " INTERRUPT" : "",
	     sigismember(&sa.sa_mask, SIGUSR2) ? " USR2" : "", sigismember(&sa.sa_mask, SIGUSR1) ? " USR1" : "");
}

static const char *old_name(sighandler_t h)
{
	return h == SIG_DFL ? "default" : h == SIG_IGN ? "ignore" : h == where_handler ? "where" : h == busy_handler ? "busy"
	       : h == SIG_ERR ? "error" : h == SIG_HOLD ? "hold" : "unknown";
}

static void read_back(struct obs *o)
{
	static const int sets[] = { 0, SA_RESTART, (int)SA_RESETHAND, SA_NODEFER, SA_ONSTACK, SA_NOCLDSTOP | SA_NOCLDWAIT,
				    SA_RESTART | (int)SA_RESETHAND | SA_NODEFER | SA_ONSTACK };
	struct sigaction sa, old;

	(void)o;
	for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
		memset(&sa, 0, sizeof(sa));
		sa.sa_handler = i % 2 ? where_handler : busy_handler;
		sa.sa_flags = sets[i];
		if (i % 3 == 0)
			sigaddset(&sa.sa_mask, SIGUSR2);
		obs("sigaction", sigaction(SIGCHLD, &sa, &old));
		note("before: %s", old_name(old.sa_handler));
		show_action("now", SIGCHLD);
	}
	sa = (struct sigaction){ .sa_sigaction = queued_handler, .sa_flags = SA_SIGINFO };
	sigaction(SIGCHLD, &sa, &old);
	note("before: %s, flags as set: %d", old_name(old.sa_handler), (old.sa_flags & 0x58ffffff) == (sets[6] & 0x58ffffff));
	show_action("now", SIGCHLD);
	note("signal: %d", (uintptr_t)signal(SIGCHLD, where_handler) == (uintptr_t)queued_handler);
	show_action("after signal", SIGCHLD);
	note("%s", old_name(signal(SIGCHLD, SIG_IGN)));
	note("%s", old_name(signal(SIGCHLD, busy_handler)));
	obs("siginterrupt", siginterrupt(SIGCHLD, 1));
	show_action("after siginterrupt", SIGCHLD);
	note("%s", old_name(signal(SIGCHLD, where_handler)));
	show_action("signal after it", SIGCHLD);
	obs("siginterrupt", siginterrupt(SIGCHLD, 0));
	show_action("and back", SIGCHLD);
	note("sysv_signal: %s", old_name(sysv_signal(SIGCHLD, busy_handler)));
	show_action("after sysv_signal", SIGCHLD);
	note("sigset: %s", old_name(sigset(SIGCHLD, where_handler)));
	show_action("after sigset", SIGCHLD);
	note("sigset: %s", old_name(sigset(SIGCHLD, SIG_HOLD)));
	note("sigset: %s", old_name(sigset(SIGCHLD, busy_handler)));
	note("sigset: %s", old_name(sigset(SIGCHLD, SIG_DFL)));
	show_action("at last", SIGCHLD);
	note("%s", old_name(signal(SIGKILL, where_handler)));
	obs("SIGKILL", sigaction(SIGKILL, &sa, NULL));
	obs("SIGSTOP", sigaction(SIGSTOP, &sa, NULL));
	obs("0", sigaction(0, &sa, NULL));
	obs("65", sigaction(65, &sa, NULL));
	obs("32", sigaction(32, &sa, NULL));
	show_action("a fault's", SIGSEGV);
	handle(SIGSEGV, busy_handler, SA_NODEFER);
	show_action("a fault's", SIGSEGV);
}

static void raw_action(struct obs *o)
{
	struct { void (*handler)(int); unsigned long flags; void (*restorer)(void); uint64_t mask; } k, old;
	struct sigaction sa;

	(void)o;
	handle(SIGUSR1, where_handler, SA_RESTART);
	memset(&k, 0, sizeof(k));
	obs("get", syscall(SYS_rt_sigaction, SIGUSR1, NULL, &k, 8));
	note("%s", old_name(k.handler));
	k.handler = busy_handler;
	hfd = socket(AF_INET, SOCK_STREAM, 0);
	obs("set", syscall(SYS_rt_sigaction, SIGUSR1, &k, &old, 8));
	note("%s", old_name(old.handler));
	raise(SIGUSR1);
	note("handlers: %d", (int)handled);
	sigaction(SIGUSR1, NULL, &sa);
	note("%s", old_name(sa.sa_handler));
	obs("wrong size", syscall(SYS_rt_sigaction, SIGUSR1, &k, NULL, 4));
	close(hfd);
}

static void oneshot_handler(int sig)
{
	struct sigaction sa;

	handled++;
	sigaction(sig, NULL, &sa);
	wrong += sa.sa_handler != SIG_DFL;
}

static void one_shot(struct obs *o)
{
	pid_t pid;

	hfd = o->fd;
	handle(SIGUSR1, oneshot_handler, (int)SA_RESETHAND);
	show_action("before", SIGUSR1);
	raise(SIGUSR1);
	show_action("after", SIGUSR1);
	note("handlers: %d, wrong: %d", (int)handled, (int)wrong);
	pid = obs_fork();
	if (pid == 0) {
		raise(SIGUSR1);
		_exit(0);
	}
	note("the second kills: %d", obs_wait(pid) == 256 + SIGUSR1);
}

static char *stack_at;
static sigset_t mask_inside, mask_before;
static volatile int nested, deepest;

static void look_around(int sig, siginfo_t *si, void *context)
{
	ucontext_t *uc = context;
	char here;

	handled++;
	wrong += si->si_signo != sig;
	wrong += sig == SIGUSR1 && !(&here >= stack_at && &here < stack_at + 65536);
	sigprocmask(SIG_BLOCK, NULL, &mask_inside);
	mask_before = uc->uc_sigmask;
	deepest = ++nested > deepest ? nested : deepest;
	if (handled < 3)
		raise(sig);
	nested--;
}

static void masks_and_stacks(struct obs *o)
{
	stack_t st = { .ss_sp = malloc(65536), .ss_size = 65536 };
	struct sigaction sa = { .sa_sigaction = look_around, .sa_flags = SA_SIGINFO | SA_ONSTACK };

	(void)o;
	stack_at = st.ss_sp;
	sigaltstack(&st, NULL);
	sigaddset(&sa.sa_mask, SIGUSR2);
	sigaction(SIGUSR1, &sa, NULL);
	handled = wrong = 0;
	raise(SIGUSR1);
	note("handlers: %d, wrong: %d, nested %d", (int)handled, (int)wrong, deepest);
	note("masked: itself %d, USR2 %d, TERM %d", sigismember(&mask_inside, SIGUSR1), sigismember(&mask_inside, SIGUSR2),
	     sigismember(&mask_inside, SIGTERM));
	note("before: itself %d, USR2 %d", sigismember(&mask_before, SIGUSR1), sigismember(&mask_before, SIGUSR2));
	sa.sa_flags = SA_SIGINFO | SA_NODEFER;
	sigemptyset(&sa.sa_mask);
	sigaction(SIGTERM, &sa, NULL);
	handled = wrong = deepest = 0;
	raise(SIGTERM);
	note("handlers: %d, wrong: %d, nested %d", (int)handled, (int)wrong, deepest);
	note("masked: itself %d", sigismember(&mask_inside, SIGTERM));
	sigprocmask(SIG_BLOCK, NULL, &mask_inside);
	note("after: USR1 %d, TERM %d", sigismember(&mask_inside, SIGUSR1), sigismember(&mask_inside, SIGTERM));
}

/* The mask of a thread is what it was, after whatever a storm did to calls. */
static void the_mask_stays(struct obs *o)
{
	sigset_t set, before, after;
	int same = 1;

	hfd = o->fd;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	sigprocmask(SIG_BLOCK, NULL, &before);
	handle(SIGALRM, busy_handler, SA_RESTART);
	storm(ITIMER_REAL, STORM_US);
	peer_start(o, op_bulk_in, 1000000, 3);
	obs("sent", bulk_out(o->fd, 1000000, 3));
	obs("peer got", peer_done(o));
	sigprocmask(SIG_BLOCK, NULL, &after);
	storm(ITIMER_REAL, 0);
	for (int sig = 1; sig < 65; sig++)
		same &= sig == SIGALRM || sigismember(&before, sig) == sigismember(&after, sig);
	note("the same: %d", same);
}

/* --- processes --- */

static void a_child_of_vfork_resets(struct obs *o)
{
	pid_t pid;
	int status;

	(void)o;
	handle(SIGUSR1, where_handler, 0);
	pid = vfork();
	if (pid == 0) {
		signal(SIGUSR1, SIG_DFL);
		_exit(3);
	}
	waitpid(pid, &status, 0);
	show_action("the parent's", SIGUSR1);
	raise(SIGUSR1);
	note("handlers: %d", (int)handled);
}

static void forking_handler(int sig)
{
	pid_t pid = fork();
	int status;

	(void)sig;
	if (pid == 0) {
		ssize_t rc = send(hfd, "from the child", 14, MSG_NOSIGNAL);

		_exit(rc == 14 ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	wrong += !WIFEXITED(status) || WEXITSTATUS(status);
	handled++;
}

static void fork_in_a_handler(struct obs *o)
{
	struct poke p = { 0 };

	hfd = o->fd;
	handle(SIGUSR1, forking_handler, SA_RESTART);
	poke_begin(&p, o, SIGUSR1, 1, "after the fork");
	obs_recv(o->fd, 100, 0);
	poke_end(&p);
	note("handlers: %d, wrong: %d", (int)handled, (int)wrong);
	obs("peer recv", peer(o, op_recv, 100, 0));
	peer_text(o, op_puts, 0, "once more");
	obs_recv(o->fd, 100, 0);
}

static pid_t went_on;

static void splitting_handler(int sig)
{
	(void)sig;
	went_on = fork();
	handled++;
}

static long op_two(struct obs *o, long a, long b)
{
	(void)a;
	(void)b;
	return send(o->fd, "x", 1, 0) + send(o->fd, "y", 1, 0);
}

/* Parent and child both come back into the call that waited. */
static void two_in_one_call(struct obs *o)
{
	struct poke p = { 0 };
	char buf[32];
	ssize_t rc;

	handle(SIGUSR1, splitting_handler, SA_RESTART);
	p.then_too = "y";
	poke_begin(&p, o, SIGUSR1, 1, "x");
	rc = recv(o->fd, buf, 1, 0);
	if (went_on == 0) {
		rc += send(o->fd, "child", 5, MSG_NOSIGNAL);
		close(o->fd);
		_exit(rc == 6 ? 0 : 1);
	}
	if (rc != 1)
		note("the parent got %zd", rc);
	poke_end(&p);
	note("the child: %d", obs_wait(went_on));
	obs("peer recv", peer(o, op_recv, 100, 0));
	obs_send(o->fd, "parent", 0);
	obs("peer recv", peer(o, op_recv, 100, 0));
	obs("close", close(o->fd));
	if (o->type != SOCK_DGRAM)
		obs("peer sees the end", peer(o, op_recv, 10, 0));
}

/* Waits until both sleep, then has the peer send two at once: none may be slept through. */
static void *poke_two(void *arg)
{
	struct poke *p = arg;

	if (!thread_asleep(getpid(), p->tid, -1))
		return NULL;
	tgkill(getpid(), p->tid, SIGUSR1);
	while (!handled)
		usleep(500);
	thread_asleep(getpid(), p->tid, -1);
	thread_asleep(went_on, went_on, -1);
	peer(p->o, op_two, 0, 0);
	return NULL;
}

static void two_in_one_call_get_two(struct obs *o)
{
	struct poke p = { .tid = gettid(), .o = o };
	char buf[32];
	ssize_t rc;

	handle(SIGUSR1, splitting_handler, SA_RESTART);
	pthread_create(&p.t, NULL, poke_two, &p);
	rc = recv(o->fd, buf, 1, 0);
	if (went_on == 0)
		_exit(rc == 1 ? 0 : 1);
	note("the parent got %zd", rc);
	poke_end(&p);
	note("the child: %d", obs_wait(went_on));
}

/* Two threads wait on one socket, and each is interrupted: a handler with SA_RESTART lets both read on, one without ends its own call. */
struct reader {
	pthread_t thread;
	pid_t tid;
	int fd;
	ssize_t n;
	int err;
};

static void *read_one(void *arg)
{
	struct reader *r = arg;
	char c[8];

	__atomic_store_n(&r->tid, (pid_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
	r->n = recv(r->fd, c, 1, 0);
	r->err = r->n < 0 ? errno : 0;
	return NULL;
}

static void both_interrupted(struct obs *o, int flags)
{
	struct reader r[2] = { { .fd = o->fd }, { .fd = o->fd } };
	ssize_t read_bytes = 0;
	long ended = 0;

	count_signal(SIGUSR1, flags);
	for (int i = 0; i < 2; i++) {
		if (pthread_create(&r[i].thread, NULL, read_one, &r[i]))
			die("a thread");
		while (!__atomic_load_n(&r[i].tid, __ATOMIC_ACQUIRE))
			usleep(100);
		thread_asleep(getpid(), r[i].tid, -1);
	}
	for (int k = 0; k < 10; k++)
		for (int i = 0; i < 2; i++) {
			pthread_kill(r[i].thread, SIGUSR1);
			usleep(300);
		}
	if (flags & SA_RESTART)
		for (int i = 0; i < 2; i++)
			peer_text(o, op_puts, 0, "x");
	for (int i = 0; i < 2; i++) {
		pthread_join(r[i].thread, NULL);
		read_bytes += r[i].n > 0 ? r[i].n : 0;
		ended += r[i].n < 0 && r[i].err == EINTR;
	}
	note("read %ld, ended by the signal %ld", (long)read_bytes, ended);
}

static void two_readers_interrupted(struct obs *o)
{
	for (int round = 0; round < 3; round++) {
		both_interrupted(o, SA_RESTART);
		both_interrupted(o, 0);
	}
}

static void closing_handler(int sig)
{
	(void)sig;
	handled++;
	close(hfd);
}

static void close_in_a_handler(struct obs *o)
{
	struct poke p = { 0 };

	hfd = o->fd;
	handle(SIGUSR1, closing_handler, SA_RESTART);
	poke_begin(&p, o, SIGUSR1, 1, NULL);
	obs_recv(o->fd, 100, 0);
	poke_end(&p);
	note("handlers: %d", (int)handled);
	if (o->type != SOCK_DGRAM)
		obs("peer sees the end", peer(o, op_recv, 10, 0));
}

/* The oldest idiom of all. */
static void alarm_ends_a_call(struct obs *o)
{
	struct itimerval soon = { { 0, 0 }, { 0, 60000 } };
	char c;

	handle(SIGALRM, where_handler, 0);
	for (int i = 0; i < 3; i++) {
		setitimer(ITIMER_REAL, &soon, NULL);
		obs("recv", recv(o->fd, &c, 1, 0));
		note("handlers: %d", (int)handled);
	}
	still_works(o);
}

/* A short one, often within the first moments of the call, where a spin would be: never slept through. */
static void short_alarms(struct obs *o)
{
	int interrupted = 0;
	char c;

	handle(SIGALRM, where_handler, 0);
	for (int i = 0; i < 300; i++) {
		struct itimerval soon = { { 0, 3000 }, { 0, 20 + i } };

		setitimer(ITIMER_REAL, &soon, NULL);
		interrupted += recv(o->fd, &c, 1, 0) == -1 && errno == EINTR;
	}
	storm(ITIMER_REAL, 0);
	note("interrupted: %d", interrupted);
}

/* A signal that is blocked but for the call, and pending already. */
static void masks_of_calls(struct obs *o)
{
	struct pollfd p = { .fd = o->fd, .events = POLLIN };
	struct epoll_event ev = { .events = EPOLLIN };
	struct timespec zero = { 0 }, soon = { 0, 50000000 };
	sigset_t set, none;
	fd_set r;
	int ep = epoll_create1(0);

	epoll_ctl(ep, EPOLL_CTL_ADD, o->fd, &ev);
	handle(SIGUSR1, where_handler, SA_RESTART);
	sigemptyset(&none);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	raise(SIGUSR1);
	obs("ppoll, at once", ppoll(&p, 1, &zero, &none));
	note("handlers: %d", (int)handled);
	raise(SIGUSR1);
	obs("ppoll", ppoll(&p, 1, &soon, &none));
	note("handlers: %d", (int)handled);
	raise(SIGUSR1);
	FD_ZERO(&r);
	FD_SET(o->fd, &r);
	obs("pselect", pselect(o->fd + 1, &r, NULL, NULL, &soon, &none));
	note("handlers: %d", (int)handled);
	raise(SIGUSR1);
	obs("epoll_pwait", epoll_pwait(ep, &ev, 1, 50, &none));
	note("handlers: %d", (int)handled);
	raise(SIGUSR1);
	obs("epoll_pwait2", epoll_pwait2(ep, &ev, 1, &soon, &none));
	note("handlers: %d", (int)handled);
	peer_text(o, op_puts, 0, "x");
	settle(o->fd);
	raise(SIGUSR1);
	obs("ppoll, readable", ppoll(&p, 1, &soon, &none));
	note("handlers: %d", (int)handled);
	obs("recv is not interrupted", recv(o->fd, &(char){ 0 }, 1, 0));
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	note("handlers: %d", (int)handled);
}

static _Atomic int stop_setting;

static void *sets_handlers(void *arg)
{
	(void)arg;
	while (!stop_setting)
		signal(SIGUSR2, SIG_IGN);
	return NULL;
}

/* A child of fork sets handlers, whatever another thread of its parent was about just then. */
static void forks_while_a_thread_sets(struct obs *o)
{
	pthread_t t;
	int ended = 0, i;

	(void)o;
	if (pthread_create(&t, NULL, sets_handlers, NULL))
		die("pthread_create");
	for (i = 0; i < 100 && ended == 0; i++) {
		pid_t pid = obs_fork();

		if (pid == 0)
			_exit(signal(SIGUSR1, SIG_IGN) != SIG_DFL);
		ended = obs_wait(pid);
	}
	stop_setting = 1;
	pthread_join(t, NULL);
	note("%d children, the last ended with %d", i, ended);
}

int main(int argc, char **argv)
{
	static const struct obs_case cases[] = {
		{ "a handler sends on the socket it interrupts", handler_sends_on_the_socket_it_interrupts, STREAM | SEQ | DGRAM, 0 },
		{ "a call within a call", a_call_within_a_call, STREAM | SEQ | DGRAM, 0 },
		{ "a storm while streaming", storm_while_streaming, STREAM, THREADS | SLOW },
		{ "a storm while answering", storm_while_answering, STREAM | SEQ | DGRAM, SLOW },
		{ "a storm that interrupts", storm_that_interrupts, STREAM, HOT_ONLY | SLOW },
		{ "jumps", jumps, STREAM | SEQ | DGRAM, SLOW },
		{ "jumps out of send", jumps_out_of_send, STREAM | SEQ, SLOW },
		{ "jumps with bytes moved", jumps_with_bytes_moved, STREAM, SLOW },
		{ "jumps out of accept", jumps_out_of_accept, SOLO, SLOW },
		{ "jumps at any time", jumps_at_any_time, STREAM | SEQ | DGRAM, HOT_ONLY },
		{ "a broken pipe in a thread", broken_pipe_in_a_thread, STREAM, 0 },
		{ "a broken pipe waits", broken_pipe_waits, STREAM, 0 },
		{ "sigwait and signalfd", sigwait_and_signalfd, STREAM, HOT_ONLY },
		{ "queued signals", queued_signals, STREAM | SEQ | DGRAM, HOT_ONLY | SLOW },
		{ "what is read back", read_back, SOLO, 0 },
		{ "rt_sigaction by number", raw_action, SOLO, 0 },
		{ "one shot", one_shot, PAIR, NO_RING },
		{ "masks and stacks", masks_and_stacks, SOLO, 0 },
		{ "the mask stays", the_mask_stays, STREAM, HOT_ONLY },
		{ "a child of vfork resets", a_child_of_vfork_resets, SOLO, 0 },
		{ "forks while a thread sets handlers", forks_while_a_thread_sets, SOLO, 0 },
		{ "fork in a handler", fork_in_a_handler, STREAM | SEQ, 0 },
		{ "two in one call", two_in_one_call, STREAM | SEQ, 0 },
		{ "two in one call get two", two_in_one_call_get_two, STREAM | SEQ, 0 },
		{ "two readers, interrupted", two_readers_interrupted, STREAM | SEQ | DGRAM, 0 },
		{ "close in a handler", close_in_a_handler, STREAM | SEQ | UDP4, 0 },
		{ "an alarm ends a call", alarm_ends_a_call, STREAM | SEQ | DGRAM, 0 },
		{ "short alarms", short_alarms, STREAM | SEQ | DGRAM, HOT_ONLY | SLOW },
		{ "masks of calls", masks_of_calls, STREAM | SEQ | DGRAM, 0 },
		{ 0 },
	};

	return obs_main(argc, argv, cases);
}
