"""`python -m benchmarks pcap [--size BYTES|imix|tso]... [OPTION...] [FILE...]`: `vxlanu bench pcap` over made captures.

Without FILE the captures are made, one for each --size: a number for UDP frames of so many bytes, `imix` for the simple
IMIX, `tso` for super-frames of 64 KB; all three kinds unless said. They are kept in the cache folder
(vxlanu/benchmarks in $XDG_CACHE_HOME or ~/.cache) and made once. All else is handed on; see `vxlanu bench pcap --help`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks.traffic import DEFAULTS, capture_of
from vxlanu.cli.main import main

__all__ = ["run"]


def run(arguments: Sequence[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__, add_help=False)
    parser.add_argument("bench", choices=["pcap"])
    parser.add_argument("--size", action="append", default=[])
    known, others = parser.parse_known_args(arguments)
    given = any(not word.startswith("-") for word in _without_values(others))
    try:
        made = [] if given else [str(capture_of(size)) for size in known.size or DEFAULTS]
    except ValueError as error:
        parser.error(str(error))
    return main(["bench", "pcap", *others, *made])


def _without_values(words: Sequence[str]) -> list[str]:
    """What is no option's value: --json and --help have none, and `--name=value` carries its own."""
    valued = {i + 1 for i, word in enumerate(words) if word.startswith("--") and "=" not in word}
    plain = {i + 1 for i, word in enumerate(words) if word in ("--json", "--help")}
    return [word for i, word in enumerate(words) if i not in valued - plain]


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
