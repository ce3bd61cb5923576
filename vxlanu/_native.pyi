"""The C boundary as Python sees it; native/vxlanu.cdef.h says what each call means.

Rules of this file
  1. One line per declaration of the cdef, in its order; tests/native/test_boundary.py compares the two.
  2. `vxlanu.dataplane` is the only importer.

A struct pointer made by `ffi.new("vx_event *")` and an element of `ffi.new("vx_event[]", n)` have the same attributes.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, Protocol, TypeVar, overload

_T = TypeVar("_T")

class Pointer(Protocol[_T]):
    def __getitem__(self, index: int) -> _T: ...
    def __setitem__(self, index: int, value: _T) -> None: ...

class Array(Protocol[_T]):
    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> _T: ...
    def __setitem__(self, index: int, value: _T) -> None: ...
    def __iter__(self) -> Iterator[_T]: ...

class Engine: ...
class Bench: ...
class CString: ...

class Config:
    address: Array[int] | bytes
    data_port: int
    workers: int
    tx_sockets: int
    offloads: int
    receive_bytes: int
    flags: int
    given: int
    receive_fds: Array[int] | list[int]

class Prefix:
    address: Array[int] | bytes
    length: int
    flags: int

class Member:
    vtep: int
    flags: int

class FdbEntry:
    mac: Array[int]
    kind: int
    id: int

class Neighbor:
    address: Array[int]
    mac: Array[int]
    flags: int

class SoftEntry:
    mac: Array[int]
    kind: int
    vtep: int
    left_ms: int

class PortInfo:
    network: int
    generation: int
    mtu: int
    flags: int
    state: int
    mac: Array[int]
    queues: int

class Event:
    time_ns: int
    kind: int
    worker: int
    network: int
    port: int
    vtep: int
    mac: Array[int]
    reason: int
    address: Array[int]
    value: int
    generation: int
    lost: int

class Counters:
    in_frames: int
    in_bytes: int
    out_frames: int
    out_bytes: int
    encapsulated: int
    decapsulated: int
    arp_answered: int
    nd_answered: int
    absorbed: int
    flooded: int
    arp_nd_underlay: int
    pending_passed: int
    reserved_bits: int
    events_lost: int
    sends_refused: int
    injected: int
    drops: Array[int]

class Verdict:
    reason: int
    act: int
    network: int
    target: int
    copies: int
    rewritten: int
    segments: int
    fit: int
    answer: int

class CaptureConfig:
    reasons: int
    frames_max: int
    fd: int
    snaplen: int
    flags: int
    directions: int

class CaptureInfo:
    frames: int
    lost: int
    ended: int
    spare: int

class BenchConfig:
    seed: int
    entries: int
    ports: int
    vteps: int
    mtu: int

class BenchCensus:
    bytes: int
    memory: int
    frames: int
    segments: int
    used: int
    arp_nd: int
    foreign: int
    plain: int
    merged: int
    wrong: int
    acts: Array[int]
    drops: Array[int]

_Fields = Mapping[str, int | bytes | Sequence[int]]

class FFI:
    NULL: None
    @overload
    def new(self, cdecl: Literal["vx_engine **"]) -> Pointer[Engine]: ...
    @overload
    def new(self, cdecl: Literal["vx_config *"], init: _Fields = ...) -> Config: ...
    @overload
    def new(self, cdecl: Literal["vx_prefix[]"], init: int | Sequence[_Fields]) -> Array[Prefix]: ...
    @overload
    def new(self, cdecl: Literal["vx_member[]"], init: int | Sequence[_Fields]) -> Array[Member]: ...
    @overload
    def new(self, cdecl: Literal["vx_fdb_entry[]"], init: int) -> Array[FdbEntry]: ...
    @overload
    def new(self, cdecl: Literal["vx_neighbor[]"], init: int) -> Array[Neighbor]: ...
    @overload
    def new(self, cdecl: Literal["vx_soft_entry[]"], init: int) -> Array[SoftEntry]: ...
    @overload
    def new(self, cdecl: Literal["vx_event[]"], init: int) -> Array[Event]: ...
    @overload
    def new(self, cdecl: Literal["vx_port_info *"]) -> PortInfo: ...
    @overload
    def new(self, cdecl: Literal["vx_counters *"]) -> Counters: ...
    @overload
    def new(self, cdecl: Literal["vx_verdict *"]) -> Verdict: ...
    @overload
    def new(self, cdecl: Literal["vx_capture_config *"], init: _Fields) -> CaptureConfig: ...
    @overload
    def new(self, cdecl: Literal["vx_capture_info *"]) -> CaptureInfo: ...
    @overload
    def new(self, cdecl: Literal["vx_bench **"]) -> Pointer[Bench]: ...
    @overload
    def new(self, cdecl: Literal["vx_bench_config *"], init: _Fields) -> BenchConfig: ...
    @overload
    def new(self, cdecl: Literal["vx_bench_census *"]) -> BenchCensus: ...
    @overload
    def new(self, cdecl: Literal["uint32_t[]"], init: Sequence[int]) -> Array[int]: ...
    @overload
    def new(self, cdecl: Literal["uint64_t *"], init: int = ...) -> Pointer[int]: ...
    @overload
    def new(self, cdecl: Literal["int[]"], init: int | Sequence[int]) -> Array[int]: ...
    def string(self, text: CString) -> bytes: ...
    def buffer(self, span: Array[int]) -> memoryview: ...

class Lib:
    VX_REASON_SLOTS: int
    VX_ENGINE_SAME_KERNEL: int
    VX_ENGINE_PIN: int
    VX_ENGINE_SPIN: int
    VX_OFFLOAD_VNET_HDR: int
    VX_OFFLOAD_TSO: int
    VX_OFFLOAD_USO: int
    VX_OFFLOAD_UDP_SEGMENT: int
    VX_OFFLOAD_UDP_GRO: int
    VX_OFFLOAD_MULTI_QUEUE: int
    VX_OFFLOAD_RCVBUFFORCE: int
    VX_OFFLOAD_STEERING: int
    VX_OFFLOAD_ALL: int
    VX_NETWORK_VLAN_PASS: int
    VX_NETWORK_IN_CONFLICT: int
    VX_PORT_ALLOW_SPOOF: int
    VX_PORT_ALLOW_SERVER: int
    VX_PORT_WRITE_QUEUE: int
    VX_PORT_UNICAST: int
    VX_PREFIX_FLOATING: int
    VX_VTEP_SAME_KERNEL: int
    VX_VTEP_DEMOTED: int
    VX_MEMBER_FLOOD: int
    VX_MEMBER_FOREIGN: int
    VX_AT_ENGINE: int
    VX_AT_PORT: int
    VX_AT_VTEP: int
    VX_AT_NETWORK: int
    VX_AT_WORKER: int
    VX_NEIGHBOR_ROUTER: int
    VX_PORT_UP: int
    VX_PORT_PARKED: int
    VX_EVENT_PORT_GONE: int
    VX_EVENT_PORT_CLOSED: int
    VX_EVENT_FDB_MISS: int
    VX_EVENT_NEIGHBOR_MISS: int
    VX_EVENT_MAC_LEARNED: int
    VX_EVENT_MAC_PENDING: int
    VX_EVENT_MAC_CONFLICT: int
    VX_EVENT_PATH_MTU: int
    VX_EVENT_ADDRESS_MOVED: int
    VX_EVENT_VTEP_UNKNOWN: int
    VX_EVENT_SOCKET_ERROR: int
    VX_EVENT_VTEP_DEMOTED: int
    VX_EVENT_PROBE: int
    VX_EVENT_INJECT_REFUSED: int
    VX_SOFT_LEARNED: int
    VX_SOFT_PENDING: int
    VX_SOFT_BLOCKED: int
    VX_ACT_DROP: int
    VX_ACT_PORT: int
    VX_ACT_VTEP: int
    VX_ACT_FLOOD: int
    VX_ACT_REPLY: int
    VX_ACT_ABSORB: int
    VX_CAPTURE_INNER: int
    VX_CAPTURE_OUTER: int
    VX_CAPTURE_LOST: int
    VX_CAPTURE_ALL: int
    VX_CAPTURE_TO: int
    VX_CAPTURE_FROM: int
    VX_BENCH_CARRY: int
    VX_BENCH_MIX: int
    VX_BENCH_SUPER: int
    VX_BENCH_COPY: int
    VX_BENCH_FILL: int
    VX_BENCH_ENCAPSULATE: int
    VX_BENCH_DECAPSULATE: int
    VX_BENCH_DECIDE: int
    VX_BENCH_CUT: int
    VX_BENCH_COALESCE: int
    VX_BENCH_OPERATIONS: int

    def vx_reason_count(self) -> int: ...
    def vx_reason_name(self, reason: int, /) -> CString: ...
    def vx_reason_text(self, reason: int, /) -> CString: ...
    def vx_engine_new(self, config: Config, engine: Pointer[Engine], /) -> int: ...
    def vx_engine_start(self, engine: Engine, /) -> int: ...
    def vx_engine_inject(self, engine: Engine, fd: int, /) -> int: ...
    def vx_engine_stop(self, engine: Engine, /) -> int: ...
    def vx_engine_free(self, engine: Engine, /) -> None: ...
    def vx_engine_workers(self, engine: Engine, /) -> int: ...
    def vx_engine_offloads(self, engine: Engine, /) -> int: ...
    def vx_engine_receive_bytes(self, engine: Engine, /) -> int: ...
    def vx_engine_receive_fd(self, engine: Engine, worker: int, /) -> int: ...
    def vx_engine_heartbeat(self, engine: Engine, worker: int, /) -> int: ...
    def vx_engine_reclaim(self, engine: Engine, /) -> int: ...
    def vx_engine_event_fd(self, engine: Engine, /) -> int: ...
    def vx_engine_events(self, engine: Engine, events: Array[Event], max: int, /) -> int: ...
    def vx_network_add(self, engine: Engine, vni: int, mtu: int, flags: int, /) -> int: ...
    def vx_network_flags(self, engine: Engine, network: int, flags: int, /) -> int: ...
    def vx_network_del(self, engine: Engine, network: int, /) -> int: ...
    def vx_network_vteps(self, engine: Engine, network: int, members: Array[Member], count: int, /) -> int: ...
    def vx_port_add(
        self,
        engine: Engine,
        network: int,
        mac: bytes,
        mtu: int,
        flags: int,
        fds: Array[int] | Sequence[int],
        count: int,
        /,
    ) -> int: ...
    def vx_port_allow(self, engine: Engine, port: int, prefixes: Array[Prefix], count: int, /) -> int: ...
    def vx_port_del(self, engine: Engine, port: int, /) -> int: ...
    def vx_port_info_get(self, engine: Engine, port: int, info: PortInfo, /) -> int: ...
    def vx_vtep_add(self, engine: Engine, address: bytes, data_port: int, flags: int, /) -> int: ...
    def vx_vtep_del(self, engine: Engine, vtep: int, /) -> int: ...
    def vx_vtep_path_mtu(self, engine: Engine, vtep: int, mtu: int, /) -> int: ...
    def vx_vtep_hop(self, engine: Engine, vtep: int, target: bytes | None, source: bytes | None, /) -> int: ...
    def vx_fdb_set(self, engine: Engine, network: int, mac: bytes, kind: int, id: int, /) -> int: ...
    def vx_fdb_del(self, engine: Engine, network: int, mac: bytes, /) -> int: ...
    def vx_fdb_dump(
        self, engine: Engine, network: int, cursor: Pointer[int], entries: Array[FdbEntry], max: int, /
    ) -> int: ...
    def vx_neighbor_set(self, engine: Engine, network: int, address: bytes, mac: bytes, flags: int, /) -> int: ...
    def vx_neighbor_del(self, engine: Engine, network: int, address: bytes, /) -> int: ...
    def vx_neighbor_dump(
        self, engine: Engine, network: int, cursor: Pointer[int], entries: Array[Neighbor], max: int, /
    ) -> int: ...
    def vx_soft_dump(
        self, engine: Engine, network: int, cursor: Pointer[int], entries: Array[SoftEntry], max: int, /
    ) -> int: ...
    def vx_counters_read(self, engine: Engine, kind: int, id: int, counters: Counters, /) -> int: ...
    def vx_trace(self, engine: Engine, kind: int, id: int, frame: bytes, length: int, verdict: Verdict, /) -> int: ...
    def vx_capture_new(self, engine: Engine, config: CaptureConfig, /) -> int: ...
    def vx_capture_block(self, engine: Engine, capture: int, blocks: bytes, length: int, /) -> int: ...
    def vx_capture_port(self, engine: Engine, capture: int, port: int, interface: int, label: bytes, /) -> int: ...
    def vx_capture_select(self, engine: Engine, capture: int, kind: int, id: int, selected: int, /) -> int: ...
    def vx_capture_start(self, engine: Engine, capture: int, /) -> int: ...
    def vx_capture_stop(self, engine: Engine, capture: int, /) -> int: ...
    def vx_capture_info_get(self, engine: Engine, capture: int, info: CaptureInfo, /) -> int: ...
    def vx_capture_free(self, engine: Engine, capture: int, /) -> int: ...
    def vx_ns_enter(self, fd: int, nstype: int, /) -> int: ...
    def vx_ns_new_net(self) -> int: ...
    def vx_ns_new_user_net(self) -> int: ...
    def vx_ns_owner(self, fd: int, /) -> int: ...
    def vx_ns_die_with_parent(self, parent: int, /) -> int: ...
    def vx_ns_watch_open(self) -> int: ...
    def vx_ns_watch_add(self, watch: int, path: bytes, mask: int, /) -> int: ...
    def vx_ns_watch_remove(self, watch: int, number: int, /) -> int: ...
    def vx_steer_program(self, workers: int, /) -> int: ...
    def vx_bench_new(self, config: BenchConfig, bench: Pointer[Bench], /) -> int: ...
    def vx_bench_free(self, bench: Bench, /) -> None: ...
    def vx_bench_load(
        self,
        bench: Bench,
        kind: int,
        frames: bytes,
        lengths: Array[int],
        count: int,
        wanted: int,
        census: BenchCensus,
        /,
    ) -> int: ...
    def vx_bench_run(self, bench: Bench, operation: int, passes: int, ns: Pointer[int], /) -> int: ...
    def vx_bench_compiler(self) -> CString: ...

ffi: FFI
lib: Lib
