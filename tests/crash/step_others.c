/* SPDX-License-Identifier: MIT */
/* The survivor at the other end of a victim's connection, and the sibling that shares the victim's end. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "step.h"
#include "trace.h"

#define SIBLING_BYTES 400

struct board *board;
unsigned kind;

enum wrong { BYTES = 10, ERROR, CUT_OFF, WARM_UP, GREETING, LOST, MAPPED, LEAK, NO_END, NOT_READ, NEWCOMER };

const char *wrong_text(int status)
{
	static const char *const text[] = { "wrong bytes", "a wrong error", "the sibling was cut off", "no warm-up", "no greeting",
					    "what the victim had sent is missing", "a segment is still mapped", "a descriptor is left",
					    "writing to the dead does not end", "the sibling did not get all", "a new connection does not work" };
	static char other[60];

	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		return "it hangs";
	if (WIFEXITED(status) && WEXITSTATUS(status) >= BYTES && WEXITSTATUS(status) <= NEWCOMER)
		return text[WEXITSTATUS(status) - BYTES];
	snprintf(other, sizeof(other), "status %x", (unsigned)status);
	return other;
}

static bool is_stream(void)
{
	return kind & STREAMS;
}

void stage_await(int stage)
{
	while (board->stage < stage)
		usleep(100);
}

void process_is_asleep_await(int pid)
{
	for (int seen = 0, looks = 0; seen < 3 && looks < 10000; looks++) {
		char state = task_state(pid);

		if (state == 'Z' || !state)
			break;
		seen = state == 'S' ? seen + 1 : 0;
		usleep(200);
	}
}

size_t pattern_send(int fd, char first, size_t at, size_t n, int flags)
{
	static char buf[100000];
	ssize_t rc;

	for (size_t i = 0; i < n; i++)
		buf[i] = pattern(first, at + i);
	rc = send(fd, buf, n, flags | MSG_NOSIGNAL);
	if (rc < 0 && !((flags & MSG_DONTWAIT) && errno == EAGAIN))
		exit(4);
	if (rc > 0 && first == 'a')
		board->wrote += (size_t)rc;
	return rc > 0 ? (size_t)rc : 0;
}

bool segment_is_mapped(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	char line[512];
	bool found = false;

	while (f && fgets(line, sizeof(line), f))
		found |= strstr(line, "/memfd:gnezdo-segment") != NULL;
	if (f)
		fclose(f);
	return found;
}

static int descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

static void word(int fd, char c, int wrong)
{
	char buf[WORD];

	memset(buf, c, WORD);
	if (send(fd, buf, WORD, MSG_NOSIGNAL) != WORD && wrong)
		exit(wrong);
}

/* --- the sibling --- */

/* What the victim has left: all of it, or what is behind the one read that it was killed in. */
static void read_behind(int fd)
{
	static unsigned char buf[2 * AHEAD_BYTES + AHEAD_ROUNDS * WORD];
	const size_t left = sizeof(buf) - AHEAD_ROUNDS * WORD;
	size_t got = 0, from;
	ssize_t n = 1;

	while (got < left - AHEAD_READ && (n = recv(fd, buf + got, left - got, 0)) > 0)
		got += (size_t)n;
	from = AHEAD_ROUNDS * WORD + (buf[0] == ahead_byte(AHEAD_ROUNDS * WORD) ? 0 : AHEAD_READ);
	while (n > 0 && got < sizeof(buf) - from && (n = recv(fd, buf + got, sizeof(buf) - from - got, 0)) > 0)
		got += (size_t)n;
	for (size_t i = 0; i < got; i++)
		if (buf[i] != ahead_byte(from + i))
			exit(NOT_READ);
	if (got != sizeof(buf) - from)
		exit(NOT_READ);
}

static void sibling_writes(const struct call *call, int fd)
{
	char buf[WORD];
	size_t at = 0;

	for (int i = 0; i < SIBLING_BYTES / WORD; i++) {
		for (size_t j = 0; j < WORD; j++)
			buf[j] = pattern('n', at + j);
		if (i == SIBLING_BYTES / WORD / 2)
			dup2(fd, 0);
		if (send(i < SIBLING_BYTES / WORD / 2 ? fd : 0, buf, WORD, MSG_NOSIGNAL) != WORD) {
			if ((call->flags & ENDS) && errno == EPIPE)
				return;
			exit(6);
		}
		at += WORD;
	}
	word(0, 'E', 6);
}

/* Goes on when the victim is dead: on the ring, then by the kernel. */
void sibling(const struct call *call, int fd, int go)
{
	static char much[50000];
	ssize_t n = 1;
	char c;

	alarm(LIMIT_S);
	while ((call->flags & DUET) && n > 0 && (n = recv(fd, much, WORD, 0)) > 0 && much[0] != 'Z')
		;
	if (n <= 0)
		exit(NOT_READ);
	if (read(go, &c, 1) < 0)
		exit(6);
	if (call->flags & ACCEPTS) {
		fcntl(fd, F_SETFL, O_NONBLOCK);
		fd = accept(fd, NULL, NULL);
		if (fd < 0)
			exit(errno == EAGAIN ? 0 : 6);
	}
	while ((call->flags & FLOODED) && n > 0)
		n = recv(fd, much, sizeof(much), 0);
	if (call->flags & AHEAD)
		read_behind(fd);
	while (recv(fd, much, WORD, MSG_DONTWAIT) > 0) /* unread, it would make a reset of the end */
		;
	sibling_writes(call, fd);
	close(0);
	close(fd);
	exit(segment_is_mapped() ? MAPPED : 0);
}

/* --- the survivor --- */

/* Of what has come: the victim's, then the sibling's, then E. */
struct seen {
	size_t victim, sibling, end;
};

static void look_at(struct seen *seen, const char *buf, ssize_t n)
{
	for (ssize_t i = 0; i < n; i++) {
		bool first = buf[i] >= 'a' && buf[i] < 'n', second = buf[i] >= 'n' && buf[i] <= 'z';

		if ((first && (seen->sibling || seen->end || buf[i] != pattern('a', seen->victim))) ||
		    (second && (seen->end || buf[i] != pattern('n', seen->sibling))) || (!first && !second && buf[i] != 'E'))
			exit(BYTES);
		seen->victim += first;
		seen->sibling += second;
		seen->end += buf[i] == 'E';
	}
}

static bool is_reset(void)
{
	return errno == ECONNRESET || errno == ECONNREFUSED;
}

/* To the end of the stream. */
static void read_circuit(int fd, struct seen *seen)
{
	static char buf[50000];
	ssize_t n;

	do {
		n = recv(fd, buf, sizeof(buf), 0);
		if (n < 0 && !is_reset())
			exit(ERROR);
		look_at(seen, buf, n);
	} while (n > 0 || (n < 0 && kind == PACKET)); /* packets: told before what is left */
}

/* Until the victim is dead and nothing is there, or E. */
static void read_datagrams(int fd, int cue, bool shared, struct seen *seen)
{
	struct pollfd p[2] = { { fd, POLLIN, 0 }, { cue, POLLIN, 0 } };
	bool dead = false;
	char buf[256];
	ssize_t n;

	for (;;) {
		if (!dead && poll(p, 2, -1) < 0)
			exit(ERROR);
		if (dead && shared && poll(p, 1, -1) < 0)
			exit(ERROR);
		if (p[1].revents & POLLHUP)
			dead = true;
		else if (p[1].revents & POLLIN)
			n = read(cue, buf, 1);
		n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
		if (n < 0 && errno != EAGAIN && !(dead && is_reset()))
			exit(ERROR);
		look_at(seen, buf, n);
		if ((shared && seen->end) || (dead && !shared && n < 0 && errno == EAGAIN))
			return;
	}
}

/* Who writes to the dead is told. Not at once: a writer on the ring asks the kernel whether the reader lives when that has not moved for 64 writes,
 * a relay needs a moment, and TCP takes the first. */
static void write_to_the_dead(int fd)
{
	int tries = 0;

	while (!board->dead) /* it may have said goodbye before */
		usleep(50);
	while (send(fd, "late", 4, MSG_NOSIGNAL | MSG_DONTWAIT) == 4 || errno == EAGAIN)
		if (++tries == 500)
			exit(NO_END);
		else if (tries > 100)
			usleep(1000);
	if (errno != EPIPE && !is_reset() && errno != ENOTCONN)
		exit(ERROR);
}

static void read_to_the_end(const struct call *call, int fd, int cue, bool shared)
{
	struct seen seen = { 0, 0, 0 };

	if (kind & CIRCUITS)
		read_circuit(fd, &seen);
	else
		read_datagrams(fd, cue, shared, &seen);
	if (seen.victim < board->wrote)
		exit(LOST);
	if (shared && !(call->flags & (ENDS | ACCEPTS)) && (seen.sibling != SIBLING_BYTES || seen.end != WORD))
		exit(CUT_OFF);
	if (!shared)
		write_to_the_dead(fd);
}

static void flood(int fd, bool shared)
{
	static char much[FLOOD];

	if (send(fd, much, sizeof(much), MSG_NOSIGNAL) != FLOOD && shared)
		exit(NOT_READ);
	shutdown(fd, SHUT_WR);
}

static void ahead_send(int fd, size_t *at, size_t n)
{
	unsigned char buf[AHEAD_BYTES];

	for (size_t i = 0; i < n; i++)
		buf[i] = ahead_byte((*at)++);
	if (send(fd, buf, n, MSG_NOSIGNAL) != (ssize_t)n)
		exit(GREETING);
}

static void run_ahead(int fd)
{
	char buf[WORD];
	size_t at = 0;

	ahead_send(fd, &at, AHEAD_BYTES);
	for (int i = 0; i < AHEAD_ROUNDS; i++) {
		if (recv(fd, buf, WORD, MSG_WAITALL) != WORD)
			exit(WARM_UP);
		ahead_send(fd, &at, WORD);
	}
	ahead_send(fd, &at, AHEAD_BYTES);
	board->stage = 1;
}

static void go_back(int fd)
{
	int in = dup(0);

	dup2(fd, 0);
	dup2(in, 0);
	close(in);
	board->stage = 1;
}

/* What it does before it reads to the end. */
static void act(const struct call *call, int fd, int cue, bool shared)
{
	char buf[WORD];
	ssize_t n;

	for (int i = 0; i < WARM && !(call->flags & COLD); i++)
		if (recv(fd, buf, WORD, is_stream() ? MSG_WAITALL : 0) != WORD || send(fd, buf, WORD, MSG_NOSIGNAL) != WORD)
			exit(WARM_UP);
	if (call->flags & AHEAD)
		run_ahead(fd);
	if (call->flags & (GREETED | HALVES))
		word(fd, 'r', GREETING);
	if (call->flags & PINNED)
		go_back(fd);
	if (call->flags & HALVES) {
		stage_await(1);
		/* The victim's word, which read_to_the_end() is to see, is looked at only. */
		if (recv(fd, buf, WORD, MSG_PEEK) != WORD || recv(fd, buf, 1, MSG_PEEK) != 1)
			exit(WARM_UP);
		word(fd, 'r', GREETING);
		word(fd, 'r', GREETING);
		board->stage = 2;
	}
	if (call->flags & FLOODED)
		flood(fd, shared);
	if (!(call->flags & (LATE | ANSWERS | MEETS)))
		return;
	n = read(cue, buf, 1);
	if (n == 1 && (call->flags & MEETS) && recv(fd, buf, WORD, MSG_PEEK) < 0 && !is_reset())
		exit(WARM_UP);
	if (n == 1 && (call->flags & (ANSWERS | MEETS)))
		word(fd, 'r', 0);
	if (!(call->flags & DUET))
		return;
	if (n == 1 && read(cue, buf, 1) < 0)
		exit(ERROR);
	word(fd, 'Z', GREETING);
}

void send_at_once(int fd)
{
	int on = 1;

	if (kind == TCP && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)))
		exit(3);
}

int datagram_socket(int end)
{
	bool local = kind == DGRAM;
	socklen_t len = local ? sizeof(sa_family_t) : sizeof(struct sockaddr_in);
	struct sockaddr_storage *at = &board->at[end];
	int fd = socket(local ? AF_UNIX : AF_INET, SOCK_DGRAM, 0);

	memset(at, 0, sizeof(*at)); /* not the port of the last point, which another may have got */
	at->ss_family = local ? AF_UNIX : AF_INET;
	if (!local)
		((struct sockaddr_in *)at)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || bind(fd, (struct sockaddr *)at, len))
		exit(3);
	len = sizeof(*at);
	getsockname(fd, (struct sockaddr *)at, &len);
	board->at_len[end] = len;
	while (!board->at_len[!end])
		usleep(100);
	if (connect(fd, (struct sockaddr *)&board->at[!end], board->at_len[!end]))
		exit(3);
	board->connected++;
	while (board->connected < 2)
		usleep(100);
	return fd;
}

/* To a victim that is about to accept. */
static int call_victim(void)
{
	int fd;

	while (!board->at_len[1])
		usleep(100);
	fd = socket(board->at[1].ss_family, kind == PACKET ? SOCK_SEQPACKET : SOCK_STREAM, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&board->at[1], board->at_len[1]))
		exit(WARM_UP);
	word(fd, 'r', GREETING);
	board->stage = 1;
	return fd;
}

/* A new process that calls the same listener. */
void newcomer(void)
{
	int fd = socket(board->at[0].ss_family, kind == PACKET ? SOCK_SEQPACKET : SOCK_STREAM, 0);
	char buf[WORD];

	alarm(LIMIT_S);
	if (fd < 0 || connect(fd, (struct sockaddr *)&board->at[0], board->at_len[0]))
		exit(NEWCOMER);
	for (int i = 0; i < WARM; i++) {
		word(fd, 'N', NEWCOMER);
		if (recv(fd, buf, WORD, is_stream() ? MSG_WAITALL : 0) != WORD || buf[0] != 'n')
			exit(NEWCOMER);
	}
	exit(recv(fd, buf, WORD, 0) == 0 ? 0 : NEWCOMER);
}

static void serve_newcomer(int fd)
{
	char buf[WORD];

	for (int i = 0; i < WARM; i++) {
		if (recv(fd, buf, WORD, is_stream() ? MSG_WAITALL : 0) != WORD || buf[0] != 'N')
			exit(NEWCOMER);
		word(fd, 'n', NEWCOMER);
	}
	close(fd);
}

void survivor(const struct call *call, int lfd, int cue, bool shared)
{
	int before, fd = socket(board->at[0].ss_family, SOCK_STREAM, 0);
	char c = 0;

	close(fd); /* what a process keeps for later is there now: src/sock/early.c */
	before = descriptors();
	alarm(LIMIT_S);
	if (kind & DGRAMS)
		fd = datagram_socket(0);
	else
		fd = call->flags & ACCEPTS ? call_victim() : accept(lfd, NULL, NULL);
	if (fd < 0)
		exit(WARM_UP);
	send_at_once(fd);
	if ((call->flags & CONNECTS) && recv(fd, &c, 1, MSG_PEEK) == 1 && c == 'N') {
		serve_newcomer(fd);
		exit(0);
	}
	act(call, fd, cue, shared);
	read_to_the_end(call, fd, cue, shared);
	close(fd);
	if (segment_is_mapped())
		exit(MAPPED);
	if (descriptors() != before)
		exit(LEAK);
	if (kind & CIRCUITS)
		serve_newcomer(accept(lfd, NULL, NULL));
	exit(0);
}
