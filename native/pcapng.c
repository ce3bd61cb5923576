/* pcapng.c - blocks of a capture file, and the descriptor that they are written to
 *
 * How it works
 *   A block is built in the output buffer in the byte order of the machine (the section header, which Python makes,
 *   says which) and leaves with others in one write. Only whole blocks are ever in the buffer, and a block that a
 *   killed agent left half written is the last of the file: all before it is good.
 *   A reader that is slow makes us wait here, in the writer's thread; one that is gone ends the capture.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "recorder.h"

#define BLOCK_FRAME		6	/* enhanced packet block */
#define BLOCK_STATISTICS	5
#define OPTION_END		0
#define OPTION_COMMENT		1
#define FRAME_FLAGS		2
#define FRAME_DROPCOUNT		4
#define FRAME_PACKETID		5
#define FRAME_QUEUE		6
#define FRAME_VERDICT		7
#define STATISTICS_START	2
#define STATISTICS_END		3
#define STATISTICS_RECEIVED	4
#define STATISTICS_DROPPED	5
#define VERDICT_HARDWARE	0	/* bytes of no fixed meaning; the other types are the kernel's */
#define WAIT_MS			50
#define OPTIONS_MAX		512
#define COMMENT_MAX		320

/** vx_output_flush() - Write what is in the buffer; after a failure nothing is written any more */
void vx_output_flush(struct vx_output *output)
{
	uint32_t done = 0;

	while (done < output->len && !output->failed) {
		ssize_t n = write(output->fd, output->bytes + done, output->len - done);
		struct pollfd room = { .fd = output->fd, .events = POLLOUT };

		if (n >= 0)
			done += (uint32_t)n;
		else if (errno == EAGAIN && atomic_load(output->abandoned))
			output->failed = ECANCELED;
		else if (errno == EAGAIN)
			poll(&room, 1, WAIT_MS);
		else if (errno != EINTR)
			output->failed = errno;
	}
	output->len = 0;
}

/** room() - Make sure of room for a block of @len bytes, and return where it goes */
static uint8_t *room(struct vx_output *output, size_t len)
{
	if (output->len + len > sizeof(output->bytes))
		vx_output_flush(output);
	return output->bytes + output->len;
}

/** vx_output_raw() - Blocks that are finished */
void vx_output_raw(struct vx_output *output, const uint8_t *bytes, size_t len)
{
	while (len) {
		size_t some = len < sizeof(output->bytes) ? len : sizeof(output->bytes);

		memcpy(room(output, some), bytes, some);
		output->len += (uint32_t)some;
		bytes += some;
		len -= some;
	}
}

static uint8_t *put32(uint8_t *at, uint32_t value)
{
	memcpy(at, &value, sizeof(value));
	return at + sizeof(value);
}

static uint8_t *put_padded(uint8_t *at, const void *bytes, uint32_t len)
{
	memcpy(at, bytes, len);
	memset(at + len, 0, (4 - len % 4) % 4);
	return at + (len + 3) / 4 * 4;
}

static uint8_t *put_option(uint8_t *at, uint16_t code, const void *value, uint16_t len)
{
	memcpy(at, &code, sizeof(code));
	memcpy(at + 2, &len, sizeof(len));
	return put_padded(at + 4, value, len);
}

static uint8_t *put_option64(uint8_t *at, uint16_t code, uint64_t value)
{
	return put_option(at, code, &value, sizeof(value));
}

/** end_block() - Write the length that stands at both ends of a block */
static void end_block(struct vx_output *output, uint8_t *begin, uint8_t *end)
{
	uint32_t total = (uint32_t)(end + 4 - begin);

	put32(begin + 4, total);
	put32(end, total);
	output->len += total;
}

/** comment() - Why a frame was dropped, for people and for programs. Return: its length */
static int comment(const struct vx_slice *slice, const char *label, char *text)
{
	static const uint8_t nowhere[VX_ADDR_LEN];
	char vtep[INET6_ADDRSTRLEN] = "", where[INET6_ADDRSTRLEN + 8] = "", endpoint[VX_CAPTURE_LABEL + 8] = "";
	char vni[20] = "";

	if (memcmp(slice->vtep, nowhere, VX_ADDR_LEN)) {
		if (vx_addr_is4(slice->vtep))
			inet_ntop(AF_INET, slice->vtep + 12, vtep, sizeof(vtep));
		else
			inet_ntop(AF_INET6, slice->vtep, vtep, sizeof(vtep));
		snprintf(where, sizeof(where), " vtep=%s", vtep);
	}
	if (slice->port != VX_NONE && *label)
		snprintf(endpoint, sizeof(endpoint), " ep=%s", label);
	if (slice->vni != VX_NONE)
		snprintf(vni, sizeof(vni), " vni=%u", slice->vni);
	return snprintf(text, COMMENT_MAX, "vxlanu drop=%s path=%s%s%s%s frames=%u", vx_reason_name(slice->reason),
			slice->direction == VX_CAPTURE_FROM ? "out" : "in", endpoint, vni, where, slice->frames);
}

static uint8_t *put_drop(uint8_t *at, const struct vx_slice *slice, const char *label)
{
	char text[COMMENT_MAX], verdict[48];
	int len = snprintf(verdict, sizeof(verdict), "%cDROP %s", VERDICT_HARDWARE, vx_reason_name(slice->reason));

	at = put_option(at, FRAME_VERDICT, verdict, (uint16_t)len);
	len = comment(slice, label, text);
	return put_option(at, OPTION_COMMENT, text, (uint16_t)(len < COMMENT_MAX ? len : COMMENT_MAX - 1));
}

/** vx_pcapng_frame() - One frame: flags tell the direction, packet id what belongs together, a drop says why */
void vx_pcapng_frame(struct vx_output *output, const struct vx_slice *slice, uint64_t time_ns, unsigned queue,
		     const char *label)
{
	uint8_t *begin = room(output, slice->captured + OPTIONS_MAX + COMMENT_MAX), *at = begin;
	uint32_t flags = slice->direction;

	at = put32(put32(at, BLOCK_FRAME), 0);
	at = put32(at, slice->interface);
	at = put32(put32(at, (uint32_t)(time_ns >> 32)), (uint32_t)time_ns);
	at = put32(put32(at, slice->captured), slice->len);
	at = put_padded(at, slice + 1, slice->captured);
	at = put_option(at, FRAME_FLAGS, &flags, sizeof(flags));
	if (slice->lost)
		at = put_option64(at, FRAME_DROPCOUNT, slice->lost);
	if (slice->packet)
		at = put_option64(at, FRAME_PACKETID, slice->packet);
	at = put_option(at, FRAME_QUEUE, &queue, sizeof(queue));
	if (slice->reason)
		at = put_drop(at, slice, label);
	end_block(output, begin, put32(at, OPTION_END));
}

static uint8_t *put_time(uint8_t *at, uint16_t code, uint64_t time_ns)
{
	uint32_t halves[2] = { (uint32_t)(time_ns >> 32), (uint32_t)time_ns };

	return put_option(at, code, halves, sizeof(halves));
}

/** vx_pcapng_statistics() - What an interface saw, and what of it is missing in the file */
void vx_pcapng_statistics(struct vx_output *output, unsigned interface, const struct vx_interval *interval)
{
	uint8_t *begin = room(output, OPTIONS_MAX), *at = begin;

	at = put32(put32(at, BLOCK_STATISTICS), 0);
	at = put32(at, interface);
	at = put32(put32(at, (uint32_t)(interval->end_ns >> 32)), (uint32_t)interval->end_ns);
	at = put_time(at, STATISTICS_START, interval->start_ns);
	at = put_time(at, STATISTICS_END, interval->end_ns);
	at = put_option64(at, STATISTICS_RECEIVED, interval->received);
	at = put_option64(at, STATISTICS_DROPPED, interval->dropped);
	end_block(output, begin, put32(at, OPTION_END));
}
