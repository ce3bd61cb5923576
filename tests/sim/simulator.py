"""A cluster of whole cores on virtual time: one seed, one run, always the same.

    Host = Core + Disk + outgoing effects          Cluster = hosts + clock + network + rng

What it owns
  clock     events in a heap; nothing waits in real time.
  network   datagrams are lost, doubled and delayed by `Weather`; `cut` blocks one direction of one pair, so partitions
            may be asymmetric. Streams deliver in order; they break by a cut, a crash, or by weather.
  disk      a durable row holds the effects behind it until its commit is done, a few milliseconds later. A crash keeps
            what was committed and a random prefix of the rest: exactly what effects.py promises, and not more.

Invariants, checked whenever an effect is carried out (numbers of research 3.3)
  I1  no address belongs to two endpoints at once      I2  it lies in a block its owner holds, or is lent to it
  I6  it is on the committed disk before it is told
and by `agree` after quiet: I3 every node has the same view, and every block one holder.

When one fails, `Broken` carries the seed and the last events.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_interface, ip_network

from vxlanu.control.core.config import LOCAL, Config, Profile, Row, Sealer
from vxlanu.control.core.core import Core
from vxlanu.control.core.effects import (
    Address,
    Allocated,
    AllocationRefused,
    CloseStream,
    Effect,
    Erase,
    OpenStream,
    Persist,
    Published,
    ResolveSeeds,
    SendDatagram,
    SendStream,
)
from vxlanu.control.core.records import Endpoint, EndpointId, Kind, Network, NetworkId, NodeId

PORT = 7946


class Broken(AssertionError):
    """An invariant does not hold; the message tells the story."""


@dataclass(frozen=True)
class Weather:
    """What the network does to datagrams. Seconds and probabilities."""

    loss: float = 0.0
    double: float = 0.0
    delay_min: float = 0.0005
    delay_max: float = 0.005
    stream_break: float = 0.0  # per frame


CALM = Weather()


@dataclass
class Disk:
    """Rows: committed ones, and those that a crash may lose."""

    committed: dict[tuple[str, bytes], bytes] = field(default_factory=dict)
    waiting: list[Persist | Erase] = field(default_factory=list)

    def commit(self, count: int) -> None:
        """The oldest `count` waiting rows are safe now."""
        for row in self.waiting[:count]:
            if isinstance(row, Persist):
                self.committed[row.table, row.key] = row.value
            else:
                self.committed.pop((row.table, row.key), None)
        del self.waiting[:count]

    def rows(self) -> list[Row]:
        """What a restart finds."""
        return [(table, key, value) for (table, key), value in self.committed.items()]


@dataclass
class Pipe:
    """One direction-less connection: two ends, each (host, stream id)."""

    ends: tuple[tuple[Host, int], tuple[Host, int]]
    ready: float = 0.0  # nothing arrives before what was sent earlier
    open: bool = True


class Host:
    """One machine: its disk survives its core."""

    def __init__(self, cluster: Cluster, name: str, address: str, node: NodeId) -> None:
        self.cluster = cluster
        self.name = name
        self.address: Address = (address, PORT)
        self.node = node
        self.seeds: tuple[str, ...] = ()
        self.sealer: Sealer | None = None
        self.disk = Disk()
        self.maybe_core: Core | None = None
        self.life = 0
        self.queue: deque[Effect] = deque()
        self.committing = False
        self.lazy = False
        self.seen: list[Effect] = []
        self.pipes: dict[int, Pipe] = {}
        self.inbound = 2
        self.armed = 0

    @property
    def core(self) -> Core:
        """The running core."""
        assert self.maybe_core is not None, f"{self.name} is down"
        return self.maybe_core

    @property
    def up(self) -> bool:
        """Whether it runs."""
        return self.maybe_core is not None

    def took(self, kind: type[Effect]) -> list[Effect]:
        """Effects of one kind since the last start."""
        return [effect for effect in self.seen if isinstance(effect, kind)]


class Cluster:
    """The world."""

    def __init__(self, seed: int, hosts: int = 3, weather: Weather = CALM, profile: Profile = LOCAL) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.weather = weather
        self.profile = profile
        self.now = 1000.0
        self.trace: deque[str] = deque(maxlen=400)
        self.cut_links: set[tuple[str, str]] = set()
        self.grants: dict[tuple[NetworkId, str], EndpointId] = {}
        self.granted = 0
        self.refused: list[AllocationRefused] = []
        self.published: dict[int, Published] = {}
        self.on_allocated: Callable[[Host, Allocated], None] | None = None
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._request = 0
        self._asked: dict[int, tuple[NetworkId, EndpointId]] = {}
        self.hosts = [self.add_host(f"h{number + 1}") for number in range(hosts)]

    # building

    def add_host(self, name: str, address: str = "", node: NodeId | None = None) -> Host:
        """A machine that is not running yet."""
        number = len(getattr(self, "hosts", ())) + 1
        identity = node if node is not None else NodeId(self.rng.randbytes(16))
        last = name[1:] if name[1:].isdigit() else str(100 + number)
        host = Host(self, name, address or f"10.0.0.{last}", identity)
        host.seeds = ("10.0.0.1",)
        if hasattr(self, "hosts"):
            self.hosts.append(host)
        return host

    def start(self, host: Host) -> None:
        """Start its core on what is on its disk."""
        assert not host.up
        host.life += 1
        config = Config(
            node=host.node,
            name=host.name,
            control_host=host.address[0],
            seeds=host.seeds,
            profile=self.profile,
            sealer=host.sealer,
        )
        host.seen = []
        host.maybe_core = Core(config, host.disk.rows(), random.Random(self.rng.getrandbits(64)), self.now)
        self.note(f"{host.name} starts, epoch {host.core.epoch}")
        self._pump(host)

    def start_all(self) -> None:
        """Start every host and wait until all know all."""
        for host in self.hosts:
            self.start(host)
        self.until(self.all_alive, 30.0)

    def crash(self, host: Host, keep: int | None = None) -> None:
        """kill -9: the process is gone, of what was not committed a prefix is kept, `keep` rows or a random one."""
        self.note(f"{host.name} crashes")
        host.maybe_core = None
        host.queue.clear()
        host.committing = host.lazy = False
        host.disk.commit(self.rng.randint(0, len(host.disk.waiting)) if keep is None else keep)
        host.disk.waiting.clear()
        for pipe in list(host.pipes.values()):
            self._break(pipe)

    def cut(self, sources: Iterable[Host], targets: Iterable[Host]) -> None:
        """Nothing from these arrives at those."""
        for one in sources:
            for other in targets:
                self.cut_links.add((one.name, other.name))
        self.note(f"cut {sorted(self.cut_links)}")

    def partition(self, one: Iterable[Host], other: Iterable[Host]) -> None:
        """Two sides."""
        one, other = list(one), list(other)
        self.cut(one, other)
        self.cut(other, one)

    def heal(self) -> None:
        """All links work."""
        self.cut_links.clear()
        self.note("heal")

    # requests

    def request(self) -> int:
        """A new request number."""
        self._request += 1
        return self._request

    def network(self, host: Host, name: str = "demo", subnet: str = "192.168.0.0/24", **fields: object) -> NetworkId:
        """Create a network."""
        identifier = NetworkId(self.rng.randbytes(16))
        vni = fields.pop("vni", 256 + len(host.core.view.networks()))
        subnets = fields.pop("subnets", (subnet,))
        body = Network(id=identifier, name=name, vni=vni, subnets=subnets, **fields)
        host.core.create_network(body, self.now)
        self._pump(host)
        return identifier

    def allocate(
        self, host: Host, network: NetworkId, wanted: str | None = None, *, subnet: str = "", take_over: bool = False
    ) -> EndpointId:
        """Ask for an address for a new endpoint."""
        endpoint = EndpointId(self.rng.randbytes(16))
        request = self.request()
        self._asked[request] = (network, endpoint)
        self.note(f"{host.name} asks for {wanted or 'any'} {subnet} as {endpoint.hex()[:4]}")
        view = host.core.view.network(network)
        ipv6 = view is not None and ":" in view.body.subnets[0]
        asked = {"wanted": wanted, "subnet": subnet, "ipv6": ipv6, "take_over": take_over}
        host.core.allocate(request, network, endpoint, self.now, **asked)
        self._pump(host)
        return endpoint

    def put_endpoint(
        self, host: Host, network: NetworkId, endpoint: EndpointId, address: str, **fields: object
    ) -> None:
        """Write the endpoint record."""
        octets = ip_interface(address).ip.packed
        mac = ":".join(f"{octet:02x}" for octet in (2, 0x42, *octets[-4:]))
        name = "c" + endpoint.hex()[:6]
        body = Endpoint(id=endpoint, network=network, name=name, mac=mac, addresses=(address,), **fields)
        host.core.put(Kind.ENDPOINT, endpoint, body, self.now)
        self._pump(host)

    def attach(self, host: Host, network: NetworkId, wanted: str | None = None) -> EndpointId:
        """Allocate, wait, write the record; fails the test when refused."""
        endpoint = self.allocate(host, network, wanted)
        self.until(lambda: endpoint in self.grants.values(), 20.0)
        address = next(text for (_, text), owner in self.grants.items() if owner == endpoint)
        self.put_endpoint(host, network, endpoint, address)
        return endpoint

    def detach(self, host: Host, network: NetworkId, endpoint: EndpointId) -> None:
        """Delete the record and give the address back."""
        self.note(f"{host.name} detaches {endpoint.hex()[:4]}")
        for key in [key for key, owner in self.grants.items() if owner == endpoint]:
            del self.grants[key]
        host.core.delete(Kind.ENDPOINT, endpoint, self.now)
        host.core.release(network, endpoint, self.now)
        self._pump(host)

    def call(self, host: Host, action: Callable[[Core, float], object]) -> object:
        """Any call on a core."""
        result = action(host.core, self.now)
        self._pump(host)
        return result

    # time

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self._step()
        self.now = end

    def until(self, condition: Callable[[], bool], limit: float) -> None:
        """Let time pass until it holds; Broken after `limit` seconds."""
        end = self.now + limit
        while not condition():
            if not self._events or self._events[0][0] > end:
                self.fail(f"not within {limit} s: {getattr(condition, '__name__', condition)}")
            self._step()

    def _step(self) -> None:
        time, _, action = heapq.heappop(self._events)
        self.now = max(self.now, time)
        action()

    def at(self, delay: float, action: Callable[[], None]) -> None:
        """Do something later."""
        self._order += 1
        heapq.heappush(self._events, (self.now + delay, self._order, action))

    # questions

    def all_alive(self) -> bool:
        """Every running host sees every running host alive."""
        running = [host for host in self.hosts if host.up]
        names = sorted(host.name for host in running)
        return all(sorted(m.name for m in host.core.view.members() if m.state == "alive") == names for host in running)

    def picture(self, host: Host) -> object:
        """What a host believes, in a form that can be compared."""
        view = host.core.view
        networks = [(n.id, n.name, n.state, n.body) for n in view.networks()]
        endpoints = [(e.body, e.owner, e.owner_state, e.lost) for e in view.endpoints()]
        blocks = [(b.body, b.owner) for b in view.blocks()]
        members = [(m.id, m.name, m.state, m.epoch) for m in view.members()]
        return networks, endpoints, blocks, members, view.vteps()

    def agree(self) -> bool:
        """Whether all running hosts believe the same (I3)."""
        pictures = [self.picture(host) for host in self.hosts if host.up]
        return all(picture == pictures[0] for picture in pictures)

    def one_holder_per_block(self) -> None:
        """I3, second half."""
        for host in self.hosts:
            if host.up:
                blocks = [b.body for b in host.core.view.blocks() if b.body.state == "held"]
                held = [(block.network, ip_network(block.prefix)) for block in blocks]
                for position, (network, prefix) in enumerate(held):
                    for other_network, other in held[position + 1 :]:
                        if network == other_network and prefix.overlaps(other):
                            self.fail(f"{host.name} sees two holders of {prefix}")

    def note(self, text: str) -> None:
        """One line of the story."""
        self.trace.append(f"{self.now:10.4f} {text}")

    def fail(self, why: str) -> None:
        """Tell the story."""
        lines = "\n".join(self.trace)
        states = "\n".join(f"{host.name}: {self.picture(host)}" for host in self.hosts if host.up)
        raise Broken(f"seed {self.seed}: {why}\n{lines}\n{states}")

    # carrying out effects

    def _pump(self, host: Host) -> None:
        host.queue.extend(host.core.effects())
        self._carry_out(host)
        self._arm(host)

    def _arm(self, host: Host) -> None:
        host.armed += 1
        token, life = host.armed, host.life

        def due() -> None:
            if host.up and host.armed == token and host.life == life:
                host.core.handle_timer(self.now)
                self._pump(host)

        self.at(max(0.0, host.core.next_timer() - self.now), due)

    def _carry_out(self, host: Host) -> None:
        while host.queue and not host.committing and host.up:
            effect = host.queue.popleft()
            match effect:
                case Persist() | Erase():
                    host.disk.waiting.append(effect)
                    if effect.durable:
                        self._commit(host, 0.0005 + 0.004 * self.rng.random())
                    elif not host.lazy:
                        self._commit_later(host)
                case SendDatagram():
                    self._datagram(host, effect)
                case OpenStream():
                    self._connect(host, effect)
                case SendStream():
                    self._frame(host, effect)
                case CloseStream():
                    pipe = host.pipes.pop(effect.stream, None)
                    if pipe is not None:
                        self.at(max(0.0, pipe.ready - self.now) + 0.001, lambda p=pipe: self._break(p))
                case ResolveSeeds():
                    self._resolve(host, effect.seeds)
                case _:
                    host.seen.append(effect)
                    self._judge(host, effect)

    def _commit_later(self, host: Host) -> None:
        host.lazy = True
        life = host.life

        def flush() -> None:
            if host.up and host.life == life:
                host.lazy = False
                if not host.committing:
                    host.disk.commit(len(host.disk.waiting))

        self.at(0.5, flush)

    def _commit(self, host: Host, seconds: float) -> None:
        host.committing = True
        life = host.life

        def done() -> None:
            if host.up and host.life == life:
                host.disk.commit(len(host.disk.waiting))
                host.committing = False
                self._carry_out(host)

        self.at(seconds, done)

    def _judge(self, host: Host, effect: Effect) -> None:
        if isinstance(effect, AllocationRefused):
            self.note(f"{host.name} refused: {effect.name} {effect.what} {effect.why}")
            self.refused.append(effect)
        elif isinstance(effect, Published):
            self.published[effect.request] = effect
        elif isinstance(effect, Allocated):
            self._judge_allocated(host, effect)
        elif type(effect).__name__ not in ("Changed", "Exchanged"):
            self.note(f"{host.name} {effect}")

    def _judge_allocated(self, host: Host, effect: Allocated) -> None:
        network, endpoint = self._asked[effect.request]
        self.note(f"{host.name} gets {effect.address} for {endpoint.hex()[:4]}")
        address = str(ip_interface(effect.address).ip)
        self.granted += 1
        owner = self.grants.setdefault((network, effect.address), endpoint)
        if owner != endpoint:
            self.fail(f"I1: {effect.address} belongs to {owner.hex()[:4]} and now to {endpoint.hex()[:4]}")
        if ("alloc", network + ip_address(address).packed) not in host.disk.committed:
            self.fail(f"I6: {address} was told before it was committed")
        blocks = [b for b in host.core.view.blocks(network) if ip_address(address) in ip_network(b.body.prefix)]
        own = any(b.owner == host.node and b.body.state == "held" and address not in b.body.loans for b in blocks)
        lease = host.core._parts.ipam.leases.given[network][ip_address(address)]
        sparse = ip_interface(effect.address).network.num_addresses >= 1 << 48  # pool.py: by hash, nobody is asked
        if not own and not lease.tag and not lease.taken and not sparse:
            self.fail(f"I2: {address} is not {host.name}'s to give: {blocks}")
        if self.on_allocated is not None:
            self.on_allocated(host, effect)

    # network

    def _open(self, one: Host, other: Host) -> bool:
        return (one.name, other.name) not in self.cut_links

    def _delay(self) -> float:
        return self.rng.uniform(self.weather.delay_min, self.weather.delay_max)

    def _at_address(self, address: Address) -> Host | None:
        return next((host for host in self.hosts if host.address == address and host.up), None)

    def _datagram(self, host: Host, effect: SendDatagram) -> None:
        if len(effect.data) > 1400:
            self.fail(f"{host.name} sends {len(effect.data)} bytes in one datagram")
        copies = 2 if self.rng.random() < self.weather.double else 1
        for _ in range(copies):
            if self.rng.random() >= self.weather.loss:
                self.at(self._delay(), lambda: self._arrive(host, effect))

    def _arrive(self, source: Host, effect: SendDatagram) -> None:
        target = self._at_address(effect.to)
        if target is not None and self._open(source, target):
            target.core.receive_datagram(effect.data, source.address, self.now)
            self._pump(target)

    def _connect(self, host: Host, effect: OpenStream) -> None:
        life = host.life

        def settle() -> None:
            if not host.up or host.life != life:
                return
            target = self._at_address(effect.to)
            if target is None or not self._open(host, target) or not self._open(target, host):
                host.core.stream_closed(effect.stream, self.now)
                self._pump(host)
                return
            inbound, target.inbound = target.inbound, target.inbound + 2
            pipe = Pipe(((host, effect.stream), (target, inbound)), self.now)
            host.pipes[effect.stream] = target.pipes[inbound] = pipe
            target.core.stream_opened(inbound, host.address, self.now)
            self._pump(target)
            host.core.stream_opened(effect.stream, effect.to, self.now)
            self._pump(host)

        self.at(2 * self._delay(), settle)

    def _frame(self, host: Host, effect: SendStream) -> None:
        pipe = host.pipes.get(effect.stream)
        if pipe is None or not pipe.open:
            return
        if self.rng.random() < self.weather.stream_break:
            self.at(self._delay(), lambda: self._break(pipe))
            return
        target, number = next(end for end in pipe.ends if end[0] is not host)
        pipe.ready = max(pipe.ready, self.now + self._delay())

        def deliver() -> None:
            if not pipe.open or not target.up:
                return
            if not self._open(host, target):
                self._break(pipe)
                return
            target.core.stream_message(number, effect.data, self.now)
            self._pump(target)

        self.at(pipe.ready - self.now, deliver)

    def _break(self, pipe: Pipe) -> None:
        if not pipe.open:
            return
        pipe.open = False
        for host, number in pipe.ends:
            host.pipes.pop(number, None)
            if host.up:
                host.core.stream_closed(number, self.now)
                self._pump(host)

    def _resolve(self, host: Host, seeds: tuple[str, ...]) -> None:
        life = host.life

        def answer() -> None:
            if host.up and host.life == life:
                host.core.seeds_resolved([(seed, PORT) for seed in seeds], self.now)
                self._pump(host)

        self.at(0.001, answer)
