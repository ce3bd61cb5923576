"""The parts of one core, made and connected. Read this to see who knows whom.

wire -- out -- index -- table -- swim -- probe
                 |                |
          owned, shared ------ exchanges -- door
                 |
         surveys, pusher, writer -- ipam (leases, claims, loans)
                 |
                view
"""

from __future__ import annotations

from .config import Config, Rng
from .door import Door
from .exchange import Exchanges
from .index import Index
from .ipam import Ipam
from .members import MemberTable, Stamp
from .out import Outbox
from .owned import Owned
from .probe import Probe
from .push import Pusher
from .shared import Shared
from .survey import Surveys
from .swim import Swim
from .view import View
from .wire import Wire
from .writer import Writer

__all__ = ["Parts"]


class Parts:
    """Every part, by its name."""

    def __init__(self, config: Config, rng: Rng, now: float, stamp: Stamp) -> None:
        profile = config.profile
        self.out = Outbox(Wire(config.sealer, rng))
        self.index = Index(self.out)
        self.table = MemberTable(config.node, profile, self.out)
        self.swim = Swim(config, self.table, self.out, rng, now, stamp)
        self.probe = Probe(self.swim, profile, self.out, rng, now)
        self.owned = Owned(config.node, profile, self.out, self.index)
        self.shared = Shared(config.node, self.out, self.index)
        self.exchanges = Exchanges(profile, self.out, self.swim, self.owned, self.shared)
        self.door = Door(config, self.swim, self.exchanges, self.out, rng, now)
        self.pusher = Pusher(self.swim, profile, self.out)
        self.surveys = Surveys(self.table, self.out)
        self.writer = Writer(self.owned, self.shared, self.pusher)
        self.view = View(self.index, self.table)
        self.ipam = Ipam(self.table, self.index, self.owned, self.writer, self.view, profile, self.out, rng, now)
