/* unit_pure.c - headers and checksums: vxlan, eth, csum, ecn */
#include "check.h"
#include "csum.h"
#include "ecn.h"
#include "eth.h"
#include "scene.h"
#include "vxlan.h"

static void vxlan_header_goes_there_and_back(void)
{
	uint8_t bytes[22] = { 0 };
	bool reserved;
	uint32_t vni;

	vx_vxlan_put(bytes, 0xabcdef);
	REASON(vx_vxlan_parse(bytes, 22, &vni, &reserved), VX_OK);
	EQUAL(vni, 0xabcdef);
	CHECK(!reserved);
	EQUAL(bytes[0], 8);
	for (unsigned bit = 0; bit < 64; bit++) {
		uint8_t other[22];

		memcpy(other, bytes, 22);
		other[bit / 8] ^= (uint8_t)(1 << bit % 8);
		if (bit == 3) {
			REASON(vx_vxlan_parse(other, 22, &vni, &reserved), VX_VXLAN_INVALID_HDR);
			continue;
		}
		REASON(vx_vxlan_parse(other, 22, &vni, &reserved), VX_OK);
		EQUAL(reserved, bit < 32 || bit >= 56);
	}
	for (uint32_t len = 0; len < 22; len++)
		REASON(vx_vxlan_parse(bytes, len, &vni, &reserved), VX_HDR_TRUNC);
}

static uint16_t slow_sum(const uint8_t *data, uint32_t len)
{
	uint32_t sum = 0;

	for (uint32_t i = 0; i < len; i++)
		sum += i % 2 ? data[i] : (uint32_t)data[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

static void sums_agree_with_the_textbook_at_every_length_and_alignment(void)
{
	uint8_t data[200];

	srand(7);
	for (unsigned i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)rand();
	for (uint32_t offset = 0; offset < 9; offset++)
		for (uint32_t len = 0; len + offset <= sizeof(data); len++)
			EQUAL(vx_csum_fold(vx_csum_add(data + offset, len, 0)), slow_sum(data + offset, len));
	memset(data, 0xff, sizeof(data));
	EQUAL(vx_csum_fold(vx_csum_add(data, sizeof(data), 0)), 0xffff);
	EQUAL(vx_csum_fold(vx_csum_add(data, sizeof(data), 0xffffffff)), 0xffff);
}

static void an_adjusted_checksum_is_the_recomputed_one(void)
{
	uint8_t words[8] = { 0x45, 0, 0, 99, 0x12, 0x34, 0xff, 0xff };

	for (uint32_t value = 0; value <= 0xffff; value += 257) {
		uint16_t before = vx_get16(words + 2), csum = (uint16_t)~slow_sum(words, 8);

		vx_put16(words + 2, (uint16_t)value);
		EQUAL(vx_csum_adjust(csum, before, (uint16_t)value), (uint16_t)~slow_sum(words, 8));
	}
}

static void a_partial_checksum_is_completed(void)
{
	for (unsigned version = 4; version <= 6; version += 2) {
		for (uint32_t len = 0; len < 40; len++) {
			struct packet packet = packet_between(MAC_A, 0x11, MAC_B, 0x12);
			uint8_t frame[200];
			struct vx_eth eth;
			struct vx_vnet vnet = { .flags = VX_VNET_NEEDS_CSUM, .csum_offset = 6 };
			uint32_t total;
			uint16_t whole, pseudo;

			packet.len = len;
			total = put_packet(frame, &packet, version);
			REASON(vx_eth_parse(frame, total, &eth), VX_OK);
			CHECK(vx_csum_valid(frame, &eth));
			whole = vx_get16(frame + eth.l4 + 6);
			pseudo = vx_csum_fold(vx_csum_pseudo(frame + eth.l3, version, VX_PROTO_UDP, eth.end - eth.l4));
			EQUAL(vx_csum_inspect(frame, &eth), VX_CSUM_OTHER);
			vx_put16(frame + eth.l4 + 6, pseudo);
			EQUAL(vx_csum_inspect(frame, &eth), VX_CSUM_PARTIAL);
			vnet.csum_start = eth.l4;
			CHECK(vx_csum_complete(frame, total, &vnet));
			EQUAL(vx_get16(frame + eth.l4 + 6), whole);
			EQUAL(vnet.flags, 0);
		}
	}
}

static void a_udp_checksum_of_zero_is_sent_as_ffff(void)
{
	struct vx_vnet vnet = { .flags = VX_VNET_NEEDS_CSUM, .csum_start = 14, .csum_offset = 6 };
	uint8_t frame[22] = { 0 };

	frame[14] = 0xff;
	frame[15] = 0xff;
	CHECK(vx_csum_complete(frame, sizeof(frame), &vnet));
	EQUAL(vx_get16(frame + 20), 0xffff);

	vnet = (struct vx_vnet){ .flags = VX_VNET_NEEDS_CSUM, .csum_start = 14, .csum_offset = 4 };
	memset(frame + 14, 0, 8);
	frame[14] = 0xff;
	frame[15] = 0xff;
	CHECK(vx_csum_complete(frame, sizeof(frame), &vnet));
	EQUAL(vx_get16(frame + 18), 0);
}

static void a_checksum_outside_the_frame_is_refused(void)
{
	struct vx_vnet vnet = { .flags = VX_VNET_NEEDS_CSUM, .csum_start = 14, .csum_offset = 6 };
	uint8_t frame[22] = { 0 };

	CHECK(!vx_csum_complete(frame, 21, &vnet));
	vnet.csum_start = 0xffff;
	vnet.csum_offset = 0xffff;
	CHECK(!vx_csum_complete(frame, 22, &vnet));
	vnet.csum_start = 13;
	CHECK(!vx_csum_complete(frame, 22, &vnet));
}

static void ecn_follows_rfc_6040_figure_4(void)
{
	enum { N, E1, E0, C, X };
	static const uint8_t figure4[4][4] = {	/* rows inner, columns outer: Not, ECT1, ECT0, CE */
		{ N, N, N, X }, { E1, E1, E1, C }, { E0, E1, E0, C }, { C, C, C, C },
	};

	for (unsigned version = 4; version <= 6; version += 2) {
		for (uint8_t cell = 0; cell < 16; cell++) {
			struct packet packet = packet_between(MAC_A, 0x11, MAC_B, 0x12);
			uint8_t inner = cell / 4, outer = cell % 4, frame[200];
			enum vx_reason reason;
			struct vx_eth eth;
			uint32_t total;

			packet.tos = (uint8_t)(0xb8 | inner);
			total = put_packet(frame, &packet, version);
			REASON(vx_eth_parse(frame, total, &eth), VX_OK);
			EQUAL(eth.tos, 0xb8 | inner);
			EQUAL(vx_ecn_encapsulate(&eth), inner);
			reason = vx_ecn_decapsulate(frame, &eth, (uint8_t)(0x28 | outer));
			REASON(reason, figure4[inner][outer] == X ? VX_IP_TUNNEL_ECN : VX_OK);
			if (reason)
				continue;
			REASON(vx_eth_parse(frame, total, &eth), VX_OK);
			EQUAL(eth.tos, 0xb8 | figure4[inner][outer]);
			if (version == 4)
				EQUAL(slow_sum(frame + 14, 20), 0xffff);
		}
	}
}

static void what_is_cut_off_is_never_read(void)
{
	struct packet packet = packet_between(MAC_A, 0x11, MAC_B, 0x12);

	for (unsigned version = 4; version <= 6; version += 2) {
		uint8_t whole[300];
		uint32_t total = put_packet(whole, &packet, version);

		for (uint32_t len = 0; len <= total; len++) {
			uint8_t *cut = malloc(len ? len : 1);	/* so that the sanitizer sees a read behind it */
			struct vx_eth eth;

			memcpy(cut, whole, len);
			REASON(vx_eth_parse(cut, len, &eth), len == total ? VX_OK : VX_HDR_TRUNC);
			free(cut);
		}
	}
}

static void tags_and_extension_headers_are_walked(void)
{
	struct packet packet = packet_between(MAC_A, 0x11, MAC_B, 0x12);
	uint8_t plain[300], tagged[300];
	uint32_t total = put_packet(plain, &packet, 4);
	struct vx_eth eth;

	memcpy(tagged, plain, 12);
	vx_put32(tagged + 12, 0x88a80001);
	vx_put32(tagged + 16, 0x81000002);
	memcpy(tagged + 20, plain + 12, total - 12);
	REASON(vx_eth_parse(tagged, total + 8, &eth), VX_OK);
	CHECK(eth.vlan);
	EQUAL(eth.l3, 22);
	EQUAL(eth.l4, 42);

	packet.protocol = 0;		/* hop-by-hop, then UDP behind it */
	packet.len = 24;
	total = put_packet(plain, &packet, 6);
	memset(plain + 54, 0, 24);
	plain[54] = VX_PROTO_UDP;
	REASON(vx_eth_parse(plain, total, &eth), VX_OK);
	EQUAL(eth.l4, 62);
	EQUAL(eth.protocol, VX_PROTO_UDP);
	plain[55] = 200;		/* an extension longer than the packet */
	plain[54] = 60;
	REASON(vx_eth_parse(plain, total, &eth), VX_HDR_TRUNC);
}

static bool deserves_plain(const struct vx_eth *eth)
{
	bool whole = eth->version && eth->l4 && eth->l4 + 8u <= eth->end && !eth->fragment;

	return whole && !eth->group && !eth->vlan && (eth->protocol == VX_PROTO_TCP || eth->protocol == VX_PROTO_UDP);
}

/* Any two bytes of the headers, and any length, may be wrong: plain is said of all that is, and of nothing else */
static void plain_is_what_no_special_rule_speaks_of(void)
{
	unsigned plain = 0, special = 0;

	srand(17);
	for (unsigned i = 0; i < 200000; i++) {
		static const uint8_t values[] = { 0, 1, 2, 4, 6, 8, 17, 20, 28, 44, 0x45, 0x46, 0x60, 0x81, 0x86 };
		struct packet packet = packet_between(MAC_A, 0x11, MAC_B, 0x12);
		uint8_t frame[300];
		struct vx_eth eth;
		uint32_t total;

		packet.protocol = i & 1 ? VX_PROTO_TCP : VX_PROTO_UDP;
		packet.len = (uint32_t)rand() % 24;
		total = put_packet(frame, &packet, i & 2 ? 4 : 6);
		for (unsigned n = 0; n < 2; n++)
			frame[(uint32_t)rand() % total] = values[(unsigned)rand() % sizeof(values)];
		if (vx_eth_parse(frame, total, &eth) != VX_OK)
			continue;
		EQUAL(eth.plain, deserves_plain(&eth));
		plain += eth.plain;
		special += !eth.plain;
	}
	CHECK(plain > 10000 && special > 10000);
}

static void fragments_of_a_datagram_hash_alike(void)
{
	struct packet packet = packet_between(MAC_A, 0x11, MAC_B, 0x12);
	uint8_t first[300], later[300], other[300];
	uint32_t total = put_packet(first, &packet, 4);
	struct vx_eth one, two;

	put_packet(other, &packet, 4);
	other[34] ^= 1;
	vx_eth_parse(first, total, &one);
	vx_eth_parse(other, total, &two);
	CHECK(vx_eth_hash(first, &one) != vx_eth_hash(other, &two));

	vx_put16(first + 20, 0x2000);
	memcpy(later, other, total);
	vx_put16(later + 20, 0x0010);
	vx_eth_parse(first, total, &one);
	vx_eth_parse(later, total, &two);
	CHECK(one.l4 && !two.l4);
	EQUAL(vx_eth_hash(first, &one), vx_eth_hash(later, &two));
}

static void both_directions_of_a_flow_have_one_number(void)
{
	for (unsigned version = 4; version <= 6; version += 2) {
		struct packet there = packet_between(MAC_A, 0x11, MAC_B, 0x12);
		struct packet back = packet_between(MAC_B, 0x12, MAC_A, 0x11);
		uint8_t one[300], other[300];
		uint32_t ports = version == 4 ? 34 : 54, total = put_packet(one, &there, version);
		struct vx_eth eth, reply;

		put_packet(other, &back, version);
		memcpy(other + ports, one + ports + 2, 2);
		memcpy(other + ports + 2, one + ports, 2);
		vx_eth_parse(one, total, &eth);
		vx_eth_parse(other, total, &reply);
		EQUAL(vx_eth_flow(one, &eth), vx_eth_flow(other, &reply));
		CHECK(vx_eth_hash(one, &eth) != vx_eth_hash(other, &reply));
		other[ports] ^= 1;
		CHECK(vx_eth_flow(one, &eth) != vx_eth_flow(other, &reply));
	}
}

CASES(CASE(vxlan_header_goes_there_and_back), CASE(sums_agree_with_the_textbook_at_every_length_and_alignment),
      CASE(an_adjusted_checksum_is_the_recomputed_one), CASE(a_partial_checksum_is_completed),
      CASE(a_udp_checksum_of_zero_is_sent_as_ffff), CASE(a_checksum_outside_the_frame_is_refused),
      CASE(ecn_follows_rfc_6040_figure_4), CASE(what_is_cut_off_is_never_read),
      CASE(tags_and_extension_headers_are_walked),
      CASE(plain_is_what_no_special_rule_speaks_of), CASE(fragments_of_a_datagram_hash_alike),
      CASE(both_directions_of_a_flow_have_one_number))
