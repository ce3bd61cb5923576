/* gso.c - segmentation offload: hold a TAP's virtio header to its frame, and cut super-frames
 *
 * How it works
 *   A TAP with offloads hands over TCP and UDP "super-frames" of up to 64 KB: one set of headers, a payload, and
 *   the size to cut it into. vx_gso_check() runs in the parse stage, on every frame from a TAP: what it lets
 *   through, every later stage may take at its word. It changes the virtio header, never the frame, since a frame
 *   for another TAP of this host goes there as it is.
 *
 *   vx_gso_begin() sums, once, all that is the same in every segment. Then vx_gso_cut() writes the headers of one
 *   segment with finished checksums and says which slice of the payload belongs to it, and vx_gso_copy() writes that
 *   behind them as well, in the pass that sums it. The rules are those of tcp_gso_segment(), __udp_gso_segment(),
 *   inet_gso_segment() and ipv6_gso_segment():
 *     IPv4   length; id + i modulo 2^16, with DF too; header checksum. All else, options too, is copied
 *     IPv6   payload length. Extension headers are copied
 *     TCP    sequence + i * size; FIN and PSH on the last segment only, CWR on the first only; checksum
 *     UDP    length; checksum, where 0 means "none" and is sent as 0xffff. For TCP 0 is a checksum like any other
 *
 *   The checksum field of a super-frame holds the folded sum of the pseudo-header, and each segment's sum starts
 *   from there, corrected by its length, and not from the addresses: behind an IPv6 routing header the destination
 *   in the IP header is not the one that counts (RFC 8200 section 8.1), and the sender's stack knew which one does.
 *   Transport headers have even lengths, so a payload slice always begins on a 16-bit word of its packet's sum.
 *
 * Pure: no system call, no global, no allocation.
 */
#include "gso.h"

#include "csum.h"
#include "eth.h"

#define VNET_DATA_VALID	2	/* VIRTIO_NET_HDR_F_DATA_VALID */

#define IPV4_TOTAL	2
#define IPV4_ID		4
#define IPV4_CSUM	10
#define IPV6_LEN	40
#define IPV6_PAYLOAD	4

#define TCP_LEN		20u
#define TCP_SEQ		4
#define TCP_OFFSET	12	/* data offset, reserved bits and flags: one 16-bit word */
#define TCP_CSUM	16
#define TCP_FIN		0x01
#define TCP_PSH		0x08
#define TCP_CWR		0x80

#define UDP_LEN		8u
#define UDP_LENGTH	4
#define UDP_CSUM	6
#define UDP_SEGMENTS	128	/* UDP_MAX_SEGMENTS: what the kernel takes and makes; of 64 before 6.9 */

/** is_finishable() - Whether finishing the checksum stays inside the frame and changes nothing that the guards go by
 *
 * A raw socket of the endpoint may name any two bytes as the checksum (PACKET_VNET_HDR), and they are written after
 * the guards have judged. So the field has to lie behind all that these read: behind the ports of a transport
 * header, and never in ARP or ICMPv6, which no stack leaves unfinished.
 */
static bool is_finishable(const struct vx_frame *frame)
{
	const struct vx_eth *eth = &frame->eth;
	uint32_t start = frame->vnet.csum_start, field = start + frame->vnet.csum_offset;

	if (start < VX_ETH_LEN || field + 2 > frame->len)
		return false;
	if (!eth->version)
		return eth->type != VX_ETHERTYPE_ARP && field >= eth->l3;
	return eth->l4 && eth->protocol != VX_PROTO_ICMPV6 && field >= eth->l4 + 4u;
}

/** headers_of_tcp() - Length of all headers of a TCP super-frame, 0 if it is none */
static uint32_t headers_of_tcp(const struct vx_frame *frame)
{
	const struct vx_eth *eth = &frame->eth;
	uint32_t tcp;

	if (eth->protocol != VX_PROTO_TCP || eth->l4 + TCP_LEN > eth->end || frame->vnet.csum_offset != TCP_CSUM)
		return 0;
	tcp = (uint32_t)(frame->data[eth->l4 + TCP_OFFSET] >> 4) * 4;
	return tcp < TCP_LEN ? 0 : eth->l4 + tcp;
}

/** headers_of_udp() - Length of all headers of a UDP super-frame, 0 if it is none */
static uint32_t headers_of_udp(const struct vx_frame *frame)
{
	const struct vx_eth *eth = &frame->eth;

	if (eth->protocol != VX_PROTO_UDP || eth->l4 + UDP_LEN > eth->end || frame->vnet.csum_offset != UDP_CSUM)
		return 0;
	return vx_get16(frame->data + eth->l4 + UDP_LENGTH) == eth->end - eth->l4 ? eth->l4 + UDP_LEN : 0;
}

/** headers_of() - Length of all headers of a frame whose virtio header agrees with them, 0 if it does not */
static uint32_t headers_of(const struct vx_frame *frame)
{
	const struct vx_eth *eth = &frame->eth;
	const struct vx_vnet *vnet = &frame->vnet;

	if (!(vnet->flags & VX_VNET_NEEDS_CSUM) || !eth->l4 || vnet->csum_start != eth->l4)
		return 0;
	if (eth->fragment || eth->end != frame->len)
		return 0;
	switch (vnet->gso_type) {
	case VX_GSO_TCPV4:
	case VX_GSO_TCPV4 | VX_GSO_ECN:
		return eth->version == 4 ? headers_of_tcp(frame) : 0;
	case VX_GSO_TCPV6:
	case VX_GSO_TCPV6 | VX_GSO_ECN:
		return eth->version == 6 ? headers_of_tcp(frame) : 0;
	case VX_GSO_UDP_L4:
		return headers_of_udp(frame);
	default:
		return 0;
	}
}

/** be_plain() - Make it a frame that only lacks a checksum, if that; its @hdr_len is a hint that nobody needs */
static enum vx_reason be_plain(struct vx_frame *frame)
{
	struct vx_vnet *vnet = &frame->vnet;

	vnet->gso_type = VX_GSO_NONE;
	vnet->gso_size = vnet->hdr_len = 0;
	return (vnet->flags & VX_VNET_NEEDS_CSUM) && !is_finishable(frame) ? VX_GSO_INVALID : VX_OK;
}

/**
 * vx_gso_check() - Hold the virtio header of a frame from a TAP to its contents
 * @frame:	Frame whose headers vx_eth_parse() found. Its virtio header becomes exact: @hdr_len is what all
 *		headers have (given is the sender's linear length), and a super-frame of one segment becomes a
 *		plain frame. @segments is set
 *
 * Return: VX_OK or VX_GSO_INVALID
 */
enum vx_reason vx_gso_check(struct vx_frame *frame)
{
	struct vx_vnet *vnet = &frame->vnet;
	uint32_t headers, payload, segments;

	frame->segments = 1;
	if (vnet->flags & ~(VX_VNET_NEEDS_CSUM | VNET_DATA_VALID))
		return VX_GSO_INVALID;
	if (vnet->gso_type == VX_GSO_NONE)
		return be_plain(frame);

	headers = headers_of(frame);
	if (!headers || headers > VX_GSO_HEADERS_MAX || headers > frame->len || !vnet->gso_size)
		return VX_GSO_INVALID;
	payload = frame->len - headers;
	if (payload <= vnet->gso_size)
		return be_plain(frame);
	segments = (payload + vnet->gso_size - 1) / vnet->gso_size;
	if (segments > (vnet->gso_type == VX_GSO_UDP_L4 ? UDP_SEGMENTS : VX_SEGMENTS_MAX))
		return VX_GSO_INVALID;
	vnet->hdr_len = (uint16_t)headers;
	frame->segments = (uint16_t)segments;
	return VX_OK;
}

/** sum_ipv4() - Sum of an IPv4 header without what differs per segment and without its checksum */
static uint32_t sum_ipv4(const uint8_t *ip, uint32_t len)
{
	uint32_t sum = vx_csum_fold(vx_csum_add(ip, len, 0));

	sum = vx_csum_but(sum, vx_get16(ip + IPV4_TOTAL));
	sum = vx_csum_but(sum, vx_get16(ip + IPV4_ID));
	return vx_csum_but(sum, vx_get16(ip + IPV4_CSUM));
}

/** sum_l4() - Sum of a transport header, and of the pseudo-header that its checksum field stands for, without what
 * differs per segment; @whole is the length of both header and payload, of the super-frame
 */
static uint32_t sum_l4(const struct vx_gso *gso, uint32_t whole)
{
	const uint8_t *l4 = gso->data + gso->l4;
	uint32_t sum = vx_csum_fold(vx_csum_add(l4, gso->headers - (uint32_t)gso->l4, 0));

	sum = vx_csum_but(sum, whole);
	if (!gso->tcp)
		return vx_csum_but(sum, vx_get16(l4 + UDP_LENGTH));
	sum = vx_csum_but(sum, vx_get16(l4 + TCP_SEQ));
	sum = vx_csum_but(sum, vx_get16(l4 + TCP_SEQ + 2));
	return vx_csum_but(sum, vx_get16(l4 + TCP_OFFSET));
}

/**
 * vx_gso_begin() - Sum what all segments of a super-frame have in common
 * @gso:	Filled in
 * @frame:	Super-frame that vx_gso_check() let through, and that still has its gso_type
 */
void vx_gso_begin(struct vx_gso *gso, const struct vx_frame *frame)
{
	const struct vx_eth *eth = &frame->eth;

	*gso = (struct vx_gso){
		.data = frame->data,
		.payload = frame->len - frame->vnet.hdr_len,
		.headers = frame->vnet.hdr_len,
		.size = frame->vnet.gso_size,
		.segments = frame->segments,
		.l3 = eth->l3,
		.l4 = eth->l4,
		.ipv4 = eth->version == 4,
		.tcp = frame->vnet.gso_type != VX_GSO_UDP_L4,
	};
	gso->l4_sum = sum_l4(gso, eth->end - eth->l4);
	if (gso->tcp)
		gso->seq = vx_get32(frame->data + eth->l4 + TCP_SEQ);
	if (gso->ipv4) {
		gso->ip_sum = sum_ipv4(frame->data + eth->l3, (uint32_t)eth->l4 - eth->l3);
		gso->id = vx_get16(frame->data + eth->l3 + IPV4_ID);
	}
}

/** put_ip() - Write what differs in the IP header of a segment; @len is that of transport header and payload */
static void put_ip(const struct vx_gso *gso, uint32_t segment, uint8_t *ip, uint32_t len)
{
	uint16_t total = (uint16_t)(gso->l4 - gso->l3 + len);
	uint16_t id = (uint16_t)(gso->id + segment);

	if (!gso->ipv4) {
		vx_put16(ip + IPV6_PAYLOAD, (uint16_t)(total - IPV6_LEN));
		return;
	}
	vx_put16(ip + IPV4_TOTAL, total);
	vx_put16(ip + IPV4_ID, id);
	vx_put16(ip + IPV4_CSUM, (uint16_t)~vx_csum_fold(gso->ip_sum + total + id));
}

/** put_tcp() - Write what differs in the TCP header of a segment; @sum is that of its payload and length */
static void put_tcp(const struct vx_gso *gso, uint32_t segment, uint8_t *tcp, uint32_t sum)
{
	uint32_t seq = gso->seq + segment * gso->size;
	uint16_t offset = vx_get16(gso->data + gso->l4 + TCP_OFFSET);

	if (segment)
		offset &= (uint16_t)~TCP_CWR;
	if (segment + 1 < gso->segments)
		offset &= (uint16_t)~(TCP_FIN | TCP_PSH);
	vx_put32(tcp + TCP_SEQ, seq);
	vx_put16(tcp + TCP_OFFSET, offset);
	sum += gso->l4_sum + (seq >> 16) + (seq & 0xffff) + offset;
	vx_put16(tcp + TCP_CSUM, (uint16_t)~vx_csum_fold(sum));
}

/** put_udp() - Write what differs in the UDP header of a segment; @sum is that of its payload and length */
static void put_udp(const struct vx_gso *gso, uint8_t *udp, uint32_t len, uint32_t sum)
{
	uint16_t csum = (uint16_t)~vx_csum_fold(sum + gso->l4_sum + len);

	vx_put16(udp + UDP_LENGTH, (uint16_t)len);
	vx_put16(udp + UDP_CSUM, csum ? csum : 0xffff);
}

/** put_headers() - Write the headers of a segment; @sum is that of its payload, of @slice bytes */
static void put_headers(const struct vx_gso *gso, uint32_t segment, uint8_t *headers, uint32_t slice, uint32_t sum)
{
	uint32_t len = gso->headers - (uint32_t)gso->l4 + slice;

	sum = vx_csum_fold(sum) + len;
	memcpy(headers, gso->data, gso->headers);
	put_ip(gso, segment, headers + gso->l3, len);
	if (gso->tcp)
		put_tcp(gso, segment, headers + gso->l4, sum);
	else
		put_udp(gso, headers + gso->l4, len, sum);
}

/**
 * vx_gso_cut() - Write the headers of one segment and find its payload
 * @gso:	As vx_gso_begin() made it; its frame is where it was
 * @segment:	Below gso->segments; in any order
 * @headers:	Room for gso->headers bytes (at most VX_GSO_HEADERS_MAX), outside the super-frame
 * @payload:	Set to the slice of the super-frame that goes behind them
 *
 * Return: length of that slice
 */
uint32_t vx_gso_cut(const struct vx_gso *gso, uint32_t segment, uint8_t *headers, const uint8_t **payload)
{
	uint32_t slice = vx_gso_payload(gso, segment);

	*payload = gso->data + gso->headers + segment * gso->size;
	put_headers(gso, segment, headers, slice, vx_csum_add(*payload, slice, 0));
	return slice;
}

/** vx_gso_copy() - As vx_gso_cut(), but copy the payload behind the headers. Return: length of the whole frame */
uint32_t vx_gso_copy(const struct vx_gso *gso, uint32_t segment, uint8_t *frame)
{
	const uint8_t *payload = gso->data + gso->headers + segment * gso->size;
	uint32_t slice = vx_gso_payload(gso, segment);

	put_headers(gso, segment, frame, slice, vx_csum_copy(frame + gso->headers, payload, slice, 0));
	return gso->headers + slice;
}
