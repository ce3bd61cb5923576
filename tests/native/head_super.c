/* head_super.c - the outer headers of a super-frame as a program, for test_inject_scapy.py
 *
 * Input: source and target address (16 bytes each), source port, target port, identification (two bytes each,
 * big-endian), TOS, TTL, the outer Ethernet header; then the virtio header of 10 bytes as a TAP gives it, and the
 * frame. Output: what is written to the uplink TAP before the VXLAN header. Exits with the drop reason where there is
 * no super-frame.
 */
#include <stdio.h>

#include "inject.h"
#include "super_frame.h"

#define OUTER_LEN	(2 * VX_ADDR_LEN + 8 + VX_ETH_LEN)

static uint8_t input[OUTER_LEN + VNET_LEN + VX_FRAME_MAX];

int main(void)
{
	size_t size = fread(input, 1, sizeof(input), stdin);
	const uint8_t *numbers = input + 2 * VX_ADDR_LEN;
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
	struct vx_frame frame;
	struct vx_gso gso;
	uint32_t len;

	reason = super_frame(input + OUTER_LEN, size - OUTER_LEN, &frame, &gso);
	if (reason)
		return (int)reason;
	len = vx_inject_head(&gso, &outer, head);
	return fwrite(head, 1, len, stdout) == len ? 0 : 100;
}
