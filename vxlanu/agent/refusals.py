"""The control core's refusals as the errors that users know."""

from __future__ import annotations

from vxlanu.control.core.errors import LocalError, Refusal
from vxlanu.errors import BadRequest, Conflict, NotFound, Refused, TryAgain, VxlanuError

_CLASSES: dict[str, type[VxlanuError]] = {
    "address_in_use": Conflict,
    "address_outside": BadRequest,
    "address_reserved": Conflict,
    "pool_exhausted": Conflict,
    "try_again": TryAgain,
    "not_found": NotFound,
    "network_removed": Conflict,
    "name_taken": Conflict,
    "identity_taken": Refused,
    "vni_in_use": Conflict,
    "subnet_overlaps": Conflict,
    "network_in_use": Conflict,
    "member_alive": Conflict,
}
_HINTS = {
    "address_in_use": "another --ip, or none",
    "address_outside": "an address of the network's subnet",
    "address_reserved": "another --ip, or none",
    "pool_exhausted": "a network with a larger --subnet",
    "try_again": "again when the peers are back: vxlanu member ls",
    "name_taken": "another name",
    "vni_in_use": "another --vni, or none",
    "subnet_overlaps": "another --subnet, or none",
    "network_in_use": "vxlanu endpoint ls, then detach",
    "member_alive": "vxlanu member leave, on that host",
}


def as_error(refusal: Refusal | LocalError, what: str) -> VxlanuError:
    """The same no, in its class, about `what`."""
    kind = _CLASSES.get(refusal.name, BadRequest)
    why = refusal.what or refusal.name.replace("_", " ")
    reason = getattr(refusal, "why", "")
    holder = getattr(refusal, "holder", "")
    if reason:
        why = f"{why}: {reason}"
    detail = {"holder": holder} if holder else {}
    if holder and holder not in why:
        why = f"{why} (held by {holder})"
    return kind(what, why, hint=_HINTS.get(refusal.name, ""), name=refusal.name, detail=detail)
