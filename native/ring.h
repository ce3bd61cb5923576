/* ring.h - events from the workers to Python; see ring.c */
#ifndef VX_RING_H
#define VX_RING_H

#include "vx.h"

#define VX_EVENT_KINDS	16

/** struct vx_bell - Wakes the reader; one for all rings of an engine */
struct vx_bell {
	int fd;				/* eventfd */
	_Atomic bool asleep;		/* the reader waits for it to ring */
};

struct vx_ring {
	_Alignas(64) _Atomic uint32_t head;	/* next slot to fill; the producer's */
	bool pushed;				/* since the last kick; the producer's */
	uint32_t lost;				/* since the last event that fitted; the producer's */
	_Atomic uint64_t lost_total;		/* of all time; the producer writes, anybody reads */
	uint64_t earned_ns[VX_EVENT_KINDS];	/* limiter of each kind, as in storm.c; the producer's */
	struct vx_bell *bell;
	_Alignas(64) _Atomic uint32_t tail;	/* next slot to read; the consumer's */
	vx_event slot[VX_RING_SLOTS];
};

void vx_ring_init(struct vx_ring *ring, struct vx_bell *bell);
void vx_ring_push(struct vx_ring *ring, vx_event *event);
void vx_ring_kick(struct vx_ring *ring);
int vx_ring_pop(struct vx_ring *ring, vx_event *events, int max);

#endif
