/* SPDX-License-Identifier: MIT */
/*
 * Why an endpoint is not on the ring, in words. [LANE-5]
 *
 * Units: none. Owner: constant data. The argument may come from shared memory, so every value has an answer.
 */
#include "sock/ep.h"

static const char *const texts[] = {
	[GN_WHY_NONE] = "on the ring",
	[GN_WHY_COLD] = "too little traffic so far",
	[GN_WHY_NO_FACE] = "the peer's address has no private face",
	[GN_WHY_REMOTE] = "the peer is on another machine",
	[GN_WHY_NO_PEER] = "the peer does not answer the offer",
	[GN_WHY_LANE_KERNEL] = "--lane kernel was asked for",
	[GN_WHY_SHARED] = "several processes hold the endpoint",
	[GN_WHY_INHERITED] = "came through exec or from another process",
	[GN_WHY_STDIO] = "is standard input or output, or a stdio stream",
	[GN_WHY_CALL] = "a call was used that the ring cannot carry",
	[GN_WHY_OOB] = "out-of-band data was sent",
	[GN_WHY_ANCILLARY] = "descriptors or credentials were sent or asked for",
	[GN_WHY_OPTION] = "an option was set that only the kernel knows",
	[GN_WHY_NO_MEMORY] = "no memory for a segment",
	[GN_WHY_NO_DIAG] = "the kernel does not tell who the peer is",
	[GN_WHY_TRUST] = "the private face belongs to somebody who may not answer",
	[GN_WHY_PROTOCOL] = "the peer wrote nonsense into the segment",
	[GN_WHY_SANDBOX] = "the process is under a seccomp filter",
	[GN_WHY_BUSY_NAME] = "the private name is taken",
	[GN_WHY_ADDRESS] = "an address that gnezdo does not serve",
	[GN_WHY_SCARCE] = "the limit of descriptors is low",
	[GN_WHY_URING] = "the program uses io_uring",
	[GN_WHY_NETNS] = "the socket belongs to another network namespace",
};
static_assert(sizeof(texts) / sizeof(texts[0]) == GN_WHY_COUNT, "every reason has a text");

const char *gn_reason_text(uint32_t reason)
{
	return reason < GN_WHY_COUNT && texts[reason] ? texts[reason] : "unknown reason";
}
