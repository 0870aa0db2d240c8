/* SPDX-License-Identifier: MIT */
/*
 * There and back: blocking sockets (rtt_*), and epoll over any number of connections (epoll_*).
 *
 * Each message opens with a number that must come back, so that a lost or doubled byte cannot pass as speed.
 */
#include "cli/measure.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define EVENTS 64
#define MAX_CONNECTIONS 64
#define WAIT_MS 5000 /* silence for so long is a failure */

void role_send(struct role *r, int fd, const void *from, uint32_t len)
{
	for (uint32_t done = 0; done < len;) {
		ssize_t n = send(fd, (const char *)from + done, len - done, MSG_NOSIGNAL);

		if (n < 0)
			role_fail(r, "send");
		done += (uint32_t)n;
	}
}

uint32_t role_recv(struct role *r, int fd, void *to, uint32_t len)
{
	uint32_t done = 0;

	while (done < len) {
		ssize_t n = recv(fd, (char *)to + done, len - done, 0);

		if (n < 0)
			role_fail(r, "recv");
		if (!n && !done)
			return 0;
		errno = 0;
		if (!n)
			role_fail(r, "the stream ended within a message");
		done += (uint32_t)n;
		if (meet_type(r) != SOCK_STREAM)
			break; /* a record is whole or the number in it is wrong */
	}
	return done;
}

void rtt_server(struct role *r)
{
	int fd = meet_as_server(r);
	char message[MEASURE_MAX_BYTES];
	uint32_t n;

	/* A datagram socket sees no end of file: one byte says goodbye. */
	while ((n = role_recv(r, fd, message, r->w->message)) > 1)
		role_send(r, fd, message, n);
	close(fd);
}

void rtt_client(struct role *r)
{
	int fd = meet_as_client(r);
	char message[MEASURE_MAX_BYTES] = "";
	uint64_t number = 0, before = now_ns(), after;

	do {
		uint64_t back;

		memcpy(message, &number, sizeof(number));
		role_send(r, fd, message, r->w->message);
		errno = 0;
		if (role_recv(r, fd, message, r->w->message) != r->w->message)
			role_fail(r, "a message came back with another length");
		after = now_ns();
		memcpy(&back, message, sizeof(back));
		errno = 0;
		if (back != number)
			role_fail(r, "a message came back wrong");
		number++;
		role_count(r, before, after, r->w->message);
		before = after;
	} while (after < r->until_ns);
	if (meet_type(r) == SOCK_DGRAM)
		role_send(r, fd, "", 1);
	close(fd);
}

static void watch(struct role *r, int epoll, int fd, uint64_t data)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = data };
	int on = 1;

	if (fcntl(fd, F_SETFL, O_NONBLOCK))
		role_fail(r, "fcntl");
	if (r->w->via == VIA_TCP && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)))
		role_fail(r, "setsockopt TCP_NODELAY");
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
		role_fail(r, "epoll_ctl");
}

static int wait_events(struct role *r, int epoll, struct epoll_event *events)
{
	int n = epoll_wait(epoll, events, EVENTS, WAIT_MS);

	if (n < 0)
		role_fail(r, "epoll_wait");
	errno = 0;
	if (!n)
		role_fail(r, "nothing came for five seconds");
	return n;
}

/* One event of the echo server. Returns how many connections ended. */
static unsigned int echo(struct role *r, int fd)
{
	char message[MEASURE_MAX_BYTES];
	ssize_t n = recv(fd, message, sizeof(message), 0);

	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n < 0)
		role_fail(r, "recv");
	if (!n) {
		close(fd);
		return 1;
	}
	if (send(fd, message, (size_t)n, MSG_NOSIGNAL) != n) /* a request fits into any send buffer */
		role_fail(r, "send");
	return 0;
}

void epoll_server(struct role *r)
{
	int listener = meet_listen(r), epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event events[EVENTS];
	unsigned int ended = 0;

	if (epoll < 0)
		role_fail(r, "epoll_create1");
	watch(r, epoll, listener, (uint64_t)listener);
	while (ended < r->w->connections) {
		int n = wait_events(r, epoll, events);

		for (int i = 0; i < n; i++) {
			int fd = (int)events[i].data.u64;

			if (fd != listener) {
				ended += echo(r, fd);
				continue;
			}
			fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
			if (fd >= 0)
				watch(r, epoll, fd, (uint64_t)fd);
			else if (errno != EAGAIN)
				role_fail(r, "accept");
		}
	}
	close(listener);
}

struct caller { /* one connection of epoll_client: one request is always under way */
	int fd;
	uint32_t got;
	uint64_t number, before;
	char message[64];
};

static void ask(struct role *r, struct caller *c)
{
	c->got = 0;
	c->number++;
	memcpy(c->message, &c->number, sizeof(c->number));
	if (send(c->fd, c->message, r->w->message, MSG_NOSIGNAL) != (ssize_t)r->w->message)
		role_fail(r, "send");
}

/* Takes what came; true: the answer is whole. */
static bool hear(struct role *r, struct caller *c)
{
	ssize_t n = recv(c->fd, c->message + c->got, r->w->message - c->got, 0);
	uint64_t back;

	if (n < 0 && errno == EAGAIN)
		return false;
	if (n < 0)
		role_fail(r, "recv");
	errno = 0;
	if (!n)
		role_fail(r, "the server hung up");
	c->got += (uint32_t)n;
	if (c->got < r->w->message)
		return false;
	memcpy(&back, c->message, sizeof(back));
	if (back != c->number)
		role_fail(r, "a message came back wrong");
	return true;
}

static void call_all(struct role *r, int epoll, struct caller *callers)
{
	struct sockaddr_storage at;
	socklen_t len = meet_address(r, &at);

	for (unsigned int i = 0; i < r->w->connections; i++) {
		callers[i].fd = meet_connect(r, &at, len);
		watch(r, epoll, callers[i].fd, i);
		callers[i].before = now_ns();
		ask(r, &callers[i]);
	}
}

void epoll_client(struct role *r)
{
	struct caller callers[MAX_CONNECTIONS] = { 0 };
	struct epoll_event events[EVENTS];
	unsigned int open = r->w->connections;
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	if (epoll < 0)
		role_fail(r, "epoll_create1");
	call_all(r, epoll, callers);
	while (open) {
		int n = wait_events(r, epoll, events);

		for (int i = 0; i < n; i++) {
			struct caller *c = &callers[events[i].data.u64];
			uint64_t after;

			if (!hear(r, c))
				continue;
			after = now_ns();
			role_count(r, c->before, after, r->w->message);
			c->before = after;
			if (after < r->until_ns) {
				ask(r, c);
			} else { /* no answer is left behind unread, which would reset the server's end */
				close(c->fd);
				open--;
			}
		}
	}
}
