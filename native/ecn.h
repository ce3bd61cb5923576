/* ecn.h - explicit congestion notification across the tunnel (RFC 6040); see ecn.c */
#ifndef VX_ECN_H
#define VX_ECN_H

#include "vx.h"

uint8_t vx_ecn_encapsulate(const struct vx_eth *eth);
enum vx_reason vx_ecn_decapsulate(uint8_t *frame, struct vx_eth *eth, uint8_t outer_tos);

#endif
