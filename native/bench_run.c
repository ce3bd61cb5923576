/* bench_run.c - passes over the frames of a bench, as the worker would make them
 *
 * How it works
 *   A pass of decisions takes the frames in vectors of VX_BATCH. Each is copied into buffers like the worker's, where
 *   the kernel's copy would have left it, head-room and all in the cache; then the clock is read, what a read from a
 *   TAP or a socket fills in is filled in, vx_switch() decides, and the clock is read again: a nanosecond or less per
 *   frame is the clock's own. So the copy is not in the time of a decision, it stands beside it; what the tables cost
 *   is, since each frame has other MACs. The time that is told to the switch moves on between vectors, so that storm
 *   control decides alike in every pass.
 *   The other passes leave the arena as they found it: what merging overwrites is given back (vx_train_undo(), which is
 *   in the time that coalescing is said to take: a store per frame and a few per train).
 *
 *   Two floors stand beside the figures: the memcpy of the same bytes, and filling in vectors alone.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <time.h>

#include "burst.h"
#include "switch.h"
#include "vxlan.h"

#define SEGMENTS_MAX	128	/* of one send; UDP_MAX_SEGMENTS since 6.9 */

/** seen() - Tell the compiler that memory is read: what was copied or written has to be there */
static inline void seen(const void *memory)
{
	__asm__ volatile("" : : "r"(memory) : "memory");
}

/** fill_tunnel() - What vx_receiver_next() fills in; the network's VXLAN header is before the frame */
static inline void fill_tunnel(const struct vx_bench *bench, struct vx_frame *frame, const struct vx_bench_item *item)
{
	frame->data = item->data - VX_VXLAN_LEN;
	frame->len = item->len + VX_VXLAN_LEN;
	frame->train = 0;
	frame->from = VX_AT_VTEP;
	frame->from_id = VX_NONE;
	frame->outer_tos = 0;
	memcpy(frame->outer, bench->address[item->sender], VX_ADDR_LEN);
}

/** fill_port() - What vx_tap_read() and the worker's turn fill in */
static inline void fill_port(struct vx_frame *frame, const struct vx_bench_item *item)
{
	frame->data = item->data;
	frame->len = item->len;
	frame->vnet = (struct vx_vnet){ 0 };
	frame->train = 0;
	frame->from = VX_AT_PORT;
	frame->from_id = item->port;
}

/**
 * vx_bench_fill() - Fill in the upper halves of a vector
 * @bench:	Bench
 * @frames:	VX_BATCH frames
 * @items:	What they are
 * @count:	How many
 * @tunnel:	They come from the tunnel; else each from its port, or, without one, from the tunnel
 */
void vx_bench_fill(const struct vx_bench *bench, struct vx_frame *frames, const struct vx_bench_item *items,
		   unsigned count, bool tunnel)
{
	for (unsigned i = 0; i < count; i++) {
		frames[i].spare = bench->spare + i * (VX_HEADROOM + VX_SPARE_LEN) + VX_HEADROOM;
		if (tunnel || items[i].port == VX_NONE)
			fill_tunnel(bench, &frames[i], &items[i]);
		else
			fill_port(&frames[i], &items[i]);
	}
}

/** add_up() - What a vector's verdicts come to; never 0 */
static uint64_t add_up(const struct vx_frame *frames, unsigned count)
{
	uint64_t sum = 1;

	for (unsigned i = 0; i < count; i++)
		sum += ((uint64_t)frames[i].reason << 56) + ((uint64_t)frames[i].act << 48) + frames[i].len +
		       ((uint64_t)frames[i].target << 16);
	return sum;
}

/** bring() - Put frames, VXLAN headers before them, where the worker would have read them to; @moved says where */
static void bring(const struct vx_bench *bench, struct vx_bench_item *moved, const struct vx_bench_item *items,
		  unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		moved[i] = items[i];
		moved[i].data = bench->ring + i * VX_BENCH_BUFFER + VX_HEADROOM;
		memcpy(moved[i].data - VX_VXLAN_LEN, items[i].data - VX_VXLAN_LEN, VX_VXLAN_LEN + items[i].len);
	}
	seen(bench->ring);
}

uint64_t vx_bench_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t pass_of_decisions(struct vx_bench *bench, unsigned host, bool tunnel, bool decide)
{
	struct vx_bench_item items[VX_BATCH];
	struct vx_frame frames[VX_BATCH];
	uint64_t sum = 0;

	for (unsigned at = 0; at < bench->items; at += VX_BATCH) {
		unsigned count = bench->items - at < VX_BATCH ? bench->items - at : VX_BATCH;
		uint64_t begun;

		bring(bench, items, &bench->item[at], count);
		begun = vx_bench_clock();
		vx_bench_fill(bench, frames, items, count, tunnel);
		if (decide)
			vx_switch(bench->host[host], frames, count, (struct vx_when){ .now_ns = bench->now_ns });
		seen(frames);
		bench->spent_ns += vx_bench_clock() - begun;
		bench->now_ns += VX_BENCH_STEP_NS;
		sum += decide ? add_up(frames, count) : count;
	}
	return sum;
}

static uint64_t pass_of_copies(struct vx_bench *bench)
{
	uint64_t sum = 0, begun = vx_bench_clock();

	for (unsigned i = 0; i < bench->items; i++) {
		uint8_t *to = bench->ring + i % VX_BATCH * VX_BENCH_BUFFER + VX_HEADROOM;

		memcpy(to, bench->item[i].data, bench->item[i].len);
		seen(to);
		sum += bench->item[i].len;
	}
	bench->spent_ns += vx_bench_clock() - begun;
	return sum;
}

/** pass_of_cuts() - What transmit.c does with super-frames but for the sends: queue each, fill bursts of it */
static uint64_t pass_of_cuts(struct vx_bench *bench)
{
	const struct vx_vtep *vtep = vx_net_vtep(bench->host[VX_BENCH_SENDER], 0);
	struct vx_tx_socket *queue = bench->queue;
	uint64_t sum = 1, begun = vx_bench_clock();

	for (unsigned i = 0; i < bench->supers; i++) {
		const struct vx_frame *frame = &bench->super[i].frame;
		struct vx_message *message = &queue->message[0];

		*message = (struct vx_message){
			.to = vtep->to, .to_len = vtep->to_len, .super = true, .segments = frame->segments,
			.size = VX_VXLAN_LEN + (uint32_t)frame->vnet.hdr_len + frame->vnet.gso_size,
		};
		vx_gso_begin(&message->gso, frame);
		queue->sent = 0;
		queue->count = 1;
		while (message->next < message->segments) {
			vx_burst_fill(bench->burst, queue, SEGMENTS_MAX);
			seen(bench->burst);
			message->next = (uint16_t)(message->next + bench->burst->send[0].segments);
			sum += bench->burst->send[0].bytes;
		}
	}
	bench->spent_ns += vx_bench_clock() - begun;
	return sum;
}

/** vx_bench_take_train() - The coalescer's vx_gro_emit: what would be written to a TAP is added up, and undone */
void vx_bench_take_train(void *context, struct vx_train *train)
{
	struct vx_bench *bench = context;

	bench->merged += train->bytes + ((uint64_t)train->parts << 32) + ((uint64_t)train->vnet.gso_size << 40);
	seen(train);
	if (train->parts > 1)
		vx_train_undo(train);
}

/**
 * vx_bench_merge() - Let a coalescer have all segments, as the worker gives it those of trains that UDP_GRO brought
 * @bench:	Bench
 * @gro:	Coalescer, empty before and afterwards
 *
 * A train is what a super-frame was cut into, a receive batch VX_RX_DATAGRAMS of them. Of each train a first frame is
 * added; those that are like it follow, and where one does not it is added again.
 *
 * Return: 0 if each was taken, else the reasons why not added up
 */
uint64_t vx_bench_merge(const struct vx_bench *bench, struct vx_gro *gro)
{
	uint64_t refused = 0;

	for (unsigned i = 0; i < bench->segments; i++) {
		const struct vx_frame *frame = &bench->segment[i];

		refused += vx_gro_add(gro, frame, 0, VX_GRO_TCP | VX_GRO_UDP);
		i += vx_gro_follow(gro, frame, frame->data + frame->len, frame->copies);
		if (bench->segment[i].notes)
			vx_gro_flush(gro);
	}
	vx_gro_flush(gro);
	return refused;
}

static uint64_t pass_of_merges(struct vx_bench *bench)
{
	uint64_t sum = 1, begun = vx_bench_clock();

	bench->merged = 0;
	sum += vx_bench_merge(bench, bench->gro);
	bench->spent_ns += vx_bench_clock() - begun;
	return sum + bench->merged;
}

/** vx_bench_pass() - One pass over what is loaded. Return: what its verdicts come to; never 0 */
uint64_t vx_bench_pass(struct vx_bench *bench, int operation)
{
	switch (operation) {
	case VX_BENCH_COPY:
		return pass_of_copies(bench);
	case VX_BENCH_FILL:
		return pass_of_decisions(bench, VX_BENCH_SENDER, false, false);
	case VX_BENCH_ENCAPSULATE:
	case VX_BENCH_DECIDE:
		return pass_of_decisions(bench, VX_BENCH_SENDER, false, true);
	case VX_BENCH_DECAPSULATE:
		return pass_of_decisions(bench, VX_BENCH_RECEIVER, true, true);
	case VX_BENCH_CUT:
		return pass_of_cuts(bench);
	default:
		return pass_of_merges(bench);
	}
}
