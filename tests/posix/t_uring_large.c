/* SPDX-License-Identifier: MIT */
/* The same as t_uring_linked in a program with so much text before that call that it is looked through piece by piece (src/sock/uring.c). */
__asm__(".text\n"
	"text_before:	.fill 6000000, 1, 0x90\n");

#include "t_uring_linked.c"
