/* table.h - the one hash table: one writer, readers that never wait; see table.c */
#ifndef VX_TABLE_H
#define VX_TABLE_H

#include "qsbr.h"

/** struct vx_key - 16 bytes; what is shorter leaves the second word 0 */
struct vx_key {
	uint64_t word[2];
};

struct vx_slot {
	struct vx_key key;		/* written once, before the value is */
	_Atomic uint64_t value;		/* 0: free, ends a probe; 1: deleted */
};

struct vx_slots {
	struct vx_retired retired;
	uint32_t mask;
	struct vx_slot slot[];
};

struct vx_table {
	_Atomic(struct vx_slots *) slots;
	struct vx_qsbr *qsbr;
	uint32_t live;			/* values; the writer's */
	uint32_t used;			/* slots with a key, deleted ones too; the writer's */
};

int vx_table_init(struct vx_table *table, struct vx_qsbr *qsbr);
void vx_table_destroy(struct vx_table *table);
uint64_t vx_table_get(const struct vx_table *table, struct vx_key key);
int vx_table_reserve(struct vx_table *table, uint32_t more);
int vx_table_set(struct vx_table *table, struct vx_key key, uint64_t value);
uint64_t vx_table_del(struct vx_table *table, struct vx_key key);
uint64_t vx_table_next(const struct vx_table *table, uint64_t *cursor, struct vx_key *key);

static inline struct vx_key vx_key_number(uint64_t number)
{
	return (struct vx_key){ { number, 0 } };
}

static inline struct vx_key vx_key_address(const uint8_t *address)
{
	struct vx_key key;

	memcpy(key.word, address, sizeof(key.word));
	return key;
}

#endif
