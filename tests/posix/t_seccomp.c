/* SPDX-License-Identifier: MIT */
/* ring: yes */
/* Under a seccomp filter that kills for every call but read, write, exit and the return from a handler: a connection from before goes on. */
#include "obs.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ALLOW(nr) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (nr), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static bool enter_sandbox(bool by_syscall)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		ALLOW(SYS_read),
		ALLOW(SYS_write),
		ALLOW(SYS_exit_group),
		ALLOW(SYS_rt_sigreturn),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog prog = { sizeof(code) / sizeof(*code), code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return false;
	if (by_syscall)
		return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) == 0;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0;
}

/* `count` times a word there and back. */
static bool talk(int fd, int count)
{
	char word[4];

	for (int i = 0; i < count; i++)
		if (write(fd, "word", 4) != 4 || read(fd, word, 4) != 4 || memcmp(word, "word", 4))
			return false;
	return true;
}

/* Exit status: 0, what failed, or 256 and the signal. */
static int sandboxed_client(uint32_t kind, const struct obs_name *at, int before, bool by_syscall)
{
	pid_t pid = obs_fork();
	int fd;

	if (pid)
		return pid;
	fd = sock_of(kind, 0);
	if (connect(fd, (const struct sockaddr *)&at->sa, at->len) || !talk(fd, before))
		_exit(1);
	if (!enter_sandbox(by_syscall))
		_exit(2);
	syscall(SYS_exit_group, talk(fd, 50) ? 0 : 3);
	return 0;
}

static void echo_all(int fd)
{
	char buf[256];
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0)
		if (write(fd, buf, (size_t)n) != n)
			break;
	note("the end: %zd", n);
}

static void clients(uint32_t kind, const char *name, int before)
{
	struct obs_name at;
	int l = listener(kind, 5, &at), fd, pid;

	for (int way = 0; way < 2; way++) {
		pid = sandboxed_client(kind, &at, before, way);
		fd = accept(l, NULL, NULL);
		echo_all(fd);
		close(fd);
		note("%s, %s: %d", name, way ? "syscall" : "prctl", obs_wait(pid));
	}
	close(l);
}

static void young(struct obs *o)
{
	(void)o;
	clients(TCP4, "tcp", 3);
	clients(UNIXP, "unix", 3);
}

static void old(struct obs *o)
{
	(void)o;
	clients(TCP4, "tcp", 200);
	clients(UNIXP, "unix", 200);
}

static int says;

static void say_so(int sig)
{
	(void)sig;
	if (write(says, "hand", 4) != 4)
		syscall(SYS_exit_group, 4);
}

/* The kernel takes a SA_RESETHAND handler away by itself. */
static void shot(struct obs *o)
{
	struct sigaction once = { .sa_handler = say_so, .sa_flags = (int)SA_RESETHAND };
	char word[5] = "";
	pid_t pid;

	pid = obs_fork();
	if (pid == 0) {
		says = o->fd;
		sigaction(SIGUSR1, &once, NULL);
		if (!enter_sandbox(false))
			_exit(2);
		if (write(o->fd, "here", 4) != 4 || read(o->fd, word, 4) != -1 || write(o->fd, "intr", 4) != 4)
			syscall(SYS_exit_group, 3);
		read(o->fd, word, 4);
		syscall(SYS_exit_group, 5);
	}
	peer(o, op_recv, 4, MSG_WAITALL);
	obs("asleep", thread_asleep(pid, pid, -1));
	kill(pid, SIGUSR1);
	obs("peer recv", peer(o, op_recv, 8, MSG_WAITALL));
	thread_asleep(pid, pid, -1);
	kill(pid, SIGUSR1);
	obs("the end", obs_wait(pid));
}

/* Programs ask with a filter of NULL what the kernel can do: nothing changes by that. */
static void questions(struct obs *o)
{
	obs("prctl", prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL));
	obs("syscall", syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, NULL));
	obs("prctl get", prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0);
	obs_send(o->fd, "word", 0);
	obs("peer recv", peer(o, op_recv, 4, 0));
}

int main(int argc, char **argv)
{
	static const struct obs_case cases[] = {
		{ "a young connection", young, SOLO, 0 },
		{ "a connection that has talked much", old, SOLO, 0 },
		{ "a handler that runs once", shot, TCP4 | UNIXP, 0 },
		{ "questions", questions, TCP4 | PAIR, 0 },
		{ 0 },
	};

	return obs_main(argc, argv, cases);
}
