/* SPDX-License-Identifier: MIT */
/* What the examples share, see address.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* program_invocation_short_name */
#endif
#include "address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

/* The file that bind() has made, and who removes it: not the children. */
static char bound_path[sizeof(((struct sockaddr_un *)0)->sun_path)];
static pid_t bound_by;

static void forget_path(void)
{
	if (getpid() == bound_by)
		unlink(bound_path);
}

static const char *advice(int err)
{
	switch (err) {
	case EADDRINUSE:
		return "somebody has this address already; in the local domain, remove the file that an earlier run left";
	case ECONNREFUSED:
		return "nobody listens there; start the other side first";
	case ENOENT:
		return "there is no such file; start the other side first";
	case EADDRNOTAVAIL:
		return "this machine has no such address";
	case EACCES:
		return "ports below 1024 and other people's directories need permission";
	default:
		return NULL;
	}
}

_Noreturn void fail(const char *what)
{
	int err = errno;

	fflush(stdout);
	fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(err));
	if (advice(err))
		fprintf(stderr, "%s: %s\n", program_invocation_short_name, advice(err));
	exit(1);
}

_Noreturn void misuse(const char *format, ...)
{
	va_list ap;

	fflush(stdout);
	fprintf(stderr, "%s: ", program_invocation_short_name);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(2);
}

static in_port_t port_of(const char *text)
{
	char *end;
	unsigned long port = strtoul(text, &end, 10);

	if (text[0] < '0' || text[0] > '9' || *end)
		misuse("the port \"%s\" is not a number", text);
	if (port < 1 || port > 65535)
		misuse("the port %s is not between 1 and 65535", text);
	return htons((in_port_t)port);
}

static void internet(struct address *a, int domain, const char *host, const char *port)
{
	struct sockaddr_in *in = (struct sockaddr_in *)&a->sa;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&a->sa;
	void *ip = domain == AF_INET ? (void *)&in->sin_addr : (void *)&in6->sin6_addr;

	if (!host || !port)
		misuse("-%c needs a host and a port", domain == AF_INET ? '4' : '6');
	if (inet_pton(domain, host, ip) != 1)
		misuse("\"%s\" is not an IPv%c address", host, domain == AF_INET ? '4' : '6');
	if (domain == AF_INET)
		in->sin_port = port_of(port);
	else
		in6->sin6_port = port_of(port);
	a->sa.ss_family = (sa_family_t)domain;
	a->len = domain == AF_INET ? sizeof(*in) : sizeof(*in6);
}

static void local(struct address *a, const char *path)
{
	struct sockaddr_un *un = (struct sockaddr_un *)&a->sa;

	if (!path || !*path)
		misuse("-u needs a path");
	if (strlen(path) >= sizeof(un->sun_path))
		misuse("the path is too long: %zu bytes, %zu are possible", strlen(path), sizeof(un->sun_path) - 1);
	un->sun_family = AF_UNIX;
	strcpy(un->sun_path, path);
	a->len = sizeof(*un);
}

void address_take(struct address *a, char ***argv)
{
	char **v = *argv;

	memset(a, 0, sizeof(*a));
	if (!v[0]) {
		misuse("an address is missing: " ADDRESS_USAGE);
	} else if (!strcmp(v[0], "-4") || !strcmp(v[0], "-6")) {
		internet(a, v[0][1] == '4' ? AF_INET : AF_INET6, v[1], v[1] ? v[2] : NULL);
		*argv = v + 3;
	} else if (!strcmp(v[0], "-u")) {
		local(a, v[1]);
		*argv = v + 2;
	} else {
		misuse("\"%s\" is not an address: " ADDRESS_USAGE, v[0]);
	}
}

const char *address_text(const struct address *a)
{
	static char text[sizeof(struct sockaddr_un) + 8];
	char ip[INET6_ADDRSTRLEN];

	if (a->sa.ss_family == AF_UNIX) {
		snprintf(text, sizeof(text), "%s", ((const struct sockaddr_un *)&a->sa)->sun_path);
	} else if (a->sa.ss_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)&a->sa;

		snprintf(text, sizeof(text), "%s:%u", inet_ntop(AF_INET, &in->sin_addr, ip, sizeof(ip)), ntohs(in->sin_port));
	} else {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&a->sa;

		snprintf(text, sizeof(text), "[%s]:%u", inet_ntop(AF_INET6, &in6->sin6_addr, ip, sizeof(ip)), ntohs(in6->sin6_port));
	}
	return text;
}

int address_socket(const struct address *a, int type, int bound)
{
	int fd = socket(a->sa.ss_family, type, 0), one = 1;

	if (fd < 0)
		fail("socket");
	if (bound && a->sa.ss_family != AF_UNIX && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)))
		fail("setsockopt");
	if (bound && bind(fd, (const struct sockaddr *)&a->sa, a->len))
		fail(address_text(a));
	if (bound && a->sa.ss_family == AF_UNIX) {
		strcpy(bound_path, ((const struct sockaddr_un *)&a->sa)->sun_path);
		bound_by = getpid();
		atexit(forget_path);
	}
	return fd;
}
