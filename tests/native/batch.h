/* batch.h - a receive batch for the coalescer, and the trains that come of it; see batch.c */
#ifndef BATCH_H
#define BATCH_H

#include "wire.h"

#define LEN		100	/* payload of a packet, as in the kernel's self-test */
#define BATCH_PORT	7
#define BATCH_BOTH	(VX_GRO_TCP | VX_GRO_UDP)
#define BATCH_TRAINS	160

/** struct batch - What the tests see
 * @next:	Where the next frame is put; the bytes of all stay
 * @trains:	How many have left
 * @train:	As they left
 * @bytes:	What each would write
 * @payload:	Behind TCP and UDP headers, padding not counted; of what is neither, behind the IP header
 */
extern struct batch {
	struct vx_gro *gro;
	uint8_t *room;
	uint8_t *next;
	unsigned trains;
	struct vx_train train[BATCH_TRAINS];
	uint8_t bytes[BATCH_TRAINS][WIRE_MAX];
	uint32_t payload[BATCH_TRAINS];
} batch;

typedef struct wire batch_stream(unsigned version, unsigned i);

void batch_begin(void);
enum vx_reason batch_add_to(const struct wire *wire, uint32_t port, unsigned may_merge);
void batch_add(struct wire wire);
struct wire batch_tcp(unsigned version, unsigned i);
struct wire batch_udp(unsigned version, unsigned i);
void batch_control(batch_stream *of, unsigned version);

#define EVERY_VERSION(version) for (unsigned version = 4; version <= 6; version += 2)

/* End the batch; the payloads of the trains were these, in this order */
#define ARRIVE(...) \
	do { \
		const uint32_t list_[] = { __VA_ARGS__ }; \
		vx_gro_flush(batch.gro); \
		EQUAL(batch.trains, sizeof(list_) / 4); \
		for (unsigned i_ = 0; i_ < batch.trains; i_++) \
			EQUAL(batch.payload[i_], list_[i_]); \
	} while (0)

#endif
