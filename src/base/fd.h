/* SPDX-License-Identifier: MIT */
/* Descriptors of gnezdo's own, kept out of the program's way. */
#ifndef GN_BASE_FD_H
#define GN_BASE_FD_H

/* Moves `fd` to a high number, close-on-exec, and closes the low one. Returns the new number, or `fd` itself when there is no room. */
int gn_fd_raise(int fd);

#endif
