/* SPDX-License-Identifier: MIT */
/* Descriptors of gnezdo's own, kept out of the program's way. */
#ifndef GN_BASE_FD_H
#define GN_BASE_FD_H

#include <stdbool.h>

/* So few descriptors, and none above the program's limit, that one of ours would be missed. What needs one for long is left to the kernel then. */
bool gn_fd_is_scarce(void);

/* Is it a number that a new descriptor may have now? */
bool gn_fd_is_allowed(int fd);

/* A copy of `fd` with a high number, above the program's limit if that is low, close-on-exec; or -errno. */
int gn_fd_copy(int fd);

/* Moves `fd` to a high number, close-on-exec, and closes the low one. Returns the new number, or `fd` itself when there is no room. */
int gn_fd_raise(int fd);

#endif
