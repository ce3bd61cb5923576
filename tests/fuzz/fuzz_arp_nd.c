/* fuzz_arp_nd.c - ARP and ND messages; an answer must itself be a message that parses and answers nothing else */
#include <stdlib.h>

#include "arp.h"
#include "eth.h"
#include "nd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void answer_nd(const uint8_t *frame, uint32_t len, struct vx_eth eth)
{
	uint8_t *reply = malloc(len > VX_ND_ANSWER_LEN ? len : VX_ND_ANSWER_LEN);
	struct vx_eth again;
	struct vx_nd nd;

	memcpy(reply, frame, len);
	len = vx_nd_answer(reply, &eth, 0x020000000001, true);
	if (vx_eth_parse(reply, len, &again) || vx_nd_type(reply, &again) != VX_ND_ADVERT)
		abort();
	if (vx_nd_parse(reply, &again, &nd) || nd.link_address != 0x020000000001)
		abort();
	free(reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint32_t len = (uint32_t)size;
	uint8_t *frame;
	struct vx_eth eth;
	struct vx_arp arp;
	struct vx_nd nd;
	uint8_t type;

	if (size > 2000)
		return 0;
	frame = malloc(size ? size : 1);
	memcpy(frame, data, size);
	if (vx_eth_parse(frame, len, &eth) == VX_OK) {
		type = vx_nd_type(frame, &eth);
		if ((type == VX_ND_SOLICIT || type == VX_ND_ADVERT) && !vx_nd_parse(frame, &eth, &nd) &&
		    type == VX_ND_SOLICIT)
			answer_nd(frame, len, eth);
		if (eth.type == VX_ETHERTYPE_ARP && !vx_arp_parse(frame, &eth, &arp) &&
		    vx_arp_answer(frame, &eth, 1) > len)
			abort();
	}
	free(frame);
	return 0;
}
