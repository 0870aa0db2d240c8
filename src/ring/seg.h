/* SPDX-License-Identifier: MIT */
/*
 * The layout of a segment: one sealed memfd that holds the two rings of a connection. Types only.
 *
 * Both processes map the same bytes and neither trusts the other. Every field says who writes it:
 *   [P] the producer of that direction   [C] its consumer   [I] fixed before the segment is shared
 * A field that the peer can write is read once into a local and range-checked before use. [RING-2]
 *
 * Units: indexes and sizes in bytes; indexes run free modulo 2^32 and head - tail is what is queued. [RING-1]
 */
#ifndef GN_RING_SEG_H
#define GN_RING_SEG_H

#include <assert.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>

/* "gnezdo03", little endian. Another one for each change of what is below, of words that a peer must know too: two that differ stay in the
 * kernel lane. */
#define GN_SEG_MAGIC 0x33306f647a656e67ull
#define GN_LINE 64
#define GN_NONCE_BYTES 16

/* Values of gn_dir.lane: where the bytes of a direction go. Only ever moves forward. [LANE-2] */
#define GN_LANE_KERNEL 0u
#define GN_LANE_RING 1u
#define GN_LANE_BACK 2u /* in the kernel lane again, for good, after the last byte of the ring */

/* Values of gn_dir.consent: what the consumer allows. KERNEL -> one of the others by compare-and-swap. */
#define GN_CONSENT_NONE 0u
#define GN_CONSENT_GIVEN 1u
#define GN_CONSENT_REFUSED 2u
#define GN_CONSENT_LEAVING 3u /* datagrams: the consumer hands what it has not read to the kernel, and that is to stay the order */
#define GN_CONSENT_LEFT 4u    /* it reads no more: what is behind its tail the producer sends by the kernel, before all else */

/* Values of gn_dir.deaf: the consumer reads no more, because it ... */
#define GN_DEAF_SHUT 1u
#define GN_DEAF_CLOSED 2u
#define GN_DEAF_RESET 3u /* closed with SO_LINGER 0 */

/* Values of gn_dir.fin: nothing follows head, because the producer ... */
#define GN_FIN_NONE 0u
#define GN_FIN_SHUT 1u
#define GN_FIN_CLOSED 2u
#define GN_FIN_LATE 3u /* has written to a consumer that had shut both ways (TCP: that is a reset) */

/* One direction. Each of the two busy indexes has a line of its own; the third line changes seldom, so both sides keep it
 * in their caches while the connection is hot. */
struct gn_dir {
	alignas(GN_LINE) _Atomic uint32_t head; /* [P] bytes ever written */
	_Atomic uint64_t p_ticks;               /* [P] streams, packets: the processor's counter when it last wrote; it lived then */

	alignas(GN_LINE) _Atomic uint32_t tail; /* [C] bytes ever read */

	alignas(GN_LINE) _Atomic uint32_t c_parked; /* [C] sets before it sleeps, [P] clears: a bell is due. 1, or a token */
	_Atomic uint32_t p_parked;                  /* [P] sets before it sleeps, [C] clears: a bell is due */
	_Atomic uint32_t lane;                      /* [P] GN_LANE_* */
	_Atomic uint32_t consent;                   /* [C] GN_CONSENT_* */
	_Atomic uint64_t switch_pos;                /* [P] stream position of the ring's first byte; set before lane */
	_Atomic uint32_t fin;                       /* [P] GN_FIN_*: nothing follows head */
	_Atomic uint32_t deaf;                      /* [C] GN_DEAF_*: reads no more */
	_Atomic uint32_t p_cpu;                     /* [P] the producer's processor + 1 when it last ran */
	_Atomic uint32_t c_cpu;                     /* [C] likewise the consumer's */
	_Atomic uint32_t c_pid;                     /* [C] whose tokens c_parked holds */
	_Atomic uint32_t p_rings;                   /* [P] datagrams: is about to ring, having seen that the consumer still listens */
};

struct gn_seg {
	uint64_t magic;     /* [I] */
	uint32_t ring_size; /* [I] bytes of each ring, a power of two */
	uint32_t records;   /* [I] 1: the rings hold records, not a stream */
	uint8_t nonce[GN_NONCE_BYTES]; /* [I] random: a bell is these bytes, whole, in the kernel lane */
	struct gn_dir dir[2]; /* [0] from the side that made the segment, [1] towards it */
};

#define GN_SEG_HEAD 4096u /* the rings start here, page-aligned: first dir[0]'s, then dir[1]'s */

static_assert(sizeof(struct gn_dir) == 3 * GN_LINE, "one line each: head, tail, the rest");
static_assert(sizeof(struct gn_seg) == 7 * GN_LINE, "header line and two directions");
static_assert(sizeof(struct gn_seg) <= GN_SEG_HEAD, "header fits its page");

#endif
