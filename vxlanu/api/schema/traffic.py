"""Frames counted: what was carried, and what was dropped and why.

Rules: vxlanu/api/schema/__init__.py.
"""

from __future__ import annotations

from msgspec import Struct


class Counters(Struct):
    """Traffic of one thing: `scope` is host, network, endpoint, gateway or vtep; counted as the thing sees it."""

    scope: str
    name: str
    network: str = ""
    id: str = ""
    sent_frames: int = 0
    sent_bytes: int = 0
    received_frames: int = 0
    received_bytes: int = 0
    encapsulated_frames: int = 0
    decapsulated_frames: int = 0
    flooded_frames: int = 0
    arp_answered: int = 0
    nd_answered: int = 0
    arp_nd_underlay: int = 0
    dropped_frames: int = 0
    injected_frames: int = 0


class Drop(Struct):
    """Frames that were not delivered, under one reason; `text` is its sentence."""

    reason: str
    frames: int
    scope: str
    name: str
    network: str = ""
    text: str = ""
