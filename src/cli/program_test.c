/* SPDX-License-Identifier: MIT */
/* Finding programs as execvp() does, and telling from their headers who takes a preload. */
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/unit.h"
#include "cli/program.h"

static char dir[] = "/tmp/gnezdo-program-test-XXXXXX";
static char path[64], found[4096];

/* A file of these bytes in the test's directory; `path` is its name. */
static void make(const char *name, const void *bytes, size_t len, mode_t mode)
{
	FILE *f;

	if (!strcmp(strrchr(dir, '-'), "-XXXXXX"))
		ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	fwrite(bytes, 1, len, f);
	fclose(f);
	chmod(path, mode);
}

static void clean(void)
{
	unlink(path);
	rmdir(dir);
}

/* A header that claims no program headers: as good as a static program. */
static Elf64_Ehdr bare_header(unsigned char class)
{
	Elf64_Ehdr header = {.e_ident = ELFMAG, .e_type = ET_EXEC, .e_phentsize = sizeof(Elf64_Phdr)};

	header.e_ident[EI_CLASS] = class;
	header.e_ident[EI_DATA] = ELFDATA2LSB;
	header.e_machine = EM_X86_64;
#ifdef __aarch64__
	header.e_machine = EM_AARCH64;
#endif
	return header;
}

GN_TEST(a_name_without_slash_is_looked_up_in_path_and_one_with_a_slash_is_not)
{
	setenv("PATH", "/nonexistent:/bin:/usr/bin", 1);
	ck_assert_int_eq(program_find("sh", found, sizeof(found)), 0);
	ck_assert_str_eq(found, "/bin/sh");
	ck_assert_int_eq(program_find("/bin/sh", found, sizeof(found)), 0);
	ck_assert_int_eq(program_find("./sh", found, sizeof(found)), -ENOENT);
	ck_assert_int_eq(program_find("", found, sizeof(found)), -ENOENT);
}

GN_TEST(a_file_that_may_not_be_executed_is_another_error_than_none)
{
	make("plain", "x", 1, 0644);
	setenv("PATH", dir, 1);
	ck_assert_int_eq(program_find("plain", found, sizeof(found)), -EACCES);
	ck_assert_int_eq(program_find("absent", found, sizeof(found)), -ENOENT);
	ck_assert_int_eq(program_find("/tmp", found, sizeof(found)), -EACCES);
	clean();
}

GN_TEST(this_very_test_takes_a_preload)
{
	ck_assert_int_eq(program_kind("/proc/self/exe"), PROGRAM_DYNAMIC);
}

GN_TEST(a_program_that_names_no_dynamic_linker_is_static_also_behind_a_script)
{
	Elf64_Ehdr header = bare_header(ELFCLASS64);
	char script[96];

	make("static", &header, sizeof(header), 0755);
	ck_assert_int_eq(program_kind(path), PROGRAM_STATIC);
	snprintf(script, sizeof(script), "#! %s -x\n", path);
	make("script", script, strlen(script), 0755);
	ck_assert_int_eq(program_kind(path), PROGRAM_STATIC);
	clean();
	make("static", "", 0, 0644);
	clean();
}

GN_TEST(another_word_size_is_foreign)
{
	Elf64_Ehdr header = bare_header(ELFCLASS32);

	make("foreign", &header, sizeof(header), 0755);
	ck_assert_int_eq(program_kind(path), PROGRAM_FOREIGN);
	clean();
}

GN_TEST(a_script_that_names_itself_does_not_hang)
{
	char script[96];

	make("loop", "", 0, 0755);
	snprintf(script, sizeof(script), "#!%s\n", path);
	make("loop", script, strlen(script), 0755);
	ck_assert_int_eq(program_kind(path), PROGRAM_DYNAMIC);
	clean();
}

GN_TEST(a_setuid_program_of_another_user_is_privileged)
{
	Elf64_Ehdr header = bare_header(ELFCLASS64);

	make("setuid", &header, sizeof(header), 0755);
	if (!chown(path, 65534, 65534)) { /* root only */
		chmod(path, 04755);
		ck_assert_int_eq(program_kind(path), PROGRAM_PRIVILEGED);
	}
	clean();
}

int main(void)
{
	return gn_unit_run("program");
}
