/* unit_spin.c - when a worker looks on instead of going to sleep */
#include "check.h"
#include "limits.h"
#include "spin.h"

enum { SOON = VX_SPIN_NS / 5, IN_VAIN = VX_SPIN_NS + 1000, TAKEN = 30 * VX_SPIN_NS, SMALL = 66 };

/** tries_of() - How many of so many waits behind small frames are tried, each with one end */
static unsigned tries_of(struct vx_spin *spin, unsigned waits, bool found, uint64_t took_ns)
{
	unsigned tries = 0;

	for (unsigned i = 0; i < waits; i++) {
		if (!vx_spin_may(spin, SMALL))
			continue;
		vx_spin_learn(spin, found, took_ns);
		tries++;
	}
	return tries;
}

static void it_is_behind_small_frames_only(void)
{
	struct vx_spin spin = { 0 };

	CHECK(!vx_spin_may(&spin, 0));
	CHECK(vx_spin_may(&spin, SMALL));
	CHECK(vx_spin_may(&spin, VX_SPIN_BYTES));
	CHECK(!vx_spin_may(&spin, VX_SPIN_BYTES + 1));
}

static void what_finds_goes_on(void)
{
	struct vx_spin spin = { 0 };

	EQUAL(tries_of(&spin, 1000, true, SOON), 1000);
}

static void what_finds_nothing_is_tried_ever_less_often(void)
{
	struct vx_spin spin = { 0 };
	unsigned first = tries_of(&spin, 100, false, IN_VAIN), later = tries_of(&spin, 10000, false, IN_VAIN);

	CHECK(first >= 5);
	CHECK(later >= 10000 / (VX_SPIN_FUTILE_MAX + 2));
	CHECK(later <= 10000 / (VX_SPIN_FUTILE_MAX + 1) + 1);
}

static void whoever_wants_the_cpu_is_left_alone(void)
{
	struct vx_spin spin = { 0 };

	tries_of(&spin, 10000, false, TAKEN);
	EQUAL(spin.penalty, VX_SPIN_TAKEN_MAX);
	CHECK(tries_of(&spin, 100000, false, TAKEN) <= 100000 / VX_SPIN_TAKEN_MAX + 1);
}

static void a_find_that_came_late_is_none(void)
{
	struct vx_spin spin = { 0 };

	CHECK(vx_spin_may(&spin, SMALL));
	vx_spin_learn(&spin, true, TAKEN);
	CHECK(!vx_spin_may(&spin, SMALL));
}

static void the_wish_for_a_cpu_outweighs_what_is_in_vain(void)
{
	struct vx_spin spin = { 0 };

	tries_of(&spin, 10000, false, TAKEN);
	while (!vx_spin_may(&spin, SMALL))
		;
	vx_spin_learn(&spin, false, IN_VAIN);
	EQUAL(spin.penalty, VX_SPIN_TAKEN_MAX);
}

static void finds_make_good_what_was_in_vain(void)
{
	struct vx_spin spin = { 0 };

	tries_of(&spin, 100000, false, TAKEN);
	tries_of(&spin, 100000, true, SOON);
	EQUAL(spin.penalty, 0);
	EQUAL(tries_of(&spin, 1000, true, SOON), 1000);
}

CASES(CASE(it_is_behind_small_frames_only), CASE(what_finds_goes_on),
      CASE(what_finds_nothing_is_tried_ever_less_often), CASE(whoever_wants_the_cpu_is_left_alone),
      CASE(a_find_that_came_late_is_none), CASE(the_wish_for_a_cpu_outweighs_what_is_in_vain),
      CASE(finds_make_good_what_was_in_vain))
