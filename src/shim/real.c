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

void gn_shim_point_slow(void)
{
	gn_enter();
	if (atomic_load_explicit(&gn_world.ready, memory_order_relaxed) == GN_READY_CANCEL)
		pthread_testcancel();
}

/* Inside, a thread that the program made cancellable at any instruction is not. */
void gn_shim_async_slow(void)
{
	int type;

	if (atomic_load_explicit(&gn_thread.inside, memory_order_relaxed) != 1)
		return;
	gn_real.pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type);
	if (type == PTHREAD_CANCEL_ASYNCHRONOUS)
		atomic_store_explicit(&gn_thread.due, atomic_load_explicit(&gn_thread.due, memory_order_relaxed) | GN_DUE_ASYNC, memory_order_relaxed);
}

__attribute__((constructor)) static void constructor(void)
{
	gn_enter();
	gn_fork_handlers();
}

/* The library's _fini (the linker is told): the usual one, as empty, is on a page of its own, which each forked child would touch. */
void gn_shim_end(void);
void gn_shim_end(void)
{
}

__attribute__((destructor)) static void destructor(void)
{
	GN_INSIDE;
	gn_stats_print();
}
