/* SPDX-License-Identifier: MIT */
/* ring: yes */
/* io_uring beside the socket calls: rings set up by number, requests on connections that were there before and on later ones. */
#include "obs_uring.h"

#include <sys/epoll.h>
#include <sys/syscall.h>

#ifdef URING_INLINED /* as liburing's own, when it is linked into the program */
static long inlined(long nr, long a, long b, long c, long d)
{
	long rc;
#if defined(__x86_64__)
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = 0;
	register long r9 __asm__("r9") = 0;

	if (nr == SYS_io_uring_setup)
		__asm__ volatile("movl $425, %%eax; syscall" : "=a"(rc) : "D"(a), "S"(b) : "rcx", "r11", "memory");
	else
		__asm__ volatile("syscall" : "=a"(rc) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
#elif defined(__aarch64__)
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = 0;
	register long x5 __asm__("x5") = 0;
	register long x8 __asm__("x8") = nr;

	if (nr == SYS_io_uring_setup)
		__asm__ volatile("mov w8, #425; svc #0" : "+r"(x0) : "r"(x1) : "x8", "memory");
	else
		__asm__ volatile("svc #0" : "+r"(x0) : "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5), "r"(x8) : "memory");
	rc = x0;
#endif
	errno = rc < 0 ? (int)-rc : 0;
	return rc < 0 ? -1 : rc;
}
#define CALL inlined
#else
#define CALL NULL
#endif

static void there_and_back(struct obs *o, struct uring *u)
{
	char buf[100];

	for (int i = 0; i < 30; i++) {
		obs("uring send", uring_request(u, IORING_OP_SEND, o->fd, (void *)"by uring", 8, 0));
		obs("peer recv", peer(o, op_recv, 100, 0));
		peer_text(o, op_puts, 0, "to uring");
		obs_bytes("uring recv", buf, uring_request(u, IORING_OP_RECV, o->fd, buf, sizeof(buf), 0));
		obs_send(o->fd, "ordinary", 0);
		obs("peer recv", peer(o, op_recv, 100, 0));
		peer_text(o, op_puts, 0, "ordinary");
		obs_recv(o->fd, 100, 0);
	}
}

static void while_hot(struct obs *o)
{
	struct uring u;

	if (!uring_open(&u, CALL))
		return;
	there_and_back(o, &u);
	if (o->kind & TCP)
		obs_names("both", o->fd);
	peer(o, op_close, 0, 0);
	if (o->type != SOCK_DGRAM)
		obs("uring recv at the end", uring_request(&u, IORING_OP_RECV, o->fd, (char[4]){ 0 }, 4, 0));
}

static void with_data_waiting(struct obs *o)
{
	char buf[100];
	struct uring u;

	peer_text(o, op_puts, 0, "0123456789");
	settle(o->fd);
	obs_recv(o->fd, 3, 0);
	if (!uring_open(&u, CALL))
		return;
	obs_bytes("uring recv", buf, uring_request(&u, IORING_OP_RECV, o->fd, buf, 4, 0));
	obs_recv(o->fd, 100, 0);
	there_and_back(o, &u);
}

static long op_fresh(struct obs *o, long kind, long b)
{
	(void)b;
	if (o->fd >= 0)
		close(o->fd);
	o->fd = sock_of((uint32_t)kind, 0);
	return 0;
}

/* A server that begins to listen afterwards, and one that listened before. */
static void accepts(struct obs *o)
{
	struct obs_name before, after;
	uint32_t kind = o->kind;
	int l = listener(kind, 5, &before), m, c, s;
	struct uring u;
	char buf[10];

	if (!uring_open(&u, CALL))
		return;
	m = listener(kind, 5, &after);
	for (int i = 0; i < 2; i++) {
		struct obs_name *at = i ? &after : &before;
		char hex[400];

		name_hex(hex, at);
		peer(o, op_fresh, (long)kind, 0);
		obs("peer connects", peer_text(o, op_connect_to, 0, hex));
		s = (int)uring_request(&u, IORING_OP_ACCEPT, i ? m : l, NULL, 0, 0);
		obs("uring accept", s >= 0);
		peer_text(o, op_puts, 0, "hello");
		obs_bytes("uring recv", buf, uring_request(&u, IORING_OP_RECV, s, buf, sizeof(buf), 0));
		c = o->fd;
		o->fd = s;
		warm(o);
		there_and_back(o, &u);
		o->fd = c;
	}
}

/* Registered in a set of epoll's before. */
static void in_a_set(struct obs *o)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int ep = epoll_create1(0);
	struct uring u;

	if (epoll_ctl(ep, EPOLL_CTL_ADD, o->fd, &ev))
		die("epoll");
	peer_text(o, op_puts, 0, "x");
	obs("epoll_wait", epoll_wait(ep, &ev, 1, 3000));
	obs_recv(o->fd, 10, 0);
	if (!uring_open(&u, CALL))
		return;
	obs("epoll_wait", epoll_wait(ep, &ev, 1, 0));
	there_and_back(o, &u);
	peer_text(o, op_puts, 0, "y");
	obs("epoll_wait", epoll_wait(ep, &ev, 1, 3000));
	obs_recv(o->fd, 10, 0);
}

static const struct obs_case cases[] = {
	{ "a hot connection", while_hot, STREAM | SEQP | UDP4 | DGPAIR, 0 },
	{ "data waiting", with_data_waiting, STREAM, 0 },
	{ "in a set", in_a_set, STREAM | UDP4, 0 },
	{ "accept", accepts, TCP4 | TCP6 | UNIXP, NO_RING | COLD_ONLY },
	{ 0 },
};

#ifndef URING_INLINED
int main(int argc, char **argv)
{
	return obs_main(argc, argv, cases);
}
#endif
