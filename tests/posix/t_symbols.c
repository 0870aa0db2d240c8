/* SPDX-License-Identifier: MIT */
/* ring: yes */
/* Libc's other symbols that take a descriptor: second names, wrappers that read and write inside libc, calls that a socket refuses. */
#include "obs.h"

#include <aio.h>
#include <dirent.h>
#include <execinfo.h>
#include <pty.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/pidfd.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/xattr.h>
#include <termios.h>
#include <utmp.h>
#include <wordexp.h>

extern ssize_t __read(int, void *, size_t), __write(int, const void *, size_t), __send(int, const void *, size_t, int);
extern int __close(int), __dup2(int, int), __fcntl(int, int, ...), __poll(struct pollfd *, nfds_t, int);
extern int __select(int, fd_set *, fd_set *, fd_set *, struct timeval *), __connect(int, const struct sockaddr *, socklen_t);
extern pid_t __fork(void);
extern FILE *_IO_fdopen(int, const char *);

/* Both ways, in the ordinary way: nothing was lost before, nothing is displaced. */
static void ordinary(struct obs *o)
{
	obs_send(o->fd, "ordinary", 0);
	obs("peer recv", peer(o, op_recv, 100, 0));
	note("peer has %s", o->say);
	peer_text(o, op_puts, 0, "ordinary");
	obs_recv(o->fd, 100, 0);
}

static void second_names(struct obs *o)
{
	struct pollfd p = { .fd = o->fd, .events = POLLIN };
	struct timeval tv = { 3, 0 };
	char buf[20];
	fd_set in;
	int copy;

	obs("__write", __write(o->fd, "written ", 8));
	obs("__send", __send(o->fd, "sent", 4, 0));
	obs("peer recv", peer(o, op_recv, 12, MSG_WAITALL));
	note("peer has %s", o->say);
	obs("__poll of nothing", __poll(&p, 1, 0));
	peer_text(o, op_puts, 0, "abcdef");
	obs("__poll", __poll(&p, 1, 3000));
	FD_ZERO(&in);
	FD_SET(o->fd, &in);
	obs("__select", __select(o->fd + 1, &in, NULL, NULL, &tv));
	obs_bytes("__read", buf, __read(o->fd, buf, 3));
	copy = __fcntl(o->fd, F_DUPFD, 50);
	obs("__fcntl", copy >= 50);
	obs_bytes("__read of the copy", buf, __read(copy, buf, 20));
	obs("__dup2", __dup2(o->fd, 60));
	obs("send on that", send(60, "by a copy", 9, 0));
	obs("peer recv", peer(o, op_recv, 100, 0));
	obs("__close", __close(60) | __close(copy));
	obs("dup takes its place", dup2(STDERR_FILENO, copy) == copy);
	obs("no socket any more", send(copy, "x", 1, 0));
	ordinary(o);
}

static void second_names_connect(struct obs *o)
{
	struct obs_name at;
	int l = listener(o->kind, 5, &at), c = sock_of(o->kind, 0), s;

	(void)o;
	obs("__connect", __connect(c, (struct sockaddr *)&at.sa, at.len));
	s = accept(l, NULL, NULL);
	warm_pair(c, s);
	promise_ring();
	obs_send(c, "there", 0);
	obs_recv(s, 10, 0);
	obs("__close", __close(s));
	obs_recv(c, 10, 0);
}

static void two_processes(struct obs *o, pid_t pid)
{
	if (pid == 0) {
		obs_send(o->fd, "child", 0);
		_exit(0);
	}
	obs("child", obs_wait(pid));
	obs_send(o->fd, "parent", 0);
	obs("peer recv", peer(o, op_recv, 11, MSG_WAITALL));
	note("peer has %s", o->say);
	ordinary(o);
}

static void forked_inside(struct obs *o)
{
	int terminal;
	pid_t pid = __fork();

	if (pid == 0)
		_exit(send(o->fd, "child", 5, 0) != 5);
	two_processes(o, pid);
	pid = forkpty(&terminal, NULL, NULL, NULL);
	if (pid < 0)
		die("forkpty");
	if (pid == 0)
		_exit(send(o->fd, "child", 5, 0) != 5);
	two_processes(o, pid);
}

static void waits_by_number(struct obs *o)
{
	struct pollfd p = { .fd = o->fd, .events = POLLIN };
	struct timespec nothing = { 0, 0 }, long_time = { 3, 0 };
	struct timeval tv = { 3, 0 };
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = 7 };
	int set = (int)syscall(SYS_epoll_create1, 0);
	fd_set in;

	obs("epoll_ctl", syscall(SYS_epoll_ctl, set, EPOLL_CTL_ADD, o->fd, &ev));
	obs("ppoll of nothing", syscall(SYS_ppoll, &p, 1, &nothing, NULL, 8));
	obs("epoll_pwait2 of nothing", syscall(SYS_epoll_pwait2, set, &ev, 1, &nothing, NULL, 8));
	peer_text(o, op_puts, 0, "abc");
	obs("ppoll", syscall(SYS_ppoll, &p, 1, &long_time, NULL, 8));
	note("time is left: %d", long_time.tv_sec >= 1 && (long_time.tv_sec < 3 || long_time.tv_nsec == 0));
	FD_ZERO(&in);
	FD_SET(o->fd, &in);
	obs("pselect6", syscall(SYS_pselect6, o->fd + 1, &in, NULL, NULL, &long_time, NULL));
#ifdef SYS_select
	obs("select", syscall(SYS_select, o->fd + 1, &in, NULL, NULL, &tv));
#else
	obs("select", select(o->fd + 1, &in, NULL, NULL, &tv));
#endif
	obs("epoll_pwait2", syscall(SYS_epoll_pwait2, set, &ev, 1, &long_time, NULL, 8));
	note("data %d", (int)ev.data.u64);
	obs_recv(o->fd, 10, 0);
	close(set);
	ordinary(o);
}

static void moves_by_number(struct obs *o)
{
	char buf[20], path[100];
	struct iovec out = { (void *)"many", 4 }, in = { buf, sizeof(buf) };
	struct mmsghdr m = { .msg_hdr = { .msg_iov = &out, .msg_iovlen = 1 } };
	int file, p[2];

	snprintf(path, sizeof(path), "%s/numbers.%d", obs_dir(), getpid());
	file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (file < 0 || write(file, "file", 4) != 4 || pipe(p))
		die("file");
	obs("sendmmsg", syscall(SYS_sendmmsg, o->fd, &m, 1, 0));
	obs("sendfile", syscall(SYS_sendfile, o->fd, file, &(off_t){ 0 }, 4));
	obs("peer recv", peer(o, op_recv, 8, MSG_WAITALL));
	note("peer has %s", o->say);
	peer_text(o, op_puts, 0, "0123456789");
	settle(o->fd);
	obs("splice", syscall(SYS_splice, o->fd, NULL, p[1], NULL, 3, 0));
	obs_bytes("read", buf, read(p[0], buf, sizeof(buf)));
	m.msg_hdr.msg_iov = &in;
	obs("recvmmsg", syscall(SYS_recvmmsg, o->fd, &m, 1, 0, NULL));
	obs_bytes("what", buf, m.msg_len);
	ordinary(o);
}

static void options_by_number(struct obs *o)
{
	struct timeval tv = { 0, 30000 };
	int type = 0;
	char c;

	obs("getsockopt", syscall(SYS_getsockopt, o->fd, SOL_SOCKET, SO_TYPE, &type, &(socklen_t){ sizeof(type) }));
	note("type %d", type);
	if (o->kind & TCP) {
		obs("getsockopt", syscall(SYS_getsockopt, o->fd, IPPROTO_TCP, TCP_NODELAY, &type, &(socklen_t){ sizeof(type) }));
		note("TCP_NODELAY %d", type);
	}
	obs("setsockopt", syscall(SYS_setsockopt, o->fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	obs("recv", recv(o->fd, &c, 1, 0));
	ordinary(o);
}

/* Not fork(): what the C library knows of its processes is not right in the child. */
static void cloned_by_number(struct obs *o)
{
	uint64_t args[8] = { 0, 0, 0, 0, SIGCHLD }; /* struct clone_args: the signal is the fifth */
	pid_t pid = (pid_t)syscall(SYS_clone3, args, sizeof(args));

	if (pid == 0)
		_exit(send(o->fd, "child", 5, 0) != 5);
	two_processes(o, pid);
}

static long op_fresh_echo(struct obs *o, long kind, long count)
{
	char buf[16];

	(void)count;
	if (o->fd >= 0)
		close(o->fd);
	o->fd = sock_of((uint32_t)kind, 0);
	if (op_connect_to(o, 0, 0) < 0)
		return -1;
	for (int i = 0; i < OBS_WARM; i++)
		if (recv(o->fd, buf, sizeof(buf), MSG_WAITALL) != sizeof(buf) || send(o->fd, buf, sizeof(buf), 0) != sizeof(buf))
			return -1;
	return 0;
}

/* A server of bare system calls. */
static void serves_by_number(struct obs *o)
{
	int l = (int)syscall(SYS_socket, domain_of(o->kind), SOCK_STREAM, 0), s;
	struct obs_name at;
	char hex[400];

	name_any(&at, o->kind);
	obs("bind", syscall(SYS_bind, l, &at.sa, at.len));
	obs("listen", syscall(SYS_listen, l, 5));
	at.len = sizeof(at.sa);
	obs("getsockname", syscall(SYS_getsockname, l, &at.sa, &at.len));
	name_hex(hex, &at);
	peer_start_text(o, op_fresh_echo, (long)o->kind, hex);
	s = (int)syscall(SYS_accept, l, NULL, NULL);
	obs("accept", s >= 0);
	obs("turns", turns(s, OBS_WARM));
	obs("peer", peer_done(o));
	at.len = sizeof(at.sa);
	obs("getpeername", syscall(SYS_getpeername, s, &at.sa, &at.len));
	note("family %d", at.sa.ss_family);
	promise_ring();
	o->fd = s;
	ordinary(o);
}

/* Answers that wait in a helper thread of libc's, which reads and writes the socket. */
static void asynchronous(struct obs *o)
{
	char buf[20] = "";
	struct aiocb in = { .aio_fildes = o->fd, .aio_buf = buf, .aio_nbytes = 10 }, out = { .aio_fildes = o->fd };
	const struct aiocb *list[] = { &in };
	struct aiocb *both[] = { &in, &out };

	obs("aio_read", aio_read(&in));
	peer_text(o, op_puts, 0, "for aio");
	obs("aio_suspend", aio_suspend(list, 1, NULL));
	obs("aio_error", aio_error(&in));
	obs_bytes("aio_return", buf, aio_return(&in));
	obs_send(o->fd, "one ", 0);
	out.aio_buf = (void *)"two ";
	out.aio_nbytes = 4;
	obs("aio_write", aio_write(&out));
	while (aio_error(&out) == EINPROGRESS)
		usleep(200);
	obs("aio_return", aio_return(&out));
	obs_send(o->fd, "three", 0);
	obs("peer recv", peer(o, op_recv, 13, MSG_WAITALL));
	note("peer has %s", o->say);
	peer_text(o, op_puts, 0, "0123456789");
	settle(o->fd);
	obs_recv(o->fd, 4, 0);
	in.aio_lio_opcode = LIO_READ;
	out.aio_lio_opcode = LIO_WRITE;
	obs("lio_listio", lio_listio(LIO_WAIT, both, 2, NULL));
	obs_bytes("aio_return", buf, aio_return(&in));
	obs("aio_return", aio_return(&out));
	obs("peer recv", peer(o, op_recv, 100, 0));
	obs("aio_fsync", aio_fsync(O_SYNC, &out));
	while (aio_error(&out) == EINPROGRESS)
		usleep(200);
	obs("aio_error", aio_error(&out));
	obs("aio_cancel", aio_cancel(o->fd, NULL));
	ordinary(o);
}

static void wrappers(struct obs *o)
{
	eventfd_t value = 0;
	void *here = NULL;
	long got;

	peer_text(o, op_puts, 0, "01234567");
	settle(o->fd);
	obs("eventfd_read", eventfd_read(o->fd, &value));
	note("value: %d", !memcmp(&value, "01234567", 8));
	memcpy(&value, "76543210", 8);
	obs_send(o->fd, "first ", 0);
	obs("eventfd_write", eventfd_write(o->fd, value));
	obs("peer recv", peer(o, op_recv, 14, MSG_WAITALL));
	note("peer has %s", o->say);
	obs_send(o->fd, "trace ", 0);
	backtrace_symbols_fd(&here, 1, o->fd);
	got = peer(o, op_recv, 6, MSG_WAITALL);
	obs("peer recv", got);
	note("peer has %s", o->say);
	obs("peer recv", peer(o, op_recv, 100, 0) > 0);
	note("peer has %s", o->say);
	ordinary(o);
}

/* The descriptor stays, what it is changes. */
static void reopened(struct obs *o)
{
	int copy = dup(o->fd);
	FILE *file = fdopen(copy, "r+");
	char buf[20];

	obs("fputs", fputs("by stdio", file) >= 0);
	obs("fflush", fflush(file));
	obs("peer recv", peer(o, op_recv, 100, 0));
	note("freopen: %d", freopen("/dev/null", "r+", file) == file && fileno(file) == copy);
	obs("write", write(copy, "nothing", 7));
	obs("read", read(copy, buf, sizeof(buf)));
	obs("send", send(copy, "nothing", 7, 0));
	ordinary(o);
}

/* So that no relay is needed when it becomes descriptor 0 of one of two that share it. */
static void leave_the_ring(struct obs *o)
{
	obs("dprintf", dprintf(o->fd, "%s", "written"));
	obs("peer recv", peer(o, op_recv, 100, 0));
	ordinary(o);
}

static void reopened_stdout(struct obs *o)
{
	pid_t pid;

	leave_the_ring(o);
	pid = obs_fork();
	if (pid == 0) {
		dup2(o->fd, STDOUT_FILENO);
		if (!freopen64("/dev/null", "w", stdout))
			_exit(2);
		_exit(write(STDOUT_FILENO, "nothing", 7) != 7);
	}
	obs("child", obs_wait(pid));
	ordinary(o);
}

/* What a telnet server's child does: its socket was 0, 1 and 2, and is a terminal then. */
static void terminal_instead(struct obs *o)
{
	int master, slave;
	pid_t pid;

	if (openpty(&master, &slave, NULL, NULL, NULL))
		die("openpty");
	leave_the_ring(o);
	pid = obs_fork();
	if (pid == 0) {
		dup2(o->fd, STDIN_FILENO);
		dup2(o->fd, STDOUT_FILENO);
		if (login_tty(slave))
			_exit(2);
		_exit(write(STDOUT_FILENO, "login: ", 7) != 7 || !isatty(STDIN_FILENO));
	}
	obs("child", obs_wait(pid));
	ordinary(o);
}

static void terminal_child(struct obs *o)
{
	int master;
	pid_t pid;

	leave_the_ring(o);
	pid = obs_fork();
	if (pid == 0) {
		dup2(o->fd, STDIN_FILENO);
		dup2(o->fd, STDOUT_FILENO);
		pid = forkpty(&master, NULL, NULL, NULL);
		if (pid == 0)
			_exit(write(STDOUT_FILENO, "login: ", 7) != 7 || !isatty(STDIN_FILENO));
		_exit(pid < 0 ? 2 : obs_wait(pid));
	}
	obs("child", obs_wait(pid));
	ordinary(o);
}

/* The old way to give a socket to stdio: the lowest free descriptor. */
static void lowest(struct obs *o, int (*copy)(int))
{
	char line[30] = "";

	obs_send(o->fd, "before", 0);
	obs("peer recv", peer(o, op_recv, 6, MSG_WAITALL));
	peer_text(o, op_puts, 0, "a line\n");
	settle(o->fd);
	close(STDIN_FILENO);
	obs("copy", copy(o->fd));
	note("stdin: %s", fgets(line, sizeof(line), stdin) ? line : "nothing");
	ordinary(o);
	peer_text(o, op_puts, 0, "another line\n");
	note("stdin: %s", fgets(line, sizeof(line), stdin) ? line : "nothing");
}

static int copy_number(int fd)
{
	return (int)syscall(SYS_dup, fd);
}

static int copy_fcntl(int fd)
{
	return fcntl(fd, F_DUPFD, 0);
}

static void lowest_dup(struct obs *o)
{
	lowest(o, dup);
}

static void lowest_number(struct obs *o)
{
	lowest(o, copy_number);
}

static void lowest_fcntl(struct obs *o)
{
	lowest(o, copy_fcntl);
}

/* Accepted as descriptor 0. */
static void accepted_as_stdin(struct obs *o)
{
	struct obs_name at;
	int l = listener(o->kind, 5, &at), s;
	char hex[400], line[30];

	name_hex(hex, &at);
	peer_start_text(o, op_fresh_echo, (long)o->kind, hex);
	close(STDIN_FILENO);
	s = accept(l, NULL, NULL);
	obs("accept", s);
	obs("turns", turns(s, OBS_WARM));
	obs("peer", peer_done(o));
	peer_text(o, op_puts, 0, "a line\nand more");
	note("stdin: %s", fgets(line, sizeof(line), stdin) ? line : "nothing");
	s = (int)send(STDIN_FILENO, "answer", 6, 0);
	obs("send", s);
	obs("peer recv", peer(o, op_recv, 100, 0));
	note("peer has %s", o->say);
}

/* The new program finds it where it was, with data that has not been read. */
static void inherited(struct obs *o, void (*start)(void))
{
	pid_t pid;

	peer_text(o, op_puts, 0, "a line\n");
	settle(o->fd);
	if (dup2(o->fd, 9) != 9)
		die("dup2");
	pid = obs_fork();
	if (pid == 0) {
		close(o->fd);
		start();
		_exit(1);
	}
	close(9);
	close(o->fd);
	obs("child", obs_wait(pid));
	obs("peer recv", peer(o, op_recv, 11, MSG_WAITALL));
	note("peer has %s", o->say);
}

#define SCRIPT "read line <&9; echo got $line >&9"
static char *const sh_argv[] = { (char *)"sh", (char *)"-c", (char *)SCRIPT, NULL }, *const no_environment[] = { NULL };

static void by_execveat(void)
{
	execveat(AT_FDCWD, "/bin/sh", sh_argv, no_environment, 0);
}

static void by_execve_number(void)
{
	syscall(SYS_execve, "/bin/sh", sh_argv, no_environment);
}

static void by_execveat_number(void)
{
	syscall(SYS_execveat, AT_FDCWD, "/bin/sh", sh_argv, no_environment, 0);
}

static void by_wordexp(void)
{
	wordexp_t words = { 0 };

	_exit(wordexp("$(" SCRIPT ")", &words, 0));
}

static void execveat_inherits(struct obs *o)
{
	inherited(o, by_execveat);
}

static void execve_number_inherits(struct obs *o)
{
	inherited(o, by_execve_number);
}

static void execveat_number_inherits(struct obs *o)
{
	inherited(o, by_execveat_number);
}

static void wordexp_inherits(struct obs *o)
{
	inherited(o, by_wordexp);
}

/* Passed by the call for many messages. */
static void passed_among_many(struct obs *o)
{
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} u = { 0 };
	char byte = 'x', buf[20];
	struct iovec iov = { &byte, 1 };
	struct mmsghdr m = { .msg_hdr = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = u.space, .msg_controllen = sizeof(u.space) } };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m.msg_hdr);
	int by[2], got;

	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, by))
		die("socketpair");
	peer_text(o, op_puts, 0, "0123456789");
	settle(o->fd);
	obs_recv(o->fd, 4, 0);
	*c = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
	memcpy(CMSG_DATA(c), &o->fd, sizeof(int));
	obs("sendmmsg", sendmmsg(by[0], &m, 1, 0));
	m.msg_hdr.msg_controllen = sizeof(u.space);
	obs("recvmsg", recvmsg(by[1], &m.msg_hdr, 0));
	memcpy(&got, CMSG_DATA(c), sizeof(int));
	obs_bytes("recv", buf, recv(got, buf, sizeof(buf), 0));
	obs("send", send(got, "passed", 6, 0));
	obs("peer recv", peer(o, op_recv, 100, 0));
	close(got);
	ordinary(o);
}

/* A copy of one's own descriptor by way of one's own process. */
static void copied_from_myself(struct obs *o)
{
	int self = pidfd_open(getpid(), 0), copy;
	char buf[20];

	for (int how = 0; how < 2; how++) {
		copy = how ? (int)syscall(SYS_pidfd_getfd, self, o->fd, 0) : pidfd_getfd(self, o->fd, 0);
		if (copy < 0) {
			note("no pidfd_getfd here");
			return;
		}
		peer_text(o, op_puts, 0, "0123456789");
		settle(o->fd);
		obs_recv(o->fd, 4, 0);
		obs_bytes("recv", buf, recv(copy, buf, sizeof(buf), 0));
		obs("send", send(copy, "by the copy", 11, 0));
		obs("peer recv", peer(o, op_recv, 100, 0));
		note("peer has %s", o->say);
		close(copy);
	}
	obs("a pidfd that is none", pidfd_getfd(o->fd, o->fd, 0));
	ordinary(o);
}

static void refused(struct obs *o)
{
	struct iovec v = { (char[8]){ 0 }, 8 };
	char path[40], buf[200];
	struct itimerspec its;
	struct statfs fs;
	struct termios t;
	struct stat st;
	sigset_t none;

	sigemptyset(&none);
	obs("lseek", lseek(o->fd, 0, SEEK_CUR));
	obs("ftruncate", ftruncate(o->fd, 10));
	obs("fsync", fsync(o->fd));
	obs("fdatasync", fdatasync(o->fd));
	obs("syncfs", syncfs(o->fd));
	obs("sync_file_range", sync_file_range(o->fd, 0, 10, 0));
	obs("readahead", readahead(o->fd, 0, 10));
	obs("fallocate", fallocate(o->fd, 0, 0, 10));
	obs("posix_fallocate", posix_fallocate(o->fd, 0, 10));
	obs("posix_fadvise", posix_fadvise(o->fd, 0, 10, POSIX_FADV_NORMAL));
	obs("pread", pread(o->fd, buf, 5, 0));
	obs("pwrite", pwrite(o->fd, buf, 5, 0));
	obs("preadv", preadv(o->fd, &v, 1, 0));
	obs("pwritev", pwritev(o->fd, &v, 1, 0));
	obs("sendfile from it", sendfile(o->fd, o->fd, NULL, 5));
	obs("fchdir", fchdir(o->fd));
	obs("fdopendir", fdopendir(o->fd) != NULL);
	obs("openat", openat(o->fd, "x", O_RDONLY));
	obs("getdents64", getdents64(o->fd, buf, sizeof(buf)));
	obs("inotify_add_watch", inotify_add_watch(o->fd, "/", IN_CREATE));
	obs("signalfd", signalfd(o->fd, &none, 0));
	obs("timerfd_gettime", timerfd_gettime(o->fd, &its));
	obs("setns", setns(o->fd, 0));
	obs("isatty", isatty(o->fd));
	obs("tcgetattr", tcgetattr(o->fd, &t));
	obs("tcdrain", tcdrain(o->fd));
	obs("ttyname", ttyname(o->fd) != NULL);
	obs("tcgetpgrp", tcgetpgrp(o->fd));
	obs("fexecve", fexecve(o->fd, (char *[]){ NULL }, (char *[]){ NULL }));
	obs("execveat", execveat(o->fd, "", (char *[]){ NULL }, (char *[]){ NULL }, AT_EMPTY_PATH));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", o->fd);
	obs("open of its path", open(path, O_RDWR));
	obs("linkat", linkat(o->fd, "", AT_FDCWD, "/nowhere/x", AT_EMPTY_PATH));
	obs("name_to_handle_at", name_to_handle_at(o->fd, "", &(struct file_handle){ 0 }, &(int){ 0 }, AT_EMPTY_PATH));
	obs("flock", flock(o->fd, LOCK_EX | LOCK_NB));
	obs("flock", flock(o->fd, LOCK_UN));
	obs("lockf", lockf(o->fd, F_TEST, 0));
	obs("F_GETLEASE", fcntl(o->fd, F_GETLEASE));
	obs("F_GETPIPE_SZ", fcntl(o->fd, F_GETPIPE_SZ));
	obs("F_GET_SEALS", fcntl(o->fd, F_GET_SEALS));
	obs("isfdtype", isfdtype(o->fd, S_IFSOCK));
	obs("fstat", fstat(o->fd, &st));
	note("socket %d, size %ld", S_ISSOCK(st.st_mode), (long)st.st_size);
	obs("fchmod", fchmod(o->fd, 0600));
	obs("fstatfs", fstatfs(o->fd, &fs));
	note("type %lx", (unsigned long)fs.f_type);
	obs("fpathconf", fpathconf(o->fd, _PC_PIPE_BUF));
	obs("flistxattr", flistxattr(o->fd, buf, sizeof(buf)));
	obs("fsetxattr", fsetxattr(o->fd, "user.x", "y", 1, 0));
	ordinary(o);
}

static void what_protocol(struct obs *o)
{
	char buf[40];

	memset(buf, 0, sizeof(buf));
	obs_bytes("fgetxattr", buf, fgetxattr(o->fd, "system.sockprotoname", buf, sizeof(buf)));
	obs("its length", fgetxattr(o->fd, "system.sockprotoname", NULL, 0));
	obs("no room", fgetxattr(o->fd, "system.sockprotoname", buf, 1));
	obs("another", fgetxattr(o->fd, "user.x", buf, sizeof(buf)));
}

static void filters(struct obs *o)
{
	struct sockaddr_in group = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0xef010203) };
	struct in_addr any = { 0 };
	uint32_t mode, count = 0;

	obs("getsourcefilter", getsourcefilter(o->fd, 1, (struct sockaddr *)&group, sizeof(group), &mode, &count, NULL));
	obs("getipv4sourcefilter", getipv4sourcefilter(o->fd, any, group.sin_addr, &mode, &count, NULL));
	obs("setipv4sourcefilter", setipv4sourcefilter(o->fd, any, group.sin_addr, MCAST_EXCLUDE, 0, NULL));
	obs("setsourcefilter", setsourcefilter(o->fd, 1, (struct sockaddr *)&group, sizeof(group), MCAST_EXCLUDE, 0, NULL));
	ordinary(o);
}

/* Both ends are bound to reserved ports, inside libc. */
static void reserved_ports(struct obs *o)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int l = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0), s, rc;
	struct obs_name at;

	(void)o;
	rc = bindresvport(l, &any);
	if (rc < 0) {
		obs("bindresvport", rc);
		return;
	}
	obs("listen", listen(l, 5));
	any.sin_port = 0;
	obs("bindresvport", bindresvport(c, &any));
	name_get(l, &at);
	obs_names("listener", l);
	obs("connect", connect(c, (struct sockaddr *)&at.sa, at.len));
	s = accept(l, NULL, NULL);
	obs("accept", s >= 0);
	obs_names("caller", c);
	obs_names("accepted", s);
	warm_pair(c, s);
	promise_ring();
	obs_send(c, "there", 0);
	obs_recv(s, 10, 0);
}

int main(int argc, char **argv)
{
	static const struct obs_case cases[] = {
		{ "second names", second_names, STREAM, 0 },
		{ "second names of connect and close", second_names_connect, TCP4 | TCP6 | UNIXP, COLD_ONLY },
		{ "waits by number", waits_by_number, STREAM, 0 },
		{ "bytes by number", moves_by_number, STREAM, 0 },
		{ "options by number", options_by_number, STREAM, 0 },
		{ "clone3 by number", cloned_by_number, TCP4 | LOCAL, 0 },
		{ "a server by number", serves_by_number, TCP4 | TCP6 | UNIXP, COLD_ONLY },
		{ "forks inside libc", forked_inside, TCP4 | LOCAL, 0 },
		{ "asynchronous", asynchronous, STREAM, 0 },
		{ "wrappers that read and write", wrappers, STREAM, 0 },
		{ "freopen", reopened, STREAM, 0 },
		{ "freopen of stdout", reopened_stdout, TCP4 | LOCAL, 0 },
		{ "login_tty", terminal_instead, TCP4 | LOCAL, 0 },
		{ "forkpty", terminal_child, TCP4 | LOCAL, 0 },
		{ "the lowest descriptor", lowest_dup, TCP4 | LOCAL, 0 },
		{ "the lowest descriptor, by number", lowest_number, TCP4 | LOCAL, 0 },
		{ "the lowest descriptor, by fcntl", lowest_fcntl, TCP4 | LOCAL, 0 },
		{ "accepted as descriptor 0", accepted_as_stdin, TCP4 | UNIXP, COLD_ONLY | NO_RING },
		{ "execveat, descriptor 9", execveat_inherits, TCP4 | LOCAL, 0 },
		{ "execve by number, descriptor 9", execve_number_inherits, TCP4 | LOCAL, 0 },
		{ "execveat by number, descriptor 9", execveat_number_inherits, TCP4 | LOCAL, 0 },
		{ "wordexp, descriptor 9", wordexp_inherits, TCP4 | LOCAL, 0 },
		{ "passed by sendmmsg", passed_among_many, STREAM, 0 },
		{ "pidfd_getfd", copied_from_myself, STREAM, 0 },
		{ "what sockets refuse", refused, STREAM | UDP4 | DGPAIR, 0 },
		{ "the name of the protocol", what_protocol, STREAM | UDP4, 0 },
		{ "source filters", filters, TCP4 | UDP4 | PAIR, 0 },
		{ "reserved ports", reserved_ports, SOLO, 0 },
		{ 0 },
	};

	return obs_main(argc, argv, cases);
}
