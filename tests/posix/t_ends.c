/* SPDX-License-Identifier: MIT */
/* ring: yes */
/* Ends of connections, one after another: every order of three of shutdown, send, recv and close on both sides, and what is seen then. */
#include "obs.h"

#define ROUNDS 40 /* there and back: hot */

struct ends {
	int fd[2];
	char line[300];
	size_t len;
};

static const char steps[] = "abcsrkABCSRK"; /* shutdown 0, 1, 2; send; recv; close; capitals: the other side */

static void say(struct ends *e, const char *text)
{
	size_t n = strlen(text);

	if (e->len + n < sizeof(e->line)) {
		memcpy(e->line + e->len, text, n + 1);
		e->len += n;
	}
}

static const char *error_word(int error)
{
	switch (error) {
	case EPIPE:
		return "PIPE";
	case ECONNRESET:
		return "RESET";
	case EAGAIN:
		return "AGAIN";
	case ENOTCONN:
		return "NOTCONN";
	case 0:
		return "0";
	default:
		return "other";
	}
}

static void say_rc(struct ends *e, char what, long rc)
{
	char word[32];

	if (rc >= 0)
		snprintf(word, sizeof(word), " %c=%ld", what, rc);
	else
		snprintf(word, sizeof(word), " %c=%s", what, error_word(errno));
	say(e, word);
}

static void say_poll(struct ends *e, char what, int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT | POLLRDHUP };
	char word[32];

	poll(&p, 1, 0);
	snprintf(word, sizeof(word), " %c=%s%s%s%s%s", what, p.revents & POLLIN ? "i" : "", p.revents & POLLOUT ? "o" : "",
		 p.revents & POLLRDHUP ? "r" : "", p.revents & POLLHUP ? "h" : "", p.revents & POLLERR ? "e" : "");
	say(e, word);
}

static void say_error(struct ends *e, char what, int fd)
{
	int error = -1;
	socklen_t len = sizeof(error);
	char word[32];

	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
	snprintf(word, sizeof(word), " %c=%s", what, error_word(error));
	say(e, word);
}

static long peer_name(int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	return getpeername(fd, (struct sockaddr *)&ss, &len);
}

static void step(struct ends *e, char what)
{
	bool other = what < 'a';
	int *fd = &e->fd[other];
	char buf[16];

	if (*fd < 0) /* closed before */
		return;
	switch (what | 0x20) {
	case 'a':
	case 'b':
	case 'c':
		say_rc(e, what, shutdown(*fd, (what | 0x20) - 'a'));
		break;
	case 's':
		say_rc(e, what, send(*fd, "ab", 2, MSG_NOSIGNAL | MSG_DONTWAIT));
		break;
	case 'r':
		say_rc(e, what, recv(*fd, buf, 1, MSG_DONTWAIT));
		break;
	case 'k':
		say_rc(e, what, close(*fd));
		*fd = -1;
		break;
	case 'p':
		say_poll(e, what, *fd);
		break;
	case 'e':
		say_error(e, what, *fd);
		break;
	case 'n':
		say_rc(e, what, peer_name(*fd));
		break;
	}
}

static void round_trips(const int fd[2], int n)
{
	char byte;

	for (int i = 0; i < n; i++)
		if (send(fd[0], "x", 1, 0) != 1 || recv(fd[1], &byte, 1, 0) != 1 || send(fd[1], "y", 1, 0) != 1 || recv(fd[0], &byte, 1, 0) != 1)
			die("round trip");
}

static void connect_ends(struct ends *e, uint32_t kind, int lfd, const struct obs_name *at)
{
	if (kind & (PAIR | SEQPAIR)) {
		if (socketpair(AF_UNIX, type_of(kind), 0, e->fd))
			die("socketpair");
		return;
	}
	e->fd[0] = sock_of(kind, 0);
	if (connect(e->fd[0], (const struct sockaddr *)&at->sa, at->len))
		die("connect");
	e->fd[1] = accept(lfd, NULL, NULL);
	if (e->fd[1] < 0)
		die("accept");
	for (int i = 0, on = 1; i < 2 && (kind & TCP); i++) /* or a byte waits for the answer to the one before */
		setsockopt(e->fd[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

static void one(uint32_t kind, bool hot, const char *three, int lfd, const struct obs_name *at, const char *seen)
{
	struct ends e = { .len = 0 };

	connect_ends(&e, kind, lfd, at);
	if (hot)
		round_trips(e.fd, ROUNDS);
	for (const char *s = three; *s; s++)
		step(&e, *s);
	say(&e, " ..");
	for (; *seen; seen++)
		step(&e, *seen);
	note("%s:%s", three, e.line);
	for (int i = 0; i < 2; i++)
		if (e.fd[i] >= 0)
			close(e.fd[i]);
}

/* What a connection in the kernel lane cannot tell (docs/compat.md): that data was left unread behind our end of stream, and that the peer
 * wrote to who had shut both ways when it is closed meanwhile. */
static bool is_untold(uint32_t kind, const char *three)
{
	static const char *const untold[] = { "bSk", "sBK", "sCK", "cSK" };

	for (size_t i = 0; i < sizeof(untold) / sizeof(untold[0]) && (kind & TCP); i++)
		if (strcmp(three, untold[i]) == 0)
			return true;
	return false;
}

static void all_orders(uint32_t kind, bool hot)
{
	static const char *const seen[] = { "pPrRpPsSpPrRsS", "nNeEpPsSabcABC", "RrSsPpeErR", "SSPprRssPpE" };
	struct obs_name at = { .len = 0 };
	int lfd = kind & (PAIR | SEQPAIR) ? -1 : listener(kind, 5, &at), n = 0;

	for (int i = 0; i < 6; i++) /* the other half is the same with the sides changed */
		for (int k = 0; steps[k]; k++)
			for (int j = 0; steps[j]; j++) {
				char three[4] = { steps[i], steps[k], steps[j], 0 };

				if (!is_untold(kind, three))
					one(kind, hot, three, lfd, &at, seen[n++ % 4]);
			}
	if (lfd >= 0)
		close(lfd);
}

#define CASE(name, kind, hot)                     \
	static void name(struct obs *o)           \
	{                                         \
		(void)o;                          \
		if (hot)                          \
			promise_ring();           \
		all_orders(kind, hot);            \
	}
CASE(tcp_cold, TCP4, false)
CASE(tcp_hot, TCP4, true)
CASE(unix_cold, UNIXP, false)
CASE(unix_hot, UNIXP, true)
CASE(seq_cold, SEQPAIR, false)
CASE(seq_hot, SEQPAIR, true)

int main(int argc, char **argv)
{
	static const struct obs_case cases[] = {
		{ "all orders, tcp, cold", tcp_cold, SOLO, SLOW },
		{ "all orders, tcp, hot", tcp_hot, SOLO, SLOW },
		{ "all orders, unix, cold", unix_cold, SOLO, SLOW },
		{ "all orders, unix, hot", unix_hot, SOLO, SLOW },
		{ "all orders, seqpacket, cold", seq_cold, SOLO, SLOW },
		{ "all orders, seqpacket, hot", seq_hot, SOLO, SLOW },
		{ 0 },
	};

	return obs_main(argc, argv, cases);
}
