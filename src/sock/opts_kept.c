/* SPDX-License-Identifier: MIT */
/*
 * Options that the program has set, remembered: for getsockopt() where the carrying socket does not know them, for another socket that takes the
 * place of this one, for those that a listener accepts, and what the endpoint itself goes by (time-outs, low water).
 *
 * Invariants: a block of options is written only while it has one owner; who shares it with a listener takes a copy first. Threads/owner: writers
 * hold gn_world.big.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "sock/opts.h"

#define OPTIONS_MAX 32
#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51 /* linux/in.h, Linux 6.3 */
#endif

static struct gn_spare spare;

static uint32_t options_count(const struct gn_sock *so)
{
	return so->options ? so->options->count : 0;
}

struct gn_option *gn_option_find(const struct gn_sock *so, int level, int name)
{
	for (uint32_t i = 0; i < options_count(so); i++)
		if (so->options->option[i].level == level && so->options->option[i].name == name)
			return &so->options->option[i];
	return NULL;
}

/* gn_world.big is held. */
static void options_leave(struct gn_sock *so)
{
	if (so->options && --so->options->owners == 0)
		gn_spare_give(&spare, so->options);
	so->options = NULL;
}

/* Makes sure that nobody else sees what is written next. gn_world.big is held. False: no memory. */
static bool options_own(struct gn_sock *so)
{
	struct gn_options *mine;

	if (so->options && so->options->owners == 1)
		return true;
	mine = gn_spare_take(&spare, sizeof *mine + OPTIONS_MAX * sizeof mine->option[0]);
	if (!mine)
		return false;
	if (so->options)
		memcpy(mine, so->options, sizeof *mine + so->options->count * sizeof mine->option[0]);
	options_leave(so);
	mine->owners = 1;
	so->options = mine;
	return true;
}

void gn_option_note(struct gn_sock *so, int level, int name, const void *value, socklen_t len)
{
	struct gn_option *o;

	if (len > sizeof o->value)
		return;
	gn_lock(&gn_world.big);
	o = options_own(so) ? gn_option_find(so, level, name) : NULL;
	if (!o && so->options && so->options->count < OPTIONS_MAX)
		o = &so->options->option[so->options->count++];
	if (o) {
		*o = (struct gn_option){.level = level, .name = name, .len = len};
		memcpy(o->value, value, len);
	}
	gn_unlock(&gn_world.big);
}

static void option_forget(struct gn_sock *so, int level, int name)
{
	struct gn_option *o;

	if (likely(!gn_option_find(so, level, name)))
		return;
	gn_lock(&gn_world.big);
	o = options_own(so) ? gn_option_find(so, level, name) : NULL;
	if (o)
		*o = so->options->option[--so->options->count];
	gn_unlock(&gn_world.big);
}

void gn_options_free(struct gn_sock *so)
{
	if (!so->options)
		return;
	gn_lock(&gn_world.big);
	options_leave(so);
	gn_unlock(&gn_world.big);
}

static bool is_timeout(int name)
{
	return name == SO_RCVTIMEO || name == SO_SNDTIMEO;
}

static void timeout_note(struct gn_ep *ep, int name, const void *value, socklen_t len)
{
	struct timeval tv;
	uint64_t ns;

	if (len < sizeof tv)
		return;
	memcpy(&tv, value, sizeof tv);
	if (tv.tv_sec < 0)
		ns = 1; /* over when it begins */
	else if (__builtin_mul_overflow((uint64_t)tv.tv_sec, GN_NS_PER_S, &ns) || ns > UINT64_MAX / 2)
		ns = 0; /* for ever, to the kernel too */
	else
		ns += (uint64_t)tv.tv_usec * 1000;
	atomic_store(name == SO_RCVTIMEO ? &ep->rcvtimeo_ns : &ep->sndtimeo_ns, ns);
}

static void lowat_note(struct gn_ep *ep, const void *value, socklen_t len)
{
	int low;

	if (len < sizeof low)
		return;
	memcpy(&low, value, sizeof low);
	atomic_store(&ep->rcvlowat, low < 0 ? INT32_MAX : (uint32_t)low); /* as sock_set_rcvlowat() */
}

void gn_option_done(struct gn_sock *so, int level, int name, const void *value, socklen_t len)
{
	if (level != SOL_SOCKET)
		return;
	if (is_timeout(name))
		timeout_note(so->ep, name, value, len);
	if (name == SO_RCVLOWAT)
		lowat_note(so->ep, value, len);
}

static bool is_replayed(const struct gn_option *o)
{
	return o->level == SOL_SOCKET &&
	       (is_timeout(o->name) || o->name == SO_LINGER || o->name == SO_SNDBUF || o->name == SO_RCVBUF || o->name == SO_RCVLOWAT ||
		o->name == SO_OOBINLINE);
}

static int buffer_asked(const struct gn_option *o)
{
	int doubled;

	memcpy(&doubled, o->value, sizeof doubled);
	return doubled / 2; /* the kernel doubles what it is given (socket(7)) */
}

/* Set before the connection was made. */
static void peek_offset_note(struct gn_ep *ep, const struct gn_option *o)
{
	int offset;

	memcpy(&offset, o->value, sizeof offset);
	if (offset < 0)
		return;
	atomic_store(&ep->peek_at, (uint64_t)offset);
	atomic_fetch_or(&ep->flags, GN_EP_PEEK_OFF);
}

void gn_options_replay(struct gn_sock *so, int u)
{
	for (uint32_t i = 0; i < options_count(so); i++) {
		const struct gn_option *o = &so->options->option[i];
		int asked;

		if (o->level == SOL_SOCKET && o->name == SO_PEEK_OFF)
			peek_offset_note(so->ep, o);
		if (!is_replayed(o))
			continue;
		if (o->name == SO_SNDBUF || o->name == SO_RCVBUF) {
			asked = buffer_asked(o);
			gn_sys_setsockopt(u, o->level, o->name, &asked, sizeof asked);
		} else {
			gn_sys_setsockopt(u, o->level, o->name, o->value, o->len);
		}
	}
}

void gn_options_inherit(struct gn_sock *so, const struct gn_sock *listener, int fd)
{
	if (!listener->options)
		return;
	gn_lock(&gn_world.big);
	so->options = listener->options;
	so->options->owners++;
	gn_unlock(&gn_world.big);
	for (uint32_t i = 0; i < options_count(so); i++) {
		const struct gn_option *o = &so->options->option[i];

		gn_option_done(so, o->level, o->name, o->value, o->len);
		if (o->level == SOL_SOCKET && o->name == SO_LINGER)
			gn_linger_note(so->ep, o->value, o->len);
	}
	option_forget(so, IPPROTO_TCP, TCP_DEFER_ACCEPT); /* of listeners only */
	option_forget(so, IPPROTO_TCP, TCP_FASTOPEN);
	gn_options_replay(so, fd);
}

void gn_options_set(const struct gn_sock *so, int u)
{
	for (uint32_t i = 0; i < options_count(so); i++) {
		const struct gn_option *o = &so->options->option[i];

		gn_sys_setsockopt(u, o->level, o->name, o->value, o->len);
	}
}

bool gn_option_needs_kernel(const struct gn_sock *so)
{
	static const struct {
		int level, name;
	} kernel_only[] = {
		{SOL_SOCKET, SO_BINDTODEVICE}, {SOL_SOCKET, SO_MARK},	   {SOL_SOCKET, SO_TIMESTAMPING}, {IPPROTO_TCP, TCP_REPAIR},
		{IPPROTO_TCP, TCP_MD5SIG},     {IPPROTO_TCP, TCP_ULP},	   {IPPROTO_IP, IP_TRANSPARENT},  {IPPROTO_IP, IP_OPTIONS},
		{IPPROTO_TCP, TCP_FASTOPEN},   {IPPROTO_TCP, TCP_FASTOPEN_CONNECT},
		{SOL_SOCKET, SO_ZEROCOPY},     {IPPROTO_TCP, TCP_INQ},
		{IPPROTO_IP, IP_LOCAL_PORT_RANGE},
	};
	const struct gn_option *linger = gn_option_find(so, SOL_SOCKET, SO_LINGER);
	struct linger l;

	for (size_t i = 0; i < ARRAY_SIZE(kernel_only); i++)
		if (gn_option_find(so, kernel_only[i].level, kernel_only[i].name))
			return true;
	if (!linger)
		return false;
	memcpy(&l, linger->value, sizeof l);
	return l.l_onoff && l.l_linger == 0; /* a reset at close: AF_UNIX has none */
}
