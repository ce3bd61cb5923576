/* rig.h - a worker over the scene: its writes to TAPs and its sends are scripted and recorded; see rig.c */
#ifndef RIG_H
#define RIG_H

#include <sys/uio.h>

#include "flow.h"
#include "scene.h"
#include "sends.h"
#include "worker.h"

#define RIG_WRITES	256

/* One write to a TAP, as the kernel would see it */
struct write {
	int port;
	uint8_t vnet[VX_VNET_LEN];
	bool has_vnet;
	unsigned pieces;		/* behind the virtio header */
	uint8_t *data;
	uint32_t len;
};

struct rig {
	struct scene *scene;
	struct vx_bell bell;
	struct vx_ring ring;
	struct vx_worker worker;
	uint8_t *room;			/* frames from the tunnel, each in a place of its own */
	size_t used;
	struct write write[RIG_WRITES];	/* those that succeeded */
	unsigned writes;
	unsigned attempts;
	int (*judge)(const struct write *write);	/* if set: 0, or the errno that this write fails with */
};

struct rig *rig_new(uint32_t offloads);
void rig_free(struct rig *rig);
void rig_deliver(struct rig *rig);
void rig_send_local(struct rig *rig);
struct flow rig_flow(bool tcp, unsigned version, uint32_t len, uint32_t size);
enum vx_reason rig_arrives(struct rig *rig, const uint8_t *inner, uint32_t len, uint16_t train);
void rig_segments_arrive(struct rig *rig, const struct flow *flow);
void rig_datagram_arrives(struct rig *rig, const struct flow *flow);
void rig_batch_ends(struct rig *rig);
const vx_counters *rig_port(const struct rig *rig, int port);
const vx_counters *rig_vtep(const struct rig *rig, int vtep);
int rig_next_event(struct rig *rig);

#endif
