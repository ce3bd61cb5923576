/* stats.h - counters: who sent, got and lost what; see stats.c */
#ifndef VX_STATS_H
#define VX_STATS_H

#include "vx.h"

/** struct vx_stats - One worker's counters of everything */
struct vx_stats {
	vx_counters *engine;
	vx_counters *ports;
	vx_counters *vteps;
	vx_counters *networks;
	void *map;
	size_t map_len;
};

/** struct vx_owner - Whose counters an occurrence belongs to, beside the engine's */
struct vx_owner {
	uint8_t kind;			/* VX_AT_PORT, VX_AT_VTEP, 0 */
	uint32_t id;			/* VX_NONE: unknown */
	uint32_t network;		/* VX_NONE: unknown */
};

#define VX_COUNT(stats, owner, field, n) vx_stats_add((stats), (owner), offsetof(vx_counters, field), (n))

int vx_stats_init(struct vx_stats *stats);
void vx_stats_destroy(struct vx_stats *stats);
void vx_stats_add(struct vx_stats *stats, struct vx_owner owner, size_t field, uint64_t n);
void vx_stats_drops(struct vx_stats *stats, struct vx_owner owner, enum vx_reason reason, uint64_t frames);
void vx_stats_clear(struct vx_stats *stats, unsigned kind, uint32_t id);
void vx_stats_sum(const struct vx_stats *stats, unsigned kind, uint32_t id, vx_counters *sum);

/** vx_stats_drop() - Count one frame that was not delivered */
static inline void vx_stats_drop(struct vx_stats *stats, struct vx_owner owner, enum vx_reason reason)
{
	vx_stats_drops(stats, owner, reason, 1);
}

#endif
