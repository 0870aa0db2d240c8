/* SPDX-License-Identifier: MIT */
/*
 * Datagrams: the kernel's queue of a socket, looked through without taking anything (SO_PEEK_OFF), and taken out. Bells may stand between
 * datagrams, and whoever reads the socket after us would take them for data; what is in a ring may belong before what is in the queue.
 *
 * Threads/owner: the rx lock is held. Sources: socket(7) on SO_PEEK_OFF.
 */
#include <string.h>

#include "sock/dgram.h"

#define LENGTH_MAX 65536 /* as much as any datagram of UDP; those of AF_UNIX may be longer: gn_backlog_look() tells */
#define SLACK 64         /* more may come while we look */

static void source_of(const struct gn_sock *so, const struct sockaddr_storage *ss, socklen_t len, struct gn_addr *from)
{
	memset(from, 0, sizeof *from);
	if (so->ep->domain != AF_UNIX)
		gn_addr_from_sockaddr(from, (const struct sockaddr *)ss, len);
}

void gn_backlog_look(struct gn_sock *so, int fd, struct gn_backlog_look *look, bool (*seen)(void *ctx, const struct gn_addr *from), void *ctx)
{
	uint8_t bytes[GN_NONCE_BYTES + 1];
	struct sockaddr_storage ss;
	struct iovec iov = {bytes, sizeof bytes};
	struct msghdr msg;
	struct gn_addr from;
	int64_t at = 0;
	ssize_t len;

	*look = (struct gn_backlog_look){0};
	for (;;) {
		gn_kernel_peek_offset(fd, at);
		msg = (struct msghdr){.msg_iov = &iov, .msg_iovlen = 1, .msg_name = &ss, .msg_namelen = sizeof ss};
		len = gn_sys_recvmsg(fd, &msg, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT);
		if (len < 0)
			break;
		at += len;
		if (len == GN_NONCE_BYTES && gn_dgram_is_bell(so, bytes, &ss, msg.msg_namelen)) {
			look->bells = look->bells || look->count;
			continue;
		}
		source_of(so, &ss, msg.msg_namelen, &from);
		look->count++;
		look->bytes += gn_queued_room((size_t)len);
		if ((msg.msg_flags & MSG_CTRUNC) || !seen(ctx, &from))
			look->foreign = true;
	}
	gn_kernel_peek_offset(fd, gn_peek_offset(so));
}

/* All that is there, but for bells. */
int gn_backlog_take(struct gn_sock *so, int fd, const struct gn_backlog_look *look, struct gn_backlog *copy)
{
	size_t size = look->bytes + SLACK * gn_queued_room(0) + gn_queued_room(LENGTH_MAX);
	struct sockaddr_storage ss;
	struct gn_queued *q;
	struct iovec iov;
	struct msghdr msg;
	void *room;
	ssize_t len;
	int rc = gn_sys_mmap(&room, NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (rc < 0)
		return rc;
	*copy = (struct gn_backlog){.room = room, .size = size};
	while (copy->size - copy->to >= gn_queued_room(LENGTH_MAX)) { /* else it is what came since, and stays */
		q = gn_queued_at(copy, copy->to);
		iov = (struct iovec){q->bytes, copy->size - copy->to - sizeof *q};
		msg = (struct msghdr){.msg_iov = &iov, .msg_iovlen = 1, .msg_name = &ss, .msg_namelen = sizeof ss};
		len = gn_sys_recvmsg(fd, &msg, MSG_DONTWAIT);
		if (len == -EAGAIN)
			break;
		if (len < 0) {
			gn_error_keep(so, len);
			continue;
		}
		if (len == GN_NONCE_BYTES && gn_dgram_is_bell(so, q->bytes, &ss, msg.msg_namelen))
			continue;
		source_of(so, &ss, msg.msg_namelen, &q->from);
		q->len = (uint32_t)len;
		copy->to += gn_queued_room((size_t)len);
	}
	return 0;
}

void gn_backlog_drop(struct gn_backlog *copy)
{
	if (copy->room)
		gn_sys_munmap(copy->room, copy->size);
	*copy = (struct gn_backlog){0};
}
