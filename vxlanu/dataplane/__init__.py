"""The fast path as Python objects: names and values here, small integer ids and structs in C.

Files
  values   what the tables hold, as values that can be compared: no C type leaves this package
  engine   life of the engine, networks, ports, VTEPs and the forwarding tables: `Dataplane`
  reading  counters, dumps and events, turned into values

Only this package imports `vxlanu._native`. One thread (the agent's loop) calls it; no call blocks but `stop`.
"""

from vxlanu.dataplane.engine import Dataplane, PortHeld, SocketsStale
from vxlanu.dataplane.values import (
    Destination,
    Event,
    EventKind,
    FdbRow,
    Member,
    NeighborRow,
    NetworkConfig,
    PortConfig,
    PortRef,
    SoftRow,
    Totals,
    Verdict,
    VtepRef,
)

__all__ = [
    "Dataplane",
    "Destination",
    "Event",
    "EventKind",
    "FdbRow",
    "Member",
    "NeighborRow",
    "NetworkConfig",
    "PortConfig",
    "PortHeld",
    "PortRef",
    "SocketsStale",
    "SoftRow",
    "Totals",
    "Verdict",
    "VtepRef",
]
