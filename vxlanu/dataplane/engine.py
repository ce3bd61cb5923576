"""`Dataplane`: networks, ports, VTEPs and forwarding entries of the C engine, by name.

Rules of this file
  1. Every setter is idempotent and takes the wanted value, or None to remove: to remove what is not there is nothing.
  2. A VTEP exists while a network has it as a member or an FDB entry leads to it; the count of both is kept here.
  3. Descriptors handed to `add_port` belong to the engine from then on, also when the call fails.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from vxlanu._native import ffi, lib
from vxlanu.config import OFFLOADS, WORKERS_MAX
from vxlanu.dataplane.captures import Capture, CaptureConfig
from vxlanu.dataplane.offloads import offload_bits, offload_names
from vxlanu.dataplane.reading import Reader
from vxlanu.dataplane.values import (
    Destination,
    Event,
    FdbRow,
    Member,
    NeighborRow,
    NetworkConfig,
    PortConfig,
    PortRef,
    SoftRow,
    Totals,
    Verdict,
    VtepRef,
    packed,
    packed_mac,
    packed_prefix,
)

NO_PORT = (1 << 31) - 1


class PortHeld(OSError):
    """The data port cannot be bound: somebody else has it."""


class SocketsStale(OSError):
    """The receive sockets of an earlier run are not what this one needs."""


def _checked(result: int, what: str) -> int:
    """A result of the boundary, or the OSError that its negative errno means."""
    if result < 0:
        raise OSError(-result, f"{what}: {os.strerror(-result)}")
    return result


class _Network:
    """One programmed network: its C id and what was last written."""

    def __init__(self, index: int, config: NetworkConfig) -> None:
        self.index = index
        self.config = config
        self.members: frozenset[Member] = frozenset()
        self.fdb: dict[str, Destination] = {}
        self.neighbors: dict[str, tuple[str, bool]] = {}


class Dataplane:
    """The engine. Made with its sockets bound; `start` runs the workers; `stop` ends them and frees everything."""

    def __init__(
        self,
        address: str,
        data_port: int,
        *,
        workers: int = 0,
        offloads: Iterable[str] = OFFLOADS,
        same_kernel: bool = False,
        pin: bool = False,
        spin: bool = False,
        sockets: Sequence[int] = (),
    ) -> None:
        """Bind the data port on `address`. Of `offloads` what the kernel's sockets refuse goes unused.

        `pin`: a worker keeps to a CPU; `spin`: it looks on before it sleeps. `sockets` of before stay the caller's.

        Raises:
            PortHeld: the port is taken.
            SocketsStale: `sockets` do not fit.
            OSError: the address is not ours, or the kernel lacks something.
        """
        config = ffi.new(
            "vx_config *",
            {
                "address": packed(address),
                "data_port": data_port,
                "workers": workers,
                "offloads": offload_bits(offloads),
                "flags": lib.VX_ENGINE_SAME_KERNEL * same_kernel | lib.VX_ENGINE_PIN * pin | lib.VX_ENGINE_SPIN * spin,
                "given": len(sockets), "receive_fds": list(sockets[:WORKERS_MAX]),
            },
        )
        engine = ffi.new("vx_engine **")
        result = lib.vx_engine_new(config, engine)
        if result == -errno.ESTALE:
            raise SocketsStale(errno.ESTALE, f"not sockets of {address} port {data_port}, one per worker")
        if result == -errno.EADDRINUSE:
            raise PortHeld(errno.EADDRINUSE, f"UDP port {data_port} on {address} is held")
        _checked(result, f"data plane on {address} port {data_port}")
        self._engine = engine[0]
        self._networks: dict[bytes, _Network] = {}
        self._ports: dict[str, int] = {}
        self._port_networks: dict[str, bytes] = {}
        self._vteps: dict[VtepRef, int] = {}
        self._vtep_users, self._hops = Counter[VtepRef](), dict[VtepRef, tuple[str, str] | None]()
        self._reader = Reader(self._engine)
        self.changes = 0
        """Grows when a network, a port or a VTEP comes or goes."""
        self.workers = lib.vx_engine_workers(self._engine)

    # life

    def start(self) -> None:
        """Run the workers."""
        _checked(lib.vx_engine_start(self._engine), "start of the workers")

    def inject(self, fd: int) -> None:
        """Before the start: the uplink TAP, by which super-frames leave whose VTEP has a next hop (`set_hop`)."""
        _checked(lib.vx_engine_inject(self._engine, fd), "uplink TAP")

    def stop(self) -> None:
        """End the workers and close every descriptor; the object is of no use afterwards."""
        lib.vx_engine_stop(self._engine)
        lib.vx_engine_free(self._engine)

    def housekeep(self) -> None:
        """Once a second: free what no worker can see any more, expire soft state."""
        lib.vx_engine_reclaim(self._engine)

    def heartbeats(self) -> list[int]:
        """One number per worker; it grows while the worker lives."""
        return [lib.vx_engine_heartbeat(self._engine, worker) for worker in range(self.workers)]

    def offloads(self) -> frozenset[str]:
        """What is in use; the kernel can refuse one later on than at the start."""
        return offload_names(lib.vx_engine_offloads(self._engine))

    def receive_bytes(self) -> int:
        """Size of each receive buffer as the kernel gave it."""
        return lib.vx_engine_receive_bytes(self._engine)

    def receive_sockets(self) -> list[int]:
        """Of each worker; the engine's own."""
        return [_checked(lib.vx_engine_receive_fd(self._engine, it), "receive socket") for it in range(self.workers)]

    def event_fd(self) -> int:
        """An eventfd that turns readable when `events` has something."""
        return lib.vx_engine_event_fd(self._engine)

    def events(self) -> list[Event]:
        """What workers reported since the last call."""
        networks = {entry.index: network for network, entry in self._networks.items()}
        ports = {index: endpoint for endpoint, index in self._ports.items()}
        vteps = {index: vtep for vtep, index in self._vteps.items()}
        return self._reader.events(networks, ports, vteps)

    # networks and ports

    def networks(self) -> list[bytes]:
        """The networks that are programmed."""
        return list(self._networks)

    def network_config(self, network: bytes) -> NetworkConfig | None:
        """What a network was programmed with."""
        entry = self._networks.get(network)
        return entry.config if entry else None

    def set_network(self, network: bytes, config: NetworkConfig | None) -> None:
        """Program a network, or take it away with all its entries. OSError(EBUSY) while it has ports."""
        entry = self._networks.get(network)
        if entry and entry.config == config:
            return
        if entry and config and config == replace(entry.config, conflict=config.conflict):
            result = lib.vx_network_flags(self._engine, entry.index, _network_flags(config))
            _checked(result, f"VNI {config.vni}")
            entry.config = config
            return
        self.changes += 1
        if entry:
            self._drop_network(network, entry)
        if config:
            result = lib.vx_network_add(self._engine, config.vni, config.mtu, _network_flags(config))
            self._networks[network] = _Network(_checked(result, f"VNI {config.vni}"), config)

    def _drop_network(self, network: bytes, entry: _Network) -> None:
        if network in self._port_networks.values():
            raise OSError(errno.EBUSY, f"network with VNI {entry.config.vni} has ports")
        for mac in list(entry.fdb):
            self.set_fdb(network, mac, None)
        self.set_members(network, frozenset())
        _checked(lib.vx_network_del(self._engine, entry.index), f"VNI {entry.config.vni}")
        del self._networks[network]

    def add_port(
        self, endpoint: str, network: bytes, config: PortConfig, fds: Sequence[int], *, write_queue: bool = False
    ) -> None:
        """Give the TAP of an endpoint to the workers: a queue each, or one for all; `write_queue`: one more, the last,
        by which all of them write."""
        entry = self._networks[network]
        flags = lib.VX_PORT_ALLOW_SPOOF if config.allow_spoof else 0
        flags |= lib.VX_PORT_ALLOW_SERVER if config.allow_server else 0
        flags |= lib.VX_PORT_UNICAST if config.unicast_only else 0
        flags |= lib.VX_PORT_WRITE_QUEUE if write_queue else 0
        index = lib.vx_port_add(
            self._engine, entry.index, packed_mac(config.mac), config.mtu, flags, list(fds), len(fds)
        )
        if index < 0:
            for fd in fds:
                os.close(fd)
        _checked(index, f"port of endpoint {endpoint[:12]}")
        self.changes += 1
        self._ports[endpoint] = index
        self._port_networks[endpoint] = network
        prefixes = [(*packed_prefix(prefix), 0) for prefix in config.allowed]
        prefixes += [(*packed_prefix(prefix), lib.VX_PREFIX_FLOATING) for prefix in config.floating]
        array = ffi.new("vx_prefix[]", [{"address": a, "length": n, "flags": f} for a, n, f in prefixes])
        _checked(lib.vx_port_allow(self._engine, index, array, len(prefixes)), "allowed addresses")

    def remove_port(self, endpoint: str) -> None:
        """Take a port away; its descriptors are closed by the engine's reaper. Nothing if there is none."""
        index = self._ports.pop(endpoint, None)
        if index is None:
            return
        self.changes += 1
        network = self._port_networks.pop(endpoint)
        entry = self._networks[network]
        for mac in [mac for mac, to in entry.fdb.items() if to == PortRef(endpoint)]:
            self.set_fdb(network, mac, None)
        _checked(lib.vx_port_del(self._engine, index), f"port of endpoint {endpoint[:12]}")

    def port_index(self, endpoint: str) -> int | None:
        """The number of its port in the switch."""
        return self._ports.get(endpoint)

    # forwarding

    def set_members(self, network: bytes, members: frozenset[Member]) -> None:
        """Replace the VTEPs of a network; nothing if the network is not programmed."""
        entry = self._networks.get(network)
        if entry is None or entry.members == members:
            return
        rows: list[dict[str, int | bytes]] = [
            {"vtep": self._use_vtep(member.vtep), "flags": _member_flags(member)} for member in members
        ]
        array = ffi.new("vx_member[]", rows)
        result = lib.vx_network_vteps(self._engine, entry.index, array, len(rows))
        released = members if result < 0 else entry.members
        for member in released:
            self._unuse_vtep(member.vtep)
        _checked(result, f"VTEPs of VNI {entry.config.vni}")
        entry.members = members

    def members(self, network: bytes) -> frozenset[Member]:
        """The VTEPs last written."""
        entry = self._networks.get(network)
        return entry.members if entry else frozenset()

    def set_fdb(self, network: bytes, mac: str, to: Destination | None) -> None:
        """Write or remove one entry. An entry towards a port that is not here yet is not written."""
        entry = self._networks.get(network)
        if entry is None:
            return
        if isinstance(to, PortRef) and to.endpoint not in self._ports:
            to = None
        before = entry.fdb.get(mac)
        if before == to:
            return
        if to is None:
            result = lib.vx_fdb_del(self._engine, entry.index, packed_mac(mac))
            _checked(0 if result == -errno.ENOENT else result, f"FDB entry {mac}")
            del entry.fdb[mac]
        else:
            kind = lib.VX_AT_PORT if isinstance(to, PortRef) else lib.VX_AT_VTEP
            index = self._ports[to.endpoint] if isinstance(to, PortRef) else self._use_vtep(to)
            _checked(lib.vx_fdb_set(self._engine, entry.index, packed_mac(mac), kind, index), f"FDB entry {mac}")
            entry.fdb[mac] = to
        if isinstance(before, VtepRef):
            self._unuse_vtep(before)

    def set_neighbor(self, network: bytes, address: str, mac: str | None, *, router: bool = False) -> None:
        """Write or remove what the ARP and ND proxy answers for an address."""
        entry = self._networks.get(network)
        wanted = (mac, router) if mac is not None else None
        if entry is None or entry.neighbors.get(address) == wanted:
            return
        if wanted is None or mac is None:
            result = lib.vx_neighbor_del(self._engine, entry.index, packed(address))
            _checked(0 if result == -errno.ENOENT else result, f"neighbour {address}")
            del entry.neighbors[address]
        else:
            flags = lib.VX_NEIGHBOR_ROUTER if router else 0
            result = lib.vx_neighbor_set(self._engine, entry.index, packed(address), packed_mac(mac), flags)
            _checked(result, f"neighbour {address}")
            entry.neighbors[address] = wanted

    def path_mtus(self) -> dict[VtepRef, int]:
        """Every VTEP in use, with the largest outer packet that its path takes (0: not known)."""
        return {vtep: lib.vx_vtep_path_mtu(self._engine, index, 0) for vtep, index in self._vteps.items()}

    def set_path_mtu(self, vtep: VtepRef, mtu: int) -> None:
        """Say how large an outer packet may be; nothing if the VTEP is not in use."""
        if vtep in self._vteps:
            _checked(lib.vx_vtep_path_mtu(self._engine, self._vteps[vtep], mtu), f"path MTU of {vtep}")

    def set_hop(self, vtep: VtepRef, hop: tuple[str, str] | None) -> bool:
        """Say by which neighbour of the uplink a VTEP is reached: its MAC and the uplink's. False: that is no news."""
        if vtep not in self._vteps:
            return False
        news = self._hops.get(vtep) != hop
        if news:
            macs = [packed_mac(mac) for mac in hop] if hop else [ffi.NULL] * 2
            _checked(lib.vx_vtep_hop(self._engine, self._vteps[vtep], *macs), f"next hop of {vtep}")
        self._hops[vtep] = hop
        return news

    def hops_wanted(self) -> bool:
        """Whether there is a VTEP that `set_hop` was not called for: one that is new, or that went and came back."""
        return self._hops.keys() != self._vteps.keys()

    def _use_vtep(self, vtep: VtepRef) -> int:
        index = self._vteps.get(vtep)
        if index is None:
            index = _checked(lib.vx_vtep_add(self._engine, packed(vtep.address), vtep.port, 0), str(vtep))
            self._vteps[vtep] = index
            self.changes += 1
        self._vtep_users[vtep] += 1
        return index

    def _unuse_vtep(self, vtep: VtepRef) -> None:
        self._vtep_users[vtep] -= 1
        if self._vtep_users[vtep] == 0:
            del self._vtep_users[vtep]
            self._hops.pop(vtep, None)
            self.changes += 1
            _checked(lib.vx_vtep_del(self._engine, self._vteps.pop(vtep)), str(vtep))

    # looking in: what the tables really hold, not what was written

    def fdb(self, network: bytes) -> list[FdbRow]:
        """The FDB as the workers see it."""
        ports = {index: PortRef(endpoint) for endpoint, index in self._ports.items()}
        vteps = {index: vtep for vtep, index in self._vteps.items()}
        return self._reader.fdb(self._networks[network].index, ports, vteps)

    def neighbors(self, network: bytes) -> list[NeighborRow]:
        """The neighbour table as the workers see it."""
        return self._reader.neighbors(self._networks[network].index)

    def soft(self, network: bytes) -> list[SoftRow]:
        """What traffic taught the workers."""
        return self._reader.soft(self._networks[network].index, {index: vtep for vtep, index in self._vteps.items()})

    def trace(self, endpoint: str, frame: bytes) -> Verdict:
        """What the workers would do with a frame of a local endpoint; nothing is sent, counted or learned."""
        ports = {index: PortRef(known) for known, index in self._ports.items()}
        vteps = {index: vtep for vtep, index in self._vteps.items()}
        return self._reader.trace(self._ports.get(endpoint, NO_PORT), frame, ports, vteps)

    def open_capture(self, config: CaptureConfig, fd: int) -> Capture:
        """A capture that is written to `fd`, which belongs to the engine from then on; OSError leaves it alone."""
        return Capture(self._engine, config, fd)

    def network_index(self, network: bytes) -> int | None:
        """The number of a network in the switch."""
        entry = self._networks.get(network)
        return entry.index if entry else None

    def vtep_indexes(self, address: str) -> list[int]:
        """The numbers of the VTEPs of an outer address."""
        return [index for vtep, index in self._vteps.items() if vtep.address == address]

    def totals(self) -> Totals:
        """Counters of the whole engine."""
        return self._reader.totals(lib.VX_AT_ENGINE, 0)

    def network_totals(self, network: bytes) -> Totals:
        """Counters of a network; zeroes when it is not programmed."""
        entry = self._networks.get(network)
        return self._reader.totals(lib.VX_AT_NETWORK, entry.index) if entry else Totals()

    def port_totals(self, endpoint: str) -> Totals:
        """Counters of a local endpoint; zeroes when it has no port."""
        index = self._ports.get(endpoint)
        return self._reader.totals(lib.VX_AT_PORT, index) if index is not None else Totals()

    def vteps(self) -> dict[VtepRef, tuple[Totals, int]]:
        """Every VTEP in use with its counters and its path MTU (0: not limited)."""
        return {
            vtep: (self._reader.totals(lib.VX_AT_VTEP, index), lib.vx_vtep_path_mtu(self._engine, index, 0))
            for vtep, index in self._vteps.items()
        }


def _network_flags(config: NetworkConfig) -> int:
    flags = lib.VX_NETWORK_VLAN_PASS if config.vlan_pass else 0
    return flags | (lib.VX_NETWORK_IN_CONFLICT if config.conflict else 0)


def _member_flags(member: Member) -> int:
    flags = lib.VX_MEMBER_FLOOD if member.flood else 0
    return flags | (lib.VX_MEMBER_FOREIGN if member.foreign else 0)
