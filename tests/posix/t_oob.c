/* SPDX-License-Identifier: MIT */
/* ring: yes */
/* MSG_OOB: the urgent byte, its mark, SIGURG, in line or not; in the local domain too, where the kernel has it. */
#include "obs.h"

static void mark(int fd)
{
	int at = -1;

	if (ioctl(fd, SIOCATMARK, &at))
		obs("SIOCATMARK", -1);
	else
		note("at mark: %d %d", at, sockatmark(fd));
}

static void urgent(struct obs *o)
{
	mark(o->fd);
	obs_recv(o->fd, 1, MSG_OOB);
	peer_text(o, op_puts, 0, "abc");
	obs("peer sends", peer_text(o, op_puts, MSG_OOB, "U"));
	peer_text(o, op_puts, 0, "def");
	obs_poll_until(o->fd, POLLPRI);
	obs_poll(o->fd, POLLIN | POLLPRI);
	mark(o->fd);
	obs_recv(o->fd, 1, MSG_OOB | MSG_PEEK);
	obs_recv(o->fd, 1, MSG_OOB);
	obs_recv(o->fd, 1, MSG_OOB);
	obs_recv(o->fd, 100, 0);
	mark(o->fd);
	obs_poll(o->fd, POLLIN | POLLPRI);
	obs_recv(o->fd, 100, 0);
	obs_recv(o->fd, 100, MSG_DONTWAIT);
}

static void read_stops_at_the_mark(struct obs *o)
{
	peer_text(o, op_puts, 0, "before");
	peer_text(o, op_puts, MSG_OOB, "!");
	peer_text(o, op_puts, 0, "after");
	obs_poll_until(o->fd, POLLPRI);
	obs_recv(o->fd, 3, 0);
	mark(o->fd);
	obs_recv(o->fd, 100, 0);
	mark(o->fd);
	obs_recv(o->fd, 100, 0);
	mark(o->fd);
}

static void in_line(struct obs *o)
{
	int one = 1;

	obs("SO_OOBINLINE", setsockopt(o->fd, SOL_SOCKET, SO_OOBINLINE, &one, sizeof(one)));
	peer_text(o, op_puts, 0, "before");
	peer_text(o, op_puts, MSG_OOB, "!");
	peer_text(o, op_puts, 0, "after");
	obs_poll_until(o->fd, POLLPRI);
	obs_recv(o->fd, 1, MSG_OOB);
	obs_recv(o->fd, 100, 0);
	mark(o->fd);
	obs_recv(o->fd, 100, 0);
	mark(o->fd);
}

static void of_several_bytes_the_last(struct obs *o)
{
	peer_text(o, op_puts, MSG_OOB, "xyz");
	obs_poll_until(o->fd, POLLPRI);
	obs_recv(o->fd, 10, MSG_OOB);
	obs_recv(o->fd, 10, MSG_DONTWAIT);
}

static void signal_urg(struct obs *o)
{
	int64_t end = deadline_ms();

	count_signal(SIGURG, 0);
	obs("F_SETOWN", fcntl(o->fd, F_SETOWN, getpid()));
	obs("F_GETOWN is me", fcntl(o->fd, F_GETOWN) == getpid());
	peer_text(o, op_puts, MSG_OOB, "!");
	while (!obs_signals && now_ms() < end)
		usleep(500);
	note("signals: %d", (int)obs_signals);
	obs_recv(o->fd, 1, MSG_OOB);
}

/* The stream goes on after it, in both directions, and gets all the traffic it had. */
static void life_goes_on(struct obs *o)
{
	peer_text(o, op_puts, MSG_OOB, "!");
	obs_poll_until(o->fd, POLLPRI);
	obs_recv(o->fd, 1, MSG_OOB);
	warm(o);
	peer_start(o, op_bulk_out, 1000000, 3);
	obs("in", bulk_in(o->fd, 1000000, 3));
	obs("peer", peer_done(o));
	obs("send", send(o->fd, "?", 1, MSG_OOB));
	obs("peer recv", peer(o, op_recv, 1, MSG_OOB));
	note("peer has %s", o->say);
	peer_start(o, op_bulk_in, 1000000, 3);
	obs("out", bulk_out(o->fd, 1000000, 3));
	obs("peer", peer_done(o));
}

static void urgent_in_the_middle_of_much(struct obs *o)
{
	static char buf[100000];
	long total = 0;
	int marks = 0, at;
	ssize_t rc;

	peer_start(o, op_bulk_out, 300000, 3);
	obs("in", bulk_in(o->fd, 300000, 3));
	peer_done(o);
	peer(o, op_send, 20000, 0);
	peer_text(o, op_puts, MSG_OOB, "!");
	peer(o, op_send, 20000, 0);
	obs_poll_until(o->fd, POLLPRI);
	peer(o, op_shutdown, SHUT_WR, 0);
	while ((rc = recv(o->fd, buf, 7000, 0)) > 0) {
		total += rc;
		if (ioctl(o->fd, SIOCATMARK, &at) == 0 && at) {
			marks++;
			obs("bytes before the mark", total);
		}
	}
	obs("all", total);
	note("marks: %d", marks);
}

/* Beside the byte: flags, no name, no control data. */
static void by_recvmsg(struct obs *o)
{
	static const int flags[] = { MSG_OOB | MSG_PEEK, MSG_OOB, MSG_OOB };

	peer_text(o, op_puts, 0, "abc");
	peer_text(o, op_puts, MSG_OOB, "U");
	obs_poll_until(o->fd, POLLPRI);
	for (int i = 0; i < 3; i++) {
		struct sockaddr_storage name;
		char byte = '-', control[100];
		struct iovec iov = { &byte, 1 };
		struct msghdr msg = { &name, sizeof(name), &iov, 1, control, sizeof(control), 0 };

		if (obs("recvmsg", recvmsg(o->fd, &msg, flags[i])) >= 0)
			note("%c, name %u, control %zu, flags %#x", byte, msg.msg_namelen, msg.msg_controllen, (unsigned)msg.msg_flags);
	}
	obs_recv(o->fd, 10, 0);
}

static void not_for_datagrams(struct obs *o)
{
	obs_send(o->fd, "x", MSG_OOB);
	obs_recv(o->fd, 1, MSG_OOB | MSG_DONTWAIT);
	obs("peer recv", peer(o, op_recv, 10, MSG_DONTWAIT));
}

static void second(struct obs *o, bool in_line, bool taken)
{
	int one = in_line;

	setsockopt(o->fd, SOL_SOCKET, SO_OOBINLINE, &one, sizeof(one));
	peer_text(o, op_puts, 0, "ab");
	peer_text(o, op_puts, MSG_OOB, "1");
	peer_text(o, op_puts, 0, "cd");
	obs_poll_until(o->fd, POLLPRI);
	if (taken)
		obs_recv(o->fd, 1, MSG_OOB);
	peer_text(o, op_puts, MSG_OOB, "2");
	peer_text(o, op_puts, 0, "ef");
	usleep(20000);
	obs_poll(o->fd, POLLIN | POLLPRI);
	for (int i = 0; i < 6; i++) {
		mark(o->fd);
		obs_recv(o->fd, 100, MSG_DONTWAIT | MSG_PEEK);
		obs_recv(o->fd, 100, MSG_DONTWAIT);
		if (i == 1)
			obs_recv(o->fd, 1, MSG_OOB);
	}
	obs_poll(o->fd, POLLIN | POLLPRI);
}

static void second_unread(struct obs *o)
{
	second(o, false, false);
}

static void second_taken(struct obs *o)
{
	second(o, false, true);
}

static void second_in_line(struct obs *o)
{
	second(o, true, false);
}

/* The urgent byte is the first, and the last; then it becomes in line, or no longer. */
static void alone(struct obs *o)
{
	int on = 1, off = 0;

	for (int i = 0; i < 3; i++) {
		peer_text(o, op_puts, MSG_OOB, "!");
		obs_poll_until(o->fd, POLLPRI);
		mark(o->fd);
		if (i == 1)
			setsockopt(o->fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on));
		obs_recv(o->fd, 1, MSG_OOB);
		obs_recv(o->fd, 100, MSG_DONTWAIT);
		mark(o->fd);
		setsockopt(o->fd, SOL_SOCKET, SO_OOBINLINE, &off, sizeof(off));
		peer_text(o, op_puts, 0, "on");
		settle(o->fd);
		obs_recv(o->fd, 100, MSG_DONTWAIT);
		mark(o->fd);
	}
}

/* Urgent bytes that nobody takes, and the end. */
static void then_the_end(struct obs *o)
{
	peer_text(o, op_puts, 0, "ab");
	peer_text(o, op_puts, MSG_OOB, "!");
	peer(o, op_close, 0, 0);
	obs_poll_until(o->fd, POLLRDHUP);
	for (int i = 0; i < 3; i++) {
		obs_poll(o->fd, POLLIN | POLLPRI | POLLRDHUP);
		obs_recv(o->fd, 100, MSG_DONTWAIT);
	}
	obs_recv(o->fd, 1, MSG_OOB);
}

int main(int argc, char **argv)
{
	static const struct obs_case cases[] = {
		{ "an urgent byte", urgent, STREAM, 0 },
		{ "reading stops at the mark", read_stops_at_the_mark, STREAM, 0 },
		{ "in line", in_line, TCP, 0 },
		{ "of several bytes, the last", of_several_bytes_the_last, STREAM, 0 },
		{ "SIGURG", signal_urg, STREAM, 0 },
		{ "life goes on", life_goes_on, STREAM, 0 },
		{ "in the middle of much data", urgent_in_the_middle_of_much, TCP, 0 },
		{ "by recvmsg", by_recvmsg, STREAM, 0 },
		{ "a second one, the first unread", second_unread, STREAM, 0 },
		{ "a second one, the first taken", second_taken, LOCAL, 0 },
		{ "a second one, in line", second_in_line, STREAM, 0 },
		{ "alone", alone, STREAM, 0 },
		{ "and then the end", then_the_end, STREAM, 0 },
		{ "not for datagrams", not_for_datagrams, DGRAM | SEQ, 0 },
		{ 0 },
	};

	return obs_main(argc, argv, cases);
}
