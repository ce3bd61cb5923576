/* flow.c - random TCP and UDP flows, and their packets written in the plainest way: the reference for gso.c
 *
 * How it works
 *   put() writes one whole packet from a description of its flow and sums it with the simplest loop there is. It
 *   knows of no super-frame: called for all of the payload it makes one, called per slice it makes the frames that
 *   have to come out of that. Nothing of csum.c or gso.c is used, so that a mistake there cannot be repeated here.
 */
#include "flow.h"

#include "check.h"
#include "eth.h"

static uint8_t noise[FLOW_PAYLOAD_MAX + 64];

static uint32_t simplest_sum(const uint8_t *data, uint32_t len, uint32_t sum)
{
	for (uint32_t i = 0; i < len; i++) {
		sum += i % 2 ? data[i] : (uint32_t)data[i] << 8;
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return sum;
}

static uint32_t put_l2(uint8_t *p, const struct flow *flow)
{
	uint32_t len = 12;

	memcpy(p, flow->random, 12);
	p[0] &= 0xfe;
	for (unsigned i = 0; i < flow->tags; i++, len += 4) {
		vx_put16(p + len, i + 1 < flow->tags ? 0x88a8 : 0x8100);
		memcpy(p + len + 2, flow->random + 12 + 2 * i, 2);
	}
	vx_put16(p + len, flow->version == 4 ? 0x0800 : 0x86dd);
	return len + 2;
}

static uint32_t put_l3_ipv4(uint8_t *p, const struct flow *flow, uint32_t index, uint32_t upper)
{
	uint32_t len = 20 + flow->ip_options;

	p[0] = (uint8_t)(0x40 | len / 4);
	p[1] = flow->tos;
	vx_put16(p + 2, (uint16_t)(len + upper));
	vx_put16(p + 4, (uint16_t)(flow->id + index));
	vx_put16(p + 6, flow->df);
	p[8] = flow->ttl;
	p[9] = flow->tcp ? 6 : 17;
	vx_put16(p + 10, 0);
	memcpy(p + 12, flow->random + 16, 8);
	memcpy(p + 20, flow->random + 48, flow->ip_options);
	vx_put16(p + 10, (uint16_t)~simplest_sum(p, len, 0));
	return len;
}

static unsigned kind_of_extension(const struct flow *flow, unsigned index)
{
	static const uint8_t kinds[3] = { 0, 60, 60 };	/* hop-by-hop, destination options */

	if (index == flow->extensions)
		return flow->tcp ? 6 : 17;
	return index == 0 && flow->routed ? 43 : kinds[index];
}

static uint32_t put_l3_ipv6(uint8_t *p, const struct flow *flow, uint32_t upper)
{
	uint32_t len = 40;

	vx_put32(p, 6u << 28 | (uint32_t)flow->tos << 20 | (vx_get32(flow->random + 12) & 0xfffff));
	p[6] = (uint8_t)kind_of_extension(flow, 0);
	p[7] = flow->ttl;
	memcpy(p + 8, flow->random + 16, 32);
	for (unsigned i = 0; i < flow->extensions; i++) {
		unsigned size = flow->extension_size[i] * 8 + 8;

		memcpy(p + len, flow->random + 48 + 32 * i, size);
		p[len] = (uint8_t)kind_of_extension(flow, i + 1);
		p[len + 1] = (uint8_t)flow->extension_size[i];
		if (i == 0 && flow->routed)
			p[len + 3] = 1;	/* one segment left, of which the address is at offset 8 */
		len += size;
	}
	vx_put16(p + 4, (uint16_t)(len - 40 + upper));
	return len;
}

static uint32_t pseudo_header_sum(const struct flow *flow, const uint8_t *ip, uint32_t upper)
{
	uint8_t pseudo[40] = { 0 };
	uint32_t address = flow->version == 4 ? 4 : 16, len = 2 * address;

	memcpy(pseudo, ip + (flow->version == 4 ? 12 : 8), len);
	if (flow->routed)
		memcpy(pseudo + address, ip + 40 + 8, address);
	vx_put16(pseudo + len, (uint16_t)upper);
	pseudo[len + 3] = flow->tcp ? 6 : 17;
	return simplest_sum(pseudo, len + 4, 0);
}

static uint32_t put_l4(uint8_t *p, const struct flow *flow, uint32_t offset, uint32_t len, uint16_t tcp_flags)
{
	uint32_t header = flow->tcp ? 20 + flow->tcp_options : 8;

	memcpy(p, flow->random + 160, 4);
	if (!flow->tcp) {
		vx_put16(p + 4, (uint16_t)(8 + len));
		vx_put16(p + 6, 0);
		return header;
	}
	vx_put32(p + 4, flow->seq + offset);
	memcpy(p + 8, flow->random + 164, 4);
	vx_put16(p + 12, (uint16_t)(header / 4 << 12 | tcp_flags));
	memcpy(p + 14, flow->random + 168, 2);
	vx_put16(p + 16, 0);
	memcpy(p + 18, flow->random + 170, 2);
	memcpy(p + 20, flow->random + 172, flow->tcp_options);
	return header;
}

/** put() - Write the packet with a slice of the flow's payload
 * @partial:	Leave the checksum to others, as a super-frame does
 *
 * Return: length of the frame
 */
static uint32_t put(uint8_t *frame, const struct flow *flow, uint32_t index, uint32_t offset, uint32_t len,
		    bool partial)
{
	uint16_t tcp_flags = flow->tcp_flags;
	uint32_t l3 = put_l2(frame, flow), l4, end, upper, sum;
	uint16_t csum;

	if (offset)
		tcp_flags &= (uint16_t)~0x80;			/* CWR: on the first only */
	if (offset + len < flow->len)
		tcp_flags &= (uint16_t)~(0x08 | 0x01);		/* PSH, FIN: on the last only */
	upper = len + (flow->tcp ? 20 + flow->tcp_options : 8);
	if (flow->version == 4)
		l4 = l3 + put_l3_ipv4(frame + l3, flow, index, upper);
	else
		l4 = l3 + put_l3_ipv6(frame + l3, flow, upper);
	end = l4 + put_l4(frame + l4, flow, offset, len, tcp_flags);
	memcpy(frame + end, flow->payload + offset, len);
	end += len;

	sum = pseudo_header_sum(flow, frame + l3, upper);
	csum = partial ? (uint16_t)sum : (uint16_t)~simplest_sum(frame + l4, end - l4, sum);
	if (!partial && !flow->tcp && !csum)
		csum = 0xffff;
	vx_put16(frame + l4 + (flow->tcp ? 16 : 6), csum);
	return end;
}

static uint32_t below(uint32_t limit)
{
	return (uint32_t)rand() % limit;
}

/** flow_headers() - Bytes from the Ethernet header to the end of the transport header */
uint32_t flow_headers(const struct flow *flow)
{
	uint32_t len = 14 + 4 * flow->tags + (flow->tcp ? 20 + flow->tcp_options : 8);

	if (flow->version == 4)
		return len + 20 + flow->ip_options;
	for (unsigned i = 0; i < flow->extensions; i++)
		len += flow->extension_size[i] * 8 + 8;
	return len + 40;
}

/** flow_longest() - The longest payload: the 16 bits of the length in the IP header are the limit */
uint32_t flow_longest(const struct flow *flow)
{
	uint32_t l3 = flow_headers(flow) - 14 - 4 * flow->tags;

	return 65535 - (flow->version == 4 ? l3 : l3 - 40);
}

/** choose_sizes() - Payload and segment size: from one byte up to the most, odd and even, with and without rest */
static void choose_sizes(struct flow *flow)
{
	static const uint32_t usual[] = { 1, 2, 3, 7, 536, 1000, 1398, 1410, 1448, 8948 };
	uint32_t most = flow_longest(flow), segments = flow->tcp ? VX_SEGMENTS_MAX : 128;

	flow->size = below(2) ? usual[below(10)] : 1 + below(9000);
	if (segments > 60 && below(8))
		segments = 60;
	segments = 2 + below(segments - 1);
	flow->len = flow->size * segments;
	if (below(2))
		flow->len -= below(flow->size);
	if (below(16) == 0 || flow->len > most)
		flow->len = most;
	if (flow->len <= flow->size)
		flow->len = flow->size + 1;
	while ((flow->len + flow->size - 1) / flow->size > (flow->tcp ? VX_SEGMENTS_MAX : 128))
		flow->size *= 2;
	CHECK(flow->len <= most && flow->len > flow->size);
}

static void make_noise(void)
{
	if (noise[0])
		return;
	srand(17);
	for (uint32_t i = 0; i < sizeof(noise); i++)
		noise[i] = (uint8_t)(1 + below(255));
}

/** flow_random() - A flow that a kernel might send: options, extension headers, tags, odd sizes, what wraps */
struct flow flow_random(unsigned seed, bool tcp, unsigned version)
{
	struct flow flow = { .seed = seed, .tcp = tcp, .version = version };

	make_noise();
	srand(seed);
	for (unsigned i = 0; i < sizeof(flow.random); i++)
		flow.random[i] = (uint8_t)below(256);
	flow.tags = below(3);
	if (version == 4)
		flow.ip_options = below(2) ? 0 : 4 * below(11);
	else
		flow.extensions = below(2) ? 0 : below(4);
	for (unsigned i = 0; i < 3; i++)
		flow.extension_size[i] = below(4);
	if (flow.extensions && below(2)) {
		flow.routed = true;
		flow.extension_size[0] = 2;
	}
	flow.tcp_options = below(3) ? 12 : 4 * below(11);
	flow.tos = (uint8_t)below(256);
	flow.ttl = (uint8_t)below(256);
	flow.id = (uint16_t)(below(2) ? 0xffff - below(8) : below(65536));
	flow.df = below(2) ? 0x4000 : 0;
	flow.tcp_flags = (uint16_t)(below(2) ? 0x010 | below(256) : below(4096));
	flow.seq = below(2) ? 0xffffffff - below(60000) : (uint32_t)rand() * 2 + below(2);
	choose_sizes(&flow);
	flow.payload = noise + below(64);
	return flow;
}

/** flow_plain() - A flow without options, of which a test changes what it is about */
struct flow flow_plain(bool tcp, unsigned version, uint32_t len, uint32_t size)
{
	struct flow flow = flow_random(1, tcp, version);

	flow.tags = flow.ip_options = flow.extensions = flow.tcp_options = 0;
	flow.routed = false;
	flow.tcp_flags = 0x099;		/* CWR, ACK, PSH, FIN */
	flow.len = len;
	flow.size = size;
	return flow;
}

uint32_t flow_segments(const struct flow *flow)
{
	return (flow->len + flow->size - 1) / flow->size;
}

/** flow_segment() - Write one of the frames that the super-frame has to be cut into. Return: its length */
uint32_t flow_segment(uint8_t *frame, const struct flow *flow, uint32_t segment)
{
	uint32_t offset = segment * flow->size, left = flow->len - offset;

	return put(frame, flow, segment, offset, left < flow->size ? left : flow->size, false);
}

/** flow_whole() - Write all of the flow's payload as one packet with its checksums finished. Return: its length */
uint32_t flow_whole(uint8_t *frame, const struct flow *flow)
{
	return put(frame, flow, 0, 0, flow->len, false);
}

/** flow_super() - Write the super-frame at @data. Return: the frame as a TAP hands it over, and parsed */
struct vx_frame flow_super(uint8_t *data, const struct flow *flow)
{
	static const uint8_t types[2][2] = { { VX_GSO_UDP_L4, VX_GSO_UDP_L4 }, { VX_GSO_TCPV4, VX_GSO_TCPV6 } };
	struct vx_frame frame = { .data = data, .len = put(data, flow, 0, 0, flow->len, true) };

	REASON(vx_eth_parse(data, frame.len, &frame.eth), VX_OK);
	frame.vnet = (struct vx_vnet){
		.flags = VX_VNET_NEEDS_CSUM,
		.gso_type = types[flow->tcp][flow->version == 6],
		.hdr_len = (uint16_t)below(65536),	/* a hint, and often a wrong one */
		.gso_size = (uint16_t)flow->size,
		.csum_start = frame.eth.l4,
		.csum_offset = flow->tcp ? 16 : 6,
	};
	if (flow->tcp && (flow->tcp_flags & 0x80))
		frame.vnet.gso_type |= VX_GSO_ECN;
	return frame;
}
