/* eth.h - Ethernet, VLAN and IP headers; see eth.c */
#ifndef VX_ETH_H
#define VX_ETH_H

#include "vx.h"

#define VX_ETHERTYPE_IPV4	0x0800
#define VX_ETHERTYPE_ARP	0x0806
#define VX_ETHERTYPE_VLAN	0x8100
#define VX_ETHERTYPE_QINQ	0x88a8
#define VX_ETHERTYPE_IPV6	0x86dd

#define VX_PROTO_IGMP		2
#define VX_PROTO_TCP		6
#define VX_PROTO_UDP		17
#define VX_PROTO_ICMPV6		58

enum vx_reason vx_eth_parse(const uint8_t *frame, uint32_t len, struct vx_eth *eth);
uint32_t vx_eth_hash(const uint8_t *frame, const struct vx_eth *eth);
uint32_t vx_eth_flow(const uint8_t *frame, const struct vx_eth *eth);

/** vx_eth_to() - The destination MAC: one load that takes two bytes too many, and drops them */
static inline uint64_t vx_eth_to(const uint8_t *frame)
{
	return vx_get64(frame) >> 16;
}

/** vx_eth_from() - The source MAC, likewise */
static inline uint64_t vx_eth_from(const uint8_t *frame)
{
	return vx_get64(frame + VX_MAC_LEN) >> 16;
}

/** vx_eth_source() - The source address of an IP packet; @eth->version is 4 or 6 */
static inline struct vx_address vx_eth_source(const uint8_t *frame, const struct vx_eth *eth)
{
	const uint8_t *ip = frame + eth->l3;

	return eth->version == 4 ? vx_address_ipv4(ip + 12) : vx_address(ip + 8);
}

#endif
