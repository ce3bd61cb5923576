/* uplink.h - the way to the wire past the sockets; see uplink.c */
#ifndef VX_UPLINK_H
#define VX_UPLINK_H

#include "burst.h"

/** struct vx_uplink - The uplink TAP
 * @fd:		Its descriptor, which all workers write to; 0: there is none
 * @source:	Address that the sockets are bound to
 * @ttl:	That they send with
 */
struct vx_uplink {
	int fd;
	uint8_t source[VX_ADDR_LEN];
	uint8_t ttl;
};

void vx_uplink_like(struct vx_uplink *uplink, const uint8_t *address, int fd);
int vx_uplink_put(const struct vx_uplink *uplink, struct vx_tx_socket *sock, const struct vx_message *message,
		  const struct vx_vtep *vtep);

#endif
