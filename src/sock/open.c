/* SPDX-License-Identifier: MIT */
/* Descriptors: how endpoints come, are duplicated and go. */
#include <netinet/in.h>
#include <string.h>

#include "base/fd.h"
#include "sock/api.h"

#define CLOSE_RANGE_UNSHARE_FLAG 2 /* CLOSE_RANGE_UNSHARE, CLOSE_RANGE_CLOEXEC: linux/close_range.h */
#define CLOSE_RANGE_CLOEXEC_FLAG 4

static bool serves(int domain, int type, int protocol)
{
	switch (domain) {
	case AF_UNIX:
		return type == SOCK_STREAM || type == SOCK_SEQPACKET || type == SOCK_DGRAM;
	case AF_INET:
	case AF_INET6:
		return (type == SOCK_STREAM && (protocol == 0 || protocol == IPPROTO_TCP)) ||
		       (type == SOCK_DGRAM && (protocol == 0 || protocol == IPPROTO_UDP));
	default:
		return false;
	}
}

/* gn_world.big is held. */
static struct gn_sock *make(enum gn_kind kind, int domain, int type, int protocol, int flags)
{
	struct gn_sock *so = gn_sock_new(kind);

	if (!so)
		return NULL;
	so->ep = gn_ep_new(domain, type, protocol);
	if (!so->ep) {
		atomic_fetch_sub(&so->refs, GN_REFS_LIVE + 1);
		so->next_free = gn_world.free_socks;
		gn_world.free_socks = so;
		return NULL;
	}
	if (flags & SOCK_NONBLOCK)
		atomic_store(&so->ep->flags, GN_EP_NONBLOCK);
	return so;
}

static struct gn_sock *open_one(enum gn_kind kind, int fd, int domain, int type, int protocol, enum gn_state state)
{
	int flags = type & (SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct gn_sock *so, *stale = NULL;

	type &= ~(SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (gn_is_vfork_child()) { /* the table is its parent's */
		gn_lent_change(fd);
		return NULL;
	}
	gn_table_clear(fd); /* closed behind our back before */
	if (gn_world.sandboxed || (uint32_t)fd >= gn_world.table_size || !serves(domain, type, protocol))
		return NULL; /* the kernel's alone */
	gn_lock(&gn_world.big);
	so = kind == GN_KIND_EARLY && atomic_load(&gn_world_lent) ? NULL : make(kind, domain, type, protocol, flags);
	if (so) {
		so->ep->fd = fd;
		atomic_store(&so->ep->state, state);
		gn_stats_begin(so);
		gn_table_set(fd, so, &stale);
		if (kind == GN_KIND_EARLY)
			atomic_fetch_add(&gn_world.early, 1);
	}
	gn_unlock(&gn_world.big);
	gn_table_drop(stale);
	if (so && fd <= 2)
		gn_pin(so, fd, GN_WHY_STDIO);
	return so;
}

bool gn_opened_early(int fd, int domain, int type, int protocol)
{
	return fd > 2 && open_one(GN_KIND_EARLY, fd, domain, type, protocol, GN_UNCONN);
}

int gn_socket(int domain, int type, int protocol)
{
	int fd = gn_early_open(domain, type, protocol);

	if (fd >= 0)
		return fd;
	fd = (int)gn_neg(gn_real.socket(domain, type, protocol));
	if (fd >= 0)
		gn_opened(fd, domain, type, protocol);
	return fd;
}

void gn_opened(int fd, int domain, int type, int protocol)
{
	open_one(GN_KIND_SOCK, fd, domain, type, protocol, GN_UNCONN);
}

void gn_opened_pair(const int fd[2], int domain, int type, int protocol)
{
	open_one(GN_KIND_SOCK, fd[0], domain, type, protocol, GN_ESTAB);
	open_one(GN_KIND_SOCK, fd[1], domain, type, protocol, GN_ESTAB);
}

struct gn_sock *gn_accepted(int fd, const struct gn_ep *listener, int flags)
{
	return open_one(GN_KIND_SOCK, fd, listener->domain, listener->type | flags, listener->protocol, GN_ESTAB);
}

/* Of packets that are all empty one is nothing, as for unix_release_sock(), which passes over the first. */
static bool several_left(struct gn_sock *so, int fd)
{
	struct gn_half *rx = &so->ep->rx;
	uint64_t until = atomic_load(&so->rx.dir->switch_pos), pos = atomic_load(&rx->kernel_msgs), count = until > pos ? until - pos : 0;

	gn_rx_lock(so, fd);
	if (gn_rx_shared(so))
		count += (uint64_t)GN_MAX(gn_ring_readable(&rx->ring, &so->rx), (int64_t)0) / gn_record_room(0);
	gn_unlock(&rx->lock);
	return count > 1;
}

/* The kernel's word that data was left unread is not believed where bells may be meant (gone.c), so it is said here. */
static bool left_unread(struct gn_sock *so, int fd)
{
	struct gn_half *rx = &so->ep->rx;
	struct pollfd urgent = {fd, POLLPRI, 0}; /* a look passes over it */
	uint32_t lane = atomic_load(&so->rx.dir->lane);
	bool left;

	if (lane == GN_LANE_KERNEL)
		return false; /* no bells came this way */
	if (lane == GN_LANE_BACK && !gn_flag(so->ep, GN_EP_PEEK_OFF))
		gn_kernel_peek_offset(fd, -1); /* looks are from the first byte on */
	if (so->ep->type == SOCK_SEQPACKET)
		return gn_unread(so, fd) > 0 || several_left(so, fd);
	gn_rx_lock(so, fd);
	left = atomic_load(&rx->kernel_bytes) < atomic_load(&so->rx.dir->switch_pos) ||
	       (gn_rx_shared(so) && gn_ring_readable(&rx->ring, &so->rx) != 0) ||
	       (lane == GN_LANE_BACK && (gn_drain_bells(so, fd) > 0 || (gn_is_at_mark(fd) && (gn_flag(so->ep, GN_EP_EMULATED) || gn_sys_poll(&urgent, 1, 0) == 1))));
	gn_unlock(&rx->lock);
	return left;
}

/* What is left unread at a close becomes a reset in the kernel lane. TCP's peer has our end of stream already, and reads up to that. */
static void read_rest(const struct gn_sock *so, int fd)
{
	if (!gn_flag(so->ep, GN_EP_EMULATED) || !atomic_load(&so->ep->tx.shut) || gn_tx_shared(so) || so->eof)
		return;
	for (int i = 0; i < 256 && gn_sys_recv(fd, gn_waste, sizeof gn_waste, MSG_DONTWAIT) > 0; i++)
		;
}

/* Tells the peer in shared memory too, so that one that spins need not wait for the kernel's word. */
static void say_goodbye(struct gn_sock *so, int fd)
{
	struct gn_ep *ep = so->ep;
	bool reset = gn_flag(ep, GN_EP_LINGER0);
	uint32_t none = GN_FIN_NONE;

	if (gn_world.sandboxed || gn_has_moved(so) || gn_flag(ep, GN_EP_GIVEN) || atomic_load(&ep->state) != GN_ESTAB || (!reset && !so->tx.dir && !atomic_load(&ep->tx.shut)) || !gn_ep_is_alone(ep))
		return;
	if (reset)
		gn_leave_mark(so, fd);
	read_rest(so, fd);
	if (!so->tx.dir)
		return;
	atomic_store(&so->rx.dir->deaf, reset || left_unread(so, fd) ? GN_DEAF_RESET : GN_DEAF_CLOSED);
	if (gn_tx_shared(so))
		atomic_compare_exchange_strong(&so->tx.dir->fin, &none, GN_FIN_CLOSED);
}

void gn_last_close(struct gn_sock *so, int fd)
{
	if (so->kind == GN_KIND_EPOLL)
		return;
	if (unlikely(so->kind == GN_KIND_EARLY))
		gn_early_over(so);
	gn_watches_drop(so);
	if (unlikely(gn_has_moved(so)) && (!so->followed || so->moved_fd >= 0)) {
		gn_unhide_close(&so->moved_fd);
		gn_move_poke(so);
	}
	say_goodbye(so, fd);
	gn_dgram_goodbye(so);
	gn_unhide_close(&so->private_fd);
	gn_unhide_close(&so->hold_fd);
	gn_unhide_close(&so->group_fd);
	gn_peer_drop(so);
	gn_queue_leave(so);
	if (so->eventless)
		atomic_fetch_sub(&gn_world.queued, 1);
	gn_unhide_close(&so->meeting.fd);
}

/* The private face of a listener whose last descriptor this is goes after the public one: who waits in its queue tries that one then. */
static int face_of_last(int fd)
{
	struct gn_sock *so = (uint32_t)fd < gn_world.table_size ? atomic_load(gn_slot(fd)) : NULL;
	int face = -1;

	if ((uintptr_t)so <= 1 || so->kind != GN_KIND_SOCK || so->private_fd < 0 || so->fds > 1 || gn_refs(so) > 1)
		return -1;
	face = so->private_fd;
	so->private_fd = -1;
	return face;
}

int gn_close(int fd)
{
	int face, rc;

	if (gn_is_vfork_child()) {
		gn_lent_change(fd);
		return (int)gn_neg(gn_real.close(fd));
	}
	if (gn_is_hidden(fd))
		return -EBADF;
	face = face_of_last(fd);
	gn_table_clear(fd);
	rc = gn_sys_close(fd); /* not to be cancelled between the two */
	gn_unhide_close(&face);
	return rc;
}

void gn_forget(int fd)
{
	if (fd >= 0 && !gn_is_vfork_child())
		gn_table_clear(fd);
}

/* Closes what lies between our own descriptors. */
static int close_between(unsigned int first, unsigned int last, int flags)
{
	unsigned int from = first;
	int rc = 0;

	for (unsigned int fd = first; fd <= last && fd < gn_world.table_size && rc == 0; fd++) {
		if (!gn_is_hidden((int)fd)) {
			if (!(flags & CLOSE_RANGE_CLOEXEC_FLAG))
				gn_table_clear((int)fd);
			continue;
		}
		if (fd > from)
			rc = (int)gn_neg(gn_real.close_range(from, fd - 1, flags));
		from = fd + 1;
	}
	if (rc == 0 && from <= last)
		rc = (int)gn_neg(gn_real.close_range(from, last, flags));
	return rc;
}

int gn_close_range(unsigned int first, unsigned int last, int flags)
{
	if (flags & ~(CLOSE_RANGE_UNSHARE_FLAG | CLOSE_RANGE_CLOEXEC_FLAG))
		return -EINVAL; /* before anything is forgotten, and not ours to know what a newer flag would do */
	if (first > last || gn_is_vfork_child())
		return (int)gn_neg(gn_real.close_range(first, last, flags));
	return close_between(first, last, flags);
}

/* A child that borrows its parent's memory prepares an exec, and the table will not show what it does. */
static int give_away_lent(int fd)
{
	struct gn_sock *so = gn_lent_is_changed(fd) ? NULL : gn_get(fd);
	int rc;

	if (!so)
		return 0;
	rc = gn_give_away(so, fd);
	gn_put(so);
	return rc;
}

/* The copy was made before, of what stood there then. */
static int dup_again(int fd, int copy)
{
	int flags = gn_sys_fcntl(copy, F_GETFD, 0);

	return gn_sys_dup3(fd, copy, flags & FD_CLOEXEC ? O_CLOEXEC : 0);
}

static int dup_lent(int fd, int copy)
{
	int rc = give_away_lent(fd);

	if (rc < 0) {
		gn_sys_close(copy);
		return rc;
	}
	gn_lent_change(copy);
	return dup_again(fd, copy);
}

/* [LANE-4]: stdio reads and writes on 0, 1 and 2, unseen by us. *so: what the descriptor leads to then, held, or NULL. */
static int leave_to_stdio(struct gn_sock **so, int fd)
{
	int rc = gn_leave_to_libc(*so, fd, GN_WHY_STDIO);

	gn_put(*so);
	*so = gn_get_any(fd);
	return rc;
}

static int dup2_lent(int from, int to, int flags, bool three)
{
	int rc = give_away_lent(from);

	if (rc < 0)
		return rc;
	rc = (int)gn_neg(three ? gn_real.dup3(from, to, flags) : gn_real.dup2(from, to));
	if (rc >= 0 && from != to)
		gn_lent_change(to);
	return rc;
}

/* The copy of an endpoint that another thread has closed meanwhile: that came first. */
static int share(struct gn_sock *so, int copy)
{
	if (gn_table_share(copy, so))
		return copy;
	gn_sys_close(copy);
	return -EBADF;
}

/* Until a copy is known to lead to `so`, no other socket comes under its descriptors. False: none does any more. */
static bool keep_still(struct gn_sock *so)
{
	if (!so || so->kind == GN_KIND_EPOLL || unlikely(gn_world.sandboxed))
		return false;
	gn_connecting_pass(so);
	if (!gn_is_inet(so->ep) || atomic_load(&so->ep->state) == GN_ESTAB)
		return false;
	gn_connecting_begin(so);
	return true;
}

/* `copy` leads where `fd` does, to `so` if that is anything of ours: its reference is given up. */
static int shared(struct gn_sock *so, int fd, int copy, bool still)
{
	int rc;

	gn_table_clear(copy);
	if (so && so->kind == GN_KIND_SOCK && copy <= 2) {
		if (still)
			gn_connecting_end(so);
		still = false;
		rc = leave_to_stdio(&so, fd);
		if (rc >= 0)
			rc = dup_again(fd, copy);
		if (rc < 0)
			gn_sys_close(copy);
		copy = rc;
	}
	if (copy < 0) {
		if (so)
			gn_put(so);
		return copy;
	}
	if (unlikely(gn_world.sandboxed) && (uint32_t)copy < gn_world.table_size && (uint32_t)fd < gn_world.table_size) {
		atomic_store(gn_slot(copy), *gn_slot(fd)); /* nothing is counted there */
	} else if (so) {
		copy = share(so, copy);
		if (still)
			gn_connecting_end(so);
		gn_put(so);
	}
	return copy;
}

int gn_dup(int fd, int cmd, long from)
{
	bool lent = gn_is_vfork_child(), still;
	struct gn_sock *so = lent ? NULL : gn_get_any(fd); /* looked up first: the number may be another file's as soon as it is copied */
	int copy;

	still = keep_still(so);
	copy = (int)gn_neg(cmd == GN_DUP ? gn_real.dup(fd) : gn_real.fcntl(fd, cmd, from)); /* a sandbox may allow one of them only */
	if (copy >= 0)
		return lent ? dup_lent(fd, copy) : shared(so, fd, copy, still);
	if (still)
		gn_connecting_end(so);
	if (so)
		gn_put(so);
	return copy;
}

/* A socket has one open file only: the same socket is the same file, whichever process it was taken from. */
int gn_taken(int fd, int rc)
{
	struct gn_sock *so = rc < 0 ? NULL : gn_get(fd);
	struct stat one, other;
	bool same;

	if (rc >= 0)
		gn_table_clear(rc);
	if (!so)
		return rc;
	same = gn_sys_fstat(fd, &one) == 0 && gn_sys_fstat(rc, &other) == 0 && one.st_dev == other.st_dev && one.st_ino == other.st_ino;
	gn_put(so);
	if (!same || gn_is_vfork_child())
		return same ? dup_lent(fd, rc) : rc;
	return shared(gn_get_any(fd), fd, rc, false);
}

static void sock_fd_moved(struct gn_sock *so, int from, int to)
{
	int *own[] = {&so->private_fd, &so->hold_fd, &so->group_fd, &so->held_fd, &so->moved_fd, &so->after, &so->meeting.fd};

	for (size_t i = 0; i < ARRAY_SIZE(own); i++)
		if (*own[i] == from)
			*own[i] = to;
	if (so->after == to)
		gn_epoll_renumber(so, from, to);
	if (so->kind == GN_KIND_EPOLL) {
		gn_epset_fd_moved(so->set, from, to);
		return;
	}
	gn_dgram_fd_moved(so, from, to);
	gn_queue_fd_moved(so, from, to);
}

/* A descriptor of ours is in the way of dup2: it moves, and the number is the program's. False: there is no other number. */
static bool make_way(int fd)
{
	int moved = gn_sys_fcntl(fd, F_DUPFD_CLOEXEC, fd + 1);
	struct gn_sock *so;

	if (moved < 0)
		moved = gn_sys_fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (moved < 0)
		return false;
	gn_hide(moved);
	if (gn_world.pool_fd == fd)
		gn_world.pool_fd = moved;
	gn_early_fd_moved(fd, moved);
	for (uint32_t i = 0; i < gn_world.used_fds; i++) {
		so = gn_get_any((int)i);
		if (!so)
			continue;
		sock_fd_moved(so, fd, moved);
		gn_put(so);
	}
	for (uint32_t i = 0; (so = gn_late_get(i)); i++) {
		sock_fd_moved(so, fd, moved);
		gn_put(so);
	}
	gn_unhide(fd);
	return true;
}

/* What dup2 would say in vain, 0 when it will do: what stands at `to` must know that it ends before it has ended. */
static int dup2_error(int from, int to, int flags)
{
	if (flags & ~O_CLOEXEC)
		return -EINVAL;
	return gn_fd_is_allowed(to) && gn_sys_fcntl(from, F_GETFD, 0) >= 0 ? 0 : -EBADF;
}

static bool is_used(int fd)
{
	return gn_is_hidden(fd) || ((uint32_t)fd < gn_world.table_size && atomic_load(gn_slot(fd)));
}

static int dup2_sandboxed(int from, int to, int flags, bool three)
{
	int rc = (int)gn_neg(three ? gn_real.dup3(from, to, flags) : gn_real.dup2(from, to));

	if (rc >= 0 && from != to && (uint32_t)rc < gn_world.table_size && (uint32_t)from < gn_world.table_size)
		atomic_store(gn_slot(rc), *gn_slot(from));
	return rc;
}

int gn_dup2(int from, int to, int flags, bool three)
{
	bool pool = to == gn_world.pool_fd;
	struct gn_sock *so;
	int rc;

	if (unlikely(gn_world.sandboxed))
		return dup2_sandboxed(from, to, flags, three);
	if (gn_is_vfork_child())
		return dup2_lent(from, to, flags, three);
	if (gn_is_hidden(from))
		return -EBADF;
	if (from == to)
		return (int)gn_neg(three ? gn_real.dup3(from, to, flags) : gn_real.dup2(from, to));
	rc = is_used(to) ? dup2_error(from, to, flags) : 0;
	if (rc < 0)
		return rc;
	if (gn_is_hidden(to) && !make_way(to))
		return -EMFILE;
	so = gn_get_any(from);
	if (so)
		gn_connecting_pass(so);
	if (so && so->kind == GN_KIND_SOCK && to <= 2)
		rc = leave_to_stdio(&so, from);
	if (rc >= 0) {
		gn_table_clear(to);
		rc = (int)gn_neg(three ? gn_real.dup3(from, to, flags) : gn_real.dup2(from, to));
	}
	if (unlikely(pool) && rc >= 0)
		gn_family_again();
	if (rc >= 0 && so)
		rc = share(so, to);
	if (so)
		gn_put(so);
	return rc;
}
