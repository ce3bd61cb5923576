/* unit_gro_streams.c - random flows, mixed: what the coalescer's trains stand for is what came, in its order
 *
 *   flows --(segments, some of them odd or damaged)--> coalescer --> trains --(cut in the plainest way)--> the same
 *
 * Per flow, the packets that come out are byte for byte those that went in, in order, but for damaged ones, which
 * leave alone as they are or are refused with VX_CSUM. Nothing of a flow overtakes a frame without one on its port.
 * And what gso.c cuts, gro.c puts together again to the very same super-frame.
 */
#include <stdlib.h>

#include "check.h"
#include "eth.h"
#include "gso.h"
#include "wire.h"

#define PORTS	2
#define FLOWS	80		/* more than there are chains */
#define QUEUES	(FLOWS + PORTS)	/* the last ones are of frames without a flow, one for each port */
#define BATCH	600
#define ROUNDS	60
#define FRAME	3200
#define SEEDS	6

/** struct sent - A packet that went in, its checksum finished and without padding */
struct sent {
	uint8_t *bytes;
	uint32_t len;
	unsigned arrival;
	bool damaged;
};

static struct queue {
	struct wire wire;	/* what the next packet of the flow is like */
	bool fixed_id;
	uint32_t mss;
	struct sent sent[BATCH];
	unsigned head, tail;
} queues[QUEUES];

static struct tally {
	unsigned in, out, merged, refused, damaged_alone, undone, followed, gathered;
} tally;

static struct vx_gro *gro;
static uint8_t *wire_room, *sent_room;
static uint64_t random_state;

static uint32_t random_below(uint32_t n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)(random_state >> 33) % n;
}

static bool one_in(uint32_t n)
{
	return random_below(n) == 0;
}

/* -- what comes out ------------------------------------------------------------------------------------------------ */

static struct queue *queue_of(const uint8_t *packet, uint32_t len, uint32_t port)
{
	struct vx_eth eth;

	REASON(vx_eth_parse(packet, len, &eth), VX_OK);
	if (eth.fragment || (eth.protocol != VX_PROTO_TCP && eth.protocol != VX_PROTO_UDP))
		return &queues[FLOWS + port];
	return &queues[vx_get16(packet + eth.l4) - 1000];
}

/** without_id() - Take the IPv4 ID out: cutting counts a fixed one up, which DF allows (RFC 6864) */
static void without_id(uint8_t *packet)
{
	struct vx_eth eth;

	REASON(vx_eth_parse(packet, FRAME, &eth), VX_OK);
	if (eth.version == 6)
		return;
	vx_put16(packet + eth.l3 + 4, 0);
	vx_put16(packet + eth.l3 + 10, 0);
	vx_put16(packet + eth.l3 + 10, (uint16_t)~wire_sum(packet + eth.l3, (packet[eth.l3] & 15) * 4u, 0));
}

/** expect() - A packet that came out is the next one of its queue */
static void expect(struct queue *queue, unsigned ahead, const uint8_t *packet, uint32_t len, bool exactly)
{
	const struct sent *sent = &queue->sent[queue->head + ahead];
	static uint8_t got[FRAME], wanted[FRAME];

	CHECK(queue->head + ahead < queue->tail);
	EQUAL(len, sent->len);
	memcpy(got, packet, len);
	memcpy(wanted, sent->bytes, len);
	if (queue->fixed_id && !exactly) {
		without_id(got);
		without_id(wanted);
	}
	for (uint32_t i = 0; i < len; i++)
		if (got[i] != wanted[i]) {
			fprintf(stderr, "packet %u, byte %u: %02x, not %02x\n", sent->arrival, i, got[i], wanted[i]);
			exit(1);
		}
}

/** expect_undone() - The frames of a train that is taken apart are those that came, each in its own checksum's form */
static void expect_undone(struct queue *queue, struct vx_train *train)
{
	vx_train_undo(train);
	for (unsigned i = 0; i < train->parts; i++) {
		struct vx_vnet vnet = vx_train_single(train, i);
		static uint8_t packet[FRAME];
		uint32_t len = (uint32_t)train->part[i].iov_len;

		memcpy(packet, train->part[i].iov_base, len);
		if (vnet.flags)
			wire_finish(packet, &vnet, len);
		expect(queue, i, packet, len, true);
	}
	tally.undone++;
}

/** expect_no_overtaking() - All that came before a frame without flow has left, and the other way round */
static void expect_no_overtaking(const struct queue *queue, uint32_t port)
{
	unsigned arrival = queue->sent[queue->head].arrival;
	const struct queue *other = &queues[FLOWS + port];

	if (queue != other) {
		CHECK(other->head == other->tail || other->sent[other->head].arrival > arrival);
		return;
	}
	for (unsigned i = port; i < FLOWS; i += PORTS)
		CHECK(queues[i].head == queues[i].tail || queues[i].sent[queues[i].head].arrival > arrival);
}

static void take(void *context, struct vx_train *train)
{
	static uint8_t packets[VX_TRAIN_FRAMES * FRAME];
	uint32_t lens[VX_TRAIN_FRAMES], at = 0;
	unsigned count = wire_cut(train, packets, lens, VX_TRAIN_FRAMES);
	struct queue *queue = queue_of(packets, lens[0], train->port);

	(void)context;
	EQUAL(count, train->frames);
	expect_no_overtaking(queue, train->port);
	for (unsigned i = 0; i < count; at += lens[i++]) {
		CHECK(count == 1 || !queue->sent[queue->head + i].damaged);
		expect(queue, i, packets + at, lens[i], count == 1);
	}
	tally.damaged_alone += count == 1 && queue->sent[queue->head].damaged;
	tally.merged += count > 1 ? count : 0;
	tally.out += count;
	tally.gathered += train->room && count > 1 ? count : 0;
	if (count > 1 && one_in(2))
		expect_undone(queue, train);
	queue->head += count;
}

/* -- what goes in -------------------------------------------------------------------------------------------------- */

static void start_flow(unsigned flow)
{
	struct queue *queue = &queues[flow];
	struct wire *wire = &queue->wire;

	*wire = one_in(3) ? wire_udp : wire_tcp;
	wire->version = one_in(2) ? 4 : 6;
	wire->source_port = (uint16_t)(1000 + flow);
	wire->seq = random_below(4) ? random_below(1u << 31) : 0xfffff000u + random_below(4096);
	wire->id = (uint16_t)random_below(65536);
	wire->vlan = one_in(5) ? 7 : 0;
	wire->partial = one_in(3);
	wire->options_len = one_in(2) ? 12 : 0;
	wire->fragment = one_in(3) ? 0 : 0x4000;
	wire->tos = (uint8_t)random_below(256);
	queue->fixed_id = wire->fragment && one_in(3);
	queue->mss = 1 + random_below(one_in(3) ? 20 : 1400);
}

/** make_odd() - Change a packet, or the flow from here on, so that some rule of the coalescer is met */
static void make_odd(struct wire *now, struct queue *queue)
{
	switch (random_below(18)) {
	case 0: now->flags |= 0x08; break;
	case 1: now->flags |= 0x01; break;
	case 2: now->flags |= (uint8_t)(1u << random_below(8)); break;
	case 3: now->len = 0; break;
	case 4: now->len = 1 + random_below(queue->mss); break;
	case 5: now->len = queue->mss + random_below(100); break;
	case 6: now->seq += random_below(3) - 1; break;
	case 7: queue->wire.ack += random_below(3); break;
	case 8: queue->wire.window--; break;
	case 9: now->tos ^= 2; break;
	case 10: now->ttl--; break;
	case 11: now->padding = random_below(20); break;
	case 12: now->id++; break;
	case 13: now->ip_options = 1; break;
	case 14: now->extension = 60; break;
	case 15: now->no_csum = now->protocol == VX_PROTO_UDP; break;
	case 16: queue->wire.options[11]++; break;
	default: now->from ^= 1; break;
	}
}

/** lose_flow() - Sometimes a fragment or another protocol, which belongs to no flow */
static void lose_flow(struct wire *wire)
{
	if (wire->version == 4 && one_in(2)) {
		wire->fragment = (uint16_t)(0x2000 | random_below(100));
	} else {
		wire->protocol = 47;
		wire->partial = false;
	}
}

/** record() - Keep what a packet is, finished and without padding */
static void record(struct queue *queue, const struct wire *wire, const uint8_t *frame, uint32_t len, int flipped)
{
	struct sent *sent = &queue->sent[queue->tail++];
	struct wire finished = *wire;

	CHECK(queue->tail <= BATCH);
	*sent = (struct sent){ .bytes = sent_room, .arrival = tally.in, .damaged = flipped >= 0 };
	finished.partial = finished.partial && (wire->fragment & 0x3fff);
	finished.padding = 0;
	sent->len = wire_put(sent_room, &finished);
	if (sent->damaged)
		memcpy(sent_room, frame, sent->len);
	CHECK(sent->len <= FRAME && sent->len <= len);
	sent_room += sent->len;
}

/** struct made - A packet on its way in */
struct made {
	struct vx_frame frame;
	struct queue *queue;
	unsigned at;		/* in its queue */
	bool flipped;
};

/** make_one() - The next packet of a flow, as a datagram in the receive buffer */
static struct made make_one(unsigned flow)
{
	struct queue *queue = &queues[flow];
	struct made made = { .queue = queue };
	struct wire now;
	int flipped = -1;

	queue->wire.len = queue->mss;
	now = queue->wire;
	if (one_in(12))
		make_odd(&now, queue);
	if (one_in(60))
		lose_flow(&now);
	memset(wire_room, 0, VX_VXLAN_LEN);
	wire_room += VX_VXLAN_LEN;
	made.frame = wire_frame(wire_room, wire_put(wire_room, &now));
	if (made.frame.eth.fragment || now.protocol == 47) {
		made.queue = &queues[FLOWS + flow % PORTS];
	} else {
		queue->wire.seq = now.seq + now.len;
		queue->wire.id = (uint16_t)(now.id + !queue->fixed_id);
		if (one_in(25) && now.len && !now.no_csum && !made.frame.vnet.flags) {
			flipped = (int)(made.frame.eth.end - 1 - random_below(now.len));
			made.frame.data[flipped] ^= (uint8_t)(1u << random_below(8));
		}
	}
	made.at = made.queue->tail;
	made.flipped = flipped >= 0;
	record(made.queue, &now, made.frame.data, made.frame.len, flipped);
	wire_room += made.frame.len;
	tally.in++;
	return made;
}

/** add() - A packet reaches the coalescer as one that was decided; @later: those made already that come behind it */
static void add(const struct made *made, struct made *later, unsigned count, unsigned flow)
{
	enum vx_reason reason = vx_gro_add(gro, &made->frame, flow % PORTS, VX_GRO_TCP | VX_GRO_UDP);
	struct queue *queue = made->queue;

	if (!reason)
		return;
	REASON(reason, VX_CSUM);
	CHECK(made->flipped && queue->head <= made->at);
	memmove(&queue->sent[made->at], &queue->sent[made->at + 1], (--queue->tail - made->at) * sizeof(struct sent));
	for (unsigned i = 0; i < count; i++)
		later[i].at -= later[i].queue == queue;
	tally.refused++;
}

/** send_some() - The next packets of some flow, as one datagram that UDP_GRO made: those that can follow do so */
static void send_some(unsigned most)
{
	unsigned flow = random_below(one_in(10) ? FLOWS : 12), n = one_in(2) ? 1 : 1 + random_below(most), like;
	struct made made[BATCH];

	for (unsigned i = 0; i < n; i++)
		made[i] = make_one(flow);
	for (unsigned i = 0; i < n; i++) {
		const struct vx_frame *frame = &made[i].frame;

		add(&made[i], &made[i + 1], n - i - 1, flow);
		for (like = 0; i + like + 1 < n && made[i + like + 1].frame.len == frame->len;)
			like++;
		like = vx_gro_follow(gro, frame, frame->data + frame->len, like);
		tally.followed += like;
		i += like;
	}
}

static void one_batch(void)
{
	uint8_t *rooms[2] = { malloc((size_t)BATCH * (FRAME + VX_VXLAN_LEN)), malloc((size_t)BATCH * FRAME) };

	wire_room = rooms[0];
	sent_room = rooms[1];
	for (unsigned before = tally.in; tally.in - before < BATCH;)
		send_some(BATCH - (tally.in - before));
	vx_gro_flush(gro);
	for (unsigned i = 0; i < QUEUES; i++) {
		EQUAL(queues[i].head, queues[i].tail);
		queues[i].head = queues[i].tail = 0;
	}
	free(rooms[0]);
	free(rooms[1]);
}

static void per_flow_what_comes_out_is_what_went_in(void)
{
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		printf("seed %llu\n", (unsigned long long)seed);
		fflush(stdout);
		random_state = seed * 0x9e3779b97f4a7c15u;
		gro = calloc(1, vx_gro_size());
		vx_gro_init(gro, take, NULL);
		for (unsigned i = 0; i < FLOWS; i++)
			start_flow(i);
		for (unsigned i = 0; i < ROUNDS; i++)
			one_batch();
		free(gro);
	}
	EQUAL(tally.in, tally.out + tally.refused);
	CHECK(tally.merged > tally.in / 2);		/* otherwise all of this would prove little */
	CHECK(tally.undone > 1000 && tally.refused > 1000 && tally.damaged_alone > 100);
	CHECK(tally.followed > tally.in / 8);
	CHECK(tally.gathered > tally.in / 16);		/* rooms come back */
}

/* -- with the segmenter -------------------------------------------------------------------------------------------- */

static struct vx_train last;
static uint8_t merged[WIRE_MAX];
static unsigned trains;

static void keep(void *context, struct vx_train *train)
{
	(void)context;
	last = *train;
	wire_flatten(train, merged);
	trains++;
}

/** random_super() - A TCP or UDP super-frame as a TAP hands it over, of 2 to 64 segments */
static struct vx_frame random_super(uint8_t *data)
{
	struct wire wire = one_in(2) ? wire_tcp : wire_udp;
	uint32_t size = 1 + random_below(1400), most = 64 * size < 60000 ? 64 * size : 60000;
	struct vx_frame frame;

	wire.version = one_in(2) ? 4 : 6;
	wire.id = (uint16_t)random_below(65536);
	wire.seq = random_below(2) ? random_below(1u << 31) : 0xffff0000u + random_below(65536);
	wire.options_len = 4 * random_below(11);
	wire.vlan = one_in(4) ? 3 : 0;
	wire.flags = (uint8_t)(0x10 | (one_in(3) ? 0x08 : 0) | (one_in(3) ? 0x01 : 0) | (one_in(3) ? 0x40 : 0));
	wire.partial = true;
	wire.len = size + 1 + random_below(most - size);
	frame = wire_frame(data, wire_put(data, &wire));
	frame.vnet.gso_type = wire.protocol == VX_PROTO_UDP ? VX_GSO_UDP_L4
			    : wire.version == 4 ? VX_GSO_TCPV4 : VX_GSO_TCPV6;
	frame.vnet.gso_size = (uint16_t)size;
	REASON(vx_gso_check(&frame), VX_OK);
	return frame;
}

static void what_is_cut_is_put_together_again(void)
{
	uint8_t *super = malloc(WIRE_MAX), *wires = malloc(WIRE_MAX + 64 * 200), *copy = malloc(WIRE_MAX);
	struct vx_gro *coalescer = calloc(1, vx_gro_size());

	vx_gro_init(coalescer, keep, NULL);
	random_state = 11;
	for (unsigned round = 0; round < 3000; round++) {
		struct vx_frame frame = random_super(super);
		uint8_t *at = wires;
		struct vx_gso gso;

		trains = 0;
		memcpy(copy, super, frame.len);
		vx_gso_begin(&gso, &frame);
		for (uint32_t i = 0; i < frame.segments; i++) {
			const uint8_t *payload;
			uint32_t len = vx_gso_cut(&gso, i, at, &payload);
			struct vx_frame segment;

			memcpy(at + gso.headers, payload, len);
			segment = wire_frame(at, gso.headers + len);
			REASON(vx_gro_add(coalescer, &segment, 1, VX_GRO_TCP | VX_GRO_UDP), VX_OK);
			at += segment.len;
		}
		vx_gro_flush(coalescer);
		EQUAL(trains, 1);
		EQUAL(last.frames, frame.segments);
		EQUAL(last.bytes, vx_wire_bytes(&frame));
		CHECK(memcmp(&last.vnet, &frame.vnet, sizeof(last.vnet)) == 0);
		CHECK(memcmp(merged, copy, frame.len) == 0);
	}
	free(coalescer);
	free(super);
	free(wires);
	free(copy);
}

CASES(CASE(per_flow_what_comes_out_is_what_went_in),
      CASE(what_is_cut_is_put_together_again))
