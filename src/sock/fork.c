/* SPDX-License-Identifier: MIT */
/*
 * fork: nothing waits, nothing is announced.
 *
 * The parent counts the child as a holder of every endpoint before it forks, so that no promotion begins while two processes may be using
 * the kernel lane [LANE-3]; the child puts its pid beside. Locks of this process's own memory are free in the child; those in shared
 * memory belong to whoever holds them.
 *
 * What must not be half done in the child's copy is held still for the moment of the fork, and signals wait. The program's own handlers
 * (pthread_atfork) may wait for threads that are in a call of ours, or for handlers of signals, and use sockets; so in libc's fork() that is
 * done by handlers too, which were registered before any of the program's: of those before a fork they run last, of those after it first.
 */
#include <pthread.h>

#include "sock/api.h"
#include "sock/inside.h"
#include "sock/signals.h"
#include "sock/sleep.h"

#define WAIT_ALL 0x40000000 /* __WALL */

static uint32_t passes;

/* Those that were last met in pass `of`, or, if it is 0, all: each once, at its lowest descriptor, for the walk marks it by its own pass. */
static void for_each_of(uint32_t of, void (*f)(struct gn_sock *))
{
	uint32_t pass = ++passes;

	for (uint32_t fd = 0, left = gn_world.used_fds; fd < gn_world.table_size && fd < left; fd++) {
		struct gn_sock *so = atomic_load_explicit(gn_slot(fd), memory_order_relaxed);

		if ((uintptr_t)so <= 1 || (of ? so->pass != of : so->pass == pass))
			continue;
		so->pass = pass;
		f(so);
	}
}

static void for_each_sock(void (*f)(struct gn_sock *))
{
	for_each_of(0, f);
}

static void count_child(struct gn_sock *so)
{
	if (so->kind == GN_KIND_SOCK)
		atomic_fetch_add(&so->ep->holders, 1);
}

static void uncount_child(struct gn_sock *so)
{
	if (so->kind == GN_KIND_SOCK)
		atomic_fetch_sub(&so->ep->holders, 1);
}

static void child_sock(struct gn_sock *so)
{
	/* Calls of the parent's other threads are not going on here. */
	atomic_store(&so->refs, GN_REFS_LIVE + 1);
	if (so->kind != GN_KIND_SOCK)
		return;
	so->seat = gn_ep_join(so->ep);
	atomic_store(&so->unnamed, 0);
	gn_stats_begin(so);
	gn_unhide_close(&so->meeting.fd); /* the parent's offer: it answers, if it is the lone holder again */
	so->meeting.state = GN_MEET_NONE;
	gn_dgram_forked(so);
	gn_queue_forked(so);
	if (so->watches && gn_on_ring(so)) /* a thread of the parent was about to */
		gn_watches_to_ring(so);
}

static bool handlers_stand;

/* Of the thread that forks. */
static __thread __attribute__((tls_model("initial-exec"))) struct {
	bool entered;            /* the handlers of ours that run after it have something to undo */
	bool has_sets;
	uint32_t pass;           /* in which its child was counted */
	struct counted *counted; /* of the gn_fork() that wants to know; NULL */
	struct gn_sock *over;    /* what was held and is to be let go of */
} forking;

/* How a child was counted, should there be none: handlers of signals and of the program's, which run before that is known, may fork too. */
struct counted {
	uint32_t pass; /* 0: it was not */
	bool has_sets;
};

/* Endpoints that are held still, by so->next_free, which is of use only in those that are free. Under gn_world.big. */
static struct gn_sock *held;

/* gn_world.big is held: nothing that is dead comes to life. */
static bool keep(struct gn_sock *so)
{
	if (!(atomic_fetch_add(&so->refs, 1) & GN_REFS_LIVE) || so->held) {
		atomic_fetch_sub(&so->refs, 1); /* never the last one: it is dead, or held already */
		return false;
	}
	so->held = true;
	so->next_free = held;
	held = so;
	return true;
}

static void hold_dgram(struct gn_sock *so)
{
	if (so->kind == GN_KIND_SOCK && so->dgram && keep(so))
		gn_dgram_hold(so);
}

static void hold_set(struct gn_sock *so)
{
	if (so->kind != GN_KIND_EPOLL || !keep(so))
		return;
	gn_epset_hold(so->set);
	forking.has_sets = true;
}

/* Those that are closed while calls go on too. */
static void for_each_live(void (*f)(struct gn_sock *))
{
	for (uint32_t fd = 0; fd < gn_world.used_fds && fd < gn_world.table_size; fd++) {
		struct gn_sock *so = atomic_load_explicit(gn_slot(fd), memory_order_acquire);

		if ((uintptr_t)so > 1)
			f(so);
	}
	for (struct gn_sock *so = gn_world.late; so; so = so->next_late)
		f(so);
}

/* What the child copies must be whole: the tables of datagram endpoints, then the lists of epoll sets (the order of locks). */
static void hold_all(void)
{
	forking.has_sets = false;
	for_each_live(hold_dgram);
	gn_lock(&gn_watch_lists);
	for_each_live(hold_set);
}

static void release_all(void)
{
	forking.over = held;
	for (struct gn_sock *so = held; so; so = so->next_free) {
		so->held = false;
		so->kind == GN_KIND_EPOLL ? gn_epset_release(so->set) : gn_dgram_release(so);
	}
	held = NULL;
	gn_unlock_mine(&gn_watch_lists);
	gn_connecting_release();
}

/* gn_world.big is free. */
static void let_go(struct gn_sock *so)
{
	struct gn_sock *next;

	for (; so; so = next) {
		next = so->next_free;
		gn_put(so);
	}
}

static void forget_all(void)
{
	atomic_store(&gn_watch_lists, 0);
	for (struct gn_sock *so = held; so; so = so->next_free) {
		so->held = false;
		if (so->kind == GN_KIND_EPOLL)
			gn_epset_forked(so->set);
	}
	held = NULL;
}

static void hold(void)
{
	gn_births_note(true); /* from now on others take over locks of ours */
	for (;;) {
		gn_early_end_all();
		gn_connecting_hold();
		gn_lock(&gn_world.big);
		if (likely(!atomic_load(&gn_world.early)))
			break;
		gn_unlock(&gn_world.big);
		gn_connecting_release();
	}
	gn_lock_forks();
	hold_all();
	if (forking.has_sets)
		gn_family_fork();
	for_each_sock(count_child);
	forking.pass = passes;
	gn_sleep_fork(GN_FORK_BEFORE);
}

static void end_parent(void)
{
	release_all();
	gn_unlock_mine(&gn_world.big);
	let_go(forking.over);
	gn_inside_end();
}

/* What was counted and is there still: who has left meanwhile, or was counted for another thread's child since, stays counted, which is slow
 * and right. */
static void uncount(const struct counted *c)
{
	if (!c->pass)
		return;
	gn_inside_begin();
	gn_lock(&gn_world.big);
	for_each_of(c->pass, uncount_child);
	gn_sleep_fork(GN_FORK_FAILED);
	if (c->has_sets)
		gn_family_fork_failed();
	gn_unlock(&gn_world.big);
	gn_inside_end();
}

/* Of this process alone: other threads of the parent that held these locks are not here. */
static void process_begins(void)
{
	gn_lock_forked();
	gn_world.pid = gn_sys_getpid();
	gn_tokens_begin();
	atomic_store(&gn_world.big, 0);
	atomic_store(&gn_following, 0);
	gn_connecting_forked();
	gn_spare_forked();
	gn_lent_forked();
	gn_early_forked();
	gn_uring_forked();
	forget_all();
	gn_signals_forked();
}

/* Of another process namespace than its parent's the kernel tells no parent. */
static void note_strangers(void)
{
	if (gn_world.pool && gn_raw3(SYS_getppid, 0, 0, 0) == 0)
		atomic_store(&gn_world.pool->strange, 1);
}

static void begin_child(void)
{
	note_strangers();
	process_begins();
	if (forking.has_sets)
		gn_family_forked();
	gn_stats_reset();
	gn_world.stats = gn_world.stats_wanted;
	for_each_sock(child_sock);
	gn_table_late(false);
	gn_sleep_fork(GN_FORK_CHILD);
	gn_table_late(true);
}

/* For everybody who calls libc's fork(), libc itself included. */
static void before_handler(void)
{
	forking.entered = gn_fork_begin();
}

/* Whether there is a child is not told here. */
static void parent_handler(void)
{
	bool entered = forking.entered;

	forking.entered = false;
	if (!entered)
		return;
	if (forking.counted)
		*forking.counted = (struct counted){forking.pass, forking.has_sets};
	forking.counted = NULL;
	end_parent();
}

static void child_handler(void)
{
	if (forking.entered)
		gn_fork_child();
	forking.entered = false;
}

void gn_fork_handlers(void)
{
	handlers_stand = pthread_atfork(before_handler, parent_handler, child_handler) == 0;
}

bool gn_fork_begin(void)
{
	if (gn_world.sandboxed || gn_is_vfork_child())
		return false;
	gn_inside_begin();
	hold();
	return true;
}

void gn_fork_child(void)
{
	begin_child();
	gn_inside_end();
}

void gn_fork_parent(bool failed)
{
	struct counted c = {forking.pass, forking.has_sets};

	end_parent();
	if (failed)
		uncount(&c);
}

pid_t gn_fork(pid_t (*real_fork)(void))
{
	bool direct = (real_fork != gn_real.fork || !handlers_stand) && gn_fork_begin();
	struct counted c = {0}, *outer = forking.counted;
	pid_t pid;

	if (!direct)
		forking.counted = &c;
	pid = real_fork();
	forking.counted = outer;
	if (direct && pid == 0)
		gn_fork_child();
	else if (direct)
		gn_fork_parent(pid < 0);
	else if (pid < 0)
		uncount(&c);
	return pid;
}

pid_t gn_helper_fork(void)
{
	pid_t pid = (pid_t)gn_raw6(SYS_clone, 0, 0, 0, 0, 0, 0); /* not SIGCHLD: no signal */

	if (pid == 0)
		gn_world.stats_wanted = gn_world.stats = false;
	else if (pid < 0)
		errno = -pid;
	return pid;
}

void gn_helper_wait(pid_t pid)
{
	while (gn_raw6(SYS_wait4, pid, 0, WAIT_ALL, 0, 0, 0) == -EINTR)
		;
}

void gn_adopt(struct gn_sock *so, int fd)
{
	if (gn_sys_getpid() == gn_world.pid)
		return;
	process_begins();
	so->seat = gn_ep_join(so->ep);
	/* The table is that of a process whose memory was borrowed: it says nothing of the descriptors here, and nobody left what it names. */
	for (uint32_t f = 0; f < gn_world.used_fds; f++)
		atomic_store(gn_slot(f), NULL);
	atomic_store(&gn_world.hidden, 0);
	gn_table_share(fd, so);
}

int gn_daemon(int nochdir, int noclose)
{
	int null;

	if (gn_raw3(SYS_setsid, 0, 0, 0) < 0)
		return -EPERM;
	if (!nochdir)
		gn_raw3(SYS_chdir, (long)"/", 0, 0);
	if (noclose)
		return 0;
	null = gn_sys_open("/dev/null", O_RDWR, 0);
	if (null < 0)
		return null;
	for (int fd = 0; fd <= 2; fd++)
		if (fd != null)
			gn_dup2(null, fd, 0, false);
	if (null > 2)
		gn_sys_close(null);
	return 0;
}
