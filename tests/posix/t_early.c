/* SPDX-License-Identifier: MIT */
/*
 * A client that connects often, and does something else between socket() and connect() for once: the socket that it was given must be the
 * internet's in every respect (src/sock/early.c).
 */
#include "obs.h"

#include <sched.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define HABIT 600 /* connections that make one of it */

struct place {
	uint32_t kind;
	int listener;
	struct obs_name at;
};

static void call_once(struct place *p, int fd)
{
	char c = 'x';
	int a;

	if (connect(fd, (struct sockaddr *)&p->at.sa, p->at.len))
		die("connect");
	a = accept(p->listener, NULL, NULL);
	if (send(fd, &c, 1, 0) != 1 || recv(a, &c, 1, 0) != 1)
		die("one byte");
	close(a);
	close(fd);
}

static void make_a_habit(struct place *p, uint32_t kind)
{
	p->kind = kind;
	p->listener = listener(kind, 16, &p->at);
	for (int i = 0; i < HABIT; i++)
		call_once(p, sock_of(kind, 0));
}

/* What can be seen of a socket that is not connected, and what becomes of it. */
static void goes_on(struct place *p, int fd)
{
	int a;

	obs_kind(p->kind);
	obs_getopt("SO_DOMAIN", fd, SOL_SOCKET, SO_DOMAIN);
	obs_getopt("TCP_NODELAY", fd, IPPROTO_TCP, TCP_NODELAY);
	obs_names("before", fd);
	obs("connect", connect(fd, (struct sockaddr *)&p->at.sa, p->at.len));
	a = accept(p->listener, NULL, NULL);
	obs_names("after", fd);
	obs_getopt("TCP_NODELAY", fd, IPPROTO_TCP, TCP_NODELAY);
	note("blocks: %d, closed by exec: %d", !(fcntl(fd, F_GETFL) & O_NONBLOCK), fcntl(fd, F_GETFD));
	obs_send(fd, "there", 0);
	obs_recv(a, 10, 0);
	obs_send(a, "back", 0);
	obs_recv(fd, 10, 0);
	close(a);
	obs_recv(fd, 10, 0);
	close(fd);
}

static ino_t file_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? 0 : st.st_ino;
}

/* The kernel's sockets stay what they are; one whose place the carrier takes in connect() would be another file then. */
static void same_file(struct obs *o)
{
	struct place p;
	int same = 0;

	(void)o;
	for (int v6 = 0; v6 < 2; v6++) {
		make_a_habit(&p, v6 ? TCP6 : TCP4);
		for (int i = 0; i < 100; i++) {
			int fd = sock_of(p.kind, i & 1 ? SOCK_CLOEXEC : 0), a;
			ino_t file = file_of(fd);

			connect(fd, (struct sockaddr *)&p.at.sa, p.at.len);
			same += file == file_of(fd);
			a = accept(p.listener, NULL, NULL);
			close(fd);
			close(a);
		}
		note("of 100 the same file: %d", same);
		same = 0;
		close(p.listener);
	}
}

static void set(int fd, int level, int name, int value, socklen_t len)
{
	obs("setsockopt", setsockopt(fd, level, name, &value, len));
}

static void options(struct obs *o)
{
	static const struct {
		int level, name, value;
		socklen_t len;
	} tried[] = {
		{ IPPROTO_TCP, TCP_NODELAY, 1, sizeof(int) }, { IPPROTO_TCP, TCP_NODELAY, 1, 2 }, { IPPROTO_TCP, TCP_KEEPIDLE, 0, sizeof(int) },
		{ IPPROTO_TCP, TCP_KEEPIDLE, 77, sizeof(int) }, { SOL_SOCKET, SO_KEEPALIVE, 5, sizeof(int) },
		{ SOL_SOCKET, SO_REUSEADDR, 1, sizeof(int) }, { SOL_SOCKET, SO_SNDBUF, 30000, sizeof(int) },
		{ IPPROTO_TCP, TCP_MAXSEG, 536, sizeof(int) }, { SOL_SOCKET, SO_PASSCRED, 1, sizeof(int) }, { SOL_SOCKET, 4711, 1, sizeof(int) },
	};
	struct place p;

	(void)o;
	for (int v6 = 0; v6 < 2; v6++) {
		make_a_habit(&p, v6 ? TCP6 : TCP4);
		for (size_t i = 0; i < sizeof(tried) / sizeof(tried[0]); i++) {
			int fd = sock_of(p.kind, 0);

			set(fd, tried[i].level, tried[i].name, tried[i].value, tried[i].len);
			set(fd, IPPROTO_TCP, TCP_NODELAY, 1, sizeof(int));
			if (tried[i].level != SOL_SOCKET || tried[i].name != SO_SNDBUF)
				obs_getopt("says", fd, tried[i].level, tried[i].name);
			goes_on(&p, fd);
		}
		for (int i = 0; i < 20; i++) {
			int fd = sock_of(p.kind, SOCK_NONBLOCK);

			set(fd, IPPROTO_TCP, TCP_NODELAY, 1, sizeof(int));
			connect(fd, (struct sockaddr *)&p.at.sa, p.at.len);
			obs_getopt("TCP_NODELAY", fd, IPPROTO_TCP, TCP_NODELAY);
			obs_getopt("SO_REUSEADDR", fd, SOL_SOCKET, SO_REUSEADDR);
			close(accept(p.listener, NULL, NULL));
			close(fd);
		}
		close(p.listener);
	}
}

static void *nowhere(void)
{
	void *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	munmap(page, 4096);
	return page;
}

static void bad_pointers(struct obs *o)
{
	struct place p;
	int fd;

	(void)o;
	make_a_habit(&p, TCP4);
	fd = sock_of(TCP4, 0);
	obs("no value", setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, NULL, sizeof(int)));
	obs("a value that is nowhere", setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, nowhere(), sizeof(int)));
	obs("no address", connect(fd, NULL, sizeof(struct sockaddr_in)));
	obs("a short address", connect(fd, (struct sockaddr *)&p.at.sa, 3));
	goes_on(&p, fd);
	close(p.listener);
}

/* Each is done to a new socket, which is then connected. */
static void move_flags(int fd)
{
	obs("F_GETFL", fcntl(fd, F_GETFL));
	obs("F_SETFL", fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK));
	obs("F_SETFL", fcntl(fd, F_SETFL, O_RDWR));
}

static void move_cloexec(int fd)
{
	obs("F_GETFD", fcntl(fd, F_GETFD));
	obs("F_SETFD", fcntl(fd, F_SETFD, FD_CLOEXEC));
}

static void move_poll(int fd)
{
	obs_poll(fd, POLLIN | POLLOUT | POLLRDHUP);
}

static void move_bytes(int fd)
{
	obs_send(fd, "too early", MSG_NOSIGNAL);
	obs_recv(fd, 10, MSG_DONTWAIT);
}

static void move_ioctl(int fd)
{
	int n = -1;

	obs("FIONREAD", ioctl(fd, FIONREAD, &n));
	obs("SIOCATMARK", ioctl(fd, SIOCATMARK, &n));
	note("%d", n);
}

static void move_bind(int fd)
{
	struct obs_name name;
	int domain = 0;
	socklen_t len = sizeof(domain);

	getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len);
	name_any(&name, domain == AF_INET6 ? TCP6 : TCP4);
	obs("bind", bind(fd, (struct sockaddr *)&name.sa, name.len));
}

static void move_epoll(int fd)
{
	struct epoll_event e = { EPOLLIN | EPOLLOUT | EPOLLET, { .u64 = 7 } };
	int set = epoll_create1(0);

	obs("add", epoll_ctl(set, EPOLL_CTL_ADD, fd, &e));
	obs("wait", epoll_wait(set, &e, 1, 0));
	obs_events("of it", 1, e.events);
	close(set);
}

static void move_dup(int fd)
{
	int copy = dup(fd), other = dup2(fd, 70);

	note("%d", file_of(copy) == file_of(fd) && file_of(other) == file_of(fd));
	obs_getopt("SO_PROTOCOL", other, SOL_SOCKET, SO_PROTOCOL);
	close(copy);
	close(other);
}

static void move_passing(int fd)
{
	int via[2], got;

	socketpair(AF_UNIX, SOCK_STREAM, 0, via);
	obs("passed", pass_fd(via[0], fd));
	got = passed_fd(via[1]);
	note("the same: %d", file_of(got) == file_of(fd));
	obs_getopt("SO_TYPE", got, SOL_SOCKET, SO_TYPE);
	close(got);
	close(via[0]);
	close(via[1]);
}

static void move_child(int fd)
{
	pid_t pid;

	fflush(stdout);
	pid = obs_fork();
	if (!pid) {
		obs_getopt("child: SO_DOMAIN", fd, SOL_SOCKET, SO_DOMAIN);
		fflush(stdout);
		_exit(0);
	}
	obs("child", obs_wait(pid));
}

static void tell(int fd)
{
	static char number[16];

	snprintf(number, sizeof(number), "%d", fd);
	setenv("EARLY_FD", number, 1);
}

static _Noreturn void become(const char *word)
{
	execl("/proc/self/exe", "t_early", word, (char *)NULL);
	_exit(127);
}

static void move_exec(int fd)
{
	pid_t pid;

	fflush(stdout);
	tell(fd);
	pid = obs_fork();
	if (!pid) {
		become("--what-is");
	}
	obs("exec", obs_wait(pid));
}

static void move_vfork(int fd)
{
	pid_t pid;

	fflush(stdout);
	tell(fd);
	pid = vfork();
	if (!pid) {
		become("--what-is");
	}
	obs("vfork", obs_wait(pid));
}

/* What a child that borrows the memory does to its own descriptors is not the parent's. */
static void move_vfork_dup(int fd)
{
	pid_t pid;

	fflush(stdout);
	tell(71);
	pid = vfork();
	if (!pid) {
		dup2(fd, 71);
		close(fd);
		become("--what-is");
	}
	obs("vfork", obs_wait(pid));
}

static int bind_any(int fd)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };

	return bind(fd, (struct sockaddr *)&in, sizeof(in)) && bind(fd, (struct sockaddr *)&in6, sizeof(in6)) ? -1 : 0;
}

/* The socket is the parent's too. */
static void move_vfork_bind(int fd)
{
	pid_t pid = vfork();

	if (!pid)
		_exit(bind_any(fd) ? 1 : 0);
	obs("vfork", obs_wait(pid));
}

static void move_exec_bind(int fd)
{
	pid_t pid;

	tell(fd);
	pid = vfork();
	if (!pid) {
		become("--bind");
	}
	obs("vfork", obs_wait(pid));
}

static void move_taken(int fd)
{
	int self = (int)syscall(SYS_pidfd_open, getpid(), 0), copy = (int)syscall(SYS_pidfd_getfd, self, fd, 0);

	note("the same: %d", file_of(copy) == file_of(fd));
	obs_getopt("SO_PROTOCOL", copy, SOL_SOCKET, SO_PROTOCOL);
	close(copy);
	close(self);
}

static void move_spawn(int fd)
{
	char *argv[] = { (char *)"t_early", (char *)"--what-is", NULL };
	pid_t pid;
	int rc;

	fflush(stdout);
	tell(fd);
	rc = posix_spawn(&pid, "/proc/self/exe", NULL, NULL, argv, environ);
	obs("spawned", rc ? rc : obs_wait(pid));
}

static void move_system(int fd)
{
	char command[64];

	fflush(stdout);
	snprintf(command, sizeof(command), "test -e /proc/self/fd/%d", fd);
	obs("system", system(command));
}

static void move_network(int fd)
{
	(void)fd;
	obs("unshare", unshare(CLONE_NEWUSER | CLONE_NEWNET) && errno != EPERM && errno != EINVAL ? -1 : 0);
}

static void by_moves(uint32_t kind)
{
	static const struct {
		const char *name;
		void (*make)(int fd);
	} moves[] = {
		{ "flags", move_flags }, { "FD_CLOEXEC", move_cloexec }, { "poll", move_poll }, { "bytes", move_bytes }, { "ioctl", move_ioctl },
		{ "bind", move_bind }, { "epoll", move_epoll }, { "dup", move_dup }, { "passing", move_passing }, { "fork", move_child },
		{ "exec", move_exec }, { "vfork", move_vfork }, { "vfork and dup2", move_vfork_dup }, { "posix_spawn", move_spawn },
		{ "system", move_system }, { "bind in a vfork child", move_vfork_bind }, { "bind in a program", move_exec_bind },
		{ "pidfd_getfd", move_taken },
	};
	struct place p;

	make_a_habit(&p, kind);
	for (size_t i = 0; i < sizeof(moves) / sizeof(moves[0]); i++) {
		int fd = sock_of(kind, 0);

		note("-- %s", moves[i].name);
		moves[i].make(fd);
		goes_on(&p, fd);
		for (int k = 0; k < 70; k++) /* the habit again */
			call_once(&p, sock_of(kind, 0));
	}
	close(p.listener);
}

static void moves4(struct obs *o)
{
	(void)o;
	by_moves(TCP4);
}

static void moves6(struct obs *o)
{
	(void)o;
	by_moves(TCP6);
}

/* It has to connect where it was made. */
static void other_network(struct obs *o)
{
	struct place p;
	int fd;

	(void)o;
	make_a_habit(&p, TCP4);
	fd = sock_of(TCP4, 0);
	move_network(fd);
	goes_on(&p, fd);
	close(p.listener);
}

/* What was said in vain holds for the connection to come. */
static void shut_before(struct obs *o)
{
	struct place p;

	(void)o;
	make_a_habit(&p, TCP4);
	for (int how = SHUT_RD; how <= SHUT_RDWR; how++) {
		int fd = sock_of(TCP4, 0), a;

		obs("shutdown", shutdown(fd, how));
		obs("connect", connect(fd, (struct sockaddr *)&p.at.sa, p.at.len));
		a = accept(p.listener, NULL, NULL);
		obs_send(fd, "there", MSG_NOSIGNAL);
		obs_recv(a, 10, MSG_DONTWAIT);
		obs_send(a, "back", MSG_NOSIGNAL);
		obs_recv(fd, 10, how == SHUT_WR ? 0 : MSG_DONTWAIT);
		close(fd);
		close(a);
	}
	close(p.listener);
}

static void listens_instead(struct obs *o)
{
	struct place p;
	struct obs_name name;
	int fd, c;

	(void)o;
	make_a_habit(&p, TCP4);
	fd = sock_of(TCP4, 0);
	obs("listen", listen(fd, 4));
	name_get(fd, &name);
	((struct sockaddr_in *)&name.sa)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	c = sock_of(TCP4, 0);
	obs("connect", connect(c, (struct sockaddr *)&name.sa, name.len));
	obs("accept", accept(fd, NULL, NULL) >= 0 ? 0 : -1);
	close(c);
	close(fd);
	close(p.listener);
}

static void other_addresses(struct obs *o)
{
	struct sockaddr un = { .sa_family = AF_UNIX }, none = { .sa_family = AF_UNSPEC };
	struct place p, gone;
	int fd;

	(void)o;
	make_a_habit(&p, TCP4);
	gone.listener = listener(TCP4, 4, &gone.at);
	close(gone.listener);
	for (int i = 0; i < 3; i++) {
		fd = sock_of(TCP4, 0);
		if (i == 0)
			obs("nobody there", connect(fd, (struct sockaddr *)&gone.at.sa, gone.at.len));
		else if (i == 1)
			obs("another family", connect(fd, &un, sizeof(un)));
		else
			obs("no family", connect(fd, &none, sizeof(none)));
		goes_on(&p, fd);
		for (int k = 0; k < 70; k++)
			call_once(&p, sock_of(TCP4, 0));
	}
	close(p.listener);
}

static void mapped(struct obs *o)
{
	struct place p, p6;

	(void)o;
	make_a_habit(&p6, TCP6);
	make_a_habit(&p, MAPPED);
	goes_on(&p, sock_of(MAPPED, 0));
	close(p.listener);
	close(p6.listener);
}

/* The last number that a process may have is enough for a socket, whatever it is used for then. */
static void last_descriptor(struct obs *o)
{
	struct rlimit few = { 64, 64 };
	struct place p;
	int fd, last = -1;

	(void)o;
	make_a_habit(&p, TCP4);
	call_once(&p, sock_of(TCP4, 0));
	setrlimit(RLIMIT_NOFILE, &few);
	while ((fd = dup(p.listener)) >= 0)
		last = fd;
	close(last);
	fd = sock_of(TCP4, 0);
	obs("listen", listen(fd, 4));
	obs_getopt("SO_DOMAIN", fd, SOL_SOCKET, SO_DOMAIN);
	obs_getopt("SO_ACCEPTCONN", fd, SOL_SOCKET, SO_ACCEPTCONN);
}

/* One process goes on with what another one connects. */
static void child_connects(struct obs *o)
{
	struct place p;
	int fd, a;
	pid_t pid;

	(void)o;
	make_a_habit(&p, TCP4);
	fd = sock_of(TCP4, 0);
	pid = obs_fork();
	if (!pid)
		_exit(connect(fd, (struct sockaddr *)&p.at.sa, p.at.len) ? 1 : 0);
	obs("child", obs_wait(pid));
	a = accept(p.listener, NULL, NULL);
	obs_send(fd, "mine too", 0);
	obs_recv(a, 20, 0);
	close(fd);
	obs_recv(a, 20, 0);
	close(a);
	close(p.listener);
}

static _Atomic bool stop_forking;

static void *forks(void *arg)
{
	(void)arg;
	while (!stop_forking) {
		pid_t pid = obs_fork();

		if (!pid)
			_exit(0);
		obs_wait(pid);
	}
	return NULL;
}

static void forks_meanwhile(struct obs *o)
{
	struct place p;
	pthread_t thread;

	(void)o;
	make_a_habit(&p, TCP4);
	stop_forking = false;
	pthread_create(&thread, NULL, forks, NULL);
	for (int i = 0; i < 1000; i++)
		call_once(&p, sock_of(TCP4, 0));
	stop_forking = true;
	pthread_join(thread, NULL);
	note("all of them");
	close(p.listener);
}

static _Atomic bool stop_binding;
static _Atomic int bound, not_bound;

static void *binds(void *arg)
{
	(void)arg;
	while (!stop_binding) {
		int fd = sock_of(TCP4, 0);

		usleep(200);
		if (bind_any(fd))
			not_bound++;
		else
			bound++;
		close(fd);
	}
	return NULL;
}

/* Children that borrow the memory look at all descriptors, and are no sign for other threads. */
static void vforks_meanwhile(struct obs *o)
{
	struct place p;
	pthread_t thread[2];

	(void)o;
	make_a_habit(&p, TCP4);
	stop_binding = false;
	for (int i = 0; i < 2; i++)
		pthread_create(&thread[i], NULL, binds, NULL);
	for (int i = 0; i < 60; i++) {
		pid_t pid = vfork();

		if (!pid) {
			execl("/bin/true", "true", (char *)NULL);
			_exit(127);
		}
		obs_wait(pid);
	}
	stop_binding = true;
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	note("some bound: %d, others: %d", bound > 0, not_bound);
	close(p.listener);
}

static _Atomic bool stop_opening;
static _Atomic int lost;

static void *opens(void *arg)
{
	(void)arg;
	while (!stop_opening) {
		int fd = open("/dev/null", O_RDONLY);
		struct stat st;

		if (fd < 0)
			continue;
		usleep(10);
		lost += fstat(fd, &st) || !S_ISCHR(st.st_mode);
		close(fd);
	}
	return NULL;
}

/* There is one number left, and another thread that waits for it. */
static void last_descriptor_contended(struct obs *o)
{
	struct rlimit few = { 64, 64 };
	struct place p;
	pthread_t thread;
	int fd, last = -1, wrong = 0, made = 0;

	(void)o;
	make_a_habit(&p, TCP4);
	setrlimit(RLIMIT_NOFILE, &few);
	while ((fd = dup(p.listener)) >= 0)
		last = fd;
	close(last);
	stop_opening = false;
	pthread_create(&thread, NULL, opens, NULL);
	for (int i = 0; i < 20000 && made < 500; i++) {
		fd = socket(AF_INET, SOCK_STREAM, 0);
		if (fd < 0)
			continue;
		made++;
		wrong += bind_any(fd) != 0;
		close(fd);
	}
	stop_opening = true;
	pthread_join(thread, NULL);
	note("wrong: %d, lost: %d", wrong, lost);
}

static void fork_in_handler(int sig)
{
	pid_t pid = fork();

	(void)sig;
	if (!pid)
		_exit(0);
	waitpid(pid, NULL, 0);
}

/* A handler that forks, while its thread puts a socket right before it enters another network. */
static void handler_beside_unshare(struct obs *o)
{
	struct place p;
	int right = 0;

	(void)o;
	make_a_habit(&p, TCP4);
	signal(SIGUSR1, fork_in_handler);
	for (int i = 0; i < 30; i++) {
		pid_t pid = obs_fork();

		if (!pid) {
			int fd;

			for (int k = 0; k < 30; k++)
				call_once(&p, sock_of(TCP4, 0));
			fd = sock_of(TCP4, 0);
			unshare(CLONE_NEWNET);
			_exit(bind_any(fd) ? 1 : 0);
		}
		for (int k = 0; k < 20; k++) {
			usleep((unsigned int)(i * 50));
			kill(pid, SIGUSR1);
		}
		right += obs_wait(pid) == 0;
	}
	note("%d", right);
	close(p.listener);
}

/* As the program that was started: what the inherited descriptor is. */
static int what_is(void)
{
	int fd = atoi(getenv("EARLY_FD")), domain = -1, protocol = -1;
	socklen_t len = sizeof(int);

	getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len);
	getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len);
	printf("inherited: internet %d, TCP %d\n", domain == AF_INET || domain == AF_INET6, protocol == IPPROTO_TCP);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct obs_case cases[] = {
		{ "the same file", same_file, SOLO, 0 },
		{ "options before connect", options, SOLO, 0 },
		{ "bad pointers", bad_pointers, SOLO, 0 },
		{ "something in between, IPv4", moves4, SOLO, SLOW },
		{ "something in between, IPv6", moves6, SOLO, SLOW },
		{ "another network", other_network, SOLO, 0 },
		{ "shutdown before connect", shut_before, SOLO, 0 },
		{ "listens instead", listens_instead, SOLO, 0 },
		{ "other addresses", other_addresses, SOLO, 0 },
		{ "v4-mapped addresses", mapped, SOLO, 0 },
		{ "the last descriptor", last_descriptor, SOLO, 0 },
		{ "the child connects", child_connects, SOLO, 0 },
		{ "the last descriptor, contended", last_descriptor_contended, SOLO, SLOW },
		{ "another thread forks", forks_meanwhile, SOLO, SLOW },
		{ "another thread, and vfork", vforks_meanwhile, SOLO, SLOW },
		{ "a handler that forks, and unshare", handler_beside_unshare, SOLO, SLOW },
		{ 0 },
	};

	if (argc > 1 && strcmp(argv[1], "--what-is") == 0)
		return what_is();
	if (argc > 1 && strcmp(argv[1], "--bind") == 0)
		return bind_any(atoi(getenv("EARLY_FD"))) ? 1 : 0;
	return obs_main(argc, argv, cases);
}
