/* switch.c - THE decision: what happens to a frame, and why
 *
 * How it works
 *   vx_switch() takes a vector of up to VX_BATCH frames from TAPs or from the tunnel and runs it through fixed
 *   stages: parse, guard, policy, lookup, ecn, mtu, encap, seal. Each stage goes over the whole vector, skips what
 *   earlier ones have settled, and either leaves a frame alone or settles it with an act or a reason. What comes
 *   out says, per frame, where it goes, in what form, or why not; the worker acts on that and decides nothing.
 *   Worker, trace, tests and fuzzers all call this one function.
 *
 *   A port or VTEP can be unpublished at any moment of a turn; its memory stays until the turn is over. So each
 *   stage looks a target up anew and takes "gone" for an answer, and the port a frame came from is looked up once.
 *
 *   A frame is undecided while act and reason are both 0. The stages policy and seal are empty: they mark where
 *   access rules and encryption will stand, so that neither is bolted on elsewhere.
 *
 * Reads tables; writes the frames, and, unless the decision is dry, storm and soft state. No system calls.
 */
#include "switch.h"

#include "csum.h"
#include "ecn.h"
#include "eth.h"
#include "fdb.h"
#include "gso.h"
#include "partial.h"
#include "probe.h"
#include "proxy.h"
#include "toobig.h"
#include "vxlan.h"

#define OUTER_IPV4	(20 + 8 + VX_VXLAN_LEN)
#define OUTER_IPV6	(40 + 8 + VX_VXLAN_LEN)

/** struct decision - What the stages share
 * @network, @vni: What the last datagram's header named, and
 * @vtep, @outer: who had sent it: the frames of a train ask the same
 */
struct decision {
	struct vx_tables *tables;
	struct vx_when when;
	struct vx_network *network;
	uint32_t vni;
	struct vx_vtep *vtep;
	uint8_t outer[VX_ADDR_LEN];
};

typedef void stage(struct decision *decision, struct vx_frame *frame);

static struct vx_network *network_of(struct decision *decision, uint32_t vni)
{
	if (!decision->network || decision->vni != vni) {
		decision->network = vx_net_by_vni(decision->tables, vni);
		decision->vni = vni;
	}
	return decision->network;
}

static struct vx_vtep *sender_of(struct decision *decision, const uint8_t *outer)
{
	if (!decision->vtep || memcmp(decision->outer, outer, VX_ADDR_LEN) != 0) {
		decision->vtep = vx_net_vtep_by_address(decision->tables, outer);
		memcpy(decision->outer, outer, VX_ADDR_LEN);
	}
	return decision->vtep;
}

/** parse_datagram() - Take the VXLAN header off and find the network */
static enum vx_reason parse_datagram(struct decision *decision, struct vx_frame *frame)
{
	bool reserved;
	uint32_t vni;
	enum vx_reason reason = vx_vxlan_parse(frame->data, frame->len, &vni, &reserved);

	if (reason)
		return reason;
	if (reserved)
		frame->notes |= VX_NOTE_RESERVED;
	frame->network = network_of(decision, vni);
	if (!frame->network && !vx_probe_is(frame->data, frame->len, vni))
		return VX_VXLAN_VNI_NOT_FOUND;
	if (!frame->network) {
		frame->act = VX_ACT_ABSORB;
		frame->event = VX_EVENT_PROBE;
		return VX_OK;
	}
	frame->notes |= VX_NOTE_DECAPSULATED;
	frame->data += VX_VXLAN_LEN;
	frame->len -= VX_VXLAN_LEN;
	return vx_eth_parse(frame->data, frame->len, &frame->eth);
}

/** parse_tap() - Find the network of a frame from a TAP and hold its virtio header to its contents */
static enum vx_reason parse_tap(struct decision *decision, struct vx_frame *frame)
{
	struct vx_port *port = vx_net_port(decision->tables, frame->from_id);
	enum vx_reason reason;

	if (!port)
		return VX_SHUTDOWN;
	frame->port = port;
	frame->network = port->network;
	if (port->network->flags & VX_NETWORK_IN_CONFLICT)
		return VX_NETWORK_CONFLICT;
	reason = vx_eth_parse(frame->data, frame->len, &frame->eth);
	if (reason)
		return reason;
	return vx_gso_check(frame);
}

static void parse(struct decision *decision, struct vx_frame *frame)
{
	enum vx_reason reason;

	frame->network = NULL;
	frame->port = NULL;
	frame->act = VX_ACT_DROP;
	frame->reason = VX_OK;
	frame->notes = frame->event = frame->scope = 0;
	frame->copies = 0;
	frame->segments = 1;
	frame->fit = frame->answer = 0;
	frame->target = VX_NONE;
	memset(&frame->eth, 0, sizeof(frame->eth));
	if (frame->from == VX_AT_VTEP) {
		frame->from_id = VX_NONE;
		memset(&frame->vnet, 0, sizeof(frame->vnet));
		reason = parse_datagram(decision, frame);
	} else {
		reason = parse_tap(decision, frame);
	}
	if (reason)
		vx_drop(frame, reason);
}

static void guard(struct decision *decision, struct vx_frame *frame)
{
	enum vx_reason reason;

	if (frame->from == VX_AT_VTEP)
		reason = vx_guard_vtep(sender_of(decision, frame->outer), frame, decision->when);
	else
		reason = vx_guard_port(frame->port, frame);
	if (reason)
		vx_drop(frame, reason);
}

static void policy(struct decision *decision, struct vx_frame *frame)
{
	(void)decision;
	(void)frame;
}

/** flood() - Send to everyone that frame->scope names, if there is anyone and the sender may
 *
 * Each segment of a super-frame is a copy of its own on the wire, and is paid for.
 */
static void flood(struct decision *decision, struct vx_frame *frame)
{
	struct vx_port *port = frame->port;

	frame->copies = vx_flood_copies(frame->network, frame);
	if (!frame->copies)
		vx_drop(frame, VX_NO_TX_TARGET);
	else if (port && !vx_storm_take(&port->storm, decision->when.now_ns, frame->copies * frame->segments,
					decision->when.dry))
		vx_drop(frame, VX_STORM_LIMIT);
	else
		frame->act = VX_ACT_FLOOD;
}

/** lookup_unknown() - A unicast MAC without record: soft state, then foreign VTEPs, then nobody */
static void lookup_unknown(struct decision *decision, struct vx_frame *frame, uint64_t mac)
{
	const struct vx_members *members = atomic_load_explicit(&frame->network->flood, memory_order_acquire);
	uint32_t vtep, generation;

	if (frame->from == VX_AT_PORT &&
	    vx_soft_find(&frame->network->soft, mac, decision->when.now_ns / 1000000, &vtep, &generation)) {
		const struct vx_vtep *target = vx_net_vtep(decision->tables, vtep);

		if (target && !((target->generation ^ generation) & 0xfffff)) {
			frame->act = VX_ACT_VTEP;
			frame->target = vtep;
			return;
		}
	}
	if (frame->from == VX_AT_PORT && members && members->foreign) {
		frame->scope = VX_TO_FOREIGN;
		flood(decision, frame);
		return;
	}
	if (!frame->event) {
		frame->event = VX_EVENT_FDB_MISS;
		memcpy(frame->event_mac, frame->data, VX_MAC_LEN);
	}
	vx_drop(frame, VX_FDB_MISS);
}

/** lookup_unicast() - Where a unicast frame goes */
static void lookup_unicast(struct decision *decision, struct vx_frame *frame)
{
	uint64_t mac = vx_mac(frame->data);
	struct vx_place place = vx_fdb_find(frame->network, mac);

	if (!place.kind) {
		lookup_unknown(decision, frame, mac);
		return;
	}
	frame->target = place.id;
	if (place.kind == VX_AT_VTEP) {
		frame->act = VX_ACT_VTEP;
		if (frame->from == VX_AT_VTEP)
			vx_drop(frame, VX_SPLIT_HORIZON);
		return;
	}
	frame->act = VX_ACT_PORT;
	if (frame->from == VX_AT_PORT && frame->from_id == place.id)
		vx_drop(frame, VX_NO_TX_TARGET);
}

static void lookup(struct decision *decision, struct vx_frame *frame)
{
	if (vx_proxy_is_arp_nd(frame)) {
		frame->notes |= VX_NOTE_ARP_ND;
		vx_proxy(frame);
		if (frame->act == VX_ACT_FLOOD)
			flood(decision, frame);
		if (frame->act || frame->reason)
			return;
	}
	if (!frame->eth.group) {
		lookup_unicast(decision, frame);
		return;
	}
	if (frame->from == VX_AT_PORT && frame->port->flags & VX_PORT_UNICAST) {
		frame->act = VX_ACT_ABSORB;
		return;
	}
	frame->scope = frame->from == VX_AT_PORT ? VX_TO_LOCAL | VX_TO_MEMBERS : VX_TO_LOCAL;
	flood(decision, frame);
}

static void ecn(struct decision *decision, struct vx_frame *frame)
{
	enum vx_reason reason;

	(void)decision;
	if (frame->act == VX_ACT_REPLY || frame->from == VX_AT_PORT) {
		frame->outer_tos = vx_ecn_encapsulate(&frame->eth);
		return;
	}
	reason = vx_ecn_decapsulate(frame->data, &frame->eth, frame->outer_tos);
	if (reason)
		vx_drop(frame, reason);
}

/** fits() - Whether a frame, or each segment of it, takes at most @limit bytes
 *
 * Bytes behind an IP packet are nobody's: where they are what is too much, they go.
 */
static bool fits(struct vx_frame *frame, uint32_t limit)
{
	if (frame->vnet.gso_type != VX_GSO_NONE)
		return (uint32_t)frame->vnet.hdr_len + frame->vnet.gso_size <= limit;
	if (frame->len > limit && frame->eth.end <= limit)
		frame->len = frame->eth.end;
	return frame->len <= limit;
}

/** vx_switch_fit_port() - Whether a frame, or each segment of it, fits a port's MTU. Return: VX_OK or why not */
enum vx_reason vx_switch_fit_port(struct vx_frame *frame, const struct vx_port *port)
{
	return fits(frame, frame->eth.l3 + port->mtu) ? VX_OK : VX_PKT_TOO_BIG;
}

/** inner_mtu() - The largest packet in a frame like this one that the path to a VTEP takes, 0 if that is not known */
static uint32_t inner_mtu(const struct vx_frame *frame, const struct vx_vtep *vtep)
{
	uint32_t path = atomic_load_explicit(&vtep->path_mtu, memory_order_relaxed);
	uint32_t outer = vtep->to.any.sa_family == AF_INET ? OUTER_IPV4 : OUTER_IPV6;

	return path ? path - outer - frame->eth.l3 : 0;
}

/**
 * vx_switch_fit_vtep() - Whether a frame, or each segment of it, fits the path to a VTEP, and in what form
 * @frame:	Frame; its @fit is set to 0 if it fits as it is, else to what it has to be fragmented to
 * @vtep:	VTEP
 *
 * Return: VX_OK, VX_PKT_TOO_BIG if it neither fits nor may be fragmented
 */
enum vx_reason vx_switch_fit_vtep(struct vx_frame *frame, const struct vx_vtep *vtep)
{
	uint32_t mtu = inner_mtu(frame, vtep);

	frame->fit = 0;
	if (!mtu || fits(frame, frame->eth.l3 + mtu))
		return VX_OK;
	if (!vx_toobig_may_fragment(frame, mtu))
		return VX_PKT_TOO_BIG;
	frame->fit = (uint16_t)mtu;
	return VX_OK;
}

/** tell_sender() - A local endpoint's packet is too big for a path: say so by ICMP, unless it was told often enough */
static void tell_sender(struct decision *decision, struct vx_frame *frame, const struct vx_vtep *vtep)
{
	uint32_t mtu = inner_mtu(frame, vtep);

	if (frame->port && vx_toobig_may_answer(frame, mtu) &&
	    vx_storm_may_answer(&frame->port->answers, decision->when.now_ns, decision->when.dry))
		frame->answer = (uint16_t)vx_toobig_answer(frame, mtu, frame->spare);
}

/** tell_of_flood() - Unicast that floods for want of a record is for one host, maybe behind a path too narrow */
static void tell_of_flood(struct decision *decision, struct vx_frame *frame)
{
	uint32_t next = 0, id;

	while (!frame->answer && vx_flood_next_vtep(frame->network, frame->scope, &next, &id)) {
		const struct vx_vtep *vtep = vx_net_vtep(decision->tables, id);

		if (vtep && vx_switch_fit_vtep(frame, vtep))
			tell_sender(decision, frame, vtep);
	}
	frame->fit = 0;		/* each copy has its own */
}

/** settle() - Finish what the frame's peer left to us (partial.c); a super-frame marks the peer as on this kernel */
static enum vx_reason settle(struct decision *decision, struct vx_frame *frame, uint32_t mtu)
{
	struct vx_vtep *vtep = vx_net_vtep(decision->tables, frame->from_id);
	bool marked = vtep && (atomic_load_explicit(&vtep->flags, memory_order_relaxed) & VX_VTEP_SAME_KERNEL);
	enum vx_reason reason = vx_partial_settle(frame, mtu, marked || decision->tables->same_kernel);

	if ((frame->notes & VX_NOTE_SUPER) && vtep && !marked && !decision->when.dry)
		atomic_fetch_or_explicit(&vtep->flags, VX_VTEP_SAME_KERNEL, memory_order_relaxed);
	return reason;
}

static void mtu(struct decision *decision, struct vx_frame *frame)
{
	const struct vx_port *port = frame->act == VX_ACT_PORT ? vx_net_port(decision->tables, frame->target) : NULL;
	const struct vx_vtep *vtep = frame->act == VX_ACT_VTEP ? vx_net_vtep(decision->tables, frame->target) : NULL;
	enum vx_reason reason = VX_OK;

	if (frame->act == VX_ACT_PORT && !port)
		reason = VX_TAP_DOWN;
	else if (frame->act == VX_ACT_VTEP && !vtep)
		reason = VX_SHUTDOWN;
	else if (frame->from == VX_AT_VTEP && frame->act != VX_ACT_REPLY)
		reason = settle(decision, frame, port ? port->mtu : frame->network->mtu);
	if (!reason && port)
		reason = vx_switch_fit_port(frame, port);
	if (!reason && vtep)
		reason = vx_switch_fit_vtep(frame, vtep);
	if (reason == VX_PKT_TOO_BIG && vtep)
		tell_sender(decision, frame, vtep);
	if (frame->act == VX_ACT_FLOOD && frame->port && !frame->eth.group)
		tell_of_flood(decision, frame);
	if (reason)
		vx_drop(frame, reason);
}

/** leaves() - Whether the frame, or a copy of it, goes into the tunnel */
static bool leaves(const struct vx_frame *frame)
{
	if (frame->act == VX_ACT_FLOOD)
		return frame->scope & (VX_TO_MEMBERS | VX_TO_FOREIGN);
	return frame->act == VX_ACT_VTEP || (frame->act == VX_ACT_REPLY && frame->from == VX_AT_VTEP);
}

/** encap() - Put the VXLAN header before what leaves; a super-frame stays whole, transmit.c cuts it when it is sent */
static void encap(struct decision *decision, struct vx_frame *frame)
{
	struct vx_vnet *vnet = &frame->vnet;

	(void)decision;
	if (!leaves(frame))
		return;
	if (vnet->gso_type == VX_GSO_NONE && (vnet->flags & VX_VNET_NEEDS_CSUM) &&
	    !vx_csum_complete(frame->data, frame->eth.end, vnet)) {
		vx_drop(frame, VX_GSO_INVALID);
		return;
	}
	frame->hash = vx_eth_flow(frame->data, &frame->eth);
	vx_vxlan_put(frame->data - VX_VXLAN_LEN, frame->network->vni);
}

static void seal(struct decision *decision, struct vx_frame *frame)
{
	(void)decision;
	(void)frame;
}

/** run() - One stage over the vector, but for frames that are settled */
static inline void run(stage *stage, struct decision *decision, struct vx_frame *frames, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (!frames[i].reason && frames[i].act != VX_ACT_ABSORB)
			stage(decision, &frames[i]);
}

/**
 * vx_switch() - Decide about a vector of frames
 * @tables:	Tables; the caller is between its qsbr marks, or is the writer
 * @frames:	Frames with their upper half filled in (vx.h); VX_HEADROOM writable bytes before each
 * @count:	At most VX_BATCH
 * @when:	Time; dry for a trace
 */
void vx_switch(struct vx_tables *tables, struct vx_frame *frames, unsigned count, struct vx_when when)
{
	struct decision decision = { .tables = tables, .when = when };

	for (unsigned i = 0; i < count; i++)
		parse(&decision, &frames[i]);
	run(guard, &decision, frames, count);
	run(policy, &decision, frames, count);
	run(lookup, &decision, frames, count);
	run(ecn, &decision, frames, count);
	run(mtu, &decision, frames, count);
	run(encap, &decision, frames, count);
	run(seal, &decision, frames, count);
}
