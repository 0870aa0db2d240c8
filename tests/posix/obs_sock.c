/* SPDX-License-Identifier: MIT */
/* Kinds, names and sockets, bulk data, processes, signals, see obs.h. */
#include "obs_impl.h"

#include <arpa/inet.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>

const struct obs_kind obs_kinds[] = {
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
const size_t obs_kinds_count = sizeof(obs_kinds) / sizeof(obs_kinds[0]);

char obs_dir_name[64];
volatile sig_atomic_t obs_signals;
static unsigned names_made;

/* --- small things --- */

int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ll + ts.tv_nsec / 1000000;
}

void obs_stop(pid_t pid)
{
	int status;

	if (kill(pid, SIGSTOP) || waitpid(pid, &status, WUNTRACED) != pid || !WIFSTOPPED(status))
		die("it does not stop");
}

int epoll_on(int fd, uint32_t events)
{
	struct epoll_event ev = { .events = events };
	int set = epoll_create1(0);

	if (set < 0 || epoll_ctl(set, EPOLL_CTL_ADD, fd, &ev))
		die("epoll");
	return set;
}

int epoll_whole(int set, struct epoll_event *ev)
{
	int rc;

	do {
		rc = epoll_wait(set, ev, 1, -1);
	} while (rc < 0 && errno == EINTR);
	return rc;
}

int64_t peer_patience_ms = PEER_PATIENCE_MS;

int64_t deadline_ms(void)
{
	return now_ms() + peer_patience_ms;
}

void many_descriptors(void)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

void die(const char *what)
{
	fprintf(stderr, "obs: %s: %s\n", what, strerror(errno));
	note("the test itself failed: %s", what);
	exit(99);
}

const char *obs_dir(void)
{
	return obs_dir_name;
}

int domain_of(uint32_t kind)
{
	for (size_t i = 0; i < obs_kinds_count; i++)
		if (obs_kinds[i].kind == kind)
			return obs_kinds[i].domain;
	return -1;
}

int type_of(uint32_t kind)
{
	for (size_t i = 0; i < obs_kinds_count; i++)
		if (obs_kinds[i].kind == kind)
			return obs_kinds[i].type;
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

ssize_t pass_fd(int over, int fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	struct iovec v = { (void *)"x", 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	return sendmsg(over, &m, 0);
}

int passed_fd(int over)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	char x;
	struct iovec v = { &x, 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control) };
	int fd = -1;

	if (recvmsg(over, &m, 0) == 1 && CMSG_FIRSTHDR(&m))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
	return fd;
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
		snprintf(un->sun_path, sizeof(un->sun_path), "%s/s.%d.%u", obs_dir_name, getpid(), names_made++);
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
