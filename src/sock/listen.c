/* SPDX-License-Identifier: MIT */
/*
 * bind and listen: what waits to be called. Of an internet listener also its private face, a second and hidden listener beside the public
 * one, which connect() tries first (conn.c) and accept() waits on too (accept.c).
 *
 * Invariants: so->private_fd is a hidden descriptor as long as the private face stands, and -1 otherwise; while it stands the public one never
 * blocks. Without a private face callers come by the public one: it costs speed only.
 */
#include <netinet/in.h>

#include "base/fd.h"
#include "sock/api.h"

int gn_local_name(int fd, struct gn_addr *a)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	int rc = gn_sys_getsockname(fd, &ss, &len);

	return rc < 0 ? rc : gn_addr_from_sockaddr(a, (struct sockaddr *)&ss, len);
}

static int bound(struct gn_sock *so, int fd, int rc)
{
	if (rc == 0 && gn_is_inet(so->ep))
		gn_local_name(fd, &so->ep->local);
	if (rc == 0)
		gn_peer_hold(so, fd);
	return rc;
}

int gn_bind(struct gn_sock *so, int fd, const struct sockaddr *addr, socklen_t len)
{
	return bound(so, fd, (int)gn_neg(gn_real.bind(fd, addr, len)));
}

int gn_bind_reserved(struct gn_sock *so, int fd, struct sockaddr_in *addr)
{
	return bound(so, fd, (int)gn_neg(gn_real.bindresvport(fd, addr)));
}

/* A listener on this name that is full for ever: a caller that nobody will accept fills it. Its hidden descriptor, or -errno. */
static int full_listener(const struct gn_name *at)
{
	int u = gn_sys_socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), c;
	int rc = u < 0 ? u : gn_sys_bind(u, &at->sun, at->len);

	if (rc == 0)
		rc = gn_sys_listen(u, 0);
	c = rc == 0 ? gn_sys_socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0) : rc;
	if (c >= 0) {
		rc = gn_sys_connect(c, &at->sun, at->len);
		gn_sys_close(c);
		if (rc < 0) { /* a caller was quicker: it is hung up on, and the group does without a first name */
			gn_sys_close(u);
			return rc;
		}
		u = gn_fd_raise(u);
		gn_hide(u);
		return u;
	}
	if (u >= 0)
		gn_sys_close(u);
	return c;
}

/* One of several listeners on an address (SO_REUSEPORT): takes the first free number. Callers try the address's own name first, find it
 * full (group_stands), and look for a group then; should the holder of that name end before the others, callers take the public face. */
static int group_join(int u, const struct gn_name *place)
{
	struct gn_name name;
	int rc = -EADDRINUSE;

	for (uint32_t i = 0; i < GN_GROUP_MAX && rc == -EADDRINUSE; i++) {
		gn_name_member(&name, place, i);
		rc = gn_sys_bind(u, &name.sun, name.len);
	}
	return rc;
}

/* Callers believe who owns the public face (trust.c): who was another user when it made the socket is not known for its owner. */
static bool is_owned(int fd)
{
	uid_t uid = gn_sys_geteuid();
	struct stat st;

	return uid == 0 || (gn_sys_fstat(fd, &st) == 0 && st.st_uid == uid);
}

/* The private face of a listener. Its failure costs speed only, and gnezdo ss says so. */
static void private_face_open(struct gn_sock *so, int fd, int backlog)
{
	struct gn_name name;
	bool dual = so->ep->domain == AF_INET6 && gn_addr_is_wildcard(&so->ep->local) && !gn_option_on(fd, IPPROTO_IPV6, IPV6_V6ONLY);
	bool grouped = gn_option_on(fd, SOL_SOCKET, SO_REUSEPORT);
	int u, rc;

	if (!is_owned(fd)) {
		gn_why(so->ep, GN_WHY_TRUST);
		return;
	}
	u = gn_fd_is_scarce() ? -EMFILE : gn_sys_socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (u < 0) {
		gn_why(so->ep, u == -EMFILE ? GN_WHY_SCARCE : GN_WHY_NO_MEMORY);
		return;
	}
	gn_name_listener(&name, &so->ep->local, dual);
	rc = grouped ? group_join(u, &name) : gn_sys_bind(u, &name.sun, name.len);
	if (rc == 0)
		rc = gn_sys_listen(u, backlog);
	if (rc < 0) {
		gn_why(so->ep, rc == -EADDRINUSE ? GN_WHY_BUSY_NAME : GN_WHY_NO_MEMORY);
		gn_sys_close(u);
		return;
	}
	if (grouped) /* last: who finds it is to find a member, too */
		so->group_fd = full_listener(&name);
	so->private_fd = gn_fd_raise(u);
	gn_hide(so->private_fd);
	gn_why(so->ep, GN_WHY_NONE);
	/* Whoever of several acceptors comes late must not sleep on one face and miss the other: the kernel's listener never blocks,
	 * our accept() does. */
	if (!gn_flag(so->ep, GN_EP_NONBLOCK))
		gn_sys_fcntl(fd, F_SETFL, gn_sys_fcntl(fd, F_GETFL, 0) | O_NONBLOCK);
	gn_watches_private(so, fd);
}

/* From now on the kernel's listener blocks by itself again, if it is to block. */
static void public_alone(struct gn_sock *so, int fd)
{
	if (!gn_flag(so->ep, GN_EP_NONBLOCK))
		gn_sys_fcntl(fd, F_SETFL, gn_sys_fcntl(fd, F_GETFL, 0) & ~O_NONBLOCK);
}

/* A relative has shut it. */
void gn_private_forget(struct gn_sock *so, int fd)
{
	if (so->private_fd < 0)
		return;
	gn_watches_private_gone(so);
	gn_unhide_close(&so->private_fd);
	gn_unhide_close(&so->group_fd);
	public_alone(so, fd);
}

/* In all relatives, who are told by the kernel. Callers of a group whose first member has gone are refused, not made to wait. */
static void private_shut(struct gn_sock *so, int how)
{
	gn_sys_shutdown(so->private_fd, how);
	if (so->group_fd >= 0)
		gn_sys_shutdown(so->group_fd, how);
}

/* shutdown() of a listener. */
void gn_private_close(struct gn_sock *so, int fd)
{
	if (so->private_fd < 0)
		return;
	private_shut(so, SHUT_RDWR);
	gn_private_forget(so, fd);
}

/* Somebody is about to accept who has the public face alone: the private one ends, in all relatives, for a caller in its queue might be
 * accepted by nobody. Who has called there already goes on by the public face. Relatives see POLLRDHUP, and EINVAL from accept().
 * A child that borrows our memory has descriptors of its own: the table is its parent's and stays. */
void gn_private_retire(struct gn_sock *so, int fd)
{
	if (so->private_fd < 0)
		return;
	private_shut(so, SHUT_RD);
	gn_forward_callers(so->private_fd);
	if (gn_is_vfork_child())
		public_alone(so, fd);
	else
		gn_private_forget(so, fd);
}

bool gn_private_wanted(const struct gn_sock *so, int fd)
{
	if (!gn_is_inet(so->ep) || so->ep->type != SOCK_STREAM || gn_world.unseen || gn_option_needs_kernel(so) || gn_flag(so->ep, GN_EP_PINNED))
		return false;
	if (!gn_is_elsewhere(fd))
		return true;
	gn_why(so->ep, GN_WHY_NETNS);
	return false;
}

int gn_listen(struct gn_sock *so, int fd, int backlog)
{
	int rc = (int)gn_neg(gn_real.listen(fd, backlog));

	if (rc < 0 || so->ep->type == SOCK_DGRAM)
		return rc;
	atomic_store(&so->ep->state, GN_LISTEN);
	so->ep->backlog = (uint16_t)backlog;
	if (so->private_fd >= 0) {
		gn_sys_listen(so->private_fd, backlog);
	} else if (!gn_ep_is_alone(so->ep)) { /* relatives could neither have a face of their own nor learn of this one */
		gn_why(so->ep, GN_WHY_SHARED);
	} else if (gn_private_wanted(so, fd) && !gn_uring_found() && gn_local_name(fd, &so->ep->local) == 0) {
		private_face_open(so, fd, backlog);
	}
	gn_peer_drop(so);
	return rc;
}
