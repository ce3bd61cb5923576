/* gro.c - merge received frames of one flow into a super-frame (generic receive offload)
 *
 * How it works
 *   The receiver of a container pays per write, not per byte. So frames of one flow that a receive batch brought are
 *   chained, and leave as one frame with a GSO type, which the container's stack takes as it takes those of a
 *   network card. The rules are the kernel's own (tcp_gro_receive(), inet_gro_flush(), udp_gro_receive_segment()):
 *   the merged frame, cut again at its gso_size, is byte for byte what came. A chain lives for one receive batch.
 *
 *   A frame is one of three things:
 *     a segment	TCP or UDP with payload and nothing special about it: joins the chain of its flow if it is the
 *			next one and its headers say the same, else ends that chain and opens another;
 *     of a flow	a TCP or UDP frame that is no segment (SYN, pure ACK, IP options, a super-frame that came as
 *			one): the chain of its flow leaves first, then the frame;
 *     other		fragments, ICMP, ARP, what cannot be parsed: all chains of that port leave first.
 *   So nothing overtakes anything of its own flow. What a segment is and whether it joins is decided from the bytes
 *   of the packet, TOS included (vx_eth.tos may be older), after the outer ECN mark has been carried over.
 *
 *   A merged frame leaves with NEEDS_CSUM, and then nobody looks at its checksum any more. So each of its frames is
 *   verified before; a frame that stays alone is not, its receiver does that. Partial checksums have been told from
 *   others by partial.c (NEEDS_CSUM in vnet) and count as verified. A chain's first frame is verified when a second
 *   one wants to join; if it is wrong it leaves alone and untouched. One that would join and is wrong is a drop.
 *
 *   Frames of a train that UDP_GRO brought are mostly one super-frame of the sender's, cut: each is like the one before
 *   but for sequence number, IPv4 ID and checksums, so the switch would decide the same. vx_gro_follow() lets such
 *   frames join behind the one that was decided, and leaves every other to the long way. A train that grows so is
 *   gathered in one of VX_TRAIN_ROOMS rooms (train.c), unless all are taken or its frames are large.
 *
 * Departures from the kernel
 *   CWR never merges, not even as the first frame: it would need the type GSO_ECN for no gain. A fixed IPv4 ID
 *   merges only with DF set: without it the ID matters (RFC 6864), and cutting makes it count. IPv6 extension
 *   headers do not merge. The urgent pointer has to be equal even without URG, since cutting copies it.
 *
 * Pure: no system call, no global, no allocation; the worker owns the memory.
 */
#include "gro.h"

#include "csum.h"
#include "eth.h"
#include "net.h"

#define NO_CHAIN	0xff
#define BUCKETS		64	/* a power of two; as many as chains, so that lists stay at about one */

#define IP_MAX		65535u	/* of a merged packet, header included */
#define IPV4_LEN	20
#define IPV4_ID		4
#define IPV4_CSUM	10
#define IPV6_LEN	40
#define IPV4_DF		0x4000
#define IPV4_PLAIN	0x45	/* version 4, no options */

#define TCP_LEN		20
#define TCP_FIN		0x01
#define TCP_SYN		0x02
#define TCP_RST		0x04
#define TCP_PSH		0x08
#define TCP_URG		0x20
#define TCP_CWR		0x80
#define UDP_LEN		8

static_assert(VX_GRO_CHAINS < NO_CHAIN, "a chain is known by a byte");
static_assert(VX_TRAIN_ROOMS <= 8, "vx_gro.rooms_taken has a bit for each");
static_assert(VX_GRO_ALIKE - VX_VXLAN_LEN <= VX_TRAIN_HEAD, "headers that were compared fit before the payload");

/** struct segment - A frame that may be merged
 * @frame:	The frame
 * @headers:	Bytes from its Ethernet header to its payload
 * @payload:	Bytes of payload, Ethernet padding not counted
 * @last:	Nothing may follow it: PSH or FIN
 */
struct segment {
	const struct vx_frame *frame;
	uint32_t headers;
	uint32_t payload;
	bool last;
};

/** struct chain - Frames of one flow that wait for the next
 * @hash:	Of the flow
 * @next:	In its bucket, or in the list of free chains
 * @older:	Neighbours by age
 * @younger:	Neighbours by age
 * @verified:	The first frame's checksum has been found right
 * @id_step:	By how much the IPv4 ID grows: 0 or 1, known from the second frame on
 * @train:	What leaves; part[0] is the first frame as it came until then
 */
struct chain {
	uint32_t hash;
	uint8_t next;
	uint8_t older;
	uint8_t younger;
	bool verified;
	uint8_t id_step;
	struct vx_train train;
};

/** struct like - What the frames that follow one have in common with it
 * @mask:	Which bytes, from the VXLAN header on, the next datagram has the same: those of all headers but for
 *		IPv4 ID, sequence number and checksums
 * @pseudo:	Sum of the pseudo-header
 * @l4_sum:	Of the pseudo-header and those bytes of the transport header
 * @ip_sum:	Of those bytes of the IPv4 header
 */
struct like {
	uint8_t mask[VX_GRO_ALIKE];
	uint32_t pseudo;
	uint32_t l4_sum;
	uint32_t ip_sum;
};

struct vx_gro {
	vx_gro_emit *emit;
	void *context;
	uint8_t free;		/* chains that were used before, the latest first: its memory is warm */
	uint8_t used;		/* chains from here on have never been */
	uint8_t oldest;
	uint8_t youngest;
	uint8_t last_chain;	/* that the last frame opened or joined, if it waits */
	const uint8_t *last;	/* that frame */
	uint8_t bucket[BUCKETS];
	uint8_t rooms_taken;	/* a bit for each */
	struct vx_train lone;
	struct chain chains[VX_GRO_CHAINS];
	uint8_t room[VX_TRAIN_ROOMS][VX_TRAIN_ROOM];
};

/* -- leaving ------------------------------------------------------------------------------------------------------ */

/** unlink_chain() - Take a chain out of its bucket and out of the order by age */
static void unlink_chain(struct vx_gro *gro, uint8_t at)
{
	struct chain *chain = &gro->chains[at];
	uint8_t *link = &gro->bucket[chain->hash % BUCKETS];

	while (*link != at)
		link = &gro->chains[*link].next;
	*link = chain->next;
	*(chain->older == NO_CHAIN ? &gro->oldest : &gro->chains[chain->older].younger) = chain->younger;
	*(chain->younger == NO_CHAIN ? &gro->youngest : &gro->chains[chain->younger].older) = chain->older;
}

/** take_room() - Have a train of one frame gathered, if small frames follow and there is a room */
static void take_room(struct vx_gro *gro, struct vx_train *train)
{
	if (train->room || train->parts > 1 || train->size > VX_TRAIN_GATHER)
		return;
	for (unsigned i = 0; i < VX_TRAIN_ROOMS; i++) {
		if (gro->rooms_taken >> i & 1)
			continue;
		gro->rooms_taken |= (uint8_t)(1 << i);
		vx_train_gather(train, gro->room[i]);
		return;
	}
}

static void leave_room(struct vx_gro *gro, const struct vx_train *train)
{
	for (unsigned i = 0; i < VX_TRAIN_ROOMS; i++)
		if (train->room == gro->room[i])
			gro->rooms_taken &= (uint8_t)~(1 << i);
}

/** leave() - Emit a chain, and free it */
static void leave(struct vx_gro *gro, uint8_t at)
{
	struct chain *chain = &gro->chains[at];

	unlink_chain(gro, at);
	gro->last_chain = gro->last_chain == at ? NO_CHAIN : gro->last_chain;
	if (chain->train.parts > 1)
		vx_train_merge(&chain->train);
	gro->emit(gro->context, &chain->train);
	leave_room(gro, &chain->train);
	chain->next = gro->free;
	gro->free = at;
}

/** pass() - Emit a frame that opens no chain */
static void pass(struct vx_gro *gro, const struct vx_frame *frame, uint32_t port)
{
	vx_train_load(&gro->lone, frame, port);
	gro->emit(gro->context, &gro->lone);
}

/* -- flows -------------------------------------------------------------------------------------------------------- */

/** has_flow() - Whether addresses and ports say what a frame must not overtake */
static bool has_flow(const struct vx_eth *eth)
{
	return eth->l4 && !eth->fragment && eth->l4 + 4u <= eth->end &&
	       (eth->protocol == VX_PROTO_TCP || eth->protocol == VX_PROTO_UDP);
}

/** same_flow() - Whether a frame has the port, protocol, addresses and ports of a chain */
static bool same_flow(const struct chain *chain, const struct vx_frame *frame, uint32_t port)
{
	const struct vx_train *train = &chain->train;
	const struct vx_eth *a = &train->eth, *b = &frame->eth;
	const uint8_t *first = vx_train_first(train), *data = frame->data;

	if (train->port != port || a->version != b->version || a->protocol != b->protocol)
		return false;
	if (memcmp(first + a->l4, data + b->l4, 4) != 0)
		return false;
	return b->version == 4 ? memcmp(first + a->l3 + 12, data + b->l3 + 12, 8) == 0
			       : memcmp(first + a->l3 + 8, data + b->l3 + 8, 32) == 0;
}

static uint8_t find(const struct vx_gro *gro, const struct vx_frame *frame, uint32_t port, uint32_t hash)
{
	uint8_t at = gro->bucket[hash % BUCKETS];

	while (at != NO_CHAIN && !(gro->chains[at].hash == hash && same_flow(&gro->chains[at], frame, port)))
		at = gro->chains[at].next;
	return at;
}

/** open_chain() - Let a segment wait for the next of its flow; the oldest chain makes room if there is none */
static void open_chain(struct vx_gro *gro, const struct segment *segment, uint32_t port, uint32_t hash)
{
	struct chain *chain;
	uint8_t at;

	if (gro->free == NO_CHAIN && gro->used == VX_GRO_CHAINS)
		leave(gro, gro->oldest);
	if (gro->free == NO_CHAIN) {
		at = gro->used++;
		chain = &gro->chains[at];
	} else {
		at = gro->free;
		chain = &gro->chains[at];
		gro->free = chain->next;
	}

	chain->hash = hash;
	chain->next = gro->bucket[hash % BUCKETS];
	gro->bucket[hash % BUCKETS] = at;
	chain->older = gro->youngest;
	chain->younger = NO_CHAIN;
	*(gro->youngest == NO_CHAIN ? &gro->oldest : &gro->chains[gro->youngest].younger) = at;
	gro->youngest = at;

	chain->verified = false;
	vx_train_load(&chain->train, segment->frame, port);
	vx_train_open(&chain->train, segment->frame, segment->headers, segment->payload);
	gro->last = segment->frame->data;
	gro->last_chain = at;
}

/* -- segments ----------------------------------------------------------------------------------------------------- */

/** plain_ip() - Whether an IP header is one that cutting a merged packet reproduces */
static bool plain_ip(const uint8_t *ip, const struct vx_eth *eth)
{
	if (eth->version == 6)
		return eth->l4 == eth->l3 + IPV6_LEN;
	return ip[0] == IPV4_PLAIN && vx_csum_fold(vx_csum_add(ip, IPV4_LEN, 0)) == 0xffff;
}

/** read_segment() - Whether a frame with a flow may be merged at all, and what it then is */
static bool read_segment(struct segment *segment, const struct vx_frame *frame, unsigned may_merge)
{
	const struct vx_eth *eth = &frame->eth;
	const uint8_t *l4 = frame->data + eth->l4;
	uint32_t header, l4_len = eth->end - eth->l4;
	bool tcp = eth->protocol == VX_PROTO_TCP;

	if (!(may_merge & (tcp ? VX_GRO_TCP : VX_GRO_UDP)) || frame->vnet.gso_type != VX_GSO_NONE)
		return false;
	if ((frame->vnet.flags & VX_VNET_NEEDS_CSUM) &&
	    (frame->vnet.csum_start != eth->l4 || frame->vnet.csum_offset != vx_csum_offset(eth->protocol)))
		return false;
	if (l4_len <= (tcp ? TCP_LEN : UDP_LEN) || !plain_ip(frame->data + eth->l3, eth))
		return false;
	if (tcp) {
		header = (uint32_t)(l4[12] >> 4) * 4;
		if (header < TCP_LEN || (l4[13] & (TCP_SYN | TCP_RST | TCP_URG | TCP_CWR)))
			return false;
	} else {
		header = UDP_LEN;
		if (vx_get16(l4 + 4) != l4_len || !vx_get16(l4 + vx_csum_offset(VX_PROTO_UDP)))
			return false;
	}
	if (header >= l4_len)
		return false;
	segment->frame = frame;
	segment->headers = eth->l4 + header;
	segment->payload = l4_len - header;
	segment->last = tcp && (l4[13] & (TCP_FIN | TCP_PSH));
	return true;
}

/** id_follows() - Whether the ID of an IPv4 header is what the next frame of a chain has */
static bool id_follows(const struct chain *chain, const uint8_t *a, const uint8_t *b)
{
	uint16_t step = (uint16_t)(vx_get16(b + IPV4_ID) - vx_get16(a + IPV4_ID));

	if (chain->train.parts > 1)
		return step == (uint16_t)(chain->id_step * chain->train.parts);
	return step == 1 || (step == 0 && (vx_get16(a + 6) & IPV4_DF));
}

/** ip_follows() - Whether an IP header is what the next frame of a chain has */
static bool ip_follows(const struct chain *chain, const uint8_t *a, const uint8_t *b)
{
	if (chain->train.eth.version == 6)	/* version, traffic class, flow label; hop limit */
		return vx_get32(a) == vx_get32(b) && a[7] == b[7];
	if (a[1] != b[1] || vx_get16(a + 6) != vx_get16(b + 6) || a[8] != b[8])	/* TOS, flags, TTL */
		return false;
	return id_follows(chain, a, b);
}

/** tcp_follows() - Whether a TCP header is what the next frame of a train has */
static bool tcp_follows(const struct vx_train *train, const uint8_t *a, const uint8_t *b)
{
	uint32_t options = train->headers - train->eth.l4 - TCP_LEN;

	/* acknowledgement; data offset, flags and window; urgent pointer; options, timestamps among them */
	return vx_get32(b + 4) == vx_get32(a + 4) + train->payload && vx_get32(a + 8) == vx_get32(b + 8) &&
	       !((vx_get32(a + 12) ^ vx_get32(b + 12)) & ~((uint32_t)(TCP_FIN | TCP_PSH) << 16)) &&
	       vx_get16(a + 18) == vx_get16(b + 18) && memcmp(a + TCP_LEN, b + TCP_LEN, options) == 0;
}

/** fits() - Whether a merged packet with @payload more bytes is still one */
static bool fits(const struct vx_train *train, uint32_t payload)
{
	return train->headers - train->eth.l3 + train->payload + payload <= IP_MAX;
}

/** follows() - Whether a segment is the next one of a chain */
static bool follows(const struct chain *chain, const struct segment *segment)
{
	const struct vx_train *train = &chain->train;
	const struct vx_eth *a = &train->eth, *b = &segment->frame->eth;
	const uint8_t *first = vx_train_first(train), *data = segment->frame->data;

	if (segment->payload > train->size || !fits(train, segment->payload))
		return false;
	if (a->l3 != b->l3 || memcmp(first, data, a->l3) != 0)	/* Ethernet header and VLAN tags */
		return false;
	if (!ip_follows(chain, first + a->l3, data + b->l3))
		return false;
	return b->protocol == VX_PROTO_UDP || tcp_follows(train, first + a->l4, data + b->l4);
}

/** is_first_right() - Whether the checksum of a chain's first frame is right; asked once it matters */
static bool is_first_right(struct chain *chain)
{
	const struct vx_train *train = &chain->train;

	if (!chain->verified)
		chain->verified = train->partial || vx_csum_valid(vx_train_first(train), &train->eth);
	return chain->verified;
}

/** append() - Add a frame of @len bytes, @payload of them payload, to a chain, which leaves if it is full */
static void append(struct vx_gro *gro, uint8_t at, uint8_t *frame, uint32_t len, uint32_t payload)
{
	struct chain *chain = &gro->chains[at];
	struct vx_train *train = &chain->train;
	uint32_t id = train->eth.l3 + IPV4_ID;

	if (train->parts == 1 && train->eth.version == 4)
		chain->id_step = vx_get16(vx_train_first(train) + id) != vx_get16(frame + id);
	vx_train_add(train, frame, len, payload);
	gro->last = frame;
	gro->last_chain = at;
	if (payload < train->size || train->parts == VX_TRAIN_FRAMES)
		leave(gro, at);
}

/** join() - Add a segment to a chain, which leaves if nothing can follow */
static void join(struct vx_gro *gro, uint8_t at, const struct segment *segment)
{
	struct chain *chain = &gro->chains[at];
	const struct vx_frame *frame = segment->frame;

	if (segment->last)
		chain->train.tcp_flags |= frame->data[frame->eth.l4 + 13] & (TCP_FIN | TCP_PSH);
	if (frame->vnet.flags & VX_VNET_NEEDS_CSUM)
		chain->train.partial |= 1ull << chain->train.parts;
	if (chain->train.room)
		memcpy(vx_train_end(&chain->train), frame->data + segment->headers, segment->payload);
	append(gro, at, frame->data, frame->len, segment->payload);
	if (segment->last && gro->last_chain == at)
		leave(gro, at);
}

/** compare_with() - Note what frames have in common with @frame that follow it in its chain */
static void compare_with(struct like *like, const struct vx_train *train, const uint8_t *frame)
{
	const struct vx_eth *eth = &train->eth;
	const uint8_t *ip = frame + eth->l3, *l4 = frame + eth->l4;
	uint8_t *ip_mask = like->mask + VX_VXLAN_LEN + eth->l3, *l4_mask = like->mask + VX_VXLAN_LEN + eth->l4;
	uint16_t csum = vx_csum_offset(eth->protocol);
	uint32_t l4_headers = train->headers - eth->l4;

	memset(like->mask, 0, VX_GRO_ALIKE);
	memset(like->mask, 0xff, VX_VXLAN_LEN + train->headers);
	if (eth->version == 4) {
		vx_put16(ip_mask + IPV4_ID, 0);
		vx_put16(ip_mask + IPV4_CSUM, 0);
		like->ip_sum = vx_csum_add(ip, IPV4_LEN, 0);
		like->ip_sum = vx_csum_but(like->ip_sum, vx_get16(ip + IPV4_ID));
		like->ip_sum = vx_csum_but(like->ip_sum, vx_get16(ip + IPV4_CSUM));
	}
	like->pseudo = vx_csum_pseudo(ip, eth->version, eth->protocol, l4_headers + train->size);
	like->l4_sum = vx_csum_but(vx_csum_add(l4, l4_headers, like->pseudo), vx_get16(l4 + csum));
	if (eth->protocol == VX_PROTO_TCP) {
		vx_put32(l4_mask + 4, 0);					/* sequence number */
		like->l4_sum = vx_csum_but(vx_csum_but(like->l4_sum, vx_get16(l4 + 4)), vx_get16(l4 + 6));
	}
	vx_put16(l4_mask + csum, 0);
}

static bool is_alike(const struct like *like, const uint8_t *a, const uint8_t *b)
{
	uint8_t differs = 0;

	for (unsigned i = 0; i < VX_GRO_ALIKE; i++)
		differs |= (a[i] ^ b[i]) & like->mask[i];
	return !differs;
}

/** is_next() - Whether a frame that is like the last of its chain is the next one */
static bool is_next(const struct chain *chain, const struct like *like, const uint8_t *frame)
{
	const struct vx_train *train = &chain->train;
	const uint8_t *first = vx_train_first(train), *ip = frame + train->eth.l3, *l4 = frame + train->eth.l4;

	if (!fits(train, train->size))
		return false;
	if (train->eth.version == 4) {
		uint32_t ip_sum = like->ip_sum + vx_get16(ip + IPV4_ID) + vx_get16(ip + IPV4_CSUM);

		if (vx_csum_fold(ip_sum) != 0xffff || !id_follows(chain, first + train->eth.l3, ip))
			return false;
	}
	return train->eth.protocol == VX_PROTO_UDP ||
	       vx_get32(l4 + 4) == vx_get32(first + train->eth.l4 + 4) + train->payload;
}

/** is_right() - Whether the checksum of a frame that is the next one is right; its payload is gathered on the way */
static bool is_right(const struct vx_train *train, const struct like *like, const uint8_t *frame)
{
	const uint8_t *l4 = frame + train->eth.l4, *payload = frame + train->headers;
	uint16_t csum = vx_get16(l4 + vx_csum_offset(train->eth.protocol));
	bool tcp = train->eth.protocol == VX_PROTO_TCP;
	uint32_t sum = like->l4_sum + csum;

	if (csum == vx_csum_fold(like->pseudo) || (!csum && !tcp))	/* perhaps partial: not worth a sum; none */
		return false;
	if (tcp)
		sum += (uint32_t)vx_get16(l4 + 4) + vx_get16(l4 + 6);
	sum = train->room ? vx_csum_copy(vx_train_end(train), payload, train->size, sum)
			  : vx_csum_add(payload, train->size, sum);
	return vx_csum_fold(sum) == 0xffff;
}

/* -- the room's doors --------------------------------------------------------------------------------------------- */

/** vx_gro_size() - How much zeroed memory a coalescer needs: rooms, and chains that are touched when many flows meet */
size_t vx_gro_size(void)
{
	return sizeof(struct vx_gro);
}

/** vx_gro_init() - Make a coalescer of zeroed memory, or empty one anew; @emit gets every train with @context */
void vx_gro_init(struct vx_gro *gro, vx_gro_emit *emit, void *context)
{
	gro->emit = emit;
	gro->context = context;
	gro->used = gro->rooms_taken = 0;
	gro->free = gro->oldest = gro->youngest = gro->last_chain = NO_CHAIN;
	memset(gro->bucket, NO_CHAIN, sizeof(gro->bucket));
}

/**
 * vx_gro_add() - Take the next frame that the tunnel brought for a port
 * @gro:	Coalescer
 * @frame:	Decided frame, its checksum told apart by vx_partial_settle(); not needed after the call, but its bytes
 *		are, until vx_gro_flush()
 * @port:	Target
 * @may_merge:	VX_GRO_*
 *
 * Return: VX_OK; VX_CSUM if the frame was to be merged and is damaged: it is dropped, and the caller counts it
 */
enum vx_reason vx_gro_add(struct vx_gro *gro, const struct vx_frame *frame, uint32_t port, unsigned may_merge)
{
	struct segment segment;
	bool mergeable;
	uint32_t hash;
	uint8_t at;

	if (!has_flow(&frame->eth)) {
		vx_gro_flush_port(gro, port);
		pass(gro, frame, port);
		return VX_OK;
	}
	hash = vx_eth_hash(frame->data, &frame->eth);
	at = find(gro, frame, port, hash);
	mergeable = read_segment(&segment, frame, may_merge);
	if (mergeable && at != NO_CHAIN && follows(&gro->chains[at], &segment) && is_first_right(&gro->chains[at])) {
		if (!(frame->vnet.flags & VX_VNET_NEEDS_CSUM) && !vx_csum_valid(frame->data, &frame->eth))
			return VX_CSUM;
		join(gro, at, &segment);
		return VX_OK;
	}
	if (at != NO_CHAIN)
		leave(gro, at);
	if (mergeable && !segment.last)
		open_chain(gro, &segment, port, hash);
	else
		pass(gro, frame, port);
	return VX_OK;
}

/**
 * vx_gro_follow() - Let frames join that came behind one in its datagram and are like it
 * @gro:	Coalescer
 * @frame:	What was added last, with its VXLAN header before it
 * @next:	The datagram's next frame, at its VXLAN header. Like those behind it, it is as long as @frame came
 * @count:	How many of them there are
 *
 * What the switch decides depends on no byte in which a frame that joins differs from @frame. The first that differs
 * in more, is not the next of its flow or has a wrong or partial checksum ends this, and is to be decided.
 *
 * Return: how many have joined
 */
unsigned vx_gro_follow(struct vx_gro *gro, const struct vx_frame *frame, uint8_t *next, unsigned count)
{
	uint32_t stride = VX_VXLAN_LEN + frame->len;
	uint8_t at = gro->last_chain;
	struct chain *chain;
	struct like like;
	unsigned joined;

	if (at == NO_CHAIN || gro->last != frame->data || next != frame->data + frame->len ||
	    (frame->vnet.flags & VX_VNET_NEEDS_CSUM))	/* padding was cut off; theirs may be partial, too */
		return 0;
	chain = &gro->chains[at];
	if (stride < VX_GRO_ALIKE || VX_VXLAN_LEN + chain->train.headers > VX_GRO_ALIKE || !is_first_right(chain))
		return 0;
	compare_with(&like, &chain->train, frame->data);
	for (joined = 0; joined < count && gro->last_chain == at; joined++, next += stride) {
		uint8_t *data = next + VX_VXLAN_LEN;

		if (!is_alike(&like, frame->data - VX_VXLAN_LEN, next) || !is_next(chain, &like, data))
			break;
		take_room(gro, &chain->train);
		if (!is_right(&chain->train, &like, data))
			break;
		append(gro, at, data, frame->len, chain->train.size);
	}
	return joined;
}

/** vx_gro_flush_port() - Emit what waits for a port, the oldest first: before anything else goes there */
void vx_gro_flush_port(struct vx_gro *gro, uint32_t port)
{
	uint8_t at = gro->oldest, younger;

	for (; at != NO_CHAIN; at = younger) {
		younger = gro->chains[at].younger;
		if (gro->chains[at].train.port == port)
			leave(gro, at);
	}
}

/** vx_gro_flush() - Emit all that waits, the oldest first: at the end of a receive batch */
void vx_gro_flush(struct vx_gro *gro)
{
	while (gro->oldest != NO_CHAIN)
		leave(gro, gro->oldest);
}
