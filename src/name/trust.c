/* SPDX-License-Identifier: MIT */
/*
 * Who may answer for an address and who may call from it. See name.h; credentials(7), user_namespaces(7).
 *
 * When it cannot be told, the answer is no: the caller takes the public face, which is slower and never wrong. [LANE-1]
 */
#include "name/name.h"

#include <string.h>

#include "base/sys.h"

#define OVERFLOW_UID 65534 /* kernel.overflowuid may be changed, but nobody does, and to ask would cost each call */
#define PRIVILEGED_PORTS_DEFAULT 1024

/* Do all users of the machine have a number in our user namespace? Then its map is one line and this long. */
static bool all_users_mapped(void)
{
	char map[128];

	return gn_sys_read_file("/proc/self/uid_map", map, sizeof(map)) > 0 && strstr(map, " 4294967295\n");
}

/* As it was when first asked: to ask each time would cost each connect(). Who enters a user namespace later without exec is not noticed. */
bool gn_name_knows_users(void)
{
	static _Atomic int known; /* 1: yes, 2: no */

	if (!known)
		known = all_users_mapped() ? 1 : 2;
	return known == 1;
}

/* In a user namespace the kernel shows all users that have no number there as one and the same, so two that look equal may be two
 * people. */
bool gn_name_uid_is_somebody(uid_t uid)
{
	return uid != OVERFLOW_UID || all_users_mapped();
}

bool gn_name_may_answer(const struct gn_addr *at, int type, uid_t holder)
{
	struct gn_addr target = *at;
	uid_t owner;

	if (holder == 0)
		return true;
	if (holder == gn_sys_geteuid())
		return gn_name_uid_is_somebody(holder);
	gn_addr_destination(&target);
	if (gn_name_owner_uid(&target, type, &owner) < 0 || owner != holder)
		return false;
	return gn_name_uid_is_somebody(holder);
}

bool gn_name_may_answer_unix(uid_t owner, uid_t holder)
{
	if (holder == 0)
		return true;
	return (holder == gn_sys_geteuid() || (owner != (uid_t)-1 && holder == owner)) && gn_name_uid_is_somebody(holder);
}

bool gn_name_may_call(const struct gn_addr *from, uid_t uid)
{
	long first_free;

	if (from->port == 0 || gn_addr_is_wildcard(from) || !gn_addr_is_local(from))
		return false;
	if (uid == 0)
		return true;
	/* Low ports are root's promise to others, so our own user needs no question to the kernel (4 us of an accept()) unless the port
	 * is plainly low. */
	if (uid == gn_sys_geteuid() && from->port >= PRIVILEGED_PORTS_DEFAULT)
		return true;
	if (gn_sys_read_number("/proc/sys/net/ipv4/ip_unprivileged_port_start", &first_free) < 0)
		first_free = PRIVILEGED_PORTS_DEFAULT;
	return from->port >= first_free;
}
