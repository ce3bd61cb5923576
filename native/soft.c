/* soft.c - soft state: MACs that no record explains, learned and pending
 *
 * How it works
 *   Two kinds of source MAC come through the tunnel without a record. From a *foreign* VTEP, which no agent
 *   speaks for, they are *learned*: kept 300 s after the last frame, may move. From a *member* they are
 *   *pending*: gossip is on its way, so they pass for 5 s from the first frame; without a record by then they
 *   are *blocked* until they have been quiet for a minute, so that endless sending does not buy endless grace.
 *   Both kinds fill gaps in lookups of the other direction, and never override a record: the callers ask the
 *   FDB first.
 *
 *   One fixed array per network, VX_SOFT_WAY slots from the hash on. All workers write it: a slot's first word
 *   is claimed by compare-and-swap, its second is a plain store. A reader that meets a slot between the two
 *   sees an old expiry or a foreign generation, that is at worst one frame forwarded or missed by a stale
 *   answer: soft state may be wrong for a moment, records may not.
 *
 *   A VTEP holds at most VX_SOFT_PER_VTEP entries; its count goes up just before it claims a slot or takes one over, so
 *   that whoever takes it away finds it counted, and down when the sweep (the writer, once a second), a record or
 *   another VTEP does.
 */
#include "soft.h"

#include <errno.h>
#include <sys/mman.h>

#define KIND_BITS	4
#define KIND_MASK	15u
#define GEN_BITS	20
#define GEN_MASK	0xfffffu
#define WHEN_SHIFT	(KIND_BITS + GEN_BITS)
#define REFRESH_MS	1000	/* a learned entry is written at most once a second */

static_assert(VX_VTEPS_MAX <= 1 << 16, "a slot holds 16 bits of VTEP");

int vx_soft_init(struct vx_soft *soft)
{
	void *slots = mmap(NULL, VX_SOFT_SLOTS * sizeof(struct vx_soft_slot), PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (slots == MAP_FAILED)
		return -ENOMEM;
	soft->slots = slots;
	return 0;
}

void vx_soft_destroy(struct vx_soft *soft)
{
	if (soft->slots)
		munmap(soft->slots, VX_SOFT_SLOTS * sizeof(struct vx_soft_slot));
	soft->slots = NULL;
}

static struct vx_soft_slot *slot_at(const struct vx_soft *soft, uint64_t mac, unsigned way)
{
	uint32_t hash = (uint32_t)(mac * 0x9e3779b97f4a7c15u >> 40);

	return &soft->slots[(hash + way) % VX_SOFT_SLOTS];
}

static uint64_t when_word(uint64_t expiry_ms, uint32_t generation, unsigned kind)
{
	return expiry_ms << WHEN_SHIFT | (uint64_t)(generation & GEN_MASK) << KIND_BITS | kind;
}

/** kind_now() - What an entry is at a time: pending ones turn blocked; 0 once it is over */
static unsigned kind_now(uint64_t when, uint64_t now_ms)
{
	uint64_t expiry = when >> WHEN_SHIFT;
	unsigned kind = (unsigned)(when & KIND_MASK);

	if (now_ms < expiry)
		return kind;
	if (kind == VX_SOFT_PENDING && now_ms < expiry + VX_BLOCKED_MS)
		return VX_SOFT_BLOCKED;
	return 0;
}

static void uncount(_Atomic uint32_t *count)
{
	if (count && atomic_load_explicit(count, memory_order_relaxed))
		atomic_fetch_sub_explicit(count, 1, memory_order_relaxed);
}

static struct vx_soft_slot *find(const struct vx_soft *soft, uint64_t mac, uint64_t *who, uint64_t *when)
{
	for (unsigned way = 0; way < VX_SOFT_WAY; way++) {
		struct vx_soft_slot *slot = slot_at(soft, mac, way);

		*who = atomic_load_explicit(&slot->who, memory_order_acquire);
		if (*who >> 16 == mac) {
			*when = atomic_load_explicit(&slot->when, memory_order_relaxed);
			return slot;
		}
	}
	return NULL;
}

/** claim() - Take a free or expired slot for a new MAC */
static enum vx_reason claim(struct vx_soft *soft, uint64_t mac, struct vx_soft_source source, uint64_t now_ms,
			    uint8_t *event)
{
	uint64_t life = source.foreign ? VX_LEARNED_MS : VX_PENDING_MS;
	unsigned kind = source.foreign ? VX_SOFT_LEARNED : VX_SOFT_PENDING;
	uint64_t who;

	if (atomic_load_explicit(source.count, memory_order_relaxed) >= VX_SOFT_PER_VTEP)
		return VX_MAC_PENDING;
	if (source.dry)
		return VX_OK;
	atomic_fetch_add_explicit(source.count, 1, memory_order_relaxed);
	for (unsigned way = 0; way < VX_SOFT_WAY; way++) {
		struct vx_soft_slot *slot = slot_at(soft, mac, way);

		who = 0;
		if (!atomic_compare_exchange_strong(&slot->who, &who, mac << 16 | source.vtep))
			continue;
		atomic_store_explicit(&slot->when, when_word(now_ms + life, source.generation, kind),
				      memory_order_release);
		*event = source.foreign ? VX_EVENT_MAC_LEARNED : VX_EVENT_MAC_PENDING;
		return VX_OK;
	}
	uncount(source.count);
	return VX_MAC_PENDING;
}

/** take_over() - Make an entry (@who) the source's, which counts for it from now on. Return: false if it changed */
static bool take_over(struct vx_soft_slot *slot, uint64_t who, struct vx_soft_source source)
{
	uint32_t before = (uint32_t)(who & 0xffff);

	atomic_fetch_add_explicit(source.count, 1, memory_order_relaxed);
	if (!atomic_compare_exchange_strong(&slot->who, &who, (who & ~(uint64_t)0xffff) | source.vtep)) {
		uncount(source.count);
		return false;
	}
	uncount(source.count_of(source.context, before));
	return true;
}

/** relearn() - A learned MAC was seen again, perhaps behind another foreign VTEP */
static void relearn(struct vx_soft_slot *slot, uint64_t who, uint64_t when, struct vx_soft_source source,
		    uint64_t now_ms, uint8_t *event)
{
	uint64_t fresh = when_word(now_ms + VX_LEARNED_MS, source.generation, VX_SOFT_LEARNED);

	if (source.dry)
		return;
	if ((who & 0xffff) != source.vtep) {
		if (!take_over(slot, who, source))
			return;
		*event = VX_EVENT_MAC_LEARNED;
	} else if ((when >> WHEN_SHIFT) + REFRESH_MS > fresh >> WHEN_SHIFT) {
		return;
	}
	atomic_store_explicit(&slot->when, fresh, memory_order_release);
}

/**
 * vx_soft_note() - A frame from a MAC without a record came through the tunnel
 * @soft:	Soft state of its network
 * @mac:	Source MAC
 * @source:	VTEP it came from
 * @now_ms:	Time
 * @event:	Set to VX_EVENT_MAC_LEARNED or VX_EVENT_MAC_PENDING if this is news
 *
 * Return: VX_OK if the frame may pass; VX_MAC_PENDING if grace is over or the caps are reached. A foreign VTEP's
 * frames pass in any case: beyond the cap they are only not learned from.
 */
enum vx_reason vx_soft_note(struct vx_soft *soft, uint64_t mac, struct vx_soft_source source, uint64_t now_ms,
			    uint8_t *event)
{
	uint64_t who, when;
	struct vx_soft_slot *slot = find(soft, mac, &who, &when);
	unsigned kind = slot ? kind_now(when, now_ms) : 0;

	if (!slot) {
		enum vx_reason reason = claim(soft, mac, source, now_ms, event);

		return source.foreign ? VX_OK : reason;
	}
	if (source.foreign) {
		relearn(slot, who, when, source, now_ms, event);
		return VX_OK;
	}
	if (kind == VX_SOFT_PENDING && (who & 0xffff) == source.vtep)
		return VX_OK;
	if (kind == VX_SOFT_BLOCKED && !source.dry)
		atomic_store_explicit(&slot->when, when_word(now_ms, source.generation, VX_SOFT_PENDING),
				      memory_order_release);
	if (kind)
		return VX_MAC_PENDING;
	/* Expired, and not swept yet: a new grace starts in place. */
	if (source.dry || !take_over(slot, who, source))
		return VX_OK;
	atomic_store_explicit(&slot->when, when_word(now_ms + VX_PENDING_MS, source.generation, VX_SOFT_PENDING),
			      memory_order_release);
	*event = VX_EVENT_MAC_PENDING;
	return VX_OK;
}

/** vx_soft_find() - The VTEP behind which a MAC was seen, if it may be sent to */
bool vx_soft_find(const struct vx_soft *soft, uint64_t mac, uint64_t now_ms, uint32_t *vtep, uint32_t *generation)
{
	uint64_t who, when;
	unsigned kind;

	if (!find(soft, mac, &who, &when))
		return false;
	kind = kind_now(when, now_ms);
	if (kind != VX_SOFT_LEARNED && kind != VX_SOFT_PENDING)
		return false;
	*vtep = (uint32_t)(who & 0xffff);
	*generation = (uint32_t)(when >> KIND_BITS) & GEN_MASK;
	return true;
}

static void give_up(struct vx_soft_slot *slot, uint64_t who, _Atomic uint32_t *count)
{
	if (atomic_compare_exchange_strong(&slot->who, &who, 0))
		uncount(count);
}

/** vx_soft_sweep() - Free the slots whose entries are over; the writer's thread, about once a second */
void vx_soft_sweep(struct vx_soft *soft, uint64_t now_ms, _Atomic uint32_t *(*count_of)(void *, uint32_t),
		   void *context)
{
	for (unsigned i = 0; i < VX_SOFT_SLOTS; i++) {
		struct vx_soft_slot *slot = &soft->slots[i];
		uint64_t who = atomic_load_explicit(&slot->who, memory_order_acquire);
		uint64_t when = atomic_load_explicit(&slot->when, memory_order_relaxed);

		if (who && when && !kind_now(when, now_ms))
			give_up(slot, who, count_of(context, (uint32_t)(who & 0xffff)));
	}
}

/** vx_soft_forget() - Drop the entries of a MAC that got a record (@mac), or of a VTEP that left (@mac 0) */
void vx_soft_forget(struct vx_soft *soft, uint64_t mac, uint32_t vtep, _Atomic uint32_t *(*count_of)(void *, uint32_t),
		    void *context)
{
	uint64_t who;

	for (unsigned way = 0; mac && way < VX_SOFT_WAY; way++) {	/* two workers may have made one each */
		struct vx_soft_slot *slot = slot_at(soft, mac, way);

		who = atomic_load_explicit(&slot->who, memory_order_acquire);
		if (who >> 16 == mac)
			give_up(slot, who, count_of(context, (uint32_t)(who & 0xffff)));
	}
	if (mac)
		return;
	for (unsigned i = 0; i < VX_SOFT_SLOTS; i++) {
		who = atomic_load_explicit(&soft->slots[i].who, memory_order_acquire);
		if (who && (who & 0xffff) == vtep)
			give_up(&soft->slots[i], who, count_of(context, vtep));
	}
}

/** vx_soft_next() - Walk the entries that are not over. Return: false at the end */
bool vx_soft_next(const struct vx_soft *soft, uint64_t now_ms, uint64_t *cursor, vx_soft_entry *entry)
{
	while (*cursor < VX_SOFT_SLOTS) {
		struct vx_soft_slot *slot = &soft->slots[(*cursor)++];
		uint64_t who = atomic_load_explicit(&slot->who, memory_order_acquire);
		uint64_t when = atomic_load_explicit(&slot->when, memory_order_relaxed);
		unsigned kind = who ? kind_now(when, now_ms) : 0;
		uint64_t over = (when >> WHEN_SHIFT) + (kind == VX_SOFT_BLOCKED ? VX_BLOCKED_MS : 0);

		if (!kind)
			continue;
		vx_mac_put(entry->mac, who >> 16);
		entry->kind = (uint16_t)kind;
		entry->vtep = (uint32_t)(who & 0xffff);
		entry->left_ms = (uint32_t)(over - now_ms);
		return true;
	}
	return false;
}
