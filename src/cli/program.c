/* SPDX-License-Identifier: MIT */
/*
 * Finds a program in PATH and reads its headers: elf(5), execve(2), ld.so(8).
 *
 * The answer is advice for the user and for the environment we set; execvp() decides in the end, so a race or a file that
 * cannot be read is no error here.
 */
#include "cli/program.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define SCRIPT_LINE 256 /* what the kernel reads of a #! line (BINPRM_BUF_SIZE) */
#define SCRIPT_DEPTH 5  /* interpreters of interpreters */
#define ELF_HEADERS 256 /* program headers looked at; real programs have about a dozen */

#if __SIZEOF_POINTER__ == 8
typedef Elf64_Ehdr elf_header;
typedef Elf64_Phdr elf_segment;
#define ELF_CLASS ELFCLASS64
#else
typedef Elf32_Ehdr elf_header;
typedef Elf32_Phdr elf_segment;
#define ELF_CLASS ELFCLASS32
#endif

static int try_path(const char *path)
{
	struct stat st;

	if (stat(path, &st))
		return -errno;
	return S_ISREG(st.st_mode) && !access(path, X_OK) ? 0 : -EACCES;
}

int program_find(const char *name, char *to, size_t size)
{
	const char *path = getenv("PATH"), *end;
	int best = -ENOENT;

	if (!*name)
		return -ENOENT;
	if (strchr(name, '/')) {
		if ((size_t)snprintf(to, size, "%s", name) >= size)
			return -ENAMETOOLONG;
		return try_path(to);
	}
	for (path = path ? path : "/bin:/usr/bin"; path; path = *end ? end + 1 : NULL) {
		end = strchrnul(path, ':');
		/* An empty entry is the current directory. */
		if ((size_t)snprintf(to, size, "%.*s%s%s", (int)(end - path), path, end > path ? "/" : "", name) < size) {
			int rc = try_path(to);

			if (!rc)
				return 0;
			if (rc == -EACCES)
				best = rc;
		}
	}
	return best;
}

/* Would the kernel mark this execution secure? Its own rules: the ids change, or file capabilities and not root. */
static bool is_privileged(int fd)
{
	struct stat st;

	if (fstat(fd, &st))
		return false;
	if ((st.st_mode & S_ISUID) && st.st_uid != geteuid())
		return true;
	if ((st.st_mode & S_ISGID) && (st.st_mode & S_IXGRP) && st.st_gid != getegid())
		return true;
	return getuid() != 0 && fgetxattr(fd, "security.capability", NULL, 0) > 0;
}

static bool read_header(int fd, elf_header *to)
{
	return pread(fd, to, sizeof(*to), 0) == (ssize_t)sizeof(*to) && !memcmp(to->e_ident, ELFMAG, SELFMAG);
}

/* The dynamic linker that the file asks for; false: none. */
static bool read_interpreter(int fd, const elf_header *header, char *to, size_t size)
{
	elf_segment segment;

	if (header->e_phentsize != sizeof(segment))
		return false;
	for (int i = 0; i < header->e_phnum && i < ELF_HEADERS; i++) {
		off_t at = (off_t)(header->e_phoff + (uint64_t)i * sizeof(segment));

		if (pread(fd, &segment, sizeof(segment), at) != (ssize_t)sizeof(segment))
			return false;
		if (segment.p_type == PT_INTERP) {
			ssize_t n = pread(fd, to, size - 1 < segment.p_filesz ? size - 1 : segment.p_filesz, (off_t)segment.p_offset);

			to[n > 0 ? n : 0] = '\0';
			return true;
		}
	}
	return false;
}

/* Our own dynamic linker stands for our C library: a program of another one cannot load our library. */
static enum program_kind elf_kind(int fd, const char *path, const elf_header *theirs)
{
	char wanted[PATH_MAX] = "", own[PATH_MAX] = "";
	const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
	elf_header ours;
	int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	enum program_kind kind = PROGRAM_DYNAMIC;

	if (self < 0)
		return kind;
	if (!read_header(self, &ours))
		goto out;
	if (theirs->e_ident[EI_CLASS] != ELF_CLASS || theirs->e_ident[EI_DATA] != ours.e_ident[EI_DATA] ||
	    theirs->e_machine != ours.e_machine)
		kind = PROGRAM_FOREIGN;
	else if (!read_interpreter(fd, theirs, wanted, sizeof(wanted)))
		/* The dynamic linker run as a program asks for no other one, and does preload. */
		kind = strncmp(base, "ld-", 3) && strncmp(base, "ld.so", 5) ? PROGRAM_STATIC : PROGRAM_DYNAMIC;
	else if (read_interpreter(self, &ours, own, sizeof(own)) && strstr(wanted, "musl") && !strstr(own, "musl"))
		kind = PROGRAM_FOREIGN;
out:
	close(self);
	return kind;
}

/* The interpreter named by a #! line; false: not a script. */
static bool script_interpreter(int fd, char *to)
{
	char line[SCRIPT_LINE];
	ssize_t n = pread(fd, line, sizeof(line) - 1, 0);
	const char *start;

	if (n < 3 || line[0] != '#' || line[1] != '!')
		return false;
	line[n] = '\0';
	line[strcspn(line, "\n")] = '\0';
	start = line + 2 + strspn(line + 2, " \t");
	snprintf(to, SCRIPT_LINE, "%.*s", (int)strcspn(start, " \t"), start);
	return *to != '\0';
}

enum program_kind program_kind(const char *path)
{
	char next[SCRIPT_LINE];
	enum program_kind kind = PROGRAM_DYNAMIC;

	for (int depth = 0; depth < SCRIPT_DEPTH; depth++) {
		int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
		elf_header header;
		bool script = false;

		if (fd < 0)
			return kind;
		if (read_header(fd, &header)) {
			kind = is_privileged(fd) ? PROGRAM_PRIVILEGED : elf_kind(fd, path, &header);
		} else {
			script = script_interpreter(fd, next); /* its own setuid bits mean nothing to Linux */
			path = next;
		}
		close(fd);
		if (!script)
			break;
	}
	return kind;
}
