"""The bench of the fast path: two hosts in memory, frames between them, and how long passes take.

Rules of this file
  1. Ids and structs of C become names and values; nothing is measured or decided here.
  2. Every call gives the interpreter lock back while it runs, so that a thread can show progress.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from vxlanu._native import ffi, lib

__all__ = ["Bench", "Census", "Differs", "Kind", "Operation", "Tables", "compiler"]

_ACTS = {
    lib.VX_ACT_PORT: "to a port",
    lib.VX_ACT_VTEP: "to a VTEP",
    lib.VX_ACT_FLOOD: "flooded",
    lib.VX_ACT_REPLY: "answered",
    lib.VX_ACT_ABSORB: "absorbed",
}


class Differs(Exception):
    """A frame came out otherwise than it went in, or a pass decided otherwise than the one before."""


class Kind(Enum):
    """What frames of a capture become."""

    CARRY = lib.VX_BENCH_CARRY
    MIX = lib.VX_BENCH_MIX
    SUPER = lib.VX_BENCH_SUPER


class Operation(Enum):
    """What a pass does with them."""

    COPY = lib.VX_BENCH_COPY
    FILL = lib.VX_BENCH_FILL
    ENCAPSULATE = lib.VX_BENCH_ENCAPSULATE
    DECAPSULATE = lib.VX_BENCH_DECAPSULATE
    DECIDE = lib.VX_BENCH_DECIDE
    CUT = lib.VX_BENCH_CUT
    COALESCE = lib.VX_BENCH_COALESCE


@dataclass(frozen=True, slots=True)
class Tables:
    """How much both hosts know: `entries` MACs behind `vteps` other hosts, `ports` endpoints here."""

    entries: int
    ports: int
    vteps: int
    mtu: int = 1450
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Census:
    """What became of the frames that were loaded."""

    frames: int
    """Of a pass; copies of a small capture too."""
    segments: int
    """Frames of a wire that they stand for."""
    octets: int
    memory: int
    used: int
    """Of those that were given."""
    merged: int
    """Super-frames whose segments were merged to the super-frame again, byte for byte."""
    left_out: dict[str, int] = field(default_factory=dict)
    decided: dict[str, int] = field(default_factory=dict)


def compiler() -> str:
    """What the fast path was compiled with, and how."""
    return ffi.string(lib.vx_bench_compiler()).decode()


class Bench:
    """Two hosts. `close` frees them; as a context it does so by itself."""

    def __init__(self, tables: Tables) -> None:
        """Fill the tables; a million entries take half a second.

        Raises:
            OSError: EINVAL for tables that the fast path cannot have, ENOMEM.
        """
        made = ffi.new("vx_bench **")
        fields = {name: getattr(tables, name) for name in ("seed", "entries", "ports", "vteps", "mtu")}
        self._checked(lib.vx_bench_new(ffi.new("vx_bench_config *", fields), made), f"a bench with {tables}")
        self._bench = made[0]
        self._ns = ffi.new("uint64_t *")

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the memory. No other call may follow."""
        lib.vx_bench_free(self._bench)

    def load(self, kind: Kind, frames: Sequence[bytes], wanted: int) -> Census:
        """Put frames in, in place of those before, each checked; copies until there are `wanted`.

        Raises:
            Differs: a frame came out otherwise than it went in.
            OSError: ENOMEM; EINVAL for no frames.
        """
        found = ffi.new("vx_bench_census *")
        lengths = ffi.new("uint32_t[]", [len(frame) for frame in frames])
        result = lib.vx_bench_load(self._bench, kind.value, b"".join(frames), lengths, len(frames), wanted, found)
        if result == -errno.EILSEQ:
            raise Differs(f"frame {found.wrong + 1} of {len(frames)} ({kind.name.lower()})")
        self._checked(result, "frames of a bench")
        drops = {
            ffi.string(lib.vx_reason_name(reason)).decode(): number
            for reason, number in enumerate(found.drops)
            if number
        }
        acts = {name: found.acts[act] for act, name in _ACTS.items() if found.acts[act]}
        others = {
            "arp_nd": found.arp_nd,
            "between_other_hosts": found.foreign,
            "no_super_frame": found.plain,
        }
        left_out = {name: number for name, number in others.items() if number}
        return Census(
            found.frames,
            found.segments,
            found.bytes,
            found.memory,
            found.used,
            found.merged,
            left_out if kind is Kind.MIX else left_out | drops,
            acts | {f"dropped: {name}": number for name, number in drops.items()} if kind is Kind.MIX else {},
        )

    def run(self, operation: Operation, passes: int = 1) -> int:
        """Nanoseconds that so many passes over all frames took.

        Raises:
            Differs: a pass decided otherwise than the first.
        """
        result = lib.vx_bench_run(self._bench, operation.value, passes, self._ns)
        if result == -errno.EILSEQ:
            raise Differs(f"two passes of {operation.name.lower()}")
        self._checked(result, f"passes of {operation.name.lower()}")
        return self._ns[0]

    @staticmethod
    def _checked(result: int, what: str) -> None:
        if result < 0:
            raise OSError(-result, f"{what}: {os.strerror(-result)}")
