"""Memory of a peer's own programs on both hosts together. What the kernel holds for it, nobody tells."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.meters import Inapplicable, Reading
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
        each = {pid: pss_of([pid]) / 2**20 for pid in with_children(path.processes)}
        return Reading(sum(each.values()), detail={"processes": each})
