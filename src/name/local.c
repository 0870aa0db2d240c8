/* SPDX-License-Identifier: MIT */
/*
 * Is an address this machine's own, and which of them would the kernel call from? See name.h; rtnetlink(7).
 *
 * The routing table is asked and not bind(): with net.ipv4.ip_nonlocal_bind anything can be bound, and a trial takes a port. The
 * answer is that of the current network namespace with its own rules, which is the one that connect() would use.
 */
#include "name/name.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <string.h>

#include "base/base.h"
#include "base/sys.h"
#include "name/netlink.h"

struct route_question {
	struct nlmsghdr head;
	struct rtmsg msg;
	struct rtattr dst_head;
	uint8_t dst[16];
	struct rtattr oif_head; /* only with a scope; follows dst at once, wherever that ends */
	uint32_t oif;
};

_Static_assert(sizeof(struct route_question) == NLMSG_LENGTH(sizeof(struct rtmsg)) + RTA_LENGTH(16) + RTA_LENGTH(4),
	       "attributes lie back to back");

/* RTN_* of the route that a packet to `a` takes, or -errno. */
static int route_type(const struct gn_addr *a)
{
	uint16_t ip_bytes = a->family == AF_INET ? 4 : 16;
	_Alignas(struct nlmsghdr) char room[GN_NETLINK_ROOM];
	struct route_question q = {
		.head = {.nlmsg_type = RTM_GETROUTE, .nlmsg_flags = NLM_F_REQUEST},
		.msg = {.rtm_family = (unsigned char)a->family, .rtm_dst_len = (unsigned char)(ip_bytes * 8)},
		.dst_head = {.rta_type = RTA_DST, .rta_len = (unsigned short)RTA_LENGTH(ip_bytes)},
		.oif_head = {.rta_type = RTA_OIF, .rta_len = RTA_LENGTH(4)},
		.oif = a->scope,
	};
	const struct rtmsg *answer = NLMSG_DATA((struct nlmsghdr *)(void *)room);
	ssize_t rc;

	memcpy(q.dst, a->ip, ip_bytes);
	q.head.nlmsg_len = (uint32_t)(NLMSG_LENGTH(sizeof(q.msg)) + RTA_LENGTH(ip_bytes));
	if (a->scope) /* only IPv6 has one, so dst is full and the attribute stands right behind it */
		q.head.nlmsg_len += (uint32_t)RTA_LENGTH(4);
	rc = gn_netlink_ask(NETLINK_ROUTE, &q.head, room, RTM_NEWROUTE, sizeof(*answer));
	return rc < 0 ? (int)rc : answer->rtm_type;
}

int gn_addr_is_local(const struct gn_addr *a)
{
	if (gn_addr_is_loopback(a) || gn_addr_is_wildcard(a))
		return 1;
	if ((a->family != AF_INET && a->family != AF_INET6) || gn_addr_is_multicast(a))
		return 0;
	return route_type(a) == RTN_LOCAL;
}

int gn_addr_source(struct gn_addr *from, const struct gn_addr *dest)
{
	struct gn_addr target = *dest;
	struct sockaddr_storage sa;
	socklen_t len;
	int fd, rc;

	gn_addr_destination(&target);
	if (gn_addr_is_loopback(&target)) {
		/* The wildcard stands for exactly the address that the kernel's own loopback route calls from. */
		*from = (struct gn_addr){.family = target.family};
		gn_addr_destination(from);
		return 0;
	}
	fd = gn_sys_socket(target.family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	target.port = target.port ? target.port : 9;
	len = gn_addr_to_sockaddr(&sa, &target, target.family);
	rc = gn_sys_connect(fd, &sa, len); /* sends nothing; chooses the source as a stream's connect() would */
	len = sizeof(sa);
	if (rc >= 0)
		rc = gn_sys_getsockname(fd, &sa, &len);
	gn_sys_close(fd);
	if (rc >= 0)
		rc = gn_addr_from_sockaddr(from, (const struct sockaddr *)&sa, len);
	if (rc >= 0)
		from->port = 0;
	return rc;
}
