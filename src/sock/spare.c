/* SPDX-License-Identifier: MIT */
/* Memory that is kept for the next: see sock.h. */
#include <stdlib.h>
#include <string.h>

#include "sock/sock.h"

static _Atomic uint32_t lock; /* each store under it leaves whole lists: a forked child takes it as free */

void *gn_spare_take(struct gn_spare **list, size_t size)
{
	struct gn_spare *s;

	gn_lock(&lock);
	s = *list;
	if (s)
		*list = s->next;
	gn_unlock(&lock);
	return s ? memset(s, 0, size) : calloc(1, size);
}

void gn_spare_give(struct gn_spare **list, void *thing)
{
	struct gn_spare *s = thing;

	if (!s)
		return;
	gn_lock(&lock);
	s->next = *list;
	*list = s;
	gn_unlock(&lock);
}

void gn_spare_forked(void)
{
	atomic_store(&lock, 0);
}
