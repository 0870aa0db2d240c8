/* SPDX-License-Identifier: MIT */
/* Connections, cases, and their deadlines, see obs.h. */
#include "obs_impl.h"

#include <ftw.h>

#define CASE_PATIENCE_S 6
#define SLOW_PATIENCE_S 16
#define LONG_PATIENCE_S 60

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

/* Nagle's algorithm would hold a second small message back for as long as it likes. */
static long no_delay(struct obs *o, long a, long b)
{
	(void)a;
	(void)b;
	return o->kind & (TCP | MAPPED) ? setsockopt(o->fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)) : 0;
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
	no_delay(o, 0, 0);
	peer(o, no_delay, 0, 0);
	if (o->hot)
		warm(o);
}

/* --- cases --- */

static void case_process(const struct obs_case *c, struct obs *o)
{
	if (getenv("OBS_TRACE") && o->kind != SOLO && o->hot && !(c->flags & NO_RING))
		fprintf(stderr, "obs: pid=%d ring expected\n", getpid());
	if (c->flags & LONG)
		peer_patience_ms = LONG_PATIENCE_MS;
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
	int64_t end = now_ms() + (c->flags & LONG ? LONG_PATIENCE_S : c->flags & SLOW ? SLOW_PATIENCE_S : CASE_PATIENCE_S) * 1000;
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
	for (size_t i = 0; i < obs_kinds_count; i++) {
		struct obs o = { .kind = obs_kinds[i].kind, .domain = obs_kinds[i].domain, .type = obs_kinds[i].type, .fd = -1 };

		if (!(c->kinds & o.kind))
			continue;
		if (!(c->flags & HOT_ONLY))
			case_one(c, &o, obs_kinds[i].name);
		o.hot = true;
		if (!(c->flags & COLD_ONLY))
			case_one(c, &o, obs_kinds[i].name);
		o.thread = true;
		if (c->flags & THREADS)
			case_one(c, &o, obs_kinds[i].name);
	}
}

int obs_main(int argc, char **argv, const struct obs_case *cases)
{
	const char *tmp = getenv("TMPDIR");
	ssize_t n;

	setvbuf(stdout, NULL, _IOFBF, 65536);
	n = readlink("/proc/self/exe", obs_self, sizeof(obs_self) - 1);
	obs_self[n > 0 ? n : 0] = 0;
	signal(SIGPIPE, SIG_DFL);
	if (argc == 7 && !strcmp(argv[1], "--peer"))
		return peer_process(argv);
	if (argc > 1) {
		fprintf(stderr, "usage: %s (see obs.h for its environment)\n", argv[0]);
		return 2;
	}
	snprintf(obs_dir_name, sizeof(obs_dir_name), "%.40s/obs-XXXXXX", tmp && strlen(tmp) < 40 ? tmp : "/tmp");
	if (!mkdtemp(obs_dir_name))
		die(obs_dir_name);
	for (const struct obs_case *c = cases; c->title; c++)
		case_all(c);
	nftw(obs_dir_name, unlink_one, 8, FTW_DEPTH | FTW_PHYS);
	return 0;
}
