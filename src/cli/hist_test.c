/* SPDX-License-Identifier: MIT */
/* The histogram: exact where it says so, close elsewhere, quantiles of known values. */
#include "base/unit.h"
#include "cli/hist.h"

static struct hist h;

static uint64_t only_value(uint64_t ns)
{
	h = (struct hist){0};
	hist_add(&h, ns);
	return hist_quantile(&h, 500000);
}

GN_TEST(small_times_are_exact)
{
	for (uint64_t ns = 0; ns < 2 * HIST_STEPS; ns++)
		ck_assert_uint_eq(only_value(ns), ns);
}

GN_TEST(large_times_are_right_to_a_hundredth_on_both_sides_of_every_power_of_two)
{
	for (unsigned int bit = 8; bit < HIST_TOP_BITS; bit++)
		for (uint64_t ns = (1ull << bit) - 1; ns <= (1ull << bit) + 1; ns++) {
			uint64_t got = only_value(ns), off = got > ns ? got - ns : ns - got;

			ck_assert_uint_le(off * 100, ns);
		}
}

GN_TEST(longer_times_than_it_knows_count_as_the_longest)
{
	ck_assert_uint_ge(only_value(UINT64_MAX), (1ull << HIST_TOP_BITS) / 100 * 99);
}

GN_TEST(quantiles_of_a_hundred_values_are_those_of_the_sorted_list)
{
	h = (struct hist){0};
	for (uint64_t ns = 1; ns <= 100; ns++)
		hist_add(&h, ns);
	ck_assert_uint_eq(hist_quantile(&h, 500000), 51);
	ck_assert_uint_eq(hist_quantile(&h, 990000), 100);
	ck_assert_uint_eq(hist_quantile(&h, 1000000), 100);
	ck_assert_uint_eq(hist_quantile(&h, 0), 1);
}

GN_TEST(an_empty_one_has_no_quantiles_and_merging_adds_up)
{
	static struct hist sum;

	h = (struct hist){0};
	ck_assert_uint_eq(hist_quantile(&h, 500000), 0);
	hist_add(&h, 5);
	hist_merge(&sum, &h);
	hist_merge(&sum, &h);
	ck_assert_uint_eq(sum.count, 2);
	ck_assert_uint_eq(hist_quantile(&sum, 500000), 5);
}

int main(void)
{
	return gn_unit_run("hist");
}
