/* receive.c - datagrams from the underlay, and the frames in them
 *
 * How it works
 *   One recvmmsg() fills as many buffers as there are datagrams, up to about VX_RX_BYTES: of small ones many, for
 *   then the call is what costs; of large ones two, for then it is the copying, and what waits to be delivered falls
 *   out of the cache. Buffers hold 64 KB although the underlay's MTU is small, since a "datagram" may be any of
 *   three things:
 *     a plain one     one frame;
 *     a train         many datagrams of one size (the last may be shorter) that UDP_GRO merged, or that a peer on
 *                     this kernel sent with UDP_SEGMENT and nobody cut; a control message tells the size;
 *     a super-frame   one VXLAN header, and behind it a TCP or UDP packet of up to 64 KB that a kernel vxlan device on
 *                     this kernel left to hardware that never came (partial.c). Of TCP there is no control message;
 *                     of UDP there is one too, and it tells the size of the *inner* segments. So, where peers may be
 *                     on this kernel, a would-be train is looked at before it is cut: it is a super-frame if its
 *                     first IP packet fills it to the end.
 *   The frames of a train share a buffer, end to end: what writes in front of one, or behind it, writes into another.
 *
 *   The TOS comes along for ECN, and the kernel's own count of what it had dropped for want of buffer when it queued
 *   the datagram. What it dropped since is known to vx_receiver_lost() alone, until another datagram comes.
 *   An idle agent's buffers go back to the kernel (vx_receiver_rest()): a burst long ago is no reason to hold memory.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/sock_diag.h>
#include <sys/mman.h>
#include <unistd.h>

#include "compat.h"
#include "partial.h"
#include "sock.h"

#define BUFFER_LEN	((size_t)(VX_HEADROOM + VX_FRAME_MAX))
#define MAP_LEN		(VX_RX_DATAGRAMS * BUFFER_LEN)
#define DISCARD_MAX	65536	/* more than a receive buffer holds */
#define FUTILE_MAX	2	/* partial checksums never follow, and vectors of one cost more */

/** probe_gro() - Ask for trains. Kernels before 5.12 cannot tell whether they do so, and merge wrongly at times */
static void probe_gro(int fd, _Atomic uint32_t *offloads)
{
	int on = 0;
	socklen_t len = sizeof(on);

	if (!vx_may(offloads, VX_OFFLOAD_UDP_GRO))
		return;
	if (!vx_sock_set(fd, IPPROTO_UDP, UDP_GRO, 1) && !getsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, &len) && on)
		return;
	vx_sock_set(fd, IPPROTO_UDP, UDP_GRO, 0);
	vx_refused(offloads, VX_OFFLOAD_UDP_GRO);
}

static int receiver_options(int fd, const vx_config *config, _Atomic uint32_t *offloads)
{
	int size = (int)(config->receive_bytes ? config->receive_bytes : VX_RX_BUFFER);
	int error;

	if (vx_may(offloads, VX_OFFLOAD_RCVBUFFORCE) && vx_sock_set(fd, SOL_SOCKET, SO_RCVBUFFORCE, size))
		vx_refused(offloads, VX_OFFLOAD_RCVBUFFORCE);
	if (!vx_may(offloads, VX_OFFLOAD_RCVBUFFORCE))
		vx_sock_set(fd, SOL_SOCKET, SO_RCVBUF, size);
	probe_gro(fd, offloads);
	error = vx_sock_set(fd, SOL_SOCKET, SO_RXQ_OVFL, 1);
	if (error)
		return error;
	if (vx_addr_is4(config->address))
		return vx_sock_set(fd, IPPROTO_IP, IP_RECVTOS, 1);
	return vx_sock_set(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
}

/** map_buffers() - Buffers, and the headers that point to them. Return: 0 or -ENOMEM */
static int map_buffers(struct vx_receiver *receiver)
{
	receiver->buffers = mmap(NULL, MAP_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (receiver->buffers == MAP_FAILED) {
		receiver->buffers = NULL;
		return -ENOMEM;
	}
	for (unsigned i = 0; i < VX_RX_DATAGRAMS; i++) {
		receiver->part[i].iov_base = receiver->buffers + i * BUFFER_LEN + VX_HEADROOM;
		receiver->part[i].iov_len = VX_FRAME_MAX;
		receiver->header[i].msg_hdr = (struct msghdr){
			.msg_name = &receiver->from[i],
			.msg_namelen = sizeof(receiver->from[i]),
			.msg_iov = &receiver->part[i],
			.msg_iovlen = 1,
			.msg_control = receiver->control[i],
			.msg_controllen = sizeof(receiver->control[i]),
		};
	}
	return 0;
}

/**
 * vx_receiver_open() - Set options and map
 * @receiver:	Receiver
 * @fd:		Socket from vx_sock_open() or vx_sock_take(); the receiver's from now on, and closed on failure
 * @config:	Address, sizes
 * @offloads:	VX_OFFLOAD_* in use; loses what the kernel refuses here
 *
 * Return: 0 or -errno (nothing is left open then)
 */
int vx_receiver_open(struct vx_receiver *receiver, int fd, const vx_config *config, _Atomic uint32_t *offloads)
{
	int error = receiver_options(fd, config, offloads);

	receiver->fd = -1;
	receiver->count = receiver->at = 0;
	receiver->ask = VX_RX_DATAGRAMS;
	if (!error)
		error = map_buffers(receiver);
	if (error) {
		close(fd);
		return error;
	}
	receiver->fd = fd;
	return 0;
}

/** vx_receiver_discard() - Forget what has come so far: nobody was promised that an engine not yet made receives */
void vx_receiver_discard(struct vx_receiver *receiver)
{
	uint8_t byte;

	for (unsigned i = 0; i < DISCARD_MAX && recv(receiver->fd, &byte, 1, MSG_DONTWAIT) >= 0; i++)
		;
}

void vx_receiver_close(struct vx_receiver *receiver)
{
	if (receiver->fd >= 0)
		close(receiver->fd);
	if (receiver->buffers)
		munmap(receiver->buffers, MAP_LEN);
	receiver->fd = -1;
	receiver->buffers = NULL;
}

/** later() - By how much a count of the kernel's has grown. CPUs that read it before they queue may swap: none then */
static uint32_t later(uint32_t now, uint32_t *seen)
{
	uint32_t grown = now - *seen;

	if (grown > INT32_MAX)
		return 0;
	*seen = now;
	return grown;
}

/** vx_receiver_lost() - Datagrams that the kernel has ever dropped at the socket (sk_get_meminfo()). Any thread */
uint32_t vx_receiver_lost(const struct vx_receiver *receiver)
{
	uint32_t info[SK_MEMINFO_VARS] = { 0 };
	socklen_t len = sizeof(info);

	return getsockopt(receiver->fd, SOL_SOCKET, SO_MEMINFO, info, &len) ? 0 : info[SK_MEMINFO_DROPS];
}

/** take_control() - Read TOS, size of a train and loss count that came with a datagram. Return: the losses */
static uint32_t take_control(struct vx_receiver *receiver, struct msghdr *message, struct vx_datagram *datagram)
{
	uint32_t overflow = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		uint32_t word;

		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) {
			datagram->tos = *CMSG_DATA(c);
			continue;
		}
		memcpy(&word, CMSG_DATA(c), sizeof(word));
		if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS) {
			datagram->tos = (uint8_t)word;
		} else if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
			datagram->train = (uint16_t)word;
		} else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_RXQ_OVFL) {
			overflow += later(word, &receiver->overflow);
		}
	}
	return overflow;
}

/** take() - Note what datagram @i is. Return: how many the kernel dropped before it */
static uint32_t take(struct vx_receiver *receiver, unsigned i)
{
	struct msghdr *message = &receiver->header[i].msg_hdr;
	struct vx_datagram *datagram = &receiver->datagram[i];
	uint32_t overflow;

	*datagram = (struct vx_datagram){ .len = message->msg_flags & MSG_TRUNC ? 0 : receiver->header[i].msg_len };
	overflow = take_control(receiver, message, datagram);
	if (datagram->train >= datagram->len)
		datagram->train = 0;
	datagram->each = datagram->len;
	if (datagram->train)
		datagram->each = vx_partial_extent(receiver->part[i].iov_base, datagram->len, datagram->train,
						   receiver->same_kernel);
	if (!datagram->each)
		datagram->len = 0;
	message->msg_namelen = sizeof(receiver->from[i]);
	message->msg_controllen = sizeof(receiver->control[i]);
	return overflow;
}

/** how_many() - Datagrams to ask for next: VX_RX_BYTES of them, if they are like the last */
static unsigned how_many(const struct vx_receiver *receiver)
{
	uint32_t bytes = 0, fit;

	for (unsigned i = 0; i < receiver->count; i++)
		bytes += receiver->datagram[i].len;
	fit = bytes ? VX_RX_BYTES * receiver->count / bytes : VX_RX_DATAGRAMS;
	return fit < VX_RX_DATAGRAMS ? fit : VX_RX_DATAGRAMS;
}

/**
 * vx_receiver_read() - Read up to VX_RX_DATAGRAMS datagrams, for vx_receiver_next()
 * @receiver:	Receiver; what the last read brought is gone
 * @overflow:	How many datagrams (of trains: trains) the kernel dropped since the last call
 *
 * Return: how many datagrams, -EAGAIN when there is none, another -errno. @receiver->more says whether it was as many
 * as were asked for
 */
int vx_receiver_read(struct vx_receiver *receiver, uint32_t *overflow)
{
	int count = recvmmsg(receiver->fd, receiver->header, receiver->ask, 0, NULL);

	*overflow = 0;
	receiver->more = false;
	receiver->count = receiver->at = 0;
	receiver->offset = receiver->futile = 0;
	if (count < 0)
		return -errno;
	receiver->count = (unsigned)count;
	for (unsigned i = 0; i < receiver->count; i++)
		*overflow += take(receiver, i);
	receiver->more = receiver->count == receiver->ask;
	receiver->ask = how_many(receiver);
	return count;
}

static void take_source(const union vx_sockaddr *from, struct vx_frame *frame)
{
	if (from->any.sa_family == AF_INET) {
		vx_addr_map4(frame->outer, (const uint8_t *)&from->ipv4.sin_addr);
		frame->outer_port = ntohs(from->ipv4.sin_port);
	} else {
		memcpy(frame->outer, &from->ipv6.sin6_addr, VX_ADDR_LEN);
		frame->outer_port = ntohs(from->ipv6.sin6_port);
	}
}

/** is_like() - Whether the next frame seems to be of the same flow: IPv4 addresses and ports, or part of IPv6's */
static bool is_like(const uint8_t *frame, uint32_t len)
{
	enum { ADDRESSES = VX_VXLAN_LEN + VX_ETH_LEN + 12, LEN = 12 };

	return len >= VX_GRO_ALIKE && memcmp(frame + ADDRESSES, frame + len + ADDRESSES, LEN) == 0;
}

/** advance() - Go on behind @len bytes of a datagram, to the next one when they were its last */
static void advance(struct vx_receiver *receiver, uint32_t len)
{
	receiver->offset += len;
	if (receiver->offset == receiver->datagram[receiver->at].len) {
		receiver->at++;
		receiver->offset = 0;
		receiver->futile = 0;
	}
}

/**
 * vx_receiver_next() - The next frames of what was read, in order
 * @receiver:	Receiver
 * @frames:	VX_BATCH frames; their upper halves are filled in, each with its VXLAN header. Their bytes stay until
 *		the next read
 *
 * A datagram that was cut off, or that lies, is a frame of length 0: no frame is passed over in silence. A vector ends
 * with a frame that others like it seem to follow: they may not need a decision each (vx_receiver_followers()).
 *
 * Return: how many, 0 when there are no more
 */
unsigned vx_receiver_next(struct vx_receiver *receiver, struct vx_frame *frames)
{
	unsigned n = 0;

	for (; n < VX_BATCH && receiver->at < receiver->count; n++) {
		const struct vx_datagram *datagram = &receiver->datagram[receiver->at];
		uint32_t left = datagram->len - receiver->offset;
		struct vx_frame *frame = &frames[n];

		frame->data = (uint8_t *)receiver->part[receiver->at].iov_base + receiver->offset;
		frame->len = left < datagram->each ? left : datagram->each;
		frame->train = datagram->each == datagram->len ? datagram->train : 0;
		frame->from = VX_AT_VTEP;
		frame->from_id = VX_NONE;
		frame->outer_tos = datagram->tos;
		frame->packet = 0;
		take_source(&receiver->from[receiver->at], frame);
		advance(receiver, frame->len);
		if (left >= 2 * frame->len && receiver->offset && receiver->futile < FUTILE_MAX &&
		    is_like(frame->data, frame->len))
			return n + 1;
	}
	return n;
}

/**
 * vx_receiver_followers() - What comes behind the last frame of the last vector, in the same datagram
 * @receiver:	Receiver
 * @next:	Set to the first of them
 *
 * Return: how many are as long as that frame; vx_receiver_skip() passes over those that were taken
 */
unsigned vx_receiver_followers(const struct vx_receiver *receiver, uint8_t **next)
{
	const struct vx_datagram *datagram = &receiver->datagram[receiver->at];

	if (!receiver->offset)
		return 0;
	*next = (uint8_t *)receiver->part[receiver->at].iov_base + receiver->offset;
	return (datagram->len - receiver->offset) / datagram->each;
}

/** vx_receiver_skip() - Pass over frames that followed. None, again and again: vectors of this datagram go on, then */
void vx_receiver_skip(struct vx_receiver *receiver, unsigned frames)
{
	receiver->futile = frames ? 0 : receiver->futile + 1;
	if (frames)
		advance(receiver, frames * receiver->datagram[receiver->at].each);
}

/** vx_receiver_rest() - Nothing came for a while: give back the memory of the buffers */
void vx_receiver_rest(struct vx_receiver *receiver)
{
	madvise(receiver->buffers, MAP_LEN, MADV_DONTNEED);
}
