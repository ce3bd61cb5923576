"""A finding, and the constructors by which the checks read like sentences."""

from __future__ import annotations

from msgspec import Struct, field

__all__ = ["FAIL", "OK", "SKIP", "WARN", "Finding", "Report", "fail", "ok", "skip", "warn"]

OK, WARN, FAIL, SKIP = "ok", "warn", "fail", "skip"


class Finding(Struct, frozen=True):
    """`what` was looked at and how it is, `why` that matters, `try_` what to do."""

    check: str
    state: str
    what: str
    why: str = ""
    try_: str = field(name="try", default="")


class Report(Struct, frozen=True):
    """The body of `doctor --json` and `netcheck --json`. `state` is the worst of the findings."""

    state: str
    findings: list[Finding]


def ok(check: str, what: str) -> Finding:
    return Finding(check, OK, what)


def warn(check: str, what: str, why: str, try_: str) -> Finding:
    return Finding(check, WARN, what, why, try_)


def fail(check: str, what: str, why: str, try_: str) -> Finding:
    return Finding(check, FAIL, what, why, try_)


def skip(check: str, what: str, why: str, try_: str = "") -> Finding:
    return Finding(check, SKIP, what, why, try_)
