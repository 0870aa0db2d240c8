/* SPDX-License-Identifier: MIT */
/* The process's state: how it starts. See sock.h. */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>

#include "sock/sock.h"

#define SPIN_DEFAULT_US 50
#define HEAT_DEFAULT 24
#define RING_DEFAULT (256u << 10)

GN_SHARED_PAGE struct gn_world gn_world;
GN_BULK struct gn_real_calls gn_real;
int gn_world_lent;

static void settings(void)
{
	const char *lane = getenv("GNEZDO_LANE");
	const char *spin = getenv("GNEZDO_SPIN");

	gn_world.heat = HEAT_DEFAULT;
	if (lane && strcmp(lane, "kernel") == 0)
		gn_world.lanes = GN_LANES_KERNEL;
	gn_world.why_kernel = GN_WHY_LANE_KERNEL;
	if (lane && strcmp(lane, "ring") == 0) {
		gn_world.lanes = GN_LANES_RING;
		gn_world.heat = 0;
	}
	gn_world.spin_max_ns = (uint32_t)(spin ? strtoul(spin, NULL, 10) : SPIN_DEFAULT_US) * 1000;
	gn_world.ring_size = RING_DEFAULT;
	gn_world.stats = gn_world.stats_wanted = getenv("GNEZDO_STATS") != NULL;
}

/* What the table has beyond the program's limit is given back: address space counts against limits (RLIMIT_DATA, and RLIMIT_MEMLOCK in mlockall). */
static void table_shorten(uint32_t size)
{
	const uintptr_t page = 4096u << 4; /* or a larger one, as some machines have */
	uintptr_t end = (uintptr_t)&gn_world.table[GN_TABLE_MAX] & ~(page - 1);
	uintptr_t from = ((uintptr_t)&gn_world.table[size] + page - 1) & ~(page - 1);

	gn_world.table_size = size;
	if (from < end)
		gn_sys_munmap((void *)from, end - from);
}

void gn_world_init(void)
{
	struct rlimit limit = {1024, 1024};

	if (atomic_load(&gn_world.ready))
		return;
	gn_world.pool_fd = gn_world.reserve_fd = -1;
	settings();
	gn_world.sandboxed = getenv("GNEZDO_SANDBOX") != NULL;
	if (gn_world.sandboxed) { /* the filter was there before us: not one call that the program does not make */
		atomic_store(&gn_world.ready, 1);
		return;
	}
	gn_world.pid = gn_sys_getpid();
	gn_tokens_begin();
	gn_world.one_cpu = get_nprocs() < 2;
	gn_raw6(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, (long)&limit, 0, 0);
	table_shorten(limit.rlim_max < GN_TABLE_MAX ? (uint32_t)limit.rlim_max : GN_TABLE_MAX);
	gn_socks_add(gn_world.first, ARRAY_SIZE(gn_world.first));
	atomic_store(&gn_world.ready, 1);
}

/* The parent of a vfork sleeps until the child is gone; when it runs, its memory is its own again. A clone that shares memory and does
 * not wait is a thread in all but name: for such, the question stays open. */
bool gn_is_vfork_child_slow(void)
{
	if (gn_sys_getpid() != gn_world.pid)
		return true;
	if (gn_world_lent == 1)
		gn_world_lent = 0;
	return false;
}
