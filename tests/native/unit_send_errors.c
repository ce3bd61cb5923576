/* unit_send_errors.c - what each errno of a send means: sendmmsg() fails as it is told (sends.c)
 *
 * Every case asserts which datagrams went out, byte by byte and in order, and what was counted and told.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>

#include "check.h"
#include "stand.h"

#define ALL	VX_OFFLOAD_ALL
#define NONE	(VX_OFFLOAD_ALL & ~VX_OFFLOAD_UDP_SEGMENT)
#define MSS	1386

/* The network that judges below play */
static int batch_error;		/* of every send with more than one datagram */
static unsigned batch_to;	/* but only to this VTEP, if not 0 */
static uint32_t path;		/* largest outer packet, 0: any */
static int too_long_error;	/* of a batch whose datagrams are longer than that; of a single one EMSGSIZE */
static unsigned dead;		/* VTEP without route */

static int network(const struct attempt *attempt)
{
	if (path && attempt->size + 28 > path)
		return attempt->segments > 1 ? too_long_error : EMSGSIZE;
	if (batch_error && attempt->segments > 1 && (!batch_to || batch_to == attempt->to))
		return batch_error;
	return dead == attempt->to ? ENETUNREACH : 0;
}

static struct stand *set_up(uint32_t offloads)
{
	struct stand *stand = stand_new(offloads);

	batch_error = too_long_error = 0;
	path = batch_to = dead = 0;
	sends.judge = network;
	return stand;
}

static void a_full_socket_keeps_its_messages_and_blocks(void)
{
	struct stand *stand = set_up(NONE);
	struct vx_frame frames[6];
	int far = stand->scene->member;

	sends.step[0] = 2;
	sends.step[1] = sends.step[2] = -EAGAIN;
	for (unsigned i = 0; i < 6; i++)
		frames[i] = small_frame(stand, 100, i);
	for (unsigned i = 0; i < 5; i++)
		queue(stand, &frames[i], far);
	flush(stand);
	CHECK(stand->transmitter.blocked);
	EQUAL(sends.count, 2);
	CHECK(!queue(stand, &frames[5], far));	/* an answer of the proxy in between: no room */
	EQUAL(dropped(stand, far, VX_SOCK_FULL), 1);
	vx_transmitter_flush(&stand->transmitter, false);
	EQUAL(sends.calls, 2);			/* left alone */
	flush(stand);
	CHECK(stand->transmitter.blocked);
	flush(stand);
	EQUAL(stand->transmitter.blocked, 0);
	EQUAL(sends.count, 5);
	for (unsigned i = 0; i < 5; i++)
		same_datagrams(&frames[i], 0, i, 1);
	EQUAL(encapsulated(stand, far), 5);
	stand_free(stand);
}

static int full;
static int always_full(const struct attempt *attempt)
{
	(void)attempt;
	return full;
}

/** A socket that takes nothing holds the TAPs back until it is given up; then it holds back nobody until it takes */
static void a_socket_that_is_given_up_drops_instead_of_blocking(void)
{
	struct stand *stand = set_up(ALL);
	struct vx_frame frame = small_frame(stand, 100, 1), large = super_frame(stand, 4, VX_PROTO_TCP, 60000, 1000);
	int far = stand->scene->member;

	sends.judge = always_full;
	full = EAGAIN;
	queue(stand, &frame, far);
	queue(stand, &large, far);
	flush(stand);
	CHECK(stand->transmitter.blocked);
	vx_transmitter_give_up(&stand->transmitter);
	EQUAL(stand->transmitter.blocked, 0);
	EQUAL(dropped(stand, far, VX_SOCK_FULL), 1 + large.segments);
	CHECK(queue(stand, &frame, far));
	flush(stand);
	EQUAL(stand->transmitter.blocked, 0);
	EQUAL(dropped(stand, far, VX_SOCK_FULL), 2 + large.segments);
	EQUAL(stand->transmitter.taken, 0);

	full = 0;
	queue(stand, &frame, far);
	flush(stand);
	EQUAL(encapsulated(stand, far), 1);
	EQUAL(stand->transmitter.taken, 1);
	full = EAGAIN;
	queue(stand, &frame, far);
	flush(stand);
	CHECK(stand->transmitter.blocked);	/* it took, so it is waited for again */
	stand_free(stand);
}

static void an_answer_that_does_not_fit_is_dropped(void)
{
	struct stand *stand = set_up(ALL);
	struct vx_frame frame = small_frame(stand, 100, 1);

	sends.step[0] = -EAGAIN;
	for (unsigned i = 0; i < 3; i++)
		queue(stand, &frame, stand->scene->member);
	vx_transmitter_flush(&stand->transmitter, false);
	EQUAL(stand->transmitter.blocked, 0);
	EQUAL(dropped(stand, stand->scene->member, VX_SOCK_FULL), 3);
	stand_free(stand);
}

/** resume() - A super-frame that meets a full socket in call @full, after @taken sends in the call before */
static void resume(uint32_t offloads, unsigned full, int taken, unsigned before)
{
	struct stand *stand = set_up(offloads);
	struct vx_frame large = super_frame(stand, 4, VX_PROTO_TCP, 60000, 200), small = small_frame(stand, 100, 1);
	int far = stand->scene->member;

	sends.step[full - 1] = taken;
	sends.step[full] = sends.step[full + 1] = -EAGAIN;
	queue(stand, &small, far);
	queue(stand, &large, far);
	queue(stand, &small, far);
	flush(stand);
	CHECK(stand->transmitter.blocked);
	EQUAL(sends.count, before);
	CHECK(!queue(stand, &large, far));
	EQUAL(dropped(stand, far, VX_SOCK_FULL), large.segments);
	flush(stand);
	EQUAL(sends.count, before);
	flush(stand);
	EQUAL(stand->transmitter.blocked, 0);
	EQUAL(sends.count, large.segments + 2);
	same_datagrams(&small, 0, 0, 1);
	same_datagrams(&large, 0, 1, large.segments);
	same_datagrams(&small, 0, large.segments + 1, 1);
	EQUAL(encapsulated(stand, far), large.segments + 2);
	stand_free(stand);
}

static void a_super_frame_goes_on_where_a_full_socket_stopped_it(void)
{
	resume(ALL, 1, 0, 1);		/* calls: small, 128 segments, 128, 44, small */
	resume(ALL, 2, 0, 129);
	resume(ALL, 3, 0, 257);
	resume(NONE, 2, 37, 38);	/* 37 of 128 singles, then full */
	resume(NONE, 2, 1, 2);
}

static void a_stopped_worker_counts_every_segment_that_is_left(void)
{
	struct stand *stand = set_up(ALL);
	struct vx_frame large = super_frame(stand, 4, VX_PROTO_TCP, 60000, 200), small = small_frame(stand, 100, 1);

	sends.step[1] = -EAGAIN;
	queue(stand, &large, stand->scene->member);
	queue(stand, &small, stand->scene->member);
	queue(stand, &small, stand->scene->member);
	flush(stand);
	EQUAL(sends.count, 128);
	vx_transmitter_abandon(&stand->transmitter);
	EQUAL(dropped(stand, stand->scene->member, VX_SHUTDOWN), large.segments - 128 + 2);
	stand_free(stand);
}

static void a_refused_batch_leaves_as_singles_and_demotes_its_vtep_once(void)
{
	static const int errors[] = { EIO, EINVAL };

	for (size_t i = 0; i < 2; i++) {
		struct stand *stand = set_up(ALL);
		struct vx_frame run[4], large = super_frame(stand, 6, VX_PROTO_TCP, 20000, MSS);
		int far = stand->scene->member, second = stand->scene->second;

		batch_error = errors[i];
		batch_to = 2;
		for (unsigned k = 0; k < 4; k++) {
			run[k] = small_frame(stand, 100, k);
			queue(stand, &run[k], far);
		}
		queue(stand, &large, far);
		queue(stand, &large, second);
		flush(stand);
		for (unsigned k = 0; k < 4; k++)
			same_datagrams(&run[k], 0, k, 1);
		same_datagrams(&large, 0, 4, large.segments);
		same_datagrams(&large, 0, 4 + large.segments, large.segments);
		EQUAL(sends.sends, 4 + large.segments + 1);		/* the other VTEP gets a batch as ever */
		EQUAL(stand->tells, 1);
		EQUAL(stand->told[0].kind, VX_EVENT_VTEP_DEMOTED);
		EQUAL(stand->told[0].vtep, far);
		EQUAL(stand->told[0].value, errors[i]);
		EQUAL(stand->stats.vteps[far].sends_refused, 2);	/* both were queued before it was known */
		EQUAL(stand->stats.vteps[second].sends_refused, 0);
		EQUAL(encapsulated(stand, far), 4 + large.segments);

		queue(stand, &large, far);				/* and from now on nobody tries */
		queue(stand, &large, second);
		flush(stand);
		EQUAL(sends.sends, 4 + 2u * large.segments + 2);
		EQUAL(stand->stats.engine->sends_refused, 2);
		EQUAL(stand->tells, 1);
		stand_free(stand);
	}
}

static void what_fails_as_singles_too_is_not_udp_segments_fault(void)
{
	struct stand *stand = set_up(ALL);
	struct vx_frame frame = small_frame(stand, 100, 1);
	int far = stand->scene->member;

	for (unsigned i = 0; i < 4; i++)
		sends.step[i] = -EINVAL;
	for (unsigned i = 0; i < 3; i++)
		queue(stand, &frame, far);
	flush(stand);
	EQUAL(dropped(stand, far, VX_SOCK_ERROR), 3);
	EQUAL(stand->told[0].kind, VX_EVENT_SOCKET_ERROR);
	CHECK(!(vx_net_vtep(stand->scene->tables, (uint32_t)far)->seat->flags & VX_VTEP_DEMOTED));
	queue(stand, &frame, far);
	queue(stand, &frame, far);
	flush(stand);
	EQUAL(sends.sends, 1);
	stand_free(stand);
}

static void a_batch_too_long_for_an_old_kernel_is_no_reason_to_demote(void)
{
	static const int errors[] = { EMSGSIZE, EINVAL };	/* 6.18, 5.10 */

	for (size_t i = 0; i < 2; i++) {
		struct stand *stand = set_up(ALL);
		struct vx_frame large = super_frame(stand, 4, VX_PROTO_TCP, 3 * MSS + 10, MSS);
		struct vx_vtep *vtep = vx_net_vtep(stand->scene->tables, (uint32_t)stand->scene->member);
		unsigned short_ones = i;	/* as singles the last one, which is shorter, still fits */

		path = 1400;
		too_long_error = errors[i];
		queue(stand, &large, stand->scene->member);
		flush(stand);
		EQUAL(dropped(stand, stand->scene->member, VX_PKT_TOO_BIG), 4 - short_ones);
		EQUAL(sends.count, short_ones);
		same_datagrams(&large, 3, 0, short_ones);
		CHECK(vtep->seat->path_mtu && vtep->seat->path_mtu < MSS + 54 + 8 + 28);
		EQUAL(stand->told[0].kind, VX_EVENT_PATH_MTU);
		EQUAL(stand->told[0].value, vtep->seat->path_mtu);
		EQUAL(stand->tells, 1);
		CHECK(!(vtep->seat->flags & VX_VTEP_DEMOTED));
		stand_free(stand);
	}
}

static void a_path_mtu_never_rises_by_a_failure(void)
{
	struct stand *stand = set_up(NONE);
	struct vx_frame short_one = small_frame(stand, 1400, 1), long_one = small_frame(stand, 1450, 2);
	struct vx_vtep *vtep = vx_net_vtep(stand->scene->tables, (uint32_t)stand->scene->member);

	path = 1300;
	queue(stand, &short_one, stand->scene->member);
	queue(stand, &long_one, stand->scene->member);		/* queued before the first one failed */
	flush(stand);
	EQUAL(dropped(stand, stand->scene->member, VX_PKT_TOO_BIG), 2);
	CHECK(vtep->seat->path_mtu < 1400 + 8 + 28);
	EQUAL(stand->tells, 1);			/* the second failure was no news */
	stand_free(stand);
}

static void a_path_mtu_is_at_most_the_longest_ip_packet(void)
{
	struct stand *stand = set_up(NONE);
	struct vx_frame longest = small_frame(stand, VX_ETH_LEN + UINT16_MAX, 1);	/* of a TAP's largest MTU */
	struct vx_vtep *vtep = vx_net_vtep(stand->scene->tables, (uint32_t)stand->scene->member);

	for (unsigned i = 0; i <= VX_TX_RETRIES; i++)
		sends.step[i] = -EMSGSIZE;
	queue(stand, &longest, stand->scene->member);
	flush(stand);
	EQUAL(dropped(stand, stand->scene->member, VX_PKT_TOO_BIG), 1);
	EQUAL(vtep->seat->path_mtu, UINT16_MAX);	/* one less than the packet had is too much for it */
	EQUAL(stand->told[0].value, UINT16_MAX);
	stand_free(stand);
}

static void each_error_drops_one_send_under_its_reason_and_stops_no_other(void)
{
	static const struct {
		int error;
		enum vx_reason reason;
	} cases[] = {
		{ ENOBUFS, VX_SOCK_FULL }, { ENOMEM, VX_SOCK_FULL }, { ENETDOWN, VX_UNREACHABLE },
		{ EPERM, VX_SOCK_ERROR },  { EIO, VX_SOCK_ERROR },   { EINVAL, VX_SOCK_ERROR },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct stand *stand = set_up(ALL);
		struct vx_frame a = small_frame(stand, 100, 1), b = small_frame(stand, 120, 2);
		int far = stand->scene->member;

		sends.step[0] = 1;
		sends.step[1] = -EINTR;
		sends.step[2] = -cases[i].error;
		queue(stand, &b, stand->scene->second);
		queue(stand, &a, far);
		queue(stand, &b, stand->scene->second);
		flush(stand);
		EQUAL(sends.calls, 4);
		EQUAL(sends.count, 2);
		same_datagrams(&b, 0, 0, 1);
		same_datagrams(&b, 0, 1, 1);
		EQUAL(dropped(stand, far, cases[i].reason), 1);
		EQUAL(stand->tells, cases[i].reason == VX_SOCK_FULL ? 0 : 1);
		EQUAL(stand->tells ? stand->told[0].value : (uint32_t)cases[i].error, cases[i].error);
		stand_free(stand);
	}
}

static void a_send_that_a_queue_dropped_costs_its_segments_only(void)
{
	struct stand *stand = set_up(ALL);
	struct vx_frame large = super_frame(stand, 4, VX_PROTO_TCP, 60000, 200);

	sends.step[1] = -ENOBUFS;
	queue(stand, &large, stand->scene->member);
	flush(stand);
	EQUAL(large.segments, 300);
	EQUAL(dropped(stand, stand->scene->member, VX_SOCK_FULL), 128);
	EQUAL(encapsulated(stand, stand->scene->member), 172);
	same_datagrams(&large, 0, 0, 128);
	same_datagrams(&large, 256, 128, 44);
	stand_free(stand);
}

/* Old ICMP errors, and whether the socket could hear of new ones when it tried again */
static int icmp_error, sending_fd;
static unsigned icmp_left, tries;
static bool heard[VX_TX_RETRIES + 2];

static bool hears(int fd)
{
	int value = 0;
	socklen_t len = sizeof(value);

	EQUAL(getsockopt(fd, IPPROTO_IP, IP_RECVERR, &value, &len), 0);
	return value;
}

static int old_errors(const struct attempt *attempt)
{
	(void)attempt;
	CHECK(tries < VX_TX_RETRIES + 2);
	heard[tries++] = hears(sending_fd);
	return icmp_left ? icmp_left--, icmp_error : 0;
}

static void an_old_icmp_error_costs_nobody_a_datagram(void)
{
	static const int errors[] = { ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, EMSGSIZE, EACCES, EPROTO, ENOPROTOOPT,
				      EOPNOTSUPP, EHOSTDOWN, ENONET };

	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		struct stand *stand = set_up(ALL);
		struct vx_frame frame = small_frame(stand, 1400, 1);
		int far = stand->scene->member;

		sends.judge = old_errors;
		sending_fd = stand->transmitter.sockets[0].fd;
		icmp_error = errors[i];
		icmp_left = VX_TX_RETRIES;
		tries = 0;
		queue(stand, &frame, far);
		queue(stand, &frame, stand->scene->second);
		flush(stand);
		EQUAL(tries, VX_TX_RETRIES + 2);
		for (unsigned k = 0; k < tries; k++)	/* first, once more, deaf, and the other VTEP's as ever */
			EQUAL(heard[k], k < 2 || k > VX_TX_RETRIES);
		CHECK(hears(sending_fd));
		EQUAL(sends.count, 2);
		EQUAL(stand->tells, 0);
		EQUAL(vx_net_vtep(stand->scene->tables, (uint32_t)far)->seat->path_mtu, 0);
		stand_free(stand);
	}
}

/** always_old() - Old errors before each send, as many as are tried again */
static int always_old(const struct attempt *attempt)
{
	(void)attempt;
	return tries++ % (VX_TX_RETRIES + 1) < VX_TX_RETRIES ? ECONNREFUSED : 0;
}

static void each_send_of_a_message_is_tried_anew(void)
{
	struct stand *stand = set_up(ALL);
	struct vx_frame large = super_frame(stand, 4, VX_PROTO_TCP, 60000, 200);

	sends.judge = always_old;
	tries = 0;
	queue(stand, &large, stand->scene->member);
	flush(stand);
	EQUAL(sends.sends, 3);
	same_datagrams(&large, 0, 0, large.segments);
	EQUAL(stand->tells, 0);
	stand_free(stand);
}

static void a_vtep_without_route_stops_no_other(void)
{
	struct stand *stand = set_up(ALL);
	struct vx_frame frame = small_frame(stand, 100, 1), large = super_frame(stand, 4, VX_PROTO_TCP, 5000, MSS);
	int far = stand->scene->member, second = stand->scene->second;

	dead = 2;
	for (unsigned i = 0; i < 3; i++) {
		queue(stand, &frame, far);
		queue(stand, &large, second);
		queue(stand, &large, far);
	}
	flush(stand);
	EQUAL(sends.count, 3u * large.segments);
	for (unsigned i = 0; i < 3; i++)
		same_datagrams(&large, 0, i * large.segments, large.segments);
	EQUAL(dropped(stand, far, VX_UNREACHABLE), 3 + 3u * large.segments);
	EQUAL(encapsulated(stand, second), 3u * large.segments);
	EQUAL(stand->told[0].kind, VX_EVENT_SOCKET_ERROR);
	EQUAL(stand->told[0].value, ENETUNREACH);
	EQUAL(stand->told[0].vtep, far);
	stand_free(stand);
}

static void a_vtep_that_is_gone_when_its_message_fails_is_left_alone(void)
{
	struct stand *stand = set_up(ALL);
	struct vx_frame frame = small_frame(stand, 1400, 1);
	int far = stand->scene->member;

	path = 1300;
	too_long_error = EMSGSIZE;
	queue(stand, &frame, far);
	queue(stand, &frame, far);
	EQUAL(vx_net_vteps(stand->scene->tables, (uint32_t)stand->scene->net, NULL, 0), 0);
	EQUAL(vx_net_vtep_del(stand->scene->tables, (uint32_t)far), 0);
	flush(stand);
	EQUAL(dropped(stand, far, VX_PKT_TOO_BIG), 2);
	EQUAL(stand->tells, 0);
	stand_free(stand);
}

/** any_trouble() - One send in four fails, with whatever there is */
static int any_trouble(const struct attempt *attempt)
{
	static const int errors[] = { EAGAIN, EAGAIN, EIO, EINVAL, ENOBUFS, EPERM, ENETUNREACH, ECONNREFUSED, EINTR };

	(void)attempt;
	return rand() % 4 ? 0 : errors[(size_t)rand() % (sizeof(errors) / sizeof(errors[0]))];
}

/** random_frame() - A small frame or a super-frame; its VXLAN header carries @mark, so that datagrams tell theirs */
static struct vx_frame random_frame(struct stand *stand, unsigned mark)
{
	struct vx_frame frame;

	if (rand() % 3)
		frame = small_frame(stand, 60 + (uint32_t)(rand() % 3) * 40, mark);
	else
		frame = super_frame(stand, rand() % 2 ? 4 : 6, rand() % 2 ? VX_PROTO_TCP : VX_PROTO_UDP,
				    2000 + (uint32_t)(rand() % 20000), (uint16_t)(300 + rand() % 1200));
	vx_put32(frame.data - 4, mark << 8);
	return frame;
}

static void a_message_that_was_kept_counts_for_no_successor(void)
{
	struct stand *stand = set_up(NONE);
	struct vx_tables *tables = stand->scene->tables;
	struct vx_frame frames[2] = { small_frame(stand, 100, 1), small_frame(stand, 100, 2) };
	uint32_t net = (uint32_t)stand->scene->net, far = (uint32_t)stand->scene->member;
	uint8_t address[VX_ADDR_LEN];

	sends.step[0] = -EAGAIN;
	queue(stand, &frames[0], (int)far);
	flush(stand);
	CHECK(stand->transmitter.blocked);
	EQUAL(vx_net_port_del(tables, (uint32_t)stand->scene->a), 0);
	EQUAL(vx_net_port_del(tables, (uint32_t)stand->scene->b), 0);
	EQUAL(vx_net_del(tables, net), 0);
	EQUAL(vx_net_vtep_del(tables, far), 0);
	EQUAL(vx_qsbr_collect(&tables->qsbr), 0);
	EQUAL(vx_net_add(tables, VNI, MTU, 0), net);
	address4(address, 77);
	EQUAL(vx_net_vtep_add(tables, address, 4789, 0), far);
	flush(stand);
	EQUAL(sends.count, 1);
	EQUAL(stand->stats.engine->encapsulated, 1);
	EQUAL(encapsulated(stand, (int)far), 0);
	EQUAL(stand->stats.networks[net].encapsulated, 0);
	frames[1].network = vx_net_get(tables, net);
	queue(stand, &frames[1], (int)far);
	flush(stand);
	EQUAL(encapsulated(stand, (int)far), 1);
	EQUAL(stand->stats.networks[net].encapsulated, 1);
	stand_free(stand);
}

/** check_what_left() - Every datagram is a segment of the frame it names, and each flow is in order */
static void check_what_left(const struct vx_frame *frames, const unsigned *vteps)
{
	static uint8_t wanted[VX_VXLAN_LEN + VX_FRAME_MAX];
	unsigned mark[256] = { 0 }, next[256] = { 0 };

	for (unsigned i = 0; i < sends.count; i++) {
		const struct datagram *got = &sends.datagram[i];
		unsigned of = vx_get32(got->data + 4) >> 8, segment;

		CHECK(vteps[of] == got->to && of >= mark[got->to]);
		segment = of == mark[got->to] ? next[got->to] : 0;
		while (reference(&frames[of], segment, wanted) != got->len || memcmp(wanted, got->data, got->len))
			CHECK(++segment < frames[of].segments);
		mark[got->to] = of;
		next[got->to] = segment + 1;
		if (next[got->to] == frames[of].segments)
			mark[got->to]++, next[got->to] = 0;
	}
}

static void under_any_trouble_nothing_is_lost_uncounted_doubled_or_overtaken(void)
{
	static const struct vx_frame none[200];
	struct vx_frame frames[200];
	unsigned vteps[200];

	for (unsigned seed = 1; seed <= 60; seed++) {
		struct stand *stand = set_up(ALL);
		uint64_t segments = 0, settled = 0;
		unsigned queued = 0;

		srand(seed);
		memcpy(frames, none, sizeof(frames));
		sends.judge = any_trouble;
		while (queued < 60) {
			for (unsigned burst = (unsigned)rand() % 12; burst && queued < 200; burst--, queued++) {
				int vtep = rand() % 2 ? stand->scene->member : stand->scene->second;

				frames[queued] = random_frame(stand, queued);
				vteps[queued] = vtep == stand->scene->member ? 2 : 3;
				segments += frames[queued].segments;
				queue(stand, &frames[queued], vtep);
			}
			do
				flush(stand);
			while (stand->transmitter.blocked);
		}
		check_what_left(frames, vteps);
		for (unsigned reason = 0; reason < VX_REASON_COUNT; reason++)
			settled += stand->stats.engine->drops[reason];
		CHECK(settled > 0 && sends.count > settled);
		EQUAL(stand->stats.engine->encapsulated, sends.count);
		EQUAL(sends.count + settled, segments);
		stand_free(stand);
	}
}

CASES(CASE(own_namespace), CASE(a_full_socket_keeps_its_messages_and_blocks),
      CASE(a_socket_that_is_given_up_drops_instead_of_blocking),
      CASE(an_answer_that_does_not_fit_is_dropped), CASE(a_super_frame_goes_on_where_a_full_socket_stopped_it),
      CASE(a_stopped_worker_counts_every_segment_that_is_left),
      CASE(a_refused_batch_leaves_as_singles_and_demotes_its_vtep_once),
      CASE(what_fails_as_singles_too_is_not_udp_segments_fault),
      CASE(a_batch_too_long_for_an_old_kernel_is_no_reason_to_demote), CASE(a_path_mtu_never_rises_by_a_failure),
      CASE(a_path_mtu_is_at_most_the_longest_ip_packet),
      CASE(each_error_drops_one_send_under_its_reason_and_stops_no_other),
      CASE(a_send_that_a_queue_dropped_costs_its_segments_only), CASE(an_old_icmp_error_costs_nobody_a_datagram),
      CASE(each_send_of_a_message_is_tried_anew), CASE(a_vtep_without_route_stops_no_other),
      CASE(a_vtep_that_is_gone_when_its_message_fails_is_left_alone),
      CASE(a_message_that_was_kept_counts_for_no_successor),
      CASE(under_any_trouble_nothing_is_lost_uncounted_doubled_or_overtaken))
