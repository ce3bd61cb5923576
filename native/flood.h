/* flood.h - who gets a frame that everyone gets; see flood.c */
#ifndef VX_FLOOD_H
#define VX_FLOOD_H

#include "qsbr.h"

#define VX_MEMBER	0x80		/* beside VX_MEMBER_*: of every VTEP that is a member */

/** struct vx_members - VTEPs of a network; replaced as a whole */
struct vx_members {
	struct vx_retired retired;
	uint32_t ids;			/* 1 + the highest */
	uint32_t flood;			/* how many have VX_MEMBER_FLOOD or VX_MEMBER_FOREIGN */
	uint32_t foreign;		/* how many have VX_MEMBER_FOREIGN */
	uint8_t flags[];		/* by id: VX_MEMBER and VX_MEMBER_*, or 0; in whole words */
};

/** struct vx_locals - Ports of a network on this host, by id; replaced as a whole */
struct vx_locals {
	struct vx_retired retired;
	uint32_t count;
	uint32_t port[];
};

struct vx_network;
struct vx_frame;

int vx_flood_list(const vx_member *members, uint32_t count, struct vx_members **list);
int vx_flood_add_local(struct vx_network *network, uint32_t port);
int vx_flood_del_local(struct vx_network *network, uint32_t port);
uint32_t vx_flood_copies(const struct vx_network *network, const struct vx_frame *frame);
bool vx_flood_next_local(const struct vx_network *network, uint32_t from, uint32_t *next, uint32_t *port);
bool vx_flood_next_vtep(const struct vx_network *network, unsigned scope, uint32_t *next, uint32_t *vtep);

/** vx_flood_member() - VX_MEMBER and VX_MEMBER_* of a VTEP in a list, 0 if it is not in there; NULL is an empty one */
VX_INLINE uint32_t vx_flood_member(const struct vx_members *list, uint32_t vtep)
{
	return list && vtep < list->ids ? list->flags[vtep] : 0;
}

#endif
