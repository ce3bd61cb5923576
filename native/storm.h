/* storm.h - how many copies, and how many ICMP errors, one endpoint may cause; see storm.c */
#ifndef VX_STORM_H
#define VX_STORM_H

#include "vx.h"

struct vx_storm {
	_Atomic uint64_t debt_ns;	/* when what was caused so far will have been earned */
};

bool vx_storm_take(struct vx_storm *storm, uint64_t now_ns, uint32_t copies, bool dry);
bool vx_storm_may_answer(struct vx_storm *storm, uint64_t now_ns, bool dry);

#endif
