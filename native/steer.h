/* steer.h - both directions of a flow on one worker; see steer.c */
#ifndef VX_STEER_H
#define VX_STEER_H

#include "vx.h"

int vx_steer_sockets(int fd, bool ipv4, unsigned workers);
void vx_steer_release(int fd);

#endif
