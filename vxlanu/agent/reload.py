"""SIGHUP: the configuration is read again; what can change at run time does, and what cannot is said.

Rules of this file
  1. One log line per key that differs, none for those that do not; a configuration that is wrong changes nothing.
  2. A key changes here only if it then is as if the agent had been started with it. Seeds that are taken out of the
     file are an exception without a difference: whoever was joined stays a member.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable

import msgspec

from vxlanu.agent.agent import Agent
from vxlanu.agent.logs import set_up
from vxlanu.config import AgentConfig, ConfigMistakes
from vxlanu.control.core.errors import LocalError, Refusal
from vxlanu.errors import VxlanuError

log = logging.getLogger("vxlanu.reload")

AT_RUN_TIME = ("log-level", "log-format", "join")


def on_hangup(agent: Agent, reread: Callable[[], AgentConfig]) -> None:
    """Reload at every SIGHUP, one after the other."""
    turn = asyncio.Lock()

    async def reload() -> None:
        async with turn:
            await _reload(agent, reread)

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, lambda: agent.spawn(reload()))


async def _reload(agent: Agent, reread: Callable[[], AgentConfig]) -> None:
    """The manager hears that it is over in any case: it kills who reloads for ever."""
    agent.supervisor.reloading()
    try:
        await _apply(agent, await asyncio.to_thread(reread))
    except ConfigMistakes as mistakes:
        for mistake in mistakes.each:
            log.error("not reloaded: %s: %s", mistake.what, mistake.why, extra={"event": "reload_failed"})
    except VxlanuError as error:
        log.error("not reloaded: %s: %s", error.what, error.why, extra={"event": "reload_failed"})
    finally:
        agent.supervisor.ready(f"{agent.config.name} at {agent.underlay.address}")


async def _apply(agent: Agent, wanted: AgentConfig) -> None:
    """Compare with what runs, key by key."""
    before = agent.config
    different = [key for key in AgentConfig.__struct_fields__ if getattr(before, key) != getattr(wanted, key)]
    changes = {field.replace("_", "-"): (getattr(before, field), getattr(wanted, field)) for field in different}
    fields = [key.replace("-", "_") for key in AT_RUN_TIME]
    agent.config = msgspec.structs.replace(before, **{field: getattr(wanted, field) for field in fields})
    set_up(agent.config.log_level, agent.config.log_format)
    for key, (old, new) in changes.items():
        if key in AT_RUN_TIME:
            log.info("%s: was %s, is %s", key, _shown(old), _shown(new), extra={"event": "reloaded"})
        else:
            log.warning(
                "%s: stays %s until a restart (wanted: %s)",
                key,
                _shown(old),
                _shown(new),
                extra={"event": "needs_restart"},
            )
    if not changes:
        log.info("reloaded, nothing is different", extra={"event": "reloaded"})
    if new_seeds := [seed for seed in wanted.join if seed not in before.join]:
        await _join(agent, new_seeds)


async def _join(agent: Agent, seeds: list[str]) -> None:
    try:
        await agent.control.join(seeds)
    except (Refusal, LocalError) as refusal:
        log.warning("join %s: %s", " ".join(seeds), refusal, extra={"event": "join_failed"})


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "nothing"
    return str(value) if value not in ("", None) else "nothing"
