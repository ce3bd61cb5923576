/* spin.c - whether to look on for a while instead of going to sleep
 *
 * How it works
 *   A round trip through the overlay wakes four threads more than one without, and a sleeping thread on a CPU that
 *   has gone idle is the dearest thing in it: on a virtual machine to halt and to be woken takes tens of
 *   microseconds, many times what carrying the frame does. So a worker that has carried little, a request or an
 *   answer, looks on for VX_SPIN_NS before it sleeps. It yields the CPU at each look: who has work comes first.
 *
 *   It pays only where the next frame comes soon. How soon that is usually depends on where it comes from: behind a
 *   request to a container an answer follows at once; behind one to the tunnel it comes from another host; behind an
 *   answer perhaps nothing does. So the average of each is kept apart, of all waits behind little, slept through or
 *   not: nothing has to be tried to know it. A wait that is often longer than a look could be is slept through.
 *   Were it one average, every other wait of a ping-pong would speak against the one before.
 *
 *   And it pays only where nobody else wants the CPU. A look that took far longer than it was to met somebody who
 *   does: a thread that yields waits for its turn, while one that sleeps is woken before it. That is worse than to
 *   sleep, so the next VX_SPIN_TAKEN waits pass, each time more, up to VX_SPIN_TAKEN_MAX. What ends in time halves
 *   the penalty.
 *   Behind large frames it sleeps at once: a stream leaves no CPU idle, and sleepers are woken before who yields.
 *
 * Pure: no system call, no global, no allocation. One for each worker.
 */
#include "spin.h"

#include "limits.h"

#define LONGEST_NS	(4 * VX_SPIN_NS)	/* that counts: one long wait among short ones changes little */
#define AVERAGED	8			/* each wait counts for an eighth */

static uint32_t at_most(uint64_t value, uint32_t limit)
{
	return value < limit ? (uint32_t)value : limit;
}

/** vx_spin_little() - Whether @bytes, carried since the last wait, are so little that looking on is worth a thought */
bool vx_spin_little(uint32_t bytes)
{
	return bytes && bytes <= VX_SPIN_BYTES;
}

/** vx_spin_may() - Whether to look on before this wait, which is behind little */
bool vx_spin_may(struct vx_spin *spin, enum vx_awaited awaited)
{
	if (spin->usual_ns[awaited] > VX_SPIN_NS)
		return false;
	if (!spin->left)
		return true;
	spin->left--;
	return false;
}

/** vx_spin_looked() - Say how long a look took, whatever it found */
void vx_spin_looked(struct vx_spin *spin, uint64_t took_ns)
{
	if (took_ns <= 2 * VX_SPIN_NS) {
		spin->penalty /= 2;
		return;
	}
	spin->penalty = at_most(4 * (uint64_t)spin->penalty + VX_SPIN_TAKEN, VX_SPIN_TAKEN_MAX);
	spin->left = spin->penalty;
}

/** vx_spin_waited() - Say how long a wait behind little was, looks and sleep together */
void vx_spin_waited(struct vx_spin *spin, enum vx_awaited awaited, uint64_t took_ns)
{
	uint32_t *usual = &spin->usual_ns[awaited];

	*usual = *usual - *usual / AVERAGED + at_most(took_ns, LONGEST_NS) / AVERAGED;
}
