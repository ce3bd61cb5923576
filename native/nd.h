/* nd.h - neighbour discovery for IPv6 (RFC 4861); see nd.c */
#ifndef VX_ND_H
#define VX_ND_H

#include "eth.h"

#define VX_ND_ROUTER_SOLICIT	133
#define VX_ND_ROUTER_ADVERT	134
#define VX_ND_SOLICIT		135
#define VX_ND_ADVERT		136
#define VX_ND_REDIRECT		137

#define VX_ND_ANSWER_LEN	(VX_ETH_LEN + 2 * VX_VLAN_LEN + 40 + 32)

/** struct vx_nd - What a neighbour solicitation or advertisement says */
struct vx_nd {
	uint8_t type;
	bool dad;		/* solicitation from :: */
	bool solicited;		/* advertisement with the S flag */
	uint8_t target[VX_ADDR_LEN];
	uint64_t link_address;	/* source or target link-layer option, 0 if absent */
};

enum vx_reason vx_nd_parse(const uint8_t *frame, const struct vx_eth *eth, struct vx_nd *nd);
uint32_t vx_nd_answer(uint8_t *frame, const struct vx_eth *eth, uint64_t mac, bool router);

/** vx_nd_type() - Type of an ICMPv6 message about neighbours or routers (133 to 137), 0 if it is none */
static inline uint8_t vx_nd_type(const uint8_t *frame, const struct vx_eth *eth)
{
	uint8_t type;

	if (eth->protocol != VX_PROTO_ICMPV6 || eth->version != 6 || !eth->l4)
		return 0;
	type = frame[eth->l4];
	return type >= VX_ND_ROUTER_SOLICIT && type <= VX_ND_REDIRECT ? type : 0;
}

#endif
