/* SPDX-License-Identifier: MIT */
/*
 * Relays: how a connection on the ring is handed to somebody without the shim. [LANE-4]
 *
 * A program that execs, passes a descriptor on, or puts one under stdio goes on with a plain AF_UNIX socket; a process of our own, detached,
 * holds the endpoint and carries bytes between the two until both halves have ended. Slower, and right. [LANE-1]
 */
#include <stdlib.h>
#include <sys/wait.h>

#include "sock/api.h"

#define BUFFER 65536
#define GRACE_MS 100
#define LET_GO_NS (80 * GN_NS_PER_MS)
#define LET_GO_STEP_NS (100 * GN_NS_PER_US)

struct way {
	size_t from, to; /* unsent bytes of data */
	bool ended;      /* no more to read */
	bool told;       /* and the other side knows */
	char data[BUFFER];
};

struct relay {
	struct gn_sock *so;
	int ring, plain;
	struct way out, in; /* out: from the ring to the stranger */
};

static ssize_t ring_read(struct relay *r, void *to, size_t len)
{
	return r->so ? gn_recv_buf(r->so, r->ring, to, len, MSG_DONTWAIT) : gn_sys_recv(r->ring, to, len, MSG_DONTWAIT);
}

static ssize_t plain_read(struct relay *r, void *to, size_t len)
{
	return gn_sys_recv(r->plain, to, len, MSG_DONTWAIT);
}

static ssize_t ring_write(struct relay *r, const void *from, size_t len)
{
	int flags = MSG_DONTWAIT | MSG_NOSIGNAL;

	return r->so ? gn_send_buf(r->so, r->ring, from, len, flags) : gn_sys_send(r->ring, from, len, flags);
}

static ssize_t plain_write(struct relay *r, const void *from, size_t len)
{
	return gn_sys_send(r->plain, from, len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Moves what can be moved one way. False: the connection is over. */
static bool way_step(struct relay *r, struct way *w, ssize_t (*get)(struct relay *, void *, size_t),
		     ssize_t (*put)(struct relay *, const void *, size_t))
{
	ssize_t n;

	if (w->from == w->to && !w->ended) {
		n = get(r, w->data, sizeof w->data);
		if (n < 0 && n != -EAGAIN && n != -EINTR)
			return false;
		w->ended = n == 0;
		w->from = 0;
		w->to = n > 0 ? (size_t)n : 0;
	}
	while (w->from < w->to) {
		n = put(r, w->data + w->from, w->to - w->from);
		if (n == -EAGAIN || n == -EINTR)
			return true;
		if (n < 0)
			return false;
		w->from += (size_t)n;
	}
	return true;
}

/* The stranger has closed, and relatives of ours go on with the endpoint: its end is not the stream's. */
static bool only_stranger_left(const struct relay *r)
{
	struct pollfd p = {r->plain, 0, 0};

	return r->so && r->in.ended && r->in.from == r->in.to && atomic_load(&r->so->ep->holders) > 1 && gn_sys_poll(&p, 1, 0) == 1 &&
	       (p.revents & POLLHUP);
}

/* A parent that has started a program for the connection is about to close its own copy: until it has, or the program has written, what
 * comes may be for the parent. */
static void wait_for_relatives(const struct relay *r)
{
	struct pollfd p = {r->plain, POLLIN, 0};

	for (int i = 0; i < GRACE_MS && atomic_load(&r->so->ep->holders) > 1; i++)
		if (gn_sys_poll(&p, 1, 1) != 0)
			return;
}

static void tell_ends(struct relay *r)
{
	if (r->out.ended && r->out.from == r->out.to && !r->out.told) {
		gn_sys_shutdown(r->plain, SHUT_WR);
		r->out.told = true;
	}
	if (r->in.ended && r->in.from == r->in.to && !r->in.told) {
		r->so ? gn_shutdown(r->so, r->ring, SHUT_WR) : gn_sys_shutdown(r->ring, SHUT_WR);
		r->in.told = true;
	}
}

static short wish(const struct way *reading, const struct way *writing)
{
	bool full = reading->from < reading->to;

	return (short)((!full && !reading->ended ? POLLIN : 0) | (writing->from < writing->to ? POLLOUT : 0));
}

static void relay_run(struct relay *r)
{
	struct pollfd p[2];

	while (way_step(r, &r->out, ring_read, plain_write) && way_step(r, &r->in, plain_read, ring_write)) {
		if (only_stranger_left(r))
			return;
		tell_ends(r);
		if (r->out.told && r->in.told)
			return;
		p[0] = (struct pollfd){r->ring, wish(&r->out, &r->in), 0};
		p[1] = (struct pollfd){r->plain, wish(&r->in, &r->out), 0};
		if (!p[1].events && !p[0].events)
			return;
		if (!p[1].events)
			p[1].fd = -1;
		gn_ppoll(p, 2, NULL, NULL);
	}
}

/* All descriptors but these two, which may be one. */
static void close_others(int a, int b)
{
	unsigned int low = (unsigned int)GN_MIN(a, b), high = (unsigned int)GN_MAX(a, b);

	if (low > 0)
		gn_sys_close_range(0, low - 1, 0);
	if (low + 1 < high)
		gn_sys_close_range(low + 1, high - 1, 0);
	gn_sys_close_range(high + 1, ~0u, 0);
}

/* In a process of our own that gn_fork() has counted: it is no holder of what its parent has beside `so`, which may be on the ring still or
 * get there. */
static void leave_others(const struct gn_sock *so)
{
	for (uint32_t fd = 0; fd < gn_world.used_fds; fd++) {
		struct gn_sock *other = atomic_load(&gn_world.table[fd]);

		if ((uintptr_t)other <= 1 || other == so)
			continue;
		atomic_store(&gn_world.table[fd], NULL);
		if (--other->fds == 0 && other->kind == GN_KIND_SOCK)
			gn_ep_leave(other->ep);
	}
}

static bool is_counted(void)
{
	return gn_sys_getpid() == gn_world.pid;
}

/* The relay's own process: nothing but the two descriptors, deaf to the terminal. */
static _Noreturn void relay_main(struct gn_sock *so, int ring, int plain)
{
	static struct relay r;
	sigset_t all;

	sigfillset(&all);
	gn_sys_sigprocmask(SIG_BLOCK, &all, NULL);
	gn_raw3(SYS_setsid, 0, 0, 0);
	close_others(ring, plain);
	gn_world.stats = false;
	r.so = so;
	r.ring = ring;
	r.plain = plain;
	wait_for_relatives(&r);
	relay_run(&r);
	gn_last_close(so, ring);
	gn_sys_exit_group(0);
}

/* Two forks: the relay is nobody's child, so no program waits for a stranger. Where gn_fork() cannot count it, it is counted here, before it is
 * there: the parent whose memory this is may close its own descriptor at once, and must not take itself for the last holder. */
static int relay_start(struct gn_sock *so, int ring, int plain)
{
	bool lent = gn_is_vfork_child();
	pid_t pid;

	if (lent)
		atomic_fetch_add(&so->ep->holders, 1);
	pid = gn_fork(gn_real.fork);
	if (pid < 0 && lent)
		atomic_fetch_sub(&so->ep->holders, 1);
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		pid = gn_fork(gn_real.fork);
		if (pid < 0 && lent)
			atomic_fetch_sub(&so->ep->holders, 1);
		if (is_counted())
			leave_others(pid ? NULL : so);
		if (pid)
			gn_sys_exit_group(0);
		gn_adopt(so, ring);
		relay_main(so, ring, plain);
	}
	gn_raw6(SYS_wait4, pid, 0, 0, 0, 0, 0);
	return 0;
}

/* A child that borrows our memory leaves our table as it is: which of its descriptors are not what the table says any more? Several children
 * may be on their way to exec at a time. */
static struct lent {
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

int gn_relay(struct gn_sock *so, int fd)
{
	bool lent = gn_is_vfork_child();
	int pair[2], flags, ring, rc;
	struct gn_name name;

	rc = gn_sys_socketpair(AF_UNIX, so->ep->type | SOCK_CLOEXEC, 0, pair);
	if (rc < 0)
		return rc;
	if (gn_flag(so->ep, GN_EP_EMULATED)) { /* taken already: it shows no names then */
		gn_name_relay(&name, &so->ep->local, &so->ep->peer);
		gn_sys_bind(pair[1], &name.sun, name.len);
	}
	ring = gn_sys_fcntl(fd, F_DUPFD_CLOEXEC, 3);
	rc = ring < 0 ? ring : 0;
	if (rc == 0) {
		if (!lent)
			gn_table_share(ring, so);
		atomic_fetch_or(&so->ep->flags, GN_EP_RELAYED);
		rc = relay_start(so, ring, pair[0]);
		if (!lent)
			gn_table_clear(ring);
		gn_sys_close(ring);
	}
	if (rc == 0 && !lent)
		gn_watches_leave(so);
	for (uint32_t f = 0; rc == 0 && f < gn_world.used_fds; f++) {
		if ((int)f != fd && (lent || atomic_load(&gn_world.table[f]) != so))
			continue;
		flags = gn_sys_fcntl((int)f, F_GETFD, 0);
		gn_sys_dup3(pair[1], (int)f, (flags & FD_CLOEXEC) ? O_CLOEXEC : 0);
		if (lent)
			gn_lent_change((int)f);
	}
	if (rc == 0 && !lent) {
		gn_watches_to_kernel(so);
		for (uint32_t f = 0; f < gn_world.used_fds; f++)
			if (atomic_load(&gn_world.table[f]) == so)
				gn_table_clear((int)f);
	}
	if (rc == 0 && gn_flag(so->ep, GN_EP_NONBLOCK))
		gn_sys_fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK);
	gn_sys_close(pair[0]);
	gn_sys_close(pair[1]);
	if (rc == 0 && !lent && gn_flag(so->ep, GN_EP_EMULATED)) {
		struct gn_sock *again = gn_inherited(fd); /* its addresses are known still */

		if (again)
			gn_put(again);
	}
	return rc;
}

/* One caller of the private face, connected to the public one under its own address if that can be had. */
static _Noreturn void forward_main(int caller, const struct gn_name *name)
{
	static struct relay r;
	struct gn_addr from, dest;
	struct sockaddr_storage ss;
	int one = 1, fd;

	if (gn_name_caller_parse(name, &from, &dest) < 0)
		gn_sys_exit_group(1);
	fd = gn_sys_socket(dest.family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	gn_sys_setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	gn_sys_bind(fd, &ss, gn_addr_to_sockaddr(&ss, &from, dest.family));
	if (gn_sys_connect(fd, &ss, gn_addr_to_sockaddr(&ss, &dest, dest.family)) < 0)
		gn_sys_exit_group(1);
	r.ring = caller;
	r.plain = fd;
	relay_run(&r);
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
	pid = gn_fork(gn_real.fork);
	if (pid > 0)
		gn_raw6(SYS_wait4, pid, 0, 0, 0, 0, 0);
	if (pid != 0) {
		gn_sys_close(c);
		return;
	}
	gn_world.stats = false;
	gn_raw3(SYS_setsid, 0, 0, 0);
	for (; c >= 0; c = next_caller(private_fd, &name)) {
		if (gn_real._Fork() == 0) { /* counted nowhere: it has the caller alone */
			close_others(c, c);
			forward_main(c, &name);
		}
		gn_sys_close(c);
	}
	if (is_counted())
		leave_others(NULL);
	gn_sys_exit_group(0);
}

/* Somebody without the shim is about to use this descriptor. */
void gn_give_away(struct gn_sock *so, int fd)
{
	gn_private_retire(so, fd);
	if (!gn_retreat(so, fd, GN_WHY_CALL))
		gn_relay(so, fd);
}

void gn_leave_to_libc(struct gn_sock *so, int fd, enum gn_reason why)
{
	if (gn_on_ring(so))
		gn_give_away(so, fd); /* what lies unread in the ring must reach it too */
	else
		gn_pin(so, fd, why);
}

static bool is_inherited(struct gn_sock *so, int fd)
{
	int flags = gn_sys_fcntl(fd, F_GETFD, 0);

	if (gn_is_vfork_child() && gn_lent_is_changed(fd))
		return false;
	return flags >= 0 && !(flags & FD_CLOEXEC);
}

/* Who has forked a child for a connection closes its own copy about now. */
static bool relatives_let_go(struct gn_sock *so, uint64_t until_ns)
{
	struct timespec step = gn_timespec(LET_GO_STEP_NS);

	while (!gn_ep_is_alone(so->ep)) {
		if (gn_now_ns() >= until_ns)
			return false;
		gn_sys_nanosleep(&step, NULL);
	}
	return true;
}

/* Of an endpoint that relatives use too, a relay would take their bytes: only for what is clearly meant for the new program. */
static void exec_stays(struct gn_sock *so, int fd, uint64_t until_ns)
{
	if (fd <= 2 || (!gn_is_vfork_child() && relatives_let_go(so, until_ns + LET_GO_NS)))
		gn_relay(so, fd);
}

void gn_before_exec(void)
{
	gn_retreat_all(is_inherited, exec_stays, GN_WHY_CALL);
}

/* Sources of dup2 in the file actions of posix_spawn: inherited in spite of FD_CLOEXEC. */
static _Atomic uint64_t spawn_sources[16];

void gn_spawn_source(int fd)
{
	if (fd >= 0 && fd < (int)(64 * ARRAY_SIZE(spawn_sources)))
		atomic_fetch_or(&spawn_sources[fd / 64], UINT64_C(1) << fd % 64);
}

static bool is_spawned(struct gn_sock *so, int fd)
{
	bool source = fd < (int)(64 * ARRAY_SIZE(spawn_sources)) && (atomic_load(&spawn_sources[fd / 64]) >> fd % 64 & 1);

	return is_inherited(so, fd) || source;
}

static void spawn_stays(struct gn_sock *so, int fd, uint64_t until_ns)
{
	(void)until_ns;
	gn_relay(so, fd);
}

void gn_before_spawn(void)
{
	if (gn_is_vfork_child())
		gn_before_exec();
	else
		gn_retreat_all(is_spawned, spawn_stays, GN_WHY_CALL);
}

/* Before descriptors are sent to another process. */
void gn_before_passing(const struct msghdr *msg)
{
	struct cmsghdr *c;

	if (gn_is_no_control(msg))
		return; /* the kernel's errno follows */
	for (c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR((struct msghdr *)(uintptr_t)msg, c)) {
		size_t left = msg->msg_controllen - (size_t)((const char *)c - (const char *)msg->msg_control);
		size_t count = c->cmsg_len >= CMSG_LEN(0) ? (GN_MIN(c->cmsg_len, left) - CMSG_LEN(0)) / sizeof(int) : 0;
		const int *fds = (const int *)(const void *)CMSG_DATA(c);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < count; i++) {
			struct gn_sock *so = gn_get(fds[i]);

			if (!so)
				continue;
			gn_give_away(so, fds[i]);
			gn_put(so);
		}
	}
}
