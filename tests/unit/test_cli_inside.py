"""`why`, and what `exec` and `ping` refuse before they move anywhere; the rest needs namespaces (test_looking_in)."""

from __future__ import annotations

import msgspec
import pytest
from sample_agent import SampleAgent, golden

from vxlanu.api.schema import EndpointDetail
from vxlanu.cli.echo import checksum
from vxlanu.cli.main import main
from vxlanu.cli.within import move_into
from vxlanu.errors import NotFound


@pytest.fixture(autouse=True)
def its_socket(agent: SampleAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VXLANU_SOCKET", str(agent.path))


def test_why_prints_a_step_a_line_and_exits_1_at_the_one_that_fails(
    agent: SampleAgent, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["why", "C0", "--from", "C1"]) == 1
    out, err = capsys.readouterr()
    assert out == """\
192.168.0.100: C0 on h2, network demonet vni 256
  fdb       02:42:c0:a8:00:64 dst 10.89.0.2:4789  (record of h2)
  route     10.89.0.2  this host has no route there
"""
    assert err == "vxlanu: why C0: route 10.89.0.2: this host has no route there\n"
    assert agent.service.asked == [("why", "C0", "C1")]


def test_ping_ends_where_the_way_ends(agent: SampleAgent, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ping", "C0"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and "route 10.89.0.2" in err


def test_exec_needs_a_command(agent: SampleAgent, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["exec", "C0", "--"]) == 2
    assert main(["exec", "C0"]) == 2
    assert agent.service.asked == []


def test_nobody_moves_into_another_hosts_endpoint_or_into_another_namespace() -> None:
    here = golden(EndpointDetail)
    with pytest.raises(NotFound, match="it is on h1"):
        move_into(msgspec.structs.replace(here, local=False))
    with pytest.raises(NotFound, match="another namespace by now"):
        move_into(msgspec.structs.replace(here, netns_path="/proc/self/ns/net", netns_inode=1))
    with pytest.raises(NotFound, match="No such file"):
        move_into(msgspec.structs.replace(here, netns_path="/nowhere"))


def test_the_checksum_is_that_of_rfc_1071() -> None:
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0x220D  # its example, section 3
    assert checksum(b"\xff") == 0x00FF
