/* deliver.c - act on what the switch decided: count, tell, hand over, replicate
 *
 * How it works
 *   A frame that is dropped by the decision counts against whoever sent it; one that is lost on delivery (ring
 *   full, interface down, underlay refuses) against whoever should have got it. Either way once. Counters count
 *   frames as they are on a wire: a super-frame is as many as it has segments.
 *   How a frame gets to a port is local.c's, how it gets to a VTEP remote.c's.
 *
 *   Replication goes through the ids of local ports and VTEPs (flood.c), at most VX_TURN_COPIES per turn. What
 *   is left becomes a job with a copy of the frame, resumed at the id it stopped at, by network id and generation:
 *   the network may be gone by then. Jobs are few; while none is free the worker reads no TAP, which is what makes
 *   the sender of a storm wait. Senders on other hosts do not wait, so a storm of theirs may not take all jobs of all
 *   networks: VX_FLOOD_JOBS_TUNNEL a network, and beyond those each frame gets one turn's copies, the others counted.
 *
 *   This file decides nothing but the fit of a flood's copies, each of which has a target of its own.
 */
#define _GNU_SOURCE
#include "probe.h"
#include "vxlan.h"
#include "worker.h"

static struct vx_owner sender_of(const struct vx_frame *frame)
{
	return (struct vx_owner){ frame->from, frame->from_id, frame->network ? frame->network->id : VX_NONE };
}

/** vx_deliver_lost() - A frame is lost on delivery to @owner: count it, and let captures see it */
void vx_deliver_lost(struct vx_worker *worker, const struct vx_frame *frame, struct vx_owner owner,
		     enum vx_reason reason)
{
	struct iovec part = { frame->data, frame->len };
	struct vx_sight sight = {
		.parts = &part,
		.count = 1,
		.vnet = &frame->vnet,
		.packet = frame->packet,
		.port = owner.kind == VX_AT_PORT ? owner.id : VX_NONE,
		.vtep = owner.kind == VX_AT_VTEP ? owner.id : VX_NONE,
		.network = frame->network,
		.frames = frame->segments,
	};

	if (vx_watched(&worker->watch))
		vx_capture_lost(&worker->watch, &sight, reason,
				owner.kind == VX_AT_PORT ? VX_CAPTURE_TO : VX_CAPTURE_FROM);
	vx_stats_drops(&worker->stats, owner, reason, frame->segments);
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
	if (frame->event == VX_EVENT_PROBE) {
		memcpy(event.address, frame->outer, VX_ADDR_LEN);
		event.value = vx_probe_token(frame->data);
	}
	vx_ring_push(worker->ring, &event);
}

/** struct tally - What came from one sender and is not in its counters yet: the frames of a train have one sender */
struct tally {
	struct vx_owner sender;
	uint64_t frames;
	uint64_t bytes;
	uint64_t decapsulated;
};

/** enter() - Put a tally into the counters, and begin the next sender's */
static void enter(struct vx_stats *stats, struct tally *tally, struct vx_owner next)
{
	if (tally->frames) {
		VX_COUNT(stats, tally->sender, in_frames, tally->frames);
		VX_COUNT(stats, tally->sender, in_bytes, tally->bytes);
	}
	if (tally->decapsulated)
		VX_COUNT(stats, tally->sender, decapsulated, tally->decapsulated);
	*tally = (struct tally){ .sender = next };
}

/** count() - What came in, and what was remarkable about it */
static void count(struct vx_stats *stats, const struct vx_frame *frame, struct vx_owner sender, struct tally *tally)
{
	if (sender.kind != tally->sender.kind || sender.id != tally->sender.id ||
	    sender.network != tally->sender.network)
		enter(stats, tally, sender);
	tally->frames += frame->segments;
	tally->bytes += vx_wire_bytes(frame);
	if (frame->notes & VX_NOTE_DECAPSULATED)
		tally->decapsulated += frame->segments;
	if (frame->notes & VX_NOTE_PENDING)
		VX_COUNT(stats, sender, pending_passed, frame->segments);
	if (frame->notes & VX_NOTE_RESERVED)
		VX_COUNT(stats, sender, reserved_bits, frame->segments);
	if ((frame->notes & VX_NOTE_ARP_ND) && frame->from == VX_AT_VTEP)
		VX_COUNT(stats, sender, arp_nd_underlay, 1);
}

/** copy_to_port() - One copy of a flood to a TAP, if it fits there */
static void copy_to_port(struct vx_worker *worker, struct vx_frame *frame, uint32_t id)
{
	const struct vx_port *port = vx_net_port(worker->tables, id);
	enum vx_reason reason = port ? vx_switch_fit_port(frame, port) : VX_TAP_DOWN;

	if (reason)
		vx_deliver_lost(worker, frame, (struct vx_owner){ VX_AT_PORT, id, frame->network->id }, reason);
	else
		vx_local_write(worker, frame, id);
}

/** copy_to_vtep() - One copy of a flood to a VTEP, if it fits the path */
static void copy_to_vtep(struct vx_worker *worker, struct vx_frame *frame, uint32_t id)
{
	const struct vx_vtep *vtep = vx_net_vtep(worker->tables, id);
	enum vx_reason reason = vtep ? vx_switch_fit_vtep(frame, vtep) : VX_SHUTDOWN;

	if (reason)
		vx_deliver_lost(worker, frame, (struct vx_owner){ VX_AT_VTEP, id, frame->network->id }, reason);
	else
		vx_remote_send(worker, frame, id);
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
	VX_COUNT(&worker->stats, sender_of(frame), flooded, copies * frame->segments);
	return copies < VX_TURN_COPIES;
}

/** lose() - Count the copies that will not be made, each against whom it was for */
static void lose(struct vx_worker *worker, const struct vx_frame *frame, uint32_t next_port, uint32_t next_vtep,
		 enum vx_reason reason)
{
	uint32_t own = frame->from == VX_AT_PORT ? frame->from_id : VX_NONE, id, net = frame->network->id;

	while ((frame->scope & VX_TO_LOCAL) && vx_flood_next_local(frame->network, own, &next_port, &id))
		vx_deliver_lost(worker, frame, (struct vx_owner){ VX_AT_PORT, id, net }, reason);
	while (vx_flood_next_vtep(frame->network, frame->scope, &next_vtep, &id))
		vx_deliver_lost(worker, frame, (struct vx_owner){ VX_AT_VTEP, id, net }, reason);
}

/** free_job() - A job for a frame. Return: NULL if none is free, or the tunnel has brought its network too many */
static struct vx_flood_job *free_job(struct vx_worker *worker, const struct vx_frame *frame)
{
	struct vx_flood_job *found = NULL;
	unsigned from_tunnel = 0;

	for (unsigned i = VX_FLOOD_JOBS; i-- > 0;) {
		struct vx_flood_job *job = &worker->jobs[i];

		if (!job->active)
			found = job;
		else
			from_tunnel += job->frame.from == VX_AT_VTEP && job->network == frame->network->id;
	}
	return frame->from == VX_AT_VTEP && from_tunnel >= VX_FLOOD_JOBS_TUNNEL ? NULL : found;
}

/** defer() - Put the rest of a replication aside. Return: false if there is no job for it */
static bool defer(struct vx_worker *worker, const struct vx_frame *frame, uint32_t next_port, uint32_t next_vtep)
{
	struct vx_flood_job *job = free_job(worker, frame);

	if (!job)
		return false;
	job->active = true;
	job->network = frame->network->id;
	job->generation = frame->network->generation;
	job->next_port = next_port;
	job->next_vtep = next_vtep;
	job->frame = *frame;
	job->frame.data = job->buffer + VX_HEADROOM;
	memcpy(job->frame.data - VX_VXLAN_LEN, frame->data - VX_VXLAN_LEN, frame->len + VX_VXLAN_LEN);
	worker->jobs_active++;
	return true;
}

/** flood() - Make the copies of a frame, as many as a turn may; without a job a frame from a port gets all of
 * them at once, since storm control has limited what a vector of those can ask for, and one from the tunnel no more
 */
static void flood(struct vx_worker *worker, struct vx_frame *frame)
{
	uint32_t next_port = 0, next_vtep = 0;

	while (!replicate(worker, frame, &next_port, &next_vtep)) {
		if (defer(worker, frame, next_port, next_vtep))
			return;
		if (frame->from == VX_AT_VTEP) {
			lose(worker, frame, next_port, next_vtep, VX_RING_FULL);
			return;
		}
	}
}

/** renew() - Find a job's network, which may be gone: then nobody is left to lose a copy */
static bool renew(struct vx_worker *worker, struct vx_flood_job *job)
{
	job->frame.network = vx_net_get(worker->tables, job->network);
	job->frame.port = NULL;
	if (job->frame.network && job->frame.network->generation == job->generation)
		return true;
	vx_stats_drops(&worker->stats, (struct vx_owner){ 0, VX_NONE, VX_NONE }, VX_SHUTDOWN, job->frame.segments);
	return false;
}

/** vx_deliver_jobs() - A turn for each replication under way; whom a full underlay leaves out comes first */
void vx_deliver_jobs(struct vx_worker *worker)
{
	unsigned first = worker->job_first;

	for (unsigned i = 0; i < VX_FLOOD_JOBS && worker->jobs_active; i++) {
		struct vx_flood_job *job = &worker->jobs[(first + i) % VX_FLOOD_JOBS];
		bool over = true;

		worker->job_first = (first + i) % VX_FLOOD_JOBS;
		if (worker->transmitter.blocked)
			return;
		if (!job->active)
			continue;
		if (renew(worker, job))
			over = replicate(worker, &job->frame, &job->next_port, &job->next_vtep);
		vx_transmitter_flush(&worker->transmitter, true);
		if (!over || worker->transmitter.blocked)
			continue;	/* messages that are kept refer to the job's buffer */
		job->active = false;
		worker->jobs_active--;
	}
}

/** vx_deliver_abandon() - Count as shutdown what replications of a stopped worker have not made */
void vx_deliver_abandon(struct vx_worker *worker)
{
	for (unsigned i = 0; i < VX_FLOOD_JOBS; i++) {
		struct vx_flood_job *job = &worker->jobs[i];

		if (job->active && renew(worker, job))
			lose(worker, &job->frame, job->next_port, job->next_vtep, VX_SHUTDOWN);
		job->active = false;
	}
	worker->jobs_active = 0;
}

static void send_back(struct vx_worker *worker, const struct vx_frame *frame)
{
	if (frame->from == VX_AT_PORT)
		vx_local_write(worker, frame, frame->from_id);
	else
		vx_remote_send(worker, frame, frame->from_id);
}

/** reply() - Send an answer of the proxy back to where the question came from */
static void reply(struct vx_worker *worker, const struct vx_frame *frame, struct vx_owner sender)
{
	bool arp = frame->eth.version == 0;

	if (arp)
		VX_COUNT(&worker->stats, sender, arp_answered, 1);
	else
		VX_COUNT(&worker->stats, sender, nd_answered, 1);
	send_back(worker, frame);
}

/** answer() - Send an ICMP error back to where the frame came from, whatever becomes of the frame */
static void answer(struct vx_worker *worker, const struct vx_frame *frame)
{
	struct vx_frame back = *frame;

	back.data = frame->spare;
	back.len = frame->answer;
	back.vnet = (struct vx_vnet){ 0 };
	back.segments = 1;
	back.fit = 0;
	back.notes = 0;
	vx_vxlan_put(back.data - VX_VXLAN_LEN, frame->network->vni);
	send_back(worker, &back);
}

/** forward() - Carry a frame out that was not dropped */
static void forward(struct vx_worker *worker, struct vx_frame *frame, struct vx_owner sender)
{
	if (frame->act == VX_ACT_PORT && frame->from == VX_AT_VTEP)
		vx_local_merge(worker, frame, frame->target);
	else if (frame->act == VX_ACT_PORT)
		vx_local_write(worker, frame, frame->target);
	else if (frame->act == VX_ACT_VTEP)
		vx_remote_send(worker, frame, frame->target);
	else if (frame->act == VX_ACT_FLOOD)
		flood(worker, frame);
	else if (frame->act == VX_ACT_REPLY)
		reply(worker, frame, sender);
	else
		VX_COUNT(&worker->stats, sender, absorbed, frame->segments);
}

/**
 * vx_deliver() - Act on a vector of decided frames
 * @worker:	Worker; its transmitter holds what goes to the underlay until the flush, its coalescer what came from
 *		there until the receive batch is over
 * @frames:	What vx_switch() made
 * @n:		How many
 */
void vx_deliver(struct vx_worker *worker, struct vx_frame *frames, unsigned n)
{
	struct tally tally = { .frames = 0 };

	for (unsigned i = 0; i < n; i++) {
		struct vx_frame *frame = &frames[i];
		struct vx_owner sender = sender_of(frame);

		count(&worker->stats, frame, sender, &tally);
		if (frame->event)
			tell(worker, frame);
		if (frame->reason && vx_watched(&worker->watch))
			vx_capture_refused(&worker->watch, frame);
		if (frame->reason)
			vx_stats_drops(&worker->stats, sender, frame->reason, frame->segments);
		else
			forward(worker, frame, sender);
		if (frame->answer)
			answer(worker, frame);
	}
	enter(&worker->stats, &tally, tally.sender);
}

/**
 * vx_deliver_followers() - Let frames from the tunnel go where one went that they are like
 * @worker:	Worker
 * @frame:	The last frame that vx_deliver() was given
 * @next:	What follows it in its datagram, at the VXLAN header
 * @count:	How many frames of the same length
 *
 * Only behind a frame that went to a port and was nothing special: what a record allowed it allows them.
 *
 * Return: how many went; the next one is to be decided
 */
unsigned vx_deliver_followers(struct vx_worker *worker, const struct vx_frame *frame, uint8_t *next, unsigned count)
{
	struct vx_owner sender = sender_of(frame);
	struct tally tally = { .sender = sender };

	if (frame->reason || frame->event || frame->act != VX_ACT_PORT || frame->notes != VX_NOTE_DECAPSULATED)
		return 0;
	count = vx_gro_follow(worker->gro, frame, next, count);
	tally.frames = tally.decapsulated = count;
	tally.bytes = (uint64_t)count * frame->len;
	enter(&worker->stats, &tally, sender);
	return count;
}
