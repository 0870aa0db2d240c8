/* SPDX-License-Identifier: MIT */
/* ring: yes */
/* Flags of send and recv on a stream: DONTWAIT, WAITALL, PEEK, TRUNC, NOSIGNAL, and lengths of zero. */
#include "obs.h"

#define MUCH (9 << 20)

static void dontwait_on_empty(struct obs *o)
{
	obs_recv(o->fd, 10, MSG_DONTWAIT);
	peer_text(o, op_puts, 0, "hello");
	settle(o->fd);
	obs_recv(o->fd, 10, MSG_DONTWAIT);
	obs_recv(o->fd, 10, MSG_DONTWAIT);
}

static void nonblock_on_empty(struct obs *o)
{
	nonblock(o->fd, true);
	obs_recv(o->fd, 10, 0);
	peer_text(o, op_puts, 0, "hello");
	settle(o->fd);
	obs_recv(o->fd, 10, 0);
	obs_recv(o->fd, 10, 0);
	nonblock(o->fd, false);
	peer_text(o, op_puts, 0, "again");
	obs_recv(o->fd, 10, 0);
}

/* How much fits is nobody's business; that it ends in EAGAIN and that all of it arrives is. */
static void full_is_eagain(struct obs *o)
{
	static char buf[30000];
	long sent = 0;
	ssize_t rc;

	while ((rc = send(o->fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0)
		sent += rc;
	obs("send when full", rc);
	note("some went before: %d", sent > 0);
	obs_poll(o->fd, POLLOUT);
	shutdown(o->fd, SHUT_WR);
	note("all arrive: %d", peer(o, op_sink, 0, 0) == sent);
}

static void full_blocks_until_room(struct obs *o)
{
	peer_start(o, op_bulk_out, 12 << 20, 3);
	note("blocks: %d", peer_asleep(o));
	obs("take all", bulk_in(o->fd, 12 << 20, 3));
	obs("peer", peer_done(o));
}

static void partial_reads(struct obs *o)
{
	peer_text(o, op_puts, 0, "abcdefghij");
	obs_recv(o->fd, 3, 0);
	obs_recv(o->fd, 1, 0);
	obs_recv(o->fd, 100, 0);
	peer_text(o, op_puts, 0, "one");
	peer_text(o, op_puts, 0, "two");
	obs_recv(o->fd, 5, MSG_WAITALL);
	obs_recv(o->fd, 5, 0);
}

static void blocked_reader_gets_what_comes(struct obs *o)
{
	peer_start(o, op_recv, 100, 0);
	note("blocks: %d", peer_asleep(o));
	obs_send(o->fd, "wake up", 0);
	obs("peer recv", peer_done(o));
	note("peer has %s", o->say);
}

static void waitall(struct obs *o)
{
	peer_start(o, op_recv, 20, MSG_WAITALL);
	obs_send(o->fd, "0123456", 0);
	note("still blocks: %d", peer_asleep(o));
	obs_send(o->fd, "789abcdef", 0);
	note("still blocks: %d", peer_asleep(o));
	obs_send(o->fd, "ghijKLMN", 0);
	obs("peer recv", peer_done(o));
	note("peer has %s", o->say);
	obs("the rest", peer(o, op_recv, 20, 0));
	note("peer has %s", o->say);
}

static void waitall_ends_with_the_stream(struct obs *o)
{
	peer_start(o, op_recv, 20, MSG_WAITALL);
	obs_send(o->fd, "part", 0);
	note("still blocks: %d", peer_asleep(o));
	shutdown(o->fd, SHUT_WR);
	obs("peer recv", peer_done(o));
	note("peer has %s", o->say);
	obs("then", peer(o, op_recv, 20, MSG_WAITALL));
}

static void waitall_does_not_wait_when_told_not_to(struct obs *o)
{
	peer_text(o, op_puts, 0, "some");
	settle(o->fd);
	obs_recv(o->fd, 10, MSG_WAITALL | MSG_DONTWAIT);
	obs_recv(o->fd, 10, MSG_WAITALL | MSG_DONTWAIT);
}

static long op_waitall_large(struct obs *o, long n, long b)
{
	char *buf = malloc((size_t)n), *want = malloc((size_t)n);
	long rc = recv(o->fd, buf, (size_t)n, MSG_WAITALL);

	(void)b;
	pattern(want, (size_t)n, 0, 5);
	if (rc == n && memcmp(buf, want, (size_t)n)) {
		rc = -1;
		errno = EBADMSG;
	}
	free(buf);
	free(want);
	return rc;
}

static void waitall_larger_than_any_buffer(struct obs *o)
{
	peer_start(o, op_waitall_large, 8 << 20, 0);
	obs("send", bulk_out(o->fd, 8 << 20, 5));
	obs("peer recv", peer_done(o));
}

static void peek(struct obs *o)
{
	peer_text(o, op_puts, 0, "peek at me");
	settle(o->fd);
	obs_recv(o->fd, 4, MSG_PEEK);
	obs_recv(o->fd, 100, MSG_PEEK);
	obs_recv(o->fd, 4, 0);
	obs_recv(o->fd, 100, MSG_PEEK | MSG_DONTWAIT);
	peer_text(o, op_puts, 0, ", more");
	settle(o->fd);
	obs_recv(o->fd, 12, MSG_PEEK | MSG_WAITALL);
	obs_recv(o->fd, 100, MSG_WAITALL | MSG_DONTWAIT);
	obs_recv(o->fd, 100, MSG_PEEK | MSG_DONTWAIT);
	peer(o, op_shutdown, SHUT_WR, 0);
	obs_recv(o->fd, 100, MSG_PEEK);
	obs_recv(o->fd, 100, 0);
}

static void peek_blocks_and_leaves_the_data(struct obs *o)
{
	peer_start(o, op_recv, 100, MSG_PEEK);
	note("blocks: %d", peer_asleep(o));
	obs_send(o->fd, "data", 0);
	obs("peer peek", peer_done(o));
	obs("peer peek", peer(o, op_recv, 2, MSG_PEEK));
	note("peer has %s", o->say);
	obs("peer recv", peer(o, op_recv, 100, 0));
	note("peer has %s", o->say);
	obs("peer recv", peer(o, op_recv, 100, MSG_DONTWAIT));
}

static void trunc_throws_away_on_tcp(struct obs *o)
{
	char buf[20] = "untouched";

	peer_text(o, op_puts, 0, "0123456789");
	settle(o->fd);
	obs("recv 4 TRUNC", recv(o->fd, buf, 4, MSG_TRUNC));
	note("buffer %.9s", buf);
	obs_recv(o->fd, 20, MSG_DONTWAIT);
	peer_text(o, op_puts, 0, "abc");
	settle(o->fd);
	obs("recv 10 TRUNC", recv(o->fd, NULL, 10, MSG_TRUNC));
	obs_recv(o->fd, 20, MSG_DONTWAIT);
}

/* On TCP MSG_TRUNC touches no buffer, on AF_UNIX it means nothing. */
static void trunc_and(struct obs *o, const char *what, size_t n, int flags)
{
	static char buf[MUCH];
	size_t touched = 0;
	ssize_t rc;

	memset(buf, 'z', sizeof(buf));
	rc = recv(o->fd, buf, n, flags);
	for (size_t i = 0; i < sizeof(buf); i++)
		touched += buf[i] != 'z';
	obs(what, rc);
	note("touched: %zu", touched);
}

static void trunc_with_others(struct obs *o)
{
	peer_text(o, op_puts, 0, "0123456789");
	settle(o->fd);
	trunc_and(o, "TRUNC PEEK", 4, MSG_TRUNC | MSG_PEEK);
	trunc_and(o, "TRUNC PEEK", 100, MSG_TRUNC | MSG_PEEK | MSG_DONTWAIT);
	trunc_and(o, "TRUNC", 3, MSG_TRUNC);
	obs_recv(o->fd, 2, 0);
	trunc_and(o, "TRUNC", 100, MSG_TRUNC | MSG_DONTWAIT);
	trunc_and(o, "TRUNC", 100, MSG_TRUNC | MSG_DONTWAIT);
	trunc_and(o, "TRUNC PEEK", 100, MSG_TRUNC | MSG_PEEK | MSG_DONTWAIT);
	peer_start(o, op_bulk_out, MUCH, 1);
	trunc_and(o, "TRUNC WAITALL", MUCH, MSG_TRUNC | MSG_WAITALL);
	peer_done(o);
	peer_start(o, op_bulk_out, MUCH + 4, 1);
	trunc_and(o, "WAITALL", MUCH, MSG_WAITALL);
	trunc_and(o, "TRUNC WAITALL", 4, MSG_TRUNC | MSG_WAITALL);
	peer_done(o);
	peer(o, op_close, 0, 0);
	trunc_and(o, "TRUNC WAITALL", 4, MSG_TRUNC | MSG_WAITALL);
}

static void zero_lengths(struct obs *o)
{
	char c = 'x';

	obs("send 0", send(o->fd, &c, 0, 0));
	obs("write 0", write(o->fd, &c, 0));
	obs("send 0 NULL", send(o->fd, NULL, 0, 0));
	obs("recv 0 DONTWAIT, empty", recv(o->fd, &c, 0, MSG_DONTWAIT));
	obs("peer sees nothing", peer(o, op_recv, 10, MSG_DONTWAIT));
	peer_text(o, op_puts, 0, "data");
	settle(o->fd);
	obs("recv 0", recv(o->fd, &c, 0, 0));
	obs("read 0", read(o->fd, &c, 0));
	obs("recv 0 PEEK", recv(o->fd, &c, 0, MSG_PEEK));
	obs_recv(o->fd, 10, 0);
	peer(o, op_shutdown, SHUT_WR, 0);
	settle(o->fd);
	obs("recv 0 at end", recv(o->fd, &c, 0, 0));
	obs_recv(o->fd, 10, 0);
}

/* The first call of this side asks for nothing, while bytes wait from before any change of lane. */
static void empty_read_comes_first(struct obs *o)
{
	char c = 'x';

	peer_text(o, op_puts, 0, "data");
	for (int i = 0; i < 3; i++)
		obs("recv 0", recv(o->fd, &c, 0, 0));
	obs("recv 0 PEEK", recv(o->fd, &c, 0, MSG_PEEK));
	obs_recv(o->fd, 2, 0);
	obs("recv 0", recv(o->fd, &c, 0, 0));
	obs_recv(o->fd, 10, 0);
	obs("recv 0 DONTWAIT, empty", recv(o->fd, &c, 0, MSG_DONTWAIT));
}

static bool greet(int fd)
{
	char hello[41] = "hello";

	return send(fd, hello, sizeof(hello), 0) == sizeof(hello);
}

/* Bytes read one by one, each after poll() promised it, that were not there after all; -1: the stream ended early. */
static int broken_promises(int fd, int count)
{
	struct pollfd p = { fd, POLLIN, 0 };
	int broken = 0;
	char c;

	for (int i = 0; i < count;) {
		if (poll(&p, 1, 3000) != 1)
			return -1;
		ssize_t n = recv(fd, &c, 1, MSG_DONTWAIT);

		if (n == 0 || (n < 0 && errno != EAGAIN))
			return -1;
		broken += n < 0;
		i += n == 1;
	}
	return broken;
}

/* Young connections, which change their lane while a greeting is read byte by byte. */
static void poll_promises_a_byte(struct obs *o)
{
	struct obs_name at;
	int l = listener(TCP4, 50, &at), bad = 0, ends = 0;
	pid_t pid = obs_fork();

	(void)o;
	for (int i = 0; i < 60; i++) {
		int fd = pid ? accept(l, NULL, NULL) : sock_of(TCP4, 0);
		int n;

		if (!pid && connect(fd, (struct sockaddr *)&at.sa, at.len))
			_exit(1);
		n = greet(fd) ? broken_promises(fd, 41) : -1;
		if (n >= 0 && greet(fd))
			n += broken_promises(fd, 41);
		bad += n > 0;
		ends += n < 0;
		close(fd);
	}
	if (!pid)
		_exit(bad || ends);
	note("promises broken: %d, early ends: %d", bad, ends);
	obs("the other side", obs_wait(pid));
	close(l);
}

static void nosignal(struct obs *o)
{
	count_signal(SIGPIPE, 0);
	shutdown(o->fd, SHUT_WR);
	obs_send(o->fd, "x", MSG_NOSIGNAL);
	note("signals: %d", (int)obs_signals);
	obs_send(o->fd, "x", 0);
	note("signals: %d", (int)obs_signals);
	obs("write", write(o->fd, "x", 1));
	note("signals: %d", (int)obs_signals);
	obs("send 0", send(o->fd, "x", 0, 0));
	note("signals: %d", (int)obs_signals);
}

static void more_and_unknown_flags(struct obs *o)
{
	obs_send(o->fd, "begin ", MSG_MORE);
	obs_send(o->fd, "end", 0);
	obs("peer recv", peer(o, op_recv, 9, MSG_WAITALL));
	note("peer has %s", o->say);
	obs_send(o->fd, "eor", MSG_EOR);
	obs("peer recv", peer(o, op_recv, 3, MSG_WAITALL));
	obs_send(o->fd, "confirm", MSG_CONFIRM);
	obs_send(o->fd, "dontroute", MSG_DONTROUTE);
	obs("peer recv", peer(o, op_recv, 16, MSG_WAITALL));
	note("peer has %s", o->say);
	obs_send(o->fd, "cloexec", 0);
	obs("peer recv CMSG_CLOEXEC", peer(o, op_recv, 7, MSG_WAITALL | MSG_CMSG_CLOEXEC));
	obs("peer recv ERRQUEUE", peer(o, op_recv, 7, MSG_ERRQUEUE | MSG_DONTWAIT));
}

int main(int argc, char **argv)
{
	static const struct obs_case cases[] = {
		{ "MSG_DONTWAIT with nothing to read", dontwait_on_empty, STREAM, 0 },
		{ "O_NONBLOCK with nothing to read", nonblock_on_empty, STREAM, 0 },
		{ "a full stream gives EAGAIN and loses nothing", full_is_eagain, STREAM, 0 },
		{ "a full stream blocks the writer", full_blocks_until_room, STREAM, THREADS },
		{ "reads may be smaller than writes", partial_reads, STREAM, THREADS },
		{ "a blocked reader wakes for what there is", blocked_reader_gets_what_comes, STREAM, THREADS },
		{ "MSG_WAITALL waits for all", waitall, STREAM, 0 },
		{ "MSG_WAITALL ends with the stream", waitall_ends_with_the_stream, STREAM, 0 },
		{ "MSG_WAITALL with MSG_DONTWAIT", waitall_does_not_wait_when_told_not_to, STREAM, 0 },
		{ "MSG_WAITALL larger than any buffer", waitall_larger_than_any_buffer, STREAM, 0 },
		{ "MSG_PEEK leaves the data", peek, STREAM, THREADS },
		{ "MSG_PEEK blocks as recv does", peek_blocks_and_leaves_the_data, STREAM, 0 },
		{ "MSG_TRUNC", trunc_throws_away_on_tcp, STREAM, 0 },
		{ "MSG_TRUNC with others", trunc_with_others, STREAM, 0 },
		{ "lengths of zero", zero_lengths, STREAM, 0 },
		{ "a read of nothing comes first", empty_read_comes_first, STREAM, COLD_ONLY },
		{ "what poll() promises is there, while the lane changes", poll_promises_a_byte, SOLO, 0 },
		{ "MSG_NOSIGNAL", nosignal, STREAM, 0 },
		{ "MSG_MORE and flags without meaning here", more_and_unknown_flags, STREAM, 0 },
		{ 0 },
	};

	return obs_main(argc, argv, cases);
}
