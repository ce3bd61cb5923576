/* storm.h - storm control: how many copies one endpoint may cause; see storm.c */
#ifndef VX_STORM_H
#define VX_STORM_H

#include "vx.h"

struct vx_storm {
	_Atomic uint64_t debt_ns;	/* when the copies made so far will have been earned */
};

bool vx_storm_take(struct vx_storm *storm, uint64_t now_ns, uint32_t copies, bool dry);

#endif
