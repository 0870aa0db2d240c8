/* SPDX-License-Identifier: MIT */
/*
 * Libc's own functions behind the ones that the shim replaces. The one table of this kind in the process; filled once, by the shim's
 * look-up (dlsym RTLD_NEXT), before any of them is used.
 *
 * Modules use it for calls that may block, because libc's are cancellation points and restart after signals as the program expects;
 * whatever never blocks goes through base/sys.h.
 */
#ifndef GN_BASE_REAL_H
#define GN_BASE_REAL_H

#include <aio.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <wordexp.h>

struct gn_real_calls {
#define GN_CALL(result, name, params) result(*name) params;
#include "base/calls.def"
#undef GN_CALL
};

extern struct gn_real_calls gn_real;

#endif
