/* flow.h - random TCP and UDP flows, and their packets written in the plainest way; see flow.c */
#ifndef FLOW_H
#define FLOW_H

#include "vx.h"

#define FLOW_PAYLOAD_MAX	65535u
#define FLOW_ROOM		(FLOW_PAYLOAD_MAX + 1024u)	/* bytes of the longest frame, and more */

/** struct flow - What all packets of a flow have in common, and where a super-frame of it stands
 * @seed:	What flow_random() made it of
 * @ip_options:	Bytes of them in the IPv4 header
 * @extensions:	Number of IPv6 extension headers
 * @extension_size: Of each, in units of 8 bytes, less one, as in its second byte
 * @routed:	The first of them is a routing header with a hop to go
 * @tcp_options: Bytes
 * @random:	Of which MACs, tags, addresses, ports, options and the like are taken
 * @df:		Flags and offset of IPv4
 * @id:		IPv4 identification of the first segment
 * @tcp_flags:	Reserved bits and flags of the super-frame, 12 bits
 * @seq:	TCP sequence number of the first segment
 * @payload:	Of the super-frame
 * @len:	Its length
 * @size:	What it is to be cut into
 */
struct flow {
	unsigned seed;
	bool tcp;
	unsigned version;
	unsigned tags;
	unsigned ip_options;
	unsigned extensions;
	unsigned extension_size[3];
	bool routed;
	unsigned tcp_options;
	uint8_t random[256];
	uint8_t tos, ttl;
	uint16_t df;
	uint16_t id;
	uint16_t tcp_flags;
	uint32_t seq;
	const uint8_t *payload;
	uint32_t len;
	uint32_t size;
};

struct flow flow_random(unsigned seed, bool tcp, unsigned version);
struct flow flow_plain(bool tcp, unsigned version, uint32_t len, uint32_t size);
uint32_t flow_headers(const struct flow *flow);
uint32_t flow_longest(const struct flow *flow);
uint32_t flow_segments(const struct flow *flow);
uint32_t flow_segment(uint8_t *frame, const struct flow *flow, uint32_t segment);
uint32_t flow_whole(uint8_t *frame, const struct flow *flow);
struct vx_frame flow_super(uint8_t *data, const struct flow *flow);

#endif
