/* gro.h - merge received frames of one flow into a super-frame; see gro.c */
#ifndef VX_GRO_H
#define VX_GRO_H

#include "train.h"

/* What may be merged: TAPs may refuse one or both (the ladder) */
#define VX_GRO_TCP	1
#define VX_GRO_UDP	2

struct vx_gro;

/* Writes a train or counts why not; may undo it. It must not call back into the coalescer. */
typedef void vx_gro_emit(void *context, struct vx_train *train);

size_t vx_gro_size(void);
void vx_gro_init(struct vx_gro *gro, vx_gro_emit *emit, void *context);
enum vx_reason vx_gro_add(struct vx_gro *gro, const struct vx_frame *frame, uint32_t port, unsigned may_merge);
unsigned vx_gro_follow(struct vx_gro *gro, const struct vx_frame *frame, uint8_t *next, unsigned count);
void vx_gro_flush_port(struct vx_gro *gro, uint32_t port);
void vx_gro_flush(struct vx_gro *gro);

#endif
