/* SPDX-License-Identifier: MIT */
/*
 * One run of the measuring program: start it, read its result and gnezdo's statistics, end it if it hangs.
 *
 * Invariants: the child is reaped before the function returns. Its own children die with it (PR_SET_PDEATHSIG).
 */
#include "cli/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_MS 9000 /* beyond the measuring time; the processes give up by themselves before that */
#define LINE_BYTES 1024

/* The only global: a signal handler can reach nothing else. */
static volatile sig_atomic_t interrupted;

struct reader { /* lines from one of the child's outputs */
	int fd; /* -1: at its end */
	size_t used;
	char line[LINE_BYTES];
};

static void on_signal(int signal)
{
	(void)signal;
	interrupted = 1;
}

void bench_catch_signals(void)
{
	struct sigaction action = { .sa_handler = on_signal }; /* no SA_RESTART: poll() must wake up */

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
}

bool bench_interrupted(void)
{
	return interrupted;
}

/* The number behind " key=" in a line; 0: not there. */
static uint64_t field(const char *line, const char *key)
{
	size_t len = strlen(key);

	for (const char *at = line; (at = strstr(at, key)); at += len)
		if ((at == line || at[-1] == ' ') && at[len] == '=')
			return strtoull(at + len + 1, NULL, 10);
	return 0;
}

static void take_result(const struct workload *w, struct bench_sample *to, const char *line)
{
	double seconds = (double)field(line, "window_ns") / 1e9;
	uint64_t count = field(line, w->unit == UNIT_BYTES ? "bytes" : "ops");

	to->p50 = (double)field(line, "p50_ns") / 1e3;
	to->p99 = (double)field(line, "p99_ns") / 1e3;
	to->p999 = (double)field(line, "p999_ns") / 1e3;
	if (seconds > 0)
		to->value = w->unit == UNIT_LATENCY ? to->p50 : (double)count / seconds;
}

/* stderr: statistics of gnezdo, or whatever went wrong, of which the first line is kept. */
static void take_remark(struct bench_sample *to, const char *line)
{
	const char *reason = strstr(line, "reason=\"");

	if (strncmp(line, "gnezdo: pid=", 12)) {
		if (!*to->error)
			snprintf(to->error, sizeof(to->error), "%s", strncmp(line, "gnezdo: measure: ", 17) ? line : line + 17);
	} else if (reason) {
		snprintf(to->why, sizeof(to->why), "%.*s", (int)strcspn(reason + 8, "\""), reason + 8);
	} else {
		to->ring_bytes += field(line, "tx_ring_bytes");
		to->kernel_bytes += field(line, "tx_kernel_bytes");
	}
}

/* Takes what is there; at the end of the output the descriptor is closed. */
static void reader_fill(struct reader *r)
{
	ssize_t n = read(r->fd, r->line + r->used, sizeof(r->line) - 1 - r->used);

	if (n > 0) {
		r->used += (size_t)n;
	} else if (!n || errno != EINTR) {
		close(r->fd);
		r->fd = -1;
	}
	r->line[r->used] = '\0';
}

static void reader_lines(struct reader *r, const struct workload *w, struct bench_sample *to, bool result)
{
	char *end;

	while (r->used && ((end = strchr(r->line, '\n')) || r->used == sizeof(r->line) - 1 || r->fd < 0)) {
		size_t len = end ? (size_t)(end - r->line) : r->used;

		r->line[len] = '\0';
		if (result)
			take_result(w, to, r->line);
		else
			take_remark(to, r->line);
		r->used -= end ? len + 1 : len;
		memmove(r->line, r->line + len + 1, r->used);
		r->line[r->used] = '\0';
	}
}

/* Until both outputs ended. False: out of time, or interrupted. */
static bool read_all(struct reader readers[2], const struct workload *w, struct bench_sample *to, uint64_t deadline_ns)
{
	while (readers[0].fd >= 0 || readers[1].fd >= 0) {
		struct pollfd fds[2] = { { readers[0].fd, POLLIN, 0 }, { readers[1].fd, POLLIN, 0 } };
		uint64_t now = now_ns();

		if (interrupted || now >= deadline_ns)
			return false;
		if (poll(fds, 2, (int)((deadline_ns - now) / 1000000) + 1) < 0)
			continue;
		for (int i = 0; i < 2; i++) {
			if (!fds[i].revents)
				continue;
			reader_fill(&readers[i]);
			reader_lines(&readers[i], w, to, !i);
		}
	}
	return true;
}

static _Noreturn void child_exec(const struct bench *b, const struct workload *w, enum bench_side side, bool stats, int out, int err)
{
	const char *words[24] = { NULL }, **a = words;
	char *argv[24];
	char run[24], warm[24];

	snprintf(run, sizeof(run), "%ld", b->run_ms);
	snprintf(warm, sizeof(warm), "%ld", b->warm_ms);
	*a++ = b->self;
	if (side == SIDE_GNEZDO) {
		*a++ = "run";
		if (stats)
			*a++ = "--stats";
		if (b->lane) {
			*a++ = "--lane";
			*a++ = b->lane;
		}
		if (b->spin) {
			*a++ = "--spin";
			*a++ = b->spin;
		}
		*a++ = "--";
		*a++ = b->self;
	}
	memcpy(a, (const char *[]){ "measure", "--run", run, "--warm", warm, "--dir", b->dir, w->name }, 8 * sizeof(*a));
	memcpy(argv, words, sizeof(argv)); /* execv() asks for char *, and writes to none of them */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (dup2(out, STDOUT_FILENO) >= 0 && dup2(err, STDERR_FILENO) >= 0)
		execv(b->self, argv);
	_exit(127);
}

/* Starts the child with a reader on each of its outputs. Returns its pid, or -errno. */
static pid_t child_start(const struct bench *b, const struct workload *w, enum bench_side side, bool stats, struct reader readers[2])
{
	int out[2], err[2];
	pid_t child;

	if (pipe2(out, O_CLOEXEC))
		return -errno;
	if (pipe2(err, O_CLOEXEC)) {
		close(out[0]);
		close(out[1]);
		return -EMFILE;
	}
	readers[0].fd = out[0];
	readers[1].fd = err[0];
	child = fork();
	if (!child)
		child_exec(b, w, side, stats, out[1], err[1]);
	close(out[1]);
	close(err[1]);
	return child < 0 ? -errno : child;
}

/* Reaps the child, by force if need be. Returns its status. */
static int child_end(pid_t child, bool by_force)
{
	int status = -1;

	if (by_force)
		kill(child, SIGKILL);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

void bench_sample_take(const struct bench *b, const struct workload *w, enum bench_side side, bool stats, struct bench_sample *to)
{
	uint64_t deadline_ns = now_ns() + (uint64_t)(b->run_ms + b->warm_ms + PATIENCE_MS) * 1000000;
	struct reader readers[2] = { { .fd = -1 }, { .fd = -1 } };
	pid_t child = child_start(b, w, side, stats, readers);
	bool ended;
	int status = -1;

	memset(to, 0, sizeof(*to));
	if (child < 0) {
		snprintf(to->error, sizeof(to->error), "starting the program: %s", strerror(-child));
		ended = false;
	} else {
		ended = read_all(readers, w, to, deadline_ns);
		status = child_end(child, !ended);
	}
	for (int i = 0; i < 2; i++)
		if (readers[i].fd >= 0)
			close(readers[i].fd);
	if (child < 0)
		return;
	if (!ended)
		snprintf(to->error, sizeof(to->error), "%s", interrupted ? "interrupted" : "hung and was killed");
	else if (!status && to->value > 0)
		*to->error = '\0'; /* what it said on stderr was a remark */
	else if (!*to->error)
		snprintf(to->error, sizeof(to->error), "ended with wait status %#x", (unsigned int)status);
}
