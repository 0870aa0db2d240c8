/* SPDX-License-Identifier: MIT */
/*
 * How the two processes of a workload find each other: the server picks an address and tells it through a pipe.
 *
 * Sockets are made in the process that uses them, never inherited, because that is what programs do.
 */
#include "cli/measure.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

struct told {
	struct sockaddr_storage address;
	socklen_t len;
};

int meet_domain(const struct role *r)
{
	return r->w->via == VIA_TCP || r->w->via == VIA_UDP ? AF_INET : AF_UNIX;
}

int meet_type(const struct role *r)
{
	switch (r->w->via) {
	case VIA_UDP:
	case VIA_UNIX_DGRAM:
		return SOCK_DGRAM;
	case VIA_UNIX_SEQPACKET:
		return SOCK_SEQPACKET;
	default:
		return SOCK_STREAM;
	}
}

/* As every program that asks and waits for an answer sets it. */
static void set_nodelay(struct role *r, int fd)
{
	int on = 1;

	if (r->w->via == VIA_TCP && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)))
		role_fail(r, "setsockopt TCP_NODELAY");
}

static int bound_socket(struct role *r, const char *side, struct told *at)
{
	struct sockaddr_in *in = (struct sockaddr_in *)&at->address;
	struct sockaddr_un *un = (struct sockaddr_un *)&at->address;
	int fd = socket(meet_domain(r), meet_type(r) | SOCK_CLOEXEC, 0);

	if (fd < 0)
		role_fail(r, "socket");
	memset(at, 0, sizeof(*at));
	if (meet_domain(r) == AF_INET) {
		in->sin_family = AF_INET;
		in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		at->len = sizeof(*in);
	} else {
		un->sun_family = AF_UNIX;
		if ((size_t)snprintf(un->sun_path, sizeof(un->sun_path), "%s/%s%u", r->dir, side, r->pair) >= sizeof(un->sun_path))
			role_fail(r, "the directory for socket files has too long a name");
		at->len = sizeof(*un);
	}
	if (bind(fd, (struct sockaddr *)&at->address, at->len))
		role_fail(r, "bind");
	at->len = sizeof(at->address);
	if (getsockname(fd, (struct sockaddr *)&at->address, &at->len))
		role_fail(r, "getsockname");
	return fd;
}

static void tell(struct role *r, const struct told *at)
{
	if (write(r->to_peer, at, sizeof(*at)) != sizeof(*at))
		role_fail(r, "telling the address");
}

int meet_listen(struct role *r)
{
	struct told at;
	int fd = bound_socket(r, "s", &at);

	if (listen(fd, 511))
		role_fail(r, "listen");
	tell(r, &at);
	return fd;
}

socklen_t meet_address(struct role *r, struct sockaddr_storage *to)
{
	struct told at;

	errno = 0;
	if (read(r->from_peer, &at, sizeof(at)) != sizeof(at))
		role_fail(r, "the peer told no address");
	*to = at.address;
	return at.len;
}

int meet_connect(struct role *r, const struct sockaddr_storage *to, socklen_t len)
{
	int fd = socket(meet_domain(r), meet_type(r) | SOCK_CLOEXEC, 0);

	if (fd < 0)
		role_fail(r, "socket");
	if (connect(fd, (const struct sockaddr *)to, len))
		role_fail(r, "connect");
	set_nodelay(r, fd);
	return fd;
}

/* Datagrams: both sides bind, then connect to each other. */
static int meet_datagram(struct role *r, const char *side)
{
	struct sockaddr_storage peer;
	struct told own;
	int fd = bound_socket(r, side, &own);
	socklen_t len;

	tell(r, &own);
	len = meet_address(r, &peer);
	if (connect(fd, (struct sockaddr *)&peer, len))
		role_fail(r, "connect");
	/* A connected AF_UNIX socket takes datagrams only from its peer, so the peer must not be early. */
	tell(r, &own);
	meet_address(r, &peer);
	return fd;
}

int meet_as_server(struct role *r)
{
	int listener, fd;

	if (meet_type(r) == SOCK_DGRAM)
		return meet_datagram(r, "s");
	listener = meet_listen(r);
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		role_fail(r, "accept");
	set_nodelay(r, fd);
	close(listener);
	return fd;
}

int meet_as_client(struct role *r)
{
	struct sockaddr_storage at;
	socklen_t len;

	if (meet_type(r) == SOCK_DGRAM)
		return meet_datagram(r, "c");
	len = meet_address(r, &at);
	return meet_connect(r, &at, len);
}
