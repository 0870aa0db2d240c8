/* SPDX-License-Identifier: MIT */
/* Datagram endpoints: the kernel's own socket. */
#include "sock/io.h"

void gn_dgram_free(struct gn_sock *so)
{
	(void)so;
}

void gn_dgram_connected(struct gn_sock *so, int fd, int rc)
{
	(void)so;
	(void)fd;
	(void)rc;
}

int gn_dgram_shutdown(struct gn_sock *so, int fd, int how)
{
	(void)so;
	return (int)gn_neg(gn_real.shutdown(fd, how));
}

ssize_t gn_dgram_send(struct gn_sock *so, int fd, struct gn_io *io)
{
	return gn_kernel_send(so, fd, io);
}

ssize_t gn_dgram_recv(struct gn_sock *so, int fd, struct gn_io *io)
{
	return gn_kernel_recv(so, fd, io);
}
