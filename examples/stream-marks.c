/* SPDX-License-Identifier: MIT */
/*
 * What a stream can do besides carrying bytes: MSG_PEEK looks without taking, MSG_OOB sends one urgent byte ahead, and shutdown closes
 * it for reading (0), for writing (1) or for both (2). A child process speaks, the parent listens and tells what it sees.
 *
 *     stream-marks ADDRESS
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "address.h"

#define USAGE "usage: stream-marks ADDRESS\nADDRESS: " ADDRESS_USAGE "\n"

static int to_parent[2], to_child[2]; /* pipes: who may go on */

static void tell(const int pipe_fds[2])
{
	if (write(pipe_fds[1], "x", 1) != 1)
		fail("pipe");
}

static void await(const int pipe_fds[2])
{
	char c;

	if (read(pipe_fds[0], &c, 1) != 1)
		exit(1); /* the other process has said why */
}

static void say(int fd, const char *text, int flags)
{
	if (send(fd, text, strlen(text), MSG_NOSIGNAL | flags) < 0)
		fail("send");
}

static void show_recv(const char *who, int fd, size_t room, int flags)
{
	char buf[100];
	ssize_t n = recv(fd, buf, room, flags);

	if (n > 0)
		printf("  %s receives \"%.*s\"\n", who, (int)n, buf);
	else
		printf("  %s receives %s\n", who, n == 0 ? "the end of the stream" : strerror(errno));
	fflush(stdout);
}

static void show_send(const char *who, int fd)
{
	ssize_t n = send(fd, "words", 5, MSG_NOSIGNAL);

	printf("  %s sends: %s\n", who, n < 0 ? strerror(errno) : "done");
	fflush(stdout);
}

static int call(const struct address *to)
{
	int fd = address_socket(to, SOCK_STREAM, 0);

	if (connect(fd, (const struct sockaddr *)&to->sa, to->len))
		fail(address_text(to));
	return fd;
}

static void child(const struct address *to)
{
	int fd = call(to);

	say(fd, "a message", 0);
	await(to_child);
	say(fd, "ordinary ", 0);
	say(fd, "!", MSG_OOB);
	say(fd, "again", 0);
	await(to_child);
	close(fd);
	for (int mode = 0; mode <= 2; mode++) {
		fd = call(to);
		if (shutdown(fd, mode))
			fail("shutdown");
		tell(to_parent);
		await(to_child); /* the parent has tried its side */
		show_recv("the one who shut it", fd, 100, MSG_DONTWAIT);
		show_send("the one who shut it", fd);
		close(fd);
		tell(to_parent);
	}
	exit(0);
}

static void peek(int fd)
{
	printf("MSG_PEEK: the data stays\n");
	show_recv("a look", fd, 9, MSG_PEEK | MSG_WAITALL);
	show_recv("another look", fd, 9, MSG_PEEK);
	show_recv("the reader", fd, 9, 0);
}

static void urgent(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLPRI };
	int at_mark;

	printf("MSG_OOB: one byte that need not wait its turn\n");
	if (poll(&p, 1, 5000) != 1)
		fail("no urgent byte has come");
	show_recv("the reader, out of band,", fd, 1, MSG_OOB);
	show_recv("the reader", fd, 9, MSG_WAITALL);
	at_mark = sockatmark(fd);
	if (at_mark < 0)
		fail("sockatmark");
	printf("  the urgent byte stood here: %s\n", at_mark ? "yes" : "no");
	show_recv("the reader", fd, 5, MSG_WAITALL);
}

static int next_caller(int listener)
{
	int fd = accept(listener, NULL, NULL);

	if (fd < 0)
		fail("accept");
	return fd;
}

static void parent(int listener)
{
	static const char *const modes[] = { "0, for reading", "1, for writing", "2, both" };
	int fd = next_caller(listener);

	peek(fd);
	tell(to_child);
	urgent(fd);
	tell(to_child);
	close(fd);
	for (int mode = 0; mode <= 2; mode++) {
		fd = next_caller(listener);
		await(to_parent);
		printf("shutdown %s\n", modes[mode]);
		show_recv("the other side", fd, 100, MSG_DONTWAIT);
		show_send("the other side", fd);
		tell(to_child);
		await(to_parent);
		close(fd);
	}
}

int main(int argc, char **argv)
{
	struct address a;
	char **v = argv + 1;
	int listener, status = 0;
	pid_t pid;

	if (argc < 2) {
		fputs(USAGE, stderr);
		return 2;
	}
	address_take(&a, &v);
	if (*v)
		misuse("\"%s\" is one argument too many", *v);
	if (pipe(to_parent) || pipe(to_child))
		fail("pipe");
	listener = address_socket(&a, SOCK_STREAM, 1);
	if (listen(listener, 1))
		fail("listen");
	pid = fork();
	if (pid < 0)
		fail("fork");
	if (pid == 0)
		child(&a);
	close(to_parent[1]);
	close(to_child[0]);
	parent(listener);
	close(listener);
	waitpid(pid, &status, 0);
	return status != 0;
}
