/* storm.c - storm control: one endpoint may cause VX_STORM_RATE copies per second, VX_STORM_BURST at once
 *
 * How it works
 *   The generic cell rate algorithm: one number per endpoint, the time at which all copies so far will have
 *   been earned at the permitted rate. A frame passes while that time is less than a burst ahead; it then pays
 *   for all its copies, even beyond the burst, since otherwise a frame to more VTEPs than the burst allows
 *   could never pass. One 64-bit word, changed by compare-and-swap: all workers share it without a lock, so
 *   the limit is one limit however many queues the endpoint's TAP has.
 */
#include "storm.h"

#define NS_PER_COPY	(1000000000ull / VX_STORM_RATE)
#define BURST_NS	(NS_PER_COPY * VX_STORM_BURST)

/** vx_storm_take() - Pay for copies. Return: false if the endpoint is over its limit (nothing is paid then) */
bool vx_storm_take(struct vx_storm *storm, uint64_t now_ns, uint32_t copies, bool dry)
{
	uint64_t debt = atomic_load_explicit(&storm->debt_ns, memory_order_relaxed);

	for (;;) {
		uint64_t from = debt > now_ns ? debt : now_ns;

		if (from >= now_ns + BURST_NS)
			return false;
		if (dry || atomic_compare_exchange_weak_explicit(&storm->debt_ns, &debt, from + copies * NS_PER_COPY,
								 memory_order_relaxed, memory_order_relaxed))
			return true;
	}
}
