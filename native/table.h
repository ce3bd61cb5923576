/* table.h - the one hash table: one writer, readers that never wait; see table.c */
#ifndef VX_TABLE_H
#define VX_TABLE_H

#include "qsbr.h"

#define VX_KEY_NUMBER	1u		/* words of a key */
#define VX_KEY_ADDRESS	2u

/** struct vx_key - A number, or the 16 bytes of an address; a number leaves the second word 0 */
struct vx_key {
	uint64_t word[2];
};

/** struct vx_slot - 16 bytes in a table of numbers, 32 in one of addresses: none lies across two cache lines */
struct vx_slot {
	_Atomic uint64_t value;		/* 0: free, ends a probe; 1: deleted */
	uint64_t key[];			/* written once, before the value is */
};

struct vx_slots {
	struct vx_retired retired;
	uint32_t mask;
	uint32_t shift;			/* what a 64-bit hash has more bits than the mask */
	_Alignas(64) uint8_t room[];
};

struct vx_table {
	_Atomic(struct vx_slots *) slots;
	struct vx_qsbr *qsbr;
	uint32_t words;			/* VX_KEY_* */
	uint32_t live;			/* values; the writer's */
	uint32_t used;			/* slots with a key, deleted ones too; the writer's */
};

int vx_table_init(struct vx_table *table, struct vx_qsbr *qsbr, uint32_t words);
void vx_table_destroy(struct vx_table *table);
int vx_table_reserve(struct vx_table *table, uint32_t more);
int vx_table_set(struct vx_table *table, struct vx_key key, uint64_t value);
uint64_t vx_table_del(struct vx_table *table, struct vx_key key);
uint64_t vx_table_next(const struct vx_table *table, uint64_t *cursor, struct vx_key *key);

VX_INLINE struct vx_key vx_key_number(uint64_t number)
{
	return (struct vx_key){ { number, 0 } };
}

VX_INLINE struct vx_key vx_key_address(const uint8_t *address)
{
	struct vx_key key;

	memcpy(key.word, address, sizeof(key.word));
	return key;
}

/** vx_table_slot() - The slot of a number, which may be larger than there are slots */
VX_INLINE struct vx_slot *vx_table_slot(struct vx_slots *slots, uint32_t words, uint32_t i)
{
	return (struct vx_slot *)(slots->room + (size_t)(i & slots->mask) * words * sizeof(struct vx_key));
}

/** vx_table_first() - Where a key's probe begins
 *
 * Fibonacci hashing: the highest bits of a product know of every bit of its factors, and neighbours come to lie far
 * apart. The halves of an address' second word are swapped, so that where networks are numbered from low bytes and
 * hosts from high ones they do not cancel each other out.
 */
VX_INLINE uint32_t vx_table_first(const struct vx_slots *slots, struct vx_key key, uint32_t words)
{
	uint64_t word = key.word[0];

	if (words == VX_KEY_ADDRESS)
		word ^= key.word[1] << 32 | key.word[1] >> 32;
	return (uint32_t)(word * 0x9e3779b97f4a7c15u >> slots->shift);
}

VX_INLINE bool vx_table_holds(const struct vx_slot *slot, struct vx_key key, uint32_t words)
{
	return slot->key[0] == key.word[0] && (words == VX_KEY_NUMBER || slot->key[1] == key.word[1]);
}

/** vx_table_find() - The slot of a key, or the free slot that ends its probe; inline, so that @words is a constant */
VX_INLINE struct vx_slot *vx_table_find(struct vx_slots *slots, struct vx_key key, uint32_t words, uint64_t *value)
{
	for (uint32_t i = vx_table_first(slots, key, words);; i++) {
		struct vx_slot *slot = vx_table_slot(slots, words, i);

		*value = atomic_load_explicit(&slot->value, memory_order_acquire);
		if (!*value || vx_table_holds(slot, key, words))
			return slot;
	}
}

VX_INLINE uint64_t vx_table_get(const struct vx_table *table, struct vx_key key, uint32_t words)
{
	uint64_t value;

	vx_table_find(atomic_load_explicit(&table->slots, memory_order_acquire), key, words, &value);
	return value > 1 ? value : 0;		/* 1: deleted */
}

/** vx_table_number() - The value of a number, 0 if it has none. Any thread between its qsbr marks */
VX_INLINE uint64_t vx_table_number(const struct vx_table *table, uint64_t number)
{
	return vx_table_get(table, vx_key_number(number), VX_KEY_NUMBER);
}

/** vx_table_address() - The value of an address, 0 if it has none. Any thread between its qsbr marks */
VX_INLINE uint64_t vx_table_address(const struct vx_table *table, const uint8_t *address)
{
	return vx_table_get(table, vx_key_address(address), VX_KEY_ADDRESS);
}

/** vx_table_expect() - A key will be asked for: have its slot in the cache by then */
VX_INLINE void vx_table_expect(const struct vx_table *table, struct vx_key key, uint32_t words)
{
	struct vx_slots *slots = atomic_load_explicit(&table->slots, memory_order_acquire);

	__builtin_prefetch(vx_table_slot(slots, words, vx_table_first(slots, key, words)));
}

#endif
