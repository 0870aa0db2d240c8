/* SPDX-License-Identifier: MIT */
/* Memory that is kept for the next: see sock.h. */
#include <stdlib.h>
#include <string.h>

#include "sock/sock.h"

static _Atomic uint32_t lock; /* each store under it leaves whole lists; what is lost in a fork between two is one thing */

struct gn_spared {
	struct gn_spared *next;
};

/* A thing that was kept, or NULL. */
static void *take(struct gn_spare *from)
{
	void *thing = from->more;

	for (size_t i = 0; i < ARRAY_SIZE(from->few); i++)
		if (from->few[i]) {
			thing = from->few[i];
			from->few[i] = NULL;
			return thing;
		}
	if (thing)
		from->more = from->more->next;
	return thing;
}

static void give(struct gn_spare *to, void *thing)
{
	struct gn_spared *one = thing;

	for (size_t i = 0; i < ARRAY_SIZE(to->few); i++)
		if (!to->few[i]) {
			to->few[i] = thing;
			return;
		}
	one->next = to->more;
	to->more = one;
}

void *gn_spare_take(struct gn_spare *from, size_t size)
{
	void *thing;

	gn_lock(&lock);
	thing = take(from);
	gn_unlock(&lock);
	return thing ? memset(thing, 0, size) : calloc(1, size);
}

void gn_spare_give(struct gn_spare *to, void *thing)
{
	if (!thing)
		return;
	gn_lock(&lock);
	give(to, thing);
	gn_unlock(&lock);
}

void gn_spare_forked(void)
{
	atomic_store(&lock, 0);
}
