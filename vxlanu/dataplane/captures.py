"""`Capture`: the fast path's side of a capture.

Rules of this file
  1. A capture that was made is closed by whoever made it: `close` may be called at any time and more than once.
  2. The descriptor belongs to the engine once the capture is made, else it stays the caller's.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vxlanu._native import ffi, lib
from vxlanu.dataplane.reading import REASONS

if TYPE_CHECKING:
    from vxlanu._native import Engine

__all__ = ["CAPTURES_MAX", "FIRST_INTERFACE", "INTERFACES_MAX", "Capture", "CaptureConfig", "Captured"]

FIRST_INTERFACE = 2  # of an endpoint; before it come the underlay and the drops
CAPTURES_MAX = 4  # VX_CAPTURES_MAX
INTERFACES_MAX = 8192  # VX_CAPTURE_INTERFACES


@dataclass(frozen=True, slots=True)
class CaptureConfig:
    """What is kept. No reasons: all of them; `everything`: without regard to what is selected."""

    inner: bool = True
    outer: bool = False
    drops: bool = True
    everything: bool = True
    directions: frozenset[str] = frozenset(("in", "out"))
    reasons: frozenset[str] = frozenset()
    frames_max: int = 0
    snaplen: int = 0


@dataclass(frozen=True, slots=True)
class Captured:
    """How far a capture is."""

    frames: int
    lost: int
    ended: bool


class Capture:
    """One capture of an engine. `block`, `port`, `network` and `vtep` may be called before and after `start`."""

    def __init__(self, engine: Engine, config: CaptureConfig, fd: int) -> None:
        """Make it; OSError(EBUSY) when there are too many."""
        self._engine = engine
        self._open = True
        wanted = [n for n, name in enumerate(REASONS) if not config.reasons or name in config.reasons]
        raw = ffi.new(
            "vx_capture_config *",
            {
                "fd": fd,
                "flags": _flags(config),
                "directions": _directions(config.directions),
                "reasons": sum(1 << number for number in wanted),
                "frames_max": config.frames_max,
                "snaplen": config.snaplen,
            },
        )
        self._id = _checked(lib.vx_capture_new(engine, raw))

    def block(self, blocks: bytes) -> None:
        """Finished blocks that come before what is captured from now on."""
        _checked(lib.vx_capture_block(self._engine, self._id, blocks, len(blocks)))

    def port(self, index: int, interface: int, label: str) -> None:
        """Select a port as that interface; 0: no longer."""
        _checked(lib.vx_capture_port(self._engine, self._id, index, interface, label.encode()))

    def network(self, index: int, selected: bool = True) -> None:
        """Select a network."""
        _checked(lib.vx_capture_select(self._engine, self._id, lib.VX_AT_NETWORK, index, selected))

    def vtep(self, index: int, selected: bool = True) -> None:
        """Select a VTEP."""
        _checked(lib.vx_capture_select(self._engine, self._id, lib.VX_AT_VTEP, index, selected))

    def start(self) -> None:
        """Let frames in."""
        _checked(lib.vx_capture_start(self._engine, self._id))

    def stop(self) -> None:
        """Let no more frames in; what there is is written, then the descriptor is closed."""
        if self._open:
            _checked(lib.vx_capture_stop(self._engine, self._id))

    def captured(self) -> Captured:
        """How far it is."""
        raw = ffi.new("vx_capture_info *")
        _checked(lib.vx_capture_info_get(self._engine, self._id, raw))
        return Captured(raw.frames, raw.lost, bool(raw.ended))

    def close(self) -> None:
        """End it at once; its memory is freed by the engine's housekeeping."""
        if self._open:
            self._open = False
            lib.vx_capture_free(self._engine, self._id)


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(-result, f"capture: {os.strerror(-result)}")
    return result


def _flags(config: CaptureConfig) -> int:
    flags = lib.VX_CAPTURE_INNER if config.inner else 0
    flags |= lib.VX_CAPTURE_OUTER if config.outer else 0
    flags |= lib.VX_CAPTURE_LOST if config.drops else 0
    return flags | (lib.VX_CAPTURE_ALL if config.everything else 0)


def _directions(directions: Iterable[str]) -> int:
    told = set(directions)
    return (lib.VX_CAPTURE_TO if "in" in told else 0) | (lib.VX_CAPTURE_FROM if "out" in told else 0)
