/* net.h - networks, ports and VTEPs: what the switch decides by; see net.c */
#ifndef VX_NET_H
#define VX_NET_H

#include <netinet/in.h>

#include "eth.h"
#include "flood.h"
#include "soft.h"
#include "storm.h"
#include "table.h"

union vx_sockaddr {
	struct sockaddr any;
	struct sockaddr_in ipv4;
	struct sockaddr_in6 ipv6;
};

/** struct vx_allowed - A vx_prefix as it is compared: what differs from @address may do so where @mask is 0 */
struct vx_allowed {
	struct vx_address address;
	struct vx_address mask;
	uint32_t flags;			/* VX_PREFIX_* */
};

/** struct vx_allow - Addresses that a port may send from; replaced as a whole */
struct vx_allow {
	struct vx_retired retired;
	uint32_t count;
	struct vx_allowed list[];
};

/** struct vx_port - A TAP of this host. Immutable once published but for what is atomic
 *
 * What almost every frame that it sends asks of it comes first, and that is where a cache line begins.
 */
struct vx_port {
	struct vx_retired retired;
	uint32_t id;
	uint32_t generation;
	struct vx_network *network;	/* outlives its ports */
	uint64_t mac;
	_Atomic(struct vx_allow *) allow;
	uint32_t mtu;
	uint32_t flags;
	uint8_t link_local[VX_ADDR_LEN];
	_Atomic uint32_t state;		/* VX_PORT_* */
	struct vx_storm storm;		/* copies of its broadcast and multicast */
	struct vx_storm answers;	/* ICMP errors that the switch sends it */
	struct vx_tables *tables;
	bool write_queue;		/* fds[queues] is a detached queue, by which all workers write */
	unsigned workers;		/* of the engine */
	unsigned queues;		/* that are read: one per worker, or one alone */
	int fds[VX_WORKERS_MAX + 1];
};

static_assert(offsetof(struct vx_port, link_local) <= VX_CACHE_LINE, "what the decision reads is one cache line");

/** vx_port_reader() - The descriptor by which a worker reads a port; -1 where another worker has the only queue */
static inline int vx_port_reader(const struct vx_port *port, unsigned worker)
{
	if (port->queues > 1 || port->workers <= 1)
		return port->fds[worker % port->queues];
	return port->id % port->workers == worker ? port->fds[0] : -1;
}

/**
 * vx_port_writer() - The descriptor by which a worker writes a port
 *
 * The kernel remembers the queue that a flow was last written to and sends the flow's other direction there, to
 * another worker than before: its frames would overtake each other. Of a detached queue it takes no note.
 */
static inline int vx_port_writer(const struct vx_port *port, unsigned worker)
{
	return port->fds[port->write_queue ? port->queues : worker % port->queues];
}

/** struct vx_hop - The next hop towards a VTEP, where super-frames can be injected (inject.c); replaced as a whole
 * @ethernet:	Header of what goes there
 * @refusals:	How many in a row the kernel took for wrong; from VX_REFUSALS_MAX on all go by the sockets
 */
struct vx_hop {
	struct vx_retired retired;
	uint8_t ethernet[VX_ETH_LEN];
	_Atomic uint32_t refusals;
};

/** struct vx_vtep - Another host, or a device that speaks VXLAN */
struct vx_vtep {
	struct vx_retired retired;
	uint32_t id;
	uint32_t generation;
	struct vx_vtep_seat *seat;
	_Atomic uint32_t soft_count;
	uint32_t networks;		/* how many have it as a member; the writer's */
	struct vx_tables *tables;
	uint8_t address[VX_ADDR_LEN];
	union vx_sockaddr to;
	socklen_t to_len;
	_Atomic(struct vx_hop *) hop;	/* NULL: not known, or not by the uplink */
};

struct vx_network {
	struct vx_retired retired;
	uint32_t id;
	uint32_t generation;		/* tells it from its successor under the same id */
	uint32_t vni;
	uint32_t mtu;
	_Atomic uint32_t flags;		/* VX_NETWORK_* */
	struct vx_tables *tables;
	struct vx_table fdb;		/* MAC -> port or VTEP */
	struct vx_table neighbors;	/* address -> MAC */
	_Atomic(struct vx_members *) members;
	_Atomic(struct vx_locals *) locals;
	struct vx_soft soft;
};

/**
 * struct vx_port_seat - What is asked of the port that has an id by frames for it
 * @port:	NULL: it has gone
 * @generation:	Of the port; VX_NONE when it has gone. A record that names the id means this port if it agrees
 * @mtu:	Of the port
 *
 * Of a thousand ports a near cache holds the seats, but not the ports. An id is busy, and nobody else has the seat,
 * until no reader can have found its generation to agree: who has, reads of the same port behind that.
 */
struct vx_port_seat {
	_Atomic(struct vx_port *) port;
	_Atomic uint32_t generation;
	uint32_t mtu;
};

/** struct vx_vtep_seat - What is asked of the VTEP that has an id by frames from it or for it; as above */
struct vx_vtep_seat {
	struct vx_address address;
	_Atomic(struct vx_vtep *) vtep;
	_Atomic uint32_t generation;
	_Atomic uint16_t flags;		/* VX_VTEP_* */
	_Atomic uint16_t path_mtu;	/* largest outer IP packet; 0: not known to be limited */
};

static_assert(sizeof(struct vx_port_seat) == 16 && sizeof(struct vx_vtep_seat) == 32, "the seats are dense");

/** struct vx_tables - Everything the switch knows, and who may free it when */
struct vx_tables {
	struct vx_qsbr qsbr;
	struct vx_port_seat ports[VX_PORTS_MAX];
	struct vx_vtep_seat vteps[VX_VTEPS_MAX];
	_Atomic(struct vx_network *) networks[VX_NETWORKS_MAX];
	_Atomic bool port_busy[VX_PORTS_MAX];		/* ids in use, or still to be freed */
	_Atomic bool vtep_busy[VX_VTEPS_MAX];
	_Atomic bool network_busy[VX_NETWORKS_MAX];
	struct vx_table vnis;		/* VNI -> network */
	struct vx_table addresses;	/* outer address -> VTEP */
	uint32_t generation;
	_Atomic uint32_t offloads;	/* VX_OFFLOAD_* in use: wanted, and not refused by the kernel so far */
	bool same_kernel;		/* underlay is virtual: treat every VTEP as VX_VTEP_SAME_KERNEL */
	/* What comes and goes, for the engine. The first three are the writer's, and each may be NULL. */
	void (*id_taken)(void *context, unsigned kind, uint32_t id);	/* nobody can see yet who has it */
	int (*port_watch)(void *context, const struct vx_port *port);	/* before anybody sees it; 0 or -errno */
	void (*port_unwatch)(void *context, const struct vx_port *port);	/* it goes */
	void (*port_closed)(void *context, const struct vx_port *port);	/* before a port is freed */
	void *context;
};

int vx_tables_init(struct vx_tables *tables);
void vx_tables_destroy(struct vx_tables *tables);

int vx_net_add(struct vx_tables *tables, uint32_t vni, uint32_t mtu, uint32_t flags);
int vx_net_flags(struct vx_tables *tables, uint32_t id, uint32_t flags);
int vx_net_del(struct vx_tables *tables, uint32_t network);
int vx_net_vteps(struct vx_tables *tables, uint32_t network, const vx_member *members, uint32_t count);
struct vx_port *vx_net_port_new(void);
int vx_net_port_add(struct vx_tables *tables, struct vx_port *port, uint32_t network);
int vx_net_port_allow(struct vx_tables *tables, uint32_t port, const vx_prefix *prefixes, uint32_t count);
int vx_net_port_del(struct vx_tables *tables, uint32_t port);
int vx_net_vtep_add(struct vx_tables *tables, const uint8_t *address, uint16_t data_port, uint32_t flags);
int vx_net_vtep_hop(struct vx_tables *tables, uint32_t vtep, const uint8_t *target, const uint8_t *source);
int vx_net_vtep_del(struct vx_tables *tables, uint32_t vtep);

_Atomic uint32_t *vx_net_soft_count(void *tables, uint32_t vtep);

VX_INLINE struct vx_network *vx_net_get(struct vx_tables *tables, uint32_t id)
{
	if (id >= VX_NETWORKS_MAX)
		return NULL;
	return atomic_load_explicit(&tables->networks[id], memory_order_acquire);
}

VX_INLINE struct vx_port *vx_net_port(struct vx_tables *tables, uint32_t id)
{
	return id < VX_PORTS_MAX ? atomic_load_explicit(&tables->ports[id].port, memory_order_acquire) : NULL;
}

VX_INLINE struct vx_vtep *vx_net_vtep(struct vx_tables *tables, uint32_t id)
{
	return id < VX_VTEPS_MAX ? atomic_load_explicit(&tables->vteps[id].vtep, memory_order_acquire) : NULL;
}

VX_INLINE struct vx_network *vx_net_by_vni(struct vx_tables *tables, uint32_t vni)
{
	uint64_t value = vx_table_number(&tables->vnis, vni);

	return value ? vx_net_get(tables, vx_value_id(value)) : NULL;
}

VX_INLINE struct vx_vtep *vx_net_vtep_by_address(struct vx_tables *tables, const uint8_t *address)
{
	uint64_t value = vx_table_address(&tables->addresses, address);

	return value ? vx_net_vtep(tables, vx_value_id(value)) : NULL;
}

/** vx_net_member_flags() - VX_MEMBER and VX_MEMBER_* of a VTEP in a network, 0 if it is no member */
VX_INLINE uint32_t vx_net_member_flags(const struct vx_network *network, uint32_t vtep)
{
	return vx_flood_member(atomic_load_explicit(&network->members, memory_order_acquire), vtep);
}

#endif
