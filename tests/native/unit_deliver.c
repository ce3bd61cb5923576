/* unit_deliver.c - deliveries that fail, replication over several turns, events, and losses inside the kernel
 *
 * writev() and sendmmsg() are scripted by the linker's --wrap; the worker is opened but its thread never runs.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "check.h"
#include "scene.h"
#include "worker.h"

#define MANY 200

static int write_error;
static int send_error;
static unsigned written;
static unsigned copies_to[256];		/* by last byte of the outer address */

ssize_t __wrap_writev(int fd, const struct iovec *parts, int count);
ssize_t __wrap_writev(int fd, const struct iovec *parts, int count)
{
	ssize_t len = 0;

	(void)fd;
	errno = write_error;
	if (write_error)
		return -1;
	written++;
	for (int i = 0; i < count; i++)
		len += (ssize_t)parts[i].iov_len;
	return len;
}

int __wrap_sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags);
int __wrap_sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
	(void)fd;
	(void)flags;
	errno = send_error;
	if (send_error)
		return -1;
	for (unsigned i = 0; i < count; i++) {
		const struct sockaddr_in *to = messages[i].msg_hdr.msg_name;

		copies_to[ntohl(to->sin_addr.s_addr) & 0xff]++;
	}
	return (int)count;
}

struct stand {
	struct scene *scene;
	struct vx_bell bell;
	struct vx_ring ring;
	struct vx_worker worker;
};

static struct stand *set_up(void)
{
	static const uint8_t loopback[4] = { 127, 0, 0, 1 };
	struct stand *stand = aligned_alloc(64, (sizeof(*stand) + 63) / 64 * 64);
	vx_config config = { .data_port = 47891, .tx_sockets = 2, .receive_bytes = 4096 };
	struct vx_port *port;

	memset(stand, 0, sizeof(*stand));
	memset(copies_to, 0, sizeof(copies_to));
	write_error = send_error = 0;
	written = 0;
	vx_addr_map4(config.address, loopback);
	stand->scene = scene_new(false);
	stand->bell.fd = eventfd(0, EFD_NONBLOCK);
	vx_ring_init(&stand->ring, &stand->bell);
	stand->worker.tables = stand->scene->tables;
	stand->worker.ring = &stand->ring;
	EQUAL(vx_worker_open(&stand->worker, &config, false), 0);
	for (int id = stand->scene->a; id <= stand->scene->b; id++) {
		port = vx_net_port(stand->scene->tables, (uint32_t)id);
		port->fds[0] = open("/dev/null", O_RDWR | O_CLOEXEC);
		port->queues = 1;
	}
	return stand;
}

static void tear_down(struct stand *stand)
{
	vx_worker_close(&stand->worker);
	close(stand->bell.fd);
	scene_free(stand->scene);
	free(stand);
}

static void deliver(struct stand *stand)
{
	stand->worker.now_ns = stand->scene->now_ns;
	vx_deliver(&stand->worker, &stand->scene->frame, 1);
	vx_transmitter_flush(&stand->worker.transmitter, true);
}

static void send_local(struct stand *stand)
{
	struct packet packet = packet_between(MAC_A, 0x11, MAC_B, 0x12);

	REASON(from_port(stand->scene, stand->scene->a, put_packet(tap_room(stand->scene), &packet, 4)), VX_OK);
	deliver(stand);
}

static void send_broadcast(struct stand *stand)
{
	struct packet packet = packet_between(MAC_A, 0x11, 0xffffffffffff, 0xff);

	REASON(from_port(stand->scene, stand->scene->a, put_packet(tap_room(stand->scene), &packet, 4)), VX_OK);
	deliver(stand);
}

static uint64_t dropped(const struct stand *stand, int port, enum vx_reason reason)
{
	return stand->worker.stats.ports[port].drops[reason];
}

static int next_event(struct stand *stand)
{
	vx_event event = { 0 };

	return vx_ring_pop(&stand->ring, &event, 1) ? event.kind : 0;
}

static void each_write_error_counts_against_the_receiver(void)
{
	static const struct {
		int error;
		enum vx_reason reason;
		bool gone;
	} cases[] = {
		{ EAGAIN, VX_RING_FULL, false }, { ENOBUFS, VX_RING_FULL, false }, { EIO, VX_TAP_DOWN, false },
		{ EINVAL, VX_HDR_TRUNC, false }, { EBADFD, VX_TAP_DOWN, true },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct stand *stand = set_up();
		struct vx_port *port = vx_net_port(stand->scene->tables, (uint32_t)stand->scene->b);

		send_local(stand);
		EQUAL(stand->worker.stats.ports[stand->scene->b].out_frames, 1);
		write_error = cases[i].error;
		send_local(stand);
		send_local(stand);
		EQUAL(dropped(stand, stand->scene->b, cases[i].reason), 2);
		EQUAL(stand->worker.stats.engine->drops[cases[i].reason], 2);
		EQUAL(port->state, cases[i].gone ? VX_PORT_PARKED : VX_PORT_UP);
		EQUAL(next_event(stand), cases[i].gone ? VX_EVENT_PORT_GONE : 0);
		EQUAL(next_event(stand), 0);
		write_error = 0;
		send_local(stand);
		EQUAL(stand->worker.stats.ports[stand->scene->b].out_frames, cases[i].gone ? 1 : 2);
		tear_down(stand);
	}
}

static void a_false_offload_that_the_tap_refuses_is_gso_invalid(void)
{
	struct stand *stand = set_up();

	write_error = EINVAL;
	stand->scene->frame.vnet = (struct vx_vnet){ .flags = VX_VNET_NEEDS_CSUM, .csum_start = 34, .csum_offset = 6 };
	send_local(stand);
	EQUAL(dropped(stand, stand->scene->b, VX_GSO_INVALID), 1);
	tear_down(stand);
}

/** add_many() - VTEPs 10.89.0.5 and on, all members */
static void add_many(struct stand *stand)
{
	static vx_member members[MANY];
	uint8_t address[16], ipv4[4] = { 10, 89, 0, 0 };

	for (unsigned i = 0; i < MANY; i++) {
		ipv4[3] = (uint8_t)(5 + i);
		vx_addr_map4(address, ipv4);
		members[i].vtep = (uint32_t)vx_net_vtep_add(stand->scene->tables, address, 4789, 0);
		members[i].flags = VX_MEMBER_FLOOD;
	}
	EQUAL(vx_net_vteps(stand->scene->tables, (uint32_t)stand->scene->net, members, MANY), 0);
}

static void a_replication_goes_on_over_turns_and_reaches_each_once(void)
{
	struct stand *stand = set_up();
	unsigned turns = 1;

	add_many(stand);
	send_broadcast(stand);
	EQUAL(written, 1);
	EQUAL(stand->worker.jobs_active, 1);
	memset(stand->scene->buffer, 0xaa, sizeof(stand->scene->buffer));	/* the job has a copy */
	for (; stand->worker.jobs_active; turns++)
		vx_deliver_jobs(&stand->worker);
	CHECK(turns >= MANY / VX_TURN_COPIES);
	for (unsigned i = 0; i < MANY; i++)
		EQUAL(copies_to[5 + i], 1);
	EQUAL(stand->worker.stats.ports[stand->scene->a].flooded, MANY + 1);
	EQUAL(written, 1);
	tear_down(stand);
}

static void a_replication_survives_its_network(void)
{
	struct stand *stand = set_up();
	uint32_t net = (uint32_t)stand->scene->net;

	add_many(stand);
	send_broadcast(stand);
	EQUAL(stand->worker.jobs_active, 1);
	EQUAL(vx_net_port_del(stand->scene->tables, (uint32_t)stand->scene->a), 0);
	EQUAL(vx_net_port_del(stand->scene->tables, (uint32_t)stand->scene->b), 0);
	EQUAL(vx_net_del(stand->scene->tables, net), 0);
	vx_qsbr_collect(&stand->scene->tables->qsbr);
	EQUAL(vx_net_add(stand->scene->tables, VNI + 1, MTU, 0), net);
	vx_deliver_jobs(&stand->worker);
	EQUAL(stand->worker.jobs_active, 0);
	EQUAL(stand->worker.stats.engine->drops[VX_SHUTDOWN], 1);
	EQUAL(stand->worker.stats.networks[net].drops[VX_SHUTDOWN], 0);		/* the successor lost nothing */
	tear_down(stand);
}

static void more_replications_than_jobs_are_counted(void)
{
	struct stand *stand = set_up();

	add_many(stand);
	for (unsigned i = 0; i < VX_FLOOD_JOBS; i++) {
		stand->scene->now_ns += 1000000000u;
		send_broadcast(stand);
	}
	EQUAL(dropped(stand, stand->scene->a, VX_RING_FULL), 0);
	stand->scene->now_ns += 1000000000u;
	send_broadcast(stand);
	EQUAL(dropped(stand, stand->scene->a, VX_RING_FULL), 1);
	stand->worker.running = false;
	tear_down(stand);
}

static void what_a_stopped_worker_holds_counts_as_shutdown(void)
{
	struct stand *stand = set_up();

	add_many(stand);
	EQUAL(vx_worker_start(&stand->worker), 0);
	vx_worker_stop(&stand->worker);
	EQUAL(stand->worker.stats.engine->drops[VX_SHUTDOWN], 0);
	send_broadcast(stand);
	EQUAL(stand->worker.jobs_active, 1);
	vx_worker_abandon(&stand->worker);
	EQUAL(stand->worker.stats.engine->drops[VX_SHUTDOWN], 1);
	tear_down(stand);
}

static void what_a_full_socket_never_took_counts_as_shutdown(void)
{
	struct stand *stand = set_up();
	struct packet packet = packet_between(MAC_A, 0x11, MAC_FAR, 0x21);

	REASON(from_port(stand->scene, stand->scene->a, put_packet(tap_room(stand->scene), &packet, 4)), VX_OK);
	send_error = EAGAIN;
	deliver(stand);
	CHECK(stand->worker.transmitter.blocked);
	vx_worker_abandon(&stand->worker);
	EQUAL(stand->worker.stats.vteps[stand->scene->member].drops[VX_SHUTDOWN], 1);
	EQUAL(stand->worker.stats.engine->drops[VX_SHUTDOWN], 1);
	tear_down(stand);
}

static void a_storm_of_misses_leaves_room_for_what_matters(void)
{
	struct stand *stand = set_up();
	vx_event event = { .kind = VX_EVENT_FDB_MISS, .time_ns = 1000000000u }, got[2];
	unsigned misses = 0;

	for (unsigned i = 0; i < 5000; i++)
		vx_ring_push(&stand->ring, &event);
	event.kind = VX_EVENT_PORT_GONE;
	vx_ring_push(&stand->ring, &event);
	for (; vx_ring_pop(&stand->ring, got, 1) && got[0].kind == VX_EVENT_FDB_MISS; misses++)
		;
	EQUAL(misses, VX_EVENT_BURST);
	EQUAL(got[0].kind, VX_EVENT_PORT_GONE);
	EQUAL(got[0].lost, 5000 - VX_EVENT_BURST);
	for (unsigned i = 0; i < VX_RING_SLOTS + 5; i++)
		vx_ring_push(&stand->ring, &event);
	EQUAL(stand->ring.lost, 5);
	tear_down(stand);
}

static void what_the_kernel_dropped_is_counted(void)
{
	struct stand *stand = set_up();
	struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_port = htons(47891), .sin_addr.s_addr = htonl(0x7f000001),
	};
	int voice = socket(AF_INET, SOCK_DGRAM, 0);
	uint32_t overflow = 0, total = 0;
	char payload[1000] = { 0 };
	int got, arrived = 0;

	for (unsigned i = 0; i < 200; i++)
		EQUAL(sendto(voice, payload, sizeof(payload), 0, (void *)&to, sizeof(to)), sizeof(payload));
	while ((got = vx_receiver_read(&stand->worker.receiver, &overflow)) > 0)
		arrived += got;
	EQUAL(got, -EAGAIN);
	CHECK(arrived < 200);
	sendto(voice, payload, sizeof(payload), 0, (void *)&to, sizeof(to));
	EQUAL(vx_receiver_read(&stand->worker.receiver, &total), 1);
	EQUAL(vx_receiver_next(&stand->worker.receiver, stand->worker.frames), 1);
	EQUAL(arrived + (int)total, 200);
	EQUAL(vx_mac(stand->worker.frames[0].data), 0);
	close(voice);
	tear_down(stand);
}

CASES(CASE(own_namespace), CASE(each_write_error_counts_against_the_receiver),
      CASE(a_false_offload_that_the_tap_refuses_is_gso_invalid),
      CASE(a_replication_goes_on_over_turns_and_reaches_each_once), CASE(a_replication_survives_its_network),
      CASE(more_replications_than_jobs_are_counted), CASE(what_a_stopped_worker_holds_counts_as_shutdown),
      CASE(what_a_full_socket_never_took_counts_as_shutdown),
      CASE(a_storm_of_misses_leaves_room_for_what_matters), CASE(what_the_kernel_dropped_is_counted))
