/* boundary.c - what Python may change and ask: networks, ports, VTEPs, records, a trace
 *
 * How it works
 *   Each function checks its ids and numbers (they come from another language), and calls the room whose job it
 *   is. The contract is vxlanu.cdef.h. All of it runs on the writer's thread.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "engine.h"
#include "fdb.h"
#include "nbr.h"

#define MTU_MAX	65535

static const struct {
	const char *name;
	const char *text;
} reasons[] = {
#define X(name, spelling, sentence) { spelling, sentence },
	VX_REASONS(X)
#undef X
};

int vx_reason_count(void)
{
	return VX_REASON_COUNT;
}

const char *vx_reason_name(int reason)
{
	return reason >= 0 && reason < VX_REASON_COUNT ? reasons[reason].name : "unknown";
}

const char *vx_reason_text(int reason)
{
	return reason >= 0 && reason < VX_REASON_COUNT ? reasons[reason].text : "unknown";
}

static struct vx_network *network_of(const vx_engine *engine, int network)
{
	return network < 0 ? NULL : vx_net_get(engine->tables, (uint32_t)network);
}

int vx_network_add(vx_engine *engine, uint32_t vni, uint32_t mtu, uint32_t flags)
{
	return vx_net_add(engine->tables, vni, mtu, flags);
}

int vx_network_flags(vx_engine *engine, int network, uint32_t flags)
{
	return network < 0 ? -ENOENT : vx_net_flags(engine->tables, (uint32_t)network, flags);
}

int vx_network_del(vx_engine *engine, int network)
{
	int error = network < 0 ? -ENOENT : vx_net_del(engine->tables, (uint32_t)network);

	if (!error)
		vx_captures_forget(engine->captures, VX_AT_NETWORK, (uint32_t)network);
	return error;
}

int vx_network_vteps(vx_engine *engine, int network, const vx_member *members, int count)
{
	if (network < 0 || count < 0)
		return -EINVAL;
	return vx_net_vteps(engine->tables, (uint32_t)network, members, (uint32_t)count);
}

int vx_port_add(vx_engine *engine, int network, const uint8_t *mac, uint32_t mtu, uint32_t flags,
		const int *fds, int count)
{
	bool write_queue = flags & VX_PORT_WRITE_QUEUE;
	int queues = count - write_queue, id;
	struct vx_port *port;

	if ((queues != 1 && queues != (int)engine->workers) || !mtu || mtu > MTU_MAX || network < 0 ||
	    vx_mac_is_group(mac) || !vx_mac(mac))
		return -EINVAL;
	port = vx_net_port_new();
	if (!port)
		return -ENOMEM;
	port->mac = vx_mac(mac);
	port->mtu = mtu;
	port->flags = flags;
	port->write_queue = write_queue;
	port->workers = engine->workers;
	port->queues = (unsigned)queues;
	memcpy(port->fds, fds, (size_t)count * sizeof(int));
	id = vx_net_port_add(engine->tables, port, (uint32_t)network);
	if (id < 0)
		free(port);
	return id;
}

int vx_port_allow(vx_engine *engine, int port, const vx_prefix *prefixes, int count)
{
	if (port < 0 || count < 0)
		return -EINVAL;
	return vx_net_port_allow(engine->tables, (uint32_t)port, prefixes, (uint32_t)count);
}

int vx_port_del(vx_engine *engine, int port)
{
	int error = port < 0 ? -ENOENT : vx_net_port_del(engine->tables, (uint32_t)port);

	if (!error)
		vx_captures_forget(engine->captures, VX_AT_PORT, (uint32_t)port);
	return error;
}

int vx_port_info_get(const vx_engine *engine, int port, vx_port_info *info)
{
	const struct vx_port *found = port < 0 ? NULL : vx_net_port(engine->tables, (uint32_t)port);

	if (!found)
		return -ENOENT;
	*info = (vx_port_info){
		.network = found->network->id,
		.generation = found->generation,
		.mtu = found->mtu,
		.flags = found->flags,
		.state = atomic_load(&found->state),
		.queues = (uint16_t)found->queues,
	};
	vx_mac_put(info->mac, found->mac);
	return 0;
}

int vx_vtep_add(vx_engine *engine, const uint8_t *address, uint16_t data_port, uint32_t flags)
{
	if (vx_addr_is4(address) != vx_addr_is4(engine->config.address))
		return -EAFNOSUPPORT;
	return vx_net_vtep_add(engine->tables, address, data_port, flags);
}

int vx_vtep_del(vx_engine *engine, int vtep)
{
	int error = vtep < 0 ? -ENOENT : vx_net_vtep_del(engine->tables, (uint32_t)vtep);

	if (!error)
		vx_captures_forget(engine->captures, VX_AT_VTEP, (uint32_t)vtep);
	return error;
}

int vx_vtep_path_mtu(vx_engine *engine, int vtep, uint32_t mtu)
{
	struct vx_vtep *found = vtep < 0 ? NULL : vx_net_vtep(engine->tables, (uint32_t)vtep);

	if (!found)
		return -ENOENT;
	if (mtu > MTU_MAX || (mtu && mtu < VX_PATH_MTU_MIN))
		return -EINVAL;
	if (mtu)
		atomic_store(&found->seat->path_mtu, (uint16_t)mtu);
	return (int)atomic_load(&found->seat->path_mtu);
}

int vx_vtep_hop(vx_engine *engine, int vtep, const uint8_t *target, const uint8_t *source)
{
	return vtep < 0 ? -ENOENT : vx_net_vtep_hop(engine->tables, (uint32_t)vtep, target, source);
}

int vx_fdb_set(vx_engine *engine, int network, const uint8_t *mac, int kind, int id)
{
	struct vx_network *found = network_of(engine, network);

	if (!found)
		return -ENOENT;
	if (kind < 0 || id < 0 || vx_mac_is_group(mac) || !vx_mac(mac))
		return -EINVAL;
	return vx_fdb_record(found, vx_mac(mac), (struct vx_place){ (unsigned)kind, (uint32_t)id });
}

int vx_fdb_del(vx_engine *engine, int network, const uint8_t *mac)
{
	struct vx_network *found = network_of(engine, network);

	return found ? vx_fdb_erase(found, vx_mac(mac)) : -ENOENT;
}

int vx_fdb_dump(const vx_engine *engine, int network, uint64_t *cursor, vx_fdb_entry *entries, int max)
{
	const struct vx_network *found = network_of(engine, network);
	int count = 0;

	if (!found)
		return -ENOENT;
	while (count < max && vx_fdb_next(found, cursor, &entries[count]))
		count++;
	return count;
}

int vx_neighbor_set(vx_engine *engine, int network, const uint8_t *address, const uint8_t *mac, uint32_t flags)
{
	struct vx_network *found = network_of(engine, network);

	if (!found)
		return -ENOENT;
	if (vx_mac_is_group(mac) || !vx_mac(mac))
		return -EINVAL;
	return vx_nbr_record(found, address, vx_mac(mac), flags);
}

int vx_neighbor_del(vx_engine *engine, int network, const uint8_t *address)
{
	struct vx_network *found = network_of(engine, network);

	return found ? vx_nbr_erase(found, address) : -ENOENT;
}

int vx_neighbor_dump(const vx_engine *engine, int network, uint64_t *cursor, vx_neighbor *entries, int max)
{
	const struct vx_network *found = network_of(engine, network);
	int count = 0;

	if (!found)
		return -ENOENT;
	while (count < max && vx_nbr_next(found, cursor, &entries[count]))
		count++;
	return count;
}

static uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int vx_soft_dump(const vx_engine *engine, int network, uint64_t *cursor, vx_soft_entry *entries, int max)
{
	const struct vx_network *found = network_of(engine, network);
	uint64_t now_ms = clock_ns() / 1000000;
	int count = 0;

	if (!found)
		return -ENOENT;
	while (count < max && vx_soft_next(&found->soft, now_ms, cursor, &entries[count]))
		count++;
	return count;
}

/**
 * vx_trace() - Decide about one frame without doing anything
 * @engine:	Engine
 * @kind:	VX_AT_PORT: @frame is an Ethernet frame from port @id; VX_AT_VTEP: a UDP payload from VTEP @id
 * @id:		Where from
 * @frame:	Bytes
 * @length:	How many
 * @verdict:	What would happen
 *
 * Return: 0, -EINVAL, -ENOENT
 */
int vx_trace(vx_engine *engine, int kind, int id, const uint8_t *frame, int length, vx_verdict *verdict)
{
	struct vx_when when = { .now_ns = clock_ns(), .dry = true };
	struct vx_frame traced = {
		.data = engine->trace_buffer + VX_HEADROOM,
		.len = (uint32_t)length,
		.spare = engine->trace_buffer + VX_HEADROOM + VX_FRAME_MAX + VX_HEADROOM,
		.from = (uint8_t)kind,
		.from_id = (uint32_t)id,
	};

	if (length < 0 || length > VX_FRAME_MAX || id < 0 || (kind != VX_AT_PORT && kind != VX_AT_VTEP))
		return -EINVAL;
	if (kind == VX_AT_PORT ? !vx_net_port(engine->tables, (uint32_t)id)
			       : !vx_net_vtep(engine->tables, (uint32_t)id))
		return -ENOENT;
	if (kind == VX_AT_VTEP)
		memcpy(traced.outer, vx_net_vtep(engine->tables, (uint32_t)id)->address, VX_ADDR_LEN);
	memcpy(traced.data, frame, (size_t)length);
	vx_switch(engine->tables, &traced, 1, when);
	*verdict = (vx_verdict){
		.reason = traced.reason,
		.act = traced.act,
		.network = traced.network ? traced.network->id : VX_NONE,
		.target = traced.target,
		.copies = traced.copies,
		.rewritten = traced.len,
		.segments = traced.segments,
		.fit = traced.fit,
		.answer = traced.answer,
	};
	return 0;
}
