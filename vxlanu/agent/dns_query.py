"""A question about a name, asked as a container would ask it, and who answers it why.

Rules of this file
  1. The zone and the forwarder are those of the servers: what is said here is what a container is told.
  2. Without a network it is asked of those of this host, else of all. Where two know the name, the user must choose.
"""

from __future__ import annotations

import ipaddress

import dns.exception
import dns.message
import dns.rcode
import dns.rdatatype

from vxlanu.agent import lookup
from vxlanu.agent.agent import Agent
from vxlanu.api.schema import NameAnswer, NameRecord
from vxlanu.control.core.view import NetworkView
from vxlanu.dns import wire
from vxlanu.dns.forward import Busy
from vxlanu.dns.limits import ANSWER_TTL_S
from vxlanu.dns.zone import PTR, Found, Kind
from vxlanu.errors import BadRequest, NotFound, TryAgain

__all__ = ["query"]

_OWN = (Kind.RECORD, Kind.ALIAS, Kind.REVERSE)
_RCODES = {Kind.UNKNOWN: "NXDOMAIN", Kind.REFUSED: "REFUSED"}


async def query(agent: Agent, name: str, rtype: str, reference: str) -> NameAnswer:
    """What a container of a network is told of `name`: of one type, else of A and AAAA, of an address its name."""
    asked, types = _question(name, rtype)
    try:
        questions = [wire.question(asked, number) for number in types]
    except ValueError as error:
        hint = "labels of at most 63 letters, dots between them"
        raise BadRequest(f"name {name}", str(error).rstrip("."), hint=hint) from error
    network, found = _place(agent, name, questions, reference)
    shown = [dns.rdatatype.to_text(dns.rdatatype.RdataType.make(number)) for number in types]
    answer = NameAnswer(asked, shown, network.name, "NOERROR", found[0].kind.value, why=found[0].why)
    if found[0].kind is Kind.FOREIGN:
        for question in questions:
            await _forward(agent, question, answer)
    else:
        answer.rcode = _RCODES.get(found[0].kind, "NOERROR")
        for number, each in zip(types, found, strict=True):
            answer.records += _records(agent, network, asked, number, each)
    if not answer.records and not answer.why:
        answer.why = f"it has no {' and no '.join(shown)}"
    return answer


def _question(name: str, rtype: str) -> tuple[str, list[int]]:
    """The name to ask for, and the types."""
    try:
        types = [int(dns.rdatatype.from_text(rtype))] if rtype else []
    except (dns.exception.DNSException, ValueError) as error:
        raise BadRequest(f"type {rtype}", "there is none of that name", hint="A, AAAA, PTR, TXT, MX, …") from error
    try:
        return ipaddress.ip_address(name).reverse_pointer, types or [PTR]
    except ValueError:
        return name, types or [int(dns.rdatatype.A), int(dns.rdatatype.AAAA)]


def _place(
    agent: Agent, name: str, questions: list[wire.Query], reference: str
) -> tuple[NetworkView, list[Found]]:
    """The network whose containers are meant, and what its zone says."""
    everyone = agent.view.networks()
    if reference:
        chosen = [lookup.network(agent.view, reference)]
    else:
        chosen = [it for it in everyone if it.id in agent.reconciler.local] or everyone
    if not chosen:
        raise NotFound(f"dns query {name}", "there are no networks", hint="vxlanu network create", name="no_network")
    answers = []
    for network in chosen:
        zone = agent.names.zone(network)
        answers.append((network, [zone.find(question.name, question.rtype) for question in questions]))
    knowing = [it for it in answers if it[1][0].kind in _OWN]
    if len(knowing) > 1:
        listed = ", ".join(network.name for network, _ in knowing)
        raise BadRequest(f"dns query {name}", f"known in {listed}", hint="--network NETWORK", name="ambiguous")
    forwarding = [it for it in answers if it[1][0].kind is Kind.FOREIGN]
    return [*knowing, *forwarding, *answers][0]


def _records(agent: Agent, network: NetworkView, asked: str, rtype: int, found: Found) -> list[NameRecord]:
    text = dns.rdatatype.to_text(dns.rdatatype.RdataType.make(rtype))
    made = []
    for value in found.values:
        address = ipaddress.ip_address(value) if found.kind is not Kind.REVERSE else None
        key = str(address) if address is not None else _address_of(asked)
        holder = agent.view.winner(network.id, key)
        if text == "ANY" and address is not None:
            text = "AAAA" if address.version == 6 else "A"
        node, endpoint = (holder.owner_name, holder.body.name) if holder else ("", "")
        made.append(NameRecord(asked, text, ANSWER_TTL_S, value, endpoint, node))
    return made


def _address_of(reverse: str) -> str:
    from vxlanu.dns.zone import reversed_address

    return str(reversed_address(reverse.lower().removesuffix(".")) or "")


async def _forward(agent: Agent, question: wire.Query, answer: NameAnswer) -> None:
    """Add what a resolver of the host says."""
    try:
        told = await agent.names.forwarder.ask(question, "", stream=True)
    except Busy as busy:
        raise TryAgain(f"dns query {answer.name}", "too many questions are on their way") from busy
    answer.resolver = told.resolver
    try:
        message = dns.message.from_wire(told.answer)
    except (dns.exception.DNSException, ValueError) as error:
        answer.rcode, answer.why = "FORMERR", f"{told.resolver} answers nonsense: {error}"
        return
    answer.rcode = dns.rcode.to_text(message.rcode())
    if message.rcode() != dns.rcode.NOERROR:
        answer.why = told.why or f"{told.resolver} says {answer.rcode}"
    for found in message.answer:
        kind = dns.rdatatype.to_text(found.rdtype)
        name = found.name.to_text(omit_final_dot=True)
        answer.records += [NameRecord(name, kind, found.ttl, value.to_text()) for value in found]
