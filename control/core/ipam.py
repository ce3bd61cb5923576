"""IPAM: one address for one endpoint, never the same one twice.

How it works
  A request becomes an errand. `_advance` looks at what is known and does the next thing: grant from a block of ours,
  claim a block (claims.py), borrow a single address from its holder (loans.py), or wait for one of these to end. It is
  called again whenever something ended, and from a timer; so the order of events does not matter.

      a fixed address   our block -> grant;  nobody's block -> claim it;  another's -> borrow it;
                        holder away -> try_again, naming it (--take-over: grant, if its user is dead)
      any address       our blocks -> grant;  unclaimed block -> claim it;  none left -> borrow from whoever lends
      one it has        granted again while it stands; else asked for as a fixed one, and if somebody has it, any

Rules of this file
  1. An address is in the journal (leases.py) before Allocated leaves.
  2. One claim of a block at a time in a network; requests that need one wait for it together. Single addresses are
     claimed several at once, each by the request that wants it: fifty attaches would wait for each other else.
  3. Every errand ends by its deadline, with a name that says whether trying again makes sense.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network, ip_address
from typing import NoReturn

from .claims import ClaimEnd, Claims
from .config import Profile, Rng
from .effects import Address, Allocated, AllocationRefused, State
from .errors import Refusal
from .index import Index
from .leases import Lease, Leases
from .loans import Loans, loan_tag
from .members import LIVE, MemberTable
from .messages import Claim, ClaimAnswer, Loan, LoanAnswer, LoanReturn, Message
from .out import Outbox
from .owned import Owned
from .pool import IPAddress, Pool, parse_address, parse_prefix
from .records import EndpointId, NetworkId, NodeId
from .view import EndpointView, NetworkState, View
from .writer import Writer

__all__ = ["Ipam"]

_RETRY = 0.25  # seconds between two looks at an errand that waits
_LOAN_REPEAT = 0.1
_LOAN_PATIENCE = 2.0  # then another holder is asked
_SINGLES_AT_ONCE = 16  # claims of single addresses under way in a network
_BLOCKS_LOOKED_AT = 4096  # of a pool's preference order, before it counts as fully claimed


@dataclass(slots=True)
class _Borrowing:
    """One question to one holder."""

    holder: NodeId
    number: int
    message: Loan
    next_send: float
    end: float


@dataclass(slots=True)
class _Errand:
    """One request for an address."""

    request: int
    network: NetworkId
    endpoint: EndpointId
    wanted: IPAddress | None
    subnet: str
    ipv6: bool
    take_over: bool
    deadline: float
    next_look: float
    any_will_do: bool = False  # `wanted` is what it had before
    loan: int = 0  # the number of the loan by which it had that
    claiming: str = ""  # the block for which it began a claim
    borrowing: _Borrowing | None = None
    asked: set[NodeId] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)  # names of those that did not answer
    why: str = ""
    holder: str = ""


class Ipam:
    """Address management of one node."""

    def __init__(
        self,
        table: MemberTable,
        index: Index,
        owned: Owned,
        writer: Writer,
        view: View,
        profile: Profile,
        out: Outbox,
        rng: Rng,
        now: float,
    ) -> None:
        self._table = table
        self._index = index
        self._view = view
        self._profile = profile
        self._out = out
        self._rng = rng
        self.leases = Leases(table, index, writer, profile, out)
        self.claims = Claims(table, owned, writer, index, self.leases, profile, out, self._claim_ended)
        self.loans = Loans(table, index, self.leases, out, now, self._in_flight)
        self._errands: dict[int, _Errand] = {}
        self._avoid: dict[tuple[bytes, str], float] = {}  # blocks that were refused to us a moment ago

    def allocate(
        self,
        request: int,
        network: NetworkId,
        endpoint: EndpointId,
        wanted: str | None,
        subnet: str,
        ipv6: bool,
        take_over: bool,
        now: float,
    ) -> None:
        """Begin; ends in Allocated or AllocationRefused."""
        try:
            address = parse_address(wanted) if wanted is not None else None
        except ValueError as error:
            self._refuse(request, Refusal("address_outside", str(wanted), str(error)))
            return
        ipv6 = address.version == 6 if address is not None else ":" in subnet or ipv6
        try:
            self._check(network, subnet, address, 6 if ipv6 else 4)
        except Refusal as refusal:
            self._refuse(request, refusal)
            return
        deadline = now + self._profile.allocate_deadline
        errand = _Errand(request, network, endpoint, address, subnet, ipv6, take_over, deadline, now)
        self._errands[request] = errand
        self._look(errand, now)

    def release(self, network: NetworkId, endpoint: EndpointId, now: float) -> None:
        """Give back every address of an endpoint, and give up what is still being asked for it."""
        for errand in list(self._errands.values()):
            if (errand.network, errand.endpoint) == (network, endpoint):
                why = "it was released while it was asked for"
                self._end(errand, Refusal("try_again", str(errand.wanted or "an address"), why))
        for address, lease in self.leases.release(network, endpoint, now):
            if lease.tag:
                self.loans.give_back(network, str(address), lease.tag, now)

    def addresses_of(self, network: NetworkId, endpoint: EndpointId) -> tuple[str, ...]:
        """What is kept for an endpoint, with prefix lengths, IPv4 first."""
        body = self._index.networks.get(network)
        if body is None:
            return ()
        pool = Pool(body)
        both = (self.leases.of_endpoint(network, endpoint, pool.of_version(version)) for version in (4, 6))
        return tuple(pool.with_prefix(address) for address in both if address is not None)

    def leased(self) -> list[tuple[NetworkId, EndpointId, str]]:
        """Every address that we have given out or borrowed."""
        given = self.leases.given.items()
        return [(NetworkId(net), lease.endpoint, str(it)) for net, table in given for it, lease in table.items()]

    def free_addresses(self, network: NetworkId) -> int:
        """How many IPv4 addresses could be handed out now without asking anyone."""
        body = self._index.networks.get(network)
        return self.leases.count_free(network, Pool(body)) if body is not None else 0

    def network_gone(self, network: bytes) -> None:
        """Removed for ever, and nobody uses it."""
        self.leases.drop_network(network)
        self.claims.network_gone(network)

    def leave(self) -> None:
        """Our blocks end, and with them what we gave out; what we borrowed, the holders take back."""
        self.leases.clear()

    def sweep(self, now: float) -> None:
        """Strike out what nothing asks about any more."""
        self.claims.sweep()
        self._avoid = {key: until for key, until in self._avoid.items() if until > now}

    # messages

    def hear(self, message: Message, addr: Address, now: float) -> None:
        """Everything that other nodes say about addresses."""
        match message:
            case Claim():
                self.claims.asked(message, addr, now)
            case ClaimAnswer():
                self.claims.answered(message, now)
            case Loan():
                body = self._index.networks.get(message.network)
                self.loans.asked(message, addr, Pool(body, message.subnet) if body is not None else None, now)
            case LoanAnswer():
                self._lent(message, now)
            case LoanReturn():
                self.loans.returned(message, now)

    # timers

    def next_timer(self) -> float:
        """When something is due."""
        times = [self.loans.next_timer(), *(errand.next_look for errand in self._errands.values())]
        claims = self.claims.next_timer()
        return min(times) if claims is None else min(claims, *times)

    def handle_timer(self, now: float) -> None:
        """Repeat, look again, give up."""
        self.claims.handle_timer(now)
        for errand in list(self._errands.values()):
            if errand.next_look <= now and errand.request in self._errands:
                self._look(errand, now)
        self.loans.handle_timer(now)  # last: its audit gives up what was claimed and is still unused

    # the errand's next step

    def _look(self, errand: _Errand, now: float) -> None:
        errand.next_look = min(now + _RETRY * (0.5 + self._rng.random()), errand.deadline)
        body = self._index.networks.get(errand.network)
        try:
            if body is None or self._view.is_removed(errand.network):
                raise Refusal("network_removed", errand.network.hex()[:12])
            pool = Pool(body, errand.subnet)
            if errand.borrowing is not None:
                self._repeat_loan(errand, errand.borrowing, now)
            elif self._renewed(errand, pool):
                return
            elif errand.wanted is not None:
                self._look_fixed(errand, pool, errand.wanted, body.ipam == "strict", now)
            elif errand.ipv6:
                self._look_any_ipv6(errand, pool, body.ipam == "strict", now)
            else:
                self._look_any(errand, pool, body.ipam == "strict", now)
            if now >= errand.deadline and errand.request in self._errands:
                raise Refusal("try_again", str(errand.wanted or "an address"), errand.why, errand.holder)
        except Refusal as refusal:
            self._fail(errand, refusal, now)

    def _renewed(self, errand: _Errand, pool: Pool) -> bool:
        """Whether the endpoint has what it asks for. A lease that stands no more is struck out, and its address is the
        first that is tried."""
        network = errand.network
        known = self.leases.of_endpoint(network, errand.endpoint, pool.of_version(6 if errand.ipv6 else 4))
        if known is None or errand.wanted not in (None, known):
            return False
        lease = self.leases.given[network][known]
        if self._stands(network, pool, known, lease):
            del self._errands[errand.request]
            self._out.add(Allocated(errand.request, errand.endpoint, pool.with_prefix(known)))
            return True
        self.leases.drop(network, known)
        if errand.wanted is None:
            errand.wanted, errand.any_will_do = known, True
        errand.loan = int.from_bytes(lease.tag[16:], "big")
        return False

    def _stands(self, network: NetworkId, pool: Pool, address: IPAddress, lease: Lease) -> bool:
        """Whether a lease is ours still. It may not be when we, or the holder of the block, were forgotten or left."""
        text = str(address)
        user = self._user_of(network, text, lease.endpoint)
        if lease.taken or (user is not None and user.owner_state in LIVE):
            return user is None or user.owner_state not in LIVE
        if lease.tag:
            return any(block.loans.get(text) == lease.tag for block in self._index.blocks.get(network, {}).values())
        block = self.leases.block_with(network, address)
        if block is not None:
            return text not in block.loans
        return (
            pool.is_sparse(address)
            and self.claims.obstacle(network, str(pool.block_of(address)), self._table.me) is None
        )

    def _look_fixed(self, errand: _Errand, pool: Pool, wanted: IPAddress, strict: bool, now: float) -> None:
        network = errand.network
        user = self._user_of(network, str(wanted), errand.endpoint)
        take_over = errand.take_over and user is not None and user.owner_state is State.DEAD
        if user is not None and not take_over:
            away = user.owner_state is State.DEAD
            name = "try_again" if away else "address_in_use"
            why = f"{user.body.name} on {user.owner_name} has it" + (", which is away" if away else "")
            raise Refusal(name, str(wanted), why, f"{user.body.name}@{user.owner_name}")
        lease = self.leases.given[network].get(wanted)
        if lease is not None:
            raise Refusal("address_in_use", str(wanted), "given to another endpoint here", lease.endpoint.hex()[:12])
        block = self.leases.block_with(network, wanted)
        if block is not None or take_over:
            lent = block.loans.get(str(wanted)) if block is not None and not take_over else None
            self._grant_fixed(errand, pool, wanted, lent, take_over)
            return
        prefix = str(pool.block_of(wanted))
        holder = self.claims.obstacle(network, prefix, self._table.me)
        if holder is None:
            self._claim(errand, prefix, strict, now, must=True)
        elif self._away(holder):
            raise Refusal(
                "try_again",
                str(wanted),
                f"its block is held by {self._name(holder)}, which is away",
                self._name(holder),
            )
        else:
            errand.why, errand.holder = f"{self._name(holder)} holds the block and does not lend it", self._name(holder)
            self._borrow(errand, holder, prefix, str(wanted), now)

    def _grant_fixed(self, errand: _Errand, pool: Pool, wanted: IPAddress, lent: bytes | None, take_over: bool) -> None:
        if lent is not None:
            borrower = self._name(NodeId(lent[:16]))
            raise Refusal("address_in_use", str(wanted), f"lent to {borrower}", borrower)
        self._grant(errand, pool, wanted, taken=take_over)

    def _look_any(self, errand: _Errand, pool: Pool, strict: bool, now: float) -> None:
        network = errand.network
        address = self.leases.pick(network, pool, now)
        if address is not None:
            self._grant(errand, pool, address)
            return
        running = self.claims.running(network)
        if errand.claiming in running or not all(map(_is_single, running)):
            return  # one is under way for it, or a block, which will do for all
        prefix = self._unclaimed(network, pool, now)
        if prefix is not None and self._claim(errand, prefix, strict, now, must=False):
            return
        lenders = [
            (owner, block_prefix)
            for (owner, block_prefix), block in self._index.blocks.get(network, {}).items()
            if owner not in errand.asked
            and owner != self._table.me
            and block.state == "held"
            and not self._away(owner)
            and ":" not in block_prefix
            and pool.subnet_of(parse_prefix(block_prefix).network_address) is not None
        ]
        if lenders:
            owner, block_prefix = self._rng.sample(sorted(lenders), 1)[0]
            self._borrow(errand, owner, block_prefix, "", now)
        elif prefix is None and not running and not self._waiting(network, now):
            self._exhausted(errand)

    def _exhausted(self, errand: _Errand) -> NoReturn:
        """Nothing is left, unless a holder that is away or does not answer has some of it."""
        owners = {owner for owner, _ in self._index.blocks.get(errand.network, {})}
        away = {self._name(owner) for owner in owners if self._away(owner)} | errand.silent
        if away:
            holders = ", ".join(sorted(away))
            why = f"none is free but what {holders} may have, and there is no answer from there"
            raise Refusal("try_again", "an address", why, holders)
        raise Refusal("pool_exhausted", "an address", "every block is held, and the holders have nothing to lend")

    def _look_any_ipv6(self, errand: _Errand, pool: Pool, strict: bool, now: float) -> None:
        """The first candidate that nobody is known to have; where two could choose it, claimed before it is given."""
        network, me = errand.network, self._table.me
        running = self.claims.running(network)
        if errand.claiming in running or sum(map(_is_single, running)) >= _SINGLES_AT_ONCE:
            return
        for address, shared in pool.ipv6_candidates(me, errand.endpoint):
            taken = address in self.leases.given[network] or self.leases.rests(network, address, now)
            if taken or (network, str(address)) in self._index.claims:
                continue
            prefix = str(pool.block_of(address))
            if prefix in running or self.claims.obstacle(network, prefix, me) is not None:
                continue
            block = self.leases.block_with(network, address)
            if not shared or (block is not None and not block.loans):
                self._grant(errand, pool, address)
                return
            if block is None:
                self._claim(errand, prefix, strict, now, must=True)
                return
        if not running:
            self._exhausted(errand)

    def _claim(self, errand: _Errand, prefix: str, strict: bool, now: float, must: bool) -> bool:
        """Claim a block, or wait for the claim that runs. False: not possible now, and (must) the errand says why."""
        running = self.claims.running(errand.network)
        single = _is_single(prefix)
        alike = sum(_is_single(it) == single for it in running)
        if prefix in running or alike >= (_SINGLES_AT_ONCE if single else 1):
            return True
        if (errand.network, prefix) in self._avoid and self._avoid[errand.network, prefix] > now:
            return True
        live, all_ = self._table.live_count(), self._table.electorate()
        if strict and 2 * live <= all_:
            errand.why = f"only {live} of {all_} members can be asked, and this network is strict"
            if must:
                raise Refusal("try_again", prefix, errand.why)
            return False
        errand.claiming = prefix
        self.claims.begin(errand.network, prefix, strict, now)
        return True

    def _claim_ended(self, end: ClaimEnd, now: float) -> None:
        if not end.held:
            self._avoid[end.network, end.prefix] = now + _RETRY * (0.5 + 2 * self._rng.random())
        names = ", ".join(self._name(node) for node in end.missing)
        for errand in self._errands.values():
            if errand.network != end.network:
                continue
            if names:
                errand.why, errand.holder = f"no answer from {names}", names
            elif end.holder:
                errand.why, errand.holder = f"{self._name(end.holder)} has it", self._name(end.holder)
            if not end.held:
                errand.next_look = min(errand.next_look, now + _RETRY * self._rng.random())
        if end.held:
            self._wake(end, now)

    def _wake(self, end: ClaimEnd, now: float) -> None:
        """Those that a new block may serve: it and the next that waits, of a single address; else all. They look from
        the timer, since a look may claim the next block and be granted it at once: hundreds of them would nest."""
        waiting = [errand for errand in self._errands.values() if errand.network == end.network]
        if _is_single(end.prefix):
            first = next((errand for errand in waiting if not errand.claiming), None)
            waiting = [errand for errand in waiting if errand is first or errand.claiming == end.prefix]
        for errand in waiting:
            errand.next_look = now

    def _unclaimed(self, network: NetworkId, pool: Pool, now: float) -> str | None:
        """The first block in our order of preference that nobody has and that has something to give."""
        taken = {prefix for _, prefix in self._index.blocks.get(network, {})}
        for count, block in enumerate(pool.preference(network, self._table.me)):
            if count >= _BLOCKS_LOOKED_AT:
                return None
            prefix = str(block)
            if prefix in taken or self._avoid.get((network, prefix), 0.0) > now:
                continue
            if next(pool.usable(block), None) is None or self._rests(network, block, now):
                continue
            if self.claims.obstacle(network, prefix, self._table.me) is None:
                return prefix
        return None

    def _rests(self, network: NetworkId, block: IPv4Network, now: float) -> bool:
        """A single address that somebody visibly uses without holding it (a take-over) is left alone."""
        return block.prefixlen == 32 and self._view.winner(network, str(block.network_address)) is not None

    def _waiting(self, network: NetworkId, now: float) -> bool:
        """Whether a refusal a moment ago may turn out otherwise in a moment."""
        return any(key[0] == network and until > now for key, until in self._avoid.items())

    # borrowing

    def _borrow(self, errand: _Errand, holder: NodeId, prefix: str, wanted: str, now: float) -> None:
        number, errand.loan = errand.loan or self._rng.getrandbits(63), 0
        key = errand.network + prefix.encode()
        message = Loan(number, self._table.me, errand.network, key, wanted, errand.subnet)
        errand.asked.add(holder)
        errand.borrowing = _Borrowing(holder, number, message, now, now + _LOAN_PATIENCE)
        self._repeat_loan(errand, errand.borrowing, now)

    def _repeat_loan(self, errand: _Errand, borrowing: _Borrowing, now: float) -> None:
        member = self._table.by_id.get(borrowing.holder)
        if member is None or now >= borrowing.end:
            errand.borrowing = None
            errand.silent.add(self._name(borrowing.holder))
            if errand.wanted is not None:
                errand.asked.clear()
            return
        self._out.send(member.address, borrowing.message)
        errand.next_look = min(now + _LOAN_REPEAT, errand.deadline)

    def _lent(self, answer: LoanAnswer, now: float) -> None:
        errand = next((e for e in self._errands.values() if e.borrowing and e.borrowing.number == answer.number), None)
        if errand is None or errand.borrowing is None:
            return  # too late: the audit gives back what was lent
        errand.borrowing = None
        body = self._index.networks.get(errand.network)
        if answer.address and body is not None:
            self._accept_loan(errand, Pool(body, errand.subnet), answer)
        elif errand.wanted is not None and answer.error in ("address_in_use", "address_reserved"):
            self._fail(errand, Refusal(answer.error, str(errand.wanted), "", answer.holder[:80]), now)
        else:
            errand.next_look = now

    def _accept_loan(self, errand: _Errand, pool: Pool, answer: LoanAnswer) -> None:
        try:
            address = ip_address(answer.address)
        except ValueError:
            return
        if pool.subnet_of(address) is None or address in self.leases.given[errand.network]:
            return
        if errand.wanted in (None, address):
            self._grant(errand, pool, address, tag=loan_tag(self._table.me, answer.number))

    def _in_flight(self, tag: bytes) -> bool:
        numbers = (errand.borrowing.number for errand in self._errands.values() if errand.borrowing is not None)
        return any(tag == loan_tag(self._table.me, number) for number in numbers)

    # ends and questions

    def _grant(self, errand: _Errand, pool: Pool, address: IPAddress, *, tag: bytes = b"", taken: bool = False) -> None:
        del self._errands[errand.request]
        self.leases.grant(errand.network, address, Lease(errand.endpoint, tag, taken))
        self._out.add(Allocated(errand.request, errand.endpoint, pool.with_prefix(address)))

    def _fail(self, errand: _Errand, refusal: Refusal, now: float) -> None:
        if errand.any_will_do and refusal.name == "address_in_use":
            errand.wanted, errand.any_will_do, errand.next_look = None, False, now
        else:
            self._end(errand, refusal)

    def _end(self, errand: _Errand, refusal: Refusal) -> None:
        del self._errands[errand.request]
        self._refuse(errand.request, refusal)

    def _refuse(self, request: int, refusal: Refusal) -> None:
        self._out.add(AllocationRefused(request, refusal.name, refusal.what, refusal.why, refusal.holder))

    def _check(self, network: NetworkId, subnet: str, wanted: IPAddress | None, version: int) -> None:
        """Raises Refusal where an address cannot come from there."""
        view = self._view.network(network)
        if view is None:
            name = "network_removed" if self._view.is_removed(network) else "not_found"
            raise Refusal(name, network.hex()[:12])
        if view.state is NetworkState.REMOVING:
            raise Refusal("network_removed", view.name, "it is being removed")
        pool = Pool(view.body, subnet)
        if not pool.subnets:
            raise Refusal("address_outside", subnet, "the network's subnets are " + ", ".join(view.body.subnets))
        if not pool.of_version(version):
            what = str(wanted or f"an IPv{version} address")
            raise Refusal("address_outside", what, f"the network has no IPv{version} subnet")
        if wanted is not None:
            if pool.subnet_of(wanted) is None:
                raise Refusal("address_outside", str(wanted), "not in " + ", ".join(map(str, pool.subnets)))
            if wanted in pool.reserved:
                raise Refusal("address_reserved", str(wanted), "network, broadcast, gateway or auxiliary address")

    def _user_of(self, network: NetworkId, address: str, endpoint: EndpointId) -> EndpointView | None:
        """The visible endpoint that has an address, other than the asking one."""
        user = self._view.winner(network, address)
        return user if user is not None and user.id != endpoint else None

    def _away(self, node: NodeId) -> bool:
        return node != self._table.me and not self._table.is_live(node)

    def _name(self, node: NodeId) -> str:
        member = self._table.by_id.get(node)
        return member.name if member is not None else node.hex()[:12]


def _is_single(prefix: str) -> bool:
    return parse_prefix(prefix).num_addresses == 1
