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
 *   A super-frame goes to the TAP in one write with a GSO type, or is cut where the TAP takes none: either way
 *   gso.c's check has held it to its contents. The segment size of UDP came with the datagram (UDP_GRO tells the
 *   inner one, frame->train). That of TCP is not known; the largest that fits the TAP's MTU is what the receiver
 *   would have got. Only a partial checksum proves that the peer is on this kernel: a packet that is merely too
 *   large for the TAP, as on an underlay with a larger MTU, is cut likewise but proves nothing.
 *
 * Pure but for the frame. How a peer is known to be on this kernel: switch.c.
 */
#include "partial.h"

#include "csum.h"
#include "eth.h"
#include "gso.h"

#define TCP_OFFSET	12
#define TCP_FLAGS	13
#define TCP_CWR		0x80
#define UDP_LEN		8

/** gso_type() - What cuts a TCP or UDP packet */
static uint8_t gso_type(const struct vx_frame *frame)
{
	const struct vx_eth *eth = &frame->eth;
	uint8_t type = eth->version == 4 ? VX_GSO_TCPV4 : VX_GSO_TCPV6;

	if (eth->protocol == VX_PROTO_UDP)
		return VX_GSO_UDP_L4;
	return frame->data[eth->l4 + TCP_FLAGS] & TCP_CWR ? type | VX_GSO_ECN : type;
}

/** claim() - Write the virtio header that a super-frame would have come with. Return: false if it can be none */
static bool claim(struct vx_frame *frame, uint32_t mtu)
{
	const struct vx_eth *eth = &frame->eth;
	uint32_t headers, size;
	uint16_t offset;

	if (!vx_csum_place(eth, &offset))
		return false;
	headers = eth->l4 + (eth->protocol == VX_PROTO_UDP ? UDP_LEN
							   : (uint32_t)(frame->data[eth->l4 + TCP_OFFSET] >> 4) * 4);
	size = frame->train;
	if (!size && (eth->protocol == VX_PROTO_UDP || headers >= eth->l3 + mtu))
		return false;
	frame->vnet = (struct vx_vnet){
		.flags = VX_VNET_NEEDS_CSUM,
		.gso_type = gso_type(frame),
		.hdr_len = (uint16_t)headers,
		.gso_size = (uint16_t)(size ? size : eth->l3 + mtu - headers),
		.csum_start = eth->l4,
		.csum_offset = offset,
	};
	return true;
}

/** settle_super() - Make a super-frame, held to its contents, one that the TAP takes */
static enum vx_reason settle_super(struct vx_frame *frame)
{
	const struct vx_eth *eth = &frame->eth;
	uint8_t *field = frame->data + eth->l4 + frame->vnet.csum_offset;
	uint16_t pseudo;

	pseudo = vx_csum_fold(vx_csum_pseudo(frame->data + eth->l3, eth->version, eth->protocol, eth->end - eth->l4));
	if (vx_get16(field) == pseudo)
		frame->notes |= VX_NOTE_SUPER;
	else if (!vx_csum_valid(frame->data, eth))
		return VX_CSUM;
	vx_put16(field, pseudo);
	return VX_OK;
}

/** settle_single() - Tell whether the checksum of a frame was left to us */
static void settle_single(struct vx_frame *frame, bool same_kernel)
{
	uint16_t offset;

	frame->vnet = (struct vx_vnet){ 0 };
	if (!same_kernel || vx_csum_inspect(frame->data, &frame->eth) != VX_CSUM_PARTIAL)
		return;
	vx_csum_place(&frame->eth, &offset);
	frame->vnet = (struct vx_vnet){
		.flags = VX_VNET_NEEDS_CSUM,
		.csum_start = frame->eth.l4,
		.csum_offset = offset,
	};
}

/** begins_alike() - Whether a datagram begins as another of the same sender does: all but the VNI */
static bool begins_alike(const uint8_t *a, const uint8_t *b)
{
	return vx_get32(a) == vx_get32(b) && a[VX_VXLAN_LEN - 1] == b[VX_VXLAN_LEN - 1];
}

/**
 * vx_partial_extent() - How many bytes of a datagram for which UDP_GRO told a size are its first frame
 * @datagram:	UDP payload
 * @len:	Its length
 * @size:	What UDP_GRO told, less than @len
 * @same_kernel: Whether a peer may be on this kernel
 *
 * In a train of many, the first frame's packet ends with that frame. One that claims to go on to the end of the
 * datagram makes a super-frame, or it lies: a container behind a VTEP of another make may send it, so that the frames
 * of other flows behind it in the train become its payload. From another kernel no super-frame can come. From
 * this one it may, and then its payload may lie: each piece of it could be made to look like a datagram, of any
 * network. So where both could be, the contents do not decide, and nobody gets any of it.
 *
 * Return: @len for a super-frame, @size for a train, 0 if it is a lie
 */
uint32_t vx_partial_extent(const uint8_t *datagram, uint32_t len, uint16_t size, bool same_kernel)
{
	struct vx_eth eth;

	if (!same_kernel || len <= VX_VXLAN_LEN || len - size < VX_VXLAN_LEN ||
	    vx_eth_parse(datagram + VX_VXLAN_LEN, len - VX_VXLAN_LEN, &eth) != VX_OK ||
	    !eth.version || eth.end != len - VX_VXLAN_LEN)
		return size;
	return begins_alike(datagram, datagram + size) ? 0 : len;
}

/**
 * vx_partial_settle() - Apply the rule above to a frame from the tunnel that goes to a TAP
 * @frame:	Frame; its @vnet and @segments become what is to be written
 * @mtu:	MTU of the TAP
 * @same_kernel: Whether the peer may have left checksums to us
 *
 * Return: VX_OK, VX_PKT_TOO_BIG, VX_CSUM
 */
enum vx_reason vx_partial_settle(struct vx_frame *frame, uint32_t mtu, bool same_kernel)
{
	bool too_big = frame->eth.end > frame->eth.l3 + mtu;

	if (too_big || frame->train) {
		bool cuttable = claim(frame, mtu) && vx_gso_check(frame) == VX_OK;

		if (cuttable && frame->vnet.gso_type != VX_GSO_NONE)
			return settle_super(frame);
		if (too_big)
			return VX_PKT_TOO_BIG;
	}
	settle_single(frame, same_kernel);
	return VX_OK;
}
