/* SPDX-License-Identifier: MIT */
/*
 * epoll_ctl: what the program registers. Descriptors that are not ours go to the kernel as they are; for ours there is a watch.
 *
 * Invariants: what fails in the kernel changes nothing here; the errors are the kernel's own. No hidden descriptor is ever registered.
 */

#include "sock/epset.h"

static struct gn_watch *watch_find(const struct gn_sock *so, const struct gn_epset *set, int fd)
{
	struct gn_watch *w;

	for (w = so->watches; w; w = w->of_sock)
		if (w->set == set && w->fd == fd && !w->moved)
			return w;
	return NULL;
}

/* A watch that was deleted a moment ago: many programs add and delete interest in writing with each request. No system call. */
static int ctl_revive(struct gn_epset *set, struct gn_watch *w, const struct epoll_event *ev)
{
	w->deleted = false;
	w->events = ev->events;
	w->data = ev->data;
	w->off = w->cold = false;
	w->fresh = w->hint = true;
	w->quiet = 0;
	gn_watch_move(w, &set->hot);
	set->rings++;
	if (set->outer)
		gn_watch_arm(w, GN_ARM_ALWAYS);
	return 0;
}

static int ctl_add(struct gn_epset *set, struct gn_sock *so, int fd, const struct epoll_event *ev)
{
	struct gn_watch *w = gn_watch_new();
	int rc;

	if (!w)
		return -ENOMEM;
	rc = gn_epset_ctl(set, EPOLL_CTL_ADD, fd, gn_kernel_events(so, ev->events), ev->data.u64);
	if (rc < 0) {
		gn_watch_give(w);
		return rc;
	}
	*w = (struct gn_watch){.set = set, .so = so, .fd = fd, .number = fd, .events = ev->events, .data = ev->data, .of_sock = so->watches};
	w->since = atomic_load(&set->asked);
	so->watches = w;
	gn_watch_list_add(&set->kernel, w);
	if (ev->events & EPOLLONESHOT)
		set->oneshots++;
	gn_watch_added(w);
	return 0;
}

static int ctl_mod(struct gn_epset *set, struct gn_sock *so, struct gn_watch *w, const struct epoll_event *ev)
{
	int rc = 0;

	if ((ev->events & EPOLLEXCLUSIVE) || (w->events & EPOLLEXCLUSIVE))
		return -EINVAL;
	if (!w->ring) {
		rc = gn_epset_ctl(set, EPOLL_CTL_MOD, w->fd, gn_kernel_events(so, ev->events), ev->data.u64);
		w->told = 0;
		if (rc == 0 && so->private_fd >= 0)
			gn_epset_ctl(set, EPOLL_CTL_MOD, so->private_fd, ev->events, ev->data.u64);
	}
	if (rc < 0)
		return rc;
	w->events = ev->events;
	w->data = ev->data;
	w->since = atomic_load(&set->asked);
	w->off = false;
	if (ev->events & EPOLLONESHOT)
		set->oneshots++;
	if (!w->ring)
		return 0;
	w->fresh = w->hint = true;
	w->quiet = 0;
	gn_watch_warm(w);
	if (!gn_tx_shared(so))
		gn_bells_ctl(w, EPOLL_CTL_MOD);
	return 0;
}

static int ctl_del(struct gn_epset *set, struct gn_sock *so, struct gn_watch *w)
{
	if (so->private_fd >= 0)
		gn_epset_ctl(set, EPOLL_CTL_DEL, so->private_fd, 0, 0);
	if (w->ring && gn_on_ring(so)) {
		w->deleted = true;
		w->cold = false;
		gn_watch_move(w, &set->deleted);
		set->rings--;
		return 0;
	}
	if (w->ring)
		gn_bells_ctl(w, EPOLL_CTL_DEL);
	else
		gn_epset_ctl(set, EPOLL_CTL_DEL, w->fd, 0, 0);
	gn_watch_remove(w);
	return 0;
}

static int ctl_ours(struct gn_epset *set, struct gn_sock *so, int op, int fd, struct epoll_event *ev)
{
	struct gn_watch *w = watch_find(so, set, fd);

	if (op != EPOLL_CTL_DEL && !ev)
		return -EFAULT;
	if (w && w->deleted) {
		if (op == EPOLL_CTL_ADD && w->ring && gn_on_ring(so) && !(ev->events & EPOLLEXCLUSIVE))
			return ctl_revive(set, w, ev);
		if (op != EPOLL_CTL_ADD)
			return -ENOENT;
		if (w->ring)
			gn_bells_ctl(w, EPOLL_CTL_DEL);
		gn_watch_remove(w);
		w = NULL;
	}
	if (w && op == EPOLL_CTL_ADD)
		return -EEXIST;
	if (!w && op != EPOLL_CTL_ADD)
		return gn_epset_ctl(set, op, fd, ev ? ev->events : 0, ev ? ev->data.u64 : 0);
	switch (op) {
	case EPOLL_CTL_ADD:
		return ctl_add(set, so, fd, ev);
	case EPOLL_CTL_MOD:
		return ctl_mod(set, so, w, ev);
	case EPOLL_CTL_DEL:
		return ctl_del(set, so, w);
	default:
		return -EINVAL;
	}
}

int gn_epoll_ctl(int setfd, int op, int fd, struct epoll_event *event)
{
	struct gn_sock *so = gn_followed(gn_get(fd), fd);
	struct gn_sock *set = so ? gn_epset_get(setfd) : gn_get_kind(setfd, GN_KIND_EPOLL);
	int rc;

	if (set && event) {
		gn_lock(&set->set->lock);
		gn_cookie_avoid(set->set, event->data.u64);
		gn_unlock(&set->set->lock);
	}
	if (so && set) {
		gn_connecting_pass(so);
		gn_lock(&gn_watch_lists);
		gn_lock(&set->set->lock);
		rc = ctl_ours(set->set, so, op, fd, event);
		gn_unlock(&set->set->lock);
		gn_unlock(&gn_watch_lists);
		if (unlikely(set->set->outer))
			gn_epset_sync(set->set);
		else if (rc == 0 && op != EPOLL_CTL_DEL && (gn_on_ring(so) || gn_queue_waits(so)) && atomic_load(&set->set->sleeping))
			gn_epset_poke(set->set);
	} else {
		rc = gn_is_hidden(fd) ? -EBADF : gn_sys_epoll_ctl(setfd, op, fd, event);
		if (rc == 0 && op != EPOLL_CTL_MOD && set)
			gn_epset_inner(set->set, fd, op == EPOLL_CTL_ADD);
	}
	if (set)
		gn_put(set);
	if (so)
		gn_put(so);
	return rc;
}
