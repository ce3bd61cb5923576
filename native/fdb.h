/* fdb.h - where a MAC is, by record; see fdb.c */
#ifndef VX_FDB_H
#define VX_FDB_H

#include "net.h"

/** struct vx_place - Where a MAC is */
struct vx_place {
	unsigned kind;		/* VX_AT_PORT, VX_AT_VTEP, 0: nowhere */
	uint32_t id;
};

struct vx_place vx_fdb_find(const struct vx_network *network, uint64_t mac);
int vx_fdb_record(struct vx_network *network, uint64_t mac, struct vx_place place);
int vx_fdb_erase(struct vx_network *network, uint64_t mac);
bool vx_fdb_next(const struct vx_network *network, uint64_t *cursor, vx_fdb_entry *entry);

#endif
