/* SPDX-License-Identifier: MIT */
/*
 * `gnezdo measure`: starts the processes of one workload, waits for them, prints one line of numbers. Hidden: `gnezdo bench` runs it.
 *
 * Units: milliseconds in options, nanoseconds in the result line.
 */
#include "cli/measure.h"
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define START_MS 20 /* forking and connecting, before the warm-up */
#define COLD_WARM_MS 50
#define PATIENCE_S 5 /* beyond the window, after which a process ends itself */

const char measure_usage[] = "usage: gnezdo measure [--run MS] [--warm MS] [--dir DIR] WORKLOAD\n"
			     "       gnezdo measure idle CONNECTIONS\n";

struct measure {
	const struct workload *w;
	long run_ms, warm_ms;
	const char *dir;
	struct measure_shared *shared;
	uint64_t from_ns, until_ns;
	pid_t children[2 * MEASURE_MAX_PAIRS];
};

_Noreturn void role_fail(struct role *r, const char *what)
{
	snprintf(r->result->error, sizeof(r->result->error), "%s%s%s", what, errno ? ": " : "", errno ? strerror(errno) : "");
	exit(CLI_FAILED);
}

/* Core 0 or 1 of those that this process may use; with one core there is nothing to choose. */
static void pin(enum measure_pin how, unsigned int side)
{
	unsigned int wanted = how == PIN_EACH ? side : 0;
	cpu_set_t may, one;

	if (how == PIN_NONE || sched_getaffinity(0, sizeof(may), &may) || CPU_COUNT(&may) <= (int)wanted)
		return;
	for (unsigned int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &may) || wanted--)
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		sched_setaffinity(0, sizeof(one), &one); /* refused: then it runs unpinned */
		return;
	}
}

static _Noreturn void role_run(const struct measure *m, struct role *r, unsigned int side)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm((unsigned int)((m->run_ms + m->warm_ms) / 1000 + PATIENCE_S));
	pin(m->w->pin, side);
	r->result = &m->shared->result[r->pair][side];
	(side ? m->w->client : m->w->server)(r);
	exit(CLI_OK);
}

/* Starts server (0) and client (1) of one pair, with a pipe each way. */
static int pair_start(struct measure *m, unsigned int pair)
{
	int pipes[2][2] = { { -1, -1 }, { -1, -1 } }, rc = 0;

	if (pipe2(pipes[0], O_CLOEXEC) || pipe2(pipes[1], O_CLOEXEC))
		rc = cli_error(CLI_FAILED, "measure: pipe: %s", strerror(errno));
	for (unsigned int side = 0; side < 2 && !rc; side++) {
		struct role r = { .w = m->w, .stop = &m->shared->stop[pair], .dir = m->dir, .pair = pair, .from_ns = m->from_ns,
				  .until_ns = m->until_ns, .to_peer = pipes[side][1], .from_peer = pipes[!side][0] };
		pid_t child = fork();

		if (!child) {
			close(pipes[side][0]); /* so that the peer's death is an end of file */
			close(pipes[!side][1]);
			role_run(m, &r, side);
		}
		if (child < 0)
			rc = cli_error(CLI_FAILED, "measure: fork: %s", strerror(errno));
		m->children[2 * pair + side] = child;
	}
	for (int i = 0; i < 4; i++)
		if (pipes[i / 2][i % 2] >= 0)
			close(pipes[i / 2][i % 2]);
	return rc;
}

/* Reaps one child and tells what went wrong in it. */
static int child_wait(const struct measure *m, unsigned int pair, unsigned int side)
{
	const char *error = m->shared->result[pair][side].error, *who = side ? "client" : "server";
	pid_t child = m->children[2 * pair + side];
	int status;

	if (child <= 0)
		return CLI_FAILED;
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return cli_error(CLI_FAILED, "measure: waitpid: %s", strerror(errno));
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		return cli_error(CLI_FAILED, "measure: %s: the %s did not end in time", m->w->name, who);
	if (WIFSIGNALED(status))
		return cli_error(CLI_FAILED, "measure: %s: the %s died of signal %d", m->w->name, who, WTERMSIG(status));
	if (WEXITSTATUS(status))
		return cli_error(CLI_FAILED, "measure: %s: %s: %s", m->w->name, who, *error ? error : "failed");
	return CLI_OK;
}

static int print_result(const struct measure *m)
{
	struct measure_result *sum = &m->shared->result[0][0];

	for (unsigned int i = 1; i < 2 * m->w->pairs; i++) {
		const struct measure_result *one = &m->shared->result[i / 2][i % 2];

		sum->ops += one->ops;
		sum->bytes += one->bytes;
		hist_merge(&sum->latency, &one->latency);
	}
	if (!sum->ops)
		return cli_error(CLI_FAILED, "measure: %s: nothing was done in the time", m->w->name);
	printf("window_ns=%ld ops=%lu bytes=%lu p50_ns=%lu p99_ns=%lu p999_ns=%lu\n", m->run_ms * 1000000, sum->ops, sum->bytes,
	       hist_quantile(&sum->latency, 500000), hist_quantile(&sum->latency, 990000), hist_quantile(&sum->latency, 999000));
	return fflush(stdout) ? CLI_FAILED : CLI_OK;
}

static void files_remove(const struct measure *m)
{
	char path[4096];

	for (unsigned int i = 0; i < 2 * m->w->pairs; i++) {
		snprintf(path, sizeof(path), "%s/%c%u", m->dir, "sc"[i % 2], i / 2);
		unlink(path);
	}
}

static int workload_run(struct measure *m)
{
	int rc = CLI_OK;

	m->shared = mmap(NULL, sizeof(*m->shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (m->shared == MAP_FAILED)
		return cli_error(CLI_FAILED, "measure: no memory");
	if (m->w->cold && m->warm_ms > COLD_WARM_MS)
		m->warm_ms = COLD_WARM_MS;
	m->from_ns = now_ns() + (uint64_t)(m->warm_ms + START_MS) * 1000000;
	m->until_ns = m->from_ns + (uint64_t)m->run_ms * 1000000;
	for (unsigned int pair = 0; pair < m->w->pairs && !rc; pair++)
		rc = pair_start(m, pair);
	for (unsigned int i = 0; i < 2 * m->w->pairs; i++)
		rc = child_wait(m, i / 2, i % 2) || rc ? CLI_FAILED : CLI_OK;
	if (!rc)
		rc = print_result(m);
	munmap(m->shared, sizeof(*m->shared));
	return rc;
}

/* Runs in a directory of its own unless it was given one. */
static int workload_run_in_dir(struct measure *m)
{
	char own[PATH_MAX];
	int rc;

	if (m->dir) {
		rc = workload_run(m);
		files_remove(m);
		return rc;
	}
	cli_temporary_name(own, sizeof(own), "gnezdo-measure");
	m->dir = mkdtemp(own);
	if (!m->dir)
		return cli_error(CLI_FAILED, "measure: %s: %s", own, strerror(errno));
	rc = workload_run(m);
	files_remove(m);
	rmdir(own);
	return rc;
}

static int options_read(struct measure *m, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "run", required_argument, NULL, 'r' },
		{ "warm", required_argument, NULL, 'w' },
		{ "dir", required_argument, NULL, 'd' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "+:", longs, NULL)) != -1) {
		if (c == 'd')
			m->dir = optarg;
		else if (c != 'r' && c != 'w')
			return cli_option_error(c, argv);
		else if (cli_number(optarg, c == 'r', 60000, c == 'r' ? &m->run_ms : &m->warm_ms))
			return cli_error(CLI_OWN_ERROR, "measure: not a number of milliseconds up to a minute: '%s'", optarg);
	}
	return CLI_OK;
}

int measure_main(int argc, char **argv)
{
	struct measure m = { .run_ms = 400, .warm_ms = 200 };
	int rc = options_read(&m, argc, argv);
	long connections;

	if (rc)
		return rc;
	if (optind + 2 == argc && !strcmp(argv[optind], "idle")) {
		if (cli_number(argv[optind + 1], 1, 1000000, &connections))
			return cli_error(CLI_OWN_ERROR, "measure: how many connections? Not '%s'", argv[optind + 1]);
		return idle_measure(connections);
	}
	m.w = optind + 1 == argc ? workload_find(argv[optind]) : NULL;
	if (!m.w)
		return cli_error(CLI_OWN_ERROR, "measure: which workload? See gnezdo bench --list");
	return workload_run_in_dir(&m);
}
