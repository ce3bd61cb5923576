/* storm.c - storm control: one endpoint may cause VX_STORM_RATE copies per second, VX_STORM_BURST at once, and
 * be told VX_ANSWER_RATE ICMP errors, VX_ANSWER_BURST at once
 *
 * How it works
 *   The generic cell rate algorithm: one number per endpoint and kind, the time at which all so far will have
 *   been earned at the permitted rate. A frame passes while that time is less than a burst ahead; it then pays
 *   for all its copies, even beyond the burst, since otherwise a frame to more VTEPs than the burst allows
 *   could never pass. One 64-bit word, changed by compare-and-swap: all workers share it without a lock, so
 *   the limit is one limit however many queues the endpoint's TAP has.
 */
#include "storm.h"

#define NS_PER_S	1000000000ull

/** take() - Pay @cost_ns unless @burst_ns are owed already; a dry decision only asks */
static bool take(struct vx_storm *storm, uint64_t now_ns, uint64_t cost_ns, uint64_t burst_ns, bool dry)
{
	uint64_t debt = atomic_load_explicit(&storm->debt_ns, memory_order_relaxed);

	for (;;) {
		uint64_t from = debt > now_ns ? debt : now_ns;

		if (from >= now_ns + burst_ns)
			return false;
		if (dry || atomic_compare_exchange_weak_explicit(&storm->debt_ns, &debt, from + cost_ns,
								 memory_order_relaxed, memory_order_relaxed))
			return true;
	}
}

/** vx_storm_take() - Pay for copies. Return: false if the endpoint is over its limit (nothing is paid then) */
bool vx_storm_take(struct vx_storm *storm, uint64_t now_ns, uint32_t copies, bool dry)
{
	return take(storm, now_ns, copies * (NS_PER_S / VX_STORM_RATE), VX_STORM_BURST * (NS_PER_S / VX_STORM_RATE),
		    dry);
}

/** vx_storm_may_answer() - Pay for an ICMP error. Return: false if the endpoint has had enough of them */
bool vx_storm_may_answer(struct vx_storm *storm, uint64_t now_ns, bool dry)
{
	return take(storm, now_ns, NS_PER_S / VX_ANSWER_RATE, VX_ANSWER_BURST * (NS_PER_S / VX_ANSWER_RATE), dry);
}
