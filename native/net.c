/* net.c - networks, ports and VTEPs: their lives, and how one leads to another
 *
 * How it works
 *   Each kind lives in a slot array indexed by its id: of pointers, or, for ports and VTEPs, of seats, which hold the
 *   pointer and what each frame asks of the object. Adding builds the object and publishes the pointer;
 *   deleting takes the pointer out and retires the object (qsbr.c), so deleting a network of a million records
 *   is a store now and a few frees later, on the reaper's thread. An id stays busy until then.
 *   A generation that no two objects of an engine share (24 bits, so it wraps after 16 M) goes into every
 *   forwarding value, see fdb.c.
 *
 * All functions here but the look-ups are the writer's.
 */
#include "net.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "nbr.h"

#define VNI_MAX		0xffffffu
#define KIND_NETWORK	VX_AT_NETWORK

/** at_line() - Zeroed memory that begins a cache line: what is read for each frame is in as few of them as can be */
static void *at_line(size_t size)
{
	void *memory;

	return posix_memalign(&memory, VX_CACHE_LINE, size) ? NULL : memset(memory, 0, size);
}

static int find_free(_Atomic bool *busy, uint32_t max)
{
	for (uint32_t id = 0; id < max; id++)
		if (!atomic_load_explicit(&busy[id], memory_order_acquire))
			return (int)id;
	return -ENOSPC;
}

static uint32_t next_generation(struct vx_tables *tables)
{
	tables->generation = (tables->generation + 1) & 0xffffff;
	return tables->generation;
}

/** take_id() - An id is in use from now on; what it names is published next */
static void take_id(struct vx_tables *tables, _Atomic bool *busy, unsigned kind, uint32_t id)
{
	atomic_store(&busy[id], true);
	if (tables->id_taken)
		tables->id_taken(tables->context, kind, id);
}

int vx_tables_init(struct vx_tables *tables)
{
	vx_qsbr_init(&tables->qsbr);
	if (vx_table_init(&tables->vnis, &tables->qsbr, VX_KEY_NUMBER))
		return -ENOMEM;
	if (vx_table_init(&tables->addresses, &tables->qsbr, VX_KEY_ADDRESS)) {
		vx_table_destroy(&tables->vnis);
		return -ENOMEM;
	}
	return 0;
}

/** vx_tables_destroy() - Free everything; no worker runs any more */
void vx_tables_destroy(struct vx_tables *tables)
{
	for (uint32_t id = 0; id < VX_PORTS_MAX; id++)
		vx_net_port_del(tables, id);
	for (uint32_t id = 0; id < VX_NETWORKS_MAX; id++)
		vx_net_del(tables, id);
	for (uint32_t id = 0; id < VX_VTEPS_MAX; id++)
		vx_net_vtep_del(tables, id);
	vx_qsbr_destroy(&tables->qsbr);
	vx_table_destroy(&tables->vnis);
	vx_table_destroy(&tables->addresses);
}

static void network_free(struct vx_network *network)
{
	vx_table_destroy(&network->fdb);
	vx_table_destroy(&network->neighbors);
	vx_soft_destroy(&network->soft);
	free(atomic_load(&network->members));
	free(atomic_load(&network->locals));
	free(network);
}

static void network_release(struct vx_retired *object)
{
	struct vx_network *network = (struct vx_network *)object;
	_Atomic bool *busy = &network->tables->network_busy[network->id];

	network_free(network);
	atomic_store_explicit(busy, false, memory_order_release);
}

static struct vx_network *network_new(struct vx_tables *tables)
{
	struct vx_network *network = calloc(1, sizeof(*network));

	if (!network)
		return NULL;
	network->tables = tables;
	if (vx_table_init(&network->fdb, &tables->qsbr, VX_KEY_NUMBER) ||
	    vx_table_init(&network->neighbors, &tables->qsbr, VX_KEY_ADDRESS) || vx_soft_init(&network->soft)) {
		network_free(network);
		return NULL;
	}
	return network;
}

/** vx_net_add() - Add a network. Return: its id, -EINVAL, -EEXIST if the VNI is taken, -ENOSPC, -ENOMEM */
int vx_net_add(struct vx_tables *tables, uint32_t vni, uint32_t mtu, uint32_t flags)
{
	int id = find_free(tables->network_busy, VX_NETWORKS_MAX);
	struct vx_network *network;

	if (vni > VNI_MAX || mtu > VX_FRAME_MAX - VX_HEADROOM)
		return -EINVAL;
	if (!(flags & VX_NETWORK_IN_CONFLICT) && vx_net_by_vni(tables, vni))
		return -EEXIST;
	if (id < 0)
		return id;
	network = network_new(tables);
	if (!network)
		return -ENOMEM;

	network->id = (uint32_t)id;
	network->generation = next_generation(tables);
	network->vni = vni;
	network->mtu = mtu;
	network->flags = flags;
	if (!(flags & VX_NETWORK_IN_CONFLICT) &&
	    vx_table_set(&tables->vnis, vx_key_number(vni), vx_value(KIND_NETWORK, network->id, 0))) {
		network_free(network);
		return -ENOMEM;
	}
	take_id(tables, tables->network_busy, VX_AT_NETWORK, network->id);
	atomic_store_explicit(&tables->networks[id], network, memory_order_release);
	return id;
}

/** vx_net_flags() - Change the flags of a network. Return: 0, -ENOENT, -EEXIST if another one holds the VNI, -ENOMEM */
int vx_net_flags(struct vx_tables *tables, uint32_t id, uint32_t flags)
{
	struct vx_network *network = vx_net_get(tables, id);
	bool had, has = !(flags & VX_NETWORK_IN_CONFLICT);

	if (!network)
		return -ENOENT;
	had = !(network->flags & VX_NETWORK_IN_CONFLICT);
	if (has && !had) {
		if (vx_net_by_vni(tables, network->vni))
			return -EEXIST;
		if (vx_table_set(&tables->vnis, vx_key_number(network->vni), vx_value(KIND_NETWORK, network->id, 0)))
			return -ENOMEM;
	}
	if (had && !has)
		vx_table_del(&tables->vnis, vx_key_number(network->vni));
	network->flags = flags;
	return 0;
}

/** vx_net_del() - Delete a network. Return: 0, -ENOENT, -EBUSY while it has ports */
int vx_net_del(struct vx_tables *tables, uint32_t id)
{
	struct vx_network *network = vx_net_get(tables, id);
	struct vx_locals *locals;

	if (!network)
		return -ENOENT;
	locals = atomic_load(&network->locals);
	if (locals && locals->count)
		return -EBUSY;
	vx_net_vteps(tables, id, NULL, 0);
	if (!(network->flags & VX_NETWORK_IN_CONFLICT))
		vx_table_del(&tables->vnis, vx_key_number(network->vni));
	atomic_store_explicit(&tables->networks[id], NULL, memory_order_release);
	vx_qsbr_retire(&tables->qsbr, &network->retired, network_release);
	return 0;
}

/** settle_members() - A list of members has replaced another: VTEPs count their networks, who is gone is forgotten */
static void settle_members(struct vx_network *network, const struct vx_members *old, const struct vx_members *list)
{
	for (uint32_t id = 0; (old && id < old->ids) || (list && id < list->ids); id++) {
		bool was = vx_flood_member(old, id), is = vx_flood_member(list, id);

		if (is && !was)
			vx_net_vtep(network->tables, id)->networks++;
		if (is || !was)
			continue;
		vx_soft_forget(&network->soft, 0, id, vx_net_soft_count, network->tables);
		vx_net_vtep(network->tables, id)->networks--;
	}
}

static void members_release(struct vx_retired *object)
{
	free(object);
}

/**
 * vx_net_vteps() - Replace the VTEPs of a network
 *
 * Return: 0, -ENOENT, -EINVAL for one named twice, -ENOMEM (then nothing has changed; with none it cannot fail)
 */
int vx_net_vteps(struct vx_tables *tables, uint32_t id, const vx_member *members, uint32_t count)
{
	struct vx_network *network = vx_net_get(tables, id);
	struct vx_members *list = NULL, *old;
	int error = 0;

	if (!network || count > VX_VTEPS_MAX)
		return -ENOENT;
	for (uint32_t i = 0; i < count; i++)
		if (!vx_net_vtep(tables, members[i].vtep))
			return -ENOENT;
	if (count)
		error = vx_flood_list(members, count, &list);
	if (error)
		return error;

	old = atomic_exchange(&network->members, list);
	atomic_thread_fence(memory_order_seq_cst);	/* give_way() of guard.c has the other */
	settle_members(network, old, list);
	if (old)
		vx_qsbr_retire(&tables->qsbr, &old->retired, members_release);
	return 0;
}

static void port_release(struct vx_retired *object)
{
	struct vx_port *port = (struct vx_port *)object;
	struct vx_tables *tables = port->tables;
	uint32_t id = port->id;

	for (unsigned i = 0; i < port->queues + port->write_queue; i++)
		close(port->fds[i]);
	if (tables->port_closed)
		tables->port_closed(tables->context, port);
	free(atomic_load(&port->allow));
	free(port);
	atomic_store_explicit(&tables->port_busy[id], false, memory_order_release);
}

/** vx_net_port_new() - A port to be filled in and published, NULL without memory; free() takes it */
struct vx_port *vx_net_port_new(void)
{
	return at_line(sizeof(struct vx_port));
}

/** take_port_seat() - Publish a port */
static void take_port_seat(struct vx_port_seat *seat, struct vx_port *port)
{
	seat->mtu = port->mtu;
	atomic_store_explicit(&seat->generation, port->generation, memory_order_release);
	atomic_store_explicit(&seat->port, port, memory_order_release);
}

/**
 * vx_net_port_add() - Publish a port
 * @tables:	Tables
 * @port:	From vx_net_port_new(), with MAC, MTU, flags and descriptors filled in; owned by the tables from now on
 * @id:		Network
 *
 * Return: its id; -ENOENT, -ENOSPC, -ENOMEM, or why port_watch() refused it (then @port is still the caller's)
 */
int vx_net_port_add(struct vx_tables *tables, struct vx_port *port, uint32_t id)
{
	struct vx_network *network = vx_net_get(tables, id);
	int free_id = find_free(tables->port_busy, VX_PORTS_MAX), error = 0;

	if (!network)
		return -ENOENT;
	if (free_id < 0)
		return free_id;
	port->id = (uint32_t)free_id;
	port->generation = next_generation(tables);
	port->network = network;
	port->tables = tables;
	vx_nbr_link_local(port->mac, port->link_local);
	atomic_store(&port->state, VX_PORT_UP);
	if (tables->port_watch)
		error = tables->port_watch(tables->context, port);
	if (error)
		return error;
	if (!(port->flags & VX_PORT_UNICAST) && vx_flood_add_local(network, port->id)) {
		if (tables->port_unwatch)
			tables->port_unwatch(tables->context, port);
		return -ENOMEM;
	}
	take_id(tables, tables->port_busy, VX_AT_PORT, port->id);
	take_port_seat(&tables->ports[free_id], port);
	return free_id;
}

static void allow_release(struct vx_retired *object)
{
	free(object);
}

static struct vx_allowed allowed_by(const vx_prefix *prefix)
{
	uint8_t mask[VX_ADDR_LEN] = { 0 };

	memset(mask, 0xff, prefix->length / 8);
	if (prefix->length % 8)
		mask[prefix->length / 8] = (uint8_t)(0xff00 >> prefix->length % 8);
	return (struct vx_allowed){ vx_address(prefix->address), vx_address(mask), prefix->flags };
}

/** vx_net_port_allow() - Replace the addresses a port may send from. Return: 0, -ENOENT, -EINVAL, -ENOMEM */
int vx_net_port_allow(struct vx_tables *tables, uint32_t id, const vx_prefix *prefixes, uint32_t count)
{
	struct vx_port *port = vx_net_port(tables, id);
	struct vx_allow *allow, *old;

	if (!port)
		return -ENOENT;
	if (count > VX_ALLOW_MAX)
		return -EINVAL;
	for (uint32_t i = 0; i < count; i++)
		if (prefixes[i].length > 128)
			return -EINVAL;
	allow = at_line(sizeof(*allow) + count * sizeof(allow->list[0]));
	if (!allow)
		return -ENOMEM;
	allow->count = count;
	for (uint32_t i = 0; i < count; i++)
		allow->list[i] = allowed_by(&prefixes[i]);
	old = atomic_load(&port->allow);
	atomic_store_explicit(&port->allow, allow, memory_order_release);
	if (old)
		vx_qsbr_retire(&tables->qsbr, &old->retired, allow_release);
	return 0;
}

/** vx_net_port_del() - Delete a port; its descriptors are closed later. Return: 0, -ENOENT, -ENOMEM (no change) */
int vx_net_port_del(struct vx_tables *tables, uint32_t id)
{
	struct vx_port *port = vx_net_port(tables, id);
	int error;

	if (!port)
		return -ENOENT;
	error = vx_flood_del_local(port->network, id);
	if (error)
		return error;
	if (tables->port_unwatch)
		tables->port_unwatch(tables->context, port);
	atomic_store_explicit(&tables->ports[id].generation, VX_NONE, memory_order_release);
	atomic_store_explicit(&tables->ports[id].port, NULL, memory_order_release);
	vx_qsbr_retire(&tables->qsbr, &port->retired, port_release);
	return 0;
}

static void vtep_release(struct vx_retired *object)
{
	struct vx_vtep *vtep = (struct vx_vtep *)object;
	_Atomic bool *busy = &vtep->tables->vtep_busy[vtep->id];

	free(atomic_load(&vtep->hop));
	free(vtep);
	atomic_store_explicit(busy, false, memory_order_release);
}

static void vtep_set_address(struct vx_vtep *vtep, const uint8_t *address, uint16_t data_port)
{
	memcpy(vtep->address, address, VX_ADDR_LEN);
	if (vx_addr_is4(address)) {
		vtep->to.ipv4.sin_family = AF_INET;
		vtep->to.ipv4.sin_port = htons(data_port);
		memcpy(&vtep->to.ipv4.sin_addr, address + 12, 4);
		vtep->to_len = sizeof(vtep->to.ipv4);
	} else {
		vtep->to.ipv6.sin6_family = AF_INET6;
		vtep->to.ipv6.sin6_port = htons(data_port);
		memcpy(&vtep->to.ipv6.sin6_addr, address, VX_ADDR_LEN);
		vtep->to_len = sizeof(vtep->to.ipv6);
	}
}

/** take_vtep_seat() - Publish a VTEP */
static void take_vtep_seat(struct vx_vtep *vtep, uint32_t flags)
{
	struct vx_vtep_seat *seat = vtep->seat;

	seat->address = vx_address(vtep->address);
	atomic_store_explicit(&seat->flags, (uint16_t)flags, memory_order_relaxed);
	atomic_store_explicit(&seat->path_mtu, 0, memory_order_relaxed);
	atomic_store_explicit(&seat->generation, vtep->generation, memory_order_release);
	atomic_store_explicit(&seat->vtep, vtep, memory_order_release);
}

/** vx_net_vtep_add() - Add a VTEP. Return: its id, -EEXIST if the address is taken, -EINVAL, -ENOSPC, -ENOMEM */
int vx_net_vtep_add(struct vx_tables *tables, const uint8_t *address, uint16_t data_port, uint32_t flags)
{
	int id = find_free(tables->vtep_busy, VX_VTEPS_MAX);
	struct vx_vtep *vtep;

	if (!data_port)
		return -EINVAL;
	if (vx_net_vtep_by_address(tables, address))
		return -EEXIST;
	if (id < 0)
		return id;
	vtep = at_line(sizeof(*vtep));
	if (!vtep)
		return -ENOMEM;
	vtep->id = (uint32_t)id;
	vtep->generation = next_generation(tables);
	vtep->tables = tables;
	vtep->seat = &tables->vteps[id];
	vtep_set_address(vtep, address, data_port);
	if (vx_table_set(&tables->addresses, vx_key_address(address), vx_value(VX_AT_VTEP, vtep->id, 0))) {
		free(vtep);
		return -ENOMEM;
	}
	take_id(tables, tables->vtep_busy, VX_AT_VTEP, vtep->id);
	take_vtep_seat(vtep, flags);
	return id;
}

static void hop_release(struct vx_retired *object)
{
	free(object);
}

/**
 * vx_net_vtep_hop() - Say by which next hop a VTEP is reached
 * @tables:	Tables
 * @id:		VTEP
 * @target:	MAC of the next hop, NULL for none
 * @source:	MAC of the uplink
 *
 * Return: 0, -ENOENT, -ENOMEM (no change)
 */
int vx_net_vtep_hop(struct vx_tables *tables, uint32_t id, const uint8_t *target, const uint8_t *source)
{
	struct vx_vtep *vtep = vx_net_vtep(tables, id);
	struct vx_hop *hop = NULL, *old;

	if (!vtep)
		return -ENOENT;
	if (target) {
		hop = calloc(1, sizeof(*hop));
		if (!hop)
			return -ENOMEM;
		memcpy(hop->ethernet, target, VX_MAC_LEN);
		memcpy(hop->ethernet + VX_MAC_LEN, source, VX_MAC_LEN);
		vx_put16(hop->ethernet + 2 * VX_MAC_LEN,
			 vtep->to.any.sa_family == AF_INET ? VX_ETHERTYPE_IPV4 : VX_ETHERTYPE_IPV6);
	}
	old = atomic_load(&vtep->hop);
	atomic_store_explicit(&vtep->hop, hop, memory_order_release);
	if (old)
		vx_qsbr_retire(&tables->qsbr, &old->retired, hop_release);
	return 0;
}

/** vx_net_vtep_del() - Delete a VTEP. Return: 0, -ENOENT, -EBUSY while a network has it as a member */
int vx_net_vtep_del(struct vx_tables *tables, uint32_t id)
{
	struct vx_vtep *vtep = vx_net_vtep(tables, id);

	if (!vtep)
		return -ENOENT;
	if (vtep->networks)
		return -EBUSY;
	vx_table_del(&tables->addresses, vx_key_address(vtep->address));
	atomic_store_explicit(&vtep->seat->generation, VX_NONE, memory_order_release);
	atomic_store_explicit(&vtep->seat->vtep, NULL, memory_order_release);
	vx_qsbr_retire(&tables->qsbr, &vtep->retired, vtep_release);
	return 0;
}

/** vx_net_soft_count() - The count that soft.c keeps per VTEP; NULL if it is gone */
_Atomic uint32_t *vx_net_soft_count(void *tables, uint32_t vtep)
{
	struct vx_vtep *found = vx_net_vtep(tables, vtep);

	return found ? &found->soft_count : NULL;
}
