/* super_frame.h - reading a super-frame, for the programs that a test runs (cut_super.c, head_super.c)
 *
 * It comes as from a TAP, virtio header and frame; the header's numbers are little-endian, whatever the CPU.
 */
#ifndef SUPER_FRAME_H
#define SUPER_FRAME_H

#include "eth.h"
#include "gso.h"

#define VNET_LEN	10

static inline uint16_t little(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

/**
 * super_frame() - Read a super-frame, up to where it can be cut
 * @record:	Virtio header of VNET_LEN bytes and the frame, @size bytes together
 * @frame:	Filled; its bytes stay in @record
 * @gso:	Begun on @frame
 *
 * Return: VX_OK, or the drop reason where there is nothing to cut
 */
static inline enum vx_reason super_frame(uint8_t *record, size_t size, struct vx_frame *frame, struct vx_gso *gso)
{
	enum vx_reason reason;

	*frame = (struct vx_frame){
		.data = record + VNET_LEN,
		.len = (uint32_t)(size - VNET_LEN),
		.vnet = {
			record[0], record[1],
			little(record + 2), little(record + 4), little(record + 6), little(record + 8),
		},
	};
	reason = vx_eth_parse(frame->data, frame->len, &frame->eth);
	if (!reason)
		reason = vx_gso_check(frame);
	if (!reason)
		vx_gso_begin(gso, frame);
	return reason;
}

#endif
