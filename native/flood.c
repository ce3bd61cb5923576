/* flood.c - who gets a frame that everyone gets: broadcast, multicast, and what foreign VTEPs are asked for
 *
 * How it works
 *   Two lists per network, local ports and VTEPs, each in the order of ids and replaced as a whole by the writer. A
 *   replication that does not fit a turn is resumed by *id*, not by position: the next turn loads the list
 *   anew and goes on at the first id not yet served, so a list that changed in between costs nobody a second
 *   copy and needs no reference held across turns.
 *
 *   Whether a VTEP is a member is asked for each frame that the tunnel brings. So that list is a byte for each id: ids
 *   are given out from 0 on, so few are nobody's, and a thousand networks of 5000 VTEPs take 5 MB.
 */
#include "flood.h"

#include <errno.h>
#include <stdlib.h>

#include "net.h"

#define WORD	8u	/* bytes that are skipped at once */

static void release(struct vx_retired *object)
{
	free(object);
}

/**
 * vx_flood_list() - Make a list of members
 * @members:	VTEPs that exist, in any order
 * @count:	How many
 * @list:	Where to put the list, the caller's to free()
 *
 * Return: 0, -EINVAL if one is named twice, -ENOMEM
 */
int vx_flood_list(const vx_member *members, uint32_t count, struct vx_members **list)
{
	uint32_t ids = 0;
	struct vx_members *made;

	for (uint32_t i = 0; i < count; i++)
		ids = ids > members[i].vtep ? ids : members[i].vtep + 1;
	made = calloc(1, sizeof(*made) + (ids + WORD - 1) / WORD * WORD);
	if (!made)
		return -ENOMEM;
	made->ids = ids;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t flags = members[i].flags & (VX_MEMBER_FLOOD | VX_MEMBER_FOREIGN);

		if (made->flags[members[i].vtep]) {
			free(made);
			return -EINVAL;
		}
		made->flags[members[i].vtep] = (uint8_t)(VX_MEMBER | flags);
		made->flood += flags != 0;
		made->foreign += (flags & VX_MEMBER_FOREIGN) != 0;
	}
	*list = made;
	return 0;
}

static void publish_locals(struct vx_network *network, struct vx_locals *list)
{
	struct vx_locals *old = atomic_load(&network->locals);

	atomic_store_explicit(&network->locals, list, memory_order_release);
	if (old)
		vx_qsbr_retire(&network->tables->qsbr, &old->retired, release);
}

int vx_flood_add_local(struct vx_network *network, uint32_t port)
{
	struct vx_locals *old = atomic_load(&network->locals);
	uint32_t count = old ? old->count : 0, at = 0;
	struct vx_locals *list = calloc(1, sizeof(*list) + (count + 1) * sizeof(uint32_t));

	if (!list)
		return -ENOMEM;
	while (at < count && old->port[at] < port) {
		list->port[at] = old->port[at];
		at++;
	}
	list->port[at] = port;
	for (; at < count; at++)
		list->port[at + 1] = old->port[at];
	list->count = count + 1;
	publish_locals(network, list);
	return 0;
}

int vx_flood_del_local(struct vx_network *network, uint32_t port)
{
	struct vx_locals *old = atomic_load(&network->locals);
	uint32_t count = old ? old->count : 0;
	struct vx_locals *list = calloc(1, sizeof(*list) + count * sizeof(uint32_t));

	if (!list)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++)
		if (old->port[i] != port)
			list->port[list->count++] = old->port[i];
	publish_locals(network, list);
	return 0;
}

/** vx_flood_copies() - How many copies a flood makes, as storm control counts them */
uint32_t vx_flood_copies(const struct vx_network *network, const struct vx_frame *frame)
{
	const struct vx_members *members = atomic_load_explicit(&network->members, memory_order_acquire);
	const struct vx_locals *locals = atomic_load_explicit(&network->locals, memory_order_acquire);
	uint32_t copies = 0;

	if ((frame->scope & VX_TO_LOCAL) && locals)
		copies += locals->count - (frame->from == VX_AT_PORT && locals->count ? 1 : 0);
	if ((frame->scope & VX_TO_MEMBERS) && members)
		copies += members->flood;
	else if ((frame->scope & VX_TO_FOREIGN) && members)
		copies += members->foreign;
	return copies;
}

/**
 * vx_flood_next_local() - Go through the local ports
 * @network:	Network
 * @from:	Port the frame came from, VX_NONE if it came from the tunnel
 * @next:	Lowest id not yet served, 0 to begin with
 * @port:	Where to put the port
 *
 * Return: false at the end
 */
bool vx_flood_next_local(const struct vx_network *network, uint32_t from, uint32_t *next, uint32_t *port)
{
	const struct vx_locals *locals = atomic_load_explicit(&network->locals, memory_order_acquire);

	for (uint32_t i = 0; locals && i < locals->count; i++) {
		if (locals->port[i] < *next || locals->port[i] == from)
			continue;
		*port = locals->port[i];
		*next = *port + 1;
		return true;
	}
	return false;
}

/** next_member() - The first member whose id is not below @vtep, list->ids if there is none */
static uint32_t next_member(const struct vx_members *list, uint32_t vtep)
{
	uint64_t word;

	while (vtep < list->ids && !list->flags[vtep]) {
		memcpy(&word, list->flags + vtep / WORD * WORD, WORD);
		vtep = word ? vtep + 1 : (vtep / WORD + 1) * WORD;
	}
	return vtep;
}

/** vx_flood_next_vtep() - Go through the VTEPs that a scope (VX_TO_*) asks for, like vx_flood_next_local() */
bool vx_flood_next_vtep(const struct vx_network *network, unsigned scope, uint32_t *next, uint32_t *vtep)
{
	const struct vx_members *members = atomic_load_explicit(&network->members, memory_order_acquire);
	uint32_t wanted = (scope & VX_TO_MEMBERS ? VX_MEMBER_FLOOD | VX_MEMBER_FOREIGN : 0u) |
			  (scope & VX_TO_FOREIGN ? VX_MEMBER_FOREIGN : 0u);

	if (!members)
		return false;
	for (uint32_t id = next_member(members, *next); id < members->ids; id = next_member(members, id + 1)) {
		if (!(members->flags[id] & wanted))
			continue;
		*vtep = id;
		*next = id + 1;
		return true;
	}
	return false;
}
