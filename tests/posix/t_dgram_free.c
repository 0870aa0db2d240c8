/* SPDX-License-Identifier: MIT */
/* ring: yes */
/* Datagram sockets that are not connected: sendto and recvfrom among several, refusal, a change of mind about the peer. */
#include "obs.h"

#include <arpa/inet.h>

static const uint32_t kinds[] = { UDP4, UDP6, UDPMAP, DGP, DGA };
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static int bound(uint32_t kind, struct obs_name *at)
{
	int fd = sock_of(kind, 0);

	name_any(at, kind);
	if (bind(fd, (struct sockaddr *)&at->sa, at->len))
		die("bind");
	name_get(fd, at);
	return fd;
}

static long op_free(struct obs *o, long a, long b)
{
	struct obs_name at;

	(void)a;
	(void)b;
	if (o->fd >= 0)
		close(o->fd);
	o->fd = bound(o->kind, &at);
	name_hex(o->say, &at);
	return 0;
}

/* text: where to. Sends n datagrams and awaits an answer to each. */
static long op_chat(struct obs *o, long n, long b)
{
	struct obs_name to, from;
	char buf[100];
	long i;

	(void)b;
	name_unhex(&to, o->text);
	for (i = 0; i < n; i++) {
		int len = snprintf(buf, sizeof(buf), "question %ld", i);

		if (sendto(o->fd, buf, (size_t)len, 0, (struct sockaddr *)&to.sa, to.len) != len)
			return -1;
		from.len = sizeof(from.sa);
		if (recvfrom(o->fd, buf, sizeof(buf), 0, (struct sockaddr *)&from.sa, &from.len) != len + 1)
			return -1;
		if (from.len != to.len || memcmp(&from.sa, &to.sa, to.len))
			return -2;
	}
	return i;
}

/* A server that answers to whoever asks; one client, chatty. */
static void ask_and_answer(struct obs *o)
{
	struct obs_name at, from, client;
	char buf[100], hex[300];
	int wrong = 0;

	close(o->fd);
	o->fd = bound(o->kind, &at);
	peer(o, op_free, 0, 0);
	name_unhex(&client, o->say);
	name_hex(hex, &at);
	peer_start_text(o, op_chat, 600, hex);
	for (int i = 0; i < 600; i++) {
		ssize_t n;

		from.len = sizeof(from.sa);
		n = recvfrom(o->fd, buf, sizeof(buf), 0, (struct sockaddr *)&from.sa, &from.len);
		wrong += from.len != client.len || memcmp(&from.sa, &client.sa, from.len);
		buf[n > 0 ? n : 0] = '!';
		wrong += sendto(o->fd, buf, (size_t)n + 1, 0, (struct sockaddr *)&from.sa, from.len) != n + 1;
	}
	obs("peer", peer_done(o));
	note("wrong: %d", wrong);
}

static void three_senders(struct obs *o)
{
	struct obs_name at, from;
	char buf[20];

	(void)o;
	for (size_t k = 0; k < KINDS; k++) {
		int fd = bound(kinds[k], &at);

		obs_kind(kinds[k]);
		for (int i = 0; i < 3; i++) {
			struct obs_name me;
			int c = bound(kinds[k], &me);

			obs("sendto", sendto(c, &"hi there"[i], 8 - (size_t)i, 0, (struct sockaddr *)&at.sa, at.len));
			from.len = sizeof(from.sa);
			obs_bytes("recvfrom", buf, recvfrom(fd, buf, sizeof(buf), 0, (struct sockaddr *)&from.sa, &from.len));
			note("from it: %d", from.len == me.len && !memcmp(&from.sa, &me.sa, me.len));
			obs("answer", sendto(fd, "yes", 3, 0, (struct sockaddr *)&from.sa, from.len));
			obs_recv(c, 10, 0);
			close(c);
		}
		close(fd);
	}
}

static void unbound_sender(struct obs *o)
{
	struct obs_name at, from;
	char buf[20];

	(void)o;
	for (size_t k = 0; k < KINDS; k++) {
		int fd = bound(kinds[k], &at), c = sock_of(kinds[k], 0);

		obs_kind(kinds[k]);
		obs_addr("server", &at.sa, at.len);
		obs_names("before", c);
		obs("sendto", sendto(c, "hi", 2, 0, (struct sockaddr *)&at.sa, at.len));
		obs_names("after", c);
		memset(&from, 0xee, sizeof(from));
		from.len = sizeof(from.sa);
		obs("recvfrom", recvfrom(fd, buf, sizeof(buf), 0, (struct sockaddr *)&from.sa, &from.len));
		obs_addr("from", &from.sa, from.len);
		if (domain_of(kinds[k]) != AF_UNIX) {
			obs("answer", sendto(fd, "yes", 3, 0, (struct sockaddr *)&from.sa, from.len));
			obs_recv(c, 10, 0);
		}
		close(c);
		close(fd);
	}
}

static void nobody_there(struct obs *o)
{
	struct obs_name at;

	(void)o;
	for (size_t k = 0; k < KINDS; k++) {
		int c = sock_of(kinds[k], 0);

		obs_kind(kinds[k]);
		close(bound(kinds[k], &at));
		obs("sendto", sendto(c, "hi", 2, 0, (struct sockaddr *)&at.sa, at.len));
		obs("sendto", sendto(c, "hi", 2, 0, (struct sockaddr *)&at.sa, at.len));
		obs("connect", connect(c, (struct sockaddr *)&at.sa, at.len));
		obs("send", send(c, "hi", 2, 0));
		obs("send", send(c, "hi", 2, 0));
		obs_getopt("SO_ERROR", c, SOL_SOCKET, SO_ERROR);
		obs("send", send(c, "hi", 2, 0));
		obs_poll(c, POLLIN | POLLOUT);
		obs_recv(c, 10, MSG_DONTWAIT);
		obs_recv(c, 10, MSG_DONTWAIT);
		close(c);
	}
}

/* A connected datagram socket hears only its peer (internet; and local strangers are refused). */
static void strangers_are_not_heard(struct obs *o)
{
	struct obs_name a, b, s;

	(void)o;
	for (size_t k = 0; k < KINDS; k++) {
		int fa = bound(kinds[k], &a), fb = bound(kinds[k], &b), fs = bound(kinds[k], &s);

		obs_kind(kinds[k]);
		obs("connect", connect(fa, (struct sockaddr *)&b.sa, b.len));
		obs("stranger", sendto(fs, "psst", 4, 0, (struct sockaddr *)&a.sa, a.len));
		obs_recv(fa, 10, MSG_DONTWAIT);
		obs("friend", sendto(fb, "hello", 5, 0, (struct sockaddr *)&a.sa, a.len));
		obs_recv(fa, 10, 0);
		obs("sendto elsewhere", sendto(fa, "x", 1, 0, (struct sockaddr *)&s.sa, s.len));
		obs_recv(fs, 10, MSG_DONTWAIT);
		close(fa);
		close(fb);
		close(fs);
	}
}

static void early_messages_are_kept(struct obs *o)
{
	struct obs_name a, b;

	(void)o;
	for (size_t k = 0; k < KINDS; k++) {
		int fa = bound(kinds[k], &a), fb = bound(kinds[k], &b);

		obs_kind(kinds[k]);
		obs("sendto", sendto(fb, "early", 5, 0, (struct sockaddr *)&a.sa, a.len));
		obs("connect", connect(fa, (struct sockaddr *)&b.sa, b.len));
		obs_recv(fa, 10, 0);
		close(fa);
		close(fb);
	}
}

static void change_of_mind(struct obs *o)
{
	struct sockaddr unspec = { .sa_family = AF_UNSPEC };
	struct obs_name a, b, c;

	(void)o;
	for (size_t k = 0; k < KINDS; k++) {
		int fa = bound(kinds[k], &a), fb = bound(kinds[k], &b), fc = bound(kinds[k], &c);

		obs_kind(kinds[k]);
		obs_addr("a", &a.sa, a.len);
		obs_addr("b", &b.sa, b.len);
		obs_addr("c", &c.sa, c.len);
		obs("connect", connect(fa, (struct sockaddr *)&b.sa, b.len));
		obs_send(fa, "to b", 0);
		obs_recv(fb, 10, 0);
		obs("connect", connect(fa, (struct sockaddr *)&c.sa, c.len));
		obs_names("a", fa);
		obs_send(fa, "to c", 0);
		obs_recv(fc, 10, 0);
		obs_recv(fb, 10, MSG_DONTWAIT);
		obs("disconnect", connect(fa, &unspec, sizeof(unspec)));
		obs_names("a", fa);
		obs_send(fa, "nowhere", 0);
		if (domain_of(kinds[k]) == AF_UNIX)
			obs("from b", sendto(fb, "again", 5, 0, (struct sockaddr *)&a.sa, a.len));
		close(fa);
		close(fb);
		close(fc);
	}
}

/* The same, after the pair has been hot. */
static void change_of_mind_when_hot(struct obs *o)
{
	struct sockaddr unspec = { .sa_family = AF_UNSPEC };
	struct obs_name c, mine;
	int fc = bound(o->kind, &c);

	name_get(o->fd, &mine);
	obs("connect", connect(o->fd, (struct sockaddr *)&c.sa, c.len));
	obs_send(o->fd, "to c", 0);
	obs_recv(fc, 10, 0);
	obs("peer recv", peer(o, op_recv, 10, MSG_DONTWAIT));
	if (o->domain == AF_UNIX) {
		obs("peer send", peer_text(o, op_puts, MSG_NOSIGNAL, "still yours"));
	} else {
		obs("disconnect", connect(o->fd, &unspec, sizeof(unspec)));
		obs("third", sendto(fc, "from c", 6, 0, (struct sockaddr *)&mine.sa, mine.len));
	}
	settle(o->fd);
	obs_recv(o->fd, 100, MSG_DONTWAIT);
	close(fc);
}

/* A third party reaches the socket in the middle of a hot pair's talk: messages of both come. */
static void third_party_when_hot(struct obs *o)
{
	struct sockaddr unspec = { .sa_family = AF_UNSPEC };
	struct obs_name mine;
	struct obs_name c;
	int fc = bound(o->kind, &c);

	name_get(o->fd, &mine);
	obs("disconnect", connect(o->fd, &unspec, sizeof(unspec)));
	if (o->domain == AF_INET || o->domain == AF_INET6) {
		struct obs_name now;

		name_get(o->fd, &now);
		note("still bound: %d", now.len == mine.len && !memcmp(&now.sa, &mine.sa, now.len));
	}
	obs("peer send", peer_text(o, op_puts, 0, "from the peer"));
	obs_recv(o->fd, 100, MSG_DONTWAIT);
	obs("third", sendto(fc, "from c", 6, 0, (struct sockaddr *)&mine.sa, mine.len));
	obs_recv(o->fd, 100, MSG_DONTWAIT);
	obs("peer send", peer_text(o, op_puts, 0, "the peer again"));
	obs_recv(o->fd, 100, MSG_DONTWAIT);
	close(fc);
}

static void wildcard_server(struct obs *o)
{
	struct sockaddr_in at = { .sin_family = AF_INET }, from;
	socklen_t len = sizeof(at);
	int fd = socket(AF_INET, SOCK_DGRAM, 0), c = socket(AF_INET, SOCK_DGRAM, 0);
	char buf[10];

	(void)o;
	obs("bind", bind(fd, (struct sockaddr *)&at, sizeof(at)));
	getsockname(fd, (struct sockaddr *)&at, &len);
	obs_addr("server", &at, len);
	inet_pton(AF_INET, "127.0.0.3", &at.sin_addr);
	obs("connect", connect(c, (struct sockaddr *)&at, sizeof(at)));
	obs_names("client", c);
	obs_send(c, "hi", 0);
	len = sizeof(from);
	obs("recvfrom", recvfrom(fd, buf, sizeof(buf), 0, (struct sockaddr *)&from, &len));
	obs_addr("from", &from, len);
	/* the answer leaves from another address than was asked, so a connected client does not hear it */
	obs("answer", sendto(fd, "yes", 3, 0, (struct sockaddr *)&from, len));
	obs_recv(c, 10, MSG_DONTWAIT);
	close(fd);
	close(c);
}

static void broadcast(struct obs *o)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_BROADCAST) };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	(void)o;
	obs("sendto without SO_BROADCAST", sendto(fd, "x", 1, 0, (struct sockaddr *)&to, sizeof(to)));
	obs("connect", connect(fd, (struct sockaddr *)&to, sizeof(to)));
	close(fd);
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	to.sin_port = 0;
	obs("sendto port 0", sendto(fd, "x", 1, 0, (struct sockaddr *)&to, sizeof(to)));
	obs("sendto, short address", sendto(fd, "x", 1, 0, (struct sockaddr *)&to, 8));
	to.sin_family = AF_UNIX;
	obs("sendto, wrong family", sendto(fd, "x", 1, 0, (struct sockaddr *)&to, sizeof(to)));
	obs("sendto, no address", sendto(fd, "x", 1, 0, NULL, 0));
	obs("listen", listen(fd, 5));
	obs("accept", accept(fd, NULL, NULL));
	close(fd);
}

int main(int argc, char **argv)
{
	static const struct obs_case cases[] = {
		{ "ask and answer", ask_and_answer, EVERY_DGRAM & ~DGPAIR, NO_RING },
		{ "three senders", three_senders, SOLO, 0 },
		{ "an unbound sender", unbound_sender, SOLO, 0 },
		{ "nobody there", nobody_there, SOLO, 0 },
		{ "strangers", strangers_are_not_heard, SOLO, 0 },
		{ "early messages are kept", early_messages_are_kept, SOLO, 0 },
		{ "a change of peer", change_of_mind, SOLO, 0 },
		{ "a change of peer when hot", change_of_mind_when_hot, UDP | DGP, HOT_ONLY },
		{ "a third party when hot", third_party_when_hot, UDP, HOT_ONLY },
		{ "a wildcard server", wildcard_server, SOLO, 0 },
		{ "misuse", broadcast, SOLO, 0 },
		{ 0 },
	};

	return obs_main(argc, argv, cases);
}
