/* unit_local.c - frames to ports and VTEPs in whatever form those take: trains, the ladder, fragments, counters
 *
 * Expected bytes are those of flow.c, which writes every packet in the plainest way.
 */
#define _GNU_SOURCE
#include <errno.h>

#include "check.h"
#include "csum.h"
#include "rig.h"

#define NO_SUPER	(VX_OFFLOAD_ALL & ~(VX_OFFLOAD_TSO | VX_OFFLOAD_USO))

static uint8_t expected[FLOW_ROOM];

static unsigned gso_type_of(const struct write *write)
{
	return write->vnet[1];
}

static unsigned gso_size_of(const struct write *write)
{
	return write->vnet[4] | (unsigned)write->vnet[5] << 8;
}

static uint32_t total(const struct flow *flow)
{
	return flow->len + flow_segments(flow) * flow_headers(flow);
}

/** same_segments() - Whether writes from @first on are the flow's segments, one each, as they came */
static void same_segments(const struct rig *rig, unsigned first, const struct flow *flow)
{
	for (uint32_t i = 0; i < flow_segments(flow); i++) {
		const struct write *write = &rig->write[first + i];

		EQUAL(write->len, flow_segment(expected, flow, i));
		EQUAL(memcmp(write->data, expected, write->len), 0);
		EQUAL(gso_type_of(write), VX_GSO_NONE);
	}
}

/** delivered() - Whether port B got all of a flow, and the counters of both ends say so */
static void delivered(const struct rig *rig, const struct flow *flow)
{
	const vx_counters *port = rig_port(rig, rig->scene->b), *vtep = rig_vtep(rig, rig->scene->member);

	EQUAL(vtep->in_frames, flow_segments(flow));
	EQUAL(vtep->in_bytes, total(flow));
	EQUAL(vtep->decapsulated, flow_segments(flow));
	EQUAL(port->out_frames, flow_segments(flow));
	EQUAL(port->out_bytes, total(flow));
}

static void a_train_is_one_write_at_the_end_of_the_batch(void)
{
	static const unsigned types[2][2] = { { VX_GSO_UDP_L4, VX_GSO_UDP_L4 }, { VX_GSO_TCPV4, VX_GSO_TCPV6 } };

	for (unsigned tcp = 0; tcp < 2; tcp++)
		for (unsigned version = 4; version <= 6; version += 2) {
			struct rig *rig = rig_new(VX_OFFLOAD_ALL);
			struct flow flow = rig_flow(tcp, version, 10 * 1000, 1000);
			const struct write *write = &rig->write[0];

			rig_segments_arrive(rig, &flow);
			EQUAL(rig->writes, 0);
			rig_batch_ends(rig);
			EQUAL(rig->writes, 1);
			EQUAL(write->port, rig->scene->b);
			EQUAL(gso_type_of(write), types[tcp][version == 6]);
			EQUAL(gso_size_of(write), flow.size);
			EQUAL(write->len, flow_headers(&flow) + flow.len);
			EQUAL(memcmp(write->data + flow_headers(&flow), flow.payload, flow.len), 0);
			delivered(rig, &flow);
			rig_free(rig);
		}
}

/* What follows in a datagram is gathered: the same write in one piece. */
static void a_train_that_came_as_one_datagram_is_one_piece(void)
{
	for (unsigned tcp = 0; tcp < 2; tcp++)
		for (unsigned version = 4; version <= 6; version += 2) {
			struct rig *rig = rig_new(VX_OFFLOAD_ALL);
			struct flow flow = rig_flow(tcp, version, 9500, 1000);
			const struct write *write = rig->write;

			rig_segments_arrive(rig, &flow);
			rig_batch_ends(rig);
			rig_datagram_arrives(rig, &flow);
			rig_batch_ends(rig);
			EQUAL(rig->writes, 2);
			EQUAL(write[0].pieces, flow_segments(&flow));
			EQUAL(write[1].pieces, 1);
			EQUAL(write[1].len, write[0].len);
			EQUAL(memcmp(write[1].data, write[0].data, write[0].len), 0);
			EQUAL(memcmp(write[1].vnet, write[0].vnet, sizeof(write[0].vnet)), 0);
			rig_free(rig);
		}
}

static void what_is_sent_to_a_port_at_once_does_not_overtake_its_train(void)
{
	struct flow flow = rig_flow(true, 4, 3000, 1000);
	struct packet broadcast = packet_between(MAC_FAR, 0x21, 0xffffffffffff, 0xff);
	struct rig *rig = rig_new(VX_OFFLOAD_ALL);
	uint8_t frame[400];

	rig_segments_arrive(rig, &flow);
	rig_send_local(rig);
	EQUAL(rig->writes, 2);
	EQUAL(gso_type_of(&rig->write[0]), VX_GSO_TCPV4);
	EQUAL(gso_type_of(&rig->write[1]), VX_GSO_NONE);

	rig_segments_arrive(rig, &flow);
	REASON(rig_arrives(rig, frame, put_packet(frame, &broadcast, 4), 0), VX_OK);
	EQUAL(rig->writes, 5);
	EQUAL(rig->write[2].port, rig->scene->a);	/* no train there to wait for */
	EQUAL(rig->write[3].port, rig->scene->b);
	EQUAL(gso_type_of(&rig->write[3]), VX_GSO_TCPV4);
	EQUAL(gso_type_of(&rig->write[4]), VX_GSO_NONE);
	rig_batch_ends(rig);
	EQUAL(rig->writes, 5);
	rig_free(rig);
}

static int einval_for_super_frames(const struct write *write)
{
	return write->vnet[1] ? EINVAL : 0;
}

static void a_kernel_that_refuses_super_frames_gets_singles_from_then_on(void)
{
	for (unsigned i = 0; i < 4; i++) {
		bool tcp = i & 1, gathered = i & 2;
		struct rig *rig = rig_new(VX_OFFLOAD_ALL);
		struct flow flow = rig_flow(tcp, 4, 9500, 1000);
		uint32_t lost = tcp ? VX_OFFLOAD_TSO : VX_OFFLOAD_USO;

		rig->judge = einval_for_super_frames;
		(gathered ? rig_datagram_arrives : rig_segments_arrive)(rig, &flow);
		rig_batch_ends(rig);
		EQUAL(rig->attempts, 1 + flow_segments(&flow));
		EQUAL(rig->writes, flow_segments(&flow));
		same_segments(rig, 0, &flow);
		delivered(rig, &flow);
		EQUAL(rig->scene->tables->offloads, VX_OFFLOAD_ALL & ~lost);

		rig_segments_arrive(rig, &flow);
		rig_batch_ends(rig);
		EQUAL(rig->attempts, 1 + 2 * flow_segments(&flow));	/* it is not asked again */
		same_segments(rig, flow_segments(&flow), &flow);
		EQUAL(rig->worker.stats.engine->drops[VX_GSO_INVALID], 0);
		rig_free(rig);
	}
}

static int fault;

static int fail(const struct write *write)
{
	(void)write;
	return fault;
}

static void a_train_that_is_lost_counts_all_its_frames_under_one_reason(void)
{
	static const struct {
		int error;
		enum vx_reason reason;
		int event;
	} cases[] = {
		{ EAGAIN, VX_RING_FULL, 0 }, { ENOMEM, VX_RING_FULL, 0 }, { EIO, VX_TAP_DOWN, 0 },
		{ EBADFD, VX_TAP_DOWN, VX_EVENT_PORT_GONE },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct rig *rig = rig_new(VX_OFFLOAD_ALL);
		struct flow flow = rig_flow(true, 6, 10000, 1000);

		rig->judge = fail;
		fault = cases[i].error;
		rig_segments_arrive(rig, &flow);
		rig_batch_ends(rig);
		EQUAL(rig->attempts, 1);
		EQUAL(rig_port(rig, rig->scene->b)->drops[cases[i].reason], 10);
		EQUAL(rig_port(rig, rig->scene->b)->out_frames, 0);
		EQUAL(rig->worker.stats.engine->drops[cases[i].reason], 10);
		EQUAL(rig_next_event(rig), cases[i].event);
		EQUAL(rig->scene->tables->offloads, VX_OFFLOAD_ALL);
		rig_free(rig);
	}
}

static void a_port_that_goes_before_its_train_is_written_loses_it_as_tap_down(void)
{
	struct rig *rig = rig_new(VX_OFFLOAD_ALL);
	struct flow flow = rig_flow(true, 4, 5000, 1000);

	rig_segments_arrive(rig, &flow);
	EQUAL(vx_net_port_del(rig->scene->tables, (uint32_t)rig->scene->b), 0);
	rig_batch_ends(rig);
	EQUAL(rig->writes, 0);
	EQUAL(rig_port(rig, rig->scene->b)->drops[VX_TAP_DOWN], 5);
	rig_free(rig);
}

static void a_corrupt_segment_is_dropped_and_the_others_arrive(void)
{
	struct rig *rig = rig_new(VX_OFFLOAD_ALL);
	struct flow flow = rig_flow(true, 4, 5000, 1000);
	static uint8_t frame[FLOW_ROOM];
	uint32_t len;

	for (uint32_t i = 0; i < 5; i++) {
		len = flow_segment(frame, &flow, i);
		frame[len - 1] ^= i == 2;
		rig_arrives(rig, frame, len, 0);
	}
	rig_batch_ends(rig);
	EQUAL(rig->worker.stats.engine->drops[VX_CSUM], 1);
	EQUAL(rig_vtep(rig, rig->scene->member)->drops[VX_CSUM], 1);
	EQUAL(rig_vtep(rig, rig->scene->member)->in_frames, 5);
	EQUAL(rig_port(rig, rig->scene->b)->out_frames, 4);
	EQUAL(rig->writes, 2);
	EQUAL(memcmp(rig->write[0].data + flow_headers(&flow), flow.payload, 2000), 0);
	EQUAL(memcmp(rig->write[1].data + flow_headers(&flow), flow.payload + 3000, 2000), 0);
	rig_free(rig);
}

/** super() - A super-frame as a kernel vxlan device on this kernel hands it over. Return: its length */
static uint32_t super(const struct flow *flow, uint8_t *frame)
{
	struct vx_frame made = flow_super(frame, flow);

	return made.len;
}

static void a_super_frame_passes_whole_or_is_cut_where_taps_take_none(void)
{
	static uint8_t frame[FLOW_ROOM];

	for (unsigned tcp = 0; tcp < 2; tcp++)
		for (unsigned version = 4; version <= 6; version += 2) {
			uint32_t size = MTU - (version == 4 ? 20 : 40) - (tcp ? 20 : 8);
			struct flow flow = rig_flow(tcp, version, size * 20 - 7, size);
			uint32_t len = super(&flow, frame);
			struct rig *rig = rig_new(VX_OFFLOAD_ALL);

			REASON(rig_arrives(rig, frame, len, tcp ? 0 : (uint16_t)size), VX_OK);
			rig_batch_ends(rig);
			EQUAL(rig->writes, 1);
			EQUAL(gso_size_of(&rig->write[0]), size);
			EQUAL(rig->write[0].len, len);
			EQUAL(memcmp(rig->write[0].data, frame, len), 0);
			delivered(rig, &flow);
			rig_free(rig);

			for (unsigned rung = 0; rung < 2; rung++) {
				rig = rig_new(rung ? NO_SUPER : NO_SUPER & ~VX_OFFLOAD_VNET_HDR);
				REASON(rig_arrives(rig, frame, len, tcp ? 0 : (uint16_t)size), VX_OK);
				rig_batch_ends(rig);
				EQUAL(rig->writes, flow_segments(&flow));
				EQUAL(rig->write[0].has_vnet, rung);
				same_segments(rig, 0, &flow);
				delivered(rig, &flow);
				rig_free(rig);
			}
		}
}

static void an_unfinished_checksum_is_passed_on_or_finished_where_taps_take_none(void)
{
	for (unsigned vnet_hdr = 0; vnet_hdr < 2; vnet_hdr++) {
		struct rig *rig = rig_new(vnet_hdr ? VX_OFFLOAD_ALL : VX_OFFLOAD_ALL & ~VX_OFFLOAD_VNET_HDR);
		struct flow flow = rig_flow(true, 4, 1000, 1000);
		static uint8_t partial[FLOW_ROOM];
		uint32_t len = flow_segment(expected, &flow, 0);

		memcpy(partial, expected, len);
		vx_put16(partial + 50, vx_csum_fold(vx_csum_pseudo(partial + 14, 4, 6, len - 34)));
		rig->scene->tables->same_kernel = true;
		REASON(rig_arrives(rig, partial, len, 0), VX_OK);
		rig_batch_ends(rig);
		EQUAL(rig->writes, 1);
		EQUAL(rig->write[0].has_vnet, vnet_hdr);
		EQUAL(rig->write[0].vnet[0], vnet_hdr ? VX_VNET_NEEDS_CSUM : 0);
		EQUAL(memcmp(rig->write[0].data, vnet_hdr ? partial : expected, len), 0);
		rig_free(rig);
	}
}

/** A copy of a flood that is finished for one TAP must not be finished again for the next */
static void an_unfinished_checksum_of_a_flood_is_finished_once_for_all(void)
{
	for (unsigned padding = 0; padding < 8; padding += 7) {
		struct rig *rig = rig_new(VX_OFFLOAD_ALL & ~VX_OFFLOAD_VNET_HDR);
		struct flow flow = rig_flow(false, 4, 1001, 1001);
		static uint8_t partial[FLOW_ROOM];
		uint32_t len;

		len = flow_segment(expected, &flow, 0);
		vx_mac_put(expected, 0xffffffffffff);
		memset(expected + len, 0x5a, padding);		/* of Ethernet: under no checksum */
		memcpy(partial, expected, len + padding);
		vx_put16(partial + 40, vx_csum_fold(vx_csum_pseudo(partial + 14, 4, 17, len - 34)));
		rig->scene->tables->same_kernel = true;
		REASON(rig_arrives(rig, partial, len + padding, 0), VX_OK);
		EQUAL(rig->writes, 2);
		for (unsigned i = 0; i < 2; i++)
			EQUAL(memcmp(rig->write[i].data, expected, len), 0);
		rig_free(rig);
	}
}

static void frames_between_two_taps_keep_their_virtio_header(void)
{
	struct rig *rig = rig_new(VX_OFFLOAD_ALL);
	struct flow flow = flow_plain(true, 4, 20000, 1400);
	struct vx_vnet vnet;
	struct packet own = packet_between(MAC_A, 0x11, MAC_B, 0x12);

	vx_mac_put(flow.random, MAC_B);
	vx_mac_put(flow.random + 6, MAC_A);
	memcpy(flow.random + 16, own.source + 12, 4);
	memcpy(flow.random + 20, own.target + 12, 4);
	flow.tcp_flags = 0x099;
	vnet = flow_super(tap_room(rig->scene), &flow).vnet;
	rig->scene->frame.vnet = vnet;
	REASON(from_port(rig->scene, rig->scene->a, flow_headers(&flow) + flow.len), VX_OK);
	memcpy(expected, tap_room(rig->scene), flow_headers(&flow) + flow.len);
	rig_deliver(rig);
	EQUAL(rig->writes, 1);
	EQUAL(gso_type_of(&rig->write[0]), VX_GSO_TCPV4 | VX_GSO_ECN);
	EQUAL(gso_size_of(&rig->write[0]), 1400);
	EQUAL(rig->write[0].vnet[0], VX_VNET_NEEDS_CSUM);
	EQUAL(memcmp(rig->write[0].data, expected, rig->write[0].len), 0);
	EQUAL(rig_port(rig, rig->scene->a)->in_frames, 15);
	EQUAL(rig_port(rig, rig->scene->b)->out_frames, 15);
	EQUAL(rig_port(rig, rig->scene->b)->out_bytes, total(&flow));
	rig_free(rig);
}

/** from_a() - A packet without DF, or with, from port A to the far endpoint over a path of 1000 bytes */
static void from_a(struct rig *rig, bool df, const struct flow *flow)
{
	struct packet packet = packet_between(MAC_A, 0x11, MAC_FAR, 0x21);
	uint8_t *frame = tap_room(rig->scene);
	uint32_t len;

	atomic_store(&vx_net_vtep(rig->scene->tables, (uint32_t)rig->scene->member)->seat->path_mtu, 1000);
	packet.len = 1400;
	len = put_packet(frame, &packet, 4);
	if (flow) {
		struct flow own = *flow;

		vx_mac_put(own.random, MAC_FAR);
		vx_mac_put(own.random + 6, MAC_A);
		memcpy(own.random + 16, packet.source + 12, 4);
		memcpy(own.random + 20, packet.target + 12, 4);
		own.df = df ? 0x4000 : 0;
		rig->scene->frame.vnet = flow_super(frame, &own).vnet;
		len = flow_headers(&own) + own.len;
	} else if (!df) {
		vx_put16(frame + 20, 0);
		vx_put16(frame + 24, vx_csum_adjust(vx_get16(frame + 24), 0x4000, 0));
	}
	from_port(rig->scene, rig->scene->a, len);
	rig_deliver(rig);
}

static void a_packet_that_may_not_be_fragmented_is_answered_and_dropped(void)
{
	struct rig *rig = rig_new(VX_OFFLOAD_ALL);

	from_a(rig, true, NULL);
	EQUAL(sends.count, 0);
	EQUAL(rig_port(rig, rig->scene->a)->drops[VX_PKT_TOO_BIG], 1);
	EQUAL(rig->writes, 1);
	EQUAL(rig->write[0].port, rig->scene->a);
	EQUAL(vx_mac(rig->write[0].data), MAC_A);
	EQUAL(rig->write[0].data[23], 1);	/* ICMP */
	EQUAL(rig->write[0].data[34], 3);	/* destination unreachable: */
	EQUAL(rig->write[0].data[35], 4);	/* fragmentation needed */
	EQUAL(vx_get16(rig->write[0].data + 40), 1000 - 50);
	rig_free(rig);
}

/** fragments() - Check that datagrams from @first on are the fragments of @len bytes of payload. Return: how many */
static unsigned fragments(unsigned first, uint32_t len)
{
	uint32_t got = 0;
	unsigned n = 0;

	while (got < len) {
		const uint8_t *ip = sends.datagram[first + n].data + VX_VXLAN_LEN + VX_ETH_LEN;

		CHECK(first + n < sends.count);
		CHECK(sends.datagram[first + n].len <= 1000 - 28);
		EQUAL((vx_get16(ip + 6) & 0x1fff) * 8, got);
		got += vx_get16(ip + 2) - 20u;
		n++;
		EQUAL(!(vx_get16(ip + 6) & 0x2000), got == len);
	}
	EQUAL(got, len);
	return n;
}

static void a_packet_that_may_is_sent_in_fragments_from_one_socket(void)
{
	struct rig *rig = rig_new(VX_OFFLOAD_ALL);

	from_a(rig, false, NULL);
	EQUAL(fragments(0, 1408), 2);
	EQUAL(sends.count, 2);
	EQUAL(sends.datagram[0].fd, sends.datagram[1].fd);
	EQUAL(rig_vtep(rig, rig->scene->member)->out_frames, 2);
	EQUAL(rig->worker.stats.engine->drops[VX_PKT_TOO_BIG], 0);
	rig_free(rig);
}

static void each_segment_of_a_super_frame_is_fragmented(void)
{
	struct rig *rig = rig_new(VX_OFFLOAD_ALL);
	struct flow flow = flow_plain(false, 4, 40 * 1400, 1400);
	unsigned at = 0;

	from_a(rig, false, &flow);
	for (unsigned i = 0; i < 40; i++)
		at += fragments(at, 1408);
	EQUAL(sends.count, 80);
	EQUAL(at, 80);
	EQUAL(rig_vtep(rig, rig->scene->member)->out_frames, 80);
	EQUAL(rig_port(rig, rig->scene->a)->in_frames, 40);
	for (unsigned i = 0; i < 80; i++)
		EQUAL(sends.datagram[i].fd, sends.datagram[0].fd);
	rig_free(rig);
}

CASES(CASE(own_namespace), CASE(a_train_is_one_write_at_the_end_of_the_batch),
      CASE(a_train_that_came_as_one_datagram_is_one_piece),
      CASE(what_is_sent_to_a_port_at_once_does_not_overtake_its_train),
      CASE(a_kernel_that_refuses_super_frames_gets_singles_from_then_on),
      CASE(a_train_that_is_lost_counts_all_its_frames_under_one_reason),
      CASE(a_port_that_goes_before_its_train_is_written_loses_it_as_tap_down),
      CASE(a_corrupt_segment_is_dropped_and_the_others_arrive),
      CASE(a_super_frame_passes_whole_or_is_cut_where_taps_take_none),
      CASE(an_unfinished_checksum_is_passed_on_or_finished_where_taps_take_none),
      CASE(an_unfinished_checksum_of_a_flood_is_finished_once_for_all),
      CASE(frames_between_two_taps_keep_their_virtio_header),
      CASE(a_packet_that_may_not_be_fragmented_is_answered_and_dropped),
      CASE(a_packet_that_may_is_sent_in_fragments_from_one_socket),
      CASE(each_segment_of_a_super_frame_is_fragmented))
