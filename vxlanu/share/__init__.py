"""Files that ship with the program: sample configuration, unit file, help topics, man pages."""

from __future__ import annotations

from importlib.resources import files

__all__ = ["shipped"]


def shipped(name: str) -> str:
    """The text of one of them."""
    return files(__name__).joinpath(name).read_text(encoding="utf-8")
