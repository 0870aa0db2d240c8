/* SPDX-License-Identifier: MIT */
/* The lanes' own sending and receiving, behind io.c. Errors: -errno. */
#ifndef GN_SOCK_IO_H
#define GN_SOCK_IO_H

#include "sock/api.h"

#define GN_OTHER_LANE (-10000) /* the lane changed meanwhile: try the other one */

#define GN_END (GN_OTHER_LANE - 1) /* end of file, or of the peer's reading */
#define GN_NONE_WANTED (GN_OTHER_LANE - 2) /* asked for no bytes, and there are some */

/* Who ends without a word says nothing in shared memory, and the kernel is asked: by whoever is about to say "nothing there", or to write, to a peer
 * that has not been heard for so long: 100 us or less on processors of 2 GHz and more. It takes a process longer to end and somebody to know of it. */
#define GN_DOUBT_TICKS 200000

/* A reader's doubt, `patience` times as patient. True: the kernel is to be asked, which is noted. The receiving half is on the ring. */
static inline bool gn_doubts_writer(struct gn_sock *so, uint64_t patience)
{
	uint64_t now = gn_ticks();

	if (likely(now - atomic_load_explicit(&so->rx.dir->p_ticks, memory_order_relaxed) < GN_DOUBT_TICKS) ||
	    now - atomic_load_explicit(&so->looked_ticks, memory_order_relaxed) < GN_DOUBT_TICKS * patience)
		return false;
	atomic_store_explicit(&so->looked_ticks, now, memory_order_relaxed);
	return true;
}

/* "Nothing there" is not true: the peer has ended. */
static inline bool gn_ended_unheard(struct gn_sock *so, int fd)
{
	return gn_doubts_writer(so, 1) && gn_peer_ended(so, fd);
}

/* A writer's doubt, at `now`. Of a reader that goes on it is enough to see that it does. */
static inline bool gn_doubts_reader(struct gn_sock *so, uint64_t now)
{
	uint64_t since = now - atomic_load_explicit(&so->heard_ticks, memory_order_relaxed);
	uint32_t tail;
	bool moved;

	if (likely(since < GN_DOUBT_TICKS))
		return false;
	tail = atomic_load_explicit(&so->tx.dir->tail, memory_order_relaxed);
	moved = tail != so->tail_before;
	so->tail_before = tail;
	atomic_store_explicit(&so->heard_ticks, now, memory_order_relaxed);
	return !(moved && since < 2 * GN_DOUBT_TICKS) && now - atomic_load_explicit(&so->rx.dir->p_ticks, memory_order_relaxed) >= GN_DOUBT_TICKS;
}

/* A place in a vector of buffers. */
struct gn_cursor {
	const struct iovec *iov;
	size_t left; /* vectors */
	size_t skip; /* bytes of the first one that are done */
};

static inline bool gn_io_nonblock(const struct gn_sock *so, int flags)
{
	return (flags & MSG_DONTWAIT) || gn_flag(so->ep, GN_EP_NONBLOCK);
}

static inline uint64_t gn_deadline(uint64_t timeout_ns)
{
	return timeout_ns ? gn_now_ns() + timeout_ns : 0;
}

/* The message as sendmsg(2) and recvmsg(2) take it. */
static inline struct msghdr gn_io_msg(const struct gn_io *io)
{
	return (struct msghdr){
		.msg_name = io->name,
		.msg_namelen = io->name_len,
		.msg_iov = (struct iovec *)(uintptr_t)io->iov,
		.msg_iovlen = io->iovcnt,
		.msg_control = io->control,
		.msg_controllen = io->control_len,
	};
}

/* What recvmsg() said beside the bytes, but for the name. */
static inline void gn_io_answer(struct gn_io *io, const struct msghdr *msg)
{
	io->control_len = msg->msg_controllen;
	io->out_flags = msg->msg_flags;
}

/* Where the kernel lane of the receiving half ends: a position, UINT64_MAX while the peer has not switched. */
static inline uint64_t gn_kernel_until(const struct gn_sock *so)
{
	if (atomic_load_explicit(&so->rx.dir->lane, memory_order_acquire) == GN_LANE_KERNEL)
		return UINT64_MAX;
	return atomic_load_explicit(&so->rx.dir->switch_pos, memory_order_relaxed);
}

/* With how many bytes a blocking receive is content: all of them, or SO_RCVLOWAT. */
static inline size_t gn_least(const struct gn_sock *so, const struct gn_io *io)
{
	uint32_t low = atomic_load_explicit(&so->ep->rcvlowat, memory_order_relaxed);

	return io->flags & MSG_WAITALL ? io->total : GN_MIN((size_t)low, io->total);
}

/* stream.c */
int64_t gn_stream_there(struct gn_sock *so, int fd, size_t want); /* bytes in the ring, looked for if fewer than `want` are known; GN_END:
								     and none will come */
bool gn_nobody_follows(const struct gn_sock *so, int fd); /* in the kernel's queue */
ssize_t gn_stream_send(struct gn_sock *so, int fd, struct gn_io *io);
ssize_t gn_stream_recv(struct gn_sock *so, int fd, struct gn_io *io);

/* move.c: of an endpoint that has moved */
ssize_t gn_moved_io(struct gn_sock *so, int fd, struct gn_io *io, bool sending);

/* peek.c */
ssize_t gn_stream_peek(struct gn_sock *so, int fd, struct gn_io *io);

/* record.c */
ssize_t gn_record_send(struct gn_sock *so, int fd, struct gn_io *io);
ssize_t gn_record_recv(struct gn_sock *so, int fd, struct gn_io *io);

/* kernel.c */
#define GN_BUFFERS 16 /* of a vector, at a time */
/* The buffers from `done` bytes on, and no more than `limit` bytes of them; returns how many they hold. */
size_t gn_buffers_from(const struct gn_io *io, size_t done, size_t limit, struct iovec v[GN_BUFFERS], struct msghdr *msg);
ssize_t gn_kernel_send(struct gn_sock *so, int fd, struct gn_io *io);
ssize_t gn_kernel_recv(struct gn_sock *so, int fd, struct gn_io *io);
ssize_t gn_kernel_sendfile(struct gn_sock *so, int fd, int from, off_t *at, size_t len);
ssize_t gn_kernel_take(struct gn_sock *so, int fd, struct gn_io *io, size_t done, size_t *limit, bool open);
ssize_t gn_kernel_look(struct gn_sock *so, int fd, struct gn_io *io, size_t done, size_t limit);

/* gone.c */
ssize_t gn_broken_pipe(const struct gn_sock *so, int flags); /* -EPIPE, after SIGPIPE unless MSG_NOSIGNAL or a packet socket */
ssize_t gn_send_to_gone(struct gn_sock *so, int fd, struct gn_io *io, size_t done);
ssize_t gn_recv_end(struct gn_sock *so, int fd);             /* 0, or -ECONNRESET once when it is due */

/* io.c */
ssize_t gn_recv_discard(struct gn_sock *so, int fd, struct gn_io *io, ssize_t (*recv)(struct gn_sock *so, int fd, struct gn_io *io));
bool gn_is_from_nobody(const struct gn_sock *so, struct msghdr *msg); /* as what came by a ring, and with nothing else to say */
void gn_ring_control(struct gn_sock *so, struct gn_io *io, size_t room); /* control data of what came by a ring: with GN_EP_CONTROL */
void gn_cursor_copy(struct gn_cursor *c, const struct gn_ring *r, const struct gn_ring_map *m, uint32_t len, bool put);

/* dgram.c */
ssize_t gn_dgram_send(struct gn_sock *so, int fd, struct gn_io *io);
ssize_t gn_dgram_recv(struct gn_sock *so, int fd, struct gn_io *io);

#endif
