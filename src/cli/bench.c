/* SPDX-License-Identifier: MIT */
/*
 * `gnezdo bench`: options and the order of measurements.
 *
 * The two sides take turns, and take turns in going first, so that a machine that slows down or speeds up meanwhile favours
 * neither.
 */
#include "cli/bench.h"
#include "cli/cli.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char bench_usage[] =
	"usage: gnezdo bench [--json] [--rounds N] [--quick] [--lane LANE] [--spin US] [--list] [WORKLOAD...]\n"
	"\n"
	"Measures gnezdo beside the plain kernel, in turns, with one plain POSIX program. Ratios above 1 are in gnezdo's favour.\n"
	"\n"
	"  --json      everything as one JSON object\n"
	"  --rounds N  measurements of each kind, of which the median counts (5)\n"
	"  --quick     two short rounds\n"
	"  --lane, --spin  handed to gnezdo run\n"
	"  --list      the workloads\n"
	"\n"
	"Exit status: 0; 1 a measurement failed; 125 wrong usage.\n";

static int list_print(void)
{
	for (unsigned int i = 0; i < workload_count; i++)
		printf("%-16s %s\n", workloads[i].name, workloads[i].what);
	return fflush(stdout) ? CLI_FAILED : CLI_OK;
}

enum { OPTION_GO_ON = -1 };

static int option_take(struct bench *b, int c, char **argv)
{
	switch (c) {
	case 'j':
		b->json = true;
		return OPTION_GO_ON;
	case 'k':
		b->kernel_only = true;
		return OPTION_GO_ON;
	case 'q':
		b->rounds = 2;
		b->run_ms = 250;
		b->warm_ms = 150;
		return OPTION_GO_ON;
	case 'l':
		return list_print();
	case 'L':
		b->lane = optarg;
		return OPTION_GO_ON;
	case 's':
		b->spin = optarg;
		return OPTION_GO_ON;
	case 'r':
		if (!cli_number(optarg, 1, BENCH_MAX_ROUNDS, &b->rounds))
			return OPTION_GO_ON;
		return cli_error(CLI_OWN_ERROR, "bench: --rounds is a number, 1 to %d, not '%s'", BENCH_MAX_ROUNDS, optarg);
	default:
		return cli_option_error(c, argv);
	}
}

static int options_read(struct bench *b, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "quick", no_argument, NULL, 'q' },
		{ "list", no_argument, NULL, 'l' },
		{ "lane", required_argument, NULL, 'L' },
		{ "spin", required_argument, NULL, 's' },
		{ "kernel-only", no_argument, NULL, 'k' }, /* hidden: works without the library */
		{ NULL, 0, NULL, 0 },
	};
	int c, rc;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":", longs, NULL)) != -1) {
		rc = option_take(b, c, argv);
		if (rc != OPTION_GO_ON)
			return rc;
	}
	for (int i = optind; i < argc; i++)
		if (!workload_find(argv[i]))
			return cli_error(CLI_OWN_ERROR, "bench: no workload '%s'; see gnezdo bench --list", argv[i]);
	return OPTION_GO_ON;
}

/* A line on the terminal that the next output overwrites; none when stderr is a file. */
static void progress(const char *name, long round, long rounds)
{
	if (!isatty(STDERR_FILENO))
		return;
	if (name)
		fprintf(stderr, "\r\033[K%s, round %ld of %ld", name, round, rounds);
	else
		fprintf(stderr, "\r\033[K");
}

/* Which lane it was, of a workload that is measured without asking. */
static void lane_ask(const struct bench *b, struct bench_row *row)
{
	struct bench_sample asked, *first = &row->sample[SIDE_GNEZDO][0];

	bench_sample_take(b, row->w, SIDE_GNEZDO, true, &asked);
	first->ring_bytes = asked.ring_bytes;
	first->kernel_bytes = asked.kernel_bytes;
	memcpy(first->why, asked.why, sizeof(first->why));
}

static void row_measure(const struct bench *b, struct bench_row *row)
{
	for (long i = 0; i < b->rounds && !bench_interrupted(); i++) {
		progress(row->w->name, i + 1, b->rounds);
		for (int turn = 0; turn < SIDES; turn++) {
			enum bench_side side = (turn + i) % 2 ? SIDE_GNEZDO : SIDE_KERNEL;

			if (side == SIDE_KERNEL || !b->kernel_only)
				bench_sample_take(b, row->w, side, !row->w->mortal, &row->sample[side][i]);
		}
		row->rounds = (int)i + 1;
	}
	if (row->w->mortal && row->rounds && !b->kernel_only && !bench_interrupted())
		lane_ask(b, row);
	progress(NULL, 0, 0);
}

static bool is_chosen(const struct workload *w, int names, char **name)
{
	for (int i = 0; i < names; i++)
		if (!strcmp(w->name, name[i]))
			return true;
	return !names;
}

static int measure_all(const struct bench *b, int names, char **name)
{
	struct bench_row *row = calloc(1, sizeof(*row));
	int rc = CLI_OK;
	bool first = true;

	if (!row)
		return cli_error(CLI_FAILED, "bench: no memory");
	(b->json ? bench_json_head : bench_table_head)(b);
	for (unsigned int i = 0; i < workload_count && !bench_interrupted(); i++) {
		if (!is_chosen(&workloads[i], names, name))
			continue;
		memset(row, 0, sizeof(*row));
		row->w = &workloads[i];
		row_measure(b, row);
		if (b->json)
			bench_json_row(b, row, first);
		else
			bench_table_row(b, row);
		first = false;
		if (bench_row_error(row, b))
			rc = CLI_FAILED;
	}
	if (b->json)
		bench_json_tail();
	free(row);
	return bench_interrupted() || ferror(stdout) ? CLI_FAILED : rc;
}

/* The kernel's side must not run under a preload that this process was itself started with. */
static void environment_clean(void)
{
	unsetenv("LD_PRELOAD");
	unsetenv("GNEZDO_LANE");
	unsetenv("GNEZDO_SPIN");
	unsetenv("GNEZDO_STATS");
}

/* A killed measurement leaves its socket files. */
static void dir_remove(const char *dir)
{
	char path[PATH_MAX + 16];

	for (unsigned int i = 0; i < 2 * MEASURE_MAX_PAIRS; i++) {
		snprintf(path, sizeof(path), "%s/%c%u", dir, "sc"[i % 2], i / 2);
		unlink(path);
	}
	rmdir(dir);
}

int bench_main(int argc, char **argv)
{
	struct bench b = { .rounds = 5, .run_ms = 400, .warm_ms = 200 };
	char dir[PATH_MAX], self[PATH_MAX], library[PATH_MAX];
	int rc = options_read(&b, argc, argv);

	if (rc != OPTION_GO_ON)
		return rc;
	if (cli_self(self, sizeof(self)))
		return cli_error(CLI_OWN_ERROR, "bench: /proc/self/exe cannot be read");
	if (!b.kernel_only && cli_library(library, sizeof(library)))
		return cli_error(CLI_OWN_ERROR, "libgnezdo.so is neither beside gnezdo, nor in ../lib, nor where it was installed");
	b.self = self;
	cli_temporary_name(dir, sizeof(dir), "gnezdo-bench");
	b.dir = mkdtemp(dir);
	if (!b.dir)
		return cli_error(CLI_FAILED, "bench: %s: %s", dir, strerror(errno));
	environment_clean();
	bench_catch_signals();
	rc = measure_all(&b, argc - optind, argv + optind);
	dir_remove(dir);
	return rc;
}
