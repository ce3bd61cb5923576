/* arp.h - ARP for IPv4 over Ethernet; see arp.c */
#ifndef VX_ARP_H
#define VX_ARP_H

#include "vx.h"

#define VX_ARP_REQUEST	1
#define VX_ARP_REPLY	2

/** struct vx_arp - What an ARP frame says; addresses in the 16-byte form */
struct vx_arp {
	uint16_t op;
	uint64_t sender_mac;
	uint8_t sender[VX_ADDR_LEN];
	uint8_t target[VX_ADDR_LEN];
	bool probe;		/* sender address 0.0.0.0 (RFC 5227) */
	bool gratuitous;	/* sender asks for, or announces, its own address */
};

enum vx_reason vx_arp_parse(const uint8_t *frame, const struct vx_eth *eth, struct vx_arp *arp);
uint32_t vx_arp_answer(uint8_t *frame, const struct vx_eth *eth, uint64_t mac);

#endif
