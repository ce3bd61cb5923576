/* gso.h - cut a super-frame into the frames of a wire; see gso.c */
#ifndef VX_GSO_H
#define VX_GSO_H

#include "vx.h"

/** struct vx_gso - A super-frame that is being cut: what is the same for all its segments
 * @data:	The super-frame: template of the headers, then the payload. It stays as it is until the last cut;
 *		nothing else of the struct vx_frame it came in is needed
 * @payload:	Bytes behind the headers
 * @ip_sum:	Sum of the IPv4 header without length, id and checksum
 * @l4_sum:	Sum of pseudo-header and transport header without what differs per segment
 * @seq:	TCP sequence number of the first segment
 * @headers:	Bytes from the Ethernet header to the end of the TCP or UDP header, of every segment
 * @size:	Payload of every segment but the last, which may have less
 * @segments:	How many there are
 * @l3:		Offset of the IP header
 * @l4:		Offset of the transport header
 * @id:		IPv4 identification of the first segment
 * @ipv4:	Else IPv6
 * @tcp:	Else UDP
 */
struct vx_gso {
	const uint8_t *data;
	uint32_t payload;
	uint32_t ip_sum;
	uint32_t l4_sum;
	uint32_t seq;
	uint16_t headers;
	uint16_t size;
	uint16_t segments;
	uint16_t l3;
	uint16_t l4;
	uint16_t id;
	bool ipv4;
	bool tcp;
};

/** vx_gso_payload() - Payload bytes of a segment; gso->headers more are the length of its frame */
static inline uint32_t vx_gso_payload(const struct vx_gso *gso, uint32_t segment)
{
	uint32_t left = gso->payload - segment * gso->size;

	return left < gso->size ? left : gso->size;
}

enum vx_reason vx_gso_check(struct vx_frame *frame);

/** vx_gso_is_plain() - Whether a virtio header asks for nothing, so that vx_gso_check() need not be asked */
static inline bool vx_gso_is_plain(const struct vx_vnet *vnet)
{
	return !vnet->flags && vnet->gso_type == VX_GSO_NONE && !vnet->gso_size && !vnet->hdr_len;
}

void vx_gso_begin(struct vx_gso *gso, const struct vx_frame *frame);
uint32_t vx_gso_cut(const struct vx_gso *gso, uint32_t segment, uint8_t *headers, const uint8_t **payload);
uint32_t vx_gso_copy(const struct vx_gso *gso, uint32_t segment, uint8_t *frame);

#endif
