/* transmit.h - datagrams to the underlay; see transmit.c */
#ifndef VX_TRANSMIT_H
#define VX_TRANSMIT_H

#include "burst.h"
#include "capture.h"
#include "uplink.h"

/** struct vx_transmitter - A worker's transmit sockets; a flow always takes the same one
 * @count:	How many sockets
 * @sockets:	Them
 * @burst:	What is being sent
 * @segments_max: Datagrams that one UDP_SEGMENT send may hold
 * @offloads:	VX_OFFLOAD_* in use
 * @uplink:	Another way, for super-frames
 * @shy:	The kernel's own vxlan devices lose UDP_SEGMENT sends that come over a virtual link
 * @dirty:	Sockets with messages
 * @blocked:	Sockets that said EAGAIN and still have messages
 * @stuck:	Sockets that were given up: what they do not take is dropped until they take all again
 * @taken:	Datagrams that sockets took, ever: whether anything moves
 * @tables:	For path MTUs and demotions
 * @stats:	Counters
 * @watch:	Captures; NULL: none
 * @tell:	Called for each VX_EVENT_PATH_MTU, _VTEP_DEMOTED, _INJECT_REFUSED and _SOCKET_ERROR
 * @context:	Its first argument
 */
struct vx_transmitter {
	unsigned worker;
	unsigned workers;
	unsigned count;
	struct vx_tx_socket *sockets;
	struct vx_burst *burst;
	unsigned segments_max;
	const _Atomic uint32_t *offloads;
	struct vx_uplink uplink;
	bool shy;
	uint64_t dirty;
	uint64_t blocked;
	uint64_t stuck;
	uint64_t taken;
	struct vx_tables *tables;
	struct vx_stats *stats;
	struct vx_watch *watch;
	void (*tell)(void *context, unsigned kind, uint32_t vtep, uint32_t value);
	void *context;
};

int vx_transmitter_open(struct vx_transmitter *transmitter, const vx_config *config,
			_Atomic uint32_t *offloads);
void vx_transmitter_close(struct vx_transmitter *transmitter);
bool vx_transmitter_queue(struct vx_transmitter *transmitter, const struct vx_frame *frame,
			  const struct vx_vtep *vtep);
void vx_transmitter_flush(struct vx_transmitter *transmitter, bool keep);
void vx_transmitter_give_up(struct vx_transmitter *transmitter);
void vx_transmitter_abandon(struct vx_transmitter *transmitter);

#endif
