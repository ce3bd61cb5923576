"""The rungs of the ladder by name; native/vxlanu.cdef.h says what each bit stands for."""

from __future__ import annotations

from collections.abc import Iterable

from vxlanu._native import lib
from vxlanu.config import OFFLOADS

_BITS = {
    "vnet-hdr": lib.VX_OFFLOAD_VNET_HDR,
    "tso": lib.VX_OFFLOAD_TSO,
    "uso": lib.VX_OFFLOAD_USO,
    "udp-segment": lib.VX_OFFLOAD_UDP_SEGMENT,
    "udp-gro": lib.VX_OFFLOAD_UDP_GRO,
    "mq": lib.VX_OFFLOAD_MULTI_QUEUE,
    "steering": lib.VX_OFFLOAD_STEERING,
    "rcvbufforce": lib.VX_OFFLOAD_RCVBUFFORCE,
}
assert set(_BITS) == set(OFFLOADS) and sum(_BITS.values()) == lib.VX_OFFLOAD_ALL


def offload_bits(names: Iterable[str]) -> int:
    """VX_OFFLOAD_* of `names`."""
    return sum(_BITS[name] for name in set(names))


def offload_names(bits: int) -> frozenset[str]:
    """The inverse of `offload_bits`."""
    return frozenset(name for name, bit in _BITS.items() if bits & bit)
