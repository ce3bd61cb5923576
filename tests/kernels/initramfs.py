"""The initramfs of the guest: busybox, tests/kernels/init, and the modules that reach the root over 9p.

Rules of this file
  1. No mkinitramfs, no cpio: what is in it depends on nothing of this machine but busybox, and needs no root.
  2. Only what is needed to mount the root is in it; everything else modprobe loads out of the kernel's own tree.

The archive is "newc" (Documentation/driver-api/early-userspace/buffer-format.rst): a header of thirteen hexadecimal
fields, the name and the data, each padded to four bytes, until the name TRAILER!!!.
"""

from __future__ import annotations

import lzma
import stat
from collections.abc import Iterable
from pathlib import Path

BOOT_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
TRAILER = "TRAILER!!!"


def newc(entries: Iterable[tuple[str, int, bytes]]) -> bytes:
    """An archive of (name, mode, data), owned by root, dated 0."""
    made = bytearray()
    for number, (name, mode, data) in enumerate((*entries, (TRAILER, 0, b"")), 1):
        links = 2 if stat.S_ISDIR(mode) else 1
        fields = (number, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        made += b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        made += bytes(-len(made) % 4) + data
        made += bytes(-len(made) % 4)
    return bytes(made)


def in_loading_order(dependencies: str, wanted: Iterable[str]) -> list[str]:
    """Paths of the modules `wanted` and of all they need, the needed first; one built into the kernel has none.

    `dependencies` is modules.dep: `path: what it needs`, the nearest first.
    """
    lines = (line.partition(":") for line in dependencies.splitlines())
    needs = {path: after.split() for path, _, after in lines}
    by_name = {module_name(path): path for path in needs}
    order: list[str] = []
    for name in wanted:
        path = by_name.get(module_name(name))
        if path is not None:
            order += [each for each in (*reversed(needs[path]), path) if each not in order]
    return order


def module_name(path: str) -> str:
    """`kernel/net/9p/9pnet-virtio.ko.xz` and `9pnet_virtio` are one module."""
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def module_bytes(path: Path) -> bytes:
    """A module as insmod of busybox takes it; Debian 13 ships them compressed."""
    return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()


def build(modules: Path, busybox: Path, init: Path) -> bytes:
    """The archive for the kernel whose /lib/modules/VERSION is `modules`."""
    paths = in_loading_order((modules / "modules.dep").read_text(), BOOT_MODULES)
    folders = ("bin", "dev", "lower", "machine", "modules", "proc", "sys", "upper")
    entries = [(name, stat.S_IFDIR | 0o755, b"") for name in folders]
    entries.append(("bin/busybox", stat.S_IFREG | 0o755, busybox.read_bytes()))
    entries.append(("init", stat.S_IFREG | 0o755, init.read_bytes()))
    for number, path in enumerate(paths):
        name = f"modules/{number:02}-{module_name(path)}.ko"
        entries.append((name, stat.S_IFREG | 0o644, module_bytes(modules / path)))
    return newc(entries)
