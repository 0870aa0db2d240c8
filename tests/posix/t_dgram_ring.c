/* SPDX-License-Identifier: MIT */
/* ring: yes */
/* Datagram pairs that talk a lot, on sockets that others use too: servers with many callers, callers that are killed, turns. */
#include "obs.h"

#include <arpa/inet.h>
#include <sys/epoll.h>

#define ROUNDS 300

static int bound(uint16_t port, struct sockaddr_in *at)
{
	socklen_t len = sizeof(*at);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	*at = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	if (bind(fd, (struct sockaddr *)at, sizeof(*at)) || getsockname(fd, (struct sockaddr *)at, &len))
		die("bind");
	return fd;
}

/* Asks `rounds` times and compares the answers. Returns how many were right. */
static int ask(int fd, const struct sockaddr_in *to, int rounds, size_t size)
{
	char out[2000], in[2000];
	int right = 0;

	for (int i = 0; i < rounds; i++) {
		pattern(out, size, (uint64_t)i, 5);
		if (sendto(fd, out, size, 0, (const struct sockaddr *)to, sizeof(*to)) != (ssize_t)size)
			break;
		right += recv(fd, in, sizeof(in), 0) == (ssize_t)size && !memcmp(in, out, size);
	}
	return right;
}

/* Answers what comes until a single byte does. Returns how many it answered. */
static int answer(int fd)
{
	struct sockaddr_in from;
	socklen_t len;
	char buf[2000];
	int count = 0;
	ssize_t n;

	for (;;) {
		len = sizeof(from);
		n = recvfrom(fd, buf, sizeof(buf), 0, (struct sockaddr *)&from, &len);
		if (n <= 1)
			return count;
		count += sendto(fd, buf, (size_t)n, 0, (struct sockaddr *)&from, len) == n;
	}
}

/* In a child: answers for ever. */
static pid_t server(uint16_t port, struct sockaddr_in *at)
{
	int fd = bound(port, at);
	pid_t pid;

	fflush(stdout);
	pid = obs_fork();
	if (pid == 0) {
		answer(fd);
		_exit(0);
	}
	close(fd);
	return pid;
}

static void stop(pid_t pid, const struct sockaddr_in *at)
{
	struct sockaddr_in me;
	int fd = bound(0, &me);

	sendto(fd, "", 1, 0, (const struct sockaddr *)at, sizeof(*at));
	obs("server ends", obs_wait(pid));
	close(fd);
}

/* More callers than pairs have places, one after the other, then some of them at once. */
static void many_callers(struct obs *o)
{
	struct sockaddr_in at, me;
	pid_t pid = server(0, &at);
	int right = 0, fds[24];

	(void)o;
	promise_ring();
	for (int i = 0; i < 24; i++) {
		int fd = bound(0, &me);

		right += ask(fd, &at, ROUNDS, 64);
		close(fd);
	}
	note("right: %d", right);
	for (int i = 0; i < 24; i++)
		fds[i] = bound(0, &me);
	right = 0;
	for (int round = 0; round < 60; round++)
		for (int i = 0; i < 24; i++)
			right += ask(fds[i], &at, 2, 64);
	note("right: %d", right);
	for (int i = 0; i < 24; i++)
		close(fds[i]);
	stop(pid, &at);
}

/* A server is killed while it is hot, and another takes its port: callers find it, connected or not. */
static void killed_server(struct obs *o)
{
	struct sockaddr_in at, me;
	pid_t pid = server(0, &at);
	int fd = bound(0, &me), con = bound(0, &me);

	(void)o;
	promise_ring();
	obs("connect", connect(con, (struct sockaddr *)&at, sizeof(at)));
	note("right: %d", ask(fd, &at, ROUNDS, 100));
	note("right: %d", ask(con, &at, ROUNDS, 100));
	kill(pid, SIGKILL);
	obs("server ends", obs_wait(pid));
	obs_send(con, "anybody?", 0);
	obs_recv(con, 10, 0);
	pid = server(at.sin_port, &at);
	note("right: %d", ask(fd, &at, ROUNDS, 100));
	note("right: %d", ask(con, &at, ROUNDS, 100));
	close(fd);
	close(con);
	stop(pid, &at);
}

/* A caller is killed, and another takes its port. */
static void killed_caller(struct obs *o)
{
	struct sockaddr_in at, me;
	int fd = bound(0, &at), ready[2];
	uint16_t port = 0;
	char buf[100];

	(void)o;
	promise_ring();
	if (pipe(ready))
		die("pipe");
	for (int i = 0; i < 3; i++) {
		int c = bound(port, &me);
		pid_t pid;

		port = me.sin_port;
		fflush(stdout);
		pid = obs_fork();
		if (pid == 0) {
			close(fd);
			note("right: %d", ask(c, &at, ROUNDS, 50));
			fflush(stdout);
			sendto(c, "", 1, 0, (struct sockaddr *)&at, sizeof(at));
			pause();
		}
		close(c);
		obs("answered", answer(fd));
		kill(pid, SIGKILL);
		obs("caller ends", obs_wait(pid));
		obs("to nobody", sendto(fd, "hello?", 6, 0, (struct sockaddr *)&me, sizeof(me)));
	}
	obs("recv", recv(fd, buf, sizeof(buf), MSG_DONTWAIT));
	close(fd);
}

static long op_pour(struct obs *o, long n, long size)
{
	static char buf[2000];

	for (long i = 0; i < n; i++) {
		pattern(buf, (size_t)size, (uint64_t)i, 3);
		if (send(o->fd, buf, (size_t)size, 0) != size)
			return i;
	}
	return n;
}

/* Datagrams of the size of a bell, and all others from none to a few dozen, are what they are. */
static void small_sizes(struct obs *o)
{
	char buf[100], want[100];
	long wrong = 0;

	for (int size = 0; size < 40; size++) {
		peer(o, op_pour, 5, size);
		for (int i = 0; i < 5; i++) {
			pattern(want, (size_t)size, (uint64_t)i, 3);
			wrong += recv(o->fd, buf, sizeof(buf), 0) != size || memcmp(buf, want, (size_t)size);
		}
	}
	note("wrong: %ld", wrong);
	obs_recv(o->fd, 100, MSG_DONTWAIT);
	obs_poll(o->fd, POLLIN);
}

/* While one caller is hot, a stranger's datagram is heard soon, by who polls and by who just receives. */
static void strangers_get_a_turn(struct obs *o)
{
	struct sockaddr_in at, hot_at, cold_at, from;
	int fd = bound(0, &at), hot = bound(0, &hot_at), cold = bound(0, &cold_at);
	socklen_t len;
	char buf[100];
	int after = -1;

	(void)o;
	promise_ring();
	for (int i = 0; i < ROUNDS; i++) {
		len = sizeof(from);
		sendto(hot, "hot", 3, 0, (struct sockaddr *)&at, sizeof(at));
		recvfrom(fd, buf, sizeof(buf), 0, (struct sockaddr *)&from, &len);
		sendto(fd, "yes", 3, 0, (struct sockaddr *)&from, len);
		recv(hot, buf, sizeof(buf), 0);
	}
	for (int i = 0; i < 200; i++)
		sendto(hot, "hot", 3, 0, (struct sockaddr *)&at, sizeof(at));
	sendto(cold, "cold", 4, 0, (struct sockaddr *)&at, sizeof(at));
	for (int i = 0; i < 201; i++) {
		ssize_t n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);

		if (n == 4)
			after = i;
		if (n < 0)
			break;
	}
	note("heard: %d", after >= 0);
	obs_poll(fd, POLLIN);
	obs("cold", sendto(cold, "cold", 4, 0, (struct sockaddr *)&at, sizeof(at)));
	obs_poll(fd, POLLIN);
	obs_recv(fd, 10, MSG_DONTWAIT);
	obs_poll(fd, POLLIN);
	close(fd);
	close(hot);
	close(cold);
}

/* epoll, edge-triggered, over a server's socket: both kinds of caller wake it. */
static void server_in_epoll(struct obs *o)
{
	struct sockaddr_in at, me;
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
	int fd = bound(0, &at), ep = epoll_create1(0), hot, cold, count = 0, quiet = 0;
	pid_t pid;

	(void)o;
	promise_ring();
	nonblock(fd, true);
	epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
	fflush(stdout);
	pid = obs_fork();
	if (pid == 0) {
		close(fd);
		hot = bound(0, &me);
		count = ask(hot, &at, ROUNDS, 64);
		for (int i = 0; i < 20; i++) {
			cold = bound(0, &me);
			count += ask(cold, &at, 1, 64);
			count += ask(hot, &at, 5, 64);
			close(cold);
		}
		sendto(hot, "", 1, 0, (struct sockaddr *)&at, sizeof(at));
		_exit(count == ROUNDS + 120 ? 0 : 1);
	}
	while (!quiet && epoll_wait(ep, &ev, 1, 5000) == 1) {
		struct sockaddr_in from;
		socklen_t len = sizeof(from);
		char buf[100];
		ssize_t n;

		while ((n = recvfrom(fd, buf, sizeof(buf), 0, (struct sockaddr *)&from, &len)) > 1)
			count += sendto(fd, buf, (size_t)n, 0, (struct sockaddr *)&from, len) == n;
		quiet = n == 1;
	}
	note("answered: %d", count);
	obs("caller ends", obs_wait(pid));
	close(ep);
	close(fd);
}

/* A server with two busy callers and a stranger; whoever comes second is not read in the place of what was looked at. */
static void looks_and_reads(struct obs *o)
{
	static const char *const says[] = { "one", "the other", "a stranger" };
	enum { CALLERS = 3, BUSY = 2 };
	struct sockaddr_in at, own, from;
	int fd = bound(0, &at), caller[CALLERS], size;
	socklen_t len;
	char buf[100];

	(void)o;
	promise_ring();
	for (int c = 0; c < CALLERS; c++)
		caller[c] = bound(0, &own);
	for (int i = 0; i < ROUNDS * BUSY; i++) {
		len = sizeof(from);
		sendto(caller[i % BUSY], "hot", 3, 0, (struct sockaddr *)&at, sizeof(at));
		recvfrom(fd, buf, sizeof(buf), 0, (struct sockaddr *)&from, &len);
		sendto(fd, "yes", 3, 0, (struct sockaddr *)&from, len);
		recv(caller[i % BUSY], buf, sizeof(buf), 0);
	}
	for (int first = 0; first < CALLERS; first++) {
		for (int second = 0; second < CALLERS; second++) {
			if (first == second)
				continue;
			for (int by_size = 0; by_size < 2; by_size++) {
				sendto(caller[first], says[first], strlen(says[first]), 0, (struct sockaddr *)&at, sizeof(at));
				if (by_size)
					obs("FIONREAD", ioctl(fd, FIONREAD, &size) ? -1 : size);
				else
					obs_recv(fd, 100, MSG_PEEK);
				sendto(caller[second], says[second], strlen(says[second]), 0, (struct sockaddr *)&at, sizeof(at));
				obs("FIONREAD", ioctl(fd, FIONREAD, &size) ? -1 : size);
				obs_recv(fd, 100, 0);
				obs_recv(fd, 100, 0);
			}
		}
	}
	obs_recv(fd, 100, MSG_DONTWAIT);
	for (int c = 0; c < CALLERS; c++)
		close(caller[c]);
	close(fd);
}

int main(int argc, char **argv)
{
	static const struct obs_case cases[] = {
		{ "many callers", many_callers, SOLO, SLOW },
		{ "a killed server", killed_server, SOLO, 0 },
		{ "a killed caller", killed_caller, SOLO, 0 },
		{ "small sizes", small_sizes, UDP | DGP, 0 },
		{ "strangers get a turn", strangers_get_a_turn, SOLO, 0 },
		{ "looks and reads", looks_and_reads, SOLO, 0 },
		{ "a server in epoll", server_in_epoll, SOLO, 0 },
		{ 0 },
	};

	return obs_main(argc, argv, cases);
}
