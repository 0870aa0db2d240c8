/* SPDX-License-Identifier: MIT */
/* One question to the kernel over netlink(7), one answer. Used inside this module only. */
#ifndef GN_NAME_NETLINK_H
#define GN_NAME_NETLINK_H

#include <linux/netlink.h>
#include <stddef.h>
#include <sys/types.h>

/* Enough for what this module asks: the kernel's answers to single lookups are a few hundred bytes. */
#define GN_NETLINK_ROOM 4096

/* Sends `request` (its nlmsg_len, _type and _flags filled in) to the kernel's `protocol` and reads one answer of `type` into
 * `room` (GN_NETLINK_ROOM bytes, aligned for a nlmsghdr). Gives the bytes of its payload, at NLMSG_DATA(room), at least
 * `payload_min`; or -errno: the kernel's own refusal, or -EPROTO when the answer is none that we know. Opens a socket for the
 * occasion: a process that keeps no descriptor for this has none that a program's close loop could hit. */
ssize_t gn_netlink_ask(int protocol, struct nlmsghdr *request, void *room, int type, size_t payload_min);

/* Sends a request for a list (NLM_F_DUMP) and calls `each` for each message of `type` with at least `payload_min` bytes, until it returns
 * not 0; `room` has `room_len` bytes. What `each` returned, 0 at the end of the list, or -errno as above. */
ssize_t gn_netlink_list(int protocol, struct nlmsghdr *request, void *room, size_t room_len, int type, size_t payload_min,
			int (*each)(void *ctx, const void *payload, size_t len), void *ctx);

/* The attribute of `type` among the `len` bytes at `attrs` if it holds at least `min` bytes; NULL: none. */
const void *gn_netlink_attr(const void *attrs, size_t len, int type, size_t min);

#endif
