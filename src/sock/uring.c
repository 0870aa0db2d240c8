/* SPDX-License-Identifier: MIT */
/*
 * io_uring: a process that sets one up moves bytes, accepts and connects where nobody sees it. [LANE-4]
 *
 * From then on the process is the kernel's alone: what is on the ring comes back (retreat.c), or is carried by a relay; nothing is promoted;
 * listeners have no private face any more, for a caller in its queue would never be accepted; callers of it take the public one.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "sock/api.h"

/*
 * A program that has liburing linked in makes the system call itself, unseen. So the program text is looked through once, before the first private
 * face of a listener and before the first promotion: for the number of io_uring_setup, loaded into the register of numbers shortly before a system call.
 * What is found keeps the process in the kernel lane.
 *
 * A large program has tens of megabytes of text, and a short one is over before they are read: for a promotion they are read piece by piece, no
 * more than the time allows that the process has had something to promote. From the files, not from memory: of that each page is a fault.
 * It takes no lock of libc's, so it is safe in handlers and forked children.
 */
#define SETUP_NUMBER 425 /* __NR_io_uring_setup, the same on all machines */
#define NEAR_BYTES 64    /* between the number and the call */
#define OVERLAP 128      /* what is looked at together is so long at most */
#define CHUNK (64u << 10)
#define FREE_BYTES (2u << 20)  /* read at once: a small program, with libc */
#define PIECE (512u << 10)     /* no less at a time: each time the list of what is mapped is read anew */
#define BYTES_PER_US 1500      /* afterwards: a third of the time, at 3 GB/s */

#if defined(__x86_64__)
static const unsigned char loads[][5] = {{0xb8, SETUP_NUMBER & 0xff, SETUP_NUMBER >> 8, 0, 0}}; /* mov $425, %eax */
static const unsigned char calls[] = {0x0f, 0x05};
#elif defined(__aarch64__)
static const unsigned char loads[][4] = {
	{(SETUP_NUMBER << 5 & 0xff) | 8, SETUP_NUMBER << 5 >> 8 & 0xff, 0x80, 0x52}, /* mov w8, #425 */
	{(SETUP_NUMBER << 5 & 0xff) | 8, SETUP_NUMBER << 5 >> 8 & 0xff, 0x80, 0xd2}, /* mov x8, #425 */
};
static const unsigned char calls[] = {0x01, 0x00, 0x00, 0xd4}; /* svc #0 */
#endif

/* A line of /proc/self/maps that is text of a file. */
struct text {
	uintptr_t begin, end;
	uint64_t offset;
	dev_t dev;
	ino_t ino;
	const char *path;
};

/* What has been looked at. */
static struct {
	_Atomic uint32_t lock;
	uintptr_t next;         /* all below */
	_Atomic uint64_t bytes; /* so many, ... */
	uint64_t since_ns;      /* ... and may be since then */
} search;

static GN_BULK char chunk[CHUNK];

typedef unsigned char block __attribute__((vector_size(16)));

static block block_at(const char *text)
{
	block b;

	memcpy(&b, text, sizeof b);
	return b;
}

/* Where the two bytes stand next, or `end`. They are rare. */
static const char *pair_find(const char *at, const char *end, const unsigned char pair[2])
{
	block first, second;
	uint64_t words[2];

	memset(&first, pair[0], sizeof first);
	memset(&second, pair[1], sizeof second);
	for (; end - at > (ptrdiff_t)sizeof(block); at += sizeof(block)) {
		block hit = (block)((block_at(at) == first) & (block_at(at + 1) == second));

		memcpy(words, &hit, sizeof words);
		if (unlikely(words[0] | words[1]))
			break;
	}
	while (at < end && !(end - at > 1 && (unsigned char)at[0] == pair[0] && (unsigned char)at[1] == pair[1]))
		at++;
	return at;
}

static bool text_has_setup(const char *text, size_t len)
{
	const char *end = text + len;

	for (size_t i = 0; i < ARRAY_SIZE(loads); i++)
		for (const char *at = text; (at = pair_find(at, end, loads[i])) < end; at++) {
			if ((size_t)(end - at) < sizeof loads[i] || memcmp(at, loads[i], sizeof loads[i]))
				continue;
			at += sizeof loads[i];
			if (memmem(at, GN_MIN((size_t)(end - at), (size_t)NEAR_BYTES), calls, sizeof calls))
				return true;
		}
	return false;
}

/* "5600-5700 r-xp 0000 08:01 42   /path"; false: another kind of line, or outside of what the shim does not see. */
static bool text_parse(char *line, struct text *t)
{
	char *rest;
	unsigned long major;

	t->path = strchr(line, '/');
	t->begin = strtoul(line, &rest, 16);
	if (*rest != '-' || !t->path)
		return false;
	t->end = strtoul(rest + 1, &rest, 16);
	if (rest[1] != 'r' || rest[3] != 'x' || strstr(t->path, "/liburing.so") || strstr(t->path, "/libgnezdo.so"))
		return false;
	t->offset = strtoul(rest + 6, &rest, 16);
	major = strtoul(rest, &rest, 16);
	t->dev = makedev((unsigned int)major, (unsigned int)strtoul(rest + 1, &rest, 16));
	t->ino = strtoul(rest, NULL, 10);
	return true;
}

/* The file, if it is still what the path leads to; -1. */
static int text_open(const struct text *t)
{
	int fd = gn_sys_open(t->path, O_RDONLY | O_CLOEXEC, 0);
	struct stat st;

	if (fd >= 0 && gn_sys_fstat(fd, &st) == 0 && st.st_dev == t->dev && st.st_ino == t->ino)
		return fd;
	if (fd >= 0)
		gn_sys_close(fd);
	return -1;
}

/* From search.next on, no more than about `most` bytes. */
static bool text_look(const struct text *t, uint64_t most)
{
	uintptr_t at = GN_MAX(search.next, t->begin), begin = at;
	int fd = text_open(t);
	bool found = false;

	while (!found && at < t->end && at - begin < most) {
		ssize_t len = (ssize_t)GN_MIN((size_t)(t->end - at), sizeof chunk);

		if (fd >= 0)
			len = gn_sys_pread(fd, chunk, (size_t)len, (off_t)(t->offset + (at - t->begin)));
		if (len <= 0)
			len = (ssize_t)(t->end - at); /* the file is shorter than what was mapped: nothing can run there */
		else
			found = text_has_setup(fd >= 0 ? chunk : (const char *)at, (size_t)len);
		at += (size_t)len;
		if (at < t->end && len > OVERLAP)
			at -= OVERLAP;
	}
	if (fd >= 0)
		gn_sys_close(fd);
	atomic_fetch_add(&search.bytes, at - begin);
	search.next = at;
	return found;
}

static void found_one(void)
{
	gn_world.why_kernel = GN_WHY_URING;
	gn_world.lanes = GN_LANES_KERNEL;
	gn_world.unseen = true;
}

/* As much of the text as `budget` allows. Lines longer than the buffer are cut: their begin is what counts. True: that was all, or it is found. */
static bool look(uint64_t budget)
{
	char buf[4096];
	size_t have = 0;
	ssize_t n = 0;
	bool found = false;
	int fd = gn_sys_open("/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);
	struct text t;

	while (fd >= 0 && !found && search.bytes < budget && (n = gn_sys_read(fd, buf + have, sizeof buf - 1 - have)) > 0) {
		char *line = buf, *end;

		have += (size_t)n;
		buf[have] = '\0';
		while (!found && search.bytes < budget && (end = strchr(line, '\n'))) {
			*end = '\0';
			found = text_parse(line, &t) && t.end > search.next && text_look(&t, budget - search.bytes);
			line = end + 1;
		}
		have = (size_t)(buf + have - line);
		memmove(buf, line, have);
		if (have == sizeof buf - 1)
			have = 0;
	}
	if (fd >= 0)
		gn_sys_close(fd);
	if (found)
		found_one();
	return found || search.bytes < budget;
}

/* search.lock is held. */
static void look_on(uint64_t budget)
{
	if (!gn_world.looked && look(budget))
		gn_world.looked = true;
}

void gn_uring_look(void)
{
	gn_lock(&search.lock);
	look_on(UINT64_MAX);
	gn_unlock(&search.lock);
}

bool gn_uring_looked_slow(void)
{
	uint64_t budget;

	if (gn_world.lanes == GN_LANES_RING) {
		gn_uring_look();
		return true;
	}
	if (!gn_lock_try(&search.lock))
		return gn_world.looked;
	if (!search.since_ns)
		search.since_ns = gn_now_ns();
	budget = FREE_BYTES + (gn_now_ns() - search.since_ns) / GN_NS_PER_US * BYTES_PER_US;
	if (budget >= search.bytes + PIECE)
		look_on(budget);
	gn_unlock(&search.lock);
	return gn_world.looked;
}

void gn_uring_forked(void)
{
	atomic_store(&search.lock, 0);
}

static bool is_any(struct gn_sock *so, int fd)
{
	gn_private_retire(so, fd);
	gn_peer_drop(so);
	return true;
}

int gn_before_uring(void)
{
	static _Atomic bool handed_over;
	int rc;

	if (gn_is_vfork_child() || atomic_load(&handed_over))
		return 0;
	gn_world.unseen = gn_world.looked = true;
	gn_world.why_kernel = GN_WHY_URING;
	gn_world.lanes = GN_LANES_KERNEL;
	rc = gn_retreat_all(is_any, gn_relay, GN_WHY_CALL);
	if (rc >= 0)
		atomic_store(&handed_over, true);
	return rc;
}
