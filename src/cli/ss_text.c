/* SPDX-License-Identifier: MIT */
/* Words of `gnezdo ss`, as ss(8) writes them. The values come from shared memory: every one has an answer. */
#include "cli/ss.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

const char *ss_netid(const struct ss_socket *s)
{
	if (s->ep.domain != AF_UNIX)
		return s->ep.type == SOCK_STREAM ? "tcp" : "udp";
	return s->ep.type == SOCK_STREAM ? "u_str" : s->ep.type == SOCK_SEQPACKET ? "u_seq" : "u_dgr";
}

const char *ss_state(const struct ss_socket *s)
{
	if (s->ep.state == GN_UNCONN && (s->ep.flags & GN_EP_CONNECTING))
		return "SYN-SENT";
	switch ((uint32_t)s->ep.state) {
	case GN_LISTEN:
		return "LISTEN";
	case GN_ESTAB:
		return "ESTAB";
	default:
		return "UNCONN";
	}
}

const char *ss_lane(const struct ss_socket *s, const struct gn_half *half)
{
	if (s->ep.state == GN_LISTEN)
		return "-";
	return half->lane == GN_LANE_RING ? "ring" : "kernel";
}

const char *ss_why(const struct ss_socket *s)
{
	bool on_ring = s->ep.tx.lane == GN_LANE_RING && s->ep.rx.lane == GN_LANE_RING;

	/* A listener moves no bytes: only a real refusal is worth a word. */
	if (on_ring || s->ep.reason == GN_WHY_NONE || (s->ep.state == GN_LISTEN && s->ep.reason == GN_WHY_COLD))
		return "-";
	return gn_reason_text(s->ep.reason);
}

uint64_t ss_moved(const struct gn_half *half)
{
	return half->kernel_bytes + half->ring_bytes;
}

/* The address as the program sees it: an IPv4 address of an AF_INET6 socket is v4-mapped. */
static void inet_text(const struct ss_socket *s, const struct gn_addr *a, char to[SS_ADDRESS])
{
	bool v6 = a->family == AF_INET6 || (!a->family && s->ep.domain == AF_INET6);
	char ip[INET6_ADDRSTRLEN] = "0.0.0.0", port[8] = "*", zone[16] = "";

	if (a->family == AF_INET || a->family == AF_INET6)
		inet_ntop(a->family, a->ip, ip, sizeof(ip));
	else if (v6)
		strcpy(ip, "::");
	if (a->port)
		snprintf(port, sizeof(port), "%u", a->port);
	if (a->scope)
		snprintf(zone, sizeof(zone), "%%%" PRIu32, a->scope);
	if (v6)
		snprintf(to, SS_ADDRESS, "[%s]%s:%s", ip, zone, port);
	else if (a->family && s->ep.domain == AF_INET6)
		snprintf(to, SS_ADDRESS, "[::ffff:%s]:%s", ip, port);
	else
		snprintf(to, SS_ADDRESS, "%s:%s", ip, port);
}

/* A name, or as ss(8) has it, "* INODE". */
static void unix_text(const struct kernel_socket *k, uint64_t inode, char to[SS_ADDRESS])
{
	if (k && *k->name)
		snprintf(to, SS_ADDRESS, "%s", k->name);
	else if (inode)
		snprintf(to, SS_ADDRESS, "* %" PRIu64, inode);
	else
		strcpy(to, "*");
}

void ss_local(const struct ss_socket *s, char to[SS_ADDRESS])
{
	if (s->ep.domain == AF_UNIX)
		unix_text(s->kernel, s->inode, to);
	else
		inet_text(s, &s->ep.local, to);
}

void ss_peer(const struct ss_socket *s, char to[SS_ADDRESS])
{
	if (s->ep.domain == AF_UNIX)
		unix_text(s->kernel_peer, s->kernel ? s->kernel->peer : 0, to);
	else
		inet_text(s, &s->ep.peer, to);
}

void ss_program(pid_t pid, char *to, size_t size)
{
	char path[40];
	FILE *f;

	snprintf(to, size, "?");
	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return;
	if (!fgets(to, (int)size, f))
		snprintf(to, size, "?");
	fclose(f);
	to[strcspn(to, "\n")] = '\0';
	for (; *to; to++)
		if (iscntrl((unsigned char)*to))
			*to = '?'; /* a program names itself, and a terminal obeys */
}
