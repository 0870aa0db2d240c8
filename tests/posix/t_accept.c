/* SPDX-License-Identifier: MIT */
/* ring: yes */
/* accept and the backlog: flags, callers already gone, a full queue, a listener that closes on its callers. */
#include <sys/epoll.h>

#include "obs.h"

static const uint32_t kinds[] = { TCP4, TCP6, MAPPED, UNIXP, UNIXA, SEQP };
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static int caller(uint32_t kind, const struct obs_name *at, int extra)
{
	int fd = sock_of(kind, extra);

	if (connect(fd, (const struct sockaddr *)&at->sa, at->len) && errno != EINPROGRESS)
		obs("connect", -1);
	return fd;
}

static void flags(struct obs *o)
{
	struct obs_name at;

	(void)o;
	for (size_t k = 0; k < KINDS; k++) {
		int lfd = listener(kinds[k], 5, &at), c, a;

		obs_kind(kinds[k]);
		nonblock(lfd, true);
		obs("accept, nobody", accept(lfd, NULL, NULL));
		for (int i = 0; i < 4; i++) {
			c = caller(kinds[k], &at, 0);
			settle(lfd);
			a = i ? accept4(lfd, NULL, NULL, (i & 1 ? SOCK_NONBLOCK : 0) | (i & 2 ? SOCK_CLOEXEC : 0)) : accept(lfd, NULL, NULL);
			note("O_NONBLOCK %d FD_CLOEXEC %d", (fcntl(a, F_GETFL) & O_NONBLOCK) != 0, fcntl(a, F_GETFD));
			close(a);
			close(c);
		}
		obs("accept4 with unknown flags", accept4(lfd, NULL, NULL, 1));
		close(lfd);
	}
}

static void in_order(struct obs *o)
{
	struct obs_name at;

	(void)o;
	for (size_t k = 0; k < KINDS; k++) {
		int lfd = listener(kinds[k], 10, &at), c[5];

		obs_kind(kinds[k]);
		for (int i = 0; i < 5; i++) {
			c[i] = caller(kinds[k], &at, 0);
			send(c[i], &"abcde"[i], 1, 0);
		}
		for (int i = 0; i < 5; i++) {
			int a = accept(lfd, NULL, NULL);

			settle(a);
			obs_recv(a, 10, 0);
			obs("answer", send(a, "x", 1, 0));
			obs_recv(c[i], 10, 0);
			close(a);
			close(c[i]);
		}
		close(lfd);
	}
}

/* A caller that wrote and left before it was accepted. */
static void caller_already_gone(struct obs *o)
{
	struct obs_name at;

	(void)o;
	for (size_t k = 0; k < KINDS; k++) {
		int lfd = listener(kinds[k], 10, &at), c = caller(kinds[k], &at, 0), a;

		obs_kind(kinds[k]);
		send(c, "will", 4, 0);
		close(c);
		obs_poll_until(lfd, POLLIN);
		a = accept(lfd, NULL, NULL);
		obs_recv(a, 10, 0);
		obs_recv(a, 10, 0);
		obs_poll(a, POLLIN | POLLOUT | POLLRDHUP);
		close(a);
		c = caller(kinds[k], &at, 0);
		linger(c, 0);
		close(c);
		settle(lfd);
		nonblock(lfd, true);
		a = accept(lfd, NULL, NULL);
		note("a caller that reset is accepted: %d", a >= 0);
		if (a >= 0)
			obs_recv(a, 10, 0);
		close(a);
		close(lfd);
	}
}

/* A caller on the kernel's own TCP (SO_LINGER 0 before it calls) that has reset: its address is told all the same. */
static void address_of_one_that_reset(struct obs *o)
{
	static const uint32_t inet[] = { TCP4, TCP6 };
	struct obs_name at, own;
	struct sockaddr_storage from;
	socklen_t len;

	(void)o;
	for (size_t k = 0; k < sizeof(inet) / sizeof(inet[0]); k++) {
		int lfd = listener(inet[k], 10, &at), c = sock_of(inet[k], 0), a;

		obs_kind(inet[k]);
		linger(c, 0);
		obs("connect", connect(c, (const struct sockaddr *)&at.sa, at.len));
		name_get(c, &own);
		settle(lfd);
		close(c);
		memset(&from, 0x55, sizeof(from));
		len = sizeof(from);
		a = accept(lfd, (struct sockaddr *)&from, &len);
		note("accepted %d, length %u, its address %d", a >= 0, len, len == own.len && !memcmp(&from, &own.sa, len));
		obs_recv(a, 10, 0);
		close(a);
		close(lfd);
	}
}

/* Connected by the kernel but never accepted: the caller is reset when the listener closes. */
static void listener_closes(struct obs *o)
{
	struct obs_name at;

	(void)o;
	for (size_t k = 0; k < KINDS; k++) {
		int lfd = listener(kinds[k], 10, &at), c = caller(kinds[k], &at, 0), d = caller(kinds[k], &at, 0);

		obs_kind(kinds[k]);
		obs_send(d, "said something", 0);
		obs("close", close(lfd));
		obs_poll_until(c, POLLIN);
		obs_poll(c, POLLIN | POLLOUT | POLLRDHUP);
		obs_recv(c, 10, 0);
		obs_recv(c, 10, 0);
		obs_send(c, "x", MSG_NOSIGNAL);
		obs_poll_until(d, POLLIN);
		obs_recv(d, 10, 0);
		obs_send(d, "x", MSG_NOSIGNAL);
		close(c);
		close(d);
	}
}

/* The queue of a local listener: it is full at backlog + 1; O_NONBLOCK then says EAGAIN. */
static void local_queue(struct obs *o)
{
	static const uint32_t local[] = { UNIXP, UNIXA, SEQP };
	struct obs_name at;

	(void)o;
	for (size_t k = 0; k < 3; k++) {
		for (int backlog = 0; backlog < 3; backlog++) {
			int lfd = listener(local[k], backlog, &at), c[8], n = 0, rc = 0;

			for (n = 0; n < 8; n++) {
				c[n] = sock_of(local[k], SOCK_NONBLOCK);
				rc = connect(c[n], (struct sockaddr *)&at.sa, at.len);
				if (rc)
					break;
			}
			note("kind %x backlog %d: %d fit", local[k], backlog, n);
			obs("the next", rc);
			obs("the same again", connect(c[n], (struct sockaddr *)&at.sa, at.len));
			close(accept(lfd, NULL, NULL));
			obs("with room", connect(c[n], (struct sockaddr *)&at.sa, at.len));
			for (int i = 0; i <= n; i++)
				close(c[i]);
			close(lfd);
		}
	}
}

static void *late_accept(void *arg)
{
	if (thread_asleep(getpid(), getpid(), -1))
		close(accept(*(int *)arg, NULL, NULL));
	return NULL;
}

/* A blocking caller of a full local queue waits for room, or for its SO_SNDTIMEO. */
static void local_queue_blocks(struct obs *o)
{
	struct timeval tv = { .tv_usec = 60000 };
	struct obs_name at;
	pthread_t t;
	int lfd = listener(UNIXP, 0, &at), c = caller(UNIXP, &at, 0), d = sock_of(UNIXP, 0);

	(void)o;
	pthread_create(&t, NULL, late_accept, &lfd);
	obs("blocked connect", connect(d, (struct sockaddr *)&at.sa, at.len));
	pthread_join(t, NULL);
	close(c);
	c = sock_of(UNIXP, 0);
	setsockopt(c, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	obs("with a timeout", connect(c, (struct sockaddr *)&at.sa, at.len));
	close(c);
	close(d);
	close(lfd);
}

static void *late_close(void *arg)
{
	if (thread_asleep(getpid(), getpid(), -1))
		close(*(int *)arg);
	return NULL;
}

static void local_queue_closes(struct obs *o)
{
	struct obs_name at;
	pthread_t t;
	int lfd = listener(UNIXP, 0, &at), c = caller(UNIXP, &at, 0), d = sock_of(UNIXP, 0);

	(void)o;
	pthread_create(&t, NULL, late_close, &lfd);
	obs("blocked connect", connect(d, (struct sockaddr *)&at.sa, at.len));
	pthread_join(t, NULL);
	close(c);
	close(d);
}

/* The internet domain: callers beyond the queue are not refused, they try again. */
static void internet_queue(struct obs *o)
{
	struct obs_name at;
	int lfd = listener(TCP4, 1, &at), c[3], ok = 0, waiting = 0;

	(void)o;
	for (int i = 0; i < 3; i++) {
		struct pollfd p;

		c[i] = sock_of(TCP4, SOCK_NONBLOCK);
		if (connect(c[i], (struct sockaddr *)&at.sa, at.len) && errno != EINPROGRESS)
			obs("connect", -1);
		p = (struct pollfd){ .fd = c[i], .events = POLLOUT };
		if (poll(&p, 1, 50) == 1)
			ok++;
		else
			waiting++;
	}
	note("connected %d, still trying %d", ok, waiting);
	for (int i = 0; i < ok; i++)
		close(accept(lfd, NULL, NULL));
	obs_poll_until(c[2], POLLOUT);
	obs_getopt("SO_ERROR", c[2], SOL_SOCKET, SO_ERROR);
	for (int i = 0; i < 3; i++)
		close(c[i]);
	close(lfd);
}

static void internet_queue_blocks(struct obs *o)
{
	struct timeval tv = { .tv_usec = 100000 };
	struct obs_name at;
	int lfd = listener(TCP4, 0, &at), c = caller(TCP4, &at, 0), d = sock_of(TCP4, 0);
	int64_t start = now_ms();

	(void)o;
	setsockopt(d, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	obs("connect to a full queue", connect(d, (struct sockaddr *)&at.sa, at.len));
	note("waited: %d", now_ms() - start >= 90);
	close(c);
	close(d);
	close(lfd);
}

static void internet_backlogs(struct obs *o)
{
	static const uint32_t inet[] = { TCP4, TCP6, MAPPED };
	struct obs_name at;

	(void)o;
	for (int k = 0; k < 3; k++)
		for (int backlog = 0; backlog < 4; backlog++) {
			int lfd = listener(inet[k], backlog, &at), c[6], in = 0;

			for (int i = 0; i < 6; i++)
				c[i] = caller(inet[k], &at, SOCK_NONBLOCK);
			for (int i = 0; i < 6; i++) {
				struct pollfd p = { .fd = c[i], .events = POLLOUT };

				in += poll(&p, 1, 20) == 1;
			}
			note("kind %x backlog %d: %d in, accepted %d", inet[k], backlog, in, accept(lfd, NULL, NULL) >= 0);
			for (int i = 0; i < 6; i++)
				close(c[i]);
			close(lfd);
		}
}

static int full_queue(struct obs_name *at, int *in, int *out)
{
	int lfd = listener(TCP4, 0, at);

	*in = caller(TCP4, at, 0);
	*out = sock_of(TCP4, SOCK_NONBLOCK);
	obs("connect to a full queue", connect(*out, (struct sockaddr *)&at->sa, at->len));
	return lfd;
}

/* Everything that can be asked of a socket that is on its way. */
static void on_its_way(struct obs *o)
{
	struct obs_name at;
	int c, d, a, lfd = full_queue(&at, &c, &d);

	(void)o;
	obs_poll(d, POLLIN | POLLOUT | POLLRDHUP);
	obs("connect again", connect(d, (struct sockaddr *)&at.sa, at.len));
	obs_send(d, "x", MSG_NOSIGNAL);
	obs_recv(d, 1, 0);
	obs_names("caller", d);
	obs_getopt("SO_ERROR", d, SOL_SOCKET, SO_ERROR);
	obs_getopt("SO_ACCEPTCONN", d, SOL_SOCKET, SO_ACCEPTCONN);
	obs_getopt("SO_DOMAIN", d, SOL_SOCKET, SO_DOMAIN);
	close(accept(lfd, NULL, NULL));
	obs_poll_until(d, POLLOUT);
	obs("connect again", connect(d, (struct sockaddr *)&at.sa, at.len));
	obs("connect again", connect(d, (struct sockaddr *)&at.sa, at.len));
	obs_names("caller", d);
	a = accept(lfd, NULL, NULL);
	obs_names("accepted", a);
	nonblock(d, false);
	obs_send(d, "there", 0);
	obs_recv(a, 10, 0);
	obs_send(a, "and back", 0);
	obs_recv(d, 10, 0);
	warm_pair(a, d);
	close(a);
	obs_recv(d, 10, 0);
	close(c);
	close(d);
	close(lfd);
}

static void its_listener_closes(struct obs *o)
{
	struct obs_name at;
	int c, d, lfd = full_queue(&at, &c, &d);

	(void)o;
	obs("close", close(lfd));
	obs_poll_until(d, POLLOUT);
	obs_getopt("SO_ERROR", d, SOL_SOCKET, SO_ERROR);
	obs_getopt("SO_ERROR", d, SOL_SOCKET, SO_ERROR);
	obs_send(d, "x", MSG_NOSIGNAL);
	obs("connect again", connect(d, (struct sockaddr *)&at.sa, at.len));
	close(c);
	close(d);
}

static void its_caller_closes(struct obs *o)
{
	struct obs_name at;
	int c, d, a, lfd = full_queue(&at, &c, &d);

	(void)o;
	obs("close", close(d));
	nonblock(lfd, true);
	a = accept(lfd, NULL, NULL);
	note("accepted: %d", a >= 0);
	close(a);
	obs("accept, nobody", accept(lfd, NULL, NULL));
	close(c);
	close(lfd);
}

static void its_caller_shuts(struct obs *o)
{
	(void)o;
	for (int how = 0; how < 3; how++) {
		struct obs_name at;
		int c, d, lfd = full_queue(&at, &c, &d);

		obs("shutdown", shutdown(d, how));
		obs_poll(d, POLLIN | POLLOUT | POLLRDHUP);
		obs_getopt("SO_ERROR", d, SOL_SOCKET, SO_ERROR);
		close(c);
		close(d);
		close(lfd);
	}
}

static int64_t ms_since(const struct timespec *from)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - from->tv_sec) * 1000 + (now.tv_nsec - from->tv_nsec) / 1000000;
}

/* Nobody accepts: the caller gives up, when its options say so. */
static void full_for_ever(struct obs *o)
{
	static const struct {
		const char *name;
		int option, value, least_ms, most_ms;
	} limits[] = { { "TCP_SYNCNT", TCP_SYNCNT, 1, 2900, 4500 }, { "TCP_USER_TIMEOUT", TCP_USER_TIMEOUT, 1300, 1250, 2500 } };

	(void)o;
	for (int i = 0; i < 4; i++) {
		int c, d, limit = limits[i / 2].value, lfd, caller;
		struct timespec from;
		struct obs_name at;
		int64_t ms;

		note("%s, %s", limits[i / 2].name, i & 1 ? "non-blocking" : "blocking");
		lfd = full_queue(&at, &c, &d);
		caller = sock_of(TCP4, i & 1 ? SOCK_NONBLOCK : 0);
		setsockopt(caller, IPPROTO_TCP, limits[i / 2].option, &limit, sizeof(limit));
		clock_gettime(CLOCK_MONOTONIC, &from);
		obs("connect", connect(caller, (struct sockaddr *)&at.sa, at.len));
		if (i & 1) {
			struct pollfd p = { caller, POLLOUT, 0 };
			int rc = poll(&p, 1, 8000);

			obs_events("poll", rc, (unsigned)p.revents);
			obs_getopt("SO_ERROR", caller, SOL_SOCKET, SO_ERROR);
		}
		ms = ms_since(&from);
		if (ms < limits[i / 2].least_ms || ms > limits[i / 2].most_ms)
			note("after %lld ms", (long long)ms);
		close(caller);
		close(c);
		close(d);
		close(lfd);
	}
}

struct waiting {
	int fd;
	struct obs_name at;
	long rc;
};

static void *waiting_caller(void *arg)
{
	struct waiting *w = arg;

	w->rc = connect(w->fd, (struct sockaddr *)&w->at.sa, w->at.len);
	return NULL;
}

/* The child has what the caller's thread waits with, and no such thread. */
static void forks_beside_a_caller(struct obs *o)
{
	struct waiting w;
	int lfd = listener(TCP4, 0, &w.at), c = caller(TCP4, &w.at, 0), end[2], a;
	pthread_t t;
	pid_t pid;
	char byte;

	(void)o;
	if (pipe(end))
		die("pipe");
	w.fd = sock_of(TCP4, 0);
	pthread_create(&t, NULL, waiting_caller, &w);
	usleep(100000);
	pid = obs_fork();
	if (!pid) {
		close(w.fd);
		close(end[1]);
		_exit(read(end[0], &byte, 1) != 0);
	}
	close(accept(lfd, NULL, NULL));
	pthread_join(t, NULL);
	obs("connect", w.rc);
	a = accept(lfd, NULL, NULL);
	obs_names("accepted", a);
	obs_send(w.fd, "there", 0);
	obs_recv(a, 10, 0);
	close(w.fd);
	obs_recv(a, 10, 0);
	nonblock(lfd, true);
	obs("accept, nobody", accept(lfd, NULL, NULL));
	close(end[1]);
	obs("child", obs_wait(pid));
	close(a);
	close(c);
	close(lfd);
}

/* Asleep in epoll_wait(), and in a blocking connect(), when room comes. */
static void waits_for_room(struct obs *o)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP, .data.u64 = 7 };
	struct obs_name at;
	int c, d, lfd = full_queue(&at, &c, &d), set = epoll_create1(0);
	pthread_t t;

	(void)o;
	epoll_ctl(set, EPOLL_CTL_ADD, d, &ev);
	obs("nothing yet", epoll_wait(set, &ev, 1, 30));
	pthread_create(&t, NULL, late_accept, &lfd);
	obs_epoll("room", set, &ev, 10000);
	pthread_join(t, NULL);
	obs("told again", epoll_wait(set, &ev, 1, 0));
	obs_getopt("SO_ERROR", d, SOL_SOCKET, SO_ERROR);
	close(c);
	c = sock_of(TCP4, 0);
	pthread_create(&t, NULL, late_accept, &lfd);
	obs("blocked connect", connect(c, (struct sockaddr *)&at.sa, at.len));
	pthread_join(t, NULL);
	obs_names("caller", c);
	close(set);
	close(c);
	close(d);
	close(lfd);
}

static void blocked_and_closed(struct obs *o)
{
	struct obs_name at;
	int lfd = listener(TCP4, 0, &at), c = caller(TCP4, &at, 0), d = sock_of(TCP4, 0);
	pthread_t t;

	(void)o;
	pthread_create(&t, NULL, late_close, &lfd);
	obs("blocked connect", connect(d, (struct sockaddr *)&at.sa, at.len));
	pthread_join(t, NULL);
	close(c);
	close(d);
}

static void *caller_thread(void *arg)
{
	const struct obs_name *at = arg;
	int fd;

	if (thread_asleep(getpid(), getpid(), -1)) {
		fd = caller(at->sa.ss_family == AF_UNIX ? UNIXP : at->sa.ss_family == AF_INET ? TCP4 : TCP6, at, 0);
		settle(fd);
		close(fd);
	}
	return NULL;
}

static void blocked_accept_wakes(struct obs *o)
{
	static const uint32_t three[] = { TCP4, TCP6, UNIXP };
	struct obs_name at;
	pthread_t t;

	(void)o;
	for (size_t k = 0; k < 3; k++) {
		int lfd = listener(three[k], 5, &at), a;

		obs_kind(three[k]);
		for (int i = 0; i < 3; i++) {
			pthread_create(&t, NULL, caller_thread, &at);
			a = accept(lfd, NULL, NULL);
			note("accepted: %d", a >= 0);
			close(a);
			pthread_join(t, NULL);
		}
		close(lfd);
	}
}

static void *close_thread(void *arg)
{
	int *fds = arg;

	if (thread_asleep(getpid(), getpid(), -1))
		close(fds[0]);
	close(caller(TCP4, (struct obs_name *)(void *)(fds + 2), 0));
	return NULL;
}

/* close by another thread does not wake accept; the next caller of a copy does. */
static void close_under_accept(struct obs *o)
{
	struct {
		int fds[2];
		struct obs_name at;
	} x;
	pthread_t t;
	int a;

	(void)o;
	x.fds[0] = listener(TCP4, 5, &x.at);
	x.fds[1] = dup(x.fds[0]);
	pthread_create(&t, NULL, close_thread, &x);
	a = accept(x.fds[0], NULL, NULL);
	note("accepted: %d", a >= 0);
	pthread_join(t, NULL);
	close(a);
	close(x.fds[1]);
}

/* A port that the kernel chose for us, asked for by number. */
static int listener_of_a_number(uint32_t kind, struct obs_name *at)
{
	int lfd = listener(kind, 5, at);

	close(lfd);
	lfd = sock_of(kind, 0);
	setsockopt(lfd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int));
	if (bind(lfd, (struct sockaddr *)&at->sa, at->len) || listen(lfd, 5))
		die("the port again");
	return lfd;
}

/* connect() to AF_UNSPEC ends a listener of TCP too: a server that is to take nobody for a while does that. Of its port the kernel keeps what was
 * asked for by number. */
static void dissolved(struct obs *o)
{
	static const uint32_t inet[] = { TCP4, TCP6, TCP4, TCP6 };
	struct sockaddr none = { .sa_family = AF_UNSPEC };
	struct obs_name at, again;

	(void)o;
	for (size_t k = 0; k < 4; k++) {
		int lfd = k < 2 ? listener(inet[k], 5, &at) : listener_of_a_number(inet[k], &at), c = sock_of(inet[k], 0), a;

		obs_kind(inet[k]);
		obs("dissolve", connect(lfd, &none, sizeof(none)));
		obs("connect", connect(c, (struct sockaddr *)&at.sa, at.len));
		obs("accept", accept(lfd, NULL, NULL));
		close(c);
		obs("listen", listen(lfd, 5));
		again.len = sizeof(again.sa);
		getsockname(lfd, (struct sockaddr *)&again.sa, &again.len);
		note("the same name: %d", again.len == at.len && memcmp(&again.sa, &at.sa, at.len) == 0);
		c = caller(inet[k], &again, 0);
		a = accept(lfd, NULL, NULL);
		obs_send(c, "again", 0);
		obs_recv(a, 10, 0);
		close(a);
		close(c);
		close(lfd);
	}
}

/* What is set on a listener that stands already holds for whom it accepts. */
static void linger_on_a_listener(struct obs *o)
{
	struct obs_name at;
	int lfd = listener(TCP4, 5, &at), c, a;

	(void)o;
	linger(lfd, 0);
	c = caller(TCP4, &at, 0);
	a = accept(lfd, NULL, NULL);
	obs_send(c, "hello", 0);
	obs_recv(a, 10, 0);
	close(a);
	obs_recv(c, 10, 0);
	close(c);
	close(lfd);
}

int main(int argc, char **argv)
{
	static const struct obs_case cases[] = {
		{ "flags of accept4", flags, SOLO, 0 },
		{ "callers in order", in_order, SOLO, 0 },
		{ "callers already gone", caller_already_gone, SOLO, 0 },
		{ "the address of one that reset", address_of_one_that_reset, SOLO, 0 },
		{ "a listener that closes on its callers", listener_closes, SOLO, 0 },
		{ "a full local queue", local_queue, SOLO, 0 },
		{ "a full local queue blocks", local_queue_blocks, SOLO, 0 },
		{ "a full local queue closes", local_queue_closes, SOLO, 0 },
		{ "a full internet queue", internet_queue, SOLO, SLOW },
		{ "a full internet queue for ever", full_for_ever, SOLO, SLOW },
		{ "a full internet queue blocks", internet_queue_blocks, SOLO, SLOW },
		{ "internet backlogs", internet_backlogs, SOLO, SLOW },
		{ "on the way into a full queue", on_its_way, SOLO, SLOW },
		{ "on the way, and the listener closes", its_listener_closes, SOLO, SLOW },
		{ "on the way, and the caller closes", its_caller_closes, SOLO, SLOW },
		{ "on the way, and shutdown", its_caller_shuts, SOLO, SLOW },
		{ "a fork beside a caller that waits", forks_beside_a_caller, SOLO, 0 },
		{ "room in a full queue wakes", waits_for_room, SOLO, SLOW },
		{ "blocked at a full queue that closes", blocked_and_closed, SOLO, SLOW },
		{ "a listener dissolved", dissolved, SOLO, 0 },
		{ "SO_LINGER of a listener", linger_on_a_listener, SOLO, 0 },
		{ "a blocked accept wakes", blocked_accept_wakes, SOLO, 0 },
		{ "a listener closed under accept", close_under_accept, SOLO, 0 },
		{ 0 },
	};

	return obs_main(argc, argv, cases);
}
