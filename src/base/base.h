/* SPDX-License-Identifier: MIT */
/* The few words that C lacks. */
#ifndef GN_BASE_BASE_H
#define GN_BASE_BASE_H

#include <stddef.h>
#include <stdint.h>

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* A function that there is once in the library: it holds labels. */
#ifdef __clang__
#define GN_ONE_COPY __attribute__((noinline))
#else
#define GN_ONE_COPY __attribute__((noinline, noclone))
#endif

/* Large and seldom written: behind the small variables (the linker sorts by name), which a forked child then finds on one page. */
#define GN_BULK __attribute__((section(".bss.zz_bulk")))

/* The last of the small ones. */
#define GN_SHARED_PAGE __attribute__((section(".bss.zy_shared")))

/* The struct of `type` whose `member` is at `ptr`. */
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr) - offsetof(type, member)))

/* Of two values of the same type, each evaluated once: it may be a look at what others change. Not for constant expressions. */
#define GN_MIN(a, b) GN_CHOOSE_(a, <, b, __COUNTER__)
#define GN_MAX(a, b) GN_CHOOSE_(a, >, b, __COUNTER__)
#define GN_CHOOSE_(a, op, b, n) GN_CHOOSE_NAMED_(a, op, b, n)
#ifdef __cppcheck__ /* cannot read the other one in an initializer */
#define GN_CHOOSE_NAMED_(a, op, b, n) ((a) op (b) ? (a) : (b))
#else
#define GN_CHOOSE_NAMED_(a, op, b, n) \
	__extension__({ __auto_type gn_a_##n = (a); __auto_type gn_b_##n = (b); gn_a_##n op gn_b_##n ? gn_a_##n : gn_b_##n; })
#endif

/* For what we did wrong ourselves; what a peer does wrong is an error value. NDEBUG: the expression is not evaluated. */
#ifdef NDEBUG
#define GN_ASSERT(x) ((void)sizeof(!(x)))
#else
#define GN_ASSERT(x) (likely(x) ? (void)0 : gn_assert_failed(#x, __FILE__, __LINE__))
#endif

/* Says so on stderr in one write(2) and traps. */
_Noreturn void gn_assert_failed(const char *what, const char *file, int line);

#endif
