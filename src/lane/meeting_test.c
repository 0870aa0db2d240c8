/* SPDX-License-Identifier: MIT */
/* The meeting and its segment: friends meet in either order, strangers and garbage are refused, nobody waits, nothing leaks. */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/sys.h"
#include "base/unit.h"
#include "lane/segment.h"

#define RING 8192u
#define NOBODY 65534
#define HELLO "gnezdo/1"

struct end {
	struct gn_meeting meeting;
	struct gn_segment segment;
	struct gn_ring_map tx, rx;
};

static struct gn_name place(const char *what)
{
	struct gn_name at = {.sun.sun_family = AF_UNIX};
	int n = snprintf(at.sun.sun_path + 1, sizeof at.sun.sun_path - 1, "gnezdo-test/%d/%s", getpid(), what);

	at.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
	return at;
}

static struct end end_new(void)
{
	return (struct end){.meeting.fd = -1};
}

static struct gn_expect myself(void)
{
	return (struct gn_expect){getuid(), getpid(), -1};
}

static int step(struct end *e, const struct gn_name *at)
{
	struct gn_expect who = myself();
	int rc = gn_meeting_step(&e->meeting, at, &who, RING, false, &e->segment);

	if (rc == 1)
		gn_segment_views(&e->segment, &e->tx, &e->rx);
	return rc;
}

static void end_free(struct end *e)
{
	gn_meeting_end(&e->meeting);
	gn_segment_unmap(&e->segment);
}

static int open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	ck_assert(d != NULL);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* What one end publishes, the other reads: they share memory, crosswise. */
static void assert_joined(struct end *a, struct end *b)
{
	atomic_store(&a->tx.dir->head, 7);
	atomic_store(&b->tx.dir->head, 9);
	ck_assert_uint_eq(atomic_load(&b->rx.dir->head), 7);
	ck_assert_uint_eq(atomic_load(&a->rx.dir->head), 9);
	a->tx.bytes[RING - 1] = 42;
	ck_assert_uint_eq(b->rx.bytes[RING - 1], 42);
	ck_assert_uint_eq(a->tx.size, RING);
	ck_assert_uint_eq(b->rx.size, RING);
}

GN_TEST(two_ends_meet)
{
	struct gn_name at = place("meet");
	struct end a = end_new(), b = end_new();
	int before = open_fds();

	ck_assert_int_eq(step(&a, &at), 0);
	ck_assert_int_eq(step(&a, &at), 0); /* asking again is harmless */
	ck_assert_int_eq(step(&b, &at), 1);
	ck_assert_int_eq(step(&a, &at), 1);
	assert_joined(&a, &b);
	ck_assert_int_eq(open_fds(), before);
	end_free(&a);
	end_free(&b);
}

GN_TEST(who_stays_hears_the_other_end_go)
{
	struct gn_name at = place("stay");
	struct end a = end_new(), b = end_new();
	char byte;

	a.meeting.stay = b.meeting.stay = true;
	ck_assert_int_eq(step(&a, &at), 0);
	ck_assert_int_eq(step(&b, &at), 1);
	ck_assert_int_eq(step(&a, &at), 1);
	ck_assert_int_eq(gn_sys_recv(a.meeting.fd, &byte, 1, MSG_DONTWAIT), -EAGAIN);
	end_free(&b);
	ck_assert_int_eq(gn_sys_recv(a.meeting.fd, &byte, 1, MSG_DONTWAIT), 0);
	end_free(&a);
}

static void *step_until_met(void *end)
{
	struct gn_name at = place("race");
	int rc;

	while ((rc = step(end, &at)) == 0)
		sched_yield();
	return rc == 1 ? end : NULL;
}

GN_TEST(two_ends_that_come_at_once_meet)
{
	for (int i = 0; i < 200; i++) {
		struct end a = end_new(), b = end_new();
		pthread_t t;
		void *met;

		ck_assert_int_eq(pthread_create(&t, NULL, step_until_met, &b), 0);
		ck_assert_ptr_nonnull(step_until_met(&a));
		pthread_join(t, &met);
		ck_assert_ptr_nonnull(met);
		assert_joined(&a, &b);
		end_free(&a);
		end_free(&b);
	}
}

/* A visitor that sends what it likes: `fds` descriptors and some bytes. */
static void visit_with(const struct gn_name *at, const char *bytes, size_t len, const int *fd, size_t fds)
{
	int s = gn_sys_socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	union {
		char bytes[CMSG_SPACE(4 * sizeof(int))];
		struct cmsghdr align;
	} control = {{0}};
	struct iovec iov = {(void *)(uintptr_t)bytes, len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	ck_assert_int_ge(s, 0);
	ck_assert_int_eq(gn_sys_connect(s, &at->sun, at->len), 0);
	if (fds) {
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(fds * sizeof(int));
		*CMSG_FIRSTHDR(&msg) = (struct cmsghdr){CMSG_LEN(fds * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), fd, fds * sizeof(int));
	}
	if (len)
		ck_assert_int_eq(gn_sys_sendmsg(s, &msg, MSG_NOSIGNAL), (ssize_t)len);
	gn_sys_close(s);
}

/* What an end that made an offer says to such a visitor; it must not keep anything of it. */
static int answer_to(const char *what, const char *bytes, size_t len, const int *fd, size_t fds)
{
	struct gn_name at = place(what);
	struct end a = end_new();
	int before = open_fds(), rc;

	ck_assert_int_eq(step(&a, &at), 0);
	visit_with(&at, bytes, len, fd, fds);
	rc = step(&a, &at);
	end_free(&a);
	ck_assert_int_eq(open_fds(), before);
	return rc;
}

static int memfd(size_t size, unsigned int seals)
{
	int fd = gn_sys_memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(gn_sys_ftruncate(fd, (off_t)size), 0);
	if (seals)
		ck_assert_int_eq(gn_sys_fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

GN_TEST(garbage_is_refused)
{
	struct gn_segment own;
	int fd[4];

	ck_assert_int_eq(gn_segment_new(&own, &fd[0], RING, false), 0);
	fd[1] = fd[2] = fd[3] = fd[0];
	ck_assert_int_eq(answer_to("nothing", "", 0, NULL, 0), -EPROTO);
	ck_assert_int_eq(answer_to("words", HELLO, sizeof HELLO, NULL, 0), -EPROTO);
	ck_assert_int_eq(answer_to("wrong", "gnezdo/9", sizeof HELLO, fd, 1), -EPROTO);
	ck_assert_int_eq(answer_to("short", HELLO, 3, fd, 1), -EPROTO);
	ck_assert_int_eq(answer_to("many", HELLO, sizeof HELLO, fd, 4), -EPROTO);
	ck_assert_int_eq(answer_to("good", HELLO, sizeof HELLO, fd, 1), 1);
	gn_sys_close(fd[0]);
	gn_segment_unmap(&own);
}

GN_TEST(segments_that_are_none_are_refused)
{
	static const struct {
		const char *what;
		size_t size;
		unsigned int seals;
	} bad[] = {
		{"unsealed", GN_SEG_HEAD + 2 * RING, 0},
		{"may shrink", GN_SEG_HEAD + 2 * RING, F_SEAL_GROW | F_SEAL_SEAL},
		{"read only", GN_SEG_HEAD + 2 * RING, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL},
		{"empty", 0, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL},
		{"small", 4096, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL},
		{"odd", GN_SEG_HEAD + 2 * RING + 1, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL},
		{"no magic", GN_SEG_HEAD + 2 * RING, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL},
	};
	int pipes[2];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		int fd = memfd(bad[i].size, bad[i].seals);
		int rc = answer_to("segment", HELLO, sizeof HELLO, &fd, 1);

		ck_assert_msg(rc < 0, "%s: %d", bad[i].what, rc);
		gn_sys_close(fd);
	}
	ck_assert_int_eq(pipe(pipes), 0);
	ck_assert_int_lt(answer_to("pipe", HELLO, sizeof HELLO, pipes, 1), 0);
	close(pipes[0]);
	close(pipes[1]);
}

/* The sizes that its maker wrote into it are not believed. */
GN_TEST(a_segment_that_lies_about_its_size_is_refused)
{
	static const uint32_t lies[] = {0, 1, 4095, 4096, 12288, RING * 2, UINT32_MAX};

	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		struct gn_segment own;
		int fd, rc;

		ck_assert_int_eq(gn_segment_new(&own, &fd, RING, false), 0);
		own.map->ring_size = lies[i];
		rc = answer_to("liar", HELLO, sizeof HELLO, &fd, 1);
		ck_assert_msg(rc == -EPROTO, "%u: %d", lies[i], rc);
		gn_sys_close(fd);
		gn_segment_unmap(&own);
	}
}

/* A visitor of the right user that says nothing holds nobody up. */
GN_TEST(a_silent_visitor_is_not_waited_for)
{
	struct gn_name at = place("silent");
	struct end a = end_new();
	int s = gn_sys_socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	ck_assert_int_eq(step(&a, &at), 0);
	ck_assert_int_eq(gn_sys_connect(s, &at.sun, at.len), 0);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(step(&a, &at), 0);
	gn_sys_close(s);
	ck_assert_int_eq(step(&a, &at), -EPROTO);
	end_free(&a);
}

/* In a child with another user's rights. */
static int as_nobody(int (*f)(const struct gn_name *, const struct gn_expect *), const struct gn_name *at, const struct gn_expect *who)
{
	pid_t child = fork();
	int status;

	if (child == 0)
		_exit(setgid(NOBODY) || setuid(NOBODY) ? 100 : f(at, who));
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* 0: met. */
static int visit_once(const struct gn_name *at, const struct gn_expect *who)
{
	struct end b = end_new();

	return gn_meeting_step(&b.meeting, at, who, RING, false, &b.segment) == 1 ? 0 : 1;
}

GN_TEST(another_user_is_refused)
{
	struct gn_name at = place("stranger");
	struct gn_expect root = {0, getpid(), -1}, other = {12345, 1, -1};
	struct end a = end_new();

	if (getuid() != 0) {
		gn_unit_skip(__func__, "changing the user needs root");
		return;
	}
	ck_assert_int_eq(step(&a, &at), 0);
	/* The offer belongs to root, who may answer for anybody: the visitor accepts it. But its own word counts for nothing: */
	ck_assert_int_eq(as_nobody(visit_once, &at, &root), 0);
	ck_assert_int_eq(gn_meeting_step(&a.meeting, &at, &other, RING, false, &a.segment), 0);
	ck_assert_ptr_null(a.segment.map);
	end_free(&a);
}

/* Offers, says so through `ready`, and stays until it is killed. */
static _Noreturn void squat(const struct gn_name *at, int ready)
{
	struct end b = end_new();

	if (setgid(NOBODY) || setuid(NOBODY) || step(&b, at) != 0 || write(ready, "", 1) != 1)
		_exit(1);
	for (;;)
		pause();
}

GN_TEST(a_name_that_another_user_squats_on_is_no_meeting)
{
	struct gn_name at = place("squat");
	struct gn_expect who = {12345, 1, -1};
	struct end a = end_new();
	int ready[2];
	pid_t child;
	char byte;

	if (getuid() != 0) {
		gn_unit_skip(__func__, "changing the user needs root");
		return;
	}
	ck_assert_int_eq(pipe(ready), 0);
	child = fork();
	if (child == 0)
		squat(&at, ready[1]);
	close(ready[1]);
	ck_assert_int_eq(read(ready[0], &byte, 1), 1);
	ck_assert_int_eq(gn_meeting_step(&a.meeting, &at, &who, RING, false, &a.segment), -EPERM);
	ck_assert_ptr_null(a.segment.map);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	end_free(&a);
}

/* What is said to a child of the expected process, of another user, that made an offer; at the time of the visit it lives, or has ended. */
static int visit_to_child(const char *what, bool lives)
{
	int s = gn_sys_socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), ready[2], ends[2], rc;
	struct gn_expect who = {0, getpid(), -1};
	struct gn_name at = place(what);
	struct end a = end_new();
	pid_t child;
	char byte;

	ck_assert_int_eq(gn_sys_socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0); /* the connection: we are on its other end */
	who.fd = ends[0];
	ck_assert_int_eq(pipe(ready), 0);
	child = fork();
	if (child == 0) {
		if (setgid(NOBODY) || setuid(NOBODY) || gn_sys_bind(s, &at.sun, at.len) < 0 || gn_sys_listen(s, 4) < 0)
			_exit(1);
		if (!lives)
			_exit(0);
		if (write(ready[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	if (lives) {
		ck_assert_int_eq(read(ready[0], &byte, 1), 1);
	} else { /* its number is not free yet, its socket is ours still */
		siginfo_t end;

		ck_assert_int_eq(waitid(P_PID, (id_t)child, &end, WEXITED | WNOWAIT), 0);
		ck_assert_int_eq(end.si_status, 0);
	}
	rc = gn_meeting_step(&a.meeting, &at, &who, RING, false, &a.segment);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	end_free(&a);
	close(ready[0]);
	close(ready[1]);
	gn_sys_close(ends[0]);
	gn_sys_close(ends[1]);
	gn_sys_close(s);
	return rc;
}

GN_TEST(a_child_that_has_ended_is_not_believed)
{
	int pair[2], pidfd, before, told;
	socklen_t len = sizeof pidfd;

	if (getuid() != 0) {
		gn_unit_skip(__func__, "changing the user needs root");
		return;
	}
	ck_assert_int_eq(gn_sys_socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	told = gn_sys_getsockopt(pair[0], SOL_SOCKET, 77 /* SO_PEERPIDFD */, &pidfd, &len);
	before = open_fds();
	ck_assert_int_eq(visit_to_child("child", true), told < 0 ? -EPERM : 1);
	ck_assert_int_eq(visit_to_child("late child", false), -EPERM);
	ck_assert_int_eq(open_fds(), before);
}

int main(void)
{
	return gn_unit_run("meeting");
}
