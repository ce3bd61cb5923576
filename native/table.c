/* table.c - the one hash table: open addressing, one writer, readers that never wait
 *
 * How it works
 *   A slot is a key and a 64-bit value. A key is written once, while the value still says "free" (0), and is
 *   published with the value by one release store; from then on the key stays. Deleting stores "deleted" (1)
 *   over the value, setting again stores the new value: both are single stores, and a reader sees the one or
 *   the other. A reader probes linearly until it finds its key or a free slot.
 *
 *   Slots of deleted keys cannot take another key (a reader may be comparing it), so they pile up; when three
 *   eighths of the slots are used, the writer copies the live ones into a new array, publishes it, and
 *   retires the old one (qsbr.c). Growth costs O(n), so a set costs O(1) amortised. No more than three eighths, since
 *   a key that is not where its probe begins costs a mispredicted branch, and behind that no look-up is ahead in time.
 *
 * A value is never 0 or 1: the callers' values carry a kind in the top byte. Look-ups are in table.h: inline, each is
 * a few instructions, and a frame takes several. An array beyond a huge page asks for huge pages: a million records are
 * asked for at random, and would need an address translation each.
 */
#define _GNU_SOURCE
#include "table.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#define FREE		0u
#define DELETED		1u
#define SLOTS_MIN	16u
#define HUGE_PAGE	(2u << 20)

static struct vx_slots *slots_new(uint32_t count, uint32_t words)
{
	size_t size = sizeof(struct vx_slots) + (size_t)count * words * sizeof(struct vx_key);
	struct vx_slots *slots;
	void *memory;

	if (posix_memalign(&memory, size < HUGE_PAGE ? VX_CACHE_LINE : HUGE_PAGE, size))
		return NULL;
	if (size >= HUGE_PAGE)
		madvise(memory, size, MADV_HUGEPAGE);	/* a wish: without, look-ups are slower */
	slots = memset(memory, 0, size);
	slots->mask = count - 1;
	slots->shift = (uint32_t)__builtin_clzll(count) + 1;
	return slots;
}

/** is_crowded() - Whether an array is too small for so many slots with a key */
static bool is_crowded(const struct vx_slots *slots, uint32_t used)
{
	return used > (slots->mask + 1) / 8 * 3;
}

static void slots_release(struct vx_retired *object)
{
	free(object);
}

/** vx_table_init() - Make an empty table. Keys have @words words, VX_KEY_*. Return: 0, -ENOMEM */
int vx_table_init(struct vx_table *table, struct vx_qsbr *qsbr, uint32_t words)
{
	struct vx_slots *slots = slots_new(SLOTS_MIN, words);

	if (!slots)
		return -ENOMEM;
	atomic_store(&table->slots, slots);
	table->qsbr = qsbr;
	table->words = words;
	table->live = table->used = 0;
	return 0;
}

/** vx_table_destroy() - Free the table; only when no reader can see it */
void vx_table_destroy(struct vx_table *table)
{
	free(atomic_load(&table->slots));
	atomic_store(&table->slots, NULL);
}

static struct vx_slot *find(const struct vx_table *table, struct vx_slots *slots, struct vx_key key, uint64_t *value)
{
	if (table->words == VX_KEY_NUMBER)
		return vx_table_find(slots, key, VX_KEY_NUMBER, value);
	return vx_table_find(slots, key, VX_KEY_ADDRESS, value);
}

/** key_of() - The key of a slot that has one */
static struct vx_key key_of(const struct vx_table *table, const struct vx_slot *slot)
{
	return (struct vx_key){ { slot->key[0], table->words == VX_KEY_NUMBER ? 0 : slot->key[1] } };
}

static void put_key(const struct vx_table *table, struct vx_slot *slot, struct vx_key key)
{
	memcpy(slot->key, key.word, table->words * sizeof(key.word[0]));
}

/** rebuild() - Move the live slots into an array with room for @more, and for as many again */
static int rebuild(struct vx_table *table, uint32_t more)
{
	struct vx_slots *old = atomic_load(&table->slots), *slots;
	uint32_t count = SLOTS_MIN;

	while (count < (table->live + more) * 5)
		count *= 2;
	if (count > VX_TABLE_MAX)
		return -ENOSPC;
	slots = slots_new(count, table->words);
	if (!slots)
		return -ENOMEM;

	for (uint32_t i = 0; i <= old->mask; i++) {
		const struct vx_slot *before = vx_table_slot(old, table->words, i);
		uint64_t value = atomic_load_explicit(&before->value, memory_order_relaxed), none;
		struct vx_slot *slot;

		if (value == FREE || value == DELETED)
			continue;
		slot = find(table, slots, key_of(table, before), &none);
		put_key(table, slot, key_of(table, before));
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

	return is_crowded(slots, table->used + more) ? rebuild(table, more) : 0;
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

	slot = find(table, slots, key, &before);
	if (before == FREE && is_crowded(slots, table->used + 1)) {
		int error = rebuild(table, 1);

		if (error)
			return error;
		slot = find(table, atomic_load(&table->slots), key, &before);
	}
	if (before == FREE) {
		put_key(table, slot, key);
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
	struct vx_slot *slot = find(table, atomic_load(&table->slots), key, &before);

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
		const struct vx_slot *slot = vx_table_slot(slots, table->words, (uint32_t)(*cursor)++);
		uint64_t value = atomic_load_explicit(&slot->value, memory_order_relaxed);

		if (value != FREE && value != DELETED) {
			*key = key_of(table, slot);
			return value;
		}
	}
	return 0;
}
