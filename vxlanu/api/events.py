"""The names of /v1/events, stable for ever, each with the sentence that help and documents show.

Rules of this file
  1. A name is never changed or reused; new ones are added. Names of drop reasons stand in `reason`, spelled as in
     `vxlanu drops`.
"""

from __future__ import annotations

__all__ = ["ALWAYS", "EVENTS"]

EVENTS = {
    "endpoint_added": "an endpoint has come, on any host",
    "endpoint_changed": "its state, addresses, MAC or place is another",
    "endpoint_removed": "it is gone",
    "network_created": "there is a new network",
    "network_changed": "its state is another: active, removing, network_conflict",
    "network_removed": "it is gone",
    "member": "a member's state: alive, suspect, dead, left, forgotten",
    "mac_learned": "a MAC behind a foreign VTEP",
    "mac_moved": "a learned MAC, now behind another VTEP",
    "mac_pending": "a MAC of a member that has no record yet; it passes for 5 s",
    "mac_conflict": "a frame whose source MAC belongs elsewhere by record",
    "address_moved": "a floating address, announced by another endpoint",
    "path_mtu": "the path to a VTEP takes larger or smaller packets now",
    "drops": "frames that were not delivered, summed up over some seconds",
    "vtep_unknown": "datagrams from an address that is no VTEP of the network",
    "vtep_demoted": "the kernel refuses UDP_SEGMENT towards a VTEP",
    "socket_error": "sending to a VTEP fails",
    "port_gone": "a container's interface vanished",
    "name_taken": "a container's name is another endpoint's in that network; its endpoint keeps an id for name",
    "helper": "the namespace helper ended and was started again",
}
ALWAYS = {
    "listening": "first of every stream: from here on nothing is missed",
    "lost": "so many events before this one did not fit: the reader was too slow, or the data plane too loud",
}
