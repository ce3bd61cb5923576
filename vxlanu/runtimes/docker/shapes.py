"""What crosses Docker's plugin socket, by the names of libnetwork (drivers/remote/api, ipams/remote/api).

Rules of this file
  1. Values only. Unknown keys are ignored, null stands for empty: newer daemons send more, and Go encodes nil so.
  2. A field that Docker may leave out has a default; one without which the request means nothing has none.
  3. Answers leave out what is not said, since for some fields an empty value is an answer.
"""

from __future__ import annotations

import msgspec

_WORDS = {"id": "ID", "ipv4": "IPv4", "ipv6": "IPv6"}

Options = dict[str, msgspec.Raw] | None
"""Free values by name; who knows a name decodes its value."""


def _go(name: str) -> str:
    """network_id -> NetworkID, as Go spells it."""
    return "".join(_WORDS.get(word, word.capitalize()) for word in name.split("_"))


class Empty(msgspec.Struct, frozen=True):
    """A request whose name says everything, or an answer that says yes."""


# ---------------------------------------------------------------- both drivers


class Activated(msgspec.Struct, frozen=True, rename=_go):
    """What this plugin is."""

    implements: tuple[str, ...] = ("NetworkDriver", "IpamDriver")


class Failed(msgspec.Struct, frozen=True, rename=_go):
    """No, in the field that each of the two drivers reads."""

    err: str
    error: str


# ---------------------------------------------------------------- NetworkDriver


class DriverCapabilities(msgspec.Struct, frozen=True, rename=_go):
    """Networks are declared to each host's Docker, and reach across hosts."""

    scope: str = "local"
    connectivity_scope: str = "global"


class PoolData(msgspec.Struct, frozen=True, rename=_go):
    """One subnet of a network that is being made."""

    address_space: str = ""
    pool: str = ""
    gateway: str = ""
    aux_addresses: dict[str, str] | None = None


class CreateNetwork(msgspec.Struct, frozen=True, rename=_go):
    """A network of Docker's. Its name and labels are not sent."""

    network_id: str
    options: Options = None
    ipv4_data: list[PoolData] | None = None
    ipv6_data: list[PoolData] | None = None


class NetworkAsked(msgspec.Struct, frozen=True, rename=_go):
    """DeleteNetwork, FreeNetwork."""

    network_id: str


class AllocateNetwork(msgspec.Struct, frozen=True, rename=_go):
    """A swarm's manager, for a network of all its nodes."""

    network_id: str
    options: dict[str, str] | None = None


class NetworkAllocated(msgspec.Struct, frozen=True, rename=_go):
    """The options that every node's CreateNetwork gets in the place of the user's."""

    options: dict[str, str]


class Interface(msgspec.Struct, frozen=True, rename=_go, omit_defaults=True):
    """Addresses with prefix lengths. In an answer only what came empty, else Docker rolls back."""

    address: str = ""
    address_ipv6: str = msgspec.field(default="", name="AddressIPv6")
    mac_address: str = ""


class CreateEndpoint(msgspec.Struct, frozen=True, rename=_go):
    """A container's place in a network; the container itself is not named."""

    network_id: str
    endpoint_id: str
    interface: Interface | None = None
    options: Options = None


class EndpointCreated(msgspec.Struct, frozen=True, rename=_go):
    """What Docker did not choose."""

    interface: Interface


class EndpointAsked(msgspec.Struct, frozen=True, rename=_go):
    """DeleteEndpoint, EndpointOperInfo, Leave, RevokeExternalConnectivity, ProgramExternalConnectivity."""

    network_id: str
    endpoint_id: str


class EndpointInfo(msgspec.Struct, frozen=True, rename=_go):
    """For diagnosis."""

    value: dict[str, str]


class Join(msgspec.Struct, frozen=True, rename=_go):
    """The container is about to run; `sandbox_key` is the path of its namespace, which may not exist yet."""

    network_id: str
    endpoint_id: str
    sandbox_key: str = ""
    options: Options = None


class InterfaceName(msgspec.Struct, frozen=True, rename=_go):
    """The link in dockerd's namespace, and the beginning of its name in the container."""

    src_name: str
    dst_prefix: str = "eth"


class StaticRoute(msgspec.Struct, frozen=True, rename=_go):
    """A destination that is on the link (route type 1)."""

    destination: str
    route_type: int = 1


class Joined(msgspec.Struct, frozen=True, rename=_go):
    """No gateway, and Docker gives the container a second interface on docker_gwbridge, unless that is disabled."""

    interface_name: InterfaceName
    gateway: str = ""
    gateway_ipv6: str = msgspec.field(default="", name="GatewayIPv6")
    static_routes: list[StaticRoute] = []
    disable_gateway_service: bool = False


# ---------------------------------------------------------------- IpamDriver


class IpamCapabilities(msgspec.Struct, frozen=True):
    """We keep what we gave out, so that Docker need not tell us again."""

    requires_mac_address: bool = msgspec.field(default=False, name="RequiresMACAddress")
    requires_request_replay: bool = msgspec.field(default=False, name="RequiresRequestReplay")


class AddressSpaces(msgspec.Struct, frozen=True, rename=_go):
    """One space: that of the cluster."""

    local_default_address_space: str
    global_default_address_space: str


class RequestPool(msgspec.Struct, frozen=True, rename=_go):
    """A subnet for a network that is about to be made; `options` are the user's --ipam-opt."""

    address_space: str = ""
    pool: str = ""
    sub_pool: str = ""
    options: dict[str, str] | None = None
    v6: bool = False


class PoolGranted(msgspec.Struct, frozen=True, rename=_go):
    """The name under which Docker asks for addresses from now on, for ever: nothing of this is replayed."""

    pool_id: str
    pool: str
    data: dict[str, str] = {}


class ReleasePool(msgspec.Struct, frozen=True, rename=_go):
    """A network of Docker's has gone."""

    pool_id: str


class RequestAddress(msgspec.Struct, frozen=True, rename=_go):
    """One address, or any; the gateway's is asked for in the same way."""

    pool_id: str
    address: str = ""
    options: dict[str, str] | None = None


class AddressGranted(msgspec.Struct, frozen=True, rename=_go):
    """With the prefix length."""

    address: str
    data: dict[str, str] = {}


class ReleaseAddress(msgspec.Struct, frozen=True, rename=_go):
    """An address, without a prefix length."""

    pool_id: str
    address: str
