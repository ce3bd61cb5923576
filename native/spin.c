/* spin.c - whether to look on for a while instead of going to sleep
 *
 * How it works
 *   A round trip through the overlay wakes four threads more than one without, and a sleeping thread on a CPU that
 *   has gone idle is the dearest thing in it: on a virtual machine to halt and to be woken takes tens of
 *   microseconds, many times what carrying the frame does. So a worker that has carried little, a request or an
 *   answer, looks on for VX_SPIN_NS before it sleeps. It yields the CPU at each look: who has work comes first.
 *
 *   It pays only where the next frame comes soon and nobody else wants the CPU, and neither can be known but by
 *   trying. A try that finds nothing lets the next waits pass, each time about twice as many, up to
 *   VX_SPIN_FUTILE_MAX. One that took far longer than it was to met somebody who wants the CPU: a thread that yields
 *   waits for its turn, while one that sleeps is woken before it. That is worse than to sleep, so it lets many more
 *   pass, up to VX_SPIN_TAKEN_MAX. What is found halves the penalty.
 *   Behind large frames it sleeps at once: a stream leaves no CPU idle, and sleepers are woken before who yields.
 *
 * Pure: no system call, no global, no allocation. One for each worker.
 */
#include "spin.h"

#include "limits.h"

static uint32_t at_most(uint32_t value, uint32_t limit)
{
	return value < limit ? value : limit;
}

/**
 * vx_spin_may() - Whether to look on before this wait
 * @spin:	Zeroed at first
 * @bytes:	Carried since the last wait
 */
bool vx_spin_may(struct vx_spin *spin, uint32_t bytes)
{
	if (!bytes || bytes > VX_SPIN_BYTES)
		return false;
	if (!spin->left)
		return true;
	spin->left--;
	return false;
}

/**
 * vx_spin_learn() - Say what came of looking on
 * @spin:	For which vx_spin_may() was true
 * @found:	Whether something came
 * @took_ns:	How long it took
 */
void vx_spin_learn(struct vx_spin *spin, bool found, uint64_t took_ns)
{
	if (took_ns > 2 * VX_SPIN_NS) {
		spin->penalty = at_most(4 * spin->penalty + VX_SPIN_TAKEN, VX_SPIN_TAKEN_MAX);
	} else if (found) {
		spin->penalty /= 2;
		return;
	} else if (spin->penalty < VX_SPIN_FUTILE_MAX) {
		spin->penalty = at_most(2 * spin->penalty + 1, VX_SPIN_FUTILE_MAX);
	}
	spin->left = spin->penalty;
}
