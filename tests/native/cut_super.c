/* cut_super.c - the segmenter as a program, for test_gso_scapy.py: a super-frame in, the frames of a wire out
 *
 * Input: the virtio header of 10 bytes as a TAP gives it, then the frame. Output, per segment: its length in four
 * bytes, big-endian, then the segment. Exits with the drop reason where there is nothing to cut.
 */
#include <stdio.h>
#include <stdlib.h>

#include "super_frame.h"

static uint8_t input[VNET_LEN + VX_FRAME_MAX];

static void put(const void *bytes, size_t len)
{
	if (fwrite(bytes, 1, len, stdout) != len)
		exit(100);
}

int main(void)
{
	size_t size = fread(input, 1, sizeof(input), stdin);
	uint8_t headers[VX_GSO_HEADERS_MAX], length[4];
	const uint8_t *payload = NULL;
	enum vx_reason reason;
	struct vx_frame frame;
	struct vx_gso gso;

	reason = super_frame(input, size, &frame, &gso);
	if (reason)
		return (int)reason;
	for (uint32_t i = 0; i < gso.segments; i++) {
		uint32_t slice = vx_gso_cut(&gso, i, headers, &payload);

		vx_put32(length, gso.headers + slice);
		put(length, 4);
		put(headers, gso.headers);
		put(payload, slice);
	}
	return 0;
}
