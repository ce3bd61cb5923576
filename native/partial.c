/* partial.c - what a peer on this kernel hands over unfinished
 *
 * How it works
 *   A kernel vxlan device whose frames reach us over veth was promised segmentation and checksums by a network
 *   card that never comes. So one datagram can hold a TCP segment of 64 KB (kernel: udp_unexpected_gso() lets it
 *   through to a plain socket), and any frame can carry a checksum field that holds the pseudo-header sum only.
 *   Nothing tells us; the receiver's stack would drop both. The rule, per frame:
 *     1. a valid checksum stays as it is;
 *     2. one that equals the folded pseudo-header sum, from a peer on the same kernel, becomes NEEDS_CSUM: the
 *        TAP's kernel takes it as verified, which it is, since it never left memory;
 *     3. any other stays untouched in a single frame (whoever gets it finds out), and is a drop in a super-frame,
 *        where passing it on as NEEDS_CSUM would hide the damage.
 *   A super-frame goes to the TAP in one write with a GSO type. Its true segment size is not known; the largest
 *   one that fits the TAP's MTU is what the receiver would have got.
 *
 * Pure but for the frame. How a peer is known to be on this kernel: switch.c.
 */
#include "partial.h"

#include "csum.h"
#include "eth.h"

#define GSO_ECN		0x80	/* VIRTIO_NET_HDR_GSO_ECN */
#define TCP_CSUM	16
#define TCP_FLAGS	13
#define TCP_CWR		0x80
#define IPV6_LEN	40

/** tcp_headers_end() - Where the payload of a whole, unfragmented TCP packet begins, 0 if the frame is none */
static uint32_t tcp_headers_end(const struct vx_frame *frame)
{
	const struct vx_eth *eth = &frame->eth;
	uint16_t offset;
	uint32_t end;

	if (eth->protocol != VX_PROTO_TCP || !vx_csum_place(eth, &offset) || eth->end != frame->len)
		return 0;
	if (eth->version == 6 && eth->l4 != eth->l3 + IPV6_LEN)
		return 0;
	end = eth->l4 + (uint32_t)(frame->data[eth->l4 + 12] >> 4) * 4;
	return end >= eth->l4 + 20u && end < eth->end ? end : 0;
}

/** settle_super() - Make a super-frame one that the TAP takes */
static enum vx_reason settle_super(struct vx_frame *frame, uint32_t mtu)
{
	const struct vx_eth *eth = &frame->eth;
	uint32_t headers = tcp_headers_end(frame);
	uint8_t *tcp = frame->data + eth->l4;
	uint16_t pseudo;

	if (!headers || mtu <= headers - eth->l3)
		return VX_PKT_TOO_BIG;
	pseudo = vx_csum_fold(vx_csum_pseudo(frame->data + eth->l3, eth->version, VX_PROTO_TCP, eth->end - eth->l4));
	if (vx_get16(tcp + TCP_CSUM) != pseudo && !vx_csum_valid(frame->data, eth))
		return VX_CSUM;

	vx_put16(tcp + TCP_CSUM, pseudo);
	frame->vnet = (struct vx_vnet){
		.flags = VX_VNET_NEEDS_CSUM,
		.gso_type = (uint8_t)((eth->version == 4 ? VX_GSO_TCPV4 : VX_GSO_TCPV6) |
				      (tcp[TCP_FLAGS] & TCP_CWR ? GSO_ECN : 0)),
		.hdr_len = (uint16_t)headers,
		.gso_size = (uint16_t)(mtu - (headers - eth->l3)),
		.csum_start = eth->l4,
		.csum_offset = TCP_CSUM,
	};
	frame->notes |= VX_NOTE_SUPER;
	return VX_OK;
}

/**
 * vx_partial_settle() - Apply the rule above to a frame from the tunnel that goes to a TAP
 * @frame:	Frame
 * @mtu:	MTU of the TAP
 * @same_kernel: Whether the peer may have left checksums to us
 *
 * Return: VX_OK, VX_PKT_TOO_BIG, VX_CSUM
 */
enum vx_reason vx_partial_settle(struct vx_frame *frame, uint32_t mtu, bool same_kernel)
{
	uint16_t offset;

	if (frame->len > frame->eth.l3 + mtu)
		return settle_super(frame, mtu);
	if (!same_kernel || vx_csum_inspect(frame->data, &frame->eth) != VX_CSUM_PARTIAL)
		return VX_OK;
	vx_csum_place(&frame->eth, &offset);
	frame->vnet = (struct vx_vnet){
		.flags = VX_VNET_NEEDS_CSUM,
		.csum_start = frame->eth.l4,
		.csum_offset = offset,
	};
	return VX_OK;
}
