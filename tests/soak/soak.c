/* SPDX-License-Identifier: MIT */
/*
 * The two roles of a soak: servers that live for the whole of it, and clients that come, talk, misbehave and are killed.
 *
 *     soak server DIR          TCP, AF_UNIX stream, SOCK_SEQPACKET, UDP: each sends back what it gets
 *     soak client DIR PORT SEED   connects again and again in random ways, until it is killed; ends with 1 and a word if an echo is wrong
 *
 * The server writes "ready PORT PID" (of the process that forks) when it can be called. TCP and UDP are served by one loop with epoll, streams by a child per client,
 * packets by a thread per client. A client whose peer falls silent for STUCK_S seconds says so: nothing here may hang.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define STREAM_MAX 60000
#define RECORD_MAX 8000
#define STUCK_S 20
#define EVENTS 64

static unsigned char scratch[STREAM_MAX];

static void must(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "soak: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* splitmix64 */
static uint64_t chance(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static uint32_t below(uint64_t *state, uint32_t limit)
{
	return (uint32_t)(chance(state) % limit);
}

static socklen_t local_address(struct sockaddr_un *a, const char *dir, const char *name)
{
	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(a->sun_path, sizeof a->sun_path, "%s/%s", dir, name);
	return sizeof *a;
}

static struct sockaddr_in loopback(uint16_t port)
{
	return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

/* ---- the server ---- */

static bool send_all(int fd, const unsigned char *at, size_t len)
{
	while (len) {
		ssize_t n = send(fd, at, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR) /* with a timeout, SIGCONT does that: signal(7) */
			continue;
		if (n <= 0)
			return false;
		at += n;
		len -= (size_t)n;
	}
	return true;
}

static ssize_t send_record(int fd, const unsigned char *at, size_t len)
{
	ssize_t n;

	do {
		n = send(fd, at, len, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n;
}

/* Blocking, until the peer ends or dies. */
static void echo_all(int fd, bool records)
{
	unsigned char *buffer = malloc(STREAM_MAX);
	ssize_t n;

	must(buffer != NULL, "malloc");
	while ((n = recv(fd, buffer, STREAM_MAX, 0)) > 0)
		if (records ? send(fd, buffer, (size_t)n, MSG_NOSIGNAL) != n : !send_all(fd, buffer, (size_t)n))
			break;
	free(buffer);
	close(fd);
}

static void *packets_of_one(void *arg)
{
	echo_all((int)(intptr_t)arg, true);
	return NULL;
}

static void *serve_packets(void *arg)
{
	int listener = (int)(intptr_t)arg, fd;
	pthread_attr_t attr;
	pthread_t t;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	while ((fd = accept(listener, NULL, NULL)) >= 0)
		must(pthread_create(&t, &attr, packets_of_one, (void *)(intptr_t)fd) == 0, "pthread_create");
	return NULL;
}

static void serve_streams(int listener)
{
	int fd;

	signal(SIGCHLD, SIG_IGN);
	while ((fd = accept(listener, NULL, NULL)) >= 0) {
		pid_t child = fork();

		must(child >= 0, "fork");
		if (child == 0) {
			close(listener);
			echo_all(fd, false);
			exit(0);
		}
		close(fd);
	}
	must(false, "accept");
}

/* What of an echo the socket had no room for yet: one per descriptor. */
static struct {
	unsigned char *at;
	size_t len;
} owed[1024];

static void watch(int set, int op, int fd, uint32_t events)
{
	struct epoll_event e = {.events = events, .data.fd = fd};

	must(epoll_ctl(set, op, fd, &e) == 0, "epoll_ctl");
}

static void drop(int fd)
{
	free(owed[fd].at);
	owed[fd].at = NULL;
	owed[fd].len = 0;
	close(fd);
}

static void owe(int set, int fd, const unsigned char *at, size_t len)
{
	owed[fd].at = malloc(len);
	must(owed[fd].at != NULL, "malloc");
	memcpy(owed[fd].at, at, len);
	owed[fd].len = len;
	watch(set, EPOLL_CTL_MOD, fd, EPOLLOUT);
}

/* Sends what it can; false: the connection is over. */
static bool answer(int set, int fd, const unsigned char *at, size_t len)
{
	ssize_t n = send(fd, at, len, MSG_NOSIGNAL);

	if (n < 0 && errno != EAGAIN)
		return false;
	n = n < 0 ? 0 : n;
	if ((size_t)n < len)
		owe(set, fd, at + n, len - (size_t)n);
	return true;
}

static void tcp_event(int set, int fd, uint32_t events)
{
	unsigned char *old = owed[fd].at;
	size_t len = owed[fd].len;
	bool goes_on = true;
	ssize_t n;

	if (old && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) {
		owed[fd].at = NULL;
		goes_on = answer(set, fd, old, len);
		free(old);
		if (goes_on && !owed[fd].at)
			watch(set, EPOLL_CTL_MOD, fd, EPOLLIN);
	} else if (!old) {
		n = recv(fd, scratch, sizeof scratch, 0);
		goes_on = n > 0 ? answer(set, fd, scratch, (size_t)n) : n < 0 && errno == EAGAIN;
	}
	if (!goes_on)
		drop(fd);
}

static void udp_event(int fd)
{
	struct sockaddr_storage from;
	socklen_t len = sizeof from;
	ssize_t n = recvfrom(fd, scratch, sizeof scratch, MSG_DONTWAIT, (void *)&from, &len);

	if (n >= 0)
		sendto(fd, scratch, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT, (void *)&from, len);
}

static _Noreturn void serve_internet(int listener, int udp)
{
	int set = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event events[EVENTS];

	watch(set, EPOLL_CTL_ADD, listener, EPOLLIN);
	watch(set, EPOLL_CTL_ADD, udp, EPOLLIN);
	for (;;) {
		int n = epoll_wait(set, events, EVENTS, -1);

		for (int i = 0; i < n; i++) {
			int fd = events[i].data.fd;

			if (fd == udp) {
				udp_event(udp);
			} else if (fd != listener) {
				tcp_event(set, fd, events[i].events);
			} else if ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
				must((size_t)fd < sizeof owed / sizeof *owed, "too many descriptors");
				watch(set, EPOLL_CTL_ADD, fd, EPOLLIN);
			}
		}
	}
}

static int local_listener(const char *dir, const char *name, int type)
{
	struct sockaddr_un a;
	socklen_t len = local_address(&a, dir, name);
	int fd = socket(AF_UNIX, type, 0);

	must(fd >= 0 && bind(fd, (void *)&a, len) == 0 && listen(fd, 64) == 0, name);
	return fd;
}

/* One port, of TCP and UDP. */
static uint16_t internet_sockets(int *listener, int *udp)
{
	struct sockaddr_in a;
	socklen_t len = sizeof a;

	for (int i = 0; i < 100; i++) {
		a = loopback(0);
		*listener = socket(AF_INET, SOCK_STREAM, 0);
		*udp = socket(AF_INET, SOCK_DGRAM, 0);
		must(bind(*listener, (void *)&a, sizeof a) == 0 && getsockname(*listener, (void *)&a, &len) == 0, "bind");
		if (bind(*udp, (void *)&a, sizeof a) == 0) {
			must(listen(*listener, 64) == 0, "listen");
			return ntohs(a.sin_port);
		}
		close(*listener);
		close(*udp);
	}
	must(false, "no port for both");
	return 0;
}

static int server(const char *dir)
{
	int listener, udp, streams = local_listener(dir, "stream", SOCK_STREAM), packets = local_listener(dir, "packet", SOCK_SEQPACKET);
	uint16_t port = internet_sockets(&listener, &udp);
	pthread_t t;
	pid_t forker;

	fflush(stdout);
	forker = fork(); /* one process without threads, so that its children are whole */
	must(forker >= 0, "fork");
	if (forker == 0) {
		close(listener);
		close(udp);
		close(packets);
		serve_streams(streams);
	}
	close(streams);
	must(pthread_create(&t, NULL, serve_packets, (void *)(intptr_t)packets) == 0, "pthread_create");
	printf("ready %u %d\n", port, (int)forker);
	fflush(stdout);
	serve_internet(listener, udp);
}

/* ---- the client ---- */

enum kind { TCP, STREAM, PACKET, UDP, KINDS };

static int call(enum kind kind, const char *dir, uint16_t port)
{
	static const int types[KINDS] = {SOCK_STREAM, SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM};
	bool internet = kind == TCP || kind == UDP;
	struct sockaddr_in in = loopback(port);
	struct sockaddr_un un;
	socklen_t len = local_address(&un, dir, kind == STREAM ? "stream" : "packet");
	struct timeval stuck = {.tv_sec = STUCK_S};
	int fd = socket(internet ? AF_INET : AF_UNIX, types[kind], 0);

	must(fd >= 0, "socket");
	must(connect(fd, internet ? (void *)&in : (void *)&un, internet ? sizeof in : len) == 0, "connect");
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &stuck, sizeof stuck);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &stuck, sizeof stuck);
	return fd;
}

static void fill(uint64_t *r, size_t len)
{
	uint64_t state = chance(r);

	for (size_t i = 0; i < len; i++)
		scratch[i] = (unsigned char)(i % 64 ? scratch[i - 1] * 5u + 1 : (unsigned int)chance(&state));
}

/* There and back, and the same. UDP may lose, nothing else may. */
static void exchange(int fd, enum kind kind, uint64_t *r)
{
	static unsigned char back[STREAM_MAX];
	size_t len = 1 + below(r, below(r, 4) ? 200 : kind == PACKET || kind == UDP ? RECORD_MAX : STREAM_MAX), got = 0;
	struct pollfd p = {fd, POLLIN, 0};

	fill(r, len);
	if (kind == PACKET || kind == UDP)
		must(send_record(fd, scratch, len) == (ssize_t)len, "send");
	else
		must(send_all(fd, scratch, len), "send");
	if (kind == UDP && poll(&p, 1, 100) == 0)
		return;
	while (got < len) {
		ssize_t n = recv(fd, back + got, kind == UDP ? sizeof back : len - got, 0);

		if (n < 0 && errno == EINTR)
			continue;
		must(n > 0, n ? "recv" : "the server has closed");
		got += (size_t)n;
		if (kind == UDP)
			break;
	}
	if (kind == UDP && (got != len || memcmp(back, scratch, len) != 0))
		return; /* an answer that came late, to an earlier one */
	must(got == len && memcmp(back, scratch, len) == 0, "the echo is wrong");
}

/* Ends as programs do: in order, with a half-close, or leaving things unread. */
static void hang_up(int fd, enum kind kind, uint64_t *r)
{
	uint32_t how = below(r, 3);

	if (how == 1 && kind != UDP) {
		shutdown(fd, SHUT_WR);
		must(recv(fd, scratch, sizeof scratch, 0) == 0 || errno == EINTR, "no end of file after shutdown");
	} else if (how == 2) {
		send(fd, scratch, 1 + below(r, 1000), MSG_NOSIGNAL);
	}
	close(fd);
}

static _Noreturn void client(const char *dir, uint16_t port, uint64_t seed)
{
	uint64_t r = seed;

	for (;;) {
		enum kind kind = (enum kind)below(&r, KINDS);
		uint32_t count = below(&r, 3) ? below(&r, 20) : below(&r, 2000);
		int fd = call(kind, dir, port);

		while (count--)
			exchange(fd, kind, &r);
		hang_up(fd, kind, &r);
	}
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "server") == 0)
		return server(argv[2]);
	if (argc == 5 && strcmp(argv[1], "client") == 0)
		client(argv[2], (uint16_t)strtoul(argv[3], NULL, 10), strtoull(argv[4], NULL, 10));
	fprintf(stderr, "usage: soak server DIR | soak client DIR PORT SEED\n");
	return 2;
}
