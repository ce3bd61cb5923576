/* count_instructions.c - passes over a fixed input, for callgrind to count; see test_instructions.py
 *
 * Usage: count_instructions OPERATION PASSES, the number of a VX_BENCH_* operation. Prints how many frames a pass has.
 * What a frame costs is the difference between two runs of more and fewer passes: all else is in both.
 */
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "check.h"
#include "eth.h"
#include "scene.h"

#define FRAMES	512	/* the made ones, again and again */

static uint8_t frames[48 * 1600];
static uint32_t lengths[48];

/** make_frames() - TCP and UDP over IPv4 and IPv6 of four sizes, between two endpoints both ways; some ARP. How many */
static uint32_t make_frames(void)
{
	static const uint32_t sizes[4] = { 22, 200, 570, 1380 };
	uint32_t count = 0, used = 0;

	for (unsigned i = 0; i < 32; i++) {
		struct packet packet = packet_between(i & 1 ? MAC_FAR : MAC_A, 0x11, i & 1 ? MAC_A : MAC_FAR, 0x21);
		unsigned version = i & 2 ? 6 : 4;

		if (version == 6) {
			address6(packet.source, 0x11);
			address6(packet.target, 0x21);
		}
		packet.protocol = i & 4 ? VX_PROTO_TCP : VX_PROTO_UDP;
		packet.source_port = (uint16_t)(2000 + i);
		packet.len = sizes[i / 8];
		lengths[count] = put_packet(frames + used, &packet, version);
		used += lengths[count++];
	}
	for (unsigned i = 0; i < 4; i++) {
		unsigned asks = i & 1 ? 0x21 : 0x11;

		lengths[count] = put_arp(frames + used, 1, i & 1 ? MAC_FAR : MAC_A, asks, asks ^ 0x30);
		used += lengths[count++];
	}
	return count;
}

int main(int argc, char **argv)
{
	static const vx_bench_config config = { .seed = 9, .entries = 1000, .ports = 100, .vteps = 100, .mtu = 1450 };
	int operation = argc == 3 ? atoi(argv[1]) : -1;
	vx_bench_census census;
	vx_bench *bench;
	uint64_t ns;

	EQUAL(vx_bench_new(&config, &bench), 0);
	EQUAL(vx_bench_load(bench, operation == VX_BENCH_DECIDE ? VX_BENCH_MIX : VX_BENCH_CARRY, frames, lengths,
			    make_frames(), FRAMES, &census), 0);
	EQUAL(vx_bench_run(bench, operation, (uint32_t)atoi(argv[2]), &ns), 0);
	printf("%u\n", census.frames);
	vx_bench_free(bench);
	return 0;
}
