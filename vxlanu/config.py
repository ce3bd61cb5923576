"""What an agent is told at start: flags over environment over file, as one frozen value.

Rules of this file
  1. `AgentConfig` is the only list of settings: a field `data_port` is the flag --data-port, the environment variable
     VXLANU_DATA_PORT and the key `data-port` of agent.toml. There is no setting that only one of the three can say.
  2. Each layer is checked by itself, so that an error names the flag, the variable, or the file and key that is wrong.
  3. A configuration that cannot be right is `BadRequest` (exit 2) before anything is opened; nothing here touches the
     network, and no file is read but the configuration itself.

Both the agent and the command line import this; it must stay free of heavy imports.
"""

from __future__ import annotations

import difflib
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from vxlanu.errors import BadRequest

__all__ = [
    "CONFIG_FILE",
    "KEY_FILE",
    "OFFLOADS",
    "AgentConfig",
    "environment_layer",
    "file_layer",
    "is_ipv6",
    "load",
    "refused_offloads",
    "split_host_port",
]

CONFIG_FILE = "/etc/vxlanu/agent.toml"
KEY_FILE = "/etc/vxlanu/cluster.key"
OFFLOADS = ("vnet-hdr", "tso", "uso", "udp-segment", "udp-gro", "mq", "rcvbufforce")
"""The rungs of the ladder, best known by what `--offload no-…` takes away; what is probed is in vxlanu.agent.ladder."""
NEED_VNET_HDR = {"tso", "uso"}  # the size of the segments stands in the virtio header
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
    offload: Text = "auto"
    """auto, off, or what not to use: no-tso,no-udp-gro (`refused_offloads`)."""
    workers: Annotated[int, Meta(ge=0, le=WORKERS_MAX)] = 0
    """Threads of the fast path; 0: one on up to two CPUs, else one per CPU up to four."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"
    ready_fd: Annotated[int, Meta(ge=0)] | None = None
    """Gets one line when everything is up."""
    profile: Literal["lan", "local"] = "lan"
    """Timers of the control plane: `local` is for labs on one machine."""


Layer = dict[str, object]
CHOICES = {
    name.replace("_", "-"): get_args(kind)
    for name, kind in get_type_hints(AgentConfig).items()
    if get_origin(kind) is Literal
}
SETTINGS = tuple(name.replace("_", "-") for name in AgentConfig.__struct_fields__)


def load(flags: Mapping[str, object], environ: Mapping[str, str], *, uid: int) -> AgentConfig:
    """Merge the layers; `flags` holds only what was really given, keyed like agent.toml."""
    checked_flags = _checked(dict(flags), "the command line", "--{}", strict=True)
    from_environment = environment_layer(environ)
    named = str(checked_flags.get("config") or from_environment.get("config") or "")
    path = Path(named or CONFIG_FILE)
    from_file: Layer = {}
    if named or path.exists():
        from_file = file_layer(path) | {"config": str(path)}
    merged = _defaults(environ, uid) | from_file | from_environment | checked_flags
    if not merged.get("key-file") and Path(KEY_FILE).exists():
        merged["key-file"] = KEY_FILE
    config = msgspec.convert(merged, AgentConfig)
    refused_offloads(config.offload)
    _check_seeds(config.join)
    return config


def file_layer(path: Path) -> Layer:
    """What agent.toml says, checked."""
    import tomllib

    try:
        said: Layer = tomllib.loads(path.read_text())
    except OSError as error:
        hint = "vxlanu agent --help"
        raise BadRequest(str(path), error.strerror or str(error), name="config_unreadable", hint=hint) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        why = f"not TOML: {error}"
        raise BadRequest(str(path), why, name="config_invalid", hint="correct the file") from error
    for key in sorted(NOT_IN_FILE & said.keys()):
        why = "can be given as a flag or in the environment only"
        raise BadRequest(f"{path}: {key}", why, name="config_invalid", hint=f"remove {key} from the file")
    return _checked(said, str(path), "{}", strict=True)


def environment_layer(environ: Mapping[str, str]) -> Layer:
    """What VXLANU_* says, checked. Other variables of that prefix (VXLANU_DEBUG, ...) are not settings."""
    said: Layer = {}
    for key in SETTINGS:
        text = environ.get(_variable(key), "")
        if text:
            said[key] = re.split(r"[,\s]+", text.strip(", \t\n")) if key == "join" else text
    return _checked(said, "the environment", "VXLANU_{}", strict=False)


def _variable(key: str) -> str:
    return "VXLANU_" + key.replace("-", "_").upper()


def _checked(said: Layer, source: str, spelling: str, *, strict: bool) -> Layer:
    """`said` with every value of the right type, or the error that names where the wrong one stands."""
    right: Layer = {}
    for key, value in said.items():
        shown = _variable(key) if spelling.startswith("VXLANU_") else spelling.format(key)
        if key not in SETTINGS:
            near = difflib.get_close_matches(key, [name for name in SETTINGS if name not in NOT_IN_FILE], 1, 0.5)
            hint = near[0] if near else "vxlanu agent --help lists the keys"
            raise BadRequest(f"{source}: {shown}", "no such setting", name="config_unknown_key", hint=hint)
        try:
            whole = msgspec.convert({key: value}, AgentConfig, strict=strict)
        except msgspec.ValidationError as error:
            why = _in_words(key, str(error))
            raise BadRequest(f"{source}: {shown}", why, name="config_invalid", hint="vxlanu agent --help") from error
        right[key] = getattr(whole, key.replace("-", "_"))
    return right


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
        name = word.strip().removeprefix("no-")
        if name == word.strip() or name not in OFFLOADS:
            hint = "auto, off, or a list of " + ",".join(f"no-{it}" for it in OFFLOADS)
            why = f"no offload is called {word!r}"
            raise BadRequest(f"offload {text}", why, name="config_invalid", hint=hint)
        refused |= {name} | (NEED_VNET_HDR if name == "vnet-hdr" else set())
    return frozenset(refused)


def _check_seeds(seeds: tuple[str, ...]) -> None:
    for seed in seeds:
        host, port = split_host_port(seed)
        if not host or (port and not 0 < int(port) < 65536):
            hint = "HOST, HOST:PORT or [IPV6]:PORT"
            raise BadRequest(f"join {seed}", "not an address to join", name="config_invalid", hint=hint)


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
