/* SPDX-License-Identifier: MIT */
/* Descriptors of gnezdo's own: see fd.h. Source: fcntl(2), getrlimit(2). */
#include "base/fd.h"

#include <errno.h>
#include <sys/resource.h>

#include "base/base.h"
#include "base/sys.h"

/* High, but not as high as the limit: the kernel's table of a process is as long as its highest number, and fork copies it. */
#define HIGH 960

#define LOW (HIGH + 32) /* below such a limit each number is the program's */
#define LIFT 64

static struct rlimit limit_now(void)
{
	struct rlimit limit = {1024, 1024};

	gn_raw6(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, (long)&limit, 0, 0);
	return limit;
}

bool gn_fd_is_scarce(void)
{
	struct rlimit limit = limit_now();

	return limit.rlim_cur < LOW && limit.rlim_max <= limit.rlim_cur;
}

bool gn_fd_is_allowed(int fd)
{
	return fd >= 0 && (rlim_t)fd < limit_now().rlim_cur;
}

/* A descriptor keeps its number when the limit sinks below it: so there is room above that the program never sees. */
static int copy_above(int fd, const struct rlimit *limit)
{
	struct rlimit high = {GN_MIN(limit->rlim_cur + LIFT, limit->rlim_max), limit->rlim_max}, was = high;
	int copy;

	if (gn_raw6(SYS_prlimit64, 0, RLIMIT_NOFILE, (long)&high, 0, 0, 0) < 0)
		return -EMFILE;
	copy = gn_sys_fcntl(fd, F_DUPFD_CLOEXEC, (int)limit->rlim_cur);
	gn_raw6(SYS_prlimit64, 0, RLIMIT_NOFILE, (long)limit, (long)&was, 0, 0);
	if (was.rlim_cur != high.rlim_cur || was.rlim_max != high.rlim_max) /* another thread of the program's, meanwhile */
		gn_raw6(SYS_prlimit64, 0, RLIMIT_NOFILE, (long)&was, 0, 0, 0);
	return copy;
}

int gn_fd_copy(int fd)
{
	struct rlimit limit = limit_now();
	int copy = -EMFILE;

	if (limit.rlim_cur >= LOW)
		return gn_sys_fcntl(fd, F_DUPFD_CLOEXEC, HIGH);
	if (limit.rlim_max > limit.rlim_cur)
		copy = copy_above(fd, &limit);
	return copy >= 0 ? copy : gn_sys_fcntl(fd, F_DUPFD_CLOEXEC, (int)(limit.rlim_cur - limit.rlim_cur / 8));
}

int gn_fd_raise(int fd)
{
	int high = gn_fd_copy(fd);

	if (high < 0)
		return fd;
	gn_sys_close(fd);
	return high;
}
