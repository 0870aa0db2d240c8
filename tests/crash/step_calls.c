/* SPDX-License-Identifier: MIT */
/* The calls that step.c kills a victim in. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "step.h"

static int set;       /* of epoll */
static int pair[2];
static char much[150000];

static void nothing(int fd)
{
	(void)fd;
}

static void until_readable(int fd)
{
	char c;

	if (recv(fd, &c, 1, MSG_PEEK) != 1)
		exit(4);
}

static void until_blocked(int fd)
{
	until_readable(fd);
	usleep(3000);
}

static void until_pinned(int fd)
{
	(void)fd;
	stage_await(1);
}

static void writes(int fd)
{
	pattern_send(fd, 'a', board->wrote, WORD, 0);
}

static void writes_twice(int fd)
{
	writes(fd);
	writes(fd);
}

static void writes_by_msg(int fd)
{
	char word[WORD];
	struct iovec iov[2] = { { word, 5 }, { word + 5, WORD - 5 } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };

	for (size_t i = 0; i < WORD; i++)
		word[i] = pattern('a', board->wrote + i);
	if (sendmsg(fd, &msg, MSG_NOSIGNAL) != WORD)
		exit(4);
	board->wrote += WORD;
}

/* More than a piece, so that the reader is told of some before all are there. */
static void writes_much(int fd)
{
	pattern_send(fd, 'a', board->wrote, 100000, 0);
}

static void fills(int fd)
{
	while (pattern_send(fd, 'a', board->wrote, kind & STREAMS ? 20000 : WORD, MSG_DONTWAIT) > 0)
		;
}

static void reads(int fd)
{
	char buf[WORD];

	if (recv(fd, buf, sizeof(buf), 0) < 0)
		exit(4);
}

static void peeks_and_reads(int fd)
{
	char buf[WORD];

	if (recv(fd, buf, sizeof(buf), MSG_PEEK) < 0)
		exit(4);
	reads(fd);
}

static void reads_all(int fd)
{
	char buf[WORD];
	struct iovec iov[2] = { { buf, 3 }, { buf + 3, WORD - 3 } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };

	if (recvmsg(fd, &msg, MSG_WAITALL) < 0)
		exit(4);
}

static void reads_much(int fd)
{
	if (recv(fd, much, sizeof(much), 0) < 0)
		exit(4);
}

static void reads_nothing(int fd)
{
	char c;

	if (recv(fd, &c, 1, MSG_DONTWAIT) >= 0 || errno != EAGAIN)
		exit(4);
}

static void reads_and_writes(int fd)
{
	reads(fd);
	writes_twice(fd);
}

static void polls(int fd)
{
	struct pollfd p = { fd, POLLIN, 0 };

	if (poll(&p, 1, -1) != 1)
		exit(4);
}

static void selects(int fd)
{
	fd_set in;

	FD_ZERO(&in);
	FD_SET(fd, &in);
	if (select(fd + 1, &in, NULL, NULL, NULL) != 1)
		exit(4);
}

static void adds(int fd)
{
	struct epoll_event ev = { .events = EPOLLIN };

	if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &ev))
		exit(4);
}

static void makes_set(int fd)
{
	(void)fd;
	set = epoll_create1(0);
}

static void makes_set_and_adds(int fd)
{
	makes_set(fd);
	adds(fd);
}

static void set_waits(int fd)
{
	struct epoll_event ev;

	if (epoll_wait(set, &ev, 1, -1) != 1)
		exit(4);
	reads(fd);
}

static void changes_set(int fd)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT | EPOLLET };

	adds(fd);
	if (epoll_ctl(set, EPOLL_CTL_MOD, fd, &ev) || epoll_wait(set, &ev, 1, 0) < 0 || epoll_ctl(set, EPOLL_CTL_DEL, fd, &ev))
		exit(4);
}

static void writes_with_set(int fd)
{
	for (int i = 0; i < 3; i++)
		writes(fd);
}

static void forks(int fd)
{
	(void)fd;
	if (fork() == 0)
		_exit(0);
}

static void goes_back(int fd)
{
	dup2(fd, 0);
}

static void makes_pair(int fd)
{
	(void)fd;
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		exit(4);
}

static void passes(int fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	struct iovec iov = { much, 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	if (sendmsg(pair[0], &msg, 0) != 1)
		exit(4);
}

static void execs(int fd)
{
	fcntl(fd, F_SETFD, 0);
	execl("/bin/true", "true", (char *)NULL);
}

static void shuts_writing(int fd)
{
	shutdown(fd, SHUT_WR);
}

static void shuts_reading(int fd)
{
	shutdown(fd, SHUT_RD);
}

static void shuts_both(int fd)
{
	shutdown(fd, SHUT_RDWR);
}

static void closes(int fd)
{
	close(fd);
}

/* Both go to the ring, and this side is far behind. Killed before the survivor has had all words, the victim would reset the connection. */
static void lags(int fd)
{
	char buf[WORD];

	until_readable(fd);
	for (int i = 0; i < AHEAD_ROUNDS; i++)
		if (send(fd, buf, WORD, MSG_NOSIGNAL) != WORD || recv(fd, buf, WORD, MSG_WAITALL) != WORD)
			exit(4);
	stage_await(1);
}

static void reads_on(int fd)
{
	char buf[AHEAD_READ];

	if (recv(fd, buf, sizeof(buf), 0) < 0)
		exit(4);
}

/* The first to come waits for the other at the meeting. */
static void meets_first(int fd)
{
	writes(fd);
	reads(fd);
	for (int i = 0; i < 3; i++)
		writes(fd);
}

static void meets_second(int fd)
{
	for (int i = 0; i < 4; i++)
		writes(fd);
}

/* Both ways at once, as a server does. */
static void meets_reading(int fd)
{
	reads(fd);
	for (int i = 0; i < 3; i++)
		writes(fd);
}

static void half_goes(int fd)
{
	reads(fd);
	writes(fd);
}

static void connects(int fd)
{
	if (connect(fd, (const struct sockaddr *)&board->at[0], board->at_len[0]))
		exit(4);
	writes_twice(fd);
}

static void listens(int fd)
{
	(void)fd;
	/* step.c has made it a listener; the survivor has called, and sent a word */
	stage_await(1);
}

static void accepts(int fd)
{
	int conn = accept(fd, NULL, NULL);

	if (conn < 0)
		exit(4);
	reads(conn);
	writes_twice(conn);
}

const struct call calls[] = {
	{ "write", nothing, writes, ALL, 0 },
	{ "write to nobody who sleeps", nothing, writes, ALL, LATE },
	{ "write of pieces", nothing, writes_by_msg, ALL, 0 },
	{ "write of much", nothing, writes_much, STREAMS, MUCH },
	{ "write, full", fills, writes, CIRCUITS | DGRAM, LATE | MUCH },
	{ "read", until_readable, reads, ALL, GREETED },
	{ "look and read", until_readable, peeks_and_reads, ALL, GREETED },
	{ "read of all", until_readable, reads_all, ALL, GREETED },
	{ "read of nothing", nothing, reads_nothing, ALL, 0 },
	{ "read, asleep", nothing, reads, ALL, ANSWERS },
	{ "read, asleep beside a sibling", nothing, reads, ALL, ANSWERS | DUET | SHARED },
	{ "write beside a sibling asleep", nothing, writes, ALL, DUET | SHARED | LATE },
	{ "read of much, the writer blocked", until_blocked, reads_much, STREAMS, FLOODED | MUCH },
	{ "read behind the switch", lags, reads_on, STREAMS, AHEAD | COLD },
	{ "poll, asleep", nothing, polls, ALL, ANSWERS },
	{ "select, asleep", nothing, selects, ALL, ANSWERS },
	{ "epoll_wait, asleep", makes_set_and_adds, set_waits, ALL, ANSWERS },
	{ "epoll_wait, asleep beside a sibling", makes_set_and_adds, set_waits, ALL, ANSWERS | DUET | SHARED },
	{ "epoll_ctl", makes_set, changes_set, ALL, 0 },
	{ "fork", nothing, forks, ALL, 0 },
	{ "fork with a set", makes_set_and_adds, forks, ALL, 0 },
	{ "promotion, second to come", nothing, meets_second, ALL, COLD },
	{ "promotion, first to come", nothing, meets_first, ALL, COLD | MEETS },
	{ "promotion, reading", nothing, meets_reading, ALL, COLD | GREETED },
	{ "promotion with a set", makes_set_and_adds, writes_with_set, CIRCUITS, COLD },
	{ "promotion of the second half", half_goes, reads_and_writes, CIRCUITS, COLD | HALVES },
	{ "demotion", nothing, goes_back, ALL, 0 },
	{ "demotion by the peer", until_pinned, writes_twice, ALL, PINNED },
	{ "demotion by the peer, reading", until_pinned, reads_and_writes, ALL, PINNED | GREETED },
	{ "a descriptor passed", makes_pair, passes, ALL, 0 },
	{ "exec", nothing, execs, ALL, 0 },
	{ "shutdown of writing", nothing, shuts_writing, CIRCUITS, ENDS },
	{ "shutdown of reading", nothing, shuts_reading, CIRCUITS, ENDS },
	{ "shutdown of both", nothing, shuts_both, CIRCUITS, ENDS },
	{ "close", nothing, closes, ALL, 0 },
	{ "close with a set", makes_set_and_adds, closes, ALL, 0 },
	{ "connect", nothing, connects, CIRCUITS, COLD | CONNECTS | ALONE },
	{ "accept", listens, accepts, CIRCUITS, COLD | ACCEPTS },
};
const size_t calls_count = sizeof(calls) / sizeof(calls[0]);
