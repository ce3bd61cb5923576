"""Errors typed by blame.

RemoteError: a peer sent something wrong. It is counted, the message is dropped, and our state is unchanged.
LocalError: our own caller asked for something impossible. Our state is unchanged.
Refusal: the request was understood and the answer is no. The names are those of the API (DESIGN.md 6).
"""

from __future__ import annotations

__all__ = ["ControlError", "LocalError", "Refusal", "RemoteError"]


class ControlError(Exception):
    """Base of all errors of the control plane. `name` is stable, `what` is for people."""

    def __init__(self, name: str, what: str = "") -> None:
        super().__init__(f"{name}: {what}" if what else name)
        self.name = name
        self.what = what


class RemoteError(ControlError):
    """A peer's fault. Our state is unchanged."""


class LocalError(ControlError):
    """Our caller's fault. Our state is unchanged."""


class Refusal(ControlError):
    """The answer is no. Our state is unchanged.

    Names: address_in_use, address_outside, address_reserved, pool_exhausted, try_again, not_found, network_removed,
    name_taken, vni_in_use, subnet_overlaps, network_in_use, member_alive.
    """

    def __init__(self, name: str, what: str, why: str = "", holder: str = "") -> None:
        super().__init__(name, what)
        self.why = why
        self.holder = holder
