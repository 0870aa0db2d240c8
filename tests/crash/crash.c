/* SPDX-License-Identifier: MIT */
/*
 * kill -9 of one side of a connection, and what the other side makes of it.
 *
 *     crash [ITERATIONS [SEED]]        one line of "ok NAME" or "not ok NAME: why" for each scenario and kind of socket
 *
 * A judge (this process) starts a survivor, which listens, and for each iteration a victim, which connects: forked from the judge in
 * even iterations, started anew in odd ones. When both are in the middle of the scenario the judge kills the victim: after a random
 * time, or when the survivor sleeps, or the victim kills itself at a chosen step. The survivor must then get the end of the stream,
 * ECONNRESET or EPIPE, having read nothing but what was sent; it must not hang; and after all iterations it must have the descriptors
 * that it had before, and no segment mapped.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WARM 100
#define PATIENCE_MS 6000
#define AFTER_DEATH 5000 /* bytes that a sibling still moves */

enum when { RANDOM, ASLEEP, BY_ITSELF };

struct scenario {
	const char *name;
	void (*victim)(int fd, int step);
	const char *(*survivor)(int fd); /* NULL: as it should be; otherwise what was wrong */
	enum when when;
	bool cold;     /* no warm-up */
	long window_us; /* RANDOM: dies within this time */
	bool shared;    /* the victim has a sibling, forked when the connection is hot */
};

struct kind {
	const char *name;
	int domain, type;
};

static const struct kind kinds[] = {
	{ "tcp", AF_INET, SOCK_STREAM },
	{ "tcp6", AF_INET6, SOCK_STREAM },
	{ "unix", AF_UNIX, SOCK_STREAM },
	{ "seqpacket", AF_UNIX, SOCK_SEQPACKET },
};

static const char *self;
static struct sockaddr_storage at;
static socklen_t at_len;
static int type;
static pid_t elder; /* in the sibling: the victim */

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ll + ts.tv_nsec / 1000000;
}

static void die(const char *what)
{
	fprintf(stderr, "crash: %s: %s\n", what, strerror(errno));
	exit(3);
}

static bool gone(ssize_t rc)
{
	return rc == 0 || (rc < 0 && (errno == ECONNRESET || errno == EPIPE));
}

static void pattern(unsigned char *p, size_t n, uint64_t pos)
{
	for (size_t i = 0; i < n; i++, pos++)
		p[i] = (unsigned char)(pos * 131 + (pos >> 8) * 17);
}

/* --- what the two do --- */

static void drive(int fd, int rounds)
{
	char buf[16] = "there and back.";

	for (int i = 0; rounds < 0 || i < rounds; i++)
		if (send(fd, buf, 16, MSG_NOSIGNAL) != 16 || recv(fd, buf, 16, type == SOCK_STREAM ? MSG_WAITALL : 0) != 16)
			exit(4);
}

static const char *echo(int fd, int rounds)
{
	char buf[16];

	for (int i = 0; rounds < 0 || i < rounds; i++) {
		ssize_t n = recv(fd, buf, 16, type == SOCK_STREAM ? MSG_WAITALL : 0);

		if (n >= 0 && n < 16)
			return rounds < 0 ? NULL : "the end came too early";
		if (n < 0)
			return gone(n) ? NULL : strerror(errno);
		if (memcmp(buf, "there and back.", 16))
			return "wrong bytes";
		n = send(fd, buf, 16, MSG_NOSIGNAL);
		if (n != 16)
			return gone(n) ? NULL : "a short send";
	}
	return NULL;
}

static void victim_drives(int fd, int step)
{
	(void)step;
	drive(fd, -1);
}

static const char *survivor_echoes(int fd)
{
	return echo(fd, -1);
}

/* Dies by its own hand after `step` calls of send and recv: so every moment of becoming hot is met. */
static void victim_counts(int fd, int step)
{
	char buf[16] = "there and back.";

	for (int i = 0; i < step; i++) {
		ssize_t n = i % 2 ? recv(fd, buf, 16, 0) : send(fd, buf, 16, MSG_NOSIGNAL);

		if (n != 16)
			exit(4);
	}
	kill(getpid(), SIGKILL);
}

static void victim_floods(int fd, int step)
{
	static unsigned char buf[60000];

	for (uint64_t pos = 0;; pos += sizeof(buf)) {
		size_t done = 0;

		pattern(buf, sizeof(buf), pos);
		while (done < sizeof(buf)) {
			ssize_t n = send(fd, buf + done, sizeof(buf) - done, MSG_NOSIGNAL);

			if (n < 0)
				exit(4);
			done += (size_t)n;
		}
	}
	(void)step;
}

static const char *survivor_reads(int fd)
{
	static unsigned char buf[60000], expect[60000];

	for (uint64_t pos = 0;;) {
		ssize_t n = recv(fd, buf, sizeof(buf), 0);

		if (n <= 0)
			return gone(n) ? NULL : strerror(errno);
		pattern(expect, (size_t)n, pos);
		if (memcmp(buf, expect, (size_t)n))
			return "wrong bytes";
		pos += (uint64_t)n;
	}
}

static const char *survivor_polls_and_reads(int fd)
{
	static unsigned char buf[60000], expect[60000];
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
	int ep = epoll_create1(0);
	const char *wrong = NULL;
	ssize_t n = 1;

	epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
	for (uint64_t pos = 0; !wrong && epoll_wait(ep, &ev, 1, -1) == 1;) {
		while ((n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0) {
			pattern(expect, (size_t)n, pos);
			pos += (uint64_t)n;
			if (memcmp(buf, expect, (size_t)n))
				wrong = "wrong bytes";
		}
		if (gone(n))
			break;
		if (errno != EAGAIN)
			wrong = strerror(errno);
	}
	close(ep);
	return wrong;
}

static void victim_idles(int fd, int step)
{
	(void)fd;
	(void)step;
	for (;;)
		pause();
}

static const char *survivor_writes(int fd)
{
	static unsigned char buf[60000];

	for (;;) {
		ssize_t n = send(fd, buf, sizeof(buf), MSG_NOSIGNAL);

		if (n < 0)
			return gone(n) ? NULL : strerror(errno);
	}
}

static void victim_reads(int fd, int step)
{
	static unsigned char buf[7000];

	(void)step;
	while (recv(fd, buf, sizeof(buf), 0) > 0)
		;
	exit(4);
}

static const char *survivor_waits_in_poll(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char c;

	if (poll(&p, 1, -1) != 1 || !(p.revents & (POLLIN | POLLHUP | POLLERR)))
		return "poll says something else";
	return gone(recv(fd, &c, 1, MSG_DONTWAIT)) ? NULL : "poll promised an end";
}

static const char *survivor_waits_in_epoll(int fd)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRDHUP };
	int ep = epoll_create1(0), rc;
	char c;

	epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
	rc = epoll_wait(ep, &ev, 1, -1);
	close(ep);
	return rc == 1 && gone(recv(fd, &c, 1, MSG_DONTWAIT)) ? NULL : "epoll says something else";
}

/* The victim shares its end with a sibling; the sibling goes on when the victim is dead, and says so with an E. */
static void victim_writes_with_sibling(int fd, int step)
{
	const char *c = elder ? "w" : "v";
	long left = AFTER_DEATH;

	(void)step;
	while (left > 0) {
		if (send(fd, c, 1, MSG_NOSIGNAL) != 1)
			exit(4);
		if (elder && getppid() != elder)
			left--;
	}
	send(fd, "E", 1, MSG_NOSIGNAL);
	exit(0);
}

static const char *survivor_awaits_e(int fd)
{
	bool seen = false;
	char buf[4096];
	ssize_t n;

	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0) {
		for (ssize_t i = 0; i < n; i++) {
			if (seen || !strchr("vwE", buf[i]))
				return "wrong bytes";
			seen = buf[i] == 'E';
		}
	}
	return !gone(n) ? strerror(errno) : seen ? NULL : "the sibling was cut off";
}

static void victim_reads_with_sibling(int fd, int step)
{
	long left = AFTER_DEATH;
	char c;

	(void)step;
	while (left > 0) {
		if (recv(fd, &c, 1, 0) != 1)
			exit(4);
		if (elder && getppid() != elder)
			left--;
	}
	exit(0); /* with much unread: the survivor's writing ends */
}

static const char *survivor_writes_bytes(int fd)
{
	for (;;) {
		ssize_t n = send(fd, "b", 1, MSG_NOSIGNAL);

		if (n != 1)
			return gone(n) ? NULL : strerror(errno);
	}
}

static const struct scenario scenarios[] = {
	{ "there and back", victim_drives, survivor_echoes, RANDOM, false, 3000, false },
	{ "at every step of becoming hot", victim_counts, survivor_echoes, BY_ITSELF, true, 0, false },
	{ "early", victim_drives, survivor_echoes, RANDOM, true, 2000, false },
	{ "the victim writes much", victim_floods, survivor_reads, RANDOM, false, 5000, false },
	{ "the victim writes much, cold", victim_floods, survivor_reads, RANDOM, true, 5000, false },
	{ "the victim writes much, epoll", victim_floods, survivor_polls_and_reads, RANDOM, false, 5000, false },
	{ "the survivor writes much", victim_reads, survivor_writes, RANDOM, false, 5000, false },
	{ "the survivor is blocked in send", victim_idles, survivor_writes, ASLEEP, false, 0, false },
	{ "the survivor is parked in recv", victim_idles, survivor_reads, ASLEEP, false, 0, false },
	{ "the survivor is parked in poll", victim_idles, survivor_waits_in_poll, ASLEEP, false, 0, false },
	{ "the survivor is parked in epoll_wait", victim_idles, survivor_waits_in_epoll, ASLEEP, false, 0, false },
	{ "a sibling goes on writing", victim_writes_with_sibling, survivor_awaits_e, RANDOM, false, 5000, true },
	{ "a sibling goes on reading", victim_reads_with_sibling, survivor_writes_bytes, RANDOM, false, 5000, true },
};

/* --- the victim's process --- */

/* The sibling makes the last round of the warm-up, so that nobody dies before it is there. */
static void sibling_start(int fd)
{
	pid_t me = getpid();
	int ready[2];
	char c;

	if (pipe(ready))
		die("pipe");
	if (fork() == 0) {
		elder = me;
		alarm(20);
		drive(fd, 1);
		close(ready[0]);
		close(ready[1]);
		return;
	}
	close(ready[1]);
	if (read(ready[0], &c, 1) != 0)
		die("the sibling");
	close(ready[0]);
}

static void victim_main(const struct scenario *s, int step)
{
	int fd = socket(at.ss_family, type, 0);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (fd < 0 || connect(fd, (struct sockaddr *)&at, at_len))
		die("connect");
	if (!s->cold)
		drive(fd, WARM - s->shared);
	if (s->shared)
		sibling_start(fd);
	s->victim(fd, step);
	exit(0);
}

static void hex(char *to, const void *from, size_t n)
{
	for (size_t i = 0; i < n; i++)
		sprintf(to + 2 * i, "%02x", ((const unsigned char *)from)[i]);
}

static pid_t victim_start(const struct scenario *s, int step, bool anew)
{
	char index[16], steps[16], types[16], address[2 * sizeof(at) + 1];
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	if (!anew)
		victim_main(s, step);
	snprintf(index, sizeof(index), "%d", (int)(s - scenarios));
	snprintf(steps, sizeof(steps), "%d", step);
	snprintf(types, sizeof(types), "%d", type);
	hex(address, &at, at_len);
	execl(self, self, "--victim", index, steps, types, address, NULL);
	die("exec");
	return -1;
}

/* argv: --victim INDEX STEP TYPE ADDRESS */
static int victim_anew(char **argv)
{
	type = atoi(argv[4]);
	for (at_len = 0; argv[5][2 * at_len]; at_len++)
		sscanf(argv[5] + 2 * at_len, "%2hhx", (unsigned char *)&at + at_len);
	victim_main(&scenarios[atoi(argv[2])], atoi(argv[3]));
	return 0;
}

/* --- the survivor's process --- */

static int descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

static int segments(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	char line[512];
	int n = 0;

	while (f && fgets(line, sizeof(line), f))
		n += strstr(line, "/memfd:gnezdo") && !strstr(line, "/memfd:gnezdo-pool");
	if (f)
		fclose(f);
	return n;
}

struct report {
	char kind; /* 'h': in the middle of the scenario; 'e': this iteration has ended; 'z': all have */
	char text[79];
	int fds, segments;
};

static void report(int to, char what, const char *text)
{
	struct report r = { .kind = what, .fds = descriptors(), .segments = segments() };

	snprintf(r.text, sizeof(r.text), "%s", text ? text : "");
	if (write(to, &r, sizeof(r)) != sizeof(r))
		exit(5);
}

static void survivor_main(const struct scenario *s, int lfd, int iterations, int to)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int i = 0; i < iterations; i++) {
		int fd = accept(lfd, NULL, NULL);
		const char *wrong = NULL;

		if (fd < 0)
			die("accept");
		if (!s->cold)
			wrong = echo(fd, WARM);
		report(to, 'h', NULL);
		if (!wrong)
			wrong = s->survivor(fd);
		close(fd);
		report(to, 'e', wrong);
	}
	exit(0);
}

/* --- the judge --- */

static unsigned rnd;

static long random_below(long n)
{
	rnd = rnd * 1103515245u + 12345u;
	return n > 0 ? (long)(rnd >> 8) % n : 0;
}

static bool asleep(pid_t pid)
{
	char path[40], buf[400], *p;
	int seen = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	for (int64_t end = now_ms() + PATIENCE_MS; seen < 5 && now_ms() < end; usleep(500)) {
		f = fopen(path, "r");
		if (!f)
			return false;
		buf[fread(buf, 1, sizeof(buf) - 1, f)] = 0;
		fclose(f);
		p = strrchr(buf, ')');
		seen = p && p[2] == 'S' ? seen + 1 : 0;
	}
	return seen == 5;
}

static bool next_report(int from, char what, struct report *r)
{
	struct pollfd p = { .fd = from, .events = POLLIN };

	return poll(&p, 1, PATIENCE_MS) == 1 && read(from, r, sizeof(*r)) == sizeof(*r) && r->kind == what;
}

/* One iteration; NULL or what was wrong. */
static const char *judge_one(const struct scenario *s, pid_t survivor, int from, int i, struct report *r)
{
	pid_t victim = victim_start(s, i, i % 2);
	const char *wrong = NULL;
	int status = 0;

	if (!next_report(from, 'h', r))
		wrong = "they did not come together";
	if (!wrong && s->when == RANDOM)
		usleep((useconds_t)random_below(s->window_us));
	if (!wrong && s->when == ASLEEP && !asleep(survivor))
		wrong = "the survivor does not sleep";
	if (wrong || s->when != BY_ITSELF)
		kill(victim, SIGKILL);
	if (!wrong && !next_report(from, 'e', r))
		wrong = "the survivor hangs";
	kill(victim, SIGKILL);
	waitpid(victim, &status, 0);
	if (!wrong && WIFEXITED(status))
		wrong = "the victim ended before it was killed";
	return wrong ? wrong : r->text[0] ? r->text : NULL;
}

static int listen_anew(const struct kind *k)
{
	struct sockaddr_un *un = (struct sockaddr_un *)&at;
	static int count;
	int fd = socket(k->domain, k->type, 0);

	memset(&at, 0, sizeof(at));
	at.ss_family = (sa_family_t)k->domain;
	type = k->type;
	if (k->domain == AF_UNIX) {
		at_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1);
		at_len += (socklen_t)snprintf(un->sun_path + 1, 100, "gnezdo-crash-test-%d-%d", getpid(), count++);
	} else if (k->domain == AF_INET) {
		((struct sockaddr_in *)&at)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		at_len = sizeof(struct sockaddr_in);
	} else {
		((struct sockaddr_in6 *)&at)->sin6_addr = in6addr_loopback;
		at_len = sizeof(struct sockaddr_in6);
	}
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, at_len) || listen(fd, 20) || getsockname(fd, (struct sockaddr *)&at, &at_len))
		die("listen");
	return fd;
}

static void judge(const struct scenario *s, const struct kind *k, int iterations)
{
	const char *wrong = NULL;
	struct report r, first = { 0 };
	int fds[2], lfd, i;
	pid_t survivor;

	if (pipe(fds))
		die("pipe");
	fflush(stdout);
	survivor = fork();
	if (survivor == 0) {
		close(fds[0]);
		lfd = listen_anew(k);
		if (write(fds[1], &at_len, sizeof(at_len)) < 0 || write(fds[1], &at, sizeof(at)) < 0)
			exit(5);
		survivor_main(s, lfd, iterations, fds[1]);
	}
	close(fds[1]);
	type = k->type;
	if (read(fds[0], &at_len, sizeof(at_len)) < 0 || read(fds[0], &at, sizeof(at)) < 0)
		die("pipe");
	for (i = 0; i < iterations && !wrong; i++) {
		wrong = judge_one(s, survivor, fds[0], i, &r);
		if (i == 1) /* whatever is set up once has been set up */
			first = r;
	}
	if (!wrong && i > 2 && r.fds > first.fds)
		wrong = "descriptors leak";
	if (!wrong && r.segments > 0)
		wrong = "a segment is still mapped";
	if (wrong)
		printf("not ok %s, %s: iteration %d: %s (descriptors %d, then %d; segments %d)\n", s->name, k->name, i - 1, wrong, first.fds,
		       r.fds, r.segments);
	else
		printf("ok %s, %s\n", s->name, k->name);
	kill(survivor, SIGKILL);
	waitpid(survivor, NULL, 0);
	close(fds[0]);
}

int main(int argc, char **argv)
{
	static char path[512];
	const char *only = getenv("CRASH_ONLY");
	int iterations;

	if (readlink("/proc/self/exe", path, sizeof(path) - 1) < 0)
		die("readlink");
	self = path;
	if (argc == 6 && !strcmp(argv[1], "--victim"))
		return victim_anew(argv);
	iterations = argc > 1 ? atoi(argv[1]) : 40;
	rnd = argc > 2 ? (unsigned)atoi(argv[2]) : 1;
	if (argc > 3 || iterations < 1) {
		fprintf(stderr, "usage: crash [ITERATIONS [SEED]]\n");
		return 2;
	}
	for (size_t s = 0; s < sizeof(scenarios) / sizeof(scenarios[0]); s++)
		for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
			if (!only || strstr(scenarios[s].name, only))
				judge(&scenarios[s], &kinds[k], scenarios[s].when == BY_ITSELF ? iterations * 3 : iterations);
	return 0;
}
