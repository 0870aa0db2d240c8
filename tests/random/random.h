/* SPDX-License-Identifier: MIT */
/* What the files of the program share: the ends of its connections, chance, and what is printed. */
#ifndef GN_TESTS_RANDOM_H
#define GN_TESTS_RANDOM_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define PAIRS 3
#define ENDS (2 * PAIRS) /* end e talks to end e ^ 1 */
#define BYTES_MAX 40000  /* under way in one direction, or in a vector */
#define MESSAGES_MAX 40
#define NARROW_LAST 3000 /* seeds up to this one draw the first calls and kinds only, so that those kept in seeds.txt stay what they were */

enum kind {
	TCP4, TCP6, LOCAL_STREAM, LOCAL_NAMED, LOCAL_SEQPACKET, UDP4, LOCAL_DATAGRAM,
	NARROW_KINDS,
	UDP6 = NARROW_KINDS, UDP_FREE, NAMED_SEQPACKET, NAMED_DATAGRAM, FREE_DATAGRAM,
	KINDS,
};

struct end {
	int fd; /* the same number in both processes */
	enum kind kind;
	bool closed;
	bool ended; /* it has shut its writing half */
	bool deaf;  /* and its reading half */
	bool late;  /* it has written since its peer shut both */
	bool free;  /* not connected: each datagram is sent to `peer` */
	bool resets; /* SO_LINGER says that its close does */
	long bytes, messages; /* sent by it and not read yet, as far as its peer told */
	uint64_t pos;         /* sent in all: chooses the bytes */
	uint64_t urgent;      /* pos behind the last urgent byte */
	bool used;            /* something was sent or received by its own descriptors */
	struct sockaddr_storage peer; /* of named datagram sockets */
	socklen_t peer_len;
};

struct shared {
	struct end end[ENDS];
	bool two; /* processes */
	bool hot;
};
extern struct shared *all;

extern int side; /* of this process: its ends are those with (e & 1) == side; -1: all */
extern int epset, outer; /* the second one may hold the first */
extern volatile sig_atomic_t signals;
extern unsigned char buffer[BYTES_MAX];

struct call {
	void (*run)(int e, uint64_t *r);
	uint32_t weight;
	bool child; /* a forked child may make it: it closes nothing, and leaves the sets alone */
};
extern const struct call first_calls[], wide_calls[]; /* first.c, wide.c; the last has no function */

/* calls.c */
const struct call *pick(uint64_t *r, bool wide);
uint32_t below(uint64_t *state, uint32_t limit);
void must(bool holds, const char *what);
bool is_datagram(enum kind kind);
bool is_record(enum kind kind);
bool is_tcp(enum kind kind);
bool is_local(enum kind kind);

/* first.c */
struct end *end_of(int e);
bool is_mine(int e); /* this process's, and open */
void said(long rc);
void said_events(unsigned int events);
void said_bytes(const unsigned char *at, long len);
size_t length(uint64_t *r);
bool is_full(const struct end *e, size_t len);
void fill(struct end *e, size_t len); /* what it sends next, into buffer */
void sent(struct end *e, long n);
void received(int e, long n);
bool reset_is_hidden(int e);
void was_shut(struct end *e, int rc, int how);
long put(const struct end *e, const void *bytes, size_t len, int flags); /* to its peer */

#endif
