/* SPDX-License-Identifier: MIT */
/* The cases of t_uring in a program that makes io_uring's system calls itself, as one with liburing linked in does: it stays in the kernel lane. */
#define URING_INLINED
#include "t_uring.c"

int main(int argc, char **argv)
{
	return obs_main(argc, argv, cases);
}
