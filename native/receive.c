/* receive.c - datagrams from the underlay
 *
 * How it works
 *   One recvmmsg() fills as many buffers as there are datagrams. Buffers hold 64 KB although the underlay's MTU is
 *   small: a peer on this kernel hands over whole super-frames (partial.c). The TOS comes along for ECN, and the
 *   kernel's own count of what it dropped for want of buffer.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "compat.h"
#include "sock.h"

#define BUFFER_LEN	(VX_HEADROOM + VX_FRAME_MAX)

static int receiver_options(int fd, const vx_config *config, _Atomic uint32_t *offloads)
{
	int size = (int)(config->receive_bytes ? config->receive_bytes : VX_RX_BUFFER);
	int error;

	if (vx_may(offloads, VX_OFFLOAD_RCVBUFFORCE) && vx_sock_set(fd, SOL_SOCKET, SO_RCVBUFFORCE, size))
		vx_refused(offloads, VX_OFFLOAD_RCVBUFFORCE);
	if (!vx_may(offloads, VX_OFFLOAD_RCVBUFFORCE))
		vx_sock_set(fd, SOL_SOCKET, SO_RCVBUF, size);
	error = vx_sock_set(fd, SOL_SOCKET, SO_RXQ_OVFL, 1);
	if (error)
		return error;
	if (vx_addr_is4(config->address))
		return vx_sock_set(fd, IPPROTO_IP, IP_RECVTOS, 1);
	return vx_sock_set(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
}

/**
 * vx_receiver_open() - Open, bind and map
 * @receiver:	Receiver
 * @config:	Address, port, sizes
 * @shared:	Whether the port is shared with other workers
 * @offloads:	VX_OFFLOAD_* in use; loses what the kernel refuses here
 *
 * Return: 0 or -errno (nothing is left open then)
 */
int vx_receiver_open(struct vx_receiver *receiver, const vx_config *config, bool shared,
		     _Atomic uint32_t *offloads)
{
	int fd = vx_sock_open(config->address, config->data_port, shared), error;

	receiver->fd = -1;
	if (fd < 0)
		return fd;
	error = receiver_options(fd, config, offloads);
	if (error) {
		close(fd);
		return error;
	}
	receiver->buffers = mmap(NULL, (size_t)VX_BATCH * BUFFER_LEN, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (receiver->buffers == MAP_FAILED) {
		receiver->buffers = NULL;
		close(fd);
		return -ENOMEM;
	}
	receiver->fd = fd;
	return 0;
}

void vx_receiver_close(struct vx_receiver *receiver)
{
	if (receiver->fd >= 0)
		close(receiver->fd);
	if (receiver->buffers)
		munmap(receiver->buffers, (size_t)VX_BATCH * BUFFER_LEN);
	receiver->fd = -1;
	receiver->buffers = NULL;
}

/** take_control() - Read TOS and loss count that came with a datagram */
static void take_control(struct vx_receiver *receiver, struct msghdr *message, struct vx_frame *frame,
			 uint32_t *overflow)
{
	frame->outer_tos = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		uint32_t word;

		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) {
			frame->outer_tos = *CMSG_DATA(c);
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS) {
			memcpy(&word, CMSG_DATA(c), sizeof(word));
			frame->outer_tos = (uint8_t)word;
		} else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_RXQ_OVFL) {
			memcpy(&word, CMSG_DATA(c), sizeof(word));
			*overflow += word - receiver->overflow;
			receiver->overflow = word;
		}
	}
}

static void take_source(const union vx_sockaddr *from, struct vx_frame *frame)
{
	if (from->any.sa_family == AF_INET)
		vx_addr_map4(frame->outer, (const uint8_t *)&from->ipv4.sin_addr);
	else
		memcpy(frame->outer, &from->ipv6.sin6_addr, VX_ADDR_LEN);
}

/**
 * vx_receiver_read() - Read up to VX_BATCH datagrams
 * @receiver:	Receiver
 * @frames:	Upper halves filled in
 * @overflow:	How many the kernel dropped since the last call
 *
 * Return: how many datagrams, -EAGAIN when there is none, another -errno
 */
int vx_receiver_read(struct vx_receiver *receiver, struct vx_frame *frames, uint32_t *overflow)
{
	int count;

	for (unsigned i = 0; i < VX_BATCH; i++) {
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
	*overflow = 0;
	count = recvmmsg(receiver->fd, receiver->header, VX_BATCH, 0, NULL);
	if (count < 0)
		return -errno;
	for (int i = 0; i < count; i++) {
		struct msghdr *message = &receiver->header[i].msg_hdr;
		struct vx_frame *frame = &frames[i];

		frame->data = receiver->part[i].iov_base;
		frame->len = message->msg_flags & MSG_TRUNC ? 0 : receiver->header[i].msg_len;
		frame->train = 0;
		frame->from = VX_AT_VTEP;
		frame->from_id = VX_NONE;
		take_source(&receiver->from[i], frame);
		take_control(receiver, message, frame, overflow);
	}
	return count;
}
