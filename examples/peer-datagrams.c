/* SPDX-License-Identifier: MIT */
/*
 * Peer to peer with datagrams: both sides bind, connect, send and receive; either may start first.
 *
 *     peer-datagrams MINE THEIRS TEXT
 *     peer-datagrams -u /tmp/a -u /tmp/b hello       here
 *     peer-datagrams -u /tmp/b -u /tmp/a hi          and there
 *
 * socket, bind, connect, sendto, recvfrom, close.
 *
 * A datagram may be lost, and is when nobody is there yet. So each side repeats its own until the other side says that it has come.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "address.h"

#define USAGE "usage: peer-datagrams MINE THEIRS TEXT\nMINE, THEIRS: " ADDRESS_USAGE "\n"
#define PATIENCE_S 5

struct letter {
	char seen; /* 1: the writer has had a letter of the reader */
	char text[500];
};

static int nobody_yet(int err)
{
	return err == ECONNREFUSED || err == ENOENT || err == EAGAIN || err == ENOTCONN || err == EDESTADDRREQ || err == ECONNRESET;
}

/* Lost letters are no error, whatever the domain calls it. */
static void post(int fd, const struct address *to, const struct letter *l)
{
	/* connected: only the peer is heard from now on. In the local domain this needs the peer's file. */
	if (connect(fd, (const struct sockaddr *)&to->sa, to->len) && !nobody_yet(errno))
		fail(address_text(to));
	if (sendto(fd, l, 1 + strlen(l->text), 0, NULL, 0) < 0 && !nobody_yet(errno))
		fail("sendto");
}

static void correspond(int fd, const struct address *theirs, const char *text)
{
	struct letter out = { 0 }, in = { 0 };
	struct address from;
	time_t end = time(NULL) + PATIENCE_S;
	int printed = 0;

	snprintf(out.text, sizeof(out.text), "%s", text);
	while (!in.seen) {
		ssize_t n;

		if (time(NULL) > end) {
			errno = ETIMEDOUT;
			fail(address_text(theirs));
		}
		post(fd, theirs, &out);
		from.len = sizeof(from.sa);
		n = recvfrom(fd, &in, sizeof(in) - 1, 0, (struct sockaddr *)&from.sa, &from.len);
		if (n < 0 && !nobody_yet(errno))
			fail("recvfrom");
		if (n <= 0)
			continue;
		((char *)&in)[n] = 0;
		out.seen = 1;
		if (!printed)
			printf("%s says: %s\n", address_text(&from), in.text);
		printed = 1;
	}
	post(fd, theirs, &out); /* it may still be waiting for this */
}

int main(int argc, char **argv)
{
	const struct timeval a_while = { .tv_usec = 50000 };
	struct address mine, theirs;
	char **v = argv + 1;
	int fd;

	if (argc < 2) {
		fputs(USAGE, stderr);
		return 2;
	}
	address_take(&mine, &v);
	address_take(&theirs, &v);
	if (!v[0] || v[1])
		misuse("one text is needed after the two addresses");
	if (mine.sa.ss_family != theirs.sa.ss_family)
		misuse("both addresses must be of one domain");
	if (strlen(v[0]) >= sizeof(((struct letter *)0)->text))
		misuse("the text is too long for one letter");
	fd = address_socket(&mine, SOCK_DGRAM, 1);
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &a_while, sizeof(a_while)))
		fail("setsockopt");
	correspond(fd, &theirs, v[0]);
	close(fd);
	return 0;
}
