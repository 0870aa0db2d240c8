/* SPDX-License-Identifier: MIT */
/*
 * Abstract AF_UNIX names: what they spell. See name.h; unix(7).
 *
 *   gnezdo/1/l/127.0.0.1:8080               listener on that address
 *   gnezdo/1/l/4*:8080  6*:8080  *:8080     listener on 0.0.0.0, on [::] v6 only, on [::] for both
 *   gnezdo/1/c/127.0.0.1:40000-127.0.0.1:8080   a caller: its own address, then the one it called
 *   gnezdo/1/m/1a2b-1a2c                    two AF_UNIX sockets meet: inodes in hexadecimal, the smaller first
 *   gnezdo/1/s/ADDR-ADDR  d/ADDR-ADDR       two ends of an internet stream or datagram pair meet
 *   gnezdo/1/h/...                          somebody holds that address: bound, not listening (as l/, or KEY)
 *   gnezdo/1/p/ADDR-ADDR  p/KEY-KEY         two such holders connect to each other; the smaller first
 *   gnezdo/1/r/ADDR-ADDR                    a socket behind a relay: its own address, then its peer's
 *   gnezdo/1/a/NUMBER                       where a relay is asked for that socket, in hexadecimal
 *
 * KEY stands for an AF_UNIX name: =DEV.INODE of the socket's file, @HASH of an abstract name.
 *
 * IPv6 addresses are 32 hexadecimal digits, then %scope in hexadecimal if there is one. The digit is the version of these rules.
 * Printable, so that ss(8) and /proc/net/unix show them as they are.
 *
 * Invariants: [NAME-1] equal addresses have one spelling and different ones different spellings, so that the kernel's uniqueness
 * of names is uniqueness of addresses. Two longest addresses fit. Units: bytes.
 */
#include "name/name.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "base/base.h"

#define PREFIX "gnezdo/1/"
#define PREFIX_LEN (sizeof(PREFIX) - 1)
#define ADDR_MAX (32 + sizeof("%ffffffff") - 1 + sizeof(":65535") - 1)
#define TEXT_MAX (sizeof(((struct sockaddr_un *)0)->sun_path) - 1) /* the first byte is the NUL that says "abstract" */

_Static_assert(PREFIX_LEN + 2 + 2 * ADDR_MAX + 1 <= TEXT_MAX, "a pair of the longest addresses fits");
_Static_assert(PREFIX_LEN + 2 + 2 * (1 + 16 + 1 + 16) + 1 <= TEXT_MAX, "a pair of the longest keys fits");

static char *put_hex(char *p, uint64_t n)
{
	int shift = 60;

	while (shift && !(n >> shift))
		shift -= 4;
	for (; shift >= 0; shift -= 4)
		*p++ = "0123456789abcdef"[n >> shift & 15];
	return p;
}

static char *put_number(char *p, unsigned int n)
{
	if (n >= 10)
		p = put_number(p, n / 10);
	*p++ = (char)('0' + n % 10);
	return p;
}

static char *put_port(char *p, const struct gn_addr *a)
{
	*p++ = ':';
	return put_number(p, a->port);
}

static char *put_v6(char *p, const struct gn_addr *a)
{
	for (int i = 0; i < 16; i++) {
		*p++ = "0123456789abcdef"[a->ip[i] >> 4];
		*p++ = "0123456789abcdef"[a->ip[i] & 15];
	}
	if (a->scope) {
		*p++ = '%';
		p = put_hex(p, a->scope);
	}
	return p;
}

static char *put_addr(char *p, const struct gn_addr *a)
{
	if (a->family == AF_INET6)
		return put_port(put_v6(p, a), a);
	for (int i = 0; i < 4; i++) {
		if (i)
			*p++ = '.';
		p = put_number(p, a->ip[i]);
	}
	return put_port(p, a);
}

/* Starts a name of that kind; gives where its text goes on. */
static char *open_name(struct gn_name *to, char kind)
{
	char *p = to->sun.sun_path;

	memset(to, 0, sizeof(*to));
	to->sun.sun_family = AF_UNIX;
	*p++ = '\0';
	memcpy(p, PREFIX, PREFIX_LEN);
	p += PREFIX_LEN;
	*p++ = kind;
	*p++ = '/';
	return p;
}

/* The length is exact: in abstract names a NUL behind the text would be part of the name. */
static void close_name(struct gn_name *to, const char *end)
{
	GN_ASSERT((size_t)(end - to->sun.sun_path) <= sizeof(to->sun.sun_path));
	to->len = (socklen_t)(end - (char *)&to->sun);
}

static void name_pair(struct gn_name *to, char kind, const struct gn_addr *a, const struct gn_addr *b)
{
	char *p = put_addr(open_name(to, kind), a);

	*p++ = '-';
	close_name(to, put_addr(p, b));
}

static void name_wildcard(struct gn_name *to, char kind, const struct gn_addr *at, bool dual)
{
	char *p = open_name(to, kind);

	if (!dual)
		*p++ = at->family == AF_INET ? '4' : '6';
	*p++ = '*';
	close_name(to, put_port(p, at));
}

static void name_place(struct gn_name *to, char kind, const struct gn_addr *at, bool dual)
{
	if (gn_addr_is_wildcard(at))
		name_wildcard(to, kind, at, dual && at->family == AF_INET6);
	else
		close_name(to, put_addr(open_name(to, kind), at));
}

static int name_places(struct gn_name names[3], char kind, const struct gn_addr *to)
{
	struct gn_addr exact = *to;

	gn_addr_destination(&exact);
	name_place(&names[0], kind, &exact, false);
	name_wildcard(&names[1], kind, to, false);
	name_wildcard(&names[2], kind, to, true);
	return 3;
}

void gn_name_listener(struct gn_name *to, const struct gn_addr *at, bool dual)
{
	name_place(to, 'l', at, dual);
}

int gn_name_candidates(struct gn_name names[3], const struct gn_addr *to)
{
	return name_places(names, 'l', to);
}

void gn_name_member(struct gn_name *to, const struct gn_name *place, uint32_t number)
{
	char *end;

	*to = *place;
	to->sun.sun_path[1 + PREFIX_LEN] = 'g';
	end = (char *)&to->sun + to->len;
	*end++ = '+';
	close_name(to, put_number(end, number));
}

void gn_name_holder(struct gn_name *to, const struct gn_addr *at, bool dual)
{
	name_place(to, 'h', at, dual);
}

int gn_name_holders(struct gn_name names[3], const struct gn_addr *to)
{
	return name_places(names, 'h', to);
}

void gn_name_caller(struct gn_name *to, const struct gn_addr *from, const struct gn_addr *dest)
{
	name_pair(to, 'c', from, dest);
}

void gn_name_meeting(struct gn_name *to, uint64_t inode_a, uint64_t inode_b)
{
	char *p = put_hex(open_name(to, 'm'), GN_MIN(inode_a, inode_b));

	*p++ = '-';
	close_name(to, put_hex(p, GN_MAX(inode_a, inode_b)));
}

void gn_name_asked(struct gn_name *to, uint64_t number)
{
	close_name(to, put_hex(open_name(to, 'a'), number));
}

/* Any order will do, as long as both ends have the same one. */
static int addr_order(const struct gn_addr *a, const struct gn_addr *b)
{
	int ip = memcmp(a->ip, b->ip, sizeof(a->ip));

	if (a->family != b->family)
		return a->family < b->family ? -1 : 1;
	if (ip)
		return ip;
	if (a->port != b->port)
		return a->port < b->port ? -1 : 1;
	return (a->scope > b->scope) - (a->scope < b->scope);
}

void gn_name_meeting_inet(struct gn_name *to, char kind, const struct gn_addr *a, const struct gn_addr *b)
{
	bool in_order = addr_order(a, b) <= 0;

	GN_ASSERT(kind == 's' || kind == 'd' || kind == 'p');
	name_pair(to, kind, in_order ? a : b, in_order ? b : a);
}

/* FNV-1a, from a start of its own for each half. */
static uint64_t hash_bytes(uint64_t h, const char *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)bytes[i]) * 0x100000001b3ull;
	return h ^ h >> 29;
}

void gn_key_abstract(struct gn_key *to, const struct sockaddr_un *sun, socklen_t len)
{
	size_t text = (size_t)len - offsetof(struct sockaddr_un, sun_path);

	GN_ASSERT(len >= offsetof(struct sockaddr_un, sun_path) && len <= sizeof(*sun));
	to->kind = '@';
	to->word[0] = hash_bytes(0xcbf29ce484222325ull, sun->sun_path, text);
	to->word[1] = hash_bytes(0x84222325cbf29ce4ull, sun->sun_path, text);
}

static char *put_key(char *p, const struct gn_key *k)
{
	*p++ = k->kind;
	p = put_hex(p, k->word[0]);
	*p++ = '.';
	return put_hex(p, k->word[1]);
}

void gn_name_holder_unix(struct gn_name *to, const struct gn_key *k)
{
	close_name(to, put_key(open_name(to, 'h'), k));
}

bool gn_key_equal(const struct gn_key *a, const struct gn_key *b)
{
	return a->kind == b->kind && a->word[0] == b->word[0] && a->word[1] == b->word[1];
}

static bool key_less(const struct gn_key *a, const struct gn_key *b)
{
	if (a->kind != b->kind)
		return a->kind < b->kind;
	return a->word[0] != b->word[0] ? a->word[0] < b->word[0] : a->word[1] < b->word[1];
}

void gn_name_peers_unix(struct gn_name *to, const struct gn_key *a, const struct gn_key *b)
{
	bool in_order = key_less(a, b);
	char *p = put_key(open_name(to, 'p'), in_order ? a : b);

	*p++ = '-';
	close_name(to, put_key(p, in_order ? b : a));
}

/* Reading back. Each get_ function moves `*p` behind what it read, never past `end`, and says whether it was there. Spellings that
 * put_ would not have produced are caught at the end, by spelling what was read once more. */

static bool get_char(const char **p, const char *end, char c)
{
	if (*p == end || **p != c)
		return false;
	++*p;
	return true;
}

static int digit_of(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 16;
}

static bool get_number(const char **p, const char *end, unsigned int base, uint32_t max, uint32_t *n)
{
	const char *start = *p;
	uint64_t value = 0;

	for (; *p != end && (unsigned int)digit_of(**p) < base; ++*p) {
		value = value * base + (unsigned int)digit_of(**p);
		if (value > max)
			return false;
	}
	*n = (uint32_t)value;
	return *p != start;
}

static bool get_v4(const char **p, const char *end, struct gn_addr *a)
{
	uint32_t byte;

	a->family = AF_INET;
	for (int i = 0; i < 4; i++) {
		if ((i && !get_char(p, end, '.')) || !get_number(p, end, 10, 255, &byte))
			return false;
		a->ip[i] = (uint8_t)byte;
	}
	return true;
}

static bool get_v6(const char **p, const char *end, struct gn_addr *a)
{
	if (end - *p < 32)
		return false;
	a->family = AF_INET6;
	for (int i = 0; i < 16; i++, *p += 2) {
		int high = digit_of((*p)[0]), low = digit_of((*p)[1]);

		if (high > 15 || low > 15)
			return false;
		a->ip[i] = (uint8_t)(high << 4 | low);
	}
	return !get_char(p, end, '%') || get_number(p, end, 16, UINT32_MAX, &a->scope);
}

static bool get_addr(const char **p, const char *end, struct gn_addr *a)
{
	const char *dot = memchr(*p, '.', (size_t)GN_MIN(end - *p, (ptrdiff_t)4));
	uint32_t port;

	*a = (struct gn_addr){0};
	if (!(dot ? get_v4(p, end, a) : get_v6(p, end, a)))
		return false;
	if (!get_char(p, end, ':') || !get_number(p, end, 10, UINT16_MAX, &port))
		return false;
	a->port = (uint16_t)port;
	return true;
}

static int pair_parse(const struct gn_name *n, char kind, struct gn_addr *from, struct gn_addr *dest)
{
	const char *p = n->sun.sun_path, *end = (const char *)&n->sun + n->len;
	struct gn_addr source, target;
	struct gn_name again;

	/* The length comes from the kernel, but by way of whoever called us. */
	if (n->len > sizeof(n->sun) || n->len <= offsetof(struct sockaddr_un, sun_path) + 1 + PREFIX_LEN + 2)
		return -EINVAL;
	p += 1 + PREFIX_LEN + 2;
	if (!get_addr(&p, end, &source) || !get_char(&p, end, '-') || !get_addr(&p, end, &target))
		return -EINVAL;
	name_pair(&again, kind, &source, &target);
	if (again.len != n->len || memcmp(&again.sun, &n->sun, n->len) != 0)
		return -EINVAL;
	*from = source;
	*dest = target;
	return 0;
}

int gn_name_caller_parse(const struct gn_name *n, struct gn_addr *from, struct gn_addr *dest)
{
	return pair_parse(n, 'c', from, dest);
}

void gn_name_relay(struct gn_name *to, const struct gn_addr *local, const struct gn_addr *peer)
{
	name_pair(to, 'r', local, peer);
}

int gn_name_relay_parse(const struct gn_name *n, struct gn_addr *local, struct gn_addr *peer)
{
	return pair_parse(n, 'r', local, peer);
}
