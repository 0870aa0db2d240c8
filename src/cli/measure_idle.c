/* SPDX-License-Identifier: MIT */
/*
 * Memory of idle TCP connections on 127.0.0.1, both ends, kernel and user space together.
 *
 * Counted are the kernel's memory and shared memory of the whole machine, before anything exists and while all connections stand
 * idle, and the private memory of the two processes. So nobody can hide memory in the kernel or in another process; what other
 * processes allocate privately meanwhile is left out. Other programs that use the kernel still disturb: take the median of several.
 */
#include "cli/cli.h"
#include "cli/measure.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_S 60
#define SPARE_FDS 128
#define SETTLE_LOOKS 40
#define SETTLED_BYTES 131072

/* Sums the values of these names in a file of lines "Name: N kB", in bytes. */
static int64_t sum_kb(const char *path, const char *const *names)
{
	FILE *f = fopen(path, "re");
	char line[256], name[64];
	int64_t kb, sum = 0;

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%63[^:]: %" SCNd64, name, &kb) != 2)
			continue;
		for (const char *const *wanted = names; *wanted; wanted++)
			if (!strcmp(name, *wanted))
				sum += kb;
	}
	if (f)
		fclose(f);
	return sum * 1024;
}

static int64_t memory_of_kernel(void)
{
	static const char *const names[] = { "Slab", "VmallocUsed", "Percpu", "PageTables", "Shmem", NULL };

	return sum_kb("/proc/meminfo", names);
}

/* What shared memory holds is in the kernel's sum already. */
static int64_t memory_of_process(pid_t pid)
{
	static const char *const names[] = { "Pss_Anon", "Pss_File", NULL };
	char path[48];

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
	return sum_kb(path, names);
}

/* The kernel frees sockets of an earlier measurement some time after they were closed: waits until its memory falls no more. */
static int64_t memory_settled(void)
{
	const struct timespec pause = { .tv_nsec = 50000000 };
	int64_t last = memory_of_kernel(), now;

	for (int i = 0; i < SETTLE_LOOKS; i++) {
		nanosleep(&pause, NULL);
		now = memory_of_kernel();
		if (now > last - SETTLED_BYTES)
			return now;
		last = now;
	}
	return last;
}

/* As many descriptors as allowed. Returns how many connections fit. */
static long connections_possible(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return 0;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	return (long)limit.rlim_cur - SPARE_FDS;
}

static void exchange(struct role *r, int fd, bool first)
{
	char byte = 'x';

	if (first)
		role_send(r, fd, &byte, 1);
	errno = 0;
	if (!role_recv(r, fd, &byte, 1))
		role_fail(r, "a connection ended");
	if (!first)
		role_send(r, fd, &byte, 1);
}

struct idle {
	struct measure_shared *shared;
	long n;
	int told[2];  /* the server tells the client its address */
	int ready[2]; /* each child writes a byte when all its connections stand */
	int go[2];    /* end of file: let them go */
	pid_t children[2];
};

/* Opens or takes all connections, says so, and holds them until the first process lets go. */
static _Noreturn void hold(const struct idle *idle, struct role *r, bool client)
{
	struct linger at_once = { .l_onoff = 1 }; /* no TIME_WAIT behind: it would spoil the next measurement */
	int *fds = calloc((size_t)idle->n, sizeof(*fds)), listener = -1;
	struct sockaddr_storage at;
	socklen_t len = 0;
	char byte;

	if (!fds)
		role_fail(r, "calloc");
	if (client)
		len = meet_address(r, &at);
	else
		listener = meet_listen(r);
	for (long i = 0; i < idle->n; i++) {
		fds[i] = client ? meet_connect(r, &at, len) : accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fds[i] < 0)
			role_fail(r, "accept");
		exchange(r, fds[i], client);
	}
	if (write(idle->ready[1], "x", 1) != 1 || read(idle->go[0], &byte, 1))
		role_fail(r, "the first process is gone");
	for (long i = 0; i < idle->n; i++) {
		setsockopt(fds[i], SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
		close(fds[i]);
	}
	exit(CLI_OK);
}

static int children_start(struct idle *idle)
{
	static const struct workload tcp = { .name = "idle", .via = VIA_TCP };

	for (int client = 0; client < 2; client++) {
		struct role r = { .w = &tcp, .result = &idle->shared->result[0][client], .to_peer = idle->told[1],
				  .from_peer = idle->told[0] };

		idle->children[client] = fork();
		if (idle->children[client] < 0)
			return cli_error(CLI_FAILED, "measure: fork: %s", strerror(errno));
		if (idle->children[client])
			continue;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		alarm(PATIENCE_S);
		close(idle->ready[0]);
		close(idle->go[1]);
		hold(idle, &r, client);
	}
	return CLI_OK;
}

static int children_wait(const struct idle *idle)
{
	int rc = CLI_OK, status;

	for (int client = 0; client < 2; client++) {
		if (idle->children[client] <= 0 || waitpid(idle->children[client], &status, 0) < 0 || !status)
			continue;
		rc = cli_error(CLI_FAILED, "measure: idle: %s: %s", client ? "client" : "server",
			       idle->shared->result[0][client].error);
	}
	return rc;
}

/* Both children have all their connections; false: one of them gave up. */
static bool all_ready(const struct idle *idle)
{
	int count = 0;
	char byte;

	while (count < 2 && read(idle->ready[0], &byte, 1) == 1)
		count++;
	return count == 2;
}

int idle_measure(long connections)
{
	struct idle idle = { .n = connections, .children = { -1, -1 } };
	int64_t before, after = 0;
	int rc;

	if (connections > connections_possible())
		return cli_error(CLI_FAILED, "measure: idle: only %ld descriptors are allowed here", connections_possible());
	idle.shared = mmap(NULL, sizeof(*idle.shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (idle.shared == MAP_FAILED || pipe2(idle.told, O_CLOEXEC) || pipe2(idle.ready, O_CLOEXEC) || pipe2(idle.go, O_CLOEXEC))
		return cli_error(CLI_FAILED, "measure: idle: %s", strerror(errno));
	before = memory_settled();
	rc = children_start(&idle);
	close(idle.ready[1]);
	close(idle.go[0]);
	if (!rc && all_ready(&idle))
		after = memory_settled() + memory_of_process(idle.children[0]) + memory_of_process(idle.children[1]);
	close(idle.go[1]);
	rc = children_wait(&idle) || rc || !after ? CLI_FAILED : CLI_OK;
	if (!rc)
		printf("connections=%ld bytes=%" PRId64 " per_connection=%" PRId64 "\n", connections, after - before,
		       (after - before) / connections);
	return rc;
}
