"""A name that is misspelt is answered with what was perhaps meant, by every command that takes one.

    c1-1        attached to `demonet` as `web`; VTEP 10.255.0.9 is foreign
      h1
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import click
import pytest

from vxlanu.cli.main import root
from vxlanu.lab.topology import Lab

pytestmark = pytest.mark.netns

# (command, argument or option) → the words after the command, and what must be suggested
MISSPELT = {
    ("attach", "network"): ("demonett c1-2", "demonet"),
    ("attach", "target"): ("demonet c1-22", "c1-2"),
    ("detach", "network"): ("demnet c1-1", "demonet"),
    ("detach", "target"): ("demonet c1-11", "c1-1"),
    ("dns query", "--network"): ("web --network demnet", "demonet"),
    ("endpoint ls", "network"): ("Demonet", "demonet"),
    ("endpoint inspect", "endpoint"): ("wbe", "web"),
    ("events", "network"): ("demonets", "demonet"),
    ("events", "--endpoint"): ("--endpoint webb", "web"),
    ("events", "--only"): ("--only endpoint_add", "endpoint_added"),
    ("exec", "endpoint"): ("webb -- true", "web"),
    ("fdb show", "network"): ("deminet", "demonet"),
    ("ipam show", "network"): ("deminet", "demonet"),
    ("ipam reclaim", "members"): ("h11 --yes", "h1"),
    ("help", "topic"): ("trobleshooting", "troubleshooting"),
    ("link show", "link"): ("demonte", "demonet"),
    ("member forget", "member"): ("h11", "h1"),
    ("neighbor show", "network"): ("deminet", "demonet"),
    ("netcheck", "member"): ("H1x", "h1"),
    ("network inspect", "network"): ("emonet", "demonet"),
    ("network rm", "networks"): ("demonnet", "demonet"),
    ("ping", "target"): ("wep", "web"),
    ("ping", "--from"): ("web --from webb", "web"),
    ("vtep add", "network"): ("demonettt 10.255.0.8", "demonet"),
    ("vtep rm", "network"): ("dmonet 10.255.0.9", "demonet"),
    ("vtep rm", "vtep"): ("demonet 10.255.0.90", "10.255.0.9"),
    ("why", "target"): ("webb", "web"),
    ("why", "--from"): ("web --from webb", "web"),
}
NEW = {  # these make a name, name something that no list of ours has, or are of another program
    ("dns query", "name"),  # any name of the world
    ("dns query", "--type"),
    ("exec", "command"),
    ("key gen", "file"),
    ("kv get", "key"),
    ("kv ls", "prefix"),
    ("kv watch", "prefix"),
    ("member join", "addresses"),
    ("network create", "name"),
    ("vtep add", "vtep"),
    ("agent", "--name"),
    ("attach", "--name"),
}
CHOICES = {("completion", "shell")}  # click lists them all


def names(group: click.Group, path: str = "") -> Iterator[tuple[str, str]]:
    """(command, argument) of all commands, and the options that complete names."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        whole = f"{path} {name}".strip()
        if isinstance(command, click.Group):
            yield from names(command, whole)
        for parameter in command.params:
            if isinstance(parameter, click.Argument):
                yield whole, str(parameter.name)
            elif parameter._custom_shell_complete is not None and "--format" not in parameter.opts:
                yield whole, parameter.opts[0]


@pytest.fixture(scope="module")
def host(make_module_lab: Callable[..., Lab]) -> Lab:
    lab = make_module_lab(hosts=1, containers=2)
    lab.vxlanu("h1", "network", "create", "demonet", "--subnet", "192.168.0.0/24")
    lab.vxlanu("h1", "attach", "demonet", "c1-1", "--name", "web")
    lab.vxlanu("h1", "vtep", "add", "demonet", "10.255.0.9")
    return lab


def test_every_command_that_takes_a_name_is_tried_here() -> None:
    known = {it for it in names(root) if not it[0].startswith(("lab", "capture", "bench"))}
    assert known - NEW - CHOICES == set(MISSPELT)


@pytest.mark.parametrize(("command", "parameter"), MISSPELT)
def test_a_misspelt_name_is_answered_with_the_nearest(host: Lab, command: str, parameter: str) -> None:
    words, meant = MISSPELT[command, parameter]
    done = host.exec("h1", ["vxlanu", *command.split(), *words.split()], check=False)
    assert done.returncode in (2, 4), done
    assert done.stdout == "" and done.stderr.count("\n") == 1, done
    _, _, hint = done.stderr.strip().partition("; try: ")
    assert meant in hint.split(" or "), done.stderr


def test_detach_by_the_name_of_an_endpoint_says_what_its_target_is(host: Lab) -> None:
    done = host.exec("h1", ["vxlanu", "detach", "demonet", "web"], check=False)
    assert done.returncode == 4 and done.stdout == "", done
    assert "its target is c1-1; try: vxlanu detach demonet c1-1" in done.stderr
    assert [it["name"] for it in host.vxlanu("h1", "endpoint", "ls")] == ["web"]
