/* ring.c - events from the workers to Python: bounded, never waited for
 *
 * How it works
 *   One ring per producing thread, one consumer, fixed 64-byte records. A full ring loses the event and the next
 *   one that fits says how many were lost. Events that packets can cause at will are limited per kind, so that
 *   a flood of unknown addresses cannot push a PORT_GONE out; those that tell of a change of state are not.
 *   The producer rings the bell (an eventfd) at the end of its turn, and only if the reader waits for it.
 */
#include "ring.h"

#include <unistd.h>

#define NS_PER_EVENT	(1000000000ull / VX_EVENT_RATE)

void vx_ring_init(struct vx_ring *ring, struct vx_bell *bell)
{
	memset(ring, 0, sizeof(*ring));
	ring->bell = bell;
}

static bool is_limited(uint16_t kind)
{
	return kind != VX_EVENT_PORT_GONE && kind != VX_EVENT_PORT_CLOSED && kind != VX_EVENT_PATH_MTU &&
	       kind != VX_EVENT_VTEP_DEMOTED && kind != VX_EVENT_INJECT_REFUSED;
}

/** may_push() - Pay for an event of a kind */
static bool may_push(struct vx_ring *ring, const vx_event *event)
{
	uint64_t *earned = &ring->earned_ns[event->kind % VX_EVENT_KINDS];

	if (!is_limited(event->kind))
		return true;
	if (*earned < event->time_ns)
		*earned = event->time_ns;
	if (*earned >= event->time_ns + VX_EVENT_BURST * NS_PER_EVENT)
		return false;
	*earned += NS_PER_EVENT;
	return true;
}

/** vx_ring_push() - Add an event; @event->lost is filled in here. The producer's thread */
void vx_ring_push(struct vx_ring *ring, vx_event *event)
{
	uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
	uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);

	if (!may_push(ring, event) || head - tail >= VX_RING_SLOTS) {
		ring->lost++;
		atomic_fetch_add_explicit(&ring->lost_total, 1, memory_order_relaxed);
		return;
	}
	event->lost = ring->lost;
	ring->lost = 0;
	ring->slot[head % VX_RING_SLOTS] = *event;
	atomic_store_explicit(&ring->head, head + 1, memory_order_release);
	ring->pushed = true;
}

/** vx_ring_kick() - Wake the reader if there is news and it sleeps. The producer's thread */
void vx_ring_kick(struct vx_ring *ring)
{
	uint64_t one = 1;

	if (!ring->pushed)
		return;
	ring->pushed = false;
	if (atomic_exchange(&ring->bell->asleep, false) && write(ring->bell->fd, &one, sizeof(one)) < 0)
		atomic_store(&ring->bell->asleep, true);
}

/** vx_ring_pop() - Take events out, oldest first. The consumer's thread. Return: how many */
int vx_ring_pop(struct vx_ring *ring, vx_event *events, int max)
{
	uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
	uint32_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
	int count = 0;

	while (tail != head && count < max)
		events[count++] = ring->slot[tail++ % VX_RING_SLOTS];
	atomic_store_explicit(&ring->tail, tail, memory_order_release);
	return count;
}
