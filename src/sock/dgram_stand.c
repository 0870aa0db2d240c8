/* SPDX-License-Identifier: MIT */
/*
 * Who sends in the name of a pair's peer: so that what the peer wrote into a ring comes out of the kernel with the peer's address on it.
 *
 * Theory of operation. The best is the peer's own socket: the kernel tells its inode (sock_diag), /proc who holds it, and pidfd_getfd(2) lends
 * it, whatever the peer is doing meanwhile. Where it does not (a process that may not be traced), or the peer is dead, a socket of our own
 * does for UDP: bound to the peer's address if that is free, else to the peer's port on another loopback address, and each datagram
 * says that it comes from the peer's own (IP_PKTINFO). It is connected to itself and so takes nothing that is meant for the peer. A living
 * peer that is bound to all addresses leaves no such place: of it only its own socket will do.
 *
 * Sources: pidfd_getfd(2), ip(7), ipv6(7), proc(5).
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sock/dgram.h"

#define LIST_ROOM 2048
#define HOSTS 8 /* loopback addresses to try */

static long number(const char *name)
{
	char *end;
	long n = strtol(name, &end, 10);

	return *name && !*end && n >= 0 ? n : -1;
}

/* Calls `found` for the numbers among the names in a directory, until it says other than 0. */
static int for_each_number(const char *path, int (*found)(int dir, long n, uint64_t inode), uint64_t inode)
{
	_Alignas(struct dirent64) char list[LIST_ROOM];
	int dir = gn_sys_open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0), rc = 0;
	ssize_t len;

	if (dir < 0)
		return dir;
	while (rc == 0 && (len = gn_sys_getdents64(dir, list, sizeof list)) > 0)
		for (ssize_t at = 0; at < len && rc == 0;) {
			const struct dirent64 *e = (const void *)(list + at);
			long n = number(e->d_name);

			if (n >= 0)
				rc = found(dir, n, inode);
			at += e->d_reclen;
		}
	gn_sys_close(dir);
	return rc;
}

/* 1 + the descriptor. */
static int is_it(int dir, long n, uint64_t inode)
{
	char name[24], link[40], want[40];
	ssize_t len;

	snprintf(name, sizeof name, "%ld", n);
	snprintf(want, sizeof want, "socket:[%llu]", (unsigned long long)inode);
	len = gn_raw6(SYS_readlinkat, dir, (long)name, (long)link, sizeof link, 0, 0);
	return len == (ssize_t)strlen(want) && memcmp(link, want, (size_t)len) == 0 ? (int)n + 1 : 0;
}

static bool is_socket(int fd, uint64_t inode)
{
	struct stat st;

	return gn_sys_fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode) && st.st_ino == inode;
}

/* 1 + a descriptor of ours for the socket, which that process holds. */
static int borrow_from(int dir, long pid, uint64_t inode)
{
	char path[40];
	int theirs, pidfd, fd;

	(void)dir;
	snprintf(path, sizeof path, "/proc/%ld/fd", pid);
	theirs = for_each_number(path, is_it, inode);
	if (theirs <= 0)
		return 0;
	pidfd = gn_sys_pidfd_open((pid_t)pid, 0);
	if (pidfd < 0)
		return 0;
	fd = gn_sys_pidfd_getfd(pidfd, theirs - 1, 0);
	gn_sys_close(pidfd);
	if (fd >= 0 && !is_socket(fd, inode)) {
		gn_sys_close(fd);
		fd = -1;
	}
	return fd < 0 ? 0 : fd + 1;
}

static int borrow(uint64_t inode, pid_t first)
{
	int fd = first > 0 ? borrow_from(-1, first, inode) : 0;

	if (fd == 0)
		fd = for_each_number("/proc", borrow_from, inode);
	return fd > 0 ? fd - 1 : -EPERM;
}

/* A socket of ours on the peer's port, which takes nothing. */
static int bound_as(const struct gn_addr *peer)
{
	struct gn_addr at = *peer;
	struct sockaddr_storage ss;
	socklen_t len = gn_addr_to_sockaddr(&ss, &at, peer->family);
	int fd = gn_sys_socket(peer->family, SOCK_DGRAM | SOCK_CLOEXEC, 0), rc;

	if (fd < 0)
		return fd;
	rc = gn_sys_bind(fd, &ss, len);
	for (int i = 1; rc == -EADDRINUSE && i <= HOSTS; i++) {
		const uint8_t other[16] = {127, 90, (uint8_t)(i * 29), (uint8_t)(gn_sys_gettid() + i)};

		at.family = AF_INET; /* v4-mapped, in a socket of IPv6, whose loopback is one address */
		at.scope = 0;
		memcpy(at.ip, other, sizeof other);
		len = gn_addr_to_sockaddr(&ss, &at, peer->family);
		rc = gn_sys_bind(fd, &ss, len);
	}
	if (rc == 0)
		rc = gn_sys_connect(fd, &ss, len);
	if (rc < 0) {
		gn_sys_close(fd);
		return -EPERM;
	}
	return fd;
}

int gn_stand_own(int fd, const struct gn_addr *peer, struct gn_stand *s)
{
	struct gn_addr own = {0};
	int rc = gn_dgram_own(fd, peer, &own);

	*s = (struct gn_stand){.fd = rc < 0 ? rc : bound_as(peer), .as = *peer};
	s->to_len = gn_addr_to_sockaddr(&s->to, &own, peer->family);
	return GN_MIN(s->fd, 0);
}

static int stand_inet(int fd, const struct gn_addr *peer, pid_t pid, struct gn_stand *s)
{
	struct gn_addr own = {0};
	uint64_t inode;
	socklen_t len = sizeof(int);
	int domain = peer->family, rc = gn_dgram_own(fd, peer, &own);

	if (rc == 0 && !gn_addr_is_local(peer))
		rc = -EPERM;
	if (rc < 0)
		return rc;
	rc = gn_name_pair_inode(&own, peer, &inode);
	if (rc == 0)
		rc = borrow(inode, pid);
	if (rc < 0)
		return gn_stand_own(fd, peer, s);
	s->fd = rc;
	gn_sys_getsockopt(rc, SOL_SOCKET, SO_DOMAIN, &domain, &len);
	s->to_len = gn_addr_to_sockaddr(&s->to, &own, domain);
	return 0;
}

int gn_stand_find(struct gn_sock *so, int fd, const struct gn_addr *peer, pid_t pid, struct gn_stand *s)
{
	uint64_t own, other;
	int rc;

	*s = (struct gn_stand){.fd = -1};
	if (so->ep->domain != AF_UNIX)
		return stand_inet(fd, peer, pid, s);
	rc = gn_name_peer_inode(fd, &own, &other);
	if (rc == 0)
		rc = s->fd = borrow(other, pid);
	else if (rc == -EAGAIN)
		rc = -EHOSTDOWN;
	return rc < 0 ? rc : 0;
}

union source {
	char bytes[CMSG_SPACE(sizeof(struct in6_pktinfo))];
	struct cmsghdr head;
};

/* Control data that says from where: the address is of this machine, so everybody may. */
static size_t source_write(union source *to, const struct gn_addr *as)
{
	struct in_pktinfo info = {0};
	struct in6_pktinfo info6 = {.ipi6_ifindex = as->scope};

	memset(to, 0, sizeof *to);
	if (as->family == AF_INET) {
		memcpy(&info.ipi_spec_dst, as->ip, sizeof info.ipi_spec_dst);
		to->head = (struct cmsghdr){CMSG_LEN(sizeof info), IPPROTO_IP, IP_PKTINFO};
		memcpy(CMSG_DATA(&to->head), &info, sizeof info);
		return CMSG_SPACE(sizeof info);
	}
	memcpy(&info6.ipi6_addr, as->ip, sizeof info6.ipi6_addr);
	to->head = (struct cmsghdr){CMSG_LEN(sizeof info6), IPPROTO_IPV6, IPV6_PKTINFO};
	memcpy(CMSG_DATA(&to->head), &info6, sizeof info6);
	return CMSG_SPACE(sizeof info6);
}

ssize_t gn_stand_send(const struct gn_stand *s, struct iovec *iov, size_t count)
{
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = count};
	union source source;
	ssize_t rc = -EAGAIN;

	if (s->to_len) {
		msg.msg_name = (void *)(uintptr_t)&s->to;
		msg.msg_namelen = s->to_len;
	}
	if (s->as.family) {
		msg.msg_controllen = source_write(&source, &s->as);
		msg.msg_control = source.bytes;
	}
	for (int i = 0; i < 2 && rc < 0; i++) /* an error of before may wait there */
		rc = gn_sys_sendmsg(s->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	return rc;
}

void gn_stand_end(struct gn_stand *s)
{
	if (s->fd >= 0)
		gn_sys_close(s->fd);
	s->fd = -1;
}
