/* udp_load.c - numbered datagrams at a given rate, and the count of those that arrive
 *
 *   udp_load receive PORT                            until it is killed; says "listening" when it does
 *   udp_load send ADDRESS PORT TRAIN RATE MS SIZES   one trial; prints what was sent and what has arrived, as JSON
 *
 *   TRAIN  datagrams a call: 1, or more by UDP_SEGMENT
 *   RATE   datagrams a second
 *   SIZES  bytes of payload, one number, or several with commas between: sent in that order, again and again
 *
 * How it works
 *   The sender keeps to a timetable. What is due is sent at once; when it is ahead it sleeps until the next datagram
 *   (or train) is due, but at least TICK_NS, so that it leaves its CPU to the path and sends in bursts of a tick. It
 *   never spins: on a machine whose CPUs are the bottleneck, a sender that does measures itself. What it missed while
 *   others had its CPU it makes up for at once, but LATE_NS of it at most: it is a source, not a burst. So it cannot
 *   always keep up; how many were really sent is in what it prints. The socket blocks: who pushes back slows it.
 *
 *   Each datagram carries the number of its trial and its own. The receiver marks them in a bitmap, which tells those
 *   that are lost from those that come twice; one behind a higher number is reordered. A trial's number is the time at
 *   which it began, so that a straggler of an earlier one is known as such and counts nowhere. Then the sender asks,
 *   until it gets an answer. It asks only SETTLE_MS after the last datagram, so what waits in queues counts as arrived,
 *   and how long it took to arrive is in the answer: a queue cannot make a path look faster than it is.
 *
 *   A receiver that is too slow loses in its own socket (SO_RXQ_OVFL). That is loss like any other, for what use is a
 *   path whose far end it starves of CPU? But it is told apart. The socket's buffer is BUFFER_BYTES if the kernel
 *   allows; what it has become is told, too.
 */
#define _GNU_SOURCE
#define PROGRAM		"udp_load"
#include "load.h"

#include <netinet/udp.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/prctl.h>

#ifndef SOL_UDP
#define SOL_UDP		17
#endif

#define MAGIC		0x6d657465u
#define NUMBERS		(1u << 26)	/* of a trial; the bitmap takes 8 MB */
#define TRAIN_MAX	64u		/* UDP_MAX_SEGMENTS before 6.9 */
#define TRAIN_BYTES	65000u		/* above it every device cuts in software */
#define PAYLOAD_MAX	9000u
#define SIZES_MAX	64
#define BATCH		64		/* of one recvmmsg() */
#define BUFFER_BYTES	(16 << 20)	/* the kernel doubles it, and counts 768 bytes or more for each datagram */
#define TICK_NS		50000u
#define LATE_NS		1000000u
#define SETTLE_MS	100
#define ASK_MS		50
#define ASK_TIMES	60

enum kind { DATA, QUESTION, ANSWER };

/** struct header - What each datagram begins with; both ends are on one machine */
struct header {
	uint32_t magic;
	uint32_t trial;		/* microseconds, modulo 2^32 */
	uint32_t kind;
	uint32_t number;
};

/** struct answer - What has come of a trial */
struct answer {
	struct header header;
	uint32_t received;
	uint32_t duplicates;
	uint32_t reordered;
	uint32_t overflow;	/* of the receiver's own socket */
	uint32_t buffer;	/* of it, as the kernel counts */
	uint32_t span_us;	/* from the first to the last */
	uint64_t bytes;
};

/** micros() - What a trial that begins now is called */
static uint32_t micros(void)
{
	return (uint32_t)(clock_ns() / 1000);
}

/* -- receiver ----------------------------------------------------------------------------------------------------- */

/** struct arrivals - The trial that goes on, and its bitmap */
struct arrivals {
	struct answer answer;
	uint32_t highest;
	uint32_t overflow_before;	/* the kernel's count when the trial began */
	uint32_t overflow_now;
	uint64_t first_ns;
	uint64_t last_ns;
	uint64_t seen[NUMBERS / 64];
};

static struct arrivals arrivals;

/** belongs() - Whether something is of the trial that goes on, or begins a later one; an earlier one is over */
static bool belongs(uint32_t trial)
{
	return (int32_t)(trial - arrivals.answer.header.trial) >= 0;
}

static void begin_trial(uint32_t trial)
{
	memset(arrivals.seen, 0, (arrivals.highest / 64 + 1) * sizeof(arrivals.seen[0]));
	memset(&arrivals, 0, offsetof(struct arrivals, overflow_before));
	arrivals.answer.header = (struct header){ .magic = MAGIC, .trial = trial, .kind = ANSWER };
	arrivals.overflow_before = arrivals.overflow_now;
	arrivals.first_ns = arrivals.last_ns = 0;
}

static void arrived(uint32_t number, uint32_t bytes, uint64_t now_ns)
{
	uint64_t *word = &arrivals.seen[number / 64], bit = 1ull << number % 64;

	if (*word & bit) {
		arrivals.answer.duplicates++;
		return;
	}
	*word |= bit;
	arrivals.answer.reordered += number < arrivals.highest;
	if (number > arrivals.highest)
		arrivals.highest = number;
	if (!arrivals.answer.received++)
		arrivals.first_ns = now_ns;
	arrivals.last_ns = now_ns;
	arrivals.answer.bytes += bytes;
}

static void answer(int fd, const struct sockaddr_storage *to, socklen_t len)
{
	int buffer;
	socklen_t size = sizeof(buffer);

	if (getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, &size))
		fail("read", "SO_RCVBUF");
	arrivals.answer.buffer = (uint32_t)buffer;
	arrivals.answer.overflow = arrivals.overflow_now - arrivals.overflow_before;
	arrivals.answer.span_us = (uint32_t)((arrivals.last_ns - arrivals.first_ns) / 1000);
	if (sendto(fd, &arrivals.answer, sizeof(arrivals.answer), 0, (const struct sockaddr *)to, len) < 0)
		return;		/* it will be asked again */
}

static void take_overflow(struct msghdr *message)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_RXQ_OVFL)
			memcpy(&arrivals.overflow_now, CMSG_DATA(c), sizeof(arrivals.overflow_now));
}

static void take(int fd, struct mmsghdr *message, const uint8_t *payload, uint64_t now_ns)
{
	struct header header;

	take_overflow(&message->msg_hdr);
	if (message->msg_len < sizeof(header))
		return;
	memcpy(&header, payload, sizeof(header));
	if (header.magic != MAGIC || header.number >= NUMBERS || !belongs(header.trial))
		return;
	if (header.trial != arrivals.answer.header.trial)
		begin_trial(header.trial);
	if (header.kind == DATA)
		arrived(header.number, message->msg_len, now_ns);
	else if (header.kind == QUESTION)
		answer(fd, message->msg_hdr.msg_name, message->msg_hdr.msg_namelen);
}

static int listen_on(const char *port)
{
	int fd = bound_to(SOCK_DGRAM, port), on = 1, size = BUFFER_BYTES;

	if (setsockopt(fd, SOL_SOCKET, SO_RXQ_OVFL, &on, sizeof(on)))
		fail("set", "SO_RXQ_OVFL");
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) &&
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)))
		fail("set", "SO_RCVBUF");
	return fd;
}

_Noreturn static void receive(const char *port)
{
	static uint8_t payload[BATCH][PAYLOAD_MAX], control[BATCH][64];
	static struct sockaddr_storage from[BATCH];
	struct mmsghdr message[BATCH];
	struct iovec part[BATCH];
	int fd = listen_on(port);

	begin_trial(micros());		/* all that are to come are later */
	listening();
	for (;;) {
		uint64_t now_ns;
		int n;

		for (unsigned i = 0; i < BATCH; i++) {
			part[i] = (struct iovec){ payload[i], PAYLOAD_MAX };
			message[i].msg_hdr = (struct msghdr){
				.msg_name = &from[i],
				.msg_namelen = sizeof(from[i]),
				.msg_iov = &part[i],
				.msg_iovlen = 1,
				.msg_control = control[i],
				.msg_controllen = sizeof(control[i]),
			};
		}
		n = recvmmsg(fd, message, BATCH, MSG_WAITFORONE, NULL);
		if (n < 0 && errno != EINTR)
			fail("receive at port", port);
		now_ns = clock_ns();
		for (int i = 0; i < n; i++)
			take(fd, &message[i], payload[i], now_ns);
	}
}

/* -- sender ------------------------------------------------------------------------------------------------------- */

/** struct trial - What one call of the sender does
 * @fd:		Its socket
 * @to:		The receiver
 * @to_len:	Length of @to
 * @number:	When it began
 * @train:	Datagrams of one send
 * @interval:	Nanoseconds from one datagram to the next
 * @lasts_ns:	How long
 * @sizes:	Of payloads, in turn
 * @count:	How many sizes
 */
struct trial {
	int fd;
	struct sockaddr_storage to;
	socklen_t to_len;
	uint32_t number;
	unsigned train;
	double interval;
	uint64_t lasts_ns;
	uint32_t sizes[SIZES_MAX];
	unsigned count;
};

static void read_sizes(struct trial *trial, char *text)
{
	for (char *word = strtok(text, ","); word && trial->count < SIZES_MAX; word = strtok(NULL, ",")) {
		uint32_t size = (uint32_t)atoi(word);

		errno = EINVAL;
		if (size < sizeof(struct header) || size > PAYLOAD_MAX)
			fail("send datagrams of", word);
		trial->sizes[trial->count++] = size;
	}
	errno = EINVAL;
	if (!trial->count)
		fail("send datagrams of", "no size");
}

static void connect_to(struct trial *trial, const char *address, const char *port)
{
	struct addrinfo *found = address_of(SOCK_DGRAM, address, port);
	struct timeval wait = { .tv_usec = ASK_MS * 1000 };

	memcpy(&trial->to, found->ai_addr, found->ai_addrlen);
	trial->to_len = found->ai_addrlen;
	trial->fd = socket(found->ai_family, SOCK_DGRAM, 0);
	freeaddrinfo(found);
	if (trial->fd < 0 || setsockopt(trial->fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)))
		fail("open a socket to", address);
}

/** use_trains() - Let each send carry @train datagrams */
static void use_trains(struct trial *trial, const char *train)
{
	unsigned count = (unsigned)atoi(train);
	int size = (int)trial->sizes[0];

	errno = EINVAL;
	if (trial->count > 1 || count > TRAIN_MAX || count * trial->sizes[0] > TRAIN_BYTES)
		fail("send trains of", train);
	trial->train = count;
	if (setsockopt(trial->fd, SOL_UDP, UDP_SEGMENT, &size, sizeof(size)))
		fail("set", "UDP_SEGMENT");
}

/** put() - Make the datagrams of a send from number @next on, end to end. Return: their bytes */
static size_t put(const struct trial *trial, uint8_t *at, uint32_t next)
{
	size_t bytes = 0;

	for (unsigned i = 0; i < trial->train; i++) {
		struct header header = { MAGIC, trial->number, DATA, next + i };

		memcpy(at + bytes, &header, sizeof(header));
		bytes += trial->sizes[(next + i) % trial->count];
	}
	return bytes;
}

/** send_some() - One datagram, or one train. Return: how many; what the kernel refuses counts in @refused too */
static unsigned send_some(const struct trial *trial, uint32_t next, uint32_t *refused)
{
	static uint8_t payload[TRAIN_BYTES];
	size_t bytes = put(trial, payload, next);

	if (sendto(trial->fd, payload, bytes, 0, (const struct sockaddr *)&trial->to, trial->to_len) < 0)
		*refused += trial->train;
	return trial->train;
}

/** offer() - Send by the timetable. Return: how many, @refused of them by the kernel; @took_ns says how long */
static uint32_t offer(const struct trial *trial, uint32_t *refused, uint64_t *took_ns)
{
	uint64_t begun = clock_ns(), now = begun;
	double due = (double)begun;
	uint32_t sent = 0;

	*refused = 0;
	while (now - begun < trial->lasts_ns && sent < NUMBERS - TRAIN_MAX) {
		if (due < (double)(now - LATE_NS))
			due = (double)(now - LATE_NS);
		if (due <= (double)now) {
			unsigned some = send_some(trial, sent, refused);

			sent += some;
			due += some * trial->interval;
		} else {
			sleep_until(due > (double)(now + TICK_NS) ? (uint64_t)due : now + TICK_NS);
		}
		now = clock_ns();
	}
	*took_ns = now - begun;
	return sent;
}

/** ask() - What has come of the trial. Return: false if nobody answers */
static bool ask(const struct trial *trial, struct answer *said)
{
	struct header question = { MAGIC, trial->number, QUESTION, 0 };
	int none = 0;

	if (trial->train > 1 && setsockopt(trial->fd, SOL_UDP, UDP_SEGMENT, &none, sizeof(none)))
		fail("reset", "UDP_SEGMENT");
	for (unsigned i = 0; i < ASK_TIMES; i++) {
		if (sendto(trial->fd, &question, sizeof(question), 0, (const struct sockaddr *)&trial->to,
			   trial->to_len) < 0)
			continue;
		if (recv(trial->fd, said, sizeof(*said), 0) == sizeof(*said) && said->header.magic == MAGIC &&
		    said->header.trial == trial->number)
			return true;
	}
	return false;
}

static int send_trial(struct trial *trial)
{
	uint32_t sent, refused;
	struct answer said;
	uint64_t took_ns;

	trial->number = micros();
	prctl(PR_SET_TIMERSLACK, 1000);
	sent = offer(trial, &refused, &took_ns);
	sleep_until(clock_ns() + SETTLE_MS * 1000000u);
	if (!ask(trial, &said)) {
		fprintf(stderr, "udp_load: no answer from the receiver\n");
		return 1;
	}
	printf("{\"sent\": %u, \"refused\": %u, \"seconds\": %.6f, \"train\": %u, \"received\": %u, "
	       "\"duplicates\": %u, \"reordered\": %u, \"overflow\": %u, \"buffer\": %u, \"span\": %.6f, "
	       "\"bytes\": %llu}\n", sent, refused, (double)took_ns / 1e9, trial->train,
	       said.received, said.duplicates, said.reordered, said.overflow, said.buffer, said.span_us / 1e6,
	       (unsigned long long)said.bytes);
	return 0;
}

int main(int argc, char **argv)
{
	struct trial trial = { .fd = -1, .train = 1 };

	if (argc == 3 && strcmp(argv[1], "receive") == 0)
		receive(argv[2]);
	if (argc != 8 || strcmp(argv[1], "send") != 0 || atof(argv[5]) <= 0) {
		fprintf(stderr, "usage: udp_load receive PORT | send ADDRESS PORT TRAIN RATE MS SIZES\n");
		return 2;
	}
	connect_to(&trial, argv[2], argv[3]);
	trial.interval = 1e9 / atof(argv[5]);
	trial.lasts_ns = (uint64_t)atoi(argv[6]) * 1000000u;
	read_sizes(&trial, argv[7]);
	if (atoi(argv[4]) > 1)
		use_trains(&trial, argv[4]);
	return send_trial(&trial);
}
