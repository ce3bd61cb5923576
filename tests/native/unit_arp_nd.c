/* unit_arp_nd.c - the proxy: questions and their answers, announcements, lies, both directions */
#include "arp.h"
#include "check.h"
#include "csum.h"
#include "eth.h"
#include "nd.h"
#include "scene.h"

static const uint8_t nobody[16];

static void a_request_for_a_known_address_is_answered(void)
{
	struct scene *scene = scene_new(false);
	uint32_t len = put_arp(tap_room(scene), VX_ARP_REQUEST, MAC_A, 0x11, 0x21);
	struct vx_arp arp;

	REASON(from_port(scene, scene->a, len), VX_OK);
	EQUAL(scene->frame.act, VX_ACT_REPLY);
	EQUAL(scene->frame.len, 42);
	EQUAL(vx_mac(scene->frame.data), MAC_A);
	EQUAL(vx_mac(scene->frame.data + 6), MAC_FAR);
	REASON(vx_arp_parse(scene->frame.data, &scene->frame.eth, &arp), VX_OK);
	EQUAL(arp.op, VX_ARP_REPLY);
	EQUAL(arp.sender_mac, MAC_FAR);
	EQUAL(arp.sender[15], 0x21);
	EQUAL(arp.target[15], 0x11);

	len = put_arp(tap_room(scene), VX_ARP_REQUEST, MAC_A, 0x11, 0xee);
	REASON(from_port(scene, scene->a, len), VX_NEIGH_MISS);
	EQUAL(scene->frame.event, VX_EVENT_NEIGHBOR_MISS);
	EQUAL(scene->frame.event_address[15], 0xee);
	scene_free(scene);
}

static void an_unknown_address_is_asked_of_foreign_vteps_only(void)
{
	struct scene *scene = scene_new(true);
	uint32_t len = put_arp(tap_room(scene), VX_ARP_REQUEST, MAC_A, 0x11, 0xee), next = 0, vtep;

	REASON(from_port(scene, scene->a, len), VX_OK);
	EQUAL(scene->frame.act, VX_ACT_FLOOD);
	EQUAL(scene->frame.scope, VX_TO_FOREIGN);
	CHECK(vx_flood_next_vtep(scene->network, scene->frame.scope, &next, &vtep));
	EQUAL(vtep, scene->foreign);
	CHECK(scene->frame.notes & VX_NOTE_ARP_ND);
	scene_free(scene);
}

static void announcements_of_ones_own_are_absorbed(void)
{
	struct scene *scene = scene_new(true);
	uint8_t own[16];
	uint32_t len;

	len = put_arp(tap_room(scene), VX_ARP_REQUEST, MAC_A, 0x11, 0x11);
	REASON(from_port(scene, scene->a, len), VX_OK);
	EQUAL(scene->frame.act, VX_ACT_ABSORB);
	len = put_arp(tap_room(scene), VX_ARP_REPLY, MAC_A, 0x11, 0x11);
	REASON(from_port(scene, scene->a, len), VX_OK);
	EQUAL(scene->frame.act, VX_ACT_ABSORB);
	len = put_arp(tap_room(scene), VX_ARP_REQUEST, MAC_A, 0, 0x11);	/* RFC 5227 probe */
	REASON(from_port(scene, scene->a, len), VX_OK);
	EQUAL(scene->frame.act, VX_ACT_ABSORB);
	address6(own, 0x11);
	len = put_nd(tap_room(scene), VX_ND_SOLICIT, MAC_A, nobody, own, false);
	REASON(from_port(scene, scene->a, len), VX_OK);
	EQUAL(scene->frame.act, VX_ACT_ABSORB);
	len = put_nd(tap_room(scene), VX_ND_ADVERT, MAC_A, own, own, true);
	REASON(from_port(scene, scene->a, len), VX_OK);
	EQUAL(scene->frame.act, VX_ACT_ABSORB);
	vx_nbr_link_local(MAC_A, own);
	len = put_nd(tap_room(scene), VX_ND_SOLICIT, MAC_A, nobody, own, false);
	REASON(from_port(scene, scene->a, len), VX_OK);
	EQUAL(scene->frame.act, VX_ACT_ABSORB);
	scene_free(scene);
}

static void a_probe_for_anothers_address_is_answered(void)
{
	struct scene *scene = scene_new(false);
	uint8_t other[16];
	uint32_t len = put_arp(tap_room(scene), VX_ARP_REQUEST, MAC_A, 0, 0x21);

	REASON(from_port(scene, scene->a, len), VX_OK);
	EQUAL(scene->frame.act, VX_ACT_REPLY);
	address6(other, 0x21);
	len = put_nd(tap_room(scene), VX_ND_SOLICIT, MAC_A, nobody, other, false);
	REASON(from_port(scene, scene->a, len), VX_OK);
	EQUAL(scene->frame.act, VX_ACT_REPLY);
	EQUAL(vx_mac(scene->frame.data), 0x333300000001);
	EQUAL(scene->frame.data[scene->frame.eth.l4 + 4], 0x20);	/* O, but not S (RFC 4861 7.2.4) */
	scene_free(scene);
}

static void a_solicitation_is_answered_as_rfc_4861_wants(void)
{
	struct scene *scene = scene_new(false);
	uint8_t own[16], far[16];
	struct vx_nd nd;
	uint32_t len;

	address6(own, 0x11);
	address6(far, 0x21);
	EQUAL(vx_nbr_record(scene->network, far, MAC_FAR, VX_NEIGHBOR_ROUTER), 0);
	len = put_nd(tap_room(scene), VX_ND_SOLICIT, MAC_A, own, far, true);
	REASON(from_port(scene, scene->a, len), VX_OK);
	EQUAL(scene->frame.act, VX_ACT_REPLY);
	REASON(vx_nd_parse(scene->frame.data, &scene->frame.eth, &nd), VX_OK);	/* hop limit, checksum, options */
	EQUAL(nd.type, VX_ND_ADVERT);
	CHECK(nd.solicited);
	EQUAL(scene->frame.data[scene->frame.eth.l4 + 4], 0xe0);
	EQUAL(nd.link_address, MAC_FAR);
	CHECK(memcmp(nd.target, far, 16) == 0);
	CHECK(memcmp(scene->frame.data + 22, far, 16) == 0);
	CHECK(memcmp(scene->frame.data + 38, own, 16) == 0);

	vx_nbr_link_local(MAC_FAR, far);	/* known by its MAC alone */
	len = put_nd(tap_room(scene), VX_ND_SOLICIT, MAC_A, own, far, true);
	REASON(from_port(scene, scene->a, len), VX_OK);
	EQUAL(scene->frame.act, VX_ACT_REPLY);
	EQUAL(vx_mac(scene->frame.data + 6), MAC_FAR);
	vx_nbr_link_local(MAC_NOBODY, far);
	len = put_nd(tap_room(scene), VX_ND_SOLICIT, MAC_A, own, far, true);
	REASON(from_port(scene, scene->a, len), VX_NEIGH_MISS);
	scene_free(scene);
}

/** The question may be longer than the room for an answer: what lies behind that room belongs to others */
static void a_solicitation_behind_long_headers_is_answered_like_any(void)
{
	struct scene *scene = scene_new(false);
	uint8_t own[16], far[16], *ip = tap_room(scene) + VX_ETH_LEN;
	uint32_t len, extension = 1400;
	struct vx_nd nd;

	address6(own, 0x11);
	address6(far, 0x21);
	len = put_nd(tap_room(scene), VX_ND_SOLICIT, MAC_A, own, far, true);
	memmove(ip + 40 + extension, ip + 40, 32);
	memset(ip + 40, 0, extension);
	ip[40] = ip[6];
	ip[41] = (uint8_t)(extension / 8 - 1);
	ip[6] = 60;		/* destination options: of Pad1 only */
	vx_put16(ip + 4, (uint16_t)(extension + 32));
	REASON(from_port(scene, scene->a, len + extension), VX_OK);
	EQUAL(scene->frame.act, VX_ACT_REPLY);
	REASON(vx_nd_parse(scene->frame.data, &scene->frame.eth, &nd), VX_OK);
	EQUAL(nd.type, VX_ND_ADVERT);
	EQUAL(nd.link_address, MAC_FAR);
	CHECK(memcmp(nd.target, far, 16) == 0);
	scene_free(scene);
}

/** put_router_solicitation() - From an endpoint with its link-local address, to all routers. Return: length */
static uint32_t put_router_solicitation(uint8_t *room, uint64_t from)
{
	struct packet packet = packet_between(from, 0, 0x333300000002, 0);
	uint32_t len;

	packet.protocol = VX_PROTO_ICMPV6;
	vx_nbr_link_local(from, packet.source);
	memcpy(packet.target, (uint8_t[16]){ 0xff, 2, [15] = 2 }, 16);
	len = put_packet(room, &packet, 6);
	room[54] = VX_ND_ROUTER_SOLICIT;
	return len;
}

static void a_router_is_looked_for_behind_foreign_vteps_only(void)
{
	for (int foreign = 0; foreign < 2; foreign++) {
		struct scene *scene = scene_new(foreign);
		uint32_t len = put_router_solicitation(tap_room(scene), MAC_A), next = 0, vtep;

		REASON(from_port(scene, scene->a, len), VX_OK);
		EQUAL(scene->frame.act, foreign ? VX_ACT_FLOOD : VX_ACT_ABSORB);
		if (foreign) {
			EQUAL(scene->frame.copies, 1);
			CHECK(vx_flood_next_vtep(scene->network, scene->frame.scope, &next, &vtep));
			EQUAL(vtep, scene->foreign);
		}
		vx_net_port(scene->tables, (uint32_t)scene->a)->flags |= VX_PORT_UNICAST;
		REASON(from_port(scene, scene->a, len), VX_OK);
		EQUAL(scene->frame.act, VX_ACT_ABSORB);
		vx_net_port(scene->tables, (uint32_t)scene->a)->flags = 0;

		tap_room(scene)[54] = 143;	/* a report of groups is for whoever routes multicast: for everyone */
		REASON(from_port(scene, scene->a, len), VX_OK);
		EQUAL(scene->frame.scope, VX_TO_LOCAL | VX_TO_MEMBERS);
		len = put_router_solicitation(tunnel_room(scene), MAC_FAR);
		REASON(from_vtep(scene, 2, len), VX_OK);
		EQUAL(scene->frame.act, VX_ACT_ABSORB);
		scene_free(scene);
	}
}

static void malformed_messages_are_dropped(void)
{
	struct scene *scene = scene_new(false);
	uint8_t own[16], far[16];
	uint32_t len;

	address6(own, 0x11);
	address6(far, 0x21);
	for (uint32_t at = 0; at < 8; at++) {		/* hardware, protocol, lengths; the operation may be any */
		len = put_arp(tap_room(scene), VX_ARP_REQUEST, MAC_A, 0x11, 0x21);
		tap_room(scene)[14 + at] ^= 0x40;
		REASON(from_port(scene, scene->a, len), at < 6 ? VX_HDR_TRUNC : VX_OK);
	}
	for (uint32_t cut = 14; cut < 42; cut++) {
		put_arp(tap_room(scene), VX_ARP_REQUEST, MAC_A, 0x11, 0x21);
		REASON(from_port(scene, scene->a, cut), VX_HDR_TRUNC);
	}
	len = put_nd(tap_room(scene), VX_ND_SOLICIT, MAC_A, own, far, true);
	tap_room(scene)[21] = 64;			/* hop limit: came from another link */
	REASON(from_port(scene, scene->a, len), VX_HDR_TRUNC);
	len = put_nd(tap_room(scene), VX_ND_SOLICIT, MAC_A, own, far, true);
	tap_room(scene)[56] ^= 1;
	REASON(from_port(scene, scene->a, len), VX_CSUM);
	len = put_nd(tap_room(scene), VX_ND_SOLICIT, MAC_A, nobody, far, true);
	REASON(from_port(scene, scene->a, len), VX_HDR_TRUNC);	/* DAD with a source option */
	scene_free(scene);
}

static void a_false_claim_is_spoofing(void)
{
	struct scene *scene = scene_new(true);
	uint8_t own[16], far[16];
	uint32_t len = put_arp(tap_room(scene), VX_ARP_REQUEST, MAC_A, 0x21, 0x21);

	REASON(from_port(scene, scene->a, len), VX_ARP_SPOOF);
	len = put_arp(tap_room(scene), VX_ARP_REQUEST, MAC_A, 0x11, 0x21);
	vx_mac_put(tap_room(scene) + 22, MAC_B);
	REASON(from_port(scene, scene->a, len), VX_ARP_SPOOF);
	address6(own, 0x11);
	address6(far, 0x21);
	len = put_nd(tap_room(scene), VX_ND_ADVERT, MAC_A, own, far, true);
	REASON(from_port(scene, scene->a, len), VX_ARP_SPOOF);

	len = put_arp(tunnel_room(scene), VX_ARP_REPLY, MAC_NOBODY, 0x12, 0x11);
	REASON(from_vtep(scene, 4, len), VX_ARP_SPOOF);
	len = put_arp(tunnel_room(scene), VX_ARP_REPLY, MAC_NOBODY, 0xee, 0x11);
	REASON(from_vtep(scene, 4, len), VX_OK);
	scene_free(scene);
}

/** put_second_option() - Another link-layer option behind that of put_nd(). Return: length of the frame */
static uint32_t put_second_option(uint8_t *frame, uint32_t len, uint64_t mac)
{
	uint8_t *ip = frame + VX_ETH_LEN, *icmp = ip + 40;

	memcpy(icmp + 32, icmp + 24, 2);
	vx_mac_put(icmp + 34, mac);
	vx_put16(ip + 4, 40);
	vx_put16(icmp + 2, 0);
	vx_put16(icmp + 2, (uint16_t)~vx_csum_fold(vx_csum_add(icmp, 40, vx_csum_pseudo(ip, 6, ip[6], 40))));
	return len + 8;
}

static void a_claim_is_not_hidden_behind_a_second_option(void)
{
	struct scene *scene = scene_new(true);
	uint8_t other[16], local[16];
	uint32_t len;

	address6(other, 0xee);
	address6(local, 0x12);
	len = put_nd(tunnel_room(scene), VX_ND_ADVERT, MAC_NOBODY, other, local, true);
	REASON(from_vtep(scene, 4, len), VX_ARP_SPOOF);
	len = put_nd(tunnel_room(scene), VX_ND_ADVERT, MAC_NOBODY, other, local, true);
	len = put_second_option(tunnel_room(scene), len, MAC_B);	/* receivers take the first one */
	REASON(from_vtep(scene, 4, len), VX_HDR_TRUNC);
	len = put_nd(tunnel_room(scene), VX_ND_ADVERT, MAC_NOBODY, other, other, true);
	REASON(from_vtep(scene, 4, len), VX_OK);
	scene_free(scene);
}

static void a_foreign_vtep_is_answered_about_local_endpoints_only(void)
{
	struct scene *scene = scene_new(true);
	uint8_t asker[16], local[16], far[16];
	uint32_t len = put_arp(tunnel_room(scene), VX_ARP_REQUEST, MAC_NOBODY, 0xee, 0x11);

	REASON(from_vtep(scene, 4, len), VX_OK);
	EQUAL(scene->frame.act, VX_ACT_REPLY);
	EQUAL(scene->frame.target, scene->foreign);
	EQUAL(vx_get32(scene->frame.data - 4), VNI << 8);
	len = put_arp(tunnel_room(scene), VX_ARP_REQUEST, MAC_NOBODY, 0xee, 0x21);
	REASON(from_vtep(scene, 4, len), VX_SPLIT_HORIZON);
	len = put_arp(tunnel_room(scene), VX_ARP_REQUEST, MAC_NOBODY, 0xee, 0xdd);
	REASON(from_vtep(scene, 4, len), VX_OK);
	EQUAL(scene->frame.act, VX_ACT_FLOOD);
	EQUAL(scene->frame.scope, VX_TO_LOCAL);

	address6(asker, 0xee);
	address6(local, 0x11);
	address6(far, 0x21);
	len = put_nd(tunnel_room(scene), VX_ND_SOLICIT, MAC_NOBODY, asker, local, true);
	REASON(from_vtep(scene, 4, len), VX_OK);
	EQUAL(scene->frame.act, VX_ACT_REPLY);
	len = put_nd(tunnel_room(scene), VX_ND_SOLICIT, MAC_NOBODY, asker, far, true);
	REASON(from_vtep(scene, 4, len), VX_SPLIT_HORIZON);
	scene_free(scene);
}

static void a_floating_address_moves_by_gratuitous_arp(void)
{
	struct scene *scene = scene_new(false);
	vx_prefix allowed[2] = { { .length = 128 }, { .length = 124, .flags = VX_PREFIX_FLOATING } };
	uint32_t len;

	address4(allowed[0].address, 0x11);
	address4(allowed[1].address, 0xd0);
	EQUAL(vx_net_port_allow(scene->tables, (uint32_t)scene->a, allowed, 2), 0);
	len = put_arp(tap_room(scene), VX_ARP_REQUEST, MAC_A, 0xd7, 0xd7);
	REASON(from_port(scene, scene->a, len), VX_OK);
	EQUAL(scene->frame.act, VX_ACT_ABSORB);
	EQUAL(scene->frame.event, VX_EVENT_ADDRESS_MOVED);
	EQUAL(scene->frame.event_address[15], 0xd7);
	EQUAL(vx_mac(scene->frame.event_mac), MAC_A);
	len = put_arp(tap_room(scene), VX_ARP_REQUEST, MAC_A, 0xe0, 0xe0);
	REASON(from_port(scene, scene->a, len), VX_ARP_SPOOF);
	EQUAL(vx_nbr_record(scene->network, scene->frame.event_address, MAC_A, 0), 0);
	scene_free(scene);
}

CASES(CASE(a_request_for_a_known_address_is_answered), CASE(an_unknown_address_is_asked_of_foreign_vteps_only),
      CASE(announcements_of_ones_own_are_absorbed), CASE(a_probe_for_anothers_address_is_answered),
      CASE(a_solicitation_is_answered_as_rfc_4861_wants), CASE(a_solicitation_behind_long_headers_is_answered_like_any),
      CASE(a_router_is_looked_for_behind_foreign_vteps_only), CASE(malformed_messages_are_dropped),
      CASE(a_false_claim_is_spoofing), CASE(a_claim_is_not_hidden_behind_a_second_option),
      CASE(a_foreign_vtep_is_answered_about_local_endpoints_only),
      CASE(a_floating_address_moves_by_gratuitous_arp))
