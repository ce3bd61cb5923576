/* remote.c - frames to VTEPs: as they are, or in fragments
 *
 * How it works
 *   Most frames are queued as they are (transmit.c), super-frames too. Where the decision says that an IPv4 packet
 *   without DF does not fit the path (frame->fit), its fragments are made here, in the worker's own buffers; of a
 *   super-frame, those of each segment. The queue refers to these buffers, so they are sent before they are used
 *   again, and what a full socket does not take is dropped: whoever sends without DF through a path that is too
 *   narrow is on the slow path anyway.
 */
#define _GNU_SOURCE
#include "gso.h"
#include "toobig.h"
#include "vxlan.h"
#include "worker.h"

#define FRAGMENT_MIN	(VX_PATH_MTU_MIN - 80)	/* the smallest path without outer headers, Ethernet and tags */

static_assert(VX_PIECES_LEN / (VX_HEADROOM + FRAGMENT_MIN) < VX_TX_QUEUE, "a queue that overflows keeps messages");

/** room_of() - What a frame of @len bytes takes in a buffer */
static uint32_t room_of(uint32_t len)
{
	return VX_HEADROOM + (len + 7) / 8 * 8;
}

/** send_fragments() - Fragment a packet of one segment, and send the fragments */
static void send_fragments(struct vx_worker *worker, const struct vx_frame *whole, const struct vx_vtep *vtep)
{
	uint32_t next = 0, used = 0, room = room_of(whole->eth.l3 + whole->fit);
	struct vx_frame piece = *whole;

	piece.fit = 0;
	for (;;) {
		if (used + room > VX_PIECES_LEN) {
			vx_transmitter_flush(&worker->transmitter, false);
			used = 0;
		}
		piece.data = worker->pieces + used + VX_HEADROOM;
		piece.len = vx_toobig_fragment(whole, whole->fit, &next, piece.data);
		if (!piece.len)
			break;
		vx_vxlan_put(piece.data - VX_VXLAN_LEN, whole->network->vni);
		vx_transmitter_queue(&worker->transmitter, &piece, vtep);
		used += room;
	}
	vx_transmitter_flush(&worker->transmitter, false);
}

/** fragment() - Send a frame in fragments. What was queued before it stays in front of it */
static void fragment(struct vx_worker *worker, const struct vx_frame *frame, const struct vx_vtep *vtep)
{
	uint8_t *buffer = worker->pieces + VX_PIECES_LEN;
	struct vx_frame segment = *frame;
	struct vx_gso gso;

	vx_transmitter_flush(&worker->transmitter, true);
	if (frame->vnet.gso_type == VX_GSO_NONE) {
		send_fragments(worker, frame, vtep);
		return;
	}
	segment.data = buffer + VX_HEADROOM;
	segment.segments = 1;
	segment.vnet = (struct vx_vnet){ 0 };
	vx_gso_begin(&gso, frame);
	for (uint32_t i = 0; i < gso.segments; i++) {
		segment.len = vx_gso_copy(&gso, i, segment.data);
		send_fragments(worker, &segment, vtep);
	}
}

/** vx_remote_send() - Queue a frame for a VTEP, or count why not */
void vx_remote_send(struct vx_worker *worker, const struct vx_frame *frame, uint32_t id)
{
	const struct vx_vtep *vtep = vx_net_vtep(worker->tables, id);
	struct vx_owner owner = { VX_AT_VTEP, id, frame->network->id };

	if (!vtep)
		vx_deliver_lost(worker, frame, owner, VX_SHUTDOWN);
	else if (frame->fit)
		fragment(worker, frame, vtep);
	else
		vx_transmitter_queue(&worker->transmitter, frame, vtep);
}
