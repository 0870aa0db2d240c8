/* SPDX-License-Identifier: MIT */
/*
 * The byte ring: borders, lying peers, two threads (for ThreadSanitizer), two processes, kill -9, and the parking handshake.
 *
 * Nothing here sleeps: a side that has nothing to do yields or waits on a bell (an eventfd) with a deadline. Indexes start near the
 * wrap of 2^32. The seed of a run is printed; RING_TEST_SEED repeats one.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/unit.h"
#include "ring/ring.h"

#define PAGE 4096u
#define BELL_DEADLINE_MS 10000
#define NEAR_WRAP (UINT32_MAX - 5)

static uint64_t seed;

/* splitmix64 */
static uint64_t chance(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* A number from 1 to `most`. */
static uint32_t some(uint64_t *state, uint32_t most)
{
	return 1 + (uint32_t)(chance(state) % most);
}

/* The byte at a position of the stream, so that whoever reads can tell it without having talked to the writer. */
static uint8_t byte_at(uint64_t pos)
{
	return (uint8_t)(((pos + seed) * 0x9e3779b97f4a7c15u) >> 56);
}

static void fill(uint8_t *to, uint64_t pos, size_t len)
{
	for (size_t i = 0; i < len; i++)
		to[i] = byte_at(pos + i);
}

static bool is_right(const uint8_t *at, uint64_t pos, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (at[i] != byte_at(pos + i))
			return false;
	return true;
}

/* One direction: its shared words, its bytes between two pages that nobody may touch, and both sides' own views. */
struct rig {
	struct gn_dir *dir;
	struct gn_ring_map map;
	struct gn_ring producer, consumer;
	int data_bell, room_bell;
};

/* In shared memory, so that a fork leaves both processes with one ring. The sizes below a page end at the guard page. */
static struct rig rig_new(uint32_t size, uint32_t start)
{
	uint32_t pages = (size + PAGE - 1) & ~(PAGE - 1);
	struct rig rig = {.producer = {start, start}, .consumer = {start, start}};
	uint8_t *at = mmap(NULL, 3 * PAGE + pages, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(at, MAP_FAILED);
	ck_assert_int_eq(mprotect(at, PAGE, PROT_READ | PROT_WRITE), 0);
	ck_assert_int_eq(mprotect(at + 2 * PAGE, pages, PROT_READ | PROT_WRITE), 0);
	rig.dir = (struct gn_dir *)(void *)at;
	rig.map = (struct gn_ring_map){.dir = rig.dir, .bytes = at + 2 * PAGE + pages - size, .size = size};
	atomic_store(&rig.dir->head, start);
	atomic_store(&rig.dir->tail, start);
	rig.data_bell = eventfd(0, EFD_CLOEXEC);
	rig.room_bell = eventfd(0, EFD_CLOEXEC);
	ck_assert_int_ge(rig.room_bell, 0);
	return rig;
}

static void rig_free(struct rig *rig)
{
	uint32_t pages = (rig->map.size + PAGE - 1) & ~(PAGE - 1);

	close(rig->data_bell);
	close(rig->room_bell);
	ck_assert_int_eq(munmap(rig->dir, 3 * PAGE + pages), 0);
}

GN_TEST(an_empty_ring_has_all_its_room_and_nothing_to_read)
{
	struct rig rig = rig_new(64, 0);

	ck_assert_int_eq(gn_ring_space(&rig.producer, &rig.map), 64);
	ck_assert_int_eq(gn_ring_readable(&rig.consumer, &rig.map), 0);
	rig_free(&rig);
}

GN_TEST(a_full_ring_has_no_room_and_gives_back_what_went_in)
{
	struct rig rig = rig_new(64, NEAR_WRAP);
	uint8_t buf[64];

	fill(buf, 0, 64);
	gn_ring_put(&rig.producer, &rig.map, 0, buf, 64);
	ck_assert(!gn_ring_publish(&rig.producer, &rig.map, 64));
	ck_assert_int_eq(gn_ring_space(&rig.producer, &rig.map), 0);
	ck_assert_int_eq(gn_ring_readable(&rig.consumer, &rig.map), 64);
	memset(buf, 0, sizeof(buf));
	gn_ring_get(&rig.consumer, &rig.map, 0, buf, 64);
	ck_assert(is_right(buf, 0, 64));
	ck_assert(!gn_ring_consume(&rig.consumer, &rig.map, 64));
	ck_assert_int_eq(gn_ring_space(&rig.producer, &rig.map), 64);
	rig_free(&rig);
}

GN_TEST(bytes_that_were_put_are_not_there_before_they_are_published)
{
	struct rig rig = rig_new(64, NEAR_WRAP);

	gn_ring_put(&rig.producer, &rig.map, 0, "abcd", 4);
	ck_assert_int_eq(gn_ring_readable(&rig.consumer, &rig.map), 0);
	ck_assert_int_eq(gn_ring_space(&rig.producer, &rig.map), 64);
	gn_ring_publish(&rig.producer, &rig.map, 4);
	ck_assert_int_eq(gn_ring_readable(&rig.consumer, &rig.map), 4);
	rig_free(&rig);
}

GN_TEST(bytes_that_were_got_stay_until_they_are_consumed)
{
	struct rig rig = rig_new(64, NEAR_WRAP);
	char buf[4];

	gn_ring_put(&rig.producer, &rig.map, 0, "abcd", 4);
	gn_ring_publish(&rig.producer, &rig.map, 4);
	gn_ring_get(&rig.consumer, &rig.map, 0, buf, 4);
	ck_assert_int_eq(gn_ring_readable(&rig.consumer, &rig.map), 4);
	ck_assert_int_eq(gn_ring_space(&rig.producer, &rig.map), 60);
	gn_ring_consume(&rig.consumer, &rig.map, 3);
	ck_assert_int_eq(gn_ring_readable(&rig.consumer, &rig.map), 1);
	gn_ring_get(&rig.consumer, &rig.map, 0, buf, 1);
	ck_assert_int_eq(buf[0], 'd');
	rig_free(&rig);
}

GN_TEST(pieces_put_behind_one_another_are_published_and_got_as_one)
{
	struct rig rig = rig_new(16, NEAR_WRAP);
	char buf[12] = "";

	gn_ring_put(&rig.producer, &rig.map, 0, "abcd", 4);
	gn_ring_put(&rig.producer, &rig.map, 4, "efghi", 5);
	gn_ring_put(&rig.producer, &rig.map, 9, "jk", 2);
	gn_ring_publish(&rig.producer, &rig.map, 11);
	gn_ring_get(&rig.consumer, &rig.map, 0, buf, 11);
	ck_assert_str_eq(buf, "abcdefghijk");
	gn_ring_get(&rig.consumer, &rig.map, 7, buf, 4);
	ck_assert_mem_eq(buf, "hijk", 4);
	rig_free(&rig);
}

GN_TEST(a_copy_of_no_bytes_does_nothing)
{
	struct rig rig = rig_new(64, NEAR_WRAP);

	gn_ring_put(&rig.producer, &rig.map, 0, "", 0);
	ck_assert(!gn_ring_publish(&rig.producer, &rig.map, 0));
	gn_ring_get(&rig.consumer, &rig.map, 0, (char[1]){0}, 0);
	ck_assert_int_eq(gn_ring_readable(&rig.consumer, &rig.map), 0);
	rig_free(&rig);
}

/* Each length at each place of the ring, with the indexes going through 2^32 on the way. */
GN_TEST(every_length_fits_at_every_place_of_the_ring)
{
	enum { SIZE = 16 };
	uint8_t in[SIZE], out[SIZE];

	for (uint32_t start = UINT32_MAX - 2 * SIZE; start != 2 * SIZE; start++) {
		for (uint32_t len = 1; len <= SIZE; len++) {
			struct rig rig = rig_new(SIZE, start);

			fill(in, start, len);
			gn_ring_put(&rig.producer, &rig.map, 0, in, len);
			gn_ring_publish(&rig.producer, &rig.map, len);
			ck_assert_int_eq(gn_ring_space(&rig.producer, &rig.map), SIZE - len);
			ck_assert_int_eq(gn_ring_readable(&rig.consumer, &rig.map), len);
			gn_ring_get(&rig.consumer, &rig.map, 0, out, len);
			ck_assert(is_right(out, start, len));
			gn_ring_consume(&rig.consumer, &rig.map, len);
			ck_assert_int_eq(gn_ring_space(&rig.producer, &rig.map), SIZE);
			rig_free(&rig);
		}
	}
}

/* [RING-1] [RING-2] */
GN_TEST(an_impossible_index_of_the_consumer_is_a_protocol_error)
{
	static const uint32_t ahead[] = {1, 2, 64, 65, 1u << 31, UINT32_MAX - 64};
	struct rig rig = rig_new(64, NEAR_WRAP);

	gn_ring_put(&rig.producer, &rig.map, 0, "abcd", 4);
	gn_ring_publish(&rig.producer, &rig.map, 4);
	for (size_t i = 0; i < sizeof(ahead) / sizeof(ahead[0]); i++) {
		uint32_t seen = rig.producer.seen;

		atomic_store(&rig.dir->tail, rig.producer.own + ahead[i]); /* it says that it read what was never written */
		ck_assert_int_eq(gn_ring_space(&rig.producer, &rig.map), -EPROTO);
		ck_assert_uint_eq(rig.producer.seen, seen);
	}
	atomic_store(&rig.dir->tail, rig.producer.own - 65); /* more queued than there is room */
	ck_assert_int_eq(gn_ring_space(&rig.producer, &rig.map), -EPROTO);
	atomic_store(&rig.dir->tail, rig.producer.own - 64);
	ck_assert_int_eq(gn_ring_space(&rig.producer, &rig.map), 0);
	rig_free(&rig);
}

/* [RING-1] [RING-2] */
GN_TEST(an_impossible_index_of_the_producer_is_a_protocol_error)
{
	static const uint32_t head[] = {65, 66, 1u << 31, UINT32_MAX};
	struct rig rig = rig_new(64, NEAR_WRAP);

	for (size_t i = 0; i < sizeof(head) / sizeof(head[0]); i++) {
		uint32_t seen = rig.consumer.seen;

		atomic_store(&rig.dir->head, rig.consumer.own + head[i]);
		ck_assert_int_eq(gn_ring_readable(&rig.consumer, &rig.map), -EPROTO);
		ck_assert_uint_eq(rig.consumer.seen, seen);
	}
	atomic_store(&rig.dir->head, rig.consumer.own + 64);
	ck_assert_int_eq(gn_ring_readable(&rig.consumer, &rig.map), 64);
	rig_free(&rig);
}

/* The guard pages around the bytes turn a step outside into a crash of this test. [RING-2] */
GN_TEST(a_peer_that_writes_garbage_never_gets_us_out_of_the_ring)
{
	struct rig rig = rig_new(1024, NEAR_WRAP);
	uint64_t state = seed;
	uint8_t buf[1024];

	memset(buf, 7, sizeof(buf));
	for (int i = 0; i < 200000; i++) {
		uint32_t lie = rig.producer.own - (uint32_t)(chance(&state) % 1100);
		int64_t room, ready;

		atomic_store(&rig.dir->tail, lie);
		room = gn_ring_space(&rig.producer, &rig.map);
		ck_assert_int_le(room, 1024);
		if (room > 0) {
			uint32_t len = some(&state, (uint32_t)room), behind = (uint32_t)room - len;

			gn_ring_put(&rig.producer, &rig.map, behind, buf, len);
			gn_ring_publish(&rig.producer, &rig.map, behind + len);
		}
		atomic_store(&rig.dir->head, rig.consumer.own + (uint32_t)(chance(&state) % 1100));
		ready = gn_ring_readable(&rig.consumer, &rig.map);
		ck_assert_int_le(ready, 1024);
		if (ready > 0) {
			uint32_t len = some(&state, (uint32_t)ready);

			gn_ring_get(&rig.consumer, &rig.map, (uint32_t)ready - len, buf, len);
			gn_ring_consume(&rig.consumer, &rig.map, len);
		}
	}
	rig_free(&rig);
}

GN_TEST(a_parked_consumer_is_owed_exactly_one_bell)
{
	struct rig rig = rig_new(64, NEAR_WRAP);

	atomic_store(&rig.dir->c_parked, 1);
	gn_ring_put(&rig.producer, &rig.map, 0, "ab", 2);
	ck_assert(gn_ring_publish(&rig.producer, &rig.map, 1));
	ck_assert(!gn_ring_publish(&rig.producer, &rig.map, 1));
	ck_assert_uint_eq(atomic_load(&rig.dir->c_parked), 0);
	rig_free(&rig);
}

GN_TEST(a_parked_producer_is_owed_exactly_one_bell)
{
	struct rig rig = rig_new(64, NEAR_WRAP);

	gn_ring_publish(&rig.producer, &rig.map, 64);
	ck_assert_int_eq(gn_ring_readable(&rig.consumer, &rig.map), 64);
	atomic_store(&rig.dir->p_parked, 1);
	atomic_store(&rig.dir->c_parked, 1);
	ck_assert(gn_ring_consume(&rig.consumer, &rig.map, 40));
	ck_assert(!gn_ring_consume(&rig.consumer, &rig.map, 1));
	ck_assert_uint_eq(atomic_load(&rig.dir->p_parked), 0);
	ck_assert_uint_eq(atomic_load(&rig.dir->c_parked), 1); /* its own flag is not its to clear */
	rig_free(&rig);
}

GN_TEST(a_parked_producer_sleeps_on_until_there_is_room_for_a_large_piece)
{
	struct rig rig = rig_new(64, NEAR_WRAP);

	gn_ring_publish(&rig.producer, &rig.map, 64);
	ck_assert_int_eq(gn_ring_readable(&rig.consumer, &rig.map), 64);
	atomic_store(&rig.dir->p_parked, 1);
	ck_assert(!gn_ring_consume(&rig.consumer, &rig.map, gn_ring_room(&rig.map) - 1));
	ck_assert_uint_eq(atomic_load(&rig.dir->p_parked), 1);
	ck_assert(gn_ring_consume(&rig.consumer, &rig.map, 1));
	rig_free(&rig);
}

GN_TEST(a_record_takes_its_length_its_bytes_and_padding_to_four)
{
	ck_assert_uint_eq(gn_record_room(0), 4);
	ck_assert_uint_eq(gn_record_room(1), 8);
	ck_assert_uint_eq(gn_record_room(4), 8);
	ck_assert_uint_eq(gn_record_room(5), 12);
	ck_assert_uint_eq(gn_record_room(UINT32_MAX), 4 + (UINT64_C(1) << 32));
}

/*
 * Streams: a writer and a reader who know nothing of each other but the ring. How they wait is the difference: yielding, or parked
 * on a bell.
 */
struct stream {
	struct rig rig;
	uint64_t total; /* bytes to move; the writer of UINT64_MAX never ends */
	uint32_t most;  /* at one time */
	bool parks;
};

static void bell_ring(int bell)
{
	uint64_t one = 1;

	if (write(bell, &one, sizeof(one)) != sizeof(one))
		abort();
}

static void bell_wait(int bell)
{
	struct pollfd p = {.fd = bell, .events = POLLIN};
	uint64_t count;

	if (poll(&p, 1, BELL_DEADLINE_MS) != 1 || read(bell, &count, sizeof(count)) != sizeof(count)) {
		fprintf(stderr, "a wake-up was lost\n");
		abort();
	}
}

/* The writer has no room: says so, looks again, sleeps. A bell too many only means one more look. */
static void wait_for_room(struct stream *s)
{
	if (!s->parks) {
		sched_yield();
		return;
	}
	atomic_store(&s->rig.dir->p_parked, 1);
	if (gn_ring_space(&s->rig.producer, &s->rig.map) == 0)
		bell_wait(s->rig.room_bell);
	else
		atomic_store(&s->rig.dir->p_parked, 0);
}

static void wait_for_data(struct stream *s)
{
	if (!s->parks) {
		sched_yield();
		return;
	}
	atomic_store(&s->rig.dir->c_parked, 1);
	if (gn_ring_readable(&s->rig.consumer, &s->rig.map) == 0)
		bell_wait(s->rig.data_bell);
	else
		atomic_store(&s->rig.dir->c_parked, 0);
}

static void *write_all(void *arg)
{
	struct stream *s = arg;
	uint64_t state = seed + 1;
	uint8_t *buf = malloc(s->most);

	for (uint64_t pos = 0; pos < s->total;) {
		int64_t room = gn_ring_space(&s->rig.producer, &s->rig.map);
		uint64_t len = some(&state, s->most);

		if (room < 0)
			abort();
		if (room == 0) {
			wait_for_room(s);
			continue;
		}
		if (len > (uint64_t)room)
			len = (uint64_t)room;
		if (len > s->total - pos)
			len = s->total - pos;
		fill(buf, pos, len);
		gn_ring_put(&s->rig.producer, &s->rig.map, 0, buf, (uint32_t)len);
		if (gn_ring_publish(&s->rig.producer, &s->rig.map, (uint32_t)len))
			bell_ring(s->rig.data_bell);
		pos += len;
	}
	free(buf);
	return NULL;
}

/* Reads and checks up to `upto` bytes from position `pos`, no more than are there: how many. */
/* Without a word to Check: a process that is killed over one would leave half of it in the report. */
static uint64_t read_some(struct stream *s, uint64_t pos, uint32_t upto, uint8_t *buf)
{
	int64_t ready = gn_ring_readable(&s->rig.consumer, &s->rig.map);
	uint32_t len = ready < (int64_t)upto ? (uint32_t)ready : upto;

	if (ready < 0)
		abort();
	if (len == 0)
		return 0;
	gn_ring_get(&s->rig.consumer, &s->rig.map, 0, buf, len);
	if (!is_right(buf, pos, len)) {
		fprintf(stderr, "wrong bytes between %" PRIu64 " and %" PRIu64 "\n", pos, pos + len);
		abort();
	}
	if (gn_ring_consume(&s->rig.consumer, &s->rig.map, len))
		bell_ring(s->rig.room_bell);
	return len;
}

static void read_all(struct stream *s)
{
	uint64_t state = seed + 2;
	uint8_t *buf = malloc(s->most);

	for (uint64_t pos = 0; pos < s->total;) {
		uint64_t len = read_some(s, pos, some(&state, s->most), buf);

		if (len == 0)
			wait_for_data(s);
		pos += len;
	}
	if (gn_ring_readable(&s->rig.consumer, &s->rig.map) != 0)
		abort();
	free(buf);
}

static void stream_of_threads(uint32_t size, uint64_t total, uint32_t most, bool parks)
{
	struct stream s = {.rig = rig_new(size, NEAR_WRAP - size * 3), .total = total, .most = most, .parks = parks};
	pthread_t writer;

	ck_assert_int_eq(pthread_create(&writer, NULL, write_all, &s), 0);
	read_all(&s);
	ck_assert_int_eq(pthread_join(writer, NULL), 0);
	rig_free(&s.rig);
}

static pid_t writer_fork(struct stream *s)
{
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		write_all(s);
		_exit(0);
	}
	return pid;
}

static void stream_of_processes(uint32_t size, uint64_t total, uint32_t most, bool parks)
{
	struct stream s = {.rig = rig_new(size, NEAR_WRAP - size * 3), .total = total, .most = most, .parks = parks};
	pid_t writer = writer_fork(&s);
	int status;

	read_all(&s);
	ck_assert_int_eq(waitpid(writer, &status, 0), writer);
	ck_assert_int_eq(status, 0);
	rig_free(&s.rig);
}

GN_TEST(two_threads_stream_megabytes_unharmed)
{
	stream_of_threads(65536, 16 << 20, 9000, false);
}

GN_TEST(two_threads_stream_through_a_tiny_ring_unharmed)
{
	stream_of_threads(16, 64 << 10, 24, false);
}

GN_TEST(two_processes_stream_megabytes_unharmed)
{
	stream_of_processes(65536, 16 << 20, 9000, false);
}

GN_TEST(two_processes_stream_through_a_tiny_ring_unharmed)
{
	stream_of_processes(16, 64 << 10, 24, false);
}

/* Short pieces and a ring of a few of them: both sides park all the time, so a missed wake-up would show. */
GN_TEST(two_threads_that_park_never_miss_a_wake_up)
{
	stream_of_threads(32, 400 << 10, 8, true);
}

GN_TEST(two_processes_that_park_never_miss_a_wake_up)
{
	stream_of_processes(32, 400 << 10, 8, true);
}

/* There and back, one byte: each side parks for every byte, so each publication races with a parking. */
struct pingpong {
	struct rig there, back;
	uint32_t rounds;
};

static uint8_t turn_get(struct rig *rig)
{
	uint8_t byte;

	while (gn_ring_readable(&rig->consumer, &rig->map) == 0) {
		atomic_store(&rig->dir->c_parked, 1);
		if (gn_ring_readable(&rig->consumer, &rig->map) == 0)
			bell_wait(rig->data_bell);
	}
	gn_ring_get(&rig->consumer, &rig->map, 0, &byte, 1);
	gn_ring_consume(&rig->consumer, &rig->map, 1);
	return byte;
}

static void turn_put(struct rig *rig, uint8_t byte)
{
	gn_ring_put(&rig->producer, &rig->map, 0, &byte, 1);
	if (gn_ring_publish(&rig->producer, &rig->map, 1))
		bell_ring(rig->data_bell);
}

static void *answer(void *arg)
{
	struct pingpong *p = arg;

	for (uint32_t i = 0; i < p->rounds; i++)
		turn_put(&p->back, turn_get(&p->there) ^ 0x55);
	return NULL;
}

GN_TEST(asking_and_answering_never_misses_a_wake_up)
{
	struct pingpong p = {.there = rig_new(16, NEAR_WRAP), .back = rig_new(16, NEAR_WRAP), .rounds = 30000};
	pthread_t peer;

	ck_assert_int_eq(pthread_create(&peer, NULL, answer, &p), 0);
	for (uint32_t i = 0; i < p.rounds; i++) {
		turn_put(&p.there, (uint8_t)i);
		ck_assert_uint_eq(turn_get(&p.back), (uint8_t)i ^ 0x55);
	}
	ck_assert_int_eq(pthread_join(peer, NULL), 0);
	rig_free(&p.there);
	rig_free(&p.back);
}

/* The commit is one store of an index, so whatever instruction the writer died at, what it had published is whole. [RING-1] */
GN_TEST(a_writer_killed_at_any_moment_leaves_a_whole_prefix)
{
	uint64_t state = seed + 3;
	uint8_t buf[4096];

	for (int round = 0; round < 100; round++) {
		struct stream s = {.rig = rig_new(4096, NEAR_WRAP), .total = UINT64_MAX, .most = 3000};
		uint64_t until = chance(&state) % 200000, pos = 0, len;
		pid_t writer = writer_fork(&s);
		int status;

		while (pos < until) {
			len = read_some(&s, pos, some(&state, sizeof(buf)), buf);
			if (len == 0)
				sched_yield();
			pos += len;
		}
		ck_assert_int_eq(kill(writer, SIGKILL), 0);
		ck_assert_int_eq(waitpid(writer, &status, 0), writer);
		ck_assert_int_eq(status, SIGKILL);
		while ((len = read_some(&s, pos, some(&state, sizeof(buf)), buf)) > 0)
			pos += len;
		ck_assert_uint_eq((uint32_t)pos, atomic_load(&s.rig.dir->head) - NEAR_WRAP);
		rig_free(&s.rig);
	}
}

/* And the reader: the writer's room is never more than the ring, and goes on being what the dead reader left. */
GN_TEST(a_reader_killed_at_any_moment_leaves_a_possible_index)
{
	uint64_t state = seed + 4;

	for (int round = 0; round < 50; round++) {
		struct stream s = {.rig = rig_new(4096, NEAR_WRAP), .total = chance(&state) % 300000, .most = 3000};
		pid_t reader = fork();
		int64_t room;
		int status;

		ck_assert_int_ge(reader, 0);
		if (reader == 0) {
			s.total = UINT64_MAX;
			read_all(&s);
			_exit(0);
		}
		write_all(&s);
		ck_assert_int_eq(kill(reader, SIGKILL), 0);
		ck_assert_int_eq(waitpid(reader, &status, 0), reader);
		ck_assert_int_eq(status, SIGKILL);
		room = gn_ring_space(&s.rig.producer, &s.rig.map);
		ck_assert_int_ge(room, 0);
		ck_assert_int_le(room, 4096);
		rig_free(&s.rig);
	}
}

int main(void)
{
	const char *asked = getenv("RING_TEST_SEED");

	seed = asked ? strtoull(asked, NULL, 0) : (uint64_t)getpid() * 1000003u ^ (uint64_t)time(NULL);
	printf("# RING_TEST_SEED=%" PRIu64 "\n", seed);
	fflush(stdout);
	return gn_unit_run("ring");
}
