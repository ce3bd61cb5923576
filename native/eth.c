/* eth.c - find the headers of a frame, and hash its flow
 *
 * How it works
 *   vx_eth_parse() walks Ethernet, up to two VLAN tags, and IPv4 or IPv6 with its extension headers, and notes
 *   offsets. Later stages read through those offsets and never measure again. What is not IP is not looked into.
 *   An IP packet that claims more bytes than came, or less than its own header, is hdr_trunc: no guard could
 *   judge it, and no receiver would take it. More tags than two are refused (vlan), since whoever strips them all
 *   would see an IP packet that no guard had looked at.
 *
 * Pure: no system call, no global, no allocation. Runs first on every frame, so nothing here is trusted.
 */
#include "eth.h"

#define IPV4_LEN	20
#define IPV4_SHAPE	0xff00000000003fffull	/* of the first 64 bits: version, header length, fragment */
#define IPV4_ORDINARY	0x4500000000000000ull	/* no options, no fragment; DF or not */
#define IPV6_LEN	40
#define PORTS_LEN	8u	/* what shows_ports() wants to see: a UDP header */
#define TAGS_MAX	2	/* IEEE 802.1ad: a service tag and a customer tag */
#define EXTENSIONS_MAX	8	/* RFC 8200 section 4.1 orders seven; more is an attack on the parser */

#define EXT_HOP_BY_HOP	0
#define EXT_ROUTING	43
#define EXT_FRAGMENT	44
#define EXT_DESTINATION	60

/** shows_ports() - Whether a whole packet's transport header is one with ports, and there */
static bool shows_ports(const struct vx_eth *eth)
{
	return (eth->protocol == VX_PROTO_TCP || eth->protocol == VX_PROTO_UDP) && eth->l4 + PORTS_LEN <= eth->end;
}

/** parse_ipv4_special() - As parse_ipv4(), of a packet with options or a fragment, or that is none */
static VX_APART enum vx_reason parse_ipv4_special(const uint8_t *ip, uint32_t left, struct vx_eth *eth)
{
	uint32_t header = (uint32_t)(ip[0] & 15) * 4, total = vx_get16(ip + 2);
	uint16_t fragment = vx_get16(ip + 6) & 0x3fff;

	if (ip[0] >> 4 != 4 || header < IPV4_LEN || total < header || total > left)
		return VX_HDR_TRUNC;
	eth->version = 4;
	eth->tos = ip[1];
	eth->protocol = ip[9];
	eth->fragment = fragment != 0;
	eth->end = eth->l3 + total;
	if (fragment & 0x1fff || total == header)
		return VX_OK;
	eth->l4 = (uint16_t)(eth->l3 + header);
	eth->plain = shows_ports(eth) && !eth->fragment && !eth->group && !eth->vlan;
	return VX_OK;
}

/** parse_ipv4() - Note where an IPv4 packet's parts are; @left is what the frame holds from eth->l3 on */
VX_INLINE enum vx_reason parse_ipv4(const uint8_t *ip, uint32_t left, struct vx_eth *eth)
{
	uint64_t first;
	uint32_t total;

	if (left < IPV4_LEN)
		return VX_HDR_TRUNC;
	first = vx_get64(ip);		/* version, header length, TOS, total length, id, fragment */
	if ((first & IPV4_SHAPE) != IPV4_ORDINARY)
		return parse_ipv4_special(ip, left, eth);
	total = (uint32_t)(first >> 32 & 0xffff);
	if (total < IPV4_LEN || total > left)
		return VX_HDR_TRUNC;
	eth->version = 4;
	eth->tos = (uint8_t)(first >> 48);
	eth->protocol = ip[9];
	eth->end = eth->l3 + total;
	if (total == IPV4_LEN)
		return VX_OK;
	eth->l4 = (uint16_t)(eth->l3 + IPV4_LEN);
	eth->plain = shows_ports(eth) && !eth->group && !eth->vlan;
	return VX_OK;
}

/** walk_extensions() - Find the upper layer behind IPv6 extension headers; leaves eth->l4 at 0 if there is none
 *
 * A first fragment has to hold all headers (RFC 7112): otherwise no guard sees what the receiver puts together.
 */
static enum vx_reason walk_extensions(const uint8_t *ip, uint32_t total, struct vx_eth *eth)
{
	uint32_t offset = IPV6_LEN;
	uint8_t next = ip[6];

	for (unsigned i = 0; i < EXTENSIONS_MAX; i++) {
		bool extension = next == EXT_HOP_BY_HOP || next == EXT_ROUTING || next == EXT_FRAGMENT ||
				 next == EXT_DESTINATION;

		eth->protocol = next;
		if (!extension) {
			if (offset > total || (offset == total && eth->fragment))
				return VX_HDR_TRUNC;
			if (offset == total)
				return VX_OK;
			eth->l4 = (uint16_t)(eth->l3 + offset);
			eth->plain = shows_ports(eth) && !eth->fragment && !eth->group && !eth->vlan;
			return VX_OK;
		}
		if (offset + 8 > total)
			return VX_HDR_TRUNC;
		if (next == EXT_FRAGMENT) {
			eth->fragment = true;
			if (vx_get16(ip + offset + 2) & 0xfff8) {
				eth->protocol = ip[offset];
				return VX_OK;
			}
		}
		next = ip[offset];
		offset += eth->protocol == EXT_FRAGMENT ? 8u : (uint32_t)(ip[offset + 1] + 1) * 8;
	}
	return VX_HDR_TRUNC;
}

/** parse_ipv6() - Note where an IPv6 packet's parts are; @left is what the frame holds from eth->l3 on */
static enum vx_reason parse_ipv6(const uint8_t *ip, uint32_t left, struct vx_eth *eth)
{
	uint32_t total;

	if (left < IPV6_LEN || ip[0] >> 4 != 6)
		return VX_HDR_TRUNC;
	total = IPV6_LEN + (uint32_t)vx_get16(ip + 4);
	if (total > left)
		return VX_HDR_TRUNC;

	eth->version = 6;
	eth->tos = (uint8_t)(vx_get16(ip) >> 4);
	eth->end = eth->l3 + total;
	return walk_extensions(ip, total, eth);
}

static bool is_tag(uint16_t type)
{
	return type == VX_ETHERTYPE_VLAN || type == VX_ETHERTYPE_QINQ;
}

/** parse_l3() - Note where the parts of what is behind Ethernet header and tags are */
VX_INLINE enum vx_reason parse_l3(const uint8_t *frame, uint32_t len, uint32_t l3, struct vx_eth *eth)
{
	eth->l3 = (uint16_t)l3;
	eth->end = len;
	if (eth->type == VX_ETHERTYPE_IPV4)
		return parse_ipv4(frame + l3, len - l3, eth);
	if (eth->type == VX_ETHERTYPE_IPV6)
		return parse_ipv6(frame + l3, len - l3, eth);
	return VX_OK;
}

/** parse_tagged() - Skip the VLAN tags of a frame that has one, and go on behind them */
static VX_APART enum vx_reason parse_tagged(const uint8_t *frame, uint32_t len, struct vx_eth *eth)
{
	uint32_t l3 = VX_ETH_LEN;

	for (unsigned tags = 0; is_tag(eth->type); tags++) {
		if (tags == TAGS_MAX)
			return VX_VLAN;
		if (len < l3 + VX_VLAN_LEN)
			return VX_HDR_TRUNC;
		eth->vlan = true;
		eth->type = vx_get16(frame + l3 + 2);
		l3 += VX_VLAN_LEN;
	}
	return parse_l3(frame, len, l3, eth);
}

/**
 * vx_eth_parse() - Find the headers of a frame
 * @frame:	Ethernet header, without preamble and FCS
 * @len:	Length of the frame
 * @eth:	Filled in; offsets in it are inside the frame
 *
 * Return: VX_OK, VX_HDR_TRUNC, VX_VLAN
 */
enum vx_reason vx_eth_parse(const uint8_t *frame, uint32_t len, struct vx_eth *eth)
{
	*eth = (struct vx_eth){ 0 };
	if (len < VX_ETH_LEN)
		return VX_HDR_TRUNC;

	eth->group = vx_mac_is_group(frame);
	eth->type = vx_get16(frame + 12);
	return is_tag(eth->type) ? parse_tagged(frame, len, eth) : parse_l3(frame, len, VX_ETH_LEN, eth);
}

static uint64_t mix(uint64_t hash, uint64_t word)
{
	hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
	return hash ^ hash >> 29;
}

/**
 * vx_eth_hash() - Hash one direction of the inner flow
 * @frame:	Frame
 * @eth:	Its headers
 *
 * Protocol and ports count only where every fragment of a datagram would give the same ones, that is without
 * fragmentation: otherwise its fragments would take different paths and overtake each other (the kernel's flow
 * dissector stops at fragments likewise). In IPv6 the protocol too: only the first fragment shows what is behind
 * the extension headers that were fragmented.
 */
uint32_t vx_eth_hash(const uint8_t *frame, const struct vx_eth *eth)
{
	const uint8_t *ip = frame + eth->l3;
	uint64_t hash = mix(0, eth->type);

	if (eth->version == 4) {
		hash = mix(hash, (uint64_t)vx_get32(ip + 12) << 32 | vx_get32(ip + 16));
	} else if (eth->version == 6) {
		for (unsigned i = 8; i < IPV6_LEN; i += 8)
			hash = mix(hash, (uint64_t)vx_get32(ip + i) << 32 | vx_get32(ip + i + 4));
	} else {
		hash = mix(hash, vx_mac(frame));
		return (uint32_t)(mix(hash, vx_mac(frame + VX_MAC_LEN)) >> 32);
	}
	if (eth->fragment)
		return (uint32_t)(hash >> 32);
	hash = mix(hash, eth->protocol);
	if (eth->l4 && eth->l4 + 4u <= eth->end &&
	    (eth->protocol == VX_PROTO_TCP || eth->protocol == VX_PROTO_UDP))
		hash = mix(hash, vx_get32(frame + eth->l4));
	return (uint32_t)(hash >> 32);
}

/**
 * vx_eth_flow() - One number for both directions of the inner flow: picks worker and outer source port
 * @frame:	Frame
 * @eth:	Its headers
 *
 * The kernel reckons the same from the frames of a TAP (steer.c), so it is no more than a program without loops can
 * do: ports count only where they follow the IP header at once, and, as above, not in fragments.
 */
uint32_t vx_eth_flow(const uint8_t *frame, const struct vx_eth *eth)
{
	const uint8_t *ip = frame + eth->l3;
	bool ports = eth->plain || ((eth->protocol == VX_PROTO_TCP || eth->protocol == VX_PROTO_UDP) && eth->l4 &&
				    eth->l4 + 4u <= eth->end && !eth->fragment);
	uint32_t flow = 0;

	if (eth->version == 4) {
		flow = vx_get32(ip + 12) ^ vx_get32(ip + 16);
	} else if (eth->version == 6) {
		for (unsigned i = 8; i < IPV6_LEN; i += 4)
			flow ^= vx_get32(ip + i);
		ports = ports && eth->l4 == eth->l3 + IPV6_LEN;
	} else {
		flow = vx_get32(frame + 2) ^ vx_get32(frame + VX_MAC_LEN + 2);
	}
	if (ports)
		flow ^= (uint32_t)vx_get16(frame + eth->l4) ^ vx_get16(frame + eth->l4 + 2);
	return flow * VX_FLOW_FACTOR;
}
