/* unit_gro_follow.c - which frames may join behind one in its datagram, undecided: those like it in every bit */
#include <stdlib.h>

#include "check.h"
#include "csum.h"
#include "eth.h"
#include "flow.h"
#include "gro.h"
#include "vxlan.h"

#define COUNT	6
#define SIZE	1000

static struct kind {
	bool tcp;
	unsigned version;
} kinds[] = { { true, 4 }, { true, 6 }, { false, 4 }, { false, 6 } };

static uint8_t datagram[COUNT * 2048];
static uint32_t stride;
static struct vx_gro *gro;
static unsigned parts, gathered;

static void count_parts(void *context, struct vx_train *train)
{
	unsigned pieces;

	(void)context;
	parts += train->parts;
	gathered += vx_train_pieces(train, &pieces) == &train->whole;
	if (train->parts > 1)
		vx_train_undo(train);
}

/** load() - A datagram of COUNT frames that one super-frame was cut into, and its first one as the switch leaves it */
static struct vx_frame load(struct flow flow)
{
	struct vx_frame frame = { .len = 0 };

	if (!gro) {
		gro = calloc(1, vx_gro_size());
		vx_gro_init(gro, count_parts, NULL);
	}
	stride = 0;
	for (unsigned i = 0; i < COUNT; i++) {
		uint8_t *begin = datagram + i * stride;

		vx_vxlan_put(begin, 77);
		stride = VX_VXLAN_LEN + flow_segment(begin + VX_VXLAN_LEN, &flow, i);
	}
	frame.data = datagram + VX_VXLAN_LEN;
	frame.len = stride - VX_VXLAN_LEN;
	frame.segments = 1;
	REASON(vx_eth_parse(frame.data, frame.len, &frame.eth), VX_OK);
	return frame;
}

static struct flow flow_of(struct kind kind)
{
	struct flow flow = flow_plain(kind.tcp, kind.version, COUNT * SIZE, SIZE);

	flow.tcp_flags = 0x010;		/* ACK alone */
	return flow;
}

/** followers() - How many of the others follow the first. What was merged is given back */
static unsigned followers(const struct vx_frame *frame, unsigned may_merge)
{
	unsigned joined;

	parts = 0;
	REASON(vx_gro_add(gro, frame, 3, may_merge), VX_OK);
	joined = vx_gro_follow(gro, frame, datagram + stride, COUNT - 1);
	vx_gro_flush(gro);
	EQUAL(parts, 1 + joined);
	return joined;
}

static void what_is_like_it_follows(void)
{
	for (unsigned k = 0; k < 4; k++) {
		struct vx_frame frame = load(flow_of(kinds[k]));

		EQUAL(followers(&frame, VX_GRO_TCP | VX_GRO_UDP), COUNT - 1);
		EQUAL(followers(&frame, 0), 0);		/* a TAP that takes no super-frames */
		frame.vnet.flags = VX_VNET_NEEDS_CSUM;
		frame.vnet.csum_start = frame.eth.l4;
		frame.vnet.csum_offset = kinds[k].tcp ? 16 : 6;
		EQUAL(followers(&frame, VX_GRO_TCP | VX_GRO_UDP), 0);	/* theirs may be partial too */
	}
}

/* Header bits of a follower that are not as the first one's, or not the next ones, send it the long way. */
static void every_bit_counts(void)
{
	for (unsigned k = 0; k < 4; k++) {
		struct vx_frame frame = load(flow_of(kinds[k]));
		uint8_t *second = datagram + stride, *third = second + stride;

		for (uint32_t bit = 0; bit < 8 * stride; bit++) {
			second[bit / 8] ^= (uint8_t)(1 << bit % 8);
			EQUAL(followers(&frame, VX_GRO_TCP | VX_GRO_UDP), 0);
			second[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
		third[VX_VXLAN_LEN + frame.eth.l4] ^= 1;
		EQUAL(followers(&frame, VX_GRO_TCP | VX_GRO_UDP), 1);
	}
}

/* What a changed header's checksums say of it does not make it the same: the switch would look at another frame. */
static void right_checksums_do_not_help(void)
{
	struct vx_frame frame = load(flow_of(kinds[0]));
	uint8_t *second = datagram + stride, *ip = second + VX_VXLAN_LEN + frame.eth.l3;

	for (unsigned at = 12; at < 20; at++) {		/* addresses: the pseudo-header sum changes with them */
		uint8_t before[2] = { ip[10], ip[11] }, *csum = ip + 20 + 16, l4_before[2] = { csum[0], csum[1] };
		uint16_t old = vx_get16(ip + (at & ~1u));

		ip[at] ^= 4;
		vx_put16(ip + 10, vx_csum_adjust(vx_get16(ip + 10), old, vx_get16(ip + (at & ~1u))));
		vx_put16(csum, vx_csum_adjust(vx_get16(csum), old, vx_get16(ip + (at & ~1u))));
		EQUAL(followers(&frame, VX_GRO_TCP), 0);
		ip[at] ^= 4;
		memcpy(ip + 10, before, 2);
		memcpy(csum, l4_before, 2);
	}
	vx_put16(second + VX_VXLAN_LEN + 12, 0x86dd);
	EQUAL(followers(&frame, VX_GRO_TCP), 0);
	vx_put16(second + VX_VXLAN_LEN + 12, 0x0800);
	EQUAL(followers(&frame, VX_GRO_TCP), COUNT - 1);
}

/* What is cut off as padding may hold what looks like a datagram: the next one is where the sender's next one is. */
static void nothing_follows_a_frame_that_lost_its_padding(void)
{
	struct vx_frame frame = load(flow_of(kinds[0]));

	REASON(vx_gro_add(gro, &frame, 3, VX_GRO_TCP), VX_OK);
	frame.len -= 8;
	EQUAL(vx_gro_follow(gro, &frame, datagram + stride, COUNT - 1), 0);
	frame.len += 8;
	EQUAL(vx_gro_follow(gro, &frame, datagram + stride, COUNT - 1), COUNT - 1);
	vx_gro_flush(gro);
}

/* A UDP checksum of 0 says that there is none: no sum of zeros and ones may pass for it. */
static void no_checksum_is_none(void)
{
	struct vx_frame frame = load(flow_of(kinds[2]));
	uint8_t *udp = datagram + stride + VX_VXLAN_LEN + frame.eth.l4, *last = udp + 8 + SIZE - 2;
	uint32_t sum = vx_csum_pseudo(udp - 20, 4, VX_PROTO_UDP, 8 + SIZE);

	vx_put16(udp + 6, 0);
	vx_put16(last, 0);
	vx_put16(last, (uint16_t)~vx_csum_fold(vx_csum_add(udp, 8 + SIZE, sum)));
	EQUAL(vx_csum_fold(vx_csum_add(udp, 8 + SIZE, sum)), 0xffff);
	EQUAL(followers(&frame, VX_GRO_UDP), 0);
}

static void only_behind_the_last_that_was_added(void)
{
	struct vx_frame frame = load(flow_of(kinds[0])), copy = frame;
	static uint8_t room[4096];

	memcpy(room, datagram, stride);
	copy.data = room + VX_VXLAN_LEN;
	EQUAL(vx_gro_follow(gro, &frame, datagram + stride, 1), 0);	/* nothing was added */
	REASON(vx_gro_add(gro, &frame, 3, VX_GRO_TCP), VX_OK);
	EQUAL(vx_gro_follow(gro, &copy, room + stride, 1), 0);
	vx_gro_flush_port(gro, 3);
	EQUAL(vx_gro_follow(gro, &frame, datagram + stride, 1), 0);	/* it has left */
}

/* As many trains are gathered as there are rooms; the next is written in pieces, and who comes later finds room. */
static void trains_are_gathered_while_there_is_room(void)
{
	static uint8_t datagrams[VX_TRAIN_ROOMS + 1][sizeof(datagram)];

	for (unsigned round = 0; round < 2; round++) {
		gathered = 0;
		for (unsigned i = 0; i <= VX_TRAIN_ROOMS; i++) {
			struct flow flow = flow_of(kinds[i % 4]);
			struct vx_frame frame;

			flow.random[160] = (uint8_t)i;	/* of the source port: more rooms than kinds */
			frame = load(flow);
			memcpy(datagrams[i], datagram, sizeof(datagram));
			frame.data = datagrams[i] + VX_VXLAN_LEN;
			REASON(vx_gro_add(gro, &frame, 3, VX_GRO_TCP | VX_GRO_UDP), VX_OK);
			EQUAL(vx_gro_follow(gro, &frame, datagrams[i] + stride, COUNT - 1), COUNT - 1);
		}
		parts = 0;
		vx_gro_flush(gro);
		EQUAL(parts, COUNT * (VX_TRAIN_ROOMS + 1));
		EQUAL(gathered, VX_TRAIN_ROOMS);
	}
}

/* A large frame is cheaper to refer to than to copy. */
static void large_frames_are_not_gathered(void)
{
	static uint8_t large[3 * 8192];

	for (uint32_t size = VX_TRAIN_GATHER; size <= VX_TRAIN_GATHER + 1; size++) {
		struct flow flow = flow_plain(true, 4, 2 * size, size);
		struct vx_frame frame = { .data = large + VX_VXLAN_LEN, .segments = 1 };

		flow.tcp_flags = 0x010;
		for (unsigned i = 0; i < 2; i++) {
			uint8_t *begin = large + i * (VX_VXLAN_LEN + frame.len);

			vx_vxlan_put(begin, 77);
			frame.len = (uint32_t)flow_segment(begin + VX_VXLAN_LEN, &flow, i);
		}
		REASON(vx_eth_parse(frame.data, frame.len, &frame.eth), VX_OK);
		gathered = 0;
		REASON(vx_gro_add(gro, &frame, 3, VX_GRO_TCP), VX_OK);
		EQUAL(vx_gro_follow(gro, &frame, frame.data + frame.len, 1), 1);
		vx_gro_flush(gro);
		EQUAL(gathered, size == VX_TRAIN_GATHER);
	}
}

static void short_frames_go_the_long_way(void)
{
	struct vx_frame frame = load(flow_plain(false, 4, COUNT * 40, 40));

	EQUAL(followers(&frame, VX_GRO_UDP), 0);	/* what is compared would reach into the next one */
	frame = load(flow_plain(false, 4, COUNT * 100, 100));
	EQUAL(followers(&frame, VX_GRO_UDP), COUNT - 1);
}

CASES(CASE(what_is_like_it_follows),
      CASE(every_bit_counts),
      CASE(right_checksums_do_not_help),
      CASE(nothing_follows_a_frame_that_lost_its_padding),
      CASE(no_checksum_is_none),
      CASE(only_behind_the_last_that_was_added),
      CASE(trains_are_gathered_while_there_is_room),
      CASE(large_frames_are_not_gathered),
      CASE(short_frames_go_the_long_way))
