/* SPDX-License-Identifier: MIT */
/* JSON strings from any bytes: what comes out is valid, and UTF-8 passes unchanged. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/unit.h"
#include "cli/json.h"

static void expect(const char *text, const char *wanted)
{
	char *got = NULL;
	size_t size;
	FILE *f = open_memstream(&got, &size);

	json_string(f, text);
	fclose(f);
	ck_assert_str_eq(got, wanted);
	free(got);
}

GN_TEST(quotes_backslashes_and_control_characters_are_escaped)
{
	expect("a\"b\\c", "\"a\\\"b\\\\c\"");
	expect("\n\x1f\x7f", "\"\\u000a\\u001f\\u007f\"");
	expect("", "\"\"");
}

GN_TEST(utf8_passes_unchanged)
{
	expect("гнездо \xe2\x82\xac \xf0\x9f\xa5\x9a", "\"гнездо \xe2\x82\xac \xf0\x9f\xa5\x9a\"");
}

GN_TEST(what_is_not_utf8_is_replaced_byte_by_byte)
{
	expect("\xff", "\"\\ufffd\"");
	expect("a\xc3", "\"a\\ufffd\"");                             /* cut short */
	expect("\xc0\xaf", "\"\\ufffd\\ufffd\"");                   /* too long a form */
	expect("\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\"");        /* a surrogate */
	expect("\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\""); /* beyond Unicode */
}

GN_TEST(numbers_that_json_does_not_know_are_null)
{
	char *got = NULL;
	size_t size;
	FILE *f = open_memstream(&got, &size);

	json_number(f, 1.5);
	putc(' ', f);
	json_number(f, NAN);
	putc(' ', f);
	json_number(f, INFINITY);
	fclose(f);
	ck_assert_str_eq(got, "1.5 null null");
	free(got);
}

int main(void)
{
	return gn_unit_run("json");
}
