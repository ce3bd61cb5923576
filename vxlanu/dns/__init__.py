"""Names: the agent's DNS at the gateway address of every network.

    zone        a network's records and a question in, an answer out; pure
    wire        the bytes of both
    server      one network's sockets
    muted       clients that ask far too often, dropped by the kernel
    forward     what is not ours, asked of the host's resolvers
    resolvers   who they are now
    netns_file  /etc/netns/NAME/resolv.conf, for namespaces of ip-netns(8)

Rules of this package
  1. It does not know the agent: records, sockets and addresses come in.
"""

from vxlanu.dns.forward import Forwarder
from vxlanu.dns.resolvers import Resolvers
from vxlanu.dns.server import Counters, Server
from vxlanu.dns.zone import ZONE, Zone

__all__ = ["ZONE", "Counters", "Forwarder", "Resolvers", "Server", "Zone"]
