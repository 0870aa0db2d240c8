/* SPDX-License-Identifier: MIT */
/*
 * A byte ring between two processes: one producer, one consumer, in shared memory.
 *
 * Invariants: [RING-1] head - tail <= size; [RING-2] what the peer wrote is read once and checked.
 * Units: bytes. Threads/owner: the caller holds the lock of its half; the other half belongs to the peer.
 *
 * Each side keeps its own index (struct gn_ring) in memory that the peer cannot reach and publishes a copy in the segment, so a
 * lying peer can only spoil what it says about itself. The commit of a write or a read is one store of an index, done last: a
 * process killed at any instruction leaves a consistent ring.
 *
 * Records (seqpackets, datagrams) are a 4-byte length, then the bytes, then padding to 4: a record header never wraps.
 */
#ifndef GN_RING_RING_H
#define GN_RING_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "ring/seg.h"

/* One half's own view: the producer's of what it writes, or the consumer's of what it reads. */
struct gn_ring {
	uint32_t own;  /* own index: head for a producer, tail for a consumer */
	uint32_t seen; /* the peer's index when last looked at and found possible */
};

/* Where a direction's shared words and bytes are mapped in this process. */
struct gn_ring_map {
	struct gn_dir *dir;
	uint8_t *bytes;
	uint32_t size; /* a power of two */
};

/* Bytes that can be written now, or -EPROTO: the consumer's index is impossible. */
int64_t gn_ring_space(struct gn_ring *r, const struct gn_ring_map *m);

/* Bytes that can be read now, or -EPROTO: the producer's index is impossible. */
int64_t gn_ring_readable(struct gn_ring *r, const struct gn_ring_map *m);

/* Copies `len` bytes, which must fit (gn_ring_space), behind `offset` further bytes not yet published. */
void gn_ring_put(const struct gn_ring *r, const struct gn_ring_map *m, uint32_t offset, const void *from, uint32_t len);

/* Copies `len` bytes, which must be there (gn_ring_readable), from `offset` bytes behind the next unread one. */
void gn_ring_get(const struct gn_ring *r, const struct gn_ring_map *m, uint32_t offset, void *to, uint32_t len);

/* Makes `len` written bytes visible. Not 0: the consumer is parked and this caller owes it a bell. 1, or a token: one bell wakes whoever
 * parked on several rings with the same token. */
uint32_t gn_ring_publish(struct gn_ring *r, const struct gn_ring_map *m, uint32_t len);

/* The room that a parked producer waits for: half the ring, so that two fast sides hand over in large pieces. */
static inline uint32_t gn_ring_room(const struct gn_ring_map *m)
{
	return m->size / 2;
}

/* Gives `len` read bytes back. True: the producer is parked, there is room again, and this caller owes it a bell. */
bool gn_ring_consume(struct gn_ring *r, const struct gn_ring_map *m, uint32_t len);

/* Bytes that a record of `len` takes in the ring. */
static inline uint64_t gn_record_room(uint64_t len)
{
	return 4 + ((len + 3) & ~(uint64_t)3);
}

#endif
