/* SPDX-License-Identifier: MIT */
/* Small helpers over the bare system calls: see sys.h. */
#include "base/sys.h"

#include <errno.h>

ssize_t gn_sys_read_file(const char *path, char *buf, size_t size)
{
	int fd = gn_sys_open(path, O_RDONLY | O_CLOEXEC, 0);
	size_t used = 0;
	ssize_t got = 0;

	if (fd < 0)
		return fd;
	while (used < size - 1) {
		got = gn_sys_read(fd, buf + used, size - 1 - used);
		if (got == -EINTR)
			continue;
		if (got <= 0)
			break;
		used += (size_t)got;
	}
	gn_sys_close(fd);
	if (got < 0)
		return got;
	buf[used] = '\0';
	return (ssize_t)used;
}

bool gn_sys_proc_is_ours(void)
{
	char text[16];
	ssize_t len = gn_sys_readlink("/proc/self", text, sizeof(text));
	pid_t pid = 0;

	for (ssize_t i = 0; i < len; i++)
		pid = pid * 10 + (text[i] - '0');
	return len > 0 && pid == gn_sys_getpid();
}

int gn_sys_read_number(const char *path, long *value)
{
	char text[32];
	ssize_t len = gn_sys_read_file(path, text, sizeof(text));
	const char *p = text;
	long n = 0;
	int minus;

	if (len < 0)
		return (int)len;
	minus = *p == '-';
	p += minus;
	if (*p < '0' || *p > '9')
		return -EINVAL;
	for (; *p >= '0' && *p <= '9'; p++)
		if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, *p - '0', &n))
			return -EINVAL;
	if (*p && *p != '\n')
		return -EINVAL;
	*value = minus ? -n : n;
	return 0;
}
