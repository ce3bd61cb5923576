/* burst.h - what one sendmmsg() carries: sends made of queued messages; see burst.c */
#ifndef VX_BURST_H
#define VX_BURST_H

#include <sys/socket.h>
#include <sys/uio.h>

#include "gso.h"
#include "net.h"
#include "stats.h"

#define VX_BURST_CONTROL	48	/* TOS and segment size: two CMSG_SPACE() */
#define VX_BURST_ROOM		(VX_FRAME_MAX + VX_GSO_HEADERS_MAX) /* VX_SEND_BYTES, or one segment that is longer */

/** struct vx_message - What waits to be sent to one VTEP: a run of equal frames, or a super-frame to be cut
 * It refers to the frames' buffers, never to a frame or a VTEP: both may be gone when a full socket takes it.
 * @gso:	The super-frame; unused in a run
 * @to:		Where to
 * @to_len:	Length of @to
 * @owner:	VTEP and network of all its frames
 * @generation:	Of the VTEP
 * @network_generation: Of the network
 * @part:	Index of the run's first datagram in socket->part
 * @packet:	vx_frame.packet of a super-frame; a run's are in socket->packet
 * @size:	Bytes of every datagram but the last, VXLAN header included
 * @bytes:	Bytes of a run so far
 * @segments:	How many datagrams it makes
 * @next:	The first one that is neither sent nor dropped
 * @refused:	Errno that UDP_SEGMENT failed with, until a single datagram shows whose fault it was
 * @retries:	Failures of the send that begins with @next that were put down to an old ICMP error
 * @tos:	Outer TOS
 * @super:	Else a run
 * @closed:	A run that takes no more: its last frame is shorter, or it is full
 * @singles:	Leaves as one datagram per send
 * @arp_nd:	All its frames are ARP, NS or NA; else none is
 */
struct vx_message {
	struct vx_gso gso;
	union vx_sockaddr to;
	socklen_t to_len;
	struct vx_owner owner;
	uint32_t generation;
	uint32_t network_generation;
	uint32_t part;
	uint64_t packet;
	uint32_t size;
	uint32_t bytes;
	uint16_t segments;
	uint16_t next;
	int16_t refused;
	uint8_t retries;
	uint8_t tos;
	bool super;
	bool closed;
	bool singles;
	bool arp_nd;
};

/** struct vx_tx_socket - A transmit socket and what waits for it, in order */
struct vx_tx_socket {
	int fd;
	uint16_t port;			/* it is bound to */
	uint16_t id;			/* IPv4 identification of what is injected next under that port */
	unsigned count;			/* messages */
	unsigned sent;			/* messages that are settled */
	unsigned parts;
	struct vx_message message[VX_TX_QUEUE];
	struct iovec part[VX_TX_QUEUE];	/* a datagram each: the runs' */
	uint64_t packet[VX_TX_QUEUE];	/* vx_frame.packet of each */
};

/** struct vx_send - One send of a burst
 * @message:	Whose
 * @parts:	A datagram each
 * @whole:	All of them, where they lie end to end
 * @segments:	Datagrams it makes, from message->next on, when its turn comes
 * @size:	Bytes of the largest of them
 * @bytes:	Of inner frames in all of them
 */
struct vx_send {
	struct vx_message *message;
	const struct iovec *parts;
	struct iovec whole;
	uint16_t segments;
	uint32_t size;
	uint32_t bytes;
};

/** struct vx_burst - What one sendmmsg() carries, and the room for it */
struct vx_burst {
	unsigned count;
	struct vx_send send[VX_TX_SENDS];
	struct mmsghdr header[VX_TX_SENDS];
	_Alignas(8) uint8_t control[VX_TX_SENDS][VX_BURST_CONTROL];
	struct iovec part[VX_TX_SENDS];
	uint8_t room[VX_BURST_ROOM];
};

bool vx_burst_extend(struct vx_tx_socket *sock, const struct vx_message *like, const struct iovec *part,
		     unsigned segments_max);
void vx_burst_fill(struct vx_burst *burst, struct vx_tx_socket *sock, unsigned segments_max);

#endif
