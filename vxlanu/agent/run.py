"""Start and stop of the agent's process.

The lock and the helper come before threads, event loop and heavy imports, since the helper is a fork (vxlanu.nsopen);
everything else is in `life`, which is imported only then.
"""

from __future__ import annotations

import fcntl
import gc
import os
import resource
from collections.abc import Callable
from pathlib import Path

from vxlanu.agent.deadline import Deadline
from vxlanu.agent.logs import set_up
from vxlanu.agent.priority import take_priority
from vxlanu.agent.supervisor import Supervisor
from vxlanu.config import AgentConfig
from vxlanu.errors import BadRequest
from vxlanu.nsopen import NamespaceHelper
from vxlanu.store import HANDOVER_S, StateLock


def run(config: AgentConfig, reread: Callable[[], AgentConfig]) -> None:
    """Run one agent until it is told to stop; `reread` gives the settings anew after SIGHUP.

    Raises:
        VxlanuError: it cannot start; nothing is left behind.
    """
    set_up(config.log_level, config.log_format)
    _check_ready_fd(config.ready_fd)
    supervisor = Supervisor.from_environment(os.environ)
    lock = StateLock(Path(config.state_dir))
    lock.acquire(HANDOVER_S)
    helper = NamespaceHelper.start()
    _allow_descriptors()
    take_priority(config.nice)  # before there are threads
    try:
        # What is imported stays, but for a few classes that slots=True made anew. To look through it for garbage would
        # take a tenth of the start, and stop the loop later for longer than what comes and goes does.
        gc.disable()
        import uvloop

        from vxlanu.agent.life import live

        gc.freeze()
        gc.enable()
        uvloop.run(live(config, helper, supervisor, reread, Deadline()))
    finally:
        helper.close()
        lock.release()


def _allow_descriptors() -> None:
    """As many as the hard limit has: an endpoint takes two or more, and the usual soft limit of 1024 is for select(2).

    After the helper was forked: it needs few, and closes at its start every number that it could have.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _check_ready_fd(fd: int | None) -> None:
    """Before anything is opened: a number that nobody passed would be that of something of our own later."""
    if fd is None:
        return
    try:
        writable = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
    except OSError:
        writable = False
    if not writable:
        why = "no descriptor of that number was passed that can be written to"
        raise BadRequest(f"--ready-fd {fd}", why, hint=f"vxlanu agent --ready-fd {fd} {fd}>FILE", name="bad_descriptor")
