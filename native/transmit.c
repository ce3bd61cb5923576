/* transmit.c - datagrams to the underlay
 *
 * How it works
 *   A worker has 16 transmit sockets, each on a source port of its own; the hash of the inner flow picks one, so
 *   a flow keeps its port (and its order) and flows spread over the paths of the underlay. The lowest bits of the
 *   port tell the receiver which part of the hash's range that is (steer.c): the sockets of all workers divide the
 *   range between them, in order, as the workers do. A frame that another worker's queue should have brought goes
 *   out by the socket of the same place: what is lost is what the port tells. Frames are queued per
 *   socket as messages that refer to their buffers (burst.c), and leave at the end of the turn, a burst of sends
 *   per sendmmsg(). A frame's segments are the unit of all counters.
 *
 *   What can go wrong, and what it means. sendmmsg() stops at the first send that fails; what went before it has
 *   left, and what comes behind it goes on:
 *     EAGAIN          the socket's buffer is full. Messages of TAP frames are kept and the worker stops reading
 *                     TAPs (their rings and the senders' stacks push back); answers of the proxy are dropped.
 *                     A socket that takes nothing for VX_STUCK_MS is given up: vx_transmitter_give_up()
 *     EINVAL, EIO     with UDP_SEGMENT: the device, the route (IPsec) or an old kernel cannot do it, or the
 *                     segments are too long (before 6.x that was EINVAL too). The same datagrams go out one by
 *                     one; when the first of them leaves, the batch was at fault, and the VTEP is demoted
 *     EMSGSIZE        the path is narrower than thought: lower the VTEP's path MTU
 *     ENOBUFS         a queue of the underlay is full, which only a socket with IP_RECVERR is told
 *     no route, EPERM (a firewall), anything else: dropped under its own reason
 *   A super-frame that can leave uncut does so when its turn comes in its socket's queue (uplink.c).
 *   IP_RECVERR has a price: an ICMP error that an earlier datagram to another VTEP caused fails the next send,
 *   whatever its destination. Failing clears it, so a send with an errno that ICMP can cause is made again before
 *   that is believed; and since a neighbour that does not answer ARP makes the kernel send itself hundreds of
 *   them in a row, the attempts after that are made deaf, without IP_RECVERR: what fails then fails by itself.
 *   ICMP is no authority on path MTUs either, since anybody can forge it.
 */
#define _GNU_SOURCE
#include "transmit.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sock.h"
#include "steer.h"
#include "tap.h"

#define SHY_BELOW	VX_KERNEL(6, 8, 5)	/* udp_unexpected_gso() knows tunnels from there on */

static size_t map_len(unsigned count)
{
	return sizeof(struct vx_burst) + count * sizeof(struct vx_tx_socket);
}

/** open_sockets() - Open @count sockets. Return: 0 or -errno (none is left open then) */
static int open_sockets(struct vx_transmitter *transmitter, const vx_config *config, unsigned count)
{
	for (transmitter->count = 0; transmitter->count < count; transmitter->count++) {
		unsigned first = vx_steer_class(transmitter->worker, transmitter->workers);
		unsigned end = vx_steer_class(transmitter->worker + 1, transmitter->workers);
		unsigned class = first + transmitter->count * (end - first) / count;
		int fd = vx_sock_transmit_socket(config->address, class);

		if (fd < 0) {
			while (transmitter->count)
				close(transmitter->sockets[--transmitter->count].fd);
			return fd;
		}
		transmitter->sockets[transmitter->count].fd = fd;
		transmitter->sockets[transmitter->count].port = vx_sock_port(fd);
	}
	return 0;
}

/**
 * vx_transmitter_open() - Open the sockets
 * @transmitter: Transmitter; its worker's index and their number are set, or 0: the only one
 * @config:	Address, number of sockets
 * @offloads:	VX_OFFLOAD_* in use; loses what the kernel refuses here
 *
 * Return: 0 or -errno (nothing is left open then)
 */
int vx_transmitter_open(struct vx_transmitter *transmitter, const vx_config *config,
			_Atomic uint32_t *offloads)
{
	unsigned count = config->tx_sockets ? config->tx_sockets : VX_TX_SOCKETS;
	void *map = mmap(NULL, map_len(count), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int error;

	transmitter->count = 0;
	transmitter->burst = NULL;
	transmitter->workers += !transmitter->workers;
	if (map == MAP_FAILED)
		return -ENOMEM;
	transmitter->burst = map;
	transmitter->sockets = (struct vx_tx_socket *)(transmitter->burst + 1);
	error = open_sockets(transmitter, config, count);
	if (error) {
		munmap(map, map_len(count));
		transmitter->burst = NULL;
		return error;
	}
	vx_uplink_like(&transmitter->uplink, config->address, transmitter->sockets[0].fd);
	transmitter->offloads = offloads;
	transmitter->shy = vx_sock_kernel() < SHY_BELOW;
	transmitter->segments_max = vx_sock_segments(transmitter->sockets[0].fd);
	if (transmitter->segments_max < 2)
		vx_refused(offloads, VX_OFFLOAD_UDP_SEGMENT);
	return 0;
}

void vx_transmitter_close(struct vx_transmitter *transmitter)
{
	for (unsigned i = 0; i < transmitter->count; i++)
		close(transmitter->sockets[i].fd);
	if (transmitter->burst)
		munmap(transmitter->burst, map_len(transmitter->count));
	transmitter->burst = NULL;
	transmitter->count = 0;
}

/** vtep_of() - The VTEP that a message was queued for, NULL if it is gone */
static struct vx_vtep *vtep_of(struct vx_transmitter *transmitter, const struct vx_message *message)
{
	struct vx_vtep *vtep = vx_net_vtep(transmitter->tables, message->owner.id);

	return vtep && vtep->generation == message->generation ? vtep : NULL;
}

static void tell(struct vx_transmitter *transmitter, unsigned kind, const struct vx_message *message, uint32_t value)
{
	if (transmitter->tell)
		transmitter->tell(transmitter->context, kind, message->owner.id, value);
}

/** demote() - Single datagrams reach a VTEP where UDP_SEGMENT failed: do without it from now on, for all workers */
static void demote(struct vx_transmitter *transmitter, struct vx_message *message)
{
	struct vx_vtep *vtep = vtep_of(transmitter, message);
	uint16_t before = VX_VTEP_DEMOTED;

	if (vtep)
		before = atomic_fetch_or_explicit(&vtep->seat->flags, VX_VTEP_DEMOTED, memory_order_relaxed);
	if (!(before & VX_VTEP_DEMOTED))
		tell(transmitter, VX_EVENT_VTEP_DEMOTED, message, (uint32_t)message->refused);
	message->refused = 0;
}

/** settle() - A message's next segments are sent or dropped */
static void settle(struct vx_tx_socket *sock, struct vx_message *message, unsigned segments)
{
	message->next = (uint16_t)(message->next + segments);
	message->retries = 0;
	if (message->next == message->segments)
		sock->sent++;
}

/** sight_of() - One datagram of a message, as captures see it */
static struct vx_sight sight_of(const struct vx_transmitter *transmitter, const struct vx_tx_socket *sock,
				const struct vx_message *message, unsigned segment)
{
	return (struct vx_sight){
		.packet = message->super ? message->packet : sock->packet[message->part + segment],
		.port = VX_NONE,
		.vtep = message->owner.id,
		.network = vx_net_get(transmitter->tables, message->owner.network),
		.frames = 1,
	};
}

/** show_sent() - Let captures see the datagrams of a send that left, before it is settled */
static void show_sent(struct vx_transmitter *transmitter, const struct vx_tx_socket *sock, const struct vx_send *send)
{
	for (unsigned i = 0; i < send->segments; i++) {
		struct vx_sight sight = sight_of(transmitter, sock, send->message, send->message->next + i);

		sight.parts = send->parts + i;
		sight.count = 1;
		vx_capture_sent(transmitter->watch, &sight, sock->port, send->message->tos);
	}
}

/** show_lost() - Let captures see what is dropped: the frames of a run, or a super-frame whole */
static void show_lost(struct vx_transmitter *transmitter, const struct vx_tx_socket *sock,
		      const struct vx_message *message, unsigned segments, enum vx_reason reason)
{
	unsigned records = message->super ? 1 : segments;

	for (unsigned i = 0; i < records; i++) {
		struct vx_sight sight = sight_of(transmitter, sock, message, message->next + i);
		struct iovec part = { (void *)(uintptr_t)message->gso.data, 0 };

		if (message->super) {
			part.iov_len = message->gso.headers + message->gso.payload;
		} else {
			part = sock->part[message->part + message->next + i];
			part.iov_base = (uint8_t *)part.iov_base + VX_VXLAN_LEN;
			part.iov_len -= VX_VXLAN_LEN;
		}
		sight.parts = &part;
		sight.count = 1;
		sight.frames = message->super ? segments : 1;
		vx_capture_lost(transmitter->watch, &sight, reason, VX_CAPTURE_FROM);
	}
}

static void account_sent(struct vx_transmitter *transmitter, struct vx_tx_socket *sock, const struct vx_send *send)
{
	struct vx_message *message = send->message;

	transmitter->taken += send->segments;
	VX_COUNT(transmitter->stats, message->owner, encapsulated, send->segments);
	VX_COUNT(transmitter->stats, message->owner, out_frames, send->segments);
	VX_COUNT(transmitter->stats, message->owner, out_bytes, send->bytes);
	if (message->arp_nd)
		VX_COUNT(transmitter->stats, message->owner, arp_nd_underlay, send->segments);
	if (message->refused)
		demote(transmitter, message);
	settle(sock, message, send->segments);
}

static void count_drop(struct vx_transmitter *transmitter, struct vx_owner owner, enum vx_reason reason, unsigned n)
{
	vx_stats_add(transmitter->stats, owner, offsetof(vx_counters, drops) + reason * sizeof(uint64_t), n);
}

/** drop() - Count a message's next segments as lost, and forget them */
static void drop(struct vx_transmitter *transmitter, struct vx_tx_socket *sock, struct vx_message *message,
		 unsigned segments, enum vx_reason reason)
{
	if (vx_watched(transmitter->watch))
		show_lost(transmitter, sock, message, segments, reason);
	count_drop(transmitter, message->owner, reason, segments);
	settle(sock, message, segments);
}

/** drop_queue() - Give up all that a socket still has */
static void drop_queue(struct vx_transmitter *transmitter, struct vx_tx_socket *sock, enum vx_reason reason)
{
	while (sock->sent < sock->count) {
		struct vx_message *message = &sock->message[sock->sent];

		drop(transmitter, sock, message, (unsigned)message->segments - message->next, reason);
	}
	sock->count = sock->sent = sock->parts = 0;
}

/** lower_path_mtu() - The underlay cannot carry a datagram's size: remember what it can. Return: what is news, or 0 */
static uint32_t lower_path_mtu(struct vx_transmitter *transmitter, const struct vx_tx_socket *sock,
			       const struct vx_send *send)
{
	struct vx_vtep *vtep = vtep_of(transmitter, send->message);
	uint32_t size = send->size + (send->message->to.any.sa_family == AF_INET ? 28 : 48), known;
	uint16_t before;

	if (!vtep)
		return 0;
	before = atomic_load_explicit(&vtep->seat->path_mtu, memory_order_relaxed);
	if (before && before < size)
		return 0;	/* queued before the last failure, or another worker was quicker */
	known = vx_sock_path_mtu(sock->fd, &vtep->to.any, vtep->to_len, send->size);
	if (!known || known >= size)
		known = size - 1;
	if (known < VX_PATH_MTU_MIN)
		known = VX_PATH_MTU_MIN;
	if (known > UINT16_MAX)
		known = UINT16_MAX;
	while (!atomic_compare_exchange_weak_explicit(&vtep->seat->path_mtu, &before, (uint16_t)known,
						      memory_order_relaxed, memory_order_relaxed))
		if (before && before <= known)
			return 0;
	return known;
}

static enum vx_reason reason_of(int error)
{
	switch (error) {
	case EMSGSIZE:
		return VX_PKT_TOO_BIG;
	case ENOBUFS:
	case ENOMEM:
		return VX_SOCK_FULL;
	case ENETUNREACH:
	case EHOSTUNREACH:
	case ENETDOWN:
		return VX_UNREACHABLE;
	default:
		return VX_SOCK_ERROR;
	}
}

/** may_be_icmp() - Whether an ICMP error becomes this errno (icmp_err_convert[], tab_unreach[] of IPv6, EMSGSIZE) */
static bool may_be_icmp(int error)
{
	switch (error) {
	case ECONNREFUSED:
	case EHOSTUNREACH:
	case ENETUNREACH:
	case EMSGSIZE:
	case EACCES:
	case EPROTO:
	case ENOPROTOOPT:
	case EOPNOTSUPP:
	case EHOSTDOWN:
	case ENONET:
		return true;
	default:
		return false;
	}
}

/** send_failed() - Do what the errno of a send says: try it again, in another way, or drop it */
static void send_failed(struct vx_transmitter *transmitter, struct vx_tx_socket *sock, const struct vx_send *send,
			int error)
{
	struct vx_message *message = send->message;
	enum vx_reason reason = reason_of(error);
	uint32_t path_mtu;

	if (send->segments > 1 && (error == EINVAL || error == EIO)) {
		VX_COUNT(transmitter->stats, message->owner, sends_refused, 1);
		message->singles = true;
		message->refused = (int16_t)error;
		return;
	}
	if (may_be_icmp(error) && message->retries < VX_TX_RETRIES) {
		message->retries++;
		return;
	}
	if (reason == VX_PKT_TOO_BIG)
		message->refused = 0;	/* an old kernel's EINVAL meant the length: a shorter last one proves nothing */
	path_mtu = reason == VX_PKT_TOO_BIG ? lower_path_mtu(transmitter, sock, send) : 0;
	if (path_mtu)
		tell(transmitter, VX_EVENT_PATH_MTU, message, path_mtu);
	else if (reason != VX_SOCK_FULL && reason != VX_PKT_TOO_BIG)
		tell(transmitter, VX_EVENT_SOCKET_ERROR, message, (uint32_t)error);
	drop(transmitter, sock, message, send->segments, reason);
}

/** send_burst() - Send what is in the burst. Return: 0, or the errno of the first send that did not leave */
static int send_burst(struct vx_transmitter *transmitter, struct vx_tx_socket *sock, const struct vx_send **failed)
{
	struct vx_burst *burst = transmitter->burst;
	unsigned done = 0;

	while (done < burst->count) {
		int n = sendmmsg(sock->fd, burst->header + done, burst->count - done, 0);

		for (int i = 0; i < n; i++, done++) {
			if (vx_watched(transmitter->watch))
				show_sent(transmitter, sock, &burst->send[done]);
			account_sent(transmitter, sock, &burst->send[done]);
		}
		if (n < 0 && errno != EINTR) {
			*failed = &burst->send[done];
			return errno;
		}
	}
	return 0;
}

/** send_deaf() - As send_burst(), but the first send alone, while ICMP errors cannot reach the socket */
static int send_deaf(struct vx_transmitter *transmitter, struct vx_tx_socket *sock, const struct vx_send **failed)
{
	bool ipv4 = sock->message[sock->sent].to.any.sa_family == AF_INET;
	int error;

	transmitter->burst->count = 1;
	vx_sock_hear(sock->fd, ipv4, false);
	error = send_burst(transmitter, sock, failed);
	vx_sock_hear(sock->fd, ipv4, true);
	return error;
}

/** account_injected() - Count a super-frame that left uncut, and settle it */
static void account_injected(struct vx_transmitter *transmitter, struct vx_tx_socket *sock,
			     struct vx_message *message)
{
	uint32_t bytes = message->gso.payload + (uint32_t)message->segments * message->gso.headers;

	transmitter->taken += message->segments;
	VX_COUNT(transmitter->stats, message->owner, encapsulated, message->segments);
	VX_COUNT(transmitter->stats, message->owner, injected, message->segments);
	VX_COUNT(transmitter->stats, message->owner, out_frames, message->segments);
	VX_COUNT(transmitter->stats, message->owner, out_bytes, bytes);
	settle(sock, message, message->segments);
}

/** inject() - Let the super-frame that comes next leave uncut, if it can. Not while captures look on, which show what
 * is on the wire. Return: whether it left
 */
static bool inject(struct vx_transmitter *transmitter, struct vx_tx_socket *sock)
{
	struct vx_message *message = &sock->message[sock->sent];
	const struct vx_vtep *vtep;
	int error;

	if (!transmitter->uplink.fd || !message->super || message->next || vx_watched(transmitter->watch))
		return false;
	vtep = vtep_of(transmitter, message);
	error = vtep ? vx_uplink_put(&transmitter->uplink, sock, message, vtep) : -EAGAIN;
	if (!error)
		account_injected(transmitter, sock, message);
	else if (error != -EAGAIN)
		tell(transmitter, VX_EVENT_INJECT_REFUSED, message, (uint32_t)-error);
	return !error;
}

/** send_queue() - Send what a socket has. Return: false if it is full and messages are left */
static bool send_queue(struct vx_transmitter *transmitter, struct vx_tx_socket *sock)
{
	while (sock->sent < sock->count) {
		bool deaf = sock->message[sock->sent].retries > 1;
		const struct vx_send *failed = NULL;
		int error;

		if (inject(transmitter, sock))
			continue;
		vx_burst_fill(transmitter->burst, sock, transmitter->segments_max);
		error = deaf ? send_deaf(transmitter, sock, &failed) : send_burst(transmitter, sock, &failed);
		if (error == EAGAIN)
			return false;
		if (error)
			send_failed(transmitter, sock, failed, error);
	}
	return true;
}

/** disown() - A message that was kept may outlive its VTEP and its network, whose ids others may have by now */
static void disown(struct vx_transmitter *transmitter, struct vx_tx_socket *sock)
{
	for (unsigned i = sock->sent; i < sock->count; i++) {
		struct vx_message *message = &sock->message[i];
		const struct vx_network *network = vx_net_get(transmitter->tables, message->owner.network);

		if (!vtep_of(transmitter, message))
			message->owner.id = VX_NONE;
		if (!network || network->generation != message->network_generation)
			message->owner.network = VX_NONE;
	}
}

/** vx_transmitter_abandon() - Count what the sockets of a stopped worker never took */
void vx_transmitter_abandon(struct vx_transmitter *transmitter)
{
	for (unsigned i = 0; i < transmitter->count; i++) {
		disown(transmitter, &transmitter->sockets[i]);
		drop_queue(transmitter, &transmitter->sockets[i], VX_SHUTDOWN);
	}
	transmitter->dirty = transmitter->blocked = 0;
}

/** flush_socket() - Send what a socket has, and keep or drop what it does not take */
static void flush_socket(struct vx_transmitter *transmitter, unsigned index, bool keep)
{
	struct vx_tx_socket *sock = &transmitter->sockets[index];
	uint64_t bit = 1ull << index;

	if (transmitter->blocked & bit)
		disown(transmitter, sock);
	transmitter->blocked &= ~bit;
	if (send_queue(transmitter, sock)) {
		transmitter->stuck &= ~bit;
	} else if (keep && !(transmitter->stuck & bit)) {
		vx_sock_forget_errors(sock->fd);
		transmitter->blocked |= bit;
		return;
	}
	drop_queue(transmitter, sock, VX_SOCK_FULL);
	transmitter->dirty &= ~bit;
}

/** may_segment() - Whether many datagrams to a VTEP may leave in one send
 *
 * Between 5.11 and 6.8.4 a kernel vxlan device drops them if they reach it over a virtual link of the same kernel.
 */
static bool may_segment(const struct vx_transmitter *transmitter, const struct vx_network *network,
			const struct vx_vtep *vtep)
{
	uint32_t flags = atomic_load_explicit(&vtep->seat->flags, memory_order_relaxed);

	if (!vx_may(transmitter->offloads, VX_OFFLOAD_UDP_SEGMENT) || (flags & VX_VTEP_DEMOTED))
		return false;
	if (!transmitter->shy || !(transmitter->tables->same_kernel || (flags & VX_VTEP_SAME_KERNEL)))
		return true;
	return !(vx_net_member_flags(network, vtep->id) & VX_MEMBER_FOREIGN);
}

/** describe() - What a frame is as a message of its own */
static void describe(const struct vx_transmitter *transmitter, struct vx_message *message,
		     const struct vx_frame *frame, const struct vx_vtep *vtep)
{
	message->owner = (struct vx_owner){ VX_AT_VTEP, vtep->id, frame->network->id };
	message->generation = vtep->generation;
	message->network_generation = frame->network->generation;
	message->super = frame->segments > 1;
	message->size = frame->len + VX_VXLAN_LEN;
	message->bytes = message->size;
	message->segments = 1;
	message->next = 0;
	message->refused = 0;
	message->retries = 0;
	message->packet = frame->packet;
	message->closed = false;
	message->singles = !may_segment(transmitter, frame->network, vtep);
	message->arp_nd = frame->notes & VX_NOTE_ARP_ND;
	message->tos = frame->outer_tos;
	message->to_len = vtep->to_len;
	if (!message->super)
		return;
	vx_gso_begin(&message->gso, frame);
	message->segments = message->gso.segments;
	message->size = VX_VXLAN_LEN + (uint32_t)message->gso.headers + message->gso.size;
}

/** refuse() - A frame finds its socket full */
static void refuse(struct vx_transmitter *transmitter, const struct vx_frame *frame, const struct vx_vtep *vtep)
{
	unsigned segments = frame->segments > 1 ? frame->segments : 1;
	struct iovec part = { frame->data, frame->len };
	struct vx_sight sight = {
		.parts = &part,
		.count = 1,
		.vnet = &frame->vnet,
		.packet = frame->packet,
		.port = VX_NONE,
		.vtep = vtep->id,
		.network = frame->network,
		.frames = segments,
	};

	if (vx_watched(transmitter->watch))
		vx_capture_lost(transmitter->watch, &sight, VX_SOCK_FULL, VX_CAPTURE_FROM);
	count_drop(transmitter, (struct vx_owner){ VX_AT_VTEP, vtep->id, frame->network->id }, VX_SOCK_FULL, segments);
}

/**
 * vx_transmitter_queue() - Queue an encapsulated frame, or super-frame, for a VTEP
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
	struct iovec part = { frame->data - VX_VXLAN_LEN, frame->len + VX_VXLAN_LEN };
	unsigned all = transmitter->count * transmitter->workers;
	unsigned index = (unsigned)((uint64_t)frame->hash * all >> 32) % transmitter->count;
	struct vx_tx_socket *sock = &transmitter->sockets[index];
	uint64_t bit = 1ull << index;
	struct vx_message *message;

	if (!(transmitter->blocked & bit) && (sock->count == VX_TX_QUEUE || sock->parts == VX_TX_QUEUE))
		flush_socket(transmitter, index, true);
	if (transmitter->blocked & bit) {
		refuse(transmitter, frame, vtep);
		return false;
	}
	message = &sock->message[sock->count];
	describe(transmitter, message, frame, vtep);
	transmitter->dirty |= bit;
	if (sock->parts < VX_TX_QUEUE)
		sock->packet[sock->parts] = frame->packet;
	if (vx_burst_extend(sock, message, &part, transmitter->segments_max))
		return true;
	memcpy(&message->to, &vtep->to, vtep->to_len);
	message->part = sock->parts;
	if (!message->super)
		sock->part[sock->parts++] = part;
	sock->count++;
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

/**
 * vx_transmitter_give_up() - Drop what blocked sockets hold: they have taken nothing for VX_STUCK_MS
 * @transmitter: Transmitter; nothing is blocked afterwards
 *
 * What waits for a neighbour that does not answer ARP stays charged to the socket (the kernel's arp_queue): VTEPs that
 * are down could hold back the TAPs of all containers until ARP gives up, for seconds, again and again.
 */
void vx_transmitter_give_up(struct vx_transmitter *transmitter)
{
	transmitter->stuck |= transmitter->blocked;
	for (uint64_t left = transmitter->blocked; left; left &= left - 1)
		flush_socket(transmitter, (unsigned)__builtin_ctzll(left), true);
}
