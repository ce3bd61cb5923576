/* gso.h - cut a super-frame into the frames of a wire; see gso.c */
#ifndef VX_GSO_H
#define VX_GSO_H

#include "vx.h"

/** struct vx_gso - A super-frame that is being cut: what is the same for all its segments
 * @frame:	The super-frame; its headers are the template
 * @headers:	Bytes from the Ethernet header to the end of the TCP or UDP header
 * @payload:	Bytes behind them
 * @size:	Payload of every segment but the last, which may have less
 * @segments:	How many there are
 * @ip_sum:	Sum of the IPv4 header without length, id and checksum
 * @l4_sum:	Sum of pseudo-header and transport header without what differs per segment
 */
struct vx_gso {
	const struct vx_frame *frame;
	uint32_t headers;
	uint32_t payload;
	uint32_t size;
	uint32_t segments;
	uint32_t ip_sum;
	uint32_t l4_sum;
};

enum vx_reason vx_gso_check(struct vx_frame *frame);
void vx_gso_begin(struct vx_gso *gso, const struct vx_frame *frame);
uint32_t vx_gso_cut(const struct vx_gso *gso, uint32_t segment, uint8_t *headers, const uint8_t **payload);

#endif
