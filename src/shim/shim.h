/* SPDX-License-Identifier: MIT */
/* What every shim function has in common: one thin function per libc symbol, no logic of its own. */
#ifndef GN_SHIM_SHIM_H
#define GN_SHIM_SHIM_H

#include <errno.h>

#include "base/real.h"
#include "sock/api.h"
#include "sock/inside.h"

#define INTERPOSE(result, name, params)                            \
	result name params __attribute__((visibility("default"))); \
	result name params

/* Another name that libc has for the function above, in the same file. */
#define ALSO(name, of) extern __typeof__(of) name __attribute__((alias(#of), visibility("default")))

/* Finds libc's functions and starts the module, once. Constructors of other libraries may call us before ours ran. */
void gn_shim_start(void);

/* Values of gn_world.ready. Cancellation is looked for where libc would, once anybody has used it. */
#define GN_READY 1u
#define GN_READY_CANCEL 2u
void gn_shim_before_clone(uint64_t flags); /* CLONE_*: the child may enter namespaces, or borrow our memory */
void gn_shim_point_slow(void);
void gn_shim_async_slow(void);

static inline void gn_enter(void)
{
	if (unlikely(!atomic_load_explicit(&gn_world.ready, memory_order_acquire)))
		gn_shim_start();
}

/* The same in a call that is a cancellation point. */
static inline void gn_enter_point(void)
{
	if (unlikely(atomic_load_explicit(&gn_world.ready, memory_order_acquire) != GN_READY))
		gn_shim_point_slow();
}

/* What comes for the thread between these two waits: see sock/sleep.h. */
static inline void gn_begin(void)
{
	gn_inside_begin();
	if (unlikely(gn_thread.wants_async))
		gn_shim_async_slow();
}

static inline void gn_end(void)
{
	gn_inside_end();
}

static inline void gn_guard_end(const int *guard)
{
	(void)guard;
	gn_end();
}

/* The rest of the block is inside. */
#define GN_INSIDE                                                             \
	int guard_ __attribute__((cleanup(gn_guard_end), unused)) = (gn_begin(), 0)

static inline bool gn_fd_is_ours(int fd)
{
	return (uint32_t)fd < gn_world.table_size && (uintptr_t)atomic_load_explicit(gn_slot(fd), memory_order_relaxed) > 1;
}

/* The endpoint behind a descriptor, held, and the thread inside, until gn_fd_put(). NULL: not ours. */
static inline struct gn_sock *gn_fd_find(int fd)
{
	struct gn_sock *so;

	if (!gn_fd_is_ours(fd))
		return NULL;
	gn_begin();
	so = gn_get(fd);
	if (unlikely(!so))
		gn_end();
	return so;
}

/* The same for calls that know of early carriers: sock/early.c. */
static inline struct gn_sock *gn_fd_find_early(int fd)
{
	struct gn_sock *so;

	if (!gn_fd_is_ours(fd))
		return NULL;
	gn_begin();
	so = gn_get_early(fd);
	if (unlikely(!so))
		gn_end();
	return so;
}

static inline struct gn_sock *gn_point_get(int fd)
{
	gn_enter_point();
	return gn_fd_find(fd);
}

/* For calls that do not move bytes: those find out by themselves that an endpoint has moved. */
static inline struct gn_sock *gn_fd_get(int fd)
{
	struct gn_sock *so;

	gn_enter();
	so = gn_fd_find(fd);
	if (!so)
		return NULL;
	so = gn_followed(so, fd);
	if (unlikely(!so))
		gn_end();
	return so;
}

static inline void gn_fd_put(struct gn_sock *so)
{
	gn_put(so);
	gn_end();
}

/* For calls that show what a socket is. */
static inline struct gn_sock *gn_fd_known(int fd)
{
	struct gn_sock *so = gn_fd_get(fd);

	if (so)
		return so;
	gn_begin();
	so = unlikely(gn_world.sandboxed) ? gn_sandboxed(fd) : gn_inherited(fd);
	if (!so)
		gn_end();
	return so;
}

/* For accept(). */
static inline struct gn_sock *gn_listener_get(int fd)
{
	struct gn_sock *so = gn_point_get(fd);

	if (likely(so) || gn_world.sandboxed)
		return so;
	gn_begin();
	so = gn_inherited_listener(fd);
	if (!so)
		gn_end();
	return so;
}

static inline ssize_t gn_ret(ssize_t rc)
{
	if (likely(rc >= 0))
		return rc;
	errno = (int)-rc;
	return -1;
}

/* calls_sandbox.c: the same call may come by prctl() and by syscall() */
void gn_before_prctl(long op, unsigned long mode, const void *filter);
void gn_before_seccomp(unsigned long op, const void *filter);

#endif
