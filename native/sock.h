/* sock.h - sockets of the underlay, and datagrams from it; see sock.c and receive.c */
#ifndef VX_SOCK_H
#define VX_SOCK_H

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "net.h"

#define VX_KERNEL(major, minor, patch) ((uint32_t)(major) << 16 | (uint32_t)(minor) << 8 | (uint32_t)(patch))

/** struct vx_datagram - What a read brought: a frame, a train of frames, or a super-frame; see receive.c
 * @len:	Bytes, 0 if it was cut off or lies
 * @each:	Bytes of each frame in it but the last, which may have less
 * @train:	Size that UDP_GRO told, 0 if there was none to tell
 * @tos:	Outer TOS or traffic class, the same for all frames in it
 */
struct vx_datagram {
	uint32_t len;
	uint32_t each;
	uint16_t train;
	uint8_t tos;
};

/** struct vx_receiver - One receive socket and a vector of buffers */
struct vx_receiver {
	int fd;
	bool same_kernel;		/* peers may be on this kernel: super-frames may come */
	uint32_t overflow;		/* SO_RXQ_OVFL as last seen */
	uint8_t *buffers;		/* VX_RX_DATAGRAMS times VX_HEADROOM + VX_FRAME_MAX */
	unsigned ask;			/* datagrams that the next read asks for */
	bool more;			/* the last one got as many as it asked for: others may wait */
	unsigned count;			/* datagrams of the last read */
	unsigned at;			/* the one that the next frame is in, */
	uint32_t offset;		/* and where */
	unsigned futile;		/* vectors that ended in that one early, and nothing followed */
	struct vx_datagram datagram[VX_RX_DATAGRAMS];
	struct mmsghdr header[VX_RX_DATAGRAMS];
	struct iovec part[VX_RX_DATAGRAMS];
	union vx_sockaddr from[VX_RX_DATAGRAMS];
	_Alignas(8) uint8_t control[VX_RX_DATAGRAMS][128];
};

int vx_sock_set(int fd, int level, int option, int value);
int vx_sock_open(const uint8_t *address, uint16_t port, bool shared);
int vx_sock_take(int given, const uint8_t *address, uint16_t port, bool shared, bool trains);
int vx_sock_probe(const uint8_t *address, uint16_t data_port);
bool vx_sock_is_virtual(const uint8_t *address);
uint32_t vx_sock_path_mtu(int fd, const struct sockaddr *to, socklen_t to_len, uint32_t len);
uint16_t vx_sock_port(int fd);
int vx_sock_transmit_socket(const uint8_t *address, unsigned class);
void vx_sock_drop_flow_label(int fd, bool ipv4);
uint8_t vx_sock_ttl(int fd, bool ipv4);
uint32_t vx_sock_kernel(void);
unsigned vx_sock_segments(int fd);
int vx_sock_hear(int fd, bool ipv4, bool hear);
void vx_sock_forget_errors(int fd);

int vx_receiver_open(struct vx_receiver *receiver, int fd, const vx_config *config, _Atomic uint32_t *offloads);
void vx_receiver_discard(struct vx_receiver *receiver);
void vx_receiver_close(struct vx_receiver *receiver);
uint32_t vx_receiver_lost(const struct vx_receiver *receiver);
int vx_receiver_read(struct vx_receiver *receiver, uint32_t *overflow);
unsigned vx_receiver_next(struct vx_receiver *receiver, struct vx_frame *frames);
unsigned vx_receiver_followers(const struct vx_receiver *receiver, uint8_t **next);
void vx_receiver_skip(struct vx_receiver *receiver, unsigned frames);
void vx_receiver_rest(struct vx_receiver *receiver);

#endif
