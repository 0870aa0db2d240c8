/* SPDX-License-Identifier: MIT */
/* Observations as text, and the usual calls with theirs, see obs.h. */
#include "obs_impl.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdarg.h>
#include <stddef.h>

static uint16_t ports[64];
static unsigned ports_seen;

/* --- printing --- */

void note(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
}

static const char *errname(int err)
{
	const char *s = strerrorname_np(err);

	return s ? s : "E?";
}

long obs(const char *what, long rc)
{
	int err = errno;

	if (rc == -1)
		note("%s = -1 %s", what, errname(err));
	else
		note("%s = %ld", what, rc);
	errno = err;
	return rc;
}

uint32_t checksum(const void *buf, size_t n)
{
	const unsigned char *p = buf;
	uint32_t h = 2166136261u;

	while (n--)
		h = (h ^ *p++) * 16777619u;
	return h;
}

void obs_spell(char *to, size_t room, const unsigned char *p, long n)
{
	size_t at = 0;

	for (long i = 0; i < n && at + 5 < room; i++)
		at += (size_t)snprintf(to + at, room - at, isprint(p[i]) ? "%c" : "\\x%02x", p[i]);
	to[at] = 0;
}

void obs_bytes(const char *what, const void *buf, long n)
{
	char text[256];

	if (n < 0) {
		obs(what, n);
	} else if (n > 48) {
		note("%s = %ld #%08x", what, n, checksum(buf, (size_t)n));
	} else {
		obs_spell(text, sizeof(text), buf, n);
		note("%s = %ld \"%s\"", what, n, text);
	}
}

void obs_kind(uint32_t kind)
{
	const char *name = "?";

	for (size_t i = 0; i < obs_kinds_count; i++)
		if (obs_kinds[i].kind == kind)
			name = obs_kinds[i].name;
	note("kind: %s", name);
	ports_seen = 0;
}

static const char *port_name(uint16_t port)
{
	static char name[16];
	unsigned i;

	if (port == 0)
		return "0";
	for (i = 0; i < ports_seen && ports[i] != port; i++)
		;
	if (i == ports_seen && ports_seen < 64)
		ports[ports_seen++] = port;
	snprintf(name, sizeof(name), "P%u", i + 1);
	return name;
}

/* A path below our directory is DIR/..., one from name_any() DIR/NAME; an abstract name that we made is @NAME..., the kernel's @AUTO. */
static void spell_unix(char *to, size_t room, const struct sockaddr_un *un, socklen_t len)
{
	size_t n = len - offsetof(struct sockaddr_un, sun_path);
	const char *p = un->sun_path;

	bool ours = !strncmp(p, obs_dir_name, strlen(obs_dir_name));

	if (n == 0)
		snprintf(to, room, "unnamed");
	else if (ours && !strncmp(p + strlen(obs_dir_name), "/s.", 3))
		snprintf(to, room, "DIR/NAME");
	else if (p[0])
		snprintf(to, room, "%s%.*s", ours ? "DIR" : "", (int)strnlen(p, n), ours ? p + strlen(obs_dir_name) : p);
	else if (n == 6)
		snprintf(to, room, "@AUTO");
	else
		snprintf(to, room, "@NAME%.*s", (int)(n > 16 ? n - 16 : 0), p + 16);
}

void obs_addr(const char *what, const void *sa, socklen_t len)
{
	const struct sockaddr *a = sa;
	char ip[INET6_ADDRSTRLEN], text[160];

	if (len < sizeof(sa_family_t)) {
		note("%s: len=%u", what, len);
	} else if (a->sa_family == AF_INET) {
		inet_ntop(AF_INET, &((const struct sockaddr_in *)sa)->sin_addr, ip, sizeof(ip));
		note("%s: inet %s port %s len=%u", what, ip, port_name(ntohs(((const struct sockaddr_in *)sa)->sin_port)), len);
	} else if (a->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = sa;

		inet_ntop(AF_INET6, &in6->sin6_addr, ip, sizeof(ip));
		note("%s: inet6 %s port %s scope %u len=%u", what, ip, port_name(ntohs(in6->sin6_port)), in6->sin6_scope_id, len);
	} else if (a->sa_family == AF_UNIX) {
		spell_unix(text, sizeof(text), sa, len);
		note("%s: unix %s", what, text); /* the length varies with the directory */
	} else {
		note("%s: family %d len=%u", what, a->sa_family, len);
	}
}

void obs_events(const char *what, int rc, unsigned events)
{
	static const struct {
		unsigned bit;
		const char *name;
	} bits[] = {
		{ POLLIN, " IN" }, { POLLPRI, " PRI" }, { POLLOUT, " OUT" }, { POLLERR, " ERR" }, { POLLHUP, " HUP" },
		{ POLLNVAL, " NVAL" }, { POLLRDNORM, " RDNORM" }, { POLLRDBAND, " RDBAND" }, { POLLWRNORM, " WRNORM" },
		{ POLLWRBAND, " WRBAND" }, { POLLRDHUP, " RDHUP" },
	};
	char text[160] = "";

	if (rc < 0) {
		obs(what, rc);
		return;
	}
	for (size_t i = 0; i < sizeof(bits) / sizeof(bits[0]); i++)
		if (events & bits[i].bit)
			strcat(text, bits[i].name);
	note("%s = %d:%s", what, rc, text);
}

void obs_epoll(const char *what, int set, struct epoll_event *ev, int ms)
{
	int n = epoll_wait(set, ev, 1, ms);

	obs_events(what, n, n > 0 ? ev->events : 0);
}

/* --- the usual calls --- */

static const char *flag_names(int flags)
{
	static const struct {
		int bit;
		const char *name;
	} bits[] = {
		{ MSG_OOB, " OOB" }, { MSG_PEEK, " PEEK" }, { MSG_DONTWAIT, " DONTWAIT" }, { MSG_WAITALL, " WAITALL" },
		{ MSG_TRUNC, " TRUNC" }, { MSG_NOSIGNAL, " NOSIGNAL" }, { MSG_MORE, " MORE" },
	};
	static char text[100];

	text[0] = 0;
	for (size_t i = 0; i < sizeof(bits) / sizeof(bits[0]); i++)
		if (flags & bits[i].bit)
			strcat(text, bits[i].name);
	return text;
}

ssize_t obs_send(int fd, const char *text, int flags)
{
	char what[100];
	ssize_t rc = send(fd, text, strlen(text), flags);

	snprintf(what, sizeof(what), "send \"%s\"%s", text, flag_names(flags));
	obs(what, rc);
	return rc;
}

ssize_t obs_recv(int fd, size_t n, int flags)
{
	static char buf[70000];
	char what[100];
	ssize_t rc = recv(fd, buf, n, flags);
	int err = errno;
	long have = rc > (ssize_t)n ? (long)n : rc; /* MSG_TRUNC may say more than there is */

	snprintf(what, sizeof(what), "recv %zu%s", n, flag_names(flags));
	if (rc >= 0 && (flags & MSG_TRUNC)) {
		note("%s: says %zd", what, rc);
		return rc;
	}
	errno = err;
	obs_bytes(what, buf, have);
	errno = err;
	return rc;
}

void obs_poll(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };
	int rc = poll(&p, 1, 0);

	obs_events("poll", rc, (unsigned)p.revents);
}

void obs_poll_until(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };
	int rc = poll(&p, 1, PEER_PATIENCE_MS);

	obs_events("poll", rc, (unsigned)p.revents);
}

void settle(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	poll(&p, 1, PEER_PATIENCE_MS);
}

int obs_getopt(const char *what, int fd, int level, int name)
{
	int value = -77;
	socklen_t len = sizeof(value);
	int rc = getsockopt(fd, level, name, &value, &len);

	if (rc)
		obs(what, rc);
	else
		note("%s: %d len=%u", what, value, len);
	return value;
}

void obs_names(const char *who, int fd)
{
	struct sockaddr_storage sa = { 0 };
	socklen_t len = sizeof(sa);
	char what[100];
	int rc;

	snprintf(what, sizeof(what), "%s getsockname", who);
	rc = getsockname(fd, (struct sockaddr *)&sa, &len);
	if (rc)
		obs(what, rc);
	else
		obs_addr(what, &sa, len);
	len = sizeof(sa);
	snprintf(what, sizeof(what), "%s getpeername", who);
	rc = getpeername(fd, (struct sockaddr *)&sa, &len);
	if (rc)
		obs(what, rc);
	else
		obs_addr(what, &sa, len);
}
