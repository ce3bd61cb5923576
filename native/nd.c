/* nd.c - neighbour discovery for IPv6 (RFC 4861): read a message, turn a solicitation into its answer
 *
 * How it works
 *   Solicitations and advertisements are validated as RFC 4861 sections 7.1.1 and 7.1.2 say; what a receiver
 *   would ignore anyway is not worth carrying, so it is dropped here as hdr_trunc (form) or csum.
 *   The answer to duplicate address detection (a solicitation from ::) goes to all nodes and without the S flag;
 *   the kernel's vxlan helper does not treat that case.
 *
 * Pure: no system call, no global, no allocation. Who is asked for, and whether to answer, is proxy.c's.
 */
#include "nd.h"

#include "csum.h"
#include "eth.h"

#define IPV6_LEN	40
#define MESSAGE_LEN	24	/* NS and NA up to the options */
#define ANSWER_LEN	32	/* NA with the target link-layer option */
#define OPT_SOURCE	1
#define OPT_TARGET	2
#define FLAG_ROUTER	0x80
#define FLAG_SOLICITED	0x40
#define FLAG_OVERRIDE	0x20
#define HOP_LIMIT	255

static const uint8_t unspecified[VX_ADDR_LEN];

/** parse_options() - Find the link-layer address; every option has a length and all fit exactly
 *
 * A second one is refused: of two, stacks differ in which they believe, and the guards would judge the other.
 */
static enum vx_reason parse_options(const uint8_t *options, uint32_t left, uint8_t wanted, struct vx_nd *nd)
{
	bool found = false;

	nd->link_address = 0;
	while (left) {
		uint32_t len = left >= 2 ? options[1] * 8u : 0;

		if (!len || len > left || (found && options[0] == wanted))
			return VX_HDR_TRUNC;
		if (options[0] == wanted) {
			found = true;
			nd->link_address = len == 8 ? vx_mac(options + 2) : 0;
		}
		options += len;
		left -= len;
	}
	return VX_OK;
}

/**
 * vx_nd_parse() - Read a solicitation or advertisement
 * @frame:	Frame for which vx_nd_type() said VX_ND_SOLICIT or VX_ND_ADVERT
 * @eth:	Its headers
 * @nd:		Filled in
 *
 * Return: VX_OK, VX_HDR_TRUNC for a message that RFC 4861 tells receivers to ignore, VX_CSUM
 */
enum vx_reason vx_nd_parse(const uint8_t *frame, const struct vx_eth *eth, struct vx_nd *nd)
{
	const uint8_t *ip = frame + eth->l3, *icmp = frame + eth->l4;
	uint32_t len = eth->end - eth->l4;
	enum vx_reason reason;

	if (len < MESSAGE_LEN || ip[7] != HOP_LIMIT || icmp[1] != 0 || icmp[8] == 0xff || eth->fragment)
		return VX_HDR_TRUNC;
	if (!vx_csum_valid(frame, eth))
		return VX_CSUM;

	nd->type = icmp[0];
	nd->dad = nd->type == VX_ND_SOLICIT && memcmp(ip + 8, unspecified, VX_ADDR_LEN) == 0;
	nd->solicited = nd->type == VX_ND_ADVERT && (icmp[4] & FLAG_SOLICITED);
	memcpy(nd->target, icmp + 8, VX_ADDR_LEN);
	reason = parse_options(icmp + MESSAGE_LEN, len - MESSAGE_LEN,
			       nd->type == VX_ND_SOLICIT ? OPT_SOURCE : OPT_TARGET, nd);
	if (!reason && nd->dad && nd->link_address)
		return VX_HDR_TRUNC;
	return reason;
}

/**
 * vx_nd_answer() - Turn a solicitation into the advertisement that answers it, in place
 * @frame:	Solicitation that vx_nd_parse() accepted; VX_ND_ANSWER_LEN bytes are writable
 * @eth:	Its headers; those of the answer when done
 * @mac:	MAC of the address asked for
 * @router:	Whether that neighbour is a router
 *
 * Return: length of the answer
 */
uint32_t vx_nd_answer(uint8_t *frame, const struct vx_eth *eth, uint64_t mac, bool router)
{
	static const uint8_t all_nodes[VX_ADDR_LEN] = { 0xff, 2, [15] = 1 };
	static const uint8_t all_nodes_mac[VX_MAC_LEN] = { 0x33, 0x33, 0, 0, 0, 1 };
	uint8_t *ip = frame + eth->l3, *icmp = ip + IPV6_LEN;
	bool dad = memcmp(ip + 8, unspecified, VX_ADDR_LEN) == 0;
	uint8_t target[VX_ADDR_LEN];
	uint32_t sum;

	memcpy(target, frame + eth->l4 + 8, VX_ADDR_LEN);
	memcpy(frame, dad ? all_nodes_mac : frame + VX_MAC_LEN, VX_MAC_LEN);
	vx_mac_put(frame + VX_MAC_LEN, mac);

	memcpy(ip + 24, dad ? all_nodes : ip + 8, VX_ADDR_LEN);
	memcpy(ip + 8, target, VX_ADDR_LEN);
	vx_put32(ip, 6u << 28);
	vx_put16(ip + 4, ANSWER_LEN);
	ip[6] = VX_PROTO_ICMPV6;
	ip[7] = HOP_LIMIT;

	memset(icmp, 0, ANSWER_LEN);
	icmp[0] = VX_ND_ADVERT;
	icmp[4] = (uint8_t)(FLAG_OVERRIDE | (dad ? 0 : FLAG_SOLICITED) | (router ? FLAG_ROUTER : 0));
	memcpy(icmp + 8, target, VX_ADDR_LEN);
	icmp[MESSAGE_LEN] = OPT_TARGET;
	icmp[MESSAGE_LEN + 1] = 1;
	vx_mac_put(icmp + MESSAGE_LEN + 2, mac);
	sum = vx_csum_pseudo(ip, 6, VX_PROTO_ICMPV6, ANSWER_LEN);
	vx_put16(icmp + 2, (uint16_t)~vx_csum_fold(vx_csum_add(icmp, ANSWER_LEN, sum)));
	return eth->l3 + (uint32_t)(IPV6_LEN + ANSWER_LEN);
}
