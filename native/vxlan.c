/* vxlan.c - the VXLAN header (RFC 7348 section 5)
 *
 * How it works
 *   Eight bytes: flags (I = 0x08 must be set), 24 reserved bits, 24 bits of VNI, 8 reserved bits. Reserved bits
 *   are sent as zero and ignored on receipt, as the RFC asks; they are reported so that somebody who speaks an
 *   extension (GBP, GPE) to us can be told. Linux drops such datagrams; we follow the RFC.
 *
 * Pure: no system call, no global, no allocation.
 */
#include "vxlan.h"

#define FLAG_I		(0x08ull << 56)
#define VNI_MAX		0xffffffull
#define VNI_SHIFT	8

/**
 * vx_vxlan_parse() - Check the header of a datagram
 * @datagram:	UDP payload
 * @len:	Its length
 * @vni:	Where to put the VNI
 * @reserved:	Set to whether a bit that RFC 7348 reserves is on
 *
 * Return: VX_OK, VX_HDR_TRUNC if header and an Ethernet header do not fit in, VX_VXLAN_INVALID_HDR without I flag
 */
enum vx_reason vx_vxlan_parse(const uint8_t *datagram, uint32_t len, uint32_t *vni, bool *reserved)
{
	uint64_t header;

	if (len < VX_VXLAN_LEN)
		return VX_HDR_TRUNC;
	header = vx_get64(datagram);
	if (!(header & FLAG_I))
		return VX_VXLAN_INVALID_HDR;
	if (len < VX_VXLAN_LEN + VX_ETH_LEN)
		return VX_HDR_TRUNC;

	*reserved = header & ~(FLAG_I | VNI_MAX << VNI_SHIFT);
	*vni = (uint32_t)(header >> VNI_SHIFT & VNI_MAX);
	return VX_OK;
}

/**
 * vx_vxlan_put() - Write the header of a network into the head-room of a frame
 * @header:	Eight writable bytes
 * @vni:	VNI, checked to have 24 bits when the network was added
 */
void vx_vxlan_put(uint8_t *header, uint32_t vni)
{
	vx_put64(header, FLAG_I | (vni & VNI_MAX) << VNI_SHIFT);
}
