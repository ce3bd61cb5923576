/* inject.h - super-frames with outer headers, for the uplink TAP; see inject.c */
#ifndef VX_INJECT_H
#define VX_INJECT_H

#include "gso.h"

#define VX_INJECT_VNET	24	/* struct virtio_net_hdr_v1_hash_tunnel */
#define VX_INJECT_HEAD	(VX_INJECT_VNET + VX_ETH_LEN + 40 + 8)

/** struct vx_outer - What goes into the outer headers
 * @ethernet:	Header towards the next hop: VX_ETH_LEN bytes
 * @source:	Address of this host
 * @target:	Address of the VTEP, of the same family
 * @source_port: Of the transmit socket that has the flow
 * @target_port: Data port of the VTEP
 * @id:		IPv4 identification of the first segment
 * @tos:	TOS or traffic class
 * @ttl:	TTL or hop limit
 */
struct vx_outer {
	const uint8_t *ethernet;
	const uint8_t *source;
	const uint8_t *target;
	uint16_t source_port;
	uint16_t target_port;
	uint16_t id;
	uint8_t tos;
	uint8_t ttl;
};

uint32_t vx_inject_head(const struct vx_gso *gso, const struct vx_outer *outer, uint8_t *head);

#endif
