/* unit_switch.c - the decision: every reason it can give, each beside a frame that passes */
#include "check.h"
#include "csum.h"
#include "eth.h"
#include "probe.h"
#include "scene.h"
#include "vxlan.h"

static uint32_t put_udp(uint8_t *room, uint64_t from, unsigned source, uint64_t to, unsigned target)
{
	struct packet packet = packet_between(from, source, to, target);

	return put_packet(room, &packet, 4);
}

static void unicast_goes_where_the_record_says(void)
{
	struct scene *scene = scene_new(false);
	uint32_t len = put_udp(tap_room(scene), MAC_A, 0x11, MAC_B, 0x12);

	REASON(from_port(scene, scene->a, len), VX_OK);
	EQUAL(scene->frame.act, VX_ACT_PORT);
	EQUAL(scene->frame.target, scene->b);

	len = put_udp(tap_room(scene), MAC_A, 0x11, MAC_FAR, 0x21);
	REASON(from_port(scene, scene->a, len), VX_OK);
	EQUAL(scene->frame.act, VX_ACT_VTEP);
	EQUAL(scene->frame.target, scene->member);
	EQUAL(vx_get32(scene->frame.data - 8), 0x08000000);
	EQUAL(vx_get32(scene->frame.data - 4), VNI << 8);

	len = put_udp(tunnel_room(scene), MAC_FAR, 0x21, MAC_A, 0x11);
	REASON(from_vtep(scene, 2, len), VX_OK);
	EQUAL(scene->frame.act, VX_ACT_PORT);
	EQUAL(scene->frame.target, scene->a);
	scene_free(scene);
}

static void a_malformed_tunnel_header_is_dropped(void)
{
	struct scene *scene = scene_new(false);
	uint32_t len = put_udp(tunnel_room(scene), MAC_FAR, 0x21, MAC_A, 0x11);

	REASON(from_vtep(scene, 2, 13), VX_HDR_TRUNC);
	REASON(from_vtep(scene, 2, len), VX_OK);
	tap_room(scene)[0] = 0;
	scene->frame.data = tap_room(scene);
	scene->frame.len = len + 8;
	scene->frame.from_id = VX_NONE;
	vx_switch(scene->tables, &scene->frame, 1, (struct vx_when){ .now_ns = scene->now_ns });
	REASON(scene->frame.reason, VX_VXLAN_INVALID_HDR);
	vx_vxlan_put(tap_room(scene), VNI + 1);
	scene->frame.data = tap_room(scene);
	scene->frame.len = len + 8;
	vx_switch(scene->tables, &scene->frame, 1, (struct vx_when){ .now_ns = scene->now_ns });
	REASON(scene->frame.reason, VX_VXLAN_VNI_NOT_FOUND);
	scene_free(scene);
}

/** receive() - Let the switch decide about @len bytes from the VXLAN header on */
static enum vx_reason receive(struct scene *scene, uint32_t len)
{
	scene->frame.data = tap_room(scene);
	scene->frame.len = len;
	scene->frame.from = VX_AT_VTEP;
	scene->frame.from_id = VX_NONE;
	vx_switch(scene->tables, &scene->frame, 1, (struct vx_when){ .now_ns = scene->now_ns });
	return scene->frame.reason;
}

static void a_probe_is_absorbed_and_told_and_only_a_whole_one(void)
{
	struct scene *scene = scene_new(false);
	uint8_t *datagram = tap_room(scene);

	vx_vxlan_put(datagram, 0);
	put_ethernet(datagram + VX_VXLAN_LEN, 0x0180c2000000, 0x024200000000, 0x88b5);
	vx_put32(datagram + 22, 0x76787001);
	vx_put32(datagram + 26, 0x01020304);
	vx_put32(datagram + 30, 0x05060708);
	REASON(receive(scene, 34), VX_OK);
	EQUAL(scene->frame.act, VX_ACT_ABSORB);
	EQUAL(scene->frame.event, VX_EVENT_PROBE);
	EQUAL(vx_probe_token(scene->frame.data), 0x0102030405060708ull);

	REASON(receive(scene, 33), VX_VXLAN_VNI_NOT_FOUND);
	EQUAL(scene->frame.event, 0);
	datagram[25] = 2;		/* another version of the format */
	REASON(receive(scene, 34), VX_VXLAN_VNI_NOT_FOUND);
	datagram[25] = 1;
	datagram[21] = 0;		/* another EtherType */
	REASON(receive(scene, 34), VX_VXLAN_VNI_NOT_FOUND);
	datagram[21] = 0xb5;
	vx_vxlan_put(datagram, VNI + 1);
	REASON(receive(scene, 34), VX_VXLAN_VNI_NOT_FOUND);
	scene_free(scene);
}

static void the_tunnel_brings_only_what_belongs_to_its_sender(void)
{
	struct scene *scene = scene_new(false);
	uint32_t len = put_udp(tunnel_room(scene), MAC_FAR, 0x21, MAC_A, 0x11);

	REASON(from_vtep(scene, 2, len), VX_OK);
	REASON(from_vtep(scene, 9, len), VX_VTEP_UNKNOWN);
	EQUAL(scene->frame.event, VX_EVENT_VTEP_UNKNOWN);
	REASON(from_vtep(scene, 4, len), VX_VTEP_UNKNOWN);	/* a VTEP, but not of this network */
	REASON(from_vtep(scene, 3, len), VX_VTEP_MAC);
	EQUAL(scene->frame.event, VX_EVENT_MAC_CONFLICT);
	len = put_udp(tunnel_room(scene), MAC_B, 0x12, MAC_A, 0x11);
	REASON(from_vtep(scene, 2, len), VX_LOCAL_MAC);
	len = put_udp(tunnel_room(scene), 0, 0x21, MAC_A, 0x11);
	REASON(from_vtep(scene, 2, len), VX_MAC_INVALID_SOURCE);
	len = put_udp(tunnel_room(scene), 0x010000000001, 0x21, MAC_A, 0x11);
	REASON(from_vtep(scene, 2, len), VX_MAC_INVALID_SOURCE);
	len = put_udp(tunnel_room(scene), MAC_FAR, 0x21, MAC_OTHER, 0x31);
	REASON(from_vtep(scene, 2, len), VX_SPLIT_HORIZON);
	len = put_udp(tunnel_room(scene), MAC_FAR, 0x21, MAC_NOBODY, 0xee);
	REASON(from_vtep(scene, 2, len), VX_FDB_MISS);
	scene_free(scene);
}

static void an_endpoint_sends_only_from_its_own(void)
{
	struct scene *scene = scene_new(false);
	uint32_t len = put_udp(tap_room(scene), MAC_A, 0x11, MAC_B, 0x12);

	REASON(from_port(scene, scene->a, len), VX_OK);
	REASON(from_port(scene, scene->b, len), VX_SRC_MAC_SPOOF);
	len = put_udp(tap_room(scene), MAC_A, 0x12, MAC_B, 0x12);
	REASON(from_port(scene, scene->a, len), VX_SRC_IP_SPOOF);
	len = put_udp(tap_room(scene), 0, 0x11, MAC_B, 0x12);
	REASON(from_port(scene, scene->a, len), VX_MAC_INVALID_SOURCE);
	vx_net_port(scene->tables, (uint32_t)scene->a)->flags = VX_PORT_ALLOW_SPOOF;
	len = put_udp(tap_room(scene), MAC_FAR, 0x99, MAC_B, 0x12);
	REASON(from_port(scene, scene->a, len), VX_OK);
	scene_free(scene);
}

static void a_host_without_address_may_look_for_one(void)
{
	struct scene *scene = scene_new(false);
	struct packet packet = packet_between(MAC_A, 0x11, 0xffffffffffff, 0xff);
	uint32_t len;

	memset(packet.source + 12, 0, 4);
	packet.source_port = 68;
	packet.target_port = 67;
	len = put_packet(tap_room(scene), &packet, 4);
	REASON(from_port(scene, scene->a, len), VX_OK);
	packet.target_port = 99;
	len = put_packet(tap_room(scene), &packet, 4);
	REASON(from_port(scene, scene->a, len), VX_SRC_IP_SPOOF);

	packet.protocol = VX_PROTO_ICMPV6;	/* MLD from ::, then an echo from :: */
	memset(packet.source, 0, 16);
	address6(packet.target, 0x99);
	len = put_packet(tap_room(scene), &packet, 6);
	tap_room(scene)[54] = 143;
	REASON(from_port(scene, scene->a, len), VX_OK);
	tap_room(scene)[54] = 128;
	REASON(from_port(scene, scene->a, len), VX_SRC_IP_SPOOF);

	vx_nbr_link_local(MAC_A, packet.source);
	len = put_packet(tap_room(scene), &packet, 6);
	tap_room(scene)[54] = 128;
	REASON(from_port(scene, scene->a, len), VX_OK);
	vx_nbr_link_local(MAC_B, packet.source);
	len = put_packet(tap_room(scene), &packet, 6);
	tap_room(scene)[54] = 128;
	REASON(from_port(scene, scene->a, len), VX_SRC_IP_SPOOF);
	scene_free(scene);
}

static void only_a_server_answers_dhcp_and_advertises_routes(void)
{
	struct scene *scene = scene_new(false);
	struct packet packet = packet_between(MAC_A, 0x11, MAC_B, 0x12);
	struct vx_port *port = vx_net_port(scene->tables, (uint32_t)scene->a);
	uint32_t len;

	for (unsigned round = 0; round < 2; round++) {
		enum vx_reason wanted = round ? VX_OK : VX_ROGUE_SERVER;

		packet = packet_between(MAC_A, 0x11, MAC_B, 0x12);
		packet.source_port = 67;
		packet.target_port = 68;
		len = put_packet(tap_room(scene), &packet, 4);
		REASON(from_port(scene, scene->a, len), wanted);
		address6(packet.source, 0x11);
		packet.source_port = 547;
		packet.target_port = 546;
		len = put_packet(tap_room(scene), &packet, 6);
		REASON(from_port(scene, scene->a, len), wanted);
		packet.protocol = VX_PROTO_ICMPV6;
		vx_nbr_link_local(MAC_A, packet.source);
		len = put_packet(tap_room(scene), &packet, 6);
		tap_room(scene)[54] = 134;
		REASON(from_port(scene, scene->a, len), wanted);
		port->flags = VX_PORT_ALLOW_SERVER;
	}
	scene_free(scene);
}

static void a_server_does_not_hide_behind_a_fragment(void)
{
	static const uint8_t headers[] = {
		60, 0, 0, 1, 0, 0, 0, 9,			/* fragment, the first, more to come */
		17, 0, 1, 4, 0, 0, 0, 0,			/* destination options, padding */
		547 >> 8, 547 & 255, 546 >> 8, 546 & 255, 0, 16, 0, 0,
	};
	struct scene *scene = scene_new(false);
	struct packet packet = { .to = MAC_B, .from = MAC_A, .protocol = 44, .len = sizeof(headers) };
	uint32_t len;

	address6(packet.source, 0x11);
	address6(packet.target, 0x12);
	len = put_packet(tap_room(scene), &packet, 6);
	memcpy(tap_room(scene) + 54, headers, sizeof(headers));
	REASON(from_port(scene, scene->a, len), VX_ROGUE_SERVER);
	packet.len -= 8;						/* ports in the next one: RFC 7112 */
	len = put_packet(tap_room(scene), &packet, 6);
	memcpy(tap_room(scene) + 54, headers, sizeof(headers) - 8);
	REASON(from_port(scene, scene->a, len), VX_HDR_TRUNC);
	tap_room(scene)[54] = 17;					/* the same bytes as 8 of UDP */
	REASON(from_port(scene, scene->a, len), VX_OK);
	scene_free(scene);
}

static void a_tagged_frame_needs_a_network_that_passes_tags(void)
{
	struct scene *scene = scene_new(false);
	uint8_t plain[200];
	uint32_t len = put_udp(plain, MAC_A, 0x11, MAC_B, 0x12);
	uint8_t *room = tap_room(scene);

	memcpy(room, plain, 12);
	vx_put32(room + 12, 0x81000005);
	memcpy(room + 16, plain + 12, len - 12);
	REASON(from_port(scene, scene->a, len + 4), VX_VLAN);
	len = put_udp(plain, MAC_FAR, 0x21, MAC_A, 0x11);
	room = tunnel_room(scene);
	memcpy(room, plain, 12);
	vx_put32(room + 12, 0x81000005);
	memcpy(room + 16, plain + 12, len - 12);
	REASON(from_vtep(scene, 2, len + 4), VX_VLAN);
	scene->network->flags |= VX_NETWORK_VLAN_PASS;
	REASON(from_vtep(scene, 2, len + 4), VX_OK);
	scene_free(scene);
}

static void unknown_unicast_goes_to_foreign_vteps_or_nowhere(void)
{
	for (int foreign = 0; foreign < 2; foreign++) {
		struct scene *scene = scene_new(foreign);
		uint32_t len = put_udp(tap_room(scene), MAC_A, 0x11, MAC_NOBODY, 0xee), next = 0, vtep;

		REASON(from_port(scene, scene->a, len), foreign ? VX_OK : VX_FDB_MISS);
		if (foreign) {
			EQUAL(scene->frame.act, VX_ACT_FLOOD);
			EQUAL(scene->frame.copies, 1);
			CHECK(vx_flood_next_vtep(scene->network, scene->frame.scope, &next, &vtep));
			EQUAL(vtep, scene->foreign);
			CHECK(!vx_flood_next_vtep(scene->network, scene->frame.scope, &next, &vtep));
		}
		scene_free(scene);
	}
}

static void broadcast_goes_to_members_and_locals_but_not_back_into_the_tunnel(void)
{
	struct scene *scene = scene_new(true);
	uint32_t len = put_udp(tap_room(scene), MAC_A, 0x11, 0xffffffffffff, 0xff), next = 0, id;

	REASON(from_port(scene, scene->a, len), VX_OK);
	EQUAL(scene->frame.act, VX_ACT_FLOOD);
	EQUAL(scene->frame.copies, 4);
	CHECK(vx_flood_next_local(scene->network, (uint32_t)scene->a, &next, &id) && id == (uint32_t)scene->b);
	CHECK(!vx_flood_next_local(scene->network, (uint32_t)scene->a, &next, &id));
	next = 0;
	CHECK(vx_flood_next_vtep(scene->network, scene->frame.scope, &next, &id) && id == (uint32_t)scene->member);
	CHECK(vx_flood_next_vtep(scene->network, scene->frame.scope, &next, &id) && id == (uint32_t)scene->second);
	CHECK(vx_flood_next_vtep(scene->network, scene->frame.scope, &next, &id) && id == (uint32_t)scene->foreign);
	CHECK(!vx_flood_next_vtep(scene->network, scene->frame.scope, &next, &id));

	len = put_udp(tunnel_room(scene), MAC_FAR, 0x21, 0xffffffffffff, 0xff);
	REASON(from_vtep(scene, 2, len), VX_OK);
	EQUAL(scene->frame.scope, VX_TO_LOCAL);
	EQUAL(scene->frame.copies, 2);
	scene_free(scene);
}

static void a_frame_for_nobody_else_has_no_target(void)
{
	struct scene *scene = scene_new(false);
	uint32_t len = put_udp(tap_room(scene), MAC_A, 0x11, MAC_A, 0x11);

	REASON(from_port(scene, scene->a, len), VX_NO_TX_TARGET);
	EQUAL(vx_net_port_del(scene->tables, (uint32_t)scene->b), 0);
	EQUAL(vx_net_vteps(scene->tables, (uint32_t)scene->net, NULL, 0), 0);
	len = put_udp(tap_room(scene), MAC_A, 0x11, 0xffffffffffff, 0xff);
	REASON(from_port(scene, scene->a, len), VX_NO_TX_TARGET);
	scene_free(scene);
}

static void a_gateway_takes_no_part_in_what_everybody_gets(void)
{
	struct scene *scene = scene_new(false);
	struct vx_port *port = calloc(1, sizeof(*port));
	uint32_t len = put_udp(tap_room(scene), MAC_A, 0x11, 0xffffffffffff, 0xff);
	int gateway;

	REASON(from_port(scene, scene->a, len), VX_OK);
	EQUAL(scene->frame.copies, 3);			/* B and two members */
	port->mac = MAC_ROUTER;
	port->mtu = MTU;
	port->flags = VX_PORT_ALLOW_SPOOF | VX_PORT_UNICAST;
	gateway = vx_net_port_add(scene->tables, port, (uint32_t)scene->net);
	CHECK(gateway >= 0);
	len = put_udp(tap_room(scene), MAC_A, 0x11, 0xffffffffffff, 0xff);
	REASON(from_port(scene, scene->a, len), VX_OK);
	EQUAL(scene->frame.copies, 3);
	len = put_udp(tap_room(scene), MAC_ROUTER, 0x21, 0xffffffffffff, 0xff);
	REASON(from_port(scene, gateway, len), VX_OK);
	EQUAL(scene->frame.act, VX_ACT_ABSORB);
	len = put_udp(tap_room(scene), MAC_ROUTER, 0x21, MAC_B, 0x12);
	REASON(from_port(scene, gateway, len), VX_OK);
	EQUAL(scene->frame.act, VX_ACT_PORT);		/* what it routes passes */
	EQUAL(vx_net_port_del(scene->tables, (uint32_t)gateway), 0);
	scene_free(scene);
}

static void a_storm_is_limited_by_copies_and_ends(void)
{
	struct scene *scene = scene_new(false);
	uint32_t len = put_udp(tap_room(scene), MAC_A, 0x11, 0xffffffffffff, 0xff);
	unsigned passed = 0;

	while (from_port(scene, scene->a, len) == VX_OK)
		passed++;
	REASON(scene->frame.reason, VX_STORM_LIMIT);
	EQUAL(passed, (VX_STORM_BURST + 2) / 3);	/* three copies each: B and two members */
	REASON(from_port(scene, scene->b, put_udp(tap_room(scene), MAC_B, 0x12, 0xffffffffffff, 0xff)), VX_OK);
	len = put_udp(tap_room(scene), MAC_A, 0x11, MAC_B, 0x12);
	REASON(from_port(scene, scene->a, len), VX_OK);	/* unicast is not a storm */
	len = put_udp(tap_room(scene), MAC_A, 0x11, 0xffffffffffff, 0xff);
	scene->now_ns += 1000000000u;
	for (passed = 0; from_port(scene, scene->a, len) == VX_OK; passed++)
		;
	CHECK(passed >= VX_STORM_RATE / 3 - 1 && passed <= VX_STORM_RATE / 3 + 1);
	scene_free(scene);
}

static void an_illegal_congestion_mark_is_dropped(void)
{
	struct scene *scene = scene_new(false);
	uint32_t len = put_udp(tunnel_room(scene), MAC_FAR, 0x21, MAC_A, 0x11);

	scene->frame.outer_tos = 3;
	REASON(from_vtep(scene, 2, len), VX_IP_TUNNEL_ECN);
	scene->frame.outer_tos = 2;
	REASON(from_vtep(scene, 2, len), VX_OK);
	scene_free(scene);
}

static void what_does_not_fit_is_too_big(void)
{
	struct scene *scene = scene_new(false);
	struct packet packet = packet_between(MAC_A, 0x11, MAC_B, 0x12);
	uint32_t len;

	packet.len = MTU - 28;
	len = put_packet(tap_room(scene), &packet, 4);
	REASON(from_port(scene, scene->a, len), VX_OK);
	packet.len++;
	len = put_packet(tap_room(scene), &packet, 4);
	REASON(from_port(scene, scene->a, len), VX_PKT_TOO_BIG);

	packet = packet_between(MAC_FAR, 0x21, MAC_A, 0x11);
	packet.len = MTU - 27;
	len = put_packet(tunnel_room(scene), &packet, 4);
	REASON(from_vtep(scene, 2, len), VX_PKT_TOO_BIG);

	packet = packet_between(MAC_A, 0x11, MAC_FAR, 0x21);
	vx_net_vtep(scene->tables, (uint32_t)scene->member)->seat->path_mtu = 14 + 128 + 36;
	len = put_packet(tap_room(scene), &packet, 4);
	REASON(from_port(scene, scene->a, len), VX_OK);
	vx_net_vtep(scene->tables, (uint32_t)scene->member)->seat->path_mtu--;
	REASON(from_port(scene, scene->a, len), VX_PKT_TOO_BIG);
	scene_free(scene);
}

static void a_false_offload_header_is_dropped(void)
{
	struct scene *scene = scene_new(false);
	uint32_t len = put_udp(tap_room(scene), MAC_A, 0x11, MAC_FAR, 0x21);
	struct vx_eth eth;

	scene->frame.vnet = (struct vx_vnet){ .flags = VX_VNET_NEEDS_CSUM, .csum_start = 34, .csum_offset = 6 };
	vx_put16(tap_room(scene) + 40, 0);
	REASON(from_port(scene, scene->a, len), VX_OK);
	EQUAL(scene->frame.vnet.flags, 0);
	scene->frame.vnet.flags = VX_VNET_NEEDS_CSUM;
	scene->frame.vnet.csum_start = (uint16_t)len;
	REASON(from_port(scene, scene->a, len), VX_GSO_INVALID);
	scene->frame.vnet = (struct vx_vnet){ .gso_type = VX_GSO_TCPV4, .gso_size = 1000, .hdr_len = 54 };
	REASON(from_port(scene, scene->a, len), VX_GSO_INVALID);

	len = put_udp(tap_room(scene), MAC_A, 0x11, MAC_B, 0x12);	/* to a TAP it goes unfinished, untouched */
	scene->frame.vnet = (struct vx_vnet){ .flags = VX_VNET_NEEDS_CSUM, .csum_start = 34, .csum_offset = 6 };
	vx_put16(tap_room(scene) + 40, 0x1234);
	REASON(from_port(scene, scene->a, len), VX_OK);
	EQUAL(scene->frame.vnet.flags, VX_VNET_NEEDS_CSUM);
	EQUAL(vx_get16(tap_room(scene) + 40), 0x1234);
	REASON(vx_eth_parse(tap_room(scene), len, &eth), VX_OK);
	scene_free(scene);
}

/** unfinished() - What becomes of a frame of port A whose checksum is to be put at @start + @offset */
static enum vx_reason unfinished(struct scene *scene, uint32_t len, uint16_t start, uint16_t offset)
{
	scene->frame.vnet = (struct vx_vnet){ VX_VNET_NEEDS_CSUM, .csum_start = start, .csum_offset = offset };
	return from_port(scene, scene->a, len);
}

static void an_unfinished_checksum_changes_nothing_that_the_guards_saw(void)
{
	struct scene *scene = scene_new(true);
	uint8_t own[16], other[16];
	uint32_t len;

	for (uint16_t field = 14; field < 14 + 20 + 4; field++) {	/* type and address of IPv4, ports of UDP */
		len = put_udp(tap_room(scene), MAC_A, 0x11, MAC_FAR, 0x21);
		REASON(unfinished(scene, len, 14, field - 14), VX_GSO_INVALID);
	}
	len = put_udp(tap_room(scene), MAC_A, 0x11, MAC_FAR, 0x21);
	REASON(unfinished(scene, len, 34, 6), VX_OK);
	len = put_udp(tap_room(scene), MAC_A, 0x11, MAC_FAR, 0x21);
	REASON(unfinished(scene, len, 34 + 8 + 20, 6), VX_OK);		/* within its own tunnel */

	len = put_arp(tap_room(scene), 1, MAC_A, 0x11, 0xee);		/* would go to the foreign VTEP */
	REASON(unfinished(scene, len, 14, 14), VX_GSO_INVALID);
	scene->frame.vnet = (struct vx_vnet){ 0 };
	REASON(from_port(scene, scene->a, len), VX_OK);
	address6(own, 0x11);
	address6(other, 0xee);
	len = put_nd(tap_room(scene), 135, MAC_A, own, other, true);
	REASON(unfinished(scene, len, 54, 0), VX_GSO_INVALID);		/* type: to a router advertisement */
	scene->frame.vnet = (struct vx_vnet){ 0 };
	REASON(from_port(scene, scene->a, len), VX_OK);
	scene_free(scene);
}

static void a_network_whose_vni_another_owns_is_not_programmed(void)
{
	struct scene *scene = scene_new(false);
	uint32_t len = put_udp(tap_room(scene), MAC_A, 0x11, MAC_B, 0x12);
	struct vx_port *port = calloc(1, sizeof(*port));
	int net;

	EQUAL(vx_net_add(scene->tables, VNI, MTU, 0), -17);
	net = vx_net_add(scene->tables, VNI, MTU, VX_NETWORK_IN_CONFLICT);
	CHECK(net >= 0);
	port->mac = MAC_A;
	port->mtu = MTU;
	REASON(from_port(scene, vx_net_port_add(scene->tables, port, (uint32_t)net), len), VX_NETWORK_CONFLICT);
	REASON(from_port(scene, scene->a, len), VX_OK);

	EQUAL(vx_net_flags(scene->tables, (uint32_t)net, 0), -17);	/* the VNI is not free */
	EQUAL(vx_net_flags(scene->tables, (uint32_t)scene->net, VX_NETWORK_IN_CONFLICT), 0);
	REASON(from_port(scene, scene->a, len), VX_NETWORK_CONFLICT);
	EQUAL(vx_net_flags(scene->tables, (uint32_t)net, 0), 0);
	CHECK(vx_net_by_vni(scene->tables, VNI) == vx_net_get(scene->tables, (uint32_t)net));
	scene_free(scene);
}

static void a_dry_decision_leaves_no_trace(void)
{
	struct scene *scene = scene_new(true);
	uint32_t len = put_udp(tunnel_room(scene), MAC_NOBODY, 0xee, MAC_A, 0x11), vtep, generation;

	scene->frame = (struct vx_frame){
		.data = tap_room(scene), .len = len + 8, .spare = scene->spare + VX_HEADROOM,
		.from = VX_AT_VTEP,
	};
	memcpy(scene->frame.outer, vx_net_vtep(scene->tables, (uint32_t)scene->foreign)->address, 16);
	vx_vxlan_put(scene->frame.data, VNI);
	vx_switch(scene->tables, &scene->frame, 1, (struct vx_when){ .now_ns = scene->now_ns, .dry = true });
	REASON(scene->frame.reason, VX_OK);
	CHECK(!vx_soft_find(&scene->network->soft, MAC_NOBODY, scene->now_ns / 1000000, &vtep, &generation));
	REASON(from_vtep(scene, 4, len), VX_OK);
	CHECK(vx_soft_find(&scene->network->soft, MAC_NOBODY, scene->now_ns / 1000000, &vtep, &generation));
	EQUAL(vtep, scene->foreign);
	scene_free(scene);
}

static void a_port_that_is_gone_settles_its_frames(void)
{
	struct scene *scene = scene_new(false);
	uint32_t len = put_udp(tap_room(scene), MAC_A, 0x11, MAC_B, 0x12);

	REASON(from_port(scene, scene->a, len), VX_OK);
	EQUAL(vx_net_port_del(scene->tables, (uint32_t)scene->b), 0);
	REASON(from_port(scene, scene->a, len), VX_FDB_MISS);
	EQUAL(vx_net_port_del(scene->tables, (uint32_t)scene->a), 0);
	REASON(from_port(scene, scene->a, len), VX_SHUTDOWN);
	scene_free(scene);
}

CASES(CASE(unicast_goes_where_the_record_says), CASE(a_malformed_tunnel_header_is_dropped),
      CASE(a_probe_is_absorbed_and_told_and_only_a_whole_one),
      CASE(the_tunnel_brings_only_what_belongs_to_its_sender), CASE(an_endpoint_sends_only_from_its_own),
      CASE(a_host_without_address_may_look_for_one), CASE(only_a_server_answers_dhcp_and_advertises_routes),
      CASE(a_server_does_not_hide_behind_a_fragment),
      CASE(a_tagged_frame_needs_a_network_that_passes_tags), CASE(unknown_unicast_goes_to_foreign_vteps_or_nowhere),
      CASE(broadcast_goes_to_members_and_locals_but_not_back_into_the_tunnel),
      CASE(a_frame_for_nobody_else_has_no_target),
      CASE(a_gateway_takes_no_part_in_what_everybody_gets), CASE(a_storm_is_limited_by_copies_and_ends),
      CASE(an_illegal_congestion_mark_is_dropped), CASE(what_does_not_fit_is_too_big),
      CASE(a_false_offload_header_is_dropped), CASE(an_unfinished_checksum_changes_nothing_that_the_guards_saw),
      CASE(a_network_whose_vni_another_owns_is_not_programmed),
      CASE(a_dry_decision_leaves_no_trace), CASE(a_port_that_is_gone_settles_its_frames))
