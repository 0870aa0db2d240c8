/* SPDX-License-Identifier: MIT */
/* ring: yes */
/*
 * A connection that several processes go on with, one of them a program that was started for it (with the shim, or static) or that was sent it:
 * all see one open file. The program does what it is told over a pipe, so that who reads and writes when is known.
 */
#include "obs.h"

#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>

#define UNREAD 5000
#define LONG_PACKET 300000

struct order {
	char what; /* r: receive n bytes of pattern 1 from `at` on; w: send n of pattern 2; s: shutdown n; c: close; n: to a network of its own;
		    * d: MSG_DONTWAIT, 1 byte; l, L: receive, send a long packet; e: send an empty packet and n bytes, and close; x: reset; q: end */
	long n, at;
};

struct answer {
	long rc, error;
};

struct program {
	pid_t pid;
	int to, from;
};

/* Bytes of the pattern that came in their order; less: an end, an error, or others. */
static long take(int fd, long n, long at, unsigned seed)
{
	char got[UNREAD], want[UNREAD];
	long done = 0;

	while (done < n) {
		ssize_t rc = recv(fd, got, (size_t)(n - done < UNREAD ? n - done : UNREAD), 0);

		if (rc <= 0)
			return rc < 0 && !done ? rc : done;
		pattern(want, (size_t)rc, (uint64_t)(at + done), seed);
		if (memcmp(got, want, (size_t)rc))
			return -1000 - done;
		done += rc;
	}
	return done;
}

static long give(int fd, long n, long at, unsigned seed)
{
	char bytes[UNREAD];

	pattern(bytes, (size_t)n, (uint64_t)at, seed);
	return send(fd, bytes, (size_t)n, MSG_NOSIGNAL);
}

static char long_packet[2][LONG_PACKET];

static long give_long(int fd)
{
	int size = LONG_PACKET;

	pattern(long_packet[0], LONG_PACKET, 0, 3);
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	return send(fd, long_packet[0], LONG_PACKET, MSG_NOSIGNAL);
}

static long take_long(int fd)
{
	ssize_t n = recv(fd, long_packet[1], LONG_PACKET, 0);

	pattern(long_packet[0], LONG_PACKET, 0, 3);
	return n > 0 && memcmp(long_packet[0], long_packet[1], (size_t)n) ? -1000 : n;
}

static long give_and_close(int fd, long n, unsigned seed)
{
	char bytes[UNREAD];

	pattern(bytes, (size_t)n, 0, seed);
	return send(fd, bytes, 0, MSG_NOSIGNAL) == 0 && send(fd, bytes, (size_t)n, MSG_NOSIGNAL) == n ? close(fd) : -1;
}

static long obey_one(int fd, const struct order *o)
{
	char byte;

	switch (o->what) {
	case 'r':
		return take(fd, o->n, o->at, 1);
	case 'w':
		return give(fd, o->n, o->at, 2);
	case 's':
		return shutdown(fd, (int)o->n);
	case 'c':
		return close(fd);
	case 'l':
		return take_long(fd);
	case 'L':
		return give_long(fd);
	case 'e':
		return give_and_close(fd, o->n, 2);
	case 'x':
		linger(fd, 0);
		return close(fd);
	case 'n':
		return unshare(CLONE_NEWNET) && errno != EPERM ? -1 : 0; /* where it may */
	default:
		return recv(fd, &byte, 1, MSG_DONTWAIT);
	}
}

static int obey(int fd, int in, int out)
{
	struct answer a = { 0 };
	struct order o;

	if (write(out, &a, sizeof(a)) != sizeof(a)) /* here we are */
		return 1;
	while (read(in, &o, sizeof(o)) == sizeof(o) && o.what != 'q') {
		errno = 0;
		a.rc = obey_one(fd, &o);
		a.error = errno;
		if (write(out, &a, sizeof(a)) != sizeof(a))
			return 1;
	}
	return 0;
}

enum start { BY_FORK, BY_VFORK, STATIC_BY_FORK, STATIC_BY_VFORK, RELATIVE, BY_PASSING, BY_PASSING_TO_STATIC };

static const char *const start_name[] = { "exec", "vfork and exec", "exec of a static one", "vfork and exec of a static one", "no exec", "passing",
					  "passing to a static one" };

static struct answer tell(const struct program *p, char what, long n, long at)
{
	struct order o = { what, n, at };
	struct answer a = { -2, 0 };
	struct pollfd ready = { p->from, POLLIN, 0 };

	if (what && write(p->to, &o, sizeof(o)) != sizeof(o))
		return a;
	if (poll(&ready, 1, (int)deadline_ms()) == 1 && read(p->from, &a, sizeof(a)) == sizeof(a))
		return a;
	return (struct answer){ -3, 0 };
}

static void told(const struct program *p, const char *who, char what, long n, long at)
{
	struct answer a = tell(p, what, n, at);

	note("%s %c %ld: %ld%s%s", who, what, n, a.rc, a.rc == -1 ? " " : "", a.rc == -1 ? strerrorname_np((int)a.error) : "");
}

/* Starts one and waits until it is there. `fd` is its descriptor too; `close_it`: the others' ends of the pipes are of no use to it. */
static struct program begin(const struct obs *o, enum start how)
{
	char path[4096 + 8], fd[16], in[16], out[16];
	char *argv[] = { path, (char *)(how == BY_PASSING_TO_STATIC ? "--obey-passed" : "--obey"), fd, in, out, NULL };
	bool passing = how == BY_PASSING || how == BY_PASSING_TO_STATIC;
	int to[2], from[2], pair[2];
	struct program p;

	if (pipe(to) || pipe(from) || socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		die("pipe");
	strcpy(path, "/proc/self/exe");
	if (how == STATIC_BY_FORK || how == STATIC_BY_VFORK || how == BY_PASSING_TO_STATIC) {
		ssize_t n = readlink("/proc/self/exe", path, 4096);

		strcpy(path + (n > 0 ? n : 0), "_static");
	}
	snprintf(fd, sizeof(fd), "%d", passing ? pair[1] : o->fd);
	snprintf(in, sizeof(in), "%d", to[0]);
	snprintf(out, sizeof(out), "%d", from[1]);
	fflush(stdout);
	fcntl(to[1], F_SETFD, FD_CLOEXEC);
	fcntl(from[0], F_SETFD, FD_CLOEXEC);
	p.pid = how == BY_VFORK || how == STATIC_BY_VFORK ? vfork() : obs_fork();
	if (p.pid == 0) {
		int mine = o->fd;

		if (passing) {
			close(o->fd);
			close(pair[0]);
		}
		if (how == BY_PASSING)
			mine = passed_fd(pair[1]);
		if (how == RELATIVE || how == BY_PASSING)
			_exit(obey(mine, to[0], from[1]));
		execv(path, argv);
		_exit(127);
	}
	close(to[0]);
	close(from[1]);
	close(pair[1]);
	if (passing)
		if (pass_fd(pair[0], o->fd) != 1)
			die("sendmsg");
	close(pair[0]);
	p.to = to[1];
	p.from = from[0];
	if (tell(&p, 0, 0, 0).rc)
		die("the program does not begin");
	return p;
}

static void finish(struct program *p)
{
	struct order o = { 'q', 0, 0 };

	if (write(p->to, &o, sizeof(o)) != sizeof(o))
		note("it has gone");
	obs("program ends", obs_wait(p->pid));
	close(p->to);
	close(p->from);
}

static void mine(struct obs *o, char what, long n, long at)
{
	struct order order = { what, n, at };

	obs(what == 'r' ? "read here" : what == 'w' ? "written here" : "here", obey_one(o->fd, &order));
}

static long op_give(struct obs *o, long n, long at)
{
	return give(o->fd, n, at, 1);
}

static long op_take(struct obs *o, long n, long at)
{
	return take(o->fd, n, at, 2);
}

/* Its first bytes wait in the ring, the peer is elsewhere, and both go on. */
static void both_go_on(struct obs *o, enum start how)
{
	struct program p;
	long at = 0, out = 0;

	note("by %s", start_name[how]);
	obs("peer writes", peer(o, op_give, UNREAD, 0));
	mine(o, 'r', 10, at);
	p = begin(o, how);
	at = 10;
	for (int i = 0; i < 4; i++) {
		told(&p, "program", 'r', 100, at);
		mine(o, 'r', 70, at + 100);
		at += 170;
		mine(o, 'w', 30, out);
		told(&p, "program", 'w', 50, out + 30);
		mine(o, 'w', 20, out + 80);
		out += 100;
	}
	obs("peer reads", peer(o, op_take, out, 0));
	mine(o, 'r', UNREAD - at, at);
	for (int i = 0; i < 3; i++) {
		obs("peer writes", peer(o, op_give, 300, UNREAD + i * 300));
		mine(o, 'r', 100, UNREAD + i * 300);
		told(&p, "program", 'r', 200, UNREAD + i * 300 + 100);
		told(&p, "program", 'w', 10, out);
		obs("peer reads", peer(o, op_take, 10, out));
		mine(o, 'w', 10, out + 10);
		obs("peer reads", peer(o, op_take, 10, out + 10));
		out += 20;
	}
	finish(&p);
	obs("peer writes", peer(o, op_give, 100, UNREAD + 900));
	mine(o, 'r', 100, UNREAD + 900);
	mine(o, 'd', 1, 0);
	mine(o, 'w', 10, out);
	close(o->fd);
	o->fd = -1;
	obs("peer reads", peer(o, op_take, 11, out));
}

static void go_on_exec(struct obs *o) { both_go_on(o, BY_FORK); }
static void go_on_vfork(struct obs *o) { both_go_on(o, BY_VFORK); }
static void go_on_static(struct obs *o) { both_go_on(o, STATIC_BY_FORK); }
static void go_on_static_vfork(struct obs *o) { both_go_on(o, STATIC_BY_VFORK); }
static void go_on_passed(struct obs *o) { both_go_on(o, BY_PASSING); }
static void go_on_passed_static(struct obs *o) { both_go_on(o, BY_PASSING_TO_STATIC); }

/* Packets keep their borders, whoever takes them; empty ones too. */
static void packets(struct obs *o)
{
	struct program p;

	for (int i = 0; i < 6; i++)
		obs("peer writes", peer(o, op_give, 100, i * 100));
	mine(o, 'r', 100, 0);
	p = begin(o, STATIC_BY_FORK);
	told(&p, "program", 'r', 100, 100);
	mine(o, 'r', 100, 200);
	told(&p, "program", 'r', 100, 300);
	mine(o, 'r', 100, 400);
	mine(o, 'r', 100, 500);
	mine(o, 'd', 1, 0);
	for (int i = 6; i < 10; i++) {
		obs("peer writes", peer(o, op_give, 100, i * 100));
		i % 2 ? mine(o, 'r', 100, i * 100) : told(&p, "program", 'r', 100, i * 100);
	}
	mine(o, 'w', 30, 0);
	told(&p, "program", 'w', 40, 30);
	mine(o, 'w', 50, 70);
	obs("peer reads", peer(o, op_take, 30, 0));
	obs("peer reads", peer(o, op_take, 40, 30));
	obs("peer reads", peer(o, op_take, 50, 70));
	finish(&p);
	close(o->fd);
	o->fd = -1;
	obs("peer reads", peer(o, op_take, 1, 0));
}

static long op_give_and_close(struct obs *o, long n, long seed)
{
	return give_and_close(o->fd, n, (unsigned)seed);
}

/* Empty packets, and others behind them when the writer has gone. */
static void empty_packets(struct obs *o)
{
	struct program p = begin(o, STATIC_BY_FORK);

	obs("peer writes nothing", peer(o, op_give, 0, 0));
	obs("peer writes", peer(o, op_give, 100, 0));
	told(&p, "program", 'r', 100, 0);
	told(&p, "program", 'r', 100, 0);
	obs("peer writes nothing, something, and closes", peer(o, op_give_and_close, 100, 1));
	told(&p, "program", 'r', 100, 0);
	told(&p, "program", 'r', 100, 0);
	told(&p, "program", 'r', 100, 0);
	finish(&p);
}

static void empty_packets_back(struct obs *o)
{
	struct program p = begin(o, STATIC_BY_FORK);

	close(o->fd);
	o->fd = -1;
	obs("peer writes nothing", peer(o, op_give, 0, 0));
	told(&p, "program", 'r', 100, 0);
	told(&p, "program", 'e', 100, 0);
	obs("peer reads", peer(o, op_take, 100, 0));
	obs("peer reads", peer(o, op_take, 100, 0));
	obs("peer reads", peer(o, op_take, 100, 0));
	finish(&p);
}

/* Who closes with something unread resets; what it wrote before is there all the same. */
static void packets_and_a_reset(struct obs *o)
{
	struct program p = begin(o, STATIC_BY_FORK);

	close(o->fd);
	o->fd = -1;
	obs("peer writes", peer(o, op_give, 10, 0));
	obs("peer writes", peer(o, op_give, 10, 10));
	told(&p, "program", 'r', 10, 0);
	usleep(20000); /* the second one is there */
	told(&p, "program", 'e', 100, 0);
	usleep(20000);
	while (peer(o, op_take, 100, 0) == -1)
		note("peer has an error");
	obs("peer reads", peer(o, op_take, 100, 0));
	finish(&p);
}

static long op_long(struct obs *o, long out, long b)
{
	(void)b;
	return out ? give_long(o->fd) : take_long(o->fd);
}

static void long_packets(struct obs *o)
{
	struct program p = begin(o, STATIC_BY_FORK);

	obs("peer writes", peer(o, op_long, 1, 0));
	told(&p, "program", 'l', LONG_PACKET, 0);
	told(&p, "program", 'L', LONG_PACKET, 0);
	obs("peer reads", peer(o, op_long, 0, 0));
	finish(&p);
}

/* An urgent byte is in the way, and nobody asks for it. */
static void urgent_between(struct obs *o)
{
	struct program p = begin(o, STATIC_BY_FORK);

	for (int i = 0; i < 4; i++) {
		obs("peer writes", peer(o, op_give, 50, i * 100));
		obs("peer writes urgently", peer(o, op_send, 1, MSG_OOB));
		obs("peer writes", peer(o, op_give, 50, i * 100 + 50));
		told(&p, "program", 'r', 100, i * 100);
	}
	finish(&p);
}

static void program_resets(struct obs *o)
{
	struct program p = begin(o, BY_FORK);

	close(o->fd);
	o->fd = -1;
	told(&p, "program", 'w', 10, 0);
	obs("peer reads", peer(o, op_take, 10, 0));
	told(&p, "program", 'x', 0, 0);
	obs("peer reads", peer(o, op_take, 10, 10));
	finish(&p);
}

/* --- somebody is asleep on it at the moment of the exec --- */

enum sleep { IN_RECV, IN_POLL, IN_EPOLL, IN_EDGES };

static const char *const sleep_name[] = { "recv", "poll", "epoll", "epoll, by edges" };

static int sleeper(int fd, enum sleep how)
{
	struct epoll_event ev = { .events = how == IN_EDGES ? EPOLLIN | EPOLLET : EPOLLIN };
	struct pollfd p = { fd, POLLIN, 0 };
	int set = -1;

	if (how >= IN_EPOLL) {
		set = epoll_create1(0);
		if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &ev))
			return 1;
	}
	if (how == IN_POLL && poll(&p, 1, -1) != 1)
		return 2;
	if (how >= IN_EPOLL && (epoll_whole(set, &ev) != 1 || ev.events != EPOLLIN))
		return 3;
	return take(fd, 100, 0, 1) == 100 ? 0 : 4;
}

static pid_t asleep(const struct obs *o, enum sleep how)
{
	int ended[2];
	pid_t pid;

	if (pipe(ended))
		die("pipe");
	pid = obs_fork();
	if (pid == 0) {
		close(ended[0]);
		_exit(sleeper(o->fd, how));
	}
	close(ended[1]);
	if (!thread_asleep(pid, pid, ended[0]))
		die("it does not sleep");
	close(ended[0]);
	return pid;
}

static void others_sleep(struct obs *o)
{
	enum start how = o->kind == TCP4 || o->kind == PAIR ? STATIC_BY_FORK : BY_VFORK;

	for (enum sleep in = IN_RECV; in <= IN_EDGES; in++) {
		struct program p;
		pid_t pid = asleep(o, in);

		note("asleep in %s", sleep_name[in]);
		p = begin(o, how);
		obs("peer writes", peer(o, op_give, 100, 0));
		obs("sleeper ends", obs_wait(pid));
		obs("peer writes", peer(o, op_give, 100, 100));
		told(&p, "program", 'r', 100, 100);
		finish(&p);
	}
	mine(o, 'd', 1, 0);
}

/* One that is woken, and does not run before others have carried away what it was woken for: it finds something all the same. */
static void woken_late(struct obs *o, bool before)
{
	enum start how = o->kind == TCP4 || o->kind == PAIR ? STATIC_BY_FORK : BY_VFORK;

	for (enum sleep in = IN_RECV; in <= IN_EDGES; in++) {
		struct program p;
		pid_t pid = asleep(o, in);

		note("asleep in %s", sleep_name[in]);
		obs_stop(pid);
		if (before)
			obs("peer writes", peer(o, op_give, 100, 0));
		p = begin(o, how);
		if (!before)
			obs("peer writes", peer(o, op_give, 100, 0));
		else
			told(&p, "program", 'w', 30, in * 30);
		if (before)
			obs("peer reads", peer(o, op_take, 30, in * 30));
		else if (o->kind & SEQ)
			obs("peer writes nothing", peer(o, op_give, 0, 100));
		usleep(20000);
		kill(pid, SIGCONT);
		obs("sleeper ends", obs_wait(pid));
		if (!before && o->kind & SEQ)
			told(&p, "program", 'd', 0, 100);
		obs("peer writes", peer(o, op_give, 100, 100));
		told(&p, "program", 'r', 100, 100);
		finish(&p);
	}
	mine(o, 'd', 1, 0);
}

struct taker {
	const struct obs *o;
	pid_t tid;
	int go, ended[2];
};

static void *takes(void *arg)
{
	struct taker *t = arg;
	long got;

	t->tid = gettid();
	write(t->go, "", 1);
	got = take(t->o->fd, 100, 0, 1);
	close(t->ended[1]);
	return (void *)(intptr_t)got;
}

/* In a process of its own: a thread sleeps, and another one starts a program. */
static int thread_and_program(const struct obs *o, enum start how, int started)
{
	struct taker t = { .o = o };
	struct order end = { .what = 'q' };
	struct program p;
	pthread_t thread;
	void *got;
	char byte;
	int go[2];

	if (pipe(go) || pipe2(t.ended, O_CLOEXEC))
		die("pipe");
	t.go = go[1];
	if (pthread_create(&thread, NULL, takes, &t) || read(go[0], &byte, 1) != 1 || !thread_asleep(getpid(), t.tid, t.ended[0]))
		return 1;
	p = begin(o, how);
	write(started, "", 1);
	pthread_join(thread, &got);
	if (write(p.to, &end, sizeof(end)) != sizeof(end) || waitpid(p.pid, NULL, 0) != p.pid)
		return 2;
	return (intptr_t)got == 100 ? 0 : 3;
}

/* Not a relative, but a thread of the process that has started the program: it is woken late too. */
static void a_thread_woken_late(struct obs *o)
{
	enum start how = o->kind == TCP4 || o->kind == PAIR ? STATIC_BY_FORK : BY_VFORK;
	int started[2];
	char byte;
	pid_t pid;

	if (pipe(started))
		die("pipe");
	pid = obs_fork();
	if (pid == 0)
		_exit(thread_and_program(o, how, started[1]));
	close(o->fd);
	o->fd = -1;
	close(started[1]);
	note("started: %zd", read(started[0], &byte, 1));
	obs_stop(pid);
	usleep(300000); /* nobody else is left */
	obs("peer writes", peer(o, op_give, 100, 0));
	usleep(20000);
	kill(pid, SIGCONT);
	obs("it ends", obs_wait(pid));
}

static void others_woken_late(struct obs *o)
{
	woken_late(o, false);
}

static void others_woken_before(struct obs *o)
{
	woken_late(o, true);
}

/* Two of them: the program is started by a third process, and only then does the peer speak. */
static void two_sleep(struct obs *o)
{
	pid_t a = asleep(o, IN_POLL), b = asleep(o, IN_EPOLL);
	struct program p = begin(o, STATIC_BY_FORK);

	obs("peer writes", peer(o, op_give, 100, 0));
	obs("peer writes again", peer(o, op_give, 100, 0));
	obs("one ends", obs_wait(a));
	obs("the other ends", obs_wait(b));
	finish(&p);
	mine(o, 'd', 1, 0);
}

/* The peer has more to read than there is room for; the program writes on where the writer is let go. */
static void writer_waits(struct obs *o)
{
	struct program p;
	pid_t pid;
	int begun[2];
	char byte;

	if (pipe(begun))
		die("pipe");
	pid = obs_fork();
	if (pid == 0) {
		if (write(begun[1], "", 1) != 1)
			_exit(2);
		_exit(bulk_out(o->fd, 8000000, 3) == 8000000 ? 0 : 1);
	}
	obs("it writes", read(begun[0], &byte, 1));
	close(begun[0]);
	close(begun[1]);
	p = begin(o, STATIC_BY_FORK);
	obs("peer reads", peer(o, op_bulk_in, 8000000, 3));
	obs("writer ends", obs_wait(pid));
	told(&p, "program", 'w', 100, 0);
	mine(o, 'w', 100, 100);
	obs("peer reads", peer(o, op_take, 200, 0));
	finish(&p);
}

/* --- several programs --- */

static void two_programs(struct obs *o)
{
	struct program p[3];

	obs("peer writes", peer(o, op_give, UNREAD, 0));
	for (int i = 0; i < 3; i++)
		p[i] = begin(o, i ? STATIC_BY_FORK : RELATIVE);
	for (int i = 0; i < 9; i++)
		told(&p[i % 3], "one", 'r', 100, i * 100);
	mine(o, 'r', UNREAD - 900, 900);
	for (int i = 0; i < 9; i++)
		told(&p[i % 3], "one", 'w', 100, i * 100);
	obs("peer reads", peer(o, op_take, 900, 0));
	for (int i = 0; i < 3; i++)
		finish(&p[i]);
}

/* At the same time: each takes what it can get, and all of it is read, once. */
static void at_once(struct obs *o)
{
	char path[4096 + 8], fd[16];
	char *argv[] = { path, (char *)"--count", fd, NULL };
	ssize_t n = readlink("/proc/self/exe", path, 4096);
	pid_t pid[4];
	long sum = 0;
	int counts[2];

	strcpy(path + (n > 0 ? n : 0), "_static");
	snprintf(fd, sizeof(fd), "%d", o->fd);
	obs("peer writes", peer(o, op_give, UNREAD, 0));
	if (pipe(counts))
		die("pipe");
	for (int i = 0; i < 4; i++) {
		pid[i] = obs_fork();
		if (pid[i] == 0) {
			dup2(counts[1], STDOUT_FILENO);
			execv(path, argv);
			_exit(127);
		}
	}
	peer_start(o, op_bulk_out, 2000000, 1);
	obs("peer", peer_done(o));
	peer(o, op_shutdown, SHUT_WR, 0);
	for (int i = 0; i < 4; i++)
		obs("one ends", obs_wait(pid[i]));
	for (int i = 0; i < 4; i++) {
		long one = 0;

		if (read(counts[0], &one, sizeof(one)) != sizeof(one))
			note("no count");
		sum += one;
	}
	obs("read in all", sum);
	close(counts[0]);
	close(counts[1]);
}

/* argv: --count FD: how many bytes come before the end, on stdout. */
static int count(int fd)
{
	static char buf[4096];
	long sum = 0;
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0)
		sum += n;
	return write(STDOUT_FILENO, &sum, sizeof(sum)) == sizeof(sum) && n == 0 ? 0 : 1;
}

/* --- ends --- */

static void halves(struct obs *o)
{
	struct program p;

	obs("peer writes", peer(o, op_give, UNREAD, 0));
	p = begin(o, STATIC_BY_FORK);
	told(&p, "program", 'w', 100, 0);
	mine(o, 's', SHUT_WR, 0);
	obs("peer reads", peer(o, op_take, 101, 0));
	told(&p, "program", 'w', 100, 0);
	told(&p, "program", 'r', 1000, 0);
	mine(o, 'r', UNREAD - 1000, 1000);
	obs("peer writes", peer(o, op_give, 100, UNREAD));
	told(&p, "program", 'r', 100, UNREAD);
	peer(o, op_shutdown, SHUT_WR, 0);
	told(&p, "program", 'r', 1, 0);
	mine(o, 'r', 1, 0);
	finish(&p);
}

static void program_shuts(struct obs *o)
{
	struct program p;

	obs("peer writes", peer(o, op_give, UNREAD, 0));
	p = begin(o, STATIC_BY_FORK);
	peer(o, op_shutdown, SHUT_WR, 0);
	mine(o, 'w', 100, 0);
	told(&p, "program", 's', SHUT_WR, 0);
	mine(o, 'w', 100, 0);
	obs("peer reads", peer(o, op_take, 101, 0));
	mine(o, 'r', 1000, 0);
	told(&p, "program", 'r', UNREAD - 1000, 1000);
	mine(o, 'r', 1, 0);
	finish(&p);
}

/* Shut before, and found so by the program. */
static void shut_before(struct obs *o)
{
	struct program p;

	obs("peer writes", peer(o, op_give, UNREAD, 0));
	mine(o, 's', SHUT_WR, 0);
	p = begin(o, STATIC_BY_FORK);
	obs("peer reads", peer(o, op_take, 1, 0));
	told(&p, "program", 'w', 1, 0);
	told(&p, "program", 'r', UNREAD, 0);
	obs("peer writes", peer(o, op_give, 100, UNREAD));
	mine(o, 'r', 100, UNREAD);
	finish(&p);
}

static void peer_hears_end(struct obs *o)
{
	obs("peer reads nothing", peer(o, op_recv, 1, MSG_DONTWAIT));
}

/* The last copy that is closed ends it: the one here, the program's, that of a relative who never used it, or one of a relative that is killed. */
static void last_close(struct obs *o)
{
	struct program p, q;

	obs("peer writes", peer(o, op_give, 100, 0));
	q = begin(o, RELATIVE);
	p = begin(o, STATIC_BY_FORK);
	told(&p, "program", 'r', 50, 0);
	told(&p, "program", 'c', 0, 0);
	peer_hears_end(o);
	mine(o, 'r', 50, 50);
	close(o->fd);
	o->fd = -1;
	peer_hears_end(o);
	told(&q, "relative", 'w', 10, 0);
	obs("peer reads", peer(o, op_take, 10, 0));
	told(&q, "relative", 'c', 0, 0);
	obs("peer reads", peer(o, op_take, 1, 0));
	finish(&p);
	finish(&q);
}

static void last_is_idle(struct obs *o, bool killed)
{
	struct program p, q;

	obs("peer writes", peer(o, op_give, 100, 0));
	q = begin(o, RELATIVE);
	p = begin(o, STATIC_BY_FORK);
	told(&p, "program", 'r', 100, 0);
	close(o->fd);
	o->fd = -1;
	finish(&p);
	peer_hears_end(o);
	if (killed)
		kill(q.pid, SIGKILL);
	else
		told(&q, "relative", 'c', 0, 0);
	obs("peer reads", peer(o, op_take, 1, 0));
	if (killed)
		obs("relative ends", obs_wait(q.pid));
	else
		finish(&q);
}

static void last_closes_unused(struct obs *o)
{
	last_is_idle(o, false);
}

static void last_is_killed(struct obs *o)
{
	last_is_idle(o, true);
}

/* A relative that goes on to another program, which does not get the socket: it holds it no longer, but lives. */
static void relative_execs(struct obs *o)
{
	struct program p;
	pid_t other;
	int out[2];

	if (pipe2(out, O_CLOEXEC))
		die("pipe");
	obs("peer writes", peer(o, op_give, 100, 0));
	fcntl(o->fd, F_SETFD, FD_CLOEXEC);
	other = obs_fork();
	if (other == 0) {
		dup2(out[0], 0);
		execlp("cat", "cat", (char *)NULL);
		_exit(127);
	}
	fcntl(o->fd, F_SETFD, 0);
	p = begin(o, STATIC_BY_FORK);
	close(o->fd);
	o->fd = -1;
	told(&p, "program", 'r', 100, 0);
	finish(&p);
	obs("peer reads", peer(o, op_take, 1, 0));
	close(out[0]);
	close(out[1]);
	obs("the other ends", obs_wait(other));
}

static void another_network(struct obs *o)
{
	struct program p, q;

	obs("peer writes", peer(o, op_give, UNREAD, 0));
	q = begin(o, RELATIVE);
	told(&q, "relative", 'n', 0, 0);
	p = begin(o, STATIC_BY_FORK);
	told(&p, "program", 'r', 100, 0);
	told(&q, "relative", 'r', 100, 100);
	mine(o, 'r', 100, 200);
	told(&q, "relative", 'w', 100, 0);
	told(&p, "program", 'w', 100, 100);
	obs("peer reads", peer(o, op_take, 200, 0));
	finish(&p);
	finish(&q);
}

static void peer_ends(struct obs *o)
{
	struct program p;

	obs("peer writes", peer(o, op_give, 1000, 0));
	p = begin(o, STATIC_BY_FORK);
	peer(o, op_close, 0, 0);
	told(&p, "program", 'r', 400, 0);
	mine(o, 'r', 600, 400);
	mine(o, 'r', 1, 0);
	told(&p, "program", 'r', 1, 0);
	finish(&p);
}

/* --- what else belongs to the open file --- */

/* What has come before is there at once, for who does not wait too. */
static void state_in(struct obs *o, enum start how)
{
	struct timeval tv = { 3, 0 }, got = { 0 };
	socklen_t len = sizeof(got);
	struct program p;

	obs("peer writes", peer(o, op_give, UNREAD, 0));
	setsockopt(o->fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	nonblock(o->fd, true);
	p = begin(o, how);
	told(&p, "program", 'r', UNREAD, 0);
	told(&p, "program", 'r', 1, 0);
	obs("O_NONBLOCK", (fcntl(o->fd, F_GETFL) & O_NONBLOCK) != 0);
	obs("SO_RCVTIMEO", getsockopt(o->fd, SOL_SOCKET, SO_RCVTIMEO, &got, &len));
	note("%ld s", (long)got.tv_sec);
	obs_getopt("SO_TYPE", o->fd, SOL_SOCKET, SO_TYPE);
	obs_getopt("SO_ERROR", o->fd, SOL_SOCKET, SO_ERROR);
	mine(o, 'r', 1, 0);
	nonblock(o->fd, false);
	obs("peer writes", peer(o, op_give, 100, UNREAD));
	told(&p, "program", 'r', 100, UNREAD);
	finish(&p);
}

static void its_state(struct obs *o) { state_in(o, STATIC_BY_FORK); }
static void its_state_passed(struct obs *o) { state_in(o, BY_PASSING); }

/* Who has given it away and closes its own is not the last. */
static void given_and_closed(struct obs *o)
{
	struct program p;

	obs("peer writes", peer(o, op_give, UNREAD, 0));
	mine(o, 'r', UNREAD, 0);
	linger(o->fd, 0);
	obs("shutdown", shutdown(o->fd, SHUT_WR));
	p = begin(o, BY_PASSING);
	obs("peer writes", peer(o, op_give, UNREAD, UNREAD));
	close(o->fd);
	o->fd = -1;
	told(&p, "program", 'r', UNREAD, UNREAD);
	obs("peer writes", peer(o, op_give, 100, 2 * UNREAD));
	told(&p, "program", 'r', 100, 2 * UNREAD);
	finish(&p);
}

static volatile sig_atomic_t ended;

static void on_end(int sig)
{
	(void)sig;
	ended++;
}

/* Nobody ends but who was started. */
static void no_strange_child(struct obs *o)
{
	struct sigaction old, sa = { .sa_handler = on_end, .sa_flags = SA_RESTART };
	struct program p;

	ended = 0;
	sigaction(SIGCHLD, &sa, &old);
	obs("peer writes", peer(o, op_give, UNREAD, 0));
	p = begin(o, BY_PASSING);
	note("ended: %d", (int)ended);
	obs("waitpid", waitpid(-1, NULL, WNOHANG));
	told(&p, "program", 'r', UNREAD, 0);
	finish(&p);
	note("ended: %d", (int)ended);
	sigaction(SIGCHLD, &old, NULL);
}

static void names_stay(struct obs *o)
{
	struct program p;

	obs("peer writes", peer(o, op_give, UNREAD, 0));
	p = begin(o, STATIC_BY_FORK);
	obs_names("here", o->fd);
	mine(o, 'r', UNREAD, 0);
	finish(&p);
}

/* Copies and sets of who goes on. */
static void copies_and_sets(struct obs *o)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = 77 };
	int copy = dup(o->fd), set = epoll_create1(EPOLL_CLOEXEC);
	struct program p;

	fcntl(copy, F_SETFD, FD_CLOEXEC);
	obs("add", epoll_ctl(set, EPOLL_CTL_ADD, copy, &ev));
	obs("peer writes", peer(o, op_give, 300, 0));
	p = begin(o, STATIC_BY_FORK);
	obs_epoll("wait", set, &ev, (int)deadline_ms());
	note("data %d", (int)ev.data.u64);
	obs("take", take(copy, 100, 0, 1));
	told(&p, "program", 'r', 100, 100);
	obs_poll(copy, POLLIN | POLLOUT);
	mine(o, 'r', 100, 200);
	obs_poll(copy, POLLIN | POLLOUT);
	obs_epoll("wait", set, &ev, 0);
	obs("peer writes", peer(o, op_give, 100, 300));
	obs_epoll("wait", set, &ev, (int)deadline_ms());
	ev = (struct epoll_event){ .events = EPOLLIN | EPOLLOUT, .data.u64 = 78 };
	obs("mod", epoll_ctl(set, EPOLL_CTL_MOD, copy, &ev));
	obs_epoll("wait", set, &ev, (int)deadline_ms());
	obs("add again", epoll_ctl(set, EPOLL_CTL_ADD, copy, &ev));
	obs("del", epoll_ctl(set, EPOLL_CTL_DEL, copy, NULL));
	obs_epoll("wait", set, &ev, 0);
	obs("FD_CLOEXEC", fcntl(copy, F_GETFD));
	obs("FD_CLOEXEC", fcntl(o->fd, F_GETFD));
	told(&p, "program", 'r', 100, 300);
	finish(&p);
	close(copy);
	close(set);
}

int main(int argc, char **argv)
{
	static const struct obs_case cases[] = {
		{ "both go on, after exec", go_on_exec, STREAM, 0 },
		{ "both go on, after vfork and exec", go_on_vfork, STREAM, 0 },
		{ "both go on, after exec of a static program", go_on_static, STREAM, 0 },
		{ "both go on, after vfork and exec of a static program", go_on_static_vfork, STREAM, 0 },
		{ "both go on, after passing", go_on_passed, STREAM, 0 },
		{ "both go on, after passing to a static program", go_on_passed_static, STREAM, 0 },
		{ "packets", packets, SEQ, 0 },
		{ "empty packets", empty_packets, SEQ, 0 },
		{ "empty packets, the other way", empty_packets_back, SEQ, 0 },
		{ "packets and a reset", packets_and_a_reset, SEQ, 0 },
		{ "long packets", long_packets, SEQ, 0 },
		{ "urgent bytes in between", urgent_between, STREAM, 0 },
		{ "the program resets", program_resets, STREAM, 0 },
		{ "a thread is woken late", a_thread_woken_late, STREAM | SEQ, 0 },
		{ "others are asleep", others_sleep, STREAM, 0 },
		{ "packets, and others are asleep", others_sleep, SEQ, 0 },
		{ "others are woken late", others_woken_late, STREAM, 0 },
		{ "others were woken before, late", others_woken_before, STREAM, 0 },
		{ "packets, and others are woken late", others_woken_late, SEQ, 0 },
		{ "packets, and others were woken before, late", others_woken_before, SEQ, 0 },
		{ "two are asleep", two_sleep, STREAM, 0 },
		{ "a writer waits for room", writer_waits, STREAM, 0 },
		{ "several programs", two_programs, STREAM, 0 },
		{ "programs that start at the same time", at_once, STREAM, 0 },
		{ "a half-close here", halves, STREAM, 0 },
		{ "a half-close by the program", program_shuts, LOCAL, 0 }, /* TCP in the kernel lane: a known difference (compat.md) */
		{ "a half-close before", shut_before, STREAM, 0 },
		{ "the last close", last_close, STREAM, 0 },
		{ "the last one closes it and has never used it", last_closes_unused, STREAM, 0 },
		{ "the last one is killed", last_is_killed, STREAM, 0 },
		{ "a relative goes on to another program", relative_execs, STREAM, 0 },
		{ "a relative in another network", another_network, STREAM, 0 },
		{ "the peer ends", peer_ends, STREAM, 0 },
		{ "its state", its_state, STREAM, 0 },
		{ "its state, passed on", its_state_passed, STREAM, 0 },
		{ "given away and closed", given_and_closed, STREAM, 0 },
		{ "no strange child", no_strange_child, STREAM, 0 },
		{ "names of an internet connection", names_stay, TCP, 0 },
		{ "copies and sets", copies_and_sets, STREAM, 0 },
		{ 0 },
	};

	if (argc == 5 && !strcmp(argv[1], "--obey"))
		return obey(atoi(argv[2]), atoi(argv[3]), atoi(argv[4]));
	if (argc == 5 && !strcmp(argv[1], "--obey-passed"))
		return obey(passed_fd(atoi(argv[2])), atoi(argv[3]), atoi(argv[4]));
	if (argc == 3 && !strcmp(argv[1], "--count"))
		return count(atoi(argv[2]));
	return obs_main(argc, argv, cases);
}
