/* unit_receive.c - datagrams, trains and super-frames as recvmmsg() brings them, and the frames made of them
 *
 * recvmmsg() is scripted by the linker's --wrap: what is in it is what a kernel was seen to give.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <unistd.h>

#include "check.h"
#include "compat.h"
#include "flow.h"
#include "scene.h"
#include "sock.h"
#include "vxlan.h"

/* One datagram that the next read brings */
struct script {
	const uint8_t *data;
	uint32_t len;
	int train;		/* of the UDP_GRO message; 0: none */
	uint8_t tos;
	bool cut_off;
	uint32_t overflow;	/* SO_RXQ_OVFL; 0: none */
};

static struct script script[VX_RX_DATAGRAMS];
static unsigned scripted;
static uint8_t bytes[4 * FLOW_ROOM];
static struct vx_frame frames[VX_BATCH];

static void put_control(struct msghdr *message, struct cmsghdr **at, int level, int type, const void *value, size_t len)
{
	*at = *at ? CMSG_NXTHDR(message, *at) : CMSG_FIRSTHDR(message);
	CHECK(*at);
	(*at)->cmsg_level = level;
	(*at)->cmsg_type = type;
	(*at)->cmsg_len = CMSG_LEN(len);
	memcpy(CMSG_DATA(*at), value, len);
}

static void fill(struct mmsghdr *header, const struct script *from)
{
	static const struct sockaddr_in source = {
		.sin_family = AF_INET, .sin_port = 1, .sin_addr = { .s_addr = 0x0200590a },
	};
	struct msghdr *message = &header->msg_hdr;
	struct cmsghdr *at = NULL;

	EQUAL(message->msg_namelen, sizeof(union vx_sockaddr));	/* made ready again after the last read */
	CHECK(message->msg_controllen >= 100);
	CHECK(message->msg_iov->iov_len >= from->len);
	memset(message->msg_control, 0, message->msg_controllen);
	memcpy(message->msg_iov->iov_base, from->data, from->len);
	memcpy(message->msg_name, &source, sizeof(source));
	put_control(message, &at, IPPROTO_IP, IP_TOS, &from->tos, 1);
	if (from->train)
		put_control(message, &at, IPPROTO_UDP, UDP_GRO, &from->train, sizeof(int));
	if (from->overflow)
		put_control(message, &at, SOL_SOCKET, SO_RXQ_OVFL, &from->overflow, sizeof(uint32_t));
	message->msg_controllen = (uint8_t *)at + CMSG_SPACE(1) - (uint8_t *)message->msg_control;
	message->msg_namelen = sizeof(source);
	message->msg_flags = from->cut_off ? MSG_TRUNC : 0;
	header->msg_len = from->len;
}

int __wrap_recvmmsg(int fd, struct mmsghdr *headers, unsigned count, int flags, struct timespec *timeout);
int __wrap_recvmmsg(int fd, struct mmsghdr *headers, unsigned count, int flags, struct timespec *timeout)
{
	unsigned n = scripted;

	(void)fd;
	(void)flags;
	(void)timeout;
	CHECK(n <= count);
	errno = EAGAIN;
	if (!n)
		return -1;
	for (unsigned i = 0; i < n; i++)
		fill(&headers[i], &script[i]);
	memset(script, 0, sizeof(script));
	scripted = 0;
	return (int)n;
}

static void arrives(struct script datagram)
{
	script[scripted++] = datagram;
}

static struct vx_receiver *open_receiver(void)
{
	static const uint8_t loopback[4] = { 127, 0, 0, 1 };
	struct vx_receiver *receiver = calloc(1, sizeof(*receiver));
	vx_config config = { .data_port = 47892 };
	_Atomic uint32_t offloads = VX_OFFLOAD_ALL;

	vx_addr_map4(config.address, loopback);
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 31 + i / 251);
	EQUAL(vx_receiver_open(receiver, vx_sock_open(config.address, config.data_port, false), &config, &offloads), 0);
	CHECK(offloads & VX_OFFLOAD_UDP_GRO);
	return receiver;
}

static void close_receiver(struct vx_receiver *receiver)
{
	vx_receiver_close(receiver);
	free(receiver);
}

static int read_all(struct vx_receiver *receiver)
{
	uint32_t overflow;

	return vx_receiver_read(receiver, &overflow);
}

static void plain_datagrams_are_one_frame_each(void)
{
	struct vx_receiver *receiver = open_receiver();
	uint8_t outer[VX_ADDR_LEN];
	const uint8_t source[4] = { 10, 89, 0, 2 };

	vx_addr_map4(outer, source);
	arrives((struct script){ .data = bytes, .len = 100, .tos = 3 });
	arrives((struct script){ .data = bytes + 100, .len = 1472 });
	EQUAL(read_all(receiver), 2);
	EQUAL(vx_receiver_next(receiver, frames), 2);
	EQUAL(frames[0].len, 100);
	EQUAL(frames[0].outer_tos, 3);
	EQUAL(memcmp(frames[0].outer, outer, sizeof(outer)), 0);
	EQUAL(frames[1].len, 1472);
	EQUAL(frames[1].outer_tos, 0);
	EQUAL(frames[1].train, 0);
	EQUAL(memcmp(frames[1].data, bytes + 100, 1472), 0);
	EQUAL(vx_receiver_next(receiver, frames), 0);
	EQUAL(read_all(receiver), -EAGAIN);
	EQUAL(vx_receiver_next(receiver, frames), 0);
	close_receiver(receiver);
}

static void a_train_is_split_by_its_size_over_several_vectors(void)
{
	struct vx_receiver *receiver = open_receiver();
	uint32_t at = 0;
	unsigned n, all = 0;

	arrives((struct script){ .data = bytes, .len = 60 * 1000 + 1, .train = 1000, .tos = 2 });
	arrives((struct script){ .data = bytes + 60001, .len = 50 });
	arrives((struct script){ .data = bytes + 60051, .len = 2000, .train = 500 });
	EQUAL(read_all(receiver), 3);
	while ((n = vx_receiver_next(receiver, frames)) > 0) {
		CHECK(n == VX_BATCH || all + n == 61 + 1 + 4);
		for (unsigned i = 0; i < n; i++, all++) {
			uint32_t wanted = all < 60 ? 1000 : all == 60 ? 1 : all == 61 ? 50 : 500;

			EQUAL(frames[i].len, wanted);
			EQUAL(memcmp(frames[i].data, bytes + at, wanted), 0);
			EQUAL(frames[i].train, 0);
			EQUAL(frames[i].outer_tos, all <= 60 ? 2 : 0);
			EQUAL(frames[i].from, VX_AT_VTEP);
			at += wanted;
		}
	}
	EQUAL(all, 66);
	close_receiver(receiver);
}

static void a_size_that_is_no_less_than_the_datagram_makes_no_train(void)
{
	struct vx_receiver *receiver = open_receiver();

	arrives((struct script){ .data = bytes, .len = 700, .train = 700 });
	arrives((struct script){ .data = bytes, .len = 700, .train = 1400 });
	EQUAL(read_all(receiver), 2);
	EQUAL(vx_receiver_next(receiver, frames), 2);
	for (unsigned i = 0; i < 2; i++) {
		EQUAL(frames[i].len, 700);
		EQUAL(frames[i].train, 0);
	}
	close_receiver(receiver);
}

/** next_all() - All frames that were read, few enough for one vector, however many vectors they come in */
static unsigned next_all(struct vx_receiver *receiver)
{
	unsigned n = 0, more;

	while ((more = vx_receiver_next(receiver, frames + n)) > 0)
		n += more;
	return n;
}

static void a_super_frame_with_the_size_of_its_inner_segments_stays_whole(void)
{
	for (unsigned version = 4; version <= 6; version += 2)
		for (unsigned tags = 0; tags < 3; tags++) {
			struct vx_receiver *receiver = open_receiver();
			struct flow flow = flow_plain(false, version, 20000, 1000);
			uint32_t whole, first;

			flow.tags = tags;
			receiver->same_kernel = true;
			vx_vxlan_put(bytes, VNI);
			whole = VX_VXLAN_LEN + flow_super(bytes + VX_VXLAN_LEN, &flow).len;
			arrives((struct script){ .data = bytes, .len = whole, .train = 1000 });
			EQUAL(read_all(receiver), 1);
			EQUAL(vx_receiver_next(receiver, frames), 1);
			EQUAL(frames[0].len, whole);
			EQUAL(frames[0].train, 1000);

			first = VX_VXLAN_LEN + flow_segment(bytes + VX_VXLAN_LEN, &flow, 0);
			memcpy(bytes + first, bytes, first);	/* two datagrams merged: each with headers of its own */
			arrives((struct script){ .data = bytes, .len = 2 * first, .train = (int)first });
			EQUAL(read_all(receiver), 1);
			for (unsigned i = 0; i < 2; i++) {	/* alike: the second in a vector of its own */
				EQUAL(vx_receiver_next(receiver, frames), 1);
				EQUAL(frames[0].len, first);
				EQUAL(frames[0].train, 0);
			}
			EQUAL(vx_receiver_next(receiver, frames), 0);
			close_receiver(receiver);
		}
}

/** put_lie() - A train of three datagrams, of which the first claims the others as payload. Return: its length */
static uint32_t put_lie(uint32_t *each)
{
	struct flow flow = flow_plain(false, 4, 3000, 1000);
	uint32_t len = VX_VXLAN_LEN + flow_segment(bytes + VX_VXLAN_LEN, &flow, 0);
	uint8_t *ip = bytes + VX_VXLAN_LEN + VX_ETH_LEN;

	vx_vxlan_put(bytes, VNI);
	memcpy(bytes + len, bytes, len);
	memcpy(bytes + 2 * len, bytes, len);
	vx_vxlan_put(bytes + len, VNI + 1);	/* the others need not even be of the same network */
	vx_put16(ip + 2, (uint16_t)(3 * len - VX_VXLAN_LEN - VX_ETH_LEN));
	vx_put16(ip + 20 + 4, (uint16_t)(3 * len - VX_VXLAN_LEN - VX_ETH_LEN - 20));
	*each = len;
	return 3 * len;
}

static void a_frame_that_lies_about_its_length_takes_no_other_with_it(void)
{
	struct vx_receiver *receiver = open_receiver();
	uint32_t each, len = put_lie(&each);

	arrives((struct script){ .data = bytes, .len = len, .train = (int)each });
	EQUAL(read_all(receiver), 1);
	EQUAL(next_all(receiver), 3);	/* the first will be found to be cut off */
	for (unsigned i = 0; i < 3; i++) {
		EQUAL(frames[i].len, each);
		EQUAL(frames[i].train, 0);
		EQUAL(memcmp(frames[i].data, bytes + i * each, each), 0);
	}
	close_receiver(receiver);
}

/* Where a super-frame may come, what could be both is neither: its payload could be datagrams of any network. */
static void what_could_be_a_train_and_a_super_frame_reaches_nobody(void)
{
	struct vx_receiver *receiver = open_receiver();
	uint32_t each, len = put_lie(&each);

	receiver->same_kernel = true;
	arrives((struct script){ .data = bytes, .len = len, .train = (int)each });
	arrives((struct script){ .data = bytes, .len = 100 });
	EQUAL(read_all(receiver), 2);
	EQUAL(vx_receiver_next(receiver, frames), 2);
	EQUAL(frames[0].len, 0);
	EQUAL(frames[1].len, 100);
	bytes[each] ^= 1;				/* no header of a datagram: payload that ends up there */
	arrives((struct script){ .data = bytes, .len = len, .train = (int)each });
	EQUAL(read_all(receiver), 1);
	EQUAL(vx_receiver_next(receiver, frames), 1);
	EQUAL(frames[0].len, len);
	close_receiver(receiver);
}

static void trains_of_rubbish_are_split_and_nothing_is_read_beyond(void)
{
	struct vx_receiver *receiver = open_receiver();
	uint32_t frames_of_it = 0;
	unsigned n;

	receiver->same_kernel = true;
	for (int size = 1; size < VX_RX_DATAGRAMS; size++)
		arrives((struct script){ .data = bytes, .len = 40, .train = size });
	EQUAL(read_all(receiver), VX_RX_DATAGRAMS - 1);
	while ((n = vx_receiver_next(receiver, frames)) > 0)
		frames_of_it += n;
	for (unsigned size = 1; size < VX_RX_DATAGRAMS; size++)
		frames_of_it -= (40 + size - 1) / size;
	EQUAL(frames_of_it, 0);
	close_receiver(receiver);
}

static void a_datagram_that_was_cut_off_or_empty_is_a_frame_of_no_length(void)
{
	struct vx_receiver *receiver = open_receiver();

	arrives((struct script){ .data = bytes, .len = 60 });
	arrives((struct script){ .data = bytes, .len = 5000, .train = 1000, .cut_off = true });
	arrives((struct script){ .data = bytes });
	arrives((struct script){ .data = bytes, .len = 61 });
	EQUAL(read_all(receiver), 4);
	EQUAL(vx_receiver_next(receiver, frames), 4);
	EQUAL(frames[0].len, 60);
	EQUAL(frames[1].len, 0);
	EQUAL(frames[2].len, 0);
	EQUAL(frames[3].len, 61);
	close_receiver(receiver);
}

/** put_alike() - @count datagrams of one flow, end to end. Return: the length of each */
static uint32_t put_alike(unsigned count)
{
	struct flow flow = flow_plain(true, 4, 1000 * count, 1000);
	uint32_t len = 0;

	for (unsigned i = 0; i < count; i++) {
		vx_vxlan_put(bytes + i * len, VNI);
		len = VX_VXLAN_LEN + flow_segment(bytes + i * len + VX_VXLAN_LEN, &flow, i);
	}
	return len;
}

/* A vector ends in front of what may follow undecided. Where that never does, it is waited for twice in a row only. */
static void what_never_follows_ends_no_more_vectors_of_its_datagram(void)
{
	static const unsigned followed[] = { 0, 1, 0, 2, 0, 0 };
	struct vx_receiver *receiver = open_receiver();
	uint32_t each = put_alike(20);
	unsigned left = 20;
	uint8_t *next;

	arrives((struct script){ .data = bytes, .len = 20 * each, .train = (int)each });
	arrives((struct script){ .data = bytes, .len = 20 * each, .train = (int)each });
	EQUAL(read_all(receiver), 2);
	for (unsigned i = 0; i < sizeof(followed) / sizeof(*followed); i++) {
		EQUAL(vx_receiver_next(receiver, frames), 1);
		EQUAL(vx_receiver_followers(receiver, &next), --left);
		CHECK(next == frames[0].data + each);
		vx_receiver_skip(receiver, followed[i]);
		left -= followed[i];
	}
	EQUAL(vx_receiver_next(receiver, frames), left + 1);	/* all that is left, and the first of the next one */
	EQUAL(vx_receiver_followers(receiver, &next), 19);
	vx_receiver_skip(receiver, 19);
	EQUAL(vx_receiver_next(receiver, frames), 0);
	close_receiver(receiver);
}

static void losses_are_told_once(void)
{
	struct vx_receiver *receiver = open_receiver();
	uint32_t overflow;

	arrives((struct script){ .data = bytes, .len = 60, .overflow = 3 });
	arrives((struct script){ .data = bytes, .len = 60, .overflow = 5 });
	EQUAL(vx_receiver_read(receiver, &overflow), 2);
	EQUAL(overflow, 5);
	arrives((struct script){ .data = bytes, .len = 60, .overflow = 5 });
	EQUAL(vx_receiver_read(receiver, &overflow), 1);
	EQUAL(overflow, 0);
	/* Two CPUs read the count before they queue: the older one can come later, and is no loss of 4 294 967 295. */
	arrives((struct script){ .data = bytes, .len = 60, .overflow = 7 });
	EQUAL(vx_receiver_read(receiver, &overflow), 1);
	EQUAL(overflow, 2);
	arrives((struct script){ .data = bytes, .len = 60, .overflow = 6 });
	EQUAL(vx_receiver_read(receiver, &overflow), 1);
	EQUAL(overflow, 0);
	arrives((struct script){ .data = bytes, .len = 60, .overflow = 8 });
	EQUAL(vx_receiver_read(receiver, &overflow), 1);
	EQUAL(overflow, 1);
	close_receiver(receiver);
}

static void an_idle_receiver_gives_its_memory_back(void)
{
	struct vx_receiver *receiver = open_receiver();
	const uint8_t *last;

	for (unsigned i = 0; i < VX_RX_DATAGRAMS; i++)
		arrives((struct script){ .data = bytes, .len = 60000 });
	EQUAL(read_all(receiver), VX_RX_DATAGRAMS);
	last = receiver->part[VX_RX_DATAGRAMS - 1].iov_base;
	EQUAL(memcmp(last, bytes, 60000), 0);
	vx_receiver_rest(receiver);
	EQUAL(memcmp(last, (uint8_t[60000]){ 0 }, 60000), 0);	/* fresh pages */
	arrives((struct script){ .data = bytes, .len = 60000 });
	EQUAL(read_all(receiver), 1);
	EQUAL(vx_receiver_next(receiver, frames), 1);
	close_receiver(receiver);
}

CASES(CASE(own_namespace), CASE(plain_datagrams_are_one_frame_each),
      CASE(a_train_is_split_by_its_size_over_several_vectors),
      CASE(a_size_that_is_no_less_than_the_datagram_makes_no_train),
      CASE(a_super_frame_with_the_size_of_its_inner_segments_stays_whole),
      CASE(a_frame_that_lies_about_its_length_takes_no_other_with_it),
      CASE(what_could_be_a_train_and_a_super_frame_reaches_nobody),
      CASE(trains_of_rubbish_are_split_and_nothing_is_read_beyond),
      CASE(a_datagram_that_was_cut_off_or_empty_is_a_frame_of_no_length),
      CASE(what_never_follows_ends_no_more_vectors_of_its_datagram), CASE(losses_are_told_once),
      CASE(an_idle_receiver_gives_its_memory_back))
