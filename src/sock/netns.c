/* SPDX-License-Identifier: MIT */
/*
 * Network namespaces. A socket belongs for ever to the one that its maker was in; the names that gnezdo makes and looks for, and its questions
 * to the kernel, belong to the one that the calling thread is in. Where the two are not the same the socket is the kernel's alone. [LANE-1]
 *
 * Threads/owner: gn_world.net_moved is set before the first move and never taken back; forked children have it. A thread that never moved has
 * sockets of elsewhere from one that did. From another process come listeners, which get no face here, and connections, which stay as they are.
 */
#include <sched.h>

#include "sock/api.h"

#define NETNS_COOKIE 71 /* SO_NETNS_COOKIE: asm-generic/socket.h, Linux 5.14 */

void gn_net_moves(int flags)
{
	if (!(flags & CLONE_NEWNET))
		return;
	gn_world.net_moved = true;
	gn_early_leave(); /* here is where they were made */
}

static bool cookie_of(int fd, uint64_t *cookie)
{
	socklen_t len = sizeof *cookie;

	return gn_sys_getsockopt(fd, SOL_SOCKET, NETNS_COOKIE, cookie, &len) == 0;
}

/* What a kernel does not tell, or no descriptor is free to ask for, counts as elsewhere. */
bool gn_is_elsewhere_slow(int fd)
{
	uint64_t here, there;
	int fresh = gn_sys_socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool same;

	if (fresh < 0)
		return true;
	same = cookie_of(fresh, &here) && cookie_of(fd, &there) && here == there;
	gn_sys_close(fresh);
	return !same;
}
