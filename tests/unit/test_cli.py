"""What each command asks of the agent and what it prints, against the real server answering from the golden files."""

from __future__ import annotations

import http.client
import io
import json
import resource
import socket
import subprocess
import sys

import msgspec
import pytest
from sample_agent import SampleAgent, golden

from vxlanu.api import schema as s
from vxlanu.cli.main import main
from vxlanu.cli.member import draw_members

C0 = "C0 192.168.0.100/24,fd00:a8::64/64 02:42:c0:a8:00:64 eth0\n"
MAC = "02:42:c0:a8:00:64"


def said(agent: SampleAgent, capsys: pytest.CaptureFixture[str], line: str, code: int = 0) -> str:
    """What the command prints; its exit code must be `code`."""
    got = main([*line.split(), "--socket", str(agent.path)])
    out, err = capsys.readouterr()
    assert got == code, f"{line}: exit {got}\n{out}{err}"
    return out


PRINTED = {
    "network create demonet": "3fa92c7b10de\n",
    "network rm demonet": "demonet\n",
    "attach demonet c0": C0,
    "detach demonet c0": "C0\n",
    "member forget h1": "h1\n",
    "member leave": "h1 left, 2 members told\n",
    "member join 10.89.0.2:7946 10.89.0.3:7946": "10.89.0.2:7946 joined\n10.89.0.3:7946 retrying\n",
    "vtep rm demonet 10.89.0.9": "10.89.0.9:4789\n",
    "vtep add demonet 10.89.0.9": "# 10.89.0.9:4789 now serves demonet; on the other side:\n"
    "ip link add vxlan256 type vxlan id 256 local 10.89.0.9 dstport 4789 nolearning\n"
    "bridge fdb append 00:00:00:00:00:00 dev vxlan256 dst 10.89.0.1\n"
    "# for the hosts of demonet as of now: one that joins later needs a `bridge fdb append` line of its own\n",
    "netns ls": """\
TARGET  INODE       PROCESSES  PID   COMMAND  ENDPOINTS
c0      4026532281          3  4711  nginx    C0.demonet
""",
    "network ls": """\
NETWORK ID    NAME     VNI  SUBNET                        MTU  ENDPOINTS  SCOPE   STATE
3fa92c7b10de  demonet  256  192.168.0.0/24,fd00:a8::/64  1450          2  global  removing
""",
    "endpoint ls": f"""\
ENDPOINT ID   NAME  NETWORK  ADDRESS                          MAC                NODE  TARGET  STATE
a1b2c3d4e5f6  C0    demonet  192.168.0.100/24,fd00:a8::64/64  {MAC}  h1    c0      down 12s
""",
    "ipam show": """\
demonet 192.168.0.0/24: [#...................] 3 of 126 used, 64 in no block yet
  range: 192.168.0.0/25
  gateway: 192.168.0.1
  aux router: 192.168.0.9
  BLOCK           HOLDER  STATE      USED  USABLE  LENT
  192.168.0.0/26  h1      held dead     2  62      192.168.0.9 to h2
  h1 is dead; if it never comes back: vxlanu ipam reclaim h1
  leased here to nothing: 192.168.0.7; vxlanu ipam reclaim
""",
    "ipam reclaim h3 -n": "would reclaim 192.168.0.64/26 of demonet: held by h3, which is dead; 2 in use there\n",
    "ipam reclaim h3 -f": "reclaimed 192.168.0.64/26 of demonet: held by h3, which is dead; 2 in use there\n",
    "member ls": """\
NODE  ADDRESS         STATE    SINCE  VTEP            ENDPOINTS  VERSION  RTT
h1    10.89.0.1:7946  alive    2m     10.89.0.1:4789          2  0.1.0    self
h2    [fd89::2]:7946  suspect  2m     [fd89::2]:4789          2  0.1.0    0.2ms
""",
    "vtep ls": """\
VTEP            KIND    NODE  STATE  NETWORKS  MACS               PATH-MTU
10.89.0.9:4789  static  h1    up     demonet   02:00:00:00:00:09  1500
""",
    "drops": """\
REASON    FRAMES  SCOPE     NAME  NETWORK  MEANING
fdb_miss       5  endpoint  C0    demonet  no port and no VTEP has this MAC
""",
    "fdb show": f"{MAC} dev demonet dst 10.89.0.1 self age 3s endpoint C0 node h1 origin learned\n",
    "link show demonet": f"""\
demonet: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1450 state UP
    vxlan id 256 local 10.89.0.1 dev eth0 srcport 49152 65535 dstport 4789 ttl 64 tos inherit ageing 300 \
learning noproxy noudpcsum vlan pass
    vteps 3 workers 1 gso_max_size 65535 offload vnet-hdr tso
  C0: eth0@3: <UP,LOWER_UP> mtu 1450 qlen 1000 state UP
      link/ether {MAC} ifindex 7 netns c0 queues 2 gso_max_size 65536 ring_full 5
""",
    "fdb show demonet": f"{MAC} dst 10.89.0.1 self age 3s endpoint C0 node h1 origin learned\n",
    "neighbor show": f"192.168.0.100 dev demonet lladdr {MAC} STALE endpoint C0 node h1\n",
    "neighbor show demonet": f"192.168.0.100 lladdr {MAC} STALE endpoint C0 node h1\n",
    "status": """\
node: h1
  id: 0f1e2d3c4b5a69788796a5b4c3d2e1f0
  state: running
  up: 3m (epoch 3)
  address: 10.89.0.1 (control 7946, data 4789)
  key: none: the control channel is clear
  data plane: 1 worker, offload vnet-hdr tso
  offload not used: uso: refused by --offload
  agent: 0.1.0, pid 4711, socket /run/vxlanu/agent.sock, state /var/lib/vxlanu
  malformed control datagrams: 6
  control datagrams of another key: 7

members: 2 alive, 1 dead
networks: 1
endpoints: 2 (1 here)
names: 1 network, 2 answered, 3 forwarded, 4 refused, 5 failed, 6 malformed, 7 limited

warning: no cluster key: the control channel is clear
""",
    "dns query web.demonet": """\
NAME         TYPE  VALUE          TTL  FROM
web.demonet  A     192.168.0.100    5  forwarded to 192.0.2.53
""",
}


@pytest.mark.parametrize("line", PRINTED)
def test_what_a_command_prints(agent: SampleAgent, capsys: pytest.CaptureFixture[str], line: str) -> None:
    assert said(agent, capsys, line) == PRINTED[line]


def test_vxlanu_alone_prints_networks_and_tunnels(agent: SampleAgent, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        said(agent, capsys, "")
        == """\
node: h1
  address: 10.89.0.1:4789
  up: 3m
  members: 2 alive, 1 dead
  key: none: the control channel is clear
  offload: vnet-hdr tso

network: demonet
  state: removing
  vni: 256
  subnet: 192.168.0.0/24, fd00:a8::/64
  mtu: 1450
  endpoints: 2 on 2 hosts; here C0
  transfer: 1.05 KiB received, 1.15 KiB sent
  drops: fdb_miss 5

vtep: 10.89.0.9:4789
  node: h1
  state: up
  networks: demonet
  path mtu: 1500
  latest traffic: 3s ago
  transfer: 1.15 KiB received, 1.05 KiB sent

warning: no cluster key: the control channel is clear
"""
    )


def test_prune_asks_first_and_without_a_terminal_needs_yes(
    agent: SampleAgent, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    agent.service.network_endpoints = 0
    assert main(["network", "prune", "--socket", str(agent.path)]) == 2
    assert "would remove demonet for ever" in capsys.readouterr().err
    assert "prune_networks" not in agent.service.asked
    assert said(agent, capsys, "network prune --yes") == "demonet\n"
    assert agent.service.asked[-1] == "prune_networks"
    assert said(agent, capsys, "network prune -f --filter label=ci --filter name=x") == "demonet\n"
    assert agent.service.asked[-1] == ("prune_networks", "label=ci", "name=x")


def test_reclaim_shows_first_and_without_a_terminal_needs_yes(
    agent: SampleAgent, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert main(["ipam", "reclaim", "h3", "--socket", str(agent.path)]) == 2
    assert "would reclaim what h3 has (1 block or addresses, 2 in use)" in capsys.readouterr().err
    assert agent.service.asked == [s.Reclaim(["h3"], dry_run=True)]
    agent.service.reclaimable = False
    assert said(agent, capsys, "ipam reclaim") == "nothing to reclaim\n"
    assert agent.service.asked[-1] == s.Reclaim(dry_run=True)


@pytest.mark.parametrize(
    ("line", "question", "asked"),
    [
        (["network", "prune"], "Remove demonet", "prune_networks"),
        (["ipam", "reclaim", "h3"], "Reclaim what h3 has (1 block or addresses, 2 in use)", s.Reclaim(["h3"])),
    ],
)
def test_on_a_terminal_it_asks_before_what_cannot_be_undone(
    agent: SampleAgent,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    line: list[str],
    question: str,
    asked: object,
) -> None:
    agent.service.network_endpoints = 0
    for answer in ("n\n", "y\n"):
        monkeypatch.setattr("sys.stdin", Terminal(answer))
        assert main([*line, "--socket", str(agent.path)]) == 0
        assert f"{question} for ever?" in capsys.readouterr().err
        assert (asked in agent.service.asked) == (answer == "y\n")


class Terminal(io.StringIO):
    """One on which somebody types."""

    def isatty(self) -> bool:
        return True


def test_members_of_one_name_are_told_apart_by_their_ids(agent: SampleAgent) -> None:
    one = golden(s.Member)
    other = msgspec.structs.replace(one, id="beef" * 8, state="dead")
    assert next(iter(draw_members(s.Items([one])))).split()[:2] == ["NODE", "ADDRESS"], "the control"
    header, *rows = draw_members(s.Items([one, other]))
    assert header.split()[:3] == ["NODE", "ID", "ADDRESS"]
    assert [row.split()[:2] for row in rows] == [[one.name, one.id[:12]], [one.name, "beef" * 3]]


def test_inspect_shows_every_field_of_a_network(agent: SampleAgent, capsys: pytest.CaptureFixture[str]) -> None:
    shown = said(agent, capsys, "network inspect demonet")
    assert "state: removing with blue" in shown
    for word in ("256", "1450", "192.168.0.1\n", "192.168.0.64/26", "printer=192.168.0.9", "team=db", "h1, h2", MAC):
        assert word in shown, f"{word} is missing in\n{shown}"


def test_inspect_shows_every_field_of_an_endpoint(agent: SampleAgent, capsys: pytest.CaptureFixture[str]) -> None:
    shown = said(agent, capsys, "endpoint inspect C0")
    for word in (
        "C0.demonet",
        "down 12s",
        "eth0 (index 7, port 3) up mtu 1400",
        "192.168.0.101/24 (not of the record)",
        "10.1.0.0/16 via 192.168.0.1 src 192.168.0.100 metric 100",
        "inode 4026532281",
        "1.15 KiB in 12",
        "3 ARP, 1 ND",
        "fdb_miss",
    ):
        assert word in shown, f"{word} is missing in\n{shown}"


def test_stats_shows_every_counter(agent: SampleAgent, capsys: pytest.CaptureFixture[str]) -> None:
    header, row = said(agent, capsys, "stats").splitlines()
    assert len(header.split()) == 14
    assert row.split() == [
        "endpoint",
        "C0",
        "demonet",
        "1.15",
        "KiB",
        "12",
        "1.05",
        "KiB",
        "11",
        "10",
        "9",
        "2",
        "3",
        "1",
        "4",
        "5",
    ]


ASKED: dict[str, object] = {
    "network create demonet --subnet 192.168.0.0/24 --gateway 192.168.0.1 --ip-range 192.168.0.64/26 --vni 256 "
    "--mtu 1450 --aux printer=192.168.0.9 --ipv6 --internal --ipam available --vlan pass --label team=db": golden(
        s.NetworkCreate
    ),
    "network create demonet": s.NetworkCreate("demonet"),
    "attach demonet c0 --ip 192.168.0.100 --ip6 fd00:a8::64 --mac 02:42:c0:a8:00:64 --name C0 --alias db --ifname eth0 "
    "--allow-spoof --allow-address 192.168.0.200/32 --take-over --publish 8080:80": golden(s.Attach),
    "attach demonet /run/netns/x": s.Attach("demonet", "/run/netns/x"),
    "detach demonet /run/netns/x": ("detach", "demonet", "/run/netns/x"),
    "network inspect de/mo~3fa9": ("network", "de/mo~3fa9"),
    "network rm 3fa9": ("remove_network", "3fa9"),
    "endpoint ls": ("endpoints", ""),
    "endpoint ls demonet": ("endpoints", "demonet"),
    "endpoint inspect fd00:a8::64": ("endpoint", "fd00:a8::64"),
    "member join h2 h3:7000": s.Join(["h2", "h3:7000"]),
    "member forget h3": ("forget", "h3"),
    "member leave": "leave",
    "ipam reclaim h3 --dry-run": golden(s.Reclaim),
    "ipam reclaim h3 h4 --yes": s.Reclaim(["h3", "h4"]),
    "ipam reclaim -f": s.Reclaim(),
    "vtep add demonet 10.89.0.9:8472 --mac 02:00:00:00:00:09": golden(s.VtepAdd),
    "vtep add demonet fd89::9": s.VtepAdd("demonet", "fd89::9", 4789),
    "vtep add demonet [fd89::9]:8472": s.VtepAdd("demonet", "fd89::9", 8472),
    "vtep rm demonet 10.89.0.9:8472": ("remove_vtep", "demonet", "10.89.0.9:8472"),
    "fdb show demonet": ("fdb", "demonet"),
    "neighbor show demonet": ("neighbors", "demonet"),
}


@pytest.mark.parametrize("line", ASKED)
def test_what_a_command_asks(agent: SampleAgent, capsys: pytest.CaptureFixture[str], line: str) -> None:
    said(agent, capsys, line)
    assert agent.service.asked == [ASKED[line]]


def test_rm_removes_one_after_the_other(agent: SampleAgent, capsys: pytest.CaptureFixture[str]) -> None:
    said(agent, capsys, "network rm a b")
    assert agent.service.asked == [("remove_network", "a"), ("remove_network", "b")]


def test_verify_exits_1_and_lists_the_differences(agent: SampleAgent, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--socket", str(agent.path)]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[1].split() == ["demonet", "fdb", MAC, "10.89.0.2", "10.89.0.1"]
    assert err.startswith("vxlanu: verify: 1 difference in 42 keys; try: ")


def test_verify_prints_nothing_when_all_agrees(agent: SampleAgent, capsys: pytest.CaptureFixture[str]) -> None:
    agent.service.differences = False
    assert said(agent, capsys, "verify") == ""


def test_a_join_that_nobody_answered_exits_75_and_names_whom(
    agent: SampleAgent, capsys: pytest.CaptureFixture[str]
) -> None:
    agent.service.reached = False
    assert main(["member", "join", "h9", "--socket", str(agent.path)]) == 75
    out, err = capsys.readouterr()
    assert out == "h9 retrying\n"
    assert err.startswith("vxlanu: member join: no answer from h9;")


RAW = {
    "": "/v1/overview",
    "status": "/v1/status",
    "network ls": "/v1/networks",
    "network inspect demonet": "/v1/networks/demonet",
    "endpoint ls demonet": "/v1/endpoints?network=demonet",
    "endpoint inspect C0": "/v1/endpoints/C0",
    "member ls": "/v1/members",
    "vtep ls": "/v1/vteps",
    "link show demonet": "/v1/links?ref=demonet",
    "fdb show": "/v1/fdb",
    "neighbor show": "/v1/neighbors",
    "drops": "/v1/drops",
    "stats": "/v1/stats",
    "netns ls": "/v1/namespaces",
    "dns query web --type A --network demonet": "/v1/dns?name=web&type=A&network=demonet",
}


def body_of(agent: SampleAgent, target: str) -> bytes:
    """The body as any HTTP client gets it."""
    connection = http.client.HTTPConnection("any")
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.sock.connect(str(agent.path))
    connection.request("GET", target)
    body = connection.getresponse().read()
    connection.close()
    return body


@pytest.mark.parametrize("line", RAW)
def test_json_is_the_body_of_the_api_byte_for_byte(
    agent: SampleAgent, capfdbinary: pytest.CaptureFixture[bytes], line: str
) -> None:
    assert main([*line.split(), "--json", "--socket", str(agent.path)]) == 0
    printed = capfdbinary.readouterr().out
    assert printed == body_of(agent, RAW[line])
    assert printed.count(b"\n") == 1
    assert json.loads(printed)


WRITES: dict[str, type[msgspec.Struct]] = {
    "network create demonet": s.Network,
    "network rm demonet": s.Network,
    "attach demonet c0": s.EndpointDetail,
    "detach demonet c0": s.Endpoint,
    "member join h2": s.Joined,
    "member leave": s.Left,
    "member forget h1": s.Member,
    "vtep add demonet 10.89.0.9": s.VtepAdded,
    "vtep rm demonet 10.89.0.9": s.Vtep,
    "verify": s.Verify,
}


@pytest.mark.parametrize("line", WRITES)
def test_json_of_a_change_is_the_answer_to_it(
    agent: SampleAgent, capfdbinary: pytest.CaptureFixture[bytes], line: str
) -> None:
    main([*line.split(), "--json", "--socket", str(agent.path)])
    assert capfdbinary.readouterr().out == msgspec.json.encode(golden(WRITES[line])) + b"\n"


def test_global_options_stand_anywhere_and_the_last_one_holds(
    agent: SampleAgent, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    path = str(agent.path)
    for line in (
        ["--json", "--socket", path, "member", "ls"],
        ["member", "--json", "ls", "--socket", path],
        ["--socket", "/nowhere/a.sock", "member", "--socket", path, "ls", "--json"],
        ["--socket", "/nowhere/a.sock", "--json", "member", "ls", "--socket", path],
    ):
        assert main(line) == 0, line
        assert capfdbinary.readouterr().out == body_of(agent, "/v1/members"), line


def test_the_socket_may_come_from_the_environment(
    agent: SampleAgent, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VXLANU_SOCKET", str(agent.path))
    assert main(["member", "ls"]) == 0
    assert capsys.readouterr().out == PRINTED["member ls"]


def test_the_real_program_costs_a_fraction_of_a_second(agent: SampleAgent) -> None:
    """The figure itself, 150 ms, belongs to `make accept`; here the order of magnitude of processor time."""
    line = [sys.executable, "-m", "vxlanu.cli.main", "member", "ls", "--socket", str(agent.path)]
    best = 9.0
    for _ in range(3):
        began = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        done = subprocess.run(line, capture_output=True, text=True, check=True)
        best = min(best, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - began)
        assert done.stdout == PRINTED["member ls"]
    assert best < 1.5
