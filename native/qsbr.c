/* qsbr.c - quiescent-state based reclamation: free memory once no worker can still see it
 *
 * How it works
 *   The writer unpublishes an object (a store), then retires it: the global epoch moves on and the object is
 *   stamped with the new one. A worker copies the epoch to its own mark at the beginning of each turn, when it
 *   holds no pointer of an earlier one, and sets the mark to 0 before it waits. An object is free for all once
 *   every mark is 0 or at least its stamp. Workers pay one store per turn and never wait.
 *
 *   The mark is a sequentially consistent store: it must be visible before the first pointer of the turn is
 *   loaded, or else the writer could miss a reader that is just waking up.
 *
 * Retiring is the writer's, collecting is the reaper's: release functions may take their time (close() of a TAP
 * waits milliseconds for the kernel). The two share a list under a lock that no worker ever takes.
 */
#include "qsbr.h"

#include <stdlib.h>

void vx_qsbr_init(struct vx_qsbr *qsbr)
{
	memset(qsbr, 0, sizeof(*qsbr));
	atomic_store(&qsbr->epoch, 1);
	pthread_mutex_init(&qsbr->lock, NULL);
	pthread_cond_init(&qsbr->more, NULL);
}

/** vx_qsbr_destroy() - Release what still waits; only when no reader runs any more */
void vx_qsbr_destroy(struct vx_qsbr *qsbr)
{
	for (unsigned i = 0; i < VX_WORKERS_MAX; i++)
		vx_qsbr_offline(qsbr, i);
	while (vx_qsbr_collect(qsbr))
		;
	pthread_cond_destroy(&qsbr->more);
	pthread_mutex_destroy(&qsbr->lock);
}

/**
 * vx_qsbr_retire() - Free an object later
 * @qsbr:	Epochs and marks
 * @object:	No longer reachable for a reader that starts now
 * @release:	How to free it; called by whoever collects
 */
void vx_qsbr_retire(struct vx_qsbr *qsbr, struct vx_retired *object, void (*release)(struct vx_retired *object))
{
	object->release = release;
	object->epoch = atomic_fetch_add(&qsbr->epoch, 1) + 1;
	atomic_fetch_add(&qsbr->waiting, 1);
	pthread_mutex_lock(&qsbr->lock);
	object->next = qsbr->list;
	qsbr->list = object;
	pthread_cond_signal(&qsbr->more);
	pthread_mutex_unlock(&qsbr->lock);
}

/** oldest_seen() - The lowest mark of a reader that is not waiting, or the highest number if all wait */
static uint64_t oldest_seen(struct vx_qsbr *qsbr)
{
	uint64_t oldest = UINT64_MAX;

	for (unsigned i = 0; i < VX_WORKERS_MAX; i++) {
		uint64_t seen = atomic_load(&qsbr->readers[i].seen);

		if (seen && seen < oldest)
			oldest = seen;
	}
	return oldest;
}

/** vx_qsbr_collect() - Release what no reader can see. Return: how many objects still wait */
unsigned vx_qsbr_collect(struct vx_qsbr *qsbr)
{
	struct vx_retired **link, *object, *free_now = NULL;
	uint64_t oldest;

	pthread_mutex_lock(&qsbr->lock);
	oldest = oldest_seen(qsbr);	/* under the lock: marks read before a retirement do not speak of it */
	for (link = &qsbr->list; (object = *link);) {
		if (object->epoch > oldest) {
			link = &object->next;
			continue;
		}
		*link = object->next;
		object->next = free_now;
		free_now = object;
	}
	pthread_mutex_unlock(&qsbr->lock);

	while ((object = free_now)) {
		free_now = object->next;
		object->release(object);
		atomic_fetch_sub(&qsbr->waiting, 1);
	}
	return atomic_load(&qsbr->waiting);
}
