/* train.h - one write to a TAP: a frame as it came, or several merged ones; see train.c */
#ifndef VX_TRAIN_H
#define VX_TRAIN_H

#include <sys/uio.h>

#include "vx.h"

/** struct vx_train_first - What merging overwrites in the headers of the first frame */
struct vx_train_first {
	uint16_t ip_len;
	uint16_t ip_csum;
	uint16_t udp_len;
	uint16_t l4_csum;
	uint8_t tcp_flags;
};

/** struct vx_train - Frames that leave in one write
 * @port:	Target
 * @network:	Its network
 * @vnet:	Virtio header to write
 * @packet:	vx_frame.packet of its first frame
 * @parts:	How many
 * @frames:	How many frames of a wire it stands for
 * @bytes:	Their length together, headers and padding of each included
 * @partial:	Bit i: the checksum of merged frame i was the pseudo-header sum only. For vx_train_undo()
 * @headers:	Bytes from the Ethernet header to the payload. This and the next four: of trains that may grow only
 * @size:	Payload of the first frame, hence gso_size
 * @payload:	Of all frames
 * @tcp_flags:	FIN and PSH of any of them
 * @eth:	Headers of the first frame
 * @first:	For vx_train_undo()
 * @room:	Where the payloads lie end to end, behind VX_TRAIN_HEAD bytes for the headers; NULL: in the parts only
 * @whole:	The merged frame in it, from merging to undoing
 * @part:	part[0] begins at the Ethernet header; the rest are payload slices of later frames. They refer to the
 *		receive buffers, which therefore stay as they are until the train has left
 */
struct vx_train {
	uint32_t port;
	uint32_t network;
	struct vx_vnet vnet;
	uint64_t packet;
	unsigned parts;
	unsigned frames;
	uint32_t bytes;
	uint64_t partial;
	uint32_t headers;
	uint32_t size;
	uint32_t payload;
	uint8_t tcp_flags;
	struct vx_eth eth;
	struct vx_train_first first;
	uint8_t *room;
	struct iovec whole;
	struct iovec part[VX_TRAIN_FRAMES];
};

static_assert(VX_TRAIN_FRAMES <= 64, "vx_train.partial has a bit per frame");

/** vx_train_first() - The first frame of a train */
static inline uint8_t *vx_train_first(const struct vx_train *train)
{
	return train->part[0].iov_base;
}

/** vx_train_end() - Where the next payload of a gathered train belongs */
static inline uint8_t *vx_train_end(const struct vx_train *train)
{
	return train->room + VX_TRAIN_HEAD + train->payload;
}

/** vx_train_pieces() - What to write, a gathered train in one piece; until it is undone. @count is set */
static inline const struct iovec *vx_train_pieces(const struct vx_train *train, unsigned *count)
{
	bool whole = train->room && train->parts > 1;

	*count = whole ? 1 : train->parts;
	return whole ? &train->whole : train->part;
}

void vx_train_load(struct vx_train *train, const struct vx_frame *frame, uint32_t port);
void vx_train_open(struct vx_train *train, const struct vx_frame *frame, uint32_t headers, uint32_t payload);
void vx_train_gather(struct vx_train *train, uint8_t *room);
void vx_train_add(struct vx_train *train, uint8_t *frame, uint32_t len, uint32_t payload);
void vx_train_merge(struct vx_train *train);
void vx_train_undo(struct vx_train *train);
struct vx_vnet vx_train_single(const struct vx_train *train, unsigned part);

#endif
