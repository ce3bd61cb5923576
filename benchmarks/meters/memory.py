"""Memory of a peer's own programs on both hosts together. What the kernel holds for it, nobody tells."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.meters import Inapplicable, MeterFailed, Reading
from benchmarks.meters.processes import pss_of, with_children
from benchmarks.scene import Path

__all__ = ["Memory"]


@dataclass(frozen=True, slots=True)
class Memory:
    """Proportional set size: what several processes share is divided between them."""

    name = "memory"
    title = "memory of both hosts' programs"
    unit = "MiB"
    higher_is_better = False

    def read(self, path: Path) -> Reading:
        if not path.processes:
            raise Inapplicable("no programs of its own: it is the kernel's")
        each = {pid: octets / 2**20 for pid, octets in pss_of(with_children(path.processes)).items()}
        if gone := set(path.processes) - each.keys():
            raise MeterFailed(f"{path.peer}: processes {', '.join(map(str, sorted(gone)))} have ended")
        return Reading(sum(each.values()), detail={"processes": each})
