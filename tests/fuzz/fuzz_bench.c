/* fuzz_bench.c - the bench over frames that the input is: none crashes it, none comes out otherwise than it went in
 *
 * Input: one byte of kind, then frames, each behind its length in two bytes; what the last one lacks is left out.
 */
#include <stdlib.h>

#include "bench.h"
#include "check.h"

#define FRAMES	64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t split(const uint8_t *data, size_t size, uint8_t *frames, uint32_t *lengths)
{
	uint32_t count = 0;

	for (size_t at = 0; at + 2 <= size && count < FRAMES; count++) {
		size_t len = vx_get16(data + at), left = size - at - 2;

		lengths[count] = (uint32_t)(len < left ? len : left);
		memcpy(frames, data + at + 2, lengths[count]);
		frames += lengths[count];
		at += 2 + lengths[count];
	}
	return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const vx_bench_config config = { .seed = 5, .entries = 7, .ports = 3, .vteps = 4, .mtu = 1450 };
	static const int operations[4][2] = {
		[VX_BENCH_CARRY] = { VX_BENCH_ENCAPSULATE, VX_BENCH_DECAPSULATE },
		[VX_BENCH_MIX] = { VX_BENCH_DECIDE, VX_BENCH_DECIDE },
		[VX_BENCH_SUPER] = { VX_BENCH_CUT, VX_BENCH_COALESCE },
	};
	uint32_t lengths[FRAMES], count, most = 0;
	int kind = size ? data[0] % 3 + 1 : 0;
	vx_bench_census census;
	vx_bench *bench = NULL;
	uint8_t *frames;
	uint64_t ns;

	if (size < 3)
		return 0;
	frames = malloc(size);
	count = split(data + 1, size - 1, frames, lengths);
	for (uint32_t i = 0; i < count; i++)
		most += lengths[i] != 0;
	EQUAL(vx_bench_new(&config, &bench), 0);
	EQUAL(vx_bench_load(bench, kind, frames, lengths, count, count + 3, &census), 0);
	CHECK(census.used <= count && census.frames >= census.used && census.used <= most);
	for (unsigned i = 0; i < 2; i++)
		EQUAL(vx_bench_run(bench, operations[kind][i], 2, &ns), census.frames ? 0 : -22);
	vx_bench_free(bench);
	free(frames);
	return 0;
}
