/* SPDX-License-Identifier: MIT */
/* One question to the kernel, one answer: see netlink.h. */
#include "name/netlink.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "base/base.h"
#include "base/sys.h"

/* The payload's length, or -errno. */
static ssize_t check_answer(const struct nlmsghdr *h, size_t got, int type, size_t payload_min)
{
	const struct nlmsgerr *err = (const void *)((const char *)h + NLMSG_HDRLEN);

	if (got < sizeof(*h) || h->nlmsg_len < sizeof(*h) || h->nlmsg_len > got)
		return -EPROTO;
	if (h->nlmsg_type == NLMSG_ERROR)
		return h->nlmsg_len >= NLMSG_LENGTH(sizeof(err->error)) && err->error < 0 ? err->error : -EPROTO;
	if (h->nlmsg_type != type || h->nlmsg_len < NLMSG_LENGTH(payload_min))
		return -EPROTO;
	return (ssize_t)(h->nlmsg_len - NLMSG_HDRLEN);
}

ssize_t gn_netlink_ask(int protocol, struct nlmsghdr *request, void *room, int type, size_t payload_min)
{
	const struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	struct sockaddr_nl from = {0};
	socklen_t from_len = sizeof(from);
	int fd = gn_sys_socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
	ssize_t rc;

	if (fd < 0)
		return fd;
	rc = gn_sys_sendto(fd, request, request->nlmsg_len, 0, &kernel, sizeof(kernel));
	/* The kernel answers single lookups inside our sendto(), so there is nothing to wait for. */
	if (rc >= 0)
		rc = gn_sys_recvfrom(fd, room, GN_NETLINK_ROOM, MSG_DONTWAIT, &from, &from_len);
	gn_sys_close(fd);
	if (rc == -EAGAIN || (rc >= 0 && from.nl_pid != 0))
		return -EPROTO;
	return rc < 0 ? rc : check_answer(room, (size_t)rc, type, payload_min);
}

/* 1: the list has ended; 0: it goes on. */
static ssize_t list_part(const char *p, size_t left, int type, size_t payload_min, int (*each)(void *ctx, const void *payload, size_t len),
			 void *ctx)
{
	while (left >= sizeof(struct nlmsghdr)) {
		const struct nlmsghdr *h = (const void *)p;
		ssize_t rc;

		if (h->nlmsg_type == NLMSG_DONE)
			return 1;
		rc = check_answer(h, left, type, payload_min);
		if (rc < 0)
			return rc;
		rc = each(ctx, p + NLMSG_HDRLEN, (size_t)rc);
		if (rc)
			return rc;
		p += GN_MIN(left, (size_t)NLMSG_ALIGN(h->nlmsg_len));
		left -= GN_MIN(left, (size_t)NLMSG_ALIGN(h->nlmsg_len));
	}
	return 0;
}

ssize_t gn_netlink_list(int protocol, struct nlmsghdr *request, void *room, size_t room_len, int type, size_t payload_min,
			int (*each)(void *ctx, const void *payload, size_t len), void *ctx)
{
	const struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	int fd = gn_sys_socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
	ssize_t rc;

	if (fd < 0)
		return fd;
	rc = gn_sys_sendto(fd, request, request->nlmsg_len, 0, &kernel, sizeof(kernel));
	if (rc > 0)
		rc = 0;
	while (rc == 0) {
		struct sockaddr_nl from = {0};
		socklen_t from_len = sizeof(from);
		ssize_t got = gn_sys_recvfrom(fd, room, room_len, MSG_DONTWAIT, &from, &from_len);

		if (got <= 0 || from.nl_pid != 0)
			rc = got < 0 && got != -EAGAIN ? got : -EPROTO;
		else
			rc = list_part(room, (size_t)got, type, payload_min, each, ctx);
	}
	gn_sys_close(fd);
	return rc == 1 ? 0 : rc;
}

const void *gn_netlink_attr(const void *attrs, size_t len, int type, size_t min)
{
	const char *p = attrs;

	while (len >= sizeof(struct rtattr)) {
		struct rtattr a;
		size_t step;

		memcpy(&a, p, sizeof(a));
		if (a.rta_len < sizeof(a) || a.rta_len > len)
			return NULL;
		if (a.rta_type == type)
			return RTA_PAYLOAD(&a) >= min ? p + RTA_LENGTH(0) : NULL;
		step = RTA_ALIGN(a.rta_len);
		if (step >= len)
			return NULL;
		p += step;
		len -= step;
	}
	return NULL;
}
