/* head_super.c - the outer headers of a super-frame as a program, for test_inject_scapy.py
 *
 * Input: source and target address (16 bytes each), source port, target port, identification (two bytes each,
 * big-endian), TOS, TTL, the outer Ethernet header; then the virtio header of 10 bytes as a TAP gives it, and the
 * frame. Output: what is written to the uplink TAP before the VXLAN header. Exits with the drop reason where there is
 * no super-frame.
 */
#include <stdio.h>

#include "eth.h"
#include "inject.h"

#define VNET_LEN	10
#define OUTER_LEN	(2 * VX_ADDR_LEN + 8 + VX_ETH_LEN)

static uint8_t input[OUTER_LEN + VNET_LEN + VX_FRAME_MAX];

static uint16_t little(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

int main(void)
{
	size_t size = fread(input, 1, sizeof(input), stdin);
	const uint8_t *numbers = input + 2 * VX_ADDR_LEN, *vnet = input + OUTER_LEN;
	struct vx_frame frame = { .data = input + OUTER_LEN + VNET_LEN };
	struct vx_outer outer = {
		.source = input,
		.target = input + VX_ADDR_LEN,
		.source_port = vx_get16(numbers),
		.target_port = vx_get16(numbers + 2),
		.id = vx_get16(numbers + 4),
		.tos = numbers[6],
		.ttl = numbers[7],
		.ethernet = numbers + 8,
	};
	uint8_t head[VX_INJECT_HEAD];
	enum vx_reason reason;
	struct vx_gso gso;
	uint32_t len;

	frame.len = (uint32_t)(size - OUTER_LEN - VNET_LEN);
	frame.vnet = (struct vx_vnet){
		vnet[0], vnet[1], little(vnet + 2), little(vnet + 4), little(vnet + 6), little(vnet + 8),
	};
	reason = vx_eth_parse(frame.data, frame.len, &frame.eth);
	if (!reason)
		reason = vx_gso_check(&frame);
	if (reason)
		return (int)reason;
	vx_gso_begin(&gso, &frame);
	len = vx_inject_head(&gso, &outer, head);
	return fwrite(head, 1, len, stdout) == len ? 0 : 100;
}
