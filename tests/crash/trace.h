/* SPDX-License-Identifier: MIT */
/*
 * Runs a child from one point to the next at which something has changed that outlives it.
 *
 * What a killed process leaves behind is in memory that others share, and in the kernel. So all its instructions between two stores to shared
 * memory, two system calls, or one of each, leave the same, and a kill at the last of them stands for a kill at each. The points are:
 *   - before each store to shared memory: its mappings are held read-only, each store faults, is made by one single step, and they are
 *     read-only again. An atomic operation counts, whether it stores or not; a store that repeats itself (rep movs) counts once for each round.
 *     The last point of a call stands for what follows the last store;
 *   - before each system call, and behind it;
 *   - in it, when it sleeps there.
 * Not watched: the harness's own shared page and, where the trace says so, the bytes of the rings. Of these nothing but what an index in
 * the header or in the pool has made visible is read, and the store of that is a point.
 *
 * x86-64 only: a call of mprotect() is put into the child's way. Owner: one thread, the child's parent.
 */
#ifndef CRASH_TRACE_H
#define CRASH_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define TRACE_REGIONS 16

struct trace {
	pid_t pid;
	const void *own;          /* a shared page that is not watched */
	bool rings;               /* the rings' bytes are watched too */
	void (*wake)(void *arg);  /* called once, when the child sleeps in the kernel */
	void *arg;
	long most;                /* not 0: after as many points it only naps and looks, again and again; it is woken after half of them */

	struct { uint64_t at, len; } region[TRACE_REGIONS];
	int regions;
	bool woken, sleeps, in_call;
	int status;               /* of the last stop */
};

/* The child stopped by itself after PTRACE_TRACEME. False: it cannot be traced. */
bool trace_begin(struct trace *t);

/* To the point-th point (0: the first), or until the child has come to trace_end() or has ended. Points that it has passed: `point` when it
 * stands there. -1: it does what it should not. */
long trace_run(struct trace *t, long point);

/* Where it stands, for who looks for the reason: offsets are those of the file. */
const char *trace_where(struct trace *t);

/* In the child: the call is over. */
void trace_end(void);

/* The state letter of a process in /proc/PID/stat, 0 when there is none. */
char task_state(pid_t pid);

#endif
