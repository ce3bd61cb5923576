/* steer.h - both directions of a flow on one worker; see steer.c */
#ifndef VX_STEER_H
#define VX_STEER_H

#include "vx.h"

/** vx_steer_class() - The first class that is a worker's; of as many workers, those up to the next one's are, too */
static inline unsigned vx_steer_class(unsigned worker, unsigned workers)
{
	return ((worker << VX_FLOW_BITS) + workers - 1) / workers;
}

int vx_steer_sockets(int fd, bool ipv4, unsigned workers);
void vx_steer_release(int fd);

#endif
