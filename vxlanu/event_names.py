"""The names of the agent's log events: the one list.

Rules of this file
  1. A name is stable: dashboards and alerts hang from it. The sentence in the log is for people and may change.
  2. Every log call of the agent and of the control plane says one of these as `extra={"event": NAME}`
     (tests/unit/test_events.py holds both directions), and none is said per packet.
"""

from __future__ import annotations

__all__ = ["EVENTS"]

EVENTS = {
    # life of the agent
    "ready": "the agent is up and answers: node, addresses, ports, directories",
    "stopping": "SIGTERM, SIGINT or `member leave`; interfaces and records stay, unless it leaves",
    "stop_cut": "a stop took too long, and the process ended all the same: what was not waited for, and its failure",
    "reloaded": "SIGHUP: a setting is different now, or nothing is",
    "needs_restart": "SIGHUP: a setting is different in the configuration, and stays as it was until a restart",
    "reload_failed": "SIGHUP: the configuration is wrong; nothing was changed",
    "supervisor": "the service manager cannot be reached or does not answer",
    "priority": "the agent may not have the nice value that it is to have, and stays as it was started",
    "watchdog": "a worker is stuck, so the service manager's watchdog is not fed",
    "kept_odd": "descriptors kept over the restart do not fit and were closed; what was queued in them is lost",
    "helper": "the helper process, which opens interfaces in namespaces, ended or was started again",
    "capture": "a capture ended: how many frames it has, and how many it lost",
    "task_failed": "a task of the agent failed, with its trace: a bug, please report it",
    "internal": "a part of the agent failed and goes on, with its trace: a bug, please report it",
    "library": "a library that the agent uses says something; `logger` is which",
    "journal": "the state directory cannot be written; what depends on it waits",
    # members
    "member": "a member is alive, suspect, dead, left or forgotten",
    "joined": "a seed or an earlier peer answered",
    "join_failed": "a seed did not answer; it is tried for ever",
    "seed": "the name of a seed cannot be resolved",
    "wrong_key": "somebody speaks with another cluster key, or without one",
    # networks and endpoints
    "network_created": "a network was created here",
    "network_removed": "a network was removed here",
    "network_stays": "left by `network prune`: the network got an endpoint meanwhile, or went",
    "reclaimed": "the addresses of a member that is gone, or one that nothing had, are free again (`ipam reclaim`)",
    "attached": "an endpoint was attached here",
    "detached": "an endpoint was detached here",
    "vanished": "the namespace of an endpoint ended, and the endpoint with it",
    "adopt_failed": "an endpoint of an earlier run cannot be taken over",
    "take_down_failed": "an endpoint that ended cannot be taken down whole; it is tried again",
    "egress": "what was made or put right for containers' way out: bridge, rules, forwarding, a veth",
    "no_egress": "containers get no way out, and why",
    "egress_failed": "a way out cannot be made, repaired or removed; it is tried again",
    "port_held": "a published port was taken by another process while the agent was away",
    "program": "a forwarding entry cannot be written",
    "runtime": "a container runtime's events are followed from now on, or it sends none",
    "intent": "a container that runs again could not be attached again yet, and why",
    "intent_ended": "a container that was attached is gone for good, so its addresses are free",
    "gateway": "the gateway's device of a network ended, and another is made",
    "gateway_failed": "the gateway of a network, or names there, cannot be served here, and why; it is tried again",
    # names
    "dns": "the host's resolv.conf cannot be read, or an answer could not be sent",
    # Docker's plugin
    "docker": "Docker's requests are answered from now on",
    "docker_network": "a network was declared to Docker on this host, and which of ours it stands for",
    "docker_refused": "a request of Docker's was refused, and why",
    "docker_failed": "a request of Docker's failed, with its trace: a bug, please report it",
    "docker_late": "a request of Docker's took longer than Docker was let wait; what it made is undone",
    "docker_stand_in": "a process stays that answers Docker in the agent's place; or none is needed, or none starts",
    "docker_sync": "a network of the cluster is in Docker's list now, is no more, or cannot be, and why",
    "name_taken": "a container's name is another endpoint's in that network; its endpoint keeps an id for name",
    "docker_expired": "an address that Docker asked for and never used or gave back is free again",
    "docker_sandbox": "the agent cannot see the namespaces of Docker's containers: it is in another mount namespace",
    # the fast path
    "offloads": "which offloads are in use, and why not the others",
    "probe_failed": "it cannot be tried what the kernel's TAPs can do",
    "receive_buffer": "receive buffers are smaller than wanted; says which sysctl to set",
    "stuck": "a worker makes no turn any more",
    "paths": "the host's links and routes cannot be read",
    "path_mtu": "the largest packet towards a VTEP is another",
    "probe": "a probe of the data port arrived (netcheck)",
    "injection": "super-frames can be injected, or cannot now, and why (`--offload inject`)",
    "inject_refused": "the kernel refused injected frames to a VTEP, many in a row: by the sockets now, for a minute",
    "vtep_demoted": "the kernel refuses UDP_SEGMENT towards a VTEP: one datagram per send from now on",
    "events_lost": "events of the fast path came faster than they were read",
    "port_gone": "the TAP of an endpoint died with its namespace",
    "port_closed": "the descriptors of an endpoint are closed",
    "drops": "frames of a network were dropped, how many and for which reason; at most once a minute for each reason",
    "fdb_miss": "a frame to a MAC that nobody has",
    "neighbor_miss": "ARP or ND asked for an address that nobody has",
    "mac_learned": "a MAC behind a foreign VTEP is new or moved",
    "mac_pending": "a MAC of a member that no record names yet; passes for 5 s",
    "mac_conflict": "a MAC that belongs elsewhere by record came through the tunnel",
    "address_moved": "a floating address was announced by an endpoint",
    "vtep_unknown": "datagrams from an address that is no VTEP of their network",
    "socket_error": "the underlay refused a datagram",
    # the API
    "api_change": "somebody asked for a change: method, path, user, process",
    "api_refused": "a request was refused, and why",
    "api_failed": "a request failed, with its trace: a bug, please report it",
    "http_open": "what --http opens is reached beyond this machine, where anyone may read the records",
    "api_group": "there is no group vxlanu: the socket belongs to root alone",
}
