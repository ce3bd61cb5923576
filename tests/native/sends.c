/* sends.c - a sendmmsg() that does as it is told and remembers every datagram
 *
 * Linked by --wrap=sendmmsg. It splits what carries UDP_SEGMENT as the kernel does, holds each send to the kernel's
 * rules for that (udp_send_skb(), __udp_gso_segment()), and fails as the real call does: at the first send that
 * fails, with an errno only if none went before it.
 */
#define _GNU_SOURCE
#include "sends.h"

#include <errno.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

#define ARENA		(16u << 20)
#define SEGMENTS_MAX	128
#define DATAGRAM_MAX	65507

struct sends sends;
static uint8_t *arena;
static size_t used;

/** sends_reset() - Forget everything, take everything */
void sends_reset(void)
{
	memset(&sends, 0, sizeof(sends));
	if (!arena)
		arena = malloc(ARENA);
	used = 0;
}

static unsigned last_byte(const struct sockaddr *to)
{
	const struct sockaddr_in *ipv4 = (const void *)to;
	const struct sockaddr_in6 *ipv6 = (const void *)to;

	return to->sa_family == AF_INET ? ntohl(ipv4->sin_addr.s_addr) & 0xff : ipv6->sin6_addr.s6_addr[15];
}

/** options() - What the control data says, held to its form */
static void options(struct msghdr *header, unsigned *tos, unsigned *size)
{
	*tos = *size = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c)) {
		uint16_t word;
		int value;

		if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_SEGMENT) {
			EQUAL(c->cmsg_len, CMSG_LEN(sizeof(word)));
			memcpy(&word, CMSG_DATA(c), sizeof(word));
			*size = word;
			CHECK(word);
		} else {
			CHECK((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) ||
			      (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS));
			EQUAL(c->cmsg_len, CMSG_LEN(sizeof(value)));
			memcpy(&value, CMSG_DATA(c), sizeof(value));
			*tos = (unsigned)value;
		}
	}
}

/** gather() - The bytes of a send, behind those of all before it */
static uint32_t gather(const struct msghdr *header)
{
	size_t len = 0;

	for (size_t i = 0; i < header->msg_iovlen; i++) {
		CHECK(used + len + header->msg_iov[i].iov_len <= ARENA);
		memcpy(arena + used + len, header->msg_iov[i].iov_base, header->msg_iov[i].iov_len);
		len += header->msg_iov[i].iov_len;
	}
	return (uint32_t)len;
}

static void remember(int fd, unsigned to, unsigned tos, uint32_t len, uint32_t size)
{
	for (uint32_t at = 0; at < len; at += size) {
		uint32_t left = len - at;

		CHECK(sends.count < SENDS_DATAGRAMS);
		sends.datagram[sends.count++] = (struct datagram){
			.data = arena + used + at, .len = left < size ? left : size,
			.to = to, .tos = tos, .send = sends.sends, .fd = fd,
		};
	}
	used += len;
	sends.sends++;
}

/** take() - Take one send. Return: 0 or an errno */
static int take(int fd, struct msghdr *header)
{
	struct attempt attempt = { .to = last_byte(header->msg_name), .len = gather(header) };
	unsigned tos, size;
	int error;

	options(header, &tos, &size);
	CHECK(!size || size <= attempt.len);
	attempt.size = size ? size : attempt.len;
	attempt.segments = (attempt.len + attempt.size - 1) / attempt.size;
	CHECK(attempt.segments <= SEGMENTS_MAX && attempt.len <= DATAGRAM_MAX);
	error = sends.judge ? sends.judge(&attempt) : 0;
	if (!error)
		remember(fd, attempt.to, tos, attempt.len, attempt.size);
	return error;
}

int __wrap_sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
	int step = sends.calls < SENDS_STEPS ? sends.step[sends.calls] : 0;

	CHECK(count > 0);
	EQUAL(flags, 0);
	sends.calls++;
	if (step < 0) {
		errno = -step;
		return -1;
	}
	if (step && (unsigned)step < count)
		count = (unsigned)step;
	for (unsigned i = 0; i < count; i++) {
		int error = take(fd, &messages[i].msg_hdr);

		if (error && i)
			return (int)i;
		if (error) {
			errno = error;
			return -1;
		}
	}
	return (int)count;
}
