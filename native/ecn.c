/* ecn.c - explicit congestion notification across the tunnel (RFC 6040)
 *
 * How it works
 *   Going out, the outer header takes the inner ECN field as it is ("normal mode"). Coming in, the two
 *   fields are combined by the table below, which is RFC 6040 figure 4. One combination is illegal: a
 *   congestion mark on a packet whose sender never said it understands marks. It must be dropped, since
 *   forwarding it would hide congestion from everyone.
 *
 * Pure: no system call, no global, no allocation. Called by switch.c once per frame, before coalescing,
 * because frames of different outcome must not be merged.
 *
 * Linux maps an inner CE to an outer ECT(0) when it encapsulates (INET_ECN_encapsulate); we follow the RFC.
 */
#include "ecn.h"

#include "csum.h"

enum { NOT_ECT, ECT_1, ECT_0, CE };

#define ECN_MASK	3
#define DROP		0xff

static const uint8_t combine[4][4] = {		/* [inner][outer] */
	/*            not-ECT            ECT(1)             ECT(0)             CE   */
	[NOT_ECT] = { [NOT_ECT] = NOT_ECT, [ECT_1] = NOT_ECT, [ECT_0] = NOT_ECT, [CE] = DROP },
	[ECT_1]   = { [NOT_ECT] = ECT_1,   [ECT_1] = ECT_1,   [ECT_0] = ECT_1,   [CE] = CE },
	[ECT_0]   = { [NOT_ECT] = ECT_0,   [ECT_1] = ECT_1,   [ECT_0] = ECT_0,   [CE] = CE },
	[CE]      = { [NOT_ECT] = CE,      [ECT_1] = CE,      [ECT_0] = CE,      [CE] = CE },
};

/** vx_ecn_encapsulate() - Outer TOS for a frame: DSCP 0, ECN of the inner packet, 0 if it is not IP */
uint8_t vx_ecn_encapsulate(const struct vx_eth *eth)
{
	return eth->version ? eth->tos & ECN_MASK : 0;
}

/**
 * vx_ecn_decapsulate() - Carry the underlay's congestion mark into the inner IP header
 * @frame:	Ethernet frame
 * @eth:	Its headers, checked to be whole; the TOS in it follows the packet's
 * @outer_tos:	TOS or traffic class that the outer header arrived with
 *
 * Return: VX_OK, or VX_IP_TUNNEL_ECN where RFC 6040 demands a drop
 */
enum vx_reason vx_ecn_decapsulate(uint8_t *frame, struct vx_eth *eth, uint8_t outer_tos)
{
	uint8_t *ip = frame + eth->l3;
	uint8_t before, after;

	if (!eth->version || !(outer_tos & ECN_MASK))	/* the first column: nothing changes */
		return VX_OK;
	before = eth->tos & ECN_MASK;
	after = combine[before][outer_tos & ECN_MASK];
	if (after == DROP)
		return VX_IP_TUNNEL_ECN;
	if (after == before)
		return VX_OK;

	eth->tos = (uint8_t)((eth->tos & ~ECN_MASK) | after);
	if (eth->version == 6) {
		ip[1] = (uint8_t)((ip[1] & 0xcf) | after << 4);
		return VX_OK;
	}
	vx_put16(ip + 10, vx_csum_adjust(vx_get16(ip + 10), vx_get16(ip), (uint16_t)(ip[0] << 8 | eth->tos)));
	ip[1] = eth->tos;
	return VX_OK;
}
