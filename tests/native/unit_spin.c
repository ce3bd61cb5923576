/* unit_spin.c - when a worker looks on instead of going to sleep */
#include "check.h"
#include "limits.h"
#include "spin.h"

enum { SOON = VX_SPIN_NS / 5, LATE = 2 * VX_SPIN_NS, IN_VAIN = VX_SPIN_NS + 1000, TAKEN = 30 * VX_SPIN_NS };

/** wait_once() - One wait of so long, looked on at if the rules say so. Return: whether they did */
static bool wait_once(struct vx_spin *spin, enum vx_awaited awaited, uint64_t took_ns)
{
	bool tried = vx_spin_may(spin, awaited);

	if (tried)
		vx_spin_looked(spin, took_ns < IN_VAIN ? took_ns : IN_VAIN);
	vx_spin_waited(spin, awaited, took_ns);
	return tried;
}

/** tries_of() - How many of so many waits of one kind and length are tried */
static unsigned tries_of(struct vx_spin *spin, unsigned waits, uint64_t took_ns)
{
	unsigned tries = 0;

	for (unsigned i = 0; i < waits; i++)
		tries += wait_once(spin, VX_AWAIT_TAP, took_ns);
	return tries;
}

/** taken_of() - How many of so many short waits are tried if the CPU goes to somebody else at each look */
static unsigned taken_of(struct vx_spin *spin, unsigned waits)
{
	unsigned tries = 0;

	for (unsigned i = 0; i < waits; i++) {
		if (!vx_spin_may(spin, VX_AWAIT_TAP))
			continue;
		vx_spin_looked(spin, TAKEN);
		tries++;
	}
	return tries;
}

static void it_is_behind_little_only(void)
{
	CHECK(!vx_spin_little(0));
	CHECK(vx_spin_little(66));
	CHECK(vx_spin_little(VX_SPIN_BYTES));
	CHECK(!vx_spin_little(VX_SPIN_BYTES + 1));
}

static void short_waits_are_looked_on_at(void)
{
	struct vx_spin spin = { 0 };

	EQUAL(tries_of(&spin, 1000, SOON), 1000);
}

static void long_waits_are_slept_through_until_they_are_short_again(void)
{
	struct vx_spin spin = { 0 };

	CHECK(tries_of(&spin, 1000, LATE) < 10);
	EQUAL(tries_of(&spin, 1000, LATE), 0);
	CHECK(tries_of(&spin, 1000, SOON) > 980);
}

static void one_long_wait_among_short_ones_changes_nothing(void)
{
	struct vx_spin spin = { 0 };

	EQUAL(tries_of(&spin, 100, SOON), 100);
	wait_once(&spin, VX_AWAIT_TAP, UINT64_MAX);
	EQUAL(tries_of(&spin, 100, SOON), 100);
}

static void what_the_tunnel_brings_late_is_not_held_against_the_container(void)
{
	struct vx_spin spin = { 0 };
	unsigned tap = 0, tunnel = 0;

	for (unsigned i = 0; i < 1000; i++) {
		tap += wait_once(&spin, VX_AWAIT_TAP, SOON);
		tunnel += wait_once(&spin, VX_AWAIT_TUNNEL, LATE);
	}
	EQUAL(tap, 1000);
	CHECK(tunnel < 10);
}

static void whoever_wants_the_cpu_is_left_alone(void)
{
	struct vx_spin spin = { 0 };

	CHECK(taken_of(&spin, 10000) < 30);
	EQUAL(spin.penalty, VX_SPIN_TAKEN_MAX);
	CHECK(taken_of(&spin, 100000) <= 100000 / VX_SPIN_TAKEN_MAX + 1);
}

static void a_look_in_time_makes_good_what_was_taken(void)
{
	struct vx_spin spin = { 0 };

	taken_of(&spin, 100000);
	tries_of(&spin, 100000, SOON);
	EQUAL(spin.penalty, 0);
	EQUAL(tries_of(&spin, 1000, SOON), 1000);
}

CASES(CASE(it_is_behind_little_only), CASE(short_waits_are_looked_on_at),
      CASE(long_waits_are_slept_through_until_they_are_short_again),
      CASE(one_long_wait_among_short_ones_changes_nothing),
      CASE(what_the_tunnel_brings_late_is_not_held_against_the_container),
      CASE(whoever_wants_the_cpu_is_left_alone), CASE(a_look_in_time_makes_good_what_was_taken))
