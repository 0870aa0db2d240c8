/* SPDX-License-Identifier: MIT */
/* ring: yes */
/*
 * Who is woken runs later: a forked relative sleeps on the connection, is stopped, and goes on when others have done something about what it
 * was woken for. Whatever there is for it then, it finds; and where there is nothing, it sleeps on.
 */
#include "obs.h"

#include <sys/epoll.h>
#include <sys/select.h>

#define BYTES 100

enum how { IN_RECV, IN_POLL, IN_SELECT, IN_EPOLL, IN_EDGES, IN_INHERITED_EPOLL, HOWS };

static const char *const how_name[] = { "recv", "poll", "select", "epoll", "epoll, by edges", "an inherited epoll set" };

struct sleeper {
	pid_t pid;
	int ended; /* readable then */
};

/* 0 to 100: it has read so many bytes; 200: an end at once; 210: reset; 220: another error; 230: the wait itself failed. */
static int sleep_there(int fd, enum how how, int set)
{
	struct epoll_event ev;
	struct pollfd p = { fd, POLLIN, 0 };
	char got[BYTES];
	fd_set readable;
	ssize_t n;

	FD_ZERO(&readable);
	FD_SET(fd, &readable);
	if (how == IN_EPOLL || how == IN_EDGES)
		set = epoll_on(fd, how == IN_EDGES ? EPOLLIN | EPOLLET : EPOLLIN);
	if ((how == IN_POLL && poll(&p, 1, -1) != 1) || (how == IN_SELECT && select(fd + 1, &readable, NULL, NULL, NULL) != 1) ||
	    (how >= IN_EPOLL && epoll_whole(set, &ev) != 1))
		return 230;
	n = recv(fd, got, sizeof(got), how == IN_RECV ? 0 : MSG_DONTWAIT);
	return n > 0 ? (int)n : n == 0 ? 200 : errno == ECONNRESET ? 210 : 220;
}

static struct sleeper asleep(const struct obs *o, enum how how)
{
	struct sleeper s;
	int ended[2], set = how == IN_INHERITED_EPOLL ? epoll_on(o->fd, EPOLLIN) : -1;

	if (pipe(ended))
		die("pipe");
	s.pid = obs_fork();
	if (s.pid == 0) {
		close(ended[0]);
		_exit(sleep_there(o->fd, how, set));
	}
	close(ended[1]);
	if (set >= 0)
		close(set);
	s.ended = ended[0];
	if (!thread_asleep(s.pid, s.pid, s.ended))
		die("it does not sleep");
	return s;
}

static struct sleeper stopped(const struct obs *o, enum how how)
{
	struct sleeper s = asleep(o, how);

	obs_stop(s.pid);
	return s;
}

static void goes_on(const struct sleeper *s)
{
	kill(s->pid, SIGCONT);
}

static void ends(const struct sleeper *s)
{
	obs("it ends", obs_wait(s->pid));
	close(s->ended);
}

static void sleeps_on(const struct sleeper *s)
{
	note("sleeps on: %s", thread_asleep(s->pid, s->pid, s->ended) ? "yes" : "no");
}

static void peer_sends(struct obs *o, long n)
{
	obs("peer sends", peer(o, op_send, n, MSG_NOSIGNAL));
}

static void we_read(struct obs *o, long n)
{
	char bytes[2 * BYTES];

	settle(o->fd);
	obs("read", recv(o->fd, bytes, (size_t)n, MSG_DONTWAIT));
}

static void for_it(struct obs *o, enum how how)
{
	struct sleeper s = stopped(o, how);

	peer_sends(o, BYTES);
	goes_on(&s);
	ends(&s);
}

static void taken_by_others(struct obs *o, enum how how)
{
	struct sleeper s = stopped(o, how);

	peer_sends(o, BYTES);
	we_read(o, BYTES);
	goes_on(&s);
	sleeps_on(&s);
	peer_sends(o, 70);
	ends(&s);
}

static void taken_and_more(struct obs *o, enum how how)
{
	struct sleeper s = stopped(o, how);

	peer_sends(o, BYTES);
	we_read(o, BYTES);
	peer_sends(o, 70);
	goes_on(&s);
	ends(&s);
}

static void taken_in_parts(struct obs *o, enum how how)
{
	struct sleeper s = stopped(o, how);

	peer_sends(o, 60);
	peer_sends(o, 40);
	we_read(o, 60);
	goes_on(&s);
	ends(&s);
}

static void two_sleep(struct obs *o, enum how how)
{
	struct sleeper first = stopped(o, how), second = asleep(o, how);

	peer_sends(o, BYTES);
	ends(&second);
	goes_on(&first);
	sleeps_on(&first);
	peer_sends(o, 70);
	ends(&first);
}

static void the_other_is_killed(struct obs *o, enum how how)
{
	struct sleeper first = stopped(o, how), second = stopped(o, how);

	peer_sends(o, BYTES);
	kill(second.pid, SIGKILL);
	ends(&second);
	goes_on(&first);
	ends(&first);
}

static void peer_shuts(struct obs *o, enum how how)
{
	struct sleeper s = stopped(o, how);

	obs("peer shuts", peer(o, op_shutdown, SHUT_WR, 0));
	goes_on(&s);
	ends(&s);
}

static void peer_sends_and_shuts(struct obs *o, enum how how)
{
	struct sleeper s = stopped(o, how);

	peer_sends(o, BYTES);
	obs("peer shuts", peer(o, op_shutdown, SHUT_WR, 0));
	we_read(o, BYTES);
	goes_on(&s);
	ends(&s);
}

static void peer_closes(struct obs *o, enum how how)
{
	struct sleeper s = stopped(o, how);

	peer_sends(o, BYTES);
	obs("peer closes", peer(o, op_close, 0, 0));
	we_read(o, BYTES);
	goes_on(&s);
	ends(&s);
}

static void peer_resets(struct obs *o, enum how how)
{
	struct sleeper s = stopped(o, how);

	obs("unread there", send(o->fd, "x", 1, MSG_NOSIGNAL));
	obs("peer closes", peer(o, op_close, 0, 0));
	goes_on(&s);
	ends(&s);
}

static void we_shut(struct obs *o, enum how how)
{
	struct sleeper s = stopped(o, how);

	obs("shutdown", shutdown(o->fd, SHUT_RDWR));
	goes_on(&s);
	ends(&s);
}

static void we_close(struct obs *o, enum how how)
{
	struct sleeper s = stopped(o, how);

	peer_sends(o, BYTES);
	close(o->fd);
	goes_on(&s);
	ends(&s);
}

/* By a way that no shim sees: both directions go back to the kernel lane. */
static void back_in_the_kernel(struct obs *o, enum how how)
{
	struct sleeper s = stopped(o, how);
	char byte;

	obs("peer prints", peer_text(o, op_by_stdio, 0, "by stdio"));
	settle(o->fd);
	obs("look", recv(o->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT));
	goes_on(&s);
	ends(&s);
}

static void taken_back_in_the_kernel(struct obs *o, enum how how)
{
	struct sleeper s = stopped(o, how);

	peer_sends(o, BYTES);
	we_read(o, BYTES);
	obs("peer prints", peer_text(o, op_by_stdio, 0, "by stdio"));
	goes_on(&s);
	ends(&s);
}

static void each_way(struct obs *o, void (*f)(struct obs *o, enum how how))
{
	for (enum how how = IN_RECV; how < HOWS; how++) {
		note("asleep in %s", how_name[how]);
		f(o, how);
	}
}

#define WAYS(f) \
	static void f##_each_way(struct obs *o) \
	{ \
		each_way(o, f); \
	}

WAYS(for_it)
WAYS(taken_by_others)
WAYS(taken_and_more)
WAYS(taken_in_parts)
WAYS(two_sleep)
WAYS(the_other_is_killed)
WAYS(back_in_the_kernel)
WAYS(taken_back_in_the_kernel)

/* Of what ends the connection: one way for each kind of sleep. */
#define LAST(f) \
	static void f##_recv(struct obs *o) { f(o, IN_RECV); } \
	static void f##_poll(struct obs *o) { f(o, IN_POLL); } \
	static void f##_epoll(struct obs *o) { f(o, IN_EPOLL); } \
	static void f##_edges(struct obs *o) { f(o, IN_EDGES); } \
	static void f##_inherited(struct obs *o) { f(o, IN_INHERITED_EPOLL); }

LAST(peer_shuts)
LAST(peer_sends_and_shuts)
LAST(peer_closes)
LAST(peer_resets)
LAST(we_shut)
LAST(we_close)

#define ENDS(title, f, kinds) \
	{ title ", asleep in recv", f##_recv, kinds, 0 }, { title ", asleep in poll", f##_poll, kinds, 0 }, \
	{ title ", asleep in epoll", f##_epoll, kinds, 0 }, { title ", asleep in epoll, by edges", f##_edges, kinds, 0 }, \
	{ title ", asleep in an inherited epoll set", f##_inherited, kinds, 0 }

int main(int argc, char **argv)
{
	static const struct obs_case cases[] = {
		{ "something for it", for_it_each_way, STREAM | SEQ | DGRAM, 0 },
		{ "others have taken it", taken_by_others_each_way, STREAM | SEQ | DGRAM, 0 },
		{ "others have taken it, and more has come", taken_and_more_each_way, STREAM | SEQ | DGRAM, 0 },
		{ "others have taken a part", taken_in_parts_each_way, STREAM | SEQ | DGRAM, 0 },
		{ "two sleep", two_sleep_each_way, STREAM | SEQ | DGRAM, 0 },
		{ "the other one is killed", the_other_is_killed_each_way, STREAM | SEQ | DGRAM, 0 },
		{ "by the kernel all of a sudden", back_in_the_kernel_each_way, STREAM, 0 },
		{ "others have taken it, and more by the kernel", taken_back_in_the_kernel_each_way, STREAM, 0 },
		ENDS("the peer shuts", peer_shuts, STREAM | SEQ),
		ENDS("the peer sends and shuts", peer_sends_and_shuts, STREAM | SEQ),
		ENDS("the peer closes", peer_closes, STREAM | SEQ),
		ENDS("the peer resets", peer_resets, STREAM | SEQ),
		ENDS("a relative shuts", we_shut, STREAM | SEQ),
		ENDS("a relative closes", we_close, STREAM | SEQ | DGRAM),
		{ 0 },
	};

	return obs_main(argc, argv, cases);
}
