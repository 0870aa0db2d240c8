/* SPDX-License-Identifier: MIT */
/*
 * `gnezdo run`: sets up the preload and becomes the program.
 *
 * The program replaces this process, so its exit status, signals and terminal are those of the program alone. [LANE-1] A program
 * that cannot take the preload runs all the same, on the plain kernel, and the user is told.
 */
#include "cli/cli.h"
#include "cli/program.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SPIN_MAX_US 1000000

const char run_usage[] =
	"usage: gnezdo run [--stats] [--lane auto|kernel|ring] [--spin US] [--] COMMAND [ARGUMENTS...]\n"
	"\n"
	"Runs COMMAND, and whatever it starts, with gnezdo's sockets.\n"
	"\n"
	"  --stats      at exit, each process tells on stderr what was carried, and where\n"
	"  --lane auto  connections that are busy move to shared memory (the default)\n"
	"  --lane kernel  none does\n"
	"  --lane ring  each does from its first byte (for tests)\n"
	"  --spin US    longest time that a reader looks for data before it sleeps, in microseconds\n"
	"\n"
	"Exit status: that of COMMAND; 125 gnezdo's own error, 126 COMMAND cannot be run, 127 COMMAND not found.\n";

struct run_options {
	const char *lane, *spin; /* NULL: not given, the environment stays as it is */
	bool stats;
};

static int options_read(struct run_options *options, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "stats", no_argument, NULL, 's' },
		{ "lane", required_argument, NULL, 'l' },
		{ "spin", required_argument, NULL, 'p' },
		{ NULL, 0, NULL, 0 },
	};
	long number;
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "+:", longs, NULL)) != -1) {
		switch (c) {
		case 's':
			options->stats = true;
			break;
		case 'l':
			if (strcmp(optarg, "auto") && strcmp(optarg, "kernel") && strcmp(optarg, "ring"))
				return cli_error(CLI_OWN_ERROR, "run: --lane is auto, kernel or ring, not '%s'", optarg);
			options->lane = optarg;
			break;
		case 'p':
			if (cli_number(optarg, 0, SPIN_MAX_US, &number))
				return cli_error(CLI_OWN_ERROR, "run: --spin is a number of microseconds, 0 to %d, not '%s'",
						 SPIN_MAX_US, optarg);
			options->spin = optarg;
			break;
		default:
			return cli_option_error(c, argv);
		}
	}
	if (optind == argc)
		return cli_error(CLI_OWN_ERROR, "run: which program? See gnezdo help run");
	return CLI_OK;
}

/* Is `library` an entry of `list`, whose entries end at spaces and colons? */
static bool preload_has(const char *list, const char *library)
{
	size_t len = strlen(library);

	for (const char *at = list; (at = strstr(at, library)); at++)
		if ((at == list || strchr(": ", at[-1])) && (!at[len] || strchr(": ", at[len])))
			return true;
	return false;
}

static int preload_set(void)
{
	const char *old = getenv("LD_PRELOAD");
	char library[PATH_MAX];
	char *list = NULL;
	int rc = cli_library(library, sizeof(library));

	if (rc)
		return cli_error(CLI_OWN_ERROR, "libgnezdo.so is neither beside gnezdo, nor in ../lib, nor where it was installed");
	if (strpbrk(library, ": "))
		return cli_error(CLI_OWN_ERROR, "the path of libgnezdo.so may hold no space and no colon: %s", library);
	if (old && preload_has(old, library))
		return CLI_OK;
	if (asprintf(&list, "%s%s%s", library, old && *old ? ":" : "", old ? old : "") < 0)
		return cli_error(CLI_OWN_ERROR, "no memory");
	rc = setenv("LD_PRELOAD", list, 1);
	free(list);
	return rc ? cli_error(CLI_OWN_ERROR, "no memory") : CLI_OK;
}

static int environment_set(const struct run_options *options)
{
	int rc = 0;

	if (options->lane)
		rc |= setenv("GNEZDO_LANE", options->lane, 1);
	if (options->spin)
		rc |= setenv("GNEZDO_SPIN", options->spin, 1);
	if (options->stats)
		rc |= setenv("GNEZDO_STATS", "1", 1);
	return rc ? cli_error(CLI_OWN_ERROR, "no memory") : CLI_OK;
}

static int exec_error(const char *name, int error)
{
	return cli_error(error == ENOENT ? CLI_NOT_FOUND : CLI_NOT_EXECUTABLE, "%s: %s", name, strerror(error));
}

/* True: the preload is worth setting, for the program or at least for what it starts. */
static bool explain_kind(const char *name, enum program_kind kind)
{
	switch (kind) {
	case PROGRAM_STATIC:
		cli_error(0, "%s is statically linked: runs on the plain kernel", name);
		return true; /* it may start programs that are not */
	case PROGRAM_PRIVILEGED:
		cli_error(0, "%s runs with another user's or extra privileges: runs on the plain kernel", name);
		return true;
	case PROGRAM_FOREIGN:
		cli_error(0, "%s is for another machine, word size or C library: runs on the plain kernel", name);
		return false; /* its dynamic linker would complain, or refuse to start it */
	default:
		return true;
	}
}

int run_main(int argc, char **argv)
{
	struct run_options options = { 0 };
	char path[PATH_MAX];
	int rc = options_read(&options, argc, argv);

	if (rc)
		return rc;
	argv += optind;
	rc = program_find(argv[0], path, sizeof(path));
	if (rc)
		return exec_error(argv[0], -rc);
	rc = environment_set(&options);
	if (!rc && explain_kind(argv[0], program_kind(path)))
		rc = preload_set();
	if (rc)
		return rc;
	execvp(argv[0], argv); /* a script without #! goes to the shell, as from env(1) */
	return exec_error(argv[0], errno);
}
