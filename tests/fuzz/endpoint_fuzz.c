/* SPDX-License-Identifier: MIT */
/*
 * An endpoint on the ring, stream or packets, whose peer writes what it likes into the segment and into the kernel socket. [RING-1] [RING-2]
 *
 * The input: which kind, then a list of steps of 6 bytes: what to do, how much, a word. No call may wait, give more than was asked for, or
 * touch what lies outside the segment and the buffers.
 */
#include <dlfcn.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sock/io.h"

#define RING 4096u
#define STEPS 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void must(int holds)
{
	if (!holds)
		abort();
}

struct rig {
	int fd, peer;
	struct gn_sock *so;
	struct gn_dir *mine, *theirs; /* where we produce, where the peer does */
};

static void look_up(void *slot, const char *name)
{
	void *found = dlsym(RTLD_DEFAULT, name);

	memcpy(slot, &found, sizeof found);
}

static void begin_world(void)
{
	if (atomic_load(&gn_world.ready))
		return;
#define GN_CALL(result, name, params) look_up(&gn_real.name, #name);
#include "base/calls.def"
#undef GN_CALL
	gn_world_init();
}

/* As after a meeting and the consent of both. */
static void hot(struct rig *r, int type)
{
	int fd[2], memfd;
	struct gn_sock *so;

	must(socketpair(AF_UNIX, type, 0, fd) == 0);
	r->fd = fd[0];
	r->peer = fd[1];
	gn_opened(fd[0], AF_UNIX, type, 0);
	r->so = so = gn_get(fd[0]);
	must(so != NULL);
	atomic_store(&so->ep->state, GN_ESTAB);
	must(gn_segment_new(&so->segment, &memfd, RING, type != SOCK_STREAM) == 0);
	close(memfd);
	gn_segment_views(&so->segment, &so->tx, &so->rx);
	memcpy(so->nonce, so->segment.map->nonce, sizeof so->nonce);
	r->mine = so->tx.dir;
	r->theirs = so->rx.dir;
	for (int i = 0; i < 2; i++) {
		atomic_store(&so->segment.map->dir[i].consent, GN_CONSENT_GIVEN);
		atomic_store(&so->segment.map->dir[i].lane, GN_LANE_RING);
	}
	atomic_store(&so->ep->rx.lane, GN_LANE_RING);
	atomic_store(&so->ep->tx.lane, GN_LANE_RING);
	atomic_store(&so->meets, GN_SEG_MAPPED);
	so->settled = true;
}

static void receive(struct rig *r, size_t room, uint32_t word)
{
	static const int flags[] = {0, MSG_PEEK, MSG_TRUNC, MSG_PEEK | MSG_TRUNC, MSG_WAITALL, MSG_OOB};
	char *buf = malloc(room ? room : 1); /* its own allocation: a byte too many is one past its end */
	char control[64];
	struct iovec iov[2] = {{buf, room / 2}, {buf + room / 2, room - room / 2}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2, .msg_control = control, .msg_controllen = sizeof control};
	int how = flags[word % ARRAY_SIZE(flags)];
	ssize_t n = gn_recvmsg(r->so, r->fd, &msg, how | MSG_DONTWAIT);

	must(n <= (ssize_t)room || (how & MSG_TRUNC));
	free(buf);
}

static void send_some(struct rig *r, size_t size)
{
	char *buf = calloc(1, size ? size : 1);
	ssize_t n = gn_send_buf(r->so, r->fd, buf, size, MSG_DONTWAIT | MSG_NOSIGNAL);

	must(n <= (ssize_t)size);
	free(buf);
}

static void ask(struct rig *r, uint32_t word)
{
	struct pollfd p = {r->fd, POLLIN | POLLOUT | POLLRDHUP, 0};
	int n = 0;
	socklen_t len = sizeof n;

	switch (word % 4) {
	case 0: gn_ioctl(r->so, r->fd, FIONREAD, &n); break;
	case 1: gn_ppoll(&p, 1, &(struct timespec){0, 0}, NULL); break;
	case 2: gn_getsockopt(r->so, r->fd, SOL_SOCKET, SO_ERROR, &n, &len); break;
	case 3: gn_ioctl(r->so, r->fd, TIOCOUTQ, &n); break;
	}
}

/* Into the kernel socket: bells, pieces of them, other bytes. */
static void peer_rings(struct rig *r, uint8_t size, uint32_t word)
{
	uint8_t bytes[64];

	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = word & 1 ? r->so->nonce[i % GN_NONCE_BYTES] : (uint8_t)(word >> 8);
	(void)!send(r->peer, bytes, size % sizeof bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void peer_writes(struct rig *r, uint8_t which, uint32_t word)
{
	_Atomic uint32_t *words[] = {&r->theirs->head, &r->mine->tail, &r->theirs->lane, &r->mine->consent, &r->theirs->fin, &r->mine->deaf,
				     &r->mine->c_parked, &r->theirs->p_parked, &r->mine->lane, &r->theirs->consent, &r->mine->head, &r->theirs->tail,
				     &r->theirs->p_cpu, &r->mine->c_cpu, &r->mine->c_pid};
	uint32_t at = (uint32_t)(r->so->ep->rx.ring.own + which / 18 * 4u) % RING & ~3u;

	switch (which % 18) {
	case 15: atomic_store(&r->theirs->switch_pos, word & 1 ? word : (uint64_t)word << 32 | word); break;
	case 16: memcpy(r->so->rx.bytes + at, &word, sizeof word); break; /* the length of a record, it may be */
	case 17: atomic_store(&r->theirs->head, r->so->ep->rx.ring.own + word % (RING + 2)); break;
	default: atomic_store(words[which % 18], which & 0x80 ? word : word % 4);
	}
}

static void step(struct rig *r, uint8_t what, uint8_t size, uint32_t word)
{
	switch (what % 8) {
	case 0: receive(r, size, word); break;
	case 1: send_some(r, word & 1 ? size : word % (2 * RING)); break;
	case 2: ask(r, word); break;
	case 3: peer_rings(r, size, word); break;
	case 4:
		if (size >= 250)
			gn_shutdown(r->so, r->fd, (int)(word % 3));
		else if (size >= 240)
			shutdown(r->peer, SHUT_WR);
		break;
	default: peer_writes(r, size, word);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct rig r;
	uint32_t word;

	if (len < 1)
		return 0;
	begin_world();
	hot(&r, data[0] & 1 ? SOCK_STREAM : SOCK_SEQPACKET);
	data++;
	len--;
	for (int i = 0; i < STEPS && len >= 6; i++, data += 6, len -= 6) {
		memcpy(&word, data + 2, sizeof word);
		step(&r, data[0], data[1], word);
	}
	gn_put(r.so);
	gn_close(r.fd);
	close(r.peer);
	return 0;
}
