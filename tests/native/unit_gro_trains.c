/* unit_gro_trains.c - what leaves the coalescer: whose order is kept, in what form, and how it is taken apart again */
#include <stdlib.h>

#include "batch.h"
#include "check.h"
#include "eth.h"
#include "net.h"

#define UDP_MOST	VX_TRAIN_FRAMES

static void a_lone_frame_leaves_exactly_as_it_came(void)
{
	EVERY_VERSION(version) {
		for (int partial = 0; partial < 2; partial++) {
			struct wire wire = batch_tcp(version, 0);
			uint8_t copy[512];
			uint32_t len;

			wire.len = 3;
			wire.padding = 11;
			wire.partial = partial;
			len = wire_put(copy, &wire);
			batch_begin();
			batch_add(wire);
			vx_gro_flush(batch.gro);
			EQUAL(batch.trains, 1);
			EQUAL(batch.train[0].frames, 1);
			EQUAL(batch.train[0].bytes, len);
			EQUAL(batch.train[0].part[0].iov_len, len);
			CHECK(memcmp(batch.bytes[0], copy, len) == 0);
			EQUAL(batch.train[0].vnet.flags, partial ? VX_VNET_NEEDS_CSUM : 0);
			EQUAL(batch.train[0].vnet.gso_type, VX_GSO_NONE);
		}
	}
}

static void padding_is_trimmed_from_what_merges_and_counted(void)
{
	EVERY_VERSION(version) {
		for (uint32_t padding = 0; padding < 9; padding++) {
			struct wire first = batch_tcp(version, 0), second = batch_tcp(version, 1);
			uint8_t packets[1024];
			uint32_t lens[2], headers = version == 4 ? 54 : 74;

			first.len = second.len = 2;
			second.seq = first.seq + 2;
			first.padding = padding;
			second.padding = 2 * padding;
			batch_begin();
			batch_add(first);
			batch_add(second);
			ARRIVE(4);
			EQUAL(batch.train[0].part[0].iov_len, headers + 2);
			EQUAL(batch.train[0].part[1].iov_len, 2);
			EQUAL(batch.train[0].bytes, 2 * (headers + 2) + 3 * padding);
			EQUAL(wire_cut(&batch.train[0], packets, lens, 2), 2);
		}
	}
}

static void udp_of_one_length_merges_and_a_shorter_one_is_the_last(void)
{
	EVERY_VERSION(version) {
		struct wire wire = batch_udp(version, 2);

		batch_begin();
		batch_add(batch_udp(version, 0));
		batch_add(batch_udp(version, 1));
		wire.len = LEN - 1;
		batch_add(wire);
		EQUAL(batch.trains, 1);			/* it did not wait for the end of the batch */
		wire.id++;
		batch_add(wire);
		ARRIVE(3 * LEN - 1, LEN - 1);
		EQUAL(batch.train[0].vnet.gso_type, VX_GSO_UDP_L4);
		EQUAL(batch.train[0].vnet.gso_size, LEN);
		EQUAL(batch.train[0].frames, 3);

		batch_begin();				/* an empty one ends what is before it */
		batch_add(batch_udp(version, 0));
		wire.len = 0;
		batch_add(wire);
		batch_add(batch_udp(version, 1));
		ARRIVE(LEN, 0, LEN);
	}
}

static void a_train_has_64_frames_at_most(void)
{
	EVERY_VERSION(version) {
		for (int of = 0; of < 2; of++) {
			batch_begin();
			for (unsigned i = 0; i < UDP_MOST + 2; i++)
				batch_add(of ? batch_udp(version, i) : batch_tcp(version, i));
			ARRIVE(UDP_MOST * LEN, 2 * LEN);
			EQUAL(batch.train[0].parts, UDP_MOST);
		}
	}
}

static void a_udp_length_that_is_not_the_packets_does_not_merge(void)
{
	EVERY_VERSION(version) {
		for (int wrong = 0; wrong < 2; wrong++) {
			struct wire wire = batch_udp(version, 0);
			uint32_t len, l4 = version == 4 ? 34 : 54;

			batch_begin();
			for (unsigned i = 0; i < 2; i++) {
				struct vx_frame frame;

				wire = batch_udp(version, i);
				len = wire_put(batch.next, &wire);
				vx_put16(batch.next + l4 + 4, (uint16_t)(8 + LEN - wrong));
				frame = wire_frame(batch.next, len);
				frame.vnet = (struct vx_vnet){ VX_VNET_NEEDS_CSUM, 0, 0, 0, (uint16_t)l4, 6 };
				batch.next += len;
				REASON(vx_gro_add(batch.gro, &frame, BATCH_PORT, BATCH_BOTH), VX_OK);
			}
			if (wrong)
				ARRIVE(LEN, LEN);
			else
				ARRIVE(2 * LEN);
		}
	}
}

static void a_damaged_ip_header_does_not_merge(void)
{
	for (int damaged = 0; damaged < 2; damaged++) {
		struct wire wire = batch_tcp(4, 1);
		struct vx_frame frame;

		batch_begin();
		batch_add(batch_tcp(4, 0));
		frame = wire_frame(batch.next, wire_put(batch.next, &wire));
		batch.next[14 + 10] ^= (uint8_t)damaged;
		REASON(vx_gro_add(batch.gro, &frame, BATCH_PORT, BATCH_BOTH), VX_OK);
		if (damaged)
			ARRIVE(LEN, LEN);
		else
			ARRIVE(2 * LEN);
	}
}

static void partial_checksums_merge_with_whole_ones_and_are_given_back(void)
{
	EVERY_VERSION(version) {
		for (unsigned mask = 0; mask < 8; mask++) {
			uint8_t copy[3][256], whole[1024];
			uint32_t len = 0, lens[3];

			batch_begin();
			for (unsigned i = 0; i < 3; i++) {
				struct wire wire = batch_tcp(version, i);

				wire.partial = mask >> i & 1;
				len = wire_put(copy[i], &wire);
				batch_add(wire);
			}
			ARRIVE(3 * LEN);
			EQUAL(wire_cut(&batch.train[0], whole, lens, 3), 3);
			vx_train_undo(&batch.train[0]);
			for (unsigned i = 0; i < 3; i++) {
				struct vx_vnet vnet = vx_train_single(&batch.train[0], i);

				EQUAL(batch.train[0].part[i].iov_len, len);
				CHECK(memcmp(batch.train[0].part[i].iov_base, copy[i], len) == 0);
				EQUAL(vnet.flags, mask >> i & 1 ? VX_VNET_NEEDS_CSUM : 0);
				EQUAL(vnet.csum_start, mask >> i & 1 ? len - LEN - 20 : 0);
			}
		}
	}
}

static void a_partial_checksum_elsewhere_does_not_merge(void)
{
	for (int elsewhere = 0; elsewhere < 2; elsewhere++) {
		batch_begin();
		for (unsigned i = 0; i < 2; i++) {
			struct wire wire = batch_tcp(4, i);
			struct vx_frame frame;

			wire.partial = true;
			frame = wire_frame(batch.next, wire_put(batch.next, &wire));
			frame.vnet.csum_offset = (uint16_t)(frame.vnet.csum_offset + elsewhere);
			batch.next += frame.len;
			REASON(vx_gro_add(batch.gro, &frame, BATCH_PORT, BATCH_BOTH), VX_OK);
		}
		if (elsewhere)
			ARRIVE(LEN, LEN);
		else
			ARRIVE(2 * LEN);
	}
}

static void a_data_offset_inside_the_tcp_header_does_not_merge(void)
{
	EVERY_VERSION(version) {
		for (uint32_t words = 4; words <= 5; words++) {
			uint32_t l4 = version == 4 ? 34 : 54;

			batch_begin();
			for (unsigned i = 0; i < 2; i++) {
				struct wire wire = batch_tcp(version, i);
				struct vx_frame frame;

				wire.seq += i * (5 - words) * 4;
				wire.partial = true;
				frame = wire_frame(batch.next, wire_put(batch.next, &wire));
				batch.next[l4 + 12] = (uint8_t)(words << 4);
				batch.next += frame.len;
				REASON(vx_gro_add(batch.gro, &frame, BATCH_PORT, BATCH_BOTH), VX_OK);
			}
			vx_gro_flush(batch.gro);
			EQUAL(batch.trains, words == 4 ? 2 : 1);
		}
	}
}

static void a_transport_header_that_is_cut_off_is_not_read(void)
{
	static const uint32_t lens[] = { 4, 7, 8, 12, 13, 16, 19, 20 };

	for (unsigned i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		for (int udp = 0; udp < 2; udp++) {
			struct wire wire = batch_tcp(4, 0);
			uint8_t *exact = malloc(34 + lens[i]);
			struct vx_frame frame;

			wire.protocol = 47;		/* so that payload stands where a transport header would */
			wire.len = lens[i];
			wire_put(exact, &wire);
			exact[23] = udp ? VX_PROTO_UDP : VX_PROTO_TCP;
			frame = wire_frame(exact, 34 + lens[i]);
			batch_begin();
			REASON(vx_gro_add(batch.gro, &frame, BATCH_PORT, BATCH_BOTH), VX_OK);
			EQUAL(batch.trains, 1);		/* at once: no segment */
			EQUAL(batch.train[0].part[0].iov_len, 34 + lens[i]);
			free(exact);
		}
	}
}

/** flow_number() - One of many flows. Those between two addresses practically never share a hash, so these differ */
static struct wire flow_number(unsigned number, unsigned i)
{
	struct wire wire = batch_udp(4, i);

	wire.source = (uint8_t)number;
	wire.target = (uint8_t)(number >> 8);
	wire.target_port = (uint16_t)(number >> 16);
	return wire;
}

static int by_hash(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void flows_of_one_hash_are_kept_apart(void)
{
	enum { FLOWS = 1 << 19 };		/* of these some 32 pairs have one hash */
	uint64_t *hashes = malloc(FLOWS * sizeof(*hashes));
	unsigned found = 0;
	uint8_t frame[256];
	struct vx_eth eth;

	for (unsigned i = 0; i < FLOWS; i++) {
		struct wire wire = flow_number(i, 0);

		if (i == 0)
			vx_eth_parse(frame, wire_put(frame, &wire), &eth);
		frame[29] = wire.source;
		frame[33] = wire.target;
		vx_put16(frame + 36, wire.target_port);
		hashes[i] = (uint64_t)vx_eth_hash(frame, &eth) << 32 | i;
	}
	qsort(hashes, FLOWS, sizeof(*hashes), by_hash);
	for (unsigned i = 1; i < FLOWS && found < 4; i++) {
		if (hashes[i] >> 32 != hashes[i - 1] >> 32)
			continue;
		found++;
		batch_begin();
		for (unsigned packet = 0; packet < 2; packet++)
			for (unsigned k = 0; k < 2; k++)
				batch_add(flow_number((uint32_t)hashes[i - k], packet));
		ARRIVE(2 * LEN, 2 * LEN);
	}
	EQUAL(found, 4);
	free(hashes);
}

static void a_kind_that_may_not_merge_passes_alone(void)
{
	for (unsigned may = 0; may < 4; may++) {
		for (int of = 0; of < 2; of++) {
			batch_begin();
			for (unsigned i = 0; i < 2; i++) {
				struct wire wire = of ? batch_udp(4, i) : batch_tcp(4, i);

				wire.partial = true;
				REASON(batch_add_to(&wire, BATCH_PORT, may), VX_OK);
			}
			if (may & (of ? VX_GRO_UDP : VX_GRO_TCP)) {
				ARRIVE(2 * LEN);
			} else {
				ARRIVE(LEN, LEN);
				EQUAL(batch.train[0].vnet.flags, VX_VNET_NEEDS_CSUM);
			}
		}
	}
}

static void a_super_frame_leaves_alone_and_after_its_flow(void)
{
	struct wire wire = batch_tcp(4, 1);
	struct vx_frame frame;

	batch_begin();
	wire.seq -= 3 * LEN;
	wire.len = 3 * LEN;
	batch_add(wire);
	wire.seq += 3 * LEN;
	wire.id++;
	wire.partial = true;
	frame = wire_frame(batch.next, wire_put(batch.next, &wire));
	frame.segments = 3;
	frame.vnet.gso_type = VX_GSO_TCPV4;
	frame.vnet.gso_size = LEN;
	frame.vnet.hdr_len = 54;
	batch.next += frame.len;
	REASON(vx_gro_add(batch.gro, &frame, BATCH_PORT, BATCH_BOTH), VX_OK);
	batch_add(batch_tcp(4, 4));
	ARRIVE(3 * LEN, 3 * LEN, LEN);
	EQUAL(batch.train[1].frames, 3);
	EQUAL(batch.train[1].bytes, 3 * (54 + LEN));
	EQUAL(batch.train[1].vnet.gso_type, VX_GSO_TCPV4);
	CHECK(batch.train[1].part[0].iov_base == frame.data);
}

static void with_every_chain_taken_the_oldest_leaves(void)
{
	batch_begin();
	for (unsigned i = 0; i <= VX_GRO_CHAINS; i++) {
		struct wire wire = batch_tcp(i & 1 ? 6 : 4, 0);

		wire.source_port = (uint16_t)(2000 + i);
		batch_add(wire);
		EQUAL(batch.trains, i == VX_GRO_CHAINS ? 1 : 0);
	}
	vx_gro_flush(batch.gro);
	EQUAL(batch.trains, VX_GRO_CHAINS + 1);
	for (unsigned i = 0; i <= VX_GRO_CHAINS; i++)
		EQUAL(vx_get16(batch.bytes[i] + (i & 1 ? 54 : 34)), 2000 + i);
}

static void what_is_neither_tcp_nor_udp_leaves_after_all_that_came_before(void)
{
	static const uint8_t protocols[] = { 1, 58, 47, 132 };

	for (unsigned p = 0; p < sizeof(protocols); p++) {
		struct wire wire = batch_tcp(4, 0);

		batch_begin();
		batch_add(batch_tcp(4, 0));
		batch_add(batch_udp(4, 0));
		REASON(batch_add_to(&wire, BATCH_PORT + 1, BATCH_BOTH), VX_OK);
		wire.protocol = protocols[p];
		wire.len = 30;
		batch_add(wire);
		EQUAL(batch.trains, 3);
		batch_add(batch_tcp(4, 1));
		batch_add(batch_udp(4, 1));
		REASON(batch_add_to(&(struct wire){ .version = 4 }, BATCH_PORT + 2, BATCH_BOTH), VX_OK);
		ARRIVE(LEN, LEN, 30, 0, LEN, LEN, LEN);
		EQUAL(batch.train[4].port, BATCH_PORT + 1);
	}
}

static void flushing_a_port_leaves_the_others_waiting(void)
{
	struct wire wire = batch_tcp(4, 0);
	struct vx_network network = { .id = 5 };
	struct vx_frame frame;

	batch_begin();
	frame = wire_frame(batch.next, wire_put(batch.next, &wire));
	frame.network = &network;
	batch.next += frame.len;
	for (uint32_t port = 0; port < 3; port++)
		REASON(vx_gro_add(batch.gro, &frame, port, BATCH_BOTH), VX_OK);
	vx_gro_flush_port(batch.gro, 1);
	EQUAL(batch.trains, 1);
	EQUAL(batch.train[0].port, 1);
	EQUAL(batch.train[0].network, 5);
	vx_gro_flush_port(batch.gro, 1);
	EQUAL(batch.trains, 1);
	vx_gro_flush(batch.gro);
	EQUAL(batch.trains, 3);
	EQUAL(batch.train[1].port, 0);
	EQUAL(batch.train[2].port, 2);
}

static void flows_that_alternate_merge_each_for_itself(void)
{
	batch_begin();
	for (unsigned i = 0; i < 6; i++) {
		EVERY_VERSION(version) {
			struct wire other = batch_tcp(version, i);

			other.source_port++;
			batch_add(batch_tcp(version, i));
			batch_add(other);
			batch_add(batch_udp(version, i));
		}
	}
	ARRIVE(6 * LEN, 6 * LEN, 6 * LEN, 6 * LEN, 6 * LEN, 6 * LEN);
}

CASES(CASE(a_lone_frame_leaves_exactly_as_it_came),
      CASE(padding_is_trimmed_from_what_merges_and_counted),
      CASE(udp_of_one_length_merges_and_a_shorter_one_is_the_last),
      CASE(a_train_has_64_frames_at_most),
      CASE(a_udp_length_that_is_not_the_packets_does_not_merge),
      CASE(a_damaged_ip_header_does_not_merge),
      CASE(partial_checksums_merge_with_whole_ones_and_are_given_back),
      CASE(a_partial_checksum_elsewhere_does_not_merge),
      CASE(a_data_offset_inside_the_tcp_header_does_not_merge),
      CASE(a_transport_header_that_is_cut_off_is_not_read),
      CASE(flows_of_one_hash_are_kept_apart),
      CASE(a_kind_that_may_not_merge_passes_alone),
      CASE(a_super_frame_leaves_alone_and_after_its_flow),
      CASE(with_every_chain_taken_the_oldest_leaves),
      CASE(what_is_neither_tcp_nor_udp_leaves_after_all_that_came_before),
      CASE(flushing_a_port_leaves_the_others_waiting),
      CASE(flows_that_alternate_merge_each_for_itself))
