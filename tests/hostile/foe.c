/* SPDX-License-Identifier: MIT */
/*
 * A peer that does what no honest one does.
 *
 *     foe udp-ATTACK PORT      likewise as the peer of a datagram socket
 *     foe ATTACK PORT [PID]    calls the gnezdo listener on 127.0.0.1:PORT by its private face and attacks its own connection
 *
 * The victim echoes. The foe warms the connection, brings a segment of its own to the meeting, lies, and says "done" when it has; then it
 * holds everything open until its standard input ends. Exit status: 0; 2: it could not come to lie (the test is void); 3: what must hold of
 * the victim's answers did not.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "lane/segment.h"
#include "name/name.h"

#define HELLO "gnezdo/1"
#define RING 262144u
#define PATIENCE_MS 5000
#define TOKEN 600 /* the sleeps of honest.py are numbered */

struct foe {
	int fd;
	struct gn_addr from, dest;
	struct gn_segment seg;
	struct gn_ring_map tx, rx;
	int memfd;
	uint64_t sent; /* by the kernel lane */
	char kind;     /* of the meeting: 's', 'd' */
};

static void leave(int status, const char *why)
{
	fprintf(stderr, "foe: %s: %s\n", why, strerror(errno));
	exit(status);
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ll + ts.tv_nsec / 1000000;
}

static void nap(long us)
{
	nanosleep(&(struct timespec){0, us * 1000}, NULL);
}

static void call(struct foe *f, int port)
{
	struct gn_name names[3], own;
	int count, rc = -1;

	f->dest = (struct gn_addr){.family = AF_INET, .port = (uint16_t)port, .ip = {127, 0, 0, 1}};
	f->from = (struct gn_addr){.family = AF_INET, .port = (uint16_t)(33000 + getpid() % 20000), .ip = {127, 0, 0, 1}};
	f->fd = socket(AF_UNIX, SOCK_STREAM, 0);
	gn_name_caller(&own, &f->from, &f->dest);
	if (bind(f->fd, (struct sockaddr *)&own.sun, own.len) < 0)
		leave(2, "bind");
	count = gn_name_candidates(names, &f->dest);
	for (int i = 0; i < count && rc < 0; i++)
		rc = connect(f->fd, (struct sockaddr *)&names[i].sun, names[i].len);
	if (rc < 0)
		leave(2, "no private face");
}

static void call_udp(struct foe *f, int port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, own;
	socklen_t len = sizeof own;

	f->fd = socket(AF_INET, SOCK_DGRAM, 0);
	if (connect(f->fd, (struct sockaddr *)&to, sizeof to) < 0 || getsockname(f->fd, (struct sockaddr *)&own, &len) < 0)
		leave(2, "connect");
	f->dest = (struct gn_addr){.family = AF_INET, .port = (uint16_t)port, .ip = {127, 0, 0, 1}};
	f->from = (struct gn_addr){.family = AF_INET, .port = ntohs(own.sin_port), .ip = {127, 0, 0, 1}};
	f->kind = 'd';
}

static bool readable(int fd, int ms)
{
	struct pollfd p = {fd, POLLIN, 0};

	return poll(&p, 1, ms) > 0;
}

/* There and back by the kernel lane; false: the answer comes otherwise. */
static bool echo(struct foe *f, int ms)
{
	char there[8] = "12345678", back[8];

	if (send(f->fd, there, sizeof there, MSG_NOSIGNAL) != sizeof there)
		return false;
	f->sent += sizeof there;
	return readable(f->fd, ms) && recv(f->fd, back, sizeof back, MSG_WAITALL) == sizeof back && memcmp(there, back, sizeof back) == 0;
}

static void hand_over(int to, const int *fds, size_t count, const char *text, size_t len)
{
	struct iovec iov = {(void *)(uintptr_t)text, len};
	union {
		char bytes[CMSG_SPACE(8 * sizeof(int))];
		struct cmsghdr align;
	} control = {{0}};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *c;

	if (count) {
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(count * sizeof(int));
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(c), fds, count * sizeof(int));
	}
	sendmsg(to, &msg, MSG_NOSIGNAL);
}

/* The victim offers; we come. */
static int visit(struct foe *f)
{
	struct gn_name at;
	int64_t end = now_ms() + PATIENCE_MS;
	int m = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	gn_name_meeting_inet(&at, f->kind, &f->from, &f->dest);
	while (connect(m, (struct sockaddr *)&at.sun, at.len) < 0) {
		if (now_ms() > end)
			leave(2, "no offer");
		if (!echo(f, PATIENCE_MS))
			leave(3, "no echo before the meeting");
	}
	return m;
}

static int blank(size_t bytes, int seals)
{
	int fd = memfd_create("foe", MFD_ALLOW_SEALING);

	if (ftruncate(fd, (off_t)bytes) < 0)
		leave(2, "ftruncate");
	if (seals)
		fcntl(fd, F_ADD_SEALS, seals);
	return fd;
}

#define GOOD_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
#define GOOD_BYTES (GN_SEG_HEAD + 2 * (size_t)RING)

static void headed(int fd, uint64_t magic, uint32_t size)
{
	struct gn_seg head = {.magic = magic, .ring_size = size};

	if (pwrite(fd, &head, sizeof head, 0) < 0)
		return;
}

/* A segment that must not be taken: the connection stays where it is and goes on. */
static void wrong_segment(struct foe *f, const char *how)
{
	int m = visit(f), fds[2], count = 1;
	const char *hello = HELLO;
	size_t len = sizeof HELLO;

	if (!strcmp(how, "unsealed"))
		fds[0] = blank(GOOD_BYTES, 0);
	else if (!strcmp(how, "may-shrink"))
		fds[0] = blank(GOOD_BYTES, F_SEAL_GROW | F_SEAL_SEAL);
	else if (!strcmp(how, "small"))
		fds[0] = blank(4096, GOOD_SEALS);
	else if (!strcmp(how, "empty"))
		fds[0] = blank(0, GOOD_SEALS);
	else if (!strcmp(how, "no-magic"))
		fds[0] = blank(GOOD_BYTES, GOOD_SEALS);
	else if (!strcmp(how, "size-lies"))
		fds[0] = blank(GOOD_BYTES, GOOD_SEALS);
	else if (!strcmp(how, "read-only")) {
		char path[64];
		int whole = blank(GOOD_BYTES, 0);

		headed(whole, GN_SEG_MAGIC, RING);
		fcntl(whole, F_ADD_SEALS, GOOD_SEALS);
		snprintf(path, sizeof path, "/proc/self/fd/%d", whole);
		fds[0] = open(path, O_RDONLY);
	} else if (!strcmp(how, "pipe")) {
		if (pipe(fds) < 0)
			leave(2, "pipe");
	} else if (!strcmp(how, "device"))
		fds[0] = open("/dev/zero", O_RDWR);
	else if (!strcmp(how, "two")) {
		fds[0] = blank(GOOD_BYTES, GOOD_SEALS);
		fds[1] = blank(GOOD_BYTES, GOOD_SEALS);
		count = 2;
	} else {
		count = 0;
		hello = !strcmp(how, "mumble") ? "hello?" : HELLO;
		len = !strcmp(how, "mumble") ? 6 : sizeof HELLO;
	}
	if (!strcmp(how, "unsealed") || !strcmp(how, "may-shrink"))
		headed(fds[0], GN_SEG_MAGIC, RING);
	if (!strcmp(how, "size-lies"))
		headed(fds[0], GN_SEG_MAGIC, RING * 2);
	if (strcmp(how, "nothing") != 0)
		hand_over(m, fds, (size_t)count, hello, len);
	for (int i = 0; i < 100; i++)
		if (!echo(f, PATIENCE_MS))
			leave(3, "the echo has ended");
	puts("done");
}

/* An honest promotion, both ways. */
static void promote(struct foe *f)
{
	int m = visit(f);
	int64_t end = now_ms() + PATIENCE_MS;

	if (gn_segment_new(&f->seg, &f->memfd, RING, false) < 0)
		leave(2, "segment");
	hand_over(m, &f->memfd, 1, HELLO, sizeof HELLO);
	gn_segment_views(&f->seg, &f->tx, &f->rx);
	atomic_store(&f->rx.dir->consent, GN_CONSENT_GIVEN);
	while (atomic_load(&f->rx.dir->lane) != GN_LANE_RING || atomic_load(&f->tx.dir->consent) != GN_CONSENT_GIVEN) {
		if (now_ms() > end)
			leave(2, "no promotion");
		echo(f, 50);
	}
	atomic_store(&f->tx.dir->switch_pos, f->sent);
	atomic_store(&f->tx.dir->lane, GN_LANE_RING);
}

static void bell(struct foe *f)
{
	send(f->fd, f->seg.map->nonce, GN_NONCE_BYTES, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void write_ring(struct foe *f, uint32_t *own, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++)
		f->tx.bytes[(*own + i) & (RING - 1)] = 'r';
	*own += len;
	atomic_store(&f->tx.dir->head, *own);
	bell(f);
}

static void put_record(struct foe *f, uint32_t *own, uint32_t len, uint32_t said)
{
	for (uint32_t i = 0; i < len; i++)
		f->tx.bytes[(*own + 4 + i) & (RING - 1)] = 'r';
	memcpy(f->tx.bytes + (*own & (RING - 1)), &said, sizeof said);
	*own += (uint32_t)gn_record_room(len);
	atomic_store(&f->tx.dir->head, *own);
	bell(f);
}

static uint32_t dice(void)
{
	static uint32_t x = 2463534242u;

	x ^= x << 13;
	x ^= x >> 17;
	return x ^= x << 5;
}

static void for_a_second(struct foe *f, const char *how)
{
	char flood[16384];
	int64_t end = now_ms() + 1500;
	struct gn_dir *mine = f->tx.dir, *theirs = f->rx.dir;

	for (size_t i = 0; i < sizeof flood; i += GN_NONCE_BYTES)
		memcpy(flood + i, f->seg.map->nonce, GN_NONCE_BYTES);
	while (now_ms() < end) {
		if (!strcmp(how, "bell-flood")) {
			for (int i = 0; i < 100; i++)
				send(f->fd, flood, sizeof flood, MSG_DONTWAIT | MSG_NOSIGNAL);
			continue;
		}
		for (int i = 0; i < 2000; i++) {
			atomic_store(&mine->head, dice());
			atomic_store(&theirs->tail, dice());
			atomic_store(&mine->p_parked, dice());
			atomic_store(&theirs->c_parked, dice());
			atomic_store(&theirs->c_pid, dice());
			if (!strcmp(how, "all-words")) {
				atomic_store(&mine->lane, dice() % 5);
				atomic_store(&mine->switch_pos, dice() % 3 ? dice() : 0);
				atomic_store(&mine->fin, dice() % 97 ? 0 : dice() % 5);
				atomic_store(&theirs->deaf, dice() % 97 ? 0 : dice() % 5);
				atomic_store(&theirs->consent, dice() % 5);
				f->seg.map->ring_size = dice();
				f->seg.map->magic = dice();
			}
		}
		bell(f);
		nap(200);
	}
}

/* Says that it sleeps on many rings, as the process `pid` does, with a token that this one will come to: whoever rings for us is not to believe
 * that it has rung for that one. */
static void claim_tokens(struct foe *f, uint32_t pid)
{
	int64_t end = now_ms() + 4000;
	uint32_t own = 100;

	while (now_ms() < end) {
		uint32_t before = atomic_load(&f->rx.dir->head);
		int64_t soon = now_ms() + 100;

		atomic_store(&f->rx.dir->tail, before);
		atomic_store(&f->rx.dir->c_pid, pid);
		atomic_store(&f->rx.dir->c_parked, TOKEN);
		write_ring(f, &own, 1);
		while (atomic_load(&f->rx.dir->head) == before && now_ms() < soon)
			;
	}
}

static void lie(struct foe *f, const char *how, uint32_t pid)
{
	struct gn_dir *mine = f->tx.dir, *theirs = f->rx.dir;
	uint32_t own = 0;
	bool random = !strcmp(how, "bell-flood") || !strcmp(how, "indexes") || !strcmp(how, "all-words");

	write_ring(f, &own, 100);
	if (!strcmp(how, "tokens")) {
		claim_tokens(f, pid);
		random = true;
	} else if (!strcmp(how, "head-beyond"))
		atomic_store(&mine->head, own + RING * 4);
	else if (!strcmp(how, "head-back"))
		atomic_store(&mine->head, own - 50);
	else if (!strcmp(how, "tail-beyond"))
		atomic_store(&theirs->tail, own + 12345678);
	else if (!strcmp(how, "lane"))
		atomic_store(&mine->lane, 7);
	else if (!strcmp(how, "lane-kernel"))
		atomic_store(&mine->lane, GN_LANE_KERNEL);
	else if (!strcmp(how, "switch-far"))
		atomic_store(&mine->switch_pos, 1ull << 60);
	else if (!strcmp(how, "fin"))
		atomic_store(&mine->fin, 99);
	else if (!strcmp(how, "deaf"))
		atomic_store(&theirs->deaf, 99);
	else if (!strcmp(how, "consent"))
		atomic_store(&theirs->consent, 99);
	else if (!strcmp(how, "garbage-byte"))
		send(f->fd, "x", 1, MSG_NOSIGNAL);
	else if (!strcmp(how, "garbage")) {
		char waste[65536];

		for (size_t i = 0; i < sizeof waste; i++)
			waste[i] = (char)dice();
		send(f->fd, waste, sizeof waste, MSG_DONTWAIT | MSG_NOSIGNAL);
	} else if (!strcmp(how, "punch")) {
		if (fallocate(f->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)f->seg.bytes) < 0)
			leave(2, "fallocate");
	} else if (!strcmp(how, "shrink")) {
		if (ftruncate(f->memfd, 4096) == 0)
			leave(3, "a sealed segment shrank");
	} else if (random)
		for_a_second(f, how);
	else
		leave(2, "no such attack");
	if (!random)
		bell(f);
	nap(100000);
	for (int i = 0; !random && i < 20; i++) {
		write_ring(f, &own, 100);
		nap(1000);
	}
	puts("done");
}

/* Of datagrams. The victim's half may be on the ring or not. */
static void lie_udp(struct foe *f, const char *how)
{
	int m = visit(f);
	int64_t end;
	uint32_t own = 0;

	if (gn_segment_new(&f->seg, &f->memfd, RING, true) < 0)
		leave(2, "segment");
	hand_over(m, &f->memfd, 1, HELLO, sizeof HELLO);
	gn_segment_views(&f->seg, &f->tx, &f->rx);
	atomic_store(&f->rx.dir->consent, GN_CONSENT_GIVEN);
	end = now_ms() + PATIENCE_MS;
	while (atomic_load(&f->tx.dir->consent) != GN_CONSENT_GIVEN) {
		if (now_ms() > end)
			leave(2, "no promotion");
		echo(f, 50);
	}
	atomic_store(&f->tx.dir->lane, GN_LANE_RING);
	bell(f);
	put_record(f, &own, 100, 100);
	end = now_ms() + 1500;
	if (!strcmp(how, "length"))
		put_record(f, &own, 100, 0xfffffff0u);
	else if (!strcmp(how, "long"))
		put_record(f, &own, 100, 5000);
	else if (!strcmp(how, "head"))
		atomic_store(&f->tx.dir->head, own + RING * 3);
	else if (!strcmp(how, "lane"))
		atomic_store(&f->tx.dir->lane, 7);
	else if (!strcmp(how, "leave"))
		close(m);
	else if (!strcmp(how, "bells"))
		while (now_ms() < end)
			bell(f);
	else if (!strcmp(how, "words"))
		while (now_ms() < end) {
			for (int i = 0; i < 2000; i++) {
				atomic_store(&f->tx.dir->head, dice());
				atomic_store(&f->rx.dir->tail, dice());
				atomic_store(&f->tx.dir->lane, dice() % 5);
				atomic_store(&f->rx.dir->deaf, dice() % 97 ? 0 : dice() % 5);
				((uint32_t *)(void *)f->tx.bytes)[dice() % (RING / 4)] = dice();
				((uint32_t *)(void *)f->rx.bytes)[dice() % (RING / 4)] = dice();
			}
			bell(f);
			nap(200);
		}
	else
		leave(2, "no such attack");
	bell(f);
	puts("done");
}

int main(int argc, char **argv)
{
	struct foe f = {.memfd = -1, .kind = 's'};
	char waste[64];

	if (argc < 3)
		return 2;
	setvbuf(stdout, NULL, _IONBF, 0);
	if (!strncmp(argv[1], "udp-", 4))
		call_udp(&f, atoi(argv[2]));
	else
		call(&f, atoi(argv[2]));
	if (f.kind == 'd') {
		lie_udp(&f, argv[1] + 4);
	} else if (!strncmp(argv[1], "segment-", 8)) {
		wrong_segment(&f, argv[1] + 8);
	} else {
		promote(&f);
		lie(&f, argv[1], argc > 3 ? (uint32_t)atoi(argv[3]) : 0);
	}
	while (read(0, waste, sizeof waste) > 0)
		;
	return 0;
}
