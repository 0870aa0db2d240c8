/* SPDX-License-Identifier: MIT */
/* ring: yes */
/*
 * Sandboxes on a connection that is in use already: seccomp filters that kill for any call but those that the case makes itself, strict
 * mode, chroot, dropped privileges, new namespaces.
 */
#include "obs.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define ALLOW(nr) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

/* What the case and its peer's pipe need. Whatever else is called is answered by SIGSYS, which kills. */
static struct sock_filter bytes_only[] = {
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	ALLOW(SYS_read), ALLOW(SYS_write), ALLOW(SYS_close), ALLOW(SYS_exit_group), ALLOW(SYS_exit), ALLOW(SYS_rt_sigreturn),
	ALLOW(SYS_fstat), ALLOW(SYS_newfstatat), ALLOW(SYS_brk), ALLOW(SYS_mmap), ALLOW(SYS_munmap),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
};

static struct sock_filter sockets_too[] = {
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	ALLOW(SYS_read), ALLOW(SYS_write), ALLOW(SYS_close), ALLOW(SYS_exit_group), ALLOW(SYS_exit), ALLOW(SYS_rt_sigreturn),
	ALLOW(SYS_fstat), ALLOW(SYS_newfstatat), ALLOW(SYS_brk), ALLOW(SYS_mmap), ALLOW(SYS_munmap),
	ALLOW(SYS_recvfrom), ALLOW(SYS_sendto), ALLOW(SYS_accept), ALLOW(SYS_shutdown), ALLOW(SYS_getpeername), ALLOW(SYS_getsockname),
	ALLOW(SYS_setsockopt), ALLOW(SYS_getsockopt), ALLOW(SYS_poll), ALLOW(SYS_epoll_wait), ALLOW(SYS_dup),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
};

enum way { BY_PRCTL, BY_SYSCALL, BY_SYSCALL_PRCTL };

static int confine(struct sock_filter *filter, size_t count, enum way way)
{
	struct sock_fprog program = { .len = (unsigned short)count, .filter = filter };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -1;
	if (way == BY_PRCTL)
		return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
	if (way == BY_SYSCALL)
		return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
	return (int)syscall(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
}

#define CONFINE(filter, way) confine(filter, sizeof(filter) / sizeof((filter)[0]), way)

/* What the child has to say goes through a pipe, by write() alone, and is printed when it has ended. */
static int told[2];

static pid_t fork_to_be_confined(void)
{
	if (pipe(told))
		die("pipe");
	fflush(stdout);
	return obs_fork();
}

static void say(const char *what, long rc)
{
	char line[80];
	int n = snprintf(line, sizeof(line), "%s = %ld%s\n", what, rc, rc < 0 ? " fails" : "");

	if (write(told[1], line, (size_t)n) != n)
		_exit(9);
}

static void child_ends(pid_t pid)
{
	char text[4000];
	ssize_t n;

	obs("child ends", obs_wait(pid));
	close(told[1]);
	n = read(told[0], text, sizeof(text));
	close(told[0]);
	printf("%.*s", (int)(n > 0 ? n : 0), text);
}

static void read_and_write(int fd)
{
	char buf[64];

	for (int i = 0; i < 40; i++) {
		ssize_t n = read(fd, buf, 16);

		if (n <= 0 || write(fd, buf, (size_t)n) != n) {
			say("round", i);
			_exit(2);
		}
	}
	say("read at the end", read(fd, buf, 1));
	say("close", close(fd));
	_exit(0);
}

static long op_rounds(struct obs *o, long count, long b)
{
	char out[16] = "there and back.", in[16];

	(void)b;
	for (long i = 0; i < count; i++)
		if (send(o->fd, out, 16, MSG_NOSIGNAL) != 16 || recv(o->fd, in, 16, MSG_WAITALL) != 16 || memcmp(out, in, 16))
			return i;
	shutdown(o->fd, SHUT_WR);
	return recv(o->fd, in, 1, 0) == 0 ? count : -2;
}

static void confined(struct obs *o, enum way way)
{
	pid_t pid;

	pid = fork_to_be_confined();
	if (pid == 0) {
		if (CONFINE(bytes_only, way))
			_exit(3);
		read_and_write(o->fd);
	}
	close(o->fd);
	obs("peer", peer(o, op_rounds, 40, 0));
	child_ends(pid);
}

static void by_prctl(struct obs *o)
{
	confined(o, BY_PRCTL);
}

static void by_seccomp(struct obs *o)
{
	confined(o, BY_SYSCALL);
}

static void by_number(struct obs *o)
{
	confined(o, BY_SYSCALL_PRCTL);
}

/* The process that has always held the connection goes into the sandbox itself, while a child of its looks on. */
static void strict(struct obs *o)
{
	pid_t pid;

	pid = fork_to_be_confined();
	if (pid == 0) {
		if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT))
			_exit(3);
		for (int i = 0; i < 40; i++) {
			char buf[16];
			ssize_t n = read(o->fd, buf, sizeof(buf));

			if (n != 16 || write(o->fd, buf, 16) != 16)
				say("round", i);
		}
		syscall(SYS_exit, 0);
	}
	close(o->fd);
	peer_start(o, op_rounds, 40, 0);
	child_ends(pid);
	obs("peer", peer_done(o));
}

/* Bytes that wait when the filter comes. */
static void data_waiting(struct obs *o)
{
	char buf[32];
	pid_t pid;

	peer_text(o, op_puts, 0, "0123456789");
	settle(o->fd);
	obs_recv(o->fd, 4, 0);
	pid = fork_to_be_confined();
	if (pid == 0) {
		ssize_t n, sum = 0;

		if (CONFINE(bytes_only, BY_PRCTL))
			_exit(3);
		while (sum < 6 && (n = read(o->fd, buf + sum, sizeof(buf) - (size_t)sum)) > 0)
			sum += n;
		say("read", sum);
		say("as it should be", !memcmp(buf, "456789", 6));
		say("write", write(o->fd, "answer", 6));
		close(o->fd);
		_exit(0);
	}
	close(o->fd);
	child_ends(pid);
	obs("peer recv", peer(o, op_recv, 100, 0));
	obs("peer recv", peer(o, op_recv, 100, 0));
}

static bool same_name(int fd, int (*get)(int, struct sockaddr *, socklen_t *), const struct obs_name *was)
{
	struct obs_name now = { .len = sizeof(now.sa) };

	return get(fd, (struct sockaddr *)&now.sa, &now.len) == 0 && now.len == was->len && !memcmp(&now.sa, &was->sa, was->len);
}

static void all_calls(struct obs *o)
{
	struct obs_name mine = { .len = sizeof(mine.sa) }, theirs = { .len = sizeof(theirs.sa) };
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = 77 };
	struct pollfd p = { .fd = o->fd, .events = POLLIN };
	int set = epoll_create1(0), one = 1;
	socklen_t len = sizeof(one);
	char buf[32];
	pid_t pid;

	memset(&mine.sa, 0, sizeof(mine.sa));
	memset(&theirs.sa, 0, sizeof(theirs.sa));
	getsockname(o->fd, (struct sockaddr *)&mine.sa, &mine.len);
	getpeername(o->fd, (struct sockaddr *)&theirs.sa, &theirs.len);
	epoll_ctl(set, EPOLL_CTL_ADD, o->fd, &ev);
	pid = fork_to_be_confined();
	if (pid == 0) {
		if (CONFINE(sockets_too, BY_SYSCALL))
			_exit(3);
		say("epoll_wait", epoll_wait(set, &ev, 1, 3000));
		say("its data", (long)ev.data.u64);
		say("poll", poll(&p, 1, 3000));
		say("recv", recv(o->fd, buf, 5, 0));
		say("send", send(o->fd, "fine", 4, 0));
		say("sockname", same_name(o->fd, getsockname, &mine));
		say("peername", same_name(o->fd, getpeername, &theirs));
		if (o->kind & TCP) {
			say("TCP_NODELAY", setsockopt(o->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)));
			say("TCP_NODELAY", getsockopt(o->fd, IPPROTO_TCP, TCP_NODELAY, &one, &len));
		}
		say("SO_RCVBUF", setsockopt(o->fd, SOL_SOCKET, SO_RCVBUF, &one, sizeof(one)));
		int copy = dup(o->fd);
		say("sockname of the copy", same_name(copy, getsockname, &mine));
		say("shutdown", shutdown(copy, SHUT_WR));
		say("recv", recv(copy, buf, 5, 0));
		_exit(0);
	}
	close(o->fd);
	peer_text(o, op_puts, 0, "hello");
	obs("peer recv", peer(o, op_recv, 4, MSG_WAITALL));
	obs("peer recv", peer(o, op_recv, 4, 0));
	obs("peer shutdown", peer(o, op_shutdown, SHUT_WR, 0));
	child_ends(pid);
}

static long op_call(struct obs *o, long a, long b)
{
	struct obs_name at;
	int fd = sock_of(o->kind, 0);
	char buf[16];
	ssize_t n;

	(void)a;
	(void)b;
	name_unhex(&at, o->text);
	if (connect(fd, (struct sockaddr *)&at.sa, at.len) || send(fd, "hello", 5, MSG_NOSIGNAL) != 5)
		return -1;
	n = recv(fd, buf, sizeof(buf), 0);
	close(fd);
	return n;
}

static void accept_in_sandbox(int lfd, int times)
{
	char buf[16];

	if (CONFINE(sockets_too, BY_PRCTL))
		_exit(3);
	for (int i = 0; i < times; i++) {
		int c = accept(lfd, NULL, NULL);
		ssize_t n = c < 0 ? -1 : read(c, buf, sizeof(buf));

		say("read", n);
		say("write", write(c, buf, n > 0 ? (size_t)n : 0));
		close(c);
	}
	_exit(0);
}

/* A server listens, then locks itself in, then accepts. Its first caller may be there before the filter. */
static void server(struct obs *o)
{
	struct obs_name at;
	int lfd = listener(o->kind, 5, &at);
	char hex[300];
	pid_t pid;

	name_hex(hex, &at);
	peer_start_text(o, op_call, 0, hex);
	peer_asleep(o);
	pid = fork_to_be_confined();
	if (pid == 0)
		accept_in_sandbox(lfd, 4);
	close(lfd);
	obs("peer", peer_done(o));
	for (int i = 0; i < 3; i++)
		obs("peer", peer_text(o, op_call, 0, hex));
	child_ends(pid);
}

/* A child of the sandbox starts a program. */
static struct sock_filter no_sockets[] = {
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getsockname, 4, 0), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_memfd_create, 3, 0),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_recvfrom, 2, 0),    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sendto, 1, 0),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),               BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
};

static void exec_in_sandbox(struct obs *o)
{
	pid_t pid;

	pid = fork_to_be_confined();
	if (pid == 0) {
		if (CONFINE(no_sockets, BY_PRCTL))
			_exit(3);
		dup2(o->fd, 0);
		dup2(o->fd, 1);
		close(o->fd);
		execlp("cat", "cat", (char *)NULL);
		_exit(127);
	}
	close(o->fd);
	obs("peer", peer(o, op_rounds, 40, 0));
	child_ends(pid);
}

/* --- not seccomp --- */

static void go_on(struct obs *o)
{
	for (int i = 0; i < 30; i++) {
		peer_start(o, op_echo, 1, 16);
		if (send(o->fd, "there and back.", 16, 0) != 16)
			note("send fails in round %d", i);
		settle(o->fd);
		char buf[16];
		if (recv(o->fd, buf, 16, MSG_WAITALL) != 16 || memcmp(buf, "there and back.", 16))
			note("recv fails in round %d", i);
		if (peer_done(o) < 0)
			note("the peer fails in round %d", i);
	}
	peer_text(o, op_puts, 0, "the last");
	obs_recv(o->fd, 100, 0);
	obs("peer close", peer(o, op_close, 0, 0));
	obs_recv(o->fd, 100, 0);
}

static void no_new_privileges(struct obs *o)
{
	obs("prctl", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	go_on(o);
}

static void in_chroot(struct obs *o)
{
	if (chdir(obs_dir()))
		die("chdir");
	obs("chroot", chroot("."));
	go_on(o);
}

static void unprivileged(struct obs *o)
{
	obs("setgid", setgid(65534));
	obs("setuid", setuid(65534));
	go_on(o);
}

static void new_user_namespace(struct obs *o)
{
	obs("unshare", unshare(CLONE_NEWUSER));
	go_on(o);
}

static void new_network(struct obs *o)
{
	struct obs_name at;
	char hex[300];
	int fd;

	fd = listener(TCP4, 5, &at);
	obs("unshare", unshare(CLONE_NEWUSER | CLONE_NEWNET));
	go_on(o);
	name_hex(hex, &at);
	close(fd);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	obs("connect there", connect(fd, (struct sockaddr *)&at.sa, at.len));
}

/* Each caller is seen once. */
static void serve_three(struct obs *o, int lfd, const struct obs_name *at)
{
	char hex[300], buf[16];

	name_hex(hex, at);
	for (int i = 0; i < 3; i++) {
		peer_start_text(o, op_call, 0, hex);
		int c = accept(lfd, NULL, NULL);
		obs("accept", c >= 0);
		obs("recv", recv(c, buf, sizeof(buf), 0));
		obs("send", send(c, buf, 5, 0));
		obs("peer", peer_done(o));
		close(c);
	}
	nonblock(lfd, true);
	obs("accept", accept(lfd, NULL, NULL));
}

/* The listener was root's, the server is nobody. */
static void setuid_after_listen(struct obs *o)
{
	struct obs_name at;
	int lfd = listener(o->kind, 5, &at);

	obs("setuid", setuid(65534));
	serve_three(o, lfd, &at);
}

/* The address is root's, who listens there is not. */
static void setuid_before_listen(struct obs *o)
{
	struct obs_name at;
	int lfd = sock_of(o->kind, 0);

	name_any(&at, o->kind);
	obs("bind", bind(lfd, (struct sockaddr *)&at.sa, at.len));
	name_get(lfd, &at);
	obs("setuid", setuid(65533));
	obs("listen", listen(lfd, 5));
	serve_three(o, lfd, &at);
}

/* A port that was bound as root. */
static int low_port(void)
{
	int fd = sock_of(TCP4, 0);
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	for (int port = 1023; port > 512; port--) {
		at.sin_port = htons((uint16_t)port);
		if (bind(fd, (struct sockaddr *)&at, sizeof(at)) == 0)
			return fd;
	}
	die("no low port is free");
	return -1;
}

static void caller_from_a_low_port(struct obs *o)
{
	struct obs_name at;
	int lfd = listener(TCP4, 5, &at), fd = low_port(), a;

	(void)o;
	obs("seteuid", seteuid(65533));
	obs("connect", connect(fd, (struct sockaddr *)&at.sa, at.len));
	obs("seteuid", seteuid(0));
	a = accept(lfd, NULL, NULL);
	obs_send(fd, "hello", 0);
	obs_recv(a, 10, 0);
	nonblock(lfd, true);
	obs("accept", accept(lfd, NULL, NULL));
	close(a);
	close(fd);
	close(lfd);
}

int main(int argc, char **argv)
{
	static const struct obs_case cases[] = {
		{ "a filter by prctl", by_prctl, STREAM, NO_RING },
		{ "a filter by seccomp", by_seccomp, STREAM, NO_RING },
		{ "a filter by the number of prctl", by_number, STREAM, NO_RING },
		{ "strict mode", strict, STREAM, NO_RING },
		{ "data waiting", data_waiting, STREAM, NO_RING },
		{ "calls of sockets", all_calls, TCP | PAIR, NO_RING }, /* a path is not shown behind a relay: docs/compat.md */
		{ "a server", server, TCP4 | TCP6 | UNIXP, NO_RING | COLD_ONLY },
		{ "exec", exec_in_sandbox, STREAM, NO_RING },
		{ "no new privileges", no_new_privileges, STREAM, 0 },
		{ "chroot", in_chroot, STREAM, 0 },
		{ "privileges dropped", unprivileged, STREAM, 0 },
		{ "a new user namespace", new_user_namespace, STREAM, 0 },
		{ "a new network", new_network, STREAM, 0 },
		{ "setuid after listen", setuid_after_listen, TCP4 | TCP6, COLD_ONLY },
		{ "setuid before listen", setuid_before_listen, TCP4 | TCP6, COLD_ONLY },
		{ "a caller from a low port", caller_from_a_low_port, SOLO, 0 },
		{ 0 },
	};

	return obs_main(argc, argv, cases);
}
