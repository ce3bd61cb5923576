/* probe.h - datagrams by which two agents find out whether the data port is open between them; see probe.c */
#ifndef VX_PROBE_H
#define VX_PROBE_H

#include "vx.h"

bool vx_probe_is(const uint8_t *datagram, uint32_t len, uint32_t vni);
uint64_t vx_probe_token(const uint8_t *datagram);

#endif
