/* SPDX-License-Identifier: MIT */
/* `gnezdo ss`: lists every living endpoint of this user, and why it is where it is. [LANE-5] */
#include "cli/cli.h"
#include "cli/ss.h"

#include <getopt.h>
#include <string.h>

const char ss_usage[] = "usage: gnezdo ss [--json]\n"
			"\n"
			"Lists the sockets that gnezdo carries, of all your processes (root: of everybody's), with columns like ss(8) and:\n"
			"\n"
			"  Tx, Rx     the lane of each direction: ring (shared memory) or kernel\n"
			"  Tx-Bytes, Rx-Bytes  moved so far, by both lanes\n"
			"  Why        what keeps it off the ring\n";

static int list_print(bool json)
{
	struct ss_list list = { 0 };
	struct kernel_table table = { 0 };
	int rc = ss_list_read(&list);

	if (!rc)
		rc = kernel_table_read(&table);
	if (!rc) {
		ss_list_match(&list, &table);
		rc = json ? ss_print_json(&list) : ss_print_table(&list);
	}
	ss_list_fini(&list);
	kernel_table_fini(&table);
	if (rc)
		return cli_error(CLI_FAILED, "ss: %s", strerror(-rc));
	return fflush(stdout) ? CLI_FAILED : CLI_OK;
}

int ss_main(int argc, char **argv)
{
	static const struct option longs[] = { { "json", no_argument, NULL, 'j' }, { NULL, 0, NULL, 0 } };
	bool json = false;
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":", longs, NULL)) != -1) {
		if (c != 'j')
			return cli_option_error(c, argv);
		json = true;
	}
	if (optind < argc)
		return cli_error(CLI_OWN_ERROR, "ss: '%s' is too much; see gnezdo help ss", argv[optind]);
	return list_print(json);
}
