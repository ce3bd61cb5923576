"""Doors into other namespaces: TAP devices and netlink, through a small helper process.

How it works
  `NamespaceHelper.start()` forks the helper before the agent has threads, an event loop or heavy imports. For each
  request the helper forks a child; the child enters the namespaces asked for, does the work with pytun and pyroute2,
  answers with msgpack and descriptors (SCM_RIGHTS) on a socket of its own, and exits. So requests run at the same
  time, a crash is one caller's error, and nobody but a throw-away child is ever in a foreign namespace.

  All netlink of the agent goes this way: pyroute2 neither runs on uvloop nor beside a running loop, and here it needs
  no thread of its own. The agent process never imports pytun or pyroute2.

Files
  wire      the requests, the answers, the errors, as they cross the sockets
  client    the agent's side: NamespaceHelper
  helper    the helper process: fork per request, entering, answering
  again     the same as a program, for an agent whose helper has ended
  tap       what a child does to TAPs
  egress    what a child does for containers' way out: bridge, veths, forwarding
  look      what a child finds wanting of it inside of containers
  rtnetlink what is asked of the kernel every few seconds, without pyroute2
  service   what a child does for a gateway: a namespace that forwards, sockets in it
  probe     what a child tries on a TAP that nobody gets: which offloads this kernel has
  uplink    what a child does for injection: the uplink TAP, next hops
  survey    what a child reads: links, addresses, routes, who holds a port
"""

from vxlanu.nsopen.client import NamespaceHelper
from vxlanu.nsopen.wire import (
    AddressFailed,
    BridgeTaken,
    EgressGround,
    EgressWire,
    GroundFacts,
    HelperGone,
    HelperTimeout,
    InterfaceAddress,
    InterfaceTaken,
    KernelRefused,
    Link,
    NamespaceMissing,
    NextHop,
    NextHops,
    OpenedSockets,
    OpenedUplink,
    OpenTap,
    PermissionMissing,
    Route,
    RouteTo,
    TapBusy,
    TapFeatures,
    TapMissing,
    TapPlan,
    TapQueues,
    TunMissing,
    UplinkFacts,
    WayOut,
    WireFacts,
)

__all__ = [
    "AddressFailed",
    "BridgeTaken",
    "EgressGround",
    "EgressWire",
    "GroundFacts",
    "HelperGone",
    "HelperTimeout",
    "InterfaceAddress",
    "InterfaceTaken",
    "KernelRefused",
    "Link",
    "NamespaceHelper",
    "NamespaceMissing",
    "NextHop",
    "NextHops",
    "OpenTap",
    "OpenedSockets",
    "OpenedUplink",
    "PermissionMissing",
    "Route",
    "RouteTo",
    "TapBusy",
    "TapFeatures",
    "TapMissing",
    "TapPlan",
    "TapQueues",
    "TunMissing",
    "UplinkFacts",
    "WayOut",
    "WireFacts",
]
