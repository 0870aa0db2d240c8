/* SPDX-License-Identifier: MIT */
/*
 * Segments: making, sharing and checking the sealed memfd that holds the rings of a connection, and the meeting at which the two
 * ends of a connection share one.
 *
 * The meeting. Both ends of a hot connection compute the same abstract name. Who comes first binds a socket there and listens (the
 * offer) and goes on in the kernel lane; who comes second connects, makes the segment and sends its descriptor. Nobody waits: each
 * step is tried once per call of gn_meeting_step() and the byte stream itself is never touched. Each side checks by SO_PEERCRED that
 * the other is the user it talks to over the connection.
 *
 * Errors: -errno. Sources: memfd_create(2), fcntl(2) on seals, unix(7).
 */
#ifndef GN_LANE_SEGMENT_H
#define GN_LANE_SEGMENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "name/name.h"
#include "ring/ring.h"

/* A mapped segment. side 0 made it. */
struct gn_segment {
	struct gn_seg *map;
	size_t bytes;
	int side;
};

/* Makes a segment, sealed against shrinking and growing [RING-3]; *fd is the caller's to share and close. */
int gn_segment_new(struct gn_segment *s, int *fd, uint32_t ring_size, bool records);

/* Maps and checks a segment that a peer made. Does not close fd. -EPROTO: not a segment, not sealed, sizes that do not agree. */
int gn_segment_open(struct gn_segment *s, int fd);

void gn_segment_unmap(struct gn_segment *s);

/* This side's view of the two directions. */
void gn_segment_views(const struct gn_segment *s, struct gn_ring_map *tx, struct gn_ring_map *rx);

enum gn_meeting_state { GN_MEET_NONE, GN_MEET_OFFERED, GN_MEET_VISITED };

struct gn_meeting {
	int fd; /* -1, the listening offer, or the visitor */
	enum gn_meeting_state state;
	pid_t pid; /* of who came, by the kernel's word; 0: not in our pid namespace */
	bool stay; /* keep the connection to the other end when they have met: it ends when the other end does */
};

/* Whom to expect: credentials of the connection's other end, as SO_PEERCRED shows them. */
struct gn_expect {
	uid_t uid;
	pid_t pid; /* 0: not known */
	int fd;    /* the connection, with a pid: whether that process lives still */
};

/* 1: met, *s is mapped; 0: nobody there yet, try again later; -errno: hopeless. */
int gn_meeting_step(struct gn_meeting *m, const struct gn_name *at, const struct gn_expect *who, uint32_t ring_size, bool records,
		    struct gn_segment *s);

/* Gives up an offer. */
void gn_meeting_end(struct gn_meeting *m);

#endif
