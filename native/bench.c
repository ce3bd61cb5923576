/* bench.c - two hosts in memory, and how long their fast paths take: the C side of `vxlanu bench pcap`
 *
 * How it works
 *   A bench is a sending and a receiving host: tables as an agent programs them, ports without a descriptor. The
 *   sender has @ports endpoints and knows @entries MACs behind @vteps other hosts. The receiver is all of those hosts
 *   in one, so that what the first encapsulates the second can decapsulate: the same @entries MACs lead to its ports,
 *   and those of the sender's endpoints to @vteps VTEPs. Both tables so have every MAC of the population.
 *   Frames are loaded into an arena (bench_load.c), each checked on its way through both hosts; passes over all of
 *   them are timed from within C (bench_run.c), around whole passes, or around vectors: no clock is read between two
 *   frames of one. What a pass decides is added up, and a pass that adds up to something else than the one that was
 *   checked is an error, not a figure.
 *
 *   Nothing here knows how a frame is carried: vx_switch(), vx_burst_fill(), vx_gro_add(), vx_gro_follow() and what
 *   they call are those of the worker. Not part of the path itself: this file allocates, and runs on the caller's
 *   thread.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <errno.h>
#include <stdlib.h>

#include "burst.h"
#include "fdb.h"

#define ENTRIES_MAX	1500000u	/* with the ports fewer than what VX_TABLE_MAX takes */
#define MAC_BITS	40

static_assert(VX_BENCH_OPERATIONS == VX_BENCH_COALESCE + 1, "vx_bench.sum has one for each operation");

/** vx_bench_mac() - A MAC that looks random; different numbers (40 bits) have different ones */
uint64_t vx_bench_mac(const struct vx_bench *bench, uint64_t number)
{
	const uint64_t mask = (1ull << MAC_BITS) - 1;
	uint64_t mac = (number ^ bench->config.seed) & mask;

	for (unsigned round = 0; round < 3; round++) {
		mac = mac * 0x9e3779b97f4a7c15u & mask;
		mac ^= mac >> 17;
	}
	return 0x02ull << MAC_BITS | mac;
}

struct vx_network *vx_bench_network(const struct vx_bench *bench, unsigned host)
{
	return vx_net_get(bench->host[host], 0);
}

/** vx_bench_add_port() - A port that may send from any address and what only servers send. Return: its id, -errno */
int vx_bench_add_port(struct vx_bench *bench, unsigned host, uint64_t mac)
{
	static const uint8_t none[4];
	struct vx_port *port = vx_net_port_new();
	vx_prefix any[2] = { { .length = 96 }, { .length = 0 } };
	int id, error;

	if (!port)
		return -ENOMEM;
	port->mac = mac;
	port->mtu = VX_BENCH_MTU;
	port->flags = VX_PORT_ALLOW_SERVER;
	id = vx_net_port_add(bench->host[host], port, 0);
	if (id < 0) {
		free(port);
		return id;
	}
	vx_addr_map4(any[0].address, none);
	error = vx_net_port_allow(bench->host[host], (uint32_t)id, any, 2);
	vx_qsbr_collect(&bench->host[host]->qsbr);
	return error ? error : id;
}

static int add_vteps(struct vx_bench *bench, struct vx_tables *tables)
{
	vx_member *members = calloc(bench->config.vteps, sizeof(*members));
	int error = members ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < bench->config.vteps && !error; i++) {
		int id = vx_net_vtep_add(tables, bench->address[i], 4789, 0);

		members[i] = (vx_member){ (uint32_t)id, VX_MEMBER_FLOOD };
		error = id < 0 ? id : 0;
	}
	if (!error)
		error = vx_net_vteps(tables, 0, members, bench->config.vteps);
	free(members);
	return error;
}

/** add_records() - Where MACs from @first on are: at ports or VTEPs 0 to @places - 1, in turn */
static int add_records(struct vx_bench *bench, unsigned host, uint64_t first, uint32_t count, unsigned kind,
		       uint32_t places)
{
	struct vx_network *network = vx_bench_network(bench, host);
	int error = 0;

	for (uint32_t i = 0; i < count && !error; i++)
		error = vx_fdb_record(network, vx_bench_mac(bench, first + i), (struct vx_place){ kind, i % places });
	vx_qsbr_collect(&bench->host[host]->qsbr);
	return error;
}

/** add_host() - A host's tables. Endpoints of the sender have the MACs from 0 on, then come those behind the others */
static int add_host(struct vx_bench *bench, unsigned host)
{
	const vx_bench_config *config = &bench->config;
	struct vx_tables *tables = calloc(1, sizeof(*tables));
	uint64_t own = host == VX_BENCH_SENDER ? 0 : (uint64_t)config->ports + config->entries;
	unsigned senders = host == VX_BENCH_SENDER ? VX_AT_PORT : VX_AT_VTEP;
	int error;

	if (!tables || vx_tables_init(tables)) {
		free(tables);
		return -ENOMEM;
	}
	bench->host[host] = tables;
	tables->offloads = VX_OFFLOAD_ALL;
	error = vx_net_add(tables, VX_BENCH_VNI, VX_BENCH_MTU, VX_NETWORK_VLAN_PASS);
	if (error >= 0)
		error = add_vteps(bench, tables);
	for (uint32_t i = 0; i < config->ports && error >= 0; i++)
		error = vx_bench_add_port(bench, host, vx_bench_mac(bench, own + i));
	if (error >= 0)
		error = add_records(bench, host, 0, config->ports, senders,
				    senders == VX_AT_PORT ? config->ports : config->vteps);
	if (error >= 0)
		error = add_records(bench, host, config->ports, config->entries,
				    senders == VX_AT_PORT ? VX_AT_VTEP : VX_AT_PORT,
				    senders == VX_AT_PORT ? config->vteps : config->ports);
	return error < 0 ? error : 0;
}

static int allocate(struct vx_bench *bench)
{
	bench->address = calloc(bench->config.vteps, sizeof(*bench->address));
	bench->gro = calloc(1, vx_gro_size());
	bench->burst = calloc(1, sizeof(*bench->burst));
	bench->queue = calloc(1, sizeof(*bench->queue));
	bench->spare = calloc(VX_BATCH, VX_HEADROOM + VX_SPARE_LEN);
	bench->ring = calloc(VX_BATCH, VX_BENCH_BUFFER);
	if (!bench->address || !bench->gro || !bench->burst || !bench->queue || !bench->spare || !bench->ring)
		return -ENOMEM;
	vx_gro_init(bench->gro, vx_bench_take_train, bench);
	for (uint32_t i = 0; i < bench->config.vteps; i++) {
		const uint8_t ipv4[4] = { 10, 89, (uint8_t)(i >> 8), (uint8_t)i };

		vx_addr_map4(bench->address[i], ipv4);
	}
	return 0;
}

void vx_bench_free(vx_bench *bench)
{
	if (!bench)
		return;
	vx_bench_unload(bench);
	for (unsigned host = 0; host < 2; host++) {
		if (bench->host[host])
			vx_tables_destroy(bench->host[host]);
		free(bench->host[host]);
	}
	free(bench->address);
	free(bench->gro);
	free(bench->burst);
	free(bench->queue);
	free(bench->spare);
	free(bench->ring);
	free(bench);
}

/**
 * vx_bench_new() - Make two hosts
 * @config:	Their tables
 * @bench:	Set to them
 *
 * Return: 0, -EINVAL for a table that the fast path could not have, -ENOMEM
 */
int vx_bench_new(const vx_bench_config *config, vx_bench **bench)
{
	struct vx_bench *made;
	int error;

	if (!config->entries || config->entries > ENTRIES_MAX || !config->ports || config->ports > VX_PORTS_MAX / 2 ||
	    !config->vteps || config->vteps > VX_VTEPS_MAX)
		return -EINVAL;
	made = calloc(1, sizeof(*made));
	if (!made)
		return -ENOMEM;
	made->config = *config;
	made->random = config->seed;
	made->now_ns = 1000000000000u;
	error = allocate(made);
	for (unsigned host = 0; host < 2 && !error; host++)
		error = add_host(made, host);
	if (error) {
		vx_bench_free(made);
		return error;
	}
	*bench = made;
	return 0;
}

/** vx_bench_compiler() - The compiler and its options; build_native.py names them, another build does not */
const char *vx_bench_compiler(void)
{
#ifdef VX_BUILD_OPTIONS
	return "cc " __VERSION__ " " VX_BUILD_OPTIONS;
#else
	return "cc " __VERSION__;
#endif
}

static bool is_loaded(const struct vx_bench *bench, int operation)
{
	switch (operation) {
	case VX_BENCH_COPY:
	case VX_BENCH_FILL:
		return bench->items;
	case VX_BENCH_ENCAPSULATE:
	case VX_BENCH_DECAPSULATE:
		return bench->items && bench->kind == VX_BENCH_CARRY;
	case VX_BENCH_DECIDE:
		return bench->items && bench->kind == VX_BENCH_MIX;
	case VX_BENCH_CUT:
	case VX_BENCH_COALESCE:
		return bench->items && bench->kind == VX_BENCH_SUPER;
	default:
		return false;
	}
}

/**
 * vx_bench_run() - Time whole passes over what is loaded
 * @bench:	Bench
 * @operation:	VX_BENCH_COPY to VX_BENCH_COALESCE
 * @passes:	How many, one after another
 * @ns:		Set to how long they took together
 *
 * Return: 0, -EINVAL if the operation is not one for what is loaded, -EILSEQ if a pass decided otherwise than the first
 */
int vx_bench_run(vx_bench *bench, int operation, uint32_t passes, uint64_t *ns)
{
	bool same = true;

	if (!is_loaded(bench, operation))
		return -EINVAL;
	if (!bench->sum[operation])
		bench->sum[operation] = vx_bench_pass(bench, operation);
	bench->spent_ns = 0;
	for (uint32_t i = 0; i < passes; i++)
		same &= vx_bench_pass(bench, operation) == bench->sum[operation];
	*ns = bench->spent_ns;
	return same ? 0 : -EILSEQ;
}
