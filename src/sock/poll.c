/* SPDX-License-Identifier: MIT */
/*
 * poll and select over sets that mix endpoints on the ring, listeners with two faces, and everything else.
 *
 * Each entry stands for one or two entries of the set that the kernel polls: its own, or for an endpoint on the ring its bells, and
 * for a listener its private face too. While nothing but rings is asked about and something is ready, no system call is made.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/single_threaded.h>

#include "sock/inside.h"
#include "sock/io.h"
#include "sock/sleep.h"

#define SMALL 64
#define MOVED INT_MAX /* instead of a count: begin anew */
#define TRIES 16
#define CAP_NS GN_NS_PER_MS /* how long to sleep when unread kernel data hides the bells */

struct entry {
	_Atomic uint16_t *seat; /* while armed: where we are counted, of a datagram endpoint NULL */
	struct gn_sock *so; /* held; NULL: the kernel's alone */
	bool ring;
	bool low; /* in the kernel lane, and TCP would wait for more than a byte: SO_RCVLOWAT */
	bool counted; /* as one that sleeps on it */
	bool inside;  /* the kernel lane, as in kernel.c: no other thread may consent to the ring while we wait for the kernel's word alone */
};

struct pollset {
	struct pollfd *user;
	struct pollfd *kernel; /* [0, count) beside user; then the private faces */
	struct entry *entry;
	int *twin;             /* of a listener: index of its private face; -1: none */
	nfds_t count, kernel_count;
	nfds_t rings, others;
	bool capped;
	bool no_room; /* waits for some, in a ring */
	uint64_t sets_ns; /* how long to rely on what epoll sets show, or UINT64_MAX */
	bool armed;
	bool moved;   /* one of them has (move.c): what was found counts for nothing */
	uint32_t token;
	void *map; /* of a large set, or NULL */
	size_t map_bytes;
	struct gn_held held;
};

/* Another thread may take it to the ring while this one sleeps. */
static bool may_move(const struct gn_sock *so)
{
	return !__libc_single_threaded && so->ep->type != SOCK_DGRAM && atomic_load(&so->ep->state) == GN_ESTAB &&
	       gn_world.lanes != GN_LANES_KERNEL && atomic_load(&so->meets) != GN_SEG_GIVEN_UP && !gn_flag(so->ep, GN_EP_PINNED);
}

bool gn_poll_concerns(const struct pollfd *fds, nfds_t count)
{
	if (unlikely(atomic_load_explicit(&gn_world.queued, memory_order_relaxed)))
		return !gn_is_nowhere(fds, count);
	for (nfds_t i = 0; i < count && !gn_is_nowhere(fds, count); i++) {
		struct gn_sock *so = gn_followed(gn_get(fds[i].fd), fds[i].fd);
		bool yes;

		if (!so) {
			if (unlikely(gn_set_sync(fds[i].fd) != UINT64_MAX))
				return true;
			continue;
		}
		gn_connecting_pass(so);
		/* Of who was on a ring the kernel does not know what was left unread there. */
		yes = so->private_fd >= 0 || gn_on_ring(so) || gn_flag(so->ep, GN_EP_EMULATED) || so->tx.dir || so->queue || may_move(so);
		gn_put(so);
		if (yes)
			return true;
	}
	return false;
}

static bool entry_make(struct pollset *s, nfds_t i)
{
	struct pollfd *u = &s->user[i];
	struct gn_sock *so = gn_followed(gn_get(u->fd), u->fd);

	if (so)
		gn_connecting_pass(so);
	s->kernel[i] = *u;
	s->entry[i] = (struct entry){.so = so};
	s->twin[i] = -1;
	s->moved |= so && unlikely(gn_has_moved(so));
	if (so && gn_on_ring(so)) {
		s->entry[i].ring = true;
		s->rings++;
		return true;
	}
	s->others += u->fd >= 0;
	if (so && gn_flag(so->ep, GN_EP_EMULATED) && (u->events & (POLLIN | POLLRDNORM)))
		s->kernel[i].events |= POLLPRI; /* gn_urgent_mend() */
	if (so && unlikely(gn_low_water(so) > 1)) {
		s->entry[i].low = true;
		s->kernel[i].events &= (short)~(POLLIN | POLLRDNORM); /* the kernel socket would wake us at the first byte */
	}
	if (so && so->private_fd >= 0) {
		s->twin[i] = (int)s->kernel_count;
		s->kernel[s->kernel_count++] = (struct pollfd){so->private_fd, u->events | POLLRDHUP, 0};
	}
	return true;
}

/* The descriptor of an entry on the ring: the program may have put the number to another use since. */
static int number_now(const struct pollset *s, nfds_t i)
{
	int fd = gn_fd_still(s->entry[i].so, s->user[i].fd);

	return fd >= 0 ? fd : s->user[i].fd;
}

/* What the kernel is to watch while we sleep: for rings, bells and the peer's end. */
static void ring_wish(struct pollset *s, nfds_t i)
{
	struct gn_sock *so = s->entry[i].so;
	struct pollfd *k = &s->kernel[i];
	short want = s->user[i].events;

	k->fd = number_now(s, i);
	k->events = (short)(POLLIN | POLLRDHUP | (want & POLLPRI));
	k->revents = 0;
	if (!gn_tx_shared(so))
		k->events |= want & (POLLOUT | POLLWRNORM);
	if (atomic_load(&so->peer_gone) || gn_flag(so->ep, GN_EP_SHUT_CARRIER))
		k->fd = -1; /* nothing more comes from there, and HUP would wake us for ever */
	if ((want & (POLLOUT | POLLWRNORM)) && gn_room_is_silent(so))
		s->capped = true;
	s->no_room |= (want & (POLLOUT | POLLWRNORM)) && (so->dgram || gn_tx_shared(so));
	if (k->fd >= 0 && (((!(want & (POLLIN | POLLRDNORM)) || gn_low_water(so) > 1) && !gn_all_in_ring(so)) || gn_bells_stay(so))) {
		k->events &= (short)~(POLLIN | POLLRDHUP);
		s->capped = true;
	}
}

/* What the private face of a listener adds. One that a relative has shut says nothing any more, and would wake us for ever. */
static short twin_result(struct pollset *s, nfds_t i)
{
	struct pollfd *twin = &s->kernel[s->twin[i]];

	if (!(twin->revents & (POLLHUP | POLLRDHUP)))
		return twin->revents;
	twin->fd = -1;
	gn_private_forget(s->entry[i].so, gn_fd_still(s->entry[i].so, s->user[i].fd));
	return 0;
}

/* Where TCP has nothing to read yet, the kernel socket would wake us for ever. */
static short urgent_result(struct pollset *s, nfds_t i, short r)
{
	short mended = gn_urgent_mend(s->entry[i].so, s->user[i].fd, r);

	if (unlikely(mended != r)) {
		s->entry[i].low = true;
		s->kernel[i].events &= (short)~(POLLIN | POLLRDNORM | POLLPRI);
	}
	return mended & (short)(s->user[i].events | ~POLLPRI);
}

static short plain_result(struct pollset *s, nfds_t i)
{
	struct gn_sock *so = s->entry[i].so;
	short r = s->kernel[i].revents;

	if (so && gn_flag(so->ep, GN_EP_EMULATED))
		r = urgent_result(s, i, r);
	if (s->twin[i] >= 0)
		r |= twin_result(s, i);
	/* AF_UNIX hangs up when the peer closes; TCP only when both sides have shut down. */
	if ((r & POLLHUP) && !(r & POLLERR) && so && gn_flag(so->ep, GN_EP_EMULATED)) {
		if (!gn_flag(so->ep, GN_EP_SHUT_CARRIER))
			gn_hung_up(so);
		gn_judge(so, s->user[i].fd);
	}
	if (unlikely((r & POLLHUP) && so && so->tx.dir && !gn_flag(so->ep, GN_EP_EMULATED)))
		gn_judge(so, s->user[i].fd); /* what was left unread in the ring the kernel does not know */
	if (unlikely(s->entry[i].low))
		r |= gn_low_ready(so, s->user[i].fd) & s->user[i].events;
	if ((r & POLLHUP) && !(r & POLLERR) && so && gn_hup_is_unix(so) && (r & ~POLLHUP))
		r &= (short)~POLLHUP;
	if (so && gn_flag(so->ep, GN_EP_EMULATED) && gn_flag(so->ep, GN_EP_DEAD))
		r = (short)((r & ~POLLERR) | (gn_flag(so->ep, GN_EP_LATE_URGENT) ? s->user[i].events & POLLPRI : 0)); /* a reset is told once */
	if (so && atomic_load(&so->ep->so_error))
		r |= POLLERR;
	if (so && gn_flag(so->ep, GN_EP_EMULATED) && atomic_load(&so->ep->rx.shut))
		r |= s->user[i].events & (POLLIN | POLLRDNORM | POLLRDHUP);
	if (so && gn_flag(so->ep, GN_EP_EMULATED))
		r &= (short)~POLLWRBAND; /* AF_UNIX has it, TCP has not */
	if (r == POLLHUP && so && gn_hup_is_unix(so)) {
		s->kernel[i].fd = -1; /* says TCP nothing, and would wake us for ever */
		r = 0;
	}
	return r;
}

/* Fills in what is known now and counts the entries that are ready. */
static int collect(struct pollset *s)
{
	int ready = 0;

	for (nfds_t i = 0; i < s->count; i++) {
		const struct entry *e = &s->entry[i];

		s->user[i].revents = e->ring ? gn_ready(e->so, number_now(s, i), s->user[i].events, true) : plain_result(s, i);
		ready += s->user[i].revents != 0;
		s->moved |= e->so && unlikely(gn_has_moved(e->so)); /* before that, or since */
	}
	return s->moved ? MOVED : ready;
}

/* Of rings that show nothing to read the kernel knows whether their peers have ended without a word. The more there are, the seldomer it is asked.
 * True: one has. */
static bool look_at_ends(struct pollset *s)
{
	const uint64_t patience = GN_MAX((nfds_t)1, s->rings / 8);
	bool found = false;

	for (nfds_t i = 0; s->rings && i < s->count; i++) {
		struct gn_sock *so = s->entry[i].so;

		if (s->entry[i].ring && !so->dgram && gn_rx_shared(so) && !(s->user[i].revents & ~GN_OUT_BITS) && unlikely(gn_doubts_writer(so, patience)))
			found |= gn_peer_ended(so, number_now(s, i));
	}
	return found;
}

static int kernel_now(struct pollset *s)
{
	struct timespec zero = {0};
	int rc;

	s->sets_ns = UINT64_MAX;
	for (nfds_t i = 0; i < s->count; i++) {
		if (s->entry[i].ring)
			s->kernel[i].fd = -1;
		else if (!s->entry[i].so)
			s->sets_ns = GN_MIN(s->sets_ns, gn_set_sync(s->kernel[i].fd));
		s->kernel[i].revents = 0;
	}
	if (!s->others)
		return 0;
	rc = (int)gn_raw6(SYS_ppoll, (long)s->kernel, (long)s->kernel_count, (long)&zero, 0, GN_SIGSET_BYTES, 0);
	return rc;
}

static bool any_ready(struct pollset *s)
{
	bool found = false;

	for (nfds_t i = 0; i < s->count && !found; i++)
		found = s->entry[i].ring && gn_ready(s->entry[i].so, s->user[i].fd, s->user[i].events, false);
	return found;
}

static bool spin(struct pollset *s)
{
	struct gn_sock *first = NULL;

	for (nfds_t i = 0; i < s->count && !first; i++)
		if (s->entry[i].ring)
			first = s->entry[i].so;
	return first && !s->others && GN_SPIN_UNTIL(first, first->rx.dir, any_ready(s));
}

/* Counted first, then looked at: see promote.c. What another thread has taken to the ring since we began is asked about there. */
static void inside_begin(struct pollset *s, nfds_t i)
{
	struct entry *e = &s->entry[i];

	e->inside = false;
	if (!e->so || e->so->ep->type == SOCK_DGRAM)
		return;
	if (!gn_rx_shared(e->so))
		e->inside = gn_lane_enter(e->so, &e->so->ep->rx, s->user[i].fd);
	if (!e->ring && gn_on_ring(e->so)) {
		e->ring = true;
		s->rings++;
		s->others--;
	}
}

static bool arm_all(struct pollset *s)
{
	struct gn_sock *so;
	bool quiet = true;

	s->capped = s->no_room = false;
	s->armed = true;
	s->token = gn_arm_token();
	for (nfds_t i = 0; i < s->count; i++) {
		s->capped |= s->entry[i].low;
		inside_begin(s, i);
		so = s->entry[i].so;
		s->moved |= so && unlikely(gn_has_moved(so));
		s->entry[i].counted = s->entry[i].ring || (so && gn_flag(so->ep, GN_EP_EMULATED));
		s->entry[i].seat = s->entry[i].counted && !so->dgram ? gn_seat(so) : NULL;
		if (s->entry[i].counted)
			gn_sleep_begin(so);
		if (!s->entry[i].ring) {
			quiet &= !s->entry[i].counted || !atomic_load(&so->ep->rx.shut) ||
				 !(s->user[i].events & (POLLIN | POLLRDNORM | POLLRDHUP));
			continue;
		}
		ring_wish(s, i);
		gn_cpu_publish(so);
		quiet &= gn_arm(so, s->user[i].fd, s->user[i].events, s->token);
		s->moved |= unlikely(gn_has_moved(so)); /* asked for a bell: from here on one comes */
	}
	return quiet && !s->moved;
}

static void disarm_all(struct pollset *s)
{
	s->armed = false;
	for (nfds_t i = 0; i < s->count; i++) {
		struct gn_sock *so = s->entry[i].so;

		if (s->entry[i].inside)
			atomic_fetch_sub(&so->ep->rx.in_kernel, 1);
		if (!s->entry[i].ring) {
			if (s->entry[i].counted)
				gn_sleep_end(so);
			continue;
		}
		gn_disarm(so, s->token);
		if (gn_sleep_end(so) && s->kernel[i].revents)
			gn_check_peer(so, gn_fd_still(so, s->user[i].fd), s->kernel[i].revents & ~POLLIN);
		s->kernel[i].revents = 0;
	}
}

/* -1: for ever. */
static int64_t left_of(uint64_t deadline_ns)
{
	uint64_t now;

	if (deadline_ns == UINT64_MAX)
		return -1;
	now = gn_now_ns();
	return now < deadline_ns ? (int64_t)(deadline_ns - now) : 0;
}

static int sleep_once(struct pollset *s, uint64_t deadline_ns, const sigset_t *mask)
{
	int64_t left = left_of(deadline_ns), cap;
	struct timespec ts;
	int rc = 1;

	if (arm_all(s)) {
		s->capped |= unlikely(atomic_load_explicit(&gn_world.queued, memory_order_relaxed));
		cap = s->capped ? CAP_NS : s->no_room ? GN_ROOM_NS : INT64_MAX;
		cap = (int64_t)GN_MIN((uint64_t)cap, s->sets_ns);
		if (cap < INT64_MAX && (left < 0 || left > cap))
			left = cap;
		ts = gn_timespec((uint64_t)left);
		rc = gn_sleep_ppoll(GN_SLEEP_EINTR, NULL, s->kernel, s->kernel_count, left < 0 ? NULL : &ts, mask);
		if (rc == 0 && cap < INT64_MAX)
			rc = 1;
	}
	disarm_all(s);
	return rc;
}

static int run(struct pollset *s, uint64_t deadline_ns, const sigset_t *mask)
{
	int ready, rc;

	for (;;) {
		if (unlikely(atomic_load_explicit(&gn_world.queued, memory_order_relaxed)))
			gn_queue_look();
		rc = kernel_now(s);
		if (rc < 0)
			return rc;
		ready = collect(s);
		if (ready >= 0 && (ready || left_of(deadline_ns) == 0) && look_at_ends(s))
			ready = collect(s);
		if (ready)
			return ready;
		if (left_of(deadline_ns) == 0)
			return mask ? gn_sleep_ppoll(GN_SLEEP_EINTR, NULL, NULL, 0, &(struct timespec){0}, mask) : 0; /* lets in what it lets in */
		if (spin(s))
			continue;
		rc = sleep_once(s, deadline_ns, mask);
		if (rc < 0)
			return rc;
		ready = collect(s);
		if (ready || rc == 0)
			return ready;
	}
}

/* A thread that never comes back from its sleep. */
static void set_undo(struct gn_held *held)
{
	struct pollset *s = container_of(held, struct pollset, held);

	for (nfds_t i = 0; i < s->count; i++) {
		if (s->armed && s->entry[i].inside)
			atomic_fetch_sub(&s->entry[i].so->ep->rx.in_kernel, 1);
		if (s->armed && s->entry[i].counted && s->entry[i].seat)
			atomic_fetch_sub(s->entry[i].seat, 1);
		else if (s->armed && s->entry[i].ring)
			atomic_fetch_sub(&s->entry[i].so->ep->sleepers, 1);
		if (s->entry[i].so)
			gn_put(s->entry[i].so);
	}
	if (s->map)
		gn_sys_munmap(s->map, s->map_bytes);
}

static void set_fork(struct gn_held *held, enum gn_fork_step step)
{
	struct pollset *s = container_of(held, struct pollset, held);

	for (nfds_t i = 0; i < s->count; i++) {
		struct entry *e = &s->entry[i];

		if (!e->so)
			continue;
		gn_count_fork(&e->so->refs, true, step);
		if (s->armed && e->inside)
			gn_count_fork(&e->so->ep->rx.in_kernel, false, step);
		if (!s->armed || !e->counted)
			continue;
		if (e->seat)
			gn_seat_fork(e->so, &e->seat, step);
		else
			gn_count_fork(&e->so->ep->sleepers, false, step);
	}
}

/* With what is under the descriptors now. */
static int run_once(struct pollset *s, uint64_t deadline_ns, const sigset_t *mask)
{
	int rc;

	s->moved = false;
	s->kernel_count = s->count;
	s->rings = s->others = 0;
	for (nfds_t i = 0; i < s->count; i++)
		entry_make(s, i);
	gn_held_push(&s->held);
	rc = unlikely(s->moved) ? MOVED : run(s, deadline_ns, mask);
	gn_held_pop(&s->held);
	for (nfds_t i = 0; i < s->count; i++)
		if (s->entry[i].so)
			gn_put(s->entry[i].so);
	return rc;
}

int gn_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask)
{
	struct pollfd small_kernel[2 * SMALL];
	struct entry small_entry[SMALL];
	int small_twin[SMALL];
	uint64_t deadline = gn_deadline_of(timeout);
	struct pollset s = {.user = fds, .count = count, .held = {.undo = set_undo, .fork = set_fork}};
	int rc;

	if (!gn_timeout_is_valid(timeout))
		return -EINVAL;
	s.kernel = small_kernel;
	s.entry = small_entry;
	s.twin = small_twin;
	if (count > SMALL) {
		/* Not malloc(): a handler may poll, and what it interrupted may have been malloc(). */
		s.map_bytes = count * (2 * sizeof *s.kernel + sizeof *s.entry + sizeof *s.twin);
		if (gn_sys_mmap(&s.map, NULL, s.map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) < 0)
			return -ENOMEM;
		s.entry = s.map;
		s.kernel = (void *)(s.entry + count);
		s.twin = (void *)(s.kernel + 2 * count);
	}
	for (nfds_t tries = 0; (rc = run_once(&s, deadline, mask)) == MOVED; tries++)
		if (tries > TRIES + count) {
			rc = -ENOMEM; /* there is no descriptor to follow one with */
			break;
		}
	if (s.map)
		gn_sys_munmap(s.map, s.map_bytes);
	return rc;
}

/* The sets above FD_SETSIZE are the program's business, as with the kernel: plain bit arithmetic. */
static bool bit(const fd_set *s, int fd)
{
	return s && (((const unsigned long *)s)[fd / (8 * (int)sizeof(long))] >> (fd % (8 * (int)sizeof(long))) & 1);
}

/* The kernel looks at no more of the sets than its table of descriptors has places (core_sys_select()), whatever the program says: many say
 * getdtablesize(), and their sets are not that large. The table never gets smaller. */
static int clamped(int count)
{
	static _Atomic int places = FD_SETSIZE; /* ours are at 960 and above, so it has these */
	char text[2048], *line;

	if (count <= atomic_load_explicit(&places, memory_order_relaxed))
		return count;
	if (gn_sys_read_file("/proc/self/status", text, sizeof text) > 0) {
		line = strstr(text, "FDSize:");
		if (line)
			atomic_store(&places, GN_MAX((int)strtol(line + 7, NULL, 10), FD_SETSIZE));
	}
	return GN_MIN(count, atomic_load(&places));
}

bool gn_select_concerns(int count, const fd_set *r, const fd_set *w, const fd_set *x)
{
	if ((r && gn_is_nowhere(r, 1)) || (w && gn_is_nowhere(w, 1)) || (x && gn_is_nowhere(x, 1)))
		return false;
	count = clamped(count);
	for (int fd = 0; fd < count; fd++) {
		struct pollfd p = {fd, 0, 0};

		if ((bit(r, fd) || bit(w, fd) || bit(x, fd)) && gn_poll_concerns(&p, 1))
			return true;
	}
	return false;
}

static void bit_set(fd_set *s, int fd)
{
	((unsigned long *)s)[fd / (8 * (int)sizeof(long))] |= 1ul << (fd % (8 * (int)sizeof(long)));
}

static void set_clear(fd_set *s, int count)
{
	if (s)
		memset(s, 0, ((size_t)count + 8 * sizeof(long) - 1) / (8 * sizeof(long)) * sizeof(long));
}

struct selection {
	struct pollfd *p;
	size_t bytes; /* 0: on the stack */
	struct gn_held held;
};

static void selection_free(struct gn_held *held)
{
	struct selection *s = container_of(held, struct selection, held);

	if (s->bytes)
		gn_sys_munmap(s->p, s->bytes);
}

static nfds_t bits_set(int count, const fd_set *r, const fd_set *w, const fd_set *x)
{
	nfds_t n = 0;

	for (int fd = 0; fd < count; fd++)
		n += bit(r, fd) || bit(w, fd) || bit(x, fd);
	return n;
}

/* In the program's sets, and an endpoint of ours when the call began. Above FD_SETSIZE: not known. */
struct known {
	uint64_t bits[FD_SETSIZE / 64];
};

static void known_note(struct known *k, int fd)
{
	if (fd < FD_SETSIZE && (uint32_t)fd < gn_world.table_size &&
	    (uintptr_t)atomic_load_explicit(gn_slot(fd), memory_order_relaxed) > 1)
		k->bits[fd / 64] |= UINT64_C(1) << fd % 64;
}

/* Closed while we slept: select(2) then counts it as ready for whatever was asked; one that was closed before is an error. */
static bool was_closed(const struct known *k, const struct pollfd *p)
{
	return (p->revents & POLLNVAL) && p->fd < FD_SETSIZE && (k->bits[p->fd / 64] >> p->fd % 64 & 1);
}

/* What came of what was asked; a hang-up, or an error, may be neither. */
static short asked_for(const struct pollfd *p, const fd_set *r, const fd_set *w, const fd_set *x)
{
	return (short)((bit(r, p->fd) && (p->revents & (POLLIN | POLLRDNORM | POLLRDBAND | POLLHUP | POLLERR)) ? POLLIN : 0) |
		       (bit(w, p->fd) && (p->revents & (POLLOUT | POLLWRNORM | POLLWRBAND | POLLERR)) ? POLLOUT : 0) |
		       (bit(x, p->fd) && (p->revents & POLLPRI) ? POLLPRI : 0));
}

/* Whose revents are what was asked for. 0: none; what woke us and was not asked for is not polled any more. */
static int select_once(struct pollfd *p, nfds_t n, const struct known *known, const fd_set *r, const fd_set *w, const fd_set *x,
		       const struct timespec *timeout, const sigset_t *mask)
{
	int rc = gn_ppoll(p, n, timeout, mask), found = 0;

	for (nfds_t i = 0; i < n && rc >= 0; i++)
		if (was_closed(known, &p[i]))
			p[i].revents = POLLIN | POLLOUT | POLLPRI;
		else if (p[i].revents & POLLNVAL)
			rc = -EBADF;
	for (nfds_t i = 0; i < n && rc > 0; i++) {
		if (p[i].fd < 0 || !p[i].revents)
			continue;
		p[i].revents = asked_for(&p[i], r, w, x);
		found += p[i].revents != 0;
		if (!p[i].revents)
			p[i].fd = -1;
	}
	return rc > 0 ? found : rc;
}

/* What select(2) asks as what poll(2) asks, room for it, and the answer. */
static int select_by_poll(struct pollfd *p, int count, fd_set *r, fd_set *w, fd_set *x, const struct timespec *timeout,
			  const sigset_t *mask)
{
	uint64_t deadline = timeout ? gn_now_ns() + (uint64_t)timeout->tv_sec * GN_NS_PER_S + (uint64_t)timeout->tv_nsec : 0, now;
	struct known known = {{0}};
	struct timespec left;
	nfds_t n = 0;
	int rc, bits = 0;

	for (int fd = 0; fd < count; fd++) {
		short ev = (short)((bit(r, fd) ? POLLIN | POLLRDNORM | POLLRDBAND : 0) | (bit(w, fd) ? POLLOUT | POLLWRNORM | POLLWRBAND : 0) |
				   (bit(x, fd) ? POLLPRI : 0));

		if (!ev)
			continue;
		known_note(&known, fd);
		p[n++] = (struct pollfd){fd, ev, 0};
	}
	for (bool woken = true; woken;) {
		rc = select_once(p, n, &known, r, w, x, timeout, mask);
		if (rc < 0)
			return rc;
		woken = false;
		for (nfds_t i = 0; i < n && rc == 0; i++)
			woken |= p[i].fd < 0 && p[i].revents == 0 && p[i].events;
		for (nfds_t i = 0; i < n && woken; i++)
			if (p[i].fd < 0)
				p[i].events = 0; /* passed over from now on */
		if (!woken || !timeout)
			continue;
		now = gn_now_ns();
		left = gn_timespec(deadline > now ? deadline - now : 0);
		timeout = &left;
	}
	set_clear(r, count);
	set_clear(w, count);
	set_clear(x, count);
	for (nfds_t i = 0; i < n; i++) {
		if (p[i].revents & POLLIN)
			bit_set(r, p[i].fd), bits++;
		if (p[i].revents & POLLOUT)
			bit_set(w, p[i].fd), bits++;
		if (p[i].revents & POLLPRI)
			bit_set(x, p[i].fd), bits++;
	}
	return bits;
}

int gn_pselect(int count, fd_set *r, fd_set *w, fd_set *x, const struct timespec *timeout, const sigset_t *mask)
{
	struct pollfd small[SMALL];
	struct selection s = {.p = small, .held = {.undo = selection_free}};
	nfds_t n = bits_set(count = clamped(count), r, w, x);
	void *map;
	int rc;

	if (n > SMALL) {
		s.bytes = n * sizeof *s.p;
		rc = gn_sys_mmap(&map, NULL, s.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (rc < 0)
			return rc;
		s.p = map;
	}
	gn_held_push(&s.held);
	rc = select_by_poll(s.p, count, r, w, x, timeout, mask);
	gn_held_pop(&s.held);
	selection_free(&s.held);
	return rc;
}
