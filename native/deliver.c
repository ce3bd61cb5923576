/* deliver.c - act on what the switch decided: count, tell, write, send, replicate
 *
 * How it works
 *   A frame that is dropped by the decision counts against whoever sent it; one that is lost on delivery (ring
 *   full, interface down, underlay refuses) against whoever should have got it. Either way once.
 *
 *   Replication goes through the ids of local ports and VTEPs (flood.c), at most VX_TURN_COPIES per turn. What
 *   is left becomes a job with a copy of the frame, resumed at the id it stopped at, by network id and VNI: the
 *   network may be gone by then. Jobs are few; while none is free the worker reads no TAP, which is what makes
 *   the sender of a storm wait.
 *
 *   This file decides nothing but the fit of a flood's copies, each of which has a target of its own.
 */
#define _GNU_SOURCE
#include "net.h"
#include "tap.h"
#include "worker.h"

static struct vx_owner sender_of(const struct vx_frame *frame)
{
	return (struct vx_owner){ frame->from, frame->from_id, frame->network ? frame->network->id : VX_NONE };
}

static void tell(struct vx_worker *worker, const struct vx_frame *frame)
{
	vx_event event = {
		.time_ns = worker->now_ns,
		.kind = frame->event,
		.worker = (uint16_t)worker->index,
		.network = frame->network ? frame->network->id : VX_NONE,
		.port = frame->port ? frame->port->id : VX_NONE,
		.vtep = frame->from == VX_AT_VTEP ? frame->from_id : VX_NONE,
		.reason = frame->reason,
		.generation = frame->port ? frame->port->generation : 0,
	};
	bool about_address = frame->event == VX_EVENT_NEIGHBOR_MISS || frame->event == VX_EVENT_ADDRESS_MOVED ||
			     frame->event == VX_EVENT_VTEP_UNKNOWN;

	if (about_address)
		memcpy(event.address, frame->event_address, VX_ADDR_LEN);
	if (!about_address || frame->event == VX_EVENT_ADDRESS_MOVED)
		memcpy(event.mac, frame->event_mac, VX_MAC_LEN);
	vx_ring_push(worker->ring, &event);
}

/** count() - What came in, and what was remarkable about it */
static void count(struct vx_worker *worker, const struct vx_frame *frame, struct vx_owner sender)
{
	struct vx_stats *stats = &worker->stats;

	VX_COUNT(stats, sender, in_frames, 1);
	VX_COUNT(stats, sender, in_bytes, frame->len);
	if (frame->notes & VX_NOTE_DECAPSULATED)
		VX_COUNT(stats, sender, decapsulated, 1);
	if (frame->notes & VX_NOTE_PENDING)
		VX_COUNT(stats, sender, pending_passed, 1);
	if (frame->notes & VX_NOTE_RESERVED)
		VX_COUNT(stats, sender, reserved_bits, 1);
	if ((frame->notes & VX_NOTE_ARP_ND) && frame->from == VX_AT_VTEP)
		VX_COUNT(stats, sender, arp_nd_underlay, 1);
}

/** vx_deliver_port_gone() - A port's device is gone: park it, and say so once for all workers */
void vx_deliver_port_gone(struct vx_worker *worker, struct vx_port *port, int error)
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

/** to_port() - Write a frame to a TAP, or count why not */
static void to_port(struct vx_worker *worker, const struct vx_frame *frame, uint32_t id)
{
	struct vx_port *port = vx_net_port(worker->tables, id);
	struct vx_owner owner = { VX_AT_PORT, id, frame->network->id };
	int error;

	if (!port || atomic_load_explicit(&port->state, memory_order_relaxed) != VX_PORT_UP) {
		vx_stats_drop(&worker->stats, owner, VX_TAP_DOWN);
		return;
	}
	error = -vx_tap_write(vx_port_writer(port, worker->index), frame,
			      vx_may(&worker->tables->offloads, VX_OFFLOAD_VNET_HDR));
	if (!error) {
		VX_COUNT(&worker->stats, owner, out_frames, 1);
		VX_COUNT(&worker->stats, owner, out_bytes, frame->len);
		return;
	}
	vx_stats_drop(&worker->stats, owner, vx_tap_reason(error, frame));
	if (vx_tap_is_gone(error))
		vx_deliver_port_gone(worker, port, error);
}

/** to_vtep() - Queue a frame for a VTEP, or count why not */
static void to_vtep(struct vx_worker *worker, const struct vx_frame *frame, uint32_t id)
{
	const struct vx_vtep *vtep = vx_net_vtep(worker->tables, id);

	if (vtep)
		vx_transmitter_queue(&worker->transmitter, frame, vtep);
	else
		vx_stats_drop(&worker->stats, (struct vx_owner){ VX_AT_VTEP, id, frame->network->id }, VX_SHUTDOWN);
}

/** copy_to_port() - One copy of a flood to a TAP, if it fits there */
static void copy_to_port(struct vx_worker *worker, struct vx_frame *frame, uint32_t id)
{
	const struct vx_port *port = vx_net_port(worker->tables, id);
	enum vx_reason reason = port ? vx_switch_fit_port(frame, port) : VX_TAP_DOWN;

	if (reason)
		vx_stats_drop(&worker->stats, (struct vx_owner){ VX_AT_PORT, id, frame->network->id }, reason);
	else
		to_port(worker, frame, id);
}

/** copy_to_vtep() - One copy of a flood to a VTEP, if it fits the path */
static void copy_to_vtep(struct vx_worker *worker, struct vx_frame *frame, uint32_t id)
{
	const struct vx_vtep *vtep = vx_net_vtep(worker->tables, id);
	enum vx_reason reason = vtep ? vx_switch_fit_vtep(frame, vtep) : VX_SHUTDOWN;

	if (reason)
		vx_stats_drop(&worker->stats, (struct vx_owner){ VX_AT_VTEP, id, frame->network->id }, reason);
	else
		to_vtep(worker, frame, id);
}

/** replicate() - Make up to a turn's worth of copies. Return: true when all are made */
static bool replicate(struct vx_worker *worker, struct vx_frame *frame, uint32_t *next_port, uint32_t *next_vtep)
{
	uint32_t own = frame->from == VX_AT_PORT ? frame->from_id : VX_NONE, id;
	unsigned copies = 0;

	while ((frame->scope & VX_TO_LOCAL) && vx_flood_next_local(frame->network, own, next_port, &id)) {
		copy_to_port(worker, frame, id);
		if (++copies == VX_TURN_COPIES)
			break;
	}
	while (copies < VX_TURN_COPIES && vx_flood_next_vtep(frame->network, frame->scope, next_vtep, &id)) {
		copy_to_vtep(worker, frame, id);
		copies++;
	}
	VX_COUNT(&worker->stats, sender_of(frame), flooded, copies);
	return copies < VX_TURN_COPIES;
}

/** defer() - Put the rest of a replication aside */
static void defer(struct vx_worker *worker, const struct vx_frame *frame, uint32_t next_port, uint32_t next_vtep)
{
	for (unsigned i = 0; i < VX_FLOOD_JOBS; i++) {
		struct vx_flood_job *job = &worker->jobs[i];

		if (job->active)
			continue;
		job->active = true;
		job->network = frame->network->id;
		job->vni = frame->network->vni;
		job->next_port = next_port;
		job->next_vtep = next_vtep;
		job->frame = *frame;
		job->frame.data = job->buffer + VX_HEADROOM;
		memcpy(job->frame.data - VX_VXLAN_LEN, frame->data - VX_VXLAN_LEN, frame->len + VX_VXLAN_LEN);
		worker->jobs_active++;
		return;
	}
	vx_stats_drop(&worker->stats, sender_of(frame), VX_RING_FULL);
}

static void flood(struct vx_worker *worker, struct vx_frame *frame)
{
	uint32_t next_port = 0, next_vtep = 0;

	if (!replicate(worker, frame, &next_port, &next_vtep))
		defer(worker, frame, next_port, next_vtep);
}

/** vx_deliver_jobs() - A turn for each replication under way */
void vx_deliver_jobs(struct vx_worker *worker)
{
	for (unsigned i = 0; i < VX_FLOOD_JOBS && worker->jobs_active; i++) {
		struct vx_flood_job *job = &worker->jobs[i];
		bool over = true;

		if (!job->active || worker->transmitter.blocked)
			continue;
		job->frame.network = vx_net_get(worker->tables, job->network);
		job->frame.port = NULL;
		if (job->frame.network && job->frame.network->vni == job->vni)
			over = replicate(worker, &job->frame, &job->next_port, &job->next_vtep);
		else
			vx_stats_drop(&worker->stats, (struct vx_owner){ 0, VX_NONE, VX_NONE }, VX_SHUTDOWN);
		vx_transmitter_flush(&worker->transmitter, true);
		if (!over || worker->transmitter.blocked)
			continue;	/* messages that are kept refer to the job's buffer */
		job->active = false;
		worker->jobs_active--;
	}
}

/** reply() - Send an answer of the proxy back to where the question came from */
static void reply(struct vx_worker *worker, const struct vx_frame *frame, struct vx_owner sender)
{
	bool arp = frame->eth.version == 0;

	if (arp)
		VX_COUNT(&worker->stats, sender, arp_answered, 1);
	else
		VX_COUNT(&worker->stats, sender, nd_answered, 1);
	if (frame->from == VX_AT_PORT)
		to_port(worker, frame, frame->from_id);
	else
		to_vtep(worker, frame, frame->from_id);
}

/**
 * vx_deliver() - Act on a vector of decided frames
 * @worker:	Worker; its transmitter holds what goes to the underlay until the flush
 * @frames:	What vx_switch() made
 * @n:		How many
 */
void vx_deliver(struct vx_worker *worker, struct vx_frame *frames, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct vx_frame *frame = &frames[i];
		struct vx_owner sender = sender_of(frame);

		count(worker, frame, sender);
		if (frame->event)
			tell(worker, frame);
		if (frame->reason)
			vx_stats_drop(&worker->stats, sender, frame->reason);
		else if (frame->act == VX_ACT_PORT)
			to_port(worker, frame, frame->target);
		else if (frame->act == VX_ACT_VTEP)
			to_vtep(worker, frame, frame->target);
		else if (frame->act == VX_ACT_FLOOD)
			flood(worker, frame);
		else if (frame->act == VX_ACT_REPLY)
			reply(worker, frame, sender);
		else
			VX_COUNT(&worker->stats, sender, absorbed, 1);
	}
}
