/* SPDX-License-Identifier: MIT */
/* Options of datagram sockets: which of them a ring can live with. All others keep the endpoint in the kernel lane. */
#include <netinet/in.h>
#include <string.h>

#include "sock/dgram.h"

/* They change nothing of what a datagram between two sockets of this machine looks like. */
static bool is_harmless_socket(int name)
{
	switch (name) {
	case SO_REUSEADDR:
	case SO_REUSEPORT: /* looked at before each promotion */
	case SO_SNDBUF:
	case SO_SNDBUFFORCE:
	case SO_RCVBUF:
	case SO_RCVBUFFORCE:
	case SO_BROADCAST:
	case SO_RCVTIMEO:
	case SO_SNDTIMEO:
	case SO_PRIORITY:
	case SO_LINGER:
	case SO_KEEPALIVE:
	case SO_DONTROUTE:
	case SO_DEBUG:
	case SO_RCVLOWAT:
	case SO_BUSY_POLL:
	case SO_NO_CHECK:
	case SO_OOBINLINE:
		return true;
	default:
		return false;
	}
}

static bool is_harmless(int level, int name)
{
	if (level == SOL_SOCKET)
		return is_harmless_socket(name);
	if (level == IPPROTO_IP)
		return name == IP_TOS || name == IP_TTL || name == IP_MTU_DISCOVER || name == IP_FREEBIND || name == IP_BIND_ADDRESS_NO_PORT ||
		       name == IP_MULTICAST_TTL || name == IP_MULTICAST_LOOP || name == IP_MULTICAST_IF || name == IP_MULTICAST_ALL;
	if (level == IPPROTO_IPV6)
		return name == IPV6_V6ONLY || name == IPV6_UNICAST_HOPS || name == IPV6_TCLASS || name == IPV6_MTU_DISCOVER ||
		       name == IPV6_MULTICAST_HOPS || name == IPV6_MULTICAST_LOOP || name == IPV6_MULTICAST_IF || name == IPV6_DONTFRAG;
	return false;
}

/* Turned off is as if never set. */
static bool is_zero(const void *value, socklen_t len)
{
	for (socklen_t i = 0; i < len; i++)
		if (((const char *)value)[i])
			return false;
	return true;
}

void gn_dgram_option(struct gn_sock *so, int fd, int level, int name, const void *value, socklen_t len)
{
	int offset;

	if (level == SOL_SOCKET && (name == SO_SNDBUF || name == SO_SNDBUFFORCE) && so->dgram)
		atomic_store(&so->dgram->shared->sndbuf, 0);
	if (level == SOL_SOCKET && name == SO_PEEK_OFF && len >= sizeof offset) {
		memcpy(&offset, value, sizeof offset);
		if (offset >= 0)
			gn_pin(so, fd, GN_WHY_OPTION);
		gn_peek_offset_set(so, fd, offset);
		return;
	}
	if (is_harmless(level, name) || is_zero(value, len))
		return;
	gn_pin(so, fd, level == SOL_SOCKET && (name == SO_PASSCRED || name == SO_PASSSEC) ? GN_WHY_ANCILLARY : GN_WHY_OPTION);
}
