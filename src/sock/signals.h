/* SPDX-License-Identifier: MIT */
/* The program's signal handlers, behind one of ours: theory in sleep.h. */
#ifndef GN_SOCK_SIGNALS_H
#define GN_SOCK_SIGNALS_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>

/* As the kernel's rt_sigaction(2) has it. */
struct gn_kernel_action {
	uintptr_t handler;
	unsigned long flags;
	uintptr_t restorer;
	uint64_t mask;
};

/* As sigaction(2), signal(3) and its relatives. 0 or -errno; gn_signal: the handler of before, or SIG_ERR with *error. */
int gn_sigaction(int sig, const struct sigaction *act, struct sigaction *old);
int gn_sigaction_raw(int sig, const struct gn_kernel_action *act, struct gn_kernel_action *old, size_t size);
int gn_siginterrupt(int sig, int on);
sighandler_t gn_signal_bsd(int sig, sighandler_t handler, int *error);
sighandler_t gn_signal_sysv(int sig, sighandler_t handler, int *error);
sighandler_t gn_sigset(int sig, sighandler_t handler, int *error);
void gn_signals_forked(void); /* in the child */
void gn_signals_sandbox(void); /* gn_world.sandboxed has begun, its filter has not */

#endif
