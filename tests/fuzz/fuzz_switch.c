/* fuzz_switch.c - the whole decision, both ingress kinds, over tables that the input changes
 *
 * Input: one byte of ways (below), one of table operations, three that steer them, ten of virtio header, then a
 * frame (from a TAP) or a datagram (from the tunnel). Buffers have exactly the room that the contract promises,
 * so a byte too far is the sanitizer's. Afterwards the verdict must be one that the worker can act on.
 */
#include "check.h"
#include "eth.h"
#include "nd.h"
#include "scene.h"
#include "vxlan.h"

#define STEER		15
#define WAY_TUNNEL	1	/* else from port A */
#define WAY_HEADER	2	/* put a valid VXLAN header in front */
#define WAY_SOURCE	4	/* put a MAC there that may send */
#define WAY_TARGET	8	/* to a known MAC */
#define WAY_VNET	16	/* use the virtio header */
#define WAY_FOREIGN	32	/* from the foreign VTEP, else the member */
#define WAY_CHECKSUMS	64	/* the peer is on this kernel */
#define WAY_BATCH	128	/* the same frame twice in one vector */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct scene *scene;

/** change_tables() - One operation of the writer, as the input asks */
static void change_tables(const uint8_t *steer)
{
	uint8_t address[VX_ADDR_LEN];
	uint64_t mac = 0x020000000000u | steer[1];
	struct vx_place place = { steer[2] % 4, steer[3] % 5u };

	address4(address, steer[2]);
	switch (steer[0] % 8) {
	case 0:
		vx_fdb_record(scene->network, mac, place);
		break;
	case 1:
		vx_fdb_erase(scene->network, mac);
		break;
	case 2:
		vx_nbr_record(scene->network, address, mac, steer[3]);
		break;
	case 3:
		vx_nbr_erase(scene->network, address);
		break;
	case 4:
		scene->network->flags = steer[1] & VX_NETWORK_VLAN_PASS;
		break;
	case 5:
		scene->now_ns += (uint64_t)steer[1] << 28;
		vx_soft_sweep(&scene->network->soft, scene->now_ns / 1000000, vx_net_soft_count, scene->tables);
		break;
	case 6:
		vx_net_port(scene->tables, (uint32_t)scene->a)->flags = steer[1] & 3;
		break;
	default:
		break;
	}
	vx_qsbr_collect(&scene->tables->qsbr);
}

/** make_frame() - A frame in a buffer of exactly its length, and with a spare */
static uint8_t *make_frame(struct vx_frame *frame, uint8_t ways, const uint8_t *vnet, const uint8_t *bytes,
			   uint32_t len)
{
	static const uint64_t senders[2] = { MAC_A, MAC_FAR };
	uint32_t tunnel = ways & WAY_TUNNEL, before = tunnel && (ways & WAY_HEADER) ? VX_VXLAN_LEN : 0;
	uint8_t *buffer = malloc(VX_HEADROOM + before + len), *inner = buffer + VX_HEADROOM + before;
	int outer;

	memset(buffer, 0, VX_HEADROOM);
	memcpy(inner, bytes, len);
	if (before)
		vx_vxlan_put(inner - before, VNI);
	if ((ways & WAY_SOURCE) && len >= VX_ETH_LEN)
		vx_mac_put(inner + 6, senders[tunnel]);
	if ((ways & WAY_TARGET) && len >= VX_ETH_LEN)
		vx_mac_put(inner, senders[!tunnel]);
	*frame = (struct vx_frame){
		.data = buffer + VX_HEADROOM, .len = len + before, .outer_tos = vnet[9],
		.spare = (uint8_t *)malloc(VX_HEADROOM + VX_SPARE_LEN) + VX_HEADROOM,
		.from = tunnel ? VX_AT_VTEP : VX_AT_PORT, .from_id = tunnel ? VX_NONE : (uint32_t)scene->a,
	};
	if (ways & WAY_VNET)
		memcpy(&frame->vnet, vnet, sizeof(frame->vnet));
	outer = ways & WAY_FOREIGN ? scene->foreign : scene->member;
	memcpy(frame->outer, vx_net_vtep(scene->tables, (uint32_t)outer)->address, VX_ADDR_LEN);
	return buffer;
}

/** judge() - What the worker relies on */
static void judge(const struct vx_frame *frame, const uint8_t *buffer, uint32_t len)
{
	bool spared = frame->data == frame->spare;

	CHECK(frame->reason < VX_REASON_COUNT);
	CHECK(frame->act <= VX_ACT_ABSORB);
	CHECK((frame->reason != VX_OK) == (frame->act == VX_ACT_DROP));
	CHECK(!spared || (frame->act == VX_ACT_REPLY && frame->len <= VX_SPARE_LEN));
	CHECK(spared || (frame->data >= buffer + VX_HEADROOM &&
			  frame->data + frame->len <= buffer + VX_HEADROOM + len));
	if (frame->reason)
		return;
	CHECK(frame->network == scene->network);
	CHECK(frame->from == VX_AT_PORT || frame->from_id != VX_NONE);
	if (frame->act == VX_ACT_PORT)
		CHECK(frame->target != VX_NONE && vx_net_port(scene->tables, frame->target));
	if (frame->act == VX_ACT_VTEP) {
		CHECK(frame->from == VX_AT_PORT && vx_net_vtep(scene->tables, frame->target));
		CHECK(!(frame->vnet.flags & VX_VNET_NEEDS_CSUM) && !frame->vnet.gso_type);
		EQUAL(vx_get32(frame->data - 8), 0x08000000);
	}
	if (frame->act == VX_ACT_FLOOD) {
		CHECK(frame->copies && frame->scope);
		CHECK(frame->from == VX_AT_PORT || frame->scope == VX_TO_LOCAL);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vx_frame frames[2];
	uint8_t *buffers[2];
	unsigned count;

	if (size < STEER || size > VX_FRAME_MAX)
		return 0;
	if (!scene)
		scene = scene_new(true);
	scene->now_ns += 1000000;
	change_tables(data + 1);
	scene->tables->same_kernel = data[0] & WAY_CHECKSUMS;
	count = data[0] & WAY_BATCH ? 2 : 1;
	for (unsigned i = 0; i < count; i++)
		buffers[i] = make_frame(&frames[i], data[0], data + 5, data + STEER, (uint32_t)size - STEER);
	vx_switch(scene->tables, frames, count, (struct vx_when){ .now_ns = scene->now_ns });
	for (unsigned i = 0; i < count; i++) {
		bool header = (data[0] & WAY_TUNNEL) && (data[0] & WAY_HEADER);
		uint32_t len = (uint32_t)size - STEER + (header ? VX_VXLAN_LEN : 0);

		judge(&frames[i], buffers[i], len);
		free(buffers[i]);
		free(frames[i].spare - VX_HEADROOM);
	}
	return 0;
}
