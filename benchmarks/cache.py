"""Where benchmarks keep what is made once: captures, and the programs of meters."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """vxlanu/benchmarks in $XDG_CACHE_HOME or ~/.cache; made if it is not there."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vxlanu" / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
