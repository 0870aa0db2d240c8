/* SPDX-License-Identifier: MIT */
/* Small helpers of the subcommands: error lines, numbers, where things are. */
#include "cli/cli.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef GNEZDO_LIBRARY /* where `make install` put it */
#define GNEZDO_LIBRARY "/usr/local/lib/libgnezdo.so"
#endif

int cli_error(int code, const char *format, ...)
{
	char line[PATH_MAX + 256] = "gnezdo: ";
	size_t used = strlen(line);
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(line + used, sizeof(line) - used - 1, format, args);
	va_end(args);
	if (n > 0)
		used += (size_t)n < sizeof(line) - used - 1 ? (size_t)n : sizeof(line) - used - 2;
	line[used++] = '\n';
	if (write(STDERR_FILENO, line, used) < 0)
		return code; /* nobody listens; the exit code still tells */
	return code;
}

int cli_option_error(int found, char **argv)
{
	/* A long option leaves optopt 0 or its own value; then the word itself is the best name. */
	const char *word = argv[optind - 1];

	if (found == ':')
		return cli_error(CLI_OWN_ERROR, "%s: option '%s' needs a value; see gnezdo help %s", argv[0], word, argv[0]);
	if (optopt && optopt < 128 && strncmp(word, "--", 2))
		return cli_error(CLI_OWN_ERROR, "%s: unknown option '-%c'; see gnezdo help %s", argv[0], optopt, argv[0]);
	return cli_error(CLI_OWN_ERROR, "%s: unknown option '%s'; see gnezdo help %s", argv[0], word, argv[0]);
}

int cli_number(const char *text, long low, long high, long *to)
{
	char *end;
	long value;

	if (*text < '0' || *text > '9') /* strtol() would take spaces and signs */
		return -EINVAL;
	errno = 0;
	value = strtol(text, &end, 10);
	if (*end)
		return -EINVAL;
	if (errno || value < low || value > high)
		return -ERANGE;
	*to = value;
	return 0;
}

void cli_temporary_name(char *to, size_t size, const char *name)
{
	const char *dir = getenv("TMPDIR");

	snprintf(to, size, "%s/%s-XXXXXX", dir && *dir ? dir : "/tmp", name);
}

int cli_self(char *to, size_t size)
{
	ssize_t n = readlink("/proc/self/exe", to, size);

	if (n < 0)
		return -errno;
	if ((size_t)n >= size)
		return -ENAMETOOLONG;
	to[n] = '\0';
	return 0;
}

int cli_library(char *to, size_t size)
{
	static const char *const beside[] = { "libgnezdo.so", "../lib/libgnezdo.so" };
	char self[PATH_MAX], path[PATH_MAX + 32];
	int rc = cli_self(self, sizeof(self));
	char *slash = rc ? NULL : strrchr(self, '/');

	for (size_t i = 0; slash && i < sizeof(beside) / sizeof(beside[0]); i++) {
		slash[1] = '\0';
		snprintf(path, sizeof(path), "%s%s", self, beside[i]);
		if (!access(path, R_OK))
			goto found;
	}
	if (access(GNEZDO_LIBRARY, R_OK))
		return -ENOENT;
	snprintf(path, sizeof(path), "%s", GNEZDO_LIBRARY);
found:
	if (strlen(path) >= size)
		return -ENAMETOOLONG;
	strcpy(to, path);
	return 0;
}
