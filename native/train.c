/* train.c - one write to a TAP: a frame as it came, or several merged ones
 *
 * How it works
 *   The coalescer (gro.c) says which frames belong together. Later ones stay where they are: the train refers to their
 *   payload. Of the first, the headers are rewritten in place when the train leaves, and what that overwrites is kept,
 *   so that vx_train_undo() gives all of them back to a TAP that does not take the merged frame.
 *
 *   A write of 46 small pieces takes the kernel 1.4 to 1.8 times as long as one of the same 64 KB in one piece, and
 *   summing for the checksum reads the payload anyway. So a train may be gathered: payloads are copied, in the pass
 *   that sums them, end to end into a room, and the headers before them when the train leaves. The frames themselves
 *   still stay where and as they are, for vx_train_undo().
 *
 *   The merged frame has a GSO type, and NEEDS_CSUM: the field of its checksum holds the sum of the pseudo-header.
 *
 * Pure: no system call, no global, no allocation.
 */
#include "train.h"

#include "csum.h"
#include "eth.h"
#include "net.h"

#define IPV4_LEN	20

/** vx_train_load() - Make a train of one frame, exactly as it is */
void vx_train_load(struct vx_train *train, const struct vx_frame *frame, uint32_t port)
{
	train->port = port;
	train->network = frame->network ? frame->network->id : VX_NONE;
	train->vnet = frame->vnet;
	train->parts = 1;
	train->frames = frame->segments;
	train->packet = frame->packet;
	train->bytes = vx_wire_bytes(frame);
	train->partial = (frame->vnet.flags & VX_VNET_NEEDS_CSUM) != 0;
	train->room = NULL;
	train->part[0] = (struct iovec){ frame->data, frame->len };
}

/** vx_train_open() - Let a train of one frame, with @payload bytes behind @headers, grow */
void vx_train_open(struct vx_train *train, const struct vx_frame *frame, uint32_t headers, uint32_t payload)
{
	train->headers = headers;
	train->size = train->payload = payload;
	train->tcp_flags = 0;
	train->eth = frame->eth;
}

/** vx_train_gather() - Gather a train of one frame in @room, of VX_TRAIN_ROOM bytes. Who adds to it copies it there */
void vx_train_gather(struct vx_train *train, uint8_t *room)
{
	train->room = room;
	memcpy(room + VX_TRAIN_HEAD, vx_train_first(train) + train->headers, train->size);
}

/** vx_train_add() - Add a frame of @len bytes, @payload of them payload behind headers as long as the first one's */
void vx_train_add(struct vx_train *train, uint8_t *frame, uint32_t len, uint32_t payload)
{
	train->part[train->parts++] = (struct iovec){ frame + train->headers, payload };
	train->frames++;
	train->bytes += len;
	train->payload += payload;
}

/** vx_train_merge() - Make the first frame's headers those of the merged frame, keeping what they were
 * @train:	With more than one part; nothing is added any more
 */
void vx_train_merge(struct vx_train *train)
{
	const struct vx_eth *eth = &train->eth;
	uint8_t *ip = vx_train_first(train) + eth->l3, *l4 = vx_train_first(train) + eth->l4;
	uint16_t l4_len = (uint16_t)(train->headers - eth->l4 + train->payload);
	uint16_t offset = vx_csum_offset(eth->protocol);
	bool tcp = eth->protocol == VX_PROTO_TCP;

	train->first.l4_csum = vx_get16(l4 + offset);
	if (eth->version == 4) {
		train->first.ip_len = vx_get16(ip + 2);
		train->first.ip_csum = vx_get16(ip + 10);
		vx_put16(ip + 2, (uint16_t)(IPV4_LEN + l4_len));
		vx_put16(ip + 10, vx_csum_adjust(train->first.ip_csum, train->first.ip_len, vx_get16(ip + 2)));
	} else {
		train->first.ip_len = vx_get16(ip + 4);
		vx_put16(ip + 4, l4_len);
	}
	if (tcp) {
		train->first.tcp_flags = l4[13];
		l4[13] |= train->tcp_flags;
	} else {
		train->first.udp_len = vx_get16(l4 + 4);
		vx_put16(l4 + 4, l4_len);
	}
	vx_put16(l4 + offset, vx_csum_fold(vx_csum_pseudo(ip, eth->version, eth->protocol, l4_len)));

	train->part[0].iov_len = train->headers + train->size;
	if (train->room) {
		uint8_t *begin = train->room + VX_TRAIN_HEAD - train->headers;

		memcpy(begin, vx_train_first(train), train->headers);
		train->whole = (struct iovec){ begin, train->headers + train->payload };
	}
	train->vnet = (struct vx_vnet){
		.flags = VX_VNET_NEEDS_CSUM,
		.gso_type = !tcp ? VX_GSO_UDP_L4 : eth->version == 4 ? VX_GSO_TCPV4 : VX_GSO_TCPV6,
		.hdr_len = (uint16_t)train->headers,
		.gso_size = (uint16_t)train->size,
		.csum_start = eth->l4,
		.csum_offset = offset,
	};
}

/**
 * vx_train_undo() - Give the frames of a merged train back: part[i] becomes frame i whole, as it came but for padding
 * @train:	Merged train, not undone yet. Its vnet stays that of the merged frame; that of each single one is
 *		vx_train_single()
 */
void vx_train_undo(struct vx_train *train)
{
	uint8_t *ip = vx_train_first(train) + train->eth.l3, *l4 = vx_train_first(train) + train->eth.l4;
	bool ipv4 = train->eth.version == 4;

	vx_put16(ip + (ipv4 ? 2 : 4), train->first.ip_len);
	if (ipv4)
		vx_put16(ip + 10, train->first.ip_csum);
	if (train->eth.protocol == VX_PROTO_TCP)
		l4[13] = train->first.tcp_flags;
	else
		vx_put16(l4 + 4, train->first.udp_len);
	vx_put16(l4 + train->vnet.csum_offset, train->first.l4_csum);
	for (unsigned i = 1; i < train->parts; i++) {
		train->part[i].iov_base = (uint8_t *)train->part[i].iov_base - train->headers;
		train->part[i].iov_len += train->headers;
	}
}

/** vx_train_single() - The virtio header of one frame of a merged train */
struct vx_vnet vx_train_single(const struct vx_train *train, unsigned part)
{
	struct vx_vnet vnet = { .csum_start = train->vnet.csum_start, .csum_offset = train->vnet.csum_offset };

	vnet.flags = VX_VNET_NEEDS_CSUM;
	return train->partial >> part & 1 ? vnet : (struct vx_vnet){ 0 };
}
