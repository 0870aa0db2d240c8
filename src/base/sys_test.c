/* SPDX-License-Identifier: MIT */
/* The bare system calls: results, errors, and that errno stays the program's. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/sys.h"
#include "base/time.h"
#include "base/unit.h"

GN_TEST(an_error_is_returned_and_errno_is_left_alone)
{
	errno = 4711;
	ck_assert_int_eq(gn_sys_close(-1), -EBADF);
	ck_assert_int_eq(gn_sys_socket(4711, SOCK_STREAM, 0), -EAFNOSUPPORT);
	ck_assert_int_eq(errno, 4711);
}

GN_TEST(a_call_of_six_arguments_passes_all_of_them)
{
	int fd = gn_sys_memfd_create("sys_test", MFD_CLOEXEC);
	uint8_t *map = NULL;
	void *at;

	ck_assert_int_eq(gn_sys_ftruncate(fd, 8192), 0);
	ck_assert_int_eq(gn_sys_pwrite(fd, "gnezdo", 6, 4096), 6);
	ck_assert_int_eq(gn_sys_mmap(&at, NULL, 4096, PROT_READ, MAP_SHARED, fd, 4096), 0);
	map = at;
	ck_assert_mem_eq(map, "gnezdo", 6);
	ck_assert_int_eq(gn_sys_munmap(at, 4096), 0);
	ck_assert_int_eq(gn_sys_mmap(&at, NULL, 0, PROT_READ, MAP_SHARED, fd, 0), -EINVAL);
	ck_assert_ptr_eq(at, map);
	gn_sys_close(fd);
}

GN_TEST(bytes_go_through_a_socket_pair)
{
	struct pollfd p = {.events = POLLIN};
	char buf[4];
	int fd[2];

	ck_assert_int_eq(gn_sys_socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
	p.fd = fd[1];
	ck_assert_int_eq(gn_sys_poll(&p, 1, 0), 0);
	ck_assert_int_eq(gn_sys_send(fd[0], "abc", 3, MSG_NOSIGNAL), 3);
	ck_assert_int_eq(gn_sys_poll(&p, 1, -1), 1);
	ck_assert_int_eq(gn_sys_recv(fd[1], buf, sizeof(buf), 0), 3);
	ck_assert_mem_eq(buf, "abc", 3);
	ck_assert_int_eq(gn_sys_recv(fd[1], buf, sizeof(buf), MSG_DONTWAIT), -EAGAIN);
	gn_sys_close(fd[0]);
	ck_assert_int_eq(gn_sys_recv(fd[1], buf, sizeof(buf), 0), 0);
	gn_sys_close(fd[1]);
}

GN_TEST(waiting_leaves_the_callers_timeout_as_it_was)
{
	struct timespec ts = {.tv_nsec = 2000000};
	uint64_t before = gn_now_ns();

	ck_assert_int_eq(gn_sys_ppoll(NULL, 0, &ts, NULL), 0);
	ck_assert_int_eq(gn_sys_pselect(0, NULL, NULL, NULL, &ts, NULL), 0);
	ck_assert_int_eq(ts.tv_nsec, 2000000);
	ck_assert_uint_ge(gn_now_ns() - before, 4000000);
}

GN_TEST(epoll_brings_back_the_callers_64_bits)
{
	struct epoll_event e = {.events = EPOLLIN, .data.u64 = 0x1122334455667788};
	int ep = gn_sys_epoll_create1(EPOLL_CLOEXEC), ev = gn_sys_eventfd(1, EFD_CLOEXEC);

	ck_assert_int_eq(gn_sys_epoll_ctl(ep, EPOLL_CTL_ADD, ev, &e), 0);
	e.data.u64 = 0;
	ck_assert_int_eq(gn_sys_epoll_pwait(ep, &e, 1, 0, NULL), 1);
	ck_assert_uint_eq(e.data.u64, 0x1122334455667788);
	gn_sys_close(ep);
	gn_sys_close(ev);
}

GN_TEST(a_file_is_what_libc_says_it_is)
{
	struct stat a, b;

	ck_assert_int_eq(gn_sys_stat("/proc/self/exe", &a), 0);
	ck_assert_int_eq(stat("/proc/self/exe", &b), 0);
	ck_assert_uint_eq(a.st_ino, b.st_ino);
	ck_assert_uint_eq(a.st_mode, b.st_mode);
	ck_assert_int_eq(a.st_size, b.st_size);
	ck_assert_int_eq(gn_sys_getpid(), getpid());
}

GN_TEST(a_number_is_read_from_a_file)
{
	char name[] = "/tmp/sys_test.XXXXXX";
	int fd = mkstemp(name);
	long n = 5;

	ck_assert_int_eq(gn_sys_write(fd, "-65534\n", 7), 7);
	ck_assert_int_eq(gn_sys_read_number(name, &n), 0);
	ck_assert_int_eq(n, -65534);
	ck_assert_int_eq(gn_sys_pwrite(fd, "99999999999999999999", 20, 0), 20);
	ck_assert_int_eq(gn_sys_read_number(name, &n), -EINVAL);
	ck_assert_int_eq(gn_sys_pwrite(fd, "12x", 3, 0), 3);
	ck_assert_int_eq(gn_sys_read_number(name, &n), -EINVAL);
	ck_assert_int_eq(gn_sys_ftruncate(fd, 0), 0);
	ck_assert_int_eq(gn_sys_read_number(name, &n), -EINVAL);
	ck_assert_int_eq(n, -65534);
	gn_sys_close(fd);
	unlink(name);
	ck_assert_int_eq(gn_sys_read_number(name, &n), -ENOENT);
}

GN_TEST(a_long_file_is_cut_and_still_ends_in_a_nul)
{
	char buf[8];

	memset(buf, 'x', sizeof(buf));
	ck_assert_int_eq(gn_sys_read_file("/proc/self/limits", buf, sizeof(buf)), 7);
	ck_assert_str_eq(buf, "Limit  ");
}

GN_TEST(a_failed_assertion_ends_the_process)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		gn_sys_close(2); /* what it says is not for the report */
		GN_ASSERT(gn_now_ns() == 0);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status));
}

GN_TEST(the_smaller_and_the_greater_are_found)
{
	int i = 3, j = 4;

	ck_assert_int_eq(GN_MIN(i, j), 3);
	ck_assert_int_eq(GN_MIN(j, i), 3);
	ck_assert_int_eq(GN_MAX(-1, j), 4);
}

int main(void)
{
	return gn_unit_run("sys");
}
