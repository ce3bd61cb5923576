/* unit_deliver.c - deliveries that fail, replication over several turns, events, and losses inside the kernel
 *
 * The worker is opened (rig.c), but its thread runs only where a case starts it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "check.h"
#include "rig.h"
#include "vxlan.h"

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

static vx_member members[MANY];

/** add_many() - VTEPs 10.89.0.5 and on, all members */
static void add_many(struct rig *rig)
{
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

/** fill_jobs() - Broadcast until no job is free */
static void fill_jobs(struct rig *rig)
{
	for (unsigned i = 0; i < VX_FLOOD_JOBS; i++) {
		rig->scene->now_ns += 1000000000u;
		send_broadcast(rig);
	}
	EQUAL(rig->worker.jobs_active, VX_FLOOD_JOBS);
}

static void without_a_free_job_a_ports_broadcast_reaches_everyone_at_once(void)
{
	struct rig *rig = set_up();

	add_many(rig);
	fill_jobs(rig);
	EQUAL(rig->worker.stats.ports[rig->scene->a].flooded, VX_FLOOD_JOBS * VX_TURN_COPIES);
	rig->scene->now_ns += 1000000000u;
	send_broadcast(rig);
	EQUAL(rig->worker.stats.ports[rig->scene->a].flooded, VX_FLOOD_JOBS * VX_TURN_COPIES + MANY + 1);
	EQUAL(sends.count, VX_FLOOD_JOBS * (VX_TURN_COPIES - 1) + MANY);
	EQUAL(rig->worker.stats.engine->drops[VX_RING_FULL], 0);
	rig_free(rig);
}

/** add_ports() - Ports of the scene's network, until there are more than a turn serves. Return: how many there are */
static unsigned add_ports(struct rig *rig)
{
	unsigned ports = 2;

	for (; ports < VX_TURN_COPIES + 6; ports++) {
		struct vx_port *port = calloc(1, sizeof(*port));

		port->mtu = MTU;
		CHECK(vx_net_port_add(rig->scene->tables, port, (uint32_t)rig->scene->net) >= 0);
		port->fds[0] = open("/dev/null", O_RDWR | O_CLOEXEC);
		port->queues = 1;
	}
	return ports;
}

/** broadcast_arrives() - A broadcast from the member, whose copies the TAPs refuse */
static void broadcast_arrives(struct rig *rig)
{
	static uint8_t inner[VX_FRAME_MAX];
	struct packet packet = packet_between(MAC_FAR, 0x21, 0xffffffffffff, 0xff);

	write_error = EIO;
	vx_net_vteps(rig->scene->tables, (uint32_t)rig->scene->net,
		     &(vx_member){ (uint32_t)rig->scene->member, VX_MEMBER_FLOOD }, 1);
	rig_arrives(rig, inner, put_packet(inner, &packet, 4), 0);
}

static void without_a_free_job_each_copy_of_the_tunnels_is_counted(void)
{
	struct rig *rig = set_up();
	unsigned ports;

	add_many(rig);
	fill_jobs(rig);
	ports = add_ports(rig);
	broadcast_arrives(rig);
	EQUAL(rig->worker.stats.engine->drops[VX_TAP_DOWN], VX_TURN_COPIES);
	EQUAL(rig->worker.stats.engine->drops[VX_RING_FULL], ports - VX_TURN_COPIES);
	EQUAL(dropped(rig, (int)ports - 1, VX_RING_FULL), 1);
	rig_free(rig);
}

/** other_network() - Another network with all those VTEPs and a port. Return: the port */
static int other_network(struct rig *rig)
{
	struct vx_port *port = calloc(1, sizeof(*port));
	int other = vx_net_add(rig->scene->tables, VNI + 1, MTU, 0), id;

	port->mac = MAC_A;
	port->mtu = MTU;
	port->flags = VX_PORT_ALLOW_SPOOF;
	id = vx_net_port_add(rig->scene->tables, port, (uint32_t)other);
	CHECK(other >= 0 && id >= 0);
	EQUAL(vx_net_vteps(rig->scene->tables, (uint32_t)other, members, MANY), 0);
	return id;
}

static void a_storm_of_the_tunnel_leaves_jobs_and_turns_to_other_networks(void)
{
	struct rig *rig = set_up();
	struct packet packet = packet_between(MAC_A, 0x11, 0xffffffffffff, 0xff);
	unsigned ports, turns = 0;
	int port;

	add_many(rig);
	port = other_network(rig);
	ports = add_ports(rig);
	for (unsigned i = 0; i < VX_FLOOD_JOBS_TUNNEL; i++)
		broadcast_arrives(rig);
	EQUAL(rig->worker.jobs_active, VX_FLOOD_JOBS_TUNNEL);
	EQUAL(rig->worker.stats.engine->drops[VX_RING_FULL], 0);
	broadcast_arrives(rig);
	EQUAL(rig->worker.jobs_active, VX_FLOOD_JOBS_TUNNEL);		/* TAPs are still read */
	EQUAL(rig->worker.stats.engine->drops[VX_RING_FULL], ports - VX_TURN_COPIES);
	REASON(from_port(rig->scene, port, put_packet(tap_room(rig->scene), &packet, 4)), VX_OK);
	rig_deliver(rig);
	EQUAL(rig->worker.jobs_active, VX_FLOOD_JOBS_TUNNEL + 1);
	while (rig->worker.stats.ports[port].flooded < MANY && ++turns < VX_FLOOD_JOBS)
		vx_deliver_jobs(&rig->worker);
	EQUAL(turns, MANY / VX_TURN_COPIES);				/* as many as without the storm */
	EQUAL(sends.count, MANY);
	rig_free(rig);
}

static void a_full_underlay_does_not_keep_the_turns_to_the_first_job(void)
{
	struct rig *rig = set_up();
	uint32_t begun;

	add_many(rig);
	for (unsigned i = 0; i < 3; i++) {
		rig->scene->now_ns += 1000000000u;
		send_broadcast(rig);
	}
	begun = rig->worker.jobs[0].next_vtep;
	for (unsigned turn = 0; turn < 3; turn++) {
		sends.step[sends.calls] = -EAGAIN;
		vx_deliver_jobs(&rig->worker);
		CHECK(rig->worker.transmitter.blocked);
		for (unsigned job = 0; job < 3; job++)
			EQUAL(rig->worker.jobs[job].next_vtep > begun, job <= turn);
		vx_transmitter_flush(&rig->worker.transmitter, true);
		CHECK(!rig->worker.transmitter.blocked);
	}
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
	EQUAL(rig->worker.stats.engine->drops[VX_SHUTDOWN], MANY + 1 - VX_TURN_COPIES);	/* each copy not made */
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

static int waiting_socket;
static _Atomic int waiting;		/* bytes not yet read when the first send was made; -1: none was */

static int look(const struct attempt *attempt)
{
	int left = 0;

	(void)attempt;
	if (atomic_load(&waiting) < 0) {
		EQUAL(ioctl(waiting_socket, SIOCOUTQ, &left), 0);
		atomic_store(&waiting, left);
	}
	return 0;
}

/** left_at_the_first_send() - How much of 8 frames with 800 bytes in segments of @size is not read, in percent */
static int left_at_the_first_send(uint16_t size)
{
	struct rig *rig = rig_new(VX_OFFLOAD_ALL);
	struct vx_port *port = vx_net_port(rig->scene->tables, (uint32_t)rig->scene->a);
	struct packet packet = packet_between(MAC_A, 0x11, MAC_FAR, 0x21);
	uint8_t *room = tap_room(rig->scene);
	uint8_t vnet[VX_VNET_LEN] = { 1, 1, 0, 0, (uint8_t)size, size >> 8, 34, 0, 16, 0 };
	int pair[2], all = 0;

	packet.protocol = 6;
	packet.len = 800;
	EQUAL(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	close(port->fds[0]);
	port->fds[0] = pair[0];
	waiting_socket = pair[1];
	atomic_store(&waiting, -1);
	sends.judge = look;
	for (unsigned i = 0; i < 8; i++) {
		uint32_t len = put_packet(room, &packet, 4);

		memcpy(room - VX_VNET_LEN, vnet, VX_VNET_LEN);
		EQUAL(write(pair[1], room - VX_VNET_LEN, VX_VNET_LEN + len), VX_VNET_LEN + len);
	}
	EQUAL(ioctl(pair[1], SIOCOUTQ, &all), 0);
	EQUAL(vx_worker_add_port(&rig->worker, port), 0);
	EQUAL(vx_worker_start(&rig->worker), 0);
	while (atomic_load(&waiting) < 0)
		sched_yield();
	vx_worker_stop(&rig->worker);
	close(pair[1]);
	rig_free(rig);
	return atomic_load(&waiting) * 100 / all;
}

/* 800 segments are work for as long as 800 small frames: whoever sends them gives way after each. */
static void tiny_segments_count_as_the_work_they_are(void)
{
	EQUAL(left_at_the_first_send(400), 0);
	CHECK(left_at_the_first_send(1) >= 80);
}

static struct vx_transmitter *full;
static _Atomic bool takes;
static _Atomic unsigned refused;

/** slow() - A full socket that takes something now and then, so that it is not given up, but nothing of ours */
static int slow(const struct attempt *attempt)
{
	(void)attempt;
	if (atomic_load(&takes))
		return 0;
	full->taken++;
	atomic_fetch_add(&refused, 1);
	return EAGAIN;
}

/** join_at_loopback() - Let 127.0.0.1 be a VTEP of the network, beside the one that MAC_FAR is behind */
static void join_at_loopback(struct rig *rig)
{
	static const uint8_t loopback[4] = { 127, 0, 0, 1 };
	uint8_t address[VX_ADDR_LEN];
	vx_member members[2] = { { .vtep = (uint32_t)rig->scene->member } };

	vx_addr_map4(address, loopback);
	members[1].vtep = (uint32_t)vx_net_vtep_add(rig->scene->tables, address, 4789, 0);
	EQUAL(vx_net_vteps(rig->scene->tables, (uint32_t)rig->scene->net, members, 2), 0);
}

static void tell_the_tunnel(uint64_t from)
{
	static uint8_t datagram[VX_VXLAN_LEN + 200];
	struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_port = htons(47891), .sin_addr.s_addr = htonl(0x7f000001),
	};
	struct packet packet = packet_between(from, 0x55, MAC_B, 0x12);
	uint32_t len = VX_VXLAN_LEN + put_packet(datagram + VX_VXLAN_LEN, &packet, 4);
	int voice = socket(AF_INET, SOCK_DGRAM, 0);

	vx_vxlan_put(datagram, VNI);
	EQUAL(sendto(voice, datagram, len, 0, (void *)&to, sizeof(to)), len);
	close(voice);
}

static void a_full_underlay_leaves_the_taps_alone_and_the_tunnel_is_served(void)
{
	struct rig *rig = set_up();
	struct vx_port *port = vx_net_port(rig->scene->tables, (uint32_t)rig->scene->a);
	struct packet packet = packet_between(MAC_A, 0x11, MAC_FAR, 0x21);
	uint8_t *frame = tap_room(rig->scene) - VX_VNET_LEN;
	uint32_t len = VX_VNET_LEN + put_packet(tap_room(rig->scene), &packet, 4);
	int pair[2], left = 0;

	join_at_loopback(rig);
	EQUAL(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	close(port->fds[0]);
	port->fds[0] = pair[0];
	full = &rig->worker.transmitter;
	sends.judge = slow;
	memset(frame, 0, VX_VNET_LEN);
	EQUAL(vx_worker_add_port(&rig->worker, port), 0);
	EQUAL(vx_worker_start(&rig->worker), 0);
	EQUAL(write(pair[1], frame, len), len);
	while (!atomic_load(&refused))
		sched_yield();
	EQUAL(write(pair[1], frame, len), len);
	for (unsigned i = 1; i <= 3; i++) {
		tell_the_tunnel(0x020000000050);
		while (__atomic_load_n(&rig->writes, __ATOMIC_ACQUIRE) < i)
			sched_yield();
	}
	EQUAL(ioctl(pair[1], SIOCOUTQ, &left), 0);
	CHECK(left);					/* the second frame waits where the first came from */
	atomic_store(&takes, true);
	while (left)
		EQUAL(ioctl(pair[1], SIOCOUTQ, &left), 0);
	vx_worker_stop(&rig->worker);
	EQUAL(rig->write[0].port, rig->scene->b);
	EQUAL(sends.count, 2);				/* the control: it goes on when the socket takes */
	EQUAL(rig->worker.stats.engine->drops[VX_SOCK_FULL], 0);
	close(pair[1]);
	rig_free(rig);
}

CASES(CASE(own_namespace), CASE(tiny_segments_count_as_the_work_they_are),
      CASE(a_full_underlay_leaves_the_taps_alone_and_the_tunnel_is_served),
      CASE(each_write_error_counts_against_the_receiver),
      CASE(a_false_offload_that_the_tap_refuses_is_gso_invalid),
      CASE(a_replication_goes_on_over_turns_and_reaches_each_once), CASE(a_replication_survives_its_network),
      CASE(without_a_free_job_a_ports_broadcast_reaches_everyone_at_once),
      CASE(without_a_free_job_each_copy_of_the_tunnels_is_counted),
      CASE(a_storm_of_the_tunnel_leaves_jobs_and_turns_to_other_networks),
      CASE(a_full_underlay_does_not_keep_the_turns_to_the_first_job),
      CASE(what_a_stopped_worker_holds_counts_as_shutdown),
      CASE(what_a_full_socket_never_took_counts_as_shutdown),
      CASE(a_storm_of_misses_leaves_room_for_what_matters), CASE(what_the_kernel_dropped_is_counted))
