/* SPDX-License-Identifier: MIT */
/* Looks at a program before it is run: will the dynamic linker load a preloaded library into it? */
#ifndef GN_CLI_PROGRAM_H
#define GN_CLI_PROGRAM_H

#include <stddef.h>

enum program_kind {
	PROGRAM_DYNAMIC,   /* takes a preload, or cannot be told */
	PROGRAM_STATIC,    /* no dynamic linker */
	PROGRAM_PRIVILEGED,/* setuid, setgid or file capabilities: the dynamic linker ignores preloads */
	PROGRAM_FOREIGN,   /* another word size, machine or C library: the preload must not even be tried */
};

/* Finds `name` as execvp() does. -ENOENT, -EACCES, -ENAMETOOLONG. */
int program_find(const char *name, char *to, size_t size);

/* Follows #! lines to the interpreter that the kernel would start. */
enum program_kind program_kind(const char *path);

#endif
