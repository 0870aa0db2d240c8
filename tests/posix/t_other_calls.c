/* SPDX-License-Identifier: MIT */
/* ring: yes */
/* Calls on the way past the shim: sendfile, splice, tee, bare system calls, O_ASYNC. They may be slow; the stream stays whole. */
#include "obs.h"

#include <linux/sockios.h>
#include <net/if.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>

static int file_with(long n, unsigned seed)
{
	char path[100], *buf = malloc((size_t)n);
	int fd;

	snprintf(path, sizeof(path), "%s/data.%d", obs_dir(), getpid());
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	pattern(buf, (size_t)n, 0, seed);
	if (fd < 0 || write(fd, buf, (size_t)n) != n || lseek(fd, 0, SEEK_SET))
		die("file");
	free(buf);
	return fd;
}

static void from_a_file(struct obs *o)
{
	int file = file_with(500000, 7);
	off_t at = 0;
	ssize_t rc;

	obs_send(o->fd, "header", 0);
	obs("peer recv", peer(o, op_recv, 6, MSG_WAITALL));
	peer_start(o, op_bulk_in, 500000, 7);
	while (at < 500000 && (rc = sendfile(o->fd, file, &at, 500000 - (size_t)at)) > 0)
		;
	obs("sendfile", at);
	obs("peer", peer_done(o));
	obs_send(o->fd, "trailer", 0);
	obs("peer recv", peer(o, op_recv, 7, MSG_WAITALL));
	note("peer has %s", o->say);
}

static void header_then_file_at_once(struct obs *o)
{
	int file = file_with(3000, 7);

	obs_send(o->fd, "header ", 0);
	obs("sendfile", sendfile(o->fd, file, NULL, 3000));
	obs_send(o->fd, " trailer", 0);
	obs("peer recv", peer(o, op_recv, 7, MSG_WAITALL));
	obs("peer bulk", peer(o, op_bulk_in, 3000, 7));
	obs("peer recv", peer(o, op_recv, 8, MSG_WAITALL));
	note("peer has %s", o->say);
}

static void spliced(struct obs *o)
{
	int p[2];
	char buf[20];

	if (pipe(p))
		die("pipe");
	peer_text(o, op_puts, 0, "in by splice");
	settle(o->fd);
	obs("splice in", splice(o->fd, NULL, p[1], NULL, 100, 0));
	obs_bytes("read", buf, read(p[0], buf, sizeof(buf)));
	obs("write", write(p[1], "out by splice", 13));
	obs("splice out", splice(p[0], NULL, o->fd, NULL, 13, 0));
	obs("peer recv", peer(o, op_recv, 100, 0));
	note("peer has %s", o->say);
	peer_text(o, op_puts, 0, "ordinary");
	obs_recv(o->fd, 100, 0);
	obs_send(o->fd, "ordinary", 0);
	obs("peer recv", peer(o, op_recv, 100, 0));
}

/* Half of the data was read in the ordinary way, the other half is spliced. */
static void splice_of_what_is_left(struct obs *o)
{
	int p[2];
	char buf[20];

	if (pipe(p))
		die("pipe");
	peer_text(o, op_puts, 0, "0123456789");
	settle(o->fd);
	obs_recv(o->fd, 4, 0);
	obs("splice in", splice(o->fd, NULL, p[1], NULL, 100, 0));
	obs_bytes("read", buf, read(p[0], buf, sizeof(buf)));
}

/* A pipe that is full, then has a page of room: it takes what fits, and nobody waits who does not want to. */
static void splice_to_a_full_pipe(struct obs *o)
{
	static char filler[65536], buf[65536];
	int p[2];
	long moved = 0;
	ssize_t rc;

	if (pipe(p) || fcntl(p[1], F_SETPIPE_SZ, 16384) != 16384)
		die("pipe");
	memset(filler, 'f', sizeof(filler));
	obs("filler", write(p[1], filler, 16384));
	peer(o, op_send, 20000, 0);
	settle(o->fd);
	obs("splice, full", splice(o->fd, NULL, p[1], NULL, 20000, SPLICE_F_NONBLOCK));
	obs("a page", read(p[0], buf, 4096));
	rc = splice(o->fd, NULL, p[1], NULL, 20000, SPLICE_F_NONBLOCK);
	note("splice, a page free: %d", rc > 0 && rc < 20000);
	moved = rc;
	rc = read(p[0], buf, 12288);
	note("filler: %zd, all of it %d", rc, rc == 12288 && !memcmp(buf, filler, 12288));
	for (long have = 0; have < 20000; have += rc) {
		while (moved - have == 0 && (rc = splice(o->fd, NULL, p[1], NULL, (size_t)(20000 - moved), 0)) > 0)
			moved += rc;
		rc = read(p[0], buf + have, (size_t)(20000 - have));
		if (rc <= 0)
			break;
	}
	obs("moved", moved);
	note("sum %08x", checksum(buf, 20000));
}

/* syscall() of the C library's own wrapper goes by every preload; glibc itself lets it be interposed. */
static void by_number(struct obs *o)
{
	char buf[40];

	obs("write", syscall(SYS_write, o->fd, "by number", 9));
	obs("peer recv", peer(o, op_recv, 100, 0));
	note("peer has %s", o->say);
	peer_text(o, op_puts, 0, "to a number");
	settle(o->fd);
	obs_bytes("read", buf, syscall(SYS_read, o->fd, buf, sizeof(buf)));
	obs("sendto", syscall(SYS_sendto, o->fd, "again", 5, 0, NULL, 0));
	obs("peer recv", peer(o, op_recv, 100, 0));
	int copy = (int)syscall(SYS_dup, o->fd);
	obs("dup", copy >= 0);
	obs("send", send(copy, "by the copy", 11, 0));
	obs("peer recv", peer(o, op_recv, 100, 0));
	obs("close", syscall(SYS_close, copy));
	obs_send(o->fd, "ordinary", 0);
	obs("peer recv", peer(o, op_recv, 100, 0));
	peer_text(o, op_puts, 0, "ordinary");
	obs_recv(o->fd, 100, 0);
}

static void data_then_by_number(struct obs *o)
{
	char buf[40];

	obs_send(o->fd, "one ", 0);
	obs("write", syscall(SYS_write, o->fd, "two ", 4));
	obs_send(o->fd, "three", 0);
	obs("peer recv", peer(o, op_recv, 13, MSG_WAITALL));
	note("peer has %s", o->say);
	peer_text(o, op_puts, 0, "0123456789");
	settle(o->fd);
	obs_recv(o->fd, 4, 0);
	obs_bytes("read", buf, syscall(SYS_read, o->fd, buf, sizeof(buf)));
}

static void vectored_files_calls(struct obs *o)
{
	char buf[20];
	struct iovec out = { (void *)"pwritev2", 8 }, in = { buf, sizeof(buf) };

	obs("pwritev2 at -1", pwritev2(o->fd, &out, 1, -1, 0));
	obs("peer recv", peer(o, op_recv, 100, 0));
	peer_text(o, op_puts, 0, "preadv2");
	settle(o->fd);
	obs_bytes("preadv2 at -1", buf, preadv2(o->fd, &in, 1, -1, 0));
	obs("preadv2 RWF_NOWAIT", preadv2(o->fd, &in, 1, -1, RWF_NOWAIT));
	obs("pwritev", pwritev(o->fd, &out, 1, 0));
	obs("preadv2 at -2", preadv2(o->fd, &in, 1, -2, 0));
	obs("preadv2 at 0", preadv2(o->fd, &in, 1, 0, 0));
	obs("unknown flag", preadv2(o->fd, &in, 1, -1, 0x40000000));
	obs("unknown flag", pwritev2(o->fd, &out, 1, -1, 0x40000000));
	obs("no vectors", preadv2(o->fd, &in, 0, -1, 0));
	for (int flag = RWF_HIPRI; flag <= RWF_APPEND; flag <<= 1) {
		obs("pwritev2 with a flag", pwritev2(o->fd, &out, 1, -1, flag));
		obs("peer recv", peer(o, op_recv, 100, 0));
	}
	peer(o, op_close, 0, 0);
	obs("preadv2 at the end", preadv2(o->fd, &in, 1, -1, RWF_NOWAIT));
}

/* Calls that move pages between pipes and files: the kernel refuses them for sockets. */
static void page_movers(struct obs *o)
{
	struct iovec v = { (void *)"pages", 5 };
	int p[2], file = file_with(100, 3);
	char buf[20];

	if (pipe(p))
		die("pipe");
	peer_text(o, op_puts, 0, "0123456789");
	settle(o->fd);
	obs("tee from it", tee(o->fd, p[1], 10, 0));
	obs("tee to it", tee(p[0], o->fd, 10, 0));
	obs("vmsplice to it", vmsplice(o->fd, &v, 1, 0));
	obs("copy_file_range from it", copy_file_range(o->fd, NULL, file, NULL, 10, 0));
	obs("copy_file_range to it", copy_file_range(file, NULL, o->fd, NULL, 10, 0));
	obs("vmsplice to the pipe", vmsplice(p[1], &v, 1, 0));
	obs("splice to it", splice(p[0], NULL, o->fd, NULL, 5, 0));
	obs("peer recv", peer(o, op_recv, 100, 0));
	note("peer has %s", o->say);
	obs("splice with a position", splice(o->fd, &(loff_t){ 0 }, p[1], NULL, 10, 0));
	obs("splice to itself", splice(o->fd, NULL, o->fd, NULL, 10, 0));
	obs("splice to no pipe", splice(o->fd, NULL, file, NULL, 10, 0));
	obs("splice", splice(o->fd, NULL, p[1], NULL, 10, 0));
	obs_bytes("read", buf, read(p[0], buf, sizeof(buf)));
	nonblock(o->fd, true);
	obs("splice of nothing", splice(o->fd, NULL, p[1], NULL, 10, SPLICE_F_NONBLOCK));
	obs_send(o->fd, "ordinary", 0);
	obs("peer recv", peer(o, op_recv, 100, 0));
}

static void signal_io(struct obs *o)
{
	int64_t end = deadline_ms();

	count_signal(SIGIO, 0);
	obs("F_SETOWN", fcntl(o->fd, F_SETOWN, getpid()));
	obs("F_SETFL O_ASYNC", fcntl(o->fd, F_SETFL, O_ASYNC));
	peer_text(o, op_puts, 0, "x");
	while (!obs_signals && now_ms() < end)
		usleep(500);
	note("signalled: %d", obs_signals > 0);
	obs_recv(o->fd, 10, 0);
	obs("F_GETFL", (fcntl(o->fd, F_GETFL) & O_ASYNC) != 0);
	obs("F_SETFL 0", fcntl(o->fd, F_SETFL, 0));
}

static void fortified(struct obs *o)
{
	char buf[16];
	struct pollfd p[2] = { { .fd = o->fd, .events = POLLIN } };
	extern ssize_t __recv_chk(int, void *, size_t, size_t, int), __read_chk(int, void *, size_t, size_t);
	extern ssize_t __recvfrom_chk(int, void *, size_t, size_t, int, struct sockaddr *, socklen_t *);
	extern int __poll_chk(struct pollfd *, nfds_t, int, size_t);

	peer_text(o, op_puts, 0, "abcdef");
	obs("__poll_chk", __poll_chk(p, 1, 3000, sizeof(p)));
	obs_bytes("__recv_chk", buf, __recv_chk(o->fd, buf, 2, sizeof(buf), 0));
	obs_bytes("__read_chk", buf, __read_chk(o->fd, buf, 2, sizeof(buf)));
	obs_bytes("__recvfrom_chk", buf, __recvfrom_chk(o->fd, buf, 10, sizeof(buf), 0, NULL, NULL));
}

static void network_questions(struct obs *o)
{
	struct ifreq lo = { .ifr_name = "lo" };
	struct ifconf all = { .ifc_len = 0 };
	int unsent = -1;

	obs("SIOCGIFINDEX", ioctl(o->fd, SIOCGIFINDEX, &lo));
	note("lo is %d", lo.ifr_ifindex);
	obs("SIOCGIFFLAGS", ioctl(o->fd, SIOCGIFFLAGS, &lo));
	note("up: %d", lo.ifr_flags & IFF_UP);
	obs("SIOCGIFADDR", ioctl(o->fd, SIOCGIFADDR, &lo));
	obs("SIOCGIFNETMASK", ioctl(o->fd, SIOCGIFNETMASK, &lo));
	obs("SIOCGIFMTU", ioctl(o->fd, SIOCGIFMTU, &lo));
	note("mtu %d", lo.ifr_mtu);
	obs("SIOCGIFCONF", ioctl(o->fd, SIOCGIFCONF, &all) == 0 && all.ifc_len > 0);
	snprintf(lo.ifr_name, sizeof(lo.ifr_name), "none");
	obs("SIOCGIFINDEX", ioctl(o->fd, SIOCGIFINDEX, &lo));
	obs("SIOCOUTQNSD", ioctl(o->fd, SIOCOUTQNSD, &unsent));
	note("unsent %d", unsent);
	obs("an interface's private call", ioctl(o->fd, SIOCDEVPRIVATE, &lo));
	obs("a protocol's private call", ioctl(o->fd, SIOCPROTOPRIVATE, &lo));
	obs("none", ioctl(o->fd, 0x89ff, &lo));
}

int main(int argc, char **argv)
{
	static const struct obs_case cases[] = {
		{ "sendfile", from_a_file, STREAM, 0 },
		{ "sendfile between sends", header_then_file_at_once, STREAM, 0 },
		{ "splice", spliced, STREAM, 0 },
		{ "splice of what is left", splice_of_what_is_left, STREAM, 0 },
		{ "splice to a full pipe", splice_to_a_full_pipe, STREAM, 0 },
		{ "system calls by number", by_number, STREAM, 0 },
		{ "system calls by number among others", data_then_by_number, STREAM, 0 },
		{ "preadv2 and pwritev2", vectored_files_calls, STREAM, 0 },
		{ "tee, vmsplice and copy_file_range", page_movers, STREAM, 0 },
		{ "O_ASYNC", signal_io, STREAM | UDP4, 0 },
		{ "questions about the network", network_questions, STREAM | DGRAM | SEQP, 0 },
		{ "fortified calls", fortified, STREAM, 0 },
		{ 0 },
	};

	return obs_main(argc, argv, cases);
}
