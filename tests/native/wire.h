/* wire.h - packets built and super-frames cut in the plainest way: the reference for gro.c; see wire.c */
#ifndef WIRE_H
#define WIRE_H

#include "gro.h"

#define WIRE_MAX	65664

/** struct wire - A packet to build. 0 is a good value for whatever is not named; wire_tcp and wire_udp are two */
struct wire {
	unsigned version;
	uint8_t protocol;
	uint64_t to, from;		/* MACs */
	int vlan;			/* 0: no tag */
	uint8_t tos, ttl;
	uint16_t id, fragment;		/* IPv4; fragment: the flags and the offset */
	uint32_t label;			/* IPv6 */
	unsigned ip_options;		/* IPv4: words of options */
	uint8_t extension;		/* IPv6: 0 or the number of an extension header of 8 bytes */
	uint8_t extension_byte;		/* what either is filled with: 0 ends options, 1 is no operation */
	uint8_t source, target;		/* last bytes of the addresses */
	uint16_t source_port, target_port;
	uint32_t seq, ack;
	uint8_t reserved;		/* the low nibble beside the data offset */
	uint8_t flags;
	uint16_t window, urgent;
	uint8_t options[40];
	unsigned options_len;
	uint32_t len;			/* payload: the bytes of a stream from @seq on */
	uint32_t padding;		/* behind the packet */
	bool no_csum, partial;
};

extern const struct wire wire_tcp, wire_udp;

uint32_t wire_put(uint8_t *out, const struct wire *wire);
uint16_t wire_sum(const uint8_t *data, uint32_t len, uint32_t sum);
void wire_finish(uint8_t *frame, const struct vx_vnet *vnet, uint32_t len);
struct vx_frame wire_frame(uint8_t *data, uint32_t len);
uint32_t wire_flatten(const struct vx_train *train, uint8_t *out);
unsigned wire_cut(const struct vx_train *train, uint8_t *out, uint32_t *lens, unsigned max);

#endif
