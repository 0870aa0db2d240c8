/* SPDX-License-Identifier: MIT */
/*
 * Finds the pools through /proc/PID/fd and copies the slots in use. [LANE-5]
 *
 * Pools are read with pread(), not mapped: a page that nobody wrote would be allocated by looking at it through a mapping, and
 * the owner of a pool could shrink it under our feet (SIGBUS). Words that change during the copy are whole: the kernel copies
 * aligned words at once.
 */
#include "cli/ss.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINK_TEXT "/memfd:" GN_POOL_NAME " (deleted)"
#define CHUNK_SLOTS 64

struct pool {
	dev_t dev;
	ino_t inode;
	int fd;
	pid_t *pid; /* of the processes that hold it */
	size_t pids, room;
};

struct pools {
	struct pool *list;
	size_t count, room;
};

int ss_grow(void **list, size_t *room, size_t count, size_t size)
{
	size_t wanted = *room ? *room * 2 : 16, bytes;
	void *more;

	if (count < *room)
		return 0;
	/* Not realloc(): copies of slots keep the alignment of the slots. */
	if (__builtin_mul_overflow(wanted, size, &bytes) || posix_memalign(&more, GN_LINE, bytes))
		return -ENOMEM;
	if (count)
		memcpy(more, *list, count * size);
	free(*list);
	*list = more;
	*room = wanted;
	return 0;
}

static bool pool_is_sound(int fd)
{
	struct gn_pool head;

	return pread(fd, &head, sizeof(head), 0) == (ssize_t)sizeof(head) && head.magic == GN_POOL_MAGIC &&
	       head.slots == GN_POOL_SLOTS && head.ep_size == sizeof(struct gn_ep);
}

/* The pool behind /proc/PID/fd/N, opened once however many processes hold it. NULL: not one of ours, or gone by now. */
static struct pool *pool_get(struct pools *pools, int dir, const char *name)
{
	struct stat st;
	struct pool *p;
	int fd;

	if (fstatat(dir, name, &st, 0))
		return NULL;
	for (size_t i = 0; i < pools->count; i++)
		if (pools->list[i].inode == st.st_ino && pools->list[i].dev == st.st_dev)
			return &pools->list[i];
	if (ss_grow((void **)&pools->list, &pools->room, pools->count, sizeof(*p)))
		return NULL;
	fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	if (!pool_is_sound(fd)) {
		close(fd);
		return NULL;
	}
	p = &pools->list[pools->count++];
	*p = (struct pool){ .dev = st.st_dev, .inode = st.st_ino, .fd = fd };
	return p;
}

static int pool_add_pid(struct pool *p, pid_t pid)
{
	int rc;

	if (p->pids && p->pid[p->pids - 1] == pid) /* it holds the pool twice */
		return 0;
	rc = ss_grow((void **)&p->pid, &p->room, p->pids, sizeof(*p->pid));
	if (!rc)
		p->pid[p->pids++] = pid;
	return rc;
}

/* Processes come and go and may not be ours: whatever cannot be read is passed over. */
static int process_look(struct pools *pools, pid_t pid)
{
	char path[40], link[sizeof(LINK_TEXT) + 1];
	struct dirent *entry;
	int rc = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	while (dir && !rc && (entry = readdir(dir))) {
		ssize_t n = readlinkat(dirfd(dir), entry->d_name, link, sizeof(link));
		struct pool *p = NULL;

		if (n == (ssize_t)strlen(LINK_TEXT) && !memcmp(link, LINK_TEXT, (size_t)n))
			p = pool_get(pools, dirfd(dir), entry->d_name);
		if (p)
			rc = pool_add_pid(p, pid);
	}
	if (dir)
		closedir(dir);
	return rc;
}

static int pools_find(struct pools *pools)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	int rc = proc ? 0 : -errno;

	while (proc && !rc && (entry = readdir(proc)))
		if (isdigit((unsigned char)entry->d_name[0]))
			rc = process_look(pools, (pid_t)atoi(entry->d_name));
	if (proc)
		closedir(proc);
	return rc;
}

static bool pool_is_held_by(const struct pool *p, pid_t pid)
{
	for (size_t i = 0; i < p->pids; i++)
		if (p->pid[i] == pid)
			return true;
	return false;
}

/* The kernel socket behind a descriptor of another process; 0: none, or not to be seen. */
static uint64_t socket_inode(pid_t pid, int fd)
{
	char path[48], link[48] = "";
	uint64_t inode = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, fd);
	if (readlink(path, link, sizeof(link) - 1) <= 0 || sscanf(link, "socket:[%" SCNu64 "]", &inode) != 1)
		return 0;
	return inode;
}

/* Takes the slot if it is in use and one of its holders lives and holds this very pool, so that a pid used anew deceives nobody. */
static int slot_take(struct ss_list *to, const struct pool *p, const struct gn_ep *ep)
{
	struct ss_socket *s;
	int rc;

	if (ep->state == GN_FREE || ep->state > GN_ESTAB)
		return 0;
	rc = ss_grow((void **)&to->list, &to->room, to->count, sizeof(*s));
	if (rc)
		return rc;
	s = &to->list[to->count];
	memset(s, 0, sizeof(*s));
	memcpy(&s->ep, ep, sizeof(*ep));
	for (int i = 0; i < GN_HOLDERS; i++)
		if (s->ep.pid[i] > 0 && pool_is_held_by(p, s->ep.pid[i]))
			s->pid[s->pids++] = s->ep.pid[i];
	/* The number is the opener's; a forked relative has it too unless it moved the descriptor. */
	for (int i = 0; i < s->pids && !s->inode; i++)
		s->inode = socket_inode(s->pid[i], s->ep.fd);
	to->count += s->pids > 0;
	return 0;
}

/* Skips what was never written: a pool is as large as the most sockets it could hold. */
static int pool_read(struct ss_list *to, const struct pool *p)
{
	static struct gn_ep chunk[CHUNK_SLOTS];
	const off_t start = (off_t)sizeof(struct gn_pool), size = (off_t)sizeof(struct gn_ep);
	uint32_t at = 0;

	while (at < GN_POOL_SLOTS) {
		off_t wanted = start + (off_t)at * size, data = lseek(p->fd, wanted, SEEK_DATA);
		ssize_t n;

		if (data < 0)
			return errno == ENXIO ? 0 : -errno;
		at += (uint32_t)((data - wanted) / size);
		n = pread(p->fd, chunk, sizeof(chunk), start + (off_t)at * size);
		if (n < size)
			return n < 0 ? -errno : 0;
		for (ssize_t i = 0; i < n / size && at < GN_POOL_SLOTS; i++, at++) {
			int rc = slot_take(to, p, &chunk[i]);

			if (rc)
				return rc;
		}
	}
	return 0;
}

int ss_list_read(struct ss_list *to)
{
	struct pools pools = { 0 };
	int rc = pools_find(&pools);

	for (size_t i = 0; i < pools.count; i++) {
		if (!rc)
			rc = pool_read(to, &pools.list[i]);
		close(pools.list[i].fd);
		free(pools.list[i].pid);
	}
	free(pools.list);
	return rc;
}

void ss_list_fini(struct ss_list *l)
{
	free(l->list);
}
