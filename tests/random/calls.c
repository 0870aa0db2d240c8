/* SPDX-License-Identifier: MIT */
/*
 * Random programs of socket calls: what a seed says is done, and what comes of it is printed. The same seed prints the same on the
 * plain kernel and in every lane; tests/random/run compares.
 *
 *     calls FIRST COUNT [CALLS]        seeds FIRST ... FIRST+COUNT-1, of each the first CALLS calls
 *
 * A seed chooses the kinds of its connections, whether they are hot before it begins, and whether both ends are in one process or
 * in two that take turns. Each call is computed from the seed and its number alone, so both processes know whose turn it is; what
 * depends on results is in shared memory. Seeds above 3000 draw from more calls and kinds (wide.c). No call waits, and no more is under way than every buffer holds. Nothing that varies from
 * run to run is printed.
 */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "random.h"

#define CALLS 80
#define WARM 60
#define SEED_DEADLINE_S 10

static const char *const kind_names[KINDS] = {"tcp4", "tcp6", "pair", "unix", "seqpacket", "udp4", "dgrampair",
					      "udp6", "udpfree", "seqnamed", "dgramnamed", "dgramfree"};

struct shared *all;
int side = -1, epset = -1, outer = -1;
static int turn_in = -1, turn_out = -1;
volatile sig_atomic_t signals;
unsigned char buffer[BYTES_MAX];

/* splitmix64 */
static uint64_t chance(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

uint32_t below(uint64_t *state, uint32_t limit)
{
	return (uint32_t)(chance(state) % limit);
}

void must(bool holds, const char *what)
{
	if (holds)
		return;
	perror(what);
	exit(1);
}

/* ---- connections ---- */

bool is_datagram(enum kind kind)
{
	return kind == UDP4 || kind == UDP6 || kind == UDP_FREE || kind == LOCAL_DATAGRAM || kind == NAMED_DATAGRAM || kind == FREE_DATAGRAM;
}

bool is_record(enum kind kind)
{
	return is_datagram(kind) || kind == LOCAL_SEQPACKET || kind == NAMED_SEQPACKET;
}

bool is_tcp(enum kind kind)
{
	return kind == TCP4 || kind == TCP6;
}

bool is_local(enum kind kind)
{
	return !is_tcp(kind) && kind != UDP4 && kind != UDP6 && kind != UDP_FREE;
}

static int type_of(enum kind kind)
{
	return is_datagram(kind) ? SOCK_DGRAM : is_record(kind) ? SOCK_SEQPACKET : SOCK_STREAM;
}

static socklen_t address(enum kind kind, struct sockaddr_storage *ss)
{
	memset(ss, 0, sizeof *ss);
	if (kind == TCP6 || kind == UDP6) {
		struct sockaddr_in6 *a = (void *)ss;

		a->sin6_family = AF_INET6;
		a->sin6_addr = in6addr_loopback;
		return sizeof *a;
	}
	if (is_local(kind)) {
		ss->ss_family = AF_UNIX;
		return sizeof(sa_family_t); /* autobind */
	}
	((struct sockaddr_in *)ss)->sin_family = AF_INET;
	((struct sockaddr_in *)ss)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return sizeof(struct sockaddr_in);
}

static int bound(enum kind kind, struct sockaddr_storage *ss, socklen_t *len)
{
	socklen_t given = address(kind, ss);
	int fd = socket(ss->ss_family, type_of(kind), 0);

	must(fd >= 0 && bind(fd, (void *)ss, given) == 0, "bind");
	*len = sizeof *ss;
	must(getsockname(fd, (void *)ss, len) == 0, "getsockname");
	return fd;
}

static void open_listened(enum kind kind, int fd[2])
{
	struct sockaddr_storage ss;
	socklen_t len;
	int listener = bound(kind, &ss, &len);

	must(listen(listener, 4) == 0, "listen");
	fd[0] = socket(ss.ss_family, type_of(kind), 0);
	must(connect(fd[0], (void *)&ss, len) == 0, "connect");
	fd[1] = accept(listener, NULL, NULL);
	must(fd[1] >= 0, "accept");
	close(listener);
}

/* Two that are bound, and connected to each other or not. */
static void open_datagrams(enum kind kind, int e, int fd[2])
{
	struct end *end = end_of(e);

	for (int i = 0; i < 2; i++) {
		fd[i] = bound(kind, &end[!i].peer, &end[!i].peer_len);
		end[i].free = kind == UDP_FREE || kind == FREE_DATAGRAM;
	}
	for (int i = 0; i < 2 && !end[0].free; i++)
		must(connect(fd[i], (void *)&end[i].peer, end[i].peer_len) == 0, "connect");
}

static void open_pair(enum kind kind, int e)
{
	int one = 1, fd[2];

	for (int i = 0; i < 2; i++)
		*end_of(e + i) = (struct end){.kind = kind};
	if (kind == LOCAL_STREAM || kind == LOCAL_SEQPACKET || kind == LOCAL_DATAGRAM)
		must(socketpair(AF_UNIX, type_of(kind), 0, fd) == 0, "socketpair");
	else if (is_datagram(kind))
		open_datagrams(kind, e, fd);
	else
		open_listened(kind, fd);
	for (int i = 0; i < 2; i++) {
		end_of(e + i)->fd = fd[i];
		if (is_tcp(kind))
			setsockopt(fd[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	}
}

/* ---- a seed ---- */

static void on_signal(int sig)
{
	(void)sig;
	signals++;
}

static uint32_t weight_of(const struct call *list)
{
	uint32_t sum = 0;

	for (; list->run; list++)
		sum += list->weight;
	return sum;
}

const struct call *pick(uint64_t *r, bool wide)
{
	uint32_t narrow = weight_of(first_calls), at = below(r, narrow + (wide ? weight_of(wide_calls) : 0));
	const struct call *list = at < narrow ? first_calls : wide_calls;

	for (at -= at < narrow ? 0 : narrow; at >= list->weight; list++)
		at -= list->weight;
	return list;
}

static void turn_wait(void)
{
	char byte;

	if (turn_in >= 0 && read(turn_in, &byte, 1) != 1)
		exit(1);
}

static void turn_pass(void)
{
	fflush(stdout);
	if (turn_out >= 0 && write(turn_out, "", 1) != 1)
		exit(1);
}

/* Both processes walk through the same calls; whose end it is acts, the other waits to hear that it was done. */
static void one_call(uint64_t seed, uint32_t number)
{
	uint64_t r = seed * 1000003 + number;
	int e = (int)below(&r, ENDS);
	const struct call *call = pick(&r, seed > NARROW_LAST);

	if (side >= 0 && (e & 1) != side) {
		turn_wait();
		return;
	}
	if (!end_of(e)->closed) {
		printf("%u %c%d ", number, 'A' + (e & 1), e / 2);
		call->run(e, &r);
		putchar('\n');
	}
	turn_pass();
}

static void warm_up(int e)
{
	int fd[2] = {end_of(e)->fd, end_of(e + 1)->fd};
	char byte;

	for (int i = 0; i < WARM; i++) {
		if (side != 1)
			must(put(end_of(e), "", 1, 0) == 1, "warm send");
		if (side != 0)
			must(recv(fd[1], &byte, 1, 0) == 1 && put(end_of(e + 1), "", 1, 0) == 1, "warm answer");
		if (side != 1)
			must(recv(fd[0], &byte, 1, 0) == 1, "warm recv");
	}
}

/* This process takes the ends of one side, the new one those of the other. */
static pid_t split(void)
{
	int there[2], back[2];
	pid_t child;

	must(pipe(there) == 0 && pipe(back) == 0, "pipe");
	fflush(stdout);
	child = fork();
	must(child >= 0, "fork");
	side = child == 0;
	if (child == 0)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	turn_in = child == 0 ? there[0] : back[0];
	turn_out = child == 0 ? back[1] : there[1];
	close(child == 0 ? there[1] : there[0]);
	close(child == 0 ? back[0] : back[1]);
	for (int e = 0; e < ENDS; e++)
		if ((e & 1) != side)
			close(end_of(e)->fd);
	return child;
}

static void one_seed(uint64_t seed, uint32_t count)
{
	uint64_t r = seed * 7919 + 1;
	pid_t child = 0;
	int status = 0;

	all->two = below(&r, 2);
	all->hot = below(&r, 3) > 0;
	printf("== seed %llu: %s, %s", (unsigned long long)seed, all->two ? "two processes" : "one process", all->hot ? "hot" : "cold");
	for (int e = 0; e < ENDS; e += 2) {
		enum kind kind = (enum kind)below(&r, seed > NARROW_LAST ? KINDS : NARROW_KINDS);

		printf(", %s", kind_names[kind]);
		open_pair(kind, e);
	}
	putchar('\n');
	if (all->two)
		child = split();
	epset = epoll_create1(EPOLL_CLOEXEC);
	outer = epoll_create1(EPOLL_CLOEXEC);
	alarm(SEED_DEADLINE_S);
	for (int e = 0; e < ENDS; e += 2) {
		if (all->hot)
			warm_up(e);
		for (int i = 0; i < 2; i++)
			if (side < 0 || i == side)
				fcntl(end_of(e + i)->fd, F_SETFL, O_RDWR | O_NONBLOCK);
	}
	if (all->two && side == 1)
		turn_pass(); /* all is set up here */
	else if (all->two)
		turn_wait();
	for (uint32_t i = 0; i < count; i++)
		one_call(seed, i);
	for (int e = 0; e < ENDS; e++)
		if (is_mine(e))
			close(end_of(e)->fd);
	close(epset);
	close(outer);
	if (!all->two)
		return;
	if (child == 0)
		exit(0);
	must(waitpid(child, &status, 0) == child, "waitpid");
	if (status)
		printf("the other process ended with %x\n", (unsigned int)status);
	close(turn_in);
	close(turn_out);
	side = turn_in = turn_out = -1;
}

/* Where it may be had, a network of its own: else a datagram to a port that was closed reaches who has it next, in another run. */
static void go_apart(void)
{
	struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int fd;

	if (unshare(CLONE_NEWNET) < 0)
		return;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	must(fd >= 0 && ioctl(fd, SIOCSIFFLAGS, &lo) == 0, "lo");
	close(fd);
}

int main(int argc, char **argv)
{
	struct sigaction act = {.sa_handler = on_signal};
	uint64_t first;
	uint32_t count, limit;

	if (argc < 3) {
		fprintf(stderr, "usage: calls FIRST COUNT [CALLS]\n");
		return 2;
	}
	first = strtoull(argv[1], NULL, 10);
	count = (uint32_t)strtoul(argv[2], NULL, 10);
	limit = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : CALLS;
	all = mmap(NULL, sizeof *all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(all != MAP_FAILED, "mmap");
	sigaction(SIGPIPE, &act, NULL);
	go_apart();
	for (uint32_t i = 0; i < count; i++) {
		one_seed(first + i, limit);
		fflush(stdout);
	}
	return 0;
}
