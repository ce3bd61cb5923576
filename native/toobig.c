/* toobig.c - what to do about a packet that does not fit its path
 *
 * How it works
 *   A router in our place would do one of two things, and so do we, since the sender believes that its link
 *   carries what it sent: tell the sender (IPv4 with DF, IPv6), or fragment (IPv4 without DF). "MTU" in this file
 *   is the largest inner IP packet that the path takes.
 *
 *   The answer is the ICMP error that the kernel's tunnels make (iptunnel_pmtud_build_icmp(), ..._icmpv6()): from
 *   the address and MAC that the packet was going to, so that it passes as coming from the other end, and quoting
 *   as much as the RFCs allow. Nobody is told about errors, or who cannot be told: RFC 1122 section 3.2.2, RFC 4443
 *   section 2.4 (e). IPv6 below 1280 bytes is not told either, for RFC 8201 makes hosts ignore it.
 *
 *   Fragments are made one per call, copies of the Ethernet header included. The first keeps all IPv4 options, the
 *   others those with the copy flag (RFC 791 section 3.1); a packet that is a fragment is fragmented further. What
 *   is under the transport checksum does not change, so that has to be finished before. The header checksum is
 *   made anew, which must not hide that it was wrong: then the packet is not fragmented.
 *
 * Pure: no system call, no global, no allocation. Who is told how often: switch.c. Who sends fragments: deliver.c.
 */
#include "toobig.h"

#include "csum.h"
#include "eth.h"

#define IPV4_LEN	20
#define IPV4_LEN_MAX	60
#define IPV6_LEN	40
#define ICMP_LEN	8
#define HOP_LIMIT	64

#define RESERVED	0x8000	/* the word of IPv4 that holds flags and offset */
#define DF		0x4000
#define MF		0x2000
#define OFFSET		0x1fff

#define PROTO_ICMP	1
#define UNREACHABLE	3	/* ICMP type, with code 4 */
#define FRAG_NEEDED	4
#define PACKET_TOO_BIG	2	/* ICMPv6 type */
#define ICMP6_INFORMATION 128	/* types below are errors */
#define ICMP6_REDIRECT	137

#define IPV6_MTU_MIN	1280	/* RFC 8200 section 5 */
#define QUOTE4		(576 - IPV4_LEN - ICMP_LEN)	/* RFC 1812 section 4.3.2.3 */
#define QUOTE6		(IPV6_MTU_MIN - IPV6_LEN - ICMP_LEN)	/* RFC 4443 section 3.2 */

#define OPTION_END	0
#define OPTION_NOP	1
#define OPTION_COPIED	0x80

static_assert(VX_ETH_LEN + 2 * VX_VLAN_LEN + IPV6_MTU_MIN <= VX_SPARE_LEN, "the longest answer fits the spare");

static bool is_icmp_error(uint8_t type)
{
	return type == UNREACHABLE || type == 4 /* source quench */ || type == 5 /* redirect */ ||
	       type == 11 /* time exceeded */ || type == 12 /* parameter problem */;
}

/** is_one_host4() - Whether an IPv4 address is that of one host: not 0/8, loopback, multicast or broadcast */
static bool is_one_host4(const uint8_t *address)
{
	return address[0] != 0 && address[0] != 127 && address[0] < 224;
}

static bool is_one_host6(const uint8_t *address)
{
	static const uint8_t unspecified[VX_ADDR_LEN], loopback[VX_ADDR_LEN] = { [15] = 1 };

	return address[0] != 0xff && memcmp(address, unspecified, VX_ADDR_LEN) &&
	       memcmp(address, loopback, VX_ADDR_LEN);
}

/**
 * vx_toobig_may_answer() - Whether the sender of a packet that is too big is to be told
 * @frame:	Frame with its headers; of a fragmented packet only the first fragment is answered
 * @mtu:	Largest inner packet that fits
 */
bool vx_toobig_may_answer(const struct vx_frame *frame, uint32_t mtu)
{
	const struct vx_eth *eth = &frame->eth;
	const uint8_t *ip = frame->data + eth->l3;
	uint8_t type;

	if (!eth->version || !eth->l4 || eth->group)
		return false;
	type = frame->data[eth->l4];
	if (eth->version == 4)
		return (vx_get16(ip + 6) & DF) && is_one_host4(ip + 12) && is_one_host4(ip + 16) &&
		       !(eth->protocol == PROTO_ICMP && is_icmp_error(type));
	return mtu >= IPV6_MTU_MIN && is_one_host6(ip + 8) && is_one_host6(ip + 24) &&
	       !(eth->protocol == VX_PROTO_ICMPV6 && (type < ICMP6_INFORMATION || type == ICMP6_REDIRECT));
}

/** answer4() - "Fragmentation needed" in reply to the packet @ip of @total bytes. Return: its length */
static uint32_t answer4(const uint8_t *ip, uint32_t total, uint32_t mtu, uint8_t *out)
{
	uint32_t quoted = total < QUOTE4 ? total : QUOTE4, len = IPV4_LEN + ICMP_LEN + quoted;
	uint8_t *icmp = out + IPV4_LEN;

	memset(out, 0, IPV4_LEN + ICMP_LEN);
	out[0] = 0x45;
	vx_put16(out + 2, (uint16_t)len);
	vx_put16(out + 6, DF);
	out[8] = HOP_LIMIT;
	out[9] = PROTO_ICMP;
	memcpy(out + 12, ip + 16, 4);
	memcpy(out + 16, ip + 12, 4);
	vx_put16(out + 10, (uint16_t)~vx_csum_fold(vx_csum_add(out, IPV4_LEN, 0)));

	icmp[0] = UNREACHABLE;
	icmp[1] = FRAG_NEEDED;
	vx_put16(icmp + 6, (uint16_t)mtu);
	memcpy(icmp + ICMP_LEN, ip, quoted);
	vx_put16(icmp + 2, (uint16_t)~vx_csum_fold(vx_csum_add(icmp, ICMP_LEN + quoted, 0)));
	return len;
}

/** answer6() - "Packet too big" in reply to the packet @ip of @total bytes. Return: its length */
static uint32_t answer6(const uint8_t *ip, uint32_t total, uint32_t mtu, uint8_t *out)
{
	uint32_t quoted = total < QUOTE6 ? total : QUOTE6, len = ICMP_LEN + quoted;
	uint8_t *icmp = out + IPV6_LEN;
	uint32_t sum;

	memset(out, 0, IPV6_LEN + ICMP_LEN);
	vx_put32(out, 6u << 28);
	vx_put16(out + 4, (uint16_t)len);
	out[6] = VX_PROTO_ICMPV6;
	out[7] = HOP_LIMIT;
	memcpy(out + 8, ip + 24, VX_ADDR_LEN);
	memcpy(out + 24, ip + 8, VX_ADDR_LEN);

	icmp[0] = PACKET_TOO_BIG;
	vx_put32(icmp + 4, mtu);
	memcpy(icmp + ICMP_LEN, ip, quoted);
	sum = vx_csum_pseudo(out, 6, VX_PROTO_ICMPV6, len);
	vx_put16(icmp + 2, (uint16_t)~vx_csum_fold(vx_csum_add(icmp, len, sum)));
	return IPV6_LEN + len;
}

/**
 * vx_toobig_answer() - Make the ICMP error for the sender of a packet
 * @frame:	Frame for which vx_toobig_may_answer() is true
 * @mtu:	Largest inner packet that fits
 * @out:	VX_SPARE_LEN bytes for the frame that goes back to the sender; not the frame's own
 *
 * Return: its length
 */
uint32_t vx_toobig_answer(const struct vx_frame *frame, uint32_t mtu, uint8_t *out)
{
	const struct vx_eth *eth = &frame->eth;
	const uint8_t *ip = frame->data + eth->l3;
	uint32_t total = eth->end - eth->l3;

	memcpy(out, frame->data + VX_MAC_LEN, VX_MAC_LEN);
	memcpy(out + VX_MAC_LEN, frame->data, VX_MAC_LEN);
	memcpy(out + 2 * VX_MAC_LEN, frame->data + 2 * VX_MAC_LEN, eth->l3 - 2u * VX_MAC_LEN);
	return eth->l3 + (eth->version == 4 ? answer4 : answer6)(ip, total, mtu, out + eth->l3);
}

/** vx_toobig_may_fragment() - Whether a packet that is too big may be fragmented to packets of @mtu bytes */
bool vx_toobig_may_fragment(const struct vx_frame *frame, uint32_t mtu)
{
	const uint8_t *ip = frame->data + frame->eth.l3;
	uint32_t header, payload, field;

	if (frame->eth.version != 4)
		return false;
	header = (uint32_t)(ip[0] & 15) * 4;
	payload = vx_get16(ip + 2) - header;
	field = vx_get16(ip + 6);
	return !(field & DF) && mtu >= IPV4_LEN_MAX + 8 && (field & OFFSET) * 8 + payload <= 0xffff - header &&
	       vx_csum_fold(vx_csum_add(ip, header, 0)) == 0xffff;
}

/** put_copied_options() - Write the options that every fragment carries, padded. Return: their length */
static uint32_t put_copied_options(uint8_t *out, const uint8_t *options, uint32_t left)
{
	uint32_t len = 0;

	while (left && options[0] != OPTION_END) {
		uint32_t own = options[0] == OPTION_NOP ? 1 : left >= 2 ? options[1] : 0;

		if (!own || own > left || (own == 1 && options[0] != OPTION_NOP))
			break;		/* malformed: whoever reads options will not get this far either */
		if (options[0] & OPTION_COPIED) {
			memcpy(out + len, options, own);
			len += own;
		}
		options += own;
		left -= own;
	}
	while (len % 4)
		out[len++] = OPTION_END;
	return len;
}

/**
 * vx_toobig_fragment() - Make the next fragment
 * @frame:	Frame for which vx_toobig_may_fragment() is true, its transport checksum finished. Only its bytes and
 *		where its IP header begins are looked at, so that a caller may make one from a segment it has cut
 * @mtu:	Largest inner packet that fits: what vx_toobig_may_fragment() was asked
 * @next:	0 to begin with; kept by the caller between the calls for one packet
 * @out:	At least eth.l3 + @mtu bytes, not the frame's own
 *
 * Return: length of the frame in @out, 0 when all have been made
 */
uint32_t vx_toobig_fragment(const struct vx_frame *frame, uint32_t mtu, uint32_t *next, uint8_t *out)
{
	uint32_t l3 = frame->eth.l3, at = *next, own = IPV4_LEN, size;
	const uint8_t *ip = frame->data + l3;
	uint32_t header = (uint32_t)(ip[0] & 15) * 4, left = vx_get16(ip + 2) - header;
	uint16_t field = vx_get16(ip + 6);

	if (at >= left)
		return 0;
	left -= at;
	memcpy(out, frame->data, l3 + (at ? IPV4_LEN : header));
	out += l3;
	own += at ? put_copied_options(out + IPV4_LEN, ip + IPV4_LEN, header - IPV4_LEN) : header - IPV4_LEN;
	size = (mtu - own) & ~7u;
	if (left <= mtu - own)
		size = left;
	memcpy(out + own, ip + header + at, size);

	out[0] = (uint8_t)(0x40 | own / 4);
	vx_put16(out + 2, (uint16_t)(own + size));
	vx_put16(out + 6, (uint16_t)((field & (RESERVED | MF)) | (size < left ? MF : 0) | ((field & OFFSET) + at / 8)));
	vx_put16(out + 10, 0);
	vx_put16(out + 10, (uint16_t)~vx_csum_fold(vx_csum_add(out, own, 0)));
	*next = at + size;
	return l3 + own + size;
}
