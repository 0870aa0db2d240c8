/* SPDX-License-Identifier: MIT */
/* ring: yes */
/*
 * A peer process that ends without a word: the first look afterwards, of whatever kind, shows it, and none has to wait for that. Programs that
 * keep connections for later ask so whether one is still good.
 */
#include "obs.h"

#include <netinet/tcp.h>
#include <sys/select.h>

#define ROUNDS 60 /* there and back: on the ring by then */

static const uint32_t kinds[] = { TCP4, TCP6, UNIXP, PAIR, SEQP, SEQPAIR };

static int watching = -1; /* a set that has the connection since it began */

struct look {
	const char *name;
	void (*at)(int fd);
	bool streams_only;
};

static void by_poll(int fd) { obs_poll(fd, POLLIN | POLLOUT | POLLRDHUP); }
static void by_poll_in(int fd) { obs_poll(fd, POLLIN); }
static void by_poll_nothing(int fd) { obs_poll(fd, 0); }
static void by_recv(int fd) { obs_recv(fd, 8, MSG_DONTWAIT); }
static void by_peek(int fd) { obs_recv(fd, 1, MSG_DONTWAIT | MSG_PEEK); }
static void by_send(int fd) { obs_send(fd, "anybody?", MSG_NOSIGNAL | MSG_DONTWAIT); }

static void by_select(int fd)
{
	struct timeval zero = { 0, 0 };
	fd_set in, out;

	FD_ZERO(&in);
	FD_ZERO(&out);
	FD_SET(fd, &in);
	FD_SET(fd, &out);
	obs("select", select(fd + 1, &in, &out, NULL, &zero));
	note("readable %d, writable %d", FD_ISSET(fd, &in) != 0, FD_ISSET(fd, &out) != 0);
}

static void by_read(int fd)
{
	char buf[8];

	nonblock(fd, true);
	obs("read", read(fd, buf, sizeof(buf)));
}

static void by_write(int fd)
{
	signal(SIGPIPE, SIG_IGN);
	obs("write", write(fd, "anybody?", 8));
}

static void by_epoll(int fd)
{
	struct epoll_event ev = { 0 };
	int set = watching >= 0 ? watching : epoll_on(fd, EPOLLIN | EPOLLRDHUP);

	obs_epoll("epoll_wait", set, &ev, 0);
	if (set != watching)
		close(set);
}

static void by_error(int fd) { obs_getopt("SO_ERROR", fd, SOL_SOCKET, SO_ERROR); }

static void by_state(int fd)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0)
		note("state %d", info.tcpi_state);
}

static const struct look looks[] = {
	{ "poll", by_poll, false },     { "poll for input", by_poll_in, false }, { "poll for nothing", by_poll_nothing, false },
	{ "select", by_select, false }, { "recv", by_recv, false },              { "a look", by_peek, false },
	{ "read", by_read, false },     { "send", by_send, false },              { "write", by_write, false },
	{ "epoll", by_epoll, false },   { "SO_ERROR", by_error, false },         { "TCP_INFO", by_state, true },
};

static void connection(uint32_t kind, int fd[2])
{
	struct obs_name at;
	int lfd;

	if (kind == PAIR || kind == SEQPAIR) {
		if (socketpair(AF_UNIX, type_of(kind), 0, fd))
			die("socketpair");
		return;
	}
	lfd = listener(kind, 5, &at);
	fd[0] = sock_of(kind, 0);
	if (connect(fd[0], (struct sockaddr *)&at.sa, at.len))
		die("connect");
	fd[1] = accept(lfd, NULL, NULL);
	close(lfd);
}

/* Answers, and ends at once or waits for its end. */
static _Noreturn void answer(int fd, bool waits)
{
	char buf[16];

	for (int i = 0; i < ROUNDS; i++)
		if (recv(fd, buf, sizeof(buf), 0) != sizeof(buf) || send(fd, buf, sizeof(buf), 0) != sizeof(buf))
			_exit(1);
	if (waits)
		pause();
	_exit(0);
}

/* An own connection for each, for the first look may be what finds it out. `watched`: the connection is in an epoll set all the while. */
static void gone(bool killed, bool watched)
{
	promise_ring();
	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		obs_kind(kinds[k]);
		for (size_t l = 0; l < sizeof(looks) / sizeof(looks[0]); l++) {
			struct epoll_event ev = { 0 };
			int fd[2];
			pid_t pid;

			if (looks[l].streams_only && domain_of(kinds[k]) == AF_UNIX)
				continue;
			connection(kinds[k], fd);
			pid = obs_fork();
			if (pid == 0) {
				close(fd[0]);
				answer(fd[1], killed);
			}
			close(fd[1]);
			if (watched)
				watching = epoll_on(fd[0], EPOLLIN | EPOLLRDHUP | EPOLLET);
			note("%s: %d rounds", looks[l].name, turns(fd[0], ROUNDS));
			if (watched)
				while (epoll_wait(watching, &ev, 1, 0) > 0)
					;
			if (killed)
				kill(pid, SIGKILL);
			obs("ended", obs_wait(pid));
			looks[l].at(fd[0]);
			obs_recv(fd[0], 8, MSG_DONTWAIT);
			obs_poll(fd[0], POLLIN | POLLOUT | POLLRDHUP);
			close(fd[0]);
			if (watched)
				close(watching);
			watching = -1;
		}
	}
}

static void ends(struct obs *o)
{
	(void)o;
	gone(false, false);
}

static void is_killed(struct obs *o)
{
	(void)o;
	gone(true, false);
}

static void is_killed_watched(struct obs *o)
{
	(void)o;
	gone(true, true);
}

int main(int argc, char **argv)
{
	static const struct obs_case cases[] = {
		{ "the peer ends", ends, SOLO, 0 },
		{ "the peer is killed", is_killed, SOLO, 0 },
		{ "the peer is killed, and watched", is_killed_watched, SOLO, 0 },
		{ 0 },
	};

	return obs_main(argc, argv, cases);
}
