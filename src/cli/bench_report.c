/* SPDX-License-Identifier: MIT */
/* The answers of `gnezdo bench`: a table for people, JSON for programs. */
#include "cli/bench.h"
#include "cli/cli.h"
#include "cli/json.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#define QUANTILES 24

/* Three digits that matter, with k, M, G for the large ones. */
static const char *short_number(double value, char *to, size_t size)
{
	static const char suffix[] = " kMGT";
	unsigned int i = 0;

	for (; value >= 9999.5 && suffix[i + 1]; i++)
		value /= 1000;
	snprintf(to, size, value < 9.995 ? "%.2f" : value < 99.95 ? "%.1f" : "%.0f", value);
	if (i)
		snprintf(to + strlen(to), size - strlen(to), "%c", suffix[i]);
	return to;
}

static const char *quantiles(const struct bench_median *m, char to[QUANTILES])
{
	char a[12], b[12], c[12];

	snprintf(to, QUANTILES, "%s/%s/%s", short_number(m->p50, a, sizeof(a)), short_number(m->p99, b, sizeof(b)),
		 short_number(m->p999, c, sizeof(c)));
	return to;
}

/* Which lane carried the bytes, as the statistics of the gnezdo runs tell. */
static const char *lane_text(const struct bench_row *row, const struct bench_median *gnezdo, char *to, size_t size)
{
	const char *why = "";

	if (gnezdo->on_ring > 0) {
		snprintf(to, size, "%.0f%%", gnezdo->on_ring * 100);
		return to;
	}
	for (int i = 0; i < row->rounds; i++)
		if (*row->sample[SIDE_GNEZDO][i].why)
			why = row->sample[SIDE_GNEZDO][i].why;
	snprintf(to, size, "kernel lane%s%s", *why ? ": " : "", why);
	return to;
}

void bench_table_head(const struct bench *b)
{
	printf("%-16s %-6s %8s", "workload", "unit", "kernel");
	if (b->kernel_only)
		printf("   %s\n", "p50/p99/p99.9 us");
	else
		printf(" %8s %7s   %-22s %-22s %s\n", "gnezdo", "ratio", "kernel p50/p99/p99.9us", "gnezdo p50/p99/p99.9us",
		       "on the ring");
	fflush(stdout);
}

void bench_table_row(const struct bench *b, const struct bench_row *row)
{
	struct bench_median kernel, gnezdo;
	char number[2][16], spread[2][QUANTILES] = { "-", "-" }, lane[160];
	const char *error = bench_row_error(row, b);

	bench_median(row, SIDE_KERNEL, &kernel);
	bench_median(row, SIDE_GNEZDO, &gnezdo);
	if (bench_has_latency(row->w)) {
		quantiles(&kernel, spread[0]);
		quantiles(&gnezdo, spread[1]);
	}
	short_number(kernel.value, number[0], sizeof(number[0]));
	printf("%-16s %-6s %8s", row->w->name, bench_unit_name(row->w->unit), number[0]);
	if (error)
		printf("   FAILED: %s\n", error);
	else if (b->kernel_only)
		printf("   %s\n", spread[0]);
	else
		printf(" %8s %6.2fx   %-22s %-22s %s\n", short_number(gnezdo.value, number[1], sizeof(number[1])),
		       bench_ratio(row->w, &kernel, &gnezdo), spread[0], spread[1], lane_text(row, &gnezdo, lane, sizeof(lane)));
	fflush(stdout);
}

static void processor_name(char *to, size_t size)
{
	FILE *f = fopen("/proc/cpuinfo", "re");

	snprintf(to, size, "unknown");
	while (f && fgets(to, (int)size, f)) {
		char *value = strchr(to, ':');

		if (strncmp(to, "model name", 10) || !value)
			continue;
		value[1 + strcspn(value + 1, "\n")] = '\0';
		memmove(to, value + 2, strlen(value + 1));
		break;
	}
	if (f)
		fclose(f);
}

void bench_json_head(const struct bench *b)
{
	struct utsname host;
	char processor[256];

	processor_name(processor, sizeof(processor));
	printf("{\"gnezdo\":\"%s\",\"processor\":", GNEZDO_VERSION);
	json_string(stdout, processor);
	printf(",\"cores\":%ld,\"kernel\":", sysconf(_SC_NPROCESSORS_ONLN));
	json_string(stdout, uname(&host) ? "unknown" : host.release);
	printf(",\"rounds\":%ld,\"run_ms\":%ld,\"warm_ms\":%ld,\"workloads\":[", b->rounds, b->run_ms, b->warm_ms);
}

static void json_field(const char *name, double value)
{
	printf("\"%s\":", name);
	json_number(stdout, value);
	putchar(',');
}

static void json_side(const struct bench_row *row, enum bench_side side)
{
	struct bench_median m;
	uint64_t ring = 0, kernel = 0;

	bench_median(row, side, &m);
	putchar('{');
	json_field("value", m.value);
	if (bench_has_latency(row->w)) {
		json_field("p50_us", m.p50);
		json_field("p99_us", m.p99);
		json_field("p999_us", m.p999);
	}
	printf("\"rounds\":[");
	for (int i = 0; i < row->rounds; i++) {
		printf("%s", i ? "," : "");
		json_number(stdout, row->sample[side][i].value);
		ring += row->sample[side][i].ring_bytes;
		kernel += row->sample[side][i].kernel_bytes;
	}
	printf("]");
	if (side == SIDE_GNEZDO)
		printf(",\"ring_bytes\":%lu,\"kernel_bytes\":%lu", ring, kernel);
	putchar('}');
}

void bench_json_row(const struct bench *b, const struct bench_row *row, bool first)
{
	struct bench_median kernel, gnezdo;
	const char *error = bench_row_error(row, b);

	printf("%s\n{\"name\":", first ? "" : ",");
	json_string(stdout, row->w->name);
	printf(",\"what\":");
	json_string(stdout, row->w->what);
	printf(",\"unit\":\"%s\",\"higher_is_better\":%s,\"kernel\":", bench_unit_name(row->w->unit),
	       bench_higher_is_better(row->w->unit) ? "true" : "false");
	json_side(row, SIDE_KERNEL);
	if (!b->kernel_only) {
		bench_median(row, SIDE_KERNEL, &kernel);
		bench_median(row, SIDE_GNEZDO, &gnezdo);
		printf(",\"gnezdo\":");
		json_side(row, SIDE_GNEZDO);
		printf(",\"ratio\":");
		json_number(stdout, bench_ratio(row->w, &kernel, &gnezdo));
		printf(",\"lane\":\"%s\"", gnezdo.on_ring > 0 ? "ring" : "kernel");
	}
	printf(",\"error\":");
	if (error)
		json_string(stdout, error);
	else
		printf("null");
	putchar('}');
	fflush(stdout);
}

void bench_json_tail(void)
{
	printf("\n]}\n");
	fflush(stdout);
}
