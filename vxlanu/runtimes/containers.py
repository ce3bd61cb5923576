"""One container, asked of its runtime: by its API where there is a socket, else by its command line.

Rules of this file
  1. The API comes first: a `docker` in PATH may be another release than the daemon, or a client of something else.
     Where nobody answers there, a runtime without a daemon is asked by its command: it needs no one to answer.
  2. Every question ends in time, and each way of failing says whose failure it is: no such container, or no answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from vxlanu.runtimes.docker.client import (
    ANSWER_S_MAX,
    DAEMONLESS,
    DockerApi,
    DockerAway,
    DockerRefused,
    refusal,
    socket_of,
)

__all__ = ["Found", "NoContainer", "RuntimeAway", "find"]

FORMAT = "{{.State.Pid}} {{.Id}} {{.Name}}"
NONE_OF_THAT_NAME = ("no such container", "no container with name or id")  # docker, podman


class NoContainer(Exception):
    """The runtime answers that it has none of that name."""


class RuntimeAway(Exception):
    """The runtime cannot be asked, or does not answer."""


@dataclass(frozen=True, slots=True)
class Found:
    """A container as its runtime knows it; `pid` of its first process, 0 unless it runs."""

    id: str
    name: str
    pid: int


async def find(runtime: str, reference: str) -> Found:
    """A container by name or id."""
    path = socket_of(runtime)
    if path is not None:
        try:
            return await _by_api(DockerApi(path), reference)
        except DockerAway as why:
            if runtime not in DAEMONLESS:
                raise RuntimeAway(f"{runtime} does not answer at {path}: {why}") from why
    return await _by_command(runtime, reference)


async def _by_api(api: DockerApi, reference: str) -> Found:
    try:
        said = await api.container(reference)
    except DockerRefused as why:
        raise (NoContainer if why.status == 404 else RuntimeAway)(str(why)) from why
    return Found(said.id, said.name, said.state.pid)


async def _by_command(runtime: str, reference: str) -> Found:
    command = (runtime, "inspect", "--type", "container", "--format", FORMAT, reference)
    pipe = asyncio.subprocess.PIPE
    try:
        asked = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    except OSError as why:
        raise RuntimeAway(f"cannot run {runtime}: {why.strerror}") from why
    try:
        async with asyncio.timeout(ANSWER_S_MAX):
            said, complaint = await asked.communicate()
    except TimeoutError:
        raise RuntimeAway(f"{runtime} does not answer within {ANSWER_S_MAX:g} s") from None
    finally:
        if asked.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                asked.kill()
    if asked.returncode != 0:
        last = refusal(runtime, complaint) or f"{runtime} inspect failed"
        raise (NoContainer if any(text in last.lower() for text in NONE_OF_THAT_NAME) else RuntimeAway)(last)
    pid, identity, name = (said.decode(errors="replace").split() + [""] * 3)[:3]
    if not pid.isdigit() or not identity:
        raise RuntimeAway(f"{runtime} inspect says {said[:80]!r}")
    return Found(identity, name.removeprefix("/"), int(pid))
