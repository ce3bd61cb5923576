/* csum.h - Internet checksums (RFC 1071); see csum.c */
#ifndef VX_CSUM_H
#define VX_CSUM_H

#include "eth.h"

/* What the transport checksum of a packet is */
enum vx_csum {
	VX_CSUM_NONE,		/* no checksum known to us: other protocol, fragment, UDP with 0 */
	VX_CSUM_OTHER,		/* valid or corrupt: whoever gets the packet finds out */
	VX_CSUM_PARTIAL,	/* only the pseudo-header is summed: the rest was left to hardware that never saw it */
};

/** vx_csum_offset() - Where the checksum is in a transport header, of VX_PROTO_TCP or VX_PROTO_UDP */
static inline uint16_t vx_csum_offset(uint8_t protocol)
{
	return protocol == VX_PROTO_TCP ? 16 : 6;
}

/** vx_csum_but() - Take a 16-bit word out of a sum, by adding its complement (RFC 1624) */
static inline uint32_t vx_csum_but(uint32_t sum, uint32_t word)
{
	return sum + (uint16_t)~word;
}

uint32_t vx_csum_add(const uint8_t *data, uint32_t len, uint32_t sum);
uint32_t vx_csum_copy(uint8_t *to, const uint8_t *data, uint32_t len, uint32_t sum);
uint32_t vx_csum_add_portable(const uint8_t *data, uint32_t len, uint32_t sum);
uint16_t vx_csum_fold(uint32_t sum);
uint16_t vx_csum_adjust(uint16_t csum, uint16_t before, uint16_t after);
uint32_t vx_csum_pseudo(const uint8_t *ip, unsigned version, uint8_t protocol, uint32_t len);
bool vx_csum_complete(uint8_t *frame, uint32_t len, struct vx_vnet *vnet);
bool vx_csum_place(const struct vx_eth *eth, uint16_t *offset);
bool vx_csum_valid(const uint8_t *frame, const struct vx_eth *eth);
enum vx_csum vx_csum_inspect(const uint8_t *frame, const struct vx_eth *eth);

#endif
