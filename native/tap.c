/* tap.c - frames from and to a TAP: the only file that reads and writes them
 *
 * How it works
 *   The descriptor comes from Python: IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, non-blocking, little-endian virtio
 *   header of 10 bytes; or, on the rung no-vnet-hdr, without IFF_VNET_HDR and header. An engine's TAPs are all of
 *   one kind, which never changes while it lives. One read is one frame; the header lands in the head-room right
 *   before it. One write is one frame too, and the receiver's whole stack runs inside it, answers included.
 *
 *   A full receive ring, a device that is down and a namespace that is gone give different errors; what each
 *   means for the frame (vx_tap_reason()) and for the port (vx_tap_is_gone()) is said here once.
 */
#include "tap.h"

#include <endian.h>
#include <sys/uio.h>
#include <unistd.h>

#include "compat.h"

static uint16_t get_le16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static void put_le16(uint8_t *p, uint16_t value)
{
	p[0] = (uint8_t)value;
	p[1] = (uint8_t)(value >> 8);
}

static void vnet_get(const uint8_t *header, struct vx_vnet *vnet)
{
	vnet->flags = header[0];
	vnet->gso_type = header[1];
	vnet->hdr_len = get_le16(header + 2);
	vnet->gso_size = get_le16(header + 4);
	vnet->csum_start = get_le16(header + 6);
	vnet->csum_offset = get_le16(header + 8);
}

static void vnet_put(uint8_t *header, const struct vx_vnet *vnet)
{
	header[0] = vnet->flags;
	header[1] = vnet->gso_type;
	put_le16(header + 2, vnet->hdr_len);
	put_le16(header + 4, vnet->gso_size);
	put_le16(header + 6, vnet->csum_start);
	put_le16(header + 8, vnet->csum_offset);
}

/**
 * vx_tap_read() - Read one frame
 * @fd:		Queue of a TAP
 * @buffer:	VX_HEADROOM + VX_FRAME_MAX bytes
 * @frame:	Upper half filled in, but for where it came from
 * @vnet_hdr:	Whether the TAP has the virtio header
 *
 * Return: length of the frame; 0 for a read too short to be one; -EAGAIN when there is none, another -errno
 */
int vx_tap_read(int fd, uint8_t *buffer, struct vx_frame *frame, bool vnet_hdr)
{
	uint32_t header_len = vnet_hdr ? VX_VNET_LEN : 0;
	uint8_t *header = buffer + VX_HEADROOM - header_len;
	ssize_t got;

	do
		got = read(fd, header, header_len + VX_FRAME_MAX);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;

	frame->data = buffer + VX_HEADROOM;
	frame->len = (size_t)got > header_len ? (uint32_t)got - header_len : 0;
	memset(&frame->vnet, 0, sizeof(frame->vnet));
	if (vnet_hdr && (size_t)got >= header_len)
		vnet_get(header, &frame->vnet);
	return (int)frame->len;
}

/** vx_tap_put() - Write one frame with its virtio header, both in @parts. Return: 0 or -errno */
int vx_tap_put(int fd, const struct iovec *parts, unsigned count)
{
	ssize_t put;

	do
		put = writev(fd, parts, (int)count);
	while (put < 0 && errno == EINTR);
	return put < 0 ? -errno : 0;
}

/**
 * vx_tap_write() - Write one frame, or several merged into one
 * @fd:		Queue of a TAP
 * @vnet:	Its virtio header, NULL for a TAP that has none
 * @parts:	Its bytes
 * @count:	How many parts, at most VX_TRAIN_FRAMES
 *
 * Return: 0 or -errno
 */
int vx_tap_write(int fd, const struct vx_vnet *vnet, const struct iovec *parts, unsigned count)
{
	uint8_t header[VX_VNET_LEN];
	struct iovec all[1 + VX_TRAIN_FRAMES];

	if (vnet)
		vnet_put(header, vnet);
	all[0] = (struct iovec){ header, vnet ? sizeof(header) : 0 };
	memcpy(all + 1, parts, count * sizeof(*parts));
	return vx_tap_put(fd, all, count + 1);
}

/** vx_tap_is_gone() - Whether an error (positive) says that the device is gone for good, not merely down */
bool vx_tap_is_gone(int error)
{
	return error == EBADFD || error == EFAULT || error == ENODEV || error == EBADF;
}

/** vx_tap_reason() - Under which reason a frame counts whose write gave an error (positive) */
enum vx_reason vx_tap_reason(int error, const struct vx_vnet *vnet)
{
	if (error == EAGAIN || error == ENOBUFS || error == ENOMEM)
		return VX_RING_FULL;
	if (error == EINVAL)
		return vnet->flags || vnet->gso_type ? VX_GSO_INVALID : VX_HDR_TRUNC;
	return VX_TAP_DOWN;
}
