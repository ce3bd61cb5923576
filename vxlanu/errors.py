"""Every error a user can get, with its class.

Rules of this file
  1. An error says what failed, why, and what to try; it never says only that something failed.
  2. Its `name` is stable, its `exit` is the exit code of its class, its `status` the HTTP status that carries it.
  3. Raising one means that nothing was changed, or that what was changed has been undone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from vxlanu.api.schema import ErrorBody, ErrorReply


class VxlanuError(Exception):
    """A failure with blame and advice; subclasses are the classes of DESIGN.md 6."""

    exit: ClassVar[int] = 1
    status: ClassVar[int] = 500
    default_name: ClassVar[str] = "failed"

    def __init__(
        self, what: str, why: str, *, hint: str = "", name: str = "", detail: dict[str, str] | None = None
    ) -> None:
        super().__init__(f"{what}: {why}")
        self.what = what
        self.why = why
        self.hint = hint
        self.name = name or self.default_name
        self.detail = detail or {}

    def line(self) -> str:
        """The one line that stands on stderr."""
        tail = f"; try: {self.hint}" if self.hint else ""
        return f"vxlanu: {self.what}: {self.why}{tail}"

    def reply(self) -> ErrorReply:
        """The same as the API sends it."""
        return ErrorReply(ErrorBody(self.name, self.exit, self.what, self.why, self.hint, self.detail))


class AnswerIsNo(VxlanuError):
    """The question was understood and the answer is no (verify found differences, a ping was lost)."""

    exit, status, default_name = 1, 200, "answer_is_no"


class BadRequest(VxlanuError):
    """A value, an option or a configuration that cannot be right."""

    exit, status, default_name = 2, 400, "bad_value"


class AgentUnreachable(VxlanuError):
    """No agent answers on the socket."""

    exit, status, default_name = 3, 503, "agent_unreachable"


class NotFound(VxlanuError):
    """What was named does not exist."""

    exit, status, default_name = 4, 404, "not_found"


class Conflict(VxlanuError):
    """Overlap, taken, duplicate, in use."""

    exit, status, default_name = 5, 409, "conflict"


class Refused(VxlanuError):
    """Key, permission, port held."""

    exit, status, default_name = 6, 403, "refused"


class TryAgain(VxlanuError):
    """Peers or a holder are away; the same request may succeed later."""

    exit, status, default_name = 75, 503, "try_again"


CLASSES: tuple[type[VxlanuError], ...] = (
    AnswerIsNo,
    BadRequest,
    AgentUnreachable,
    NotFound,
    Conflict,
    Refused,
    TryAgain,
)


def near(said: str, known: Iterable[str]) -> str:
    """The names that `said` may have meant, as advice (`a or b`), whatever their case; nothing when none is close."""
    import difflib  # only for who made a mistake

    folded: dict[str, str] = {}
    for name in known:
        folded.setdefault(name.casefold(), name)
    return " or ".join(folded[found] for found in difflib.get_close_matches(said.casefold(), folded, 3, 0.6))


def from_reply(body: ErrorBody) -> VxlanuError:
    """The error a reply carries, in its class; an unknown class becomes the plain one."""
    for kind in CLASSES:
        if kind.exit == body.exit:
            return kind(body.what, body.why, hint=body.try_, name=body.name, detail=body.detail)
    return VxlanuError(body.what, body.why, hint=body.try_, name=body.name, detail=body.detail)
