/* stats.c - counters: who sent, got and lost what
 *
 * How it works
 *   Each worker has counters of its own for the engine, every network, port and VTEP, so counting is a load, an
 *   add and a store by the only thread that writes them; a reader in another thread sums over the workers. Both
 *   sides use relaxed atomics: no counter is torn, and none is exact to the frame while traffic flows. The arrays
 *   are one mapping: slots that nobody counts in are pages that nobody touched.
 */
#include "stats.h"

#include <errno.h>
#include <sys/mman.h>

int vx_stats_init(struct vx_stats *stats)
{
	size_t slots = 1 + VX_PORTS_MAX + VX_VTEPS_MAX + VX_NETWORKS_MAX;

	stats->map_len = slots * sizeof(vx_counters);
	stats->map = mmap(NULL, stats->map_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (stats->map == MAP_FAILED) {
		stats->map = NULL;
		return -ENOMEM;
	}
	stats->engine = stats->map;
	stats->ports = stats->engine + 1;
	stats->vteps = stats->ports + VX_PORTS_MAX;
	stats->networks = stats->vteps + VX_VTEPS_MAX;
	return 0;
}

void vx_stats_destroy(struct vx_stats *stats)
{
	if (stats->map)
		munmap(stats->map, stats->map_len);
	stats->map = NULL;
}

static vx_counters *counters_of(const struct vx_stats *stats, unsigned kind, uint32_t id)
{
	if (kind == VX_AT_PORT && id < VX_PORTS_MAX)
		return &stats->ports[id];
	if (kind == VX_AT_VTEP && id < VX_VTEPS_MAX)
		return &stats->vteps[id];
	if (kind == VX_AT_NETWORK && id < VX_NETWORKS_MAX)
		return &stats->networks[id];
	if (kind == VX_AT_ENGINE || kind == VX_AT_WORKER)
		return stats->engine;
	return NULL;
}

static void add(vx_counters *counters, size_t field, uint64_t n)
{
	uint64_t *word = (uint64_t *)((char *)counters + field);

	__atomic_store_n(word, __atomic_load_n(word, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED);
}

/** vx_stats_add() - Count something for the engine, the network and the port or VTEP; see VX_COUNT() */
void vx_stats_add(struct vx_stats *stats, struct vx_owner owner, size_t field, uint64_t n)
{
	vx_counters *object = owner.kind ? counters_of(stats, owner.kind, owner.id) : NULL;
	vx_counters *network = counters_of(stats, VX_AT_NETWORK, owner.network);

	add(stats->engine, field, n);
	if (network)
		add(network, field, n);
	if (object)
		add(object, field, n);
}

/** vx_stats_drops() - Count frames of a wire that were not delivered, all for one reason */
void vx_stats_drops(struct vx_stats *stats, struct vx_owner owner, enum vx_reason reason, uint64_t frames)
{
	vx_stats_add(stats, owner, offsetof(vx_counters, drops) + reason * sizeof(uint64_t), frames);
}

/** vx_stats_clear() - Start an id's counters anew; nobody counts under it at that time */
void vx_stats_clear(struct vx_stats *stats, unsigned kind, uint32_t id)
{
	vx_counters *counters = counters_of(stats, kind, id);

	if (counters)
		memset(counters, 0, sizeof(*counters));
}

/** vx_stats_sum() - Add one worker's counters to a sum. Any thread */
void vx_stats_sum(const struct vx_stats *stats, unsigned kind, uint32_t id, vx_counters *sum)
{
	const uint64_t *from = (const uint64_t *)counters_of(stats, kind, id);
	uint64_t *to = (uint64_t *)sum;

	for (size_t i = 0; from && i < sizeof(*sum) / sizeof(uint64_t); i++)
		to[i] += __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}
