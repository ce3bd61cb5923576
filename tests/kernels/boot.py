"""Run tests on other kernels: fetch or find each one, boot it, run pytest inside, tell how it went.

    tests/kernels/run [--minutes N] [--accel auto|kvm|tcg] [--cache DIR] [--systemd] [KERNEL]... [-- PYTEST ARGUMENT...]

KERNEL is a name of catalog.py (without one: all of them), a Debian package (linux-image-...) of this machine's sources,
or a folder with boot/vmlinuz-VERSION and lib/modules/VERSION. Without pytest arguments the fixed selection below runs;
with --systemd the guest's process 1 is systemd, and that is the tests of our unit.
Exit code: 0 when every kernel passed, 1 when a test failed, 70 when a kernel could not be had, booted or finished.
"""

from __future__ import annotations

import argparse
import compileall
import os
import shlex
import shutil
import sys
import time
from pathlib import Path

from kernels import initramfs, machine
from kernels.catalog import KERNELS, Image, NoKernel, fetch, fetch_package, unpacked

ROOT = Path(__file__).resolve().parents[2]
# What leans on the kernel most: its TAPs, its sockets, its vxlan, and the whole path end to end.
SELECTION = (
    "tests/assumptions",
    "tests/native/test_engine.py",
    "tests/interop/test_kernel_vxlan.py",
    "tests/netns/test_overlay.py",
    "tests/netns/test_ladder.py",
)
UNIT_TESTS = ("tests/kernels/units.py",)  # not test_*.py, since `make test` has no systemd to stop and start things of
MINUTES = {"kvm": 60.0, "tcg": 240.0}  # of a kernel's whole selection; on an idle machine a third of it is enough
PYTEST_TIMEOUT_S = 1800  # of one test: an emulated processor is ten to twenty times slower
PASSED_ON = ("VXLANU_", "HYPOTHESIS_", "PYTEST_")


def arguments(words: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Our own options and kernels, and what follows `--` for pytest."""
    cut = words.index("--") if "--" in words else len(words)
    names = ", ".join(f"{kernel.name} ({kernel.why})" for kernel in KERNELS)
    parser = argparse.ArgumentParser(prog="tests/kernels/run", description=f"Kernels: {names}.")
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help="a name, a package, or a folder")
    parser.add_argument("--minutes", type=float, help="a kernel's whole time (default 60, emulated 240)")
    parser.add_argument("--accel", choices=("auto", "kvm", "tcg"), default="auto")
    parser.add_argument("--cache", type=Path, default=ROOT / "build/kernels", help="downloads and results")
    parser.add_argument("--systemd", action="store_true", help="boot systemd, and test the unit")
    asked = parser.parse_args(words[:cut])
    asked.kernels = asked.kernels or [kernel.name for kernel in KERNELS]
    return asked, words[cut + 1 :]


def pytest_arguments(given: list[str], selection: tuple[str, ...] = SELECTION) -> list[str]:
    chosen = given or [path for path in selection if (ROOT / path).exists()]
    return ["-v", "--timeout", str(PYTEST_TIMEOUT_S), *chosen]


def image(name: str, cache: Path) -> Image:
    """The kernel that `name` means."""
    if "/" in name:
        return unpacked(Path(name).resolve())
    known = {kernel.name: kernel for kernel in KERNELS}
    if name in known:
        return fetch(known[name], cache / name)
    if name.startswith("linux-image-"):
        return fetch_package(name, cache / name)
    raise NoKernel(f"{name}: no such kernel; try: {', '.join(known)}, a package linux-image-..., or a folder")


def prepare(name: str, asked: argparse.Namespace, given: list[str]) -> machine.Guest:
    """Everything that a guest needs, as files."""
    found = image(name, asked.cache.resolve())
    busybox = shutil.which("busybox")
    if busybox is None or shutil.which(machine.QEMU) is None:
        raise NoKernel(
            f"needs busybox (static) and {machine.QEMU}; try: apt-get install busybox-static qemu-system-x86"
        )
    out = asked.cache.resolve() / f"out-{found.version}"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    selected = pytest_arguments(given, UNIT_TESTS if asked.systemd else SELECTION)
    (out / "arguments").write_text("".join(f"{word}\n" for word in selected))
    kept = {"VXLANU_REQUIRE": "all"}  # a guest without some module must not pass by skipping everything
    kept |= {key: value for key, value in os.environ.items() if key.startswith(PASSED_ON)}
    kept |= {"GUEST_INIT": "systemd"} if asked.systemd else {}
    (out / "environment").write_text("".join(f"{key}={shlex.quote(value)}\n" for key, value in kept.items()))
    packed = out / "initramfs"
    packed.write_bytes(initramfs.build(found.modules / found.version, Path(busybox), ROOT / "tests/kernels/init"))
    _snapshot(out / "tree")
    return machine.Guest(found.vmlinuz, packed, found.modules, ROOT, out / "tree", out)


def _snapshot(tree: Path) -> None:
    """The repository as it is now: a run takes long enough that somebody edits or rebuilds meanwhile.

    Byte code is made here, under the names that the guest knows: emulated, Python takes a minute over it.
    """
    left_out = shutil.ignore_patterns(".git", ".venv", "build", "__pycache__", ".*_cache", ".hypothesis")
    shutil.copytree(ROOT, tree, symlinks=True, ignore=left_out)
    compileall.compile_dir(tree, quiet=2, stripdir=str(tree), prependdir=str(ROOT))
    (tree / ".venv").mkdir()  # where the guest mounts the real one


def try_kernel(name: str, asked: argparse.Namespace, given: list[str], accelerators: list[str]) -> int:
    """Run on one kernel; an accelerator that does not bring the guest up is given up for the next kernels too."""
    begun = time.monotonic()

    def say(line: str) -> None:
        passed = int(time.monotonic() - begun)
        print(f"[{name} {passed // 60}:{passed % 60:02}] {line}", flush=True)

    guest = prepare(name, asked, given)
    while True:
        say(f"booting {guest.vmlinuz.name} with {accelerators[0]}")
        minutes = MINUTES[accelerators[0]] if asked.minutes is None else asked.minutes
        done = machine.run(guest, accelerators[0], 60 * minutes, say)
        if done.came_up or len(accelerators) == 1:
            break
        say(f"{accelerators.pop(0)}: {done.why}")
    if done.status is None:
        say(f"no result: {done.why}")
        return machine.NO_GUEST
    say(f"pytest: exit {done.status}; results in {guest.out}")
    return min(done.status, 1)


def main(words: list[str]) -> int:
    asked, given = arguments(words)
    accelerators = machine.usable_accelerators() if asked.accel == "auto" else [asked.accel]
    results: dict[str, int] = {}
    for name in asked.kernels:
        try:
            results[name] = try_kernel(name, asked, given, accelerators)
        except NoKernel as why:
            print(f"tests/kernels/run: {name}: {why}", file=sys.stderr)
            results[name] = machine.NO_GUEST
    words_for = {0: "passed", 1: "failed", machine.NO_GUEST: "no result"}
    print("; ".join(f"{name}: {words_for[code]}" for name, code in results.items()))
    return max(results.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
