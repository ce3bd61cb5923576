"""A command as an ordinary user, on a machine whose tree and Python may belong to root alone: `ordinary_user.py`.

    python ordinary_user.py UID HOME TUN_MODE TREE -- COMMAND...      (as root)

How it works
  In a mount namespace of its own: TREE, this tree or a copy of it that others may read, takes the place of this tree;
  where a folder above it or above its Python may not be passed by others (/root, mostly), an empty one is mounted over
  it, with nothing in it but those two at their old places; and /dev/net/tun gets the mode TUN_MODE (octal; most
  distributions: 666). Then it becomes user UID, without groups and capabilities, in HOME. No account is needed, and
  nothing on the machine is changed.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from vxlanu.lab import namespaces

MS_BIND = 0x1000
TUN, TUN_NUMBER = Path("/dev/net/tun"), os.makedev(10, 200)
PASSED_ON = ("PATH", "VXLANU_TEST_OFFLOAD")
PROMISED = "namespaces,tun,native,ip,nsenter"  # for pytest: what needs more (kernel vxlan) is skipped here
ROOT = Path(__file__).resolve().parents[1]


def barred_by(path: Path) -> Path | None:
    """The topmost folder above `path` that others may not pass."""
    for folder in reversed(path.parents):
        if not folder.stat().st_mode & stat.S_IXOTH:
            return folder
    return None


def needed(tree: Path) -> dict[Path, Path]:
    """What others have to see, by its place: `tree` as this one, and the Python where that is not a part of it."""
    python = (Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve())
    return {ROOT: tree} | {path: path for path in python if not path.is_relative_to(ROOT)}


def open_the_way(tree: Path, stage: Path) -> None:
    """Put what is needed where it was, under folders that may be passed. `stage` is an empty folder of our own."""
    wanted = needed(tree)
    barred = {path: folder for path in wanted if (folder := barred_by(path))}
    moved = [path for path, shown in wanted.items() if path in barred or shown != path]
    kept = {path: stage / str(number) for number, path in enumerate(moved)}
    for path, place in kept.items():
        place.mkdir()
        namespaces.mount(str(wanted[path]), str(place), None, MS_BIND | namespaces.MS_REC)
    for folder in set(barred.values()):
        namespaces.mount("tmpfs", str(folder), "tmpfs", namespaces.MS_NOSUID, "mode=755")
    for path, place in kept.items():
        path.mkdir(parents=True, exist_ok=True)
        namespaces.mount(str(place), str(path), None, MS_BIND | namespaces.MS_REC)


def main(uid: int, home: Path, tun_mode: int, tree: Path, command: list[str]) -> None:
    namespaces.unshare(namespaces.CLONE_NEWNS)
    namespaces.mount("none", "/", None, namespaces.MS_REC | namespaces.MS_PRIVATE)
    os.umask(0o022)
    stage = home / "stage"
    stage.mkdir(exist_ok=True)
    namespaces.mount("tmpfs", str(stage), "tmpfs", 0, "mode=755")
    open_the_way(tree, stage)
    tun = stage / "tun"
    os.mknod(tun, stat.S_IFCHR | 0o600, TUN_NUMBER)
    tun.chmod(tun_mode)
    namespaces.mount(str(tun), str(TUN), None, MS_BIND)
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    os.chdir(home)
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    environment |= {"HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8", "VXLANU_REQUIRE": PROMISED}
    os.execvpe(command[0], command, environment)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3], 8), Path(sys.argv[4]), sys.argv[6:])
