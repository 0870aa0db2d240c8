/* SPDX-License-Identifier: MIT */
/*
 * kill -9 at every instruction of a call, and what the other side and a relative make of it.
 *
 *     step [POINTS [SEED [WORKERS]]]     one line of "ok NAME" or "not ok NAME: why" for each call, kind of socket and sharing; with one
 *                                        point only, each call and kind is alone or shares its socket, as SEED has it
 *
 * A tracer (this process) runs a victim to the place where it is about to make the call, from there to a point, and kills it: POINTS of them
 * spread over the whole call (0: each). All its instructions between two points leave the same behind, so that a kill at each point is a kill at
 * each instruction: trace.h says why. The victim is not waited for until all is over, so its locks belong to a zombie.
 *
 * The survivor at the other end must read what the victim's finished calls wrote and perhaps a part of the one it was killed in, then
 * all that the victim's sibling wrote after its death, in order and across a way back to the kernel lane, then the end or a reset; who
 * writes to the dead is told. Nobody hangs, no segment stays mapped, no descriptor is left, and the same listener serves a newcomer.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "step.h"
#include "trace.h"

#define POINTS_MAX 5000 /* a call with more goes round and round */
#define NAPPING 120     /* points of a second reader of datagrams, which naps while the first sleeps */
#define WORKERS_MAX 16

static const char *kind_name(void)
{
	return kind == TCP ? "tcp" : kind == UNIX ? "unix" : kind == PACKET ? "seqpacket" : kind == UDP ? "udp" : "unix datagrams";
}

static int listen_anew(int end)
{
	struct sockaddr_storage *at = &board->at[end];
	socklen_t len = kind == TCP ? sizeof(struct sockaddr_in) : sizeof(sa_family_t);
	int fd = socket(kind == TCP ? AF_INET : AF_UNIX, kind == PACKET ? SOCK_SEQPACKET : SOCK_STREAM, 0);

	memset(at, 0, sizeof(*at));
	at->ss_family = kind == TCP ? AF_INET : AF_UNIX;
	if (kind == TCP)
		((struct sockaddr_in *)at)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || bind(fd, (struct sockaddr *)at, len) || listen(fd, 5))
		exit(3);
	len = sizeof(*at);
	getsockname(fd, (struct sockaddr *)at, &len);
	board->at_len[end] = len;
	return fd;
}

/* --- the victim --- */

static int victim_socket(const struct call *call)
{
	int fd;

	if (kind & DGRAMS)
		return datagram_socket(1);
	if (call->flags & ACCEPTS)
		return listen_anew(1);
	fd = socket(board->at[0].ss_family, kind == PACKET ? SOCK_SEQPACKET : SOCK_STREAM, 0);
	if (fd < 0)
		exit(3);
	send_at_once(fd);
	if (!(call->flags & CONNECTS) && connect(fd, (const struct sockaddr *)&board->at[0], board->at_len[0]))
		exit(3);
	return fd;
}

static void drive(int fd)
{
	char buf[WORD] = "there and back.";

	for (int i = 0; i < WARM; i++)
		if (send(fd, buf, WORD, MSG_NOSIGNAL) != WORD || recv(fd, buf, WORD, kind & STREAMS ? MSG_WAITALL : 0) != WORD)
			exit(4);
}

static void victim(const struct call *call, int go[2], bool shared)
{
	pid_t pid = 0;
	int fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(LIMIT_S);
	fd = victim_socket(call);
	close(go[1]);
	if (!(call->flags & COLD))
		drive(fd);
	call->prepare(fd);
	if (shared)
		pid = fork();
	if (shared && pid == 0)
		sibling(call, fd, go[0]);
	if (shared)
		process_is_asleep_await(pid);
	if (call->flags & HALVES) {
		board->stage = 1;
		stage_await(2);
	}
	close(go[0]);
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	raise(SIGSTOP);
	call->make(fd);
	trace_end();
	_exit(0);
}

/* --- the tracer --- */

struct point {
	pid_t survivor, prey, newcomer;
	int cue[2], go[2];
	struct trace trace;
};

static void cue(void *arg)
{
	struct point *p = arg;

	if (write(p->cue[1], "c", 1) != 1)
		exit(3);
}

/* Whoever is left of this point; NULL or what was wrong with one of them. */
static const char *all_end(struct point *p)
{
	const char *wrong = NULL;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, __WALL)) > 0 || errno == EINTR)
		if (pid > 0 && pid != p->prey && status != 0 && (!wrong || pid == p->survivor)) {
			wrong = wrong_text(status);
			kill(p->survivor, SIGKILL); /* the others may wait for it */
			if (p->newcomer)
				kill(p->newcomer, SIGKILL);
		}
	return wrong;
}

static void survivor_start(struct point *p, const struct call *call, int lfd, bool shared)
{
	p->survivor = fork();
	if (p->survivor)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close(p->cue[1]);
	close(p->go[0]);
	close(p->go[1]);
	survivor(call, lfd, p->cue[0], shared);
}

static void prey_start(struct point *p, const struct call *call, int lfd, bool shared)
{
	p->prey = fork();
	if (p->prey)
		return;
	close(lfd);
	close(p->cue[0]);
	close(p->cue[1]);
	victim(call, p->go, shared);
}

static void kill_prey(struct point *p, int lfd)
{
	char state;

	kill(p->prey, SIGKILL);
	while ((state = task_state(p->prey)) && state != 'Z')
		usleep(50);
	board->dead = 1;
	close(p->cue[1]);
	close(p->go[1]);
	if (kind & DGRAMS)
		return;
	p->newcomer = fork();
	if (p->newcomer == 0) {
		close(lfd);
		newcomer();
	}
}

/* NULL or what was wrong; *passed: points. */
static const char *kill_at(const struct call *call, int lfd, bool shared, long at, long *passed, const char **where)
{
	struct point p = { .trace = { .own = board, .rings = !(call->flags & MUCH), .wake = cue } };
	const char *wrong = NULL, *after;
	int status;

	if (pipe(p.go) || pipe(p.cue))
		exit(3);
	board->wrote = 0;
	board->stage = board->connected = board->dead = 0;
	board->at_len[1] = 0;
	if (kind & DGRAMS)
		board->at_len[0] = 0;
	survivor_start(&p, call, lfd, shared);
	prey_start(&p, call, lfd, shared);
	close(p.go[0]);
	close(p.cue[0]);
	p.trace.pid = p.prey;
	p.trace.most = (call->flags & DUET) && (kind & DGRAMS) ? NAPPING : 0;
	p.trace.arg = &p;
	if (waitpid(p.prey, &status, 0) != p.prey || !WIFSTOPPED(status))
		wrong = "the victim did not come so far";
	process_is_asleep_await(p.survivor);
	if (!wrong && !trace_begin(&p.trace))
		wrong = "it cannot be traced";
	*passed = wrong ? -1 : trace_run(&p.trace, at);
	if (!wrong && (*passed < 0 || *passed >= POINTS_MAX))
		wrong = "the trace went wrong";
	*where = trace_where(&p.trace);
	if (wrong)
		kill(p.survivor, SIGKILL);
	kill_prey(&p, lfd);
	if (wrong && p.newcomer)
		kill(p.newcomer, SIGKILL);
	after = all_end(&p);
	return wrong ? wrong : after;
}

static long judge(const struct call *call, bool shared, long points, unsigned seed)
{
	long all = 0, at = POINTS_MAX, done = 0, passed;
	const char *where = "", *wrong = NULL;
	int lfd = kind & CIRCUITS ? listen_anew(0) : socket(AF_INET, SOCK_DGRAM, 0); /* whatever is made for the first socket is made here */
	char line[400];

	if (points)
		wrong = kill_at(call, lfd, shared, at, &all, &where);
	for (long i = 0; !wrong && (!points || i < points); i++, done++) {
		at = points ? (long)((seed + (unsigned long)(i * all / points)) % (unsigned long)(all + 1)) : i;
		wrong = kill_at(call, lfd, shared, at, &passed, &where);
		if (!wrong && !points && passed < at)
			break;
	}
	close(lfd);
	snprintf(line, sizeof(line), "%s %s, %s%s", wrong ? "not ok" : "ok", call->name, kind_name(), shared ? ", shared" : "");
	if (wrong)
		snprintf(line + strlen(line), sizeof(line) - strlen(line), ": killed at point %ld (%s): %s", at, where, wrong);
	printf("%s\n", line);
	fflush(stdout);
	return done;
}

/* Each combination is a process's: its pool of endpoints ends with it. */
static void work(size_t n, long points, unsigned seed, _Atomic long *sum)
{
	const struct call *call = &calls[n / 10];
	bool shared = n % 2;

	kind = 1u << n / 2 % 5;
	if (!(call->kinds & kind) || (call->flags & (shared ? ALONE : SHARED)))
		return;
	if (points == 1 && !(call->flags & (ALONE | SHARED)) && shared != (n / 2 + seed) % 2)
		return;
	if (fork() == 0) {
		prctl(PR_SET_CHILD_SUBREAPER, 1);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		*sum += judge(call, shared, points, seed);
		exit(0);
	}
	wait(NULL);
}

int main(int argc, char **argv)
{
	long points = argc > 1 ? atol(argv[1]) : 30, workers = argc > 3 ? atol(argv[3]) : sysconf(_SC_NPROCESSORS_ONLN);
	unsigned seed = argc > 2 ? (unsigned)atoi(argv[2]) : 1;
	const char *only = getenv("CRASH_ONLY");
	_Atomic long *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

#ifndef __x86_64__
	printf("ok every instruction # SKIP trace.c knows x86-64 only\n");
	return 0;
#endif
	if (shared == MAP_FAILED)
		return 3;
	if (workers < 1 || workers > WORKERS_MAX)
		workers = 1;
	for (long w = 0; w < workers; w++) {
		if (fork() != 0)
			continue;
		board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		for (size_t n; (n = (size_t)atomic_fetch_add(&shared[0], 1)) < calls_count * 10;)
			if (!only || strstr(calls[n / 10].name, only))
				work(n, points, seed, &shared[1]);
		return 0;
	}
	while (wait(NULL) > 0 || errno == EINTR)
		;
	printf("# killed at %ld points\n", (long)shared[1]);
	return 0;
}
