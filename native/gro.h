/* gro.h - merge received frames of one flow into a super-frame; see gro.c */
#ifndef VX_GRO_H
#define VX_GRO_H

#include <sys/uio.h>

#include "vx.h"

/* What may be merged: TAPs may refuse one or both (the ladder) */
#define VX_GRO_TCP	1
#define VX_GRO_UDP	2

/** struct vx_gro_first - What merging overwrites in the headers of the first frame, and where */
struct vx_gro_first {
	uint16_t l3;
	uint16_t ip_len;
	uint16_t ip_csum;
	uint16_t udp_len;
	uint16_t l4_csum;
	uint8_t tcp_flags;
};

/** struct vx_train - One write to a TAP: a frame as it came, or several merged ones
 * @port:	Target
 * @network:	Its network
 * @vnet:	Virtio header to write
 * @packet:	vx_frame.packet of its first frame
 * @parts:	How many
 * @frames:	How many frames of a wire it stands for
 * @bytes:	Their length together, headers and padding of each included
 * @partial:	Bit i: the checksum of merged frame i was the pseudo-header sum only. For vx_gro_undo()
 * @first:	For vx_gro_undo()
 * @part:	part[0] begins at the Ethernet header; the rest are payload slices of later frames. They refer to the
 *		receive buffers, which therefore stay as they are until vx_gro_flush()
 */
struct vx_train {
	uint32_t port;
	uint32_t network;
	struct vx_vnet vnet;
	uint64_t packet;
	unsigned parts;
	unsigned frames;
	uint32_t bytes;
	uint64_t partial;
	struct vx_gro_first first;
	struct iovec part[VX_GRO_FRAMES];
};

static_assert(VX_GRO_FRAMES <= 64, "vx_train.partial has a bit per frame");

struct vx_gro;

/* Writes a train or counts why not; may undo it. It must not call back into the coalescer. */
typedef void vx_gro_emit(void *context, struct vx_train *train);

size_t vx_gro_size(void);
void vx_gro_init(struct vx_gro *gro, vx_gro_emit *emit, void *context);
enum vx_reason vx_gro_add(struct vx_gro *gro, const struct vx_frame *frame, uint32_t port, unsigned may_merge);
unsigned vx_gro_follow(struct vx_gro *gro, const struct vx_frame *frame, uint8_t *next, unsigned count);
void vx_gro_flush_port(struct vx_gro *gro, uint32_t port);
void vx_gro_flush(struct vx_gro *gro);
void vx_gro_undo(struct vx_train *train);
struct vx_vnet vx_gro_single(const struct vx_train *train, unsigned part);

#endif
