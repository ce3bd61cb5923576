"""Running nft: rules in, listing out.

Rules of this file
  1. Whether it is there at all is found out once, at the start.
"""

from __future__ import annotations

from vxlanu.errors import Refused
from vxlanu.gateway import rules, tool


class Nft:
    """The program, if the host has it."""

    def __init__(self) -> None:
        self.path = tool.find("nft")

    async def replace(self, wanted: rules.Wanted) -> str:
        """Put our table up; returns what nft lists of it then, for later comparison.

        Raises:
            Refused: the kernel or nft does not take it.
        """
        status, said = await self._run(rules.replaced(wanted))
        if status != 0:
            raise Refused("egress rules", said or f"nft ended with {status}", hint="vxlanu doctor", name="nft_failed")
        return await self.listed()

    async def remove(self) -> None:
        """Take our table away; fine if there is none."""
        await self._run(rules.removed())

    async def listed(self) -> str:
        """Our table in comparable form; empty if it is not there."""
        return rules.comparable((await self._run(rules.listing()))[1])

    async def _run(self, commands: str) -> tuple[int, str]:
        return await tool.run(self.path, "-j", "-f", "-", text=commands)
