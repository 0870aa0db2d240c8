/* SPDX-License-Identifier: MIT */
/* Medians and ratios of benchmark rounds. */
#include "cli/bench.h"

#include <stdlib.h>

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values, int n)
{
	qsort(values, (size_t)n, sizeof(*values), by_size);
	return !n ? 0 : n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

void bench_median(const struct bench_row *row, enum bench_side side, struct bench_median *to)
{
	double value[BENCH_MAX_ROUNDS], p50[BENCH_MAX_ROUNDS], p99[BENCH_MAX_ROUNDS], p999[BENCH_MAX_ROUNDS];
	double ring = 0, kernel = 0;
	int n = 0;

	for (int i = 0; i < row->rounds; i++) {
		const struct bench_sample *s = &row->sample[side][i];

		if (*s->error)
			continue;
		value[n] = s->value;
		p50[n] = s->p50;
		p99[n] = s->p99;
		p999[n++] = s->p999;
		ring += (double)s->ring_bytes;
		kernel += (double)s->kernel_bytes;
	}
	to->good = n;
	to->value = median(value, n);
	to->p50 = median(p50, n);
	to->p99 = median(p99, n);
	to->p999 = median(p999, n);
	to->on_ring = ring > 0 ? ring / (ring + kernel) : 0;
}

bool bench_higher_is_better(enum measure_unit unit)
{
	return unit != UNIT_LATENCY;
}

bool bench_has_latency(const struct workload *w)
{
	return w->unit != UNIT_BYTES && w->unit != UNIT_MESSAGES;
}

double bench_ratio(const struct workload *w, const struct bench_median *kernel, const struct bench_median *gnezdo)
{
	if (kernel->value <= 0 || gnezdo->value <= 0)
		return 0;
	return bench_higher_is_better(w->unit) ? gnezdo->value / kernel->value : kernel->value / gnezdo->value;
}

const char *bench_unit_name(enum measure_unit unit)
{
	switch (unit) {
	case UNIT_LATENCY:
		return "us";
	case UNIT_ROUND_TRIPS:
		return "rtt/s";
	case UNIT_MESSAGES:
		return "msg/s";
	case UNIT_BYTES:
		return "B/s";
	default:
		return "conn/s";
	}
}

const char *bench_row_error(const struct bench_row *row, const struct bench *b)
{
	for (int side = SIDE_KERNEL; side < (b->kernel_only ? SIDE_GNEZDO : SIDES); side++)
		for (int i = 0; i < row->rounds; i++)
			if (*row->sample[side][i].error)
				return row->sample[side][i].error;
	return NULL;
}
