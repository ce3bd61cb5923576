/* vxlan.h - VXLAN header (RFC 7348 section 5); see vxlan.c */
#ifndef VX_VXLAN_H
#define VX_VXLAN_H

#include "vx.h"

enum vx_reason vx_vxlan_parse(const uint8_t *datagram, uint32_t len, uint32_t *vni, bool *reserved);
void vx_vxlan_put(uint8_t *header, uint32_t vni);

#endif
