/* SPDX-License-Identifier: MIT */
/* What every shim function has in common: one thin function per libc symbol, no logic of its own. */
#ifndef GN_SHIM_SHIM_H
#define GN_SHIM_SHIM_H

#include <errno.h>

#include "base/real.h"
#include "sock/api.h"

#define INTERPOSE(result, name, params)                            \
	result name params __attribute__((visibility("default"))); \
	result name params

/* Finds libc's functions and starts the module, once. Constructors of other libraries may call us before ours ran. */
void gn_shim_start(void);

static inline void gn_enter(void)
{
	if (unlikely(!atomic_load_explicit(&gn_world.ready, memory_order_acquire)))
		gn_shim_start();
}

/* The endpoint behind a descriptor, held; NULL: not ours. */
static inline struct gn_sock *gn_fd_get(int fd)
{
	gn_enter();
	return gn_get(fd);
}

/* For calls that show what a socket is. */
static inline struct gn_sock *gn_fd_known(int fd)
{
	struct gn_sock *so = gn_fd_get(fd);

	if (unlikely(gn_world.sandboxed))
		return so ? so : gn_sandboxed(fd);
	return so ? so : gn_inherited(fd);
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
