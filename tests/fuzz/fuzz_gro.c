/* fuzz_gro.c - arbitrary frames through the coalescer: a train stands for what came, in order and with right checksums
 *
 * The input is a sequence of frames: one byte of steering, two of length, the frame. Bits of the steering: VALID makes
 * the checksums right, LIKE takes the last frame's headers for this one's with the TCP sequence number and the IPv4 ID
 * that follow (so that mutations meet the rules of merging and not only those of parsing), TWIST changes one byte of
 * that, PARTIAL leaves the checksum to us, FLUSH ends the batch, FOLLOW lets one more come behind it in its datagram,
 * twisted by the last byte of the frame; the rest picks the port and what may merge.
 */
#include <stdlib.h>

#include "check.h"
#include "csum.h"
#include "eth.h"
#include "wire.h"

#define VALID	1
#define LIKE	2
#define TWIST	4
#define PARTIAL	8
#define FLUSH	16
#define PORT	32
#define NO_UDP	64
#define FOLLOW	128
#define FRAMES	256

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct arrived {
	uint8_t *bytes;		/* in the receive buffer */
	uint8_t *copy;
	uint8_t *room;		/* to be freed, the copy too; NULL: it is another's */
	uint32_t len;
	uint32_t port;
	uint32_t flow;		/* hash; 0: none */
	bool gone;
} arrived[FRAMES];

static unsigned arrivals;

/** leave() - A frame leaves: whatever came before it and has its flow, or has none, is gone */
static void leave(struct arrived *one)
{
	for (struct arrived *other = arrived; other < one; other++) {
		bool bound = !one->flow || !other->flow || one->flow == other->flow;

		if (!other->gone && other->port == one->port && bound)
			abort();
	}
	one->gone = true;
}

/** claim() - Some frame that has arrived for a port and not left is these bytes, padding apart */
static void claim(const uint8_t *bytes, uint32_t len, uint32_t port, bool padded)
{
	for (unsigned i = 0; i < arrivals; i++) {
		struct arrived *one = &arrived[i];

		if (one->gone || one->port != port || (padded ? one->len < len : one->len != len))
			continue;
		if (memcmp(one->copy, bytes, len) == 0) {
			leave(one);
			return;
		}
	}
	abort();
}

/** hold_against() - A frame that was merged had a right checksum, and cutting gives it back but for ID and checksums */
static void hold_against(uint8_t *cut, const uint8_t *bytes, uint32_t len, const struct vx_vnet *vnet)
{
	static uint8_t frame[4096];
	struct vx_eth eth;
	uint16_t offset;

	memcpy(frame, bytes, len);
	if (vx_eth_parse(frame, len, &eth) || !vx_csum_place(&eth, &offset))
		abort();
	if (vnet->flags)
		wire_finish(frame, vnet, len);
	if (wire_sum(frame + eth.l4, len - eth.l4,
		     vx_csum_pseudo(frame + eth.l3, eth.version, eth.protocol, len - eth.l4)) != 0xffff)
		abort();
	memset(frame + eth.l4 + offset, 0, 2);	/* 0 and 0xffff say the same of TCP */
	memset(cut + eth.l4 + offset, 0, 2);
	if (eth.version == 4) {
		memset(frame + eth.l3 + 10, 0, 2);
		memset(cut + eth.l3 + 10, 0, 2);
		if (vx_get16(frame + eth.l3 + 6) & 0x4000)
			memcpy(cut + eth.l3 + 4, frame + eth.l3 + 4, 2);
	}
	if (memcmp(frame, cut, len) != 0)
		abort();
}

static void take(void *context, struct vx_train *train)
{
	static uint8_t packets[1 << 20];
	uint32_t lens[VX_TRAIN_FRAMES];
	uint8_t *cut = packets;

	(void)context;
	if (train->parts == 1) {
		claim(train->part[0].iov_base, (uint32_t)train->part[0].iov_len, train->port, false);
		return;
	}
	if (wire_cut(train, packets, lens, VX_TRAIN_FRAMES) != train->frames)
		abort();
	vx_train_undo(train);
	for (unsigned i = 0; i < train->parts; cut += lens[i++]) {
		struct vx_vnet vnet = vx_train_single(train, i);

		if (lens[i] != train->part[i].iov_len)
			abort();
		claim(train->part[i].iov_base, lens[i], train->port, true);
		hold_against(cut, train->part[i].iov_base, lens[i], &vnet);
	}
}

/** make_next() - The headers of the frame before, as far as there is room, made those of the next packet */
static void make_next(uint8_t *frame, uint32_t len, const uint8_t *before, uint32_t before_len)
{
	uint32_t same = len < before_len ? len : before_len;
	struct vx_eth eth;

	memcpy(frame, before, same);
	if (vx_eth_parse(frame, len, &eth) || !eth.l4)
		return;
	if (eth.version == 4)
		vx_put16(frame + eth.l3 + 4, (uint16_t)(vx_get16(frame + eth.l3 + 4) + 1));
	if (eth.protocol == VX_PROTO_TCP && eth.l4 + 20u <= eth.end) {
		uint32_t payload = eth.end - eth.l4 - (uint32_t)(frame[eth.l4 + 12] >> 4) * 4;

		vx_put32(frame + eth.l4 + 4, vx_get32(frame + eth.l4 + 4) + payload);
	}
}

/** make_right() - Checksums that fit, so that the frame may be merged */
static void make_right(uint8_t *frame, uint32_t len, bool partial)
{
	struct vx_eth eth;
	uint16_t offset;
	uint32_t sum;

	if (vx_eth_parse(frame, len, &eth))
		return;
	if (eth.version == 4) {
		vx_put16(frame + eth.l3 + 10, 0);
		vx_put16(frame + eth.l3 + 10, (uint16_t)~wire_sum(frame + eth.l3, (frame[eth.l3] & 15) * 4u, 0));
	}
	if (!vx_csum_place(&eth, &offset))
		return;
	if (eth.protocol == VX_PROTO_UDP)
		vx_put16(frame + eth.l4 + 4, (uint16_t)(eth.end - eth.l4));
	sum = vx_csum_pseudo(frame + eth.l3, eth.version, eth.protocol, eth.end - eth.l4);
	vx_put16(frame + eth.l4 + offset, vx_csum_fold(sum));
	if (partial)
		return;
	sum = (uint16_t)~wire_sum(frame + eth.l4, eth.end - eth.l4, 0);
	vx_put16(frame + eth.l4 + offset, !sum && offset == 6 ? 0xffff : (uint16_t)sum);
}

/** flow_of() - Hash of the flow that a frame must not leave before, 0 if it has none */
static uint32_t flow_of(const struct vx_frame *frame)
{
	const struct vx_eth *eth = &frame->eth;

	if (!eth->l4 || eth->fragment || eth->l4 + 4u > eth->end ||
	    (eth->protocol != VX_PROTO_TCP && eth->protocol != VX_PROTO_UDP))
		return 0;
	return vx_eth_hash(frame->data, eth) | 1;
}

/** arrive() - Room for a datagram of two frames, and for copies of both */
static struct arrived arrive(uint32_t len)
{
	uint8_t *room = calloc(2, VX_VXLAN_LEN + len), *copy = malloc(2 * len + 1);

	return (struct arrived){ .bytes = room + VX_VXLAN_LEN, .copy = copy, .room = room, .len = len };
}

/** follow() - The next packet of a flow comes behind one in its datagram. If it may not follow, it never came */
static void follow(struct vx_gro *gro, const struct vx_frame *frame, const struct arrived *before, uint8_t twist)
{
	struct arrived *now = &arrived[arrivals];

	*now = *before;
	now->room = NULL;
	now->bytes += VX_VXLAN_LEN + now->len;
	now->copy += now->len;
	make_next(now->bytes, now->len, before->copy, now->len);
	now->bytes[(before->copy[0] * 7u + now->len) % now->len] ^= twist;
	make_right(now->bytes, now->len, false);
	memcpy(now->copy, now->bytes, now->len);
	arrivals++;
	if (!vx_gro_follow(gro, frame, now->bytes - VX_VXLAN_LEN, 1))
		arrivals--;
}

/** one() - A frame of the input arrives. Return: how many bytes of the input it took */
static size_t one(struct vx_gro *gro, const uint8_t *data, size_t size)
{
	uint32_t len = (uint32_t)(data[1] << 8 | data[2]) % 2048;
	struct arrived *now = &arrived[arrivals];
	struct vx_frame frame;

	if (len > size - 3)
		len = (uint32_t)(size - 3);
	*now = arrive(len);
	now->port = (data[0] & PORT) != 0;
	memcpy(now->bytes, data + 3, len);
	if ((data[0] & LIKE) && arrivals)
		make_next(now->bytes, len, now[-1].copy, now[-1].len);
	if ((data[0] & TWIST) && len)
		now->bytes[(data[2] * 7u + len) % len] ^= data[1];
	if (data[0] & VALID)
		make_right(now->bytes, len, data[0] & PARTIAL);
	memcpy(now->copy, now->bytes, len);
	frame = wire_frame(now->bytes, len);
	if (vx_eth_parse(now->bytes, len, &frame.eth))
		memset(&frame.eth, 0, sizeof(frame.eth));	/* the switch drops these: they never get here */
	now->flow = flow_of(&frame);
	arrivals++;
	if (vx_gro_add(gro, &frame, now->port, data[0] & NO_UDP ? VX_GRO_TCP : VX_GRO_TCP | VX_GRO_UDP) == VX_CSUM)
		now->gone = true;
	else if ((data[0] & FOLLOW) && len && arrivals < FRAMES)
		follow(gro, &frame, now, data[2 + len]);
	return 3 + len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct vx_gro *gro;
	size_t at = 0;

	if (!gro) {
		gro = calloc(1, vx_gro_size());
		vx_gro_init(gro, take, NULL);
	}
	for (arrivals = 0; size - at >= 3 && arrivals < FRAMES;) {
		uint8_t steering = data[at];

		at += one(gro, data + at, size - at);
		if (steering & FLUSH)
			vx_gro_flush(gro);
	}
	vx_gro_flush(gro);
	for (unsigned i = 0; i < arrivals; i++) {
		if (!arrived[i].gone)
			abort();
		if (arrived[i].room)
			free(arrived[i].copy);
		free(arrived[i].room);
	}
	return 0;
}
