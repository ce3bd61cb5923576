/* spin.h - whether to look on for a while instead of going to sleep; see spin.c */
#ifndef VX_SPIN_H
#define VX_SPIN_H

#include <stdbool.h>
#include <stdint.h>

/** struct vx_spin - What looking on has brought so far
 * @penalty:	Waits that the next failure will let pass
 * @left:	Waits that are still to pass before the next try
 */
struct vx_spin {
	uint32_t penalty;
	uint32_t left;
};

bool vx_spin_may(struct vx_spin *spin, uint32_t bytes);
void vx_spin_learn(struct vx_spin *spin, bool found, uint64_t took_ns);

#endif
