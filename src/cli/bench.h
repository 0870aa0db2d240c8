/* SPDX-License-Identifier: MIT */
/*
 * `gnezdo bench`: the measuring program on the plain kernel and under gnezdo, in turns.
 *
 * Units: a sample's value is microseconds for UNIT_LATENCY, otherwise things per second; quantiles are microseconds.
 */
#ifndef GN_CLI_BENCH_H
#define GN_CLI_BENCH_H

#include <stdbool.h>
#include <stdint.h>

#include "cli/measure.h"

#define BENCH_MAX_ROUNDS 99

enum bench_side { SIDE_KERNEL, SIDE_GNEZDO, SIDES };

struct bench_sample {
	double value, p50, p99, p999;
	uint64_t ring_bytes, kernel_bytes; /* sent, as --stats told; both 0 on the plain kernel */
	char why[96];   /* a reason that --stats gave for the kernel lane, or empty */
	char error[200]; /* empty: the measurement is good */
};

struct bench_row {
	const struct workload *w;
	int rounds; /* taken so far, the same number on either side */
	struct bench_sample sample[SIDES][BENCH_MAX_ROUNDS];
};

struct bench {
	long rounds, run_ms, warm_ms;
	bool json, kernel_only;
	const char *lane, *spin; /* for `gnezdo run`; NULL: its own choice */
	const char *dir;         /* for socket files */
	const char *self;        /* this executable */
};

/* Medians over the good rounds of one side, and what they compare to. */
struct bench_median {
	double value, p50, p99, p999;
	int good;       /* rounds without an error */
	double on_ring; /* part of the bytes that the ring carried, 0 to 1 */
};

/* Runs the measuring program once, with --stats or without. Fills *to, whatever happens. */
void bench_sample_take(const struct bench *b, const struct workload *w, enum bench_side side, bool stats, struct bench_sample *to);

/* True once the user wants to stop (SIGINT, SIGTERM). */
bool bench_interrupted(void);
void bench_catch_signals(void);

/* --- bench_stats.c --- */
void bench_median(const struct bench_row *row, enum bench_side side, struct bench_median *to);
double bench_ratio(const struct workload *w, const struct bench_median *kernel, const struct bench_median *gnezdo);
bool bench_higher_is_better(enum measure_unit unit);
bool bench_has_latency(const struct workload *w);
const char *bench_unit_name(enum measure_unit unit);

/* The error of the first bad round, or NULL. */
const char *bench_row_error(const struct bench_row *row, const struct bench *b);

/* --- bench_report.c --- */
void bench_table_head(const struct bench *b);
void bench_table_row(const struct bench *b, const struct bench_row *row);
void bench_json_head(const struct bench *b);
void bench_json_row(const struct bench *b, const struct bench_row *row, bool first);
void bench_json_tail(void);

#endif
