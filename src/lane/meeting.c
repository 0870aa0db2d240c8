/* SPDX-License-Identifier: MIT */
/* The meeting at which the two ends of a connection share a segment. See segment.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/fd.h"
#include "base/sys.h"
#include "lane/segment.h"

#define HELLO "gnezdo/1"
#define PEERPIDFD 77 /* SO_PEERPIDFD: asm-generic/socket.h, Linux 6.5 */

/* The parent of a process, 0 when it cannot be told. */
static pid_t parent_of(pid_t pid)
{
	char path[32], text[512], *p;
	ssize_t n;
	int fd;

	if (!gn_sys_proc_is_ours())
		return 0;
	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	fd = gn_sys_open(path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return 0;
	n = gn_sys_read(fd, text, sizeof text - 1);
	gn_sys_close(fd);
	if (n <= 0)
		return 0;
	text[n] = 0;
	p = strrchr(text, ')'); /* "pid (comm) state ppid": comm may hold anything */
	return p && strlen(p) > 4 ? (pid_t)strtol(p + 4, NULL, 10) : 0;
}

/* Does the process whose number SO_PEERCRED shows here live still? 1 or 0; -ENOPROTOOPT: not told before Linux 6.5. */
static int peer_lives(int fd)
{
	struct pollfd p = {.events = POLLIN}; /* pidfd_open(2): it has ended */
	socklen_t len = sizeof p.fd;
	int rc = gn_sys_getsockopt(fd, SOL_SOCKET, PEERPIDFD, &p.fd, &len);

	if (rc < 0)
		return rc == -ENOPROTOOPT ? rc : 0;
	rc = gn_sys_poll(&p, 1, 0) == 0;
	gn_sys_close(p.fd);
	return rc;
}

/* Is this socket's other end the very process on the other end of the connection, or (`related`) a child of it? A socket outlives the process
 * that it is known by, whose number then comes to somebody else: so both must live, and as this is asked last, their numbers were theirs. */
static bool is_same_process(int fd, const struct ucred *cred, const struct gn_expect *who, bool related)
{
	bool same = cred->pid == who->pid;
	int lives;

	if (cred->pid <= 0 || who->pid <= 0 || !(same || (related && parent_of(cred->pid) == who->pid)))
		return false;
	lives = peer_lives(fd);
	if (lives == -ENOPROTOOPT)
		return same;
	return lives && peer_lives(who->fd) == 1;
}

/* Is this socket's other end the user on the other end of the connection? A server that gave up root is the same
 * process, its worker its child still. */
static bool is_expected(struct gn_meeting *m, int fd, const struct gn_expect *who)
{
	struct ucred cred;
	socklen_t len = sizeof cred;

	if (gn_sys_getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return false;
	m->pid = cred.pid;
	if (cred.uid == 0 || (cred.uid == who->uid && gn_name_uid_is_somebody(cred.uid)))
		return true;
	if (cred.uid == who->uid) /* users that look alike to us: the very process, then */
		return is_same_process(fd, &cred, who, false);
	return who->uid == 0 && is_same_process(fd, &cred, who, true);
}

static int segment_send(int to, int segment)
{
	struct iovec iov = {(void *)(uintptr_t)HELLO, sizeof HELLO};
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {{0}};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	ssize_t n;

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof segment);
	memcpy(CMSG_DATA(c), &segment, sizeof segment);
	n = gn_sys_sendmsg(to, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	return n < 0 ? (int)n : 0;
}

/* The descriptor sent, or -errno; -EAGAIN: not yet. */
static int segment_recv(int from)
{
	char hello[sizeof HELLO];
	struct iovec iov = {hello, sizeof hello};
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	struct cmsghdr *c;
	ssize_t n = gn_sys_recvmsg(from, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	int fd[2]; /* as many as CMSG_SPACE(sizeof(int)) has room for */
	size_t count;

	if (n < 0)
		return (int)n;
	c = CMSG_FIRSTHDR(&msg);
	if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
		return -EPROTO;
	count = (c->cmsg_len - CMSG_LEN(0)) / sizeof fd[0];
	memcpy(fd, CMSG_DATA(c), count * sizeof fd[0]);
	if (n == (ssize_t)sizeof HELLO && memcmp(hello, HELLO, sizeof HELLO) == 0 && count == 1)
		return fd[0];
	for (size_t i = 0; i < count; i++)
		gn_sys_close(fd[i]);
	return -EPROTO;
}

static void keep(struct gn_meeting *m, int fd, enum gn_meeting_state state)
{
	m->fd = gn_fd_raise(fd);
	m->state = state;
}

/* Second to come: the offer stands. */
static int visit(struct gn_meeting *m, int fd, const struct gn_expect *who, uint32_t ring_size, bool records, struct gn_segment *s)
{
	int memfd, rc;

	if (!is_expected(m, fd, who))
		return -EPERM;
	rc = gn_segment_new(s, &memfd, ring_size, records);
	if (rc < 0)
		return rc;
	rc = segment_send(fd, memfd);
	gn_sys_close(memfd);
	if (rc < 0)
		gn_segment_unmap(s);
	return rc < 0 ? rc : 1;
}

static int arrive(struct gn_meeting *m, const struct gn_name *at, const struct gn_expect *who, uint32_t ring_size, bool records,
		  struct gn_segment *s)
{
	int fd = gn_sys_socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int rc;

	if (fd < 0)
		return fd;
	rc = gn_sys_connect(fd, &at->sun, at->len);
	if (rc == 0) {
		rc = visit(m, fd, who, ring_size, records, s);
		if (rc == 1 && m->stay)
			keep(m, fd, GN_MEET_VISITED);
		else
			gn_sys_close(fd);
		return rc;
	}
	if (rc == -ECONNREFUSED) {
		rc = gn_sys_bind(fd, &at->sun, at->len);
		if (rc == 0)
			rc = gn_sys_listen(fd, 4);
		if (rc == 0) {
			keep(m, fd, GN_MEET_OFFERED);
			return 0;
		}
	}
	gn_sys_close(fd);
	/* Taken or full: somebody else came at the same time. */
	return rc == -EADDRINUSE || rc == -EAGAIN ? 0 : rc;
}

static int receive(struct gn_meeting *m, struct gn_segment *s)
{
	int fd = segment_recv(m->fd);
	int rc;

	if (fd == -EAGAIN)
		return 0;
	rc = fd < 0 ? fd : gn_segment_open(s, fd);
	if (fd >= 0)
		gn_sys_close(fd);
	if (rc < 0 || !m->stay)
		gn_meeting_end(m);
	return rc < 0 ? rc : 1;
}

int gn_meeting_step(struct gn_meeting *m, const struct gn_name *at, const struct gn_expect *who, uint32_t ring_size, bool records,
		    struct gn_segment *s)
{
	int fd;

	if (m->state == GN_MEET_NONE)
		return arrive(m, at, who, ring_size, records, s);
	if (m->state == GN_MEET_OFFERED) {
		fd = gn_sys_accept4(m->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
			return fd == -EAGAIN || fd == -ECONNABORTED ? 0 : fd;
		if (!is_expected(m, fd, who)) {
			gn_sys_close(fd);
			return 0;
		}
		gn_meeting_end(m);
		keep(m, fd, GN_MEET_VISITED);
	}
	return receive(m, s);
}

void gn_meeting_end(struct gn_meeting *m)
{
	if (m->fd >= 0)
		gn_sys_close(m->fd);
	m->fd = -1;
	m->state = GN_MEET_NONE;
}
