/* SPDX-License-Identifier: MIT */
/* The kernel's socket tables: peers of AF_UNIX sockets, owners of internet ones. */
#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/sys.h"
#include "base/unit.h"
#include "name/name.h"

#define SOMEBODY 12345 /* a user who owns nothing */

static uint64_t inode_of(int fd)
{
	struct stat st;

	ck_assert_int_eq(gn_sys_fstat(fd, &st), 0);
	return st.st_ino;
}

static void check_peers(int a, int b)
{
	uint64_t own, peer;

	ck_assert_int_eq(gn_name_peer_inode(a, &own, &peer), 0);
	ck_assert_uint_eq(own, inode_of(a));
	ck_assert_uint_eq(peer, inode_of(b));
}

/* A name that starts with `start` and is this process's own: "@" stands for an abstract one. */
static socklen_t unix_name(struct sockaddr_un *sun, const char *start)
{
	*sun = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(sun->sun_path, sizeof(sun->sun_path), "%s-diag-test-%d", start, (int)getpid());
	if (sun->sun_path[0] == '@')
		sun->sun_path[0] = '\0';
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(sun->sun_path + 1));
}

static int unix_listener(int type, const struct sockaddr_un *sun, socklen_t len)
{
	int fd = gn_sys_socket(AF_UNIX, type, 0);

	ck_assert_int_eq(gn_sys_bind(fd, sun, len), 0);
	if (type != SOCK_DGRAM)
		ck_assert_int_eq(gn_sys_listen(fd, 4), 0);
	return fd;
}

static struct gn_addr addr(int family, const char *text, uint16_t port)
{
	struct gn_addr a = {.family = (uint16_t)family, .port = port};

	ck_assert_int_eq(inet_pton(family, text, a.ip), 1);
	return a;
}

/* A listener (stream) or bound socket (datagram) on `text`, its port chosen by the kernel; -1: this machine has no IPv6. */
static int inet_listener(int family, int type, const char *text, int v6only, uint16_t *port)
{
	struct gn_addr at = addr(family, text, 0);
	struct sockaddr_storage sa;
	socklen_t len = gn_addr_to_sockaddr(&sa, &at, family);
	int fd = gn_sys_socket(family, type, 0);

	if (fd < 0 && family == AF_INET6)
		return -1;
	if (family == AF_INET6)
		ck_assert_int_eq(gn_sys_setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only)), 0);
	if (gn_sys_bind(fd, &sa, len) < 0 && family == AF_INET6) {
		gn_sys_close(fd);
		return -1;
	}
	if (type == SOCK_STREAM)
		ck_assert_int_eq(gn_sys_listen(fd, 1), 0);
	len = sizeof(sa);
	ck_assert_int_eq(gn_sys_getsockname(fd, &sa, &len), 0);
	ck_assert_int_eq(gn_addr_from_sockaddr(&at, (struct sockaddr *)&sa, len), 0);
	*port = at.port;
	return fd;
}

static int owner(int family, const char *text, uint16_t port, int type, uid_t *uid)
{
	struct gn_addr at = addr(family, text, port);

	*uid = 4711;
	return gn_name_owner_uid(&at, type, uid);
}

#define ck_owner(family, text, port, type)                                              \
	do {                                                                            \
		uid_t uid_;                                                             \
		ck_assert_int_eq(owner(family, text, port, type, &uid_), 0);            \
		ck_assert_uint_eq(uid_, geteuid());                                     \
	} while (0)

#define ck_nobody(family, text, port, type)                                             \
	do {                                                                            \
		uid_t uid_;                                                             \
		ck_assert_int_eq(owner(family, text, port, type, &uid_), -ENOENT);      \
		ck_assert_uint_eq(uid_, 4711);                                          \
	} while (0)

GN_TEST(the_two_ends_of_a_socket_pair_know_each_other)
{
	static const int types[] = {SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM};
	int fd[2];

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		ck_assert_int_eq(gn_sys_socketpair(AF_UNIX, types[i], 0, fd), 0);
		check_peers(fd[0], fd[1]);
		check_peers(fd[1], fd[0]);
	}
}

GN_TEST(a_connection_over_a_path_knows_both_ends)
{
	struct sockaddr_un sun;
	socklen_t len = unix_name(&sun, "/tmp/gnezdo") + 1;
	int l = unix_listener(SOCK_STREAM, &sun, len), c = gn_sys_socket(AF_UNIX, SOCK_STREAM, 0), s;

	ck_assert_int_eq(gn_sys_connect(c, &sun, len), 0);
	s = gn_sys_accept4(l, NULL, NULL, 0);
	unlink(sun.sun_path);
	check_peers(c, s);
	check_peers(s, c);
}

GN_TEST(a_connection_over_an_abstract_name_knows_both_ends)
{
	struct sockaddr_un sun;
	socklen_t len = unix_name(&sun, "@gnezdo");
	int l = unix_listener(SOCK_SEQPACKET, &sun, len), c = gn_sys_socket(AF_UNIX, SOCK_SEQPACKET, 0), s;

	ck_assert_int_eq(gn_sys_connect(c, &sun, len), 0);
	s = gn_sys_accept4(l, NULL, NULL, 0);
	check_peers(c, s);
	check_peers(s, c);
}

GN_TEST(a_connected_datagram_socket_knows_whom_it_called)
{
	struct sockaddr_un sun;
	socklen_t len = unix_name(&sun, "@gnezdo");
	int d = unix_listener(SOCK_DGRAM, &sun, len), c = gn_sys_socket(AF_UNIX, SOCK_DGRAM, 0);
	uint64_t own, peer;

	ck_assert_int_eq(gn_sys_connect(c, &sun, len), 0);
	check_peers(c, d);
	ck_assert_int_eq(gn_name_peer_inode(d, &own, &peer), -ENOTCONN);
}

GN_TEST(a_duplicate_is_the_same_socket)
{
	int fd[2];

	ck_assert_int_eq(gn_sys_socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	check_peers(gn_sys_dup(fd[0]), fd[1]);
}

GN_TEST(without_a_peer_nothing_is_connected)
{
	struct sockaddr_un sun;
	socklen_t len = unix_name(&sun, "@gnezdo");
	int l = unix_listener(SOCK_STREAM, &sun, len), s = gn_sys_socket(AF_UNIX, SOCK_STREAM, 0);
	uint64_t own = 1, peer = 2;

	ck_assert_int_eq(gn_name_peer_inode(l, &own, &peer), -ENOTCONN);
	ck_assert_int_eq(gn_name_peer_inode(s, &own, &peer), -ENOTCONN);
	ck_assert_uint_eq(own, 1);
	ck_assert_uint_eq(peer, 2);
}

GN_TEST(a_peer_that_nobody_holds_has_no_inode)
{
	struct sockaddr_un sun;
	socklen_t len = unix_name(&sun, "@gnezdo");
	int l = unix_listener(SOCK_STREAM, &sun, len), c = gn_sys_socket(AF_UNIX, SOCK_STREAM, 0), fd[2], s;
	uint64_t own, peer;

	ck_assert_int_eq(gn_sys_connect(c, &sun, len), 0);
	ck_assert_int_eq(gn_name_peer_inode(c, &own, &peer), -EAGAIN);
	s = gn_sys_accept4(l, NULL, NULL, 0);
	check_peers(c, s);
	ck_assert_int_eq(gn_sys_socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	gn_sys_close(fd[1]);
	ck_assert_int_eq(gn_name_peer_inode(fd[0], &own, &peer), -EAGAIN);
}

GN_TEST(the_receive_buffer_of_the_peer_is_seen_until_it_is_closed)
{
	int fd[2], size = 3003;
	uint32_t seen = 0;

	ck_assert_int_eq(gn_sys_socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	ck_assert_int_eq(gn_sys_setsockopt(fd[1], SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)), 0);
	ck_assert_int_eq(gn_name_peer_rcvbuf(fd[0], &seen), 0);
	ck_assert_uint_eq(seen, 2 * 3003);
	gn_sys_close(fd[1]);
	ck_assert_int_eq(gn_name_peer_rcvbuf(fd[0], &seen), -EAGAIN);
}

GN_TEST(other_descriptors_have_no_peer_that_we_could_name)
{
	uint64_t own, peer;
	int fd[2];

	ck_assert_int_eq(gn_sys_pipe2(fd, 0), 0);
	ck_assert_int_eq(gn_name_peer_inode(fd[0], &own, &peer), -ENOTSOCK);
	ck_assert_int_eq(gn_name_peer_inode(-1, &own, &peer), -EBADF);
	ck_assert_int_eq(gn_name_peer_inode(gn_sys_socket(AF_INET, SOCK_STREAM, 0), &own, &peer), -EOPNOTSUPP);
}

GN_TEST(a_socket_of_another_network_namespace_is_not_found)
{
	uint64_t own, peer;
	int fd[2];

	ck_assert_int_eq(gn_sys_socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0) {
		gn_unit_skip(__func__, strerror(errno));
		return;
	}
	ck_assert_int_eq(gn_name_peer_inode(fd[0], &own, &peer), -EOPNOTSUPP);
}

GN_TEST(no_descriptor_is_left_open)
{
	int before = gn_sys_dup(0), fd[2];
	uint64_t own, peer;
	uid_t uid;

	gn_sys_close(before);
	gn_sys_socketpair(AF_UNIX, SOCK_STREAM, 0, fd);
	gn_name_peer_inode(fd[0], &own, &peer);
	gn_name_peer_inode(gn_sys_dup(0), &own, &peer);
	owner(AF_INET, "127.0.0.1", 1, SOCK_STREAM, &uid);
	ck_assert_int_eq(gn_sys_dup(0), before + 3);
}

GN_TEST(a_listener_on_an_exact_address_is_found_there_only)
{
	uint16_t port;

	inet_listener(AF_INET, SOCK_STREAM, "127.0.0.1", 0, &port);
	ck_owner(AF_INET, "127.0.0.1", port, SOCK_STREAM);
	ck_nobody(AF_INET, "127.0.0.2", port, SOCK_STREAM);
	ck_nobody(AF_INET, "0.0.0.0", port, SOCK_STREAM);
	ck_nobody(AF_INET, "127.0.0.1", port, SOCK_DGRAM);
	ck_nobody(AF_INET6, "::1", port, SOCK_STREAM);
}

GN_TEST(a_listener_on_the_ipv4_wildcard_covers_all_of_ipv4)
{
	uint16_t port;

	inet_listener(AF_INET, SOCK_STREAM, "0.0.0.0", 0, &port);
	ck_owner(AF_INET, "127.0.0.1", port, SOCK_STREAM);
	ck_owner(AF_INET, "0.0.0.0", port, SOCK_STREAM);
	ck_nobody(AF_INET6, "::1", port, SOCK_STREAM);
}

GN_TEST(a_dual_listener_covers_both_families)
{
	uint16_t port;

	if (inet_listener(AF_INET6, SOCK_STREAM, "::", 0, &port) < 0) {
		gn_unit_skip(__func__, "no IPv6");
		return;
	}
	ck_owner(AF_INET6, "::1", port, SOCK_STREAM);
	ck_owner(AF_INET6, "::", port, SOCK_STREAM);
	ck_owner(AF_INET, "127.0.0.1", port, SOCK_STREAM);
	ck_owner(AF_INET, "0.0.0.0", port, SOCK_STREAM);
}

GN_TEST(a_v6only_listener_covers_ipv6_alone)
{
	uint16_t port;

	if (inet_listener(AF_INET6, SOCK_STREAM, "::", 1, &port) < 0) {
		gn_unit_skip(__func__, "no IPv6");
		return;
	}
	ck_owner(AF_INET6, "::1", port, SOCK_STREAM);
	ck_nobody(AF_INET, "127.0.0.1", port, SOCK_STREAM);
}

GN_TEST(a_listener_on_the_ipv6_loopback_is_found)
{
	uint16_t port;

	if (inet_listener(AF_INET6, SOCK_STREAM, "::1", 0, &port) < 0) {
		gn_unit_skip(__func__, "no IPv6");
		return;
	}
	ck_owner(AF_INET6, "::1", port, SOCK_STREAM);
	ck_nobody(AF_INET6, "::", port, SOCK_STREAM);
	ck_nobody(AF_INET, "127.0.0.1", port, SOCK_STREAM);
}

GN_TEST(a_bound_socket_that_does_not_listen_owns_nothing)
{
	struct gn_addr at = addr(AF_INET, "127.0.0.1", 0);
	struct sockaddr_storage sa;
	socklen_t len = gn_addr_to_sockaddr(&sa, &at, AF_INET);
	int fd = gn_sys_socket(AF_INET, SOCK_STREAM, 0);

	ck_assert_int_eq(gn_sys_bind(fd, &sa, len), 0);
	gn_sys_getsockname(fd, &sa, &len);
	gn_addr_from_sockaddr(&at, (struct sockaddr *)&sa, len);
	ck_nobody(AF_INET, "127.0.0.1", at.port, SOCK_STREAM);
}

GN_TEST(bound_datagram_sockets_are_found_likewise)
{
	uint16_t port;

	inet_listener(AF_INET, SOCK_DGRAM, "127.0.0.1", 0, &port);
	ck_owner(AF_INET, "127.0.0.1", port, SOCK_DGRAM);
	ck_nobody(AF_INET, "127.0.0.2", port, SOCK_DGRAM);
	ck_nobody(AF_INET, "127.0.0.1", port, SOCK_STREAM);
	inet_listener(AF_INET, SOCK_DGRAM, "0.0.0.0", 0, &port);
	ck_owner(AF_INET, "127.0.0.1", port, SOCK_DGRAM);
	ck_nobody(AF_INET6, "::1", port, SOCK_DGRAM);
	if (inet_listener(AF_INET6, SOCK_DGRAM, "::", 0, &port) < 0) {
		gn_unit_skip(__func__, "no IPv6");
		return;
	}
	ck_owner(AF_INET6, "::1", port, SOCK_DGRAM);
	ck_owner(AF_INET, "127.0.0.1", port, SOCK_DGRAM);
	inet_listener(AF_INET6, SOCK_DGRAM, "::", 1, &port);
	ck_owner(AF_INET6, "::1", port, SOCK_DGRAM);
	ck_nobody(AF_INET, "127.0.0.1", port, SOCK_DGRAM);
}

GN_TEST(the_owner_is_the_user_who_made_the_socket)
{
	uint16_t port;
	uid_t uid;

	if (geteuid() != 0) {
		gn_unit_skip(__func__, "only root can be two users");
		return;
	}
	ck_assert_int_eq(seteuid(SOMEBODY), 0);
	inet_listener(AF_INET, SOCK_STREAM, "127.0.0.1", 0, &port);
	ck_assert_int_eq(seteuid(0), 0);
	ck_assert_int_eq(owner(AF_INET, "127.0.0.1", port, SOCK_STREAM, &uid), 0);
	ck_assert_uint_eq(uid, SOMEBODY);
	ck_assert_int_eq(seteuid(SOMEBODY + 1), 0); /* and everybody may ask */
	ck_assert_int_eq(owner(AF_INET, "127.0.0.1", port, SOCK_STREAM, &uid), 0);
	ck_assert_uint_eq(uid, SOMEBODY);
	ck_assert_int_eq(seteuid(0), 0);
}

GN_TEST(an_exact_listener_is_preferred_to_the_wildcard)
{
	struct gn_addr at = addr(AF_INET, "127.0.0.2", 0);
	struct sockaddr_storage sa;
	socklen_t len;
	uint16_t port;
	uid_t uid;
	int fd, on = 1;

	if (geteuid() != 0) {
		gn_unit_skip(__func__, "only root can be two users");
		return;
	}
	/* The kernel lets two users share a port of datagrams if both allow it. */
	fd = gn_sys_socket(AF_INET, SOCK_DGRAM, 0);
	gn_sys_setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	len = gn_addr_to_sockaddr(&sa, &at, AF_INET);
	ck_assert_int_eq(gn_sys_bind(fd, &sa, len), 0);
	gn_sys_getsockname(fd, &sa, &len);
	gn_addr_from_sockaddr(&at, (struct sockaddr *)&sa, len);
	port = at.port;
	ck_assert_int_eq(seteuid(SOMEBODY), 0);
	fd = gn_sys_socket(AF_INET, SOCK_DGRAM, 0);
	gn_sys_setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	at = addr(AF_INET, "0.0.0.0", port);
	len = gn_addr_to_sockaddr(&sa, &at, AF_INET);
	ck_assert_int_eq(gn_sys_bind(fd, &sa, len), 0);
	ck_assert_int_eq(seteuid(0), 0);
	ck_assert_int_eq(owner(AF_INET, "127.0.0.2", port, SOCK_DGRAM, &uid), 0);
	ck_assert_uint_eq(uid, 0);
	ck_assert_int_eq(owner(AF_INET, "127.0.0.1", port, SOCK_DGRAM, &uid), 0);
	ck_assert_uint_eq(uid, SOMEBODY);
}

GN_TEST(only_streams_and_datagrams_of_the_internet_have_owners)
{
	struct gn_addr at = addr(AF_INET, "127.0.0.1", 80), none = {0};
	uid_t uid;

	ck_assert_int_eq(gn_name_owner_uid(&at, SOCK_RAW, &uid), -EINVAL);
	ck_assert_int_eq(gn_name_owner_uid(&none, SOCK_STREAM, &uid), -EINVAL);
}

static int bound_uid(const struct sockaddr_un *sun, socklen_t len, bool listening, uid_t *uid)
{
	struct gn_name at = {.sun = *sun, .len = len};

	*uid = 4711;
	return gn_name_bound_uid(&at, listening, uid);
}

GN_TEST(who_has_an_abstract_name_is_found_among_many)
{
	struct sockaddr_un sun, longer;
	socklen_t len = unix_name(&sun, "@");
	uid_t uid;

	for (int i = 0; i < 200; i++)
		gn_sys_socket(AF_UNIX, SOCK_STREAM, 0);
	ck_assert_int_eq(bound_uid(&sun, len, true, &uid), -ENOENT);
	longer = sun;
	longer.sun_path[len - offsetof(struct sockaddr_un, sun_path)] = 'x';
	unix_listener(SOCK_STREAM, &longer, len + 1);
	ck_assert_int_eq(bound_uid(&sun, len, true, &uid), -ENOENT);
	if (geteuid() == 0)
		ck_assert_int_eq(seteuid(SOMEBODY), 0);
	unix_listener(SOCK_STREAM, &sun, len);
	ck_assert_int_eq(bound_uid(&sun, len, true, &uid), 0);
	ck_assert_uint_eq(uid, geteuid());
	ck_assert_int_eq(bound_uid(&sun, len, false, &uid), 0);
	ck_assert_uint_eq(uid, geteuid());
	ck_assert_int_eq(seteuid(getuid()), 0);
	prctl(PR_SET_DUMPABLE, 1); /* LeakSanitizer traces the process at its end */
}

GN_TEST(a_name_that_is_bound_and_not_listened_on_has_no_listener)
{
	struct sockaddr_un sun;
	socklen_t len = unix_name(&sun, "@bound");
	int fd = gn_sys_socket(AF_UNIX, SOCK_STREAM, 0);
	uid_t uid;

	ck_assert_int_eq(gn_sys_bind(fd, &sun, len), 0);
	ck_assert_int_eq(bound_uid(&sun, len, true, &uid), -ENOENT);
	ck_assert_int_eq(bound_uid(&sun, len, false, &uid), 0);
	ck_assert_uint_eq(uid, geteuid());
}

int main(void)
{
	return gn_unit_run("diag");
}
