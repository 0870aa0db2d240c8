/* SPDX-License-Identifier: MIT */
/*
 * io_uring: a process that sets one up moves bytes, accepts and connects where nobody sees it. [LANE-4]
 *
 * From then on the process is the kernel's alone: what is on the ring comes back (retreat.c), or is carried by a relay; nothing is promoted;
 * listeners have no private face any more, for a caller in its queue would never be accepted; callers of it take the public one.
 */
#include <stdlib.h>
#include <string.h>

#include "sock/api.h"

/*
 * A program that has liburing linked in makes the system call itself, unseen. So the program text is looked through once, before the first private
 * face of a listener and before the first promotion: for the number of io_uring_setup, loaded into the register of numbers shortly before a system call.
 * What is found keeps the process in the kernel lane. Reading /proc/self/maps takes no lock, so it is safe in handlers and forked children.
 */
#define SETUP_NUMBER 425 /* __NR_io_uring_setup, the same on all machines */
#define NEAR_BYTES 64    /* between the number and the call */

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

static bool text_has_setup(const char *text, size_t len)
{
	for (size_t i = 0; i < ARRAY_SIZE(loads); i++) {
		const char *at = text, *end = text + len;

		while ((at = memmem(at, (size_t)(end - at), loads[i], sizeof loads[i]))) {
			at += sizeof loads[i];
			if (memmem(at, GN_MIN((size_t)(end - at), (size_t)NEAR_BYTES), calls, sizeof calls))
				return true;
		}
	}
	return false;
}

/* A line of /proc/self/maps: does it have the call, outside of what the shim sees? "5600-5700 r-xp 0000 08:01 42   /path" */
static bool line_has_setup(const char *line)
{
	const char *path = strchr(line, '/');
	char *rest;
	uintptr_t begin = strtoul(line, &rest, 16), end;

	if (*rest != '-' || !path)
		return false;
	end = strtoul(rest + 1, &rest, 16);
	if (rest[1] != 'r' || rest[3] != 'x' || strstr(path, "/liburing.so") || strstr(path, "/libgnezdo.so"))
		return false;
	return text_has_setup((const char *)begin, end - begin);
}

/* Lines longer than the buffer are cut: their begin is what counts. */
static bool look(void)
{
	char buf[4096];
	size_t have = 0;
	ssize_t n = 0;
	bool found = false;
	int fd = gn_sys_open("/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);

	while (fd >= 0 && !found && (n = gn_sys_read(fd, buf + have, sizeof buf - 1 - have)) > 0) {
		char *line = buf, *end;

		have += (size_t)n;
		buf[have] = '\0';
		while (!found && (end = strchr(line, '\n'))) {
			*end = '\0';
			found = line_has_setup(line);
			line = end + 1;
		}
		have = (size_t)(buf + have - line);
		memmove(buf, line, have);
		if (have == sizeof buf - 1)
			have = 0;
	}
	if (fd >= 0)
		gn_sys_close(fd);
	return found;
}

void gn_uring_look(void)
{
	gn_world.looked = true;
	if (!look())
		return;
	gn_world.why_kernel = GN_WHY_URING;
	gn_world.lanes = GN_LANES_KERNEL;
	gn_world.unseen = true;
}

static bool is_any(struct gn_sock *so, int fd)
{
	gn_private_retire(so, fd);
	gn_peer_drop(so);
	return true;
}

static void relayed(struct gn_sock *so, int fd)
{
	gn_relay(so, fd);
}

void gn_before_uring(void)
{
	if (gn_is_vfork_child() || gn_world.unseen)
		return;
	gn_world.unseen = gn_world.looked = true;
	gn_world.why_kernel = GN_WHY_URING;
	gn_world.lanes = GN_LANES_KERNEL;
	gn_retreat_all(is_any, relayed, GN_WHY_CALL);
}
