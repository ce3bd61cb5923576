/* capture.c - the worker's side of captures: select, number, copy
 *
 * How it works
 *   Nothing here runs unless a capture is on (vx_watched()). Then a packet is numbered when it arrives, and looked
 *   at where it crosses an edge: read from a TAP or written to one ("inner", the frame as it crossed, super-frames
 *   whole), received from the underlay or sent to it ("outer", one record per datagram), or dropped, with the reason.
 *   The number ties these records. Its low bits say which captures selected the packet on arrival, so that what was
 *   selected by its endpoint is known again as a datagram, which has none.
 *
 *   A slice of the frame is copied into the ring that this worker has for the capture. Where the checksum was left to
 *   hardware it is finished in the copy. A full ring loses the slice and counts it; nothing waits, nothing allocates.
 *
 *   Sockets give us payload, not headers: those of the underlay are made up here, with addresses, ports, TOS and
 *   lengths as they were, and 0 for the rest.
 *
 *   A capture ends while workers run. Each says in watch->busy that it may hold pointers to captures, before it looks
 *   which are active; who ends one clears its bit first and waits for busy second (Dekker, hence seq_cst).
 */
#include "capture.h"

#include "csum.h"
#include "eth.h"
#include "fdb.h"
#include "vxlan.h"

#define ALIGN		8u
#define OUTER_MAX	(VX_ETH_LEN + 40 + 8)
#define UDP_LEN		8
#define IPV4_LEN	20
#define IPV6_LEN	40

/** struct record - How a sight is written down */
struct record {
	uint16_t interface;
	uint8_t direction;
	uint8_t reason;
	const uint8_t *headers;		/* in front of the frame */
	uint32_t headers_len;
	const uint8_t *vtep;		/* address, or NULL */
};

static uint32_t enter(struct vx_watch *watch)
{
	atomic_store_explicit(&watch->busy, 1, memory_order_seq_cst);
	return atomic_load_explicit(&watch->captures->active, memory_order_seq_cst);
}

static void leave(struct vx_watch *watch)
{
	atomic_store_explicit(&watch->busy, 0, memory_order_release);
}

/* The ring */

/** reserve() - Room for a slice at the ring's head. Return: NULL if there is none; @start: where head would be */
static struct vx_slice *reserve(struct vx_slices *ring, uint32_t room, uint64_t *start)
{
	uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
	uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
	uint32_t at = (uint32_t)(head % VX_CAPTURE_RING), left = VX_CAPTURE_RING - at;
	uint32_t skip = left < room ? left : 0;
	struct vx_slice *slice = (struct vx_slice *)(ring->bytes + at);

	if (head + skip + room - tail > VX_CAPTURE_RING)
		return NULL;
	*start = head + skip;
	if (!skip)
		return slice;
	if (left >= sizeof(*slice)) {
		slice->room = left;
		slice->captured = VX_SLICE_SKIP;
	}
	return (struct vx_slice *)ring->bytes;
}

/** vx_slices_peek() - The oldest slice in front of @head, NULL if there is none. The writer's thread */
const struct vx_slice *vx_slices_peek(struct vx_slices *ring, uint64_t head)
{
	uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);

	while (tail < head) {
		uint32_t at = (uint32_t)(tail % VX_CAPTURE_RING), left = VX_CAPTURE_RING - at;
		const struct vx_slice *slice = (const struct vx_slice *)(ring->bytes + at);

		if (left >= sizeof(*slice) && slice->captured != VX_SLICE_SKIP)
			return slice;
		tail += left;
		atomic_store_explicit(&ring->tail, tail, memory_order_release);
	}
	return NULL;
}

/** vx_slices_drop() - Give back the room of the slice that vx_slices_peek() gave */
void vx_slices_drop(struct vx_slices *ring, const struct vx_slice *slice)
{
	uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);

	atomic_store_explicit(&ring->tail, tail + slice->room, memory_order_release);
}

/** copy() - Gather up to @max bytes. Return: how many */
static uint32_t copy(uint8_t *to, uint32_t max, const struct record *record, const struct vx_sight *sight)
{
	uint32_t done = record->headers_len < max ? record->headers_len : max;

	if (done)
		memcpy(to, record->headers, done);
	for (unsigned i = 0; i < sight->count && done < max; i++) {
		uint32_t len = (uint32_t)sight->parts[i].iov_len;

		if (len > max - done)
			len = max - done;
		memcpy(to + done, sight->parts[i].iov_base, len);
		done += len;
	}
	return done;
}

/** finish() - Finish the checksum of a whole frame that was copied */
static void finish(uint8_t *frame, uint32_t len, const struct vx_vnet *vnet)
{
	struct vx_vnet scratch = *vnet;
	struct vx_eth eth;

	if (!vx_eth_parse(frame, len, &eth))
		vx_csum_complete(frame, eth.end, &scratch);
}

/** keep() - Put a sight into a capture's ring, or count it as lost */
static void keep(const struct vx_watch *watch, struct vx_capture *capture, const struct record *record,
		 const struct vx_sight *sight)
{
	struct vx_slices *ring = &capture->ring[watch->index];
	bool unfinished = sight->vnet && (sight->vnet->flags & VX_VNET_NEEDS_CSUM);
	uint32_t len = record->headers_len, wanted, copied;
	struct vx_slice *slice;
	uint64_t start;

	for (unsigned i = 0; i < sight->count; i++)
		len += (uint32_t)sight->parts[i].iov_len;
	wanted = len < capture->config.snaplen ? len : capture->config.snaplen;
	copied = unfinished ? len : wanted;
	slice = reserve(ring, (uint32_t)(sizeof(*slice) + copied + ALIGN - 1) / ALIGN * ALIGN, &start);
	if (!slice) {
		ring->lost++;
		atomic_fetch_add_explicit(&ring->lost_total, 1, memory_order_relaxed);
		atomic_fetch_add_explicit(&ring->lost_at[record->interface], 1, memory_order_relaxed);
		return;
	}
	copy((uint8_t *)(slice + 1), copied, record, sight);
	if (unfinished)
		finish((uint8_t *)(slice + 1), len, sight->vnet);
	*slice = (struct vx_slice){
		.room = (uint32_t)(sizeof(*slice) + wanted + ALIGN - 1) / ALIGN * ALIGN,
		.captured = wanted,
		.len = len,
		.lost = ring->lost,
		.time_ns = *watch->now_ns,
		.packet = sight->packet >> VX_PACKET_SHIFT,
		.port = sight->port,
		.vni = sight->network ? sight->network->vni : VX_NONE,
		.frames = sight->frames,
		.interface = record->interface,
		.direction = record->direction,
		.reason = record->reason,
	};
	if (record->vtep)
		memcpy(slice->vtep, record->vtep, VX_ADDR_LEN);
	ring->lost = 0;
	atomic_store_explicit(&ring->head, start + slice->room, memory_order_release);
}

/* Selection */

static uint16_t interface_of(const struct vx_capture *capture, uint32_t port)
{
	return port < VX_PORTS_MAX ? atomic_load_explicit(&capture->interface[port], memory_order_acquire) : 0;
}

/** selects() - Whether a capture wants what is known of a frame */
static bool selects(const struct vx_capture *capture, const struct vx_sight *sight)
{
	if ((capture->config.flags & VX_CAPTURE_ALL) || (sight->packet >> capture->index & 1))
		return true;
	if (interface_of(capture, sight->port))
		return true;
	if (sight->vtep < VX_VTEPS_MAX && atomic_load_explicit(&capture->vtep[sight->vtep], memory_order_relaxed))
		return true;
	return sight->network &&
	       atomic_load_explicit(&capture->network[sight->network->id], memory_order_relaxed);
}

/** looks() - Whether a capture has a view, in a direction */
static bool looks(const struct vx_capture *capture, uint32_t view, uint8_t direction)
{
	return (capture->config.flags & view) && (capture->config.directions & direction);
}

static const uint8_t *address_of(const struct vx_watch *watch, uint32_t id)
{
	const struct vx_vtep *vtep = vx_net_vtep(watch->tables, id);

	return vtep ? vtep->address : NULL;
}

/* The underlay */

/** struct wire - Both ends of a datagram */
struct wire {
	const uint8_t *source;
	const uint8_t *target;
	uint16_t source_port;
	uint16_t target_port;
	uint8_t tos;
};

/** put_outer() - Make up the headers in front of a datagram's payload. Return: their length */
static uint32_t put_outer(uint8_t *out, const struct wire *wire, uint32_t payload)
{
	bool ipv4 = vx_addr_is4(wire->target);
	uint8_t *ip = out + VX_ETH_LEN, *udp = ip + (ipv4 ? IPV4_LEN : IPV6_LEN);

	memset(out, 0, OUTER_MAX);
	vx_put16(out + 12, ipv4 ? VX_ETHERTYPE_IPV4 : VX_ETHERTYPE_IPV6);
	if (ipv4) {
		ip[0] = 0x45;
		ip[1] = wire->tos;
		vx_put16(ip + 2, (uint16_t)(IPV4_LEN + UDP_LEN + payload));
		ip[9] = VX_PROTO_UDP;
		memcpy(ip + 12, wire->source + 12, 4);
		memcpy(ip + 16, wire->target + 12, 4);
	} else {
		vx_put32(ip, 6u << 28 | (uint32_t)wire->tos << 20);
		vx_put16(ip + 4, (uint16_t)(UDP_LEN + payload));
		ip[6] = VX_PROTO_UDP;
		memcpy(ip + 8, wire->source, VX_ADDR_LEN);
		memcpy(ip + 24, wire->target, VX_ADDR_LEN);
	}
	vx_put16(udp, wire->source_port);
	vx_put16(udp + 2, wire->target_port);
	vx_put16(udp + 4, (uint16_t)(UDP_LEN + payload));
	return (uint32_t)(udp + UDP_LEN - out);
}

static struct wire wire_of(const struct vx_watch *watch, const struct vx_frame *frame)
{
	return (struct wire){
		.source = frame->outer,
		.target = watch->address,
		.source_port = frame->outer_port,
		.target_port = watch->data_port,
		.tos = frame->outer_tos,
	};
}

/** show() - Keep a sight for every capture that has the view and selects it */
static void show(struct vx_watch *watch, uint32_t active, uint32_t view, struct record record,
		 const struct vx_sight *sight)
{
	for (; active; active &= active - 1) {
		struct vx_capture *capture = watch->captures->slot[__builtin_ctz(active)];

		if (!looks(capture, view, record.direction) || !selects(capture, sight))
			continue;
		if (view == VX_CAPTURE_INNER)
			record.interface = interface_of(capture, sight->port);
		if (view == VX_CAPTURE_LOST && !(capture->config.reasons >> record.reason & 1))
			continue;
		if (view != VX_CAPTURE_INNER || record.interface)
			keep(watch, capture, &record, sight);
	}
}

/** mark() - Number a packet, and remember who selected it */
static void mark(struct vx_watch *watch, uint32_t active, struct vx_frame *frame, const struct vx_sight *sight)
{
	uint64_t number = (uint64_t)watch->index << 48 | ++watch->packets;

	frame->packet = number << VX_PACKET_SHIFT;
	for (; active; active &= active - 1) {
		unsigned index = (unsigned)__builtin_ctz(active);

		if (selects(watch->captures->slot[index], sight))
			frame->packet |= 1ull << index;
	}
}

static void arrived_from_port(struct vx_watch *watch, uint32_t active, struct vx_frame *frame)
{
	const struct vx_port *port = vx_net_port(watch->tables, frame->from_id);
	struct iovec part = { frame->data, frame->len };
	struct vx_sight sight = {
		.parts = &part,
		.count = 1,
		.vnet = &frame->vnet,
		.port = frame->from_id,
		.vtep = VX_NONE,
		.network = port ? port->network : NULL,
		.frames = 1,
	};

	frame->packet = 0;
	mark(watch, active, frame, &sight);
	sight.packet = frame->packet;
	show(watch, active, VX_CAPTURE_INNER, (struct record){ .direction = VX_CAPTURE_FROM }, &sight);
}

/** arrived_from_tunnel() - As the decision will find it, but before: it may rewrite the frame */
static void arrived_from_tunnel(struct vx_watch *watch, uint32_t active, struct vx_frame *frame)
{
	const struct vx_vtep *vtep = vx_net_vtep_by_address(watch->tables, frame->outer);
	struct iovec part = { frame->data, frame->len };
	struct vx_sight sight = {
		.parts = &part,
		.count = 1,
		.port = VX_NONE,
		.vtep = vtep ? vtep->id : VX_NONE,
		.frames = 1,
	};
	struct wire wire = wire_of(watch, frame);
	uint8_t headers[OUTER_MAX];
	struct vx_place place;
	bool reserved;
	uint32_t vni;

	if (!vx_vxlan_parse(frame->data, frame->len, &vni, &reserved))
		sight.network = vx_net_by_vni(watch->tables, vni);
	if (sight.network && frame->len >= VX_VXLAN_LEN + VX_ETH_LEN) {
		place = vx_fdb_find(sight.network, vx_mac(frame->data + VX_VXLAN_LEN));
		sight.port = place.kind == VX_AT_PORT ? place.id : VX_NONE;
	}
	frame->packet = 0;
	mark(watch, active, frame, &sight);
	sight.packet = frame->packet;
	show(watch, active, VX_CAPTURE_OUTER,
	     (struct record){
		     .interface = VX_CAPTURE_UNDERLAY,
		     .direction = VX_CAPTURE_TO,
		     .headers = headers,
		     .headers_len = put_outer(headers, &wire, frame->len),
		     .vtep = frame->outer,
	     },
	     &sight);
}

/** vx_capture_arrived() - Frames were read, and nothing was decided about them yet */
void vx_capture_arrived(struct vx_watch *watch, struct vx_frame *frames, unsigned n)
{
	uint32_t active = enter(watch);

	for (unsigned i = 0; i < n && active; i++) {
		if (frames[i].from == VX_AT_PORT)
			arrived_from_port(watch, active, &frames[i]);
		else
			arrived_from_tunnel(watch, active, &frames[i]);
	}
	leave(watch);
}

/** vx_capture_refused() - A frame was dropped by the decision. Without a network it is shown as a datagram */
void vx_capture_refused(struct vx_watch *watch, const struct vx_frame *frame)
{
	bool datagram = frame->from == VX_AT_VTEP && !frame->network, tunnel = frame->from == VX_AT_VTEP;
	struct iovec part = { frame->data, frame->len };
	struct wire wire = wire_of(watch, frame);
	uint8_t headers[OUTER_MAX];
	struct vx_sight sight = {
		.parts = &part,
		.count = 1,
		.vnet = &frame->vnet,
		.packet = frame->packet,
		.port = tunnel ? VX_NONE : frame->from_id,
		.vtep = tunnel ? frame->from_id : VX_NONE,
		.network = frame->network,
		.frames = frame->segments,
	};
	struct record record = {
		.interface = VX_CAPTURE_DROPS,
		.direction = tunnel ? VX_CAPTURE_TO : VX_CAPTURE_FROM,
		.reason = frame->reason,
		.headers = headers,
		.headers_len = datagram ? put_outer(headers, &wire, frame->len) : 0,
		.vtep = tunnel ? frame->outer : NULL,
	};

	show(watch, enter(watch), VX_CAPTURE_LOST, record, &sight);
	leave(watch);
}

/** vx_capture_written() - A frame was written to a TAP */
void vx_capture_written(struct vx_watch *watch, const struct vx_sight *sight)
{
	show(watch, enter(watch), VX_CAPTURE_INNER, (struct record){ .direction = VX_CAPTURE_TO }, sight);
	leave(watch);
}

/** vx_capture_sent() - A datagram, VXLAN header first, was handed to the underlay */
void vx_capture_sent(struct vx_watch *watch, const struct vx_sight *sight, uint16_t source_port, uint8_t tos)
{
	const struct vx_vtep *vtep = vx_net_vtep(watch->tables, sight->vtep);
	uint8_t headers[OUTER_MAX];
	uint32_t payload = 0;

	if (!vtep)
		return;		/* sent, and removed since */
	for (unsigned i = 0; i < sight->count; i++)
		payload += (uint32_t)sight->parts[i].iov_len;
	struct wire wire = {
		.source = watch->address,
		.target = vtep->address,
		.source_port = source_port,
		.target_port = vtep->to.any.sa_family == AF_INET ? ntohs(vtep->to.ipv4.sin_port)
								  : ntohs(vtep->to.ipv6.sin6_port),
		.tos = tos,
	};
	struct record record = {
		.interface = VX_CAPTURE_UNDERLAY,
		.direction = VX_CAPTURE_FROM,
		.headers = headers,
		.headers_len = put_outer(headers, &wire, payload),
		.vtep = vtep->address,
	};

	show(watch, enter(watch), VX_CAPTURE_OUTER, record, sight);
	leave(watch);
}

/** vx_capture_lost() - A frame was lost on delivery, @direction: to an endpoint here, or from one to the underlay */
void vx_capture_lost(struct vx_watch *watch, const struct vx_sight *sight, enum vx_reason reason, uint8_t direction)
{
	struct record record = {
		.interface = VX_CAPTURE_DROPS,
		.direction = direction,
		.reason = (uint8_t)reason,
		.vtep = address_of(watch, sight->vtep),
	};

	show(watch, enter(watch), VX_CAPTURE_LOST, record, sight);
	leave(watch);
}
