/* transmit.c - datagrams to the underlay
 *
 * How it works
 *   A worker has 16 transmit sockets, each on a source port of its own; the hash of the inner flow picks one, so
 *   a flow keeps its port (and its order) and flows spread over the paths of the underlay. Messages are queued
 *   per socket, refer to the frames' own buffers, and leave at the end of the turn in one sendmmsg() per socket.
 *
 *   What can go wrong, and what it means:
 *     EAGAIN          the socket's buffer is full. Messages of TAP frames are kept and the worker stops reading
 *                     TAPs (their rings and the senders' stacks push back); answers of the proxy are dropped
 *     ECONNREFUSED    an old ICMP error that has nothing to do with this datagram: once more
 *     EMSGSIZE        the path is narrower than thought: lower the VTEP's path MTU
 *     ENOBUFS, no route, anything else: dropped under its own reason, the next message goes on
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sock.h"

#define ECN_MASK	3

/**
 * vx_transmitter_open() - Open the sockets
 * @transmitter: Transmitter
 * @config:	Address, number of sockets
 * @offloads:	VX_OFFLOAD_* in use; loses what the kernel refuses here
 *
 * Return: 0 or -errno (nothing is left open then)
 */
int vx_transmitter_open(struct vx_transmitter *transmitter, const vx_config *config,
			_Atomic uint32_t *offloads)
{
	unsigned count = config->tx_sockets ? config->tx_sockets : VX_TX_SOCKETS;

	(void)offloads;
	transmitter->count = 0;
	transmitter->sockets = mmap(NULL, count * sizeof(struct vx_tx_socket), PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (transmitter->sockets == MAP_FAILED) {
		transmitter->sockets = NULL;
		return -ENOMEM;
	}
	for (unsigned i = 0; i < count; i++) {
		int fd = vx_sock_transmit_socket(config->address);

		if (fd < 0) {
			while (i--)
				close(transmitter->sockets[i].fd);
			munmap(transmitter->sockets, count * sizeof(struct vx_tx_socket));
			transmitter->sockets = NULL;
			return fd;
		}
		transmitter->sockets[i].fd = fd;
	}
	transmitter->count = count;
	return 0;
}

void vx_transmitter_close(struct vx_transmitter *transmitter)
{
	for (unsigned i = 0; i < transmitter->count; i++)
		close(transmitter->sockets[i].fd);
	if (transmitter->sockets)
		munmap(transmitter->sockets, transmitter->count * sizeof(struct vx_tx_socket));
	transmitter->sockets = NULL;
	transmitter->count = 0;
}

/** put_tos() - Attach the outer TOS; without ECN bits the message stays free of control data, which is cheaper */
static void put_tos(struct msghdr *header, struct vx_message *message, uint8_t tos)
{
	bool ipv4 = message->to.any.sa_family == AF_INET;
	int value = tos;
	struct cmsghdr *c;

	header->msg_control = NULL;
	header->msg_controllen = 0;
	if (!(tos & ECN_MASK))
		return;
	header->msg_control = message->control;
	header->msg_controllen = CMSG_SPACE(sizeof(value));
	c = CMSG_FIRSTHDR(header);
	c->cmsg_level = ipv4 ? IPPROTO_IP : IPPROTO_IPV6;
	c->cmsg_type = ipv4 ? IP_TOS : IPV6_TCLASS;
	c->cmsg_len = CMSG_LEN(sizeof(value));
	memcpy(CMSG_DATA(c), &value, sizeof(value));
}

static void account_sent(struct vx_transmitter *transmitter, const struct vx_message *message)
{
	VX_COUNT(transmitter->stats, message->owner, encapsulated, 1);
	VX_COUNT(transmitter->stats, message->owner, out_frames, 1);
	VX_COUNT(transmitter->stats, message->owner, out_bytes, message->part.iov_len - VX_VXLAN_LEN);
	if (message->arp_nd)
		VX_COUNT(transmitter->stats, message->owner, arp_nd_underlay, 1);
}

/** lower_path_mtu() - The underlay cannot carry a message's size: remember what it can. Return: the new path MTU */
static uint32_t lower_path_mtu(struct vx_transmitter *transmitter, const struct vx_message *message)
{
	struct vx_vtep *vtep = vx_net_vtep(transmitter->tables, message->owner.id);
	uint32_t headers = message->to.any.sa_family == AF_INET ? 28 : 48;
	uint32_t size = (uint32_t)message->part.iov_len + headers, known;
	uint32_t before = 0;

	if (!vtep || vtep->generation != message->generation)
		return 0;
	known = vx_sock_path_mtu(&vtep->to.any, vtep->to_len);
	if (!known || known >= size)
		known = size - 1;
	if (known < VX_PATH_MTU_MIN)
		known = VX_PATH_MTU_MIN;
	/* A message that was queued before the last failure, or another worker's, must not raise it again. */
	while (!atomic_compare_exchange_weak_explicit(&vtep->path_mtu, &before, known, memory_order_relaxed,
						      memory_order_relaxed))
		if (before && before <= known)
			return 0;
	return known;
}

static void account_failed(struct vx_transmitter *transmitter, const struct vx_message *message, int error)
{
	enum vx_reason reason = VX_SOCK_ERROR;
	uint32_t path_mtu = 0;

	if (error == EMSGSIZE) {
		reason = VX_PKT_TOO_BIG;
		path_mtu = lower_path_mtu(transmitter, message);
	} else if (error == EAGAIN || error == ENOBUFS || error == ENOMEM) {
		reason = VX_SOCK_FULL;
	} else if (error == ENETUNREACH || error == EHOSTUNREACH || error == ENETDOWN) {
		reason = VX_UNREACHABLE;
	}
	vx_stats_drop(transmitter->stats, message->owner, reason);
	if (transmitter->failed && reason != VX_SOCK_FULL)
		transmitter->failed(transmitter->context, message->owner.id, error, path_mtu);
}

/** send_queue() - Send what a socket has. Return: false if it is full and messages are left */
static bool send_queue(struct vx_transmitter *transmitter, struct vx_tx_socket *sock)
{
	while (sock->sent < sock->count) {
		struct vx_message *first = &sock->message[sock->sent];
		int n = sendmmsg(sock->fd, sock->header + sock->sent, sock->count - sock->sent, 0);

		if (n > 0) {
			for (int i = 0; i < n; i++)
				account_sent(transmitter, &sock->message[sock->sent++]);
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno == EAGAIN)
			return false;
		if (errno == ECONNREFUSED && !first->retried) {
			first->retried = true;
			continue;
		}
		account_failed(transmitter, first, errno);
		sock->sent++;
	}
	return true;
}

/** drop_queue() - Give up what a full socket did not take */
static void drop_queue(struct vx_transmitter *transmitter, struct vx_tx_socket *sock)
{
	while (sock->sent < sock->count)
		account_failed(transmitter, &sock->message[sock->sent++], EAGAIN);
}

/** vx_transmitter_abandon() - Count what the sockets of a stopped worker never took */
void vx_transmitter_abandon(struct vx_transmitter *transmitter)
{
	for (unsigned i = 0; i < transmitter->count; i++) {
		struct vx_tx_socket *sock = &transmitter->sockets[i];

		while (sock->sent < sock->count)
			vx_stats_drop(transmitter->stats, sock->message[sock->sent++].owner, VX_SHUTDOWN);
		sock->count = sock->sent = 0;
	}
	transmitter->dirty = transmitter->blocked = 0;
}

/** flush_socket() - Send what a socket has, and keep or drop what it does not take */
static void flush_socket(struct vx_transmitter *transmitter, unsigned index, bool keep)
{
	struct vx_tx_socket *sock = &transmitter->sockets[index];
	uint64_t bit = 1ull << index;

	transmitter->blocked &= ~bit;
	if (!send_queue(transmitter, sock)) {
		if (keep) {
			transmitter->blocked |= bit;
			return;
		}
		drop_queue(transmitter, sock);
	}
	sock->count = sock->sent = 0;
	transmitter->dirty &= ~bit;
}

/**
 * vx_transmitter_queue() - Queue an encapsulated frame for a VTEP
 * @transmitter: Transmitter
 * @frame:	Frame with its VXLAN header in front; its buffer stays as it is until the flush, or, if that
 *		leaves transmitter->blocked set, until a later one does not
 * @vtep:	Where to
 *
 * Return: false if it was dropped (and counted) because its socket is full
 */
bool vx_transmitter_queue(struct vx_transmitter *transmitter, const struct vx_frame *frame,
			  const struct vx_vtep *vtep)
{
	unsigned index = frame->hash % transmitter->count;
	struct vx_tx_socket *sock = &transmitter->sockets[index];
	struct vx_owner owner = { VX_AT_VTEP, vtep->id, frame->network->id };
	struct vx_message *message;
	struct mmsghdr *header;

	if (sock->count == VX_TX_QUEUE && !(transmitter->blocked & 1ull << index))
		flush_socket(transmitter, index, true);
	if (transmitter->blocked & 1ull << index) {
		vx_stats_drop(transmitter->stats, owner, VX_SOCK_FULL);
		return false;
	}
	message = &sock->message[sock->count];
	header = &sock->header[sock->count++];
	message->part.iov_base = frame->data - VX_VXLAN_LEN;
	message->part.iov_len = frame->len + VX_VXLAN_LEN;
	memcpy(&message->to, &vtep->to, vtep->to_len);
	message->owner = owner;
	message->generation = vtep->generation;
	message->arp_nd = frame->notes & VX_NOTE_ARP_ND;
	message->retried = false;
	header->msg_hdr = (struct msghdr){
		.msg_name = &message->to,
		.msg_namelen = vtep->to_len,
		.msg_iov = &message->part,
		.msg_iovlen = 1,
	};
	put_tos(&header->msg_hdr, message, frame->outer_tos);
	transmitter->dirty |= 1ull << index;
	return true;
}

/**
 * vx_transmitter_flush() - Send what is queued
 * @transmitter: Transmitter
 * @keep:	Keep what a full socket does not take (see transmitter->blocked) and try again what was kept; else
 *		drop it, and leave alone what an earlier flush kept
 */
void vx_transmitter_flush(struct vx_transmitter *transmitter, bool keep)
{
	uint64_t left = keep ? transmitter->dirty : transmitter->dirty & ~transmitter->blocked;

	for (; left; left &= left - 1)
		flush_socket(transmitter, (unsigned)__builtin_ctzll(left), keep);
}
