/* SPDX-License-Identifier: MIT */
/* What the parts of the stepper share: the calls that are stepped through, and how the other processes behave beside them. */
#ifndef CRASH_STEP_H
#define CRASH_STEP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#define WORD 16
#define FLOOD 600000
#define LIMIT_S 20

/* Kinds of sockets. */
#define TCP 1u
#define UNIX 2u
#define PACKET 4u /* AF_UNIX, SOCK_SEQPACKET */
#define UDP 8u
#define DGRAM 16u /* AF_UNIX, SOCK_DGRAM */
#define STREAMS (TCP | UNIX)
#define CIRCUITS (STREAMS | PACKET)
#define DGRAMS (UDP | DGRAM)
#define ALL (CIRCUITS | DGRAMS)

/* What is special about a call. The survivor first... */
#define COLD 1u       /* has not talked to the victim; otherwise both are on the ring */
#define GREETED 2u    /* has sent a word */
#define FLOODED 4u    /* is blocked in a long send */
#define AHEAD 8u      /* has sent much before it went to the ring, and words behind the switch; cold */
#define PINNED 16u    /* has gone back to the kernel lane */
#define LATE 32u      /* does nothing until the victim sleeps or is dead */
#define ANSWERS 64u   /* sends a word when the victim sleeps; is dead to it before */
#define MEETS 128u    /* cold, and late: reads a word, sends one */
#define HALVES 256u   /* has gone to the ring when the victim has done so with its reading half only; cold */
/* ... and the sibling */
#define DUET 512u     /* sleeps in recv() */
#define ENDS 1024u    /* may be unable to write, and the survivor hears no more of it */
#define CONNECTS 2048u /* has nothing yet: the victim is about to connect */
#define ACCEPTS 4096u /* likewise, to accept */
#define ALONE 8192u   /* is not there */
#define SHARED 16384u /* is there always */
#define MUCH 32768u   /* (bytes of the rings are not watched: trace.h) */

#define WARM 6 /* round trips: enough for the ring, with --lane ring */

struct call {
	const char *name;
	void (*prepare)(int fd); /* the victim, before it is stepped */
	void (*make)(int fd);    /* stepped */
	unsigned kinds, flags;
};

extern const struct call calls[];
extern const size_t calls_count;

/* Shared by all the processes of one point. */
struct board {
	_Atomic size_t wrote;   /* bytes that the victim's finished calls have sent, pattern() */
	_Atomic int stage, connected, dead;
	_Atomic unsigned at_len[2]; /* addresses of the two ends, 0: not known yet */
	struct sockaddr_storage at[2];
};
extern struct board *board;
extern unsigned kind; /* of the sockets of this point */

/* The byte at a place of what the victim ('a') or its sibling ('n') sends. */
static inline char pattern(char first, size_t at)
{
	return (char)(first + at % 13);
}

/* Byte at a place of what the survivor is ahead by. */
static inline unsigned char ahead_byte(size_t at)
{
	return (unsigned char)(at * 7 + at / 256);
}

#define AHEAD_BYTES 1600
#define AHEAD_ROUNDS 10
#define AHEAD_READ 40

/* Waits, without a call on any socket. */
void stage_await(int stage);

/* Whatever a process has sent of the pattern, behind `at`. Ends this process when it cannot. Bytes sent. */
size_t pattern_send(int fd, char first, size_t at, size_t n, int flags);

void process_is_asleep_await(int pid);

/* What TCP holds back comes behind the sibling's look, and makes a reset of the end; or a reset throws it away. */
void send_at_once(int fd);

/* Datagrams: a socket that is connected to the other end's. 0: the survivor's. */
int datagram_socket(int end);

/* What the two others do. They end the process: 0, or what was wrong (wrong_text()). */
void survivor(const struct call *call, int lfd, int cue, bool shared);
void newcomer(void);
void sibling(const struct call *call, int fd, int go);
const char *wrong_text(int status);

bool segment_is_mapped(void);

#endif
