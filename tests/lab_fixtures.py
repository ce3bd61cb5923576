"""The lab as a fixture, for every test that needs whole hosts with their agents.

    def test_it(lab): ...                       three hosts with two containers each, shared by the tests of one module
    def test_it(make_lab): make_lab(hosts=2)    one's own, with any argument of `Lab`; gone after the test

`lab.vxlanu("h1", "member", "ls")` runs the command in this process where all that it does is to talk to the agent
(asking.py). Others, and whatever is run as `lab.exec("h1", ["vxlanu", ...])`, run on the host as a person runs them.

VXLANU_TEST_OFFLOAD=off (or any other `--offload`) runs all of them on that rung of the ladder.
When a test fails, the story of its labs (which agents run, the end of each log) is in the report.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count

import pytest
from asking import ONLY_ASK, ask
from docker_fixtures import docker_story
from needs import LAB_NEEDS, require

from vxlanu.lab.plan import agent_socket
from vxlanu.lab.topology import COMMAND_TIMEOUT_S, Json, Lab

_running: list[Lab] = []
_number = count(1)


class LabOfTests(Lab):
    """A lab whose agents are asked without a process for each question."""

    def vxlanu(self, host: str, *arguments: str, timeout_s: float = COMMAND_TIMEOUT_S) -> Json:
        if arguments[0] not in ONLY_ASK:
            return super().vxlanu(host, *arguments, timeout_s=timeout_s)
        return ask(host, self.path(agent_socket(host)), *arguments)


def _started(stack: ExitStack, **arguments: object) -> Lab:
    require(*LAB_NEEDS)
    if not arguments.get("agent"):
        require("native")
    if rung := os.environ.get("VXLANU_TEST_OFFLOAD"):
        flags = arguments.get("agent_flags", ())
        arguments["agent_flags"] = ("--offload", rung, *flags)  # type: ignore[misc]  # a tuple by the signature of Lab
    name = f"test-{os.getpid()}-{next(_number)}"
    made = LabOfTests(**arguments, lab=name)  # type: ignore[arg-type]  # Lab checks them
    _running.append(stack.enter_context(made))
    stack.callback(_running.remove, made)
    return made


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """h1, h2, h3 with c1-1, c1-2, ... c3-2, all agents seeing each other; a test removes the networks that it made."""
    with ExitStack() as stack:
        yield _started(stack, hosts=3, containers=2)


@pytest.fixture(scope="module")
def make_module_lab() -> Iterator[Callable[..., Lab]]:
    """`make_lab` whose labs are shared by the tests of one module."""
    with ExitStack() as stack:
        yield lambda **arguments: _started(stack, **arguments)


@pytest.fixture
def make_lab() -> Iterator[Callable[..., Lab]]:
    """`make_lab(hosts=3, containers=2, ...)`: a lab of one's own."""
    with ExitStack() as stack:
        yield lambda **arguments: _started(stack, **arguments)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if report.failed:
        for made in _running:
            report.sections.append((f"lab {made.plan.lab}", made.story()))
        if told := docker_story():
            report.sections.append(("docker hosts", told))
    return report
