/* unit_toobig.c - packets that do not fit their path: who is told, in what words, and what fragments become */
#include "check.h"
#include "csum.h"
#include "eth.h"
#include "scene.h"
#include "toobig.h"

#define PATH	1300			/* largest outer packet of the narrow path */
#define NARROW	(PATH - 36 - 14)	/* largest inner packet: outer IPv4, UDP, VXLAN, Ethernet */
#define DF	0x4000
#define MF	0x2000

static uint32_t random_state;

static uint32_t random_below(uint32_t limit)
{
	random_state = random_state * 1664525 + 1013904223;
	return (random_state >> 8) % limit;
}

/** sum_of() - The Internet checksum by the simplest loop; 0xffff over something that contains a valid one */
static uint16_t sum_of(const uint8_t *data, uint32_t len, uint32_t sum)
{
	for (uint32_t i = 0; i < len; i++)
		sum += i % 2 ? data[i] : (uint32_t)data[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

static void put_ipv4_csum(uint8_t *ip)
{
	vx_put16(ip + 10, 0);
	vx_put16(ip + 10, (uint16_t)~sum_of(ip, (ip[0] & 15u) * 4, 0));
}

static void set_flags(uint8_t *ip, uint16_t flags)
{
	vx_put16(ip + 6, flags);
	put_ipv4_csum(ip);
}

static struct scene *scene_with_narrow_path(void)
{
	struct scene *scene = scene_new(true);

	vx_net_vtep(scene->tables, (uint32_t)scene->member)->seat->path_mtu = PATH;
	return scene;
}

/** put_large() - A UDP packet of @total bytes from A to the far endpoint. Return: length of the frame */
static uint32_t put_large(uint8_t *room, unsigned version, uint32_t total)
{
	struct packet packet = packet_between(MAC_A, 0x11, MAC_FAR, 0x21);

	packet.len = total - (version == 4 ? 28 : 48);
	if (version == 6) {
		address6(packet.source, 0x11);
		address6(packet.target, 0x21);
	}
	return put_packet(room, &packet, version);
}

static void the_sender_of_a_packet_with_df_is_told_the_mtu(void)
{
	struct scene *scene = scene_with_narrow_path();
	uint32_t len = put_large(tap_room(scene), 4, NARROW);
	const uint8_t *answer, *ip;

	REASON(from_port(scene, scene->a, len), VX_OK);
	EQUAL(scene->frame.answer, 0);
	EQUAL(scene->frame.fit, 0);
	len = put_large(tap_room(scene), 4, NARROW + 1);
	REASON(from_port(scene, scene->a, len), VX_PKT_TOO_BIG);
	EQUAL(scene->frame.act, VX_ACT_DROP);
	EQUAL(scene->frame.answer, 14 + 576);

	answer = scene->frame.spare;
	ip = answer + 14;
	EQUAL(vx_mac(answer), MAC_A);
	EQUAL(vx_mac(answer + 6), MAC_FAR);
	EQUAL(vx_get16(answer + 12), VX_ETHERTYPE_IPV4);
	EQUAL(ip[0], 0x45);
	EQUAL(vx_get16(ip + 2), 576);
	EQUAL(sum_of(ip, 20, 0), 0xffff);
	EQUAL(ip[9], 1);
	CHECK(memcmp(ip + 12, tap_room(scene) + 14 + 16, 4) == 0);	/* from where the packet was going */
	CHECK(memcmp(ip + 16, tap_room(scene) + 14 + 12, 4) == 0);
	EQUAL(ip[20], 3);
	EQUAL(ip[21], 4);
	EQUAL(vx_get16(ip + 24), 0);
	EQUAL(vx_get16(ip + 26), NARROW);
	EQUAL(sum_of(ip + 20, 556, 0), 0xffff);
	CHECK(memcmp(ip + 28, tap_room(scene) + 14, 548) == 0);
	scene_free(scene);
}

static void the_sender_of_ipv6_is_told_the_mtu(void)
{
	struct scene *scene = scene_with_narrow_path();
	struct vx_vtep *vtep = vx_net_vtep(scene->tables, (uint32_t)scene->member);
	const uint8_t *answer = scene->spare + VX_HEADROOM, *ip = answer + 14;
	uint32_t len, sum = 0;

	vtep->seat->path_mtu = 1400;
	len = put_large(tap_room(scene), 6, 1400 - 50);
	REASON(from_port(scene, scene->a, len), VX_OK);
	len = put_large(tap_room(scene), 6, 1400 - 49);
	REASON(from_port(scene, scene->a, len), VX_PKT_TOO_BIG);
	EQUAL(scene->frame.answer, 14 + 1280);
	EQUAL(vx_mac(answer), MAC_A);
	EQUAL(vx_mac(answer + 6), MAC_FAR);
	EQUAL(vx_get16(ip + 4), 1240);
	EQUAL(ip[6], VX_PROTO_ICMPV6);
	CHECK(memcmp(ip + 8, tap_room(scene) + 14 + 24, 16) == 0);
	CHECK(memcmp(ip + 24, tap_room(scene) + 14 + 8, 16) == 0);
	EQUAL(ip[40], 2);
	EQUAL(ip[41], 0);
	EQUAL(vx_get32(ip + 44), 1350);
	CHECK(memcmp(ip + 48, tap_room(scene) + 14, 1232) == 0);
	sum = sum_of(ip + 8, 32, 1240 + VX_PROTO_ICMPV6);
	EQUAL(sum_of(ip + 40, 1240, sum), 0xffff);

	vtep->seat->path_mtu = 1280 + 50;
	REASON(from_port(scene, scene->a, len), VX_PKT_TOO_BIG);
	EQUAL(scene->frame.answer, 14 + 1280);
	vtep->seat->path_mtu--;				/* below what IPv6 allows: a host would not listen */
	REASON(from_port(scene, scene->a, len), VX_PKT_TOO_BIG);
	EQUAL(scene->frame.answer, 0);
	scene_free(scene);
}

static void a_tagged_packet_is_answered_under_its_tag(void)
{
	struct scene *scene = scene_with_narrow_path();
	uint8_t plain[2000], *room = tap_room(scene);
	uint32_t len = put_large(plain, 4, NARROW - 3);

	scene->network->flags |= VX_NETWORK_VLAN_PASS;
	memcpy(room, plain, 12);
	vx_put32(room + 12, 0x81000005);
	memcpy(room + 16, plain + 12, len - 12);
	REASON(from_port(scene, scene->a, len + 4), VX_PKT_TOO_BIG);
	EQUAL(scene->frame.answer, 18 + 576);
	EQUAL(vx_get32(scene->frame.spare + 12), 0x81000005);
	EQUAL(vx_get16(scene->frame.spare + 16), VX_ETHERTYPE_IPV4);
	EQUAL(vx_get16(scene->frame.spare + 18 + 26), NARROW - 4);
	scene_free(scene);
}

/** told() - Whether the sender of the frame in tap_room() would be told */
static bool told(struct scene *scene, uint32_t len)
{
	struct vx_frame frame = { .data = tap_room(scene), .len = len };

	CHECK(vx_eth_parse(frame.data, len, &frame.eth) == VX_OK);
	return vx_toobig_may_answer(&frame, 1280);
}

/** icmp() - A packet of ICMP or ICMPv6 with DF, with a type to be set. Return: length of the frame */
static uint32_t icmp(struct scene *scene, unsigned version, uint8_t type)
{
	struct packet packet = packet_between(MAC_A, 0x11, MAC_FAR, 0x21);
	uint32_t len;

	packet.protocol = version == 4 ? 1 : VX_PROTO_ICMPV6;
	address6(packet.source, 0x11);
	address6(packet.target, 0x21);
	if (version == 4) {
		address4(packet.source, 0x11);
		address4(packet.target, 0x21);
	}
	len = put_packet(tap_room(scene), &packet, version);
	tap_room(scene)[14 + (version == 4 ? 20 : 40)] = type;
	return len;
}

static void nobody_is_told_about_an_error_or_what_one_host_did_not_send(void)
{
	static const uint8_t errors4[] = { 3, 4, 5, 11, 12 }, errors6[] = { 1, 2, 3, 4, 127, 137 };
	static const uint8_t nobody4[][4] = {
		{ 0, 0, 0, 1 }, { 127, 0, 0, 1 }, { 224, 0, 0, 1 }, { 255, 255, 255, 255 },
	};
	static const uint8_t nobody6[][16] = { { 0 }, { [15] = 1 }, { 0xff, 2, [15] = 1 } };
	struct scene *scene = scene_new(false);
	uint8_t *ip = tap_room(scene) + 14;

	CHECK(told(scene, icmp(scene, 4, 8)));
	for (unsigned i = 0; i < sizeof(errors4); i++)
		CHECK(!told(scene, icmp(scene, 4, errors4[i])));
	CHECK(told(scene, icmp(scene, 6, 128)));
	for (unsigned i = 0; i < sizeof(errors6); i++)
		CHECK(!told(scene, icmp(scene, 6, errors6[i])));
	for (unsigned i = 0; i < 4; i++)
		for (unsigned at = 12; at <= 16; at += 4) {
			uint32_t len = put_large(tap_room(scene), 4, 200);

			CHECK(told(scene, len));
			memcpy(ip + at, nobody4[i], 4);
			CHECK(!told(scene, len));
		}
	for (unsigned i = 0; i < 3; i++)
		for (unsigned at = 8; at <= 24; at += 16) {
			uint32_t len = put_large(tap_room(scene), 6, 200);

			CHECK(told(scene, len));
			memcpy(ip + at, nobody6[i], 16);
			CHECK(!told(scene, len));
		}
	scene_free(scene);
}

static void only_a_first_fragment_and_only_unicast_is_answered(void)
{
	struct scene *scene = scene_new(false);
	uint8_t *ip = tap_room(scene) + 14;
	uint32_t len = put_large(tap_room(scene), 4, 200);

	set_flags(ip, DF | MF);
	CHECK(told(scene, len));
	set_flags(ip, DF | MF | 1);
	CHECK(!told(scene, len));
	set_flags(ip, DF);
	CHECK(told(scene, len));
	tap_room(scene)[0] |= 1;
	CHECK(!told(scene, len));
	len = put_arp(tap_room(scene), 1, MAC_A, 0x11, 0x21);
	vx_mac_put(tap_room(scene), MAC_FAR);
	CHECK(!told(scene, len));
	scene_free(scene);
}

static void answers_are_rationed_per_endpoint_and_a_dry_decision_costs_none(void)
{
	struct scene *scene = scene_with_narrow_path();
	uint32_t len = put_large(tap_room(scene), 4, NARROW + 1);
	struct vx_when dry = { .now_ns = scene->now_ns, .dry = true };
	unsigned answers = 0;

	for (unsigned i = 0; i < 1000; i++) {
		REASON(from_port(scene, scene->a, len), VX_PKT_TOO_BIG);
		answers += scene->frame.answer != 0;
	}
	EQUAL(answers, VX_ANSWER_BURST);
	scene->now_ns += 1000000000u;
	dry.now_ns = scene->now_ns;
	for (unsigned i = 0; i < 1000; i++) {
		vx_switch(scene->tables, &scene->frame, 1, dry);
		CHECK(scene->frame.answer != 0);
	}
	for (answers = 0; from_port(scene, scene->a, len) == VX_PKT_TOO_BIG && scene->frame.answer; answers++)
		;
	EQUAL(answers, VX_ANSWER_RATE);
	scene_free(scene);
}

/* Reassembly as RFC 791 section 3.2 has it, of fragments that come in order */
struct reassembly {
	uint8_t payload[66000];
	uint32_t len;
	bool complete;
};

static void reassemble(struct reassembly *all, const uint8_t *fragment, uint32_t len, const uint8_t *original,
		       uint32_t mtu)
{
	const uint8_t *ip = fragment + 14;
	uint32_t header = (ip[0] & 15u) * 4, total = vx_get16(ip + 2), base = vx_get16(original + 6) & 0x1fff;

	CHECK(!all->complete);
	EQUAL(len, 14 + total);
	CHECK(total <= mtu);
	EQUAL(sum_of(ip, header, 0), 0xffff);
	EQUAL(vx_get16(ip + 4), vx_get16(original + 4));
	CHECK(ip[1] == original[1] && ip[8] == original[8] && ip[9] == original[9]);
	CHECK(memcmp(ip + 12, original + 12, 8) == 0);
	EQUAL((vx_get16(ip + 6) & 0x1fff) - base, all->len / 8);
	EQUAL(vx_get16(ip + 6) & DF, 0);
	memcpy(all->payload + all->len, ip + header, total - header);
	all->len += total - header;
	all->complete = !(vx_get16(ip + 6) & MF);
	if (!all->complete)
		EQUAL(all->len % 8, 0);
}

static void fragments_reassemble_to_the_packet(void)
{
	static struct reassembly all;
	static uint8_t frame[70000], out[70000];

	random_state = 7;
	for (unsigned round = 0; round < 3000; round++) {
		uint32_t options = random_below(11) * 4, payload = 1 + random_below(round % 50 ? 3000 : 65000);
		uint32_t header = 20 + options, mtu = 68 + random_below(1500), next = 0, len, count = 0;
		uint16_t offset = (uint16_t)(random_below(3) ? 0 : random_below(64));
		bool more = offset && random_below(2);
		struct vx_frame packet = { .data = frame, .eth = { .version = 4, .l3 = 14 } };
		uint8_t *ip = frame + 14;

		payload = more ? payload & ~7u : payload;
		if (header + payload <= mtu)
			continue;
		memset(frame, 0x5a, 14 + header);
		memset(ip + 20, 1, options);				/* no operation */
		for (uint32_t i = 0; i < payload; i++)
			ip[header + i] = (uint8_t)random_below(256);
		ip[0] = (uint8_t)(0x40 | header / 4);
		vx_put16(ip + 2, (uint16_t)(header + payload));
		set_flags(ip, (uint16_t)((more ? MF : 0) | offset));
		CHECK(vx_toobig_may_fragment(&packet, mtu));
		all.len = 0;
		all.complete = false;
		while ((len = vx_toobig_fragment(&packet, mtu, &next, out)) != 0) {
			CHECK(memcmp(out, frame, 14) == 0);
			reassemble(&all, out, len, ip, mtu);
			count++;
		}
		CHECK(count >= 2);
		EQUAL(all.complete, !more);
		EQUAL(all.len, payload);
		CHECK(memcmp(all.payload, ip + header, payload) == 0);
	}
}

static void options_are_copied_by_their_flag(void)
{
	static const uint8_t options[24] = {
		68, 8, 5, 0, 1, 2, 3, 4,	/* timestamp: not copied */
		1,				/* no operation */
		148, 4, 0, 0,			/* router alert: copied */
		7, 7, 4, 9, 9, 9, 9,		/* record route: not */
		130, 3, 8, 0,			/* security: copied; end */
	};
	static const uint8_t copied[8] = { 148, 4, 0, 0, 130, 3, 8, 0 };
	uint8_t frame[2000], out[2000], *ip = frame + 14;
	struct vx_frame packet = { .data = frame, .eth = { .version = 4, .l3 = 14 } };
	uint32_t next = 0;

	memset(frame, 0, sizeof(frame));
	ip[0] = 0x40 | 11;
	vx_put16(ip + 2, 44 + 1000);
	memcpy(ip + 20, options, 24);
	put_ipv4_csum(ip);
	EQUAL(vx_toobig_fragment(&packet, 548, &next, out), 14 + 44 + 504);
	EQUAL(out[14], 0x40 | 11);
	CHECK(memcmp(out + 34, options, 24) == 0);
	EQUAL(vx_toobig_fragment(&packet, 548, &next, out), 14 + 28 + 496);
	EQUAL(out[14], 0x40 | 7);
	CHECK(memcmp(out + 34, copied, 8) == 0);
	EQUAL(sum_of(out + 14, 28, 0), 0xffff);
	EQUAL(vx_toobig_fragment(&packet, 548, &next, out), 0);

	ip[20] = 130;			/* the first option claims more than there is: none is copied */
	ip[21] = 200;
	next = 504;
	EQUAL(vx_toobig_fragment(&packet, 548, &next, out), 14 + 20 + 496);
}

static void a_damaged_header_or_an_impossible_offset_is_not_fragmented(void)
{
	struct scene *scene = scene_with_narrow_path();
	uint8_t *ip = tap_room(scene) + 14;
	uint32_t len = put_large(tap_room(scene), 4, NARROW + 1);

	set_flags(ip, 0);
	REASON(from_port(scene, scene->a, len), VX_OK);
	EQUAL(scene->frame.act, VX_ACT_VTEP);
	EQUAL(scene->frame.fit, NARROW);
	EQUAL(scene->frame.answer, 0);
	ip[10] ^= 1;
	REASON(from_port(scene, scene->a, len), VX_PKT_TOO_BIG);
	set_flags(ip, 0x1fff);		/* ends beyond 65535 */
	REASON(from_port(scene, scene->a, len), VX_PKT_TOO_BIG);
	set_flags(ip, 0x1000);
	REASON(from_port(scene, scene->a, len), VX_OK);
	scene_free(scene);
}

static void other_frames_are_dropped_and_counted(void)
{
	struct scene *scene = scene_with_narrow_path();
	uint32_t len = put_large(tap_room(scene), 4, NARROW + 1);

	vx_put16(tap_room(scene) + 12, 0x88cc);
	REASON(from_port(scene, scene->a, len), VX_PKT_TOO_BIG);
	EQUAL(scene->frame.answer, 0);
	EQUAL(scene->frame.fit, 0);
	REASON(from_port(scene, scene->a, len - 1), VX_OK);
	scene_free(scene);
}

static void bytes_behind_the_packet_are_no_reason(void)
{
	struct scene *scene = scene_with_narrow_path();
	uint32_t len = put_large(tap_room(scene), 4, NARROW);

	REASON(from_port(scene, scene->a, len + 20), VX_OK);
	EQUAL(scene->frame.len, len);
	len = put_large(tap_room(scene), 4, 100);
	REASON(from_port(scene, scene->a, len + 20), VX_OK);
	EQUAL(scene->frame.len, len + 20);	/* what fits stays as it is */
	scene_free(scene);
}

static void a_flood_has_a_form_for_each_path_and_tells_of_unicast(void)
{
	struct scene *scene = scene_with_narrow_path();
	struct vx_vtep *narrow = vx_net_vtep(scene->tables, (uint32_t)scene->member);
	struct vx_vtep *wide = vx_net_vtep(scene->tables, (uint32_t)scene->second);
	struct vx_vtep *foreign = vx_net_vtep(scene->tables, (uint32_t)scene->foreign);
	uint32_t len = put_large(tap_room(scene), 4, NARROW + 1);

	vx_mac_put(tap_room(scene), 0xffffffffffff);
	set_flags(tap_room(scene) + 14, 0);
	REASON(from_port(scene, scene->a, len), VX_OK);
	EQUAL(scene->frame.act, VX_ACT_FLOOD);
	REASON(vx_switch_fit_vtep(&scene->frame, narrow), VX_OK);
	EQUAL(scene->frame.fit, NARROW);
	REASON(vx_switch_fit_vtep(&scene->frame, wide), VX_OK);
	EQUAL(scene->frame.fit, 0);
	set_flags(tap_room(scene) + 14, DF);
	REASON(from_port(scene, scene->a, len), VX_OK);
	REASON(vx_switch_fit_vtep(&scene->frame, narrow), VX_PKT_TOO_BIG);
	EQUAL(scene->frame.answer, 0);

	vx_mac_put(tap_room(scene), MAC_NOBODY);	/* only the foreign VTEP may know it */
	REASON(from_port(scene, scene->a, len), VX_OK);
	EQUAL(scene->frame.answer, 0);
	foreign->seat->path_mtu = PATH;
	REASON(from_port(scene, scene->a, len), VX_OK);
	EQUAL(scene->frame.act, VX_ACT_FLOOD);
	EQUAL(scene->frame.answer, 14 + 576);
	scene_free(scene);
}

CASES(CASE(the_sender_of_a_packet_with_df_is_told_the_mtu), CASE(the_sender_of_ipv6_is_told_the_mtu),
      CASE(a_tagged_packet_is_answered_under_its_tag),
      CASE(nobody_is_told_about_an_error_or_what_one_host_did_not_send),
      CASE(only_a_first_fragment_and_only_unicast_is_answered),
      CASE(answers_are_rationed_per_endpoint_and_a_dry_decision_costs_none),
      CASE(fragments_reassemble_to_the_packet), CASE(options_are_copied_by_their_flag),
      CASE(a_damaged_header_or_an_impossible_offset_is_not_fragmented),
      CASE(other_frames_are_dropped_and_counted), CASE(bytes_behind_the_packet_are_no_reason),
      CASE(a_flood_has_a_form_for_each_path_and_tells_of_unicast))
