/* SPDX-License-Identifier: MIT */
/* The robust lock: taken over from the dead, even when their id is somebody else's by then, and from nobody who lives. */
#include <errno.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/unit.h"
#include "lane/lock.h"

static _Atomic uint32_t *lock;

static void begin(void)
{
	lock = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(lock, MAP_FAILED);
	gn_births_note(true);
}

/* Takes the lock and ends. */
static pid_t die_holding(void)
{
	pid_t pid;

	gn_lock_forks();
	pid = fork();
	if (pid == 0) {
		gn_lock_forked();
		gn_lock(lock);
		_exit(0);
	}
	return pid;
}

GN_TEST(a_dead_owner_is_followed)
{
	begin();
	waitpid(die_holding(), NULL, 0);
	ck_assert(gn_lock_inherits(lock));
	gn_unlock(lock);
	ck_assert(!gn_lock_inherits(lock));
}

GN_TEST(a_zombie_is_followed)
{
	siginfo_t info;
	pid_t pid;

	begin();
	pid = die_holding();
	waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT);
	ck_assert(gn_lock_inherits(lock));
}

/* The owner is a forked child that comes to itself `late_us` after the fork. */
static void living_owner(unsigned int late_us)
{
	pid_t pid;

	begin();
	gn_lock_forks();
	pid = fork();
	if (pid == 0) {
		usleep(late_us);
		gn_lock_forked();
		gn_lock(lock);
		usleep(200000); /* longer than the waiter waits between two looks */
		gn_unlock(lock);
		_exit(0);
	}
	while (!atomic_load(lock))
		;
	ck_assert(!gn_lock_inherits(lock));
	waitpid(pid, NULL, 0);
}

GN_TEST(a_living_owner_is_waited_for)
{
	living_owner(0);
}

GN_TEST(who_writes_a_birth_long_after_it_is_not_taken_for_another)
{
	living_owner(60000);
}

/* Its relatives, and /proc, may be of another process namespace. The child's exit status: 0, or 1: the lock was taken from the living. */
static int in_a_namespace(void)
{
	pid_t owner;

	gn_births_note(true);
	gn_owner_ask();
	gn_lock_forks();
	owner = fork();
	if (owner == 0) {
		gn_lock_forked();
		gn_lock(lock);
		usleep(200000);
		gn_unlock(lock);
		_exit(0);
	}
	while (!atomic_load(lock))
		;
	return gn_lock_inherits(lock);
}

/* Its exit status, or 2: there are no namespaces. */
static int above_a_namespace(void)
{
	int status;
	pid_t pid;

	if (unshare(CLONE_NEWPID) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWPID) < 0)
		return 2;
	pid = fork();
	if (pid == 0)
		_exit(in_a_namespace());
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 3;
}

GN_TEST(numbers_in_a_foreign_proc_are_not_believed)
{
	int status;
	pid_t pid;

	begin();
	pid = fork(); /* who has left has no children any more once the namespace's first process has ended: LeakSanitizer wants one */
	if (pid == 0)
		_exit(above_a_namespace());
	waitpid(pid, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 2)
		gn_unit_skip("numbers_in_a_foreign_proc_are_not_believed", "no namespaces");
	else
		ck_assert_int_eq(status, 0);
}

GN_TEST(no_owner_is_dead_among_strangers)
{
	static _Atomic uint32_t strange = 1;
	pid_t pid;

	begin();
	gn_lock_strangers(&strange);
	pid = die_holding();
	waitpid(pid, NULL, 0);
	pid = fork();
	if (pid == 0) {
		usleep(50000);
		atomic_store(lock, 0);
		_exit(0);
	}
	ck_assert(!gn_lock_inherits(lock));
	waitpid(pid, NULL, 0);
}

GN_TEST(who_has_a_dead_owners_id_is_not_taken_for_it)
{
	pid_t dead, again;
	struct clone_args args = {.exit_signal = SIGCHLD, .set_tid = (uintptr_t)&dead, .set_tid_size = 1};

	begin();
	dead = die_holding();
	waitpid(dead, NULL, 0);
	usleep(60000); /* births are told to a hundredth of a second, and a forked child may be two off */
	again = (pid_t)syscall(SYS_clone3, &args, sizeof args);
	if (again == 0) {
		pause();
		_exit(0);
	}
	if (again < 0) {
		gn_unit_skip("who_has_a_dead_owners_id_is_not_taken_for_it", "ids cannot be chosen");
		return;
	}
	ck_assert_int_eq(again, dead);
	ck_assert(gn_lock_inherits(lock));
	kill(again, SIGKILL);
	waitpid(again, NULL, 0);
}

int main(void)
{
	return gn_unit_run("lock");
}
