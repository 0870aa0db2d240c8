/* SPDX-License-Identifier: MIT */
/*
 * Moving: what relatives of an endpoint do when it has become another socket, behind a relay. [LANE-4]
 *
 * Theory of operation. A forked family shares an endpoint, and one of it hands it to a program without the shim while the ring cannot be left
 * (retreat.c). From then on the open file that all have in common is the plain socket behind the relay: who went on with the ring would read what
 * that program is to read, or write between its bytes. So the relay marks both halves GN_LANE_MOVED under their locks, and whoever finds that
 * mark asks the relay for the socket, puts it under each of its descriptors of the endpoint, and begins its call anew. The hot path looks at the
 * lane anyway. Who sleeps on the old socket meanwhile is woken by what comes there next, for the relay leaves the last bell, or byte, in it
 * for as long as a relative has not followed (relay.c); one that is about to sleep looks for the mark after it has asked for a bell.
 *
 * The relay is asked by a datagram with the second of two random numbers in the shared memory; the first one is its name, which others can see. One
 * that was killed cannot be asked: the connection has ended then, and so has what is put in its place.
 *
 * A child that borrows our memory (vfork) follows for itself: the descriptors are its own, the table is its parent's.
 *
 * Threads/owner: any thread. `following` is taken before all other locks and is held for some calls that do not wait; asking, which may, comes
 * before it.
 */
#include <string.h>

#include "base/fd.h"
#include "sock/io.h"
#include "sock/sleep.h"

_Atomic uint32_t gn_following;

/* Of control data that holds one descriptor. */
union one_fd {
	char bytes[CMSG_SPACE(sizeof(int))];
	struct cmsghdr align;
};

ssize_t gn_fd_send(int over, const struct gn_name *to, void *data, size_t len, int fd)
{
	union one_fd control = {{0}};
	struct iovec iov = {data, len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	ssize_t rc;

	if (to) {
		msg.msg_name = (void *)(uintptr_t)&to->sun;
		msg.msg_namelen = to->len;
	}
	*c = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
	memcpy(CMSG_DATA(c), &fd, sizeof fd);
	do {
		rc = gn_sys_sendmsg(over, &msg, MSG_NOSIGNAL);
	} while (rc == -EINTR);
	return rc;
}

ssize_t gn_fd_recv(int over, void *data, size_t len, int *fd)
{
	union one_fd control;
	struct iovec iov = {data, len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	struct cmsghdr *c;
	ssize_t rc;

	*fd = -1;
	do {
		rc = gn_sys_recvmsg(over, &msg, MSG_CMSG_CLOEXEC);
	} while (rc == -EINTR);
	c = rc >= 0 ? CMSG_FIRSTHDR(&msg) : NULL;
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof *fd))
		memcpy(fd, CMSG_DATA(c), sizeof *fd);
	return rc;
}

/* From where its name cannot be reached: another network namespace. */
static int fetch(const struct gn_ep *ep)
{
	int of = gn_sys_pidfd_open(ep->fd, 0), plain = of < 0 ? of : gn_sys_pidfd_getfd(of, GN_COPY_FD, 0);
	struct stat st;

	if (of >= 0)
		gn_sys_close(of);
	if (plain >= 0 && (gn_sys_fstat(plain, &st) < 0 || st.st_ino != atomic_load(&ep->peek_at))) {
		gn_sys_close(plain); /* the id is somebody else's now */
		return -EPIPE;
	}
	return plain;
}

/* The relay's socket; -EPIPE: there is no relay any more. */
static int ask(const struct gn_ep *ep)
{
	uint64_t secret = ep->moved[1];
	struct gn_name name;
	int pair[2], plain = -1, by, rc;
	char byte;

	gn_name_asked(&name, ep->moved[0]);
	rc = gn_sys_socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
	if (rc < 0)
		return rc;
	by = gn_sys_socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	rc = by < 0 ? by : (int)gn_fd_send(by, &name, &secret, sizeof secret, pair[1]);
	gn_sys_close(pair[1]);
	if (by >= 0)
		gn_sys_close(by);
	if (rc >= 0)
		rc = gn_fd_recv(pair[0], &byte, 1, &plain) == 1 && plain >= 0 ? plain : -EPIPE;
	gn_sys_close(pair[0]);
	if (rc == -ECONNREFUSED)
		rc = fetch(ep);
	return by < 0 || rc >= 0 || rc == -EMFILE || rc == -ENFILE ? rc : -EPIPE;
}

void gn_move_poke(const struct gn_sock *so)
{
	struct gn_name name;
	int by = gn_sys_socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (by < 0)
		return;
	gn_name_asked(&name, so->ep->moved[0]);
	gn_sys_sendto(by, "", 0, MSG_DONTWAIT | MSG_NOSIGNAL, &name.sun, name.len);
	gn_sys_close(by);
}

/* A connection that was reset. */
static int dead_end(int type)
{
	int pair[2], rc = gn_sys_socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair);

	if (rc < 0)
		return rc;
	gn_sys_send(pair[0], "", 1, MSG_DONTWAIT); /* unread there: its closing resets */
	gn_sys_close(pair[1]);
	return pair[0];
}

/* What the kernel does not know of an emulated connection. */
static void carry_over(struct gn_sock *to, const struct gn_sock *from, int fd)
{
	struct gn_ep *new = to->ep;
	const struct gn_ep *old = from->ep;

	gn_options_inherit(to, from, fd);
	new->local = old->local;
	new->peer = old->peer;
	new->domain = old->domain;
	new->protocol = old->protocol;
	atomic_store(&new->rcvtimeo_ns, atomic_load(&old->rcvtimeo_ns));
	atomic_store(&new->sndtimeo_ns, atomic_load(&old->sndtimeo_ns));
	atomic_store(&new->rcvlowat, atomic_load(&old->rcvlowat));
	atomic_store(&new->rx.shut, atomic_load(&old->rx.shut));
	atomic_store(&new->tx.shut, atomic_load(&old->tx.shut));
	atomic_fetch_or(&new->flags, atomic_load(&old->flags) & GN_EP_GIVEN);
}

/* The table leads to it no longer: AF_UNIX is the kernel's alone from here on, what passes for an internet connection is known still. */
static void table_follow(struct gn_sock *so)
{
	struct gn_sock *again = NULL;

	for (uint32_t f = 0; f < gn_world.used_fds; f++) {
		if (atomic_load(gn_slot(f)) != so)
			continue;
		gn_table_clear((int)f);
		if (again) {
			gn_table_share((int)f, again);
			continue;
		}
		again = gn_flag(so->ep, GN_EP_EMULATED) ? gn_inherited((int)f) : NULL;
		if (again) {
			carry_over(again, so, (int)f);
			gn_watches_pass(so, again);
		}
	}
	if (again)
		gn_put(again);
}

/* Other threads may sleep on the old socket: as long as they do this process is to be seen to hold it, and is a relative that has not followed
 * (heirs.c). The caller and the table count on `so` too. */
static void keep_for_sleepers(struct gn_sock *so, int fd)
{
	if (gn_refs(so) <= 2)
		return;
	so->moved_fd = gn_fd_copy(fd);
	if (so->moved_fd >= 0)
		gn_hide(so->moved_fd);
}

void gn_move_to(struct gn_sock *so, int fd, int plain)
{
	if (gn_is_vfork_child()) {
		gn_put_under(so, fd, plain);
		return;
	}
	gn_lock(&gn_following);
	if (!so->followed) {
		gn_watches_leave(so);
		keep_for_sleepers(so, fd);
		gn_put_under(so, fd, plain);
		gn_watches_to_kernel(so);
		table_follow(so);
		gn_watches_drop(so);
		so->followed = true;
	} else {
		gn_sys_close(plain);
	}
	gn_unlock(&gn_following);
}

int gn_follow(struct gn_sock *so, int fd)
{
	int plain;

	if (so->followed && !gn_is_vfork_child())
		return 0;
	plain = ask(so->ep);
	if (plain == -EPIPE)
		plain = dead_end(so->ep->type);
	if (plain < 0)
		return plain;
	gn_move_to(so, fd, plain);
	return 0;
}

struct gn_sock *gn_followed_slow(struct gn_sock *so, int fd)
{
	if (gn_follow(so, fd) < 0)
		return so;
	gn_put(so);
	return gn_is_vfork_child() ? NULL : gn_get(fd);
}

/* The kernel's call, on the socket that is there now. */
static ssize_t plain_io(struct gn_sock *so, int fd, struct gn_io *io, bool sending)
{
	struct gn_held held = {.so = so};
	struct msghdr msg = gn_io_msg(io);
	ssize_t rc;

	if (gn_flag(so->ep, GN_EP_EMULATED))
		msg.msg_name = NULL, msg.msg_namelen = 0, msg.msg_control = NULL, msg.msg_controllen = 0;
	rc = gn_sleep(GN_SLEEP_CALL, &held, sending ? SYS_sendmsg : SYS_recvmsg, fd, (long)&msg, io->flags, 0, 0, 0);
	if (!sending && rc >= 0) {
		io->name_len = msg.msg_namelen;
		gn_io_answer(io, &msg);
	}
	return rc;
}

/* A call that found the mark, perhaps after a sleep: other threads may have followed, and closed the descriptor, meanwhile. */
ssize_t gn_moved_io(struct gn_sock *so, int fd, struct gn_io *io, bool sending)
{
	struct gn_held held = {.so = so};
	bool lent = gn_is_vfork_child();
	ssize_t rc = gn_follow(so, fd);
	struct gn_sock *now;
	int at;

	if (rc < 0)
		return rc;
	now = lent || !gn_flag(so->ep, GN_EP_EMULATED) ? NULL : gn_get(fd);
	if (now && now != so) {
		gn_held_push(&held);
		rc = sending ? gn_send_io(now, fd, io) : gn_recv_io(now, fd, io);
		gn_held_pop(&held);
		gn_put(now);
		return rc;
	}
	if (now)
		gn_put(now);
	at = lent ? fd : gn_fd_still(so, fd);
	return plain_io(so, at >= 0 ? at : fd, io, sending);
}
