/* unit_deliver.c - deliveries that fail, replication over several turns, events, and losses inside the kernel
 *
 * The worker is opened (rig.c), but its thread runs only where a case starts it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <unistd.h>

#include "check.h"
#include "rig.h"

#define MANY 200

static int write_error;

static int fail(const struct write *write)
{
	(void)write;
	return write_error;
}

static struct rig *set_up(void)
{
	struct rig *rig = rig_new(VX_OFFLOAD_ALL);

	write_error = 0;
	rig->judge = fail;
	return rig;
}

static void send_broadcast(struct rig *rig)
{
	struct packet packet = packet_between(MAC_A, 0x11, 0xffffffffffff, 0xff);

	REASON(from_port(rig->scene, rig->scene->a, put_packet(tap_room(rig->scene), &packet, 4)), VX_OK);
	rig_deliver(rig);
}

static uint64_t dropped(const struct rig *rig, int port, enum vx_reason reason)
{
	return rig->worker.stats.ports[port].drops[reason];
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
		struct rig *rig = set_up();
		struct vx_port *port = vx_net_port(rig->scene->tables, (uint32_t)rig->scene->b);

		rig_send_local(rig);
		EQUAL(rig->worker.stats.ports[rig->scene->b].out_frames, 1);
		write_error = cases[i].error;
		rig_send_local(rig);
		rig_send_local(rig);
		EQUAL(dropped(rig, rig->scene->b, cases[i].reason), 2);
		EQUAL(rig->worker.stats.engine->drops[cases[i].reason], 2);
		EQUAL(port->state, cases[i].gone ? VX_PORT_PARKED : VX_PORT_UP);
		EQUAL(rig_next_event(rig), cases[i].gone ? VX_EVENT_PORT_GONE : 0);
		EQUAL(rig_next_event(rig), 0);
		write_error = 0;
		rig_send_local(rig);
		EQUAL(rig->worker.stats.ports[rig->scene->b].out_frames, cases[i].gone ? 1 : 2);
		rig_free(rig);
	}
}

static void a_false_offload_that_the_tap_refuses_is_gso_invalid(void)
{
	struct rig *rig = set_up();

	write_error = EINVAL;
	rig->scene->frame.vnet = (struct vx_vnet){ .flags = VX_VNET_NEEDS_CSUM, .csum_start = 34, .csum_offset = 6 };
	rig_send_local(rig);
	EQUAL(dropped(rig, rig->scene->b, VX_GSO_INVALID), 1);
	rig_free(rig);
}

/** add_many() - VTEPs 10.89.0.5 and on, all members */
static void add_many(struct rig *rig)
{
	static vx_member members[MANY];
	uint8_t address[16], ipv4[4] = { 10, 89, 0, 0 };

	for (unsigned i = 0; i < MANY; i++) {
		ipv4[3] = (uint8_t)(5 + i);
		vx_addr_map4(address, ipv4);
		members[i].vtep = (uint32_t)vx_net_vtep_add(rig->scene->tables, address, 4789, 0);
		members[i].flags = VX_MEMBER_FLOOD;
	}
	EQUAL(vx_net_vteps(rig->scene->tables, (uint32_t)rig->scene->net, members, MANY), 0);
}

static void a_replication_goes_on_over_turns_and_reaches_each_once(void)
{
	struct rig *rig = set_up();
	unsigned turns = 1, copies_to[256] = { 0 };

	add_many(rig);
	send_broadcast(rig);
	EQUAL(rig->writes, 1);
	EQUAL(rig->worker.jobs_active, 1);
	memset(rig->scene->buffer, 0xaa, sizeof(rig->scene->buffer));	/* the job has a copy */
	for (; rig->worker.jobs_active; turns++)
		vx_deliver_jobs(&rig->worker);
	CHECK(turns >= MANY / VX_TURN_COPIES);
	for (unsigned i = 0; i < sends.count; i++)
		copies_to[sends.datagram[i].to]++;
	for (unsigned i = 0; i < MANY; i++)
		EQUAL(copies_to[5 + i], 1);
	EQUAL(rig->worker.stats.ports[rig->scene->a].flooded, MANY + 1);
	EQUAL(rig->writes, 1);
	rig_free(rig);
}

static void a_replication_survives_its_network(void)
{
	struct rig *rig = set_up();
	uint32_t net = (uint32_t)rig->scene->net;

	add_many(rig);
	send_broadcast(rig);
	EQUAL(rig->worker.jobs_active, 1);
	EQUAL(vx_net_port_del(rig->scene->tables, (uint32_t)rig->scene->a), 0);
	EQUAL(vx_net_port_del(rig->scene->tables, (uint32_t)rig->scene->b), 0);
	EQUAL(vx_net_del(rig->scene->tables, net), 0);
	vx_qsbr_collect(&rig->scene->tables->qsbr);
	EQUAL(vx_net_add(rig->scene->tables, VNI, MTU, 0), net);
	vx_deliver_jobs(&rig->worker);
	EQUAL(rig->worker.jobs_active, 0);
	EQUAL(rig->worker.stats.engine->drops[VX_SHUTDOWN], 1);
	EQUAL(rig->worker.stats.networks[net].drops[VX_SHUTDOWN], 0);		/* the successor lost nothing */
	rig_free(rig);
}

static void more_replications_than_jobs_are_counted(void)
{
	struct rig *rig = set_up();

	add_many(rig);
	for (unsigned i = 0; i < VX_FLOOD_JOBS; i++) {
		rig->scene->now_ns += 1000000000u;
		send_broadcast(rig);
	}
	EQUAL(dropped(rig, rig->scene->a, VX_RING_FULL), 0);
	rig->scene->now_ns += 1000000000u;
	send_broadcast(rig);
	EQUAL(dropped(rig, rig->scene->a, VX_RING_FULL), 1);
	rig->worker.running = false;
	rig_free(rig);
}

static void what_a_stopped_worker_holds_counts_as_shutdown(void)
{
	struct rig *rig = set_up();

	add_many(rig);
	EQUAL(vx_worker_start(&rig->worker), 0);
	vx_worker_stop(&rig->worker);
	EQUAL(rig->worker.stats.engine->drops[VX_SHUTDOWN], 0);
	send_broadcast(rig);
	EQUAL(rig->worker.jobs_active, 1);
	vx_worker_abandon(&rig->worker);
	EQUAL(rig->worker.stats.engine->drops[VX_SHUTDOWN], 1);
	rig_free(rig);
}

static void what_a_full_socket_never_took_counts_as_shutdown(void)
{
	struct rig *rig = set_up();
	struct packet packet = packet_between(MAC_A, 0x11, MAC_FAR, 0x21);

	REASON(from_port(rig->scene, rig->scene->a, put_packet(tap_room(rig->scene), &packet, 4)), VX_OK);
	sends.step[0] = -EAGAIN;
	rig_deliver(rig);
	CHECK(rig->worker.transmitter.blocked);
	vx_worker_abandon(&rig->worker);
	EQUAL(rig->worker.stats.vteps[rig->scene->member].drops[VX_SHUTDOWN], 1);
	EQUAL(rig->worker.stats.engine->drops[VX_SHUTDOWN], 1);
	rig_free(rig);
}

static void a_storm_of_misses_leaves_room_for_what_matters(void)
{
	struct rig *rig = set_up();
	vx_event event = { .kind = VX_EVENT_FDB_MISS, .time_ns = 1000000000u }, got[2];
	unsigned misses = 0;

	for (unsigned i = 0; i < 5000; i++)
		vx_ring_push(&rig->ring, &event);
	event.kind = VX_EVENT_PORT_GONE;
	vx_ring_push(&rig->ring, &event);
	for (; vx_ring_pop(&rig->ring, got, 1) && got[0].kind == VX_EVENT_FDB_MISS; misses++)
		;
	EQUAL(misses, VX_EVENT_BURST);
	EQUAL(got[0].kind, VX_EVENT_PORT_GONE);
	EQUAL(got[0].lost, 5000 - VX_EVENT_BURST);
	for (unsigned i = 0; i < VX_RING_SLOTS + 5; i++)
		vx_ring_push(&rig->ring, &event);
	EQUAL(rig->ring.lost, 5);
	rig_free(rig);
}

static void what_the_kernel_dropped_is_counted(void)
{
	struct rig *rig = set_up();
	struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_port = htons(47891), .sin_addr.s_addr = htonl(0x7f000001),
	};
	int voice = socket(AF_INET, SOCK_DGRAM, 0);
	uint32_t overflow = 0, total = 0;
	char payload[1000] = { 0 };
	int got, arrived = 0;

	for (unsigned i = 0; i < 200; i++)
		EQUAL(sendto(voice, payload, sizeof(payload), 0, (void *)&to, sizeof(to)), sizeof(payload));
	while ((got = vx_receiver_read(&rig->worker.receiver, &overflow)) > 0)
		arrived += got;
	EQUAL(got, -EAGAIN);
	CHECK(arrived < 200);
	sendto(voice, payload, sizeof(payload), 0, (void *)&to, sizeof(to));
	EQUAL(vx_receiver_read(&rig->worker.receiver, &total), 1);
	EQUAL(vx_receiver_next(&rig->worker.receiver, rig->worker.frames), 1);
	EQUAL(arrived + (int)total, 200);
	EQUAL(vx_mac(rig->worker.frames[0].data), 0);
	close(voice);
	rig_free(rig);
}

CASES(CASE(own_namespace), CASE(each_write_error_counts_against_the_receiver),
      CASE(a_false_offload_that_the_tap_refuses_is_gso_invalid),
      CASE(a_replication_goes_on_over_turns_and_reaches_each_once), CASE(a_replication_survives_its_network),
      CASE(more_replications_than_jobs_are_counted), CASE(what_a_stopped_worker_holds_counts_as_shutdown),
      CASE(what_a_full_socket_never_took_counts_as_shutdown),
      CASE(a_storm_of_misses_leaves_room_for_what_matters), CASE(what_the_kernel_dropped_is_counted))
