/* recorder.c - a capture's writer thread, and the boundary that Python starts and ends captures by
 *
 * How it works
 *   vx_capture_new() makes a capture that takes nothing yet; Python hands it the blocks that a file begins with and
 *   says which endpoints, networks and VTEPs it selects; vx_capture_start() lets frames in and starts the writer.
 *   The writer looks at all workers' rings at once, writes what they hold in the order of time, and sleeps a few
 *   milliseconds when they are empty: a worker never has to wake it. An endpoint that is attached meanwhile gets its
 *   interface block queued before any worker can copy a frame of it, so the file never refers to what comes later.
 *
 *   The writer ends by itself when it has written config.frames_max frames or its reader is gone, else when it is told
 *   to. It takes the capture out of the active ones, waits until no worker can hold a pointer to it, empties the
 *   rings, writes the statistics of every interface, and closes the descriptor: the reader's end of file is the
 *   signal that all is written. Memory is freed by vx_captures_release(), once a second.
 */
#define _GNU_SOURCE
#include "recorder.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "engine.h"

#define SNAPLEN_MAX	(256u << 10)
#define BLOCKS_MAX	(1u << 20)	/* that wait for the writer: names of 10 000 endpoints */
#define INTERFACES_MIN	2

/** struct log - What the writer knows beside the output */
struct log {
	struct vx_capture *capture;
	uint64_t offset_ns;		/* from CLOCK_MONOTONIC to the time of day, as it was at the start */
	uint64_t start_ns;
	uint64_t *written;		/* by interface */
};

static uint64_t read_clock(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/** deactivate() - Let no frame in any more, and wait until no worker is about to */
static void deactivate(struct vx_capture *capture)
{
	static const struct timespec moment = { 0, 50000 };
	struct vx_captures *captures = capture->captures;

	atomic_fetch_and_explicit(&captures->active, ~(1u << capture->index), memory_order_seq_cst);
	for (unsigned i = 0; i < captures->workers; i++)
		while (atomic_load_explicit(&captures->watch[i]->busy, memory_order_seq_cst))
			nanosleep(&moment, NULL);
}

/** write_blocks() - Write what Python queued */
static void write_blocks(struct vx_capture *capture)
{
	pthread_mutex_lock(&capture->lock);
	vx_output_raw(capture->output, capture->blocks, capture->blocks_len);
	capture->blocks_len = 0;
	pthread_mutex_unlock(&capture->lock);
}

/** is_full() - Whether as many frames are written as were asked for */
static bool is_full(const struct vx_capture *capture)
{
	return capture->config.frames_max && atomic_load(&capture->frames) >= capture->config.frames_max;
}

static void write_slice(struct log *log, const struct vx_slice *slice, unsigned worker)
{
	struct vx_capture *capture = log->capture;
	char label[VX_CAPTURE_LABEL] = "";

	if (slice->reason && slice->port < VX_PORTS_MAX) {
		pthread_mutex_lock(&capture->lock);
		memcpy(label, capture->label[slice->port], sizeof(label));
		pthread_mutex_unlock(&capture->lock);
	}
	vx_pcapng_frame(capture->output, slice, slice->time_ns + log->offset_ns, worker, label);
	log->written[slice->interface]++;
	atomic_fetch_add_explicit(&capture->frames, 1, memory_order_relaxed);
}

/** drain() - Write what the rings hold now, oldest first. Return: how many frames that was */
static unsigned drain(struct log *log)
{
	struct vx_capture *capture = log->capture;
	unsigned workers = capture->captures->workers, count = 0;
	uint64_t head[VX_WORKERS_MAX];

	for (unsigned i = 0; i < workers; i++)
		head[i] = atomic_load_explicit(&capture->ring[i].head, memory_order_acquire);
	write_blocks(capture);
	while (!capture->output->failed && !is_full(capture)) {
		const struct vx_slice *oldest = NULL;
		unsigned from = 0;

		for (unsigned i = 0; i < workers; i++) {
			const struct vx_slice *slice = vx_slices_peek(&capture->ring[i], head[i]);

			if (slice && (!oldest || slice->time_ns < oldest->time_ns)) {
				oldest = slice;
				from = i;
			}
		}
		if (!oldest)
			break;
		write_slice(log, oldest, from);
		vx_slices_drop(&capture->ring[from], oldest);
		count++;
	}
	vx_output_flush(capture->output);
	return count;
}

static uint64_t lost_at(const struct vx_capture *capture, unsigned interface)
{
	uint64_t lost = 0;

	for (unsigned i = 0; i < capture->captures->workers; i++)
		lost += atomic_load_explicit(&capture->ring[i].lost_at[interface], memory_order_relaxed);
	return lost;
}

static void write_statistics(struct log *log)
{
	struct vx_capture *capture = log->capture;
	struct vx_interval interval = { log->start_ns, read_clock(CLOCK_MONOTONIC) + log->offset_ns, 0, 0 };

	for (unsigned i = 0; i < capture->interfaces; i++) {
		interval.dropped = lost_at(capture, i);
		interval.received = log->written[i] + interval.dropped;
		vx_pcapng_statistics(capture->output, i, &interval);
	}
	vx_output_flush(capture->output);
}

static void *record(void *argument)
{
	static const struct timespec pause = { 0, VX_CAPTURE_PAUSE_NS };
	struct vx_capture *capture = argument;
	struct log log = { .capture = capture };
	bool last = false;

	setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + VX_CAPTURE_NICE);	/* of this thread alone */
	log.written = calloc(VX_CAPTURE_INTERFACES, sizeof(*log.written));
	log.offset_ns = read_clock(CLOCK_REALTIME) - read_clock(CLOCK_MONOTONIC);
	log.start_ns = read_clock(CLOCK_REALTIME);
	while (log.written && !last) {
		last = atomic_load(&capture->stopping) || capture->output->failed || is_full(capture);
		if (last)
			deactivate(capture);
		if (!drain(&log) && !last)
			nanosleep(&pause, NULL);
	}
	deactivate(capture);
	if (log.written)
		write_statistics(&log);
	free(log.written);
	close(capture->output->fd);
	atomic_store(&capture->ended, true);
	return NULL;
}

/* The boundary: the writer's thread of the tables, not the capture's */

static struct vx_capture *capture_of(const vx_engine *engine, int capture)
{
	return capture < 0 || capture >= VX_CAPTURES_MAX ? NULL : engine->captures->slot[capture];
}

static void free_capture(struct vx_capture *capture)
{
	if (!capture)
		return;
	if (capture->map)
		munmap(capture->map, capture->captures->workers * (size_t)VX_CAPTURE_RING);
	for (unsigned i = 0; i < VX_WORKERS_MAX; i++)
		free(capture->ring[i].lost_at);
	if (capture->output && !capture->thread)
		close(capture->output->fd);
	free(capture->output);
	free(capture->blocks);
	pthread_mutex_destroy(&capture->lock);
	free(capture);
}

static int allocate(struct vx_capture *capture, unsigned workers)
{
	void *map = mmap(NULL, workers * (size_t)VX_CAPTURE_RING, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	bool whole = map != MAP_FAILED;

	if (whole)
		capture->map = map;
	for (unsigned i = 0; i < workers && whole; i++) {
		capture->ring[i].bytes = (uint8_t *)map + i * (size_t)VX_CAPTURE_RING;
		capture->ring[i].lost_at = calloc(VX_CAPTURE_INTERFACES, sizeof(*capture->ring[i].lost_at));
		whole = capture->ring[i].lost_at;
	}
	capture->blocks = malloc(BLOCKS_MAX);
	if (whole && capture->blocks)
		capture->output = calloc(1, sizeof(*capture->output));
	return capture->output ? 0 : -ENOMEM;
}

static struct vx_capture *make(struct vx_engine *engine, const vx_capture_config *config, unsigned index)
{
	struct vx_capture *capture = aligned_alloc(64, (sizeof(*capture) + 63) / 64 * 64);

	if (!capture)
		return NULL;
	memset(capture, 0, sizeof(*capture));
	capture->config = *config;
	if (!config->snaplen || config->snaplen > SNAPLEN_MAX)
		capture->config.snaplen = SNAPLEN_MAX;
	capture->index = index;
	capture->captures = engine->captures;
	atomic_init(&capture->interfaces, INTERFACES_MIN);
	pthread_mutex_init(&capture->lock, NULL);
	if (allocate(capture, engine->workers)) {
		free_capture(capture);
		return NULL;
	}
	capture->output->fd = config->fd;
	capture->output->abandoned = &capture->abandoned;
	return capture;
}

/**
 * vx_capture_new() - Make a capture that takes no frames yet
 *
 * Return: its id; -EBUSY if there are VX_CAPTURES_MAX; -ENOMEM. The descriptor is ours if this succeeds
 */
int vx_capture_new(vx_engine *engine, const vx_capture_config *config)
{
	vx_captures_release(engine->captures);
	for (unsigned i = 0; i < VX_CAPTURES_MAX; i++) {
		if (engine->captures->slot[i])
			continue;
		engine->captures->slot[i] = make(engine, config, i);
		return engine->captures->slot[i] ? (int)i : -ENOMEM;
	}
	return -EBUSY;
}

/** vx_capture_block() - Finished blocks that come before whatever is captured from now on. -ENOSPC: too many wait */
int vx_capture_block(vx_engine *engine, int id, const uint8_t *bytes, int length)
{
	struct vx_capture *capture = capture_of(engine, id);
	int error = 0;

	if (!capture)
		return -ENOENT;
	if (length < 0 || length % 4)
		return -EINVAL;
	pthread_mutex_lock(&capture->lock);
	if (capture->blocks_len + (size_t)length > BLOCKS_MAX) {
		error = -ENOSPC;
	} else {
		memcpy(capture->blocks + capture->blocks_len, bytes, (size_t)length);
		capture->blocks_len += (size_t)length;
	}
	pthread_mutex_unlock(&capture->lock);
	return error;
}

/** vx_capture_port() - Select a port as an interface whose block was handed over before; 0 deselects it */
int vx_capture_port(vx_engine *engine, int id, int port, int interface, const char *label)
{
	struct vx_capture *capture = capture_of(engine, id);

	if (!capture)
		return -ENOENT;
	if (port < 0 || port >= VX_PORTS_MAX || interface < 0 || interface >= VX_CAPTURE_INTERFACES ||
	    interface == VX_CAPTURE_DROPS)
		return -EINVAL;
	pthread_mutex_lock(&capture->lock);
	strncpy(capture->label[port], label, VX_CAPTURE_LABEL - 1);
	pthread_mutex_unlock(&capture->lock);
	if ((unsigned)interface >= capture->interfaces)
		capture->interfaces = (unsigned)interface + 1;
	atomic_store_explicit(&capture->interface[port], (uint16_t)interface, memory_order_release);
	return 0;
}

/** vx_capture_select() - Select what a VTEP or a network has to do with, or no longer */
int vx_capture_select(vx_engine *engine, int id, int kind, int object, int selected)
{
	struct vx_capture *capture = capture_of(engine, id);

	if (!capture)
		return -ENOENT;
	if (kind == VX_AT_VTEP && object >= 0 && object < VX_VTEPS_MAX)
		atomic_store(&capture->vtep[object], selected != 0);
	else if (kind == VX_AT_NETWORK && object >= 0 && object < VX_NETWORKS_MAX)
		atomic_store(&capture->network[object], selected != 0);
	else
		return -EINVAL;
	return 0;
}

/** vx_capture_start() - Let frames in. Return: 0 or -errno */
int vx_capture_start(vx_engine *engine, int id)
{
	struct vx_capture *capture = capture_of(engine, id);
	sigset_t all, before;
	int error;

	if (!capture)
		return -ENOENT;
	if (capture->thread)
		return -EALREADY;
	fcntl(capture->output->fd, F_SETFL, fcntl(capture->output->fd, F_GETFL) | O_NONBLOCK);
	atomic_fetch_or(&engine->captures->active, 1u << capture->index);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&capture->thread, NULL, record, capture);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error) {
		capture->thread = 0;
		deactivate(capture);
	}
	return -error;
}

/** vx_capture_stop() - Ask the writer to write what it has and close the descriptor */
int vx_capture_stop(vx_engine *engine, int id)
{
	struct vx_capture *capture = capture_of(engine, id);

	if (!capture)
		return -ENOENT;
	atomic_store(&capture->stopping, true);
	return 0;
}

/** vx_capture_free() - Nobody reads any more: vx_engine_reclaim() frees it once its writer has ended */
int vx_capture_free(vx_engine *engine, int id)
{
	struct vx_capture *capture = capture_of(engine, id);

	if (!capture)
		return -ENOENT;
	atomic_store(&capture->abandoned, true);
	atomic_store(&capture->stopping, true);
	return 0;
}

int vx_capture_info_get(const vx_engine *engine, int id, vx_capture_info *info)
{
	const struct vx_capture *capture = capture_of(engine, id);

	if (!capture)
		return -ENOENT;
	*info = (vx_capture_info){ .frames = atomic_load(&capture->frames), .ended = atomic_load(&capture->ended) };
	for (unsigned i = 0; i < engine->workers; i++)
		info->lost += atomic_load(&capture->ring[i].lost_total);
	return 0;
}

/** vx_captures_forget() - An id goes back and may soon be another's: nothing is selected by it any more */
void vx_captures_forget(struct vx_captures *captures, int kind, uint32_t id)
{
	for (unsigned i = 0; i < VX_CAPTURES_MAX; i++) {
		struct vx_capture *capture = captures->slot[i];

		if (capture && kind == VX_AT_PORT)
			atomic_store(&capture->interface[id], 0);
		else if (capture && kind == VX_AT_VTEP)
			atomic_store(&capture->vtep[id], false);
		else if (capture && kind == VX_AT_NETWORK)
			atomic_store(&capture->network[id], false);
	}
}

/** release() - Free a capture that nobody wants and whose writer has ended, or, with @wait, is about to */
static void release(struct vx_captures *captures, unsigned index, bool wait)
{
	struct vx_capture *capture = captures->slot[index];

	if (!capture || !atomic_load(&capture->abandoned))
		return;
	if (capture->thread && !wait && !atomic_load(&capture->ended))
		return;
	if (capture->thread)
		pthread_join(capture->thread, NULL);
	free_capture(capture);
	captures->slot[index] = NULL;
}

/** vx_captures_release() - Free what nobody wants any more */
void vx_captures_release(struct vx_captures *captures)
{
	for (unsigned i = 0; i < VX_CAPTURES_MAX; i++)
		release(captures, i, false);
}

/** vx_captures_free() - End all. The workers may run */
void vx_captures_free(struct vx_captures *captures)
{
	for (unsigned i = 0; captures && i < VX_CAPTURES_MAX; i++) {
		if (!captures->slot[i])
			continue;
		atomic_store(&captures->slot[i]->abandoned, true);
		atomic_store(&captures->slot[i]->stopping, true);
		release(captures, i, true);
	}
	free(captures);
}
