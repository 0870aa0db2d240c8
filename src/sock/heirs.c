/* SPDX-License-Identifier: MIT */
/*
 * A relay and the relatives of the endpoint that it has taken over: they ask for the socket that is in its place (move.c), and until the last
 * one has, that socket must not end, nor the old one be read empty.
 *
 * Who is left is counted in the shared memory, but processes that were killed, ended without a close, or went on to a program that does not have
 * the socket are counted still. So it is looked whether they hold it: /proc names the socket by its inode. Who cannot be looked at passes for a holder.
 */
#include <stdio.h>
#include <string.h>

#include "sock/carry.h"

/* Calls `f` with the name of each entry until it says true. -errno: no such directory. */
static int each_entry(const char *path, bool (*f)(const char *name, const void *arg), const void *arg)
{
	char list[4096];
	int dir = gn_sys_open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0), found = 0;
	ssize_t n = 1;

	if (dir < 0)
		return dir;
	while (!found && (n = gn_sys_getdents64(dir, list, sizeof list)) > 0)
		for (ssize_t at = 0; at < n && !found;) {
			uint16_t len; /* struct linux_dirent64: getdents64(2) */

			memcpy(&len, list + at + 16, sizeof len);
			found = f(list + at + 19, arg);
			at += len;
		}
	gn_sys_close(dir);
	return found;
}

struct wanted {
	pid_t pid;
	uint64_t inode;
};

static bool is_wanted(const char *name, const void *arg)
{
	const struct wanted *w = arg;
	char path[64], link[64], want[64];
	ssize_t n;

	snprintf(path, sizeof path, "/proc/%d/fd/%.20s", (int)w->pid, name);
	snprintf(want, sizeof want, "socket:[%llu]", (unsigned long long)w->inode);
	n = gn_sys_readlink(path, link, sizeof link);
	return n == (ssize_t)strlen(want) && memcmp(link, want, (size_t)n) == 0;
}

static int holds(pid_t pid, uint64_t inode)
{
	struct wanted w = {pid, inode};
	char path[32];

	snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
	return each_entry(path, is_wanted, &w);
}

static bool somebody_holds(const char *name, const void *arg)
{
	pid_t pid = 0;

	for (; *name >= '0' && *name <= '9'; name++)
		pid = pid * 10 + (*name - '0');
	return pid && pid != gn_world.pid && holds(pid, *(const uint64_t *)arg) == 1;
}

bool gn_heirs_left(const struct gn_carrier *r)
{
	uint32_t named = 1, holders;

	if (atomic_load(&r->old->holders) > 1)
		gn_ep_reap(r->old);
	holders = atomic_load(&r->old->holders);
	if (holders <= 1)
		return false;
	for (int i = 0; i < GN_HOLDERS; i++) {
		pid_t pid = atomic_load(&r->old->pid[i]);

		if (!pid || pid == gn_world.pid)
			continue;
		named++;
		if (pid > 0 && holds(pid, r->inode)) /* or cannot be looked at */
			return true;
	}
	return holders > named && each_entry("/proc", somebody_holds, &r->inode) != 0;
}

void gn_heirs_serve(struct gn_carrier *r)
{
	uint64_t secret;
	ssize_t n;
	int by;

	while ((n = gn_fd_recv(r->asked, &secret, sizeof secret, &by)) >= 0) {
		if (n == (ssize_t)sizeof secret && secret == r->old->moved[1] && by >= 0)
			gn_fd_send(by, NULL, (char[]){0}, 1, r->copy);
		if (by >= 0)
			gn_sys_close(by);
		r->step_ns = r->next_ns = 0; /* one relative less, soon */
	}
}
