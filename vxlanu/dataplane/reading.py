"""Reading the engine: counters, dumps and events become values.

Rules of this file
  1. Nothing here changes the engine.
  2. Ids become names by the maps that the caller passes; an id that nobody owns any more becomes None or an empty name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from vxlanu._native import ffi, lib
from vxlanu.dataplane.values import (
    Destination,
    Event,
    EventKind,
    FdbRow,
    NeighborRow,
    PortRef,
    SoftRow,
    Totals,
    Verdict,
    VtepRef,
    address_text,
    mac_text,
)

if TYPE_CHECKING:
    from vxlanu._native import Engine

DUMP_ROWS = 512  # rows per call of a dump: 16 KB, a few microseconds
EVENTS_PER_CALL = 256

_KINDS = {
    lib.VX_EVENT_PORT_GONE: EventKind.PORT_GONE,
    lib.VX_EVENT_PORT_CLOSED: EventKind.PORT_CLOSED,
    lib.VX_EVENT_FDB_MISS: EventKind.FDB_MISS,
    lib.VX_EVENT_NEIGHBOR_MISS: EventKind.NEIGHBOR_MISS,
    lib.VX_EVENT_MAC_LEARNED: EventKind.MAC_LEARNED,
    lib.VX_EVENT_MAC_PENDING: EventKind.MAC_PENDING,
    lib.VX_EVENT_MAC_CONFLICT: EventKind.MAC_CONFLICT,
    lib.VX_EVENT_PATH_MTU: EventKind.PATH_MTU,
    lib.VX_EVENT_ADDRESS_MOVED: EventKind.ADDRESS_MOVED,
    lib.VX_EVENT_VTEP_UNKNOWN: EventKind.VTEP_UNKNOWN,
    lib.VX_EVENT_SOCKET_ERROR: EventKind.SOCKET_ERROR,
    lib.VX_EVENT_VTEP_DEMOTED: EventKind.VTEP_DEMOTED,
    lib.VX_EVENT_INJECT_REFUSED: EventKind.INJECT_REFUSED,
    lib.VX_EVENT_PROBE: EventKind.PROBE,
}
_ACTS = {
    lib.VX_ACT_DROP: "drop",
    lib.VX_ACT_PORT: "port",
    lib.VX_ACT_VTEP: "vtep",
    lib.VX_ACT_FLOOD: "flood",
    lib.VX_ACT_REPLY: "reply",
    lib.VX_ACT_ABSORB: "absorb",
}
_SOFT = {lib.VX_SOFT_LEARNED: "learned", lib.VX_SOFT_PENDING: "pending", lib.VX_SOFT_BLOCKED: "blocked"}


def reason_name(reason: int) -> str:
    """The spelling of a drop reason."""
    return ffi.string(lib.vx_reason_name(reason)).decode()


REASONS = tuple(reason_name(number) for number in range(lib.vx_reason_count()))
REASON_TEXTS = {
    REASONS[number]: ffi.string(lib.vx_reason_text(number)).decode() for number in range(lib.vx_reason_count())
}


class Reader:
    """The reading half of an engine; buffers are made once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._counters = ffi.new("vx_counters *")
        self._events = ffi.new("vx_event[]", EVENTS_PER_CALL)
        self._fdb = ffi.new("vx_fdb_entry[]", DUMP_ROWS)
        self._neighbors = ffi.new("vx_neighbor[]", DUMP_ROWS)
        self._soft = ffi.new("vx_soft_entry[]", DUMP_ROWS)

    def totals(self, kind: int, index: int) -> Totals:
        """Counters of one thing; zeroes for one that is gone."""
        if lib.vx_counters_read(self._engine, kind, index, self._counters) < 0:
            return Totals()
        raw = self._counters
        drops = {REASONS[number]: raw.drops[number] for number in range(1, len(REASONS)) if raw.drops[number]}
        names = [name for name in Totals.__slots__ if name != "drops"]
        return Totals(**{name: int(getattr(raw, name)) for name in names}, drops=drops)

    def events(
        self, networks: Mapping[int, bytes], ports: Mapping[int, str], vteps: Mapping[int, VtepRef]
    ) -> list[Event]:
        """Everything that is waiting, oldest first."""
        found: list[Event] = []
        while count := lib.vx_engine_events(self._engine, self._events, EVENTS_PER_CALL):
            for raw in (self._events[number] for number in range(max(count, 0))):
                found.append(
                    Event(
                        kind=_KINDS[raw.kind],
                        network=networks.get(raw.network, b""),
                        endpoint=ports.get(raw.port, ""),
                        vtep=vteps.get(raw.vtep),
                        mac=mac_text(bytes(raw.mac)),
                        address=address_text(bytes(raw.address)),
                        reason=REASONS[raw.reason] if raw.reason else "",
                        value=raw.value,
                        lost=raw.lost,
                    )
                )
            if count < EVENTS_PER_CALL:
                break
        return found

    def trace(
        self, port: int, frame: bytes, ports: Mapping[int, PortRef], vteps: Mapping[int, VtepRef]
    ) -> Verdict:
        """What would become of a frame from a port; a drop as shutdown when there is no such port."""
        raw = ffi.new("vx_verdict *")
        if lib.vx_trace(self._engine, lib.VX_AT_PORT, port, frame, len(frame), raw) < 0:
            return Verdict("drop", "shutdown")
        act = _ACTS[raw.act]
        to: Destination | None = ports.get(raw.target) if act == "port" else None
        return Verdict(
            act=act,
            reason=REASONS[raw.reason] if raw.reason else "",
            to=vteps.get(raw.target) if act == "vtep" else to,
            copies=raw.copies,
            answered=bool(raw.answer),
        )

    def fdb(self, network: int, ports: Mapping[int, PortRef], vteps: Mapping[int, VtepRef]) -> list[FdbRow]:
        """One network's FDB, records only."""
        cursor, rows = ffi.new("uint64_t *"), []
        while (count := lib.vx_fdb_dump(self._engine, network, cursor, self._fdb, DUMP_ROWS)) > 0:
            for raw in (self._fdb[number] for number in range(count)):
                to: Destination | None = ports.get(raw.id) if raw.kind == lib.VX_AT_PORT else vteps.get(raw.id)
                rows.append(FdbRow(bytes(raw.mac).hex(":"), to))
        return rows

    def neighbors(self, network: int) -> list[NeighborRow]:
        """One network's neighbours."""
        cursor, rows = ffi.new("uint64_t *"), []
        while (count := lib.vx_neighbor_dump(self._engine, network, cursor, self._neighbors, DUMP_ROWS)) > 0:
            for raw in (self._neighbors[number] for number in range(count)):
                router = bool(raw.flags & lib.VX_NEIGHBOR_ROUTER)
                rows.append(NeighborRow(address_text(bytes(raw.address)), bytes(raw.mac).hex(":"), router))
        return rows

    def soft(self, network: int, vteps: Mapping[int, VtepRef]) -> list[SoftRow]:
        """One network's soft state."""
        cursor, rows = ffi.new("uint64_t *"), []
        while (count := lib.vx_soft_dump(self._engine, network, cursor, self._soft, DUMP_ROWS)) > 0:
            for raw in (self._soft[number] for number in range(count)):
                mac, kind = bytes(raw.mac).hex(":"), _SOFT[raw.kind]
                rows.append(SoftRow(mac, vteps.get(raw.vtep), kind, raw.left_ms / 1000))
        return rows
