/* SPDX-License-Identifier: MIT */
/*
 * The measuring program, `gnezdo measure`: workloads made of roles, each role a process of its own.
 *
 * It is plain POSIX code that knows nothing of gnezdo; `gnezdo bench` runs it once as it is and once under `gnezdo run`. The
 * first process only starts the others and adds up. Every process has an alarm set, so that no wait is for ever.
 *
 * Units: nanoseconds of CLOCK_MONOTONIC. Owner: each role writes only its own struct measure_result.
 */
#ifndef GN_CLI_MEASURE_H
#define GN_CLI_MEASURE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <time.h>

#include "cli/hist.h"

#define MEASURE_MAX_BYTES 65536u
#define MEASURE_MAX_PAIRS 8
#define MEASURE_ROUND_TRIPS 10 /* per client of fork-server */

enum measure_via { VIA_TCP, VIA_UDP, VIA_UNIX, VIA_UNIX_DGRAM, VIA_UNIX_SEQPACKET };
enum measure_pin { PIN_EACH, PIN_TOGETHER, PIN_NONE };
enum measure_unit { UNIT_LATENCY, UNIT_ROUND_TRIPS, UNIT_MESSAGES, UNIT_BYTES, UNIT_CONNECTIONS };

/* What a role leaves behind, in memory shared with the first process. */
struct measure_result {
	uint64_t ops, bytes;
	struct hist latency;
	char error[160]; /* empty: it went well */
};

struct measure_shared {
	_Atomic uint32_t stop[MEASURE_MAX_PAIRS]; /* a client of this pair asks its server to end */
	struct measure_result result[MEASURE_MAX_PAIRS][2];
};

struct role;
typedef void (*role_main)(struct role *);

struct workload {
	const char *name;
	const char *what; /* one line for people */
	enum measure_via via;
	enum measure_unit unit;
	enum measure_pin pin;
	role_main server, client;
	uint32_t message;    /* bytes of one message */
	uint16_t pairs;      /* servers, each with its client */
	uint16_t connections; /* per client */
	bool cold;           /* no warm-up to speak of: set-up is what is measured */
	bool mortal;         /* its processes end while it is measured: what they say of themselves then would be measured too */
};

extern const struct workload workloads[];
extern const unsigned int workload_count;
const struct workload *workload_find(const char *name);

/* One process of a workload. */
struct role {
	const struct workload *w;
	struct measure_result *result;
	_Atomic uint32_t *stop;
	const char *dir;         /* for socket files */
	unsigned int pair;
	uint64_t from_ns, until_ns; /* what ends in between counts */
	int to_peer, from_peer;  /* pipes, to exchange addresses before the start */
};

static inline uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* One operation from `before` to `after`: counted when it ended inside the window. */
static inline void role_count(struct role *r, uint64_t before, uint64_t after, uint32_t bytes)
{
	if (after < r->from_ns || after >= r->until_ns)
		return;
	hist_add(&r->result->latency, after - before);
	r->result->ops++;
	r->result->bytes += bytes;
}

/* Ends the process; `what` is the call that failed, errno says why (0: nothing to add). */
_Noreturn void role_fail(struct role *r, const char *what);

/* --- measure_meet.c: how the two processes get connected --- */

/* A listening socket on a free port, or on a file in r->dir; the client is told. */
int meet_listen(struct role *r);

/* Waits for the address that meet_listen() told. */
socklen_t meet_address(struct role *r, struct sockaddr_storage *to);

/* A new connection to it, blocking. */
int meet_connect(struct role *r, const struct sockaddr_storage *to, socklen_t len);

/* A connected socket to the peer's only connection; both sides of every type have these two. */
int meet_as_server(struct role *r);
int meet_as_client(struct role *r);

int meet_domain(const struct role *r);
int meet_type(const struct role *r);

/* --- roles --- */

void rtt_server(struct role *r);
void rtt_client(struct role *r);
void epoll_server(struct role *r);
void epoll_client(struct role *r);
void stream_sink(struct role *r);
void stream_source(struct role *r);
void connect_server(struct role *r);
void connect_client(struct role *r);
void fork_server(struct role *r);
void fork_client(struct role *r);

/* Whole messages over a blocking socket. role_recv() returns 0 at end of file. */
void role_send(struct role *r, int fd, const void *from, uint32_t len);
uint32_t role_recv(struct role *r, int fd, void *to, uint32_t len);

/* `gnezdo measure idle N`: memory of N idle connections. Returns an exit code. */
int idle_measure(long connections);

#endif
