"""The shapes that cross the API: what a client sends and what the agent answers.

Rules of this package
  1. Every body of /v1 is a struct here, one module a subject, and nothing else is. Golden files in the tests pin them;
     fields are only added.
  2. snake_case, units in names, ids as lower-case hex, addresses as text. A list answers {"items": [...]}.
  3. No behaviour and no import beyond msgspec, so that a command-line call stays quick.
  4. Importers name this package, never a module of it.

Routes (each answers 200 with the struct named, or an ErrorReply with the status of its class)
  GET    /v1/status                                  Status
  GET    /v1/overview                                Overview
  GET    /v1/networks[?filter=KEY=VALUE…]            Items[Network]     agent/filters.py has the keys
  POST   /v1/networks            NetworkCreate       Network
  POST   /v1/networks/prune[?filter=KEY=VALUE…]      Items[Network]     all without endpoints; answers those removed
  GET    /v1/networks/{ref}                          NetworkDetail      ref: name, NAME~ID4, or id prefix
  DELETE /v1/networks/{ref}                          Network
  GET    /v1/endpoints[?network=REF]                 Items[Endpoint]
  POST   /v1/endpoints           Attach              EndpointDetail
  GET    /v1/endpoints/{ref}                         EndpointDetail     ref: NAME, NAME.NETWORK, id prefix, IP or MAC
  DELETE /v1/endpoints?network=REF&target=TARGET     Endpoint
  GET    /v1/namespaces                              Items[Namespace]
  GET    /v1/members                                 Items[Member]
  POST   /v1/members/join        Join                Joined
  POST   /v1/members/leave                           Left
  DELETE /v1/members/{ref}                           Member             forget: ref is a name or an id prefix
  GET    /v1/vteps                                   Items[Vtep]
  POST   /v1/vteps               VtepAdd             VtepAdded
  DELETE /v1/vteps?network=REF&address=IP[:PORT]     Vtep
  GET    /v1/links[?ref=REF]                         Items[Link]        ref: a network, or an endpoint
  GET    /v1/fdb[?network=REF]                       Items[FdbEntry]
  GET    /v1/neighbors[?network=REF]                 Items[Neighbor]
  GET    /v1/pools[?network=REF]                     Items[AddressPool]
  POST   /v1/pools/reclaim       Reclaim             Items[Reclaimed]   with dry_run: what it would be
  GET    /v1/drops                                   Items[Drop]
  GET    /v1/stats                                   Items[Counters]
  GET    /v1/netcheck[?member=REF]                   Netcheck           takes seconds: it waits for the members
  GET    /v1/verify                                  Verify
  GET    /v1/why?target=REF[&from=REF]               Why                target: NAME, NAME.NETWORK, IP or MAC
  GET    /v1/events[?event=NAME,…][&network=REF][&endpoint=NAME]   a stream of Event, one a line (api/events.py)
  GET    /v1/dns?name=NAME[&type=TYPE][&network=REF]   NameAnswer      as a container of the network is told
  GET    /v1/kv/PREFIX[?recurse][&keys][&separator=TEXT][&raw][&index=N&wait=DURATION]   list[KeyValue] (api/kv.py)
  POST   /v1/captures            CaptureWanted       a stream of pcapng; the header Capture-Id names it
  DELETE /v1/captures/{id}                           CaptureStopped     what it has is still streamed, then it ends
"""

from .body import ErrorBody, ErrorReply, Items
from .endpoints import Attach, Endpoint, EndpointDetail, EndpointRoute, Namespace, WayOut
from .keys import KeyValue
from .members import Join, Joined, Left, Member, Netcheck, Reach
from .names import NameAnswer, NameCounters, NameRecord
from .networks import Network, NetworkCreate, NetworkDetail
from .pools import AddressBlock, AddressPool, Reclaim, Reclaimed
from .status import Offload, Overlay, Overview, Status, Tunnel
from .streams import CaptureStopped, CaptureWanted, Event
from .tables import Difference, FdbEntry, Link, LinkPort, Neighbor, Verify, Vtep, VtepAdd, VtepAdded, Why, WhyStep
from .traffic import Counters, Drop

__all__ = [
    "AddressBlock",
    "AddressPool",
    "Attach",
    "CaptureStopped",
    "CaptureWanted",
    "Counters",
    "Difference",
    "Drop",
    "Endpoint",
    "EndpointDetail",
    "EndpointRoute",
    "ErrorBody",
    "ErrorReply",
    "Event",
    "FdbEntry",
    "Items",
    "Join",
    "Joined",
    "KeyValue",
    "Left",
    "Link",
    "LinkPort",
    "Member",
    "NameAnswer",
    "NameCounters",
    "NameRecord",
    "Namespace",
    "Neighbor",
    "Netcheck",
    "Network",
    "NetworkCreate",
    "NetworkDetail",
    "Offload",
    "Overlay",
    "Overview",
    "Reach",
    "Reclaim",
    "Reclaimed",
    "Status",
    "Tunnel",
    "Verify",
    "Vtep",
    "VtepAdd",
    "VtepAdded",
    "WayOut",
    "Why",
    "WhyStep",
]
