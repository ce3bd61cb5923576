"""What an agent is told at start: flags over environment over file, as one frozen value.

Rules of this file
  1. `AgentConfig` is the only list of settings: a field `data_port` is the flag --data-port, the environment variable
     VXLANU_DATA_PORT and the key `data-port` of agent.toml. There is no setting that only one of the three can say.
  2. Each layer is checked by itself and to its end, so that every mistake is told at once, each with its flag, its
     variable, or its file, line and key.
  3. A configuration that cannot be right is `BadRequest` (exit 2) before anything is opened; nothing here touches the
     network, and no file is read but the configuration itself.

Both the agent and the command line import this; it must stay free of heavy imports.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from vxlanu.errors import BadRequest

__all__ = [
    "CONFIG_FILE",
    "DOCKER_SOCKET",
    "INJECT",
    "KEY_FILE",
    "OFFLOADS",
    "AgentConfig",
    "ConfigMistakes",
    "is_ipv6",
    "load",
    "load_with_places",
    "refused_offloads",
    "split_host_port",
    "wants_injection",
]

CONFIG_FILE = "/etc/vxlanu/agent.toml"
KEY_FILE = "/etc/vxlanu/cluster.key"
DOCKER_SOCKET = "/run/docker/plugins/vxlanu.sock"
"""Where dockerd looks for a plugin; the file's name is that of the driver."""
OFFLOADS = ("vnet-hdr", "tso", "uso", "udp-segment", "udp-gro", "mq", "steering", "rcvbufforce")
"""The rungs of the ladder, best known by what `--offload no-…` takes away; what is probed is in vxlanu.agent.ladder."""
INJECT = "inject"
"""The rung above them, which has to be asked for."""
NEED_VNET_HDR = {"tso", "uso"}  # the size of the segments stands in the virtio header
NO_GATEWAY = "none"
GATEWAY_PREFIXES = (8, 29)  # a /29: the bridge and five containers
WORKERS_MAX = 16  # native/limits.h: VX_WORKERS_MAX

Port = Annotated[int, Meta(ge=1, le=65535)]
Text = Annotated[str, Meta(min_length=1)]
NOT_IN_FILE = {"config", "ready-fd"}  # both belong to one start of one process


class AgentConfig(Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True):
    """One agent's settings, complete: whatever nobody said has its default filled in by `load`."""

    config: str = ""
    """The file that was read; empty when there was none."""
    name: Text = "?"
    """Node name; default the host name."""
    advertise: str = ""
    """Address or interface; empty: the source address of the route to the first seed, else of the default route."""
    join: tuple[Text, ...] = ()
    """Seeds, HOST or HOST:PORT."""
    data_port: Port = 4789
    control_port: Port = 7946
    state_dir: Text = "?"
    socket: Text = "?"
    key_file: str = ""
    """Cluster key; empty: the control channel is clear. `load` fills in /etc/vxlanu/cluster.key where that exists."""
    http: str = ""
    """ADDR:PORT at which the records can be read as keys (api/http.py); empty: nowhere."""
    gateway_subnet: str = ""
    """Of the bridge by which containers reach the outside; empty: the first free /16 of 172.18 to 172.31; or "none"."""
    offload: Text = "auto"
    """auto, off, or what not to use: no-tso,no-udp-gro (`refused_offloads`); and `inject`."""
    workers: Annotated[int, Meta(ge=0, le=WORKERS_MAX)] = 0
    """Threads of the fast path; 0: one per CPU, up to four."""
    pin_workers: bool = True
    """Each of them on a CPU of its own, where there are exactly as many."""
    spin: bool = True
    """Behind a small frame they look for the next one for up to 100 us before they sleep."""
    nice: Annotated[int, Meta(ge=-20, le=19)] = -3
    """Of the agent, above containers that keep the CPUs busy; 0: as it was started."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"
    ready_fd: Annotated[int, Meta(ge=0)] | None = None
    """Gets one line when everything is up."""
    profile: Literal["lan", "local"] = "lan"
    """Timers of the control plane: `local` is for labs on one machine."""
    docker: str = ""
    """Socket on which Docker finds us as its network plugin; empty: none."""
    docker_sync: bool = False
    """Keep every network of the cluster in Docker's list; needs `docker`."""


Layer = dict[str, object]
CHOICES = {
    name.replace("_", "-"): get_args(kind)
    for name, kind in get_type_hints(AgentConfig).items()
    if get_origin(kind) is Literal
}
SETTINGS = tuple(name.replace("_", "-") for name in AgentConfig.__struct_fields__)
IN_FILE = tuple(key for key in SETTINGS if key not in NOT_IN_FILE)
DEFAULT = "default"


class ConfigMistakes(BadRequest):
    """Everything that is wrong, in `each`; as one error it is the first of them."""

    def __init__(self, each: Sequence[BadRequest]) -> None:
        first = each[0]
        super().__init__(first.what, first.why, hint=first.hint, name=first.name)
        self.each = tuple(each)


@dataclass(slots=True)
class _Said:
    """What one layer says: the values that are right, and where each stands."""

    values: Layer = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    mistakes: list[BadRequest] = field(default_factory=list)

    def mistake(self, place: str, why: str, hint: str, name: str = "config_invalid") -> None:
        self.mistakes.append(BadRequest(place, why, name=name, hint=hint))


def load(flags: Mapping[str, object], environ: Mapping[str, str], *, uid: int) -> AgentConfig:
    """Merge the layers; `flags` holds only what was really given, keyed like agent.toml.

    Raises:
        ConfigMistakes: with every mistake of every layer.
    """
    return load_with_places(flags, environ, uid=uid)[0]


def load_with_places(
    flags: Mapping[str, object], environ: Mapping[str, str], *, uid: int
) -> tuple[AgentConfig, dict[str, str]]:
    """`load`, and for each setting where it was said: --flag, VARIABLE, FILE:LINE, or `default`."""
    from_flags, from_environment = flags_layer(flags), environment_layer(environ)
    named = str(from_flags.values.get("config") or from_environment.values.get("config") or "")
    path = Path(named or CONFIG_FILE)
    from_file = _Said()
    if named or path.exists():
        from_file = file_layer(path)
        from_file.values["config"] = from_file.places["config"] = str(path)
    layers = (from_file, from_environment, from_flags)
    mistakes = [mistake for layer in reversed(layers) for mistake in layer.mistakes]
    if mistakes:
        raise ConfigMistakes(mistakes)
    merged, places = _defaults(environ, uid), dict.fromkeys(SETTINGS, DEFAULT)
    for layer in layers:
        merged |= layer.values
        places |= layer.places
    if not merged.get("key-file") and Path(KEY_FILE).exists():
        merged["key-file"], places["key-file"] = KEY_FILE, "it exists"
    if merged.get("docker-sync") and not merged.get("docker"):
        why = "Docker must know our networks by our plugin"
        raise ConfigMistakes([BadRequest(places["docker-sync"], why, name="config_invalid", hint="--docker")])
    return msgspec.convert(merged, AgentConfig), places


def file_layer(path: Path) -> _Said:
    """What agent.toml says, checked."""
    import tomllib

    said = _Said()
    text = ""
    try:
        text = path.read_text(encoding="utf-8")
        values: Layer = tomllib.loads(text)
    except OSError as error:
        said.mistake(str(path), error.strerror or str(error), "vxlanu agent --help", "config_unreadable")
        return said
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        said.mistake(f"{path}:{_line_of_error(error, text)}", f"not TOML: {error}", "correct the file")
        return said
    for key, value in values.items():
        place = f"{path}:{_line_of(key, text)}"
        if key in NOT_IN_FILE:
            why = "can be given as a flag or in the environment only"
            said.mistake(f"{place}: {key}", why, f"remove {key} from the file")
        else:
            _check(said, key, value, f"{place}: {key}", place, strict=True)
    return said


def _line_of(key: str, text: str) -> int:
    """Where a top-level key or table stands; tomllib does not tell."""
    wanted = re.compile(rf"""\s*(\[+\s*)?["']?{re.escape(key)}["']?\s*[=.\]]""")
    return next((number for number, line in enumerate(text.splitlines(), 1) if wanted.match(line)), 1)


def _line_of_error(error: ValueError, text: str) -> int:
    if isinstance(error, UnicodeDecodeError):
        return error.object[: error.start].count(b"\n") + 1
    found = re.search(r"at line (\d+)", str(error))
    return int(found[1]) if found else max(len(text.splitlines()), 1)


def flags_layer(flags: Mapping[str, object]) -> _Said:
    """What stands on the command line, checked."""
    said = _Said()
    for key, value in flags.items():
        _check(said, key, value, f"the command line: --{key}", f"--{key}", strict=True)
    return said


def environment_layer(environ: Mapping[str, str]) -> _Said:
    """What VXLANU_* says, checked. Other variables of that prefix (VXLANU_DEBUG, ...) are not settings."""
    said = _Said()
    for key in SETTINGS:
        text, variable = environ.get(_variable(key), ""), _variable(key)
        if text:
            value = re.split(r"[,\s]+", text.strip(", \t\n")) if key == "join" else text
            _check(said, key, value, f"the environment: {variable}", variable, strict=False)
    return said


def _variable(key: str) -> str:
    return "VXLANU_" + key.replace("-", "_").upper()


def _check(said: _Said, key: str, value: object, shown: str, place: str, *, strict: bool) -> None:
    """Add one value of the right type to what was said, or the mistake that names where it stands."""
    if key not in SETTINGS:
        near = difflib.get_close_matches(key, IN_FILE, 1, 0.5)
        said.mistake(shown, "no such setting", near[0] if near else "vxlanu help config", "config_unknown_key")
        return
    try:
        whole = msgspec.convert({key: value}, AgentConfig, strict=strict)
        right = getattr(whole, key.replace("-", "_"))
        if key == "offload":
            refused_offloads(right)
        if key == "gateway-subnet":
            check_gateway_subnet(right)
        for seed in right if key == "join" else ():
            _check_seed(seed)
        if key == "http":
            _check_http(right)
    except msgspec.ValidationError as error:
        said.mistake(shown, _in_words(key, str(error)), "vxlanu help config")
    except BadRequest as error:
        said.mistake(shown, error.why, error.hint)
    else:
        said.values[key], said.places[key] = right, place


def _in_words(key: str, error: str) -> str:
    """msgspec's sentence without its path, which we say better, and with the choices where it forgets them."""
    why = re.sub(r" - at `.*`$", "", error).replace("`", "").replace("Expected array", "expected list")
    if "enum value" in why:
        why += ", one of " + ", ".join(CHOICES[key])
    return why[:1].lower() + why[1:]


def _defaults(environ: Mapping[str, str], uid: int) -> Layer:
    """Where root and an ordinary user keep things (DESIGN.md 4 and 6)."""
    if uid == 0:
        state, runtime = "/var/lib/vxlanu", "/run/vxlanu"
    else:
        home = environ.get("HOME") or str(Path("~").expanduser())
        state = str(Path(environ.get("XDG_STATE_HOME") or f"{home}/.local/state", "vxlanu"))
        runtime = str(Path(environ.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}", "vxlanu"))
    return {"name": socket.gethostname(), "state-dir": state, "socket": f"{runtime}/agent.sock"}


def refused_offloads(text: str) -> frozenset[str]:
    """Which of OFFLOADS must not be used, whatever the kernel can do."""
    if text in ("auto", "off"):
        return frozenset(OFFLOADS if text == "off" else ())
    refused = set()
    for word in text.split(","):
        if word.strip() == INJECT:
            continue
        name = word.strip().removeprefix("no-")
        if name == word.strip() or name not in OFFLOADS:
            hint = "auto, off, or a list of " + ",".join((INJECT, *(f"no-{it}" for it in OFFLOADS)))
            why = f"no offload is called {word!r}"
            raise BadRequest(f"offload {text}", why, name="config_invalid", hint=hint)
        refused |= {name} | (NEED_VNET_HDR if name == "vnet-hdr" else set())
    return frozenset(refused)


def wants_injection(text: str) -> bool:
    """Whether an offload setting asks for `inject`."""
    return INJECT in (word.strip() for word in text.split(","))


def check_gateway_subnet(text: str) -> None:
    """Empty, "none", or an IPv4 prefix with room for containers."""
    if text in ("", NO_GATEWAY):
        return
    hint = f'"172.30.0.0/16", or "{NO_GATEWAY}"'
    try:
        subnet = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise BadRequest(f"gateway-subnet {text}", f"not an IPv4 prefix: {error}", hint=hint) from error
    if not GATEWAY_PREFIXES[0] <= subnet.prefixlen <= GATEWAY_PREFIXES[1]:
        lengths = f"/{GATEWAY_PREFIXES[0]} to /{GATEWAY_PREFIXES[1]}"
        raise BadRequest(f"gateway-subnet {text}", f"a prefix is {lengths} here", hint=hint)
    if subnet.is_multicast or subnet.is_loopback or subnet.is_link_local or subnet.is_unspecified:
        raise BadRequest(f"gateway-subnet {text}", "not a range for hosts", hint=hint)


def _check_seed(seed: str) -> None:
    host, port = split_host_port(seed)
    if not host or (port and not 0 < int(port) < 65536):
        raise BadRequest("join", f"{seed} is not an address to join", hint="HOST, HOST:PORT or [IPV6]:PORT")


def _check_http(text: str) -> None:
    host, port = split_host_port(text)
    address = is_ipv6(host) or re.fullmatch(r"\d+(\.\d+){3}", host, re.ASCII)
    if text and not (address and port and 0 < int(port) < 65536):
        raise BadRequest("http", f"{text} is not an address and a port", hint="127.0.0.1:8500, or [::1]:8500")


def split_host_port(text: str) -> tuple[str, str]:
    """HOST, HOST:PORT, IPV6 or [IPV6]:PORT as (host, port); an empty host means that the text is none of these."""
    bracketed = re.fullmatch(r"\[([^\[\]]+)\](?::(\d{1,5}))?", text)
    if bracketed:
        return (bracketed[1], bracketed[2] or "") if is_ipv6(bracketed[1]) else ("", "")
    plain = re.fullmatch(r"([^\s\[\]:]+)(?::(\d{1,5}))?", text)
    if plain:
        return plain[1], plain[2] or ""
    return (text, "") if is_ipv6(text) else ("", "")


def is_ipv6(text: str) -> bool:
    """Whether `text` is an IPv6 address, with or without a zone."""
    try:
        socket.inet_pton(socket.AF_INET6, text.partition("%")[0])
    except OSError:
        return False
    return True
