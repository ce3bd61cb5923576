/* partial.h - what a peer on this kernel hands over unfinished; see partial.c */
#ifndef VX_PARTIAL_H
#define VX_PARTIAL_H

#include "net.h"

uint32_t vx_partial_extent(const uint8_t *datagram, uint32_t len, uint16_t size, bool same_kernel);

/** vx_partial_is_single() - Whether a frame from the tunnel is one of a wire's, however its checksum is */
static inline bool vx_partial_is_single(const struct vx_frame *frame, uint32_t mtu)
{
	return !frame->train && frame->eth.end <= frame->eth.l3 + mtu;
}

enum vx_reason vx_partial_settle(struct vx_frame *frame, uint32_t mtu, bool same_kernel);

#endif
