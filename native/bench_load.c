/* bench_load.c - what a bench carries, each frame checked byte for byte on its way before anything is timed
 *
 * How it works
 *   Frames of a capture come in one of three kinds:
 *     carry	Each gets the MACs of an endpoint of the sender and of one behind another host, both drawn at random for
 *		each copy. It is encapsulated by the sender and decapsulated by the receiver: the header has to be the
 *		network's, the targets have to be where the MACs are, and what comes out has to be what went in. Frames
 *		that a host does not carry (ARP, a broken IP header) are left out, under the reason that it gives.
 *     mix	Frames as they are, with their own MACs: who sends first is an endpoint of ours, whom it speaks to is
 *		elsewhere, and so on. Whatever is decided is counted. Only what two other hosts say to each other is
 *		left out, since we would never see it.
 *     super	TCP frames of more than one segment, their checksum field made what a TAP hands over. Each is cut: all
 *		segments have to have valid checksums and together the payload. All segments are merged again, as those
 *		of a train that UDP_GRO brought: a train of all of them has to be the super-frame, and when undone they
 *		have to be what they were.
 *   A small capture is loaded again and again until there are as many frames as wanted: a table of a million entries
 *   is not asked for the same ten.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>

#include "arp.h"
#include "bench.h"
#include "csum.h"
#include "eth.h"
#include "fdb.h"
#include "gso.h"
#include "nbr.h"
#include "switch.h"
#include "vxlan.h"

#define ALIGN		64u
#define COPIES_LEN	((size_t)32 << 20)	/* of repeated frames: beyond a cache, not beyond a small machine */
#define MIX_PORTS	64			/* senders of a capture that are endpoints of ours */
#define TCP_OFFSET	12

/** struct source - The frames of a capture, one behind the other */
struct source {
	const uint8_t *frames;
	const uint32_t *lengths;
	uint32_t count;
	uint32_t longest;
	uint64_t bytes;
};

/* loading one frame: 1 it is in, 0 it is left out and counted, -errno */
typedef int load_one(struct vx_bench *bench, const uint8_t *frame, uint32_t len, vx_bench_census *census);

void vx_bench_unload(struct vx_bench *bench)
{
	free(bench->arena);
	free(bench->item);
	free(bench->super);
	free(bench->segment);
	bench->arena = NULL;
	bench->item = NULL;
	bench->super = NULL;
	bench->segment = NULL;
	bench->arena_len = bench->arena_max = 0;
	bench->items = bench->supers = bench->segments = 0;
	memset(bench->sum, 0, sizeof(bench->sum));
}

/** next_random() - splitmix64 */
static uint64_t next_random(struct vx_bench *bench)
{
	uint64_t z = bench->random += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

/** place() - Copy bytes into the arena, with head-room; NULL if it is full. They stay once the caller counts them */
static uint8_t *place(struct vx_bench *bench, const uint8_t *bytes, uint32_t len)
{
	uint8_t *data = bench->arena + bench->arena_len + VX_HEADROOM;

	if (bench->arena_len + VX_HEADROOM + len > bench->arena_max)
		return NULL;
	memcpy(data, bytes, len);
	return data;
}

/** keep() - What place() made stays; @item is a frame of every pass */
static void keep(struct vx_bench *bench, const struct vx_bench_item *item)
{
	bench->arena_len += (VX_HEADROOM + item->len + ALIGN - 1) / ALIGN * ALIGN;
	bench->item[bench->items++] = *item;
}

/** decide() - What a host decides about one frame */
static struct vx_frame decide(struct vx_bench *bench, unsigned host, const struct vx_bench_item *item, bool tunnel)
{
	struct vx_frame frame;

	vx_bench_fill(bench, &frame, item, 1, tunnel);
	vx_switch(bench->host[host], &frame, 1, (struct vx_when){ .now_ns = bench->now_ns });
	bench->now_ns += VX_BENCH_STEP_NS;
	return frame;
}

/** is_untouched() - Whether a decided frame is still what it was */
static bool is_untouched(const struct vx_frame *frame, const struct vx_bench_item *item, const uint8_t *original)
{
	return frame->data == item->data && frame->len == item->len && memcmp(frame->data, original, item->len) == 0;
}

/** carry() - Let a frame go from an endpoint of the sender, over the wire, to an endpoint of the receiver */
static int carry(struct vx_bench *bench, const uint8_t *bytes, uint32_t len, vx_bench_census *census)
{
	static const uint8_t header[VX_VXLAN_LEN] = { 0x08, 0, 0, 0, VX_BENCH_VNI >> 16, VX_BENCH_VNI >> 8 & 0xff,
						      VX_BENCH_VNI & 0xff, 0 };
	const vx_bench_config *config = &bench->config;
	uint32_t from = (uint32_t)(next_random(bench) % config->ports);
	uint32_t to = (uint32_t)(next_random(bench) % config->entries);
	struct vx_bench_item item = { .len = len, .port = from, .sender = from % config->vteps };
	uint8_t *original = bench->ring;
	struct vx_frame frame;

	item.data = place(bench, bytes, len);
	if (!item.data)
		return -ENOMEM;
	vx_mac_put(item.data, vx_bench_mac(bench, (uint64_t)config->ports + to));
	vx_mac_put(item.data + VX_MAC_LEN, vx_bench_mac(bench, from));
	memcpy(original, item.data, len);
	frame = decide(bench, VX_BENCH_SENDER, &item, false);
	if (frame.reason == VX_ARP_SPOOF || (frame.notes & VX_NOTE_ARP_ND)) {
		census->arp_nd++;	/* asks for the MAC that we took from it */
		return 0;
	}
	if (frame.reason) {
		census->drops[frame.reason]++;
		return 0;
	}
	if (frame.act != VX_ACT_VTEP || frame.target != to % config->vteps || !is_untouched(&frame, &item, original) ||
	    memcmp(frame.data - VX_VXLAN_LEN, header, sizeof(header)) != 0)
		return -EILSEQ;
	frame = decide(bench, VX_BENCH_RECEIVER, &item, true);
	if (frame.act != VX_ACT_PORT || frame.target != to % config->ports || !is_untouched(&frame, &item, original))
		return -EILSEQ;
	census->bytes += len;
	census->segments++;
	keep(bench, &item);
	return 1;
}

/** settle_mac() - Where a MAC of a capture is from now on: at a port of ours, if it may and there is one to have */
static int settle_mac(struct vx_bench *bench, uint64_t mac, bool ours)
{
	struct vx_place place = { VX_AT_VTEP, (uint32_t)(next_random(bench) % bench->config.vteps) };

	if (ours && bench->guests < MIX_PORTS) {
		int id = vx_bench_add_port(bench, VX_BENCH_SENDER, mac);

		if (id < 0)
			return id;
		bench->guests++;
		place = (struct vx_place){ VX_AT_PORT, (uint32_t)id };
	} else {
		bench->strangers++;
	}
	return vx_fdb_record(vx_bench_network(bench, VX_BENCH_SENDER), mac, place);
}

static bool is_endpoint(uint64_t mac, const uint8_t *bytes)
{
	return mac && !vx_mac_is_group(bytes);
}

/** is_ours() - Whether a new MAC is to be here: opposite of who it speaks with, else where fewer are */
static bool is_ours(const struct vx_bench *bench, uint64_t other, const uint8_t *other_bytes)
{
	unsigned kind = vx_fdb_find(vx_bench_network(bench, VX_BENCH_SENDER), other).kind;

	if (kind)
		return kind == VX_AT_VTEP;
	return !vx_mac_is_group(other_bytes) || bench->guests <= bench->strangers;
}

/** settle_both() - Where the two ends of a frame are. Return: 0, -errno */
static int settle_both(struct vx_bench *bench, const uint8_t *frame)
{
	const struct vx_network *network = vx_bench_network(bench, VX_BENCH_SENDER);
	uint64_t to = vx_mac(frame), from = vx_mac(frame + VX_MAC_LEN);
	int error = 0;

	if (is_endpoint(from, frame + VX_MAC_LEN) && !vx_fdb_find(network, from).kind)
		error = settle_mac(bench, from, is_ours(bench, to, frame));
	if (!error && is_endpoint(to, frame) && !vx_fdb_find(network, to).kind)
		error = settle_mac(bench, to, is_ours(bench, from, frame + VX_MAC_LEN));
	return error;
}

/** note_neighbor() - Who says by ARP what address it has is known to have it */
static int note_neighbor(struct vx_bench *bench, const uint8_t *bytes, uint32_t len)
{
	struct vx_eth eth;
	struct vx_arp arp;

	if (vx_eth_parse(bytes, len, &eth) || eth.type != VX_ETHERTYPE_ARP || vx_arp_parse(bytes, &eth, &arp) ||
	    arp.probe || !is_endpoint(arp.sender_mac, bytes + VX_MAC_LEN))
		return 0;
	return vx_nbr_record(vx_bench_network(bench, VX_BENCH_SENDER), arp.sender, arp.sender_mac, 0);
}

/** mix() - Let a frame come as it is: from the port that its source MAC is at, else from the tunnel */
static int mix(struct vx_bench *bench, const uint8_t *bytes, uint32_t len, vx_bench_census *census)
{
	const struct vx_network *network = vx_bench_network(bench, VX_BENCH_SENDER);
	struct vx_bench_item item = { .len = len, .port = VX_NONE };
	struct vx_place from, to;
	struct vx_frame frame;
	int error = settle_both(bench, bytes);

	if (!error)
		error = note_neighbor(bench, bytes, len);
	if (error)
		return error;
	from = vx_fdb_find(network, vx_mac(bytes + VX_MAC_LEN));
	to = vx_fdb_find(network, vx_mac(bytes));
	if (from.kind == VX_AT_VTEP && to.kind == VX_AT_VTEP) {
		census->foreign++;
		return 0;
	}
	if (from.kind == VX_AT_PORT)
		item.port = from.id;
	else if (from.kind == VX_AT_VTEP)
		item.sender = from.id;
	item.data = place(bench, bytes, len);
	if (!item.data)
		return -ENOMEM;
	vx_vxlan_put(item.data - VX_VXLAN_LEN, VX_BENCH_VNI);
	frame = decide(bench, VX_BENCH_SENDER, &item, false);
	if (!frame.reason && frame.act != VX_ACT_REPLY && !is_untouched(&frame, &item, bytes))
		return -EILSEQ;
	census->bytes += len;
	census->segments++;
	keep(bench, &item);
	return 1;
}

/** count_decisions() - What is decided about a mix, in vectors as in every pass: storm control sees those */
static void count_decisions(struct vx_bench *bench, vx_bench_census *census)
{
	struct vx_frame frames[VX_BATCH];

	for (unsigned at = 0; at < bench->items; at += VX_BATCH) {
		unsigned count = bench->items - at < VX_BATCH ? bench->items - at : VX_BATCH;

		vx_bench_fill(bench, frames, &bench->item[at], count, false);
		vx_switch(bench->host[VX_BENCH_SENDER], frames, count, (struct vx_when){ .now_ns = bench->now_ns });
		bench->now_ns += VX_BENCH_STEP_NS;
		for (unsigned i = 0; i < count && at + i < census->used; i++) {
			if (frames[i].reason)
				census->drops[frames[i].reason]++;
			else
				census->acts[frames[i].act]++;
		}
	}
}

/** finish_ip() - Sum an IPv4 header, as every stack does: captures of its inside may lack that */
static void finish_ip(uint8_t *ip, const struct vx_eth *eth)
{
	if (eth->version != 4)
		return;
	vx_put16(ip + 10, 0);
	vx_put16(ip + 10, (uint16_t)~vx_csum_fold(vx_csum_add(ip, (uint32_t)eth->l4 - eth->l3, 0)));
}

/** claim() - Make a TCP frame what a TAP hands over of it. Return: whether it has more than one segment */
static bool claim(const struct vx_bench *bench, struct vx_frame *frame)
{
	const struct vx_eth *eth = &frame->eth;
	uint32_t headers, mtu = bench->config.mtu;
	uint16_t offset, pseudo;

	if (vx_eth_parse(frame->data, frame->len, &frame->eth) || eth->protocol != VX_PROTO_TCP ||
	    !vx_csum_place(eth, &offset))
		return false;
	frame->len = eth->end;
	headers = eth->l4 + (uint32_t)(frame->data[eth->l4 + TCP_OFFSET] >> 4) * 4;
	if (headers >= eth->l3 + mtu)
		return false;
	frame->vnet = (struct vx_vnet){
		.flags = VX_VNET_NEEDS_CSUM,
		.gso_type = eth->version == 4 ? VX_GSO_TCPV4 : VX_GSO_TCPV6,
		.gso_size = (uint16_t)(eth->l3 + mtu - headers),
		.csum_start = eth->l4,
		.csum_offset = offset,
	};
	pseudo = vx_csum_fold(vx_csum_pseudo(frame->data + eth->l3, eth->version, eth->protocol, eth->end - eth->l4));
	vx_put16(frame->data + eth->l4 + offset, pseudo);
	finish_ip(frame->data + eth->l3, eth);
	return vx_gso_check(frame) == VX_OK && frame->vnet.gso_type != VX_GSO_NONE;
}

/** alike_behind() - How many segments behind one are as long as it: the last may be shorter */
static uint32_t alike_behind(const struct vx_gso *gso, uint32_t segment)
{
	uint32_t behind = gso->segments - 1u - segment;

	return behind && vx_gso_payload(gso, gso->segments - 1u) < gso->size ? behind - 1 : behind;
}

/** add_segments() - Cut a super-frame for merging: as a train holds it, VXLAN headers between. Return: 0, -EILSEQ */
static int add_segments(struct vx_bench *bench, const struct vx_frame *super)
{
	uint8_t headers[VX_GSO_HEADERS_MAX];
	const uint8_t *payload;
	struct vx_gso gso;

	vx_gso_begin(&gso, super);
	for (uint32_t i = 0; i < gso.segments; i++) {
		struct vx_frame *segment = &bench->segment[bench->segments++];
		uint32_t len = vx_gso_cut(&gso, i, headers, &payload);

		*segment = (struct vx_frame){ .len = gso.headers + len, .segments = 1 };
		segment->copies = alike_behind(&gso, i);
		segment->data = bench->arena + bench->arena_len + VX_VXLAN_LEN;
		vx_vxlan_put(segment->data - VX_VXLAN_LEN, VX_BENCH_VNI);
		memcpy(segment->data, headers, gso.headers);
		memcpy(segment->data + gso.headers, payload, len);
		if (vx_eth_parse(segment->data, segment->len, &segment->eth) ||
		    !vx_csum_valid(segment->data, &segment->eth) ||
		    payload != super->data + gso.headers + i * gso.size)
			return -EILSEQ;
		bench->arena_len += VX_VXLAN_LEN + segment->len;
	}
	bench->arena_len = (bench->arena_len + ALIGN - 1) / ALIGN * ALIGN;
	return 0;
}

/** super() - Let a super-frame be cut, if it is one */
static int super(struct vx_bench *bench, const uint8_t *bytes, uint32_t len, vx_bench_census *census)
{
	struct vx_frame frame = { .data = place(bench, bytes, len), .len = len };
	struct vx_bench_item item = { .data = frame.data };
	size_t room;
	int error;

	if (!frame.data)
		return -ENOMEM;
	if (!claim(bench, &frame)) {
		census->plain++;
		return 0;
	}
	room = VX_HEADROOM + len + vx_wire_bytes(&frame) + frame.segments * (size_t)VX_VXLAN_LEN + 2 * ALIGN;
	if (bench->arena_len + room > bench->arena_max)
		return -ENOMEM;
	vx_vxlan_put(frame.data - VX_VXLAN_LEN, VX_BENCH_VNI);
	item.len = frame.len;
	keep(bench, &item);
	bench->super[bench->supers++] = (struct vx_bench_super){ frame, bench->segments };
	error = add_segments(bench, &frame);
	if (error)
		return error;
	if (bench->supers % VX_RX_DATAGRAMS == 0)
		bench->segment[bench->segments - 1].notes = 1;	/* here a receive batch ends */
	census->bytes += vx_wire_bytes(&frame);
	census->segments += frame.segments;
	return 1;
}

/** struct merged - What check_train() is told and finds */
struct merged {
	struct vx_bench *bench;
	unsigned next;		/* super-frame that the next whole train should be */
	unsigned whole;
	bool wrong;
};

/** is_super() - Whether a train is a super-frame, byte for byte */
static bool is_super(const struct vx_train *train, const struct vx_frame *frame)
{
	const uint8_t *at = frame->data;
	unsigned count;
	const struct iovec *pieces = vx_train_pieces(train, &count);

	for (unsigned i = 0; i < count; i++) {
		if (memcmp(at, pieces[i].iov_base, pieces[i].iov_len) != 0)
			return false;
		at += pieces[i].iov_len;
	}
	return at == frame->data + frame->len;
}

/** check_train() - A vx_gro_emit: a train that stands for a whole super-frame is that super-frame */
static void check_train(void *context, struct vx_train *train)
{
	struct merged *merged = context;
	struct vx_bench *bench = merged->bench;
	const uint8_t *first = train->part[0].iov_base;

	while (merged->next < bench->supers && bench->segment[bench->super[merged->next].first].data < first)
		merged->next++;
	if (merged->next < bench->supers && train->parts == bench->super[merged->next].frame.segments &&
	    bench->segment[bench->super[merged->next].first].data == first) {
		merged->whole++;
		merged->wrong |= !is_super(train, &bench->super[merged->next].frame);
	}
	if (train->parts > 1)
		vx_train_undo(train);
}

/** check_merges() - Merge everything once, and undo it: the arena is afterwards what it was. Return: 0, -errno */
static int check_merges(struct vx_bench *bench, vx_bench_census *census)
{
	struct merged merged = { .bench = bench };
	struct vx_gro *gro = calloc(1, vx_gro_size());
	uint8_t *before = malloc(bench->arena_len);
	bool wrong = false;

	if (!gro || !before) {
		free(gro);
		free(before);
		return -ENOMEM;
	}
	memcpy(before, bench->arena, bench->arena_len);
	vx_gro_init(gro, check_train, &merged);
	wrong |= vx_bench_merge(bench, gro) != 0;
	wrong |= merged.wrong || memcmp(before, bench->arena, bench->arena_len) != 0;
	free(gro);
	free(before);
	census->merged = merged.whole;
	return wrong ? -EILSEQ : 0;
}

/** load() - Each frame once, then again until there are @wanted. Return: 0, -errno; census->wrong: at which frame */
static int load(struct vx_bench *bench, const struct source *source, uint32_t wanted, load_one *one,
		vx_bench_census *census)
{
	vx_bench_census again = { .frames = 0 };
	const uint8_t *at = source->frames;
	int got = 0;

	for (uint32_t i = 0; i < source->count && got >= 0; at += source->lengths[i++]) {
		uint32_t len = source->lengths[i];

		census->wrong = i;
		if (len < VX_ETH_LEN || len > VX_BENCH_LEN_MAX) {
			census->drops[len < VX_ETH_LEN ? VX_HDR_TRUNC : VX_PKT_TOO_BIG]++;
			continue;
		}
		got = one(bench, at, len, census);
	}
	census->used = bench->items;
	for (uint32_t i = 0; bench->items && bench->items < wanted && got >= 0; i++) {
		const struct vx_bench_item *item = &bench->item[i];

		got = one(bench, item->data, item->len, &again);
	}
	if (got == -ENOMEM && census->used && census->wrong + 1 == source->count)
		got = 0;	/* as many copies as there is room for */
	census->bytes += again.bytes;
	census->segments += again.segments;
	return got < 0 ? got : 0;
}

static int allocate(struct vx_bench *bench, const struct source *source, uint32_t wanted, bool with_segments)
{
	size_t items = source->count > wanted ? source->count : wanted;
	size_t each = source->bytes + (size_t)source->count * (VX_HEADROOM + ALIGN);
	size_t copies = (size_t)wanted * (VX_HEADROOM + source->longest + ALIGN), segments;

	bench->arena_max = each + (copies < COPIES_LEN ? copies : COPIES_LEN);
	segments = bench->arena_max / (bench->config.mtu - VX_GSO_HEADERS_MAX) + items;
	bench->arena_max = with_segments ? bench->arena_max * 4 + ALIGN : bench->arena_max; /* for their headers too */
	bench->arena = aligned_alloc(ALIGN, (bench->arena_max + ALIGN - 1) / ALIGN * ALIGN);
	bench->item = calloc(items, sizeof(*bench->item));
	if (with_segments) {
		bench->super = calloc(items, sizeof(*bench->super));
		bench->segment = calloc(segments, sizeof(*bench->segment));
	}
	if (!bench->arena || !bench->item || (with_segments && (!bench->super || !bench->segment)))
		return -ENOMEM;
	return 0;
}

/**
 * vx_bench_load() - Put frames into a bench, in place of what it had
 * @bench:	Bench
 * @kind:	VX_BENCH_CARRY, VX_BENCH_MIX or VX_BENCH_SUPER
 * @frames:	Ethernet frames, one behind the other
 * @lengths:	Their lengths
 * @count:	How many
 * @wanted:	How many a pass should have at least, as far as there is room for copies
 * @census:	What became of them
 *
 * Return: 0; -EILSEQ if a frame came out otherwise than it went in (@census->wrong); -EINVAL, -ENOMEM
 */
int vx_bench_load(vx_bench *bench, int kind, const uint8_t *frames, const uint32_t *lengths, uint32_t count,
		  uint32_t wanted, vx_bench_census *census)
{
	struct source source = { .frames = frames, .lengths = lengths, .count = count };
	load_one *one = kind == VX_BENCH_CARRY ? carry : kind == VX_BENCH_MIX ? mix : super;
	int error;

	memset(census, 0, sizeof(*census));
	vx_bench_unload(bench);
	if (kind < VX_BENCH_CARRY || kind > VX_BENCH_SUPER || !count)
		return -EINVAL;
	if (kind == VX_BENCH_SUPER && bench->config.mtu <= VX_GSO_HEADERS_MAX * 2)
		return -EINVAL;
	for (uint32_t i = 0; i < count; i++) {
		source.bytes += lengths[i];
		source.longest = lengths[i] > source.longest ? lengths[i] : source.longest;
	}
	error = allocate(bench, &source, wanted, kind == VX_BENCH_SUPER);
	if (!error)
		error = load(bench, &source, wanted, one, census);
	if (!error && kind == VX_BENCH_SUPER)
		error = check_merges(bench, census);
	if (!error && kind == VX_BENCH_MIX)
		count_decisions(bench, census);
	if (error) {
		vx_bench_unload(bench);
		return error;
	}
	bench->kind = kind;
	census->frames = bench->items;
	census->memory = bench->arena_len;
	return 0;
}
