/* arp.c - ARP for IPv4 over Ethernet (RFC 826): read a message, turn a request into its answer
 *
 * Pure: no system call, no global, no allocation. Who is asked for, and whether to answer, is proxy.c's.
 * An ARP frame that is not Ethernet/IPv4 (other hardware or address lengths) is hdr_trunc: nothing in it can be
 * checked against what its sender may claim.
 */
#include "arp.h"

#include "eth.h"

#define ARP_LEN		28
#define HW_ETHERNET	1

/** vx_arp_parse() - Read an ARP message. Return: VX_OK or VX_HDR_TRUNC */
enum vx_reason vx_arp_parse(const uint8_t *frame, const struct vx_eth *eth, struct vx_arp *arp)
{
	static const uint8_t zero[4];
	const uint8_t *p = frame + eth->l3;

	if (eth->end < eth->l3 + (uint32_t)ARP_LEN)
		return VX_HDR_TRUNC;
	if (vx_get16(p) != HW_ETHERNET || vx_get16(p + 2) != VX_ETHERTYPE_IPV4 || p[4] != 6 || p[5] != 4)
		return VX_HDR_TRUNC;

	arp->op = vx_get16(p + 6);
	arp->sender_mac = vx_mac(p + 8);
	vx_addr_map4(arp->sender, p + 14);
	vx_addr_map4(arp->target, p + 24);
	arp->probe = memcmp(p + 14, zero, 4) == 0;
	arp->gratuitous = memcmp(p + 14, p + 24, 4) == 0;
	return VX_OK;
}

/**
 * vx_arp_answer() - Turn a request into the answer to it, in place
 * @frame:	Request that vx_arp_parse() accepted
 * @eth:	Its headers
 * @mac:	MAC of the address asked for
 *
 * Return: length of the answer
 */
uint32_t vx_arp_answer(uint8_t *frame, const struct vx_eth *eth, uint64_t mac)
{
	uint8_t *p = frame + eth->l3;
	uint8_t asked[4];

	memcpy(asked, p + 24, 4);
	memcpy(p + 18, p + 8, 10);		/* target of the answer: sender of the request */
	vx_mac_put(p + 8, mac);
	memcpy(p + 14, asked, 4);
	vx_put16(p + 6, VX_ARP_REPLY);

	memcpy(frame, p + 18, VX_MAC_LEN);
	vx_mac_put(frame + VX_MAC_LEN, mac);
	return eth->l3 + (uint32_t)ARP_LEN;
}
