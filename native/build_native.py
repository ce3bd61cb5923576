"""Builds vxlanu._native: cffi in API mode, one abi3 module for every CPython from 3.11 on.

Rules of this file
  1. setup.py names `ffibuilder`; nobody imports this file.
  2. The cdef is native/vxlanu.cdef.h: C and Python read the same text.
  3. Flags are portable: no -march, no library beyond libc. -fno-strict-aliasing is not optional (see native/csum.c).
"""

from pathlib import Path

from cffi import FFI

HERE = Path("native")

PURE = ("vxlan", "eth", "arp", "nd", "ecn", "csum", "probe", "gso", "partial", "train", "gro", "toobig", "burst")
TABLES = ("qsbr", "table", "soft", "storm", "flood", "fdb", "nbr", "net")
DECISION = ("guard", "proxy", "switch")
WIRE = ("tap", "sock", "steer", "receive", "inject", "uplink", "transmit")
CAPTURE = ("capture", "pcapng", "recorder")
MOTION = ("ring", "stats", "spin", "local", "remote", "deliver", "worker", "engine", "boundary", "ns")
BENCH = ("bench", "bench_load", "bench_run")

COMPILE_ARGS = [
    "-std=gnu11",
    "-O3",
    "-flto=auto",  # the rooms are small files: without it no function of one is ever inlined into another
    "-fno-strict-aliasing",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-Wconversion",
    f"-iquote{HERE}",  # not -I: native/limits.h must not stand in for the C library's
]


def boundary() -> str:
    """The cdef; cffi resolves no constant in an array length, so vx_counters.drops says 40 literally."""
    return (Path(__file__).parent / "vxlanu.cdef.h").read_text(encoding="utf-8")


ffibuilder = FFI()
ffibuilder.cdef(boundary())
ffibuilder.set_source(
    "vxlanu._native",
    '#include "vx.h"\n',
    sources=[str(HERE / f"{name}.c") for name in PURE + TABLES + DECISION + WIRE + CAPTURE + MOTION + BENCH],
    depends=[str(path) for path in sorted(HERE.glob("*.h"))],
    define_macros=[("VX_BUILD_OPTIONS", '"' + " ".join(COMPILE_ARGS) + '"')],
    extra_compile_args=COMPILE_ARGS,
    extra_link_args=["-O3", "-flto=auto"],
    libraries=["pthread"],
    py_limited_api=True,
)
