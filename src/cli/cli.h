/* SPDX-License-Identifier: MIT */
/*
 * What the subcommands of `gnezdo` share: entry points, exit codes, error lines, where the library is.
 *
 * Errors: a subcommand returns the process's exit code; functions named cli_* return 0 or -errno unless they say otherwise.
 */
#ifndef GN_CLI_CLI_H
#define GN_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>

#ifndef GNEZDO_VERSION
#define GNEZDO_VERSION "0.1.0"
#endif

enum cli_exit { /* those above 100 are env(1)'s */
	CLI_OK = 0,
	CLI_FAILED = 1,          /* the command ran and its answer is bad news */
	CLI_OWN_ERROR = 125,     /* wrong usage, or gnezdo itself is not complete */
	CLI_NOT_EXECUTABLE = 126,
	CLI_NOT_FOUND = 127,
};

struct cli_command {
	const char *name;
	int (*main)(int argc, char **argv); /* argv[0] is the subcommand's name */
	const char *summary;                /* NULL: hidden from the list */
	const char *usage;
};

int run_main(int argc, char **argv);
int ss_main(int argc, char **argv);
int bench_main(int argc, char **argv);
int measure_main(int argc, char **argv);

extern const char run_usage[], ss_usage[], bench_usage[], measure_usage[];

/* Prints `gnezdo: ...` as one line on stderr, in one write, and returns `code`. */
__attribute__((format(printf, 2, 3))) int cli_error(int code, const char *format, ...);

/* What getopt_long() left in optind and optopt for '?' or ':', as one line. Returns CLI_OWN_ERROR. */
int cli_option_error(int found, char **argv);

/* A decimal number in [low, high], nothing before or after it. -EINVAL, -ERANGE. */
int cli_number(const char *text, long low, long high, long *to);

/* A template for mkdtemp(): NAME-XXXXXX in $TMPDIR or /tmp. */
void cli_temporary_name(char *to, size_t size, const char *name);

/* The path of this executable. */
int cli_self(char *to, size_t size);

/* The path of libgnezdo.so: beside the executable, in ../lib, or where it was installed. -ENOENT: none of them. */
int cli_library(char *to, size_t size);

#endif
