/* wire.c - packets built and super-frames cut in the plainest way
 *
 * Nothing of the fast path's own arithmetic is used here, since it is what these judge: the checksum is a loop over
 * 16-bit words, a header is written field by field, a super-frame is cut by building each packet whole, as
 * tcp_gso_segment(), inet_gso_segment() and __udp_gso_segment() say.
 */
#include "wire.h"

#include "check.h"
#include "eth.h"

const struct wire wire_tcp = {
	.version = 4, .protocol = VX_PROTO_TCP, .to = 0x02420a070011, .from = 0x02420a070021, .ttl = 64,
	.fragment = 0x4000, .source = 0x21, .target = 0x11, .source_port = 1500, .target_port = 8000,
	.seq = 100, .ack = 100, .flags = 0x10, .window = 65535, .len = 100,
};
const struct wire wire_udp = {
	.version = 4, .protocol = VX_PROTO_UDP, .to = 0x02420a070011, .from = 0x02420a070021, .ttl = 64,
	.fragment = 0x4000, .source = 0x21, .target = 0x11, .source_port = 1500, .target_port = 8000, .len = 100,
};

/** wire_sum() - Internet checksum, not complemented, by the simplest loop */
uint16_t wire_sum(const uint8_t *data, uint32_t len, uint32_t sum)
{
	for (uint32_t i = 0; i < len; i++) {
		sum += i & 1 ? data[i] : (uint32_t)data[i] << 8;
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

static uint16_t pseudo_sum(const uint8_t *ip, uint8_t protocol, uint32_t len)
{
	uint16_t sum = ip[0] >> 4 == 4 ? wire_sum(ip + 12, 8, protocol) : wire_sum(ip + 8, 32, protocol);

	return wire_sum((const uint8_t[]){ (uint8_t)(len >> 8), (uint8_t)len }, 2, sum);
}

/** put_l4_csum() - Write the checksum of a TCP or UDP packet whose field is 0 */
static void put_l4_csum(const uint8_t *ip, uint8_t *l4, uint8_t protocol, uint32_t len, bool partial)
{
	uint8_t *field = l4 + (protocol == VX_PROTO_TCP ? 16 : 6);
	uint16_t sum = pseudo_sum(ip, protocol, len);

	if (!partial) {
		sum = (uint16_t)~wire_sum(l4, len, sum);
		if (protocol == VX_PROTO_UDP && !sum)
			sum = 0xffff;
	}
	vx_put16(field, sum);
}

static uint32_t put_ethernet(uint8_t *out, const struct wire *wire)
{
	uint32_t len = 12;

	vx_mac_put(out, wire->to);
	vx_mac_put(out + 6, wire->from);
	if (wire->vlan) {
		vx_put16(out + len, VX_ETHERTYPE_VLAN);
		vx_put16(out + len + 2, (uint16_t)wire->vlan);
		len += 4;
	}
	vx_put16(out + len, wire->version == 4 ? VX_ETHERTYPE_IPV4 : VX_ETHERTYPE_IPV6);
	return len + 2;
}

/** put_ip() - Return: length of the IP header, extension header included */
static uint32_t put_ip(uint8_t *ip, const struct wire *wire, uint32_t l4_len)
{
	uint32_t header = wire->version == 4 ? 20 + wire->ip_options * 4 : 40 + (wire->extension ? 8 : 0);

	if (wire->version == 4) {
		memset(ip, 0, 20);
		memset(ip + 20, wire->extension_byte, wire->ip_options * 4);
		ip[0] = (uint8_t)(0x45 + wire->ip_options);
		ip[1] = wire->tos;
		vx_put16(ip + 2, (uint16_t)(header + l4_len));
		vx_put16(ip + 4, wire->id);
		vx_put16(ip + 6, wire->fragment);
		ip[8] = wire->ttl;
		ip[9] = wire->protocol;
		memcpy(ip + 12, (const uint8_t[]){ 10, 7, 0, wire->source, 10, 7, 0, wire->target }, 8);
		vx_put16(ip + 10, (uint16_t)~wire_sum(ip, header, 0));
		return header;
	}
	memset(ip, 0, 40);
	vx_put32(ip, 6u << 28 | (uint32_t)wire->tos << 20 | wire->label);
	vx_put16(ip + 4, (uint16_t)(header - 40 + l4_len));
	ip[6] = wire->extension ? wire->extension : wire->protocol;
	ip[7] = wire->ttl;
	ip[8] = ip[24] = 0xfd;
	ip[23] = wire->source;
	ip[39] = wire->target;
	if (wire->extension) {
		memset(ip + 40, wire->extension_byte, 8);
		ip[40] = wire->protocol;
		ip[41] = 0;
	}
	return header;
}

/** put_l4() - The transport header. Return: its length */
static uint32_t put_l4(uint8_t *l4, const struct wire *wire)
{
	uint32_t header = wire->protocol == VX_PROTO_TCP ? 20 + wire->options_len : 8;

	if (wire->protocol != VX_PROTO_TCP && wire->protocol != VX_PROTO_UDP)
		return 0;
	memset(l4, 0, header);
	vx_put16(l4, wire->source_port);
	vx_put16(l4 + 2, wire->target_port);
	if (wire->protocol == VX_PROTO_UDP) {
		vx_put16(l4 + 4, (uint16_t)(8 + wire->len));
		return header;
	}
	vx_put32(l4 + 4, wire->seq);
	vx_put32(l4 + 8, wire->ack);
	l4[12] = (uint8_t)(header / 4 << 4 | wire->reserved);
	l4[13] = wire->flags;
	vx_put16(l4 + 14, wire->window);
	vx_put16(l4 + 18, wire->urgent);
	memcpy(l4 + 20, wire->options, wire->options_len);
	return header;
}

/** wire_put() - Build a packet. Return: length of the frame, padding included */
uint32_t wire_put(uint8_t *out, const struct wire *wire)
{
	uint8_t scratch[64];
	uint32_t l3 = put_ethernet(out, wire), header = put_l4(scratch, wire), l4_len = header + wire->len;
	uint8_t *ip = out + l3, *l4 = ip + put_ip(ip, wire, l4_len);

	put_l4(l4, wire);
	for (uint32_t i = 0; i < wire->len; i++)
		l4[header + i] = (uint8_t)((wire->seq + i) * 2654435761u >> 24);
	if (header && !wire->no_csum)
		put_l4_csum(ip, l4, wire->protocol, l4_len, wire->partial);
	memset(l4 + l4_len, 0xee, wire->padding);
	return (uint32_t)(l4 - out) + l4_len + wire->padding;
}

/** wire_frame() - A frame as the switch hands it over: parsed, its checksum known to be partial or not */
struct vx_frame wire_frame(uint8_t *data, uint32_t len)
{
	struct vx_frame frame = { .data = data, .len = len, .from = VX_AT_VTEP, .segments = 1 };
	const uint8_t *ip, *l4;

	if (vx_eth_parse(data, len, &frame.eth) || !frame.eth.l4 || frame.eth.fragment)
		return frame;
	ip = data + frame.eth.l3;
	l4 = data + frame.eth.l4;
	for (int tcp = 0; tcp < 2; tcp++) {
		uint8_t protocol = tcp ? VX_PROTO_TCP : VX_PROTO_UDP;
		uint16_t offset = tcp ? 16 : 6;
		uint32_t l4_len = frame.eth.end - frame.eth.l4;

		if (frame.eth.protocol == protocol && l4_len >= (tcp ? 20 : 8) && vx_get16(l4 + offset) &&
		    vx_get16(l4 + offset) == pseudo_sum(ip, protocol, l4_len))
			frame.vnet = (struct vx_vnet){
				.flags = VX_VNET_NEEDS_CSUM, .csum_start = frame.eth.l4, .csum_offset = offset,
			};
	}
	return frame;
}

/** wire_finish() - Finish a partial checksum, by the book */
void wire_finish(uint8_t *frame, const struct vx_vnet *vnet, uint32_t len)
{
	uint16_t sum = (uint16_t)~wire_sum(frame + vnet->csum_start, len - vnet->csum_start, 0);

	vx_put16(frame + vnet->csum_start + vnet->csum_offset, !sum && vnet->csum_offset == 6 ? 0xffff : sum);
}

/** wire_flatten() - A train as the bytes of one write, without the virtio header. Return: how many
 *
 * A gathered one is in its parts, too, which it is taken apart into: they have to say the same.
 */
uint32_t wire_flatten(const struct vx_train *train, uint8_t *out)
{
	unsigned count;
	const struct iovec *pieces = vx_train_pieces(train, &count);
	uint32_t len = 0, at = 0;

	for (unsigned i = 0; i < count; i++) {
		memcpy(out + len, pieces[i].iov_base, pieces[i].iov_len);
		len += (uint32_t)pieces[i].iov_len;
	}
	for (unsigned i = 0; i < train->parts; i++) {
		CHECK(at + train->part[i].iov_len <= len);
		CHECK(memcmp(out + at, train->part[i].iov_base, train->part[i].iov_len) == 0);
		at += (uint32_t)train->part[i].iov_len;
	}
	EQUAL(at, len);
	return len;
}

/** hold_to_contents() - What the kernel and we ask of a merged frame before it may be cut */
static void hold_to_contents(const struct vx_train *train, const uint8_t *super, uint32_t len, struct vx_eth *eth)
{
	const struct vx_vnet *vnet = &train->vnet;

	REASON(vx_eth_parse(super, len, eth), VX_OK);
	EQUAL(eth->end, len);
	EQUAL(vnet->flags, VX_VNET_NEEDS_CSUM);
	EQUAL(vnet->csum_start, eth->l4);
	EQUAL(vnet->csum_offset, eth->protocol == VX_PROTO_TCP ? 16 : 6);
	EQUAL(vnet->gso_type, eth->protocol == VX_PROTO_UDP ? VX_GSO_UDP_L4
						      : eth->version == 4 ? VX_GSO_TCPV4 : VX_GSO_TCPV6);
	EQUAL(vnet->hdr_len, eth->l4 + (eth->protocol == VX_PROTO_UDP ? 8 : super[eth->l4 + 12] >> 4 << 2));
	CHECK(vnet->gso_size && vnet->hdr_len + vnet->gso_size < len && len - eth->l3 <= 65535);
	EQUAL(vx_get16(super + eth->l4 + vnet->csum_offset),
	      pseudo_sum(super + eth->l3, eth->protocol, len - eth->l4));
	if (eth->version == 4)
		EQUAL(wire_sum(super + eth->l3, 20, 0), 0xffff);
	if (eth->protocol == VX_PROTO_UDP)
		EQUAL(vx_get16(super + eth->l4 + 4), len - eth->l4);
}

/** put_segment() - Packet @i of a super-frame, with @payload bytes; the last one has the flags */
static uint32_t put_segment(uint8_t *out, const uint8_t *super, const struct vx_vnet *vnet, const struct vx_eth *eth,
			    unsigned i, uint32_t payload, bool last)
{
	uint32_t header = vnet->hdr_len - eth->l4, l4_len = header + payload;
	uint8_t *ip = out + eth->l3, *l4 = out + eth->l4;

	memcpy(out, super, vnet->hdr_len);
	memcpy(out + vnet->hdr_len, super + vnet->hdr_len + i * vnet->gso_size, payload);
	if (eth->version == 4) {
		vx_put16(ip + 2, (uint16_t)(20 + l4_len));
		vx_put16(ip + 4, (uint16_t)(vx_get16(ip + 4) + i));
		vx_put16(ip + 10, 0);
		vx_put16(ip + 10, (uint16_t)~wire_sum(ip, 20, 0));
	} else {
		vx_put16(ip + 4, (uint16_t)l4_len);
	}
	vx_put16(l4 + vnet->csum_offset, 0);
	if (eth->protocol == VX_PROTO_TCP) {
		vx_put32(l4 + 4, vx_get32(l4 + 4) + i * vnet->gso_size);
		if (!last)
			l4[13] &= (uint8_t)~0x09;
	} else {
		vx_put16(l4 + 4, (uint16_t)l4_len);
	}
	put_l4_csum(ip, l4, eth->protocol, l4_len, false);
	return vnet->hdr_len + payload;
}

/**
 * wire_cut() - The packets of a wire that a train stands for, checksums finished, without padding
 * @train:	Train; the test ends here if it contradicts itself
 * @out:	Packets, one behind the other
 * @lens:	Their lengths
 * @max:	How many there may be
 *
 * Return: how many there are
 */
unsigned wire_cut(const struct vx_train *train, uint8_t *out, uint32_t *lens, unsigned max)
{
	static uint8_t super[WIRE_MAX];
	uint32_t len = wire_flatten(train, super), at, payload;
	unsigned count = 0;
	struct vx_eth eth;

	CHECK(max);
	if (train->vnet.gso_type == VX_GSO_NONE) {
		EQUAL(train->parts, 1);
		if (vx_eth_parse(super, len, &eth) == VX_OK)
			len = eth.end;
		if (train->vnet.flags & VX_VNET_NEEDS_CSUM)
			wire_finish(super, &train->vnet, len);
		memcpy(out, super, len);
		lens[0] = len;
		return 1;
	}
	hold_to_contents(train, super, len, &eth);
	for (at = train->vnet.hdr_len; at < len; at += payload, count++) {
		CHECK(count < max);
		payload = len - at < train->vnet.gso_size ? len - at : train->vnet.gso_size;
		lens[count] = put_segment(out, super, &train->vnet, &eth, count, payload, at + payload == len);
		out += lens[count];
	}
	return count;
}
