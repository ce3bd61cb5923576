"""What a core is told at its construction: who it is, and how patient it shall be.

The profiles are memberlist's (hashicorp/memberlist config.go, DefaultLANConfig and DefaultLocalConfig), so that what is
known about tuning those clusters holds here. `LOCAL` is for labs and tests on one machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from .records import NodeId

__all__ = ["LAN", "LOCAL", "PROFILES", "Config", "Profile", "Rng", "Row", "Sealer"]

Row = tuple[str, bytes, bytes]  # table, key, value: as Persist wrote it
_T = TypeVar("_T")


class Rng(Protocol):
    """The part of random.Random that the core uses; production passes random.SystemRandom()."""

    def random(self) -> float:
        """A float in [0, 1)."""

    def getrandbits(self, k: int, /) -> int:
        """k random bits."""

    def sample(self, population: Sequence[_T], k: int) -> list[_T]:
        """k distinct members of the population."""

    def shuffle(self, x: list[_T], /) -> None:
        """Shuffle in place."""


class Sealer(Protocol):
    """Authenticated encryption with the cluster key (control/seal.py). The caller chooses the 12-byte nonce."""

    def seal(self, plain: bytes, nonce: bytes, context: bytes) -> bytes:
        """nonce + ciphertext + tag; `context` is authenticated, not sent."""

    def open(self, sealed: bytes, context: bytes) -> bytes | None:
        """The plain bytes, or None when the key is another one or the bytes were changed."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Timing. Seconds unless the name says otherwise."""

    probe_interval: float = 1.0
    probe_timeout: float = 0.5  # strictly smaller than probe_interval
    indirect_checks: int = 3
    retransmit_mult: int = 4
    suspicion_mult: int = 4
    suspicion_max_mult: int = 6
    awareness_max: int = 8
    gossip_interval: float = 0.2
    gossip_nodes: int = 3
    gossip_to_the_dead: float = 30.0
    sync_interval: float = 30.0  # memberlist: PushPullInterval
    stream_timeout: float = 10.0  # memberlist: TCPTimeout
    join_retry_first: float = 1.0
    join_retry_max: float = 30.0
    dead_until_gone: float = 72 * 3600.0
    push_retry: float = 0.05  # first retransmission of an eager push; doubles up to push_retry_max
    push_retry_max: float = 0.4
    tombstone_life: float = 24 * 3600.0
    claim_deadline: float = 5.0  # one try to claim a block or borrow an address
    allocate_deadline: float = 12.0  # longer than it takes to declare a crashed member dead in a small cluster
    address_cooldown: float = 60.0
    confirm: float = 0.2  # whoever writes or deletes an endpoint's record waits that long for the others, at most


LAN = Profile()
LOCAL = Profile(
    probe_interval=1.0,
    probe_timeout=0.2,
    indirect_checks=1,
    retransmit_mult=2,
    suspicion_mult=3,
    gossip_interval=0.1,
    gossip_to_the_dead=15.0,
    sync_interval=3.0,  # memberlist has 15 s; a lab wants a healed partition to agree within seconds
    stream_timeout=1.0,
    join_retry_first=0.25,
    join_retry_max=2.0,
    confirm=1.0,  # all hosts of a lab share the processors of one machine
)
PROFILES = {"lan": LAN, "local": LOCAL}


@dataclass(frozen=True, slots=True)
class Config:
    """One node's settings. `control_host` is the advertised numeric address, already chosen by the shell."""

    node: NodeId
    name: str
    control_host: str
    control_port: int = 7946
    data_host: str = ""  # default: control_host
    data_port: int = 4789
    features: tuple[str, ...] = ()
    version: str = ""
    router_mac: str = ""
    seeds: tuple[str, ...] = ()
    profile: Profile = LAN
    sealer: Sealer | None = None
