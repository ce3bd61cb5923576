"""--filter of `network ls` and `network prune`: Docker's meaning, and one line for what cannot be."""

from __future__ import annotations

import pytest

from vxlanu.agent.filters import KEYS, chosen
from vxlanu.api.schema import Network
from vxlanu.errors import BadRequest

ROWS = [
    Network("aa11", "blue", 256, [], 1450, 0, labels={"team": "db", "ci": ""}),
    Network("bb22", "bluegreen", 257, [], 1450, 2, labels={"team": "web"}),
    Network("cc33", "red", 258, [], 1450, 0, state="removing"),
    Network("dd44", "gw", 0, [], 1500, 0, scope="local"),
]


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ("", "blue bluegreen red gw"),
        ("name=blue", "blue bluegreen"),
        ("name=green", "bluegreen"),
        ("name=blue name=red", "blue bluegreen red"),
        ("id=bb", "bluegreen"),
        ("id=BB22", "bluegreen"),
        ("label=team", "blue bluegreen"),
        ("label=team=db", "blue"),
        ("label=team label=ci", "blue"),
        ("label=ci=", "blue"),
        ("label!=team", "red gw"),
        ("label!=team=db label!=team=web", "red gw"),
        ("vni=257 vni=258", "bluegreen red"),
        ("scope=local", "gw"),
        ("scope=global dangling=true", "blue red"),
        ("dangling=false", "bluegreen"),
        ("state=removing", "red"),
        ("name=blue label=team=web", "bluegreen"),
        ("name=blue state=removing", ""),
    ],
)
def test_what_passes(said: str, names: str) -> None:
    assert [row.name for row in chosen(ROWS, said.split())] == names.split()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("name", "not KEY=VALUE"),
        ("name=", "not KEY=VALUE"),
        ("lable=x", "there is no filter 'lable'"),
        ("dangling=yes", "dangling is true or false"),
        ("scope=world", "scope is global or local"),
        ("state=up", "state is active or removing or conflict"),
        ("vni=x", "a VNI is a number"),
        ("vni=²", "a VNI is a number"),
    ],
)
def test_what_cannot_be(said: str, why: str) -> None:
    with pytest.raises(BadRequest) as refused:
        chosen(ROWS, [said])
    assert refused.value.why == why


def test_every_key_is_tried() -> None:
    tried = {part.partition("=")[0] for row in test_what_passes.pytestmark[0].args[1] for part in row[0].split()}
    assert tried == set(KEYS)
