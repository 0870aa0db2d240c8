/* SPDX-License-Identifier: MIT */
/* Internet addresses: to and from the kernel's form, and what kind they are. See name.h; ip(7), ipv6(7). */
#include "name/name.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

/* The kernel takes a sockaddr_in6 that ends before sin6_scope_id (RFC 2133's). */
#define SIN6_SHORT_BYTES offsetof(struct sockaddr_in6, sin6_scope_id)

static const uint8_t v4_mapped[12] = {[10] = 0xff, [11] = 0xff};

/* Link-local unicast, and multicast that does not leave the link: elsewhere the kernel ignores the scope, and so must we, or one
 * address would have two names. */
static bool v6_needs_scope(const uint8_t ip[16])
{
	if (ip[0] == 0xff)
		return (ip[1] & 0x0f) == 1 || (ip[1] & 0x0f) == 2;
	return ip[0] == 0xfe && (ip[1] & 0xc0) == 0x80;
}

static int from_v4(struct gn_addr *to, const struct sockaddr *sa, socklen_t len)
{
	struct sockaddr_in sin;

	if (len < sizeof(sin))
		return -EINVAL;
	memcpy(&sin, sa, sizeof(sin)); /* a program's buffer need not be aligned */
	*to = (struct gn_addr){.family = AF_INET, .port = ntohs(sin.sin_port)};
	memcpy(to->ip, &sin.sin_addr, 4);
	return 0;
}

static int from_v6(struct gn_addr *to, const struct sockaddr *sa, socklen_t len)
{
	struct sockaddr_in6 sin6 = {0};

	if (len < SIN6_SHORT_BYTES)
		return -EINVAL;
	memcpy(&sin6, sa, len < sizeof(sin6) ? SIN6_SHORT_BYTES : sizeof(sin6));
	*to = (struct gn_addr){.family = AF_INET6, .port = ntohs(sin6.sin6_port)};
	if (!memcmp(&sin6.sin6_addr, v4_mapped, sizeof(v4_mapped))) {
		to->family = AF_INET;
		memcpy(to->ip, (const uint8_t *)&sin6.sin6_addr + sizeof(v4_mapped), 4);
		return 0;
	}
	memcpy(to->ip, &sin6.sin6_addr, 16);
	if (v6_needs_scope(to->ip))
		to->scope = sin6.sin6_scope_id;
	return 0;
}

int gn_addr_from_sockaddr(struct gn_addr *to, const struct sockaddr *sa, socklen_t len)
{
	sa_family_t family;

	if (len < sizeof(family))
		return -EINVAL;
	memcpy(&family, (const char *)sa + offsetof(struct sockaddr, sa_family), sizeof(family));
	if (family == AF_INET)
		return from_v4(to, sa, len);
	if (family == AF_INET6)
		return from_v6(to, sa, len);
	return -EAFNOSUPPORT;
}

static socklen_t to_v4(struct sockaddr_storage *to, const struct gn_addr *a)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(a->port)};

	memcpy(&sin.sin_addr, a->ip, 4);
	memcpy(to, &sin, sizeof(sin));
	return sizeof(sin);
}

socklen_t gn_addr_to_sockaddr(struct sockaddr_storage *to, const struct gn_addr *a, int domain)
{
	struct sockaddr_in6 sin6 = {.sin6_family = AF_INET6, .sin6_port = htons(a->port), .sin6_scope_id = a->scope};

	if (domain == AF_INET)
		return to_v4(to, a);
	if (a->family == AF_INET) {
		memcpy(&sin6.sin6_addr, v4_mapped, sizeof(v4_mapped));
		memcpy((uint8_t *)&sin6.sin6_addr + sizeof(v4_mapped), a->ip, 4);
	} else {
		memcpy(&sin6.sin6_addr, a->ip, 16);
	}
	memcpy(to, &sin6, sizeof(sin6));
	return sizeof(sin6);
}

static bool is_zero(const uint8_t *p, size_t len)
{
	while (len--)
		if (*p++)
			return false;
	return true;
}

bool gn_addr_is_wildcard(const struct gn_addr *a)
{
	return (a->family == AF_INET || a->family == AF_INET6) && is_zero(a->ip, sizeof(a->ip));
}

bool gn_addr_is_loopback(const struct gn_addr *a)
{
	if (a->family == AF_INET)
		return a->ip[0] == 127;
	return a->family == AF_INET6 && is_zero(a->ip, 15) && a->ip[15] == 1;
}

bool gn_addr_is_multicast(const struct gn_addr *a)
{
	static const uint8_t broadcast[4] = {255, 255, 255, 255};

	if (a->family == AF_INET)
		return (a->ip[0] & 0xf0) == 224 || !memcmp(a->ip, broadcast, 4);
	return a->family == AF_INET6 && a->ip[0] == 0xff;
}

bool gn_addr_equal(const struct gn_addr *a, const struct gn_addr *b)
{
	return a->family == b->family && a->port == b->port && a->scope == b->scope && !memcmp(a->ip, b->ip, sizeof(a->ip));
}

void gn_addr_destination(struct gn_addr *a)
{
	if (!gn_addr_is_wildcard(a))
		return;
	if (a->family == AF_INET)
		a->ip[0] = 127;
	a->ip[a->family == AF_INET ? 3 : 15] = 1;
}
