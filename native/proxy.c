/* proxy.c - answer ARP and ND from the records, so that neither crosses the underlay
 *
 * How it works
 *   A request of a local endpoint for a known address is answered at once with the recorded MAC. Its
 *   announcements (gratuitous ARP, unsolicited NA) and duplicate address detection of its own address tell
 *   nobody anything that the records do not say, so they are absorbed; within a floating prefix they become an
 *   event, from which the agent makes a record. A request for an unknown address goes to foreign VTEPs if the
 *   network has any, since nobody else could know, and is a neigh_miss otherwise.
 *
 *   From the tunnel (foreign VTEPs ask) only addresses of *local* endpoints are answered: the asker may learn
 *   from our answer that the MAC is here, which for others would be false. Who claims an address by ARP or NA
 *   through the tunnel that a record gives to another MAC is a spoofer.
 *
 *   A router solicitation to all routers is for foreign VTEPs as well: no endpoint may advertise itself as a router
 *   (guard.c), so none could answer. Linux never ceases to send them where nobody does, and a copy of each to each of
 *   500 endpoints took 7 % of a CPU.
 *
 *   What is left undecided here (act and reason both 0) is an ordinary frame to the lookup stage.
 */
#include "proxy.h"

#include "arp.h"
#include "eth.h"
#include "fdb.h"
#include "nbr.h"
#include "nd.h"

#define IPV6_LEN	40
#define SOLICIT_LEN	24	/* of a solicitation, up to and with its target */

/** struct question - ARP and ND in common terms */
struct question {
	const uint8_t *target;
	const uint8_t *sender;		/* NULL: without address (probe, DAD) */
	uint64_t sender_mac;
	bool request;
	bool announcement;
};

/** answer() - Make the answer to a request */
static void answer(struct vx_frame *frame, uint64_t mac, bool router)
{
	const uint8_t *question = frame->data;
	struct vx_eth eth = frame->eth;

	/* In a place of its own: an answer may be longer, and behind the question its train goes on. */
	frame->data = frame->spare;
	if (eth.type == VX_ETHERTYPE_ARP) {
		memcpy(frame->data, question, frame->len < VX_SPARE_LEN ? frame->len : VX_SPARE_LEN);
		frame->len = vx_arp_answer(frame->data, &eth, mac);
	} else {	/* without extension headers: they may be longer than the room, and are not answered */
		eth.l4 = (uint16_t)(eth.l3 + IPV6_LEN);
		memcpy(frame->data, question, eth.l4);
		memcpy(frame->data + eth.l4, question + frame->eth.l4, SOLICIT_LEN);
		frame->len = vx_nd_answer(frame->data, &eth, mac, router);
	}
	vx_eth_parse(frame->data, frame->len, &frame->eth);
	memset(&frame->vnet, 0, sizeof(frame->vnet));
	frame->act = VX_ACT_REPLY;
	frame->target = frame->from_id;
}

/** absorb() - Keep an announcement; report it if it moves a floating address here */
static void absorb(const struct vx_port *port, struct vx_frame *frame, const uint8_t *address)
{
	const struct vx_allowed *allowed = vx_guard_allows(port, vx_address(address));
	uint32_t flags;
	uint64_t mac;

	frame->act = VX_ACT_ABSORB;
	if (!allowed || !(allowed->flags & VX_PREFIX_FLOATING))
		return;
	if (vx_nbr_find(port->network, address, &mac, &flags) && mac == port->mac)
		return;
	frame->event = VX_EVENT_ADDRESS_MOVED;
	vx_mac_put(frame->event_mac, port->mac);
	memcpy(frame->event_address, address, VX_ADDR_LEN);
}

static void from_port(const struct vx_port *port, struct vx_frame *frame, const struct question *question)
{
	const struct vx_members *members = atomic_load_explicit(&port->network->members, memory_order_acquire);
	uint32_t flags;
	uint64_t mac;
	bool known;

	if (question->announcement) {
		absorb(port, frame, question->target);
		return;
	}
	if (!question->request)
		return;
	known = vx_nbr_find(port->network, question->target, &mac, &flags);
	if (known && mac != question->sender_mac) {
		answer(frame, mac, flags & VX_NEIGHBOR_ROUTER);
		return;
	}
	if (known || (!question->sender && vx_guard_allows(port, vx_address(question->target))) ||
	    memcmp(question->target, port->link_local, VX_ADDR_LEN) == 0) {
		absorb(port, frame, question->target);
		return;
	}
	frame->event = VX_EVENT_NEIGHBOR_MISS;
	memcpy(frame->event_address, question->target, VX_ADDR_LEN);
	if (!members || !members->foreign) {
		vx_drop(frame, VX_NEIGH_MISS);
		return;
	}
	frame->act = VX_ACT_FLOOD;
	frame->scope = VX_TO_FOREIGN;
}

static void from_vtep(struct vx_frame *frame, const struct question *question)
{
	struct vx_network *network = frame->network;
	struct vx_place place;
	uint32_t flags;
	uint64_t mac;

	if (question->sender && vx_nbr_find(network, question->sender, &mac, &flags) &&
	    mac != question->sender_mac) {
		vx_drop(frame, VX_ARP_SPOOF);
		return;
	}
	if (!question->request || question->announcement || !vx_nbr_find(network, question->target, &mac, &flags))
		return;
	place = vx_fdb_find(network, mac);
	if (place.kind == VX_AT_PORT)
		answer(frame, mac, flags & VX_NEIGHBOR_ROUTER);
	else
		vx_drop(frame, VX_SPLIT_HORIZON);
}

/** seek_routers() - Let a router solicitation of an endpoint go to foreign VTEPs, and to nobody else */
static void seek_routers(struct vx_frame *frame)
{
	const struct vx_members *members = atomic_load_explicit(&frame->network->members, memory_order_acquire);

	if (!frame->eth.group)
		return;
	frame->act = VX_ACT_ABSORB;
	if (frame->from == VX_AT_VTEP || frame->port->flags & VX_PORT_UNICAST || !members || !members->foreign)
		return;
	frame->act = VX_ACT_FLOOD;
	frame->scope = VX_TO_FOREIGN;
}

static enum vx_reason read_arp(const struct vx_frame *frame, struct vx_arp *arp, struct question *question)
{
	enum vx_reason reason = vx_arp_parse(frame->data, &frame->eth, arp);

	*question = (struct question){
		.target = arp->gratuitous || arp->op != VX_ARP_REQUEST ? arp->sender : arp->target,
		.sender = arp->probe ? NULL : arp->sender,
		.sender_mac = arp->sender_mac,
		.request = arp->op == VX_ARP_REQUEST,
		.announcement = (arp->gratuitous || (arp->op == VX_ARP_REPLY && frame->eth.group)) && !arp->probe,
	};
	return reason;
}

static enum vx_reason read_nd(const struct vx_frame *frame, struct vx_nd *nd, uint8_t *source,
			      struct question *question)
{
	enum vx_reason reason = vx_nd_parse(frame->data, &frame->eth, nd);
	bool advert = nd->type == VX_ND_ADVERT;

	memcpy(source, frame->data + frame->eth.l3 + 8, VX_ADDR_LEN);
	*question = (struct question){
		.target = nd->target,
		.sender = advert ? nd->target : nd->dad ? NULL : source,
		.sender_mac = nd->link_address ? nd->link_address : vx_mac(frame->data + VX_MAC_LEN),
		.request = nd->type == VX_ND_SOLICIT,
		.announcement = advert && (!nd->solicited || frame->eth.group),
	};
	return reason;
}

/**
 * vx_proxy() - Decide about an ARP frame, NS, NA or router solicitation, as far as records can
 * @frame:	Frame for which vx_proxy_is_arp_nd() is true and that passed the guards
 */
void vx_proxy(struct vx_frame *frame)
{
	uint8_t source[VX_ADDR_LEN];
	struct question question;
	struct vx_arp arp = { 0 };
	struct vx_nd nd = { 0 };
	uint32_t flags;
	uint64_t mac;
	enum vx_reason reason;

	if (vx_nd_type(frame->data, &frame->eth) == VX_ND_ROUTER_SOLICIT) {
		seek_routers(frame);
		return;
	}
	frame->notes |= VX_NOTE_ARP_ND;
	if (frame->eth.type == VX_ETHERTYPE_ARP)
		reason = read_arp(frame, &arp, &question);
	else
		reason = read_nd(frame, &nd, source, &question);
	if (reason) {
		vx_drop(frame, reason);
		return;
	}
	if (frame->from == VX_AT_VTEP) {
		from_vtep(frame, &question);
		return;
	}
	if (nd.dad && !vx_nbr_find(frame->network, question.target, &mac, &flags))
		absorb(frame->port, frame, question.target);
	else
		from_port(frame->port, frame, &question);
}
