/* SPDX-License-Identifier: MIT */
/*
 * A segment that a peer made of any bytes, any size and any seals: refused, or both its rings lie inside. [RING-3]
 *
 * The input: seals and size (4 bytes), then the first bytes of the file.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lane/segment.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void must(int holds)
{
	if (!holds)
		abort();
}

static void is_inside(const struct gn_segment *s, const struct gn_ring_map *m)
{
	const uint8_t *begin = (const uint8_t *)s->map;

	must(m->size > 0 && (m->size & (m->size - 1)) == 0);
	must(m->bytes >= begin + GN_SEG_HEAD && m->bytes - begin + (size_t)m->size <= s->bytes);
	must((const uint8_t *)m->dir >= begin && (const uint8_t *)(m->dir + 1) <= begin + GN_SEG_HEAD);
	m->bytes[0] = m->bytes[m->size - 1] = 1; /* a SIGBUS if the file is shorter than it was said to be */
}

/* Mostly the seals and a size that fit what the header says, else nothing would get past the first check. */
static int peers_file(const uint8_t *data, size_t len)
{
	unsigned char pick = data[0];
	struct gn_seg head = {.magic = GN_SEG_MAGIC, .ring_size = 1u << (data[1] % 24)};
	off_t size = (off_t)GN_SEG_HEAD + 2 * (off_t)head.ring_size;
	int fd = memfd_create("segment_fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	must(fd >= 0);
	if (pick & 1)
		size = (off_t)data[2] << (data[3] % 20);
	must(ftruncate(fd, size) == 0);
	must(pwrite(fd, &head, sizeof(head) < (size_t)size ? sizeof(head) : (size_t)size, 0) >= 0);
	if (pick & 2)
		must(pwrite(fd, data + 4, len - 4 < (size_t)size ? len - 4 : (size_t)size, 0) >= 0);
	fcntl(fd, F_ADD_SEALS, pick & 4 ? pick >> 3 : F_SEAL_SHRINK | F_SEAL_GROW | (pick & 8 ? F_SEAL_SEAL : 0));
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct gn_ring_map tx, rx;
	struct gn_segment s;
	int fd;

	if (len < 4)
		return 0;
	fd = peers_file(data, len);
	if (gn_segment_open(&s, fd) == 0) {
		must((fcntl(fd, F_GET_SEALS) & (F_SEAL_SHRINK | F_SEAL_GROW)) == (F_SEAL_SHRINK | F_SEAL_GROW));
		gn_segment_views(&s, &tx, &rx);
		is_inside(&s, &tx);
		is_inside(&s, &rx);
		must(tx.dir != rx.dir && tx.bytes != rx.bytes);
		gn_segment_unmap(&s);
	}
	close(fd);
	return 0;
}
