/* tap.h - frames from and to a TAP; see tap.c */
#ifndef VX_TAP_H
#define VX_TAP_H

#include <sys/uio.h>

#include "vx.h"

int vx_tap_read(int fd, uint8_t *buffer, struct vx_frame *frame, bool vnet_hdr);
int vx_tap_put(int fd, const struct iovec *parts, unsigned count);
int vx_tap_write(int fd, const struct vx_vnet *vnet, const struct iovec *parts, unsigned count);
bool vx_tap_is_gone(int error);
enum vx_reason vx_tap_reason(int error, const struct vx_vnet *vnet);

#endif
