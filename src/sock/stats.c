/* SPDX-License-Identifier: MIT */
/* What this process moved, and by which lane: the lines of `gnezdo run --stats`. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sock/sock.h"

static struct {
	_Atomic uint32_t lock;
	uint64_t conns;
	struct gn_counts sum;
	uint64_t fallbacks[GN_WHY_COUNT];
} total;

static void counts_read(const struct gn_ep *ep, struct gn_counts *c)
{
	c->tx_ring_bytes = atomic_load(&ep->tx.ring_bytes);
	c->tx_ring_msgs = atomic_load(&ep->tx.ring_msgs);
	c->rx_ring_bytes = atomic_load(&ep->rx.ring_bytes);
	c->rx_ring_msgs = atomic_load(&ep->rx.ring_msgs);
	c->tx_kernel_bytes = atomic_load(&ep->tx.kernel_bytes);
	c->tx_kernel_msgs = atomic_load(&ep->tx.kernel_msgs);
	c->rx_kernel_bytes = atomic_load(&ep->rx.kernel_bytes);
	c->rx_kernel_msgs = atomic_load(&ep->rx.kernel_msgs);
	c->promotions = atomic_load(&ep->promotions);
	c->demotions = atomic_load(&ep->demotions);
	c->bells = atomic_load(&ep->bells_sent);
}

void gn_stats_begin(struct gn_sock *so)
{
	struct gn_counts now;
	const uint64_t *each = (const uint64_t *)&now;
	uint64_t any = 0;

	if (!gn_world.stats_wanted)
		return;
	counts_read(so->ep, &now);
	for (size_t i = 0; i < sizeof now / sizeof *each; i++)
		any |= each[i];
	if (!any)
		return;
	/* Only what was inherited has one, and keeps it: its last close may come from a signal handler, where free() may not. */
	if (!so->base)
		so->base = malloc(sizeof *so->base);
	if (so->base)
		*so->base = now;
}

/* Adds what went through `so` while this process held it. */
static void sum_add(const struct gn_sock *so)
{
	struct gn_counts now;
	uint64_t *to = (uint64_t *)&total.sum;
	const uint64_t *base = (const uint64_t *)so->base;
	const uint64_t *last = (const uint64_t *)&now;
	uint32_t why = atomic_load(&so->ep->reason);
	uint32_t state = atomic_load(&so->ep->state);

	counts_read(so->ep, &now);
	for (size_t i = 0; i < sizeof now / sizeof(uint64_t); i++)
		to[i] += last[i] - (base ? base[i] : 0);
	if (state != GN_ESTAB && so->ep->type != SOCK_DGRAM)
		return;
	total.conns++;
	if (why != GN_WHY_NONE && why < GN_WHY_COUNT)
		total.fallbacks[why]++;
}

void gn_stats_retire(const struct gn_sock *so)
{
	gn_lock(&total.lock);
	sum_add(so);
	gn_unlock(&total.lock);
}

void gn_stats_reset(void)
{
	memset(&total, 0, sizeof total);
}

static void name_read(char *name, size_t size)
{
	if (gn_sys_read_file("/proc/self/comm", name, size) <= 0)
		snprintf(name, size, "?");
	name[strcspn(name, "\n")] = 0;
}

static void line_out(const char *line, int len)
{
	if (len > 0)
		gn_sys_write(2, line, (size_t)len);
}

void gn_stats_print(void)
{
	struct gn_counts *s = &total.sum;
	char name[32], line[512];

	if (!gn_world.stats || !gn_world.pool || gn_is_vfork_child())
		return;
	gn_world.stats = false; /* once */
	name_read(name, sizeof name);
	gn_lock(&total.lock);
	for (uint32_t fd = 0; fd < gn_world.used_fds; fd++) {
		struct gn_sock *so = gn_get((int)fd);

		if (!so)
			continue;
		if (so->fds)
			sum_add(so);
		so->fds = 0; /* its dups are not counted again; the process ends here */
		gn_put(so);
	}
	line_out(line, snprintf(line, sizeof line,
				"gnezdo: pid=%d prog=%s conns=%lu tx_ring_bytes=%lu tx_ring_msgs=%lu rx_ring_bytes=%lu rx_ring_msgs=%lu "
				"tx_kernel_bytes=%lu tx_kernel_msgs=%lu rx_kernel_bytes=%lu rx_kernel_msgs=%lu promotions=%lu "
				"demotions=%lu bells=%lu\n",
				gn_world.pid, name, total.conns, s->tx_ring_bytes, s->tx_ring_msgs, s->rx_ring_bytes, s->rx_ring_msgs,
				s->tx_kernel_bytes, s->tx_kernel_msgs, s->rx_kernel_bytes, s->rx_kernel_msgs, s->promotions,
				s->demotions, s->bells));
	for (uint32_t why = 0; why < GN_WHY_COUNT; why++)
		if (total.fallbacks[why])
			line_out(line, snprintf(line, sizeof line, "gnezdo: pid=%d fallback count=%lu reason=\"%s\"\n", gn_world.pid,
						total.fallbacks[why], gn_reason_text(why)));
	gn_unlock(&total.lock);
}
