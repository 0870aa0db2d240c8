/* SPDX-License-Identifier: MIT */
/* The shim: io_uring, by liburing's functions (by number: calls_syscall.c). Not in the list of libc's calls: liburing need not be there, and
 * may come later. */
#include <dlfcn.h>
#include <string.h>

#include "shim/shim.h"

struct io_uring;
struct io_uring_params;

static void *look_up(const char *name)
{
	void *found = dlsym(RTLD_NEXT, name), *lib;

	if (found)
		return found;
	lib = dlopen("liburing.so.2", RTLD_LAZY | RTLD_NOLOAD); /* it came with another library, out of everybody's sight */
	return lib ? dlsym(lib, name) : NULL;
}

/* The function behind ours: it exists, for somebody was linked with it. NULL: connections on rings cannot be handed over to it. */
#define REAL(function)                                  \
	__extension__({                                 \
		__typeof__(&function) real_;            \
		void *found_ = look_up(#function);      \
		memcpy(&real_, &found_, sizeof real_);  \
		gn_enter();                             \
		gn_before_uring() < 0 ? NULL : real_;   \
	})

INTERPOSE(int, io_uring_setup, (unsigned int entries, struct io_uring_params *p))
{
	int (*real)(unsigned int, struct io_uring_params *) = REAL(io_uring_setup);

	return real ? real(entries, p) : -ENOSYS;
}

INTERPOSE(int, io_uring_queue_init, (unsigned int entries, struct io_uring *ring, unsigned int flags))
{
	int (*real)(unsigned int, struct io_uring *, unsigned int) = REAL(io_uring_queue_init);

	return real ? real(entries, ring, flags) : -ENOSYS;
}

INTERPOSE(int, io_uring_queue_init_params, (unsigned int entries, struct io_uring *ring, struct io_uring_params *p))
{
	int (*real)(unsigned int, struct io_uring *, struct io_uring_params *) = REAL(io_uring_queue_init_params);

	return real ? real(entries, ring, p) : -ENOSYS;
}

INTERPOSE(int, io_uring_queue_init_mem,
	  (unsigned int entries, struct io_uring *ring, struct io_uring_params *p, void *buf, size_t size))
{
	int (*real)(unsigned int, struct io_uring *, struct io_uring_params *, void *, size_t) = REAL(io_uring_queue_init_mem);

	return real ? real(entries, ring, p, buf, size) : -ENOSYS;
}
