"""The question before what cannot be undone.

Rules of this file
  1. It is asked on a terminal only. What a script feeds in was not meant for it: there --yes is said beforehand.
"""

from __future__ import annotations

import sys

import click

from vxlanu.errors import BadRequest

__all__ = ["agreed"]


def agreed(command: str, would: str, hint: str = "--yes") -> bool:
    """Whether the user wants what the command `would` do for ever (`remove demonet`).

    Raises:
        BadRequest: there is nobody to ask.
    """
    if not sys.stdin.isatty():
        why = f"would {would} for ever, and there is nobody to ask"
        raise BadRequest(command, why, hint=hint, name="usage")
    return click.confirm(f"{would[:1].upper()}{would[1:]} for ever?", err=True)
