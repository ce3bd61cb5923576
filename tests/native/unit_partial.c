/* unit_partial.c - super-frames and partial checksums of a peer on the same kernel */
#include "check.h"
#include "csum.h"
#include "eth.h"
#include "scene.h"

static uint32_t put_tcp(struct scene *scene, uint32_t len, unsigned version)
{
	struct packet packet = packet_between(MAC_FAR, 0x21, MAC_A, 0x11);

	packet.protocol = VX_PROTO_TCP;
	packet.len = len;
	if (version == 6) {
		address6(packet.source, 0x21);
		address6(packet.target, 0x11);
	}
	return put_packet(tunnel_room(scene), &packet, version);
}

/** make_partial() - Put the pseudo-header sum where the checksum is; @offset of it in the transport header */
static void make_partial(struct scene *scene, uint32_t len, uint16_t offset)
{
	uint8_t *frame = tunnel_room(scene);
	struct vx_eth eth;

	REASON(vx_eth_parse(frame, len, &eth), VX_OK);
	vx_put16(frame + eth.l4 + offset,
		 vx_csum_fold(vx_csum_pseudo(frame + eth.l3, eth.version, eth.protocol, eth.end - eth.l4)));
}

static void a_super_frame_goes_to_the_tap_in_one_piece(void)
{
	for (unsigned version = 4; version <= 6; version += 2) {
		struct scene *scene = scene_new(false);
		uint32_t ip = version == 4 ? 20 : 40, len = put_tcp(scene, 60000, version);

		make_partial(scene, len, 16);
		REASON(from_vtep(scene, 2, len), VX_OK);
		EQUAL(scene->frame.act, VX_ACT_PORT);
		EQUAL(scene->frame.vnet.gso_type, version == 4 ? VX_GSO_TCPV4 : VX_GSO_TCPV6);
		EQUAL(scene->frame.vnet.gso_size, MTU - ip - 20);
		EQUAL(scene->frame.vnet.hdr_len, 14 + ip + 20);
		EQUAL(scene->frame.vnet.csum_start, 14 + ip);
		EQUAL(scene->frame.vnet.csum_offset, 16);
		EQUAL(scene->frame.vnet.flags, VX_VNET_NEEDS_CSUM);
		CHECK(vx_net_vtep(scene->tables, (uint32_t)scene->member)->seat->flags & VX_VTEP_SAME_KERNEL);
		scene_free(scene);
	}
}

static void a_super_frame_with_a_valid_checksum_is_converted_and_a_damaged_one_dropped(void)
{
	struct scene *scene = scene_new(false);
	uint32_t len = put_tcp(scene, 5000, 4);
	uint16_t pseudo;

	REASON(from_vtep(scene, 2, len), VX_OK);
	pseudo = vx_csum_fold(vx_csum_pseudo(scene->frame.data + 14, 4, VX_PROTO_TCP, 5020));
	EQUAL(vx_get16(scene->frame.data + 50), pseudo);
	put_tcp(scene, 5000, 4);
	tunnel_room(scene)[1000] ^= 1;
	REASON(from_vtep(scene, 2, len), VX_CSUM);
	scene_free(scene);
}

static void what_only_looks_like_a_super_frame_is_too_big(void)
{
	struct scene *scene = scene_new(false);
	uint32_t len = put_tcp(scene, 5000, 4);

	vx_put16(tunnel_room(scene) + 20, 0x2000);	/* a fragment */
	REASON(from_vtep(scene, 2, len), VX_PKT_TOO_BIG);
	len = put_tcp(scene, 5000, 4);
	REASON(from_vtep(scene, 2, len + 2), VX_PKT_TOO_BIG);	/* total length is not the frame's */
	len = put_tcp(scene, 5000, 4);
	tunnel_room(scene)[46] = 4 << 4;		/* data offset below the header */
	REASON(from_vtep(scene, 2, len), VX_PKT_TOO_BIG);
	scene_free(scene);
}

static void a_partial_checksum_counts_only_from_a_peer_on_this_kernel(void)
{
	for (int marked = 0; marked < 2; marked++) {
		struct scene *scene = scene_new(false);
		uint32_t len = put_tcp(scene, 500, 4);

		if (marked)
			vx_net_vtep(scene->tables, (uint32_t)scene->member)->seat->flags |= VX_VTEP_SAME_KERNEL;
		REASON(from_vtep(scene, 2, len), VX_OK);
		EQUAL(scene->frame.vnet.flags, 0);		/* valid: as it is */
		make_partial(scene, len, 16);
		REASON(from_vtep(scene, 2, len), VX_OK);
		EQUAL(scene->frame.vnet.flags, marked ? VX_VNET_NEEDS_CSUM : 0);
		EQUAL(scene->frame.vnet.csum_start, marked ? 34 : 0);
		EQUAL(scene->frame.vnet.gso_type, VX_GSO_NONE);
		put_tcp(scene, 500, 4);
		tunnel_room(scene)[200] ^= 1;			/* corrupt: whoever gets it finds out */
		REASON(from_vtep(scene, 2, len), VX_OK);
		EQUAL(scene->frame.vnet.flags, 0);
		scene_free(scene);
	}
}

static void a_udp_datagram_without_checksum_stays_without(void)
{
	struct scene *scene = scene_new(false);
	struct packet packet = packet_between(MAC_FAR, 0x21, MAC_A, 0x11);
	uint32_t len = put_packet(tunnel_room(scene), &packet, 4);

	scene->tables->same_kernel = true;
	make_partial(scene, len, 6);
	REASON(from_vtep(scene, 2, len), VX_OK);
	EQUAL(scene->frame.vnet.flags, VX_VNET_NEEDS_CSUM);
	put_packet(tunnel_room(scene), &packet, 4);
	vx_put16(tunnel_room(scene) + 40, 0);
	REASON(from_vtep(scene, 2, len), VX_OK);
	EQUAL(scene->frame.vnet.flags, 0);
	scene_free(scene);
}

/** put_udp() - A UDP datagram of @len bytes for the TAP of port A. Return: length of the frame */
static uint32_t put_udp(struct scene *scene, uint32_t len, unsigned version)
{
	struct packet packet = packet_between(MAC_FAR, 0x21, MAC_A, 0x11);

	packet.len = len;
	if (version == 6) {
		address6(packet.source, 0x21);
		address6(packet.target, 0x11);
	}
	return put_packet(tunnel_room(scene), &packet, version);
}

static void a_udp_super_frame_keeps_the_segment_size_it_came_with(void)
{
	for (unsigned version = 4; version <= 6; version += 2) {
		for (int whole = 0; whole < 2; whole++) {
			struct scene *scene = scene_new(false);
			uint32_t ip = version == 4 ? 20 : 40, len = put_udp(scene, 100 * 600 + 1, version);

			if (!whole)
				make_partial(scene, len, 6);
			scene->frame.train = 600;
			REASON(from_vtep(scene, 2, len), VX_OK);
			EQUAL(scene->frame.act, VX_ACT_PORT);
			EQUAL(scene->frame.segments, 101);
			EQUAL(scene->frame.vnet.gso_type, VX_GSO_UDP_L4);
			EQUAL(scene->frame.vnet.gso_size, 600);
			EQUAL(scene->frame.vnet.hdr_len, 14 + ip + 8);
			EQUAL(scene->frame.vnet.csum_start, 14 + ip);
			EQUAL(scene->frame.vnet.csum_offset, 6);
			EQUAL(scene->frame.vnet.flags, VX_VNET_NEEDS_CSUM);
			make_partial(scene, len, 6);
			EQUAL(vx_get16(scene->frame.data + 14 + ip + 6), vx_get16(tunnel_room(scene) + 14 + ip + 6));
			scene_free(scene);
		}
	}
}

static void a_udp_super_frame_may_be_smaller_than_the_mtu(void)
{
	struct scene *scene = scene_new(false);
	uint32_t len = put_udp(scene, 1001, 4);

	make_partial(scene, len, 6);
	scene->frame.train = 500;
	REASON(from_vtep(scene, 2, len), VX_OK);
	EQUAL(scene->frame.segments, 3);
	EQUAL(scene->frame.vnet.gso_size, 500);
	scene->frame.train = 1001;			/* one segment: a plain frame, by the rule for those */
	REASON(from_vtep(scene, 2, len), VX_OK);
	EQUAL(scene->frame.segments, 1);
	EQUAL(scene->frame.vnet.gso_type, VX_GSO_NONE);
	EQUAL(scene->frame.vnet.flags, VX_VNET_NEEDS_CSUM);
	scene_free(scene);
}

static void a_udp_super_frame_that_is_none_is_not_cut(void)
{
	struct scene *scene = scene_new(false);
	uint32_t len = put_udp(scene, 5000, 4);

	REASON(from_vtep(scene, 2, len), VX_PKT_TOO_BIG);	/* nobody said where to cut */
	scene->frame.train = 30;
	REASON(from_vtep(scene, 2, len), VX_PKT_TOO_BIG);	/* 167 segments: a kernel makes 128 at most */
	scene->frame.train = 1440;
	REASON(from_vtep(scene, 2, len), VX_PKT_TOO_BIG);	/* segments larger than the TAP takes */
	put_udp(scene, 5000, 4);
	scene->frame.train = 1000;
	tunnel_room(scene)[1000] ^= 1;
	REASON(from_vtep(scene, 2, len), VX_CSUM);
	put_udp(scene, 5000, 4);
	tunnel_room(scene)[39]++;				/* UDP length */
	REASON(from_vtep(scene, 2, len), VX_PKT_TOO_BIG);
	put_udp(scene, 5000, 4);
	REASON(from_vtep(scene, 2, len), VX_OK);
	EQUAL(scene->frame.segments, 5);
	len = put_udp(scene, 1000, 4);				/* fits, and is not cut: alone and untouched */
	scene->frame.train = 500;
	tunnel_room(scene)[39]++;
	REASON(from_vtep(scene, 2, len), VX_OK);
	EQUAL(scene->frame.segments, 1);
	EQUAL(scene->frame.vnet.flags, 0);
	scene_free(scene);
}

static void only_a_partial_checksum_marks_the_peer_as_on_this_kernel(void)
{
	for (int partial = 0; partial < 2; partial++) {
		struct scene *scene = scene_new(false);
		uint32_t len = put_tcp(scene, 5000, 4);

		if (partial)
			make_partial(scene, len, 16);
		REASON(from_vtep(scene, 2, len), VX_OK);
		EQUAL(scene->frame.segments, 4);
		EQUAL(!!(scene->tables->vteps[scene->member].flags & VX_VTEP_SAME_KERNEL), partial);
		scene_free(scene);
	}
}

static void padding_makes_no_super_frame(void)
{
	struct scene *scene = scene_new(false);
	uint32_t len = put_tcp(scene, MTU - 40, 4);

	REASON(from_vtep(scene, 2, len + 4), VX_OK);
	EQUAL(scene->frame.vnet.gso_type, VX_GSO_NONE);
	EQUAL(scene->frame.len, len);
	len = put_tcp(scene, MTU - 39, 4);
	REASON(from_vtep(scene, 2, len), VX_OK);
	EQUAL(scene->frame.segments, 2);
	scene_free(scene);
}

CASES(CASE(a_super_frame_goes_to_the_tap_in_one_piece),
      CASE(a_super_frame_with_a_valid_checksum_is_converted_and_a_damaged_one_dropped),
      CASE(what_only_looks_like_a_super_frame_is_too_big),
      CASE(a_partial_checksum_counts_only_from_a_peer_on_this_kernel),
      CASE(a_udp_datagram_without_checksum_stays_without),
      CASE(a_udp_super_frame_keeps_the_segment_size_it_came_with),
      CASE(a_udp_super_frame_may_be_smaller_than_the_mtu),
      CASE(a_udp_super_frame_that_is_none_is_not_cut),
      CASE(only_a_partial_checksum_marks_the_peer_as_on_this_kernel),
      CASE(padding_makes_no_super_frame))
