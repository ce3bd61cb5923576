/* partial.h - what a peer on this kernel hands over unfinished; see partial.c */
#ifndef VX_PARTIAL_H
#define VX_PARTIAL_H

#include "net.h"

bool vx_partial_is_whole(const uint8_t *datagram, uint32_t len);
enum vx_reason vx_partial_settle(struct vx_frame *frame, uint32_t mtu, bool same_kernel);

#endif
