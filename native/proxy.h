/* proxy.h - answer ARP and ND from the records; see proxy.c */
#ifndef VX_PROXY_H
#define VX_PROXY_H

#include "guard.h"
#include "nd.h"

void vx_proxy(struct vx_frame *frame);

/** vx_proxy_is_arp_nd() - Whether a frame is ARP, NS, NA or looks for routers */
static inline bool vx_proxy_is_arp_nd(const struct vx_frame *frame)
{
	uint8_t type = vx_nd_type(frame->data, &frame->eth);

	return frame->eth.type == VX_ETHERTYPE_ARP || type == VX_ND_SOLICIT || type == VX_ND_ADVERT ||
	       type == VX_ND_ROUTER_SOLICIT;
}

#endif
