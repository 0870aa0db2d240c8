/* SPDX-License-Identifier: MIT */
/*
 * kill -9 at every instruction of a call, and what the other side and a relative make of it.
 *
 *     step [POINTS [SEED]]       one line of "ok NAME" or "not ok NAME: why" for each call, kind of socket and sharing
 *
 * A tracer (this process) runs a victim to the place where it is about to make the call, steps it by single instructions, and kills it after
 * the n-th: POINTS values of n spread over the whole call (0: each). It is not waited for until all is over, so its locks belong to a zombie.
 * The survivor at the other end must read a prefix of what the victim wrote, then all that the victim's sibling wrote after its death, in order
 * and across a way back to the kernel lane; nobody hangs; no segment stays mapped.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WARM 60
#define WORD 16
#define SIBLING_BYTES 400
#define FLOOD 600000
#define LIMIT_S 20
#define STEPS_MAX 40000

struct call {
	const char *name;
	void (*prepare)(int fd);
	void (*make)(int fd);
	bool cold, flooded; /* no warm-up; the survivor is blocked in a long send */
	bool greeted;       /* the survivor has sent a word */
	bool ahead;         /* much of what it sent before it went to the ring lies in the kernel still; cold */
};

#define AHEAD 1600
#define ROUNDS 10
#define AHEAD_READ 40

static void nothing(int fd)
{
	(void)fd;
}

static void until_readable(int fd)
{
	char c;

	if (recv(fd, &c, 1, MSG_PEEK) != 1)
		exit(4);
}

static void until_blocked(int fd)
{
	until_readable(fd);
	usleep(3000);
}

static void writes(int fd)
{
	if (send(fd, "vvvvvvvvvvvvvvvv", WORD, MSG_NOSIGNAL) < 0)
		exit(4);
}

static void reads(int fd)
{
	char buf[WORD];

	if (recv(fd, buf, sizeof(buf), 0) < 0)
		exit(4);
}

static void reads_much(int fd)
{
	static char buf[150000];

	if (recv(fd, buf, sizeof(buf), 0) < 0)
		exit(4);
}

static void goes_back(int fd)
{
	dup2(fd, 0);
}

static void closes(int fd)
{
	close(fd);
}

static unsigned char ahead_byte(size_t at)
{
	return (unsigned char)(at * 7 + at / 256);
}

/* The next `n` bytes of the survivor's, from `*at` on. */
static void ahead_send(int fd, size_t *at, size_t n)
{
	unsigned char buf[AHEAD];

	for (size_t i = 0; i < n; i++)
		buf[i] = ahead_byte((*at)++);
	if (send(fd, buf, n, MSG_NOSIGNAL) != (ssize_t)n)
		exit(14);
}

/* Shared by all: the survivor has had all words of lags(). Killed earlier, the victim would reset the connection under them. */
static _Atomic int *all_had;

/* Both go to the ring, and this side is far behind. */
static void lags(int fd)
{
	char buf[WORD];

	until_readable(fd);
	for (int i = 0; i < ROUNDS; i++)
		if (send(fd, buf, WORD, MSG_NOSIGNAL) != WORD || recv(fd, buf, WORD, MSG_WAITALL) != WORD)
			exit(4);
	while (!*all_had)
		usleep(100);
}

static void reads_on(int fd)
{
	char buf[AHEAD_READ];

	if (recv(fd, buf, sizeof(buf), 0) < 0)
		exit(4);
}

/* What the victim has left: all of it, or what is behind the one read that it was killed in. */
static void read_behind(int fd)
{
	static unsigned char buf[2 * AHEAD + ROUNDS * WORD];
	const size_t left = sizeof(buf) - ROUNDS * WORD;
	size_t got = 0, from;
	ssize_t n = 1;

	while (got < left - AHEAD_READ && (n = recv(fd, buf + got, left - got, 0)) > 0)
		got += (size_t)n;
	from = ROUNDS * WORD + (buf[0] == ahead_byte(ROUNDS * WORD) ? 0 : AHEAD_READ);
	while (n > 0 && got < sizeof(buf) - from && (n = recv(fd, buf + got, sizeof(buf) - from - got, 0)) > 0)
		got += (size_t)n;
	for (size_t i = 0; i < got; i++)
		if (buf[i] != ahead_byte(from + i))
			exit(6);
	if (got != sizeof(buf) - from)
		exit(6);
}

static void becomes_hot(int fd)
{
	for (int i = 0; i < 3; i++)
		writes(fd);
}

static const struct call calls[] = {
	{ "write and bell", nothing, writes, false, false, false, false },
	{ "read", until_readable, reads, false, false, true, false },
	{ "read and bell", until_blocked, reads_much, false, true, false, false },
	{ "read behind the switch", lags, reads_on, true, false, false, true },
	{ "demotion", nothing, goes_back, false, false, false, false },
	{ "promotion", nothing, becomes_hot, true, false, false, false },
	{ "close", nothing, closes, false, false, false, false },
};

/* --- the victim and its sibling --- */

static void drive(int fd)
{
	char buf[WORD] = "there and back.";

	for (int i = 0; i < WARM; i++)
		if (send(fd, buf, WORD, MSG_NOSIGNAL) != WORD || recv(fd, buf, WORD, MSG_WAITALL) != WORD)
			exit(4);
}

static void put(int fd, char c, size_t n)
{
	char buf[SIBLING_BYTES];

	memset(buf, c, n);
	if (send(fd, buf, n, MSG_NOSIGNAL) != (ssize_t)n)
		exit(6);
}

/* Goes on when the tracer says so: on the ring, then by the kernel. */
static void sibling(const struct call *call, int fd, int go)
{
	static char much[50000];
	char c;
	ssize_t n = 1;

	alarm(LIMIT_S);
	if (read(go, &c, 1) < 0)
		exit(6);
	while (call->flooded && n > 0)
		n = recv(fd, much, sizeof(much), 0);
	if (call->ahead)
		read_behind(fd);
	if (call->greeted) /* unread, it would make a reset of the end */
		recv(fd, much, WORD, MSG_DONTWAIT);
	put(fd, 'b', SIBLING_BYTES / 4);
	put(fd, 'b', SIBLING_BYTES / 4);
	dup2(fd, 0);
	put(0, 'b', SIBLING_BYTES / 2);
	put(0, 'E', 1);
	exit(0);
}

static void victim(const struct call *call, const struct sockaddr_storage *at, socklen_t len, int go[2], bool shared)
{
	int fd = socket(at->ss_family, SOCK_STREAM, 0);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close(go[1]);
	if (fd < 0 || connect(fd, (const struct sockaddr *)at, len))
		exit(3);
	if (!call->cold)
		drive(fd);
	call->prepare(fd);
	if (shared && fork() == 0)
		sibling(call, fd, go[0]);
	close(go[0]);
	alarm(LIMIT_S);
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	raise(SIGSTOP);
	call->make(fd);
	raise(SIGSTOP);
	_exit(0);
}

/* --- the survivor --- */

static bool segment_is_mapped(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	char line[512];
	bool found = false;

	while (f && fgets(line, sizeof(line), f))
		found |= strstr(line, "/memfd:gnezdo-segment") != NULL;
	if (f)
		fclose(f);
	return found;
}

/* v, at most three words of it, then of a sibling b's, then E. Exit status: what was wrong. */
static int read_to_the_end(int fd, bool shared)
{
	size_t v = 0, b = 0, e = 0;
	char buf[256];
	ssize_t n;

	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0)
		for (ssize_t i = 0; i < n; i++) {
			v += buf[i] == 'v';
			b += buf[i] == 'b';
			e += buf[i] == 'E';
			if (!strchr("vbE", buf[i]) || (buf[i] == 'v' && b) || (buf[i] == 'b' && e) || v > 3 * WORD)
				return 10;
		}
	if (n < 0 && errno != ECONNRESET)
		return 11;
	return shared && (b != SIBLING_BYTES || e != 1) ? 12 : 0;
}

static int survive(const struct call *call, int lfd, bool shared)
{
	static char much[FLOOD];
	int fd = accept(lfd, NULL, NULL), rc;
	char buf[WORD];

	for (int i = 0; i < WARM && !call->cold; i++)
		if (recv(fd, buf, WORD, MSG_WAITALL) != WORD || send(fd, buf, WORD, MSG_NOSIGNAL) != WORD)
			return 13;
	if (call->ahead) {
		size_t at = 0;

		ahead_send(fd, &at, AHEAD);
		for (int i = 0; i < ROUNDS; i++) {
			if (recv(fd, buf, WORD, MSG_WAITALL) != WORD)
				return 13;
			ahead_send(fd, &at, WORD);
		}
		ahead_send(fd, &at, AHEAD);
		*all_had = 1;
	}
	if (call->greeted && send(fd, "rrrrrrrrrrrrrrrr", WORD, MSG_NOSIGNAL) != WORD)
		return 14;
	if (call->flooded) {
		if (send(fd, much, sizeof(much), MSG_NOSIGNAL) != FLOOD && shared)
			return 15;
		shutdown(fd, SHUT_WR);
	}
	rc = read_to_the_end(fd, shared);
	close(fd);
	return rc ? rc : segment_is_mapped() ? 16 : 0;
}

static const char *what_was_wrong(int status)
{
	static const char *const text[] = { "wrong bytes", "a wrong error", "the sibling was cut off", "no warm-up", "no greeting",
					    "the sibling did not read on", "a segment is still mapped" };
	static char other[60];

	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		return "it hangs";
	if (WIFEXITED(status) && WEXITSTATUS(status) >= 10 && WEXITSTATUS(status) <= 16)
		return text[WEXITSTATUS(status) - 10];
	snprintf(other, sizeof(other), "status %x", (unsigned)status);
	return other;
}

/* --- the tracer --- */

static void tick(int sig)
{
	(void)sig;
}

/* After one instruction. False: it has made the call, or has slept in the kernel from one tick to the next but one. */
static bool stopped_again(pid_t pid)
{
	int status = 0;

	for (int ticks = 0; ticks < 3; ticks++) {
		if (waitpid(pid, &status, 0) == pid)
			return WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP;
		if (errno != EINTR)
			return false;
	}
	return false;
}

static long step(pid_t pid, long n)
{
	const struct itimerval on = { { 0, 50000 }, { 0, 50000 } }, off = { 0 };
	struct sigaction sa = { .sa_handler = tick };
	long done = 0;

	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &on, NULL);
	while (done < n && ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) == 0 && stopped_again(pid))
		done++;
	setitimer(ITIMER_REAL, &off, NULL);
	signal(SIGALRM, SIG_DFL);
	return done;
}

static int listen_anew(int domain, struct sockaddr_storage *at, socklen_t *len)
{
	int fd = socket(domain, SOCK_STREAM, 0);

	memset(at, 0, sizeof(*at));
	at->ss_family = (sa_family_t)domain;
	*len = domain == AF_UNIX ? sizeof(sa_family_t) : sizeof(struct sockaddr_in);
	if (domain == AF_INET)
		((struct sockaddr_in *)at)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || bind(fd, (struct sockaddr *)at, *len) || listen(fd, 5))
		exit(3);
	*len = sizeof(*at);
	getsockname(fd, (struct sockaddr *)at, len);
	return fd;
}

/* NULL or what was wrong; *done: instructions that were made. */
static const char *kill_after(const struct call *call, int domain, bool shared, long n, long *done)
{
	struct sockaddr_storage at;
	socklen_t len;
	int lfd = listen_anew(domain, &at, &len), go[2], status = -1, died = 0;
	pid_t survivor, prey;

	if (pipe(go))
		exit(3);
	*all_had = 0;
	survivor = fork();
	if (survivor == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(go[0]);
		close(go[1]);
		alarm(LIMIT_S);
		exit(survive(call, lfd, shared));
	}
	prey = fork();
	if (prey == 0) {
		close(lfd);
		victim(call, &at, len, go, shared);
	}
	close(lfd);
	close(go[0]);
	if (waitpid(prey, &died, 0) != prey || !WIFSTOPPED(died)) {
		kill(survivor, SIGKILL);
		waitpid(survivor, &status, 0);
		close(go[1]);
		return "the victim did not come so far";
	}
	*done = step(prey, n);
	kill(prey, SIGKILL);
	close(go[1]);
	waitpid(survivor, &status, 0);
	waitpid(prey, &died, 0);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	return status == 0 ? NULL : what_was_wrong(status);
}

static void judge(const struct call *call, int domain, bool shared, long points, unsigned seed)
{
	long all = 0, done, stride, at = 0;
	const char *wrong = kill_after(call, domain, shared, STEPS_MAX, &all);

	stride = points && all > points ? all / points : 1;
	for (long n = stride > 1 ? (long)(seed % (unsigned)stride) : 0; n < all && !wrong; n += stride) {
		wrong = kill_after(call, domain, shared, n, &done);
		at = n;
	}
	printf("%s %s, %s%s", wrong ? "not ok" : "ok", call->name, domain == AF_UNIX ? "unix" : "tcp", shared ? ", shared" : "");
	if (wrong)
		printf(": killed after %ld of %ld instructions: %s", at, all, wrong);
	printf("\n");
	fflush(stdout);
}

int main(int argc, char **argv)
{
	long points = argc > 1 ? atol(argv[1]) : 30;
	unsigned seed = argc > 2 ? (unsigned)atoi(argv[2]) : 1;
	const char *only = getenv("CRASH_ONLY");

	all_had = mmap(NULL, sizeof(*all_had), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (all_had == MAP_FAILED)
		return 3;
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		for (int k = 0; k < 4; k++)
			if (!only || strstr(calls[i].name, only))
				judge(&calls[i], k & 1 ? AF_UNIX : AF_INET, k & 2, points, seed);
	return 0;
}
