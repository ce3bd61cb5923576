/* flood.h - who gets a frame that everyone gets; see flood.c */
#ifndef VX_FLOOD_H
#define VX_FLOOD_H

#include "qsbr.h"

/** struct vx_members - VTEPs of a network that floods go to, by id; replaced as a whole */
struct vx_members {
	struct vx_retired retired;
	uint32_t count;
	uint32_t flood;			/* how many have VX_MEMBER_FLOOD or VX_MEMBER_FOREIGN */
	uint32_t foreign;		/* how many have VX_MEMBER_FOREIGN */
	vx_member member[];
};

/** struct vx_locals - Ports of a network on this host, by id; replaced as a whole */
struct vx_locals {
	struct vx_retired retired;
	uint32_t count;
	uint32_t port[];
};

struct vx_network;
struct vx_frame;

struct vx_members *vx_flood_list(const vx_member *members, uint32_t count);
bool vx_flood_lists(const struct vx_members *list, uint32_t vtep);
void vx_flood_set_members(struct vx_network *network, struct vx_members *list);
int vx_flood_add_local(struct vx_network *network, uint32_t port);
int vx_flood_del_local(struct vx_network *network, uint32_t port);
uint32_t vx_flood_copies(const struct vx_network *network, const struct vx_frame *frame);
bool vx_flood_next_local(const struct vx_network *network, uint32_t from, uint32_t *next, uint32_t *port);
bool vx_flood_next_vtep(const struct vx_network *network, unsigned scope, uint32_t *next, uint32_t *vtep);

#endif
