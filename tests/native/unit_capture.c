/* unit_capture.c - what a capture's file says of frames that a worker moved, and what it says it has lost
 *
 * The worker's thread does not run: cases call what its turn calls. The writer's thread runs, and each case waits
 * for it to end before it reads the file, block by block.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "csum.h"
#include "engine.h"
#include "eth.h"
#include "rig.h"

#define FILE_MAX	(8u << 20)
#define BLOCK_FRAME	6
#define BLOCK_STATISTICS 5
#define INTERFACE_A	2
#define INTERFACE_B	3
#define EVERYTHING	(VX_CAPTURE_INNER | VX_CAPTURE_OUTER | VX_CAPTURE_LOST)
#define BOTH_WAYS	(VX_CAPTURE_TO | VX_CAPTURE_FROM)

struct looker {
	struct rig *rig;
	struct vx_engine engine;
	int file;
	int id;
	uint8_t *read;
	size_t len;
};

/* A frame as the file has it */
struct seen {
	uint32_t interface;
	uint32_t captured;
	uint32_t len;
	uint32_t flags;
	uint64_t packet;
	uint64_t dropcount;
	char comment[200];
	const uint8_t *data;
};

static vx_capture_config config_of(int fd, uint32_t flags)
{
	return (vx_capture_config){ .fd = fd, .flags = flags, .directions = BOTH_WAYS, .reasons = UINT64_MAX };
}

/** open_looker() - A capture of ports A and B. It takes frames, but nobody writes them before end() */
static struct looker *open_looker(int fd, vx_capture_config config)
{
	struct looker *looker = calloc(1, sizeof(*looker));

	looker->rig = rig_new(VX_OFFLOAD_ALL);
	looker->engine.captures = calloc(1, sizeof(*looker->engine.captures));
	looker->engine.workers = looker->engine.captures->workers = 1;
	looker->engine.captures->watch[0] = &looker->rig->worker.watch;
	looker->rig->worker.watch.captures = looker->engine.captures;
	looker->file = dup(fd);
	looker->id = vx_capture_new(&looker->engine, &config);
	EQUAL(looker->id, 0);
	EQUAL(vx_capture_port(&looker->engine, 0, looker->rig->scene->a, INTERFACE_A, "a.net"), 0);
	EQUAL(vx_capture_port(&looker->engine, 0, looker->rig->scene->b, INTERFACE_B, "b.net"), 0);
	atomic_store(&looker->engine.captures->active, 1);
	return looker;
}

static vx_capture_info info_of(const struct looker *looker)
{
	vx_capture_info info;

	EQUAL(vx_capture_info_get(&looker->engine, looker->id, &info), 0);
	return info;
}

/** end() - Let the writer write what there is, and read it */
static void end(struct looker *looker)
{
	EQUAL(vx_capture_start(&looker->engine, looker->id), 0);
	EQUAL(vx_capture_stop(&looker->engine, looker->id), 0);
	while (!info_of(looker).ended)
		sched_yield();
	looker->read = malloc(FILE_MAX);
	ssize_t got = pread(looker->file, looker->read, FILE_MAX, 0);
	looker->len = got < 0 ? 0 : (size_t)got;
}

static void close_looker(struct looker *looker)
{
	vx_captures_free(looker->engine.captures);
	looker->rig->worker.watch.captures = NULL;
	rig_free(looker->rig);
	close(looker->file);
	free(looker->read);
	free(looker);
}

static uint32_t word(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static uint64_t words(const uint8_t *at)
{
	uint64_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

/** next_block() - The next block of a type, its length at both ends checked. NULL: none */
static const uint8_t *next_block(const struct looker *looker, size_t *at, uint32_t type)
{
	while (*at < looker->len) {
		const uint8_t *block = looker->read + *at;
		uint32_t len = word(block + 4);

		CHECK(len % 4 == 0 && len >= 12 && *at + len <= looker->len);
		EQUAL(word(block + len - 4), len);
		*at += len;
		if (word(block) == type)
			return block;
	}
	return NULL;
}

static bool next_frame(const struct looker *looker, size_t *at, struct seen *seen)
{
	const uint8_t *block = next_block(looker, at, BLOCK_FRAME), *option;

	if (!block)
		return false;
	*seen = (struct seen){ .interface = word(block + 8), .captured = word(block + 20), .len = word(block + 24),
			       .data = block + 28 };
	option = seen->data + (seen->captured + 3) / 4 * 4;
	for (uint32_t head; (head = word(option)); option += 4 + ((head >> 16) + 3) / 4 * 4) {
		if ((head & 0xffff) == 2)
			seen->flags = word(option + 4);
		else if ((head & 0xffff) == 4)
			seen->dropcount = words(option + 4);
		else if ((head & 0xffff) == 5)
			seen->packet = words(option + 4);
		else if ((head & 0xffff) == 1)
			memcpy(seen->comment, option + 4, head >> 16);
	}
	return true;
}

/** moves() - What a turn does with a frame from port A: looked at, decided, delivered */
static void moves(struct looker *looker, struct packet packet, enum vx_reason reason)
{
	struct scene *scene = looker->rig->scene;
	uint32_t len = put_packet(tap_room(scene), &packet, 4);
	struct vx_frame arrived = {
		.data = tap_room(scene), .len = len, .from = VX_AT_PORT, .from_id = (uint32_t)scene->a,
	};

	looker->rig->worker.now_ns = scene->now_ns;
	vx_capture_arrived(&looker->rig->worker.watch, &arrived, 1);
	CHECK(arrived.packet);
	REASON(from_port(scene, scene->a, len), reason);
	scene->frame.packet = arrived.packet;
	rig_deliver(looker->rig);
}

static int memory(void)
{
	int fd = memfd_create("capture", MFD_CLOEXEC);

	CHECK(fd >= 0);
	return fd;
}

static void a_packet_has_one_number_wherever_it_is_seen(void)
{
	int fd = memory();
	struct looker *looker = open_looker(fd, config_of(fd, EVERYTHING));
	struct seen from, to, out;
	size_t at = 0;

	moves(looker, packet_between(MAC_A, 0x11, MAC_B, 0x12), VX_OK);
	moves(looker, packet_between(MAC_A, 0x11, MAC_FAR, 0x21), VX_OK);
	end(looker);
	CHECK(next_frame(looker, &at, &from) && next_frame(looker, &at, &to));
	EQUAL(from.interface, INTERFACE_A);
	EQUAL(from.flags, VX_CAPTURE_FROM);
	EQUAL(to.interface, INTERFACE_B);
	EQUAL(to.flags, VX_CAPTURE_TO);
	EQUAL(to.packet, from.packet);
	EQUAL(to.len, from.len);
	EQUAL(memcmp(to.data, from.data, from.len), 0);
	CHECK(next_frame(looker, &at, &from) && next_frame(looker, &at, &out));
	CHECK(from.packet != to.packet);
	EQUAL(out.packet, from.packet);
	EQUAL(out.interface, VX_CAPTURE_UNDERLAY);
	EQUAL(out.flags, VX_CAPTURE_FROM);
	EQUAL(out.len, 14 + 20 + 8 + 8 + from.len);
	EQUAL(vx_get16(out.data + 16), out.len - 14);		/* IP length */
	EQUAL(out.data[26], 127);				/* our address */
	EQUAL(out.data[33], 2);					/* 10.89.0.2 */
	CHECK(vx_get16(out.data + 34) >= VX_TX_PORT_MIN);
	EQUAL(vx_get16(out.data + 36), 4789);
	EQUAL(memcmp(out.data + 50, from.data, from.len), 0);
	CHECK(!next_frame(looker, &at, &out));
	EQUAL(info_of(looker).frames, 4);
	close_looker(looker);
}

static void a_drop_says_its_reason_and_who_sent_it(void)
{
	int fd = memory();
	struct looker *looker = open_looker(fd, config_of(fd, VX_CAPTURE_LOST));
	struct seen seen;
	size_t at = 0;

	moves(looker, packet_between(MAC_A, 0x11, MAC_B, 0x12), VX_OK);		/* not shown: it is delivered */
	moves(looker, packet_between(MAC_A, 0x11, MAC_NOBODY, 0x99), VX_FDB_MISS);
	end(looker);
	CHECK(next_frame(looker, &at, &seen));
	EQUAL(seen.interface, VX_CAPTURE_DROPS);
	EQUAL(strcmp(seen.comment, "vxlanu drop=fdb_miss path=out ep=a.net vni=256 frames=1"), 0);
	CHECK(!next_frame(looker, &at, &seen));
	close_looker(looker);
}

static void only_the_reasons_that_were_asked_for_are_kept(void)
{
	int fd = memory();
	vx_capture_config config = config_of(fd, VX_CAPTURE_LOST);

	config.reasons = 1ull << VX_FDB_MISS;
	struct looker *looker = open_looker(fd, config);

	moves(looker, packet_between(MAC_B, 0x11, MAC_FAR, 0x21), VX_SRC_MAC_SPOOF);
	moves(looker, packet_between(MAC_A, 0x11, MAC_NOBODY, 0x99), VX_FDB_MISS);
	end(looker);
	EQUAL(info_of(looker).frames, 1);
	close_looker(looker);
}

static void a_port_that_is_not_selected_is_not_seen(void)
{
	int fd = memory();
	struct looker *looker = open_looker(fd, config_of(fd, EVERYTHING));

	EQUAL(vx_capture_port(&looker->engine, 0, looker->rig->scene->a, 0, ""), 0);
	moves(looker, packet_between(MAC_A, 0x11, MAC_FAR, 0x21), VX_OK);
	moves(looker, packet_between(MAC_A, 0x11, MAC_B, 0x12), VX_OK);
	end(looker);
	EQUAL(info_of(looker).frames, 1);
	close_looker(looker);
}

static void whoever_gets_a_freed_id_is_not_selected_by_it(void)
{
	int fd = memory();
	struct looker *looker = open_looker(fd, config_of(fd, EVERYTHING));

	moves(looker, packet_between(MAC_A, 0x11, MAC_FAR, 0x21), VX_OK);
	vx_captures_forget(looker->engine.captures, VX_AT_PORT, (uint32_t)looker->rig->scene->a);
	moves(looker, packet_between(MAC_A, 0x11, MAC_FAR, 0x21), VX_OK);
	end(looker);
	EQUAL(info_of(looker).frames, 2);	/* inner and outer of the first */
	close_looker(looker);
}

static void an_unfinished_checksum_is_finished_in_the_copy_alone(void)
{
	int fd = memory();
	vx_capture_config config = config_of(fd, VX_CAPTURE_INNER);

	config.snaplen = 60;
	struct looker *looker = open_looker(fd, config);
	struct scene *scene = looker->rig->scene;
	struct packet packet = packet_between(MAC_A, 0x11, MAC_B, 0x12);
	uint32_t len = put_packet(tap_room(scene), &packet, 4);
	struct vx_frame frame = {
		.data = tap_room(scene), .len = len, .from = VX_AT_PORT, .from_id = (uint32_t)scene->a,
		.vnet = { .flags = VX_VNET_NEEDS_CSUM, .csum_start = 34, .csum_offset = 6 },
	};
	uint16_t right = vx_get16(frame.data + 40), partial;
	struct seen seen;
	size_t at = 0;

	CHECK(right && len > config.snaplen);
	partial = vx_csum_fold(vx_csum_pseudo(frame.data + 14, 4, VX_PROTO_UDP, len - 34));
	vx_put16(frame.data + 40, partial);
	vx_capture_arrived(&looker->rig->worker.watch, &frame, 1);
	EQUAL(vx_get16(frame.data + 40), partial);
	end(looker);
	CHECK(next_frame(looker, &at, &seen));
	EQUAL(vx_get16(seen.data + 40), right);
	EQUAL(seen.captured, 60);
	EQUAL(seen.len, len);
	close_looker(looker);
}

static void what_does_not_fit_the_ring_is_counted_to_the_frame(void)
{
	int fd = memory();
	struct looker *looker = open_looker(fd, config_of(fd, VX_CAPTURE_INNER));
	struct scene *scene = looker->rig->scene;
	unsigned offered = 3 * VX_CAPTURE_RING / 60000, frames = 0;
	uint64_t statistics = 0, told = 0;
	const uint8_t *block;
	struct seen seen;
	size_t at = 0;

	memset(tap_room(scene), 0, 60000);
	for (unsigned i = 0; i < offered; i++) {
		struct vx_frame frame = { .data = tap_room(scene), .len = i % 7 ? 60000 : 61, .from = VX_AT_PORT,
					  .from_id = (uint32_t)scene->a };

		vx_capture_arrived(&looker->rig->worker.watch, &frame, 1);
	}
	end(looker);
	while (next_frame(looker, &at, &seen)) {
		frames++;
		told += seen.dropcount;
	}
	at = 0;
	while ((block = next_block(looker, &at, BLOCK_STATISTICS)))
		if (word(block + 8) == INTERFACE_A)
			statistics = words(block + 20 + 2 * 12 + 12 + 4); /* ifdrop, behind times, ifrecv */
	CHECK(frames > 50 && info_of(looker).lost > 50);
	EQUAL(frames + info_of(looker).lost, offered);
	EQUAL(statistics, info_of(looker).lost);
	CHECK(told && told <= statistics);
	close_looker(looker);
}

static void a_capture_ends_by_itself_when_it_has_enough(void)
{
	int fd = memory();
	vx_capture_config config = config_of(fd, VX_CAPTURE_INNER);

	config.frames_max = 3;
	struct looker *looker = open_looker(fd, config);

	for (unsigned i = 0; i < 5; i++)
		moves(looker, packet_between(MAC_A, 0x11, MAC_FAR, 0x21), VX_OK);
	EQUAL(vx_capture_start(&looker->engine, 0), 0);
	while (!info_of(looker).ended)
		sched_yield();
	EQUAL(info_of(looker).frames, 3);
	EQUAL(atomic_load(&looker->engine.captures->active), 0);
	close_looker(looker);
}

static void a_reader_that_is_gone_ends_the_capture(void)
{
	int ends[2];

	signal(SIGPIPE, SIG_IGN);
	EQUAL(pipe2(ends, O_CLOEXEC), 0);
	struct looker *looker = open_looker(ends[1], config_of(ends[1], VX_CAPTURE_INNER));

	close(ends[0]);
	moves(looker, packet_between(MAC_A, 0x11, MAC_FAR, 0x21), VX_OK);
	EQUAL(vx_capture_start(&looker->engine, 0), 0);
	while (!info_of(looker).ended)
		sched_yield();
	EQUAL(atomic_load(&looker->engine.captures->active), 0);
	EQUAL(vx_capture_free(&looker->engine, 0), 0);
	vx_captures_release(looker->engine.captures);
	EQUAL(vx_capture_stop(&looker->engine, 0), -ENOENT);
	close_looker(looker);
}

static void a_reader_that_sleeps_does_not_keep_the_engine_from_ending(void)
{
	int ends[2];

	EQUAL(pipe2(ends, O_CLOEXEC), 0);
	EQUAL(fcntl(ends[1], F_SETPIPE_SZ, 4096), 4096);
	struct looker *looker = open_looker(ends[1], config_of(ends[1], VX_CAPTURE_INNER));

	for (unsigned i = 0; i < 100; i++)
		moves(looker, packet_between(MAC_A, 0x11, MAC_FAR, 0x21), VX_OK);
	EQUAL(vx_capture_start(&looker->engine, 0), 0);
	close_looker(looker);
	close(ends[0]);
}

CASES(CASE(own_namespace), CASE(a_packet_has_one_number_wherever_it_is_seen),
      CASE(a_drop_says_its_reason_and_who_sent_it), CASE(only_the_reasons_that_were_asked_for_are_kept),
      CASE(a_port_that_is_not_selected_is_not_seen), CASE(whoever_gets_a_freed_id_is_not_selected_by_it),
      CASE(an_unfinished_checksum_is_finished_in_the_copy_alone),
      CASE(what_does_not_fit_the_ring_is_counted_to_the_frame), CASE(a_capture_ends_by_itself_when_it_has_enough),
      CASE(a_reader_that_is_gone_ends_the_capture), CASE(a_reader_that_sleeps_does_not_keep_the_engine_from_ending))
