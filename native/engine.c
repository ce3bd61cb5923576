/* engine.c - one data plane: its workers, its reaper, its events and counters
 *
 * How it works
 *   vx_engine_new() opens and binds everything, so whatever is wrong with addresses and ports shows there, and
 *   nothing runs before vx_engine_start(). The reaper is a thread that frees what no worker can see any more,
 *   first of all the descriptors of TAPs: close() of one waits milliseconds for the kernel, too long for a worker
 *   and for Python's loop. Its events tell Python when a namespace is let go of.
 *
 *   Everything here runs on the writer's thread unless it says otherwise.
 */
#define _GNU_SOURCE
#include "engine.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#include "sock.h"
#include "steer.h"

#define REAP_PAUSE_NS	1000000	/* between two looks at the workers' marks */
#define DEFAULT_WORKERS	4

static_assert(sizeof(((vx_config *)0)->receive_fds) == VX_WORKERS_MAX * sizeof(int32_t), "a socket per worker");

static struct vx_ring *reaper_ring(struct vx_engine *engine)
{
	return &engine->rings[engine->workers];
}

/** id_taken() - Start the counters of an id anew, before anybody counts under it */
static void id_taken(void *context, unsigned kind, uint32_t id)
{
	struct vx_engine *engine = context;

	for (unsigned i = 0; i < engine->workers; i++)
		vx_stats_clear(&engine->worker[i].stats, kind, id);
}

/** port_watch() - Let the workers wait for a port's frames. Until it is published they pass it over */
static int port_watch(void *context, const struct vx_port *port)
{
	struct vx_engine *engine = context;

	for (unsigned i = 0; i < engine->workers; i++) {
		int error = vx_worker_add_port(&engine->worker[i], port);

		if (error) {
			while (i--)
				vx_worker_del_port(&engine->worker[i], port);
			return error;
		}
	}
	return 0;
}

static void port_unwatch(void *context, const struct vx_port *port)
{
	struct vx_engine *engine = context;

	for (unsigned i = 0; i < engine->workers; i++)
		vx_worker_del_port(&engine->worker[i], port);
}

/** port_closed() - A port's descriptors are closed. The reaper's thread, or the writer's once that has ended */
static void port_closed(void *context, const struct vx_port *port)
{
	struct vx_engine *engine = context;
	struct timespec now;
	vx_event event = {
		.kind = VX_EVENT_PORT_CLOSED,
		.worker = (uint16_t)engine->workers,
		.network = port->network->id,
		.port = port->id,
		.vtep = VX_NONE,
		.generation = port->generation,
	};

	clock_gettime(CLOCK_MONOTONIC, &now);
	event.time_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	vx_ring_push(reaper_ring(engine), &event);
	vx_ring_kick(reaper_ring(engine));
}

static void *reap(void *argument)
{
	static const struct timespec pause = { 0, REAP_PAUSE_NS };
	struct vx_engine *engine = argument;
	struct vx_qsbr *qsbr = &engine->tables->qsbr;

	for (;;) {
		pthread_mutex_lock(&qsbr->lock);
		while (!qsbr->list && !atomic_load(&engine->stopping))
			pthread_cond_wait(&qsbr->more, &qsbr->lock);
		pthread_mutex_unlock(&qsbr->lock);
		if (atomic_load(&engine->stopping))
			return NULL;
		if (vx_qsbr_collect(qsbr))
			nanosleep(&pause, NULL);
	}
}

static int start_reaper(struct vx_engine *engine)
{
	sigset_t all, before;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&engine->reaper, NULL, reap, engine);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	engine->reaper_running = !error;
	return -error;
}

static void stop_reaper(struct vx_engine *engine)
{
	struct vx_qsbr *qsbr = &engine->tables->qsbr;

	if (!engine->reaper_running)
		return;
	pthread_mutex_lock(&qsbr->lock);
	atomic_store(&engine->stopping, true);
	pthread_cond_signal(&qsbr->more);
	pthread_mutex_unlock(&qsbr->lock);
	pthread_join(engine->reaper, NULL);
	engine->reaper_running = false;
}

/** default_workers() - One per CPU, on two as well: streams that share a host then have two to go to (steer.c) */
static unsigned default_workers(void)
{
	int cpus = get_nprocs();

	return cpus < DEFAULT_WORKERS ? (unsigned)cpus : DEFAULT_WORKERS;
}

/**
 * pin() - Give each worker a CPU of its own, if there are exactly as many for us
 *
 * Left alone, workers and the processes that they wake pile up on a CPU while another sleeps: where the hypervisor
 * tells which virtual CPUs run, the kernel takes one that is halted for one that is busy (available_idle_cpu()).
 * Hosts begin at CPUs of their own, so that a flow's workers on two hosts do not meet on one CPU where machines share
 * a processor. With more CPUs than workers some are siblings on one core, which the scheduler knows and we do not.
 */
static void pin(struct vx_engine *engine)
{
	unsigned cpus, wanted, cpu;
	cpu_set_t ours;

	CPU_ZERO(&ours);
	cpus = sched_getaffinity(0, sizeof(ours), &ours) ? 0 : (unsigned)CPU_COUNT(&ours);
	for (unsigned i = 0; i < engine->workers; i++) {
		engine->worker[i].on_cpu = 0;
		if (!(engine->config.flags & VX_ENGINE_PIN) || engine->workers != cpus)
			continue;
		wanted = (i + engine->config.address[VX_ADDR_LEN - 1]) % cpus;
		for (cpu = 0; !CPU_ISSET(cpu, &ours) || wanted; cpu++)
			wanted -= CPU_ISSET(cpu, &ours) != 0;
		engine->worker[i].on_cpu = cpu + 1;
	}
}

static void *zeroed_array(size_t count, size_t size)
{
	void *memory = aligned_alloc(64, (count * size + 63) / 64 * 64);

	if (memory)
		memset(memory, 0, count * size);
	return memory;
}

static int allocate(struct vx_engine *engine)
{
	engine->tables = zeroed_array(1, sizeof(*engine->tables));
	engine->worker = zeroed_array(engine->workers, sizeof(struct vx_worker));
	engine->rings = zeroed_array(engine->workers + 1, sizeof(struct vx_ring));
	engine->captures = calloc(1, sizeof(*engine->captures));
	engine->trace_buffer = malloc(VX_HEADROOM + VX_FRAME_MAX + VX_HEADROOM + VX_SPARE_LEN);
	if (!engine->tables || !engine->worker || !engine->rings || !engine->captures || !engine->trace_buffer ||
	    vx_tables_init(engine->tables)) {
		free(engine->tables);
		engine->tables = NULL;
		return -ENOMEM;
	}
	engine->captures->workers = engine->workers;
	engine->tables->id_taken = id_taken;
	engine->tables->port_watch = port_watch;
	engine->tables->port_unwatch = port_unwatch;
	engine->tables->port_closed = port_closed;
	engine->tables->context = engine;
	engine->tables->offloads = engine->config.offloads & VX_OFFLOAD_ALL;
	engine->tables->same_kernel = (engine->config.flags & VX_ENGINE_SAME_KERNEL) ||
				      vx_sock_is_virtual(engine->config.address);
	atomic_store(&engine->bell.asleep, true);
	for (unsigned i = 0; i <= engine->workers; i++)
		vx_ring_init(&engine->rings[i], &engine->bell);
	for (unsigned i = 0; i < engine->workers; i++) {
		engine->worker[i].index = engine->worker[i].transmitter.worker = i;
		engine->worker[i].transmitter.workers = engine->workers;
		engine->worker[i].tables = engine->tables;
		engine->worker[i].ring = &engine->rings[i];
		engine->worker[i].watch.captures = engine->captures;
		engine->captures->watch[i] = &engine->worker[i].watch;
		engine->worker[i].receiver.fd = engine->worker[i].epoll = engine->worker[i].wake = -1;
	}
	engine->bell.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return engine->bell.fd < 0 ? -errno : 0;
}

/** steer() - Let both directions of a flow meet in one worker, before the first datagram is kept */
static void steer(struct vx_engine *engine)
{
	_Atomic uint32_t *offloads = &engine->tables->offloads;
	int fd = engine->worker[0].receiver.fd;

	if (engine->workers == 1)
		return;
	if (!vx_may(offloads, VX_OFFLOAD_STEERING))
		vx_steer_release(fd);
	else if (vx_steer_sockets(fd, vx_addr_is4(engine->config.address), engine->workers))
		vx_refused(offloads, VX_OFFLOAD_STEERING);
}

static int open_workers(struct vx_engine *engine)
{
	bool given = engine->config.given;
	int error = given ? 0 : vx_sock_probe(engine->config.address, engine->config.data_port);

	for (unsigned i = 0; i < engine->workers && !error; i++)
		error = vx_worker_open(&engine->worker[i], &engine->config, engine->workers > 1);
	if (!error)
		steer(engine);
	/* Each further socket moves flows to itself: what came before the last one would be overtaken. Given ones are
	 * together already, and what waits in them was promised. */
	for (unsigned i = 0; i < engine->workers && engine->workers > 1 && !given && !error; i++)
		vx_receiver_discard(&engine->worker[i].receiver);
	return error;
}

/**
 * vx_engine_new() - Make a data plane
 * @config:	Address, port, sizes
 * @engine:	Set to it
 *
 * Return: 0; -EINVAL for sizes out of range; -ESTALE for given sockets that do not fit;
 *	   -EADDRINUSE, -EADDRNOTAVAIL, ... from the sockets; -ENOMEM, -EMFILE
 */
int vx_engine_new(const vx_config *config, vx_engine **engine)
{
	struct vx_engine *made;
	int error;

	if (!config->data_port || config->workers > VX_WORKERS_MAX || config->tx_sockets > VX_TX_SOCKETS_MAX)
		return -EINVAL;
	made = calloc(1, sizeof(*made));
	if (!made)
		return -ENOMEM;
	made->config = *config;
	made->workers = config->workers ? config->workers : default_workers();
	made->bell.fd = -1;
	error = config->given && config->given != made->workers ? -ESTALE : 0;
	if (!error)
		error = allocate(made);
	if (!error)
		error = open_workers(made);
	if (!error)
		error = start_reaper(made);
	if (error) {
		vx_engine_free(made);
		return error;
	}
	*engine = made;
	return 0;
}

/** vx_engine_start() - Start the workers. Return: 0 or -errno (none runs then) */
int vx_engine_start(vx_engine *engine)
{
	pin(engine);
	for (unsigned i = 0; i < engine->workers; i++) {
		int error = engine->worker[i].running ? -EALREADY : vx_worker_start(&engine->worker[i]);

		if (error) {
			while (error != -EALREADY && i--)
				vx_worker_stop(&engine->worker[i]);
			return error;
		}
	}
	return 0;
}

/** vx_engine_inject() - Let workers write super-frames to the uplink TAP (uplink.c). Return: 0, -EBUSY */
int vx_engine_inject(vx_engine *engine, int fd)
{
	if (engine->uplink || engine->worker[0].running)
		return -EBUSY;
	engine->uplink = fd;
	for (unsigned i = 0; i < engine->workers; i++) {
		struct vx_transmitter *transmitter = &engine->worker[i].transmitter;

		transmitter->uplink.fd = fd;
		for (unsigned k = 0; k < transmitter->count; k++)
			vx_sock_drop_flow_label(transmitter->sockets[k].fd, vx_addr_is4(transmitter->uplink.source));
	}
	return 0;
}

/** vx_engine_stop() - Stop the workers after their turns. Tables, ports and counters stay readable */
int vx_engine_stop(vx_engine *engine)
{
	for (unsigned i = 0; i < engine->workers; i++)
		vx_worker_stop(&engine->worker[i]);
	return 0;
}

/** vx_engine_free() - Stop and close everything. TAPs that are persistent stay, with no reader */
void vx_engine_free(vx_engine *engine)
{
	if (!engine)
		return;
	if (engine->tables) {
		vx_engine_stop(engine);
		vx_captures_free(engine->captures);
		engine->captures = NULL;
		stop_reaper(engine);
		vx_tables_destroy(engine->tables);
		for (unsigned i = 0; i < engine->workers; i++)
			vx_worker_close(&engine->worker[i]);
	}
	if (engine->uplink)
		close(engine->uplink);
	if (engine->bell.fd >= 0)
		close(engine->bell.fd);
	free(engine->captures);
	free(engine->trace_buffer);
	free(engine->rings);
	free(engine->worker);
	free(engine->tables);
	free(engine);
}

int vx_engine_workers(const vx_engine *engine)
{
	return (int)engine->workers;
}

/** vx_engine_offloads() - Rungs of the ladder in use, VX_OFFLOAD_*. Any thread */
int vx_engine_offloads(const vx_engine *engine)
{
	return (int)atomic_load_explicit(&engine->tables->offloads, memory_order_relaxed);
}

/** vx_engine_receive_bytes() - Usable size of a receive buffer; the kernel counts its own bookkeeping on top */
int vx_engine_receive_bytes(const vx_engine *engine)
{
	socklen_t len = sizeof(int);
	int size = 0;

	if (getsockopt(engine->worker[0].receiver.fd, SOL_SOCKET, SO_RCVBUF, &size, &len))
		return -errno;
	return size / 2;
}

/** vx_engine_receive_fd() - The receive socket of a worker; it stays the engine's */
int vx_engine_receive_fd(const vx_engine *engine, int worker)
{
	if (worker < 0 || (unsigned)worker >= engine->workers)
		return -ENOENT;
	return engine->worker[worker].receiver.fd;
}

/** vx_engine_heartbeat() - Turns of a worker so far; an idle one makes one a second. Any thread */
uint64_t vx_engine_heartbeat(const vx_engine *engine, int worker)
{
	if (worker < 0 || (unsigned)worker >= engine->workers)
		return 0;
	return atomic_load_explicit(&engine->worker[worker].heartbeat, memory_order_relaxed);
}

/** vx_engine_reclaim() - Sweep soft state, free captures. Return: how many objects the reaper has still to free */
int vx_engine_reclaim(vx_engine *engine)
{
	struct timespec now;
	uint64_t now_ms;

	clock_gettime(CLOCK_MONOTONIC, &now);
	now_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
	for (uint32_t id = 0; id < VX_NETWORKS_MAX; id++) {
		struct vx_network *network = vx_net_get(engine->tables, id);

		if (network)
			vx_soft_sweep(&network->soft, now_ms, vx_net_soft_count, engine->tables);
	}
	vx_captures_release(engine->captures);
	return (int)atomic_load(&engine->tables->qsbr.waiting);
}

/** vx_engine_event_fd() - Readable when there are events; vx_engine_events() makes it unreadable again */
int vx_engine_event_fd(const vx_engine *engine)
{
	return engine->bell.fd;
}

/** vx_engine_events() - Take events out. Return: how many; fewer than @max means that there are no more */
int vx_engine_events(vx_engine *engine, vx_event *events, int max)
{
	uint64_t rung;
	int count = 0;

	if (read(engine->bell.fd, &rung, sizeof(rung)) < 0 && errno != EAGAIN)
		return -errno;
	atomic_store(&engine->bell.asleep, true);
	for (unsigned i = 0; i <= engine->workers && count < max; i++)
		count += vx_ring_pop(&engine->rings[i], events + count, max - count);
	if (count == max) {
		rung = 1;
		if (atomic_exchange(&engine->bell.asleep, false) &&
		    write(engine->bell.fd, &rung, sizeof(rung)) < 0)
			return -errno;
	}
	return count;
}

static uint32_t kind_max(int kind)
{
	switch (kind) {
	case VX_AT_PORT:
		return VX_PORTS_MAX;
	case VX_AT_VTEP:
		return VX_VTEPS_MAX;
	case VX_AT_NETWORK:
		return VX_NETWORKS_MAX;
	default:
		return 1;
	}
}

/** add_worker() - Add what a worker counted, and of the engine's what its socket lost since it last read a datagram */
static void add_worker(const struct vx_worker *worker, unsigned kind, uint32_t id, vx_counters *sum)
{
	uint64_t *overflow = &sum->drops[VX_RX_OVERFLOW], before = *overflow;
	uint32_t lost = kind == VX_AT_ENGINE ? vx_receiver_lost(&worker->receiver) : 0, unread;

	vx_stats_sum(&worker->stats, kind, id, sum);
	unread = lost - (uint32_t)(*overflow - before);
	if (kind == VX_AT_ENGINE && unread <= INT32_MAX)	/* else the worker counted on meanwhile */
		*overflow += unread;
}

/** vx_counters_read() - Counters of anything, summed over the workers (of VX_AT_WORKER: one). Any thread */
int vx_counters_read(const vx_engine *engine, int kind, int id, vx_counters *counters)
{
	memset(counters, 0, sizeof(*counters));
	if (kind == VX_AT_WORKER) {
		if (id < 0 || (unsigned)id >= engine->workers)
			return -ENOENT;
		add_worker(&engine->worker[id], VX_AT_ENGINE, 0, counters);
		counters->events_lost = atomic_load_explicit(&engine->rings[id].lost_total, memory_order_relaxed);
		return 0;
	}
	if (kind < VX_AT_ENGINE || kind > VX_AT_WORKER)
		return -EINVAL;
	if (kind != VX_AT_ENGINE && (id < 0 || (uint32_t)id >= kind_max(kind)))
		return -ENOENT;
	for (unsigned i = 0; i < engine->workers; i++)
		add_worker(&engine->worker[i], (unsigned)kind, (uint32_t)id, counters);
	for (unsigned i = 0; i <= engine->workers && kind == VX_AT_ENGINE; i++)
		counters->events_lost += atomic_load_explicit(&engine->rings[i].lost_total, memory_order_relaxed);
	return 0;
}
