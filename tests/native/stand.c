/* stand.c - a transmitter over the scene, frames to queue in it, and what must come out
 *
 * reference() is a segmenter as plain as can be: it builds the whole packet of one segment and sums it byte by byte.
 * It shares nothing with native/gso.c but the description of the headers.
 */
#define _GNU_SOURCE
#include "stand.h"

#include <stdlib.h>

#include "check.h"
#include "csum.h"
#include "eth.h"
#include "gso.h"
#include "vxlan.h"

#define ROOM		(16u << 20)
#define TCP_FLAGS	(0x80 | 0x10 | 0x08 | 0x01)	/* CWR, ACK, PSH, FIN */

static void note(void *context, unsigned kind, uint32_t vtep, uint32_t value)
{
	struct stand *stand = context;

	if (stand->tells < STAND_TELLS)
		stand->told[stand->tells] = (struct told){ kind, vtep, value };
	stand->tells++;
}

struct stand *stand_new(uint32_t offloads)
{
	static const uint8_t loopback[4] = { 127, 0, 0, 1 };
	vx_config config = { .data_port = 4789, .tx_sockets = 4 };
	struct stand *stand = calloc(1, sizeof(*stand));

	sends_reset();
	vx_addr_map4(config.address, loopback);
	stand->room = malloc(ROOM);
	stand->scene = scene_new(true);
	atomic_store(&stand->scene->tables->offloads, offloads);
	EQUAL(vx_stats_init(&stand->stats), 0);
	EQUAL(vx_transmitter_open(&stand->transmitter, &config, &stand->scene->tables->offloads), 0);
	stand->transmitter.tables = stand->scene->tables;
	stand->transmitter.stats = &stand->stats;
	stand->transmitter.tell = note;
	stand->transmitter.context = stand;
	return stand;
}

void stand_free(struct stand *stand)
{
	vx_transmitter_close(&stand->transmitter);
	vx_stats_destroy(&stand->stats);
	scene_free(stand->scene);
	free(stand->room);
	free(stand);
}

static struct vx_frame new_frame(struct stand *stand, uint32_t len)
{
	struct vx_frame frame = { .network = stand->scene->network, .segments = 1, .len = len };

	CHECK(stand->used + VX_HEADROOM + VX_FRAME_MAX <= ROOM);
	frame.data = stand->room + stand->used + VX_HEADROOM;
	stand->used += (VX_HEADROOM + len + 15) / 16 * 16;
	vx_vxlan_put(frame.data - VX_VXLAN_LEN, VNI);
	return frame;
}

/** small_frame() - A frame of @len bytes that nobody looks into; @mark tells it from the others */
struct vx_frame small_frame(struct stand *stand, uint32_t len, unsigned mark)
{
	struct vx_frame frame = new_frame(stand, len);

	for (uint32_t i = 0; i < len; i++)
		frame.data[i] = (uint8_t)(mark * 13 + i);
	vx_put16(frame.data, (uint16_t)mark);
	return frame;
}

/** super_frame() - A TCP or UDP frame to be cut into pieces of @size; numbers wrap on the way, all flags are set */
struct vx_frame super_frame(struct stand *stand, unsigned version, uint8_t protocol, uint32_t payload, uint16_t size)
{
	struct packet packet = packet_between(MAC_A, 0x11, MAC_FAR, 0x21);
	struct vx_frame frame;
	uint32_t l4 = VX_ETH_LEN + (version == 4 ? 20 : 40);
	uint16_t field = protocol == VX_PROTO_TCP ? 16 : 6;

	packet.protocol = protocol;
	packet.len = payload;
	if (version == 6) {
		address6(packet.source, 0x11);
		address6(packet.target, 0x21);
	}
	frame = new_frame(stand, l4 + (protocol == VX_PROTO_TCP ? 20 : 8) + payload);
	EQUAL(put_packet(frame.data, &packet, version), frame.len);
	if (version == 4)
		vx_put16(frame.data + VX_ETH_LEN + 4, 0xfff0);
	if (protocol == VX_PROTO_TCP) {
		vx_put32(frame.data + l4 + 4, 0xfffff000);
		frame.data[l4 + 13] = TCP_FLAGS;
	}
	vx_put16(frame.data + l4 + field, vx_csum_fold(vx_csum_pseudo(frame.data + VX_ETH_LEN, version, protocol,
								     frame.len - l4)));
	frame.vnet = (struct vx_vnet){
		.flags = VX_VNET_NEEDS_CSUM, .gso_size = size, .csum_start = (uint16_t)l4, .csum_offset = field,
		.gso_type = protocol == VX_PROTO_UDP ? VX_GSO_UDP_L4 :
			    (version == 4 ? VX_GSO_TCPV4 : VX_GSO_TCPV6) | VX_GSO_ECN,
	};
	REASON(vx_eth_parse(frame.data, frame.len, &frame.eth), VX_OK);
	REASON(vx_gso_check(&frame), VX_OK);
	CHECK(frame.segments > 1);
	return frame;
}

bool queue(struct stand *stand, const struct vx_frame *frame, int vtep)
{
	return vx_transmitter_queue(&stand->transmitter, frame, vx_net_vtep(stand->scene->tables, (uint32_t)vtep));
}

void flush(struct stand *stand)
{
	vx_transmitter_flush(&stand->transmitter, true);
}

static uint16_t plain_sum(const uint8_t *data, uint32_t len, uint32_t sum)
{
	for (uint32_t i = 0; i < len; i++)
		sum += i % 2 ? data[i] : (uint32_t)data[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

/** finish_transport() - Length and checksum of a segment's TCP or UDP packet of @len bytes */
static void finish_transport(uint8_t *ip, unsigned version, uint8_t *l4, uint8_t protocol, uint32_t len)
{
	uint32_t addresses = version == 4 ? 8 : 32;
	uint8_t *field = l4 + (protocol == VX_PROTO_TCP ? 16 : 6);
	uint16_t csum;

	if (protocol == VX_PROTO_UDP)
		vx_put16(l4 + 4, (uint16_t)len);
	vx_put16(field, 0);
	csum = plain_sum(ip + (version == 4 ? 12 : 8), addresses, protocol + len);
	csum = (uint16_t)~plain_sum(l4, len, csum);
	vx_put16(field, protocol == VX_PROTO_UDP && !csum ? 0xffff : csum);
}

/** reference() - The datagram that segment number @segment of a frame must leave as. Return: its length */
uint32_t reference(const struct vx_frame *frame, unsigned segment, uint8_t *datagram)
{
	const struct vx_eth *eth = &frame->eth;
	uint8_t *own = datagram + VX_VXLAN_LEN, *ip = own + eth->l3, *l4 = own + eth->l4;
	uint32_t headers = frame->vnet.hdr_len, size = frame->vnet.gso_size, from = headers + segment * size, len;
	bool last;

	memcpy(datagram, frame->data - VX_VXLAN_LEN, VX_VXLAN_LEN);
	if (frame->segments == 1) {
		memcpy(own, frame->data, frame->len);
		return frame->len + VX_VXLAN_LEN;
	}
	last = from + size >= frame->len;
	len = last ? frame->len - from : size;
	memcpy(own, frame->data, headers);
	memcpy(own + headers, frame->data + from, len);
	len += headers;
	if (eth->version == 4) {
		vx_put16(ip + 2, (uint16_t)(len - eth->l3));
		vx_put16(ip + 4, (uint16_t)(vx_get16(ip + 4) + segment));
		vx_put16(ip + 10, 0);
		vx_put16(ip + 10, (uint16_t)~plain_sum(ip, (uint32_t)(eth->l4 - eth->l3), 0));
	} else {
		vx_put16(ip + 4, (uint16_t)(len - eth->l3 - 40));
	}
	if (eth->protocol == VX_PROTO_TCP) {
		vx_put32(l4 + 4, vx_get32(l4 + 4) + segment * size);
		if (!last)
			l4[13] &= (uint8_t)~(0x08 | 0x01);
		if (segment)
			l4[13] &= (uint8_t)~0x80;
	}
	finish_transport(ip, eth->version, l4, eth->protocol, len - eth->l4);
	return len + VX_VXLAN_LEN;
}

/** same_datagrams() - What left as datagrams @first... must be @count segments of a frame, from @segment on */
void same_datagrams(const struct vx_frame *frame, unsigned segment, unsigned first, unsigned count)
{
	static uint8_t wanted[VX_VXLAN_LEN + VX_FRAME_MAX];

	CHECK(first + count <= sends.count);
	for (unsigned i = 0; i < count; i++) {
		uint32_t len = reference(frame, segment + i, wanted);

		EQUAL(sends.datagram[first + i].len, len);
		CHECK(!memcmp(sends.datagram[first + i].data, wanted, len));
	}
}

uint64_t dropped(const struct stand *stand, int vtep, enum vx_reason reason)
{
	return stand->stats.vteps[vtep].drops[reason];
}

uint64_t encapsulated(const struct stand *stand, int vtep)
{
	return stand->stats.vteps[vtep].encapsulated;
}
