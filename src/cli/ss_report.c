/* SPDX-License-Identifier: MIT */
/* The answers of `gnezdo ss`: aligned columns for people, an array of objects for programs. */
#include "cli/cli.h"
#include "cli/json.h"
#include "cli/ss.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS 12
#define CELL SS_ADDRESS
#define PROGRAM 32 /* a task's name, with room */

static const char *const heads[COLUMNS] = { "Netid", "State", "Recv-Q", "Send-Q", "Local Address:Port", "Peer Address:Port",
					    "Tx", "Rx", "Tx-Bytes", "Rx-Bytes", "Process", "Why" };
static const bool to_the_right[COLUMNS] = { [2] = true, [3] = true, [8] = true, [9] = true };

typedef char cells[COLUMNS][CELL];

static void process_cell(const struct ss_socket *s, char to[CELL])
{
	char name[PROGRAM];
	size_t used = 0;

	for (int i = 0; i < s->pids && used < CELL - 1; i++) {
		ss_program(s->pid[i], name, sizeof(name));
		used += (size_t)snprintf(to + used, CELL - used, "%s(\"%s\",pid=%d)", i ? "," : "", name, (int)s->pid[i]);
	}
}

static void row_fill(const struct ss_socket *s, cells row)
{
	snprintf(row[0], CELL, "%s", ss_netid(s));
	snprintf(row[1], CELL, "%s", ss_state(s));
	snprintf(row[2], CELL, "%" PRIu64, s->recv_q);
	snprintf(row[3], CELL, "%" PRIu64, s->send_q);
	ss_local(s, row[4]);
	ss_peer(s, row[5]);
	snprintf(row[6], CELL, "%s", ss_lane(s, &s->ep.tx));
	snprintf(row[7], CELL, "%s", ss_lane(s, &s->ep.rx));
	snprintf(row[8], CELL, "%" PRIu64, ss_moved(&s->ep.tx));
	snprintf(row[9], CELL, "%" PRIu64, ss_moved(&s->ep.rx));
	process_cell(s, row[10]);
	snprintf(row[11], CELL, "%s", ss_why(s));
}

static void row_print(cells row, const int width[COLUMNS])
{
	for (int i = 0; i < COLUMNS; i++) {
		if (i == COLUMNS - 1)
			printf("%s\n", row[i]);
		else
			printf("%*s ", to_the_right[i] ? width[i] : -width[i], row[i]);
	}
}

int ss_print_table(const struct ss_list *l)
{
	cells *rows = calloc(l->count + 1, sizeof(*rows));
	int width[COLUMNS] = { 0 };

	if (!rows)
		return -ENOMEM;
	for (int i = 0; i < COLUMNS; i++)
		strcpy(rows[0][i], heads[i]);
	for (size_t n = 0; n < l->count; n++)
		row_fill(&l->list[n], rows[n + 1]);
	for (size_t n = 0; n <= l->count; n++)
		for (int i = 0; i < COLUMNS; i++)
			if ((int)strlen(rows[n][i]) > width[i])
				width[i] = (int)strlen(rows[n][i]);
	for (size_t n = 0; n <= l->count; n++)
		row_print(rows[n], width);
	free(rows);
	return 0;
}

static void json_text(const char *name, const char *value)
{
	printf(",\"%s\":", name);
	json_string(stdout, value);
}

static void json_half(const struct ss_socket *s, const char *name, const struct gn_half *half)
{
	printf(",\"%s\":{\"lane\":", name);
	json_string(stdout, ss_lane(s, half));
	printf(",\"ring_bytes\":%" PRIu64 ",\"ring_msgs\":%" PRIu64 ",\"kernel_bytes\":%" PRIu64 ",\"kernel_msgs\":%" PRIu64 "}",
	       half->ring_bytes, half->ring_msgs, half->kernel_bytes, half->kernel_msgs);
}

static void json_processes(const struct ss_socket *s)
{
	char name[PROGRAM];

	printf(",\"processes\":[");
	for (int i = 0; i < s->pids; i++) {
		ss_program(s->pid[i], name, sizeof(name));
		printf("%s{\"pid\":%d", i ? "," : "", (int)s->pid[i]);
		json_text("name", name);
		putchar('}');
	}
	putchar(']');
}

static void json_socket(const struct ss_socket *s)
{
	char local[SS_ADDRESS], peer[SS_ADDRESS];

	ss_local(s, local);
	ss_peer(s, peer);
	printf("{\"netid\":");
	json_string(stdout, ss_netid(s));
	json_text("state", ss_state(s));
	printf(",\"recv_q\":%" PRIu64 ",\"send_q\":%" PRIu64, s->recv_q, s->send_q);
	json_text("local", local);
	json_text("peer", peer);
	json_half(s, "tx", &s->ep.tx);
	json_half(s, "rx", &s->ep.rx);
	printf(",\"promotions\":%" PRIu32 ",\"demotions\":%" PRIu32 ",\"bells\":%" PRIu32, s->ep.promotions, s->ep.demotions,
	       s->ep.bells_sent);
	printf(",\"inode\":%" PRIu64 ",\"emulated\":%s", s->inode, s->ep.flags & GN_EP_EMULATED ? "true" : "false");
	json_processes(s);
	json_text("why", ss_why(s));
	putchar('}');
}

int ss_print_json(const struct ss_list *l)
{
	printf("[");
	for (size_t i = 0; i < l->count; i++) {
		printf("%s\n", i ? "," : "");
		json_socket(&l->list[i]);
	}
	printf("\n]\n");
	return 0;
}
