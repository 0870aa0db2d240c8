/* SPDX-License-Identifier: MIT */
/*
 * What a stranger can bind itself to, and what a program can pass as an address: names and socket addresses of any bytes.
 *
 * What is read back must spell the very same name again, or two names would stand for one caller.
 */
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "name/name.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void must(int holds)
{
	if (!holds)
		abort();
}

static void caller(const uint8_t *data, size_t len)
{
	struct gn_addr from, dest;
	struct gn_name name = {0}, again;

	if (len > sizeof(name.sun))
		len = sizeof(name.sun);
	memcpy(&name.sun, data, len);
	name.sun.sun_family = AF_UNIX;
	name.len = (socklen_t)(len < sizeof(sa_family_t) ? sizeof(sa_family_t) : len);
	if (gn_name_caller_parse(&name, &from, &dest) < 0)
		return;
	gn_name_caller(&again, &from, &dest);
	must(again.len == name.len && memcmp(&again.sun, &name.sun, name.len) == 0);
}

static void address(const uint8_t *data, size_t len)
{
	struct sockaddr_storage back;
	struct gn_addr a, b;
	socklen_t n;

	if (gn_addr_from_sockaddr(&a, (const struct sockaddr *)(const void *)data, (socklen_t)len) < 0)
		return;
	n = gn_addr_to_sockaddr(&back, &a, a.family);
	must(n <= sizeof(struct sockaddr_in6) && gn_addr_from_sockaddr(&b, (struct sockaddr *)&back, n) == 0);
	must(gn_addr_equal(&a, &b));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	caller(data, len);
	address(data, len);
	return 0;
}
