/* unit_soft.c - learned and pending MACs: grace, blocking, expiry, caps; and records that override them */
#include <signal.h>
#include <sys/mman.h>

#include "check.h"
#include "scene.h"

#define SECOND 1000000000ull

static enum vx_reason arrives(struct scene *scene, unsigned outer, uint64_t from)
{
	struct packet packet = packet_between(from, 0xee, MAC_A, 0x11);

	return from_vtep(scene, outer, put_packet(tunnel_room(scene), &packet, 4));
}

static bool is_reachable(struct scene *scene, uint64_t mac)
{
	struct packet packet = packet_between(MAC_A, 0x11, mac, 0xee);

	return from_port(scene, scene->a, put_packet(tap_room(scene), &packet, 4)) == VX_OK &&
	       scene->frame.act == VX_ACT_VTEP;
}

static void sweep(struct scene *scene)
{
	vx_soft_sweep(&scene->network->soft, scene->now_ns / 1000000, vx_net_soft_count, scene->tables);
}

static void an_unknown_mac_of_a_member_passes_for_five_seconds(void)
{
	struct scene *scene = scene_new(false);

	CHECK(!is_reachable(scene, MAC_NOBODY));
	REASON(arrives(scene, 2, MAC_NOBODY), VX_OK);
	EQUAL(scene->frame.event, VX_EVENT_MAC_PENDING);
	CHECK(scene->frame.notes & VX_NOTE_PENDING);
	CHECK(is_reachable(scene, MAC_NOBODY));
	EQUAL(scene->frame.target, scene->member);
	REASON(arrives(scene, 3, MAC_NOBODY), VX_MAC_PENDING);	/* first come, first served */
	scene->now_ns += 4 * SECOND + 900 * SECOND / 1000;
	REASON(arrives(scene, 2, MAC_NOBODY), VX_OK);
	EQUAL(scene->frame.event, 0);
	scene->now_ns += SECOND / 5;
	REASON(arrives(scene, 2, MAC_NOBODY), VX_MAC_PENDING);
	CHECK(!is_reachable(scene, MAC_NOBODY));
	scene_free(scene);
}

static void the_event_names_the_sender_even_if_the_frame_goes_nowhere(void)
{
	struct scene *scene = scene_new(false);
	struct packet packet = packet_between(MAC_NOBODY, 0xee, 0x020000000001, 0xdd);

	REASON(from_vtep(scene, 2, put_packet(tunnel_room(scene), &packet, 4)), VX_FDB_MISS);
	EQUAL(scene->frame.event, VX_EVENT_MAC_PENDING);
	EQUAL(vx_mac(scene->frame.event_mac), MAC_NOBODY);
	REASON(from_vtep(scene, 2, put_packet(tunnel_room(scene), &packet, 4)), VX_FDB_MISS);
	EQUAL(scene->frame.event, VX_EVENT_FDB_MISS);
	EQUAL(vx_mac(scene->frame.event_mac), 0x020000000001);
	scene_free(scene);
}

static void sending_on_does_not_buy_a_new_grace_but_silence_does(void)
{
	struct scene *scene = scene_new(false);

	REASON(arrives(scene, 2, MAC_NOBODY), VX_OK);
	for (unsigned i = 0; i < 10; i++) {
		scene->now_ns += 30 * SECOND;
		REASON(arrives(scene, 2, MAC_NOBODY), VX_MAC_PENDING);
		sweep(scene);
	}
	scene->now_ns += 61 * SECOND;
	REASON(arrives(scene, 2, MAC_NOBODY), VX_OK);
	scene_free(scene);
}

static void a_record_ends_the_wait(void)
{
	struct scene *scene = scene_new(false);

	REASON(arrives(scene, 2, MAC_NOBODY), VX_OK);
	scene->now_ns += 30 * SECOND;
	REASON(arrives(scene, 2, MAC_NOBODY), VX_MAC_PENDING);
	EQUAL(vx_fdb_record(scene->network, MAC_NOBODY, (struct vx_place){ VX_AT_VTEP, (uint32_t)scene->member }), 0);
	REASON(arrives(scene, 2, MAC_NOBODY), VX_OK);
	CHECK(!(scene->frame.notes & VX_NOTE_PENDING));
	EQUAL(vx_net_vtep(scene->tables, (uint32_t)scene->member)->soft_count, 0);
	scene_free(scene);
}

/* What happens to a scene after the look at its tables, before the entry is made */
static void (*happens)(struct scene *);
static struct scene *meanwhile;

static void its_record_comes(struct scene *scene)
{
	EQUAL(vx_fdb_record(scene->network, MAC_NOBODY, (struct vx_place){ VX_AT_VTEP, (uint32_t)scene->member }), 0);
}

static void all_vteps_leave(struct scene *scene)
{
	EQUAL(vx_net_vteps(scene->tables, (uint32_t)scene->net, NULL, 0), 0);
}

enum vx_reason __real_vx_soft_note(struct vx_soft *soft, uint64_t mac, struct vx_soft_source source, uint64_t now_ms,
				   uint8_t *event);
enum vx_reason __wrap_vx_soft_note(struct vx_soft *soft, uint64_t mac, struct vx_soft_source source, uint64_t now_ms,
				   uint8_t *event);
enum vx_reason __wrap_vx_soft_note(struct vx_soft *soft, uint64_t mac, struct vx_soft_source source, uint64_t now_ms,
				   uint8_t *event)
{
	struct scene *scene = meanwhile;

	meanwhile = NULL;
	if (scene)
		happens(scene);
	return __real_vx_soft_note(soft, mac, source, now_ms, event);
}

static void no_entry_stays_beside_a_record_that_came_while_it_was_made(void)
{
	struct scene *scene = scene_new(false);
	uint64_t cursor = 0;
	vx_soft_entry entry;

	happens = its_record_comes;
	meanwhile = scene;
	REASON(arrives(scene, 2, MAC_NOBODY), VX_OK);
	CHECK(!meanwhile);
	CHECK(!vx_soft_next(&scene->network->soft, scene->now_ns / 1000000, &cursor, &entry));
	scene->now_ns += VX_PENDING_MS * 1000000ull;
	REASON(arrives(scene, 2, MAC_NOBODY), VX_OK);
	CHECK(is_reachable(scene, MAC_NOBODY));
	scene_free(scene);
}

static void no_entry_names_a_vtep_that_left_while_it_was_made(void)
{
	struct scene *scene = scene_new(true);
	struct vx_vtep *foreign = vx_net_vtep(scene->tables, (uint32_t)scene->foreign);

	REASON(arrives(scene, 4, MAC_NOBODY + 1), VX_OK);		/* positive control */
	CHECK(is_reachable(scene, MAC_NOBODY + 1));
	EQUAL(scene->frame.target, scene->foreign);
	EQUAL(foreign->soft_count, 1);
	happens = all_vteps_leave;
	meanwhile = scene;
	REASON(arrives(scene, 4, MAC_NOBODY), VX_OK);
	CHECK(!meanwhile);
	CHECK(!is_reachable(scene, MAC_NOBODY));
	EQUAL(foreign->soft_count, 0);
	scene_free(scene);
}

static void a_record_ends_the_entries_that_two_workers_made_at_once(void)
{
	struct scene *scene = scene_new(false);
	struct vx_soft_slot *slots = scene->network->soft.slots;
	struct vx_place place = { VX_AT_VTEP, (uint32_t)scene->member };
	uint64_t cursor = 0;
	unsigned at = 0;
	vx_soft_entry entry;

	REASON(arrives(scene, 2, MAC_NOBODY), VX_OK);
	while (slots[at].who >> 16 != MAC_NOBODY)
		at++;
	EQUAL(slots[(at + 1) % VX_SOFT_SLOTS].who, 0);
	slots[(at + 1) % VX_SOFT_SLOTS].when = slots[at].when;
	slots[(at + 1) % VX_SOFT_SLOTS].who = slots[at].who;
	EQUAL(vx_fdb_record(scene->network, MAC_NOBODY, place), 0);
	CHECK(!vx_soft_next(&scene->network->soft, scene->now_ns / 1000000, &cursor, &entry));
	scene_free(scene);
}

/* A count on a read-only page: the first change of it faults, and just then the entry is forgotten */
static struct scene *told;
static _Atomic uint32_t *watched;

static _Atomic uint32_t *count_of(void *context, uint32_t vtep)
{
	(void)context;
	(void)vtep;
	return watched;
}

static void before_it_changes(int signal)
{
	(void)signal;
	mprotect((void *)watched, 4096, PROT_READ | PROT_WRITE);
	vx_soft_forget(&told->network->soft, MAC_NOBODY, 0, count_of, NULL);
}

static void an_entry_that_is_forgotten_as_it_is_made_is_not_counted_for_ever(void)
{
	struct sigaction action = { .sa_handler = before_it_changes }, old;
	struct scene *scene = scene_new(false);
	struct vx_soft *soft = &scene->network->soft;
	struct vx_soft_source source = { .vtep = (uint32_t)scene->member, .count_of = count_of };
	uint64_t cursor = 0;
	uint8_t event = 0;
	vx_soft_entry entry;

	told = scene;
	watched = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(watched != MAP_FAILED);
	source.count = watched;
	sigaction(SIGSEGV, &action, &old);
	REASON(vx_soft_note(soft, MAC_NOBODY, source, 1000, &event), VX_OK);
	sigaction(SIGSEGV, &old, NULL);
	EQUAL(event, VX_EVENT_MAC_PENDING);
	EQUAL(*watched, vx_soft_next(soft, 1000, &cursor, &entry));
	vx_soft_forget(soft, MAC_NOBODY, 0, count_of, NULL);
	EQUAL(*watched, 0);
	munmap((void *)watched, 4096);
	scene_free(scene);
}

static void a_foreign_vtep_is_learned_from_and_forgotten(void)
{
	struct scene *scene = scene_new(true);
	struct vx_vtep *foreign = vx_net_vtep(scene->tables, (uint32_t)scene->foreign);

	REASON(arrives(scene, 4, MAC_NOBODY), VX_OK);
	EQUAL(scene->frame.event, VX_EVENT_MAC_LEARNED);
	CHECK(is_reachable(scene, MAC_NOBODY));
	EQUAL(scene->frame.target, scene->foreign);
	scene->now_ns += 200 * SECOND;
	REASON(arrives(scene, 4, MAC_NOBODY), VX_OK);
	EQUAL(scene->frame.event, 0);
	scene->now_ns += 299 * SECOND;
	sweep(scene);
	CHECK(is_reachable(scene, MAC_NOBODY));
	EQUAL(foreign->soft_count, 1);
	scene->now_ns += 2 * SECOND;
	CHECK(!is_reachable(scene, MAC_NOBODY));
	sweep(scene);
	EQUAL(foreign->soft_count, 0);
	scene_free(scene);
}

static void learning_never_overrides_a_record(void)
{
	struct scene *scene = scene_new(true);

	REASON(arrives(scene, 4, MAC_FAR), VX_VTEP_MAC);
	REASON(arrives(scene, 4, MAC_A), VX_LOCAL_MAC);
	CHECK(is_reachable(scene, MAC_FAR));
	EQUAL(scene->frame.target, scene->member);
	scene_free(scene);
}

static void one_vtep_cannot_fill_the_table(void)
{
	struct scene *scene = scene_new(true);
	unsigned kept = 0;

	for (uint64_t i = 0; i < 3000; i++) {
		REASON(arrives(scene, 4, 0x020000000000 + i), VX_OK);
		kept += scene->frame.event == VX_EVENT_MAC_LEARNED;
	}
	CHECK(kept <= VX_SOFT_PER_VTEP && kept > VX_SOFT_PER_VTEP / 2);
	EQUAL(vx_net_vtep(scene->tables, (uint32_t)scene->foreign)->soft_count, kept);

	kept = 0;
	for (uint64_t i = 0; i < 3000; i++)
		kept += arrives(scene, 2, 0x020001000000 + i) == VX_OK;
	CHECK(kept <= VX_SOFT_PER_VTEP && kept > VX_SOFT_PER_VTEP / 4);
	REASON(scene->frame.reason, VX_MAC_PENDING);
	scene_free(scene);
}

static void an_entry_that_moves_counts_against_its_new_vtep(void)
{
	struct scene *scene = scene_new(true);
	struct vx_vtep *first = vx_net_vtep(scene->tables, (uint32_t)scene->foreign);
	struct vx_vtep *second = vx_net_vtep(scene->tables, (uint32_t)scene->second);
	vx_member both[2] = { { first->id, VX_MEMBER_FOREIGN }, { second->id, VX_MEMBER_FOREIGN } };

	EQUAL(vx_net_vteps(scene->tables, (uint32_t)scene->net, both, 2), 0);
	REASON(arrives(scene, 4, MAC_NOBODY), VX_OK);
	EQUAL(first->soft_count, 1);
	REASON(arrives(scene, 3, MAC_NOBODY), VX_OK);
	EQUAL(first->soft_count, 0);
	EQUAL(second->soft_count, 1);
	scene->now_ns += (VX_LEARNED_MS + 1) * (SECOND / 1000);
	sweep(scene);
	EQUAL(first->soft_count, 0);
	EQUAL(second->soft_count, 0);
	scene_free(scene);
}

static void a_vtep_that_leaves_takes_its_soft_state_along(void)
{
	struct scene *scene = scene_new(true);
	vx_member rest = { (uint32_t)scene->member, VX_MEMBER_FLOOD };
	uint64_t cursor = 0;
	vx_soft_entry entry;

	REASON(arrives(scene, 4, MAC_NOBODY), VX_OK);
	CHECK(vx_soft_next(&scene->network->soft, scene->now_ns / 1000000, &cursor, &entry));
	EQUAL(vx_mac(entry.mac), MAC_NOBODY);
	EQUAL(entry.kind, VX_SOFT_LEARNED);
	EQUAL(entry.left_ms, VX_LEARNED_MS);
	CHECK(!vx_soft_next(&scene->network->soft, scene->now_ns / 1000000, &cursor, &entry));
	EQUAL(vx_net_vteps(scene->tables, (uint32_t)scene->net, &rest, 1), 0);
	cursor = 0;
	CHECK(!vx_soft_next(&scene->network->soft, scene->now_ns / 1000000, &cursor, &entry));
	CHECK(!is_reachable(scene, MAC_NOBODY));
	scene_free(scene);
}

CASES(CASE(an_unknown_mac_of_a_member_passes_for_five_seconds),
      CASE(the_event_names_the_sender_even_if_the_frame_goes_nowhere),
      CASE(sending_on_does_not_buy_a_new_grace_but_silence_does), CASE(a_record_ends_the_wait),
      CASE(no_entry_stays_beside_a_record_that_came_while_it_was_made),
      CASE(no_entry_names_a_vtep_that_left_while_it_was_made),
      CASE(a_record_ends_the_entries_that_two_workers_made_at_once),
      CASE(an_entry_that_is_forgotten_as_it_is_made_is_not_counted_for_ever),
      CASE(a_foreign_vtep_is_learned_from_and_forgotten), CASE(learning_never_overrides_a_record),
      CASE(one_vtep_cannot_fill_the_table),
      CASE(an_entry_that_moves_counts_against_its_new_vtep), CASE(a_vtep_that_leaves_takes_its_soft_state_along))
