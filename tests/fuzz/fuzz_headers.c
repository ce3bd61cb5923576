/* fuzz_headers.c - vxlan, eth, ecn, csum on arbitrary bytes; every offset they give must be inside the frame */
#include <stdlib.h>

#include "csum.h"
#include "ecn.h"
#include "eth.h"
#include "nd.h"
#include "vxlan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint32_t len = (uint32_t)size, vni;
	uint8_t *frame;
	struct vx_eth eth;
	struct vx_vnet vnet;
	uint16_t offset;
	bool reserved;

	if (size < 10 || size > VX_FRAME_MAX)
		return 0;
	vx_vxlan_parse(data, len, &vni, &reserved);
	memcpy(&vnet, data, sizeof(vnet));
	len -= 10;
	frame = malloc(len ? len : 1);
	memcpy(frame, data + 10, len);
	if (vx_eth_parse(frame, len, &eth) == VX_OK) {
		if (eth.end > len || eth.l3 > eth.end || (eth.l4 && eth.l4 >= eth.end))
			abort();
		vx_eth_hash(frame, &eth);
		vx_nd_type(frame, &eth);
		if (vx_csum_inspect(frame, &eth) == VX_CSUM_PARTIAL) {
			vx_csum_place(&eth, &offset);
			vnet = (struct vx_vnet){ .csum_start = eth.l4, .csum_offset = offset };
			if (!vx_csum_complete(frame, eth.end, &vnet))
				abort();
			if (!vx_csum_valid(frame, &eth))
				abort();
		}
		vx_ecn_decapsulate(frame, &eth, data[0]);
		vx_csum_complete(frame, len, &vnet);
	}
	free(frame);
	return 0;
}
