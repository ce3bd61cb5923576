/* partial.h - what a peer on this kernel hands over unfinished; see partial.c */
#ifndef VX_PARTIAL_H
#define VX_PARTIAL_H

#include "net.h"

uint32_t vx_partial_extent(const uint8_t *datagram, uint32_t len, uint16_t size, bool same_kernel);
enum vx_reason vx_partial_settle(struct vx_frame *frame, uint32_t mtu, bool same_kernel);

#endif
