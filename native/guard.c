/* guard.c - who may send what
 *
 * How it works
 *   An endpoint sends only from its own MAC and addresses: those that vx_net_port_allow() was given, the
 *   fe80:: address of its MAC, and what a host without address must send (DHCP, IGMP, MLD, duplicate address
 *   detection, router solicitations). What it claims in ARP and ND is held to the same lists. Router
 *   advertisements and DHCP answers make whoever sends them the master of its neighbours, so they need a
 *   permission of their own (RA guard of RFC 6105, DHCP snooping).
 *
 *   The tunnel brings frames only from members of the network, only from MACs that belong to the sender by
 *   record, or by no record at all: then soft state decides (soft.c).
 *
 * Reads tables; writes soft state, unless the decision is dry.
 */
#include "guard.h"

#include "arp.h"
#include "eth.h"
#include "fdb.h"
#include "nd.h"

#define DHCP_SERVER	67
#define DHCP_CLIENT	68
#define DHCP6_CLIENT	546
#define DHCP6_SERVER	547
#define MLD_FIRST	130	/* RFC 2710 and, at 143, RFC 3810 */
#define MLD_LAST	132
#define MLD_V2_REPORT	143

static const uint8_t unspecified4[VX_ADDR_LEN] = { [10] = 0xff, [11] = 0xff };
static const uint8_t unspecified6[VX_ADDR_LEN];

static bool same_address(const uint8_t *a, const uint8_t *b)
{
	return memcmp(a, b, VX_ADDR_LEN) == 0;
}

static bool in_prefix(const vx_prefix *prefix, const uint8_t *address)
{
	unsigned whole = prefix->length / 8, bits = prefix->length % 8;

	if (memcmp(prefix->address, address, whole))
		return false;
	return !bits || !((prefix->address[whole] ^ address[whole]) & (0xff00 >> bits & 0xff));
}

/** vx_guard_allows() - The entry of the port's list that covers an address, NULL if none does */
const vx_prefix *vx_guard_allows(const struct vx_port *port, const uint8_t *address)
{
	const struct vx_allow *allow = atomic_load_explicit(&port->allow, memory_order_acquire);

	for (uint32_t i = 0; allow && i < allow->count; i++)
		if (in_prefix(&allow->prefix[i], address))
			return &allow->prefix[i];
	return NULL;
}

static bool is_own(const struct vx_port *port, const uint8_t *address)
{
	return same_address(address, port->link_local) || vx_guard_allows(port, address);
}

/** udp_ports() - Source port << 16 | destination port, 0 if the packet is not UDP or does not show them */
static uint32_t udp_ports(const struct vx_frame *frame)
{
	const struct vx_eth *eth = &frame->eth;

	if (eth->protocol != VX_PROTO_UDP || !eth->l4 || eth->l4 + 8u > eth->end)
		return 0;
	return vx_get32(frame->data + eth->l4);
}

/** is_server() - Whether a packet is one that only routers and DHCP servers send */
static bool is_server(const struct vx_frame *frame)
{
	uint8_t type = vx_nd_type(frame->data, &frame->eth);
	uint32_t ports = udp_ports(frame);

	return ports == ((uint32_t)DHCP_SERVER << 16 | DHCP_CLIENT) ||
	       ports == ((uint32_t)DHCP6_SERVER << 16 | DHCP6_CLIENT) ||
	       type == VX_ND_ROUTER_ADVERT || type == VX_ND_REDIRECT;
}

/** needs_no_address() - Whether a packet from 0.0.0.0 or :: is one that a host without address sends */
static bool needs_no_address(const struct vx_frame *frame)
{
	const struct vx_eth *eth = &frame->eth;
	uint8_t type;

	if (eth->version == 4)
		return eth->protocol == VX_PROTO_IGMP ||
		       udp_ports(frame) == ((uint32_t)DHCP_CLIENT << 16 | DHCP_SERVER);
	if (eth->protocol != VX_PROTO_ICMPV6 || !eth->l4)
		return false;
	type = frame->data[eth->l4];
	return type == VX_ND_SOLICIT || type == VX_ND_ROUTER_SOLICIT || type == MLD_V2_REPORT ||
	       (type >= MLD_FIRST && type <= MLD_LAST);
}

/** guard_arp() - What an endpoint claims by ARP must be its own */
static enum vx_reason guard_arp(const struct vx_port *port, const struct vx_frame *frame)
{
	struct vx_arp arp;
	enum vx_reason reason = vx_arp_parse(frame->data, &frame->eth, &arp);

	if (reason)
		return reason;
	if (arp.sender_mac != port->mac)
		return VX_ARP_SPOOF;
	if (arp.probe && arp.op == VX_ARP_REQUEST)
		return VX_OK;
	return is_own(port, arp.sender) ? VX_OK : VX_ARP_SPOOF;
}

/** guard_nd() - What an endpoint claims by NS or NA must be its own */
static enum vx_reason guard_nd(const struct vx_port *port, const struct vx_frame *frame)
{
	struct vx_nd nd;
	enum vx_reason reason = vx_nd_parse(frame->data, &frame->eth, &nd);

	if (reason)
		return reason;
	if (nd.link_address && nd.link_address != port->mac)
		return VX_ARP_SPOOF;
	if (nd.type == VX_ND_ADVERT && !is_own(port, nd.target))
		return VX_ARP_SPOOF;
	return VX_OK;
}

/** vx_guard_port() - Whether an endpoint may send a frame. Return: VX_OK or why not */
enum vx_reason vx_guard_port(const struct vx_port *port, const struct vx_frame *frame)
{
	uint64_t mac = vx_mac(frame->data + VX_MAC_LEN);
	uint8_t source[VX_ADDR_LEN], type;

	if (!mac || vx_mac_is_group(frame->data + VX_MAC_LEN))
		return VX_MAC_INVALID_SOURCE;
	if (frame->eth.vlan && !(port->network->flags & VX_NETWORK_VLAN_PASS))
		return VX_VLAN;
	if (!(port->flags & VX_PORT_ALLOW_SERVER) && is_server(frame))
		return VX_ROGUE_SERVER;
	if (port->flags & VX_PORT_ALLOW_SPOOF)
		return VX_OK;
	if (mac != port->mac)
		return VX_SRC_MAC_SPOOF;
	if (frame->eth.type == VX_ETHERTYPE_ARP)
		return guard_arp(port, frame);
	if (!frame->eth.version)
		return VX_OK;

	vx_eth_source(frame->data, &frame->eth, source);
	if (same_address(source, unspecified4) || same_address(source, unspecified6)) {
		if (!needs_no_address(frame))
			return VX_SRC_IP_SPOOF;
	} else if (!is_own(port, source)) {
		return VX_SRC_IP_SPOOF;
	}
	type = vx_nd_type(frame->data, &frame->eth);
	return type == VX_ND_SOLICIT || type == VX_ND_ADVERT ? guard_nd(port, frame) : VX_OK;
}

/**
 * give_way() - Forget a new soft entry if its record came between the look at the FDB and the entry
 *
 * The writer sets the record, then looks for an entry; we set the entry, then look for a record. With a fence between
 * the two on each side, one of us sees the other's.
 */
static void give_way(struct vx_network *network, uint64_t mac)
{
	atomic_thread_fence(memory_order_seq_cst);
	if (vx_fdb_find(network, mac).kind)
		vx_soft_forget(&network->soft, mac, 0, vx_net_soft_count, network->tables);
}

/** guard_mac() - Whether a VTEP may send from a MAC: by record, else by soft state */
static enum vx_reason guard_mac(struct vx_frame *frame, struct vx_vtep *vtep, uint32_t member, struct vx_when when)
{
	uint64_t mac = vx_mac(frame->data + VX_MAC_LEN);
	struct vx_place place = vx_fdb_find(frame->network, mac);
	struct vx_soft_source source = {
		.vtep = vtep->id,
		.generation = vtep->generation,
		.count = &vtep->soft_count,
		.count_of = vx_net_soft_count,
		.context = vtep->tables,
		.foreign = member & VX_MEMBER_FOREIGN,
		.dry = when.dry,
	};
	enum vx_reason reason;

	memcpy(frame->event_mac, frame->data + VX_MAC_LEN, VX_MAC_LEN);
	if (place.kind == VX_AT_VTEP && place.id == vtep->id)
		return VX_OK;
	if (place.kind) {
		frame->event = VX_EVENT_MAC_CONFLICT;
		return place.kind == VX_AT_PORT ? VX_LOCAL_MAC : VX_VTEP_MAC;
	}
	reason = vx_soft_note(&frame->network->soft, mac, source, when.now_ns / 1000000, &frame->event);
	if (frame->event)
		give_way(frame->network, mac);
	if (!reason && !source.foreign)
		frame->notes |= VX_NOTE_PENDING;
	return reason;
}

/**
 * vx_guard_vtep() - Whether the tunnel may bring a frame
 * @vtep:	Who sent it, by its outer source; NULL: nobody we know
 * @frame:	Frame; its network is known
 * @when:	Time
 *
 * Return: VX_OK or why not
 */
enum vx_reason vx_guard_vtep(struct vx_vtep *vtep, struct vx_frame *frame, struct vx_when when)
{
	uint32_t member = vtep ? vx_net_member_flags(frame->network, vtep->id) : VX_NONE;

	if (vtep)
		frame->from_id = vtep->id;
	if (member == VX_NONE) {
		frame->event = VX_EVENT_VTEP_UNKNOWN;
		memcpy(frame->event_address, frame->outer, VX_ADDR_LEN);
		return VX_VTEP_UNKNOWN;
	}
	if (!vx_mac(frame->data + VX_MAC_LEN) || vx_mac_is_group(frame->data + VX_MAC_LEN))
		return VX_MAC_INVALID_SOURCE;
	if (frame->eth.vlan && !(frame->network->flags & VX_NETWORK_VLAN_PASS))
		return VX_VLAN;
	return guard_mac(frame, vtep, member, when);
}
