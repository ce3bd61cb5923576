/* unit_gro.c - what the coalescer merges and what not: the cases of the kernel's GRO self-test, by its names
 *
 * tools/testing/selftests/drivers/net/gro.c sends a few packets and says into which payloads they arrive. Each case
 * here does the same with IPv4 and IPv6, beside the same packets without what makes them special: those merge.
 * Where we depart from the kernel (gro.c says why) the case says so.
 */
#include "batch.h"
#include "check.h"
#include "eth.h"

static void data_same_and_data_lrg_sml_and_data_sml_lrg(void)
{
	EVERY_VERSION(version) {
		struct wire small = batch_tcp(version, 1), first = batch_tcp(version, 0);

		batch_control(batch_tcp, version);
		batch_begin();
		batch_add(batch_tcp(version, 0));
		small.len = LEN / 2;
		batch_add(small);
		small.seq += LEN / 2;
		small.id++;
		batch_add(small);			/* nothing follows a smaller one */
		ARRIVE(LEN + LEN / 2, LEN / 2);
		batch_begin();
		first.len = LEN / 2;
		first.seq += LEN / 2;
		batch_add(first);
		batch_add(batch_tcp(version, 1));
		ARRIVE(LEN / 2, LEN);
	}
}

static void ack(void)
{
	EVERY_VERSION(version) {
		struct wire pure = batch_tcp(version, 0);

		batch_control(batch_tcp, version);
		batch_begin();
		pure.len = 0;
		batch_add(pure);
		batch_add(pure);
		pure.ack++;
		batch_add(pure);
		ARRIVE(0, 0, 0);
		batch_begin();			/* nor does one overtake data */
		batch_add(batch_tcp(version, 0));
		pure.seq += LEN;
		pure.ack--;
		batch_add(pure);
		batch_add(batch_tcp(version, 1));
		ARRIVE(LEN, 0, LEN);
	}
}

static void flags_psh_ends_a_train_and_so_does_fin(void)
{
	static const uint8_t flags[] = { 0x08, 0x01, 0x09 };

	EVERY_VERSION(version) {
		for (unsigned f = 0; f < sizeof(flags); f++) {
			batch_begin();
			for (unsigned i = 0; i < 5; i++) {
				struct wire wire = batch_tcp(version, i);

				wire.flags |= i == 2 ? flags[f] : 0;
				batch_add(wire);
			}
			ARRIVE(3 * LEN, 2 * LEN);
			EQUAL(batch.bytes[0][batch.train[0].vnet.csum_start + 13], 0x10 | flags[f]);
			EQUAL(batch.bytes[1][batch.train[1].vnet.csum_start + 13], 0x10);
		}
		batch_begin();
		for (unsigned i = 0; i < 5; i++)
			batch_add(batch_tcp(version, i));
		ARRIVE(5 * LEN);
	}
}

static void flags_syn_and_flags_rst_and_flags_urg(void)
{
	static const uint8_t flags[] = { 0x02, 0x04, 0x20, 0 };

	EVERY_VERSION(version) {
		for (unsigned f = 0; f < sizeof(flags); f++) {
			batch_begin();
			for (unsigned i = 0; i < 5; i++) {
				struct wire wire = batch_tcp(version, i);

				if (i == 2 && flags[f]) {
					wire.flags |= flags[f];
					wire.len = 0;
				}
				batch_add(wire);
			}
			if (flags[f])
				ARRIVE(2 * LEN, 0, 2 * LEN);
			else
				ARRIVE(5 * LEN);
			batch_begin();			/* nor with payload, and not even with their like */
			for (unsigned i = 0; i < 3; i++) {
				struct wire wire = batch_tcp(version, i);

				wire.flags |= flags[f];
				batch_add(wire);
			}
			if (flags[f])
				ARRIVE(LEN, LEN, LEN);
			else
				ARRIVE(3 * LEN);
		}
	}
}

static void flags_cwr_never_merges(void)	/* the kernel: since AccECN with its like, before with what follows */
{
	EVERY_VERSION(version) {
		for (int cwr = 0; cwr < 2; cwr++) {
			batch_begin();
			for (unsigned i = 0; i < 5; i++) {
				struct wire wire = batch_tcp(version, i);

				wire.flags |= cwr && (i == 1 || i == 2) ? 0x80 : 0;
				batch_add(wire);
			}
			if (cwr)
				ARRIVE(LEN, LEN, LEN, 2 * LEN);
			else
				ARRIVE(5 * LEN);
		}
	}
}

static void tcp_csum(void)
{
	EVERY_VERSION(version) {
		for (unsigned i = 0; i < 3; i++) {	/* which one is damaged: none, the first, the second */
			struct wire wire = batch_tcp(version, 0);
			struct vx_frame frames[2];

			batch_begin();
			frames[0] = wire_frame(batch.next, wire_put(batch.next, &wire));
			batch.next += frames[0].len;
			wire = batch_tcp(version, 1);
			frames[1] = wire_frame(batch.next, wire_put(batch.next, &wire));
			if (i)
				frames[i - 1].data[frames[i - 1].len - 1] ^= 4;
			REASON(vx_gro_add(batch.gro, &frames[0], BATCH_PORT, BATCH_BOTH), VX_OK);
			REASON(vx_gro_add(batch.gro, &frames[1], BATCH_PORT, BATCH_BOTH), i == 2 ? VX_CSUM : VX_OK);
			if (i == 0)
				ARRIVE(2 * LEN);
			else if (i == 1)
				ARRIVE(LEN, LEN);	/* a damaged first one goes on alone: its receiver finds out */
			else
				ARRIVE(LEN);		/* the kernel would pass it on; here it is a drop */
			EQUAL(batch.train[0].vnet.flags, i ? 0 : VX_VNET_NEEDS_CSUM);
		}
	}
}

static void tcp_seq(void)
{
	EVERY_VERSION(version) {
		for (int off = -1; off <= 1; off++) {
			struct wire wire = batch_tcp(version, 1);

			batch_begin();
			batch_add(batch_tcp(version, 0));
			wire.seq += (uint32_t)off;
			batch_add(wire);
			if (off)
				ARRIVE(LEN, LEN);
			else
				ARRIVE(2 * LEN);
		}
	}
}

/** stamped() - With the timestamp option behind @order NOPs */
static struct wire stamped(unsigned version, unsigned i, uint8_t stamp, unsigned order)
{
	struct wire wire = batch_tcp(version, i);

	memset(wire.options, 1, sizeof(wire.options));
	wire.options_len = 12;
	memcpy(wire.options + order, (const uint8_t[]){ 8, 10, 0, 0, 0, stamp, 0, 0, 0, 0 }, 10);
	return wire;
}

static void tcp_ts_and_tcp_opt(void)
{
	EVERY_VERSION(version) {
		struct wire scale = batch_tcp(version, 2);

		batch_begin();
		batch_add(stamped(version, 0, 0, 2));
		batch_add(stamped(version, 1, 0, 2));
		batch_add(stamped(version, 2, 100, 2));
		batch_add(stamped(version, 3, 100, 1));
		batch_add(stamped(version, 4, 100, 0));
		ARRIVE(2 * LEN, LEN, LEN, LEN);
		batch_begin();
		batch_add(stamped(version, 0, 0, 2));
		batch_add(stamped(version, 1, 0, 2));
		memcpy(scale.options, (const uint8_t[]){ 1, 3, 3, 0 }, 4);
		scale.options_len = 4;
		batch_add(scale);
		ARRIVE(2 * LEN, LEN);
		batch_begin();
		for (unsigned i = 0; i < 3; i++)
			batch_add(stamped(version, i, 0, 2));
		ARRIVE(3 * LEN);
	}
}

/* Each of these, done to the second packet of two that would merge, keeps them apart */
static void other_ecn(struct wire *wire) { wire->tos ^= 2; }
static void other_tos(struct wire *wire) { wire->tos ^= 0x3c; }
static void other_ttl(struct wire *wire) { wire->ttl--; }
static void other_source_mac(struct wire *wire) { wire->from++; }
static void other_target_mac(struct wire *wire) { wire->to++; }
static void other_tag(struct wire *wire) { wire->vlan = 5; }
static void other_address(struct wire *wire) { wire->source++; }
static void other_port(struct wire *wire) { wire->target_port++; }
static void other_ack(struct wire *wire) { wire->ack++; }
static void other_window(struct wire *wire) { wire->window--; }
static void other_reserved_bits(struct wire *wire) { wire->reserved = 1; }
static void other_ece(struct wire *wire) { wire->flags ^= 0x40; }
static void other_urgent_pointer(struct wire *wire) { wire->urgent = 1; }
static void other_df(struct wire *wire) { wire->fragment ^= 0x4000; }
static void other_label(struct wire *wire) { wire->label = 1; }
static void no_csum(struct wire *wire) { wire->no_csum = true; }
static void larger(struct wire *wire) { wire->len++; }

#define OF_TCP	1
#define OF_UDP	2

static const struct {
	void (*change)(struct wire *wire);
	unsigned version;		/* 0: both */
	unsigned of;
} changes[] = {
	{ other_ecn, 0, OF_TCP | OF_UDP }, { other_tos, 0, OF_TCP | OF_UDP }, { other_ttl, 0, OF_TCP | OF_UDP },
	{ other_source_mac, 0, OF_TCP | OF_UDP }, { other_target_mac, 0, OF_TCP | OF_UDP },
	{ other_tag, 0, OF_TCP | OF_UDP }, { other_address, 0, OF_TCP | OF_UDP }, { other_port, 0, OF_TCP | OF_UDP },
	{ other_ack, 0, OF_TCP }, { other_window, 0, OF_TCP }, { other_reserved_bits, 0, OF_TCP },
	{ other_ece, 0, OF_TCP }, { other_urgent_pointer, 0, OF_TCP }, { other_df, 4, OF_TCP | OF_UDP },
	{ other_label, 6, OF_TCP | OF_UDP }, { no_csum, 0, OF_UDP }, { larger, 0, OF_TCP | OF_UDP },
};

static void ip_ecn_and_ip_tos_and_ip_ttl_and_every_other_header_field(void)
{
	for (unsigned c = 0; c < sizeof(changes) / sizeof(changes[0]); c++) {
		EVERY_VERSION(version) {
			for (unsigned of = OF_TCP; of <= OF_UDP; of++) {
				batch_stream *made = of == OF_TCP ? batch_tcp : batch_udp;
				struct wire wire = made(version, 1);

				if ((changes[c].version && changes[c].version != version) || !(changes[c].of & of))
					continue;
				batch_control(made, version);
				batch_begin();
				batch_add(made(version, 0));
				changes[c].change(&wire);
				batch_add(wire);
				ARRIVE(LEN, wire.len);
			}
		}
	}
}

static void ip_opt_and_ip_v6ext(void)	/* the kernel merges extension headers that are the same */
{
	EVERY_VERSION(version) {
		for (int special = 0; special < 2; special++) {
			struct wire wire = batch_tcp(version, 1);

			batch_begin();
			batch_add(batch_tcp(version, 0));
			wire.ip_options = special && version == 4;
			wire.extension = special && version == 6 ? 60 : 0;
			batch_add(wire);
			batch_add(batch_tcp(version, 2));
			if (special)
				ARRIVE(LEN, LEN, LEN);
			else
				ARRIVE(3 * LEN);
		}
		for (uint8_t byte = 0; byte < 2; byte++) {
			batch_begin();
			for (unsigned i = 0; i < 2; i++) {
				struct wire wire = batch_tcp(version, i);

				wire.ip_options = version == 4;
				wire.extension = version == 6 ? 60 : 0;
				wire.extension_byte = byte;
				batch_add(wire);
			}
			ARRIVE(LEN, LEN);
		}
	}
}

static void ip_frag4_and_ip_frag6_leave_after_all_that_came_before(void)
{
	EVERY_VERSION(version) {
		struct wire wire = batch_tcp(version, 1), other = batch_tcp(version, 0);

		batch_begin();
		batch_add(batch_tcp(version, 0));
		other.source_port++;
		REASON(batch_add_to(&other, BATCH_PORT, BATCH_BOTH), VX_OK);
		REASON(batch_add_to(&other, BATCH_PORT + 1, BATCH_BOTH), VX_OK);
		wire.fragment = 0x2000;
		wire.extension = version == 6 ? 44 : 0;
		wire.extension_byte = 0;
		batch_add(wire);
		EQUAL(batch.trains, 3);		/* what waits for another port goes on waiting */
		batch_add(batch_tcp(version, 1));
		vx_gro_flush(batch.gro);
		EQUAL(batch.trains, 5);
		EQUAL(batch.train[0].port, BATCH_PORT);
		EQUAL(batch.train[1].port, BATCH_PORT);
		EQUAL(vx_get16(batch.bytes[1] + 14 + (version == 4 ? 20 : 40)), 1501);
		EQUAL(batch.train[3].port, BATCH_PORT + 1);
		batch_control(batch_tcp, version);
	}
}

static void ip_id(void)
{
	static const struct {
		uint16_t df, id[3];
		unsigned merged;	/* of three */
	} cases[] = {
		{ 0x4000, { 8, 9, 10 }, 3 },	/* df1_inc */
		{ 0x4000, { 8, 8, 8 }, 3 },	/* df1_fixed */
		{ 0, { 8, 9, 10 }, 3 },		/* df0_inc */
		{ 0, { 8, 8, 8 }, 1 },		/* df0_fixed: merges in kernels from 6.18 on */
		{ 0x4000, { 8, 9, 9 }, 2 },	/* df1_inc_fixed */
		{ 0x4000, { 8, 8, 9 }, 2 },	/* df1_fixed_inc */
		{ 0x4000, { 65535, 0, 1 }, 3 },
		{ 0x4000, { 8, 7, 6 }, 1 },
		{ 0x4000, { 8, 10, 12 }, 1 },
	};

	for (unsigned c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
		for (int of = 0; of < 2; of++) {
			batch_begin();
			for (unsigned i = 0; i < 3; i++) {
				struct wire wire = of ? batch_udp(4, i) : batch_tcp(4, i);

				wire.id = cases[c].id[i];
				wire.fragment = cases[c].df;
				batch_add(wire);
			}
			if (cases[c].merged == 1)
				ARRIVE(LEN, LEN, LEN);
			else if (cases[c].merged == 2)
				ARRIVE(2 * LEN, LEN);
			else
				ARRIVE(3 * LEN);
		}
	}
}

static void large_max_and_large_rem(void)
{
	EVERY_VERSION(version) {
		uint32_t mss = 4096 - 20 - 40, max = 65535 - (version == 4 ? 40 : 60);

		for (uint32_t over = 0; over < 2; over++) {
			uint32_t rest = max % mss + over;
			struct wire wire = batch_tcp(version, 0);

			batch_begin();
			for (unsigned i = 0; i < max / mss + 2; i++) {
				wire.len = i < max / mss ? mss : rest;
				batch_add(wire);
				wire.seq += wire.len;
				wire.id++;
			}
			if (over)	/* the last two do not fit, but to each other */
				ARRIVE(max - rest + 1, 2 * rest);
			else
				ARRIVE(max, rest);
			EQUAL(batch.train[0].vnet.gso_size, mss);
		}
	}
}

CASES(CASE(data_same_and_data_lrg_sml_and_data_sml_lrg),
      CASE(ack),
      CASE(flags_psh_ends_a_train_and_so_does_fin),
      CASE(flags_syn_and_flags_rst_and_flags_urg),
      CASE(flags_cwr_never_merges),
      CASE(tcp_csum),
      CASE(tcp_seq),
      CASE(tcp_ts_and_tcp_opt),
      CASE(ip_ecn_and_ip_tos_and_ip_ttl_and_every_other_header_field),
      CASE(ip_opt_and_ip_v6ext),
      CASE(ip_frag4_and_ip_frag6_leave_after_all_that_came_before),
      CASE(ip_id),
      CASE(large_max_and_large_rem))
