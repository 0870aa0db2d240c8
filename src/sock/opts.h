/* SPDX-License-Identifier: MIT */
/* Remembered options: what opts.c and opts_kept.c share. */
#ifndef GN_SOCK_OPTS_H
#define GN_SOCK_OPTS_H

#include "sock/api.h"

struct gn_option *gn_option_find(const struct gn_sock *so, int level, int name); /* NULL: the program never set it */
void gn_option_note(struct gn_sock *so, int level, int name, const void *value, socklen_t len);
void gn_linger_note(struct gn_ep *ep, const void *value, socklen_t len); /* SO_LINGER */
/* The kernel took it: what the endpoint itself has to know. */
void gn_option_done(struct gn_sock *so, int level, int name, const void *value, socklen_t len);

#endif
