/* SPDX-License-Identifier: MIT */
/*
 * What the kernel's socket tables say: who listens on an address, and which socket is at the other end of an AF_UNIX connection.
 * See name.h; sock_diag(7).
 *
 * Most are single lookups; only who owns a name takes a dump. The kernel's lookup of a listener is the one that a packet would take, so exact addresses,
 * wildcards and dual sockets are preferred as in a real connect().
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "base/base.h"
#include "base/sys.h"
#include "name/name.h"
#include "name/netlink.h"

struct inet_question {
	struct nlmsghdr head;
	struct inet_diag_req_v2 req;
};

struct unix_question {
	struct nlmsghdr head;
	struct unix_diag_req req;
};

#define LIST_ROOM 16384 /* the kernel fills what it is given, up to 32 KiB */

#define QUESTION_HEAD(q) {.nlmsg_len = sizeof(q), .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST}

/* Puts the local end of the wanted socket where the kernel looks for it. For datagrams the kernel takes the two ends the other
 * way round ("for historical reasons", says its source); the answers are never swapped. */
static void ask_for(struct inet_diag_sockid *id, const struct gn_addr *at, int type)
{
	memcpy(type == SOCK_DGRAM ? id->idiag_dst : id->idiag_src, at->ip, 16);
	*(type == SOCK_DGRAM ? &id->idiag_dport : &id->idiag_sport) = htons(at->port);
	id->idiag_if = at->scope;
	id->idiag_cookie[0] = id->idiag_cookie[1] = INET_DIAG_NOCOOKIE;
}

/* The socket on `at`; -ENOENT: there is none. */
static int find_inet(const struct gn_addr *from, const struct gn_addr *at, int type, uid_t *uid, uint64_t *inode)
{
	_Alignas(struct nlmsghdr) char room[GN_NETLINK_ROOM];
	const struct inet_diag_msg *m = NLMSG_DATA((struct nlmsghdr *)(void *)room);
	struct inet_question q = {
		.head = QUESTION_HEAD(q),
		.req = {.sdiag_family = (uint8_t)at->family, .idiag_states = ~0u},
	};
	ssize_t rc;

	if ((at->family != AF_INET && at->family != AF_INET6) || (type != SOCK_STREAM && type != SOCK_DGRAM))
		return -EINVAL;
	q.req.sdiag_protocol = type == SOCK_STREAM ? IPPROTO_TCP : IPPROTO_UDP;
	ask_for(&q.req.id, at, type);
	if (from) { /* the other end, for datagrams only: see ask_for() */
		memcpy(q.req.id.idiag_src, from->ip, sizeof(from->ip));
		q.req.id.idiag_sport = htons(from->port);
	}
	rc = gn_netlink_ask(NETLINK_SOCK_DIAG, &q.head, room, SOCK_DIAG_BY_FAMILY, sizeof(*m));
	if (rc < 0)
		return (int)rc;
	/* Trust hangs on this answer, so it must be what was asked for and not a connection that happens to match. */
	if (m->id.idiag_sport != htons(at->port) || (type == SOCK_STREAM && m->idiag_state != TCP_LISTEN))
		return -ENOENT;
	*uid = m->idiag_uid;
	*inode = m->idiag_inode;
	return 0;
}

int gn_name_owner_uid(const struct gn_addr *at, int type, uid_t *uid)
{
	uint64_t inode;

	return find_inet(NULL, at, type, uid, &inode);
}

int gn_name_pair_uid(const struct gn_addr *from, const struct gn_addr *at, uid_t *uid)
{
	uint64_t inode;

	return from->family == at->family ? find_inet(from, at, SOCK_DGRAM, uid, &inode) : -EINVAL;
}

int gn_name_pair_inode(const struct gn_addr *from, const struct gn_addr *at, uint64_t *inode)
{
	uid_t uid;

	return from->family == at->family ? find_inet(from, at, SOCK_DGRAM, &uid, inode) : -EINVAL;
}

/* The kernel knows sockets by inode, which is 32 bits and may come round again; the cookie never does. */
static int ask_for_own(struct unix_diag_req *req, int fd, uint64_t *own)
{
	struct stat st;
	uint64_t cookie;
	socklen_t len = sizeof(cookie);
	int rc = gn_sys_fstat(fd, &st);

	if (rc < 0)
		return rc;
	if (!S_ISSOCK(st.st_mode))
		return -ENOTSOCK;
	rc = gn_sys_getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len);
	if (rc < 0)
		cookie = ~0ull; /* both halves INET_DIAG_NOCOOKIE: do not compare */
	req->udiag_ino = (uint32_t)st.st_ino;
	req->udiag_cookie[0] = (uint32_t)cookie;
	req->udiag_cookie[1] = (uint32_t)(cookie >> 32);
	*own = st.st_ino;
	return 0;
}

int gn_name_peer_inode(int fd, uint64_t *own, uint64_t *peer)
{
	_Alignas(struct nlmsghdr) char room[GN_NETLINK_ROOM];
	const struct unix_diag_msg *m = NLMSG_DATA((struct nlmsghdr *)(void *)room);
	struct unix_question q = {
		.head = QUESTION_HEAD(q),
		.req = {.sdiag_family = AF_UNIX, .udiag_states = ~0u, .udiag_show = UDIAG_SHOW_PEER},
	};
	const void *attr;
	uint64_t mine;
	uint32_t inode;
	ssize_t rc = ask_for_own(&q.req, fd, &mine);

	if (rc < 0)
		return (int)rc;
	rc = gn_netlink_ask(NETLINK_SOCK_DIAG, &q.head, room, SOCK_DIAG_BY_FAMILY, sizeof(*m));
	/* Not found: no such table in this kernel, another network namespace, or not an AF_UNIX socket. */
	if (rc == -ENOENT || rc == -ESTALE || rc == -EPROTONOSUPPORT)
		return -EOPNOTSUPP;
	if (rc < 0)
		return (int)rc;
	attr = gn_netlink_attr(m + 1, (size_t)rc - NLMSG_ALIGN(sizeof(*m)), UNIX_DIAG_PEER, sizeof(inode));
	if (!attr)
		return -ENOTCONN;
	memcpy(&inode, attr, sizeof(inode));
	if (!inode) /* a connection that waits to be accepted, or whose other end is closed: nobody holds that socket */
		return -EAGAIN;
	*own = mine;
	*peer = inode;
	return 0;
}

int gn_name_peer_rcvbuf(int fd, uint32_t *bytes)
{
	_Alignas(struct nlmsghdr) char room[GN_NETLINK_ROOM];
	struct unix_question q = {
		.head = QUESTION_HEAD(q),
		.req = {.sdiag_family = AF_UNIX, .udiag_states = ~0u, .udiag_show = UDIAG_SHOW_MEMINFO, .udiag_cookie = {~0u, ~0u}},
	};
	uint32_t memory[SK_MEMINFO_RCVBUF + 1];
	uint64_t own, peer = 0;
	const void *attr;
	ssize_t rc = gn_name_peer_inode(fd, &own, &peer);

	if (rc < 0)
		return (int)rc;
	q.req.udiag_ino = (uint32_t)peer;
	rc = gn_netlink_ask(NETLINK_SOCK_DIAG, &q.head, room, SOCK_DIAG_BY_FAMILY, sizeof(struct unix_diag_msg));
	if (rc < 0)
		return rc == -ENOENT ? -EAGAIN : (int)rc;
	attr = gn_netlink_attr((const struct unix_diag_msg *)NLMSG_DATA((struct nlmsghdr *)(void *)room) + 1,
			       (size_t)rc - NLMSG_ALIGN(sizeof(struct unix_diag_msg)), UNIX_DIAG_MEMINFO, sizeof memory);
	if (!attr)
		return -EOPNOTSUPP;
	memcpy(memory, attr, sizeof memory);
	*bytes = memory[SK_MEMINFO_RCVBUF];
	return 0;
}

/* Whose sockets have a name. */
struct search {
	const struct gn_name *at;
	uid_t uid;
	bool found;
};

static int compare(void *ctx, const void *payload, size_t len)
{
	struct search *s = ctx;
	const struct unix_diag_msg *m = payload;
	const void *attrs = m + 1, *name, *owner;
	size_t attrs_len = len - NLMSG_ALIGN(sizeof(*m)), name_len = s->at->len - offsetof(struct sockaddr_un, sun_path);
	uint32_t uid;

	name = gn_netlink_attr(attrs, attrs_len, UNIX_DIAG_NAME, name_len);
	if (!name || ((const struct rtattr *)(const void *)((const char *)name - RTA_LENGTH(0)))->rta_len != RTA_LENGTH(name_len) ||
	    memcmp(name, s->at->sun.sun_path, name_len) != 0)
		return 0;
	owner = gn_netlink_attr(attrs, attrs_len, UNIX_DIAG_UID, sizeof(uid));
	if (!owner)
		return -EOPNOTSUPP; /* before Linux 5.3 */
	memcpy(&uid, owner, sizeof(uid));
	if (s->found && s->uid != uid)
		return -ENOTUNIQ;
	s->uid = uid;
	s->found = true;
	return 0;
}

int gn_name_bound_uid(const struct gn_name *at, bool listening, uid_t *uid)
{
	_Alignas(struct nlmsghdr) char room[LIST_ROOM];
	struct search s = {.at = at};
	struct unix_question q = {
		.head = QUESTION_HEAD(q),
		.req = {.sdiag_family = AF_UNIX, .udiag_states = listening ? 1u << TCP_LISTEN : ~0u,
			.udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_UID},
	};
	ssize_t rc;

	q.head.nlmsg_flags |= NLM_F_DUMP;
	rc = gn_netlink_list(NETLINK_SOCK_DIAG, &q.head, room, sizeof(room), SOCK_DIAG_BY_FAMILY, sizeof(struct unix_diag_msg), compare, &s);
	if (rc < 0)
		return (int)rc;
	if (!s.found)
		return -ENOENT;
	*uid = s.uid;
	return 0;
}
