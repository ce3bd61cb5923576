/* toobig.h - what to do about a packet that does not fit its path; see toobig.c */
#ifndef VX_TOOBIG_H
#define VX_TOOBIG_H

#include "vx.h"

bool vx_toobig_may_answer(const struct vx_frame *frame, uint32_t mtu);
uint32_t vx_toobig_answer(const struct vx_frame *frame, uint32_t mtu, uint8_t *out);
bool vx_toobig_may_fragment(const struct vx_frame *frame, uint32_t mtu);
uint32_t vx_toobig_fragment(const struct vx_frame *frame, uint32_t mtu, uint32_t *next, uint8_t *out);

#endif
