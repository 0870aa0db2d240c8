/* SPDX-License-Identifier: MIT */
/* The shim: exec in its forms. Endpoints that the new program is meant to use go on without the ring (sock/relay.c). */
#include <alloca.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "shim/shim.h"

extern char **environ;

static bool before_exec(void)
{
	GN_INSIDE; /* and out again: the new program must not begin with signals put off */
	return gn_ret(gn_before_exec()) == 0;
}

INTERPOSE(int, execve, (const char *path, char *const argv[], char *const envp[]))
{
	gn_enter();
	return before_exec() ? gn_real.execve(path, argv, envp) : -1;
}

INTERPOSE(int, execv, (const char *path, char *const argv[]))
{
	gn_enter();
	return before_exec() ? gn_real.execv(path, argv) : -1;
}

INTERPOSE(int, execvp, (const char *file, char *const argv[]))
{
	gn_enter();
	return before_exec() ? gn_real.execvp(file, argv) : -1;
}

INTERPOSE(int, execvpe, (const char *file, char *const argv[], char *const envp[]))
{
	gn_enter();
	return before_exec() ? gn_real.execvpe(file, argv, envp) : -1;
}

INTERPOSE(int, fexecve, (int fd, char *const argv[], char *const envp[]))
{
	gn_enter();
	return before_exec() ? gn_real.fexecve(fd, argv, envp) : -1;
}

INTERPOSE(int, execveat, (int at, const char *path, char *const argv[], char *const envp[], int flags))
{
	gn_enter();
	return before_exec() ? gn_real.execveat(at, path, argv, envp, flags) : -1;
}

static int before_spawn(void)
{
	GN_INSIDE;
	return gn_before_spawn();
}

INTERPOSE(int, posix_spawn,
	  (pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attributes,
	   char *const argv[], char *const envp[]))
{
	int rc;

	gn_enter();
	rc = before_spawn();
	return rc < 0 ? -rc : gn_real.posix_spawn(pid, path, actions, attributes, argv, envp);
}

INTERPOSE(int, posix_spawnp,
	  (pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attributes,
	   char *const argv[], char *const envp[]))
{
	int rc;

	gn_enter();
	rc = before_spawn();
	return rc < 0 ? -rc : gn_real.posix_spawnp(pid, file, actions, attributes, argv, envp);
}

INTERPOSE(int, posix_spawn_file_actions_adddup2, (posix_spawn_file_actions_t *actions, int from, int to))
{
	gn_enter();
	gn_spawn_source(from);
	return gn_real.posix_spawn_file_actions_adddup2(actions, from, to);
}

INTERPOSE(int, system, (const char *command))
{
	gn_enter();
	if (command && gn_ret(before_spawn()) < 0)
		return -1;
	return gn_real.system(command);
}

INTERPOSE(FILE *, popen, (const char *command, const char *mode))
{
	gn_enter();
	return gn_ret(before_spawn()) < 0 ? NULL : gn_real.popen(command, mode);
}

INTERPOSE(int, wordexp, (const char *words, wordexp_t *to, int flags))
{
	gn_enter();
	if (!(flags & WRDE_NOCMD) && before_spawn() < 0)
		return WRDE_NOSPACE;
	return gn_real.wordexp(words, to, flags);
}

/* Arguments up to the NULL that ends them. */
static size_t arguments_count(va_list args)
{
	size_t count = 1;

	while (va_arg(args, char *))
		count++;
	return count;
}

/* argv is the caller's, with room for count + 1. What is read is gone from *args. */
static void arguments_read(va_list *args, const char *first, char **argv, size_t count)
{
	argv[0] = (char *)(uintptr_t)first;
	for (size_t i = 1; i <= count; i++)
		argv[i] = va_arg(*args, char *);
}

enum listed { LISTED, LISTED_PATH, LISTED_ENVIRONMENT };

/* execl() and its like, by the call that takes a vector. */
static int exec_listed(enum listed how, const char *file, const char *first, va_list args)
{
	char **argv;
	size_t count;
	va_list again;

	va_copy(again, args);
	count = arguments_count(again);
	va_end(again);
	argv = alloca((count + 1) * sizeof *argv);
	va_copy(again, args); /* ours to read: after the arguments comes the environment, if one does */
	arguments_read(&again, first, argv, count);
	if (how == LISTED_ENVIRONMENT) {
		char *const *envp = va_arg(again, char *const *);

		va_end(again);
		return execve(file, argv, envp);
	}
	va_end(again);
	return how == LISTED_PATH ? execvp(file, argv) : execv(file, argv);
}

INTERPOSE(int, execl, (const char *path, const char *arg, ...))
{
	va_list args;
	int rc;

	va_start(args, arg);
	rc = exec_listed(LISTED, path, arg, args);
	va_end(args);
	return rc;
}

INTERPOSE(int, execlp, (const char *file, const char *arg, ...))
{
	va_list args;
	int rc;

	va_start(args, arg);
	rc = exec_listed(LISTED_PATH, file, arg, args);
	va_end(args);
	return rc;
}

INTERPOSE(int, execle, (const char *path, const char *arg, ...))
{
	va_list args;
	int rc;

	va_start(args, arg);
	rc = exec_listed(LISTED_ENVIRONMENT, path, arg, args);
	va_end(args);
	return rc;
}
