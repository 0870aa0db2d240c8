/* SPDX-License-Identifier: MIT */
/*
 * A byte ring whose other side lies. [RING-1] [RING-2]
 *
 * The input is a list of steps of 6 bytes: what to do, a length, a word. The ring's bytes stand between guard bytes, and everything
 * it says must be possible whatever the peer's words are.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ring/ring.h"

#define SIZE 256u
#define GUARD 64u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void must(int holds)
{
	if (!holds)
		abort();
}

struct rig {
	struct gn_dir dir;
	uint8_t bytes[GUARD + SIZE + GUARD];
	struct gn_ring_map map;
	struct gn_ring producer, consumer;
};

static uint32_t least(uint32_t a, int64_t b)
{
	return (int64_t)a < b ? a : (uint32_t)b;
}

static void produce(struct rig *r, uint32_t want, uint32_t behind)
{
	static const uint8_t from[SIZE];
	int64_t room = gn_ring_space(&r->producer, &r->map);
	uint32_t n;

	must(room == -EPROTO || (room >= 0 && room <= (int64_t)SIZE));
	if (room < 0)
		return;
	behind = least(behind % SIZE, room);
	n = least(want, room - behind);
	gn_ring_put(&r->producer, &r->map, behind, from, n);
	gn_ring_publish(&r->producer, &r->map, behind + n);
}

static void consume(struct rig *r, uint32_t want, uint32_t behind)
{
	uint8_t to[SIZE];
	int64_t ready = gn_ring_readable(&r->consumer, &r->map);
	uint32_t n;

	must(ready == -EPROTO || (ready >= 0 && ready <= (int64_t)SIZE));
	if (ready < 0)
		return;
	behind = least(behind % SIZE, ready);
	n = least(want, ready - behind);
	gn_ring_get(&r->consumer, &r->map, behind, to, n);
	gn_ring_consume(&r->consumer, &r->map, behind + n);
}

static void step(struct rig *r, uint8_t what, uint8_t want, uint32_t word)
{
	switch (what % 6) {
	case 0: produce(r, want, word); break;
	case 1: consume(r, want, word); break;
	case 2: atomic_store(&r->dir.head, word); break;
	case 3: atomic_store(&r->dir.tail, word); break;
	case 4: atomic_store(&r->dir.head, r->consumer.own + word % (SIZE + 2)); break;
	case 5: atomic_store(&r->dir.tail, r->producer.own - word % (SIZE + 2)); break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct rig r;
	uint8_t guard[GUARD];
	uint32_t word, start = UINT32_MAX - 100;

	memset(&r, 0, sizeof(r));
	memset(guard, 0xa5, sizeof(guard));
	memset(r.bytes, 0xa5, sizeof(r.bytes));
	r.map = (struct gn_ring_map){.dir = &r.dir, .bytes = r.bytes + GUARD, .size = SIZE};
	r.producer = r.consumer = (struct gn_ring){start, start};
	atomic_store(&r.dir.head, start);
	atomic_store(&r.dir.tail, start);
	for (; len >= 6; data += 6, len -= 6) {
		memcpy(&word, data + 2, sizeof(word));
		step(&r, data[0], data[1], word);
	}
	must(memcmp(r.bytes, guard, GUARD) == 0);
	must(memcmp(r.bytes + GUARD + SIZE, guard, GUARD) == 0);
	return 0;
}
