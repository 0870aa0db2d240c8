/* SPDX-License-Identifier: MIT */
/* The few words that C lacks. */
#ifndef GN_BASE_BASE_H
#define GN_BASE_BASE_H

#include <stddef.h>
#include <stdint.h>

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* The struct of `type` whose `member` is at `ptr`. */
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr) - offsetof(type, member)))

/* Both arguments are evaluated once and must have the same type, as the macros in every kernel. */
#define GN_MIN(a, b) __extension__({ __typeof__(a) min_a_ = (a); __typeof__(b) min_b_ = (b); \
	(void)(&min_a_ == &min_b_); min_a_ < min_b_ ? min_a_ : min_b_; })
#define GN_MAX(a, b) __extension__({ __typeof__(a) max_a_ = (a); __typeof__(b) max_b_ = (b); \
	(void)(&max_a_ == &max_b_); max_a_ > max_b_ ? max_a_ : max_b_; })

/* For what we did wrong ourselves; what a peer does wrong is an error value. NDEBUG: the expression is not evaluated. */
#ifdef NDEBUG
#define GN_ASSERT(x) ((void)sizeof(!(x)))
#else
#define GN_ASSERT(x) (likely(x) ? (void)0 : gn_assert_failed(#x, __FILE__, __LINE__))
#endif

/* Says so on stderr in one write(2) and traps. */
_Noreturn void gn_assert_failed(const char *what, const char *file, int line);

#endif
