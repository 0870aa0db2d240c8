/* SPDX-License-Identifier: MIT */
/* Histogram of times: the slow half of hist.h. */
#include "cli/hist.h"

void hist_merge(struct hist *to, const struct hist *from)
{
	to->count += from->count;
	for (uint32_t i = 0; i < HIST_BUCKETS; i++)
		to->bucket[i] += from->bucket[i];
}

/* The middle of what falls into a bucket: the inverse of hist_index(). */
static uint64_t bucket_value(uint32_t index)
{
	uint32_t shift;

	if (index < 2 * HIST_STEPS)
		return index;
	shift = (index >> HIST_STEP_BITS) - 1;
	return ((uint64_t)(index - (shift << HIST_STEP_BITS)) << shift) + (1ull << shift) / 2;
}

uint64_t hist_quantile(const struct hist *h, uint32_t per_million)
{
	uint64_t rank = (uint64_t)((double)h->count * per_million / 1e6), seen = 0;

	for (uint32_t i = 0; i < HIST_BUCKETS; i++) {
		seen += h->bucket[i];
		if (seen > rank || (seen && seen == h->count))
			return bucket_value(i);
	}
	return 0;
}
