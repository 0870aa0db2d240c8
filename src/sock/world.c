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
_Atomic uint32_t gn_world_lent;

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

/* Numbers that are not near are touched only where descriptors are: the rest costs address space alone. */
static void table_open(uint32_t size)
{
	void *far;

	gn_world.table_size = GN_MIN(size, (uint32_t)ARRAY_SIZE(gn_world.near));
	if (size > gn_world.table_size && gn_sys_mmap(&far, NULL, (size - gn_world.table_size) * sizeof(void *), PROT_READ | PROT_WRITE,
						      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) == 0) {
		gn_world.far = far;
		gn_world.table_size = size;
	}
}

void gn_world_init(void)
{
	struct rlimit limit = {1024, 1024};

	if (atomic_load(&gn_world.ready))
		return;
	gn_world.pool_fd = -1;
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
	table_open(limit.rlim_max < GN_TABLE_MAX ? (uint32_t)limit.rlim_max : GN_TABLE_MAX);
	gn_socks_add(gn_world.first, ARRAY_SIZE(gn_world.first));
	atomic_store(&gn_world.ready, 1);
}

#define FOR_EVER 0x10000u /* in gn_world_lent: a clone that shares memory and does not wait is a thread in all but name */

static __thread __attribute__((tls_model("initial-exec"))) bool lends; /* this thread has called vfork, and not been seen to come back */

void gn_lend(bool for_ever)
{
	if (gn_world.sandboxed || gn_is_vfork_child())
		return;
	if (for_ever)
		atomic_fetch_or(&gn_world_lent, FOR_EVER);
	else
		atomic_fetch_add(&gn_world_lent, 1);
	gn_lock(&gn_world.big); /* who makes an early carrier has seen that, or it is here to be seen */
	gn_unlock(&gn_world.big);
	gn_early_end_all();
	lends = !for_ever;
}

/* The parent's thread sleeps until the child is gone; when it runs, it lends no longer. Other threads run all the time. */
bool gn_is_vfork_child_slow(void)
{
	if (gn_sys_getpid() != gn_world.pid)
		return true;
	if (lends) {
		lends = false;
		atomic_fetch_sub(&gn_world_lent, 1);
	}
	return false;
}

void gn_lent_forked(void)
{
	atomic_store(&gn_world_lent, 0);
	lends = false;
}
