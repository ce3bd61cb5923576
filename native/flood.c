/* flood.c - who gets a frame that everyone gets: broadcast, multicast, and what foreign VTEPs are asked for
 *
 * How it works
 *   Two lists per network, local ports and VTEPs, each sorted by id and replaced as a whole by the writer. A
 *   replication that does not fit a turn is resumed by *id*, not by position: the next turn loads the list
 *   anew and goes on at the first id not yet served, so a list that changed in between costs nobody a second
 *   copy and needs no reference held across turns.
 */
#include "flood.h"

#include <errno.h>
#include <stdlib.h>

#include "net.h"

static void release(struct vx_retired *object)
{
	free(object);
}

static int by_vtep(const void *a, const void *b)
{
	uint32_t left = ((const vx_member *)a)->vtep, right = ((const vx_member *)b)->vtep;

	return left < right ? -1 : left > right;
}

/** first_at_least() - Position of the first member whose id is not below @vtep */
static uint32_t first_at_least(const struct vx_members *members, uint32_t vtep)
{
	uint32_t low = 0, high = members->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (members->member[middle].vtep < vtep)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/** vx_flood_list() - Make a list of members, sorted by id. Return: NULL without memory */
struct vx_members *vx_flood_list(const vx_member *members, uint32_t count)
{
	struct vx_members *list = calloc(1, sizeof(*list) + count * sizeof(vx_member));

	if (!list)
		return NULL;
	list->count = count;
	for (uint32_t i = 0; i < count; i++) {
		list->member[i] = members[i];
		list->flood += (members[i].flags & (VX_MEMBER_FLOOD | VX_MEMBER_FOREIGN)) != 0;
		list->foreign += (members[i].flags & VX_MEMBER_FOREIGN) != 0;
	}
	if (count)
		qsort(list->member, count, sizeof(vx_member), by_vtep);
	return list;
}

/** vx_flood_lists() - Whether a VTEP is in a list; NULL is an empty one */
bool vx_flood_lists(const struct vx_members *list, uint32_t vtep)
{
	uint32_t at = list ? first_at_least(list, vtep) : 0;

	return list && at < list->count && list->member[at].vtep == vtep;
}

/** vx_flood_set_members() - Replace the VTEPs of a network by a list that is the network's from now on, or by none */
void vx_flood_set_members(struct vx_network *network, struct vx_members *list)
{
	struct vx_members *old = atomic_load(&network->flood);

	atomic_store_explicit(&network->flood, list, memory_order_release);
	if (old)
		vx_qsbr_retire(&network->tables->qsbr, &old->retired, release);
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
	const struct vx_members *members = atomic_load_explicit(&network->flood, memory_order_acquire);
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

/** vx_flood_next_vtep() - Go through the VTEPs that a scope (VX_TO_*) asks for, like vx_flood_next_local() */
bool vx_flood_next_vtep(const struct vx_network *network, unsigned scope, uint32_t *next, uint32_t *vtep)
{
	const struct vx_members *members = atomic_load_explicit(&network->flood, memory_order_acquire);
	uint32_t wanted = (scope & VX_TO_MEMBERS ? VX_MEMBER_FLOOD | VX_MEMBER_FOREIGN : 0u) |
			  (scope & VX_TO_FOREIGN ? VX_MEMBER_FOREIGN : 0u);

	if (!members)
		return false;
	for (uint32_t i = first_at_least(members, *next); i < members->count; i++) {
		if (!(members->member[i].flags & wanted))
			continue;
		*vtep = members->member[i].vtep;
		*next = *vtep + 1;
		return true;
	}
	return false;
}
