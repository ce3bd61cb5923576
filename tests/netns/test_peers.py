"""Each peer that vxlanu is compared with comes up on one scene, carries what it claims to, and is gone with its block.

What a peer of the comparison is like is in benchmarks/peers; nothing here is a figure.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from needs import require
from peer_needs import PEER_NEEDS
from sockets import bulk

from benchmarks.__main__ import run as command
from benchmarks.compare import Comparison, measure
from benchmarks.daemon import make_folder, program, start, version_of
from benchmarks.peers import PEERS, vxlanu
from benchmarks.results import Settings
from benchmarks.scene import HOSTS, Scene
from benchmarks.underlay import set_underlay
from vxlanu.errors import VxlanuError
from vxlanu.lab.topology import Lab

pytestmark = [pytest.mark.netns, pytest.mark.interop("ethtool")]

MTU = {"veth": 1500, "nebula": 1440, "wireguard-go": 1440}
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def scene(make_module_lab: Callable[..., Lab]) -> Scene:
    lab = make_module_lab(hosts=2, containers=1)
    set_underlay(lab, "offload", HOSTS)
    return Scene(lab, "offload")


def runs(pid: int) -> bool:
    """A zombie, which has no command line, has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    return False


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_carries_what_its_witnesses_see_and_ends_with_its_block(scene: Scene, name: str) -> None:
    require(*PEER_NEEDS[name])
    with ExitStack() as stack:
        path = PEERS[name].bring_up(scene, stack)
        path.ready()
        before = path.passed()
        done = bulk(scene.lab, path.sender, path.receiver, path.address, MEGABYTE)
        grown = {witness: octets - before[witness] for witness, octets in path.passed().items()}
        assert done.intact and min(grown.values()) >= MEGABYTE, (done, grown)
        assert path.mtu() == MTU.get(name, 1450) and PEERS[name].version()[0].isdigit()
        assert all(runs(pid) for pid in path.processes)
    assert name == "vxlanu" or not any(runs(pid) for pid in path.processes), "only the agents are the lab's"


def test_a_program_that_ends_is_an_error_with_its_last_words(scene: Scene) -> None:
    log = make_folder(scene.lab, "ending") / "sh.log"
    with ExitStack() as stack, pytest.raises(VxlanuError, match="sh on h1: ended with status 3: no such key") as caught:
        start(stack, scene.lab, "h1", ["sh", "-c", "echo begun; echo no such key; exit 3"], log=log, until=bool)
    assert caught.value.detail == {"story": "begun\nno such key"}


def test_a_program_that_is_missing_is_named_with_its_package() -> None:
    with pytest.raises(FileNotFoundError, match=r"no-such-daemon is not installed \(Debian: some-package\)"):
        program("no-such-daemon", "some-package")
    assert version_of("ip", "iproute2", "-V")[0].isdigit()


def test_a_peer_that_does_not_come_up_is_missing_from_a_comparison_by_name_and_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "nebula"
    broken.write_text("#!/bin/sh\n[ $1 = -version ] && exec echo Version: 9.8\necho no luck today; exit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    require("nebula-cert")
    told: list[str] = []
    asked = Comparison(["veth", "nebula"], [], Settings(underlay="offload", family="ipv4", mtu=1500), again=False)
    run = measure(asked, told.append, lambda _: None)
    veth, nebula = run.peers
    assert (veth.version, veth.missing, veth.mtu) == (PEERS["veth"].version(), "", 1500)
    assert nebula.missing.endswith("nebula on h1: ended with status 3: no luck today")
    assert "no luck today\n" in told


def test_without_vxlanu_nothing_is_measured_and_one_line_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    require("native")

    def bring_up(scene: Scene, stack: ExitStack) -> None:
        raise VxlanuError("blue", "no luck today", detail={"story": "the end of the logs"})

    asked = ["net", "--peers", "veth", "--meters", "memory", "--rounds", "1"]
    assert command(asked) == 0, "positive control"
    capsys.readouterr()
    monkeypatch.setattr(vxlanu, "bring_up", bring_up)
    assert command(asked) == 1
    out, said = capsys.readouterr()
    assert out == "" and "the end of the logs" in said and "bringing up veth" not in said
    assert said.splitlines()[-1] == "python -m benchmarks: vxlanu: did not come up: blue: no luck today"
