/* csum.c - Internet checksums (RFC 1071), and what to make of half-finished ones
 *
 * How it works
 *   Sums are 32-bit numbers in network order that are folded at the end. vx_csum_add() adds in the machine's own
 *   order and swaps once, which is allowed since ones'-complement addition commutes with swapping (RFC 1071
 *   section 2B). Payloads are added in four 64-bit lanes side by side, so that no carry of the 32-bit words is missing
 *   in the end (sum_lanes()): one register of AVX2, where the processor has it, or two of SSE2 or NEON, which are
 *   always there. One source serves all, in the vector types of GCC and Clang. Headers, and what is left, go eight
 *   bytes at a time.
 *
 *   "Partial" is the kernel's word for a checksum field that holds the folded, not complemented, sum of the
 *   pseudo-header, with the rest left to the network card. Our TAPs hand over such frames (NEEDS_CSUM) and a
 *   kernel vxlan device on the same kernel sends them too, since veth passes them on unfinished.
 *
 * Pure: no system call, no global, no allocation. Built with -fno-strict-aliasing, for this file above all.
 */
#include "csum.h"

#include <endian.h>

#include "eth.h"

static uint32_t fold64(uint64_t sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	return (uint32_t)((sum & 0xffffffff) + (sum >> 32));
}

/** vx_csum_fold() - The 16-bit sum (not complemented) of an accumulated one */
uint16_t vx_csum_fold(uint32_t sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

typedef uint64_t lanes __attribute__((vector_size(32)));

#define LANES_LEN	((uint32_t)sizeof(lanes))
#define LANES_MIN	128	/* bytes from which lanes pay for their set-up: payloads, not headers */
#define ALWAYS_INLINE	static inline __attribute__((always_inline))

ALWAYS_INLINE void add_block(uint8_t *to, const uint8_t *data, lanes *words, lanes *high)
{
	lanes block;

	memcpy(&block, data, LANES_LEN);
	if (to)
		memcpy(to, &block, LANES_LEN);
	*words += block;
	*high += block >> 32;
}

/** sum_lanes() - Sum of whole blocks of LANES_LEN bytes, in the machine's order, copied on the way unless @to is NULL
 *
 * Of each 64-bit word the high half is summed, and the whole word, whose carries are lost. The low halves need no
 * mask of their own: their sum is the sum of words less that of high halves, exact since it has 64 bits to itself.
 * Blocks go to two accumulators in turn, so that one addition need not wait for the other.
 */
ALWAYS_INLINE uint64_t sum_lanes(uint8_t *to, const uint8_t *data, uint32_t blocks)
{
	lanes words = { 0 }, high = { 0 }, words2 = { 0 }, high2 = { 0 };
	uint32_t at = 0;

	for (; blocks >= 4; blocks -= 4, at += 4 * LANES_LEN) {
		add_block(to ? to + at : NULL, data + at, &words, &high);
		add_block(to ? to + at + LANES_LEN : NULL, data + at + LANES_LEN, &words2, &high2);
		add_block(to ? to + at + 2 * LANES_LEN : NULL, data + at + 2 * LANES_LEN, &words, &high);
		add_block(to ? to + at + 3 * LANES_LEN : NULL, data + at + 3 * LANES_LEN, &words2, &high2);
	}
	for (; blocks; blocks--, at += LANES_LEN)
		add_block(to ? to + at : NULL, data + at, &words, &high);
	words += words2;
	high += high2;
	words -= high << 32;
	words = (words & 0xffffffff) + (words >> 32) + high;
	return words[0] + words[1] + words[2] + words[3];
}

static uint64_t add_carry(uint64_t sum, uint64_t word)
{
	sum += word;
	return sum + (sum < word);
}

/** sum_words() - Add bytes in the machine's order, eight at a time; for headers and for what blocks leave */
static uint64_t sum_words(const uint8_t *data, uint32_t len, uint64_t sum)
{
	uint64_t word;
	uint32_t half;
	uint16_t quarter;
	uint8_t last[2] = { 0 };

	for (; len >= 8; data += 8, len -= 8) {
		memcpy(&word, data, 8);
		sum = add_carry(sum, word);
	}
	if (len & 4) {
		memcpy(&half, data, 4);
		sum = add_carry(sum, half);
		data += 4;
	}
	if (len & 2) {
		memcpy(&quarter, data, 2);
		sum = add_carry(sum, quarter);
		data += 2;
	}
	if (len & 1) {
		last[0] = *data;
		memcpy(&quarter, last, 2);
		sum = add_carry(sum, quarter);
	}
	return sum;
}

typedef uint64_t sum_blocks(uint8_t *to, const uint8_t *data, uint32_t blocks);

/** add() - Add bytes to a sum, the whole blocks of a long run by @sum, and copy them unless @to is NULL */
ALWAYS_INLINE uint32_t add(uint8_t *to, const uint8_t *data, uint32_t len, uint32_t sum, sum_blocks *blocks)
{
	uint32_t whole = len >= LANES_MIN ? len / LANES_LEN : 0;
	uint64_t total = whole ? blocks(to, data, whole) : 0;

	data += whole * LANES_LEN;
	len -= whole * LANES_LEN;
	if (to)
		memcpy(to + whole * LANES_LEN, data, len);
	total = sum_words(data, len, total);
	return fold64((uint64_t)sum + be16toh(vx_csum_fold(fold64(total))));
}

static uint64_t sum_portable(uint8_t *to, const uint8_t *data, uint32_t blocks)
{
	return to ? sum_lanes(to, data, blocks) : sum_lanes(NULL, data, blocks);
}

/** vx_csum_add_portable() - As vx_csum_add(), by what every processor has */
uint32_t vx_csum_add_portable(const uint8_t *data, uint32_t len, uint32_t sum)
{
	return add(NULL, data, len, sum, sum_portable);
}

#if defined(__x86_64__)
static __attribute__((target("avx2"))) uint64_t sum_avx2(const uint8_t *data, uint32_t blocks)
{
	return sum_lanes(NULL, data, blocks);
}

static __attribute__((target("avx2"))) uint64_t copy_avx2(uint8_t *to, const uint8_t *data, uint32_t blocks)
{
	return sum_lanes(to, data, blocks);
}

/* What the processor can stands in a word that the compiler's library filled in before main(): no state of ours. */
static uint64_t sum_best(uint8_t *to, const uint8_t *data, uint32_t blocks)
{
	if (!__builtin_cpu_supports("avx2"))
		return sum_portable(to, data, blocks);
	return to ? copy_avx2(to, data, blocks) : sum_avx2(data, blocks);
}
#else
#define sum_best sum_portable
#endif

/**
 * vx_csum_add() - Add bytes to a sum
 * @data:	Bytes, of any alignment; the first is the high one of a 16-bit word
 * @len:	How many; an odd last one counts as if 0 followed
 * @sum:	Sum so far
 */
uint32_t vx_csum_add(const uint8_t *data, uint32_t len, uint32_t sum)
{
	return add(NULL, data, len, sum, sum_best);
}

/** vx_csum_copy() - As vx_csum_add(), and copy the bytes to @to, which they do not overlap: one pass for both */
uint32_t vx_csum_copy(uint8_t *to, const uint8_t *data, uint32_t len, uint32_t sum)
{
	return add(to, data, len, sum, sum_best);
}

/** vx_csum_adjust() - A checksum after one 16-bit word under it changed (RFC 1624 equation 3) */
uint16_t vx_csum_adjust(uint16_t csum, uint16_t before, uint16_t after)
{
	uint32_t sum = (uint16_t)~csum;

	sum += (uint16_t)~before;
	sum += after;
	return (uint16_t)~vx_csum_fold(sum);
}

/** vx_csum_pseudo() - Sum of the pseudo-header of an IP packet whose upper layer has @len bytes */
uint32_t vx_csum_pseudo(const uint8_t *ip, unsigned version, uint8_t protocol, uint32_t len)
{
	uint32_t sum = (len >> 16) + (len & 0xffff) + protocol;

	return version == 4 ? vx_csum_add(ip + 12, 8, sum) : vx_csum_add(ip + 8, 32, sum);
}

/**
 * vx_csum_complete() - Finish the checksum that the TAP left to us
 * @frame:	Frame
 * @len:	Its length
 * @vnet:	Virtio header with NEEDS_CSUM; cleared when done
 *
 * The field already holds the pseudo-header sum, so this needs to know no protocol: sum from csum_start to the
 * end, complement, store. A result of 0 is sent as 0xffff where it is UDP's, for which 0 means "none"; the
 * offset 6 is UDP's alone among those that hand over partial checksums (the kernel's CSUM_MANGLED_0).
 *
 * Return: false if the header points outside the frame
 */
bool vx_csum_complete(uint8_t *frame, uint32_t len, struct vx_vnet *vnet)
{
	uint32_t field = (uint32_t)vnet->csum_start + vnet->csum_offset;
	uint16_t csum;

	if (vnet->csum_start < VX_ETH_LEN || field + 2 > len)
		return false;
	csum = (uint16_t)~vx_csum_fold(vx_csum_add(frame + vnet->csum_start, len - vnet->csum_start, 0));
	if (!csum && vnet->csum_offset == 6)
		csum = 0xffff;
	vx_put16(frame + field, csum);
	vnet->flags &= (uint8_t)~VX_VNET_NEEDS_CSUM;
	vnet->csum_start = vnet->csum_offset = 0;
	return true;
}

/**
 * vx_csum_place() - Where the transport checksum is
 * @eth:	Headers of a packet
 * @offset:	Set to its offset from the transport header
 *
 * Return: false if the packet has none that we know, or it is a fragment, or it is cut off
 */
bool vx_csum_place(const struct vx_eth *eth, uint16_t *offset)
{
	uint32_t header;

	if (!eth->version || !eth->l4 || eth->fragment)
		return false;
	if (eth->protocol == VX_PROTO_TCP) {
		*offset = 16;
		header = 20;
	} else if (eth->protocol == VX_PROTO_UDP) {
		*offset = 6;
		header = 8;
	} else {
		return false;
	}
	return eth->l4 + header <= eth->end;
}

/** vx_csum_valid() - Whether the transport checksum is right; the caller asked vx_csum_place() */
bool vx_csum_valid(const uint8_t *frame, const struct vx_eth *eth)
{
	uint32_t len = eth->end - eth->l4;
	uint32_t sum = vx_csum_pseudo(frame + eth->l3, eth->version, eth->protocol, len);

	return vx_csum_fold(vx_csum_add(frame + eth->l4, len, sum)) == 0xffff;
}

/**
 * vx_csum_inspect() - Tell a partial checksum from a whole one
 * @frame:	Frame
 * @eth:	Its headers
 *
 * The field is compared first: only one packet in 65536 with a whole checksum goes on to be summed.
 */
enum vx_csum vx_csum_inspect(const uint8_t *frame, const struct vx_eth *eth)
{
	uint16_t offset, field, pseudo;

	if (!vx_csum_place(eth, &offset))
		return VX_CSUM_NONE;
	field = vx_get16(frame + eth->l4 + offset);
	if (!field && eth->protocol == VX_PROTO_UDP)
		return VX_CSUM_NONE;
	pseudo = vx_csum_fold(vx_csum_pseudo(frame + eth->l3, eth->version, eth->protocol, eth->end - eth->l4));
	if (field != pseudo)
		return VX_CSUM_OTHER;
	return vx_csum_valid(frame, eth) ? VX_CSUM_OTHER : VX_CSUM_PARTIAL;
}
