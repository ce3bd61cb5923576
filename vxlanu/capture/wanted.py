"""What a request for a capture means: names become endpoints, networks and VTEPs; options become the data plane's.

Rules of this file
  1. Everything is resolved before anything is opened: a request that is refused changes nothing.
  2. A word that means two things is never guessed; the error says how to say which one is meant.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass

from vxlanu.agent import lookup
from vxlanu.api.schema import CaptureWanted
from vxlanu.control.core.records import NodeId
from vxlanu.control.core.view import EndpointView, View
from vxlanu.dataplane.captures import CaptureConfig
from vxlanu.dataplane.reading import REASONS
from vxlanu.errors import BadRequest, NotFound

__all__ = ["Selection", "config_of", "select"]

VIEWS = ("", "inner", "outer", "both")
DIRECTIONS = ("", "in", "out")
SNAPLEN_MAX = 262144  # as Wireshark has it


@dataclass(frozen=True, slots=True)
class Selection:
    """What is named; all empty: everything."""

    endpoints: frozenset[bytes] = frozenset()
    networks: frozenset[bytes] = frozenset()
    vteps: frozenset[str] = frozenset()

    @property
    def everything(self) -> bool:
        return not (self.endpoints or self.networks or self.vteps)

    @property
    def only_vteps(self) -> bool:
        return bool(self.vteps) and not (self.endpoints or self.networks)

    def has(self, it: EndpointView) -> bool:
        """Whether the frames of an endpoint are wanted."""
        return self.everything or it.id in self.endpoints or it.body.network in self.networks


def select(view: View, me: NodeId, references: list[str]) -> Selection:
    """What the words of a request mean.

    Raises:
        NotFound: a word means nothing, or an endpoint that is elsewhere.
        BadRequest: a word means several things.
    """
    found: dict[str, set[bytes]] = {"endpoint": set(), "network": set()}
    vteps: set[str] = set()
    for reference in references:
        kind, means = _meaning(view, me, reference)
        if isinstance(means, str):
            vteps.add(means)
        else:
            found[kind].add(means)
    return Selection(frozenset(found["endpoint"]), frozenset(found["network"]), frozenset(vteps))


def _meaning(view: View, me: NodeId, reference: str) -> tuple[str, bytes | str]:
    """The one thing that a word means: its kind, and an id or an outer address."""
    meanings: dict[str, bytes | str] = {}
    names = {"VTEP" if kind == "member" else kind for kind in lookup.called(view, reference)}
    askers: dict[str, Callable[[], bytes | str]] = {
        "network": lambda: lookup.network(view, reference).id,
        "endpoint": lambda: _endpoint(view, me, reference),
        "VTEP": lambda: _vtep(view, me, reference),
    }
    missed: NotFound | None = None
    for kind, ask in askers.items():
        if names and kind not in names:
            continue
        try:
            meanings[kind] = ask()
        except NotFound as error:
            if error.name == "not_local":
                raise
            missed = error if kind == "endpoint" else missed
    if len(meanings) > 1:
        hint = "NAME.NETWORK for an endpoint, the address for a VTEP, the id for a network"
        why = f"it is the name of {' and '.join(meanings)}"
        raise BadRequest(f"capture {reference}", why, hint=hint, name="ambiguous")
    if not meanings:
        hint = missed.hint if missed else ""
        why = "no endpoint, network or VTEP of that name, id or address"
        raise NotFound(f"capture {reference}", why, hint=hint or "vxlanu endpoint ls", name="no_such_thing")
    return meanings.popitem()


def _endpoint(view: View, me: NodeId, reference: str) -> bytes:
    found = lookup.endpoint(view, reference)
    if found.owner != me:
        why = f"it is on {found.owner_name}, where its frames are seen"
        hint = f"vxlanu capture {reference} on {found.owner_name}; here: --view outer {found.owner_name}"
        raise NotFound(f"capture {reference}", why, hint=hint, name="not_local")
    return found.id


def _vtep(view: View, me: NodeId, reference: str) -> str:
    """A member by name, or a VTEP by its address."""
    members = {it.name: it for it in view.members()}
    if reference in members:
        member = members[reference]
        if member.id == me:
            why, hint = "that is this host: all of its datagrams", "vxlanu capture --view outer"
            raise BadRequest(f"capture {reference}", why, hint=hint, name="no_such_thing")
        return member.node.data_host if member.node else member.address[0]
    try:
        address = str(ipaddress.ip_address(reference))
    except ValueError:
        raise NotFound(f"VTEP {reference}", "there is none of that name", name="no_vtep") from None
    known = {it.node.data_host for it in members.values() if it.node} | {vtep.address for vtep in view.vteps()}
    if address not in known:
        raise NotFound(f"VTEP {reference}", "there is none of that address", name="no_vtep")
    return address


def config_of(wanted: CaptureWanted, selection: Selection) -> CaptureConfig:
    """The options, checked.

    Raises:
        BadRequest: one of them cannot be.
    """
    _check(wanted)
    drops = wanted.drops or bool(wanted.reasons)
    view = wanted.view or ("" if drops else "outer" if selection.only_vteps else "inner")
    if selection.only_vteps and view == "inner":
        why = "frames cross a TAP at an endpoint, and only VTEPs are named"
        raise BadRequest("capture --view inner", why, hint="--view outer", name="bad_value")
    return CaptureConfig(
        inner=view in ("inner", "both"),
        outer=view in ("outer", "both"),
        drops=drops,
        everything=selection.everything,
        directions=frozenset((wanted.direction,)) if wanted.direction else frozenset(("in", "out")),
        reasons=frozenset(wanted.reasons),
        frames_max=wanted.count,
        snaplen=wanted.snaplen,
    )


def _check(wanted: CaptureWanted) -> None:
    if wanted.view not in VIEWS:
        raise BadRequest("capture --view", f"{wanted.view!r} is none", hint="inner, outer or both")
    if wanted.direction not in DIRECTIONS:
        raise BadRequest("capture --direction", f"{wanted.direction!r} is none", hint="in or out")
    for reason in wanted.reasons:
        if reason not in REASONS[1:]:
            raise BadRequest(f"capture --reason {reason}", "there is none of that name", hint="vxlanu help drops")
    if wanted.count < 0 or wanted.duration_s < 0 or not 0 <= wanted.snaplen <= SNAPLEN_MAX:
        raise BadRequest("capture", f"a limit below 0, or a snaplen above {SNAPLEN_MAX}", hint="0: no limit")
