/* capture.h - copies of frames for whoever looks on; see capture.c and recorder.c */
#ifndef VX_CAPTURE_H
#define VX_CAPTURE_H

#include <pthread.h>
#include <sys/uio.h>

#include "net.h"

#define VX_CAPTURE_UNDERLAY	0	/* interfaces that every file begins with; endpoints follow */
#define VX_CAPTURE_DROPS	1

#define VX_PACKET_SHIFT		4	/* below it: which captures selected the packet when it arrived */

static_assert(VX_CAPTURES_MAX <= VX_PACKET_SHIFT, "vx_frame.packet has a bit per capture");

/** struct vx_slice - What is kept of one frame; the bytes follow
 * @room:	Bytes in the ring, this header included
 * @captured:	Bytes that follow; VX_SLICE_SKIP: nothing does, the ring goes on at its beginning
 * @len:	Bytes the frame had
 * @lost:	Frames that did not fit since the one before
 * @time_ns:	CLOCK_MONOTONIC
 * @packet:	The same for all records of one packet; 0: not known
 * @port:	Endpoint, VX_NONE if there is none
 * @vni:	Of its network, VX_NONE if it has none
 * @frames:	Of a wire, that it stands for
 * @interface:	Of the file
 * @direction:	VX_CAPTURE_TO, VX_CAPTURE_FROM
 * @reason:	VX_OK or why it was dropped
 * @vtep:	Where it came from or was to go, all zero for neither
 */
struct vx_slice {
	uint32_t room;
	uint32_t captured;
	uint32_t len;
	uint32_t lost;
	uint64_t time_ns;
	uint64_t packet;
	uint32_t port;
	uint32_t vni;
	uint32_t frames;
	uint16_t interface;
	uint8_t direction;
	uint8_t reason;
	uint8_t vtep[VX_ADDR_LEN];
};

#define VX_SLICE_SKIP	UINT32_MAX

static_assert(sizeof(struct vx_slice) % 8 == 0, "slices stay aligned");

/** struct vx_slices - A ring of slices: one worker fills it, one writer empties it */
struct vx_slices {
	_Alignas(64) _Atomic uint64_t head;	/* bytes ever put in; the worker's */
	uint32_t lost;				/* since the last one that fitted; the worker's */
	_Atomic uint64_t lost_total;
	_Atomic uint32_t *lost_at;		/* by interface */
	uint8_t *bytes;
	_Alignas(64) _Atomic uint64_t tail;	/* bytes ever taken out; the writer's */
};

/** struct vx_capture - One capture: what is wanted, the rings, and its writer */
struct vx_capture {
	vx_capture_config config;
	unsigned index;
	struct vx_captures *captures;
	_Atomic uint16_t interface[VX_PORTS_MAX];	/* 0: not selected */
	_Atomic bool vtep[VX_VTEPS_MAX];
	_Atomic bool network[VX_NETWORKS_MAX];
	struct vx_slices ring[VX_WORKERS_MAX];
	void *map;				/* the rings' memory */
	pthread_t thread;
	pthread_mutex_t lock;			/* of what Python hands the writer: */
	uint8_t *blocks;			/* finished blocks that come next */
	size_t blocks_len;
	_Atomic unsigned interfaces;
	char label[VX_PORTS_MAX][VX_CAPTURE_LABEL];
	_Atomic bool stopping;			/* end when the rings are empty */
	_Atomic bool abandoned;			/* end now */
	_Atomic bool ended;
	_Atomic uint64_t frames;		/* written */
	struct vx_output *output;		/* the writer's */
};

/** struct vx_captures - The captures of an engine */
struct vx_captures {
	_Atomic uint32_t active;		/* bit i: slot i takes frames */
	unsigned workers;
	struct vx_watch *watch[VX_WORKERS_MAX];
	struct vx_capture *slot[VX_CAPTURES_MAX];
};

/** struct vx_watch - A worker's side
 * @captures:	NULL: nobody can look on
 * @tables:	To find networks and VTEPs by
 * @now_ns:	The worker's clock
 * @address:	Our end of the tunnel
 * @data_port:	Its port
 * @index:	Worker
 * @packets:	How many were numbered
 * @busy:	It may hold pointers to captures
 */
struct vx_watch {
	struct vx_captures *captures;
	struct vx_tables *tables;
	const uint64_t *now_ns;
	uint8_t address[VX_ADDR_LEN];
	uint16_t data_port;
	unsigned index;
	uint64_t packets;
	_Alignas(64) _Atomic uint32_t busy;
};

/** struct vx_sight - A frame that is looked at, and what is known of it
 * @parts:	Its bytes
 * @count:	How many parts
 * @vnet:	Its virtio header: says whether the copy's checksum has to be finished. NULL: it is complete
 * @packet:	vx_frame.packet
 * @port:	Endpoint, or VX_NONE
 * @vtep:	VTEP, or VX_NONE
 * @network:	Network, or NULL
 * @frames:	Of a wire
 */
struct vx_sight {
	const struct iovec *parts;
	unsigned count;
	const struct vx_vnet *vnet;
	uint64_t packet;
	uint32_t port;
	uint32_t vtep;
	const struct vx_network *network;
	uint32_t frames;
};

/** vx_watched() - Whether there is any capture: all that the hot path pays for without one */
static inline bool vx_watched(const struct vx_watch *watch)
{
	return __builtin_expect(watch && watch->captures &&
				atomic_load_explicit(&watch->captures->active, memory_order_relaxed), false);
}

void vx_capture_arrived(struct vx_watch *watch, struct vx_frame *frames, unsigned n);
void vx_capture_refused(struct vx_watch *watch, const struct vx_frame *frame);
void vx_capture_written(struct vx_watch *watch, const struct vx_sight *sight);
void vx_capture_sent(struct vx_watch *watch, const struct vx_sight *sight, uint16_t source_port, uint8_t tos);
void vx_capture_lost(struct vx_watch *watch, const struct vx_sight *sight, enum vx_reason reason, uint8_t direction);

const struct vx_slice *vx_slices_peek(struct vx_slices *ring, uint64_t head);
void vx_slices_drop(struct vx_slices *ring, const struct vx_slice *slice);

void vx_captures_forget(struct vx_captures *captures, int kind, uint32_t id);
void vx_captures_release(struct vx_captures *captures);
void vx_captures_free(struct vx_captures *captures);

#endif
