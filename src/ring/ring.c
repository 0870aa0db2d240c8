/* SPDX-License-Identifier: MIT */
/* A byte ring between two processes: see ring.h. */
#include "ring/ring.h"

#include <errno.h>
#include <string.h>

int64_t gn_ring_space(struct gn_ring *r, const struct gn_ring_map *m)
{
	/* Acquire pairs with the release in gn_ring_consume(): the consumer is done with those bytes. */
	uint32_t tail = atomic_load_explicit(&m->dir->tail, memory_order_acquire);
	uint32_t queued = r->own - tail;

	if (queued > m->size)
		return -EPROTO;
	r->seen = tail;
	return m->size - queued;
}

int64_t gn_ring_readable(struct gn_ring *r, const struct gn_ring_map *m)
{
	/* Acquire pairs with the release in gn_ring_publish(): the bytes are there. */
	uint32_t head = atomic_load_explicit(&m->dir->head, memory_order_acquire);
	uint32_t queued = head - r->own;

	if (queued > m->size)
		return -EPROTO;
	r->seen = head;
	return queued;
}

void gn_ring_put(const struct gn_ring *r, const struct gn_ring_map *m, uint32_t offset, const void *from, uint32_t len)
{
	uint32_t at = (r->own + offset) & (m->size - 1);
	uint32_t run = m->size - at;

	if (run >= len) {
		memcpy(m->bytes + at, from, len);
		return;
	}
	memcpy(m->bytes + at, from, run);
	memcpy(m->bytes, (const uint8_t *)from + run, len - run);
}

void gn_ring_get(const struct gn_ring *r, const struct gn_ring_map *m, uint32_t offset, void *to, uint32_t len)
{
	uint32_t at = (r->own + offset) & (m->size - 1);
	uint32_t run = m->size - at;

	if (run >= len) {
		memcpy(to, m->bytes + at, len);
		return;
	}
	memcpy(to, m->bytes + at, run);
	memcpy((uint8_t *)to + run, m->bytes, len - run);
}

/* Parking is Dekker's pattern: one side stores its index and then looks at the flag, the other stores the flag and then looks at
 * the index. Both pairs are sequentially consistent, so at least one side sees the other and no sleep is missed. */
static uint32_t flag_take(_Atomic uint32_t *parked)
{
	return atomic_load(parked) ? atomic_exchange(parked, 0) : 0;
}

uint32_t gn_ring_publish(struct gn_ring *r, const struct gn_ring_map *m, uint32_t len)
{
	r->own += len;
	atomic_store(&m->dir->head, r->own);
	return flag_take(&m->dir->c_parked);
}

bool gn_ring_consume(struct gn_ring *r, const struct gn_ring_map *m, uint32_t len)
{
	r->own += len;
	atomic_store(&m->dir->tail, r->own);
	return r->seen - r->own <= m->size - gn_ring_room(m) && flag_take(&m->dir->p_parked);
}
