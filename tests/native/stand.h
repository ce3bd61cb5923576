/* stand.h - a transmitter over the scene, frames to queue in it, and what must come out; see stand.c */
#ifndef STAND_H
#define STAND_H

#include "eth.h"
#include "scene.h"
#include "sends.h"
#include "transmit.h"

#define STAND_TELLS	32

struct told {
	unsigned kind;
	uint32_t vtep;
	uint32_t value;
};

struct stand {
	struct scene *scene;
	struct vx_stats stats;
	struct vx_transmitter transmitter;
	struct told told[STAND_TELLS];	/* the first ones */
	unsigned tells;
	uint8_t *room;			/* frames, each in a place of its own */
	size_t used;
};

struct stand *stand_new(uint32_t offloads);
void stand_free(struct stand *stand);

struct vx_frame small_frame(struct stand *stand, uint32_t len, unsigned mark);
struct vx_frame super_frame(struct stand *stand, unsigned version, uint8_t protocol, uint32_t payload, uint16_t size);
bool queue(struct stand *stand, const struct vx_frame *frame, int vtep);
void flush(struct stand *stand);
uint32_t reference(const struct vx_frame *frame, unsigned segment, uint8_t *datagram);
void same_datagrams(const struct vx_frame *frame, unsigned segment, unsigned first, unsigned count);
uint64_t dropped(const struct stand *stand, int vtep, enum vx_reason reason);
uint64_t encapsulated(const struct stand *stand, int vtep);

#endif
