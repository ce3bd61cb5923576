/* guard.h - who may send what; see guard.c */
#ifndef VX_GUARD_H
#define VX_GUARD_H

#include "net.h"

/** struct vx_when - The time of a turn, and whether the decision may leave traces in the tables */
struct vx_when {
	uint64_t now_ns;
	bool dry;
};

enum vx_reason vx_guard_port(const struct vx_port *port, const struct vx_frame *frame);
enum vx_reason vx_guard_tunnel(struct vx_frame *frame, struct vx_when when);
const struct vx_allowed *vx_guard_allows(const struct vx_port *port, struct vx_address address);

#endif
