/* burst.c - what one sendmmsg() carries
 *
 * How it works
 *   A socket's queue is a list of messages in the order in which they came. A message is a run of equal frames to
 *   one VTEP, which grows only at the end of the queue, so that no frame overtakes another of its flow; or a
 *   super-frame. Both leave as one send of many datagrams (cmsg UDP_SEGMENT), or, where that is refused, as one
 *   send for each. Messages of either kind share a burst, but a super-frame has one to itself: it is cut only now,
 *   so that a full socket keeps no more of it than "from this segment on". Its datagrams are written end to end into
 *   the burst's room, payload and all: the checksum reads it anyway, and the kernel takes one piece of 64 KB in less
 *   time than 90, of headers and payload in turn, by more than the copying costs.
 *
 *   The kernel's rules for UDP_SEGMENT (udp_send_skb()): at most 128 datagrams (64 before 6.9, headers counted
 *   in), all of one length but the last, which may be shorter; above 64 KB gso_features_check() would cut in
 *   software. So the TOS and the length are part of what makes frames alike.
 *
 * Pure: no system call, no global, no allocation.
 */
#define _GNU_SOURCE
#include "burst.h"

#include <netinet/udp.h>

#include "compat.h"

#define ECN_MASK	3

/**
 * vx_burst_extend() - Add a frame to the message that its socket's queue ends with, if it is alike
 * @sock:	Socket with room for another part
 * @like:	What the frame would be as a message of its own
 * @part:	Its datagram
 * @segments_max: Datagrams that one send may hold
 *
 * Return: whether it was added
 */
bool vx_burst_extend(struct vx_tx_socket *sock, const struct vx_message *like, const struct iovec *part,
		     unsigned segments_max)
{
	struct vx_message *last = sock->count ? &sock->message[sock->count - 1] : NULL;

	if (!last || last->super || last->closed || like->super)
		return false;
	if (last->owner.id != like->owner.id || last->generation != like->generation ||
	    last->owner.network != like->owner.network || last->tos != like->tos || last->arp_nd != like->arp_nd ||
	    last->singles != like->singles)
		return false;
	if (part->iov_len > last->size || last->bytes + part->iov_len > VX_SEND_BYTES)
		return false;
	sock->part[sock->parts++] = *part;
	last->bytes += (uint32_t)part->iov_len;
	last->segments++;
	last->closed = part->iov_len < last->size || last->segments == segments_max;
	return true;
}

static void put_option(struct cmsghdr *c, int level, int type, const void *value, size_t len)
{
	c->cmsg_level = level;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(len);
	memcpy(CMSG_DATA(c), value, len);
}

/** put_control() - Attach outer TOS and segment size; a header that needs neither stays free, which is cheaper */
static void put_control(struct msghdr *header, uint8_t *control, const struct vx_message *message, bool segmented)
{
	bool marked = message->tos & ECN_MASK, ipv4 = message->to.any.sa_family == AF_INET;
	uint16_t size = (uint16_t)message->size;
	int tos = message->tos;
	struct cmsghdr *c;

	header->msg_control = NULL;
	header->msg_controllen = 0;
	if (!marked && !segmented)
		return;
	memset(control, 0, VX_BURST_CONTROL);
	header->msg_control = control;
	header->msg_controllen = (marked ? CMSG_SPACE(sizeof(tos)) : 0) + (segmented ? CMSG_SPACE(sizeof(size)) : 0);
	c = CMSG_FIRSTHDR(header);
	if (marked) {
		put_option(c, ipv4 ? IPPROTO_IP : IPPROTO_IPV6, ipv4 ? IP_TOS : IPV6_TCLASS, &tos, sizeof(tos));
		c = CMSG_NXTHDR(header, c);
	}
	if (segmented)
		put_option(c, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof(size));
}

/** add_send() - One more send, of @segments datagrams, a part each, which lie end to end if @whole */
static void add_send(struct vx_burst *burst, struct vx_message *message, struct iovec *parts, unsigned segments,
		     bool whole)
{
	struct vx_send *send = &burst->send[burst->count];
	struct msghdr *header = &burst->header[burst->count].msg_hdr;
	size_t bytes = 0;

	for (unsigned i = 0; i < segments; i++)
		bytes += parts[i].iov_len;
	*send = (struct vx_send){
		.message = message,
		.parts = parts,
		.whole = { parts->iov_base, bytes },
		.segments = (uint16_t)segments,
		.size = (uint32_t)parts->iov_len,
		.bytes = (uint32_t)bytes - segments * VX_VXLAN_LEN,
	};
	*header = (struct msghdr){
		.msg_name = &message->to,
		.msg_namelen = message->to_len,
		.msg_iov = whole ? &send->whole : parts,
		.msg_iovlen = whole ? 1 : segments,
	};
	put_control(header, burst->control[burst->count], message, segments > 1);
	burst->count++;
}

/** add_parts() - Sends of @segments datagrams: one, or one for each */
static void add_parts(struct vx_burst *burst, struct vx_message *message, struct iovec *parts, unsigned segments)
{
	if (!message->singles) {
		add_send(burst, message, parts, segments, message->super);
		return;
	}
	for (unsigned i = 0; i < segments && burst->count < VX_TX_SENDS; i++)
		add_send(burst, message, parts + i, 1, false);
}

/** how_many() - Segments of a super-frame that go into its next send, or as singles into this burst */
static unsigned how_many(const struct vx_message *message, unsigned segments_max)
{
	unsigned left = message->segments - message->next;
	unsigned most = message->size < VX_SEND_BYTES ? VX_SEND_BYTES / message->size : 1;

	if (!message->singles && segments_max < most)
		most = segments_max;
	if (most > VX_TX_SENDS)
		most = VX_TX_SENDS;
	return left < most ? left : most;
}

/** add_super() - Cut as much of a super-frame as leaves at once */
static void add_super(struct vx_burst *burst, struct vx_message *message, unsigned segments_max)
{
	const struct vx_gso *gso = &message->gso;
	unsigned count = how_many(message, segments_max);
	uint8_t *at = burst->room;

	for (unsigned i = 0; i < count; i++) {
		uint32_t len = VX_VXLAN_LEN + vx_gso_copy(gso, message->next + i, at + VX_VXLAN_LEN);

		memcpy(at, gso->data - VX_VXLAN_LEN, VX_VXLAN_LEN);
		burst->part[i] = (struct iovec){ at, len };
		at += len;
	}
	add_parts(burst, message, burst->part, count);
}

/**
 * vx_burst_fill() - Make the sends that come next
 * @burst:	Filled in; good for as long as the messages stay as they are
 * @sock:	Socket with at least one message that is not settled
 * @segments_max: Datagrams that one send may hold
 */
void vx_burst_fill(struct vx_burst *burst, struct vx_tx_socket *sock, unsigned segments_max)
{
	burst->count = 0;
	for (unsigned i = sock->sent; i < sock->count && burst->count < VX_TX_SENDS; i++) {
		struct vx_message *message = &sock->message[i];

		if (!message->super) {
			add_parts(burst, message, &sock->part[message->part + message->next],
				  (unsigned)message->segments - message->next);
			continue;
		}
		if (!burst->count)
			add_super(burst, message, segments_max);
		return;
	}
}
