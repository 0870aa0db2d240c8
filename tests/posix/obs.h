/* SPDX-License-Identifier: MIT */
/*
 * What a differential test prints: observations, the same on every lane as on the plain kernel.
 *
 * A program is a table of cases. Each case runs once per kind of connection that it names, cold and hot, in a process of its own
 * with a deadline. The case holds one end (o->fd); the other end is held by its *peer*, a second process (or thread) that does
 * what peer() asks and answers with result and errno, so the order of all calls is fixed without a sleep.
 * Hot: the two ends have done OBS_WARM round trips before the case begins.
 *
 * Nothing that varies from run to run may be printed: ports, pids, descriptors, directories and times are spelled symbolically.
 *
 * Environment: OBS_PEER_EXEC="cmd args" starts the peer anew through that command ("env": under the same preload but no relative;
 * "env -u LD_PRELOAD": a peer on the plain kernel). OBS_TRACE=1 names each case and its pids on stderr. OBS_ONLY=text runs only the
 * cases whose title contains text.
 */
#ifndef OBS_H
#define OBS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define OBS_WARM 400

/* Kinds of connection; a case names a set of them. */
#define TCP4 0x1u      /* this side accepts */
#define TCP4C 0x2u     /* this side connects */
#define TCP6 0x4u
#define MAPPED 0x8u    /* AF_INET6 sockets, ::ffff:127.0.0.1 */
#define UNIXP 0x10u    /* a path, this side accepts */
#define UNIXC 0x20u    /* a path, this side connects */
#define UNIXA 0x40u    /* an abstract name */
#define PAIR 0x80u     /* socketpair */
#define UDP4 0x100u    /* datagrams: both ends bound, each connected to the other */
#define UDP6 0x200u
#define UDPMAP 0x400u
#define DGP 0x800u
#define DGA 0x1000u
#define DGPAIR 0x2000u
#define SEQP 0x4000u
#define SEQA 0x8000u
#define SEQPAIR 0x10000u
#define TCP (TCP4 | TCP4C | TCP6)
#define LOCAL (UNIXP | PAIR)
#define STREAM (TCP | LOCAL)
#define EVERY_STREAM (STREAM | MAPPED | UNIXC | UNIXA)
#define UDP (UDP4 | UDP6)
#define LOCALDG (DGP | DGPAIR)
#define DGRAM (UDP | LOCALDG)
#define EVERY_DGRAM (DGRAM | UDPMAP | DGA)
#define SEQ (SEQP | SEQPAIR)
#define EVERY_SEQ (SEQ | SEQA)
#define SOLO 0x80000000u /* no connection, no peer's end: run once, cold */

/* Flags of a case. */
#define COLD_ONLY 1u
#define HOT_ONLY 2u
#define NO_RING 4u    /* even when hot it need not be on the ring */
#define THREADS 8u    /* run once more, hot, with a thread for a peer */
#define SLOW 16u      /* needs up to 15 s */
#define LONG 32u      /* up to a minute; its peer's answer as well */

struct obs {
	int fd;             /* this side's end, -1: none */
	uint32_t kind;      /* one of the above */
	int domain, type;
	bool hot;
	const char *text;   /* in a peer's operation: what peer_text() sent */
	char *say;          /* in a peer's operation: text that comes back, see obs_say() */
	int req, rep;       /* control pipes */
	pid_t pid;          /* the peer's thread id */
	bool thread;
};

struct obs_case {
	const char *title;
	void (*run)(struct obs *o);
	uint32_t kinds;
	uint32_t flags;
};

int obs_main(int argc, char **argv, const struct obs_case *cases);

/* Printing. obs() takes errno for granted where rc is -1. Each returns rc. */
long obs(const char *what, long rc);
void note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void obs_bytes(const char *what, const void *buf, long n); /* text when short, length and checksum otherwise; errno when -1 */
void obs_addr(const char *what, const void *sa, socklen_t len);
void obs_kind(uint32_t kind); /* begins a part of a case; the names of ports begin anew */
void obs_events(const char *what, int rc, unsigned events);
void obs_epoll(const char *what, int set, struct epoll_event *ev, int ms); /* epoll_wait for one; 0 events where there is none */
uint32_t checksum(const void *buf, size_t n);
void die(const char *what); /* the machine, not the socket, failed: says why on stderr, ends the case */

/* The usual calls with their observation. */
ssize_t obs_send(int fd, const char *text, int flags);
ssize_t obs_recv(int fd, size_t n, int flags);
void obs_poll(int fd, short events);                        /* what poll() says at once */
void obs_poll_until(int fd, short events);                  /* waits up to the deadline for any of them */
int obs_getopt(const char *what, int fd, int level, int name); /* an int option; prints it */
void obs_names(const char *who, int fd);                       /* getsockname and getpeername */
void many_descriptors(void);                                   /* as many as the hard limit allows */
void settle(int fd);                                        /* until something is readable, deadline, silent */

/* The peer. An operation runs there; its result and errno come back. */
typedef long obs_op(struct obs *o, long a, long b);
long peer(struct obs *o, obs_op *op, long a, long b);
long peer_text(struct obs *o, obs_op *op, long a, const char *text); /* at most 200 bytes */
void peer_start(struct obs *o, obs_op *op, long a, long b);
void peer_start_text(struct obs *o, obs_op *op, long a, const char *text);
bool peer_asleep(struct obs *o); /* waits until the operation sleeps in the kernel; false: it has ended */
long peer_done(struct obs *o);
void obs_say(struct obs *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool thread_asleep(pid_t pid, pid_t tid, int done_fd); /* waits: asleep, or done_fd readable (false) */

/* Stock operations. */
obs_op op_send;     /* bytes, flags: one send() of pattern 1 */
obs_op op_recv;     /* room, flags: one recv(); the bytes come back in the reply as text */
obs_op op_puts;     /* flags, text: one send() of the text */
obs_op op_close;
obs_op op_shutdown; /* how */
obs_op op_nonblock; /* on */
obs_op op_bulk_out; /* bytes, seed: all of them */
obs_op op_bulk_in;  /* bytes, seed: returns how many came before end or error; errno EBADMSG: wrong bytes */
obs_op op_sink;     /* reads to the end of file and returns the count; -1 on an error */
obs_op op_linger;   /* seconds: SO_LINGER on */
obs_op op_rst;      /* linger 0 and close */
obs_op op_echo;     /* count, bytes: reads a message, sends it back */
obs_op op_by_stdio; /* a text by another way all of a sudden: stdio, which writes past every shim */

/* A pattern that tells a lost, doubled or displaced byte. */
void pattern(void *buf, size_t n, uint64_t pos, unsigned seed);
long bulk_out(int fd, long n, unsigned seed); /* blocking or not; -1 on an error */
long bulk_in(int fd, long n, unsigned seed);

/* Making things. All return descriptors or end the case. */
struct obs_name {
	struct sockaddr_storage sa;
	socklen_t len;
};
void name_any(struct obs_name *n, uint32_t kind);            /* something that can be bound to */
int sock_of(uint32_t kind, int extra);                        /* socket() of that kind */
int listener(uint32_t kind, int backlog, struct obs_name *at); /* bound and listening, its name in at */
void name_get(int fd, struct obs_name *n);
void name_peer_target(struct obs_name *n, uint32_t kind);      /* what a caller connects to, where they differ (v4-mapped) */
long op_connect_to(struct obs *o, long extra, long b);        /* text: hex of the name; connects o->fd; rc of connect */
void name_hex(char *to, const struct obs_name *n);
void name_unhex(struct obs_name *n, const char *from);
int domain_of(uint32_t kind);
int type_of(uint32_t kind);
const char *obs_dir(void);                                    /* a directory that vanishes with the program */
pid_t obs_fork(void);                                         /* the child dies with its parent */
int obs_wait(pid_t pid);                                      /* exit status, 256 + signal, or -1: too late */
void obs_stop(pid_t pid);                                      /* SIGSTOP, and waits until it has */
int epoll_on(int fd, uint32_t events);                         /* a new set with fd in it */
int epoll_whole(int set, struct epoll_event *ev);              /* epoll_wait for one; SIGSTOP and SIGCONT do not end it: signal(7) */
void nonblock(int fd, bool on);
void linger(int fd, int seconds);
int turns(int fd, int count);                                  /* round trips with a peer in op_echo of 16 bytes; how many were right */
void echo_until_end(int fd);                                   /* closes it then */
ssize_t pass_fd(int over, int fd);                             /* SCM_RIGHTS; 1, or -1 */
int passed_fd(int over);                                       /* the other end of it; -1: none came */
void promise_ring(void);                                        /* in a case without a connection of its own: bytes will move by rings */
void warm(struct obs *o);                                     /* OBS_WARM round trips between o->fd and the peer's end */
void warm_pair(int a, int b);                                 /* both ends in this process */
int64_t now_ms(void);
int64_t deadline_ms(void);                                    /* how long a wait may take: generous */

/* Signals: counted, with or without SA_RESTART. */
extern volatile sig_atomic_t obs_signals;
void count_signal(int sig, int sa_flags);

#endif
