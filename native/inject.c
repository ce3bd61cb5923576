/* inject.c - super-frames with outer headers, for the uplink TAP
 *
 * How it works
 *   Where the network card (or veth) cuts frames inside of a tunnel by itself, there is no need to cut them here. A
 *   socket cannot say "this payload is a tunnelled super-frame", but a TAP can, from Linux 6.17 on: its virtio header
 *   says where the outer UDP, the inner IP and the inner TCP or UDP header are. So a super-frame of a container is
 *   written to a TAP on the host, the *uplink TAP*, as it is, its checksum unfinished, behind the outer headers that
 *   are made here. A filter redirects what that TAP receives to the uplink, where the frame is what the kernel's own
 *   vxlan device would have made. Nothing of the payload is read or written here.
 *
 *   The outer headers say what the transmit sockets would (transmit.c): their source port, so that the receiver
 *   steers both kinds to one worker (steer.c); DF, their TTL and TOS. The identification counts segments, for the
 *   kernel gives segment i the number id + i, and a receiver merges only what goes on counting (inet_gro_flush()).
 *   The flow label of IPv6 is 0, theirs too (vx_sock_drop_flow_label()): ports tell flows apart. The outer checksum is
 *   always there, as the sum of the pseudo-header for whoever cuts to complete.
 *
 *   virtio_net_hdr_tnl_to_skb() checks the offsets, and gso_features_check() cuts in software what reaches
 *   gso_max_size with its Ethernet header: a longer frame is not for here.
 *
 * Pure: no system call, no global, no allocation.
 */
#include "inject.h"

#include "csum.h"

#define TUNNEL_CSUM	8	/* VIRTIO_NET_HDR_F_UDP_TUNNEL_CSUM */
#define TUNNEL_IPV4	0x20	/* VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV4 */
#define TUNNEL_IPV6	0x40

#define FRAME_MAX	65535	/* below gso_max_size, 65536 by default, which counts the Ethernet header */
#define IPV4_LEN	20u
#define IPV6_LEN	40u
#define UDP_LEN		8u
#define DF		0x4000
#define TCP_FLAGS	13
#define TCP_CWR		0x80

static void put_le16(uint8_t *p, uint32_t value)
{
	p[0] = (uint8_t)value;
	p[1] = (uint8_t)(value >> 8);
}

/** gso_type() - What kind of super-frame it is, in what kind of tunnel */
static uint8_t gso_type(const struct vx_gso *gso, bool outer_ipv4)
{
	uint8_t type = outer_ipv4 ? TUNNEL_IPV4 : TUNNEL_IPV6;

	if (!gso->tcp)
		return type | VX_GSO_UDP_L4;
	if (gso->data[gso->l4 + TCP_FLAGS] & TCP_CWR)
		type |= VX_GSO_ECN;
	return type | (gso->ipv4 ? VX_GSO_TCPV4 : VX_GSO_TCPV6);
}

/** put_vnet() - The virtio header; @udp is where the outer UDP header begins, counted from the outer Ethernet header */
static void put_vnet(uint8_t *vnet, const struct vx_gso *gso, uint32_t udp, bool outer_ipv4)
{
	uint32_t inner = udp + UDP_LEN + VX_VXLAN_LEN;

	memset(vnet, 0, VX_INJECT_VNET);
	vnet[0] = VX_VNET_NEEDS_CSUM | TUNNEL_CSUM;
	vnet[1] = gso_type(gso, outer_ipv4);
	put_le16(vnet + 2, inner + gso->headers);
	put_le16(vnet + 4, gso->size);
	put_le16(vnet + 6, inner + gso->l4);
	put_le16(vnet + 8, vx_csum_offset(gso->tcp ? VX_PROTO_TCP : VX_PROTO_UDP));
	put_le16(vnet + 20, udp);
	put_le16(vnet + 22, inner + gso->l3);
}

static void put_ipv4(uint8_t *ip, const struct vx_outer *outer, uint32_t len)
{
	memset(ip, 0, IPV4_LEN);
	ip[0] = 0x45;
	ip[1] = outer->tos;
	vx_put16(ip + 2, (uint16_t)(IPV4_LEN + len));
	vx_put16(ip + 4, outer->id);
	vx_put16(ip + 6, DF);
	ip[8] = outer->ttl;
	ip[9] = VX_PROTO_UDP;
	memcpy(ip + 12, outer->source + 12, 4);
	memcpy(ip + 16, outer->target + 12, 4);
	vx_put16(ip + 10, (uint16_t)~vx_csum_fold(vx_csum_add(ip, IPV4_LEN, 0)));
}

static void put_ipv6(uint8_t *ip, const struct vx_outer *outer, uint32_t len)
{
	vx_put32(ip, 6u << 28 | (uint32_t)outer->tos << 20);
	vx_put16(ip + 4, (uint16_t)len);
	ip[6] = VX_PROTO_UDP;
	ip[7] = outer->ttl;
	memcpy(ip + 8, outer->source, VX_ADDR_LEN);
	memcpy(ip + 24, outer->target, VX_ADDR_LEN);
}

/**
 * vx_inject_head() - Make what goes in front of a super-frame and its VXLAN header
 * @gso:	The super-frame, not cut yet
 * @outer:	Where it goes
 * @head:	Room for VX_INJECT_HEAD bytes: virtio header, outer Ethernet, IP and UDP header
 *
 * Return: length of all that, 0 if the frame would be too long
 */
uint32_t vx_inject_head(const struct vx_gso *gso, const struct vx_outer *outer, uint8_t *head)
{
	bool ipv4 = vx_addr_is4(outer->target);
	uint32_t udp = VX_ETH_LEN + (ipv4 ? IPV4_LEN : IPV6_LEN);
	uint32_t len = UDP_LEN + VX_VXLAN_LEN + gso->headers + gso->payload;
	uint8_t *frame = head + VX_INJECT_VNET, *ip = frame + VX_ETH_LEN, *port = frame + udp;

	if (udp + len > FRAME_MAX)
		return 0;
	put_vnet(head, gso, udp, ipv4);
	memcpy(frame, outer->ethernet, VX_ETH_LEN);
	if (ipv4)
		put_ipv4(ip, outer, len);
	else
		put_ipv6(ip, outer, len);
	vx_put16(port, outer->source_port);
	vx_put16(port + 2, outer->target_port);
	vx_put16(port + 4, (uint16_t)len);
	vx_put16(port + 6, vx_csum_fold(vx_csum_pseudo(ip, ipv4 ? 4 : 6, VX_PROTO_UDP, len)));
	return VX_INJECT_VNET + udp + UDP_LEN;
}
