"""Start and stop of the agent's process.

The lock and the helper come before threads, event loop and heavy imports, since the helper is a fork (vxlanu.nsopen);
everything else is in `life`, which is imported only then.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from vxlanu.agent.logs import set_up
from vxlanu.agent.supervisor import Supervisor
from vxlanu.config import AgentConfig
from vxlanu.nsopen import NamespaceHelper
from vxlanu.store import StateLock


def run(config: AgentConfig, reread: Callable[[], AgentConfig]) -> None:
    """Run one agent until it is told to stop; `reread` gives the settings anew after SIGHUP.

    Raises:
        VxlanuError: it cannot start; nothing is left behind.
    """
    set_up(config.log_level, config.log_format)
    supervisor = Supervisor.from_environment(os.environ)
    lock = StateLock(Path(config.state_dir))
    lock.acquire()
    helper = NamespaceHelper.start()
    try:
        import uvloop

        from vxlanu.agent.life import live

        uvloop.run(live(config, helper, supervisor, reread))
    finally:
        helper.close()
        lock.release()
