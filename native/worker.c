/* worker.c - one thread of the fast path: read, decide, deliver, flush
 *
 * How it works
 *   Worker i owns queue i of every TAP, a receive socket, its transmit sockets, its buffers and counters; nothing
 *   crosses threads, so a flow stays in order. It waits in epoll, level-triggered. For each ready source it takes
 *   a turn: up to VX_BATCH frames at a time, until the source is empty or the turn's bytes or time are spent; the
 *   kernel puts a source that is still ready at the end of its list, which makes the turns go round.
 *
 *   A turn reads like the life of a packet:   tap -> switch -> deliver -> flush,   sock -> switch -> deliver -> flush,
 *   where the second flush is the coalescer's, once per receive batch of several vectors.
 *
 *   When the underlay takes no more (transmitter.blocked), messages refer to the TAP buffers, so no TAP is read
 *   until it does; meanwhile the worker polls only the tunnel, the wake-up and the blocked sockets. Receiving
 *   goes on: two hosts that wait for each other's transmit queues would wait for ever. A TAP that is gone is looked
 *   for now and then: epoll would tell at once, but also of every frame that is not to be read.
 *
 *   Behind little, a request or an answer, it looks on for a while before it sleeps (spin.c), and yields meanwhile.
 *
 *   Between its qsbr marks a worker may hold pointers into the tables; it holds none while it waits.
 */
#define _GNU_SOURCE
#include "worker.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "tap.h"

#define BUFFER_LEN	((size_t)(VX_HEADROOM + VX_FRAME_MAX))
#define SPARE_LEN	((size_t)(VX_HEADROOM + VX_SPARE_LEN))
#define PIECES_LEN	(VX_PIECES_LEN + BUFFER_LEN)
#define MAP_LEN		((VX_BATCH + VX_FLOOD_JOBS) * BUFFER_LEN + VX_BATCH * SPARE_LEN + PIECES_LEN)
#define EVENTS		64

static uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static struct vx_when when(struct vx_worker *worker)
{
	worker->now_ns = clock_ns();
	return (struct vx_when){ .now_ns = worker->now_ns };
}

/** tell_of_vtep() - What sending found out about a VTEP */
static void tell_of_vtep(void *context, unsigned kind, uint32_t vtep, uint32_t value)
{
	struct vx_worker *worker = context;
	vx_event event = {
		.time_ns = worker->now_ns,
		.kind = (uint16_t)kind,
		.worker = (uint16_t)worker->index,
		.network = VX_NONE,
		.port = VX_NONE,
		.vtep = vtep,
		.value = value,
	};

	vx_ring_push(worker->ring, &event);
}

/** weight() - What a frame takes of a turn: its bytes, but tiny segments (not checked yet) count more */
static uint32_t weight(const struct vx_frame *frame)
{
	uint32_t size = frame->vnet.gso_type == VX_GSO_NONE ? 0 : frame->vnet.gso_size;
	uint32_t segments = size ? (frame->len + size - 1) / size : 0;

	return segments * VX_SEGMENT_WEIGHT > frame->len ? segments * VX_SEGMENT_WEIGHT : frame->len;
}

/** take_from_tap() - Read what a turn may. Return: how many frames; @error says why reading ended early */
static unsigned take_from_tap(struct vx_worker *worker, int fd, uint32_t port, uint32_t *bytes, int *error)
{
	bool vnet_hdr = vx_may(&worker->tables->offloads, VX_OFFLOAD_VNET_HDR);
	uint32_t enough = *bytes + VX_VECTOR_BYTES;
	unsigned n = 0;

	*error = 0;
	while (n < VX_BATCH && *bytes < enough) {
		struct vx_frame *frame = &worker->frames[n];
		int got = vx_tap_read(fd, worker->tap_buffers + n * BUFFER_LEN, frame, vnet_hdr);

		if (got < 0) {
			*error = -got;
			break;
		}
		frame->from = VX_AT_PORT;
		frame->from_id = port;
		frame->packet = 0;
		*bytes += weight(frame);
		n++;
	}
	return n;
}

/** decide() - Let the switch decide about a vector, and whoever looks on see it before */
static void decide(struct vx_worker *worker, unsigned n)
{
	struct vx_when now = when(worker);

	if (vx_watched(&worker->watch))
		vx_capture_arrived(&worker->watch, worker->frames, n);
	vx_switch(worker->tables, worker->frames, n, now);
}

/** turn_of_port() - One turn of one endpoint */
static void turn_of_port(struct vx_worker *worker, struct vx_port *port)
{
	int fd = vx_port_reader(port, worker->index), error;
	uint64_t begun = worker->now_ns;
	uint32_t bytes = 0;
	unsigned n;

	do {
		if (worker->transmitter.blocked || worker->jobs_active == VX_FLOOD_JOBS)
			return;
		n = take_from_tap(worker, fd, port->id, &bytes, &error);
		if (n) {
			decide(worker, n);
			vx_deliver(worker, worker->frames, n);
			vx_transmitter_flush(&worker->transmitter, true);
		}
		if (error && vx_tap_is_gone(error)) {
			vx_local_gone(worker, port, error);
			epoll_ctl(worker->epoll, EPOLL_CTL_DEL, fd, NULL);
		}
	} while (!error && bytes < VX_TURN_BYTES && clock_ns() - begun < VX_TURN_NS);
	worker->served += bytes;
	worker->awaits = VX_AWAIT_TUNNEL;
}

/** follow() - Let frames that are like one just delivered go where it went, undecided. Return: their bytes */
static uint32_t follow(struct vx_worker *worker, const struct vx_frame *frame)
{
	uint8_t *next;
	unsigned n = vx_receiver_followers(&worker->receiver, &next);

	if (!n)
		return 0;
	n = vx_watched(&worker->watch) ? 0 : vx_deliver_followers(worker, frame, next, n);
	vx_receiver_skip(&worker->receiver, n);
	return n * (VX_VXLAN_LEN + frame->len);
}

/** take_from_tunnel() - Decide about a receive batch and deliver it. Return: its bytes */
static uint32_t take_from_tunnel(struct vx_worker *worker)
{
	uint32_t bytes = 0;
	unsigned n;

	while ((n = vx_receiver_next(&worker->receiver, worker->frames)) > 0) {
		for (unsigned i = 0; i < n; i++)
			bytes += worker->frames[i].len;
		decide(worker, n);
		vx_deliver(worker, worker->frames, n);
		bytes += follow(worker, &worker->frames[n - 1]);
		vx_transmitter_flush(&worker->transmitter, false);
	}
	vx_gro_flush(worker->gro);
	return bytes;
}

/** turn_of_tunnel() - One turn of the receive socket */
static void turn_of_tunnel(struct vx_worker *worker)
{
	static const struct vx_owner nobody = { 0, VX_NONE, VX_NONE };
	uint64_t begun = worker->now_ns;
	uint32_t bytes = 0, overflow;

	do {
		if (vx_receiver_read(&worker->receiver, &overflow) <= 0)
			break;
		if (overflow)
			vx_stats_drops(&worker->stats, nobody, VX_RX_OVERFLOW, overflow);
		bytes += take_from_tunnel(worker);
	} while (worker->receiver.more && bytes < VX_TURN_BYTES && clock_ns() - begun < VX_TURN_NS);
	worker->served += bytes;
	worker->awaits = VX_AWAIT_TAP;
}

static void drain_wake(struct vx_worker *worker)
{
	uint64_t count;

	if (read(worker->wake, &count, sizeof(count)) < 0)
		return;		/* EAGAIN: another wake-up took it; stopping says the rest */
}

/** ready_port() - A TAP has frames, or is gone */
static void ready_port(struct vx_worker *worker, uint64_t value, uint32_t events)
{
	struct vx_port *port = vx_net_port(worker->tables, vx_value_id(value));

	if (!port || port->generation != vx_value_generation(value))
		return;
	if (events & EPOLLIN)
		turn_of_port(worker, port);
	if (events & (EPOLLERR | EPOLLHUP)) {
		vx_local_gone(worker, port, EBADFD);
		epoll_ctl(worker->epoll, EPOLL_CTL_DEL, vx_port_reader(port, worker->index), NULL);
	}
}

/** rest() - Nothing happened for VX_IDLE_MS: an idle agent holds no memory for the bursts of before */
static void rest(struct vx_worker *worker)
{
	if (worker->rested)
		return;
	vx_receiver_rest(&worker->receiver);
	madvise(worker->gro, vx_gro_size(), MADV_DONTNEED);
	vx_gro_init(worker->gro, vx_local_train, worker);
	if (!worker->jobs_active)
		madvise(worker->tap_buffers, MAP_LEN, MADV_DONTNEED);
	worker->rested = true;
}

/** serve() - Give each ready source its turn; of a TAP that is @only_gone, see only that */
static void serve(struct vx_worker *worker, const struct epoll_event *events, int n, bool only_gone)
{
	for (int i = 0; i < n; i++) {
		unsigned kind = vx_value_kind(events[i].data.u64);
		uint32_t ready = events[i].events & (only_gone ? EPOLLERR | EPOLLHUP : UINT32_MAX);

		if (kind == VX_READY_PORT)
			ready_port(worker, events[i].data.u64, ready);
		else if (kind == VX_READY_TUNNEL)
			turn_of_tunnel(worker);
		else
			drain_wake(worker);
	}
}

/** look_on() - See for a while whether anything comes, as long as nobody else wants the CPU. Return: how many events */
static int look_on(struct vx_worker *worker, struct epoll_event *events, uint64_t begun)
{
	uint64_t now;
	int n;

	do {
		n = epoll_wait(worker->epoll, events, EVENTS, 0);
		if (!n)
			sched_yield();
		now = clock_ns();
	} while (!n && now - begun < VX_SPIN_NS);
	vx_spin_looked(&worker->spin, now - begun);
	return n;
}

/** wait_behind_little() - Wait for what follows a request or an answer. Return: how many events */
static int wait_behind_little(struct vx_worker *worker, struct epoll_event *events)
{
	uint64_t begun = clock_ns();
	int n = 0;

	if (vx_spin_may(&worker->spin, worker->awaits))
		n = look_on(worker, events, begun);
	if (!n)
		n = epoll_wait(worker->epoll, events, EVENTS, VX_IDLE_MS);
	vx_spin_waited(&worker->spin, worker->awaits, clock_ns() - begun);
	return n;
}

/** wait_and_serve() - Wait for anything, and give each ready source its turn */
static void wait_and_serve(struct vx_worker *worker)
{
	struct epoll_event events[EVENTS];
	int n;

	vx_qsbr_offline(&worker->tables->qsbr, worker->index);
	if (worker->spins && !worker->jobs_active && vx_spin_little(worker->served))
		n = wait_behind_little(worker, events);
	else
		n = epoll_wait(worker->epoll, events, EVENTS, worker->jobs_active ? 0 : VX_IDLE_MS);
	worker->served = 0;
	vx_qsbr_online(&worker->tables->qsbr, worker->index);
	worker->now_ns = clock_ns();

	if (n > 0)
		worker->rested = false;
	else if (!worker->jobs_active)
		rest(worker);
	serve(worker, events, n, false);
}

/** look_for_gone() - While TAPs are not read: see now and then whether any of them is gone */
static void look_for_gone(struct vx_worker *worker)
{
	struct epoll_event events[EVENTS];

	if (worker->now_ns - worker->looked_ns < VX_GONE_MS * 1000000ull)
		return;
	worker->looked_ns = worker->now_ns;
	serve(worker, events, epoll_wait(worker->epoll, events, EVENTS, 0), true);
}

/** watch_underlay() - Give sockets up that have taken nothing for too long: others wait behind them */
static void watch_underlay(struct vx_worker *worker)
{
	struct vx_transmitter *transmitter = &worker->transmitter;

	if (!transmitter->blocked) {
		worker->stalled_ns = 0;
	} else if (!worker->stalled_ns || transmitter->taken != worker->taken) {
		worker->stalled_ns = worker->now_ns;
		worker->taken = transmitter->taken;
	} else if (worker->now_ns - worker->stalled_ns >= VX_STUCK_MS * 1000000ull) {
		vx_transmitter_give_up(transmitter);
		worker->stalled_ns = 0;
	}
}

/** wait_for_underlay() - The transmitter is blocked: serve the tunnel until it is not */
static void wait_for_underlay(struct vx_worker *worker)
{
	struct pollfd polled[2 + VX_TX_SOCKETS_MAX] = {
		{ .fd = worker->receiver.fd, .events = POLLIN },
		{ .fd = worker->wake, .events = POLLIN },
	};
	nfds_t n = 2;

	for (uint64_t left = worker->transmitter.blocked; left; left &= left - 1) {
		polled[n].fd = worker->transmitter.sockets[__builtin_ctzll(left)].fd;
		polled[n++].events = POLLOUT;
	}
	vx_qsbr_offline(&worker->tables->qsbr, worker->index);
	poll(polled, n, VX_GONE_MS);
	vx_qsbr_online(&worker->tables->qsbr, worker->index);
	worker->now_ns = clock_ns();

	if (polled[0].revents)
		turn_of_tunnel(worker);
	if (polled[1].revents)
		drain_wake(worker);
	look_for_gone(worker);
	vx_transmitter_flush(&worker->transmitter, true);
	watch_underlay(worker);
}

/** name_thread() - For top -H, perf and gdb */
static void name_thread(unsigned index)
{
	char name[] = "vx-worker-xx";

	name[10] = (char)('0' + index / 10);
	name[11] = (char)('0' + index % 10);
	pthread_setname_np(pthread_self(), name);
}

/** stay() - Run on one CPU; on any, if that one has been taken from the process meanwhile */
static void stay(unsigned on_cpu)
{
	cpu_set_t only;

	CPU_ZERO(&only);
	if (!on_cpu)
		return;
	CPU_SET(on_cpu - 1, &only);
	if (sched_setaffinity(0, sizeof(only), &only))
		return;
}

static void *run(void *argument)
{
	struct vx_worker *worker = argument;

	name_thread(worker->index);
	stay(worker->on_cpu);
	while (!atomic_load_explicit(&worker->stopping, memory_order_acquire)) {
		if (worker->transmitter.blocked)
			wait_for_underlay(worker);
		else
			wait_and_serve(worker);
		vx_deliver_jobs(worker);
		vx_ring_kick(worker->ring);
		atomic_fetch_add_explicit(&worker->heartbeat, 1, memory_order_relaxed);
	}
	vx_qsbr_offline(&worker->tables->qsbr, worker->index);
	return NULL;
}

static int watch(struct vx_worker *worker, int fd, uint64_t value)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = value };

	return epoll_ctl(worker->epoll, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

static void *map_zeroed(size_t len)
{
	void *map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return map == MAP_FAILED ? NULL : map;
}

static int map_buffers(struct vx_worker *worker)
{
	worker->tap_buffers = map_zeroed(MAP_LEN);
	worker->gro = map_zeroed(vx_gro_size());
	if (!worker->tap_buffers || !worker->gro)
		return -ENOMEM;
	vx_gro_init(worker->gro, vx_local_train, worker);
	worker->job_buffers = worker->tap_buffers + VX_BATCH * BUFFER_LEN;
	worker->spares = worker->job_buffers + VX_FLOOD_JOBS * BUFFER_LEN;
	worker->pieces = worker->spares + VX_BATCH * SPARE_LEN;
	for (unsigned i = 0; i < VX_BATCH; i++)
		worker->frames[i].spare = worker->spares + i * SPARE_LEN + VX_HEADROOM;
	for (unsigned i = 0; i < VX_FLOOD_JOBS; i++)
		worker->jobs[i].buffer = worker->job_buffers + i * BUFFER_LEN;
	return 0;
}

/** open_receiver() - The receive socket: a new one, or what an earlier run left. Return: 0 or -errno */
static int open_receiver(struct vx_worker *worker, const vx_config *config, bool shared)
{
	bool trains = vx_may(&worker->tables->offloads, VX_OFFLOAD_UDP_GRO);
	int fd = config->given
		? vx_sock_take(config->receive_fds[worker->index], config->address, config->data_port, shared, trains)
		: vx_sock_open(config->address, config->data_port, shared);

	worker->receiver.same_kernel = worker->tables->same_kernel;
	return fd < 0 ? fd : vx_receiver_open(&worker->receiver, fd, config, &worker->tables->offloads);
}

/**
 * vx_worker_open() - Open everything a worker needs
 * @worker:	Zeroed but for index, tables and ring
 * @config:	Addresses and sizes
 * @shared:	Whether the data port is shared with other workers
 *
 * Return: 0 or -errno; vx_worker_close() is due either way
 */
int vx_worker_open(struct vx_worker *worker, const vx_config *config, bool shared)
{
	int error;

	worker->receiver.fd = worker->epoll = worker->wake = -1;
	error = vx_stats_init(&worker->stats);
	if (!error)
		error = map_buffers(worker);
	if (!error)
		error = open_receiver(worker, config, shared);
	if (!error)
		error = vx_transmitter_open(&worker->transmitter, config, &worker->tables->offloads);
	if (error)
		return error;
	worker->spins = config->flags & VX_ENGINE_SPIN;
	worker->transmitter.tables = worker->tables;
	worker->transmitter.stats = &worker->stats;
	worker->transmitter.tell = tell_of_vtep;
	worker->transmitter.context = worker;
	worker->transmitter.watch = &worker->watch;
	worker->watch.tables = worker->tables;
	worker->watch.now_ns = &worker->now_ns;
	worker->watch.index = worker->index;
	worker->watch.data_port = config->data_port;
	memcpy(worker->watch.address, config->address, VX_ADDR_LEN);
	worker->epoll = epoll_create1(EPOLL_CLOEXEC);
	worker->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (worker->epoll < 0 || worker->wake < 0)
		return -errno;
	error = watch(worker, worker->receiver.fd, vx_value(VX_READY_TUNNEL, 0, 0));
	return error ? error : watch(worker, worker->wake, vx_value(VX_READY_WAKE, 0, 0));
}

void vx_worker_close(struct vx_worker *worker)
{
	vx_transmitter_close(&worker->transmitter);
	vx_receiver_close(&worker->receiver);
	if (worker->gro)
		munmap(worker->gro, vx_gro_size());
	if (worker->epoll >= 0)
		close(worker->epoll);
	if (worker->wake >= 0)
		close(worker->wake);
	if (worker->tap_buffers)
		munmap(worker->tap_buffers, MAP_LEN);
	vx_stats_destroy(&worker->stats);
}

/** vx_worker_start() - Start the thread, with all signals blocked: they are Python's. Return: 0 or -errno */
int vx_worker_start(struct vx_worker *worker)
{
	sigset_t all, before;
	int error;

	atomic_store(&worker->stopping, false);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&worker->thread, NULL, run, worker);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	worker->running = !error;
	return -error;
}

/** vx_worker_stop() - Stop the thread after its turn; what it still holds counts as shutdown */
void vx_worker_stop(struct vx_worker *worker)
{
	uint64_t one = 1;

	if (!worker->running)
		return;
	atomic_store_explicit(&worker->stopping, true, memory_order_release);
	while (write(worker->wake, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	pthread_join(worker->thread, NULL);
	worker->running = false;
	vx_worker_abandon(worker);
}

/** vx_worker_abandon() - Count as shutdown what a worker that does not run still holds */
void vx_worker_abandon(struct vx_worker *worker)
{
	vx_transmitter_abandon(&worker->transmitter);
	vx_deliver_abandon(worker);
}

/** vx_worker_add_port() - Watch this worker's queue of a port, if it has one. Return: 0 or -errno */
int vx_worker_add_port(struct vx_worker *worker, const struct vx_port *port)
{
	int fd = vx_port_reader(port, worker->index);

	return fd < 0 ? 0 : watch(worker, fd, vx_value(VX_READY_PORT, port->id, port->generation));
}

void vx_worker_del_port(struct vx_worker *worker, const struct vx_port *port)
{
	int fd = vx_port_reader(port, worker->index);

	if (fd >= 0)
		epoll_ctl(worker->epoll, EPOLL_CTL_DEL, fd, NULL);
}
