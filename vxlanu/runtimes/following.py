"""What the agent has of container runtimes: whose events it follows, and who listens to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vxlanu.runtimes.docker.events import Follower, Listener

if TYPE_CHECKING:
    from vxlanu.agent.agent import Agent

__all__ = ["Runtimes"]


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
