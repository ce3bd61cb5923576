"""Docker hosts as fixtures (docker_hosts.py), for every test that needs a real dockerd.

    def test_it(docker_pair): h1, h2 = docker_pair     two hosts that the tests of a module share, clean for each
    def test_it(make_docker_hosts): ...                two of one's own, for tests that change a host for good

When a test fails, the end of each daemon's log is in the report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from docker_hosts import DockerHost, DockerHosts
from needs import DOCKER_NEEDS, require

__all__ = ["docker_hosts", "docker_pair", "make_docker_hosts"]

AGENT_FLAGS = ("--docker", "--http", "127.0.0.1:8500")

Pair = tuple[DockerHost, DockerHost]
_running: list[DockerHosts] = []


def docker_story() -> str:
    """What all daemons that run now have said last."""
    return "\n".join(hosts.story() for hosts in _running)


def _started(stack: ExitStack, folders: pytest.TempPathFactory, *agent_flags: str) -> DockerHosts:
    require(*DOCKER_NEEDS)
    made = DockerHosts(folders.mktemp("docker"), *agent_flags)
    stack.enter_context(made)
    _running.append(made)
    stack.callback(_running.remove, made)
    return made


@pytest.fixture(scope="module")
def docker_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerHosts]:
    """Both hosts, for what a pair of names does not offer. Idle ones cost more in two minutes than new ones."""
    with ExitStack() as stack:
        yield _started(stack, tmp_path_factory, *AGENT_FLAGS)


@pytest.fixture
def docker_pair(docker_hosts: DockerHosts) -> Pair:
    """h1 and h2 with everything running and nothing in them; a test leaves behind what it likes."""
    docker_hosts.clean()
    return docker_hosts.each[0], docker_hosts.each[1]


@pytest.fixture
def make_docker_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., DockerHosts]]:
    """`make_docker_hosts(*agent_flags)`: two hosts of one's own, gone after the test."""
    with ExitStack() as stack:
        yield lambda *agent_flags: _started(stack, tmp_path_factory, *agent_flags)
