/* SPDX-License-Identifier: MIT */
/* Abstract names: their spelling, their length, and that they can be read back. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/sys.h"
#include "base/unit.h"
#include "name/name.h"

#define NAME_OVERHEAD (offsetof(struct sockaddr_un, sun_path) + 1)

static struct gn_addr addr(int family, const char *text, uint16_t port)
{
	struct gn_addr a = {.family = (uint16_t)family, .port = port};

	ck_assert_int_eq(inet_pton(family, text, a.ip), 1);
	return a;
}

static void check_name(const struct gn_name *n, const char *text)
{
	ck_assert_uint_eq(n->len, NAME_OVERHEAD + strlen(text));
	ck_assert_int_eq(n->sun.sun_family, AF_UNIX);
	ck_assert_int_eq(n->sun.sun_path[0], 0);
	ck_assert_mem_eq(n->sun.sun_path + 1, text, strlen(text));
}

static bool same_name(const struct gn_name *a, const struct gn_name *b)
{
	return a->len == b->len && !memcmp(&a->sun, &b->sun, a->len);
}

static struct gn_name name_of(const char *text)
{
	struct gn_name n = {.sun.sun_family = AF_UNIX, .len = (socklen_t)(NAME_OVERHEAD + strlen(text))};

	memcpy(n.sun.sun_path + 1, text, strlen(text));
	return n;
}

/* An address of everything that can be long, or of few values so that equal ones come up. */
static struct gn_addr random_addr(void)
{
	struct gn_addr a = {.family = random() & 1 ? AF_INET : AF_INET6, .port = (uint16_t)random()};

	for (int i = 0; i < (a.family == AF_INET ? 4 : 16); i++)
		a.ip[i] = (uint8_t)(random() & 1 ? random() : 0);
	if (a.family == AF_INET6 && random() & 1)
		a.scope = (uint32_t)random() << (random() & 1);
	return a;
}

GN_TEST(listeners_are_named_for_their_address)
{
	struct gn_addr v4 = addr(AF_INET, "127.0.0.1", 8080), v6 = addr(AF_INET6, "2001:db8::17", 443);
	struct gn_name n;

	gn_name_listener(&n, &v4, false);
	check_name(&n, "gnezdo/1/l/127.0.0.1:8080");
	gn_name_listener(&n, &v6, false);
	check_name(&n, "gnezdo/1/l/20010db8000000000000000000000017:443");
	v6 = addr(AF_INET6, "fe80::1", 443);
	v6.scope = 0x1f;
	gn_name_listener(&n, &v6, false);
	check_name(&n, "gnezdo/1/l/fe800000000000000000000000000001%1f:443");
}

GN_TEST(wildcard_listeners_have_names_of_their_own)
{
	struct gn_addr v4 = addr(AF_INET, "0.0.0.0", 80), v6 = addr(AF_INET6, "::", 80);
	struct gn_name n;

	gn_name_listener(&n, &v4, false);
	check_name(&n, "gnezdo/1/l/4*:80");
	gn_name_listener(&n, &v6, false);
	check_name(&n, "gnezdo/1/l/6*:80");
	gn_name_listener(&n, &v6, true);
	check_name(&n, "gnezdo/1/l/*:80");
}

GN_TEST(only_an_ipv6_wildcard_can_be_dual)
{
	struct gn_addr v4 = addr(AF_INET, "0.0.0.0", 80), v6 = addr(AF_INET6, "::1", 80);
	struct gn_name dual, single;

	gn_name_listener(&dual, &v4, true);
	gn_name_listener(&single, &v4, false);
	ck_assert(same_name(&dual, &single));
	gn_name_listener(&dual, &v6, true);
	gn_name_listener(&single, &v6, false);
	ck_assert(same_name(&dual, &single));
}

GN_TEST(callers_try_exact_then_their_family_then_dual)
{
	struct gn_addr to = addr(AF_INET, "192.0.2.7", 80);
	struct gn_name n[3];

	ck_assert_int_eq(gn_name_candidates(n, &to), 3);
	check_name(&n[0], "gnezdo/1/l/192.0.2.7:80");
	check_name(&n[1], "gnezdo/1/l/4*:80");
	check_name(&n[2], "gnezdo/1/l/*:80");
	to = addr(AF_INET6, "::1", 80);
	ck_assert_int_eq(gn_name_candidates(n, &to), 3);
	check_name(&n[0], "gnezdo/1/l/00000000000000000000000000000001:80");
	check_name(&n[1], "gnezdo/1/l/6*:80");
	check_name(&n[2], "gnezdo/1/l/*:80");
}

GN_TEST(callers_of_a_wildcard_try_loopback_first)
{
	struct gn_addr to = addr(AF_INET, "0.0.0.0", 80);
	struct gn_name n[3];

	ck_assert_int_eq(gn_name_candidates(n, &to), 3);
	check_name(&n[0], "gnezdo/1/l/127.0.0.1:80");
	check_name(&n[1], "gnezdo/1/l/4*:80");
}

GN_TEST(a_callers_name_spells_both_addresses)
{
	struct gn_addr from = addr(AF_INET, "127.0.0.1", 40000), dest = addr(AF_INET, "127.0.0.1", 8080);
	struct gn_name n;

	gn_name_caller(&n, &from, &dest);
	check_name(&n, "gnezdo/1/c/127.0.0.1:40000-127.0.0.1:8080");
}

GN_TEST(a_callers_name_can_be_read_back)
{
	unsigned int seed = 20;

	srandom(seed);
	printf("# seed %u\n", seed);
	for (int i = 0; i < 20000; i++) {
		struct gn_addr from = random_addr(), dest = random_addr(), f, d;
		struct gn_name n;

		gn_name_caller(&n, &from, &dest);
		ck_assert_uint_le(n.len, sizeof(n.sun));
		ck_assert_int_eq(gn_name_caller_parse(&n, &f, &d), 0);
		ck_assert(gn_addr_equal(&f, &from));
		ck_assert(gn_addr_equal(&d, &dest));
	}
}

GN_TEST(the_two_longest_addresses_fit)
{
	struct gn_addr a = {.family = AF_INET6, .port = 65535, .scope = UINT32_MAX}, f, d;
	struct gn_name n;

	memset(a.ip, 0xfe, sizeof(a.ip));
	gn_name_caller(&n, &a, &a);
	ck_assert_uint_le(n.len, sizeof(n.sun));
	ck_assert_int_eq(gn_name_caller_parse(&n, &f, &d), 0);
	ck_assert(gn_addr_equal(&f, &a) && gn_addr_equal(&d, &a));
	gn_name_meeting_inet(&n, 's', &a, &a);
	ck_assert_uint_le(n.len, sizeof(n.sun));
	gn_name_listener(&n, &a, false);
	ck_assert_uint_le(n.len, sizeof(n.sun));
	gn_name_meeting(&n, UINT64_MAX, UINT64_MAX);
	check_name(&n, "gnezdo/1/m/ffffffffffffffff-ffffffffffffffff");
}

GN_TEST(only_a_callers_exact_spelling_is_read)
{
	static const char *const wrong[] = {
		"",
		"x",
		"gnezdo/1/c/",
		"gnezdo/1/c/127.0.0.1:1",
		"gnezdo/1/c/127.0.0.1:1-",
		"gnezdo/1/c/127.0.0.1:1-127.0.0.1",
		"gnezdo/1/c/127.0.0.1:1-127.0.0.1:",
		"gnezdo/1/c/127.0.0.1:1-127.0.0.1:65536",
		"gnezdo/1/c/127.0.0.1:1-127.0.0.1:99999999999999999999999",
		"gnezdo/1/c/127.0.0.1:01-127.0.0.1:2",
		"gnezdo/1/c/127.0.0.01:1-127.0.0.1:2",
		"gnezdo/1/c/127.0.0.256:1-127.0.0.1:2",
		"gnezdo/1/c/127.0.0:1-127.0.0.1:2",
		"gnezdo/1/c/127.0.0.1:1-127.0.0.1:2 ",
		"gnezdo/1/c/127.0.0.1:1+127.0.0.1:2",
		"gnezdo/1/l/127.0.0.1:1-127.0.0.1:2",
		"gnezdo/2/c/127.0.0.1:1-127.0.0.1:2",
		"gnezdo/1/c/0000000000000000000000000000000:1-127.0.0.1:2",
		"gnezdo/1/c/0000000000000000000000000000000G:1-127.0.0.1:2",
		"gnezdo/1/c/0000000000000000000000000000000A:1-127.0.0.1:2",
		"gnezdo/1/c/00000000000000000000000000000001%0:1-127.0.0.1:2",
		"gnezdo/1/c/00000000000000000000000000000001%:1-127.0.0.1:2",
		"gnezdo/1/c/00000000000000000000000000000001%100000000:1-127.0.0.1:2",
	};
	struct gn_addr f = {.family = 4711}, d;

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct gn_name n = name_of(wrong[i]);

		ck_assert_msg(gn_name_caller_parse(&n, &f, &d) == -EINVAL, "%s", wrong[i]);
	}
	ck_assert_uint_eq(f.family, 4711);
}

GN_TEST(a_path_is_not_a_callers_name)
{
	struct gn_name n = name_of("gnezdo/1/c/127.0.0.1:1-127.0.0.1:2");
	struct gn_addr f, d;

	ck_assert_int_eq(gn_name_caller_parse(&n, &f, &d), 0);
	n.sun.sun_path[0] = '/';
	ck_assert_int_eq(gn_name_caller_parse(&n, &f, &d), -EINVAL);
}

GN_TEST(every_shortened_or_lengthened_name_is_refused_or_another_one)
{
	struct gn_addr from = addr(AF_INET6, "fe80::1", 40000), dest = addr(AF_INET, "127.0.0.1", 8080), f, d;
	struct gn_name n;
	socklen_t full;

	from.scope = 3;
	gn_name_caller(&n, &from, &dest);
	full = n.len;
	for (n.len = 0; n.len <= sizeof(n.sun) + 1; n.len++) {
		bool only_port_cut = n.len < full && n.len > full - 4;

		if (n.len != full && !only_port_cut)
			ck_assert_int_eq(gn_name_caller_parse(&n, &f, &d), -EINVAL);
		else
			ck_assert_int_eq(gn_name_caller_parse(&n, &f, &d), 0);
	}
}

GN_TEST(the_order_of_the_two_ends_does_not_matter_where_they_meet)
{
	struct gn_name ab, ba;

	gn_name_meeting(&ab, 0x1a2c, 0x1a2b);
	gn_name_meeting(&ba, 0x1a2b, 0x1a2c);
	check_name(&ab, "gnezdo/1/m/1a2b-1a2c");
	ck_assert(same_name(&ab, &ba));
	srandom(21);
	for (int i = 0; i < 1000; i++) {
		struct gn_addr a = random_addr(), b = random_addr();

		gn_name_meeting_inet(&ab, 's', &a, &b);
		gn_name_meeting_inet(&ba, 's', &b, &a);
		ck_assert(same_name(&ab, &ba));
	}
}

GN_TEST(streams_datagrams_and_callers_do_not_share_names)
{
	struct gn_addr a = addr(AF_INET, "127.0.0.1", 1), b = addr(AF_INET, "127.0.0.1", 2);
	struct gn_name s, d, c;

	gn_name_meeting_inet(&s, 's', &a, &b);
	gn_name_meeting_inet(&d, 'd', &a, &b);
	gn_name_caller(&c, &a, &b);
	check_name(&s, "gnezdo/1/s/127.0.0.1:1-127.0.0.1:2");
	check_name(&d, "gnezdo/1/d/127.0.0.1:1-127.0.0.1:2");
	ck_assert(!same_name(&s, &c));
}

static struct gn_key abstract_key(const char *text)
{
	struct gn_name n = name_of(text);
	struct gn_key k;

	gn_key_abstract(&k, &n.sun, n.len);
	return k;
}

GN_TEST(holders_are_named_as_listeners_are_but_apart_from_them)
{
	struct gn_addr v4 = addr(AF_INET, "127.0.0.1", 8080), any = addr(AF_INET6, "::", 8080);
	struct gn_name n, tries[3];

	gn_name_holder(&n, &v4, false);
	check_name(&n, "gnezdo/1/h/127.0.0.1:8080");
	gn_name_holder(&n, &any, true);
	check_name(&n, "gnezdo/1/h/*:8080");
	ck_assert_int_eq(gn_name_holders(tries, &v4), 3);
	check_name(&tries[0], "gnezdo/1/h/127.0.0.1:8080");
	check_name(&tries[1], "gnezdo/1/h/4*:8080");
	check_name(&tries[2], "gnezdo/1/h/*:8080");
}

GN_TEST(a_key_is_a_file_or_an_abstract_name_and_never_both)
{
	struct gn_key file = {'=', {0xfe01, 0x1a2b}}, one = abstract_key("one"), again = abstract_key("one"), two = abstract_key("two");
	struct gn_key twin = {'=', {one.word[0], one.word[1]}};
	struct gn_name n;

	gn_name_holder_unix(&n, &file);
	check_name(&n, "gnezdo/1/h/=fe01.1a2b");
	ck_assert(gn_key_equal(&one, &again));
	ck_assert(!gn_key_equal(&one, &two));
	ck_assert(!gn_key_equal(&one, &twin));
}

GN_TEST(two_peers_have_one_name_in_common)
{
	struct gn_key keys[] = {{'=', {1, 2}}, {'=', {2, 1}}, {'=', {1, 3}}, {'=', {UINT64_MAX, UINT64_MAX}}, abstract_key("one"), abstract_key("two")};
	struct gn_name ab, ba, other;

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		for (size_t j = 0; j < ARRAY_SIZE(keys); j++) {
			gn_name_peers_unix(&ab, &keys[i], &keys[j]);
			gn_name_peers_unix(&ba, &keys[j], &keys[i]);
			gn_name_peers_unix(&other, &keys[i], &keys[(j + 1) % ARRAY_SIZE(keys)]);
			ck_assert(same_name(&ab, &ba));
			ck_assert(!same_name(&ab, &other));
		}
}

GN_TEST(different_addresses_have_different_names)
{
	enum { COUNT = 300 };
	struct gn_addr all[COUNT];
	struct gn_name names[COUNT];

	srandom(22);
	for (int i = 0; i < COUNT; i++) {
		all[i] = random_addr();
		gn_name_listener(&names[i], &all[i], false);
		for (int j = 0; j < i; j++)
			ck_assert_int_eq(same_name(&names[i], &names[j]), gn_addr_equal(&all[i], &all[j]));
	}
}

GN_TEST(names_are_printable)
{
	srandom(23);
	for (int i = 0; i < 1000; i++) {
		struct gn_addr a = random_addr(), b = random_addr();
		struct gn_name n;

		gn_name_caller(&n, &a, &b);
		for (socklen_t k = NAME_OVERHEAD; k < n.len; k++)
			ck_assert_int_gt(((const char *)&n.sun)[k], ' ');
	}
}

GN_TEST(the_kernel_keeps_a_callers_name_unique_and_shows_it_to_the_listener)
{
	struct gn_addr from = addr(AF_INET, "127.0.0.1", 40000), dest = addr(AF_INET, "127.0.0.1", 1), f, d;
	struct gn_name listener, caller, seen = {.len = sizeof(seen.sun)};
	int a = gn_sys_socket(AF_UNIX, SOCK_STREAM, 0), b = gn_sys_socket(AF_UNIX, SOCK_STREAM, 0);
	int l = gn_sys_socket(AF_UNIX, SOCK_STREAM, 0), accepted;

	dest.port = (uint16_t)gn_sys_getpid(); /* so that two runs of this test do not meet */
	gn_name_listener(&listener, &dest, false);
	gn_name_caller(&caller, &from, &dest);
	ck_assert_int_eq(gn_sys_bind(l, &listener.sun, listener.len), 0);
	ck_assert_int_eq(gn_sys_listen(l, 1), 0);
	ck_assert_int_eq(gn_sys_bind(a, &caller.sun, caller.len), 0);
	ck_assert_int_eq(gn_sys_bind(b, &caller.sun, caller.len), -EADDRINUSE);
	ck_assert_int_eq(gn_sys_connect(a, &listener.sun, listener.len), 0);
	accepted = gn_sys_accept4(l, &seen.sun, &seen.len, 0);
	ck_assert_int_ge(accepted, 0);
	ck_assert(same_name(&seen, &caller));
	ck_assert_int_eq(gn_name_caller_parse(&seen, &f, &d), 0);
	ck_assert(gn_addr_equal(&f, &from) && gn_addr_equal(&d, &dest));
}

GN_TEST(a_stream_and_a_datagram_socket_may_hold_the_same_name)
{
	struct gn_addr at = addr(AF_INET, "127.0.0.1", (uint16_t)gn_sys_getpid());
	int s = gn_sys_socket(AF_UNIX, SOCK_STREAM, 0), d = gn_sys_socket(AF_UNIX, SOCK_DGRAM, 0);
	struct gn_name n;

	gn_name_listener(&n, &at, false);
	ck_assert_int_eq(gn_sys_bind(s, &n.sun, n.len), 0);
	ck_assert_int_eq(gn_sys_bind(d, &n.sun, n.len), 0);
}

int main(void)
{
	return gn_unit_run("names");
}
