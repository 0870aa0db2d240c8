/* SPDX-License-Identifier: MIT */
/* What the parts of the differential tests' helper share among themselves. */
#ifndef OBS_IMPL_H
#define OBS_IMPL_H

#include "obs.h"

#define PEER_PATIENCE_MS 4000
#define LONG_PATIENCE_MS 30000
#define REPLY_TEXT 2000

struct obs_kind {
	uint32_t kind;
	const char *name;
	int domain, type;
};

extern int64_t peer_patience_ms; /* of the case that runs */
extern const struct obs_kind obs_kinds[];
extern const size_t obs_kinds_count;
extern char obs_dir_name[64];
extern char obs_self[512]; /* the path of this program */

void obs_spell(char *to, size_t room, const unsigned char *p, long n); /* bytes as text, others as \xNN */

/* Starts the peer with its end `fd` (-1: none yet); the caller's o->fd is not inherited. */
void peer_begin(struct obs *o, int fd);

/* Ends the peer: exit statuses and lane counts come out before the case is over. */
void peer_end(struct obs *o);

/* The peer's main when it was started anew. argv: --peer REQ REP FD KIND DIR */
int peer_process(char **argv);

#endif
