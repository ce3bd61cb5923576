/* spin.h - whether to look on for a while instead of going to sleep; see spin.c */
#ifndef VX_SPIN_H
#define VX_SPIN_H

#include <stdbool.h>
#include <stdint.h>

/** enum vx_awaited - What a worker waits for: where what it carried last went, an answer comes from */
enum vx_awaited { VX_AWAIT_TAP, VX_AWAIT_TUNNEL, VX_AWAITED };

/** struct vx_spin - What waiting and looking on have brought so far. Zeroed at first
 * @usual_ns:	How long waits behind little are, by what is awaited: a moving average, long ones cut short
 * @penalty:	Waits that pass the next time somebody wants the CPU
 * @left:	Waits that are still to pass before the next try
 */
struct vx_spin {
	uint32_t usual_ns[VX_AWAITED];
	uint32_t penalty;
	uint32_t left;
};

bool vx_spin_little(uint32_t bytes);
bool vx_spin_may(struct vx_spin *spin, enum vx_awaited awaited);
void vx_spin_looked(struct vx_spin *spin, uint64_t took_ns);
void vx_spin_waited(struct vx_spin *spin, enum vx_awaited awaited, uint64_t took_ns);

#endif
