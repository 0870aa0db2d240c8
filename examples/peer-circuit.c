/* SPDX-License-Identifier: MIT */
/*
 * Peer to peer over a virtual circuit: no server. Both sides bind, and both connect to each other.
 *
 *     peer-circuit [--wait SECONDS] MINE THEIRS TEXT
 *     peer-circuit -4 127.0.0.1 7001 -4 127.0.0.1 7002 hello     here
 *     peer-circuit -4 127.0.0.1 7002 -4 127.0.0.1 7001 hi        and there, in either order
 *
 * socket, bind, connect, send, recv, shutdown, close.
 *
 * The kernel joins two such callers only when their first packets (SYN) happen to cross, and never in the local domain: it answers
 * ECONNREFUSED, and so does this program when its patience ends. Under gnezdo the two meet.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "address.h"

#define USAGE "usage: peer-circuit [--wait SECONDS] MINE THEIRS TEXT\nMINE, THEIRS: " ADDRESS_USAGE "\n"

/* Whoever comes first finds nobody at the other address; it tries again until the other side has come. */
static void meet(int fd, const struct address *theirs, long seconds)
{
	const struct timespec nap = { .tv_nsec = 20000000 };
	time_t end = time(NULL) + seconds;

	while (connect(fd, (const struct sockaddr *)&theirs->sa, theirs->len)) {
		if (errno != ECONNREFUSED && errno != ENOENT && errno != ECONNABORTED)
			fail(address_text(theirs));
		if (time(NULL) > end) {
			fputs("the two did not meet; the plain kernel joins two callers only when their SYNs cross\n", stderr);
			fail(address_text(theirs));
		}
		nanosleep(&nap, NULL);
	}
}

static void exchange(int fd, const char *text)
{
	char buf[1000];
	ssize_t n;

	if (send(fd, text, strlen(text), MSG_NOSIGNAL) != (ssize_t)strlen(text))
		fail("send");
	if (shutdown(fd, SHUT_WR)) /* the other side reads until here */
		fail("shutdown");
	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0)
		fwrite(buf, 1, (size_t)n, stdout);
	if (n < 0)
		fail("recv");
	putchar('\n');
}

int main(int argc, char **argv)
{
	struct address mine, theirs;
	long seconds = 5;
	char **v = argv + 1, *end;
	int fd;

	if (argc < 2) {
		fputs(USAGE, stderr);
		return 2;
	}
	if (!strcmp(*v, "--wait")) {
		seconds = v[1] ? strtol(v[1], &end, 10) : -1;
		if (seconds < 0 || *end)
			misuse("--wait needs a number of seconds");
		v += 2;
	}
	address_take(&mine, &v);
	address_take(&theirs, &v);
	if (!v[0] || v[1])
		misuse("one text is needed after the two addresses");
	if (mine.sa.ss_family != theirs.sa.ss_family)
		misuse("both addresses must be of one domain");
	fd = address_socket(&mine, SOCK_STREAM, 1);
	meet(fd, &theirs, seconds);
	exchange(fd, v[0]);
	close(fd);
	return 0;
}
