/* SPDX-License-Identifier: MIT */
/* ring: yes */
/* How a connection ends: close, data left unread, SO_LINGER 0, EPIPE and SIGPIPE, and a dead process. */
#include "obs.h"

static void end_of_file_after_the_last_byte(struct obs *o)
{
	peer_text(o, op_puts, 0, "the last");
	obs("peer close", peer(o, op_close, 0, 0));
	settle(o->fd);
	obs_poll(o->fd, POLLIN | POLLOUT | POLLRDHUP);
	obs_recv(o->fd, 3, 0);
	obs_recv(o->fd, 100, 0);
	obs_recv(o->fd, 100, 0);
	obs_recv(o->fd, 100, 0);
	obs_getopt("SO_ERROR", o->fd, SOL_SOCKET, SO_ERROR);
}

static long op_bulk_and_close(struct obs *o, long n, long seed)
{
	long rc = bulk_out(o->fd, n, (unsigned)seed);

	return op_close(o, 0, 0) ? -1 : rc;
}

static void all_of_much_then_end(struct obs *o)
{
	peer_start(o, op_bulk_and_close, 3 << 20, 4);
	obs("in", bulk_in(o->fd, 4 << 20, 4));
	obs("peer", peer_done(o));
	obs_recv(o->fd, 100, 0);
}

/* A small answer that is still in flight when its writer has already gone. */
static void answer_and_close(struct obs *o)
{
	peer_start(o, op_bulk_and_close, 1000, 5);
	peer_done(o);
	obs("in", bulk_in(o->fd, 2000, 5));
	obs("in again", bulk_in(o->fd, 2000, 5));
}

static void writing_to_who_left(struct obs *o)
{
	count_signal(SIGPIPE, 0);
	obs("peer close", peer(o, op_close, 0, 0));
	settle(o->fd);
	obs_send(o->fd, "first", 0);
	note("signals: %d", (int)obs_signals);
	settle(o->fd);
	obs_send(o->fd, "second", 0);
	note("signals: %d", (int)obs_signals);
	obs_send(o->fd, "third", 0);
	note("signals: %d", (int)obs_signals);
	obs_recv(o->fd, 10, 0);
	obs_recv(o->fd, 10, 0);
	obs_poll(o->fd, POLLIN | POLLOUT | POLLRDHUP);
	obs_getopt("SO_ERROR", o->fd, SOL_SOCKET, SO_ERROR);
}

static void sigpipe_kills(struct obs *o)
{
	int rc;
	pid_t pid;

	peer(o, op_close, 0, 0);
	settle(o->fd);
	pid = obs_fork();
	if (pid == 0) {
		if (write(o->fd, "x", 1) == 1) {
			settle(o->fd);
			rc = (int)write(o->fd, "x", 1);
			_exit(rc == -1 ? 3 : 4);
		}
		_exit(5);
	}
	rc = obs_wait(pid);
	note("child: %s", rc == 256 + SIGPIPE ? "SIGPIPE" : "lives");
}

static void left_with_data_unread(struct obs *o)
{
	obs_send(o->fd, "nobody reads this", 0);
	obs("peer close", peer(o, op_close, 0, 0));
	settle(o->fd);
	obs_poll(o->fd, POLLIN | POLLOUT | POLLRDHUP);
	obs_recv(o->fd, 10, 0);
	obs_recv(o->fd, 10, 0);
	obs_send(o->fd, "x", MSG_NOSIGNAL);
	obs_getopt("SO_ERROR", o->fd, SOL_SOCKET, SO_ERROR);
}

static void left_with_data_unread_so_error(struct obs *o)
{
	obs_send(o->fd, "nobody reads this", 0);
	peer(o, op_close, 0, 0);
	settle(o->fd);
	obs_getopt("SO_ERROR", o->fd, SOL_SOCKET, SO_ERROR);
	obs_getopt("SO_ERROR", o->fd, SOL_SOCKET, SO_ERROR);
	obs_recv(o->fd, 10, 0);
}

static void left_with_data_unread_writer(struct obs *o)
{
	obs_send(o->fd, "nobody reads this", 0);
	peer(o, op_close, 0, 0);
	settle(o->fd);
	obs_send(o->fd, "x", MSG_NOSIGNAL);
	obs_send(o->fd, "x", MSG_NOSIGNAL);
	obs_recv(o->fd, 10, 0);
}

static void left_with_data_unread_after_answer(struct obs *o)
{
	obs_send(o->fd, "request nobody reads", 0);
	peer_text(o, op_puts, 0, "answer");
	peer(o, op_close, 0, 0);
	settle(o->fd);
	obs_poll(o->fd, POLLIN | POLLRDHUP);
	obs_recv(o->fd, 100, 0);
	obs_recv(o->fd, 100, 0);
	obs_recv(o->fd, 100, 0);
}

static void left_partly_read(struct obs *o)
{
	obs_send(o->fd, "half of it", 0);
	obs("peer recv", peer(o, op_recv, 4, 0));
	peer(o, op_close, 0, 0);
	settle(o->fd);
	obs_recv(o->fd, 10, 0);
	obs_recv(o->fd, 10, 0);
}

static void linger_zero(struct obs *o)
{
	obs("peer resets", peer(o, op_rst, 0, 0));
	settle(o->fd);
	obs_poll(o->fd, POLLIN | POLLOUT | POLLRDHUP);
	obs_recv(o->fd, 10, 0);
	obs_recv(o->fd, 10, 0);
	obs_send(o->fd, "x", MSG_NOSIGNAL);
	obs_getopt("SO_ERROR", o->fd, SOL_SOCKET, SO_ERROR);
}

static void linger_zero_with_data(struct obs *o)
{
	peer_text(o, op_puts, 0, "may be lost");
	settle(o->fd);
	obs("peer resets", peer(o, op_rst, 0, 0));
	obs_poll_until(o->fd, POLLHUP);
	obs_recv(o->fd, 100, MSG_DONTWAIT);
	obs_recv(o->fd, 100, MSG_DONTWAIT);
}

static void linger_zero_wakes_reader(struct obs *o)
{
	peer_start(o, op_recv, 10, 0);
	note("blocks: %d", peer_asleep(o));
	linger(o->fd, 0);
	obs("close", close(o->fd));
	obs("peer recv", peer_done(o));
	obs("peer recv", peer(o, op_recv, 10, 0));
}

static void linger_some(struct obs *o)
{
	int64_t start = now_ms();

	linger(o->fd, 5);
	obs_send(o->fd, "lingering", 0);
	obs("peer recv", peer(o, op_recv, 100, 0));
	obs("close", close(o->fd));
	note("at once: %d", now_ms() - start < 1000);
	obs("peer recv", peer(o, op_recv, 100, 0));
}

static void linger_option(struct obs *o)
{
	struct linger l = { .l_onoff = 9, .l_linger = 7 };
	socklen_t len = sizeof(l);

	obs("get", getsockopt(o->fd, SOL_SOCKET, SO_LINGER, &l, &len));
	note("%d %d len %u", l.l_onoff, l.l_linger, len);
	linger(o->fd, 11);
	obs("get", getsockopt(o->fd, SOL_SOCKET, SO_LINGER, &l, &len));
	note("%d %d len %u", l.l_onoff, l.l_linger, len);
	obs("short", setsockopt(o->fd, SOL_SOCKET, SO_LINGER, &l, 4));
}

static void a_copy_keeps_it_open(struct obs *o)
{
	int copy = dup(o->fd);

	obs("close", close(o->fd));
	obs("peer recv", peer(o, op_recv, 10, MSG_DONTWAIT));
	obs("send by the copy", send(copy, "copy", 4, 0));
	obs("peer recv", peer(o, op_recv, 10, 0));
	obs("close", close(copy));
	obs("peer recv", peer(o, op_recv, 10, 0));
}

static void reader_wakes_when_peer_closes(struct obs *o)
{
	peer_start(o, op_recv, 10, 0);
	note("blocks: %d", peer_asleep(o));
	obs("close", close(o->fd));
	obs("peer recv", peer_done(o));
	obs("peer recv", peer(o, op_recv, 10, 0));
}

static long op_fill(struct obs *o, long a, long b)
{
	static char buf[100000];
	ssize_t rc;

	(void)a;
	(void)b;
	while ((rc = send(o->fd, buf, sizeof(buf), MSG_NOSIGNAL)) > 0)
		;
	return rc;
}

static void writer_wakes_when_peer_closes(struct obs *o)
{
	peer_start(o, op_fill, 0, 0);
	note("blocks: %d", peer_asleep(o));
	obs("close", close(o->fd));
	obs("peer send", peer_done(o));
	obs("peer send", peer_text(o, op_puts, MSG_NOSIGNAL, "x"));
}

static void twice_and_after(struct obs *o)
{
	int fd = o->fd;

	obs("close", close(fd));
	obs("close again", close(fd));
	obs("send", send(fd, "x", 1, 0));
	obs("recv", recv(fd, &fd, 1, 0));
	obs("shutdown", shutdown(fd, SHUT_RD));
}

static long op_die(struct obs *o, long a, long b)
{
	(void)o;
	(void)a;
	(void)b;
	kill(getpid(), SIGKILL);
	return 0;
}

/* One that sends again and again, without asking whether it may, hears of it too. */
static void killed_peer_of_a_busy_sender(struct obs *o)
{
	int64_t end = deadline_ms();
	ssize_t n;

	peer_start(o, op_die, 0, 0);
	waitpid(o->pid, NULL, 0);
	do {
		n = send(o->fd, "12345678", 8, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while ((n == 8 || errno == EAGAIN) && now_ms() < end);
	note("an error came: %d", n < 0 && errno != EAGAIN);
}

/* The peer is gone by kill -9; its end is closed by the kernel. */
static void killed_peer(struct obs *o)
{
	peer_text(o, op_puts, 0, "before death");
	peer_start(o, op_die, 0, 0);
	waitpid(o->pid, NULL, 0);
	settle(o->fd);
	obs_recv(o->fd, 100, 0);
	obs_recv(o->fd, 100, 0);
	obs_poll(o->fd, POLLIN | POLLOUT | POLLRDHUP);
	obs_send(o->fd, "x", MSG_NOSIGNAL);
	settle(o->fd);
	obs_send(o->fd, "x", MSG_NOSIGNAL);
	exit(0);
}

static void killed_peer_unread(struct obs *o)
{
	obs_send(o->fd, "unread", 0);
	peer_start(o, op_die, 0, 0);
	waitpid(o->pid, NULL, 0);
	settle(o->fd);
	obs_recv(o->fd, 100, 0);
	obs_recv(o->fd, 100, 0);
	exit(0);
}

static void exit_closes(struct obs *o)
{
	pid_t pid = obs_fork();

	if (pid == 0) {
		obs_send(o->fd, "from the child", 0);
		fflush(stdout);
		_exit(0);
	}
	close(o->fd);
	obs_wait(pid);
	obs("peer recv", peer(o, op_recv, 100, 0));
	obs("peer recv", peer(o, op_recv, 100, 0));
}

/* Who never waits is told too, sooner or later. */
static void killed_peer_full(struct obs *o)
{
	static const char buf[1000];
	int tries = 0;

	while (send(o->fd, buf, sizeof(buf), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
		;
	note("full: %s", errno == EAGAIN ? "EAGAIN" : strerror(errno));
	peer_start(o, op_die, 0, 0);
	waitpid(o->pid, NULL, 0);
	while (send(o->fd, buf, sizeof(buf), MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == EAGAIN && ++tries < 1000)
		if (tries > 500)
			usleep(1000);
	note("the writer is %s", errno == EPIPE || errno == ECONNRESET ? "told" : "not told");
	exit(0);
}

/* --- a daemon that is killed and comes again --- */

static pid_t echo_server(uint32_t kind, const struct obs_name *at)
{
	int lfd = sock_of(kind, 0), one = 1;
	pid_t pid;

	if (domain_of(kind) == AF_UNIX)
		unlink(((const struct sockaddr_un *)&at->sa)->sun_path);
	else
		setsockopt(lfd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(lfd, (const struct sockaddr *)&at->sa, at->len) || listen(lfd, 5))
		die("listen");
	pid = obs_fork();
	if (pid == 0)
		for (;;) {
			struct obs o = { .fd = accept(lfd, NULL, NULL), .type = SOCK_STREAM };

			op_echo(&o, 1000000, 16);
			close(o.fd);
		}
	close(lfd);
	return pid;
}

static void comes_again(struct obs *o)
{
	struct obs_name at;

	close(listener(o->kind, 5, &at));
	for (int i = 0; i < 3; i++) {
		pid_t pid = echo_server(o->kind, &at);
		int fd = sock_of(o->kind, 0);

		obs("connect", connect(fd, (struct sockaddr *)&at.sa, at.len));
		note("turns: %d", turns(fd, OBS_WARM));
		kill(pid, SIGKILL);
		obs("server ends", obs_wait(pid));
		settle(fd);
		obs_recv(fd, 10, 0);
		close(fd);
		fd = sock_of(o->kind, 0);
		obs("connect", connect(fd, (struct sockaddr *)&at.sa, at.len));
		close(fd);
	}
}

int main(int argc, char **argv)
{
	static const struct obs_case cases[] = {
		{ "end of file after the last byte", end_of_file_after_the_last_byte, EVERY_STREAM | SEQ, THREADS },
		{ "all of much data, then the end", all_of_much_then_end, STREAM, THREADS },
		{ "an answer and a close", answer_and_close, STREAM, 0 },
		{ "writing to who has left", writing_to_who_left, STREAM | SEQ, 0 },
		{ "SIGPIPE kills who does not care", sigpipe_kills, STREAM, 0 },
		{ "the peer left data unread", left_with_data_unread, STREAM | SEQ, THREADS },
		{ "the peer left data unread: SO_ERROR", left_with_data_unread_so_error, STREAM | SEQ, 0 },
		{ "the peer left data unread: writing first", left_with_data_unread_writer, STREAM | SEQ, 0 },
		{ "the peer answered and left data unread", left_with_data_unread_after_answer, STREAM, 0 },
		{ "the peer read a part and left", left_partly_read, STREAM, 0 },
		{ "SO_LINGER 0", linger_zero, STREAM | SEQ, 0 },
		{ "SO_LINGER 0 with data in flight", linger_zero_with_data, STREAM, 0 },
		{ "SO_LINGER 0 wakes a reader", linger_zero_wakes_reader, STREAM, 0 },
		{ "SO_LINGER with patience", linger_some, STREAM, 0 },
		{ "SO_LINGER as an option", linger_option, STREAM, 0 },
		{ "a copy keeps it open", a_copy_keeps_it_open, STREAM | SEQ, 0 },
		{ "close wakes the peer's reader", reader_wakes_when_peer_closes, STREAM | SEQ, THREADS },
		{ "close wakes the peer's writer", writer_wakes_when_peer_closes, STREAM, 0 },
		{ "close twice", twice_and_after, STREAM, 0 },
		{ "kill -9 of the peer", killed_peer, STREAM | SEQ, 0 },
		{ "kill -9 of a busy sender's peer", killed_peer_of_a_busy_sender, STREAM | SEQ, 0 },
		{ "kill -9 of the peer with data unread", killed_peer_unread, STREAM, 0 },
		{ "kill -9 of the peer of a writer that never waits", killed_peer_full, STREAM | SEQ, 0 },
		{ "a server that is killed and comes again", comes_again, TCP4 | TCP6 | UNIXP, 0 },
		{ "the last process that has it exits", exit_closes, STREAM, 0 },
		{ 0 },
	};

	return obs_main(argc, argv, cases);
}
