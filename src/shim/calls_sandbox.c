/* SPDX-License-Identifier: MIT */
/* The shim: prctl, by which a process may put itself under a seccomp filter. A filter of NULL is a question whether there are any. */
#include <linux/seccomp.h>
#include <stdarg.h>
#include <sys/prctl.h>

#include "shim/shim.h"

void gn_before_prctl(long op, unsigned long mode, const void *filter)
{
	if (op == PR_SET_SECCOMP && (mode == SECCOMP_MODE_STRICT || (mode == SECCOMP_MODE_FILTER && filter)))
		gn_sandbox();
}

void gn_before_seccomp(unsigned long op, const void *filter)
{
	if (op == SECCOMP_SET_MODE_STRICT || (op == SECCOMP_SET_MODE_FILTER && filter))
		gn_sandbox();
}

INTERPOSE(int, prctl, (int op, ...))
{
	unsigned long a, b, c, d;
	va_list args;

	va_start(args, op);
	a = va_arg(args, unsigned long);
	b = va_arg(args, unsigned long);
	c = va_arg(args, unsigned long);
	d = va_arg(args, unsigned long);
	va_end(args);
	gn_enter();
	gn_begin();
	gn_before_prctl(op, a, (const void *)(uintptr_t)b);
	gn_end();
	return gn_real.prctl(op, a, b, c, d);
}
