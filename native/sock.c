/* sock.c - sockets of the underlay, and datagrams from it
 *
 * How it works
 *   Each worker has one receive socket, bound to the advertised address and the data port. Several workers share
 *   the port by SO_REUSEPORT, which would also let a second agent in; so the port is probed without it first,
 *   and a holder, be it an agent or a kernel vxlan device, is an -EADDRINUSE.
 *   Buffers hold 64 KB although the underlay's MTU is small: a peer on this kernel hands over whole super-frames
 *   (partial.c). The TOS comes along for ECN, and the kernel's own count of what it dropped for want of buffer.
 *
 *   Transmit sockets (transmit.c) are never read: the smallest buffer and a filter that drops everything.
 */
#define _GNU_SOURCE
#include "sock.h"

#include <errno.h>
#include <ifaddrs.h>
#include <linux/ethtool.h>
#include <linux/filter.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "compat.h"

#define BUFFER_LEN	(VX_HEADROOM + VX_FRAME_MAX)
#define BIND_TRIES	64

static int set_int(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof(value)) ? -errno : 0;
}

static socklen_t make_address(union vx_sockaddr *out, const uint8_t *address, uint16_t port)
{
	memset(out, 0, sizeof(*out));
	if (vx_addr_is4(address)) {
		out->ipv4.sin_family = AF_INET;
		out->ipv4.sin_port = htons(port);
		memcpy(&out->ipv4.sin_addr, address + 12, 4);
		return sizeof(out->ipv4);
	}
	out->ipv6.sin6_family = AF_INET6;
	out->ipv6.sin6_port = htons(port);
	memcpy(&out->ipv6.sin6_addr, address, VX_ADDR_LEN);
	return sizeof(out->ipv6);
}

/** open_bound() - A UDP socket bound to an address and port. Return: descriptor or -errno */
static int open_bound(const uint8_t *address, uint16_t port, bool shared)
{
	int family = vx_addr_is4(address) ? AF_INET : AF_INET6;
	int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), error = 0;
	union vx_sockaddr own;
	socklen_t len = make_address(&own, address, port);

	if (fd < 0)
		return -errno;
	if (family == AF_INET6)
		error = set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	if (!error && shared)
		error = set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	if (!error && bind(fd, &own.any, len))
		error = -errno;
	if (error) {
		close(fd);
		return error;
	}
	return fd;
}

/** vx_sock_probe() - Whether the data port is free. Return: 0 or -errno of binding to it alone */
int vx_sock_probe(const uint8_t *address, uint16_t data_port)
{
	int fd = open_bound(address, data_port, false);

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

static bool is_virtual_interface(int fd, const char *name, unsigned flags)
{
	static const char *const drivers[] = { "veth", "bridge", "dummy" };
	struct ethtool_drvinfo info = { .cmd = ETHTOOL_GDRVINFO };
	struct ifreq request = { .ifr_data = (void *)&info };

	if (flags & IFF_LOOPBACK)
		return true;
	strncpy(request.ifr_name, name, IFNAMSIZ - 1);
	if (ioctl(fd, SIOCETHTOOL, &request))
		return false;
	for (size_t i = 0; i < sizeof(drivers) / sizeof(drivers[0]); i++)
		if (strncmp(info.driver, drivers[i], sizeof(info.driver)) == 0)
			return true;
	return false;
}

/** vx_sock_is_virtual() - Whether an address of this host is on an interface that leads to this same kernel */
bool vx_sock_is_virtual(const uint8_t *address)
{
	union vx_sockaddr own;
	struct ifaddrs *list;
	bool found = false;
	int fd;

	make_address(&own, address, 0);
	if (getifaddrs(&list))
		return false;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	for (struct ifaddrs *i = list; i && fd >= 0 && !found; i = i->ifa_next) {
		const union vx_sockaddr *has = (const void *)i->ifa_addr;

		if (!has || has->any.sa_family != own.any.sa_family)
			continue;
		if (own.any.sa_family == AF_INET
		    ? has->ipv4.sin_addr.s_addr != own.ipv4.sin_addr.s_addr
		    : memcmp(&has->ipv6.sin6_addr, &own.ipv6.sin6_addr, VX_ADDR_LEN) != 0)
			continue;
		found = is_virtual_interface(fd, i->ifa_name, i->ifa_flags);
	}
	if (fd >= 0)
		close(fd);
	freeifaddrs(list);
	return found;
}

/** vx_sock_path_mtu() - MTU of the route to a peer as the kernel knows it, 0 if it does not. Slow: asks by connect() */
uint32_t vx_sock_path_mtu(const struct sockaddr *to, socklen_t to_len)
{
	int fd = socket(to->sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0), mtu = 0;
	socklen_t len = sizeof(mtu);
	int level = to->sa_family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
	int option = to->sa_family == AF_INET ? IP_MTU : IPV6_MTU;

	if (fd < 0)
		return 0;
	if (connect(fd, to, to_len) || getsockopt(fd, level, option, &mtu, &len))
		mtu = 0;
	close(fd);
	return mtu > 0 ? (uint32_t)mtu : 0;
}

static int receiver_options(int fd, const vx_config *config, _Atomic uint32_t *offloads)
{
	int size = (int)(config->receive_bytes ? config->receive_bytes : VX_RX_BUFFER);
	int error;

	if (vx_may(offloads, VX_OFFLOAD_RCVBUFFORCE) && set_int(fd, SOL_SOCKET, SO_RCVBUFFORCE, size))
		vx_refused(offloads, VX_OFFLOAD_RCVBUFFORCE);
	if (!vx_may(offloads, VX_OFFLOAD_RCVBUFFORCE))
		set_int(fd, SOL_SOCKET, SO_RCVBUF, size);
	error = set_int(fd, SOL_SOCKET, SO_RXQ_OVFL, 1);
	if (error)
		return error;
	if (vx_addr_is4(config->address))
		return set_int(fd, IPPROTO_IP, IP_RECVTOS, 1);
	return set_int(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
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
	int fd = open_bound(config->address, config->data_port, shared), error;

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

static int transmit_options(int fd, bool ipv4)
{
	struct sock_filter drop_all = BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog program = { 1, &drop_all };
	int error;

	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)))
		return -errno;
	set_int(fd, SOL_SOCKET, SO_RCVBUF, VX_TX_RECEIVE_BUFFER);
	if (set_int(fd, SOL_SOCKET, SO_SNDBUFFORCE, VX_TX_BUFFER))
		set_int(fd, SOL_SOCKET, SO_SNDBUF, VX_TX_BUFFER);
	if (ipv4)
		return set_int(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);
	error = set_int(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE);
	return error ? error : set_int(fd, IPPROTO_IPV6, IPV6_DONTFRAG, 1);
}

/** vx_sock_transmit_socket() - A socket on a random free port of the range. Return: descriptor or -errno */
int vx_sock_transmit_socket(const uint8_t *address)
{
	int fd = -EADDRINUSE, error;

	for (unsigned tries = 0; tries < BIND_TRIES && fd == -EADDRINUSE; tries++) {
		uint32_t random = 0;

		if (getrandom(&random, sizeof(random), 0) < 0)
			return -errno;
		random %= VX_TX_PORT_MAX - VX_TX_PORT_MIN + 1;
		fd = open_bound(address, (uint16_t)(VX_TX_PORT_MIN + random), false);
	}
	if (fd < 0)
		return fd;
	error = transmit_options(fd, vx_addr_is4(address));
	if (error) {
		close(fd);
		return error;
	}
	return fd;
}
