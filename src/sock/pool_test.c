/* SPDX-License-Identifier: MIT */
/* Seats of an endpoint: those of the dead are cleared, once, and never a living one's. */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/unit.h"
#include "sock/sock.h"

#define ROUNDS 2000

static struct gn_pool pool; /* of relatives whose pids tell who is dead */
static struct gn_ep ep;
static _Atomic bool over;

/* A zombie: its id is nobody else's for as long as the test lasts. */
static pid_t somebody_dead(void)
{
	siginfo_t info;
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	ck_assert_int_eq(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	return pid;
}

static void join(void)
{
	gn_world.pid = getpid();
	gn_world.pool = &pool;
}

static void sit(int seat, int32_t pid)
{
	atomic_store(&ep.asleep[seat], 3);
	atomic_store(&ep.holders, 2);
	atomic_store(&ep.pid[seat], pid);
}

GN_TEST(a_dead_holder_is_cleared_away)
{
	join();
	sit(2, somebody_dead());
	gn_ep_reap(&ep);
	ck_assert_int_eq(ep.pid[2], 0);
	ck_assert_int_eq(ep.asleep[2], 0);
	ck_assert_int_eq(ep.holders, 1);
}

GN_TEST(a_living_holder_stays)
{
	join();
	sit(1, getppid());
	gn_ep_reap(&ep);
	ck_assert_int_eq(ep.pid[1], getppid());
	ck_assert_int_eq(ep.asleep[1], 3);
	ck_assert_int_eq(ep.holders, 2);
}

GN_TEST(what_a_reaper_left_that_was_killed_is_finished)
{
	join();
	sit(0, -somebody_dead());
	gn_ep_reap(&ep);
	ck_assert_int_eq(ep.pid[0], 0);
	ck_assert_int_eq(ep.asleep[0], 0);
	ck_assert_int_eq(ep.holders, 1);
}

GN_TEST(who_finds_no_seat_free_takes_a_dead_one_s)
{
	int32_t dead = somebody_dead();

	join();
	for (int i = 0; i < GN_HOLDERS; i++)
		sit(i, getppid());
	sit(3, dead);
	ck_assert_uint_eq(gn_ep_join(&ep), 3);
	ck_assert_int_eq(ep.pid[3], getpid());
	ck_assert_int_eq(ep.asleep[3], 0);
	ck_assert_int_eq(ep.holders, 1);
	ck_assert_uint_eq(gn_ep_join(&ep), GN_HOLDERS);
}

GN_TEST(who_looks_dead_from_another_process_namespace_stays)
{
	int32_t dead = somebody_dead();

	join();
	atomic_store(&pool.strange, 1);
	sit(2, dead);
	gn_ep_reap(&ep);
	ck_assert_int_eq(ep.pid[2], dead);
	ck_assert_int_eq(ep.holders, 2);
}

GN_TEST(what_a_living_reaper_is_at_is_left_to_it)
{
	join();
	sit(0, -getppid());
	gn_ep_reap(&ep);
	ck_assert_int_eq(ep.pid[0], -getppid());
	ck_assert_int_eq(ep.holders, 2);
}

static void *reap(void *arg)
{
	while (!atomic_load(&over))
		gn_ep_reap(&ep);
	return arg;
}

GN_TEST(the_next_holder_of_a_seat_keeps_its_count)
{
	pid_t dead = somebody_dead();
	pthread_t thread[2];

	join();
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, reap, NULL), 0);
	for (int i = 0; i < ROUNDS; i++) {
		sit(0, dead);
		while (atomic_load(&ep.pid[0]))
			sched_yield();
		ck_assert_uint_eq(gn_ep_join(&ep), 0);
		atomic_fetch_add(&ep.asleep[0], 1);
		for (int k = 0; k < 20; k++)
			sched_yield();
		ck_assert_int_eq(ep.asleep[0], 1);
		atomic_store(&ep.pid[0], 0);
	}
	atomic_store(&over, true);
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
}

GN_TEST(a_pool_with_few_slots_left_has_room_once_the_dead_have_left)
{
	enum { SLOTS = GN_POOL_SPARE + 8, DEAD = 3 };
	struct gn_pool *small = calloc(1, sizeof *small + SLOTS * sizeof small->ep[0]);
	int32_t dead = somebody_dead();

	join();
	gn_world.pool = small;
	small->slots = SLOTS;
	for (int i = 0; i < 8; i++) {
		atomic_store(&small->ep[i].state, GN_ESTAB);
		atomic_store(&small->ep[i].holders, 1);
		atomic_store(&small->ep[i].pid[0], getpid());
	}
	atomic_store(&small->used, 7);
	ck_assert(gn_pool_has_room());
	atomic_store(&small->used, 8);
	ck_assert(!gn_pool_has_room());
	atomic_store(&small->ep[DEAD].pid[0], dead);
	ck_assert(gn_pool_has_room());
	ck_assert_uint_eq(small->used, 7);
	ck_assert_uint_eq(small->ep[DEAD].state, GN_FREE);
	ck_assert_uint_eq(small->ep[DEAD + 1].state, GN_ESTAB);
	free(small);
}

int main(void)
{
	return gn_unit_run("pool");
}
