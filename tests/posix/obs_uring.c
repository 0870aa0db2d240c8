/* SPDX-License-Identifier: MIT */
/* A small io_uring, see obs_uring.h. */
#include "obs_uring.h"

#include <sys/mman.h>
#include <sys/syscall.h>

static long by_libc(long nr, long a, long b, long c, long d)
{
	return syscall(nr, a, b, c, d, 0L, 0L);
}

bool uring_open(struct uring *u, uring_call *call)
{
	struct io_uring_params p = { 0 };
	char *sq, *cq;

	u->call = call ? call : by_libc;
	u->fd = (int)u->call(SYS_io_uring_setup, 8, (long)&p, 0, 0);
	if (u->fd < 0) {
		note("no io_uring here");
		return false;
	}
	sq = mmap(NULL, p.sq_off.array + p.sq_entries * sizeof(unsigned int), PROT_READ | PROT_WRITE, MAP_SHARED, u->fd, IORING_OFF_SQ_RING);
	cq = mmap(NULL, p.cq_off.cqes + p.cq_entries * sizeof(*u->cqes), PROT_READ | PROT_WRITE, MAP_SHARED, u->fd, IORING_OFF_CQ_RING);
	u->sqes = mmap(NULL, p.sq_entries * sizeof(*u->sqes), PROT_READ | PROT_WRITE, MAP_SHARED, u->fd, IORING_OFF_SQES);
	if (sq == MAP_FAILED || cq == MAP_FAILED || u->sqes == MAP_FAILED)
		die("mmap");
	u->sq_tail = (unsigned int *)(sq + p.sq_off.tail);
	u->sq_mask = (unsigned int *)(sq + p.sq_off.ring_mask);
	u->sq_array = (unsigned int *)(sq + p.sq_off.array);
	u->cq_head = (unsigned int *)(cq + p.cq_off.head);
	u->cq_tail = (unsigned int *)(cq + p.cq_off.tail);
	u->cq_mask = (unsigned int *)(cq + p.cq_off.ring_mask);
	u->cqes = (struct io_uring_cqe *)(cq + p.cq_off.cqes);
	return true;
}

long uring_request(struct uring *u, int op, int fd, void *addr, unsigned int len, unsigned int flags)
{
	unsigned int tail = *u->sq_tail, at = tail & *u->sq_mask, head = *u->cq_head;
	long rc;

	memset(&u->sqes[at], 0, sizeof(u->sqes[at]));
	u->sqes[at].opcode = (uint8_t)op;
	u->sqes[at].fd = fd;
	u->sqes[at].addr = (uint64_t)(uintptr_t)addr;
	u->sqes[at].len = len;
	u->sqes[at].msg_flags = flags;
	u->sq_array[at] = at;
	__atomic_store_n(u->sq_tail, tail + 1, __ATOMIC_RELEASE);
	if (u->call(SYS_io_uring_enter, u->fd, 1, 1, IORING_ENTER_GETEVENTS) < 0)
		return -1;
	if (__atomic_load_n(u->cq_tail, __ATOMIC_ACQUIRE) == head)
		die("no completion");
	rc = u->cqes[head & *u->cq_mask].res;
	__atomic_store_n(u->cq_head, head + 1, __ATOMIC_RELEASE);
	errno = rc < 0 ? (int)-rc : 0;
	return rc < 0 ? -1 : rc;
}
