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

static bool covers(const struct vx_allowed *allowed, struct vx_address address)
{
	uint64_t high = (allowed->address.word[0] ^ address.word[0]) & allowed->mask.word[0];
	uint64_t low = (allowed->address.word[1] ^ address.word[1]) & allowed->mask.word[1];

	return !(high | low);
}

/** vx_guard_allows() - The entry of the port's list that covers an address, NULL if none does */
const struct vx_allowed *vx_guard_allows(const struct vx_port *port, struct vx_address address)
{
	const struct vx_allow *allow = atomic_load_explicit(&port->allow, memory_order_acquire);

	for (uint32_t i = 0; allow && i < allow->count; i++)
		if (covers(&allow->list[i], address))
			return &allow->list[i];
	return NULL;
}

static bool is_own(const struct vx_port *port, struct vx_address address)
{
	return vx_guard_allows(port, address) || vx_address_same(address, vx_address(port->link_local));
}

/** is_unspecified() - Whether an address is 0.0.0.0 or :: */
static bool is_unspecified(struct vx_address address)
{
	return !address.word[0] && (!address.word[1] || address.word[1] == htobe64(0xffffull << 32));
}

/** udp_ports() - Source port << 16 | destination port, 0 if the packet is not UDP or does not show them */
static uint32_t udp_ports(const struct vx_frame *frame)
{
	const struct vx_eth *eth = &frame->eth;

	if (eth->protocol != VX_PROTO_UDP || !eth->l4 || eth->l4 + 8u > eth->end)
		return 0;
	return vx_get32(frame->data + eth->l4);
}

/** is_dhcp_server() - Whether a source port << 16 | destination port are those of a DHCP answer */
static bool is_dhcp_server(uint32_t ports)
{
	return ports == ((uint32_t)DHCP_SERVER << 16 | DHCP_CLIENT) ||
	       ports == ((uint32_t)DHCP6_SERVER << 16 | DHCP6_CLIENT);
}

/** is_server() - Whether a packet is one that only routers and DHCP servers send */
static bool is_server(const struct vx_frame *frame)
{
	uint8_t type = vx_nd_type(frame->data, &frame->eth);

	return is_dhcp_server(udp_ports(frame)) || type == VX_ND_ROUTER_ADVERT || type == VX_ND_REDIRECT;
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
	return is_own(port, vx_address(arp.sender)) ? VX_OK : VX_ARP_SPOOF;
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
	if (nd.type == VX_ND_ADVERT && !is_own(port, vx_address(nd.target)))
		return VX_ARP_SPOOF;
	return VX_OK;
}

/** guard_source() - An IP packet comes from an address of the endpoint's own, or needs none */
VX_INLINE enum vx_reason guard_source(const struct vx_port *port, const struct vx_frame *frame)
{
	struct vx_address source = vx_eth_source(frame->data, &frame->eth);

	if (is_unspecified(source))
		return needs_no_address(frame) ? VX_OK : VX_SRC_IP_SPOOF;
	return is_own(port, source) ? VX_OK : VX_SRC_IP_SPOOF;
}

/** guard_special() - The rules of vx_guard_port() in their order, with those that speak of frames that are not plain */
static VX_APART enum vx_reason guard_special(const struct vx_port *port, const struct vx_frame *frame)
{
	enum vx_reason reason;
	uint8_t type;

	if (frame->eth.vlan && !(port->network->flags & VX_NETWORK_VLAN_PASS))
		return VX_VLAN;
	if (!(port->flags & VX_PORT_ALLOW_SERVER) && is_server(frame))
		return VX_ROGUE_SERVER;
	if (port->flags & VX_PORT_ALLOW_SPOOF)
		return VX_OK;
	if (vx_eth_from(frame->data) != port->mac)
		return VX_SRC_MAC_SPOOF;
	if (frame->eth.type == VX_ETHERTYPE_ARP)
		return guard_arp(port, frame);
	if (!frame->eth.version)
		return VX_OK;

	reason = guard_source(port, frame);
	type = vx_nd_type(frame->data, &frame->eth);
	return !reason && (type == VX_ND_SOLICIT || type == VX_ND_ADVERT) ? guard_nd(port, frame) : reason;
}

/** vx_guard_port() - Whether an endpoint may send a frame. Return: VX_OK or why not */
enum vx_reason vx_guard_port(const struct vx_port *port, const struct vx_frame *frame)
{
	const struct vx_eth *eth = &frame->eth;
	uint64_t mac = vx_eth_from(frame->data);

	if (!mac || mac & VX_MAC_GROUP)
		return VX_MAC_INVALID_SOURCE;
	if (!eth->plain)
		return guard_special(port, frame);
	if (!(port->flags & VX_PORT_ALLOW_SERVER) && eth->protocol == VX_PROTO_UDP &&
	    is_dhcp_server(vx_get32(frame->data + eth->l4)))
		return VX_ROGUE_SERVER;
	if (port->flags & VX_PORT_ALLOW_SPOOF)
		return VX_OK;
	return mac == port->mac ? guard_source(port, frame) : VX_SRC_MAC_SPOOF;
}

/**
 * give_way() - Forget a new soft entry if its record came, or its VTEP left, between our look and the entry
 *
 * The writer sets the record, or the members, then looks for an entry; we set the entry, then look for those. With a
 * fence between the two on each side, one of us sees the other's.
 */
static void give_way(struct vx_network *network, uint64_t mac, uint32_t vtep)
{
	atomic_thread_fence(memory_order_seq_cst);
	if (vx_fdb_find(network, mac).kind || !vx_net_member_flags(network, vtep))
		vx_soft_forget(&network->soft, mac, 0, vx_net_soft_count, network->tables);
}

/** guard_stranger() - Whether a VTEP may send from a MAC that is not there by record: not if it is elsewhere, else soft
 * state knows
 */
static VX_APART enum vx_reason guard_stranger(struct vx_frame *frame, struct vx_vtep *vtep, uint32_t member,
					      struct vx_when when)
{
	uint64_t mac = vx_eth_from(frame->data);
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

	vx_mac_put(frame->event_mac, mac);
	if (place.kind) {
		frame->event = VX_EVENT_MAC_CONFLICT;
		return place.kind == VX_AT_PORT ? VX_LOCAL_MAC : VX_VTEP_MAC;
	}
	reason = vx_soft_note(&frame->network->soft, mac, source, when.now_ns / 1000000, &frame->event);
	if (frame->event)
		give_way(frame->network, mac, vtep->id);
	if (!reason && !source.foreign)
		frame->notes |= VX_NOTE_PENDING;
	return reason;
}

/** is_sender() - Whether a VTEP, found by record, has the address that a datagram came from */
static bool is_sender(const struct vx_frame *frame, struct vx_place place)
{
	return place.kind == VX_AT_VTEP &&
	       vx_address_same(frame->network->tables->vteps[place.id].address, vx_address(frame->outer));
}

/**
 * vx_guard_tunnel() - Whether the tunnel may bring a frame, and who sent it
 * @frame:	Frame; its network is known. Its from_id becomes the sender's, or stays VX_NONE
 * @when:	Time
 *
 * Almost every frame comes from the VTEP where its source MAC is by record: that VTEP is asked first whether it has the
 * outer address, and the table of addresses only for the other frames.
 *
 * Return: VX_OK or why not
 */
enum vx_reason vx_guard_tunnel(struct vx_frame *frame, struct vx_when when)
{
	uint64_t mac = vx_eth_from(frame->data);
	struct vx_place place = vx_fdb_find(frame->network, mac);
	bool by_record = is_sender(frame, place);
	struct vx_vtep *other = by_record ? NULL : vx_net_vtep_by_address(frame->network->tables, frame->outer);
	uint32_t member;

	if (by_record)
		frame->from_id = place.id;
	else if (other)
		frame->from_id = other->id;
	member = vx_net_member_flags(frame->network, frame->from_id);
	if (!member) {
		frame->event = VX_EVENT_VTEP_UNKNOWN;
		memcpy(frame->event_address, frame->outer, VX_ADDR_LEN);
		return VX_VTEP_UNKNOWN;
	}
	if (!mac || mac & VX_MAC_GROUP)
		return VX_MAC_INVALID_SOURCE;
	if (frame->eth.vlan && !(frame->network->flags & VX_NETWORK_VLAN_PASS))
		return VX_VLAN;
	return by_record ? VX_OK : guard_stranger(frame, other, member, when);
}
