/* SPDX-License-Identifier: MIT */
/* ring: yes */
/* shutdown 0, 1, 2: half-close, end of file after the last byte, and what is left to do on either side. */
#include <sys/epoll.h>

#include "obs.h"

static void both_polls(struct obs *o)
{
	obs_poll(o->fd, POLLIN | POLLOUT | POLLRDHUP);
}

static long op_poll(struct obs *o, long events, long b)
{
	struct pollfd p = { .fd = o->fd, .events = (short)events };

	(void)b;
	return poll(&p, 1, 0) < 0 ? -1 : p.revents;
}

static void peer_polls(struct obs *o)
{
	obs_events("peer poll", 1, (unsigned)peer(o, op_poll, POLLIN | POLLOUT | POLLRDHUP, 0));
}

static void half_close(struct obs *o)
{
	obs_send(o->fd, "last words", 0);
	obs("shutdown 1", shutdown(o->fd, SHUT_WR));
	both_polls(o);
	peer_polls(o);
	obs("peer recv", peer(o, op_recv, 4, 0));
	note("peer has %s", o->say);
	obs("peer recv", peer(o, op_recv, 100, 0));
	note("peer has %s", o->say);
	obs("peer recv", peer(o, op_recv, 100, 0));
	obs("peer recv again", peer(o, op_recv, 100, 0));
	obs("peer answers", peer_text(o, op_puts, 0, "I still talk"));
	settle(o->fd);
	both_polls(o);
	obs_recv(o->fd, 100, 0);
	obs_send(o->fd, "x", MSG_NOSIGNAL);
	obs("shutdown 1 again", shutdown(o->fd, SHUT_WR));
	obs("peer shutdown 1", peer(o, op_shutdown, SHUT_WR, 0));
	settle(o->fd);
	obs_recv(o->fd, 100, 0);
	both_polls(o);
	peer_polls(o);
}

static void half_close_by_peer(struct obs *o)
{
	peer_text(o, op_puts, 0, "last words");
	obs("peer shutdown 1", peer(o, op_shutdown, SHUT_WR, 0));
	settle(o->fd);
	both_polls(o);
	obs_recv(o->fd, 5, 0);
	obs_recv(o->fd, 100, 0);
	both_polls(o);
	obs_recv(o->fd, 100, 0);
	obs_recv(o->fd, 100, MSG_DONTWAIT);
	obs_recv(o->fd, 100, MSG_PEEK);
	obs_send(o->fd, "answer", 0);
	obs("peer recv", peer(o, op_recv, 100, 0));
	note("peer has %s", o->say);
	peer_polls(o);
}

static void large_before_half_close(struct obs *o)
{
	peer_start(o, op_bulk_in, 5 << 20, 2);
	obs("out", bulk_out(o->fd, 3 << 20, 2));
	obs("shutdown", shutdown(o->fd, SHUT_WR));
	obs("peer got", peer_done(o));
	obs("peer back", peer(o, op_send, 1000, 0));
	obs("in", bulk_in(o->fd, 1000, 1));
}

static void reader_wakes_at_end(struct obs *o)
{
	peer_start(o, op_recv, 100, 0);
	note("blocks: %d", peer_asleep(o));
	shutdown(o->fd, SHUT_WR);
	obs("peer recv", peer_done(o));
	obs("peer recv", peer(o, op_recv, 100, 0));
}

static void shut_read(struct obs *o)
{
	obs("shutdown 0", shutdown(o->fd, SHUT_RD));
	both_polls(o);
	obs_recv(o->fd, 10, 0);
	obs_send(o->fd, "still out", 0);
	obs("peer recv", peer(o, op_recv, 100, 0));
	note("peer has %s", o->say);
}

/* After SHUT_RD the local domain refuses the peer's data; TCP takes it and a read still finds it. */
static void shut_read_then_peer_writes(struct obs *o)
{
	obs("shutdown 0", shutdown(o->fd, SHUT_RD));
	peer_polls(o);
	obs("peer send", peer_text(o, op_puts, MSG_NOSIGNAL, "to the deaf"));
	obs_recv(o->fd, 100, MSG_DONTWAIT);
	obs_recv(o->fd, 100, MSG_DONTWAIT);
}

static void shut_read_with_data_waiting(struct obs *o)
{
	peer_text(o, op_puts, 0, "early");
	settle(o->fd);
	obs("shutdown 0", shutdown(o->fd, SHUT_RD));
	both_polls(o);
	obs_recv(o->fd, 3, 0);
	obs_recv(o->fd, 100, 0);
	obs_recv(o->fd, 100, 0);
}

static void shut_both(struct obs *o)
{
	obs_send(o->fd, "bye", 0);
	obs("shutdown 2", shutdown(o->fd, SHUT_RDWR));
	both_polls(o);
	obs_recv(o->fd, 10, 0);
	obs_send(o->fd, "x", MSG_NOSIGNAL);
	peer_polls(o);
	obs("peer recv", peer(o, op_recv, 100, 0));
	note("peer has %s", o->say);
	obs("peer recv", peer(o, op_recv, 100, 0));
}

static void shut_both_then_peer_writes(struct obs *o)
{
	obs("shutdown 2", shutdown(o->fd, SHUT_RDWR));
	obs("peer recv", peer(o, op_recv, 100, 0));
	obs("peer send first", peer_text(o, op_puts, MSG_NOSIGNAL, "one"));
	obs("peer send second", peer_text(o, op_puts, MSG_NOSIGNAL, "two"));
	obs("peer recv", peer(o, op_recv, 100, 0));
	peer_polls(o);
}

static void *shut_thread(void *arg)
{
	struct obs *o = arg;
	int done[2];

	if (pipe(done) == 0 && thread_asleep(getpid(), getpid(), done[0]))
		shutdown(o->fd, SHUT_RDWR);
	return NULL;
}

static void shutdown_wakes_own_reader(struct obs *o)
{
	pthread_t t;

	pthread_create(&t, NULL, shut_thread, o);
	obs_recv(o->fd, 10, 0);
	pthread_join(t, NULL);
	obs_recv(o->fd, 10, 0);
}

static void shutdown_wakes_own_writer(struct obs *o)
{
	pthread_t t;
	long total = 0;
	ssize_t rc;
	static char buf[100000];

	pthread_create(&t, NULL, shut_thread, o);
	while ((rc = send(o->fd, buf, sizeof(buf), MSG_NOSIGNAL)) > 0)
		total += rc;
	obs("blocked send", rc);
	note("some went: %d", total > 0);
	pthread_join(t, NULL);
}

static int how_to_shut;

static void *shut_one_thread(void *arg)
{
	struct obs *o = arg;
	int done[2];

	if (pipe(done) == 0 && thread_asleep(getpid(), getpid(), done[0]))
		shutdown(o->fd, how_to_shut);
	return NULL;
}

static pthread_t shut_later(struct obs *o, int how)
{
	pthread_t t;

	how_to_shut = how;
	pthread_create(&t, NULL, shut_one_thread, o);
	return t;
}

static void shut_read_wakes_own_reader(struct obs *o)
{
	pthread_t t = shut_later(o, SHUT_RD);

	obs_recv(o->fd, 10, 0);
	pthread_join(t, NULL);
	obs_recv(o->fd, 10, 0);
	obs_send(o->fd, "still out", 0);
	obs("peer recv", peer(o, op_recv, 100, 0));
	obs("peer shutdown 1", peer(o, op_shutdown, SHUT_WR, 0));
	both_polls(o);
}

/* And then much is written, which needs the peer's word that there is room. */
static void shut_read_then_write_much(struct obs *o)
{
	pthread_t t = shut_later(o, SHUT_RD);

	obs_recv(o->fd, 10, 0);
	pthread_join(t, NULL);
	peer_start(o, op_bulk_in, 3 << 20, 3);
	obs("out", bulk_out(o->fd, 3 << 20, 3));
	obs("peer got", peer_done(o));
}

static void shut_write_wakes_own_writer(struct obs *o)
{
	pthread_t t = shut_later(o, SHUT_WR);
	static char buf[100000];
	ssize_t rc;

	while ((rc = send(o->fd, buf, sizeof(buf), MSG_NOSIGNAL)) > 0)
		;
	obs("blocked send", rc);
	pthread_join(t, NULL);
	peer_start(o, op_sink, 0, 0);
	note("peer reads something: %d", peer_done(o) > 0);
	peer_text(o, op_puts, 0, "answer");
	settle(o->fd);
	obs_recv(o->fd, 100, 0);
}

/* The peer answers when it has seen the end. */
static void *shut_and_ask(void *arg)
{
	struct obs *o = arg;
	int done[2];

	if (pipe(done) == 0 && thread_asleep(getpid(), getpid(), done[0]))
		shutdown(o->fd, SHUT_WR);
	obs("peer recv", peer(o, op_recv, 10, 0));
	peer_text(o, op_puts, 0, "answer");
	return NULL;
}

static void shut_write_beside_reader(struct obs *o)
{
	struct pollfd p = { .fd = o->fd, .events = POLLIN };
	char buf[10];
	pthread_t t;
	ssize_t n;

	pthread_create(&t, NULL, shut_and_ask, o);
	n = recv(o->fd, buf, sizeof(buf), 0);
	pthread_join(t, NULL);
	obs_bytes("recv", buf, n);
	peer_start(o, op_bulk_out, 1 << 20, 5);
	obs("in", bulk_in(o->fd, 1 << 20, 5));
	obs("peer out", peer_done(o));
	peer_start(o, op_shutdown, SHUT_WR, 0);
	obs_events("poll", poll(&p, 1, (int)deadline_ms()), (unsigned short)p.revents);
	obs("peer shutdown 1", peer_done(o));
	obs_recv(o->fd, 10, 0);
}

static void shut_write_beside_poll(struct obs *o)
{
	struct pollfd p = { .fd = o->fd, .events = POLLIN };
	pthread_t t;
	int rc;

	pthread_create(&t, NULL, shut_and_ask, o);
	rc = poll(&p, 1, (int)deadline_ms());
	pthread_join(t, NULL);
	obs_events("poll", rc, (unsigned short)p.revents);
	obs_recv(o->fd, 10, 0);
}

static void wakes_poll(struct obs *o)
{
	static const short wanted[] = { POLLIN, POLLRDHUP, POLLIN | POLLRDHUP };

	for (int how = 0; how < 3; how += 2) {
		struct pollfd p = { .fd = o->fd, .events = wanted[how] };
		pthread_t t = shut_later(o, how);

		int rc = poll(&p, 1, (int)deadline_ms());

		obs_events("poll", rc, (unsigned short)p.revents);
		pthread_join(t, NULL);
		obs_recv(o->fd, 10, 0);
	}
}

static void wakes_epoll(struct obs *o, int how)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.u64 = 5 };
	int set = epoll_create1(0), rc;
	pthread_t t;

	epoll_ctl(set, EPOLL_CTL_ADD, o->fd, &ev);
	obs("nothing yet", epoll_wait(set, &ev, 1, 0));
	t = shut_later(o, how);
	rc = epoll_wait(set, &ev, 1, (int)deadline_ms());
	obs_events("woken", rc, ev.events);
	pthread_join(t, NULL);
	epoll_wait(set, &ev, 1, 0); /* the kernel's TCP wakes twice, and now and then each is told */
	obs("told no more", epoll_wait(set, &ev, 1, 0));
	obs_recv(o->fd, 10, 0);
	close(set);
}

static void shut_read_wakes_epoll(struct obs *o)
{
	wakes_epoll(o, SHUT_RD);
}

static void shut_both_wakes_epoll(struct obs *o)
{
	wakes_epoll(o, SHUT_RDWR);
}

static void bad_arguments(struct obs *o)
{
	obs("shutdown 3", shutdown(o->fd, 3));
	obs("shutdown -1", shutdown(o->fd, -1));
	obs("shutdown 99 of a file", shutdown(STDIN_FILENO, 99));
	obs("shutdown of nothing", shutdown(-1, SHUT_RD));
	obs_send(o->fd, "alive", 0);
	obs("peer recv", peer(o, op_recv, 100, 0));
}

static void write_shut_after_peer_left(struct obs *o)
{
	peer(o, op_close, 0, 0);
	settle(o->fd);
	both_polls(o);
	obs("shutdown 1", shutdown(o->fd, SHUT_WR));
	obs("shutdown 0", shutdown(o->fd, SHUT_RD));
	obs("shutdown 2", shutdown(o->fd, SHUT_RDWR));
	obs_recv(o->fd, 10, 0);
	both_polls(o);
}

static void both_half_close(struct obs *o)
{
	obs_send(o->fd, "from here", 0);
	shutdown(o->fd, SHUT_WR);
	peer_text(o, op_puts, 0, "from there");
	peer(o, op_shutdown, SHUT_WR, 0);
	obs_recv(o->fd, 100, MSG_WAITALL);
	obs("peer recv", peer(o, op_recv, 100, MSG_WAITALL));
	both_polls(o);
	peer_polls(o);
	obs("shutdown 2", shutdown(o->fd, SHUT_RDWR));
	obs("shutdown 2 again", shutdown(o->fd, SHUT_RDWR));
}

static void unconnected(struct obs *o)
{
	static const uint32_t kinds[] = { TCP4, TCP6, UNIXP, UDP4, UDP6, DGP, SEQP };

	(void)o;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		int fd = sock_of(kinds[i], 0);

		obs_kind(kinds[i]);
		obs("shutdown 0", shutdown(fd, SHUT_RD));
		obs("shutdown 1", shutdown(fd, SHUT_WR));
		obs("shutdown 2", shutdown(fd, SHUT_RDWR));
		close(fd);
	}
}

static void of_a_listener(struct obs *o)
{
	static const uint32_t kinds[] = { TCP4, TCP6, UNIXP, UNIXA };
	struct obs_name at;

	(void)o;
	for (size_t i = 0; i < 4; i++) {
		int fd = listener(kinds[i], 5, &at);

		obs_kind(kinds[i]);
		obs_poll(fd, POLLIN | POLLOUT);
		obs("shutdown 0", shutdown(fd, SHUT_RD));
		obs_poll(fd, POLLIN | POLLOUT);
		obs("accept", accept4(fd, NULL, NULL, SOCK_NONBLOCK));
		close(fd);
	}
}

static void *shut_listener_thread(void *arg)
{
	if (thread_asleep(getpid(), getpid(), -1))
		shutdown(*(int *)arg, SHUT_RDWR);
	return NULL;
}

static void of_a_listener_wakes_accept(struct obs *o)
{
	static const uint32_t kinds[] = { TCP4, TCP6, UNIXP };
	struct obs_name at;
	pthread_t t;

	(void)o;
	for (size_t i = 0; i < 3; i++) {
		int fd = listener(kinds[i], 5, &at);

		pthread_create(&t, NULL, shut_listener_thread, &fd);
		obs("blocked accept", accept(fd, NULL, NULL));
		pthread_join(t, NULL);
		close(fd);
	}
}

static void seqpacket_half_close(struct obs *o)
{
	obs_send(o->fd, "record", 0);
	obs("shutdown 1", shutdown(o->fd, SHUT_WR));
	peer_polls(o);
	obs("peer recv", peer(o, op_recv, 100, 0));
	obs("peer recv", peer(o, op_recv, 100, 0));
	obs("peer send", peer_text(o, op_puts, 0, "back"));
	obs_recv(o->fd, 100, 0);
	obs_send(o->fd, "x", MSG_NOSIGNAL);
}

int main(int argc, char **argv)
{
	static const struct obs_case cases[] = {
		{ "half-close", half_close, EVERY_STREAM, THREADS },
		{ "half-close by the peer", half_close_by_peer, STREAM, 0 },
		{ "much data before a half-close", large_before_half_close, STREAM, THREADS },
		{ "a blocked reader sees the end", reader_wakes_at_end, STREAM, THREADS },
		{ "shutdown 0", shut_read, STREAM, 0 },
		{ "shutdown 0, then the peer writes", shut_read_then_peer_writes, STREAM, 0 },
		{ "shutdown 0 with data waiting", shut_read_with_data_waiting, STREAM, 0 },
		{ "shutdown 2", shut_both, STREAM, 0 },
		{ "shutdown 2, then the peer writes", shut_both_then_peer_writes, STREAM, 0 },
		{ "shutdown 2 wakes a reader of the same socket", shutdown_wakes_own_reader, STREAM, 0 },
		{ "shutdown 2 wakes a writer of the same socket", shutdown_wakes_own_writer, STREAM, 0 },
		{ "shutdown 0 wakes a reader of the same socket", shut_read_wakes_own_reader, STREAM, 0 },
		{ "shutdown 0 wakes a reader, who then writes much", shut_read_then_write_much, STREAM, 0 },
		{ "shutdown 1 while another thread reads", shut_write_beside_reader, EVERY_STREAM, 0 },
		{ "shutdown 1 while another thread polls", shut_write_beside_poll, EVERY_STREAM, 0 },
		{ "shutdown 1 wakes a writer of the same socket", shut_write_wakes_own_writer, STREAM, 0 },
		{ "shutdown wakes poll", wakes_poll, STREAM, 0 },
		{ "shutdown 0 wakes epoll", shut_read_wakes_epoll, STREAM, 0 },
		{ "shutdown 2 wakes epoll", shut_both_wakes_epoll, STREAM, 0 },
		{ "bad arguments", bad_arguments, STREAM, 0 },
		{ "shutdown after the peer has left", write_shut_after_peer_left, STREAM, 0 },
		{ "both half-close", both_half_close, STREAM, 0 },
		{ "unconnected sockets", unconnected, SOLO, 0 },
		{ "shutdown of a listener", of_a_listener, SOLO, 0 },
		{ "shutdown of a listener wakes accept", of_a_listener_wakes_accept, SOLO, 0 },
		{ "half-close of a seqpacket", seqpacket_half_close, SEQ, 0 },
		{ 0 },
	};

	return obs_main(argc, argv, cases);
}
