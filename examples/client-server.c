/* SPDX-License-Identifier: MIT */
/*
 * Client and server. The server answers each line with the same line numbered; every client has a child process of its own.
 *
 *     client-server server [--sequential] [--clients N] ADDRESS
 *     client-server client ADDRESS                  lines from standard input
 *
 * server: socket, bind, listen, accept, fork, recv, send, shutdown, close.   client: socket, connect, send, recv, shutdown, close.
 *
 * With --sequential the server serves one client after the other, without children: start two clients and see the second wait.
 * With --clients N it ends after N clients.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "address.h"

#define LINE 1000
#define USAGE "usage: client-server server [--sequential] [--clients N] ADDRESS\n" \
	      "       client-server client ADDRESS\n"                              \
	      "ADDRESS: " ADDRESS_USAGE "\n"

static void send_all(int fd, const char *text, size_t n)
{
	while (n > 0) {
		ssize_t sent = send(fd, text, n, MSG_NOSIGNAL); /* an error, not a signal, when the other side has left */

		if (sent < 0)
			fail("send");
		text += sent;
		n -= (size_t)sent;
	}
}

/* A stream knows no lines: one recv may bring half a line or three. Returns 0 at the end of the stream. */
static size_t recv_line(int fd, char line[LINE])
{
	size_t have = 0;
	ssize_t got = 1;

	while (have < LINE - 1 && (have == 0 || line[have - 1] != '\n') && (got = recv(fd, line + have, 1, 0)) > 0)
		have++;
	if (got < 0)
		fail("recv");
	line[have] = 0;
	return have;
}

static void serve(int fd)
{
	char line[LINE], answer[LINE + 20];

	for (int number = 1; recv_line(fd, line) > 0; number++)
		send_all(fd, answer, (size_t)snprintf(answer, sizeof(answer), "%d: %s", number, line));
	shutdown(fd, SHUT_RDWR);
	close(fd);
}

static void serve_in_child(int listener, int fd)
{
	pid_t pid = fork();

	if (pid < 0)
		fail("fork");
	if (pid == 0) {
		close(listener); /* the child's business is this client only */
		serve(fd);
		exit(0);
	}
	close(fd); /* the child has its own copy; the client would see no end of the stream while ours is open */
}

static int server(const struct address *at, int sequential, long clients)
{
	int listener = address_socket(at, SOCK_STREAM, 1);

	if (listen(listener, 128))
		fail("listen");
	if (!sequential)
		signal(SIGCHLD, SIG_IGN); /* children leave nothing behind that would have to be collected */
	printf("listening on %s\n", address_text(at));
	fflush(stdout);
	for (long served = 0; clients == 0 || served < clients; served++) {
		int fd = accept(listener, NULL, NULL);

		if (fd < 0)
			fail("accept");
		if (sequential)
			serve(fd);
		else
			serve_in_child(listener, fd);
	}
	close(listener);
	while (wait(NULL) > 0)
		;
	return 0;
}

static int client(const struct address *to)
{
	char line[LINE];
	int fd = address_socket(to, SOCK_STREAM, 0);

	if (connect(fd, (const struct sockaddr *)&to->sa, to->len))
		fail(address_text(to));
	while (fgets(line, sizeof(line), stdin)) {
		size_t n = strlen(line);

		if (line[n - 1] != '\n')
			misuse("a line is too long, or the last line has no end");
		send_all(fd, line, n);
		if (recv_line(fd, line) == 0)
			misuse("the server has left");
		fputs(line, stdout);
		fflush(stdout);
	}
	shutdown(fd, SHUT_WR); /* "I have said everything"; what the server still says would be read after this */
	while (recv_line(fd, line) > 0)
		fputs(line, stdout);
	close(fd);
	return 0;
}

int main(int argc, char **argv)
{
	struct address a;
	int sequential = 0;
	long clients = 0;
	char **v = argv + 2, *end;

	if (argc < 2 || (strcmp(argv[1], "server") && strcmp(argv[1], "client"))) {
		fputs(USAGE, stderr);
		return 2;
	}
	for (; argv[1][0] == 's' && *v && !strncmp(*v, "--", 2); v++) {
		if (!strcmp(*v, "--sequential")) {
			sequential = 1;
		} else if (!strcmp(*v, "--clients") && v[1]) {
			clients = strtol(*++v, &end, 10);
			if (*end || clients < 1)
				misuse("--clients needs a number, not \"%s\"", *v);
		} else {
			misuse("the option %s is unknown or incomplete", *v);
		}
	}
	address_take(&a, &v);
	if (*v)
		misuse("\"%s\" is one argument too many", *v);
	return argv[1][0] == 's' ? server(&a, sequential, clients) : client(&a);
}
