/* unit_semantics.c - what the tunnel does to a packet, and above all what it does not
 *
 * Each case goes through the whole decision. Forms: a single frame; a train, that is the frames of one UDP_GRO
 * datagram, decided as one vector; a super-frame, which is then cut as it is when it is sent.
 */
#include "check.h"
#include "csum.h"
#include "eth.h"
#include "gso.h"
#include "scene.h"
#include "vxlan.h"

#define TRAIN		3
#define SUPER_PAYLOAD	4000
#define SEGMENT		1000
#define TCP_FIN		0x01
#define TCP_PSH		0x08
#define TCP_ACK		0x10
#define TCP_CWR		0x80
#define CE		3
#define DROP		0xff

/* RFC 6040 figure 4, written down once more: [inner][outer], 0 not-ECT, 1 ECT(1), 2 ECT(0), 3 CE */
static const uint8_t figure_4[4][4] = { { 0, 0, 0, DROP }, { 1, 1, 1, 3 }, { 2, 1, 2, 3 }, { 3, 3, 3, 3 } };

static struct packet packet_of(unsigned version, uint64_t from, unsigned source, uint64_t to, unsigned target)
{
	struct packet packet = packet_between(from, source, to, target);

	if (version == 6) {
		address6(packet.source, source);
		address6(packet.target, target);
	}
	return packet;
}

/** put_tcp() - 4000 bytes of TCP with flags and TOS. Return: length of the frame */
static uint32_t put_tcp(uint8_t *room, struct packet packet, unsigned version, uint8_t tos, uint8_t flags)
{
	uint32_t l4 = 14 + (version == 4 ? 20 : 40), len;

	packet.protocol = VX_PROTO_TCP;
	packet.tos = tos;
	packet.len = SUPER_PAYLOAD;
	len = put_packet(room, &packet, version);
	vx_put16(room + l4 + 16, vx_csum_adjust(vx_get16(room + l4 + 16), 5 << 12, (uint16_t)(5 << 12 | flags)));
	room[l4 + 13] = flags;
	return len;
}

/** be_super() - Say of the frame in tap_room() what a TAP would: a super-frame, checksum of the pseudo-header only */
static void be_super(struct scene *scene, unsigned version, uint8_t type, uint32_t len)
{
	uint16_t l4 = (uint16_t)(14 + (version == 4 ? 20 : 40)), field = type == VX_GSO_UDP_L4 ? 6 : 16;
	uint8_t protocol = type == VX_GSO_UDP_L4 ? VX_PROTO_UDP : VX_PROTO_TCP;
	uint8_t *room = tap_room(scene);

	vx_put16(room + l4 + field, vx_csum_fold(vx_csum_pseudo(room + 14, version, protocol, len - l4)));
	scene->frame.vnet = (struct vx_vnet){
		.flags = VX_VNET_NEEDS_CSUM, .gso_type = type, .gso_size = SEGMENT,
		.csum_start = l4, .csum_offset = field,
	};
}

/** tos_of() - TOS of the packet in a frame whose IPv4 header checksum has to be right */
static uint8_t tos_of(const uint8_t *frame)
{
	if (frame[14] >> 4 == 6)
		return (uint8_t)(vx_get16(frame + 14) >> 4);
	EQUAL(vx_csum_fold(vx_csum_add(frame + 14, (frame[14] & 15u) * 4, 0)), 0xffff);
	return frame[15];
}

/** cut() - One segment of a decided super-frame, whole and with valid checksums. Return: its length */
static uint32_t cut(const struct vx_frame *frame, uint32_t segment, uint8_t *out)
{
	struct vx_gso gso;
	const uint8_t *payload;
	struct vx_eth eth;
	uint32_t slice;

	vx_gso_begin(&gso, frame);
	EQUAL(gso.segments, frame->segments);
	slice = vx_gso_cut(&gso, segment, out, &payload);
	memcpy(out + gso.headers, payload, slice);
	REASON(vx_eth_parse(out, gso.headers + slice, &eth), VX_OK);
	EQUAL(eth.end, gso.headers + slice);
	CHECK(vx_csum_valid(out, &eth));
	return gso.headers + slice;
}

static void a_congestion_mark_reaches_single_frames(void)
{
	struct scene *scene = scene_new(false);
	struct vx_eth eth;
	uint32_t len;

	for (unsigned i = 0; i < 2 * 4 * 4; i++) {
		unsigned version = i & 16 ? 6 : 4, inner = i / 4 % 4, outer = i % 4;
		struct packet packet = packet_of(version, MAC_FAR, 0x21, MAC_A, 0x11);

		packet.tos = (uint8_t)(0xb8 | inner);
		len = put_packet(tunnel_room(scene), &packet, version);
		scene->frame.outer_tos = (uint8_t)(0x28 | outer);
		if (figure_4[inner][outer] == DROP) {
			REASON(from_vtep(scene, 2, len), VX_IP_TUNNEL_ECN);
			continue;
		}
		REASON(from_vtep(scene, 2, len), VX_OK);
		EQUAL(tos_of(scene->frame.data), 0xb8 | figure_4[inner][outer]);
		REASON(vx_eth_parse(scene->frame.data, len, &eth), VX_OK);
		CHECK(vx_csum_valid(scene->frame.data, &eth));
	}
	scene_free(scene);
}

static void a_congestion_mark_reaches_every_frame_of_a_train(void)
{
	struct scene *scene = scene_new(false);
	static uint8_t train[VX_HEADROOM + TRAIN * 300];
	static uint8_t spares[TRAIN][VX_HEADROOM + VX_SPARE_LEN];

	for (unsigned i = 0; i < 2 * 4 * 4; i++) {
		unsigned version = i & 16 ? 6 : 4, inner = i / 4 % 4, outer = i % 4;
		struct packet packet = packet_of(version, MAC_FAR, 0x21, MAC_A, 0x11);
		struct vx_frame frames[TRAIN];

		for (unsigned n = 0; n < TRAIN; n++) {
			uint8_t *datagram = train + VX_HEADROOM + n * 300;

			packet.tos = (uint8_t)(n == 1 ? 2 : inner);	/* the one in the middle has its own */
			vx_vxlan_put(datagram, VNI);
			frames[n] = (struct vx_frame){
				.data = datagram, .len = 8 + put_packet(datagram + 8, &packet, version),
				.spare = spares[n] + VX_HEADROOM, .from = VX_AT_VTEP, .outer_tos = (uint8_t)outer,
			};
			memcpy(frames[n].outer, vx_net_vtep(scene->tables, (uint32_t)scene->member)->address, 16);
		}
		vx_switch(scene->tables, frames, TRAIN, (struct vx_when){ .now_ns = scene->now_ns });
		for (unsigned n = 0; n < TRAIN; n++) {
			uint8_t wanted = figure_4[n == 1 ? 2 : inner][outer];

			REASON(frames[n].reason, wanted == DROP ? VX_IP_TUNNEL_ECN : VX_OK);
			if (wanted != DROP)
				EQUAL(tos_of(frames[n].data), wanted);
		}
	}
	scene_free(scene);
}

static void a_congestion_mark_reaches_every_segment_of_a_super_frame(void)
{
	struct scene *scene = scene_new(false);
	static uint8_t out[2000];

	for (unsigned i = 0; i < 2 * 4 * 4; i++) {
		unsigned version = i & 16 ? 6 : 4, inner = i / 4 % 4, outer = i % 4;
		struct packet packet = packet_of(version, MAC_FAR, 0x21, MAC_A, 0x11);
		uint32_t len = put_tcp(tunnel_room(scene), packet, version, (uint8_t)(0xb8 | inner), TCP_ACK | TCP_CWR);

		scene->frame.outer_tos = (uint8_t)outer;
		if (figure_4[inner][outer] == DROP) {
			REASON(from_vtep(scene, 2, len), VX_IP_TUNNEL_ECN);
			continue;
		}
		REASON(from_vtep(scene, 2, len), VX_OK);
		CHECK(scene->frame.segments > 1);
		for (uint32_t segment = 0; segment < scene->frame.segments; segment++) {
			cut(&scene->frame, segment, out);
			EQUAL(tos_of(out), 0xb8 | figure_4[inner][outer]);
			EQUAL(out[scene->frame.eth.l4 + 13], TCP_ACK | (segment ? 0 : TCP_CWR));
		}
	}
	scene_free(scene);
}

static void the_outer_mark_is_the_inner_one_and_nothing_inside_changes(void)
{
	struct scene *scene = scene_new(false);
	static uint8_t before[VX_FRAME_MAX], out[2000];
	uint32_t len;

	for (unsigned i = 0; i < 2 * 4; i++) {
		unsigned version = i & 4 ? 6 : 4, inner = i % 4;
		struct packet packet = packet_of(version, MAC_A, 0x11, MAC_FAR, 0x21);
		uint8_t type = version == 4 ? VX_GSO_TCPV4 : VX_GSO_TCPV6;

		packet.tos = (uint8_t)(0xb8 | inner);
		len = put_packet(tap_room(scene), &packet, version);
		memcpy(before, tap_room(scene), len);
		scene->frame.vnet = (struct vx_vnet){ 0 };
		REASON(from_port(scene, scene->a, len), VX_OK);
		EQUAL(scene->frame.outer_tos, inner);		/* DSCP stays inside */
		CHECK(memcmp(before, tap_room(scene), len) == 0);

		len = put_tcp(tap_room(scene), packet, version, packet.tos, TCP_ACK | TCP_CWR | TCP_PSH | TCP_FIN);
		be_super(scene, version, type | VX_GSO_ECN, len);
		memcpy(before, tap_room(scene), len);
		REASON(from_port(scene, scene->a, len), VX_OK);
		EQUAL(scene->frame.outer_tos, inner);
		EQUAL(scene->frame.segments, 4);
		CHECK(memcmp(before, tap_room(scene), len) == 0);
		for (uint32_t segment = 0; segment < 4; segment++) {
			cut(&scene->frame, segment, out);
			EQUAL(tos_of(out), packet.tos);
			EQUAL(out[14 + (version == 4 ? 8 : 7)], 64);
			EQUAL(out[scene->frame.eth.l4 + 13],
			      TCP_ACK | (segment ? 0 : TCP_CWR) | (segment == 3 ? TCP_PSH | TCP_FIN : 0));
		}
	}
	scene_free(scene);
}

/** fragment6() - A fragment whose fragmented part begins with destination options. Return: length of the frame */
static uint32_t fragment6(struct scene *scene, uint16_t offset, uint16_t port)
{
	struct packet packet = packet_of(6, MAC_A, 0x11, MAC_FAR, 0x21);
	uint8_t *part = tap_room(scene) + 54;
	uint32_t len;

	packet.protocol = 44;
	packet.len = 64;
	len = put_packet(tap_room(scene), &packet, 6);
	memset(part, 0, 64);
	part[0] = 60;
	vx_put16(part + 2, (uint16_t)(offset * 8 | 1));
	if (!offset) {
		part[8] = VX_PROTO_UDP;
		vx_put16(part + 16, port);
		vx_put16(part + 18, 99);
	}
	return len;
}

static void all_fragments_of_a_datagram_leave_by_one_source_port(void)
{
	struct scene *scene = scene_new(false);
	struct packet packet = packet_of(4, MAC_A, 0x11, MAC_FAR, 0x21);
	uint32_t hash, len;

	REASON(from_port(scene, scene->a, fragment6(scene, 0, 1)), VX_OK);
	CHECK(scene->frame.eth.l4 && scene->frame.eth.protocol == VX_PROTO_UDP);
	hash = scene->frame.hash;
	for (uint16_t offset = 1; offset < 100; offset += 9) {
		REASON(from_port(scene, scene->a, fragment6(scene, offset, 0)), VX_OK);
		CHECK(!scene->frame.eth.l4);
		EQUAL(scene->frame.hash, hash);
	}

	len = put_packet(tap_room(scene), &packet, 4);
	REASON(from_port(scene, scene->a, len), VX_OK);
	hash = scene->frame.hash;
	vx_put16(tap_room(scene) + 34, 1001);
	REASON(from_port(scene, scene->a, len), VX_OK);
	CHECK(scene->frame.hash != hash);		/* the control: ports do count where all packets show them */
	vx_put16(tap_room(scene) + 20, 0x2000);
	REASON(from_port(scene, scene->a, len), VX_OK);
	hash = scene->frame.hash;
	vx_put16(tap_room(scene) + 20, 0x0010);
	vx_put16(tap_room(scene) + 34, 7);
	REASON(from_port(scene, scene->a, len), VX_OK);
	EQUAL(scene->frame.hash, hash);
	scene_free(scene);
}

/** insert() - Put bytes into the frame in tap_room(). Return: its new length */
static uint32_t insert(struct scene *scene, uint32_t len, uint32_t at, const void *bytes, uint32_t count)
{
	uint8_t *room = tap_room(scene);

	memmove(room + at + count, room + at, len - at);
	memcpy(room + at, bytes, count);
	return len + count;
}

static void options_and_extension_headers_go_through_super_frames_too(void)
{
	static const uint8_t alert[4] = { 148, 4, 0, 0 }, padding[8] = { VX_PROTO_TCP, 0, 1, 4 };
	struct scene *scene = scene_new(false);
	static uint8_t out[2000];

	for (unsigned version = 4; version <= 6; version += 2) {
		struct packet packet = packet_of(version, MAC_A, 0x11, MAC_FAR, 0x21);
		uint32_t len = put_tcp(tap_room(scene), packet, version, 0, TCP_ACK);
		uint32_t l4 = version == 4 ? 38 : 62;

		be_super(scene, version, version == 4 ? VX_GSO_TCPV4 : VX_GSO_TCPV6, len);
		scene->frame.vnet.csum_start = (uint16_t)l4;
		if (version == 4) {
			len = insert(scene, len, 34, alert, 4);
			tap_room(scene)[14] = 0x46;
			vx_put16(tap_room(scene) + 16, (uint16_t)(len - 14));
		} else {
			len = insert(scene, len, 54, padding, 8);
			tap_room(scene)[20] = 60;		/* destination options */
			vx_put16(tap_room(scene) + 18, (uint16_t)(len - 54));
		}
		REASON(from_port(scene, scene->a, len), VX_OK);
		EQUAL(scene->frame.segments, 4);
		EQUAL(cut(&scene->frame, 2, out), l4 + 20 + SEGMENT);
		if (version == 4)
			CHECK(memcmp(out + l4 - 4, alert, 4) == 0);
		else
			CHECK(memcmp(out + l4 - 8, padding, 8) == 0);
		scene->frame.vnet = (struct vx_vnet){ 0 };
	}
	scene_free(scene);
}

static void guards_look_behind_two_tags_and_a_third_is_refused(void)
{
	static const uint8_t tag[4] = { 0x81, 0, 0, 5 }, service[4] = { 0x88, 0xa8, 0, 7 };
	struct scene *scene = scene_new(false);

	scene->network->flags |= VX_NETWORK_VLAN_PASS;
	for (unsigned tags = 1; tags <= 3; tags++)
		for (unsigned spoof = 0; spoof < 2; spoof++) {
			struct packet packet = packet_of(4, MAC_A, spoof ? 0x12 : 0x11, MAC_FAR, 0x21);
			uint32_t len = put_packet(tap_room(scene), &packet, 4);

			for (unsigned i = 0; i < tags; i++)
				len = insert(scene, len, 12, i ? service : tag, 4);
			REASON(from_port(scene, scene->a, len),
			       tags == 3 ? VX_VLAN : spoof ? VX_SRC_IP_SPOOF : VX_OK);
		}
	scene_free(scene);
}

static void udp_checksums_of_zero_and_ffff_keep_their_meaning(void)
{
	struct scene *scene = scene_new(false);
	struct packet packet = packet_of(4, MAC_A, 0x11, MAC_FAR, 0x21);
	uint32_t len = put_packet(tap_room(scene), &packet, 4), sum;
	uint8_t *room = tap_room(scene);

	vx_put16(room + 40, 0);				/* "none" */
	REASON(from_port(scene, scene->a, len), VX_OK);
	EQUAL(vx_get16(room + 40), 0);
	len = put_packet(tunnel_room(scene), &(struct packet){
		.to = MAC_A, .from = MAC_FAR, .protocol = VX_PROTO_UDP, .len = 9 }, 4);
	vx_put16(tunnel_room(scene) + 40, 0);
	scene->tables->same_kernel = true;
	REASON(from_vtep(scene, 2, len), VX_OK);
	EQUAL(vx_get16(scene->frame.data + 40), 0);
	EQUAL(scene->frame.vnet.flags, 0);

	for (packet.len = 31; packet.len <= 32; packet.len++) {	/* odd and even; the last word makes the sum ffff */
		len = put_packet(room, &packet, 4);
		vx_put16(room + 40, vx_csum_fold(vx_csum_pseudo(room + 14, 4, VX_PROTO_UDP, len - 34)));
		vx_put16(room + 42, 0);
		sum = vx_csum_fold(vx_csum_add(room + 34, len - 34, 0));
		vx_put16(room + 42, (uint16_t)~sum);
		scene->frame.vnet = (struct vx_vnet){ VX_VNET_NEEDS_CSUM, .csum_start = 34, .csum_offset = 6 };
		REASON(from_port(scene, scene->a, len), VX_OK);
		EQUAL(vx_get16(room + 40), 0xffff);
		EQUAL(scene->frame.vnet.flags, 0);
	}
	scene_free(scene);
}

static void bytes_behind_a_packet_are_not_under_its_checksum(void)
{
	struct scene *scene = scene_new(false);
	struct packet packet = packet_of(4, MAC_A, 0x11, MAC_FAR, 0x21);
	uint32_t len = put_packet(tap_room(scene), &packet, 4);
	uint8_t *room = tap_room(scene);
	struct vx_eth eth;

	vx_put16(room + 40, vx_csum_fold(vx_csum_pseudo(room + 14, 4, VX_PROTO_UDP, len - 34)));
	memset(room + len, 0x5a, 6);
	scene->frame.vnet = (struct vx_vnet){ VX_VNET_NEEDS_CSUM, .csum_start = 34, .csum_offset = 6 };
	REASON(from_port(scene, scene->a, len + 6), VX_OK);
	EQUAL(scene->frame.len, len + 6);
	REASON(vx_eth_parse(room, len + 6, &eth), VX_OK);
	CHECK(vx_csum_valid(room, &eth));
	scene_free(scene);
}

/** put_uso() - A UDP super-frame of four segments from A to @to. Return: its length */
static uint32_t put_uso(struct scene *scene, uint64_t to, unsigned target)
{
	struct packet packet = packet_of(4, MAC_A, 0x11, to, target);
	uint32_t len;

	packet.len = SUPER_PAYLOAD;
	len = put_packet(tap_room(scene), &packet, 4);
	be_super(scene, 4, VX_GSO_UDP_L4, len);
	return len;
}

static void each_segment_of_a_broadcast_counts_as_a_copy(void)
{
	struct scene *scene = scene_new(false);
	uint32_t len = put_uso(scene, 0xffffffffffff, 0xff);
	unsigned passed = 0;

	while (from_port(scene, scene->a, len) == VX_OK) {
		EQUAL(scene->frame.copies, 3);
		EQUAL(scene->frame.vnet.gso_type, VX_GSO_UDP_L4);	/* whole: local copies go as they are */
		passed++;
	}
	REASON(scene->frame.reason, VX_STORM_LIMIT);
	EQUAL(passed, (VX_STORM_BURST + 11) / 12);
	scene_free(scene);
}

static void a_super_frame_is_too_big_when_its_segments_are(void)
{
	struct scene *scene = scene_new(false);
	struct vx_vtep *vtep = vx_net_vtep(scene->tables, (uint32_t)scene->member);
	uint32_t *mtu = &scene->tables->ports[scene->b].mtu;
	uint32_t len = put_uso(scene, MAC_FAR, 0x21);

	vtep->seat->path_mtu = 36 + 42 + SEGMENT;
	REASON(from_port(scene, scene->a, len), VX_OK);
	EQUAL(scene->frame.act, VX_ACT_VTEP);
	EQUAL(scene->frame.fit, 0);
	vtep->seat->path_mtu--;
	REASON(from_port(scene, scene->a, len), VX_PKT_TOO_BIG);
	EQUAL(scene->frame.answer, 14 + 576);
	EQUAL(vx_get16(scene->frame.spare + 14 + 26), 28 + SEGMENT - 1);
	vx_put16(tap_room(scene) + 24, vx_csum_adjust(vx_get16(tap_room(scene) + 24), 0x4000, 0));
	vx_put16(tap_room(scene) + 20, 0);
	REASON(from_port(scene, scene->a, len), VX_OK);
	EQUAL(scene->frame.fit, 28 + SEGMENT - 1);
	EQUAL(scene->frame.vnet.gso_type, VX_GSO_UDP_L4);

	len = put_uso(scene, MAC_B, 0x12);		/* to a TAP of this host: untouched, checked all the same */
	*mtu = 28 + SEGMENT;
	REASON(from_port(scene, scene->a, len), VX_OK);
	EQUAL(scene->frame.act, VX_ACT_PORT);
	EQUAL(scene->frame.vnet.flags, VX_VNET_NEEDS_CSUM);
	--*mtu;
	REASON(from_port(scene, scene->a, len), VX_PKT_TOO_BIG);
	scene_free(scene);
}

static void guards_hold_for_super_frames(void)
{
	struct scene *scene = scene_new(false);
	uint32_t len = put_uso(scene, MAC_FAR, 0x21);

	REASON(from_port(scene, scene->a, len), VX_OK);
	REASON(from_port(scene, scene->b, len), VX_SRC_MAC_SPOOF);
	vx_put32(tap_room(scene) + 34, 67u << 16 | 68);
	REASON(from_port(scene, scene->a, len), VX_ROGUE_SERVER);
	vx_put32(tap_room(scene) + 34, 1000u << 16 | 68);
	REASON(from_port(scene, scene->a, len), VX_OK);
	tap_room(scene)[29] ^= 0x80;
	REASON(from_port(scene, scene->a, len), VX_SRC_IP_SPOOF);
	scene_free(scene);
}

static void a_jumbo_underlay_carries_jumbo_packets(void)
{
	struct scene *scene = scene_new(false);
	struct packet packet = packet_of(4, MAC_A, 0x11, MAC_FAR, 0x21);
	uint32_t len;

	vx_net_vtep(scene->tables, (uint32_t)scene->member)->seat->path_mtu = 9000;
	packet.len = 9000 - 50 - 28;
	len = put_packet(tap_room(scene), &packet, 4);
	REASON(from_port(scene, scene->a, len), VX_OK);
	EQUAL(scene->frame.fit, 0);
	packet.len++;
	len = put_packet(tap_room(scene), &packet, 4);
	REASON(from_port(scene, scene->a, len), VX_PKT_TOO_BIG);
	scene_free(scene);
}

CASES(CASE(a_congestion_mark_reaches_single_frames), CASE(a_congestion_mark_reaches_every_frame_of_a_train),
      CASE(a_congestion_mark_reaches_every_segment_of_a_super_frame),
      CASE(the_outer_mark_is_the_inner_one_and_nothing_inside_changes),
      CASE(all_fragments_of_a_datagram_leave_by_one_source_port),
      CASE(options_and_extension_headers_go_through_super_frames_too),
      CASE(guards_look_behind_two_tags_and_a_third_is_refused),
      CASE(udp_checksums_of_zero_and_ffff_keep_their_meaning),
      CASE(bytes_behind_a_packet_are_not_under_its_checksum),
      CASE(each_segment_of_a_broadcast_counts_as_a_copy), CASE(a_super_frame_is_too_big_when_its_segments_are),
      CASE(guards_hold_for_super_frames), CASE(a_jumbo_underlay_carries_jumbo_packets))
