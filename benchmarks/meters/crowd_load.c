/* crowd_load.c - many senders at once, each in a network namespace of its own, counted at their receivers
 *
 *	crowd_load WARMUP SECONDS <FLOWS
 *
 * How it works
 *   A line of FLOWS is `KIND FROM TO ADDRESS RATE`: `tcp` or `udp` from a namespace to an address of another, or
 *   `broadcast`, for which TO is a word that nobody reads; RATE in datagrams per second, 0 for as many as go. All
 *   sockets are opened first, each in its namespace, by the first process; then each end of a flow gets a process, and
 *   all begin together. After WARMUP seconds the receivers' counters, which all share, are read, after SECONDS more
 *   again: every flow is measured over the same time, and none ends before another. Prints
 *   {"seconds": S, "octets": [N, ...]}: payload by flow, for a broadcast what was sent.
 *
 *   Each end is a session of its own, hence a group of its own to the scheduler (CONFIG_SCHED_AUTOGROUP), as the
 *   control groups of containers are: within one group all senders together would weigh as much as one.
 *
 *   It is run with the names of `ip netns` in sight. What fails ends it with a line on stderr.
 */
#define _GNU_SOURCE
#define PROGRAM		"crowd_load"
#include "load.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define FLOWS_MAX	1024
#define PORT		5300		/* of the first flow */
#define STREAM_BYTES	(128 * 1024)	/* of one call, as iperf3 has it */
#define DATAGRAM_BYTES	1400
#define BROADCAST_BYTES	64
#define TICK_NS		1000000		/* a sender with a rate sends what is due this often */

enum kind { TCP, UDP, BROADCAST };
static const char *const kinds[] = { "tcp", "udp", "broadcast" };

struct flow {
	enum kind kind;
	int sender;
	int receiver;
	double rate;
	_Atomic uint64_t octets;
};

/** struct shared - What all processes see */
static struct shared {
	pthread_barrier_t begin;
	struct flow flows[FLOWS_MAX];
} *shared;

/** enter() - Open what comes next in a network namespace */
static void enter(const char *name)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "/run/netns/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET))
		fail("namespace", name);
	close(fd);
}

static int open_socket(enum kind kind)
{
	int fd = socket(AF_INET, (kind == TCP ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0), on = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &on, sizeof(on)) ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)))
		fail("socket", kinds[kind]);
	return fd;
}

/** open_flow() - Both sockets of a flow, connected */
static void open_flow(struct flow *flow, const char *from, const char *to, const char *address, uint16_t port)
{
	struct sockaddr_in there = { .sin_family = AF_INET, .sin_port = htons(port) };
	int listener = -1;

	if (inet_pton(AF_INET, address, &there.sin_addr) != 1)
		fail("address", address);
	if (flow->kind != BROADCAST) {
		enter(to);
		listener = open_socket(flow->kind);
		if (bind(listener, (struct sockaddr *)&there, sizeof(there)))
			fail("bind", address);
		if (flow->kind == TCP && listen(listener, 1))
			fail("listen", address);
	}
	enter(from);
	flow->sender = open_socket(flow->kind);
	if (connect(flow->sender, (struct sockaddr *)&there, sizeof(there)))
		fail("connect", address);
	flow->receiver = flow->kind == TCP ? accept(listener, NULL, NULL) : listener;
	if (flow->kind != BROADCAST && flow->receiver < 0)
		fail("accept", address);
}

static enum kind kind_of(const char *word)
{
	for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(word, kinds[i]) == 0)
			return (enum kind)i;
	errno = EINVAL;
	fail("send a flow of", word);
}

/** read_flows() - Open what standard input asks for. Return: how many; all of them, for they are told by their place */
static unsigned read_flows(void)
{
	char kind[16], from[128], to[128], address[64];
	unsigned n = 0;
	double rate;
	int read;

	while ((read = scanf("%15s %127s %127s %63s %lf", kind, from, to, address, &rate)) == 5 && n < FLOWS_MAX) {
		struct flow *flow = &shared->flows[n];

		flow->kind = kind_of(kind);
		flow->rate = rate;
		open_flow(flow, from, to, address, (uint16_t)(PORT + n));
		n++;
	}
	errno = read == 5 ? E2BIG : EINVAL;
	if (!n || read != EOF)
		fail("read", "standard input");
	return n;
}

/** wait_for_turn() - Of a sender with a rate: until the datagram after @sent is due */
static void wait_for_turn(const struct flow *flow, uint64_t begun, uint64_t sent)
{
	uint64_t due = begun + (uint64_t)((double)sent * (double)SECOND_NS / flow->rate), now = clock_ns();

	if (due > now)
		sleep_until(due > now + TICK_NS ? due : now + TICK_NS);
}

_Noreturn static void send_all(struct flow *flow)
{
	static const char data[STREAM_BYTES];
	size_t size = flow->kind == TCP ? STREAM_BYTES : flow->kind == UDP ? DATAGRAM_BYTES : BROADCAST_BYTES;
	uint64_t begun, sent = 0;

	pthread_barrier_wait(&shared->begin);
	begun = clock_ns();
	for (;;) {
		ssize_t put = send(flow->sender, data, size, 0);

		if (put < 0 && errno != ENOBUFS && errno != EINTR)
			fail("send", kinds[flow->kind]);
		if (put > 0 && flow->kind == BROADCAST)
			atomic_fetch_add_explicit(&flow->octets, (uint64_t)put, memory_order_relaxed);
		sent++;
		if (flow->rate > 0)
			wait_for_turn(flow, begun, sent);
	}
}

_Noreturn static void receive_all(struct flow *flow)
{
	static char data[STREAM_BYTES];

	pthread_barrier_wait(&shared->begin);
	for (;;) {
		ssize_t got = recv(flow->receiver, data, STREAM_BYTES, 0);

		if (got <= 0 && errno != EINTR)
			fail("receive", kinds[flow->kind]);
		if (got > 0)
			atomic_fetch_add_explicit(&flow->octets, (uint64_t)got, memory_order_relaxed);
	}
}

static void start(void (*run)(struct flow *), struct flow *flow)
{
	pid_t child = fork();

	if (child < 0)
		fail("process", kinds[flow->kind]);
	if (child)
		return;
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || setsid() < 0)
		fail("session", kinds[flow->kind]);
	run(flow);
}

/** ended() - One of them has said why it could not go on: so can nobody, for all end with the first process */
static void ended(int number)
{
	(void)number;
	_exit(1);
}

/** start_all() - All processes, which begin together */
static void start_all(unsigned n)
{
	pthread_barrierattr_t between_processes;
	unsigned processes = 1;

	for (unsigned i = 0; i < n; i++)
		processes += shared->flows[i].kind == BROADCAST ? 1 : 2;
	pthread_barrierattr_init(&between_processes);
	pthread_barrierattr_setpshared(&between_processes, PTHREAD_PROCESS_SHARED);
	pthread_barrier_init(&shared->begin, &between_processes, processes);
	signal(SIGCHLD, ended);
	for (unsigned i = 0; i < n; i++) {
		start(send_all, &shared->flows[i]);
		if (shared->flows[i].kind != BROADCAST)
			start(receive_all, &shared->flows[i]);
	}
	pthread_barrier_wait(&shared->begin);
}

int main(int argc, char **argv)
{
	static uint64_t before[FLOWS_MAX];
	uint64_t begun, from, until;
	unsigned n;

	if (argc != 3) {
		fprintf(stderr, "usage: crowd_load WARMUP SECONDS <FLOWS\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		fail("memory", "of the flows");
	n = read_flows();
	start_all(n);
	begun = clock_ns();
	sleep_until(begun + (uint64_t)(atof(argv[1]) * (double)SECOND_NS));
	from = clock_ns();
	for (unsigned i = 0; i < n; i++)
		before[i] = atomic_load(&shared->flows[i].octets);
	sleep_until(from + (uint64_t)(atof(argv[2]) * (double)SECOND_NS));
	until = clock_ns();
	printf("{\"seconds\": %.6f, \"octets\": [", (double)(until - from) / (double)SECOND_NS);
	for (unsigned i = 0; i < n; i++)
		printf("%s%" PRIu64, i ? ", " : "", atomic_load(&shared->flows[i].octets) - before[i]);
	printf("]}\n");
	return 0;
}
