/* unit_bench.c - a bench carries what it is given, says what it left out, and finds out when a host is wrong */
#include <errno.h>

#include "bench.h"
#include "check.h"
#include "eth.h"
#include "fdb.h"
#include "scene.h"

static const vx_bench_config small = { .seed = 3, .entries = 40, .ports = 5, .vteps = 7, .mtu = 1450 };

struct frames {
	uint8_t bytes[256 * 1024];
	uint32_t lengths[16];
	uint32_t count;
	uint32_t used;
};

static struct frames frames;

static vx_bench *new_bench(void)
{
	vx_bench *bench = NULL;

	frames.count = frames.used = 0;
	EQUAL(vx_bench_new(&small, &bench), 0);
	return bench;
}

static void add(uint32_t len)
{
	frames.lengths[frames.count++] = len;
	frames.used += len;
}

static void add_packet(uint8_t protocol, uint64_t from, uint64_t to, uint32_t len)
{
	struct packet packet = packet_between(from, 0x11, to, 0x21);

	packet.protocol = protocol;
	packet.len = len;
	add(put_packet(frames.bytes + frames.used, &packet, 4));
}

static vx_bench_census load(vx_bench *bench, int kind, uint32_t wanted, int error)
{
	vx_bench_census census;

	EQUAL(vx_bench_load(bench, kind, frames.bytes, frames.lengths, frames.count, wanted, &census), error);
	return census;
}

static void run(vx_bench *bench, int operation, int error)
{
	uint64_t ns = 0;

	EQUAL(vx_bench_run(bench, operation, 3, &ns), error);
	CHECK(error || ns);
}

static void frames_are_carried_and_what_is_not_is_counted(void)
{
	vx_bench *bench = new_bench();
	vx_bench_census census;

	add_packet(VX_PROTO_UDP, MAC_A, MAC_FAR, 22);
	add(put_arp(frames.bytes + frames.used, 1, MAC_A, 0x11, 0x21));
	add_packet(VX_PROTO_TCP, MAC_A, MAC_FAR, 9000);
	add_packet(VX_PROTO_UDP, MAC_A, MAC_FAR, 30);
	frames.bytes[frames.used - 72 + 16] = 0xff;	/* an IPv4 packet that claims more than there is */
	add(13);
	census = load(bench, VX_BENCH_CARRY, 100, 0);
	EQUAL(census.used, 2);
	EQUAL(census.frames, 100);
	EQUAL(census.arp_nd, 1);
	EQUAL(census.drops[VX_HDR_TRUNC], 2);
	EQUAL(census.bytes, 50 * (64 + 54 + 9000));
	run(bench, VX_BENCH_COPY, 0);
	run(bench, VX_BENCH_FILL, 0);
	run(bench, VX_BENCH_ENCAPSULATE, 0);
	run(bench, VX_BENCH_DECAPSULATE, 0);
	run(bench, VX_BENCH_DECIDE, -EINVAL);
	run(bench, VX_BENCH_OPERATIONS, -EINVAL);
	run(bench, -1, -EINVAL);
	vx_bench_free(bench);
}

static void a_host_that_delivers_elsewhere_is_noticed(void)
{
	vx_bench *bench = new_bench();
	struct vx_network *network = vx_bench_network(bench, VX_BENCH_RECEIVER);
	struct vx_place first = { VX_AT_PORT, 0 };

	add_packet(VX_PROTO_UDP, MAC_A, MAC_FAR, 22);
	load(bench, VX_BENCH_CARRY, 1000, 0);
	run(bench, VX_BENCH_DECAPSULATE, 0);
	for (uint32_t i = 0; i < small.entries; i++)
		EQUAL(vx_fdb_record(network, vx_bench_mac(bench, small.ports + i), first), 0);
	run(bench, VX_BENCH_ENCAPSULATE, 0);
	run(bench, VX_BENCH_DECAPSULATE, -EILSEQ);
	load(bench, VX_BENCH_CARRY, 1000, -EILSEQ);
	run(bench, VX_BENCH_COPY, -EINVAL);
	vx_bench_free(bench);
}

static void a_mix_is_decided_as_it_is(void)
{
	vx_bench *bench = new_bench();
	vx_bench_census census;

	add(put_arp(frames.bytes + frames.used, 1, MAC_A, 0x11, 0x21));		/* nobody knows .21 yet */
	add(put_arp(frames.bytes + frames.used, 2, MAC_FAR, 0x21, 0x11));
	add_packet(VX_PROTO_UDP, MAC_A, MAC_FAR, 22);
	add_packet(VX_PROTO_UDP, MAC_FAR, MAC_A, 22);
	add(put_arp(frames.bytes + frames.used, 1, MAC_A, 0x11, 0x21));
	add_packet(VX_PROTO_UDP, MAC_A, 0xffffffffffff, 22);
	add_packet(VX_PROTO_UDP, 0, MAC_A, 22);
	census = load(bench, VX_BENCH_MIX, 64, 0);
	EQUAL(census.used, 7);
	EQUAL(census.acts[VX_ACT_VTEP], 1);
	EQUAL(census.acts[VX_ACT_FLOOD], 2);	/* the announcement to ports, the packet to all */
	EQUAL(census.acts[VX_ACT_REPLY], 2);	/* by the time of a pass the address is known */
	EQUAL(census.acts[VX_ACT_PORT], 1);
	EQUAL(census.drops[VX_MAC_INVALID_SOURCE], 1);
	run(bench, VX_BENCH_DECIDE, 0);
	run(bench, VX_BENCH_ENCAPSULATE, -EINVAL);
	vx_bench_free(bench);
}

static void super_frames_are_cut_and_merged_again(void)
{
	vx_bench *bench = new_bench();
	vx_bench_census census;

	add_packet(VX_PROTO_TCP, MAC_A, MAC_FAR, 65000);
	frames.bytes[14 + 10] ^= 0xff;		/* as captured inside a stack: no checksums */
	add_packet(VX_PROTO_TCP, MAC_A, MAC_FAR, 1410);
	add_packet(VX_PROTO_UDP, MAC_A, MAC_FAR, 9000);
	census = load(bench, VX_BENCH_SUPER, 4, 0);
	EQUAL(census.used, 1);
	EQUAL(census.plain, 2);
	EQUAL(census.frames, 4);
	EQUAL(census.merged, 4);
	EQUAL(census.segments, 4 * 47);		/* 65000 / (1450 - 40), rounded up */
	EQUAL(census.bytes, 4 * (65000 + 47 * 54));
	run(bench, VX_BENCH_CUT, 0);
	run(bench, VX_BENCH_COALESCE, 0);
	bench->segment[3].data[100] ^= 1;	/* verification is in what is timed */
	run(bench, VX_BENCH_COALESCE, -EILSEQ);
	vx_bench_free(bench);
}

static void tables_that_no_host_can_have_are_refused(void)
{
	vx_bench_config wrong[4] = { small, small, small, small };
	vx_bench *bench = NULL;

	wrong[0].entries = 0;
	wrong[1].ports = VX_PORTS_MAX;
	wrong[2].vteps = 0;
	wrong[3].entries = 1u << 31;
	for (unsigned i = 0; i < 4; i++)
		EQUAL(vx_bench_new(&wrong[i], &bench), -EINVAL);
	CHECK(!bench);
}

CASES(CASE(frames_are_carried_and_what_is_not_is_counted), CASE(a_host_that_delivers_elsewhere_is_noticed),
      CASE(a_mix_is_decided_as_it_is), CASE(super_frames_are_cut_and_merged_again),
      CASE(tables_that_no_host_can_have_are_refused))
