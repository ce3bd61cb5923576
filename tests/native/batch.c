/* batch.c - a receive batch for the coalescer, and the trains that come of it
 *
 * One batch at a time: batch_begin() starts it anew with a fresh coalescer, frames are built by wire.c one behind the
 * other as in a receive buffer, and every train is kept as it left.
 */
#include "batch.h"

#include <stdlib.h>

#include "check.h"
#include "eth.h"

#define ROOM	(1u << 20)

struct batch batch;

/** payload_of() - How much a frame carries */
static uint32_t payload_of(const uint8_t *frame, uint32_t len)
{
	struct vx_eth eth;

	if (vx_eth_parse(frame, len, &eth) || !eth.l4)
		return 0;
	if (eth.fragment || (eth.protocol != VX_PROTO_TCP && eth.protocol != VX_PROTO_UDP))
		return eth.end - eth.l4;
	return eth.end - eth.l4 - (eth.protocol == VX_PROTO_UDP ? 8u : (uint32_t)(frame[eth.l4 + 12] >> 4) * 4);
}

static void take(void *context, struct vx_train *train)
{
	CHECK(context == &batch && batch.trains < BATCH_TRAINS);
	batch.train[batch.trains] = *train;
	batch.payload[batch.trains] = payload_of(batch.bytes[batch.trains],
						 wire_flatten(train, batch.bytes[batch.trains]));
	batch.trains++;
}

void batch_begin(void)
{
	if (batch.gro)
		vx_gro_flush(batch.gro);
	free(batch.gro);
	free(batch.room);
	batch.gro = calloc(1, vx_gro_size());
	batch.room = batch.next = malloc(ROOM);
	batch.trains = 0;
	vx_gro_init(batch.gro, take, &batch);
}

/** batch_add_to() - Build a frame, and give it to the coalescer */
enum vx_reason batch_add_to(const struct wire *wire, uint32_t port, unsigned may_merge)
{
	uint32_t len = wire_put(batch.next, wire);
	struct vx_frame frame = wire_frame(batch.next, len);

	batch.next += len;
	CHECK(batch.next <= batch.room + ROOM);
	return vx_gro_add(batch.gro, &frame, port, may_merge);
}

void batch_add(struct wire wire)
{
	REASON(batch_add_to(&wire, BATCH_PORT, BATCH_BOTH), VX_OK);
}

/** batch_tcp() - Packet @i of a stream of LEN bytes each */
struct wire batch_tcp(unsigned version, unsigned i)
{
	struct wire wire = wire_tcp;

	wire.version = version;
	wire.seq = 100 + i * LEN;
	wire.id = (uint16_t)(8 + i);
	return wire;
}

struct wire batch_udp(unsigned version, unsigned i)
{
	struct wire wire = wire_udp;

	wire.version = version;
	wire.seq = i * LEN;
	wire.id = (uint16_t)(8 + i);
	return wire;
}

/** batch_control() - The positive control: two packets with nothing special merge */
void batch_control(batch_stream *of, unsigned version)
{
	batch_begin();
	batch_add(of(version, 0));
	batch_add(of(version, 1));
	ARRIVE(2 * LEN);
}
