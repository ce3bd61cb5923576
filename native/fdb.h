/* fdb.h - where a MAC is, by record; see fdb.c */
#ifndef VX_FDB_H
#define VX_FDB_H

#include "net.h"

/** struct vx_place - Where a MAC is */
struct vx_place {
	unsigned kind;		/* VX_AT_PORT, VX_AT_VTEP, 0: nowhere */
	uint32_t id;
};

int vx_fdb_record(struct vx_network *network, uint64_t mac, struct vx_place place);
int vx_fdb_erase(struct vx_network *network, uint64_t mac);
bool vx_fdb_next(const struct vx_network *network, uint64_t *cursor, vx_fdb_entry *entry);

/** vx_fdb_value() - What the record of a MAC says, 0 without one; good if its target still has that generation */
VX_INLINE uint64_t vx_fdb_value(const struct vx_network *network, uint64_t mac)
{
	return vx_table_number(&network->fdb, mac);
}

/** vx_fdb_find() - Where a MAC is, VX_AT_PORT or VX_AT_VTEP; kind 0 if no record says */
VX_INLINE struct vx_place vx_fdb_find(const struct vx_network *network, uint64_t mac)
{
	uint64_t value = vx_fdb_value(network, mac);
	struct vx_place place = { vx_value_kind(value), vx_value_id(value) };
	uint32_t generation;

	if (place.kind == VX_AT_PORT) {
		const struct vx_port *port = vx_net_port(network->tables, place.id);

		generation = port ? port->generation : VX_NONE;
	} else if (place.kind == VX_AT_VTEP) {
		const struct vx_vtep *vtep = vx_net_vtep(network->tables, place.id);

		generation = vtep ? vtep->generation : VX_NONE;
	} else {
		return (struct vx_place){ 0, VX_NONE };
	}
	if (generation != vx_value_generation(value))
		return (struct vx_place){ 0, VX_NONE };
	return place;
}

/** vx_fdb_expect() - A MAC will be asked for: have its record in the cache by then */
VX_INLINE void vx_fdb_expect(const struct vx_network *network, uint64_t mac)
{
	vx_table_expect(&network->fdb, vx_key_number(mac), VX_KEY_NUMBER);
}

#endif
