"""An image for Docker without a registry: busybox under all its names, and what tests run in containers.

`write_image(path)` makes a tar for `docker import`. Programs bring the libraries that ldd names; nothing is downloaded.
The `ip` is iproute2's, since busybox's prints no JSON.
"""

from __future__ import annotations

import io
import re
import shutil
import tarfile
from pathlib import Path

from lab_ns import run

__all__ = ["PROGRAMS", "write_image"]

FOLDERS = ("bin", "dev", "etc", "lib", "lib64", "proc", "root", "run", "sys", "tmp", "usr", "usr/bin", "var")
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "etc/group": "root:x:0:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}
PROGRAMS = ("ip", "iperf3")


def write_image(path: Path) -> None:
    """The root file system as a tar at `path`."""
    busybox = _program("busybox")
    with tarfile.open(path, "w") as image:
        for folder in FOLDERS:
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            image.addfile(entry)
        for name, text in FILES.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            image.addfile(entry, io.BytesIO(text.encode()))
        _add(image, busybox, "bin/busybox")
        for applet in run(str(busybox), "--list").split():
            if applet not in ("busybox", *PROGRAMS):
                entry = tarfile.TarInfo(f"bin/{applet}")
                entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
                image.addfile(entry)
        libraries: set[str] = set(_libraries(busybox))
        for name in PROGRAMS:
            program = _program(name)
            _add(image, program, f"bin/{name}")
            libraries |= set(_libraries(program))
        for library in sorted(libraries):
            _add(image, Path(library).resolve(), library.lstrip("/"))


def _program(name: str) -> Path:
    found = shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin")
    assert found, f"needs the program {name}"
    return Path(found).resolve()


def _libraries(program: Path) -> list[str]:
    """Absolute paths, the loader among them; none for a static program, of which ldd complains."""
    return re.findall(r"(/\S+)", run("ldd", str(program), check=False).partition("not a dynamic")[0])


def _add(image: tarfile.TarFile, source: Path, name: str) -> None:
    entry = image.gettarinfo(str(source), name)
    entry.mode, entry.uid, entry.gid = 0o755, 0, 0
    with source.open("rb") as content:
        image.addfile(entry, content)
