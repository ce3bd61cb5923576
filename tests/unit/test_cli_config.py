"""The agent's settings: flags over environment over file, and one clear line for each way to get one wrong."""

from __future__ import annotations

import base64
import json
import os
import re
import tomllib
from pathlib import Path

import pytest

from vxlanu.cli.main import main
from vxlanu.config import (
    IN_FILE,
    INJECT,
    OFFLOADS,
    SETTINGS,
    AgentConfig,
    load,
    refused_offloads,
    split_host_port,
    wants_injection,
)
from vxlanu.errors import BadRequest
from vxlanu.nsopen import NamespaceHelper
from vxlanu.nsopen.wire import HelperTimeout


def written(tmp_path: Path, text: str) -> str:
    file = tmp_path / "agent.toml"
    file.write_text(text)
    return str(file)


def test_flags_stand_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, 'name = "file"\ndata-port = 1\ncontrol-port = 1\nprofile = "local"\n')
    environment = {"VXLANU_NAME": "environment", "VXLANU_DATA_PORT": "2", "VXLANU_CONFIG": file}
    config = load({"name": "flag"}, environment, uid=0)
    assert (config.name, config.data_port, config.control_port, config.profile) == ("flag", 2, 1, "local")
    assert config.config == file


def test_every_setting_can_be_said_in_the_file_and_in_the_environment(tmp_path: Path) -> None:
    values: dict[str, object] = {
        "name": "h9",
        "advertise": "eth9",
        "join": ["a:1", "b"],
        "data-port": 5000,
        "control-port": 5001,
        "state-dir": "/s",
        "socket": "/s/a",
        "key-file": "/s/k",
        "http": "127.0.0.1:8500",
        "gateway-subnet": "172.30.0.0/16",
        "offload": "no-tso,no-mq",
        "workers": 3,
        "pin-workers": False,
        "spin": False,
        "nice": 3,
        "log-level": "debug",
        "log-format": "json",
        "profile": "local",
        "docker": "/s/d",
        "docker-sync": True,
    }
    assert set(values) | {"config", "ready-fd"} == set(SETTINGS)
    file = written(tmp_path, "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
    environment = {
        "VXLANU_" + key.replace("-", "_").upper(): ",".join(value) if isinstance(value, list) else str(value)
        for key, value in values.items()
    }
    by_file, by_environment = load({"config": file}, {}, uid=0), load({}, environment, uid=0)
    for key, value in values.items():
        wanted = tuple(value) if isinstance(value, list) else value
        field = key.replace("-", "_")
        assert getattr(by_file, field) == getattr(by_environment, field) == wanted, key


def test_the_defaults_of_root_and_of_a_user() -> None:
    root = load({}, {"HOME": "/h"}, uid=0)
    assert (root.state_dir, root.socket) == ("/var/lib/vxlanu", "/run/vxlanu/agent.sock")
    assert (root.data_port, root.control_port, root.offload, root.profile) == (4789, 7946, "auto", "lan")
    user = load({}, {"HOME": "/h", "XDG_RUNTIME_DIR": "/r"}, uid=7)
    assert (user.state_dir, user.socket) == ("/h/.local/state/vxlanu", "/r/vxlanu/agent.sock")
    assert load({}, {"XDG_STATE_HOME": "/x"}, uid=7).state_dir == "/x/vxlanu"
    assert root.name == os.uname().nodename


OFFLOAD_HINT = "auto, off, or a list of " + ",".join((INJECT, *(f"no-{name}" for name in OFFLOADS)))

WRONG = {
    "data-prt = 3": "data-prt: no such setting; try: data-port",
    "data_port = 3": "data_port: no such setting; try: data-port",
    "x = 3": "x: no such setting; try: vxlanu help config",
    'data-port = "4789"': "data-port: expected int, got str; try: vxlanu help config",
    "data-port = 65536": "data-port: expected int <= 65535; try: vxlanu help config",
    "data-port = true": "data-port: expected int, got bool; try: vxlanu help config",
    'join = "h1"': "join: expected list, got str; try: vxlanu help config",
    'profile = "wan"': "profile: invalid enum value 'wan', one of lan, local; try: vxlanu help config",
    'name = ""': "name: expected str of length >= 1; try: vxlanu help config",
    "ready-fd = 3": "ready-fd: can be given as a flag or in the environment only; try: remove ready-fd from the file",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_file_is_one_line_with_file_and_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    file = written(tmp_path, f"control-port = 7000\n{text}\n")
    assert main(["agent", "--check", "--config", file]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"vxlanu: {file}:2: {WRONG[text]}\n")


def test_every_mistake_is_told_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(
        tmp_path, '# name = 3\n\ndata-port = 0\njoin = [\n  "h1",\n  "h2:x",\n]\noffload = "no-warp"\n[tls]\na = 1\n'
    )
    assert main(["agent", "--check", "--config", file, "--workers", "99"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "vxlanu: the command line: --workers: expected int <= 16; try: vxlanu help config",
        f"vxlanu: {file}:3: data-port: expected int >= 1; try: vxlanu help config",
        f"vxlanu: {file}:4: join: h2:x is not an address to join; try: HOST, HOST:PORT or [IPV6]:PORT",
        f"vxlanu: {file}:8: offload: no offload is called 'no-warp'; try: {OFFLOAD_HINT}",
        f"vxlanu: {file}:9: tls: no such setting; try: vxlanu help config",
    ]


def test_a_key_that_cannot_be_read_is_found_by_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = tmp_path / "k"
    line = ["agent", "--check", "--config", written(tmp_path, ""), "--key-file", str(key)]
    assert main(line) == 2
    assert capsys.readouterr().err.startswith(f"vxlanu: key-file {key}: ")
    assert main(["key", "gen", str(key)]) == 0
    assert main(line) == 0


def test_an_address_that_this_host_lacks_is_found_by_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The agent would not start with it either: its sockets are bound to the address."""
    line = ["agent", "--check", "--config", written(tmp_path, "")]
    for lacking in ("192.0.2.77", "no-such-if"):
        assert main([*line, "--advertise", lacking]) == 2
        out, err = capsys.readouterr()
        assert out == "" and len(err.splitlines()) == 1, err
        assert err.startswith(f"vxlanu: advertise {lacking}: not an address of this host and no interface with one")
    key = str(tmp_path / "k")
    assert main([*line, "--advertise", "192.0.2.77", "--key-file", key]) == 2
    assert [each.split(": ")[1] for each in capsys.readouterr().err.splitlines()] == [
        f"key-file {key}",
        "advertise 192.0.2.77",
    ]
    assert main([*line, "--advertise", "127.0.0.1"]) == 0, "the control"


def test_a_host_that_cannot_be_asked_hides_no_mistake_from_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def late(_: NamespaceHelper) -> None:
        raise HelperTimeout("addresses", "no answer")

    monkeypatch.setattr(NamespaceHelper, "addresses", late)
    key = str(tmp_path / "k")
    line = ["agent", "--check", "--config", written(tmp_path, ""), "--advertise", "127.0.0.1"]
    assert main(line) == HelperTimeout.exit, "the control"
    assert capsys.readouterr().err == "vxlanu: addresses: no answer\n"
    assert main([*line, "--key-file", key]) == 2
    assert [each.split(": ")[1] for each in capsys.readouterr().err.splitlines()] == ["addresses", f"key-file {key}"]


def test_the_sample_has_every_key_with_its_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agent", "--print-config"]) == 0
    sample = capsys.readouterr().out
    assert tomllib.loads(sample) == {}, "as it is shipped it changes nothing"
    said = tomllib.loads(re.sub(r"(?m)^#([a-z-]+ = )", r"\1", sample))
    assert list(said) and set(said) == set(IN_FILE)
    assert load({"config": written(tmp_path, re.sub(r"(?m)^#([a-z-]+ = )", r"\1", sample))}, {}, uid=0)
    defaults = load({}, {}, uid=0)
    examples = {"name", "advertise", "join", "key-file", "http", "docker", "gateway-subnet"}
    for key in set(said) - examples:
        assert said[key] == getattr(defaults, key.replace("-", "_")), key


@pytest.mark.parametrize("text", ["data-port =", "\xff", "[", 'name = "a"\nname = "b"'])
def test_what_is_not_toml_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    file = tmp_path / "agent.toml"
    file.write_bytes(text.encode("latin-1"))
    assert main(["agent", "--check", "--config", str(file)]) == 2
    err = capsys.readouterr().err
    assert re.match(rf"vxlanu: {file}:[12]: not TOML: ", err) and err.count("\n") == 1


def test_a_named_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="No such file"):
        load({"config": str(tmp_path / "none.toml")}, {}, uid=0)


@pytest.mark.parametrize(
    ("flags", "environment", "line"),
    [
        ({"data-port": 0}, {}, "the command line: --data-port: expected int >= 1"),
        ({"log-level": "loud"}, {}, "the command line: --log-level: invalid enum value 'loud'"),
        ({}, {"VXLANU_DATA_PORT": "x"}, "the environment: VXLANU_DATA_PORT: expected int, got str"),
        ({"join": ["h1:99999"]}, {}, "the command line: --join: h1:99999 is not an address to join"),
        ({"offload": "no-uso,no-warp"}, {}, "the command line: --offload: no offload is called 'no-warp'"),
        ({"offload": "tso"}, {}, f"the command line: --offload: no offload is called 'tso'; try: {OFFLOAD_HINT}"),
        ({"offload": "no-tso,off"}, {}, "the command line: --offload: no offload is called 'off'"),
        ({"workers": 17}, {}, "the command line: --workers: expected int <= 16"),
    ],
)
def test_a_wrong_flag_or_variable_is_named(flags: dict[str, object], environment: dict[str, str], line: str) -> None:
    with pytest.raises(BadRequest) as caught:
        load(flags, environment, uid=0)
    assert caught.value.line().startswith(f"vxlanu: {line}")


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("auto", set()),
        ("off", set(OFFLOADS)),
        ("no-uso", {"uso"}),
        ("no-udp-gro, no-mq", {"udp-gro", "mq"}),
        ("no-vnet-hdr", {"vnet-hdr", "tso", "uso"}),
        ("inject", set()),
        ("no-uso, inject", {"uso"}),
    ],
)
def test_what_an_offload_setting_refuses_and_asks_for(text: str, refused: set[str]) -> None:
    setting = load({"offload": text}, {}, uid=0).offload
    assert refused_offloads(setting) == refused
    assert wants_injection(setting) is ("inject" in text)


def test_check_prints_a_file_that_says_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["agent", "--check", "--name", 'a "b"', "--join", "h1", "--join", "[fd00::1]:7946", "--socket", "/s"]
    assert main(line) == 0
    printed = capsys.readouterr().out
    first = load({"name": 'a "b"', "join": ["h1", "[fd00::1]:7946"], "socket": "/s"}, {}, uid=os.getuid())
    assert tomllib.loads(printed)["join"] == ["h1", "[fd00::1]:7946"]
    again = load({"config": written(tmp_path, printed)}, {}, uid=os.getuid())
    assert {name: getattr(again, name) for name in AgentConfig.__struct_fields__ if name != "config"} == {
        name: getattr(first, name) for name in AgentConfig.__struct_fields__ if name != "config"
    }


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("h1", ("h1", "")),
        ("h1:7946", ("h1", "7946")),
        ("192.0.2.1:1", ("192.0.2.1", "1")),
        ("fd00::1", ("fd00::1", "")),
        ("[fd00::1]", ("fd00::1", "")),
        ("[fe80::1%eth0]:7946", ("fe80::1%eth0", "7946")),
        ("", ("", "")),
        ("a:b", ("", "")),
        ("a:b:c", ("", "")),
        ("[h1]:3", ("", "")),
        ("h1:", ("", "")),
        ("h 1", ("", "")),
    ],
)
def test_host_and_port_are_told_apart(text: str, parts: tuple[str, str]) -> None:
    assert split_host_port(text) == parts


def test_a_key_file_is_private_and_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "cluster.key"
    assert main(["key", "gen", str(file)]) == 0
    made = file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(base64.b64decode(made.strip(), validate=True)) == 32
    capsys.readouterr()
    assert main(["key", "gen", str(file)]) == 5
    out, err = capsys.readouterr()
    assert (out, err.startswith(f"vxlanu: key gen {file}: exists and is not overwritten; try: ")) == ("", True)
    assert file.read_text() == made


def test_a_key_on_stdout_is_new_each_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert (main(["key", "gen"]), main(["key", "gen", "--json"])) == (0, 0)
    plain, as_json = capsys.readouterr().out.splitlines()
    keys = {plain, json.loads(as_json)["key"]}
    assert len(keys) == 2
    assert all(len(base64.b64decode(key, validate=True)) == 32 for key in keys)


def test_a_key_where_no_directory_is_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "gen", str(tmp_path / "none" / "k")]) == 4
    assert "its directory does not exist" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
