/* SPDX-License-Identifier: MIT */
/*
 * Addresses to faces: how an endpoint that has a public address is found by gnezdo peers, and who may answer for it.
 *
 * The registry is the kernel's abstract AF_UNIX namespace, which belongs to a network namespace and needs no clean-up.
 * Errors: -errno. No state. Sources: unix(7), ip(7), sock_diag(7), netlink(7), rtnetlink(7).
 */
#ifndef GN_NAME_NAME_H
#define GN_NAME_NAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

/* An internet address as gnezdo compares them: a v4-mapped AF_INET6 address is family AF_INET here. */
struct gn_addr {
	uint16_t family; /* AF_INET, AF_INET6; 0: none */
	uint16_t port;   /* host order */
	uint32_t scope;  /* sin6_scope_id, 0 but for link-local addresses */
	uint8_t ip[16];  /* network order; AF_INET uses the first 4, the rest 0 */
};

/* A name in the abstract namespace. */
struct gn_name {
	struct sockaddr_un sun;
	socklen_t len;
};

/* From what a program passed to bind, connect, sendto. -EAFNOSUPPORT: not an internet address (AF_UNSPEC too, which bind and connect
 * give meanings of their own); -EINVAL: too short. `sa` need not be aligned. */
int gn_addr_from_sockaddr(struct gn_addr *to, const struct sockaddr *sa, socklen_t len);

/* What the kernel would show a program whose socket is of `domain` (v4 addresses become v4-mapped for AF_INET6). Writes at most
 * sizeof(struct sockaddr_in6) bytes to `to` and returns the length. */
socklen_t gn_addr_to_sockaddr(struct sockaddr_storage *to, const struct gn_addr *a, int domain);

bool gn_addr_is_wildcard(const struct gn_addr *a);
bool gn_addr_is_loopback(const struct gn_addr *a);
bool gn_addr_is_multicast(const struct gn_addr *a); /* or the broadcast address */
bool gn_addr_equal(const struct gn_addr *a, const struct gn_addr *b);

/* Where a packet to this address goes: a wildcard as destination means this machine, 127.0.0.1 or ::1; others stay as they are. */
void gn_addr_destination(struct gn_addr *a);

/* 1: packets to this address stay on this machine (loopback, wildcard, an address of one of its interfaces); 0: not, or the kernel
 * could not be asked. No system call for loopback and wildcard, one lookup in the routing table of the current network
 * namespace for others (4 of them). */
int gn_addr_is_local(const struct gn_addr *a);

/* The address that the kernel would call `dest` from, port 0. No system call for loopback and wildcard. -errno as from connect(),
 * -ENETUNREACH among them. */
int gn_addr_source(struct gn_addr *from, const struct gn_addr *dest);

/* The private face of a listener on `at` (wildcards have names of their own; an AF_INET6 wildcard that also takes IPv4 is `dual`). */
void gn_name_listener(struct gn_name *to, const struct gn_addr *at, bool dual);

/* The names to try, best first as the kernel would, for a caller of `to`: exact, wildcard of its family, dual wildcard. A wildcard as
 * destination is looked for at its loopback address first. Returns how many (at most 3). */
int gn_name_candidates(struct gn_name names[3], const struct gn_addr *to);

/* Listeners with SO_REUSEPORT share an address: the private face of one of them, by number. `place` is the listeners' name, where a
 * listener that is always full shows callers that there is such a group. */
void gn_name_member(struct gn_name *to, const struct gn_name *place, uint32_t number);

/* The name that a caller binds its own end to: it spells both addresses, so that the kernel keeps the pair unique. */
void gn_name_caller(struct gn_name *to, const struct gn_addr *from, const struct gn_addr *dest);

/* Reads such a name back. -EINVAL: not one of ours. */
int gn_name_caller_parse(const struct gn_name *n, struct gn_addr *from, struct gn_addr *dest);

/* The name that a socket behind a relay is bound to, so that its addresses can be read from it. */
void gn_name_relay(struct gn_name *to, const struct gn_addr *local, const struct gn_addr *peer);
int gn_name_relay_parse(const struct gn_name *n, struct gn_addr *local, struct gn_addr *peer);

/* Where the relay of that number is asked for the socket that is behind it. */
void gn_name_asked(struct gn_name *to, uint64_t number);

/* Where the two ends of the AF_UNIX connection between these two kernel sockets meet to share a segment; the order of the inodes does
 * not matter. */
void gn_name_meeting(struct gn_name *to, uint64_t inode_a, uint64_t inode_b);

/* Likewise for the two ends of an internet connection or of a datagram pair; `kind` is 's' (stream) or 'd' (datagram),
 * or 'p' for the name that two bound sockets which connect to each other have in common. */
void gn_name_meeting_inet(struct gn_name *to, char kind, const struct gn_addr *a, const struct gn_addr *b);

/* What an AF_UNIX name is, whatever its spelling: the device and inode of the socket's file ('='), a hash of the abstract name ('@'). */
struct gn_key {
	char kind;
	uint64_t word[2];
};

/* Of an abstract name, as getsockname() or a program spells it. */
void gn_key_abstract(struct gn_key *to, const struct sockaddr_un *sun, socklen_t len);
bool gn_key_equal(const struct gn_key *a, const struct gn_key *b);

/* Where the holder of an address (bound, not listening) can be reached by a peer that it may connect to; the names to try as for
 * gn_name_candidates(). */
void gn_name_holder(struct gn_name *to, const struct gn_addr *at, bool dual);
int gn_name_holders(struct gn_name names[3], const struct gn_addr *to);
void gn_name_holder_unix(struct gn_name *to, const struct gn_key *k);

/* As gn_name_meeting_inet() of kind 'p', in the local domain. */
void gn_name_peers_unix(struct gn_name *to, const struct gn_key *a, const struct gn_key *b);

/* The inode of the socket that the AF_UNIX socket `fd` is connected to (sock_diag, UDIAG_SHOW_PEER), and its own.
 * -ENOTCONN: no peer; -EAGAIN: nobody has accepted the connection yet, or the other end is closed; -ENOTSOCK;
 * -EOPNOTSUPP: this kernel does not tell, or the socket is not AF_UNIX, or is of another network namespace.
 * The kernel walks its table of AF_UNIX sockets for this: cheap for one promotion, not for each message. */
int gn_name_peer_inode(int fd, uint64_t *own, uint64_t *peer);

/* The size of the receive buffer of the AF_UNIX socket at the other end of `fd`, as getsockopt() there would say. -EAGAIN: it is closed;
 * others as gn_name_peer_inode(). */
int gn_name_peer_rcvbuf(int fd, uint32_t *bytes);

/* The user who owns the sockets that are bound to this abstract name; `listening`: only a listener counts. -ENOENT: there is none, or it is
 * in another network namespace; -ENOTUNIQ: several users; -EOPNOTSUPP: this kernel does not tell. The kernel gives its whole table of
 * AF_UNIX sockets for this: for what is seldom. */
int gn_name_bound_uid(const struct gn_name *at, bool listening, uid_t *uid);

/* The user who owns the kernel's listener (stream) or bound socket (datagram) on exactly this address, or a wildcard that covers
 * it, as a packet would find it. -ENOENT: nobody, or this kernel does not tell; -EINVAL: not such an address or type. */
int gn_name_owner_uid(const struct gn_addr *at, int type, uid_t *uid);

/* The user who owns the datagram socket on `at` that a datagram from `from` would reach, connected or not. Errors as above. */
int gn_name_pair_uid(const struct gn_addr *from, const struct gn_addr *at, uid_t *uid);

/* The inode of that socket. */
int gn_name_pair_inode(const struct gn_addr *from, const struct gn_addr *at, uint64_t *inode);

/* May a process of user `holder` answer for `at`, which this process is calling? Root, the caller's own effective user, or the
 * owner of the public face. In a user namespace, not the user that stands for all unmapped ones. */
bool gn_name_may_answer(const struct gn_addr *at, int type, uid_t holder);

/* Likewise for an AF_UNIX name whose file belongs to `owner` ((uid_t)-1: an abstract name, which nobody owns). */
bool gn_name_may_answer_unix(uid_t owner, uid_t holder);

/* Has every user of the machine a number in our user namespace? If not, a listener's own number may be hidden from us. */
bool gn_name_knows_users(void);

/* Is this one user, and not all whom the kernel shows as one because they have no number in our user namespace? */
bool gn_name_uid_is_somebody(uid_t uid);

/* May a caller of user `uid` say that its address is `from`? The address must be local and no wildcard, the port not 0; ports
 * below the kernel's net.ipv4.ip_unprivileged_port_start are root's. */
bool gn_name_may_call(const struct gn_addr *from, uid_t uid);

#endif
