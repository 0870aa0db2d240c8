/* SPDX-License-Identifier: MIT */
/* The peer, driven and driving, see obs.h. */
#include "obs_impl.h"

#include <sys/prctl.h>
#include <sys/syscall.h>

#define CONTROL_FD 300 /* control pipes live from here up, so that tests see ordinary low numbers */

struct request {
	int64_t op, a, b; /* op: distance of the function from obs_main(), the same in every process of this program */
	char text[600];
};

struct reply {
	int64_t rc, err;
	char text[REPLY_TEXT];
};

char obs_self[512];

/* --- the peer: driver's side --- */

static void put(int fd, const void *buf, size_t n)
{
	if (write(fd, buf, n) != (ssize_t)n)
		die("control pipe");
}

static bool get(int fd, void *buf, size_t n)
{
	size_t have = 0;
	ssize_t rc;

	while (have < n) {
		rc = read(fd, (char *)buf + have, n - have);
		if (rc < 0 && errno == EINTR)
			continue;
		if (rc <= 0)
			return false;
		have += (size_t)rc;
	}
	return true;
}

static void get_in_time(struct obs *o, void *buf, size_t n)
{
	struct pollfd p = { .fd = o->rep, .events = POLLIN };
	int64_t end = deadline_ms();
	int rc;

	while ((rc = poll(&p, 1, (int)(end > now_ms() ? end - now_ms() : 0))) < 0 && errno == EINTR)
		;
	if (rc == 0) {
		note("the peer does not come back");
		exit(98);
	}
	if (!get(o->rep, buf, n)) {
		note("the peer has died");
		exit(97);
	}
}

static char last_reply[REPLY_TEXT];

void peer_start_text(struct obs *o, obs_op *op, long a, const char *text)
{
	struct request r = { .op = (int64_t)((intptr_t)op - (intptr_t)obs_main), .a = a };
	char started;

	snprintf(r.text, sizeof(r.text), "%s", text);
	put(o->req, &r, sizeof(r));
	get_in_time(o, &started, 1);
}

void peer_start(struct obs *o, obs_op *op, long a, long b)
{
	struct request r = { .op = (int64_t)((intptr_t)op - (intptr_t)obs_main), .a = a, .b = b };
	char started;

	put(o->req, &r, sizeof(r));
	get_in_time(o, &started, 1);
}

long peer_done(struct obs *o)
{
	static struct reply r;

	get_in_time(o, &r, sizeof(r));
	memcpy(last_reply, r.text, sizeof(r.text));
	o->say = last_reply;
	errno = (int)r.err;
	return r.rc;
}

long peer(struct obs *o, obs_op *op, long a, long b)
{
	peer_start(o, op, a, b);
	return peer_done(o);
}

long peer_text(struct obs *o, obs_op *op, long a, const char *text)
{
	peer_start_text(o, op, a, text);
	return peer_done(o);
}

/* Asleep: the state letter is S five times in a row. One look could catch a short nap on the way. */
bool thread_asleep(pid_t pid, pid_t tid, int done_fd)
{
	char path[64], buf[512], *p;
	int64_t end = deadline_ms();
	struct pollfd pf = { .fd = done_fd, .events = POLLIN };
	int fd, seen = 0;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, tid);
	while (seen < 5 && now_ms() < end) {
		if (done_fd >= 0 && poll(&pf, 1, 0) == 1)
			return false;
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return false;
		n = read(fd, buf, sizeof(buf) - 1);
		close(fd);
		buf[n > 0 ? n : 0] = 0;
		p = strrchr(buf, ')');
		seen = p && p[2] == 'S' ? seen + 1 : 0;
		usleep(1000);
	}
	return seen == 5;
}

bool peer_asleep(struct obs *o)
{
	return thread_asleep(o->thread ? getpid() : o->pid, o->pid, o->rep);
}

/* --- the peer: its own side --- */

static void peer_loop(struct obs *o)
{
	struct request rq;
	struct reply *rp = calloc(1, sizeof(*rp));
	int32_t tid = (int32_t)syscall(SYS_gettid);

	put(o->rep, &tid, sizeof(tid));
	while (rp && get(o->req, &rq, sizeof(rq))) {
		obs_op *op = (obs_op *)((intptr_t)obs_main + (intptr_t)rq.op);

		memset(rp, 0, sizeof(*rp));
		o->text = rq.text;
		o->say = rp->text;
		put(o->rep, "s", 1);
		errno = 0;
		rp->rc = op(o, (long)rq.a, (long)rq.b);
		rp->err = errno;
		put(o->rep, rp, sizeof(*rp));
	}
	free(rp);
}

static void *peer_thread(void *arg)
{
	peer_loop(arg);
	return NULL;
}

int peer_process(char **argv)
{
	struct obs o = { .req = atoi(argv[2]), .rep = atoi(argv[3]), .fd = atoi(argv[4]), .kind = (uint32_t)strtoul(argv[5], NULL, 10) };

	snprintf(obs_dir_name, sizeof(obs_dir_name), "%s", argv[6]);
	o.domain = domain_of(o.kind);
	o.type = type_of(o.kind);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	peer_loop(&o);
	return 0;
}

static void peer_exec(const struct obs *o, const char *through)
{
	char words[256], num[4][16], *argv[32];
	int n = 0;

	snprintf(words, sizeof(words), "%s", through);
	for (char *w = strtok(words, " "); w && n < 20; w = strtok(NULL, " "))
		argv[n++] = w;
	snprintf(num[0], 16, "%d", o->req);
	snprintf(num[1], 16, "%d", o->rep);
	snprintf(num[2], 16, "%d", o->fd);
	snprintf(num[3], 16, "%u", o->kind);
	argv[n++] = obs_self;
	argv[n++] = (char *)"--peer";
	for (int i = 0; i < 4; i++)
		argv[n++] = num[i];
	argv[n++] = obs_dir_name;
	argv[n] = NULL;
	execvp(argv[0], argv);
	die("exec of the peer");
}

static int high(int fd)
{
	int up = fcntl(fd, F_DUPFD, CONTROL_FD);

	if (up < 0)
		die("F_DUPFD");
	close(fd);
	return up;
}

void peer_begin(struct obs *o, int fd)
{
	const char *through = getenv("OBS_PEER_EXEC");
	static struct obs theirs;
	int a[2], b[2];
	pthread_t t;
	int32_t tid;

	if (pipe(a) || pipe(b))
		die("pipe");
	theirs = *o;
	theirs.req = high(a[0]);
	theirs.rep = high(b[1]);
	o->req = high(a[1]);
	o->rep = high(b[0]);
	theirs.fd = fd;
	if (o->thread) {
		pthread_create(&t, NULL, peer_thread, &theirs);
		pthread_detach(t);
	} else if ((o->pid = obs_fork()) == 0) {
		close(o->req);
		close(o->rep);
		if (o->fd >= 0)
			close(o->fd);
		if (through)
			peer_exec(&theirs, through);
		peer_loop(&theirs);
		exit(0);
	} else {
		close(theirs.req);
		close(theirs.rep);
		if (fd >= 0)
			close(fd);
	}
	get_in_time(o, &tid, sizeof(tid));
	o->pid = tid;
}

void peer_end(struct obs *o)
{
	int rc;

	close(o->req);
	if (!o->thread && (rc = obs_wait(o->pid)) != 0)
		note("the peer ended with %d", rc);
}
