/* SPDX-License-Identifier: MIT */
/* ring: yes */
/* Descriptors: dup, dup2, dup3, fcntl, ioctl, close_range, closefrom; what they share and what they do not. */
#include "obs.h"

#include <linux/close_range.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/stat.h>

static void copies_are_the_same_socket(struct obs *o)
{
	int a = dup(o->fd), b = fcntl(o->fd, F_DUPFD, 100), c = dup2(o->fd, 150), d = dup3(o->fd, 160, O_CLOEXEC),
	    e = fcntl(o->fd, F_DUPFD_CLOEXEC, 170);
	int all[] = { o->fd, a, b, c, d, e };

	note("numbers: %d %d %d %d", b, c, d, e);
	note("close-on-exec: %d %d %d %d %d", fcntl(a, F_GETFD), fcntl(b, F_GETFD), fcntl(c, F_GETFD), fcntl(d, F_GETFD),
	     fcntl(e, F_GETFD));
	for (size_t i = 0; i < 6; i++) {
		char text[4] = { 'm', (char)('0' + i), 0, 0 };

		obs("send", send(all[i], text, 2, 0));
	}
	obs("peer recv", peer(o, op_recv, 12, o->type == SOCK_STREAM ? MSG_WAITALL : 0));
	note("peer has %s", o->say);
	for (size_t i = 0; i < 6; i++) {
		peer_text(o, op_puts, 0, "z");
		settle(all[i]);
		obs_recv(all[i], 10, 0);
	}
	for (size_t i = 0; i < 5; i++)
		obs("close", close(all[i]));
	obs("send by the last", send(e, "end", 3, 0));
	obs("peer recv", peer(o, op_recv, 100, 0));
	obs("close the last", close(e));
	if (o->type == SOCK_STREAM)
		obs("peer recv", peer(o, op_recv, 100, 0));
}

static void status_flags_are_shared(struct obs *o)
{
	int copy = dup(o->fd), off = 0, on = 1;
	char c;

	obs("F_GETFL", fcntl(o->fd, F_GETFL) & (O_NONBLOCK | O_ACCMODE));
	obs("F_SETFL", fcntl(copy, F_SETFL, O_NONBLOCK));
	obs("F_GETFL of the first", fcntl(o->fd, F_GETFL) & (O_NONBLOCK | O_ACCMODE));
	obs("recv", recv(o->fd, &c, 1, 0));
	obs("FIONBIO off", ioctl(o->fd, FIONBIO, &off));
	obs("F_GETFL of the copy", fcntl(copy, F_GETFL) & (O_NONBLOCK | O_ACCMODE));
	obs("FIONBIO on", ioctl(copy, FIONBIO, &on));
	obs("recv", recv(o->fd, &c, 1, 0));
	obs("read", read(copy, &c, 1));
	ioctl(copy, FIONBIO, &off);
	obs("F_SETFD", fcntl(copy, F_SETFD, FD_CLOEXEC));
	obs("F_GETFD of the first", fcntl(o->fd, F_GETFD));
	obs("FIOCLEX", ioctl(o->fd, FIOCLEX));
	obs("F_GETFD", fcntl(o->fd, F_GETFD));
	obs("FIONCLEX", ioctl(o->fd, FIONCLEX));
	obs("F_GETFD", fcntl(o->fd, F_GETFD));
	obs("unknown fcntl", fcntl(o->fd, 9999, 0));
	obs("unknown ioctl", ioctl(o->fd, 0x1234, 0));
	obs("F_DUPFD beyond the limit", fcntl(o->fd, F_DUPFD, 1 << 30));
	obs("lseek", lseek(o->fd, 0, SEEK_SET));
	obs("pread", pread(o->fd, &c, 1, 0));
	obs("fsync", fsync(o->fd));
	obs("isatty", isatty(o->fd));
}

static void over_another(struct obs *o)
{
	int fds[2], spare;

	signal(SIGPIPE, SIG_IGN);
	if (pipe(fds))
		die("pipe");
	obs("dup2 over a pipe", dup2(o->fd, fds[0]) == fds[0]);
	obs("the pipe has no reader", write(fds[1], "x", 1) == -1 && errno == EPIPE);
	obs("send", send(fds[0], "by the pipe's number", 20, 0));
	obs("peer recv", peer(o, op_recv, 100, 0));
	obs("dup2 onto itself", dup2(o->fd, o->fd) == o->fd);
	spare = dup(o->fd);
	obs("dup2 of the pipe over the socket", dup2(fds[1], o->fd) == o->fd);
	obs("send", send(o->fd, "x", 1, 0));
	obs("send by the spare", send(spare, "spare", 5, 0));
	obs("peer recv", peer(o, op_recv, 100, 0));
	note("peer has %s", o->say);
	obs("close", close(spare));
	obs("peer recv", peer(o, op_recv, 100, MSG_DONTWAIT));
	obs("close", close(fds[0]));
	settle(fds[1]);
	obs("peer recv", peer(o, op_recv, 100, 0));
}

/* POSIX: the lowest number that is free. The library's own descriptors must not be in the way. */
static void lowest_numbers(struct obs *o)
{
	int a = socket(AF_INET, SOCK_STREAM, 0), b = socket(AF_UNIX, SOCK_DGRAM, 0), c, d[2], lfd;
	struct obs_name at;

	(void)o;
	note("%d %d", a, b - a);
	c = dup(a);
	note("dup %d", c - a);
	close(b);
	b = open("/dev/null", O_RDONLY);
	note("reused %d", b - a);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, d))
		die("socketpair");
	note("pair %d %d", d[0] - a, d[1] - a);
	lfd = listener(TCP4, 5, &at);
	note("listener %d", lfd - a);
	obs("connect", connect(a, (struct sockaddr *)&at.sa, at.len));
	int acc = accept(lfd, NULL, NULL);
	note("accepted %d", acc - a);
	close(lfd);
	lfd = listener(UNIXP, 5, &at);
	note("listener %d", lfd - a);
}

static void close_ranges(struct obs *o)
{
	int copy = fcntl(o->fd, F_DUPFD, 200);

	obs("close_range", close_range(200, 210, 0));
	obs("copy", send(copy, "x", 1, 0));
	obs("bad flags", close_range(200, 210, 0x1000));
	obs("bad order", close_range(210, 200, 0));
	copy = fcntl(o->fd, F_DUPFD, 200);
	obs("close_range CLOEXEC", close_range(200, 210, CLOSE_RANGE_CLOEXEC));
	obs("F_GETFD", fcntl(copy, F_GETFD));
	obs("send", send(copy, "alive", 5, 0));
	obs("peer recv", peer(o, op_recv, 100, 0));
	obs("close_range of one", close_range((unsigned)o->fd, (unsigned)o->fd, 0));
	obs("close_range of the other", close_range((unsigned)copy, (unsigned)copy, 0));
	obs("peer recv", peer(o, op_recv, 100, 0));
}

/* A daemon closes everything above 2 and goes on; then it opens sockets again. */
static void close_everything(struct obs *o)
{
	pid_t pid = obs_fork();

	if (pid == 0) {
		struct obs_name at;
		int lfd, c, a, how = o->kind == TCP4 ? 0 : o->kind == TCP6 ? 1 : 2;
		char buf[8];

		if (how == 0)
			closefrom(3);
		else if (how == 1)
			close_range(3, ~0u, 0);
		else
			for (int fd = 3; fd < 1024; fd++)
				close(fd);
		lfd = listener(TCP4, 5, &at);
		c = sock_of(TCP4, 0);
		note("numbers %d %d", lfd, c);
		obs("connect", connect(c, (struct sockaddr *)&at.sa, at.len));
		a = accept(lfd, NULL, NULL);
		for (int i = 0; i < 500; i++)
			if (send(c, "ping", 4, 0) != 4 || recv(a, buf, 8, 0) != 4 || send(a, "pong", 4, 0) != 4 || recv(c, buf, 8, 0) != 4)
				note("round %d fails", i);
		obs("close", close(a));
		obs("recv", recv(c, buf, 8, 0));
		fflush(stdout);
		_exit(0);
	}
	obs("child ends", obs_wait(pid));
	obs_send(o->fd, "the parent's is unharmed", 0);
	obs("peer recv", peer(o, op_recv, 100, 0));
}

/* A call that fails leaves what it names alone. */
static void failures_change_nothing(struct obs *o)
{
	int null = open("/dev/null", O_RDONLY), high = fcntl(o->fd, F_DUPFD, 300), moved;
	struct rlimit limit;

	obs("dup2 of what is closed", dup2(777, o->fd));
	obs("dup3 with bad flags", dup3(null, o->fd, O_APPEND));
	obs("close_range with bad flags", close_range((unsigned)o->fd, 400, 0x1000));
	moved = dup2(o->fd, 250);
	close(o->fd);
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = 260;
	setrlimit(RLIMIT_NOFILE, &limit);
	obs("dup2 beyond the limit", dup2(null, high));
	obs("close", close(moved));
	obs_send(high, "all is well", 0);
	obs("peer recv", peer(o, op_recv, 100, 0));
	note("peer has %s", o->say);
	peer_text(o, op_puts, 0, "with the peer too");
	obs_recv(high, 100, 0);
}

#define NUMBERS 940 /* where the library may have some of its own */
#define NUMBERS_END 1010

/* The program may want any number for itself. */
static void every_number(struct obs *o)
{
	struct epoll_event ev = { .events = EPOLLIN };
	struct obs_name at;
	int set = epoll_create1(0), lfd = listener(TCP4, 5, &at), c = sock_of(TCP4, 0), fds[2], made = 0, closed = 0;
	struct pollfd p = { set, POLLIN, 0 };

	epoll_ctl(set, EPOLL_CTL_ADD, o->fd, &ev);
	obs("poll", poll(&p, 1, 0));
	peer_text(o, op_puts, 0, "1");
	obs("poll", poll(&p, 1, -1));
	obs_recv(o->fd, 10, 0);
	if (pipe(fds))
		die("pipe");
	for (int i = NUMBERS; i < NUMBERS_END; i++)
		made += dup2(fds[1], i) == i;
	note("made %d", made);
	obs("poll", poll(&p, 1, 0));
	peer_text(o, op_puts, 0, "2");
	obs("poll", poll(&p, 1, -1));
	obs("epoll_wait", epoll_wait(set, &ev, 1, -1));
	obs_recv(o->fd, 10, 0);
	obs("epoll_wait", epoll_wait(set, &ev, 1, 0));
	obs("connect", connect(c, (struct sockaddr *)&at.sa, at.len));
	note("accepted %d", accept(lfd, NULL, NULL) >= 0);
	for (int i = NUMBERS; i < NUMBERS_END; i++)
		closed += close(i) == 0;
	note("closed %d", closed);
	close(fds[1]);
	obs("the pipe has no writer", read(fds[0], &ev, 1));
	obs("close", close(set));
	obs_send(o->fd, "3", 0);
	obs("peer recv", peer(o, op_recv, 100, 0));
}

static void how_much_waits(struct obs *o)
{
	int n = -1;

	obs("FIONREAD", ioctl(o->fd, FIONREAD, &n));
	note("%d", n);
	peer_text(o, op_puts, 0, "12345");
	settle(o->fd);
	obs("FIONREAD", ioctl(o->fd, FIONREAD, &n));
	note("%d", n);
	peer_text(o, op_puts, 0, "678");
	obs_recv(o->fd, 2, MSG_PEEK);
	obs("FIONREAD", ioctl(o->fd, FIONREAD, &n));
	note("%d", n);
	obs_recv(o->fd, 2, 0);
	obs("SIOCINQ", ioctl(o->fd, FIONREAD, &n));
	note("%d", n);
	obs_recv(o->fd, 100, 0);
	obs("FIONREAD", ioctl(o->fd, FIONREAD, &n));
	note("%d", n);
	obs("SIOCOUTQ", ioctl(o->fd, TIOCOUTQ, &n));
	note("%d", n);
	peer(o, op_close, 0, 0);
	if (o->type != SOCK_DGRAM)
		settle(o->fd);
	obs("FIONREAD", ioctl(o->fd, FIONREAD, &n));
}

static void of_a_listener(struct obs *o)
{
	static const uint32_t kinds[] = { TCP4, UNIXP };
	struct obs_name at;
	int n;

	(void)o;
	for (size_t i = 0; i < 2; i++) {
		int fd = listener(kinds[i], 5, &at), copy = dup(fd), c = sock_of(kinds[i], 0), a;

		obs("FIONREAD", ioctl(fd, FIONREAD, &n));
		obs("close", close(fd));
		obs("connect", connect(c, (struct sockaddr *)&at.sa, at.len));
		a = accept(copy, NULL, NULL);
		note("accepted: %d", a >= 0);
		obs("close", close(copy));
		close(c);
		c = sock_of(kinds[i], 0);
		obs("connect", connect(c, (struct sockaddr *)&at.sa, at.len));
	}
}

static void what_kind_of_file(struct obs *o)
{
	struct stat st;

	obs("fstat", fstat(o->fd, &st));
	note("socket: %d size %ld", S_ISSOCK(st.st_mode), (long)st.st_size);
}

/* A number that could not be had any more connects all the same. */
static void beyond_the_limit(struct obs *o)
{
	struct rlimit limit, low;
	struct obs_name at;
	int l = listener(TCP4, 5, &at), fd = fcntl(sock_of(TCP4, 0), F_DUPFD, 500), other;
	char c;

	(void)o;
	getrlimit(RLIMIT_NOFILE, &limit);
	low = limit;
	low.rlim_cur = 100;
	setrlimit(RLIMIT_NOFILE, &low);
	obs("connect", connect(fd, (struct sockaddr *)&at.sa, at.len));
	other = accept(l, NULL, NULL);
	obs("send", send(fd, "x", 1, 0));
	obs("recv", recv(other, &c, 1, 0));
	setrlimit(RLIMIT_NOFILE, &limit);
	close(fd);
	close(other);
	close(l);
}

/* A library's own descriptors are nobody else's: a program that goes through all numbers finds what it has opened. */
static void numbers_in_use(struct obs *o)
{
	int l = socket(domain_of(o->kind), o->type, 0), ep = epoll_create1(0), open = 0, copied = 0, changed = 0, kept = 0;
	struct epoll_event ev = { .events = EPOLLIN };

	listen(l, 5);
	epoll_ctl(ep, EPOLL_CTL_ADD, o->fd, &ev);
	epoll_ctl(ep, EPOLL_CTL_ADD, l, &ev);
	obs("epoll_wait", epoll_wait(ep, &ev, 1, 0) <= 1);
	for (int fd = 0; fd < 2048; fd++) {
		int flags = fcntl(fd, F_GETFD), status = fcntl(fd, F_GETFL);

		open += flags >= 0;
		copied += dup2(fd, fd) == fd;
		changed += flags >= 0 && fcntl(fd, F_SETFD, flags) == 0;
		kept += status >= 0 && fcntl(fd, F_SETFL, status) == 0;
	}
	note("open %d, copied %d, changed %d, kept %d", open, copied, changed, kept);
	close(l);
	close(ep);
}

/* Numbers that were for our own use come back to the program when that is over. */
static void many_files(struct obs *o)
{
	static int file[1100];
	int count = 0, wrong = 0, copy;

	(void)o;
	for (int i = 0; i < 1100 && (copy = open("/dev/null", O_RDONLY)) >= 0; i++)
		file[count++] = copy;
	note("opened %d", count == 1100);
	for (int i = 0; i < count; i++) {
		wrong += fcntl(file[i], F_GETFD) < 0;
		copy = dup(file[i]);
		wrong += copy < 0;
		close(copy);
		wrong += close(file[i]) < 0;
	}
	note("wrong %d", wrong);
}

int main(int argc, char **argv)
{
	static const struct obs_case cases[] = {
		{ "copies are the same socket", copies_are_the_same_socket, STREAM, THREADS },
		{ "status flags are shared, descriptor flags are not", status_flags_are_shared, STREAM | UDP4 | DGPAIR, 0 },
		{ "dup2 over another file", over_another, STREAM, 0 },
		{ "beyond the limit", beyond_the_limit, SOLO, 0 },
		{ "numbers in use", numbers_in_use, STREAM, 0 },
		{ "the lowest number", lowest_numbers, SOLO, 0 },
		{ "close_range", close_ranges, STREAM, 0 },
		{ "everything is closed, then new sockets", close_everything, TCP4 | TCP6 | UNIXP, 0 },
		{ "failures change nothing", failures_change_nothing, STREAM, 0 },
		{ "every number", every_number, STREAM, 0 },
		{ "many files", many_files, STREAM | UDP4 | SEQPAIR, HOT_ONLY },
		{ "FIONREAD", how_much_waits, STREAM | DGRAM | SEQ, 0 },
		{ "a listener's copies", of_a_listener, SOLO, 0 },
		{ "fstat", what_kind_of_file, STREAM | UDP4, 0 },
		{ 0 },
	};

	return obs_main(argc, argv, cases);
}
