"""The nftables of egress: one table of ours, `inet vxlanu`, as a function of what it is for.

Rules of this file
  1. Pure: rules as JSON for `nft -j -f -`, and what nft lists reduced to what can be compared. nft.py runs it.
  2. The table is always replaced whole, in one transaction: there is no state between two rule sets, and what an
     earlier run left needs no reading. Connections live in conntrack and do not notice.
  3. Only our own table. A base chain of another may still drop what ours lets pass: doctor/egress.py says so.

How it works
  raw          packets from containers to or from 127.0.0.0/8 are dropped: while ports are published, route_localnet is
               on for the bridge, and without this guard containers could reach what the host keeps on its loopback, or
               pass for the host itself where a service trusts that source
  prerouting,  a published port is led to its container, for packets from outside and from the host itself; the address
  output       is any of the host's, or the one that was named. Not for those of other containers here: where
               br_netfilter is loaded they would be led on within the bridge, between isolated ports, and vanish
  postrouting  what leaves the host takes its address (masquerade); so does what cannot be answered otherwise, from
               127.0.0.1
  forward      towards containers: answers and published ports, nothing else, least of all from other containers
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from vxlanu.gateway.published import Published

FAMILY, TABLE = "inet", "vxlanu"
BRIDGE = "vxlanu_gw"
RAW, DSTNAT, FILTER, SRCNAT = -300, -100, 0, 100  # priorities by netfilter's names

Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None

LOOPBACK: Json = {"prefix": {"addr": "127.0.0.0", "len": 8}}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the rules are for: containers of `subnet`, and ports that lead to their addresses."""

    subnet: str
    published: tuple[tuple[Published, str], ...] = ()


def replaced(wanted: Wanted) -> str:
    """The table, whatever was there before."""
    commands = [{"add": _table()}, {"delete": _table()}, {"add": _table()}, *({"add": it} for it in _contents(wanted))]
    return json.dumps({"nftables": commands})


def removed() -> str:
    """No table, whether there was one or not."""
    return json.dumps({"nftables": [{"add": _table()}, {"delete": _table()}]})


def listing() -> str:
    """The question whose answer `comparable` takes."""
    return json.dumps({"nftables": [{"list": _table()}]})


def comparable(answer: str) -> str:
    """What nft listed, without what differs between two equal tables; empty if there is no table of ours."""
    try:
        items: Json = json.loads(answer)["nftables"]
    except (ValueError, KeyError, TypeError):
        return ""
    listed = items if isinstance(items, list) else []
    rows = [_plain(item) for item in listed if isinstance(item, dict) and "metainfo" not in item]
    return json.dumps(rows, sort_keys=True) if rows else ""


def _plain(value: Json) -> Json:
    """Without handles, which count up."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: _plain(item) for key, item in value.items() if key != "handle"}


def _table() -> Json:
    return {"table": {"family": FAMILY, "name": TABLE}}


def _contents(wanted: Wanted) -> Iterable[Json]:
    yield _chain("raw", "filter", "prerouting", RAW)
    for side in ("daddr", "saddr"):
        yield _rule("raw", _is("iifname", BRIDGE), _match(_field("ip", side), LOOPBACK), {"drop": None})
    for chain in ("prerouting", "output"):
        yield _chain(chain, "nat", chain, DSTNAT)
        for one, address in sorted(wanted.published):
            elsewhere = [_is("iifname", BRIDGE, "!=")] if chain == "prerouting" else []
            yield _rule(chain, *elsewhere, *_leads(one, address))
    yield _chain("postrouting", "nat", "postrouting", SRCNAT)
    address, _, length = wanted.subnet.partition("/")
    inside = _match(_field("ip", "saddr"), {"prefix": {"addr": address, "len": int(length)}})
    yield _rule("postrouting", inside, _is("oifname", BRIDGE, "!="), {"masquerade": None})
    own = _match(_field("ip", "saddr"), LOOPBACK)
    yield _rule("postrouting", own, _is("oifname", BRIDGE), {"masquerade": None})
    yield _chain("forward", "filter", "forward", FILTER)
    from_outside = [_is("oifname", BRIDGE), _is("iifname", BRIDGE, "!=")]
    for expected in (_led(), _match({"ct": {"key": "state"}}, ["established", "related"], "in")):
        yield _rule("forward", *from_outside, expected, {"accept": None})
    yield _rule("forward", _is("oifname", BRIDGE), {"drop": None})


def _leads(one: Published, address: str) -> Iterable[Json]:
    """A published port. A rule for each: maps with an address and a port as their data make nft 1.0.6 crash."""
    local: Json = {"fib": {"result": "type", "flags": ["daddr"]}}
    yield _match(_field("ip", "daddr"), one.address) if one.address else _match(local, "local")
    yield _match(_field(one.protocol, "dport"), one.host_port)
    yield {"dnat": {"family": "ip", "addr": address, "port": one.port}}


def _chain(name: str, kind: str, hook: str, priority: int) -> Json:
    place: dict[str, Json] = {"family": FAMILY, "table": TABLE, "name": name}
    return {"chain": {**place, "type": kind, "hook": hook, "prio": priority, "policy": "accept"}}


def _rule(chain: str, *expressions: Json) -> Json:
    return {"rule": {"family": FAMILY, "table": TABLE, "chain": chain, "expr": [*expressions]}}


def _match(left: Json, right: Json, op: str = "==") -> Json:
    return {"match": {"op": op, "left": left, "right": right}}


def _is(key: str, name: str, op: str = "==") -> Json:
    return _match({"meta": {"key": key}}, name, op)


def _field(protocol: str, name: str) -> Json:
    return {"payload": {"protocol": protocol, "field": name}}


def _led() -> Json:
    """The packet's connection was led elsewhere by a rule above (or by somebody else's rule)."""
    return _match({"ct": {"key": "status"}}, "dnat", "in")
