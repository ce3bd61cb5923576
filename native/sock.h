/* sock.h - datagrams to and from the underlay; see sock.c, receive.c and transmit.c */
#ifndef VX_SOCK_H
#define VX_SOCK_H

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "net.h"
#include "stats.h"

union vx_sockaddr {
	struct sockaddr any;
	struct sockaddr_in ipv4;
	struct sockaddr_in6 ipv6;
};

/** struct vx_receiver - One receive socket and a vector of buffers */
struct vx_receiver {
	int fd;
	uint32_t overflow;		/* SO_RXQ_OVFL as last seen */
	uint8_t *buffers;		/* VX_BATCH times VX_HEADROOM + VX_FRAME_MAX */
	struct mmsghdr header[VX_BATCH];
	struct iovec part[VX_BATCH];
	union vx_sockaddr from[VX_BATCH];
	_Alignas(8) uint8_t control[VX_BATCH][64];
};

/** struct vx_message - One datagram that waits to be sent; refers to the frame's buffer, not to the VTEP */
struct vx_message {
	struct iovec part;
	union vx_sockaddr to;
	_Alignas(8) uint8_t control[32];
	struct vx_owner owner;
	uint32_t generation;		/* of the VTEP */
	bool arp_nd;
	bool retried;
};

struct vx_tx_socket {
	int fd;
	unsigned count;
	unsigned sent;
	struct mmsghdr header[VX_TX_QUEUE];
	struct vx_message message[VX_TX_QUEUE];
};

/** struct vx_transmitter - A worker's transmit sockets; a flow always takes the same one */
struct vx_transmitter {
	unsigned count;
	struct vx_tx_socket *sockets;
	uint64_t dirty;			/* sockets with messages */
	uint64_t blocked;		/* sockets that said EAGAIN and still have messages */
	struct vx_tables *tables;
	struct vx_stats *stats;
	void (*failed)(void *context, uint32_t vtep, int error, uint32_t path_mtu);
	void *context;
};

int vx_sock_set(int fd, int level, int option, int value);
int vx_sock_open(const uint8_t *address, uint16_t port, bool shared);
int vx_sock_probe(const uint8_t *address, uint16_t data_port);
bool vx_sock_is_virtual(const uint8_t *address);
uint32_t vx_sock_path_mtu(const struct sockaddr *to, socklen_t to_len);
int vx_sock_transmit_socket(const uint8_t *address);

int vx_receiver_open(struct vx_receiver *receiver, const vx_config *config, bool shared,
		     _Atomic uint32_t *offloads);
void vx_receiver_close(struct vx_receiver *receiver);
int vx_receiver_read(struct vx_receiver *receiver, struct vx_frame *frames, uint32_t *overflow);

int vx_transmitter_open(struct vx_transmitter *transmitter, const vx_config *config,
			_Atomic uint32_t *offloads);
void vx_transmitter_close(struct vx_transmitter *transmitter);
bool vx_transmitter_queue(struct vx_transmitter *transmitter, const struct vx_frame *frame,
			  const struct vx_vtep *vtep);
void vx_transmitter_flush(struct vx_transmitter *transmitter, bool keep);
void vx_transmitter_abandon(struct vx_transmitter *transmitter);

#endif
