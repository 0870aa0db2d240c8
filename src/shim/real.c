/* SPDX-License-Identifier: MIT */
/* Libc's own functions, found behind ours. Source: dlsym(3), RTLD_NEXT. */
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

#include "shim/shim.h"

static void look_up(void *slot, const char *name)
{
	void *found = dlsym(RTLD_NEXT, name);

	memcpy(slot, &found, sizeof found);
}

static void start(void)
{
#define GN_CALL(result, name, params) look_up(&gn_real.name, #name);
#include "base/calls.def"
#undef GN_CALL
	gn_world_init();
}

void gn_shim_start(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, start);
}

__attribute__((constructor)) static void constructor(void)
{
	gn_enter();
}

__attribute__((destructor)) static void destructor(void)
{
	gn_stats_print();
}
