/* SPDX-License-Identifier: MIT */
/* The case runner and the peer of the differential tests, see obs.h. */
#include "obs.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <ftw.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>

#define CONTROL_FD 300 /* control pipes live from here up, so that tests see ordinary low numbers */
#define PEER_PATIENCE_MS 4000
#define CASE_PATIENCE_S 6
#define SLOW_PATIENCE_S 16

struct request {
	int64_t op, a, b; /* op: distance of the function from obs_main(), the same in every process of this program */
	char text[600];
};

struct reply {
	int64_t rc, err;
	char text[2000];
};

static const struct {
	uint32_t kind;
	const char *name;
	int domain, type;
} kinds[] = {
	{ TCP4, "tcp4", AF_INET, SOCK_STREAM },
	{ TCP4C, "tcp4-client", AF_INET, SOCK_STREAM },
	{ TCP6, "tcp6", AF_INET6, SOCK_STREAM },
	{ MAPPED, "tcp-mapped", AF_INET6, SOCK_STREAM },
	{ UNIXP, "unix", AF_UNIX, SOCK_STREAM },
	{ UNIXC, "unix-client", AF_UNIX, SOCK_STREAM },
	{ UNIXA, "unix-abstract", AF_UNIX, SOCK_STREAM },
	{ PAIR, "pair", AF_UNIX, SOCK_STREAM },
	{ UDP4, "udp4", AF_INET, SOCK_DGRAM },
	{ UDP6, "udp6", AF_INET6, SOCK_DGRAM },
	{ UDPMAP, "udp-mapped", AF_INET6, SOCK_DGRAM },
	{ DGP, "unix-dgram", AF_UNIX, SOCK_DGRAM },
	{ DGA, "abstract-dgram", AF_UNIX, SOCK_DGRAM },
	{ DGPAIR, "pair-dgram", AF_UNIX, SOCK_DGRAM },
	{ SEQP, "unix-seqpacket", AF_UNIX, SOCK_SEQPACKET },
	{ SEQA, "abstract-seqpacket", AF_UNIX, SOCK_SEQPACKET },
	{ SEQPAIR, "pair-seqpacket", AF_UNIX, SOCK_SEQPACKET },
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static char dir[64];
static char self[512];
static unsigned names_made;
static uint16_t ports[64];
static unsigned ports_seen;
volatile sig_atomic_t obs_signals;

/* --- small things --- */

int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ll + ts.tv_nsec / 1000000;
}

int64_t deadline_ms(void)
{
	return now_ms() + PEER_PATIENCE_MS;
}

void die(const char *what)
{
	fprintf(stderr, "obs: %s: %s\n", what, strerror(errno));
	note("the test itself failed: %s", what);
	exit(99);
}

const char *obs_dir(void)
{
	return dir;
}

int domain_of(uint32_t kind)
{
	for (size_t i = 0; i < KINDS; i++)
		if (kinds[i].kind == kind)
			return kinds[i].domain;
	return -1;
}

int type_of(uint32_t kind)
{
	for (size_t i = 0; i < KINDS; i++)
		if (kinds[i].kind == kind)
			return kinds[i].type;
	return -1;
}

void nonblock(int fd, bool on)
{
	int fl = fcntl(fd, F_GETFL);

	if (fl < 0 || fcntl(fd, F_SETFL, on ? fl | O_NONBLOCK : fl & ~O_NONBLOCK) < 0)
		die("O_NONBLOCK");
}

void linger(int fd, int seconds)
{
	struct linger l = { .l_onoff = 1, .l_linger = seconds };

	if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)))
		die("SO_LINGER");
}

static void on_signal(int sig)
{
	(void)sig;
	obs_signals++;
}

void count_signal(int sig, int sa_flags)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = sa_flags };

	obs_signals = 0;
	sigaction(sig, &sa, NULL);
}

pid_t obs_fork(void)
{
	pid_t parent = getpid(), pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(0);
	}
	return pid;
}

int obs_wait(pid_t pid)
{
	int64_t end = deadline_ms();
	int status;
	pid_t got;

	while ((got = waitpid(pid, &status, WNOHANG)) == 0 && now_ms() < end)
		usleep(500);
	if (got != pid) {
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		return -1;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

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

static void spell(char *to, size_t room, const unsigned char *p, long n)
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
		spell(text, sizeof(text), buf, n);
		note("%s = %ld \"%s\"", what, n, text);
	}
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

/* A path below our directory is DIR/..., one from name_any() DIR/NAME, an abstract name that we made is @NAME..., one that the kernel made is @AUTO. */
static void spell_unix(char *to, size_t room, const struct sockaddr_un *un, socklen_t len)
{
	size_t n = len - offsetof(struct sockaddr_un, sun_path);
	const char *p = un->sun_path;

	bool ours = !strncmp(p, dir, strlen(dir));

	if (n == 0)
		snprintf(to, room, "unnamed");
	else if (ours && !strncmp(p + strlen(dir), "/s.", 3))
		snprintf(to, room, "DIR/NAME");
	else if (p[0])
		snprintf(to, room, "%s%.*s", ours ? "DIR" : "", (int)strnlen(p, n), ours ? p + strlen(dir) : p);
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

/* --- bulk data --- */

void pattern(void *buf, size_t n, uint64_t pos, unsigned seed)
{
	unsigned char *p = buf;

	for (size_t i = 0; i < n; i++, pos++)
		p[i] = (unsigned char)(pos * 131 + (pos >> 8) * 17 + (pos >> 16) * 29 + seed);
}

static void wait_for(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	poll(&p, 1, PEER_PATIENCE_MS);
}

long bulk_out(int fd, long n, unsigned seed)
{
	static _Thread_local unsigned char buf[65536];
	long done = 0;

	while (done < n) {
		size_t want = (size_t)(n - done) < sizeof(buf) ? (size_t)(n - done) : sizeof(buf);
		ssize_t rc;

		pattern(buf, want, (uint64_t)done, seed);
		rc = send(fd, buf, want, MSG_NOSIGNAL);
		if (rc < 0 && errno == EAGAIN)
			wait_for(fd, POLLOUT);
		else if (rc < 0)
			return -1;
		else
			done += rc;
	}
	return done;
}

long bulk_in(int fd, long n, unsigned seed)
{
	static _Thread_local unsigned char buf[65536], want[65536];
	long done = 0;

	while (done < n) {
		size_t room = (size_t)(n - done) < sizeof(buf) ? (size_t)(n - done) : sizeof(buf);
		ssize_t rc = recv(fd, buf, room, 0);

		if (rc < 0 && errno == EAGAIN) {
			wait_for(fd, POLLIN);
			continue;
		}
		if (rc < 0)
			return -1;
		if (rc == 0)
			break;
		pattern(want, (size_t)rc, (uint64_t)done, seed);
		if (memcmp(buf, want, (size_t)rc)) {
			errno = EBADMSG;
			return -1;
		}
		done += rc;
	}
	return done;
}

/* --- names and sockets --- */

void name_any(struct obs_name *n, uint32_t kind)
{
	struct sockaddr_un *un = (struct sockaddr_un *)&n->sa;

	memset(n, 0, sizeof(*n));
	n->sa.ss_family = (sa_family_t)domain_of(kind);
	if (domain_of(kind) == AF_INET) {
		((struct sockaddr_in *)&n->sa)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		n->len = sizeof(struct sockaddr_in);
	} else if (domain_of(kind) == AF_INET6) {
		inet_pton(AF_INET6, kind & (MAPPED | UDPMAP) ? "::ffff:127.0.0.1" : "::1", &((struct sockaddr_in6 *)&n->sa)->sin6_addr);
		n->len = sizeof(struct sockaddr_in6);
	} else if (kind & (UNIXA | DGA | SEQA)) {
		n->len = (socklen_t)offsetof(struct sockaddr_un, sun_path);
		n->len += (socklen_t)snprintf(un->sun_path + 1, 100, "obs-%08d-%02u", getpid(), names_made++ % 100) + 1;
	} else {
		snprintf(un->sun_path, sizeof(un->sun_path), "%s/s.%d.%u", dir, getpid(), names_made++);
		n->len = sizeof(*un);
	}
}

int sock_of(uint32_t kind, int extra)
{
	int fd = socket(domain_of(kind), type_of(kind) | extra, 0);

	if (fd < 0)
		die("socket");
	return fd;
}

void name_get(int fd, struct obs_name *n)
{
	memset(n, 0, sizeof(*n));
	n->len = sizeof(n->sa);
	if (getsockname(fd, (struct sockaddr *)&n->sa, &n->len))
		die("getsockname");
}

int listener(uint32_t kind, int backlog, struct obs_name *at)
{
	int fd = sock_of(kind, 0), one = 1;

	name_any(at, kind);
	if (domain_of(kind) != AF_UNIX)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&at->sa, at->len) || listen(fd, backlog))
		die("listen");
	name_get(fd, at);
	return fd;
}

void name_hex(char *to, const struct obs_name *n)
{
	for (socklen_t i = 0; i < n->len; i++)
		sprintf(to + 2 * i, "%02x", ((const unsigned char *)&n->sa)[i]);
	to[2 * n->len] = 0;
}

void name_unhex(struct obs_name *n, const char *from)
{
	memset(n, 0, sizeof(*n));
	for (; from[2 * n->len]; n->len++)
		sscanf(from + 2 * n->len, "%2hhx", (unsigned char *)&n->sa + n->len);
}

/* --- stock operations of the peer --- */

void obs_say(struct obs *o, const char *fmt, ...)
{
	size_t have = strlen(o->say);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(o->say + have, sizeof(((struct reply *)0)->text) - have, fmt, ap);
	va_end(ap);
}

long op_send(struct obs *o, long n, long flags)
{
	static unsigned char buf[1 << 20];

	pattern(buf, (size_t)n, 0, 1);
	return send(o->fd, buf, (size_t)n, (int)flags);
}

long op_recv(struct obs *o, long n, long flags)
{
	static unsigned char buf[1 << 20];
	long rc = recv(o->fd, buf, (size_t)n, (int)flags);
	int err = errno;
	char text[256];

	if (rc > 48) {
		obs_say(o, "#%08x", checksum(buf, (size_t)rc));
	} else if (rc >= 0) {
		spell(text, sizeof(text), buf, rc);
		obs_say(o, "\"%s\"", text);
	}
	errno = err;
	return rc;
}

long op_puts(struct obs *o, long flags, long b)
{
	(void)b;
	return send(o->fd, o->text, strlen(o->text), (int)flags);
}

long op_close(struct obs *o, long a, long b)
{
	int fd = o->fd;

	(void)a;
	(void)b;
	o->fd = -1;
	return close(fd);
}

long op_shutdown(struct obs *o, long how, long b)
{
	(void)b;
	return shutdown(o->fd, (int)how);
}

long op_nonblock(struct obs *o, long on, long b)
{
	(void)b;
	nonblock(o->fd, on);
	return 0;
}

long op_bulk_out(struct obs *o, long n, long seed)
{
	return bulk_out(o->fd, n, (unsigned)seed);
}

long op_bulk_in(struct obs *o, long n, long seed)
{
	return bulk_in(o->fd, n, (unsigned)seed);
}

long op_sink(struct obs *o, long a, long b)
{
	static char buf[65536];
	long sum = 0;
	ssize_t rc;

	(void)a;
	(void)b;
	while ((rc = recv(o->fd, buf, sizeof(buf), 0)) > 0)
		sum += rc;
	return rc < 0 ? -1 : sum;
}

long op_linger(struct obs *o, long seconds, long b)
{
	(void)b;
	linger(o->fd, (int)seconds);
	return 0;
}

long op_rst(struct obs *o, long a, long b)
{
	linger(o->fd, 0);
	return op_close(o, a, b);
}

long op_echo(struct obs *o, long count, long n)
{
	char buf[4096];

	for (long i = 0; i < count; i++) {
		ssize_t rc = recv(o->fd, buf, (size_t)n, o->type == SOCK_STREAM ? MSG_WAITALL : 0);

		if (rc != n || send(o->fd, buf, (size_t)n, 0) != n)
			return -1;
	}
	return count;
}

long op_connect_to(struct obs *o, long extra, long b)
{
	struct obs_name n;

	(void)b;
	name_unhex(&n, o->text);
	if (o->fd < 0)
		o->fd = socket(o->domain, o->type | (int)extra, 0);
	return connect(o->fd, (struct sockaddr *)&n.sa, n.len);
}

/* --- warm-up --- */

void warm(struct obs *o)
{
	char out[16] = "warm-up message", in[16];

	peer_start(o, op_echo, OBS_WARM, sizeof(out));
	for (int i = 0; i < OBS_WARM; i++) {
		if (send(o->fd, out, sizeof(out), 0) != sizeof(out))
			die("warm-up send");
		if (recv(o->fd, in, sizeof(in), o->type == SOCK_STREAM ? MSG_WAITALL : 0) != sizeof(in))
			die("warm-up recv");
		if (memcmp(in, out, sizeof(in)))
			note("warm-up: wrong bytes");
	}
	if (peer_done(o) != OBS_WARM)
		die("warm-up echo");
}

struct echo_args {
	int fd;
	int type;
};

static void *echo_thread(void *arg)
{
	struct echo_args *e = arg;
	struct obs o = { .fd = e->fd, .type = e->type };

	op_echo(&o, OBS_WARM, 16);
	return NULL;
}

void warm_pair(int a, int b)
{
	struct echo_args e = { .fd = b };
	socklen_t len = sizeof(e.type);
	char buf[16] = "warm-up message";
	pthread_t t;

	getsockopt(a, SOL_SOCKET, SO_TYPE, &e.type, &len);
	pthread_create(&t, NULL, echo_thread, &e);
	for (int i = 0; i < OBS_WARM; i++)
		if (send(a, buf, 16, 0) != 16 || recv(a, buf, 16, e.type == SOCK_STREAM ? MSG_WAITALL : 0) != 16)
			die("warm-up in one process");
	pthread_join(t, NULL);
}

/* --- the peer: driver's side --- */

static void put(int fd, const void *buf, size_t n)
{
	if (write(fd, buf, n) != (ssize_t)n)
		die("control pipe");
}

static bool get(int fd, void *buf, size_t n)
{
	size_t have = 0;
	ssize_t rc;

	while (have < n) {
		rc = read(fd, (char *)buf + have, n - have);
		if (rc < 0 && errno == EINTR)
			continue;
		if (rc <= 0)
			return false;
		have += (size_t)rc;
	}
	return true;
}

static void get_in_time(struct obs *o, void *buf, size_t n)
{
	struct pollfd p = { .fd = o->rep, .events = POLLIN };
	int64_t end = deadline_ms();
	int rc;

	while ((rc = poll(&p, 1, (int)(end > now_ms() ? end - now_ms() : 0))) < 0 && errno == EINTR)
		;
	if (rc == 0) {
		note("the peer does not come back");
		exit(98);
	}
	if (!get(o->rep, buf, n)) {
		note("the peer has died");
		exit(97);
	}
}

static char last_reply[sizeof(((struct reply *)0)->text)];

void peer_start_text(struct obs *o, obs_op *op, long a, const char *text)
{
	struct request r = { .op = (int64_t)((intptr_t)op - (intptr_t)obs_main), .a = a };
	char started;

	snprintf(r.text, sizeof(r.text), "%s", text);
	put(o->req, &r, sizeof(r));
	get_in_time(o, &started, 1);
}

void peer_start(struct obs *o, obs_op *op, long a, long b)
{
	struct request r = { .op = (int64_t)((intptr_t)op - (intptr_t)obs_main), .a = a, .b = b };
	char started;

	put(o->req, &r, sizeof(r));
	get_in_time(o, &started, 1);
}

long peer_done(struct obs *o)
{
	static struct reply r;

	get_in_time(o, &r, sizeof(r));
	memcpy(last_reply, r.text, sizeof(r.text));
	o->say = last_reply;
	errno = (int)r.err;
	return r.rc;
}

long peer(struct obs *o, obs_op *op, long a, long b)
{
	peer_start(o, op, a, b);
	return peer_done(o);
}

long peer_text(struct obs *o, obs_op *op, long a, const char *text)
{
	peer_start_text(o, op, a, text);
	return peer_done(o);
}

/* Asleep: the state letter is S five times in a row. One look could catch a short nap on the way. */
bool thread_asleep(pid_t pid, pid_t tid, int done_fd)
{
	char path[64], buf[512], *p;
	int64_t end = deadline_ms();
	struct pollfd pf = { .fd = done_fd, .events = POLLIN };
	int fd, seen = 0;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, tid);
	while (seen < 5 && now_ms() < end) {
		if (done_fd >= 0 && poll(&pf, 1, 0) == 1)
			return false;
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return false;
		n = read(fd, buf, sizeof(buf) - 1);
		close(fd);
		buf[n > 0 ? n : 0] = 0;
		p = strrchr(buf, ')');
		seen = p && p[2] == 'S' ? seen + 1 : 0;
		usleep(1000);
	}
	return seen == 5;
}

bool peer_asleep(struct obs *o)
{
	return thread_asleep(o->thread ? getpid() : o->pid, o->pid, o->rep);
}

/* --- the peer: its own side --- */

static void peer_loop(struct obs *o)
{
	struct request rq;
	struct reply *rp = calloc(1, sizeof(*rp));
	int32_t tid = (int32_t)syscall(SYS_gettid);

	put(o->rep, &tid, sizeof(tid));
	while (rp && get(o->req, &rq, sizeof(rq))) {
		obs_op *op = (obs_op *)((intptr_t)obs_main + (intptr_t)rq.op);

		memset(rp, 0, sizeof(*rp));
		o->text = rq.text;
		o->say = rp->text;
		put(o->rep, "s", 1);
		errno = 0;
		rp->rc = op(o, (long)rq.a, (long)rq.b);
		rp->err = errno;
		put(o->rep, rp, sizeof(*rp));
	}
	free(rp);
}

static void *peer_thread(void *arg)
{
	peer_loop(arg);
	return NULL;
}

/* argv: --peer REQ REP FD KIND DIR */
static int peer_process(char **argv)
{
	struct obs o = { .req = atoi(argv[2]), .rep = atoi(argv[3]), .fd = atoi(argv[4]), .kind = (uint32_t)strtoul(argv[5], NULL, 10) };

	snprintf(dir, sizeof(dir), "%s", argv[6]);
	o.domain = domain_of(o.kind);
	o.type = type_of(o.kind);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	peer_loop(&o);
	return 0;
}

static void peer_exec(const struct obs *o, const char *through)
{
	char words[256], num[4][16], *argv[32];
	int n = 0;

	snprintf(words, sizeof(words), "%s", through);
	for (char *w = strtok(words, " "); w && n < 20; w = strtok(NULL, " "))
		argv[n++] = w;
	snprintf(num[0], 16, "%d", o->req);
	snprintf(num[1], 16, "%d", o->rep);
	snprintf(num[2], 16, "%d", o->fd);
	snprintf(num[3], 16, "%u", o->kind);
	argv[n++] = self;
	argv[n++] = (char *)"--peer";
	for (int i = 0; i < 4; i++)
		argv[n++] = num[i];
	argv[n++] = dir;
	argv[n] = NULL;
	execvp(argv[0], argv);
	die("exec of the peer");
}

static int high(int fd)
{
	int up = fcntl(fd, F_DUPFD, CONTROL_FD);

	if (up < 0)
		die("F_DUPFD");
	close(fd);
	return up;
}

/* Starts the peer with its end `fd` (-1: none yet); the caller's o->fd is not inherited. */
static void peer_begin(struct obs *o, int fd)
{
	const char *through = getenv("OBS_PEER_EXEC");
	static struct obs theirs;
	int a[2], b[2];
	pthread_t t;
	int32_t tid;

	if (pipe(a) || pipe(b))
		die("pipe");
	theirs = *o;
	theirs.req = high(a[0]);
	theirs.rep = high(b[1]);
	o->req = high(a[1]);
	o->rep = high(b[0]);
	theirs.fd = fd;
	if (o->thread) {
		pthread_create(&t, NULL, peer_thread, &theirs);
		pthread_detach(t);
	} else if ((o->pid = obs_fork()) == 0) {
		close(o->req);
		close(o->rep);
		if (o->fd >= 0)
			close(o->fd);
		if (through)
			peer_exec(&theirs, through);
		peer_loop(&theirs);
		exit(0);
	} else {
		close(theirs.req);
		close(theirs.rep);
		if (fd >= 0)
			close(fd);
	}
	get_in_time(o, &tid, sizeof(tid));
	o->pid = tid;
}

/* Ends the peer: exit statuses and lane counts come out before the case is over. */
static void peer_end(struct obs *o)
{
	int rc;

	close(o->req);
	if (!o->thread && (rc = obs_wait(o->pid)) != 0)
		note("the peer ended with %d", rc);
}

/* --- connections --- */

static long op_bind_any(struct obs *o, long a, long b)
{
	struct obs_name n;

	(void)a;
	(void)b;
	o->fd = sock_of(o->kind, 0);
	name_any(&n, o->kind);
	if (bind(o->fd, (struct sockaddr *)&n.sa, n.len))
		return -1;
	name_get(o->fd, &n);
	name_hex(o->say, &n);
	return 0;
}

static long op_listen_any(struct obs *o, long a, long b)
{
	struct obs_name n;

	(void)a;
	(void)b;
	o->fd = listener(o->kind, 5, &n);
	name_hex(o->say, &n);
	return 0;
}

static long op_accept_swap(struct obs *o, long a, long b)
{
	int lfd = o->fd;

	(void)a;
	(void)b;
	o->fd = accept(lfd, NULL, NULL);
	close(lfd);
	return o->fd < 0 ? -1 : 0;
}

static void connect_dgram(struct obs *o)
{
	struct obs_name mine, theirs;
	char hex[300];

	o->fd = sock_of(o->kind, 0);
	name_any(&mine, o->kind);
	if (bind(o->fd, (struct sockaddr *)&mine.sa, mine.len))
		die("bind");
	name_get(o->fd, &mine);
	if (peer(o, op_bind_any, 0, 0))
		die("peer's bind");
	name_unhex(&theirs, o->say);
	name_hex(hex, &mine);
	if (connect(o->fd, (struct sockaddr *)&theirs.sa, theirs.len) || peer_text(o, op_connect_to, 0, hex))
		die("connect");
}

static void connect_stream(struct obs *o)
{
	struct obs_name at;
	char hex[300];
	int lfd;

	if (o->kind & (TCP4C | UNIXC)) {
		peer(o, op_listen_any, 0, 0);
		name_unhex(&at, o->say);
		o->fd = sock_of(o->kind, 0);
		if (connect(o->fd, (struct sockaddr *)&at.sa, at.len) || peer(o, op_accept_swap, 0, 0))
			die("connect");
		return;
	}
	lfd = listener(o->kind, 5, &at);
	name_hex(hex, &at);
	if (peer_text(o, op_connect_to, 0, hex))
		die("peer's connect");
	o->fd = accept(lfd, NULL, NULL);
	if (o->fd < 0)
		die("accept");
	close(lfd);
}

static void connection(struct obs *o)
{
	int sv[2];

	o->fd = -1;
	if (o->kind & (PAIR | DGPAIR | SEQPAIR)) {
		if (socketpair(AF_UNIX, o->type, 0, sv))
			die("socketpair");
		o->fd = sv[0];
		peer_begin(o, sv[1]);
	} else {
		peer_begin(o, -1);
		if (o->type == SOCK_DGRAM)
			connect_dgram(o);
		else
			connect_stream(o);
	}
	if (o->hot)
		warm(o);
}

/* --- cases --- */

static void case_process(const struct obs_case *c, struct obs *o)
{
	if (getenv("OBS_TRACE") && o->kind != SOLO && o->hot && !(c->flags & NO_RING))
		fprintf(stderr, "obs: pid=%d ring expected\n", getpid());
	if (o->kind != SOLO) {
		connection(o);
		c->run(o);
		peer_end(o);
	} else {
		o->kind = 0;
		c->run(o);
	}
	exit(0);
}

static void case_one(const struct obs_case *c, struct obs *o, const char *kind)
{
	const char *only = getenv("OBS_ONLY");
	int64_t end = now_ms() + (c->flags & SLOW ? SLOW_PATIENCE_S : CASE_PATIENCE_S) * 1000;
	char title[200];
	int status;
	pid_t pid;

	snprintf(title, sizeof(title), "%s [%s%s%s]", c->title, kind, o->kind == SOLO ? "" : o->hot ? " hot" : " cold",
		 o->thread ? " thread" : "");
	if (only && !strstr(title, only))
		return;
	note("== %s", title);
	if (getenv("OBS_TRACE"))
		fprintf(stderr, "obs: case %s\n", title);
	pid = obs_fork();
	if (pid == 0)
		case_process(c, o);
	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (now_ms() > end) {
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
			note("-- too late");
			return;
		}
		usleep(300);
	}
	if (WIFSIGNALED(status))
		note("-- killed by SIG%s", sigabbrev_np(WTERMSIG(status)));
	else if (WEXITSTATUS(status))
		note("-- exit %d", WEXITSTATUS(status));
}

static int unlink_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	remove(path);
	return 0;
}

static void case_all(const struct obs_case *c)
{
	if (c->kinds & SOLO)
		case_one(c, &(struct obs){ .kind = SOLO, .fd = -1 }, "solo");
	for (size_t i = 0; i < KINDS; i++) {
		struct obs o = { .kind = kinds[i].kind, .domain = kinds[i].domain, .type = kinds[i].type, .fd = -1 };

		if (!(c->kinds & o.kind))
			continue;
		if (!(c->flags & HOT_ONLY))
			case_one(c, &o, kinds[i].name);
		o.hot = true;
		if (!(c->flags & COLD_ONLY))
			case_one(c, &o, kinds[i].name);
		o.thread = true;
		if (c->flags & THREADS)
			case_one(c, &o, kinds[i].name);
	}
}

int obs_main(int argc, char **argv, const struct obs_case *cases)
{
	const char *tmp = getenv("TMPDIR");
	ssize_t n;

	setvbuf(stdout, NULL, _IOFBF, 65536);
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	self[n > 0 ? n : 0] = 0;
	signal(SIGPIPE, SIG_DFL);
	if (argc == 7 && !strcmp(argv[1], "--peer"))
		return peer_process(argv);
	if (argc > 1) {
		fprintf(stderr, "usage: %s (see obs.h for its environment)\n", argv[0]);
		return 2;
	}
	snprintf(dir, sizeof(dir), "%.40s/obs-XXXXXX", tmp && strlen(tmp) < 40 ? tmp : "/tmp");
	if (!mkdtemp(dir))
		die(dir);
	for (const struct obs_case *c = cases; c->title; c++)
		case_all(c);
	nftw(dir, unlink_one, 8, FTW_DEPTH | FTW_PHYS);
	return 0;
}
