/* SPDX-License-Identifier: MIT */
/* ring: yes */
/* Several threads on one socket: senders, receivers, both; close, dup2 and cancellation under a blocked call. */
#include "obs.h"

#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>

#define THREAD_COUNT 4
#define PER_THREAD 500

/* A record of the stream: thread, number, filling. One send() each, so none may be torn while there is room. */
struct record {
	uint32_t who, number;
	unsigned char filling[24];
};

struct work {
	pthread_t t;
	int fd;
	uint32_t who;
	long count, bad;
};

static void fill(struct record *r, uint32_t who, uint32_t number)
{
	memset(r, 0, sizeof(*r)); /* the pipe between the ends is a byte stream: no padding left to chance */
	r->who = who;
	r->number = number;
	pattern(r->filling, sizeof(r->filling), number, who);
}

static void *sender(void *arg)
{
	struct work *w = arg;
	struct record r;

	for (uint32_t i = 0; i < PER_THREAD; i++) {
		fill(&r, w->who, i);
		w->count += send(w->fd, &r, sizeof(r), 0) == sizeof(r);
	}
	return NULL;
}

static long op_records_in(struct obs *o, long n, long b)
{
	uint32_t next[THREAD_COUNT] = { 0 };
	struct record r, expect;
	long i;

	(void)b;
	for (i = 0; i < n; i++) {
		if (recv(o->fd, &r, sizeof(r), o->type == SOCK_STREAM ? MSG_WAITALL : 0) != sizeof(r) || r.who >= THREAD_COUNT)
			return -i - 2;
		fill(&expect, r.who, next[r.who]++);
		if (memcmp(&r, &expect, sizeof(r)))
			return -i - 2;
	}
	return i;
}

static void start(struct work *w, void *(*fn)(void *), int fd)
{
	for (uint32_t i = 0; i < THREAD_COUNT; i++) {
		w[i] = (struct work){ .fd = fd, .who = i };
		pthread_create(&w[i].t, NULL, fn, &w[i]);
	}
}

static long join(struct work *w)
{
	long sum = 0, bad = 0;

	for (int i = 0; i < THREAD_COUNT; i++) {
		pthread_join(w[i].t, NULL);
		sum += w[i].count;
		bad += w[i].bad;
	}
	if (bad)
		note("bad: %ld", bad);
	return sum;
}

static void many_senders(struct obs *o)
{
	struct work w[THREAD_COUNT];

	peer_start(o, op_records_in, THREAD_COUNT * PER_THREAD, 0);
	start(w, sender, o->fd);
	obs("sent", join(w));
	obs("peer: each thread's records whole and in order", peer_done(o));
}

/* A stream has no records: each receiver takes single bytes, and each byte is taken by one. */
static void *byte_receiver(void *arg)
{
	struct work *w = arg;
	unsigned char c;

	while (recv(w->fd, &c, 1, 0) == 1) {
		w->count++;
		w->bad += c; /* the sum of all is known */
	}
	return NULL;
}

static void many_receivers(struct obs *o)
{
	static unsigned char buf[20000];
	struct work w[THREAD_COUNT];
	long want = 0, sum = 0, count = 0;

	pattern(buf, sizeof(buf), 0, 1);
	for (size_t i = 0; i < sizeof(buf); i++)
		want += buf[i];
	start(w, byte_receiver, o->fd);
	obs("peer sends", peer(o, op_send, sizeof(buf), 0));
	peer(o, op_shutdown, SHUT_WR, 0);
	for (int i = 0; i < THREAD_COUNT; i++) {
		pthread_join(w[i].t, NULL);
		count += w[i].count;
		sum += w[i].bad;
	}
	obs("received", count);
	note("each byte once: %d", sum == want);
}

static void *record_receiver(void *arg)
{
	struct work *w = arg;
	struct record r, expect;
	ssize_t rc;

	while ((rc = recv(w->fd, &r, sizeof(r), 0)) == sizeof(r) && r.who != 99) {
		fill(&expect, r.who, r.number);
		w->bad += memcmp(&r, &expect, sizeof(r)) != 0;
		__atomic_fetch_add(&w->count, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* Else the kernel's UDP throws away what its queue has no room for. */
static void wait_for_receivers(struct work *w, long want)
{
	int64_t end = deadline_ms();
	long sum;

	do {
		sum = 0;
		for (int i = 0; i < THREAD_COUNT; i++)
			sum += __atomic_load_n(&w[i].count, __ATOMIC_RELAXED);
	} while (sum < want && now_ms() < end && usleep(100) == 0);
}

static long op_records_out(struct obs *o, long n, long stop)
{
	struct record r;

	for (long i = 0; i < n + stop; i++) {
		fill(&r, i < n ? 1 : 99, (uint32_t)i);
		if (send(o->fd, &r, sizeof(r), 0) != sizeof(r))
			return -1;
	}
	return n;
}

static void many_datagram_receivers(struct obs *o)
{
	struct work w[THREAD_COUNT];

	start(w, record_receiver, o->fd);
	for (int i = 0; i < 20; i++) {
		obs("peer sends", peer(o, op_records_out, 50, 0));
		wait_for_receivers(w, 50L * (i + 1));
	}
	peer(o, op_records_out, 0, THREAD_COUNT);
	obs("received", join(w));
}

static void *echo_byte(void *arg)
{
	struct work *w = arg;
	char c;

	while (w->count < PER_THREAD && recv(w->fd, &c, 1, 0) == 1)
		w->count += send(w->fd, &c, 1, 0) == 1;
	return NULL;
}

/* One thread sends while another receives on the same socket: full duplex. */
static void *duplex_sender(void *arg)
{
	struct work *w = arg;

	w->count = bulk_out(w->fd, 2000000, 5);
	return NULL;
}

static long op_duplex(struct obs *o, long n, long b)
{
	struct work w = { .fd = o->fd };
	long got;

	(void)b;
	pthread_create(&w.t, NULL, duplex_sender, &w);
	got = bulk_in(o->fd, n, 5);
	pthread_join(w.t, NULL);
	return got == n && w.count == n ? n : -1;
}

static void full_duplex(struct obs *o)
{
	peer_start(o, op_duplex, 2000000, 0);
	obs("here", op_duplex(o, 2000000, 0));
	obs("there", peer_done(o));
}

/* Many connections, each served by its own thread, in both processes. */
static long op_many_callers(struct obs *o, long n, long b)
{
	struct obs_name at;
	long done = 0;
	int fd[16];

	(void)b;
	name_unhex(&at, o->text);
	for (long i = 0; i < n; i++) {
		fd[i] = sock_of(o->kind, 0);
		if (connect(fd[i], (struct sockaddr *)&at.sa, at.len))
			return -1;
	}
	for (int round = 0; round < PER_THREAD; round++) {
		char c = (char)round;

		for (long i = 0; i < n; i++)
			send(fd[i], &c, 1, 0);
		for (long i = 0; i < n; i++) {
			char back = 0;

			done += recv(fd[i], &back, 1, 0) == 1 && back == c;
		}
	}
	for (long i = 0; i < n; i++)
		close(fd[i]);
	return done;
}

static void a_thread_for_each(struct obs *o)
{
	struct obs_name at;
	struct work w[THREAD_COUNT];
	char hex[300];
	int lfd = listener(o->kind, 20, &at);

	name_hex(hex, &at);
	peer_start_text(o, op_many_callers, THREAD_COUNT, hex);
	for (int i = 0; i < THREAD_COUNT; i++) {
		w[i] = (struct work){ .fd = accept(lfd, NULL, NULL) };
		pthread_create(&w[i].t, NULL, echo_byte, &w[i]);
	}
	obs("peer", peer_done(o));
	obs("echoed", join(w));
}

/* --- one thread takes the descriptor away from another that is blocked in it --- */

struct taker {
	int fd, err;
	long rc;
	_Atomic pid_t tid;
};

static void *blocked_reader(void *arg)
{
	struct taker *t = arg;
	char buf[10];

	t->tid = gettid();
	t->rc = recv(t->fd, buf, sizeof(buf), 0);
	t->err = errno;
	return NULL;
}

/* The kernel: close does not wake who is already inside; data that comes still goes to it. */
static void close_under_a_reader(struct obs *o)
{
	struct taker t = { .fd = o->fd };
	int copy = dup(o->fd);
	pthread_t th;

	pthread_create(&th, NULL, blocked_reader, &t);
	while (!t.tid)
		usleep(500);
	note("asleep: %d", thread_asleep(getpid(), t.tid, -1));
	obs("close", close(o->fd));
	obs("peer sends", peer_text(o, op_puts, 0, "for whom"));
	pthread_join(th, NULL);
	errno = t.err;
	note("the reader got %s", t.rc == 8 ? "the data" : t.rc == -1 && t.err == EBADF ? "EBADF" : "something else");
	close(copy);
}

static void *cancelled(void *arg)
{
	struct taker *t = arg;
	char buf[10];

	t->rc = -5;
	t->rc = recv(t->fd, buf, sizeof(buf), 0);
	return NULL;
}

static void cancellation(struct obs *o)
{
	struct taker t = { .fd = o->fd };
	pthread_t th;
	void *how;

	for (int i = 0; i < 3; i++) {
		pthread_create(&th, NULL, cancelled, &t);
		pthread_cancel(th);
		pthread_join(th, &how);
		note("cancelled: %d, recv returned: %d", how == PTHREAD_CANCELED, t.rc != -5);
	}
	peer_text(o, op_puts, 0, "still works");
	obs_recv(o->fd, 100, 0);
	obs_send(o->fd, "both ways", 0);
	obs("peer recv", peer(o, op_recv, 100, 0));
}

static void *thousand_sockets(void *arg)
{
	struct work *w = arg;
	char c;

	for (int i = 0; i < 250; i++) {
		int sv[2];

		if (socketpair(AF_UNIX, i % 3 == 0 ? SOCK_SEQPACKET : SOCK_STREAM, 0, sv)) {
			w->bad++;
			continue;
		}
		w->count += send(sv[0], "x", 1, 0) == 1 && recv(sv[1], &c, 1, 0) == 1;
		close(sv[0]);
		w->bad += recv(sv[1], &c, 1, 0) != 0;
		close(sv[1]);
	}
	return NULL;
}

/* Descriptors are made and closed by all threads at once: numbers are reused at a high rate. */
static void numbers_reused(struct obs *o)
{
	struct work w[THREAD_COUNT];

	(void)o;
	start(w, thousand_sockets, -1);
	obs("pairs", join(w));
}

static struct obs_name called;

static void *caller(void *arg)
{
	const int *fd = arg;

	return connect(*fd, (struct sockaddr *)&called.sa, called.len) ? arg : NULL;
}

static bool reads_end(int fd, int other)
{
	char c;

	close(other);
	return recv(fd, &c, 1, 0) == 0;
}

static bool arrives(int fd, int other)
{
	char c = 0;

	return send(fd, "x", 1, 0) == 1 && recv(other, &c, 1, 0) == 1 && c == 'x';
}

static bool polls(int fd, int other)
{
	struct pollfd p[2] = { { .fd = other, .events = POLLIN }, { .fd = fd, .events = POLLIN | POLLOUT } };

	return poll(p, 2, 0) == 1 && p[1].revents == POLLOUT;
}

static bool has_a_peer(int fd, int other)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	(void)other;
	return getpeername(fd, (struct sockaddr *)&ss, &len) == 0 && len == called.len && !memcmp(&ss, &called.sa, len);
}

static bool shuts(int fd, int other)
{
	char c;

	return shutdown(fd, SHUT_WR) == 0 && recv(other, &c, 1, 0) == 0;
}

static bool copies(int fd, int other)
{
	int copy = dup(fd);
	bool right = arrives(copy, other);

	close(copy);
	return right;
}

static bool forks(int fd, int other)
{
	pid_t pid = obs_fork();
	char c;

	if (pid == 0)
		_exit(send(fd, "x", 1, 0) != 1);
	return obs_wait(pid) == 0 && recv(other, &c, 1, 0) == 1;
}

static bool passes(int fd, int other)
{
	int via[2], got;
	bool right;

	socketpair(AF_UNIX, SOCK_STREAM, 0, via);
	right = pass_fd(via[0], fd) == 1;
	got = passed_fd(via[1]);
	right = right && arrives(got, other);
	close(got);
	close(via[0]);
	close(via[1]);
	return right;
}

static bool spawns(int fd, int other)
{
	char command[32], c = 0;

	snprintf(command, sizeof(command), "echo >&%d", fd);
	return system(command) == 0 && recv(other, &c, 1, 0) == 1 && c == '\n';
}

static bool closes(int fd, int other)
{
	struct pollfd p = { .fd = other, .events = POLLIN };
	char c;

	close(fd);
	return poll(&p, 1, (int)deadline_ms()) == 1 && recv(other, &c, 1, 0) == 0 && fcntl(fd, F_GETFD) == -1;
}

/* Whoever accepts knows that the connection is there, though the caller's thread may not have come back from connect(). */
static void used_before_connect_returns(struct obs *o)
{
	static bool (*const uses[])(int, int) = { reads_end, arrives, polls, has_a_peer, shuts, copies, passes, forks, spawns, closes };
	int l = listener(TCP4, 16, &called);

	(void)o;
	for (size_t i = 0; i < sizeof(uses) / sizeof(uses[0]); i++) {
		int rounds = uses[i] == forks || uses[i] == spawns ? 25 : 150, right = 0;

		for (int k = 0; k < rounds; k++) {
			int fd = sock_of(TCP4, 0), other;
			pthread_t t;
			void *failed;

			pthread_create(&t, NULL, caller, &fd);
			other = accept(l, NULL, NULL);
			right += uses[i](fd, other);
			pthread_join(t, &failed);
			right -= failed != NULL;
			if (uses[i] != closes)
				close(fd);
			if (uses[i] != reads_end)
				close(other);
		}
		note("use %zu: %d of %d", i, right, rounds);
	}
	close(l);
}

/* The second finds it connected, whether or not it comes while the first is at it. */
static void two_connect_one(struct obs *o)
{
	int l = listener(TCP4, 128, &called), one = 0, more = 0;
	struct pollfd p = { .fd = l, .events = POLLIN };

	(void)o;
	for (int i = 0; i < 100; i++) {
		int fd = sock_of(TCP4, 0), other;
		pthread_t t;
		void *failed;
		bool mine;

		pthread_create(&t, NULL, caller, &fd);
		mine = connect(fd, (struct sockaddr *)&called.sa, called.len) == 0;
		if (!mine && errno != EISCONN)
			note("connect: %s", strerror(errno));
		pthread_join(t, &failed);
		one += mine == (failed != NULL);
		other = accept(l, NULL, NULL);
		if (arrives(fd, other))
			more += poll(&p, 1, 0);
		close(fd);
		close(other);
	}
	note("one of both: %d, callers too many: %d", one, more);
	close(l);
}

static void *one_byte(void *arg)
{
	struct work *w = arg;
	char c;

	__atomic_store_n(&w->who, (uint32_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
	w->count = recv(w->fd, &c, 1, 0);
	return NULL;
}

/* A signal ends one reader's sleep just as another comes, who is to have the next byte. */
static void one_comes_as_another_leaves(struct obs *o)
{
	long got = 0;

	count_signal(SIGUSR1, 0);
	for (int i = 0; i < 100; i++) {
		struct work w[2] = { { .fd = o->fd }, { .fd = o->fd } };
		pid_t tid[2] = { 0, 0 };

		for (int k = 0; k < 2; k++) {
			pthread_create(&w[k].t, NULL, one_byte, &w[k]);
			while (!(tid[k] = (pid_t)__atomic_load_n(&w[k].who, __ATOMIC_ACQUIRE)))
				;
			if (k)
				pthread_kill(w[0].t, SIGUSR1);
			else
				thread_asleep(getpid(), tid[k], -1);
		}
		pthread_join(w[0].t, NULL);
		thread_asleep(getpid(), tid[1], -1);
		peer_text(o, op_puts, 0, "b");
		pthread_join(w[1].t, NULL);
		got += w[0].count + 10 * w[1].count;
	}
	obs("bytes", got);
}

static void *write_for_echo(void *arg)
{
	struct obs *o = arg;
	char buf[64];

	for (long pos = 0; pos < 3000L * 64; pos += 64) {
		pattern(buf, sizeof(buf), (uint64_t)pos, 9);
		if (send(o->fd, buf, sizeof(buf), 0) != sizeof(buf))
			return o;
	}
	shutdown(o->fd, SHUT_WR);
	return NULL;
}

/* One thread writes, and makes the connection hot, while the other one sleeps in poll. */
static void polls_while_another_writes(struct obs *o)
{
	char got[4096], want[4096];
	struct pollfd p = { .fd = o->fd, .events = POLLIN };
	pthread_t t;
	void *failed;
	long total = 0;
	ssize_t n;

	peer_start(o, op_echo, 3000, 64);
	pthread_create(&t, NULL, write_for_echo, o);
	while (total < 3000L * 64 && poll(&p, 1, 3000) == 1) {
		n = recv(o->fd, got, sizeof(got), MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			continue;
		if (n <= 0)
			break;
		pattern(want, (size_t)n, (uint64_t)total, 9);
		if (memcmp(got, want, (size_t)n))
			note("wrong bytes at %ld", total);
		total += n;
	}
	note("total %ld", total);
	pthread_join(t, &failed);
	note("writer: %s", failed ? "fails" : "done");
	obs("peer", peer_done(o));
}

/* --- one thread shuts the writing half while another one sleeps, waiting for data --- */

#define GREETINGS 400

struct listening {
	int fd;
	bool polls;
	_Atomic long got;
	_Atomic pid_t tid;
};

static void *listen_to_peer(void *arg)
{
	struct listening *l = arg;
	struct pollfd p = { .fd = l->fd, .events = POLLIN };
	char buf[16];
	ssize_t n;

	l->tid = gettid();
	for (;;) {
		if (l->polls && poll(&p, 1, 3000) != 1)
			return NULL;
		n = recv(l->fd, buf, sizeof(buf), l->polls ? MSG_DONTWAIT : 0);
		if (n < 0 && errno == EAGAIN)
			continue;
		if (n <= 0)
			return NULL;
		l->got += n;
	}
}

static void *read_to_the_end(void *arg)
{
	struct taker *t = arg;
	char buf[16];

	t->tid = gettid();
	while ((t->rc = recv(t->fd, buf, sizeof(buf), 0)) > 0)
		;
	return NULL;
}

/* A thread of the peer's sleeps in recv from the start, so that only the peer's own writing can leave the kernel lane. */
static long op_greet_and_answer_the_end(struct obs *o, long n, long b)
{
	struct taker t = { .fd = o->fd };
	char buf[16] = "a greeting";
	pthread_t reader;
	long done = 0;

	(void)b;
	pthread_create(&reader, NULL, read_to_the_end, &t);
	while (!t.tid)
		usleep(500);
	if (!thread_asleep(getpid(), t.tid, -1))
		return -2;
	for (long i = 0; i < n; i++)
		done += send(o->fd, buf, sizeof(buf), MSG_NOSIGNAL) == sizeof(buf);
	pthread_join(reader, NULL);
	for (int i = 0; i < 3 && t.rc == 0; i++) {
		done += send(o->fd, buf, sizeof(buf), MSG_NOSIGNAL) == sizeof(buf);
		usleep(3000);
	}
	shutdown(o->fd, SHUT_WR);
	return done;
}

static void half_shut_beside(struct obs *o, bool polls)
{
	struct listening l = { .fd = o->fd, .polls = polls };
	pthread_t t;

	peer_start(o, op_greet_and_answer_the_end, GREETINGS, 0);
	pthread_create(&t, NULL, listen_to_peer, &l);
	while (l.got < GREETINGS * 16L)
		usleep(500);
	note("asleep: %d", thread_asleep(getpid(), l.tid, -1));
	obs("shutdown", shutdown(o->fd, SHUT_WR));
	pthread_join(t, NULL);
	note("got %ld", (long)l.got);
	obs("peer", peer_done(o));
}

static void half_shut_beside_a_poller(struct obs *o)
{
	half_shut_beside(o, true);
}

static void half_shut_beside_a_reader(struct obs *o)
{
	half_shut_beside(o, false);
}

#define LITTLE_STACK (32768 + 0x30000) /* coroutines have less; the other is for this program's own thread-local buffers */
#define ABYSS (1 << 20) /* below it, where a large frame would step over a guard page */

struct little {
	int fd, file, unread, marked;
	ssize_t got, sent, thrown;
	int shut;
};

/* Nothing is printed here: printf() wants more stack than any call. */
static void *on_little_stack(void *arg)
{
	struct little *l = arg;
	char buf[100];
	struct pollfd p = { l->fd, POLLIN, 0 };

	poll(&p, 1, -1);
	ioctl(l->fd, FIONREAD, &l->unread);
	ioctl(l->fd, SIOCATMARK, &l->marked);
	l->got = recv(l->fd, buf, 4, 0);
	l->thrown = recv(l->fd, buf, sizeof(buf), MSG_TRUNC);
	l->sent = sendfile(l->fd, l->file, NULL, 20000);
	l->shut = shutdown(l->fd, SHUT_WR);
	return NULL;
}

static void little_stack(struct obs *o)
{
	static char zeros[20000];
	struct little l = { .fd = o->fd, .marked = -1 };
	char path[100];
	pthread_attr_t attr;
	pthread_t t;

	snprintf(path, sizeof(path), "%s/file.%d", obs_dir(), getpid());
	l.file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (l.file < 0 || write(l.file, zeros, sizeof(zeros)) != sizeof(zeros) || lseek(l.file, 0, SEEK_SET))
		die("file");
	pthread_attr_init(&attr);
	void *map = mmap(NULL, ABYSS + LITTLE_STACK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (map == MAP_FAILED || mprotect((char *)map + ABYSS, LITTLE_STACK, PROT_READ | PROT_WRITE) ||
	    pthread_attr_setstack(&attr, (char *)map + ABYSS, LITTLE_STACK))
		die("a stack");
	peer_text(o, op_puts, 0, "0123456789");
	settle(o->fd);
	peer_start(o, op_sink, 0, 0);
	if (pthread_create(&t, &attr, on_little_stack, &l))
		die("pthread_create");
	pthread_join(t, NULL);
	note("unread %d, marked %d, got %zd, thrown %zd, sent %zd, shut %d", l.unread, l.marked, l.got, l.thrown, l.sent, l.shut);
	obs("peer", peer_done(o));
}

int main(int argc, char **argv)
{
	static const struct obs_case cases[] = {
		{ "many senders", many_senders, STREAM | LOCALDG | SEQ, THREADS },
		{ "many receivers", many_receivers, STREAM, 0 },
		{ "many receivers of datagrams", many_datagram_receivers, DGRAM | SEQ, 0 },
		{ "full duplex", full_duplex, STREAM, THREADS },
		{ "a thread for each caller", a_thread_for_each, TCP4 | TCP6 | UNIXP, 0 },
		{ "a thread with little stack", little_stack, STREAM, 0 },
		{ "close under a reader", close_under_a_reader, STREAM, 0 },
		{ "cancellation", cancellation, STREAM | UDP4, 0 },
		{ "one comes as another leaves", one_comes_as_another_leaves, STREAM | SEQ, 0 },
		{ "numbers reused", numbers_reused, SOLO, 0 },
		{ "used before connect returns", used_before_connect_returns, SOLO, SLOW },
		{ "two connect one", two_connect_one, SOLO, 0 },
		{ "one thread polls while another writes", polls_while_another_writes, STREAM, 0 },
		{ "a half is shut beside a poller", half_shut_beside_a_poller, STREAM, 0 },
		{ "a half is shut beside a reader", half_shut_beside_a_reader, STREAM, 0 },
		{ 0 },
	};

	return obs_main(argc, argv, cases);
}
