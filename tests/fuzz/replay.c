/* SPDX-License-Identifier: MIT */
/*
 * Runs a fuzzer's function as an ordinary test, as TAP: over the committed corpus, then over random inputs from a printed seed
 * (REPLAY_SEED repeats one). A crash is the failure.
 *
 *   MODULE_WHAT_fuzz [CORPUS_DIRECTORY]
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MOST 4096
#define RANDOM_INPUTS 20000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int replay_file(const char *path)
{
	static uint8_t data[1 << 20];
	FILE *file = fopen(path, "rb");
	size_t len;

	if (!file)
		return 0;
	len = fread(data, 1, sizeof(data), file);
	fclose(file);
	LLVMFuzzerTestOneInput(data, len);
	return 1;
}

static int replay_directory(const char *name)
{
	char path[8192];
	struct dirent *entry;
	DIR *dir = opendir(name);
	int count = 0;

	while (dir && (entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", name, entry->d_name);
		count += replay_file(path);
	}
	if (dir)
		closedir(dir);
	return count;
}

/* Short inputs are the likelier ones, and half of the bytes are ones that borders are made of. */
static void replay_random(unsigned seed)
{
	static const uint8_t border[] = {0, 1, 0x7f, 0x80, 0xfe, 0xff, 0x10, 0x40};
	uint8_t *data = malloc(MOST);

	srandom(seed);
	for (int i = 0; i < RANDOM_INPUTS; i++) {
		size_t len = (size_t)random() % (1u << (random() % 13));
		uint8_t *exact;

		for (size_t at = 0; at < len; at++)
			data[at] = random() & 1 ? border[random() % 8] : (uint8_t)random();
		exact = malloc(len ? len : 1); /* so that a read past the end is one past an allocation */
		memcpy(exact, data, len);
		LLVMFuzzerTestOneInput(exact, len);
		free(exact);
	}
	free(data);
}

int main(int argc, char **argv)
{
	const char *asked = getenv("REPLAY_SEED"), *name = strrchr(argv[0], '/');
	unsigned seed = asked ? (unsigned)strtoul(asked, NULL, 0) : (unsigned)getpid() ^ (unsigned)time(NULL);
	char corpus[4096];
	int count;

	snprintf(corpus, sizeof(corpus), "tests/fuzz/corpus/%s", name ? name + 1 : argv[0]);
	printf("1..2\n# REPLAY_SEED=%u\n", seed);
	fflush(stdout);
	count = replay_directory(argc > 1 ? argv[1] : corpus);
	printf("ok 1 - the corpus does no harm\n# %d files\n", count);
	fflush(stdout);
	replay_random(seed);
	printf("ok 2 - random inputs do no harm\n");
	return 0;
}
