/* vxlanu.cdef.h - the boundary between C and Python, read by cffi and by the compiler alike
 *
 * Rules of the boundary
 *   1. Only integers, spans and plain structs cross it; ids are small integers, never pointers; nothing calls back.
 *   2. Every function that can fail returns a negative errno; a returned id or count is >= 0.
 *   3. One thread at a time calls the functions that take an engine ("the writer"). None of them blocks, except
 *      vx_engine_stop() and vx_engine_free(), which wait for the workers' current turn (milliseconds).
 *   4. An address is 16 bytes: IPv6, or IPv4 as ::ffff:a.b.c.d. A MAC is 6 bytes. Prefix lengths count the 128 bits.
 *   5. Ids are reused only after vx_engine_reclaim() saw every worker pass; a generation in each forwarding value
 *      makes sure that a stale one cannot deliver to the new owner.
 * cffi reads this file without a preprocessor: no conditionals, no includes here.
 */

typedef struct vx_engine vx_engine;
typedef struct vx_bench vx_bench;

#define VX_REASON_SLOTS 40

/* vx_config.flags */
#define VX_ENGINE_SAME_KERNEL 1     /* as if every VTEP had it; set by itself on a veth or bridge underlay */
#define VX_ENGINE_PIN 2             /* each worker on a CPU of its own, where there are exactly as many */
#define VX_ENGINE_SPIN 4            /* they look on for a while before they sleep (native/spin.c) */

/* vx_config.offloads, vx_engine_offloads(): the rungs of the ladder */
#define VX_OFFLOAD_VNET_HDR 1       /* TAPs carry the virtio header: unfinished checksums, super-frames */
#define VX_OFFLOAD_TSO 2            /* TCP super-frames from and to TAPs; needs VNET_HDR */
#define VX_OFFLOAD_USO 4            /* UDP super-frames from and to TAPs; needs VNET_HDR */
#define VX_OFFLOAD_UDP_SEGMENT 8    /* many datagrams in one send */
#define VX_OFFLOAD_UDP_GRO 16       /* many datagrams in one receive */
#define VX_OFFLOAD_MULTI_QUEUE 32   /* a queue per worker in every TAP; without it a port is read by one worker */
#define VX_OFFLOAD_RCVBUFFORCE 64   /* receive buffers beyond net.core.rmem_max */
#define VX_OFFLOAD_STEERING 128     /* both directions of a flow on one worker; the caller steers the TAPs' queues */
#define VX_OFFLOAD_ALL 255

/* vx_network_add flags */
#define VX_NETWORK_VLAN_PASS 1      /* forward inner VLAN tags instead of dropping them */
#define VX_NETWORK_IN_CONFLICT 2    /* another network owns the VNI: keep the ports, drop their frames */

/* vx_port_add flags */
#define VX_PORT_ALLOW_SPOOF 1       /* no check of source MAC and addresses */
#define VX_PORT_ALLOW_SERVER 2      /* may send router advertisements and DHCP answers */
#define VX_PORT_WRITE_QUEUE 4       /* the last descriptor is a detached queue: all workers write by it, none reads */
#define VX_PORT_UNICAST 8           /* a gateway: gets nothing that everybody gets, and has nothing to tell everybody */

/* vx_prefix.flags */
#define VX_PREFIX_FLOATING 1        /* --allow-address: may move here by gratuitous ARP or NA, which makes an event */

/* vx_vtep_add flags */
#define VX_VTEP_SAME_KERNEL 1       /* reached over veth on this kernel: its inner checksums may be partial */
#define VX_VTEP_DEMOTED 2           /* UDP_SEGMENT fails towards it: one datagram per send. Set by itself */

/* vx_member.flags */
#define VX_MEMBER_FLOOD 1           /* gets broadcast and multicast */
#define VX_MEMBER_FOREIGN 2         /* not run by vxlanu: gets unknown unicast, ARP and ND too, and is learned from */

/* where a MAC is, and whose counters */
#define VX_AT_ENGINE 0
#define VX_AT_PORT 1
#define VX_AT_VTEP 2
#define VX_AT_NETWORK 3
#define VX_AT_WORKER 4

/* vx_neighbor.flags */
#define VX_NEIGHBOR_ROUTER 1        /* neighbour advertisements carry the R bit */

/* vx_port_info.state */
#define VX_PORT_UP 1
#define VX_PORT_PARKED 2            /* its descriptor died (event PORT_GONE); waits for vx_port_del() */

/* vx_event.kind */
#define VX_EVENT_PORT_GONE 1        /* port, value: errno; the namespace vanished. Once per port */
#define VX_EVENT_PORT_CLOSED 2      /* port: its descriptors are closed, nothing here pins its namespace any more */
#define VX_EVENT_FDB_MISS 3         /* network, port, mac: unknown destination */
#define VX_EVENT_NEIGHBOR_MISS 4    /* network, port, addr: asked for by ARP or ND, unknown */
#define VX_EVENT_MAC_LEARNED 5      /* network, vtep, mac: new or moved, from a foreign VTEP */
#define VX_EVENT_MAC_PENDING 6      /* network, vtep, mac: no record yet, passes for 5 s */
#define VX_EVENT_MAC_CONFLICT 7     /* network, vtep, mac, reason: vtep_mac or local_mac */
#define VX_EVENT_PATH_MTU 8         /* vtep, value: largest outer IP packet from now on */
#define VX_EVENT_ADDRESS_MOVED 9    /* network, port, mac, addr: announced within a floating prefix */
#define VX_EVENT_VTEP_UNKNOWN 10    /* network, addr: outer source that is no member */
#define VX_EVENT_SOCKET_ERROR 11    /* vtep, value: errno of a send */
#define VX_EVENT_VTEP_DEMOTED 12    /* vtep, value: errno of UDP_SEGMENT; one datagram per send from now on. Once */
#define VX_EVENT_PROBE 13           /* addr: outer source, value: token of a probe of the data port (probe.c) */
#define VX_EVENT_INJECT_REFUSED 14  /* vtep, value: errno of the last of VX_REFUSALS_MAX. Once per hop */

/* vx_soft_entry.kind */
#define VX_SOFT_LEARNED 1           /* from a foreign VTEP, 300 s */
#define VX_SOFT_PENDING 2           /* from a member, no record yet, passes */
#define VX_SOFT_BLOCKED 3           /* was pending, grace is over: dropped as mac_pending while it keeps sending */

/* vx_verdict.act */
#define VX_ACT_DROP 0
#define VX_ACT_PORT 1               /* to the port `target` */
#define VX_ACT_VTEP 2               /* to the VTEP `target` */
#define VX_ACT_FLOOD 3              /* to ports and VTEPs of the network */
#define VX_ACT_REPLY 4              /* ARP or ND answered: goes back where it came from */
#define VX_ACT_ABSORB 5             /* announcement that nobody needs */

/* vx_capture_config.flags */
#define VX_CAPTURE_INNER 1          /* frames as they cross the TAPs of selected ports */
#define VX_CAPTURE_OUTER 2          /* datagrams from and to the underlay */
#define VX_CAPTURE_LOST 4           /* frames that are not delivered */
#define VX_CAPTURE_ALL 8            /* everything is selected; inner frames still need an interface */

/* vx_capture_config.directions: of an endpoint, as pcapng numbers them */
#define VX_CAPTURE_TO 1
#define VX_CAPTURE_FROM 2

/* vx_bench_load() kind: what frames of a capture become; bench_load.c */
#define VX_BENCH_CARRY 1            /* unicast between endpoints of two hosts */
#define VX_BENCH_MIX 2              /* as they are */
#define VX_BENCH_SUPER 3            /* super-frames, as TAPs hand them over */

/* vx_bench_run() operation */
#define VX_BENCH_COPY 0             /* memcpy of the frames: a floor */
#define VX_BENCH_FILL 1             /* fill in vectors, decide nothing: another one */
#define VX_BENCH_ENCAPSULATE 2      /* of VX_BENCH_CARRY: the decision, from a TAP to the tunnel */
#define VX_BENCH_DECAPSULATE 3      /* of VX_BENCH_CARRY: the decision, from the tunnel to a TAP */
#define VX_BENCH_DECIDE 4           /* of VX_BENCH_MIX: the decision, whatever it is */
#define VX_BENCH_CUT 5              /* of VX_BENCH_SUPER: headers and checksums of all segments */
#define VX_BENCH_COALESCE 6         /* of VX_BENCH_SUPER: verify and merge what they were cut into */
#define VX_BENCH_OPERATIONS 7

typedef struct {
	uint8_t address[16];            /* advertised address: receive and transmit sockets bind to it */
	uint16_t data_port;             /* 4789 */
	uint16_t workers;               /* 0: one per CPU, up to 4 */
	uint16_t tx_sockets;            /* per worker; 0: 16 */
	uint16_t offloads;              /* VX_OFFLOAD_* that may be used; what the kernel refuses goes unused */
	uint32_t receive_bytes;         /* size wanted for each receive buffer; 0: 16 MiB */
	uint32_t flags;
	uint16_t given;                 /* receive sockets of an earlier run: 0, or one per worker */
	int32_t receive_fds[16];        /* those; duplicated, so they stay the caller's. VX_WORKERS_MAX */
} vx_config;

typedef struct {
	uint8_t address[16];
	uint8_t length;                 /* of 128 bits: an IPv4 /24 is 120 */
	uint8_t flags;
} vx_prefix;

typedef struct {
	uint32_t vtep;
	uint32_t flags;
} vx_member;

typedef struct {
	uint8_t mac[6];
	uint16_t kind;                  /* VX_AT_PORT or VX_AT_VTEP */
	uint32_t id;
} vx_fdb_entry;

typedef struct {
	uint8_t address[16];
	uint8_t mac[6];
	uint16_t flags;
} vx_neighbor;

typedef struct {
	uint8_t mac[6];
	uint16_t kind;
	uint32_t vtep;
	uint32_t left_ms;               /* until it expires (pending: until it is blocked) */
} vx_soft_entry;

typedef struct {
	uint32_t network;
	uint32_t generation;
	uint32_t mtu;
	uint32_t flags;
	uint32_t state;
	uint8_t mac[6];
	uint16_t queues;                /* that are read */
} vx_port_info;

typedef struct {
	uint64_t time_ns;               /* CLOCK_MONOTONIC */
	uint16_t kind;
	uint16_t worker;
	uint32_t network;               /* an id that does not apply is 0xffffffff */
	uint32_t port;
	uint32_t vtep;
	uint8_t mac[6];
	uint16_t reason;
	uint8_t address[16];
	uint64_t value;
	uint32_t generation;            /* of the port, so that an event about its predecessor is recognised */
	uint32_t lost;                  /* events that did not fit the ring since the one before this */
} vx_event;

/* "in" is from the port or VTEP into the switch, "out" is from the switch to it. */
typedef struct {
	uint64_t in_frames;
	uint64_t in_bytes;
	uint64_t out_frames;
	uint64_t out_bytes;
	uint64_t encapsulated;          /* datagrams handed to the underlay */
	uint64_t decapsulated;          /* datagrams with a whole VXLAN header and a known network */
	uint64_t arp_answered;
	uint64_t nd_answered;
	uint64_t absorbed;              /* what nobody needs (proxy.c), and probes (probe.c) */
	uint64_t flooded;               /* copies made of broadcast, multicast and unknown unicast */
	uint64_t arp_nd_underlay;       /* ARP, NS and NA that crossed the underlay, either direction */
	uint64_t pending_passed;        /* frames that passed although their MAC had no record yet */
	uint64_t reserved_bits;         /* VXLAN headers with bits that RFC 7348 reserves */
	uint64_t events_lost;
	uint64_t sends_refused;         /* of several datagrams at once: made again one by one */
	uint64_t injected;              /* of encapsulated: left uncut, by the uplink TAP (uplink.c) */
	uint64_t drops[40];             /* by reason; VX_REASON_SLOTS */
} vx_counters;

typedef struct {
	uint32_t reason;
	uint32_t act;
	uint32_t network;
	uint32_t target;
	uint32_t copies;                /* of a flood: ports and VTEPs that get one */
	uint32_t rewritten;             /* length of the frame as it leaves, without tunnel headers */
	uint32_t segments;              /* frames of a wire that it stands for */
	uint32_t fit;                   /* not 0: is fragmented to inner packets of this size */
	uint32_t answer;                /* not 0: length of the ICMP error that its sender gets */
} vx_verdict;

typedef struct {
	uint64_t reasons;               /* bit i: drops for reason i */
	uint64_t frames_max;            /* ends after that many; 0: no limit */
	int32_t fd;                     /* pcapng goes there; belongs to the engine once vx_capture_new() succeeded */
	uint32_t snaplen;               /* 0: frames are kept whole */
	uint32_t flags;                 /* VX_CAPTURE_INNER, OUTER, LOST, ALL */
	uint32_t directions;            /* VX_CAPTURE_TO, VX_CAPTURE_FROM */
} vx_capture_config;

typedef struct {
	uint64_t frames;                /* written */
	uint64_t lost;                  /* did not fit a ring */
	uint32_t ended;                 /* all is written, the descriptor is closed */
	uint32_t spare;
} vx_capture_info;

typedef struct {
	uint64_t seed;                  /* of MACs, and of who sends to whom */
	uint32_t entries;               /* MACs behind other hosts */
	uint32_t ports;                 /* endpoints of this host */
	uint32_t vteps;                 /* other hosts */
	uint32_t mtu;                   /* that super-frames are cut to */
} vx_bench_config;

typedef struct {
	uint64_t bytes;                 /* of a pass: of Ethernet frames, super-frames as their segments */
	uint64_t memory;                /* what the frames take with their head-room */
	uint32_t frames;                /* of a pass */
	uint32_t segments;              /* frames of a wire that they stand for */
	uint32_t used;                  /* of those given; the rest of @frames are copies */
	uint32_t arp_nd;                /* left out of carry: ARP and ND, which would ask for MACs that we replaced */
	uint32_t foreign;               /* left out of a mix: between two other hosts */
	uint32_t plain;                 /* left out of super-frames: one segment, or not TCP */
	uint32_t merged;                /* super-frames whose segments became the super-frame again */
	uint32_t wrong;                 /* with -EILSEQ: index of the frame */
	uint32_t acts[6];               /* of a mix, by VX_ACT_* */
	uint32_t drops[40];             /* by reason: of a mix decided so, else left out for it; VX_REASON_SLOTS */
} vx_bench_census;

/* reasons */
int vx_reason_count(void);
const char *vx_reason_name(int reason);
const char *vx_reason_text(int reason);

/* life of the engine; vx_engine_new() opens and binds all sockets, nothing runs until vx_engine_start() */
int vx_engine_new(const vx_config *config, vx_engine **engine);
int vx_engine_start(vx_engine *engine);
int vx_engine_inject(vx_engine *engine, int fd);    /* the uplink TAP, which it takes; -EBUSY once it runs or has one */
int vx_engine_stop(vx_engine *engine);
void vx_engine_free(vx_engine *engine);
int vx_engine_workers(const vx_engine *engine);
int vx_engine_offloads(const vx_engine *engine);                    /* VX_OFFLOAD_* in use */
int vx_engine_receive_bytes(const vx_engine *engine);               /* of each receive buffer, as the kernel gave it */
int vx_engine_receive_fd(const vx_engine *engine, int worker);      /* its receive socket, to hand over; stays ours */
uint64_t vx_engine_heartbeat(const vx_engine *engine, int worker);
int vx_engine_reclaim(vx_engine *engine); /* once a second: frees, sweeps soft state; returns what is left to free */
int vx_engine_event_fd(const vx_engine *engine);
int vx_engine_events(vx_engine *engine, vx_event *events, int max);

/* networks */
int vx_network_add(vx_engine *engine, uint32_t vni, uint32_t mtu, uint32_t flags);
int vx_network_flags(vx_engine *engine, int network, uint32_t flags); /* replaces; -EEXIST: VNI not free */
int vx_network_del(vx_engine *engine, int network);                 /* -EBUSY while it has ports */
int vx_network_vteps(vx_engine *engine, int network, const vx_member *members, int count);  /* replaces the set */

/* ports: the descriptors belong to the engine once vx_port_add() succeeded. There is one for each worker, or one alone
 * (a TAP without IFF_MULTI_QUEUE), which one worker reads and all of them write; VX_PORT_WRITE_QUEUE adds another */
int vx_port_add(vx_engine *engine, int network, const uint8_t *mac, uint32_t mtu, uint32_t flags,
		const int *fds, int count);
int vx_port_allow(vx_engine *engine, int port, const vx_prefix *prefixes, int count);       /* replaces the set */
int vx_port_del(vx_engine *engine, int port);
int vx_port_info_get(const vx_engine *engine, int port, vx_port_info *info);

/* VTEPs: one per outer address */
int vx_vtep_add(vx_engine *engine, const uint8_t *address, uint16_t data_port, uint32_t flags);
int vx_vtep_del(vx_engine *engine, int vtep);                       /* -EBUSY while a network has it as a member */
int vx_vtep_path_mtu(vx_engine *engine, int vtep, uint32_t mtu); /* mtu 0 only reads; returns the value, 0: no limit */

int vx_vtep_hop(vx_engine *engine, int vtep, const uint8_t *target, const uint8_t *source); /* MACs; NULL: unknown */

/* forwarding records */
int vx_fdb_set(vx_engine *engine, int network, const uint8_t *mac, int kind, int id);
int vx_fdb_del(vx_engine *engine, int network, const uint8_t *mac);
int vx_fdb_dump(const vx_engine *engine, int network, uint64_t *cursor, vx_fdb_entry *entries, int max);
int vx_neighbor_set(vx_engine *engine, int network, const uint8_t *address, const uint8_t *mac, uint32_t flags);
int vx_neighbor_del(vx_engine *engine, int network, const uint8_t *address);
int vx_neighbor_dump(const vx_engine *engine, int network, uint64_t *cursor, vx_neighbor *entries, int max);
int vx_soft_dump(const vx_engine *engine, int network, uint64_t *cursor, vx_soft_entry *entries, int max);

/* looking in */
int vx_counters_read(const vx_engine *engine, int kind, int id, vx_counters *counters);
int vx_trace(vx_engine *engine, int kind, int id, const uint8_t *frame, int length, vx_verdict *verdict);

/* captures (recorder.c): interface 0 is the underlay, 1 are the drops, a port's number is the caller's choice */
int vx_capture_new(vx_engine *engine, const vx_capture_config *config);         /* takes no frames yet */
int vx_capture_block(vx_engine *engine, int capture, const uint8_t *bytes, int length); /* finished pcapng blocks */
int vx_capture_port(vx_engine *engine, int capture, int port, int interface, const char *label); /* 0: no longer */
int vx_capture_select(vx_engine *engine, int capture, int kind, int id, int selected);  /* VX_AT_VTEP, _NETWORK */
int vx_capture_start(vx_engine *engine, int capture);
int vx_capture_stop(vx_engine *engine, int capture);                /* writes what it has, then closes the fd */
int vx_capture_info_get(const vx_engine *engine, int capture, vx_capture_info *info);
int vx_capture_free(vx_engine *engine, int capture);                /* gone after a later vx_engine_reclaim() */

/* namespaces: system calls that Python 3.11 lacks; contracts in ns.c */
int vx_ns_enter(int fd, int nstype);
int vx_ns_new_net(void);
int vx_ns_new_user_net(void);
int vx_ns_owner(int fd);
int vx_ns_die_with_parent(int parent);
int vx_ns_watch_open(void);
int vx_ns_watch_add(int watch, const char *path, uint32_t mask);
int vx_ns_watch_remove(int watch, int number);
int vx_steer_program(int workers);      /* for TUNSETSTEERINGEBPF: picks a TAP's queue; contract in steer.c */

/* frames of a capture through the rooms of the fast path, in memory and timed; contracts in bench.c, bench_load.c */
int vx_bench_new(const vx_bench_config *config, vx_bench **bench);
void vx_bench_free(vx_bench *bench);
int vx_bench_load(vx_bench *bench, int kind, const uint8_t *frames, const uint32_t *lengths, uint32_t count,
		  uint32_t wanted, vx_bench_census *census);
int vx_bench_run(vx_bench *bench, int operation, uint32_t passes, uint64_t *ns);
const char *vx_bench_compiler(void);    /* what the fast path was compiled with */
