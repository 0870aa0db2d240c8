/* SPDX-License-Identifier: MIT */
/*
 * Handing over: before exec, spawn and descriptor passing, what somebody without the shim is about to use comes back to the kernel lane
 * (retreat.c), or goes behind a relay (relay.c). [LANE-4] If that is impossible (no descriptors, no processes left), the program's call fails
 * with that errno, and its connections stay as they are.
 */
#include "sock/api.h"

/* A child that borrows our memory leaves our table as it is: which of its descriptors are not what the table says any more? Several children
 * may be on their way to exec at a time. */
static GN_BULK struct lent {
	pid_t pid;
	uint64_t changed[16];
} lent_children[8];

static struct lent *lent_get(void)
{
	pid_t pid = gn_sys_getpid();
	struct lent *l = &lent_children[(unsigned int)pid % ARRAY_SIZE(lent_children)];

	if (l->pid != pid)
		*l = (struct lent){.pid = pid};
	return l;
}

void gn_lent_change(int fd)
{
	struct lent *l = lent_get();

	if (fd >= 0 && fd < (int)(64 * ARRAY_SIZE(l->changed)))
		l->changed[fd / 64] |= UINT64_C(1) << fd % 64;
}

bool gn_lent_is_changed(int fd)
{
	const struct lent *l = lent_get();

	return fd >= 0 && fd < (int)(64 * ARRAY_SIZE(l->changed)) && (l->changed[fd / 64] >> fd % 64 & 1);
}

static void note_given(struct gn_sock *so)
{
	atomic_fetch_or(&so->ep->flags, GN_EP_GIVEN);
}

/* Somebody without the shim is about to use this descriptor. */
static int go_home(struct gn_sock *so, int fd)
{
	gn_private_retire(so, fd);
	return gn_retreat(so, fd, GN_WHY_CALL) ? 0 : gn_relay(so, fd);
}

int gn_give_away(struct gn_sock *so, int fd)
{
	note_given(so);
	return go_home(so, fd);
}

int gn_leave_to_libc(struct gn_sock *so, int fd, enum gn_reason why)
{
	if (gn_on_ring(so) || gn_has_moved(so))
		return go_home(so, fd); /* what lies unread in the ring must reach it too */
	gn_pin(so, fd, why);
	return 0;
}

static bool is_inherited(struct gn_sock *so, int fd)
{
	int flags = gn_sys_fcntl(fd, F_GETFD, 0);

	if (gn_is_vfork_child() && gn_lent_is_changed(fd))
		return false;
	return flags >= 0 && !(flags & FD_CLOEXEC);
}

static bool is_lent(struct gn_sock *so, int fd)
{
	bool yes = is_inherited(so, fd);

	if (yes)
		note_given(so);
	return yes;
}

int gn_before_exec(void)
{
	return gn_retreat_all(gn_is_vfork_child() ? is_lent : is_inherited, gn_relay, GN_WHY_CALL);
}

/* Sources of dup2 in the file actions of posix_spawn: inherited in spite of FD_CLOEXEC. */
static GN_BULK _Atomic uint64_t spawn_sources[GN_TABLE_MAX / 64];

void gn_spawn_source(int fd)
{
	if (fd >= 0 && fd < (int)(64 * ARRAY_SIZE(spawn_sources)))
		atomic_fetch_or(&spawn_sources[fd / 64], UINT64_C(1) << fd % 64);
}

static bool is_spawned(struct gn_sock *so, int fd)
{
	bool source = fd < (int)(64 * ARRAY_SIZE(spawn_sources)) && (atomic_load(&spawn_sources[fd / 64]) >> fd % 64 & 1);

	if (source)
		note_given(so);
	return source || is_lent(so, fd);
}

int gn_before_spawn(void)
{
	return gn_is_vfork_child() ? gn_before_exec() : gn_retreat_all(is_spawned, gn_relay, GN_WHY_CALL);
}

int gn_before_passing(const struct msghdr *msg)
{
	struct cmsghdr *c;
	int rc = 0;

	if (gn_is_no_control(msg))
		return 0; /* the kernel's errno follows */
	for (c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR((struct msghdr *)(uintptr_t)msg, c)) {
		size_t left = msg->msg_controllen - (size_t)((const char *)c - (const char *)msg->msg_control);
		size_t count = c->cmsg_len >= CMSG_LEN(0) ? (GN_MIN(c->cmsg_len, left) - CMSG_LEN(0)) / sizeof(int) : 0;
		const int *fds = (const int *)(const void *)CMSG_DATA(c);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < count && rc >= 0; i++) {
			struct gn_sock *so = gn_get(fds[i]);

			if (!so)
				continue;
			rc = gn_give_away(so, fds[i]);
			gn_put(so);
		}
	}
	return rc;
}
