/* SPDX-License-Identifier: MIT */
/*
 * A histogram of times that never allocates: exact below 128 ns, then 128 steps per power of two (an error below 0.8 %).
 *
 * Units: nanoseconds. All zero bytes are an empty one.
 */
#ifndef GN_CLI_HIST_H
#define GN_CLI_HIST_H

#include <stdint.h>

#define HIST_STEP_BITS 7
#define HIST_STEPS (1u << HIST_STEP_BITS)
#define HIST_TOP_BITS 40 /* longer times, from about 18 minutes, count as this */
#define HIST_BUCKETS ((HIST_TOP_BITS - HIST_STEP_BITS + 1) * HIST_STEPS)

struct hist {
	uint64_t count;
	uint32_t bucket[HIST_BUCKETS];
};

static inline uint32_t hist_index(uint64_t ns)
{
	uint32_t shift;

	if (ns < HIST_STEPS)
		return (uint32_t)ns;
	if (ns >> HIST_TOP_BITS)
		return HIST_BUCKETS - 1;
	shift = 63 - (uint32_t)__builtin_clzll(ns) - HIST_STEP_BITS;
	return (shift << HIST_STEP_BITS) + (uint32_t)(ns >> shift);
}

static inline void hist_add(struct hist *h, uint64_t ns)
{
	h->bucket[hist_index(ns)]++;
	h->count++;
}

void hist_merge(struct hist *to, const struct hist *from);

/* The time that `per_million` millionths of the values do not exceed; 0 when empty. */
uint64_t hist_quantile(const struct hist *h, uint32_t per_million);

#endif
