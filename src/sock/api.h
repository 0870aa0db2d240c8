/* SPDX-License-Identifier: MIT */
/*
 * What the shim calls: the socket calls on descriptors that are gnezdo's. Each does what the man page of its namesake says.
 *
 * Errors: -errno. `so` is held by the caller (gn_get / gn_put) and `fd` is the descriptor it came from.
 */
#ifndef GN_SOCK_API_H
#define GN_SOCK_API_H

#include <limits.h>

#include "sock/sock.h"

/* What poll(2) says together. */
#define GN_IN_BITS (POLLIN | POLLRDNORM)
#define GN_OUT_BITS (POLLOUT | POLLWRNORM | POLLWRBAND)

/* open.c: after the kernel made the descriptors */
int gn_socket(int domain, int type, int protocol);
void gn_opened(int fd, int domain, int type, int protocol);
void gn_opened_pair(const int fd[2], int domain, int type, int protocol);
int gn_close(int fd);
int gn_close_range(unsigned int first, unsigned int last, int flags);
#define GN_DUP (-1)
int gn_dup(int fd, int cmd, long from); /* GN_DUP: as dup(); F_DUPFD, F_DUPFD_CLOEXEC: as fcntl() */
int gn_taken(int fd, int rc);         /* likewise, of pidfd_getfd(): fd is a number of some process, ours maybe */
int gn_dup2(int from, int to, int flags, bool three);
void gn_forget(int fd);               /* closed by a call that we do not see into */

/* listen.c, conn.c, accept.c, shut.c */
int gn_bind(struct gn_sock *so, int fd, const struct sockaddr *addr, socklen_t len);
int gn_bind_reserved(struct gn_sock *so, int fd, struct sockaddr_in *addr); /* bindresvport(3) */
int gn_listen(struct gn_sock *so, int fd, int backlog);
int gn_connect(struct gn_sock *so, int fd, const struct sockaddr *addr, socklen_t len);
int gn_accept(struct gn_sock *so, int fd, struct sockaddr *addr, socklen_t *len, int flags);
int gn_getname(struct gn_sock *so, int fd, struct sockaddr *addr, socklen_t *len, bool peer);
int gn_shutdown(struct gn_sock *so, int fd, int how);
struct gn_sock *gn_inherited_listener(int fd); /* accept.c, likewise: if it is a listener; what it accepts is ours */
struct gn_sock *gn_inherited(int fd); /* of a descriptor not in the table: held, if it came through exec as a TCP connection of ours */

/* A message as all forms of send and receive mean it. */
struct gn_io {
	const struct iovec *iov;
	size_t iovcnt;
	size_t total;
	int flags;
	void *name;             /* send: destination or NULL; receive: where to put the source or NULL */
	socklen_t name_len;     /* receive: room, then the length */
	void *control;
	size_t control_len;     /* receive: room, then the length */
	int out_flags;          /* receive: msg_flags */
	bool from_kernel;       /* receive: control and flags came with bytes of the kernel lane, which end the call */
	bool stop;              /* receive: bytes of the kernel lane end the call here, as they would there */
	bool packet;            /* receive: there was one, of no bytes maybe */
	bool own_look;          /* receive: a look of ours, from the first byte on whatever SO_PEEK_OFF says */
	size_t bad;             /* 0, or 1 + the bytes before the first buffer that cannot be one: gn_is_nowhere() */
};

#ifdef __x86_64__
#define GN_ADDRESS_END ((uintptr_t)1 << 56) /* five levels of pages */
#else
#define GN_ADDRESS_END UINTPTR_MAX /* the uppermost byte may be a tag */
#endif

/* No buffer is there, on any machine: the first page, or not an address of a process. Others that are not mapped fault where they are
 * touched, as in memcpy(); looking for them would cost a system call. */
static inline bool gn_is_nowhere(const void *p, size_t len)
{
	return unlikely((uintptr_t)p - 4096 >= GN_ADDRESS_END - 4096) && len;
}

/* Of these the kernel refuses those that are no address of a process before it does anything else; the first page when it touches it. */
static inline bool gn_is_beyond(const void *p)
{
	return (uintptr_t)p >= GN_ADDRESS_END;
}

/* Control data that the kernel refuses before it looks at any: -ENOBUFS, -EFAULT. */
static inline int gn_is_no_control(const struct msghdr *msg)
{
	if (!msg->msg_control || !msg->msg_controllen)
		return 0;
	if (msg->msg_controllen > INT_MAX)
		return -ENOBUFS;
	return gn_is_nowhere(msg->msg_control, 1) ? -EFAULT : 0;
}

/* io.c */
ssize_t gn_send_io(struct gn_sock *so, int fd, struct gn_io *io);
ssize_t gn_recv_io(struct gn_sock *so, int fd, struct gn_io *io);
ssize_t gn_send_buf(struct gn_sock *so, int fd, const void *buf, size_t len, int flags);
ssize_t gn_recv_buf(struct gn_sock *so, int fd, void *buf, size_t len, int flags);
ssize_t gn_sendmsg(struct gn_sock *so, int fd, const struct msghdr *msg, int flags);
/* The kernel looks no further than the vectors when they hold nothing: not even at who is there. */
ssize_t gn_readv(struct gn_sock *so, int fd, struct msghdr *msg, int flags);
ssize_t gn_writev(struct gn_sock *so, int fd, const struct msghdr *msg, int flags);
ssize_t gn_recvmsg(struct gn_sock *so, int fd, struct msghdr *msg, int flags);
int gn_recvmmsg(struct gn_sock *so, int fd, struct mmsghdr *msgs, unsigned int count, int flags, struct timespec *timeout);
ssize_t gn_sendfile(struct gn_sock *so, int fd, int from, off_t *at, size_t len);

/* opts.c, control.c */
bool gn_setsockopt_early(int fd, int level, int name, const void *value, socklen_t len); /* true: done, for an early carrier */
int gn_setsockopt(struct gn_sock *so, int fd, int level, int name, const void *value, socklen_t len);
int gn_getsockopt(struct gn_sock *so, int fd, int level, int name, void *value, socklen_t *len);
int gn_fcntl(struct gn_sock *so, int fd, int cmd, long arg);
int gn_ioctl(struct gn_sock *so, int fd, unsigned long request, void *arg);

int gn_oracle_open(const struct gn_ep *ep); /* a new socket of the kernel's, of the kind that the program sees; -errno */

/* poll.c */
int gn_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask);
bool gn_poll_concerns(const struct pollfd *fds, nfds_t count);
int gn_pselect(int count, fd_set *r, fd_set *w, fd_set *x, const struct timespec *timeout, const sigset_t *mask);
bool gn_select_concerns(int count, const fd_set *r, const fd_set *w, const fd_set *x);

/* netns.c */
void gn_net_moves(int flags); /* CLONE_*: this thread, or a child, is about to enter namespaces */

/* sandbox.c */
void gn_sandbox(void); /* the process is about to put itself under a seccomp filter */

/* epoll_ctl.c, epoll.c */
int gn_epoll_ctl(int set, int op, int fd, struct epoll_event *event);
int gn_epoll_pwait(struct gn_sock *set, int fd, struct epoll_event *events, int max, const struct timespec *timeout,
		   const sigset_t *mask);

ssize_t gn_splice(int from, loff_t *from_at, int to, loff_t *to_at, size_t len, unsigned int flags);

/* handover.c: handing endpoints to processes without the shim; gn_relay and gn_forward_callers: relay.c */
/* A child that borrows our memory (vfork) changed that descriptor: it is not what the table says there. */
void gn_lent_change(int fd);
bool gn_lent_is_changed(int fd);
int gn_relay(struct gn_sock *so, int fd);
int gn_give_away(struct gn_sock *so, int fd);
int gn_leave_to_libc(struct gn_sock *so, int fd, enum gn_reason why); /* it is about to read and write there, unseen; fd may leave the table */
int gn_before_uring(void);           /* uring.c: the process sets up an io_uring */
int gn_before_exec(void);            /* what the new program will find open */
int gn_before_spawn(void);           /* likewise a child that libc starts where we do not see it */
void gn_spawn_source(int fd);         /* file actions were told to duplicate it */
int gn_before_passing(const struct msghdr *msg);

void gn_forward_callers(int private_fd); /* who waits there is connected to the public face, by a process of our own */

/* sandbox.c */
struct gn_sock *gn_sandboxed(int fd); /* held: its names and options are known here; NULL */

/* fork.c */
void gn_adopt(struct gn_sock *so, int fd); /* in a child that gn_fork() could not count; its parent has */
pid_t gn_fork(pid_t (*real_fork)(void));
/* Processes of our own (relays): in them nothing of libc's or the program's runs at the fork, their end sends no signal, and what they did is in
 * nobody's numbers. Only gn_helper_wait() waits for them. */
pid_t gn_helper_fork(void);
void gn_helper_wait(pid_t pid);
bool gn_fork_begin(void);  /* before any kind of fork; true: then one of these in each process */
void gn_fork_child(void);
void gn_fork_handlers(void); /* at the start of the process */
void gn_fork_parent(bool failed);
int gn_daemon(int nochdir, int noclose); /* the child's part of daemon(3) */

#endif
