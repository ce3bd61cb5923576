/* rig.c - a worker over the scene: its writes to TAPs and its sends are scripted and recorded
 *
 * writev() is caught by the linker's --wrap and told apart by descriptor: each port has one of its own. Sends are
 * those of sends.c. The worker is opened, but its thread runs only where a test starts it.
 */
#define _GNU_SOURCE
#include "rig.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "check.h"
#include "vxlan.h"

#define ROOM	(4u << 20)

static struct rig *now;

ssize_t __wrap_writev(int fd, const struct iovec *parts, int count);
ssize_t __wrap_writev(int fd, const struct iovec *parts, int count)
{
	struct write *write = &now->write[now->writes];
	uint32_t len = 0;

	CHECK(now->writes < RIG_WRITES);
	*write = (struct write){ .port = -1, .has_vnet = parts[0].iov_len == VX_VNET_LEN };
	write->pieces = (unsigned)count - 1;
	for (int id = now->scene->a; id <= now->scene->b; id++)
		if (vx_net_port(now->scene->tables, (uint32_t)id)->fds[0] == fd)
			write->port = id;
	CHECK(write->has_vnet || !parts[0].iov_len);
	memcpy(write->vnet, parts[0].iov_base, parts[0].iov_len);
	for (int i = 1; i < count; i++)
		write->len += (uint32_t)parts[i].iov_len;
	now->attempts++;
	errno = now->judge ? now->judge(write) : 0;
	if (errno)
		return -1;
	write->data = malloc(write->len);
	for (int i = 1; i < count; i++) {
		memcpy(write->data + len, parts[i].iov_base, parts[i].iov_len);
		len += (uint32_t)parts[i].iov_len;
	}
	now->writes++;
	return (ssize_t)(len + parts[0].iov_len);
}

struct rig *rig_new(uint32_t offloads)
{
	static const uint8_t loopback[4] = { 127, 0, 0, 1 };
	struct rig *rig = aligned_alloc(64, (sizeof(*rig) + 63) / 64 * 64);
	vx_config config = { .data_port = 47891, .tx_sockets = 2, .receive_bytes = 4096 };

	memset(rig, 0, sizeof(*rig));
	sends_reset();
	now = rig;
	vx_addr_map4(config.address, loopback);
	rig->room = malloc(ROOM);
	rig->scene = scene_new(false);
	atomic_store(&rig->scene->tables->offloads, offloads);
	rig->bell.fd = eventfd(0, EFD_NONBLOCK);
	vx_ring_init(&rig->ring, &rig->bell);
	rig->worker.tables = rig->scene->tables;
	rig->worker.ring = &rig->ring;
	EQUAL(vx_worker_open(&rig->worker, &config, false), 0);
	for (int id = rig->scene->a; id <= rig->scene->b; id++) {
		struct vx_port *port = vx_net_port(rig->scene->tables, (uint32_t)id);

		port->fds[0] = open("/dev/null", O_RDWR | O_CLOEXEC);
		port->queues = 1;
	}
	return rig;
}

void rig_free(struct rig *rig)
{
	vx_worker_close(&rig->worker);
	close(rig->bell.fd);
	scene_free(rig->scene);
	for (unsigned i = 0; i < rig->writes; i++)
		free(rig->write[i].data);
	free(rig->room);
	free(rig);
}

/** rig_deliver() - Deliver the frame that the scene has decided about, as the turn of a TAP does */
void rig_deliver(struct rig *rig)
{
	rig->worker.now_ns = rig->scene->now_ns;
	vx_deliver(&rig->worker, &rig->scene->frame, 1);
	vx_transmitter_flush(&rig->worker.transmitter, true);
}

/** rig_send_local() - 100 bytes of UDP from port A to port B */
void rig_send_local(struct rig *rig)
{
	struct packet packet = packet_between(MAC_A, 0x11, MAC_B, 0x12);

	REASON(from_port(rig->scene, rig->scene->a, put_packet(tap_room(rig->scene), &packet, 4)), VX_OK);
	rig_deliver(rig);
}

/** rig_flow() - A flow from behind the member VTEP to port B, whose segments the coalescer may merge */
struct flow rig_flow(bool tcp, unsigned version, uint32_t len, uint32_t size)
{
	struct flow flow = flow_plain(tcp, version, len, size);

	vx_mac_put(flow.random, MAC_B);
	vx_mac_put(flow.random + 6, MAC_FAR);
	flow.tos = 0;
	flow.tcp_flags = 0x010;		/* ACK */
	return flow;
}

/** rig_arrives() - Decide about a frame from the member VTEP and deliver it. Its bytes stay till the rig ends */
enum vx_reason rig_arrives(struct rig *rig, const uint8_t *inner, uint32_t len, uint16_t train)
{
	static const uint8_t member[4] = { 10, 89, 0, 2 };
	struct vx_frame *frame = &rig->scene->frame;

	CHECK(rig->used + VX_HEADROOM + VX_VXLAN_LEN + len <= ROOM);
	*frame = (struct vx_frame){
		.data = rig->room + rig->used + VX_HEADROOM, .len = len + VX_VXLAN_LEN,
		.spare = rig->scene->spare + VX_HEADROOM, .train = train, .from = VX_AT_VTEP, .from_id = VX_NONE,
	};
	rig->used += VX_HEADROOM + frame->len;
	vx_addr_map4(frame->outer, member);
	vx_vxlan_put(frame->data, VNI);
	memcpy(frame->data + VX_VXLAN_LEN, inner, len);
	vx_switch(rig->scene->tables, frame, 1, (struct vx_when){ .now_ns = rig->scene->now_ns });
	rig->worker.now_ns = rig->scene->now_ns;
	vx_deliver(&rig->worker, frame, 1);
	return frame->reason;
}

/** rig_segments_arrive() - All segments of a flow, in order, in one receive batch that has not ended yet */
void rig_segments_arrive(struct rig *rig, const struct flow *flow)
{
	static uint8_t frame[FLOW_ROOM];

	for (uint32_t i = 0; i < flow_segments(flow); i++)
		REASON(rig_arrives(rig, frame, flow_segment(frame, flow, i), 0), VX_OK);
}

/** rig_datagram_arrives() - As rig_segments_arrive(), in one datagram: those that can follow the first do so */
void rig_datagram_arrives(struct rig *rig, const struct flow *flow)
{
	static uint8_t segment[FLOW_ROOM];
	struct vx_frame first;
	uint32_t i, len;
	uint8_t *next;

	REASON(rig_arrives(rig, segment, flow_segment(segment, flow, 0), 0), VX_OK);
	first = rig->scene->frame;
	next = first.data + first.len;
	for (i = 1; (len = flow_segment(segment, flow, i)) == first.len && i + 1 < flow_segments(flow); i++) {
		CHECK(rig->used + VX_VXLAN_LEN + len <= ROOM);
		vx_vxlan_put(rig->room + rig->used, VNI);
		memcpy(rig->room + rig->used + VX_VXLAN_LEN, segment, len);
		rig->used += VX_VXLAN_LEN + len;
	}
	EQUAL(vx_deliver_followers(&rig->worker, &first, next, i - 1), i - 1);
	for (; i < flow_segments(flow); i++)
		REASON(rig_arrives(rig, segment, flow_segment(segment, flow, i), 0), VX_OK);
}

void rig_batch_ends(struct rig *rig)
{
	vx_gro_flush(rig->worker.gro);
}

const vx_counters *rig_port(const struct rig *rig, int port)
{
	return &rig->worker.stats.ports[port];
}

const vx_counters *rig_vtep(const struct rig *rig, int vtep)
{
	return &rig->worker.stats.vteps[vtep];
}

/** rig_next_event() - Kind of the next event, 0 if there is none */
int rig_next_event(struct rig *rig)
{
	vx_event event = { 0 };

	return vx_ring_pop(&rig->ring, &event, 1) ? event.kind : 0;
}
