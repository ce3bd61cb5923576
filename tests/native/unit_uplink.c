/* unit_uplink.c - super-frames that leave uncut: when, in which order, and what becomes of those that cannot
 *
 * writev(), by which the uplink TAP is written, and sendmmsg() are scripted by the linker's --wrap. What the headers
 * say is test_inject_scapy.py's.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/uio.h>

#include "check.h"
#include "inject.h"
#include "stand.h"

#define UPLINK	1000	/* no descriptor: nothing but the wrapped writev() sees it */
#define MSS	1386
#define PATH_MTU (20 + 8 + 8 + 54 + MSS)
#define PUTS	8

static const uint8_t router[VX_MAC_LEN] = { 2, 0, 0, 0, 0, 9 }, own[VX_MAC_LEN] = { 2, 0, 0, 0, 0, 1 };

static struct {
	int error;		/* that the next ones fail with */
	unsigned tries;
	unsigned count;		/* that were taken */
	unsigned sends[PUTS];	/* that went before */
	uint8_t head[PUTS][VX_INJECT_HEAD];
	uint32_t head_len;
	const uint8_t *data;
	uint32_t len;
} uplink;

ssize_t __wrap_writev(int fd, const struct iovec *parts, int count);
ssize_t __wrap_writev(int fd, const struct iovec *parts, int count)
{
	EQUAL(fd, UPLINK);
	EQUAL(count, 2);
	uplink.tries++;
	errno = uplink.error;
	if (errno)
		return -1;
	CHECK(uplink.count < PUTS && parts[0].iov_len <= VX_INJECT_HEAD);
	memcpy(uplink.head[uplink.count], parts[0].iov_base, parts[0].iov_len);
	uplink.sends[uplink.count++] = sends.sends;
	uplink.head_len = (uint32_t)parts[0].iov_len;
	uplink.data = parts[1].iov_base;
	uplink.len = (uint32_t)parts[1].iov_len;
	return (ssize_t)(parts[0].iov_len + parts[1].iov_len);
}

static void set_path_mtu(struct stand *stand, uint32_t mtu)
{
	atomic_store(&vx_net_vtep(stand->scene->tables, (uint32_t)stand->scene->member)->seat->path_mtu, mtu);
}

/** uplinked() - A stand whose member VTEP has a next hop and a path for whole segments */
static struct stand *uplinked(void)
{
	struct stand *stand = stand_new(VX_OFFLOAD_ALL);

	memset(&uplink, 0, sizeof(uplink));
	stand->transmitter.uplink.fd = UPLINK;
	EQUAL(vx_net_vtep_hop(stand->scene->tables, (uint32_t)stand->scene->member, router, own), 0);
	set_path_mtu(stand, PATH_MTU);
	return stand;
}

static struct vx_frame large(struct stand *stand)
{
	return super_frame(stand, 4, VX_PROTO_TCP, 20000, MSS);
}

static uint64_t injected(const struct stand *stand, int vtep)
{
	return stand->stats.vteps[vtep].injected;
}

static void a_super_frame_leaves_uncut_and_counts_as_its_segments(void)
{
	struct stand *stand = uplinked();
	struct vx_frame frame = large(stand);
	int far = stand->scene->member;

	CHECK(queue(stand, &frame, far));
	flush(stand);
	EQUAL(sends.sends, 0);
	EQUAL(uplink.count, 1);
	CHECK(uplink.data == frame.data - VX_VXLAN_LEN);		/* where it was: nothing was copied */
	EQUAL(uplink.len, frame.len + VX_VXLAN_LEN);
	EQUAL(uplink.head_len, VX_INJECT_VNET + 14 + 20 + 8);
	CHECK(!memcmp(uplink.head[0] + VX_INJECT_VNET, router, VX_MAC_LEN));
	CHECK(!memcmp(uplink.head[0] + VX_INJECT_VNET + 6, own, VX_MAC_LEN));
	EQUAL(vx_get16(uplink.head[0] + VX_INJECT_VNET + 34), stand->transmitter.sockets[0].port);
	EQUAL(injected(stand, far), frame.segments);
	EQUAL(encapsulated(stand, far), frame.segments);
	EQUAL(stand->stats.vteps[far].out_frames, frame.segments);
	EQUAL(stand->stats.vteps[far].out_bytes, vx_wire_bytes(&frame));
	stand_free(stand);
}

static void who_has_no_next_hop_gets_segments(void)
{
	struct stand *stand = uplinked();
	struct vx_frame frame = large(stand);

	queue(stand, &frame, stand->scene->second);
	flush(stand);
	EQUAL(uplink.tries, 0);
	same_datagrams(&frame, 0, 0, frame.segments);
	EQUAL(injected(stand, stand->scene->second), 0);
	EQUAL(vx_net_vtep_hop(stand->scene->tables, (uint32_t)stand->scene->member, NULL, NULL), 0);
	queue(stand, &frame, stand->scene->member);
	flush(stand);
	EQUAL(uplink.tries, 0);
	same_datagrams(&frame, 0, frame.segments, frame.segments);
	stand_free(stand);
}

static void the_order_of_a_flow_is_kept_over_both_ways(void)
{
	struct stand *stand = uplinked();
	struct vx_frame frame = large(stand), small[3];
	int far = stand->scene->member;

	for (unsigned i = 0; i < 3; i++) {
		small[i] = small_frame(stand, 100, i);
		queue(stand, &small[i], far);
		if (i < 2)
			queue(stand, &frame, far);
	}
	flush(stand);
	EQUAL(sends.count, 3);
	EQUAL(uplink.count, 2);
	EQUAL(uplink.sends[0], 1);
	EQUAL(uplink.sends[1], 2);
	/* the identification goes on where the first one's segments ended */
	EQUAL(vx_get16(uplink.head[1] + VX_INJECT_VNET + 18) - vx_get16(uplink.head[0] + VX_INJECT_VNET + 18),
	      frame.segments);
	stand_free(stand);
}

static void a_full_uplink_leaves_frames_to_the_socket_for_the_moment(void)
{
	struct stand *stand = uplinked();
	struct vx_frame frame = large(stand);
	int far = stand->scene->member;

	uplink.error = EAGAIN;
	queue(stand, &frame, far);
	flush(stand);
	EQUAL(uplink.tries, 1);
	same_datagrams(&frame, 0, 0, frame.segments);
	EQUAL(stand->tells, 0);
	uplink.error = 0;
	queue(stand, &frame, far);
	flush(stand);
	EQUAL(uplink.count, 1);
	EQUAL(encapsulated(stand, far), 2u * frame.segments);
	EQUAL(injected(stand, far), frame.segments);
	stand_free(stand);
}

/** refuse() - Let the uplink TAP refuse @count super-frames, of which all leave as segments */
static void refuse(struct stand *stand, struct vx_frame *frame, unsigned count)
{
	unsigned first = sends.count;

	uplink.error = EINVAL;
	for (unsigned i = 0; i < count; i++) {
		queue(stand, frame, stand->scene->member);
		flush(stand);
		same_datagrams(frame, 0, first + i * frame->segments, frame->segments);
	}
	uplink.error = 0;
}

static void a_frame_that_is_refused_is_no_reason_to_inject_no_others(void)
{
	struct stand *stand = uplinked();
	struct vx_frame frame = large(stand);

	for (unsigned i = 0; i < 3; i++) {
		refuse(stand, &frame, VX_REFUSALS_MAX - 1);
		EQUAL(uplink.count, i);
		queue(stand, &frame, stand->scene->member);
		flush(stand);
		EQUAL(uplink.count, i + 1);
	}
	EQUAL(uplink.tries, 3 * VX_REFUSALS_MAX);
	EQUAL(stand->tells, 0);
	stand_free(stand);
}

static void refusals_in_a_row_are_told_once_and_stand_until_there_is_another_next_hop(void)
{
	struct stand *stand = uplinked();
	struct vx_frame frame = large(stand);
	int far = stand->scene->member;

	refuse(stand, &frame, VX_REFUSALS_MAX + 2);
	EQUAL(uplink.tries, VX_REFUSALS_MAX);
	EQUAL(stand->tells, 1);
	EQUAL(stand->told[0].kind, VX_EVENT_INJECT_REFUSED);
	EQUAL(stand->told[0].vtep, far);
	EQUAL(stand->told[0].value, EINVAL);
	EQUAL(vx_net_vtep_hop(stand->scene->tables, (uint32_t)far, own, own), 0);
	queue(stand, &frame, far);
	flush(stand);
	EQUAL(uplink.count, 1);
	stand_free(stand);
}

static void what_would_be_too_long_with_outer_headers_is_cut(void)
{
	struct stand *stand = uplinked();
	struct vx_frame fits = super_frame(stand, 4, VX_PROTO_TCP, 65535 - 50 - 54, MSS);
	struct vx_frame exceeds = super_frame(stand, 4, VX_PROTO_TCP, 65535 - 50 - 54 + 1, MSS);
	int far = stand->scene->member;

	queue(stand, &fits, far);
	flush(stand);
	EQUAL(uplink.count, 1);
	EQUAL(sends.count, 0);
	queue(stand, &exceeds, far);
	flush(stand);
	EQUAL(uplink.tries, 1);
	same_datagrams(&exceeds, 0, 0, exceeds.segments);
	stand_free(stand);
}

static void what_the_path_does_not_take_or_who_knows_is_left_to_the_socket(void)
{
	struct stand *stand = uplinked();
	struct vx_frame frame = large(stand);
	int far = stand->scene->member;

	queue(stand, &frame, far);
	set_path_mtu(stand, PATH_MTU - 1);		/* since the frame was held to it */
	flush(stand);
	EQUAL(uplink.tries, 0);
	same_datagrams(&frame, 0, 0, frame.segments);
	set_path_mtu(stand, 0);
	queue(stand, &frame, far);
	flush(stand);
	EQUAL(uplink.tries, 0);
	same_datagrams(&frame, 0, frame.segments, frame.segments);
	set_path_mtu(stand, PATH_MTU);
	queue(stand, &frame, far);
	flush(stand);
	EQUAL(uplink.count, 1);
	stand_free(stand);
}

CASES(
	CASE(a_super_frame_leaves_uncut_and_counts_as_its_segments),
	CASE(who_has_no_next_hop_gets_segments),
	CASE(the_order_of_a_flow_is_kept_over_both_ways),
	CASE(a_full_uplink_leaves_frames_to_the_socket_for_the_moment),
	CASE(a_frame_that_is_refused_is_no_reason_to_inject_no_others),
	CASE(refusals_in_a_row_are_told_once_and_stand_until_there_is_another_next_hop),
	CASE(what_would_be_too_long_with_outer_headers_is_cut),
	CASE(what_the_path_does_not_take_or_who_knows_is_left_to_the_socket),
)
