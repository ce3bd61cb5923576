/* scene.c - one network with two local ports and three VTEPs, and frames to send through it
 *
 *   port A (10.7.0.11)   port B (10.7.0.12)  |  member 10.89.0.2 (has .21)   second 10.89.0.3 (has .31)
 *                  this host                 |  foreign 10.89.0.4, if asked for
 *
 * Ports have no descriptor: nothing here does I/O. A frame is written to tap_room() or tunnel_room() and decided by
 * from_port() or from_vtep(); scene->frame is the verdict.
 */
#define _GNU_SOURCE
#include "scene.h"

#include <net/if.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "check.h"
#include "csum.h"
#include "eth.h"
#include "vxlan.h"

void address4(uint8_t *out, unsigned last)
{
	const uint8_t ipv4[4] = { 10, 7, 0, (uint8_t)last };

	vx_addr_map4(out, ipv4);
}

void address6(uint8_t *out, unsigned last)
{
	memset(out, 0, VX_ADDR_LEN);
	out[0] = 0xfd;
	out[1] = 0x07;
	out[15] = (uint8_t)last;
}

static void outer_address(uint8_t *out, unsigned last)
{
	const uint8_t ipv4[4] = { 10, 89, 0, (uint8_t)last };

	vx_addr_map4(out, ipv4);
}

static int add_vtep(struct scene *scene, unsigned last)
{
	uint8_t address[VX_ADDR_LEN];
	int id;

	outer_address(address, last);
	id = vx_net_vtep_add(scene->tables, address, 4789, 0);
	CHECK(id >= 0);
	return id;
}

int scene_port(struct scene *scene, uint64_t mac, unsigned last)
{
	struct vx_port *port = calloc(1, sizeof(*port));
	vx_prefix own[2] = { { .length = 128 }, { .length = 128 } };
	int id;

	port->mac = mac;
	port->mtu = MTU;
	id = vx_net_port_add(scene->tables, port, (uint32_t)scene->net);
	CHECK(id >= 0);
	address4(own[0].address, last);
	address6(own[1].address, last);
	EQUAL(vx_net_port_allow(scene->tables, (uint32_t)id, own, 2), 0);
	return id;
}

static void learn(struct scene *scene, uint64_t mac, unsigned last, unsigned kind, int id)
{
	uint8_t address[VX_ADDR_LEN];

	EQUAL(vx_fdb_record(scene->network, mac, (struct vx_place){ kind, (uint32_t)id }), 0);
	address4(address, last);
	EQUAL(vx_nbr_record(scene->network, address, mac, 0), 0);
	address6(address, last);
	EQUAL(vx_nbr_record(scene->network, address, mac, 0), 0);
}

struct scene *scene_new(bool with_foreign)
{
	struct scene *scene = calloc(1, sizeof(*scene));
	vx_member members[3];

	scene->tables = calloc(1, sizeof(*scene->tables));
	EQUAL(vx_tables_init(scene->tables), 0);
	scene->tables->offloads = VX_OFFLOAD_ALL;
	scene->net = vx_net_add(scene->tables, VNI, MTU, 0);
	scene->network = vx_net_get(scene->tables, (uint32_t)scene->net);
	scene->a = scene_port(scene, MAC_A, 0x11);
	scene->b = scene_port(scene, MAC_B, 0x12);
	scene->member = add_vtep(scene, 2);
	scene->second = add_vtep(scene, 3);
	scene->foreign = add_vtep(scene, 4);
	members[0] = (vx_member){ (uint32_t)scene->second, VX_MEMBER_FLOOD };
	members[1] = (vx_member){ (uint32_t)scene->member, VX_MEMBER_FLOOD };
	members[2] = (vx_member){ (uint32_t)scene->foreign, VX_MEMBER_FLOOD | VX_MEMBER_FOREIGN };
	EQUAL(vx_net_vteps(scene->tables, (uint32_t)scene->net, members, with_foreign ? 3 : 2), 0);
	learn(scene, MAC_A, 0x11, VX_AT_PORT, scene->a);
	learn(scene, MAC_B, 0x12, VX_AT_PORT, scene->b);
	learn(scene, MAC_FAR, 0x21, VX_AT_VTEP, scene->member);
	learn(scene, MAC_OTHER, 0x31, VX_AT_VTEP, scene->second);
	scene->now_ns = 1000000000000u;
	return scene;
}

void scene_free(struct scene *scene)
{
	vx_tables_destroy(scene->tables);
	free(scene->tables);
	free(scene);
}

/** own_namespace() - Move into a network namespace of our own, with only loopback; where that is forbidden, stay */
void own_namespace(void)
{
	struct ifreq loopback = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int fd;

	if (unshare(CLONE_NEWNET) && unshare(CLONE_NEWUSER | CLONE_NEWNET))
		return;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	EQUAL(ioctl(fd, SIOCSIFFLAGS, &loopback), 0);
	close(fd);
}

uint32_t put_ethernet(uint8_t *frame, uint64_t to, uint64_t from, uint16_t type)
{
	vx_mac_put(frame, to);
	vx_mac_put(frame + 6, from);
	vx_put16(frame + 12, type);
	return VX_ETH_LEN;
}

static void put_ipv4_header(uint8_t *ip, const struct packet *packet, uint32_t total)
{
	memset(ip, 0, 20);
	ip[0] = 0x45;
	ip[1] = packet->tos;
	vx_put16(ip + 2, (uint16_t)total);
	vx_put16(ip + 6, 0x4000);
	ip[8] = 64;
	ip[9] = packet->protocol;
	memcpy(ip + 12, packet->source + 12, 4);
	memcpy(ip + 16, packet->target + 12, 4);
	vx_put16(ip + 10, (uint16_t)~vx_csum_fold(vx_csum_add(ip, 20, 0)));
}

static void put_ipv6_header(uint8_t *ip, const struct packet *packet, uint32_t payload)
{
	vx_put32(ip, 6u << 28 | (uint32_t)packet->tos << 20);
	vx_put16(ip + 4, (uint16_t)payload);
	ip[6] = packet->protocol;
	ip[7] = 64;
	memcpy(ip + 8, packet->source, 16);
	memcpy(ip + 24, packet->target, 16);
}

/** put_packet() - A TCP, UDP or other packet with valid checksums. Return: length of the frame */
uint32_t put_packet(uint8_t *frame, const struct packet *packet, unsigned version)
{
	uint16_t type = version == 4 ? VX_ETHERTYPE_IPV4 : VX_ETHERTYPE_IPV6;
	uint32_t l3 = put_ethernet(frame, packet->to, packet->from, type);
	uint32_t header = packet->protocol == VX_PROTO_TCP ? 20 : packet->protocol == VX_PROTO_UDP ? 8 : 0;
	uint32_t ip_len = version == 4 ? 20 : 40, l4_len = header + packet->len, sum;
	uint8_t *ip = frame + l3, *l4 = ip + ip_len;

	if (version == 4)
		put_ipv4_header(ip, packet, ip_len + l4_len);
	else
		put_ipv6_header(ip, packet, l4_len);
	memset(l4, 0, header);
	for (uint32_t i = 0; i < packet->len; i++)
		l4[header + i] = (uint8_t)(i * 7 + 3);
	if (header) {
		vx_put16(l4, packet->source_port);
		vx_put16(l4 + 2, packet->target_port);
	}
	if (packet->protocol == VX_PROTO_TCP)
		l4[12] = 5 << 4;
	if (packet->protocol == VX_PROTO_UDP)
		vx_put16(l4 + 4, (uint16_t)l4_len);
	if (header) {
		sum = vx_csum_pseudo(ip, version, packet->protocol, l4_len);
		vx_put16(l4 + (header == 20 ? 16 : 6), (uint16_t)~vx_csum_fold(vx_csum_add(l4, l4_len, sum)));
	}
	return l3 + ip_len + l4_len;
}

/** put_arp() - An ARP message; a request is broadcast. @sender 0: probe. Return: length of the frame */
uint32_t put_arp(uint8_t *frame, uint16_t op, uint64_t from, unsigned sender, unsigned target)
{
	uint8_t address[VX_ADDR_LEN], *p;

	put_ethernet(frame, 0xffffffffffff, from, VX_ETHERTYPE_ARP);
	p = frame + VX_ETH_LEN;
	memset(p, 0, 28);
	vx_put16(p, 1);
	vx_put16(p + 2, VX_ETHERTYPE_IPV4);
	p[4] = 6;
	p[5] = 4;
	vx_put16(p + 6, op);
	vx_mac_put(p + 8, from);
	address4(address, sender);
	if (sender)
		memcpy(p + 14, address + 12, 4);
	address4(address, target);
	memcpy(p + 24, address + 12, 4);
	return VX_ETH_LEN + 28;
}

/** put_nd() - An NS (135) or NA (136) with valid checksum. Return: length of the frame */
uint32_t put_nd(uint8_t *frame, uint8_t type, uint64_t from, const uint8_t *source, const uint8_t *target,
		bool with_option)
{
	struct packet packet = { .to = 0x3333ff000000, .from = from, .protocol = VX_PROTO_ICMPV6 };
	uint8_t *ip = frame + VX_ETH_LEN, *icmp = ip + 40;
	uint32_t len = with_option ? 32 : 24, sum;

	packet.len = len;
	memcpy(packet.source, source, 16);
	packet.target[0] = 0xff;
	packet.target[15] = 1;
	put_packet(frame, &packet, 6);
	ip[7] = 255;
	memset(icmp, 0, len);
	icmp[0] = type;
	memcpy(icmp + 8, target, 16);
	if (with_option) {
		icmp[24] = type == 135 ? 1 : 2;
		icmp[25] = 1;
		vx_mac_put(icmp + 26, from);
	}
	sum = vx_csum_pseudo(ip, 6, VX_PROTO_ICMPV6, len);
	vx_put16(icmp + 2, (uint16_t)~vx_csum_fold(vx_csum_add(icmp, len, sum)));
	return VX_ETH_LEN + 40 + len;
}

/** packet_between() - 100 bytes of UDP from one endpoint to another */
struct packet packet_between(uint64_t from, unsigned source, uint64_t to, unsigned target)
{
	struct packet packet = {
		.to = to, .from = from, .protocol = VX_PROTO_UDP, .source_port = 1000, .target_port = 2000, .len = 100,
	};

	address4(packet.source, source);
	address4(packet.target, target);
	return packet;
}

uint8_t *tap_room(struct scene *scene)
{
	return scene->buffer + VX_HEADROOM;
}

uint8_t *tunnel_room(struct scene *scene)
{
	return scene->buffer + VX_HEADROOM + VX_VXLAN_LEN;
}

static enum vx_reason decide(struct scene *scene)
{
	vx_switch(scene->tables, &scene->frame, 1, (struct vx_when){ .now_ns = scene->now_ns });
	return scene->frame.reason;
}

/** from_port() - Decide about the frame in tap_room(), keeping scene->frame.vnet */
enum vx_reason from_port(struct scene *scene, int port, uint32_t len)
{
	struct vx_vnet vnet = scene->frame.vnet;

	scene->frame = (struct vx_frame){
		.data = tap_room(scene), .len = len, .spare = scene->spare + VX_HEADROOM, .vnet = vnet,
		.from = VX_AT_PORT, .from_id = (uint32_t)port,
	};
	return decide(scene);
}

/** from_vtep() - Decide about the frame in tunnel_room() as a datagram from 10.89.0.@outer; keeps outer TOS, train */
enum vx_reason from_vtep(struct scene *scene, unsigned outer, uint32_t len)
{
	uint8_t tos = scene->frame.outer_tos;
	uint16_t train = scene->frame.train;

	scene->frame = (struct vx_frame){
		.data = tap_room(scene), .len = len + VX_VXLAN_LEN, .spare = scene->spare + VX_HEADROOM,
		.from = VX_AT_VTEP, .from_id = VX_NONE, .outer_tos = tos, .train = train,
	};
	outer_address(scene->frame.outer, outer);
	vx_vxlan_put(scene->frame.data, VNI);
	return decide(scene);
}
