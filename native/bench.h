/* bench.h - frames of a capture through the rooms of the fast path, in memory; see bench.c */
#ifndef VX_BENCH_H
#define VX_BENCH_H

#include "gro.h"
#include "net.h"

#define VX_BENCH_VNI	0x123456
#define VX_BENCH_MTU	65535	/* no frame of a capture is too big for it, and none is cut or answered for that */

#define VX_BENCH_STEP_NS	30000000000u /* between vectors: a flood to all VTEPs is paid for then (storm.c) */
#define VX_BENCH_BUFFER	((size_t)VX_HEADROOM + VX_FRAME_MAX)
#define VX_BENCH_LEN_MAX	(VX_ETH_LEN + VX_BENCH_MTU)

struct vx_burst;
struct vx_tx_socket;

/** struct vx_bench_item - A frame that every pass carries
 * @data:	Ethernet header, VX_HEADROOM writable bytes before it
 * @len:	Bytes from @data
 * @port:	Port that it comes from, or is to come out of, VX_NONE: it comes from the tunnel and goes where it may
 * @sender:	Index of the VTEP that it comes from when it comes from the tunnel
 */
struct vx_bench_item {
	uint8_t *data;
	uint32_t len;
	uint32_t port;
	uint32_t sender;
};

/** struct vx_bench_super - A super-frame, and where the segments that it is cut into begin in vx_bench.segment */
struct vx_bench_super {
	struct vx_frame frame;
	unsigned first;
};

/** struct vx_bench - Two hosts, and the frames that go between them
 * @host:	The sending host and the receiving one
 * @address:	Outer addresses of @config.vteps hosts
 * @kind:	VX_BENCH_* of what is loaded
 * @arena:	Memory of the frames, @arena_len of it in use
 * @item:	@items frames in it
 * @super:	@supers super-frames in it
 * @segment:	@segments frames that they are cut into; one with notes ends a receive batch, and copies says how many
 *		behind it in its train are as long
 * @guests:	Ports that a mix added, and
 * @strangers:	MACs that it put elsewhere
 * @sum:	What a pass adds up of its verdicts, by operation; 0 before the first one
 * @spare:	VX_BATCH times what a frame's spare needs
 * @ring:	VX_BATCH buffers like the worker's, of VX_BENCH_BUFFER, that frames are copied to
 * @spent_ns:	What passes took, by the clock that each reads itself
 */
struct vx_bench {
	vx_bench_config config;
	struct vx_tables *host[2];
	uint8_t (*address)[VX_ADDR_LEN];
	int kind;
	uint8_t *arena;
	size_t arena_len;
	size_t arena_max;
	struct vx_bench_item *item;
	unsigned items;
	struct vx_bench_super *super;
	unsigned supers;
	struct vx_frame *segment;
	unsigned segments;
	unsigned guests;
	unsigned strangers;
	uint64_t sum[VX_BENCH_OPERATIONS];
	struct vx_gro *gro;		/* empty between passes, and adds up to @merged what it emits */
	uint64_t merged;
	struct vx_burst *burst;
	struct vx_tx_socket *queue;
	uint8_t *spare;
	uint8_t *ring;
	uint64_t spent_ns;
	uint64_t now_ns;
	uint64_t random;
};

#define VX_BENCH_SENDER		0	/* host[] */
#define VX_BENCH_RECEIVER	1

uint64_t vx_bench_mac(const struct vx_bench *bench, uint64_t number);
int vx_bench_add_port(struct vx_bench *bench, unsigned host, uint64_t mac);
struct vx_network *vx_bench_network(const struct vx_bench *bench, unsigned host);
void vx_bench_unload(struct vx_bench *bench);

void vx_bench_fill(const struct vx_bench *bench, struct vx_frame *frames, const struct vx_bench_item *items,
		   unsigned count, bool tunnel);
uint64_t vx_bench_clock(void);
vx_gro_emit vx_bench_take_train;
uint64_t vx_bench_merge(const struct vx_bench *bench, struct vx_gro *gro);
uint64_t vx_bench_pass(struct vx_bench *bench, int operation);

#endif
