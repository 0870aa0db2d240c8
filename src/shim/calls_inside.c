/* SPDX-License-Identifier: MIT */
/* The shim: functions of libc that use a descriptor inside libc, where no other call of the shim would see it. */
#include <execinfo.h>
#include <pty.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utmp.h>

#include "shim/shim.h"

/* libc's helper threads read there. False: they must not, errno says why. */
static bool read_unseen(int fd)
{
	struct gn_sock *so = gn_fd_get(fd);
	int rc;

	if (!so)
		return true;
	rc = gn_leave_to_libc(so, fd, GN_WHY_CALL);
	gn_fd_put(so);
	return gn_ret(rc) == 0;
}

static void write_unseen(int fd)
{
	struct gn_sock *so = gn_fd_get(fd);

	if (!so)
		return;
	gn_pin(so, fd, GN_WHY_CALL);
	gn_fd_put(so);
}

static bool listed_unseen(int fd, int opcode)
{
	if (opcode == LIO_READ)
		return read_unseen(fd);
	if (opcode == LIO_WRITE)
		write_unseen(fd);
	return true;
}

INTERPOSE(int, aio_read, (struct aiocb *request))
{
	return read_unseen(request->aio_fildes) ? gn_real.aio_read(request) : -1;
}

INTERPOSE(int, aio_read64, (struct aiocb64 *request))
{
	return read_unseen(request->aio_fildes) ? gn_real.aio_read64(request) : -1;
}

INTERPOSE(int, aio_write, (struct aiocb *request))
{
	write_unseen(request->aio_fildes);
	return gn_real.aio_write(request);
}

INTERPOSE(int, aio_write64, (struct aiocb64 *request))
{
	write_unseen(request->aio_fildes);
	return gn_real.aio_write64(request);
}

INTERPOSE(int, lio_listio, (int mode, struct aiocb *const list[], int count, struct sigevent *event))
{
	gn_enter();
	for (int i = 0; i < count; i++)
		if (list[i] && !listed_unseen(list[i]->aio_fildes, list[i]->aio_lio_opcode))
			return -1;
	return gn_real.lio_listio(mode, list, count, event);
}

INTERPOSE(int, lio_listio64, (int mode, struct aiocb64 *const list[], int count, struct sigevent *event))
{
	gn_enter();
	for (int i = 0; i < count; i++)
		if (list[i] && !listed_unseen(list[i]->aio_fildes, list[i]->aio_lio_opcode))
			return -1;
	return gn_real.lio_listio64(mode, list, count, event);
}

INTERPOSE(void, backtrace_symbols_fd, (void *const *frames, int count, int fd))
{
	write_unseen(fd);
	gn_real.backtrace_symbols_fd(frames, count, fd);
}

ALSO(__backtrace_symbols_fd, backtrace_symbols_fd);

/* These two are a read() and a write() of any descriptor. */
INTERPOSE(int, eventfd_read, (int fd, eventfd_t *value))
{
	return read(fd, value, sizeof *value) == sizeof *value ? 0 : -1;
}

INTERPOSE(int, eventfd_write, (int fd, eventfd_t value))
{
	return write(fd, &value, sizeof value) == sizeof value ? 0 : -1;
}

/* The descriptor is closed, whether another file takes its place or none. */
static void reopening(FILE *file)
{
	GN_INSIDE;
	gn_forget(fileno(file));
}

INTERPOSE(FILE *, freopen, (const char *path, const char *mode, FILE *file))
{
	gn_enter();
	reopening(file);
	return gn_real.freopen(path, mode, file);
}

INTERPOSE(FILE *, freopen64, (const char *path, const char *mode, FILE *file))
{
	gn_enter();
	reopening(file);
	return gn_real.freopen64(path, mode, file);
}

/* libc's own would put the terminal onto 0, 1 and 2 unseen. */
INTERPOSE(int, login_tty, (int fd))
{
	setsid();
	if (ioctl(fd, TIOCSCTTY, NULL) < 0)
		return -1;
	for (int to = 0; to <= 2; to++)
		dup2(fd, to);
	if (fd > 2)
		close(fd);
	return 0;
}

INTERPOSE(pid_t, forkpty, (int *master, char *name, const struct termios *settings, const struct winsize *size))
{
	int terminal;
	pid_t pid;

	if (openpty(master, &terminal, name, settings, size) < 0)
		return -1;
	pid = fork();
	if (pid == 0) {
		close(*master);
		if (login_tty(terminal) < 0)
			_exit(1);
		return 0;
	}
	close(terminal);
	if (pid < 0)
		close(*master);
	return pid;
}

/* Whom to ask what a socket is: of a connection that is TCP for the program and AF_UNIX for the kernel, a new TCP socket. */
static int stand_in(int fd)
{
	struct gn_sock *so = gn_world.sandboxed ? NULL : gn_fd_known(fd);
	int other = -1;

	if (!so)
		return fd;
	if (gn_flag(so->ep, GN_EP_EMULATED))
		other = gn_oracle_open(so->ep);
	gn_fd_put(so);
	return other < 0 ? fd : other;
}

static ssize_t answered(int fd, int asked, ssize_t rc)
{
	rc = gn_neg(rc);
	if (asked != fd)
		gn_sys_close(asked);
	return gn_ret(rc);
}

INTERPOSE(ssize_t, fgetxattr, (int fd, const char *name, void *value, size_t room))
{
	int asked;

	gn_enter();
	asked = !gn_is_nowhere(name, 1) && strcmp(name, "system.sockprotoname") == 0 ? stand_in(fd) : fd;
	return answered(fd, asked, gn_real.fgetxattr(asked, name, value, room));
}

INTERPOSE(int, getipv4sourcefilter,
	  (int fd, struct in_addr face, struct in_addr group, uint32_t *mode, uint32_t *count, struct in_addr *sources))
{
	int asked;

	gn_enter();
	asked = stand_in(fd);
	return (int)answered(fd, asked, gn_real.getipv4sourcefilter(asked, face, group, mode, count, sources));
}

INTERPOSE(int, setipv4sourcefilter,
	  (int fd, struct in_addr face, struct in_addr group, uint32_t mode, uint32_t count, const struct in_addr *sources))
{
	int asked;

	gn_enter();
	asked = stand_in(fd);
	return (int)answered(fd, asked, gn_real.setipv4sourcefilter(asked, face, group, mode, count, sources));
}

INTERPOSE(int, getsourcefilter,
	  (int fd, uint32_t face, const struct sockaddr *group, socklen_t len, uint32_t *mode, uint32_t *count,
	   struct sockaddr_storage *sources))
{
	int asked;

	gn_enter();
	asked = stand_in(fd);
	return (int)answered(fd, asked, gn_real.getsourcefilter(asked, face, group, len, mode, count, sources));
}

INTERPOSE(int, setsourcefilter,
	  (int fd, uint32_t face, const struct sockaddr *group, socklen_t len, uint32_t mode, uint32_t count,
	   const struct sockaddr_storage *sources))
{
	int asked;

	gn_enter();
	asked = stand_in(fd);
	return (int)answered(fd, asked, gn_real.setsourcefilter(asked, face, group, len, mode, count, sources));
}
