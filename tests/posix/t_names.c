/* SPDX-License-Identifier: MIT */
/* ring: yes */
/* getsockname, getpeername, and the addresses that accept and bind show, for every kind. */
#include "obs.h"

#include <arpa/inet.h>
#include <stddef.h>
#include <sys/stat.h>

static void names_of_a_connection(struct obs *o)
{
	obs_names("mine", o->fd);
	peer(o, op_shutdown, SHUT_WR, 0);
	settle(o->fd);
	obs_names("after the peer's half-close", o->fd);
	peer(o, op_close, 0, 0);
	obs_names("after the peer's close", o->fd);
}

static long op_names(struct obs *o, long a, long b)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	struct obs_name n;

	(void)b;
	memset(&n, 0, sizeof(n));
	if (a ? getpeername(o->fd, (struct sockaddr *)&sa, &len) : getsockname(o->fd, (struct sockaddr *)&sa, &len))
		return -1;
	memcpy(&n.sa, &sa, len);
	n.len = len;
	name_hex(o->say, &n);
	return len;
}

/* What one end calls itself is what the other end sees. */
static void both_ends_agree(struct obs *o)
{
	struct obs_name mine, seen;
	socklen_t len = sizeof(mine.sa);

	memset(&mine, 0, sizeof(mine));
	name_get(o->fd, &mine);
	peer(o, op_names, 1, 0);
	name_unhex(&seen, o->say);
	note("my name: %d", seen.len == mine.len && !memcmp(&seen.sa, &mine.sa, seen.len));
	memset(&mine, 0, sizeof(mine));
	getpeername(o->fd, (struct sockaddr *)&mine.sa, &len);
	peer(o, op_names, 0, 0);
	name_unhex(&seen, o->say);
	note("its name: %d", seen.len == len && !memcmp(&seen.sa, &mine.sa, seen.len));
}

static void short_buffers(struct obs *o)
{
	unsigned char buf[200];

	for (socklen_t room = 0; room < 30; room += room < 4 ? 1 : 6) {
		socklen_t len = room;
		int rc;

		memset(buf, 0xee, sizeof(buf));
		rc = getsockname(o->fd, (struct sockaddr *)buf, &len);
		note("room %u: rc %d, says %s, writes no more: %d", room, rc,
		     o->domain == AF_UNIX ? "its length" : len == 16 ? "16" : len == 28 ? "28" : "other", buf[room] == 0xee);
		len = room;
		rc = getpeername(o->fd, (struct sockaddr *)buf, &len);
		note("room %u: rc %d, writes no more: %d", room, rc, buf[room] == 0xee);
	}
	socklen_t negative = (socklen_t)-1;
	obs("negative room", getsockname(o->fd, (struct sockaddr *)buf, &negative));
}

static void before_and_after(struct obs *o)
{
	static const uint32_t kinds[] = { TCP4, TCP6, MAPPED, UNIXP, UNIXA, SEQP, UDP4, UDP6, DGP, DGA };
	struct obs_name at;

	(void)o;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		int fd = sock_of(kinds[i], 0);

		obs_kind(kinds[i]);
		obs_names("fresh", fd);
		name_any(&at, kinds[i]);
		obs("bind", bind(fd, (struct sockaddr *)&at.sa, at.len));
		obs_names("bound", fd);
		obs("bind again", bind(fd, (struct sockaddr *)&at.sa, at.len));
		if (type_of(kinds[i]) != SOCK_DGRAM) {
			obs("listen", listen(fd, 3));
			obs_names("listening", fd);
		}
		close(fd);
	}
}

static void accepted(struct obs *o)
{
	static const uint32_t kinds[] = { TCP4, TCP6, MAPPED, UNIXP, UNIXA, SEQP };
	struct obs_name at;

	(void)o;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		int lfd = listener(kinds[i], 5, &at), c = sock_of(kinds[i], 0), a;
		struct sockaddr_storage sa;
		socklen_t len = sizeof(sa);

		obs_kind(kinds[i]);
		obs_addr("listener", &at.sa, at.len);
		obs("connect", connect(c, (struct sockaddr *)&at.sa, at.len));
		memset(&sa, 0xee, sizeof(sa));
		a = accept(lfd, (struct sockaddr *)&sa, &len);
		obs_addr("accept says", &sa, len);
		obs_names("caller", c);
		obs_names("accepted", a);
		close(c);
		close(a);
		c = sock_of(kinds[i], 0);
		connect(c, (struct sockaddr *)&at.sa, at.len);
		len = 4;
		memset(&sa, 0xee, sizeof(sa));
		a = accept(lfd, (struct sockaddr *)&sa, &len);
		note("with room 4: %s, writes no more: %d", a >= 0 ? "accepted" : "failed", ((unsigned char *)&sa)[4] == 0xee);
		close(c);
		close(a);
		close(lfd);
	}
}

/* A caller that has bound itself is seen under that name. */
static void bound_callers(struct obs *o)
{
	static const uint32_t kinds[] = { TCP4, TCP6, MAPPED, UNIXP, UNIXA, SEQP };
	struct obs_name at, me;

	(void)o;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		int lfd = listener(kinds[i], 5, &at), c = sock_of(kinds[i], 0), a;
		struct sockaddr_storage sa;
		socklen_t len = sizeof(sa);

		obs_kind(kinds[i]);
		obs_addr("listener", &at.sa, at.len);
		name_any(&me, kinds[i]);
		obs("bind", bind(c, (struct sockaddr *)&me.sa, me.len));
		obs_names("bound", c);
		obs("connect", connect(c, (struct sockaddr *)&at.sa, at.len));
		a = accept(lfd, (struct sockaddr *)&sa, &len);
		obs_addr("accept says", &sa, len);
		obs_names("caller", c);
		close(c);
		close(a);
		close(lfd);
	}
}

static void wildcards(struct obs *o)
{
	static const struct {
		int domain;
		const char *bind, *to;
		int to_domain;
		bool v6only;
	} rows[] = {
		{ AF_INET, "0.0.0.0", "127.0.0.1", AF_INET, false },
		{ AF_INET, "0.0.0.0", "127.0.0.2", AF_INET, false },
		{ AF_INET, "0.0.0.0", "0.0.0.0", AF_INET, false },
		{ AF_INET, "127.0.0.5", "127.0.0.5", AF_INET, false },
		{ AF_INET, "0.0.0.0", "::ffff:127.0.0.1", AF_INET6, false },
		{ AF_INET6, "::", "::1", AF_INET6, false },
		{ AF_INET6, "::", "127.0.0.1", AF_INET, false },
		{ AF_INET6, "::", "::ffff:127.0.0.1", AF_INET6, false },
		{ AF_INET6, "::", "::", AF_INET6, false },
		{ AF_INET6, "::", "::1", AF_INET6, true },
		{ AF_INET6, "::ffff:0.0.0.0", "127.0.0.1", AF_INET, false },
		{ AF_INET6, "::ffff:127.0.0.1", "127.0.0.1", AF_INET, false },
		{ AF_INET6, "::1", "::", AF_INET6, false },
	};

	(void)o;
	promise_ring();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct sockaddr_in6 at = { 0 }, to = { 0 }, from;
		int lfd = socket(rows[i].domain, SOCK_STREAM, 0), c = socket(rows[i].to_domain, SOCK_STREAM, 0), a, one = 1, off = 0, other;
		socklen_t len = sizeof(at);

		obs_kind(rows[i].domain == AF_INET ? TCP4 : TCP6);
		note("to %s at %s", rows[i].to, rows[i].bind);
		setsockopt(lfd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		if (rows[i].domain == AF_INET6)
			setsockopt(lfd, IPPROTO_IPV6, IPV6_V6ONLY, rows[i].v6only ? &one : &off, sizeof(one));
		at.sin6_family = (sa_family_t)rows[i].domain;
		inet_pton(rows[i].domain, rows[i].bind,
			  rows[i].domain == AF_INET ? (void *)&((struct sockaddr_in *)&at)->sin_addr : (void *)&at.sin6_addr);
		if (bind(lfd, (struct sockaddr *)&at, rows[i].domain == AF_INET ? sizeof(struct sockaddr_in) : sizeof(at)))
			obs("bind", -1);
		obs("listen", listen(lfd, 5));
		getsockname(lfd, (struct sockaddr *)&at, &len);
		obs_addr("listener", &at, len);
		to.sin6_family = (sa_family_t)rows[i].to_domain;
		inet_pton(rows[i].to_domain, rows[i].to,
			  rows[i].to_domain == AF_INET ? (void *)&((struct sockaddr_in *)&to)->sin_addr : (void *)&to.sin6_addr);
		to.sin6_port = at.sin6_port; /* at the same place in both */
		obs("connect", connect(c, (struct sockaddr *)&to,
				       rows[i].to_domain == AF_INET ? sizeof(struct sockaddr_in) : sizeof(to)));
		len = sizeof(from);
		nonblock(lfd, true);
		settle(lfd);
		a = accept(lfd, (struct sockaddr *)&from, &len);
		if (a < 0)
			obs("accept", a);
		else
			obs_addr("accept says", &from, len);
		obs_names("caller", c);
		obs_names("accepted", a);
		warm_pair(c, a);
		obs_names("caller that has talked much", c);
		obs_names("accepted", a);
		other = socket(rows[i].to_domain, SOCK_STREAM, 0);
		obs("bind to the same", bind(other, (struct sockaddr *)&to, rows[i].to_domain == AF_INET ? sizeof(struct sockaddr_in) : sizeof(to)));
		close(other);
		close(c);
		close(a);
		close(lfd);
	}
}

static void unix_names(struct obs *o)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	socklen_t head = offsetof(struct sockaddr_un, sun_path);
	char longest[109] = "";
	struct stat st;
	int fd = sock_of(UNIXP, 0);

	(void)o;
	obs("bind with a family only", bind(fd, (struct sockaddr *)&un, sizeof(sa_family_t)));
	obs_names("autobound", fd);
	close(fd);
	fd = sock_of(UNIXP, 0);
	snprintf(un.sun_path, sizeof(un.sun_path), "%s/file", obs_dir());
	obs("bind to a path", bind(fd, (struct sockaddr *)&un, (socklen_t)(head + strlen(un.sun_path)))); /* no final zero */
	obs_names("without final zero", fd);
	obs("stat", stat(un.sun_path, &st));
	note("a socket: %d", S_ISSOCK(st.st_mode));
	close(fd);
	obs("stat after close", stat(un.sun_path, &st));
	fd = sock_of(UNIXP, 0);
	obs("bind to what exists", bind(fd, (struct sockaddr *)&un, sizeof(un)));
	obs("unlink", unlink(un.sun_path));
	obs("bind", bind(fd, (struct sockaddr *)&un, sizeof(un)));
	obs("listen", listen(fd, 1));
	snprintf(un.sun_path, sizeof(un.sun_path), "%s/other", obs_dir());
	obs("bind twice", bind(fd, (struct sockaddr *)&un, sizeof(un)));
	obs("no such file", stat(un.sun_path, &st));
	close(fd);
	memset(un.sun_path, 'a', sizeof(un.sun_path));
	fd = sock_of(UNIXP, 0);
	if (chdir(obs_dir()))
		die("chdir");
	obs("path of 108", bind(fd, (struct sockaddr *)&un, sizeof(un)));
	memset(longest, 'a', 108);
	unlink(longest);
	close(fd);
}

/* A socket file that is renamed is still the same socket; a relative path works from elsewhere after chdir. */
static void moved_files(struct obs *o)
{
	struct obs_name at;
	struct sockaddr_un *un = (struct sockaddr_un *)&at.sa, rel = { .sun_family = AF_UNIX };
	int lfd = listener(UNIXP, 5, &at), c, a;
	char moved[120];

	(void)o;
	snprintf(moved, sizeof(moved), "%s/moved", obs_dir());
	obs("rename", rename(un->sun_path, moved));
	c = sock_of(UNIXP, 0);
	obs("connect to the old name", connect(c, (struct sockaddr *)&at.sa, at.len));
	obs("chdir", chdir(obs_dir()));
	strcpy(rel.sun_path, "moved");
	obs("connect to the new name", connect(c, (struct sockaddr *)&rel, sizeof(rel)));
	a = accept(lfd, NULL, NULL);
	obs_names("caller", c);
	obs("send", send(c, "x", 1, 0));
	obs_recv(a, 10, 0);
	obs("symlink", symlink("moved", "link"));
	close(c);
	c = sock_of(UNIXP, 0);
	strcpy(rel.sun_path, "link");
	obs("connect to a link", connect(c, (struct sockaddr *)&rel, sizeof(rel)));
	obs_names("caller", c);
}

int main(int argc, char **argv)
{
	static const struct obs_case cases[] = {
		{ "names of a connection", names_of_a_connection, EVERY_STREAM | EVERY_DGRAM | EVERY_SEQ, 0 },
		{ "both ends agree", both_ends_agree, EVERY_STREAM | EVERY_DGRAM | EVERY_SEQ, 0 },
		{ "short buffers", short_buffers, TCP4 | TCP6 | UNIXP | UDP4, COLD_ONLY },
		{ "names before and after bind", before_and_after, SOLO, 0 },
		{ "names that accept shows", accepted, SOLO, 0 },
		{ "names of callers that are bound", bound_callers, SOLO, 0 },
		{ "wildcards", wildcards, SOLO, 0 },
		{ "names in the local domain", unix_names, SOLO, 0 },
		{ "socket files that move", moved_files, SOLO, 0 },
		{ 0 },
	};

	return obs_main(argc, argv, cases);
}
