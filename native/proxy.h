/* proxy.h - answer ARP and ND from the records; see proxy.c */
#ifndef VX_PROXY_H
#define VX_PROXY_H

#include "guard.h"

bool vx_proxy_is_arp_nd(const struct vx_frame *frame);
void vx_proxy(struct vx_frame *frame);

#endif
