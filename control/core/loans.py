"""Loans: single addresses of a block that another node holds.

    borrower                       holder
    Loan(wanted or any) ------->   writes it into its block record (durable, visible to all)
              <--------------      LoanAnswer
    journal, use, release
    LoanReturn(tag) ----------->   strikes it out, lets the address rest

Rules of this file
  1. A loan has a tag, borrower id + number, so a late LoanReturn never ends a newer loan of the same address.
  2. Lost answers and returns heal by audit: a loan to us that our journal does not know is given back, as often as it
     takes. The record is the truth; nothing else has to be remembered.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address

from .effects import Address, State
from .errors import RemoteError
from .index import Index
from .leases import Leases
from .members import LIVE, MemberTable
from .messages import Loan, LoanAnswer, LoanReturn
from .out import Outbox
from .pool import IPAddress, Pool, parse_address
from .records import NodeId

__all__ = ["Loans", "loan_tag"]

_AUDIT_INTERVAL = 10.0
_SOON = 1.0  # the first one, and the one that looks whether what was given back came; `met` makes it at once
_ANSWERS_KEPT = 4096  # answers that can be repeated; older ones heal by audit


def loan_tag(borrower: NodeId, number: int) -> bytes:
    """What stands in the block record."""
    return borrower + number.to_bytes(8, "big")


class Loans:
    """The holder's side, and the audit of the borrower's."""

    def __init__(
        self,
        table: MemberTable,
        index: Index,
        leases: Leases,
        out: Outbox,
        now: float,
        in_flight: Callable[[bytes], bool],
    ) -> None:
        self._table = table
        self._index = index
        self._leases = leases
        self._out = out
        self._in_flight = in_flight  # whether a loan with this tag is being asked for right now
        self._answers: dict[bytes, LoanAnswer] = {}
        self._next_audit = now + _SOON

    def asked(self, message: Loan, addr: Address, pool: Pool | None, now: float) -> None:
        """Somebody wants to borrow."""
        if message.borrower not in self._table.by_id or message.number >> 64:
            raise RemoteError("loan_invalid", "unknown borrower or number out of range")
        tag = loan_tag(message.borrower, message.number)
        answer = self._answers.get(tag)
        if answer is None:
            answer = self._lend(message, tag, pool, now)
            while len(self._answers) >= _ANSWERS_KEPT:
                del self._answers[next(iter(self._answers))]
            self._answers[tag] = answer
        self._out.send(addr, answer)

    def returned(self, message: LoanReturn, now: float) -> None:
        """Somebody gives back."""
        address = _parsed(message.address)
        block = self._leases.lent_from(message.network, address)
        if block is not None and block.loans[str(address)] == message.tag:
            self._answers.pop(message.tag, None)
            self._leases.returned(message.network, block, address, now)

    def give_back(self, network: bytes, address: str, tag: bytes, now: float) -> None:
        """Tell the holder; the audit repeats it until the record shows it, soon where a holder could hear it."""
        for (owner, _), block in self._index.blocks.get(network, {}).items():
            member = self._table.by_id.get(owner)
            if block.loans.get(address) == tag and member is not None and member.state in LIVE:
                key = network + block.prefix.encode()
                self._out.send(member.address, LoanReturn(network, key, address, tag))
                self._next_audit = min(self._next_audit, now + _SOON)

    def met(self, now: float) -> None:
        """We are among others: what a crash left on loan to us goes back before anybody asks for it by name."""
        self._next_audit = now

    def next_timer(self) -> float:
        """When the audit is due."""
        return self._next_audit

    def handle_timer(self, now: float) -> None:
        """Audit."""
        if now < self._next_audit:
            return
        self._next_audit = now + _AUDIT_INTERVAL
        me = self._table.me
        for network, blocks in list(self._index.blocks.items()):
            for (owner, _), block in list(blocks.items()):
                if owner == me:
                    self._leases.let_go_idle(network, block, now)
                if not block.loans:
                    continue
                if owner == me:
                    self._audit_lent(network, block.prefix, now)
                else:
                    self._audit_borrowed(network, block.loans, now)

    def _audit_borrowed(self, network: bytes, loans: dict[str, bytes], now: float) -> None:
        for address, tag in loans.items():
            if tag[:16] != self._table.me or self._in_flight(tag):
                continue
            lease = self._leases.given[network].get(ip_address(address))
            if lease is None or lease.tag != tag:
                self.give_back(network, address, tag, now)

    def _audit_lent(self, network: bytes, prefix: str, now: float) -> None:
        """A borrower that was forgotten or has left gives nothing back."""
        block = self._index.blocks[network][self._table.me, prefix]
        for address, tag in block.loans.items():
            borrower = NodeId(tag[:16])
            member = self._table.by_id.get(borrower)
            if borrower in self._index.forgotten if member is None else member.state is State.LEFT:
                self._leases.returned(network, block, ip_address(address), now)
                return  # the next one at the next audit: the block record has changed

    def _lend(self, message: Loan, tag: bytes, pool: Pool | None, now: float) -> LoanAnswer:
        network, number = message.network, message.number
        if pool is None:
            return LoanAnswer(number, network, error="not_found")
        address = _parsed(message.wanted) if message.wanted else self._leases.pick(network, pool, now)
        block = self._leases.block_with(network, address) if address is not None else None
        if address is None or block is None:
            return LoanAnswer(number, network, error="pool_exhausted" if address is None else "not_found")
        lease = self._leases.given[network].get(address)
        if lease is not None:
            return LoanAnswer(number, network, error="address_in_use", holder=lease.endpoint.hex()[:12])
        lent = block.loans.get(str(address))
        if lent is not None and lent != tag:
            return LoanAnswer(number, network, error="address_in_use", holder=lent.hex()[:12])
        if address in pool.reserved:
            return LoanAnswer(number, network, error="address_reserved")
        self._leases.lend(network, block, address, tag, now)
        return LoanAnswer(number, network, address=str(address))


def _parsed(text: str) -> IPAddress:
    try:
        return parse_address(text)
    except ValueError as error:
        raise RemoteError("loan_invalid", str(error)) from error
