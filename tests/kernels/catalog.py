"""Which kernels the tests are run on, and how an unpacked one is had.

Rules of this file
  1. KERNELS is the one list. A kernel is a Debian package: downloaded and unpacked, never installed, so that the boot
     of this machine is not touched.
  2. apt keeps its lists and its cache for this in a folder of ours: the machine's sources, its package lists and its
     release do not matter; the signatures are checked against the keyring of debian-archive-keyring.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR, SECURITY = "http://deb.debian.org/debian", "http://deb.debian.org/debian-security"
MINUTES_TO_FETCH = 10


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel by the name that a person types; `package` may be a meta-package."""

    name: str
    package: str
    sources: tuple[tuple[str, str], ...]  # (address, suite)
    why: str


KERNELS = (
    Kernel(
        "5.10",
        "linux-image-amd64",
        ((MIRROR, "bullseye"), (SECURITY, "bullseye-security")),
        "Debian 11; the oldest that the README promises",
    ),
    Kernel(
        "6.1",
        "linux-image-amd64",
        ((MIRROR, "bookworm"), (SECURITY, "bookworm-security")),
        "Debian 12; no USO on a TAP, its vxlan drops UDP_SEGMENT that never met a wire",
    ),
    Kernel(
        "6.12",
        "linux-image-amd64",
        ((MIRROR, "trixie"), (SECURITY, "trixie-security")),
        "Debian 13; the long-term kernel in between, no tunnel offload on a TAP",
    ),
)


@dataclass(frozen=True, slots=True)
class Image:
    """A kernel that can be booted: its file, and the folder with what belongs into /lib/modules."""

    version: str
    vmlinuz: Path
    modules: Path


class NoKernel(Exception):
    """The kernel cannot be had; the message says what to do."""


def unpacked(root: Path) -> Image:
    """The kernel in `root`, a tree with boot/vmlinuz-VERSION and lib/modules/VERSION, as a package or a build has."""
    found = sorted((root / "boot").glob("vmlinuz-*"))
    if len(found) != 1:
        raise NoKernel(f"{root}: wants one boot/vmlinuz-VERSION, has {len(found)}")
    version = found[0].name.removeprefix("vmlinuz-")
    for modules in (root / "lib/modules", root / "usr/lib/modules"):
        if (modules / version).is_dir():
            if not (modules / version / "modules.dep").exists():  # a package leaves this to its installation
                _run(["depmod", "-b", str(modules.parents[1]), version])
            return Image(version, found[0], modules)
    raise NoKernel(f"{root}: no lib/modules/{version}")


def sources_list(kernel: Kernel) -> str:
    """What a sources.list for this kernel says."""
    return "".join(f"deb [arch=amd64 signed-by={KEYRING}] {at} {suite} main\n" for at, suite in kernel.sources)


def apt_options(folder: Path) -> list[str]:
    """Options that keep apt within `folder`: its sources, lists and cache, and no package counted as installed."""
    own = {
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State": folder / "state",
        "Dir::State::status": folder / "state/status",
        "Dir::Cache": folder / "cache",
        "APT::Architecture": "amd64",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
    }
    return [f"-o{key}={value}" for key, value in own.items()]


def image_package(shown: str, package: str) -> str:
    """The package with the kernel in it: what a meta-package (`apt-cache show`) depends on, else the package itself."""
    found = re.search(r"^Depends:.*?\b(linux-image-\d[\w.+-]*)", shown, re.MULTILINE)
    return found[1] if found else package


def fetch(kernel: Kernel, folder: Path) -> Image:
    """The newest version of `kernel`, unpacked under `folder`; one that is there is taken as it is."""
    root = folder / "root"
    if not (root / "boot").is_dir():
        if not KEYRING.exists():
            raise NoKernel(f"no {KEYRING}; try: apt-get install debian-archive-keyring")
        for part in ("state/lists/partial", "cache/archives/partial", "deb"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / "sources.list").write_text(sources_list(kernel))
        (folder / "state/status").touch()
        options = apt_options(folder)
        _run(["apt-get", *options, "-q", "update"])
        shown = _run(["apt-cache", *options, "show", "--no-all-versions", kernel.package])
        _run(["apt-get", *options, "-q", "download", image_package(shown, kernel.package)], folder / "deb")
        _unpack(folder / "deb", root)
    return unpacked(root)


def fetch_package(package: str, folder: Path) -> Image:
    """A package out of the machine's own sources, unpacked under `folder`."""
    root = folder / "root"
    if not (root / "boot").is_dir():
        (folder / "deb").mkdir(parents=True, exist_ok=True)
        wanted = image_package(_run(["apt-cache", "show", "--no-all-versions", package]), package)
        _run(["apt-get", "-q", "-oAPT::Sandbox::User=root", "download", wanted], folder / "deb")
        _unpack(folder / "deb", root)
    return unpacked(root)


def _unpack(debs: Path, root: Path) -> None:
    """Unpack beside, then rename: an interrupted run leaves nothing that looks whole."""
    package = max(debs.glob("*.deb"), key=lambda path: path.stat().st_mtime)
    partial = root.with_name("partial")
    _run(["rm", "-rf", str(partial)])
    _run(["dpkg", "-x", str(package), str(partial)])
    partial.rename(root)


def _run(command: list[str], folder: Path | None = None) -> str:
    timeout = 60.0 * MINUTES_TO_FETCH
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=timeout, check=False)
    except FileNotFoundError as why:
        raise NoKernel(f"needs the program {command[0]}; try: make kernels as root on Debian or Ubuntu") from why
    except subprocess.TimeoutExpired as why:
        raise NoKernel(f"{command[0]}: not done after {MINUTES_TO_FETCH} minutes") from why
    if done.returncode != 0:
        raise NoKernel(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout
