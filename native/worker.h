/* worker.h - one thread of the fast path; see worker.c, deliver.c, local.c and remote.c */
#ifndef VX_WORKER_H
#define VX_WORKER_H

#include <pthread.h>

#include "capture.h"
#include "gro.h"
#include "ring.h"
#include "sock.h"
#include "spin.h"
#include "switch.h"
#include "transmit.h"

/** struct vx_flood_job - A replication that did not fit its turn */
struct vx_flood_job {
	bool active;
	uint32_t network;
	uint32_t generation;
	uint32_t next_port;
	uint32_t next_vtep;
	struct vx_frame frame;
	uint8_t *buffer;
};

#define VX_PIECES_LEN	(VX_HEADROOM + VX_FRAME_MAX)

struct vx_worker {
	unsigned index;
	unsigned on_cpu;		/* 1 + the CPU to run on; 0: any */
	struct vx_tables *tables;
	struct vx_stats stats;
	struct vx_ring *ring;
	struct vx_receiver receiver;
	struct vx_transmitter transmitter;
	struct vx_watch watch;
	struct vx_gro *gro;		/* empty between receive batches */
	struct vx_frame frames[VX_BATCH];
	uint8_t *tap_buffers;		/* VX_BATCH, held while the transmitter is blocked */
	uint8_t *job_buffers;
	uint8_t *spares;		/* VX_BATCH, one for each of @frames */
	uint8_t *pieces;		/* VX_PIECES_LEN of fragments, and a frame that they are made from */
	struct vx_flood_job jobs[VX_FLOOD_JOBS];
	unsigned jobs_active;
	unsigned job_first;		/* that has its turn first */
	uint64_t now_ns;
	uint64_t stalled_ns;		/* since when the blocked transmitter takes nothing, 0: it is not blocked */
	uint64_t taken;			/* what it had taken by then */
	uint64_t looked_ns;		/* when TAPs were last asked whether they are gone, while blocked */
	bool rested;
	bool spins;			/* may look on before it sleeps */
	struct vx_spin spin;
	uint32_t served;		/* bytes since the last wait */
	enum vx_awaited awaits;		/* behind the last turn */
	int epoll;
	int wake;			/* eventfd */
	_Atomic bool stopping;
	_Alignas(64) _Atomic uint64_t heartbeat;
	pthread_t thread;
	bool running;
};

/* What an epoll event is about: kind in the top byte, as vx_value() */
#define VX_READY_PORT	1
#define VX_READY_TUNNEL	2
#define VX_READY_WAKE	3

int vx_worker_open(struct vx_worker *worker, const vx_config *config, bool shared);
void vx_worker_close(struct vx_worker *worker);
int vx_worker_start(struct vx_worker *worker);
void vx_worker_stop(struct vx_worker *worker);
void vx_worker_abandon(struct vx_worker *worker);
int vx_worker_add_port(struct vx_worker *worker, const struct vx_port *port);
void vx_worker_del_port(struct vx_worker *worker, const struct vx_port *port);

void vx_deliver(struct vx_worker *worker, struct vx_frame *frames, unsigned count);
unsigned vx_deliver_followers(struct vx_worker *worker, const struct vx_frame *frame, uint8_t *next, unsigned count);
void vx_deliver_lost(struct vx_worker *worker, const struct vx_frame *frame, struct vx_owner owner,
		     enum vx_reason reason);
void vx_deliver_abandon(struct vx_worker *worker);
void vx_deliver_jobs(struct vx_worker *worker);

void vx_local_merge(struct vx_worker *worker, const struct vx_frame *frame, uint32_t port);
void vx_local_write(struct vx_worker *worker, const struct vx_frame *frame, uint32_t port);
void vx_local_train(void *worker, struct vx_train *train);
void vx_local_gone(struct vx_worker *worker, struct vx_port *port, int error);
void vx_remote_send(struct vx_worker *worker, const struct vx_frame *frame, uint32_t vtep);

#endif
