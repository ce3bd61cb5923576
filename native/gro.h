/* gro.h - merge received frames of one flow into a super-frame; see gro.c */
#ifndef VX_GRO_H
#define VX_GRO_H

#include <sys/uio.h>

#include "vx.h"

/* What may be merged: TAPs may refuse one or both (the ladder) */
#define VX_GRO_TCP	1
#define VX_GRO_UDP	2

/** struct vx_train - One write to a TAP: a frame as it came, or several merged ones
 * @port:	Target
 * @network:	Its network
 * @vnet:	Virtio header to write
 * @part:	part[0] begins at the Ethernet header; the rest are payload slices of later frames. They refer to the
 *		receive buffers, which therefore stay as they are until vx_gro_flush()
 * @parts:	How many
 * @frames:	How many frames of a wire it stands for
 * @bytes:	Their length together, headers of each included
 */
struct vx_train {
	uint32_t port;
	uint32_t network;
	struct vx_vnet vnet;
	unsigned parts;
	unsigned frames;
	uint32_t bytes;
	struct iovec part[VX_GRO_FRAMES];
};

struct vx_gro;

struct vx_gro *vx_gro_new(void (*emit)(void *context, const struct vx_train *train), void *context);
void vx_gro_free(struct vx_gro *gro);
enum vx_reason vx_gro_add(struct vx_gro *gro, struct vx_frame *frame, uint32_t port, unsigned may_merge,
			  bool same_kernel);
void vx_gro_flush_port(struct vx_gro *gro, uint32_t port);
void vx_gro_flush(struct vx_gro *gro);

#endif
