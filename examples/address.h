/* SPDX-License-Identifier: MIT */
/*
 * What the examples share: an address from the command line, and errors that say what to do.
 *
 *     -4 HOST PORT    the internet domain, e.g. -4 127.0.0.1 7000
 *     -6 HOST PORT    the same with IPv6, e.g. -6 ::1 7000
 *     -u PATH         the local domain, e.g. -u /tmp/example.socket
 */
#ifndef EXAMPLES_ADDRESS_H
#define EXAMPLES_ADDRESS_H

#include <sys/socket.h>

#define ADDRESS_USAGE "-4 HOST PORT | -6 HOST PORT | -u PATH"

struct address {
	struct sockaddr_storage sa;
	socklen_t len;
};

/* Takes an address off the front of *argv, which ends with NULL. Says what is wrong and exits with status 2 if there is none. */
void address_take(struct address *a, char ***argv);

/* A socket of the address's domain and of that type, bound to it when `bound`; in the local domain that makes a file, which is
 * removed when this process exits. Exits with status 1 on an error. */
int address_socket(const struct address *a, int type, int bound);

/* The address as text; the text is overwritten by the next call. */
const char *address_text(const struct address *a);

/* "PROGRAM: WHAT: the error in errno", with advice for the commonest errors. Exits with status 1. */
_Noreturn void fail(const char *what);

/* "PROGRAM: what is wrong". Exits with status 2. */
_Noreturn void misuse(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
