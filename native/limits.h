/* limits.h - every limit of the fast path, each with its reason
 *
 * A number that a user can meet (a cap, a rate) is named in the sentence of its drop reason too.
 */
#ifndef VX_LIMITS_H
#define VX_LIMITS_H

/* How many there may be. Slot arrays are sized by these; untouched slots are untouched pages. */
#define VX_WORKERS_MAX		16	/* more workers than this share one memory controller anyway */
#define VX_PORTS_MAX		4096	/* containers of one host; Docker's own bridge stops at 1023 */
#define VX_NETWORKS_MAX		4096	/* networks with a local endpoint; each needs at least one port */
#define VX_VTEPS_MAX		16384	/* hosts of a cluster; a soft-state slot has 16 bits for the id */
#define VX_ALLOW_MAX		64	/* addresses and prefixes of one endpoint: scanned per frame */
#define VX_TABLE_MAX		(1u << 23) /* slots of one hash table: 1.6 M entries at the load that growth leaves */

/* The batch. 32 frames fill a sendmmsg well and keep a turn short enough for request-response traffic. */
#define VX_BATCH		32
#define VX_FRAME_MAX		65664	/* 64 KB super-frame, Ethernet and two VLAN tags, rounded to a cache line */
#define VX_HEADROOM		64	/* before each frame: VXLAN header (8), room for what a seal adds */
#define VX_SPARE_LEN		1344	/* an answer: an ICMPv6 error of 1280 bytes (RFC 4443), Ethernet, two tags */

/* Offloads */
#define VX_SEGMENTS_MAX		1820	/* of a super-frame: 64 KB at TCP_MIN_SND_MSS (48) less timestamps (12) */
#define VX_SEND_BYTES		65000	/* of one UDP_SEGMENT send: above it gso_features_check() cuts in software */
#define VX_GSO_HEADERS_MAX	320	/* Ethernet, tags, IPv6 with extension headers, TCP with options */
#define VX_GRO_CHAINS		64	/* flows that a receive batch merges at a time */
#define VX_GRO_ALIKE		128	/* bytes compared of frames that may follow each other: all headers */
#define VX_TRAIN_HEAD		128	/* of headers at most: two tags, IPv6, TCP with options */
#define VX_TRAIN_ROOM		(VX_TRAIN_HEAD + 65536) /* and an IP packet's payload, rounded up */
#define VX_TRAIN_ROOMS		2	/* as many trains as a receive batch is to bring: VX_RX_BYTES */
#define VX_TRAIN_GATHER		4096	/* payload of a frame up to which a copy costs less than a piece of a write */
#define VX_TRAIN_FRAMES		64	/* frames of one merged frame (kernel: UDP_GRO_CNT_MAX) */

/* A turn of one endpoint ends at whichever comes first, so that nobody starves the others. */
#define VX_VECTOR_BYTES		(48u * 1024) /* read before any leaves: one super-frame, still in the cache then */
#define VX_TURN_BYTES		(256u * 1024)
#define VX_SEGMENT_WEIGHT	512	/* bytes that a segment counts as at least: it is a send's work */
#define VX_TURN_NS		500000u	/* the receiver's whole stack runs inside our write to its TAP */
#define VX_TURN_COPIES		64	/* of a replicated frame; the rest waits for the next turn */
#define VX_FLOOD_JOBS		16	/* replications under way; with none free, TAPs are not read */
#define VX_FLOOD_JOBS_TUNNEL	8	/* of those, for what the tunnel brings to one network: others have the rest */

/* Transmit sockets give the underlay entropy (RFC 7348 section 5: source port by inner flow). */
#define VX_TX_SOCKETS_MAX	64
#define VX_TX_SOCKETS		16
#define VX_TX_PORT_MIN		49152
#define VX_TX_PORT_MAX		65535
#define VX_FLOW_FACTOR		0x9e3779b1u /* spreads what differs in the lowest bits over the highest (Fibonacci) */
#define VX_FLOW_BITS		6	/* of a flow's number that its source port tells: 4 to each of 16 workers */
#define VX_TX_QUEUE		128	/* messages per socket and flush: a turn of copies and a batch */
#define VX_TTL			64	/* where the kernel does not say what it sends with (RFC 1700) */
#define VX_TX_SENDS		128	/* of one sendmmsg, and datagrams of one send (UDP_MAX_SEGMENTS since 6.9) */
#define VX_TX_SENDS_OLD		63	/* datagrams of one send before 6.9: 64, but their headers count too */
#define VX_TX_RETRIES		4	/* after what may be an old ICMP error; but the first, deaf to new ones */
#define VX_TX_BUFFER		(4 << 20) /* the default of 208 KB is three super-datagrams */
#define VX_TX_RECEIVE_BUFFER	2304	/* nobody reads these sockets: the smallest the kernel allows */
#define VX_REFUSALS_MAX		16	/* frames in a row that the uplink TAP refuses: four turns, not one bad frame */
#define VX_RX_DATAGRAMS	16	/* of one recvmmsg() */
#define VX_RX_BYTES	(128u * 1024) /* of one recvmmsg(), about: two trains. 16 cost 7 to 14 % of bulk TCP */
#define VX_RX_BUFFER		(16u << 20) /* a burst of all peers while one write to a TAP is slow */

/* Looking on before a wait (spin.c) */
#define VX_SPIN_NS		100000u	/* what an answer takes where its own host has to be woken for it */
#define VX_SPIN_BYTES		4096	/* carried since the last wait, at most: requests and answers, not a stream */
#define VX_SPIN_TAKEN		16	/* waits that pass at least after somebody wanted the CPU */
#define VX_SPIN_TAKEN_MAX	1024	/* and at most: a delay of a whole time slice, for one frame in a thousand */

/* Storm control: copies caused by one endpoint, per second and at once. A host bridge's usual 1 000 per second. */
#define VX_STORM_RATE		1000
#define VX_STORM_BURST		2000

/* ICMP errors to one endpoint, per second and at once: enough for each new flow to be told, no amplifier */
#define VX_ANSWER_RATE		100
#define VX_ANSWER_BURST		200

/* Soft state */
#define VX_SOFT_SLOTS		4096	/* per network, 64 KB of address space */
#define VX_SOFT_WAY		8	/* slots probed: two cache lines */
#define VX_SOFT_PER_VTEP	1024	/* a foreign VTEP cannot push the others out */
#define VX_LEARNED_MS		300000	/* the kernel's FDB_AGE_DEFAULT */
#define VX_PENDING_MS		5000	/* gossip is slower than a first packet, but never that slow */
#define VX_BLOCKED_MS		60000	/* quiet for this long and a blocked MAC gets a new grace */

/* Events: enough for a burst of misses between two rounds of the event loop; one kind cannot fill the ring. */
#define VX_RING_SLOTS		1024
#define VX_EVENT_RATE		100	/* per second, worker and kind */
#define VX_EVENT_BURST		200

#define VX_STUCK_MS		250	/* a full socket that takes nothing for so long waits for ARP */
#define VX_GONE_MS		250	/* TAPs that are not read are looked at this often: gone shows in a second */
#define VX_IDLE_MS		1000	/* an idle worker beats its heart this often */
#define VX_PATH_MTU_MIN		576	/* RFC 791: an EMSGSIZE below this is not believed */

/* Captures */
#define VX_CAPTURES_MAX		4	/* at once; the low bits of vx_frame.packet have one for each */
#define VX_CAPTURE_RING		(4u << 20) /* per capture and worker: 20 ms of 1 000 000 small frames a second */
#define VX_CAPTURE_INTERFACES	8192	/* of one file: underlay, drops, and every endpoint that comes and goes */
#define VX_CAPTURE_LABEL	64	/* of an endpoint, in comments; longer names are cut */
#define VX_CAPTURE_PAUSE_NS	10000000 /* the writer looks this often: half a ring, and no delay that an eye sees */
#define VX_CAPTURE_NICE		10	/* of the writer: where there is no CPU for both, forwarding comes first */

#endif
