"""A guest under QEMU: its command line, its console, its end.

Rules of this file
  1. `command` is pure: what stands in a unit test is what runs.
  2. A guest is told at its deadline to come to an end, and killed by its pid when it does not.
  3. KVM is used where it runs a guest, not where /dev/kvm merely exists: nested machines offer one on which a foreign
     kernel never says a word. So the first line of the initramfs is waited for, and without it TCG takes over.
"""

from __future__ import annotations

import os
import queue
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

UP = "vxlanu-guest: up"
SECONDS_TO_COME_UP = {"kvm": 20.0, "tcg": 240.0}  # 60 emulated, on a machine with four times the work it can do
PROCESSOR = {
    "kvm": ("-accel", "kvm", "-cpu", "host", "-smp", "2"),
    # Emulated, the guest's clock counts its instructions, one a nanosecond, and real time only while it is idle: it
    # sees a slow machine instead of one that stops for a second now and then, and deadlines in tests keep their sense
    # however busy this machine is. Such a clock allows one processor (with two, 6.1 does not get through its boot).
    "tcg": ("-accel", "tcg,thread=single", "-icount", "shift=0,sleep=on", "-cpu", "max", "-smp", "1"),
}
MEMORY = "3G"  # three quarters of it is the writable layer: sanitizer builds, logs, databases
SECONDS_TO_END = 180.0  # to interrupt pytest, and print what failed
QEMU = "qemu-system-x86_64"
NO_GUEST = 70


@dataclass(frozen=True, slots=True)
class Guest:
    """What to boot, `repository` and the copy of it that is tested, and the folder for what goes in and comes out."""

    vmlinuz: Path
    initramfs: Path
    modules: Path
    repository: Path
    tree: Path
    out: Path


def command(guest: Guest, accel: str) -> list[str]:
    """The whole QEMU command line. No network: a test makes its own inside."""
    said = ("console=ttyS0", "loglevel=4", "panic=-1", "random.trust_cpu=on", "mitigations=off", "no5lvl")
    told = (f"vxlanu.{name}={getattr(guest, name)}" for name in ("repository", "tree", "modules"))
    shares = {"root": ("/", "readonly=on"), "out": (str(guest.out), "readonly=off")}
    made = [
        *(QEMU, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio"),
        *PROCESSOR[accel],
        *("-m", MEMORY, "-device", "virtio-rng-pci"),
        *("-kernel", str(guest.vmlinuz), "-initrd", str(guest.initramfs), "-append", " ".join((*said, *told))),
    ]
    for tag, (path, access) in shares.items():
        made += ["-fsdev", f"local,id={tag},path={path},security_model=none,multidevs=remap,{access}"]
        made += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
    return made


def usable_accelerators() -> list[str]:
    """In the order in which they are tried."""
    return ["kvm", "tcg"] if os.access("/dev/kvm", os.R_OK | os.W_OK) else ["tcg"]


@dataclass(slots=True)
class Run:
    """How it ended: `status` is pytest's exit code, None when the guest never said one; `why` says so."""

    came_up: bool = False
    status: int | None = None
    why: str = ""


def run(guest: Guest, accel: str, seconds: float, say: Callable[[str], None]) -> Run:
    """Boot, pass the console on line by line, wait for the end or the deadline."""
    begun, done = time.monotonic(), Run(why=f"{QEMU} ended")
    process = subprocess.Popen(
        command(guest, accel), bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_read, args=(process, lines), daemon=True).start()
    try:
        done.came_up = _pass_on(lines, begun + SECONDS_TO_COME_UP[accel], say, last=UP)
        if not done.came_up:
            done.why = f"not up after {time.monotonic() - begun:.0f} s"
        elif not _pass_on(lines, begun + seconds, say):
            done.why = f"not done after {seconds:.0f} s"
            say(f"{done.why}: telling pytest to end")
            assert process.stdin is not None
            process.stdin.write(b"end\n")
            _pass_on(lines, begun + seconds + SECONDS_TO_END, say)
    finally:
        process.kill()
        process.wait()
    done.status = _status(guest.out / "status")
    return done


def _pass_on(lines: queue.Queue[str | None], deadline: float, say: Callable[[str], None], last: str = "") -> bool:
    """Say the lines that come up to `last`, or else up to the end of the output; False if that does not come."""
    while True:
        try:
            line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return False
        if line is None:
            return not last
        say(line)
        if last and line == last:
            return True


def _read(process: subprocess.Popen[bytes], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line.decode(errors="replace").rstrip("\r\n"))
    lines.put(None)


def _status(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
