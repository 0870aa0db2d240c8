/* SPDX-License-Identifier: MIT */
/*
 * The frame of a unit test (x_test.c): tests of Check, each in a process of its own, reported as TAP. A test is written once and
 * in no list:
 *
 *   GN_TEST(a_thing_does_what_it_should)
 *   {
 *           ck_assert(...);
 *   }
 *
 *   int main(void)
 *   {
 *           return gn_unit_run("thing");
 *   }
 */
#ifndef GN_BASE_UNIT_H
#define GN_BASE_UNIT_H

#include <check.h>
#include <stddef.h>
#include <stdio.h>

#include "base/base.h"

#define GN_UNIT_MAX 256
#define GN_UNIT_DEADLINE_S 30

static const TTest *gn_unit_tests[GN_UNIT_MAX];
static size_t gn_unit_count;

#define GN_TEST(test)                                                               \
	static void test(int);                                                      \
	static const TTest test##_ttest = {#test, test, __FILE__, __LINE__};        \
	__attribute__((constructor)) static void test##_register(void)              \
	{                                                                           \
		GN_ASSERT(gn_unit_count < GN_UNIT_MAX);                             \
		gn_unit_tests[gn_unit_count++] = &test##_ttest;                     \
	}                                                                           \
	static void test(int unused_ __attribute__((unused)))

/* Runs the tests of this file in their order. The program's exit status. */
static inline int gn_unit_run(const char *name)
{
	Suite *suite = suite_create(name);
	TCase *all = tcase_create("test");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_set_timeout(all, GN_UNIT_DEADLINE_S); /* of each test */
	for (size_t i = 0; i < gn_unit_count; i++)
		tcase_add_test(all, gn_unit_tests[i]);
	suite_add_tcase(suite, all);
	srunner_set_tap(runner, "-");
	srunner_run_all(runner, CK_SILENT);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}

/* For a test that this machine cannot run: says why in the report; return from the test afterwards. */
static inline void gn_unit_skip(const char *test, const char *why)
{
	printf("# skipped %s: %s\n", test, why);
	fflush(stdout);
}

#endif
