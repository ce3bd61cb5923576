/* local.c - frames to ports of this host: merged, as they are, or in the pieces that a TAP takes
 *
 * How it works
 *   Frames from the tunnel go through the coalescer (gro.c) and are written when the receive batch is over, merged
 *   ones in one write. All else (frames between two TAPs, copies of a flood, answers) is written at once, its virtio
 *   header passed through untouched; what the coalescer still holds for that port is written before it, so that
 *   nothing overtakes.
 *
 *   What a TAP takes is said by the ladder (tables->offloads). A frame that it does not take is finished or cut here,
 *   one write per segment: the slow path of old kernels, and of a bug in some: a valid super-frame gives EINVAL
 *   (between the kernel's commits e269d79c7d35 and 89add40066f9). The first merged frame that meets it takes its
 *   type off the ladder, for good, and is written frame by frame.
 *
 *   A write either delivers all frames of a wire that it stands for, or all count under one reason.
 */
#define _GNU_SOURCE
#include <errno.h>

#include "csum.h"
#include "eth.h"
#include "gso.h"
#include "tap.h"
#include "worker.h"

/** struct outlet - A port that is written to, and who gets what is written */
struct outlet {
	struct vx_worker *worker;
	struct vx_port *port;
	struct vx_owner owner;
	uint32_t offloads;
	uint64_t packet;		/* vx_frame.packet of what is written */
};

/** struct load - What one write stands for */
struct load {
	unsigned frames;
	uint32_t bytes;
};

/** vx_local_gone() - A port's device is gone: park it, and say so once for all workers */
void vx_local_gone(struct vx_worker *worker, struct vx_port *port, int error)
{
	vx_event event = {
		.time_ns = worker->now_ns,
		.kind = VX_EVENT_PORT_GONE,
		.worker = (uint16_t)worker->index,
		.network = port->network->id,
		.port = port->id,
		.vtep = VX_NONE,
		.value = (uint64_t)error,
		.generation = port->generation,
	};

	if (atomic_exchange(&port->state, VX_PORT_PARKED) == VX_PORT_UP)
		vx_ring_push(worker->ring, &event);
}

/** find() - The outlet of a port. Return: false if there is none */
static bool find(struct outlet *outlet, struct vx_worker *worker, uint32_t port, uint32_t network, uint64_t packet)
{
	*outlet = (struct outlet){
		.worker = worker,
		.port = vx_net_port(worker->tables, port),
		.owner = { VX_AT_PORT, port, network },
		.offloads = atomic_load_explicit(&worker->tables->offloads, memory_order_relaxed),
		.packet = packet,
	};
	return outlet->port && atomic_load_explicit(&outlet->port->state, memory_order_relaxed) == VX_PORT_UP;
}

/** show() - Let captures see what was written, or, with a reason, was not */
static void show(const struct outlet *outlet, const struct vx_vnet *vnet, const struct iovec *parts, unsigned count,
		 unsigned frames, enum vx_reason reason)
{
	struct vx_sight sight = {
		.parts = parts,
		.count = count,
		.vnet = vnet,
		.packet = outlet->packet,
		.port = outlet->owner.id,
		.vtep = VX_NONE,
		.network = vx_net_get(outlet->worker->tables, outlet->owner.network),
		.frames = frames,
	};

	if (reason)
		vx_capture_lost(&outlet->worker->watch, &sight, reason, VX_CAPTURE_TO);
	else
		vx_capture_written(&outlet->worker->watch, &sight);
}

/** lose() - Count the frames of a write as lost */
static void lose(const struct outlet *outlet, const struct vx_vnet *vnet, const struct iovec *parts, unsigned count,
		 unsigned frames, enum vx_reason reason)
{
	if (vx_watched(&outlet->worker->watch))
		show(outlet, vnet, parts, count, frames, reason);
	vx_stats_drops(&outlet->worker->stats, outlet->owner, reason, frames);
}

/** offload_of() - The rung of the ladder that a GSO type needs; 0: none */
static uint32_t offload_of(uint8_t gso_type)
{
	switch (gso_type & ~VX_GSO_ECN) {
	case VX_GSO_NONE:
		return 0;
	case VX_GSO_UDP_L4:
		return VX_OFFLOAD_USO;
	default:
		return VX_OFFLOAD_TSO;
	}
}

/** takes() - Whether TAPs take a frame with this virtio header */
static bool takes(const struct outlet *outlet, const struct vx_vnet *vnet)
{
	uint32_t needed = offload_of(vnet->gso_type);

	if (needed || (vnet->flags & VX_VNET_NEEDS_CSUM))
		needed |= VX_OFFLOAD_VNET_HDR;
	return (outlet->offloads & needed) == needed;
}

static int put(const struct outlet *outlet, const struct vx_vnet *vnet, const struct iovec *parts, unsigned count)
{
	return -vx_tap_write(vx_port_writer(outlet->port, outlet->worker->index),
			     outlet->offloads & VX_OFFLOAD_VNET_HDR ? vnet : NULL, parts, count);
}

/** settle() - Count what became of a write that gave @error (positive), or 0 */
static void settle(const struct outlet *outlet, const struct vx_vnet *vnet, const struct iovec *parts, unsigned count,
		   struct load load, int error)
{
	struct vx_stats *stats = &outlet->worker->stats;

	if (!error) {
		if (vx_watched(&outlet->worker->watch))
			show(outlet, vnet, parts, count, load.frames, VX_OK);
		VX_COUNT(stats, outlet->owner, out_frames, load.frames);
		VX_COUNT(stats, outlet->owner, out_bytes, load.bytes);
		return;
	}
	lose(outlet, vnet, parts, count, load.frames, vx_tap_reason(error, vnet));
	if (vx_tap_is_gone(error))
		vx_local_gone(outlet->worker, outlet->port, error);
}

/** cut() - Write a super-frame segment by segment */
static void cut(const struct outlet *outlet, const struct vx_frame *frame)
{
	static const struct vx_vnet plain;
	uint8_t headers[VX_GSO_HEADERS_MAX];
	struct vx_gso gso;

	vx_gso_begin(&gso, frame);
	for (uint32_t i = 0; i < gso.segments; i++) {
		const uint8_t *payload;
		uint32_t len = vx_gso_cut(&gso, i, headers, &payload);
		struct iovec parts[2] = { { headers, gso.headers }, { (void *)payload, len } };

		settle(outlet, &plain, parts, 2, (struct load){ 1, gso.headers + len }, put(outlet, &plain, parts, 2));
	}
}

/** put_finished() - Write a frame with its checksum finished, and leave it as it was: the next copy is of it too */
static void put_finished(const struct outlet *outlet, struct vx_frame *frame, struct load load)
{
	struct iovec part = { frame->data, frame->len };
	uint8_t *field = frame->data + frame->vnet.csum_start + frame->vnet.csum_offset;
	uint16_t before = vx_get16(field);

	if (!vx_csum_complete(frame->data, frame->eth.end, &frame->vnet)) {
		lose(outlet, NULL, &part, 1, load.frames, VX_GSO_INVALID);
		return;
	}
	settle(outlet, &frame->vnet, &part, 1, load, put(outlet, &frame->vnet, &part, 1));
	vx_put16(field, before);
}

/** put_reduced() - Write a frame that the TAP does not take as it is, by what it takes */
static void put_reduced(const struct outlet *outlet, const struct vx_vnet *vnet, struct iovec part, struct load load)
{
	struct vx_frame frame = { .data = part.iov_base, .len = (uint32_t)part.iov_len, .vnet = *vnet };
	enum vx_reason reason = vx_eth_parse(frame.data, frame.len, &frame.eth);

	if (!reason)
		reason = vx_gso_check(&frame);
	if (reason)
		lose(outlet, NULL, &part, 1, load.frames, VX_GSO_INVALID);
	else if (frame.vnet.gso_type != VX_GSO_NONE)
		cut(outlet, &frame);
	else if (frame.vnet.flags & VX_VNET_NEEDS_CSUM)
		put_finished(outlet, &frame, load);
	else
		settle(outlet, &frame.vnet, &part, 1, load, put(outlet, &frame.vnet, &part, 1));
}

/** put_whole() - Write a frame as it is, or reduced */
static void put_whole(const struct outlet *outlet, const struct vx_vnet *vnet, struct iovec part, struct load load)
{
	int error = EINVAL;

	if (takes(outlet, vnet))
		error = put(outlet, vnet, &part, 1);
	if (error == EINVAL && (vnet->gso_type || !takes(outlet, vnet)))
		put_reduced(outlet, vnet, part, load);
	else
		settle(outlet, vnet, &part, 1, load, error);
}

/** put_undone() - Write the frames of a train one by one */
static void put_undone(const struct outlet *outlet, struct vx_train *train)
{
	vx_train_undo(train);
	for (unsigned i = 0; i < train->parts; i++) {
		struct vx_vnet vnet = vx_train_single(train, i);

		put_whole(outlet, &vnet, train->part[i], (struct load){ 1, (uint32_t)train->part[i].iov_len });
	}
}

/** vx_local_train() - Write what the coalescer emits; its vx_gro_emit */
void vx_local_train(void *context, struct vx_train *train)
{
	struct vx_worker *worker = context;
	struct load load = { train->frames, train->bytes };
	const struct iovec *pieces;
	struct outlet outlet;
	unsigned count;
	int error = EINVAL;

	if (!find(&outlet, worker, train->port, train->network, train->packet)) {
		lose(&outlet, &train->vnet, train->part, train->parts, train->frames, VX_TAP_DOWN);
		return;
	}
	if (train->parts == 1) {
		put_whole(&outlet, &train->vnet, train->part[0], load);
		return;
	}
	pieces = vx_train_pieces(train, &count);
	if (takes(&outlet, &train->vnet)) {
		error = put(&outlet, &train->vnet, pieces, count);
		if (error == EINVAL)
			vx_refused(&worker->tables->offloads, offload_of(train->vnet.gso_type));
	}
	if (error == EINVAL)
		put_undone(&outlet, train);
	else
		settle(&outlet, &train->vnet, pieces, count, load, error);
}

/** vx_local_merge() - A frame from the tunnel for a port: written at the latest when the receive batch is over */
void vx_local_merge(struct vx_worker *worker, const struct vx_frame *frame, uint32_t id)
{
	uint32_t offloads = atomic_load_explicit(&worker->tables->offloads, memory_order_relaxed);
	struct vx_owner sender = { frame->from, frame->from_id, frame->network->id };
	unsigned may_merge = 0;
	enum vx_reason reason;

	if (offloads & VX_OFFLOAD_VNET_HDR)
		may_merge = (offloads & VX_OFFLOAD_TSO ? VX_GRO_TCP : 0) | (offloads & VX_OFFLOAD_USO ? VX_GRO_UDP : 0);
	reason = vx_gro_add(worker->gro, frame, id, may_merge);
	if (reason)
		vx_deliver_lost(worker, frame, sender, reason);
}

/** vx_local_write() - Write a frame to a port now, behind what waits for that port */
void vx_local_write(struct vx_worker *worker, const struct vx_frame *frame, uint32_t id)
{
	struct load load = { frame->segments, vx_wire_bytes(frame) };
	struct iovec part = { frame->data, frame->len };
	struct outlet outlet;

	vx_gro_flush_port(worker->gro, id);
	if (find(&outlet, worker, id, frame->network->id, frame->packet))
		put_whole(&outlet, &frame->vnet, part, load);
	else
		lose(&outlet, &frame->vnet, &part, 1, frame->segments, VX_TAP_DOWN);
}
