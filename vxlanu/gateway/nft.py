"""Running nft: rules in, listing out.

Rules of this file
  1. One process per change; whether it is there at all is found out once, at the start.
  2. It judges nothing: what nft says is the reason that a user reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from typing import BinaryIO

from vxlanu.errors import Refused
from vxlanu.gateway import rules

TIMEOUT_S = 10.0
PLACES = "/usr/sbin:/sbin:/usr/local/sbin"


def _as_file(text: str) -> BinaryIO:
    """Standard input for nft, which opens it by name, as a socket cannot be opened."""
    file = os.fdopen(os.memfd_create("nft", os.MFD_CLOEXEC), "w+b")
    file.write(text.encode())
    file.seek(0)
    return file


class Nft:
    """The program, if the host has it."""

    def __init__(self) -> None:
        self.path = shutil.which("nft", path=f"{os.environ.get('PATH', '')}:{PLACES}") or ""

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
        """Status, and output or complaint."""
        pipe = asyncio.subprocess.PIPE
        with _as_file(commands) as rules_in:
            try:
                process = await asyncio.create_subprocess_exec(
                    self.path, "-j", "-f", "-", stdin=rules_in, stdout=pipe, stderr=pipe
                )
            except OSError as why:
                raise Refused("egress rules", f"cannot run nft: {why.strerror}", name="nft_failed") from why
        try:
            output, complaint = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
        except TimeoutError:
            raise Refused("egress rules", f"nft does not answer in {TIMEOUT_S:g} s", name="nft_failed") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        said = output if process.returncode == 0 else complaint
        return process.returncode or 0, said.decode(errors="replace").strip()
