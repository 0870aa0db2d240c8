/* SPDX-License-Identifier: MIT */
/*
 * Puts together what belongs together: a socket, the kernel's line about it, its peer's endpoint.
 *
 * Bytes queued in a ring are what one side has written less what the other has read, each by its own word; a side alone knows
 * the other's index only as of when it last looked.
 */
#include "cli/ss.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define RING_MAX (64u << 20) /* more than any ring holds: the words do not belong together */

static int by_inode(const void *a, const void *b)
{
	const struct ss_socket *x = *(const struct ss_socket *const *)a, *y = *(const struct ss_socket *const *)b;

	return (x->inode > y->inode) - (x->inode < y->inode);
}

/* TCP and UDP by type and both addresses, where the kernel's inode tells nothing about the peer. */
static int addresses_compare(const struct ss_socket *x, const struct gn_addr *local, const struct gn_addr *peer, uint16_t type)
{
	int rc = (x->ep.type > type) - (x->ep.type < type);

	rc = rc ? rc : memcmp(&x->ep.local, local, sizeof(*local));
	return rc ? rc : memcmp(&x->ep.peer, peer, sizeof(*peer));
}

static int by_addresses(const void *a, const void *b)
{
	const struct ss_socket *x = *(const struct ss_socket *const *)a, *y = *(const struct ss_socket *const *)b;

	return addresses_compare(x, &y->ep.local, &y->ep.peer, y->ep.type);
}

/* The list's sockets in two orders. */
struct orders {
	const struct ss_socket **inode, **address;
	size_t count;
};

static const struct ss_socket *find_inode(const struct orders *o, uint64_t inode)
{
	size_t low = 0, high = o->count;

	while (inode && low < high) {
		size_t at = low + (high - low) / 2;

		if (o->inode[at]->inode == inode)
			return o->inode[at];
		if (o->inode[at]->inode < inode)
			low = at + 1;
		else
			high = at;
	}
	return NULL;
}

static const struct ss_socket *find_reversed(const struct orders *o, const struct ss_socket *s)
{
	size_t low = 0, high = o->count;

	while (s->ep.peer.family && low < high) {
		size_t at = low + (high - low) / 2;
		int rc = addresses_compare(o->address[at], &s->ep.peer, &s->ep.local, s->ep.type);

		if (!rc)
			return o->address[at];
		if (rc < 0)
			low = at + 1;
		else
			high = at;
	}
	return NULL;
}

static uint64_t queued(uint32_t written, uint32_t read)
{
	return written - read <= RING_MAX ? written - read : 0;
}

static void queues_work_out(struct ss_socket *s, const struct ss_socket *peer)
{
	const struct gn_half *tx = &s->ep.tx, *rx = &s->ep.rx;

	if (tx->lane == GN_LANE_RING)
		s->send_q = queued(tx->ring.own, peer ? peer->ep.rx.ring.own : tx->ring.seen);
	else if (s->kernel)
		s->send_q = s->kernel->send_q;
	if (rx->lane == GN_LANE_RING)
		s->recv_q = queued(peer ? peer->ep.tx.ring.own : rx->ring.seen, rx->ring.own);
	else if (s->kernel)
		s->recv_q = s->kernel->recv_q;
}

static int netid_order(const struct ss_socket *s)
{
	return s->ep.domain == AF_UNIX ? 2 + s->ep.type : s->ep.type == SOCK_STREAM ? 1 : 0;
}

/* As people look for things: by kind, listeners first, then by process. */
static int for_people(const void *a, const void *b)
{
	const struct ss_socket *x = a, *y = b;
	int rc = netid_order(x) - netid_order(y);

	rc = rc ? rc : (y->ep.state == GN_LISTEN) - (x->ep.state == GN_LISTEN);
	rc = rc ? rc : (x->pid[0] > y->pid[0]) - (x->pid[0] < y->pid[0]);
	return rc ? rc : (x->inode > y->inode) - (x->inode < y->inode);
}

void ss_list_match(struct ss_list *l, const struct kernel_table *t)
{
	struct orders o = { .count = l->count };

	if (!l->count)
		return;
	qsort(l->list, l->count, sizeof(*l->list), for_people);
	o.inode = calloc(l->count, sizeof(struct ss_socket *));
	o.address = calloc(l->count, sizeof(struct ss_socket *));
	if (!o.inode || !o.address)
		o.count = 0; /* then each side's own view has to do */
	for (size_t i = 0; i < o.count; i++)
		o.inode[i] = o.address[i] = &l->list[i];
	if (o.count) {
		qsort(o.inode, o.count, sizeof(*o.inode), by_inode);
		qsort(o.address, o.count, sizeof(*o.address), by_addresses);
	}
	for (size_t i = 0; i < l->count; i++) {
		struct ss_socket *s = &l->list[i];
		const struct ss_socket *peer;

		s->kernel = kernel_table_find(t, s->inode);
		s->kernel_peer = s->kernel ? kernel_table_find(t, s->kernel->peer) : NULL;
		peer = s->kernel && s->kernel->peer ? find_inode(&o, s->kernel->peer) : NULL;
		if (!peer && s->ep.domain != AF_UNIX)
			peer = find_reversed(&o, s);
		queues_work_out(s, peer);
	}
	free(o.inode);
	free(o.address);
}
