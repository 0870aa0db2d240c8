/* SPDX-License-Identifier: MIT */
/* What relays do once they run (carry.c), for who starts them (relay.c). Units: bytes, nanoseconds. Owner: the relay's only thread. */
#ifndef GN_SOCK_CARRY_H
#define GN_SOCK_CARRY_H

#include "sock/io.h"

#define GN_CARRY_BYTES (512 << 10) /* a packet must fit: more than wmem_max allows by default (socket(7)) */

/* One direction. */
struct gn_way {
	size_t from, to; /* unsent bytes of data */
	bool full;       /* there are some, or an empty packet */
	bool ended;      /* no more to read */
	bool told;       /* and the other side knows */
	char data[GN_CARRY_BYTES];
};

/* All zero but for the first five, which are -1 where there is none. */
struct gn_carrier {
	struct gn_sock *so; /* NULL: `ring` is a plain socket too */
	int ring, plain;
	int copy;           /* of the plain socket's other end, while relatives may ask for it */
	int asked;          /* where they do */
	struct gn_ep *old;  /* what the endpoint was to them */
	int edges;          /* epoll set: what is new on `ring` */
	bool shared;        /* there may be relatives that have not followed */
	bool over, reset;
	uint64_t inode;     /* of `ring` */
	uint64_t next_ns, step_ns; /* when to look for them */
	size_t ahead;       /* bytes at the head of the kernel's queue that have been carried already */
	bool is_ahead;      /* likewise, of packets: one, of that many bytes */
	uint32_t seen;      /* what the edges have told */
	struct gn_way out, in; /* out: from the ring to the stranger */
};

/* What is there now, as far as there is room: who is given `plain` finds it. */
void gn_carry_first(struct gn_carrier *r);

/* Goes on until both ways have ended and every relative has followed. */
void gn_carry(struct gn_carrier *r);

/* heirs.c: the relatives. */
bool gn_heirs_left(const struct gn_carrier *r); /* does one hold the old socket that has not followed? */
void gn_heirs_serve(struct gn_carrier *r);      /* those that ask */

#endif
