/* SPDX-License-Identifier: MIT */
/* A small io_uring, for one request at a time. */
#ifndef OBS_URING_H
#define OBS_URING_H

#include "obs.h"

#include <linux/io_uring.h>

typedef long uring_call(long nr, long a, long b, long c, long d);

struct uring {
	int fd;
	uring_call *call;
	unsigned int *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
};

bool uring_open(struct uring *u, uring_call *call); /* call: who makes its system calls, NULL: libc; false: there is none here, as is noted */
long uring_request(struct uring *u, int op, int fd, void *addr, unsigned int len, unsigned int flags); /* its result; -1 and errno */

#endif
