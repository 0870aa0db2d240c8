/* SPDX-License-Identifier: MIT */
/* ring: yes */
/*
 * Datagrams that nobody has read yet when the socket goes to somebody else: by exec, spawn, passing, stdio, io_uring or into a sandbox. All
 * are read there, in order, each with its sender's address, whatever the sender does meanwhile.
 */
#include "obs_uring.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <spawn.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define COUNT 100
#define SIZE_MAX_ 200
#define PATIENCE_MS 1200
#define LINE 20

/* Of the n-th one: none to SIZE_MAX_ bytes. */
static size_t size_of(long n)
{
	return (size_t)(n * 37 % SIZE_MAX_);
}

/* text: where to, or nothing. From the first-th on. */
static long op_pour(struct obs *o, long first, long count)
{
	char buf[SIZE_MAX_];
	struct obs_name to = { .len = 0 };

	if (o->text[0])
		name_unhex(&to, o->text);
	for (long i = first; i < first + count; i++) {
		pattern(buf, size_of(i), (uint64_t)i, 3);
		if (sendto(o->fd, buf, size_of(i), 0, to.len ? (struct sockaddr *)&to.sa : NULL, to.len) != (ssize_t)size_of(i))
			return i - first;
	}
	return count;
}

/* --- the next reader --- */

/* Reads them from the first-th on, and says what it was. Nothing more comes. */
static void read_them(int fd, long first, long count, const struct obs_name *peer_name)
{
	struct timeval patience = { PATIENCE_MS / 1000, PATIENCE_MS % 1000 * 1000 };
	char buf[SIZE_MAX_ + 50], want[SIZE_MAX_];
	long right = 0, from_it = 0, n = 0;
	struct obs_name from;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	for (; n < count; n++) {
		ssize_t len;

		from.len = sizeof(from.sa);
		len = recvfrom(fd, buf, sizeof(buf), 0, (struct sockaddr *)&from.sa, &from.len);
		if (len < 0)
			break;
		pattern(want, size_of(first + n), (uint64_t)(first + n), 3);
		right += len == (ssize_t)size_of(first + n) && !memcmp(buf, want, (size_t)len);
		from_it += from.len == peer_name->len && !memcmp(&from.sa, &peer_name->sa, from.len);
	}
	note("read: %ld, right: %ld, from the peer: %ld", n, right, from_it);
	obs("one more", recv(fd, buf, sizeof(buf), MSG_DONTWAIT));
}

/* argv: --read FD FIRST COUNT NAME */
static int read_main(char **argv)
{
	struct obs_name from = { .len = 0 };

	name_unhex(&from, argv[5]);
	read_them(atoi(argv[2]), atol(argv[3]), atol(argv[4]), &from);
	fflush(stdout);
	return 0;
}

struct next {
	char fd[16], first[16], count[16], from[400];
	char *argv[7];
};

static void next_reader(struct next *r, int fd, long first, long count, const struct obs_name *from)
{
	snprintf(r->fd, sizeof(r->fd), "%d", fd);
	snprintf(r->first, sizeof(r->first), "%ld", first);
	snprintf(r->count, sizeof(r->count), "%ld", count);
	name_hex(r->from, from);
	memcpy(r->argv, (char *[]){ (char *)"next", (char *)"--read", r->fd, r->first, r->count, r->from, NULL }, sizeof(r->argv));
}

static char *no_env[] = { NULL };

static pid_t start(int fd, long first, long count, const struct obs_name *from, char **env)
{
	struct next r;
	pid_t pid;

	next_reader(&r, fd, first, count, from);
	fflush(stdout);
	pid = obs_fork();
	if (pid == 0) {
		execve("/proc/self/exe", r.argv, env);
		_exit(127);
	}
	return pid;
}

static void patient(int fd)
{
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){ 1, 0 }, sizeof(struct timeval));
}

static long op_pour_small(struct obs *o, long count, long first)
{
	for (long i = first; i < first + count; i++)
		if (send(o->fd, &i, sizeof(i), 0) != sizeof(i))
			return i - first;
	return count;
}

/* argv: --count FD COUNT */
static int count_main(char **argv)
{
	long i, n;

	patient(atoi(argv[2]));
	for (i = 0; i < atol(argv[3]); i++)
		if (recv(atoi(argv[2]), &n, sizeof(n), 0) != sizeof(n) || n != i)
			break;
	note("in order: %ld", i);
	fflush(stdout);
	return 0;
}

/* --- ways out --- */

static void of_peer(const struct obs *o, struct obs_name *from)
{
	memset(from, 0, sizeof(*from));
	from->len = sizeof(from->sa);
	if (getpeername(o->fd, (struct sockaddr *)&from->sa, &from->len))
		die("getpeername");
	if (from->len <= sizeof(sa_family_t))
		from->len = 0;
}

static void by_exec(struct obs *o, char **env)
{
	struct obs_name from;

	of_peer(o, &from);
	obs("peer pours", peer(o, op_pour, 0, COUNT));
	obs("program ends", obs_wait(start(o->fd, 0, COUNT, &from, env)));
}

static void without_shim(struct obs *o)
{
	by_exec(o, no_env);
}

static void with_shim(struct obs *o)
{
	by_exec(o, environ);
}

static void spawned(struct obs *o)
{
	posix_spawn_file_actions_t acts;
	struct obs_name from;
	struct next r;
	pid_t pid;
	int rc;

	of_peer(o, &from);
	obs("peer pours", peer(o, op_pour, 0, COUNT));
	next_reader(&r, 20, 0, COUNT, &from);
	fflush(stdout);
	posix_spawn_file_actions_init(&acts);
	posix_spawn_file_actions_adddup2(&acts, o->fd, 20);
	rc = posix_spawn(&pid, "/proc/self/exe", &acts, NULL, r.argv, no_env);
	posix_spawn_file_actions_destroy(&acts);
	obs("program ends", rc ? rc : obs_wait(pid)); /* said after what the program says */
}

static void vforked(struct obs *o)
{
	struct obs_name from;
	struct next r;
	pid_t pid;

	of_peer(o, &from);
	obs("peer pours", peer(o, op_pour, 0, COUNT));
	next_reader(&r, 20, 0, COUNT, &from);
	fflush(stdout);
	pid = vfork();
	if (pid == 0) {
		dup2(o->fd, 20);
		execve("/proc/self/exe", r.argv, no_env);
		_exit(127);
	}
	obs("program ends", obs_wait(pid));
}

static void by_passing(struct obs *o)
{
	struct obs_name from;
	int pair[2];
	pid_t pid;

	of_peer(o, &from);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		die("socketpair");
	fflush(stdout);
	pid = obs_fork();
	if (pid == 0) {
		struct next r;
		int fd;

		close(o->fd);
		close(pair[0]);
		fd = passed_fd(pair[1]);
		next_reader(&r, fd, 0, COUNT, &from);
		execve("/proc/self/exe", r.argv, no_env);
		_exit(127);
	}
	close(pair[1]);
	obs("peer pours", peer(o, op_pour, 0, COUNT));
	obs("passed", pass_fd(pair[0], o->fd));
	fflush(stdout);
	close(o->fd);
	o->fd = -1;
	obs("receiver ends", obs_wait(pid));
}

static long op_lines(struct obs *o, long count, long b)
{
	char line[64];

	(void)b;
	for (long i = 0; i < count; i++) {
		snprintf(line, sizeof(line), "this is line %06ld\n", i);
		if (send(o->fd, line, LINE, 0) != LINE)
			return i;
	}
	return count;
}

static long lines_read(FILE *f)
{
	char line[64], want[64];
	long i;

	for (i = 0; i < COUNT; i++) {
		snprintf(want, sizeof(want), "this is line %06ld\n", i);
		if (!fgets(line, sizeof(line), f) || strcmp(line, want))
			break;
	}
	return i;
}

static void by_fdopen(struct obs *o)
{
	obs("peer writes", peer(o, op_lines, COUNT, 0));
	patient(o->fd);
	obs("lines", lines_read(fdopen(o->fd, "r")));
}

static void by_stdin(struct obs *o)
{
	obs("peer writes", peer(o, op_lines, COUNT, 0));
	patient(o->fd);
	obs("dup2", dup2(o->fd, 0));
	clearerr(stdin);
	obs("lines", lines_read(stdin));
}

/* --- io_uring --- */

static void by_uring(struct obs *o)
{
	char buf[SIZE_MAX_ + 50], want[SIZE_MAX_];
	struct uring u;
	long right = 0;

	obs("peer pours", peer(o, op_pour, 0, COUNT));
	if (!uring_open(&u, NULL))
		return;
	for (long i = 0; i < COUNT; i++) {
		long len = uring_request(&u, IORING_OP_RECV, o->fd, buf, sizeof(buf), MSG_DONTWAIT);

		pattern(want, size_of(i), (uint64_t)i, 3);
		right += len == (long)size_of(i) && !memcmp(buf, want, (size_t)len);
	}
	note("right: %ld", right);
	obs("one more", uring_request(&u, IORING_OP_RECV, o->fd, buf, sizeof(buf), MSG_DONTWAIT));
}

/* --- sandboxes: reads and writes, and nothing else --- */

#define ALLOW(nr) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (nr), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static bool confine(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		ALLOW(SYS_read), ALLOW(SYS_write), ALLOW(SYS_exit_group), ALLOW(SYS_close),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog program = { sizeof(code) / sizeof(*code), code };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static void in_a_sandbox(struct obs *o)
{
	char buf[SIZE_MAX_ + 50], want[SIZE_MAX_];
	long right = 0;
	pid_t pid;

	obs("peer pours", peer(o, op_pour, 0, COUNT));
	fflush(stdout);
	pid = obs_fork();
	if (pid == 0) {
		if (!confine())
			_exit(200);
		for (long i = 0; i < COUNT; i++) {
			ssize_t n = read(o->fd, buf, sizeof(buf));

			pattern(want, size_of(i), (uint64_t)i, 3);
			right += n == (ssize_t)size_of(i) && !memcmp(buf, want, (size_t)n);
		}
		for (int i = 0; i < 30; i++) {
			ssize_t n;

			right += write(o->fd, "ask", 3) == 3;
			n = read(o->fd, buf, sizeof(buf));
			right += n == 3 && !memcmp(buf, "ask", 3);
		}
		close(o->fd);
		_exit(right == COUNT + 60 ? 0 : 100);
	}
	obs("peer", peer(o, op_echo, 30, 3));
	obs("child ends", obs_wait(pid));
}

/* Whoever writes is in a sandbox when its reader goes. */
static void from_a_sandbox(struct obs *o)
{
	struct obs_name from;
	char buf[SIZE_MAX_];
	int ready[2];
	pid_t pid;

	of_peer(o, &from);
	if (pipe(ready))
		die("pipe");
	fflush(stdout);
	pid = obs_fork();
	if (pid == 0) {
		close(ready[0]);
		if (!confine())
			_exit(200);
		for (long i = 0; i < COUNT; i++) {
			pattern(buf, size_of(i), (uint64_t)i, 3);
			if (write(o->fd, buf, size_of(i)) != (ssize_t)size_of(i))
				_exit(100);
		}
		_exit(write(ready[1], "x", 1) == 1 ? 0 : 101);
	}
	obs("child writes", read(ready[0], buf, 1));
	obs("child ends", obs_wait(pid));
	for (long i = 0; i < COUNT; i++)
		peer(o, op_recv, 300, MSG_DONTWAIT);
	note("the last one: %s", o->say);
}

/* --- what the sender does meanwhile --- */

static long op_recv_then(struct obs *o, long first, long b)
{
	char buf[20];

	(void)b;
	if (op_pour(o, first, COUNT) != COUNT)
		return -1;
	return recv(o->fd, buf, sizeof(buf), 0);
}

static long op_poll_then(struct obs *o, long first, long b)
{
	struct pollfd p = { .fd = o->fd, .events = POLLIN };
	char buf[20];

	(void)b;
	if (op_pour(o, first, COUNT) != COUNT || poll(&p, 1, 5000) != 1)
		return -1;
	return recv(o->fd, buf, sizeof(buf), 0);
}

/* No call of any kind for two seconds, which is more than anybody's patience. */
static long op_compute_then(struct obs *o, long first, long ms)
{
	int64_t end = now_ms() + ms;

	if (op_pour(o, first, COUNT) != COUNT)
		return -1;
	for (volatile uint64_t n = 0; now_ms() < end; n++)
		;
	return 0;
}

static void while_it_sleeps(struct obs *o, obs_op *op)
{
	struct obs_name from;

	of_peer(o, &from);
	peer_start(o, op, 0, 0);
	if (!peer_asleep(o))
		note("the peer does not sleep");
	obs("program ends", obs_wait(start(o->fd, 0, COUNT, &from, no_env)));
	obs_send(o->fd, "wake up", 0);
	obs("peer", peer_done(o));
}

static void while_it_receives(struct obs *o)
{
	while_it_sleeps(o, op_recv_then);
}

static void while_it_polls(struct obs *o)
{
	while_it_sleeps(o, op_poll_then);
}

static void while_it_computes(struct obs *o)
{
	struct obs_name from;

	of_peer(o, &from);
	peer_start(o, op_compute_then, 0, 2000);
	settle(o->fd);
	usleep(100000); /* it cannot tell that it has written them all */
	obs("program ends", obs_wait(start(o->fd, 0, COUNT, &from, no_env)));
	obs("peer", peer_done(o));
}

static void when_it_is_dead(struct obs *o)
{
	struct obs_name from;

	of_peer(o, &from);
	obs("peer pours", peer(o, op_pour, 0, COUNT));
	kill(o->pid, SIGKILL);
	obs("it is dead", waitid(P_PID, (id_t)o->pid, &(siginfo_t){ 0 }, WEXITED | WNOWAIT));
	obs("program ends", obs_wait(start(o->fd, 0, COUNT, &from, no_env)));
}

static void when_it_has_closed(struct obs *o)
{
	struct obs_name from;

	of_peer(o, &from);
	obs("peer pours", peer(o, op_pour, 0, COUNT));
	obs("peer closes", peer(o, op_close, 0, 0));
	obs("program ends", obs_wait(start(o->fd, 0, COUNT, &from, no_env)));
}

/* The name of the dead is shown by nobody else: only what they said. */
static void when_a_named_one_is_dead(struct obs *o)
{
	char fd[16], count[16];
	char *argv[] = { (char *)"next", (char *)"--count", fd, count, NULL };
	pid_t pid;

	obs("peer pours", peer(o, op_pour_small, COUNT, 0));
	kill(o->pid, SIGKILL);
	obs("it is dead", waitid(P_PID, (id_t)o->pid, &(siginfo_t){ 0 }, WEXITED | WNOWAIT));
	snprintf(fd, sizeof(fd), "%d", o->fd);
	snprintf(count, sizeof(count), "%d", COUNT);
	fflush(stdout);
	pid = obs_fork();
	if (pid == 0) {
		execve("/proc/self/exe", argv, no_env);
		_exit(127);
	}
	obs("program ends", obs_wait(pid));
}

static void when_it_has_shut(struct obs *o)
{
	struct obs_name from;

	of_peer(o, &from);
	obs("peer pours", peer(o, op_pour, 0, COUNT));
	obs("peer shuts", peer(o, op_shutdown, SHUT_WR, 0));
	obs("program ends", obs_wait(start(o->fd, 0, COUNT, &from, no_env)));
}

static long op_untraced(struct obs *o, long a, long b)
{
	(void)o;
	(void)a;
	(void)b;
	if (getuid() == 0 && (setgid(65534) || setuid(65534)))
		return -1;
	return prctl(PR_SET_DUMPABLE, 0);
}

/* Whoever is not root may not borrow its descriptors: it has to do something itself, or another socket does for it. */
static void untraced_while(struct obs *o, obs_op *op, bool sleeps)
{
	struct obs_name from;

	of_peer(o, &from);
	obs("peer", peer(o, op_untraced, 0, 0));
	if (getuid() == 0 && (setgid(65534) || setuid(65534)))
		die("setuid");
	prctl(PR_SET_DUMPABLE, 1);
	peer_start(o, op, 0, 2000);
	settle(o->fd);
	if (sleeps)
		peer_asleep(o);
	else
		usleep(100000);
	obs("program ends", obs_wait(start(o->fd, 0, COUNT, &from, no_env)));
	if (sleeps)
		obs_send(o->fd, "wake up", 0);
	obs("peer", peer_done(o));
}

static void untraced(struct obs *o)
{
	untraced_while(o, op_recv_then, true);
}

static void untraced_computes(struct obs *o)
{
	untraced_while(o, op_compute_then, false);
}

/* --- order --- */

/* Some were read before, and more are sent after. */
static void in_the_middle(struct obs *o)
{
	struct obs_name from;
	long poured;
	pid_t pid;

	of_peer(o, &from);
	obs("peer pours", peer(o, op_pour, 0, COUNT));
	read_them(o->fd, 0, 30, &from);
	pid = start(o->fd, 31, 2 * COUNT - 31, &from, no_env); /* "one more" was the 31st */
	poured = peer(o, op_pour, COUNT, COUNT);
	obs("program ends", obs_wait(pid)); /* said after what the program says */
	obs("peer pours", poured);
}

/* The peer does not stop for it. */
static long op_pour_slowly(struct obs *o, long count, long b)
{
	(void)b;
	for (long i = 0; i < count; i++) {
		if (op_pour(o, i, 1) != 1)
			return i;
		if (i % 8 == 0)
			usleep(500);
	}
	return count;
}

static void under_way(struct obs *o)
{
	struct obs_name from;

	of_peer(o, &from);
	peer_start(o, op_pour_slowly, 1000, 0);
	settle(o->fd);
	obs("program ends", obs_wait(start(o->fd, 0, 1000, &from, no_env)));
	obs("peer", peer_done(o));
}

#define MANY 4000

/* More than the kernel's queue takes: the sender waits for the reader, or has been let go before. */
static void more_than_fit(struct obs *o)
{
	char fd[16], count[16];
	char *argv[] = { (char *)"next", (char *)"--count", fd, count, NULL };
	pid_t pid;

	snprintf(fd, sizeof(fd), "%d", o->fd);
	snprintf(count, sizeof(count), "%d", 2 * MANY);
	peer_start(o, op_pour_small, MANY, 0);
	usleep(100000);
	fflush(stdout);
	pid = obs_fork();
	if (pid == 0) {
		execve("/proc/self/exe", argv, no_env);
		_exit(127);
	}
	obs("peer", peer_done(o));
	peer_start(o, op_pour_small, MANY, MANY);
	obs("program ends", obs_wait(pid));
	obs("peer", peer_done(o));
}

/* --- not connected --- */

static int bound_udp(int family, bool any, struct obs_name *at)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(any ? INADDR_ANY : INADDR_LOOPBACK) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
	int fd = socket(family, SOCK_DGRAM, 0);

	if (!any)
		in6.sin6_addr = in6addr_loopback;
	memset(at, 0, sizeof(*at));
	at->len = family == AF_INET ? sizeof(in) : sizeof(in6);
	memcpy(&at->sa, family == AF_INET ? (void *)&in : (void *)&in6, at->len);
	if (fd < 0 || bind(fd, (struct sockaddr *)&at->sa, at->len) || getsockname(fd, (struct sockaddr *)&at->sa, &at->len))
		die("bind");
	if (family == AF_INET)
		((struct sockaddr_in *)&at->sa)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else
		((struct sockaddr_in6 *)&at->sa)->sin6_addr = in6addr_loopback;
	return fd;
}

/* A sender of its own: warms up, pours, says so, and waits to be killed. */
static pid_t sender(int family, bool any, int fd, const struct obs_name *to, struct obs_name *from, int *said)
{
	int own = bound_udp(family, any, from), pipes[2];
	char buf[100];
	pid_t pid;

	if (pipe(pipes))
		die("pipe");
	fflush(stdout);
	pid = obs_fork();
	if (pid == 0) {
		struct obs o = { .fd = own, .text = buf };
		char hex[400];

		close(fd);
		for (int i = 0; i < OBS_WARM; i++)
			if (sendto(own, "ask", 3, 0, (const struct sockaddr *)&to->sa, to->len) != 3 || recv(own, buf, sizeof(buf), 0) != 3)
				_exit(1);
		name_hex(hex, to);
		o.text = hex;
		if (op_pour(&o, 0, COUNT) != COUNT || write(pipes[1], "x", 1) != 1)
			_exit(2);
		for (;;)
			pause();
	}
	close(own);
	for (int i = 0; i < OBS_WARM; i++) {
		struct obs_name ask;
		ssize_t n;

		ask.len = sizeof(ask.sa);
		n = recvfrom(fd, buf, sizeof(buf), 0, (struct sockaddr *)&ask.sa, &ask.len);
		if (n != 3 || sendto(fd, buf, 3, 0, (struct sockaddr *)&ask.sa, ask.len) != 3)
			die("warm-up");
	}
	*said = pipes[0];
	return pid;
}

static void not_connected(int family, bool any, bool dead)
{
	struct obs_name at, from;
	int fd = bound_udp(family, any, &at), said;
	pid_t pid = sender(family, any, fd, &at, &from, &said);
	char x;

	promise_ring();
	obs("sender has sent", read(said, &x, 1));
	if (dead) {
		kill(pid, SIGKILL);
		obs("sender ends", obs_wait(pid));
	}
	obs("program ends", obs_wait(start(fd, 0, COUNT, &from, no_env)));
	kill(pid, SIGKILL);
	close(said);
	close(fd);
}

static void of_free_sockets(struct obs *o)
{
	(void)o;
	for (int i = 0; i < 8; i++) {
		note("-- %s, %s, %s", i & 1 ? "IPv6" : "IPv4", i & 2 ? "any address" : "loopback", i & 4 ? "dead" : "idle");
		not_connected(i & 1 ? AF_INET6 : AF_INET, i & 2, i & 4);
	}
}

int main(int argc, char **argv)
{
	static const struct obs_case cases[] = {
		{ "exec without the shim", without_shim, EVERY_DGRAM, 0 },
		{ "exec with the shim", with_shim, DGRAM, 0 },
		{ "posix_spawn", spawned, DGRAM, 0 },
		{ "vfork and exec", vforked, DGRAM, 0 },
		{ "passed on", by_passing, DGRAM, 0 },
		{ "fdopen", by_fdopen, DGRAM, 0 },
		{ "standard input", by_stdin, DGRAM, 0 },
		{ "io_uring", by_uring, DGRAM, 0 },
		{ "into a sandbox", in_a_sandbox, DGRAM, 0 },
		{ "from a sandbox", from_a_sandbox, DGRAM, 0 },
		{ "the sender sleeps in recv", while_it_receives, DGRAM, 0 },
		{ "the sender sleeps in poll", while_it_polls, DGRAM, 0 },
		{ "the sender computes", while_it_computes, DGRAM, HOT_ONLY },
		{ "the sender is dead", when_it_is_dead, UDP | DGPAIR, 0 },
		{ "the sender has closed", when_it_has_closed, UDP | DGPAIR, 0 },
		{ "a sender with a name is dead", when_a_named_one_is_dead, DGP | DGA, 0 },
		{ "the sender has shut down", when_it_has_shut, UDP, 0 },
		{ "a sender that nobody may trace", untraced, UDP4 | UDP6 | DGPAIR, 0 },
		{ "a sender that nobody may trace computes", untraced_computes, UDP, HOT_ONLY },
		{ "in the middle", in_the_middle, DGRAM, 0 },
		{ "under way", under_way, LOCALDG, 0 },
		{ "more than fit", more_than_fit, LOCALDG, 0 },
		{ "sockets that are not connected", of_free_sockets, SOLO, SLOW },
		{ 0 },
	};

	if (argc == 6 && !strcmp(argv[1], "--read"))
		return read_main(argv);
	if (argc == 4 && !strcmp(argv[1], "--count"))
		return count_main(argv);
	return obs_main(argc, argv, cases);
}
