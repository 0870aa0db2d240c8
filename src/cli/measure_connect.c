/* SPDX-License-Identifier: MIT */
/*
 * Short connections: set up, a little talk, close. connect_*: one server process; fork_*: a child per client.
 *
 * A server cannot wait for a caller and for a signal at once without more calls, so the client that ends sets a flag and calls
 * a last time.
 */
#include "cli/measure.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* The next caller, or -1 when the client asked for the end. */
static int next_caller(struct role *r, int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		role_fail(r, "accept");
	if (!atomic_load(r->stop))
		return fd;
	close(fd);
	return -1;
}

static void ask_to_stop(struct role *r, const struct sockaddr_storage *at, socklen_t len)
{
	atomic_store(r->stop, 1);
	close(meet_connect(r, at, len));
}

void connect_server(struct role *r)
{
	int listener = meet_listen(r), fd;
	char byte;

	while ((fd = next_caller(r, listener)) >= 0) {
		if (role_recv(r, fd, &byte, 1))
			role_send(r, fd, &byte, 1);
		close(fd);
	}
	close(listener);
}

/* Connects, exchanges `trips` messages and closes. */
static void call_once(struct role *r, const struct sockaddr_storage *at, socklen_t len, unsigned int trips)
{
	char message[MEASURE_MAX_BYTES] = "x";
	int fd = meet_connect(r, at, len);

	while (trips--) {
		role_send(r, fd, message, r->w->message);
		errno = 0;
		if (role_recv(r, fd, message, r->w->message) != r->w->message || *message != 'x')
			role_fail(r, "the answer was wrong");
	}
	close(fd);
}

static void call_often(struct role *r, unsigned int trips)
{
	struct sockaddr_storage at;
	socklen_t len = meet_address(r, &at);
	uint64_t before = now_ns(), after;

	do {
		call_once(r, &at, len, trips);
		after = now_ns();
		role_count(r, before, after, r->w->message);
		before = after;
	} while (after < r->until_ns);
	ask_to_stop(r, &at, len);
}

void connect_client(struct role *r)
{
	call_often(r, 1);
}

void fork_client(struct role *r)
{
	call_often(r, MEASURE_ROUND_TRIPS);
}

/* One client's child: it ends with its process. */
static _Noreturn void serve(struct role *r, int fd)
{
	char message[MEASURE_MAX_BYTES];
	uint32_t n;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while ((n = role_recv(r, fd, message, r->w->message)))
		role_send(r, fd, message, n);
	close(fd);
	exit(0);
}

void fork_server(struct role *r)
{
	int listener = meet_listen(r), fd;

	while ((fd = next_caller(r, listener)) >= 0) {
		pid_t child = fork();

		if (child < 0)
			role_fail(r, "fork");
		if (!child) {
			close(listener);
			serve(r, fd);
		}
		close(fd);
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	}
	close(listener);
	while (waitpid(-1, NULL, 0) > 0)
		;
}
