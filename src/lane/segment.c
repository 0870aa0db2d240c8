/* SPDX-License-Identifier: MIT */
/* Segments: making, mapping and checking them. See segment.h. */
#include "lane/segment.h"

#include <errno.h>

#include "base/base.h"
#include "base/sys.h"

#define RING_MIN 4096u
#define RING_MAX (1u << 28)
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static size_t segment_bytes(uint32_t ring_size)
{
	return GN_SEG_HEAD + 2 * (size_t)ring_size;
}

static int segment_map(struct gn_segment *s, int fd, size_t bytes)
{
	void *map;
	int rc = gn_sys_mmap(&map, NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (rc < 0)
		return rc;
	s->map = map;
	s->bytes = bytes;
	return 0;
}

int gn_segment_new(struct gn_segment *s, int *fd, uint32_t ring_size, bool records)
{
	struct gn_segment made = {.side = 0};
	int f = gn_sys_memfd_create("gnezdo-segment", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int rc;

	if (f < 0)
		return f;
	rc = gn_sys_ftruncate(f, (off_t)segment_bytes(ring_size));
	if (rc == 0)
		rc = gn_sys_fcntl(f, F_ADD_SEALS, SEALS);
	if (rc == 0)
		rc = segment_map(&made, f, segment_bytes(ring_size));
	if (rc < 0) {
		gn_sys_close(f);
		return rc;
	}
	made.map->magic = GN_SEG_MAGIC; /* NOLINT(clang-analyzer-core.NullDereference): mapped by a bare system call */
	made.map->ring_size = ring_size;
	made.map->records = records;
	gn_sys_getrandom(made.map->nonce, sizeof made.map->nonce, 0);
	*s = made;
	*fd = f;
	return 0;
}

int gn_segment_open(struct gn_segment *s, int fd)
{
	struct gn_segment got = {.side = 1};
	struct stat st;
	uint32_t ring_size;
	int rc = gn_sys_fcntl(fd, F_GET_SEALS, 0);

	if (rc < 0 || (rc & SEALS) != SEALS || (rc & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)))
		return -EPROTO;
	rc = gn_sys_fstat(fd, &st);
	if (rc < 0)
		return rc;
	if (st.st_size < (off_t)segment_bytes(RING_MIN) || st.st_size > (off_t)segment_bytes(RING_MAX))
		return -EPROTO;
	rc = segment_map(&got, fd, (size_t)st.st_size);
	if (rc < 0)
		return rc;
	ring_size = *(volatile uint32_t *)&got.map->ring_size; /* one read: from here on, the size of the file is what counts */
	if (*(volatile uint64_t *)&got.map->magic != GN_SEG_MAGIC || ring_size < RING_MIN || ring_size > RING_MAX ||
	    (ring_size & (ring_size - 1)) || segment_bytes(ring_size) != got.bytes) {
		gn_segment_unmap(&got);
		return -EPROTO;
	}
	*s = got;
	return 0;
}

void gn_segment_unmap(struct gn_segment *s)
{
	if (s->map)
		gn_sys_munmap(s->map, s->bytes);
	s->map = NULL;
}

void gn_segment_views(const struct gn_segment *s, struct gn_ring_map *tx, struct gn_ring_map *rx)
{
	uint32_t ring_size = (uint32_t)((s->bytes - GN_SEG_HEAD) / 2);
	struct gn_ring_map way[2];

	for (int i = 0; i < 2; i++)
		way[i] = (struct gn_ring_map){
			.dir = &s->map->dir[i],
			.bytes = (uint8_t *)s->map + GN_SEG_HEAD + (size_t)i * ring_size,
			.size = ring_size,
		};
	*tx = way[s->side];
	*rx = way[!s->side];
}
