/* recorder.h - a capture's writer thread, and what Python may do with captures; see recorder.c */
#ifndef VX_RECORDER_H
#define VX_RECORDER_H

#include "capture.h"

/** struct vx_output - What the writer has made and not yet written; see pcapng.c
 * @fd:		Where to; non-blocking, unless it is a file
 * @failed:	Errno that writing ended with
 * @abandoned:	Give up as soon as this is set
 * @len:	Bytes in @bytes
 */
struct vx_output {
	int fd;
	int failed;
	const _Atomic bool *abandoned;
	uint32_t len;
	uint8_t bytes[1 << 18];
};

/** struct vx_interval - What the statistics block of an interface says; times in ns since 1970 */
struct vx_interval {
	uint64_t start_ns;
	uint64_t end_ns;
	uint64_t received;
	uint64_t dropped;
};

void vx_output_flush(struct vx_output *output);
void vx_output_raw(struct vx_output *output, const uint8_t *bytes, size_t len);
void vx_pcapng_frame(struct vx_output *output, const struct vx_slice *slice, uint64_t time_ns, unsigned queue,
		     const char *label);
void vx_pcapng_statistics(struct vx_output *output, unsigned interface, const struct vx_interval *interval);

#endif
