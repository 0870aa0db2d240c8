/* SPDX-License-Identifier: MIT */
/*
 * Control data of any bytes, the kernel beside: what TCP says to it when it is sent, and what is told to who receives by a ring and asked for it.
 *
 * The input: what to do, how much room, then the control data. It stands at the end of an allocation, so that a read past it is one too many.
 */
#include <fcntl.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sock/io.h"

#define ROOM 128u
#define HIGH 700 /* the numbers of our sockets: not those that the input is likely to spell */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void must(int holds)
{
	if (!holds)
		abort();
}

/* A connection of TCP on the kernel, and one of ours that stands for such. */
struct rig {
	int kernel[2], carrier[2];
	struct gn_sock *ours;
};

static int high(int fd)
{
	int up = fcntl(fd, F_DUPFD_CLOEXEC, HIGH);

	must(fd >= 0 && up >= 0);
	close(fd);
	return up;
}

static void tcp_pair(int fd[2])
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof at;
	int l = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0);

	must(bind(l, (struct sockaddr *)&at, len) == 0 && listen(l, 1) == 0 && getsockname(l, (struct sockaddr *)&at, &len) == 0);
	must(connect(c, (struct sockaddr *)&at, len) == 0);
	fd[0] = high(c);
	fd[1] = high(accept(l, NULL, NULL));
	close(l);
}

static void setup(struct rig *r)
{
	if (r->ours)
		return;
	gn_world_init();
	gn_world.lanes = GN_LANES_KERNEL;
	tcp_pair(r->kernel);
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, r->carrier) == 0);
	for (int i = 0; i < 2; i++)
		r->carrier[i] = high(r->carrier[i]);
	gn_opened(r->carrier[0], AF_INET, SOCK_STREAM, 0);
	r->ours = gn_get(r->carrier[0]);
	must(r->ours != NULL);
	atomic_store(&r->ours->ep->state, GN_ESTAB);
	atomic_fetch_or(&r->ours->ep->flags, GN_EP_EMULATED | GN_EP_PINNED);
}

/* Whether it is one of those that came to TCP later: SO_PRIORITY in Linux 6.14. */
static bool depends(const uint8_t *control, size_t len)
{
	struct msghdr msg = {.msg_control = (void *)(uintptr_t)control, .msg_controllen = len};

	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c))
		if (c->cmsg_level == SOL_SOCKET && (c->cmsg_type == SO_PRIORITY || c->cmsg_type > SO_TIMESTAMPING))
			return true;
	return false;
}

static void sent(struct rig *r, const uint8_t *control, size_t len)
{
	struct iovec iov = {(void *)(uintptr_t)"x", 1};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = (void *)(uintptr_t)control, .msg_controllen = len};
	ssize_t ours, kernels;
	char byte;

	gn_before_passing(&msg);
	ours = gn_sendmsg(r->ours, r->carrier[0], &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	kernels = sendmsg(r->kernel[0], &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	kernels = kernels < 0 ? -errno : kernels;
	if (ours == 1)
		must(recv(r->carrier[1], &byte, 1, 0) == 1);
	if (kernels == 1)
		must(recv(r->kernel[1], &byte, 1, 0) == 1);
	must(ours == kernels || depends(control, len));
}

static void must_be_alike(struct msghdr *a, struct msghdr *b)
{
	struct cmsghdr *c = CMSG_FIRSTHDR(a), *d = CMSG_FIRSTHDR(b);

	must(a->msg_controllen == b->msg_controllen && (a->msg_flags & MSG_CTRUNC) == (b->msg_flags & MSG_CTRUNC));
	for (; c && d; c = CMSG_NXTHDR(a, c), d = CMSG_NXTHDR(b, d)) {
		must(c->cmsg_level == d->cmsg_level && c->cmsg_type == d->cmsg_type && c->cmsg_len == d->cmsg_len);
		must(c->cmsg_type == SO_TIMESTAMP || c->cmsg_type == SO_TIMESTAMPNS ||
		     memcmp(CMSG_DATA(c), CMSG_DATA(d), c->cmsg_len - CMSG_LEN(0)) == 0);
	}
	must(!c && !d);
}

/* Options that were set after the message was sent: that is when it is in a ring. */
static void received(int type, uint8_t options, size_t room)
{
	static const int names[] = {SO_PASSCRED, GN_SO_PASSPIDFD, SO_TIMESTAMP, SO_TIMESTAMPNS};
	static const uint32_t flags[] = {GN_EP_PASSCRED, GN_EP_PASSPIDFD, GN_EP_STAMP_US, GN_EP_STAMP_NS};
	struct gn_ep ep = {.domain = AF_UNIX, .type = (uint8_t)type};
	struct gn_sock so = {.ep = &ep};
	union {
		char bytes[ROOM];
		struct cmsghdr align;
	} one = {{0}}, two = {{0}};
	char byte;
	struct iovec iov = {&byte, 1};
	struct msghdr kernels = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = room ? &one : NULL, .msg_controllen = room}, ours = {0};
	struct gn_io io = {.control = room ? &two : NULL, .control_len = room, .out_flags = -1};
	int fd[2], on = 1;

	must(socketpair(AF_UNIX, type, 0, fd) == 0 && send(fd[1], "x", 1, 0) == 1);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (!(options >> i & 1) || (names[i] == SO_TIMESTAMPNS && options >> 2 & 1))
			continue; /* one kind of time-stamp */
		if (setsockopt(fd[0], SOL_SOCKET, names[i], &on, sizeof on) == 0)
			atomic_fetch_or(&ep.flags, flags[i]);
	}
	must(recvmsg(fd[0], &kernels, 0) == 1);
	gn_ring_control(&so, &io, room);
	ours = (struct msghdr){.msg_control = io.control, .msg_controllen = io.control_len, .msg_flags = io.out_flags == -1 ? 0 : io.out_flags};
	must(io.control_len <= room);
	must_be_alike(&kernels, &ours);
	close(fd[0]);
	close(fd[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
	static struct rig r;
	uint8_t *control;

	if (len < 2)
		return 0;
	if (data[0] & 1) {
		received(types[(data[0] >> 1) % 3], data[0] >> 3, data[1] % (ROOM + 1));
		return 0;
	}
	setup(&r);
	control = malloc(len - 2 ? len - 2 : 1);
	memcpy(control, data + 2, len - 2);
	sent(&r, control, len - 2);
	free(control);
	return 0;
}
