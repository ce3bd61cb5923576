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

/** vx_fdb_find() - Where a MAC is, VX_AT_PORT or VX_AT_VTEP; kind 0 if no record says */
VX_INLINE struct vx_place vx_fdb_find(const struct vx_network *network, uint64_t mac)
{
	const struct vx_tables *tables = network->tables;
	uint64_t value = vx_table_number(&network->fdb, mac);
	struct vx_place place = { vx_value_kind(value), vx_value_id(value) };
	uint32_t generation;

	if (place.kind == VX_AT_PORT)
		generation = atomic_load_explicit(&tables->ports[place.id].generation, memory_order_acquire);
	else if (place.kind == VX_AT_VTEP)
		generation = atomic_load_explicit(&tables->vteps[place.id].generation, memory_order_acquire);
	else
		return (struct vx_place){ 0, VX_NONE };
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
