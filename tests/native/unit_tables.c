/* unit_tables.c - the hash table beside a model and under a concurrent reader; reclamation; lives of ids */
#include <pthread.h>

#include "check.h"
#include "scene.h"

#define KEYS	4096u

static void a_table_agrees_with_a_model(void)
{
	static uint64_t model[KEYS];
	struct vx_qsbr qsbr;
	struct vx_table table;
	uint64_t cursor = 0, seen = 0, live = 0, value;
	struct vx_key key;

	srand(11);
	vx_qsbr_init(&qsbr);
	EQUAL(vx_table_init(&table, &qsbr, VX_KEY_NUMBER), 0);
	for (unsigned step = 0; step < 200000; step++) {
		uint32_t at = (uint32_t)rand() % KEYS;

		if (rand() % 3) {
			model[at] = 2 + (uint64_t)step;
			EQUAL(vx_table_set(&table, vx_key_number(at), model[at]), 0);
		} else {
			EQUAL(vx_table_del(&table, vx_key_number(at)), model[at]);
			model[at] = 0;
		}
		at = (uint32_t)rand() % KEYS;
		EQUAL(vx_table_number(&table, at), model[at]);
		if (step % 1000 == 0)
			vx_qsbr_collect(&qsbr);
	}
	for (uint32_t i = 0; i < KEYS; i++)
		live += model[i] != 0;
	while ((value = vx_table_next(&table, &cursor, &key))) {
		EQUAL(value, model[key.word[0]]);
		seen++;
	}
	EQUAL(seen, live);
	EQUAL(table.live, live);
	vx_table_destroy(&table);
	vx_qsbr_destroy(&qsbr);
}

/** longest_probe() - How many slots side by side are in use at most: what a look-up may have to go through */
static uint32_t longest_probe(const struct vx_table *table)
{
	struct vx_slots *slots = atomic_load(&table->slots);
	uint32_t run = 0, longest = 0;

	for (uint32_t i = 0; i <= slots->mask; i++) {
		run = vx_table_slot(slots, table->words, i)->value ? run + 1 : 0;
		longest = run > longest ? run : longest;
	}
	return longest;
}

/** numbered_key() - The @number-th key of a family as networks have them: a counter in one place of a fixed key */
static struct vx_key numbered_key(unsigned family, uint32_t number)
{
	uint8_t address[VX_ADDR_LEN] = { [10] = 0xff, [11] = 0xff, [12] = 10, [13] = 89 };
	static const uint8_t prefix[VX_ADDR_LEN] = { 0xfd, 0x07, [15] = 1 };

	switch (family) {
	case 0:				/* ids, VNIs */
		return vx_key_number(number);
	case 1:				/* MACs after IPv4 addresses */
		return vx_key_number(0x02420a590000u + number);
	case 2:				/* MACs of many vendors */
		return vx_key_number((uint64_t)number << 32 | 0x123456);
	case 3:				/* IPv4 hosts */
		vx_put16(address + 14, (uint16_t)number);
		return vx_key_address(address);
	case 4:				/* IPv4 networks */
		vx_put16(address + 13, (uint16_t)number);
		return vx_key_address(address);
	case 5:				/* IPv6 hosts */
		memcpy(address, prefix, sizeof(prefix));
		vx_put16(address + 14, (uint16_t)number);
		return vx_key_address(address);
	case 6:				/* IPv6 networks */
		memcpy(address, prefix, sizeof(prefix));
		vx_put16(address + 6, (uint16_t)number);
		return vx_key_address(address);
	default:			/* link-local addresses after MACs */
		memcpy(address, prefix, sizeof(prefix));
		vx_put16(address + 12, (uint16_t)number);
		return vx_key_address(address);
	}
}

static void keys_that_differ_in_one_place_are_spread(void)
{
	for (unsigned family = 0; family < 8; family++) {
		struct vx_qsbr qsbr;
		struct vx_table table;

		vx_qsbr_init(&qsbr);
		EQUAL(vx_table_init(&table, &qsbr, family < 3 ? VX_KEY_NUMBER : VX_KEY_ADDRESS), 0);
		for (uint32_t i = 0; i < KEYS; i++)
			EQUAL(vx_table_set(&table, numbered_key(family, i), 2), 0);
		if (longest_probe(&table) > 128)
			fprintf(stderr, "family %u: %u slots\n", family, longest_probe(&table));
		CHECK(longest_probe(&table) <= 128);
		vx_table_destroy(&table);
		vx_qsbr_destroy(&qsbr);
	}
}

struct shared {
	struct vx_qsbr qsbr;
	struct vx_table table;
	_Atomic bool over;
	_Atomic uint64_t reads;
};

/** read_forever() - Keys below KEYS are always there; a value always names its key */
static void *read_forever(void *argument)
{
	struct shared *shared = argument;
	uint64_t reads = 0;

	while (!atomic_load(&shared->over)) {
		vx_qsbr_online(&shared->qsbr, 0);
		for (uint32_t i = 0; i < 256; i++) {
			uint32_t at = (uint32_t)(reads++ * 2654435761u) % (2 * KEYS);
			uint64_t value = vx_table_number(&shared->table, at);

			CHECK(value || at >= KEYS);
			CHECK(!value || value >> 32 == at + 1u);
		}
		vx_qsbr_offline(&shared->qsbr, 0);
		atomic_store(&shared->reads, reads);
	}
	return NULL;
}

static void a_reader_sees_every_key_while_others_come_go_and_the_table_grows(void)
{
	static struct shared shared;
	pthread_t reader;

	vx_qsbr_init(&shared.qsbr);
	EQUAL(vx_table_init(&shared.table, &shared.qsbr, VX_KEY_NUMBER), 0);
	for (uint64_t at = 0; at < KEYS; at++)
		EQUAL(vx_table_set(&shared.table, vx_key_number(at), (at + 1) << 32), 0);
	EQUAL(pthread_create(&reader, NULL, read_forever, &shared), 0);
	srand(13);
	/* as long as both need: one of them may get no CPU while the other has done its part */
	for (uint32_t step = 0; step < 300000 || atomic_load(&shared.reads) < 300000; step++) {
		uint64_t at = KEYS + (uint32_t)rand() % KEYS, fixed = (uint32_t)rand() % KEYS;

		if (rand() % 2)
			EQUAL(vx_table_set(&shared.table, vx_key_number(at), (at + 1) << 32 | (step & 0xffff)), 0);
		else
			vx_table_del(&shared.table, vx_key_number(at));
		EQUAL(vx_table_set(&shared.table, vx_key_number(fixed), (fixed + 1) << 32 | (step & 0xffff)), 0);
		if (step % 256 == 0)
			vx_qsbr_collect(&shared.qsbr);
	}
	atomic_store(&shared.over, true);
	pthread_join(reader, NULL);
	vx_table_destroy(&shared.table);
	vx_qsbr_destroy(&shared.qsbr);
}

struct counted {
	struct vx_retired retired;
	bool *freed;
};

static void note_freed(struct vx_retired *object)
{
	*((struct counted *)object)->freed = true;
}

static void nothing_is_freed_that_a_reader_may_hold(void)
{
	bool first_freed = false, second_freed = false;
	struct counted first = { .freed = &first_freed }, second = { .freed = &second_freed };
	struct vx_qsbr qsbr;

	vx_qsbr_init(&qsbr);
	vx_qsbr_online(&qsbr, 3);
	vx_qsbr_retire(&qsbr, &first.retired, note_freed);
	EQUAL(vx_qsbr_collect(&qsbr), 1);
	CHECK(!first_freed);
	vx_qsbr_online(&qsbr, 3);		/* a new turn: it holds nothing of the last one */
	vx_qsbr_retire(&qsbr, &second.retired, note_freed);
	EQUAL(vx_qsbr_collect(&qsbr), 1);
	CHECK(first_freed && !second_freed);
	vx_qsbr_offline(&qsbr, 3);
	EQUAL(vx_qsbr_collect(&qsbr), 0);
	CHECK(second_freed);
	vx_qsbr_destroy(&qsbr);
}

static struct vx_qsbr *meanwhile;	/* what happens to it before somebody gets its lock */
static struct counted seen_late;

int __real_pthread_mutex_lock(pthread_mutex_t *lock);
int __wrap_pthread_mutex_lock(pthread_mutex_t *lock);
int __wrap_pthread_mutex_lock(pthread_mutex_t *lock)
{
	struct vx_qsbr *qsbr = meanwhile;

	meanwhile = NULL;
	if (qsbr) {
		vx_qsbr_online(qsbr, 0);	/* a worker wakes up and finds the object, then the writer retires it */
		vx_qsbr_retire(qsbr, &seen_late.retired, note_freed);
	}
	return __real_pthread_mutex_lock(lock);
}

static void a_reader_that_wakes_during_a_collection_is_waited_for(void)
{
	struct vx_qsbr qsbr;
	bool freed = false;

	seen_late.freed = &freed;
	vx_qsbr_init(&qsbr);
	meanwhile = &qsbr;			/* all readers wait when the collection begins */
	EQUAL(vx_qsbr_collect(&qsbr), 1);
	CHECK(!meanwhile && !freed);
	vx_qsbr_offline(&qsbr, 0);
	EQUAL(vx_qsbr_collect(&qsbr), 0);
	CHECK(freed);
	vx_qsbr_destroy(&qsbr);
}

static void a_record_never_names_the_successor_under_its_targets_index(void)
{
	struct scene *scene = scene_new(false);
	struct vx_port *port = calloc(1, sizeof(*port));

	EQUAL(vx_fdb_find(scene->network, MAC_B).id, scene->b);
	EQUAL(vx_net_port_del(scene->tables, (uint32_t)scene->b), 0);
	EQUAL(vx_fdb_find(scene->network, MAC_B).kind, 0);
	EQUAL(vx_qsbr_collect(&scene->tables->qsbr), 0);
	port->mac = MAC_NOBODY;
	EQUAL(vx_net_port_add(scene->tables, port, (uint32_t)scene->net), scene->b);
	EQUAL(vx_fdb_find(scene->network, MAC_B).kind, 0);
	EQUAL(vx_fdb_record(scene->network, MAC_B, (struct vx_place){ VX_AT_PORT, (uint32_t)scene->b }), 0);
	EQUAL(vx_fdb_find(scene->network, MAC_B).id, scene->b);
	scene_free(scene);
}

static void an_id_stays_busy_while_a_reader_may_hold_it(void)
{
	struct scene *scene = scene_new(false);
	struct vx_port *port = calloc(1, sizeof(*port));

	vx_qsbr_online(&scene->tables->qsbr, 0);
	EQUAL(vx_net_port_del(scene->tables, (uint32_t)scene->b), 0);
	vx_qsbr_collect(&scene->tables->qsbr);
	CHECK(vx_net_port_add(scene->tables, port, (uint32_t)scene->net) != scene->b);
	vx_qsbr_offline(&scene->tables->qsbr, 0);
	scene_free(scene);
}

static unsigned taken;

/** look() - When an id is taken, nobody can find what will have it, so nobody counts under it */
static void look(void *context, unsigned kind, uint32_t id)
{
	struct vx_tables *tables = context;

	CHECK(kind != VX_AT_PORT || (!vx_net_port(tables, id) && tables->port_busy[id]));
	CHECK(kind != VX_AT_VTEP || (!vx_net_vtep(tables, id) && tables->vtep_busy[id]));
	CHECK(kind != VX_AT_NETWORK || (!vx_net_get(tables, id) && tables->network_busy[id]));
	taken |= 1u << kind;
}

static void an_id_is_taken_before_anybody_sees_it(void)
{
	struct scene *scene = scene_new(false);
	struct vx_port *port = calloc(1, sizeof(*port));
	uint8_t address[VX_ADDR_LEN];

	scene->tables->id_taken = look;
	scene->tables->context = scene->tables;
	address4(address, 99);
	CHECK(vx_net_vtep_add(scene->tables, address, 4789, 0) >= 0);
	CHECK(vx_net_add(scene->tables, VNI + 1, MTU, 0) >= 0);
	CHECK(vx_net_port_add(scene->tables, port, (uint32_t)scene->net) >= 0);
	EQUAL(taken, 1u << VX_AT_PORT | 1u << VX_AT_VTEP | 1u << VX_AT_NETWORK);
	scene_free(scene);
}

static void what_is_in_use_is_not_deleted(void)
{
	struct scene *scene = scene_new(false);
	uint32_t net = (uint32_t)scene->net;
	vx_member twice[2] = { { (uint32_t)scene->member, 1 }, { (uint32_t)scene->member, 1 } };
	vx_member stranger = { 999, 1 };

	EQUAL(vx_net_del(scene->tables, net), -16);
	EQUAL(vx_net_vtep_del(scene->tables, (uint32_t)scene->member), -16);
	EQUAL(vx_net_vtep_del(scene->tables, (uint32_t)scene->foreign), 0);
	EQUAL(vx_net_vteps(scene->tables, net, twice, 2), -22);
	EQUAL(vx_net_vteps(scene->tables, net, &stranger, 1), -2);
	EQUAL(vx_net_member_flags(scene->network, (uint32_t)scene->second), VX_MEMBER | VX_MEMBER_FLOOD);
	EQUAL(vx_net_vteps(scene->tables, net, twice, 1), 0);
	EQUAL(vx_net_member_flags(scene->network, (uint32_t)scene->second), 0);
	EQUAL(vx_net_vtep_del(scene->tables, (uint32_t)scene->second), 0);
	EQUAL(vx_net_port_del(scene->tables, (uint32_t)scene->a), 0);
	EQUAL(vx_net_port_del(scene->tables, (uint32_t)scene->b), 0);
	EQUAL(vx_net_del(scene->tables, net), 0);
	EQUAL(vx_net_vtep_del(scene->tables, (uint32_t)scene->member), 0);
	CHECK(vx_net_add(scene->tables, VNI, MTU, 0) >= 0);
	scene_free(scene);
}

/** walk() - Whom a scope's floods reach, as bits */
static uint64_t walk(const struct scene *scene, unsigned scope)
{
	uint32_t next = 0, vtep, last = 0;
	uint64_t reached = 0;

	while (vx_flood_next_vtep(scene->network, scope, &next, &vtep)) {
		CHECK(!reached || vtep > last);
		EQUAL(next, vtep + 1);
		last = vtep;
		reached |= 1ull << vtep;
	}
	return reached;
}

static void floods_reach_those_who_want_them_in_the_order_of_ids(void)
{
	static const uint32_t ids[] = { 33, 7, 1, 8, 32, 15, 50 };	/* edges of words, and gaps of several */
	struct scene *scene = scene_new(false);
	vx_member members[7];
	uint8_t address[VX_ADDR_LEN];

	for (unsigned last = 100; !vx_net_vtep(scene->tables, 50); last++) {
		address4(address, last);
		CHECK(vx_net_vtep_add(scene->tables, address, 4789, 0) >= 0);
	}
	for (unsigned i = 0; i < 7; i++)
		members[i] = (vx_member){ ids[i], i % 3 };
	EQUAL(vx_net_vteps(scene->tables, (uint32_t)scene->net, members, 7), 0);
	EQUAL(walk(scene, VX_TO_MEMBERS), 1ull << 7 | 1ull << 1 | 1ull << 32 | 1ull << 15);
	EQUAL(walk(scene, VX_TO_FOREIGN), 1ull << 1 | 1ull << 15);
	for (uint32_t id = 0; id < 64; id++)
		EQUAL(!!vx_net_member_flags(scene->network, id),
		      id == 1 || id == 7 || id == 8 || id == 15 || id == 32 || id == 33 || id == 50);
	EQUAL(vx_net_vteps(scene->tables, (uint32_t)scene->net, NULL, 0), 0);
	EQUAL(walk(scene, VX_TO_MEMBERS), 0);
	EQUAL(vx_net_member_flags(scene->network, 1), 0);
	scene_free(scene);
}

static void a_million_records_fit(void)
{
	struct scene *scene = scene_new(false);
	struct vx_place place = { VX_AT_VTEP, (uint32_t)scene->member };

	for (uint64_t i = 0; i < 1000000; i++)
		if (vx_table_set(&scene->network->fdb, vx_key_number(0x020000000000 + i),
				 vx_value(VX_AT_VTEP, place.id, 1)))
			CHECK(!"a million records");
	EQUAL(vx_qsbr_collect(&scene->tables->qsbr), 0);
	CHECK(vx_table_number(&scene->network->fdb, 0x020000000000 + 999999));
	CHECK(!vx_table_number(&scene->network->fdb, 0x020000000000 + 1000000));
	scene_free(scene);
}

CASES(CASE(a_table_agrees_with_a_model), CASE(keys_that_differ_in_one_place_are_spread),
      CASE(a_reader_sees_every_key_while_others_come_go_and_the_table_grows),
      CASE(nothing_is_freed_that_a_reader_may_hold), CASE(a_reader_that_wakes_during_a_collection_is_waited_for),
      CASE(a_record_never_names_the_successor_under_its_targets_index),
      CASE(an_id_stays_busy_while_a_reader_may_hold_it), CASE(an_id_is_taken_before_anybody_sees_it),
      CASE(what_is_in_use_is_not_deleted),
      CASE(floods_reach_those_who_want_them_in_the_order_of_ids),
      CASE(a_million_records_fit))
