/* old_kernel.c - a kernel that lacks something, put in front of libc by LD_PRELOAD
 *
 * How it works
 *   The file that OLD_KERNEL names is read once, when a process starts: the names below that it contains are the
 *   faults. A call that an older kernel would refuse gets that kernel's errno and goes no further; every other call
 *   goes through. Each refusal adds a byte to that file, so a test can see that its fault was met; it is opened each
 *   time, because the helper closes the descriptors that it does not know.
 *
 *     vnet-hdr      TUNGETFEATURES without IFF_VNET_HDR                           before 2.6.27, a sandbox's own TAPs
 *     mq            TUNGETFEATURES without IFF_MULTI_QUEUE                        before 3.8
 *     tso           TUNSETOFFLOAD with TUN_F_TSO4 or TUN_F_TSO6: EINVAL           before 2.6.27
 *     udp-segment   setsockopt(UDP_SEGMENT): ENOPROTOOPT                          before 4.18
 *     udp-gro       setsockopt(UDP_GRO): ENOPROTOOPT                              before 5.0
 *     uso           TUNSETOFFLOAD with TUN_F_USO4 or TUN_F_USO6: EINVAL           before 6.2
 *     rcvbufforce   setsockopt(SO_RCVBUFFORCE): EPERM                             without CAP_NET_ADMIN
 *     eio           sendmsg() and sendmmsg() with UDP_SEGMENT: EIO                5.10, no checksum offload
 *     gso-write     write() and writev() of a super-frame to a TAP: EINVAL        some of 6.1, 6.6, 6.10
 *     gso-writev    the same, but write(), by which it is probed, works
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define SOL_UDP_LEVEL	17
#define UDP_SEGMENT	103
#define UDP_GRO		104
#define TUNGETFEATURES	0x800454cf
#define TUNSETOFFLOAD	0x400454d0
#define TUNGETIFF	0x800454d2
#define IFF_MULTI_QUEUE	0x0100u
#define IFF_VNET_HDR	0x4000u
#define TUN_F_TSO	0x06
#define TUN_F_USO	0x60
#define VNET_LEN	10
#define IFREQ_LEN	40

static char faults[256];

__attribute__((constructor)) static void read_faults(void)
{
	const char *path = getenv("OLD_KERNEL");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;

	if (fd < 0)
		return;
	if (read(fd, faults, sizeof(faults) - 1) < 0)
		faults[0] = 0;
	close(fd);
}

static bool lacks(const char *name)
{
	size_t len = strlen(name);

	for (const char *at = faults; (at = strstr(at, name)); at += len)
		if (at[len] == '\n')
			return true;
	return false;
}

/** met() - Add a byte to the file of faults */
static void met(void)
{
	static ssize_t (*real)(int, const void *, size_t);
	int hits = open(getenv("OLD_KERNEL"), O_WRONLY | O_APPEND | O_CLOEXEC);

	if (!real)
		real = dlsym(RTLD_NEXT, "write");
	if (hits < 0 || real(hits, "!", 1) < 0)
		abort();
	close(hits);
}

static int refuse(int error)
{
	met();
	errno = error;
	return -1;
}

int setsockopt(int fd, int level, int option, const void *value, socklen_t len)
{
	static int (*real)(int, int, int, const void *, socklen_t);

	if (!real)
		real = dlsym(RTLD_NEXT, "setsockopt");
	if (level == SOL_UDP_LEVEL && option == UDP_SEGMENT && lacks("udp-segment"))
		return refuse(ENOPROTOOPT);
	if (level == SOL_UDP_LEVEL && option == UDP_GRO && lacks("udp-gro"))
		return refuse(ENOPROTOOPT);
	if (level == SOL_SOCKET && option == SO_RCVBUFFORCE && lacks("rcvbufforce"))
		return refuse(EPERM);
	return real(fd, level, option, value, len);
}

/** forget() - Take a flag out of what TUNGETFEATURES said */
static void forget(unsigned *features, unsigned flag)
{
	if (*features & flag)
		met();
	*features &= ~flag;
}

int ioctl(int fd, unsigned long request, ...)
{
	static int (*real)(int, unsigned long, ...);
	unsigned long argument;
	va_list rest;
	int answer;

	va_start(rest, request);
	argument = va_arg(rest, unsigned long);
	va_end(rest);
	if (!real)
		real = dlsym(RTLD_NEXT, "ioctl");
	if ((uint32_t)request == TUNSETOFFLOAD &&
	    (((argument & TUN_F_USO) && lacks("uso")) || ((argument & TUN_F_TSO) && lacks("tso"))))
		return refuse(EINVAL);
	answer = real(fd, request, argument);
	if (!answer && (uint32_t)request == TUNGETFEATURES) {
		if (lacks("vnet-hdr"))
			forget((unsigned *)argument, IFF_VNET_HDR);
		if (lacks("mq"))
			forget((unsigned *)argument, IFF_MULTI_QUEUE);
	}
	return answer;
}

static bool is_segmented(const struct msghdr *message)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR((struct msghdr *)message, c))
		if (c->cmsg_level == SOL_UDP_LEVEL && c->cmsg_type == UDP_SEGMENT)
			return true;
	return false;
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	static ssize_t (*real)(int, const struct msghdr *, int);

	if (!real)
		real = dlsym(RTLD_NEXT, "sendmsg");
	if (lacks("eio") && is_segmented(message))
		return refuse(EIO);
	return real(fd, message, flags);
}

int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
	static int (*real)(int, struct mmsghdr *, unsigned, int);
	unsigned plain = 0;

	if (!real)
		real = dlsym(RTLD_NEXT, "sendmmsg");
	while (lacks("eio") && plain < count && !is_segmented(&messages[plain].msg_hdr))
		plain++;
	if (!lacks("eio") || plain)
		return real(fd, messages, plain ? plain : count, flags);
	return refuse(EIO);
}

static bool is_super_frame(int fd, const uint8_t *header, size_t len)
{
	char ifreq[IFREQ_LEN] = { 0 };

	return len >= VNET_LEN && header[1] && !ioctl(fd, TUNGETIFF, ifreq);
}

ssize_t write(int fd, const void *bytes, size_t len)
{
	static ssize_t (*real)(int, const void *, size_t);

	if (!real)
		real = dlsym(RTLD_NEXT, "write");
	if (lacks("gso-write") && is_super_frame(fd, bytes, len))
		return refuse(EINVAL);
	return real(fd, bytes, len);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
	static ssize_t (*real)(int, const struct iovec *, int);

	if (!real)
		real = dlsym(RTLD_NEXT, "writev");
	if ((lacks("gso-write") || lacks("gso-writev")) && count > 0 &&
	    is_super_frame(fd, parts[0].iov_base, parts[0].iov_len))
		return refuse(EINVAL);
	return real(fd, parts, count);
}
