/* unit_csum.c - long sums: every length of a packet, every alignment, by what the processor has and by the rest
 *
 * Short ones, and checksums in packets, are in unit_pure.c.
 */
#include "check.h"
#include "csum.h"

#define LONGEST		70000u	/* above the 65535 of a packet */
#define ALIGNMENTS	64u	/* two blocks of lanes */
#define SHORT		600u	/* lengths that are tried at every alignment */

static uint8_t data[LONGEST + ALIGNMENTS];

/* ahead[p][i]: the sum of the first i bytes, those at offsets of parity p being the high ones of their words */
static uint64_t ahead[2][LONGEST + ALIGNMENTS + 1];

/** textbook() - The folded sum of a slice by RFC 1071's definition: bytes in pairs, high one first, carries around */
static uint16_t textbook(uint32_t offset, uint32_t len, uint32_t start)
{
	const uint64_t *sums = ahead[offset % 2];
	uint64_t sum = sums[offset + len] - sums[offset] + start;

	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

static void prepare(int (*byte)(void))
{
	for (uint32_t i = 0; i < sizeof(data); i++) {
		data[i] = (uint8_t)byte();
		for (uint32_t parity = 0; parity < 2; parity++)
			ahead[parity][i + 1] = ahead[parity][i] +
					       (i % 2 == parity ? (uint32_t)data[i] << 8 : data[i]);
	}
}

static void same(uint32_t offset, uint32_t len, uint32_t start)
{
	static uint8_t copy[LONGEST + ALIGNMENTS + 1];
	uint16_t wanted = textbook(offset, len, start);
	uint8_t *to = copy + len % ALIGNMENTS, behind = data[offset + len] ^ 0xff;

	to[len] = behind;
	if (vx_csum_fold(vx_csum_copy(to, data + offset, len, start)) != wanted ||
	    memcmp(to, data + offset, len) != 0 || to[len] != behind) {
		fprintf(stderr, "%u bytes at offset %u are not copied, or not summed on the way\n", len, offset);
		exit(1);
	}
	if (vx_csum_fold(vx_csum_add(data + offset, len, start)) == wanted &&
	    vx_csum_fold(vx_csum_add_portable(data + offset, len, start)) == wanted)
		return;
	fprintf(stderr, "%u bytes at offset %u from %08x on sum up to %04x, or %04x portably, not %04x\n", len, offset,
		start, vx_csum_fold(vx_csum_add(data + offset, len, start)),
		vx_csum_fold(vx_csum_add_portable(data + offset, len, start)), wanted);
	exit(1);
}

static void every_length_and_every_alignment(void)
{
	srand(11);
	prepare(rand);
	for (uint32_t offset = 0; offset < ALIGNMENTS; offset++)
		for (uint32_t len = 0; len < SHORT; len++)
			same(offset, len, (uint32_t)rand());
	for (uint32_t len = SHORT; len <= LONGEST; len++)
		same(len % ALIGNMENTS, len, (uint32_t)rand());
}

static int all_ones(void)
{
	return 0xff;
}

static int zero(void)
{
	return 0;
}

/* Ones overflow everything that can; a sum of nothing but zeros is the only one that is 0 and not 0xffff. */
static void ones_and_zeros(void)
{
	prepare(all_ones);
	for (uint32_t len = 0; len <= LONGEST; len += 997)
		same(len % ALIGNMENTS, len, 0xffffffff);
	EQUAL(vx_csum_fold(vx_csum_add(data, LONGEST, 0)), 0xffff);
	prepare(zero);
	EQUAL(vx_csum_fold(vx_csum_add(data, LONGEST, 0)), 0);
	EQUAL(vx_csum_fold(vx_csum_add_portable(data, LONGEST, 0)), 0);
}

static void a_changed_byte_changes_the_sum(void)
{
	uint16_t before;

	srand(13);
	prepare(rand);
	before = vx_csum_fold(vx_csum_add(data + 3, 1448, 0));
	for (uint32_t i = 0; i < 1448; i++) {
		data[3 + i] ^= 0x10;
		CHECK(vx_csum_fold(vx_csum_add(data + 3, 1448, 0)) != before);
		CHECK(vx_csum_fold(vx_csum_add_portable(data + 3, 1448, 0)) != before);
		data[3 + i] ^= 0x10;
	}
}

CASES(CASE(every_length_and_every_alignment), CASE(ones_and_zeros), CASE(a_changed_byte_changes_the_sum))
