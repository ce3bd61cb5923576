/* unit_transmit.c - what leaves together, in which order, and cut how; errors: unit_send_errors.c
 *
 * sendmmsg() and uname() are scripted by the linker's --wrap.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "check.h"
#include "sock.h"
#include "stand.h"

#define ALL	VX_OFFLOAD_ALL
#define NONE	(VX_OFFLOAD_ALL & ~VX_OFFLOAD_UDP_SEGMENT)
#define MSS	1386

static const char *release = "6.18.1-test";

int __wrap_uname(struct utsname *name);
int __wrap_uname(struct utsname *name)
{
	memset(name, 0, sizeof(*name));
	strncpy(name->release, release, sizeof(name->release) - 1);
	return 0;
}

static void equal_frames_leave_in_one_send(void)
{
	struct stand *stand = stand_new(ALL);
	struct vx_frame frames[5];
	int far = stand->scene->member;

	for (unsigned i = 0; i < 5; i++) {
		frames[i] = small_frame(stand, 100, i);
		CHECK(queue(stand, &frames[i], far));
	}
	EQUAL(sends.calls, 0);
	flush(stand);
	EQUAL(sends.calls, 1);
	EQUAL(sends.sends, 1);
	EQUAL(sends.count, 5);
	for (unsigned i = 0; i < 5; i++)
		same_datagrams(&frames[i], 0, i, 1);
	EQUAL(sends.datagram[0].to, 2);
	EQUAL(encapsulated(stand, far), 5);
	EQUAL(stand->stats.vteps[far].out_frames, 5);
	EQUAL(stand->stats.networks[stand->scene->net].out_bytes, 500);
	EQUAL(stand->transmitter.dirty, 0);
	stand_free(stand);
}

static void without_udp_segment_each_leaves_in_a_send_of_one_call(void)
{
	struct stand *stand = stand_new(NONE);
	struct vx_frame frames[3], large = super_frame(stand, 4, VX_PROTO_TCP, 20000, MSS);

	for (unsigned i = 0; i < 3; i++) {
		frames[i] = small_frame(stand, 100, i);
		queue(stand, &frames[i], stand->scene->member);
	}
	flush(stand);
	EQUAL(sends.calls, 1);
	EQUAL(sends.sends, 3);
	for (unsigned i = 0; i < 3; i++)
		same_datagrams(&frames[i], 0, i, 1);
	queue(stand, &large, stand->scene->member);
	flush(stand);
	EQUAL(sends.calls, 2);
	EQUAL(sends.sends, 3 + large.segments);
	same_datagrams(&large, 0, 3, large.segments);
	EQUAL(encapsulated(stand, stand->scene->member), 3 + large.segments);
	stand_free(stand);
}

/** sends_of() - How many sends a first frame and a second one, given their differences, leave in */
static unsigned sends_of(struct stand *stand, const struct vx_frame *first, const struct vx_frame *second, int vtep)
{
	unsigned before = sends.sends, at = sends.count;

	queue(stand, first, stand->scene->member);
	queue(stand, second, vtep);
	flush(stand);
	same_datagrams(first, 0, at, 1);
	same_datagrams(second, 0, at + 1, 1);
	return sends.sends - before;
}

static void only_frames_that_are_alike_leave_together(void)
{
	struct stand *stand = stand_new(ALL);
	struct vx_frame first = small_frame(stand, 100, 1), second = small_frame(stand, 100, 2), changed;
	struct vx_network *other;
	int far = stand->scene->member;

	EQUAL(sends_of(stand, &first, &second, far), 1);
	changed = second;
	changed.len = 99;		/* shorter: may be the last */
	EQUAL(sends_of(stand, &first, &changed, far), 1);
	changed.len = 101;
	EQUAL(sends_of(stand, &first, &changed, far), 2);
	changed = second;
	changed.outer_tos = 2;
	EQUAL(sends_of(stand, &first, &changed, far), 2);
	changed = second;
	changed.notes = VX_NOTE_ARP_ND;
	EQUAL(sends_of(stand, &first, &changed, far), 2);
	EQUAL(stand->stats.engine->arp_nd_underlay, 1);
	changed = second;
	changed.hash = 1u << 31;	/* another source port */
	EQUAL(sends_of(stand, &first, &changed, far), 2);
	EQUAL(sends_of(stand, &first, &second, stand->scene->second), 2);
	changed = second;
	other = vx_net_get(stand->scene->tables, (uint32_t)vx_net_add(stand->scene->tables, VNI + 1, MTU, 0));
	changed.network = other;
	EQUAL(sends_of(stand, &first, &changed, far), 2);
	EQUAL(stand->stats.networks[other->id].out_frames, 1);
	stand_free(stand);
}

static void a_shorter_frame_closes_a_run_and_none_overtakes(void)
{
	static const uint32_t lengths[] = { 200, 200, 150, 150, 100, 200, 200 };
	static const unsigned send_of[] = { 0, 0, 0, 1, 1, 2, 2 };
	struct stand *stand = stand_new(ALL);
	struct vx_frame frames[7];

	for (unsigned i = 0; i < 7; i++) {
		frames[i] = small_frame(stand, lengths[i], i);
		queue(stand, &frames[i], stand->scene->member);
	}
	flush(stand);
	EQUAL(sends.calls, 1);
	for (unsigned i = 0; i < 7; i++) {
		same_datagrams(&frames[i], 0, i, 1);
		EQUAL(sends.datagram[i].send, send_of[i]);
	}
	stand_free(stand);
}

static void a_send_holds_what_the_kernel_takes(void)
{
	struct stand *stand = stand_new(ALL);
	struct vx_frame small = small_frame(stand, 60, 1), large = small_frame(stand, 1464, 2);

	for (unsigned i = 0; i < 128; i++)
		queue(stand, &small, stand->scene->member);
	flush(stand);
	EQUAL(sends.sends, 1);
	for (unsigned i = 0; i < 60; i++)
		queue(stand, &large, stand->scene->member);
	flush(stand);
	EQUAL(sends.sends, 3);
	EQUAL(sends.datagram[128 + 43].send, 1);	/* 44 of 1472 bytes: research, and VX_SEND_BYTES */
	EQUAL(sends.datagram[128 + 44].send, 2);
	EQUAL(sends.count, 188);
	stand_free(stand);

	release = "6.1.0-32-amd64";
	stand = stand_new(ALL);
	small = small_frame(stand, 60, 1);
	for (unsigned i = 0; i < 128; i++)
		queue(stand, &small, stand->scene->member);
	flush(stand);
	EQUAL(sends.sends, 3);				/* 63 + 63 + 2 */
	EQUAL(sends.datagram[62].send, 0);
	EQUAL(sends.datagram[63].send, 1);
	EQUAL(sends.datagram[126].send, 2);
	stand_free(stand);
	release = "6.18.1-test";
}

static void the_outer_tos_and_the_segment_size_share_a_header(void)
{
	struct stand *stand = stand_new(ALL);
	struct vx_frame marked = super_frame(stand, 4, VX_PROTO_TCP, 5000, MSS), plain = small_frame(stand, 100, 1);

	marked.outer_tos = 0xb9;
	plain.outer_tos = 0xb8;		/* DSCP alone is not worth a cmsg: no ECN bits */
	queue(stand, &marked, stand->scene->member);
	queue(stand, &plain, stand->scene->member);
	flush(stand);
	same_datagrams(&marked, 0, 0, 4);
	for (unsigned i = 0; i < 4; i++) {
		EQUAL(sends.datagram[i].tos, 0xb9);
		EQUAL(sends.datagram[i].send, 0);
	}
	EQUAL(sends.datagram[4].tos, 0);
	stand_free(stand);
}

static void a_super_frame_is_cut_as_the_reference_cuts_it(void)
{
	static const struct {
		unsigned version;
		uint8_t protocol;
		uint32_t payload;
		uint16_t size;
		unsigned sends;
	} cases[] = {
		{ 4, VX_PROTO_TCP, 61000, MSS, 2 },	/* 45 of 1448 bytes: one too many */
		{ 6, VX_PROTO_TCP, 60001, 1366, 1 },	{ 4, VX_PROTO_UDP, 40000, 999, 1 },
		{ 6, VX_PROTO_UDP, 2001, 1000, 1 },	{ 4, VX_PROTO_TCP, 2, 1, 1 },
		{ 4, VX_PROTO_TCP, 50000, 48, 9 },	/* 1042 segments, 128 at a time */
		{ 4, VX_PROTO_UDP, 60000, 8900, 1 },	{ 6, VX_PROTO_TCP, 64000, 40000, 2 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct stand *stand = stand_new(ALL);
		struct vx_frame frame = super_frame(stand, cases[i].version, cases[i].protocol, cases[i].payload,
						    cases[i].size);
		uint64_t bytes = cases[i].payload + (uint64_t)frame.segments * frame.vnet.hdr_len;

		queue(stand, &frame, stand->scene->member);
		flush(stand);
		EQUAL(sends.count, frame.segments);
		same_datagrams(&frame, 0, 0, frame.segments);
		EQUAL(sends.sends, cases[i].sends);
		EQUAL(encapsulated(stand, stand->scene->member), frame.segments);
		EQUAL(stand->stats.engine->out_bytes, bytes);
		EQUAL(bytes, vx_wire_bytes(&frame));
		stand_free(stand);
	}
}

static void runs_and_super_frames_keep_their_order(void)
{
	struct stand *stand = stand_new(ALL);
	struct vx_frame a = small_frame(stand, 100, 1), b = super_frame(stand, 4, VX_PROTO_TCP, 3000, MSS);
	struct vx_frame c = super_frame(stand, 6, VX_PROTO_UDP, 3000, 1000), d = small_frame(stand, 100, 2);
	int far = stand->scene->member;

	queue(stand, &a, far);
	queue(stand, &a, far);
	queue(stand, &b, far);
	queue(stand, &c, stand->scene->second);
	queue(stand, &d, far);
	queue(stand, &d, far);
	flush(stand);
	same_datagrams(&a, 0, 0, 1);
	same_datagrams(&a, 0, 1, 1);
	same_datagrams(&b, 0, 2, 3);
	same_datagrams(&c, 0, 5, 3);
	same_datagrams(&d, 0, 8, 1);
	same_datagrams(&d, 0, 9, 1);
	EQUAL(sends.sends, 4);
	EQUAL(sends.datagram[2].to, 2);
	EQUAL(sends.datagram[5].to, 3);
	stand_free(stand);
}

static void more_than_a_queue_holds_leaves_in_between(void)
{
	struct stand *stand = stand_new(ALL);
	struct vx_frame run = small_frame(stand, 100, 1), large = super_frame(stand, 4, VX_PROTO_TCP, 2000, MSS);

	for (unsigned i = 0; i < VX_TX_QUEUE + 10; i++)
		queue(stand, &run, stand->scene->member);
	EQUAL(sends.count, VX_TX_QUEUE);
	flush(stand);
	EQUAL(sends.count, VX_TX_QUEUE + 10);
	for (unsigned i = 0; i < VX_TX_QUEUE + 10; i++)
		queue(stand, &large, stand->scene->member);
	EQUAL(sends.count, VX_TX_QUEUE + 10 + 2 * VX_TX_QUEUE);
	flush(stand);
	EQUAL(encapsulated(stand, stand->scene->member), 3 * (VX_TX_QUEUE + 10));
	stand_free(stand);
}

static void kernels_that_lose_segmented_sends_get_none(void)
{
	static const struct {
		const char *release;
		bool virtual;
		unsigned foreign_sends, member_sends;
	} cases[] = {
		{ "6.8.5", true, 1, 1 },	  { "6.8.4-arch1", true, 2, 1 }, { "6.8.4", false, 1, 1 },
		{ "6.1.0-32-amd64", true, 2, 1 }, { "6.9", true, 1, 1 },	 { "7.0.3", false, 2, 2 },
		{ "7.1.4-rc1", false, 2, 2 },	  { "7.1.5", true, 1, 1 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct stand *stand;
		struct vx_frame frame;

		release = cases[i].release;
		stand = stand_new(ALL);
		frame = small_frame(stand, 100, 1);
		stand->scene->tables->same_kernel = cases[i].virtual;
		queue(stand, &frame, stand->scene->foreign);
		queue(stand, &frame, stand->scene->foreign);
		flush(stand);
		EQUAL(sends.sends, cases[i].foreign_sends);
		queue(stand, &frame, stand->scene->member);
		queue(stand, &frame, stand->scene->member);
		flush(stand);
		EQUAL(sends.sends, cases[i].foreign_sends + cases[i].member_sends);
		EQUAL(sends.count, 4);
		EQUAL(!vx_may(&stand->scene->tables->offloads, VX_OFFLOAD_UDP_SEGMENT), release[0] == '7' &&
		      strcmp(release, "7.1.5"));
		stand_free(stand);
	}
	release = "6.18.1-test";
}

/** mapped_pages() - Size of this process's address space */
static long mapped_pages(void)
{
	FILE *statm = fopen("/proc/self/statm", "re");
	long pages = 0;

	CHECK(statm && fscanf(statm, "%ld", &pages) == 1);
	fclose(statm);
	return pages;
}

static void what_cannot_be_opened_leaves_nothing(void)
{
	static const uint8_t loopback[4] = { 127, 0, 0, 1 };
	vx_config config = { .data_port = 4789, .tx_sockets = VX_TX_SOCKETS_MAX };
	struct vx_transmitter transmitter = { 0 };
	_Atomic uint32_t offloads = 0;
	struct rlimit limit, few;
	long before;
	int next = dup(0);

	vx_addr_map4(config.address, loopback);
	close(next);
	EQUAL(getrlimit(RLIMIT_NOFILE, &limit), 0);
	few = (struct rlimit){ (rlim_t)next + 3, limit.rlim_max };
	before = mapped_pages();
	EQUAL(setrlimit(RLIMIT_NOFILE, &few), 0);
	for (unsigned i = 0; i < 200; i++)
		EQUAL(vx_transmitter_open(&transmitter, &config, &offloads), -EMFILE);
	EQUAL(dup(0), next);
	close(next);
	EQUAL(setrlimit(RLIMIT_NOFILE, &limit), 0);
	CHECK(mapped_pages() - before < (long)(20 * VX_TX_SOCKETS_MAX * sizeof(struct vx_tx_socket) / 4096));
	EQUAL(vx_transmitter_open(&transmitter, &config, &offloads), 0);
	vx_transmitter_close(&transmitter);
}

CASES(CASE(own_namespace), CASE(equal_frames_leave_in_one_send),
      CASE(without_udp_segment_each_leaves_in_a_send_of_one_call), CASE(only_frames_that_are_alike_leave_together),
      CASE(a_shorter_frame_closes_a_run_and_none_overtakes), CASE(a_send_holds_what_the_kernel_takes),
      CASE(the_outer_tos_and_the_segment_size_share_a_header), CASE(a_super_frame_is_cut_as_the_reference_cuts_it),
      CASE(runs_and_super_frames_keep_their_order), CASE(more_than_a_queue_holds_leaves_in_between),
      CASE(kernels_that_lose_segmented_sends_get_none), CASE(what_cannot_be_opened_leaves_nothing))
