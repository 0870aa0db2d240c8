/* SPDX-License-Identifier: MIT */
/* Descriptors of gnezdo's own: see fd.h. Source: fcntl(2), getrlimit(2). */
#include "base/fd.h"

#include <sys/resource.h>

#include "base/sys.h"

/* High, but not as high as the limit: the kernel's table of a process is as long as its highest number, and fork copies it. */
#define HIGH 960

int gn_fd_raise(int fd)
{
	struct rlimit limit = {.rlim_cur = 1024};
	int high;

	gn_raw6(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, (long)&limit, 0, 0);
	high = limit.rlim_cur > HIGH + 32 ? HIGH : (int)(limit.rlim_cur - limit.rlim_cur / 8);
	high = gn_sys_fcntl(fd, F_DUPFD_CLOEXEC, high);
	if (high < 0)
		return fd;
	gn_sys_close(fd);
	return high;
}
