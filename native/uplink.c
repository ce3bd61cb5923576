/* uplink.c - the way to the wire past the sockets
 *
 * How it works
 *   A super-frame whose VTEP has a next hop (vx_net_vtep_hop()) is written, behind the outer headers that inject.c
 *   makes, to the uplink TAP. That happens inside our write: the frame is in the queue of the uplink when it returns,
 *   behind whatever the sockets have sent before, as both come from this thread. So the frames of a flow may go one
 *   way or the other, one by one.
 *
 *   What the TAP does not take goes by the socket. EAGAIN says that more than VX_TX_BUFFER of ours is under way
 *   (TUNSETSNDBUF): the socket has its own room, and when that is full too TAPs are not read. Anything else may be the
 *   fault of that one frame, which a container made. But VX_REFUSALS_MAX of them, and none taken in between, say that
 *   the TAP is gone, down, or of a kernel that wants other headers: nothing more goes there by this next hop.
 *
 *   Nobody says EMSGSIZE here. What is longer than the path takes, or who knows, goes by the socket, which will.
 */
#define _GNU_SOURCE
#include "uplink.h"

#include <errno.h>

#include "inject.h"
#include "sock.h"
#include "tap.h"

/** vx_uplink_like() - What leaves shall look like what a socket sends from an address */
void vx_uplink_like(struct vx_uplink *uplink, const uint8_t *address, int fd)
{
	memcpy(uplink->source, address, VX_ADDR_LEN);
	uplink->ttl = vx_sock_ttl(fd, vx_addr_is4(address));
}

static struct vx_outer outer_of(const struct vx_uplink *uplink, const struct vx_tx_socket *sock,
				const struct vx_message *message, const struct vx_vtep *vtep)
{
	bool ipv4 = message->to.any.sa_family == AF_INET;

	return (struct vx_outer){
		.source = uplink->source,
		.target = vtep->address,
		.source_port = sock->port,
		.target_port = ntohs(ipv4 ? message->to.ipv4.sin_port : message->to.ipv6.sin6_port),
		.id = sock->id,
		.tos = message->tos,
		.ttl = uplink->ttl,
	};
}

/** fits() - Whether the path to a VTEP is known to take the segments that a super-frame will be cut into */
static bool fits(const struct vx_message *message, const struct vx_vtep *vtep)
{
	uint32_t packet = message->size + (message->to.any.sa_family == AF_INET ? 28 : 48);

	return packet <= atomic_load_explicit(&vtep->seat->path_mtu, memory_order_relaxed);	/* 0: not known */
}

/** taken() - The uplink TAP took a frame: those that it refused before were at fault themselves */
static void taken(struct vx_hop *hop)
{
	uint32_t seen = atomic_load_explicit(&hop->refusals, memory_order_relaxed);

	if (seen && seen < VX_REFUSALS_MAX)	/* what has ended stays so */
		atomic_compare_exchange_strong(&hop->refusals, &seen, 0);
}

/** refused() - It did not. Return: -EAGAIN, but @error where that ends injection by this next hop */
static int refused(struct vx_hop *hop, int error)
{
	return atomic_fetch_add(&hop->refusals, 1) + 1 == VX_REFUSALS_MAX ? error : -EAGAIN;
}

/**
 * vx_uplink_put() - Let a super-frame leave uncut
 * @uplink:	Uplink
 * @sock:	Whose turn it is: it would send the frame's segments
 * @message:	The super-frame, of which no segment was sent
 * @vtep:	Where to
 *
 * Return: 0; -EAGAIN if it has to go by the socket; -errno if so have all that come after it, which is said once
 */
int vx_uplink_put(const struct vx_uplink *uplink, struct vx_tx_socket *sock, const struct vx_message *message,
		  const struct vx_vtep *vtep)
{
	struct vx_hop *hop = atomic_load_explicit(&vtep->hop, memory_order_acquire);
	struct vx_outer outer = outer_of(uplink, sock, message, vtep);
	const struct vx_gso *gso = &message->gso;
	uint8_t head[VX_INJECT_HEAD];
	struct iovec parts[2];
	int error;

	if (!hop || !fits(message, vtep) ||
	    atomic_load_explicit(&hop->refusals, memory_order_relaxed) >= VX_REFUSALS_MAX)
		return -EAGAIN;
	outer.ethernet = hop->ethernet;
	parts[0] = (struct iovec){ head, vx_inject_head(gso, &outer, head) };
	parts[1] = (struct iovec){ (uint8_t *)(uintptr_t)gso->data - VX_VXLAN_LEN,
				   VX_VXLAN_LEN + gso->headers + gso->payload };
	error = parts[0].iov_len ? vx_tap_put(uplink->fd, parts, 2) : -EAGAIN;
	if (error == -EAGAIN || error == -ENOBUFS || error == -ENOMEM)
		return -EAGAIN;
	if (error)
		return refused(hop, error);
	taken(hop);
	sock->id = (uint16_t)(sock->id + message->segments);
	return 0;
}
