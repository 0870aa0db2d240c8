/* SPDX-License-Identifier: MIT */
/*
 * System calls as the kernel sees them, for code that lives under the shim.
 *
 * The shim replaces socket(), connect(), close() and so on in the whole process, our own library included, and a libc call may be
 * a cancellation point or touch errno in the middle of a program's call. So modules call the kernel directly: no symbol that can
 * be interposed, no errno, no cancellation point, safe in signal handlers and after vfork().
 *
 * Each gn_sys_X() takes what X(2) takes and returns what the kernel returns: a result, or -errno. Nothing here retries EINTR.
 * Needs _GNU_SOURCE. ThreadSanitizer does not see an order through these calls (a byte in a socket orders nothing for it).
 */
#ifndef GN_BASE_SYS_H
#define GN_BASE_SYS_H

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#if defined(__clang_analyzer__) /* it sees no writes in assembly; an unknown function may write through what it is given */

long gn_raw6(long nr, long a, long b, long c, long d, long e, long f);
long gn_raw3(long nr, long a, long b, long c);

#elif defined(__x86_64__) && defined(__LP64__)

static inline long gn_raw6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}

/* Fewer arguments: the kernel ignores the registers that a call does not take, so they need not be loaded. */
static inline long gn_raw3(long nr, long a, long b, long c)
{
	long ret;

	__asm__ volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
	return ret;
}

#elif defined(__aarch64__) && defined(__LP64__)

static inline long gn_raw6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ volatile("svc #0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory", "cc");
	return x0;
}

static inline long gn_raw3(long nr, long a, long b, long c)
{
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;

	__asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory", "cc");
	return x0;
}

#else
#error "gnezdo knows the system call instruction of x86-64 and aarch64 only"
#endif

/* The kernel's sigset_t; libc's is larger. */
#define GN_SIGSET_BYTES 8

/* Sockets */

static inline int gn_sys_socket(int domain, int type, int protocol)
{
	return (int)gn_raw3(SYS_socket, domain, type, protocol);
}

static inline int gn_sys_socketpair(int domain, int type, int protocol, int fd[2])
{
	return (int)gn_raw6(SYS_socketpair, domain, type, protocol, (long)fd, 0, 0);
}

static inline int gn_sys_bind(int fd, const void *addr, socklen_t len)
{
	return (int)gn_raw3(SYS_bind, fd, (long)addr, (long)len);
}

static inline int gn_sys_connect(int fd, const void *addr, socklen_t len)
{
	return (int)gn_raw3(SYS_connect, fd, (long)addr, (long)len);
}

static inline int gn_sys_listen(int fd, int backlog)
{
	return (int)gn_raw3(SYS_listen, fd, backlog, 0);
}

static inline int gn_sys_accept4(int fd, void *addr, socklen_t *len, int flags)
{
	return (int)gn_raw6(SYS_accept4, fd, (long)addr, (long)len, flags, 0, 0);
}

static inline int gn_sys_shutdown(int fd, int how)
{
	return (int)gn_raw3(SYS_shutdown, fd, how, 0);
}

static inline int gn_sys_getsockname(int fd, void *addr, socklen_t *len)
{
	return (int)gn_raw3(SYS_getsockname, fd, (long)addr, (long)len);
}

static inline int gn_sys_getpeername(int fd, void *addr, socklen_t *len)
{
	return (int)gn_raw3(SYS_getpeername, fd, (long)addr, (long)len);
}

static inline int gn_sys_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	return (int)gn_raw6(SYS_getsockopt, fd, level, name, (long)value, (long)len, 0);
}

static inline int gn_sys_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	return (int)gn_raw6(SYS_setsockopt, fd, level, name, (long)value, (long)len, 0);
}

static inline ssize_t gn_sys_sendto(int fd, const void *buf, size_t len, int flags, const void *addr, socklen_t addr_len)
{
	return gn_raw6(SYS_sendto, fd, (long)buf, (long)len, flags, (long)addr, (long)addr_len);
}

static inline ssize_t gn_sys_recvfrom(int fd, void *buf, size_t len, int flags, void *addr, socklen_t *addr_len)
{
	return gn_raw6(SYS_recvfrom, fd, (long)buf, (long)len, flags, (long)addr, (long)addr_len);
}

static inline ssize_t gn_sys_send(int fd, const void *buf, size_t len, int flags)
{
	return gn_sys_sendto(fd, buf, len, flags, NULL, 0);
}

static inline ssize_t gn_sys_recv(int fd, void *buf, size_t len, int flags)
{
	return gn_sys_recvfrom(fd, buf, len, flags, NULL, NULL);
}

static inline ssize_t gn_sys_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	return gn_raw3(SYS_sendmsg, fd, (long)msg, flags);
}

static inline ssize_t gn_sys_recvmsg(int fd, struct msghdr *msg, int flags)
{
	return gn_raw3(SYS_recvmsg, fd, (long)msg, flags);
}

static inline int gn_sys_sendmmsg(int fd, struct mmsghdr *msgs, unsigned int count, int flags)
{
	return (int)gn_raw6(SYS_sendmmsg, fd, (long)msgs, (long)count, flags, 0, 0);
}

/* The kernel writes what is left into `timeout`, as recvmmsg(2) says. */
static inline int gn_sys_recvmmsg(int fd, struct mmsghdr *msgs, unsigned int count, int flags, struct timespec *timeout)
{
	return (int)gn_raw6(SYS_recvmmsg, fd, (long)msgs, (long)count, flags, (long)timeout, 0);
}

/* Descriptors and files */

static inline int gn_sys_close(int fd)
{
	return (int)gn_raw3(SYS_close, fd, 0, 0);
}

static inline int gn_sys_close_range(unsigned int first, unsigned int last, unsigned int flags)
{
	return (int)gn_raw3(SYS_close_range, (long)first, (long)last, (long)flags);
}

static inline int gn_sys_dup(int fd)
{
	return (int)gn_raw3(SYS_dup, fd, 0, 0);
}

/* Unlike dup2(), refuses `from` == `to` with -EINVAL. */
static inline int gn_sys_dup3(int from, int to, int flags)
{
	return (int)gn_raw3(SYS_dup3, from, to, flags);
}

/* `arg` is a number or a pointer cast to long, as the command wants. */
static inline int gn_sys_fcntl(int fd, int cmd, long arg)
{
	return (int)gn_raw3(SYS_fcntl, fd, cmd, arg);
}

static inline int gn_sys_ioctl(int fd, unsigned long request, void *arg)
{
	return (int)gn_raw3(SYS_ioctl, fd, (long)request, (long)arg);
}

static inline int gn_sys_openat(int dir, const char *path, int flags, mode_t mode)
{
	return (int)gn_raw6(SYS_openat, dir, (long)path, flags, (long)mode, 0, 0);
}

static inline int gn_sys_open(const char *path, int flags, mode_t mode)
{
	return gn_sys_openat(AT_FDCWD, path, flags, mode);
}

static inline int gn_sys_pipe2(int fd[2], int flags)
{
	return (int)gn_raw3(SYS_pipe2, (long)fd, flags, 0);
}

static inline ssize_t gn_sys_read(int fd, void *buf, size_t len)
{
	return gn_raw3(SYS_read, fd, (long)buf, (long)len);
}

static inline ssize_t gn_sys_write(int fd, const void *buf, size_t len)
{
	return gn_raw3(SYS_write, fd, (long)buf, (long)len);
}

static inline ssize_t gn_sys_readv(int fd, const struct iovec *iov, int count)
{
	return gn_raw3(SYS_readv, fd, (long)iov, count);
}

static inline ssize_t gn_sys_writev(int fd, const struct iovec *iov, int count)
{
	return gn_raw3(SYS_writev, fd, (long)iov, count);
}

static inline ssize_t gn_sys_pread(int fd, void *buf, size_t len, off_t at)
{
	return gn_raw6(SYS_pread64, fd, (long)buf, (long)len, at, 0, 0);
}

static inline ssize_t gn_sys_pwrite(int fd, const void *buf, size_t len, off_t at)
{
	return gn_raw6(SYS_pwrite64, fd, (long)buf, (long)len, at, 0, 0);
}

static inline ssize_t gn_sys_sendfile(int to, int from, off_t *at, size_t len)
{
	return gn_raw6(SYS_sendfile, to, from, (long)at, (long)len, 0, 0);
}

static inline ssize_t gn_sys_splice(int from, off_t *from_at, int to, off_t *to_at, size_t len, unsigned int flags)
{
	return gn_raw6(SYS_splice, from, (long)from_at, to, (long)to_at, (long)len, (long)flags);
}

static inline off_t gn_sys_lseek(int fd, off_t at, int whence)
{
	return gn_raw3(SYS_lseek, fd, at, whence);
}

static inline int gn_sys_fstat(int fd, struct stat *st)
{
	return (int)gn_raw3(SYS_fstat, fd, (long)st, 0);
}

static inline int gn_sys_fstatat(int dir, const char *path, struct stat *st, int flags)
{
	return (int)gn_raw6(SYS_newfstatat, dir, (long)path, (long)st, flags, 0, 0);
}

static inline int gn_sys_stat(const char *path, struct stat *st)
{
	return gn_sys_fstatat(AT_FDCWD, path, st, 0);
}

static inline ssize_t gn_sys_readlink(const char *path, char *buf, size_t len)
{
	return gn_raw6(SYS_readlinkat, AT_FDCWD, (long)path, (long)buf, (long)len, 0, 0);
}

static inline ssize_t gn_sys_getdents64(int fd, void *buf, size_t len)
{
	return gn_raw3(SYS_getdents64, fd, (long)buf, (long)len);
}

/* Memory */

static inline int gn_sys_memfd_create(const char *name, unsigned int flags)
{
	return (int)gn_raw3(SYS_memfd_create, (long)name, (long)flags, 0);
}

static inline int gn_sys_ftruncate(int fd, off_t len)
{
	return (int)gn_raw3(SYS_ftruncate, fd, len, 0);
}

/* 0 and the mapping in `*map`, or -errno with `*map` untouched. */
static inline int gn_sys_mmap(void **map, void *at, size_t len, int prot, int flags, int fd, off_t offset)
{
	long rc = gn_raw6(SYS_mmap, (long)at, (long)len, prot, flags, fd, offset);

	if (rc < 0 && rc > -4096)
		return (int)rc;
	*map = (void *)rc;
	return 0;
}

static inline int gn_sys_munmap(void *at, size_t len)
{
	return (int)gn_raw3(SYS_munmap, (long)at, (long)len, 0);
}

static inline int gn_sys_madvise(void *at, size_t len, int advice)
{
	return (int)gn_raw3(SYS_madvise, (long)at, (long)len, advice);
}

/* Waiting. A NULL mask leaves the signal mask alone. */

/* Unlike the bare system call, leaves `*timeout` as it was; NULL: for ever. */
static inline int gn_sys_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask)
{
	struct timespec left = timeout ? *timeout : (struct timespec){0};

	return (int)gn_raw6(SYS_ppoll, (long)fds, (long)count, (long)(timeout ? &left : NULL), (long)mask, GN_SIGSET_BYTES, 0);
}

/* Negative `timeout_ms`: for ever. */
static inline int gn_sys_poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
	struct timespec ts = {.tv_sec = timeout_ms / 1000, .tv_nsec = timeout_ms % 1000 * 1000000L};

	return gn_sys_ppoll(fds, count, timeout_ms < 0 ? NULL : &ts, NULL);
}

/* Unlike the bare system call, leaves `*timeout` as it was. */
static inline int gn_sys_pselect(int count, fd_set *r, fd_set *w, fd_set *x, const struct timespec *timeout,
				 const sigset_t *mask)
{
	struct timespec left = timeout ? *timeout : (struct timespec){0};
	struct {
		const sigset_t *set;
		size_t len;
	} with_size = {mask, GN_SIGSET_BYTES};

	return (int)gn_raw6(SYS_pselect6, count, (long)r, (long)w, (long)x, (long)(timeout ? &left : NULL), (long)&with_size);
}

static inline int gn_sys_epoll_create1(int flags)
{
	return (int)gn_raw3(SYS_epoll_create1, flags, 0, 0);
}

static inline int gn_sys_epoll_ctl(int ep, int op, int fd, struct epoll_event *event)
{
	return (int)gn_raw6(SYS_epoll_ctl, ep, op, fd, (long)event, 0, 0);
}

static inline int gn_sys_epoll_pwait(int ep, struct epoll_event *events, int max, int timeout_ms, const sigset_t *mask)
{
	return (int)gn_raw6(SYS_epoll_pwait, ep, (long)events, max, timeout_ms, (long)mask, GN_SIGSET_BYTES);
}

/* Linux 5.11; -ENOSYS before. */
static inline int gn_sys_epoll_pwait2(int ep, struct epoll_event *events, int max, const struct timespec *timeout,
				      const sigset_t *mask)
{
	return (int)gn_raw6(SYS_epoll_pwait2, ep, (long)events, max, (long)timeout, (long)mask, GN_SIGSET_BYTES);
}

static inline int gn_sys_eventfd(unsigned int value, int flags)
{
	return (int)gn_raw3(SYS_eventfd2, (long)value, flags, 0);
}

/* `arg2` is the second word's address (FUTEX_REQUEUE) or unused. Timeouts are relative but for FUTEX_WAIT_BITSET. */
static inline int gn_sys_futex(const volatile void *word, int op, uint32_t val, const struct timespec *timeout, void *arg2,
			       uint32_t val3)
{
	return (int)gn_raw6(SYS_futex, (long)word, op, (long)val, (long)timeout, (long)arg2, (long)val3);
}

static inline int gn_sys_nanosleep(const struct timespec *ts, struct timespec *left)
{
	return (int)gn_raw3(SYS_nanosleep, (long)ts, (long)left, 0);
}

static inline int gn_sys_sched_yield(void)
{
	return (int)gn_raw3(SYS_sched_yield, 0, 0, 0);
}

/* Processes. Libc may remember a pid across a raw clone(); these do not. */

static inline pid_t gn_sys_getpid(void)
{
	return (pid_t)gn_raw3(SYS_getpid, 0, 0, 0);
}

/* For once in a process's life: the vdso, libc's way to it and its data are pages that a forked child has to fault in first. */
static inline uint64_t gn_sys_now_ns(clockid_t clock)
{
	struct timespec ts = {0};

	gn_raw3(SYS_clock_gettime, clock, (long)&ts, 0);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static inline pid_t gn_sys_gettid(void)
{
	return (pid_t)gn_raw3(SYS_gettid, 0, 0, 0);
}

static inline uid_t gn_sys_getuid(void)
{
	return (uid_t)gn_raw3(SYS_getuid, 0, 0, 0);
}

static inline uid_t gn_sys_geteuid(void)
{
	return (uid_t)gn_raw3(SYS_geteuid, 0, 0, 0);
}

static inline gid_t gn_sys_getegid(void)
{
	return (gid_t)gn_raw3(SYS_getegid, 0, 0, 0);
}

static inline int gn_sys_kill(pid_t pid, int sig)
{
	return (int)gn_raw3(SYS_kill, pid, sig, 0);
}

static inline int gn_sys_tgkill(pid_t pid, pid_t tid, int sig)
{
	return (int)gn_raw3(SYS_tgkill, pid, tid, sig);
}

/* Linux 5.3; -ENOSYS before. */
static inline int gn_sys_pidfd_open(pid_t pid, unsigned int flags)
{
	return (int)gn_raw3(SYS_pidfd_open, pid, (long)flags, 0);
}

/* Linux 5.6. */
static inline int gn_sys_pidfd_getfd(int pidfd, int fd, unsigned int flags)
{
	return (int)gn_raw3(SYS_pidfd_getfd, pidfd, fd, (long)flags);
}

static inline int gn_sys_prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)
{
	return (int)gn_raw6(SYS_prctl, option, (long)a, (long)b, (long)c, (long)d, 0);
}

static inline int gn_sys_sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
	return (int)gn_raw6(SYS_rt_sigprocmask, how, (long)set, (long)old, GN_SIGSET_BYTES, 0, 0);
}

static inline ssize_t gn_sys_getrandom(void *buf, size_t len, unsigned int flags)
{
	return gn_raw3(SYS_getrandom, (long)buf, (long)len, (long)flags);
}

static inline _Noreturn void gn_sys_exit_group(int status)
{
	for (;;)
		gn_raw3(SYS_exit_group, status, 0, 0);
}

/* Whole contents of a small file, cut at `size` - 1 bytes and ended by a NUL: for /proc. Bytes read, or -errno. */
ssize_t gn_sys_read_file(const char *path, char *buf, size_t size);

/* Do the numbers of processes in /proc mean what they mean to us? Not where it was mounted in another process namespace, or not at all. */
bool gn_sys_proc_is_ours(void);

/* The number that a file of one decimal number holds, as in /proc/sys; -errno, or -EINVAL when it is not one. */
int gn_sys_read_number(const char *path, long *value);

#endif
