"""The runner of tests/kernels: what it would boot, and that a guest which says nothing is given up."""

from __future__ import annotations

import marshal
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernels import boot, catalog, initramfs, machine

MODULES_DEP = """\
kernel/fs/9p/9p.ko.xz: kernel/net/9p/9pnet.ko.xz kernel/fs/netfs/netfs.ko.xz
kernel/net/9p/9pnet.ko.xz:
kernel/net/9p/9pnet_virtio.ko.xz: kernel/net/9p/9pnet.ko.xz kernel/drivers/virtio/virtio_ring.ko.xz kernel/virtio.ko.xz
kernel/fs/netfs/netfs.ko.xz:
kernel/drivers/virtio/virtio_ring.ko.xz: kernel/virtio.ko.xz
kernel/virtio.ko.xz:
kernel/drivers/net/tun.ko.xz:
"""
META_PACKAGE = """\
Package: linux-image-amd64
Version: 6.1.192-2
Depends: linux-image-6.1.0-56-amd64 (= 6.1.192-2)
"""
IMAGE_PACKAGE = (
    "Package: linux-image-6.1.0-56-amd64\nDepends: kmod, linux-base (>= 4.3~), initramfs-tools (>= 0.120+deb11)\n"
)


def archived(data: bytes) -> Iterator[tuple[str, int, bytes]]:
    """A newc archive read back by the text of the kernel's documentation."""
    at = 0
    while True:
        assert data[at : at + 6] == b"070701"
        assert at % 4 == 0
        field = [int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        mode, size, name_size = field[1], field[6], field[11]
        name = data[at + 110 : at + 110 + name_size]
        assert name.endswith(b"\0")
        start = at + 110 + name_size + -(110 + name_size) % 4
        if name == b"TRAILER!!!\0":
            return
        yield name[:-1].decode(), mode, data[start : start + size]
        at = start + size + -size % 4


@pytest.mark.parametrize("size", range(5))
def test_the_archive_gives_back_what_went_in(size: int) -> None:
    entries = [
        ("dev", stat.S_IFDIR | 0o755, b""),
        ("bin/a", stat.S_IFREG | 0o755, b"x" * size),
        ("init", 0o100755, b"y"),
    ]
    assert list(archived(initramfs.newc(entries))) == entries


def test_modules_load_after_what_they_need() -> None:
    order = initramfs.in_loading_order(MODULES_DEP, ("9pnet-virtio", "9p", "overlay"))
    names = [initramfs.module_name(path) for path in order]
    assert names == ["virtio", "virtio_ring", "9pnet", "9pnet_virtio", "netfs", "9p"], "each once; overlay is built in"


def test_a_meta_package_leads_to_the_image() -> None:
    assert catalog.image_package(META_PACKAGE, "linux-image-amd64") == "linux-image-6.1.0-56-amd64"
    assert catalog.image_package(IMAGE_PACKAGE, "linux-image-6.1.0-56-amd64") == "linux-image-6.1.0-56-amd64"


def test_apt_stays_in_its_folder(tmp_path: Path) -> None:
    paths = [option for option in catalog.apt_options(tmp_path) if option.startswith(("-oDir::State", "-oDir::Cache"))]
    assert len(paths) == 3
    assert all(f"={tmp_path}/" in path for path in paths)
    for kernel in catalog.KERNELS:
        assert catalog.sources_list(kernel).count("signed-by=") == len(kernel.sources)


def test_a_folder_that_holds_no_kernel_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(catalog.NoKernel, match="has 0"):
        catalog.unpacked(tmp_path)
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot/vmlinuz-7.0").touch()
    with pytest.raises(catalog.NoKernel, match=r"no lib/modules/7\.0"):
        catalog.unpacked(tmp_path)
    (tmp_path / "lib/modules/7.0").mkdir(parents=True)
    (tmp_path / "lib/modules/7.0/modules.dep").touch()
    assert catalog.unpacked(tmp_path).version == "7.0"


def test_what_follows_the_dashes_is_pytests() -> None:
    asked, given = boot.arguments(["--minutes", "5", "6.1", "--", "-k", "ping", "tests/netns"])
    assert (asked.kernels, asked.minutes, given) == (["6.1"], 5.0, ["-k", "ping", "tests/netns"])
    assert boot.pytest_arguments(given)[-3:] == given
    asked, given = boot.arguments([])
    assert asked.kernels == [kernel.name for kernel in catalog.KERNELS]
    assert "tests/assumptions" in boot.pytest_arguments(given)


def test_with_systemd_the_guest_runs_the_tests_of_the_unit() -> None:
    asked, given = boot.arguments(["--systemd", "6.1"])
    assert (asked.systemd, asked.kernels) == (True, ["6.1"])
    assert boot.pytest_arguments(given, boot.UNIT_TESTS)[-1] == "tests/kernels/units.py"
    assert not boot.arguments(["6.1"])[0].systemd


def test_the_copy_of_the_tree_brings_its_byte_code_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python takes it where time and size of the source are those noted in it; tracebacks name the repository."""
    root, tree = tmp_path / "repository", tmp_path / "tree"
    for folder in (".venv", "build", "area/__pycache__"):
        (root / folder).mkdir(parents=True)
        (root / folder / "left_out.py").touch()
    (root / "area/module.py").write_text("def here(): ...\n")
    (root / "link").symlink_to("area")
    monkeypatch.setattr(boot, "ROOT", root)
    boot._snapshot(tree)
    assert not list(tree.rglob("left_out.py")) and (tree / ".venv").is_dir() and (tree / "link").is_symlink()
    (made,) = tree.rglob("*.pyc")
    _, flags, time, size = struct.unpack("<4sIII", made.read_bytes()[:16])
    there = (tree / "area/module.py").stat()
    assert (flags, time, size) == (0, int(there.st_mtime), there.st_size)
    assert marshal.loads(made.read_bytes()[16:]).co_filename == str(root / "area/module.py")


# -- the machine, with a program in the place of QEMU ------------------------------------------------------------------

# Says nothing under KVM, as a nested machine may; else comes up, and leaves a result when it is told to end.
PRETENDED = """#!/bin/sh
case "$*" in
*"-accel kvm"*) exec sleep 600 ;;
esac
echo "%s"
read -r _
echo 2 >"%s"
"""


@pytest.fixture
def guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> machine.Guest:
    program = tmp_path / "qemu"
    program.write_text(PRETENDED % (machine.UP, tmp_path / "status"))
    program.chmod(0o755)
    monkeypatch.setattr(machine, "QEMU", str(program))
    monkeypatch.setitem(machine.SECONDS_TO_COME_UP, "kvm", 0.1)
    return machine.Guest(tmp_path / "vmlinuz", tmp_path / "initramfs", tmp_path / "modules", *[tmp_path] * 3)


@pytest.mark.parametrize("accel", ["kvm", "tcg"])
def test_the_machines_root_is_shared_read_only(guest: machine.Guest, accel: str) -> None:
    words = machine.command(guest, accel)
    root, out = (word for word in words if word.startswith("local,"))
    assert "id=root,path=/,security_model=none,multidevs=remap,readonly=on" in root
    assert f"path={guest.out}," in out
    assert words[words.index("-kernel") + 1] == str(guest.vmlinuz)
    assert any(word.startswith(accel) for word in words)


def test_a_guest_that_says_nothing_is_killed(guest: machine.Guest) -> None:
    said: list[str] = []
    done = machine.run(guest, "kvm", 600.0, said.append)
    assert (done.came_up, done.status, said) == (False, None, [])
    assert done.why.startswith("not up after")


def test_a_guest_whose_time_is_up_is_told_and_still_gives_its_result(guest: machine.Guest) -> None:
    said: list[str] = []
    done = machine.run(guest, "tcg", 0.0, said.append)
    assert (done.came_up, done.status) == (True, 2), said
    assert said[0] == machine.UP
    assert "telling pytest to end" in said[1]


def test_without_a_sign_under_kvm_the_guest_is_emulated(
    guest: machine.Guest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(boot, "prepare", lambda *_: guest)
    asked, given = boot.arguments(["6.1", "--minutes", "0"])
    accelerators = ["kvm", "tcg"]
    assert boot.try_kernel("6.1", asked, given, accelerators) == 1
    assert accelerators == ["tcg"], "the next kernel does not wait again"
    assert "kvm: not up after" in capsys.readouterr().out


def test_an_emulated_guest_has_more_time_unless_told_otherwise(
    guest: machine.Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_s: list[float] = []

    def ends_at_once(_guest: machine.Guest, _accel: str, seconds: float, _say: object) -> machine.Run:
        given_s.append(seconds)
        return machine.Run(came_up=True, status=0)

    monkeypatch.setattr(boot, "prepare", lambda *_: guest)
    monkeypatch.setattr(machine, "run", ends_at_once)
    for words, accel in (([], "kvm"), ([], "tcg"), (["--minutes", "5"], "tcg")):
        assert boot.try_kernel("6.1", boot.arguments([*words, "6.1"])[0], [], [accel]) == 0
    assert given_s == [3600, 4 * 3600, 300]
