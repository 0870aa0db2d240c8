/* SPDX-License-Identifier: MIT */
/* `gnezdo`: picks the subcommand from a table. */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

static const struct cli_command commands[] = {
	{ "run", run_main, "run a program with gnezdo's sockets", run_usage },
	{ "ss", ss_main, "list the sockets that gnezdo carries", ss_usage },
	{ "bench", bench_main, "measure gnezdo beside the plain kernel", bench_usage },
	{ "measure", measure_main, NULL, measure_usage },
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static const struct cli_command *command_find(const char *name)
{
	for (size_t i = 0; i < COMMANDS; i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	return NULL;
}

/* Exit code of something that only prints: a full disk or a closed pipe is a failure too. */
static int printed(void)
{
	return fflush(stdout) || ferror(stdout) ? CLI_FAILED : CLI_OK;
}

static int print_help(void)
{
	printf("usage: gnezdo COMMAND [ARGUMENTS...]\n\n");
	for (size_t i = 0; i < COMMANDS; i++)
		if (commands[i].summary)
			printf("  %-8s %s\n", commands[i].name, commands[i].summary);
	printf("  %-8s %s\n", "help", "explain a command: gnezdo help run");
	printf("\n  --help, --version\n\nTry it: gnezdo run -- redis-server\n");
	return printed();
}

static int print_usage(const struct cli_command *command)
{
	fputs(command->usage, stdout);
	return printed();
}

static int help_main(int argc, char **argv)
{
	const struct cli_command *command;

	if (argc < 2)
		return print_help();
	command = command_find(argv[1]);
	return command ? print_usage(command) : cli_error(CLI_OWN_ERROR, "no command '%s'; see gnezdo --help", argv[1]);
}

/* --help before the first argument that is not an option belongs to gnezdo, behind it to the program being run. */
static bool wants_help(int argc, char **argv)
{
	for (int i = 1; i < argc && argv[i][0] == '-' && strcmp(argv[i], "--"); i++)
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
			return true;
	return false;
}

int main(int argc, char **argv)
{
	const struct cli_command *command;

	if (argc < 2)
		return cli_error(CLI_OWN_ERROR, "which command? See gnezdo --help");
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
		return print_help();
	if (!strcmp(argv[1], "help"))
		return help_main(argc - 1, argv + 1);
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
		puts("gnezdo " GNEZDO_VERSION);
		return printed();
	}
	command = command_find(argv[1]);
	if (!command)
		return cli_error(CLI_OWN_ERROR, "no command '%s'; see gnezdo --help", argv[1]);
	if (wants_help(argc - 1, argv + 1))
		return print_usage(command);
	return command->main(argc - 1, argv + 1);
}
