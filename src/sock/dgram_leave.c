/* SPDX-License-Identifier: MIT */
/*
 * Datagrams: the reader leaves. Somebody who sees no rings is about to read the socket (exec, a passed descriptor, stdio, io_uring, a
 * sandbox), so what lies unread in rings is put into the kernel's queue, each datagram with its sender's address. [LANE-4] [DGRAM-1]
 *
 * Theory of operation. LEAVING, in the consent word, closes each pair: its writer, which looks after it has written, writes no more and
 * sends nothing by the kernel either until it reads LEFT; it rings no more, and a bell that it may be about to send is waited for. Then
 * the records are sent to ourselves in the peer's name (dgram_stand.c), in order, and counted in the tail one by one: at whatever
 * instruction somebody is killed, what is behind the tail is the writer's to send. Where the kernel lets nobody send in its name, LEFT with
 * records behind the tail asks the peer to do it, and a bell wakes it for that.
 *
 * Where the kernel's queue has bells between datagrams, or holds what comes behind records, it is taken out and put in again (dgram_backlog.c).
 * A closed AF_UNIX peer lends nothing: a new pair of sockets takes the place of ours, which shows no names. What does not fit into the
 * queue of AF_UNIX is left to a process of our own, detached, that ends when it has put it there: nothing is lost, and the peer waits meanwhile.
 *
 * Threads/owner: any thread; takes the locks of the table and of both halves.
 */
#include <string.h>

#include "sock/api.h"
#include "sock/dgram.h"

#define STEP_NS (50 * GN_NS_PER_US)
#define RINGS_NS (20 * GN_NS_PER_MS)
#define ASKED_NS (20 * GN_NS_PER_MS)
#define PUMP_MS 1000 /* between two looks, should nobody tell */

/* Closes the pairs whose records are ours to move; no new ones come. */
static uint32_t pairs_close(struct gn_sock *so, int fd)
{
	struct gn_dgram *d = so->dgram;
	uint32_t mine = 0, consent;

	gn_lock(&d->lock);
	for (uint32_t i = 0; i < GN_PAIRS; i++) {
		struct gn_pair *p = &d->pair[i];

		if (!gn_pair_is_mapped(p))
			continue;
		consent = atomic_load(&p->rx.dir->consent);
		while (consent < GN_CONSENT_LEAVING && !atomic_compare_exchange_weak(&p->rx.dir->consent, &consent, GN_CONSENT_LEAVING))
			;
		if (consent < GN_CONSENT_LEAVING)
			mine |= 1u << i;
		gn_tx_lock(so, fd);
		gn_pair_end(so, fd, p);
		gn_pair_tx_back(so, p);
		gn_unlock(&so->ep->tx.lock);
	}
	gn_unlock(&d->lock);
	return mine;
}

/* No bell comes from there any more. A writer that was killed in mid-ring rings no more either. */
static void bells_end(const struct gn_pair *p)
{
	struct timespec step = gn_timespec(STEP_NS);
	uint64_t until = 0;

	atomic_store(&p->rx.dir->c_parked, 0);
	while (atomic_load(&p->rx.dir->p_rings)) {
		if (!until)
			until = gn_now_ns() + RINGS_NS;
		if (gn_now_ns() >= until)
			return;
		gn_sys_nanosleep(&step, NULL);
	}
}

/* Sends in the name of a source; what was found is kept while we are at it. */
struct source {
	struct gn_addr who;
	struct gn_stand stand;
};

struct leave {
	struct gn_sock *so;
	int fd;
	uint32_t mine;   /* pairs that we have closed */
	uint32_t asked;  /* of them: those whose peers are to send again themselves */
	uint32_t early;  /* of them: those whose records come before what the kernel's queue holds */
	int fresh;       /* an AF_UNIX socket that is to take the place of fd, or -1 */
	uint32_t sources;
	struct source source[GN_PAIRS];
	struct gn_backlog backlog;
};

/* The dead of our own domain have no socket to send by: we get another one. */
static int fresh_pair(struct leave *l, struct gn_stand *s)
{
	int pair[2], rc = gn_sys_socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair);

	if (rc < 0)
		return rc;
	*s = (struct gn_stand){.fd = pair[0]};
	l->fresh = pair[1];
	return 0;
}

static pid_t holder_of(const struct leave *l, const struct gn_addr *who)
{
	const struct gn_pair *p;

	GN_FOR_PAIRS(l->so->dgram, p, l->mine)
		if (gn_addr_equal(&p->peer, who))
			return p->meeting.pid;
	return 0;
}

/* NULL: nobody may. */
static struct gn_stand *stand_of(struct leave *l, const struct gn_addr *who)
{
	struct source *s;
	int rc;

	for (uint32_t i = 0; i < l->sources; i++)
		if (gn_addr_equal(&l->source[i].who, who))
			return l->source[i].stand.fd < 0 ? NULL : &l->source[i].stand;
	s = &l->source[l->sources < GN_PAIRS ? l->sources++ : GN_PAIRS - 1];
	if (s->who.family) /* the last place is everybody's */
		gn_stand_end(&s->stand);
	s->who = *who;
	rc = gn_stand_find(l->so, l->fd, who, holder_of(l, who), &s->stand);
	if (rc == -EHOSTDOWN)
		rc = fresh_pair(l, &s->stand);
	if (rc < 0)
		s->stand.fd = -1;
	return rc < 0 ? NULL : &s->stand;
}

static bool has_stand(void *ctx, const struct gn_addr *who)
{
	return stand_of(ctx, who) != NULL;
}

/* -EAGAIN: AF_UNIX has no room; other errors: it cannot be sent. */
static int send_as(struct leave *l, const struct gn_addr *who, struct iovec *iov, size_t count)
{
	struct gn_stand *s = stand_of(l, who);
	ssize_t rc = s ? gn_stand_send(s, iov, count) : -EPERM;

	if (rc == -EPIPE && who->family) { /* the peer has shut down since */
		gn_stand_end(s);
		rc = gn_stand_own(l->fd, who, s) < 0 ? -EPERM : gn_stand_send(s, iov, count);
	}
	if (rc == -EAGAIN && who->family)
		return 0; /* the queue is full, and UDP throws it away */
	return rc < 0 ? (int)rc : 0;
}

/* The records of a pair. 0: all, or the peer is asked. What comes meanwhile is the writer's to send: gn_pair_settle(). */
static int pair_move(struct leave *l, struct gn_pair *p)
{
	int64_t left = gn_ring_readable(&p->sh->rx, &p->rx);
	struct iovec iov[2];
	uint32_t len;
	int rc = 0;

	while (left > 0 && gn_pair_record(&p->sh->rx, &p->rx, (uint32_t)left, iov, &len)) {
		rc = send_as(l, &p->peer, iov, 2);
		if (rc < 0)
			break;
		gn_ring_consume(&p->sh->rx, &p->rx, (uint32_t)gn_record_room(len));
		left -= (int64_t)gn_record_room(len);
	}
	if (rc == -EAGAIN)
		return rc;
	if (rc < 0)
		l->asked |= 1u << (p - l->so->dgram->pair);
	return 0;
}

static int pairs_move(struct leave *l, uint32_t which)
{
	struct gn_pair *p;
	int rc = 0;

	GN_FOR_PAIRS(l->so->dgram, p, which)
		if (rc == 0 && gn_pair_rx_lane(p) != GN_LANE_KERNEL)
			rc = pair_move(l, p);
	return rc;
}

static int backlog_move(struct leave *l)
{
	struct gn_backlog *b = &l->backlog;
	struct gn_queued *q;
	struct iovec iov;

	for (; b->from < b->to; b->from += gn_queued_room(q->len)) {
		q = gn_queued_at(b, b->from);
		iov = (struct iovec){q->bytes, q->len};
		if (send_as(l, &q->from, &iov, 1) == -EAGAIN)
			return -EAGAIN;
	}
	return 0;
}

/* All that is left to move. -EAGAIN: no room for the rest. The rx lock is held. */
static int move(struct leave *l)
{
	int rc = pairs_move(l, l->early);

	if (rc == 0)
		rc = backlog_move(l);
	if (rc == 0)
		rc = pairs_move(l, l->mine & ~l->early);
	return rc;
}

static uint32_t with_records(const struct leave *l)
{
	const struct gn_pair *p;
	uint32_t some = 0;

	GN_FOR_PAIRS(l->so->dgram, p, l->mine)
		if (gn_pair_rx_lane(p) != GN_LANE_KERNEL && gn_pair_has(p))
			some |= 1u << (p - l->so->dgram->pair);
	return some;
}

/* What the kernel's queue holds, if it cannot stay where it is. */
static void backlog_settle(struct leave *l, uint32_t records)
{
	struct gn_dgram *d = l->so->dgram;
	struct gn_backlog_look look;
	struct gn_pair *p;

	GN_FOR_PAIRS(d, p, records)
		if (atomic_load(&p->sh->rx_open) && (gn_pair_rx_lane(p) == GN_LANE_BACK || l->so->ep->domain == AF_UNIX))
			l->early |= 1u << (p - d->pair);
	gn_backlog_look(l->so, l->fd, &look, has_stand, l); /* a bell that is seen opens the ring that it marks */
	if ((!look.foreign || l->fresh >= 0) && (look.bells || l->early || l->fresh >= 0))
		gn_backlog_take(l->so, l->fd, &look, &l->backlog);
}

static void finish(struct leave *l)
{
	struct gn_pair *p;

	GN_FOR_PAIRS(l->so->dgram, p, l->mine) {
		atomic_store(&p->rx.dir->consent, GN_CONSENT_LEFT);
		gn_pair_rx_done(l->so, p);
	}
	for (uint32_t i = 0; i < l->sources; i++)
		gn_stand_end(&l->source[i].stand);
	gn_backlog_drop(&l->backlog);
}

/* Peers that are to send again themselves: those that sleep in a call of ours are woken, and waited for. */
static void peers_ask(struct gn_sock *so, int fd, uint32_t asked)
{
	struct timespec step = gn_timespec(STEP_NS);
	uint64_t until = gn_now_ns() + ASKED_NS;
	uint32_t left = asked;
	struct gn_pair *p;

	gn_tx_lock(so, fd);
	GN_FOR_PAIRS(so->dgram, p, asked)
		if (atomic_load(&p->tx.dir->consent) != GN_CONSENT_NONE)
			gn_error_keep(so, gn_pair_bell(so, fd, p));
	gn_unlock(&so->ep->tx.lock);
	while (left && gn_now_ns() < until) {
		GN_FOR_PAIRS(so->dgram, p, asked)
			if (gn_pair_rx_lane(p) == GN_LANE_BACK)
				left &= ~(1u << (p - so->dgram->pair));
		gn_sys_nanosleep(&step, NULL);
	}
}

/* --- what does not fit --- */

static bool is_kept(const struct leave *l, int fd)
{
	const struct gn_pair *p;

	for (uint32_t i = 0; i < l->sources; i++)
		if (l->source[i].stand.fd == fd)
			return true;
	GN_FOR_PAIRS(l->so->dgram, p, l->mine)
		if (p->meeting.fd == fd)
			return true;
	return false;
}

/* All descriptors but those that we send by, and the lifelines: their end would tell the writers to send again themselves. */
static void others_close(const struct leave *l)
{
	int from = 0;

	for (int fd = 0; fd < (int)gn_world.table_size; fd++)
		if (is_kept(l, fd)) {
			if (fd > from)
				gn_sys_close_range((unsigned int)from, (unsigned int)fd - 1, 0);
			from = fd + 1;
		}
	gn_sys_close_range((unsigned int)from, ~0u, 0);
}

/* Whatever there is room for, until all is in the kernel's queue, or nobody is there to read it. */
static _Noreturn void pump_main(struct leave *l)
{
	struct pollfd p = {-1, POLLOUT, 0};
	sigset_t all;
	int rc;

	sigfillset(&all);
	gn_sys_sigprocmask(SIG_BLOCK, &all, NULL);
	gn_raw3(SYS_setsid, 0, 0, 0);
	others_close(l);
	gn_lock_forked();
	p.fd = l->source[0].stand.fd; /* of AF_UNIX there is one peer */
	do {
		gn_sys_poll(&p, 1, PUMP_MS);
		gn_lock(&l->so->ep->rx.lock);
		rc = move(l);
		if (rc == 0)
			finish(l);
		gn_unlock(&l->so->ep->rx.lock);
	} while (rc < 0);
	gn_sys_exit_group(0);
}

/* A process of our own, nobody's child, does the rest. */
static void pump_start(struct leave *l)
{
	pid_t pid = gn_helper_fork();

	if (pid == 0) {
		if (gn_helper_fork() == 0)
			pump_main(l);
		gn_sys_exit_group(0);
	}
	if (pid > 0)
		gn_helper_wait(pid);
	for (uint32_t i = 0; i < l->sources; i++)
		gn_stand_end(&l->source[i].stand);
	gn_backlog_drop(&l->backlog);
}

/* --- */

/* Another socket under all descriptors that lead here. */
static void put_instead(struct gn_sock *so, int fd, int fresh)
{
	static const int options[] = {SO_RCVTIMEO, SO_SNDTIMEO};
	bool lent = gn_is_vfork_child();
	unsigned char value[16];

	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		socklen_t len = sizeof value;

		if (gn_sys_getsockopt(fd, SOL_SOCKET, options[i], value, &len) == 0)
			gn_sys_setsockopt(fresh, SOL_SOCKET, options[i], value, len);
	}
	if (gn_flag(so->ep, GN_EP_NONBLOCK))
		gn_sys_fcntl(fresh, F_SETFL, O_RDWR | O_NONBLOCK);
	if (!lent)
		gn_watches_leave(so);
	gn_put_under(so, fd, fresh);
	if (lent)
		return;
	gn_watches_to_kernel(so);
	for (uint32_t f = 0; f < gn_world.used_fds; f++)
		if (atomic_load(gn_slot(f)) == so)
			gn_table_clear((int)f);
}

void gn_dgram_leave(struct gn_sock *so, int fd)
{
	struct leave l = {.so = so, .fd = fd, .fresh = -1};
	struct gn_pair *p;
	int queue, rc = 0;

	atomic_fetch_or(&so->ep->flags, GN_EP_PINNED);
	l.mine = pairs_close(so, fd);
	gn_rx_lock(so, fd);
	GN_FOR_PAIRS(so->dgram, p, l.mine)
		bells_end(p);
	queue = gn_dgram_purge_all(so, fd);
	gn_error_keep(so, queue);
	if (with_records(&l) && so->ep->domain == AF_UNIX)
		stand_of(&l, &(struct gn_addr){0}); /* perhaps by another socket, and then all moves */
	if (queue == 1)
		backlog_settle(&l, with_records(&l));
	rc = move(&l);
	if (rc == 0)
		finish(&l);
	gn_unlock(&so->ep->rx.lock);
	if (rc < 0)
		pump_start(&l);
	if (l.asked)
		peers_ask(so, fd, l.asked);
	if (l.fresh >= 0)
		put_instead(so, fd, l.fresh);
}
