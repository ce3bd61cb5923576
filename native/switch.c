/* switch.c - THE decision: what happens to a frame, and why
 *
 * How it works
 *   vx_switch() takes a vector of up to VX_BATCH frames from TAPs or from the tunnel and takes each through fixed
 *   stages: parse, guard, policy, lookup, ecn, mtu, encap, seal. A stage returns VX_OK or why the frame is dropped;
 *   lookup settles where it goes. What comes out says, per frame, where it goes, in what form, or why not; the worker
 *   acts on that and decides nothing. Worker, trace, tests and fuzzers all call this one function.
 *
 *   Memory is waited for once per vector and not once per frame: first all headers are fetched, and the ports that they
 *   come from; then all frames are parsed, and each asks for the records that it will need; by the time that the
 *   other stages take the frames one by one, those are in the cache. What a record names is asked no more than its seat
 *   says (net.h): seats are small enough to stay in a near cache. Almost every frame is "plain" (vx_eth.plain): most
 *   rules have nothing to say about it, and one test at the beginning of a stage leaves them out.
 *
 *   A port or VTEP can be unpublished at any moment of a turn; its memory stays until the turn is over. So each
 *   stage looks a target up anew and takes "gone" for an answer, and who a frame came from is looked up once.
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
#define HEADERS_LEN	(VX_VXLAN_LEN + VX_ETH_LEN + 20) /* of a datagram: up to the ports, mostly */

/** struct decision - What the stages share
 * @network, @vni: What the last datagram's header named: the next one's often names the same
 */
struct decision {
	struct vx_tables *tables;
	struct vx_when when;
	struct vx_network *network;
	uint32_t vni;
};

static struct vx_network *network_of(struct decision *decision, uint32_t vni)
{
	if (!decision->network || decision->vni != vni) {
		decision->network = vx_net_by_vni(decision->tables, vni);
		decision->vni = vni;
	}
	return decision->network;
}

/** parse_datagram() - Take the VXLAN header off, find the network */
VX_INLINE enum vx_reason parse_datagram(struct decision *decision, struct vx_frame *frame)
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
VX_INLINE enum vx_reason parse_tap(struct decision *decision, struct vx_frame *frame)
{
	struct vx_port *port = vx_net_port(decision->tables, frame->from_id);
	enum vx_reason reason;

	if (!port)
		return VX_SHUTDOWN;
	frame->port = port;
	__builtin_prefetch(atomic_load_explicit(&port->allow, memory_order_relaxed));
	frame->network = port->network;
	if (port->network->flags & VX_NETWORK_IN_CONFLICT)
		return VX_NETWORK_CONFLICT;
	reason = vx_eth_parse(frame->data, frame->len, &frame->eth);
	if (reason)
		return reason;
	return vx_gso_is_plain(&frame->vnet) ? VX_OK : vx_gso_check(frame);
}

/** expect() - Have in the cache what later stages ask of the tables */
VX_INLINE void expect(const struct vx_frame *frame)
{
	vx_fdb_expect(frame->network, vx_eth_to(frame->data));
	if (frame->from == VX_AT_VTEP)
		vx_fdb_expect(frame->network, vx_eth_from(frame->data));
}

VX_INLINE void parse(struct decision *decision, struct vx_frame *frame)
{
	enum vx_reason reason;

	frame->network = NULL;
	frame->port = NULL;
	frame->eth = (struct vx_eth){ 0 };
	frame->target = VX_NONE;
	frame->copies = 0;
	frame->segments = 1;
	frame->fit = frame->answer = 0;
	frame->scope = frame->act = frame->reason = 0;
	frame->notes = frame->event = 0;
	if (frame->from == VX_AT_VTEP) {
		frame->from_id = VX_NONE;
		frame->vnet = (struct vx_vnet){ 0 };
		reason = parse_datagram(decision, frame);
	} else {
		reason = parse_tap(decision, frame);
	}
	if (reason)
		vx_drop(frame, reason);
	else if (frame->network)
		expect(frame);
}

static enum vx_reason guard(struct decision *decision, struct vx_frame *frame)
{
	if (frame->from == VX_AT_VTEP)
		return vx_guard_tunnel(frame, decision->when);
	return vx_guard_port(frame->port, frame);
}

static enum vx_reason policy(struct decision *decision, struct vx_frame *frame)
{
	(void)decision;
	(void)frame;
	return VX_OK;
}

/** flood() - Send to everyone that frame->scope names, if there is anyone and the sender may
 *
 * Each segment of a super-frame is a copy of its own on the wire, and is paid for.
 */
static enum vx_reason flood(struct decision *decision, struct vx_frame *frame)
{
	struct vx_port *port = frame->port;

	frame->copies = vx_flood_copies(frame->network, frame);
	if (!frame->copies)
		return VX_NO_TX_TARGET;
	if (port && !vx_storm_take(&port->storm, decision->when.now_ns, frame->copies * frame->segments,
				   decision->when.dry))
		return VX_STORM_LIMIT;
	frame->act = VX_ACT_FLOOD;
	return VX_OK;
}

/** lookup_unknown() - A unicast MAC without record: soft state, then foreign VTEPs, then nobody */
static VX_APART enum vx_reason lookup_unknown(struct decision *decision, struct vx_frame *frame, uint64_t mac)
{
	const struct vx_members *members = atomic_load_explicit(&frame->network->members, memory_order_acquire);
	uint32_t vtep, generation;

	if (frame->from == VX_AT_PORT &&
	    vx_soft_find(&frame->network->soft, mac, decision->when.now_ns / 1000000, &vtep, &generation)) {
		const struct vx_vtep *target = vx_net_vtep(decision->tables, vtep);

		if (target && !((target->generation ^ generation) & 0xfffff)) {
			frame->act = VX_ACT_VTEP;
			frame->target = vtep;
			return VX_OK;
		}
	}
	if (frame->from == VX_AT_PORT && members && members->foreign) {
		frame->scope = VX_TO_FOREIGN;
		return flood(decision, frame);
	}
	if (!frame->event) {
		frame->event = VX_EVENT_FDB_MISS;
		memcpy(frame->event_mac, frame->data, VX_MAC_LEN);
	}
	return VX_FDB_MISS;
}

/** lookup_unicast() - Where a unicast frame goes */
VX_INLINE enum vx_reason lookup_unicast(struct decision *decision, struct vx_frame *frame)
{
	uint64_t mac = vx_eth_to(frame->data);
	struct vx_place place = vx_fdb_find(frame->network, mac);

	if (!place.kind)
		return lookup_unknown(decision, frame, mac);
	frame->target = place.id;
	if (place.kind == VX_AT_VTEP) {
		frame->act = VX_ACT_VTEP;
		return frame->from == VX_AT_VTEP ? VX_SPLIT_HORIZON : VX_OK;
	}
	frame->act = VX_ACT_PORT;
	return frame->from == VX_AT_PORT && frame->from_id == place.id ? VX_NO_TX_TARGET : VX_OK;
}

/** lookup_neighbor() - ARP and ND: by the records if they say, else as an ordinary frame (then nothing is decided) */
static enum vx_reason lookup_neighbor(struct decision *decision, struct vx_frame *frame)
{
	vx_proxy(frame);
	return frame->act == VX_ACT_FLOOD ? flood(decision, frame) : (enum vx_reason)frame->reason;
}

VX_INLINE enum vx_reason lookup(struct decision *decision, struct vx_frame *frame)
{
	if (frame->eth.plain)
		return lookup_unicast(decision, frame);
	if (vx_proxy_is_arp_nd(frame)) {
		enum vx_reason reason = lookup_neighbor(decision, frame);

		if (reason || frame->act)
			return reason;
	}
	if (!frame->eth.group)
		return lookup_unicast(decision, frame);
	if (frame->from == VX_AT_PORT && frame->port->flags & VX_PORT_UNICAST) {
		frame->act = VX_ACT_ABSORB;
		return VX_OK;
	}
	frame->scope = frame->from == VX_AT_PORT ? VX_TO_LOCAL | VX_TO_MEMBERS : VX_TO_LOCAL;
	return flood(decision, frame);
}

VX_INLINE enum vx_reason ecn(struct decision *decision, struct vx_frame *frame)
{
	(void)decision;
	if (frame->from == VX_AT_VTEP && frame->act != VX_ACT_REPLY)
		return vx_ecn_decapsulate(frame->data, &frame->eth, frame->outer_tos);
	frame->outer_tos = vx_ecn_encapsulate(&frame->eth);
	return VX_OK;
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

VX_INLINE enum vx_reason fit_mtu(struct vx_frame *frame, uint32_t mtu)
{
	return fits(frame, frame->eth.l3 + mtu) ? VX_OK : VX_PKT_TOO_BIG;
}

/** vx_switch_fit_port() - Whether a frame, or each segment of it, fits a port's MTU. Return: VX_OK or why not */
enum vx_reason vx_switch_fit_port(struct vx_frame *frame, const struct vx_port *port)
{
	return fit_mtu(frame, port->mtu);
}

/** inner_mtu() - The largest packet in a frame like this one that the path to a VTEP takes, 0 if that is not known */
static uint32_t inner_mtu(const struct vx_frame *frame, const struct vx_vtep *vtep)
{
	uint32_t path = atomic_load_explicit(&vtep->seat->path_mtu, memory_order_relaxed);

	if (!path)
		return 0;
	return path - (vtep->to.any.sa_family == AF_INET ? OUTER_IPV4 : OUTER_IPV6) - frame->eth.l3;
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
VX_INLINE enum vx_reason settle(struct decision *decision, struct vx_frame *frame, uint32_t mtu)
{
	_Atomic uint16_t *flags = &decision->tables->vteps[frame->from_id].flags;
	bool marked = atomic_load_explicit(flags, memory_order_relaxed) & VX_VTEP_SAME_KERNEL;
	bool same_kernel = marked || decision->tables->same_kernel;
	enum vx_reason reason;

	if (!same_kernel && vx_partial_is_single(frame, mtu))
		return VX_OK;
	reason = vx_partial_settle(frame, mtu, same_kernel);
	if ((frame->notes & VX_NOTE_SUPER) && !marked && !decision->when.dry)
		atomic_fetch_or_explicit(flags, VX_VTEP_SAME_KERNEL, memory_order_relaxed);
	return reason;
}

/** mtu_of_port() - Hold a frame to the MTU of the TAP that it goes to */
VX_INLINE enum vx_reason mtu_of_port(struct decision *decision, struct vx_frame *frame)
{
	const struct vx_port_seat *seat = &decision->tables->ports[frame->target];
	enum vx_reason reason = VX_OK;

	if (!atomic_load_explicit(&seat->port, memory_order_acquire))
		return VX_TAP_DOWN;
	if (frame->from == VX_AT_VTEP)
		reason = settle(decision, frame, seat->mtu);
	return reason ? reason : fit_mtu(frame, seat->mtu);
}

/** mtu_of_vtep() - Hold a frame to the path to the VTEP that it goes to */
VX_INLINE enum vx_reason mtu_of_vtep(struct decision *decision, struct vx_frame *frame)
{
	const struct vx_vtep_seat *seat = &decision->tables->vteps[frame->target];
	const struct vx_vtep *vtep = atomic_load_explicit(&seat->vtep, memory_order_acquire);
	enum vx_reason reason;

	if (!vtep)
		return VX_SHUTDOWN;
	if (!atomic_load_explicit(&seat->path_mtu, memory_order_relaxed))
		return VX_OK;
	reason = vx_switch_fit_vtep(frame, vtep);
	if (reason)
		tell_sender(decision, frame, vtep);
	return reason;
}

VX_INLINE enum vx_reason mtu(struct decision *decision, struct vx_frame *frame)
{
	enum vx_reason reason = VX_OK;

	switch (frame->act) {
	case VX_ACT_PORT:
		return mtu_of_port(decision, frame);
	case VX_ACT_VTEP:
		return mtu_of_vtep(decision, frame);
	case VX_ACT_FLOOD:
		if (frame->from == VX_AT_VTEP)
			reason = settle(decision, frame, frame->network->mtu);
		else if (!frame->eth.group)
			tell_of_flood(decision, frame);
		return reason;
	default:
		return VX_OK;
	}
}

/** leaves() - Whether the frame, or a copy of it, goes into the tunnel */
static bool leaves(const struct vx_frame *frame)
{
	if (frame->act == VX_ACT_FLOOD)
		return frame->scope & (VX_TO_MEMBERS | VX_TO_FOREIGN);
	return frame->act == VX_ACT_VTEP || (frame->act == VX_ACT_REPLY && frame->from == VX_AT_VTEP);
}

/** encap() - Put the VXLAN header before what leaves; a super-frame stays whole, transmit.c cuts it when it is sent */
VX_INLINE enum vx_reason encap(struct decision *decision, struct vx_frame *frame)
{
	struct vx_vnet *vnet = &frame->vnet;

	(void)decision;
	if (!leaves(frame))
		return VX_OK;
	if ((vnet->flags & VX_VNET_NEEDS_CSUM) && vnet->gso_type == VX_GSO_NONE &&
	    !vx_csum_complete(frame->data, frame->eth.end, vnet))
		return VX_GSO_INVALID;
	frame->hash = vx_eth_flow(frame->data, &frame->eth);
	vx_vxlan_put(frame->data - VX_VXLAN_LEN, frame->network->vni);
	return VX_OK;
}

static enum vx_reason seal(struct decision *decision, struct vx_frame *frame)
{
	(void)decision;
	(void)frame;
	return VX_OK;
}

/** decide() - The stages behind the parse, until one drops the frame or absorbs it */
VX_INLINE enum vx_reason decide(struct decision *decision, struct vx_frame *frame)
{
	enum vx_reason reason = guard(decision, frame);

	if (!reason)
		reason = policy(decision, frame);
	if (!reason)
		reason = lookup(decision, frame);
	if (reason || frame->act == VX_ACT_ABSORB)
		return reason;

	reason = ecn(decision, frame);
	if (!reason)
		reason = mtu(decision, frame);
	if (!reason)
		reason = encap(decision, frame);
	if (!reason)
		reason = seal(decision, frame);
	return reason;
}

/** fetch() - Have in the cache what the parse asks for */
VX_INLINE void fetch(struct vx_tables *tables, const struct vx_frame *frame)
{
	__builtin_prefetch(frame->data);
	__builtin_prefetch(frame->data + HEADERS_LEN);
	if (frame->from == VX_AT_PORT)
		__builtin_prefetch(vx_net_port(tables, frame->from_id));
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
		fetch(tables, &frames[i]);
	for (unsigned i = 0; i < count; i++)
		parse(&decision, &frames[i]);
	for (unsigned i = 0; i < count; i++) {
		enum vx_reason reason;

		if (frames[i].reason || frames[i].act == VX_ACT_ABSORB)
			continue;
		reason = decide(&decision, &frames[i]);
		if (reason)
			vx_drop(&frames[i], reason);
	}
}
