"""Running a program that changes the firewall: text in, text out.

Rules of this file
  1. One process per change, never a shell. It judges nothing: what a program says is the reason that a user reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from pathlib import Path
from typing import BinaryIO

from vxlanu.errors import Refused

TIMEOUT_S = 10.0
PLACES = "/usr/sbin:/sbin:/usr/local/sbin"


def find(program: str) -> str:
    """Its path; empty if the host has none."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:{PLACES}") or ""


async def run(path: str, *words: str, text: str = "") -> tuple[int, str]:
    """Status, and output or complaint.

    Raises:
        Refused: it cannot be run, or does not end.
    """
    name = Path(path).name
    pipe = asyncio.subprocess.PIPE
    with _as_file(text) as standard_input:
        try:
            process = await asyncio.create_subprocess_exec(path, *words, stdin=standard_input, stdout=pipe, stderr=pipe)
        except OSError as why:
            raise Refused("egress rules", f"cannot run {name}: {why.strerror}", name="nft_failed") from why
    try:
        async with asyncio.timeout(TIMEOUT_S):
            output, complaint = await process.communicate()
    except TimeoutError:
        raise Refused("egress rules", f"{name} does not answer in {TIMEOUT_S:g} s", name="nft_failed") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    said = output if process.returncode == 0 else complaint
    return process.returncode or 0, said.decode(errors="replace").strip()


def _as_file(text: str) -> BinaryIO:
    """Standard input for nft, which opens it by name, as a socket cannot be opened."""
    file = os.fdopen(os.memfd_create("rules", os.MFD_CLOEXEC), "w+b")
    file.write(text.encode())
    file.seek(0)
    return file
