/* SPDX-License-Identifier: MIT */
/* Writing JSON (RFC 8259) to a stream. */
#ifndef GN_CLI_JSON_H
#define GN_CLI_JSON_H

#include <stdio.h>

/* `text` as a string with its quotes. Bytes that are not UTF-8 become U+FFFD, so that any file name gives valid JSON. */
void json_string(FILE *to, const char *text);

/* A number; `null` for what JSON cannot say (not a number, infinite). */
void json_number(FILE *to, double value);

#endif
