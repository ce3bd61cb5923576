/* sock.h - sockets of the underlay, and datagrams from it; see sock.c and receive.c */
#ifndef VX_SOCK_H
#define VX_SOCK_H

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "net.h"

#define VX_KERNEL(major, minor, patch) ((uint32_t)(major) << 16 | (uint32_t)(minor) << 8 | (uint32_t)(patch))

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

int vx_sock_set(int fd, int level, int option, int value);
int vx_sock_open(const uint8_t *address, uint16_t port, bool shared);
int vx_sock_probe(const uint8_t *address, uint16_t data_port);
bool vx_sock_is_virtual(const uint8_t *address);
uint32_t vx_sock_path_mtu(const struct sockaddr *to, socklen_t to_len);
int vx_sock_transmit_socket(const uint8_t *address);
uint32_t vx_sock_kernel(void);
unsigned vx_sock_segments(int fd);
void vx_sock_forget_errors(int fd);

int vx_receiver_open(struct vx_receiver *receiver, const vx_config *config, bool shared,
		     _Atomic uint32_t *offloads);
void vx_receiver_close(struct vx_receiver *receiver);
int vx_receiver_read(struct vx_receiver *receiver, struct vx_frame *frames, uint32_t *overflow);

#endif
