/* decapsulate.c - the frames that the decision finds in datagrams: for comparison with a tool that nobody here wrote
 *
 * Reads a bundle (replay_bundle.c) of UDP payloads. Each VNI that comes up is a network; the sender is a foreign VTEP
 * of all of them. Writes per record: reason, one byte; length of the frame, 0 if the datagram is not taken apart,
 * four bytes in network order; the frame.
 */
#include <stdio.h>
#include <stdlib.h>

#include "scene.h"

static struct scene *scene;

/** know() - Make sure that the network which a datagram speaks of exists */
static void know(const uint8_t *datagram, uint32_t len)
{
	uint32_t vni = len < VX_VXLAN_LEN ? VNI : vx_get32(datagram + 4) >> 8;
	vx_member member = { (uint32_t)scene->foreign, VX_MEMBER_FLOOD | VX_MEMBER_FOREIGN };
	int id;

	if (vx_net_by_vni(scene->tables, vni))
		return;
	id = vx_net_add(scene->tables, vni, MTU, 0);
	if (id >= 0)
		vx_net_vteps(scene->tables, (uint32_t)id, &member, 1);
}

static void decapsulate(uint32_t len)
{
	uint8_t head[5];

	know(tap_room(scene), len);
	scene->frame = (struct vx_frame){
		.data = tap_room(scene), .len = len, .spare = scene->spare + VX_HEADROOM, .from = VX_AT_VTEP,
	};
	memcpy(scene->frame.outer, vx_net_vtep(scene->tables, (uint32_t)scene->foreign)->address, VX_ADDR_LEN);
	vx_switch(scene->tables, &scene->frame, 1, (struct vx_when){ .now_ns = scene->now_ns });
	head[0] = scene->frame.reason;
	len = scene->frame.notes & VX_NOTE_DECAPSULATED ? scene->frame.len : 0;
	vx_put32(head + 1, len);
	fwrite(head, 1, sizeof(head), stdout);
	fwrite(scene->frame.data, 1, len, stdout);
}

int main(int argc, char **argv)
{
	FILE *bundle = argc == 2 ? fopen(argv[1], "rb") : NULL;
	uint8_t header[4];

	if (!bundle)
		return 2;
	scene = scene_new(true);
	while (fread(header, 1, 4, bundle) == 4) {
		uint32_t size = vx_get32(header);

		if (size > VX_FRAME_MAX || fread(tap_room(scene), 1, size, bundle) != size)
			return 3;
		decapsulate(size);
	}
	fclose(bundle);
	scene_free(scene);
	return 0;
}
