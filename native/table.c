/* table.c - the one hash table: open addressing, one writer, readers that never wait
 *
 * How it works
 *   A slot is a key and a 64-bit value. A key is written once, while the value still says "free" (0), and is
 *   published with the value by one release store; from then on the key stays. Deleting stores "deleted" (1)
 *   over the value, setting again stores the new value: both are single stores, and a reader sees the one or
 *   the other. A reader probes linearly until it finds its key or a free slot.
 *
 *   Slots of deleted keys cannot take another key (a reader may be comparing it), so they pile up; when three
 *   quarters of the slots are used, the writer copies the live ones into a new array, publishes it, and
 *   retires the old one (qsbr.c). Growth costs O(n), so a set costs O(1) amortised.
 *
 * A value is never 0 or 1: the callers' values carry a kind in the top byte.
 */
#include "table.h"

#include <errno.h>
#include <stdlib.h>

#define FREE		0u
#define DELETED		1u
#define SLOTS_MIN	16u

/** hash() - Where a key's probe begins
 *
 * A product's low bits know nothing of a factor's high ones, and there the last bytes of an address are, which differ
 * most: so halves are swapped or folded before each product, and the high half of the last one counts.
 */
static uint32_t hash(struct vx_key key)
{
	uint64_t swapped = key.word[1] << 32 | key.word[1] >> 32;
	uint64_t h = key.word[0] * 0x9e3779b97f4a7c15u + swapped * 0xc2b2ae3d27d4eb4fu;

	return (uint32_t)((h ^ h >> 32) * 0xd6e8feb86659fd93u >> 32);
}

static bool same(struct vx_key a, struct vx_key b)
{
	return a.word[0] == b.word[0] && a.word[1] == b.word[1];
}

static struct vx_slots *slots_new(uint32_t count)
{
	struct vx_slots *slots = calloc(1, sizeof(*slots) + count * sizeof(struct vx_slot));

	if (slots)
		slots->mask = count - 1;
	return slots;
}

static void slots_release(struct vx_retired *object)
{
	free(object);
}

int vx_table_init(struct vx_table *table, struct vx_qsbr *qsbr)
{
	struct vx_slots *slots = slots_new(SLOTS_MIN);

	if (!slots)
		return -ENOMEM;
	atomic_store(&table->slots, slots);
	table->qsbr = qsbr;
	table->live = table->used = 0;
	return 0;
}

/** vx_table_destroy() - Free the table; only when no reader can see it */
void vx_table_destroy(struct vx_table *table)
{
	free(atomic_load(&table->slots));
	atomic_store(&table->slots, NULL);
}

/** find() - The slot of a key, or the free slot that ends its probe */
static struct vx_slot *find(struct vx_slots *slots, struct vx_key key, uint64_t *value)
{
	for (uint32_t i = hash(key);; i++) {
		struct vx_slot *slot = &slots->slot[i & slots->mask];

		*value = atomic_load_explicit(&slot->value, memory_order_acquire);
		if (*value == FREE || same(slot->key, key))
			return slot;
	}
}

/** vx_table_get() - The value of a key, 0 if it has none. Any thread between its qsbr marks */
uint64_t vx_table_get(const struct vx_table *table, struct vx_key key)
{
	uint64_t value;

	find(atomic_load_explicit(&table->slots, memory_order_acquire), key, &value);
	return value == DELETED ? 0 : value;
}

/** rebuild() - Move the live slots into an array with room for @more, and for as many again */
static int rebuild(struct vx_table *table, uint32_t more)
{
	struct vx_slots *old = atomic_load(&table->slots), *slots;
	uint32_t count = SLOTS_MIN;

	while (count < (table->live + more) * 2)
		count *= 2;
	if (count > VX_TABLE_MAX)
		return -ENOSPC;
	slots = slots_new(count);
	if (!slots)
		return -ENOMEM;

	for (uint32_t i = 0; i <= old->mask; i++) {
		uint64_t value = atomic_load_explicit(&old->slot[i].value, memory_order_relaxed), none;
		struct vx_slot *slot;

		if (value == FREE || value == DELETED)
			continue;
		slot = find(slots, old->slot[i].key, &none);
		slot->key = old->slot[i].key;
		atomic_store_explicit(&slot->value, value, memory_order_relaxed);
	}
	table->used = table->live;
	atomic_store_explicit(&table->slots, slots, memory_order_release);
	vx_qsbr_retire(table->qsbr, &old->retired, slots_release);
	return 0;
}

/** vx_table_reserve() - Make sure that the next @more sets cannot fail. Return: 0, -ENOMEM, -ENOSPC */
int vx_table_reserve(struct vx_table *table, uint32_t more)
{
	struct vx_slots *slots = atomic_load(&table->slots);

	return (table->used + more) * 4 > (slots->mask + 1) * 3 ? rebuild(table, more) : 0;
}

/**
 * vx_table_set() - Give a key a value, new or changed
 *
 * Return: 0, -ENOMEM, or -ENOSPC at the limit of size
 */
int vx_table_set(struct vx_table *table, struct vx_key key, uint64_t value)
{
	struct vx_slots *slots = atomic_load(&table->slots);
	struct vx_slot *slot;
	uint64_t before;

	slot = find(slots, key, &before);
	if (before == FREE && (table->used + 1) * 4 > (slots->mask + 1) * 3) {
		int error = rebuild(table, 1);

		if (error)
			return error;
		slot = find(atomic_load(&table->slots), key, &before);
	}
	if (before == FREE) {
		slot->key = key;
		table->used++;
	}
	if (before == FREE || before == DELETED)
		table->live++;
	atomic_store_explicit(&slot->value, value, memory_order_release);
	return 0;
}

/** vx_table_del() - Take a key's value away. Return: the value it had, 0 if none */
uint64_t vx_table_del(struct vx_table *table, struct vx_key key)
{
	uint64_t before;
	struct vx_slot *slot = find(atomic_load(&table->slots), key, &before);

	if (before == FREE || before == DELETED)
		return 0;
	atomic_store_explicit(&slot->value, DELETED, memory_order_release);
	table->live--;
	return before;
}

/**
 * vx_table_next() - Walk the table; the writer's thread, and no change in between
 * @table:	Table
 * @cursor:	0 to begin with
 * @key:	Where to put the key
 *
 * Return: the value, 0 at the end
 */
uint64_t vx_table_next(const struct vx_table *table, uint64_t *cursor, struct vx_key *key)
{
	struct vx_slots *slots = atomic_load(&table->slots);

	while (*cursor <= slots->mask) {
		struct vx_slot *slot = &slots->slot[(*cursor)++];
		uint64_t value = atomic_load_explicit(&slot->value, memory_order_relaxed);

		if (value != FREE && value != DELETED) {
			*key = slot->key;
			return value;
		}
	}
	return 0;
}
