/* qsbr.h - when memory that readers may still see can be freed; see qsbr.c */
#ifndef VX_QSBR_H
#define VX_QSBR_H

#include <pthread.h>

#include "vx.h"

/** struct vx_retired - First member of everything that readers reach by pointer and the writer replaces
 * @next:	Next object that waits
 * @epoch:	Readers that have seen this epoch cannot hold the object
 * @release:	Frees it
 */
struct vx_retired {
	struct vx_retired *next;
	uint64_t epoch;
	void (*release)(struct vx_retired *object);
};

/** struct vx_reader - One worker's mark: the epoch it saw last, 0 while it holds nothing */
struct vx_reader {
	_Alignas(64) _Atomic uint64_t seen;
};

struct vx_qsbr {
	_Atomic uint64_t epoch;
	_Atomic uint32_t waiting;
	pthread_mutex_t lock;		/* of the list; never taken by a reader */
	pthread_cond_t more;
	struct vx_retired *list;
	struct vx_reader readers[VX_WORKERS_MAX];
};

void vx_qsbr_init(struct vx_qsbr *qsbr);
void vx_qsbr_destroy(struct vx_qsbr *qsbr);
void vx_qsbr_retire(struct vx_qsbr *qsbr, struct vx_retired *object, void (*release)(struct vx_retired *object));
unsigned vx_qsbr_collect(struct vx_qsbr *qsbr);

/** vx_qsbr_online() - A reader begins a turn: it holds nothing from before, and may load pointers from here on */
static inline void vx_qsbr_online(struct vx_qsbr *qsbr, unsigned reader)
{
	atomic_store(&qsbr->readers[reader].seen, atomic_load(&qsbr->epoch));
}

/** vx_qsbr_offline() - A reader is about to wait: it holds nothing and need not be waited for */
static inline void vx_qsbr_offline(struct vx_qsbr *qsbr, unsigned reader)
{
	atomic_store_explicit(&qsbr->readers[reader].seen, 0, memory_order_release);
}

#endif
