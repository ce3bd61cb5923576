"""Names: what the agent's DNS answers, and how much it had to.

Rules: vxlanu/api/schema/__init__.py.
"""

from __future__ import annotations

from msgspec import Struct


class NameCounters(Struct):
    """What became of the questions at the gateways of this host; each is counted once.

    `networks` are served here. `answered` from the records, also that there is no such name; `forwarded` to a resolver
    of the host; `refused` for another server of the client; `failed`: no resolver answered; `limited`: over the rate of
    one client, not answered.
    """

    networks: int = 0
    answered: int = 0
    forwarded: int = 0
    refused: int = 0
    failed: int = 0
    malformed: int = 0
    limited: int = 0


class NameRecord(Struct):
    """One record of an answer; `endpoint` and `node` where it is an endpoint's."""

    name: str
    type: str
    ttl_s: int
    value: str
    endpoint: str = ""
    node: str = ""


class NameAnswer(Struct):
    """`vxlanu dns query`: what a container of `network` is told.

    `source`: record, alias, reverse, zone, unknown, foreign or refused (vxlanu/dns/zone.py); `resolver` answered for a
    foreign name; `why` there are no records.
    """

    name: str
    types: list[str]
    network: str
    rcode: str
    source: str
    resolver: str = ""
    why: str = ""
    records: list[NameRecord] = []
