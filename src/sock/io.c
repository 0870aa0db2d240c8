/* SPDX-License-Identifier: MIT */
/* Sending and receiving: which lane a call goes to, and what all lanes have in common. */
#include "sock/io.h"

#include <limits.h>
#include <string.h>
#include <time.h>

#include "sock/sleep.h"

#define COPY_BYTES 65536 /* of sendfile, at a time: as many as the kernel's, which fills a pipe */
#define DISCARD_MAX 64 /* times gn_waste, in one piece */
#define BIG_BUFFER (4 << 20) /* what TCP lets a sender run ahead; AF_UNIX starts with 208 KiB */

GN_BULK char gn_waste[GN_WASTE_BYTES];

void gn_cursor_copy(struct gn_cursor *c, const struct gn_ring *r, const struct gn_ring_map *m, uint32_t len, bool put)
{
	uint32_t done = 0;

	while (done < len) {
		size_t run = GN_MIN(c->iov->iov_len - c->skip, (size_t)(len - done));
		char *at = (char *)c->iov->iov_base + c->skip;

		if (r && run && put)
			gn_ring_put(r, m, done, at, (uint32_t)run);
		else if (r && run)
			gn_ring_get(r, m, done, at, (uint32_t)run);
		done += (uint32_t)run;
		c->skip += run;
		if (c->skip == c->iov->iov_len && c->left > 1) {
			c->iov++;
			c->left--;
			c->skip = 0;
		}
	}
}

/* TCP's buffers let a sender run further ahead than AF_UNIX's first 208 KiB; asked for when a connection proves to need it. */
static void more_room(struct gn_sock *so, int fd)
{
	int size = BIG_BUFFER;

	so->roomy = true;
	if (gn_flag(so->ep, GN_EP_EMULATED) && gn_sys_setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) < 0)
		gn_sys_setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

static bool has_unusual(const struct gn_io *io)
{
	return io->control_len || (io->flags & MSG_OOB);
}

/* What the ring cannot carry: descriptors, credentials, urgent bytes. */
static void go_back(struct gn_sock *so, int fd, const struct gn_io *io)
{
	gn_pin(so, fd, (io->flags & MSG_OOB) ? GN_WHY_OOB : GN_WHY_ANCILLARY);
}

static inline void warm_up(struct gn_sock *so, int fd)
{
	if (unlikely(++so->heat >= so->heat_next) && so->heat >= gn_world.heat)
		gn_promote_step(so, fd);
}

/* Not connected yet, because the queue of whom we call is full: 0, or what send() and recv() say. */
static int still_queued(struct gn_sock *so, int fd, int flags)
{
	int rc = gn_queue_wait(so, fd, gn_io_nonblock(so, flags));

	if (rc < 0 && rc != -EINTR && rc != -EINPROGRESS)
		atomic_store(&so->ep->so_error, 0); /* told now */
	return rc == -EINPROGRESS ? -EAGAIN : rc;
}

/* A write that moved less than all, which sets with edges are told the end of: at the worst of one too many. */
static void note_full(struct gn_sock *so, ssize_t rc, size_t wanted)
{
	if (unlikely(rc == -EAGAIN || (rc > 0 && (size_t)rc < wanted)))
		atomic_fetch_add(&so->tx_full, 1);
}

static ssize_t send_cold(struct gn_sock *so, int fd, struct gn_io *io)
{
	ssize_t rc;

	gn_connecting_pass(so);
	rc = unlikely(gn_queue_waits(so)) ? still_queued(so, fd, io->flags) : 0;
	if (unlikely(rc < 0))
		return rc;
	if (unlikely(gn_has_moved(so)))
		return gn_moved_io(so, fd, io, true);
	if (!so->roomy && (io->total >= 16384 || so->heat > 3))
		more_room(so, fd);
	if (unlikely(io->flags & MSG_OOB) && so->ep->type == SOCK_STREAM && !gn_flag(so->ep, GN_EP_PINNED))
		go_back(so, fd, io); /* whether an urgent byte counts is the reader's choice: no position of a switch holds behind one */
	warm_up(so, fd);
	gn_settle(so, fd);
	if (gn_tx_shared(so) && !has_unusual(io))
		return GN_OTHER_LANE;
	rc = gn_kernel_send(so, fd, io);
	note_full(so, rc, io->total);
	return rc;
}

static ssize_t send_ring(struct gn_sock *so, int fd, struct gn_io *io)
{
	if (unlikely(io->name_len) && so->ep->type == SOCK_STREAM && !gn_flag(so->ep, GN_EP_EMULATED))
		return -EISCONN;
	if (unlikely(has_unusual(io) && so->ep->type == SOCK_SEQPACKET)) {
		ssize_t rc = gn_recv_end(so, fd); /* an error that waits goes first */

		if (rc < 0 || (io->flags & MSG_OOB))
			return rc < 0 ? rc : -EOPNOTSUPP;
	}
	if (unlikely(has_unusual(io))) {
		go_back(so, fd, io);
		return GN_OTHER_LANE;
	}
	if (unlikely(!so->settled))
		gn_settle(so, fd);
	return so->ep->type == SOCK_STREAM ? gn_stream_send(so, fd, io) : gn_record_send(so, fd, io);
}

ssize_t gn_send_io(struct gn_sock *so, int fd, struct gn_io *io)
{
	ssize_t rc;

	if (so->ep->type == SOCK_DGRAM)
		return gn_dgram_send(so, fd, io);
	do {
		rc = gn_tx_shared(so) ? send_ring(so, fd, io) : send_cold(so, fd, io);
	} while (unlikely(rc == GN_OTHER_LANE));
	return rc;
}

/* We have shut this half: what has come can be read, nothing is waited for. */
static ssize_t recv_shut(struct gn_sock *so, int fd, struct gn_io *io)
{
	ssize_t rc;

	io->flags |= MSG_DONTWAIT;
	rc = gn_kernel_recv(so, fd, io);
	return rc == -EAGAIN ? gn_recv_end(so, fd) : rc;
}

/* Of a connection that was reset no urgent byte can be read, nor is it as if none had come (tcp_recv_urg()). */
static ssize_t urgent_answer(struct gn_sock *so, int fd, ssize_t rc)
{
	bool there;

	if (gn_flag(so->ep, GN_EP_EMULATED)) /* late words of which nobody has heard yet */
		gn_judge(so, fd);
	there = rc > 0 || gn_flag(so->ep, GN_EP_LATE_URGENT);
	return there && gn_flag(so->ep, GN_EP_EMULATED) && gn_flag(so->ep, GN_EP_DEAD) && !so->eof ? -ENOTCONN : rc;
}

/* The peer may switch from the byte on that is read next: read with the lock, unless a call is in the kernel lane still. */
static ssize_t recv_cold(struct gn_sock *so, int fd, struct gn_io *io)
{
	ssize_t rc;

	gn_connecting_pass(so);
	rc = unlikely(gn_queue_waits(so)) ? still_queued(so, fd, io->flags) : 0;
	if (unlikely(rc < 0))
		return rc;
	if (unlikely(gn_has_moved(so)))
		return gn_moved_io(so, fd, io, false);
	if (unlikely(io->flags & (MSG_OOB | MSG_ERRQUEUE))) {
		if ((io->flags & MSG_ERRQUEUE) && gn_flag(so->ep, GN_EP_EMULATED))
			return -EAGAIN; /* nothing goes wrong later */
		rc = gn_kernel_recv(so, fd, io);
		return io->flags & MSG_OOB ? urgent_answer(so, fd, rc) : rc;
	}
	warm_up(so, fd);
	gn_settle(so, fd);
	if (gn_rx_shared(so))
		return GN_OTHER_LANE;
	return unlikely(atomic_load_explicit(&so->ep->rx.shut, memory_order_relaxed)) ? recv_shut(so, fd, io)
										      : gn_kernel_recv(so, fd, io);
}

/* Urgent bytes travel in the kernel lane, after which their sender went back. */
static ssize_t recv_urgent(struct gn_sock *so, int fd, struct gn_io *io)
{
	struct msghdr msg;
	ssize_t rc;

	if (so->ep->type != SOCK_STREAM)
		return -EOPNOTSUPP;
	if (atomic_load(&so->rx.dir->lane) == GN_LANE_RING)
		return urgent_answer(so, fd, -EINVAL); /* none was sent */
	io->name_len = 0;
	io->control_len = 0;
	msg = gn_io_msg(io);
	rc = gn_sys_recvmsg(fd, &msg, io->flags);
	if (rc >= 0)
		gn_io_answer(io, &msg);
	if (rc > 0 && !(io->flags & MSG_PEEK))
		gn_urgent_was_read(so);
	return urgent_answer(so, fd, rc);
}

/* The peer's name comes with the bytes of AF_UNIX, if it has one. */
static void name_out(struct gn_sock *so, int fd, struct gn_io *io)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;

	if (unlikely(so->peer)) {
		len = gn_peer_source(so, io->name, io->name_len);
		if (len) {
			io->name_len = len;
			return;
		}
		len = sizeof ss;
	}
	if (gn_sys_getpeername(fd, &ss, &len) < 0 || len <= sizeof(sa_family_t))
		len = 0;
	memcpy(io->name, &ss, GN_MIN(len, io->name_len));
	io->name_len = len;
}

static ssize_t discard_piece(struct gn_sock *so, int fd, struct gn_io *io, ssize_t (*recv)(struct gn_sock *so, int fd, struct gn_io *io))
{
	struct iovec iov[DISCARD_MAX];
	struct gn_io into = {.iov = iov, .flags = io->flags & ~MSG_TRUNC};

	for (; into.iovcnt < DISCARD_MAX && into.total < io->total; into.total += iov[into.iovcnt++].iov_len)
		iov[into.iovcnt] = (struct iovec){gn_waste, GN_MIN(io->total - into.total, sizeof gn_waste)};
	io->name_len = 0;
	io->control_len = 0;
	return recv(so, fd, &into);
}

/* recv(MSG_TRUNC) on TCP throws the bytes away, or counts them (MSG_PEEK): tcp(7). From the ring the lane
 * may change after a piece; in the kernel lane, which the caller counts, it cannot. */
ssize_t gn_recv_discard(struct gn_sock *so, int fd, struct gn_io *io, ssize_t (*recv)(struct gn_sock *so, int fd, struct gn_io *io))
{
	struct gn_io piece = *io;
	ssize_t rc = discard_piece(so, fd, io, recv), done = rc;

	piece.flags |= io->flags & MSG_WAITALL ? 0 : MSG_DONTWAIT; /* something is there */
	while (rc == DISCARD_MAX * GN_WASTE_BYTES && (size_t)done < io->total && !(io->flags & MSG_PEEK)) {
		piece.total = GN_MIN(io->total - (size_t)done, (size_t)DISCARD_MAX * GN_WASTE_BYTES);
		fd = gn_fd_still(so, fd);
		rc = fd < 0 ? 0 : recv == gn_stream_recv ? gn_recv_io(so, fd, &piece) : discard_piece(so, fd, &piece, recv);
		done += GN_MAX(rc, (ssize_t)0);
	}
	return done;
}

/* As put_cmsg() of the kernel; io->control_len counts what has been put. */
static void put_control(struct gn_io *io, size_t room, int type, const void *data, size_t len)
{
	char *at = io->control ? (char *)io->control + io->control_len : NULL;
	struct msghdr msg = {.msg_control = at, .msg_controllen = at ? room - io->control_len : 0};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	size_t whole = CMSG_LEN(len);

	if (at && unlikely(gn_is_nowhere(at, 1)))
		return;
	if (!c || msg.msg_controllen < whole)
		io->out_flags = GN_MAX(io->out_flags, 0) | MSG_CTRUNC;
	if (!c)
		return;
	whole = GN_MIN(whole, msg.msg_controllen);
	*c = (struct cmsghdr){.cmsg_len = whole, .cmsg_level = SOL_SOCKET, .cmsg_type = type};
	memcpy(CMSG_DATA(c), data, whole - CMSG_LEN(0));
	io->control_len += GN_MIN(CMSG_SPACE(len), msg.msg_controllen);
}

static const struct ucred nobody = {0, 65534, 65534};

bool gn_is_from_nobody(const struct gn_sock *so, struct msghdr *msg)
{
	struct cmsghdr *c = CMSG_FIRSTHDR(msg);

	return (atomic_load(&so->ep->flags) & GN_EP_SENDERS) == GN_EP_PASSCRED && c && c->cmsg_type == SCM_CREDENTIALS &&
	       c->cmsg_len == CMSG_LEN(sizeof nobody) && memcmp(CMSG_DATA(c), &nobody, sizeof nobody) == 0 &&
	       !CMSG_NXTHDR(msg, c);
}

/* What was sent before SO_PASSCRED was set comes with nobody's credentials (unix(7)), before SO_PASSPIDFD with no descriptor, but the kernel wants
 * the room; before SO_TIMESTAMP, with the time of now. */
void gn_ring_control(struct gn_sock *so, struct gn_io *io, size_t room)
{
	struct timespec ts;
	struct timeval tv;

	io->control_len = 0;
	if (so->ep->type != SOCK_STREAM && gn_flag(so->ep, GN_EP_STAMP_US | GN_EP_STAMP_NS)) {
		clock_gettime(CLOCK_REALTIME, &ts);
		tv = (struct timeval){ts.tv_sec, ts.tv_nsec / 1000};
		if (gn_flag(so->ep, GN_EP_STAMP_NS))
			put_control(io, room, SO_TIMESTAMPNS, &ts, sizeof ts);
		else
			put_control(io, room, SO_TIMESTAMP, &tv, sizeof tv);
	}
	if (gn_flag(so->ep, GN_EP_PASSCRED))
		put_control(io, room, SCM_CREDENTIALS, &nobody, sizeof nobody);
	if (gn_flag(so->ep, GN_EP_PASSPIDFD) && room - io->control_len < CMSG_LEN(sizeof(int)))
		io->out_flags = GN_MAX(io->out_flags, 0) | MSG_CTRUNC;
}

static ssize_t recv_ring(struct gn_sock *so, int fd, struct gn_io *io)
{
	size_t room = io->control_len;
	ssize_t rc;
	int left;

	if (unlikely(io->flags & MSG_OOB))
		return recv_urgent(so, fd, io);
	if (unlikely(io->flags & MSG_ERRQUEUE) && gn_flag(so->ep, GN_EP_EMULATED))
		return -EAGAIN;
	if (unlikely(io->flags & MSG_TRUNC) && gn_flag(so->ep, GN_EP_EMULATED))
		return gn_recv_discard(so, fd, io, gn_stream_recv);
	if (unlikely(!so->settled))
		gn_settle(so, fd);
	rc = so->ep->type == SOCK_STREAM ? gn_stream_recv(so, fd, io) : gn_record_recv(so, fd, io);
	if (rc >= 0) {
		if (unlikely(io->name != NULL) && (rc > 0 || io->packet) && !gn_flag(so->ep, GN_EP_EMULATED))
			name_out(so, fd, io);
		else
			io->name_len = 0;
		io->control_len = io->from_kernel ? io->control_len : 0;
		if (unlikely(gn_flag(so->ep, GN_EP_CONTROL)) && !io->from_kernel && (io->packet || so->ep->type == SOCK_STREAM))
			gn_ring_control(so, io, room);
		if (unlikely(gn_flag(so->ep, GN_EP_INQ)) && !io->from_kernel) {
			left = gn_unread(so, fd);
			put_control(io, room, GN_SO_INQ, &left, sizeof left);
		}
	} else if (rc == GN_OTHER_LANE) {
		io->control_len = room;
	}
	return rc;
}

ssize_t gn_recv_io(struct gn_sock *so, int fd, struct gn_io *io)
{
	ssize_t rc;

	if (so->ep->type == SOCK_DGRAM)
		return gn_dgram_recv(so, fd, io);
	do {
		rc = gn_rx_shared(so) ? recv_ring(so, fd, io) : recv_cold(so, fd, io);
	} while (unlikely(rc == GN_OTHER_LANE));
	return rc;
}

ssize_t gn_send_buf(struct gn_sock *so, int fd, const void *buf, size_t len, int flags)
{
	struct iovec iov = {(void *)(uintptr_t)buf, len};
	struct gn_io io = {.iov = &iov, .iovcnt = 1, .total = len, .flags = flags, .bad = gn_is_nowhere(buf, len)};

	if (unlikely(io.bad) && gn_is_beyond(buf))
		return -EFAULT;
	return gn_send_io(so, fd, &io);
}

ssize_t gn_recv_buf(struct gn_sock *so, int fd, void *buf, size_t len, int flags)
{
	struct iovec iov = {buf, len};
	struct gn_io io = {.iov = &iov, .iovcnt = 1, .total = len, .flags = flags, .bad = gn_is_nowhere(buf, len)};

	if (unlikely(io.bad) && gn_is_beyond(buf))
		return -EFAULT;
	return gn_recv_io(so, fd, &io);
}

/* -EINVAL, -EMSGSIZE, -EFAULT as sendmsg(2). *bad: as in struct gn_io. */
static ssize_t vector_total(const struct iovec *iov, size_t count, size_t *bad)
{
	size_t total = 0;

	*bad = 0;
	if (count > IOV_MAX)
		return -EMSGSIZE;
	if (gn_is_nowhere(iov, count))
		return -EFAULT;
	for (size_t i = 0; i < count; i++) {
		if (gn_is_nowhere(iov[i].iov_base, iov[i].iov_len)) {
			if (gn_is_beyond(iov[i].iov_base))
				return -EFAULT;
			*bad = *bad ? *bad : total + 1;
		}
		if (__builtin_add_overflow(total, iov[i].iov_len, &total) || total > SSIZE_MAX)
			return -EINVAL;
	}
	return (ssize_t)total;
}

#define STAMPS_OF_SENDING (1u << 0 | 1u << 1 | 1u << 8 | 1u << 9 | 1u << 18) /* linux/net_tstamp.h: SOF_TIMESTAMPING_TX_..., TX_COMPLETION is Linux 6.15 */

/* TCP's own check of control data (__sock_cmsg_send): descriptors and credentials it knows and does not send. */
static bool tcp_takes(const struct gn_ep *ep, const struct cmsghdr *c)
{
	uint32_t value;

	if (c->cmsg_level != SOL_SOCKET || c->cmsg_type == SCM_RIGHTS || c->cmsg_type == SCM_CREDENTIALS)
		return true;
	if ((c->cmsg_type != SO_MARK && c->cmsg_type != SO_TIMESTAMPING) || c->cmsg_len != CMSG_LEN(sizeof value))
		return false;
	memcpy(&value, CMSG_DATA(c), sizeof value);
	return c->cmsg_type == SO_MARK ? gn_option_is_taken(ep, SOL_SOCKET, SO_MARK, value) : !(value & ~STAMPS_OF_SENDING);
}

static int emulated_control(const struct gn_ep *ep, struct gn_io *io)
{
	struct msghdr msg = {.msg_control = io->control, .msg_controllen = io->control_len};

	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		size_t left = msg.msg_controllen - (size_t)((char *)c - (char *)msg.msg_control);

		if (c->cmsg_len < sizeof *c || c->cmsg_len > left || !tcp_takes(ep, c))
			return -EINVAL;
	}
	io->control = NULL;
	io->control_len = 0;
	return 0;
}

static const struct iovec no_bytes = {(void *)"", 0};

ssize_t gn_sendmsg(struct gn_sock *so, int fd, const struct msghdr *msg, int flags)
{
	size_t bad;
	ssize_t total = vector_total(msg->msg_iov, msg->msg_iovlen, &bad);
	struct gn_io io = {
		.iov = msg->msg_iovlen ? msg->msg_iov : &no_bytes,
		.iovcnt = msg->msg_iovlen ? msg->msg_iovlen : 1,
		.total = (size_t)total,
		.flags = flags,
		.name = msg->msg_namelen ? msg->msg_name : NULL, /* sendmsg(2) takes an empty one for none, sendto(2) does not */
		.name_len = msg->msg_name ? msg->msg_namelen : 0,
		.control = msg->msg_control,
		.control_len = msg->msg_control ? msg->msg_controllen : 0,
		.bad = bad,
	};
	int rc;

	if (msg->msg_name && (int)msg->msg_namelen < 0)
		return -EINVAL;
	if (msg->msg_name && gn_is_nowhere(msg->msg_name, msg->msg_namelen))
		return -EFAULT;
	if (total < 0)
		return total;
	rc = gn_is_no_control(msg);
	if (rc == 0 && unlikely(io.control_len) && gn_flag(so->ep, GN_EP_EMULATED))
		rc = emulated_control(so->ep, &io);
	if (unlikely(rc < 0))
		return rc;
	return gn_send_io(so, fd, &io);
}

ssize_t gn_recvmsg(struct gn_sock *so, int fd, struct msghdr *msg, int flags)
{
	size_t bad;
	ssize_t total = vector_total(msg->msg_iov, msg->msg_iovlen, &bad);
	struct gn_io io = {
		.iov = msg->msg_iovlen ? msg->msg_iov : &no_bytes,
		.iovcnt = msg->msg_iovlen ? msg->msg_iovlen : 1,
		.total = (size_t)total,
		.flags = flags,
		.name = msg->msg_name,
		.name_len = msg->msg_name ? msg->msg_namelen : 0,
		.control = msg->msg_control,
		.control_len = msg->msg_control ? msg->msg_controllen : 0,
		.out_flags = -1, /* wanted */
		.bad = bad,
	};
	ssize_t rc;

	if (total < 0)
		return total;
	rc = gn_recv_io(so, fd, &io);
	if (rc >= 0) {
		msg->msg_namelen = io.name_len;
		msg->msg_controllen = io.control_len;
		msg->msg_flags = (io.out_flags == -1 ? 0 : io.out_flags) | (flags & MSG_CMSG_CLOEXEC);
	}
	return rc;
}

ssize_t gn_readv(struct gn_sock *so, int fd, struct msghdr *msg, int flags)
{
	size_t bad;
	ssize_t total = vector_total(msg->msg_iov, msg->msg_iovlen, &bad);

	return total <= 0 ? total : gn_recvmsg(so, fd, msg, flags);
}

ssize_t gn_writev(struct gn_sock *so, int fd, const struct msghdr *msg, int flags)
{
	size_t bad;
	ssize_t total = vector_total(msg->msg_iov, msg->msg_iovlen, &bad);

	return total <= 0 ? total : gn_sendmsg(so, fd, msg, flags);
}

/* What sendfile copies through. A large buffer is kept for the next call. */
struct copying {
	struct gn_held held;
	char *buffer;
	size_t size;
	char few[4096]; /* for little, and where there is no memory */
};

static char *_Atomic copy_buffer;

static void copying_end(struct gn_held *held)
{
	struct copying *c = container_of(held, struct copying, held);
	char *none = NULL;

	if (c->buffer != c->few && !atomic_compare_exchange_strong(&copy_buffer, &none, c->buffer))
		gn_sys_munmap(c->buffer, c->size);
}

static void copying_begin(struct copying *c, size_t len)
{
	char *large = len > sizeof c->few ? atomic_exchange(&copy_buffer, NULL) : NULL;
	void *map;

	if (len > sizeof c->few && !large &&
	    gn_sys_mmap(&map, NULL, COPY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == 0)
		large = map;
	c->held = (struct gn_held){.undo = copying_end};
	c->buffer = large ? large : c->few;
	c->size = large ? COPY_BYTES : sizeof c->few;
	gn_held_push(&c->held);
}

static ssize_t copy_pieces(const struct copying *c, struct gn_sock *so, int fd, int from, off_t *at, size_t len)
{
	ssize_t done = 0;

	while ((size_t)done < len) {
		size_t want = GN_MIN(len - (size_t)done, c->size);
		off_t here = at ? *at : gn_sys_lseek(from, 0, SEEK_CUR);
		ssize_t got, put;

		if (here < 0)
			return done ? done : -EINVAL;
		got = gn_sys_pread(from, c->buffer, want, here);
		if (got <= 0)
			return done ? done : got;
		put = gn_send_buf(so, fd, c->buffer, (size_t)got, 0);
		if (put < 0)
			return done ? done : put;
		done += put;
		if (at)
			*at += put;
		else
			gn_sys_lseek(from, here + put, SEEK_SET);
		if (put < got)
			break;
	}
	return done;
}

/* From a file through a buffer: to the ring, and where how many messages go, or the error, are not what the kernel's sendfile(2) would tell.
 * A record is one buffer, as the kernel makes them (a pipe full of pages). */
static ssize_t sendfile_copy(struct gn_sock *so, int fd, int from, off_t *at, size_t len)
{
	struct copying c;
	ssize_t rc;

	copying_begin(&c, len);
	rc = copy_pieces(&c, so, fd, from, at, len);
	gn_held_pop(&c.held);
	copying_end(&c.held);
	return rc;
}

ssize_t gn_sendfile(struct gn_sock *so, int fd, int from, off_t *at, size_t len)
{
	struct pollfd p = {fd, 0, 0}; /* hung up: TCP would say other things than the carrier does */
	ssize_t rc;

	if (so->ep->type == SOCK_STREAM) {
		warm_up(so, fd);
		if (gn_tx_shared(so) || (!gn_edges_wait(so, fd) && gn_switch_tx(so, fd)))
			return sendfile_copy(so, fd, from, at, len);
	}
	if (so->ep->type != SOCK_STREAM || (gn_flag(so->ep, GN_EP_EMULATED) && gn_sys_poll(&p, 1, 0) == 1))
		return sendfile_copy(so, fd, from, at, len);
	rc = gn_kernel_sendfile(so, fd, from, at, len);
	note_full(so, rc, len);
	if (unlikely(rc == GN_OTHER_LANE)) /* another thread switched meanwhile */
		rc = sendfile_copy(so, fd, from, at, len);
	return rc;
}

/* recvmmsg(2) of the kernel asks for an error first, also where recvmsg(2) gives data before it. */
static int error_first(struct gn_sock *so, int fd, int flags)
{
	int error = 0;
	socklen_t len = sizeof error;

	if (so->ep->type != SOCK_STREAM || (flags & MSG_ERRQUEUE))
		return 0;
	if (!gn_all_in_ring(so)) {
		gn_getsockopt(so, fd, SOL_SOCKET, SO_ERROR, &error, &len);
		return -error;
	}
	gn_judge(so, fd);
	error = (int)atomic_exchange(&so->ep->so_error, 0);
	if (unlikely(error == ECONNRESET))
		gn_error_waits(fd); /* told: the kernel is not to show it again */
	return -error;
}

int gn_recvmmsg(struct gn_sock *so, int fd, struct mmsghdr *msgs, unsigned int count, int flags, struct timespec *timeout)
{
	uint64_t deadline = gn_deadline_of(timeout);
	unsigned int done = 0;
	ssize_t rc;

	if (!gn_timeout_is_valid(timeout))
		return -EINVAL;
	rc = error_first(so, fd, flags);
	if (rc >= 0 && gn_is_nowhere(msgs, count))
		return -EFAULT;
	while (rc >= 0 && done < count && done < IOV_MAX) {
		rc = gn_recvmsg(so, fd, &msgs[done].msg_hdr, flags & ~MSG_WAITFORONE);
		if (rc < 0)
			break;
		msgs[done++].msg_len = (unsigned int)rc;
		if (flags & MSG_WAITFORONE)
			flags |= MSG_DONTWAIT;
		if (gn_now_ns() >= deadline)
			break; /* looked at after each message only, as the kernel does (recvmmsg(2), BUGS) */
	}
	if (unlikely(rc < 0 && rc != -EAGAIN && done) && (gn_flag(so->ep, GN_EP_EMULATED) || so->tx.dir || so->dgram))
		atomic_store(&so->ep->so_error, (uint32_t)-rc); /* for the next call to tell */
	if (deadline != UINT64_MAX && done) {
		uint64_t now = gn_now_ns();

		*timeout = gn_timespec(deadline > now ? deadline - now : 0);
	}
	return done ? (int)done : (int)rc;
}
