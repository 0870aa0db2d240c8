/* SPDX-License-Identifier: MIT */
/*
 * The meeting, with a visitor or a host of the right user that says anything, in any order, and brings any descriptors. [RING-2] [RING-3]
 *
 * The input is a list of steps of two bytes: what to do, and with what. Whatever comes: no call waits, a segment that was met lies inside its
 * file, and no descriptor is left.
 */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "lane/segment.h"

#define HELLO "gnezdo/1"
#define RING 4096u
#define FDS 4
#define STEPS 64
#define HIGH 900 /* below where descriptors are raised to */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void must(int holds)
{
	if (!holds)
		abort();
}

struct rig {
	struct gn_name at;
	struct gn_meeting ours;
	struct gn_segment met;
	int foe, host; /* its connection, its offer; -1: none */
};

static struct gn_name place(void)
{
	struct gn_name at = {.sun.sun_family = AF_UNIX};
	int n = snprintf(at.sun.sun_path + 1, sizeof at.sun.sun_path - 1, "gnezdo-fuzz/%d", getpid());

	at.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
	return at;
}

static void is_inside(const struct gn_segment *s, const struct gn_ring_map *m)
{
	const uint8_t *begin = (const uint8_t *)s->map;

	must(m->size > 0 && (m->size & (m->size - 1)) == 0);
	must(m->bytes >= begin + GN_SEG_HEAD && m->bytes - begin + (size_t)m->size <= s->bytes);
	m->bytes[0] = m->bytes[m->size - 1] = 1; /* a SIGBUS if the file is shorter than it was said to be */
}

static void step(struct rig *r)
{
	struct gn_expect who = {getuid(), getpid(), -1};
	struct gn_ring_map tx, rx;
	int rc;

	if (r->met.map)
		return;
	rc = gn_meeting_step(&r->ours, &r->at, &who, RING, false, &r->met);
	must(rc <= 1 && (rc == 1) == (r->met.map != NULL));
	if (rc < 0)
		gn_meeting_end(&r->ours); /* as who asks does: promote.c */
	if (rc < 1)
		return;
	gn_segment_views(&r->met, &tx, &rx);
	is_inside(&r->met, &tx);
	is_inside(&r->met, &rx);
}

static void foe_leaves(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void foe_calls(struct rig *r)
{
	foe_leaves(&r->foe);
	r->foe = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0);
	must(r->foe >= 0);
	if (connect(r->foe, (const struct sockaddr *)&r->at.sun, r->at.len) < 0)
		foe_leaves(&r->foe);
}

static void foe_offers(struct rig *r, uint8_t how)
{
	foe_leaves(&r->host);
	r->host = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0);
	must(r->host >= 0);
	if (bind(r->host, (const struct sockaddr *)&r->at.sun, r->at.len) < 0 || (how % 4 && listen(r->host, how % 3) < 0))
		foe_leaves(&r->host);
}

static void foe_accepts(struct rig *r)
{
	char waste[64];
	int fd = r->host < 0 ? -1 : accept(r->host, NULL, NULL);

	if (fd < 0)
		return;
	foe_leaves(&r->foe);
	r->foe = fd;
	(void)!recv(fd, waste, sizeof waste, MSG_DONTWAIT); /* descriptors that are not asked for are closed */
}

/* A thing to send: a segment, one that is none, or something else. */
static int thing(uint8_t kind, const uint8_t *data, size_t len)
{
	struct gn_segment s;
	int fd;

	switch (kind % 4) {
	case 0:
		must(gn_segment_new(&s, &fd, RING, kind & 4) == 0);
		if (kind & 8)
			memcpy(s.map, data, len < GN_SEG_HEAD ? len : GN_SEG_HEAD);
		gn_segment_unmap(&s);
		return fd;
	case 1:
		fd = memfd_create("meeting_fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		must(fd >= 0 && ftruncate(fd, (off_t)(kind >> 2) << 8) == 0);
		fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | (kind & 4 ? F_SEAL_SEAL : 0));
		return fd;
	case 2: return open("/dev/zero", O_RDWR | O_CLOEXEC);
	default: return socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	}
}

static void foe_says(struct rig *r, uint8_t how, const uint8_t *data, size_t len)
{
	union {
		char bytes[CMSG_SPACE(FDS * sizeof(int))];
		struct cmsghdr align;
	} control = {{0}};
	uint8_t text[16];
	size_t size = how & 1 ? sizeof HELLO : (len < sizeof text ? len : sizeof text), count = how >> 6;
	struct iovec iov = {text, size};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	int fd[FDS];

	if (r->foe < 0)
		return;
	memcpy(text, how & 1 ? (const uint8_t *)HELLO : data, size);
	for (size_t i = 0; i < count; i++)
		must((fd[i] = thing((uint8_t)((how >> 1) + i * 5), data, len)) >= 0);
	if (count) {
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(count * sizeof(int));
		control.align = (struct cmsghdr){CMSG_LEN(count * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
		memcpy(CMSG_DATA(&control.align), fd, count * sizeof(int));
	}
	(void)!sendmsg(r->foe, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	for (size_t i = 0; i < count; i++)
		close(fd[i]);
}

static void act(struct rig *r, const uint8_t *data, size_t len)
{
	switch (data[0] % 8) {
	case 0: step(r); break;
	case 1: foe_calls(r); break;
	case 2: foe_says(r, data[1], data + 2, len - 2); break;
	case 3: foe_leaves(&r->foe); break;
	case 4: foe_offers(r, data[1]); break;
	case 5: foe_accepts(r); break;
	case 6: foe_leaves(&r->host); break;
	case 7: r->ours.stay = data[1] & 1; break;
	}
}

/* The lowest numbers that are free, among the program's and above: what was left open would take one. */
static void lowest(int low[2])
{
	low[0] = fcntl(0, F_DUPFD_CLOEXEC, 0);
	low[1] = fcntl(0, F_DUPFD_CLOEXEC, HIGH);
	must(low[0] >= 0 && low[1] >= 0);
	close(low[0]);
	close(low[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct rig r = {.at = place(), .ours.fd = -1, .foe = -1, .host = -1};
	int before[2], after[2];

	lowest(before);
	for (int i = 0; i < STEPS && len >= 2; i++, data += 2, len -= 2)
		act(&r, data, len);
	foe_leaves(&r.foe);
	foe_leaves(&r.host);
	step(&r);
	gn_meeting_end(&r.ours);
	gn_segment_unmap(&r.met);
	lowest(after);
	must(before[0] == after[0] && before[1] == after[1]);
	return 0;
}
