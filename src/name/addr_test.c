/* SPDX-License-Identifier: MIT */
/* Internet addresses: conversions and kinds. */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "base/unit.h"
#include "name/name.h"

static struct gn_addr addr(int family, const char *text, uint16_t port)
{
	struct gn_addr a = {.family = (uint16_t)family, .port = port};

	ck_assert_int_eq(inet_pton(family, text, a.ip), 1);
	return a;
}

static struct sockaddr_in6 sin6(const char *text, uint16_t port, uint32_t scope)
{
	struct sockaddr_in6 sa = {.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_scope_id = scope};

	ck_assert_int_eq(inet_pton(AF_INET6, text, &sa.sin6_addr), 1);
	return sa;
}

/* Reads `text` as a program's IPv6 address. */
static struct gn_addr read6(const char *text, uint32_t scope)
{
	struct sockaddr_in6 sa = sin6(text, 80, scope);
	struct gn_addr a;

	ck_assert_int_eq(gn_addr_from_sockaddr(&a, (struct sockaddr *)&sa, sizeof(sa)), 0);
	return a;
}

GN_TEST(an_ipv4_address_is_read_and_shown_again)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(8080), .sin_addr.s_addr = htonl(0x7f000001)};
	struct gn_addr a, expected = addr(AF_INET, "127.0.0.1", 8080);
	struct sockaddr_storage out;

	ck_assert_int_eq(gn_addr_from_sockaddr(&a, (struct sockaddr *)&in, sizeof(in)), 0);
	ck_assert(gn_addr_equal(&a, &expected));
	ck_assert_uint_eq(gn_addr_to_sockaddr(&out, &a, AF_INET), sizeof(in));
	ck_assert_mem_eq(&out, &in, sizeof(in));
}

GN_TEST(an_ipv6_address_is_read_and_shown_again)
{
	struct sockaddr_in6 in = sin6("2001:db8::17", 443, 0);
	struct gn_addr a, expected = addr(AF_INET6, "2001:db8::17", 443);
	struct sockaddr_storage out;

	ck_assert_int_eq(gn_addr_from_sockaddr(&a, (struct sockaddr *)&in, sizeof(in)), 0);
	ck_assert(gn_addr_equal(&a, &expected));
	ck_assert_uint_eq(gn_addr_to_sockaddr(&out, &a, AF_INET6), sizeof(in));
	ck_assert_mem_eq(&out, &in, sizeof(in));
}

GN_TEST(a_v4_mapped_address_is_an_ipv4_address)
{
	struct gn_addr a = read6("::ffff:192.0.2.7", 0), expected = addr(AF_INET, "192.0.2.7", 80);

	ck_assert(gn_addr_equal(&a, &expected));
}

GN_TEST(an_ipv4_address_is_shown_v4_mapped_to_an_ipv6_socket)
{
	struct gn_addr a = addr(AF_INET, "192.0.2.7", 80);
	struct sockaddr_in6 expected = sin6("::ffff:192.0.2.7", 80, 0);
	struct sockaddr_storage out;

	ck_assert_uint_eq(gn_addr_to_sockaddr(&out, &a, AF_INET6), sizeof(expected));
	ck_assert_mem_eq(&out, &expected, sizeof(expected));
}

GN_TEST(a_short_length_is_refused_and_the_result_untouched)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	struct sockaddr_in6 in6 = sin6("::1", 80, 0);
	struct gn_addr a = {.family = 4711};

	ck_assert_int_eq(gn_addr_from_sockaddr(&a, (struct sockaddr *)&in, 0), -EINVAL);
	ck_assert_int_eq(gn_addr_from_sockaddr(&a, (struct sockaddr *)&in, 1), -EINVAL);
	ck_assert_int_eq(gn_addr_from_sockaddr(&a, (struct sockaddr *)&in, sizeof(in) - 1), -EINVAL);
	ck_assert_int_eq(gn_addr_from_sockaddr(&a, (struct sockaddr *)&in6, 23), -EINVAL);
	ck_assert_uint_eq(a.family, 4711);
}

GN_TEST(an_ipv6_address_without_its_scope_is_taken_as_the_kernel_takes_it)
{
	struct sockaddr_in6 in = sin6("fe80::1", 80, 5);
	struct gn_addr a;

	ck_assert_int_eq(gn_addr_from_sockaddr(&a, (struct sockaddr *)&in, 24), 0);
	ck_assert_uint_eq(a.scope, 0);
	ck_assert_uint_eq(a.port, 80);
}

GN_TEST(a_scope_counts_for_link_local_addresses_only)
{
	ck_assert_uint_eq(read6("fe80::1", 5).scope, 5);
	ck_assert_uint_eq(read6("febf::1", 5).scope, 5);
	ck_assert_uint_eq(read6("ff02::1", 5).scope, 5);
	ck_assert_uint_eq(read6("ff05::1", 5).scope, 0);
	ck_assert_uint_eq(read6("fec0::1", 5).scope, 0);
	ck_assert_uint_eq(read6("2001:db8::1", 5).scope, 0);
	ck_assert_uint_eq(read6("::1", 5).scope, 0);
	ck_assert_uint_eq(read6("::ffff:127.0.0.1", 5).scope, 0);
}

GN_TEST(a_scope_is_shown_again)
{
	struct gn_addr a = read6("fe80::1", 5);
	struct sockaddr_in6 expected = sin6("fe80::1", 80, 5);
	struct sockaddr_storage out;

	gn_addr_to_sockaddr(&out, &a, AF_INET6);
	ck_assert_mem_eq(&out, &expected, sizeof(expected));
}

GN_TEST(other_families_are_not_internet_addresses)
{
	struct sockaddr_storage sa = {.ss_family = AF_UNIX};
	struct gn_addr a;

	ck_assert_int_eq(gn_addr_from_sockaddr(&a, (struct sockaddr *)&sa, sizeof(sa)), -EAFNOSUPPORT);
	sa.ss_family = AF_UNSPEC;
	ck_assert_int_eq(gn_addr_from_sockaddr(&a, (struct sockaddr *)&sa, 2), -EAFNOSUPPORT);
}

GN_TEST(an_address_may_lie_anywhere_in_memory)
{
	struct sockaddr_in6 in = sin6("2001:db8::17", 443, 0);
	struct gn_addr a, expected = addr(AF_INET6, "2001:db8::17", 443);
	char room[sizeof(in) + 1];

	memcpy(room + 1, &in, sizeof(in));
	ck_assert_int_eq(gn_addr_from_sockaddr(&a, (struct sockaddr *)(void *)(room + 1), sizeof(in)), 0);
	ck_assert(gn_addr_equal(&a, &expected));
}

GN_TEST(kinds_of_addresses_are_told_apart)
{
	static const struct {
		int family;
		const char *text;
		bool wildcard, loopback, multicast;
	} rows[] = {
		{AF_INET, "0.0.0.0", true, false, false},
		{AF_INET, "127.0.0.1", false, true, false},
		{AF_INET, "127.255.255.254", false, true, false},
		{AF_INET, "128.0.0.1", false, false, false},
		{AF_INET, "0.0.0.1", false, false, false},
		{AF_INET, "224.0.0.1", false, false, true},
		{AF_INET, "239.255.255.255", false, false, true},
		{AF_INET, "240.0.0.1", false, false, false},
		{AF_INET, "255.255.255.255", false, false, true},
		{AF_INET6, "::", true, false, false},
		{AF_INET6, "::1", false, true, false},
		{AF_INET6, "::2", false, false, false},
		{AF_INET6, "1::1", false, false, false},
		{AF_INET6, "ff02::1", false, false, true},
		{AF_INET6, "fe80::1", false, false, false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct gn_addr a = addr(rows[i].family, rows[i].text, 1);

		ck_assert_msg(gn_addr_is_wildcard(&a) == rows[i].wildcard, "wildcard %s", rows[i].text);
		ck_assert_msg(gn_addr_is_loopback(&a) == rows[i].loopback, "loopback %s", rows[i].text);
		ck_assert_msg(gn_addr_is_multicast(&a) == rows[i].multicast, "multicast %s", rows[i].text);
	}
}

GN_TEST(no_address_is_of_no_kind)
{
	struct gn_addr none = {0};

	ck_assert(!gn_addr_is_wildcard(&none));
	ck_assert(!gn_addr_is_loopback(&none));
	ck_assert(!gn_addr_is_multicast(&none));
}

GN_TEST(equal_means_equal_in_everything)
{
	struct gn_addr a = addr(AF_INET6, "fe80::1", 80), b = a;

	ck_assert(gn_addr_equal(&a, &b));
	b.port = 81;
	ck_assert(!gn_addr_equal(&a, &b));
	b = a;
	b.scope = 2;
	ck_assert(!gn_addr_equal(&a, &b));
	b = a;
	b.ip[15] = 2;
	ck_assert(!gn_addr_equal(&a, &b));
	b = a;
	b.family = AF_INET;
	ck_assert(!gn_addr_equal(&a, &b));
}

GN_TEST(a_wildcard_as_destination_is_this_machine)
{
	struct gn_addr a = addr(AF_INET, "0.0.0.0", 80), b = addr(AF_INET6, "::", 80), c = addr(AF_INET, "192.0.2.1", 80);
	struct gn_addr a1 = addr(AF_INET, "127.0.0.1", 80), b1 = addr(AF_INET6, "::1", 80), c1 = c;

	gn_addr_destination(&a);
	gn_addr_destination(&b);
	gn_addr_destination(&c);
	ck_assert(gn_addr_equal(&a, &a1));
	ck_assert(gn_addr_equal(&b, &b1));
	ck_assert(gn_addr_equal(&c, &c1));
}

int main(void)
{
	return gn_unit_run("addr");
}
