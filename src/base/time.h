/* SPDX-License-Identifier: MIT */
/*
 * Time and the processor's own clock. Units: nanoseconds of CLOCK_MONOTONIC unless named otherwise.
 *
 * clock_gettime() is the one libc call that base makes: it is answered in user space (vdso) and no shim replaces it.
 */
#ifndef GN_BASE_TIME_H
#define GN_BASE_TIME_H

#include <stdint.h>
#include <time.h>

#define GN_NS_PER_US 1000ull
#define GN_NS_PER_MS 1000000ull
#define GN_NS_PER_S 1000000000ull

static inline uint64_t gn_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * GN_NS_PER_S + (uint64_t)ts.tv_nsec;
}

static inline struct timespec gn_timespec(uint64_t ns)
{
	return (struct timespec){.tv_sec = (time_t)(ns / GN_NS_PER_S), .tv_nsec = (long)(ns % GN_NS_PER_S)};
}

/* In a loop that waits for another processor: gives the core's other hyperthread, and a hypervisor, a hint. */
static inline void gn_cpu_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("isb" ::: "memory"); /* `yield` is a no-op on most cores; this really waits a little */
#endif
}

/* Ticks of the processor's counter, for measuring spans of a spin without a clock's cost: monotonic enough on one machine, its unit
 * is not known here. Compare spans with gn_now_ns() to learn it. */
static inline uint64_t gn_ticks(void)
{
#if defined(__x86_64__)
	return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
	uint64_t t;

	__asm__ volatile("mrs %0, cntvct_el0" : "=r"(t));
	return t;
#endif
}

#endif
