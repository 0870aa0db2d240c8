/* SPDX-License-Identifier: MIT */
/*
 * Relays: how a connection on the ring is handed to somebody without the shim. [LANE-4]
 *
 * A program that execs, passes a descriptor on, or puts one under stdio goes on with a plain AF_UNIX socket; a process of our own, detached,
 * takes the endpoint over from all who share it (move.c), and carries bytes between the two until both halves have ended (carry.c). Slower, and
 * right. [LANE-1]
 *
 * The relay itself marks the endpoint, last of all: whoever is killed before has changed nothing, and after it the relay is there to be asked.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "sock/carry.h"

/* What a relay says when it has begun; anything else: it has not. */
#define TAKEN 't'
#define FOLLOW 'f'  /* another one was first */
#define AT_HOME 'h' /* the kernel lane was reached meanwhile */

/* In a process of our own that gn_fork() has counted: it is no holder of what its parent has beside `so`, which may be on the ring still or
 * get there. */
static void leave_others(const struct gn_sock *so)
{
	for (uint32_t fd = 0; fd < gn_world.used_fds; fd++) {
		struct gn_sock *other = atomic_load(gn_slot(fd));

		if ((uintptr_t)other <= 1 || other == so)
			continue;
		atomic_store(gn_slot(fd), NULL);
		if (--other->fds == 0 && other->kind == GN_KIND_SOCK)
			gn_ep_leave(other->ep);
	}
}

static bool is_counted(void)
{
	return gn_sys_getpid() == gn_world.pid;
}

/* All descriptors but these. */
static void close_others(const int *keep, int count)
{
	unsigned int from = 0;

	for (int done = 0; done < count; done++) {
		unsigned int next = ~0u; /* the lowest one from there on */

		for (int i = 0; i < count; i++)
			if ((unsigned int)keep[i] >= from)
				next = GN_MIN(next, (unsigned int)keep[i]);
		if (next > from)
			gn_sys_close_range(from, next - 1, 0);
		from = next + 1;
	}
	gn_sys_close_range(from, ~0u, 0);
}

/* Deaf to the terminal. */
static void detach(void)
{
	sigset_t all;

	sigfillset(&all);
	gn_sys_sigprocmask(SIG_BLOCK, &all, NULL);
	gn_raw3(SYS_setsid, 0, 0, 0);
}

static int asked_open(uint64_t moved[2])
{
	struct gn_name name;
	int fd, rc;

	if (gn_sys_getrandom(moved, 2 * sizeof *moved, 0) != 2 * sizeof *moved)
		return -EIO;
	gn_name_asked(&name, moved[0]);
	fd = gn_sys_socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	rc = fd < 0 ? fd : gn_sys_bind(fd, &name.sun, name.len);
	if (fd >= 0 && rc < 0)
		gn_sys_close(fd);
	return rc < 0 ? rc : fd;
}

/* Ours alone, from where the family is now. Both locks are held. As if a relative held it too, and slept on it: what only a lone holder does
 * must not be done yet. */
static void ep_copy(struct gn_ep *to, const struct gn_ep *from)
{
	memcpy(to, from, sizeof *to);
	atomic_store(&to->rx.lock, 0);
	atomic_store(&to->tx.lock, 0);
	atomic_store(&to->rx.in_kernel, 0);
	atomic_store(&to->tx.in_kernel, 0);
	for (int i = 0; i < GN_HOLDERS; i++) {
		atomic_store(&to->pid[i], i ? 0 : gn_world.pid);
		atomic_store(&to->asleep[i], 0);
	}
	atomic_store(&to->asleep[GN_HOLDERS], 1);
	atomic_fetch_and(&to->flags, ~GN_EP_PEEK_OFF); /* the plain socket's */
	atomic_store(&to->holders, 2);
}

/* From here on the endpoint is the relay's, and the family's is a mark that says so. */
static char take_over(struct gn_carrier *r)
{
	struct gn_sock *so = r->so;
	struct gn_ep *old = so->ep, *ep;
	uint64_t moved[2];
	struct stat st, plain;
	char verdict;

	r->asked = asked_open(moved);
	gn_lock(&gn_world.big);
	ep = r->asked >= 0 && gn_sys_fstat(r->ring, &st) == 0 && gn_sys_fstat(r->copy, &plain) == 0 ? gn_ep_new(old->domain, old->type, old->protocol) : NULL;
	gn_unlock(&gn_world.big);
	if (!ep)
		return 0;
	r->inode = st.st_ino;
	gn_rx_lock(so, r->ring);
	gn_tx_lock(so, r->ring);
	verdict = gn_has_moved(so) ? FOLLOW : gn_rx_shared(so) ? TAKEN : AT_HOME;
	if (verdict == TAKEN) {
		ep_copy(ep, old);
		memcpy(old->moved, moved, sizeof moved);
		old->fd = gn_world.pid;
		atomic_store(&old->peek_at, plain.st_ino);
		atomic_store(&old->rx.lane, GN_LANE_MOVED);
		atomic_store(&old->tx.lane, GN_LANE_MOVED);
	}
	gn_unlock(&old->tx.lock);
	gn_unlock(&old->rx.lock);
	if (verdict != TAKEN) {
		gn_ep_leave(ep);
		return verdict;
	}
	so->ep = ep;
	so->seat = 0;
	r->old = old;
	r->shared = true;
	return verdict;
}

static int out_of_the_way(int fd)
{
	return fd == GN_COPY_FD ? gn_sys_fcntl(fd, F_DUPFD_CLOEXEC, GN_COPY_FD + 1) : fd;
}

/* Under the number that relatives know. */
static int copy_open(int fd, int ring)
{
	if (fd == GN_COPY_FD || ring == GN_COPY_FD || gn_sys_dup3(fd, GN_COPY_FD, O_CLOEXEC) < 0)
		return fd;
	gn_sys_close(fd);
	return GN_COPY_FD;
}

/* The relay's own process. */
static _Noreturn void relay_main(struct gn_sock *so, int ring, const int pair[2], int tell)
{
	static GN_BULK struct gn_carrier r;
	int keep[] = {ring, pair[0], pair[1], tell};
	char verdict;

	detach();
	close_others(keep, ARRAY_SIZE(keep));
	so->watches = NULL; /* of sets that are its parent's */
	r.so = so;
	r.ring = ring;
	r.plain = out_of_the_way(pair[0]);
	for (size_t i = 0; i < 2; i++) /* whatever the other end may send */
		gn_sys_setsockopt(i ? r.plain : ring, SOL_SOCKET, SO_SNDBUF, &(int){GN_CARRY_BYTES}, sizeof(int));
	tell = out_of_the_way(tell);
	r.copy = copy_open(pair[1], ring);
	gn_sys_prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0); /* relatives may take it by themselves */
	verdict = take_over(&r);
	if (verdict == TAKEN)
		gn_carry_first(&r);
	gn_sys_write(tell, &verdict, 1);
	gn_sys_close(tell);
	if (verdict == TAKEN) {
		gn_carry(&r);
		gn_last_close(so, ring);
	}
	gn_ep_leave(so->ep);
	gn_sys_exit_group(0);
}

/* Two forks: the relay is nobody's child, so no program waits for a stranger. Where gn_fork() cannot count it, it is counted here, before it is
 * there: the parent whose memory this is may close its own descriptor at once, and must not take itself for the last holder. */
static int relay_fork(struct gn_sock *so, int ring, const int pair[2], int tell)
{
	bool lent = gn_is_vfork_child();
	pid_t pid;

	if (lent)
		atomic_fetch_add(&so->ep->holders, 1);
	pid = gn_fork(gn_helper_fork);
	if (pid < 0 && lent)
		atomic_fetch_sub(&so->ep->holders, 1);
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		pid = gn_fork(gn_helper_fork);
		if (pid < 0 && lent)
			atomic_fetch_sub(&so->ep->holders, 1);
		if (is_counted())
			leave_others(pid ? NULL : so);
		if (pid)
			gn_sys_exit_group(0);
		gn_adopt(so, ring);
		relay_main(so, ring, pair, tell);
	}
	gn_helper_wait(pid);
	return 0;
}

/* Starts one, and hears from it. The verdict, or -errno. */
static int relay_start(struct gn_sock *so, int fd, const int pair[2])
{
	bool lent = gn_is_vfork_child();
	int tell[2], ring, rc = gn_sys_pipe2(tell, O_CLOEXEC);
	char verdict = 0;

	if (rc < 0)
		return rc;
	ring = gn_sys_fcntl(fd, F_DUPFD_CLOEXEC, GN_COPY_FD + 1);
	if (ring < 0)
		ring = gn_sys_fcntl(fd, F_DUPFD_CLOEXEC, 3);
	rc = ring;
	if (ring >= 0) {
		if (!lent)
			gn_table_share(ring, so);
		rc = relay_fork(so, ring, pair, tell[1]);
		if (!lent)
			gn_table_clear(ring);
		gn_sys_close(ring);
	}
	gn_sys_close(tell[1]);
	while (rc >= 0 && gn_sys_read(tell[0], &verdict, 1) == -EINTR)
		;
	gn_sys_close(tell[0]);
	return rc < 0 ? rc : verdict ? verdict : -EIO;
}

/* What the program did to the socket that it will find another one instead of. */
static void plain_like(struct gn_sock *so, int fd, int plain)
{
	struct gn_ep *ep = so->ep;
	struct timespec receive = gn_timespec(atomic_load(&ep->rcvtimeo_ns)), send = gn_timespec(atomic_load(&ep->sndtimeo_ns));
	struct timeval tv;
	int low = (int)atomic_load(&ep->rcvlowat), on = 0, size = 0;
	socklen_t len = sizeof on;

	tv = (struct timeval){receive.tv_sec, receive.tv_nsec / 1000};
	gn_sys_setsockopt(plain, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	tv = (struct timeval){send.tv_sec, send.tv_nsec / 1000};
	gn_sys_setsockopt(plain, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
	if (low)
		gn_sys_setsockopt(plain, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low);
	if (gn_sys_getsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, &len) == 0 && on)
		gn_sys_setsockopt(plain, SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
	if (gn_sys_getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, &len) == 0) {
		size /= 2; /* the kernel doubles what it is given */
		gn_sys_setsockopt(plain, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	}
	if (gn_flag(ep, GN_EP_PEEK_OFF))
		gn_kernel_peek_offset(plain, gn_peek_offset(so));
	if (gn_flag(ep, GN_EP_NONBLOCK))
		gn_sys_fcntl(plain, F_SETFL, O_RDWR | O_NONBLOCK);
	if (atomic_load(&ep->tx.shut))
		gn_sys_shutdown(plain, SHUT_WR);
	if (atomic_load(&ep->rx.shut) && !gn_flag(ep, GN_EP_EMULATED))
		gn_sys_shutdown(plain, SHUT_RD);
}

int gn_relay(struct gn_sock *so, int fd)
{
	struct gn_name name;
	int pair[2], rc;

	if (gn_has_moved(so))
		return gn_follow(so, fd);
	rc = gn_sys_socketpair(AF_UNIX, so->ep->type | SOCK_CLOEXEC, 0, pair);
	if (rc < 0)
		return rc;
	if (gn_flag(so->ep, GN_EP_EMULATED)) { /* taken already: it shows no names then */
		gn_name_relay(&name, &so->ep->local, &so->ep->peer);
		gn_sys_bind(pair[1], &name.sun, name.len);
	}
	plain_like(so, fd, pair[1]);
	rc = relay_start(so, fd, pair);
	gn_sys_close(pair[0]);
	if (rc == TAKEN) {
		gn_move_to(so, fd, pair[1]);
		return 0;
	}
	gn_sys_close(pair[1]);
	return rc == FOLLOW ? gn_follow(so, fd) : GN_MIN(rc, 0);
}

/* One caller of the private face, connected to the public one under its own address if that can be had. */
static _Noreturn void forward_main(int caller, const struct gn_name *name)
{
	static GN_BULK struct gn_carrier r;
	struct gn_addr from, dest;
	struct sockaddr_storage ss;
	int one = 1, fd;

	if (gn_name_caller_parse(name, &from, &dest) < 0 || gn_is_elsewhere(caller))
		gn_sys_exit_group(1);
	fd = gn_sys_socket(dest.family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	gn_sys_setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	gn_sys_bind(fd, &ss, gn_addr_to_sockaddr(&ss, &from, dest.family));
	if (gn_sys_connect(fd, &ss, gn_addr_to_sockaddr(&ss, &dest, dest.family)) < 0)
		gn_sys_exit_group(1);
	r.ring = caller;
	r.copy = r.asked = -1;
	r.plain = fd;
	gn_carry_first(&r);
	gn_carry(&r);
	gn_sys_exit_group(0);
}

static int next_caller(int private_fd, struct gn_name *name)
{
	name->len = sizeof name->sun;
	return gn_sys_accept4(private_fd, &name->sun, &name->len, SOCK_CLOEXEC);
}

void gn_forward_callers(int private_fd)
{
	struct gn_name name;
	int c = next_caller(private_fd, &name);
	pid_t pid;

	if (c < 0)
		return;
	pid = gn_fork(gn_helper_fork);
	if (pid > 0)
		gn_helper_wait(pid);
	if (pid != 0) {
		gn_sys_close(c);
		return;
	}
	gn_raw3(SYS_setsid, 0, 0, 0);
	for (; c >= 0; c = next_caller(private_fd, &name)) {
		if (gn_helper_fork() == 0) { /* counted nowhere: it has the caller alone */
			close_others((int[]){c}, 1);
			forward_main(c, &name);
		}
		gn_sys_close(c);
	}
	if (is_counted())
		leave_others(NULL);
	gn_sys_exit_group(0);
}

