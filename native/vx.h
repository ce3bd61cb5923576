/* vx.h - the words every room of the fast path uses: frame, batch, value, byte order
 *
 * How it works
 *   A *frame* is one Ethernet frame (64 KB super-frames included) with VX_HEADROOM writable bytes before it and
 *   with what is known about it. Frames come from a *port* (a TAP of this host) or from a *VTEP* (the tunnel).
 *   A vector of up to VX_BATCH frames goes through vx_switch(), which fills in the lower half: the verdict.
 *   Rooms that are pure (vxlan eth arp nd ecn csum) take bytes and give values, no more.
 *
 *   Multi-byte header fields are read and written bytewise through the functions below: no casts to wire
 *   structs, hence no alignment or aliasing traps, and compilers make single instructions of them.
 */
#ifndef VX_VX_H
#define VX_VX_H

#include <assert.h>
#include <endian.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "limits.h"
#include "reasons.h"
#include "vxlanu.cdef.h"

/* Where a function of a few instructions, or a stage of the vector, is to be part of its caller */
#define VX_INLINE	static inline __attribute__((always_inline))
/* ... and where what is rare is to leave the registers to what is not */
#define VX_APART	__attribute__((noinline, cold))

#define VX_CACHE_LINE	64u
#define VX_NONE		0xffffffffu	/* an id that does not apply */
#define VX_ETH_LEN	14
#define VX_VLAN_LEN	4
#define VX_VXLAN_LEN	8
#define VX_ADDR_LEN	16
#define VX_MAC_LEN	6
#define VX_MAC_GROUP	(1ull << 40)	/* of a MAC as a number */

static_assert(VX_REASON_COUNT <= VX_REASON_SLOTS, "vx_counters.drops must hold every reason");
static_assert(sizeof(vx_event) == 64, "one event is one cache line");
static_assert(sizeof(vx_counters) % 64 == 0, "counters of two owners never share a cache line");

/** struct vx_vnet - What the virtio header says about a frame, in host byte order (linux/virtio_net.h) */
struct vx_vnet {
	uint8_t flags;
	uint8_t gso_type;
	uint16_t hdr_len;
	uint16_t gso_size;
	uint16_t csum_start;
	uint16_t csum_offset;
};

#define VX_VNET_LEN		10
#define VX_VNET_NEEDS_CSUM	1
#define VX_GSO_NONE		0
#define VX_GSO_TCPV4		1
#define VX_GSO_TCPV6		4
#define VX_GSO_UDP_L4		5
#define VX_GSO_ECN		0x80	/* flag beside a TCP type: the first segment carries CWR */

/** struct vx_eth - Where the headers of a frame are; offsets from the start of the Ethernet header */
struct vx_eth {
	uint16_t type;		/* EtherType behind the VLAN tags */
	uint16_t l3;
	uint16_t l4;		/* 0 where there is none or it is not in this fragment */
	uint8_t version;	/* 4, 6, or 0 if not IP */
	uint8_t protocol;
	uint8_t tos;
	bool fragment;		/* any fragment, the first one too */
	bool vlan;
	bool group;		/* destination MAC is broadcast or multicast */
	bool plain;		/* untagged unicast TCP or UDP, whole, that shows its ports: as most frames are */
	uint32_t end;		/* where the IP packet ends; Ethernet padding may follow */
};

/* Who a flooded frame goes to */
#define VX_TO_LOCAL	1	/* other ports of the network here */
#define VX_TO_MEMBERS	2	/* VTEPs with VX_MEMBER_FLOOD */
#define VX_TO_FOREIGN	4	/* VTEPs with VX_MEMBER_FOREIGN */

/* What the counters want to know beside reason and act */
#define VX_NOTE_ARP_ND		1	/* an ARP frame, NS or NA */
#define VX_NOTE_PENDING		2	/* passed without a record */
#define VX_NOTE_RESERVED	4	/* reserved bits in the VXLAN header */
#define VX_NOTE_DECAPSULATED	8	/* got as far as a known network */
#define VX_NOTE_SUPER		16	/* an unsegmented super-frame from this kernel */

struct vx_network;
struct vx_port;

/** struct vx_frame - One frame on its way through the switch
 * @data:	Ethernet header; for a frame from the tunnel the VXLAN header until the parse stage is over
 * @len:	Bytes from @data. What lies behind them may be the next frame of a UDP_GRO train
 * @spare:	VX_SPARE_LEN writable bytes with VX_HEADROOM before them: where the switch builds an answer
 * @vnet:	Offload state, from the TAP's virtio header or worked out for a frame from the tunnel
 * @train:	Of a datagram that came whole: the size that UDP_GRO told with it, 0 if none. Not 0 means that it is a
 *		super-frame whose inner segments have @train bytes of payload (partial.c)
 * @from:	VX_AT_PORT or VX_AT_VTEP
 * @from_id:	Port; or VTEP, found by the guard stage (VX_NONE before)
 * @outer:	Outer source address of a frame from the tunnel
 * @outer_port:	Outer source port of a frame from the tunnel
 * @packet:	0, or what ties a capture's records of it (capture.c)
 * @outer_tos:	TOS it came with, or (after the ecn stage) is to leave with
 * The rest is the verdict:
 * @network:	Network, NULL if the frame did not get that far
 * @port:	Port it came from, NULL if it came from the tunnel; the turn keeps it alive
 * @eth:	Where its headers are
 * @hash:	Of the inner flow, the same for both directions: picks the transmit socket
 * @target:	Port or VTEP that @act speaks of
 * @scope:	VX_TO_* of a flood
 * @copies:	Of a flood, as storm control counted it
 * @segments:	How many frames this is on a wire: 1, or what a super-frame is cut into. The unit of every counter
 * @fit:	0, or the largest inner packet (bytes from the IP header) that the path takes: fragment to that
 * @answer:	0, or the length of an answer in @spare that goes back where the frame came from, whatever @act is
 * @act:	VX_ACT_*
 * @reason:	VX_OK or why it was dropped
 * @event:	VX_EVENT_* that the switch wants told, or 0
 * @event_address: What the event is about
 * @event_mac:	MAC the event is about
 */
struct vx_frame {
	uint8_t *data;
	uint32_t len;
	uint8_t *spare;
	struct vx_vnet vnet;
	uint16_t train;
	uint8_t from;
	uint8_t outer_tos;
	uint32_t from_id;
	uint8_t outer[VX_ADDR_LEN];
	uint16_t outer_port;
	uint64_t packet;

	struct vx_network *network;
	struct vx_port *port;
	struct vx_eth eth;
	uint32_t hash;
	uint32_t target;
	uint32_t copies;
	uint16_t segments;
	uint16_t fit;
	uint16_t answer;
	uint8_t scope;
	uint8_t act;
	uint8_t reason;
	uint8_t notes;
	uint8_t event;
	uint8_t event_mac[VX_MAC_LEN];
	uint8_t event_address[VX_ADDR_LEN];
};

static inline uint16_t vx_get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t vx_get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline uint64_t vx_get64(const uint8_t *p)
{
	return (uint64_t)vx_get32(p) << 32 | vx_get32(p + 4);
}

static inline void vx_put16(uint8_t *p, uint16_t value)
{
	p[0] = (uint8_t)(value >> 8);
	p[1] = (uint8_t)value;
}

static inline void vx_put32(uint8_t *p, uint32_t value)
{
	vx_put16(p, (uint16_t)(value >> 16));
	vx_put16(p + 2, (uint16_t)value);
}

static inline void vx_put64(uint8_t *p, uint64_t value)
{
	vx_put32(p, (uint32_t)(value >> 32));
	vx_put32(p + 4, (uint32_t)value);
}

/** vx_mac() - A MAC as a number, the form that tables use as key */
static inline uint64_t vx_mac(const uint8_t *mac)
{
	return (uint64_t)vx_get16(mac) << 32 | vx_get32(mac + 2);
}

static inline void vx_mac_put(uint8_t *mac, uint64_t value)
{
	vx_put16(mac, (uint16_t)(value >> 32));
	vx_put32(mac + 2, (uint32_t)value);
}

static inline bool vx_mac_is_group(const uint8_t *mac)
{
	return mac[0] & 1;
}

/** vx_addr_map4() - Write an IPv4 address as ::ffff:a.b.c.d, the form of every address inside */
static inline void vx_addr_map4(uint8_t *out, const uint8_t *ipv4)
{
	memset(out, 0, 10);
	out[10] = out[11] = 0xff;
	memcpy(out + 12, ipv4, 4);
}

static inline bool vx_addr_is4(const uint8_t *address)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	return memcmp(address, mapped, sizeof(mapped)) == 0;
}

/** struct vx_address - An address in the 16-byte form as two words, as they lie in memory: compared at once */
struct vx_address {
	uint64_t word[2];
};

static inline struct vx_address vx_address(const uint8_t *bytes)
{
	struct vx_address address;

	memcpy(address.word, bytes, sizeof(address.word));
	return address;
}

/** vx_address_ipv4() - What vx_addr_map4() would write, from four bytes */
static inline struct vx_address vx_address_ipv4(const uint8_t *ipv4)
{
	return (struct vx_address){ { 0, htobe64(0xffffull << 32 | vx_get32(ipv4)) } };
}

static inline bool vx_address_same(struct vx_address a, struct vx_address b)
{
	return !((a.word[0] ^ b.word[0]) | (a.word[1] ^ b.word[1]));
}

/* A forwarding value: kind, generation and id of its target in one word that is stored and loaded at once.
 * Kinds start at 1, so that no value is one of the two words that table.c keeps for itself (0 and 1).
 */
static inline uint64_t vx_value(unsigned kind, uint32_t id, uint32_t generation)
{
	return (uint64_t)kind << 56 | (uint64_t)(generation & 0xffffff) << 32 | id;
}

static inline unsigned vx_value_kind(uint64_t value)
{
	return (unsigned)(value >> 56);
}

static inline uint32_t vx_value_id(uint64_t value)
{
	return (uint32_t)value;
}

static inline uint32_t vx_value_generation(uint64_t value)
{
	return (uint32_t)(value >> 32) & 0xffffff;
}

/** vx_wire_bytes() - What a frame weighs on a wire: every segment of a super-frame has headers of its own */
static inline uint32_t vx_wire_bytes(const struct vx_frame *frame)
{
	return frame->len + (frame->segments > 1 ? (frame->segments - 1u) * frame->vnet.hdr_len : 0);
}

/** vx_may() - Whether an offload is in use. Any thread */
static inline bool vx_may(const _Atomic uint32_t *offloads, uint32_t bit)
{
	return atomic_load_explicit(offloads, memory_order_relaxed) & bit;
}

/** vx_refused() - The kernel refuses an offload: nobody uses it from now on. Return: whether it was in use */
static inline bool vx_refused(_Atomic uint32_t *offloads, uint32_t bit)
{
	return atomic_fetch_and_explicit(offloads, ~bit, memory_order_relaxed) & bit;
}

static inline void vx_drop(struct vx_frame *frame, enum vx_reason reason)
{
	frame->act = VX_ACT_DROP;
	frame->reason = (uint8_t)reason;
}

#endif
