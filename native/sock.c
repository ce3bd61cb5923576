/* sock.c - sockets of the underlay: bound, sized, and asked what they know
 *
 * How it works
 *   Each worker has one receive socket (receive.c), bound to the advertised address and the data port. Several
 *   workers share the port by SO_REUSEPORT, which would also let a second agent in; so the port is probed without
 *   it first, and a holder, be it an agent or a kernel vxlan device, is an -EADDRINUSE.
 *
 *   Transmit sockets (transmit.c) are never read: the smallest buffer and a filter that drops everything.
 */
#define _GNU_SOURCE
#include "sock.h"

#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/errqueue.h>
#include <linux/ethtool.h>
#include <linux/filter.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "compat.h"

#define BIND_TRIES	64
#define DATAGRAM_MAX	65535
#define ERRORS_MAX	64	/* more than the receive buffer holds */

/** vx_sock_set() - Set an integer option. Return: 0 or -errno */
int vx_sock_set(int fd, int level, int option, int value)
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

/** vx_sock_open() - A UDP socket bound to an address and port. Return: descriptor or -errno */
int vx_sock_open(const uint8_t *address, uint16_t port, bool shared)
{
	int family = vx_addr_is4(address) ? AF_INET : AF_INET6;
	int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), error = 0;
	union vx_sockaddr own;
	socklen_t len = make_address(&own, address, port);

	if (fd < 0)
		return -errno;
	if (family == AF_INET6)
		error = vx_sock_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	if (!error && shared)
		error = vx_sock_set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	if (!error && bind(fd, &own.any, len))
		error = -errno;
	if (error) {
		close(fd);
		return error;
	}
	return fd;
}

static bool has_option(int fd, int level, int option, int wanted)
{
	int value = 0;
	socklen_t len = sizeof(value);

	return !getsockopt(fd, level, option, &value, &len) && value == wanted;
}

/**
 * vx_sock_take() - Go on with a socket that an earlier run opened, and what is in its queue
 * @given:	Its descriptor; stays the caller's
 * @address:	What it must be bound to, or it is somebody else's business
 * @port:	Port
 * @shared:	Whether it must share the port
 * @trains:	Whether UDP_GRO may be on. Turned off now, trains in the queue would lose the size that it tells
 *
 * Return: a duplicate, or -ESTALE if it is not such a socket
 */
int vx_sock_take(int given, const uint8_t *address, uint16_t port, bool shared, bool trains)
{
	union vx_sockaddr wanted, own = { 0 };
	socklen_t len = make_address(&wanted, address, port), own_len = sizeof(own);
	int fd;

	if (!has_option(given, SOL_SOCKET, SO_TYPE, SOCK_DGRAM) ||
	    !has_option(given, SOL_SOCKET, SO_DOMAIN, wanted.any.sa_family) ||
	    !has_option(given, SOL_SOCKET, SO_REUSEPORT, shared) ||
	    (!trains && !has_option(given, IPPROTO_UDP, UDP_GRO, 0)) ||
	    getsockname(given, &own.any, &own_len) || own_len != len)
		return -ESTALE;
	if (wanted.any.sa_family == AF_INET
	    ? own.ipv4.sin_addr.s_addr != wanted.ipv4.sin_addr.s_addr ||
	      own.ipv4.sin_port != wanted.ipv4.sin_port
	    : memcmp(&own.ipv6.sin6_addr, &wanted.ipv6.sin6_addr, VX_ADDR_LEN) ||
	      own.ipv6.sin6_port != wanted.ipv6.sin6_port)
		return -ESTALE;
	fd = fcntl(given, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return -errno;
	if (fcntl(fd, F_SETFL, O_NONBLOCK)) {
		close(fd);
		return -errno;
	}
	return fd;
}

/** vx_sock_probe() - Whether the data port is free. Return: 0 or -errno of binding to it alone */
int vx_sock_probe(const uint8_t *address, uint16_t data_port)
{
	int fd = vx_sock_open(address, data_port, false);

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

static bool is_virtual_interface(int fd, const char *name, unsigned flags)
{
	static const char *const drivers[] = { "veth", "netkit", "bridge", "macvlan", "ipvlan", "dummy" };
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

/** vx_sock_hear() - Whether errors reach a socket. Return: 0 or -errno
 *
 * A socket that hears is told when a queue drops what it sends (ENOBUFS), which otherwise looks like success and is
 * nobody's loss; and also of ICMP errors. Going deaf forgets those that came.
 */
int vx_sock_hear(int fd, bool ipv4, bool hear)
{
	int error = vx_sock_set(fd, ipv4 ? IPPROTO_IP : IPPROTO_IPV6, ipv4 ? IP_RECVERR : IPV6_RECVERR, hear);
	int pending;
	socklen_t len = sizeof(pending);

	if (!hear && !error && getsockopt(fd, SOL_SOCKET, SO_ERROR, &pending, &len))
		error = -errno;
	return error;
}

static int transmit_options(int fd, bool ipv4)
{
	struct sock_filter drop_all = BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog program = { 1, &drop_all };
	int error;

	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)))
		return -errno;
	vx_sock_set(fd, SOL_SOCKET, SO_RCVBUF, VX_TX_RECEIVE_BUFFER);
	if (vx_sock_set(fd, SOL_SOCKET, SO_SNDBUFFORCE, VX_TX_BUFFER))
		vx_sock_set(fd, SOL_SOCKET, SO_SNDBUF, VX_TX_BUFFER);
	error = vx_sock_hear(fd, ipv4, true);
	if (error)
		return error;
	if (ipv4)
		return vx_sock_set(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);
	error = vx_sock_set(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE);
	return error ? error : vx_sock_set(fd, IPPROTO_IPV6, IPV6_DONTFRAG, 1);
}

/** vx_sock_port() - The port that a socket is bound to, 0 if there is none */
uint16_t vx_sock_port(int fd)
{
	union vx_sockaddr own;
	socklen_t len = sizeof(own);

	if (getsockname(fd, &own.any, &len))
		return 0;
	return ntohs(own.any.sa_family == AF_INET ? own.ipv4.sin_port : own.ipv6.sin6_port);
}

/** vx_sock_forget_errors() - Empty the error queue: what is in it makes poll() return at once, whatever it waits for */
void vx_sock_forget_errors(int fd)
{
	for (unsigned i = 0; i < ERRORS_MAX && recv(fd, NULL, 0, MSG_ERRQUEUE | MSG_DONTWAIT) >= 0; i++)
		;
}

/** local_limit() - What the error that a socket has queued says about the largest packet, if this host says so */
static uint32_t local_limit(int fd)
{
	_Alignas(8) uint8_t control[256];
	struct msghdr message = { .msg_control = control, .msg_controllen = sizeof(control) };

	if (recvmsg(fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
		return 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
		struct sock_extended_err error;

		if (c->cmsg_len < CMSG_LEN(sizeof(error)) ||
		    !((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR) ||
		      (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR)))
			continue;
		memcpy(&error, CMSG_DATA(c), sizeof(error));
		if (error.ee_errno == EMSGSIZE && error.ee_origin == SO_EE_ORIGIN_LOCAL)
			return error.ee_info;
	}
	return 0;
}

/** send_zeros() - Send a datagram of @len zeros */
static void send_zeros(int fd, const struct sockaddr *to, socklen_t to_len, uint32_t len)
{
	static uint8_t zeros[1024];
	struct iovec part[DATAGRAM_MAX / sizeof(zeros) + 1];
	struct msghdr message = { .msg_name = (void *)(uintptr_t)to, .msg_namelen = to_len, .msg_iov = part };

	for (; len && message.msg_iovlen < sizeof(part) / sizeof(part[0]); message.msg_iovlen++) {
		part[message.msg_iovlen] = (struct iovec){ zeros, len < sizeof(zeros) ? len : sizeof(zeros) };
		len -= (uint32_t)part[message.msg_iovlen].iov_len;
	}
	if (sendmsg(fd, &message, MSG_DONTWAIT) < 0)
		return;		/* as expected: the error queue says more */
}

/**
 * vx_sock_path_mtu() - The largest packet that this host's route to a peer takes
 * @fd:		Transmit socket that said EMSGSIZE
 * @to:		Peer
 * @to_len:	Length of @to
 * @len:	Of the datagram that was too long
 *
 * Slow: fails once more, so that the error queue tells the limit. What IP_MTU would tell is no authority: it believes
 * ICMP, which anybody can forge, where the socket does not (IP_PMTUDISC_PROBE). If zeros fit all of a sudden, the peer
 * finds no VXLAN header in them.
 *
 * Return: 0 if the kernel does not say
 */
uint32_t vx_sock_path_mtu(int fd, const struct sockaddr *to, socklen_t to_len, uint32_t len)
{
	bool ipv4 = to->sa_family == AF_INET;

	vx_sock_hear(fd, ipv4, false);
	vx_sock_hear(fd, ipv4, true);
	vx_sock_forget_errors(fd);
	send_zeros(fd, to, to_len, len);
	return local_limit(fd);
}

/** vx_sock_transmit_socket() - A socket on a random free port of a class (steer.c). Return: descriptor or -errno */
int vx_sock_transmit_socket(const uint8_t *address, unsigned class)
{
	int fd = -EADDRINUSE, error;

	for (unsigned tries = 0; tries < BIND_TRIES && fd == -EADDRINUSE; tries++) {
		uint32_t random = 0;

		if (getrandom(&random, sizeof(random), 0) < 0)
			return -errno;
		random %= (VX_TX_PORT_MAX - VX_TX_PORT_MIN + 1) >> VX_FLOW_BITS;
		fd = vx_sock_open(address, (uint16_t)(VX_TX_PORT_MIN + (random << VX_FLOW_BITS) + class), false);
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

/** vx_sock_drop_flow_label() - Send with flow label 0, as what is injected has it (inject.c)
 *
 * The kernel makes labels out of a secret, so that nobody else can have the same: without them a router that goes by
 * the label (RFC 6438) sends all of a flow one way.
 */
void vx_sock_drop_flow_label(int fd, bool ipv4)
{
	if (!ipv4)
		vx_sock_set(fd, IPPROTO_IPV6, IPV6_AUTOFLOWLABEL, 0);
}

/** vx_sock_ttl() - The TTL or hop limit that a socket sends with */
uint8_t vx_sock_ttl(int fd, bool ipv4)
{
	int ttl = 0;
	socklen_t len = sizeof(ttl);

	if (getsockopt(fd, ipv4 ? IPPROTO_IP : IPPROTO_IPV6, ipv4 ? IP_TTL : IPV6_UNICAST_HOPS, &ttl, &len) ||
	    ttl < 1 || ttl > 255)
		return VX_TTL;
	return (uint8_t)ttl;
}

/** vx_sock_kernel() - The running kernel, as VX_KERNEL(); 0 if it does not say */
uint32_t vx_sock_kernel(void)
{
	unsigned major, minor, patch = 0;
	struct utsname name;

	if (uname(&name) || sscanf(name.release, "%u.%u.%u", &major, &minor, &patch) < 2)
		return 0;
	return VX_KERNEL(major, minor, patch < 255 ? patch : 255);
}

/** vx_sock_segments() - How many datagrams one UDP_SEGMENT send may hold, 1 if that is not to be had
 *
 * From 7.0 to 7.1.4 a last segment of full length can leave corrupted (b10b446, mended by 78effd8 and 5f17ae0).
 */
unsigned vx_sock_segments(int fd)
{
	uint32_t kernel = vx_sock_kernel();

	if (vx_sock_set(fd, IPPROTO_UDP, UDP_SEGMENT, 0))
		return 1;
	if (kernel >= VX_KERNEL(7, 0, 0) && kernel < VX_KERNEL(7, 1, 5))
		return 1;
	return kernel < VX_KERNEL(6, 9, 0) ? VX_TX_SENDS_OLD : VX_TX_SENDS;
}
