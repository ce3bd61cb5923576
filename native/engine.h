/* engine.h - one data plane: its workers, tables and reaper; see engine.c */
#ifndef VX_ENGINE_H
#define VX_ENGINE_H

#include "capture.h"
#include "worker.h"

struct vx_engine {
	vx_config config;
	struct vx_tables *tables;
	unsigned workers;
	struct vx_worker *worker;	/* array of them */
	struct vx_ring *rings;		/* one per worker, and the reaper's */
	struct vx_captures *captures;
	struct vx_bell bell;
	int uplink;			/* descriptor of the uplink TAP, 0: none */
	pthread_t reaper;
	bool reaper_running;
	_Atomic bool stopping;
	uint8_t *trace_buffer;
};

#endif
