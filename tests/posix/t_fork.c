/* SPDX-License-Identifier: MIT */
/* ring: yes */
/* fork: both processes go on with one connection; pre-fork servers on one listener; a child for each client. */
#include "obs.h"

#include <dlfcn.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

/* Parent and child write whole lines to one connection in turns; the peer sees each once. */
static void both_write(struct obs *o)
{
	char text[16];
	pid_t pid;

	peer_start(o, op_recv, 8 * 400, MSG_WAITALL);
	pid = obs_fork();
	for (int i = 0; i < 200; i++) {
		snprintf(text, sizeof(text), "%c%06d\n", pid ? 'p' : 'c', i);
		if (send(o->fd, text, 8, 0) != 8)
			obs("send", -1);
	}
	if (pid == 0)
		_exit(0);
	obs("child ends", obs_wait(pid));
	obs("peer has all", peer_done(o));
}

static long op_lines_in(struct obs *o, long n, long b)
{
	char line[9] = "", expect[16];
	int next[2] = { 0 };

	(void)b;
	for (long i = 0; i < n; i++) {
		int who;

		if (recv(o->fd, line, 8, o->type == SOCK_STREAM ? MSG_WAITALL : 0) != 8)
			return -1;
		who = line[0] == 'p';
		snprintf(expect, sizeof(expect), "%c%06d\n", who ? 'p' : 'c', next[who]++);
		if (strcmp(line, expect))
			return -2;
	}
	return n;
}

static void both_write_in_order(struct obs *o)
{
	char text[16];
	pid_t pid;

	peer_start(o, op_lines_in, 4000, 0);
	pid = obs_fork();
	for (int i = 0; i < 2000; i++) {
		snprintf(text, sizeof(text), "%c%06d\n", pid ? 'p' : 'c', i);
		if (send(o->fd, text, 8, 0) != 8)
			obs("send", -1);
	}
	if (pid == 0)
		_exit(0);
	obs("child ends", obs_wait(pid));
	obs("peer has all, in each writer's order", peer_done(o));
}

/* The child answers one question, then the parent, in turns, on one connection. */
static void take_turns(struct obs *o)
{
	int turn[2][2];
	char c;
	pid_t pid;

	if (pipe(turn[0]) || pipe(turn[1]))
		die("pipe");
	peer_start(o, op_echo, 400, 16);
	pid = obs_fork();
	for (int i = 0; i < 200; i++) {
		char out[16], in[16];

		if (pid == 0 && read(turn[0][0], &c, 1) != 1)
			_exit(1);
		snprintf(out, sizeof(out), "%s %06d", pid ? "parent" : "child ", i);
		if (send(o->fd, out, 16, 0) != 16 || recv(o->fd, in, 16, o->type == SOCK_STREAM ? MSG_WAITALL : 0) != 16 || memcmp(in, out, 16))
			note("round %d fails", i);
		if (write(turn[pid ? 0 : 1][1], "x", 1) != 1 || (pid && read(turn[1][0], &c, 1) != 1))
			note("turn %d fails", i);
	}
	if (pid == 0)
		_exit(0);
	obs("child ends", obs_wait(pid));
	obs("peer", peer_done(o));
}

/* The usual server: the parent closes its copy and the child goes on alone. */
static void child_takes_over(struct obs *o)
{
	pid_t pid = obs_fork();

	if (pid == 0) {
		peer_start(o, op_echo, 500, 8);
		for (int i = 0; i < 500; i++) {
			char out[8] = "request", in[8];

			if (send(o->fd, out, 8, 0) != 8 || recv(o->fd, in, 8, o->type == SOCK_STREAM ? MSG_WAITALL : 0) != 8)
				note("round %d fails", i);
		}
		obs("peer", peer_done(o));
		obs_send(o->fd, "bye", 0);
		exit(0);
	}
	close(o->fd);
	obs("child ends", obs_wait(pid));
	obs("peer recv", peer(o, op_recv, 10, 0));
	if (o->type == SOCK_STREAM)
		obs("peer recv", peer(o, op_recv, 10, 0));
}

/* The child leaves; the parent's connection is still whole, and only now is it closed. */
static void child_leaves(struct obs *o)
{
	pid_t pid = obs_fork();

	if (pid == 0) {
		send(o->fd, "child", 5, 0);
		exit(0);
	}
	obs("child ends", obs_wait(pid));
	obs("peer recv", peer(o, op_recv, 10, 0));
	obs_send(o->fd, "parent", 0);
	obs("peer recv", peer(o, op_recv, 10, 0));
	warm(o);
	obs_send(o->fd, "parent again", 0);
	obs("peer recv", peer(o, op_recv, 100, 0));
	close(o->fd);
	if (o->type == SOCK_STREAM)
		obs("peer recv", peer(o, op_recv, 10, 0));
}

/* Data that waits at the moment of fork is read by one or the other, once. */
static void data_waiting_at_fork(struct obs *o)
{
	char buf[20];
	ssize_t n;
	pid_t pid;

	peer_text(o, op_puts, 0, "abcdef");
	settle(o->fd);
	pid = obs_fork();
	if (pid == 0) {
		n = recv(o->fd, buf, 3, 0);
		exit(n == 3 && !memcmp(buf, "abc", 3) ? 0 : 1);
	}
	obs("child reads its half", obs_wait(pid));
	obs_recv(o->fd, 10, MSG_DONTWAIT);
	obs_recv(o->fd, 10, MSG_DONTWAIT);
}

static void shutdown_by_child(struct obs *o)
{
	pid_t pid = obs_fork();

	if (pid == 0) {
		shutdown(o->fd, SHUT_WR);
		exit(0);
	}
	obs("child ends", obs_wait(pid));
	obs_send(o->fd, "x", MSG_NOSIGNAL);
	obs("peer recv", peer(o, op_recv, 10, 0));
	obs("peer send", peer_text(o, op_puts, 0, "back"));
	obs_recv(o->fd, 10, 0);
}

static void nonblock_by_child(struct obs *o)
{
	pid_t pid = obs_fork();

	if (pid == 0) {
		nonblock(o->fd, true);
		exit(0);
	}
	obs("child ends", obs_wait(pid));
	obs("the flag is shared", (fcntl(o->fd, F_GETFL) & O_NONBLOCK) != 0);
	obs_recv(o->fd, 10, 0);
}

/* Only one of two blocked readers gets the byte. */
static void readers_in_two_processes(struct obs *o)
{
	char c;
	pid_t pid[2];

	for (int i = 0; i < 2; i++) {
		pid[i] = obs_fork();
		if (pid[i] == 0)
			exit(recv(o->fd, &c, 1, 0) == 1 ? c - '0' : 9);
		note("asleep: %d", thread_asleep(pid[i], pid[i], -1));
	}
	peer_text(o, op_puts, 0, "1");
	int status, sum = 0;
	pid_t first = wait(&status);
	sum += WEXITSTATUS(status);
	peer_text(o, op_puts, 0, "2");
	obs("sum", sum + obs_wait(first == pid[0] ? pid[1] : pid[0]));
}

/* --- servers --- */

/* text: the server. `n` callers one after the other, `rounds` requests each. Returns how many answers were right. */
static long op_callers(struct obs *o, long n, long rounds)
{
	struct obs_name at;
	long right = 0;

	name_unhex(&at, o->text);
	rounds = rounds ? rounds : 100;
	for (long i = 0; i < n; i++) {
		int fd = sock_of(o->kind, 0);

		if (connect(fd, (struct sockaddr *)&at.sa, at.len))
			return -1;
		for (long r = 0; r < rounds; r++) {
			char out[64] = "", in[16];

			snprintf(out, sizeof(out), "%05ld %05ld", i, r);
			right += send(fd, out, 16, 0) == 16 && recv(fd, in, 16, o->type == SOCK_STREAM ? MSG_WAITALL : 0) == 16 &&
				 !memcmp(in, out, 16);
		}
		close(fd);
	}
	return right;
}

static void prefork(struct obs *o)
{
	struct obs_name at;
	char hex[300];
	int lfd = listener(o->kind, 50, &at);
	pid_t pid[3];

	for (int i = 0; i < 3; i++) {
		pid[i] = obs_fork();
		while (pid[i] == 0)
			echo_until_end(accept(lfd, NULL, NULL));
	}
	name_hex(hex, &at);
	obs("answers", peer_text(o, op_callers, 30, hex));
	for (int i = 0; i < 3; i++) {
		kill(pid[i], SIGKILL);
		waitpid(pid[i], NULL, 0);
	}
}

/* Bound by the parent, and each worker listens for itself; one of them is busy, and is killed then. */
static void listen_in_each(struct obs *o)
{
	struct obs_name at;
	char hex[300], byte;
	int lfd = sock_of(o->kind, 0), ready[2];
	pid_t pid[3];

	name_any(&at, o->kind);
	if (pipe(ready) || bind(lfd, (struct sockaddr *)&at.sa, at.len))
		die("bind");
	name_get(lfd, &at);
	for (int i = 0; i < 3; i++) {
		pid[i] = obs_fork();
		if (pid[i] == 0) {
			int rc = listen(lfd, 50);

			if (write(ready[1], "", 1) != 1 || rc)
				_exit(1);
			if (i == 0)
				pause();
			for (;;) {
				int fd = accept(lfd, NULL, NULL);

				if (fd < 0)
					_exit(2);
				echo_until_end(fd);
			}
		}
		if (read(ready[0], &byte, 1) != 1)
			die("a worker");
	}
	name_hex(hex, &at);
	obs("answers", peer_text(o, op_callers, 15, hex));
	kill(pid[0], SIGKILL);
	obs("the busy one", obs_wait(pid[0]));
	obs("answers", peer_text(o, op_callers, 15, hex));
	for (int i = 1; i < 3; i++) {
		note("there: %d", waitpid(pid[i], NULL, WNOHANG) == 0);
		kill(pid[i], SIGKILL);
		waitpid(pid[i], NULL, 0);
	}
}

/* Pre-fork with epoll: every child has a set of its own with the shared listener in it, non-blocking. */
static void prefork_epoll(struct obs *o)
{
	struct obs_name at;
	char hex[300];
	int lfd = listener(o->kind, 50, &at);
	pid_t pid[3];

	nonblock(lfd, true);
	for (int i = 0; i < 3; i++) {
		pid[i] = obs_fork();
		if (pid[i] == 0) {
			struct epoll_event ev = { .events = EPOLLIN | (i ? EPOLLEXCLUSIVE : 0) };
			int ep = epoll_create1(0);

			epoll_ctl(ep, EPOLL_CTL_ADD, lfd, &ev);
			for (;;) {
				int fd;

				epoll_wait(ep, &ev, 1, -1);
				fd = accept(lfd, NULL, NULL);
				if (fd >= 0)
					echo_until_end(fd);
			}
		}
	}
	name_hex(hex, &at);
	obs("answers", peer_text(o, op_callers, 30, hex));
	for (int i = 0; i < 3; i++) {
		kill(pid[i], SIGKILL);
		waitpid(pid[i], NULL, 0);
	}
}

/* All callers are open at once; a child process serves each. */
static long op_callers_at_once(struct obs *o, long n, long b)
{
	struct obs_name at;
	int *fd = calloc((size_t)n, sizeof(*fd));
	long right = 0, rounds = n > 1000 ? 2 : 20;

	(void)b;
	many_descriptors();
	name_unhex(&at, o->text);
	for (long i = 0; i < n; i++) {
		fd[i] = sock_of(o->kind, 0);
		if (connect(fd[i], (struct sockaddr *)&at.sa, at.len))
			return -1;
	}
	for (long r = 0; r < rounds; r++) {
		for (long i = 0; i < n; i++)
			if (send(fd[i], &i, sizeof(i), 0) != sizeof(i))
				return -2;
		for (long i = 0; i < n; i++) {
			long back = -1;

			right += recv(fd[i], &back, sizeof(back), MSG_WAITALL) == sizeof(back) && back == i;
		}
	}
	for (long i = 0; i < n; i++)
		close(fd[i]);
	free(fd);
	return right;
}

static void a_child_for_each(struct obs *o, int n)
{
	struct obs_name at;
	char hex[300];
	int lfd = listener(o->kind, n, &at), reaped = 0, clean = 0;

	name_hex(hex, &at);
	peer_start_text(o, op_callers_at_once, n, hex);
	for (int i = 0; i < n; i++) {
		int fd = accept(lfd, NULL, NULL);
		pid_t pid;

		if (fd < 0)
			obs("accept", fd);
		pid = obs_fork();
		if (pid == 0) {
			close(lfd);
			echo_until_end(fd);
			_exit(0);
		}
		close(fd);
	}
	obs("answers", peer_done(o));
	for (int status; reaped < n && wait(&status) > 0; reaped++)
		clean += status == 0;
	note("children: %d clean: %d", reaped, clean);
}

static void a_child_for_each_of_20(struct obs *o)
{
	a_child_for_each(o, 20);
}

static void a_child_for_each_of_2000(struct obs *o)
{
	a_child_for_each(o, 2000);
}

static void a_child_for_each_of_300(struct obs *o)
{
	a_child_for_each(o, 300);
}

/* A daemon, with a listener that was made before: the double fork, or libc's own way. */
static void daemonized(struct obs *o, bool by_libc)
{
	struct obs_name at;
	char hex[300];
	int lfd = listener(o->kind, 50, &at), ready[2];
	pid_t pid, daemon_pid;

	if (pipe(ready))
		die("pipe");
	pid = obs_fork();
	if (pid == 0) {
		pid = by_libc ? daemon(1, 0) : fork();
		if (pid == 0) {
			pid = getpid();
			if (write(ready[1], &pid, sizeof(pid)) != sizeof(pid))
				_exit(1);
			for (int i = 0; i < 5; i++)
				echo_until_end(accept(lfd, NULL, NULL));
			_exit(0);
		}
		_exit(0);
	}
	close(lfd);
	obs("first child ends", obs_wait(pid));
	if (read(ready[0], &daemon_pid, sizeof(daemon_pid)) != sizeof(daemon_pid))
		die("read");
	name_hex(hex, &at);
	obs("answers", peer_text(o, op_callers, 5, hex));
}

static void daemonized_server(struct obs *o)
{
	daemonized(o, false);
}

static void daemonized_by_libc(struct obs *o)
{
	daemonized(o, true);
}

/* vfork's child shares the parent's memory; closing its descriptors must not be felt by the parent. */
static void vfork_and_close(int fd)
{
	pid_t pid = vfork();

	if (pid == 0) {
		close(fd);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
}

static _Atomic bool stop_copying;

static void *copies(void *arg)
{
	while (!stop_copying) {
		close(dup(*(int *)arg));
		usleep(100);
	}
	return NULL;
}

/* What another thread does meanwhile is no sign that the child has gone. */
static void vfork_beside_a_thread(struct obs *o)
{
	pthread_t thread;
	pid_t pid;
	int fd = open("/dev/null", O_RDONLY);

	stop_copying = false;
	pthread_create(&thread, NULL, copies, &fd);
	for (int i = 0; i < 5; i++) {
		pid = vfork();
		if (pid == 0) {
			usleep(5000);
			close(o->fd);
			_exit(0);
		}
		waitpid(pid, NULL, 0);
		obs_send(o->fd, "after vfork", 0);
		obs("peer recv", peer(o, op_recv, 100, 0));
	}
	stop_copying = true;
	pthread_join(thread, NULL);
	close(fd);
}

static void vfork_child(struct obs *o)
{
	for (int i = 0; i < 5; i++) {
		vfork_and_close(o->fd);
		obs_send(o->fd, "after vfork", 0);
		obs("peer recv", peer(o, op_recv, 100, 0));
	}
	peer_text(o, op_puts, 0, "answer");
	obs_recv(o->fd, 10, 0);
}

/* A process that has nothing of ours, under a number that we choose; -1: that is not for everybody. */
static pid_t process_numbered(pid_t number)
{
	struct clone_args args = { .exit_signal = SIGCHLD, .set_tid = (uintptr_t)&number, .set_tid_size = 1 };
	long pid = syscall(SYS_clone3, &args, sizeof(args));

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		syscall(SYS_close_range, 0, ~0u, 0);
		for (;;)
			syscall(SYS_ppoll, NULL, 0, NULL, NULL, 0);
	}
	return (pid_t)pid;
}

/* A relative is killed, and its number belongs to somebody else when one goes on. */
static void number_comes_again(struct obs *o)
{
	pid_t pid = obs_fork(), other;
	char buf[16] = "fifteen letters";

	if (pid == 0)
		for (;;)
			pause();
	kill(pid, SIGKILL);
	obs("child ends", obs_wait(pid));
	other = process_numbered(pid);
	note("its number again: %d", other == pid);
	peer_start(o, op_echo, 300, sizeof(buf));
	for (int i = 0; i < 300; i++)
		if (send(o->fd, buf, sizeof(buf), 0) != sizeof(buf) || recv(o->fd, buf, sizeof(buf), MSG_WAITALL) != sizeof(buf))
			note("turn %d fails", i);
	obs("peer", peer_done(o));
	peer_start(o, op_recv, 10, 0);
	close(o->fd);
	obs("peer recv", peer_done(o));
	if (other > 0) {
		kill(other, SIGKILL);
		obs_wait(other);
	}
}

/* There the numbers of relatives mean nothing, or others. */
static void another_process_namespace(struct obs *o)
{
	pid_t pid;

	if (unshare(CLONE_NEWPID) && unshare(CLONE_NEWUSER | CLONE_NEWPID)) {
		note("no namespaces");
		return;
	}
	peer_start(o, op_echo, 600, 16);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		exit(turns(o->fd, 300) == 300 ? 0 : 1);
	}
	obs("child", obs_wait(pid));
	note("parent %d", turns(o->fd, 300));
	obs("peer", peer_done(o));
}

/* The child closes its copies, with nothing of ours between it and libc's fork. */
static void fork_inside_libc(struct obs *o)
{
	void *libc = dlopen("libc.so.6", RTLD_LAZY), *found = libc ? dlsym(libc, "fork") : NULL;
	pid_t (*past_us)(void), pid;

	if (!found)
		die("dlsym");
	memcpy(&past_us, &found, sizeof past_us);
	pid = past_us();
	if (pid == 0) {
		closefrom(3);
		_exit(0);
	}
	obs("child", obs_wait(pid));
	obs_send(o->fd, "the parent's is unharmed", 0);
	obs("peer recv", peer(o, op_recv, 100, 0));
	note("peer has %s", o->say);
	peer_text(o, op_puts, 0, "both ways");
	obs_recv(o->fd, 100, 0);
}

/* Both on one processor, and who waits in epoll last: the reader has been and gone before the other looks. */
static void reader_goes_first(bool watcher)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(0, &one);
	sched_setaffinity(0, sizeof(one), &one);
	if (watcher)
		setpriority(PRIO_PROCESS, 0, 19);
}

static void told(int report, char what)
{
	if (write(report, &what, 1) != 1)
		_exit(1);
}

/* Each word to `go`: one recv() of a byte. */
static void read_bytes(int fd, int go, int report)
{
	char c;

	reader_goes_first(false);
	while (read(go, &c, 1) == 1)
		told(report, recv(fd, &c, 1, 0) == 1 ? c : '0');
	_exit(0);
}

/* Each word to `go`: waits for a '2', or the end, to head what is unread, and takes it. */
static void watch_for_2(int fd, int go, int report)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int set = epoll_create1(0);
	ssize_t n;
	char c;

	reader_goes_first(true);
	if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &ev))
		_exit(1);
	while (read(go, &c, 1) == 1) {
		do {
			if (epoll_wait(set, &ev, 1, -1) != 1)
				_exit(2);
			n = recv(fd, &c, 1, MSG_PEEK | MSG_DONTWAIT);
		} while (n < 0 || (n == 1 && c != '2'));
		told(report, n && recv(fd, &c, 1, MSG_DONTWAIT) == 1 ? c : '0');
	}
	_exit(0);
}

struct relative {
	pid_t pid, tid;
	int go, report;
};

static struct relative relative(int fd, void (*run)(int fd, int go, int report))
{
	int go[2], report[2];
	struct relative r;

	if (pipe(go) || pipe(report))
		die("pipe");
	r = (struct relative){ .pid = obs_fork(), .go = go[1], .report = report[0] };
	if (r.pid == 0) {
		close(go[1]);
		run(fd, go[0], report[1]);
	}
	r.tid = r.pid;
	close(go[0]);
	close(report[1]);
	return r;
}

struct job {
	void (*run)(int fd, int go, int report);
	int fd, go, report;
};

static void *job_thread(void *arg)
{
	const struct job *job = arg;
	pid_t tid = (pid_t)syscall(SYS_gettid);

	if (write(job->report, &tid, sizeof(tid)) == sizeof(tid))
		job->run(job->fd, job->go, job->report);
	return NULL;
}

/* The same by a thread of this process, which runs until the process ends. */
static struct relative thread_of(int fd, void (*run)(int fd, int go, int report))
{
	int go[2], report[2];
	struct job *job = malloc(sizeof(*job));
	struct relative r = { .pid = getpid() };
	pthread_t thread;

	if (!job || pipe(go) || pipe(report))
		die("pipe");
	*job = (struct job){ run, fd, go[0], report[1] };
	if (pthread_create(&thread, NULL, job_thread, job) || read(report[0], &r.tid, sizeof(r.tid)) != sizeof(r.tid))
		die("thread");
	r.go = go[1];
	r.report = report[0];
	return r;
}

static void put_to_sleep(const struct relative *r)
{
	if (write(r->go, "g", 1) != 1 || !thread_asleep(r->pid, r->tid, r->report))
		note("not asleep");
}

/* Within three seconds. */
static char report_of(const struct relative *r)
{
	struct pollfd p = { r->report, POLLIN, 0 };
	char c = '-';

	if (poll(&p, 1, 3000) == 1 && read(r->report, &c, 1) != 1)
		c = 'x';
	return c;
}

/* One reads, and one waits in a set of its own: what the reader leaves, and what comes when it has gone, wakes the other. */
static void both_are_woken(struct obs *o, struct relative reader, struct relative watcher)
{
	char first = '1', second = '2';
	int round;

	for (round = 0; round < 100 && first == '1' && second == '2'; round++) {
		put_to_sleep(&watcher);
		put_to_sleep(&reader);
		if (peer_text(o, op_puts, 0, round % 2 && o->type == SOCK_STREAM ? "12" : "1") < 0)
			note("send fails");
		if (round % 2 && o->type != SOCK_STREAM)
			peer_text(o, op_puts, 0, "2");
		first = report_of(&reader);
		if (round % 2 == 0)
			peer_text(o, op_puts, 0, "2");
		second = report_of(&watcher);
	}
	note("%d rounds, the last: %c %c", round, first, second);
	put_to_sleep(&watcher);
	put_to_sleep(&reader);
	if (o->type != SOCK_DGRAM) {
		obs("peer shutdown", peer(o, op_shutdown, SHUT_WR, 0));
		first = report_of(&reader);
		note("the end: %c %c", first, report_of(&watcher));
	}
}

static void threads_read_and_watch(struct obs *o)
{
	struct relative reader = thread_of(o->fd, read_bytes);

	both_are_woken(o, reader, thread_of(o->fd, watch_for_2));
}

/* The set is made after the fork. */
static void reader_and_watcher(struct obs *o)
{
	struct relative reader = relative(o->fd, read_bytes), watcher = relative(o->fd, watch_for_2);

	both_are_woken(o, reader, watcher);
	kill(reader.pid, SIGKILL);
	kill(watcher.pid, SIGKILL);
	obs_wait(reader.pid);
	obs_wait(watcher.pid);
}

/* Kills one that is put to sleep. */
static void killed_asleep(const struct relative *r)
{
	put_to_sleep(r);
	kill(r->pid, SIGKILL);
	obs_wait(r->pid);
}

#define MANY 10

/* More processes than an endpoint has names for; of those that sleep on it one is killed, the first and the last to come. Those that are
 * left sleep while there is nothing, and each byte wakes one. */
static void many_relatives(struct obs *o)
{
	struct relative r[MANY];
	int alone = 0, together = 0;

	for (int i = 0; i < MANY; i++)
		r[i] = relative(o->fd, read_bytes);
	killed_asleep(&r[MANY - 1]);
	killed_asleep(&r[0]);
	for (int i = 1; i < MANY - 1; i++) {
		put_to_sleep(&r[i]);
		peer_text(o, op_puts, 0, "1");
		alone += report_of(&r[i]) == '1';
	}
	for (int i = 1; i < MANY - 1; i++)
		put_to_sleep(&r[i]);
	for (int i = 1; i < MANY - 1; i++)
		peer_text(o, op_puts, 0, "1");
	for (int i = 1; i < MANY - 1; i++)
		together += report_of(&r[i]) == '1';
	note("one by one %d, together %d", alone, together);
	peer_text(o, op_puts, 0, "the parent's is unharmed");
	obs_recv(o->fd, 100, 0);
	put_to_sleep(&r[MANY - 2]); /* one that nobody counts */
	obs("shutdown", shutdown(o->fd, SHUT_RD));
	note("it reads %c", report_of(&r[MANY - 2]));
	for (int i = 1; i < MANY - 1; i++) {
		kill(r[i].pid, SIGKILL);
		obs_wait(r[i].pid);
	}
}

/* Everything that is to be read, and what that lets in. */
static long op_drain(struct obs *o, long a, long b)
{
	static char buf[65536];
	struct pollfd p = { o->fd, POLLIN, 0 };

	(void)a, (void)b;
	while (poll(&p, 1, 100) == 1)
		if (recv(o->fd, buf, sizeof(buf), MSG_DONTWAIT) <= 0)
			break;
	return 0;
}

/* Each word to `go`: writes until there is no room, and waits for room in a set in a set, or by poll() of the inner one. */
static void wait_for_room(int fd, int go, int report)
{
	static char buf[4096];
	int inner = epoll_on(fd, EPOLLOUT), outer = epoll_on(inner, EPOLLIN);
	struct pollfd p = { inner, POLLIN, 0 };
	struct epoll_event ev;
	char c;

	reader_goes_first(true);
	for (int round = 0; read(go, &c, 1) == 1; round++) {
		while (send(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
			;
		if ((round % 2 ? poll(&p, 1, -1) : epoll_wait(outer, &ev, 1, -1)) != 1 || epoll_wait(inner, &ev, 1, 0) != 1)
			_exit(2);
		told(report, ev.events & EPOLLOUT ? 'w' : '0');
	}
	_exit(0);
}

/* One process sleeps in recv(), and one waits for room in nested sets: the reader, which is woken too, does not keep the news to itself. */
static void room_in_nested_sets(struct obs *o)
{
	struct relative reader = relative(o->fd, read_bytes), writer = relative(o->fd, wait_for_room);
	char said = 'w';
	int round;

	put_to_sleep(&reader);
	for (round = 0; round < 10 && said == 'w'; round++) {
		put_to_sleep(&writer);
		peer(o, op_drain, 0, 0);
		said = report_of(&writer);
	}
	note("%d rounds, the last: %c", round, said);
	kill(reader.pid, SIGKILL);
	kill(writer.pid, SIGKILL);
	obs_wait(reader.pid);
	obs_wait(writer.pid);
}

static int born; /* where a child of the handler's says who it is */
static volatile sig_atomic_t is_child;

static void fork_here(int sig)
{
	pid_t pid;

	(void)sig;
	is_child = fork() == 0;
	pid = getpid();
	if (is_child && write(born, &pid, sizeof(pid)) != sizeof(pid))
		_exit(1);
}

/* In poll(), until a handler forks: the child goes on, makes the connection busy, and reads byte by byte. */
static void poll_and_read(int fd, int go, int report)
{
	struct pollfd p = { fd, POLLIN, 0 };
	char c;

	signal(SIGUSR1, fork_here);
	if (read(go, &c, 1) != 1 || poll(&p, 1, -1) != -1)
		_exit(1);
	if (!is_child)
		_exit(0);
	if (turns(fd, OBS_WARM) != OBS_WARM)
		_exit(1);
	told(report, 'w');
	read_bytes(fd, go, report);
}

static void handler_forks_in_poll(struct obs *o)
{
	int pids[2];
	struct relative r;

	if (pipe(pids))
		die("pipe");
	born = pids[1];
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	r = relative(o->fd, poll_and_read);
	put_to_sleep(&r);
	close(o->fd);
	kill(r.pid, SIGUSR1);
	obs("the first ends", obs_wait(r.pid));
	peer_start(o, op_echo, OBS_WARM, 16);
	if (read(pids[0], &r.pid, sizeof(r.pid)) != sizeof(r.pid))
		die("read");
	note("warm: %c", report_of(&r));
	obs("echoes", peer_done(o));
	for (int i = 0; i < 3; i++) {
		put_to_sleep(&r);
		peer_text(o, op_puts, 0, "1");
		note("%c", report_of(&r));
	}
	kill(r.pid, SIGKILL);
	obs_wait(r.pid);
}

/* What a program's own handlers of fork may do: wait for a handler of a signal, that another thread sends to this one, and use sockets. */
static struct {
	_Atomic bool wanted, heard;
	pthread_t forks;
	int fd;
	int before, parent, child; /* what became of it */
} handlers;

static void hear(int sig)
{
	(void)sig;
	handlers.heard = true;
}

static void *sends_a_signal(void *arg)
{
	(void)arg;
	while (!handlers.wanted)
		sched_yield();
	pthread_kill(handlers.forks, SIGUSR1);
	return NULL;
}

static int opens_sockets(void)
{
	char c = 0;
	int two[2], ok;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, two))
		return -1;
	ok = write(two[0], "x", 1) == 1 && read(two[1], &c, 1) == 1 && c == 'x';
	close(two[0]);
	close(two[1]);
	return ok;
}

static void waits_for_signal(void)
{
	handlers.wanted = true;
	for (int ms = 0; ms < 2000 && !handlers.heard; ms++)
		usleep(1000);
	handlers.before = handlers.heard + opens_sockets();
}

static void parent_goes_on(void)
{
	handlers.parent = opens_sockets() + (send(handlers.fd, "parent", 6, 0) == 6);
}

static void child_goes_on(void)
{
	handlers.child = opens_sockets();
}

static void handlers_use_sockets(struct obs *o)
{
	pthread_t thread;
	pid_t pid;

	handlers.forks = pthread_self();
	handlers.fd = o->fd;
	signal(SIGUSR1, hear);
	fflush(stdout);
	if (pthread_atfork(waits_for_signal, parent_goes_on, child_goes_on) || pthread_create(&thread, NULL, sends_a_signal, NULL))
		die("a thread");
	pid = fork();
	if (pid == 0)
		_exit(handlers.child == 1 && send(o->fd, "child", 5, 0) == 5 ? 7 : 1);
	pthread_join(thread, NULL);
	obs("child", obs_wait(pid));
	note("before %d, after %d", handlers.before, handlers.parent);
	obs("peer", peer(o, op_recv, 11, MSG_WAITALL));
}

int main(int argc, char **argv)
{
	static const struct obs_case cases[] = {
		{ "both write", both_write, STREAM, 0 },
		{ "both write, in order", both_write_in_order, STREAM | LOCALDG | SEQ, 0 },
		{ "they take turns", take_turns, STREAM | DGRAM | SEQ, 0 },
		{ "the child takes over", child_takes_over, STREAM | DGRAM | SEQ, THREADS },
		{ "the child leaves", child_leaves, STREAM | DGRAM | SEQ, 0 },
		{ "data waiting at fork", data_waiting_at_fork, STREAM, 0 },
		{ "shutdown by the child", shutdown_by_child, STREAM, 0 },
		{ "O_NONBLOCK by the child", nonblock_by_child, STREAM | DGRAM, 0 },
		{ "readers in two processes", readers_in_two_processes, STREAM | DGRAM | SEQP, 0 },
		{ "a reader and one in epoll", reader_and_watcher, STREAM | SEQ | DGRAM, SLOW },
		{ "threads: one reads, one is in epoll", threads_read_and_watch, STREAM | SEQ | DGRAM, SLOW },
		{ "more relatives than names", many_relatives, STREAM | DGRAM | SEQ, SLOW },
		{ "a reader and one that waits for room in nested sets", room_in_nested_sets, STREAM | SEQ | LOCALDG, SLOW },
		{ "in poll, by a handler", handler_forks_in_poll, TCP4 | UNIXP, COLD_ONLY },
		{ "each worker listens", listen_in_each, TCP4 | TCP6 | UNIXP | UNIXA | SEQP, NO_RING },
		{ "pre-fork", prefork, TCP4 | TCP6 | UNIXP | UNIXA | SEQP, 0 },
		{ "pre-fork with epoll", prefork_epoll, TCP4 | TCP6 | UNIXP | UNIXA, 0 },
		{ "a child for each", a_child_for_each_of_20, TCP4 | TCP6 | UNIXP, 0 },
		{ "a child for each of 300", a_child_for_each_of_300, TCP4 | UNIXP, HOT_ONLY | SLOW },
		{ "a child for each of 2,000", a_child_for_each_of_2000, TCP4 | UNIXP, HOT_ONLY | LONG },
		{ "a daemon", daemonized_server, TCP4 | UNIXP, 0 },
		{ "daemon(3)", daemonized_by_libc, TCP4 | UNIXP, 0 },
		{ "vfork", vfork_child, STREAM, 0 },
		{ "vfork beside a thread", vfork_beside_a_thread, STREAM, 0 },
		{ "another process namespace", another_process_namespace, STREAM | SEQP, 0 },
		{ "handlers of fork use sockets", handlers_use_sockets, STREAM, 0 },
		{ "inside libc", fork_inside_libc, STREAM, 0 },
		{ "a process number that comes again", number_comes_again, STREAM, 0 },
		{ 0 },
	};

	return obs_main(argc, argv, cases);
}
