"""Start and stop of the agent's process.

The lock and the helper come before threads, event loop and heavy imports, since the helper is a fork (vxlanu.nsopen);
everything else is in `life`, which is imported only then.
"""

from __future__ import annotations

import sys
from pathlib import Path

from vxlanu.agent.logs import set_up
from vxlanu.config import AgentConfig
from vxlanu.errors import VxlanuError
from vxlanu.nsopen import NamespaceHelper
from vxlanu.store import StateLock


def run(config: AgentConfig) -> int:
    """Run one agent until it is told to stop; the exit code of its class when it cannot start."""
    set_up(config.log_level, config.log_format)
    lock = StateLock(Path(config.state_dir))
    try:
        lock.acquire()
    except VxlanuError as error:
        print(error.line(), file=sys.stderr)
        return error.exit
    helper = NamespaceHelper.start()
    try:
        import uvloop

        from vxlanu.agent.life import live

        uvloop.run(live(config, helper))
    except VxlanuError as error:
        print(error.line(), file=sys.stderr)
        return error.exit
    finally:
        helper.close()
        lock.release()
    return 0
