/* SPDX-License-Identifier: MIT */
/* Which addresses are this machine's: asked in a network namespace of the test's own, where they are known. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/sys.h"
#include "base/time.h"
#include "base/unit.h"
#include "name/name.h"

struct in6_request { /* linux/ipv6.h clashes with libc's headers */
	struct in6_addr addr;
	uint32_t prefix_len;
	int ifindex;
};

static struct gn_addr addr(int family, const char *text, uint32_t scope)
{
	struct gn_addr a = {.family = (uint16_t)family, .port = 80, .scope = scope};

	ck_assert_int_eq(inet_pton(family, text, a.ip), 1);
	return a;
}

static int is_local(int family, const char *text, uint32_t scope)
{
	struct gn_addr a = addr(family, text, scope);

	return gn_addr_is_local(&a);
}

/* A new network namespace with nothing in it but a loopback device that is down. False, and the reason said: impossible here. */
static bool fresh_net(const char *test)
{
	if (unshare(CLONE_NEWNET) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0)
		return true;
	gn_unit_skip(test, strerror(errno));
	return false;
}

/* Gives the device `name` (lo, or an alias of it) an IPv4 address and puts it up. */
static void add_v4(const char *name, const char *text, const char *mask)
{
	struct sockaddr_in sin = {.sin_family = AF_INET};
	int fd = gn_sys_socket(AF_INET, SOCK_DGRAM, 0);
	struct ifreq r = {0};

	strncpy(r.ifr_name, name, IFNAMSIZ - 1);
	inet_pton(AF_INET, text, &sin.sin_addr);
	memcpy(&r.ifr_addr, &sin, sizeof(sin));
	ck_assert_int_eq(gn_sys_ioctl(fd, SIOCSIFADDR, &r), 0);
	inet_pton(AF_INET, mask, &sin.sin_addr);
	memcpy(&r.ifr_netmask, &sin, sizeof(sin));
	ck_assert_int_eq(gn_sys_ioctl(fd, SIOCSIFNETMASK, &r), 0);
	r.ifr_flags = IFF_UP;
	ck_assert_int_eq(gn_sys_ioctl(fd, SIOCSIFFLAGS, &r), 0);
	gn_sys_close(fd);
}

/* The kernel makes the route of a new IPv6 address in its own time. */
static int becomes_local(const char *text, uint32_t scope)
{
	uint64_t deadline = gn_now_ns() + 10 * GN_NS_PER_S;

	while (!is_local(AF_INET6, text, scope))
		if (gn_now_ns() > deadline)
			return 0;
	return 1;
}

/* False: no IPv6 here. */
static bool add_v6(const char *text, uint32_t prefix_len)
{
	struct in6_request r = {.prefix_len = prefix_len, .ifindex = (int)if_nametoindex("lo")};
	int fd = gn_sys_socket(AF_INET6, SOCK_DGRAM, 0), rc;

	inet_pton(AF_INET6, text, &r.addr);
	rc = fd < 0 ? fd : gn_sys_ioctl(fd, SIOCSIFADDR, &r);
	gn_sys_close(fd);
	return rc == 0;
}

GN_TEST(loopback_and_wildcards_are_local)
{
	ck_assert_int_eq(is_local(AF_INET, "127.0.0.1", 0), 1);
	ck_assert_int_eq(is_local(AF_INET, "127.1.2.3", 0), 1);
	ck_assert_int_eq(is_local(AF_INET, "0.0.0.0", 0), 1);
	ck_assert_int_eq(is_local(AF_INET6, "::1", 0), 1);
	ck_assert_int_eq(is_local(AF_INET6, "::", 0), 1);
}

GN_TEST(multicast_broadcast_and_no_address_are_not_local)
{
	struct gn_addr none = {0};

	ck_assert_int_eq(is_local(AF_INET, "224.0.0.1", 0), 0);
	ck_assert_int_eq(is_local(AF_INET, "255.255.255.255", 0), 0);
	ck_assert_int_eq(is_local(AF_INET6, "ff02::1", 1), 0);
	ck_assert_int_eq(gn_addr_is_local(&none), 0);
}

GN_TEST(an_ipv4_address_of_a_device_is_local_and_its_neighbours_are_not)
{
	if (!fresh_net(__func__))
		return;
	ck_assert_int_eq(is_local(AF_INET, "192.0.2.1", 0), 0);
	add_v4("lo", "127.0.0.1", "255.0.0.0");
	add_v4("lo:1", "192.0.2.1", "255.255.255.255");
	add_v4("lo:2", "198.51.100.1", "255.255.255.255");
	ck_assert_int_eq(is_local(AF_INET, "192.0.2.1", 0), 1);
	ck_assert_int_eq(is_local(AF_INET, "198.51.100.1", 0), 1);
	ck_assert_int_eq(is_local(AF_INET, "192.0.2.2", 0), 0);
	ck_assert_int_eq(is_local(AF_INET, "203.0.113.1", 0), 0);
}

GN_TEST(an_address_that_can_only_be_bound_is_not_local)
{
	struct gn_addr a = addr(AF_INET, "203.0.113.1", 0);
	struct sockaddr_storage sa;
	socklen_t len = gn_addr_to_sockaddr(&sa, &a, AF_INET);
	int fd;

	if (!fresh_net(__func__))
		return;
	add_v4("lo", "127.0.0.1", "255.0.0.0");
	fd = gn_sys_open("/proc/sys/net/ipv4/ip_nonlocal_bind", O_WRONLY, 0);
	if (fd < 0 || gn_sys_write(fd, "1", 1) != 1) {
		gn_unit_skip(__func__, "ip_nonlocal_bind cannot be set");
		return;
	}
	ck_assert_int_eq(gn_sys_bind(gn_sys_socket(AF_INET, SOCK_DGRAM, 0), &sa, len), 0);
	ck_assert_int_eq(gn_addr_is_local(&a), 0);
}

GN_TEST(the_broadcast_address_of_a_subnet_is_not_local)
{
	if (!fresh_net(__func__))
		return;
	add_v4("lo", "127.0.0.1", "255.0.0.0");
	ck_assert_int_eq(is_local(AF_INET, "192.0.2.255", 0), 0);
}

GN_TEST(an_ipv6_address_of_a_device_is_local_and_its_neighbours_are_not)
{
	if (!fresh_net(__func__))
		return;
	add_v4("lo", "127.0.0.1", "255.0.0.0");
	if (!add_v6("2001:db8::17", 64)) {
		gn_unit_skip(__func__, "no IPv6");
		return;
	}
	ck_assert_int_eq(becomes_local("2001:db8::17", 0), 1);
	ck_assert_int_eq(is_local(AF_INET6, "2001:db8:1::17", 0), 0);
	ck_assert_int_eq(is_local(AF_INET6, "2001:db8:1::18", 0), 0);
}

GN_TEST(a_link_local_address_is_local_on_its_own_link)
{
	uint32_t lo;

	if (!fresh_net(__func__))
		return;
	add_v4("lo", "127.0.0.1", "255.0.0.0");
	if (!add_v6("fe80::17", 128)) {
		gn_unit_skip(__func__, "no IPv6");
		return;
	}
	lo = if_nametoindex("lo");
	ck_assert_int_eq(becomes_local("fe80::17", lo), 1);
	ck_assert_int_eq(is_local(AF_INET6, "fe80::18", lo), 0);
	ck_assert_int_eq(is_local(AF_INET6, "fe80::17", lo + 100), 0);
}

GN_TEST(the_answer_is_that_of_the_current_network_namespace)
{
	struct gn_addr dest = addr(AF_INET, "203.0.113.1", 0), from;
	struct sockaddr_storage sa;
	char text[INET_ADDRSTRLEN];

	if (gn_addr_source(&from, &dest) < 0) {
		gn_unit_skip(__func__, "no route to anywhere, so no address of our own to look for");
		return;
	}
	gn_addr_to_sockaddr(&sa, &from, AF_INET);
	inet_ntop(AF_INET, from.ip, text, sizeof(text));
	ck_assert_int_eq(is_local(AF_INET, text, 0), 1);
	if (!fresh_net(__func__))
		return;
	ck_assert_int_eq(is_local(AF_INET, text, 0), 0);
}

GN_TEST(no_descriptor_and_no_socket_is_left)
{
	int before = gn_sys_dup(0);

	is_local(AF_INET, "192.0.2.1", 0);
	is_local(AF_INET6, "2001:db8::1", 0);
	gn_sys_close(before);
	ck_assert_int_eq(gn_sys_dup(0), before);
}

GN_TEST(without_descriptors_nothing_is_local_but_what_needs_no_question)
{
	struct gn_addr a = addr(AF_INET, "192.0.2.1", 0);
	int first;

	if (!fresh_net(__func__))
		return;
	add_v4("lo", "127.0.0.1", "255.0.0.0");
	add_v4("lo:1", "192.0.2.1", "255.255.255.255");
	first = gn_sys_dup(0);
	while (gn_sys_dup(0) >= 0)
		;
	ck_assert_int_eq(gn_addr_is_local(&a), 0);
	ck_assert_int_eq(is_local(AF_INET, "127.0.0.1", 0), 1);
	gn_sys_close_range((unsigned int)first, ~0u, 0);
}

GN_TEST(the_source_is_the_one_that_the_kernel_would_choose)
{
	struct gn_addr dest = addr(AF_INET, "192.0.2.1", 0), from, expected = dest;

	if (!fresh_net(__func__))
		return;
	ck_assert_int_eq(gn_addr_source(&from, &dest), -ENETUNREACH);
	add_v4("lo", "127.0.0.1", "255.0.0.0");
	add_v4("lo:1", "192.0.2.1", "255.255.255.255");
	ck_assert_int_eq(gn_addr_source(&from, &dest), 0);
	expected.port = 0;
	ck_assert(gn_addr_equal(&from, &expected));
}

/* What a real connect() shows is the oracle for the answer that is given without a system call. */
GN_TEST(the_source_for_loopback_is_what_connect_shows)
{
	static const char *const texts[] = {"127.0.0.1", "127.0.0.9", "0.0.0.0"};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct gn_addr dest = addr(AF_INET, texts[i], 0), from, shown;
		int fd = gn_sys_socket(AF_INET, SOCK_DGRAM, 0);
		struct sockaddr_storage sa;
		socklen_t len = gn_addr_to_sockaddr(&sa, &dest, AF_INET);

		ck_assert_int_eq(gn_sys_connect(fd, &sa, len), 0);
		gn_sys_getsockname(fd, &sa, &len);
		gn_addr_from_sockaddr(&shown, (struct sockaddr *)&sa, len);
		shown.port = 0;
		ck_assert_int_eq(gn_addr_source(&from, &dest), 0);
		ck_assert(gn_addr_equal(&from, &shown));
	}
}

int main(void)
{
	return gn_unit_run("local");
}
