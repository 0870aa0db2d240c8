/* SPDX-License-Identifier: MIT */
/*
 * One way: a source that writes as fast as it can and a sink that counts.
 *
 * The sink counts what arrives inside the window and goes on to the end of the stream; its total must be the source's.
 */
#include "cli/measure.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define SINK_BYTES (2 * MEASURE_MAX_BYTES)
#define CLOCK_EVERY 32 /* small calls between two looks at the clock */
#define LARGE_BYTES 4096 /* beside moving so much, looking at the clock costs nothing */

/* Where the sink's window began and ended; both fall on a call, so the window's length is measured, not assumed. */
struct sink_window {
	uint64_t from_ns, until_ns, from_bytes, until_bytes;
};

static void sink_look(const struct role *r, struct sink_window *w, uint64_t total)
{
	uint64_t now = now_ns();

	if (now < r->from_ns)
		return;
	if (!w->from_ns) {
		w->from_ns = now;
		w->from_bytes = total;
	} else if (now < r->until_ns || !w->until_ns) {
		w->until_ns = now;
		w->until_bytes = total;
	}
}

void stream_sink(struct role *r)
{
	static char buffer[SINK_BYTES];
	struct sink_window w = { 0 };
	uint64_t total = 0, sent = 0, calls = 0;
	int fd = meet_as_server(r);
	ssize_t n;

	while ((n = recv(fd, buffer, sizeof(buffer), 0)) > 0) {
		total += (uint64_t)n;
		if (n >= LARGE_BYTES || ++calls % CLOCK_EVERY == 0)
			sink_look(r, &w, total);
	}
	if (n < 0)
		role_fail(r, "recv");
	errno = 0;
	if (read(r->from_peer, &sent, sizeof(sent)) != sizeof(sent) || sent != total)
		role_fail(r, "another number of bytes arrived than was sent");
	if (w.until_ns <= w.from_ns)
		role_fail(r, "too little arrived to measure");
	/* Scaled to the nominal window, by which the first process divides. */
	r->result->bytes = (uint64_t)((double)(w.until_bytes - w.from_bytes) * (double)(r->until_ns - r->from_ns) /
				      (double)(w.until_ns - w.from_ns));
	r->result->ops = r->result->bytes / r->w->message;
	close(fd);
}

void stream_source(struct role *r)
{
	static char message[MEASURE_MAX_BYTES];
	uint64_t total = 0, calls = 0;
	int fd = meet_as_client(r);

	memset(message, 'g', sizeof(message));
	do {
		role_send(r, fd, message, r->w->message);
		total += r->w->message;
	} while ((r->w->message < LARGE_BYTES && ++calls % CLOCK_EVERY) || now_ns() < r->until_ns);
	if (write(r->to_peer, &total, sizeof(total)) != sizeof(total))
		role_fail(r, "telling the total");
	close(fd);
}
