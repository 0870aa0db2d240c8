/* SPDX-License-Identifier: MIT */
/*
 * The kernel's own tables: AF_UNIX by sock_diag(7), the only source that names peers; TCP and UDP from proc_net_tcp(5).
 *
 * Both are of this process's network namespace.
 */
#include "cli/ss.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define NETLINK_ROOM 32768

static struct kernel_socket *table_add(struct kernel_table *t)
{
	if (ss_grow((void **)&t->list, &t->room, t->count, sizeof(*t->list)))
		return NULL;
	memset(&t->list[t->count], 0, sizeof(*t->list));
	return &t->list[t->count++];
}

/* An abstract name starts with a zero byte, shown as @ as ss(8) does; what a terminal might obey becomes '?'. */
static void name_copy(struct kernel_socket *to, const char *from, size_t len)
{
	if (len > sizeof(to->name) - 1)
		len = sizeof(to->name) - 1;
	for (size_t i = 0; i < len; i++)
		to->name[i] = !from[i] ? '@' : iscntrl((unsigned char)from[i]) ? '?' : from[i];
	while (len && from[0] && !from[len - 1]) /* a path's terminating zero */
		len--;
	to->name[len] = '\0';
}

static int unix_take(struct kernel_table *t, struct nlmsghdr *head)
{
	struct unix_diag_msg *m = NLMSG_DATA(head);
	struct kernel_socket *s = table_add(t);
	int left = (int)NLMSG_PAYLOAD(head, sizeof(*m));

	if (!s)
		return -ENOMEM;
	s->inode = m->udiag_ino;
	for (struct rtattr *a = (struct rtattr *)(m + 1); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		if (a->rta_type == UNIX_DIAG_NAME)
			name_copy(s, RTA_DATA(a), RTA_PAYLOAD(a));
		if (a->rta_type == UNIX_DIAG_PEER && RTA_PAYLOAD(a) >= sizeof(uint32_t))
			s->peer = *(uint32_t *)RTA_DATA(a);
		if (a->rta_type == UNIX_DIAG_RQLEN && RTA_PAYLOAD(a) >= sizeof(struct unix_diag_rqlen)) {
			const struct unix_diag_rqlen *queues = RTA_DATA(a);

			s->recv_q = queues->udiag_rqueue;
			s->send_q = queues->udiag_wqueue;
		}
	}
	return 0;
}

static int unix_ask(int fd)
{
	struct {
		struct nlmsghdr head;
		struct unix_diag_req req;
	} q = {
		.head = { .nlmsg_len = sizeof(q), .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
		.req = { .sdiag_family = AF_UNIX, .udiag_states = ~0u,
			 .udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_PEER | UDIAG_SHOW_RQLEN },
	};

	return send(fd, &q, sizeof(q), 0) == (ssize_t)sizeof(q) ? 0 : -errno;
}

/* One message of the answer: 1 when it was the last. */
static int unix_hear(struct kernel_table *t, int fd, struct nlmsghdr *room)
{
	ssize_t n = recv(fd, room, NETLINK_ROOM, 0);
	uint32_t left = n > 0 ? (uint32_t)n : 0; /* unsigned: NLMSG_OK() compares it with a length */
	int rc = 0;

	if (n <= 0)
		return n < 0 ? -errno : 1;
	for (struct nlmsghdr *head = room; NLMSG_OK(head, left) && !rc; head = NLMSG_NEXT(head, left)) {
		if (head->nlmsg_type == NLMSG_DONE || head->nlmsg_type == NLMSG_ERROR)
			rc = 1;
		else if (head->nlmsg_type == SOCK_DIAG_BY_FAMILY && head->nlmsg_len >= NLMSG_LENGTH(sizeof(struct unix_diag_msg)))
			rc = unix_take(t, head);
	}
	return rc;
}

static int unix_read(struct kernel_table *t)
{
	struct timeval patience = { .tv_sec = 5 };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG), rc;
	struct nlmsghdr *room = malloc(NETLINK_ROOM);

	rc = fd < 0 ? -errno : !room ? -ENOMEM : 0;
	if (!rc)
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (!rc)
		rc = unix_ask(fd);
	while (!rc)
		rc = unix_hear(t, fd, room);
	free(room);
	if (fd >= 0)
		close(fd);
	return rc < 0 ? rc : 0;
}

/* A line: "sl local rem st tx_queue:rx_queue tr:when retrnsmt uid timeout inode ..." */
static int inet_read(struct kernel_table *t, const char *path)
{
	FILE *f = fopen(path, "re");
	char line[512];
	int rc = 0;

	while (f && !rc && fgets(line, sizeof(line), f)) {
		uint32_t send_q, recv_q;
		uint64_t inode;
		struct kernel_socket *s;

		if (sscanf(line, " %*[0-9]: %*s %*s %*s %" SCNx32 ":%" SCNx32 " %*s %*s %*s %*s %" SCNu64, &send_q, &recv_q, &inode) != 3)
			continue;
		s = table_add(t);
		rc = s ? 0 : -ENOMEM;
		if (s)
			*s = (struct kernel_socket){ .inode = inode, .recv_q = recv_q, .send_q = send_q };
	}
	if (f)
		fclose(f);
	return rc;
}

static int by_inode(const void *a, const void *b)
{
	const struct kernel_socket *x = a, *y = b;

	return (x->inode > y->inode) - (x->inode < y->inode);
}

int kernel_table_read(struct kernel_table *to)
{
	static const char *const tables[] = { "/proc/net/tcp", "/proc/net/tcp6", "/proc/net/udp", "/proc/net/udp6" };
	int rc = unix_read(to);

	if (rc != -ENOMEM) /* without sock_diag names and peers are missing, no more */
		rc = 0;
	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]) && !rc; i++)
		rc = inet_read(to, tables[i]);
	if (to->count)
		qsort(to->list, to->count, sizeof(*to->list), by_inode);
	return rc;
}

void kernel_table_fini(struct kernel_table *t)
{
	free(t->list);
}

const struct kernel_socket *kernel_table_find(const struct kernel_table *t, uint64_t inode)
{
	struct kernel_socket key = { .inode = inode };

	return inode && t->count ? bsearch(&key, t->list, t->count, sizeof(key), by_inode) : NULL;
}
