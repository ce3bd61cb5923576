/* fuzz_gso.c - the segmenter on arbitrary virtio headers and frames
 *
 * Input: how to treat it (1 byte), virtio header (10, little-endian), frame. What vx_gso_check() lets through is cut,
 * and each segment has to be a packet that agrees with itself: parsed whole, with right lengths and checksums, and
 * the slices together the payload. With PLAUSIBLE the virtio header, with FIT the lengths are set right first, so that
 * the fuzzer need not guess them. (Not both in one: what is left wrong is to be found out.)
 */
#include <stdlib.h>

#include "csum.h"
#include "eth.h"
#include "gso.h"

#define PLAUSIBLE	1
#define FIT		2
#define INPUT_HEAD	11
#define LOOKED_AT	24	/* segments at each end of a super-frame that are looked at: all would be slow */

#define MUST(condition) \
	do { \
		if (!(condition)) \
			abort(); \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint16_t little(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

/** make_plausible() - Let the virtio header name what the frame is */
static void make_plausible(struct vx_frame *frame)
{
	const struct vx_eth *eth = &frame->eth;
	bool tcp = eth->protocol == VX_PROTO_TCP;

	frame->vnet.flags = VX_VNET_NEEDS_CSUM;
	frame->vnet.gso_type = tcp ? (eth->version == 4 ? VX_GSO_TCPV4 : VX_GSO_TCPV6) : VX_GSO_UDP_L4;
	frame->vnet.csum_start = eth->l4;
	frame->vnet.csum_offset = tcp ? 16 : 6;
}

/** make_fit() - Let lengths and the partial checksum be what they should. Return: whether there are any */
static bool make_fit(struct vx_frame *frame)
{
	const struct vx_eth *eth = &frame->eth;
	uint8_t *ip = frame->data + eth->l3, *l4 = frame->data + eth->l4;
	uint32_t len = eth->end - eth->l4;
	uint16_t offset;

	if (!vx_csum_place(eth, &offset))
		return false;
	frame->len = eth->end;
	if (eth->protocol == VX_PROTO_UDP)
		vx_put16(l4 + 4, (uint16_t)len);
	vx_put16(l4 + offset, vx_csum_fold(vx_csum_pseudo(ip, eth->version, eth->protocol, len)));
	return true;
}

/** look_at() - Cut one segment and hold it to itself; @fit: its checksum is to be right too */
static void look_at(const struct vx_gso *gso, uint32_t segment, bool fit)
{
	uint8_t *frame = malloc(gso->headers + (size_t)gso->size), *headers = malloc(gso->headers);
	const uint8_t *payload = NULL;
	uint32_t slice;
	struct vx_eth eth;

	MUST(frame && headers);
	slice = vx_gso_cut(gso, segment, headers, &payload);
	MUST(slice > 0 && slice == vx_gso_payload(gso, segment));
	MUST(segment + 1 == gso->segments || slice == gso->size);
	MUST(payload == gso->data + gso->headers + segment * gso->size);
	MUST(vx_gso_copy(gso, segment, frame) == gso->headers + slice);
	MUST(!memcmp(frame, headers, gso->headers) && !memcmp(frame + gso->headers, payload, slice));

	MUST(vx_eth_parse(frame, gso->headers + slice, &eth) == VX_OK);
	MUST(eth.end == gso->headers + slice && eth.l3 == gso->l3 && eth.l4 == gso->l4);
	MUST(eth.protocol == (gso->tcp ? VX_PROTO_TCP : VX_PROTO_UDP));
	if (gso->ipv4)
		MUST(vx_csum_fold(vx_csum_add(frame + eth.l3, (uint32_t)eth.l4 - eth.l3, 0)) == 0xffff);
	if (!gso->tcp)
		MUST(vx_get16(frame + eth.l4 + 4) == eth.end - eth.l4 && vx_get16(frame + eth.l4 + 6));
	if (fit)
		MUST(vx_csum_valid(frame, &eth));
	free(frame);
	free(headers);
}

static void cut(const struct vx_frame *frame, bool fit)
{
	uint32_t payload = 0;
	struct vx_gso gso;

	MUST(frame->segments > 1 && frame->segments <= VX_SEGMENTS_MAX);
	vx_gso_begin(&gso, frame);
	for (uint32_t i = 0; i < gso.segments; i++) {
		payload += vx_gso_payload(&gso, i);
		if (i < LOOKED_AT || i + LOOKED_AT >= gso.segments)
			look_at(&gso, i, fit);
	}
	MUST(payload == gso.payload && gso.headers + payload == frame->len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vx_frame frame = { .from = VX_AT_PORT };
	uint8_t *before;
	bool fit;

	if (size < INPUT_HEAD || size > VX_FRAME_MAX)
		return 0;
	frame.vnet = (struct vx_vnet){
		data[1], data[2], little(data + 3), little(data + 5), little(data + 7), little(data + 9),
	};
	frame.len = (uint32_t)size - INPUT_HEAD;
	frame.data = malloc(frame.len ? frame.len : 1);
	before = malloc(frame.len ? frame.len : 1);
	MUST(frame.data && before);
	memcpy(frame.data, data + INPUT_HEAD, frame.len);

	if (vx_eth_parse(frame.data, frame.len, &frame.eth) == VX_OK) {
		if (data[0] & PLAUSIBLE)
			make_plausible(&frame);
		fit = (data[0] & FIT) && make_fit(&frame);
		memcpy(before, frame.data, frame.len);
		if (vx_gso_check(&frame) == VX_OK && frame.vnet.gso_type != VX_GSO_NONE)
			cut(&frame, fit);
		MUST(!memcmp(before, frame.data, frame.len));
	}
	free(before);
	free(frame.data);
	return 0;
}
