/* fuzz_switch.c - the whole decision, both ingress kinds, over tables that the input changes
 *
 * Input: one byte of ways (below), one of table operations, three that steer them, ten of virtio header, then a
 * frame (from a TAP) or a datagram (from the tunnel). Buffers have exactly the room that the contract promises,
 * so a byte too far is the sanitizer's. Afterwards the verdict must be one that the worker can act on: super-frames are
 * cut, what is too large for a path is fragmented, answers are parsed.
 *
 * The tables change from input to input: port B comes and goes, VTEPs are members, foreign, or strangers, records point
 * at what is there and at what was. Port A stays. A dry run (what `vxlanu why` asks for) is judged like a real one.
 */
#include "check.h"
#include "eth.h"
#include "gso.h"
#include "nd.h"
#include "scene.h"
#include "toobig.h"
#include "vxlan.h"

#define STEER		15
#define WAY_TUNNEL	1	/* else from port A */
#define WAY_HEADER	2	/* put a valid VXLAN header in front */
#define WAY_SOURCE	4	/* put a MAC there that may send */
#define WAY_TARGET	8	/* to a known MAC */
#define WAY_VNET	16	/* use the virtio header; from the tunnel: its size is what UDP_GRO told */
#define WAY_FOREIGN	32	/* from the foreign VTEP, else the member */
#define WAY_CHECKSUMS	64	/* the peer is on this kernel */
#define WAY_BATCH	128	/* the same frame twice in one vector */
#define FROM_B		128	/* in the last byte that steers: from port B, where it is */
#define DRY		64	/* there, too: a dry run */
#define OPERATIONS	13

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct scene *scene;

/** members() - Who is a member: three bits for who, three for who gets floods, one for foreign or not */
static void members(unsigned bits)
{
	const int ids[3] = { scene->member, scene->second, scene->foreign };
	vx_member list[3];
	uint32_t count = 0;

	for (unsigned i = 0; i < 3; i++) {
		uint32_t foreign = i == 2 && (bits & 64) ? VX_MEMBER_FOREIGN : 0;

		if (bits & 1u << i)
			list[count++] = (vx_member){ (uint32_t)ids[i], foreign | (bits >> (3 + i) & 1u) };
	}
	EQUAL(vx_net_vteps(scene->tables, (uint32_t)scene->net, list, count), 0);
}

/** come_and_go() - Port B appears under a new generation, or goes while records still name it */
static void come_and_go(void)
{
	if (scene->b >= 0)
		EQUAL(vx_net_port_del(scene->tables, (uint32_t)scene->b), 0);
	scene->b = scene->b >= 0 ? -1 : scene_port(scene, MAC_B, 0x12);
}

/** allow() - What port A may send from: its own two addresses, and a prefix that may move here */
static void allow(unsigned last, unsigned length)
{
	vx_prefix own[3] = {
		{ .length = 128 },
		{ .length = 128 },
		{ .length = 96 + length % 33, .flags = VX_PREFIX_FLOATING },
	};

	address4(own[0].address, 0x11);
	address6(own[1].address, 0x11);
	address4(own[2].address, last);
	EQUAL(vx_net_port_allow(scene->tables, (uint32_t)scene->a, own, 3), 0);
}

/** narrow() - Set the path MTU of both VTEPs; 0 for no limit */
static void narrow(uint32_t path_mtu)
{
	vx_net_vtep(scene->tables, (uint32_t)scene->member)->seat->path_mtu = path_mtu;
	vx_net_vtep(scene->tables, (uint32_t)scene->foreign)->seat->path_mtu = path_mtu;
}

/** change_tables() - One operation of the writer, as the input asks */
static void change_tables(const uint8_t *steer)
{
	uint8_t address[VX_ADDR_LEN];
	uint64_t mac = 0x020000000000u | steer[1];
	struct vx_place place = { steer[2] % 4, steer[3] % 5u };

	address4(address, steer[2]);
	switch (steer[0] % OPERATIONS) {
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
	case 7:
		narrow((steer[1] ? 576u : 0) + steer[1] * 8u);
		break;
	case 8:
		scene->network->flags = steer[1] == 2 ? VX_NETWORK_IN_CONFLICT : 0;
		break;
	case 9:
		members(steer[1]);
		break;
	case 10:
		come_and_go();
		break;
	case 11:
		allow(steer[1], steer[2]);
		break;
	default:
		vx_net_vtep(scene->tables, (uint32_t)scene->member)->seat->flags = steer[1] & VX_VTEP_SAME_KERNEL;
		break;
	}
	vx_qsbr_collect(&scene->tables->qsbr);
}

/** make_frame() - A frame in a buffer of exactly its length, and with a spare */
static uint8_t *make_frame(struct vx_frame *frame, uint8_t ways, int port, const uint8_t *vnet, const uint8_t *bytes,
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
		.from = tunnel ? VX_AT_VTEP : VX_AT_PORT, .from_id = tunnel ? VX_NONE : (uint32_t)port,
	};
	if (ways & WAY_VNET)
		memcpy(&frame->vnet, vnet, sizeof(frame->vnet));
	if (tunnel)
		frame->train = frame->vnet.gso_size;
	outer = ways & WAY_FOREIGN ? scene->foreign : scene->member;
	memcpy(frame->outer, vx_net_vtep(scene->tables, (uint32_t)outer)->address, VX_ADDR_LEN);
	return buffer;
}

/** fragment() - What deliver.c does with a packet that has to be fragmented: all of it comes out, in pieces that fit */
static void fragment(const struct vx_frame *frame, uint16_t fit)
{
	static uint8_t out[VX_FRAME_MAX];
	const uint8_t *ip = frame->data + frame->eth.l3;
	uint32_t next = 0, payload = 0, whole = vx_get16(ip + 2) - (ip[0] & 15u) * 4, len;
	struct vx_eth eth;

	while ((len = vx_toobig_fragment(frame, fit, &next, out)) != 0) {
		CHECK(len <= frame->eth.l3 + (uint32_t)fit);
		REASON(vx_eth_parse(out, len, &eth), VX_OK);
		EQUAL(eth.end, len);
		payload += len - eth.l3 - (out[eth.l3] & 15u) * 4;
	}
	EQUAL(payload, whole);
}

/** leave() - What transmit.c does: cut a super-frame, fragment what does not fit, take the rest as it is */
static void leave(const struct vx_frame *frame, uint16_t fit)
{
	static uint8_t out[VX_FRAME_MAX];
	struct vx_frame piece = *frame;
	struct vx_gso gso;
	uint32_t sum = 0;

	EQUAL(vx_get32(frame->data - 8), 0x08000000);
	if (!frame->vnet.gso_type) {
		CHECK(!(frame->vnet.flags & VX_VNET_NEEDS_CSUM));
		EQUAL(frame->segments, 1);
		if (fit)
			fragment(frame, fit);
		return;
	}
	CHECK(frame->segments > 1 && frame->segments <= VX_SEGMENTS_MAX);
	vx_gso_begin(&gso, frame);
	piece.data = out;
	for (uint32_t i = 0; i < gso.segments; i++) {
		const uint8_t *payload;
		uint32_t slice = vx_gso_cut(&gso, i, out, &payload);

		memcpy(out + gso.headers, payload, slice);
		sum += slice;
		piece.len = gso.headers + slice;
		REASON(vx_eth_parse(out, piece.len, &piece.eth), VX_OK);
		EQUAL(piece.eth.end, piece.len);
		if (fit && piece.len > piece.eth.l3 + (uint32_t)fit)
			fragment(&piece, fit);
	}
	EQUAL(gso.headers + sum, frame->len);
}

/** judge_flood() - A flood is a copy for each VTEP, in the form that its path takes */
static void judge_flood(struct vx_frame *frame)
{
	uint32_t next = 0, id;

	CHECK(frame->copies && frame->scope && !frame->fit);
	CHECK(frame->from == VX_AT_PORT || frame->scope == VX_TO_LOCAL);
	while (vx_flood_next_local(frame->network, frame->from == VX_AT_PORT ? frame->from_id : VX_NONE, &next, &id))
		CHECK(vx_net_port(scene->tables, id) && (frame->from != VX_AT_PORT || id != frame->from_id));
	next = 0;
	while (vx_flood_next_vtep(frame->network, frame->scope, &next, &id))
		if (!vx_switch_fit_vtep(frame, vx_net_vtep(scene->tables, id)))
			leave(frame, frame->fit);
}

/** judge_answer() - An ICMP error is a whole packet to who sent the frame */
static void judge_answer(const struct vx_frame *frame)
{
	struct vx_eth eth;

	CHECK(frame->from == VX_AT_PORT && frame->answer <= VX_SPARE_LEN && frame->data != frame->spare);
	REASON(vx_eth_parse(frame->spare, frame->answer, &eth), VX_OK);
	CHECK(eth.end == frame->answer && eth.l4);
	CHECK(memcmp(frame->spare, frame->data + VX_MAC_LEN, VX_MAC_LEN) == 0);
}

/** judge() - What the worker relies on */
static void judge(struct vx_frame *frame, const uint8_t *buffer, uint32_t len)
{
	bool spared = frame->data == frame->spare;

	CHECK(frame->reason < VX_REASON_COUNT);
	CHECK(frame->act <= VX_ACT_ABSORB);
	CHECK((frame->reason != VX_OK) == (frame->act == VX_ACT_DROP));
	CHECK(!spared || (frame->act == VX_ACT_REPLY && frame->len <= VX_SPARE_LEN));
	CHECK(spared || (frame->data >= buffer + VX_HEADROOM &&
			  frame->data + frame->len <= buffer + VX_HEADROOM + len));
	CHECK(frame->segments >= 1);
	if (frame->answer)
		judge_answer(frame);
	if (frame->reason)
		return;
	if (frame->event == VX_EVENT_PROBE) {		/* anybody may send one, to no network */
		CHECK(frame->act == VX_ACT_ABSORB && !frame->network && frame->from == VX_AT_VTEP);
		return;
	}
	CHECK(frame->network == scene->network);
	CHECK(frame->from == VX_AT_PORT || frame->from_id != VX_NONE);
	if (frame->act == VX_ACT_PORT)
		CHECK(frame->target != VX_NONE && vx_net_port(scene->tables, frame->target) && !frame->fit);
	if (frame->act == VX_ACT_VTEP) {
		CHECK(frame->from == VX_AT_PORT && vx_net_vtep(scene->tables, frame->target));
		leave(frame, frame->fit);
	}
	if (frame->act == VX_ACT_FLOOD)
		judge_flood(frame);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vx_frame frames[2];
	uint8_t *buffers[2];
	unsigned count;
	int port;

	if (size < STEER || size > VX_FRAME_MAX)
		return 0;
	if (!scene)
		scene = scene_new(true);
	scene->now_ns += 1000000;
	change_tables(data + 1);
	scene->tables->same_kernel = data[0] & WAY_CHECKSUMS;
	count = data[0] & WAY_BATCH ? 2 : 1;
	port = data[4] & FROM_B ? scene->b : scene->a;
	for (unsigned i = 0; i < count; i++)
		buffers[i] = make_frame(&frames[i], data[0], port, data + 5, data + STEER, (uint32_t)size - STEER);
	vx_switch(scene->tables, frames, count, (struct vx_when){ .now_ns = scene->now_ns, .dry = data[4] & DRY });
	for (unsigned i = 0; i < count; i++) {
		bool header = (data[0] & WAY_TUNNEL) && (data[0] & WAY_HEADER);
		uint32_t len = (uint32_t)size - STEER + (header ? VX_VXLAN_LEN : 0);

		judge(&frames[i], buffers[i], len);
		free(buffers[i]);
		free(frames[i].spare - VX_HEADROOM);
	}
	return 0;
}
