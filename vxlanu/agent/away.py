"""`vxlanu agent --stand-in`: tell Docker at once that this host's agent does not run, instead of letting it wait.

For a service manager, whose agent has no stand-in beside it (vxlanu.runtimes.docker.absence): its second unit runs this
when the first was stopped. The process becomes the same stand-in that otherwise stays of itself.

Rules of this file
  1. Where there is nothing to do it says so and ends well: no Docker, none of our networks, an agent that runs, or
     somebody else on the socket. It makes no state where there is none.
  2. The lock of the state directory is held until the socket is bound: an agent binds it with the lock, too, so neither
     takes the file from under the other. It falls when the process becomes the stand-in.
"""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path
from typing import NoReturn

from vxlanu.agent.logs import set_up
from vxlanu.api.listener import Listener
from vxlanu.config import AgentConfig
from vxlanu.errors import Refused
from vxlanu.runtimes.docker.absence import become, gone, removed_meanwhile
from vxlanu.runtimes.docker.ledger import DockerNetwork, Ledger
from vxlanu.store import FILE_NAME, LOCK_NAME, StateLock, Store

__all__ = ["stand_in_for"]

log = logging.getLogger("vxlanu.docker")

AGENT_RUNS = "state_dir_in_use"
NEEDLESS = (AGENT_RUNS, "no_state", "socket_in_use", "needless")


def stand_in_for(config: AgentConfig) -> None:
    """Become the stand-in of an agent with these settings; return where none is needed.

    Raises:
        Refused: the state cannot be read, or the socket not be made.
    """
    set_up(config.log_level, config.log_format)
    try:
        _stand_in(Path(config.docker), Path(config.state_dir))
    except Refused as why:
        if why.name not in NEEDLESS:
            raise
        level = logging.DEBUG if why.name == AGENT_RUNS else logging.INFO  # as at each restart
        log.log(level, "no stand-in for Docker: %s", why.why, extra={"event": "docker_stand_in"})


def _stand_in(path: Path, directory: Path) -> NoReturn:
    if path == Path():
        raise Refused("stand-in", "the configuration says no docker", name="needless")
    lock = StateLock(directory)
    lock.acquire(create=False)
    if not (directory / FILE_NAME).exists():
        raise Refused("stand-in", "no agent has run here", name="needless")
    # The file is taken away by who lets it through. Before the store has a thread, so that it holds it back, too: even
    # joined it is there for another moment, and the signal would find it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    networks = _networks(directory)
    if not networks:
        raise Refused("stand-in", "it has no network of ours", name="needless")
    listener = Listener(path, "--docker=PATH", shared=False)
    listener.open()
    names = ", ".join(sorted({row.name for row in networks}))
    until = "until the agent runs again or Docker has removed its networks of ours"
    log.info("refuses Docker's requests %s: %s", until, names, extra={"event": "docker_stand_in"})
    become(listener.socket, path, directory / LOCK_NAME, _line(), [row.docker_id for row in networks])


def _networks(directory: Path) -> list[DockerNetwork]:
    """Those that Docker has of ours, as far as anybody could hear of it."""
    store = Store(directory)
    try:
        known = Ledger(store).networks
    finally:
        store.close()
    removed = removed_meanwhile(directory)
    return [row for row in known.values() if row.docker_id not in removed]


def _line() -> str:
    """What Docker's user reads."""
    by_systemd = os.environ.get("SYSTEMD_EXEC_PID") == str(os.getpid())
    return gone("it was stopped", "systemctl start vxlanu" if by_systemd else "vxlanu agent --docker")
