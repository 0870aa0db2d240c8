/* SPDX-License-Identifier: MIT */
/*
 * Endpoints as every process of a forked family sees them: the pool, one memfd named "gnezdo-pool" mapped shared.
 *
 * An endpoint is gnezdo's state for one open socket (one open file description), shared by every dup and every forked copy.
 * Peers never see this memory; `gnezdo ss` opens it read-only through /proc/PID/fd. Types only; offsets and indexes, no pointers.
 *
 * Units: bytes; stream positions count from the connection's first byte. Owner of each half's fields: whoever holds its lock.
 */
#ifndef GN_SOCK_EP_H
#define GN_SOCK_EP_H

#include <assert.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>

#include "name/name.h"
#include "ring/ring.h"

#define GN_POOL_NAME "gnezdo-pool"
#define GN_POOL_MAGIC 0x324c4f4f504e47ull
#define GN_POOL_SLOTS 65536u
#define GN_POOL_SPARE 1024u /* so few left: the private faces go */
#define GN_HOLDERS 6 /* pids that a slot can name */

enum gn_state { /* stored in gn_ep.state as uint32_t; names as ss(8) prints them */
	GN_FREE = 0,
	GN_UNCONN,
	GN_LISTEN,
	GN_ESTAB,
};

/* Why an endpoint is in the kernel lane or was not taken over. [LANE-5] Texts: gn_reason_text(). */
enum gn_reason {
	GN_WHY_NONE = 0,     /* on the ring */
	GN_WHY_COLD,         /* too little traffic so far */
	GN_WHY_NO_FACE,      /* the peer's address has no private face: not under gnezdo */
	GN_WHY_REMOTE,       /* the peer is on another machine */
	GN_WHY_NO_PEER,      /* the peer does not answer the offer: not under gnezdo, or pinned */
	GN_WHY_LANE_KERNEL,  /* --lane kernel */
	GN_WHY_SHARED,       /* several processes hold the endpoint */
	GN_WHY_INHERITED,    /* came through exec or from another process: bytes before are not counted */
	GN_WHY_STDIO,        /* dup2 onto 0, 1, 2 or fdopen */
	GN_WHY_CALL,         /* a call was used that the ring cannot carry */
	GN_WHY_OOB,          /* out-of-band data */
	GN_WHY_ANCILLARY,    /* descriptors or credentials were sent or asked for */
	GN_WHY_OPTION,       /* an option that only the kernel does */
	GN_WHY_NO_MEMORY,    /* no segment could be made or mapped */
	GN_WHY_NO_DIAG,      /* the kernel does not tell who the peer is */
	GN_WHY_TRUST,        /* whoever holds the private face may not answer for the address */
	GN_WHY_PROTOCOL,     /* the peer wrote nonsense into the segment */
	GN_WHY_SANDBOX,      /* the process is under a seccomp filter */
	GN_WHY_BUSY_NAME,    /* the private name is taken */
	GN_WHY_ADDRESS,      /* not an address gnezdo serves: broadcast, multicast, other family */
	GN_WHY_SCARCE,       /* RLIMIT_NOFILE leaves no number for a descriptor of gnezdo's own */
	GN_WHY_URING,        /* the process has set up an io_uring, or has it linked in */
	GN_WHY_NETNS,        /* the socket belongs to another network namespace than the thread that used it */
	GN_WHY_COUNT,
};

/* Beside GN_LANE_*, of a half alone: whoever holds its lock is about to find out whether it can leave the kernel lane. */
#define GN_LANE_LEAVING 3u
#define GN_LANE_MOVED 4u /* for good: the endpoint is another socket now, behind a relay (move.c) */

/* One direction of one endpoint, this side's half of it. */
struct gn_half {
	alignas(GN_LINE) _Atomic uint32_t lock; /* tid of the holder, high bit: somebody waits; robust (lane/lock.h) */
	_Atomic uint32_t lane;     /* GN_LANE_*: where this half is now, or GN_LANE_LEAVING */
	_Atomic uint32_t in_kernel; /* calls of this half inside the kernel lane without the lock */
	struct gn_ring ring;
	_Atomic uint32_t shut;     /* this half was shut down by the program */
	_Atomic uint64_t kernel_bytes; /* moved in the kernel lane, bells excluded: the stream position before the switch */
	_Atomic uint64_t kernel_msgs;
	_Atomic uint64_t ring_bytes;
	_Atomic uint64_t ring_msgs;
};
static_assert(sizeof(struct gn_half) == GN_LINE, "a half is one line");

struct gn_ep {
	alignas(GN_LINE) struct gn_half tx;
	struct gn_half rx;
	_Atomic uint32_t state;   /* enum gn_state */
	_Atomic uint32_t holders; /* processes that hold a descriptor of it */
	_Atomic uint32_t reason;  /* enum gn_reason */
	_Atomic uint32_t flags;   /* GN_EP_* */
	uint16_t domain, type, protocol; /* as the program asked for */
	uint16_t backlog;
	_Atomic uint32_t rcvlowat; /* SO_RCVLOWAT, 0: never set */
	struct gn_addr local, peer; /* internet domain; local AF_UNIX names are asked from the kernel */
	_Atomic int32_t pid[GN_HOLDERS]; /* 0: free; negative: somebody dead is being cleared away, by that process */
	_Atomic uint32_t promotions, demotions, bells_sent;
	_Atomic uint32_t sleepers;      /* datagrams: threads parked in the kernel on this endpoint's descriptor */
	_Atomic uint16_t asleep[GN_HOLDERS + 1]; /* streams: the same, of each holder by its place in pid[]; the last: a relay, for its family */
	_Atomic uint64_t bells_turn;    /* counted up before bells are taken out of the kernel lane */
	_Atomic uint64_t rcvtimeo_ns, sndtimeo_ns; /* 0: for ever */
	_Atomic uint64_t peek_at;       /* with GN_EP_PEEK_OFF: stream position of the next MSG_PEEK */
	int32_t fd; /* a descriptor of it, in the process that opened it */
	_Atomic uint32_t so_error; /* an errno that waits to be reported */
	uint64_t moved[2]; /* written before GN_LANE_MOVED: the number of the relay's name, and what it is to be told to give its socket out */
};
static_assert(sizeof(struct gn_ep) == 5 * GN_LINE, "five lines");

#define GN_EP_NONBLOCK 1u  /* O_NONBLOCK, shared by all descriptors of it */
#define GN_EP_PINNED 2u    /* stays in, or returns to, the kernel lane */
#define GN_EP_EMULATED 4u  /* an internet endpoint carried by an AF_UNIX socket (private face) */
#define GN_EP_JUDGED 8u    /* the peer has gone, and whether that was a reset is known (gone.c) */
#define GN_EP_DEAD 16u     /* closed in both ways: by a reset, or by writing to who has left */
#define GN_EP_LINGER0 64u   /* close is to reset the connection */
#define GN_EP_PEEK_OFF 256u  /* SO_PEEK_OFF is on and ours to do (peek.c) */
#define GN_EP_PASSCRED 1024u /* SO_PASSCRED is on */
#define GN_EP_URGENT 2048u   /* emulated: an urgent byte was read out of line, the mark may still be ahead (urgent.c) */
#define GN_EP_RELAYED 128u   /* emulated, and a relay's socket carries it: shut there is shut, whoever did it */
#define GN_EP_UNSURE 4096u   /* a reader was killed: of rx.kernel_bytes or _msgs, what it took may be missing */
#define GN_EP_SHUT_CARRIER 512u /* we have shut the kernel socket for reading: its end of file says nothing of the peer */
#define GN_EP_LATE_URGENT 32768u /* emulated: what reset it was urgent data, which nobody can read */
#define GN_EP_STAMP_US 8192u /* records: SO_TIMESTAMP is on */
#define GN_EP_STAMP_NS 16384u /* SO_TIMESTAMPNS */
#define GN_EP_PASSPIDFD 65536u /* SO_PASSPIDFD is on */
#define GN_EP_INQ 131072u      /* SO_INQ is on */
#define GN_EP_WATCHED 524288u  /* was armed for an epoll set while several processes held it (wait.c: taken_of; dgram_ring.c) */
#define GN_EP_CROWDED 1048576u  /* streams: a holder that has no place in pid[] has slept on it, and may again: it is not counted */
#define GN_EP_PASSSEC 262144u  /* SO_PASSSEC is on */
#define GN_EP_PEER_ENDED 2097152u /* the peer's half had ended when we shut the kernel socket, which does not show it any more */
#define GN_EP_GIVEN 4194304u       /* a process that nobody counts may hold it: who closes it here does not know that it is the last */
#define GN_EP_SENDERS (GN_EP_PASSCRED | GN_EP_PASSPIDFD | GN_EP_PASSSEC) /* what comes says who sent it, but what came by the ring */
#define GN_EP_CONTROL (GN_EP_SENDERS | GN_EP_STAMP_US | GN_EP_STAMP_NS) /* each message comes with control data */
#define GN_EP_CONNECTING 32u /* a non-blocking connect was answered EINPROGRESS and not yet asked about */

struct gn_pool {
	uint64_t magic;
	uint32_t slots;   /* GN_POOL_SLOTS */
	uint32_t ep_size; /* sizeof(struct gn_ep) */
	_Atomic uint32_t hint, used;
	_Atomic uint32_t forking; /* processes with epoll sets that are being forked: see gn_family_is_alone() */
	_Atomic uint32_t strange; /* the relatives are in several process namespaces: a pid does not tell who is dead */
	struct gn_ep ep[]; /* the first share a page with the head: each page written after a fork is a fault */
};

/* Static text of a reason, as `gnezdo ss` and --stats print it. */
const char *gn_reason_text(uint32_t reason);

#endif
