/* SPDX-License-Identifier: MIT */
/* As t_uring_linked, behind so much text that it is looked through piece by piece (src/sock/uring.c). */
__asm__(".text\n"
	"text_before:	.fill 6000000, 1, 0x90\n");

#define URING_INLINED
#include "t_uring.c"

int main(int argc, char **argv)
{
	return obs_main(argc, argv, cases);
}
