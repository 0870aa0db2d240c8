/* SPDX-License-Identifier: MIT */
/*
 * deny WHAT PROGRAM...     runs the program where the kernel refuses one thing: a filter that was there before the program began.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

struct what {
	const char *name;
	unsigned int nr;
	int arg; /* -1: any call */
	unsigned int mask, value;
	unsigned int error;
};

static const struct what all[] = {
	{"memfd_create", SYS_memfd_create, -1, 0, 0, ENOMEM},
	{"mmap-shared", SYS_mmap, 3, 0x0f, 0x01, ENOMEM}, /* MAP_SHARED */
	{"netlink", SYS_socket, 0, ~0u, AF_NETLINK, EAFNOSUPPORT},
	{"eventfd2", SYS_eventfd2, -1, 0, 0, ENFILE},
	{"prlimit64", SYS_prlimit64, -1, 0, 0, EPERM},
	{"fork", SYS_clone, 0, CLONE_VM, 0, EAGAIN},
	{"long-bind", SYS_bind, 2, ~31u, 32, EACCES}, /* of names that no internet address is as long as */
};

static int install(const struct what *w)
{
	struct sock_filter any[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, w->nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | w->error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_filter some[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, w->nr, 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned int)(offsetof(struct seccomp_data, args) + 8 * (size_t)(w->arg < 0 ? 0 : w->arg))),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, w->mask),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, w->value, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | w->error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof any / sizeof any[0], any};

	if (w->arg >= 0)
		program = (struct sock_fprog){sizeof some / sizeof some[0], some};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

int main(int argc, char **argv)
{
	for (size_t i = 0; argc > 2 && i < sizeof all / sizeof all[0]; i++) {
		if (strcmp(all[i].name, argv[1]) != 0)
			continue;
		if (install(&all[i]) < 0) {
			perror("deny");
			return 125;
		}
		execvp(argv[2], argv + 2);
		perror(argv[2]);
		return 126;
	}
	fprintf(stderr, "deny: no such thing\n");
	return 125;
}
