/* SPDX-License-Identifier: MIT */
/* Who may answer and who may call. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "base/sys.h"
#include "base/unit.h"
#include "name/name.h"

#define ALICE 12345
#define BOB 12346
#define NOBODY 65534

static struct gn_addr addr(const char *text, uint16_t port)
{
	struct gn_addr a = {.family = AF_INET, .port = port};

	ck_assert_int_eq(inet_pton(AF_INET, text, a.ip), 1);
	return a;
}

static bool be(const char *test, uid_t uid)
{
	if (seteuid(uid) == 0)
		return true;
	gn_unit_skip(test, "only root can be two users");
	return false;
}

/* A socket of `type` on `text`, of the user whom we are; its address. */
static struct gn_addr face(const char *text, int type)
{
	struct gn_addr at = addr(text, 0);
	struct sockaddr_storage sa;
	socklen_t len = gn_addr_to_sockaddr(&sa, &at, AF_INET);
	int fd = gn_sys_socket(AF_INET, type, 0);

	ck_assert_int_eq(gn_sys_bind(fd, &sa, len), 0);
	if (type == SOCK_STREAM)
		ck_assert_int_eq(gn_sys_listen(fd, 1), 0);
	gn_sys_getsockname(fd, &sa, &len);
	gn_addr_from_sockaddr(&at, (struct sockaddr *)&sa, len);
	return at;
}

GN_TEST(root_and_the_callers_own_user_may_answer_for_anything)
{
	struct gn_addr at = addr("127.0.0.1", 1);

	ck_assert(gn_name_may_answer(&at, SOCK_STREAM, 0));
	ck_assert(gn_name_may_answer(&at, SOCK_STREAM, geteuid()));
}

GN_TEST(a_stranger_may_not_answer_where_nobody_listens)
{
	struct gn_addr at = addr("127.0.0.1", 1);

	ck_assert(!gn_name_may_answer(&at, SOCK_STREAM, ALICE));
}

GN_TEST(the_owner_of_the_public_face_may_answer_for_it)
{
	struct gn_addr stream, datagram;

	if (!be(__func__, ALICE))
		return;
	stream = face("127.0.0.1", SOCK_STREAM);
	datagram = face("127.0.0.1", SOCK_DGRAM);
	ck_assert(be(__func__, 0) && be(__func__, BOB));
	ck_assert(gn_name_may_answer(&stream, SOCK_STREAM, ALICE));
	ck_assert(gn_name_may_answer(&datagram, SOCK_DGRAM, ALICE));
	ck_assert(!gn_name_may_answer(&datagram, SOCK_STREAM, ALICE));
	be(__func__, 0); /* LeakSanitizer looks for leaks at the end and needs its rights back */
}

GN_TEST(a_stranger_may_not_answer_for_anothers_face)
{
	struct gn_addr at;

	if (!be(__func__, ALICE))
		return;
	at = face("127.0.0.1", SOCK_STREAM);
	ck_assert(be(__func__, 0));
	ck_assert(!gn_name_may_answer(&at, SOCK_STREAM, BOB));
}

GN_TEST(the_owner_of_a_wildcard_may_answer_for_each_address_of_it)
{
	struct gn_addr at, exact;

	if (!be(__func__, ALICE))
		return;
	at = face("0.0.0.0", SOCK_STREAM);
	exact = addr("127.0.0.9", at.port);
	ck_assert(be(__func__, 0));
	ck_assert(gn_name_may_answer(&exact, SOCK_STREAM, ALICE));
	ck_assert(gn_name_may_answer(&at, SOCK_STREAM, ALICE));
}

GN_TEST(who_listens_on_loopback_may_answer_a_call_to_the_wildcard)
{
	struct gn_addr at;

	if (!be(__func__, ALICE))
		return;
	at = face("127.0.0.1", SOCK_STREAM);
	ck_assert(be(__func__, 0));
	at = addr("0.0.0.0", at.port);
	ck_assert(gn_name_may_answer(&at, SOCK_STREAM, ALICE));
}

GN_TEST(the_effective_user_counts_and_not_the_real_one)
{
	struct gn_addr at = addr("127.0.0.1", 1);

	if (setresuid(ALICE, BOB, 0) < 0) {
		gn_unit_skip(__func__, "only root can be two users");
		return;
	}
	ck_assert(!gn_name_may_answer(&at, SOCK_STREAM, ALICE));
	ck_assert(gn_name_may_answer(&at, SOCK_STREAM, BOB));
	be(__func__, 0);
}

GN_TEST(the_user_who_stands_for_all_unmapped_ones_is_trusted_by_nobody)
{
	struct gn_addr at = face("127.0.0.1", SOCK_STREAM);

	if (unshare(CLONE_NEWUSER) < 0) {
		gn_unit_skip(__func__, strerror(errno));
		return;
	}
	ck_assert_uint_eq(geteuid(), NOBODY);
	ck_assert(!gn_name_may_answer(&at, SOCK_STREAM, NOBODY));
}

GN_TEST(the_real_nobody_is_a_user_like_others)
{
	struct gn_addr at;
	char map[64];

	if (gn_sys_read_file("/proc/self/uid_map", map, sizeof(map)) <= 0 || !strstr(map, "4294967295")) {
		gn_unit_skip(__func__, "not in the first user namespace");
		return;
	}
	if (!be(__func__, 0) || !be(__func__, NOBODY))
		return;
	at = face("127.0.0.1", SOCK_STREAM);
	ck_assert(gn_name_may_answer(&at, SOCK_STREAM, NOBODY));
	ck_assert(be(__func__, 0) && be(__func__, ALICE));
	ck_assert(gn_name_may_answer(&at, SOCK_STREAM, NOBODY));
	be(__func__, 0);
}

GN_TEST(everybody_may_call_from_a_high_port_of_this_machine)
{
	struct gn_addr from = addr("127.0.0.1", 40000);

	ck_assert(gn_name_may_call(&from, ALICE));
	ck_assert(gn_name_may_call(&from, 0));
}

GN_TEST(only_root_may_call_from_a_low_port)
{
	struct gn_addr from = addr("127.0.0.1", 1);

	ck_assert(!gn_name_may_call(&from, ALICE));
	ck_assert(gn_name_may_call(&from, 0));
}

GN_TEST(where_low_ports_end_is_the_kernels_setting)
{
	struct gn_addr low = addr("127.0.0.1", 79), high = addr("127.0.0.1", 80);
	int fd;

	if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0) {
		gn_unit_skip(__func__, strerror(errno));
		return;
	}
	fd = gn_sys_open("/proc/sys/net/ipv4/ip_unprivileged_port_start", O_WRONLY, 0);
	if (fd < 0 || gn_sys_write(fd, "80", 2) != 2) {
		gn_unit_skip(__func__, "the setting cannot be changed");
		return;
	}
	ck_assert(!gn_name_may_call(&low, ALICE));
	ck_assert(gn_name_may_call(&high, ALICE));
}

GN_TEST(nobody_may_call_from_elsewhere_or_nowhere)
{
	static const char *const texts[] = {"0.0.0.0", "224.0.0.1", "255.255.255.255", "203.0.113.1"};
	struct gn_addr no_port = addr("127.0.0.1", 0), none = {.port = 40000};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct gn_addr from = addr(texts[i], 40000);

		ck_assert_msg(!gn_name_may_call(&from, 0), "%s", texts[i]);
	}
	ck_assert(!gn_name_may_call(&no_port, 0));
	ck_assert(!gn_name_may_call(&none, 0));
}

int main(void)
{
	return gn_unit_run("trust");
}
