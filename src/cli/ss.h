/* SPDX-License-Identifier: MIT */
/*
 * `gnezdo ss`: what the pools of living processes say, beside what the kernel says about the same sockets.
 *
 * Invariants: nothing read from a pool is trusted: it belongs to somebody else, who writes meanwhile. Everything here is a copy.
 * Units: bytes. Errors: 0 or -errno.
 */
#ifndef GN_CLI_SS_H
#define GN_CLI_SS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "sock/ep.h"

#define SS_ADDRESS 160 /* the longest text of an address: a socket's path, escaped */

/* What the kernel tells about one of its sockets. */
struct kernel_socket {
	uint64_t inode, peer; /* peer: of AF_UNIX only, 0 when unknown */
	uint32_t recv_q, send_q;
	char name[112]; /* AF_UNIX: the path, or @abstract; empty: none. Never holds control characters */
};

struct kernel_table {
	struct kernel_socket *list; /* sorted by inode */
	size_t count, room;
};

struct ss_socket {
	struct gn_ep ep; /* a copy */
	pid_t pid[GN_HOLDERS];
	int pids;
	uint64_t inode; /* of the kernel socket that carries it, 0 when it cannot be told */
	uint64_t recv_q, send_q;
	const struct kernel_socket *kernel, *kernel_peer; /* into the table; may be NULL */
};

struct ss_list {
	struct ss_socket *list;
	size_t count, room;
};

/* --- ss_pool.c: every endpoint in the pools that this user may read, whose holders live --- */
int ss_list_read(struct ss_list *to);
void ss_list_fini(struct ss_list *l);

/* --- ss_kernel.c: the kernel's tables of AF_UNIX, TCP and UDP sockets. What cannot be had is left out --- */
int kernel_table_read(struct kernel_table *to);
void kernel_table_fini(struct kernel_table *t);
const struct kernel_socket *kernel_table_find(const struct kernel_table *t, uint64_t inode);

/* --- ss_match.c: finds each socket in the kernel's table and its peer in the list; works out the queues; sorts the list --- */
void ss_list_match(struct ss_list *l, const struct kernel_table *t);

/* --- ss_text.c: the words for it --- */
const char *ss_netid(const struct ss_socket *s);
const char *ss_state(const struct ss_socket *s);
const char *ss_lane(const struct ss_socket *s, const struct gn_half *half);
const char *ss_why(const struct ss_socket *s);
void ss_local(const struct ss_socket *s, char to[SS_ADDRESS]);
void ss_peer(const struct ss_socket *s, char to[SS_ADDRESS]);
void ss_program(pid_t pid, char *to, size_t size);
uint64_t ss_moved(const struct gn_half *half);

/* --- ss_report.c --- */
int ss_print_table(const struct ss_list *l);
int ss_print_json(const struct ss_list *l);

/* Room for one more element of `size` bytes in a growing array. -ENOMEM. */
int ss_grow(void **list, size_t *room, size_t count, size_t size);

#endif
