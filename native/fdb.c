/* fdb.c - where a MAC is, by record
 *
 * How it works
 *   One hash table per network. A value names a port or a VTEP by index and carries that target's generation;
 *   a lookup compares it with the target that has the index now. So when a port goes and its index is reused
 *   before the records follow, an old value finds nobody rather than the wrong one.
 *
 * The look-up itself is in fdb.h: inline, for every frame makes one or two.
 *
 * What frames teach (soft.c) is not here: this is a function of the record set.
 */
#include "fdb.h"

#include <errno.h>

/** vx_fdb_record() - Set a record. Return: 0, -ENOENT if there is no such target, -EINVAL, -ENOMEM, -ENOSPC */
int vx_fdb_record(struct vx_network *network, uint64_t mac, struct vx_place place)
{
	uint32_t generation;
	int error;

	if (place.kind == VX_AT_PORT) {
		const struct vx_port *port = vx_net_port(network->tables, place.id);

		if (!port || port->network != network)
			return -ENOENT;
		generation = port->generation;
	} else if (place.kind == VX_AT_VTEP) {
		const struct vx_vtep *vtep = vx_net_vtep(network->tables, place.id);

		if (!vtep)
			return -ENOENT;
		generation = vtep->generation;
	} else {
		return -EINVAL;
	}
	error = vx_table_set(&network->fdb, vx_key_number(mac), vx_value(place.kind, place.id, generation));
	if (!error) {
		atomic_thread_fence(memory_order_seq_cst);	/* guard.c, give_way() */
		vx_soft_forget(&network->soft, mac, 0, vx_net_soft_count, network->tables);
	}
	return error;
}

int vx_fdb_erase(struct vx_network *network, uint64_t mac)
{
	return vx_table_del(&network->fdb, vx_key_number(mac)) ? 0 : -ENOENT;
}

/** vx_fdb_next() - Walk the records whose targets exist. Return: false at the end */
bool vx_fdb_next(const struct vx_network *network, uint64_t *cursor, vx_fdb_entry *entry)
{
	struct vx_key key;

	while (vx_table_next(&network->fdb, cursor, &key)) {
		struct vx_place place = vx_fdb_find(network, key.word[0]);

		if (!place.kind)
			continue;
		vx_mac_put(entry->mac, key.word[0]);
		entry->kind = (uint16_t)place.kind;
		entry->id = place.id;
		return true;
	}
	return false;
}
