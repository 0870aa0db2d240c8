/* SPDX-License-Identifier: MIT */
/* Stock operations of the peer, and warming up, see obs.h. */
#include "obs_impl.h"

#include <stdarg.h>

/* --- stock operations of the peer --- */

void obs_say(struct obs *o, const char *fmt, ...)
{
	size_t have = strlen(o->say);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(o->say + have, REPLY_TEXT - have, fmt, ap);
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
		obs_spell(text, sizeof(text), buf, rc);
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

long op_by_stdio(struct obs *o, long a, long b)
{
	FILE *f = fdopen(dup(o->fd), "w");
	int n;

	(void)a;
	(void)b;
	n = fprintf(f, "by stdio");
	return fclose(f) ? -1 : n;
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

/* --- warm-up, and echoes --- */

void echo_until_end(int fd)
{
	char buf[64];
	ssize_t n;

	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0)
		if (send(fd, buf, (size_t)n, MSG_NOSIGNAL) != n)
			break;
	close(fd);
}

void promise_ring(void)
{
	if (getenv("OBS_TRACE"))
		fprintf(stderr, "obs: pid=%d ring expected\n", getpid());
}

int turns(int fd, int count)
{
	char out[32], in[16];
	int right = 0;

	for (int i = 0; i < count; i++) {
		snprintf(out, sizeof(out), "turn number %04d", i);
		right += send(fd, out, 16, 0) == 16 && recv(fd, in, 16, MSG_WAITALL) == 16 && !memcmp(in, out, 16);
	}
	return right;
}

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
