/* SPDX-License-Identifier: MIT */
/* Runs a child from point to point: see trace.h. Source: ptrace(2). */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "trace.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096u
#define TICK_US 2000
#define TICKS_ASLEEP 2
#define TICKS_FOR_EVER 200 /* asleep again, and nobody comes */

char task_state(pid_t pid)
{
	char path[40], buf[400], *p;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "r");
	if (!f)
		return 0;
	buf[fread(buf, 1, sizeof(buf) - 1, f)] = 0;
	fclose(f);
	p = strrchr(buf, ')');
	return p ? p[2] : 0;
}

#ifdef __x86_64__

/* The one instruction that the child is sent to for calls of ours, at the same address in all that were forked from the same program. */
__asm__(".text\n.globl trace_call_here\n.type trace_call_here, @function\ntrace_call_here:\n\tsyscall\n\tint3\n");
extern const char trace_call_here[];

void trace_end(void)
{
	__asm__ volatile("int3");
}

static void tick(int sig)
{
	(void)sig;
}

/* Stopped again; 'S': it sleeps in a call. 0: it has ended. */
static char next_stop(struct trace *t)
{
	int ticks = 0;

	while (waitpid(t->pid, &t->status, __WALL) != t->pid) {
		if (errno != EINTR)
			return 0;
		ticks = t->in_call && task_state(t->pid) == 'S' ? ticks + 1 : 0;
		if (ticks >= (t->woken ? TICKS_FOR_EVER : TICKS_ASLEEP))
			return 'S';
	}
	return WIFSTOPPED(t->status) ? 't' : 0;
}

static bool one_step(struct trace *t)
{
	int status;

	if (ptrace(PTRACE_SINGLESTEP, t->pid, NULL, NULL))
		return false;
	while (waitpid(t->pid, &status, __WALL) != t->pid)
		if (errno != EINTR)
			return false;
	t->status = status;
	return WIFSTOPPED(status);
}

/* A call of ours in the child `pid`, which is stopped, but not on its way into a call. */
static bool call_there(struct trace *t, long nr, uint64_t a, uint64_t b, uint64_t c)
{
	struct user_regs_struct before, regs;
	long rc;

	if (ptrace(PTRACE_GETREGS, t->pid, NULL, &before))
		return false;
	regs = before;
	regs.rip = (uint64_t)(uintptr_t)trace_call_here;
	regs.rax = (uint64_t)nr;
	regs.orig_rax = (uint64_t)-1;
	regs.rdi = a;
	regs.rsi = b;
	regs.rdx = c;
	if (ptrace(PTRACE_SETREGS, t->pid, NULL, &regs) || !one_step(t) || ptrace(PTRACE_GETREGS, t->pid, NULL, &regs))
		return false;
	rc = (long)regs.rax;
	return ptrace(PTRACE_SETREGS, t->pid, NULL, &before) == 0 && rc == 0;
}

static bool protect(struct trace *t, uint64_t at, uint64_t len, bool writable)
{
	return call_there(t, SYS_mprotect, at, len, PROT_READ | (writable ? PROT_WRITE : 0));
}

static void protect_all(struct trace *t, bool writable)
{
	for (int i = 0; i < t->regions; i++)
		protect(t, t->region[i].at, t->region[i].len, writable);
}

/* Shared mappings that are writable: new ones. */
static bool watch_new(struct trace *t)
{
	char path[40], line[512], perms[5], name[300];
	unsigned long from, to, offset;
	bool good = true;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", t->pid);
	f = fopen(path, "r");
	while (f && good && fgets(line, sizeof(line), f)) {
		name[0] = 0;
		if (sscanf(line, "%lx-%lx %4s %lx %*s %*s %299[^\n]", &from, &to, perms, &offset, name) < 4 || strcmp(perms, "rw-s") != 0 ||
		    from == (uintptr_t)t->own)
			continue;
		if (!t->rings && strstr(name, "gnezdo-segment")) {
			if (offset)
				continue;
			to = from + PAGE;
		}
		good = t->regions < TRACE_REGIONS && protect(t, from, to - from, false);
		if (good) {
			t->region[t->regions].at = from;
			t->region[t->regions++].len = to - from;
		}
	}
	if (f)
		fclose(f);
	return f && good;
}

static int region_of(const struct trace *t, uint64_t at)
{
	for (int i = 0; i < t->regions; i++)
		if (at - t->region[i].at < t->region[i].len)
			return i;
	return -1;
}

static void forget(struct trace *t, uint64_t at)
{
	int i = region_of(t, at);

	if (i >= 0)
		t->region[i] = t->region[--t->regions];
}

static bool is_fault(struct trace *t, uint64_t *at)
{
	siginfo_t info;

	if (!WIFSTOPPED(t->status) || WSTOPSIG(t->status) != SIGSEGV || ptrace(PTRACE_GETSIGINFO, t->pid, NULL, &info))
		return false;
	*at = (uint64_t)(uintptr_t)info.si_addr;
	return region_of(t, *at) >= 0;
}

/* The store that faulted, which may touch two pages. */
static bool store(struct trace *t, uint64_t at)
{
	uint64_t page[2];
	int n = 0;
	bool good = true;

	for (; n < 2; n++) {
		page[n] = at & ~(uint64_t)(PAGE - 1);
		if (!protect(t, page[n], PAGE, true) || !one_step(t))
			return false;
		if (!is_fault(t, &at))
			break;
	}
	for (int i = 0; i <= n && i < 2; i++)
		good &= protect(t, page[i], PAGE, false);
	return good;
}

/* The child of a fork() is nobody's prey: it may write, and goes its way. */
static bool release_child(struct trace *t)
{
	unsigned long pid = 0;
	struct trace child = *t;

	if (ptrace(PTRACE_GETEVENTMSG, t->pid, NULL, &pid))
		return false;
	child.pid = (pid_t)pid;
	while (waitpid(child.pid, &child.status, __WALL) != child.pid)
		if (errno != EINTR)
			return false;
	protect_all(&child, true);
	return ptrace(PTRACE_DETACH, child.pid, NULL, NULL) == 0;
}

/* Behind a call. */
static bool call_ended(struct trace *t)
{
	struct user_regs_struct regs;

	if (ptrace(PTRACE_GETREGS, t->pid, NULL, &regs))
		return false;
	if (regs.orig_rax == SYS_mmap && (regs.r10 & MAP_SHARED))
		return watch_new(t);
	if (regs.orig_rax == SYS_munmap)
		forget(t, regs.rdi);
	if ((long)regs.rax != -EFAULT || (region_of(t, regs.rdi) < 0 && region_of(t, regs.rsi) < 0 && region_of(t, regs.rdx) < 0))
		return true;
	/* It was to write where only we forbid it: once more. */
	protect_all(t, true);
	regs.rip -= 2;
	regs.rax = regs.orig_rax;
	if (ptrace(PTRACE_SETREGS, t->pid, NULL, &regs))
		return false;
	for (int i = 0; i < 2; i++)
		if (ptrace(PTRACE_SYSCALL, t->pid, NULL, NULL) || next_stop(t) != 't')
			return false;
	protect_all(t, false);
	return true;
}

bool trace_begin(struct trace *t)
{
	t->regions = 0;
	t->woken = t->sleeps = t->in_call = false;
	return ptrace(PTRACE_SETOPTIONS, t->pid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL) == 0 &&
	       watch_new(t);
}

enum next { POINT, ON, OVER, WRONG };

/* From where it stands to its next stop; *fault: the store that it is about to make; *sig: what it is to be given then. */
static enum next next(struct trace *t, int *sig, uint64_t *fault)
{
	if (t->sleeps) {
		t->sleeps = false;
		t->woken = true;
		t->wake(t->arg);
	} else if (ptrace(PTRACE_SYSCALL, t->pid, NULL, (void *)(long)*sig)) {
		return OVER;
	}
	*fault = 0;
	*sig = 0;
	switch (next_stop(t)) {
	case 0:
		return OVER;
	case 'S':
		t->sleeps = !t->woken;
		return t->woken ? OVER : POINT;
	}
	if (is_fault(t, fault))
		return POINT;
	if (WSTOPSIG(t->status) == (SIGTRAP | 0x80)) {
		t->in_call = !t->in_call;
		return t->in_call || call_ended(t) ? POINT : WRONG;
	}
	if (t->status >> 8 == (SIGTRAP | PTRACE_EVENT_FORK << 8))
		return release_child(t) ? ON : WRONG;
	if (WSTOPSIG(t->status) == SIGTRAP) /* trace_end(), or another program begins */
		return OVER;
	*sig = WSTOPSIG(t->status);
	return ON;
}

static long run(struct trace *t, long point)
{
	uint64_t fault = 0;
	int sig = 0;

	for (long passed = 0;;) {
		switch (next(t, &sig, &fault)) {
		case POINT:
			if (passed == point)
				return passed;
			passed++;
			if (t->most && passed >= t->most)
				return passed;
			if (t->most && passed == t->most / 2 && !t->woken) {
				t->woken = true;
				t->wake(t->arg);
			}
			if (fault && !store(t, fault))
				return -1;
			break;
		case OVER:
			return passed;
		case WRONG:
			return -1;
		case ON:
			break;
		}
	}
}

long trace_run(struct trace *t, long point)
{
	const struct itimerval on = { { 0, TICK_US }, { 0, TICK_US } }, off = { 0 };
	struct sigaction sa = { .sa_handler = tick };
	long passed;

	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &on, NULL);
	passed = run(t, point);
	setitimer(ITIMER_REAL, &off, NULL);
	signal(SIGALRM, SIG_DFL);
	return passed;
}

const char *trace_where(struct trace *t)
{
	static char text[200];
	char path[40], line[512], name[300];
	struct user_regs_struct regs;
	unsigned long from, to, offset;
	FILE *f;

	if (ptrace(PTRACE_GETREGS, t->pid, NULL, &regs))
		return "asleep, or over";
	snprintf(text, sizeof(text), "at %llx, call %lld", regs.rip, (long long)regs.orig_rax);
	snprintf(path, sizeof(path), "/proc/%d/maps", t->pid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f)) {
		name[0] = 0;
		if (sscanf(line, "%lx-%lx %*s %lx %*s %*s %299[^\n]", &from, &to, &offset, name) >= 3 && regs.rip >= from && regs.rip < to)
			snprintf(text, sizeof(text), "at %.100s+0x%llx, call %lld", strrchr(name, '/') ? strrchr(name, '/') + 1 : name,
				 regs.rip - from + offset, (long long)regs.orig_rax);
	}
	if (f)
		fclose(f);
	return text;
}

#else

void trace_end(void)
{
}

bool trace_begin(struct trace *t)
{
	(void)t;
	return false;
}

long trace_run(struct trace *t, long point)
{
	(void)t;
	(void)point;
	return -1;
}

const char *trace_where(struct trace *t)
{
	(void)t;
	return "";
}

#endif
