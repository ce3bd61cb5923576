/* unit_gso.c - the segmenter against a reference that knows nothing of it (flow.c), and what it refuses
 *
 * A failing case prints its seed and its flow.
 */
#include "check.h"
#include "csum.h"
#include "eth.h"
#include "flow.h"
#include "gso.h"

#define CASES_PER_KIND	1500u

static uint8_t super[FLOW_ROOM], wanted[FLOW_ROOM];

static void differ(const struct flow *flow, uint32_t segment, const char *what, uint32_t got, uint32_t should)
{
	fprintf(stderr, "seed %u: %s over IPv%u, %u tags, %u+%u bytes of options, %u extensions%s, %u bytes by %u: "
		"segment %u: %s is %u, not %u\n", flow->seed, flow->tcp ? "TCP" : "UDP", flow->version, flow->tags,
		flow->ip_options, flow->tcp_options, flow->extensions, flow->routed ? " (routed)" : "", flow->len,
		flow->size, segment, what, got, should);
	exit(1);
}

/** compare() - Cut one segment and hold it to the reference */
static void compare(const struct flow *flow, const struct vx_gso *gso, uint32_t segment)
{
	uint32_t headers = flow_headers(flow), got;
	uint32_t slice = flow_segment(wanted, flow, segment) - headers;
	uint8_t *cut = malloc(headers);	/* exactly: the sanitizer sees one byte too many */
	uint8_t *whole = malloc(headers + slice);
	const uint8_t *behind = NULL;

	CHECK(cut && whole);
	got = vx_gso_cut(gso, segment, cut, &behind);
	if (got != slice || got != vx_gso_payload(gso, segment))
		differ(flow, segment, "length", got, slice);
	for (uint32_t i = 0; i < headers; i++)
		if (cut[i] != wanted[i])
			differ(flow, segment, i < 14 ? "Ethernet header" : "a byte of the headers", i, wanted[i]);
	if (memcmp(behind, wanted + headers, slice))
		differ(flow, segment, "payload", *behind, wanted[headers]);
	got = vx_gso_copy(gso, segment, whole);
	if (got != headers + slice || memcmp(whole, wanted, got))
		differ(flow, segment, "the copy's length, or a byte of it,", got, headers + slice);
	free(whole);
	free(cut);
}

static void cut_like_the_reference(const struct flow *flow)
{
	uint32_t segments = flow_segments(flow);
	struct vx_frame frame = flow_super(super, flow);
	struct vx_gso gso;

	if (vx_gso_check(&frame))
		differ(flow, 0, "the verdict", VX_GSO_INVALID, VX_OK);
	if (frame.segments != segments || frame.vnet.hdr_len != flow_headers(flow))
		differ(flow, 0, "hdr_len", frame.vnet.hdr_len, flow_headers(flow));
	vx_gso_begin(&gso, &frame);
	memset(&frame, 0xee, sizeof(frame));	/* a message that waits outlives its frame */
	for (uint32_t i = 0; i < segments; i++)
		compare(flow, &gso, i);
	compare(flow, &gso, segments / 2);	/* and in any order */
	flow_super(wanted, flow);
	CHECK(!memcmp(super, wanted, flow_headers(flow) + flow->len));	/* the frame is as it was */
}

static void cut_many(bool tcp, unsigned version)
{
	for (unsigned seed = 0; seed < CASES_PER_KIND; seed++) {
		struct flow flow = flow_random(seed, tcp, version);

		cut_like_the_reference(&flow);
	}
}

static void tcp_over_ipv4_is_cut_like_the_reference(void)
{
	cut_many(true, 4);
}

static void tcp_over_ipv6_is_cut_like_the_reference(void)
{
	cut_many(true, 6);
}

static void udp_over_ipv4_is_cut_like_the_reference(void)
{
	cut_many(false, 4);
}

static void udp_over_ipv6_is_cut_like_the_reference(void)
{
	cut_many(false, 6);
}

/* Adding a checksum to the payload under it makes that checksum 0. */
static void a_checksum_of_zero_is_tcp_s_right_and_ffff_for_udp(void)
{
	for (unsigned i = 0; i < 4; i++) {
		bool tcp = i / 2;
		struct flow flow = flow_plain(tcp, i % 2 ? 6 : 4, 3000, 1000);
		struct vx_frame frame;
		struct vx_gso gso;
		const uint8_t *behind;
		uint8_t cut[VX_GSO_HEADERS_MAX];
		uint32_t field = flow_headers(&flow) - (tcp ? 4 : 2);
		uint8_t payload[3000];

		memset(payload, 0x5a, sizeof(payload));
		flow.payload = payload;
		vx_put16(payload + 1010, 0);
		flow_segment(wanted, &flow, 1);
		vx_put16(payload + 1010, vx_get16(wanted + field));
		frame = flow_super(super, &flow);
		REASON(vx_gso_check(&frame), VX_OK);
		vx_gso_begin(&gso, &frame);
		vx_gso_cut(&gso, 1, cut, &behind);
		EQUAL(vx_get16(cut + field), tcp ? 0 : 0xffff);
		cut_like_the_reference(&flow);
	}
}

static void flags_and_ids_stand_where_they_belong(void)
{
	struct flow flow = flow_plain(true, 4, 4000, 1000);
	struct vx_frame frame;
	struct vx_gso gso;
	uint8_t cut[VX_GSO_HEADERS_MAX];
	const uint8_t *behind;
	static const uint8_t flags[4] = { 0x90, 0x10, 0x10, 0x19 };
	static const uint16_t ids[4] = { 0xfffe, 0xffff, 0, 1 };

	flow.id = 0xfffe;
	flow.df = 0x4000;
	frame = flow_super(super, &flow);
	EQUAL(frame.vnet.gso_type, VX_GSO_TCPV4 | VX_GSO_ECN);
	REASON(vx_gso_check(&frame), VX_OK);
	vx_gso_begin(&gso, &frame);
	for (uint32_t i = 0; i < 4; i++) {
		vx_gso_cut(&gso, i, cut, &behind);
		EQUAL(cut[14 + 20 + 13], flags[i]);
		EQUAL(vx_get16(cut + 14 + 4), ids[i]);
		EQUAL(vx_get16(cut + 14 + 6), 0x4000);
	}
}

static void one_segment_is_a_plain_frame(void)
{
	for (unsigned i = 0; i < 4; i++) {
		struct flow flow = flow_plain(i / 2, i % 2 ? 6 : 4, 1000, 1000);

		for (flow.size = 1000; flow.size < 1002; flow.size++) {
			struct vx_frame frame = flow_super(super, &flow);
			uint32_t len;

			REASON(vx_gso_check(&frame), VX_OK);
			EQUAL(frame.segments, 1);
			EQUAL(frame.vnet.gso_type, VX_GSO_NONE);
			EQUAL(frame.vnet.gso_size, 0);
			EQUAL(frame.vnet.flags, VX_VNET_NEEDS_CSUM);
			CHECK(vx_csum_complete(frame.data, frame.len, &frame.vnet));
			len = flow_whole(wanted, &flow);
			EQUAL(frame.len, len);
			CHECK(!memcmp(super, wanted, len));
		}
		flow.size = 999;
		cut_like_the_reference(&flow);
	}
}

/** verdict() - What vx_gso_check() says to a flow's super-frame */
static enum vx_reason verdict(const struct flow *flow)
{
	struct vx_frame frame = flow_super(super, flow);

	return vx_gso_check(&frame);
}

static void the_limits_are_where_they_are_said_to_be(void)
{
	struct flow flow = flow_plain(false, 4, 128 * 100, 100);

	REASON(verdict(&flow), VX_OK);
	flow.len++;
	REASON(verdict(&flow), VX_GSO_INVALID);

	flow = flow_plain(true, 6, VX_SEGMENTS_MAX * 36, 36);
	flow.len = flow_longest(&flow);
	EQUAL((flow.len + 35) / 36, VX_SEGMENTS_MAX);
	cut_like_the_reference(&flow);
	flow.len = VX_SEGMENTS_MAX * 8;
	flow.size = 8;
	REASON(verdict(&flow), VX_OK);
	flow.len++;
	REASON(verdict(&flow), VX_GSO_INVALID);
}

/* Ethernet 14, IPv6 40, destination options 244 - 8 * 4, TCP with options 32 and 36: just below and just above */
static void headers_have_a_longest_length(void)
{
	struct flow flow = flow_plain(true, 6, 3000, 1000);
	uint32_t insert = 8 * 29, end;
	struct vx_frame frame;

	for (unsigned options = 12; options <= 16; options += 4) {
		flow.tcp_options = options;
		frame = flow_super(super, &flow);
		end = frame.len;
		memmove(super + 54 + insert, super + 54, end - 54);
		memset(super + 54, 0, insert);
		super[54] = 6;
		super[55] = (uint8_t)(insert / 8 - 1);
		super[20] = 60;
		vx_put16(super + 18, (uint16_t)(end - 54 + insert));
		frame.len = end + insert;
		REASON(vx_eth_parse(super, frame.len, &frame.eth), VX_OK);
		frame.vnet.csum_start = frame.eth.l4;
		EQUAL(frame.eth.l4, 54 + insert);
		REASON(vx_gso_check(&frame), options == 12 ? VX_OK : VX_GSO_INVALID);
	}
}

/* -- contradictions ------------------------------------------------------------------------------------------- */

struct contradiction {
	const char *what;
	bool tcp;
	unsigned version;
	void (*make)(struct vx_frame *frame);
};

/* A change of the virtio header or of the frame, after which one says what the other does not */
#define CHANGE(name, ...) static void name(struct vx_frame *frame) { __VA_ARGS__; }
CHANGE(unknown_type, frame->vnet.gso_type = 2)
CHANGE(old_udp_type, frame->vnet.gso_type = 3)
CHANGE(only_ecn, frame->vnet.gso_type = VX_GSO_ECN)
CHANGE(udp_with_ecn, frame->vnet.gso_type = VX_GSO_UDP_L4 | VX_GSO_ECN)
CHANGE(tunnel_type, frame->vnet.gso_type |= 0x20)
CHANGE(rsc_info, frame->vnet.flags |= 4)
CHANGE(tunnel_csum, frame->vnet.flags |= 8)
CHANGE(no_needs_csum, frame->vnet.flags = 0)
CHANGE(tcpv4_type, frame->vnet.gso_type = VX_GSO_TCPV4)
CHANGE(tcpv6_type, frame->vnet.gso_type = VX_GSO_TCPV6)
CHANGE(udp_type, frame->vnet.gso_type = VX_GSO_UDP_L4)
CHANGE(no_size, frame->vnet.gso_size = 0)
CHANGE(start_early, frame->vnet.csum_start -= 2)
CHANGE(start_late, frame->vnet.csum_start += 2)
CHANGE(start_far, frame->vnet.csum_start = 0xfff0)
CHANGE(other_field, frame->vnet.csum_offset = 4)
CHANGE(field_of_udp, frame->vnet.csum_offset = 6)
CHANGE(field_of_tcp, frame->vnet.csum_offset = 16)
CHANGE(short_doff, frame->data[frame->eth.l4 + 12] = 0x40)
CHANGE(padding, frame->len++)
CHANGE(more_fragments, frame->data[frame->eth.l3 + 6] = 0x20)
CHANGE(other_protocol, frame->data[frame->eth.l3 + 9] = 132)
CHANGE(other_next_header, frame->data[frame->eth.l3 + 6] = 132)
CHANGE(udp_length, frame->data[frame->eth.l4 + 5] ^= 1)
CHANGE(cut_in_the_header, frame->len = frame->eth.l4 + 12u;
       vx_put16(frame->data + frame->eth.l3 + 2, (uint16_t)(frame->len - frame->eth.l3)))
CHANGE(doff_beyond, frame->data[frame->eth.l4 + 12] = 0xf0; frame->len = frame->eth.l4 + 59u;
       vx_put16(frame->data + frame->eth.l3 + 2, (uint16_t)(frame->len - frame->eth.l3)))

static const struct contradiction contradictions[] = {
	{ "a type that nobody defined", true, 4, unknown_type },
	{ "the type of UDP fragmentation offload", false, 4, old_udp_type },
	{ "no type but a flag for it", true, 4, only_ecn },
	{ "UDP with the flag for TCP", false, 4, udp_with_ecn },
	{ "a tunnel, which was not asked for", true, 4, tunnel_type },
	{ "RSC_INFO", true, 4, rsc_info },
	{ "the flag of an outer checksum", true, 4, tunnel_csum },
	{ "no NEEDS_CSUM with TCP", true, 6, no_needs_csum },
	{ "no NEEDS_CSUM with UDP", false, 6, no_needs_csum },
	{ "the type of IPv4 on IPv6", true, 6, tcpv4_type },
	{ "the type of IPv6 on IPv4", true, 4, tcpv6_type },
	{ "the type of TCP on UDP", false, 4, tcpv4_type },
	{ "the type of UDP on TCP", true, 4, udp_type },
	{ "no size", true, 4, no_size },
	{ "no size with UDP", false, 6, no_size },
	{ "a checksum that starts in the IP header", true, 4, start_early },
	{ "a checksum that starts in the ports", false, 6, start_late },
	{ "a checksum outside the frame", true, 6, start_far },
	{ "a checksum over the sequence number", true, 4, other_field },
	{ "a checksum over the UDP length", false, 4, other_field },
	{ "UDP's field on TCP", true, 6, field_of_udp },
	{ "TCP's field on UDP", false, 6, field_of_tcp },
	{ "a TCP header of 16 bytes", true, 4, short_doff },
	{ "a TCP header longer than the packet", true, 4, doff_beyond },
	{ "a packet that ends in the TCP header", true, 4, cut_in_the_header },
	{ "bytes behind the packet", true, 4, padding },
	{ "bytes behind a packet of IPv6", false, 6, padding },
	{ "a fragment", true, 4, more_fragments },
	{ "a protocol that is not cut", true, 4, other_protocol },
	{ "a protocol that is not cut over IPv6", false, 6, other_next_header },
	{ "a UDP length that is not the packet's", false, 4, udp_length },
};

static void contradictions_are_gso_invalid(void)
{
	for (size_t i = 0; i < sizeof(contradictions) / sizeof(contradictions[0]); i++) {
		const struct contradiction *one = &contradictions[i];
		struct flow flow = flow_plain(one->tcp, one->version, 3000, 1000);
		struct vx_frame frame = flow_super(super, &flow);
		enum vx_reason reason;

		REASON(vx_gso_check(&frame), VX_OK);
		frame = flow_super(super, &flow);
		one->make(&frame);
		frame.data = malloc(frame.len);	/* exactly: the sanitizer sees what is read behind it */
		CHECK(frame.data);
		memcpy(frame.data, super, frame.len);
		REASON(vx_eth_parse(frame.data, frame.len, &frame.eth), VX_OK);
		reason = vx_gso_check(&frame);
		free(frame.data);
		if (reason == VX_GSO_INVALID && frame.segments == 1)
			continue;
		fprintf(stderr, "%s: reason %d, %u segments\n", one->what, reason, frame.segments);
		exit(1);
	}
}

/* The rule for frames that only lack a checksum: behind the ports, inside the frame, never in ARP or ICMPv6 */
static void a_plain_frame_may_leave_a_checksum_where_no_guard_reads(void)
{
	struct flow flow = flow_plain(false, 4, 100, 1000);

	for (uint32_t start = 0; start < 160; start++) {
		struct vx_frame frame = flow_super(super, &flow);

		frame.vnet = (struct vx_vnet){ .flags = VX_VNET_NEEDS_CSUM, .csum_start = (uint16_t)start };
		REASON(vx_gso_check(&frame), start >= 38 && start + 2 <= frame.len ? VX_OK : VX_GSO_INVALID);
		frame.vnet.flags = 2;
		frame.vnet.hdr_len = frame.vnet.gso_size = 77;
		REASON(vx_gso_check(&frame), VX_OK);
		EQUAL(frame.segments, 1);
		EQUAL(frame.vnet.hdr_len, 0);
		EQUAL(frame.vnet.gso_size, 0);
		frame.vnet.flags = 4;
		REASON(vx_gso_check(&frame), VX_GSO_INVALID);
	}
}

static enum vx_reason verdict_on(uint8_t *data, uint32_t len, uint16_t start, uint16_t offset)
{
	struct vx_frame frame = { .data = data, .len = len };

	REASON(vx_eth_parse(data, len, &frame.eth), VX_OK);
	frame.vnet = (struct vx_vnet){ .flags = VX_VNET_NEEDS_CSUM, .csum_start = start, .csum_offset = offset };
	return vx_gso_check(&frame);
}

static void nothing_may_be_left_in_arp_icmpv6_or_from_the_ethernet_header_on(void)
{
	struct flow flow = flow_plain(false, 6, 100, 1000);
	uint32_t len = flow_whole(super, &flow);

	REASON(verdict_on(super, len, 54, 6), VX_OK);
	REASON(verdict_on(super, len, 14, 46), VX_OK);
	REASON(verdict_on(super, len, 13, 47), VX_GSO_INVALID);
	super[20] = VX_PROTO_ICMPV6;
	REASON(verdict_on(super, len, 54, 6), VX_GSO_INVALID);

	vx_put16(super + 12, 0x88b5);	/* an EtherType for experiments */
	REASON(verdict_on(super, len, 14, 6), VX_OK);
	vx_put16(super + 12, VX_ETHERTYPE_ARP);
	REASON(verdict_on(super, len, 14, 6), VX_GSO_INVALID);
}

CASES(CASE(tcp_over_ipv4_is_cut_like_the_reference), CASE(tcp_over_ipv6_is_cut_like_the_reference),
      CASE(udp_over_ipv4_is_cut_like_the_reference), CASE(udp_over_ipv6_is_cut_like_the_reference),
      CASE(a_checksum_of_zero_is_tcp_s_right_and_ffff_for_udp), CASE(flags_and_ids_stand_where_they_belong),
      CASE(one_segment_is_a_plain_frame), CASE(the_limits_are_where_they_are_said_to_be),
      CASE(headers_have_a_longest_length), CASE(contradictions_are_gso_invalid),
      CASE(a_plain_frame_may_leave_a_checksum_where_no_guard_reads),
      CASE(nothing_may_be_left_in_arp_icmpv6_or_from_the_ethernet_header_on))
