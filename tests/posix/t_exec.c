/* SPDX-License-Identifier: MIT */
/* ring: yes */
/* exec, posix_spawn, system, popen and stdio over sockets: other programs go on with a connection as their input and output. */
#include "obs.h"

#include <sched.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/epoll.h>
#include <sys/stat.h>

static void run_with_stdio(int fd, char *const argv[])
{
	dup2(fd, STDIN_FILENO);
	dup2(fd, STDOUT_FILENO);
	execvp(argv[0], argv);
	_exit(127);
}

static long op_ask(struct obs *o, long rounds, long b)
{
	char line[32], back[32];

	(void)b;
	for (long i = 0; i < rounds; i++) {
		int n = snprintf(line, sizeof(line), "line %ld of the peer\n", i);

		if (send(o->fd, line, (size_t)n, 0) != n || recv(o->fd, back, (size_t)n, MSG_WAITALL) != n || memcmp(line, back, (size_t)n))
			return i;
	}
	shutdown(o->fd, SHUT_WR);
	return recv(o->fd, back, sizeof(back), 0) == 0 ? rounds : -2;
}

/* inetd: fork, dup2 onto 0 and 1, exec of cat. */
static void cat(struct obs *o)
{
	static char *const argv[] = { (char *)"cat", NULL };
	pid_t pid = obs_fork();

	if (pid == 0)
		run_with_stdio(o->fd, argv);
	close(o->fd);
	obs("peer", peer(o, op_ask, 300, 0));
	obs("cat ends", obs_wait(pid));
}

/* The same with data already waiting, some of it read before exec. */
static void cat_of_data_waiting(struct obs *o)
{
	static char *const argv[] = { (char *)"cat", NULL };
	char buf[4];
	pid_t pid;

	peer_text(o, op_puts, 0, "0123456789");
	obs("first", recv(o->fd, buf, 4, MSG_WAITALL));
	pid = obs_fork();
	if (pid == 0)
		run_with_stdio(o->fd, argv);
	close(o->fd);
	obs("peer recv", peer(o, op_recv, 6, MSG_WAITALL));
	note("peer has %s", o->say);
	peer(o, op_shutdown, SHUT_WR, 0);
	obs("cat ends", obs_wait(pid));
	obs("peer recv", peer(o, op_recv, 6, 0));
}

static void without_preload(struct obs *o)
{
	char *const argv[] = { (char *)"env", (char *)"-i", (char *)"/bin/cat", NULL }; /* no preload there */
	pid_t pid = obs_fork();

	if (pid == 0)
		run_with_stdio(o->fd, argv);
	close(o->fd);
	obs("peer", peer(o, op_ask, 100, 0));
	obs("cat ends", obs_wait(pid));
}

static void spawned(struct obs *o)
{
	static char *const argv[] = { (char *)"cat", NULL };
	posix_spawn_file_actions_t acts;
	pid_t pid;

	posix_spawn_file_actions_init(&acts);
	posix_spawn_file_actions_adddup2(&acts, o->fd, 0);
	posix_spawn_file_actions_adddup2(&acts, o->fd, 1);
	posix_spawn_file_actions_addclose(&acts, o->fd);
	obs("posix_spawnp", posix_spawnp(&pid, "cat", &acts, NULL, argv, environ));
	posix_spawn_file_actions_destroy(&acts);
	close(o->fd);
	obs("peer", peer(o, op_ask, 30, 0));
	obs("cat ends", obs_wait(pid));
}

/* The socket itself is closed by exec; its copy is not. */
static void spawned_from_cloexec(struct obs *o)
{
	obs("FD_CLOEXEC", fcntl(o->fd, F_SETFD, FD_CLOEXEC));
	spawned(o);
}

/* The same by a number that select() cannot name. */
static void spawned_from_a_high_number(struct obs *o)
{
	int low = o->fd;

	many_descriptors();
	o->fd = fcntl(low, F_DUPFD_CLOEXEC, 2000);
	if (o->fd < 0)
		die("F_DUPFD_CLOEXEC");
	close(low);
	spawned(o);
}

/* The client has sent a megabyte before the server's program is there. */
static void cat_of_a_megabyte(struct obs *o)
{
	static char *const argv[] = { (char *)"sh", (char *)"-c", (char *)"cat | wc -c", NULL };
	pid_t pid;

	peer_start(o, op_bulk_out, 1000000, 3);
	settle(o->fd);
	pid = obs_fork();
	if (pid == 0)
		run_with_stdio(o->fd, argv);
	close(o->fd);
	obs("peer bulk", peer_done(o));
	obs("peer shutdown", peer(o, op_shutdown, SHUT_WR, 0));
	obs("sh ends", obs_wait(pid));
	obs("peer recv", peer(o, op_recv, 100, 0));
	note("peer has %s", o->say);
	obs("peer recv", peer(o, op_recv, 100, 0));
}

/* --- a program that goes on with a connection of which much has been written already --- */

#define MEGABYTE 1000000

/* argv: --take FD: a megabyte in and one out, then lines until the end. */
static int take(char **argv)
{
	int fd = atoi(argv[2]);
	char line[64];
	ssize_t n;

	if (bulk_in(fd, MEGABYTE, 3) != MEGABYTE)
		return 1;
	if (bulk_out(fd, MEGABYTE, 4) != MEGABYTE)
		return 2;
	while ((n = read(fd, line, sizeof(line))) > 0)
		if (write(fd, line, (size_t)n) != n)
			return 3;
	return n < 0 ? 4 : 0;
}

/* Like this program, linked statically: there is no library to put in front of. */
static void static_self(char path[4096 + 8])
{
	ssize_t n = readlink("/proc/self/exe", path, 4096);

	strcpy(path + (n > 0 ? n : 0), "_static");
}

enum start { BY_FORK, BY_VFORK, BY_SPAWN };

static pid_t start_as(enum start how, const char *path, int from, int to, char *const argv[], char *const env[])
{
	posix_spawn_file_actions_t acts;
	pid_t pid;

	if (how == BY_SPAWN) {
		posix_spawn_file_actions_init(&acts);
		posix_spawn_file_actions_adddup2(&acts, from, to);
		obs("posix_spawn", posix_spawn(&pid, path, &acts, NULL, argv, env));
		posix_spawn_file_actions_destroy(&acts);
		return pid;
	}
	pid = how == BY_VFORK ? vfork() : obs_fork();
	if (pid == 0) {
		if (from != to)
			dup2(from, to);
		execve(path, argv, env);
		_exit(127);
	}
	return pid;
}

/* `to`: its descriptor there; -1: the one that it has here. */
static void taken_by(struct obs *o, enum start how, char *path, char *const env[], int to)
{
	char fd[16];
	char *argv[] = { path, (char *)"--take", fd, NULL };
	pid_t pid;

	snprintf(fd, sizeof(fd), "%d", to < 0 ? o->fd : to);
	peer_start(o, op_bulk_out, MEGABYTE, 3);
	settle(o->fd);
	pid = start_as(how, path, o->fd, to < 0 ? o->fd : to, argv, env);
	close(o->fd);
	obs("peer bulk out", peer_done(o));
	obs("peer bulk in", peer(o, op_bulk_in, MEGABYTE, 4));
	obs("peer", peer(o, op_ask, 100, 0));
	obs("program ends", obs_wait(pid));
}

static void taken(struct obs *o, enum start how, bool is_static, int to)
{
	static char *no_env[] = { NULL };
	char path[4096 + 8] = "/proc/self/exe";

	if (is_static)
		static_self(path);
	taken_by(o, how, path, is_static ? environ : no_env, to);
}

static void static_on_stdin(struct obs *o)
{
	taken(o, BY_FORK, true, STDIN_FILENO);
}

static void static_on_its_own(struct obs *o)
{
	taken(o, BY_FORK, true, -1);
}

static void static_on_twenty(struct obs *o)
{
	taken(o, BY_FORK, true, 20);
}

static void static_by_vfork(struct obs *o)
{
	taken(o, BY_VFORK, true, 20);
}

static void static_by_spawn(struct obs *o)
{
	taken(o, BY_SPAWN, true, 20);
}

static void cleared_on_stdin(struct obs *o)
{
	taken(o, BY_FORK, false, STDIN_FILENO);
}

static void cleared_on_its_own(struct obs *o)
{
	taken(o, BY_FORK, false, -1);
}

static void cleared_by_spawn(struct obs *o)
{
	taken(o, BY_SPAWN, false, 20);
}

/* An owner who is not the caller: the loader of a setuid program takes no preload. Who may not give files away sees a plain program. */
static void setuid_program(struct obs *o)
{
	char path[100], block[65536];
	int from = open("/proc/self/exe", O_RDONLY), to;
	ssize_t n;

	snprintf(path, sizeof(path), "%s/setuid", obs_dir());
	to = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
	while ((n = read(from, block, sizeof(block))) > 0)
		if (write(to, block, (size_t)n) != n)
			die("write");
	close(from);
	if (fchown(to, 65534, (gid_t)-1) && errno != EPERM)
		die("fchown");
	fchmod(to, 04755);
	close(to);
	taken_by(o, BY_FORK, path, environ, STDIN_FILENO);
	unlink(path);
}

/* --- one open file by every way that leads to it --- */

static void turns_of(struct obs *o, const char *whose, int fd)
{
	peer_start(o, op_echo, 50, 16);
	note("%s turns: %d", whose, turns(fd, 50));
	obs("peer", peer_done(o));
}

/* A process that has the connection by being sent it, and not by having been forked. */
static pid_t receiver(const struct obs *o, int *over)
{
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		die("socketpair");
	pid = obs_fork();
	if (pid == 0) {
		close(o->fd);
		close(pair[0]);
		_exit(turns(passed_fd(pair[1]), 50) == 50 ? 0 : 1);
	}
	close(pair[1]);
	*over = pair[0];
	return pid;
}

/* argv: --turns FD COUNT */
static int turns_main(char **argv)
{
	return turns(atoi(argv[2]), atoi(argv[3])) == atoi(argv[3]) ? 0 : 1;
}

static void every_way(struct obs *o)
{
	char fd[16], path[4096 + 8];
	char *argv[] = { path, (char *)"--turns", fd, (char *)"50", NULL };
	int over, copy = dup(o->fd);
	pid_t pid = receiver(o, &over), child;

	turns_of(o, "the copy's", copy);
	peer_start(o, op_echo, 50, 16);
	child = obs_fork();
	if (child == 0)
		_exit(turns(copy, 50) == 50 ? 0 : 1);
	obs("child ends", obs_wait(child));
	obs("peer", peer_done(o));
	turns_of(o, "the first one's", o->fd);
	peer_start(o, op_echo, 50, 16);
	obs("passed", pass_fd(over, o->fd));
	obs("receiver ends", obs_wait(pid));
	obs("peer", peer_done(o));
	close(o->fd);
	o->fd = -1;
	for (int i = 0; i < 2; i++) {
		i ? static_self(path) : (void)strcpy(path, "/proc/self/exe");
		snprintf(fd, sizeof(fd), "%d", copy);
		peer_start(o, op_echo, 50, 16);
		obs("program ends", obs_wait(start_as(BY_SPAWN, path, copy, copy, argv, environ)));
		obs("peer", peer_done(o));
	}
	turns_of(o, "the copy's", copy);
	close(copy);
	obs("peer recv", peer(o, op_recv, 10, 0));
}

static void vforked(struct obs *o)
{
	pid_t pid;

	fcntl(o->fd, F_SETFD, FD_CLOEXEC);
	pid = vfork();
	if (pid == 0) {
		dup2(o->fd, 0);
		dup2(o->fd, 1);
		execlp("cat", "cat", (char *)NULL);
		_exit(127);
	}
	close(o->fd);
	obs("peer", peer(o, op_ask, 30, 0));
	obs("cat ends", obs_wait(pid));
}

/* The parent closes its descriptor as soon as it runs again. */
static void vforked_often(struct obs *o)
{
	volatile int good = 0; /* and i: vfork returns twice */

	(void)o;
	for (volatile int i = 0; i < 20; i++) {
		int sv[2];
		char back[5] = "";
		pid_t pid;

		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv))
			die("socketpair");
		warm_pair(sv[0], sv[1]);
		pid = vfork();
		if (pid == 0) {
			dup2(sv[0], 0);
			dup2(sv[0], 1);
			execlp("cat", "cat", (char *)NULL);
			_exit(127);
		}
		close(sv[0]);
		good += send(sv[1], "hello", 5, MSG_NOSIGNAL) == 5 && recv(sv[1], back, 5, MSG_WAITALL) == 5 && !memcmp(back, "hello", 5);
		close(sv[1]);
		good += obs_wait(pid) == 0;
	}
	obs("good", good);
}

/* The child's number for it is another connection's of its parent, who goes on with that one; and a copy of a copy. */
static void vforked_onto_another(struct obs *o)
{
	char path[4096 + 8], fd[16];
	char *argv[] = { path, (char *)"--turns", fd, (char *)"50", NULL };
	int pair[2], copy;
	pid_t pid;

	static_self(path);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		die("socketpair");
	warm_pair(pair[0], pair[1]);
	snprintf(fd, sizeof(fd), "%d", pair[0]);
	peer_start(o, op_echo, 50, 16);
	pid = vfork();
	if (pid == 0) {
		copy = dup(o->fd);
		close(o->fd);
		if (dup2(copy, pair[0]) != pair[0] || fcntl(copy, F_SETFD, FD_CLOEXEC))
			_exit(126);
		execv(path, argv);
		_exit(127);
	}
	obs("program ends", obs_wait(pid));
	obs("peer", peer_done(o));
	warm_pair(pair[0], pair[1]);
	close(pair[0]);
	close(pair[1]);
	turns_of(o, "the parent's", o->fd);
}

/* Parent and child go on with one socket, the child without the shim. */
static void both_go_on(struct obs *o)
{
	static char *const argv[] = { (char *)"env", (char *)"-i", (char *)"/bin/sh", (char *)"-c",
				      (char *)"read a; echo child got $a >&0", NULL };
	pid_t pid = obs_fork();

	if (pid == 0) {
		dup2(o->fd, 0);
		execvp(argv[0], argv);
		_exit(127);
	}
	peer_text(o, op_puts, 0, "a line\n");
	obs("child ends", obs_wait(pid));
	obs("peer recv", peer(o, op_recv, 17, MSG_WAITALL));
	note("peer has %s", o->say);
	for (int i = 0; i < 3; i++) {
		obs_send(o->fd, "parent", 0);
		obs("peer recv", peer(o, op_recv, 100, 0));
		peer_text(o, op_puts, 0, "to the parent");
		obs_recv(o->fd, 100, 0);
	}
}

static int clone_child(void *arg)
{
	const struct obs *o = arg;
	char buf[10];

	if (recv(o->fd, buf, 5, MSG_WAITALL) != 5 || send(o->fd, "by the clone", 12, 0) != 12)
		_exit(1);
	_exit(0);
}

static void cloned(struct obs *o)
{
	static char stack[256 << 10] __attribute__((aligned(64)));
	pid_t pid;

	obs_send(o->fd, "before", 0);
	pid = clone(clone_child, stack + sizeof(stack), SIGCHLD, o);
	peer_text(o, op_puts, 0, "clone");
	obs("clone ends", obs_wait(pid));
	obs("peer recv", peer(o, op_recv, 18, MSG_WAITALL));
	note("peer has %s", o->say);
	for (int i = 0; i < 3; i++) {
		obs_send(o->fd, "parent", 0);
		obs("peer recv", peer(o, op_recv, 100, 0));
		peer_text(o, op_puts, 0, "to the parent");
		obs_recv(o->fd, 100, 0);
	}
}

static char name_of(int fd, int (*get)(int, struct sockaddr *, socklen_t *), const char *expected)
{
	struct obs_name n = { .len = sizeof(n.sa) };
	char hex[300] = "";

	if (get(fd, (struct sockaddr *)&n.sa, &n.len))
		return 'E';
	name_hex(hex, &n);
	return strcmp(hex, expected) ? 'n' : 'y';
}

/* argv: --who SOCKNAME PEERNAME: are these the names of descriptor 0? */
static int who(char **argv)
{
	int one = 1;
	socklen_t len = sizeof(one);

	printf("%c%c", name_of(0, getsockname, argv[2]), name_of(0, getpeername, argv[3]));
	printf(" %d", setsockopt(0, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)));
	one = 0;
	printf(" %d", getsockopt(0, IPPROTO_TCP, TCP_NODELAY, &one, &len));
	printf(" %d\n", one != 0);
	return 0;
}

static void names_after_exec(struct obs *o)
{
	struct obs_name name = { .len = sizeof(name.sa) };
	char mine[300], theirs[300];
	pid_t pid;

	getsockname(o->fd, (struct sockaddr *)&name.sa, &name.len);
	name_hex(mine, &name);
	name.len = sizeof(name.sa);
	getpeername(o->fd, (struct sockaddr *)&name.sa, &name.len);
	name_hex(theirs, &name);
	pid = obs_fork();
	if (pid == 0) {
		dup2(o->fd, 0);
		dup2(o->fd, 1);
		execl("/proc/self/exe", "t_exec", "--who", mine, theirs, (char *)NULL);
		_exit(127);
	}
	obs("child ends", obs_wait(pid));
	close(o->fd);
	obs("peer recv", peer(o, op_recv, 9, MSG_WAITALL));
	note("peer has %s", o->say);
}

/* Programs started by the way do not hurt: they inherit the descriptor and end. */
static void by_the_way(struct obs *o)
{
	char buf[40] = "";
	FILE *f;

	for (int i = 0; i < 3; i++) {
		fflush(stdout);
		obs("system", system("exit 3") >> 8);
		f = popen("echo from popen", "r");
		if (!f || !fgets(buf, sizeof(buf), f))
			obs("popen", -1);
		obs("pclose", pclose(f));
		obs_send(o->fd, "still here", 0);
		obs("peer recv", peer(o, op_recv, 100, 0));
		peer_text(o, op_puts, 0, "me too");
		obs_recv(o->fd, 100, 0);
	}
}

/* A descriptor that a shell inherits is written by the shell's own echo. */
static void shell_writes(struct obs *o)
{
	char command[80];

	snprintf(command, sizeof(command), "echo from the shell >&%d", o->fd);
	obs_send(o->fd, "before ", 0);
	fflush(stdout);
	obs("system", system(command));
	obs_send(o->fd, "after", 0);
	obs("peer recv", peer(o, op_recv, 27, MSG_WAITALL));
	note("peer has %s", o->say);
	obs("FD_CLOEXEC", fcntl(o->fd, F_SETFD, FD_CLOEXEC));
	snprintf(command, sizeof(command), "(echo lost >&%d) 2>/dev/null || exit 5", o->fd);
	obs("system", system(command) >> 8);
	obs("peer recv", peer(o, op_recv, 27, MSG_DONTWAIT));
}

static void fdopen_both(struct obs *o)
{
	FILE *in = fdopen(o->fd, "r"), *out = fdopen(dup(o->fd), "w");
	char line[64];

	setvbuf(out, NULL, _IOLBF, 0);
	for (int i = 0; i < 50; i++) {
		peer_start(o, op_echo, 1, 16);
		fprintf(out, "line number %03d\n", i);
		if (!fgets(line, sizeof(line), in) || atoi(line + 12) != i)
			note("round %d fails", i);
		peer_done(o);
	}
	peer_text(o, op_puts, 0, "one\ntwo\nthree");
	peer(o, op_shutdown, SHUT_WR, 0);
	while (fgets(line, sizeof(line), in))
		note("got %zu \"%.*s\"", strlen(line), (int)strcspn(line, "\n"), line);
	note("end: %d error: %d", feof(in) != 0, ferror(in) != 0);
	fputs("the rest stays in the buffer until closed", out);
	obs("fclose", fclose(out));
	obs("peer recv", peer(o, op_recv, 100, 0));
	obs("fclose", fclose(in));
	obs("peer recv", peer(o, op_recv, 100, 0));
}

static void dprintf_and_getline(struct obs *o)
{
	char *line = NULL;
	size_t room = 0;
	FILE *in;

	obs("dprintf", dprintf(o->fd, "%s %d\n", "formatted", 42));
	obs("peer recv", peer(o, op_recv, 100, 0));
	note("peer has %s", o->say);
	in = fdopen(o->fd, "r+");
	peer_text(o, op_puts, 0, "a line\nanother\n");
	obs("getline", getline(&line, &room, in));
	obs("getline", getline(&line, &room, in));
	free(line);
	obs("fileno", fileno(in) == o->fd);
	fclose(in);
}

/* The standard streams themselves. */
static void freopened(struct obs *o)
{
	pid_t pid = obs_fork();

	if (pid == 0) {
		char line[64];

		dup2(o->fd, 0);
		dup2(o->fd, 1);
		close(o->fd);
		while (fgets(line, sizeof(line), stdin)) {
			printf("you said %s", line);
			fflush(stdout);
		}
		exit(0);
	}
	close(o->fd);
	for (int i = 0; i < 20; i++) {
		peer_text(o, op_puts, 0, "hello\n");
		if (peer(o, op_recv, 15, MSG_WAITALL) != 15)
			note("round %d fails", i);
	}
	note("peer has %s", o->say);
	peer(o, op_shutdown, SHUT_WR, 0);
	obs("child ends", obs_wait(pid));
	obs("peer recv", peer(o, op_recv, 100, 0));
}

/* --- listeners that another program serves --- */

/* argv: --serve FD COUNT: that many callers of the listener, one after the other. */
static int serve(char **argv)
{
	int lfd = atoi(argv[2]);

	for (int i = 0; i < atoi(argv[3]); i++) {
		int fd = accept(lfd, NULL, NULL);

		if (fd < 0)
			return errno;
		echo_until_end(fd);
	}
	return 0;
}

/* text: the server. `n` callers one after the other; returns how many were answered. */
static long op_call(struct obs *o, long n, long b)
{
	struct obs_name at;
	long right = 0;

	(void)b;
	name_unhex(&at, o->text);
	for (long i = 0; i < n; i++) {
		int fd = sock_of(o->kind, 0);
		char in[4];

		if (connect(fd, (struct sockaddr *)&at.sa, at.len))
			return -1;
		right += send(fd, "ping", 4, 0) == 4 && recv(fd, in, 4, MSG_WAITALL) == 4 && !memcmp(in, "ping", 4);
		close(fd);
	}
	return right;
}

struct server {
	char path[4096], fd[16], count[16];
	char *argv[8];
};

/* The command line of a program that serves descriptor `fd`; without the preload if `plain`. */
static void server_of(struct server *s, int fd, int count, bool plain)
{
	static char *const shell[] = { (char *)"env", (char *)"-i" };
	ssize_t n = readlink("/proc/self/exe", s->path, sizeof(s->path) - 1);
	int i = 0;

	s->path[n > 0 ? n : 0] = 0;
	snprintf(s->fd, sizeof(s->fd), "%d", fd);
	snprintf(s->count, sizeof(s->count), "%d", count);
	for (; plain && i < 2; i++)
		s->argv[i] = shell[i];
	s->argv[i++] = s->path;
	s->argv[i++] = (char *)"--serve";
	s->argv[i++] = s->fd;
	s->argv[i++] = s->count;
	s->argv[i] = NULL;
}

/* The listener's maker never accepts; a caller is there before the program that does. */
static void listener_inherited(struct obs *o)
{
	for (int plain = 0; plain < 2; plain++) {
		struct obs_name at;
		struct server s;
		char hex[300];
		int lfd = listener(o->kind, 50, &at);
		pid_t pid;

		name_hex(hex, &at);
		server_of(&s, lfd, 11, plain);
		peer_start_text(o, op_call, 1, hex);
		note("asleep: %d", peer_asleep(o));
		pid = obs_fork();
		if (pid == 0) {
			execvp(s.argv[0], s.argv);
			_exit(127);
		}
		obs("first answer", peer_done(o));
		obs("answers", peer_text(o, op_call, 10, hex));
		obs("server ends", obs_wait(pid));
		obs_poll(lfd, POLLIN);
		close(lfd);
	}
}

/* Handed over as descriptor 20, closed under its own number: by vfork, and by posix_spawn. */
static void listener_moved(struct obs *o)
{
	for (int spawn = 0; spawn < 2; spawn++) {
		struct obs_name at;
		struct server s;
		char hex[300];
		int lfd = listener(o->kind, 50, &at);
		posix_spawn_file_actions_t acts;
		pid_t pid;

		name_hex(hex, &at);
		fcntl(lfd, F_SETFD, FD_CLOEXEC);
		server_of(&s, 20, 10, true);
		posix_spawn_file_actions_init(&acts);
		posix_spawn_file_actions_adddup2(&acts, lfd, 20);
		if (spawn)
			obs("posix_spawnp", posix_spawnp(&pid, s.argv[0], &acts, NULL, s.argv, environ));
		else if ((pid = vfork()) == 0) {
			dup2(lfd, 20);
			execvp(s.argv[0], s.argv);
			_exit(127);
		}
		posix_spawn_file_actions_destroy(&acts);
		obs("answers", peer_text(o, op_call, 10, hex));
		obs("server ends", obs_wait(pid));
		obs_poll(lfd, POLLIN);
		close(lfd);
	}
}

static _Noreturn void serve_by_epoll(int lfd)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int ep = epoll_create1(0), fd;

	epoll_ctl(ep, EPOLL_CTL_ADD, lfd, &ev);
	for (;;) {
		epoll_wait(ep, &ev, 1, -1);
		if (ev.events != EPOLLIN)
			_exit(1);
		fd = accept(lfd, NULL, NULL);
		if (fd >= 0)
			echo_until_end(fd);
	}
}

static _Noreturn void serve_by_poll(int lfd)
{
	struct pollfd p = { .fd = lfd, .events = POLLIN };
	int fd;

	for (;;) {
		poll(&p, 1, -1);
		if (p.revents != POLLIN)
			_exit(1);
		fd = accept(lfd, NULL, NULL);
		if (fd >= 0)
			echo_until_end(fd);
	}
}

/* nginx's upgrade: old workers and a new program serve one listener; then the old ones go, and their master stays. */
static void listener_upgraded(struct obs *o)
{
	struct obs_name at;
	struct server s;
	char hex[300];
	int lfd = listener(o->kind, 50, &at);
	pid_t old[2], new;

	name_hex(hex, &at);
	nonblock(lfd, true);
	for (int i = 0; i < 2; i++) {
		old[i] = obs_fork();
		if (old[i] == 0)
			i ? serve_by_poll(lfd) : serve_by_epoll(lfd);
	}
	obs("answers of the old", peer_text(o, op_call, 20, hex));
	server_of(&s, lfd, 1000, false);
	new = obs_fork();
	if (new == 0) {
		nonblock(lfd, false);
		execvp(s.argv[0], s.argv);
		_exit(127);
	}
	obs("answers of both", peer_text(o, op_call, 50, hex));
	for (int i = 0; i < 2; i++) {
		kill(old[i], SIGTERM);
		obs("old ends", obs_wait(old[i]));
	}
	obs("answers of the new", peer_text(o, op_call, 50, hex));
	kill(new, SIGTERM);
	obs("new ends", obs_wait(new));
}

/* A program that inherits the listener and does not care: its maker serves on, and wakes for callers only. */
static void listener_leaked(struct obs *o)
{
	struct obs_name at;
	char hex[300];
	int lfd = listener(o->kind, 50, &at);
	struct pollfd p = { .fd = lfd, .events = POLLIN };

	name_hex(hex, &at);
	obs("system", system("true"));
	obs("poll", poll(&p, 1, 50));
	for (int i = 0; i < 3; i++) {
		peer_start_text(o, op_call, 1, hex);
		echo_until_end(accept(lfd, NULL, NULL));
		obs("answered", peer_done(o));
	}
	obs_poll(lfd, POLLIN);
	close(lfd);
}

int main(int argc, char **argv)
{
	static const struct obs_case cases[] = {
		{ "exec of cat", cat, STREAM, 0 },
		{ "exec of cat with data waiting", cat_of_data_waiting, STREAM, 0 },
		{ "exec without the preload", without_preload, STREAM, 0 },
		{ "posix_spawn", spawned, STREAM, 0 },
		{ "posix_spawn of a descriptor that exec closes", spawned_from_cloexec, STREAM, 0 },
		{ "posix_spawn from a high number", spawned_from_a_high_number, STREAM, 0 },
		{ "exec with a megabyte waiting", cat_of_a_megabyte, STREAM, 0 },
		{ "a static program on descriptor 0", static_on_stdin, STREAM, 0 },
		{ "a static program on the descriptor that it was", static_on_its_own, STREAM, 0 },
		{ "a static program on another descriptor", static_on_twenty, STREAM, 0 },
		{ "a static program by vfork", static_by_vfork, STREAM, 0 },
		{ "a static program by posix_spawn", static_by_spawn, STREAM, 0 },
		{ "a cleared environment, on descriptor 0", cleared_on_stdin, STREAM, 0 },
		{ "a cleared environment, on the descriptor that it was", cleared_on_its_own, STREAM, 0 },
		{ "a cleared environment, by posix_spawn", cleared_by_spawn, STREAM, 0 },
		{ "a setuid program", setuid_program, STREAM, 0 },
		{ "one open file by every way", every_way, STREAM, 0 },
		{ "vfork and exec", vforked, STREAM, 0 },
		{ "vfork and exec, again and again", vforked_often, SOLO, 0 },
		{ "vfork onto another connection's number", vforked_onto_another, STREAM, 0 },
		{ "exec, and the parent goes on", both_go_on, STREAM, 0 },
		{ "clone", cloned, STREAM, 0 },
		{ "names after exec", names_after_exec, TCP4 | TCP4C | TCP6, 0 },
		{ "system and popen by the way", by_the_way, STREAM | UDP4, 0 },
		{ "a shell writes", shell_writes, STREAM, 0 },
		{ "fdopen", fdopen_both, STREAM, 0 },
		{ "dprintf and getline", dprintf_and_getline, STREAM, 0 },
		{ "stdin and stdout", freopened, STREAM, 0 },
		{ "a listener that another program serves", listener_inherited, TCP4 | TCP6 | UNIXP, COLD_ONLY },
		{ "a listener handed over as another descriptor", listener_moved, TCP4 | UNIXP, COLD_ONLY },
		{ "a listener whose old servers go", listener_upgraded, TCP4 | TCP6 | UNIXP, COLD_ONLY },
		{ "a listener that a program inherits by the way", listener_leaked, TCP4 | UNIXP, COLD_ONLY },
		{ 0 },
	};

	if (argc == 4 && !strcmp(argv[1], "--serve"))
		return serve(argv);
	if (argc == 3 && !strcmp(argv[1], "--take"))
		return take(argv);
	if (argc == 4 && !strcmp(argv[1], "--turns"))
		return turns_main(argv);
	if (argc == 4 && !strcmp(argv[1], "--who"))
		return who(argv);
	return obs_main(argc, argv, cases);
}
