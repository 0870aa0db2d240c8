/* SPDX-License-Identifier: MIT */
/* ring: yes */
/* Groups and broadcasts, which are the kernel's, on sockets whose other traffic is on a ring. All on the loopback interface. */
#include "obs.h"

#include <arpa/inet.h>
#include <net/if.h>

#define ALL_OF_LOOPBACK 0x7fffffffu /* 127.255.255.255 */

static struct sockaddr_in v4(uint32_t ip, in_port_t port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = port, .sin_addr.s_addr = htonl(ip) };
}

static in_port_t port_of(int fd)
{
	struct obs_name at;

	name_get(fd, &at);
	return ((struct sockaddr_in *)&at.sa)->sin_port; /* sin6_port stands at the same place */
}

static int bound4(uint32_t ip, in_port_t port)
{
	struct sockaddr_in at = v4(ip, port);
	int fd = socket(AF_INET, SOCK_DGRAM, 0), one = 1;

	if (port && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)))
		die("SO_REUSEADDR");
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)))
		die("bind");
	return fd;
}

/* Both talk to each other until that goes by a ring. */
static void chat4(int a, int b, int times)
{
	struct sockaddr_in to_a = v4(INADDR_LOOPBACK, port_of(a)), to_b = v4(INADDR_LOOPBACK, port_of(b));
	int right = 0;
	char buf[16];

	for (int i = 0; i < times; i++) {
		right += sendto(a, "there", 5, 0, (struct sockaddr *)&to_b, sizeof(to_b)) == 5 && recv(b, buf, sizeof(buf), 0) == 5;
		right += sendto(b, "back", 4, 0, (struct sockaddr *)&to_a, sizeof(to_a)) == 4 && recv(a, buf, sizeof(buf), 0) == 4;
	}
	note("turns: %d", right);
}

static void say4(const char *what, int from, uint32_t ip, in_port_t port, const char *text)
{
	struct sockaddr_in to = v4(ip, port);

	obs(what, sendto(from, text, strlen(text), 0, (struct sockaddr *)&to, sizeof(to)));
}

static void hear(const char *who, int fd)
{
	char buf[64];

	settle(fd);
	obs_bytes(who, buf, recv(fd, buf, sizeof(buf), MSG_DONTWAIT));
}

/* A group of this program's own: others on this machine may use the well-known ones. */
static uint32_t group4(void)
{
	return 0xefff0000u | ((uint32_t)getpid() & 0xffff); /* 239.255.0.0/16 */
}

static void join4(int fd, uint32_t group, int how)
{
	struct ip_mreqn m = { .imr_multiaddr.s_addr = htonl(group), .imr_address.s_addr = htonl(INADDR_LOOPBACK) };

	obs(how == IP_ADD_MEMBERSHIP ? "join" : "leave", setsockopt(fd, IPPROTO_IP, how, &m, sizeof(m)));
}

static void by_loopback(int fd)
{
	struct in_addr lo = { htonl(INADDR_LOOPBACK) };

	obs("IP_MULTICAST_IF", setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &lo, sizeof(lo)));
}

/* A server that hears a group joins it while it talks with somebody. */
static void joined_when_hot(struct obs *o)
{
	int a = bound4(INADDR_ANY, 0), b = bound4(INADDR_LOOPBACK, 0), c = bound4(INADDR_LOOPBACK, 0);
	uint32_t group = group4();

	(void)o;
	promise_ring();
	chat4(a, b, OBS_WARM);
	by_loopback(c);
	join4(a, group, IP_ADD_MEMBERSHIP);
	say4("a third one to all", c, group, port_of(a), "to all");
	hear("a", a);
	chat4(a, b, 20);
	by_loopback(b);
	say4("b to all", b, group, port_of(a), "b to all");
	hear("a", a);
	chat4(a, b, OBS_WARM);
	join4(a, group, IP_DROP_MEMBERSHIP);
	say4("a third one to nobody", c, group, port_of(a), "to nobody");
	chat4(a, b, 20);
	obs_recv(a, 20, MSG_DONTWAIT);
}

/* Who sends much to a group, from a socket that talks with one of its members. */
static void much_to_a_group(struct obs *o)
{
	uint32_t group = group4();
	int a = bound4(INADDR_ANY, 0), a2 = bound4(INADDR_LOOPBACK, 0), b = bound4(INADDR_LOOPBACK, 0);
	struct sockaddr_in to = v4(group, port_of(a));
	int right = 0;
	char buf[16];

	(void)o;
	promise_ring();
	join4(a, group, IP_ADD_MEMBERSHIP);
	by_loopback(b);
	chat4(a2, b, OBS_WARM);
	for (int i = 0; i < OBS_WARM; i++) {
		right += sendto(b, "to all", 6, 0, (struct sockaddr *)&to, sizeof(to)) == 6 && recv(a, buf, sizeof(buf), 0) == 6;
		right += sendto(b, "there", 5, 0, &(struct sockaddr_in){ .sin_family = AF_INET, .sin_port = port_of(a2), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) },
				sizeof(to)) == 5 && recv(a2, buf, sizeof(buf), 0) == 5;
	}
	note("heard: %d", right);
	chat4(a2, b, 20);
}

/* Connected to a group: what is sent goes to all members, and answers of theirs are none of this socket's. */
static void connected_to_a_group(struct obs *o)
{
	uint32_t group = group4();
	int a = bound4(INADDR_ANY, 0), b = bound4(INADDR_LOOPBACK, 0);
	struct sockaddr_in to = v4(group, port_of(a));
	int right = 0;
	char buf[16];

	(void)o;
	join4(a, group, IP_ADD_MEMBERSHIP);
	by_loopback(b);
	obs("connect", connect(b, (struct sockaddr *)&to, sizeof(to)));
	for (int i = 0; i < OBS_WARM; i++)
		right += send(b, "to all", 6, 0) == 6 && recv(a, buf, sizeof(buf), 0) == 6;
	note("heard: %d", right);
	say4("an answer", a, INADDR_LOOPBACK, port_of(b), "answer");
	obs_recv(b, 20, MSG_DONTWAIT);
	obs_poll(b, POLLIN | POLLOUT);
}

/* Each member of a group gets its own copy, whatever else it talks about. */
static void two_members(struct obs *o)
{
	uint32_t group = group4();
	int a = bound4(INADDR_ANY, 0), b = bound4(INADDR_LOOPBACK, 0), second;
	int one = 1;

	(void)o;
	promise_ring();
	chat4(a, b, OBS_WARM);
	obs("SO_REUSEADDR", setsockopt(a, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)));
	second = bound4(group, port_of(a));
	join4(a, group, IP_ADD_MEMBERSHIP);
	join4(second, group, IP_ADD_MEMBERSHIP);
	by_loopback(b);
	for (int i = 0; i < 3; i++) {
		say4("to both", b, group, port_of(a), "to both");
		hear("a", a);
		hear("second", second);
	}
	chat4(a, b, 20);
	obs_recv(second, 20, MSG_DONTWAIT);
}

static void join6(int fd, const struct in6_addr *group, int how)
{
	struct ipv6_mreq m = { .ipv6mr_multiaddr = *group, .ipv6mr_interface = if_nametoindex("lo") };

	obs(how == IPV6_JOIN_GROUP ? "join" : "leave", setsockopt(fd, IPPROTO_IPV6, how, &m, sizeof(m)));
}

static void version_6(struct obs *o)
{
	struct sockaddr_in6 at = { .sin6_family = AF_INET6 }, to = at, to_a, to_b;
	int a = socket(AF_INET6, SOCK_DGRAM, 0), b = socket(AF_INET6, SOCK_DGRAM, 0), lo = (int)if_nametoindex("lo"), right = 0;
	char buf[16];

	(void)o;
	promise_ring();
	inet_pton(AF_INET6, "ff01::6e65:7a64", &to.sin6_addr);
	if (bind(a, (struct sockaddr *)&at, sizeof(at)) || bind(b, (struct sockaddr *)&at, sizeof(at)))
		die("bind");
	to_a = to_b = at;
	to_a.sin6_addr = to_b.sin6_addr = in6addr_loopback;
	to_a.sin6_port = to.sin6_port = port_of(a);
	to_b.sin6_port = port_of(b);
	to.sin6_scope_id = (uint32_t)lo;
	obs("IPV6_MULTICAST_IF", setsockopt(b, IPPROTO_IPV6, IPV6_MULTICAST_IF, &lo, sizeof(lo)));
	for (int i = 0; i < 2 * OBS_WARM; i++) {
		if (i == OBS_WARM)
			join6(a, &to.sin6_addr, IPV6_JOIN_GROUP);
		right += sendto(a, "there", 5, 0, (struct sockaddr *)&to_b, sizeof(to_b)) == 5 && recv(b, buf, sizeof(buf), 0) == 5;
		right += sendto(b, "back", 4, 0, (struct sockaddr *)&to_a, sizeof(to_a)) == 4 && recv(a, buf, sizeof(buf), 0) == 4;
	}
	note("turns: %d", right);
	obs("to all", sendto(b, "to all", 6, 0, (struct sockaddr *)&to, sizeof(to))); /* loopback has no route for groups of IPv6 */
	obs_recv(a, 20, MSG_DONTWAIT);
	join6(a, &to.sin6_addr, IPV6_LEAVE_GROUP);
	obs("to nobody", sendto(b, "to nobody", 9, 0, (struct sockaddr *)&to, sizeof(to)));
	obs_recv(a, 20, MSG_DONTWAIT);
}

/* To all of the loopback network, from a socket that talks with one of them. */
static void broadcast_when_hot(struct obs *o)
{
	int a = bound4(INADDR_ANY, 0), b = bound4(INADDR_LOOPBACK, 0);
	int one = 1;

	(void)o;
	promise_ring();
	chat4(a, b, OBS_WARM);
	say4("not allowed", b, ALL_OF_LOOPBACK, port_of(a), "to all");
	obs("SO_BROADCAST", setsockopt(b, SOL_SOCKET, SO_BROADCAST, &one, sizeof(one)));
	for (int i = 0; i < 3; i++) {
		say4("to all", b, ALL_OF_LOOPBACK, port_of(a), "to all");
		hear("a", a);
	}
	chat4(a, b, 20);
}

/* Connected to all, and much said. */
static void connected_to_all(struct obs *o)
{
	int a = bound4(INADDR_ANY, 0), b = socket(AF_INET, SOCK_DGRAM, 0), right = 0, one = 1;
	struct sockaddr_in to = v4(ALL_OF_LOOPBACK, port_of(a));
	char buf[16];

	(void)o;
	obs("connect", connect(b, (struct sockaddr *)&to, sizeof(to)));
	obs("SO_BROADCAST", setsockopt(b, SOL_SOCKET, SO_BROADCAST, &one, sizeof(one)));
	obs("connect", connect(b, (struct sockaddr *)&to, sizeof(to)));
	for (int i = 0; i < OBS_WARM; i++)
		right += send(b, "to all", 6, 0) == 6 && recv(a, buf, sizeof(buf), 0) == 6;
	note("heard: %d", right);
}

int main(int argc, char **argv)
{
	static const struct obs_case cases[] = {
		{ "a group joined when hot", joined_when_hot, SOLO, 0 },
		{ "much to a group", much_to_a_group, SOLO, 0 },
		{ "connected to a group", connected_to_a_group, SOLO, NO_RING },
		{ "two members", two_members, SOLO, 0 },
		{ "a group of IPv6", version_6, SOLO, 0 },
		{ "broadcast when hot", broadcast_when_hot, SOLO, 0 },
		{ "connected to all", connected_to_all, SOLO, NO_RING },
		{ 0 },
	};

	return obs_main(argc, argv, cases);
}
