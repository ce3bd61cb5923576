"""What the agent has of container runtimes: whose events it follows, who listens to them, and how they ask back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from vxlanu.runtimes.docker.events import Follower, Listener

if TYPE_CHECKING:
    from vxlanu.agent.agent import Agent

__all__ = ["Questions", "Runtimes"]


class Questions:
    """Looks at things by key, each by a task of its own, one at a time for a key.

    What is done follows from what is, never from which event came: an event says only that there is a reason to look.
    One that comes during a look makes one more look after it, however many they are.
    """

    def __init__(self, agent: Agent, look: Callable[[str], Awaitable[None]]) -> None:
        self._agent = agent
        self._look = look
        self._open: dict[str, bool] = {}  # being looked at: whether to look once more

    def ask(self, key: str) -> None:
        """Look soon."""
        begin = key not in self._open
        self._open[key] = True
        if begin:
            self._agent.spawn(self._ask(key))

    async def _ask(self, key: str) -> None:
        try:
            while self._open[key]:
                self._open[key] = False
                await self._look(key)
        finally:
            del self._open[key]


class Runtimes:
    """One follower for each runtime that somebody listens to; none for the others."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._followers: dict[str, Follower] = {}

    def follow(self, runtime: str, listener: Listener) -> None:
        """Let `listener` hear; the same one may ask any number of times."""
        follower = self._followers.get(runtime)
        if follower is None:
            follower = self._followers[runtime] = Follower(runtime)
            self._agent.spawn(follower.run())
        if listener not in follower.listeners:
            follower.listeners.append(listener)
            if follower.following:
                listener.connected()

    def following(self, runtime: str) -> bool:
        """Whether events come."""
        return runtime in self._followers and self._followers[runtime].following
