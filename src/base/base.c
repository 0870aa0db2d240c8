/* SPDX-License-Identifier: MIT */
/* The end of a failed assertion: see base.h. */
#include "base/base.h"

#include <string.h>
#include <sys/uio.h>

#include "base/sys.h"

static struct iovec part(const char *text)
{
	return (struct iovec){.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
}

_Noreturn void gn_assert_failed(const char *what, const char *file, int line)
{
	char digits[12];
	char *p = digits + sizeof(digits) - 1;

	/* No stdio: the failure may be inside a signal handler or a half-dead process. */
	*p = '\0';
	do
		*--p = (char)('0' + line % 10);
	while (line /= 10);
	{
		const struct iovec iov[] = {part("gnezdo: assertion failed: "), part(what), part(" at "), part(file), part(":"),
					    part(p), part("\n")};

		gn_sys_writev(2, iov, (int)ARRAY_SIZE(iov));
	}
	__builtin_trap();
}
